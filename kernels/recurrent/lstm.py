"""LSTM over a whole sequence, forward and backward; see recurrence.py for how.

z = x_t W + h U + b in gates i, f, g, o;  c' = r(z_f) c + r(z_i) a(z_g);  h' = r(z_o) a(c')  with the activation a and the
recurrent activation r. Source: Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000); the order of
the gates and the weights' layout are Keras's.
"""

import numpy as np

from nbkeras.kernels.loops.flat_access import load, opaque, store
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


def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    initial_h: Array | None,
    initial_c: Array | None,
    mask: Array | None,
    drop: Array | None,
    activation: int,
    recurrent_activation: int,
    sequences: bool,
    backwards: bool,
    zero_masked: bool,
    differentiable: bool,
):
    """(output, last h, last c) of x (B, T, D); kernel (D, 4 H), recurrent_kernel (H, 4 H), bias (4 H,), states (B, H).

    mask: bool (B, T). drop: (B, H), multiplies h before each recurrent product. output: (B, T, H) if `sequences`, else
    (B, H). differentiable: keep what the vjp needs; without, memory is that of a block of steps.
    """
    (batch, length, features), units, dtype = x.shape, recurrent_kernel.shape[0], x.dtype
    chunks = chunk_count(batch, length, features, units, 4)
    block = block_steps(batch, length, chunks)
    ring, state_ring = (length, length + 1) if differentiable else (block, 2)
    xt = time_major(x, ring)
    z = device.empty(batch * ring * 4 * units, dtype)
    h, c = (device.empty(batch * state_ring * units, dtype) for _ in range(2))
    y = device.empty((batch, length, units) if sequences else (batch, units), dtype)
    h_last, c_last = (device.empty((batch, units), dtype) for _ in range(2))
    masks = flat(mask, np.uint8), flat(mask if zero_masked else None, np.uint8)
    drops = flat(drop, dtype)
    dropped = device.empty(0 if drop is None else batch * units, dtype)
    codes = activation, recurrent_activation, int(sequences), int(backwards), block
    launch_shares(lstm_forward_share, chunks, x, kernel, recurrent_kernel, flat(bias, dtype),
        flat(initial_h, dtype), flat(initial_c, dtype), *masks, drops, xt, z, h, c, dropped,
        y.reshape(-1), h_last.reshape(-1), c_last.reshape(-1), *codes, ring, state_ring,
    )  # fmt: skip
    has_bias, has_state = bias is not None, (initial_h is not None, initial_c is not None)
    saved = x.shape, kernel, recurrent_kernel, has_bias, has_state, masks, drops, xt, z, h, c, codes, chunks
    return (y, h_last, c_last), saved if differentiable else None


def lstm_vjp(saved, dy, needs):
    shape, kernel, recurrent_kernel, has_bias, has_state, masks, drops, xt, z, h, c, codes, chunks = saved
    (batch, length, features), units, dtype = shape, recurrent_kernel.shape[0], kernel.dtype
    block = codes[-1]
    shapes = (features, 4 * units), (units, 4 * units), (4 * units,)
    weights, totals, parts = gradient_arrays((*needs[1:3], needs[3] if has_bias else False), shapes, dtype, chunks)
    dx = device.empty((0, 0, 0), dtype) if needs[0] is False else device.output(needs[0], shape, dtype)
    states = (batch, units)
    dh = device.output(needs[4], states, dtype) if has_state[0] else device.empty(states, dtype)
    dc = device.output(needs[5], states, dtype) if has_state[1] else device.empty(states, dtype)
    dz = device.empty(batch * block * 4 * units, dtype)
    temporary = device.empty(batch * units, dtype)
    dropped = device.empty(batch * block * units if drops.size else 0, dtype)
    kernel, turned = for_back_product(kernel, batch * length)
    recurrent_kernel, _ = for_back_product(recurrent_kernel, batch * length)
    launch_shares(lstm_backward_share, chunks, kernel, recurrent_kernel, *masks, drops, xt, z, h, c,
        flat(dy[0], dtype), flat(dy[1], dtype), flat(dy[2], dtype), dz, temporary, dropped,
        dx, dh.reshape(-1), dc.reshape(-1), *totals, parts.reshape(-1), *codes, batch, length, features, units, turned,
        int(has_state[0] and needs[4] is not False),
    )  # fmt: skip
    add_parts(parts, totals, shapes)
    wanted = has_state[0] and needs[4] is not False, has_state[1] and needs[5] is not False
    return (dx if dx.size else None, *weights, dh if wanted[0] else None, dc if wanted[1] else None, None, None)


