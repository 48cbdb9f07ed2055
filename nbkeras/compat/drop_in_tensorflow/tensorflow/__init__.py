"""The module that `import tensorflow` finds once `install_as_keras(tensorflow=True)` put this folder's parent on `sys.path`."""

from nbkeras.compat.alias import install_as_keras

install_as_keras(tensorflow=True)
