"""The module that `import tensorflow` finds after `install_as_keras(tensorflow=True)` added its parent folder to `sys.path`."""

import importlib

from nbkeras.compat.alias import install_as_keras

importlib.import_module("keras")  # in the version whose folder is on the path too
install_as_keras(tensorflow=True)
