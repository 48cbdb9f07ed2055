"""A folder for `sys.path`: what it holds is imported as `keras`, also by the processes that multiprocessing spawns."""
