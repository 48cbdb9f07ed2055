"""Elementwise functions from the table, integers' bits, and functions composed of them: NumPy's values, gradients, replay."""

import numpy as np
import pytest
import scipy.special

from nbkeras import ops
from nbkeras.testing import check_op

RNG = np.random.default_rng(5)
ANY = RNG.standard_normal((2, 3)) + np.array([0.1, -0.2, 0.3])
OTHER = RNG.standard_normal((3,)) * 2
SPECIAL = np.array([-1.5, -0.5, -0.0, 0.0, 0.5, 2.5, np.nan, np.inf, -np.inf])

BINARY = ["hypot", "arctan2", "logaddexp", "logaddexp2", "fmod", "fmax", "fmin"]
STEPS = {
    **{name: getattr(np, name) for name in "trunc signbit isposinf isneginf nan_to_num angle isreal imag".split()},
    "sinc": lambda x: np.sinc(np.where(np.isinf(x), np.nan, x)),
}
INTEGERS = {
    **{name: getattr(np, name) for name in "bitwise_and bitwise_or bitwise_xor gcd lcm fmax fmin fmod".split()},
    "left_shift": lambda x, y: np.left_shift(x, y % 5),
    "right_shift": lambda x, y: np.right_shift(x, y % 5),
}


@pytest.mark.parametrize(
    "name",
    [
        *("arcsin", "arccos", "arctanh", "sinh", "cosh", "arcsinh", "arccosh", "exp2", "log10", "cbrt", "deg2rad"),
        *("rad2deg", "fabs", "sinc", "erfc", "erfinv", "i0", "real", "conj"),
    ],
)
def test_functions_of_integers_give_floats_unless_they_keep_the_numbers(name):
    assert getattr(ops, name)(np.ones(2, np.int32)).dtype == ("int32" if name in ("real", "conj") else "float32")


@pytest.mark.parametrize(
    "name, reference", [*((name, getattr(np, name)) for name in BINARY), ("divide_no_nan", np.divide)]
)
def test_functions_of_two_equal_numpy(name, reference):
    function = getattr(ops, name)
    np.testing.assert_allclose(function(ANY, OTHER), reference(ANY, OTHER), rtol=1e-14)
    check_op(function, ANY, OTHER)
    check_op(function, OTHER[:, None], np.ones(()) * 0.7)


@pytest.mark.parametrize("name", STEPS)
def test_steps_equal_numpy_and_have_no_gradient(name):
    np.testing.assert_array_equal(getattr(ops, name)(SPECIAL), STEPS[name](SPECIAL))
    check_op(getattr(ops, name), SPECIAL[:6], wrt=[])


@pytest.mark.parametrize("name", ["heaviside", "nextafter", "isclose", "fmax", "fmin"])
def test_pairs_of_special_numbers_equal_numpy(name):
    x, y = SPECIAL[:, None], SPECIAL
    np.testing.assert_array_equal(getattr(ops, name)(x, y), getattr(np, name)(x, y))


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_functions_of_integers_equal_numpy(name, dtype):
    x, y = np.array([[12], [7], [40]], dtype), np.array([4, 6, 3, 9], dtype)
    y = y % 5 if "shift" in name else y
    received = getattr(ops, name)(x, y)
    np.testing.assert_array_equal(received, INTEGERS[name](x, y))
    assert received.dtype == dtype
    check_op(getattr(ops, name), x, y, wrt=[])


def test_remainders_and_extremes_of_integers_and_booleans():
    x, y = np.array([[-7], [7], [0]], np.int32), np.array([2, -3, 7], np.int32)
    np.testing.assert_array_equal(ops.fmod(x, y), np.fmod(x, y))
    minimum = np.array([-(2**31), 2**31 - 1, -1, 1], np.int32)  # the first has no absolute value
    np.testing.assert_array_equal(ops.fmod(minimum[:, None], minimum), np.fmod(minimum[:, None], minimum))
    flags = np.array([True, False])
    assert ops.fmod(flags, x).dtype == ops.fmod(flags, [True, True]).dtype == ops.fmax(flags, x).dtype == np.int32
    np.testing.assert_array_equal(ops.fmin(flags, True), flags)
    assert ops.fmin(flags, True).dtype == np.bool_
    assert ops.fmax(x, 0.5).dtype == np.float32


def test_extreme_numbers_equal_scipy():
    x = np.array([-1, 1, 0, 2, 1 - 1e-12, 1e-300, -0.7])
    np.testing.assert_allclose(ops.erfinv(x), scipy.special.erfinv(x), rtol=1e-14)
    x = np.array([-30, 0, 25.0, 300, 800])
    np.testing.assert_allclose(ops.i0(x), scipy.special.i0(x), rtol=1e-13)
    np.testing.assert_allclose(ops.erfc(x), scipy.special.erfc(x), rtol=1e-13)
    assert ops.isclose(np.nan, np.nan, equal_nan=True) and not ops.allclose([1.0, np.nan], [1.0, np.nan])
    assert ops.allclose([1.0, 2.0], [1.0, 2.000001]) and not ops.allclose(1.0, 1.1)
    np.testing.assert_array_equal(ops.divide_no_nan([1.0, 2.0], [0.0, 4.0]), [0, 0.5])
    np.testing.assert_array_equal(ops.ldexp([1.5, -2.0], [3, -1]), [12, -1])
    np.testing.assert_array_equal(ops.nan_to_num(SPECIAL, 7.0, 8.0, -8.0)[-3:], [7, 8, -8])
    check_op(lambda x: ops.divide_no_nan(x, np.array([0.0, 2.0, 3.0])), OTHER)
    check_op(lambda x: ops.nan_to_num(x), OTHER)


def test_operators_of_integers_and_booleans():
    x, mask = ops.convert_to_tensor([5, 12, 7]), ops.convert_to_tensor([True, False, True])
    np.testing.assert_array_equal(x & 6, [4, 4, 6])
    np.testing.assert_array_equal(1 | x ^ 3, [7, 15, 5])
    np.testing.assert_array_equal(~x, [-6, -13, -8])
    np.testing.assert_array_equal((x << 2) >> 1, [10, 24, 14])
    np.testing.assert_array_equal(~mask | (mask & (x > 5)), [False, True, True])
    np.testing.assert_array_equal(np.stack(divmod(x, 4)), np.stack(np.divmod(x.numpy(), 4)))
    np.testing.assert_array_equal(round(ops.convert_to_tensor([1.26, 2.5]), 1), np.float32([1.3, 2.5]))
