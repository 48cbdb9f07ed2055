"""A folder for `sys.path`: what it holds is imported as `tensorflow`, also by the processes that multiprocessing spawns."""
