"""What the twins of the recurrent families share on the host: which way to take the steps, and the products of all steps.

x times the kernel is one matrix product for all steps, as are the gradients of x and of the weights. What comes step after step
runs in one kernel, in a block (`fits_block`) or over the grid (`run_over_grid`), see steps.py. What fits neither way
takes its steps one by one: a matrix product and a kernel for the gates.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda import reduce as reduce_cuda
from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, kernel, size, start
from nbkeras.kernels.cuda.recurrent.steps import (
    BLOCK,
    CHUNK,
    COLUMNS,
    GRID,
    HALF,
    LANES,
    MOST_ROWS,
    MOST_UNITS,
    ROWS,
    TERMS,
    WARP_BITS,
    WARPS,
)
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

THREADS = size(256, simulated=8)
_SHARED = 32768  # bytes of operands in a block's shared memory


def fits_block(dtype: np.dtype, batch: int, units: int) -> bool:
    """Whether the recurrence is to run in blocks of one sample each: float32, few units, and not many samples for those."""
    few = units <= MOST_UNITS // 2 or batch <= 2 * device.place().processors
    return dtype == np.float32 and units <= MOST_UNITS and few


def block_threads(units: int) -> int:
    """Threads of a block for one sample: 16 for 4 units."""
    return blocks(blocks(units, 4) * 16, 32) * 32


def pack(recurrent_kernel: DeviceArray, gates: int, backward: bool) -> DeviceArray:
    """The recurrent kernel in the order in which the threads of a block read it, term by term, one number for each thread.

    Forward: four lanes for a unit, columns its gates, each lane every fourth term. Backward: 16 lanes for four units, which are
    the columns, and a group of terms for each gate.
    """
    units = recurrent_kernel.shape[0]
    lanes, groups, columns = (16, gates, 4) if backward else (4, 1, gates)
    terms = blocks(units, lanes * CHUNK) * CHUNK
    packed = scratch("weights", groups * terms * columns * BLOCK, recurrent_kernel.dtype)
    shape, grid = (terms, columns, units, gates * units), (groups * terms * columns, block_threads(units) // 32)
    start(_pack, grid, 32, recurrent_kernel.reshape(-1), packed, shape, int(backward))
    return packed


@kernel
def _pack(recurrent_kernel, packed, shape, backward):
    terms, columns, units, width = shape
    place, thread = cuda.blockIdx.x, cuda.blockIdx.y * 32 + cuda.threadIdx.x
    column, term, group = place % columns, place // columns % terms, place // columns // terms
    if backward != 0:
        unit, k = thread // 16 * 4 + column, term * 16 + thread % 16
        at = unit * width + group * units + k
    else:
        unit, k = thread // 4, term * 4 + thread % 4
        at = k * width + column * units + unit
    here = unit < units and k < units
    packed[place * BLOCK + thread] = recurrent_kernel[at] if here else packed.dtype.type(0)


_resident: dict[tuple, int] = {}


def run_over_grid(kernel: Kernel, batch: int, units: int, columns: int, terms: int, args: tuple, first=None) -> bool:
    """Start `kernel(*args, operands, counter, tiles)`, a recurrence over the grid, if its registers hold the recurrent kernel.

    False where they do not, and for float64, of which they hold too little to be worth it.

    columns: of a unit. terms: numbers of an operand. args: its first array has the dtype of all. first: (h0, drop), what
    makes the first operands where they are not 0. Kernels get: operands, room for two times (samples, terms), of which one is
    read while the other is written, rounded up and 0 beyond; counter, for `meet`; tiles, (binary logarithm of the number of
    parts that the terms are cut into, terms of a part, samples at a time, units of a block, blocks for all units, samples
    rounded up).
    """
    place, dtype, bits = device.place(), args[0].dtype, 0
    while bits < WARP_BITS and terms > LANES * TERMS << bits:
        bits += 1
    share, own = blocks(terms, HALF * LANES << bits) * HALF * LANES, (WARPS >> bits) * COLUMNS // columns
    if dtype != np.float32 or share > LANES * TERMS or not own:
        return False
    width, slices, key = share << bits, blocks(units, own), (place, kernel)
    rows = min(GRID // own, _SHARED // (width * dtype.itemsize), MOST_ROWS) // ROWS * ROWS
    if key not in _resident:
        like = (*args, args[0], scratch("counter", 1, np.dtype(np.int32)), (0,) * 6)
        _resident[key] = place.resident_blocks(kernel, GRID, like, _SHARED)
    if not rows or slices > _resident[key]:
        return False
    apart = min(_resident[key] // slices, blocks(batch, ROWS))
    rows = min(rows, blocks(blocks(batch, apart), ROWS) * ROWS)
    apart, most = min(apart, blocks(batch, rows)), blocks(batch, rows) * rows
    room = scratch("operands", 4 + 2 * most * width, dtype)
    device_cuda.fill(room, 0)
    counter, operands, (h0, drop) = room[:4].view(np.int32), room[4:], first or (room[:0], room[:0])
    if h0.size:
        times_drop(h0, drop, operands, units, units, width)
    args = *args, operands, counter, (bits, share, rows, own, slices, most)
    start(kernel, slices * apart, GRID, *args, cooperative=True, shared=rows * width * dtype.itemsize)
    return True


def scratch(name: str, count: int, dtype) -> DeviceArray:
    """Room for `count` numbers until the twin returns."""
    nbytes = count * dtype.itemsize
    return device.place().scratch(f"recurrent {name}", nbytes)[:nbytes].view(dtype)


# -------------------- for all steps --------------------


def input_product(x: DeviceArray, kernel: DeviceArray, z: DeviceArray) -> None:
    """z = x @ kernel, for all samples and steps."""
    (features, width), rows = kernel.shape, x.shape[0] * x.shape[1]
    product(False, False, rows, width, features, x, 0, features, kernel, 0, width, 0.0, z, 0, width)


def input_gradients(x, kernel, turned: int, dz, dx, dw, width: int, features: int) -> None:
    """dw = x^T dz and dx = dz @ kernel^T where they are needed; turned: 0 where `kernel` is transposed already."""
    rows = dz.size // width
    if dw.size:
        product(True, False, features, width, rows, x, 0, features, dz, 0, width, 0.0, dw, 0, width)
    if dx.size:
        ldb = width if turned else features
        product(False, bool(turned), rows, features, width, dz, 0, width, kernel, 0, ldb, 0.0, dx, 0, features)


def sum_rows(dz: DeviceArray, width: int, total: DeviceArray) -> None:
    """total = the sum of dz's rows."""
    reduce_cuda.fold(dz.reshape(-1, width), np.add, (0,), total)


