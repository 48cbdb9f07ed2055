"""One CUDA kernel for the gradient of a convolution's kernel, windows^T @ dy, with the tiles of convolve.py.

A tile is (taps and channels) x units, and the sum runs over positions. Both factors are read by quads in memory order, along the
channels and along the units. The sum is long and the result small, so the sum is cut into parts. Each part has its own section of
y.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.convolution.convolve import (
    DEPTH,
    FETCHED,
    LARGE,
    LARGE_A,
    LARGE_B,
    MEDIUM,
    MEDIUM_A,
    MEDIUM_B,
    ONE,
    PAD,
    SMALL,
    SMALL_A,
    SMALL_B,
    TERMS,
    TWO,
    fetch_rows,
    first_sums,
    put_rows,
    write_row,
)
from nbkeras.kernels.cuda.loops.registers import load_quad, multiply_add, row_of, zero_block
from nbkeras.kernels.cuda.loops.walk import divided
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel

_i = np.int32


@device_function
def _correlate(tile, columns, a, b, x, dy, y, sizes, window, plan):
    """Computes one tile of the gradient, or of a part of its sum."""
    threads, across, high, wide = tile
    images, in_height, in_width, in_depth, channels, out_height, out_width, out_depth, units = sizes
    kernel_rows, kernel_columns, sh, sw, dh, dw, top, left = window
    tiles_m, tiles_n, parts, quads_x, quads_dy, quads_y = plan
    t, group = _i(cuda.threadIdx.x), _i(cuda.blockIdx.y)
    block, n0 = divided(cuda.blockIdx.x, tiles_n)
    part, m0 = divided(block, tiles_m)
    n0, m0 = _i(n0 * wide), _i(m0 * high)
    elements, positions = _i(kernel_rows * kernel_columns * channels), _i(images * out_height * out_width)
    steps, _ = divided((positions + DEPTH - 1) // DEPTH + parts - 1, parts)
    first = _i(part * steps * DEPTH)
    last = _i(min(positions, first + steps * DEPTH))
    steps = _i(max(0, (last - first + DEPTH - 1) // DEPTH))

    # From the windows, this thread loads one quad of taps and channels for several positions.
    quads = high // 4
    quad_a, row_a, step_a = _i(t % quads * 4), _i(t // quads), threads // quads
    passes = DEPTH // step_a
    downs, rights, offsets = cuda.local.array(4, np.int32), cuda.local.array(4, np.int32), cuda.local.array(4, np.int32)
    m_a = _i(m0 + quad_a)
    for e in range(4):
        tap, channel = divided(m_a + e, channels)
        row, column = divided(tap, kernel_columns)
        downs[e], rights[e] = _i(row * dh - top), _i(column * dw - left)
        offsets[e] = _i((downs[e] * in_width + rights[e]) * in_depth + group * channels + channel)
    k_a = _i(first + row_a)
    rest, j = divided(k_a, out_width)
    image, i_out = divided(rest, out_height)
    rest, more_j = divided(step_a, out_width)
    more_images, more_i = divided(rest, out_height)

    # From dy, it loads one quad of units for several positions.
    quads = wide // 4
    quad_b, row_b, step_b = _i(t % quads * 4), _i(t // quads), threads // quads
    n_b, k_b = _i(n0 + quad_b), _i(first + row_b)
    at_b = _i(k_b * out_depth + group * units + n_b)

    next_a, next_b = cuda.local.array(FETCHED, x.dtype), cuda.local.array(FETCHED, x.dtype)
    line_a, line_b, rows, zero = high + PAD, wide + PAD, (0, high // 2), x.dtype.type(0)
    ty, tx = first_sums(t, across)
    sums = zero_block(x, rows, columns)
    for step in range(steps + 1):
        if step < steps:
            for i in range(passes):
                row0, column0 = _i(i_out * sh), _i(j * sw)
                start = _i(((image * in_height + row0) * in_width + column0) * in_depth)
                if quads_x != 0:
                    v0, v1, v2, v3 = zero, zero, zero, zero
                    row, column = _i(row0 + downs[0]), _i(column0 + rights[0])
                    inside = row >= 0 and row < in_height and column >= 0 and column < in_width
                    if inside and k_a < last and m_a < elements:
                        v0, v1, v2, v3 = load_quad(x, _i(start + offsets[0]))
                    next_a[4 * i], next_a[4 * i + 1], next_a[4 * i + 2], next_a[4 * i + 3] = v0, v1, v2, v3
                else:
                    for e in range(4):
                        row, column, value = _i(row0 + downs[e]), _i(column0 + rights[e]), zero
                        inside = row >= 0 and row < in_height and column >= 0 and column < in_width
                        if inside and k_a < last and m_a + e < elements:
                            value = x[start + offsets[e]]
                        next_a[4 * i + e] = value
                k_a, j, i_out, image = _i(k_a + step_a), _i(j + more_j), _i(i_out + more_i), _i(image + more_images)
                if j >= out_width:
                    j, i_out = _i(j - out_width), _i(i_out + 1)
                if i_out >= out_height:
                    i_out, image = _i(i_out - out_height), _i(image + 1)
            fetch_rows(dy, at_b, step_b * out_depth, k_b, step_b, last, n_b, units, quads_dy, DEPTH // step_b, next_b)
            at_b, k_b = _i(at_b + DEPTH * out_depth), _i(k_b + DEPTH)
        if step > 0:
            at = _i((step + 1 & 1) * DEPTH)
            sums = multiply_add(sums, a, at * line_a + ty, line_a, rows, b, at * line_b + tx, line_b, columns, TERMS)
        if step < steps:
            at = _i((step & 1) * DEPTH)
            put_rows(next_a, passes, a, (at + row_a) * line_a + quad_a, step_a * line_a)
            put_rows(next_b, DEPTH // step_b, b, (at + row_b) * line_b + quad_b, step_b * line_b)
            cuda.syncthreads()

    n = _i(n0 + tx)
    for e in range(FETCHED):
        next_b[e] = zero
    for i in range(8):
        m = _i(m0 + i // 4 * (high // 2) + ty + i % 4)
        if m < elements:
            at = _i((part * elements + m) * out_depth + group * units + n)
            write_row(row_of(sums, columns, i), next_b, columns, y, at, n, units, quads_y, 0)


@kernel(launch_bounds=(LARGE[0], 3))
def correlate_large(x, dy, y, sizes, window, plan):
    a, b = cuda.shared.array(LARGE_A, x.dtype, alignment=16), cuda.shared.array(LARGE_B, x.dtype, alignment=16)
    _correlate(LARGE, TWO, a, b, x, dy, y, sizes, window, plan)


@kernel(launch_bounds=(MEDIUM[0], 4))
def correlate_medium(x, dy, y, sizes, window, plan):
    a, b = cuda.shared.array(MEDIUM_A, x.dtype, alignment=16), cuda.shared.array(MEDIUM_B, x.dtype, alignment=16)
    _correlate(MEDIUM, ONE, a, b, x, dy, y, sizes, window, plan)


@kernel(launch_bounds=(SMALL[0], 8))
def correlate_small(x, dy, y, sizes, window, plan):
    a, b = cuda.shared.array(SMALL_A, x.dtype, alignment=16), cuda.shared.array(SMALL_B, x.dtype, alignment=16)
    _correlate(SMALL, ONE, a, b, x, dy, y, sizes, window, plan)


@kernel(launch_bounds=(SMALL[0], 4))
def correlate_double(x, dy, y, sizes, window, plan):
    """Runs a tile in float64, whose sums take twice the registers."""
    a, b = cuda.shared.array(SMALL_A, x.dtype, alignment=16), cuda.shared.array(SMALL_B, x.dtype, alignment=16)
    _correlate(SMALL, ONE, a, b, x, dy, y, sizes, window, plan)
