"""Code that the twins of the recurrent families share: products, and device functions for a step.

x times the kernel is one matrix product for all steps, and so are the gradients of x and of the weights. The steps run one by
one: each is a product with the recurrent kernel, and a kernel for the gates with a thread for each unit of each sample.

Arrays of all steps are batch-major and in x's order of time. The *spot* of a sample's step is row * length + time. A *history*
holds the state before each step (batch, length, units) and then the state after the last one (batch, units). Each kernel gets a
form: (length, units, backwards, sequences, activation, recurrent_activation, reset_after), and n: unit n % units of sample
n // units.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda import reduce as reduce_cuda
from nbkeras.kernels.cuda.loops.gemm import product
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function, device_module, kernel, start_each
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent.recurrence import (
    HARD_SIGMOID,
    LEGACY_HARD_SIGMOID,
    RELU,
    SIGMOID,
    TANH,
    Backward,
    Forward,
)
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_formulas = device_module(recurrence)


def form_of(a: Forward | Backward, length: int, units: int) -> tuple:
    """Returns the form for kernels."""
    return length, units, a.backwards, a.sequences, a.activation, a.recurrent_activation, a.reset_after


def scratch(name: str, count: int, dtype: np.dtype) -> DeviceArray:
    """Returns memory for `count` numbers, valid until the twin returns."""
    return device.gpu().scratch(f"recurrent {name}", (count,), dtype)


# -------------------- for all steps --------------------


def input_product(a: Forward, z: DeviceArray) -> None:
    """Computes z = x @ kernel + bias for all samples and steps."""
    (features, width), rows = a.kernel.shape, a.x.shape[0] * a.x.shape[1]
    product(
        False, False, rows, width, features, a.x, 0, features, a.kernel, 0, width, 0.0, z, 0, width, a.bias[:width]
    )  # fmt: skip


def input_gradients(a: Backward) -> None:
    """Computes dw = x^T dz and dx = dz @ kernel^T, if they are needed."""
    rows, features = a.batch * a.length, a.features
    width = a.dz.size // rows
    if a.dw.size:
        product(True, False, features, width, rows, a.xt, 0, features, a.dz, 0, width, 0.0, a.dw, 0, width)
    if a.dx.size:
        product(False, True, rows, features, width, a.dz, 0, width, a.kernel, 0, width, 0.0, a.dx, 0, features)


def weight_gradients(a: Backward) -> None:
    """Computes dx and the weights' gradients for a family that multiplies h by the whole recurrent kernel at once."""
    units, rows = a.units, a.batch * a.length
    width = a.dz.size // rows
    input_gradients(a)
    if a.du.size:
        product(True, False, units, width, rows, operands(a), 0, units, a.dz, 0, width, 0.0, a.du, 0, width)
    if a.db.size:
        sum_rows(a.dz, width, a.db)


def sum_rows(dz: DeviceArray, width: int, total: DeviceArray) -> None:
    """Computes total, the sum of dz's rows."""
    reduce_cuda.fold(dz.reshape(-1, width), np.add, (0,), total)


def operands(a: Backward) -> DeviceArray:
    """Returns the factors that the recurrent kernel had in all steps, from the history of h."""
    if not a.drop.size:
        return a.h
    h = a.h[: a.batch * a.length * a.units]
    start_each(_times_drop, h.size, h, a.drop, a.dropped, a.length * a.units, a.units)
    return a.dropped


def first_operand(a: Forward) -> DeviceArray:
    """Returns the factor of the recurrent kernel in the first step: the initial h times `drop`."""
    if not a.drop.size or not a.h0.size:
        return a.h0
    units = a.recurrent_kernel.shape[0]
    start_each(_times_drop, a.h0.size, a.h0, a.drop, a.dropped, units, units)
    return a.dropped


