"""Optimizer steps on the rows of a table that have a gradient; the other rows catch up when they are next used.

For a row without gradient, SGD and Adagrad do nothing, and RMSprop multiplies v by rho. Missed steps follow later, one by one,
with the same roundings. So results equal the steps of optimizers.py on the whole table, bit for bit, if weights, slots and the
learning rate are finite and epsilon is positive.

Arguments: `gradient` a RowGradient, `w` weights (rows, width), `rate` float64 (1,). For slots that fade: `seen`, int64 (rows,),
the number of updates of each row; `clock`, int64 (2,), the number of updates so far, and their number when all rows were last up
to date.
"""

from collections.abc import Callable

import numpy as np

from nbkeras.kernels import optimizers
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.loops.emission import inlined
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_COLUMNS = 128  # max columns of a task: so several threads sum a row that occurs often


def sgd(gradient: RowGradient, w: Array, rate: Array) -> None:
    """Runs `optimizers.sgd` without decay on the rows in use."""
    _launch(_sgd_rows, *_grouped(gradient), w, rate)


def adagrad(gradient: RowGradient, w: Array, accumulator: Array, rate: Array, epsilon: float) -> None:
    """Runs `optimizers.adagrad` without decay on the rows in use."""
    _launch(_adagrad_rows, *_grouped(gradient), w, accumulator, rate, epsilon)


def rmsprop(
    gradient: RowGradient, w: Array, v: Array, seen: Array, clock: Array, rate: Array, rho: float, epsilon: float
) -> None:
    """Runs `optimizers.rmsprop` without decay on the rows in use, which first catch up on the updates that they missed."""
    count, lists, dy = _grouped(gradient)
    _launch(_rmsprop_rows, count, lists, dy, w, v, seen, clock, rate, rho, epsilon)
    device.launch(_tick, count, lists, seen, clock)


def settle(v: Array, seen: Array, clock: Array, rho: float) -> None:
    """Brings all rows up to date."""
    launch_shares(_settle_rows, share_count(v.size, optimizers.CHUNK), v, seen, clock, rho)
    device.launch(device.copy, clock[:1], clock[1:])


# The rows that have a gradient


def _grouped(gradient: RowGradient) -> tuple[Array, Array, Array]:
    """Returns `count` and `lists` of `group`, and dy."""
    indices, dy = gradient.part()
    slots, count, lists = (device.empty(shape, np.int64) for shape in (gradient.shape[:1], (1,), (3, indices.size)))
    device.launch(group, indices, slots, count, lists)
    return count, lists, dy


@compiled
def group(indices, slots, count, lists):
    """Kernel: lists the positions in `indices` by row, for a table with slots.size rows.

    lists[0, :count[0]]: the distinct rows in use; lists[1]: the first position of each; lists[2, i]: the next position after
    i for the same row, -1 at the end. A sparse set (Briggs & Torczon, 1993): `slots` need not be cleared, because an
    entry counts only if lists[0] confirms it.
    """
    unique, first, following = lists[0], lists[1], lists[2]
    rows, used = slots.size, 0
    for back in range(indices.size):
        i = indices.size - 1 - back
        row = indices[i]
        row = row + rows if row < 0 else row
        if 0 <= row < rows:
            u = slots[row]
            if not (0 <= u < used and unique[u] == row):
                u = used
                used += 1
                slots[row] = u
                unique[u] = row
                first[u] = -1
            following[i] = first[u]
            first[u] = i
    count[0] = used


# A task is a block of columns of a row in use; a share has a run of tasks. The rows in use differ from step to step, so the
# kernels read them from `count` and `lists`.


def _launch(kernel: Callable, count: Array, lists: Array, dy: Array, *args) -> None:
    shares = share_count(dy.size, optimizers.CHUNK)
    launch_shares(kernel, shares, count, lists, dy, device.empty((shares, _COLUMNS), dy.dtype), *args)


@compiled(inline="always")
def _pieces(dy):
    return (dy.shape[1] + _COLUMNS - 1) // _COLUMNS


