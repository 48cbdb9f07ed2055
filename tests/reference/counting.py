"""Counting how often Python runs a function: a step's Python runs once for each recording and not when it is replayed."""

import functools


def counted(function):
    """The function with `calls`, which counts its calls."""

    @functools.wraps(function)
    def counting(*args, **kwargs):
        counting.calls += 1
        return function(*args, **kwargs)

    counting.calls = 0
    return counting
