"""Twins of simple_rnn.py's loops: all steps of a SimpleRNN and the way back; see steps.py and recurrence.py."""

from numba import cuda

from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start
from nbkeras.kernels.cuda.recurrent import recurrence as recurrent_cuda
from nbkeras.kernels.cuda.recurrent.recurrence import THREADS
from nbkeras.kernels.cuda.recurrent.steps import (
    BLOCK,
    EVERYONE,
    GRID,
    HELD,
    ROOM,
    ROOM_OF_SUMS,
    activate,
    add_terms,
    clear,
    factor_of,
    first_state,
    hold,
    hold_columns,
    is_masked,
    keep_state,
    meet,
    multiply,
    output_gradient,
    running_state,
    slope,
    spot_of,
    state_before,
    sum_of_lane,
    terms_of,
    total,
    uint64,
    write_output,
)

_TERMS = size(32, simulated=4)  # of a lane that a block's thread keeps in registers
_PART = size(8, simulated=1)  # on the way back
_HELD_BACK = size(32, simulated=4)  # _PART * 4
_TWO = size(256, simulated=64)  # 2 * ROOM


def simple_rnn_forward_share(
    x, kernel, recurrent_kernel, bias, h0, mask, output_mask, drop, xt, h, dropped, y, h_last,
    activation, sequences, backwards, block,
):  # fmt: skip
    """All steps; h is a history."""
    (batch, length, _), units = x.shape, recurrent_kernel.shape[0]
    z = recurrent_cuda.scratch("products", batch * length * units, x.dtype)
    recurrent_cuda.input_product(x, kernel, z)
    args = (
        bias,
        h0,
        mask,
        output_mask,
        drop,
        z,
        h,
        y,
        h_last,
        (batch, length, units),
        (activation, sequences, backwards),
    )
    weights = recurrent_kernel.reshape(-1)
    if recurrent_cuda.fits_block(z.dtype, batch, units):
        packed = recurrent_cuda.pack(recurrent_kernel, 1, backward=False)
        start(_block_forward, batch, recurrent_cuda.block_threads(units), packed, *args)
        return
    if recurrent_cuda.run_over_grid(_grid_forward, batch, units, 1, units, (weights, *args), (h0, drop)):
        return
    operand = h0
    if drop.size and h0.size:
        operand = dropped
        recurrent_cuda.times_drop(h0, drop, dropped, units, units, units)
    for step in range(length):
        at = units * (length - 1 - step if backwards else step)
        if step or h0.size:
            product(False, False, batch, units, units, operand, 0, units, weights, 0, units, 1.0, z, at, length * units)
        start(_step_forward, blocks(batch * units, THREADS), THREADS, *args, dropped, step)
        operand = dropped if drop.size else h_last


def simple_rnn_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, h, dy, dh_last, dz, temporary, dropped,
    dx, dh, dw, du, db, parts, activation, sequences, backwards, block, batch, length, features, units,
    turned, needs_h0,
):  # fmt: skip
    """Back through all steps; dh ends as the gradient of the initial state. xt is x, dz of all steps."""
    args = (
        mask, output_mask, drop, h, dy, dh_last, dz, dh,
        (batch, length, units), (activation, sequences, backwards, needs_h0),
    )  # fmt: skip
    weights, rows = recurrent_kernel.reshape(-1), batch * length
    if recurrent_cuda.fits_block(h.dtype, batch, units):
        packed = recurrent_cuda.pack(recurrent_kernel, 1, backward=True)
        start(_block_backward, batch, recurrent_cuda.block_threads(units), packed, *args)
    elif not recurrent_cuda.run_over_grid(_grid_backward, batch, units, 1, units, (weights, *args)):
        for step in range(length - 1, -1, -1):
            start(_step_backward, blocks(batch * units, THREADS), THREADS, *args, temporary, step)
            if step or needs_h0:
                at = units * (length - 1 - step if backwards else step)
                product(
                    False, True, batch, units, units, dz, at, length * units, weights, 0, units, 0.0, temporary, 0, units
                )  # fmt: skip
        if needs_h0:
            recurrent_cuda.add_product(temporary, drop, dh)
    recurrent_cuda.input_gradients(xt, kernel, turned, dz, dx, dw, units, features)
    if du.size:
        operands = recurrent_cuda.operands(h, drop, dropped, batch, length, units)
        product(True, False, units, units, rows, operands, 0, units, dz, 0, units, 0.0, du, 0, units)
    if db.size:
        recurrent_cuda.sum_rows(dz, units, db)


