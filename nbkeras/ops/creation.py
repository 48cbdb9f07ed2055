"""Constant tensors, which a recorded step reads and never writes."""

import math
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.engine.user_errors import checked
from nbkeras.ops.arguments import new_sizes
from nbkeras.ops.shape import broadcast_to


def zeros(shape, dtype=None) -> Tensor:
    """A tensor of zeros.

    Args:
        shape: A tuple of sizes, or one size.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        TypeError: for sizes that are not integers, or floats other than float32 and float64.

    Example:
        >>> ops.zeros((2, 3)).numpy()
        array([[0., 0., 0.],
               [0., 0., 0.]], dtype=float32)
    """
    found = known_dtype(dtype)
    return as_tensor(np.zeros(_sizes("zeros", shape), found), found)


def ones(shape, dtype=None) -> Tensor:
    """A tensor of ones.

    Args:
        shape: A tuple of sizes, or one size.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        TypeError: for sizes that are not integers, or floats other than float32 and float64.

    Example:
        >>> ops.ones(3, dtype="int32").numpy()
        array([1, 1, 1], dtype=int32)
    """
    found = known_dtype(dtype)
    return as_tensor(np.ones(_sizes("ones", shape), found), found)


@op
def full(shape, fill_value, dtype=None) -> Tensor:
    """A tensor filled with one value.

    Args:
        shape: A tuple of sizes, or one size.
        fill_value: A number, or numbers or a tensor that broadcast to the shape.
        dtype: The dtype; None for `config.floatx()`, also if fill_value is an integer.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        TypeError: for sizes that are not integers, or floats other than float32 and float64.
        ValueError: for a fill_value that does not broadcast to the shape.

    Example:
        >>> ops.full((2, 3), 7, dtype="int32").numpy()
        array([[7, 7, 7],
               [7, 7, 7]], dtype=int32)
        >>> ops.full((2, 2), [1.0, 2.0]).numpy()
        array([[1., 2.],
               [1., 2.]], dtype=float32)
    """
    if isinstance(fill_value, Tensor):
        return broadcast_to(as_tensor(fill_value, known_dtype(dtype)), shape)
    found = known_dtype(dtype)
    sizes, value = _sizes("full", shape), array_of(fill_value, found)
    if value.ndim > len(sizes) or any(
        n not in (1, size) for n, size in zip(value.shape[::-1], sizes[::-1], strict=False)
    ):
        raise ValueError(f"full: a fill_value of shape {value.shape} does not broadcast to shape {sizes}")
    return as_tensor(np.full(sizes, value, found), found)


def _sizes(name: str, shape: Any) -> tuple[int, ...]:
    sizes = new_sizes(name, shape)
    load_budget.take_briefly(8 * math.prod(sizes), f"{name} of shape {sizes}")
    return sizes


@op
def zeros_like(x, dtype=None) -> Tensor:
    """Zeros in the shape of x.

    Args:
        x: A tensor of any shape and dtype.
        dtype: The dtype; None for x's.

    Returns:
        A tensor of x's shape.

    Example:
        >>> ops.zeros_like([[1, 2], [3, 4]]).numpy()
        array([[0, 0],
               [0, 0]], dtype=int32)
    """
    return full_like(x, 0, dtype)


@op
def ones_like(x, dtype=None) -> Tensor:
    """Ones in the shape of x.

    Args:
        x: A tensor of any shape and dtype.
        dtype: The dtype; None for x's.

    Returns:
        A tensor of x's shape.

    Example:
        >>> ops.ones_like([[1, 2], [3, 4]], dtype="float32").numpy()
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    return full_like(x, 1, dtype)


@op
def full_like(x, fill_value, dtype=None) -> Tensor:
    """A tensor in the shape of x, filled with one value.

    Args:
        x: A tensor of any shape and dtype.
        fill_value: A number, or numbers or a tensor that broadcast to x's shape. It is converted to the dtype.
        dtype: The dtype; None for x's.

    Returns:
        A tensor of x's shape.

    Raises:
        ValueError: for a fill_value that does not broadcast to x's shape.

    Example:
        >>> ops.full_like([[1, 2], [3, 4]], 9).numpy()
        array([[9, 9],
               [9, 9]], dtype=int32)
    """
    x = as_tensor(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype)


def arange(start, stop=None, step=None, dtype=None) -> Tensor:
    """Evenly spaced numbers: start, start + step, ... up to stop, without stop.

    Args:
        start: The first number; if stop is None it is the end, and the first number is 0.
        stop: The end, excluded.
        step: The distance between neighbours, maybe negative; None for 1.
        dtype: The dtype; None for int32 if all arguments are integers, else `config.floatx()`.

    Returns:
        A tensor of one axis.

    Raises:
        ZeroDivisionError: for step 0.

    Example:
        >>> ops.arange(4).numpy()
        array([0, 1, 2, 3], dtype=int32)
        >>> ops.arange(1.0, 0.0, -0.25).numpy()
        array([1.  , 0.75, 0.5 , 0.25], dtype=float32)
    """
    first, end = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    numbers = [as_tensor(number) for number in (first, end, step)]
    received = ", ".join(map(briefly, (first, end, step)))
    if any(number.ndim for number in numbers):
        raise TypeError(f"arange: start, stop and step are numbers, received {received}")
    if dtype is None:
        are_integers = all(number.dtype.kind in "iu" for number in numbers)
        given = (number for number, each in zip(numbers, (first, end, step), strict=True) if isinstance(each, int))
        wide = np.int64 if any(number.dtype == np.int64 for number in given) else np.int32
        dtype = wide if are_integers else config.floatx()
    first, end, step = (each.item() if isinstance(each, Tensor) else each for each in (first, end, step))
    if step == 0:
        raise ZeroDivisionError("arange: step must not be 0")
    count = (float(end) - float(first)) / float(step)
    if not math.isfinite(count):
        raise ValueError(f"arange: start, stop and step must be finite, received {received}")
    load_budget.take_briefly(8 * int(abs(count)), f"arange of {received}")
    dtype = known_dtype(dtype)
    if dtype.kind == "b" and count > 2:
        raise ValueError(f"arange: booleans have two values, received {received} with dtype bool")
    return as_tensor(np.arange(first, end, step, dtype=dtype), dtype)


@checked
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """A matrix with ones on a diagonal and zeros elsewhere.

    Args:
        N: The number of rows.
        M: The number of columns; None for N.
        k: The distance of the diagonal above the main diagonal; negative below it.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of shape (N, M).

    Example:
        >>> ops.eye(2).numpy()
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        >>> ops.eye(2, 3, k=1, dtype="int32").numpy()
        array([[0, 1, 0],
               [0, 0, 1]], dtype=int32)
    """
    rows, columns = _sizes("eye", (N, N if M is None else M))
    return as_tensor(np.eye(rows, columns, k, known_dtype(dtype)), dtype)
