"""Convolution in which each channel has a kernel of its own, NHWC, and its gradients: sums of products of rows of channels.

    y[position, c]  = b[c] + sum over taps of  x[the tap's pixel, c] * kernel[tap, c]
    dx[pixel, c] = sum over the taps whose windows cover the pixel of  dy[that window, c] * kernel[tap, c]
    dkernel[tap, c] = sum over positions of  x[the tap's pixel, c] * dy[position, c]

`row_sums` computes all three: a few vectors of channels stay in registers while it goes through the rows of a list of offsets.
On a GPU such convolutions are grouped ones (cuda/convolution/grouped.py).
"""

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.loops.flat_access import store
from nbkeras.kernels.loops.gemm import Vectors
from nbkeras.kernels.loops.window import Window
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.lazy import arrayobj, intrinsic, ir, types
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_WIDE = 4  # vectors of sums at a time: enough to hide the latency of a multiply-add
_SHARES = 16
_SHARE_WORK = 200_000  # multiply-adds: with fewer, another share costs more than it saves


def _number(value: int):
    return ir.Constant(ir.IntType(64), value)


def _emit_sums(v, wide, a, b, offsets, count, start, use_start, y, width, relu):
    """y[:width] = start[:width] + the sum of a[offsets[2 i]:] * b[offsets[2 i + 1]:]; the last of `wide` vectors may be part."""
    builder = v.builder
    masks = [None] * (wide - 1) + [v.below((wide - 1) * v.lanes, width)]
    entry = builder.block
    started, loop, end = (builder.append_basic_block(name) for name in ("started", "loop", "end"))
    ready = builder.append_basic_block("ready")
    builder.cbranch(builder.icmp_signed("!=", use_start, _number(0)), started, ready)
    builder.position_at_end(started)
    given = [v.load(v.vector_at(start, j * v.lanes), masks[j]) for j in range(wide)]
    builder.branch(ready)

    builder.position_at_end(ready)
    first = [builder.phi(v.type) for _ in range(wide)]
    for j in range(wide):
        first[j].add_incoming(v.zero, entry)
        first[j].add_incoming(given[j], started)
    builder.cbranch(builder.icmp_signed(">", count, _number(0)), loop, end)

    builder.position_at_end(loop)
    i, before = builder.phi(ir.IntType(64)), [builder.phi(v.type) for _ in range(wide)]
    at = builder.mul(i, _number(2))
    rows = [
        builder.gep(base, [builder.load(builder.gep(offsets, [builder.add(at, _number(which))]))])
        for which, base in enumerate((a, b))
    ]
    after = []
    for j in range(wide):
        x, w = (v.load(v.vector_at(row, j * v.lanes), masks[j]) for row in rows)
        after.append(v.multiply_add(x, w, before[j]))
    following = builder.add(i, _number(1))
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    i.add_incoming(_number(0), ready)
    i.add_incoming(following, loop)
    for j in range(wide):
        before[j].add_incoming(first[j], ready)
        before[j].add_incoming(after[j], loop)

    builder.position_at_end(end)
    totals = [builder.phi(v.type) for _ in range(wide)]
    rectified = v.all(builder.icmp_signed("!=", relu, _number(0)))
    for j, total in enumerate(totals):
        total.add_incoming(first[j], ready)
        total.add_incoming(after[j], loop)
        negative = builder.and_(builder.fcmp_ordered("<", total, v.zero), rectified)  # NaN stays NaN
        v.store(builder.select(negative, v.zero, total), v.vector_at(y, j * v.lanes), masks[j])


@intrinsic
def row_sums(typing, a, a_at, b, b_at, offsets, first, count, start, start_at, use_start, y, y_at, n, relu):
    """y[:n] = start[:n] + the sum over `count` pairs of offsets (p, q) in `offsets`, from the first on, of a[p:p+n] * b[q:q+n].

    Arrays are taken as flat memory from the offsets a_at, b_at, start_at and y_at on; use_start, relu: 0 or 1.
    """
    if not (isinstance(a, types.Array) and a.dtype == b.dtype == y.dtype == start.dtype):
        return None
    signature = types.void(
        a,
        types.int64,
        b,
        types.int64,
        offsets,
        types.int64,
        types.int64,
        start,
        types.int64,
        types.int64,
        y,
        types.int64,
        types.int64,
        types.int64,
    )

    def generate(context, builder, signature, args):
        def pointer(position, offset):
            data = arrayobj.make_array(signature.args[position])(context, builder, args[position]).data
            return builder.gep(data, [offset])

        a, b, start, y = pointer(0, args[1]), pointer(2, args[3]), pointer(7, args[8]), pointer(10, args[11])
        offsets = pointer(4, builder.mul(args[5], _number(2)))
        count, use_start, n, relu = args[6], args[9], args[12], args[13]
        v = Vectors(builder, signature.args[0])
        whole = _number(_WIDE * v.lanes)
        top, body, rest = (builder.append_basic_block(name) for name in ("top", "body", "rest"))
        entry = builder.block
        builder.branch(top)
        builder.position_at_end(top)
        c = builder.phi(ir.IntType(64))
        c.add_incoming(_number(0), entry)
        builder.cbranch(builder.icmp_signed("<=", builder.add(c, whole), n), body, rest)

        def sums(wide, width):
            moved = (builder.gep(each, [c]) for each in (a, b, start, y))
            a_c, b_c, start_c, y_c = moved
            _emit_sums(v, wide, a_c, b_c, offsets, count, start_c, use_start, y_c, width, relu)

        builder.position_at_end(body)
        sums(_WIDE, whole)
        c.add_incoming(builder.add(c, whole), builder.block)
        builder.branch(top)
        builder.position_at_end(rest)
        left = builder.sub(n, c)
        for wide in range(1, _WIDE + 1):
            above = builder.icmp_signed(">", left, _number((wide - 1) * v.lanes))
            within = builder.icmp_signed("<=", left, _number(wide * v.lanes))
            with builder.if_then(builder.and_(above, within)):
                sums(wide, left)
        return context.get_dummy_value()

    return signature, generate


