"""Floor 3: the columns of tables: dicts of arrays, DataFrames, lists of rows, and streams of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.data.tables import columns_of, is_frame, table_array
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import texts_of
from nbkeras.engine.tensor import Tensor, as_tensor

Array = np.ndarray
_BATCH = 32  # the rows that Keras adapts to at a time; the bins of Discretization depend on it


def columns(data: Any, names: Iterable[str]) -> dict[str, Any]:
    """The columns of a table by name: arrays of str and Tensors. Other columns, such as the target, are left out."""
    if is_frame(data):
        data = dict(columns_of(data))
    if _is_rows(data):
        data = {name: [row[name] for row in data] for name in names if all(name in row for row in data)}
    if not isinstance(data, Mapping):
        raise TypeError(
            "FeatureSpace takes a dict of arrays or lists, a DataFrame or a list of dicts, received "
            f"{briefly(data)} of type {type(data).__name__}"
        )
    return {name: _column(name, data[name]) for name in _present(data, names)}


def batches(data: Any, names: Iterable[str]) -> dict[str, list[Array]]:
    """The values that each column is adapted to: arrays (rows, n). A stream's batches stay as they are."""
    names = list(names)
    if is_frame(data) or isinstance(data, Mapping) or _is_rows(data):
        return {name: _cut(np.asarray(column)) for name, column in columns(data, names).items()}
    if not isinstance(data, Iterable):
        raise TypeError(
            "FeatureSpace.adapt takes a dict of arrays or lists, a DataFrame, a list of dicts or batches of dicts, received "
            f"{briefly(data)} of type {type(data).__name__}"
        )
    found: dict[str, list[Array]] = {name: [] for name in names}
    for item in data:
        item = item[0] if isinstance(item, tuple) and item else item
        if not isinstance(item, Mapping):
            raise TypeError(f"FeatureSpace.adapt takes batches that are dicts, received a batch {briefly(item)}")
        for name in _present(item, names):
            found[name].append(np.asarray(_column(name, item[name])))
    return {name: list(_joined(parts)) for name, parts in found.items()}


def _is_rows(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(row, Mapping) for row in data)


def _present(data: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    names = list(names)
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"the table has no values for the features {missing}: its columns are {briefly(list(data))}")
    return names


def _column(name: str, values: Any) -> Any:
    """The values of one column: an array of str, or a Tensor of numbers."""
    if isinstance(values, Tensor):
        return values
    is_table = hasattr(values, "to_numpy")  # a column of pandas or polars
    plain = np.asarray(values.to_numpy()) if is_table else values
    texts = texts_of(plain)
    if texts is not None:
        return texts
    if is_table and not (plain.dtype == object and any(isinstance(value, str) for value in plain)):
        return as_tensor(table_array(values, f"feature {name!r}"))
    try:
        kind = np.asarray(values).dtype.kind
    except ValueError:  # lists of different lengths
        kind = "O"
    if kind not in "fiub":
        raise TypeError(
            f"feature {name!r} must hold numbers or strings, one or equally many in each row, received {briefly(values)}: "
            "fill missing values first"
        )
    return as_tensor(values)


def _cut(column: Array) -> list[Array]:
    """The batches of a column that is in memory."""
    if column.ndim != 1:
        return list(_joined(list(column)))
    return [column[start : start + _BATCH, None] for start in range(0, len(column), _BATCH)]


def _joined(parts: list[Array]) -> Iterator[Array]:
    """Single values in batches; vectors as batches of one value in each row."""
    if parts and parts[0].ndim == 0:
        yield from _cut(np.stack(parts))
    else:
        yield from (part[:, None] if part.ndim == 1 else part for part in parts)
