"""Matrix products inside compiled kernels: `gemm`, row-major, any transpose, leading dimension, offset and beta.

The inner loop is written in vectors: a block of C (8 rows by 3 vectors with AVX-512, 4 by 3 with fewer registers) stays
in registers while one row of B and one column of A pass, with no copy of A and, for products of few rows, none of B:
128 x 784 x 512 runs at 200 GF/s a core where OpenBLAS makes 159, 32 x 784 x 512 at 196 against 119 (Granite Rapids, one
core). Around it panels of B are kept in the first-level cache (after Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", 2008).

A product runs on one thread: kernels call `gemm` on the pieces of their shares. The loops are compiled
once for each dtype, when a kernel first needs them, and linked by *symbol name*, so callers stay cacheable and compile fast.
A kernel that calls `gemm` is decorated with `cache.compiled`, whose cache makes the loops before it loads such a kernel.
"""

import functools

from nbkeras.kernels.loops.flat_access import start_of
from nbkeras.kernels.runtime.code import Function, address, symbol
from nbkeras.kernels.runtime.lazy import binding, cgutils, intrinsic, ir, types
from nbkeras.kernels.runtime.processor import has

_DEPTH = 256  # rows of a panel of B: with 3 vectors of columns 48 KB, and the part of A that meets it stays in L2
_ROWS = 256  # rows of A, at most, that a panel serves before the next one comes
# rows of A from which a panel is worth copying: its rows then lie side by side (171 -> 188 GF/s at 1024^3)
_PACK_ROWS = 256
_VECTORS = 3
_AHEAD = 8  # rows of B that are fetched ahead: the next rows of a wide matrix lie in other pages
BIAS, RECTIFIED = 1, 2  # what a product ends with
_LONG = 8  # vectors of a single row, whose sums need more registers to hide the adder's latency
_inner = functools.partial(Function, fastmath=False)


_WIDE = has("avx512f")
_BYTES = 64 if _WIDE else 32 if has("avx") else 16  # of a vector
# rows of C in registers: 32 vector registers hold 8 by 3, 16 hold 4 by 3
_BLOCK = 8 if _WIDE or has("neon") else 4
_HALF = _BLOCK // 2


