"""Twins of lstm.py's kernels: all steps of an LSTM and the backward pass; recurrence.py and steps.py say how."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size
from nbkeras.kernels.cuda.recurrent import recurrence as recurrent_cuda
from nbkeras.kernels.cuda.recurrent import steps as recurrence
from nbkeras.kernels.cuda.recurrent.steps import HELD, ROOM_OF_SUMS, uint64  # the size of an array must be a global
from nbkeras.kernels.recurrent.recurrence import Backward, Forward

_TERMS = size(16, simulated=4)  # of a lane that a block's thread keeps in registers
_PART = size(4, simulated=1)  # _TERMS / 4: of each gate, in the backward pass
_HELD = size(64, simulated=16)  # _TERMS * 4
_TWO = size(256, simulated=64)  # 2 * ROOM
_EIGHT = size(1024, simulated=256)  # 8 * ROOM


def lstm_forward_share(*args) -> None:
    """All steps; z, h and c are batch-major, h and c histories where there is room for them. args: Forward."""
    a = Forward(*args)
    keep = int(a.state_ring == a.x.shape[1] + 1)
    recurrent_cuda.input_product(a.x, a.kernel, a.z)
    sizes, codes = recurrent_cuda.sizes_of(a), (a.activation, a.recurrent_activation, a.sequences, a.backwards, keep)
    args = a.bias, a.h0, a.c0, a.mask, a.output_mask, a.drop, a.z, a.h, a.c, a.y, a.h_last, a.c_last, sizes, codes
    if not recurrent_cuda.run_at_once(_block_forward, _grid_forward, a.recurrent_kernel, 4, args, (a.h0, a.drop)):
        recurrent_cuda.run_by_steps(_step_forward, a, a.z, args)


def lstm_backward_share(*args) -> None:
    """Back through all steps; dh and dc end as the gradients of the initial states. xt is x, dz of all steps. args: Backward."""
    a = Backward(*args)
    sizes = a.batch, a.length, a.units
    codes = a.activation, a.recurrent_activation, a.sequences, a.backwards, a.needs_h0
    args = a.mask, a.output_mask, a.drop, a.z, a.c, a.dy, a.dh_last, a.dc_last, a.dz, a.dh, a.dc, sizes, codes
    if not recurrent_cuda.run_at_once(_block_backward, _grid_backward, a.recurrent_kernel, 4, args):
        recurrent_cuda.run_back_by_steps(_step_backward, a, args)
    recurrent_cuda.weight_gradients(a)


# -------------------- forward --------------------


@device_function
def _write_step(h, c, y, output_mask, before_h, before_c, new_h, new_c, row, spot, step, unit, sizes, codes):
    """Write a step's output and, where they are kept, its states."""
    _, _, sequences, _, keep = codes
    recurrence.write_output(y, new_h, output_mask, row, spot, step, unit, sizes, sequences)
    if keep != 0:
        recurrence.keep_state(h, before_h, new_h, row, spot, step, unit, sizes)
        recurrence.keep_state(c, before_c, new_c, row, spot, step, unit, sizes)


@kernel(launch_bounds=recurrence.BLOCK)
def _block_forward(packed, bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes):
    """All steps of a sample. Four lanes have a unit: each adds up a quarter of the terms of its four gates, then has one gate."""
    _, length, units = sizes
    activation, recurrent_activation, _, backwards, keep = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype, alignment=16)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = thread & 3, thread >> 2, recurrence.terms_of(units, 4)
    live, at, first_lane = unit < units, row * units + unit, thread & 28
    recurrence.hold(u, packed, 1, _TERMS, terms, 4)
    recurrence.clear(operand, _TWO)
    state_h = state_c = offset = ahead = zero
    factor = z.dtype.type(1)
    spot, way = recurrence.spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state_h = recurrence.first_state(h0, at, z)
        state_c = recurrence.first_state(c0, at, z)
        factor = recurrence.factor_of(drop, at, z)
        offset = recurrence.first_state(bias, gate * units + unit, z)
        ahead = z[uint64((spot * 4 + gate) * units + unit)]
    cuda.syncthreads()
    if live and gate == 0:
        operand[unit] = state_h * factor
    cuda.syncthreads()
    code = activation if gate == 2 else recurrent_activation
    for step in range(length):
        value, half, masked = ahead + offset, (step & 1) * recurrence.ROOM, recurrence.is_masked(mask, spot)
        if live and step + 1 < length:
            ahead = z[uint64(((spot + way) * 4 + gate) * units + unit)]
        for k in range(4):
            sums[k] = zero
        recurrence.add_terms(sums, u, packed, 0, _TERMS, terms, 4, operand, half + gate, 4)
        value = recurrence.activate(code, value + recurrence.sum_of_lane(sums, gate), z)
        if live and keep != 0:
            z[uint64((spot * 4 + gate) * units + unit)] = value
        i = cuda.shfl_sync(recurrence.EVERYONE, value, first_lane)
        f = cuda.shfl_sync(recurrence.EVERYONE, value, first_lane + 1)
        g = cuda.shfl_sync(recurrence.EVERYONE, value, first_lane + 2)
        o = cuda.shfl_sync(recurrence.EVERYONE, value, first_lane + 3)
        new_c = f * state_c + i * g
        new_h = o * recurrence.activate(activation, new_c, z)
        if masked:
            new_h, new_c = state_h, state_c
        if live and gate == 0:
            operand[uint64(recurrence.ROOM - half + unit)] = new_h * factor
            _write_step(h, c, y, output_mask, state_h, state_c, new_h, new_c, row, spot, step, unit, sizes, codes)
        state_h, state_c = new_h, new_c
        spot += way
        cuda.syncthreads()
    if live and gate == 0:
        h_last[uint64(at)], c_last[uint64(at)] = state_h, state_c


