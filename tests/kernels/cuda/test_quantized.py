"""Integers of rows, products of int8 and rows of quantized tables on the GPU against those on the CPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import quantized
from nbkeras.kernels.convolution import integers

pytestmark = twins.needs_cuda
LIMITS = -127, 127, 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 5), (3, 16), (2, 70)])
def test_integers_of_rows(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x[0, ..., 0] = 0
    got, want = twins.both(quantized.quantize, x, low=-127, high=127, epsilon=1e-7)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 17, 5), (5, 4, 9), (7, 3, 4)])
@pytest.mark.parametrize("inputs", [LIMITS, None])
def test_products(size, inputs):
    m, k, n = size
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((m, k)).astype("float32"), rng.integers(-127, 128, (k, n)).astype("int8")
    scale, bias = rng.uniform(1, 2, n).astype("float32"), rng.standard_normal(n).astype("float32")
    (got,), (want,) = twins.both(quantized.dense, x, w, scale, bias, inputs=inputs, rectify=True)
    np.testing.assert_allclose(got, want, 1e-5, 1e-4)
    if inputs is not None:
        q = rng.integers(-128, 128, (m, k)).astype("int8")
        (got,), (want,) = twins.both(quantized.multiply, q, w)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("strides", "dilation", "padding"), [((1, 1), (1, 1), "valid"), ((2, 1), (1, 2), "same")])
def test_convolutions(strides, dilation, padding, dtype):
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((2, 5, 6, 3)).astype(dtype), rng.integers(-127, 128, (3, 2, 3, 5)).astype("int8")
    factors, bias = rng.uniform(0.1, 0.2, 5).astype(dtype), rng.standard_normal(5).astype(dtype)
    constants = {"strides": strides, "dilation": dilation, "padding": padding, "inputs": LIMITS, "relu": True}
    for summand in (bias, None):
        needs = (True, False, False, summand is not None)
        twins.check(integers.conv, integers.conv_vjp, [x, w, factors, summand], constants, needs)


@pytest.mark.parametrize("axes", [(1, 1, 5), (1, 4, 1)])
def test_integers_as_floats(axes):
    rng = np.random.default_rng(3)
    values, scale = rng.integers(-127, 128, (3, 4, 5)).astype("int8"), rng.uniform(1, 2, axes).astype("float32")
    (got,), (want,) = twins.both(quantized.dequantize, values, scale)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("width", [1, 3, 16])
def test_rows_of_a_table(width):
    rng = np.random.default_rng(2)
    table, scale = rng.integers(-127, 128, (7, width)).astype("int8"), rng.uniform(1, 2, 7).astype("float32")
    (got,), (want,) = twins.both(quantized.gather, table, rng.integers(-9, 9, (4, 5)), scale)
    np.testing.assert_array_equal(got, want)
    assert np.isnan(want).any()
