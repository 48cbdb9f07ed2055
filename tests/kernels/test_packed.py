"""Products of packed integers of 4 bits against NumPy's."""

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine.tensor import apply, as_tensor
from nbkeras.kernels import packed
from nbkeras.quantizers.packing import packed_pairs
from nbkeras.quantizers.rounding import grouped
from nbkeras.testing import check_op

pytestmark = pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_packed.py has the GPU's")
SIZES = [(1, 1, 1), (1, 10, 3), (1, 300, 1031), (2, 4, 64), (3, 260, 130), (5, 7, 129), (70, 33, 31)]


def example(m, k, n, groups, dtype="float32"):
    rng = np.random.default_rng(k)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    if groups is None:
        scale = rng.uniform(1, 2, n).astype(dtype)
        integers = np.clip(np.round(w * scale), -8, 7).astype("int8")
        return x, packed_pairs(integers, 1), scale, None, None, b, integers / scale
    integers, scale, zero = grouped(w, groups)
    at = rng.permutation(np.arange(k) // groups)
    floats = (integers - zero[at].astype(dtype)) * scale[at]
    return x, packed_pairs(integers, 1), scale, zero, at.astype("float32"), b, floats


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [None, 3, 64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products(size, groups, dtype):
    *arrays, w = example(*size, groups, dtype)
    for rectify in (False, True):
        for bias in (arrays[-1], None):
            y, _ = packed.dense(*arrays[:-1], bias, size[2], rectify)
            want = arrays[0] @ w + (0 if bias is None else bias)
            want = np.maximum(want, 0) if rectify else want
            np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("groups", [None, 2], ids=["one group", "groups of 2"])
def test_gradients(groups):
    x, *fixed, bias, _ = example(3, 5, 7, groups, "float64")
    weight = [None if each is None else as_tensor(each) for each in fixed]

    def product(x, bias):
        cast = [each if each is None or each.dtype.kind != "f" else ops.cast(each, x.dtype) for each in weight]
        return apply(packed.dense, packed.dense_vjp, [x, *cast, bias], n=7, rectify=False)

    check_op(product, x, bias)


@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_floats_of_packed_integers(axis, by, dtype):
    rng = np.random.default_rng(0)
    integers = rng.integers(*((-8, 8) if dtype == "int8" else (0, 16)), (5, 7)).astype(dtype)
    shape = (2, 7) if by == 0 else (5, 2)
    scale, zero = rng.uniform(1, 2, shape).astype("float32"), rng.integers(0, 7, shape).astype(dtype)
    groups = np.array([0, 1, 0, 1, 1, 0, 1][: 5 if by == 0 else 7], "float32")
    y, _ = packed.dequantize(packed_pairs(integers, axis), scale, zero, groups, (5, 7), axis, by)
    at = groups.astype(int)
    points, factors = (np.take(each, at, axis=by) for each in (zero, scale))
    np.testing.assert_allclose(y, (integers.astype("float32") - points) * factors, rtol=1e-6)
    one = rng.uniform(1, 2, 7 if by == 0 else 5).astype("float32")
    y, _ = packed.dequantize(packed_pairs(integers, axis), one, None, None, (5, 7), axis, by)
    np.testing.assert_allclose(y, integers / (one if by == 0 else one[:, None]), rtol=1e-6)


@pytest.mark.parametrize("groups", [None, 3], ids=["one group", "groups of 3"])
def test_rows_of_a_table(groups):
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 8, (5, 7)).astype("int8")
    scale = rng.uniform(1, 2, 5 if groups is None else (5, 3)).astype("float32")
    zero = None if groups is None else rng.integers(-8, 8, (5, 3)).astype("int8")
    at = None if groups is None else (np.arange(7) // 3).astype("float32")
    whole, _ = packed.dequantize(packed_pairs(values, 1), scale, zero, at, (5, 7), 1, 1)
    found, _ = packed.gather(packed_pairs(values, 1), np.array([[4, -1], [0, 9]]), scale, zero, at, 7)
    np.testing.assert_array_equal(found[0, 0], whole[4])
    np.testing.assert_array_equal(found[:, :1], whole[[4, 0]][:, None])
    np.testing.assert_array_equal(found[0, 1], whole[4])
    assert np.isnan(found[1, 1]).all()


def test_products_without_elements():
    nothing = np.ones((0, 4), "float32")
    y, _ = packed.dense(nothing, np.ones((4, 2), "int8"), np.ones(3, "float32"), None, None, None, 3, False)
    assert y.shape == (0, 3)