class Vectors:
    """Emits vector code for one float type at the current position of `builder`. parts: 2 for vectors of half the size."""

    def __init__(self, builder, pointer_type, parts=1):
        self.builder = builder
        self.real = ir.FloatType() if pointer_type.dtype == types.float32 else ir.DoubleType()
        bits = pointer_type.dtype.bitwidth
        self.lanes = _BYTES * 8 // bits // parts
        self.type = ir.VectorType(self.real, self.lanes)
        self.zero = ir.Constant(self.type, None)
        self._align = bits // 8
        self._suffix = f"v{self.lanes}f{bits}"
        self._mask_type = ir.VectorType(ir.IntType(1), self.lanes)

    def _intrinsic(self, name, result, arguments):
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)

    def vector_at(self, pointer, offset):
        """The vector at pointer + offset."""
        offset = ir.Constant(ir.IntType(64), offset) if isinstance(offset, int) else offset
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def all(self, value):
        """A vector with one value in every lane."""
        kind = ir.VectorType(value.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, ir.Constant(kind, ir.Undefined), [0] * self.lanes)

    def shuffle(self, x, y, lanes):
        indices = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), lanes)
        return self.builder.shuffle_vector(x, y, indices)

    def below(self, first, count):
        """A mask of the lanes i with first + i < count."""
        numbers = ir.Constant(ir.VectorType(ir.IntType(64), self.lanes), [first + i for i in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.all(count))

    def multiply_add(self, x, y, z):
        function = self._intrinsic(f"llvm.fmuladd.{self._suffix}", self.type, [self.type] * 3)
        return self.builder.call(function, [x, y, z])

    def load(self, pointer, mask=None):
        if mask is None:
            return self.builder.load(pointer, align=self._align)
        arguments = [pointer.type, ir.IntType(32), self._mask_type, self.type]
        function = self._intrinsic(f"llvm.masked.load.{self._suffix}.p0", self.type, arguments)
        return self.builder.call(function, [pointer, ir.Constant(ir.IntType(32), self._align), mask, self.zero])

    def prefetch(self, pointer):
        """Prefetch the vector at a pointer, which may lie outside of the array, to the cache."""
        number = ir.IntType(32)
        bytes_ = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        function = self._intrinsic("llvm.prefetch.p0", ir.VoidType(), [bytes_.type, number, number, number])
        self.builder.call(function, [bytes_, *(ir.Constant(number, n) for n in (0, 3, 1))])

    def store(self, value, pointer, mask=None):
        if mask is None:
            self.builder.store(value, pointer, align=self._align)
            return
        arguments = [self.type, pointer.type, ir.IntType(32), self._mask_type]
        function = self._intrinsic(f"llvm.masked.store.{self._suffix}.p0", ir.VoidType(), arguments)
        self.builder.call(function, [value, pointer, ir.Constant(ir.IntType(32), self._align), mask])


def _offset(builder, number, step):
    """The distance of a row or a column of A from the first one: equal steps, or in a table."""
    if isinstance(step.type, ir.PointerType):
        return builder.load(builder.gep(step, [number]))
    return builder.mul(number, step)


def _emit_block(v, own, high, wide, left, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends, width):
    """C[high, width] = A[high, k] @ B[k, width] + beta * C, all in registers; the columns end in the last of `wide` vectors.

    own: each column of C has a column of A of its own, the next number; C[i, j] is the sum over p of A[i, p][j] * B[p, j].
    left, ends: see `_loops`.
    """
    builder, is_table = v.builder, isinstance(k_step.type, ir.PointerType)
    cells = [(i, j) for i in range(high) for j in range(wide)]
    masks = [None] * (wide - 1) + [v.below((wide - 1) * v.lanes, width)]
    numbers = [ir.Constant(ir.IntType(64), i) for i in range(high)]
    last = builder.sub(left, ir.Constant(ir.IntType(64), 1))
    numbers = [builder.select(builder.icmp_signed("<", number, last), number, last) for number in numbers]
    a_rows = [builder.gep(a, [_offset(builder, number, row_step)]) for number in numbers]
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed(">", k, ir.Constant(ir.IntType(64), 0)), loop, end)

    builder.position_at_end(loop)
    p = builder.phi(ir.IntType(64))
    before = {cell: builder.phi(v.type) for cell in cells}
    b_row, at = builder.gep(b, [builder.mul(p, ldb)]), _offset(builder, p, k_step)
    b_values = [v.load(v.vector_at(b_row, j * v.lanes), masks[j]) for j in range(wide)]
    ahead = builder.gep(b_row, [builder.mul(ldb, ir.Constant(ir.IntType(64), _AHEAD))])
    for j in range(wide):
        v.prefetch(v.vector_at(ahead, j * v.lanes))
    after = {}
    for i in range(high):
        if is_table:  # LLVM would load the numbers of all rows first, and run out of registers
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
        a_at = builder.gep(a_rows[i], [at])
        a_value = None if own else v.all(builder.load(a_at))
        for j in range(wide):
            factor = v.load(v.vector_at(a_at, j * v.lanes), masks[j]) if own else a_value
            after[i, j] = v.multiply_add(factor, b_values[j], before[i, j])
    following = builder.add(p, ir.Constant(ir.IntType(64), 1))
    builder.cbranch(builder.icmp_signed("<", following, k), loop, end)
    p.add_incoming(ir.Constant(ir.IntType(64), 0), entry)
    p.add_incoming(following, loop)
    for cell in cells:
        before[cell].add_incoming(v.zero, entry)
        before[cell].add_incoming(after[cell], loop)

    builder.position_at_end(end)
    sums = {}
    for cell in cells:
        sums[cell] = builder.phi(v.type)
        sums[cell].add_incoming(v.zero, entry)
        sums[cell].add_incoming(after[cell], loop)
    c_rows = [builder.gep(c, [builder.mul(number, ldc)]) for number in numbers]
    pointers = {(i, j): v.vector_at(c_rows[i], j * v.lanes) for i, j in cells}

    def store(results):
        with builder.if_else(builder.icmp_signed("==", ends, ir.Constant(ir.IntType(64), 0))) as (as_it_is, ended):
            with as_it_is:
                for cell in cells:
                    v.store(results[cell], pointers[cell], masks[cell[1]])
            with ended:
                _emit_ends(v, wide, cells, results, pointers, masks, bias, ends)

    with builder.if_else(builder.fcmp_ordered("==", beta, ir.Constant(v.real, 0.0))) as (new, added):
        with new:
            store(sums)
        with added:
            factor = v.all(beta)
            old = {(i, j): v.load(pointers[i, j], masks[j]) for i, j in cells}
            store({cell: v.multiply_add(factor, old[cell], sums[cell]) for cell in cells})


