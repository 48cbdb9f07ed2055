"""Record, replay, and the plan of buffers."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine import tensor
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.program import Program
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels.runtime import device

RNG = np.random.default_rng(1)


def recorded(function, *inputs):
    """A sealed program of function(*tensors) -> list of tensors, its input arrays and its output arrays."""
    program = Program()
    held = [device.persistent(np.array(each)) for each in inputs]
    with device.record(program):
        outputs = [y.data for y in function(*[Tensor(each) for each in held])]
    played = program.seal(outputs)
    device.write(program.arena, 0xFF)
    return program, held, played


def changed(array):
    """Write new numbers into an array, and return them."""
    numbers = RNG.standard_normal(array.shape)
    device.write(array, numbers)
    return numbers


def test_replay_follows_its_inputs():
    program, arrays, (z,) = recorded(lambda x, y: [ops.sum(ops.exp(x) * y, axis=1)], np.ones((2, 3)), np.ones(3))
    for _ in range(3):
        x, y = map(changed, arrays)
        program.run()
        np.testing.assert_allclose(z, (np.exp(x) * y).sum(1))


def test_a_training_step_replays():
    w, rate = Variable(np.ones(3)), device.persistent(np.array(0.1))

    def step(x):
        with GradientTape():
            loss = ops.mean(ops.square(ops.sum(x * w, axis=1)))
        (gradient,) = tensor.gradient([loss], [w])
        w.assign(w - Tensor(gradient) * Tensor(rate))
        return [loss]

    program, (inputs,), (loss,) = recorded(step, RNG.standard_normal((4, 3)))
    expected, factor = w.numpy(), 0.1
    for _ in range(5):
        x = changed(inputs)
        factor *= 0.9
        device.write(rate, factor)
        errors = x @ expected
        gradient = 2 / 4 * (errors[:, None] * x).sum(0)
        program.run()
        np.testing.assert_allclose(loss, np.mean(errors**2))
        expected = expected - factor * gradient
        np.testing.assert_allclose(w.numpy(), expected)


def test_outputs_that_are_inputs_views_or_several_times_the_same():
    def step(x):
        y = x * 2
        return [x, y, y, y[1:], ops.reshape(y, (3, 2)), ops.transpose(y)]

    program, (inputs,), outputs = recorded(step, np.ones((2, 3)))
    x = changed(inputs)
    program.run()
    y = x * 2
    for received, expected in zip(outputs, [x, y, y, y[1:], y.reshape(3, 2), y.T], strict=True):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.cpu("on a GPU the array is read, and the step runs eagerly")
def test_arrays_made_by_numpy_are_refused():
    with pytest.raises(RuntimeError, match="op '<lambda>' .* returned an array of shape .* made outside"):
        recorded(lambda x: [tensor.apply(lambda array: (np.ones(3), None), None, [x])], np.ones(3))
    with pytest.raises(RuntimeError, match="kernel 'copy' .* was given an array of shape .* made outside"):
        fill = lambda array: device.launch(device.copy, np.ones(3), array)  # noqa: E731
        recorded(lambda x: [x, fill(x.data)], np.ones(3))


@pytest.mark.parametrize("read", [float, bool, int, lambda x: x.numpy(), lambda x: np.asarray(x), lambda x: x.item()])
def test_reading_a_value_makes_it_unrecordable(read):
    program = Program()
    x = device.persistent(np.array(1.0))
    with device.record(program):
        y = Tensor(x) * 2
        read(y)
    assert "value was read" in program.reason


@pytest.mark.cpu("on a GPU the chain is one kernel")
def test_memory_is_reused():
    size = 8 * 1000

    def chain(x):
        for _ in range(50):
            x = ops.sin(x)
        return [x]

    program, _, _ = recorded(chain, np.ones(1000))
    assert size <= program.nbytes <= 3 * size + 64 * 3
    assert len(program.steps) == 50


def test_backward_reuses_memory_too():
    w = Variable(np.ones(1000))

    def step(x):
        with GradientTape():
            y = x * w
            for _ in range(20):
                y = ops.sin(y)
            loss = ops.sum(y)
        return [Tensor(tensor.gradient([loss], [w])[0])]

    program, _, _ = recorded(step, np.ones(1000))
    made = 1 + 20 + 20 * 2 + 1  # forward, and for each sine its cosine and a product
    assert program.nbytes < 8 * 1000 * made * 0.6


_OPS = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: ops.sin(a),
    lambda a, b: ops.sum(a, axis=0, keepdims=True) + b,
    lambda a, b: ops.flip(a, 1),
    lambda a, b: ops.concatenate([a[:, :2], b[:, 2:]], axis=1),
    lambda a, b: ops.transpose(ops.transpose(a)) - b,
    lambda a, b: ops.mean(b),
    lambda a, b: ops.broadcast_to(ops.reshape(ops.sum(b), (1, 1)), (3, 4)),
]


@settings(max_examples=60)
@given(
    graph=st.lists(
        st.tuples(st.integers(0, len(_OPS) - 1), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25
    ),
    kept=st.lists(st.integers(0, 99), min_size=1, max_size=3),
)
def test_buffers_that_live_at_once_do_not_overlap(graph, kept):
    """Random programs over planned memory, which starts as NaN, give what NumPy's own memory gives."""

    def step(x, y):
        values = [x, y]
        for which, i, j in graph:
            a, b = values[i % len(values)], values[j % len(values)]
            if 0 in (a.ndim, b.ndim):
                a, b = (ops.broadcast_to(ops.reshape(v, (1, 1)), (3, 4)) if v.ndim == 0 else v for v in (a, b))
            values.append(_OPS[which](a, b))
        return [values[i % len(values)] for i in kept]

    program, inputs, outputs = recorded(step, RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4)))
    for _ in range(2):
        arrays = [device.persistent(changed(each)) for each in inputs]
        program.run()
        for received, expected in zip(outputs, step(*map(Tensor, arrays)), strict=True):
            np.testing.assert_array_equal(received, expected.data)


