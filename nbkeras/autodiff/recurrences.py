"""Floor 1: recurrent layers and CTC, timestep by timestep, for higher-order derivatives. Formulas as in ops/recurrent.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.recurrent import recurrence

_ACTIVATIONS: dict[int, Callable] = {
    recurrence.LINEAR: lambda x: x,
    recurrence.TANH: ops.tanh,
    recurrence.SIGMOID: ops.sigmoid,
    recurrence.RELU: ops.relu,
    # relu, because the kernels' slope is 0 where the result is 0 or 1, also at the ends of the slope
    recurrence.HARD_SIGMOID: lambda x: ops.relu((x + 3) * (1 / 6), max_value=1.0),
    recurrence.LEGACY_HARD_SIGMOID: lambda x: ops.relu((x + 2.5) * 0.2, max_value=1.0),
}


def _run(
    step: Callable, x: Tensor, kernel: Tensor, states: list, mask: Tensor | None, units: int, options: dict[str, Any]
) -> tuple[Tensor, ...]:
    """Run step(z, states) -> states over time, with z = x_t @ kernel. Returns (output, *last states); states[0] is the output."""
    zeros = ops.zeros((x.shape[0], units), x.dtype)
    states = [zeros if each is None else each for each in states]
    steps = list(zip(ops.unstack(ops.matmul(x, kernel), axis=1), _steps_of(mask, x.shape[1]), strict=True))
    outputs = []
    for z, allowed in reversed(steps) if options["backwards"] else steps:
        after = step(z, states)
        if allowed is None:
            outputs.append(after[0])
        else:
            after = [ops.where(allowed, new, old) for new, old in zip(after, states, strict=True)]
            outputs.append(ops.where(allowed, after[0], 0) if options["zero_masked"] else after[0])
        states = after
    return ops.stack(outputs, 1) if options["sequences"] else outputs[-1], *states


def _steps_of(mask: Tensor | None, length: int) -> list[Tensor | None]:
    return [None] * length if mask is None else [ops.expand_dims(each, -1) for each in ops.unstack(mask, axis=1)]


def _dropped(h: Tensor, drop: Tensor | None) -> Tensor:
    return h if drop is None else h * drop


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias


def lstm(
    x, kernel, recurrent_kernel, bias, initial_h, initial_c, mask, drop, activation, recurrent_activation, **options
):
    """As kernels.recurrent.lstm.lstm."""
    a, r = _ACTIVATIONS[activation], _ACTIVATIONS[recurrent_activation]

    def step(z, states):
        h, c = states
        z = _plus(z + ops.matmul(_dropped(h, drop), recurrent_kernel), bias)
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = r(f) * c + r(i) * a(g)
        return [r(o) * a(c), c]

    return _run(step, x, kernel, [initial_h, initial_c], mask, recurrent_kernel.shape[0], options)


def gru(
    x, kernel, recurrent_kernel, bias, initial_h, mask, drop, activation, recurrent_activation, reset_after, **options
):
    """As kernels.recurrent.gru.gru."""
    a, r = _ACTIVATIONS[activation], _ACTIVATIONS[recurrent_activation]
    units = recurrent_kernel.shape[0]
    first, second = (None, None) if bias is None else ops.unstack(bias) if reset_after else (bias, None)
    gates, candidate = ops.split(recurrent_kernel, [2 * units], axis=-1)

    def step(z, states):
        (h,) = states
        known = _dropped(h, drop)
        z = _plus(z, first)
        if reset_after:
            inner = _plus(ops.matmul(known, recurrent_kernel), second)
            (xz, xr, xg), (hz, hr, hg) = ops.split(z, 3, axis=-1), ops.split(inner, 3, axis=-1)
            update, reset = r(xz + hz), r(xr + hr)
            g = a(xg + reset * hg)
        else:
            xz, xr, xg = ops.split(z, 3, axis=-1)
            hz, hr = ops.split(ops.matmul(known, gates), 2, axis=-1)
            update, reset = r(xz + hz), r(xr + hr)
            g = a(xg + ops.matmul(reset * known, candidate))
        return [update * h + (1 - update) * g]

    return _run(step, x, kernel, [initial_h], mask, units, options)


def simple_rnn(x, kernel, recurrent_kernel, bias, initial_h, mask, drop, activation, **options):
    """As kernels.recurrent.simple_rnn.simple_rnn."""
    a = _ACTIVATIONS[activation]

    def step(z, states):
        return [a(_plus(z + ops.matmul(_dropped(states[0], drop), recurrent_kernel), bias))]

    return _run(step, x, kernel, [initial_h], mask, recurrent_kernel.shape[0], options)


_NEVER = -1e30  # represents log(0); it is finite, because differences of -infinity would be NaN


def ctc(target, logp, target_length, output_length, blank):
    """Like kernels.ctc.ctc: the probabilities of all partial alignments, step by step."""
    (batch, time, classes), labels, states = logp.shape, target.shape[1], 2 * target.shape[1] + 1
    length, steps = (ops.expand_dims(each, -1) for each in (target_length, output_length))
    known = ops.logical_and(ops.greater_equal(target, 0), ops.less(target, classes))
    used = ops.less(np.arange(labels), length)
    valid = ops.all(ops.logical_or(known, ops.logical_not(used)), axis=1, keepdims=True)
    for value, limit in ((length, labels), (steps, time)):
        valid = ops.logical_and(valid, ops.logical_and(ops.greater_equal(value, 0), ops.less_equal(value, limit)))
    # NaN for invalid sequences, which makes loss and gradient NaN
    factor = ops.where(valid, ops.ones((), logp.dtype), math.nan)
    length, steps = ops.where(valid, length, 0), ops.where(valid, steps, 0)

    label = ops.where(known, target, blank)
    blanks = ops.full((batch, labels, 1), blank, label.dtype)
    pairs = ops.reshape(ops.concatenate([blanks, ops.expand_dims(label, -1)], -1), (batch, 2 * labels))
    classes_of = ops.pad(pairs, ((0, 0), (0, 1)), constant_values=blank)  # the class of each state
    scores = ops.maximum(ops.multiply(logp, ops.expand_dims(factor, -1)), _NEVER)
    scores = ops.take_along_axis(scores, ops.broadcast_to(ops.expand_dims(classes_of, 1), (batch, time, states)), 2)

    at = np.arange(states)
    skips = ops.logical_and(at % 2 == 1, ops.not_equal(classes_of, _later(classes_of, 2, blank)))
    alpha = ops.where(at < 1, ops.zeros((batch, states), logp.dtype), _NEVER)  # before the first step
    for t, score in enumerate(ops.unstack(scores, axis=1)):
        further = [alpha, _later(alpha, 1, _NEVER), ops.where(skips, _later(alpha, 2, _NEVER), _NEVER)]
        after = ops.logsumexp(ops.stack(further), axis=0) + score
        alpha = ops.where(ops.less(t, steps), after, alpha)
    ends = ops.logical_and(ops.less_equal(at, 2 * length), ops.greater_equal(at, 2 * length - 1))
    loss = -ops.logsumexp(ops.where(ends, alpha, _NEVER), axis=1)
    loss = ops.where(ops.greater(loss, -0.5 * _NEVER), math.inf, loss)
    return ops.multiply(loss, ops.squeeze(factor, -1))


def _later(x: Tensor, count: int, value: float) -> Tensor:
    """States shifted right by `count`; `value` fills the start."""
    return ops.pad(x, ((0, 0), (count, 0)), constant_values=value)[:, : x.shape[1]]
