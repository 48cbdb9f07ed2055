"""`tf.debugging`: checks that raise an error. Those of values read them, so a step with them is not recorded.

Shapes and dtypes of symbolic tensors are checked; values are checked where there are some.
"""

import collections.abc
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.compat.tensorflow.arrays import shape as shape_of
from nbkeras.compat.tensorflow.dtypes import as_dtype
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import is_shapes_only


def _values(*given: Any) -> list[np.ndarray]:
    """The values as arrays; none while only shapes are known."""
    if is_shapes_only() or any(isinstance(each, SymbolicTensor) for each in given):
        return []
    return [np.asarray(each) for each in given]


def _fail(message: Any, sentence: str) -> None:
    raise ValueError(f"{message}: {sentence}" if message else sentence)


def _comparing(words: str, holds: Callable, zero: bool = False) -> Callable[..., None]:
    """A check of a relation of all elements of two tensors, or of one and 0."""

    def check(x: Any, y: Any, message: Any = None, summarize: Any = None, name: Any = None) -> None:
        values = _values(x, y)
        if values and not np.all(holds(*values)):
            expected = words if zero else f"{words} those of the other tensor"
            received = briefly(x) if zero else f"{briefly(x)} and {briefly(y)}"
            _fail(message, f"expected all elements to be {expected}, received {received}")

    def check_sign(x: Any, message: Any = None, summarize: Any = None, name: Any = None) -> None:
        check(x, 0, message)

    return check_sign if zero else check


assert_equal = _comparing("equal to", np.equal)
assert_greater = _comparing("greater than", np.greater)
assert_greater_equal = _comparing("greater than or equal to", np.greater_equal)
assert_less = _comparing("less than", np.less)
assert_less_equal = _comparing("less than or equal to", np.less_equal)
assert_none_equal = _comparing("different from", np.not_equal)
assert_negative = _comparing("negative", np.less, zero=True)
assert_non_negative = _comparing("0 or positive", np.greater_equal, zero=True)
assert_non_positive = _comparing("0 or negative", np.less_equal, zero=True)
assert_positive = _comparing("positive", np.greater, zero=True)


def Assert(condition: Any, data: Any, summarize: Any = None, name: Any = None) -> None:
    """Check that a condition holds everywhere; the error shows the data."""
    if not all(np.all(value) for value in _values(condition)):
        _fail(None, f"expected the condition to hold, received {[briefly(each) for each in data]}")


def assert_near(
    x: Any, y: Any, rtol: Any = None, atol: Any = None, message: Any = None, summarize: Any = None, name: Any = None
) -> None:
    """Check that elements differ by at most atol + rtol * |y|; both are ten times the precision of the dtype by default."""
    if values := _values(x, y):
        a, b = values
        minimum = 10 * np.finfo(a.dtype if a.dtype.kind == "f" else np.float32).eps
        limit = (minimum if atol is None else atol) + (minimum if rtol is None else rtol) * np.abs(b)
        if not np.all(np.abs(a - b) <= limit):
            _fail(message, f"expected almost equal elements, received {briefly(x)} and {briefly(y)}")


def assert_all_finite(x: Any, message: Any, name: Any = None) -> Any:
    """The tensor, if all its elements are finite."""
    if not all(np.isfinite(value).all() for value in _values(x)):
        _fail(message, f"expected finite numbers, received {briefly(x)}")
    return x


check_numerics = assert_all_finite


def _shape(x: Any) -> tuple:
    found = shape_of(x)
    return found if isinstance(found, tuple) else tuple(found.tolist())


def _check_rank(x: Any, holds: bool, words: Any, message: Any) -> None:
    if not holds:
        _fail(message, f"expected a tensor with {words}, received shape {_shape(x)}")


def assert_rank(x: Any, rank: Any, message: Any = None, name: Any = None) -> None:
    """Check the number of axes."""
    _check_rank(x, len(_shape(x)) == int(rank), f"{int(rank)} axes", message)


def assert_rank_at_least(x: Any, rank: Any, message: Any = None, name: Any = None) -> None:
    """Check that there are this many axes, or more."""
    _check_rank(x, len(_shape(x)) >= int(rank), f"{int(rank)} axes or more", message)


def assert_rank_in(x: Any, ranks: Any, message: Any = None, name: Any = None) -> None:
    """Check that the number of axes is one of several."""
    _check_rank(x, len(_shape(x)) in [*map(int, ranks)], f"{briefly([*ranks])} axes", message)


def assert_scalar(tensor: Any, name: Any = None, message: Any = None) -> Any:
    """The tensor, if it has no axes."""
    assert_rank(tensor, 0, message)
    return tensor


def assert_shapes(shapes: Any, data: Any = None, summarize: Any = None, message: Any = None, name: Any = None) -> None:
    """Check pairs of a tensor and its shape: sizes, None, '*' or '.' for any size, or letters that mean the same size everywhere.

    An ellipsis, as `...` or `'*'`, at the start of a shape stands for any axes.
    """
    known: dict[Any, int] = {}
    for tensor, wanted in shapes.items() if isinstance(shapes, dict) else shapes:
        own, sizes = _shape(tensor), list(wanted) if np.ndim(wanted) or isinstance(wanted, str) else [wanted]
        if sizes and sizes[0] in (Ellipsis, "*"):
            sizes = sizes[1:]
            own = own[len(own) - len(sizes) :] if len(own) >= len(sizes) else own
        fits = len(own) == len(sizes)
        for size, letter in zip(own, sizes, strict=False):
            if letter not in (None, ".") and size is not None:
                number = int(letter) if str(letter).isdigit() else known.setdefault(letter, size)
                fits = fits and number == size
        if not fits:
            _fail(message, f"expected the shape {briefly(wanted)}, received {_shape(tensor)}; so far {known}")


def assert_type(tensor: Any, tf_type: Any, message: Any = None, name: Any = None) -> None:
    """Check the dtype."""
    if as_dtype(_dtype(tensor)) != as_dtype(tf_type):
        raise TypeError(f"{message or 'tf.debugging.assert_type'}: expected dtype {tf_type}, received {_dtype(tensor)}")


def assert_integer(x: Any, message: Any = None, name: Any = None) -> None:
    """Check that the dtype is one of integers."""
    if not as_dtype(_dtype(x)).is_integer:
        raise TypeError(f"{message or 'tf.debugging.assert_integer'}: expected integers, received dtype {_dtype(x)}")


def assert_same_float_dtype(tensors: Any = None, dtype: Any = None) -> Any:
    """The common dtype of tensors, which must be one of floats; float32 if there are none."""
    kinds = {as_dtype(_dtype(each)) for each in tensors or ()} | ({as_dtype(dtype)} if dtype is not None else set())
    if len(kinds) > 1 or not all(each.is_floating for each in kinds):
        raise ValueError(
            f"tf.debugging.assert_same_float_dtype: expected one dtype of floats, received {sorted(map(repr, kinds))}"
        )
    return next(iter(kinds), as_dtype(np.float32))


def assert_proper_iterable(values: Any) -> None:
    """Check that a value is a list, a tuple or another iterable, and not a tensor, an array or a string."""
    if not isinstance(values, collections.abc.Iterable) or hasattr(values, "dtype") or isinstance(values, str | bytes):
        raise TypeError(f"tf.debugging.assert_proper_iterable: expected a list or a tuple, received {briefly(values)}")


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether it is a tensor of numbers."""
    return hasattr(tensor, "dtype") and not isinstance(tensor, np.ndarray) and tensor.dtype.kind in "fiu"


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else ops.convert_to_tensor(x).dtype
