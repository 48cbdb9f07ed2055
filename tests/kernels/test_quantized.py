"""Products of int8 and of int8 with floats against NumPy's, exactly where they are exact."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine.tensor import Variable, apply, as_tensor
from nbkeras.kernels import quantized
from nbkeras.kernels.convolution import conv, integers
from nbkeras.kernels.loops.window import slide
from nbkeras.kernels.runtime import processor
from nbkeras.testing import check_op

pytestmark = pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_quantized.py has the GPU's")

SIZES = [
    *((1, 1, 1), (1, 10, 3), (1, 700, 513), (2, 4, 64), (3, 17, 130), (8, 64, 48), (9, 5, 200), (70, 300, 65)),
    (130, 33, 31),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_of_integers_are_exact(size):
    check_product(*size)


def check_product(m, k, n):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, shape).astype("int8") for shape in ((m, k), (k, n)))
    a[0], b[:, 0] = -128, -128  # the largest products
    np.testing.assert_array_equal(quantized.multiply(a, b)[0], a.astype("int32") @ b.astype("int32"))
    assert quantized.multiply(a.reshape(m, 1, k), b)[0].shape == (m, 1, n)


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


# -------------------- convolutions --------------------

# (shape of x, of the kernel, strides, dilation, padding)
CONVOLUTIONS = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (1, 1), "valid"),
    ((2, 5, 7, 1), (3, 3, 1, 17), (1, 1), (1, 1), "same"),
    ((3, 6, 5, 2), (2, 4, 2, 16), (1, 2), (1, 1), "same"),
    ((2, 9, 8, 3), (3, 3, 3, 33), (2, 2), (1, 1), "same"),
    ((1, 11, 13, 4), (3, 2, 4, 5), (1, 1), (2, 3), "valid"),
    ((2, 11, 10, 5), (3, 3, 5, 49), (2, 1), (1, 2), "same"),
    ((1, 1, 12, 3), (1, 4, 3, 6), (1, 1), (1, 2), "causal"),
    ((2, 4, 4, 70), (1, 1, 70, 65), (1, 1), (1, 1), "valid"),
    ((1, 9, 9, 8), (1, 1, 8, 20), (3, 2), (1, 1), "same"),
    ((1, 3, 2, 1), (2, 2, 1, 3), (5, 4), (1, 1), "same"),
    ((1, 4, 3, 300), (4, 3, 300, 2), (1, 1), (1, 1), "valid"),
]


def sums_of(x, w, strides, dilation, padding):
    """The sums of a convolution of integers, by NumPy in int64."""
    window, height, width = slide(x.shape, w.shape[:2], strides, dilation, padding)
    reach = [n + size * step for n, size, step in zip(x.shape[1:3], w.shape[:2], dilation, strict=True)]
    reach = [n + at * step for n, at, step in zip(reach, (height, width), strides, strict=True)]
    padded = np.zeros((len(x), *reach, x.shape[3]), np.int64)
    padded[:, window.top : window.top + x.shape[1], window.left : window.left + x.shape[2]] = x
    y = np.zeros((len(x), height, width, w.shape[3]), np.int64)
    for ky, kx in np.ndindex(w.shape[:2]):
        rows = slice(ky * dilation[0], ky * dilation[0] + height * strides[0], strides[0])
        columns = slice(kx * dilation[1], kx * dilation[1] + width * strides[1], strides[1])
        y += padded[:, rows, columns] @ w[ky, kx].astype(np.int64)
    return y


def check_sums():
    """Convolutions of integers whose largest value is 127, which are their own integers."""
    rng = np.random.default_rng(6)
    for shape, size, strides, dilation, padding in CONVOLUTIONS:
        x, w = rng.integers(-127, 128, shape).astype("float64"), rng.integers(-128, 128, size).astype("int8")
        x[:, 0, 0], w[..., -1] = -127, -128  # the largest products
        window = {"strides": strides, "dilation": dilation, "padding": padding}
        y, _ = integers.conv(x, w, np.ones(size[3]), None, **window, inputs=(-127, 127, 0.0), relu=False)
        np.testing.assert_array_equal(y, sums_of(x, w, **window))


def test_convolutions_of_integers_are_exact():
    check_sums()


BY_LEVEL = f"""if True:
    from nbkeras.kernels.loops.integer_gemm import HAS_BYTE_PRODUCTS
    from test_quantized import check_product, check_sums
    for size in {SIZES}:
        check_product(*size)
    check_sums()
    print(HAS_BYTE_PRODUCTS)
    """


@pytest.mark.process
@pytest.mark.cpu("it compiles for another processor")
@pytest.mark.parametrize("level", processor.LEVELS)
def test_without_instructions_for_bytes_they_are_exact_too(level, tmp_path):
    if not all(map(processor.has, processor.LEVELS[level])):
        pytest.skip(f"needs a processor of the level {level}")
    # a cache of its own, or else another process of this machine could take this code
    own = {"NBKERAS_DEVICE": "cpu", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONSAFEPATH": "1"}
    variables = {**os.environ, **processor.variables_of(level), **own, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", BY_LEVEL], capture_output=True, text=True, env=variables)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_convolution(dtype, relu):
    rng = np.random.default_rng(7)
    x, w = rng.standard_normal((3, 6, 7, 3)).astype(dtype), rng.integers(-127, 128, (3, 3, 3, 18)).astype("int8")
    x[1] = 0
    factors, bias = rng.uniform(0.01, 0.02, 18).astype(dtype), rng.standard_normal(18).astype(dtype)
    window = {"strides": (1, 2), "dilation": (1, 1), "padding": "same"}
    y, _ = integers.conv(x, w, factors, bias, **window, inputs=(-127, 127, 1e-7), relu=relu)
    (q, scale), _ = quantized.quantize(x.reshape(3, -1), -127, 127, 1e-7)
    sums = sums_of(q.reshape(x.shape), w, **window)
    expected = sums.astype(dtype) * (factors * (1 / scale.reshape(3, 1, 1, 1))) + bias
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, 1e-5, 1e-6)
    alone = [
        integers.conv(each[None], w, factors, bias, **window, inputs=(-127, 127, 1e-7), relu=relu)[0] for each in x
    ]
    np.testing.assert_array_equal(y, np.concatenate(alone))


def test_an_image_with_nan_gives_nan_and_the_others_do_not():
    x = np.ones((2, 4, 4, 1), "float32")
    x[0, 1, 2] = np.nan
    w, factors, window = np.ones((1, 1, 1, 2), "int8"), np.ones(2, "float32"), {"strides": (1, 1), "dilation": (1, 1)}
    for relu in (False, True):
        y, _ = integers.conv(x, w, factors, None, **window, padding="valid", inputs=(-127, 127, 1e-7), relu=relu)
        assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()
    (_, scale), _ = quantized.quantize(x.reshape(2, -1), -127, 127, 1e-7)
    assert np.isnan(scale[0]) and np.isfinite(scale[1])


def test_the_gradient_of_a_convolution_is_that_by_the_floats():
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal((2, 5, 6, 3)), rng.integers(-127, 128, (3, 2, 3, 4)).astype("int8")
    factors, bias = rng.uniform(0.01, 0.02, 4), rng.standard_normal(4)
    constants = {"strides": (1, 2), "dilation": (1, 1), "padding": "same", "relu": True}
    y, saved = integers.conv(x, w, factors, bias, **constants, inputs=(-127, 127, 1e-7))
    dy = rng.standard_normal(y.shape)
    dx, dw, dfactors, db = integers.conv_vjp(saved, dy, (True, False, False, True))
    _, (*_, window, _, chosen) = conv.conv(x, w * factors, bias, groups=1, **constants)
    want = conv.conv_vjp((x, w * factors, y, window, 1, chosen), dy, (True, False, True))
    np.testing.assert_allclose(dx, want[0])
    np.testing.assert_allclose(db, want[2])
    assert dw is dfactors is None


def test_a_convolution_without_elements():
    w, factors = np.ones((3, 3, 2, 4), "int8"), np.ones(4, "float32")
    constants = {"strides": (1, 1), "dilation": (1, 1), "padding": "same", "inputs": (-127, 127, 1e-7), "relu": False}
    assert integers.conv(np.ones((0, 5, 5, 2), "float32"), w, factors, None, **constants)[0].shape == (0, 5, 5, 4)


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
