"""What the recurrent families share: how a batch is cut into chunks, activations by code, the products of a block of steps.

An LSTM, GRU or SimpleRNN is one op for the whole sequence. The batch is cut into chunks of rows by shape alone, and one
share of the work is all steps of a chunk. A chunk's buffers are time-major, (steps, rows, features), one chunk after the
other in one flat array: the input product, and in the backward pass the weights' gradients and dx, are one matrix product
per block of steps with about 256 rows, while the gates of the block are in L2. Gates are computed and differentiated in
place. Each chunk has its own partial weight gradients, added in the order of the chunks, so results do not depend on the
number of threads.

An absent array (no mask, no initial state, a gradient nobody needs) is passed as an array of size 0, which keeps one
compiled signature per dtype.
"""

import math

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.vmath import sigmoid, tanh
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray

LINEAR, TANH, SIGMOID, RELU, HARD_SIGMOID, LEGACY_HARD_SIGMOID = range(6)
ACTIVATIONS = {
    "linear": LINEAR,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "relu": RELU,
    "hard_sigmoid": HARD_SIGMOID,  # Keras 3: clip(x / 6 + 0.5, 0, 1)
    "legacy_hard_sigmoid": LEGACY_HARD_SIGMOID,  # Keras 2: clip(0.2 x + 0.5, 0, 1)
}

_LEAST_ROWS = 8  # of a chunk: below, the products are too thin
_MOST_CHUNKS = 16  # each has a copy of the weights' gradients
_SERIAL_WORK = 1_500_000  # multiply-adds that one thread does before another thread pays (about 15 us)
_TRANSPOSE_ROWS = 512
_BLOCK_ROWS = 256  # rows of one input product: gates of so many rows stay in L2


def chunk_count(batch: int, steps: int, features: int, units: int, gates: int) -> int:
    """Into how many chunks of rows a batch is cut: a power of two, by shape alone; 1 for work too small to share or on a GPU."""
    count = 1
    if device.place() is None and batch * steps * (features + units + 32) * gates * units > _SERIAL_WORK:
        while count < _MOST_CHUNKS and batch >= 2 * count * _LEAST_ROWS:
            count *= 2
    return count


