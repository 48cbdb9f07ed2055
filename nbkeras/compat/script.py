"""`python -m nbkeras script.py`: a Keras script, or a module, run with nbkeras as `keras`."""

import functools
import importlib.util
import os
import runpy
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

import numpy as np

from nbkeras.compat.alias import install_as_keras
from nbkeras.compat.version import version_of_file

_OLD_NUMPY = (bool, int, float, complex, object, str)  # np.float and others, for scripts older than NumPy 1.24
OPTIONS = ("--keras", "--backend", "--tensorflow", "-m")
"""The options of the command line that belong to a script."""


def is_script(argument: str, commands: Iterable[str]) -> bool:
    """Whether the first argument of the command line is a file to run, or an option for one, not one of the commands."""
    if argument.partition("=")[0] in OPTIONS:
        return True
    return argument.endswith(".py") or (argument not in commands and os.path.isfile(argument))


def run_script(
    path: str,
    arguments: Sequence[str],
    version: int | None = None,
    tensorflow: bool = False,
    backend: str | None = None,
) -> None:
    """Run the file as `__main__` with nbkeras as `keras`, and as `tensorflow.keras` if requested or without TensorFlow."""
    if not os.path.isfile(path):
        sys.exit(f"nbkeras: there is no file {path!r}")
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    _install(path, version, tensorflow, backend)
    sys.argv = [path, *arguments]
    sys.excepthook = functools.partial(_show_from, path)
    runpy.run_path(path, run_name="__main__")


def run_module(
    name: str,
    arguments: Sequence[str],
    version: int | None = None,
    tensorflow: bool = False,
    backend: str | None = None,
) -> None:
    """Run a module or a package's `__main__` as `python -m` does, with nbkeras as `keras`."""
    found = importlib.util.find_spec(name)
    if found is not None and found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{name}.__main__")
    if found is None:
        sys.exit(f"nbkeras: there is no module {name!r} to run")
    _install(found.origin or "", version, tensorflow, backend)
    sys.argv = [found.origin or name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _install(path: str, version: int | None, tensorflow: bool, backend: str | None) -> None:
    """Let `keras` mean nbkeras, in the version that was chosen or that the file is written for."""
    if version is None:
        found = version_of_file(path)
        version = found.version
        if found.imports_keras:
            other = f"--keras {5 - version} selects Keras {5 - version}"
            print(f"nbkeras: keras is Keras {version} here, because {found.reason} ({other})", file=sys.stderr)
    try:
        install_as_keras(version, tensorflow or importlib.util.find_spec("tensorflow") is None, backend)
    except ValueError as error:
        sys.exit(f"nbkeras: {error}")
    if version == 2:
        for kind in _OLD_NUMPY:
            vars(np).setdefault(kind.__name__, kind)


def _show_from(path: str, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an uncaught error of the script, with a traceback that starts in the script."""
    start = traceback
    while start is not None and start.tb_frame.f_code.co_filename != path:
        start = start.tb_next
    sys.__excepthook__(kind, error.with_traceback(start or traceback), start)