def _emit_ends(v, wide, cells, results, pointers, masks, bias, ends):
    """Store results plus the bias, or their positive part."""
    builder, number = v.builder, ir.IntType(64)

    def has(bit):
        return builder.icmp_signed("!=", builder.and_(ends, ir.Constant(number, bit)), ir.Constant(number, 0))

    before = builder.block
    with builder.if_then(has(BIAS)):
        given, inside = [v.load(v.vector_at(bias, j * v.lanes), masks[j]) for j in range(wide)], builder.block
    summands = [builder.phi(v.type) for _ in range(wide)]
    for summand, loaded in zip(summands, given, strict=True):
        summand.add_incoming(v.zero, before)
        summand.add_incoming(loaded, inside)
    least = builder.select(has(RECTIFIED), ir.Constant(v.real, 0.0), ir.Constant(v.real, float("-inf")))
    least = v.all(least)
    for i, j in cells:
        value = builder.fadd(results[i, j], summands[j])
        value = builder.select(builder.fcmp_ordered("<", value, least), least, value)  # NaN stays NaN
        v.store(value, pointers[i, j], masks[j])


@intrinsic
def _transpose(typing, source, from_row, target, to_row):
    """target[j * to_row + i] = source[i * from_row + j] for a square of one vector's lanes, in log2(lanes) exchanges."""
    signature = types.void(source, types.int64, target, types.int64)

    def generate(context, builder, signature, args):
        source, from_row, target, to_row = args
        v = Vectors(builder, signature.args[0])
        numbers = [ir.Constant(ir.IntType(64), i) for i in range(v.lanes)]
        rows = [v.load(v.vector_at(source, builder.mul(i, from_row))) for i in numbers]
        distance = 1
        while distance < v.lanes:
            low = [v.lanes + e - distance if e & distance else e for e in range(v.lanes)]
            high = [v.lanes + e if e & distance else e + distance for e in range(v.lanes)]
            for i in range(v.lanes):
                if not i & distance:
                    x, y = rows[i], rows[i + distance]
                    rows[i], rows[i + distance] = v.shuffle(x, y, low), v.shuffle(x, y, high)
            distance *= 2
        for i, row in zip(numbers, rows, strict=True):
            v.store(row, v.vector_at(target, builder.mul(i, to_row)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _lanes(typing, pointer):
    """The number of numbers of the pointer's type in a vector."""
    count = _BYTES * 8 // pointer.dtype.bitwidth
    return types.int64(pointer), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), count)


@intrinsic
def _panel(typing, pointer):
    """Memory on the stack for a panel of B."""
    size = _DEPTH * _VECTORS * (_BYTES * 8 // pointer.dtype.bitwidth)

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():
            memory = builder.alloca(args[0].type.pointee, size)
        memory.align = 64
        return memory

    return pointer(pointer), generate


@intrinsic
def _at(typing, pointer, offset):
    """pointer + offset."""
    return pointer(pointer, types.int64), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def _moved(typing, pointer, number, step):
    """The pointer to a row or column of A; a table is moved instead: see `_rest`."""

    def generate(context, builder, signature, args):
        if isinstance(step, types.CPointer):
            return args[0]
        return builder.gep(args[0], [builder.mul(args[1], args[2])])

    return pointer(pointer, types.int64, step), generate


@intrinsic
def _rest(typing, step, number):
    """The step, or what is left of its table, from a row or column of A on."""

    def generate(context, builder, signature, args):
        return builder.gep(args[0], [args[1]]) if isinstance(step, types.CPointer) else args[0]

    return step(step, types.int64), generate


@intrinsic
def _move(typing, source, i, target, j):
    """target[j] = source[i]."""

    def generate(context, builder, signature, args):
        source, i, target, j = args
        builder.store(builder.load(builder.gep(source, [i])), builder.gep(target, [j]))
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), generate


