"""Twins of gru.py's kernels: all steps of a GRU and the backward pass; see recurrence.py and steps.py.

If the reset gate comes before the product, a step needs two products in sequence. These steps are launched one by one.
"""

from numba import cuda

from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size, start_each
from nbkeras.kernels.cuda.recurrent import recurrence, steps
from nbkeras.kernels.cuda.recurrent.steps import uint64
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.recurrent.recurrence import Backward, Forward

_TERMS = size(20, simulated=4)  # terms of each gate that a lane keeps in registers
_HELD = size(60, simulated=12)  # _TERMS * 3
_PART = size(4, simulated=1)  # the same in the backward pass
_HELD_BACK = size(48, simulated=12)  # _PART * 3 * 4
_TWO = size(256, simulated=64)  # 2 * ROOM
_SIX = size(768, simulated=192)  # 6 * ROOM


def gru_forward_share(*args) -> None:
    """Runs all steps. z, inner and h are batch-major; h is a history if it has room for one. args: Forward."""
    a = Forward(*args)
    keep = int(a.state_ring == a.x.shape[1] + 1)
    recurrence.input_product(a.x, a.kernel, a.z)
    sizes = recurrence.sizes_of(a)
    codes = a.backwards, a.sequences, a.activation, a.recurrent_activation, a.reset_after, keep
    args = a.bias, a.h0, a.mask, a.output_mask, a.drop, a.z, a.inner, a.h, a.y, a.h_last, sizes, codes
    if not a.reset_after or not recurrence.run_at_once(
        _block_forward, _grid_forward, a.recurrent_kernel, 3, args, (a.h0, a.drop)
    ):
        _run_by_steps(a, args)


def _run_by_steps(a: Forward, args: tuple) -> None:
    """Runs the steps one by one: products with the recurrent kernel, and kernels for the gates."""
    *_, (batch, length, units), codes = args
    z, inner, weights, width, two = a.z, a.inner, a.recurrent_kernel.reshape(-1), 3 * units, 2 * units
    count, lda, row = batch * units, length * units, length * width
    operand = recurrence.first_operand(a)
    for step in range(length):
        fresh = not step and not a.h0.size
        time = length - 1 - step if a.backwards else step
        at, inner_at = time * width, time * units
        if not fresh:
            product(False, False, batch, two, units, operand, 0, units, weights, 0, width, 1.0, z, at, row)
        if not fresh and a.reset_after:
            product(
                False, False, batch, units, units, operand, 0, units, weights, two, width, 0.0, inner, inner_at, lda
            )  # fmt: skip
        if not a.reset_after:
            start_each(_step_reset, count, a.bias, z, inner, operand, *args[-2:], step, int(fresh))
        if not fresh and not a.reset_after:
            product(
                False, False, batch, units, units, inner, inner_at, lda, weights, two, width, 1.0, z, at + two, row
            )  # fmt: skip
        start_each(_step_forward, count, *args, a.dropped, step, int(fresh))
        operand = a.dropped if a.drop.size else a.h_last


def gru_backward_share(*args) -> None:
    """Goes back through all steps; dh ends as the gradient of h0. xt is x; dz and dinner hold all steps. args: Backward."""
    a = Backward(*args)
    sizes = a.batch, a.length, a.units
    codes = a.backwards, a.sequences, a.needs_h0, a.activation, a.recurrent_activation, a.reset_after
    args = a.mask, a.output_mask, a.drop, a.z, a.inner, a.h, a.dy, a.dh_last, a.dz, a.dinner, a.dh, sizes, codes
    if not a.reset_after or not recurrence.run_at_once(_block_backward, _grid_backward, a.recurrent_kernel, 3, args):
        _run_back_by_steps(a, args)
    recurrence.input_gradients(a)
    if a.du.size:
        _recurrent_kernel_gradient(a)
    if a.db.size:
        _bias_gradient(a)


