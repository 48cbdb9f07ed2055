"""Loops over arrays of any strides. The host joins axes, and the GPU finds elements.

A kernel gets the number of elements, a *walk* (three tuples of one rank) and for each operand the 1-D span of its memory and a
tuple: the offset of the operand's first element in the span, then its strides. Kernels are compiled for ranks 1, 2, 4 and 8, and
for tuples of int32 (a product of two is one instruction) or, for very large arrays, int64.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.kernels.cuda.machine import SIMULATED
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray

ITEMS = 4  # elements of a thread; they are a block's width apart
_RANKS = (1, 2, 4, 8)
_MAXIMUM = 2**31  # arrays over several axes must be smaller: their indices are computed in 32 bits


def strides_over(array: DeviceArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns an array's strides in elements after it is broadcast to a shape."""
    size = array.itemsize
    steps = (0 if n == 1 else stride // size for n, stride in zip(array.shape, array.strides, strict=True))
    return (0,) * (len(shape) - array.ndim) + tuple(steps)


def span(array: DeviceArray) -> DeviceArray:
    """Returns the memory from the lowest to the highest address of a non-empty array, as one axis."""
    if array.flags.c_contiguous:
        return array if array.ndim == 1 else array.reshape(-1)
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0)
    return array.at(low, ((high - low) // array.itemsize + 1,), array.dtype)


def divider(n: int) -> tuple[int, int]:
    """Returns (multiplier, shift) for division by n: x // n is x * multiplier, shifted, for x < 2**31."""
    shift = 31 + (n - 1).bit_length()
    return -(-(1 << shift) // n), shift


def dividers(*sizes: int) -> tuple[tuple, tuple, tuple]:
    """Returns sizes, multipliers and shifts for `split`, as tuples. Raises ValueError for 2**31 elements or more."""
    if math.prod(sizes) >= _MAXIMUM:
        raise ValueError(
            f"an array of sizes {sizes} has {math.prod(sizes):,} elements, and this GPU kernel supports fewer than {_MAXIMUM:,}: "
            "work on parts of it"
        )
    multipliers, shifts = zip(*(divider(max(n, 1)) for n in sizes), strict=True)
    return tuple(map(np.int32, sizes)), tuple(map(np.uint32, multipliers)), tuple(map(np.uint32, shifts))


@functools.lru_cache(4096)
def walk(shape: tuple[int, ...], *strides: tuple[int, ...]) -> tuple:
    """Returns (sizes, multipliers, shifts, (offset, *strides) of each operand, ...), over as few axes as possible.

    Raises ValueError if more than 8 axes cannot be joined, and for 2**31 elements or more over several axes.
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
            f"an array of shape {shape} is laid out over {len(axes)} axes that cannot be joined, and a GPU kernel supports "
            f"{_RANKS[-1]} at maximum: copy its operands (transpose or broadcast fewer axes at a time)"
        )
    count = math.prod(shape)
    if len(axes) > 1 and count >= _MAXIMUM:
        raise ValueError(
            f"an array of shape {shape} has {count:,} elements that are not contiguous; a GPU kernel supports "
            f"fewer than {_MAXIMUM:,} such elements: work on parts of it"
        )
    rank = next(rank for rank in _RANKS if rank >= len(axes))
    axes = [(1, *(0 for _ in strides))] * (rank - len(axes)) + axes
    sizes, *steps_of = zip(*axes, strict=True)
    reach = max(sum((n - 1) * abs(step) for n, step in zip(sizes, steps, strict=True)) for steps in steps_of)
    whole = np.int32 if max(reach, count) < _MAXIMUM else np.int64
    multipliers, shifts = zip(*(divider(n) if n < _MAXIMUM else (0, 0) for n in sizes), strict=True)
    offsets = [-sum((n - 1) * step for n, step in zip(sizes, steps, strict=True) if step < 0) for steps in steps_of]
    return (
        tuple(map(whole, sizes)),
        tuple(map(np.uint32, multipliers)),
        tuple(map(np.uint32, shifts)),
        *(tuple(map(whole, (offset, *steps))) for offset, steps in zip(offsets, steps_of, strict=True)),
    )


def split_on_a_gpu(n, size, multiplier, shift):
    """Returns (n // size, n % size) in 32 bits, for n < 2**31; see `divider`."""
    quotient = np.uint32(np.uint64(np.uint32(n)) * np.uint64(multiplier) >> np.uint64(shift))
    return np.int32(quotient), np.int32(np.uint32(n) - quotient * np.uint32(size))


def divided_on_a_gpu(n, size):
    """Returns (n // size, n % size) in 32 bits, for non-negative numbers, without a divider."""
    n, size = np.uint32(n), np.uint32(size)
    return np.int32(n // size), np.int32(n % size)


if SIMULATED:  # Python's integers are faster than NumPy's; a test compiles the functions above and compares

    def split(n, size, multiplier, shift):
        n = int(n)
        quotient = n * int(multiplier) >> int(shift)
        return np.int32(quotient), np.int32(n - quotient * int(size))

    def divided(n, size):
        quotient, rest = divmod(int(n), int(size))
        return np.int32(quotient), np.int32(rest)

else:
    split, divided = device_function(split_on_a_gpu), device_function(divided_on_a_gpu)


@device_function
def index_of_one(n, sizes, multipliers, shifts, x):
    """Returns the index of the n-th element of an operand. x: its offset and strides."""
    i = np.int64(x[0])
    for back in range(1, len(sizes)):
        d = len(sizes) - back
        n, rest = split(n, sizes[d], multipliers[d], shifts[d])
        i += rest * x[d + 1]
    return i + n * x[1]


@device_function
def indices_of_two(n, sizes, multipliers, shifts, x, y):
    """Returns the indices of the n-th elements of two operands. The compiler divides once for both."""
    return index_of_one(n, sizes, multipliers, shifts, x), index_of_one(n, sizes, multipliers, shifts, y)


# -------------------- arrays as kernels see them --------------------


def unsigned_of(itemsize: int) -> Any:
    """The unsigned integer dtype of a size in bytes."""
    return {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[itemsize]


def seen_as(dtype: Any, array: DeviceArray) -> DeviceArray:
    """Returns the array's bits as another dtype of the same size."""
    return array if array.dtype == dtype else array.view(dtype)


def widened(run: int, number: Any, *arrays: DeviceArray) -> tuple:
    """Returns (run length, number, *arrays): flat arrays of unsigned integers, as wide as whole runs allow."""
    while run % 2 == 0 and arrays[0].itemsize < 8 and all(a.address % (2 * a.itemsize) == 0 for a in arrays):
        wide = unsigned_of(2 * arrays[0].itemsize)
        run, number = run // 2, np.array([number, number]).view(wide)[0]
        arrays = tuple(array.view(wide) for array in arrays)
    return run, number, *arrays


def in_32_bits(what: str, *arrays: DeviceArray) -> list[DeviceArray]:
    """Returns flat arrays for kernels with 32-bit offsets. Raises ValueError for a larger array; the message names `what`."""
    for array in arrays:
        if array.size >= _MAXIMUM:
            raise ValueError(
                f"{what} on a GPU takes arrays of fewer than 2**31 elements, received one of shape {array.shape}: use smaller "
                "batches"
            )
    return [array.reshape(-1) for array in arrays]


def ints(*numbers: int) -> tuple:
    """Returns numbers as one kernel argument of 32-bit integers. (Numba's default integers have 64 bits, or two registers.)"""
    return tuple(map(np.int32, numbers))


def numeric(array: DeviceArray) -> DeviceArray:
    """The array, with booleans as uint8."""
    return seen_as(np.uint8, array) if array.dtype == np.bool_ else array


def start_walk(kernel: Kernel, arrays: Sequence[DeviceArray], *args: Any) -> None:
    """Starts a kernel(*args, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, ...) with a thread for each element.

    arrays: x, y, ..., broadcast to the last one's shape; booleans become uint8.
    """
    shape, count = arrays[-1].shape, arrays[-1].size
    if count:
        sizes, multipliers, shifts, *steps = walk(shape, *(strides_over(array, shape) for array in arrays))
        operands = itertools.chain(*((span(numeric(array)), each) for array, each in zip(arrays, steps, strict=True)))
        start_each(kernel, count, *args, count, sizes, multipliers, shifts, *operands)
