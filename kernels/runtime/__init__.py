"""The runtime of kernels: arrays and launches, threads, the disk cache of compiled code, checks."""
