"""`install_as_keras`: `import keras` and its submodules mean nbkeras, as Keras 2.3.1. `run_script` runs a Keras script so."""

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import runpy
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from nbkeras.compat import keras2
from nbkeras.compat.tensorflow import finder as tensorflow_finder
from nbkeras.engine import lazy_names

FOLDER = str(pathlib.Path(__file__).parent / "drop_in")


# -------------------- the modules --------------------

# The modules of Keras 2 and 3, with the nbkeras modules that provide each one's names; the first module with a name wins. Keras 2
# modules that are one module here all have the same names: `keras.layers.core` has every layer.
_LAYERS = (
    "advanced_activations convolutional convolutional_recurrent core cudnn_recurrent embeddings local merge noise "
    "normalization pooling recurrent wrappers"
)
_ENGINE = "base_layer input_layer network saving sequential topology training"
_UTILS = "conv_utils data_utils generic_utils io_utils layer_utils np_utils vis_utils"
_OLD_LAYERS = ("nbkeras.layers", "nbkeras.compat.old_layers")
_OLD_UTILS = (
    "nbkeras.compat.generic_utils",
    "nbkeras.compat.conv_utils",
    "nbkeras.compat.layer_utils",
    "nbkeras.compat.hdf5",
    "nbkeras.training.summary",
)
_OLD_MODELS = ("nbkeras.models", "nbkeras.layers", "nbkeras.compat.model_yaml")
_OLD_ENGINE = (*_OLD_MODELS, "nbkeras.compat.saving", "nbkeras.utils")
_DATASETS = "boston_housing california_housing cifar cifar10 cifar100 fashion_mnist imdb mnist reuters"
_SAME = (
    "activations callbacks config constraints datasets distribution dtype_policies export initializers losses metrics "
    "mixed_precision ops ops.image ops.linalg optimizers optimizers.schedules quantizers random regularizers tree"
)

SHOWN: dict[str, tuple[str, ...]] = {
    "": ("nbkeras.compat.root", "nbkeras"),
    **{name: (f"nbkeras.{name}",) for name in _SAME.split()},
    "backend": ("nbkeras.compat.backend", "nbkeras.backend"),
    "layers": _OLD_LAYERS,
    "models": _OLD_MODELS,
    "utils": ("nbkeras.utils", *_OLD_UTILS),
    "utils.losses_utils": ("nbkeras.compat.constants",),
    "utils.metrics_utils": ("nbkeras.compat.constants",),
    "engine": _OLD_ENGINE,
    "legacy": (),
    "legacy.interfaces": ("nbkeras.compat.interfaces",),
    "objectives": ("nbkeras.losses",),
    "ops.nn": ("nbkeras.ops",),
    "ops.numpy": ("nbkeras.ops",),
    "saving": ("nbkeras.saving", "nbkeras.models", "nbkeras.utils"),
    "preprocessing": ("nbkeras.preprocessing",),
    **{f"preprocessing.{name}": (f"nbkeras.preprocessing.{name}",) for name in ("sequence", "text")},
    "preprocessing.image": ("nbkeras.compat.images", "nbkeras.preprocessing.image"),
    "wrappers": ("nbkeras.wrappers",),
    "wrappers.scikit_learn": ("nbkeras.compat.scikit_learn",),
    **{f"layers.{name}": _OLD_LAYERS for name in _LAYERS.split()},
    **{f"engine.{name}": (*_OLD_ENGINE, "nbkeras.building.graph") for name in _ENGINE.split()},
    # modules of tf.keras, 2019 to 2023
    **{name: _OLD_LAYERS for name in ("layers.experimental", "layers.experimental.preprocessing")},
    **{name: ("nbkeras.optimizers",) for name in ("optimizers.experimental", "optimizers.legacy")},
    "engine.training_utils": ("nbkeras.compat.training_utils", "nbkeras.compat.generic_utils"),
    **{f"utils.{name}": ("nbkeras.utils", *_OLD_UTILS) for name in _UTILS.split()},
    **{f"datasets.{name}": (f"nbkeras.datasets.{name}",) for name in _DATASETS.split()},
}

