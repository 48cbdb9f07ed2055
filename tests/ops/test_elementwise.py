"""Elementwise ops: values against NumPy, gradients, broadcasting, dtypes, ties, messages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from mistakes import mistakes

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building.inputs import Input
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.testing import check_op

RNG = np.random.default_rng(3)
ANY = RNG.standard_normal((2, 3)) + np.array([0.1, -0.2, 0.3])
OTHER = RNG.standard_normal((3,)) * 2
POSITIVE = RNG.uniform(0.5, 3, (2, 3))

BINARY = {
    **dict.fromkeys(["add", "subtract", "multiply", "divide", "maximum", "minimum"], ANY),
    **{"mod": ANY * 5, "power": POSITIVE},
}


@pytest.mark.parametrize("name", BINARY)
def test_ops_of_two_equal_numpy(name):
    function, x, y = getattr(ops, name), BINARY[name], OTHER
    np.testing.assert_allclose(function(x, y), getattr(np, name)(x, y), rtol=1e-14)
    check_op(function, x, y)
    check_op(function, y[:, None] if name != "power" else np.abs(y[:, None]), np.ones(()))


@pytest.mark.parametrize("name", "sign floor ceil round isnan isinf isfinite logical_not".split())
def test_steps_equal_numpy_and_have_no_gradient(name):
    x = np.array([-1.5, -0.5, 0.0, 0.5, 2.5, np.nan, np.inf])
    np.testing.assert_array_equal(getattr(ops, name)(x), getattr(np, name)(x))
    check_op(getattr(ops, name), x, wrt=[])


COMPARISONS = "equal not_equal greater greater_equal less less_equal logical_and logical_or logical_xor"


@pytest.mark.parametrize("name", ["floor_divide", *COMPARISONS.split()])
def test_comparisons_equal_numpy(name):
    x, y = np.array([[-1.5], [0.0], [2.0]]), np.array([-1.5, 0.5, 2.0])
    np.testing.assert_array_equal(getattr(ops, name)(x, y), getattr(np, name)(x, y))
    check_op(getattr(ops, name), x, y, wrt=[])


@settings(max_examples=30)
@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3), data=st.data())
def test_gradients_are_summed_to_the_shapes_of_operands(shapes, data):
    a, b, c = (np.asarray(RNG.uniform(0.5, 2, shape)) for shape in shapes.input_shapes)
    with GradientTape() as tape:
        variables = [Variable(each) for each in (a, b, c)]
        y = ops.where(np.asarray(a) > 1, variables[0] * variables[1], variables[2] - variables[1])
    np.testing.assert_allclose(y, np.where(a > 1, a * b, c - b))
    assert [g.shape for g in tape.gradient(y, variables)] == [a.shape, b.shape, c.shape]


def test_where_and_clip():
    mask = np.array([True, False, True])
    check_op(ops.where, mask, ANY, OTHER)
    check_op(lambda x: ops.clip(x, -0.5, 0.5), ANY)
    check_op(lambda x: ops.clip(x, None, 0.5), ANY)
    check_op(lambda x, low: ops.clip(x, low, low + 1.0), ANY, np.array([-1.0, -0.1, 0.0]))
    np.testing.assert_array_equal(ops.clip(np.array([1, 5, 9]), 2, 6), [2, 5, 6])
    bytes_ = np.array([1, 5, 250], "uint8")  # limits outside of a dtype's range have no effect
    for limits in ((-1, 3), (3, 300), (-1, 300), (None, 2**70), (-(2**70), None)):
        found = ops.clip(bytes_, *limits)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, [min(max(int(b), limits[0] or 0), limits[1] or 255) for b in bytes_])
    np.testing.assert_array_equal(ops.clip(np.array([0.0, 1.5, 3.0]), 2, 1), [1, 1, 1])  # as in NumPy and Keras
    assert ops.clip([True, False], 0, 1).dtype == ops.clip([1, 2], 0, 1).dtype == np.int32


def test_dtypes_of_numbers():
    """As in Keras on every backend: Python's integers are int32, its floats (np.float64 is one) floatx."""
    for value, dtype in (
        *((3, "int32"), ([1, 2], "int32"), (((True, 2),), "int32"), ([2**40], "int64"), (np.array([1]), "int64")),
        *(([1.0, 2], "float32"), (np.float64(1), "float32"), (np.array([1.0]), "float64"), ([], "float32")),
        (np.array([1.0], "float16"), "float16"),
    ):
        assert ops.convert_to_tensor(value).dtype == dtype, value
    whole = ops.convert_to_tensor([1, 2])
    assert ops.power(whole, 2).dtype == np.int32 and ops.power(whole, 2.0).dtype == np.float32
    assert ops.trunc(whole).dtype == ops.arange(whole[1]).dtype == (whole + [1, 2]).dtype == np.int32
    assert f"{ops.convert_to_tensor([1.5]):.2f} {whole[0]}" == f"1.50 {whole[0]!r}"


