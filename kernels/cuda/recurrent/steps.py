"""Device functions for the steps of a recurrence: activations, masks, outputs, and the product with the recurrent kernel.

A step multiplies the result of the previous step, the *operand*, by the recurrent kernel. The kernel's numbers stay in registers
for all steps. There are two ways:

* *in a block*: a block has one sample, so a barrier of the block separates two steps. Neighbouring lanes share a few columns:
  each lane sums its terms of all these columns, and shuffles add the sums of the lanes.
* *over the grid*: a block has some columns and many samples, and gets operands from the other blocks through memory. The lanes
  of a warp share COLUMNS columns and process ROWS samples at a time.

Arrays of all steps are batch-major and in x's order of time. A *history* holds the state before each step (batch, length, units)
and then the state after the last one (batch, units). Offsets are uint64: for signed ones Numba adds code for negative indices.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.registers import load_quad, store_quad
from nbkeras.kernels.cuda.machine import SIMULATED
from nbkeras.kernels.cuda.machine.kernel import device_function, device_module, size
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent.recurrence import HARD_SIGMOID, LEGACY_HARD_SIGMOID, RELU, SIGMOID, TANH

uint64 = np.uint64
formulas = device_module(recurrence)
EVERYONE = 0xFFFFFFFF

# In a block
MOST_UNITS = size(128, simulated=20)
BLOCK = size(512, simulated=96)  # most threads of a block: for ROOM units
ROOM = size(128, simulated=32)  # most numbers of an operand; lanes take 16 at a time
CHUNK = size(4, simulated=1)  # a lane multiplies this many terms without a check

# Over the grid
LANES = size(32, simulated=8)
ROWS = size(4, simulated=2)
COLUMNS = size(8, simulated=4)
SUMS = size(32, simulated=8)  # ROWS * COLUMNS; each lane ends with one sum
TERMS = size(8, simulated=2)  # most terms that a lane takes of each column
HALF = size(4, simulated=1)  # TERMS / 2
HELD = size(64, simulated=8)  # TERMS * COLUMNS: numbers of the recurrent kernel in a thread's registers
WARPS = size(8, simulated=4)
WARP_BITS = size(3, simulated=2)
GRID = size(256, simulated=32)  # threads of a block: WARPS * LANES
MOST_ROWS = size(16, simulated=8)  # most samples at a time
ROOM_OF_SUMS = size(1024, simulated=128)  # MOST_ROWS / ROWS * GRID

if SIMULATED:

    def quotient(x, y):
        return x / y

    @device_function
    def meet(counter, target):
        cuda.cg.this_grid().sync()

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    @intrinsic
    def quotient(typing, x, y):
        """Returns x / y, in float32 to 2 ulp. Exact division calls a subroutine, which needs free registers."""

        def generate(context, builder, signature, args):
            if signature.return_type.bitwidth == 64:
                return builder.fdiv(*args)
            name, kind = "__nv_fast_fdividef", ir.FunctionType(args[0].type, [args[0].type] * 2)
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            return builder.call(function, args)

        return x(x, y), generate

    def _assembly(context, builder, signature, args, text, kind, constraints):
        """Emits inline assembly on the address of the array args[0]."""
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.ptrtoint(data, ir.IntType(64))
        return builder.asm(ir.FunctionType(kind, [address.type]), text, constraints, [address], True)

    @intrinsic
    def _arrive(typing, counter):
        """Adds 1 to counter[0]. Other blocks then see what this block's threads wrote before their last barrier."""

        def generate(context, builder, signature, args):
            text = "fence.acq_rel.gpu; red.relaxed.gpu.add.s32 [$0], 1;"
            _assembly(context, builder, signature, args, text, ir.VoidType(), "l,~{memory}")
            return context.get_dummy_value()

        return types.void(counter), generate

    @intrinsic
    def _count_of(typing, counter):
        """Returns counter[0]. Afterwards the writes of the counted blocks are visible."""

        def generate(context, builder, signature, args):
            text = "ld.acquire.gpu.s32 $0, [$1];"
            return _assembly(context, builder, signature, args, text, ir.IntType(32), "=r,l,~{memory}")

        return types.int32(counter), generate

    @device_function
    def meet(counter, target):
        """Waits until all blocks have arrived (counter[0] is `target`). Afterwards their earlier writes are visible.

        The barrier of cooperative groups does the same, but must be linked; kernels then get fewer registers.
        """
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            _arrive(counter)
            while _count_of(counter) < target:
                pass
        cuda.syncthreads()