def _recurrent_kernel_gradient(a: Backward) -> None:
    """Computes du from the operands of all steps and dz: one product for two gates, one for the candidate."""
    units, width, two, rows = a.units, 3 * a.units, 2 * a.units, a.batch * a.length
    operands = recurrence.operands(a)
    product(True, False, units, two, rows, operands, 0, units, a.dz, 0, width, 0.0, a.du, 0, width)
    if a.reset_after:
        product(True, False, units, units, rows, operands, 0, units, a.dinner, 0, units, 0.0, a.du, two, width)
    else:
        product(True, False, units, units, rows, a.inner, 0, units, a.dz, two, width, 0.0, a.du, two, width)


def _bias_gradient(a: Backward) -> None:
    """Computes db, the sums of dz; with reset_after also the second bias's gradient, which differs in the candidate's part."""
    width, two = 3 * a.units, 2 * a.units
    recurrence.sum_rows(a.dz, width, a.db[:width])
    if a.reset_after:
        device_cuda.copy(a.db[:two], a.db[width : width + two])
        recurrence.sum_rows(a.dinner, a.units, a.db[width + two :])


def _run_back_by_steps(a: Backward, args: tuple) -> None:
    """Runs the backward pass step by step. temporary (batch, units) gets the gradient of h from the products."""
    batch, length, units, dz, temporary = a.batch, a.length, a.units, a.dz, a.temporary
    weights, width, two, count = a.recurrent_kernel.reshape(-1), 3 * units, 2 * units, batch * units
    lda, row = length * units, length * width
    for step in range(length - 1, -1, -1):
        time = length - 1 - step if a.backwards else step
        at, inner_at = time * width, time * units
        start_each(_step_backward, count, *args, temporary, step)
        back = step > 0 or a.needs_h0
        if not a.reset_after:
            product(False, True, batch, units, units, dz, at + two, row, weights, two, width, 0.0, temporary, 0, units)
            start_each(_step_reset_back, count, *args, temporary, step)
        if back:
            beta = 0.0 if a.reset_after else 1.0
            product(False, True, batch, units, two, dz, at, row, weights, 0, width, beta, temporary, 0, units)
        if back and a.reset_after:
            product(
                False, True, batch, units, units, a.dinner, inner_at, lda, weights, two, width, 1.0, temporary, 0, units
            )  # fmt: skip
    if a.needs_h0:
        recurrence.add_product(temporary, a.drop, a.dh)


# -------------------- forward --------------------


@device_function
def _write_step(h, y, output_mask, before, new, row, spot, step, unit, sizes, codes):
    """Writes a step's output, and its states if they are kept."""
    steps.write_output(y, new, output_mask, row, spot, step, unit, sizes, codes[1])
    if codes[5] != 0:
        steps.keep_state(h, before, new, row, spot, step, unit, sizes)


@device_function
def _bias_of(bias, gate, unit, units, reset_after, like):
    """Returns the bias of a gate, without the part that the reset gate multiplies."""
    if bias.size == 0:
        return like.dtype.type(0)
    value = bias[uint64(gate * units + unit)]
    if reset_after != 0 and gate < 2:
        value += bias[uint64((3 + gate) * units + unit)]
    return value


