"""Ops that make, arrange, scatter and look up elements beside test_calls.py: repeated rows, shapes, windows, models, messages."""

import numpy as np
from mistakes import mistakes

from nbkeras import ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model
from nbkeras.testing import check_op

RNG = np.random.default_rng(13)
X = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((3, 5))
V = RNG.standard_normal(5)
IMAGE = RNG.standard_normal((2, 4, 6, 8))
IDS = np.array([0, 2, 2, 7, 0])
ROWS = RNG.standard_normal((5, 3))
TIES = np.array([[1.0, 2], [3, 3], [3, 1], [5, 5], [1, 0]])


def test_reductions_of_scattered_rows():
    for how in ("add", "max", "min", "mul"):
        check_op(lambda x, u, how=how: ops.scatter_update(x, [[0], [2], [0]], u, how), ROWS, ROWS[::-1][:3] * 2)
    check_op(lambda x, u: ops.scatter_update(x, [[0], [2], [0]], u), ROWS, ROWS[::-1][:3] * 2)
    with_zeros = np.where(np.eye(5, 3, dtype=bool), 0.0, ROWS)
    check_op(lambda x: ops.segment_prod(x, IDS, 3), with_zeros)
    for extreme in (ops.segment_max, ops.segment_min):  # segment 1 is empty, and there is no segment 7
        check_op(lambda x, extreme=extreme: extreme(x, IDS, 4)[::2], ROWS)
    received = ops.segment_max(np.float32(TIES), IDS, 4)
    np.testing.assert_array_equal(received, [[1, 2], [-np.inf, -np.inf], [3, 3], [-np.inf, -np.inf]])
    check_op(lambda x, u, i: ops.slice_update(x, i[:2], u), M, M[:2, :2] * 3, np.array([1, 3]))
    np.testing.assert_array_equal(ops.slice_update([1, 2, 3], ops.convert_to_tensor([9]), [7, 8]), [1, 7, 8])


