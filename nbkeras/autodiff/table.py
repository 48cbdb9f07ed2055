"""Floor 1: nbkeras's own ops: how each is differentiated (see rules.py) and computed for all members of a vmap (batch_call.py).

Imported at the first higher-order derivative or vmap.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.autodiff import products, recurrences
from nbkeras.autodiff.batch_call import Batch, BatchCall, elementwise, folded, in_front, of_one
from nbkeras.autodiff.formulas import of_tensors, slopes_of
from nbkeras.autodiff.rules import Composed, Elementwise, Explicit, Linear, Rule, of_members
from nbkeras.engine import sharding
from nbkeras.engine import tensor as engine
from nbkeras.engine.tensor import Tensor, apply, apply_plainly, as_tensor
from nbkeras.kernels import (
    activations,
    attention,
    ctc,
    embedding,
    formulas,
    fourier,
    group_normalization,
    half,
    indexing,
    linalg,
    losses,
    normalization,
    random,
    reduce,
    scattering,
    shape,
    softmax,
    special,
)
from nbkeras.kernels import elementwise as kernels
from nbkeras.kernels.recurrent import gru, lstm, simple_rnn
from nbkeras.ops import metrics


def _constant(x: Tensor) -> Tensor:
    return Tensor(x.data) if type(x) is Tensor else ops.stop_gradient(x)


def _number(mask: Tensor, like: Tensor) -> Tensor:
    return ops.cast(mask, like.dtype)


# -------------------- elementwise --------------------


def _power_base(x, y, factor):
    """factor * x^(y - 1), as an op: in a product, a factor 0 would meet an infinite power."""
    return apply(kernels.scaled_power, kernels.scaled_power_vjp, [x, ops.subtract(y, 1), factor])


def _power_exponent(x, z):
    return ops.multiply(z, ops.log(ops.where(ops.less_equal(x, 0), 1, x)))


def _power_factor(x, y):
    outside = ops.less_equal(x, 0)
    return ops.where(outside, 0, ops.power(ops.where(outside, 1, x), y))


def _chosen(comparison: Callable) -> Elementwise:
    """The rule of the minimum or maximum of two inputs: at a tie, each gets half of the gradient."""

    def share(x, y, z):
        return ops.add(_number(comparison(x, y), x), ops.multiply(_number(ops.equal(x, y), x), 0.5))

    return Elementwise(share, lambda x, y, z: ops.subtract(1, share(x, y, z)))


def _bessel_slope(x, y, order):
    below, above = (apply(special.bessel, special.bessel_vjp, [x], order=each) for each in (abs(order - 1), order + 1))
    return (below + above) * 0.5


def _where(call, dys, needs):
    condition, (dy,) = call.inputs[0], dys
    return None, ops.where(condition, dy, 0), ops.where(condition, 0, dy)


# -------------------- reductions --------------------


def _spread(dy: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The result of a reduction at each element of its input."""
    return ops.broadcast_to(ops.reshape(dy, reduce.kept(x.shape, axes)), x.shape)


def _sum(call, dys, needs):
    (x,), (dy,) = call.inputs, dys
    return (_spread(dy, x, call.constants["axes"]),)


def _mean(call, dys, needs):
    (x,), (dy,), axes = call.inputs, dys, call.constants["axes"]
    return (_spread(dy / math.prod(x.shape[axis] for axis in axes), x, axes),)


def _var_slope(x, axes):
    return (x - ops.mean(x, axis=axes, keepdims=True)) * (2 / max(math.prod(x.shape[axis] for axis in axes), 1))


def _var(record, dys, needs):
    (x,), axes = record.call.inputs, record.call.constants["axes"]
    return (_var_slope(x, axes) * _spread(dys[0], x, axes),)


def _var_tangent(record, tangents):
    (x,), axes = record.call.inputs, record.call.constants["axes"]
    return [ops.sum(_var_slope(x, axes) * tangents[0], axis=axes, keepdims=record.call.constants["keepdims"])]


