"""Elementwise functions from the table, integers' bits, and functions composed of them: NumPy's values, gradients, replay."""

import numpy as np
import pytest
import scipy.special

from nbkeras import ops
from nbkeras.testing import check_op

RNG = np.random.default_rng(5)
ANY = RNG.standard_normal((2, 3)) + np.array([0.1, -0.2, 0.3])
OTHER = RNG.standard_normal((3,)) * 2
INSIDE = RNG.uniform(-0.9, 0.9, (2, 3))
POSITIVE = RNG.uniform(0.5, 3, (2, 3))
SPECIAL = np.array([-1.5, -0.5, -0.0, 0.0, 0.5, 2.5, np.nan, np.inf, -np.inf])

UNARY = [
    *(("arcsin", np.arcsin, INSIDE), ("arccos", np.arccos, INSIDE), ("arctanh", np.arctanh, INSIDE)),
    *(
        ("sinh", np.sinh, ANY),
        ("cosh", np.cosh, ANY),
        ("arcsinh", np.arcsinh, ANY),
        ("arccosh", np.arccosh, POSITIVE + 1),
    ),
    *(("exp2", np.exp2, ANY), ("log10", np.log10, POSITIVE), ("cbrt", np.cbrt, ANY)),
    *(("deg2rad", np.deg2rad, ANY), ("rad2deg", np.rad2deg, ANY), ("fabs", np.fabs, ANY), ("sinc", np.sinc, ANY)),
    *(("erfc", scipy.special.erfc, ANY), ("erfinv", scipy.special.erfinv, INSIDE), ("i0", np.i0, ANY * 4)),
    *(("real", np.real, ANY), ("conj", np.conj, ANY)),
]
BINARY = [
    *(("hypot", np.hypot), ("arctan2", np.arctan2), ("logaddexp", np.logaddexp), ("logaddexp2", np.logaddexp2)),
    *(("fmod", np.fmod), ("fmax", np.fmax), ("fmin", np.fmin)),
    *(("divide_no_nan", np.divide),),
]
STEPS = [
    *(("trunc", np.trunc), ("signbit", np.signbit), ("isposinf", np.isposinf), ("isneginf", np.isneginf)),
    *(("nan_to_num", np.nan_to_num), ("angle", np.angle), ("isreal", np.isreal), ("imag", np.imag)),
    *(("sinc", lambda x: np.sinc(np.where(np.isinf(x), np.nan, x))),),
]
PAIRS = [
    *(("heaviside", np.heaviside), ("nextafter", np.nextafter), ("isclose", np.isclose), ("fmax", np.fmax)),
    *(("fmin", np.fmin),),
]
INTEGERS = [
    *(("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or), ("bitwise_xor", np.bitwise_xor)),
    *(("gcd", np.gcd), ("lcm", np.lcm), ("fmax", np.fmax), ("fmin", np.fmin), ("fmod", np.fmod)),
    *(("left_shift", lambda x, y: np.left_shift(x, y % 5)), ("right_shift", lambda x, y: np.right_shift(x, y % 5))),
]


@pytest.mark.parametrize("name, reference, x", UNARY, ids=[case[0] for case in UNARY])
def test_functions_of_one_equal_numpy(name, reference, x):
    function = getattr(ops, name)
    np.testing.assert_allclose(function(x), reference(x), rtol=1e-14)
    assert function(np.ones(2, np.int32)).dtype == (np.int32 if name in ("real", "conj") else np.float32)
    check_op(function, x)


@pytest.mark.parametrize("name, reference", BINARY, ids=[case[0] for case in BINARY])
def test_functions_of_two_equal_numpy(name, reference):
    function = getattr(ops, name)
    np.testing.assert_allclose(function(ANY, OTHER), reference(ANY, OTHER), rtol=1e-14)
    check_op(function, ANY, OTHER)
    check_op(function, OTHER[:, None], np.ones(()) * 0.7)


@pytest.mark.parametrize("name, reference", STEPS, ids=[case[0] for case in STEPS])
def test_steps_equal_numpy_and_have_no_gradient(name, reference):
    np.testing.assert_array_equal(getattr(ops, name)(SPECIAL), reference(SPECIAL))
    check_op(getattr(ops, name), SPECIAL[:6], wrt=[])


@pytest.mark.parametrize("name, reference", PAIRS, ids=[case[0] for case in PAIRS])
def test_pairs_of_special_numbers_equal_numpy(name, reference):
    np.testing.assert_array_equal(getattr(ops, name)(SPECIAL[:, None], SPECIAL), reference(SPECIAL[:, None], SPECIAL))


@pytest.mark.parametrize("name, reference", INTEGERS, ids=[case[0] for case in INTEGERS])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_functions_of_integers_equal_numpy(name, reference, dtype):
    x, y = np.array([[12], [7], [40]], dtype), np.array([4, 6, 3, 9], dtype)
    y = y % 5 if "shift" in name else y
    received = getattr(ops, name)(x, y)
    np.testing.assert_array_equal(received, reference(x, y))
    assert received.dtype == dtype
    check_op(getattr(ops, name), x, y, wrt=[])


def test_remainders_and_extremes_of_integers_and_booleans():
    x, y = np.array([[-7], [7], [0]], np.int32), np.array([2, -3, 7], np.int32)
    np.testing.assert_array_equal(ops.fmod(x, y), np.fmod(x, y))
    least = np.array([-(2**31), 2**31 - 1, -1, 1], np.int32)  # the first has no absolute value
    np.testing.assert_array_equal(ops.fmod(least[:, None], least), np.fmod(least[:, None], least))
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
    with pytest.raises(TypeError, match="gcd is for integers, received float"):
        ops.gcd(OTHER, 3)
