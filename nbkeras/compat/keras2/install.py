"""nbkeras as Keras 2.3.1, set and unset in one place: its CompatibilityPolicy, and names that only Keras 2 has."""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import activations, callbacks, initializers, layers, ops, regularizers, utils
from nbkeras.building import graph, module
from nbkeras.compat import additions, settings_file
from nbkeras.compat.keras2 import downloading, generic_utils, methods, model_yaml, recurrent, updates
from nbkeras.compat.spellings import renaming
from nbkeras.engine import compatibility, learning_phase, registry, settings, user_errors
from nbkeras.engine.annotations import briefly
from nbkeras.metrics import metric
from nbkeras.optimizers import optimizer
from nbkeras.training import model, sequential

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
RENAMED: dict[Any, dict[str, dict[str, str]]] = {
    activations: {"relu": {"alpha": "negative_slope"}},
    model.Model: {"__init__": {"input": "inputs", "output": "outputs"}},
    callbacks.ReduceLROnPlateau: {"__init__": {"epsilon": "min_delta"}},
    regularizers: {"l1": {"l": "l1"}, "l2": {"l": "l2"}},
    utils: {"to_categorical": {"y": "x"}},
}

# Class or module -> name in Keras 2 -> its object.
NAMES: dict[Any, dict[str, Any]] = {
    model.Model: {"to_yaml": model_yaml.to_yaml},
    utils: {
        "deserialize_keras_object": generic_utils.deserialize_keras_object,
        "get_file": downloading.get_file,
        "serialize_keras_object": generic_utils.serialize_keras_object,
    },
    optimizer.Optimizer: {"__init_subclass__": updates.prepare_class},
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


def install(stack: contextlib.ExitStack) -> None:
    """Make nbkeras behave as Keras 2.3.1 in the whole process, until the stack is closed. Objects do not change."""
    settings_file.read(stack)
    stack.callback(settings.use_policy, compatibility.current)
    settings.use_policy(compatibility.KERAS_2)
    stack.callback(learning_phase.forget_learning_phase)
    _add_names(stack)
    for change in (_set_defaults, _accept_old_arguments):
        stack.callback(registry.watch(functools.partial(change, stack)))  # classes that are imported later, too


def _add_names(stack: contextlib.ExitStack) -> None:
    """Add the names, arguments, methods and attributes that only Keras 2 has."""
    additions.add_members(stack, ADDED)
    for where, values in NAMES.items():
        for name, value in values.items():
            additions.put(stack, where, name, value)
    for function in (utils.plot_model, utils.to_categorical):  # those in a registry are watched, see `install`
        _set_defaults(stack, function)
    for where, functions in RENAMED.items():
        for name, names in functions.items():
            additions.put(stack, where, name, renaming(getattr(where, name), names))
    for name, ignored in IGNORED.items():
        additions.put(stack, model.Model, name, _without(getattr(model.Model, name), ignored))
    additions.put(stack, callbacks.TensorBoard, "__init__", _of_tensorboard(callbacks.TensorBoard.__init__))
    meant = getattr(ops, compatibility.current.hard_sigmoid)
    additions.put(stack, activations, "hard_sigmoid", meant)
    stack.callback(activations.registry.register, ops.hard_sigmoid)
    activations.registry.register(meant, "hard_sigmoid")


def _set_defaults(stack: contextlib.ExitStack, item: Any) -> None:
    """Change the defaults of a class's or function's arguments, and so its signature, according to the policy."""
    defaults = compatibility.current.argument_defaults.get(getattr(item, "__name__", ""))
    if defaults is None or not _is_own(item):
        return
    function: Any = inspect.unwrap(item if isinstance(item, types.FunctionType) else item.__init__)
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
    return isinstance(item, type | types.FunctionType) and item.__module__.startswith("nbkeras.")


def _accept_old_arguments(stack: contextlib.ExitStack, item: Any) -> None:
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

    additions.put(stack, item, "__init__", __init__)


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
