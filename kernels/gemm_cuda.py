"""Matrix products on a GPU: `product`, row-major, any transpose, leading dimension, offset, beta, batches, bias and relu."""

from numba import cuda

from nbkeras.kernels.cuda_kernel import blocks, kernel, size, start
from nbkeras.kernels.device_array import DeviceArray

_SIDE = size(16, simulated=4)
_MOST_BATCHES = 65535  # the most blocks along z


def product(
    ta: bool,
    tb: bool,
    m: int,
    n: int,
    k: int,
    a: DeviceArray,
    a_at: int,
    lda: int,
    b: DeviceArray,
    b_at: int,
    ldb: int,
    beta: float,
    c: DeviceArray,
    c_at: int,
    ldc: int,
    bias: DeviceArray | None = None,
    rectify: bool = False,
    batches: int = 1,
    a_step: int = 0,
    b_step: int = 0,
    c_step: int = 0,
) -> None:
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C (+ bias, then its positive part if rectify), for each of `batches`.

    a, b, c: contiguous arrays of one dtype, float32 or float64, taken as flat memory; c overlaps neither a nor b. a_at, b_at,
    c_at: where the first element is; lda, ldb, ldc: elements from one stored row to the next (at least its length). ta, tb:
    whether A or B is stored transposed: (k, m), (n, k). With beta 0, C is not read. bias (n,), None or of size 0. The i-th
    product is at a_at + i * a_step, b_at + i * b_step, c_at + i * c_step; a step of 0 uses one matrix for all. k = 0 sums
    nothing. The same shapes give the same bits each time.
    """
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    bias = c[:0] if bias is None else bias
    tiles = blocks(n, _SIDE), blocks(m, _SIDE)
    for first in range(0, batches, _MOST_BATCHES):
        places = (
            a_at + first * a_step,
            lda,
            a_step,
            b_at + first * b_step,
            ldb,
            b_step,
            c_at + first * c_step,
            ldc,
            c_step,
        )
        grid = (*tiles, min(_MOST_BATCHES, batches - first))
        factor = c.dtype.type(beta)
        start(_product, grid, (_SIDE, _SIDE), int(ta), int(tb), m, n, k, a, b, c, places, factor, bias, int(rectify))


@kernel
def _product(ta, tb, m, n, k, a, b, c, places, beta, bias, rectify):
    a_at, lda, a_step, b_at, ldb, b_step, c_at, ldc, c_step = places
    left = cuda.shared.array((_SIDE, _SIDE), a.dtype)
    right = cuda.shared.array((_SIDE, _SIDE), b.dtype)
    x, y, z = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
    i, j = cuda.blockIdx.y * _SIDE + y, cuda.blockIdx.x * _SIDE + x
    a_at, b_at, c_at = a_at + z * a_step, b_at + z * b_step, c_at + z * c_step
    zero = c.dtype.type(0)
    total = zero
    for p in range(0, k, _SIDE):
        left[y, x] = zero
        if i < m and p + x < k:
            left[y, x] = a[a_at + (p + x) * lda + i] if ta != 0 else a[a_at + i * lda + p + x]
        right[y, x] = zero
        if p + y < k and j < n:
            right[y, x] = b[b_at + j * ldb + p + y] if tb != 0 else b[b_at + (p + y) * ldb + j]
        cuda.syncthreads()
        for q in range(_SIDE):
            total += left[y, q] * right[q, x]
        cuda.syncthreads()
    if i < m and j < n:
        at = c_at + i * ldc + j
        if beta != zero:
            total += beta * c[at]
        if bias.size:
            total += bias[j]
        if rectify != 0 and total < zero:
            total = zero
        c[at] = total
