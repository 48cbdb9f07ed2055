"""Products and floats of packed integers on the GPU against those on the CPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import packed

pytestmark = twins.needs_cuda


def example(k, n, groups):
    rng = np.random.default_rng(0)
    bytes_of = rng.integers(-128, 128, (k, (n + 1) // 2)).astype("int8")
    if not groups:
        return bytes_of, rng.uniform(1, 2, n).astype("float32"), None, None
    scale, zero = rng.uniform(1, 2, (2, n)).astype("float32"), rng.integers(-8, 8, (2, n)).astype("int8")
    return bytes_of, scale, zero, (np.arange(k) % 2).astype("float32")


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("size", [(1, 5, 7), (3, 4, 6)], ids=str)
def test_products(size, groups):
    m, k, n = size
    rng = np.random.default_rng(1)
    x, bias = rng.standard_normal((m, k)).astype("float32"), rng.standard_normal(n).astype("float32")
    (got,), (want,) = twins.both(packed.dense, x, *example(k, n, groups), bias, n=n, rectify=True)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_rows_of_a_table():
    rng = np.random.default_rng(3)
    values, scale = rng.integers(-128, 128, (4, 3)).astype("int8"), rng.uniform(1, 2, 4).astype("float32")
    (got,), (want,) = twins.both(packed.gather, values, np.array([3, -1, 0, 8]), scale, None, None, columns=5)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_floats(axis, by, dtype):
    rng = np.random.default_rng(2)
    values = rng.integers(0, 127, (2, 6) if axis == 0 else (4, 3)).astype(dtype)
    shape = (2, 6) if by == 0 else (4, 2)
    scale, zero = rng.uniform(1, 2, shape).astype("float32"), rng.integers(0, 7, shape).astype(dtype)
    groups = (np.arange(4 if by == 0 else 6) % 2).astype("float32")
    (got,), (want,) = twins.both(packed.dequantize, values, scale, zero, groups, shape=(4, 6), axis=axis, by=by)
    np.testing.assert_allclose(got, want, rtol=1e-6)
