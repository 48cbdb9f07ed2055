"""Floor 2: Operation, the layer that an op on symbolic tensors becomes."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.layer import Layer
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import checked, unique_name
from nbkeras.engine.registry import custom_object, get_registered_name, nearest
from nbkeras.engine.tensor import own_ops


@graph.op_layer
class Operation(Layer):
    """An op of nbkeras.ops in a functional graph: `x + y` or `ops.mean(x)` on symbolic tensors makes one."""

    _is_op = True

    def __init__(self, function, name=None, **kwargs):
        if isinstance(function, str):
            function = _named(function)
        if not callable(function) or not hasattr(function, "__name__"):
            raise TypeError(f"an Operation needs an op of nbkeras.ops, or its name, received {briefly(function)}")
        super().__init__(name=checked("layer", name) or unique_name(function.__name__), **kwargs)
        self.function = function
        self.built = True

    def call(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def _convert(self, value):  # ops convert their own arguments; shapes among them must stay tuples
        return value

    def _convert_array(self, value):
        return value

    def compute_output_spec(self, *args, **kwargs):
        return graph.infer(self.function, args, kwargs)

    def _warn_mask_lost(self):  # an op on a tensor drops its mask, as in Keras
        pass

    def get_config(self):
        function = self.function
        name, elsewhere = function.__name__, f"{str(function.__module__).removeprefix('nbkeras.')}.{function.__name__}"
        if getattr(ops, name, None) is not function:
            name = elsewhere if own_ops.get(elsewhere) is function else get_registered_name(function)
            if name == function.__name__:  # a user's op, whose name may also be a name of nbkeras.ops
                name = f"{_USERS}>{name}"
        return {"function": name, "name": self.name}


_USERS = "Custom"  # the package of objects registered without one, as in Keras


def _named(name: str) -> Callable:
    """Returns the op for its name in a model file: 'mean' and 'ops.image.resize' are nbkeras's, 'package>mean' is a user's."""
    package, _, own = name.rpartition(">")
    lookups = [custom_object] if package else [lambda own: getattr(ops, own, None), _own, custom_object]
    for found in (lookup(each) for each in dict.fromkeys((name, own)) for lookup in lookups):
        if hasattr(found, "__wrapped__") and not own.startswith("_"):
            return found
    suggestion = nearest(own, [each for each in dir(ops) if hasattr(getattr(ops, each), "__wrapped__")])
    if own in ops.__all__:  # type: ignore[attr-defined] # set by lazy_names
        raise ValueError(
            f"{own!r} of nbkeras.ops cannot be applied as a layer: a model applies only ops that take tensors and return "
            f"tensors.{suggestion}"
        )
    raise ValueError(
        f"{own!r} is not an op of nbkeras.ops.{suggestion} Pass your own op in custom_objects, or register it by "
        "register_keras_serializable."
    )


def _own(name: str) -> Callable | None:
    """Returns nbkeras's op for a module and name, such as 'ops.image.resize'. Imports the module if necessary."""
    module = name.rpartition(".")[0]
    if name not in own_ops and re.fullmatch(r"(ops|random)\.[a-z_]+", module):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"nbkeras.{module}")
    return own_ops.get(name)
