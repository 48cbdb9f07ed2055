"""Twins of lstm.py's kernels: all steps of an LSTM and the backward pass; see recurrence.py."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import kernel
from nbkeras.kernels.cuda.recurrent import recurrence as steps
from nbkeras.kernels.recurrent.recurrence import Backward, Forward


def lstm_forward_share(*args) -> None:
    """Runs all steps. z, h and c are batch-major; h and c are histories if they have room for one. args: Forward."""
    a = Forward(*args)
    states = a.h0, a.c0, a.h, a.c, a.h_last, a.c_last
    steps.run_steps(_step, a, a.z, (a.z, a.mask, a.output_mask, a.drop, a.dropped, a.y, *states))


def lstm_backward_share(*args) -> None:
    """Goes back through all steps; dh and dc end as the gradients of h0 and c0. xt is x; dz holds all steps. args: Backward."""
    a = Backward(*args)
    args = a.mask, a.output_mask, a.drop, a.temporary, a.z, a.c, a.dy, a.dh_last, a.dc_last, a.dz, a.dh, a.dc
    steps.run_steps_back(_step_back, a, args)


@kernel
def _step(z, mask, output_mask, drop, dropped, y, h0, c0, h, c, h_last, c_last, form, step):
    n = cuda.grid(1)
    if n < h_last.size:
        spot, units, activation, recurrent_activation = steps.spot_of(n, step, form), form[1], form[4], form[5]
        at = spot * 4 * units + n % units
        i = steps.activate(recurrent_activation, z[at], z)
        f = steps.activate(recurrent_activation, z[at + units], z)
        g = steps.activate(activation, z[at + 2 * units], z)
        o = steps.activate(recurrent_activation, z[at + 3 * units], z)
        z[at], z[at + units], z[at + 2 * units], z[at + 3 * units] = i, f, g, o
        before_h = new_h = steps.running_state(h0, h_last, n, step)
        before_c = new_c = steps.running_state(c0, c_last, n, step)
        if not steps.is_masked(mask, spot):
            new_c = f * before_c + i * g
            new_h = o * steps.activate(activation, new_c, z)
        steps.keep_state(c, c_last, before_c, new_c, n, spot, step, form)
        steps.finish(h, h_last, before_h, new_h, output_mask, drop, dropped, y, n, spot, step, form)


@kernel
def _step_back(mask, output_mask, drop, temporary, z, c, dy, dh_last, dc_last, dz, dh, dc, form, step):
    n = cuda.grid(1)
    if n < dh.size:
        length, units, _, _, activation, recurrent_activation, _ = form
        spot, zero = steps.spot_of(n, step, form), dz.dtype.type(0)
        at = spot * 4 * units + n % units
        s = steps.gradient_of_h(dh_last, dh, dy, output_mask, drop, temporary, n, spot, step, form)
        carry = steps.running_state(dc_last, dc, n, length - 1 - step)
        di = df = dg = do = zero
        if not steps.is_masked(mask, spot):
            i, f, g, o = z[at], z[at + units], z[at + 2 * units], z[at + 3 * units]
            v = steps.activate(activation, steps.state_after(c, n, step, form), dz)
            d = carry + s * o * steps.slope(activation, v, dz)
            di = d * g * steps.slope(recurrent_activation, i, dz)
            df = d * c[spot * units + n % units] * steps.slope(recurrent_activation, f, dz)
            dg, do = d * i * steps.slope(activation, g, dz), s * v * steps.slope(recurrent_activation, o, dz)
            s, carry = zero, d * f
        dz[at], dz[at + units], dz[at + 2 * units], dz[at + 3 * units] = di, df, dg, do
        dh[n], dc[n] = s, carry
