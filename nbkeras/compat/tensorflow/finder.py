"""`import tensorflow`: `tensorflow.keras`, and other modules by the table in modules.py. `tf_keras` is refused."""

import functools
import importlib
import importlib.abc
import importlib.machinery
import pathlib
import re
import sys
from types import ModuleType
from typing import Any, Union

from nbkeras.compat.tensorflow.modules import INSTEAD, MENTIONED, OF_KERAS, SHOWN

# Version of Keras -> the version of TensorFlow that scripts see: one with that Keras.
VERSIONS = {"2": "2.3.1", "3": "2.16.1"}
_IMPORTED = re.compile(r"^(?:from \S+ )?import ((?!.* as ).*)$", re.MULTILINE)  # what a module imports for its own use


def _refusal(name: str) -> str:
    """The message for a name of TensorFlow that is not offered, such as 'tensorflow.strings.split'."""
    parts = name.split(".")[1:]
    if parts[0] == "compat" and ".".join(parts[2:3]) in {*INSTEAD, *SHOWN} - {""}:
        parts = parts[2:]  # 'compat.v1.lookup' is 'lookup'
    starts = [".".join(parts[:end]) for end in range(len(parts), -1, -1)]
    instead = next(INSTEAD[start] for start in starts if start in INSTEAD)
    if starts[0] not in INSTEAD and hasattr(importlib.import_module("nbkeras.ops"), parts[-1]):
        instead = f"use keras.ops.{parts[-1]}"
    return f"{name} is TensorFlow's, and nbkeras offers only the names that docs/coming-from-keras.md lists ({instead})"


class _Mentioned(ModuleType):
    """A name or a module of MENTIONED: packages may import it, and no object is an instance of it. Its use is refused."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Mentioned(f"{self.__name__}.{name}")

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(_refusal(self.__name__))

    __call__ = __bool__ = __iter__ = __len__ = __getitem__ = __mro_entries__ = _refuse

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    __subclasscheck__ = __instancecheck__

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007 (an annotation, which `|` cannot make of a module)

    def __ror__(self, other: Any) -> Any:
        return Union[other, self]  # noqa: UP007


def _is_mentioned(name: str) -> bool:
    """Whether a name such as 'tensorflow.sparse.add', or a module that it is in, is in MENTIONED."""
    parts = _own(name).split(".")
    return any(".".join(parts[:end]) in MENTIONED for end in range(1, len(parts) + 1))


class _Module(ModuleType):
    """A module of TensorFlow. Its names are looked up in modules of nbkeras."""

    def _names(self, where: str) -> tuple[ModuleType, list[str]]:
        module, _, names = where.partition(":")
        found = importlib.import_module(f"nbkeras.compat.tensorflow.{module}")
        return found, names.split() or _public(found)

    def _within(self) -> list[str]:
        """The names of the modules in this one."""
        own = _own(self.__name__)
        inside = [name.removeprefix(f"{own}." if own else "") for name in (*SHOWN, *OF_KERAS) if name.startswith(own)]
        return [name for name in inside if name and "." not in name and name != own]

    def __getattr__(self, name: str) -> Any:
        if f"{_own(self.__name__)}.{name}" in (".__version__", "version.VERSION"):
            return VERSIONS[importlib.import_module("keras").__version__[0]]
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._within():
            return importlib.import_module(f"{self.__name__}.{name}")
        for where in SHOWN[_own(self.__name__)]:
            module, names = self._names(where)
            if name in names:
                found = getattr(module, name)
                setattr(self, name, found)
                return found
        if _is_mentioned(f"{self.__name__}.{name}"):
            return _Mentioned(f"{self.__name__}.{name}")
        raise AttributeError(_refusal(f"{self.__name__}.{name}"))

    def __dir__(self) -> list[str]:
        shown = [name for where in SHOWN[_own(self.__name__)] for name in self._names(where)[1]]
        return sorted({*shown, *self._within(), *vars(self)})

    @property
    def __all__(self) -> list[str]:
        """The names that `from tensorflow.math import *` imports."""
        return [name for name in dir(self) if not name.startswith("_")]


def _own(name: str) -> str:
    """The part after 'tensorflow.': 'nn' for 'tensorflow.nn', '' for 'tensorflow'."""
    return name.partition(".")[2]


@functools.cache
def _public(module: ModuleType) -> list[str]:
    """The names that a module of this package defines, or imports in order to show them: `import name as name`."""
    source = pathlib.Path(module.__file__ or "").read_text(encoding="utf-8")
    used = {name for names in _IMPORTED.findall(source) for name in names.split(", ")}
    hidden = {name for name, value in vars(module).items() if name.startswith("_") or isinstance(value, ModuleType)}
    return [name for name in vars(module) if name not in hidden | used]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the modules of the tables, and refuses other parts of TensorFlow by name."""

    def find_spec(self, fullname: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in ("tensorflow", "tf_keras"):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        if spec.name.startswith("tf_keras"):
            raise ImportError(
                "tf_keras is Keras 2: start the process with --keras 2, or call nbkeras.install_as_keras(version=2, "
                "tensorflow=True), and import tensorflow.keras",
                name=spec.name,
            )
        if _is_mentioned(spec.name):
            return _Mentioned(spec.name)
        if _of_keras(spec.name) is None and _own(spec.name) not in SHOWN:
            raise ImportError(_refusal(spec.name), name=spec.name)
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        keras = _of_keras(module.__name__)
        if keras is not None:
            sys.modules[module.__name__] = importlib.import_module(keras)


def _of_keras(name: str) -> str | None:
    """'keras.layers' for 'tensorflow.keras.layers'; None for a module that is not Keras's."""
    first, dot, rest = _own(name).partition(".")
    return f"{OF_KERAS[first]}{dot}{rest}" if first in OF_KERAS else None


finder = _Finder()
