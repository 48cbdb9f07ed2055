"""Twins of packed.py: floats of packed integers, and products that read them."""

import math

from nbkeras.kernels.cuda.loops.rows import column_of_thread, counted, grid_of_rows, row_of_thread
from nbkeras.kernels.cuda.machine.kernel import kernel, start


@kernel
def _unpack(packed, scale, zero, groups, at, y, axis, by, signed):
    number, j = row_of_thread(), column_of_thread()
    if number < y.shape[0] and j < y.shape[1]:
        i = counted(at[number], packed.shape[0]) if at.size > 0 else number
        if i < 0:
            y[number, j] = math.nan
            return
        kind = y.dtype.type
        row, column = (i, 0) if by == 1 else (0, j)
        if groups.size > 0:
            group = min(groups[j if by == 1 else i], scale.shape[by] - 1)  # a file may have other numbers
            g = int(group) if group > 0 else 0
            row, column = (i, g) if by == 1 else (g, j)
        byte = int(packed[i // 2 if axis == 0 else i, j // 2 if axis == 1 else j])
        value = byte
        if axis != 2:
            value = (byte >> 4 if (i if axis == 0 else j) % 2 else byte) & 15
            if signed:
                value = (value ^ 8) - 8
        if zero.size > 0:
            y[number, j] = (kind(value) - zero[row, column]) * scale[row, column]
        else:
            y[number, j] = kind(value) / scale[row, column]


def unpack(packed, scale, zero, groups, at, y, axis, by):
    """y = (integers - zero) * scale, or integers / scale without zero points."""
    start(_unpack, *grid_of_rows(*y.shape), packed, scale, zero, groups, at, y, axis, by, int(packed.dtype.kind == "i"))


@kernel
def _multiply(x, w, scale, zero, groups, c, m, n, k):
    """A thread computes a number of C; threads side by side read the same bytes, or bytes side by side."""
    i, j = row_of_thread(), column_of_thread()
    if i < m and j < n:
        kind, half = c.dtype.type, (n + 1) // 2
        total = kind(0)
        for p in range(k):
            byte = int(w[p * half + j // 2])
            value = (((byte >> 4 if j % 2 else byte) & 15) ^ 8) - 8
            g = 0
            if groups.size > 0:
                number = min(groups[p], scale.shape[0] - 1)
                g = int(number) if number > 0 else 0
            if zero.size > 0:
                total = kind(total + x[i * k + p] * ((kind(value) - zero[g, j]) * scale[g, j]))
            else:
                total = kind(total + x[i * k + p] * kind(value))
        c[i * n + j] = total if zero.size > 0 else total / scale[0, j]


def multiply_packed(x, w, scale, zero, groups, panels, c, m, n, k):
    """C = X @ W for flat X (m, k), and packed W (k, n) of int8. Only the CPU uses `panels`."""
    start(_multiply, *grid_of_rows(m, n), x, w, scale, zero, groups, c, m, n, k)
