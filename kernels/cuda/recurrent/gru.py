"""Twins of gru.py's loops: all steps of a GRU and the way back; see recurrence.py for how, and gru_cell.py for the cell.

Where the reset gate comes before the product, a step has two products one after the other: steps are then taken one by one.
"""

from numba import cuda

from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, start
from nbkeras.kernels.cuda.recurrent import recurrence as recurrent_cuda
from nbkeras.kernels.cuda.recurrent.gru_cell import (
    backward,
    bias_of,
    block_backward,
    block_forward,
    finish,
    forward,
    grid_backward,
    grid_forward,
    saved_of,
)
from nbkeras.kernels.cuda.recurrent.recurrence import THREADS
from nbkeras.kernels.cuda.recurrent.steps import (
    activate,
    factor_of,
    is_masked,
    output_gradient,
    running_state,
    slope,
    spot_of,
)
from nbkeras.kernels.cuda.runtime import device as device_cuda


def gru_forward_share(
    x, kernel, recurrent_kernel, bias, h0, mask, output_mask, drop, xt, z, inner, h, dropped, y, h_last,
    activation, recurrent_activation, reset_after, sequences, backwards, block, ring, state_ring,
):  # fmt: skip
    """All steps; z, inner and h are batch-major, h a history where there is room for it."""
    (batch, length, _), units = x.shape, recurrent_kernel.shape[0]
    recurrent_cuda.input_product(x, kernel, z)
    sizes, keep = (batch, length, units), int(state_ring == length + 1)
    codes = activation, recurrent_activation, reset_after, sequences, backwards, keep
    args = bias.reshape(-1), h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes
    weights, width, two, count = recurrent_kernel.reshape(-1), 3 * units, 2 * units, blocks(batch * units, THREADS)
    if reset_after and recurrent_cuda.fits_block(z.dtype, batch, units):
        packed = recurrent_cuda.pack(recurrent_kernel, 3, backward=False)
        start(block_forward, batch, recurrent_cuda.block_threads(units), packed, *args)
        return
    if reset_after and recurrent_cuda.run_over_grid(grid_forward, batch, units, 3, units, (weights, *args), (h0, drop)):
        return
    operand = h0
    if drop.size and h0.size:
        operand = dropped
        recurrent_cuda.times_drop(h0, drop, dropped, units, units, units)
    for step in range(length):
        fresh = not step and not h0.size
        time = length - 1 - step if backwards else step
        at, inner_at, lda, row = time * width, time * units, length * units, length * width
        if not fresh:
            product(False, False, batch, two, units, operand, 0, units, weights, 0, width, 1.0, z, at, row)
            if reset_after:
                product(
                    False, False, batch, units, units, operand, 0, units, weights, two, width, 0.0, inner, inner_at, lda
                )
        if not reset_after:
            start(_step_reset, count, THREADS, bias.reshape(-1), z, inner, operand, sizes, codes, step, int(fresh))
            if not fresh:
                product(
                    False, False, batch, units, units, inner, inner_at, lda, weights, two, width, 1.0, z, at + two, row
                )  # fmt: skip
        start(_step_forward, count, THREADS, *args, dropped, step, int(fresh))
        operand = dropped if drop.size else h_last


def gru_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, z, inner, h, dy, dh_last,
    dz, dinner, temporary, dropped, dx, dh, dw, du, db, parts,
    activation, recurrent_activation, reset_after, sequences, backwards, block, batch, length, features, units,
    turned, needs_h0,
):  # fmt: skip
    """Back through all steps; dh ends as the gradient of the initial state. xt is x, dz and dinner of all steps."""
    sizes = batch, length, units
    codes = activation, recurrent_activation, reset_after, sequences, backwards, needs_h0
    args = mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes
    weights, width, two, rows = recurrent_kernel.reshape(-1), 3 * units, 2 * units, batch * length
    if reset_after and recurrent_cuda.fits_block(z.dtype, batch, units):
        packed = recurrent_cuda.pack(recurrent_kernel, 3, backward=True)
        start(block_backward, batch, recurrent_cuda.block_threads(units), packed, *args)
    elif not (reset_after and recurrent_cuda.run_over_grid(grid_backward, batch, units, 1, width, (weights, *args))):
        _step_by_step(args, weights, temporary, sizes, reset_after, backwards, needs_h0)
    recurrent_cuda.input_gradients(xt, kernel, turned, dz, dx, dw, width, features)
    if du.size:
        operands = recurrent_cuda.operands(h, drop, dropped, batch, length, units)
        product(True, False, units, two, rows, operands, 0, units, dz, 0, width, 0.0, du, 0, width)
        if reset_after:
            product(True, False, units, units, rows, operands, 0, units, dinner, 0, units, 0.0, du, two, width)
        else:
            product(True, False, units, units, rows, inner, 0, units, dz, two, width, 0.0, du, two, width)
    if db.size:
        db = db.reshape(-1)
        recurrent_cuda.sum_rows(dz, width, db[:width])
        if reset_after:
            device_cuda.copy(db[:two], db[width : width + two])
            recurrent_cuda.sum_rows(dinner, units, db[width + two :])


