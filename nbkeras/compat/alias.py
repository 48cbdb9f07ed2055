"""`install_as_keras`: `import keras` and its submodules mean nbkeras, as Keras 2.3.1. `run_script` runs a Keras script so."""

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import pathlib
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, ModuleType, TracebackType
from typing import Any

import numpy as np

from nbkeras import activations, callbacks, config, initializers, layers, ops, regularizers, utils
from nbkeras.building import graph, module
from nbkeras.compat import downloading, methods, recurrent
from nbkeras.compat.spellings import renaming
from nbkeras.compat.tensorflow import finder as tensorflow_finder
from nbkeras.data import downloads
from nbkeras.engine import behaviour, lazy_names, learning_phase, registry, user_errors
from nbkeras.engine.annotations import briefly
from nbkeras.metrics import metric
from nbkeras.optimizers import optimizer
from nbkeras.training import model, sequential

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
        install_keras_2()
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
    uninstall_keras_2()


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


# -------------------- Keras 2.3.1: its CompatibilityPolicy, and names that only Keras 2 has --------------------

# Class -> argument -> its only accepted value, which the current class uses.
FIXED: dict[str, dict[str, Any]] = {"Nadam": {"schedule_decay": 0.004}}

# Class -> arguments that Keras 2 inherited from the base class and did not use.
UNUSED: dict[str, tuple[str, ...]] = {
    f"{kind}Conv{rank}D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint", "groups")
    for kind in ("Depthwise", "Separable")
    for rank in (1, 2)
}

# Method of a model -> arguments for Keras 2's batch queues, accepted without effect.
_FETCHING = ("max_queue_size", "workers", "use_multiprocessing")
IGNORED = {"fit": _FETCHING, "evaluate": _FETCHING, "predict": _FETCHING, "compile": ("sample_weight_mode",)}

# Class or module -> function or method -> older argument -> current one.
RENAMED_ARGUMENTS: dict[Any, dict[str, dict[str, str]]] = {
    model.Model: {"__init__": {"input": "inputs", "output": "outputs"}},
    callbacks.ReduceLROnPlateau: {"__init__": {"epsilon": "min_delta"}},
    regularizers: {"l1": {"l": "l1"}, "l2": {"l": "l2"}},
    utils: {"to_categorical": {"y": "x"}},
}

# Module -> name in Keras 2 -> its object.
NAMES: dict[Any, dict[str, Any]] = {
    utils: {"get_file": downloading.get_file},
    initializers: {"_compute_fans": lambda shape, data_format="channels_last": initializers.compute_fans(shape)},
}

# Class -> the class with Keras 2's additional methods and attributes.
ADDED: dict[type, type] = {
    model.Model: methods.Model,
    sequential.Sequential: methods.Sequential,
    module.Module: methods.Module,
    graph.CallHistory: methods.CallHistory,
    graph.Node: methods.Node,
    graph.SymbolicTensor: methods.SymbolicTensor,
    layers.Bidirectional: recurrent.Bidirectional,
    layers.RNN: recurrent.RNN,
    metric.Metric: methods.Metric,
    optimizer.Optimizer: methods.Optimizer,
}

_undo: contextlib.ExitStack | None = None  # undoes `install_keras_2`; None while nbkeras is Keras 3


def install_keras_2() -> None:
    """Make nbkeras behave as Keras 2.3.1 in the whole process. Does nothing if it already does."""
    global _undo
    if _undo is not None:
        return
    _undo = contextlib.ExitStack()
    try:
        _read_settings(_undo)
        _undo.callback(behaviour.use, behaviour.current)
        behaviour.use(behaviour.KERAS_2)
        _undo.callback(learning_phase.forget_learning_phase)
        _add_names(_undo)
        for change in (_set_defaults, _take_more):
            _undo.callback(registry.watch(functools.partial(change, _undo)))  # classes that are imported later, too
    except BaseException:
        uninstall_keras_2()
        raise


def uninstall_keras_2() -> None:
    """Make nbkeras behave exactly as before `install_keras_2`. Objects made meanwhile do not change."""
    global _undo
    if _undo is not None:
        _undo.close()
        _undo = None


