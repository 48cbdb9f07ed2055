"""Rows of weights of 4 bits times numbers, added to float32 sums, for products with one row.

A word of 4 bytes has 8 integers side by side. The loop moves each one to the highest bits of the fraction of a float whose
exponent is 0: so the integer l, from -8 to 7, becomes the float 1 + (l + 8) / 16 = 1.5 + l / 16 without a conversion.
"""

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.flat_access import start_of
from nbkeras.kernels.loops.gemm import Vectors
from nbkeras.kernels.runtime.lazy import emitted, ir, types

ROWS = 8  # rows that `add_rows` adds together
WORD = 8  # the integers in a word, with 4 bits each
OFFSET, UNIT = 1.5, 16  # the integer l becomes OFFSET + l / UNIT
_TOP = 19  # the bits 19 to 22 are the highest of the fraction of a float32
_SHIFTS = [_TOP - 4 * q for q in range(WORD)]  # by how much an integer moves to the left
_MASK, _FLIPPED = (
    15 << _TOP,
    127 << 23 ^ 8 << _TOP,
)  # the integer's bits; the bits that change: exponent 0, and the sign


def _types(x, p, w, at, step, sums, words):
    number = types.int64
    return types.void(x, number, w, number, number, sums, number)


def _adder(count):
    """Returns a function for kernels that adds `count` rows."""

    @emitted(_types)
    def add(context, builder, signature, x, p, w, at, step, sums, words):
        """Adds x[p + i] * (OFFSET + l / UNIT) for i < count to sums[q * words + t], l: integer q of word t, for t < words.

        The words of row i begin at byte at + i * step. Arrays are flat. It prefetches the rows after them.
        """
        kinds, number = signature.args, words.type
        v = Vectors(builder, kinds[5])
        lanes = ir.VectorType(ir.IntType(32), v.lanes)
        mask, flipped = (ir.Constant(lanes, [bits] * v.lanes) for bits in (_MASK, _FLIPPED))
        zero, one, four, eight, high = (ir.Constant(number, i) for i in (0, 1, 4, WORD, count))
        numbers = start_of(context, builder, kinds[0], x, p, (high, one))
        first = start_of(context, builder, kinds[2], w, at, (high, step), (builder.mul(words, four), one))
        target = start_of(context, builder, kinds[5], sums, zero, (builder.mul(words, eight), one))
        each = [ir.Constant(number, i) for i in range(count)]
        rows = [builder.gep(first, [builder.mul(step, i)]) for i in each]
        factors = [v.all(builder.load(builder.gep(numbers, [i]))) for i in each]
        ahead = builder.mul(step, high)

        def add_words(t, present=None):
            found = [v.zero] * WORD
            for row, factor in zip(rows, factors, strict=True):
                place = builder.gep(row, [builder.mul(t, four)])
                llvm.prefetch(builder, builder.gep(place, [ahead]), 2)
                word = llvm.load(builder, place, lanes, present, align=1)
                for q, left in enumerate(_SHIFTS):
                    distance = ir.Constant(lanes, [abs(left)] * v.lanes)
                    moved = builder.shl(word, distance) if left > 0 else builder.lshr(word, distance)
                    bits = builder.xor(builder.and_(moved, mask), flipped)
                    found[q] = v.multiply_add(factor, builder.bitcast(bits, v.type), found[q])
            for q in range(WORD):
                place = builder.gep(target, [builder.add(t, builder.mul(words, ir.Constant(number, q)))])
                v.store(builder.fadd(v.load(place, present), found[q]), place, present)

        with llvm.counting(builder, zero, words, v.lanes) as t:
            add_words(t)
        with builder.if_then(builder.icmp_signed("<", t, words)):
            add_words(t, v.below(0, builder.sub(words, t)))

    return add


add_rows, add_row = _adder(ROWS), _adder(1)
