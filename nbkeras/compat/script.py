"""`python -m nbkeras script.py [args]`: a Keras script, run as `python script.py [args]` would."""

import os
import runpy
import sys
from collections.abc import Sequence

import numpy as np

from nbkeras.compat.alias import install_as_keras

_OLD_NUMPY = (bool, int, float, complex, object, str)  # np.float and the like, in scripts older than NumPy 1.24


def is_script(argument: str) -> bool:
    """Whether the first argument of the command line means a file to run."""
    return argument.endswith(".py") or os.path.isfile(argument)


def run(path: str, arguments: Sequence[str]) -> None:
    """Run the file as `__main__`, with `keras` meaning nbkeras."""
    if not os.path.isfile(path):
        sys.exit(f"nbkeras: there is no file {path!r}")
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    install_as_keras()
    for kind in _OLD_NUMPY:
        vars(np).setdefault(kind.__name__, kind)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
