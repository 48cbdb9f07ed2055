"""Twins of lstm.py's kernels: all steps of an LSTM and the backward pass; see recurrence.py and steps.py."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size
from nbkeras.kernels.cuda.recurrent import recurrence, steps
from nbkeras.kernels.cuda.recurrent.steps import uint64
from nbkeras.kernels.recurrent.recurrence import Backward, Forward

_TERMS = size(16, simulated=4)  # terms of each gate that a lane keeps in registers
_PART = size(4, simulated=1)  # the same in the backward pass: _TERMS / 4
_HELD = size(64, simulated=16)  # _TERMS * 4
_TWO = size(256, simulated=64)  # 2 * ROOM
_EIGHT = size(1024, simulated=256)  # 8 * ROOM


def lstm_forward_share(*args) -> None:
    """Runs all steps. z, h and c are batch-major; h and c are histories if they have room for one. args: Forward."""
    a = Forward(*args)
    keep = int(a.state_ring == a.x.shape[1] + 1)
    recurrence.input_product(a.x, a.kernel, a.z)
    sizes, codes = recurrence.sizes_of(a), (a.backwards, a.sequences, a.activation, a.recurrent_activation, keep)
    args = a.bias, a.h0, a.c0, a.mask, a.output_mask, a.drop, a.z, a.h, a.c, a.y, a.h_last, a.c_last, sizes, codes
    if not recurrence.run_at_once(_block_forward, _grid_forward, a.recurrent_kernel, 4, args, (a.h0, a.drop)):
        recurrence.run_by_steps(_step_forward, a, a.z, args)


def lstm_backward_share(*args) -> None:
    """Goes back through all steps; dh and dc end as the gradients of h0 and c0. xt is x; dz holds all steps. args: Backward."""
    a = Backward(*args)
    sizes = a.batch, a.length, a.units
    codes = a.backwards, a.sequences, a.needs_h0, a.activation, a.recurrent_activation
    args = a.mask, a.output_mask, a.drop, a.z, a.c, a.dy, a.dh_last, a.dc_last, a.dz, a.dh, a.dc, sizes, codes
    if not recurrence.run_at_once(_block_backward, _grid_backward, a.recurrent_kernel, 4, args):
        recurrence.run_back_by_steps(_step_backward, a, args)
    recurrence.weight_gradients(a)


# -------------------- forward --------------------


@device_function
def _write_step(h, c, y, output_mask, before_h, before_c, new_h, new_c, row, spot, step, unit, sizes, codes):
    """Writes a step's output, and its states if they are kept."""
    _, sequences, _, _, keep = codes
    steps.write_output(y, new_h, output_mask, row, spot, step, unit, sizes, sequences)
    if keep != 0:
        steps.keep_state(h, before_h, new_h, row, spot, step, unit, sizes)
        steps.keep_state(c, before_c, new_c, row, spot, step, unit, sizes)


@kernel(launch_bounds=steps.BLOCK)
def _block_forward(packed, bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes):
    """Computes a sample. Four lanes share a unit: each sums a quarter of the terms of its gates, then has one gate."""
    _, length, units = sizes
    backwards, _, activation, recurrent_activation, keep = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype, alignment=16)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = thread & 3, thread >> 2, steps.terms_of(units, 4)
    live, at, first_lane = unit < units, row * units + unit, thread & 28
    steps.hold(u, packed, 1, _TERMS, terms, 4)
    steps.clear(operand, _TWO)
    state_h = state_c = offset = ahead = zero
    factor = z.dtype.type(1)
    spot, way = steps.spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state_h = steps.first_state(h0, at, z)
        state_c = steps.first_state(c0, at, z)
        factor = steps.factor_of(drop, at, z)
        offset = steps.first_state(bias, gate * units + unit, z)
        ahead = z[uint64((spot * 4 + gate) * units + unit)]
    cuda.syncthreads()
    if live and gate == 0:
        operand[unit] = state_h * factor
    cuda.syncthreads()
    code = activation if gate == 2 else recurrent_activation
    for step in range(length):
        value, half, masked = ahead + offset, (step & 1) * steps.ROOM, steps.is_masked(mask, spot)
        if live and step + 1 < length:
            ahead = z[uint64(((spot + way) * 4 + gate) * units + unit)]
        for k in range(4):
            sums[k] = zero
        steps.add_terms(sums, u, packed, 0, _TERMS, terms, 4, operand, half + gate, 4)
        value = steps.activate(code, value + steps.sum_of_lane(sums, gate), z)
        if live and keep != 0:
            z[uint64((spot * 4 + gate) * units + unit)] = value
        i = cuda.shfl_sync(steps.EVERYONE, value, first_lane)
        f = cuda.shfl_sync(steps.EVERYONE, value, first_lane + 1)
        g = cuda.shfl_sync(steps.EVERYONE, value, first_lane + 2)
        o = cuda.shfl_sync(steps.EVERYONE, value, first_lane + 3)
        new_c = f * state_c + i * g
        new_h = o * steps.activate(activation, new_c, z)
        if masked:
            new_h, new_c = state_h, state_c
        if live and gate == 0:
            operand[uint64(steps.ROOM - half + unit)] = new_h * factor
            _write_step(h, c, y, output_mask, state_h, state_c, new_h, new_c, row, spot, step, unit, sizes, codes)
        state_h, state_c = new_h, new_c
        spot += way
        cuda.syncthreads()
    if live and gate == 0:
        h_last[uint64(at)], c_last[uint64(at)] = state_h, state_c


