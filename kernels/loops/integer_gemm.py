"""Products of int8 matrices inside compiled kernels, summed exactly in int32, by instructions for products of bytes.

VNNI's instruction multiplies four neighbouring bytes of two vectors and adds the sums. One of its operands is unsigned: numbers
plus 128. Without VNNI (`HAS_BYTE_PRODUCTS`), bytes are widened and multiplied in pairs, which gives the same sums.

`add_product`: four rows of B are interleaved in registers, and a block of C stays in registers while they pass through. B is the
unsigned operand: the caller starts C with -128 times the sum of A's row.

`multiply_windows`: B was interleaved before, and A's rows may be anywhere. A is the unsigned operand. Factors and bias are
applied while sums are in registers.
"""

import functools

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.gemm import _at, call_symbol, is_between
from nbkeras.kernels.runtime.code import symbol
from nbkeras.kernels.runtime.lazy import binding, emitted, ir, types
from nbkeras.kernels.runtime.processor import has

_WIDE = has("avx512vnni") or has("avx512bw")
HAS_BYTE_PRODUCTS = has("avx512vnni") or has("avxvnni")
_BYTES = 64 if _WIDE else 16 if has("simd128") else 32  # bytes of a vector; also the columns of a block
_HIGH = 2 if HAS_BYTE_PRODUCTS and not _WIDE else 6  # rows of a block; each has 4 vectors of sums
COLUMNS = 16  # columns of a group of `multiply_windows`
# `multiply_windows` has a block of 8 rows by 3 vectors, or 4 by 2, in registers
_ROWS, _GROUPS = (8, 3) if _WIDE else (4, 1)


