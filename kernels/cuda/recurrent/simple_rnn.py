"""Twins of simple_rnn.py's loops: all steps of a SimpleRNN and the backward pass; see steps.py and recurrence.py."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size
from nbkeras.kernels.cuda.recurrent import recurrence as recurrent_cuda
from nbkeras.kernels.cuda.recurrent import steps as recurrence
from nbkeras.kernels.cuda.recurrent.steps import HELD, ROOM_OF_SUMS, uint64  # the size of an array must be a global
from nbkeras.kernels.recurrent.recurrence import Backward, Forward

_TERMS = size(32, simulated=4)  # of a lane that a block's thread keeps in registers
_PART = size(8, simulated=1)  # in the backward pass
_HELD_BACK = size(32, simulated=4)  # _PART * 4
_TWO = size(256, simulated=64)  # 2 * ROOM


def simple_rnn_forward_share(*args) -> None:
    """All steps; h is a history. args: Forward."""
    a = Forward(*args)
    batch, length, units = sizes = recurrent_cuda.sizes_of(a)
    z = recurrent_cuda.scratch("products", batch * length * units, a.x.dtype)
    recurrent_cuda.input_product(a.x, a.kernel, z)
    codes = a.activation, a.sequences, a.backwards
    args = a.bias, a.h0, a.mask, a.output_mask, a.drop, z, a.h, a.y, a.h_last, sizes, codes
    if not recurrent_cuda.run_at_once(_block_forward, _grid_forward, a.recurrent_kernel, 1, args, (a.h0, a.drop)):
        recurrent_cuda.run_by_steps(_step_forward, a, z, args)


def simple_rnn_backward_share(*args) -> None:
    """Back through all steps; dh ends as the gradient of the initial state. xt is x, dz of all steps. args: Backward."""
    a = Backward(*args)
    sizes, codes = (a.batch, a.length, a.units), (a.activation, a.sequences, a.backwards, a.needs_h0)
    args = a.mask, a.output_mask, a.drop, a.h, a.dy, a.dh_last, a.dz, a.dh, sizes, codes
    if not recurrent_cuda.run_at_once(_block_backward, _grid_backward, a.recurrent_kernel, 1, args):
        recurrent_cuda.run_back_by_steps(_step_backward, a, args)
    recurrent_cuda.weight_gradients(a)


# -------------------- forward --------------------


@device_function
def _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes):
    """The new h, from its sum; also written to the output and the history."""
    activation, sequences, _ = codes
    new = before if recurrence.is_masked(mask, spot) else recurrence.activate(activation, value, h)
    recurrence.keep_state(h, before, new, row, spot, step, unit, sizes)
    recurrence.write_output(y, new, output_mask, row, spot, step, unit, sizes, sequences)
    return new


@kernel(launch_bounds=(recurrence.BLOCK, 2))
def _block_forward(packed, bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes):
    """One sample. Four lanes have a unit: each adds up a quarter of its terms."""
    _, length, units = sizes
    backwards = codes[2]
    u, sums = cuda.local.array(_TERMS, z.dtype), cuda.local.array(1, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    lane, unit, terms = thread & 3, thread >> 2, recurrence.terms_of(units, 4)
    live, at = unit < units, row * units + unit
    recurrence.hold(u, packed, 1, _TERMS, terms, 1)
    recurrence.clear(operand, _TWO)
    state = offset = ahead = zero
    factor = z.dtype.type(1)
    spot, way = recurrence.spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state = recurrence.first_state(h0, at, z)
        factor = recurrence.factor_of(drop, at, z)
        offset = recurrence.first_state(bias, unit, z)
        ahead = z[uint64(spot * units + unit)]
    cuda.syncthreads()
    if live and lane == 0:
        operand[unit] = state * factor
    cuda.syncthreads()
    for step in range(length):
        value, half = ahead + offset, (step & 1) * recurrence.ROOM
        if live and step + 1 < length:
            ahead = z[uint64((spot + way) * units + unit)]
        sums[0] = zero
        recurrence.add_terms(sums, u, packed, 0, _TERMS, terms, 1, operand, half + lane, 4)
        added = sums[0] + cuda.shfl_xor_sync(recurrence.EVERYONE, sums[0], 1)
        value += added + cuda.shfl_xor_sync(recurrence.EVERYONE, added, 2)
        if live and lane == 0:
            state = _finish(value, state, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
            operand[uint64(recurrence.ROOM - half + unit)] = state * factor
        spot += way
        cuda.syncthreads()
    if live and lane == 0:
        h_last[uint64(at)] = state


@kernel(launch_bounds=recurrence.GRID)
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
    recurrence.hold_columns(u, weights, first_unit, units, 1, (1, 0, units), units, tiles)
    for step in range(length):
        source, target = (step & 1) * most * width, (1 - (step & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live = local_row < rows and row < batch and unit < units
            spot, at, value, before = recurrence.spot_of(row, step, length, codes[2]), row * units + unit, zero, zero
            if live:
                value = z[uint64(spot * units + unit)] + recurrence.first_state(bias, unit, z)
                before = recurrence.running_state(h0, h_last, at, step)
            recurrence.multiply(u, operands, source + first * width, shared, sums, tiles)
            if live:
                value += recurrence.total(sums, local_row, local_unit, tiles)
                new = _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
                h_last[uint64(at)] = new
                operands[uint64(target + row * width + unit)] = new * recurrence.factor_of(drop, at, z)
            first += apart
        if step + 1 < length:
            recurrence.meet(counter, (step + 1) * cuda.gridDim.x)


@kernel
def _step_forward(bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes, dropped, step):
    """One step of a unit of a sample, whose sum is in z."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = recurrence.spot_of(row, step, length, codes[2])
        value = z[spot * units + unit] + recurrence.first_state(bias, unit, z)
        before = recurrence.running_state(h0, h_last, at, step)
        new = _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
        h_last[at] = new
        if drop.size > 0:
            dropped[at] = new * drop[at]


