"""Matrix products on a GPU by NVIDIA's cuBLAS, if nbkeras.config.set_matmul chose it. It needs nvmath-python.

cuBLAS stores matrices by columns. A matrix that is stored by rows is its transpose, stored by columns. So we compute C^T =
op(B)^T op(A)^T: B comes first, and nothing is transposed. We provide the workspace, so that a CUDA graph can capture products and
each run gives the same bits. float32 products do not use TF32.

Numbers of 16 bits are stored as float32 (nbkeras/engine/half.py). cuBLAS converts them, which is exact, multiplies them on tensor
cores and adds the products in float32.
"""

import importlib
import threading
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device

_WORKSPACE = 32 << 20  # bytes; cuBLAS recommends this for an H100
_FLOAT32, _ANY_ALGORITHM = 0, -1  # CUDA_R_32F, CUBLAS_GEMM_DEFAULT
_CONVERSIONS = {"bfloat16": "COMPUTE_32F_FAST_16BF", "float16": "COMPUTE_32F_FAST_16F"}
_chosen = False


class _Thread(threading.local):
    def __init__(self) -> None:
        self.handles: dict[
            Any, int
        ] = {}  # the handles of each Gpu. A handle has one stream at a time, so each thread has its own handles.


_thread = _Thread()


def _library() -> Any:
    return importlib.import_module("nvmath.bindings.cublas")


def choose(wanted: bool) -> None:
    """Chooses cuBLAS or our own kernels. Raises ImportError if cuBLAS is not installed."""
    global _chosen
    if wanted:
        _library()
    _chosen = wanted


def chosen() -> bool:
    """True if cuBLAS computes the products."""
    return _chosen


def gemm(
    ta, tb, m, n, k, a, a_at, lda, b, b_at, ldb, beta, c, c_at, ldc, batches, a_step, b_step, c_step, kind=None
) -> None:  # fmt: skip
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C, stored by rows, for each of `batches`; see cuda/loops/gemm.py. k >= 1.

    kind: the dtype of 16 bits that A and B are numbers of; None if they are float32 or float64.
    """
    library, gpu = _library(), device.gpu()
    stream = gpu.stream
    if gpu not in _thread.handles:
        _thread.handles[gpu] = library.create()
    handle = _thread.handles[gpu]
    library.set_stream(handle, stream)
    library.set_workspace(handle, gpu.scratch("cublas", (_WORKSPACE,), np.uint8).address, _WORKSPACE)
    turn = {False: library.Operation.N, True: library.Operation.T}
    right, left = (b.address + b_at * b.itemsize, ldb, b_step), (a.address + a_at * a.itemsize, lda, a_step)
    result = c.address + c_at * c.itemsize, ldc, c_step
    factors = np.array([1, beta], c.dtype)  # cuBLAS reads them from the CPU's memory during the call
    one, other = factors.ctypes.data, factors.ctypes.data + factors.itemsize
    sizes = turn[bool(tb)], turn[bool(ta)], n, m, k
    if kind is None:
        multiply = library.sgemm_strided_batched if c.itemsize == 4 else library.dgemm_strided_batched
        multiply(handle, *sizes, one, *right, *left, other, *result, batches)
        return
    typed = [(address, _FLOAT32, ld, step) for address, ld, step in (right, left, result)]
    compute = getattr(library.ComputeType, _CONVERSIONS[kind])
    library.gemm_strided_batched_ex(
        handle, *sizes, one, *typed[0], *typed[1], other, *typed[2], batches, compute, _ANY_ALGORITHM
    )
