"""Constant tensors, which a recorded step reads and never writes."""

import math
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine import load_budget
from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.ops.shape import broadcast_to, sizes_of


def zeros(shape, dtype=None) -> Tensor:
    """Zeros of a shape, floatx by default."""
    return as_tensor(np.zeros(_sizes("zeros", shape), known_dtype(dtype)))


def ones(shape, dtype=None) -> Tensor:
    """Ones of a shape, floatx by default."""
    return as_tensor(np.ones(_sizes("ones", shape), known_dtype(dtype)))


@op
def full(shape, fill_value, dtype=None) -> Tensor:
    """A tensor filled with one number (or with a tensor that broadcasts to the shape), floatx by default."""
    if isinstance(fill_value, Tensor):
        return broadcast_to(as_tensor(fill_value, known_dtype(dtype)), shape)
    found = known_dtype(dtype)
    return as_tensor(np.full(_sizes("full", shape), array_of(fill_value, found), found))


def _sizes(name: str, shape: Any) -> tuple[int, ...]:
    sizes = sizes_of(name, shape)
    load_budget.take_briefly(8 * math.prod(sizes), f"{name} of shape {sizes}")
    return sizes


@op
def zeros_like(x, dtype=None) -> Tensor:
    """Zeros of x's shape, in x's dtype or another."""
    return full_like(x, 0, dtype)


@op
def ones_like(x, dtype=None) -> Tensor:
    """Ones of x's shape, in x's dtype or another."""
    return full_like(x, 1, dtype)


@op
def full_like(x, fill_value, dtype=None) -> Tensor:
    """A tensor of x's shape filled with one number, in x's dtype or another."""
    x = as_tensor(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype)


def arange(start, stop=None, step=None, dtype=None) -> Tensor:
    """start, start + step, ... below stop; 0, 1, ... below start if only one argument is given. int32 or floatx by default."""
    first, end = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if dtype is None:
        are_integers = all(as_tensor(number).dtype.kind in "iu" for number in (first, end, step))
        dtype = np.int32 if are_integers else config.floatx()
    if not any(isinstance(number, Tensor) for number in (first, end, step)):
        load_budget.take_briefly(8 * abs((end - first) // (step or 1)), f"arange({start}, {stop}, {step})")
    return as_tensor(np.arange(first, end, step, dtype=dtype))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones on the k-th diagonal of an (N, M) matrix, zeros elsewhere."""
    load_budget.take_briefly(8 * N * (N if M is None else M), f"eye({N}, {M})")
    return as_tensor(np.eye(N, M, k, known_dtype(dtype)))
