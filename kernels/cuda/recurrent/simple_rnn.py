"""Twins of simple_rnn.py's kernels: all steps of a SimpleRNN and the backward pass; see recurrence.py and steps.py."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size
from nbkeras.kernels.cuda.recurrent import recurrence, steps
from nbkeras.kernels.cuda.recurrent.steps import uint64
from nbkeras.kernels.recurrent.recurrence import Backward, Forward

_TERMS = size(32, simulated=4)  # terms that a lane keeps in registers
_PART = size(8, simulated=1)  # the same in the backward pass
_HELD_BACK = size(32, simulated=4)  # _PART * 4
_TWO = size(256, simulated=64)  # 2 * ROOM


def simple_rnn_forward_share(*args) -> None:
    """Runs all steps. h is a history. args: Forward."""
    a = Forward(*args)
    batch, length, units = sizes = recurrence.sizes_of(a)
    z = recurrence.scratch("products", batch * length * units, a.x.dtype)
    recurrence.input_product(a.x, a.kernel, z)
    codes = a.backwards, a.sequences, a.activation
    args = a.bias, a.h0, a.mask, a.output_mask, a.drop, z, a.h, a.y, a.h_last, sizes, codes
    if not recurrence.run_at_once(_block_forward, _grid_forward, a.recurrent_kernel, 1, args, (a.h0, a.drop)):
        recurrence.run_by_steps(_step_forward, a, z, args)


def simple_rnn_backward_share(*args) -> None:
    """Goes back through all steps; dh ends as the gradient of h0. xt is x; dz holds all steps. args: Backward."""
    a = Backward(*args)
    sizes, codes = (a.batch, a.length, a.units), (a.backwards, a.sequences, a.needs_h0, a.activation)
    args = a.mask, a.output_mask, a.drop, a.h, a.dy, a.dh_last, a.dz, a.dh, sizes, codes
    if not recurrence.run_at_once(_block_backward, _grid_backward, a.recurrent_kernel, 1, args):
        recurrence.run_back_by_steps(_step_backward, a, args)
    recurrence.weight_gradients(a)


# -------------------- forward --------------------


@device_function
def _read(arrays, row, spot, step, unit, sizes, codes):
    """Returns a unit's sum so far, and its h before the step."""
    bias, h0, _, _, z, _, _, h_last = arrays
    value = z[uint64(spot * sizes[2] + unit)] + steps.first_state(bias, unit, z)
    return value, steps.running_state(h0, h_last, row * sizes[2] + unit, step)


@device_function
def _add(saved, sums, row, column, tiles):
    return saved[0] + steps.total(sums, row, column, tiles), saved[1]


@device_function
def _take(saved, arrays, row, spot, step, unit, sizes, codes):
    """Returns the new h, and writes it to all arrays that keep it."""
    (value, before), (_, _, mask, output_mask, _, h, y, h_last) = saved, arrays
    new = _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
    h_last[uint64(row * sizes[2] + unit)] = new
    return new


@device_function
def _finish(value, before, row, spot, step, unit, mask, output_mask, h, y, sizes, codes):
    """Returns the new h from its sum, and writes it to the output and the history."""
    _, sequences, activation = codes
    new = before if steps.is_masked(mask, spot) else steps.activate(activation, value, h)
    steps.keep_state(h, before, new, row, spot, step, unit, sizes)
    steps.write_output(y, new, output_mask, row, spot, step, unit, sizes, sequences)
    return new


@kernel(launch_bounds=(steps.BLOCK, 2))
def _block_forward(packed, bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes):
    """Computes a sample. Four lanes share a unit: each sums a quarter of its terms."""
    _, length, units = sizes
    backwards = codes[0]
    u, sums = cuda.local.array(_TERMS, z.dtype), cuda.local.array(1, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype)
    zero, row, thread = z.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    lane, unit, terms = thread & 3, thread >> 2, steps.terms_of(units, 4)
    live, at = unit < units, row * units + unit
    steps.hold(u, packed, 1, _TERMS, terms, 1)
    steps.clear(operand, _TWO)
    state = offset = ahead = zero
    factor = z.dtype.type(1)
    spot, way = steps.spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state = steps.first_state(h0, at, z)
        factor = steps.factor_of(drop, at, z)
        offset = steps.first_state(bias, unit, z)
        ahead = z[uint64(spot * units + unit)]
    cuda.syncthreads()
    if live and lane == 0:
        operand[unit] = state * factor
    cuda.syncthreads()
    for step in range(length):
        value, half = ahead + offset, (step & 1) * steps.ROOM
        if live and step + 1 < length:
            ahead = z[uint64((spot + way) * units + unit)]
        sums[0] = zero
        steps.add_terms(sums, u, packed, 0, _TERMS, terms, 1, operand, half + lane, 4)
        added = sums[0] + cuda.shfl_xor_sync(steps.EVERYONE, sums[0], 1)
        value += added + cuda.shfl_xor_sync(steps.EVERYONE, added, 2)
        if live and lane == 0:
            state = _finish(value, state, row, spot, step, unit, mask, output_mask, h, y, sizes, codes)
            operand[uint64(steps.ROOM - half + unit)] = state * factor
        spot += way
        cuda.syncthreads()
    if live and lane == 0:
        h_last[uint64(at)] = state