@compiled
def lstm_forward_share(
    x, kernel, recurrent_kernel, bias, h0, c0, mask, output_mask, drop, xt, z, h, c, dropped, y, h_last, c_last,
    activation, recurrent_activation, sequences, backwards, block, ring, state_ring, chunk, chunks,
):  # fmt: skip
    """Kernel: all steps of one chunk of the batch."""
    batch, length, features = x.shape
    units = recurrent_kernel.shape[0]
    row, width, one = batch * chunk // chunks, 4 * units, z.dtype.type(1)
    rows = batch * (chunk + 1) // chunks - row
    count = rows * units
    x_base, z_base, h_base, row_at = row * ring * features, row * ring * width, row * state_ring * units, row * units
    copy_flat(h0, row_at, h, h_base, count)
    copy_flat(c0, row_at, c, h_base, count)
    for t in range(length):
        z_at = z_base + t % ring * rows * width
        if t % block == 0:
            steps, x_at = min(block, length - t), x_base + t % ring * rows * features
            fill_rows(bias, z, z_at, steps * rows, width)
            input_block(x, kernel, xt, x_at, z, z_at, width, t, steps, backwards, row, rows)
        before, after = h_base + t % state_ring * count, h_base + (t + 1) % state_ring * count
        if drop.size > 0:
            multiply_rows(h, before, drop, row_at, dropped, row_at, 1, count)
            gemm(0, 0, rows, width, units, dropped, row_at, units, recurrent_kernel, 0, width, one, z, z_at, width)
        elif t > 0 or h0.size > 0:
            gemm(0, 0, rows, width, units, h, before, units, recurrent_kernel, 0, width, one, z, z_at, width)
        activate(recurrent_activation, z, z_at, width, rows, 2 * units)
        activate(activation, z, z_at + 2 * units, width, rows, units)
        activate(recurrent_activation, z, z_at + 3 * units, width, rows, units)
        for r in range(rows):
            i, p, q = z_at + r * width, before + r * units, after + r * units
            f, g = i + units, i + 2 * units
            for j in range(units):
                v = load(z, f + j) * load(c, p + j) + load(z, i + j) * load(z, g + j)
                store(c, q + j, v)
                store(h, q + j, v)
        activate(activation, h, after, 0, 1, count)
        for r in range(rows):
            o, q = z_at + r * width + 3 * units, after + r * units
            for j in range(units):
                store(h, q + j, load(h, q + j) * load(z, o + j))
        mask_at = row * length + (length - 1 - t if backwards else t)
        if mask.size > 0:
            carry_masked(mask, mask_at, length, h, before, after, rows, units)
            carry_masked(mask, mask_at, length, c, before, after, rows, units)
        if sequences:
            y_at = (row * length + t) * units
            write_output(h, after, y, y_at, length * units, output_mask, mask_at, length, rows, units)
        elif t == length - 1:
            write_output(h, after, y, row_at, units, output_mask, mask_at, length, rows, units)
    last = h_base + length % state_ring * count
    copy_flat(h, last, h_last, row_at, count)
    copy_flat(c, last, c_last, row_at, count)


