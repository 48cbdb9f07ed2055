"""Rounding to integers by the largest absolute value, or by groups with a zero point; two integers of 4 bits in a byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registered, Registry

LIMITS, EPSILON = (-127, 127), 1e-7
registry = Registry("quantizer")


def abs_max_quantize(
    inputs,
    axis,
    value_range: tuple[int, int] = LIMITS,
    dtype: str = "int8",
    epsilon: float = EPSILON,
    to_numpy: bool = False,
) -> tuple:
    """Integers and a scale with integers / scale close to the input; its largest absolute value maps to the largest integer.

        scale = high / (max(abs(x)) + epsilon);  integers = clip(round(x * scale), low, high)

    Args:
        inputs: Floats of any shape.
        axis: The axes that share one scale.
        value_range: The smallest and the largest integer.
        dtype: The dtype of the integers.
        epsilon: A small number, for inputs of zeros.
        to_numpy: Accepted and ignored.

    Returns:
        (integers, scale): tensors; the shared axes have size 1 in the scale.

    Example:
        >>> values, scale = keras.quantizers.abs_max_quantize(np.array([[1.0, -4.0]], "float32"), axis=-1)
        >>> values.numpy()
        array([[  32, -127]], dtype=int8)
    """
    inputs = ops.convert_to_tensor(inputs)
    largest = ops.max(ops.abs(inputs), axis=axis, keepdims=True)
    scale = ops.divide(value_range[1], ops.add(largest, epsilon))
    return ops.cast(ops.clip(ops.round(ops.multiply(inputs, scale)), *value_range), dtype), scale


def abs_max_quantize_grouped_with_zero_point(
    inputs,
    block_size: int,
    value_range: tuple[int, int] = (-8, 7),
    dtype: str = "int8",
    epsilon: float = EPSILON,
    to_numpy: bool = False,
) -> tuple:
    """Integers of a matrix with a scale and a zero point for each group of rows in a column: x is about (q - zero) * scale.

    Args:
        inputs: A float matrix (rows, columns).
        block_size: The rows of a group; the last group may have fewer.
        value_range: The smallest and the largest integer.
        dtype: The dtype of the integers.
        epsilon: A small number, for groups of equal numbers.
        to_numpy: Accepted for compatibility: as in Keras, False makes a group of equal numbers wider by one on both sides.

    Returns:
        (integers, scale, zero points): tensors of shapes (rows, columns), (groups, columns) and (groups, columns).

    Raises:
        ValueError: for another shape, or a block_size below 1.

    Example:
        >>> q, scale, zero = keras.quantizers.abs_max_quantize_grouped_with_zero_point(np.array([[0.0], [1.5]]), 2)
        >>> q.numpy().tolist(), zero.numpy().tolist()
        ([[-8], [7]], [[-8]])
    """
    values = ops.convert_to_numpy(inputs)
    if values.ndim != 2 or option.size_of("abs_max_quantize_grouped_with_zero_point", "block_size", block_size) < 1:
        raise ValueError(f"inputs must be a matrix (rows, columns), received shape {values.shape}")
    integers, scale, zero = grouped(values, block_size, value_range, epsilon, widened=not to_numpy)
    return tuple(map(ops.convert_to_tensor, (integers.astype(dtype), scale, zero)))


def grouped(
    values: np.ndarray, size: int, limits: tuple[int, int] = (-8, 7), epsilon: float = EPSILON, widened: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`abs_max_quantize_grouped_with_zero_point` by NumPy; both results of integers are int8.

    Args:
        values: A matrix.
        size: The rows of a group.
        limits: The smallest and the largest integer.
        epsilon: A small number.
        widened: Whether the range of a group of equal numbers grows by one on both sides.
    """
    rows, columns = values.shape
    groups, (low, high), kind = math.ceil(rows / size), limits, values.dtype.type
    padded = np.concatenate([values, np.zeros((groups * size - rows, columns), values.dtype)]).reshape(
        groups, size, columns
    )
    least, most = padded.min(1), padded.max(1)
    if widened:
        equal = least == most
        least, most = np.where(equal, least - kind(1), least), np.where(equal, most + kind(1), most)
    scale = (most - least + kind(epsilon)) / kind(high - low)
    zero = np.clip(np.round(-least / scale) + kind(low), low, high)
    integers = np.clip(np.round(padded / scale[:, None]) + zero[:, None], low, high)
    return integers.reshape(-1, columns)[:rows].astype(np.int8), scale, zero.astype(np.int8)