@device_function
def _forward(
    i, f, g, o, before_h, before_c, row, spot, step, unit, bias, mask, output_mask, z, h, c, y, h_last, c_last, sizes, codes
):  # fmt: skip
    """Take a unit's step, from the sums of its gates. Returns the new h."""
    units, at = sizes[2], row * sizes[2] + unit
    activation, recurrent_activation, _, _, keep = codes
    if bias.size > 0:
        i, f = i + bias[uint64(unit)], f + bias[uint64(units + unit)]
        g, o = g + bias[uint64(2 * units + unit)], o + bias[uint64(3 * units + unit)]
    i, f = recurrence.activate(recurrent_activation, i, z), recurrence.activate(recurrent_activation, f, z)
    g, o = recurrence.activate(activation, g, z), recurrence.activate(recurrent_activation, o, z)
    if keep != 0:
        index = spot * 4 * units + unit
        z[uint64(index)], z[uint64(index + units)] = i, f
        z[uint64(index + 2 * units)], z[uint64(index + 3 * units)] = g, o
    new_c = f * before_c + i * g
    new_h = o * recurrence.activate(activation, new_c, z)
    if recurrence.is_masked(mask, spot):
        new_h, new_c = before_h, before_c
    h_last[uint64(at)], c_last[uint64(at)] = new_h, new_c
    _write_step(h, c, y, output_mask, before_h, before_c, new_h, new_c, row, spot, step, unit, sizes, codes)
    return new_h


@device_function
def _gates(z, spot, unit, units):
    """A unit's four numbers of z."""
    index = spot * 4 * units + unit
    i, f = z[uint64(index)], z[uint64(index + units)]
    return i, f, z[uint64(index + 2 * units)], z[uint64(index + 3 * units)]