@kernel(launch_bounds=steps.BLOCK)
def _block_forward(packed, bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes):
    """Computes a sample. Four lanes share a unit: each sums a quarter of the terms of its gates; then three have a gate each."""
    _, length, units = sizes
    backwards, _, activation, recurrent_activation, _, keep = codes
    u, sums = cuda.local.array(_HELD, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_TWO, z.dtype)
    zero, one, row, thread = z.dtype.type(0), z.dtype.type(1), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = thread & 3, thread >> 2, steps.terms_of(units, 4)
    live, at, first_lane = unit < units, row * units + unit, thread & 28
    steps.hold(u, packed, 1, _TERMS, terms, 3)
    steps.clear(operand, _TWO)
    state = offset = inner_offset = ahead = zero
    factor = one
    spot, way = steps.spot_of(row, 0, length, backwards), -1 if backwards != 0 else 1
    if live:
        state, factor = steps.first_state(h0, at, z), steps.factor_of(drop, at, z)
        if gate < 3:
            offset = _bias_of(bias, gate, unit, units, 1, z)
            ahead = z[uint64((spot * 3 + gate) * units + unit)]
        if bias.size > 0:
            inner_offset = bias[uint64(5 * units + unit)]
    cuda.syncthreads()
    if live and gate == 0:
        operand[unit] = state * factor
    cuda.syncthreads()
    for step in range(length):
        value, half, masked = ahead + offset, (step & 1) * steps.ROOM, steps.is_masked(mask, spot)
        if live and gate < 3 and step + 1 < length:
            ahead = z[uint64(((spot + way) * 3 + gate) * units + unit)]
        for k in range(4):
            sums[k] = zero
        steps.add_terms(sums, u, packed, 0, _TERMS, terms, 3, operand, half + gate, 4)
        added = steps.sum_of_lane(sums, gate)
        if gate < 2:
            value = steps.activate(recurrent_activation, value + added, z)
        update = cuda.shfl_sync(steps.EVERYONE, value, first_lane)
        reset = cuda.shfl_sync(steps.EVERYONE, value, first_lane + 1)
        inside = added + inner_offset
        if gate == 2:
            value = steps.activate(activation, value + reset * inside, z)
        new = cuda.shfl_sync(steps.EVERYONE, value, first_lane + 2)
        new = update * state + (one - update) * new
        if masked:
            new = state
        if live and gate < 3 and keep != 0:
            z[uint64((spot * 3 + gate) * units + unit)] = value
            if gate == 2:
                inner[uint64(spot * units + unit)] = inside
        if live and gate == 0:
            operand[uint64(steps.ROOM - half + unit)] = new * factor
            _write_step(h, y, output_mask, state, new, row, spot, step, unit, sizes, codes)
        state = new
        spot += way
        cuda.syncthreads()
    if live and gate == 0:
        h_last[uint64(at)] = state


@device_function
def _read(arrays, row, spot, step, unit, sizes, codes):
    """Returns the sums of a unit's gates so far, and its h before the step."""
    _, h0, _, _, z, _, _, _, h_last = arrays
    units, index = sizes[2], spot * 3 * sizes[2] + unit
    update, reset, new = z[uint64(index)], z[uint64(index + units)], z[uint64(index + 2 * units)]
    return update, reset, new, steps.running_state(h0, h_last, row * units + unit, step)


@device_function
def _add(saved, sums, row, column, tiles):
    """Adds sums of products to the gates. The third one stays separate, because the reset gate multiplies it."""
    update, reset, new, before = saved
    update += steps.total(sums, row, column, tiles)
    reset += steps.total(sums, row, column + 1, tiles)
    return update, reset, new, steps.total(sums, row, column + 2, tiles), before


@device_function
def _take(saved, arrays, row, spot, step, unit, sizes, codes):
    update, reset, new, inside, before = saved
    bias, _, mask, output_mask, z, inner, h, y, h_last = arrays
    units = sizes[2]
    _, _, activation, recurrent_activation, _, keep = codes
    update = steps.activate(recurrent_activation, update + _bias_of(bias, 0, unit, units, 1, z), z)
    reset = steps.activate(recurrent_activation, reset + _bias_of(bias, 1, unit, units, 1, z), z)
    if bias.size > 0:
        inside += bias[uint64(5 * units + unit)]
    new = steps.activate(activation, new + _bias_of(bias, 2, unit, units, 1, z) + reset * inside, z)
    if keep != 0:
        index = spot * 3 * units + unit
        z[uint64(index)] = update
        z[uint64(index + units)] = reset
        z[uint64(index + 2 * units)] = new
        inner[uint64(spot * units + unit)] = inside
    return _finish(update, new, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes)


@device_function
def _finish(update, new, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes):
    """Returns the new h, from the update gate, the candidate and the old h; writes it to all arrays that keep it."""
    new = before if steps.is_masked(mask, spot) else update * before + (h.dtype.type(1) - update) * new
    h_last[uint64(row * sizes[2] + unit)] = new
    _write_step(h, y, output_mask, before, new, row, spot, step, unit, sizes, codes)
    return new


