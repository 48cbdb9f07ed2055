"""Keras's older spellings, and `import keras` for nbkeras. The core does not know this package.

spellings: the older names that nbkeras always accepts. Everything else is imported by `install_as_keras` only.
"""
