"""Embedding: gathering rows of a table by index, and adding gradients to them, both in a fixed order.

A negative index counts from the end. An index outside the table gives a row of NaN and no gradient, as in Keras on JAX:
nothing is read or written out of bounds, and the NaN makes the error visible.
"""

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray
# minimum elements of a share that gathers or adds rows; a share that clears has at least eight times as many
_SHARE = 8192
_COLUMNS = 32  # minimum columns for each share that adds rows, because each share reads all indices


def gather(table: Array, indices: Array):
    """Looks up rows: table (rows, width), int64 indices of any shape -> indices.shape + (width,)."""
    width = table.shape[1]
    y = device.empty((*indices.shape, width), table.dtype)
    flat = indices.reshape(-1)
    launch_shares(gather_rows, share_count(y.size, _SHARE), table, flat, y.reshape(flat.size, width))
    return y, (flat, table.shape)


@compiled
def gather_rows(table, indices, out, share, shares):
    """Kernel: out[i] = table[indices[i]]; computes a share of the indices."""
    rows = table.shape[0]
    for i in range(indices.size * share // shares, indices.size * (share + 1) // shares):
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


def gather_vjp(saved, dy, needs):
    indices, shape = saved
    return RowGradient(shape, ((indices, dy.reshape(indices.size, shape[1])),)), None


class RowGradient:
    """A table's gradient in sparse form: dy[i] (n, width) is added to row indices[i] (int64, (n,)); other rows are 0.

    parts: pairs of indices and dy, one per lookup. `dense` converts it to an array.
    """

    def __init__(self, shape: tuple, parts: tuple[tuple[Array, Array], ...]):
        self.shape, self.parts = shape, parts

    def joined(self, other: "RowGradient") -> "RowGradient":
        """The sum with the gradient of another lookup in the same table."""
        return RowGradient(self.shape, self.parts + other.parts)

    def dense(self, into: Array | None = None) -> Array:
        """The gradient as an array, written to `into` if it fits."""
        table = device.output(into, self.shape, self.parts[0][1].dtype)
        launch_shares(clear, share_count(table.size, 8 * _SHARE), table.reshape(-1))
        for indices, dy in self.parts:
            minimum = max(_SHARE, _COLUMNS * indices.size)
            launch_shares(add_rows, share_count(dy.size, minimum), dy, indices, table)
        return table

    def part(self) -> tuple[Array, Array]:
        """All indices and all dy, joined into one array each."""
        if len(self.parts) == 1:
            return self.parts[0]
        size, first = sum(indices.size for indices, _ in self.parts), 0
        all_indices, all_dy = (device.empty((size, *array.shape[1:]), array.dtype) for array in self.parts[0])
        for indices, dy in self.parts:
            device.launch(device.copy, indices, all_indices[first : first + indices.size])
            device.launch(device.copy, dy, all_dy[first : first + indices.size])
            first += indices.size
        return all_indices, all_dy


@compiled
def clear(x, share, shares):
    """Kernel: x = 0. It has shares, because filling a large table costs more than adding to a few of its rows."""
    first, last = stretch(x.size, share, shares)
    x = x[first:last]
    for i in range(x.size):
        x[i] = 0


@compiled
def add_rows(dy, indices, table, share, shares):
    """Kernel: table[indices[i]] += dy[i], in the order of i; a share is every shares-th row of the table.

    Shares of columns would take three times as long in total. Shares of neighbouring rows would have unequal work, because common
    words come first.
    """
    rows = table.shape[0]
    for i in range(indices.size):
        row = indices[i]
        row = row + rows if row < 0 else row
        if 0 <= row < rows and row % shares == share:
            source, target = dy[i], table[row]
            for j in range(target.size):
                target[j] += source[j]
