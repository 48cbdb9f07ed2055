"""LSTM over a whole sequence, forward and backward; recurrence.py explains how.

z = x_t W + h U + b for the gates i, f, g, o;  c' = r(z_f) c + r(z_i) a(z_g);  h' = r(z_o) a(c'), with the activation a and the
recurrent activation r. Source: Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000); the order of the
gates and the weights' layout are Keras's.
"""

from nbkeras.kernels.loops.flat_access import load, opaque, store
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.subnormals import flush, restore
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent.recurrence import slope
from nbkeras.kernels.runtime.cache import compiled

_CELL = recurrence.Cell(gates=4, keeps_gates=True, keeps_c=True)


def lstm(x, kernel, recurrent_kernel, bias, initial_h, initial_c, mask, drop, **options):
    """Returns (output, last h, last c). bias: (4 H,). For the other arguments see `recurrence.run_forward`."""
    arrays = x, kernel, recurrent_kernel, bias, initial_h, initial_c, mask, drop
    return recurrence.run_forward(lstm_forward_share, _CELL, *arrays, **options)


def lstm_vjp(saved, dy, needs):
    return *recurrence.run_backward(lstm_backward_share, _CELL, saved, dy, needs[:6]), None, None


@compiled
def lstm_forward_share(
    x, kernel, recurrent_kernel, bias, h0, c0, mask, output_mask, drop, xt, z, inner, h, c, dropped, y, h_last, c_last,
    activation, recurrent_activation, reset_after, sequences, backwards, form, block, ring, state_ring,
    share, shares,
):  # fmt: skip
    """Kernel: runs all steps of a chunk of the batch."""
    batch, length, features = x.shape
    units, ldb = h_last.size // max(1, batch), recurrent_kernel.shape[1]
    width, one = 4 * units, z.dtype.type(1)
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, z_base, h_base, row_at = row * ring * features, row * ring * width, row * state_ring * units, row * units
    recurrence.copy_flat(h0, row_at, h, h_base, count)
    recurrence.copy_flat(c0, row_at, c, h_base, count)
    for t in range(length):
        z_at = z_base + t % ring * rows * width
        if t % block == 0:
            steps, x_at = min(block, length - t), x_base + t % ring * rows * features
            recurrence.fill_rows(bias, z, z_at, steps * rows, width)
            recurrence.input_block(x, kernel, xt, x_at, z, z_at, width, t, steps, backwards, row, rows)
        before, after = h_base + t % state_ring * count, h_base + (t + 1) % state_ring * count
        if t > 0 or h0.size > 0 or drop.size > 0:
            operand, at = recurrence.operands(h, before, drop, row_at, dropped, row_at, 1, count)
            gemm(0, form, rows, width, units, operand, at, units, recurrent_kernel, 0, ldb, one, z, z_at, width)
        recurrence.activate(recurrent_activation, z, z_at, width, rows, 2 * units)
        recurrence.activate(activation, z, z_at + 2 * units, width, rows, units)
        recurrence.activate(recurrent_activation, z, z_at + 3 * units, width, rows, units)
        for r in range(rows):
            i, p, q = z_at + r * width, before + r * units, after + r * units
            f, g = i + units, i + 2 * units
            for j in range(units):
                v = load(z, f + j) * load(c, p + j) + load(z, i + j) * load(z, g + j)
                store(c, q + j, v)
                store(h, q + j, v)
        recurrence.activate(activation, h, after, 0, 1, count)
        for r in range(rows):
            o, q = z_at + r * width + 3 * units, after + r * units
            for j in range(units):
                store(h, q + j, load(h, q + j) * load(z, o + j))
        mask_at = row * length + (length - 1 - t if backwards else t)
        if mask.size > 0:
            recurrence.carry_masked(mask, mask_at, length, h, before, after, rows, units)
            recurrence.carry_masked(mask, mask_at, length, c, before, after, rows, units)
        recurrence.write_output(h, after, y, sequences, t, output_mask, mask_at, length, row, rows, units)
    last = h_base + length % state_ring * count
    recurrence.copy_flat(h, last, h_last, row_at, count)
    recurrence.copy_flat(c, last, c_last, row_at, count)


@compiled
def lstm_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, z, inner, h, c, dy, dh_last, dc_last,
    dz, dinner, temporary, dropped, dx, dh, dc, dw, du, db, parts,
    activation, recurrent_activation, reset_after, sequences, backwards, block, batch, length, features, units,
    form, needs_h0, share, shares,
):  # fmt: skip
    """Kernel: goes back through all steps of a chunk; dh and dc end as the gradients of h0 and c0."""
    mode = flush()
    width, zero = 4 * units, z.dtype.type(0)
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, z_base, h_base = row * length * features, row * length * width, row * (length + 1) * units
    dz_base, row_at, dropped_at = row * block * width, row * units, row * block * units
    a0, a1, a2, a3, a4 = recurrence.slopes(activation, z)
    r0, r1, r2, r3, r4 = recurrence.slopes(recurrent_activation, z)
    sizes = features * width, units * width, width
    dw, w_at, du, u_at, db, b_at = recurrence.own_parts(dw, du, db, parts, sizes, share, shares)
    recurrence.copy_flat(dh_last, row_at, dh, row_at, count)
    recurrence.copy_flat(dc_last, row_at, dc, row_at, count)
    for t in range(length - 1, -1, -1):
        z_at, first = z_base + t * rows * width, t // block * block
        dz_at = dz_base + (t - first) * rows * width
        before, after = h_base + t * count, h_base + (t + 1) * count
        mask_at = row * length + (length - 1 - t if backwards else t)
        recurrence.add_output_gradient(dy, sequences, t, output_mask, mask_at, length, dh, row_at, row, rows, units)
        recurrence.copy_flat(c, after, temporary, row_at, count)
        recurrence.activate(activation, temporary, row_at, 0, 1, count)
        for r in range(rows):
            i, di, q = opaque(z_at + r * width), opaque(dz_at + r * width), row_at + r * units
            f, g, o, df, dg, do = i + units, i + 2 * units, i + 3 * units, di + units, di + 2 * units, di + 3 * units
            if recurrence.clear_masked(mask, mask_at + r * length, dz, di, width):
                continue
            for j in range(units):  # three short loops, because LLVM checks each pair of streams in a loop for overlap
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
        if t > 0 or needs_h0:
            recurrence.state_gradient(
                dz, dz_at, recurrent_kernel, form, mask, drop, temporary, dh, row_at, rows, units, width
            )
        if t == first:
            steps, final = min(block, length - t), t + block >= length
            x_at = x_base + t * rows * features
            recurrence.input_gradients(
                xt, x_at, dz, dz_at, dw, w_at, kernel, form, dx, features, width, t, steps, final, backwards, row, rows
            )  # fmt: skip
            operand, at = recurrence.operands(h, before, drop, row_at, dropped, dropped_at, steps, count)
            recurrence.weight_gradients(operand, at, dz, dz_at, du, u_at, db, b_at, steps * rows, units, width, final)
    restore(mode)