# Module -> older name -> its name in the nbkeras modules.
RENAMED: dict[str, dict[str, str]] = {
    "constraints": {"maxnorm": "max_norm", "nonneg": "non_neg", "unitnorm": "unit_norm"},
    "engine.network": {"Network": "Model"},
    "layers.convolutional": {"Deconv2D": "Conv2DTranspose", "Deconv3D": "Conv3DTranspose"},
    "optimizers": {name.lower(): name for name in ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop", "SGD")},
}


class Alias(ModuleType):
    """A module with a name from Keras. Its attributes are looked up in modules of nbkeras."""

    def _shown(self) -> list[ModuleType]:
        return [importlib.import_module(name) for name in SHOWN[_own(self.__name__)]]

    def __getattr__(self, name: str) -> Any:
        if _own(f"{self.__name__}.{name}") in SHOWN:
            return importlib.import_module(f"{self.__name__}.{name}")
        today = RENAMED.get(_own(self.__name__), {}).get(name, name)
        if not name.startswith("__") or name == "__version__":
            for module in self._shown():
                if hasattr(module, today) and not _is_imported(module, today):
                    found = getattr(module, today)
                    if callable(found):  # functions and classes do not change: the next access needs no search
                        setattr(self, name, found)
                    return found
        raise lazy_names.missing(self.__name__, name, sys._getframe(1))

    def __dir__(self) -> list[str]:
        names = [(module, name) for module in self._shown() for name in dir(module)]
        public = {name for module, name in names if not name.startswith("_") and not _is_imported(module, name)}
        prefix = f"{_own(self.__name__)}.".lstrip(".")
        within = {name.removeprefix(prefix) for name in SHOWN if name.startswith(prefix)}
        return sorted(public | {name for name in within if name and "." not in name} | set(vars(self)))

    @property
    def __all__(self) -> list[str]:
        """The names that `from keras.layers import *` imports."""
        return [name for name in dir(self) if not name.startswith("_")]


def _is_imported(module: ModuleType, name: str) -> bool:
    """Whether a name is another nbkeras module, imported for internal use, and not a name from Keras."""
    found = vars(module).get(name)
    path = found.__name__ if isinstance(found, ModuleType) else ""
    return path.startswith("nbkeras.") and path != f"{module.__name__}.{name}"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the Alias of a module in the table."""

    def find_spec(self, fullname: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "keras":
            return None
        if _own(fullname) not in SHOWN:
            lazy_names.refuse_absent(fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Alias:
        return Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for name in SHOWN[_own(module.__name__)]:
            importlib.import_module(name)  # an import error is raised now


_finder = _Finder()


def _own(name: str) -> str:
    """The part after 'keras.': 'layers.core' for 'keras.layers.core', '' for 'keras'."""
    return name.partition(".")[2]


def install_as_keras(tensorflow: bool = False) -> None:
    """Make `import keras` and the modules of Keras 2 and 3 mean nbkeras, in this process and in those it spawns.

    Call it before the first `import keras`. If Keras 2.3.1 and Keras 3 differ, nbkeras then behaves as 2.3.1 (docs/compat.md).
    `nbkeras.compat.alias.uninstall` undoes it.

    Args:
        tensorflow: Whether `tensorflow.keras` means nbkeras too. All other names of `tensorflow` are then refused, even if
            TensorFlow is installed.

    Raises:
        ImportError: if another Keras is already imported.

    Example:
        >>> keras.install_as_keras()
        >>> from keras.layers import Dense
        >>> Dense is layers.Dense
        True
        >>> from nbkeras.compat.alias import uninstall
        >>> uninstall()
    """
    if _finder not in sys.meta_path:
        _stand_in("keras", "Keras", _finder, FOLDER)
        keras2.install()
        importlib.import_module("keras")
    if tensorflow:
        if tensorflow_finder not in sys.meta_path:
            _stand_in("tensorflow", "TensorFlow", tensorflow_finder, f"{FOLDER}_tensorflow")
            importlib.import_module("tensorflow")


def uninstall() -> None:
    """Undo `install_as_keras` in this process: nbkeras is Keras 3 again, and `import keras` finds what is installed."""
    names = {"keras": _finder, "tensorflow": tensorflow_finder}
    for name, finder in names.items():
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
            sys.path.remove(FOLDER if name == "keras" else f"{FOLDER}_{name}")
            for module in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[module]
    keras2.uninstall()


def _stand_in(name: str, title: str, finder: importlib.abc.MetaPathFinder, folder: str) -> None:
    """Let `import name` use the finder in this process, and the folder in spawned processes."""
    found = sys.modules.get(name)
    # nothing is imported yet, or only the folder's own stub
    ours = found is None or (getattr(found, "__file__", "") or "").startswith(folder)
    if not ours or any(each.startswith(f"{name}.") for each in sys.modules):
        raise ImportError(
            f"another {title} is imported already, from {getattr(found, '__file__', 'somewhere')}: call "
            f"nbkeras.install_as_keras before the first `import {name}`"
        )
    sys.meta_path.insert(0, finder)
    sys.path.insert(1, folder)  # after the script's own folder
    sys.modules.pop(name, None)


# -------------------- scripts --------------------

_OLD_NUMPY = (bool, int, float, complex, object, str)  # np.float and others, for scripts older than NumPy 1.24


def is_script(argument: str, commands: Iterable[str]) -> bool:
    """Whether the first argument of the command line is a file to run, not one of the commands."""
    return argument.endswith(".py") or (argument not in commands and os.path.isfile(argument))


def run_script(path: str, arguments: Sequence[str], tensorflow: bool = False) -> None:
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