@device_function
def activate(code, x, like):
    """Returns f(x) in the dtype of the array `like`."""
    zero, one = like.dtype.type(0), like.dtype.type(1)
    if code == TANH:
        return math.tanh(x)
    if code == SIGMOID:
        return quotient(one, one + math.exp(-x))
    if code == RELU:
        return zero if x < zero else x
    if code == HARD_SIGMOID or code == LEGACY_HARD_SIGMOID:
        slope = like.dtype.type(1 / 6) if code == HARD_SIGMOID else like.dtype.type(0.2)
        end = like.dtype.type(3) if code == HARD_SIGMOID else like.dtype.type(2.5)
        y = (x + end) * slope
        y = zero if y < zero else y
        return one if y > one else y
    return x


@device_function
def slope(code, y, like):
    """Returns f'(x) from y = f(x); NaN stays NaN."""
    a, b, c, low, high = formulas.slopes(code, like)
    return formulas.slope(y, a, b, c, low, high)


# -------------------- offsets: the *spot* of a sample's step is row * length + time --------------------


@device_function
def spot_of(row, step, length, backwards):
    """Returns the spot of a sample's step in x."""
    return row * length + (length - 1 - step if backwards != 0 else step)


@device_function
def is_masked(mask, spot):
    return mask.size > 0 and mask[uint64(spot)] == 0


@device_function
def first_state(state, at, like):
    """Returns an initial state, or 0 if it is absent."""
    return state[uint64(at)] if state.size > 0 else like.dtype.type(0)


@device_function
def running_state(first, last, at, steps):
    """Returns a state before a step: the initial one before the first step, else the one in `last`."""
    return first_state(first, at, last) if steps == 0 else last[uint64(at)]


@device_function
def factor_of(drop, at, like):
    """Returns the factor of an operand."""
    return drop[uint64(at)] if drop.size > 0 else like.dtype.type(1)


@device_function
def keep_state(history, before, after, row, spot, step, unit, sizes):
    """Writes the state before a step; for the last step also the state after it."""
    batch, length, units = sizes
    history[uint64(spot * units + unit)] = before
    if step == length - 1:
        history[uint64((batch * length + row) * units + unit)] = after


@device_function
def state_before(history, row, step, unit, sizes, backwards):
    """Returns the state before a step. Before step `length` this is the state after the last step."""
    batch, length, units = sizes
    spot = batch * length + row if step == length else spot_of(row, step, length, backwards)
    return history[uint64(spot * units + unit)]


@device_function
def write_output(y, value, output_mask, row, spot, step, unit, sizes, sequences):
    """Writes a step's output: the value, or 0 if it is masked. output_mask: of size 0 unless masked outputs are 0."""
    _, length, units = sizes
    if sequences != 0 or step == length - 1:
        shown = y.dtype.type(0) if is_masked(output_mask, spot) else value
        y[uint64((row * length + step if sequences != 0 else row) * units + unit)] = shown


@device_function
def output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, like):
    """Returns the gradient of a step's output; the backward pass of `write_output`."""
    _, length, units = sizes
    if dy.size == 0 or (sequences == 0 and step < length - 1) or is_masked(output_mask, spot):
        return like.dtype.type(0)
    return dy[uint64((row * length + step if sequences != 0 else row) * units + unit)]


