"""Hashes of integers (by their decimal digits) and strings, by FarmHash's 64-bit fingerprint or SipHash-2-4, and crosses.

farmhash 1.1, `farmhashna::Hash64` (G. Pike, Google, 2014); SipHash: Aumasson and Bernstein, 2012.
"""

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
_K0, _K1, _K2 = np.uint64(0xC3A5C85C97CB3127), np.uint64(0xB492B66FBE98F273), np.uint64(0x9AE16A3B2F90404F)
_CROSS = np.uint64(0xC6A4A7935BD1E995)
_DIGITS = 20  # max characters of an int64: its digits and sign


def hash_integers(x: Array, bins: int, key: tuple[int, int] | None):
    """Returns the bin of each int64: SipHash (with a key) or FarmHash of its digits, modulo bins; 0 bins: the hash itself."""
    y = device.empty(x.shape, np.int64)
    digits = device.empty((_DIGITS,), np.uint8)
    device.launch(hash_digits, x.reshape(-1), digits, y.reshape(-1), bins, *_key(key))
    return y, None


def hash_texts(text: Array, ends: Array, bins: int, key: tuple[int, int] | None):
    """Returns the bin of each string, as `hash_integers`. text: uint8 (total,), all strings; ends: int64 (n,), their ends."""
    y = device.empty(ends.shape, np.int64)
    device.launch(hash_bytes, text, ends, y, bins, *_key(key))
    return y, None


def cross(*hashes: Array, bins: int):
    """Returns the bin of a combination of int64 numbers, by FingerprintCat64, starting from the key 0xDECAFCAFFE."""
    y = device.empty(hashes[0].shape, np.int64)
    device.launch(device.fill, y, 0xDECAFCAFFE)
    for numbers in hashes:
        device.launch(cross_with, numbers.reshape(-1), y.reshape(-1))
    device.launch(cross_end, y.reshape(-1), bins)
    return y, None


def _key(key: tuple[int, int] | None) -> tuple[int, np.uint64, np.uint64]:
    first, second = (0, 0) if key is None else key
    return int(key is not None), np.uint64(first % 2**64), np.uint64(second % 2**64)


@device.host
@compiled
def hash_digits(x, digits, y, bins, keyed, first, second):
    """Kernel: y = the bins of x's decimal digits."""
    for i in range(x.size):
        value, at = x[i], digits.size
        while True:
            digit = value % 10
            if value < 0 and digit > 0:  # Python's remainder has the divisor's sign
                digit = 10 - digit
            at -= 1
            digits[at] = 48 + digit
            value = (value + digit) // 10 if value < 0 else value // 10
            if value == 0:
                break
        if x[i] < 0:
            at -= 1
            digits[at] = 45
        y[i] = _bin(digits[at:], bins, keyed, first, second)


@device.host
@compiled
def hash_bytes(text, ends, y, bins, keyed, first, second):
    """Kernel: y = the bins of strings."""
    start = 0
    for i in range(ends.size):
        y[i] = _bin(text[start : ends[i]], bins, keyed, first, second)
        start = ends[i]


@device.host
@compiled
def cross_with(x, y):
    """Kernel: y = FingerprintCat64(y, x)."""
    for i in range(y.size):
        result = np.uint64(y[i]) ^ _CROSS
        result ^= _shift_mix(np.uint64(x[i]) * _CROSS) * _CROSS
        result *= _CROSS
        y[i] = np.int64(_shift_mix(_shift_mix(result) * _CROSS))


@device.host
@compiled
def cross_end(y, bins):
    """Kernel: computes y modulo bins."""
    for i in range(y.size):
        y[i] = np.int64(np.uint64(y[i]) % np.uint64(bins))


@compiled
def _bin(s, bins, keyed, first, second):
    value = _siphash(s, first, second) if keyed != 0 else _farmhash(s)
    return np.int64(value % np.uint64(bins)) if bins > 0 else np.int64(value)


# -------------------- bytes --------------------


@compiled
def _load(s, at, count):
    """Reads `count` bytes at an offset as a little-endian number."""
    value = np.uint64(0)
    for i in range(count):
        value |= np.uint64(s[at + i]) << np.uint64(8 * i)
    return value


@compiled
def _load8(s, at):
    return _load(s, at, 8)


@compiled
def _rotate_right(x, count):
    """Rotates a 64-bit number to the right."""
    return (x >> np.uint64(count)) | (x << np.uint64(64 - count))


@compiled
def _shift_mix(x):
    return x ^ (x >> np.uint64(47))


# -------------------- FarmHash --------------------


@compiled
def _mixed(u, v, factor):
    a = _shift_mix((u ^ v) * factor)
    return _shift_mix((v ^ a) * factor) * factor


@compiled
def _farmhash(s):
    n = s.size
    if n <= 16:
        return _farmhash_16(s)
    if n <= 32:
        return _farmhash_32(s)
    if n <= 64:
        return _farmhash_64(s)
    return _farmhash_long(s)


