"""Ops that users make of formulas: values, derivatives, recorded steps, caches; what formulas cannot do."""

import inspect
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import Variable, autodiff, config, ops
from nbkeras.kernels.runtime import cache, device
from nbkeras.layers import LSTM, Dense, Input
from nbkeras.models import Model, load_model
from nbkeras.tensor import GradientTape, formula
from nbkeras.testing import check_op

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "custom-ops.md"
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((3, 5))


@formula
def snake(x):
    """x + sin(x)^2."""
    return x + ops.sin(x) ** 2


@formula
def waves(x, a, *, size=1.0):
    return x + size * ops.sin(a * x) ** 2 / a


@formula
def folded(x):
    return ops.where(x > 0, ops.sqrt(x), 0.5 * snake(x))


def test_an_op_computes_its_formula_and_has_all_derivatives():
    check_op(snake, X, order=2)
    np.testing.assert_allclose(snake(X).numpy(), X + np.sin(X) ** 2, rtol=1e-12)
    third = autodiff.grad(autodiff.grad(autodiff.grad(snake)))
    np.testing.assert_allclose(third(np.array(0.3)).item(), -4 * math.sin(0.6), rtol=1e-12)


def test_tensors_broadcast_and_numbers_have_no_gradient():
    a = np.linspace(0.5, 2, 5)
    check_op(waves, X, a, order=2)
    check_op(lambda x, a: waves(x, a, size=3), X[:, :1], a, order=2)
    np.testing.assert_allclose(waves(X, a, size=3).numpy(), X + 3 * np.sin(a * X) ** 2 / a, rtol=1e-12)
    np.testing.assert_allclose(waves(X, 2.0).numpy(), X + np.sin(2 * X) ** 2 / 2, rtol=1e-12)


def test_the_derivative_of_a_branch_that_is_not_taken_has_no_effect():
    """The derivative of sqrt is NaN below 0."""
    check_op(folded, np.array([-1.0, -0.3, 0.4, 2.0]), order=2)


def softplus_of_two(x, y):
    return ops.softplus(x - y) + ops.maximum(x, 0.3) * (y < 0.5) - ops.minimum(x, y) ** 3


def powers(x, y):
    return (2 + x * x) ** y + 1.5**x + ops.square(x) / (3 + y) - 2.0 / (1 + ops.exp(-x)) ** 0.5


@pytest.mark.parametrize("function", [softplus_of_two, powers], ids=["softplus", "powers"])
def test_operations_of_two_numbers(function):
    x, y = RANDOM.standard_normal((2, 7))
    check_op(formula(function), x, y, order=2)
    np.testing.assert_allclose(
        formula(function)(x, y).numpy(), function(ops.array(x), ops.array(y)).numpy(), rtol=1e-12
    )


@pytest.mark.parametrize(
    "function",
    [lambda x, *, k=3.0: k * x, lambda x: x, lambda x: -x, lambda x: ops.relu(x), lambda x: (x > 0) * x],
    ids=["a number", "one", "minus one", "a condition", "a product with a condition"],
)
def test_slopes_that_are_simple(function):
    check_op(formula(function), X, order=2)


def test_a_step_function_has_no_gradient():
    check_op(formula(lambda x: ops.sign(x) * 2), X)
    assert (
        autodiff.grad(lambda x: ops.sum(formula(lambda x: ops.sign(x))(x) + x))(X).numpy().tolist()
        == np.ones_like(X).tolist()
    )


