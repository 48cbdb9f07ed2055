"""Floor 2: Operation, the layer that an op on symbolic tensors becomes."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable

from nbkeras import graph, ops
from nbkeras.layer import Layer
from nbkeras.naming import unique_name
from nbkeras.registry import custom_object, nearest
from nbkeras.tensor import own_ops


class Operation(Layer):
    """An op of nbkeras.ops in a functional graph: what `x + y` or `ops.mean(x)` on symbolic tensors becomes."""

    def __init__(self, function, name=None, **kwargs):
        if isinstance(function, str):
            found = custom_object(function) or getattr(ops, function, None) or _own(function)
            if function.startswith("_") or not hasattr(found, "__wrapped__"):
                raise ValueError(
                    f"{function!r} is not an op of nbkeras.ops.{nearest(function, vars(ops))} An op of your own is named by "
                    "custom_objects or register_keras_serializable."
                )
            function = found
        super().__init__(name=name or unique_name(function.__name__), **kwargs)
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
        name = self.function.__name__
        elsewhere = f"{self.function.__module__.removeprefix('nbkeras.')}.{name}"
        if getattr(ops, name, None) is not self.function and own_ops.get(elsewhere) is self.function:
            return {"function": elsewhere, "name": self.name}
        if getattr(ops, name, self.function) is not self.function and custom_object(name) is not self.function:
            raise ValueError(
                f"an op of your own, {name!r}, cannot be saved under the name of one of nbkeras.ops: rename it"
            )
        return {"function": self.function.__name__, "name": self.name}


def _own(name: str) -> Callable | None:
    """One of nbkeras's ops by module and name; its module may not have been imported yet, as that of 'ops.image.resize'."""
    if name not in own_ops and re.fullmatch(r"(ops\.[a-z_]+|elastic)\.\w+", name):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"nbkeras.{name.rpartition('.')[0]}")
    return own_ops.get(name)
