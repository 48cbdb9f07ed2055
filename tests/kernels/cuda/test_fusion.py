"""Chains of elementwise launches in a recorded program become one kernel on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.engine.recorder import Recorder
from nbkeras.kernels import activations, elementwise
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda


def record(step, *arrays):
    """A sealed program of step(*arrays) on the GPU, its output, and the result of the recording run."""
    recorder = Recorder()
    with device.record(recorder):
        y = step(*arrays)
    first = y.copy()
    program = recorder.sealed([y]).bind()
    (y,) = program.outputs
    return program, y, first


def temporaries(count, like):
    return [device.empty(like.shape, like.dtype) for _ in range(count)]


def chain(x, w):
    """sqrt((x * w + 2)^2 - x) * w, with a sum in place and temporaries that are not read afterwards."""
    a, b, c = temporaries(3, x)
    device.launch(np.multiply, x, w, a)
    device.launch(np.add, a, x.dtype.type(2), a)
    device.launch(np.square, a, b)
    device.launch(np.subtract, b, x, b)
    device.launch(np.sqrt, b, c)
    device.launch(np.multiply, c, w, c)
    return c


@pytest.fixture
def on_gpu():
    with device.on(twins.gpu()):
        yield


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_chain_is_one_launch_and_gives_the_same(on_gpu, dtype):
    x, w = (device.persistent(np.linspace(0.5, 2, 35, dtype=dtype).reshape(5, 7) + i) for i in range(2))
    program, y, first = record(chain, x, w)
    assert [function.__name__ for function, _ in program.steps] == [
        f"{np.dtype(dtype)}:aan|multiply 0 1;add 3 2;square 4;subtract 5 0;sqrt 6;multiply 7 1|8"
    ]
    assert program.program.nbytes < 2 * 64 * (35 * 8 // 64 + 1), "temporaries that stay in registers need no memory"
    program.run()
    np.testing.assert_array_equal(y.copy(), first)
    device.write(x, x.copy() + 1)
    program.run()
    a = x.copy() * w.copy() + dtype(2)
    np.testing.assert_allclose(y.copy(), np.sqrt(a * a - x.copy()) * w.copy(), rtol=1e-6)


def test_what_is_read_later_is_stored(on_gpu):
    x = device.persistent(np.arange(6, dtype=np.float32))

    def step(x):
        a, b, c = temporaries(3, x)
        device.launch(np.add, x, np.float32(1), a)
        device.launch(np.multiply, a, a, b)
        device.launch(device.copy, a.reshape(2, 3).T, c.reshape(3, 2))  # reads a, is not elementwise
        device.launch(np.add, c, b, c)
        return c

    program, y, first = record(step, x)
    assert len(program.steps) == 3
    program.run()
    a = x.copy() + 1
    np.testing.assert_array_equal(y.copy(), a.reshape(2, 3).T.reshape(-1) + a * a)
    np.testing.assert_array_equal(first, y.copy())


def test_a_state_is_moved_on_in_place(on_gpu):
    state = device.persistent(np.ones(9, np.float32))

    def step(state):
        y = device.empty(state.shape, state.dtype)
        device.launch(np.add, state, state, state)
        device.launch(np.multiply, state, np.float32(3), y)
        return y

    program, y, _ = record(step, state)
    assert len(program.steps) == 1
    program.run()
    np.testing.assert_array_equal(state.copy(), np.full(9, 4))
    np.testing.assert_array_equal(y.copy(), np.full(9, 12))


@pytest.mark.parametrize("shift", [1, 0])
def test_overlapping_views_are_not_joined(on_gpu, shift):
    memory = device.persistent(np.arange(10, dtype=np.float32))

    def step(memory):
        y = device.empty((9,), memory.dtype)
        device.launch(np.add, memory[:9], np.float32(1), memory[:9])
        device.launch(np.multiply, memory[shift : 9 + shift], np.float32(2), y)
        return y

    program, y, first = record(step, memory)
    assert len(program.steps) == 1 + shift
    want = memory.copy()
    want[:9] += 1
    program.run()
    np.testing.assert_array_equal(y.copy(), want[shift : 9 + shift] * 2)


def test_a_number_in_an_array_joins_in(on_gpu):
    x, rate = device.persistent(np.arange(8, dtype=np.float32)), device.persistent(np.full(1, 0.5, np.float32))

    def step(x, rate):
        a, b = temporaries(2, x)
        device.launch(np.multiply, x, rate, a)
        device.launch(np.subtract, x, a, b)
        return b

    program, y, _ = record(step, x, rate)
    assert [function.__name__ for function, _ in program.steps] == ["float32:as|multiply 0 1;subtract 0 2|3"]
    device.write(rate, 0.25)
    program.run()
    np.testing.assert_array_equal(y.copy(), x.copy() * np.float32(0.75))


def test_vectors_row_scalars_and_booleans_join_in(on_gpu):
    x = device.persistent(np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3))
    bias = device.persistent(np.arange(3, dtype=np.float32))
    scale = device.persistent(np.arange(4, dtype=np.float32).reshape(4, 1))

    def step(x, bias, scale):
        a, b = temporaries(2, x)
        mask, other = (device.empty(x.shape, np.bool_) for _ in range(2))
        device.launch(np.add, x, bias, a)
        device.launch(np.multiply, scale, a, a)
        device.launch(np.greater, a, np.float32(2), mask)
        device.launch(np.less, x, a, other)
        device.launch(np.logical_and, mask, other, mask)
        device.launch(elementwise.select, mask, a, np.float32(-1), b)
        device.launch(elementwise.clip_between, b, np.float32(-0.5), np.float32(4), b)
        device.launch(activations.relu.forward, b.reshape(-1), a.reshape(-1))
        return a

    program, y, first = record(step, x, bias, scale)
    assert len(program.steps) == 1
    program.run()
    a = scale.copy() * (x.copy() + bias.copy())
    want = np.clip(np.where((a > 2) & (x.copy() < a), a, -1), -0.5, 4)
    np.testing.assert_array_equal(y.copy(), np.maximum(want, 0).astype(np.float32))
    np.testing.assert_array_equal(first, y.copy())


def test_a_vector_that_the_chain_writes_ends_it(on_gpu):
    x, bias = device.persistent(np.ones((4, 3), np.float32)), device.persistent(np.arange(12, dtype=np.float32))

    def step(x, bias):
        a, b = temporaries(2, x)
        device.launch(np.multiply, x.reshape(-1), np.float32(2), bias)
        device.launch(np.add, x, bias[:3], a)
        device.launch(np.add, a, x, b)
        return b

    program, y, first = record(step, x, bias)
    assert len(program.steps) == 2
    program.run()
    np.testing.assert_array_equal(y.copy(), first)


def test_other_launches_and_layouts_end_a_chain(on_gpu):
    x = device.persistent(np.arange(12, dtype=np.float32).reshape(4, 3))

    def step(x):
        a, b = temporaries(2, x)
        wide = device.empty(x.shape, np.float64)
        device.launch(np.add, x, np.float32(1), a)
        device.launch(np.multiply, a.reshape(3, 4).T, a, b)  # strides
        device.launch(device.copy, b, wide)  # a cast
        device.launch(np.sqrt, wide, wide)
        device.launch(np.negative, wide, wide)
        return wide

    program, y, first = record(step, x)
    assert len(program.steps) == 4
    program.run()
    np.testing.assert_array_equal(y.copy(), first)


@pytest.mark.parametrize("seed", range(40))
def test_any_sequence_gives_what_its_steps_give_one_by_one(on_gpu, seed):
    """Random launches over a few arrays, in place or not, with views and operands of all kinds."""
    rng = np.random.default_rng(seed)
    start = [rng.uniform(0.5, 2, (3, 4)).astype(np.float32) for _ in range(3)]
    vector, rows, number = (rng.uniform(0.5, 2, shape).astype(np.float32) for shape in ((4,), (3, 1), (1,)))
    plan = [
        (
            rng.choice(
                ["add", "subtract", "multiply", "maximum", "minimum", "less", "sqrt", "negative", "copy", "turn"]
            ),
            *(int(n) for n in rng.integers(0, 8, 2)),
            int(rng.integers(0, 5)),
        )
        for _ in range(12)
    ]

    def run(*arrays):
        held = [*arrays[:3], *temporaries(2, arrays[0])]
        for array in held[3:]:
            device.launch(device.fill, array, 1)
        operands = [*held, *arrays[3:]]
        for name, i, j, k in plan:
            if name == "copy":
                device.launch(device.copy, operands[i], held[k])
            elif name == "turn":
                turned = device.empty((4, 3), np.float32)
                device.launch(device.copy, held[k].T, turned)
                device.launch(np.add, turned.reshape(3, 4), operands[i], held[k])
            elif name in ("sqrt", "negative"):
                device.launch(np.absolute, operands[i], held[k])
                device.launch(getattr(np, name), held[k], held[k])
            else:
                function = {"maximum": elementwise.larger, "minimum": elementwise.smaller}.get(name)
                device.launch(function or getattr(np, name), operands[i], operands[j], held[k])
        y = device.empty((5, 3, 4), np.float32)
        for part, array in enumerate(held):
            device.launch(device.copy, array, y[part])
        return y

    with device.on(None):
        want = run(*(device.persistent(a.copy()) for a in (*start, vector, rows, number)))
    arrays = [device.persistent(a.copy()) for a in (*start, vector, rows, number)]
    program, y, first = record(run, *arrays)
    np.testing.assert_allclose(first, want, rtol=1e-6)
    for array, value in zip(arrays, start, strict=False):
        device.write(array, value)
    program.run()
    np.testing.assert_array_equal(y.copy(), first)


def test_two_rows_of_one_array_are_two_inputs(on_gpu):
    x = device.persistent(np.arange(1, 9, dtype=np.float32).reshape(2, 4))

    def step(x):
        y, z = temporaries(2, x[0])
        device.launch(np.multiply, x[0], x[1], y)
        device.launch(np.add, y, x[0], z)
        return z

    program, y, first = record(step, x)
    program.run()
    np.testing.assert_array_equal(y.copy(), first)
    np.testing.assert_array_equal(first, x.copy()[0] * x.copy()[1] + x.copy()[0])
