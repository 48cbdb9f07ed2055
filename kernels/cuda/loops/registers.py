"""Numbers in the registers of a CUDA thread: 128-bit loads and stores, and blocks of sums of products.

A *quad* is four neighbouring numbers. A *block* is the sums of a small matrix. Both are tuples, which the compiler keeps in
registers. (A thread's local array stays in registers only if the compiler unrolls all its loops.) Offsets are into contiguous
arrays taken as flat memory and are not checked. In the simulator quads and blocks are NumPy arrays. Shared memory for quads is
allocated with `cuda.shared.array(..., alignment=16)`.
"""

import functools

import numpy as np

from nbkeras.kernels.cuda.machine import SIMULATED

if SIMULATED:

    def _address(array):
        return array.__array_interface__["data"][0] if type(array) is np.ndarray else array.address

    def _quad(array, at):
        """Returns a view of the quad. Raises ValueError if a GPU could not load it in one instruction."""
        quad = array[at : at + 4]
        if len(quad) != 4 or _address(quad) % 16:
            raise ValueError(f"no quad at {at} of an array of shape {array.shape}: misaligned, or beyond the end")
        return quad

    def load_quad(array, at):
        return _quad(array, at).copy()

    def store_quad(array, at, quad):
        _quad(array, at)[:] = quad

    def gather_quad(array, at, step):
        return np.array([array[at + i * step] for i in range(4)])

    def spread_quad(array, at, step, quad):
        for i in range(4):
            array[at + i * step] = quad[i]

    def zero_block(array, rows, columns):
        return np.zeros((4 * len(rows), 4 * len(columns)), array.dtype)

    def multiply_add(block, a, a_at, a_step, rows, b, b_at, b_step, columns, terms):
        xs, ys = _lines(a, a_at, a_step, rows, len(terms)), _lines(b, b_at, b_step, columns, len(terms))
        for x, y in zip(xs, ys, strict=True):
            block = block + x[:, None] * y
        return block

    def _lines(array, at, step, quads, count):
        """Returns for each i < count the quads at the offsets `quads` from at + i * step, as a row."""
        if type(array) is np.ndarray:  # not an array that is checked
            at = int(at)  # an address does not fit into an int32
            numbers, first, last, is_aligned = _pattern(step, quads, count, array.itemsize)
            is_inside = -first <= at < len(array) - last
            if is_aligned and is_inside and not (_address(array) + at * array.itemsize) % 16:
                return array[at + numbers]
        return [np.concatenate([load_quad(array, at + i * step + quad) for quad in quads]) for i in range(count)]

    @functools.lru_cache(1024)
    def _pattern(step, quads, count, itemsize):
        """Returns the offsets of the numbers in `_lines`, their limits, and whether all quads are aligned as `at` is."""
        starts = np.arange(count)[:, None] * step + np.array(quads)
        numbers = (starts[:, :, None] + np.arange(4)).reshape(count, -1)
        return numbers, int(numbers.min()), int(numbers.max()), not np.any(starts * itemsize % 16)

    def row_of(block, columns, i):
        return block[i]

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    _I32 = ir.IntType(32)

    def _offset(builder, value, number):
        return builder.add(value, value.type(number))

    def _vectors(context, builder, array_type, array, at):
        """Returns (pointers to the 16-byte vectors of the quad at an offset, numbers in each vector)."""
        lanes = 16 // (array_type.dtype.bitwidth // 8)
        data = context.make_array(array_type)(context, builder, array).data
        kind = ir.VectorType(data.type.pointee, lanes).as_pointer()
        return [builder.bitcast(builder.gep(data, [_offset(builder, at, i)]), kind) for i in range(0, 4, lanes)], lanes

    def _load(context, builder, array_type, array, at):
        pointers, lanes = _vectors(context, builder, array_type, array, at)
        vectors = [builder.load(pointer, align=16) for pointer in pointers]
        return [builder.extract_element(vectors[i // lanes], ir.Constant(_I32, i % lanes)) for i in range(4)]

    def _tuple(builder, values):
        result = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
        for i, value in enumerate(values):
            result = builder.insert_value(result, value, i)
        return result

    def _values(builder, packed):
        return [builder.extract_value(packed, i) for i in range(packed.type.count)]

    @intrinsic
    def load_quad(typing, array, at):
        """Loads the quad at an offset, which must be aligned to 16 bytes."""

        def generate(context, builder, signature, args):
            return _tuple(builder, _load(context, builder, signature.args[0], *args))

        return types.UniTuple(array.dtype, 4)(array, types.int64), generate

    @intrinsic
    def store_quad(typing, array, at, quad):
        """Stores a quad at an offset, which must be aligned to 16 bytes."""

        def generate(context, builder, signature, args):
            array, at, quad = args
            pointers, lanes = _vectors(context, builder, signature.args[0], array, at)
            for i, pointer in enumerate(pointers):
                vector = ir.Constant(pointer.type.pointee, ir.Undefined)
                for lane in range(lanes):
                    value = builder.extract_value(quad, i * lanes + lane)
                    vector = builder.insert_element(vector, value, ir.Constant(_I32, lane))
                builder.store(vector, pointer, align=16)
            return context.get_dummy_value()

        return types.void(array, types.int64, quad), generate

    @intrinsic
    def gather_quad(typing, array, at, step):
        """Returns array[at + i * step] for i < 4."""

        def generate(context, builder, signature, args):
            array, at, step = args
            data, values = context.make_array(signature.args[0])(context, builder, array).data, []
            for _ in range(4):
                values.append(builder.load(builder.gep(data, [at])))
                at = builder.add(at, step)
            return _tuple(builder, values)

        return types.UniTuple(array.dtype, 4)(array, types.int64, types.int64), generate

    @intrinsic
    def spread_quad(typing, array, at, step, quad):
        """array[at + i * step] = quad[i] for i < 4."""

        def generate(context, builder, signature, args):
            array, at, step, quad = args
            data = context.make_array(signature.args[0])(context, builder, array).data
            for value in _values(builder, quad):
                builder.store(value, builder.gep(data, [at]))
                at = builder.add(at, step)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, quad), generate

    @intrinsic
    def zero_block(typing, array, rows, columns):
        """Returns a block of zeros of the array's dtype, with 4 rows for each item of the tuple `rows`, and so for `columns`."""
        kind = types.UniTuple(array.dtype, 16 * len(rows) * len(columns))

        def generate(context, builder, signature, args):
            return ir.Constant(context.get_value_type(kind), None)

        return kind(array, rows, columns), generate

    @intrinsic
    def multiply_add(typing, block, a, a_at, a_step, rows, b, b_at, b_step, columns, terms):
        """Returns block + the sum over p < len(terms) of a's column p times b's row p.

        rows, columns: the offsets of the block's row and column quads, relative to a_at + p * a_step and b_at + p * b_step.
        """
        offset = types.int64
        signature = block(block, a, offset, offset, rows, b, offset, offset, columns, terms)

        def generate(context, builder, signature, args):
            block, a, a_at, a_step, rows, b, b_at, b_step, columns, _ = args
            sums = _values(builder, block)
            name = {32: "llvm.fma.f32", 64: "llvm.fma.f64"}[signature.args[1].dtype.bitwidth]
            kind = ir.FunctionType(sums[0].type, [sums[0].type] * 3)
            fma = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            for _ in range(len(terms)):
                x, y = [], []
                for values, position, array, at, quads in ((x, 1, a, a_at, rows), (y, 5, b, b_at, columns)):
                    for quad in _values(builder, quads):
                        values += _load(context, builder, signature.args[position], array, builder.add(at, quad))
                for i, left in enumerate(x):
                    for j, right in enumerate(y, i * len(y)):
                        sums[j] = builder.call(fma, [left, right, sums[j]])
                a_at, b_at = builder.add(a_at, a_step), builder.add(b_at, b_step)
            return _tuple(builder, sums)

        return signature, generate

    @intrinsic
    def row_of(typing, block, columns, i):
        """Returns row i of a block, which has len(columns) quads. The bits of i select it, so that no number needs an address."""
        width = 4 * len(columns)
        kind = types.UniTuple(block.dtype, width)

        def generate(context, builder, signature, args):
            values = _values(builder, args[0])
            rows = [values[j : j + width] for j in range(0, len(values), width)]
            bit = 1
            while len(rows) > 1:
                odd = builder.icmp_unsigned("!=", builder.and_(args[2], args[2].type(bit)), args[2].type(0))
                pairs = zip(rows[::2], rows[1::2], strict=True)
                rows = [[builder.select(odd, y, x) for x, y in zip(*pair, strict=True)] for pair in pairs]
                bit *= 2
            return _tuple(builder, rows[0])

        return kind(block, columns, types.int64), generate
