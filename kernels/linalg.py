"""Decompositions and inverses of matrices by NumPy's LAPACK, for the last two axes of an array. They run on the CPU.

Each function returns the result and the arrays that its gradient needs; nbkeras/ops/linalg.py computes the gradient with ops. A
matrix that cannot be inverted or decomposed raises NumPy's LinAlgError, a ValueError.
"""

import functools
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
FUNCTIONS = ("cholesky", "det", "eigh", "inv", "pinv", "qr", "slogdet", "solve", "svd")  # of numpy.linalg


class LinalgKernel:
    """A kernel that applies a function of numpy.linalg to the first arrays and writes the results into the others.

    It is a class, because files describe it by its attributes.
    """

    on_host = True  # see device.host

    def __init__(self, name: str, inputs: int, constants: dict[str, Any]):
        self.__name__, self.inputs, self.constants = name, inputs, constants

    def __call__(self, *arrays: Array) -> None:
        # LAPACK finds the values by iteration, which may never end for an infinite number.
        if self.__name__ in ("eigh", "pinv", "svd") and not np.isfinite(arrays[0]).all():
            raise np.linalg.LinAlgError(f"{self.__name__}: a matrix with NaN or infinity cannot be decomposed")
        results = getattr(np.linalg, self.__name__)(*arrays[: self.inputs], **self.constants)
        outputs = arrays[self.inputs :]
        for result, out in zip(results if isinstance(results, tuple) else (results,), outputs, strict=True):
            out[...] = result


@functools.cache
def kernel(name: str, inputs: int, **constants: Any) -> LinalgKernel:
    """Returns the kernel of a function in FUNCTIONS, the same object each time."""
    return LinalgKernel(name, inputs, constants)


def _results_of(name: str, inputs: tuple[Array, ...], *shapes: tuple[int, ...], **constants: Any) -> tuple[Array, ...]:
    """Returns the results of a numpy.linalg function. shapes: of the results, whose dtype is that of the first input."""
    outputs = tuple(device.empty(shape, inputs[0].dtype) for shape in shapes)
    device.launch(kernel(name, len(inputs), **constants), *inputs, *outputs)
    return outputs


def inv(x: Array):
    (y,) = _results_of("inv", (x,), x.shape)
    return y, (y,)


def det(x: Array):
    (y,) = _results_of("det", (x,), x.shape[:-2])
    return y, (x, y)


def slogdet(x: Array):
    return _results_of("slogdet", (x,), x.shape[:-2], x.shape[:-2]), (x,)


def solve(a: Array, b: Array):
    """Solves a x = b for b (..., n, k)."""
    (x,) = _results_of("solve", (a, b), (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))
    return x, (a, x)


def cholesky(x: Array):
    (y,) = _results_of("cholesky", (x,), x.shape)
    return y, (y,)


def eigh(x: Array):
    values, vectors = _results_of("eigh", (x,), x.shape[:-1], x.shape)
    return (values, vectors), (values, vectors)


def qr(x: Array, mode: str):
    *batch, m, n = x.shape
    k = m if mode == "complete" else min(m, n)
    q, r = _results_of("qr", (x,), (*batch, m, k), (*batch, k, n), mode=mode)
    return (q, r), (x, q, r)


def svd(x: Array, full_matrices: bool):
    *batch, m, n = x.shape
    k = min(m, n)
    shapes = (*batch, m, m if full_matrices else k), (*batch, k), (*batch, n if full_matrices else k, n)
    u, s, v = _results_of("svd", (x,), *shapes, full_matrices=full_matrices)
    return (u, s, v), (u, s, v)


def pinv(x: Array, rcond: float):
    *batch, m, n = x.shape
    (y,) = _results_of("pinv", (x,), (*batch, n, m), rcond=rcond)
    return y, (x, y)


def lu(x: Array):
    """Returns the lower and upper factors in one matrix, and the row exchanges, int32."""
    factors = device.empty(x.shape, x.dtype)
    pivots = device.empty((*x.shape[:-2], min(x.shape[-2:])), np.int32)
    device.launch(factor, x, factors, pivots)
    return (factors, pivots), None


@device.host
def factor(x: Array, factors: Array, pivots: Array) -> None:
    """Kernel: see `lu`."""
    factors[...] = x
    for at in np.ndindex(x.shape[:-2]):
        _factor(factors[at], pivots[at])


@compiled
def _factor(a, pivots):
    """Factors a matrix in place. The pivot is the largest element of each column."""
    rows, columns = a.shape
    for k in range(pivots.size):
        best = k
        for i in range(k + 1, rows):
            if abs(a[i, k]) > abs(a[best, k]):
                best = i
        pivots[k] = best
        if best != k:
            for j in range(columns):
                a[k, j], a[best, j] = a[best, j], a[k, j]
        if a[k, k] != 0:
            for i in range(k + 1, rows):
                a[i, k] /= a[k, k]
                for j in range(k + 1, columns):
                    a[i, j] -= a[i, k] * a[k, j]