@compiled
def lstm_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, z, h, c, dy, dh_last, dc_last, dz, temporary, dropped,
    dx, dh, dc, dw, du, db, parts, activation, recurrent_activation, sequences, backwards, block, batch, length,
    features, units, turned, needs_h0, chunk, chunks,
):  # fmt: skip
    """Kernel: back through all steps of one chunk; dh and dc end as the gradients of the initial states."""
    mode = flush()
    width, zero, one = 4 * units, z.dtype.type(0), z.dtype.type(1)
    ldb = width if turned else units
    row = batch * chunk // chunks
    rows = batch * (chunk + 1) // chunks - row
    count = rows * units
    x_base, z_base, h_base = row * length * features, row * length * width, row * (length + 1) * units
    dz_base, row_at, dropped_at = row * block * width, row * units, row * block * units
    a0, a1, a2, a3, a4 = slopes(activation, z)
    r0, r1, r2, r3, r4 = slopes(recurrent_activation, z)
    w_at = u_at = b_at = 0
    if chunks > 1:  # this chunk's part, to be added by add_parts
        w_at = chunk * (features + units + 1) * width
        u_at = w_at + features * width
        b_at = u_at + units * width
        dw, du, db = parts if dw.size > 0 else dw, parts if du.size > 0 else du, parts if db.size > 0 else db
    copy_flat(dh_last, row_at, dh, row_at, count)
    copy_flat(dc_last, row_at, dc, row_at, count)
    for t in range(length - 1, -1, -1):
        z_at, first = z_base + t * rows * width, t // block * block
        dz_at = dz_base + (t - first) * rows * width
        before, after = h_base + t * count, h_base + (t + 1) * count
        mask_at = row * length + (length - 1 - t if backwards else t)
        if dy.size > 0 and sequences:
            y_at = (row * length + t) * units
            add_output_gradient(dy, y_at, length * units, output_mask, mask_at, length, dh, row_at, rows, units)
        elif dy.size > 0 and t == length - 1:
            add_output_gradient(dy, row_at, units, output_mask, mask_at, length, dh, row_at, rows, units)
        copy_flat(c, after, temporary, row_at, count)
        activate(activation, temporary, row_at, 0, 1, count)
        for r in range(rows):
            i, di, q = opaque(z_at + r * width), opaque(dz_at + r * width), row_at + r * units
            f, g, o, df, dg, do = i + units, i + 2 * units, i + 3 * units, di + units, di + 2 * units, di + 3 * units
            if mask.size > 0 and load(mask, mask_at + r * length) == 0:
                for j in range(width):
                    store(dz, di + j, zero)
                continue
            for j in range(units):  # three short loops, since LLVM checks each pair of streams of a loop for overlap
                zo, v, s = load(z, o + j), load(temporary, q + j), load(dh, q + j)
                store(dz, do + j, s * v * slope(zo, r0, r1, r2, r3, r4))
                store(dc, q + j, load(dc, q + j) + s * zo * slope(v, a0, a1, a2, a3, a4))
            for j in range(units):
                d, zi, zg = load(dc, q + j), load(z, i + j), load(z, g + j)
                store(dz, di + j, d * zg * slope(zi, r0, r1, r2, r3, r4))
                store(dz, dg + j, d * zi * slope(zg, a0, a1, a2, a3, a4))
            for j in range(units):
                d, zf = load(dc, q + j), load(z, f + j)
                store(dz, df + j, d * load(c, before + r * units + j) * slope(zf, r0, r1, r2, r3, r4))
                store(dc, q + j, d * zf)
            for j in range(units):
                store(dh, q + j, zero)
        if drop.size > 0:
            gemm(
                0,
                turned,
                rows,
                units,
                width,
                dz,
                dz_at,
                width,
                recurrent_kernel,
                0,
                ldb,
                zero,
                temporary,
                row_at,
                units,
            )
            add_product(temporary, row_at, drop, row_at, dh, row_at, count)
        elif t > 0 or needs_h0:
            beta = one if mask.size > 0 else zero
            gemm(0, turned, rows, units, width, dz, dz_at, width, recurrent_kernel, 0, ldb, beta, dh, row_at, units)
        if t == first:
            steps, final = min(block, length - t), t + block >= length
            x_at, ends, beta = x_base + t * rows * features, steps * rows, zero if final else one
            kernel_gradient(xt, x_at, dz, dz_at, dw, w_at, ends, features, width, final)
            input_gradient(dz, dz_at, kernel, turned, dx, width, t, steps, backwards, row, rows)
            if du.size > 0 and drop.size > 0:
                multiply_rows(h, before, drop, row_at, dropped, dropped_at, steps, count)
                gemm(1, 0, units, width, ends, dropped, dropped_at, units, dz, dz_at, width, beta, du, u_at, width)
            elif du.size > 0:
                gemm(1, 0, units, width, ends, h, before, units, dz, dz_at, width, beta, du, u_at, width)
            if db.size > 0:
                sum_rows(dz, dz_at, ends, width, db, b_at, final)
    restore(mode)