OF_ONE = (
    "absolute arctan cos cosh erf erfc exp expm1 gelu hard_silu log log1p log2 mish negative reciprocal relu rsqrt sigmoid sign "
    "silu sin sinh softplus sqrt square tan tanh"
).split()


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_of_a_formula_are_those_of_ops(name, dtype):
    function = getattr(ops, name)
    near = np.array([0.01, 0.2, 0.5, 0.9, 1.4, 1.0, 2.0, 7.5])
    x = near if name in ("log", "log2", "rsqrt", "sqrt") else np.concatenate([near, -near / 8, -near])
    x = (x[x > -1] if name == "log1p" else x).astype(dtype)
    made = formula(lambda x: function(x))
    close = {"rtol": 20 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
    np.testing.assert_allclose(made(x).numpy(), function(x).numpy(), **close)
    if dtype == "float64":
        grad, own = (autodiff.grad(lambda x, f=f: ops.sum(f(x)))(x).numpy() for f in (made, function))
        np.testing.assert_allclose(grad, own, rtol=1e-11, atol=1e-13)


def test_infinity_and_nan():
    x = np.array([np.nan, np.inf, -np.inf, 0.0], "f4")
    np.testing.assert_array_equal(formula(lambda x: ops.maximum(x, 1.0))(x).numpy(), [np.nan, np.inf, 1, 1])
    np.testing.assert_array_equal(formula(lambda x: ops.minimum(1.0, x))(x).numpy(), [np.nan, 1, -np.inf, 0])
    np.testing.assert_array_equal(formula(lambda x: ops.clip(x, None, 2))(x).numpy(), [np.nan, 2, -np.inf, 0])
    np.testing.assert_array_equal(formula(lambda x: ops.where(x == x, 1.0, 0 * x))(x).numpy(), [np.nan, 1, 1, 1])


def test_dtypes():
    assert snake([1, 2]).dtype == config.floatx() and snake(np.ones(2, "f4")).dtype == "float32"
    assert waves(np.ones(2, "f8"), 2).dtype == "float64"


@pytest.mark.cpu("its kernels have no twins")
def test_it_is_the_hand_written_op_of_the_document(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python[^\n]*\n# snake\.py\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "snake_by_hand.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    from snake_by_hand import snake as by_hand

    for dtype, close in (("f4", 1e-5), ("f8", 1e-12)):
        x = X.astype(dtype)
        np.testing.assert_allclose(snake(x).numpy(), by_hand(x).numpy(), rtol=close, atol=close)
        grads = [autodiff.grad(lambda x, f=f: ops.sum(f(x)))(x).numpy() for f in (snake, by_hand)]
        np.testing.assert_allclose(*grads, rtol=close, atol=close)


class Launches:
    """A recorder that notes the names of launched kernels."""

    reason = None

    def __init__(self):
        self.names = []

    def launched(self, function, args):
        self.names.append(getattr(function, "__name__", str(function)))

    def allocated(self, array):
        return array

    def knows(self, array):
        return True

    def called(self, function, inputs, rest, constants):
        return function(*inputs, *rest, **constants)

    def value_read(self):
        pass


def test_there_is_one_kernel_forward_and_one_backward():
    x, a, launches = ops.array(X), ops.array(X + 3), Launches()
    with device.record(launches), GradientTape() as tape:
        tape.watch([x, a])
        y = waves(x, a)
        tape.gradient(y, [x, a])
    names = [name for name in launches.names if name != "fill"]
    assert names == ["waves.forward", "waves.backward"]


def test_it_works_in_models_steps_and_files(tmp_path):
    inputs = Input((5,))
    model = Model(inputs, snake(Dense(2)(Dense(8, activation=snake)(inputs))))
    model.compile("adam", "mse")
    losses = model.fit(X, X[:, :2], epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras", custom_objects={"snake": snake})
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_it_computes_each_step_of_a_stream_alone():
    steps = Input((None, 3))
    model = Model(steps, snake(LSTM(2, return_sequences=True)(steps)))
    x, stream = np.ones((1, 4, 3), "f4"), model.stream()
    y, _ = stream(x[:, :1], stream.initial())
    np.testing.assert_allclose(y, model.predict(x, verbose=0)[:, :1], rtol=1e-5)


def test_vmap_computes_all_members_at_once():
    x, a = RANDOM.standard_normal((2, 4, 3))
    np.testing.assert_allclose(autodiff.vmap(waves)(x, a).numpy(), waves(x, a).numpy(), rtol=1e-12)
    slopes = autodiff.vmap(autodiff.grad(lambda x, a: ops.sum(waves(x, a))), in_axes=(0, None))(x, a[0])
    np.testing.assert_allclose(slopes.numpy(), 1 + np.sin(2 * a[0] * x), rtol=1e-9)


VARIABLE = Variable([1.0, 2.0])


def branches(x):
    return x if x > 0 else -x


def iterates(x):
    for _ in range(2000):
        x = 1.001 * x + 0.5
    return x


def defaults(x, a=1.0):
    return a * x


REFUSED = {
    "a branch": (branches, r"write where\(condition, a, b\) for `a if condition else b`"),
    "math": (lambda x: math.sin(x), r"for functions of Python and `math` write those of nbkeras.ops"),
    "NumPy": (lambda x: np.sin(x), "cannot call numpy.sin: write a function of nbkeras.ops"),
    "an op": (lambda x: ops.matmul(x, x), "cannot call matmul; formulas may call each other, and of nbkeras.ops absolute"),
    "an option": (lambda x: ops.relu(x, max_value=6), "can call relu only without options"),
    "a number as a condition": (lambda x: ops.where(x, 1.0, 0.0), "conditions such as x > 0, received numbers: write x != 0"),
    "a variable": (lambda x: x * VARIABLE, "received Variable: pass an array or a tensor as an argument"),
    "an array": (lambda x: np.ones(2) * x, "received ndarray: pass an array or a tensor as an argument"),
    "an element": (lambda x: x[0], "single numbers, which have no elements"),
    "a remainder": (lambda x: x % 2, "cannot call numpy.remainder"),
    "two results": (lambda x: (x, x), "expected one result, received 2"),
    "no result": (lambda x: None, "expected a number that depends on a tensor, received None"),
    "a constant": (lambda x: 1.0, "number that depends on a tensor, received a result that depends on no tensor"),
    "a result of numbers": (lambda x, *, a: a * 2, "received a result that depends on no tensor"),
    "a condition": (lambda x: x > 0, r"returns a condition, expected a number: ops.where\(condition, 1.0, 0.0\)"),
    "a default": (defaults, r"A number is a parameter after `\*`, as in `def defaults\(x, \*, a=1.0\)`"),
    "any arguments": (lambda *x: x[0], r"each argument needs a name, received \*x"),
    "no tensor": (lambda *, a: a, "expected a parameter for a tensor"),
    "a long loop": (iterates, "formula iterates: it has hundreds of operations, one after the other"),
    "a name of kernels": (lambda x, share: x, "rename the parameter share"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_formula_cannot_do_is_refused_at_the_decorator(name):
    function, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        formula(function)


test_arguments_that_an_op_does_not_take_are_refused = mistakes(
    [
        (lambda: waves(X, np.ones(4)), ValueError, r"waves: shapes \(3, 5\), \(4,\) do not broadcast together"),
        (lambda: waves(X, 1.0, size=VARIABLE), TypeError, "waves: size must be a number, received Variable"),
        (lambda: waves(X), TypeError, "waves: missing a required argument: 'a'"),
    ]
)


@pytest.mark.parametrize("function", [waves, ops.sinc, ops.softsign])
def test_other_processes_find_the_kernels_of_all_derivatives_by_their_names(function):
    """Wheels hold only kernels with such names, and only these can be compiled by other processes."""
    for of in ("", "slope_0.", "slope_0.slope_0.", "slope_1.slope_0." if function is waves else "slope_0."):
        for way in ("forward", "backward"):
            name = f"{function.__name__}.{of}{way}"
            kernel = cache.named(function.__module__, name)
            assert (kernel.__module__, kernel.__qualname__) == (function.__module__, name)
    assert cache.named(function.__module__, f"{function.__name__}.slope_2.forward") is None


def test_two_formulas_of_one_name_have_their_own_kernels():
    def scaled_by(factor):
        @formula
        def scaled(x):
            return factor * x

        return scaled

    assert [scaled_by(factor)(1.0).item() for factor in (2.0, 3.0)] == [2.0, 3.0]


SCRIPT = """
import numpy as np
from mine import bent
from nbkeras.kernels.runtime import code
from nbkeras.tensor import GradientTape, as_tensor
compiled = []
with code.compilations(lambda: compiled.append(1)), GradientTape() as tape:
    x = as_tensor(np.ones(4, "f4"))
    tape.watch(x)
    y = bent(x)
    dx = tape.gradient(y, x)
print(y.numpy()[0], dx.numpy()[0], len(compiled))
"""


@pytest.mark.process
def test_kernels_are_kept_on_disk_until_the_formula_changes(tmp_path):
    module = "FACTOR = 1.0\nfrom nbkeras.tensor import formula\n@formula\ndef bent(x):\n    return x * (x + FACTOR)\n"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def look(text):
        (tmp_path / "mine.py").write_text(text)
        done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        y, dx, compiled = done.stdout.split()
        return float(y), float(dx), int(compiled)

    y, dx, compiled = look(module)
    assert (y, dx) == (2.0, 3.0) and compiled >= 2
    assert look(module) == (2.0, 3.0, 0)
    assert look(module.replace("FACTOR = 1.0", "FACTOR = 2.0"))[:2] == (3.0, 4.0)
    assert look(module.replace("x + FACTOR", "x - FACTOR"))[:2] == (0.0, 1.0)


def test_a_formula_keeps_its_name_signature_and_documentation():
    assert snake.__doc__ == "x + sin(x)^2." and str(inspect.signature(waves)) == "(x, a, *, size=1.0)"


def test_a_formula_may_be_made_while_another_one_is_read():
    def outer(x):  # the first use of an op may import a module of formulas
        formula(lambda a: 2 * a)
        return ops.exp(x)

    np.testing.assert_allclose(formula(outer)(np.array([0.5])), np.exp([0.5]))