@compiled
def _farmhash_16(s):
    n = s.size
    size = np.uint64(n)
    factor = _K2 + size * np.uint64(2)
    if n >= 8:
        a, b = _load8(s, 0) + _K2, _load8(s, n - 8)
        return _mixed(_rotate_right(b, 37) * factor + a, (_rotate_right(a, 25) + b) * factor, factor)
    if n >= 4:
        return _mixed(size + (_load(s, 0, 4) << np.uint64(3)), _load(s, n - 4, 4), factor)
    if n > 0:
        y = np.uint64(s[0]) + (np.uint64(s[n >> 1]) << np.uint64(8))
        z = size + (np.uint64(s[n - 1]) << np.uint64(2))
        return _shift_mix(y * _K2 ^ z * _K0) * _K2
    return _K2


@compiled
def _paired(a, b, c, d, seed):
    return _rotate_right(a + b, 43) + _rotate_right(c, 30) + d, a + _rotate_right(b + seed, 18) + c


@compiled
def _farmhash_32(s):
    n = s.size
    factor = _K2 + np.uint64(n) * np.uint64(2)
    a, b = _load8(s, 0) * _K1, _load8(s, 8)
    y, z = _paired(a, b, _load8(s, n - 8) * factor, _load8(s, n - 16) * _K2, _K2)
    return _mixed(y, z, factor)


@compiled
def _farmhash_64(s):
    n = s.size
    factor = _K2 + np.uint64(n) * np.uint64(2)
    a, b = _load8(s, 0) * _K2, _load8(s, 8)
    y, z = _paired(a, b, _load8(s, n - 8) * factor, _load8(s, n - 16) * _K2, _K2)
    z = _mixed(y, z, factor)
    c, d = (y + _load8(s, n - 32)) * factor, (z + _load8(s, n - 24)) * factor
    y, z = _paired(_load8(s, 16) * factor, _load8(s, 24), c, d, a)
    return _mixed(y, z, factor)


@compiled
def _weak(s, at, a, b):
    """Returns two numbers from 32 bytes and two seeds."""
    w, x, y, z = _load8(s, at), _load8(s, at + 8), _load8(s, at + 16), _load8(s, at + 24)
    a += w
    b = _rotate_right(b + a + z, 21)
    c = a
    a += x + y
    return a + z, b + _rotate_right(a, 44) + c


@compiled
def _long_round(s, at, x, y, z, v0, v1, w0, w1, factor, times):
    x = _rotate_right(x + y + v0 + _load8(s, at + 8), 37) * factor
    y = _rotate_right(y + v1 + _load8(s, at + 48), 42) * factor
    x ^= w1 * times
    y += v0 * times + _load8(s, at + 40)
    z = _rotate_right(z + w0, 33) * factor
    v0, v1 = _weak(s, at, v1 * factor, x + w0)
    w0, w1 = _weak(s, at + 32, z + w1, y + _load8(s, at + 16))
    return z, y, x, v0, v1, w0, w1


@compiled
def _farmhash_long(s):
    n = s.size
    x, y = np.uint64(81), np.uint64(81) * _K1 + np.uint64(113)
    z = _shift_mix(y * _K2 + np.uint64(113)) * _K2
    v0, v1, w0, w1 = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    x = x * _K2 + _load8(s, 0)
    for at in range(0, (n - 1) // 64 * 64, 64):
        x, y, z, v0, v1, w0, w1 = _long_round(s, at, x, y, z, v0, v1, w0, w1, _K1, np.uint64(1))
    factor = _K1 + ((z & np.uint64(0xFF)) << np.uint64(1))
    w0 += np.uint64((n - 1) & 63)
    v0 += w0
    w0 += v0
    x, y, z, v0, v1, w0, w1 = _long_round(s, n - 64, x, y, z, v0, v1, w0, w1, factor, np.uint64(9))
    return _mixed(_mixed(v0, w0, factor) + _shift_mix(y) * _K0 + z, _mixed(v1, w1, factor) + x, factor)


# -------------------- SipHash --------------------


@compiled
def _round(a, b, c, d):
    a += b
    b = _rotate_right(b, 51) ^ a
    a = _rotate_right(a, 32)
    c += d
    d = _rotate_right(d, 48) ^ c
    a += d
    d = _rotate_right(d, 43) ^ a
    c += b
    b = _rotate_right(b, 47) ^ c
    return a, b, _rotate_right(c, 32), d


@compiled
def _siphash(s, first, second):
    a, b = first ^ np.uint64(0x736F6D6570736575), second ^ np.uint64(0x646F72616E646F6D)
    c, d = first ^ np.uint64(0x6C7967656E657261), second ^ np.uint64(0x7465646279746573)
    whole = s.size // 8 * 8
    for at in range(0, whole + 8, 8):
        word = (
            _load8(s, at) if at < whole else _load(s, whole, s.size - whole) | np.uint64(s.size & 255) << np.uint64(56)
        )
        d ^= word
        a, b, c, d = _round(a, b, c, d)
        a, b, c, d = _round(a, b, c, d)
        a ^= word
    c ^= np.uint64(0xFF)
    for _ in range(4):
        a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d
