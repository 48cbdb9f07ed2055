"""Twins of row_updates.py: optimizer steps on the rows of a table that have a gradient.

The content of `lists` differs from the CPU's: it has the int32 numbers of `by_row`, first rows and positions. The number of rows
in use varies from step to step, so there are threads for the largest possible number.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels import optimizers
from nbkeras.kernels.cuda.loops.map import inlined
from nbkeras.kernels.cuda.loops.rows import (
    begins_run,
    by_row,
    column_of_thread,
    grid_of_rows,
    row_of_thread,
    sum_pieces,
    with_run,
)
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function, kernel, start, start_each
from nbkeras.kernels.cuda.optimizers import constants
from nbkeras.kernels.runtime.device_array import DeviceArray

_updated_by_sgd, _updated_by_adagrad, _updated_by_rmsprop = map(
    inlined, (optimizers.sgd_rule, optimizers.adagrad_rule, optimizers.rmsprop_rule)
)
_faded_once, _faded_four_times = map(inlined, (optimizers.rmsprop_faded, optimizers.rmsprop_faded_four_times))


def _room(lists: DeviceArray) -> DeviceArray:
    n = lists.shape[1]
    return lists.reshape(-1).view(np.int32)[: 3 * n].reshape(3, n)


def group(indices, slots, count, lists):
    """Lists the positions in `indices` by row, for a table with slots.size rows."""
    by_row(indices, slots.size, _room(lists))


def _run(kernel: Kernel, lists: DeviceArray, dy: DeviceArray, w: DeviceArray, *args) -> None:
    """Starts a kernel on the rows in use."""
    rows, positions = _room(lists)[0], _room(lists)[1]
    sums = sum_pieces(dy, rows, positions, len(w))
    start(kernel, *grid_of_rows(*dy.shape), rows, positions, sums, dy, w, *args)


@kernel
def _sgd(rows, positions, sums, dy, w, rate):
    lr, zero = w.dtype.type(rate[0]), w.dtype.type(0)
    k = row_of_thread()
    if begins_run(rows, k, w.shape[0]):
        row = rows[k]
        j = column_of_thread()
        if j < dy.shape[1]:
            g = with_run(zero, dy, rows, positions, sums, k, j)
            w[row, j] = _updated_by_sgd(w[row, j], g, lr, zero, zero, zero)


def _sgd_rows(count, lists, dy, totals, w, rate):
    _run(_sgd, lists, dy, w, rate)


@kernel
def _adagrad(rows, positions, sums, dy, w, accumulator, rate, epsilon):
    lr, zero = w.dtype.type(rate[0]), w.dtype.type(0)
    k = row_of_thread()
    if begins_run(rows, k, w.shape[0]):
        row = rows[k]
        j = column_of_thread()
        if j < dy.shape[1]:
            g = with_run(zero, dy, rows, positions, sums, k, j)
            w[row, j], accumulator[row, j] = _updated_by_adagrad(
                w[row, j], g, accumulator[row, j], lr, zero, epsilon, zero, zero
            )


def _adagrad_rows(count, lists, dy, totals, w, accumulator, rate, epsilon):
    _run(_adagrad, lists, dy, w, accumulator, rate, w.dtype.type(epsilon))


@device_function
def _faded(v, updates, keep, tiny):
    """Returns v after `updates` steps of RMSprop with a gradient of 0."""
    zero = tiny - tiny
    while updates >= 4:
        before, v = v, _faded_four_times(v, keep, zero, tiny)
        if not (v < before or v > before):  # further steps change nothing: v is zero, for example
            return v
        updates -= 4
    while updates > 0:
        v = _faded_once(v, keep, zero, tiny)
        updates -= 1
    return v


@kernel
def _rmsprop(rows, positions, sums, dy, w, v, seen, clock, rate, numbers):
    lr, zero = w.dtype.type(rate[0]), w.dtype.type(0)
    keep, take, epsilon, tiny = numbers
    k = row_of_thread()
    if begins_run(rows, k, w.shape[0]):
        row = rows[k]
        missed = clock[0] - seen[row]
        j = column_of_thread()
        if j < dy.shape[1]:
            g = with_run(zero, dy, rows, positions, sums, k, j)
            square = _faded(v[row, j], missed, keep, tiny)
            w[row, j], v[row, j] = _updated_by_rmsprop(w[row, j], g, square, lr, zero, keep, take, epsilon, zero, tiny)


def _rmsprop_rows(count, lists, dy, totals, w, v, seen, clock, rate, rho, epsilon):
    _run(_rmsprop, lists, dy, w, v, seen, clock, rate, constants(w, rho, 1 - rho, epsilon))


# Catching up. Many threads read `clock`, so a separate kernel changes it afterwards.


@kernel
def _note(rows, seen, clock):
    k = cuda.grid(1)
    if begins_run(rows, k, seen.size):
        seen[rows[k]] = clock[0] + 1


@kernel
def _advance(clock):
    clock[0] += 1


def _tick(count, lists, seen, clock):
    rows = _room(lists)[0]
    start_each(_note, rows.size, rows, seen, clock)
    start(_advance, 1, 1, clock)


@kernel
def _fade(v, seen, clock, numbers):
    keep, tiny = numbers
    row = row_of_thread()
    if row < v.shape[0] and clock[0] != clock[1]:
        missed = clock[0] - seen[row]
        j = column_of_thread()
        if j < v.shape[1]:
            v[row, j] = _faded(v[row, j], missed, keep, tiny)


@kernel
def _note_all(seen, clock):
    row = cuda.grid(1)
    if row < seen.size:
        seen[row] = clock[0]


def _settle_rows(v, seen, clock, rho):
    start(_fade, *grid_of_rows(*v.shape), v, seen, clock, constants(v, rho))
    start_each(_note_all, seen.size, seen, clock)
