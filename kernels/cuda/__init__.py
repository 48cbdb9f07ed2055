"""Kernels for GPUs: the twin of a CPU module `x` is `cuda.x`."""
