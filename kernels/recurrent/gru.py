"""GRU over a whole sequence, forward and backward; recurrence.py explains how.

The gates z, r and the candidate g use the activation a and the recurrent activation s:
z, r = s(x_t W_zr + h U_zr + b_zr);  h' = z h + (1 - z) g, where
reset_after: g = a(x_t W_g + b_g + r (h U_g + b'_g)), with a second bias b' for all products with h;
otherwise:   g = a(x_t W_g + b_g + (r h) U_g).
Source: Cho et al. (2014), arXiv:1406.1078, version 3 and version 1; the order of gates and the weights' layout are Keras's.
"""

from nbkeras.kernels.loops.flat_access import load, opaque, store
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.subnormals import flush, restore
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent.recurrence import slope
from nbkeras.kernels.runtime.cache import compiled

_CELL = recurrence.Cell(gates=3, keeps_gates=True, keeps_inner=True, is_cut=True)


def gru(x, kernel, recurrent_kernel, bias, initial_h, mask, drop, **options):
    """Returns (output, last h). bias: (2, 3 H) with reset_after, else (3 H,). For the rest see `recurrence.run_forward`."""
    arrays = x, kernel, recurrent_kernel, bias, initial_h, None, mask, drop
    (y, h_last, _), saved = recurrence.run_forward(gru_forward_share, _CELL, *arrays, **options)
    return (y, h_last), saved


def gru_vjp(saved, dy, needs):
    *gradients, _ = recurrence.run_backward(gru_backward_share, _CELL, saved, (*dy, None), (*needs[:5], False))
    return *gradients, None, None


@compiled
def _fill_biases(bias, z, z_at, inner, inner_at, rows, units, reset_after):
    """Sets z = b, or 0 without a bias. With reset_after, also adds b' to z's gates and sets inner = b'."""
    zero = z.dtype.type(0)
    for r in range(rows):
        o, p = z_at + r * 3 * units, inner_at + r * units
        for j in range(3 * units):
            store(z, o + j, load(bias, j) if bias.size > 0 else zero)
        if reset_after:
            if bias.size > 0:
                for j in range(2 * units):
                    store(z, o + j, load(z, o + j) + load(bias, 3 * units + j))
            for j in range(units):
                store(inner, p + j, load(bias, 5 * units + j) if bias.size > 0 else zero)


@compiled
def gru_forward_share(
    x, kernel, recurrent_kernel, bias, h0, c0, mask, output_mask, drop, xt, z, inner, h, c, dropped, y, h_last, c_last,
    activation, recurrent_activation, reset_after, sequences, backwards, form, block, ring, state_ring,
    share, shares,
):  # fmt: skip
    """Kernel: runs all steps of a chunk of the batch."""
    batch, length, features = x.shape
    units, ldb = h_last.size // max(1, batch), recurrent_kernel.shape[1]
    width, two, one = 3 * units, 2 * units, z.dtype.type(1)
    candidate = recurrence.second_part(form, recurrent_kernel, units, two, two)  # where U_g begins
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, z_base, h_base, row_at = row * ring * features, row * ring * width, row * state_ring * units, row * units
    recurrence.copy_flat(h0, row_at, h, h_base, count)
    for t in range(length):
        z_at, inner_at = z_base + t % ring * rows * width, row * ring * units + t % ring * count
        if t % block == 0:
            steps, x_at = min(block, length - t), x_base + t % ring * rows * features
            _fill_biases(bias, z, z_at, inner, inner_at, steps * rows, units, reset_after)
            recurrence.input_block(x, kernel, xt, x_at, z, z_at, width, t, steps, backwards, row, rows)
        before, after = h_base + t % state_ring * count, h_base + (t + 1) % state_ring * count
        operand, operand_at = recurrence.operands(h, before, drop, row_at, dropped, row_at, 1, count)
        starts_at_zero = t == 0 and h0.size == 0
        if not starts_at_zero:
            gemm(0, form, rows, two, units, operand, operand_at, units, recurrent_kernel, 0, ldb, one, z, z_at, width)
        if reset_after and not starts_at_zero:
            gemm(
                0, form, rows, units, units, operand, operand_at, units, recurrent_kernel, candidate, ldb,
                one, inner, inner_at, units,
            )  # fmt: skip
        recurrence.activate(recurrent_activation, z, z_at, width, rows, two)
        for r in range(rows):
            i, p, q = opaque(z_at + r * width), inner_at + r * units, operand_at + r * units
            s, g = i + units, i + two
            if reset_after:
                for j in range(units):
                    store(z, g + j, load(z, g + j) + load(z, s + j) * load(inner, p + j))
            else:
                for j in range(units):
                    store(inner, p + j, load(z, s + j) * load(operand, q + j))
        if not reset_after and not starts_at_zero:
            gemm(
                0, form, rows, units, units, inner, inner_at, units, recurrent_kernel, candidate, ldb,
                one, z, z_at + two, width,
            )  # fmt: skip
        recurrence.activate(activation, z, z_at + two, width, rows, units)
        for r in range(rows):
            i, p, q = z_at + r * width, before + r * units, after + r * units
            for j in range(units):
                u = load(z, i + j)
                store(h, q + j, u * load(h, p + j) + (one - u) * load(z, i + two + j))
        mask_at = row * length + (length - 1 - t if backwards else t)
        if mask.size > 0:
            recurrence.carry_masked(mask, mask_at, length, h, before, after, rows, units)
        recurrence.write_output(h, after, y, sequences, t, output_mask, mask_at, length, row, rows, units)
    recurrence.copy_flat(h, h_base + length % state_ring * count, h_last, row_at, count)


