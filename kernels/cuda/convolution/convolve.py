"""One CUDA kernel for convolution and the gradient of its input, for three sizes of tiles: an implicit matrix product.

A block of threads computes a tile of positions x units. The sum runs over the taps, and within a tap over the channels. In each
step the threads load the next pieces of windows and kernel into registers, multiply the previous pieces from shared memory, and
store the loaded pieces into the other of two buffers in shared memory. So loads overlap with products, and a step needs one
barrier. Windows are transposed when they are stored, so that both factors are read by quads along the tile. A thread holds 8 x 8
sums of the large tile, 8 x 4 of the others.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import load_four, store_four
from nbkeras.kernels.cuda.loops.registers import load_quad, multiply_add, row_of, spread_quad, store_quad, zero_block
from nbkeras.kernels.cuda.loops.walk import divided
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, size

_i = np.int32  # Numba's integers have 64 bits, two registers each, unless converted
_FAR = _i(-(1 << 30))  # a row far outside: no tap reaches the image from it
DEPTH = size(16, simulated=4)  # the terms of a step
_QUADS = DEPTH // 4
TERMS = tuple(range(DEPTH))
PAD = 4  # padding after each row in shared memory: a warp's threads then store to different banks, except for pairs

# A tile: threads, threads along a row of units, positions, units. Warps of 4 x 8 threads are side by side.
LARGE = size(128, simulated=4), size(8, simulated=2), size(128, simulated=16), size(64, simulated=16)
MEDIUM = size(128, simulated=8), size(16, simulated=4), size(64, simulated=16), size(64, simulated=16)
SMALL = size(64, simulated=4), size(8, simulated=2), size(64, simulated=16), size(32, simulated=8)
_DOWN, _ACROSS = size(4, simulated=2), size(8, simulated=2)
TWO, ONE = (0, LARGE[3] // 2), (0,)  # offsets of the quads of a thread's units
LARGE_A, LARGE_B = 2 * DEPTH * (LARGE[2] + PAD), 2 * DEPTH * (LARGE[3] + PAD)
MEDIUM_A, MEDIUM_B = 2 * DEPTH * (MEDIUM[2] + PAD), 2 * DEPTH * (MEDIUM[3] + PAD)
SMALL_A, SMALL_B = 2 * DEPTH * (SMALL[2] + PAD), 2 * DEPTH * (SMALL[3] + PAD)
# the most quads that a thread loads in a step
PASSES = max(DEPTH * max(tile[2:]) // 4 // tile[0] for tile in (LARGE, MEDIUM, SMALL))
FETCHED = 4 * PASSES
# tiles of `turn`: side, and lines that threads read at a time
SIDE, LINES = size(32, simulated=4), size(8, simulated=2)
_PITCH = SIDE + 1


@device_function
def first_sums(t, across):
    """Returns the first row and column of a thread's sums.

    As in CUTLASS, the two threads of a pair share columns, and every other pair shares rows. A 128-bit load from shared memory
    runs by quarters of a warp. Two quarters run together if these neighbours load the same numbers.
    """
    warp, lane, warps = t // (_DOWN * _ACROSS), t % (_DOWN * _ACROSS), across // _ACROSS
    row, column = lane // (2 * _ACROSS) * 2 + lane % 2, lane // 2 % _ACROSS
    return _i((warp // warps * _DOWN + row) * 4), _i((warp % warps * _ACROSS + column) * 4)


@device_function
def write_row(values, bias, columns, y, at, n, units, quads, relu):
    """Writes y[at + column + i] = value + bias, then relu, where n + column + i < units, for each quad of columns."""
    zero = y.dtype.type(0)
    for j in range(len(columns)):
        v0, v1 = values[4 * j] + bias[4 * j], values[4 * j + 1] + bias[4 * j + 1]
        v2, v3 = values[4 * j + 2] + bias[4 * j + 2], values[4 * j + 3] + bias[4 * j + 3]
        if relu != 0:  # NaN stays NaN
            v0, v1 = zero if v0 < zero else v0, zero if v1 < zero else v1
            v2, v3 = zero if v2 < zero else v2, zero if v3 < zero else v3
        here, left = at + columns[j], units - n - columns[j]
        if left > 0:
            store_four(y, here, here + left, 1, quads, (v0, v1, v2, v3))


@device_function
def fetch_rows(matrix, at, step, row, row_step, last, n, units, quads, passes, fetched):
    """Fetches quads of a matrix's rows row, row + row_step, ... < `last` at offsets at, at + step, ...; 0 from `units` on."""
    zero = matrix.dtype.type(0)
    for i in range(passes):
        v0, v1, v2, v3 = zero, zero, zero, zero
        if row + i * row_step < last and n < units:
            here = _i(at + i * step)
            v0, v1, v2, v3 = load_four(matrix, here, here + units - n, 1, quads, zero)
        fetched[4 * i], fetched[4 * i + 1], fetched[4 * i + 2], fetched[4 * i + 3] = v0, v1, v2, v3


