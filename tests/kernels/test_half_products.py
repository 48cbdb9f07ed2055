"""Products of bfloat16 numbers in pairs, against float64; without the processor's instructions they are emulated."""

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.kernels import dense, half_products
from nbkeras.kernels.runtime import processor

pytestmark = pytest.mark.cpu("the products in pairs are the CPU's")
SHAPES = [(32, 128, 600), (33, 1030, 48), (100, 77, 147), (300, 64, 65), (40, 841, 34)]
needs_instructions = pytest.mark.skipif(
    not half_products.HAS_PAIR_PRODUCTS, reason="this processor, or NUMBA_CPU_NAME, has no AVX512-BF16"
)


@pytest.fixture
def in_pairs(monkeypatch):
    monkeypatch.setattr(half_products, "HAS_PAIR_PRODUCTS", True)


def numbers(seed, *shape):
    return np.asarray(ops.cast(np.random.default_rng(seed).standard_normal(shape), "bfloat16"), np.float32)


def check(got, left, right):
    """Fail if a product differs from the exact one by more than float32's rounding of its terms."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    assert (np.abs(got - left @ right) <= 1e-6 * (np.abs(left) @ np.abs(right)) + 1e-30).all()


@pytest.mark.parametrize("m, k, n", SHAPES)
def test_products_and_gradients(in_pairs, m, k, n):
    assert half_products.is_faster(m, n, k)
    x, w, b, dy = numbers(1, m, k), numbers(2, k, n), numbers(3, n), numbers(4, m, n)
    y, saved = half_products.dense(x, w, None)
    check(y, x, w)
    dx, dw, _ = half_products.dense_vjp(saved, dy, (True, True, False))
    check(dx, dy, w.T)
    check(dw, x.T, dy)
    for transpose_a in (False, True):
        for transpose_b in (False, True):
            a, c = (np.ascontiguousarray(each.T) if t else each for each, t in ((x, transpose_a), (w, transpose_b)))
            y, saved = half_products.matmul(a, c, transpose_a, transpose_b)
            check(y, x, w)
            expected = dense.matmul_vjp(saved[0], dy, (True, True))
            for ours, theirs in zip(half_products.matmul_vjp(saved, dy, (True, True)), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    ended, _ = half_products.dense(x, w, b, True)
    np.testing.assert_allclose(ended, np.maximum(x.astype(np.float64) @ w + b, 0), rtol=1e-5, atol=1e-4)


def test_infinity_and_nan_stay_in_their_rows(in_pairs):
    x, w = numbers(1, 64, 129), np.abs(numbers(2, 129, 130)) + 1
    x[3, 128], x[5, 0], x[7, 1] = np.inf, -np.inf, np.nan
    y, _ = half_products.dense(x, w, None, True)
    assert (y[3] == np.inf).all() and (y[5] == 0).all() and np.isnan(y[7]).all()
    assert np.isfinite(np.delete(y, [3, 5, 7], 0)).all()


def test_layers_use_them(in_pairs, monkeypatch):
    counts = []
    monkeypatch.setattr(half_products, "is_faster", lambda *sizes: counts.append(sizes) or False)
    layer = layers.Dense(96, dtype="mixed_bfloat16")
    x = ops.cast(numbers(1, 40, 300), "bfloat16")
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    tape.gradient(y, [x, layer.kernel])
    ops.matmul(x, ops.transpose(x))
    assert sorted(counts) == sorted([(40, 96, 300), (300, 96, 40), (40, 300, 96), (40, 40, 300)])
    counts.clear()
    ops.matmul(x, ops.convert_to_tensor(numbers(2, 300, 40)))
    layers.Dense(96, dtype="mixed_float16")(x)
    assert not counts


@needs_instructions
def test_results_are_those_of_float32_to_its_rounding():
    x, w = numbers(1, 256, 512), numbers(2, 512, 256)
    with pytest.MonkeyPatch.context() as patch:
        ours = np.asarray(ops.matmul(ops.cast(x, "bfloat16"), ops.cast(w, "bfloat16")), np.float32)
        patch.setattr(half_products, "HAS_PAIR_PRODUCTS", False)
        theirs = np.asarray(ops.matmul(ops.cast(x, "bfloat16"), ops.cast(w, "bfloat16")), np.float32)
    assert (ours != theirs).mean() < 0.01  # sums of float32 between two numbers of bfloat16 may be rounded either way
    np.testing.assert_allclose(ours, theirs, rtol=2**-7, atol=1e-4)


def test_levels_of_processors_switch_the_instructions_off(monkeypatch):
    for function in (processor.has, processor.level, processor.extras):
        monkeypatch.setattr(processor, function.__name__, function.__wrapped__)
    monkeypatch.delenv("NBKERAS_EXTRAS", raising=False)
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    for level in processor.LEVELS:
        monkeypatch.setenv("NUMBA_CPU_NAME", level)
        assert not processor.has("avx512bf16")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx512f,+avx512bf16")
    assert processor.has("avx512bf16")
