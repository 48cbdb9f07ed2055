"""Activations: against real Keras, float32 errors in ulp against float64, gradients, edge values, threads, names."""

import pathlib

import numpy as np
import pytest
import scipy.special
from in_threads import by_threads
from mistakes import mistakes

from nbkeras import KerasTensor, activations, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import as_tensor
from nbkeras.testing import check_op

REFERENCE = np.load(pathlib.Path(__file__).parents[1] / "reference" / "activations.npz")
CALLS = {
    "relu_all": ("relu", {"negative_slope": 0.1, "max_value": 3.0, "threshold": 1.0}),
    "leaky_relu_slope": ("leaky_relu", {"negative_slope": 0.5}),
    "elu_alpha": ("elu", {"alpha": 0.5}),
    "celu_alpha": ("celu", {"alpha": 2.0}),
    "gelu_approximate": ("gelu", {"approximate": True}),
    "softmax_axis": ("softmax", {"axis": 0}),
    "log_softmax_axis": ("log_softmax", {"axis": 0}),
    "sparsemax_axis": ("sparsemax", {"axis": 0}),
    "threshold": ("threshold", {"threshold": 1.0, "default_value": -2.0}),
}
RNG = np.random.default_rng(1)


def away_from_kinks(*shape):
    """Values that are not near a kink of any activation here (kinks are at whole numbers and halves)."""
    return RNG.choice(np.arange(-5, 5, 0.5), shape) + RNG.uniform(0.05, 0.45, shape)


@pytest.mark.parametrize("case", [name for name in REFERENCE.files if name != "x"])
def test_equal_to_keras(case):
    name, arguments = CALLS.get(case, (case, {}))
    y = getattr(activations, name)(as_tensor(REFERENCE["x"]), **arguments)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), REFERENCE[case], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("case", [name for name in REFERENCE.files if name not in ("x", "linear")])
def test_gradients_equal_differences(case):
    name, arguments = CALLS.get(case, (case, {}))
    check_op(lambda x: getattr(ops, name)(x, **arguments), away_from_kinks(4, 6))


def test_more_gradients():
    x = away_from_kinks(3, 4, 2)
    check_op(ops.legacy_hard_sigmoid, x)
    check_op(lambda x: ops.softmax(x, axis=1), x)
    check_op(lambda x: (ops.softmax(x, axis=(0, -1)), ops.log_softmax(x, axis=None)), x)
    check_op(lambda x: ops.gelu(x, approximate=False), x)
    check_op(lambda x: ops.l2_normalize(x, axis=1), x)


def test_legacy_hard_sigmoid():
    x = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])
    np.testing.assert_allclose(ops.legacy_hard_sigmoid(x).numpy(), [0, 0, 0.3, 0.5, 0.7, 1, 1], atol=1e-7)


# The largest error of the float32 functions against float64, in units in the last place of the exact value. In gelu's tail
# (1e-32 at -12) the rounding of x / sqrt(2) and of its square alone makes up 2 x^2 ulp, in Keras too.
ULP = {
    "sigmoid": (scipy.special.expit, -87, 20, 2.6),
    "tanh": (np.tanh, -20, 20, 4.6),
    "silu": (lambda x: x * scipy.special.expit(x), -80, 20, 3.6),
    "softplus": (lambda x: np.logaddexp(0, x), -80, 80, 3.0),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), -20, 20, 1.6),
    "log_sigmoid": (scipy.special.log_expit, -80, 80, 3.0),
    "softsign": (lambda x: x / (1 + np.abs(x)), -20, 20, 1.6),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), -80, 20, 9.0),
    "gelu_exact": (lambda x: 0.5 * x * scipy.special.erfc(-x / np.sqrt(2)), -2, 20, 12.0),
    "gelu_tail": (lambda x: 0.5 * x * scipy.special.erfc(-x / np.sqrt(2)), -12, -2, 250.0),
    "gelu_tanh": (lambda x: x * scipy.special.expit(1.5957691216057308 * (x + 0.044715 * x**3)), -3, 20, 12.0),
}


