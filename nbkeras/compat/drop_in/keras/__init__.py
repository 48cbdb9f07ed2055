"""What `import keras` finds first once `install_as_keras` put this folder's parent on `sys.path`."""

from nbkeras.compat.alias import install_as_keras

install_as_keras()
