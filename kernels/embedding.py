"""Embedding: rows of a table gathered by index, and gradients added back to them, both in a fixed order.

An index counts from the end where it is negative; outside the table it gives a row of NaN and no gradient, as Keras on JAX
does: nothing is read or written out of bounds, and the NaN shows.
"""

import numpy as np
from numba import prange

from nbkeras.kernels import device
from nbkeras.kernels.cache import compiled

Array = np.ndarray
_TASK = 16384  # elements moved by one task
_COLUMNS = 32  # least number of columns of a task that adds gradients: whole cache lines


def gather(table: Array, indices: Array):
    """table (rows, width), int64 indices of any shape -> indices.shape + (width,)."""
    width = table.shape[1]
    y = device.empty((*indices.shape, width), table.dtype)
    flat = indices.reshape(-1)
    rows_per_task = max(1, _TASK // max(1, width))
    if flat.size > rows_per_task:
        device.launch(gather_parallel, table, flat, rows_per_task, y.reshape(flat.size, width))
    else:
        device.launch(gather_rows, table, flat, 0, flat.size, y.reshape(flat.size, width))
    return y, (flat, table.shape)


@compiled
def gather_rows(table, indices, first, last, out):
    """Kernel: out[i] = table[indices[i]] for first <= i < last."""
    rows = table.shape[0]
    for i in range(first, last):
        row = indices[i]
        row = row + rows if row < 0 else row
        target = out[i]
        if 0 <= row < rows:
            source = table[row]
            for j in range(target.size):
                target[j] = source[j]
        else:
            for j in range(target.size):
                target[j] = np.nan


@compiled(parallel=True)
def gather_parallel(table, indices, count, out):
    """Kernel: `gather_rows`, `count` rows a task."""
    for task in prange((indices.size + count - 1) // count):
        first = np.int64(task) * count
        gather_rows(table, indices, first, min(indices.size, first + count), out)


def gather_vjp(saved, dy, needs):
    indices, shape = saved
    return RowGradient(shape, ((indices, dy.reshape(indices.size, shape[1])),)), None


class RowGradient:
    """A table's gradient before it is added up: 0 but for `dy[i]`, (n, width), added to row `indices[i]`, int64 (n,).

    parts: pairs of indices and dy, one for each lookup. Who needs an array asks for `dense`.
    """

    def __init__(self, shape: tuple, parts: tuple[tuple[Array, Array], ...]):
        self.shape, self.parts = shape, parts

    def joined(self, other: "RowGradient") -> "RowGradient":
        """The sum with the gradient of another lookup in the same table."""
        return RowGradient(self.shape, self.parts + other.parts)

    def dense(self, into: Array | None = None) -> Array:
        """The gradient as an array, `into` if it fits."""
        table = device.output(into, self.shape, self.parts[0][1].dtype)
        if table.size > _TASK:
            device.launch(clear_parallel, table.reshape(-1))
        else:
            device.launch(device.fill, table, 0)
        width = self.shape[1]
        columns = max(_COLUMNS, -(-width // (8 * _COLUMNS)) * _COLUMNS)
        for indices, dy in self.parts:
            if dy.size > _TASK and width > columns:
                device.launch(add_parallel, dy, indices, columns, table)
            else:
                device.launch(add_columns, dy, indices, 0, width, table)
        return table

    def part(self) -> tuple[Array, Array]:
        """All indices and all dy, each in one array."""
        if len(self.parts) == 1:
            return self.parts[0]
        size, first = sum(indices.size for indices, _ in self.parts), 0
        all_indices, all_dy = (device.empty((size, *array.shape[1:]), array.dtype) for array in self.parts[0])
        for indices, dy in self.parts:
            device.launch(device.copy, indices, all_indices[first : first + indices.size])
            device.launch(device.copy, dy, all_dy[first : first + indices.size])
            first += indices.size
        return all_indices, all_dy


@compiled(parallel=True)
def clear_parallel(x):
    """Kernel: x = 0; in pieces, since filling a large table costs more than adding to its few rows."""
    piece = 65536
    for task in prange((x.size + piece - 1) // piece):
        part = x[task * piece : (task + 1) * piece]
        for i in range(part.size):
            part[i] = 0


@compiled
def add_columns(dy, indices, first, last, table):
    """Kernel: table[indices[i]] += dy[i], in the order of i, in the columns first <= j < last."""
    rows = table.shape[0]
    for i in range(indices.size):
        row = indices[i]
        row = row + rows if row < 0 else row
        if 0 <= row < rows:
            source = dy[i, first:last]
            target = table[row, first:last]
            for j in range(target.size):
                target[j] += source[j]


@compiled(parallel=True)
def add_parallel(dy, indices, count, table):
    """Kernel: `add_columns`, `count` columns a task, so that no two tasks write to one place."""
    width = table.shape[1]
    for task in prange((width + count - 1) // count):
        first = np.int64(task) * count
        add_columns(dy, indices, first, min(width, first + count), table)
