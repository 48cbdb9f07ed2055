"""Code that lstm.py, gru.py and simple_rnn.py share: the arguments of their kernels, chunks, activations, blocks of steps.

An LSTM, GRU or SimpleRNN is one op for the whole sequence. The batch is cut into chunks of rows (by shape only). A share of the
work is all steps of a chunk. A chunk's buffers are time-major, (steps, rows, features); the chunks follow one another in a flat
array. The input product is a matrix product for each block of steps with about 256 rows, so that the block's gates stay in L2. In
the backward pass, the weights' gradients and dx are products for blocks too. Gates are computed and differentiated in place. Each
chunk has its own partial weight gradients, added in the order of the chunks, so results do not depend on the number of threads.

An absent array (no mask, no initial state, an array of another family, an unneeded gradient) is passed as an array of size 0,
which keeps one compiled signature per dtype.

A kernel's parameters are the fields of `Forward` or `Backward`, then `share, shares`; test_twins.py compares them. The fields are
passed one by one, because a recorded launch must see each array, and a NamedTuple costs Numba 1 us more per launch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import LINE, PANELS, PLAIN, TRANSPOSED, gemm
from nbkeras.kernels.loops.vmath import sigmoid, tanh
from nbkeras.kernels.panels import panels_of
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares

Array = np.ndarray

LINEAR, TANH, SIGMOID, RELU, HARD_SIGMOID, LEGACY_HARD_SIGMOID = range(6)
ACTIVATIONS = {
    "linear": LINEAR,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "relu": RELU,
    "hard_sigmoid": HARD_SIGMOID,  # Keras 3: clip((x + 3) / 6, 0, 1)
    "legacy_hard_sigmoid": LEGACY_HARD_SIGMOID,  # Keras 2: clip(0.2 (x + 2.5), 0, 1)
}

_MIN_ROWS = 8  # minimum rows of a chunk: with fewer, the products are too thin
_MAX_CHUNKS = 16  # limited, because each chunk has a copy of the weights' gradients
_SERIAL_WORK = 1_500_000  # min multiply-adds for a second thread (about 15 us)
_PANEL_STEPS = 4  # minimum time steps for which weights are copied into panels
# For one row, weights of at most this many numbers are not copied: they stay in L2, where reading longer rows is faster.
_PLAIN_ROW = 65536
_BLOCK_ROWS = 256  # rows of one input product: their gates stay in L2


class Cell(NamedTuple):
    """The arrays that a family's kernels compute and keep for each unit and step."""

    gates: int  # columns of the kernels
    keeps_gates: bool  # in z; False for SimpleRNN, whose only gate is its output, kept in h
    keeps_inner: bool = False
    keeps_c: bool = False
    is_cut: bool = False  # True if the last gate has a separate recurrent product


class Options(NamedTuple):
    """The layer's options in the form that kernels take: activations as codes, the others as 0 or 1."""

    activation: int
    recurrent_activation: int
    reset_after: int
    sequences: int
    backwards: int


class Forward(NamedTuple):
    """The arguments of a `..._forward_share` kernel, in order. All arrays are flat, except x and the kernels.

    The CPU's kernels keep xt, z, inner, h and c time-major, chunk after chunk; their twins keep them batch-major.
    """

    x: Array  # (batch, length, features)
    kernel: Array  # (features, gates * units)
    recurrent_kernel: Array  # (units, gates * units), or in panels
    bias: Array
    h0: Array  # initial states
    c0: Array
    mask: Array  # uint8 (batch, length)
    output_mask: Array  # the mask if outputs of masked steps are 0, else absent
    drop: Array  # (batch, units): factors of h in recurrent products
    xt: Array  # buffer for x, time-major: `ring` steps
    z: Array  # gates of `ring` steps
    inner: Array  # GRU: for `ring` steps, the reset gate's operand (reset_after) or its product with h
    h: Array  # states before and after steps: `state_ring` of them
    c: Array
    dropped: Array  # buffer for h * drop of one step
    y: Array  # outputs
    h_last: Array
    c_last: Array
    activation: int  # the fields up to `backwards` are `Options`
    recurrent_activation: int
    reset_after: int
    sequences: int
    backwards: int
    form: int  # recurrent_kernel's form: PLAIN or PANELS, see `gemm`
    block: int  # steps of one input product
    ring: int
    state_ring: int


