"""Twins of dense.py: matrix products, and the gradient of relu. The products themselves are in loops/gemm.py."""

from numba import cuda

from nbkeras.kernels.cuda import reduce as reduce_cuda
from nbkeras.kernels.cuda.loops import gemm as gemm_cuda
from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, size, start
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_COLUMNS, _ROWS = size(32, simulated=4), size(8, simulated=2)  # threads of a block, along columns and rows
_MINIMUM = size(64, simulated=4)  # minimum rows of a part of a sum


def multiply(ta, tb, a, b, bias, c, batches, m, n, k, depth, lda, ldb, a_step, b_step, rows, columns, rectify) -> None:
    """C[i] = op(A[i]) @ op(B[i]) + bias, or its positive part if rectify. Only the CPU uses `depth`, `rows` and `columns`."""
    operands = a, 0, lda, b, 0, ldb, 0, c, 0, n
    gemm_cuda.product(ta, tb, m, n, k, *operands, bias, rectify, batches, a_step, b_step, m * n)


def rectifier_backward(y: DeviceArray, dy: DeviceArray, dz: DeviceArray, partial: DeviceArray, block: int) -> None:
    """dz = dy where y > 0, else 0; partial[i] = column sums of the i-th block of rows of dz."""
    n, count = y.shape[1], partial.shape[0]
    across = blocks(n, _COLUMNS)
    parts = max(1, min(block // _MINIMUM, 8 * device.gpu().processors // (across * count)))
    part = blocks(block, parts)
    parts, sums = blocks(block, part), partial
    if parts > 1:
        sums = device.gpu().scratch("rectifier_backward", (count * parts, n), dy.dtype)
    start(_rectify, (count * parts, across), (_COLUMNS, _ROWS), y, dy, dz, sums, block, part, parts)
    if parts > 1:
        reduce_cuda.sum_blocks(sums.reshape(count, parts, n), partial.reshape(count, 1, n))


@kernel
def _rectify(y, dy, dz, sums, block, part, parts):
    total = cuda.shared.array((_ROWS, _COLUMNS), dy.dtype)
    x, which, zero = cuda.threadIdx.x, cuda.blockIdx.x, dy.dtype.type(0)
    j = cuda.blockIdx.y * _COLUMNS + x
    of_block = which // parts * block
    first = of_block + which % parts * part
    last = min(dy.shape[0], of_block + block, first + part)
    mine = zero
    if j < dy.shape[1]:
        for i in range(first + cuda.threadIdx.y, last, _ROWS):
            slope = dy[i, j] if y[i, j] > zero else zero
            dz[i, j] = slope
            mine += slope
    total[cuda.threadIdx.y, x] = mine
    cuda.syncthreads()
    if cuda.threadIdx.y == 0 and j < dy.shape[1]:
        for i in range(1, _ROWS):
            mine += total[i, x]
        sums[which, j] = mine
