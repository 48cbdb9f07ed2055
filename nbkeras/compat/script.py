"""`python -m nbkeras script.py [args]`: run a Keras script as `python script.py [args]` does."""

import functools
import importlib.util
import os
import runpy
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

import numpy as np

from nbkeras.compat.alias import install_as_keras

_OLD_NUMPY = (bool, int, float, complex, object, str)  # np.float and others, for scripts older than NumPy 1.24


def is_script(argument: str, commands: Iterable[str]) -> bool:
    """Whether the first argument of the command line is a file to run, not one of the commands."""
    return argument.endswith(".py") or (argument not in commands and os.path.isfile(argument))


def run(path: str, arguments: Sequence[str], tensorflow: bool = False) -> None:
    """Run the file as `__main__` with nbkeras as `keras`, and as `tensorflow.keras` if requested or without TensorFlow."""
    if not os.path.isfile(path):
        sys.exit(f"nbkeras: there is no file {path!r}")
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    install_as_keras(tensorflow or importlib.util.find_spec("tensorflow") is None)
    for kind in _OLD_NUMPY:
        vars(np).setdefault(kind.__name__, kind)
    sys.argv = [path, *arguments]
    sys.excepthook = functools.partial(_show_from, path)
    runpy.run_path(path, run_name="__main__")


def _show_from(path: str, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an uncaught error of the script, with a traceback that starts in the script."""
    start = traceback
    while start is not None and start.tb_frame.f_code.co_filename != path:
        start = start.tb_next
    sys.__excepthook__(kind, error.with_traceback(start or traceback), start)
