"""Writes rows at integer positions, and finds positions in sorted arrays: scatter, segments, searchsorted.

The kernels use NumPy and run on the CPU. `how`: the ufunc that combines rows at the same position; None keeps the last row.
"""

from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device

Array = np.ndarray


def row_numbers(indices: Array, sizes: tuple[int, ...]):
    """Returns the row number of each index tuple of (m, k), in an array whose first k axes have these sizes."""
    rows = device.empty(indices.shape[:1], np.int64)
    device.launch(number_rows, indices, sizes, rows)
    return rows, None


@device.host
def number_rows(indices: Array, sizes: tuple[int, ...], out: Array) -> None:
    """Kernel: see `row_numbers`."""
    bounds = np.array(sizes, np.int64)
    if indices.size and ((indices < -bounds) | (indices >= bounds)).any():
        raise IndexError(
            f"indices must lie within axes of sizes {sizes}, received {indices.min(0).tolist()} to {indices.max(0).tolist()}"
        )
    out[...] = np.ravel_multi_index(tuple((indices % bounds).T), sizes) if indices.size else 0


def combine(x: Array, rows: Array, updates: Array, how: np.ufunc | None):
    """Returns x (n, d) after updates (m, d) are written to its rows or combined with them. Rows out of range are ignored."""
    y = device.empty(x.shape, x.dtype)
    device.launch(combine_rows, x, rows, updates, how, y)
    return y, (x, rows, updates, y, how)


@device.host
def combine_rows(x: Array, rows: Array, updates: Array, how: np.ufunc | None, y: Array) -> None:
    """Kernel: see `combine`."""
    inside = (rows >= 0) & (rows < len(x))
    y[...] = x
    if how is None:
        y[rows[inside]] = updates[inside]
    else:
        how.at(y, rows[inside], updates[inside])


def combine_vjp(saved, dy, needs):
    """Written rows get dy. Equal extrema share it. A factor gets dy times the product of the others, also if there are zeros."""
    x, rows, updates, y, how = saved
    dx = device.output(needs[0], x.shape, dy.dtype)
    dupdates = device.output(needs[2], updates.shape, dy.dtype)
    device.launch(combine_slopes, x, rows, updates, y, how, dy, dx, dupdates)
    return None if needs[0] is False else dx, None, None if needs[2] is False else dupdates


@device.host
def combine_slopes(x, rows, updates, y, how, dy, dx, dupdates) -> None:
    """Kernel: see `combine_vjp`."""
    old_share: Array | np.bool_
    new_share: Array | np.bool_
    inside = np.flatnonzero((rows >= 0) & (rows < len(x)))
    at, new = rows[inside], updates[inside]
    if how is None:
        written = np.full(len(x), -1)
        written[at] = inside
        old_share, new_share = (written < 0)[:, None], (written[at] == inside)[:, None]
    elif how is np.add:
        old_share, new_share = np.True_, np.True_
    elif how is np.multiply:
        products = np.ones_like(x)
        np.multiply.at(products, at, new)
        order = np.argsort(at, kind="stable")
        rows, factors, others = at[order], new[order], np.empty_like(new)
        after = _products_before(rows[::-1], factors[::-1])[::-1]
        others[order] = _products_before(rows, factors) * after
        old_share, new_share = products, x[at] * others
    else:
        count = (x == y).astype(x.dtype)
        np.add.at(count, at, new == y[at])
        old_share, new_share = (x == y) / count, (new == y[at]) / count[at]
    dx[...] = dy * old_share
    dupdates[...] = 0
    dupdates[inside] = dy[at] * new_share


def _products_before(rows: Array, factors: Array) -> Array:
    """Returns the product of the earlier factors of the same row, in log2(n) steps; equal rows are neighbours.

    A quotient of two products would be NaN for a factor 0 or infinity, and 0 or infinity for small or large ones.
    """
    products, distance = np.ones_like(factors), 1
    products[1:] = np.where((rows[1:] == rows[:-1])[:, None], factors[:-1], 1)
    while distance < len(rows):
        same = (rows[distance:] == rows[:-distance])[:, None]
        products[distance:] *= np.where(same, products[:-distance], 1)
        distance *= 2
    return products


# -------------------- searching sorted arrays --------------------


def search(sorted_values: Array, values: Array, side: str):
    """Returns where to insert values in a sorted vector, int32. side: before ('left') or after ('right') equal elements."""
    y = device.empty(values.shape, np.int32)
    device.launch(search_sorted, sorted_values, values, side, y)
    return y, None


@device.host
def search_sorted(sorted_values: Array, values: Array, side: Any, out: Array) -> None:
    """Kernel: see `search`."""
    out[...] = np.searchsorted(sorted_values, values, side)
