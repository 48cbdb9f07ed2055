"""`tf.math`: TensorFlow's names of nbkeras's elementwise functions, reductions and sums over segments."""

import builtins
import functools
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.compat.tensorflow.dtypes import as_dtype
from nbkeras.compat.tensorflow.shapes import takes_sizes
from nbkeras.compat.tensorflow.spelling import spell, spelled
from nbkeras.compat.tensorflow.texts import raw_of, takes_strings
from nbkeras.engine.tensor import Tensor, as_tensor

spell(
    globals(),
    {
        "x": (
            "abs:absolute acos:arccos acosh:arccosh asin:arcsin asinh:arcsinh atan:arctan atanh:arctanh ceil cos cosh "
            "erf erfc erfinv exp expm1 floor is_finite:isfinite is_inf:isinf is_nan:isnan log log1p log_sigmoid "
            "logical_not negative reciprocal round rsqrt sigmoid sign sin sinh sqrt square tan tanh"
        ),
        "x:x1 y:x2": (
            "add divide truediv:divide divide_no_nan floordiv:floor_divide floormod:mod mod greater greater_equal less "
            "less_equal logical_and logical_or logical_xor maximum minimum multiply pow:power subtract"
        ),
        "y:x1 x:x2": "atan2:arctan2",
        "targets predictions k": "in_top_k",
        "logits:x axis": "log_softmax softmax",
        "input_tensor:x axis keepdims": (
            "reduce_all:all reduce_any:any reduce_logsumexp:logsumexp reduce_max:max reduce_min:min reduce_std:std "
            "reduce_sum:sum reduce_variance:var"
        ),
        "scalar:x1 x:x2": "scalar_mul:multiply",
        "data segment_ids": "segment_prod segment_sum",
        "features:x": "softplus softsign",
        "input:x k sorted": "top_k",
        "data segment_ids num_segments": "unsorted_segment_prod:segment_prod unsorted_segment_sum:segment_sum",
    },
)
equal = takes_strings(
    lambda x, y, name=None: np.asarray(raw_of(x) == raw_of(y), np.bool_), spelled(ops.equal, "x:x1 y:x2")
)
not_equal = takes_strings(
    lambda x, y, name=None: np.asarray(raw_of(x) != raw_of(y), np.bool_), spelled(ops.not_equal, "x:x1 y:x2")
)
reduce_prod = takes_sizes(
    lambda input_tensor, axis=None, keepdims=False, name=None: np.prod(input_tensor, axis, keepdims=keepdims),
    spelled(ops.prod, "input_tensor:x axis keepdims"),
)


def add_n(inputs: Any, name: Any = None) -> Tensor:
    """The sum of a list of tensors."""
    return functools.reduce(ops.add, inputs)


def argmax(input: Any, axis: Any = None, output_type: Any = np.int64, name: Any = None) -> Tensor:
    """The index of the largest element along an axis; None is axis 0."""
    return ops.cast(ops.argmax(input, 0 if axis is None else axis), output_type)


def argmin(input: Any, axis: Any = None, output_type: Any = np.int64, name: Any = None) -> Tensor:
    """The index of the smallest element along an axis; None is axis 0."""
    return ops.cast(ops.argmin(input, 0 if axis is None else axis), output_type)


def bincount(
    arr: Any, weights: Any = None, minlength: Any = None, maxlength: Any = None, dtype: Any = np.int32
) -> Tensor:
    """How often each of the integers 0, 1, ... occurs, or the sums of their weights; maxlength limits the integers."""
    found = ops.bincount(ops.reshape(arr, (-1,)), weights, 0 if minlength is None else minlength)
    found = found if maxlength is None else found[:maxlength]
    return ops.cast(found, dtype) if weights is None else found


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: Any = None, weights: Any = None, dtype: Any = np.int32, name: Any = None
) -> Tensor:
    """How often each label, by row, was predicted as each class, by column; or the sums of the weights of these samples."""
    labels, predictions = as_tensor(labels, np.int64), as_tensor(predictions, np.int64)
    if num_classes is None:
        num_classes = int(ops.maximum(ops.max(labels), ops.max(predictions))) + 1
    rows = ops.one_hot(labels, num_classes, dtype=np.float64)
    if weights is not None:
        rows = rows * ops.expand_dims(ops.cast(weights, np.float64), -1)
    columns = ops.one_hot(predictions, num_classes, dtype=np.float64)
    return ops.cast(ops.matmul(ops.transpose(rows), columns), dtype)


def count_nonzero(
    input: Any, axis: Any = None, keepdims: Any = None, dtype: Any = np.int64, name: Any = None
) -> Tensor:
    """The number of elements that are not zero."""
    return ops.sum(ops.cast(ops.not_equal(input, 0), dtype), axis, builtins.bool(keepdims))


def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False, name: Any = None) -> Tensor:
    """Products of the elements up to each one; exclusive: without that one; reverse: from each one to the end."""
    return _cumulative(ops.cumprod, x, axis, exclusive, reverse, 1)


def cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False, name: Any = None) -> Tensor:
    """Sums of the elements up to each one; exclusive: without that one; reverse: from each one to the end."""
    return _cumulative(ops.cumsum, x, axis, exclusive, reverse, 0)


def _cumulative(function: Any, x: Any, axis: int, exclusive: bool, reverse: bool, start: int) -> Tensor:
    x = ops.flip(x, axis) if reverse else ops.convert_to_tensor(x)
    if exclusive:  # begin with `start`, and leave out the last element
        ends = [(1, 0) if i == axis % len(x.shape) else (0, 0) for i in range(len(x.shape))]
        inside = tuple(slice(None, -1) if end[0] else slice(None) for end in ends)
        x = ops.pad(x[inside], ends, constant_values=start)
    y = function(x, axis)
    return ops.flip(y, axis) if reverse else y


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: Any = None) -> Tensor:
    """x divided by its Euclidean norm along axes; None is all axes."""
    return ops.multiply(x, ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis, keepdims=True), epsilon)))


def multiply_no_nan(x: Any, y: Any, name: Any = None) -> Tensor:
    """x * y; 0 where y is 0, also if x is infinite or NaN."""
    return ops.where(ops.equal(y, 0), ops.zeros_like(x), ops.multiply(x, y))


def polyval(coeffs: Any, x: Any, name: Any = None) -> Tensor:
    """The value of a polynomial; the first coefficient is that of the highest power."""
    return functools.reduce(lambda y, each: y * x + each, coeffs, ops.zeros_like(x))


def reciprocal_no_nan(x: Any, name: Any = None) -> Tensor:
    """1 / x; 0 where x is 0."""
    return ops.divide_no_nan(ops.ones_like(x), x)


def reduce_euclidean_norm(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: Any = None) -> Tensor:
    """The square root of the sum of squares."""
    return ops.sqrt(ops.sum(ops.square(input_tensor), axis, keepdims))


def reduce_mean(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: Any = None) -> Tensor:
    """The mean. That of integers is rounded towards zero, as in TensorFlow."""
    mean = ops.mean(input_tensor, axis, keepdims)
    kind = getattr(input_tensor, "dtype", None)
    return ops.cast(mean, kind) if kind is not None and np.dtype(kind).kind in "iu" else mean


def segment_max(data: Any, segment_ids: Any, name: Any = None) -> Tensor:
    """The largest elements of the rows of each segment; 0 for a segment without rows."""
    return _filled(ops.segment_max(data, segment_ids), segment_ids, 0)


def segment_min(data: Any, segment_ids: Any, name: Any = None) -> Tensor:
    """The smallest elements of the rows of each segment; 0 for a segment without rows."""
    return _filled(ops.segment_min(data, segment_ids), segment_ids, 0)


def squared_difference(x: Any, y: Any, name: Any = None) -> Tensor:
    """(x - y) squared."""
    return ops.square(ops.subtract(x, y))


def unsorted_segment_max(data: Any, segment_ids: Any, num_segments: Any, name: Any = None) -> Tensor:
    """The largest elements of the rows of each segment; the lowest number for a segment without rows."""
    y = ops.segment_max(data, segment_ids, num_segments)
    return _filled(y, segment_ids, as_dtype(y.dtype).min)


def unsorted_segment_min(data: Any, segment_ids: Any, num_segments: Any, name: Any = None) -> Tensor:
    """The smallest elements of the rows of each segment; the largest number for a segment without rows."""
    y = ops.segment_min(data, segment_ids, num_segments)
    return _filled(y, segment_ids, as_dtype(y.dtype).max)


def _filled(y: Tensor, segment_ids: Any, empty: Any) -> Tensor:
    """A number in place of the rows of segments that have none."""
    ids = as_tensor(segment_ids)
    rows = ops.segment_sum(ops.ones_like(ids), ids, y.shape[0])
    return ops.where(ops.reshape(rows > 0, (-1, *[1] * (y.ndim - 1))), y, as_tensor(empty, y.dtype))


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: Any = None) -> Tensor:
    """The mean of the rows of each segment; 0 for a segment without rows."""
    total = ops.segment_sum(data, segment_ids, num_segments)
    rows = ops.segment_sum(ops.ones_like(data), segment_ids, num_segments)
    return ops.divide_no_nan(total, rows)


def xdivy(x: Any, y: Any, name: Any = None) -> Tensor:
    """x / y; 0 where x is 0."""
    at_zero = ops.equal(x, 0)
    return ops.where(at_zero, ops.zeros_like(x), ops.divide(x, ops.where(at_zero, 1, y)))


def xlogy(x: Any, y: Any, name: Any = None) -> Tensor:
    """x * log(y); 0 where x is 0."""
    return ops.multiply(x, ops.log(ops.where(ops.equal(x, 0), 1, y)))


def zero_fraction(value: Any, name: Any = None) -> Tensor:
    """The share of elements that are zero."""
    return ops.mean(ops.cast(ops.equal(value, 0), np.float32))