@pytest.mark.cpu("on a GPU the chain is one kernel")
def test_profile_counts_replayed_launches():
    program, _, _ = recorded(lambda x: [ops.sin(ops.sin(x)) * x], np.ones(3))
    with device.profile() as profile:
        program.run()
        program.run()
    assert profile.calls == {"sin": 4, "multiply": 2}
    assert "sin" in str(profile)


def test_dry_runs_compute_nothing():
    with tensor.shapes_only(), device.profile() as profile:
        y = (
            ops.sum(Tensor(np.empty((2, 3))) @ Tensor(np.empty((3, 4))), axis=0)
            if hasattr(Tensor, "__matmul__")
            else None
        )
        z = ops.one_hot(ops.argmax(Tensor(np.empty((2, 3))), axis=1), 3)
    assert z.shape == (2, 3) and y.shape == (4,)
    assert not profile.calls
    with tensor.shapes_only(), pytest.raises(RuntimeError, match="value was read while only its shape"):
        float(ops.sum(Tensor(np.empty(3))))


def run(cache, array, step):
    """Run a step by its programs: step(tensor) -> tensor."""
    (result,), _ = cache.run(lambda tensors: step(tensors[0]), Batch([np.asarray(array)], ALL, len(array)))
    return result


def doubled_sum(x):
    return ops.sum(x * 2)


def test_steps_record_once_per_signature():
    steps = ProgramCache("the test", "think", capacity=2)
    assert [run(steps, np.full(3, value), doubled_sum).item() for value in (1.0, 2.0, 3.0)] == [6, 12, 18]
    assert steps.recordings == 1
    assert run(steps, np.ones(2), doubled_sum) == run(steps, np.ones(2), doubled_sum) == 4 and steps.recordings == 2
    assert run(steps, np.ones(4), doubled_sum) == 8 and run(steps, np.ones(3), doubled_sum) == 6
    assert steps.recordings == 4, "the least recently used goes first"


def test_an_error_in_a_first_step_names_no_other_error():
    def failing(array):
        raise ValueError("this step fails")

    with pytest.raises(ValueError, match="this step fails") as raised:
        run(ProgramCache("the test", "think"), [1.0], failing)
    assert raised.value.__context__ is None


def test_steps_that_read_run_eagerly_with_one_warning():
    def reading(x):
        return x * float(ops.sum(x))

    steps = ProgramCache("the test", "think")
    with pytest.warns(UserWarning, match=r"value was read at test_program.py:\d+, so the test cannot be recorded"):
        assert run(steps, [1.0, 2.0], reading).tolist() == [3, 6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(steps, [2.0, 2.0], reading).tolist() == [8, 8]