def _shares(record, axes):
    """The share of each element in a minimum or maximum: equal shares at a tie."""
    (x,), (y,) = record.call.inputs, record.call.results(record)
    equal = _number(ops.equal(x, ops.reshape(y, reduce.kept(x.shape, axes))), x)
    return equal / ops.sum(equal, axis=axes, keepdims=True)


def _extremum(record, dys, needs):
    axes = record.call.constants["axes"]
    return (_spread(dys[0], record.call.inputs[0], axes) * _shares(record, axes),)


def _extremum_tangent(record, tangents):
    axes = record.call.constants["axes"]
    return [ops.sum(tangents[0] * _shares(record, axes), axis=axes, keepdims=record.call.constants["keepdims"])]


def _logsumexp(x, axes, keepdims):
    top = _constant(ops.max(x, axis=axes, keepdims=True))
    top = ops.where(ops.isfinite(top), top, 0)
    total = ops.sum(ops.exp(x - top), axis=axes, keepdims=True)
    empty = ops.equal(total, 0)  # all elements are -infinity
    y = ops.where(empty, -math.inf, ops.log(ops.where(empty, 1, total))) + top
    return y if keepdims else ops.squeeze(y, axis=axes)


def _prod(x, axes, keepdims):
    if not axes:
        return ops.multiply(x, 1)
    rest = [i for i in range(x.ndim) if i not in axes]
    sizes = [x.shape[i] for i in rest]
    rows = ops.reshape(ops.transpose(x, [*axes, *rest]), (math.prod(x.shape[i] for i in axes), *sizes))
    # a product of nothing depends on x too: its gradient is an empty array
    y = functools.reduce(ops.multiply, ops.unstack(rows)) if rows.shape[0] else ops.sum(rows, axis=0) + 1
    return ops.reshape(y, reduce.kept(x.shape, axes)) if keepdims else y


def _cumprod(x, axis):
    if not x.shape[axis]:
        return ops.multiply(x, 1)
    return ops.stack(list(itertools.accumulate(ops.unstack(x, axis=axis), ops.multiply)), axis)


# -------------------- moving elements --------------------


def _concatenate(call, dys, needs):
    axis = call.constants["axis"]
    ends = np.cumsum([each.shape[axis] for each in call.inputs[:-1]]).tolist()
    return ops.split(dys[0], ends, axis=axis)


def _spread_back(call, dys, needs):
    (x,), seen, over = call.inputs, call.constants["seen_as"], call.constants["over"]
    axes = tuple(i for i, (before, after) in enumerate(zip(seen, over, strict=True)) if before != after)
    dy = ops.reshape(dys[0], over)
    return (ops.reshape(ops.sum(dy, axis=axes) if axes else dy, x.shape),)


def _combine(x, rows, updates, how):
    """Products of rows: a running product over equal row indices in sorted order, in log2(n) steps. It is exact with zeros."""
    if how is not np.multiply:
        return None
    count = rows.shape[0]
    order = ops.argsort(rows)
    at, product = ops.take(rows, order), ops.take(updates, order, axis=0)
    distance = 1
    while distance < count:
        same = ops.expand_dims(ops.equal(at[distance:], at[:-distance]), -1)
        further = ops.multiply(product[distance:], ops.where(same, product[:-distance], 1))
        product = ops.concatenate([product[:distance], further])
        distance *= 2
    last = ops.concatenate([ops.not_equal(at[1:], at[:-1]), ops.ones((min(count, 1),), "bool")])
    arrays = [ops.ones_like(x), ops.where(last, at, -1), product]  # rows outside of x are ignored
    return ops.multiply(x, apply(scattering.combine, scattering.combine_vjp, arrays, how=None))