def _step_by_step(args, weights, temporary, sizes, reset_after, backwards, needs_h0) -> None:
    """The way back in single steps; temporary (batch, units) gets what comes to h through the products."""
    _, _, drop, _, _, _, _, _, dz, dinner, dh, _, _ = args
    batch, length, units = sizes
    width, two, count = 3 * units, 2 * units, blocks(batch * units, THREADS)
    for step in range(length - 1, -1, -1):
        time = length - 1 - step if backwards else step
        at, inner_at, lda, row = time * width, time * units, length * units, length * width
        start(_step_backward, count, THREADS, *args, temporary, step)
        back = step > 0 or needs_h0
        if not reset_after:
            product(False, True, batch, units, units, dz, at + two, row, weights, two, width, 0.0, temporary, 0, units)
            start(_step_reset_back, count, THREADS, *args, temporary, step)
        if back:
            beta = 0.0 if reset_after else 1.0
            product(False, True, batch, units, two, dz, at, row, weights, 0, width, beta, temporary, 0, units)
        if back and reset_after:
            product(
                False, True, batch, units, units, dinner, inner_at, lda, weights, two, width, 1.0, temporary, 0, units
            )
    if needs_h0:
        recurrent_cuda.add_product(temporary, drop, dh)


# -------------------- one step --------------------


@kernel
def _step_forward(bias, h0, mask, output_mask, drop, z, inner, h, y, h_last, sizes, codes, dropped, step, fresh):
    """One step of a unit of a sample, whose gates' sums are in z and inner. fresh: the operand was 0 and inner is not there."""
    batch, length, units = sizes
    activation, _, reset_after, _, backwards, _ = codes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, backwards)
        place, before = spot * 3 * units + unit, running_state(h0, h_last, at, step)
        if reset_after != 0:
            inside = z.dtype.type(0) if fresh != 0 else inner[spot * units + unit]
            new = forward(
                z[place], z[place + units], z[place + 2 * units], inside, before, row, spot, step, unit,
                bias, mask, output_mask, z, inner, h, y, h_last, sizes, codes,
            )  # fmt: skip
        else:
            candidate = activate(activation, z[place + 2 * units] + bias_of(bias, 2, unit, units, 0, z), z)
            z[place + 2 * units] = candidate
            new = finish(
                z[place], candidate, before, row, spot, step, unit, mask, output_mask, h, y, h_last, sizes, codes
            )
        if drop.size > 0:
            dropped[at] = new * drop[at]


@kernel
def _step_reset(bias, z, inner, operand, sizes, codes, step, fresh):
    """The update and the reset gate of a step, and inner, the operand times the reset gate."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, codes[4])
        place = spot * 3 * units + unit
        z[place] = activate(codes[1], z[place] + bias_of(bias, 0, unit, units, 0, z), z)
        reset = activate(codes[1], z[place + units] + bias_of(bias, 1, unit, units, 0, z), z)
        z[place + units] = reset
        inner[spot * units + unit] = z.dtype.type(0) if fresh != 0 else reset * operand[at]


@kernel
def _step_backward(mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, temporary, step):
    """One step back of a unit of a sample; temporary: what comes to h through the products of the step after."""
    batch, length, units = sizes
    _, _, reset_after, sequences, backwards, _ = codes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, backwards)
        s = output_gradient(dy, output_mask, row, spot, step, unit, sizes, sequences, z)
        if step < length - 1:
            s += temporary[at] * factor_of(drop, at, z)
        saved = saved_of(z, inner, h, dh_last, dh, row, spot, step, unit, sizes, reset_after)
        backward(s, saved, row, spot, unit, mask, dz, dinner, dh, sizes, codes)


@kernel
def _step_reset_back(mask, output_mask, drop, z, inner, h, dy, dh_last, dz, dinner, dh, sizes, codes, temporary, step):
    """The reset gate's gradient, from the product's with the candidate's in `temporary`, which goes on to h."""
    batch, length, units = sizes
    at = cuda.grid(1)
    if at < batch * units:
        row, unit = at // units, at % units
        spot = spot_of(row, step, length, codes[4])
        through, d_reset = temporary[at], z.dtype.type(0)
        reset = z[(spot * 3 + 1) * units + unit]
        if not is_masked(mask, spot):
            operand = h[spot * units + unit] * factor_of(drop, at, z)
            d_reset = through * operand * slope(codes[1], reset, z)
        dz[(spot * 3 + 1) * units + unit] = d_reset
        temporary[at] = z.dtype.type(0) if is_masked(mask, spot) else through * reset
