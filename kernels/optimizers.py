"""Optimizer steps on flat arrays, in place. A step is one pass over memory; formulas.py has the formulas.

Arguments of all steps: the weights `w`, the gradients `g`, then the optimizer's slots, all 1-D, of the same size and float dtype;
`rate`, float64 (1,), the learning rate; `step`, int64 (1,), the number of earlier steps; `decay`, the decoupled weight decay (w
-= w * decay * rate, before the step). Numbers that change from step to step are read from `rate` and `step`, so a replayed step
follows them. Nothing here needs a vjp, and nothing is returned.
"""

from collections.abc import Callable

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray

CHUNK = 16384  # least elements of a share (2 to 10 us of work); also the elements of a partial sum of squares


def launch(kernel: Callable, first: Array, *args) -> None:
    """Launches a kernel with shares; the first array has the size of all."""
    launch_shares(kernel, share_count(first.size, CHUNK), first, *args)


def _step(name: str, slots: str = "") -> Map:
    return Map(name, __name__, getattr(formulas, name), f"w {slots}")


sgd = _step("sgd")
sgd_momentum = _step("sgd_momentum", "m")
rmsprop = _step("rmsprop", "v")
rmsprop_momentum = _step("rmsprop_momentum", "v m")
rmsprop_centered = _step("rmsprop_centered", "v mean")
rmsprop_centered_momentum = _step("rmsprop_centered_momentum", "v m mean")
# the kernel for (has momentum, is centered)
RMSPROP = {
    (False, False): rmsprop,
    (True, False): rmsprop_momentum,
    (False, True): rmsprop_centered,
    (True, True): rmsprop_centered_momentum,
}
adagrad = _step("adagrad", "accumulator")
adadelta = _step("adadelta", "squares changes")
adam = _step("adam", "m v")
amsgrad = _step("amsgrad", "m v peak")
adamax = _step("adamax", "m u")
nadam_product = Map("nadam_product", __name__, formulas.nadam_product, "product")
nadam = _step("nadam", "m v")
lion = _step("lion", "m")
ftrl = _step("ftrl", "accumulator linear")
ftrl_power = _step("ftrl_power", "accumulator linear")
schedule_free_adam = _step("schedule_free_adam", "z v")
shrink = _step("shrink")


# Weights averaged over steps


@compiled(inline="always")
def share_range(size, share, shares):
    """Returns the unsigned indices of a share's elements. Signed ones may count from the end, which prevents vectorisation."""
    first, last = stretch(size, share, shares)
    return range(np.uint64(first), np.uint64(last))


@compiled
def moving_average(w, average, step, momentum, every, share, shares):
    """average = momentum * average + (1 - momentum) * w. In each `every`-th step (0: never), then w = average."""
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in share_range(w.size, share, shares):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in share_range(w.size, share, shares):
            w[i] = average[i]