def _set(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of a class or module; closing the stack restores it."""
    if name in user_errors.ENTRIES and isinstance(owner, type):
        value = _entry(value)
    held = vars(owner)
    stack.callback(setattr, owner, name, held[name]) if name in held else stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def _entry(method: Any) -> Any:
    """The method as an entry point: tracebacks of its errors end at the user's line."""
    if isinstance(method, classmethod):
        return classmethod(_entry(method.__func__))
    return user_errors.entry(method) if isinstance(method, FunctionType) else method


def _add_names(stack: contextlib.ExitStack) -> None:
    """Add the names, arguments, methods and attributes that only Keras 2 has."""
    for cls, extra in ADDED.items():
        for name, value in [item for base in reversed(extra.__mro__[:-1]) for item in vars(base).items()]:
            if name == "__call__" or not (name.startswith("__") and name.endswith("__")):
                _set(stack, cls, name, value)
    for where, values in NAMES.items():
        for name, value in values.items():
            _set(stack, where, name, value)
    for where, functions in RENAMED_ARGUMENTS.items():
        for name, names in functions.items():
            _set(stack, where, name, renaming(getattr(where, name), names))
    for name, ignored in IGNORED.items():
        _set(stack, model.Model, name, _without(getattr(model.Model, name), ignored))
    _set(stack, callbacks.TensorBoard, "__init__", _of_tensorboard(callbacks.TensorBoard.__init__))
    meant = getattr(ops, behaviour.current.hard_sigmoid)
    _set(stack, activations, "hard_sigmoid", meant)
    stack.callback(activations.registry.register, ops.hard_sigmoid)
    activations.registry.register(meant, "hard_sigmoid")


def _read_settings(stack: contextlib.ExitStack) -> None:
    """Set floatx, epsilon and the data format from keras.json, if it exists."""
    path = os.path.join(downloads.cache_folder(), "keras.json")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        try:
            settings = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}): correct or remove it") from None
    for name in ("floatx", "epsilon", "image_data_format"):
        if name in settings:
            change = getattr(config, f"set_{name}")
            stack.callback(change, getattr(config, name)())
            change(settings[name])


def _set_defaults(stack: contextlib.ExitStack, item: Any) -> None:
    """Change the defaults of a class's arguments, and so its signature, according to the policy."""
    defaults = behaviour.current.argument_defaults.get(getattr(item, "__name__", ""))
    if defaults is None or not _is_own(item):
        return
    function: Any = inspect.unwrap(item.__init__)
    stack.callback(setattr, function, "__defaults__", function.__defaults__)
    stack.callback(setattr, function, "__kwdefaults__", function.__kwdefaults__)
    for name, value in defaults.items():
        if name in (function.__kwdefaults__ or {}):
            function.__kwdefaults__ = {**function.__kwdefaults__, name: value}
        else:
            names = [p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
            positional = list(function.__defaults__)
            positional[names.index(name)] = value
            function.__defaults__ = tuple(positional)


def _is_own(item: Any) -> bool:
    return isinstance(item, type) and item.__module__.startswith("nbkeras.")


def _take_more(stack: contextlib.ExitStack, item: Any) -> None:
    """Let a class in the tables accept arguments that the current class lacks.

    Raises ValueError for a fixed argument with another value; warns about arguments without effect.
    """
    name = getattr(item, "__name__", "")
    fixed, unused = FIXED.get(name, {}), UNUSED.get(name, ())
    if not (fixed or unused) or not _is_own(item):
        return
    init = item.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for option, value in fixed.items():
            given = kwargs.pop(option, value)
            if given != value:
                raise ValueError(f"{name}: {option} is always {value}, received {briefly(given)}")
        without_effect = [option for option in unused if kwargs.pop(option, None) is not None]
        if without_effect:
            user_errors.warn(
                f"{name} takes {', '.join(without_effect)} and does not use them, as in Keras 2: it has depthwise_initializer "
                "and the like"
            )
        init(self, *args, **kwargs)

    _set(stack, item, "__init__", __init__)


_TENSORBOARD = (
    "log_dir histogram_freq batch_size write_graph write_grads write_images embeddings_freq embeddings_layer_names "
    "embeddings_metadata embeddings_data update_freq"
).split()


def _of_tensorboard(init: Callable) -> Callable:
    """TensorBoard's constructor with the arguments in Keras 2's order; those for histograms of batches are ignored."""

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs = {**dict(zip(_TENSORBOARD, args, strict=False)), **kwargs}
        if kwargs.get("write_grads"):
            raise ValueError("TensorBoard(write_grads=True) is not offered")
        for name in ("batch_size", "write_grads", "embeddings_layer_names", "embeddings_data"):
            kwargs.pop(name, None)
        init(self, **kwargs)

    return call


def _without(function: Callable, ignored: Sequence[str]) -> Callable:
    """The function, made to accept and ignore further arguments."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in ignored:
            kwargs.pop(name, None)
        return function(*args, **kwargs)

    return call


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