def _combined(record, dys, needs):
    """Like scattering.combine_slopes."""
    (x, rows, updates), how = record.call.inputs, record.call.constants["how"]
    if how is None or how is np.add:
        return Linear().vjp(record, dys, needs)
    (y,), (dy,) = record.call.results(record), dys
    inside = ops.logical_and(ops.greater_equal(rows, 0), ops.less(rows, x.shape[0]))
    place = ops.where(inside, rows, 0)
    old = _number(ops.equal(x, y), x)
    new = _number(ops.logical_and(ops.equal(updates, ops.take(y, place, axis=0)), ops.expand_dims(inside, -1)), x)
    share = dy / apply(scattering.combine, scattering.combine_vjp, [old, rows, new], how=np.add)
    return share * old, None, ops.where(ops.expand_dims(inside, -1), ops.take(share, place, axis=0) * new, 0)


def _kept(record):
    """The factors of a dropout: the same key draws the same numbers again."""
    x, key = record.call.inputs
    ones = of_members(record, [ops.ones(x.shape, x.dtype)])[0]
    return record.call.again([ones, key])[0]


def _sum_over_ranks(call, dys, needs):
    part = sharding.fraction()
    return (sharding.total(dys[0] * part) / part if part else ops.zeros_like(dys[0]),)


def _batched_set_slice(call: BatchCall) -> Any:
    key = call.constants["key"]
    part = np.broadcast_to(np.empty(()), call.shape(0))[(*key, ...) if ... not in key else key]
    return call.run([call.front(0), call.aligned(1, part.ndim)], key=(slice(None), *key))


def _own_positions(index: Tensor, count: int, size: int) -> Tensor:
    """Convert indices into each member's `count` rows to indices into the rows of all members. Invalid indices stay invalid."""
    first = np.arange(size, dtype=np.int64).reshape(size, *[1] * (index.ndim - 1)) * count
    valid = ops.logical_and(ops.greater_equal(index, -count), ops.less(index, count))
    places = ops.add(ops.where(ops.less(index, 0), ops.add(index, count), index), first)
    return as_tensor(ops.where(valid, places, size * count), np.int64)


def _batched_take(call: BatchCall) -> Any:
    (x, index), axis = call.tensors, call.constants["axis"]
    if not call.mapped[1]:
        return call.run([x, index], axis=axis + 1)
    if not call.mapped[0]:
        return ops.moveaxis(call.run([x, index]), axis, 0)
    x = ops.moveaxis(x, axis + 1, 1)
    places = _own_positions(index, x.shape[1], call.size)
    y = call.run([ops.reshape(x, (call.size * x.shape[1], *x.shape[2:])), places], axis=0)
    rank = index.ndim - 1
    return ops.moveaxis(y, list(range(1, 1 + rank)), list(range(axis + 1, axis + 1 + rank)))


def _batched_gather(call: BatchCall) -> Any:
    table, indices = call.tensors
    if not call.mapped[0]:
        return call.run([table, indices])
    rows = table.shape[1]
    return call.run([call.folded(0), _own_positions(call.front(1), rows, call.size)])


def _batched_combine(call: BatchCall) -> Any:
    """Row indices that are out of range are ignored."""
    rows, count = call.front(1), call.shape(0)[0]
    first = np.arange(call.size, dtype=np.int64)[:, None] * count
    valid = ops.logical_and(ops.greater_equal(rows, 0), ops.less(rows, count))
    places = as_tensor(ops.where(valid, ops.add(rows, first), -1), np.int64)
    flat = ops.reshape(places, (-1,))
    return ops.reshape(call.run([call.folded(0), flat, call.folded(2)]), (call.size, *call.shape(0)))


# -------------------- softmax, losses, normalization --------------------


def _softmax(record, dys, needs):
    """The Jacobian is symmetric."""
    (y,), axis = record.call.results(record), record.call.constants["axis"]
    return (of_tensors(formulas.softmax_backward, y, dys[0], axis=axis),)


def _log_softmax(record, dys, needs):
    (y,), axis = record.call.results(record), record.call.constants["axis"]
    return (of_tensors(formulas.log_softmax_backward, y, dys[0], axis=axis),)


def _log_softmax_tangent(record, tangents):
    (y,), axis = record.call.results(record), record.call.constants["axis"]
    return [tangents[0] - ops.sum(ops.exp(y) * tangents[0], axis=axis, keepdims=True)]


