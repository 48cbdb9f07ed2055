"""Floor 1: the rules of nbkeras's own ops; see rules.py. Imported at the first higher-order derivative."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.autodiff import recurrences
from nbkeras.autodiff.formulas import of_tensors, slopes_of
from nbkeras.autodiff.rules import (
    Call,
    Composed,
    Elementwise,
    Explicit,
    Linear,
    Multilinear,
    Rule,
    gradient_of_input,
    of_members,
)
from nbkeras.engine import sharding
from nbkeras.engine import tensor as engine
from nbkeras.engine.tensor import Tensor, apply, apply_plainly
from nbkeras.kernels import (
    activations,
    attention,
    ctc,
    dense,
    elementwise,
    embedding,
    formulas,
    fourier,
    group_normalization,
    half,
    indexing,
    losses,
    normalization,
    packed,
    pool,
    quantized,
    random,
    reduce,
    scattering,
    shape,
    softmax,
    special,
)
from nbkeras.kernels.convolution import conv, integers, unfold, volumes
from nbkeras.kernels.loops.window import output_length, padding_before
from nbkeras.kernels.recurrent import gru, lstm, simple_rnn

_PI = math.pi


def _constant(x: Tensor) -> Tensor:
    return Tensor(x.data) if type(x) is Tensor else ops.stop_gradient(x)


def _number(mask: Tensor, like: Tensor) -> Tensor:
    return ops.cast(mask, like.dtype)


# -------------------- elementwise --------------------


def _power_base(x, y, factor):
    """factor * x^(y - 1), as an op: in a product, a factor 0 would meet an infinite power."""
    return apply(elementwise.scaled_power, elementwise.scaled_power_vjp, [x, ops.subtract(y, 1), factor])


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


_ELEMENTWISE: dict[Callable, Rule] = {
    elementwise.add: Elementwise(1, 1),
    elementwise.subtract: Elementwise(1, -1),
    elementwise.multiply: Elementwise(lambda x, y, z: y, lambda x, y, z: x),
    elementwise.divide: Elementwise(lambda x, y, z: ops.reciprocal(y), lambda x, y, z: -z / y),
    elementwise.mod: Elementwise(1, lambda x, y, z: -ops.floor_divide(x, y)),
    elementwise.power: Elementwise(lambda x, y, z: _power_base(x, y, y), lambda x, y, z: _power_exponent(x, z)),
    elementwise.scaled_power: Elementwise(
        lambda x, y, factor, z: _power_base(x, y, ops.multiply(factor, y)),
        lambda x, y, factor, z: _power_exponent(x, z),
        lambda x, y, factor, z: _power_factor(x, y),
    ),
    elementwise.maximum: _chosen(ops.greater),
    elementwise.minimum: _chosen(ops.less),
    elementwise.where: Linear(_where),
    elementwise.clip: Elementwise(
        lambda x, y, low, high: ops.logical_and(ops.greater_equal(x, low), ops.less_equal(x, high))
    ),
    elementwise.negative: Elementwise(-1),
    special.bessel: Elementwise(_bessel_slope),
    elementwise.show: Elementwise(lambda x, y, message: 1),
    **{op: Elementwise(*slopes_of(op)) for op in (*activations.OPS, *elementwise.OPS, losses.sigmoid_crossentropy)},
}

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


_REDUCTIONS: dict[Callable, Rule] = {
    reduce.sum: Linear(_sum),
    reduce.mean: Linear(_mean),
    reduce.var: Explicit(_var, _var_tangent),
    reduce.max: Explicit(_extremum, _extremum_tangent),
    reduce.min: Explicit(_extremum, _extremum_tangent),
    reduce.logsumexp: Composed(_logsumexp),
    reduce.prod: Composed(_prod),
    reduce.cumsum: Linear(),
    reduce.cumprod: Composed(_cumprod),
}

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


_MOVES: dict[Callable, Rule] = {
    sharding._sum: Linear(_sum_over_ranks),
    engine._cast_op: Linear(lambda call, dys, needs: (ops.cast(dys[0], call.inputs[0].dtype),)),
    half.rounded: Linear(lambda call, dys, needs: (apply(half.rounded, half.rounded_vjp, dys, **call.constants),)),
    shape.reshape: Linear(lambda call, dys, needs: (ops.reshape(dys[0], call.inputs[0].shape),)),
    shape.transpose: Linear(
        lambda call, dys, needs: (ops.transpose(dys[0], np.argsort(call.constants["axes"]).tolist()),)
    ),
    shape.stack: Linear(lambda call, dys, needs: ops.unstack(dys[0], axis=call.constants["axis"])),
    shape.unstack: Linear(lambda call, dys, needs: (ops.stack(call.whole(dys), call.constants["axis"]),)),
    shape.concatenate: Linear(_concatenate),
    shape.split: Linear(lambda call, dys, needs: (ops.concatenate(call.whole(dys), call.constants["axis"]),)),
    shape.spread: Linear(_spread_back),
    shape.pad: Linear(value=0),
    scattering.combine: Composed(_combine, Explicit(_combined)),
    **dict.fromkeys(
        [shape.flip, shape.roll, shape.getitem, shape.set_slice, embedding.gather, unfold.unfold], Linear()
    ),
    **dict.fromkeys([indexing.take, indexing.take_along_axis, random.shuffle], Linear()),
    **dict.fromkeys([fourier.forward, fourier.back, fourier.forward_real, fourier.back_real], Linear()),
    random.dropout: Explicit(
        lambda record, dys, needs: (dys[0] * _kept(record), None),
        lambda record, tangents: [tangents[0] * _kept(record)],
    ),
}

# -------------------- products and windows --------------------


def _dense(x, w, b, rectify=False):
    if b is None and not rectify:
        return None
    y = apply(dense.dense, dense.dense_vjp, [x, w, None], rectify=False)
    y = y if b is None else ops.add(y, b)
    return ops.relu(y) if rectify else y


def _dense_gradient(call, dys, needs):
    (x, w, _), (dy,) = call.inputs, dys
    dx = _product(dy, w, False, True) if needs[0] else None
    if not needs[1]:
        return dx, None, None
    rows = math.prod(x.shape[:-1])
    return dx, _product(ops.reshape(x, (rows, w.shape[0])), ops.reshape(dy, (rows, w.shape[1])), True, False), None


def _matmul(call, dys, needs):
    (a, b), (dy,) = call.inputs, dys
    ta, tb = call.constants.get("transpose_a", False), call.constants.get("transpose_b", False)
    da = db = None
    if needs[0]:
        da = _product(b, dy, tb, True) if ta else _product(dy, b, False, not tb)
    if needs[1]:
        db = _product(dy, a, True, ta) if tb else _product(a, dy, not ta, False)
    return da, db


def _product(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    return apply(dense.matmul, dense.matmul_vjp, [a, b], transpose_a=transpose_a, transpose_b=transpose_b)


def _conv(family: Any, saves_inputs: bool) -> Composed:
    def composed(x, kernel, bias, relu=False, **constants):
        if bias is None and not relu:
            return None
        y = apply(family.conv, family.conv_vjp, [x, kernel, None], relu=False, **constants)
        y = y if bias is None else ops.add(y, bias)
        return ops.relu(y) if relu else y

    return Composed(composed, Multilinear(saves_inputs=saves_inputs))


def _max_pool(x, size, strides, padding):
    """The maximum over window taps, one shifted image per tap. Padding is -infinity; the first NaN is the maximum."""
    widths, lengths = [(0, 0)], []
    for length, taps, step in zip(x.shape[1:-1], size, strides, strict=True):
        along = length, taps, step, 1, padding
        before, count = padding_before(*along), output_length(*along)
        widths.append((before, max(0, (count - 1) * step + taps - before - length)))
        lengths.append(count)
    padded = ops.pad(x, [*widths, (0, 0)], constant_values=-math.inf)
    y = None
    for offsets in itertools.product(*map(range, size)):
        cuts = [slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offsets, lengths, strides, strict=True)]
        tap = padded[(slice(None), *cuts)]
        y = tap if y is None else ops.where(ops.logical_or(ops.less_equal(tap, y), ops.isnan(y)), y, tap)
    return y


def _before_rectifier(record, dy, name):
    """The gradient before the op's relu, if the op includes one."""
    (y,) = record.call.results(record)
    return ops.where(ops.greater(y, 0), dy, 0) if record.call.constants.get(name) else dy


