"""Matrix products on a GPU by NVIDIA's cuBLAS, if nbkeras.config.set_matmul chose it. Needs nvmath-python.

cuBLAS stores matrices by columns, and a matrix by rows is its transpose by columns. So C^T = op(B)^T op(A)^T is computed:
B comes first, and nothing is transposed. The workspace is ours, so that products can be captured in a CUDA graph and give the
same bits each time. float32 is multiplied as float32, without TF32.
"""

import importlib
import threading
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device

_WORKSPACE = 32 << 20  # bytes, what cuBLAS recommends for an H100
_chosen = False


class _Thread(threading.local):
    def __init__(self) -> None:
        self.handles: dict[Any, int] = {}  # by Gpu; one handle has one stream at a time, so each thread has its own


_thread = _Thread()


def _library() -> Any:
    return importlib.import_module("nvmath.bindings.cublas")


def choose(wanted: bool) -> None:
    """Use cuBLAS, or our own kernels; ImportError where it is not installed."""
    global _chosen
    if wanted:
        _library()
    _chosen = wanted


def chosen() -> bool:
    """Whether cuBLAS computes the products."""
    return _chosen


def gemm(ta, tb, m, n, k, a, a_at, lda, b, b_at, ldb, beta, c, c_at, ldc, batches, a_step, b_step, c_step) -> None:
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C, by rows, for each of `batches`; k >= 1: see cuda/loops/gemm.py."""
    library, gpu = _library(), device.gpu()
    stream = gpu.stream
    if gpu not in _thread.handles:
        _thread.handles[gpu] = library.create()
    handle = _thread.handles[gpu]
    library.set_stream(handle, stream)
    library.set_workspace(handle, gpu.scratch("cublas", (_WORKSPACE,), np.uint8).address, _WORKSPACE)
    multiply = library.sgemm_strided_batched if c.itemsize == 4 else library.dgemm_strided_batched
    turn = {False: library.Operation.N, True: library.Operation.T}
    right, left = (b.address + b_at * b.itemsize, ldb, b_step), (a.address + a_at * a.itemsize, lda, a_step)
    result = c.address + c_at * c.itemsize, ldc, c_step
    factors = np.array([1, beta], c.dtype)  # read by the call, from the CPU's memory
    one, other = factors.ctypes.data, factors.ctypes.data + factors.itemsize
    multiply(handle, turn[bool(tb)], turn[bool(ta)], n, m, k, one, *right, *left, other, *result, batches)