def _masked_softmax(record, dys, needs):
    (_, mask), constants, (y,) = record.call.inputs, record.call.constants, record.call.results(record)
    dx = of_tensors(formulas.softmax_backward, y, dys[0]) * constants["scale"]
    if constants["spread"] and (mask is not None or constants["causal"]):  # a row without allowed scores is constant
        allowed = ops.ones(y.shape, "bool") if mask is None else ops.broadcast_to(mask, y.shape)
        if constants["causal"]:
            allowed = ops.logical_and(allowed, np.tri(*y.shape[-2:], dtype=bool))
        dx = ops.where(ops.any(allowed, axis=-1, keepdims=True), dx, 0)
    return dx, None


def _softmax_crossentropy(target, logits):
    return -ops.sum(target * ops.log_softmax(logits), axis=-1)


def _sparse_softmax_crossentropy(target, logits):
    classes = logits.shape[-1]
    known = ops.logical_and(ops.greater_equal(target, 0), ops.less(target, classes))
    label = ops.expand_dims(ops.where(known, target, 0), -1)
    found = ops.squeeze(ops.take_along_axis(ops.log_softmax(logits), label, axis=-1), -1)
    return ops.where(known, -found, math.nan)


def _normalized(middle, variance, gamma, beta, epsilon):
    return _moved(middle * ops.rsqrt(variance + epsilon), gamma, beta)


def _moved(y, gamma, beta):
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def _batch_normalization(x, mean, variance, gamma, beta, epsilon):
    return _normalized(x - mean, variance, gamma, beta, epsilon)


def _batch_normalization_training(x, gamma, beta, moving_mean, moving_variance, mask, momentum, epsilon, ranks=None):
    given = [
        None if each is None else Tensor(each.data) for each in (x, gamma, beta, moving_mean, moving_variance, mask)
    ]
    # run the op for its side effect: it updates the moving statistics
    how = {"momentum": momentum, "epsilon": epsilon, **({} if ranks is None else {"ranks": ranks})}
    apply_plainly(normalization.batch_normalization_training, None, given, how)
    weights = ops.ones((x.shape[0], 1), x.dtype) if mask is None else ops.expand_dims(_number(mask, x), -1)
    count = ops.maximum(sharding.total(ops.sum(weights)), 1)
    middle = x - sharding.total(ops.sum(x * weights, axis=0)) / count
    variance = sharding.total(ops.sum(ops.square(middle) * weights, axis=0)) / count
    return _normalized(middle, variance, gamma, beta, epsilon)


def _layer_normalization(x, gamma, beta, epsilon, centered=True):
    formula = formulas.layer_normalization if centered else formulas.rms_normalization
    scale, shift = 1.0 if gamma is None else gamma, 0.0 if beta is None else beta
    return of_tensors(formula, x, scale, shift, epsilon=epsilon)[0]


def _group_normalization(x, gamma, beta, groups, epsilon):
    samples, positions, channels = x.shape
    each = channels // groups
    rows = ops.transpose(ops.reshape(x, (samples, positions, groups, each)), (0, 2, 1, 3))
    rows = ops.reshape(rows, (samples * groups, positions * each))
    rows = ops.reshape(_layer_normalization(rows, None, None, epsilon), (samples, groups, positions, each))
    return _moved(ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), x.shape), gamma, beta)


def _batched_normalization(call: BatchCall) -> Any:
    """For normalization of rows or samples. A scale and an offset per member are applied afterwards."""
    x, gamma, beta = call.tensors
    if not any(call.mapped[1:]):
        return call.apart(call.run([call.folded(0), gamma, beta]))
    y = call.apart(call.run([call.folded(0), None, None]))
    y = y if gamma is None else ops.multiply(y, call.aligned(1, y.ndim - 1))
    return y if beta is None else ops.add(y, call.aligned(2, y.ndim - 1))


