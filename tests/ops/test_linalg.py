"""Inverses, decompositions and norms beside test_calls.py: NumPy's and SciPy's values, gradients, replay, models, messages."""

import re

import numpy as np
import pytest
import scipy.linalg
from mistakes import mistakes

from nbkeras import autodiff, jit, ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model
from nbkeras.testing import check_op

RNG = np.random.default_rng(23)
A = RNG.standard_normal((2, 3, 3)) + 2 * np.eye(3)
TALL = RNG.standard_normal((2, 5, 3))
WIDE = TALL.transpose(0, 2, 1).copy()
B = RNG.standard_normal((2, 3, 4))
V = RNG.standard_normal((2, 3))


CASES = {  # name: (nbkeras's, the reference, arrays)
    "solve_vector": (ops.solve, lambda a, b: np.linalg.solve(a, b[..., None])[..., 0], A, V),
    "solve_triangular": (ops.solve_triangular, lambda a, b: np.linalg.solve(np.triu(a), b), A, B),
    "solve_lower": (
        lambda a, b: ops.solve_triangular(a, b, lower=True),
        lambda a, b: np.linalg.solve(np.tril(a), b[..., None])[..., 0],
        *(A, V),
    ),
    "cholesky": (lambda x: ops.cholesky(_positive(x)), lambda x: np.linalg.cholesky(_positive(x)), A),
    "cholesky_upper": (lambda x: ops.cholesky(_positive(x), True)[0], lambda x: scipy.linalg.cholesky(_positive(x)[0]), A),
    "cholesky_inverse": (lambda x: ops.cholesky_inverse(x), lambda x: np.linalg.inv(np.tril(x) @ _t(np.tril(x))), A),
    "cholesky_inverse_upper": (lambda x: ops.cholesky_inverse(x, True), lambda x: np.linalg.inv(_t(np.triu(x)) @ np.triu(x)), A),
    "eigh": (lambda x: ops.eigh(x)[0], lambda x: np.linalg.eigvalsh(x + _t(x)) / 2, A),
    "eigh_vectors": (lambda x: abs(ops.eigh(x)[1]), lambda x: abs(np.linalg.eigh(x + _t(x))[1]), A),
    "qr": (lambda x: ops.qr(x), np.linalg.qr, TALL),
    "qr_wide": (lambda x: ops.qr(x), np.linalg.qr, WIDE),
    "qr_complete": (lambda x: ops.qr(x, "complete"), lambda x: np.linalg.qr(x, "complete"), WIDE),
    "svd_values": (lambda x: ops.svd(x, compute_uv=False), lambda x: np.linalg.svd(x)[1], TALL),
    "svd_values_full": (lambda x: ops.svd(x)[1], lambda x: np.linalg.svd(x)[1], WIDE),
    "svd_square": (lambda x: [abs(y) for y in ops.svd(x)], lambda x: [abs(y) for y in np.linalg.svd(x)], A),
    "svd_tall": (lambda x: [abs(y) for y in ops.svd(x, False)], lambda x: [abs(y) for y in np.linalg.svd(x, False)], TALL),
    "svd_wide": (lambda x: [abs(y) for y in ops.svd(x, False)], lambda x: [abs(y) for y in np.linalg.svd(x, False)], WIDE),
    "lstsq_vector": (ops.lstsq, lambda a, b: np.linalg.lstsq(a, b)[0], WIDE[0], V[0]),
}  # fmt: skip


def _t(x):
    return np.swapaxes(x, -1, -2)


