"""A block of a product of bfloat16 matrices, summed in float32, by the instruction for products of pairs.

A word of 32 bits holds two neighbouring numbers of a sum, the first one in its lower half. The instruction multiplies the pairs
of two vectors of words and adds both products. Without it (`HAS_PAIR_PRODUCTS`), two float32 instructions do the same.
"""

import functools

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.flat_access import start_of
from nbkeras.kernels.loops.gemm import Vectors, _emit_end, is_between
from nbkeras.kernels.runtime.lazy import emitted, ir, types
from nbkeras.kernels.runtime.processor import has

HAS_PAIR_PRODUCTS = has("avx512bf16")
COLUMNS = 48  # of a panel of B: on any processor, because a recorded program may run on another one
# rows and columns of a block of C, which stays in registers
HIGH, WIDE = (8, 48) if HAS_PAIR_PRODUCTS else (8, 32) if has("avx512f") else (4, 16)


@functools.cache
def _bfloat():
    """Returns LLVM's type of bfloat16, which llvmlite lacks."""

    class BFloat(ir.Type):
        def _to_string(self):
            return "bfloat"

        def __eq__(self, other):
            return isinstance(other, BFloat)

        def __hash__(self):
            return hash(BFloat)

    return BFloat()


def _dot(v, total, x, y):
    """Returns total + the sums of two products of pairs."""
    builder, words = v.builder, x.type
    if HAS_PAIR_PRODUCTS:
        kind = ir.VectorType(_bfloat(), 2 * v.lanes)
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return llvm.call(builder, name, v.type, [total, builder.bitcast(x, kind), builder.bitcast(y, kind)])
    up, mask = ir.Constant(words, [16] * v.lanes), ir.Constant(words, [0xFFFF0000] * v.lanes)
    for change, by in ((builder.shl, up), (builder.and_, mask)):
        total = v.multiply_add(*(builder.bitcast(change(each, by), v.type) for each in (x, y)), total)
    return total


def _emit_block(v, wide, count, rows, a, row_step, k_step, b, beta, c, ldc, bias, ends, width):
    builder = v.builder
    whole, words = count.type, ir.VectorType(ir.IntType(32), v.lanes)
    number = [ir.Constant(whole, i) for i in range(HIGH)]
    last = builder.sub(rows, number[1])
    given = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in number]
    a_rows = [builder.gep(a, [builder.mul(i, row_step)]) for i in given]
    c_rows = [builder.gep(c, [builder.mul(i, ldc)]) for i in given]
    cells = [(i, j) for i in range(HIGH) for j in range(wide)]
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    p = builder.phi(whole)
    sums = {cell: builder.phi(v.type) for cell in cells}
    row, at = builder.gep(b, [builder.mul(p, ir.Constant(whole, COLUMNS))]), builder.mul(p, k_step)
    places = [builder.gep(row, [ir.Constant(whole, j * v.lanes)]) for j in range(wide)]
    values = [builder.load(builder.bitcast(place, words.as_pointer()), align=4) for place in places]
    after = {}
    for i, a_row in enumerate(a_rows):
        factor = v.all(builder.load(builder.gep(a_row, [at])))
        for j in range(wide):
            after[i, j] = _dot(v, sums[i, j], factor, values[j])
    following = builder.add(p, number[1])
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    for phi, begin, step in [(p, number[0], following), *((sums[cell], v.zero, after[cell]) for cell in cells)]:
        phi.add_incoming(begin, entry)
        phi.add_incoming(step, loop)
    builder.position_at_end(end)
    masks = [None] * (wide - 1) + [v.below((wide - 1) * v.lanes, width)]
    pointers = {(i, j): v.vector_at(c_rows[i], j * v.lanes) for i, j in cells}
    _emit_end(v, after, pointers, masks, beta, bias, ends)


def _types_of_block(count, rows, a, ao, row_step, k_step, b, bo, beta, c, co, ldc, bias, at, ends, width):
    n = types.int64
    return types.void(n, n, a, n, n, n, b, n, beta, c, n, n, bias, n, n, n)


@emitted(_types_of_block)
def multiply_block(
    context, builder, signature, count, rows, a, ao, row_step, k_step, b, bo, beta, c, co, ldc, bias, at, ends, width
):
    """Computes C[rows, width] = A[rows, count] @ B[count, width] + beta * C for words of pairs; at most HIGH rows, WIDE columns.

    Arrays are flat. A[i, p] = a[ao + i * row_step + p * k_step]; rows of B have COLUMNS words. bias, at, ends: see `gemm_ended`.
    """
    builder.function.attributes.add("noinline")
    v, kinds = Vectors(builder, signature.args[9]), signature.args
    one, all_ = ir.Constant(count.type, 1), ir.Constant(count.type, COLUMNS)
    first = start_of(context, builder, kinds[2], a, ao, (rows, row_step), (count, k_step))
    second = start_of(context, builder, kinds[6], b, bo, (count, all_), (width, one))
    result = start_of(context, builder, kinds[9], c, co, (rows, ldc), (width, one))
    summand = start_of(context, builder, kinds[12], bias, at, (builder.mul(builder.and_(ends, one), width), one))
    for wide in range(1, WIDE // v.lanes + 1):
        with builder.if_then(is_between(builder, width, (wide - 1) * v.lanes, wide * v.lanes)):
            _emit_block(
                *(v, wide, count, rows, first, row_step, k_step, second, beta, result, ldc, summand, ends, width)
            )


@emitted(lambda b: types.int64(b))
def lanes(context, builder, signature, b):
    """Returns the words of a vector."""
    return ir.Constant(ir.IntType(64), Vectors(builder, signature.args[0]).lanes)


@emitted(lambda b, at, step, out, to: types.void(b, types.int64, types.int64, out, types.int64))
def pack_square(context, builder, signature, b, at, step, out, to):
    """Copies a square of B, stored transposed: out[to + p * COLUMNS + j] = the pair b[at + j * step + 2 * p:]; p, j < lanes."""
    v, kinds = Vectors(builder, signature.args[0]), signature.args
    count, one = ir.Constant(at.type, v.lanes), ir.Constant(at.type, 1)
    words = ir.VectorType(ir.IntType(32), v.lanes)
    first = start_of(context, builder, kinds[0], b, at, (count, step), (ir.Constant(at.type, 2 * v.lanes), one))
    target = start_of(context, builder, kinds[3], out, to, (count, ir.Constant(at.type, COLUMNS)), (count, one))
    half, mask = ir.Constant(words, [16] * v.lanes), ir.Constant(words, [0xFFFF0000] * v.lanes)
    rows = []
    for i in range(v.lanes):
        row = builder.gep(first, [builder.mul(step, ir.Constant(at.type, i))])
        x, y = (builder.bitcast(v.load(v.vector_at(row, offset)), words) for offset in (0, v.lanes))
        even, odd = (v.shuffle(x, y, list(range(start, 2 * v.lanes, 2))) for start in (0, 1))
        rows.append(builder.or_(builder.lshr(even, half), builder.and_(odd, mask)))
    v.transpose(rows)
    for i, row in enumerate(rows):
        place = builder.gep(target, [ir.Constant(at.type, i * COLUMNS)])
        builder.store(row, builder.bitcast(place, words.as_pointer()), align=4)