class _Bytes:
    """Emits operations on vectors of bytes at the current position of `builder`."""

    def __init__(self, builder):
        self.builder, self.lanes = builder, _BYTES // 4
        self.byte, self.word, self.long = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        self.bytes, self.words = ir.VectorType(self.byte, _BYTES), ir.VectorType(self.word, self.lanes)
        self.zero = ir.Constant(self.words, None)

    def shuffle(self, x, y, lanes):
        kind = ir.VectorType(self.word, len(lanes))
        return self.builder.shuffle_vector(x, y, ir.Constant(kind, lanes))

    def below(self, first, lanes, count):
        """Returns a mask of the lanes i with first + i < count. If count is None, it returns None, for all lanes."""
        if count is None:
            return None
        numbers = ir.Constant(ir.VectorType(self.long, lanes), [first + i for i in range(lanes)])
        return self.builder.icmp_signed("<", numbers, llvm.spread(self.builder, count, lanes))

    def interleave(self, x, y, width, upper):
        """Takes the lower or upper halves of each 16 bytes of two vectors, alternating after `width` bytes."""
        order = []
        for lane in range(0, _BYTES, 16):
            for at in range(lane + 8 * upper, lane + 8 * upper + 8, width):
                order += [*range(at, at + width), *range(_BYTES + at, _BYTES + at + width)]
        return self.shuffle(x, y, order)

    def quads(self, rows):
        """Returns four rows of bytes as four vectors of words. A word has a column; `in_order` restores the columns' order."""
        sign = ir.Constant(self.bytes, [-128] * _BYTES)
        a, b, c, d = (self.builder.xor(row, sign) for row in rows)  # this adds 128
        pairs = [(self.interleave(a, b, 1, upper), self.interleave(c, d, 1, upper)) for upper in (0, 1)]
        found = [self.interleave(x, y, 2, upper) for x, y in pairs for upper in (0, 1)]
        return [self.builder.bitcast(each, self.words) for each in found]

    def in_order(self, sums):
        """Rearranges four vectors of sums from the order of `quads` to the order of columns."""
        a, b, c, d = sums
        low, high = self.shuffle(a, b, list(range(2 * self.lanes))), self.shuffle(c, d, list(range(2 * self.lanes)))
        count = self.lanes
        order = [v * count + lane * 4 + i for lane in range(count // 4) for v in range(4) for i in range(4)]
        return [self.shuffle(low, high, order[first : first + count]) for first in range(0, 4 * count, count)]

    def dot(self, total, unsigned, signed):
        """Returns total + the sums of four products of bytes."""
        if not HAS_BYTE_PRODUCTS:
            return self._dot_by_pairs(total, unsigned, signed)
        # in LLVM up to version 21, the operands are words
        kind = self.bytes if binding.llvm_version_info[0] >= 22 else self.words
        values = [total, *(self.builder.bitcast(each, kind) for each in (unsigned, signed))]
        return llvm.call(self.builder, f"llvm.x86.avx512.vpdpbusd.{8 * _BYTES}", self.words, values)

    def _dot_by_pairs(self, total, unsigned, signed):
        """Computes `dot` by 16-bit products. LLVM multiplies and adds two of them in one instruction if the processor has one."""
        builder, pairs = self.builder, ir.VectorType(ir.IntType(16), _BYTES // 2)
        wide = ir.VectorType(self.word, _BYTES // 2)
        eight, byte = ir.Constant(pairs, [8] * pairs.count), ir.Constant(pairs, [255] * pairs.count)
        x, y = (builder.bitcast(each, pairs) for each in (unsigned, signed))
        even = builder.and_(x, byte), builder.ashr(builder.shl(y, eight), eight)
        odd = builder.lshr(x, eight), builder.ashr(y, eight)
        for a, b in (even, odd):
            product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
            first, second = (self.shuffle(product, product, list(range(i, wide.count, 2))) for i in (0, 1))
            total = builder.add(total, builder.add(first, second))
        return total


def _emit_block(v, k, a, lda, b, ldb, c, ldc, width, high, groups):
    """Emits C[high, width] += A[high, k] @ (B[k, width] + 128), in registers. The width ends in the last of `groups` vectors.

    width: None if all columns of these vectors are in use.
    """
    builder = v.builder
    number = functools.partial(ir.Constant, v.long)
    masks = [v.below(g * _BYTES, _BYTES, width) for g in range(groups)]
    a_rows = [builder.gep(a, [builder.mul(number(i), lda)]) for i in range(high)]
    cells = [(i, g, j) for i in range(high) for g in range(groups) for j in range(4)]
    fours = builder.and_(k, number(-4))

    def read(row, mask, g):
        return llvm.load(builder, builder.gep(row, [number(g * _BYTES)]), v.bytes, mask)

    def added(before, rows, factors):
        """Returns the sums after four rows of B."""
        signed, after = [llvm.spread(builder, factor, v.lanes) for factor in factors], {}
        for g, mask in enumerate(masks):
            zero = ir.Constant(v.bytes, None)
            values = v.quads([zero if row is None else read(row, mask, g) for row in rows])
            for i in range(high):
                for j in range(4):
                    after[i, g, j] = v.dot(before[i, g, j], values[j], signed[i])
        return after

    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed(">", fours, number(0)), loop, end)
    builder.position_at_end(loop)
    p = builder.phi(v.long)
    before = {cell: builder.phi(v.words) for cell in cells}
    b_row = builder.gep(b, [builder.mul(p, ldb)])
    rows = [builder.gep(b_row, [builder.mul(number(r), ldb)]) for r in range(4)]
    factors = [builder.load(builder.bitcast(builder.gep(row, [p]), v.word.as_pointer()), align=1) for row in a_rows]
    after = added(before, rows, factors)
    following = builder.add(p, number(4))
    builder.cbranch(builder.icmp_signed("<", following, fours), loop, end)
    p.add_incoming(number(0), entry)
    p.add_incoming(following, loop)
    for cell in cells:
        before[cell].add_incoming(v.zero, entry)
        before[cell].add_incoming(after[cell], loop)

    builder.position_at_end(end)
    sums = {}
    for cell in cells:
        sums[cell] = builder.phi(v.words)
        sums[cell].add_incoming(v.zero, entry)
        sums[cell].add_incoming(after[cell], loop)
    rest, done = builder.append_basic_block("rest"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", fours, k), rest, done)
    builder.position_at_end(rest)  # the last one to three rows, padded with zeros
    rows, factors = [], [ir.Constant(v.word, 0)] * high
    for r in range(3):
        at = builder.add(fours, number(r))
        is_there = builder.icmp_signed("<", at, k)
        at = builder.select(is_there, at, fours)
        rows.append(builder.gep(b, [builder.mul(at, ldb)]))
        for i in range(high):
            byte = builder.select(is_there, builder.load(builder.gep(a_rows[i], [at])), ir.Constant(v.byte, 0))
            shifted = builder.shl(builder.zext(byte, v.word), ir.Constant(v.word, 8 * r))
            factors[i] = builder.or_(factors[i], shifted)
    last = added(sums, [*rows, None], factors)
    rest = builder.block
    builder.branch(done)

    builder.position_at_end(done)
    totals = {cell: builder.phi(v.words) for cell in cells}
    for cell, total in totals.items():
        total.add_incoming(sums[cell], end)
        total.add_incoming(last[cell], rest)
    for i in range(high):
        row = builder.gep(c, [builder.mul(number(i), ldc)])
        for g in range(groups):
            for j, total in enumerate(v.in_order([totals[i, g, j] for j in range(4)])):
                first = g * _BYTES + j * v.lanes
                inside, at = v.below(first, v.lanes, width), builder.gep(row, [number(first)])
                llvm.store(builder, builder.add(total, llvm.load(builder, at, v.words, inside)), at, inside)


def _whole_or_part(builder, width, columns, emit, args):
    """Emits a block, and an unmasked one for all columns: masked loads of bytes are slow, with AVX-512 if they miss the cache."""
    with builder.if_else(builder.icmp_signed("==", width, ir.Constant(width.type, columns))) as (whole, part):
        with whole:
            emit(_Bytes(builder), *args, None)
        with part:
            emit(_Bytes(builder), *args, width)


def _types_of_block(rows, groups, k, a, lda, b, ldb, c, ldc, width):
    return types.void(rows, groups, types.int64, a, types.int64, b, types.int64, c, types.int64, types.int64)


@emitted(_types_of_block, prefer_literal=True)
def _block(context, builder, signature, rows, groups, k, a, lda, b, ldb, c, ldc, width):
    """Emits a block. rows, groups: literals."""
    high, count = (each.literal_value for each in signature.args[:2])
    emit = functools.partial(_emit_block, high=high, groups=count)
    _whole_or_part(builder, width, count * _BYTES, emit, (k, a, lda, b, ldb, c, ldc))


def _product(m, n, k, a, lda, b, ldb, c, ldc):
    if m == 1:  # reading B bounds this, so read long pieces of its rows
        for j in range(0, n, 4 * _BYTES):
            width, b_j, c_j = min(4 * _BYTES, n - j), _at(b, j), _at(c, j)
            if width > 2 * _BYTES:
                _block(1, 4, k, a, lda, b_j, ldb, c_j, ldc, width)
            elif width > _BYTES:
                _block(1, 2, k, a, lda, b_j, ldb, c_j, ldc, width)
            else:
                _block(1, 1, k, a, lda, b_j, ldb, c_j, ldc, width)
        return
    for j in range(0, n, _BYTES):
        width, b_j, c_j, i = min(_BYTES, n - j), _at(b, j), _at(c, j), 0
        while i < m:
            a_i, c_i = _at(a, i * lda), _at(c_j, i * ldc)
            if m - i >= _HIGH:
                _block(_HIGH, 1, k, a_i, lda, b_j, ldb, c_i, ldc, width)
                i += _HIGH
            elif m - i >= 2:
                _block(2, 1, k, a_i, lda, b_j, ldb, c_i, ldc, width)
                i += 2
            else:
                _block(1, 1, k, a_i, lda, b_j, ldb, c_i, ldc, width)
                i += 1


_NUMBERS = "int64, int64, int64, int8*, int64, int8*, int64, int32*, int64"
symbol("nbkeras_igemm", _product, f"void({_NUMBERS})")


def _types_of_product(m, n, k, a, ao, lda, b, bo, ldb, c, co, ldc):
    two = types.int64, types.int64
    return types.void(*two, types.int64, a, *two, b, *two, c, *two)


@emitted(_types_of_product)
def add_product(context, builder, signature, m, n, k, a, ao, lda, b, bo, ldb, c, co, ldc):
    """Computes C[m, n] += A[m, k] @ (B[k, n] + 128), row-major, in a compiled kernel. a, b: int8; c: int32.

    The arrays are taken as flat memory. ao, bo, co: the offsets of the first elements. lda, ldb, ldc: the distance between rows.
    """
    one = ir.Constant(n.type, 1)
    values = [m, n, k, (3, a, ao, (m, lda), (k, one)), lda, (6, b, bo, (k, ldb), (n, one)), ldb]
    call_symbol(context, builder, signature, "nbkeras_igemm", [*values, (9, c, co, (m, ldc), (n, one)), ldc])


# -------------------- windows --------------------


def _emit_windows(v, quads, a, rows, taps, b, start, factors, step, bias, minimum, y, ldy, width, high, groups):
    """Emits Y[high, width] in registers, see `multiply_windows`. The width ends in the last of `groups` groups of columns.

    width: None if all columns of these groups are in use.
    """
    builder = v.builder
    number = functools.partial(ir.Constant, v.long)
    real = ir.VectorType(step.type, v.lanes)
    step, minimum = (llvm.spread(builder, each, v.lanes) for each in (step, minimum))
    parts = COLUMNS // v.lanes  # vectors in a group
    vectors = range(groups * parts)
    cells = [(i, j) for i in range(high) for j in vectors]
    a_rows = [builder.gep(a, [builder.load(builder.gep(rows, [number(i)]))]) for i in range(high)]
    group = builder.mul(quads, number(4 * COLUMNS))
    columns = [
        builder.gep(b, [builder.add(builder.mul(number(j // parts), group), number(j % parts * _BYTES))])
        for j in vectors
    ]

    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    p = builder.phi(v.long)
    before = {cell: builder.phi(v.words) for cell in cells}
    tap, at = builder.load(builder.gep(taps, [p])), builder.mul(p, number(4 * COLUMNS))
    values = [builder.bitcast(builder.gep(column, [at]), v.words.as_pointer()) for column in columns]
    values, after = [builder.load(value, align=4) for value in values], {}
    for i in range(high):
        # because LLVM would load the numbers of all rows first, and run out of registers
        builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
        four = builder.bitcast(builder.gep(a_rows[i], [tap]), v.word.as_pointer())
        four = llvm.spread(builder, builder.load(four, align=1), v.lanes)
        for j in vectors:
            after[i, j] = v.dot(before[i, j], four, values[j])
    following = builder.add(p, number(1))
    builder.cbranch(builder.icmp_signed("<", following, quads), loop, end)
    p.add_incoming(number(0), entry)
    p.add_incoming(following, loop)
    for cell in cells:
        before[cell].add_incoming(v.zero, entry)
        before[cell].add_incoming(after[cell], loop)

    builder.position_at_end(end)
    for j in vectors:
        inside = v.below(j * v.lanes, v.lanes, width)
        starts, scale, summand = (
            llvm.load(builder, builder.gep(each, [number(j * v.lanes)]), kind, inside)
            for each, kind in ((start, v.words), (factors, real), (bias, real))
        )
        scale = builder.fmul(scale, step)
        for i in range(high):
            value = builder.sitofp(builder.add(after[i, j], starts), real)
            value = builder.fadd(builder.fmul(value, scale), summand)
            value = builder.select(builder.fcmp_ordered("<", value, minimum), minimum, value)  # NaN stays NaN
            row = builder.gep(y, [builder.add(builder.mul(number(i), ldy), number(j * v.lanes))])
            llvm.store(builder, value, row, inside)


def _types_of_windows(rows, maximum, quads, a, offsets, taps, b, start, factors, step, bias, minimum, y, ldy, width):
    whole = types.int64
    return types.void(rows, maximum, whole, a, offsets, taps, b, start, factors, step, bias, minimum, y, whole, whole)


@emitted(_types_of_windows, prefer_literal=True)
def _windows(
    context,
    builder,
    signature,
    rows,
    maximum,
    quads,
    a,
    offsets,
    taps,
    b,
    start,
    factors,
    step,
    bias,
    minimum,
    y,
    ldy,
    width,
):
    """Emits a block. rows, maximum: literals; `maximum` is the limit of groups of columns."""
    high, groups = (each.literal_value for each in signature.args[:2])
    operands = quads, a, offsets, taps, b, start, factors, step, bias, minimum, y, ldy
    for count in range(1, groups + 1):
        with builder.if_then(is_between(builder, width, COLUMNS * (count - 1), COLUMNS * count)):
            emit = functools.partial(_emit_windows, high=high, groups=count)
            _whole_or_part(builder, width, COLUMNS * count, emit, operands)


def _window_product(m, n, quads, a, rows, taps, b, start, factors, step, bias, minimum, y, ldy):
    groups = (n + COLUMNS - 1) // COLUMNS
    parts = (groups + _GROUPS - 1) // _GROUPS
    columns = (groups + parts - 1) // parts * COLUMNS
    for j in range(0, n, columns):
        width, b_j, y_j, i = min(columns, n - j), _at(b, j * 4 * quads), _at(y, j), 0
        starts, scale, summand = _at(start, j), _at(factors, j), _at(bias, j)
        while i < m:
            row, y_i = _at(rows, i), _at(y_j, i * ldy)
            if m - i >= _ROWS:
                _windows(
                    _ROWS, _GROUPS, quads, a, row, taps, b_j, starts, scale, step, summand, minimum, y_i, ldy, width
                )
                i += _ROWS
            elif m - i >= 2:
                _windows(2, _GROUPS, quads, a, row, taps, b_j, starts, scale, step, summand, minimum, y_i, ldy, width)
                i += 2
            else:
                _windows(1, _GROUPS, quads, a, row, taps, b_j, starts, scale, step, summand, minimum, y_i, ldy, width)
                i += 1


_SYMBOLS = {"float32": "nbkeras_sigemm_at", "float64": "nbkeras_digemm_at"}
for _real, _symbol in _SYMBOLS.items():
    _offsets = "int64*, int64*, int8*, int32*"
    _numbers = f"int64, int64, int64, int8*, {_offsets}, {_real}*, {_real}, {_real}*, {_real}, {_real}*, int64"
    symbol(_symbol, _window_product, f"void({_numbers})")


def _types_of_multiply(m, n, quads, a, ao, tables, ro, ko, b, bo, start, factors, step, bias, minimum, j, y, to, ldy):
    if str(y.dtype) not in _SYMBOLS:
        return None
    whole = types.int64
    two = whole, whole
    given = start, factors, y.dtype, bias, y.dtype
    return types.void(*two, whole, a, whole, tables, *two, b, whole, *given, whole, y, *two)


@emitted(_types_of_multiply)
def multiply_windows(
    context, builder, signature,
    m, n, quads, a, ao, tables, ro, ko, b, bo, start, factors, step, bias, minimum, j, y, to, ldy,
):  # fmt: skip
    """Computes Y[m, n] = max(minimum, (A @ B + start[j:]) * (factors[j:] * step) + bias[j:]), row by row, in a compiled kernel.

    a: uint8, taken as flat memory: A[i, 4 p + q] = a[ao + tables[ro + i] + tables[ko + p] + q], for `quads` p.
    b: int8: B[4 p + q, j] = b[bo + (j // 16 * quads + p) * 64 + j % 16 * 4 + q].
    start: int32. factors, bias, y: arrays of float32 or of float64, step, minimum: numbers of that dtype.
    """
    whole, table = functools.partial(ir.Constant, n.type), signature.args[5]
    one = whole(1)
    rows, taps = (m, (table, tables, ro)), (quads, (table, tables, ko))
    groups = builder.sdiv(builder.add(n, whole(COLUMNS - 1)), whole(COLUMNS))
    bytes_ = builder.mul(builder.mul(groups, quads), whole(4 * COLUMNS))
    values = [m, n, quads, (3, a, ao, rows, taps, (whole(4), one))]
    values += [(5, tables, ro, (m, one)), (5, tables, ko, (quads, one)), (8, b, bo, (bytes_, one))]
    values += [(10, start, j, (n, one)), (11, factors, j, (n, one)), step]
    values += [(13, bias, j, (n, one)), minimum, (16, y, to, (m, ldy), (n, one)), ldy]
    call_symbol(context, builder, signature, _SYMBOLS[str(signature.args[16].dtype)], values)
