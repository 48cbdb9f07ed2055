"""CategoryEncoding, and the output modes shared by the layers for categories."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import as_tensor

host_encoding = LazyModule("nbkeras.layers.host_encoding")
MODES = ("int", "one_hot", "multi_hot", "count")


def _mode(layer: Any, what: str, mode: Any) -> str:
    former = {"binary": "multi_hot", "tf-idf": "tf_idf"}
    return one_of(option.name_of(layer), what, former.get(mode, mode) if isinstance(mode, str) else mode, layer.modes)


def _not_sparse(name: str, what: str, sparse: Any) -> bool:
    if option.flag_of(name, what, sparse):
        raise ValueError(f"{name} does not offer sparse=True: there are no sparse tensors")
    return False


def _salts(name: str, what: str, salt: Any) -> list[int] | None:
    salts = list(salt) if isinstance(salt, list | tuple) else [salt, salt]
    if salt is not None and not (len(salts) == 2 and all(isinstance(each, int | np.integer) for each in salts)):
        raise ValueError(f"{name}'s {what} must be an integer or two, received {briefly(salt)}")
    return None if salt is None else salts


OutputMode = Annotated[str, option.Kind(_mode, "one of the layer's modes")]
NotSparse = Annotated[bool, option.kind(_not_sparse, "False: there are no sparse tensors")]
Salt = Annotated[Any, option.kind(_salts, "an integer, or two, or None")]


def encoded(numbers, mode: str, depth: int, dtype: str, count_weights=None):
    """Encode category numbers by an output mode: unchanged, or as indicators of `depth` categories along a new last axis.

    'one_hot': (..., n) -> (..., n, depth), (..., 1) -> (..., depth). 'multi_hot' and 'count' combine categories along the second
    axis (the first axis of a vector): 1 for each that occurs, or its number of occurrences, weighted by count_weights. NumPy
    encodes an array, of numbers that were strings.
    """
    if isinstance(numbers, np.ndarray) and mode != "int" and numbers.ndim < 3:
        return as_tensor(host_encoding.indicators(numbers, mode, depth, dtype), dtype)
    if mode == "int":
        return ops.cast(numbers, dtype)
    sizes = ops.shape(numbers)
    if not sizes:
        numbers, sizes = ops.expand_dims(numbers, -1), (1,)
    along = 1 if len(sizes) > 1 else 0
    if mode == "one_hot":
        if along and sizes[-1] == 1:
            numbers = ops.squeeze(numbers, -1)
        return ops.one_hot(numbers, depth, dtype=dtype)
    each = ops.one_hot(numbers, depth, dtype=dtype)
    if mode == "multi_hot":
        return ops.max(each, axis=along)
    if count_weights is not None:
        each = ops.multiply(each, ops.expand_dims(ops.cast(count_weights, dtype), -1))
    return ops.sum(each, axis=along)


class CategoryEncoding(Layer):
    """Indicators of categories: integers from 0 to num_tokens - 1. Other integers are ignored.

    Args:
        num_tokens: The number of categories.
        output_mode ('multi_hot', 'one_hot' or 'count'): 'one_hot': an indicator for each integer; 'multi_hot': 1 for each
            category that occurs in the sample; 'count': its number of occurrences.
        sparse: Accepted for Keras scripts; True is refused.

    Call arguments:
        inputs: Integers, (batch, n). A vector is one sample, except for 'one_hot', where it is a batch with n = 1.
        count_weights: For 'count': a weight for each integer, in the shape of the inputs; counts are sums of weights.

    Output shape:
        (batch, num_tokens); for 'one_hot' (batch, n, num_tokens), without the axis n if n is 1. They have the layer's dtype.

    Raises:
        ValueError: for `count_weights` in another mode.

    Example:
        >>> layers.CategoryEncoding(4)(np.array([[0, 1], [1, 1]])).numpy()
        array([[1., 1., 0., 0.],
               [0., 1., 0., 0.]], dtype=float32)
        >>> layers.CategoryEncoding(4, output_mode="count")(np.array([[0, 1], [1, 1]])).numpy()
        array([[1., 1., 0., 0.],
               [0., 2., 0., 0.]], dtype=float32)
        >>> layers.CategoryEncoding(3, output_mode="one_hot")(np.array([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """

    input_dtype = "int32"
    modes = MODES[1:]

    def __init__(
        self,
        num_tokens: option.Size = None,  # type: ignore[assignment]
        output_mode: OutputMode = "multi_hot",
        sparse: NotSparse = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                f"CategoryEncoding {self.name!r} takes count_weights with output_mode 'count', not {self.output_mode!r}"
            )
        return encoded(inputs, self.output_mode, self.num_tokens, self.compute_dtype, count_weights)