def _batched_masked_softmax(call: BatchCall) -> Any:
    mask = call.tensors[1]
    if mask is not None:
        samples, sizes = call.shape(0)[0], call.shape(1)
        sizes = (*[1] * (4 - len(sizes)), *sizes)
        if call.mapped[1]:
            mask = ops.broadcast_to(ops.reshape(mask, (call.size, *sizes)), (call.size, samples, *sizes[1:]))
            mask = ops.reshape(mask, (-1, *sizes[1:]))
        elif sizes[0] > 1:
            mask = ops.reshape(ops.broadcast_to(ops.reshape(mask, sizes), (call.size, *sizes)), (-1, *sizes[1:]))
    return call.apart(call.run([call.folded(0), mask]))


def _batched_fourier(call: BatchCall) -> Any:
    return in_front(call, axes=call.constants["axes"])  # the number of the last axes


def _batched_transpose(call: BatchCall) -> Any:
    return in_front(call, axes=(0, *(axis + 1 for axis in call.constants["axes"])))


def _batched_dropout(call: BatchCall) -> Any:
    if call.mapped[1]:
        return NotImplemented
    noise = call.constants.get("noise_shape")
    return call.run(call.tensors, noise_shape=None if noise is None else (call.size, *noise))


def _batched_shuffle(call: BatchCall) -> Any:
    return NotImplemented if call.mapped[1] else call.run(call.tensors, axis=call.constants["axis"] + 1)


# -------------------- entries --------------------

