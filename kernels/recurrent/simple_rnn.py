"""The fully connected recurrence h' = a(x_t W + h U + b) over a whole sequence, forward and backward; see recurrence.py."""

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.subnormals import flush, restore
from nbkeras.kernels.recurrent.recurrence import (
    activate,
    add_output_gradient,
    add_parts,
    add_product,
    block_steps,
    carry_masked,
    chunk_count,
    copy_flat,
    fill_rows,
    flat,
    for_back_product,
    gradient_arrays,
    input_block,
    input_gradient,
    kernel_gradient,
    multiply_rows,
    slope,
    slopes,
    sum_rows,
    time_major,
    write_output,
)
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares

Array = np.ndarray


def simple_rnn(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    initial_h: Array | None,
    mask: Array | None,
    drop: Array | None,
    activation: int,
    sequences: bool,
    backwards: bool,
    zero_masked: bool,
):
    """(output, last h) of x (B, T, D); kernel (D, H), recurrent_kernel (H, H), bias (H,), initial_h (B, H).

    The other arguments are those of `lstm.lstm`.
    """
    (batch, length, features), units, dtype = x.shape, recurrent_kernel.shape[0], x.dtype
    chunks = chunk_count(batch, length, features, units, 1)
    block = block_steps(batch, length, chunks)
    xt = time_major(x, length)
    h = device.empty(batch * (length + 1) * units, dtype)
    y = device.empty((batch, length, units) if sequences else (batch, units), dtype)
    h_last = device.empty((batch, units), dtype)
    masks = flat(mask, np.uint8), flat(mask if zero_masked else None, np.uint8)
    drops = flat(drop, dtype)
    dropped = device.empty(0 if drop is None else batch * units, dtype)
    codes = activation, int(sequences), int(backwards), block
    launch_shares(simple_rnn_forward_share, chunks, x, kernel, recurrent_kernel, flat(bias, dtype),
        flat(initial_h, dtype), *masks, drops, xt, h, dropped,
        y.reshape(-1), h_last.reshape(-1), *codes,
    )  # fmt: skip
    saved = x.shape, kernel, recurrent_kernel, bias is not None, initial_h is not None, masks, drops
    return (y, h_last), (*saved, xt, h, codes, chunks)


def simple_rnn_vjp(saved, dy, needs):
    shape, kernel, recurrent_kernel, has_bias, has_state, masks, drops, xt, h, codes, chunks = saved
    (batch, length, features), units, dtype = shape, recurrent_kernel.shape[0], kernel.dtype
    _, sequences, _, block = codes
    shapes = (features, units), (units, units), (units,)
    weights, totals, parts = gradient_arrays((*needs[1:3], needs[3] if has_bias else False), shapes, dtype, chunks)
    dx = device.empty((0, 0, 0), dtype) if needs[0] is False else device.output(needs[0], shape, dtype)
    dh = device.output(needs[4], (batch, units), dtype) if has_state else device.empty((batch, units), dtype)
    dz = device.empty(batch * block * units, dtype)
    temporary = device.empty(batch * units, dtype)
    dropped = device.empty(batch * block * units if drops.size else 0, dtype)
    kernel, turned = for_back_product(kernel, batch * length)
    recurrent_kernel, _ = for_back_product(recurrent_kernel, batch * length)
    launch_shares(simple_rnn_backward_share, chunks, kernel, recurrent_kernel, *masks, drops, xt, h,
        flat(dy[0], dtype), flat(dy[1], dtype),
        dz, temporary, dropped, dx, dh.reshape(-1),
        *totals, parts.reshape(-1), *codes, batch, length, features, units, turned,
        int(has_state and needs[4] is not False),
    )  # fmt: skip
    add_parts(parts, totals, shapes)
    return (dx if dx.size else None, *weights, dh if has_state and needs[4] is not False else None, None, None)


