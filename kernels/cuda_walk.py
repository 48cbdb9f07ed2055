"""How kernels walk over arrays of any strides: axes collapsed on the host, elements found on the GPU.

A kernel gets a number of elements, a *walk* (four tuples of one rank) and for each operand the 1-D span of its memory and a
tuple: where in the span the operand's first element is, then its strides. Kernels are compiled for ranks 1, 2, 4 and 8.
"""

import functools
import math

import numpy as np

from nbkeras.kernels.cuda_kernel import device_function
from nbkeras.kernels.device_array import DeviceArray

_RANKS = (1, 2, 4, 8)
_MOST = 2**31  # elements, where there is more than one axis: then places are worked out in 32 bits


def strides_over(array: DeviceArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An array's strides in elements when it is broadcast to a shape."""
    missing = len(shape) - array.ndim
    size = array.itemsize
    return (0,) * missing + tuple(
        0 if n == 1 else stride // size for n, stride in zip(array.shape, array.strides, strict=True)
    )


@functools.lru_cache(4096)
def walk(shape: tuple[int, ...], *strides: tuple[int, ...]) -> tuple:
    """(sizes, multipliers, shifts, an operand's (offset, *strides), another's, ...), over as few axes as possible.

    A quotient by an axis's size is the product with its multiplier, shifted: exact below 2**31. ValueError beyond 8 axes.
    """
    axes: list[tuple[int, ...]] = []
    for n, *steps in zip(shape, *strides, strict=True):
        if n == 1:
            continue
        if axes and all(outer == inner * n for outer, inner in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = (axes[-1][0] * n, *steps)
        else:
            axes.append((n, *steps))
    if len(axes) > _RANKS[-1]:
        raise ValueError(
            f"an array of shape {shape} is laid out over {len(axes)} axes that cannot be joined, and a GPU kernel walks over "
            f"{_RANKS[-1]} at most: copy its operands (transpose or broadcast fewer axes at a time)"
        )
    if len(axes) > 1 and math.prod(shape) >= _MOST:
        raise ValueError(
            f"an array of shape {shape} has {math.prod(shape):,} elements that are not one after the other; a GPU kernel "
            f"walks over fewer than {_MOST:,} such elements: work on parts of it"
        )
    rank = next(rank for rank in _RANKS if rank >= len(axes))
    axes = [(1, *(0 for _ in strides))] * (rank - len(axes)) + axes
    sizes, *steps_of = zip(*axes, strict=True)
    shifts = tuple(31 + (n - 1).bit_length() for n in sizes)
    multipliers = tuple(-(-(1 << shift) // n) if n < _MOST else 0 for n, shift in zip(sizes, shifts, strict=True))
    operands = (
        (-sum((n - 1) * step for n, step in zip(sizes, steps, strict=True) if step < 0), *steps) for steps in steps_of
    )
    return sizes, multipliers, shifts, *operands


def span(array: DeviceArray) -> DeviceArray:
    """All from the lowest to the highest address of a non-empty array, as one axis."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0)
    return array.at(low, ((high - low) // array.itemsize + 1,), array.dtype)


@device_function
def split(n, size, multiplier, shift):
    """(n // size, n % size), for n below 2**31."""
    quotient = np.int64(np.uint64(np.uint32(n)) * np.uint64(np.uint32(multiplier)) >> np.uint64(shift))
    return quotient, n - quotient * size


@device_function
def place_of_one(n, sizes, multipliers, shifts, x):
    """Where the n-th element of an operand with strides x is."""
    i = x[0]
    for back in range(1, len(sizes)):
        d = len(sizes) - back
        n, rest = split(n, sizes[d], multipliers[d], shifts[d])
        i += rest * x[d + 1]
    return i + n * x[1]


@device_function
def places_of_two(n, sizes, multipliers, shifts, x, y):
    """Where the n-th elements of two operands are."""
    i, j = x[0], y[0]
    for back in range(1, len(sizes)):
        d = len(sizes) - back
        n, rest = split(n, sizes[d], multipliers[d], shifts[d])
        i += rest * x[d + 1]
        j += rest * y[d + 1]
    return i + n * x[1], j + n * y[1]


@device_function
def places_of_three(n, sizes, multipliers, shifts, x, y, z):
    """Where the n-th elements of three operands are."""
    i, j, k = x[0], y[0], z[0]
    for back in range(1, len(sizes)):
        d = len(sizes) - back
        n, rest = split(n, sizes[d], multipliers[d], shifts[d])
        i += rest * x[d + 1]
        j += rest * y[d + 1]
        k += rest * z[d + 1]
    return i + n * x[1], j + n * y[1], k + n * z[1]
