"""Host code that the twins of the recurrent families share. It chooses how to run the steps, and computes the products.

x times the kernel is one matrix product for all steps, and so are the gradients of x and of the weights. The recurrence itself
runs in one kernel, in a block (`fits_block`) or over the grid (`run_over_grid`), see steps.py. If neither fits, the steps run one
by one: each is a matrix product and a kernel for the gates.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda import reduce as reduce_cuda
from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, kernel, start, start_each
from nbkeras.kernels.cuda.recurrent import steps
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.recurrent.recurrence import Backward, Forward
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_SHARED = 32768  # most bytes of operands in a block's shared memory


def fits_block(dtype: np.dtype, batch: int, units: int) -> bool:
    """True if the recurrence runs in blocks of one sample each: float32, few units, not too many samples."""
    few = units <= steps.MOST_UNITS // 2 or batch <= 2 * device.gpu().processors
    return dtype == np.float32 and units <= steps.MOST_UNITS and few


def block_threads(units: int) -> int:
    """Returns the threads of a block of one sample: 16 for 4 units."""
    return blocks(blocks(units, 4) * 16, 32) * 32


def pack(recurrent_kernel: DeviceArray, gates: int, backward: bool) -> DeviceArray:
    """Packs the recurrent kernel in the order that a block's threads read it: term by term, one number per thread.

    Forward: four lanes share a unit, whose gates are the columns, and each lane takes every fourth term. Backward: 16 lanes share
    four units, which are the columns, and each gate has a group of terms.
    """
    units = recurrent_kernel.shape[0]
    lanes, groups, columns = (16, gates, 4) if backward else (4, 1, gates)
    terms = blocks(units, lanes * steps.CHUNK) * steps.CHUNK
    packed = scratch("weights", groups * terms * columns * steps.BLOCK, recurrent_kernel.dtype)
    shape, grid = (terms, columns, units, gates * units), (groups * terms * columns, block_threads(units) // 32)
    start(_pack, grid, 32, recurrent_kernel.reshape(-1), packed, shape, int(backward))
    return packed


@kernel
def _pack(recurrent_kernel, packed, shape, backward):
    terms, columns, units, width = shape
    index, thread = cuda.blockIdx.x, cuda.blockIdx.y * 32 + cuda.threadIdx.x
    column, term, group = index % columns, index // columns % terms, index // columns // terms
    if backward != 0:
        unit, k = thread // 16 * 4 + column, term * 16 + thread % 16
        at = unit * width + group * units + k
    else:
        unit, k = thread // 4, term * 4 + thread % 4
        at = k * width + column * units + unit
    exists = unit < units and k < units
    packed[index * steps.BLOCK + thread] = recurrent_kernel[at] if exists else packed.dtype.type(0)


_resident: dict[tuple, int] = {}


def run_at_once(
    block: Kernel, grid: Kernel, recurrent_kernel: DeviceArray, gates: int, args: tuple, first: tuple | None = None
) -> bool:
    """Runs all steps in one kernel, `block(packed, *args)` or `grid(weights, *args, ...)`. Returns False if neither fits.

    args: its last items are the sizes (batch, length, units) and the codes. first: see `run_over_grid`; None in the backward
    pass.
    """
    (batch, _, units), backward = args[-2], first is None
    if fits_block(recurrent_kernel.dtype, batch, units):
        start(block, batch, block_threads(units), pack(recurrent_kernel, gates, backward), *args)
        return True
    columns, terms = (1, gates * units) if backward else (gates, units)
    return run_over_grid(grid, batch, units, columns, terms, (recurrent_kernel.reshape(-1), *args), first)


def run_over_grid(kernel: Kernel, batch: int, units: int, columns: int, terms: int, args: tuple, first=None) -> bool:
    """Starts `kernel(*args, operands, counter, tiles)`, a recurrence over the grid, if registers can hold the recurrent kernel.

    Returns False if they cannot, and for float64, which needs too many registers.

    columns: of a unit. terms: the numbers of an operand. args: the first array has the dtype of all. first: (h0, drop), from
    which the first operands are made if they are not 0. The kernel gets operands: memory for two arrays (samples, terms), rounded
    up and padded with 0, one of which is read while the other is written; counter, for `meet`; tiles: (log2 of the number of
    parts that the terms are cut into, terms per part, samples at a time, units per block, blocks for all units, samples rounded
    up).
    """
    gpu, dtype, bits = device.gpu(), args[0].dtype, 0
    while bits < steps.WARP_BITS and terms > steps.LANES * steps.TERMS << bits:
        bits += 1
    share, own = (
        blocks(terms, steps.HALF * steps.LANES << bits) * steps.HALF * steps.LANES,
        (steps.WARPS >> bits) * steps.COLUMNS // columns,
    )
    if dtype != np.float32 or share > steps.LANES * steps.TERMS or not own:
        return False
    width, slices, key = share << bits, blocks(units, own), (gpu, kernel)
    rows = min(steps.GRID // own, _SHARED // (width * dtype.itemsize), steps.MOST_ROWS) // steps.ROWS * steps.ROWS
    if key not in _resident:
        like = (*args, args[0], scratch("counter", 1, np.int32), (0,) * 6)
        _resident[key] = gpu.resident_blocks(kernel, steps.GRID, like, _SHARED)
    if not rows or slices > _resident[key]:
        return False
    apart = min(_resident[key] // slices, blocks(batch, steps.ROWS))
    rows = min(rows, blocks(blocks(batch, apart), steps.ROWS) * steps.ROWS)
    apart, most = min(apart, blocks(batch, rows)), blocks(batch, rows) * rows
    room = scratch("operands", 4 + 2 * most * width, dtype)
    device_cuda.fill(room, 0)
    counter, operands, (h0, drop) = room[:4].view(np.int32), room[4:], first or (room[:0], room[:0])
    if h0.size:
        times_drop(h0, drop, operands, units, units, width)
    args = *args, operands, counter, (bits, share, rows, own, slices, most)
    start(kernel, slices * apart, steps.GRID, *args, cooperative=True, shared=rows * width * dtype.itemsize)
    return True


def scratch(name: str, count: int, dtype) -> DeviceArray:
    """Returns memory for `count` numbers, valid until the twin returns."""
    return device.gpu().scratch(f"recurrent {name}", (count,), dtype)


# -------------------- for all steps --------------------


def sizes_of(a: Forward) -> tuple[int, int, int]:
    """Returns (batch, length, units)."""
    return *a.x.shape[:2], a.recurrent_kernel.shape[0]


def input_product(x: DeviceArray, kernel: DeviceArray, z: DeviceArray) -> None:
    """Computes z = x @ kernel for all samples and steps."""
    (features, width), rows = kernel.shape, x.shape[0] * x.shape[1]
    product(False, False, rows, width, features, x, 0, features, kernel, 0, width, 0.0, z, 0, width)


def input_gradients(a: Backward) -> None:
    """Computes dw = x^T dz and dx = dz @ kernel^T, if they are needed."""
    rows, features = a.batch * a.length, a.features
    width = a.dz.size // rows
    if a.dw.size:
        product(True, False, features, width, rows, a.xt, 0, features, a.dz, 0, width, 0.0, a.dw, 0, width)
    if a.dx.size:
        product(False, True, rows, features, width, a.dz, 0, width, a.kernel, 0, width, 0.0, a.dx, 0, features)


def weight_gradients(a: Backward) -> None:
    """Computes dx and the weights' gradients for a family that multiplies h by the whole recurrent kernel at once."""
    units, rows = a.units, a.batch * a.length
    width = a.dz.size // rows
    input_gradients(a)
    if a.du.size:
        product(True, False, units, width, rows, operands(a), 0, units, a.dz, 0, width, 0.0, a.du, 0, width)
    if a.db.size:
        sum_rows(a.dz, width, a.db)


