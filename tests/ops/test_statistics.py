"""Products of vectors, averages, counts beside test_calls.py: NaN, integers, models, messages."""

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model
from nbkeras.testing import check_op

RNG = np.random.default_rng(17)
X = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((3, 5))
V = RNG.standard_normal(5)
W = RNG.standard_normal(3)
HOLES = np.where(np.arange(21).reshape(3, 7) % 4 == 1, np.nan, RNG.standard_normal((3, 7)))


def test_weights_along_a_tuple_of_one_axis():
    np.testing.assert_allclose(ops.average(X, (1,), W + 3), np.average(X, 1, W + 3), rtol=1e-11)


def test_vectors_of_two():
    """NumPy 2.5 takes vectors of three only."""
    first, second = (np.pad(v, [(0, 1), (0, 0)]) for v in (M[:2], M[1:]))
    np.testing.assert_allclose(ops.cross(M[:2], M[1:], axis=0), np.cross(first, second, axis=0)[2])
    np.testing.assert_allclose(ops.cross(M[:2].T, W), np.cross(first.T, W))
    check_op(lambda x, y: ops.cross(x, y), M[:2].T, W)


def test_nan_and_integers():
    assert np.isnan(ops.median([1.0, np.nan])) and ops.nanmedian([1.0, np.nan]) == 1
    np.testing.assert_array_equal(ops.median([[1.0, np.inf], [2.0, 3.0]], axis=1), [np.inf, 2.5])
    for name in ("nanmax", "nanmin", "nanmean", "nanmedian", "nanstd"):
        assert np.isnan(getattr(ops, name)([np.nan, np.nan]))
    np.testing.assert_array_equal(ops.nanargmax(HOLES, 1), np.nanargmax(HOLES, 1))
    np.testing.assert_array_equal(ops.nanargmin(HOLES, 1, True), np.nanargmin(HOLES, 1, keepdims=True))
    assert ops.nanargmax([np.nan, np.nan]) == -1
    check_op(lambda x: ops.nanargmin(x, 1), HOLES, wrt=[], single_tolerance=None)
    assert ops.nansum(np.int32([1, 2])).dtype == np.int32 and ops.median([1, 2]).dtype == np.float32
    np.testing.assert_array_equal(ops.diff([True, True, False]), [False, True])
    assert ops.diff(np.ones((2, 3)), n=2**31).shape == (2, 0)
    x = np.array([-300.0, 1.5, 300, 3e9])
    np.testing.assert_array_equal(ops.saturate_cast(x, "uint8"), [0, 1, 255, 255])
    np.testing.assert_array_equal(ops.saturate_cast(x, "int32")[3], 2**31 - 1)
    np.testing.assert_array_equal(ops.saturate_cast(np.array([-5, 400]), "int8"), [-5, 127])
    for whole in (np.int32, np.int64, np.uint32):  # float32 does not hold the largest of them
        low, high = ops.saturate_cast(np.array([-1e30, 1e30], np.float32), whole).numpy()
        assert low == np.iinfo(whole).min and 0 <= np.iinfo(whole).max - high < np.iinfo(whole).max * 1e-7
    assert ops.saturate_cast(np.float64(1.5), None).dtype == "float32"
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(ops.saturate_cast(np.array([-np.inf, 1e300]), "float32"), [-largest, largest])


@pytest.mark.parametrize("arguments", [(), (4,), (5, (-1.0, 0.5))])
def test_histograms_equal_numpys(arguments):
    for x in (X, np.array([1.0, 2, 2, 3, 3]), np.full(3, 2.0)):
        counts, edges = ops.histogram(x, *arguments)
        wanted = np.histogram(x, *arguments)
        np.testing.assert_array_equal(counts, wanted[0])
        np.testing.assert_allclose(edges, wanted[1], rtol=1e-12, atol=1e-12)
    check_op(lambda x: ops.histogram(x, *arguments), X, wrt=[], single_tolerance=None)


def test_in_a_model():
    inputs = Input((7,))
    model = Model(inputs, [ops.median(inputs, 1), ops.kron(inputs, [[1.0, 2.0]]), ops.nanmax(inputs, axis=1)])
    received = model.predict(np.float32(HOLES), verbose=0)
    np.testing.assert_array_equal(received[0], np.median(np.float32(HOLES), 1))
    np.testing.assert_array_equal(received[1], np.kron(np.float32(HOLES), [[1.0, 2.0]]))
    np.testing.assert_array_equal(received[2], np.nanmax(np.float32(HOLES), 1))


ERRORS = [
    (lambda: ops.vdot(V, W), "the same number of elements"),
    (lambda: ops.cross(V, V), "of 2 or 3 numbers"),
    (lambda: ops.correlate(V, V, "some"), "mode valid, same or full"),
    (lambda: ops.cdist(V, V), r"cdist: expected \(..., m, d\) and \(..., n, d\)"),
    (lambda: ops.psnr(V, W, 1), "psnr: expected two tensors of the same shape"),
    (lambda: ops.histogram(V, range=(5, 1)), "two increasing numbers"),
    (lambda: ops.histogram(V, range=(5,)), "two increasing numbers"),
    (lambda: ops.diff(V, -1), "must not be negative"),
    (lambda: ops.average(M, 1, W), "average: weights of shape .* do not fit x of shape"),
    (lambda: ops.normalize(V, order=0), "order must be an integer of at least 1, received 0"),
    (lambda: ops.quantile(V, 0.5, method="some"), "method must be"),
    (lambda: ops.quantile(V, [[0.5]]), "a number or a vector"),
    (lambda: ops.quantile(V[:0], 0.5), "there are no elements along axis None"),
    (lambda: ops.histogram(V, 0), "bins must be an integer of at least 1, received 0"),
    (lambda: ops.corrcoef(X), "a matrix of variables"),
]


test_mistakes_are_explained = mistakes(ERRORS, ValueError)


def test_integers_have_no_nan():
    np.testing.assert_array_equal(ops.nan_to_num([1, 2]), [1, 2])
    y = ops.nanmax([1, 2])
    assert y.dtype == "int32" and int(y) == 2