@device_function
def _read(arrays, row, spot, step, unit, sizes, codes):
    """Returns the sums of a unit's four gates so far, and its h and c before the step."""
    _, h0, c0, _, _, z, _, _, _, h_last, c_last = arrays
    at = row * sizes[2] + unit
    i, f, g, o = _gates(z, spot, unit, sizes[2])
    return i, f, g, o, steps.running_state(h0, h_last, at, step), steps.running_state(c0, c_last, at, step)


@device_function
def _add(saved, sums, row, column, tiles):
    i, f, g, o, before_h, before_c = saved
    i, f = i + steps.total(sums, row, column, tiles), f + steps.total(sums, row, column + 1, tiles)
    g, o = g + steps.total(sums, row, column + 2, tiles), o + steps.total(sums, row, column + 3, tiles)
    return i, f, g, o, before_h, before_c


@device_function
def _take(saved, arrays, row, spot, step, unit, sizes, codes):
    i, f, g, o, before_h, before_c = saved
    bias, _, _, mask, output_mask, z, h, c, y, h_last, c_last = arrays
    units, at = sizes[2], row * sizes[2] + unit
    _, _, activation, recurrent_activation, keep = codes
    if bias.size > 0:
        i, f = i + bias[uint64(unit)], f + bias[uint64(units + unit)]
        g, o = g + bias[uint64(2 * units + unit)], o + bias[uint64(3 * units + unit)]
    i, f = steps.activate(recurrent_activation, i, z), steps.activate(recurrent_activation, f, z)
    g, o = steps.activate(activation, g, z), steps.activate(recurrent_activation, o, z)
    if keep != 0:
        index = spot * 4 * units + unit
        z[uint64(index)], z[uint64(index + units)] = i, f
        z[uint64(index + 2 * units)], z[uint64(index + 3 * units)] = g, o
    new_c = f * before_c + i * g
    new_h = o * steps.activate(activation, new_c, z)
    if steps.is_masked(mask, spot):
        new_h, new_c = before_h, before_c
    h_last[uint64(at)], c_last[uint64(at)] = new_h, new_c
    _write_step(h, c, y, output_mask, before_h, before_c, new_h, new_c, row, spot, step, unit, sizes, codes)
    return new_h


@device_function
def _gates(z, spot, unit, units):
    """Returns a unit's four numbers of z."""
    index = spot * 4 * units + unit
    i, f = z[uint64(index)], z[uint64(index + units)]
    return i, f, z[uint64(index + 2 * units)], z[uint64(index + 3 * units)]


