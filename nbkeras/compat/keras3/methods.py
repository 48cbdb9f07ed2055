"""Internal methods and attributes of Keras 3's classes that released packages use.

`keras3.install` sets the members of each class here on the nbkeras class of the same name until its stack is closed.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

from nbkeras.building.graph import is_op
from nbkeras.metrics import Metric


class Embedding:
    """Members of Embedding."""

    @property
    def _embeddings(self) -> Any:
        """The table itself, also with LoRA."""
        own = vars(self)
        return own["_embeddings"] if "_embeddings" in own else own["embeddings"]


class Functional:
    """Members of models with a graph."""

    _inputs_struct = property(lambda model: model.input)
    _outputs_struct = property(lambda model: model.output)


class Layer:
    """Members of every layer that are not those of a Module."""

    @property
    def _convert_input_args(self) -> bool:
        """False for a layer that takes strings or tensors of other libraries and returns what it likes."""
        return "call_by" not in vars(self)

    @_convert_input_args.setter
    def _convert_input_args(self, value: bool) -> None:
        if value:
            vars(self).pop("call_by", None)
        else:
            vars(self)["call_by"] = functools.partial(_call_as_given, self)


def _call_as_given(layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call a layer without a conversion or a check of its arguments and results."""
    if not layer.built:
        layer.build(getattr(args[0], "shape", None) if args else None)
    layer._fill_arguments(args, kwargs, None)
    return call(*args, **kwargs)


def _gone(name: str, instead: str) -> property:
    def read(model: Any) -> Any:
        raise AttributeError(
            f"{name} is Keras 2's: use model.{instead}, or import tensorflow and run with --tensorflow"
        )

    return property(read)


class Model:
    """Members of Model."""

    compiled_loss = _gone("compiled_loss", "compute_loss(x, y, y_pred, sample_weight)")
    compiled_metrics = _gone("compiled_metrics", "compute_metrics(x, y, y_pred, sample_weight)")


class Module:
    """Members of every layer."""

    @functools.cached_property
    def _metrics(self) -> list[Metric]:
        """The layer's own metrics: a list that may be extended."""
        return self._held(Metric)  # type: ignore[attr-defined]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Any]:
        """The layer and the layers in it, each once; recursive: also the layers in these, in Keras's order."""
        found: dict[int, Any] = {}
        todo = collections.deque(self._sublayers())  # type: ignore[attr-defined]
        while todo:
            layer = todo.popleft()
            if id(layer) not in found and not is_op(layer):
                found[id(layer)] = layer
                todo.extendleft(layer._sublayers() if recursive else ())  # the last one is the next
        return [*([self] if include_self else []), *found.values()]


class SymbolicTensor:
    """Members of symbolic tensors."""

    sparse = False
    ragged = False