# An op's rule; or its rule, or None, and its batching, if that is not the default: see batch_call.py
_ENTRIES: dict[Any, Any] = {
    **{
        each: (None, elementwise)
        for each in vars(kernels).values()
        if getattr(each, "__module__", "") == kernels.__name__
    },
    **{op: Elementwise(*slopes_of(op)) for op in (*activations.OPS, *kernels.OPS, losses.sigmoid_crossentropy)},
    kernels.add: Elementwise(1, 1),
    kernels.subtract: Elementwise(1, -1),
    kernels.multiply: Elementwise(lambda x, y, z: y, lambda x, y, z: x),
    kernels.divide: Elementwise(lambda x, y, z: ops.reciprocal(y), lambda x, y, z: -z / y),
    kernels.mod: Elementwise(1, lambda x, y, z: -ops.floor_divide(x, y)),
    kernels.power: Elementwise(lambda x, y, z: _power_base(x, y, y), lambda x, y, z: _power_exponent(x, z)),
    kernels.scaled_power: Elementwise(
        lambda x, y, factor, z: _power_base(x, y, ops.multiply(factor, y)),
        lambda x, y, factor, z: _power_exponent(x, z),
        lambda x, y, factor, z: _power_factor(x, y),
    ),
    kernels.maximum: _chosen(ops.greater),
    kernels.minimum: _chosen(ops.less),
    kernels.where: (Linear(_where), elementwise),
    kernels.clip: Elementwise(
        lambda x, y, low, high: ops.logical_and(ops.greater_equal(x, low), ops.less_equal(x, high))
    ),
    kernels.negative: Elementwise(-1),
    kernels.show: Elementwise(lambda x, y, message: 1),
    special.bessel: Elementwise(_bessel_slope),
    indexing.whole: (None, elementwise),
    metrics._divide_no_nan: (None, elementwise),
    # reductions
    reduce.sum: Linear(_sum),
    reduce.mean: Linear(_mean),
    reduce.var: Explicit(_var, _var_tangent),
    reduce.max: Explicit(_extremum, _extremum_tangent),
    reduce.min: Explicit(_extremum, _extremum_tangent),
    reduce.logsumexp: Composed(_logsumexp),
    reduce.prod: Composed(_prod),
    reduce.cumsum: Linear(),
    reduce.cumprod: Composed(_cumprod),
    **dict.fromkeys([reduce.any, reduce.all, reduce.argmax, reduce.argmin]),
    # moving elements
    sharding._sum: Linear(_sum_over_ranks),
    engine._cast_op: Linear(lambda call, dys, needs: (ops.cast(dys[0], call.inputs[0].dtype),)),
    half.rounded: Linear(lambda call, dys, needs: (apply(half.rounded, half.rounded_vjp, dys, **call.constants),)),
    shape.reshape: Linear(lambda call, dys, needs: (ops.reshape(dys[0], call.inputs[0].shape),)),
    shape.transpose: (
        Linear(lambda call, dys, needs: (ops.transpose(dys[0], np.argsort(call.constants["axes"]).tolist()),)),
        _batched_transpose,
    ),
    shape.stack: Linear(lambda call, dys, needs: ops.unstack(dys[0], axis=call.constants["axis"])),
    shape.unstack: Linear(lambda call, dys, needs: (ops.stack(call.whole(dys), call.constants["axis"]),)),
    shape.concatenate: Linear(_concatenate),
    shape.split: Linear(lambda call, dys, needs: (ops.concatenate(call.whole(dys), call.constants["axis"]),)),
    shape.spread: Linear(_spread_back),
    shape.pad: Linear(value=0),
    **dict.fromkeys([shape.flip, shape.roll, shape.getitem, indexing.take_along_axis], Linear()),
    **dict.fromkeys([fourier.forward, fourier.back], (Linear(), _batched_fourier)),
    **dict.fromkeys([fourier.forward_real, fourier.back_real], Linear()),
    shape.set_slice: (Linear(), _batched_set_slice),
    embedding.gather: (Linear(), _batched_gather),
    indexing.take: (Linear(), _batched_take),
    **dict.fromkeys([indexing.argsort, indexing.one_hot, indexing.largest]),
    scattering.combine: (Composed(_combine, Explicit(_combined)), _batched_combine),
    scattering.row_numbers: (None, folded()),
    scattering.search: (None, of_one(1)),
    random.shuffle: (Linear(), _batched_shuffle),
    random.categorical: (None, folded(1)),
    random.dropout: (
        Explicit(
            lambda record, dys, needs: (dys[0] * _kept(record), None),
            lambda record, tangents: [tangents[0] * _kept(record)],
        ),
        _batched_dropout,
    ),
    # softmax, losses, normalization
    softmax.softmax: Explicit(_softmax, lambda record, tangents: _softmax(record, tangents, ())),
    softmax.log_softmax: Explicit(_log_softmax, _log_softmax_tangent),
    attention.masked_softmax: (
        Explicit(_masked_softmax, lambda record, tangents: _masked_softmax(record, tangents, ())[:1]),
        _batched_masked_softmax,
    ),
    losses.softmax_crossentropy: Composed(_softmax_crossentropy),
    losses.sparse_softmax_crossentropy: Composed(_sparse_softmax_crossentropy),
    normalization.batch_normalization: (Composed(_batch_normalization), folded(1, 2, 3, 4)),
    normalization.batch_normalization_training: Composed(_batch_normalization_training),
    normalization.layer_normalization: (Composed(_layer_normalization), _batched_normalization),
    group_normalization.group_normalization: (Composed(_group_normalization), _batched_normalization),
    # recurrent layers, linear algebra
    ctc.ctc: (Composed(recurrences.ctc), folded()),
    lstm.lstm: (Composed(recurrences.lstm), folded(1, 2, 3)),
    gru.gru: (Composed(recurrences.gru), folded(1, 2, 3)),
    simple_rnn.simple_rnn: (Composed(recurrences.simple_rnn), folded(1, 2, 3)),
    **dict.fromkeys([linalg.inv, linalg.det, linalg.slogdet, linalg.cholesky, linalg.eigh, linalg.qr]),
    **dict.fromkeys([linalg.svd, linalg.pinv, linalg.lu, linalg.rotations]),
    linalg.solve: (None, elementwise),
    **products.ENTRIES,
}


def _complete(entry: Any) -> tuple[Rule | None, Batch]:
    """An entry with the default batching of its rule."""
    if isinstance(entry, tuple):
        return entry
    return entry, elementwise if isinstance(entry, Elementwise) else in_front


RULES: dict[Callable, tuple[Rule | None, Batch]] = {op: _complete(entry) for op, entry in _ENTRIES.items()}
