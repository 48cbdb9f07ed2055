"""Twins of simple_rnn.py's kernels: all steps of a SimpleRNN and the backward pass; see recurrence.py."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import kernel
from nbkeras.kernels.cuda.recurrent import recurrence as steps
from nbkeras.kernels.recurrent.recurrence import Backward, Forward


def simple_rnn_forward_share(*args) -> None:
    """Runs all steps. h is a history. args: Forward."""
    a = Forward(*args)
    z = steps.scratch("products", a.x.shape[0] * a.x.shape[1] * a.recurrent_kernel.shape[0], a.x.dtype)
    steps.run_steps(_step, a, z, (z, a.h0, a.mask, a.output_mask, a.drop, a.dropped, a.h, a.y, a.h_last))


def simple_rnn_backward_share(*args) -> None:
    """Goes back through all steps; dh ends as the gradient of h0. xt is x; dz holds all steps. args: Backward."""
    a = Backward(*args)
    args = a.mask, a.output_mask, a.drop, a.temporary, a.h, a.dy, a.dh_last, a.dz, a.dh
    steps.run_steps_back(_step_back, a, args)


@kernel
def _step(z, h0, mask, output_mask, drop, dropped, h, y, h_last, form, step):
    n = cuda.grid(1)
    if n < h_last.size:
        spot, units = steps.spot_of(n, step, form), form[1]
        before = new = steps.running_state(h0, h_last, n, step)
        if not steps.is_masked(mask, spot):
            new = steps.activate(form[4], z[spot * units + n % units], z)
        steps.finish(h, h_last, before, new, output_mask, drop, dropped, y, n, spot, step, form)


@kernel
def _step_back(mask, output_mask, drop, temporary, h, dy, dh_last, dz, dh, form, step):
    n = cuda.grid(1)
    if n < dh.size:
        spot, gradient = steps.spot_of(n, step, form), dz.dtype.type(0)
        s = steps.gradient_of_h(dh_last, dh, dy, output_mask, drop, temporary, n, spot, step, form)
        if not steps.is_masked(mask, spot):
            gradient, s = s * steps.slope(form[4], steps.state_after(h, n, step, form), dz), gradient
        dz[spot * form[1] + n % form[1]] = gradient
        dh[n] = s
