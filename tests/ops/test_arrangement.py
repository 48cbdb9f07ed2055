"""Ops that make, arrange, scatter and look up elements: NumPy's values (or a formula's), gradients, replay, messages."""

import numpy as np
import pytest

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
PAIRS = np.array([[0, 1], [2, 3], [0, 1]])
OVER = np.array([[2], [0], [-1]])


def segments(ufunc, start):
    """The results of segment_* for IDS and four segments."""

    def reference(rows):
        y = np.full((4, *rows.shape[1:]), start, rows.dtype)
        ufunc.at(y, IDS[IDS < 4], rows[IDS < 4])
        return y

    return reference


def put(x, updates):
    y = x.copy()
    y[OVER[:, 0]] = updates
    return y


def summed(values):
    y = np.zeros((3, 5))
    np.add.at(y, tuple(PAIRS.T), values)
    return y


CASES = {  # name: (nbkeras's, NumPy's, arrays)
    "append": (lambda x: ops.append(x, x[0]), lambda x: np.append(x, x[0]), X),
    "append_axis": (lambda x: ops.append(x, x[:, :1], 1), lambda x: np.append(x, x[:, :1], 1), X),
    "hstack": (lambda x: ops.hstack([x, x[:, :1]]), lambda x: np.hstack([x, x[:, :1]]), X),
    "hstack_vectors": (lambda x: ops.hstack([x, x[:2]]), lambda x: np.hstack([x, x[:2]]), V),
    "vstack": (lambda x: ops.vstack([x, x]), lambda x: np.vstack([x, x]), V),
    "dstack": (lambda x: ops.dstack([x, x]), lambda x: np.dstack([x, x]), M),
    "dstack_vectors": (lambda x: ops.dstack([x, x]), lambda x: np.dstack([x, x]), V),
    "array_split": (lambda x: ops.array_split(x, 3, 1)[1], lambda x: np.array_split(x, 3, 1)[1], M),
    "array_split_at": (lambda x: ops.array_split(x, [1, 4])[1], lambda x: np.array_split(x, [1, 4])[1], V),
    "hsplit": (lambda x: ops.hsplit(x, [2])[1], lambda x: np.hsplit(x, [2])[1], M),
    "hsplit_vector": (lambda x: ops.hsplit(x, [2])[1], lambda x: np.hsplit(x, [2])[1], V),
    "vsplit": (lambda x: ops.vsplit(x, 3)[1], lambda x: np.vsplit(x, 3)[1], M),
    "dsplit": (lambda x: ops.dsplit(x, 2)[1], lambda x: np.dsplit(x, 2)[1], X),
    "ravel": (ops.ravel, np.ravel, X),
    "copy": (ops.copy, np.copy, X),
    "flipud": (ops.flipud, np.flipud, X),
    "fliplr": (ops.fliplr, np.fliplr, X),
    **{
        f"rot90_{k}": (lambda x, k=k: ops.rot90(x, k, (0, 2)), lambda x, k=k: np.rot90(x, k, (0, 2)), X)
        for k in range(4)
    },
    **{f"diagonal_{k}": (lambda x, k=k: ops.diagonal(x, k), lambda x, k=k: np.diagonal(x, k), M) for k in range(-2, 5)},
    "diagonal_axes": (lambda x: ops.diagonal(x, 1, 2, 0), lambda x: np.diagonal(x, 1, 2, 0), X),
    "trace": (lambda x: ops.trace(x, 1, 1, 2), lambda x: np.trace(x, 1, 1, 2), X),
    "diag": (lambda x: ops.diag(x, -2), lambda x: np.diag(x, -2), V),
    "diag_matrix": (lambda x: ops.diag(x, 1), lambda x: np.diag(x, 1), M),
    "diagflat": (lambda x: ops.diagflat(x, 1), lambda x: np.diagflat(x, 1), M[:, :2]),
    "depth_to_space": (
        lambda x: ops.depth_to_space(x, 2),
        lambda x: x.reshape(2, 4, 6, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, 12, 2),
        IMAGE,
    ),
    "space_to_depth": (lambda x: ops.depth_to_space(ops.space_to_depth(x, 2), 2), lambda x: x, IMAGE),
    "space_to_depth_first": (
        lambda x: ops.space_to_depth(x, 2, "channels_first"),
        lambda x: x.reshape(2, 4, 3, 2, 4, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 16, 3, 4),
        IMAGE,
    ),
    "rearrange": (
        lambda x: ops.rearrange(x, "b (h s) w c -> (b h) c (w s)", s=2),
        lambda x: x.reshape(2, 2, 2, 6, 8).transpose(0, 1, 4, 3, 2).reshape(4, 8, 12),
        IMAGE,
    ),
    "linspace": (lambda a, b: ops.linspace(a, b, 4, axis=-1), lambda a, b: np.linspace(a, b, 4, axis=-1), V, V[:1] + 2),
    "linspace_open": (
        lambda a: ops.linspace(a, 1.0, 4, endpoint=False),
        lambda a: np.linspace(a, 1, 4, endpoint=False),
        V,
    ),
    "linspace_step": (lambda a: ops.linspace(a, 2.0, 5, retstep=True)[1], lambda a: (2 - a) / 4, V),
    "logspace": (lambda a: ops.logspace(a, 2.0, 4, base=2.5), lambda a: np.logspace(a, 2, 4, base=2.5), V),
    "geomspace": (lambda a: ops.geomspace(a, 8.0, 4), lambda a: np.geomspace(a, 8, 4), np.abs(V) + 0.1),
    "meshgrid": (lambda a, b: ops.meshgrid(a, b), lambda a, b: np.meshgrid(a, b), V, M[0, :2]),
    "meshgrid_ij": (
        lambda a, b: ops.meshgrid(a, b, a, indexing="ij"),
        lambda a, b: np.meshgrid(a, b, a, indexing="ij"),
        V,
        M[0, :2],
    ),
    "vander": (ops.vander, np.vander, V),
    "vander_rising": (lambda x: ops.vander(x, 3, True), lambda x: np.vander(x, 3, True), V),
    "select": (
        lambda x: ops.select([x > 1, x > 0], [x * 2, x * x], 7.0),
        lambda x: np.select([x > 1, x > 0], [x * 2, x * x], 7.0),
        X,
    ),
    "slice": (lambda x: ops.slice(x, (0, 1, 3), (2, -1, 2)), lambda x: x[:, 1:, 2:], X),
    "slice_update": (
        lambda x, u: ops.slice_update(x, (1, 3), u),
        lambda x, u: np.concatenate([x[:1], np.concatenate([x[1:, :3], u], 1)]),
        *(M, M[1:, :2] * 3),
    ),
    "scatter": (lambda v: ops.scatter(PAIRS, v, (3, 5)), summed, V[:3]),
    "scatter_update": (lambda x, u: ops.scatter_update(x, OVER, u), put, ROWS, ROWS[:3] * 2),
    "segment_sum": (lambda x: ops.segment_sum(x, IDS, 4), segments(np.add, 0), ROWS),
    "segment_prod": (lambda x: ops.segment_prod(x, IDS, 4), segments(np.multiply, 1), ROWS),
    "segment_max": (
        lambda x: ops.segment_max(x, IDS, 4)[::2],
        lambda x: segments(np.maximum, 0)(x + 99)[::2] - 99,
        ROWS,
    ),
    "segment_min": (lambda x: ops.segment_min(x, IDS, 4)[::2], lambda x: segments(np.minimum, 99)(x)[::2], ROWS),
}


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_replay(name):
    function, reference, *arrays = CASES[name]
    received, expected = function(*map(ops.convert_to_tensor, arrays)), reference(*arrays)
    several = isinstance(expected, list)
    for got, want in zip(received if several else [received], expected if several else [expected], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    check_op(function, *arrays)


INTEGERS = {  # no gradient: (nbkeras's, NumPy's, arrays)
    "searchsorted": (lambda x, v: ops.searchsorted(ops.sort(x), v), lambda x, v: np.searchsorted(np.sort(x), v), V, M),
    "digitize": (lambda x: ops.digitize(x, [-0.5, 0.0, 1.0]), lambda x: np.digitize(x, [-0.5, 0, 1]), M),
    "isin": (lambda x, y: ops.isin(x, y), np.isin, IDS, np.array([7, 1, 0])),
    "isin_invert": (lambda x: ops.isin(x, V[1:3], invert=True), lambda x: np.isin(x, V[1:3], invert=True), V),
    "unravel_index": (lambda x: ops.unravel_index(x, (2, 4)), lambda x: np.unravel_index(x, (2, 4)), IDS),
    "multi_hot": (lambda x: ops.multi_hot(x % 4, 4), lambda x: np.eye(4)[x % 4].max(-2), IDS.reshape(1, 5)),
    "unique_size": (lambda x: ops.unique(x, size=4), lambda x: np.append(np.unique(x), [0])[:4], IDS),
    "view": (lambda x: ops.view(x, "int32"), lambda x: x.view(np.int32), V.astype(np.float32)),
    "slice_at": (lambda x, i: ops.slice(x, i[:2], (1, 2)), lambda x, i: x[:1, 2:4], M, IDS),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_without_gradient(name):
    function, reference, *arrays = INTEGERS[name]
    received, expected = function(*map(ops.convert_to_tensor, arrays)), reference(*arrays)
    for got, want in zip(
        *((r if isinstance(r, tuple) else (r,)) for r in (received, expected)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
    check_op(function, *arrays, wrt=[], single_tolerance=None)


def test_reductions_of_scattered_rows():
    for how in ("add", "max", "min", "mul"):
        check_op(lambda x, u, how=how: ops.scatter_update(x, [[0], [2], [0]], u, how), ROWS, ROWS[::-1][:3] * 2)
    check_op(lambda x, u: ops.scatter_update(x, [[0], [2], [0]], u), ROWS, ROWS[::-1][:3] * 2)
    with_zeros = np.where(np.eye(5, 3, dtype=bool), 0.0, ROWS)
    check_op(lambda x: ops.segment_prod(x, IDS, 3), with_zeros)
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
    (
        lambda: ops.slice(M, (0, 0), (4, 1)),
        ValueError,
        r"a slice of shape \(4, 1\) at \(0, 0\) does not fit into shape \(3, 5\)",
    ),
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
    (
        lambda: ops.bincount(np.ones((1, 1, 1), int)),
        ValueError,
        r"expected one or two axes, received shape \(1, 1, 1\)",
    ),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_mistakes_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_ranges_of_integers_beyond_int32():
    numbers = ops.arange(0, 2**33, 2**31)
    assert numbers.dtype == np.int64 and numbers.numpy().tolist() == [0, 2**31, 2**32, 3 * 2**31]
    assert ops.arange(3).dtype == np.int32


def test_no_number_is_among_none():
    np.testing.assert_array_equal(ops.isin([1, 2], []), [False, False])
    np.testing.assert_array_equal(ops.isin([1, 2], [], invert=True), [True, True])