@kernel
def _times_drop(a, drop, target, count, units):
    """target = a times the factors of the sample, which has `count` numbers."""
    i = cuda.grid(1)
    if i < a.size:
        target[i] = a[i] * drop[i // count * units + i % units]


# -------------------- step by step --------------------


def run_steps(step_kernel: Kernel, a: Forward, z: DeviceArray, args: tuple) -> None:
    """Computes z = x @ kernel + bias. For each step adds a product to z and runs `step_kernel(*args, form, step)`."""
    (batch, length, _), (units, width) = a.x.shape, a.recurrent_kernel.shape
    weights, operand, form = a.recurrent_kernel.reshape(-1), first_operand(a), form_of(a, length, units)
    input_product(a, z)
    for step in range(length):
        at = width * (length - 1 - step if a.backwards else step)
        if step or a.h0.size:
            product(False, False, batch, width, units, operand, 0, units, weights, 0, width, 1.0, z, at, length * width)
        start_each(step_kernel, batch * units, *args, form, step)
        operand = a.dropped if a.drop.size else a.h_last


def run_steps_back(step_kernel: Kernel, a: Backward, args: tuple) -> None:
    """For each step, last first, runs `step_kernel(*args, form, step)` and writes the product of its dz to temporary.

    Then computes the weights' gradients.
    """
    batch, length, units, dz = a.batch, a.length, a.units, a.dz
    weights, width, form = a.recurrent_kernel.reshape(-1), dz.size // (batch * length), form_of(a, length, units)
    for step in range(length - 1, -1, -1):
        start_each(step_kernel, batch * units, *args, form, step)
        if step or a.needs_h0:
            at = width * (length - 1 - step if a.backwards else step)
            product(
                False, True, batch, units, width, dz, at, length * width, weights, 0, width, 0.0, a.temporary, 0, units
            )  # fmt: skip
    add_first(a)
    weight_gradients(a)


def add_first(a: Backward) -> None:
    """dh += temporary * drop, if the gradient of h0 is needed."""
    if a.needs_h0:
        start_each(_add_product, a.dh.size, a.temporary, a.drop, a.dh)


@kernel
def _add_product(a, drop, target):
    i = cuda.grid(1)
    if i < target.size:
        target[i] += a[i] * factor_of(drop, i, a)


# -------------------- in kernels --------------------


@device_function
def activate(code, x, like):
    """Returns f(x) in the dtype of the array `like`."""
    zero, one = like.dtype.type(0), like.dtype.type(1)
    if code == TANH:
        return math.tanh(x)
    if code == SIGMOID:
        return one / (one + math.exp(-x))
    if code == RELU:
        return zero if x < zero else x
    if code == HARD_SIGMOID or code == LEGACY_HARD_SIGMOID:
        slope = like.dtype.type(1 / 6) if code == HARD_SIGMOID else like.dtype.type(0.2)
        end = like.dtype.type(3) if code == HARD_SIGMOID else like.dtype.type(2.5)
        y = (x + end) * slope
        y = zero if y < zero else y
        return one if y > one else y
    return x


@device_function
def slope(code, y, like):
    """Returns f'(x) from y = f(x); NaN stays NaN."""
    a, b, c, low, high = _formulas.slopes(code, like)
    return _formulas.slope(y, a, b, c, low, high)


@device_function
def spot_of(n, step, form):
    """Returns the spot of a step in x."""
    length = form[0]
    return n // form[1] * length + (length - 1 - step if form[2] != 0 else step)


@device_function
def is_masked(mask, spot):
    return mask.size > 0 and mask[spot] == 0


@device_function
def factor_of(drop, n, like):
    """Returns the factor of an operand."""
    return drop[n] if drop.size > 0 else like.dtype.type(1)


@device_function
def running_state(first, last, n, steps):
    """Returns a state before a step: before the first step the initial one (0 if it is absent), else the one in `last`."""
    if steps > 0:
        return last[n]
    return first[n] if first.size > 0 else last.dtype.type(0)


@device_function
def keep_state(history, last, before, after, n, spot, step, form):
    """Writes the state after a step to `last`. If there is room for a history, writes also the state before it."""
    length, units = form[:2]
    last[n] = after
    if history.size == last.size * (length + 1):
        history[spot * units + n % units] = before
        if step == length - 1:
            history[last.size * length + n] = after


@device_function
def state_after(history, n, step, form):
    """Returns the state after a step."""
    length, units = form[:2]
    if step == length - 1:
        return history[history.size // (length + 1) * length + n]
    return history[spot_of(n, step + 1, form) * units + n % units]


@device_function
def output_at(n, step, form):
    """Returns the offset of a step's output; -1 if it has none."""
    length, units, _, sequences = form[:4]
    if sequences != 0:
        return (n // units * length + step) * units + n % units
    return n if step == length - 1 else -1


@device_function
def finish(h, h_last, before, after, output_mask, drop, dropped, y, n, spot, step, form):
    """Writes a unit's h after a step: its history, its output (0 if it is masked), the next step's operand."""
    keep_state(h, h_last, before, after, n, spot, step, form)
    at = output_at(n, step, form)
    if at >= 0:
        y[at] = y.dtype.type(0) if is_masked(output_mask, spot) else after
    if drop.size > 0:
        dropped[n] = after * drop[n]


@device_function
def gradient_of_h(dh_last, dh, dy, output_mask, drop, temporary, n, spot, step, form):
    """Returns the gradient of h after a step. temporary: the gradient from the products of the next step."""
    past, at = form[0] - 1 - step, output_at(n, step, form)
    total = running_state(dh_last, dh, n, past)
    if at >= 0 and dy.size > 0 and not is_masked(output_mask, spot):
        total += dy[at]
    if past > 0:
        total += temporary[n] * factor_of(drop, n, dh)
    return total