@compiled
def gru_backward_share(
    kernel, recurrent_kernel, mask, output_mask, drop, xt, z, inner, h, c, dy, dh_last, dc_last,
    dz, dinner, temporary, dropped, dx, dh, dc, dw, du, db, parts,
    activation, recurrent_activation, reset_after, sequences, backwards, block, batch, length, features, units,
    form, needs_h0, share, shares,
):  # fmt: skip
    """Kernel: goes back through all steps of a chunk; dh ends as the gradient of h0."""
    mode = flush()
    width, two, zero, one = 3 * units, 2 * units, z.dtype.type(0), z.dtype.type(1)
    ldb = recurrent_kernel.shape[1]
    candidate = recurrence.second_part(form, recurrent_kernel, two, units, two)  # where U_g begins
    row, rows = recurrence.rows_of_chunk(batch, share, shares)
    count = rows * units
    x_base, z_base, h_base = row * length * features, row * length * width, row * (length + 1) * units
    row_at, inner_base, ring_at = row * units, row * length * units, row * block * units
    a0, a1, a2, a3, a4 = recurrence.slopes(activation, z)
    r0, r1, r2, r3, r4 = recurrence.slopes(recurrent_activation, z)
    sizes = features * width, units * width, 2 * width if reset_after else width
    dw, w_at, du, u_at, db, b_at = recurrence.own_parts(dw, du, db, parts, sizes, share, shares)
    recurrence.copy_flat(dh_last, row_at, dh, row_at, count)
    for t in range(length - 1, -1, -1):
        z_at, inner_at, first = z_base + t * rows * width, inner_base + t * count, t // block * block
        dz_at, step_at = row * block * width + (t - first) * rows * width, ring_at + (t - first) * count
        before = h_base + t * count
        mask_at = row * length + (length - 1 - t if backwards else t)
        recurrence.add_output_gradient(dy, sequences, t, output_mask, mask_at, length, dh, row_at, row, rows, units)
        operand, operand_at = recurrence.operands(h, before, drop, row_at, dropped, step_at, 1, count)
        for r in range(rows):
            i, di, p, q = opaque(z_at + r * width), opaque(dz_at + r * width), before + r * units, row_at + r * units
            if recurrence.clear_masked(mask, mask_at + r * length, dz, di, width):
                continue
            g, dg = i + two, di + two
            for j in range(units):
                u, v, d = load(z, i + j), load(z, g + j), load(dh, q + j)
                store(dz, di + j, d * (load(h, p + j) - v) * slope(u, r0, r1, r2, r3, r4))
                store(dz, dg + j, d * (one - u) * slope(v, a0, a1, a2, a3, a4))
                store(dh, q + j, d * u)
        if reset_after:
            for r in range(rows):
                s, di = opaque(z_at + r * width + units), opaque(dz_at + r * width)
                p, q = inner_at + r * units, step_at + r * units
                dr, dg = di + units, di + two
                for j in range(units):
                    d, v = load(dz, dg + j), load(z, s + j)
                    store(dz, dr + j, d * load(inner, p + j) * slope(v, r0, r1, r2, r3, r4))
                    store(dinner, q + j, d * v)
        else:
            gemm(
                0, form, rows, units, units, dz, dz_at + two, width, recurrent_kernel, candidate, ldb,
                zero, temporary, row_at, units,
            )  # fmt: skip
            for r in range(rows):
                s, dr = opaque(z_at + r * width + units), opaque(dz_at + r * width + units)
                p, q = operand_at + r * units, row_at + r * units
                for j in range(units):
                    d, v = load(temporary, q + j), load(z, s + j)
                    store(dz, dr + j, d * load(operand, p + j) * slope(v, r0, r1, r2, r3, r4))
                    store(temporary, q + j, d * v)
        if t > 0 or needs_h0:
            beta = zero if reset_after else one
            gemm(
                0, form, rows, units, two, dz, dz_at, width, recurrent_kernel, 0, ldb, beta, temporary, row_at, units
            )  # fmt: skip
            if reset_after:
                gemm(
                    0, form, rows, units, units, dinner, step_at, units, recurrent_kernel, candidate, ldb,
                    one, temporary, row_at, units,
                )  # fmt: skip
            recurrence.add_product(temporary, row_at, drop, row_at, dh, row_at, count)
        if t == first:
            steps, final = min(block, length - t), t + block >= length
            x_at, ends, beta = x_base + t * rows * features, steps * rows, zero if final else one
            recurrence.input_gradients(
                xt, x_at, dz, dz_at, dw, w_at, kernel, form, dx, features, width, t, steps, final, backwards, row, rows
            )  # fmt: skip
            if du.size > 0:
                gemm(1, 0, units, two, ends, operand, operand_at, units, dz, dz_at, width, beta, du, u_at, width)
                if reset_after:
                    gemm(
                        1, 0, units, units, ends, operand, operand_at, units, dinner, step_at, units,
                        beta, du, u_at + two, width,
                    )  # fmt: skip
                else:
                    gemm(
                        1, 0, units, units, ends, inner, inner_at, units, dz, dz_at + two, width,
                        beta, du, u_at + two, width,
                    )  # fmt: skip
            if db.size > 0:
                recurrence.sum_rows(dz, dz_at, ends, width, db, b_at, final)
                if reset_after:
                    # now the first row holds the block's sum
                    recurrence.sum_rows(dz, dz_at, 1, two, db, b_at + width, final)
                    recurrence.sum_rows(dinner, step_at, ends, units, db, b_at + width + two, final)
    restore(mode)