class Backward(NamedTuple):
    """The arguments of a `..._backward_share` kernel, in order. All arrays are flat, except dx and the kernels."""

    kernel: Array  # transposed, like recurrent_kernel
    recurrent_kernel: Array
    mask: Array
    output_mask: Array
    drop: Array
    xt: Array  # the fields up to `c` are values of all steps that the forward kernel kept
    z: Array
    inner: Array
    h: Array
    c: Array
    dy: Array  # gradients of the outputs, then of the last states
    dh_last: Array
    dc_last: Array
    dz: Array  # buffer for a block of steps
    dinner: Array
    temporary: Array  # buffer, (batch, units)
    dropped: Array  # buffer for h * drop of a block of steps
    dx: Array  # (batch, length, features); dx and the weights' gradients are absent if they are not needed
    dh: Array  # ends as the gradient of h0; dc ends as the gradient of c0
    dc: Array
    dw: Array
    du: Array
    db: Array
    parts: Array  # (chunks, ...): the chunks' parts of dw, du and db, if there are several chunks
    activation: int  # the fields up to `backwards` are `Options`
    recurrent_activation: int
    reset_after: int
    sequences: int
    backwards: int
    block: int
    batch: int
    length: int
    features: int
    units: int
    form: int  # the form of both kernels: TRANSPOSED or PANELS, see `gemm`
    needs_h0: int


class Saved(NamedTuple):
    """The arrays and options of `run_forward` that `run_backward` needs."""

    shape: tuple[int, int, int]  # x's shape
    kernel: Array
    recurrent_kernel: Array
    drop: Array
    values: tuple[Array, Array, Array, Array, Array, Array, Array, Array]  # the fields `mask` to `c` of `Backward`
    options: Options
    block: int
    chunks: int
    has_bias: bool
    has_h0: bool
    has_c0: bool