# -------------------- in a block --------------------


@device_function
def clear(operand, count):
    """Sets operand[:count] to 0. (A `range` with a step would divide, which calls a subroutine; see `quotient`.)"""
    i = cuda.threadIdx.x
    while i < count:
        operand[uint64(i)] = operand.dtype.type(0)
        i += cuda.blockDim.x


@device_function
def terms_of(units, lanes):
    """Returns the number of terms of a group that each lane takes: a multiple of CHUNK."""
    return (units + lanes * CHUNK - 1) // (lanes * CHUNK) * CHUNK


@device_function
def hold(u, packed, groups, held, terms, columns):
    """Loads the first `held` of a lane's terms of each group into registers.

    packed: the result of recurrence.pack, with `terms` terms per group, a multiple of CHUNK.
    """
    zero, thread = packed.dtype.type(0), cuda.threadIdx.x
    for s in range(groups):
        for i in range(held):
            for c in range(columns):
                weight = zero
                if i < terms:
                    weight = packed[uint64(((s * terms + i) * columns + c) * BLOCK + thread)]
                u[(s * held + i) * columns + c] = weight


@device_function
def add_terms(sums, u, packed, group, held, terms, columns, operand, at, lanes):
    """Adds the lane's terms of a group to the columns' sums. Term i is operand[at + i * lanes]."""
    for chunk in range(0, held, CHUNK):
        if chunk < terms:
            for i in range(chunk, chunk + CHUNK):
                value = operand[uint64(at + i * lanes)]
                for c in range(columns):
                    sums[c] += value * u[(group * held + i) * columns + c]
    chunk, index = held, (group * terms + held) * columns * BLOCK + cuda.threadIdx.x
    while chunk < terms:
        for i in range(CHUNK):
            value = operand[uint64(at + (chunk + i) * lanes)]
            for c in range(columns):
                sums[c] += value * packed[uint64(index + (i * columns + c) * BLOCK)]
        chunk, index = chunk + CHUNK, index + CHUNK * columns * BLOCK


@device_function
def sum_of_lane(sums, lane):
    """Returns to each lane the sum of sums[lane % 4] over four neighbouring lanes."""
    odd, upper = lane & 1, lane & 2
    kept, sent = (sums[1], sums[0]) if odd else (sums[0], sums[1])
    a = kept + cuda.shfl_xor_sync(EVERYONE, sent, 1)
    kept, sent = (sums[3], sums[2]) if odd else (sums[2], sums[3])
    b = kept + cuda.shfl_xor_sync(EVERYONE, sent, 1)
    kept, sent = (b, a) if upper else (a, b)
    return kept + cuda.shfl_xor_sync(EVERYONE, sent, 2)


@device_function
def product_back(sums, u, packed, groups, held, terms, operand, at):
    """Returns the backward product of a unit to each of its four lanes; see recurrence.pack."""
    thread = cuda.threadIdx.x
    for k in range(4):
        sums[k] = packed.dtype.type(0)
    for group in range(groups):
        add_terms(sums, u, packed, group, held, terms, 4, operand, at + group * ROOM + (thread & 15), 16)
    value = sum_of_lane(sums, thread)
    value += cuda.shfl_xor_sync(EVERYONE, value, 4)
    return value + cuda.shfl_xor_sync(EVERYONE, value, 8)


# -------------------- over the grid --------------------


@device_function
def hold_columns(u, weights, first, units, gates, strides, terms, tiles):
    """Loads this warp's columns into registers. Column c is gate c % gates of unit first + c // gates; 0 beyond the last unit.

    strides: the distances of units, gates and terms in `weights`. terms: the number for all lanes and parts.
    """
    bits, share, _, own, _, _ = tiles
    of_unit, of_gate, of_term = strides
    warp, lane = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
    part, group = warp >> (WARP_BITS - bits), warp & ((WARPS >> bits) - 1)
    begin, end = part * share + lane, min(terms, (part + 1) * share)
    for c in range(COLUMNS):
        column = group * COLUMNS + c
        unit = first + column // gates
        at = unit * of_unit + column % gates * of_gate
        exists = column < own * gates and unit < units
        for i in range(TERMS):
            weight, term = weights.dtype.type(0), begin + i * LANES
            if exists and term < end:
                weight = weights[uint64(at + term * of_term)]
            u[i * COLUMNS + c] = weight


