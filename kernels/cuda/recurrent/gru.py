"""Twins of gru.py's kernels: all steps of a GRU and the backward pass; see recurrence.py.

A step has two products, because the reset gate multiplies the candidate's part of the second, or comes before it.
"""

from numba import cuda

from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import kernel, start_each
from nbkeras.kernels.cuda.recurrent import recurrence as steps
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.recurrent.recurrence import Backward, Forward


def gru_forward_share(*args) -> None:
    """Runs all steps. z, inner and h are batch-major; h is a history if it has room for one. args: Forward."""
    a = Forward(*args)
    (batch, length, _), (units, width) = a.x.shape, a.recurrent_kernel.shape
    z, inner, weights, two, form = (
        a.z,
        a.inner,
        a.recurrent_kernel.reshape(-1),
        2 * units,
        steps.form_of(a, length, units),
    )
    count, lda, row, second_bias = batch * units, length * units, length * width, a.bias[width:]
    operand = steps.first_operand(a)
    steps.input_product(a, z)
    for step in range(length):
        terms = units if step or a.h0.size else 0  # products without terms give the bias
        time = length - 1 - step if a.backwards else step
        at, inner_at = time * width, time * units
        product(
            False, False, batch, two, terms, operand, 0, units, weights, 0, width, 1.0, z, at, row, second_bias[:two]
        )  # fmt: skip
        if a.reset_after:
            product(
                False, False, batch, units, terms, operand, 0, units, weights, two, width, 0.0, inner, inner_at, lda,
                second_bias[two:],
            )  # fmt: skip
        else:
            start_each(_step_reset, count, z, inner, operand, form, step)
            product(
                False, False, batch, units, terms, inner, inner_at, lda, weights, two, width, 1.0, z, at + two, row
            )  # fmt: skip
        args = z, inner, a.h0, a.mask, a.output_mask, a.drop, a.dropped, a.h, a.y, a.h_last
        start_each(_step, count, *args, form, step)
        operand = a.dropped if a.drop.size else a.h_last


def gru_backward_share(*args) -> None:
    """Goes back through all steps; dh ends as the gradient of h0. xt is x; dz and dinner hold all steps. args: Backward.

    temporary (batch, units) gets the gradient of h from the products.
    """
    a = Backward(*args)
    batch, length, units, dz, temporary = a.batch, a.length, a.units, a.dz, a.temporary
    weights, width, two, count = a.recurrent_kernel.reshape(-1), 3 * units, 2 * units, batch * units
    lda, row, form = length * units, length * width, steps.form_of(a, length, units)
    args = a.mask, a.output_mask, a.drop, temporary, a.z, a.inner, a.h, a.dy, a.dh_last, dz, a.dinner, a.dh
    for step in range(length - 1, -1, -1):
        time = length - 1 - step if a.backwards else step
        at, inner_at = time * width, time * units
        start_each(_step_back, count, *args, form, step)
        back = step > 0 or a.needs_h0
        if not a.reset_after:
            product(False, True, batch, units, units, dz, at + two, row, weights, two, width, 0.0, temporary, 0, units)
            start_each(_step_reset_back, count, a.mask, a.drop, temporary, a.z, a.h, dz, form, step)
        if back:
            beta = 0.0 if a.reset_after else 1.0
            product(False, True, batch, units, two, dz, at, row, weights, 0, width, beta, temporary, 0, units)
        if back and a.reset_after:
            product(
                False, True, batch, units, units, a.dinner, inner_at, lda, weights, two, width, 1.0, temporary, 0, units
            )  # fmt: skip
    steps.add_first(a)
    steps.input_gradients(a)
    if a.du.size:
        _recurrent_kernel_gradient(a)
    if a.db.size:
        _bias_gradient(a)


def _recurrent_kernel_gradient(a: Backward) -> None:
    """Computes du from the operands of all steps and dz: one product for two gates, one for the candidate."""
    units, width, two, rows = a.units, 3 * a.units, 2 * a.units, a.batch * a.length
    operands = steps.operands(a)
    product(True, False, units, two, rows, operands, 0, units, a.dz, 0, width, 0.0, a.du, 0, width)
    if a.reset_after:
        product(True, False, units, units, rows, operands, 0, units, a.dinner, 0, units, 0.0, a.du, two, width)
    else:
        product(True, False, units, units, rows, a.inner, 0, units, a.dz, two, width, 0.0, a.du, two, width)


