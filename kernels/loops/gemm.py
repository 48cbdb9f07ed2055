"""`gemm`, matrix products inside compiled kernels: row-major, any transpose, leading dimension, offset and beta.

The inner loop is written in vectors: a block of C (8 rows by 3 vectors with 32 vector registers, 6 by 2 with 16) stays in
registers while rows of B and columns of A pass through. With 16 registers, masks are used only at edges without padding.
The loops around it keep panels of B in the first-level cache (after Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008). They copy B to panels if many rows read the copy, and A by blocks if many columns read it. They copy
nothing for products of few rows. Weights that many products read may be stored in panels beforehand (`panel_width`).

Giga multiply-adds per second on one core of an AMD EPYC (Zen 4), as (ours, OpenBLAS's) with AVX2 only and with AVX-512, best of
several runs: 8 x 784 x 512: (41, 34), (54, 27); 32 rows: (50, 49), (57, 44); 128 rows: (54, 54), (57, 52); 1024 x 1024 x 1024:
(53, 55), (51, 51). Any product of at least two rows gives a row the same bits, however many rows it has.

A product runs on one thread: kernels call `gemm` on the pieces of their shares. The loops are compiled once per dtype, when a
kernel first needs them, and linked by *symbol name*, so callers stay cacheable and compile fast. A kernel that calls `gemm` is
decorated with `cache.compiled`; its cache makes the loops before it loads the kernel.
"""

import functools
import math

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.flat_access import start_of
from nbkeras.kernels.runtime.code import CompiledFunction, address, symbol
from nbkeras.kernels.runtime.lazy import binding, emitted, intrinsic, ir, types
from nbkeras.kernels.runtime.processor import has

PLAIN, TRANSPOSED, PANELS = 0, 1, 2  # the forms of B in memory; PANELS: see `panel_width`
BIAS, RECTIFIED = 1, 2  # flags of the work at the end of a product
_DEPTH = 256  # rows of a panel of B, which stays in L1: 16 KB with two vectors of 32 bytes, 48 KB with three of 64
_ROWS = 256  # max rows of A that a panel is multiplied with before the next panel: 256 KB, which stay in L2
_LONG = 8  # vectors of a row of B that a one-row product reads at a time
_inner = functools.partial(CompiledFunction, fastmath=False)


LINE = 64  # rows of stored panels have a multiple of this many bytes, on any processor
_WIDE = has("avx512f")
_BYTES = 64 if _WIDE else 32 if has("avx") else 16  # bytes of a vector
# A block of C in registers, rows by vectors. With 32 vector registers it is 8 by 3. With 16, 6 by 2 leave room for a row of B,
# an element of A and a mask. _FEW is for the last few rows.
_BLOCK, _VECTORS = (8, 3) if _WIDE or has("neon") else (6, 2)
_FEW = 4
_MASKS_ARE_FREE = _WIDE  # without AVX-512 a masked load takes a register, and is much slower on some processors
# How many rows of B the inner loop prefetches in advance: the next rows of a wide matrix are in other pages.
_AHEAD = 8 if _WIDE else 0
_CHAINS = 8  # enough independent sums to hide the latency of additions: four cycles, two at a time
# minimum rows of A for which a panel of B is copied, if B's rows are long and so share few sets of a cache
_PANEL_ROWS, _LONG_ROW = (256, 1) if _WIDE else (64, 1024)
_COPY_TRANSPOSED, _COPY_PLAIN = 64, 512  # min columns of C for which A is copied, if it is stored transposed or plain