@device_function
def multiply(u, exchange, at, operand, sums, tiles):
    """Writes the products of the block's columns with the operands at exchange[at] to `sums`, see `total`. All threads call it.

    operand: shared memory for the operands.
    """
    bits, share, rows, _, _, _ = tiles
    thread, width = cuda.threadIdx.x, share << bits
    e, end, step = 4 * thread, rows * width, 4 * GRID
    while e + 3 * step < end:  # issue four loads at a time
        a, b = load_quad(exchange, at + e), load_quad(exchange, at + e + step)
        c, d = load_quad(exchange, at + e + 2 * step), load_quad(exchange, at + e + 3 * step)
        store_quad(operand, e, a)
        store_quad(operand, e + step, b)
        store_quad(operand, e + 2 * step, c)
        store_quad(operand, e + 3 * step, d)
        e += 4 * step
    while e < end:
        store_quad(operand, e, load_quad(exchange, at + e))
        e += step
    cuda.syncthreads()
    warp, lane = thread // LANES, thread % LANES
    at, row, index = (warp >> (WARP_BITS - bits)) * share + lane, 0, thread
    while row < rows:
        sums[uint64(index)] = _sums_of_rows(u, operand, at, width, share, lane)
        at, row, index = at + ROWS * width, row + ROWS, index + GRID
    cuda.syncthreads()


@device_function
def _sums_of_rows(u, operand, at, width, share, lane):
    """Adds ROWS * COLUMNS sums over a warp's lanes; a lane gets the result with the lane's index."""
    sums = cuda.local.array(SUMS, operand.dtype)
    for i in range(SUMS):
        sums[i] = operand.dtype.type(0)
    for first in range(0, TERMS, HALF):
        if first * LANES < share:
            for i in range(first, first + HALF):
                for r in range(ROWS):
                    value = operand[uint64(at + r * width + i * LANES)]
                    for c in range(COLUMNS):
                        sums[r * COLUMNS + c] += value * u[i * COLUMNS + c]
    half = SUMS // 2
    while half > 0:  # each lane keeps one half of its sums and sends the other
        upper = lane & half
        for i in range(half):
            low, high = sums[i], sums[i + half]
            kept, sent = (high, low) if upper else (low, high)
            sums[i] = kept + cuda.shfl_xor_sync(EVERYONE, sent, half)
        half //= 2
    return sums[0]


@device_function
def total(sums, row, column, tiles):
    """Returns the product of an operand and one of the block's columns."""
    bits = tiles[0]
    at = row // ROWS * GRID + column // COLUMNS * SUMS + row % ROWS * COLUMNS + column % COLUMNS
    result, end = sums[uint64(at)], at // GRID * GRID + GRID
    at += GRID >> bits
    while at < end:
        result += sums[uint64(at)]
        at += GRID >> bits
    return result


# The loops that the families share. A family passes its functions and a tuple of its arrays. Its codes begin with (backwards,
# sequences) in the forward pass, and with (backwards, sequences, needs_h0) in the backward pass.
#
# read(arrays, row, spot, step, unit, sizes, codes): returns the numbers that a unit's step needs; `nothing` is as many zeros.
# add(saved, sums, row, column, tiles): returns these numbers plus the products of the unit's columns.
# take(saved, arrays, row, spot, step, unit, sizes, codes): takes the step; returns the new h.
# take_back(s, saved, arrays, row, spot, unit, sizes, codes): takes the step back; s is added to the gradient of h. Returns the
# factors of the unit's columns in the backward pass, one per gate.


