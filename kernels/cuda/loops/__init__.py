"""The parts of which CUDA kernels are made: reductions, products, sorting, loops over arrays of any strides."""
