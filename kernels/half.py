"""Rounding: float32 arrays whose elements are numbers of 16 bits, see nbkeras/engine/half.py.

The kernels are instructions of the interpreter too (interpreter/instruction_set.py). So in a recorded program a rounding joins
the chain of the op before it, and memory is read and written once.
"""

import numpy as np

from nbkeras.kernels.runtime import device

Array = np.ndarray


def bfloat16(x: Array, out: Array) -> None:
    """Kernel: rounds to bfloat16, ties to even. NaN stays NaN."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) & np.uint32(0xFFFF0000)
    out[...] = np.where(np.isnan(x), x, rounded.view(np.float32).reshape(x.shape))


def float16(x: Array, out: Array) -> None:
    """Kernel: rounds to float16, ties to even, with infinity beyond 65504 and the subnormal numbers of float16."""
    with np.errstate(over="ignore"):
        out[...] = x.astype(np.float16)


bfloat16.fuses_as, float16.fuses_as = "bfloat16", "float16"  # type: ignore[attr-defined]  # see chains.operation
_KERNELS = {"bfloat16": bfloat16, "float16": float16}


def rounded(x: Array, kind: str):
    """Rounds float32 numbers to the nearest numbers of a dtype of 16 bits."""
    y = device.empty(x.shape, x.dtype)
    device.launch(_KERNELS[kind], x, y)
    return y, kind


def rounded_vjp(kind: str, dy: Array, needs: tuple):
    """The gradient has the same dtype of 16 bits as the result, so it is rounded in the same way."""
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(_KERNELS[kind], dy, dx)
    return (dx,)


def round_in_place(x: Array, kind: str) -> None:
    """Rounds an array's own elements."""
    device.launch(_KERNELS[kind], x, x)