def block_steps(batch: int, steps: int, count: int) -> int:
    """Time steps per block; all on a GPU."""
    return steps if device.place() is not None else min(steps, max(1, _BLOCK_ROWS // -(-batch // count)))


def time_major(x: Array, ring: int) -> Array:
    """Room for `ring` steps of x, time-major; on a GPU x itself, whose order of axes suits products of all steps."""
    batch, _, features = x.shape
    return x.reshape(-1) if device.place() is not None else device.empty(batch * ring * features, x.dtype)


def absent(dtype) -> Array:
    """The array of size 0 that stands for an array that is not there."""
    return device.empty(0, dtype)


def for_back_product(weight: Array, rows: int) -> tuple[Array, int]:
    """(weight or its transpose, 1 or 0) for `gemm(0, flag, ...)` by the transposed weight.

    From about 512 rows on, a copy that is transposed pays, but on a GPU: else each product transposes its panels again.
    """
    if rows < _TRANSPOSE_ROWS or device.place() is not None:
        return weight, 1
    transposed = device.empty(weight.shape[::-1], weight.dtype)
    device.launch(device.copy, weight.T, transposed)
    return transposed, 0


def flat(array: Array | None, dtype) -> Array:
    """The array as one axis (a bool one as bytes), or the absent one: kernels see one kind of array only."""
    if array is None:
        return absent(dtype)
    return (array.view(np.uint8) if array.dtype == np.bool_ else array).reshape(-1)


@compiled
def activate(code, a, at, stride, rows, width):
    """a = f(a) in place over `rows` rows of `width` elements, the first at `at`."""
    zero, one, half = a.dtype.type(0), a.dtype.type(1), a.dtype.type(0.5)
    if code == TANH:
        for r in range(rows):
            o = at + r * stride
            for j in range(width):
                store(a, o + j, tanh(load(a, o + j)))
    elif code == SIGMOID:
        for r in range(rows):
            o = at + r * stride
            for j in range(width):
                store(a, o + j, sigmoid(load(a, o + j)))
    elif code == RELU:
        for r in range(rows):
            o = at + r * stride
            for j in range(width):
                v = load(a, o + j)
                store(a, o + j, zero if v < zero else v)
    elif code == HARD_SIGMOID or code == LEGACY_HARD_SIGMOID:
        slope = a.dtype.type(1 / 6) if code == HARD_SIGMOID else a.dtype.type(0.2)
        for r in range(rows):
            o = at + r * stride
            for j in range(width):
                v = slope * load(a, o + j) + half
                v = zero if v < zero else v
                store(a, o + j, one if v > one else v)


@compiled
def slopes(code, array):
    """(a, b, c, low, high): f'(x) = a + b y + c y^2 for y = f(x) in (low, high), 0 outside; in the array's dtype."""
    zero, one, infinity = array.dtype.type(0), array.dtype.type(1), array.dtype.type(np.inf)
    if code == TANH:
        return (one, zero, -one, -infinity, infinity)
    if code == SIGMOID:
        return (zero, one, -one, -infinity, infinity)
    if code == RELU:
        return (one, zero, zero, zero, infinity)
    if code == HARD_SIGMOID:
        return (array.dtype.type(1 / 6), zero, zero, zero, one)
    if code == LEGACY_HARD_SIGMOID:
        return (array.dtype.type(0.2), zero, zero, zero, one)
    return (one, zero, zero, -infinity, infinity)


@compiled(inline="always")
def slope(y, a, b, c, low, high):
    """f'(x) from y = f(x) and what `slopes` gave; NaN stays NaN."""
    return a - a if y <= low or y >= high else a + y * (b + c * y)


@compiled
def fill_rows(value, a, at, rows, width):
    """Each of `rows` rows of a becomes the vector `value`, or zero where that is absent."""
    zero = a.dtype.type(0)
    if value.size == 0:
        for j in range(rows * width):
            store(a, at + j, zero)
        return
    for r in range(rows):
        o = at + r * width
        for j in range(width):
            store(a, o + j, load(value, j))


@compiled
def copy_flat(source, source_at, target, target_at, count):
    """target[...] = source, flat; zero where the source is absent."""
    zero = target.dtype.type(0)
    if source.size == 0:
        for j in range(count):
            store(target, target_at + j, zero)
    else:
        for j in range(count):
            store(target, target_at + j, load(source, source_at + j))


@compiled
def input_block(x, kernel, xt, x_at, z, z_at, width, first, steps, backwards, row, rows):
    """z += x @ kernel for `steps` steps from `first` on, of the chunk of `rows` rows from `row` on; x goes to xt."""
    length, features = x.shape[1], x.shape[2]
    for s in range(steps):
        t = length - 1 - first - s if backwards else first + s
        for r in range(rows):
            i, o = ((row + r) * length + t) * features, x_at + (s * rows + r) * features
            for j in range(features):
                store(xt, o + j, load(x, i + j))
    one = z.dtype.type(1)
    gemm(0, 0, steps * rows, width, features, xt, x_at, features, kernel, 0, width, one, z, z_at, width)


@compiled
def multiply_rows(a, a_at, factor, factor_at, target, target_at, steps, count):
    """target = a * factor for `steps` runs of `count` elements; the factor is the same for each."""
    for s in range(steps):
        i, o = a_at + s * count, target_at + s * count
        for j in range(count):
            store(target, o + j, load(a, i + j) * load(factor, factor_at + j))


@compiled
def add_product(a, a_at, factor, factor_at, target, target_at, count):
    """target += a * factor, flat; an absent factor is 1."""
    if factor.size == 0:
        for j in range(count):
            store(target, target_at + j, load(target, target_at + j) + load(a, a_at + j))
        return
    for j in range(count):
        v = load(target, target_at + j) + load(a, a_at + j) * load(factor, factor_at + j)
        store(target, target_at + j, v)


@compiled
def carry_masked(mask, mask_at, length, a, before, after, rows, width):
    """At masked steps the state stays: a's rows at `after` become those at `before`."""
    for r in range(rows):
        if load(mask, mask_at + r * length) == 0:
            for j in range(r * width, (r + 1) * width):
                store(a, after + j, load(a, before + j))


@compiled
def write_output(h, h_at, y, y_at, stride, mask, mask_at, length, rows, width):
    """Write a step's output rows: h, or 0 at a masked step. mask: absent unless masked outputs are zero."""
    zero = y.dtype.type(0)
    for r in range(rows):
        i, o = h_at + r * width, y_at + r * stride
        if mask.size > 0 and load(mask, mask_at + r * length) == 0:
            for j in range(width):
                store(y, o + j, zero)
        else:
            for j in range(width):
                store(y, o + j, load(h, i + j))


@compiled
def add_output_gradient(dy, dy_at, stride, mask, mask_at, length, dh, dh_at, rows, width):
    """dh += dy, but for outputs that were set to 0; the way back through `write_output`."""
    for r in range(rows):
        i, o = dy_at + r * stride, dh_at + r * width
        if mask.size == 0 or load(mask, mask_at + r * length) != 0:
            for j in range(width):
                store(dh, o + j, load(dh, o + j) + load(dy, i + j))


@compiled
def kernel_gradient(xt, x_at, dz, dz_at, dw, w_at, rows, features, width, first):
    """dw = x^T dz over the rows of a block, added to dw but for the `first` block."""
    beta = dz.dtype.type(0) if first else dz.dtype.type(1)
    if dw.size > 0:
        gemm(1, 0, features, width, rows, xt, x_at, features, dz, dz_at, width, beta, dw, w_at, width)


@compiled
def input_gradient(dz, dz_at, kernel, turned, dx, width, first, steps, backwards, row, rows):
    """dx = dz W^T for a block of steps; kernel and `turned`: from `for_back_product`. dx is batch-major."""
    zero = dz.dtype.type(0)
    if dx.size > 0:
        length, features = dx.shape[1], dx.shape[2]
        ldb = width if turned else features
        for s in range(steps):
            t = length - 1 - first - s if backwards else first + s
            i, o = dz_at + s * rows * width, (row * length + t) * features
            gemm(0, turned, rows, features, width, dz, i, width, kernel, 0, ldb, zero, dx, o, length * features)


@compiled
def sum_rows(dz, at, rows, width, total, total_at, first):
    """total = sum of dz's rows, or total += it but for the `first` block; summed in dz's first row: small rounding errors."""
    for r in range(1, rows):
        o = at + r * width
        for j in range(width):
            store(dz, at + j, load(dz, at + j) + load(dz, o + j))
    for j in range(width):
        v = load(dz, at + j)
        store(total, total_at + j, v if first else load(total, total_at + j) + v)


def gradient_arrays(needs, shapes, dtype, chunks: int) -> tuple[list[Array | None], list[Array], Array]:
    """Arrays for the weights' gradients (None: not needed), the same flat, and room for the parts of several chunks."""
    arrays = [
        None if need is False else device.output(need, shape, dtype) for need, shape in zip(needs, shapes, strict=True)
    ]
    size = sum(math.prod(shape) for shape in shapes) if chunks > 1 else 0
    return arrays, [flat(array, dtype) for array in arrays], device.empty((chunks, size), dtype)


def add_parts(parts: Array, totals: list[Array], shapes) -> None:
    """Add the chunks' parts to the weights' gradients, in the order of the chunks."""
    if parts.size:
        kernel, recurrent_kernel, _ = (math.prod(shape) for shape in shapes)
        device.launch(sum_parts, parts, *totals, kernel, kernel + recurrent_kernel)


@compiled
def sum_parts(parts, dw, du, db, second, third):
    """Kernel: dw, du and db become the sums of their columns of parts, from 0, `second` and `third` on; size 0: not needed."""
    for total, start in ((dw, 0), (du, second), (db, third)):
        for j in range(total.size):
            total[j] = parts[0, start + j]
        for i in range(1, parts.shape[0]):
            row = parts[i, start : start + total.size]
            for j in range(row.size):
                total[j] += row[j]
