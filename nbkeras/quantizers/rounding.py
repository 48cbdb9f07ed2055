"""Rounding to integers: by the largest absolute value, by groups with a zero point, or for training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registered, Registry
from nbkeras.engine.tensor import Tensor

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
    minimum, maximum = padded.min(1), padded.max(1)
    if widened:
        equal = minimum == maximum
        minimum, maximum = np.where(equal, minimum - kind(1), minimum), np.where(equal, maximum + kind(1), maximum)
    scale = (maximum - minimum + kind(epsilon)) / kind(high - low)
    zero = np.clip(np.round(-minimum / scale) + kind(low), low, high)
    integers = np.clip(np.round(padded / scale[:, None]) + zero[:, None], low, high)
    return integers.reshape(-1, columns)[:rows].astype(np.int8), scale, zero.astype(np.int8)


def fake_quant_with_min_max_vars(
    inputs, min_vals, max_vals, num_bits: int = 8, narrow_range: bool = False, axis: int | None = None
) -> Tensor:
    """Numbers rounded as integers of a range would be, for training; the limits of the range get gradients too.

    Args:
        inputs: Floats.
        min_vals: The lower limit: a number, or one for each index of `axis`.
        max_vals: The upper limit, of the same shape.
        num_bits: The bits of an integer.
        narrow_range: Whether the smallest integer is 1, not 0.
        axis: The axis with separate limits; None for one range.

    Returns:
        A tensor of the inputs' shape. The gradient passes where the input is inside the range; outside, the limit gets it.

    Example:
        >>> keras.quantizers.fake_quant_with_min_max_vars(np.array([0.2, 5.0], "float32"), 0.0, 1.0, num_bits=2).numpy()
        array([0.33333334, 1.        ], dtype=float32)
    """
    x = ops.convert_to_tensor(inputs)
    limits = [ops.convert_to_tensor(each, x.dtype) for each in (min_vals, max_vals)]
    if axis is not None:
        axis = axis_of("fake_quant_with_min_max_vars", axis, x.ndim)
        sizes = [size if place == axis else 1 for place, size in enumerate(x.shape)]
        limits = [ops.reshape(each, sizes) for each in limits]
    minimum, maximum = int(bool(narrow_range)), 2 ** int(num_bits) - 1

    @ops.custom_gradient
    def rounded(x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Callable]:
        scale, inverse = (high - low) / (maximum - minimum), (maximum - minimum) / (high - low)
        zero = ops.round(ops.clip(minimum - low / scale, minimum, maximum))
        lower, upper = (minimum - zero) * scale, (maximum - zero) * scale
        start = ops.floor(-lower * inverse + 0.5)
        y = ops.floor((ops.clip(x, lower, upper) - lower) * inverse - start + 0.5) * scale

        def gradients(dy: Tensor) -> list[Tensor]:
            inside = ops.logical_and(x >= lower, x <= upper)
            places = [inside, x <= lower, x >= upper]
            dx, *of_limits = (ops.where(place, dy, 0.0) for place in places)
            rest = None if axis is None else [place for place in range(dx.ndim) if place != axis]
            return [dx, *(ops.reshape(ops.sum(each, axis=rest), low.shape) for each in of_limits)]

        return y, gradients

    return rounded(x, *limits)  # type: ignore[return-value]


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


def axis_of(name: str, axis: Any, rank: int) -> int:
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise ValueError(f"{name}: axis must be an integer from {-rank} to {rank - 1}, received {briefly(axis)}")
    return axis % rank
