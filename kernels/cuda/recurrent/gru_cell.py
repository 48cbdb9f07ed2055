"""A GRU's cell on a GPU and its recurrence in a block and over the grid, with the reset gate after the product.

steps.py says what that is; gru.py starts the kernels.
"""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size
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
    sum_of_lane,
    terms_of,
    total,
    uint64,
    write_output,
)

_TERMS = size(20, simulated=4)  # of a lane that a block's thread keeps in registers
_HELD = size(60, simulated=12)  # _TERMS * 3
_PART = size(4, simulated=1)  # of each gate, on the way back
_HELD_BACK = size(48, simulated=12)  # _PART * 3 * 4
_TWO = size(256, simulated=64)  # 2 * ROOM
_SIX = size(768, simulated=192)  # 6 * ROOM


# -------------------- forward --------------------


@device_function
def _write_step(h, y, output_mask, before, new, row, spot, step, unit, sizes, codes):
    """Write a step's output and, where they are kept, its states."""
    write_output(y, new, output_mask, row, spot, step, unit, sizes, codes[3])
    if codes[5] != 0:
        keep_state(h, before, new, row, spot, step, unit, sizes)


@device_function
def bias_of(bias, gate, unit, units, reset_after, like):
    """What is added to a gate before its activation, but for what the reset gate multiplies."""
    if bias.size == 0:
        return like.dtype.type(0)
    value = bias[uint64(gate * units + unit)]
    if reset_after != 0 and gate < 2:
        value += bias[uint64((3 + gate) * units + unit)]
    return value


@kernel(launch_bounds=BLOCK)
def block_forward(packed, bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes):
    """One sample. Four lanes have a unit: each adds up a quarter of the terms of its gates; three then have a gate each."""
    _, length, units = sizes
    activation, recurrent_activation, _, _, backwards, keep = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype)
    zero, one, row, thread = z.dtype.type(0), z.dtype.type(1), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = thread & 3, thread >> 2, terms_of(units, 4)
    live, at, first_lane = unit < units, row * units + unit, thread & 28
    hold(u, packed, 1, _TERMS, terms, 3)
    clear(operand, _TWO)
    state = offset = inner_offset = ahead = zero
    factor = one
    spot, way = spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state, factor = first_state(h0, at, z), factor_of(drop, at, z)
        if gate < 3:
            offset, ahead = bias_of(bias, gate, unit, units, 1, z), z[uint64((spot * 3 + gate) * units + unit)]
        if bias.size > 0:
            inner_offset = bias[uint64(5 * units + unit)]
    cuda.syncthreads()
    if live and gate == 0:
        operand[unit] = state * factor
    cuda.syncthreads()
    for step in range(length):
        value, half, masked = ahead + offset, (step & 1) * ROOM, is_masked(mask, spot)
        if live and gate < 3 and step + 1 < length:
            ahead = z[uint64(((spot + way) * 3 + gate) * units + unit)]
        for k in range(4):
            sums[k] = zero
        add_terms(sums, u, packed, 0, _TERMS, terms, 3, operand, half + gate, 4)
        added = sum_of_lane(sums, gate)
        if gate < 2:
            value = activate(recurrent_activation, value + added, z)
        update, reset = cuda.shfl_sync(EVERYONE, value, first_lane), cuda.shfl_sync(EVERYONE, value, first_lane + 1)
        inside = added + inner_offset
        if gate == 2:
            value = activate(activation, value + reset * inside, z)
        new = cuda.shfl_sync(EVERYONE, value, first_lane + 2)
        new = update * state + (one - update) * new
        if masked:
            new = state
        if live and gate < 3 and keep != 0:
            z[uint64((spot * 3 + gate) * units + unit)] = value
            if gate == 2:
                inner[uint64(spot * units + unit)] = inside
        if live and gate == 0:
            operand[uint64(ROOM - half + unit)] = new * factor
            _write_step(h, y, output_mask, state, new, row, spot, step, unit, sizes, codes)
        state = new
        spot += way
        cuda.syncthreads()
    if live and gate == 0:
        h_last[uint64(at)] = state


