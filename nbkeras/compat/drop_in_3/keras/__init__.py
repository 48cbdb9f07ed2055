"""The module that `import keras` finds after `install_as_keras(version=3)` added its parent folder to `sys.path`."""

from nbkeras.compat.alias import install_as_keras

install_as_keras(version=3)
