"""Products of int8 and of int8 with floats against NumPy's, exactly where they are exact."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine.tensor import Variable, apply, as_tensor
from nbkeras.kernels import quantized
from nbkeras.kernels.runtime import processor
from nbkeras.testing import check_op

pytestmark = pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_quantized.py has the GPU's")

SIZES = [
    (1, 1, 1),
    (1, 10, 3),
    (1, 700, 513),
    (2, 4, 64),
    (3, 17, 130),
    (8, 64, 48),
    (9, 5, 200),
    (70, 300, 65),
    (130, 33, 31),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_of_integers_are_exact(size):
    m, k, n = size
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, shape).astype("int8") for shape in ((m, k), (k, n)))
    a[0], b[:, 0] = -128, -128  # the largest products
    np.testing.assert_array_equal(quantized.multiply(a, b)[0], a.astype("int32") @ b.astype("int32"))
    assert quantized.multiply(a.reshape(m, 1, k), b)[0].shape == (m, 1, n)


PRODUCTS = f"""if True:
    import numpy as np
    from nbkeras.kernels import quantized
    from nbkeras.kernels.loops.integer_gemm import HAS_BYTE_PRODUCTS
    rng = np.random.default_rng(0)
    for m, k, n in {SIZES}:
        a, b = (rng.integers(-128, 128, shape).astype("int8") for shape in ((m, k), (k, n)))
        assert (quantized.multiply(a, b)[0] == a.astype("int32") @ b.astype("int32")).all()
    print(HAS_BYTE_PRODUCTS)
    """


@pytest.mark.slow
@pytest.mark.cpu("it compiles for another processor")
@pytest.mark.skipif(not processor.has("avx2"), reason="needs a processor with AVX2")
def test_products_without_instructions_for_bytes_are_exact_too():
    variables = {**os.environ, **processor.variables_of("x86-64-v3"), "NBKERAS_DEVICE": "cpu", "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", PRODUCTS], capture_output=True, text=True, env=variables)
    assert done.stdout == "False\n", done.stderr


def test_products_without_elements():
    assert not quantized.multiply(np.ones((2, 0), "int8"), np.ones((0, 3), "int8"))[0].any()
    assert quantized.multiply(np.ones((0, 4), "int8"), np.ones((4, 3), "int8"))[0].shape == (0, 3)
    for inputs in (None, (-127, 127, 1e-7)):
        y = quantized.dense(np.ones((0, 4), "float32"), np.ones((4, 3), "int8"), np.ones(3, "float32"), None, inputs)[0]
        assert y.shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_of_rows_are_keras_s(dtype):
    x = np.random.default_rng(1).standard_normal((4, 5, 70)).astype(dtype)
    x[1, 2] = 0
    x[2, 0, :4] = [127, 0.5, 1.5, 2.5]
    (q, scale), _ = quantized.quantize(x, -127, 127, 1e-7)
    kind = x.dtype.type
    expected = kind(127) / (np.abs(x).max(-1, keepdims=True) + kind(1e-7))
    np.testing.assert_array_equal(scale, expected)
    np.testing.assert_array_equal(q, np.clip(np.round(x * expected), -127, 127).astype("int8"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_dense_layer(size):
    m, k, n = size
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((m, k)).astype("float32"), rng.integers(-127, 128, (k, n)).astype("int8")
    scale, bias = rng.uniform(100, 200, n).astype("float32"), rng.standard_normal(n).astype("float32")
    (q, steps), _ = quantized.quantize(x, -127, 127, 1e-7)
    integers = (q.astype("int32") @ w.astype("int32")).astype("float32") / (scale * steps) + bias
    np.testing.assert_array_equal(quantized.dense(x, w, scale, bias, (-127, 127, 1e-7))[0], integers)
    found = quantized.dense(x, w, scale, bias, (-127, 127, 1e-7), rectify=True)[0]
    np.testing.assert_array_equal(found, np.maximum(integers, 0))
    floats = x.astype("float64") @ w / scale + bias
    np.testing.assert_allclose(quantized.dense(x, w, scale, bias, None)[0], floats, 1e-5, 1e-5)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("inputs", [None, (-127, 127, 1e-7)], ids=str)
def test_the_gradient_is_that_of_a_product_with_the_floats(rectify, inputs):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((3, 4)), rng.integers(-127, 128, (4, 5)).astype("int8")
    scale, bias, dy = rng.uniform(100, 200, 5), rng.standard_normal(5), rng.standard_normal((3, 5))
    y, saved = quantized.dense(x, w, scale, bias, inputs, rectify)
    dx, dw, dscale, db = quantized.dense_vjp(saved, dy, (True, False, False, True))
    dz = dy * (y > 0) if rectify else dy
    np.testing.assert_allclose(dx, dz @ (w / scale).T)
    np.testing.assert_allclose(db, dz.sum(0))
    assert dw is dscale is None


def test_a_recorded_product_is_the_eager_one():
    rng = np.random.default_rng(4)
    w, scale = Variable(rng.integers(-127, 128, (4, 5)).astype("int8")), Variable(rng.uniform(100, 200, 5))

    def product(x):
        return apply(quantized.dense, quantized.dense_vjp, [x, w, as_tensor(scale, x.dtype), None], inputs=None)

    check_op(product, rng.standard_normal((3, 4)))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 3, 2, 5), (3,)), ((4, 5), (0,)), ((4, 4), (0,)), ((2, 3, 4), (1, 2)), ((2, 1), (1,)), ((0, 3), (1,))],
)
def test_integers_as_floats(shape, axes):
    rng = np.random.default_rng(5)
    values = rng.integers(-127, 128, shape).astype("int8")
    scale = rng.uniform(1, 2, [size if axis in axes else 1 for axis, size in enumerate(shape)]).astype("float32")
    y = quantized.dequantize(values, scale)[0]
    np.testing.assert_array_equal(y, values.astype("float32") / scale)
    assert y.dtype == np.float32


def test_rows_of_a_table():
    table = np.arange(-6, 6).reshape(4, 3).astype("int8")
    scale = np.array([1, 2, 4, 8], "float32")
    y = quantized.gather(table, np.array([[0, 3, -1], [4, -5, 1]]), scale)[0]
    np.testing.assert_array_equal(y[0], (table / scale[:, None])[[0, 3, 3]])
    np.testing.assert_array_equal(y[1, 2], table[1] / 2)
    assert np.isnan(y[1, :2]).all()


def test_products_of_int8_tensors_are_int32():
    a, b = np.full((2, 3), -128, "int8"), np.full((3, 2), 127, "int8")
    y = ops.matmul(a, b)
    assert y.dtype == np.int32 and (y.numpy() == -128 * 127 * 3).all()
