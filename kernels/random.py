"""Random numbers: Philox4x32-10, uniform, normal, integers, categories, permutations, and dropout.

A *key* is a uint32 array [seed, step]; every function here is a pure function of a key. A generator's state has the same form.
`draw_key` copies the state to a key and advances the state by one step, in place, so a replayed program gets new numbers. The
same key gives the same numbers on any number of threads, and float64 numbers agree with float32's.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The casts are needed because
Numba types uint32 op uint32 as uint64.
"""

import math
from collections.abc import Iterator

import numpy as np

from nbkeras.kernels import indexing
from nbkeras.kernels.interpreter.chains import of_steps
from nbkeras.kernels.loops import random_numbers as formulas
from nbkeras.kernels.loops.flat_access import opaque
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.lazy import emitted, ir, overload, types
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray
_U = np.uint32
Rows = tuple[int, int] | None  # (offset of the first element, total elements): draw only some rows of a larger array
BLOCK = 4096  # words per block; its four quarters hold the four words of each counter
_SHARE = 2 * BLOCK  # minimum elements of a share


@emitted(lambda *words: types.UniTuple(types.uint32, 4)(*[types.uint32] * len(words)))
def philox(context, builder, signature, c0, c1, c2, c3, k0, k1):
    """Four random words for a counter of four words and a key of two words, all uint32.

    It is emitted as LLVM instructions, because Numba would type ten rounds of casts at every use of a Python version. Words are
    stored in 64 bits, because vector units multiply 32-bit words into 64-bit lanes.
    """
    word, wide = ir.IntType(32), ir.IntType(64)

    def constant(value):
        return ir.Constant(wide, value)

    def low(value):
        return builder.and_(value, constant(0xFFFFFFFF))

    c0, c1, c2, c3, k0, k1 = (builder.zext(value, wide) for value in (c0, c1, c2, c3, k0, k1))
    for _ in range(10):
        p0, p1 = builder.mul(c0, constant(0xD2511F53)), builder.mul(c2, constant(0xCD9E8D57))
        c0 = builder.xor(builder.xor(builder.lshr(p1, constant(32)), c1), k0)
        c2 = builder.xor(builder.xor(builder.lshr(p0, constant(32)), c3), k1)
        c1, c3 = low(p1), low(p0)
        k0, k1 = low(builder.add(k0, constant(0x9E3779B9))), low(builder.add(k1, constant(0xBB67AE85)))
    words = [builder.trunc(value, word) for value in (c0, c1, c2, c3)]
    return context.make_tuple(builder, signature.return_type, words)


# -------------------- keys and words --------------------


def draw_key(state: Array):
    """Draw a key from a generator's state, and advance the state."""
    key = device.empty((2,), np.uint32)
    device.launch(take_key, state, key)
    return key, None


draw_key.changes_inputs = (0,)  # type: ignore[attr-defined]  # argument indices: see engine/program.py


@compiled
def take_key(state, key):
    """Kernel: key = state; state[1] += 1."""
    key[0] = state[0]
    key[1] = state[1]
    state[1] = _U(state[1] + _U(1))


@compiled
def fill_words(key, stream, out, share, shares):
    """Kernel: computes random uint32 words; computes a share of the blocks. The last block may be shorter by a multiple of 4.

    The words of a block's counter i are at position i of each quarter.
    """
    seed, step, flow = key[0], key[1], _U(stream)
    blocks = (out.size + BLOCK - 1) // BLOCK
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        # Without `opaque`, LLVM assumes that the quarters of different blocks overlap, and does not vectorise.
        at = opaque(block * BLOCK)
        words = out[at : at + BLOCK]
        q = words.size // 4
        w0, w1, w2, w3 = words[:q], words[q : 2 * q], words[2 * q : 3 * q], words[3 * q :]
        for i in range(q):
            w0[i], w1[i], w2[i], w3[i] = philox(_U(i), _U(block), step, flow, seed, _U(0))