# -------------------- forward --------------------


@device_function
def _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes):
    """The new h, from the sum of all that is given to it; writes the output and the history."""
    activation, sequences, _ = codes
    new = before if is_masked(mask, spot) else activate(activation, value, h)
    keep_state(h, before, new, row, spot, step, unit, sizes)
    write_output(y, new, output_mask, row, spot, step, unit, sizes, sequences)
    return new


@kernel(launch_bounds=(BLOCK, 2))
def _block_forward(packed, bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes):
    """One sample. Four lanes have a unit: each adds up a quarter of its terms."""
    _, length, units = sizes
    backwards = codes[2]
    u, sums = cuda.local.array(_TERMS, z.dtype), cuda.local.array(1, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    lane, unit, terms = thread & 3, thread >> 2, terms_of(units, 4)
    live, at = unit < units, row * units + unit
    hold(u, packed, 1, _TERMS, terms, 1)
    clear(operand, _TWO)
    state = offset = ahead = zero
    factor = z.dtype.type(1)
    spot, way = spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state, factor, offset = first_state(h0, at, z), factor_of(drop, at, z), first_state(bias, unit, z)
        ahead = z[uint64(spot * units + unit)]
    cuda.syncthreads()
    if live and lane == 0:
        operand[unit] = state * factor
    cuda.syncthreads()
    for step in range(length):
        value, half = ahead + offset, (step & 1) * ROOM
        if live and step + 1 < length:
            ahead = z[uint64((spot + way) * units + unit)]
        sums[0] = zero
        add_terms(sums, u, packed, 0, _TERMS, terms, 1, operand, half + lane, 4)
        added = sums[0] + cuda.shfl_xor_sync(EVERYONE, sums[0], 1)
        value += added + cuda.shfl_xor_sync(EVERYONE, added, 2)
        if live and lane == 0:
            state = _finish(value, state, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
            operand[uint64(ROOM - half + unit)] = state * factor
        spot += way
        cuda.syncthreads()
    if live and lane == 0:
        h_last[uint64(at)] = state


@kernel(launch_bounds=GRID)
def _grid_forward(
    weights, bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has some units, columns of the recurrent kernel."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    u = cuda.local.array(HELD, z.dtype)
    shared, sums = cuda.shared.array(0, z.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, z.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, z.dtype.type(0)
    hold_columns(u, weights, first_unit, units, 1, (1, 0, units), units, tiles)
    for step in range(length):
        source, target = (step & 1) * most * width, (1 - (step & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live = local_row < rows and row < batch and unit < units
            spot, at, value, before = spot_of(row, step, length, codes[2]), row * units + unit, zero, zero
            if live:
                value = z[uint64(spot * units + unit)] + first_state(bias, unit, z)
                before = running_state(h0, h_last, at, step)
            multiply(u, operands, source + first * width, shared, sums, tiles)
            if live:
                value += total(sums, local_row, local_unit, tiles)
                new = _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
                h_last[uint64(at)] = new
                operands[uint64(target + row * width + unit)] = new * factor_of(drop, at, z)
            first += apart
        if step + 1 < length:
            meet(counter, (step + 1) * cuda.gridDim.x)


@kernel
def _step_forward(bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes, dropped, step):
    """One step of a unit of a sample, whose sum is in z."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, codes[2])
        value, before = z[spot * units + unit] + first_state(bias, unit, z), running_state(h0, h_last, at, step)
        new = _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
        h_last[at] = new
        if drop.size > 0:
            dropped[at] = new * drop[at]


# -------------------- backward --------------------


@kernel(launch_bounds=(BLOCK, 2))
def _block_backward(packed, mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes):
    """One sample. 16 lanes have four units: each adds up a sixteenth of their terms; four then have the same unit."""
    _, length, units = sizes
    activation, sequences, backwards, needs_h0 = codes
    u, sums = cuda.local.array(_HELD_BACK, h.dtype), cuda.local.array(4, h.dtype)
    operand = cuda.shared.array(_TWO, h.dtype)
    zero, row, thread = h.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    first_lane, unit, terms = (thread & 15) < 4, (thread >> 4) * 4 + (thread & 3), terms_of(units, 16)
    live, at, last = unit < units, row * units + unit, length - 1
    hold(u, packed, 1, _PART, terms, 4)
    clear(operand, _TWO)
    carry = after = ahead = ahead_y = zero
    factor = h.dtype.type(1)
    spot, way = spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry, factor = first_state(dh_last, at, h), factor_of(drop, at, h)
        after, ahead = state_before(h, row, length, unit, sizes, backwards), h[uint64(spot * units + unit)]
        ahead_y = output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, h)
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * ROOM
        before, s = ahead, carry + ahead_y
        masked = is_masked(mask, spot)
        if live and step > 0:
            ahead = h[uint64((spot + way) * units + unit)]
            ahead_y = output_gradient(dy, output_mask, row, spot + way, step - 1, unit, sizes, sequences, h)
        gradient, carry = zero, s
        if not masked:
            gradient, carry = s * slope(activation, after, h), zero
        if live and first_lane:
            dz[uint64(spot * units + unit)] = gradient
            operand[uint64(half + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            for k in range(4):
                sums[k] = zero
            add_terms(sums, u, packed, 0, _PART, terms, 4, operand, half + (thread & 15), 16)
            value = sum_of_lane(sums, thread)
            value += cuda.shfl_xor_sync(EVERYONE, value, 4)
            value += cuda.shfl_xor_sync(EVERYONE, value, 8)
            carry += value * factor
        after = before
        spot += way
    if live and first_lane:
        dh[uint64(at)] = carry


@device_function
def _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes):
    """A unit's step back, from what is added to the gradient of its h: its number of dz."""
    units, gradient = sizes[2], dz.dtype.type(0)
    s += carry
    if not is_masked(mask, spot):
        gradient, s = s * slope(codes[0], after, dz), gradient
    dz[uint64(spot * units + unit)] = gradient
    dh[uint64(row * units + unit)] = s
    return gradient


@kernel(launch_bounds=GRID)
def _grid_backward(
    weights, mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has some units, rows of the recurrent kernel."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    _, sequences, backwards, needs_h0 = codes
    u = cuda.local.array(HELD, h.dtype)
    shared, sums = cuda.shared.array(0, h.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, h.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, h.dtype.type(0)
    hold_columns(u, weights, first_unit, units, 1, (units, 0, 1), units, tiles)
    for past in range(length + needs_h0):
        step, source, target = length - 1 - past, (past & 1) * most * width, (1 - (past & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live, at = local_row < rows and row < batch and unit < units, row * units + unit
            spot, s, after, carry = spot_of(row, step, length, backwards), zero, zero, zero
            if live and step >= 0:
                s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, h)
                after, carry = (
                    state_before(h, row, step + 1, unit, sizes, backwards),
                    running_state(dh_last, dh, at, past),
                )
            if past > 0:
                multiply(u, operands, source + first * width, shared, sums, tiles)
                if live:
                    s += total(sums, local_row, local_unit, tiles) * factor_of(drop, at, h)
            if live:
                if step < 0:
                    dh[uint64(at)] += s
                else:
                    gradient = _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes)
                    operands[uint64(target + row * width + unit)] = gradient
            first += apart
        if step >= 0:
            meet(counter, (past + 1) * cuda.gridDim.x)


@kernel
def _step_backward(mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes, temporary, step):
    """One step back of a unit of a sample; temporary: the products of the dz of the step after with the recurrent kernel."""
    batch, length, units = sizes
    _, sequences, backwards, _ = codes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, backwards)
        s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, h)
        if step < length - 1:
            s += temporary[at] * factor_of(drop, at, h)
        after, carry = (
            state_before(h, row, step + 1, unit, sizes, backwards),
            running_state(dh_last, dh, at, length - 1 - step),
        )
        _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes)