# -------------------- backward --------------------


@kernel(launch_bounds=(recurrence.BLOCK, 2))
def _block_backward(packed, mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes):
    """One sample. 16 lanes have four units: each adds up a sixteenth of their terms; four then have the same unit."""
    _, length, units = sizes
    activation, sequences, backwards, needs_h0 = codes
    u, sums = cuda.local.array(_HELD_BACK, h.dtype), cuda.local.array(4, h.dtype)
    operand = cuda.shared.array(_TWO, h.dtype)
    zero, row, thread = h.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    first_lane, unit, terms = (thread & 15) < 4, (thread >> 4) * 4 + (thread & 3), recurrence.terms_of(units, 16)
    live, at, last = unit < units, row * units + unit, length - 1
    recurrence.hold(u, packed, 1, _PART, terms, 4)
    recurrence.clear(operand, _TWO)
    carry = after = ahead = ahead_y = zero
    factor = h.dtype.type(1)
    spot, way = recurrence.spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry, factor = recurrence.first_state(dh_last, at, h), recurrence.factor_of(drop, at, h)
        after = recurrence.state_before(h, row, length, unit, sizes, backwards)
        ahead = h[uint64(spot * units + unit)]
        ahead_y = recurrence.output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, h)
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * recurrence.ROOM
        before, s = ahead, carry + ahead_y
        masked = recurrence.is_masked(mask, spot)
        if live and step > 0:
            ahead = h[uint64((spot + way) * units + unit)]
            ahead_y = recurrence.output_gradient(dy, output_mask, row, spot + way, step - 1, unit, sizes, sequences, h)
        gradient, carry = zero, s
        if not masked:
            gradient, carry = s * recurrence.slope(activation, after, h), zero
        if live and first_lane:
            dz[uint64(spot * units + unit)] = gradient
            operand[uint64(half + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            for k in range(4):
                sums[k] = zero
            recurrence.add_terms(sums, u, packed, 0, _PART, terms, 4, operand, half + (thread & 15), 16)
            value = recurrence.sum_of_lane(sums, thread)
            value += cuda.shfl_xor_sync(recurrence.EVERYONE, value, 4)
            value += cuda.shfl_xor_sync(recurrence.EVERYONE, value, 8)
            carry += value * factor
        after = before
        spot += way
    if live and first_lane:
        dh[uint64(at)] = carry


@device_function
def _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes):
    """Take a unit's step back. s: the addend to the gradient of its h. Returns its number of dz."""
    units, gradient = sizes[2], dz.dtype.type(0)
    s += carry
    if not recurrence.is_masked(mask, spot):
        gradient, s = s * recurrence.slope(codes[0], after, dz), gradient
    dz[uint64(spot * units + unit)] = gradient
    dh[uint64(row * units + unit)] = s
    return gradient


@kernel(launch_bounds=recurrence.GRID)
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
    recurrence.hold_columns(u, weights, first_unit, units, 1, (units, 0, 1), units, tiles)
    for past in range(length + needs_h0):
        step, source, target = length - 1 - past, (past & 1) * most * width, (1 - (past & 1)) * most * width
        first = first_row
        while first < batch:
            row = first + local_row
            live, at = local_row < rows and row < batch and unit < units, row * units + unit
            spot, s, after, carry = recurrence.spot_of(row, step, length, backwards), zero, zero, zero
            if live and step >= 0:
                s = recurrence.output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, h)
                after = recurrence.state_before(h, row, step + 1, unit, sizes, backwards)
                carry = recurrence.running_state(dh_last, dh, at, past)
            if past > 0:
                recurrence.multiply(u, operands, source + first * width, shared, sums, tiles)
                if live:
                    s += recurrence.total(sums, local_row, local_unit, tiles) * recurrence.factor_of(drop, at, h)
            if live:
                if step < 0:
                    dh[uint64(at)] += s
                else:
                    gradient = _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes)
                    operands[uint64(target + row * width + unit)] = gradient
            first += apart
        if step >= 0:
            recurrence.meet(counter, (past + 1) * cuda.gridDim.x)


@kernel
def _step_backward(mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes, temporary, step):
    """One step back of a unit of a sample; temporary: the products of the dz of the step after with the recurrent kernel."""
    batch, length, units = sizes
    _, sequences, backwards, _ = codes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = recurrence.spot_of(row, step, length, backwards)
        s = recurrence.output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, h)
        if step < length - 1:
            s += temporary[at] * recurrence.factor_of(drop, at, h)
        after = recurrence.state_before(h, row, step + 1, unit, sizes, backwards)
        carry = recurrence.running_state(dh_last, dh, at, length - 1 - step)
        _backward(s, after, carry, row, spot, unit, mask, dz, dh, sizes, codes)