@kernel(launch_bounds=steps.GRID)
def _grid_forward(
    weights, bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = z.dtype.type(0), (bias, h0, mask, output_mask, z, h, y, h_last)
    steps.forward_over_grid(
        _read, _add, _take, 1, (zero, zero), weights, arrays, drop, sizes, codes, operands, counter, tiles
    )


@kernel
def _step_forward(bias, h0, mask, output_mask, drop, z, h, y, h_last, sizes, codes, dropped, step):
    arrays = bias, h0, mask, output_mask, z, h, y, h_last
    steps.step_forward(_read, _take, arrays, drop, sizes, codes, dropped, step)


# -------------------- backward --------------------


@kernel(launch_bounds=(steps.BLOCK, 2))
def _block_backward(packed, mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes):
    """Computes a sample. 16 lanes share four units: each sums a sixteenth of their terms. Then four lanes share a unit."""
    _, length, units = sizes
    backwards, sequences, needs_h0, activation = codes
    u, sums = cuda.local.array(_HELD_BACK, h.dtype), cuda.local.array(4, h.dtype)
    operand = cuda.shared.array(_TWO, h.dtype)
    zero, row, thread = h.dtype.type(0), cuda.blockIdx.x, cuda.threadIdx.x
    first_lane, unit, terms = (thread & 15) < 4, (thread >> 4) * 4 + (thread & 3), steps.terms_of(units, 16)
    live, at, last = unit < units, row * units + unit, length - 1
    steps.hold(u, packed, 1, _PART, terms, 4)
    steps.clear(operand, _TWO)
    carry = after = ahead = ahead_y = zero
    factor = h.dtype.type(1)
    spot, way = steps.spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry, factor = steps.first_state(dh_last, at, h), steps.factor_of(drop, at, h)
        after = steps.state_before(h, row, length, unit, sizes, backwards)
        ahead = h[uint64(spot * units + unit)]
        ahead_y = steps.output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, h)
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * steps.ROOM
        before, s = ahead, carry + ahead_y
        masked = steps.is_masked(mask, spot)
        if live and step > 0:
            ahead = h[uint64((spot + way) * units + unit)]
            ahead_y = steps.output_gradient(dy, output_mask, row, spot + way, step - 1, unit, sizes, sequences, h)
        gradient, carry = zero, s
        if not masked:
            gradient, carry = s * steps.slope(activation, after, h), zero
        if live and first_lane:
            dz[uint64(spot * units + unit)] = gradient
            operand[uint64(half + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            carry += steps.product_back(sums, u, packed, 1, _PART, terms, operand, half) * factor
        after = before
        spot += way
    if live and first_lane:
        dh[uint64(at)] = carry


@device_function
def _read_back(arrays, row, spot, step, unit, sizes, codes):
    """Returns a unit's h after the step, and its gradient."""
    _, h, dh_last, _, dh = arrays
    after = steps.state_before(h, row, step + 1, unit, sizes, codes[0])
    return after, steps.running_state(dh_last, dh, row * sizes[2] + unit, sizes[1] - 1 - step)


@device_function
def _take_back(s, saved, arrays, row, spot, unit, sizes, codes):
    (after, carry), (mask, _, _, dz, dh) = saved, arrays
    units, gradient = sizes[2], dz.dtype.type(0)
    s += carry
    if not steps.is_masked(mask, spot):
        gradient, s = s * steps.slope(codes[3], after, dz), gradient
    dz[uint64(spot * units + unit)] = gradient
    dh[uint64(row * units + unit)] = s
    return (gradient,)


@kernel(launch_bounds=steps.GRID)
def _grid_backward(
    weights, mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = h.dtype.type(0), (mask, h, dh_last, dz, dh)
    steps.back_over_grid(
        _read_back, _take_back, 1, (zero, zero), weights, arrays, output_mask, drop, dy, dh, sizes, codes,
        operands, counter, tiles,
    )  # fmt: skip


@kernel
def _step_backward(mask, output_mask, drop, h, dy, dh_last, dz, dh, sizes, codes, temporary, step):
    arrays = mask, h, dh_last, dz, dh
    steps.step_back(_read_back, _take_back, arrays, output_mask, drop, dy, sizes, codes, temporary, step)
