"""Record, replay, and the plan of buffers."""

import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbkeras
from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine import replays, step_lock, tensor
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.program import Program
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels.runtime import device

RNG = np.random.default_rng(1)


def recorded(function, *inputs):
    """A sealed program of function(*tensors) -> list of tensors, its input arrays and its output arrays."""
    recorder = Recorder()
    held = [device.persistent(np.array(each)) for each in inputs]
    with device.record(recorder):
        outputs = [y.data for y in function(*[Tensor(each) for each in held])]
    program = recorder.sealed(outputs).bind()
    played = program.outputs
    device.write(program.arena, 0xFF)
    return program, held, played


def with_inputs(function, *inputs):
    """A program of function(*tensors) -> list of tensors that takes other inputs in each run."""
    recorder = Recorder()
    held = [device.persistent(np.array(each)) for each in inputs]
    with device.record(recorder):
        outputs = [y.data for y in function(*[Tensor(each) for each in held])]
    return recorder.sealed(outputs, held)


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
    np.testing.assert_equal(outputs, [x, y, y, y[1:], y.reshape(3, 2), y.T])


@pytest.mark.cpu("on a GPU the array is read, and the step runs eagerly")
def test_arrays_made_by_numpy_are_refused():
    with pytest.raises(RuntimeError, match="op '<lambda>' .* returned an array of shape .* made outside"):
        recorded(lambda x: [tensor.apply(lambda array: (np.ones(3), None), None, [x])], np.ones(3))
    with pytest.raises(RuntimeError, match="kernel 'copy' .* was given an array of shape .* made outside"):
        fill = lambda array: device.launch(device.copy, np.ones(3), array)  # noqa: E731
        recorded(lambda x: [x, fill(x.data)], np.ones(3))


@pytest.mark.parametrize("read", [float, bool, int, lambda x: x.numpy(), lambda x: np.asarray(x), lambda x: x.item()])
def test_reading_a_value_makes_it_unrecordable(read):
    recorder = Recorder()
    x = device.persistent(np.array(1.0))
    with device.record(recorder):
        y = Tensor(x) * 2
        read(y)
    assert "value was read" in recorder.reason


@pytest.mark.cpu("on a GPU the chain is one kernel")
def test_memory_is_reused():
    size = 8 * 1000

    def chain(x):
        for _ in range(50):
            x = ops.sin(x)
        return [x]

    program, _, _ = recorded(chain, np.ones(1000))
    assert size <= program.program.nbytes <= 3 * size + 64 * 3
    assert len(program.program.launches) == 50


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
    assert program.program.nbytes < 8 * 1000 * made * 0.6


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


@pytest.mark.cpu("native programs are the CPU's")
def test_a_profile_sees_each_launch():
    bound, x = with_inputs(lambda x: [ops.exp(x), ops.relu(x)], np.ones(3)).bind(), np.arange(3.0)
    outputs = [np.empty(3), np.empty(3)]
    assert bound.run_on(x, *outputs)
    with nbkeras.profile() as profile:
        assert not bound.run_on(x, *outputs)
        bound.run()
    assert sum(profile.calls.values()) == len(bound.program.launches)


@pytest.mark.cpu("a program of a GPU is bound again by making its graph")
def test_a_program_is_bound_to_other_memory_without_preparing_its_launches_again():
    weight, x = Variable(np.arange(6.0).reshape(3, 2)), np.random.default_rng(0).normal(size=(5, 3))
    program = with_inputs(lambda x: [ops.tanh(x @ weight), ops.sum(ops.exp(x), 0)], np.ones((5, 3)))
    first = program.bind()
    with mock.patch.object(device, "rows_of", side_effect=AssertionError("a row was made again")):
        second = program.bind()
    found = [[np.empty((5, 2)), np.empty(3)] for _ in range(2)]
    for bound, arrays in zip((first, second), found, strict=True):
        assert bound.run_on(x, *arrays)
        np.testing.assert_allclose(arrays[0], np.tanh(x @ weight.numpy()))
    np.testing.assert_equal(*found)
    own = [*first.inputs, *first.outputs, first.arena]
    assert not any(
        np.shares_memory(one, other) for one in own for other in [*second.inputs, *second.outputs, second.arena]
    )


def test_an_outdated_program_gets_no_memory_and_does_not_run(monkeypatch):
    known, x = replays.Replays(with_inputs(lambda x: [x + 1], np.ones(3))), np.ones(3)
    known.drop()
    monkeypatch.setattr(Program, "bind", lambda program: pytest.fail("memory was made"))
    assert known.run(x) is None and known.run_batch(Batch([x], ALL, 3)) is None


def test_a_step_that_waited_for_a_writer_does_not_run_an_outdated_program(monkeypatch):
    """Rows in another order must be copied first, so the step starts by `run_batch`, which waits for writers."""
    known, x = replays.Replays(with_inputs(lambda x: [x + 1], np.ones((2, 3)))), np.ones((4, 3))
    batch = Batch([x], np.array([3, 1]), 2)
    np.testing.assert_array_equal(known.run_batch(batch)[0], x[:2] + 1)
    enter = step_lock.enter

    def after_a_writer():
        known.program.outdated = True
        return enter()

    monkeypatch.setattr(step_lock, "enter", after_a_writer)
    assert known.run_batch(batch) is None