@compiled
def fill_words_from(key, stream, begin, count, out, share, shares):
    """Kernel: writes the words from `begin` on, out of `count` words in the layout of `drop`; computes a share of the blocks."""
    seed, step, flow = key[0], key[1], _U(stream)
    lowest, blocks = begin // BLOCK, (begin + out.size + BLOCK - 1) // BLOCK - begin // BLOCK
    for number in range(blocks * share // shares, blocks * (share + 1) // shares):
        block = lowest + number
        at = block * BLOCK
        q = min(BLOCK, count - at) // 4
        first, last = max(begin - at, 0), min(begin + out.size - at, BLOCK)
        if first == 0 and last >= 4 * q:  # the share needs all four words of each counter
            words = out[opaque(at - begin) :]
            a, b, c, d = words[:q], words[q : 2 * q], words[2 * q : 3 * q], words[3 * q : 4 * q]
            for i in range(q):
                a[i], b[i], c[i], d[i] = philox(_U(i), _U(block), step, flow, seed, _U(0))
            first = 4 * q
        for quarter in range(4):
            low, high = max(first, quarter * q), min(last, (quarter + 1) * q)
            if low < high:
                target = out[at + low - begin : at + high - begin]
                for i in range(target.size):
                    w0, w1, w2, w3 = philox(_U(low - quarter * q + i), _U(block), step, flow, seed, _U(0))
                    target[i] = w0 if quarter == 0 else w1 if quarter == 1 else w2 if quarter == 2 else w3
        for i in range(max(first, 4 * q), last):
            out[at + i - begin] = philox(_U(q), _U(block), step, flow, seed, _U(0))[i - 4 * q]


def _words(key: Array, count: int, stream: int, rows: Rows = None) -> Array:
    """Draws `count` random uint32 words. The streams of a key are independent. rows: the words' position in a larger array."""
    if rows is not None:
        words = device.empty((count,), np.uint32)
        padded = -(-rows[1] // 4) * 4
        launch_shares(fill_words_from, share_count(count, _SHARE), key, stream, rows[0], padded, words)
        return words
    words = device.empty((-(-count // 4) * 4,), np.uint32)
    launch_shares(fill_words, share_count(count, _SHARE), key, stream, words)
    return words[:count]


def _from_words(kernel, key: Array, shape, dtype, rows: Rows, *constants):
    """Runs a kernel that makes numbers from high and low words. float32 uses only high words, so it gets them twice."""
    y = device.empty(shape, dtype)
    high = _words(key, y.size, 0, rows)
    low = high if y.dtype == np.float32 else _words(key, y.size, 1, rows)
    launch_shares(kernel, share_count(y.size, _SHARE), high, low, *constants, y.reshape(-1))
    return y, None


# -------------------- uniform --------------------


@overload(inline="always")
def _unit(high, low, like):
    """Returns a number in [0, 1), in `like`'s dtype, from two words (float32 uses only the first). For use inside kernels."""
    if like == types.float32:
        return lambda high, low, like: formulas.unit32(high)
    return lambda high, low, like: formulas.unit64(high, low)


def uniform(key: Array, shape, dtype, low: float = 0.0, high: float = 1.0, rows: Rows = None):
    """Draws uniform numbers in [low, high). Rounding may give `high` if the interval is narrow relative to its position."""
    real = np.dtype(dtype).type
    return _from_words(uniform_from_words, key, shape, dtype, rows, real(high - low), real(low))


@compiled
def uniform_from_words(high, low, width, lowest, out, share, shares):
    """Kernel: computes lowest + width * (words as a number in [0, 1))."""
    first, last = stretch(out.size, share, shares)
    high, low, out = high[first:last], low[first:last], out[first:last]
    for i in range(out.size):
        out[i] = lowest + width * _unit(high[i], low[i], width)


# -------------------- normal --------------------


@emitted(lambda x: types.UniTuple(types.float32, 2)(types.float32))
def _exponent_and_mantissa(context, builder, signature, x):
    """Splits a positive normal float32 into (e, m) with x = m * 2**e and sqrt(1/2) <= m < sqrt(2)."""
    i32 = ir.IntType(32)
    bits = builder.bitcast(x, i32)
    shifted = builder.sub(bits, ir.Constant(i32, 0x3F3504F3))
    exponent = builder.ashr(shifted, ir.Constant(i32, 23))
    mantissa = builder.sub(bits, builder.shl(exponent, ir.Constant(i32, 23)))
    parts = [builder.sitofp(exponent, ir.FloatType()), builder.bitcast(mantissa, ir.FloatType())]
    return context.make_tuple(builder, signature.return_type, parts)


_f = np.float32
_LN2, _HALF, _ONE = _f(0.6931471805599453), _f(0.5), _f(1)
_P0, _P1, _P2 = _f(7.0376836292e-2), _f(-1.1514610310e-1), _f(1.1676998740e-1)
_P3, _P4, _P5 = _f(-1.2420140846e-1), _f(1.4249322787e-1), _f(-1.6668057665e-1)
_P6, _P7, _P8 = _f(2.0000714765e-1), _f(-2.4999993993e-1), _f(3.3333331174e-1)


@compiled(inline="always")
def _log(x):
    """Natural logarithm of a positive normal float32, by Cephes' logf (S. Moshier); LLVM can vectorise it."""
    e, m = _exponent_and_mantissa(x)
    m = m - _ONE
    z = m * m
    p = _P0 * m + _P1
    p = p * m + _P2
    p = p * m + _P3
    p = p * m + _P4
    p = p * m + _P5
    p = p * m + _P6
    p = p * m + _P7
    p = p * m + _P8
    return m + (p * m * z - _HALF * z) + e * _LN2


@compiled(inline="always")
def _quantile(p):
    """Returns a quantile, see random_numbers.py. It computes both polynomials, so that LLVM can vectorise it."""
    w = -_log(formulas.argument(p))
    y, z = formulas.central(w), formulas.outer(max(w, _f(0)))
    return formulas.quantile_of(p, y if w < _f(5) else z)


@overload(inline="always")
def _normal_number(high, low, cut, like):
    """Returns a standard normal number z with P(normal > |z|) >= cut. For use inside kernels."""

    def number32(high, low, cut, like):
        return formulas.signed(_quantile(formulas.probability32(high, cut)), high)

    def number64(high, low, cut, like):
        p = formulas.probability64(high, low, cut)
        return formulas.signed(formulas.refined(np.float64(_quantile(np.float32(p))), p), high)

    return number32 if like == types.float32 else number64


@compiled
def normal_from_words(high, low, cut, stddev, mean, out, share, shares):
    """Kernel: computes mean + stddev * z, for standard normal numbers z with P(normal > |z|) >= cut."""
    first, last = stretch(out.size, share, shares)
    high, low, out = high[first:last], low[first:last], out[first:last]
    for i in range(out.size):
        out[i] = mean + stddev * _normal_number(high[i], low[i], cut, stddev)


def _normal(key, shape, dtype, mean, stddev, cut, rows):
    real = np.dtype(dtype).type
    return _from_words(normal_from_words, key, shape, dtype, rows, real(cut), real(stddev), real(mean))


def normal(key: Array, shape, dtype, mean: float = 0.0, stddev: float = 1.0, rows: Rows = None):
    """Draws normal numbers. Their distance from the mean is at most 6.3 standard deviations."""
    return _normal(key, shape, dtype, mean, stddev, 0.0, rows)


_TAIL_BEYOND_2 = 0.5 * math.erfc(math.sqrt(2.0))


def truncated_normal(key: Array, shape, dtype, mean: float = 0.0, stddev: float = 1.0, rows: Rows = None):
    """Draws normal numbers within two standard deviations of the mean."""
    return _normal(key, shape, dtype, mean, stddev, _TAIL_BEYOND_2, rows)


# -------------------- integers --------------------


def randint(key: Array, shape, low: int, high: int, rows: Rows = None):
    """Draws int64 integers, low <= n < high: 64 random bits modulo the range."""
    return _from_words(integers_from_words, key, shape, np.int64, rows, low, np.uint64(high - low))


@compiled
def integers_from_words(high, low, lowest, count, out, share, shares):
    """Kernel: computes lowest + (a 64-bit word modulo count)."""
    first, last = stretch(out.size, share, shares)
    high, low, out = high[first:last], low[first:last], out[first:last]
    for i in range(out.size):
        out[i] = lowest + np.int64(formulas.word64(high[i], low[i]) % count)


def bernoulli(key: Array, shape, dtype, probability: float, rows: Rows = None):
    """Draws 1 with the given probability, else 0."""
    y = device.empty(shape, dtype)
    words = _words(key, y.size, 0, rows)
    device.launch(below, words, round(probability * 2**32), y.reshape(-1))
    return y, None


@of_steps
def below(words: Array, limit: int, out: Array) -> Iterator[tuple]:
    """Kernel: out = 1 where a word is less than limit, else 0."""
    yield np.less, words, limit, out


def categorical(logits: Array, key: Array, samples: int, rows: Rows = None):
    """Draws classes, int64 (rows, samples): class c in row r with probability softmax(logits[r])[c]. Not differentiable."""
    y = device.empty((logits.shape[0], samples), np.int64)
    device.launch(choose, logits, _words(key, y.size, 0, rows), _words(key, y.size, 1, rows), y)
    return y, None


@compiled
def choose(logits, high, low, out):
    """Kernel: inverts each row's cumulative distribution at uniform numbers."""
    classes = logits.shape[1]
    for r in range(out.shape[0]):
        top = -np.inf
        for c in range(classes):
            top = max(top, np.float64(logits[r, c]))
        total = 0.0
        for c in range(classes):
            total += math.exp(logits[r, c] - top)
        for s in range(out.shape[1]):
            w = r * out.shape[1] + s
            rest = total * _unit(high[w], low[w], total)
            chosen = -1
            for c in range(classes):
                weight = math.exp(logits[r, c] - top)
                if weight > 0.0 and (chosen < 0 or rest >= 0.0):
                    chosen = c
                rest -= weight
                if rest < 0.0 and chosen >= 0:
                    break
            out[r, s] = max(chosen, 0)


def shuffle(x: Array, key: Array, axis: int):
    """Returns x with its slices along `axis` in random order."""
    n = x.shape[axis]
    order, inverse = device.empty((n,), np.int64), device.empty((n,), np.int64)
    device.launch(permute, _words(key, n, 0), _words(key, n, 1), order, inverse)
    y = device.empty(x.shape, x.dtype)
    device.launch(indexing.gather, x, order, axis, y)
    return y, (inverse, axis)


def shuffle_vjp(saved, dy, needs):
    inverse, axis = saved
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(indexing.gather, dy, inverse, axis, dx)
    return dx, None


@compiled
def permute(high, low, order, inverse):
    """Kernel: computes a random permutation (Fisher and Yates, after Durstenfeld) and its inverse."""
    n = order.size
    for i in range(n):
        order[i] = i
    for i in range(n - 1, 0, -1):
        j = np.int64(formulas.word64(high[i], low[i]) % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]
    for i in range(n):
        inverse[order[i]] = i


# -------------------- dropout --------------------


def dropout(x: Array, key: Array, rate: float, noise_shape: tuple[int, ...] | None = None, rows: Rows = None):
    """Returns x / (1 - rate) where an element is kept, 0 where it is dropped. `rate` is the probability of dropping.

    noise_shape: x's shape, with 1 for axes whose elements are kept or dropped together. rows: of the noise, see Rows.
    """
    y = device.empty(x.shape, x.dtype)
    if rows is not None:
        noise = device.empty(x.shape if noise_shape is None else noise_shape, x.dtype)
        words = device.empty((noise.size,), np.uint32)
        launch_shares(fill_words_from, share_count(noise.size, _SHARE), key, 0, *rows, words)
        limit, scale = _limit_and_scale(rate, x.dtype)
        device.launch(below, words, limit, noise.reshape(-1))  # 1 where an element is dropped
        device.launch(np.multiply, noise, -scale, noise)
        device.launch(np.add, noise, scale, noise)
        device.launch(np.multiply, x, noise, y)
        return y, noise
    if noise_shape is None or noise_shape == x.shape:
        _drop(key, x, rate, y)
        return y, (key, rate)
    ones, noise = device.empty(noise_shape, x.dtype), device.empty(noise_shape, x.dtype)
    device.launch(device.fill, ones, 1)
    _drop(key, ones, rate, noise)
    device.launch(np.multiply, x, noise, y)
    return y, noise


def dropout_vjp(saved, dy, needs):
    """Redraws the forward pass's numbers from its key, which is cheaper than storing them."""
    dx = device.output(needs[0], dy.shape, dy.dtype)
    if isinstance(saved, tuple):
        key, rate = saved
        _drop(key, dy, rate, dx)
    else:
        device.launch(np.multiply, dy, saved, dx)
    return dx, None


def _limit_and_scale(rate: float, dtype: np.dtype) -> tuple:
    """Returns the least word of a kept element, and the factor of kept elements."""
    limit = min(round(rate * 2**32), 2**32 - 1)
    return np.uint32(limit), dtype.type(1.0 / (1.0 - rate)) if rate < 1.0 else dtype.type(0)


def _drop(key: Array, x: Array, rate: float, y: Array) -> None:
    how = _limit_and_scale(rate, x.dtype)
    launch_shares(drop, share_count(x.size, _SHARE), key, x.reshape(-1), *how, y.reshape(-1))


@compiled
def drop(key, x, limit, scale, y, share, shares):
    """Kernel: y = x * scale where the element's word, in the layout of `fill_words`, is at least `limit`, else 0."""
    seed, step, stream, zero = key[0], key[1], _U(0), scale - scale
    blocks = (y.size + BLOCK - 1) // BLOCK
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        at = opaque(block * BLOCK)
        source, target = x[at : at + BLOCK], y[at : at + BLOCK]
        q = target.size // 4
        x0, x1, x2, x3 = source[:q], source[q : 2 * q], source[2 * q : 3 * q], source[3 * q : 4 * q]
        y0, y1, y2, y3 = target[:q], target[q : 2 * q], target[2 * q : 3 * q], target[3 * q : 4 * q]
        for i in range(q):
            w0, w1, w2, w3 = philox(_U(i), _U(block), step, stream, seed, _U(0))
            y0[i] = x0[i] * scale if w0 >= limit else zero
            y1[i] = x1[i] * scale if w1 >= limit else zero
            y2[i] = x2[i] * scale if w2 >= limit else zero
            y3[i] = x3[i] * scale if w3 >= limit else zero
        x4, y4 = source[4 * q :], target[4 * q :]
        if y4.size > 0:
            rest = philox(_U(q), _U(block), step, stream, seed, _U(0))
            for i in range(y4.size):
                y4[i] = x4[i] * scale if rest[i] >= limit else zero