class Quantizer(Registered, option.Configured, registry=registry):
    """Base of quantizers: callables that convert a tensor to integers. The base class returns the tensor.

    Args:
        output_dtype: The dtype of the integers.

    Call arguments:
        x: A tensor.

    Example:
        >>> keras.Quantizer()(ops.ones(2)).numpy()
        array([1., 1.], dtype=float32)
    """

    def __init__(self, output_dtype: str = "int8"):
        self.output_dtype = config.standardize_dtype(output_dtype)

    def __call__(self, x):
        return x

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this quantizer.

        Raises:
            NotImplementedError: for a subclass that does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")


registry.register(Quantizer)


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with fixed arguments.

    Args:
        axis: The axes that share one scale; None for the axes of the call, or the last one.
        value_range: The smallest and the largest integer, from -128 to 127 for int8.
        epsilon: A small number, for inputs of zeros.
        output_dtype: The dtype of the integers.

    Call arguments:
        x: A float tensor.
        axis: The axes; None for the quantizer's axes.
        to_numpy: Accepted and ignored.

    Raises:
        ValueError: if the range does not fit into int8.

    Example:
        >>> values, scale = keras.quantizers.AbsMaxQuantizer(axis=0)(np.eye(2, dtype="float32"))
        >>> values.numpy()
        array([[127,   0],
               [  0, 127]], dtype=int8)
    """

    def __init__(
        self,
        axis: Any = None,
        value_range: tuple[int, int] = LIMITS,
        epsilon: float = EPSILON,
        output_dtype: str = "int8",
    ):
        super().__init__(output_dtype)
        several = axis if axis is None or not isinstance(axis, int) else (axis,)
        self.axis = several if several is None else option.integers_of("AbsMaxQuantizer", "axis", several)
        if not isinstance(value_range, list | tuple) or [type(each) for each in value_range] != [int, int]:
            raise TypeError(f"AbsMaxQuantizer: value_range must be two integers, received {briefly(value_range)}")
        low, high = value_range
        self.value_range = low, high
        self.epsilon = epsilon
        if self.output_dtype == "int8" and not -128 <= low < high <= 127:
            raise ValueError(f"int8 integers lie between -128 and 127, received value_range={briefly(value_range)}")

    def __call__(self, x, axis: Any = None, to_numpy: bool = False):
        axis = axis if axis is not None else self.axis if self.axis is not None else -1
        return abs_max_quantize(x, axis, self.value_range, self.output_dtype, self.epsilon, to_numpy)

    def get_config(self):
        """The arguments that recreate this quantizer."""
        config = {"value_range": list(self.value_range), "epsilon": self.epsilon, "output_dtype": self.output_dtype}
        return config if self.axis is None else {**config, "axis": list(self.axis)}


def limits_of(quantizer: AbsMaxQuantizer | None) -> tuple[int, int, float] | None:
    """The smallest and the largest integer and the epsilon of a quantizer, for kernels."""
    return None if quantizer is None else (*quantizer.value_range, float(quantizer.epsilon))  # type: ignore[return-value]


def integers_of(values: np.ndarray, quantizer: AbsMaxQuantizer) -> tuple[np.ndarray, np.ndarray]:
    """(integers, scale) of a weight by a quantizer with axes, computed by NumPy and not recorded."""
    (low, high), axes = quantizer.value_range, quantizer.axis
    largest = np.maximum(np.max(values, axes, keepdims=True), -np.min(values, axes, keepdims=True))
    scale = np.divide(high, np.add(largest, quantizer.epsilon)).astype(values.dtype)
    integers = np.multiply(values, scale)
    np.clip(np.round(integers, out=integers), low, high, out=integers)
    return integers.astype(np.int8), scale


def packed_pairs(values: np.ndarray, axis: int) -> np.ndarray:
    """`pack_int4` by NumPy.

    Args:
        values: int8 or uint8.
        axis: The axis.
    """
    first = np.moveaxis(values, axis, 0).view(np.uint8) if values.flags.c_contiguous else np.moveaxis(values, axis, 0)
    first = first.astype(np.uint8)
    padded = np.concatenate([first, np.zeros((len(first) % 2, *first.shape[1:]), np.uint8)])
    both = (padded[::2] & 15) | (padded[1::2] << 4)
    return np.ascontiguousarray(np.moveaxis(both, 0, axis)).view(values.dtype)


def axis_of(name: str, axis: Any, rank: int) -> int:
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise ValueError(f"{name}: axis must be an integer from {-rank} to {rank - 1}, received {briefly(axis)}")
    return axis % rank
