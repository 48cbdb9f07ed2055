"""The parts of CUDA kernels: reductions, products, sorting, loops over arrays of any strides."""
