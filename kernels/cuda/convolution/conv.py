"""The twin of conv.py's only kernel. implicit_gemm.py has the twins of convolution itself."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, size, start
from nbkeras.kernels.runtime.device_array import DeviceArray

# threads of a block, along the units and along the positions
_COLUMNS, _ROWS = size(32, simulated=3), size(8, simulated=2)


@kernel
def _sum_blocks(dy, y, dz, partials, count, rows, units, relu):
    sums = cuda.shared.array((_ROWS, _COLUMNS), dy.dtype)
    x, row, block = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.x
    unit, zero = cuda.blockIdx.y * _COLUMNS + x, dy.dtype.type(0)
    total = zero
    if unit < units:
        for position in range(rows * block // count + row, rows * (block + 1) // count, _ROWS):
            at = position * units + unit
            value = dy[at]
            if relu:
                if not y[at] > zero:
                    value = zero
                dz[at] = value
            total += value
    sums[row, x] = total
    cuda.syncthreads()
    if row == 0 and unit < units:
        for other in range(1, _ROWS):
            total += sums[other, x]
        partials[block * units + unit] = total


def sum_blocks(dy: DeviceArray, y: DeviceArray, dz: DeviceArray, partials: DeviceArray, units: int, relu: bool) -> None:
    """Sums each block of rows of dy into partials[block]; with relu, also dz = dy where y > 0, else 0. All are flat."""
    count = partials.size // units
    grid = count, blocks(units, _COLUMNS)
    start(_sum_blocks, grid, (_COLUMNS, _ROWS), dy, y, dz, partials, count, dy.size // units, units, bool(relu))
