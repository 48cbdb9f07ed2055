"""Scalar formulas for the states of a label sequence in CTC, which ctc.py and its twin share; see `device_module`.

`labels` are the labels of one sequence, s is a state, and a `total` is a log-probability.
"""

import math

import numpy as np

from nbkeras.kernels.runtime.cache import compiled


@compiled(inline="always")
def added(a, b):
    """Returns log(e^a + e^b)."""
    top, low = (a, b) if a > b else (b, a)
    return top if low == -math.inf else top + math.log1p(math.exp(low - top))


@compiled(inline="always")
def state_class(labels, s, blank):
    return np.int64(labels[s >> 1]) if s & 1 else np.int64(blank)


@compiled
def is_valid(labels, length, steps, time, classes):
    """True if lengths and labels are in range."""
    if not (0 <= length <= labels.size and 0 <= steps <= time):
        return False
    for i in range(length):
        if not 0 <= labels[i] < classes:
            return False
    return True


@compiled
def total_before(labels, before, s):
    """Returns the total of all paths to state s, from the totals of the states at the previous step."""
    total = before[s]
    if s > 0:
        total = added(total, before[s - 1])
    if s > 2 and s & 1 and labels[s >> 1] != labels[(s >> 1) - 1]:
        total = added(total, before[s - 2])
    return total


@compiled
def total_after(labels, later, p, s, states, blank):
    """Returns the total of all paths from state s on, from the totals at the next step. p: that step's log-probabilities."""
    total = later[s] + p[state_class(labels, s, blank)]
    if s + 1 < states:
        total = added(total, later[s + 1] + p[state_class(labels, s + 1, blank)])
    if s & 1 and s + 2 < states and labels[s >> 1] != labels[(s >> 1) + 1]:
        total = added(total, later[s + 2] + p[labels[(s >> 1) + 1]])
    return total


@compiled
def loss_of(last, length):
    """Returns the loss, from the totals of the states at the last step."""
    return -(added(last[2 * length], last[2 * length - 1]) if length > 0 else last[0])