def _positive(x):
    """A positive definite matrix from any square one; not symmetric, because the op makes it symmetric."""
    turned = ops.swapaxes(x, -1, -2) if ops.is_tensor(x) else _t(x)
    return x @ turned + np.eye(3) + (0 if not ops.is_tensor(x) else (x - turned) * 0.1)


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_replay(name):
    function, reference, *arrays = CASES[name]
    received, expected = function(*map(ops.convert_to_tensor, arrays)), reference(*arrays)
    several = isinstance(expected, tuple | list)
    for got, want in zip(received if several else [received], expected if several else [expected], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    check_op(function, *arrays, single_tolerance=1e-3)


def test_without_gradient():
    lu, pivots = ops.lu_factor(A[0])
    want, wanted_pivots = scipy.linalg.lu_factor(A[0])
    np.testing.assert_allclose(lu, want, rtol=1e-12)
    np.testing.assert_array_equal(pivots, wanted_pivots)
    check_op(ops.lu_factor, A, wrt=[])
    low = np.concatenate([TALL[:, :, :2], TALL[:, :, :1] * 2], -1)
    np.testing.assert_array_equal(ops.matrix_rank(low), [2, 2])
    np.testing.assert_array_equal(ops.matrix_rank(TALL, tol=1e3), [0, 0])
    np.testing.assert_array_equal(ops.slogdet(A)[0], np.linalg.slogdet(A)[0])
    np.testing.assert_array_equal(ops.norm([[1.0, 0], [3, 4]], 0, axis=1), [1, 2])
    q, r = ops.qr(TALL, "complete")
    assert q.shape == (2, 5, 5) and r.shape == (2, 5, 3)
    assert ops.inv(np.eye(2, dtype=np.int32)).dtype == np.float32


def test_in_a_model():
    inputs = Input((3, 3))
    model = Model(inputs, [ops.inv(inputs), *ops.svd(inputs)])
    received = model.predict(np.float32(A), verbose=0)
    assert model.outputs[1].shape == (None, 3, 3) and model.outputs[2].shape == (None, 3)
    np.testing.assert_allclose(received[0], np.linalg.inv(A), rtol=1e-4)


ERRORS = [
    (lambda: ops.inv(TALL), "inv: expected square matrices"),
    (lambda: ops.qr(V[0]), "expected matrices in the last two axes"),
    (lambda: ops.qr(A, "raw"), "mode must be 'reduced' or 'complete', received 'raw'"),
    (lambda: ops.solve(A, V[:, :2]), "solve: expected a"),
    (lambda: ops.lstsq(A, V), "lstsq: expected a"),
    (lambda: ops.norm(A, "nuc", axis=1), "not defined over 1 axes"),
    (lambda: ops.norm(A, "fro", axis=1), "ord 'fro' is not defined over 1 axes"),
    (lambda: ops.norm(V[0], "fro"), "not defined over 1 axes .axis=None"),
    (lambda: ops.norm(A[0], 3), "not defined over 2 axes"),
    (lambda: check_op(lambda x: ops.svd(x)[0], TALL), "no gradient of the rotations"),
    (lambda: check_op(lambda x: ops.qr(x, "complete")[0], TALL), "no gradient of mode 'complete'"),
]


test_mistakes_are_explained = mistakes(ERRORS, ValueError)


# -------------------- matrices without a result --------------------

WITHOUT_RESULT = {  # name: (function, a matrix, message)
    "inv": (ops.inv, [[1, 2], [2, 4]], "inv: .*is singular.*ops.pinv"),
    "solve": (lambda x: ops.solve(x, x), [[1, 2], [2, 4]], "solve: .*is singular"),
    "solve_triangular": (lambda x: ops.solve_triangular(x, x), [[1, 2], [2, 0]], "solve_triangular: .*singular"),
    "cholesky_inverse": (ops.cholesky_inverse, [[1, 2], [2, 0]], "cholesky_inverse: .*is singular"),
    "cholesky": (ops.cholesky, [[1, 2], [2, 3]], "cholesky: .*is not positive definite.*its diagonal"),
}
WITHOUT_GRADIENT = {
    "slogdet": (lambda x: ops.slogdet(x)[1], [[1, 2], [2, 4]], "gradient of slogdet: .*is singular"),
    "logdet": (ops.logdet, [[1, 2], [2, 4]], "gradient of logdet: .*is singular"),
    "qr": (lambda x: ops.qr(x)[0], [[0, 1], [0, 2]], "gradient of qr: .*is singular"),
}
NOT_FINITE = {
    **{name: getattr(ops, name) for name in ("cholesky", "eig", "eigh", "matrix_rank", "pinv", "svd")},
    "lstsq": lambda x: ops.lstsq(x[1], x[1]),
    "norm": lambda x: ops.norm(x, "nuc", axis=(1, 2)),
}


def check_error(call, message, batch=r"matrix \[1\] of the batch \(2,\)"):
    with pytest.raises(np.linalg.LinAlgError, match=message) as caught:
        call()
    assert re.search(batch, str(caught.value)) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", WITHOUT_RESULT)
def test_matrices_without_a_result(name):
    """Each error names the op and the matrix: eagerly, recorded, in a replay, under vmap and in nested tapes."""
    function, bad, message = WITHOUT_RESULT[name]
    x, good = np.array([np.eye(2), bad]), np.array([np.eye(2)] * 2)
    recorded = jit(function)
    recorded(good)
    recorded(good)
    for call in (
        function,
        recorded,
        jit(function),
        autodiff.vmap(function),
        lambda x: autodiff.jvp(function, (x,), (x,)),
    ):
        check_error(lambda call=call: call(x), message)
    np.testing.assert_array_equal(recorded(good), good)


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_matrices_without_a_gradient(name):
    function, bad, message = WITHOUT_GRADIENT[name]
    x = np.array([np.eye(2), bad])
    slopes = autodiff.grad(lambda x: ops.sum(function(x)))
    recorded = jit(slopes)
    recorded(x[[0, 0]])
    function(x)
    for call in (slopes, recorded, lambda x: autodiff.hvp(lambda x: ops.sum(function(x)), (x,), (x,))):
        check_error(lambda call=call: call(x), message)


@pytest.mark.parametrize("name", NOT_FINITE)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_matrix_that_is_not_finite_has_no_decomposition(name, value):
    """LAPACK's iterations would not end for some of them."""
    x = np.random.default_rng(0).normal(size=(2, 3, 3)).astype("float32")
    x[0] = np.eye(3)
    x[1, 2, 0] = value
    batch = "the matrix" if name == "lstsq" else r"matrix \[1\] of the batch \(2,\)"
    check_error(
        lambda: NOT_FINITE[name](x),
        f"{name}: .*has NaN or infinity and cannot be decomposed",
        batch,
    )
