"""Floor 3: converts pandas tables and sparse scipy matrices to arrays; imports neither, but recognizes them by their methods."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

_ADVICE = {
    "category": "use its numbers, table[{0!r}].cat.codes (for an Embedding), or one column per category, by pandas.get_dummies",
    "datetime": "subtract a date and use .dt.total_seconds(), or use columns such as .dt.year",
    "timedelta": "take .dt.total_seconds()",
}
_OF_TEXT = "convert it to numbers by a StringLookup layer, as a category, or by pandas.get_dummies; or drop the column"


def is_frame(x: Any) -> bool:
    """Whether x is a table with named columns, such as a DataFrame of pandas or polars."""
    return hasattr(x, "columns") and hasattr(x, "to_numpy")


def columns_of(frame: Any) -> list[tuple[Any, Any]]:
    """(name, column) of each column of a table."""
    return list(frame.items()) if hasattr(frame, "items") else [(name, frame[name]) for name in frame.columns]


def table_array(table: Any, what: str) -> Array:
    """The numbers in a DataFrame, (rows, columns), or in a Series, (rows,).

    The array has a dtype that holds the dtypes of all columns. Booleans become 0 and 1; missing values of pandas's nullable
    dtypes become NaN. Raises TypeError for other columns; the message says what to do.
    """
    if not is_frame(table):
        return _column(table, what, getattr(table, "name", None))
    plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in table.dtypes)
    if plain:
        return table.to_numpy()
    columns = [_column(column, f"{what}, column {name!r}", name) for name, column in columns_of(table)]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def advice(kind: str, column: Any = "name") -> str:
    """How to make numbers of a column of this dtype."""
    return next((text for start, text in _ADVICE.items() if kind.startswith(start)), _OF_TEXT).format(column)


def _column(column: Any, what: str, name: Any) -> Array:
    kind = getattr(column.dtype, "name", str(column.dtype))  # dtypes of polars have no name
    plain = getattr(column.dtype, "numpy_dtype", None)  # set for nullable and Arrow dtypes
    if isinstance(plain, np.dtype) and plain.kind in "fiub":
        return column.to_numpy(np.float64, na_value=np.nan) if column.isna().any() else column.to_numpy(plain)
    array = np.asarray(column.to_numpy())
    if array.dtype == object and kind != "category":
        array = np.asarray(array.tolist())
    if array.dtype.kind not in "fiub" or kind == "category":
        raise TypeError(f"{what} must hold numbers or booleans, received dtype {kind}: {advice(kind, name)}")
    return array


# -------------------- sparse matrices --------------------


class SparseRows:
    """A sparse scipy matrix as a leaf of a batch. It is sliced by rows like an array; `np.asarray(rows[3:5])` makes it dense."""

    ndim = 2

    def __init__(self, matrix: Any):
        self._matrix = matrix
        self.shape, self.dtype, self.values = matrix.shape, matrix.dtype, matrix.data

    def with_values(self, values: Array) -> SparseRows:
        """The same sparsity pattern with other values."""
        matrix = self._matrix
        return SparseRows(type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Array) -> SparseRows:
        return SparseRows(self._matrix[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self._matrix.toarray().astype(self.dtype if dtype is None else dtype, copy=False)
