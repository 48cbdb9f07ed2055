"""Products of vectors and matrices, averages, quantiles, counts: NumPy's values, gradients, replay, messages."""

import numpy as np
import pytest

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
POSITIVE = np.abs(X) + 0.1

CASES = {  # name: (nbkeras's, NumPy's, arrays)
    "inner": (ops.inner, np.inner, X, X[0, :2]),
    "inner_scalar": (ops.inner, np.inner, X, np.array(2.0)),
    "outer": (ops.outer, np.outer, M, V),
    "vdot": (lambda x: ops.vdot(x, x * x), lambda x: np.vdot(x, x * x), X),
    "kron": (ops.kron, np.kron, X, M),
    "kron_vectors": (ops.kron, np.kron, V, W),
    "cross": (ops.cross, np.cross, M.T, W),
    "cross_axes": (
        lambda x, y: ops.cross(x, y, axisa=1, axisb=0, axisc=0),
        lambda x, y: np.cross(x, y, 1, 0, 0),
        *(X, RNG.standard_normal((3, 2, 4))),
    ),
    "diff": (lambda x: ops.diff(x, 2, 1), lambda x: np.diff(x, 2, 1), X),
    "trapezoid": (lambda y: ops.trapezoid(y, axis=1), lambda y: np.trapezoid(y, axis=1), X),
    "trapezoid_places": (lambda y, x: ops.trapezoid(y, x, axis=1), lambda y, x: np.trapezoid(y, x, axis=1), X, W),
    "cdist": (
        ops.cdist,
        lambda x, y: np.linalg.norm(x[:, :, None] - y[None, None], axis=-1),
        X,
        RNG.standard_normal((2, 4)),
    ),
    "psnr": (lambda x, y: ops.psnr(x, y, 3.0), lambda x, y: 10 * np.log10(9 / np.mean((x - y) ** 2)), X, X[::-1] + 1),
    **{
        f"correlate_{mode}_{m}": (
            lambda x, y, mode=mode: ops.correlate(x, y, mode),
            lambda x, y, mode=mode: np.correlate(x, y, mode),
            *(V, RNG.standard_normal(m)),
        )
        for mode in ("valid", "same", "full")
        for m in (2, 3, 7)
    },
    "amax": (lambda x: ops.amax(x, 1), lambda x: np.amax(x, 1), X),
    "amin": (lambda x: ops.amin(x, 1, True), lambda x: np.amin(x, 1, keepdims=True), X),
    "ptp": (lambda x: ops.ptp(x, 2), lambda x: np.ptp(x, 2), X),
    "average": (lambda x: ops.average(x, 1), lambda x: np.average(x, 1), X),
    "average_weights": (lambda x, w: ops.average(x, 1, w), lambda x, w: np.average(x, 1, w), X, W + 3),
    "average_weights_of_a_tuple": (lambda x, w: ops.average(x, (1,), w), lambda x, w: np.average(x, 1, w), X, W + 3),
    "average_like": (lambda x, w: ops.average(x, weights=w), lambda x, w: np.average(x, weights=w), X, POSITIVE),
    "moments": (lambda x: ops.moments(x, (0, 2))[1], lambda x: np.var(x, (0, 2)), X),
    "normalize": (ops.normalize, lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True), X),
    "normalize_3": (
        lambda x: ops.normalize(x, 1, 3),
        lambda x: x / np.sum(np.abs(x) ** 3, 1, keepdims=True) ** (1 / 3),
        X,
    ),
    "corrcoef": (ops.corrcoef, np.corrcoef, M),
    "quantile": (lambda x: ops.quantile(x, 0.3), lambda x: np.quantile(x, 0.3), X),
    **{
        f"quantile_{method}": (
            lambda x, method=method: ops.quantile(x, [0.0, 0.3, 0.8, 1.0], 1, method, True),
            lambda x, method=method: np.quantile(x, [0.0, 0.3, 0.8, 1.0], 1, method=method, keepdims=True),
            X,
        )
        for method in ("linear", "lower", "higher", "midpoint", "nearest")
    },
    "percentile": (lambda x: ops.percentile(x, [20, 60], (0, 2)), lambda x: np.percentile(x, [20, 60], (0, 2)), X),
    "median": (lambda x: ops.median(x, (0, 1)), lambda x: np.median(x, (0, 1)), X),
    **{
        f"{name}_{axis}": (
            lambda x, name=name, axis=axis: getattr(ops, name)(x, axis=axis),
            lambda x, name=name, axis=axis: getattr(np, name)(x, axis=axis),
            HOLES,
        )
        for name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin", "nanmedian")
        for axis in (None, 1)
    },
    "nancumsum": (lambda x: ops.nancumsum(x, 1), lambda x: np.nancumsum(x, 1), HOLES),
    "nancumprod": (lambda x: ops.nancumprod(x, 1), lambda x: np.nancumprod(x, 1), HOLES),
    "nanquantile": (lambda x: ops.nanquantile(x, [0.2, 0.9], 1), lambda x: np.nanquantile(x, [0.2, 0.9], 1), HOLES),
    "nanpercentile": (lambda x: ops.nanpercentile(x, 30), lambda x: np.nanpercentile(x, 30), HOLES),
}


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_replay(name):
    function, reference, *arrays = CASES[name]
    np.testing.assert_allclose(
        function(*map(ops.convert_to_tensor, arrays)), reference(*arrays), rtol=1e-11, atol=1e-14
    )
    check_op(function, *arrays)


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


@pytest.mark.parametrize("call, message", ERRORS)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_have_no_nan():
    np.testing.assert_array_equal(ops.nan_to_num([1, 2]), [1, 2])
    y = ops.nanmax([1, 2])
    assert y.dtype == "int32" and int(y) == 2
