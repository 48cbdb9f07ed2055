"""Optimizer steps on the rows of a table that have a gradient; the others catch up exactly when they are next needed.

For a row without gradient SGD and Adagrad do nothing, and RMSprop multiplies v by rho: those steps are made up for
one by one, with the same roundings. So results equal those of the steps in kernels/optimizers.py on the whole table,
bit for bit, as long as weights, slots and the learning rate are finite and epsilon is positive.

Arguments: `gradient` a RowGradient, `w` weights (rows, width), `rate` float64 (1,). Of a slot that fades: `seen` int64
(rows,), up to which update each row is done; `clock` int64 (2,), the updates made, and those made when all rows were last
caught up.
"""

from collections.abc import Callable

import numpy as np
from numba import prange

from nbkeras.kernels import device, optimizers
from nbkeras.kernels.cache import compiled
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.optimizers import normal

Array = np.ndarray
_COLUMNS = 128  # most columns of a task: a row that many places share is shared among threads too
_TASK = 8192  # elements of a task's rows

_sgd, _adagrad, _rmsprop = optimizers.sgd.serial, optimizers.adagrad.serial, optimizers.rmsprop.serial


def sgd(gradient: RowGradient, w: Array, rate: Array) -> None:
    """`optimizers.sgd` without decay."""
    _launch(_sgd_rows, _sgd_rows_parallel, *_grouped(gradient), w, rate)


def adagrad(gradient: RowGradient, w: Array, accumulator: Array, rate: Array, epsilon: float) -> None:
    """`optimizers.adagrad` without decay."""
    _launch(_adagrad_rows, _adagrad_rows_parallel, *_grouped(gradient), w, accumulator, rate, epsilon)


def rmsprop(
    gradient: RowGradient, w: Array, v: Array, seen: Array, clock: Array, rate: Array, rho: float, epsilon: float
) -> None:
    """`optimizers.rmsprop` without decay; rows that missed updates make up for them first."""
    count, lists, dy = _grouped(gradient)
    _launch(_rmsprop_rows, _rmsprop_rows_parallel, count, lists, dy, w, v, seen, clock, rate, rho, epsilon)
    device.launch(_tick, count, lists, seen, clock)


# Which rows have a gradient


def _grouped(gradient: RowGradient) -> tuple[Array, Array, Array]:
    """`count` and `lists` of `group`, and dy."""
    indices, dy = gradient.part()
    place, count, lists = (device.empty(shape, np.int64) for shape in (gradient.shape[:1], (1,), (3, indices.size)))
    device.launch(group, indices, place, count, lists)
    return count, lists, dy


@compiled
def group(indices, place, count, lists):
    """Kernel: the places in `indices` listed by row of a table with place.size rows.

    lists[0, :count[0]]: the rows in use, each once; lists[1]: the first place of each; lists[2, i]: the next place after
    i of the same row, -1 at the end. A sparse set (Briggs & Torczon, 1993): `place` need not be cleared, since what it
    holds counts only if lists[0] confirms it.
    """
    unique, first, following = lists[0], lists[1], lists[2]
    rows, used = place.size, 0
    for back in range(indices.size):
        i = indices.size - 1 - back
        row = indices[i]
        row = row + rows if row < 0 else row
        if 0 <= row < rows:
            u = place[row]
            if not (0 <= u < used and unique[u] == row):
                u = used
                used += 1
                place[row] = u
                unique[u] = row
                first[u] = -1
            following[i] = first[u]
            first[u] = i
    count[0] = used


# Tasks: blocks of rows in use by blocks of columns. Which rows and how many differs from step to step, so the kernels
# read it from `count` and `lists`.