def _bias_gradient(a: Backward) -> None:
    """Computes db, the sums of dz; with reset_after also the second bias's gradient, which differs in the candidate's part."""
    width, two = 3 * a.units, 2 * a.units
    steps.sum_rows(a.dz, width, a.db[:width])
    if a.reset_after:
        device_cuda.copy(a.db[:two], a.db[width : width + two])
        steps.sum_rows(a.dinner, a.units, a.db[width + two :])


@kernel
def _step(z, inner, h0, mask, output_mask, drop, dropped, h, y, h_last, form, step):
    """Computes a unit's step from the sums of its gates in z and inner."""
    n = cuda.grid(1)
    if n < h_last.size:
        _, units, _, _, activation, recurrent_activation, reset_after = form
        spot = steps.spot_of(n, step, form)
        at = spot * 3 * units + n % units
        update, candidate = z[at], z[at + 2 * units]
        if reset_after != 0:
            update = steps.activate(recurrent_activation, update, z)
            reset = steps.activate(recurrent_activation, z[at + units], z)
            candidate += reset * inner[spot * units + n % units]
            z[at], z[at + units] = update, reset
        candidate = steps.activate(activation, candidate, z)
        z[at + 2 * units] = candidate
        before = new = steps.running_state(h0, h_last, n, step)
        if not steps.is_masked(mask, spot):
            new = update * before + (z.dtype.type(1) - update) * candidate
        steps.finish(h, h_last, before, new, output_mask, drop, dropped, y, n, spot, step, form)


@kernel
def _step_reset(z, inner, operand, form, step):
    """Computes the update and the reset gate of a step, and inner, the operand times the reset gate."""
    n = cuda.grid(1)
    if n < inner.size // form[0]:
        units, spot = form[1], steps.spot_of(n, step, form)
        at = spot * 3 * units + n % units
        z[at] = steps.activate(form[5], z[at], z)
        reset = steps.activate(form[5], z[at + units], z)
        z[at + units] = reset
        inner[spot * units + n % units] = reset * operand[n] if operand.size > 0 else z.dtype.type(0)


@kernel
def _step_back(mask, output_mask, drop, temporary, z, inner, h, dy, dh_last, dz, dinner, dh, form, step):
    """Takes a step back. If the reset gate comes before the product, its gradient is not known yet, and is set to 0."""
    n = cuda.grid(1)
    if n < dh.size:
        _, units, _, _, activation, recurrent_activation, reset_after = form
        spot = steps.spot_of(n, step, form)
        own, at = spot * units + n % units, spot * 3 * units + n % units
        update, reset, candidate = z[at], z[at + units], z[at + 2 * units]
        d_update = d_reset = d_candidate = dz.dtype.type(0)
        s = steps.gradient_of_h(dh_last, dh, dy, output_mask, drop, temporary, n, spot, step, form)
        if not steps.is_masked(mask, spot):
            d_update = s * (h[own] - candidate) * steps.slope(recurrent_activation, update, dz)
            d_candidate = s * (dz.dtype.type(1) - update) * steps.slope(activation, candidate, dz)
            s *= update
        if reset_after != 0:
            d_reset = d_candidate * inner[own] * steps.slope(recurrent_activation, reset, dz)
            dinner[own] = d_candidate * reset
        dz[at], dz[at + units], dz[at + 2 * units] = d_update, d_reset, d_candidate
        dh[n] = s


@kernel
def _step_reset_back(mask, drop, temporary, z, h, dz, form, step):
    """Computes the reset gate's gradient. `temporary`, the candidate's gradient times the kernel, then becomes h's part."""
    n = cuda.grid(1)
    if n < temporary.size:
        units, spot = form[1], steps.spot_of(n, step, form)
        at = (spot * 3 + 1) * units + n % units
        through, d_reset, d_h = temporary[n], z.dtype.type(0), z.dtype.type(0)
        if not steps.is_masked(mask, spot):
            operand = h[spot * units + n % units] * steps.factor_of(drop, n, z)
            d_reset = through * operand * steps.slope(form[5], z[at], z)
            d_h = through * z[at]
        dz[at] = d_reset
        temporary[n] = d_h