@device_function
def forward(
    update, reset, new, inside, before, row, spot, step, unit, bias, mask, output_mask, z, inner, h, y, h_last, sizes, codes
):  # fmt: skip
    """A unit's step, from what x and the operand give its gates and, apart, what the reset gate multiplies; the new h."""
    units = sizes[2]
    activation, recurrent_activation, _, _, _, keep = codes
    update = activate(recurrent_activation, update + bias_of(bias, 0, unit, units, 1, z), z)
    reset = activate(recurrent_activation, reset + bias_of(bias, 1, unit, units, 1, z), z)
    if bias.size > 0:
        inside += bias[uint64(5 * units + unit)]
    new = activate(activation, new + bias_of(bias, 2, unit, units, 1, z) + reset * inside, z)
    if keep != 0:
        place = spot * 3 * units + unit
        z[uint64(place)], z[uint64(place + units)], z[uint64(place + 2 * units)] = update, reset, new
        inner[uint64(spot * units + unit)] = inside
    return finish(update, new, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes)


@device_function
def finish(update, new, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes):
    """The new h, from the update gate, the candidate and the h before; writes it where it belongs."""
    new = before if is_masked(mask, spot) else update * before + (h.dtype.type(1) - update) * new
    h_last[uint64(row * sizes[2] + unit)] = new
    _write_step(h, y, output_mask, before, new, row, spot, step, unit, sizes, codes)
    return new