@kernel(launch_bounds=steps.GRID)
def _grid_forward(
    weights, bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = z.dtype.type(0), (bias, h0, mask, output_mask, z, inner, h, y, h_last)
    nothing = zero, zero, zero, zero
    steps.forward_over_grid(
        _read, _add, _take, 3, nothing, weights, arrays, drop, sizes, codes, operands, counter, tiles
    )


# -------------------- backward --------------------


@kernel(launch_bounds=steps.BLOCK)
def _block_backward(packed, mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes):
    """Computes a sample. 16 lanes share four units: each sums a sixteenth of the terms. Then three lanes have a gate each."""
    _, length, units = sizes
    backwards, sequences, needs_h0, activation, recurrent_activation, _ = codes
    u, sums = cuda.local.array(_HELD_BACK, z.dtype), cuda.local.array(4, z.dtype)
    operand = cuda.shared.array(_SIX, z.dtype)
    zero, one, row, thread = z.dtype.type(0), z.dtype.type(1), cuda.blockIdx.x, cuda.threadIdx.x
    gate, unit, terms = (thread & 15) >> 2, (thread >> 4) * 4 + (thread & 3), steps.terms_of(units, 16)
    live, at, first_lane = unit < units, row * units + unit, thread & 19
    steps.hold(u, packed, 3, _PART, terms, 4)
    steps.clear(operand, _SIX)
    carry = ahead = ahead_h = ahead_y = zero
    factor, last = one, length - 1
    spot, way = steps.spot_of(row, last, length, backwards), 1 if backwards != 0 else -1
    if live:
        carry, factor = steps.first_state(dh_last, at, z), steps.factor_of(drop, at, z)
        ahead = z[uint64((spot * 3 + gate) * units + unit)] if gate < 3 else inner[uint64(spot * units + unit)]
        ahead_h = h[uint64(spot * units + unit)]
        ahead_y = steps.output_gradient(dy, output_mask, row, spot, last, unit, sizes, sequences, z)
    cuda.syncthreads()
    for past in range(length):
        step, half = last - past, (past & 1) * 3 * steps.ROOM
        own, before, s = ahead, ahead_h, carry + ahead_y
        masked = steps.is_masked(mask, spot)
        if live and step > 0:
            nearer = spot + way
            ahead = z[uint64((nearer * 3 + gate) * units + unit)] if gate < 3 else inner[uint64(nearer * units + unit)]
            ahead_h = h[uint64(nearer * units + unit)]
            ahead_y = steps.output_gradient(dy, output_mask, row, nearer, step - 1, unit, sizes, sequences, z)
        update = cuda.shfl_sync(steps.EVERYONE, own, first_lane)
        reset = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 4)
        new = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 8)
        inside = cuda.shfl_sync(steps.EVERYONE, own, first_lane + 12)
        gradient = d_new = zero
        carry = s
        if not masked:
            d_new = s * (one - update) * steps.slope(activation, new, z)
            carry = s * update
            if gate == 0:
                gradient = s * (before - new) * steps.slope(recurrent_activation, update, z)
            elif gate == 1:
                gradient = d_new * inside * steps.slope(recurrent_activation, reset, z)
            elif gate == 2:
                gradient = d_new * reset
        if live and gate < 3:
            dz[uint64((spot * 3 + gate) * units + unit)] = d_new if gate == 2 else gradient
            operand[uint64(half + gate * steps.ROOM + unit)] = gradient
            if gate == 2:
                dinner[uint64(spot * units + unit)] = gradient
        cuda.syncthreads()
        if step > 0 or needs_h0 != 0:
            carry += steps.product_back(sums, u, packed, 3, _PART, terms, operand, half) * factor
        spot += way
    if live and gate == 0:
        dh[uint64(at)] = carry


@device_function
def _read_back(arrays, row, spot, step, unit, sizes, codes):
    """Returns a unit's gates, the number that the reset gate multiplied, h, and the gradient of h."""
    _, z, inner, h, dh_last, _, _, dh = arrays
    _, length, units = sizes
    index = spot * 3 * units + unit
    inside = inner[uint64(spot * units + unit)] if codes[5] != 0 else z.dtype.type(0)
    carry = steps.running_state(dh_last, dh, row * units + unit, length - 1 - step)
    before = h[uint64(spot * units + unit)]
    return z[uint64(index)], z[uint64(index + units)], z[uint64(index + 2 * units)], inside, before, carry


