"""`import tensorflow` for scripts that only use `tensorflow.keras`, which nbkeras replaces."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

from nbkeras import ops

VERSION = "2.3.1"  # scripts check it; the version of Keras that nbkeras replaces

_OPS = "keras.ops has functions like these"
_NO_SESSION = "there are no sessions and no graphs to set up: leave it out"
INSTEAD = {
    "GradientTape": "use nbkeras.GradientTape",
    "Session": _NO_SESSION,
    "ConfigProto": _NO_SESSION,
    "Variable": "use keras.Variable",
    "concat": "use keras.ops.concatenate",
    "config": "there are no devices to set up: leave it out",
    "data": "give fit arrays, a keras.utils.Sequence or a generator",
    "distribute": "nbkeras is one process on one device: leave it out",
    "function": "fit records each step by itself: leave the decorator out",
    "get_logger": "leave it out",
    "gfile": "use open and os",
    "image": "use keras.ops.image",
    "io": "use open and os",
    "lite": "model.export('model.onnx') writes a model for other programs",
    "math": _OPS,
    "nn": _OPS,
    "python": "where it says tensorflow.python.keras, write tensorflow.keras",
    "random": "keras.utils.set_random_seed(n) seeds all, keras.random draws",
    "saved_model": "use model.save('model.keras')",
    "set_random_seed": "use keras.utils.set_random_seed",
    "summary": "use keras.callbacks.TensorBoard",
    "train": "use keras.optimizers and keras.callbacks.ModelCheckpoint",
    **{name: f"write '{name}'" for name in ("float32", "float64", "int32", "int64")},
}


def _refusal(name: str) -> str:
    """The message for a name of TensorFlow such as 'tensorflow.data'."""
    own = name.split(".")[1]
    instead = INSTEAD.get(own)
    if instead is None:
        same = next((each for each in (own, own.removeprefix("reduce_")) if hasattr(ops, each)), None)
        instead = same and f"use keras.ops.{same}"
    return f"{name} is TensorFlow's: nbkeras replaces only tensorflow.keras{f' ({instead})' if instead else ''}"


class _TensorFlow(ModuleType):
    """The module `tensorflow`, which has `keras` only."""

    __version__ = VERSION

    def __getattr__(self, name: str) -> Any:
        if name == "keras":
            return importlib.import_module("tensorflow.keras")
        raise AttributeError(name if name.startswith("__") else _refusal(f"tensorflow.{name}"))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `tensorflow.keras.layers` the module `keras.layers`, and refuses other parts of TensorFlow by name."""

    def find_spec(self, fullname: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "tensorflow":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        root, *rest = spec.name.split(".")
        if rest and rest[0] != "keras":
            raise ImportError(_refusal(spec.name), name=spec.name)
        return ModuleType(spec.name) if rest else _TensorFlow(root)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name != "tensorflow":
            sys.modules[name] = importlib.import_module(name.removeprefix("tensorflow."))


finder = _Finder()
