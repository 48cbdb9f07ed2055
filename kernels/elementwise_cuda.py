"""Twins of elementwise.py: NumPy's compiled loops as CUDA kernels, any strides, any broadcasting."""

from collections.abc import Callable

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda_kernel import blocks, kernel, size, start
from nbkeras.kernels.device_array import DeviceArray

_THREADS = size(256, simulated=8)


@kernel
def _fill(target, value):
    i = cuda.grid(1)
    if i < target.size:
        target[i] = value


@kernel
def _copy(source, target):
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[i]


def assign(source, target: DeviceArray) -> None:
    """target[...] = source, an array of any strides that broadcasts to it, or a number; casts."""
    if isinstance(source, DeviceArray):
        start(_copy, blocks(target.size, _THREADS), _THREADS, source.reshape(-1), target.reshape(-1))
    else:
        start(_fill, blocks(target.size, _THREADS), _THREADS, target.reshape(-1), source)


def of_ufunc(ufunc: np.ufunc) -> Callable:
    """The twin of a NumPy ufunc: called with its inputs, arrays or numbers, and its output."""
    raise NotImplementedError(ufunc.__name__)
