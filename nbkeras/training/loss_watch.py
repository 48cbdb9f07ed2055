"""Floor 3: LossWatch looks into the data for the reason of a loss that is not finite, and warns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.data.adapters import DataAdapter
from nbkeras.data.tables import columns_of, is_frame
from nbkeras.engine import structures
from nbkeras.engine.batch import Batch
from nbkeras.engine.gaps import counted, listed_rows
from nbkeras.engine.user_errors import warn

Array = np.ndarray
_ROWS = 4096  # the rows that are read at the same time: sparse matrices become dense


class LossWatch:
    """Looks at data after the first loss that is not finite, once, and warns if the data are not finite either.

    Arrays are searched after such an epoch. The batches of a stream are gone then, so the loss is read after each of its batches.

    loss_of(result) -> the loss after a batch whose step returned `result`. x, y: the user's data, whose columns may have names.
    """

    def __init__(self, loss_of: Callable[[Any], Any], x: Any = None, y: Any = None):
        self._loss_of, self._given = loss_of, {"x": x, "y": y}
        self._has_looked = False

    def after_batch(self, result: Any, batch: Batch, number: int, kind: str) -> None:
        """Look at a batch of a stream. number: its index in the epoch. kind: 'train' or 'test'."""
        if not (self._has_looked or is_finite(self._loss_of(result))):
            self._look(batch, f"{_PLACE[kind]}in batch {number} (counted from 0) ")

    def after_epoch(self, loss: Any, data: DataAdapter, kind: str) -> None:
        """Look at arrays."""
        if data.whole is not None and not (self._has_looked or is_finite(loss)):
            self._look(data.whole, _PLACE[kind])

    def _look(self, batch: Batch, place: str) -> None:
        self._has_looked = True
        explain_loss(batch, place, **self._given)


_PLACE = {"train": "", "test": "in the evaluated data "}


def is_finite(loss: Any) -> bool:
    """Whether all numbers of a loss are finite. True for None, a loss that is not known."""
    # a fast path, which each batch of a stream takes
    if type(loss) is float or (type(loss) is np.ndarray and not loss.ndim):
        return math.isfinite(loss)
    return loss is None or bool(np.isfinite(np.asarray(loss)).all())


def explain_loss(batch: Batch, place: str = "", **given: Any) -> None:
    """Warn if the rows of a batch, whose loss is not finite, have NaN or infinite numbers. given: the user's x and y."""
    faults = [line for name, leaf in _named(batch) if (line := _fault(name, leaf, batch.rows, given.get(name)))]
    if faults:
        warn(
            f"the loss is NaN or infinite, and so are the data: {place}{'; '.join(faults)}. Drop these rows (frame.dropna()), or "
            "fill their values (scikit-learn's SimpleImputer, or missing='mean' of a FeatureSpace). If the weights have become "
            "NaN, make the model again"
        )


def _named(batch: Batch) -> Iterator[tuple[str, Any]]:
    """(name, leaf) of the inputs and targets of a batch: x, or x['age'] and x['income']. Sample weights are always finite."""
    layout = batch.layout
    names = [*_names(layout.x, "x")][: layout.inputs] + [*_names(layout.y, "y")][: layout.targets]
    return zip(names, batch.leaves, strict=False)


def _names(structure: Any, name: str) -> Iterator[str]:
    if not structures.is_nested(structure):
        yield name
        return
    for key, part in structures.parts(structure):
        yield from _names(part, f"{name}[{key!r}]")


def _fault(name: str, leaf: Any, rows: Any, given: Any) -> str | None:
    """How many numbers of an array are not finite, and where they are; None if all are finite."""
    if leaf is None or leaf.dtype.kind != "f":
        return None
    leaf, nans, infinite = leaf[rows], 0, 0
    wrong_rows = np.zeros(len(leaf), bool)
    wrong_columns = np.zeros(leaf.shape[1] if leaf.ndim == 2 else 0, bool)
    for start in range(0, len(leaf), _ROWS):
        part = np.asarray(leaf[start : start + _ROWS])
        wrong = ~np.isfinite(part)
        nans, infinite = nans + int(np.isnan(part).sum()), infinite + int(np.isinf(part).sum())
        wrong_rows[start : start + _ROWS] = wrong.reshape(len(wrong), -1).any(axis=1)
        if len(wrong_columns):
            wrong_columns |= wrong.any(axis=0)
    if not wrong_rows.any():
        return None
    columns = np.flatnonzero(wrong_columns).tolist() if len(wrong_columns) > 1 else []
    labels = [label for label, _ in columns_of(given)] if is_frame(given) else []
    shown = [repr(labels[i] if len(labels) == len(wrong_columns) else i) for i in columns[:5]]
    where = f" in column{'s' * (len(columns) > 1)} {', '.join(shown)}{', ...' * (len(columns) > 5)}," * bool(columns)
    return f"{name} has {counted(nans, infinite, math.prod(leaf.shape))}{where} in {listed_rows(wrong_rows)}"