def run_forward(
    share: Callable,
    cell: Cell,
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    h0: Array | None,
    c0: Array | None,
    mask: Array | None,
    drop: Array | None,
    *,
    activation: int,
    recurrent_activation: int = LINEAR,
    reset_after: bool = False,
    sequences: bool,
    backwards: bool,
    zero_masked: bool,
    differentiable: bool = True,
) -> tuple[tuple[Array, Array, Array], Saved | None]:
    """Runs a family's forward kernel; returns ((output, last h, last c), saved).

    x (B, T, D); kernel (D, gates H), recurrent_kernel (H, gates H), states (B, H). mask: bool (B, T). drop: (B, H), multiplies
    h before each recurrent product. output: (B, T, H) if `sequences`, else (B, H). differentiable: keep the arrays that the vjp
    needs; otherwise keep only a block of steps.
    """
    options = Options(activation, recurrent_activation, int(reset_after), int(sequences), int(backwards))
    (batch, length, features), units, dtype = x.shape, recurrent_kernel.shape[0], x.dtype
    chunks = chunk_count(batch, length, features, units, cell.gates)
    on_gpu = device.gpu() is not None
    # on a GPU a product is over all steps
    block = length if on_gpu else min(length, max(1, _BLOCK_ROWS // -(-batch // chunks)))
    ring, state_ring = (length, length + 1) if differentiable else (block, 2)
    nothing, is_repeated = device.empty(0, dtype), not on_gpu and length >= _PANEL_STEPS
    is_paneled = is_repeated and (batch > 1 or recurrent_kernel.size > _PLAIN_ROW)
    y = device.empty((batch, length, units) if options.sequences else (batch, units), dtype)
    h_last = device.empty((batch, units), dtype)
    c_last = device.empty((batch, units), dtype) if cell.keeps_c else nothing
    a = Forward(
        x=x,
        kernel=kernel,
        recurrent_kernel=panels_of(recurrent_kernel, cuts=_cuts(cell, units)) if is_paneled else recurrent_kernel,
        bias=flat(bias, nothing),
        h0=flat(h0, nothing),
        c0=flat(c0, nothing),
        mask=flat_mask(mask),
        output_mask=flat_mask(mask if zero_masked else None),
        drop=flat(drop, nothing),
        xt=x.reshape(-1) if on_gpu else device.empty(batch * ring * features, dtype),
        z=device.empty(batch * ring * cell.gates * units, dtype) if cell.keeps_gates else nothing,
        inner=device.empty(batch * ring * units, dtype) if cell.keeps_inner else nothing,
        h=device.empty(batch * state_ring * units, dtype),
        c=device.empty(batch * state_ring * units, dtype) if cell.keeps_c else nothing,
        dropped=nothing if drop is None else device.empty(batch * units, dtype),
        y=y.reshape(-1),
        h_last=h_last.reshape(-1),
        c_last=c_last.reshape(-1),
        **options._asdict(),
        form=PANELS if is_paneled else PLAIN,
        block=block,
        ring=ring,
        state_ring=state_ring,
    )
    launch_shares(share, chunks, *a)
    if not differentiable:
        return (y, h_last, c_last), None
    values = a.mask, a.output_mask, a.drop, a.xt, a.z, a.inner, a.h, a.c
    given = bias is not None, h0 is not None, c0 is not None
    return (y, h_last, c_last), Saved(x.shape, kernel, recurrent_kernel, a.drop, values, options, block, chunks, *given)


def run_backward(share: Callable, cell: Cell, saved: Saved, dy: tuple, needs: tuple) -> tuple[Array | None, ...]:
    """Runs a family's backward kernel; returns the gradients of (x, kernel, recurrent_kernel, bias, h0, c0), None if not needed.

    dy: the gradients of the output, the last h and the last c, each may be None. needs: of the six inputs, see
    kernels/__init__.py.
    """
    (batch, length, features), units, dtype = saved.shape, saved.recurrent_kernel.shape[0], saved.kernel.dtype
    width, chunks, block, options = cell.gates * units, saved.chunks, saved.block, saved.options
    needs_x, *needs_weights, needs_h0, needs_c0 = needs
    if not saved.has_bias:
        needs_weights[-1] = False
    nothing, states = device.empty(0, dtype), (batch, units)
    shapes = (features, width), (units, width), (2, width) if options.reset_after else (width,)
    weights = [
        None if need is False else device.output(need, shape, dtype)
        for need, shape in zip(needs_weights, shapes, strict=True)
    ]
    totals = [flat(weight, nothing) for weight in weights]
    dw_size, du_size, db_size = (math.prod(shape) for shape in shapes)
    parts = device.empty((chunks, dw_size + du_size + db_size if chunks > 1 else 0), dtype)
    dx = device.empty((0, 0, 0), dtype) if needs_x is False else device.output(needs_x, saved.shape, dtype)
    dh = device.output(needs_h0, states, dtype) if saved.has_h0 else device.empty(states, dtype)
    dc = nothing
    if cell.keeps_c:
        dc = device.output(needs_c0, states, dtype) if saved.has_c0 else device.empty(states, dtype)
    kernel, recurrent_kernel, form = saved.kernel, saved.recurrent_kernel, TRANSPOSED
    if device.gpu() is None and length >= _PANEL_STEPS:
        form, recurrent_kernel = PANELS, panels_of(recurrent_kernel, True, _cuts(cell, units))
        kernel = kernel if needs_x is False else panels_of(kernel, True)
    a = Backward(
        kernel,
        recurrent_kernel,
        *saved.values,
        dy=flat(dy[0], nothing),
        dh_last=flat(dy[1], nothing),
        dc_last=flat(dy[2], nothing),
        dz=device.empty(batch * block * width, dtype),
        dinner=device.empty(batch * block * units, dtype) if options.reset_after else nothing,
        temporary=device.empty(batch * units, dtype),
        dropped=device.empty(batch * block * units, dtype) if saved.drop.size else nothing,
        dx=dx,
        dh=dh.reshape(-1),
        dc=dc.reshape(-1),
        dw=totals[0],
        du=totals[1],
        db=totals[2],
        parts=parts.reshape(-1),
        **options._asdict(),
        block=block,
        batch=batch,
        length=length,
        features=features,
        units=units,
        form=form,
        needs_h0=int(saved.has_h0 and needs_h0 is not False),
    )
    launch_shares(share, chunks, *a)
    if parts.size:  # added in the order of the chunks
        device.launch(sum_parts, parts, *totals, dw_size, dw_size + du_size)
    c0_gradient = dc if saved.has_c0 and needs_c0 is not False else None
    return dx if dx.size else None, *weights, dh if a.needs_h0 else None, c0_gradient


def chunk_count(batch: int, steps: int, features: int, units: int, gates: int) -> int:
    """Returns the number of chunks: a power of two, by shape only; 1 if there is too little work to share, or on a GPU."""
    count = 1
    if device.gpu() is None and batch * steps * (features + units + 32) * gates * units > _SERIAL_WORK:
        while count < _MAX_CHUNKS and batch >= 2 * count * _MIN_ROWS:
            count *= 2
    return count


def _cuts(cell: Cell, units: int) -> tuple[int, ...]:
    """Returns the columns where recurrent weights are cut for separate products."""
    return ((cell.gates - 1) * units,) if cell.is_cut else ()


def flat(array: Array | None, nothing: Array) -> Array:
    """Returns the array as one axis, or `nothing` for None, so that kernels get one type of array."""
    return nothing if array is None else array.reshape(-1)


def flat_mask(mask: Array | None) -> Array:
    """Returns the bool mask as one axis of bytes, or the absent array."""
    return device.empty(0, np.uint8) if mask is None else mask.view(np.uint8).reshape(-1)


# -------------------- in kernels --------------------


@compiled
def rows_of_chunk(batch, index, count):
    """Returns (first row, number of rows) of a chunk of `count`."""
    row = batch * index // count
    return row, batch * (index + 1) // count - row


@compiled
def second_part(form, weights, terms, columns, otherwise):
    """Returns the offset of the second part of cut weights: `otherwise`, or in panels after the first part (terms x columns)."""
    line = LINE // weights.itemsize
    return (columns + line - 1) // line * line * terms if form == PANELS else otherwise


@compiled
def activate(code, a, at, stride, rows, width):
    """Sets a = f(a) in place for `rows` rows of `width` elements; the first row is at `at`."""
    zero, one = a.dtype.type(0), a.dtype.type(1)
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
        end = a.dtype.type(3) if code == HARD_SIGMOID else a.dtype.type(2.5)
        for r in range(rows):
            o = at + r * stride
            for j in range(width):
                v = (load(a, o + j) + end) * slope  # exactly 0 and 1 at the ends
                v = zero if v < zero else v
                store(a, o + j, one if v > one else v)


@compiled
def slopes(code, array):
    """Returns (a, b, c, low, high) in the array's dtype: f'(x) = a + b y + c y^2 for y = f(x) in (low, high), else 0."""
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
    """Returns f'(x) from y = f(x) and the results of `slopes`; NaN stays NaN."""
    return a - a if y <= low or y >= high else a + y * (b + c * y)


@compiled
def fill_rows(value, a, at, rows, width):
    """Sets each of `rows` rows of a to the vector `value`, or to zero if it is absent."""
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
    """Copies flat memory from source to target; writes zeros if source is absent."""
    zero = target.dtype.type(0)
    if source.size == 0:
        for j in range(count):
            store(target, target_at + j, zero)
    else:
        for j in range(count):
            store(target, target_at + j, load(source, source_at + j))


@compiled
def input_block(x, kernel, xt, x_at, z, z_at, width, first, steps, backwards, row, rows):
    """z += x @ kernel for `steps` steps from `first` on and the chunk's `rows` rows from `row` on; copies x to xt."""
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
def operands(h, at, drop, drop_at, dropped, dropped_at, steps, count):
    """Returns (array, offset) of `count` elements of the recurrent kernel's factor: h, or h times drop.

    dropped: buffer for the products.
    """
    if drop.size == 0:
        return h, at
    for s in range(steps):
        i, o = at + s * count, dropped_at + s * count
        for j in range(count):
            store(dropped, o + j, load(h, i + j) * load(drop, drop_at + j))
    return dropped, dropped_at


@compiled
def add_product(a, a_at, factor, factor_at, target, target_at, count):
    """target += a * factor in flat memory; an absent factor is 1."""
    if factor.size == 0:
        for j in range(count):
            store(target, target_at + j, load(target, target_at + j) + load(a, a_at + j))
        return
    for j in range(count):
        v = load(target, target_at + j) + load(a, a_at + j) * load(factor, factor_at + j)
        store(target, target_at + j, v)


@compiled
def carry_masked(mask, mask_at, length, a, before, after, rows, width):
    """Keeps the state at masked steps: copies a's rows at `before` to `after`."""
    for r in range(rows):
        if load(mask, mask_at + r * length) == 0:
            for j in range(r * width, (r + 1) * width):
                store(a, after + j, load(a, before + j))


@compiled
def clear_masked(mask, at, a, a_at, width):
    """Returns True if a row of a step is masked, and then sets `width` elements of a to 0."""
    if mask.size == 0 or load(mask, at) != 0:
        return False
    for j in range(width):
        store(a, a_at + j, a.dtype.type(0))
    return True


@compiled
def write_output(h, h_at, y, sequences, t, mask, mask_at, length, row, rows, width):
    """Writes the output rows of step t: h, or 0 at a masked step. mask: absent unless outputs of masked steps are 0."""
    if not sequences and t < length - 1:
        return
    zero, stride = y.dtype.type(0), length * width if sequences else width
    y_at = (row * length + t) * width if sequences else row * width
    for r in range(rows):
        i, o = h_at + r * width, y_at + r * stride
        if mask.size > 0 and load(mask, mask_at + r * length) == 0:
            for j in range(width):
                store(y, o + j, zero)
        else:
            for j in range(width):
                store(y, o + j, load(h, i + j))


@compiled
def add_output_gradient(dy, sequences, t, mask, mask_at, length, dh, dh_at, row, rows, width):
    """The backward pass of `write_output`: dh += dy of step t, except where the output was set to 0."""
    if dy.size == 0 or not sequences and t < length - 1:
        return
    stride = length * width if sequences else width
    dy_at = (row * length + t) * width if sequences else row * width
    for r in range(rows):
        i, o = dy_at + r * stride, dh_at + r * width
        if mask.size == 0 or load(mask, mask_at + r * length) != 0:
            for j in range(width):
                store(dh, o + j, load(dh, o + j) + load(dy, i + j))


@compiled
def own_parts(dw, du, db, parts, sizes, index, count):
    """Returns (dw, its offset, du, its offset, db, its offset), in the chunk's part of `parts` if there are several chunks.

    sizes: of dw, du and db. `sum_parts` sums the parts.
    """
    if count == 1:
        return dw, 0, du, 0, db, 0
    w, u, b = sizes
    at = index * (w + u + b)
    dw, du, db = parts if dw.size > 0 else dw, parts if du.size > 0 else du, parts if db.size > 0 else db
    return dw, at, du, at + w, db, at + w + u


@compiled
def state_gradient(dz, dz_at, weights, form, mask, drop, temporary, dh, at, rows, units, width):
    """dh += (dz U^T) drop. dh is 0 before, except in masked rows."""
    zero, ldb = dz.dtype.type(0), weights.shape[1]
    if drop.size > 0:
        gemm(0, form, rows, units, width, dz, dz_at, width, weights, 0, ldb, zero, temporary, at, units)
        add_product(temporary, at, drop, at, dh, at, rows * units)
    else:
        beta = dz.dtype.type(1) if mask.size > 0 else zero
        gemm(0, form, rows, units, width, dz, dz_at, width, weights, 0, ldb, beta, dh, at, units)


@compiled
def weight_gradients(operand, at, dz, dz_at, du, u_at, db, b_at, rows, units, width, is_first):
    """Computes du = operand^T dz and db = sum of dz over the rows of a block. Later blocks are added to the first one."""
    if du.size > 0:
        beta = dz.dtype.type(0) if is_first else dz.dtype.type(1)
        gemm(1, 0, units, width, rows, operand, at, units, dz, dz_at, width, beta, du, u_at, width)
    if db.size > 0:
        sum_rows(dz, dz_at, rows, width, db, b_at, is_first)


@compiled
def input_gradients(
    xt, x_at, dz, dz_at, dw, w_at, kernel, form, dx, features, width, first, steps, is_first, backwards, row, rows
):  # fmt: skip
    """Computes dw = x^T dz over a block of steps from `first` on (later blocks are added to the first), and dx = dz W^T.

    kernel and form: see `Backward`. dx is batch-major.
    """
    zero = dz.dtype.type(0)
    if dw.size > 0:
        beta = zero if is_first else dz.dtype.type(1)
        gemm(1, 0, features, width, steps * rows, xt, x_at, features, dz, dz_at, width, beta, dw, w_at, width)
    if dx.size > 0:
        length, ldb = dx.shape[1], kernel.shape[1]
        for s in range(steps):
            t = length - 1 - first - s if backwards else first + s
            i, o = dz_at + s * rows * width, (row * length + t) * features
            gemm(0, form, rows, features, width, dz, i, width, kernel, 0, ldb, zero, dx, o, length * features)


@compiled
def sum_rows(dz, at, rows, width, total, total_at, first):
    """Sets total to the sum of dz's rows for the `first` block, else adds it. Summing in dz's first row rounds less."""
    for r in range(1, rows):
        o = at + r * width
        for j in range(width):
            store(dz, at + j, load(dz, at + j) + load(dz, o + j))
    for j in range(width):
        v = load(dz, at + j)
        store(total, total_at + j, v if first else load(total, total_at + j) + v)


@compiled
def sum_parts(parts, dw, du, db, second, third):
    """Kernel: dw, du, db = the sums of their columns of parts, from columns 0, `second` and `third` on; size 0: none."""
    for total, start in ((dw, 0), (du, second), (db, third)):
        for j in range(total.size):
            total[j] = parts[0, start + j]
        for i in range(1, parts.shape[0]):
            row = parts[i, start : start + total.size]
            for j in range(row.size):
                total[j] += row[j]