@device_function
def forward_over_grid(read, add, take, gates, nothing, weights, arrays, drop, sizes, codes, operands, counter, tiles):
    """Computes all samples and steps. A block has the columns of some units."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    u = cuda.local.array(HELD, weights.dtype)
    shared = cuda.shared.array(0, weights.dtype, alignment=16)
    sums = cuda.shared.array(ROOM_OF_SUMS, weights.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, column = first_unit + local_unit, gates * local_unit
    hold_columns(u, weights, first_unit, units, gates, (1, units, gates * units), units, tiles)
    for step in range(length):
        source, target = (step & 1) * most * width, (1 - (step & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live = local_row < rows and row < batch and unit < units
            spot, saved = spot_of(row, step, length, codes[0]), nothing
            if live:
                saved = read(arrays, row, spot, step, unit, sizes, codes)
            multiply(u, operands, source + first * width, shared, sums, tiles)
            if live:
                gathered = add(saved, sums, local_row, column, tiles)
                new = take(gathered, arrays, row, spot, step, unit, sizes, codes)
                operands[uint64(target + row * width + unit)] = new * factor_of(drop, row * units + unit, weights)
            first += apart
        if step + 1 < length:
            meet(counter, (step + 1) * cuda.gridDim.x)


@device_function
def back_over_grid(
    read, take_back, gates, nothing, weights, arrays, output_mask, drop, dy, dh, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """Goes back through all samples and steps. A block has some units: rows of the recurrent kernel, and their factors."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    backwards, sequences, needs_h0 = codes[:3]
    u = cuda.local.array(HELD, weights.dtype)
    shared = cuda.shared.array(0, weights.dtype, alignment=16)
    sums = cuda.shared.array(ROOM_OF_SUMS, weights.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit = first_unit + local_unit
    hold_columns(u, weights, first_unit, units, 1, (gates * units, 0, 1), gates * units, tiles)
    for past in range(length + needs_h0):
        step, source, target = length - 1 - past, (past & 1) * most * width, (1 - (past & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live, at = local_row < rows and row < batch and unit < units, row * units + unit
            spot, s, saved = spot_of(row, step, length, backwards), weights.dtype.type(0), nothing
            if live and step >= 0:
                s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, weights)
                saved = read(arrays, row, spot, step, unit, sizes, codes)
            if past > 0:
                multiply(u, operands, source + first * width, shared, sums, tiles)
                if live:
                    s += total(sums, local_row, local_unit, tiles) * factor_of(drop, at, weights)
            if live:
                if step < 0:
                    dh[uint64(at)] += s
                else:
                    factors = take_back(s, saved, arrays, row, spot, unit, sizes, codes)
                    for gate in range(gates):
                        operands[uint64(target + row * width + gate * units + unit)] = factors[gate]
            first += apart
        if step >= 0:
            meet(counter, (past + 1) * cuda.gridDim.x)


# -------------------- one step --------------------


@device_function
def step_forward(read, take, arrays, drop, sizes, codes, dropped, step):
    """Computes one step of a unit of a sample. The numbers that it reads contain the sums of its gates."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, codes[0])
        new = take(read(arrays, row, spot, step, unit, sizes, codes), arrays, row, spot, step, unit, sizes, codes)
        if drop.size > 0:
            dropped[at] = new * drop[at]


@device_function
def step_back(read, take_back, arrays, output_mask, drop, dy, sizes, codes, temporary, step):
    """Goes one step back for a unit of a sample. temporary: the gradient of h from the products of the next step."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, codes[0])
        s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, codes[1], temporary)
        if step < length - 1:
            s += temporary[at] * factor_of(drop, at, temporary)
        take_back(s, read(arrays, row, spot, step, unit, sizes, codes), arrays, row, spot, unit, sizes, codes)
