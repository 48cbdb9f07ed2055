"""The module that `import keras` finds after `install_as_keras(version=2)` added its parent folder to `sys.path`."""

import os

from nbkeras.compat.alias import BACKEND_VARIABLE, install_as_keras

install_as_keras(version=2, backend=os.environ.get(BACKEND_VARIABLE))
