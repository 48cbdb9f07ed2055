"""What CUDA kernels are made of."""
