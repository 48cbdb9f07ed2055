"""Twins of random.py: the same words for the same key and stream, and so the same numbers.

Words, uniform numbers, integers, dropout's masks and orders equal the CPU's bit by bit (on CPUs with fused multiply-add, which
all recent ones have); normal numbers equal them up to rounding. A counter gives four words, so a thread makes four.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import (
    THREADS,
    blocks,
    device_function,
    device_module,
    kernel,
    size,
    start,
    start_each,
)
from nbkeras.kernels.loops import random_numbers
from nbkeras.kernels.random import BLOCK
from nbkeras.kernels.runtime import device

_SWAPS = size(1024, simulated=8)  # swaps of a permutation that are tried at once
_u, _u64, _f = np.uint32, np.uint64, np.float32
_32, _WORD = np.uint64(32), np.uint64(0xFFFFFFFF)
formulas = device_module(random_numbers)


# -------------------- words --------------------


@device_function
def philox(c0, c1, step, stream, seed):
    """Four random words for the counter (c0, c1, step, stream) and the key (seed, 0), all uint32: Philox4x32-10."""
    c2, c3, k0, k1 = step, stream, seed, _u(0)
    for _ in range(10):
        p0, p1 = _u64(c0) * _u64(0xD2511F53), _u64(c2) * _u64(0xCD9E8D57)
        c0, c1 = _u((p1 >> _32) ^ _u64(c1) ^ _u64(k0)), _u(p1 & _WORD)
        c2, c3 = _u((p0 >> _32) ^ _u64(c3) ^ _u64(k1)), _u(p0 & _WORD)
        k0, k1 = _u((_u64(k0) + _u64(0x9E3779B9)) & _WORD), _u((_u64(k1) + _u64(0xBB67AE85)) & _WORD)
    return c0, c1, c2, c3


def _counters(count: int) -> int:
    """Returns the number of counters for the words of `count` elements."""
    return count // BLOCK * (BLOCK // 4) + -(-(count % BLOCK) // 4)


@device_function
def _quarter(n, count):
    """Returns for counter n: (block, its index i in the block, its first word's position, the distance between its words).

    The layout is that of `random.fill_words`: a block's quarters hold the words of each counter. If the last block's size is not
    a multiple of 4, its last one to three elements get the words of one more counter.
    """
    block = n // _u64(BLOCK // 4)
    i, first = n % _u64(BLOCK // 4), block * _u64(BLOCK)
    left = _u64(count) - first
    quarter = (left if left < _u64(BLOCK) else _u64(BLOCK)) // _u64(4)
    if i < quarter:
        return block, i, first + i, quarter
    return block, i, first + _u64(4) * quarter, _u64(1)


@kernel
def _take_key(state, key):
    key[0] = state[0]
    key[1] = state[1]
    state[1] = _u((_u64(state[1]) + _u64(1)) & _WORD)


def take_key(state, key):
    """key = state; state[1] += 1."""
    start(_take_key, 1, 1, state, key)


@kernel
def _fill_words(key, stream, out, counters):
    n = _u64(cuda.grid(1))
    if n < _u64(counters):
        block, i, at, apart = _quarter(n, out.size)
        w0, w1, w2, w3 = philox(_u(i), _u(block), key[1], _u(stream), key[0])
        out[at] = w0
        out[at + apart] = w1
        out[at + apart * _u64(2)] = w2
        out[at + apart * _u64(3)] = w3


def fill_words(key, stream, out):
    """Random uint32 words; their number is a multiple of 4."""
    counters = _counters(out.size)
    start_each(_fill_words, counters, key, stream, out, counters)


@kernel
def _fill_words_from(key, stream, begin, count, out):
    n = _u64(cuda.grid(1))
    if n < _u64(out.size):
        at = _u64(begin) + n
        block, i = at // _u64(BLOCK), at % _u64(BLOCK)
        left = _u64(count) - block * _u64(BLOCK)
        quarter = (left if left < _u64(BLOCK) else _u64(BLOCK)) // _u64(4)
        counter, which = quarter, i - _u64(4) * quarter
        if i < _u64(4) * quarter:
            counter, which = i % quarter, i // quarter
        w0, w1, w2, w3 = philox(_u(counter), _u(block), key[1], _u(stream), key[0])
        out[n] = w0 if which == _u64(0) else w1 if which == _u64(1) else w2 if which == _u64(2) else w3


def fill_words_from(key, stream, begin, count, out):
    """Out of `count` words in the layout of `drop`, writes those from `begin` on. Each thread makes four and keeps one."""
    start_each(_fill_words_from, out.size, key, stream, begin, count, out)


# -------------------- uniform and normal --------------------


@kernel
def _uniform32(high, width, lowest, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = cuda.fma(width, formulas.unit32(high[i]), lowest)


@kernel
def _uniform64(high, low, width, lowest, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = cuda.fma(width, formulas.unit64(high[i], low[i]), lowest)


def uniform_from_words(high, low, width, lowest, out):
    """Computes lowest + width * (words as a number in [0, 1)), rounded once."""
    if out.dtype == np.float32:
        start_each(_uniform32, out.size, high, width, lowest, out)
    else:
        start_each(_uniform64, out.size, high, low, width, lowest, out)


@device_function
def _quantile(p):
    w = -math.log(formulas.argument(p))
    return formulas.quantile_of(p, formulas.central(w) if w < _f(5) else formulas.outer(w))


@kernel
def _normal32(high, cut, stddev, mean, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = mean + stddev * formulas.signed(_quantile(formulas.probability32(high[i], cut)), high[i])


@kernel
def _normal64(high, low, cut, stddev, mean, out):
    i = cuda.grid(1)
    if i < out.size:
        p = formulas.probability64(high[i], low[i], cut)
        out[i] = mean + stddev * formulas.signed(formulas.refined(np.float64(_quantile(_f(p))), p), high[i])


def normal_from_words(high, low, cut, stddev, mean, out):
    """Computes mean + stddev * z, for standard normal numbers z with P(normal > |z|) >= cut."""
    if out.dtype == np.float32:
        start_each(_normal32, out.size, high, cut, stddev, mean, out)
    else:
        start_each(_normal64, out.size, high, low, cut, stddev, mean, out)


# -------------------- integers --------------------


@kernel
def _integers(high, low, lowest, count, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = lowest + np.int64(formulas.word64(high[i], low[i]) % count)


def integers_from_words(high, low, lowest, count, out):
    """Computes lowest + (a 64-bit word modulo count)."""
    start_each(_integers, out.size, high, low, lowest, count, out)


@kernel
def _below(words, limit, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = 1 if np.int64(words[i]) < limit else 0


def below(words, limit, out):
    """out = 1 where a word is less than limit, else 0."""
    start_each(_below, out.size, words, limit, out)


@kernel
def _choose(logits, high, low, out):
    """A block draws some samples of a row.

    Each thread sums the weights of a range of classes. Then it searches the range that contains its sample.
    """
    sums, tops = cuda.shared.array(THREADS, np.float64), cuda.shared.array(THREADS, np.float64)
    classes, thread, threads = logits.shape[1], cuda.threadIdx.x, cuda.blockDim.x
    row, sample = cuda.blockIdx.x, cuda.blockIdx.y * threads + thread
    length = (classes + threads - 1) // threads
    first, stretches = min(thread * length, classes), (classes + length - 1) // length
    last = min(first + length, classes)
    top = -math.inf
    for c in range(first, last):
        if logits[row, c] > top:
            top = np.float64(logits[row, c])
    tops[thread] = top
    cuda.syncthreads()
    for i in range(stretches):
        if tops[i] > top:
            top = tops[i]
    total = 0.0
    for c in range(first, last):
        total += math.exp(np.float64(logits[row, c]) - top)
    sums[thread] = total
    cuda.syncthreads()
    if thread == 0:
        for i in range(1, stretches):
            sums[i] += sums[i - 1]
    cuda.syncthreads()
    while sample < out.shape[1]:
        w = row * out.shape[1] + sample
        rest = sums[stretches - 1] * formulas.unit64(high[w], low[w])
        before, behind = 0, stretches  # find the first range that ends beyond `rest`, by bisection
        while before < behind:
            middle = (before + behind) // 2
            if sums[middle] > rest:
                behind = middle
            else:
                before = middle + 1
        if before == stretches:  # only after rounding errors, or for NaN
            before = 0
        if before > 0:
            rest -= sums[before - 1]
        chosen, c, searching = -1, before * length, True
        while searching and c < classes:
            weight = math.exp(np.float64(logits[row, c]) - top)
            if weight > 0.0 and (chosen < 0 or rest >= 0.0):
                chosen = c
            rest -= weight
            searching = not (rest < 0.0 and chosen >= 0)
            c += 1
        out[row, sample] = max(chosen, 0)
        sample += cuda.gridDim.y * threads


def choose(logits, high, low, out):
    """Inverts each row's cumulative distribution at uniform numbers."""
    rows, samples = out.shape
    start(_choose, (rows, min(blocks(samples, THREADS), 65535)), THREADS, logits, high, low, out)


@kernel
def _permute(high, low, order, inverse, reserved):
    """A single block tries as many swaps at once as it has threads, from the last swap down.

    A swap waits for earlier swaps of its two positions. Each swap reserves both positions, and an earlier swap takes them from a
    later one. A swap that holds both positions runs (Shun, Gu, Blelloch, Fineman, Gibbons, "Sequential random permutation, list
    contraction and tree contraction are highly parallel", SODA 2015). With many more positions than threads, few swaps conflict.
    """
    n, thread, threads = order.size, cuda.threadIdx.x, cuda.blockDim.x
    for i in range(thread, n, threads):
        order[i] = i
        reserved[i] = -1
    cuda.syncthreads()
    top = n - 1
    while top > 0:
        i, j = top - thread, np.int64(0)
        waiting = i > 0
        if waiting:
            j = np.int64(formulas.word64(high[i], low[i]) % _u64(i + 1))
        while cuda.syncthreads_or(np.int32(waiting)):
            if waiting:
                cuda.atomic.max(reserved, i, np.int32(i))
                cuda.atomic.max(reserved, j, np.int32(i))
            cuda.syncthreads()
            ahead = waiting and reserved[i] == i and reserved[j] == i
            cuda.syncthreads()
            if ahead:
                order[i], order[j] = order[j], order[i]
                reserved[i] = -1
                reserved[j] = -1
                waiting = False
        top -= threads
    cuda.syncthreads()
    for i in range(thread, n, threads):
        inverse[order[i]] = i


def permute(high, low, order, inverse):
    """A random permutation and its inverse by Fisher and Yates, the same as on the CPU.

    One block of threads computes it, because each swap depends on earlier swaps: some microseconds per thousand elements.
    """
    reserved = device.gpu().scratch("permute", order.shape, np.int32)
    start(_permute, min(order.size, 1), _SWAPS, high, low, order, inverse, reserved)


# -------------------- dropout --------------------


@kernel
def _drop(key, x, limit, scale, y, counters):
    n, zero = _u64(cuda.grid(1)), scale - scale
    if n < _u64(counters):
        block, i, at, apart = _quarter(n, y.size)
        w0, w1, w2, w3 = philox(_u(i), _u(block), key[1], _u(0), key[0])
        second, third, fourth = at + apart, at + apart * _u64(2), at + apart * _u64(3)
        if fourth < _u64(y.size):
            x0, x1, x2, x3 = x[at], x[second], x[third], x[fourth]
            y[at] = x0 * scale if w0 >= limit else zero
            y[second] = x1 * scale if w1 >= limit else zero
            y[third] = x2 * scale if w2 >= limit else zero
            y[fourth] = x3 * scale if w3 >= limit else zero
        else:
            y[at] = x[at] * scale if w0 >= limit else zero
            if second < _u64(y.size):
                y[second] = x[second] * scale if w1 >= limit else zero
            if third < _u64(y.size):
                y[third] = x[third] * scale if w2 >= limit else zero


def drop(key, x, limit, scale, y):
    """y = x * scale where the element's word, in the layout of `fill_words`, is at least `limit`, else 0."""
    counters = _counters(y.size)
    start_each(_drop, counters, key, x, limit, scale, y, counters)
