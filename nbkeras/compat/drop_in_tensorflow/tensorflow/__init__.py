"""The module that `import tensorflow` finds after `install_as_keras(tensorflow=True)` added its parent folder to `sys.path`."""

from nbkeras.compat.alias import install_as_keras

install_as_keras(tensorflow=True)