def _quantized_dense(record, dys, needs):
    """The gradient of a product with the weights as floats, even if the input was quantized."""
    x, *weight, _ = record.call.inputs
    dy = _before_rectifier(record, dys[0], "rectify")
    if record.call.op is packed.dense:
        kernel = apply(packed.dequantize, None, weight, shape=(x.shape[-1], dy.shape[-1]), axis=1, by=0)
    else:
        kernel = apply(quantized.dequantize, None, weight)
    dx = ops.matmul(dy, ops.transpose(kernel)) if needs[0] else None
    return dx, *[None] * len(weight), dy if needs[-1] else None


def _quantized_conv(record, dys, needs):
    """Like `_quantized_dense`, for a convolution."""
    call, dx = record.call, None
    x, w, factors, _ = call.inputs
    dy = _before_rectifier(record, dys[0], "relu")
    if needs[0]:
        kernel = ops.multiply(ops.cast(w, x.dtype), factors)
        window = {name: call.constants[name] for name in ("strides", "dilation", "padding")}
        floats = Call(conv.conv, conv.conv_vjp, (x, kernel, None), {**window, "groups": 1, "relu": False}, call.outputs)
        dx = gradient_of_input(floats, 0, dy)
    return dx, None, None, dy if needs[3] else None


_PRODUCTS: dict[Callable, Rule] = {
    dense.dense: Composed(_dense, Multilinear(_dense_gradient)),
    dense.matmul: Multilinear(_matmul),
    conv.conv: _conv(conv, True),
    conv.conv_transpose: Multilinear(saves_inputs=True),
    volumes.conv: _conv(volumes, False),
    volumes.conv_transpose: Multilinear(),
    quantized.dense: Explicit(_quantized_dense),
    packed.dense: Explicit(_quantized_dense),
    integers.conv: Explicit(_quantized_conv),
    attention.inner: Multilinear(saves_inputs=True),
    attention.weighted: Multilinear(saves_inputs=True),
    pool.average_pool: Linear(),
    volumes.average_pool: Linear(),
    pool.max_pool: Composed(_max_pool),
    volumes.max_pool: Composed(_max_pool),
}

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


_NORMALIZED: dict[Callable, Rule] = {
    softmax.softmax: Explicit(_softmax, lambda record, tangents: _softmax(record, tangents, ())),
    softmax.log_softmax: Explicit(_log_softmax, _log_softmax_tangent),
    attention.masked_softmax: Explicit(
        _masked_softmax, lambda record, tangents: _masked_softmax(record, tangents, ())[:1]
    ),
    losses.softmax_crossentropy: Composed(_softmax_crossentropy),
    losses.sparse_softmax_crossentropy: Composed(_sparse_softmax_crossentropy),
    normalization.batch_normalization: Composed(_batch_normalization),
    normalization.batch_normalization_training: Composed(_batch_normalization_training),
    normalization.layer_normalization: Composed(_layer_normalization),
    group_normalization.group_normalization: Composed(_group_normalization),
    ctc.ctc: Composed(recurrences.ctc),
    lstm.lstm: Composed(recurrences.lstm),
    gru.gru: Composed(recurrences.gru),
    simple_rnn.simple_rnn: Composed(recurrences.simple_rnn),
}

RULES: dict[Callable, Rule] = {**_ELEMENTWISE, **_REDUCTIONS, **_MOVES, **_PRODUCTS, **_NORMALIZED}