@compiled
def simple_rnn_forward_share(
    x, kernel, recurrent_kernel, bias, h0, mask, output_mask, drop, xt, h, dropped, y, h_last,
    activation, sequences, backwards, block, chunk, chunks,
):  # fmt: skip
    """Kernel: all steps of one chunk of the batch; products go straight into h, whose first step is the initial state."""
    batch, length, features = x.shape
    units = recurrent_kernel.shape[0]
    row, one = batch * chunk // chunks, h.dtype.type(1)
    rows = batch * (chunk + 1) // chunks - row
    count = rows * units
    x_base, h_base, row_at = row * length * features, row * (length + 1) * units, row * units
    copy_flat(h0, row_at, h, h_base, count)
    for t in range(length):
        before, after = h_base + t * count, h_base + (t + 1) * count
        if t % block == 0:
            steps, x_at = min(block, length - t), x_base + t * rows * features
            fill_rows(bias, h, after, steps * rows, units)
            input_block(x, kernel, xt, x_at, h, after, units, t, steps, backwards, row, rows)
        if drop.size > 0:
            multiply_rows(h, before, drop, row_at, dropped, row_at, 1, count)
            gemm(0, 0, rows, units, units, dropped, row_at, units, recurrent_kernel, 0, units, one, h, after, units)
        elif t > 0 or h0.size > 0:
            gemm(0, 0, rows, units, units, h, before, units, recurrent_kernel, 0, units, one, h, after, units)
        activate(activation, h, after, 0, 1, count)
        mask_at = row * length + (length - 1 - t if backwards else t)
        if mask.size > 0:
            carry_masked(mask, mask_at, length, h, before, after, rows, units)
        if sequences:
            y_at = (row * length + t) * units
            write_output(h, after, y, y_at, length * units, output_mask, mask_at, length, rows, units)
        elif t == length - 1:
            write_output(h, after, y, row_at, units, output_mask, mask_at, length, rows, units)
    copy_flat(h, h_base + length * count, h_last, row_at, count)


@compiled
def simple_rnn_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, h, dy, dh_last, dz, temporary, dropped,
    dx, dh, dw, du, db, parts, activation, sequences, backwards, block, batch, length, features, units,
    turned, needs_h0,
    chunk, chunks,
):  # fmt: skip
    """Kernel: back through all steps of one chunk; dh ends as the gradient of the initial state."""
    mode = flush()
    zero, one = h.dtype.type(0), h.dtype.type(1)
    row = batch * chunk // chunks
    rows = batch * (chunk + 1) // chunks - row
    count = rows * units
    x_base, h_base, row_at, ring_at = (
        row * length * features,
        row * (length + 1) * units,
        row * units,
        row * block * units,
    )
    a0, a1, a2, a3, a4 = slopes(activation, h)
    w_at = u_at = b_at = 0
    if chunks > 1:  # this chunk's part, to be added by add_parts
        w_at = chunk * (features + units + 1) * units
        u_at = w_at + features * units
        b_at = u_at + units * units
        dw, du, db = parts if dw.size > 0 else dw, parts if du.size > 0 else du, parts if db.size > 0 else db
    copy_flat(dh_last, row_at, dh, row_at, count)
    for t in range(length - 1, -1, -1):
        first = t // block * block
        dz_at, before, after = ring_at + (t - first) * count, h_base + t * count, h_base + (t + 1) * count
        mask_at = row * length + (length - 1 - t if backwards else t)
        if dy.size > 0 and sequences:
            y_at = (row * length + t) * units
            add_output_gradient(dy, y_at, length * units, output_mask, mask_at, length, dh, row_at, rows, units)
        elif dy.size > 0 and t == length - 1:
            add_output_gradient(dy, row_at, units, output_mask, mask_at, length, dh, row_at, rows, units)
        for r in range(rows):
            i, o, q = after + r * units, dz_at + r * units, row_at + r * units
            if mask.size > 0 and load(mask, mask_at + r * length) == 0:
                for j in range(units):
                    store(dz, o + j, zero)
                continue
            for j in range(units):
                store(dz, o + j, load(dh, q + j) * slope(load(h, i + j), a0, a1, a2, a3, a4))
                store(dh, q + j, zero)
        if t > 0 or needs_h0:
            gemm(
                0, turned, rows, units, units, dz, dz_at, units, recurrent_kernel, 0, units,
                zero, temporary, row_at, units,
            )  # fmt: skip
            add_product(temporary, row_at, drop, row_at, dh, row_at, count)
        if t == first:
            steps, final = min(block, length - t), t + block >= length
            x_at, ends, beta = x_base + t * rows * features, steps * rows, zero if final else one
            kernel_gradient(xt, x_at, dz, dz_at, dw, w_at, ends, features, units, final)
            input_gradient(dz, dz_at, kernel, turned, dx, units, t, steps, backwards, row, rows)
            if du.size > 0 and drop.size > 0:
                multiply_rows(h, before, drop, row_at, dropped, ring_at, steps, count)
                gemm(1, 0, units, units, ends, dropped, ring_at, units, dz, dz_at, units, beta, du, u_at, units)
            elif du.size > 0:
                gemm(1, 0, units, units, ends, h, before, units, dz, dz_at, units, beta, du, u_at, units)
            if db.size > 0:
                sum_rows(dz, dz_at, ends, units, db, b_at, final)
    restore(mode)
