"""How kernels run: arrays and launches, threads, the disk cache of compiled code, checks."""
