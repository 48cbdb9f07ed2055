"""Attention's kernels against NumPy: products over heads where they lie, and the softmax of masked scores."""

import numpy as np
import pytest
from arrays import normal

from nbkeras.kernels import attention
from nbkeras.kernels.runtime import device

pytestmark = pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_attention.py has the GPU's")


def products(b, t, s, n, k, h, dtype="float64"):
    """Queries, keys and weights of one shape of attention."""
    return (
        normal(b, t, n, h, dtype=dtype),
        normal(b, s, k, h, seed=1, dtype=dtype),
        normal(b, n, t, s, seed=2, dtype=dtype),
    )


SHAPES = [(2, 3, 5, 4, 4, 3), (2, 3, 5, 4, 2, 3), (1, 130, 2, 2, 1, 1), (3, 1, 1, 1, 1, 2), (0, 2, 2, 2, 1, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_products_over_heads(shape):
    x, y, w = products(*shape)
    keys = np.repeat(y, x.shape[2] // y.shape[2], axis=2)
    z, saved = attention.inner(x, y)
    np.testing.assert_allclose(z, np.einsum("btnh,bsnh->bnts", x, keys), rtol=1e-12, atol=1e-12)
    dx, dy = attention.inner_vjp(saved, w, (True, True))
    np.testing.assert_allclose(dx, np.einsum("bnts,bsnh->btnh", w, keys), rtol=1e-12, atol=1e-12)
    whole = np.einsum("bnts,btnh->bsnh", w, x).reshape(*y.shape[:3], x.shape[2] // y.shape[2], y.shape[3])
    np.testing.assert_allclose(dy, whole.sum(3), rtol=1e-12, atol=1e-12)
    z, saved = attention.weighted(w, y)
    np.testing.assert_allclose(z, dx, rtol=1e-12, atol=1e-12)
    dw, dv = attention.weighted_vjp(saved, x, (True, True))
    np.testing.assert_allclose(dw, np.einsum("btnh,bsnh->bnts", x, keys), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dv, dy, rtol=1e-12, atol=1e-12)


def reference(x, mask, scale, causal, spread):
    allowed = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    if causal:
        allowed = allowed & np.tril(np.ones(x.shape[-2:], bool))
    e = np.where(allowed, np.exp(x * scale), 0)
    total = e.sum(-1, keepdims=True)
    return np.where(total == 0, spread / x.shape[-1], e / np.where(total == 0, 1, total)), allowed


MASKS = [None, (2, 3, 4, 5), (2, 1, 4, 5), (1, 1, 4, 5), (4, 5), (2, 1, 1, 5), (2, 1, 4, 1), (1, 1, 1, 1), (5,)]


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", MASKS)
def test_masked_softmax(sizes, causal, spread):
    x, dy = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    mask = None if sizes is None else np.random.default_rng(2).uniform(size=sizes) > 0.6
    y, saved = attention.masked_softmax(x, mask, 0.7, causal, spread)
    expected, allowed = reference(x, mask, 0.7, causal, spread)
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    (dx, _) = attention.masked_softmax_vjp(saved, dy, (True, False))
    slope = 0.7 * expected * (dy - (dy * expected).sum(-1, keepdims=True))
    np.testing.assert_allclose(dx, np.where(allowed.any(-1, keepdims=True), slope, 0), rtol=1e-12, atol=1e-15)


def test_extreme_scores():
    x = np.float32([[[[1e30, -1e30, 3], [np.nan, 1, 2], [-np.inf, 0, 0], [-np.inf] * 3]]])
    y, _ = attention.masked_softmax(x, None, 1.0, False, True)
    np.testing.assert_allclose(y[0, 0, 0], [1, 0, 0])
    assert np.isnan(y[0, 0, 1]).all()
    np.testing.assert_allclose(y[0, 0, 2:], [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-6)


def test_profile_of_a_call_is_three_launches():
    """Two products where the heads lie, and one softmax: no copies."""
    q, k, v = (device.persistent(normal(2, 6, 4, 3, seed=i)) for i in range(3))
    with device.profile() as profile:
        scores, _ = attention.inner(q, k)
        weights, _ = attention.masked_softmax(scores, None, 0.5, True, True)
        attention.weighted(weights, v)
    assert profile.calls == {"multiply_heads": 2, "masked_forward": 1}
