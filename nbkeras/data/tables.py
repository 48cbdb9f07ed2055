"""Floor 3: tables of pandas and sparse matrices of scipy as arrays. Neither is imported: they are known by their methods."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

_ADVICE = {
    "category": "take its numbers, table[{0!r}].cat.codes, say for an Embedding, or a column for each, by pandas.get_dummies",
    "datetime": "subtract a date and take .dt.total_seconds(), or columns as .dt.year",
    "timedelta": "take .dt.total_seconds()",
}
_OF_TEXT = (
    "make numbers of it, by a StringLookup layer, as a category, or by pandas.get_dummies; or leave the column out"
)


def is_frame(x: Any) -> bool:
    """Whether x is a table with named columns, as pandas's and polars's DataFrame."""
    return hasattr(x, "columns") and hasattr(x, "to_numpy")


def columns_of(frame: Any) -> list[tuple[Any, Any]]:
    """(name, column) of each column of a table."""
    return list(frame.items()) if hasattr(frame, "items") else [(name, frame[name]) for name in frame.columns]


def table_array(table: Any, what: str) -> Array:
    """The numbers in a DataFrame, (rows, columns), or in a Series, (rows,).

    Columns of several dtypes meet in the one that holds all; booleans are 0 and 1, missing values of pandas's nullable dtypes
    NaN. TypeError for columns of anything else, with what to do.
    """
    if not is_frame(table):
        return _column(table, what, getattr(table, "name", None))
    plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in table.dtypes)
    if plain:
        return table.to_numpy()
    columns = [_column(column, f"{what}, column {name!r}", name) for name, column in columns_of(table)]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def _column(column: Any, what: str, name: Any) -> Array:
    kind = getattr(column.dtype, "name", str(column.dtype))  # of pandas's dtypes; those of polars have no name
    plain = getattr(column.dtype, "numpy_dtype", None)  # of the dtypes that can have missing values, and of Arrow's
    if isinstance(plain, np.dtype) and plain.kind in "fiub":
        return column.to_numpy(np.float64, na_value=np.nan) if column.isna().any() else column.to_numpy(plain)
    array = np.asarray(column.to_numpy())
    if array.dtype == object and kind != "category":
        array = np.asarray(array.tolist())
    if array.dtype.kind not in "fiub" or kind == "category":
        advice = next((text for start, text in _ADVICE.items() if kind.startswith(start)), _OF_TEXT)
        raise TypeError(f"{what} must hold numbers or booleans, received dtype {kind}: {advice.format(name)}")
    return array


# -------------------- sparse matrices --------------------


class SparseRows:
    """A sparse matrix of scipy as a batch's leaf: sliced by rows as an array is, and dense only as `np.asarray(rows[3:5])`."""

    ndim = 2

    def __init__(self, matrix: Any):
        self._matrix = matrix
        self.shape, self.dtype, self.values = matrix.shape, matrix.dtype, matrix.data

    def with_values(self, values: Array) -> SparseRows:
        """The same sparsity pattern with other numbers."""
        matrix = self._matrix
        return SparseRows(type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """The number of elements, zeros included."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, rows: slice | Array) -> SparseRows:
        return SparseRows(self._matrix[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self._matrix.toarray().astype(self.dtype if dtype is None else dtype, copy=False)
