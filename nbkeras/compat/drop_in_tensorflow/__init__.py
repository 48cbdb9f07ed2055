"""A folder for `sys.path`: `import tensorflow` finds its module, also in processes that multiprocessing spawns."""
