"""Data sets of the lines of text files, and of tables in CSV files."""

import csv
import glob
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nbkeras.compat.tensorflow.data import UNKNOWN, Dataset
from nbkeras.compat.tensorflow.dtypes import DType
from nbkeras.compat.tensorflow.texts import StringTensor, as_strings, holds_text, path_of
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.strings import STRING
from nbkeras.engine.tensor import as_tensor

_KINDS = (np.dtype("int32"), np.dtype("int64"), np.dtype("float32"), np.dtype("float64"))
_SHUFFLE_SIZE = 10_000
_CSV = "tf.data.experimental.make_csv_dataset"


def _paths(filenames: Any) -> list[str]:
    if isinstance(filenames, StringTensor):
        filenames = filenames.raw.ravel().tolist()
    return [path_of(each) for each in (filenames if isinstance(filenames, list | tuple | Dataset) else [filenames])]


def _content(path: str, compression: str | None) -> bytes:
    unpack: dict[str | None, Callable] = {"GZIP": gzip.decompress, "ZLIB": zlib.decompress}
    kind = one_of("tf.data", "compression_type", compression or None, (None, *unpack))
    with open(path, "rb") as file:
        return unpack[kind](file.read()) if kind else file.read()


class _Lines:
    """The lines of files, without their ends; the files are read in each iteration."""

    def __init__(self, paths: list[str], compression: str | None):
        self._paths, self._compression = paths, compression

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self._paths:
            lines = _content(path, self._compression).split(b"\n")
            for line in lines if lines[-1] else lines[:-1]:
                yield as_strings(line.removesuffix(b"\r")).given


class TextLineDataset(Dataset):
    """TensorFlow's data set of the lines of text files, strings.

    filenames: A path, several, or a data set of paths. compression_type: None, 'GZIP' or 'ZLIB'.
    """

    def __init__(
        self,
        filenames: Any,
        compression_type: Any = None,
        buffer_size: Any = None,
        num_parallel_reads: Any = None,
        name: Any = None,
    ):
        super().__init__(_Lines(_paths(filenames), compression_type), UNKNOWN)


def make_csv_dataset(
    file_pattern: Any,
    batch_size: int,
    column_names: Sequence[str] | None = None,
    column_defaults: Sequence | None = None,
    label_name: str | None = None,
    select_columns: Sequence | None = None,
    field_delim: str = ",",
    use_quote_delim: bool = True,
    na_value: str = "",
    header: bool = True,
    num_epochs: int | None = None,
    shuffle: bool = True,
    shuffle_buffer_size: int = _SHUFFLE_SIZE,
    shuffle_seed: int | None = None,
    prefetch_buffer_size: Any = None,
    num_parallel_reads: Any = None,
    sloppy: bool = False,
    num_rows_for_inference: int = 100,
    compression_type: str | None = None,
    ignore_errors: bool = False,
    encoding: str = "utf-8",
) -> Dataset:
    """Batches of the rows of CSV files: a dict with an array for each column, or a pair of it and the column `label_name`.

    The files are read once. num_epochs: how often the rows come; None for without end. A column has the dtype of its
    default, or of its first rows: int32, int64, float32, float64 or string.
    """
    patterns = _paths(file_pattern)
    paths = [path for pattern in patterns for path in sorted(glob.glob(pattern))]
    if not paths:
        raise ValueError(f"{_CSV}: no file matches {briefly(file_pattern)}")
    rows, names = [], list(column_names or ())
    for path in paths:
        text = _content(path, compression_type).decode(encoding)
        table = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=field_delim,
            quoting=csv.QUOTE_MINIMAL if use_quote_delim else csv.QUOTE_NONE,
        )
        first = next(table, []) if header else []
        names = names or first
        rows += [row for row in table if row]
    if not names:
        raise ValueError(f"{_CSV}: pass column_names for files without a header")
    wrong = next((row for row in rows if len(row) != len(names)), None)
    if wrong is not None and not ignore_errors:
        raise ValueError(f"{_CSV}: expected rows with the columns {names}, received {briefly(wrong)}")
    kept = [row for row in rows if len(row) == len(names)]
    selected = names if select_columns is None else select_columns
    chosen = [each if isinstance(each, str) else names[each] for each in selected]
    if column_defaults is not None and len(column_defaults) != len(chosen):
        raise ValueError(f"{_CSV}: expected column_defaults for {chosen}, received {briefly(column_defaults)}")
    defaults = dict(zip(chosen, column_defaults or (), strict=False))
    texts = {name: [row[names.index(name)] for row in kept] for name in chosen}
    columns = {
        name: _column(name, texts[name], defaults.get(name), na_value, num_rows_for_inference) for name in chosen
    }
    if label_name is not None and label_name not in columns:
        raise ValueError(f"{_CSV}: label_name must be one of {chosen}, received {briefly(label_name)}")
    labels = () if label_name is None else (columns.pop(label_name),)
    found = Dataset.from_tensor_slices((columns, *labels) if labels else columns)
    found = found.shuffle(shuffle_buffer_size, shuffle_seed) if shuffle else found
    return found.repeat(num_epochs).batch(batch_size, drop_remainder=num_epochs is None)


def _column(name: str, texts: list[str], default: Any, missing: str, count: int) -> np.ndarray:
    """The values of a column, in the dtype of its default or of its first rows."""
    empty = ("", missing)
    fill: Any = None  # a dtype as the default: each row must have a value
    if default is None:
        kind = _kind_of(texts[:count], empty)
        fill = "" if kind == STRING else 0
    elif default == STRING or isinstance(default, DType | np.dtype | type):
        kind = default
    else:
        kind, fill = (STRING if holds_text(default) else as_tensor(default).dtype), np.ravel(default)[0]
    if fill is None and any(text in empty for text in texts):
        raise ValueError(f"{_CSV}: column {name!r} has no default, and a row has no value for it")
    values = [fill if text in empty else text for text in texts]
    if kind == STRING:
        return np.array(values, object)
    dtype = np.dtype(kind)
    wrong = next((value for value in values if not _fits(value, dtype)), None)
    if wrong is not None:
        raise ValueError(f"{_CSV}: column {name!r} has dtype {dtype}, received {briefly(wrong)}")
    return np.array([dtype.type(value) for value in values], dtype)


def _kind_of(texts: list[str], empty: tuple) -> Any:
    """The first dtype that holds all numbers; strings if there is a text, or nothing."""
    numbers = [text for text in texts if text not in empty]
    return next((kind for kind in _KINDS if numbers and all(_fits(text, kind) for text in numbers)), STRING)


def _fits(text: Any, kind: np.dtype) -> bool:
    """Whether a dtype holds the number that a text spells."""
    try:
        number: Any = int(text) if kind.kind == "i" else float(text)
    except ValueError:
        return False
    limits: Any = np.iinfo(kind) if kind.kind == "i" else np.finfo(kind)
    return type(number)(limits.min) <= number <= type(number)(limits.max)
