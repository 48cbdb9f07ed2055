"""Kernels of exported libraries that train: they refuse inputs and states, and seed random numbers.

A kernel that refuses raises an exception, which ends the library's function with an error code before anything is written.
"""

import numpy as np

from nbkeras.kernels.runtime.cache import compiled


@compiled
def check_finite(x):
    """Kernel: raises ValueError for an infinite or NaN element of x, 1-D."""
    found = 0
    for i in range(x.size):
        found |= not x[i] - x[i] == 0  # without a branch LLVM vectorises it
    if found:
        raise ValueError("an element is not finite")


@compiled
def check_within(x, low, high, ignored):
    """Kernel: raises ValueError for an element of x, 1-D, that is neither `ignored` nor from `low` to `high`."""
    found = 0
    for i in range(x.size):
        found |= not (low <= x[i] <= high or x[i] == ignored)  # this is true for NaN
    if found:
        raise ValueError("an element is out of range")


@compiled
def check_words(words, expected):
    """Kernel: raises ValueError if two int64 arrays differ."""
    for i in range(expected.size):
        if words[i] != expected[i]:
            raise ValueError("the words differ")


@compiled
def write_words(words, target):
    """Kernel: target = words, int64."""
    for i in range(words.size):
        target[i] = words[i]


@compiled
def reseed(state, seed):
    """Kernel: combines a generator's state, uint32 (2,), with a seed, int64 (1,); 0 changes nothing."""
    state[0] ^= np.uint32(seed[0] ^ (seed[0] >> 32))
