"""Rows of bfloat16 weights, as uint16 of their bits, times numbers, added to a row of float32 sums.

A product with one row waits for memory. Processors fetch rows of a wide matrix late by themselves, because each row starts in
another page. So the next rows are prefetched, little by little: 4096 x 4096 takes 0.7 ms instead of 1.0 (Zen 5).
"""

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.flat_access import start_of
from nbkeras.kernels.loops.gemm import LINE, Vectors
from nbkeras.kernels.runtime.lazy import arrayobj, cgutils, emitted, ir, types
from nbkeras.kernels.runtime.processor import has

ROWS = 8  # rows that are added together; with 4, or with longer chunks, it takes 1.1 to 1.6 times as long
CHUNK = 64  # columns after which the next rows are prefetched: two lines of each
_PARTS = 2 if has("avx512f") else 1  # vectors of 32 bytes: with 64, it takes 1.3 times as long


@emitted(lambda sums: types.int64(sums))
def pair(context, builder, signature, sums):
    """Returns the columns that `add_rows` adds at a time: two vectors."""
    return ir.Constant(ir.IntType(64), 2 * Vectors(builder, signature.args[0], _PARTS).lanes)


@emitted(lambda w, at, step: types.void(w, types.int64, types.int64))
def prefetch_rows(context, builder, signature, w, at, step):
    """Fetches CHUNK numbers of ROWS rows, w[at + i * step], to the second-level cache. They may be outside of w."""
    memory = arrayobj.make_array(signature.args[0])(context, builder, w)
    for i in range(ROWS):
        row = builder.add(at, builder.mul(step, ir.Constant(step.type, i)))
        for j in range(0, CHUNK, LINE // 2):
            llvm.prefetch(builder, builder.gep(memory.data, [builder.add(row, ir.Constant(row.type, j))]), 2)


def _types_of_rows(x, p, w, at, step, sums, to, count):
    number = types.int64
    return types.void(x, number, w, number, number, sums, number, number)


@emitted(_types_of_rows)
def add_rows(context, builder, signature, x, p, w, at, step, sums, to, count):
    """Adds x[p + i] * w[at + i * step + j] for i < ROWS to sums[to + j], for j < count, a multiple of `pair`. Arrays are flat.

    A vector of 32-bit words holds even columns in the lower halves and odd ones in the upper halves. So one load, a shift and a
    mask give two vectors of float32. Their sums are put in order once for all rows.
    """
    v, kinds = Vectors(builder, signature.args[5], _PARTS), signature.args
    words = ir.VectorType(ir.IntType(32), v.lanes)
    up, mask = ir.Constant(words, [16] * v.lanes), ir.Constant(words, [0xFFFF0000] * v.lanes)
    zero, one, high, width = (ir.Constant(count.type, i) for i in (0, 1, ROWS, 2 * v.lanes))
    numbers = start_of(context, builder, kinds[0], x, p, (high, one))
    first = start_of(context, builder, kinds[2], w, at, (high, step), (count, one))
    target = start_of(context, builder, kinds[5], sums, to, (count, one))
    each = [ir.Constant(count.type, i) for i in range(ROWS)]
    rows = [builder.gep(first, [builder.mul(step, i)]) for i in each]
    factors = [v.all(builder.load(builder.gep(numbers, [i]))) for i in each]
    order = [half * v.lanes + i for i in range(v.lanes) for half in (0, 1)]
    with cgutils.for_range_slice(builder, zero, count, width, inc=True) as (j, _):
        even = odd = v.zero
        for row, factor in zip(rows, factors, strict=True):
            pairs = builder.load(builder.bitcast(builder.gep(row, [j]), words.as_pointer()), align=2)
            even = v.multiply_add(factor, builder.bitcast(builder.shl(pairs, up), v.type), even)
            odd = v.multiply_add(factor, builder.bitcast(builder.and_(pairs, mask), v.type), odd)
        for half in (0, 1):
            place = v.vector_at(builder.gep(target, [j]), half * v.lanes)
            ordered = v.shuffle(even, odd, order[half * v.lanes :][: v.lanes])
            v.store(builder.fadd(v.load(place), ordered), place)