def test_variables_are_made_as_in_keras():
    for variable, value, dtype in (
        (Variable(1.5), 1.5, "float32"),
        (Variable([1, 2], trainable=False), [1, 2], "int32"),
        (Variable(initializer=np.ones(2), name="w"), [1, 1], "float64"),
        (Variable("ones", (2,)), [1, 1], "float32"),
        (Variable(lambda shape, dtype: np.full(shape, 3, dtype), (2,), "float64"), [3, 3], "float64"),
    ):
        assert variable.dtype == dtype
        np.testing.assert_array_equal(variable, value)


def gradients(function, *values):
    variables = [Variable(value, dtype="float64") for value in values]
    with GradientTape() as tape:
        y = function(*variables)
    return [None if g is None else g.item() for g in tape.gradient(y, variables)]


def test_the_gradient_of_a_power_by_the_exponent_is_0_for_a_negative_base():
    assert gradients(ops.power, -2, 3) == [12, 0]


def test_no_gradient_through_steps_and_stop_gradient():
    assert gradients(ops.floor, 1.5) == [None]
    assert gradients(lambda x: x * ops.stop_gradient(x), 3) == [3]


def test_same_operand_twice_and_destinations():
    check_op(lambda x: x / x + x * x - x, POSITIVE)


DTYPES = [
    (lambda x: x * 2.5, np.float32, np.float32),
    (lambda x: x * np.float64(2.5), np.float32, np.float32),
    (lambda x: x * np.arange(3.0), np.float32, np.float32),
    (lambda x: 2 - x, np.float64, np.float64),
    (lambda x: x + 1, np.int32, np.int32),
    (lambda x: x + 1.0, np.int32, np.float32),
    (lambda x: x + 1, np.bool_, np.int32),
    (lambda x: x + 2**40, np.int32, np.int64),
    (lambda x: ops.maximum(x, -1), np.uint8, np.int32),
    (lambda x: x / 2, np.int32, np.float32),
    (lambda x: x // 2, np.int32, np.int32),
    (lambda x: x + ops.cast(x, "float64"), np.float32, np.float64),
    (lambda x: x + ops.cast(x, "float32"), np.int64, np.float32),
    (lambda x: x + ops.cast(x, "int64"), np.int32, np.int64),
    (lambda x: ops.sqrt(x), np.int32, np.float32),
    (lambda x: x > 0, np.float32, np.bool_),
    (lambda x: (x > 0) & (x < 2), np.float32, np.bool_),
    (lambda x: ops.where(x > 0, x, 0.0), np.float32, np.float32),
    (lambda x: ops.square(x), np.bool_, np.int32),
    (lambda x: ops.clip(x, 0.5, 1.5), np.int32, np.float32),
]


@pytest.mark.parametrize("function, given_dtype, expected", DTYPES)
def test_dtypes_of_results(function, given_dtype, expected):
    x = Tensor(np.array([0, 1, 1]).astype(given_dtype))
    assert function(x).dtype == expected


OPERATORS = [
    *(lambda x: x + 1, lambda x: 1 + x, lambda x: x - 1, lambda x: 1 - x, lambda x: x * 3, lambda x: 3 * x),
    *(lambda x: x / 3, lambda x: 3 / x, lambda x: x // 0.4, lambda x: 3 // x, lambda x: x % 0.4, lambda x: 3 % x),
    *(lambda x: x**3, lambda x: 3**x, lambda x: -x, lambda x: +x, lambda x: abs(x), lambda x: x < 1, lambda x: x <= 1),
    *(lambda x: x > 1, lambda x: x >= 1, lambda x: x == 1, lambda x: x != 1, lambda x: ~(x > 1), lambda x: x.T),
    *(lambda x: (x > 1) | (x < 0), lambda x: (x > 1) ^ (x > 0), lambda x: x @ np.ones((3, 2)), lambda x: x[0]),
    *(lambda x: np.ones((4, 2)) @ x, lambda x: np.ones(3) * x, lambda x: np.float64(2) / x),
    lambda x: np.ones((2, 3)) > x,
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_equal_numpys(operator):
    x = ANY.copy()
    x[0, 0] = 1
    result = operator(ops.convert_to_tensor(x))
    assert isinstance(result, Tensor)
    np.testing.assert_allclose(result, operator(x), rtol=1e-14)


def test_tensors_are_hashable_and_comparable_with_none():
    x = ops.convert_to_tensor(ANY)
    assert len({x, x}) == 1
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True
    assert [row.shape for row in x] == [(3,), (3,)]


def test_symbolic_tensors_take_the_same_operators():
    x = Input((3,))
    assert (x == x) is True and x in {x} and (x != 0).dtype == np.bool_  # noqa: PLR0124
    assert (1.0 - x).shape == (np.ones(3) * x).shape == (x @ np.ones((3, 3))).shape == (None, 3)
    assert (x > 0).dtype == np.bool_ and x[:, 0].shape == (None,)


def test_infinities_give_no_warnings():
    x = ops.convert_to_tensor([0.0, -1.0, 1e38])
    assert np.isinf(ops.log(x).numpy()[0]) and np.isnan(ops.log(x).numpy()[1])
    assert np.isinf((x * x).numpy()[2]) and np.isinf((1 / x).numpy()[0])


def test_print_tensor(capsys):
    check_op(lambda x: ops.print_tensor(x, "x is") * 2, ANY)
    printed = capsys.readouterr().out
    assert printed.count("x is") > 5 and str(ANY) in printed


MISTAKES = [
    (lambda: ops.add(np.ones((2, 3)), np.ones((2, 4))), ValueError, r"add: shapes \(2, 3\), \(2, 4\) do not broadcast"),
    (lambda: ops.where(np.ones((2,)), np.ones(3), 0.0), ValueError, r"where: shapes \(2,\), \(3,\), \(\) do not broadcast"),
    (lambda: ops.convert_to_tensor([True]) - True, TypeError, "subtract is not defined for booleans"),
    (lambda: -ops.convert_to_tensor([True]), TypeError, "negative is not defined for booleans"),
    (lambda: Variable("ones"), ValueError, "Variable needs a shape for the initializer"),
    (lambda: Variable(1.0, "w"), TypeError, r"write Variable\(value, name='w'\)"),
    (lambda: Variable([1.0], dtype="longdouble"), TypeError, "have 16, 32 or 64 bits, received (longdouble|float128)"),
    (lambda: iter(ops.sum(ANY)), TypeError, "cannot be iterated"),
    (lambda: ops.gcd(OTHER, 3), TypeError, "gcd is for integers, received float"),
    (lambda: ops.add("text", 1.0), TypeError, "expected numbers or booleans"),
    (lambda: ops.cast(1.0, "float31"), ValueError, "dtype must be a dtype of numbers or booleans, received 'float31'"),
    (lambda: ops.cast(1.0, "longdouble"), TypeError, "have 16, 32 or 64 bits, received"),
    (lambda: ops.cast(1.0, "complex64"), ValueError, "dtype must be a dtype of numbers"),
    (lambda: ops.zeros(2, "longdouble"), TypeError, "have 16, 32 or 64 bits, received"),
    (lambda: ops.where([True], 1.0), ValueError, "give both x1 and x2, or neither of them"),
    (lambda: ops.convert_to_tensor([1.0], sparse=True), ValueError, "convert_to_tensor: .*use pad_sequences and masks"),
    (lambda: ops.mean([ops.ones(2), ops.ones(3)]), ValueError, "tensors in a list must have one shape"),
    (lambda: ["a", "b"][ops.ones(())], TypeError, "a tensor of float32 cannot be an index"),
    (lambda: ops.convert_to_tensor([1.0, 2.0]) & 1, TypeError, "bitwise_and is for integers or booleans, received float"),
    (lambda: ops.convert_to_tensor([1.0]) + None, TypeError, r"unsupported operand type\(s\) for \+"),
]  # fmt: skip


test_mistakes_are_explained = mistakes(MISTAKES)


def test_integers_are_rounded_to_tens():
    x = np.array([0, 5, 15, 25, -35, 99], np.int32)
    np.testing.assert_array_equal(ops.round(x, -1).numpy(), [0, 0, 20, 20, -40, 100])
    assert np.isnan(ops.round(np.ones(2), -(2**31))).all()  # as NumPy's, and at once