@device_function
def _take_back(s, saved, arrays, row, spot, unit, sizes, codes):
    """Takes a step back. If the reset gate comes before the product, its gradient is not known yet, and is set to 0."""
    update, reset, new, inside, before, carry = saved
    mask, _, _, _, _, dz, dinner, dh = arrays
    units, index = sizes[2], spot * 3 * sizes[2] + unit
    _, _, _, activation, recurrent_activation, reset_after = codes
    d_update = d_reset = d_new = dz.dtype.type(0)
    s += carry
    if not steps.is_masked(mask, spot):
        d_update = s * (before - new) * steps.slope(recurrent_activation, update, dz)
        d_new = s * (dz.dtype.type(1) - update) * steps.slope(activation, new, dz)
        s *= update
    d_inside = d_new
    if reset_after != 0:
        d_reset, d_inside = d_new * inside * steps.slope(recurrent_activation, reset, dz), d_new * reset
        dinner[uint64(spot * units + unit)] = d_inside
    dz[uint64(index)] = d_update
    dz[uint64(index + units)] = d_reset
    dz[uint64(index + 2 * units)] = d_new
    dh[uint64(row * units + unit)] = s
    return d_update, d_reset, d_inside


@kernel(launch_bounds=steps.GRID)
def _grid_backward(
    weights, mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, operands, counter, tiles
):  # fmt: skip
    zero, arrays = z.dtype.type(0), (mask, z, inner, h, dh_last, dz, dinner, dh)
    nothing = zero, zero, zero, zero, zero, zero
    steps.back_over_grid(
        _read_back, _take_back, 3, nothing, weights, arrays, output_mask, drop, dy, dh, sizes, codes,
        operands, counter, tiles,
    )  # fmt: skip


# -------------------- one step --------------------


@kernel
def _step_forward(bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes, dropped, step, fresh):
    """Computes one step of a unit of a sample, from the gates' sums in z and inner. fresh: the operand was 0, inner is unset."""
    batch, length, units = sizes
    backwards, _, activation, _, reset_after, _ = codes
    arrays = bias, h0, mask, output_mask, z, inner, h, y, h_last
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = steps.spot_of(row, step, length, backwards)
        index, before = spot * 3 * units + unit, steps.running_state(h0, h_last, at, step)
        if reset_after != 0:
            inside = z.dtype.type(0) if fresh != 0 else inner[spot * units + unit]
            saved = z[index], z[index + units], z[index + 2 * units], inside, before
            new = _take(saved, arrays, row, spot, step, unit, sizes, codes)
        else:
            new = steps.activate(activation, z[index + 2 * units] + _bias_of(bias, 2, unit, units, 0, z), z)
            z[index + 2 * units] = new
            new = _finish(z[index], new, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes)
        if drop.size > 0:
            dropped[at] = new * drop[at]


@kernel
def _step_reset(bias, z, inner, operand, sizes, codes, step, fresh):
    """Computes the update and the reset gate of a step, and inner, the operand times the reset gate."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = steps.spot_of(row, step, length, codes[0])
        index = spot * 3 * units + unit
        z[index] = steps.activate(codes[3], z[index] + _bias_of(bias, 0, unit, units, 0, z), z)
        reset = steps.activate(codes[3], z[index + units] + _bias_of(bias, 1, unit, units, 0, z), z)
        z[index + units] = reset
        inner[spot * units + unit] = z.dtype.type(0) if fresh != 0 else reset * operand[at]


@kernel
def _step_backward(mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, temporary, step):
    arrays = mask, z, inner, h, dh_last, dz, dinner, dh
    steps.step_back(_read_back, _take_back, arrays, output_mask, drop, dy, sizes, codes, temporary, step)


@kernel
def _step_reset_back(mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, temporary, step):
    """Computes the reset gate's gradient. `temporary`, the candidate's gradient times the kernel, then becomes h's part."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = steps.spot_of(row, step, length, codes[0])
        through, d_reset = temporary[at], z.dtype.type(0)
        reset = z[(spot * 3 + 1) * units + unit]
        if not steps.is_masked(mask, spot):
            operand = h[spot * units + unit] * steps.factor_of(drop, at, z)
            d_reset = through * operand * steps.slope(codes[4], reset, z)
        dz[(spot * 3 + 1) * units + unit] = d_reset
        temporary[at] = z.dtype.type(0) if steps.is_masked(mask, spot) else through * reset
