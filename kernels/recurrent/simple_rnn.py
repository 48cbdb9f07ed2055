"""The fully connected recurrence h' = a(x_t W + h U + b) over a whole sequence, forward and backward; see recurrence.py."""

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.subnormals import flush, restore
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent.recurrence import slope
from nbkeras.kernels.runtime.cache import compiled

_CELL = recurrence.Cell(gates=1, keeps_gates=False)


def simple_rnn(x, kernel, recurrent_kernel, bias, initial_h, mask, drop, **options):
    """Returns (output, last h). bias: (H,). For the other arguments see `recurrence.run_forward`; it has no options for gates."""
    arrays = x, kernel, recurrent_kernel, bias, initial_h, None, mask, drop
    (y, h_last, _), saved = recurrence.run_forward(simple_rnn_forward_share, _CELL, *arrays, **options)
    return (y, h_last), saved


def simple_rnn_vjp(saved, dy, needs):
    *gradients, _ = recurrence.run_backward(simple_rnn_backward_share, _CELL, saved, (*dy, None), (*needs[:5], False))
    return *gradients, None, None


@compiled
def simple_rnn_forward_share(
    x, kernel, recurrent_kernel, bias, h0, c0, mask, output_mask, drop, xt, z, inner, h, c, dropped, y, h_last, c_last,
    activation, recurrent_activation, reset_after, sequences, backwards, form, block, ring, state_ring,
    share, shares,
):  # fmt: skip
    """Kernel: runs all steps of a chunk of the batch. Products go directly into h; h's first step is the initial state."""
    batch, length, features = x.shape
    units, ldb = h_last.size // max(1, batch), recurrent_kernel.shape[1]
    one = h.dtype.type(1)
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, h_base, row_at = row * length * features, row * (length + 1) * units, row * units
    recurrence.copy_flat(h0, row_at, h, h_base, count)
    for t in range(length):
        before, after = h_base + t * count, h_base + (t + 1) * count
        if t % block == 0:
            steps, x_at = min(block, length - t), x_base + t * rows * features
            recurrence.fill_rows(bias, h, after, steps * rows, units)
            recurrence.input_block(x, kernel, xt, x_at, h, after, units, t, steps, backwards, row, rows)
        if t > 0 or h0.size > 0 or drop.size > 0:
            operand, at = recurrence.operands(h, before, drop, row_at, dropped, row_at, 1, count)
            gemm(0, form, rows, units, units, operand, at, units, recurrent_kernel, 0, ldb, one, h, after, units)
        recurrence.activate(activation, h, after, 0, 1, count)
        mask_at = row * length + (length - 1 - t if backwards else t)
        if mask.size > 0:
            recurrence.carry_masked(mask, mask_at, length, h, before, after, rows, units)
        recurrence.write_output(h, after, y, sequences, t, output_mask, mask_at, length, row, rows, units)
    recurrence.copy_flat(h, h_base + length * count, h_last, row_at, count)


@compiled
def simple_rnn_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, z, inner, h, c, dy, dh_last, dc_last,
    dz, dinner, temporary, dropped, dx, dh, dc, dw, du, db, parts,
    activation, recurrent_activation, reset_after, sequences, backwards, block, batch, length, features, units,
    form, needs_h0, share, shares,
):  # fmt: skip
    """Kernel: goes back through all steps of a chunk; dh ends as the gradient of h0."""
    mode = flush()
    zero = h.dtype.type(0)
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, h_base = row * length * features, row * (length + 1) * units
    row_at, ring_at = row * units, row * block * units
    a0, a1, a2, a3, a4 = recurrence.slopes(activation, h)
    sizes = features * units, units * units, units
    dw, w_at, du, u_at, db, b_at = recurrence.own_parts(dw, du, db, parts, sizes, share, shares)
    recurrence.copy_flat(dh_last, row_at, dh, row_at, count)
    for t in range(length - 1, -1, -1):
        first = t // block * block
        dz_at, before, after = ring_at + (t - first) * count, h_base + t * count, h_base + (t + 1) * count
        mask_at = row * length + (length - 1 - t if backwards else t)
        recurrence.add_output_gradient(dy, sequences, t, output_mask, mask_at, length, dh, row_at, row, rows, units)
        for r in range(rows):
            i, o, q = after + r * units, dz_at + r * units, row_at + r * units
            if recurrence.clear_masked(mask, mask_at + r * length, dz, o, units):
                continue
            for j in range(units):
                store(dz, o + j, load(dh, q + j) * slope(load(h, i + j), a0, a1, a2, a3, a4))
                store(dh, q + j, zero)
        if t > 0 or needs_h0:
            recurrence.state_gradient(
                dz, dz_at, recurrent_kernel, form, mask, drop, temporary, dh, row_at, rows, units, units
            )
        if t == first:
            steps, final = min(block, length - t), t + block >= length
            x_at = x_base + t * rows * features
            recurrence.input_gradients(
                xt, x_at, dz, dz_at, dw, w_at, kernel, form, dx, features, units, t, steps, final, backwards, row, rows
            )  # fmt: skip
            operand, at = recurrence.operands(h, before, drop, row_at, dropped, ring_at, steps, count)
            recurrence.weight_gradients(operand, at, dz, dz_at, du, u_at, db, b_at, steps * rows, units, units, final)
    restore(mode)
