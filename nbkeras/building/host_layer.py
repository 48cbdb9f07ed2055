"""Floor 2: HostLayer, the base of a user's layers that take or give strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.building import graph
from nbkeras.building.host_graph import SymbolicStrings, converted
from nbkeras.building.layer import Layer
from nbkeras.engine import structures, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import Strings, texts_of
from nbkeras.engine.tensor import Tensor, as_tensor


class HostLayer(Layer, registered=False):
    """The base of your own layers that take or give strings. Its `call` gets NumPy arrays and returns NumPy arrays.

    Strings are arrays of Python strings, of dtype object. `call` runs outside recorded programs, on each batch before the step,
    so it may use any Python code. It has no weights that training changes. Shapes and dtypes of the outputs are found by a call
    on strings "a" of a few shapes, unless the layer defines `compute_output_spec`.

    Raises:
        TypeError: for outputs that are neither arrays of numbers nor of str.

    Example:
        >>> class Length(layers.HostLayer):
        ...     def call(self, texts):
        ...         return np.array([len(text) for text in texts.ravel()], "float32").reshape(texts.shape)
        >>> texts = layers.Input((1,), dtype="string")
        >>> model = keras.Model(texts, layers.Dense(1, kernel_initializer="ones")(Length()(texts)))
        >>> model.predict(np.array([["one"], ["three"]]))
        array([[3.],
               [5.]], dtype=float32)
    """

    _takes_strings = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if graph.is_symbolic([args, kwargs]):
            return super().__call__(*args, **kwargs)
        args = tuple(structures.map_leaves(_as_array, converted(value, _same)) for value in args)
        return structures.map_leaves(self._output, self.call(*args, **structures.map_leaves(_as_array, kwargs)))

    def _output(self, value: Any) -> Any:
        texts = texts_of(value)
        if texts is not None:
            return Strings(texts)
        if not isinstance(value, np.ndarray | np.generic | Tensor):
            raise TypeError(
                f"{type(self).__name__}.call of layer {self.name!r} must return NumPy arrays of numbers or of str, received "
                f"{briefly(value)}"
            )
        return as_tensor(value)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        are_texts: list[bool] = []

        def trial(*args: Any, **kwargs: Any) -> Any:
            outputs = self(*args, **kwargs)
            are_texts[:] = [isinstance(leaf, Strings) for leaf in structures.flatten(outputs)]
            return structures.map_leaves(
                lambda leaf: Tensor(np.empty(leaf.shape, bool)) if isinstance(leaf, Strings) else leaf, outputs
            )

        found = graph.infer(trial, args, kwargs)
        kinds = iter(are_texts)
        return structures.map_leaves(lambda leaf: SymbolicStrings(leaf.shape) if next(kinds) else leaf, found)


def _same(value: Any) -> Any:
    return value


def _as_array(value: Any) -> Any:
    """The NumPy array of a tensor or of strings; other values unchanged."""
    if isinstance(value, Tensor):
        return np.empty(value.shape, value.dtype) if tensor.is_shapes_only() else np.asarray(value)
    texts = None if isinstance(value, str) else texts_of(value)
    return value if texts is None else np.array(texts, object)
