"""Prepares NumPy data for a model: one-hot labels, rows of unit length, padded sequences."""

from typing import Any

import numpy as np

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.tensor import Tensor


def to_categorical(x, num_classes: int | None = None, dtype: Any = None) -> np.ndarray:
    """One-hot rows of class numbers.

    Args:
        x: Class numbers from 0: an array or list of shape (...) or (..., 1).
        num_classes: The number of columns; None for the largest class + 1.
        dtype: The dtype of the result; None for float64, and for `config.floatx()` if x is a tensor.

    Returns:
        An array (..., num_classes) with a 1 in the column of each class and 0 elsewhere.

    Raises:
        ValueError: for classes that are negative, not integers or too large, and for an empty x without
            num_classes.

    Example:
        >>> keras.utils.to_categorical([0, 2, 1])
        array([[1., 0., 0.],
               [0., 0., 1.],
               [0., 1., 0.]])
    """
    dtype = dtype or (settings.floatx() if isinstance(x, Tensor) else "float64")
    classes = np.asarray(x)
    if classes.dtype.kind not in "fiub":
        raise ValueError(f"to_categorical expects class numbers, received {classes.dtype} values")
    if classes.dtype.kind == "f" and not np.all(np.isfinite(classes) & (classes == np.trunc(classes))):
        raise ValueError(
            "to_categorical expects integer class numbers, received values with a fraction, NaN or infinity"
        )
    shape = classes.shape[:-1] if classes.ndim > 1 and classes.shape[-1] == 1 else classes.shape
    classes = array_of(classes, np.int64).reshape(-1)
    if not num_classes and classes.size == 0:
        raise ValueError("to_categorical needs num_classes if there are no labels to count them from")
    low, high = (int(classes.min()), int(classes.max())) if classes.size else (0, 0)
    count = int(num_classes) if num_classes else high + 1
    if low < 0 or high >= count:
        raise ValueError(
            f"to_categorical expects classes from 0 to num_classes - 1 = {count - 1}, received {low} to {high}; "
            "labels that start at 1 need 1 subtracted"
        )
    result = np.zeros((classes.size, count), dtype)
    result[np.arange(classes.size), classes] = 1
    return result.reshape(*shape, count)


def normalize(x, axis: int = -1, order: int = 2) -> np.ndarray:
    """Divide x by its norm along an axis.

    Args:
        x: An array of numbers.
        axis: The axis along which the norm is computed.
        order: The order of the norm: 2 for Euclidean, 1 for the sum of magnitudes, np.inf for the largest.

    Returns:
        An array with x's shape; where the norm is 0, x is unchanged.

    Example:
        >>> keras.utils.normalize([[3.0, 4.0], [0.0, 0.0]])
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    x = np.asarray(x)
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norm == 0, 1, norm)


def pad_sequences(
    sequences,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Combine sequences of any lengths into one array.

    Args:
        sequences: A list of sequences of numbers, or of arrays with one shape.
        maxlen: The number of timesteps to pad or cut to; None for the length of the longest sequence.
        dtype: The dtype of the result.
        padding: 'pre' to pad at the start, 'post' at the end.
        truncating: 'pre' to cut at the start, 'post' at the end.
        value: The number to pad with.

    Returns:
        An array (len(sequences), maxlen, ...).

    Raises:
        ValueError: for anything but a list of sequences, and for timesteps of different shapes.

    Example:
        >>> keras.utils.pad_sequences([[1, 2, 3, 4], [5]], maxlen=3)
        array([[2, 3, 4],
               [0, 0, 5]], dtype=int32)
    """
    for what, side in (("padding", padding), ("truncating", truncating)):
        one_of("pad_sequences", what, side, ("pre", "post"))
    if not hasattr(sequences, "__len__"):
        raise ValueError(f"pad_sequences expects a list of sequences, received {briefly(sequences)}")
    for i, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(f"pad_sequences expects a list of sequences, received {briefly(sequence)} at position {i}")
    if maxlen is None:
        maxlen = max((len(s) for s in sequences), default=0)
    shape = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    result = np.full((len(sequences), maxlen, *shape), value, dtype)
    for i, sequence in enumerate(sequences):
        if not len(sequence) or not maxlen:
            continue
        kept = np.asarray(sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen], dtype)
        if kept.shape[1:] != shape:
            raise ValueError(f"the sequence at position {i} has steps of shape {kept.shape[1:]}, expected {shape}")
        if padding == "post":
            result[i, : len(kept)] = kept
        else:
            result[i, maxlen - len(kept) :] = kept
    return result