class Vectors:
    """Emits vector code for a float type at the current position of `builder`. parts: 2 for vectors of half the size."""

    def __init__(self, builder, pointer_type, parts=1):
        self.builder = builder
        self.real = ir.FloatType() if pointer_type.dtype == types.float32 else ir.DoubleType()
        self.lanes = _BYTES * 8 // pointer_type.dtype.bitwidth // parts
        self.type = ir.VectorType(self.real, self.lanes)
        self.zero = ir.Constant(self.type, None)

    def vector_at(self, pointer, offset):
        """Returns the vector at pointer + offset."""
        offset = ir.Constant(ir.IntType(64), offset) if isinstance(offset, int) else offset
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def all(self, value):
        """Returns a vector with one value in every lane."""
        return llvm.spread(self.builder, value, self.lanes)

    def shuffle(self, x, y, lanes):
        indices = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), lanes)
        return self.builder.shuffle_vector(x, y, indices)

    def transpose(self, rows):
        """Changes a list of as many vectors as lanes to the columns of this square, in log2(lanes) exchanges."""
        distance = 1
        while distance < self.lanes:
            low = [self.lanes + e - distance if e & distance else e for e in range(self.lanes)]
            high = [self.lanes + e if e & distance else e + distance for e in range(self.lanes)]
            for i in range(self.lanes):
                if not i & distance:
                    x, y = rows[i], rows[i + distance]
                    rows[i], rows[i + distance] = self.shuffle(x, y, low), self.shuffle(x, y, high)
            distance *= 2

    def below(self, first, count):
        """Returns a mask of the lanes i with first + i < count."""
        numbers = ir.Constant(ir.VectorType(ir.IntType(64), self.lanes), [first + i for i in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.all(count))

    def multiply_add(self, x, y, z):
        return llvm.call(self.builder, f"llvm.fmuladd.{llvm.name_of(self.type)}", self.type, [x, y, z])

    def load(self, pointer, mask=None):
        return llvm.load(self.builder, pointer, self.type, mask)

    def store(self, value, pointer, mask=None):
        llvm.store(self.builder, value, pointer, mask)


def _offset(builder, number, step):
    """Returns the offset of a row or column of A from the first one: by equal steps, or from a table."""
    if isinstance(step.type, ir.PointerType):
        return builder.load(builder.gep(step, [number]))
    return builder.mul(number, step)


def _emit_block(v, own, high, wide, left, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends, width, is_padded):
    """Emits C[high, width] = A[high, k] @ B[k, width] + beta * C, in registers. The columns end in the last of `wide` vectors.

    own: each column of C has its own A, one number further: C[i, j] is the sum over p of A[i, p][j] * B[p, j]. left, ends: see
    `_loops`. is_padded: True if rows of B can be read up to the end of their last vector.
    """
    builder, number = v.builder, ir.IntType(64)
    rows = [ir.Constant(number, i) for i in range(high)]
    last = builder.sub(left, ir.Constant(number, 1))
    rows = [builder.select(builder.icmp_signed("<", row, last), row, last) for row in rows]
    a_rows = [builder.gep(a, [_offset(builder, row, row_step)]) for row in rows]
    c_rows = [builder.gep(c, [builder.mul(row, ldc)]) for row in rows]
    no_masks, masks = [None] * wide, [None] * (wide - 1) + [v.below((wide - 1) * v.lanes, width)]

    def sums_with(masks):
        return _emit_sums(v, own, high, wide, k, a_rows, k_step, b, ldb, masks)

    def end_with(sums, masks):
        pointers = {(i, j): v.vector_at(c_rows[i], j * v.lanes) for i, j in sums}
        _emit_end(v, sums, pointers, masks, beta, bias, ends)

    if _MASKS_ARE_FREE or (own and wide > 1):
        masks = masks if _MASKS_ARE_FREE else no_masks  # `panels` then leaves partial vectors to blocks of one vector
        end_with(sums_with(masks), masks)
        return
    is_full = builder.icmp_signed("==", width, ir.Constant(number, wide * v.lanes))
    has_room = builder.icmp_signed("!=", is_padded, ir.Constant(number, 0))  # not for `own`, because A has no padding
    ways = []
    with builder.if_else(builder.or_(is_full, has_room)) as (plain, edge):
        with plain:
            ways.append((sums_with(no_masks), builder.block))
        with edge:
            ways.append((sums_with(masks), builder.block))
    sums = _either(v, ways)
    with builder.if_else(is_full) as (whole, part):
        with whole:
            end_with(sums, no_masks)
        with part:
            end_with(sums, masks)


def _either(v, ways):
    """Returns the phis of several branches. ways: for each branch (values by key, its final block)."""
    joined = {key: v.builder.phi(v.type) for key in ways[0][0]}
    for key, phi in joined.items():
        for values, block in ways:
            phi.add_incoming(values[key], block)
    return joined


def _emit_sums(v, own, high, wide, k, a_rows, k_step, b, ldb, masks):
    """Emits the sums of a block by cell (i, j). For a single row of A, several rows of B have separate sums.

    For more rows, a cell has a single sum, so the order of its additions does not depend on the number of rows.
    """
    cells = [(i, j) for i in range(high) for j in range(wide)]
    phases = 1 if own or high > 1 else max(1, _CHAINS // wide)
    zeros = {(*cell, phase): v.zero for cell in cells for phase in range(phases)}
    p, sums = _emit_steps(v, own, phases, ir.Constant(ir.IntType(64), 0), k, zeros, a_rows, k_step, b, ldb, masks)
    if phases > 1:
        rest = {cell: value for cell, value in sums.items() if cell[2] == 0}
        sums |= _emit_steps(v, own, 1, p, k, rest, a_rows, k_step, b, ldb, masks)[1]
    distance = phases // 2
    while distance:
        for i, j in cells:
            for phase in range(distance):
                sums[i, j, phase] = v.builder.fadd(sums[i, j, phase], sums[i, j, phase + distance])
        distance //= 2
    return {cell: sums[*cell, 0] for cell in cells}


def _emit_steps(v, own, phases, first, k, start, a_rows, k_step, b, ldb, masks):
    """Adds products to sums, `phases` rows of B at a time from row `first` on. Returns the first remaining row and the sums."""
    builder, number = v.builder, ir.IntType(64)
    one, stride = ir.Constant(number, 1), ir.Constant(number, phases)
    last = builder.sub(k, ir.Constant(number, phases - 1))  # the limit of each step's first row
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed("<", first, last), loop, end)

    builder.position_at_end(loop)
    p = builder.phi(number)
    before = {cell: builder.phi(v.type) for cell in start}
    after, row = {}, p
    for phase in range(phases):
        b_row, at = builder.gep(b, [builder.mul(row, ldb)]), _offset(builder, row, k_step)
        b_values = [v.load(v.vector_at(b_row, j * v.lanes), mask) for j, mask in enumerate(masks)]
        # not for a single stream: the processor's prefetch is faster
        if _AHEAD and (len(a_rows) > 1 or len(masks) > _VECTORS):
            ahead = builder.gep(b_row, [builder.mul(ldb, ir.Constant(number, _AHEAD))])
            for j in range(len(masks)):
                llvm.prefetch(builder, v.vector_at(ahead, j * v.lanes), 3)
        for i, a_row in enumerate(a_rows):
            if isinstance(k_step.type, ir.PointerType):
                # because LLVM would load the numbers of all rows first, and run out of registers
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
            a_at = builder.gep(a_row, [at])
            a_value = None if own else v.all(builder.load(a_at))
            for j, mask in enumerate(masks):
                factor = v.load(v.vector_at(a_at, j * v.lanes), mask) if own else a_value
                after[i, j, phase] = v.multiply_add(factor, b_values[j], before[i, j, phase])
        row = builder.add(row, one)
    following = builder.add(p, stride)
    builder.cbranch(builder.icmp_signed("<", following, last), loop, end)
    for phi, begin, step in [(p, first, following), *((before[cell], start[cell], after[cell]) for cell in start)]:
        phi.add_incoming(begin, entry)
        phi.add_incoming(step, loop)

    builder.position_at_end(end)
    left = builder.phi(number)
    left.add_incoming(first, entry)
    left.add_incoming(following, loop)
    return left, _either(v, [(start, entry), (after, loop)])


def _emit_end(v, sums, pointers, masks, beta, bias, ends):
    """Stores sums + beta * the old values + the bias, or the positive part of this."""
    builder, number = v.builder, ir.IntType(64)

    def has(bit):
        return builder.icmp_signed("!=", builder.and_(ends, ir.Constant(number, bit)), ir.Constant(number, 0))

    def changed(values, condition, change):
        before = builder.block
        with builder.if_then(condition):
            ways = [(values, before), (change(), builder.block)]
        return _either(v, ways)

    def added():
        factor = v.all(beta)
        return {
            (i, j): v.multiply_add(factor, v.load(pointers[i, j], masks[j]), total) for (i, j), total in sums.items()
        }

    def biased():
        given = [v.load(v.vector_at(bias, j * v.lanes), mask) for j, mask in enumerate(masks)]
        return {(i, j): builder.fadd(total, given[j]) for (i, j), total in sums.items()}

    def positive():
        below = {cell: builder.fcmp_ordered("<", total, v.zero) for cell, total in sums.items()}  # NaN stays NaN
        return {cell: builder.select(below[cell], v.zero, total) for cell, total in sums.items()}

    sums = changed(sums, builder.fcmp_unordered("!=", beta, ir.Constant(v.real, 0.0)), added)
    sums = changed(sums, has(BIAS), biased)
    sums = changed(sums, has(RECTIFIED), positive)
    for (i, j), total in sums.items():
        v.store(total, pointers[i, j], masks[j])


@emitted(lambda source, from_row, target, to_row: types.void(source, types.int64, target, types.int64))
def _transpose(context, builder, signature, source, from_row, target, to_row):
    """Emits target[j * to_row + i] = source[i * from_row + j] for a square with a vector's lanes, in log2(lanes) exchanges.

    Rows of the target are written in order, so they may overlap.
    """
    v = Vectors(builder, signature.args[0])
    numbers = [ir.Constant(ir.IntType(64), i) for i in range(v.lanes)]
    rows = [v.load(v.vector_at(source, builder.mul(i, from_row))) for i in numbers]
    v.transpose(rows)
    for i, row in zip(numbers, rows, strict=True):
        v.store(row, v.vector_at(target, builder.mul(i, to_row)))


@emitted(lambda pointer: types.int64(pointer))
def _lanes(context, builder, signature, pointer):
    """Returns the number of elements of the pointer's type in a vector."""
    return ir.Constant(ir.IntType(64), _BYTES * 8 // signature.args[0].dtype.bitwidth)


@emitted(lambda pointer: types.int64(pointer))
def _line(context, builder, signature, pointer):
    """Returns the number of elements of the pointer's type in a cache line."""
    return ir.Constant(ir.IntType(64), LINE * 8 // signature.args[0].dtype.bitwidth)


def _memory(count):
    """Returns an intrinsic that allocates memory on its caller's stack: count(lanes) numbers of a pointer's type."""

    @emitted(lambda pointer: pointer(pointer))
    def memory(context, builder, signature, pointer):
        with builder.goto_entry_block():
            found = builder.alloca(pointer.type.pointee, count(_BYTES * 8 // signature.args[0].dtype.bitwidth))
        found.align = 64
        builder.function.attributes.add("noinline")
        return found

    return memory


_panel = _memory(lambda lanes: _DEPTH * _VECTORS * lanes)
# for a copy of A; vectors that are longer than a block's height end behind it
_blocks = _memory(lambda lanes: _DEPTH * (_ROWS + _BLOCK) + lanes)


@emitted(lambda pointer, offset: pointer(pointer, types.int64))
def _at(context, builder, signature, pointer, offset):
    """Returns pointer + offset."""
    return builder.gep(pointer, [offset])


@emitted(lambda pointer, number, step: pointer(pointer, types.int64, step))
def _moved(context, builder, signature, pointer, number, step):
    """Returns the pointer to a row or column of A. With a table it does not change, see `_rest`."""
    if isinstance(signature.args[2], types.CPointer):
        return pointer
    return builder.gep(pointer, [builder.mul(number, step)])


@emitted(lambda step, number: step(step, types.int64))
def _rest(context, builder, signature, step, number):
    """Returns the step from a row or column of A on; for a table, the rest of the table."""
    return builder.gep(step, [number]) if isinstance(signature.args[0], types.CPointer) else step


@emitted(lambda source, i, target, j: types.void(source, types.int64, target, types.int64))
def _move(context, builder, signature, source, i, target, j):
    """Sets target[j] = source[i]."""
    builder.store(builder.load(builder.gep(source, [i])), builder.gep(target, [j]))


@emitted(lambda source, target: types.void(source, target))
def _move_vector(context, builder, signature, source, target):
    """Copies a vector."""
    v = Vectors(builder, signature.args[0])
    v.store(v.load(v.vector_at(source, 0)), v.vector_at(target, 0))


@emitted(lambda pointer: types.void(pointer))
def _prefetch(context, builder, signature, pointer):
    """Prefetches the cache line at a pointer. The pointer may be outside the array."""
    llvm.prefetch(builder, pointer, 3)


@emitted(lambda target, j: types.void(target, types.int64))
def _clear(context, builder, signature, target, j):
    """Sets target[j] = 0."""
    builder.store(ir.Constant(target.type.pointee, 0.0), builder.gep(target, [j]))


@emitted(lambda value: value(value))
def _one_like(context, builder, signature, value):
    """Returns 1 in the value's type; Python's 1.0 would be a float64."""
    return ir.Constant(value.type, 1.0)


@_inner
def _fill_panel(tb, depth, width, b, ldb, panel, row):
    """Copies a part of B (or its stored transpose) with contiguous rows, padded to vectors: panel[p * row + j] = B[p, j]."""
    lanes = _lanes(b)
    whole = width // lanes * lanes
    if tb != 0:
        for j in range(0, whole, lanes):
            p = 0
            while p + lanes <= depth:
                _transpose(_at(b, j * ldb + p), ldb, _at(panel, p * row + j), row)
                p += lanes
            for q in range(p, depth):
                for i in range(j, j + lanes):
                    _move(b, i * ldb + q, panel, q * row + i)
    else:
        for p in range(depth):  # copy all vectors of a row at once: the rows of a wide B share few sets of a cache
            for j in range(0, whole, lanes):
                _move_vector(_at(b, p * ldb + j), _at(panel, p * row + j))
    if whole < width:
        for p in range(depth):
            for i in range(whole, whole + lanes):
                if i < width:
                    _move(b, i * ldb + p if tb != 0 else p * ldb + i, panel, p * row + i)
                else:
                    _clear(panel, p * row + i)


@emitted(lambda k_step, height: k_step(k_step, types.int64))
def _step_of(context, builder, signature, k_step, height):
    """Returns k_step, or the height of a block if k_step is 0."""
    if isinstance(signature.args[0], types.CPointer):
        return k_step
    return builder.select(builder.icmp_signed("==", k_step, ir.Constant(k_step.type, 0)), height, k_step)


@_inner
def _height(left):
    """Returns the next block's height if `left` rows remain. It saves passes over B, even if some rows are computed twice."""
    return _BLOCK if left > 2 * _FEW or _FEW < left <= _BLOCK else _FEW


@_inner
def _fill_blocks(ta, rows, depth, a, lda, blocks):
    """Copies rows of A (stored transposed if ta) block by block. In the copy of a block, each column is contiguous.

    It writes whole vectors. They are longer than a block's height; the next column overwrites the excess.
    """
    lanes, i = _lanes(a), 0
    while i < rows:
        left, height = rows - i, _height(rows - i)
        width = lanes if left >= lanes else min(height, left)
        _fill_panel(1 - ta, depth, width, _at(a, i if ta != 0 else i * lda), lda, _at(blocks, i * depth), height)
        i += height


@_inner
def _even(size, maximum, unit):
    """Returns the size of equal parts: at most `maximum`, and a multiple of `unit`."""
    parts = max(1, (size + maximum - 1) // maximum)
    return ((size + parts - 1) // parts + unit - 1) // unit * unit


def is_between(builder, width, minimum, maximum):
    """Emits whether minimum < width <= maximum."""
    above = builder.icmp_signed(">", width, ir.Constant(width.type, minimum))
    return builder.and_(above, builder.icmp_signed("<=", width, ir.Constant(width.type, maximum)))


def _block(own, heights, widths):
    """Returns the intrinsic of blocks with these numbers of rows and vectors. It has code for each of them."""

    def types_of(height, left, k, a, row_step, k_step, b, ldb, beta, c, *rest):
        number = types.int64
        return types.void(*[number] * 3, a, row_step, k_step, b, number, beta, c, number, b, *[number] * 3)

    @emitted(types_of)
    def block(
        context, builder, signature,
        height, left, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends, width, is_padded,
    ):  # fmt: skip
        """C[height, width] = A[height, k] @ B[k, width] + beta * C; a[i * row_step + p * k_step] is A[i, p].

        row_step, k_step: numbers, or pointers to tables of i * row_step and p * k_step. left: the number of rows; if it is less
        than the height, the last row is computed several times. is_padded: see `_emit_block`.
        """
        # inlined, the code around it would take registers from the loops
        builder.function.attributes.add("noinline")
        v, half = Vectors(builder, signature.args[3]), Vectors(builder, signature.args[3], 2)
        kinds = [(v, wide, (wide - 1) * v.lanes, wide * v.lanes) for wide in widths]
        if _WIDE and 1 in widths:  # because some processors do twice as many half-size operations
            kinds[0] = v, 1, half.lanes, v.lanes
            kinds.insert(0, (half, 1, 0, half.lanes))
        for high in heights:
            with builder.if_then(builder.icmp_signed("==", height, ir.Constant(ir.IntType(64), high))):
                for vectors, wide, minimum, maximum in kinds:
                    with builder.if_then(is_between(builder, width, minimum, maximum)):
                        _emit_block(
                            *(vectors, own, high, wide, left, k, a, row_step, k_step),
                            *(b, ldb, beta, c, ldc, bias, ends, width, is_padded),
                        )

    return block


def _loops(own):
    """Returns the function of a product, which may end with adding the bias (ends & BIAS) and a relu (ends & RECTIFIED).

    own: see `_emit_block`.
    """
    few_rows, one_row, long_row = (
        _block(own, heights, widths)
        for heights, widths in (
            ((_BLOCK, _FEW), range(1, _VECTORS + 1)),
            ((1,), range(1, _VECTORS + 1)),
            ((1,), (_LONG,)),
        )
    )

    @_inner
    def strip(
        first, last, width, k, a, block_step, row_step, k_step, b, ldb, is_padded, ahead, beta, c, ldc, bias, ends
    ):
        """Computes rows first to last (at least two) of a panel's columns of C.

        block_step: row_step, or with a k_step of 0 the length of a row of A in a copy by `_fill_blocks`. ahead: (the next panel,
        the distance between its rows, the number of rows to prefetch meanwhile).
        """
        i, fetched, (panel, step, rows) = first, 0, ahead
        while i < last:
            height, until = _height(last - i), min(rows, rows * (i - first + _BLOCK) // (last - first))
            while fetched < until:
                _prefetch(_at(panel, fetched * step))
                fetched += 1
            a_i, r_step, p_step = _moved(a, i, block_step), _rest(row_step, i), _step_of(k_step, height)
            c_i, left = _at(c, i * ldc), last - i
            few_rows(height, left, k, a_i, r_step, p_step, b, ldb, beta, c_i, ldc, bias, ends, width, is_padded)
            i += height

    @_inner
    def panels(tb, m, n, k, a, block_step, row_step, k_step, b, ldb, stored, beta, c, ldc, bias, ends):
        """Computes a product. block_step: see `strip`. stored: the rows of B in memory; k of them are used."""
        lanes, panel = _lanes(b), _panel(b)
        row, long = _VECTORS * lanes, _LONG * lanes
        columns, rows, step = _even(n, row, lanes), _even(m, _ROWS, _BLOCK), max(1, _even(k, _DEPTH, 1))
        if m == 1 and tb != TRANSPOSED:
            step = max(1, k)
        is_copied = m >= _PANEL_ROWS and ldb * _BYTES >= _LONG_ROW * lanes
        for p in range(0, max(k, 1), step):  # an empty sum is zero
            depth, factor = min(step, k - p), beta if p == 0 else _one_like(beta)
            a_p, k_rest, last_ends = _moved(a, p, k_step), _rest(k_step, p), ends if p + step >= k else 0
            for i in range(0, m, rows):
                j, last = 0, min(m, i + rows)
                while j < n:
                    width, b_at, b_step, is_padded = min(columns, n - j), _at(b, p * ldb + j), ldb, 0
                    ahead = _at(b_at, columns), ldb, 0
                    if tb == PANELS:
                        at = j % ldb
                        b_step = min(ldb, _even(n - j + at, n, _line(b)))  # the distance between rows of this panel
                        width, is_padded = min(row, ldb - at, n - j), 1 if b_step % lanes == 0 else 0
                        b_at = _at(b, (j - at) * stored + p * b_step + at)
                    elif tb == TRANSPOSED:
                        b_at = _at(b, j * ldb + p)
                    elif m == 1 and n - j >= long and not own:  # reading B bounds this, so read long pieces of its rows
                        width = long
                    elif own and width > lanes and not _MASKS_ARE_FREE:  # the remaining columns are a separate block
                        width = width // lanes * lanes
                    if not own and (
                        tb == TRANSPOSED or (tb == PLAIN and m >= _PANEL_ROWS and (is_copied or width % lanes))
                    ):
                        _fill_panel(tb, depth, width, b_at, ldb, panel, row)
                        ahead = _at(b_at, columns), ldb, depth if is_copied and tb == PLAIN else 0
                        b_at, b_step, is_padded = panel, row, 1
                    a_j, c_j, bias_j = _at(a_p, j) if own else a_p, _at(c, j), _at(bias, j)
                    if m > 1:
                        strip(
                            *(i, last, width, depth, a_j, block_step, row_step, k_rest, b_at, b_step, is_padded, ahead),
                            *(factor, c_j, ldc, bias_j, last_ends),
                        )
                    else:
                        operands = 1, 1, depth, a_j, row_step, k_rest, b_at, b_step
                        rest = factor, c_j, ldc, bias_j, last_ends, width, is_padded
                        if width == long:
                            long_row(*operands, *rest)
                        else:
                            one_row(*operands, *rest)
                    j += width

    return panels


_panels, _own_panels = _loops(False), _loops(True)


def _product(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, bias, ends):
    row_step, k_step = (1, lda) if ta != 0 else (lda, 1)
    _panels(tb, m, n, k, a, row_step, row_step, k_step, b, ldb, k, beta, c, ldc, bias, ends)


def _product_by_blocks(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, bias, ends):
    """`_product`, with copies of A where they are faster."""
    minimum = _COPY_TRANSPOSED if ta != 0 else _COPY_PLAIN
    # not for stored panels of B: the rows of the last one have another length
    is_copied = _lanes(a) >= _BLOCK and m > _BLOCK and n >= minimum and tb != PANELS
    row_step, k_step = (1, lda) if ta != 0 else (lda, 1)
    rows, step, operand = max(1, m), max(1, k), a
    if is_copied:
        rows, step, operand = _even(m, _ROWS, _BLOCK), max(1, _even(k, _DEPTH, 1)), _blocks(a)
    for p in range(0, max(k, 1), step):
        depth, factor = min(step, k - p), beta if p == 0 else _one_like(beta)
        b_at, last_ends = _at(b, p if tb == TRANSPOSED else p * ldb), ends if p + step >= k else 0
        for i in range(0, m, rows):
            height, block_step = min(rows, m - i), row_step
            if is_copied:
                _fill_blocks(ta, height, depth, _at(a, p * lda + i if ta != 0 else i * lda + p), lda, operand)
                block_step, row_step, k_step = depth, 1, 0
            _panels(
                *(tb, height, n, depth, operand, block_step, row_step, k_step, b_at, ldb, k),
                *(factor, _at(c, i * ldc), ldc, bias, last_ends),
            )


def _product_own(tb, m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends):
    _own_panels(tb, m, n, k, a, rows, rows, columns, b, ldb, k, beta, c, ldc, bias, ends)


def _product_at(tb, m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends):
    _panels(tb, m, n, k, a, rows, rows, columns, b, ldb, k, beta, c, ldc, bias, ends)


_SYMBOLS = {"float32": "nbkeras_sgemm", "float64": "nbkeras_dgemm"}
for _real, _name in _SYMBOLS.items():
    _ends = f"int64, {_real}, {_real}*, int64, {_real}*, int64"
    # with 32 registers a copy is never faster: blocks read enough of a row of A at once
    _plain = _product if _WIDE or has("neon") else _product_by_blocks
    symbol(_name, _plain, f"void(int64, int64, int64, int64, int64, {_real}*, int64, {_real}*, {_ends})")
    for _kind, _function in (("at", _product_at), ("own", _product_own)):
        symbol(
            f"{_name}_{_kind}",
            _function,
            f"void(int64, int64, int64, int64, {_real}*, int64*, int64*, {_real}*, {_ends})",
        )


def call_symbol(context, builder, signature, name, values):
    """Calls a symbol. A value is a number or an array: (its argument index, the array, an offset, *axes).

    axes: of the block at this offset, see `start_of`.
    """
    if not context.aot_mode:  # not in an object file: Numba itself compiles and loads the function
        binding.add_symbol(name, address(name))
    for i, value in enumerate(values):
        if isinstance(value, tuple):
            position, *block = value
            values[i] = start_of(context, builder, signature.args[position], *block)
    llvm.call(builder, name, ir.VoidType(), values)
    return context.get_dummy_value()


def _stored(builder, form, rows, columns, step, bits):
    """Returns the axes of a stored matrix with numbers of `bits` bits. form: PLAIN, TRANSPOSED or PANELS."""
    one, line = ir.Constant(step.type, 1), ir.Constant(step.type, LINE * 8 // bits)
    is_turned, is_cut = (builder.icmp_signed("==", form, ir.Constant(form.type, each)) for each in (TRANSPOSED, PANELS))
    counts = builder.select(is_turned, columns, rows), builder.select(is_turned, rows, columns)
    lines = builder.sdiv(builder.sub(builder.add(columns, line), one), line)  # lines in a row of all panels
    axis = builder.select(is_cut, rows, counts[0]), builder.select(is_cut, builder.mul(lines, line), step)
    return axis, (builder.select(is_cut, axis[1], counts[1]), one)


def _ended(builder, ends, n):
    """Returns the axis of a bias of n numbers; empty if the product adds no bias."""
    one = ir.Constant(n.type, BIAS)
    return builder.mul(builder.and_(ends, one), n), one


def _types_of(given, *places):
    """Returns the signature of a product, or None unless A, B, C and the bias, at these places, are arrays of a supported dtype.

    The argument before C is beta, a number of this dtype. Other arguments are arrays of offsets and int64.
    """
    matrices = [given[place] for place in places]
    dtype = getattr(matrices[0], "dtype", None)
    if str(dtype) not in _SYMBOLS or any(not isinstance(a, types.Array) or a.dtype != dtype for a in matrices):
        return None
    kinds = [each if isinstance(each, types.Array) else types.int64 for each in given]
    kinds[places[2] - 1] = dtype
    return types.void(*kinds)


def _call_product(context, builder, signature, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, ends):
    """Calls the symbol of `gemm`. bias: see `call_symbol`."""
    dtype = signature.args[5].dtype
    first = 5, a, ao, *_stored(builder, ta, m, k, lda, dtype.bitwidth)
    second = 8, b, bo, *_stored(builder, tb, k, n, ldb, dtype.bitwidth)
    result = 12, c, co, (m, ldc), (n, ir.Constant(n.type, 1))
    values = [ta, tb, m, n, k, first, lda, second, ldb, beta, result, ldc, bias, ends]
    call_symbol(context, builder, signature, _SYMBOLS[str(dtype)], values)


def panel_width(columns: int, itemsize: int) -> int:
    """Returns the columns of a panel, for a B that is stored in panels. Products read it as one stream.

    A panel is (k, width), and panels follow one another. The width is a multiple of LINE bytes. The last panel has the remaining
    columns, and zeros up to a multiple of LINE bytes. Products take panels of any width, because a library may be made for
    another processor.
    """
    lanes, line = _BYTES // itemsize, LINE // itemsize
    row = _VECTORS * lanes
    unit = line if row % line == 0 or line % row == 0 else math.lcm(row, line)  # a multiple of whole blocks
    return -(-_even.py_func(columns, row, lanes) // unit) * unit


@emitted(lambda *given: _types_of(given, 5, 8, 12))
def gemm(context, builder, signature, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc):
    """Computes C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C, row-major, in a compiled kernel.

    ta, tb: 1 if A or B is stored transposed, else 0; tb may be PANELS for B in panels of ldb columns, see `panel_width`. a, b, c:
    arrays of one dtype, float32 or float64, taken as flat memory. ao, bo, co: the offsets of the first elements. lda, ldb, ldc:
    the distance between stored rows, in elements. beta: a number of the same dtype; with 0, C is not read.
    """
    no_ends = ir.Constant(ldc.type, 0)
    _call_product(
        *(context, builder, signature, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc),
        *((8, b, bo, _ended(builder, no_ends, n)), no_ends),
    )


@emitted(lambda *given: _types_of(given, 5, 8, 12, 15))
def gemm_ended(context, builder, signature, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    """Runs `gemm`, then adds bias[at:] to each row if ends & BIAS, and takes the positive part if ends & RECTIFIED."""
    _call_product(
        *(context, builder, signature, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc),
        *((15, bias, at, _ended(builder, ends, n)), ends),
    )


def _by_tables(kind, given):
    """Returns the signature and the code of `gemm_at` or `gemm_own`, from the types of their arguments."""
    first = int(kind == "at")  # only `gemm_at` has the form of B as its first argument
    signature = _types_of(given, *(first + place for place in (3, 8, 12, 15)))

    def generate(context, builder, signature, args):
        m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends = args[first:]
        one, table = ir.Constant(n.type, 1), signature.args[first + 5]
        form, columns = (args[0], []) if first else (ir.Constant(n.type, PLAIN), [(n, one)])
        values = [form, m, n, k, (first + 3, a, ao, (m, (table, tables, ro)), (k, (table, tables, ko)), *columns)]
        values += [(first + 5, tables, ro, (m, one)), (first + 5, tables, ko, (k, one))]
        bits = signature.args[first + 3].dtype.bitwidth
        values += [(first + 8, b, bo, *_stored(builder, form, k, n, ldb, bits)), ldb, beta]
        values += [(first + 12, c, co, (m, ldc), (n, one)), ldc, (first + 15, bias, at, _ended(builder, ends, n)), ends]
        name = f"{_SYMBOLS[str(signature.args[first + 3].dtype)]}_{kind}"
        return call_symbol(context, builder, signature, name, values)

    return None if signature is None else (signature, generate)


@intrinsic
def gemm_at(typing, tb, m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    """Runs `gemm_ended` for a matrix A with A[i, p] = a[ao + tables[ro + i] + tables[ko + p]]; tables is an int64 array."""
    return _by_tables("at", (tb, m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends))


@intrinsic
def gemm_own(typing, m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    """Runs `gemm_at`, but each column of C has its own A, one number further: C[i, j] = sum over p of a[... + j] * B[p, j]."""
    return _by_tables("own", (m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends))
