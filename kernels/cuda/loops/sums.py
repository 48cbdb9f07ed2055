"""The end of matrix products on a GPU: `outcome` finishes sums, `add_parts` adds sums that were computed in parts."""

from typing import Any, NamedTuple

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import THREADS, blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_MANY, _ROWS = size(16, simulated=4), size(8, simulated=2)  # with at least _MANY parts, _ROWS rows of threads add them


class Target(NamedTuple):
    """The destination of products: matrices in flat memory from `at` on, `step` apart, with rows `ld` apart."""

    c: DeviceArray
    at: int
    ld: int
    step: int
    beta: Any  # this and the rest: see `outcome`; beta has c's dtype
    bias: DeviceArray
    rectify: int


@device_function
def outcome(total, c, at, beta, bias, j, rectify):
    """Returns the new element of C: total + beta * C + bias[j], or its positive part if `rectify`."""
    if beta != 0:
        total += beta * c[at]
    if bias.size > 0:
        total += bias[j]
    if rectify != 0 and total < 0:  # NaN stays NaN
        total = c.dtype.type(0)
    return total


def parts_of(target: Target, batches: int, parts: int, m: int, n: int) -> Target:
    """Returns a Target for partial sums: (batches, parts, m, n)."""
    c = target.c
    memory = device.gpu().scratch("parts of products", (batches * parts * m * n,), c.dtype)
    return Target(memory, 0, n, parts * m * n, c.dtype.type(0), memory[:0], 0)


def add_parts(partial: Target, target: Target, batches: int, parts: int, m: int, n: int) -> None:
    """Adds the parts of each element, in an order that depends only on the number of parts."""
    c, at, ld, step, *rest = target
    rows = _ROWS if parts >= _MANY else 1
    grid, threads = (blocks(m * n, THREADS // rows), 1, batches), (THREADS // rows, rows)
    start(_add_parts, grid, threads, partial.c, (parts, m, n), c, (at, ld, step), *rest)


@kernel
def _add_parts(partial, shape, c, form, beta, bias, rectify):
    """Each row of threads in a block adds every rows-th part. The first row of threads then adds these sums."""
    parts, m, n = shape
    at, ld, step = form
    sums = cuda.shared.array(THREADS, c.dtype)
    column, width, row, rows = cuda.threadIdx.x, cuda.blockDim.x, cuda.threadIdx.y, cuda.blockDim.y
    e, batch, total = cuda.blockIdx.x * width + column, cuda.blockIdx.z, c.dtype.type(0)
    if e < m * n:
        for part in range(batch * parts + row, (batch + 1) * parts, rows):
            total += partial[part * m * n + e]
    if rows > 1:
        sums[row * width + column] = total
        cuda.syncthreads()
    if row == 0 and e < m * n:
        for other in range(1, rows):
            total += sums[other * width + column]
        i = e // n
        j = e - i * n
        at += batch * step + i * ld + j
        c[at] = outcome(total, c, at, beta, bias, j, rectify)
