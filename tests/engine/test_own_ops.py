"""A user's op with a mistake: the message names the function, its file and line, and the correction."""

import math

import numpy as np
import pytest

from nbkeras import ops, testing
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares
from nbkeras.testing import check_op

X = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
pytestmark = pytest.mark.cpu("kernels compiled by Numba, without twins")


@compiled
def double(x, y):
    for i in range(x.size):
        y[i] = x.dtype.type(2) * x[i]


def double_op(x):
    y = device.empty(x.shape, x.dtype)
    device.launch(double, x.reshape(-1), y.reshape(-1))
    return y, None


def double_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(double, dy.reshape(-1), dx.reshape(-1))
    return (dx,)


def launching(kernel, *more):
    """An op that launches a kernel on its input and its output."""

    def own_op(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(kernel, x.reshape(-1), y.reshape(-1), *more)
        return y, None

    return own_op


def function(forward=double_op, vjp=double_vjp):
    return lambda x: apply(forward, vjp, [as_tensor(x)])


def differentiate(vjp, forward=double_op):
    x = Tensor(device.persistent(X.copy()))
    with GradientTape() as tape:
        tape.watch(x)
        y = function(forward, vjp)(x)
    return tape.gradient(y, x)


def record(forward):
    recorder, x = Recorder(), device.persistent(X.copy())
    with device.record(recorder):
        function(forward, None)(Tensor(x))
    return recorder


def refused(error, *parts):
    """`pytest.raises` for an error that says all parts, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(parts))


# -------------------- what ops and vjps return --------------------


def test_an_op_without_saved():
    with refused(
        TypeError, "op 'forgetful' .*test_own_ops.py:", r"must return \(y, saved\)", r"array of shape \(2, 3\)"
    ):

        def forgetful(x):
            return double_op(x)[0]

        function(forgetful)(X)


def test_an_op_that_returns_no_array():
    with refused(TypeError, "op 'own' .*test_own_ops.py:", "must return arrays of device.empty", "Tensor of shape"):

        def own(x):
            return Tensor(double_op(x)[0]), None

        function(own)(X)


def test_an_op_that_returns_an_array_made_by_numpy():
    def own(x):
        return np.zeros(x.shape, x.dtype), None

    with refused(RuntimeError, "op 'own' .*test_own_ops.py:", r"shape \(2, 3\)", "device.empty", "stale on replay"):
        record(own)


@pytest.mark.parametrize(
    "vjp, parts",
    [
        (
            lambda saved, dy, needs: double_vjp(saved, dy, needs)[0],
            ["of 'double_op'", r"\(dx,\)", r"Received an array of shape \(2, 3\)"],
        ),
        (
            lambda saved, dy, needs: (*double_vjp(saved, dy, needs), None),
            ["each of the op's 1 inputs", "Received 2"],
        ),
        (lambda saved, dy, needs: (2.0,), ["must return arrays", "received 2.0 as gradient 0"]),
        (lambda saved, dy: (dy,), [r"must take \(saved, dy, needs\)", "but 3 were given"]),
    ],
    ids=["an array", "too many", "a number", "without needs"],
)
def test_vjps_that_return_or_take_something_else(vjp, parts):
    with refused(TypeError, "vjp '<lambda>' .*test_own_ops.py:", *parts):
        differentiate(vjp)


@pytest.mark.parametrize(
    "gradient, received",
    [
        (lambda dy: device.empty((2, 2), dy.dtype), r"shape \(2, 2\)"),
        (lambda dy: device.empty((3,), dy.dtype), r"shape \(3,\)"),
        (lambda dy: device.empty(dy.shape, np.float32), "float32"),
    ],
)
def test_a_gradient_of_another_shape_or_dtype(gradient, received):
    with refused(
        ValueError, "vjp 'vjp' .*test_own_ops.py:", r"shape \(2, 3\) and dtype float64", "device.output", received
    ):

        def vjp(saved, dy, needs):
            return (gradient(dy),)

        differentiate(vjp)


def test_a_type_error_inside_a_vjp_is_not_hidden():
    def vjp(saved, dy, needs):
        return len(3)

    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        differentiate(vjp)


def test_arrays_and_symbolic_tensors_given_to_apply():
    with refused(TypeError, "op 'double_op' .*test_own_ops.py:", r"array of shape \(2, 3\)", "as_tensor"):
        apply(double_op, double_vjp, [X])
    from nbkeras.layers import Input

    with refused(TypeError, "op 'double_op' .*test_own_ops.py:", "SymbolicTensor", "@op"):
        apply(double_op, double_vjp, [Input((3,))])


# -------------------- kernels --------------------


@compiled
def returning(x, y):
    return x[0]


@compiled
def without_shares(x, y):
    for i in range(x.size):
        y[i] = x[i]


@compiled
def of_unknown_method(x, y):
    for i in range(x.size):
        y[i] = x[i].sine()


@compiled
def with_a_file(x, y):
    with open("numbers") as numbers:
        y[0] = len(numbers.read())


@compiled
def of_unknown_name(x, y):
    y[0] = missing(x[0])  # noqa: F821


@compiled
def of_unknown_function(x, y):
    y[0] = math.sine(x[0])


def helper(x):
    return x


@compiled
def calling_python(x, y):
    y[0] = helper(x[0])


@compiled
def storing_text(x, y):
    y[0] = "one"


def test_a_kernel_that_returns_a_value():
    with refused(
        TypeError, "kernel 'returning' .*test_own_ops.py:", "returned a value", "expected None", "device.empty"
    ):
        function(launching(returning))(X)


def test_a_wrong_number_of_arguments():
    with refused(TypeError, "kernel 'double' .*test_own_ops.py:", r"takes 2 arguments \(x, y\), received 3"):
        function(launching(double, 1.0))(X)


def test_shares_of_a_kernel_that_is_not_compiled():
    def own_kernel(x, share, shares):
        pass

    with refused(TypeError, "launch_shares needs a compiled kernel", "'own_kernel' .*test_own_ops.py:", "@compiled"):
        launch_shares(own_kernel, 2, X)


@pytest.mark.parametrize("shares", [1, 2])
def test_shares_forgotten(shares):
    def own_op(x):
        y = device.empty(x.shape, x.dtype)
        launch_shares(without_shares, shares, x.reshape(-1), y.reshape(-1))
        return y, None

    with refused(TypeError, "kernel 'without_shares' .*test_own_ops.py:", "launch_shares", "`share, shares`"):
        function(own_op)(X)


def test_a_tensor_given_to_a_kernel():
    with refused(TypeError, "kernel 'double' .*test_own_ops.py:", "for 'y'", "received a Tensor of shape"):
        device.launch(double, X.ravel(), as_tensor(X.ravel()))
    with refused(TypeError, "for 'x'", r"received a Tensor of shape \(6,\)", "device.launch"):
        double(as_tensor(X.ravel()), X.ravel())


@pytest.mark.parametrize(
    "kernel, reason",
    [
        (of_unknown_method, r"Unknown attribute 'sine' of type float64 \[line \d+: y\[i\] = x\[i\].sine\(\)\]$"),
        (with_a_file, "The 'with .*' construct is not supported"),
        (of_unknown_name, "name 'missing' is not defined"),
        (of_unknown_function, "module 'math' has no attribute 'sine'"),
        (calling_python, "'helper'.*must be @compiled too$"),
        (storing_text, r"setitem.*array\(float64, 1d, C\).*str.* \[line \d+: y\[0\] = \"one\"\]$"),
    ],
)
def test_what_numba_cannot_compile(kernel, reason):
    with refused(TypeError, f"Numba cannot compile the kernel '{kernel.__name__}' .*test_own_ops.py:\\d+\\): ", reason):
        function(launching(kernel))(X)


def test_a_type_error_inside_a_kernel_in_python_is_not_hidden():
    def kernel(x, y):
        y[0] = len(3)

    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        function(launching(kernel))(X)


# -------------------- values that are read while a step is recorded --------------------


def branch_on(look):
    def own_op(x):
        y = device.empty(x.shape, x.dtype)
        if look(x):
            device.launch(double, x.reshape(-1), y.reshape(-1))
        else:
            device.launch(device.fill, y, 0)
        return y, None

    return own_op


LOOKS = [
    lambda x: x.sum() > 0,
    lambda x: np.sum(x) > 0,
    lambda x: x.argmax(),
    lambda x: x[0, 0] > 0,
    lambda x: float(x[0, 0]),
    lambda x: x[0, 0].item(),
    lambda x: bool(x.reshape(-1)[1]),
    lambda x: x.tolist()[0],
    lambda x: 0.5 in x,
    lambda x: [row for row in x],
    lambda x: x[x > 0],
    lambda x: x[[0, 1]],
    lambda x: x.T.copy(),
    lambda x: x.flat[0],
    lambda x: setattr(x, "flat", 0.0),
    lambda x: np.array_equal(x, x),
    lambda x: x.fill(0),
    lambda x: x.__setitem__(0, 1),
    lambda x: np.multiply(x, 2, out=x),
    lambda x: double(x.reshape(-1), x.reshape(-1)),
]


@pytest.mark.parametrize("look", LOOKS)
def test_values_are_not_read_while_a_step_is_recorded(look):
    with refused(device.ValueReadError, r"<lambda>.* \(.*test_own_ops.py:\d+\) used ", "device.launch", "device.read"):
        record(branch_on(look))


def test_forms_and_views_are_free_while_a_step_is_recorded():
    def own_op(x):
        rows = np.moveaxis(x.reshape(3, 2).T[None, ::-1, :2], 0, -1)[..., 0]
        assert rows.shape == (2, 2) and np.ndim(rows) == 2 and len(rows) == 2 and rows.dtype == x.dtype and x.size
        assert np.result_type(x, np.float32) == np.float64 and rows[0, 0].shape == ()
        assert "values" not in repr(x) and "shape (2, 3)" in str(x)
        y = device.empty(rows.shape, rows.dtype)
        device.launch(device.copy, rows, y)
        return y, rows

    recorder = record(own_op)
    assert recorder.reason is None and not recorder.sealed([]).launches


def test_an_array_kept_from_a_recorded_step_is_an_array_like_others():
    kept = []

    def own_op(x):
        y = double_op(x)[0]
        kept.append(y)
        return y, None

    record(own_op)
    (y,) = kept
    assert type(y + 1) is np.ndarray and type(y.copy()) is np.ndarray and y[0, 1] == -2.5 and y.sum() == 6
    np.add(y, 1, out=y)
    assert type(Tensor(y).numpy()) is np.ndarray and repr(y) == repr(2 * X + 1)
    double(y.reshape(-1), y.reshape(-1))
    np.testing.assert_array_equal(y, 4 * X + 2)


def test_a_value_may_be_read_on_purpose():
    recorder = record(branch_on(lambda x: device.read(x).sum() > 0))
    assert recorder.reason is not None


def test_no_values_while_shapes_are_worked_out():
    from nbkeras.layers import Input

    with refused(device.ValueReadError, "test_own_ops.py", "its shape is worked out", "nothing is computed then"):
        op(function(branch_on(lambda x: x.sum() > 0)))(Input((3,)))


# -------------------- what only check_op finds --------------------


@pytest.mark.parametrize("look", LOOKS[:3])
def test_check_op_finds_a_branch_on_values(look):
    with refused(AssertionError, "test_own_ops.py", "device.launch"):
        check_op(function(branch_on(look), None), X, wrt=[])


def test_check_op_finds_a_branch_that_the_guard_does_not_see():
    """np.asarray takes the memory of an array without a call of its methods."""
    with refused(AssertionError, "replayed output 0 for numbers of the other sign differs"):
        check_op(function(branch_on(lambda x: np.asarray(x).sum() > 0), None), X, wrt=[])


@compiled
def one_too_far(x, y):
    for i in range(x.size):
        y[i] = x[i] + x[i + 1] * x.dtype.type(0)


@compiled
def one_too_many(x, y):
    for i in range(x.size + 1):
        y[i] = x[min(i, x.size - 1)]


@compiled
def all_but_the_last(x, y):
    for i in range(x.size - 1):
        y[i] = x[i]


@compiled
def clearing(x, y):
    for i in range(x.size):
        y[i] = x[i]
        x[i] = x.dtype.type(0)


@compiled
def in_float64(x, y):
    for i in range(x.size):
        y[i] = 2.0 * math.sin(x[i])


@compiled
def in_float64_on_purpose(x, y):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    for i in range(x.size):
        y[i] = 0.5 if x[i] > 0 else -np.inf
        y[i] = y.dtype.type(total)


def past_the_end_by_address(x, y):
    np.lib.stride_tricks.as_strided(y, (y.size + 1,), y.strides)[...] = 1


@pytest.mark.parametrize(
    "kernel, message",
    [
        (one_too_far, r"uses an index outside its arrays: line \d+: index 6 is out of bounds .* size 6"),
        (one_too_many, r"uses an index outside its arrays: line \d+: index 6 is out of bounds .* size 6"),
        (past_the_end_by_address, r"wrote outside an array of shape \(2, 3\) and dtype float64, after its memory"),
        (clearing, r"changed input 0 of 'own_op' .*test_own_ops.py:\d+\), an array of shape \(2, 3\)"),
    ],
)
def test_check_op_names_the_kernel(kernel, message):
    with refused(AssertionError, f"kernel '{kernel.__name__}' .*test_own_ops.py:", message):
        check_op(function(launching(kernel), None), X, wrt=[])


def test_check_op_runs_no_kernel_before_its_indices_are_checked(monkeypatch):
    """A kernel that writes outside of its arrays ended the process, after the error or before it."""
    monkeypatch.setattr(testing, "_run", None)  # what runs kernels without the check
    with refused(AssertionError, r"index 6 is out of bounds"):
        check_op(function(launching(one_too_far), None), X, wrt=[])


def test_check_op_names_elements_that_no_kernel_wrote():
    with refused(
        AssertionError, "'own_op' .*test_own_ops.py", r"1 elements .* \(1, 2\)", "kernel with that array is 'all_but"
    ):
        check_op(function(launching(all_but_the_last), None), X, wrt=[])


def test_check_op_finds_float64_in_float32_kernels():
    with refused(AssertionError, r"kernel 'in_float64' .* line \d+", r"x.dtype.type\(2\)"):
        check_op(function(launching(in_float64), None), X, wrt=[])
    check_op(function(launching(in_float64_on_purpose), None), X, wrt=[])


def test_check_op_checks_shares():
    @compiled
    def clearing_share(x, y, share, shares):
        clearing(x, y)

    def own_op(x):
        y = device.empty(x.shape, x.dtype)
        launch_shares(clearing_share, 2, x.reshape(-1), y.reshape(-1))
        return y, None

    with refused(AssertionError, "kernel 'clearing_share'", "changed input 0"):
        check_op(function(own_op, None), X, wrt=[])


def test_check_op_finds_a_vjp_that_changes_dy_or_what_was_saved():
    def own_op(x):
        return double_op(x)[0], x

    def changes_dy(saved, dy, needs):
        device.launch(device.fill, dy, 1)
        return (dy,)

    def changes_saved(saved, dy, needs):
        device.launch(device.fill, saved, 1)
        return double_vjp(saved, dy, needs)

    for vjp, what in ((changes_dy, "dy"), (changes_saved, "what its op saved")):
        with refused(AssertionError, f"kernel 'fill' .* changed {what} of '{vjp.__name__}' .*test_own_ops.py"):
            check_op(function(own_op, vjp), X)


def test_check_op_warns_of_a_loop_in_python():
    def forgotten(x, y):
        for i in range(x.size):
            y[i] = 2 * x[i]

    with pytest.warns(UserWarning, match="'forgotten' .*test_own_ops.py:.* loop in Python.*@compiled"):
        check_op(function(launching(forgotten), None), X, wrt=[])
    check_op(
        function(launching(device.host(lambda x, y: [np.copyto(y, x) for _ in range(2)] and None)), None), X, wrt=[]
    )


def test_an_op_may_move_a_state_along():
    state = Tensor(device.persistent(np.zeros(6)))

    def own_op(x, state):
        y = device.empty(x.shape, x.dtype)
        device.launch(device.copy, x, y)
        device.launch(np.add, state, x.reshape(-1), state)
        return y, None

    check_op(lambda x: apply(own_op, None, [x, state]), X, wrt=[])
    assert state.numpy().any()


def test_constants_may_have_any_name():
    def own_op(x, function, inputs):
        y = device.empty(x.shape, x.dtype)
        device.launch(np.multiply, x, x.dtype.type(function * inputs), y)
        return y, None

    check_op(lambda x: apply(own_op, None, [x], function=2, inputs=3), X, wrt=[])


def test_a_right_op_passes():
    check_op(function(), X)
    check_op(lambda x: ops.sin(function()(x)), X)


def test_a_function_without_a_module_becomes_an_op():
    names = {"op": op}
    exec("@op\ndef double(x):\n    return x * 2", names)
    assert names["double"].__module__ is None
    np.testing.assert_array_equal(names["double"](as_tensor([1.0, 2.0])), [2.0, 4.0])