def sum_rows(dz: DeviceArray, width: int, total: DeviceArray) -> None:
    """Computes total, the sum of dz's rows."""
    reduce_cuda.fold(dz.reshape(-1, width), np.add, (0,), total)


def operands(a: Backward) -> DeviceArray:
    """Returns the factors that the recurrent kernel had in all steps, from the history of h."""
    if not a.drop.size:
        return a.h
    times_drop(a.h[: a.batch * a.length * a.units], a.drop, a.dropped, a.length * a.units, a.units, a.units)
    return a.dropped


# -------------------- step by step --------------------


def first_operand(a: Forward) -> DeviceArray:
    """Returns the factor of the recurrent kernel in the first step: the initial h times `drop`."""
    if not a.drop.size or not a.h0.size:
        return a.h0
    units = a.recurrent_kernel.shape[0]
    times_drop(a.h0, a.drop, a.dropped, units, units, units)
    return a.dropped


def run_by_steps(step_kernel: Kernel, a: Forward, z: DeviceArray, args: tuple) -> None:
    """For each step, adds a product with the whole recurrent kernel to z, and runs `step_kernel(*args, dropped, step)`."""
    batch, length, units = sizes_of(a)
    weights, width, operand = a.recurrent_kernel.reshape(-1), a.recurrent_kernel.shape[1], first_operand(a)
    for step in range(length):
        at = width * (length - 1 - step if a.backwards else step)
        if step or a.h0.size:
            product(False, False, batch, width, units, operand, 0, units, weights, 0, width, 1.0, z, at, length * width)
        start_each(step_kernel, batch * units, *args, a.dropped, step)
        operand = a.dropped if a.drop.size else a.h_last


def run_back_by_steps(step_kernel: Kernel, a: Backward, args: tuple) -> None:
    """For each step, last first, runs `step_kernel(*args, temporary, step)` and writes the product of its dz to temporary."""
    batch, length, units, dz, temporary = a.batch, a.length, a.units, a.dz, a.temporary
    weights, width = a.recurrent_kernel.reshape(-1), dz.size // (batch * length)
    for step in range(length - 1, -1, -1):
        start_each(step_kernel, batch * units, *args, temporary, step)
        if step or a.needs_h0:
            at = width * (length - 1 - step if a.backwards else step)
            product(
                False, True, batch, units, width, dz, at, length * width, weights, 0, width, 0.0, temporary, 0, units
            )  # fmt: skip
    if a.needs_h0:
        add_product(temporary, a.drop, a.dh)


# -------------------- factors of h --------------------


def times_drop(a: DeviceArray, drop: DeviceArray, target: DeviceArray, count: int, units: int, width: int) -> None:
    """target = a times the sample's factors. a has `count` numbers for each sample; its rows of `units` are `width` apart."""
    start_each(_times_drop, a.size, a, drop, target, count, units, width)


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
    """target += a * drop; an absent `drop` is 1."""
    start_each(_add_product, target.size, a, drop, target)
