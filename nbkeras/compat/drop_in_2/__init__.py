"""A folder for `sys.path`: `import keras` finds its module, also in processes that multiprocessing spawns."""