@kernel(launch_bounds=recurrence.GRID)
def _grid_forward(
    weights, bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has the four columns of some units."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    u = cuda.local.array(HELD, z.dtype)
    shared, sums = cuda.shared.array(0, z.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, z.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, z.dtype.type(0)
    recurrence.hold_columns(u, weights, first_unit, units, 4, (1, units, 4 * units), units, tiles)
    for step in range(length):
        source, target = (step & 1) * most * width, (1 - (step & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live = local_row < rows and row < batch and unit < units
            spot = recurrence.spot_of(row, step, length, codes[3])
            i = f = g = o = before_h = before_c = zero
            if live:
                i, f, g, o = _gates(z, spot, unit, units)
                at = row * units + unit
                before_h = recurrence.running_state(h0, h_last, at, step)
                before_c = recurrence.running_state(c0, c_last, at, step)
            recurrence.multiply(u, operands, source + first * width, shared, sums, tiles)
            if live:
                column = 4 * local_unit
                i = i + recurrence.total(sums, local_row, column, tiles)
                f = f + recurrence.total(sums, local_row, column + 1, tiles)
                g = g + recurrence.total(sums, local_row, column + 2, tiles)
                o = o + recurrence.total(sums, local_row, column + 3, tiles)
                new_h = _forward(
                    i, f, g, o, before_h, before_c, row, spot, step, unit,
                    bias, mask, output_mask, z, h, c, y, h_last, c_last, sizes, codes,
                )  # fmt: skip
                operands[uint64(target + row * width + unit)] = new_h * recurrence.factor_of(
                    drop, row * units + unit, z
                )
            first += apart
        if step + 1 < length:
            recurrence.meet(counter, (step + 1) * cuda.gridDim.x)


@kernel
def _step_forward(bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes, dropped, step):
    """One step of a unit of a sample; the sums of its gates are in z."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = recurrence.spot_of(row, step, length, codes[3])
        i, f, g, o = _gates(z, spot, unit, units)
        before_h = recurrence.running_state(h0, h_last, at, step)
        before_c = recurrence.running_state(c0, c_last, at, step)
        new_h = _forward(
            i, f, g, o, before_h, before_c, row, spot, step, unit,
            bias, mask, output_mask, z, h, c, y, h_last, c_last, sizes, codes,
        )  # fmt: skip
        if drop.size > 0:
            dropped[at] = new_h * drop[at]


# -------------------- backward --------------------


@kernel(launch_bounds=recurrence.BLOCK)
def _block_backward(packed, mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes):
    """All steps of one sample. 16 lanes have four units: each adds up a sixteenth of their terms, then has a gate of a unit."""
    _, length, units = sizes
    activation, recurrent_activation, sequences, backwards, needs_h0 = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_EIGHT, z.dtype, alignment=16)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = (thread & 15) >> 2, (thread >> 4) * 4 + (thread & 3), recurrence.terms_of(units, 16)
    live, at, first_lane = unit < units, row * units + unit, thread & 19
    recurrence.hold(u, packed, 4, _PART, terms, 4)
    recurrence.clear(operand, _EIGHT)
    carry_h = carry_c = after = ahead = ahead_c = ahead_y = zero
    factor, last = z.dtype.type(1), length - 1
    spot, way = recurrence.spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry_h = recurrence.first_state(dh_last, at, z)
        carry_c = recurrence.first_state(dc_last, at, z)
        factor = recurrence.factor_of(drop, at, z)
        after = recurrence.state_before(c, row, length, unit, sizes, backwards)
        ahead = z[uint64((spot * 4 + gate) * units + unit)]
        ahead_c = c[uint64(spot * units + unit)]
        ahead_y = recurrence.output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, z)
    code = activation if gate == 2 else recurrent_activation
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * 4 * recurrence.ROOM
        own, before, s = ahead, ahead_c, carry_h + ahead_y
        masked = recurrence.is_masked(mask, spot)
        if live and step > 0:
            ahead = z[uint64(((spot + way) * 4 + gate) * units + unit)]
            ahead_c = c[uint64((spot + way) * units + unit)]
            ahead_y = recurrence.output_gradient(dy, output_mask, row, spot + way, step - 1, unit, sizes, sequences, z)
        i = cuda.shfl_sync(recurrence.EVERYONE, own, first_lane)
        f = cuda.shfl_sync(recurrence.EVERYONE, own, first_lane + 4)
        g = cuda.shfl_sync(recurrence.EVERYONE, own, first_lane + 8)
        o = cuda.shfl_sync(recurrence.EVERYONE, own, first_lane + 12)
        v = recurrence.activate(activation, after, z)
        gradient, carry_h = zero, s
        if not masked:
            d = carry_c + s * o * recurrence.slope(activation, v, z)
            gradient = s * v
            if gate == 0:
                gradient = d * g
            elif gate == 1:
                gradient = d * before
            elif gate == 2:
                gradient = d * i
            gradient *= recurrence.slope(code, own, z)
            carry_h, carry_c = zero, d * f
        if live:
            dz[uint64((spot * 4 + gate) * units + unit)] = gradient
            operand[uint64(half + gate * recurrence.ROOM + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            for k in range(4):
                sums[k] = zero
            for group in range(4):
                recurrence.add_terms(
                    sums, u, packed, group, _PART, terms, 4, operand, half + group * recurrence.ROOM + (thread & 15), 16
                )
            value = recurrence.sum_of_lane(sums, thread)
            value += cuda.shfl_xor_sync(recurrence.EVERYONE, value, 4)
            value += cuda.shfl_xor_sync(recurrence.EVERYONE, value, 8)
            carry_h += value * factor
        after = before
        spot += way
    if live and gate == 0:
        dh[uint64(at)], dc[uint64(at)] = carry_h, carry_c


@device_function
def _saved(z, c, dh_last, dc_last, dh, dc, row, spot, step, unit, sizes, backwards):
    """The numbers that a unit's step back reads: its four gates, c before and after the step, the gradients of h and c."""
    _, length, units = sizes
    at = row * units + unit
    i, f, g, o = _gates(z, spot, unit, units)
    before = c[uint64(spot * units + unit)]
    after = recurrence.state_before(c, row, step + 1, unit, sizes, backwards)
    past = length - 1 - step
    carry_h, carry_c = recurrence.running_state(dh_last, dh, at, past), recurrence.running_state(dc_last, dc, at, past)
    return i, f, g, o, before, after, carry_h, carry_c


@device_function
def _backward(s, saved, row, spot, unit, mask, dz, dh, dc, sizes, codes):
    """Take a unit's step back. s: the addend to the gradient of its h. Returns the four numbers of dz."""
    units = sizes[2]
    activation, recurrent_activation, _, _, _ = codes
    i, f, g, o, before, after, carry_h, carry_c = saved
    zero, at, index = dz.dtype.type(0), row * units + unit, spot * 4 * units + unit
    s += carry_h
    di = df = dg = do = zero
    if not recurrence.is_masked(mask, spot):
        v = recurrence.activate(activation, after, dz)
        d = carry_c + s * o * recurrence.slope(activation, v, dz)
        di = d * g * recurrence.slope(recurrent_activation, i, dz)
        df = d * before * recurrence.slope(recurrent_activation, f, dz)
        dg, do = d * i * recurrence.slope(activation, g, dz), s * v * recurrence.slope(recurrent_activation, o, dz)
        s, carry_c = zero, d * f
    dz[uint64(index)], dz[uint64(index + units)] = di, df
    dz[uint64(index + 2 * units)], dz[uint64(index + 3 * units)] = dg, do
    dh[uint64(at)], dc[uint64(at)] = s, carry_c
    return di, df, dg, do


@kernel(launch_bounds=recurrence.GRID)
def _grid_backward(
    weights, mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes, operands, counter, tiles
):  # fmt: skip
    """All samples and steps; a block has some units, rows of the recurrent kernel, to be multiplied by dz."""
    batch, length, units = sizes
    bits, share, rows, own, slices, most = tiles
    _, _, sequences, backwards, needs_h0 = codes
    u = cuda.local.array(HELD, z.dtype)
    shared, sums = cuda.shared.array(0, z.dtype, alignment=16), cuda.shared.array(ROOM_OF_SUMS, z.dtype)
    width, first_unit = share << bits, cuda.blockIdx.x % slices * own
    first_row, apart = cuda.blockIdx.x // slices * rows, cuda.gridDim.x // slices * rows
    local_row, local_unit = cuda.threadIdx.x // own, cuda.threadIdx.x % own
    unit, zero = first_unit + local_unit, z.dtype.type(0)
    recurrence.hold_columns(u, weights, first_unit, units, 1, (4 * units, 0, 1), 4 * units, tiles)
    for past in range(length + needs_h0):
        step, source, target = length - 1 - past, (past & 1) * most * width, (1 - (past & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live, at = local_row < rows and row < batch and unit < units, row * units + unit
            spot = recurrence.spot_of(row, step, length, backwards)
            s = zero
            saved = (zero, zero, zero, zero, zero, zero, zero, zero)
            if live and step >= 0:
                s = recurrence.output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, z)
                saved = _saved(z, c, dh_last, dc_last, dh, dc, row, spot, step, unit, sizes, backwards)
            if past > 0:
                recurrence.multiply(u, operands, source + first * width, shared, sums, tiles)
                if live:
                    s += recurrence.total(sums, local_row, local_unit, tiles) * recurrence.factor_of(drop, at, z)
            if live:
                if step < 0:
                    dh[uint64(at)] += s
                else:
                    di, df, dg, do = _backward(s, saved, row, spot, unit, mask, dz, dh, dc, sizes, codes)
                    index = target + row * width + unit
                    operands[uint64(index)], operands[uint64(index + units)] = di, df
                    operands[uint64(index + 2 * units)] = dg
                    operands[uint64(index + 3 * units)] = do
            first += apart
        if step >= 0:
            recurrence.meet(counter, (past + 1) * cuda.gridDim.x)


@kernel
def _step_backward(mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes, temporary, step):
    """One step back of a unit of a sample; temporary: the products of the dz of the step after with the recurrent kernel."""
    batch, length, units = sizes
    _, _, sequences, backwards, _ = codes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = recurrence.spot_of(row, step, length, backwards)
        s = recurrence.output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, z)
        if step < length - 1:
            s += temporary[at] * recurrence.factor_of(drop, at, z)
        saved = _saved(z, c, dh_last, dc_last, dh, dc, row, spot, step, unit, sizes, backwards)
        _backward(s, saved, row, spot, unit, mask, dz, dh, dc, sizes, codes)