@intrinsic
def _one_like(typing, value):
    """1 in the value's type; Python's 1.0 would be a float64."""
    return value(value), lambda context, builder, signature, args: ir.Constant(args[0].type, 1.0)


@_inner
def _fill_panel(tb, depth, width, b, ldb, panel, row):
    """panel[p * row + j] = B[p, j]: a part of B (or of its stored transpose) with its rows side by side."""
    lanes = _lanes(b)
    for j in range(0, width, lanes):
        p = 0
        if tb != 0 and j + lanes <= width:
            while p + lanes <= depth:
                _transpose(_at(b, j * ldb + p), ldb, _at(panel, p * row + j), row)
                p += lanes
        for q in range(p, depth):
            for i in range(j, min(width, j + lanes)):
                _move(b, i * ldb + q if tb != 0 else q * ldb + i, panel, q * row + i)


@_inner
def _even(size, most, unit):
    """The size of equal parts, at most `most` each and a multiple of `unit`."""
    parts = max(1, (size + most - 1) // most)
    return ((size + parts - 1) // parts + unit - 1) // unit * unit


def _loops(own):
    """The function of a product; at its end the bias is added (ends & BIAS), and the positive part taken (ends & RECTIFIED).

    own: see `_emit_block`.
    """

    @intrinsic(prefer_literal=True)
    def block(typing, rows, most, left, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends, width):
        """C[rows, width] = A[rows, k] @ B[k, width] + beta * C; a[i * row_step + p * k_step] is A[i, p].

        row_step, k_step: numbers, or pointers to tables with the products. rows: a literal. left: how many rows there are; if
        they are fewer, the last one is computed several times. most: how many vectors a width has at most, a literal: the code
        for each number of them is compiled.
        """
        high, most_vectors = rows.literal_value, most.literal_value
        signature = types.void(
            rows,
            most,
            types.int64,
            types.int64,
            a,
            row_step,
            k_step,
            b,
            types.int64,
            beta,
            c,
            types.int64,
            b,
            types.int64,
            types.int64,
        )

        def generate(context, builder, signature, args):
            width = args[-1]
            v, least = Vectors(builder, signature.args[4]), 0
            if _WIDE:  # some processors do twice as many operations of half the size
                half, least = Vectors(builder, signature.args[4], 2), v.lanes // 2
                with builder.if_then(builder.icmp_signed("<=", width, ir.Constant(ir.IntType(64), least))):
                    _emit_block(half, own, high, 1, *args[2:])
            for wide in range(1, most_vectors + 1):
                first = least if wide == 1 else (wide - 1) * v.lanes
                above = builder.icmp_signed(">", width, ir.Constant(ir.IntType(64), first))
                within = builder.icmp_signed("<=", width, ir.Constant(ir.IntType(64), wide * v.lanes))
                with builder.if_then(builder.and_(above, within)):
                    _emit_block(v, own, high, wide, *args[2:])
            return context.get_dummy_value()

        return signature, generate

    @_inner
    def strip(first, last, width, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends):
        """Rows first to last of one panel's columns of C."""
        i = first
        while i < last:
            a_i, step, c_i, left = _moved(a, i, row_step), _rest(row_step, i), _at(c, i * ldc), last - i
            if left > _HALF:  # one pass over B, even if some rows are computed twice
                block(_BLOCK, _VECTORS, left, k, a_i, step, k_step, b, ldb, beta, c_i, ldc, bias, ends, width)
                i += _BLOCK
            elif left > 1:
                block(_HALF, _VECTORS, left, k, a_i, step, k_step, b, ldb, beta, c_i, ldc, bias, ends, width)
                i += _HALF
            else:
                block(1, _VECTORS, left, k, a_i, step, k_step, b, ldb, beta, c_i, ldc, bias, ends, width)
                i += 1

    @_inner
    def panels(tb, m, n, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends):
        lanes = _lanes(b)
        if m == 1 and tb == 0 and not own:  # bound by reading B: long pieces of its rows
            for j in range(0, n, _LONG * lanes):
                width, c_j, bias_j = min(_LONG * lanes, n - j), _at(c, j), _at(bias, j)
                block(1, _LONG, 1, k, a, row_step, k_step, _at(b, j), ldb, beta, c_j, ldc, bias_j, ends, width)
            return
        panel, row = _panel(b), _VECTORS * lanes
        columns, rows, step = _even(n, row, lanes), _even(m, _ROWS, _BLOCK), max(1, _even(k, _DEPTH, 1))
        for p in range(0, max(k, 1), step):  # an empty sum is zero
            depth, factor = min(step, k - p), beta if p == 0 else _one_like(beta)
            a_at, k_rest, last_ends = _moved(a, p, k_step), _rest(k_step, p), ends if p + step >= k else 0
            for i in range(0, m, rows):
                for j in range(0, n, columns):
                    width, b_at = min(columns, n - j), _at(b, j * ldb + p if tb != 0 else p * ldb + j)
                    last, c_at, bias_at = min(m, i + rows), _at(c, j), _at(bias, j)
                    a_j, b_step = _at(a_at, j) if own else a_at, ldb
                    if tb != 0 or (m >= _PACK_ROWS and not own):
                        _fill_panel(tb, depth, width, b_at, ldb, panel, row)
                        b_at, b_step = panel, row
                    strip(
                        i,
                        last,
                        width,
                        depth,
                        a_j,
                        row_step,
                        k_rest,
                        b_at,
                        b_step,
                        factor,
                        c_at,
                        ldc,
                        bias_at,
                        last_ends,
                    )

    return panels


_panels, _own_panels = _loops(False), _loops(True)


def _product(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, bias, ends):
    row_step, k_step = (1, lda) if ta != 0 else (lda, 1)
    _panels(tb, m, n, k, a, row_step, k_step, b, ldb, beta, c, ldc, bias, ends)


def _product_own(m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends):
    _own_panels(0, m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends)


def _product_at(m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends):
    _panels(0, m, n, k, a, rows, columns, b, ldb, beta, c, ldc, bias, ends)


_SYMBOLS = {"float32": "nbkeras_sgemm", "float64": "nbkeras_dgemm"}
for _real, _name in _SYMBOLS.items():
    _ends = f"int64, {_real}, {_real}*, int64, {_real}*, int64"
    symbol(_name, _product, f"void(int64, int64, int64, int64, int64, {_real}*, int64, {_real}*, {_ends})")
    for _kind, _function in (("at", _product_at), ("own", _product_own)):
        symbol(f"{_name}_{_kind}", _function, f"void(int64, int64, int64, {_real}*, int64*, int64*, {_real}*, {_ends})")


def _call(context, builder, signature, name, values):
    """Call a symbol. A value is a number, or an array: (its position among the arguments, the array, an offset, *axes).

    axes: of the block at that offset, see `start_of`.
    """
    if not context.aot_mode:  # for a function that Numba itself compiles and loads
        binding.add_symbol(name, address(name))
    for i, value in enumerate(values):
        if isinstance(value, tuple):
            position, *block = value
            values[i] = start_of(context, builder, signature.args[position], *block)
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
    return context.get_dummy_value()


def _stored(builder, transposed, rows, columns, step):
    """The axes of a matrix as it is stored; transposed: 0 or 1."""
    is_turned = builder.icmp_signed("!=", transposed, ir.Constant(transposed.type, 0))
    counts = builder.select(is_turned, columns, rows), builder.select(is_turned, rows, columns)
    return (counts[0], step), (counts[1], ir.Constant(step.type, 1))


def _ended(builder, ends, n):
    """The axis of a bias of n numbers, which is empty if a product does not end in it."""
    one = ir.Constant(n.type, BIAS)
    return builder.mul(builder.and_(ends, one), n), one


def _are_real(*arrays):
    """Whether arguments are arrays of one dtype that products are compiled for."""
    first = arrays[0]
    return all(isinstance(a, types.Array) and a.dtype == first.dtype for a in arrays) and str(first.dtype) in _SYMBOLS


def _operands(builder, args):
    """The values of A, B and C of `gemm`, from its arguments."""
    ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc = args
    first = 5, a, ao, *_stored(builder, ta, m, k, lda)
    second = 8, b, bo, *_stored(builder, tb, k, n, ldb)
    result = 12, c, co, (m, ldc), (n, ir.Constant(n.type, 1))
    return first, lda, second, ldb, beta, result, ldc


@intrinsic
def gemm(typing, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc):
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C, row-major, in a compiled kernel.

    ta, tb: 0 or 1, whether A or B is stored transposed. a, b, c: arrays of one dtype, float32 or float64, taken as flat
    memory; ao, bo, co: offsets of the first element; lda, ldb, ldc: elements from one stored row to the next. beta: a
    number of that dtype; with 0, C is not read.
    """
    if not _are_real(a, b, c):
        return None
    number = types.int64
    signature = types.void(*(number,) * 5, a, number, number, b, number, number, a.dtype, c, number, number)

    def generate(context, builder, signature, args):
        ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc = args
        no_ends = ir.Constant(ldc.type, 0)
        values = [ta, tb, m, n, k, *_operands(builder, args), (8, b, bo, _ended(builder, no_ends, n)), no_ends]
        return _call(context, builder, signature, _SYMBOLS[str(signature.args[5].dtype)], values)

    return signature, generate


@intrinsic
def gemm_ended(typing, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    """`gemm`, then bias[at:] is added to each row if ends & BIAS, and the positive part is taken if ends & RECTIFIED."""
    if not _are_real(a, b, c, bias):
        return None
    number = types.int64
    two = number, number
    signature = types.void(*two, *two, number, a, *two, b, *two, a.dtype, c, *two, bias, *two)

    def generate(context, builder, signature, args):
        ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, at, ends = args
        values = [ta, tb, m, n, k, *_operands(builder, args[:15]), (15, bias, at, _ended(builder, ends, n)), ends]
        return _call(context, builder, signature, _SYMBOLS[str(signature.args[5].dtype)], values)

    return signature, generate


def _with_tables(kind):
    def product(typing, m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
        if not _are_real(a, b, c, bias):
            return None
        number = types.int64
        two = number, number
        signature = types.void(*two, number, a, number, tables, *two, b, *two, a.dtype, c, *two, bias, *two)

        def generate(context, builder, signature, args):
            m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends = args
            one = ir.Constant(n.type, 1)
            columns = [(n, one)] if kind == "own" else []
            table = signature.args[5]
            values = [m, n, k, (3, a, ao, (m, (table, tables, ro)), (k, (table, tables, ko)), *columns)]
            values += [(5, tables, ro, (m, one)), (5, tables, ko, (k, one)), (8, b, bo, (k, ldb), (n, one)), ldb, beta]
            values += [(12, c, co, (m, ldc), (n, one)), ldc, (15, bias, at, _ended(builder, ends, n)), ends]
            return _call(context, builder, signature, f"{_SYMBOLS[str(signature.args[3].dtype)]}_{kind}", values)

        return signature, generate

    return intrinsic(product)


# `gemm_ended` for a matrix A whose numbers lie anywhere: A[i, p] = a[ao + tables[ro + i] + tables[ko + p]], of int64
gemm_at = _with_tables("at")
# The same, but each column of C has its own A, the next number: C[i, j] = sum over p of a[... + j] * B[p, j]
gemm_own = _with_tables("own")
