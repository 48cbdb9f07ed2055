"""Floor 1: rules that compute ops for all members of a vmap at once: see batching.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras import ops
from nbkeras.autodiff import rules, walks
from nbkeras.autodiff.nesting import Tape
from nbkeras.engine import tape
from nbkeras.engine import tensor as engine
from nbkeras.engine.tensor import Tensor, apply, as_tensor, stand_in
from nbkeras.kernels import (
    attention,
    ctc,
    dense,
    embedding,
    fourier,
    group_normalization,
    indexing,
    linalg,
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
)
from nbkeras.kernels import elementwise as kernels
from nbkeras.kernels.convolution import conv, integers, unfold, volumes
from nbkeras.kernels.loops.window import output_length, padding_before
from nbkeras.kernels.recurrent import gru, lstm, simple_rnn
from nbkeras.ops import metrics


class BatchCall(NamedTuple):
    """A call of an op for all members. `tensors[i]` is physical if `mapped[i]`, else all members share it."""

    op: Callable
    op_vjp: Callable | None
    tensors: tuple[Any, ...]
    mapped: tuple[bool, ...]
    size: int
    constants: dict[str, Any]
    computes: bool = True  # whether to compute the outputs' values: a gradient may need only the saved values

    def run(self, tensors: Sequence[Tensor | None], **changed: Any) -> Any:
        """Run the op on given tensors, with some of its constants changed."""
        constants = {**self.constants, **changed}
        if self.computes or stand_in(tensors) is not None:
            return apply(self.op, self.op_vjp, tensors, **constants)
        return rules.without_values(self.op, self.op_vjp, tensors, constants)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product that replaces the op."""
        return self._replace(op=dense.matmul, op_vjp=dense.matmul_vjp, constants={}).run([a, b])

    def shape(self, i: int) -> tuple[int, ...]:
        """The shape of input i of one member."""
        x = self.tensors[i]
        return x.shape[1:] if self.mapped[i] else x.shape

    def front(self, i: int) -> Any:
        """Input i with all members along its first axis; None if the input is None."""
        x = self.tensors[i]
        if x is None or self.mapped[i]:
            return x
        return ops.broadcast_to(x, (self.size, *x.shape))

    def aligned(self, i: int, ndim: int) -> Any:
        """Input i, reshaped to broadcast with inputs of up to `ndim` axes per member."""
        x = self.tensors[i]
        if x is None or not self.mapped[i] or x.ndim - 1 == ndim:
            return x
        return ops.reshape(x, (self.size, *[1] * (ndim - x.ndim + 1), *x.shape[1:]))

    def folded(self, i: int) -> Any:
        """Input i with the members concatenated along its own first axis."""
        x = self.front(i)
        return None if x is None else ops.reshape(x, (self.size * x.shape[1], *x.shape[2:]))

    def apart(self, y: Any) -> Any:
        """Undo `folded` in results: put the members along a separate first axis."""
        if isinstance(y, tuple):
            return tuple(map(self.apart, y))
        return ops.reshape(y, (self.size, y.shape[0] // max(self.size, 1), *y.shape[1:]))


Batch = Callable[[BatchCall], Any]

# -------------------- kinds of ops --------------------


def elementwise(call: BatchCall) -> Any:
    """For ops whose inputs broadcast, or whose leading axes broadcast, as in a matrix product."""
    inputs = range(len(call.tensors))
    ndim = max(len(call.shape(i)) for i in inputs if call.tensors[i] is not None)
    return call.run([call.aligned(i, ndim) for i in inputs])


def in_front(**change: Callable) -> Batch:
    """For ops over given axes of inputs of equal shapes. change: constant -> function of its value and the call."""

    def batch(call: BatchCall) -> Any:
        changed = {name: function(call.constants[name], call) for name, function in change.items()}
        return call.run([call.front(i) for i in range(len(call.tensors))], **changed)

    return batch


def folded(*shared: int) -> Batch:
    """For ops on samples: one call computes all members' samples, if the inputs `shared` are not mapped."""

    def batch(call: BatchCall) -> Any:
        if any(call.mapped[i] for i in shared):
            return NotImplemented
        inputs = [x if i in shared else call.folded(i) for i, x in enumerate(call.tensors)]
        return call.apart(call.run(inputs))

    return batch


def of_one(i: int) -> Batch:
    """For ops that treat all leading axes of input i equally, if no other input is mapped."""

    def batch(call: BatchCall) -> Any:
        return call.run(call.tensors) if call.mapped[i] and sum(call.mapped) == 1 else NotImplemented

    return batch


def _next(axis: int, call: BatchCall) -> int:
    return axis + 1


def _all_next(axes: Any, call: BatchCall) -> tuple[int, ...]:
    return tuple(axis + 1 for axis in axes)


def _members_first(sizes: tuple[int, ...], call: BatchCall) -> tuple[int, ...]:
    return (call.size, *sizes)


over_axes = in_front(axes=_all_next)
over_axis = in_front(axis=_next)
over_last = in_front()

_KINDS: dict[Callable, Batch] = {
    **dict.fromkeys(
        [
            engine._cast_op,
            indexing.whole,
            metrics._divide_no_nan,
            *(each for each in vars(kernels).values() if getattr(each, "__module__", "") == kernels.__name__),
        ],
        elementwise,
    ),
    **dict.fromkeys(
        [reduce.sum, reduce.mean, reduce.var, reduce.max, reduce.min, reduce.logsumexp, reduce.prod], over_axes
    ),
    **dict.fromkeys([reduce.any, reduce.all, shape.flip], over_axes),
    **dict.fromkeys([reduce.cumsum, reduce.cumprod, reduce.argmax, reduce.argmin], over_axis),
    **dict.fromkeys([softmax.softmax, softmax.log_softmax, indexing.argsort, indexing.one_hot], over_axis),
    **dict.fromkeys([shape.concatenate, shape.stack, shape.split, shape.unstack, shape.roll], over_axis),
    indexing.take_along_axis: over_axis,
    **dict.fromkeys([fourier.forward, fourier.back, fourier.forward_real, fourier.back_real], over_last),
    **dict.fromkeys([losses.softmax_crossentropy, losses.sparse_softmax_crossentropy], over_last),
    indexing.largest: over_last,
    **dict.fromkeys([linalg.inv, linalg.det, linalg.slogdet, linalg.cholesky, linalg.eigh, linalg.qr], over_last),
    **dict.fromkeys([linalg.svd, linalg.pinv, linalg.lu, linalg.rotations], over_last),
    linalg.solve: elementwise,
    shape.reshape: in_front(shape=_members_first),
    shape.transpose: in_front(axes=lambda axes, call: (0, *_all_next(axes, call))),
    shape.spread: in_front(seen_as=_members_first, over=_members_first, shape=_members_first),
    shape.pad: in_front(widths=lambda widths, call: ((0, 0), *widths)),
    shape.getitem: in_front(key=lambda key, call: (slice(None), *key)),
    **dict.fromkeys([pool.max_pool, pool.average_pool, volumes.max_pool, volumes.average_pool], folded()),
    **dict.fromkeys([unfold.unfold, attention.inner, attention.weighted, ctc.ctc], folded()),
    **dict.fromkeys([lstm.lstm, gru.gru, simple_rnn.simple_rnn], folded(1, 2, 3)),
}

# -------------------- moving elements --------------------


def _set_slice(call: BatchCall) -> Any:
    key = call.constants["key"]
    part = np.broadcast_to(np.empty(()), call.shape(0))[(*key, ...) if ... not in key else key]
    return call.run([call.front(0), call.aligned(1, part.ndim)], key=(slice(None), *key))


def _own_positions(index: Tensor, count: int, size: int) -> Tensor:
    """Convert indices into each member's `count` rows to indices into the rows of all members. Invalid indices stay invalid."""
    first = np.arange(size, dtype=np.int64).reshape(size, *[1] * (index.ndim - 1)) * count
    valid = ops.logical_and(ops.greater_equal(index, -count), ops.less(index, count))
    places = ops.add(ops.where(ops.less(index, 0), ops.add(index, count), index), first)
    return as_tensor(ops.where(valid, places, size * count), np.int64)


def _take(call: BatchCall) -> Any:
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


def _gather(call: BatchCall) -> Any:
    table, indices = call.tensors
    if not call.mapped[0]:
        return call.run([table, indices])
    rows = table.shape[1]
    return call.run([call.folded(0), _own_positions(call.front(1), rows, call.size)])


def _combine(call: BatchCall) -> Any:
    """Row indices that are out of range are ignored."""
    rows, count = call.front(1), call.shape(0)[0]
    first = np.arange(call.size, dtype=np.int64)[:, None] * count
    valid = ops.logical_and(ops.greater_equal(rows, 0), ops.less(rows, count))
    places = as_tensor(ops.where(valid, ops.add(rows, first), -1), np.int64)
    flat = ops.reshape(places, (-1,))
    return ops.reshape(call.run([call.folded(0), flat, call.folded(2)]), (call.size, *call.shape(0)))


_MOVES: dict[Callable, Batch] = {
    shape.set_slice: _set_slice,
    indexing.take: _take,
    embedding.gather: _gather,
    scattering.combine: _combine,
    scattering.row_numbers: folded(),
    scattering.search: of_one(1),
}

# -------------------- products and windows --------------------


def _rows(call: BatchCall, i: int) -> Any:
    """The rows of input i as one matrix per member if it is mapped, else as one matrix for all."""
    x = call.tensors[i]
    members = (call.size,) if call.mapped[i] else ()
    return ops.reshape(x, (*members, -1, x.shape[-1]))


def _with_ends(call: BatchCall, y: Tensor, ndim: int, rectify: bool) -> Tensor:
    """Apply the bias (input 2) and relu after a product with `ndim` axes per member."""
    if call.tensors[2] is not None:
        y = ops.add(y, call.aligned(2, ndim))
    return ops.relu(y) if rectify else y


def _dense(call: BatchCall) -> Any:
    x, w, b = call.tensors
    if not (call.mapped[1] or call.mapped[2]):
        return call.run([x, w, b])
    before = call.shape(0)[:-1]
    if call.mapped[1]:
        y = call.product(_rows(call, 0), w)
        y = ops.reshape(y, (call.size, *before, y.shape[-1]))
    elif call.mapped[0]:
        y = call.run([x, w, None], rectify=False)
    else:  # only the bias is mapped
        y = ops.expand_dims(call.run([x, w, None], rectify=False), 0)
    return _with_ends(call, y, len(before) + 1, call.constants.get("rectify", False))


def _matmul(call: BatchCall) -> Any:
    transposed = call.constants.get("transpose_a", False)
    a, b = call.shape(0), call.shape(1)
    if len(b) == 2 and len(a) > 2 and call.mapped[1] and not transposed:  # one matrix for all rows of a member
        y = call.run([_rows(call, 0), call.tensors[1]])
        return ops.reshape(y, (call.size, *a[:-1], y.shape[-1]))
    return elementwise(call)


def _conv(call: BatchCall) -> Any:
    x, kernel, bias = call.tensors
    if not (call.mapped[1] or call.mapped[2]):
        return call.apart(call.run([call.folded(0), kernel, bias]))
    if call.mapped[1] and call.constants["groups"] > 1:
        return _conv_by_groups(call)
    if call.mapped[1]:
        y = _conv_by_products(call)
    else:
        y = call.apart(call.run([call.folded(0), kernel, None], relu=False))
    return _with_ends(call, y, y.ndim - 1, call.constants["relu"])


def _conv_by_products(call: BatchCall) -> Tensor:
    """A convolution with a kernel per member, as a product of copied windows and kernels."""
    size, units = call.shape(1)[:-2], call.shape(1)[-1]
    x = call.folded(0) if call.mapped[0] else call.tensors[0]
    windows = _windows(x, _lines(x.shape[1:-1], size, call.constants))
    kernels = ops.reshape(call.tensors[1], (call.size, -1, units))
    rows = (call.size, -1) if call.mapped[0] else (-1,)
    y = call.product(ops.reshape(windows, (*rows, kernels.shape[1])), kernels)
    return ops.reshape(y, (call.size, call.shape(0)[0], *windows.shape[1:-1], units))


def _lines(lengths: tuple[int, ...], sizes: tuple[int, ...], constants: dict[str, Any]) -> list[unfold.Line]:
    """The windows of a convolution along each axis."""
    lines = []
    for at, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        padding = constants["padding"]
        way = "valid" if padding == "causal" and at < len(sizes) - 1 else padding
        along = length, size, constants["strides"][at], constants["dilation"][at], way
        lines.append(unfold.Line(*along[1:4], padding_before(*along), output_length(*along)))  # type: ignore[arg-type]
    return lines


def _windows(x: Tensor, lines: list[unfold.Line]) -> Tensor:
    """(samples, ..., taps * channels): the windows at each position, with taps as in a kernel."""
    found: tuple[int, ...] = ()
    for at, line in reversed(list(enumerate(lines))):
        before, channels = x.shape[: 1 + at], x.shape[-1]
        if line[:4] != (1, 1, line.dilation, 0):
            apart = ops.reshape(x, (math.prod(before), x.shape[1 + at], math.prod(found), 1, channels))
            x = apply(unfold.unfold, unfold.unfold_vjp, [apart], line=line)
        found = (line.windows, *found)
        x = ops.reshape(x, (*before, *found, line.size * channels))
    return x


def _conv_transpose(call: BatchCall) -> Any:
    """With a kernel per member: a product, whose results are summed at the positions of the windows."""
    if not call.mapped[1]:
        return folded(1)(call)
    sizes, (units, channels), constants = call.shape(1)[:-2], call.shape(1)[-2:], call.constants
    samples, *positions = call.shape(0)[:-1]
    steps = constants["strides"], constants["dilation"], constants["before"]
    lines = [unfold.Line(*each) for each in zip(sizes, *steps, positions, strict=True)]
    kernels = ops.swapaxes(ops.reshape(call.tensors[1], (call.size, -1, channels)), 1, 2)
    x = ops.reshape(call.tensors[0], (*((call.size,) if call.mapped[0] else ()), -1, channels))
    taps = call.product(x, kernels)
    y = ops.zeros((call.size * samples, *constants["lengths"], units), x.dtype)
    y.record = tape.leaf("zeros")
    with tape.thread.now(keeps=True), Tape() as within:
        windows = _windows(y, lines)
    (found,) = walks.pull_back([windows], [ops.reshape(taps, windows.shape)], [y], within)
    return call.apart(found)


def _conv_by_groups(call: BatchCall) -> Any:
    """With a grouped kernel per member: the members become further groups of channels."""
    bias = None if call.tensors[2] is None else ops.reshape(call.front(2), (-1,))
    inputs = [_channels_of_members(call.front(0)), _channels_of_members(call.front(1)), bias]
    return _members_of_channels(call.run(inputs, groups=call.constants["groups"] * call.size), call.size)


def _channels_of_members(x: Tensor) -> Tensor:
    """(members, ..., channels) as (..., members * channels)."""
    x = ops.moveaxis(x, 0, -2)
    return ops.reshape(x, (*x.shape[:-2], -1))


def _members_of_channels(y: Tensor, size: int) -> Tensor:
    return ops.moveaxis(ops.reshape(y, (*y.shape[:-1], size, y.shape[-1] // size)), -2, 0)


_PRODUCTS: dict[Callable, Batch] = {
    dense.dense: _dense,
    dense.matmul: _matmul,
    conv.conv: _conv,
    volumes.conv: _conv,
    conv.conv_transpose: _conv_transpose,
    volumes.conv_transpose: _conv_transpose,
    quantized.dense: of_one(0),
    packed.dense: of_one(0),
    quantized.gather: of_one(1),
    integers.conv: folded(1, 2, 3),
}

# -------------------- normalization, attention, random numbers --------------------


def _normalization(call: BatchCall) -> Any:
    """For normalization of rows or samples. A scale and an offset per member are applied afterwards."""
    x, gamma, beta = call.tensors
    if not any(call.mapped[1:]):
        return call.apart(call.run([call.folded(0), gamma, beta]))
    y = call.apart(call.run([call.folded(0), None, None]))
    y = y if gamma is None else ops.multiply(y, call.aligned(1, y.ndim - 1))
    return y if beta is None else ops.add(y, call.aligned(2, y.ndim - 1))


def _masked_softmax(call: BatchCall) -> Any:
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


def _dropout(call: BatchCall) -> Any:
    if call.mapped[1]:
        return NotImplemented
    noise = call.constants.get("noise_shape")
    return call.run(call.tensors, noise_shape=None if noise is None else (call.size, *noise))


def _shuffle(call: BatchCall) -> Any:
    return NotImplemented if call.mapped[1] else call.run(call.tensors, axis=call.constants["axis"] + 1)


_OTHERS: dict[Callable, Batch] = {
    normalization.batch_normalization: folded(1, 2, 3, 4),
    normalization.layer_normalization: _normalization,
    group_normalization.group_normalization: _normalization,
    attention.masked_softmax: _masked_softmax,
    random.dropout: _dropout,
    random.shuffle: _shuffle,
    random.categorical: folded(1),
}

RULES: dict[Callable, Batch] = {**_KINDS, **_MOVES, **_PRODUCTS, **_OTHERS}
