"""Differentiable pooling of sequences (batch, steps, channels) and images (batch, rows, columns, channels)."""

from collections.abc import Callable
from typing import Any

from nbkeras.kernels import pool as kernels
from nbkeras.ops.arguments import as_float
from nbkeras.ops.shape import expand_dims, moveaxis, squeeze
from nbkeras.ops.window import check_fits, data_format_of, padding_of, sizes_of
from nbkeras.tensor import Tensor, apply, op


@op
def max_pool(inputs, pool_size, strides=None, padding: str = "valid", data_format: str | None = None) -> Tensor:
    """The largest element of each window, by channels; strides None: the pool size. The gradient goes to the first of equals."""
    return _pool("max_pool", kernels.max_pool, kernels.max_pool_vjp, inputs, pool_size, strides, padding, data_format)


@op
def average_pool(inputs, pool_size, strides=None, padding: str = "valid", data_format: str | None = None) -> Tensor:
    """The mean of each window, by channels, over its places inside the input; strides None: the pool size."""
    kernel, vjp = kernels.average_pool, kernels.average_pool_vjp
    return _pool("average_pool", kernel, vjp, inputs, pool_size, strides, padding, data_format)


def _pool(
    name: str,
    kernel: Callable,
    vjp: Callable,
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
) -> Tensor:
    x = as_float(inputs)
    if x.ndim not in (3, 4):
        raise ValueError(f"{name}: inputs must have 3 axes (sequences) or 4 (images), received shape {x.shape}")
    rank = x.ndim - 2
    size = sizes_of(name, "pool_size", pool_size, rank)
    step = size if strides is None else sizes_of(name, "strides", strides, rank)
    padding = padding_of(name, padding, ("valid", "same"))
    first = data_format_of(name, data_format) == "channels_first"
    if first:
        x = moveaxis(x, 1, -1)
    check_fits(name, "window", x, size, (1,) * rank, padding)
    if rank == 1:  # an image of one row
        x, size, step = expand_dims(x, 1), (1, *size), (1, *step)
    y = apply(kernel, vjp, [x], size=size, strides=step, padding=padding)
    if rank == 1:
        y = squeeze(y, 1)
    return moveaxis(y, -1, 1) if first else y