def operands(
    h: DeviceArray, drop: DeviceArray, dropped: DeviceArray, batch: int, length: int, units: int
) -> DeviceArray:
    """What was multiplied by the recurrent kernel in each step, from the history of h; `dropped` is room for it."""
    if not drop.size:
        return h
    times_drop(h[: batch * length * units], drop, dropped, length * units, units, units)
    return dropped


def times_drop(a: DeviceArray, drop: DeviceArray, target: DeviceArray, count: int, units: int, width: int) -> None:
    """target = a, of `count` numbers for each sample, times the sample's factors; rows of `units` start `width` apart there."""
    start(_times_drop, blocks(a.size, THREADS), THREADS, a, drop, target, count, units, width)


@kernel
def _times_drop(a, drop, target, count, units, width):
    i = cuda.grid(1)
    if i < a.size:
        unit = i % units
        factor = drop[i // count * units + unit] if drop.size > 0 else a.dtype.type(1)
        target[i // units * width + unit] = a[i] * factor


@kernel
def _add_product(a, drop, target):
    i = cuda.grid(1)
    if i < target.size:
        target[i] += a[i] * drop[i] if drop.size else a[i]


def add_product(a: DeviceArray, drop: DeviceArray, target: DeviceArray) -> None:
    """target += a * drop; an absent factor is 1."""
    start(_add_product, blocks(target.size, THREADS), THREADS, a, drop, target)
