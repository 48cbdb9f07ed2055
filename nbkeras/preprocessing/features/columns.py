"""Floor 3: the columns of tables: dicts of arrays, DataFrames, lists of rows, and streams of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.data.tables import advice, columns_of, is_frame, table_array
from nbkeras.engine import tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.gaps import gaps_of, listed_rows, numbers_with_gaps, objects_of
from nbkeras.engine.strings import texts_of
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.preprocessing.features.missing import ERROR, Feature

Array = np.ndarray
_BATCH = 32  # the rows that Keras adapts to at a time; the bins of Discretization depend on it


def columns(data: Any, features: Mapping[str, Feature], where: str = "") -> dict[str, Any]:
    """The columns of a table by name: arrays of str and Tensors. Other columns, such as the target, are left out.

    Missing values become what the feature wants; in floats they become NaN, which a layer replaces. where: the end of messages.
    """
    if is_frame(data):
        data = dict(columns_of(data))
    if _is_rows(data):
        data = {name: [row.get(name) for row in data] for name in features if any(name in row for row in data)}
    if not isinstance(data, Mapping):
        raise TypeError(
            "FeatureSpace takes a dict of arrays or lists, a DataFrame or a list of dicts, received "
            f"{briefly(data)} of type {type(data).__name__}"
        )
    return {name: _column(name, data[name], features[name], where) for name in _present(data, features)}


def batches(data: Any, features: Mapping[str, Feature]) -> dict[str, list[Array]]:
    """The values that each column is adapted to: arrays (rows, n). A stream's batches stay as they are."""
    if is_frame(data) or isinstance(data, Mapping) or _is_rows(data):
        return {name: _cut(np.asarray(column)) for name, column in columns(data, features).items()}
    if not isinstance(data, Iterable):
        raise TypeError(
            "FeatureSpace.adapt takes a dict of arrays or lists, a DataFrame, a list of dicts or batches of dicts, received "
            f"{briefly(data)} of type {type(data).__name__}"
        )
    found: dict[str, list[Array]] = {name: [] for name in features}
    for number, item in enumerate(data):
        item = item[0] if isinstance(item, tuple) and item else item
        if not isinstance(item, Mapping) and not is_frame(item):
            raise TypeError(
                f"FeatureSpace.adapt takes batches that are dicts or DataFrames, received a batch {briefly(item)}"
            )
        for name, column in columns(item, features, f" of item {number}").items():
            found[name].append(np.asarray(column))
    return {name: list(_joined(parts)) for name, parts in found.items()}


def _is_rows(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(row, Mapping) for row in data)


def _present(data: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    names = list(names)
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"the table has no values for the features {missing}: its columns are {briefly(list(data))}")
    return names


def _column(name: str, values: Any, feature: Feature, where: str) -> Any:
    """The values of one column: an array of str, or a Tensor of numbers."""
    if isinstance(values, Tensor):
        return _checked(name, values, feature, where)
    is_table = hasattr(values, "to_numpy")  # a column of pandas or polars
    plain = np.asarray(values.to_numpy()) if is_table else values
    texts = texts_of(plain)
    if texts is not None:
        if feature.takes == "numbers":
            example = next(iter(texts.ravel()), "")
            raise TypeError(
                f"feature {name!r} takes numbers{where}, received strings such as {briefly(example)}: give it the type "
                "string_categorical or string_hashed, or make numbers of the column, by pandas.to_numeric"
            )
        return texts
    objects = objects_of(plain)
    gaps = gaps_of(objects)
    if gaps.any():
        if feature.missing == ERROR:
            raise _missing(name, gaps, feature, where)
        if feature.dtype == "string":
            filled = objects.astype(object)
            filled[gaps] = feature.token
            texts = texts_of(filled)
            if texts is not None:
                return texts
        else:
            plain, is_table = numbers_with_gaps(objects, gaps, plain), False
    if is_table and not _has_text(objects):
        return _checked(name, as_tensor(table_array(values, f"feature {name!r}")), feature, where)
    try:
        kind = np.asarray(plain).dtype.kind
    except ValueError:  # lists of different lengths
        kind = "O"
    if kind not in "fiub":
        raise TypeError(
            f"feature {name!r} must hold numbers or strings, one or equally many in each row, received {_shown(objects)}"
        )
    return _checked(name, as_tensor(plain), feature, where)


def _has_text(objects: Array) -> bool:
    return objects.dtype == object and any(isinstance(value, str) for value in objects.ravel().tolist())


def _shown(objects: Array) -> str:
    """The types of values that differ in type; else the values."""
    if objects.dtype.kind in "mM":
        return f"dtype {objects.dtype}: {advice(objects.dtype.name)}"
    kinds = sorted({type(value).__name__ for value in objects.ravel().tolist()})
    return f"values of the types {', '.join(kinds)}" if len(kinds) > 1 else briefly(objects.tolist())


def _checked(name: str, column: Tensor, feature: Feature, where: str) -> Tensor:
    """A column of numbers: floats for a feature of floats, and no gaps in others."""
    if feature.takes == "strings":
        raise TypeError(
            f"feature {name!r} takes strings{where}, received numbers of dtype {column.dtype}: give it the type "
            "integer_categorical or float_discretized, or make strings of the column, by .astype(str)"
        )
    is_float = feature.dtype.startswith("float")
    if column.dtype.kind in "iub" and is_float:
        return as_tensor(column, feature.dtype)
    if column.dtype.kind != "f" or tensor.is_step_recorded() or tensor.is_shapes_only():
        return column
    numbers = np.asarray(column)
    gaps = np.isnan(numbers)
    if not gaps.any():
        return column
    if feature.missing == ERROR:
        raise _missing(name, gaps, feature, where)
    if is_float:
        return column
    whole = np.where(gaps, 0, numbers)
    if (whole != np.trunc(whole)).any():
        raise TypeError(f"feature {name!r} must hold integers{where}, received {briefly(numbers.tolist())}")
    return as_tensor(np.where(gaps, feature.token, whole.astype(np.int64)))


def check_mean(name: str, parts: list[Array]) -> None:
    """Raise ValueError for infinite numbers, which have no mean."""
    if any(part.dtype.kind == "f" and np.isinf(part).any() for part in parts):
        rows = listed_rows(np.concatenate([np.isinf(part) for part in parts]))
        raise ValueError(
            f"feature {name!r} has infinite values in {rows}, so it has no mean: drop these rows, or replace the values, by "
            "frame.replace([numpy.inf, -numpy.inf], numpy.nan)"
        )


def _missing(name: str, gaps: Array, feature: Feature, where: str) -> ValueError:
    remedy = {"string": "'oov'", "float": "'mean', or a number"}.get(feature.dtype.rstrip("0123456789"), "'oov'")
    return ValueError(
        f"feature {name!r} has missing values (None or NaN) in {listed_rows(gaps)}{where}: drop these rows, fill the values, or "
        f"give the type of the feature missing={remedy}"
    )


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