@pytest.mark.cpu("states the errors of the CPU's functions")
@pytest.mark.parametrize("name", ULP)
def test_float32_errors_in_ulp(name):
    exact, low, high, limit = ULP[name]
    function = {
        "gelu_exact": lambda x: ops.gelu(x, approximate=False),
        "gelu_tail": lambda x: ops.gelu(x, approximate=False),
        "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    }.get(name) or getattr(ops, name)
    x = np.linspace(low, high, 200_001, dtype=np.float32)
    expected = exact(x.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    errors = np.abs(function(x).numpy() - expected) / unit
    assert errors.max() <= limit, f"{errors.max():.2f} ulp at x = {x[errors.argmax()]}"


FAR = {  # value and slope towards -infinity, value and slope towards infinity
    **dict.fromkeys(["relu", "silu", "gelu", "gelu_approximate", "mish", "hard_silu", "softplus"], (0, 0, np.inf, 1)),
    "leaky_relu": (-np.inf, 0.2, np.inf, 1),
    "elu": (-1, 0, np.inf, 1),
    "sigmoid": (0, 0, 1, 0),
    "log_sigmoid": (-np.inf, 1, 0, 0),
    "tanh": (-1, 0, 1, 0),
    "sparse_plus": (0, 0, np.inf, 1),
    "relu6": (0, 0, 6, 0),
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_values_and_their_slopes(name, dtype):
    """They are the limits, at infinity too; Keras gives NaN there for silu, gelu, mish and hard_silu."""
    function, arguments = CALLS.get(name, (name, {}))
    sizes = np.array([1e4, 1e19, 1e30, 1e38 if dtype == np.float32 else 1e300, np.inf], dtype)
    x = as_tensor(np.stack([-sizes, sizes]))
    with GradientTape() as tape:
        tape.watch(x)
        y = getattr(activations, function)(x, **arguments)
    low, low_slope, high, high_slope = FAR[name]
    limits = [np.sign(limit) * sizes if np.isinf(limit) else np.full_like(sizes, limit) for limit in (low, high)]
    if name == "leaky_relu":
        limits[0] = sizes * dtype(-0.2)
    np.testing.assert_allclose(y, limits, rtol=1e-6, atol=1e-30)
    slopes = np.repeat(np.array([[low_slope], [high_slope]], dtype), len(sizes), axis=1)
    np.testing.assert_allclose(tape.gradient(y, x), slopes, rtol=1e-6, atol=1e-30)
    subnormal = getattr(activations, function)(np.array([-1e-40, 1e-40], dtype), **arguments).numpy()
    np.testing.assert_allclose(subnormal, getattr(activations, function)(np.zeros(2, dtype), **arguments), atol=1e-38)
    assert np.isnan(getattr(activations, function)(np.array([np.nan], dtype), **arguments).numpy()).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_edges(dtype):
    x = np.array([[0, -1e9, 1], [-np.inf, 0, 0], [np.nan, 0, 1], [1e30, 0, 0]], dtype)
    y = ops.softmax(x).numpy()
    np.testing.assert_allclose(y[0], [0.26894143, 0, 0.7310586], rtol=1e-6)
    np.testing.assert_array_equal(y[1], [0, 0.5, 0.5])
    assert np.isnan(y[2]).all()
    np.testing.assert_array_equal(y[3], [1, 0, 0])
    np.testing.assert_allclose(ops.sum(ops.softmax(x[:2, :2], axis=(0, 1))), 1, rtol=1e-6)
    assert ops.softmax(x[0, 0]).numpy() == 1
    np.testing.assert_allclose(ops.log_softmax(x).numpy()[0], [-1.3132617, -1e9, -0.3132617], rtol=1e-6)


EVERY_KERNEL = (
    "relu leaky_relu elu sigmoid tanh silu gelu gelu_approximate mish hard_silu softplus softmax log_softmax".split()
)


@pytest.mark.cpu("about threads")
@pytest.mark.parametrize("case", EVERY_KERNEL)
def test_large_arrays_run_in_shares_that_do_not_depend_on_threads(case):
    name, arguments = CALLS.get(case, (case, {}))

    def function(x):
        return getattr(activations, name)(x, **arguments)

    x = as_tensor(RNG.standard_normal((1317, 100)).astype(np.float32))  # four shares or more
    found = by_threads(lambda: function(x).numpy())
    np.testing.assert_array_equal(found[0], found[-1])
    rows = np.concatenate([function(x.numpy()[i : i + 50]).numpy() for i in range(0, x.shape[0], 50)])
    np.testing.assert_array_equal(found[0], rows)
    slope = x.numpy() + 1
    check_large_gradient(function, x.numpy(), slope)


def check_large_gradient(function, x, slope):
    """The vjp computed in shares equals the vjp of a few rows at a time."""

    def gradient(x, slope):
        tensor = as_tensor(x)
        with GradientTape() as tape:
            tape.watch(tensor)
            y = function(tensor)
        return tape.gradient(y, tensor, output_gradients=slope).numpy()

    parts = [gradient(x[i : i + 50], slope[i : i + 50]) for i in range(0, len(x), 50)]
    np.testing.assert_array_equal(gradient(x, slope), np.concatenate(parts))


def test_integers():
    """As in Keras, relu keeps them, and other activations make floats of them."""
    kept = ops.relu(np.array([-1, 2]))
    assert kept.dtype == np.int64 and ops.sigmoid(np.array([-1, 2])).dtype == np.float32
    np.testing.assert_array_equal(kept.numpy(), [0, 2])


def test_empty_tensors():
    for name in ("relu", "sigmoid", "softmax", "gelu"):
        assert getattr(ops, name)(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_relu_has_no_negative_zero():
    for arguments in ({}, {"max_value": 6.0}):
        assert not np.signbit(ops.relu(np.array([-1.0, -0.5], np.float32), **arguments).numpy()).any()


test_mistakes_are_explained = mistakes(
    [
        (lambda: ops.softmax(np.ones((2, 3)), axis=2), "axis 2 is out of range"),
        (lambda: ops.relu(np.ones(2), max_value=-1.0), "max_value must not be negative"),
        (lambda: ops.celu(np.ones(2), alpha=0.0), "alpha must not be 0"),
        (lambda: activations.get("cube"), "unknown activation: 'cube'"),
        (lambda: activations.get("sigmod"), "Did you mean 'sigmoid'"),
        (lambda: activations.get(3), "activation must be a name"),
        (lambda: ops.glu(np.ones((2, 3))), r"axis -1 must have an even size, received shape \(2, 3\)"),
    ],
    ValueError,
)


# -------------------- by name --------------------


def test_every_name_gives_a_function_that_gives_its_name_back():
    functions = [name for name, item in activations.registry.items().items() if not isinstance(item, type)]
    assert len(functions) > 30  # the others are layers that are activations, too
    for name in functions:
        function = activations.get(name)
        assert activations.deserialize(activations.serialize(function)) is function
    assert activations.get("swish") is activations.silu
    assert activations.serialize(activations.swish) == "silu"
    assert activations.get(None) is activations.linear


def test_own_functions_are_activations():
    def cube(x):
        return x * x * x

    assert activations.get(cube) is cube
    assert activations.deserialize("cube", {"cube": cube}) is cube


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_value": 5.0}, {"max_value": 2.0}, {"negative_slope": 0.5}, {"threshold": 6.0, "max_value": 5.0}],
)
def test_relu_is_0_at_its_threshold_as_keras_s(settings):
    settings = {"threshold": 2.0, **settings}
    assert ops.relu(np.array([settings["threshold"]], "float32"), **settings).numpy() == 0


def test_softmax_over_one_number_warns():
    with pytest.warns(UserWarning, match="softmax over axis -1 of shape .2, 1. always gives 1: did you mean a sigmoid"):
        ops.softmax(np.zeros((2, 1), "float32"))
    with pytest.warns(UserWarning, match="did you mean a sigmoid"):
        ops.softmax(KerasTensor((None, 1, 3)), axis=1)
    assert ops.softmax(np.zeros((1, 2), "float32")).shape == (1, 2)


def test_relu_with_a_threshold_outside_its_range_is_keras_s():
    x = np.array([-5, -2.5, -1, 0.5, 1.5, 2.5, 6], "float32")
    found = ops.relu(x, negative_slope=0.1, max_value=5.0, threshold=-2.0)
    np.testing.assert_allclose(found, [-0.3, -0.05, 0, 0.5, 1.5, 2.5, 5], atol=1e-6)
    found = ops.relu(x, negative_slope=0.1, max_value=1.0, threshold=2.0)
    np.testing.assert_allclose(found, [-0.7, -0.45, -0.3, -0.15, -0.05, 1, 1], atol=1e-6)
    values = away_from_kinks(3, 4)
    check_op(lambda t: ops.relu(t, negative_slope=0.1, max_value=1.0, threshold=2.0), [values])