def _launch(serial: Callable, parallel: Callable, count: Array, lists: Array, dy: Array, w: Array, *args) -> None:
    places, width = dy.shape
    if dy.size < optimizers.PARALLEL_SIZE:
        device.launch(serial, 0, places, 0, width, count, lists, dy, device.empty((width,), dy.dtype), w, *args)
        return
    columns = min(width, _COLUMNS)
    block = max(1, _TASK // columns)
    most = -(-min(places, len(w)) // block) * -(-width // columns)
    device.launch(parallel, block, count, lists, dy, device.empty((most, columns), dy.dtype), w, *args)


@compiled(inline="always")
def _tasks(rows, block, width, columns):
    """How many tasks `rows` rows make."""
    return (rows + block - 1) // block * ((width + columns - 1) // columns)


@compiled(inline="always")
def _bounds(task, block, width, columns):
    """A task's first row in use and the one after its last, its first column and the one after its last."""
    pieces = (width + columns - 1) // columns
    first, column = task // pieces * block, task % pieces * columns
    return first, first + block, column, min(width, column + columns)


@compiled
def _add_up(place, following, dy, column, g):
    """g = the sum of dy over a row's places in their order, from `column` on."""
    for j in range(g.size):
        g[j] = 0
    while place >= 0:
        source = dy[place, column : column + g.size]
        for j in range(g.size):
            g[j] += source[j]
        place = following[place]


@compiled
def _sgd_rows(first, last, a, b, count, lists, dy, total, w, rate):
    g = total[: b - a]
    for u in range(first, min(last, count[0])):
        row = lists[0, u]
        _add_up(lists[1, u], lists[2], dy, a, g)
        _sgd(w[row, a:b], g, rate, 0.0)


@compiled(parallel=True)
def _sgd_rows_parallel(block, count, lists, dy, totals, w, rate):
    width, columns = w.shape[1], totals.shape[1]
    for task in prange(_tasks(count[0], block, width, columns)):
        first, last, a, b = _bounds(np.int64(task), block, width, columns)
        _sgd_rows(first, last, a, b, count, lists, dy, totals[task], w, rate)


@compiled
def _adagrad_rows(first, last, a, b, count, lists, dy, total, w, accumulator, rate, epsilon):
    g = total[: b - a]
    for u in range(first, min(last, count[0])):
        row = lists[0, u]
        _add_up(lists[1, u], lists[2], dy, a, g)
        _adagrad(w[row, a:b], g, accumulator[row, a:b], rate, 0.0, epsilon)


@compiled(parallel=True)
def _adagrad_rows_parallel(block, count, lists, dy, totals, w, accumulator, rate, epsilon):
    width, columns = w.shape[1], totals.shape[1]
    for task in prange(_tasks(count[0], block, width, columns)):
        first, last, a, b = _bounds(np.int64(task), block, width, columns)
        _adagrad_rows(first, last, a, b, count, lists, dy, totals[task], w, accumulator, rate, epsilon)


@compiled
def _rmsprop_rows(first, last, a, b, count, lists, dy, total, w, v, seen, clock, rate, rho, epsilon):
    g = total[: b - a]
    for u in range(first, min(last, count[0])):
        row = lists[0, u]
        _add_up(lists[1, u], lists[2], dy, a, g)
        _fade(v[row, a:b], clock[0] - seen[row], rho)
        _rmsprop(w[row, a:b], g, v[row, a:b], rate, 0.0, rho, epsilon)


@compiled(parallel=True)
def _rmsprop_rows_parallel(block, count, lists, dy, totals, w, v, seen, clock, rate, rho, epsilon):
    width, columns = w.shape[1], totals.shape[1]
    for task in prange(_tasks(count[0], block, width, columns)):
        first, last, a, b = _bounds(np.int64(task), block, width, columns)
        _rmsprop_rows(first, last, a, b, count, lists, dy, totals[task], w, v, seen, clock, rate, rho, epsilon)


# Catching up


@compiled
def _fade(v, updates, rho):
    """What `updates` steps of RMSprop with a gradient of 0 make of v: v *= rho each, and 0 before it is subnormal.

    Four at a time: where a number becomes subnormal on the way it is so at the end too, since none grows.
    """
    keep, tiny = v.dtype.type(rho), v.dtype.type(np.finfo(v.dtype).tiny)
    for _ in range(updates // 4):
        changed = False
        for j in range(v.size):
            x = normal(keep * (keep * (keep * (keep * v[j]))), tiny)
            changed |= x < v[j] or x > v[j]
            v[j] = x
        if not changed:  # zeros, for one
            return
    for _ in range(updates % 4):
        for j in range(v.size):
            v[j] = normal(keep * v[j], tiny)


@compiled
def _tick(count, lists, seen, clock):
    clock[0] += 1
    for u in range(count[0]):
        seen[lists[0, u]] = clock[0]


@compiled(parallel=True)
def settle(v, seen, clock, rho):
    """Kernel: catch up all rows."""
    if clock[0] != clock[1]:
        for row in prange(v.shape[0]):
            _fade(v[row], clock[0] - seen[row], rho)
            seen[row] = clock[0]
        clock[1] = clock[0]
