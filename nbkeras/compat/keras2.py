"""What changes in nbkeras while it stands in for Keras 2: defaults, arguments, methods. `apply` is called once."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import activations, callbacks, config, initializers, layers, regularizers, utils
from nbkeras.building import call_history, graph, layer, module
from nbkeras.callbacks import monitors, rates
from nbkeras.compat import downloading, methods, recurrent
from nbkeras.compat.spellings import renaming
from nbkeras.data import downloads
from nbkeras.engine import registry, user_errors
from nbkeras.layers import recurrent_cells
from nbkeras.metrics import metric
from nbkeras.ops import legacy_hard_sigmoid
from nbkeras.optimizers import optimizer
from nbkeras.training import compiled, input_matching, model, output_matching, sequential

# Class -> argument -> its default in Keras 2.3.1.
DEFAULTS: dict[str, dict[str, Any]] = {
    "Adadelta": {"learning_rate": 1.0},
    "Adagrad": {"learning_rate": 0.01},
    "Adamax": {"learning_rate": 0.002},
    "GRUCell": {"reset_after": False},  # and so GRU's
    "MeanIoU": {"dtype": "float32"},
    "Nadam": {"learning_rate": 0.002},
}

# Class -> argument -> the one value it may have: today's have it built in.
FIXED: dict[str, dict[str, Any]] = {"Nadam": {"schedule_decay": 0.004}}

# Class -> arguments that Keras 2's took from the class that it extended, and did not use.
UNUSED: dict[str, tuple[str, ...]] = {
    f"{kind}Conv{rank}D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint", "groups")
    for kind in ("Depthwise", "Separable")
    for rank in (1, 2)
}

# Method of a model -> arguments that say how Keras 2 fetched batches, for which there is one way here.
_FETCHING = ("max_queue_size", "workers", "use_multiprocessing")
IGNORED = {"fit": _FETCHING, "evaluate": _FETCHING, "predict": _FETCHING, "compile": ("sample_weight_mode",)}

# Module -> function or class -> older argument -> today's.
FUNCTIONS = {
    regularizers: {"l1": {"l": "l1"}, "l2": {"l": "l2"}},
    utils: {"to_categorical": {"y": "x"}},
}

# Module -> a name of Keras 2's -> what it means.
NAMES: dict[Any, dict[str, Any]] = {
    utils: {"get_file": downloading.get_file},
    activations: {"hard_sigmoid": legacy_hard_sigmoid},
    compiled: {"function_name": lambda function: getattr(function, "__name__", type(function).__name__).strip("<>")},
    initializers: {"_compute_fans": lambda shape, data_format="channels_last": initializers.compute_fans(shape)},
}

_EXTENDED = {
    model.Model: methods.Model,
    sequential.Sequential: methods.Sequential,
    compiled.Compiled: methods.Compiled,
    input_matching.GraphInputs: methods.GraphInputs,
    module.Module: methods.Module,
    layer.Layer: methods.Layer,
    layer._Layers: methods.Layers,
    call_history.Connected: methods.Connected,
    graph.Node: methods.Node,
    graph.SymbolicTensor: methods.SymbolicTensor,
    initializers.RandomInitializer: methods.RandomInitializer,
    layers.BatchNormalization: methods.BatchNormalization,
    layers.Bidirectional: recurrent.Bidirectional,
    layers.Lambda: methods.Lambda,
    layers.RNN: recurrent.RNN,
    layers.StackedRNNCells: recurrent.StackedRNNCells,
    recurrent_cells._Cell: recurrent.Cell,
    metric.Metric: methods.Metric,
    optimizer.Optimizer: methods.Optimizer,
    monitors.EarlyStopping: methods.EarlyStopping,
}


def apply() -> None:
    """Make nbkeras behave as Keras 2.3.1 where that and Keras 3 differ and a script cannot say which it means."""
    _read_settings()
    registry.watch(_set_defaults)
    registry.watch(_take_fixed)
    registry.watch(_take_unused)
    output_matching.match_targets = _in_columns(output_matching.match_targets)
    activations.registry.register(legacy_hard_sigmoid, "hard_sigmoid")
    rates.LEARNING_RATE = "lr"
    model.Model.__init__ = renaming(model.Model.__init__, {"input": "inputs", "output": "outputs"})  # type: ignore
    callbacks.TensorBoard.__init__ = _of_tensorboard(callbacks.TensorBoard.__init__)  # type: ignore
    callbacks.ReduceLROnPlateau.__init__ = renaming(callbacks.ReduceLROnPlateau.__init__, {"epsilon": "min_delta"})  # type: ignore
    for cls, extra in _EXTENDED.items():
        for name, value in [item for base in reversed(extra.__mro__[:-1]) for item in vars(base).items()]:
            if name == "__call__" or not (name.startswith("__") and name.endswith("__")):
                setattr(cls, name, value)
    for where, values in NAMES.items():
        for name, value in values.items():
            setattr(where, name, value)
    for where, functions in FUNCTIONS.items():
        for name, names in functions.items():
            setattr(where, name, renaming(getattr(where, name), names))
    for name, ignored in IGNORED.items():
        setattr(model.Model, name, _without(getattr(model.Model, name), ignored))
    for cls in _EXTENDED:
        user_errors.enter_methods(cls)


def _read_settings() -> None:
    """Take floatx, epsilon and the data format from keras.json, where there is one and it says so."""
    path = os.path.join(downloads.cache_folder(), "keras.json")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        try:
            settings = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}): mend it or take it away") from None
    for name in ("floatx", "epsilon", "image_data_format"):
        if name in settings:
            getattr(config, f"set_{name}")(settings[name])


def _set_defaults(item: Any) -> None:
    """Change the defaults of a class of nbkeras that the table names; its signature says so too."""
    if not isinstance(item, type) or not item.__module__.startswith("nbkeras."):
        return
    function: Any = inspect.unwrap(item.__init__)  # type: ignore[misc]
    for name, value in DEFAULTS.get(item.__name__, {}).items():
        if name in (function.__kwdefaults__ or {}):
            function.__kwdefaults__[name] = value
        else:
            names = [p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
            defaults = list(function.__defaults__)
            defaults[names.index(name)] = value
            function.__defaults__ = tuple(defaults)


def _take_fixed(item: Any) -> None:
    """Let a class of nbkeras that the table names take the argument; ValueError for another value."""
    fixed = FIXED.get(getattr(item, "__name__", ""))
    if fixed is None or not item.__module__.startswith("nbkeras."):
        return
    init = item.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for name, value in fixed.items():
            given = kwargs.pop(name, value)
            if given != value:
                raise ValueError(f"{item.__name__}: {name} is always {value}, received {given!r}")
        init(self, *args, **kwargs)

    item.__init__ = __init__


def _take_unused(item: Any) -> None:
    """Let a class of nbkeras that the table names take the arguments; a warning says that they have no effect."""
    unused = UNUSED.get(getattr(item, "__name__", ""))
    if unused is None or not item.__module__.startswith("nbkeras."):
        return
    init = item.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = [name for name in unused if kwargs.pop(name, None) is not None]
        if given:
            user_errors.warn(
                f"{item.__name__} takes {', '.join(given)} and does not use them, as in Keras 2: it has depthwise_initializer "
                "and the like"
            )
        init(self, *args, **kwargs)

    item.__init__ = __init__


_TENSORBOARD = (
    "log_dir histogram_freq batch_size write_graph write_grads write_images embeddings_freq embeddings_layer_names "
    "embeddings_metadata embeddings_data update_freq"
).split()


def _of_tensorboard(init: Callable) -> Callable:
    """TensorBoard's arguments in Keras 2's order; those for the batches of histograms are ignored."""

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs = {**dict(zip(_TENSORBOARD, args, strict=False)), **kwargs}
        if kwargs.get("write_grads"):
            raise ValueError("TensorBoard(write_grads=True) is not offered")
        for name in ("batch_size", "write_grads", "embeddings_layer_names", "embeddings_data"):
            kwargs.pop(name, None)
        init(self, **kwargs)

    return call


def _in_columns(prepare: Callable) -> Callable:
    """`match_targets`, with targets of one number for each sample as (samples, 1), which losses and metrics then get."""

    @functools.wraps(prepare)
    def call(*args: Any) -> tuple[Any, list]:
        structure, arrays = prepare(*args)
        return structure, [a[:, None] if a is not None and a.ndim == 1 else a for a in arrays]

    return call


def _without(function: Callable, ignored: Sequence[str]) -> Callable:
    """`function`, which takes some arguments and ignores them."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in ignored:
            kwargs.pop(name, None)
        return function(*args, **kwargs)

    return call