@compiled(inline="always")
def _tasks(count, dy, share, shares):
    """Returns a share's first task, and its last task plus one."""
    tasks = count[0] * _pieces(dy)
    return tasks * share // shares, tasks * (share + 1) // shares


@compiled
def _sum_up(task, lists, dy, total):
    """Sums dy over the positions of a task's row, in order, into total. Returns the row and the range of columns."""
    u, first = task // _pieces(dy), task % _pieces(dy) * _COLUMNS
    last = min(dy.shape[1], first + _COLUMNS)
    position = lists[1, u]
    g = total[: last - first]
    for j in range(g.size):
        g[j] = 0
    while position >= 0:
        source = dy[position, first:last]
        for j in range(g.size):
            g[j] += source[j]
        position = lists[2, position]
    return lists[0, u], first, last


_sgd, _adagrad, _rmsprop = map(inlined, (optimizers.sgd_rule, optimizers.adagrad_rule, optimizers.rmsprop_rule))
_faded, _faded_four_times = map(inlined, (optimizers.rmsprop_faded, optimizers.rmsprop_faded_four_times))


@compiled
def _sgd_rows(count, lists, dy, totals, w, rate, share, shares):
    g, (first, last) = totals[share], _tasks(count, dy, share, shares)
    lr, zero = w.dtype.type(rate[0]), w.dtype.type(0)
    for task in range(first, last):
        row, a, b = _sum_up(task, lists, dy, g)
        weight = w[row, a:b]
        for j in range(weight.size):
            weight[j] = _sgd(weight[j], g[j], lr, zero)


@compiled
def _adagrad_rows(count, lists, dy, totals, w, accumulator, rate, epsilon, share, shares):
    g, (first, last) = totals[share], _tasks(count, dy, share, shares)
    real = w.dtype.type
    lr, zero, eps = real(rate[0]), real(0), real(epsilon)
    for task in range(first, last):
        row, a, b = _sum_up(task, lists, dy, g)
        weight, total = w[row, a:b], accumulator[row, a:b]
        for j in range(weight.size):
            weight[j], total[j] = _adagrad(weight[j], g[j], total[j], lr, zero, eps)


@compiled
def _rmsprop_rows(count, lists, dy, totals, w, v, seen, clock, rate, rho, epsilon, share, shares):
    g, (first, last) = totals[share], _tasks(count, dy, share, shares)
    real = w.dtype.type
    lr, zero, keep, take, eps = real(rate[0]), real(0), real(rho), real(1 - rho), real(epsilon)
    for task in range(first, last):
        row, a, b = _sum_up(task, lists, dy, g)
        weight, square = w[row, a:b], v[row, a:b]
        _fade(square, clock[0] - seen[row], rho)
        for j in range(weight.size):
            weight[j], square[j] = _rmsprop(weight[j], g[j], square[j], lr, zero, keep, take, eps)


# Catching up


@compiled
def _fade(v, updates, rho):
    """Takes `updates` steps of RMSprop with a gradient of 0. Each multiplies v by rho; v becomes 0 before it is subnormal."""
    keep = v.dtype.type(rho)
    for _ in range(updates // 4):
        changed = False
        for j in range(v.size):
            x = _faded_four_times(v[j], keep)
            changed |= x < v[j] or x > v[j]
            v[j] = x
        if not changed:  # further steps change nothing: v is all zeros, for example
            return
    for _ in range(updates % 4):
        for j in range(v.size):
            v[j] = _faded(v[j], keep)


@compiled
def _tick(count, lists, seen, clock):
    clock[0] += 1
    for u in range(count[0]):
        seen[lists[0, u]] = clock[0]


@compiled
def _settle_rows(v, seen, clock, rho, share, shares):
    if clock[0] != clock[1]:
        for row in range(len(v) * share // shares, len(v) * (share + 1) // shares):
            _fade(v[row], clock[0] - seen[row], rho)
            seen[row] = clock[0]
