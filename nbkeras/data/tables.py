"""Floor 3: converts pandas tables and sparse scipy matrices to arrays; imports neither, but recognizes them by their methods."""

from __future__ import annotations

import re
from datetime import date
from numbers import Real
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.gaps import gaps_of, is_missing, numbers_with_gaps, objects_of

Array = np.ndarray

_ADVICE = {
    "category": "use its numbers, table[{0!r}].cat.codes (for an Embedding), or one column per category, by pandas.get_dummies",
    "datetime": "subtract a date and use .dt.total_seconds(), or use columns such as .dt.year",
    "timedelta": "take .dt.total_seconds()",
    "period": "use columns such as .dt.year",
    "date": "convert them by pandas.to_datetime, then use columns such as .dt.year",
    "number": "make numbers of them by pandas.to_numeric(table[{0!r}], errors='coerce'), which makes NaN of other values",
    "thousands": "read them by pandas.read_csv(..., thousands=',')",
    "label": "make class numbers of labels, by a comparison with one of them, or by .astype('category').cat.codes",
}
_OF_TEXT = "convert it to numbers by a StringLookup layer, as a category, or by pandas.get_dummies; or drop the column"
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[-+]?\d{1,3}(,\d{3})+(\.\d*)?\s*")


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
    columns = [_column(column, f"{what}, column {name!r}", name, in_table=True) for name, column in columns_of(table)]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def advice(kind: str, column: Any = None) -> str:
    """How to make numbers of a column of this dtype, or of values of this kind."""
    text = next((text for start, text in _ADVICE.items() if kind.startswith(start)), _OF_TEXT)
    return text.format("name" if column is None else column)


def _column(column: Any, what: str, name: Any, in_table: bool = False) -> Array:
    """The numbers of a column. in_table: it becomes a column of a matrix, so its rows may not be vectors."""
    kind = getattr(column.dtype, "name", str(column.dtype))  # dtypes of polars have no name
    plain = getattr(column.dtype, "numpy_dtype", None)  # set for nullable and Arrow dtypes
    if isinstance(plain, np.dtype) and plain.kind in "fiub":
        return column.to_numpy(np.float64, na_value=np.nan) if column.isna().any() else column.to_numpy(plain)
    array = np.asarray(column.to_numpy())
    if array.dtype == object and kind != "category":
        gaps = gaps_of(array)
        array = numbers_with_gaps(array, gaps, array) if gaps.any() else objects_of(array.tolist())
    if array.dtype.kind not in "fiub" or kind == "category" or (in_table and array.ndim > 1):
        raise _refusal(array, kind, what, name, in_table)
    return array


def _refusal(array: Array, kind: str, what: str, name: Any, in_table: bool) -> Exception:
    """The error for a column that does not hold numbers. It shows the first value that is not one."""
    is_known = any(kind.startswith(start) for start in _ADVICE)
    values = [] if is_known or (array.dtype != object and array.ndim == 1) else array.tolist()
    wrong = [(row, value) for row, value in enumerate(values) if not (isinstance(value, Real) or is_missing(value))]
    if not wrong:
        return TypeError(f"{what} must hold numbers or booleans, received dtype {kind}: {advice(kind, name)}")
    row, value = wrong[0]
    if isinstance(value, list | tuple | np.ndarray):
        if not in_table:
            return ValueError("lists of different lengths")
        return TypeError(
            f"{what} must hold a number in each row, received {briefly(value)} in row {row} (counted from 0): give the model an "
            "input of its own for lists, and stack them, by numpy.stack"
        )
    has_numbers = any(isinstance(each, Real) and not is_missing(each) for each in values)
    if isinstance(value, date):
        kind = "date"
    elif isinstance(value, str) and _THOUSANDS.fullmatch(value):
        kind = "thousands"
    elif has_numbers or (_NUMBER.fullmatch(value) if isinstance(value, str) else hasattr(value, "__float__")):
        kind = "number"
    elif what == "y":
        kind = "label"
    received = f"{briefly(value)} in row {row} (counted from 0)"
    return TypeError(f"{what} must hold numbers or booleans, received {received}: {advice(kind, name)}")


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