@kernel(launch_bounds=steps.GRID)
def _grid_forward(
    weights, bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = z.dtype.type(0), (bias, h0, c0, mask, output_mask, z, h, c, y, h_last, c_last)
    nothing = zero, zero, zero, zero, zero, zero
    steps.forward_over_grid(
        _read, _add, _take, 4, nothing, weights, arrays, drop, sizes, codes, operands, counter, tiles
    )


@kernel
def _step_forward(bias, h0, c0, mask, output_mask, drop, z, h, c, y, h_last, c_last, sizes, codes, dropped, step):
    arrays = bias, h0, c0, mask, output_mask, z, h, c, y, h_last, c_last
    steps.step_forward(_read, _take, arrays, drop, sizes, codes, dropped, step)


# -------------------- backward --------------------


@kernel(launch_bounds=steps.BLOCK)
def _block_backward(packed, mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes):
    """Computes a sample. 16 lanes share four units: each sums a sixteenth of their terms, then has a gate of a unit."""
    _, length, units = sizes
    backwards, sequences, needs_h0, activation, recurrent_activation = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_EIGHT, z.dtype, alignment=16)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = (thread & 15) >> 2, (thread >> 4) * 4 + (thread & 3), steps.terms_of(units, 16)
    live, at, first_lane = unit < units, row * units + unit, thread & 19
    steps.hold(u, packed, 4, _PART, terms, 4)
    steps.clear(operand, _EIGHT)
    carry_h = carry_c = after = ahead = ahead_c = ahead_y = zero
    factor, last = z.dtype.type(1), length - 1
    spot, way = steps.spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry_h = steps.first_state(dh_last, at, z)
        carry_c = steps.first_state(dc_last, at, z)
        factor = steps.factor_of(drop, at, z)
        after = steps.state_before(c, row, length, unit, sizes, backwards)
        ahead = z[uint64((spot * 4 + gate) * units + unit)]
        ahead_c = c[uint64(spot * units + unit)]
        ahead_y = steps.output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, z)
    code = activation if gate == 2 else recurrent_activation
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * 4 * steps.ROOM
        own, before, s = ahead, ahead_c, carry_h + ahead_y
        masked = steps.is_masked(mask, spot)
        if live and step > 0:
            ahead = z[uint64(((spot + way) * 4 + gate) * units + unit)]
            ahead_c = c[uint64((spot + way) * units + unit)]
            ahead_y = steps.output_gradient(dy, output_mask, row, spot + way, step - 1, unit, sizes, sequences, z)
        i = cuda.shfl_sync(steps.EVERYONE, own, first_lane)
        f = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 4)
        g = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 8)
        o = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 12)
        v = steps.activate(activation, after, z)
        gradient, carry_h = zero, s
        if not masked:
            d = carry_c + s * o * steps.slope(activation, v, z)
            gradient = s * v
            if gate == 0:
                gradient = d * g
            elif gate == 1:
                gradient = d * before
            elif gate == 2:
                gradient = d * i
            gradient *= steps.slope(code, own, z)
            carry_h, carry_c = zero, d * f
        if live:
            dz[uint64((spot * 4 + gate) * units + unit)] = gradient
            operand[uint64(half + gate * steps.ROOM + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            carry_h += steps.product_back(sums, u, packed, 4, _PART, terms, operand, half) * factor
        after = before
        spot += way
    if live and gate == 0:
        dh[uint64(at)], dc[uint64(at)] = carry_h, carry_c


@device_function
def _read_back(arrays, row, spot, step, unit, sizes, codes):
    """Returns a unit's four gates, its c before and after the step, and the gradients of its h and c."""
    _, z, c, dh_last, dc_last, _, dh, dc = arrays
    _, length, units = sizes
    at, past = row * units + unit, length - 1 - step
    i, f, g, o = _gates(z, spot, unit, units)
    before, after = c[uint64(spot * units + unit)], steps.state_before(c, row, step + 1, unit, sizes, codes[0])
    carry_h, carry_c = steps.running_state(dh_last, dh, at, past), steps.running_state(dc_last, dc, at, past)
    return i, f, g, o, before, after, carry_h, carry_c


@device_function
def _take_back(s, saved, arrays, row, spot, unit, sizes, codes):
    i, f, g, o, before, after, carry_h, carry_c = saved
    mask, _, _, _, _, dz, dh, dc = arrays
    units = sizes[2]
    _, _, _, activation, recurrent_activation = codes
    zero, at, index = dz.dtype.type(0), row * units + unit, spot * 4 * units + unit
    s += carry_h
    di = df = dg = do = zero
    if not steps.is_masked(mask, spot):
        v = steps.activate(activation, after, dz)
        d = carry_c + s * o * steps.slope(activation, v, dz)
        di = d * g * steps.slope(recurrent_activation, i, dz)
        df = d * before * steps.slope(recurrent_activation, f, dz)
        dg, do = d * i * steps.slope(activation, g, dz), s * v * steps.slope(recurrent_activation, o, dz)
        s, carry_c = zero, d * f
    dz[uint64(index)], dz[uint64(index + units)] = di, df
    dz[uint64(index + 2 * units)], dz[uint64(index + 3 * units)] = dg, do
    dh[uint64(at)], dc[uint64(at)] = s, carry_c
    return di, df, dg, do


@kernel(launch_bounds=steps.GRID)
def _grid_backward(
    weights, mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = z.dtype.type(0), (mask, z, c, dh_last, dc_last, dz, dh, dc)
    nothing = zero, zero, zero, zero, zero, zero, zero, zero
    steps.back_over_grid(
        _read_back, _take_back, 4, nothing, weights, arrays, output_mask, drop, dy, dh, sizes, codes,
        operands, counter, tiles,
    )  # fmt: skip


@kernel
def _step_backward(mask, output_mask, drop, z, c, dy, dh_last, dc_last, dz, dh, dc, sizes, codes, temporary, step):
    arrays = mask, z, c, dh_last, dc_last, dz, dh, dc
    steps.step_back(_read_back, _take_back, arrays, output_mask, drop, dy, sizes, codes, temporary, step)