@device_function
def put_rows(fetched, passes, buffer, at, step):
    """Stores fetched quads into shared memory, `step` apart."""
    for i in range(passes):
        quad = fetched[4 * i], fetched[4 * i + 1], fetched[4 * i + 2], fetched[4 * i + 3]
        store_quad(buffer, at + i * step, quad)


# -------------------- the input's gradient: a convolution of the output's gradient for each phase of pixels --------------------


@device_function
def _slot(row_tap, row_period, rows, column_tap, column_period, columns, matrix):
    """Returns the turned kernel's offset of the matrices for taps row_tap + row_period * i, column_tap + column_period * j."""
    taps, _ = divided(rows + row_period - 1, row_period)
    tap_columns, _ = divided(columns + column_period - 1, column_period)
    return _i((row_tap * min(column_period, columns) + column_tap) * taps * tap_columns * matrix)


@kernel
def turn(kernel, turned, channels, group_channels, units, group_units, taps):
    """turned[taps of a phase, a group's units, channels] = kernel[taps, a group's channels, units], see `_slot`."""
    tile = cuda.shared.array((SIDE, _PITCH), kernel.dtype)
    rows, columns, row_period, column_period = taps
    x, y, group = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y
    block, u0 = divided(cuda.blockIdx.x, (group_units + SIDE - 1) // SIDE)
    tap, c0 = divided(block, (group_channels + SIDE - 1) // SIDE)
    u0, c0 = u0 * SIDE, c0 * SIDE
    for line in range(y, SIDE, LINES):
        if u0 + x < group_units and c0 + line < group_channels:
            tile[line, x] = kernel[(tap * group_channels + c0 + line) * units + group * group_units + u0 + x]
    row, column = divided(tap, columns)
    down, row = divided(row, row_period)
    right, column = divided(column, column_period)
    tap_columns, _ = divided(columns - column + column_period - 1, column_period)
    matrix = group_units * channels
    at = _slot(row, row_period, rows, column, column_period, columns, matrix) + (down * tap_columns + right) * matrix
    cuda.syncthreads()
    for line in range(y, SIDE, LINES):
        if c0 + x < group_channels and u0 + line < group_units:
            turned[at + (u0 + line) * channels + group * group_channels + c0 + x] = tile[x, line]


@device_function
def _axis(turned, first, taps, stride, dilation, before, period):
    """Returns the numbers that the windows of outputs first, first + stride, ... share along an axis (of all, unless turned).

    These are: first tap, number of taps, source index of the first output's first tap, distance to the next tap, distance to the
    next output. period: the distance between taps of the same phase.
    """
    if turned == 0:
        return _i(0), taps, _i(-before), dilation, stride
    next_position, _ = divided(period * dilation, stride)
    choices = min(period, taps)
    for tap in range(choices):
        reach = taps * stride  # keeps the dividend positive
        position, rest = divided(first + before - tap * dilation + reach * dilation, stride)
        if rest == 0:
            count, _ = divided(taps - tap + period - 1, period)
            return _i(tap), count, _i(position - taps * dilation), _i(-next_position), _i(1)
    return _i(0), _i(0), _i(0), _i(0), _i(1)


# -------------------- tiles --------------------


@device_function
def _convolve(tile, columns, a, b, x, kernel, bias, y, sizes, window, plan):
    """Computes one tile of y, or of a part of its sum."""
    threads, across, high, wide = tile
    images, in_height, in_width, in_depth, channels, out_height, out_width, out_depth, units = sizes
    turned, kernel_rows, kernel_columns, sh, sw, dh, dw, before_rows, before_columns, row_period, column_period = window
    tiles_m, tiles_n, parts, relu, quads_x, quads_kernel, quads_y = plan
    t, group, block = _i(cuda.threadIdx.x), _i(cuda.blockIdx.y), _i(cuda.blockIdx.x)
    block, n0 = divided(block, tiles_n)
    block, m0 = divided(block, tiles_m)
    phase, part = divided(block, parts)
    n0, m0 = _i(n0 * wide), _i(m0 * high)

    # This block's phase: its pixels of y, and the numbers that their windows share.
    row0, column0, row_gap, column_gap = _i(0), _i(0), _i(1), _i(1)
    if turned != 0:
        row0, column0 = divided(phase, sw)
        row_gap, column_gap = sh, sw
    tap_row, tap_rows, top, row_step, row_jump = _axis(turned, row0, kernel_rows, sh, dh, before_rows, row_period)
    tap_column, tap_columns, left, column_step, column_jump = _axis(
        turned, column0, kernel_columns, sw, dw, before_columns, column_period
    )
    row_positions, _ = divided(out_width - column0 + column_gap - 1, column_gap)
    image_rows, _ = divided(out_height - row0 + row_gap - 1, row_gap)
    image_positions = _i(image_rows * row_positions)
    positions = _i(images * image_positions)
    if m0 >= positions:
        return
    terms = _i(tap_rows * tap_columns * channels)
    steps, _ = divided((terms + DEPTH - 1) // DEPTH + parts - 1, parts)
    first = _i(part * steps * DEPTH)
    last = _i(min(terms, first + steps * DEPTH))
    steps = _i(max(0, (last - first + DEPTH - 1) // DEPTH))

    # From the windows, this thread loads the terms of one quad for several positions.
    quad_a, row_a, step_a = _i(t % _QUADS * 4), _i(t // _QUADS), threads // _QUADS
    passes = high // step_a
    k = _i(first + quad_a)
    tap_columns = _i(max(tap_columns, _i(1)))  # avoids a division by 0 if there are no taps
    tap, channel = divided(k, channels)
    ky, kx = divided(tap, tap_columns)
    more_taps, more_channels = divided(DEPTH, channels)
    more_ky, more_kx = divided(more_taps, tap_columns)
    tops, lefts = cuda.local.array(PASSES, np.int32), cuda.local.array(PASSES, np.int32)
    starts = cuda.local.array(PASSES, np.int32)
    for i in range(passes):
        m = _i(m0 + row_a + i * step_a)
        image, position = divided(m, image_positions)
        row, column = divided(position, row_positions)
        y0, x0 = _i(row * row_jump + top), _i(column * column_jump + left)
        tops[i], lefts[i] = (y0 if m < positions else _FAR), x0
        starts[i] = _i(((image * in_height + y0) * in_width + x0) * in_depth + group * channels)

    # From the kernel, it loads one quad of units for several terms.
    quads = wide // 4
    quad_b, row_b, step_b = _i(t % quads * 4), _i(t // quads), threads // quads
    n_b, k_b = _i(n0 + quad_b), _i(first + row_b)
    at_b = _i(k_b * out_depth + group * units + n_b)
    if turned != 0:
        matrix = channels * out_depth
        at_b = _i(at_b + _slot(tap_row, row_period, kernel_rows, tap_column, column_period, kernel_columns, matrix))

    next_a, next_b = cuda.local.array(FETCHED, x.dtype), cuda.local.array(FETCHED, x.dtype)
    line_a, line_b, rows, zero = high + PAD, wide + PAD, (0, high // 2), x.dtype.type(0)
    ty, tx = first_sums(t, across)
    sums = zero_block(x, rows, columns)
    for step in range(steps + 1):
        if step < steps:
            if quads_x != 0:
                down, right = _i(ky * row_step), _i(kx * column_step)
                further = _i((down * in_width + right) * in_depth + channel)
                for i in range(passes):
                    row, column = _i(tops[i] + down), _i(lefts[i] + right)
                    v0, v1, v2, v3 = zero, zero, zero, zero
                    if k < last and row >= 0 and row < in_height and column >= 0 and column < in_width:
                        v0, v1, v2, v3 = load_quad(x, _i(starts[i] + further))
                    next_a[4 * i], next_a[4 * i + 1], next_a[4 * i + 2], next_a[4 * i + 3] = v0, v1, v2, v3
            else:
                one_channel, one_ky, one_kx = channel, ky, kx
                for e in range(4):
                    down, right = _i(one_ky * row_step), _i(one_kx * column_step)
                    further = _i((down * in_width + right) * in_depth + one_channel)
                    for i in range(passes):
                        row, column = _i(tops[i] + down), _i(lefts[i] + right)
                        value = zero
                        if k + e < last and row >= 0 and row < in_height and column >= 0 and column < in_width:
                            value = x[starts[i] + further]
                        next_a[4 * i + e] = value
                    one_channel = _i(one_channel + 1)
                    if one_channel == channels:
                        one_channel, one_kx = _i(0), _i(one_kx + 1)
                        if one_kx == tap_columns:
                            one_kx, one_ky = _i(0), _i(one_ky + 1)
            k, channel, kx, ky = _i(k + DEPTH), _i(channel + more_channels), _i(kx + more_kx), _i(ky + more_ky)
            if channel >= channels:
                channel, kx = _i(channel - channels), _i(kx + 1)
            if kx >= tap_columns:
                kx, ky = _i(kx - tap_columns), _i(ky + 1)
            fetch_rows(
                kernel, at_b, step_b * out_depth, k_b, step_b, last, n_b, units, quads_kernel, DEPTH // step_b, next_b
            )
            at_b, k_b = _i(at_b + DEPTH * out_depth), _i(k_b + DEPTH)
        if step > 0:
            at = _i((step + 1 & 1) * DEPTH)
            sums = multiply_add(sums, a, at * line_a + ty, line_a, rows, b, at * line_b + tx, line_b, columns, TERMS)
        if step < steps:
            at = _i((step & 1) * DEPTH)
            for i in range(passes):
                quad = next_a[4 * i], next_a[4 * i + 1], next_a[4 * i + 2], next_a[4 * i + 3]
                spread_quad(a, (at + quad_a) * line_a + row_a + i * step_a, line_a, quad)
            put_rows(next_b, DEPTH // step_b, b, (at + row_b) * line_b + quad_b, step_b * line_b)
            cuda.syncthreads()

    n = _i(n0 + tx)
    for j in range(len(columns)):
        for e in range(4):
            unit = n + columns[j] + e
            next_b[4 * j + e] = bias[group * units + unit] if bias.size > 0 and unit < units else zero
    for i in range(8):
        m = _i(m0 + i // 4 * (high // 2) + ty + i % 4)
        if m < positions:
            image, position = divided(m, image_positions)
            row, column = divided(position, row_positions)
            row = _i((part * images + image) * out_height + row * row_gap + row0)
            at = _i((row * out_width + column * column_gap + column0) * out_depth + group * units + n)
            write_row(row_of(sums, columns, i), next_b, columns, y, at, n, units, quads_y, relu)


@kernel(launch_bounds=(LARGE[0], 3))
def convolve_large(x, kernel, bias, y, sizes, window, plan):
    a, b = cuda.shared.array(LARGE_A, x.dtype, alignment=16), cuda.shared.array(LARGE_B, x.dtype, alignment=16)
    _convolve(LARGE, TWO, a, b, x, kernel, bias, y, sizes, window, plan)


@kernel(launch_bounds=(MEDIUM[0], 4))
def convolve_medium(x, kernel, bias, y, sizes, window, plan):
    a, b = cuda.shared.array(MEDIUM_A, x.dtype, alignment=16), cuda.shared.array(MEDIUM_B, x.dtype, alignment=16)
    _convolve(MEDIUM, ONE, a, b, x, kernel, bias, y, sizes, window, plan)


@kernel(launch_bounds=(SMALL[0], 8))
def convolve_small(x, kernel, bias, y, sizes, window, plan):
    a, b = cuda.shared.array(SMALL_A, x.dtype, alignment=16), cuda.shared.array(SMALL_B, x.dtype, alignment=16)
    _convolve(SMALL, ONE, a, b, x, kernel, bias, y, sizes, window, plan)


@kernel(launch_bounds=(SMALL[0], 4))
def convolve_double(x, kernel, bias, y, sizes, window, plan):
    """Runs a tile in float64, whose sums take twice the registers."""
    a, b = cuda.shared.array(SMALL_A, x.dtype, alignment=16), cuda.shared.array(SMALL_B, x.dtype, alignment=16)
    _convolve(SMALL, ONE, a, b, x, kernel, bias, y, sizes, window, plan)
