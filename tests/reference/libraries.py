"""Loads the Python module that lies beside an exported library."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

needs_linker = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not any(map(shutil.which, ("cc", "gcc", "clang", "ld.lld", "ld"))),
    reason="needs Linux and a C compiler or a linker",
)


def loaded(path):
    """The module of a library whose file begins with lib."""
    name = Path(path).stem.removeprefix("lib")
    spec = importlib.util.spec_from_file_location(f"exported_{name}", Path(path).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