@kernel(launch_bounds=GRID)
def grid_forward(
    weights, bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has the three columns of some units."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    u = cuda.local.array(HELD, z.dtype)
    shared, sums = cuda.shared.array(0, z.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, z.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, z.dtype.type(0)
    hold_columns(u, weights, first_unit, units, 3, (1, units, 3 * units), units, tiles)
    for step in range(length):
        source, target = (step & 1) * most * width, (1 - (step & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live = local_row < rows and row < batch and unit < units
            spot = spot_of(row, step, length, codes[4])
            place, column = spot * 3 * units + unit, 3 * local_unit
            update = reset = new = before = zero
            if live:
                update, reset, new = z[uint64(place)], z[uint64(place + units)], z[uint64(place + 2 * units)]
                before = running_state(h0, h_last, row * units + unit, step)
            multiply(u, operands, source + first * width, shared, sums, tiles)
            if live:
                update += total(sums, local_row, column, tiles)
                reset += total(sums, local_row, column + 1, tiles)
                inside = total(sums, local_row, column + 2, tiles)
                new = forward(
                    update, reset, new, inside, before, row, spot, step, unit,
                    bias, mask, output_mask, z, inner, h, y, h_last, sizes, codes,
                )  # fmt: skip
                operands[uint64(target + row * width + unit)] = new * factor_of(drop, row * units + unit, z)
            first += apart
        if step + 1 < length:
            meet(counter, (step + 1) * cuda.gridDim.x)


# -------------------- backward --------------------


@kernel(launch_bounds=BLOCK)
def block_backward(packed, mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes):
    """One sample. 16 lanes have four units: each adds up a sixteenth of their terms; four then have a unit, three with a gate."""
    _, length, units = sizes
    activation, recurrent_activation, _, sequences, backwards, needs_h0 = codes
    u, sums = cuda.local.array(_HELD_BACK, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_SIX, z.dtype)
    zero, one, row, thread = z.dtype.type(0), z.dtype.type(1), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = (thread & 15) >> 2, (thread >> 4) * 4 + (thread & 3), terms_of(units, 16)
    live, at, first_lane = unit < units, row * units + unit, thread & 19
    hold(u, packed, 3, _PART, terms, 4)
    clear(operand, _SIX)
    carry = ahead = ahead_h = ahead_y = zero
    factor, last = one, length - 1
    spot, way = spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry, factor = first_state(dh_last, at, z), factor_of(drop, at, z)
        ahead = z[uint64((spot * 3 + gate) * units + unit)] if gate < 3 else inner[uint64(spot * units + unit)]
        ahead_h = h[uint64(spot * units + unit)]
        ahead_y = output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, z)
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * 3 * ROOM
        own, before, s = ahead, ahead_h, carry + ahead_y
        masked = is_masked(mask, spot)
        if live and step > 0:
            nearer = spot + way
            ahead = z[uint64((nearer * 3 + gate) * units + unit)] if gate < 3 else inner[uint64(nearer * units + unit)]
            ahead_h = h[uint64(nearer * units + unit)]
            ahead_y = output_gradient(dy, output_mask, row, nearer, step - 1, unit, sizes, sequences, z)
        update, reset = cuda.shfl_sync(EVERYONE, own, first_lane), cuda.shfl_sync(EVERYONE, own, first_lane + 4)
        new, inside = cuda.shfl_sync(EVERYONE, own, first_lane + 8), cuda.shfl_sync(EVERYONE, own, first_lane + 12)
        gradient = d_new = zero
        carry = s
        if not masked:
            d_new = s * (one - update) * slope(activation, new, z)
            carry = s * update
            if gate == 0:
                gradient = s * (before - new) * slope(recurrent_activation, update, z)
            elif gate == 1:
                gradient = d_new * inside * slope(recurrent_activation, reset, z)
            elif gate == 2:
                gradient = d_new * reset
        if live and gate < 3:
            dz[uint64((spot * 3 + gate) * units + unit)] = d_new if gate == 2 else gradient
            operand[uint64(half + gate * ROOM + unit)] = gradient
            if gate == 2:
                dinner[uint64(spot * units + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            for k in range(4):
                sums[k] = zero
            for group in range(3):
                add_terms(sums, u, packed, group, _PART, terms, 4, operand, half + group * ROOM + (thread & 15), 16)
            value = sum_of_lane(sums, thread)
            value += cuda.shfl_xor_sync(EVERYONE, value, 4)
            value += cuda.shfl_xor_sync(EVERYONE, value, 8)
            carry += value * factor
        spot += way
    if live and gate == 0:
        dh[uint64(at)] = carry


@device_function
def saved_of(z, inner, h, dh_last, dh, row, spot, step, unit, sizes, reset_after):
    """What a unit's step back needs that was there before: its gates, what the reset gate multiplied, h, the gradient of h."""
    _, length, units = sizes
    place = spot * 3 * units + unit
    inside = inner[uint64(spot * units + unit)] if reset_after != 0 else z.dtype.type(0)
    carry = running_state(dh_last, dh, row * units + unit, length - 1 - step)
    before = h[uint64(spot * units + unit)]
    return z[uint64(place)], z[uint64(place + units)], z[uint64(place + 2 * units)], inside, before, carry


@device_function
def backward(s, saved, row, spot, unit, mask, dz, dinner, dh, sizes, codes):
    """A unit's step back, from what is added to the gradient of its h: what its three columns are multiplied by.

    With the reset gate before the product, its own gradient is not known yet: 0.
    """
    units, place = sizes[2], spot * 3 * sizes[2] + unit
    activation, recurrent_activation, reset_after, _, _, _ = codes
    update, reset, new, inside, before, carry = saved
    d_update = d_reset = d_new = dz.dtype.type(0)
    s += carry
    if not is_masked(mask, spot):
        d_update = s * (before - new) * slope(recurrent_activation, update, dz)
        d_new = s * (dz.dtype.type(1) - update) * slope(activation, new, dz)
        s *= update
    d_inside = d_new
    if reset_after != 0:
        d_reset, d_inside = d_new * inside * slope(recurrent_activation, reset, dz), d_new * reset
        dinner[uint64(spot * units + unit)] = d_inside
    dz[uint64(place)], dz[uint64(place + units)], dz[uint64(place + 2 * units)] = d_update, d_reset, d_new
    dh[uint64(row * units + unit)] = s
    return d_update, d_reset, d_inside


@kernel(launch_bounds=GRID)
def grid_backward(
    weights, mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has some units, rows of the recurrent kernel."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    _, _, reset_after, sequences, backwards, needs_h0 = codes
    u = cuda.local.array(HELD, z.dtype)
    shared, sums = cuda.shared.array(0, z.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, z.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, z.dtype.type(0)
    hold_columns(u, weights, first_unit, units, 1, (3 * units, 0, 1), 3 * units, tiles)
    for past in range(length + needs_h0):
        step, source, target = length - 1 - past, (past & 1) * most * width, (1 - (past & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live, at = local_row < rows and row < batch and unit < units, row * units + unit
            spot, s, saved = spot_of(row, step, length, backwards), zero, (zero, zero, zero, zero, zero, zero)
            if live and step >= 0:
                s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, z)
                saved = saved_of(z, inner, h, dh_last, dh, row, spot, step, unit, sizes, reset_after)
            if past > 0:
                multiply(u, operands, source + first * width, shared, sums, tiles)
                if live:
                    s += total(sums, local_row, local_unit, tiles) * factor_of(drop, at, z)
            if live:
                if step < 0:
                    dh[uint64(at)] += s
                else:
                    first_of_three, second, third = backward(
                        s, saved, row, spot, unit, mask, dz, dinner, dh, sizes, codes
                    )
                    place = target + row * width + unit
                    operands[uint64(place)], operands[uint64(place + units)] = first_of_three, second
                    operands[uint64(place + 2 * units)] = third
            first += apart
        if step >= 0:
            meet(counter, (past + 1) * cuda.gridDim.x)
