"""Keras's older spellings, and `import keras` for nbkeras. The core does not know this package.

nbkeras always accepts the older names in `spellings`. Only `install_as_keras` imports everything else.
"""
