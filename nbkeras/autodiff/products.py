"""Floor 1: rules and batching of products, convolutions and pooling: a part of table.py."""

from __future__ import annotations

import itertools
import math
from typing import Any

from nbkeras import ops
from nbkeras.autodiff.batch_call import BatchCall, elementwise, folded, of_one
from nbkeras.autodiff.rules import Call, Composed, Explicit, Linear, Multilinear, gradient_of_input
from nbkeras.engine.tensor import Tensor, apply
from nbkeras.kernels import attention, dense, packed, pool, quantized
from nbkeras.kernels.convolution import conv, integers, unfold, volumes
from nbkeras.kernels.loops.window import output_length, padding_before

# -------------------- rules --------------------


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


# -------------------- batching --------------------


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


def _batched_dense(call: BatchCall) -> Any:
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


def _batched_matmul(call: BatchCall) -> Any:
    transposed = call.constants.get("transpose_a", False)
    a, b = call.shape(0), call.shape(1)
    if len(b) == 2 and len(a) > 2 and call.mapped[1] and not transposed:  # one matrix for all rows of a member
        y = call.run([_rows(call, 0), call.tensors[1]])
        return ops.reshape(y, (call.size, *a[:-1], y.shape[-1]))
    return elementwise(call)


def _batched_conv(call: BatchCall) -> Any:
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


def _batched_conv_transpose(call: Any) -> Any:
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
    dy = ops.reshape(taps, (call.size * samples, *positions, taps.shape[-1]))
    y = (call.size * samples, *constants["lengths"], units)
    found = call.transposed(lambda x: _windows(x, lines), y, dy)
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


ENTRIES: dict[Any, Any] = {
    dense.dense: (Composed(_dense, Multilinear(_dense_gradient)), _batched_dense),
    dense.matmul: (Multilinear(_matmul), _batched_matmul),
    conv.conv: (_conv(conv, True), _batched_conv),
    conv.conv_transpose: (Multilinear(saves_inputs=True), _batched_conv_transpose),
    volumes.conv: (_conv(volumes, False), _batched_conv),
    volumes.conv_transpose: (Multilinear(), _batched_conv_transpose),
    quantized.dense: (Explicit(_quantized_dense), of_one(0)),
    quantized.gather: (None, of_one(1)),
    packed.dense: (Explicit(_quantized_dense), of_one(0)),
    integers.conv: (Explicit(_quantized_conv), folded(1, 2, 3)),
    attention.inner: (Multilinear(saves_inputs=True), folded()),
    attention.weighted: (Multilinear(saves_inputs=True), folded()),
    pool.average_pool: (Linear(), folded()),
    volumes.average_pool: (Linear(), folded()),
    pool.max_pool: (Composed(_max_pool), folded()),
    volumes.max_pool: (Composed(_max_pool), folded()),
    unfold.unfold: (Linear(), folded()),
}