@compiled
def read_at(position, tap, stride, dilation, before, back, length):
    """The index along an axis of `length` that a tap of the window at `position` reads; -1: outside, or there is no such window.

    back: `position` is one of the input, and the result the window whose tap covers it.
    """
    if back:
        at = position + before - tap * dilation
        if at < 0 or at % stride != 0:
            return -1
        at = at // stride
    else:
        at = position * stride + tap * dilation - before
    return at if at >= 0 and at < length else -1


@compiled
def convolve_rows(x, kernel, bias, y, rooms, window, back, relu, share, shares):
    """A share of the rows of y = conv(x, kernel) + bias; with `back`, of the gradient y for the output's gradient x."""
    kh, kw, sh, sw, dh, dw, top, left = window
    height, width, channels, out_height, out_width = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    offsets = rooms[share]
    step = (1 if sw == 1 else 0) if back else sw  # distance between neighbouring windows; 0: it differs
    low, high = (left - (kw - 1) * dw, left) if back else (-left, (kw - 1) * dw - left)
    rows = y.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        n, i = r // out_height, r % out_height
        count, origin = 0, -1  # the column whose whole window `offsets` describes; -1: none
        for j in range(out_width):
            inside = step > 0 and j * step + low >= 0 and j * step + high < width
            if not inside or origin < 0:
                count = 0
                for ky in range(kh):
                    row = read_at(i, ky, sh, dh, top, back, height)
                    if row < 0:
                        continue
                    for kx in range(kw):
                        column = read_at(j, kx, sw, dw, left, back, width)
                        if column >= 0:
                            store(offsets, 2 * count, ((n * height + row) * width + column) * channels)
                            store(offsets, 2 * count + 1, (ky * kw + kx) * channels)
                            count += 1
                origin = j if inside else -1
            at = (j - origin) * step * channels if inside else 0
            to = (r * out_width + j) * channels
            row_sums(x, at, kernel, 0, offsets, 0, count, bias, 0, min(bias.size, 1), y, to, channels, relu)


def convolve(
    x: Array, kernel: Array, bias: Array, y: Array, window: Window, back: bool = False, relu: bool = False
) -> None:
    """y = conv(x, kernel) + bias, then relu if asked; a bias of size 0 is none. kernel: (kh, kw, 1, channels).

    back: y is the input's gradient for the output's gradient x.
    """
    taps = window.height * window.width
    shares = share_count(y.size * taps, _SHARE_WORK, _SHARES, y.shape[0] * y.shape[1])
    rooms = device.empty((shares, 2 * taps), np.int64)
    launch_shares(convolve_rows, shares, x, kernel, bias, y, rooms, tuple(window), back, int(relu))


@compiled
def kernel_gradient_rows(x, dy, partials, offsets, window, share, shares):
    """partials[share] = the kernel's gradient for a share of the rows of dy. offsets: of its columns in x and in dy."""
    kh, kw, sh, sw, dh, dw, top, left = window
    height, width, channels, out_height, out_width = x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2]
    partial = partials[share]
    for j in range(partial.size):
        store(partial, j, partial.dtype.type(0))
    for j in range(out_width):
        store(offsets[share], 2 * j, j * sw * channels)
        store(offsets[share], 2 * j + 1, j * channels)
    rows = dy.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        n, i = r // out_height, r % out_height
        for ky in range(kh):
            row = read_at(i, ky, sh, dh, top, False, height)
            if row < 0:
                continue
            for kx in range(kw):
                shift = kx * dw - left  # columns first to last - 1 of dy read inside the image
                first = min(out_width, max(0, -(shift // sw)))
                last = min(out_width, (width - 1 - shift) // sw + 1)
                at, to = ((n * height + row) * width + shift) * channels, (ky * kw + kx) * channels
                count, dy_at = max(0, last - first), r * out_width * channels
                row_sums(x, at, dy, dy_at, offsets[share], first, count, partial, to, 1, partial, to, channels, 0)


def kernel_gradient(x: Array, dy: Array, dkernel: Array, window: Window) -> None:
    """dkernel = the gradient of conv(x, kernel) for the output's gradient dy."""
    work = dy.size * window.height * window.width
    shares = share_count(work, _SHARE_WORK, _SHARES, dy.shape[0] * dy.shape[1])
    flat = dkernel.reshape(1, -1)
    partials = flat if shares == 1 else device.empty((shares, dkernel.size), x.dtype)
    offsets = device.empty((shares, 2 * dy.shape[2]), np.int64)
    launch_shares(kernel_gradient_rows, shares, x, dy, partials, offsets, tuple(window))
    if shares > 1:
        reduce.sum_rows(partials[None], flat)