def test_shapes_that_depend_on_values():
    x = np.array([[3, 0, 5], [0, 3, 1]])
    for got, want in zip(ops.nonzero(x), np.nonzero(x), strict=True):
        np.testing.assert_array_equal(got, want)
    received = ops.unique(x, return_index=True, return_inverse=True, return_counts=True)
    for got, want in zip(received, np.unique(x, True, True, True), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(ops.unique(x, size=6, fill_value=-1), [0, 1, 3, 5, -1, -1])
    np.testing.assert_array_equal(ops.bincount(x[0], minlength=8), np.bincount(x[0], minlength=8))
    np.testing.assert_array_equal(ops.bincount([[0, 1], [-1, 0]]), [[1, 1], [1, 0]])  # a negative number is not counted
    weights = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(
        ops.bincount(x, weights), [np.bincount(a, b, 6) for a, b in zip(x, weights, strict=True)]
    )


def test_arrays_are_split_at_positions():
    for got, want in zip(ops.array_split(V, [1, 4]), np.array_split(V, [1, 4]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_windows_equal_numpys():
    for name in ("bartlett", "blackman", "hamming", "hanning"):
        np.testing.assert_allclose(getattr(ops, name)(7), getattr(np, name)(7).astype(np.float32))
    np.testing.assert_allclose(ops.kaiser(7, 5.0), np.kaiser(7, 5).astype(np.float32))
    np.testing.assert_array_equal(ops.tri(3, 4, 1), np.tri(3, 4, 1))
    np.testing.assert_array_equal(ops.identity(3, "int32"), np.eye(3))
    np.testing.assert_array_equal(ops.linspace(0, 10, 4, dtype="int32"), np.linspace(0, 10, 4, dtype=np.int32))
    assert ops.linspace(0, 1, 1).numpy().tolist() == [0] and ops.linspace(0, 1, 0).shape == (0,)
    assert ops.empty((2, 3)).shape == ops.empty_like(np.ones((2, 3))).shape == (2, 3)
    assert ops.size(X) == 24 and ops.dtype(X) == "float64" and ops.dtype([1.0]) == "float32"
    np.testing.assert_array_equal(ops.array([ops.sum([1.0, 2.0]), 5]), [3, 5])
    assert ops.view(np.zeros((2, 4), np.float32), "float64").shape == (2, 2)
    positions = ops.argpartition(V, 2).numpy()
    assert sorted(V[positions[:2]]) == sorted(np.partition(V, 2)[:2])


def test_in_a_model():
    inputs = Input((4,))
    outputs = [ops.diagflat(ops.trace(ops.diag(inputs[0])))]
    model = Model(
        inputs, [ops.hstack([inputs, inputs]), ops.segment_sum(ops.transpose(inputs), [0, 1, 1, 0], 2), *outputs]
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    received = model.predict(x, batch_size=2, verbose=0)
    np.testing.assert_array_equal(received[0], np.hstack([x, x]))
    np.testing.assert_array_equal(received[1], [x[:, 0] + x[:, 3], x[:, 1] + x[:, 2]])
    np.testing.assert_array_equal(received[2], [[6]])


def test_segments_as_many_as_there_are_numbers():
    np.testing.assert_array_equal(ops.segment_sum([1.0, 2.0, 4.0], [0, 2, 0]), [5, 0, 2])
    assert ops.segment_max(np.zeros((0, 3)), np.zeros(0, "int32")).shape == (0, 3)
    truths = np.array([True, False, True])
    np.testing.assert_array_equal(ops.segment_max(truths, [0, 0, 2], 4), [True, False, True, False])
    np.testing.assert_array_equal(ops.segment_min(truths, [0, 0, 2], 4), [False, True, True, True])


ERRORS = [
    (lambda: ops.scatter([[3, 0]], [1.0], (3, 5)), IndexError, "within axes of sizes"),
    (lambda: ops.scatter([[0, 0]], [1.0, 2.0], (3, 5)), ValueError, "must have shape"),
    (lambda: ops.scatter_update(X, [[0]], X[0], "mean"), ValueError, "reduction must be"),
    (lambda: ops.segment_sum(M, IDS, 4), ValueError, "one segment number for each"),
    (lambda: ops.slice(M, (0, 0), (4, 1)), ValueError, r"a slice of shape \(4, 1\) at \(0, 0\) does not fit into shape \(3, 5\)"),
    (lambda: ops.rearrange(M, "a b -> a"), ValueError, "must name each axis"),
    (lambda: ops.rearrange(M, "(a c) b -> a b c", c=2), ValueError, "cannot be split"),
    (lambda: ops.diag(X), ValueError, "a vector or a matrix"),
    (lambda: ops.unique(M, axis=0), ValueError, "axis must be None"),
    (lambda: ops.searchsorted(M, V), ValueError, "expected a vector"),
    (lambda: ops.linspace(0, 1, -1), ValueError, "linspace: num must be an integer of at least 0"),
    (lambda: ops.meshgrid(V, indexing="no"), ValueError, "indexing must be 'xy' or 'ij', received 'no'"),
    (lambda: ops.array_split(V, 0), ValueError, "at least one part"),
    (lambda: ops.space_to_depth(IMAGE, 1), ValueError, "block_size must be at least 2, received 1"),
    (lambda: ops.nonzero(Input((3,))), RuntimeError, "value was read"),
    (lambda: ops.view(np.ones((2, 3), "int8"), "int16"), ValueError, r"shape \(2, 3\) and int8 does not hold a whole"),
    (lambda: ops.vsplit(V, 1), ValueError, r"vsplit: expected at least 2 axes, received shape \(\d,\)"),
    (lambda: ops.rot90(M, axes=1), ValueError, "rot90: axes must be two integers, received 1"),
    (lambda: ops.rot90(M, axes=(1, -1)), ValueError, r"rot90: the two axes must differ, received \(1, -1\)"),
    (lambda: ops.diagonal(V), ValueError, "diagonal: expected at least two axes, received shape"),
    (lambda: ops.scatter_update(V, [[0, 0]], V[:1]), ValueError, r"k from 1 to the 1 axes of .* received \(1, 2\)"),
    (lambda: ops.slice(V, 0, (1,)), TypeError, "slice: the start must be an integer for each axis, received 0"),
    (lambda: ops.argpartition(V[:3], 3), ValueError, r"kth must lie in \[-3, 3\), received 3"),
    (lambda: ops.select(V > 0, [V]), TypeError, "select: condlist must be a list of tensors, received ndarray"),
    (lambda: ops.select([], []), ValueError, "at least one of each, received 0 and 0"),
    (lambda: ops.select([V > 0], [V, V]), ValueError, "same number of conditions and choices.* received 1 and 2"),
    (lambda: ops.multi_hot([1], 2, sparse=True), ValueError, "sparse tensors are not supported, use sparse=False"),
    (lambda: ops.one_hot([1], 2, sparse=True), ValueError, "sparse tensors are not supported, use sparse=False"),
    (lambda: ops.unique([]), ValueError, "unique: the tensor is empty"),
    (lambda: ops.bincount([1], sparse=True), ValueError, "sparse tensors are not supported, use sparse=False"),
    (lambda: ops.bincount(np.ones((1, 1, 1), int)), ValueError, r"expected one or two axes, received shape \(1, 1, 1\)"),
]  # fmt: skip


test_mistakes_are_explained = mistakes(ERRORS)


def test_ranges_of_integers_beyond_int32():
    numbers = ops.arange(0, 2**33, 2**31)
    assert numbers.dtype == np.int64 and numbers.numpy().tolist() == [0, 2**31, 2**32, 3 * 2**31]
    assert ops.arange(3).dtype == np.int32


def test_no_number_is_among_none():
    np.testing.assert_array_equal(ops.isin([1, 2], []), [False, False])
    np.testing.assert_array_equal(ops.isin([1, 2], [], invert=True), [True, True])
