"""Loops and branches in recorded programs: values, gradients and states equal those of eager code."""

import contextlib
import gc
import weakref

import numpy as np
import pytest

from nbkeras import autodiff, jit, layers, ops, random, utils
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels.runtime import device
from nbkeras.models import Sequential

RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 3))
ROWS = RNG.standard_normal((9, 4, 3))
W = RNG.standard_normal((3, 3)) / 2


def recorded(function, *inputs):
    """A sealed program of function(*tensors) -> list of tensors, its input arrays, its output arrays, and the first outputs."""
    recorder = Recorder()
    held = [device.persistent(np.array(each)) for each in inputs]
    with device.record(recorder):
        outputs = [y.data for y in function(*[Tensor(each) for each in held])]
    first = [np.array(device.read(device.plain(each))) for each in outputs]
    assert recorder.reason is None, recorder.reason
    program = recorder.sealed(outputs).bind()
    played = program.outputs
    device.write(program.arena, 0xFF)
    return program, held, played, first


def check(function, *inputs, states=(), launches=None, exact=False):
    """Check that a recorded step and its replays give what eager code gives, and change the states as it does."""
    before = [state.numpy() for state in states]

    def eagerly(given):
        results = [
            np.array(device.read(y.data)) for y in function(*[Tensor(device.persistent(np.array(e))) for e in given])
        ]
        return [*results, *(state.numpy() for state in states)]

    def same(found, expected):
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            if exact:
                np.testing.assert_array_equal(one, other)
            else:
                tolerance = 1e-6 if one.dtype == np.float32 else 1e-12
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)

    others = [np.array(e * 0.5 if np.asarray(e).dtype.kind == "f" else e) for e in inputs]
    wanted = [eagerly(inputs), eagerly(others), eagerly(others)]
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    program, held, played, first = recorded(function, *inputs)
    same([*first, *(state.numpy() for state in states)], wanted[0])
    for expected in wanted[1:]:
        for array, value in zip(held, others, strict=True):
            device.write(array, value)
        program.run()
        same([*map(device.read, played), *(state.numpy() for state in states)], expected)
    if launches is not None:
        assert len(program.steps) <= launches, [getattr(f, "__name__", f) for f, _ in program.steps]
    return program


def gradients_of(function, *variables):
    """A function of tensors: function(*tensors), a scalar, and its gradients for the tensors and the variables."""

    def step(*tensors):
        with GradientTape() as tape:
            for each in tensors:
                if each.dtype.kind == "f":
                    tape.watch(each)
            y = function(*tensors)
        sources = [*(t for t in tensors if t.dtype.kind == "f"), *variables]
        # in eager code a loop without iterations gives no gradient, in a program it gives zeros
        gradients = tape.gradient(y, sources, unconnected_gradients="zero")
        return [y, *gradients]

    return step


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fori_loop(dtype):
    w = Variable(W.astype(dtype))

    def value(x):
        return ops.sum(ops.fori_loop(2, 9, lambda i, v: ops.tanh(v @ w) * ops.cast(i + 1, dtype), x) ** 2)

    check(lambda x: [value(x)], X.astype(dtype), launches=3)
    check(gradients_of(value, w), X.astype(dtype))


def test_a_long_loop_is_short_to_record():
    program = check(lambda x: [ops.fori_loop(0, 1000, lambda i, v: ops.sin(v) + v / 2, x)], X, launches=1)
    assert program.program.nbytes < 10_000
    w = Variable(W)
    step = gradients_of(lambda x: ops.sum(ops.fori_loop(0, 300, lambda i, v: ops.sin(v @ w), x)), w)
    assert len(check(step, X).steps) < 12


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scan(reverse, dtype):
    w, b = Variable(W.astype(dtype)), Variable(np.ones(3, dtype))

    def value(x, rows):
        def step(carry, row):
            h, n = carry
            h = ops.tanh(h @ w + row["x"] + b)
            return (h, n + 1), {"h": h * row["x"], "n": n}

        (h, n), results = ops.scan(step, (x, ops.array(0)), {"x": rows}, reverse=reverse)
        return ops.sum(h * h) + ops.mean(ops.exp(results["h"])) + ops.cast(n + ops.sum(results["n"]), dtype)

    rows = ROWS.astype(dtype)
    check(lambda x, rows: [value(x, rows)], X.astype(dtype), rows)
    check(gradients_of(value, w, b), X.astype(dtype), rows)


def test_scan_without_slices_or_results():
    w = Variable(np.float64(0.5))
    check(lambda x: [ops.scan(lambda c, _: (c * w + x, None), x, length=7)[0]], X, launches=1)
    check(lambda x: [ops.scan(lambda c, _: (c, c * w), x, length=7)[1]], X, launches=1)
    check(lambda rows: [ops.scan(lambda c, r: (c + ops.sum(r), c), 0.0, rows)[1]], ROWS.astype("float32"), launches=1)


def test_map():
    w = Variable(W)

    def value(rows):
        return ops.sum(ops.map(lambda row: ops.exp(row @ w), rows))

    check(gradients_of(value, w), ROWS)
    check(lambda a, b: [ops.map(lambda pair: pair[0] * pair[1], [a, b])], ROWS, ROWS + 1, launches=1)
    check(lambda a: [ops.vectorized_map(lambda row: ops.sum(row), a)], ROWS)


def test_rows_that_are_not_contiguous():
    def value(rows):
        return ops.sum(ops.scan(lambda c, r: (ops.sin(c) * r, c * r), rows[0, :, 0], rows[:, :, 1])[1])

    check(gradients_of(value), ROWS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_while_loop(dtype):
    w = Variable(np.array(1.5, dtype))

    def value(x, limit):
        n, y = ops.while_loop(
            lambda n, y: ops.sum(ops.abs(y)) < limit, lambda n, y: (n + 1, y * w + x), (0, x), maximum_iterations=30
        )
        return ops.sum(y * y) + ops.cast(n, dtype)

    for limit in (100.0, 0.0, 1e30):
        check(gradients_of(value, w), X.astype(dtype), np.array(limit, dtype))
    check(lambda x: [ops.while_loop(lambda y: ops.sum(y) < 100, lambda y: y + 1, ops.abs(x))], X.astype(dtype))


def test_a_while_loop_follows_its_condition():
    program, (x,), (n, y), _ = recorded(
        lambda x: ops.while_loop(lambda n, y: y < 100, lambda n, y: (n + 1, y * 2), (0, x)), np.array(1.0)
    )
    for value in (1.0, 200.0, 0.5, 3.0):
        device.write(x, value)
        program.run()
        expected = 0
        while value < 100:
            value, expected = value * 2, expected + 1
        assert (device.read(n), device.read(y)) == (expected, value)


def test_gradients_of_a_while_loop_need_a_limit():
    w, recorder = Variable(1.5), Recorder()
    with device.record(recorder), GradientTape() as tape:
        y = ops.while_loop(lambda y: y < 50, lambda y: y * w, ops.array(1.5))
    assert recorder.reason is not None  # the condition was read
    np.testing.assert_allclose(tape.gradient(y, w), 9 * 1.5**9, rtol=1e-6)


def test_limits_that_are_tensors():
    def step(low, high, x):
        return [ops.fori_loop(low, high, lambda i, v: v + ops.cast(i, "float64"), x)]

    check(step, 2, 20, X, launches=5)
    check(step, 5, 5, X)
    check(step, 5, 2, X)
    program, (low, high, x), (y,), _ = recorded(step, 0, 10, X)
    for first, end in ((0, 3), (4, 4), (1, 50)):
        device.write(low, first), device.write(high, end)
        program.run()
        np.testing.assert_allclose(device.read(y), X + sum(range(first, end)))


def test_carries_may_change_places():
    def turn(i, v):
        a, b, c = v
        return b, c, a + b

    check(lambda x: list(ops.fori_loop(0, 7, turn, (x, x + 1, x * 2))), X, exact=True)
    check(gradients_of(lambda x: ops.sum(ops.fori_loop(0, 7, turn, (x, ops.sin(x), x * 2))[0] ** 2)), X)
    check(lambda x: list(ops.fori_loop(0, 7, lambda i, v: (v[1], v[1]), (x, x + 1))), X, exact=True)


def test_values_from_outside():
    w = Variable(W)

    def value(x):
        h = ops.tanh(x @ w)  # with a gradient, computed before the loop
        first = ops.fori_loop(0, 6, lambda i, v: ops.sin(v) + h, x)
        second, same = ops.fori_loop(0, 6, lambda i, v: (h, v[1]), (first, w))
        return ops.sum(first * second) + ops.sum(same * w)

    check(gradients_of(value, w), X)


def test_random_numbers_advance_in_each_iteration():
    generator = random.SeedGenerator(3)

    def step(x):
        return [ops.fori_loop(0, 8, lambda i, v: v + random.normal((4, 3), dtype="float64", seed=generator), x)]

    check(step, X, states=[generator.state], exact=True)

    def noisy(i, v):
        return ops.sin(v * random.normal((4, 3), dtype="float64", seed=generator))

    check(gradients_of(lambda x: ops.sum(ops.fori_loop(0, 8, noisy, x))), X, states=[generator.state])


def test_variables_that_the_body_assigns():
    total, w = Variable(np.zeros(3), trainable=False), Variable(np.ones(3))

    def body(i, v):
        before = total.value
        y = v * total
        total.assign_add(ops.sum(v, axis=0) * 0.1)
        return ops.tanh(y * w + v * total + before)

    check(lambda x: [ops.fori_loop(0, 6, body, x)], X, states=[total])
    check(gradients_of(lambda x: ops.sum(ops.fori_loop(0, 6, body, x)), w), X, states=[total])


def test_tensors_keep_their_values_when_the_body_assigns():
    state = Variable(np.ones(3), trainable=False)

    def step(x):
        old = state.value
        product = x * state

        def body(i, v):
            y = v + old
            state.assign_add(old * 0.5)
            return y

        return [ops.fori_loop(0, 6, body, product), old, state.value]

    check(step, X, states=[state])

    def with_gradient(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = step(x * state)[0]
            state.assign(state * 0.5)
            y = ops.sum(y * state)
        return [tape.gradient(y, x)]

    check(with_gradient, X, states=[state])


def test_nested_loops():
    w = Variable(W)

    def value(x, rows):
        def outer(carry, row):
            inner = ops.fori_loop(0, 5, lambda i, v: ops.tanh(v @ w + row), carry)
            _, ys = ops.scan(lambda c, r: (c + r, c * r @ w), inner, rows)
            return inner + ops.sum(ys, axis=0), ops.sum(ys)

        last, sums = ops.scan(outer, x, rows)
        return ops.sum(last) + ops.sum(sums)

    check(lambda x, rows: [value(x, rows)], X * 0.1, ROWS * 0.1)
    check(gradients_of(value, w), X * 0.1, ROWS * 0.1)


def test_loops_of_varying_length_in_loops():
    w = Variable(0.3)

    def value(x):
        def body(i, v):
            return ops.while_loop(
                lambda n, y: n < i, lambda n, y: (n + 1, ops.sin(y) + w * y), (0, v), maximum_iterations=8
            )[1]

        return ops.sum(ops.fori_loop(0, 6, body, x))

    check(gradients_of(value, w), X.astype("float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cond(dtype):
    w, used = Variable(W.astype(dtype)), Variable(np.zeros(2), trainable=False)

    def value(x, number):
        def large():
            used.assign_add([1.0, 0.0])
            return ops.tanh(x @ w)

        def small():
            used.assign_add([0.0, 1.0])
            return ops.fori_loop(0, 6, lambda i, v: ops.sin(v) * w[0], x)

        return ops.sum(ops.cond(number > 0, large, small) ** 2)

    for number in (1.0, -1.0):
        check(lambda x, n: [value(x, n)], X.astype(dtype), np.array(number, dtype), states=[used])
        step = gradients_of(lambda x, n: value(x, ops.stop_gradient(n)), w)
        check(step, X.astype(dtype), np.array(number, dtype), states=[used])
    program, (_, number), _, _ = recorded(lambda x, n: [value(x, n)], X.astype(dtype), np.array(1.0, dtype))
    before = used.numpy()
    for each in (1.0, -1.0, 1.0):
        device.write(number, each)
        program.run()
    np.testing.assert_array_equal(used.numpy() - before, [2, 1])


def test_switch():
    w = Variable(W)
    branches = [lambda x: (x @ w, None), lambda x: (ops.sin(x), None), lambda x: (x * 0 + 1, None)]

    def value(x, index):
        return ops.sum(ops.switch(index, branches, x)[0] ** 2)

    for index in (-3, 0, 1, 2, 9):
        check(gradients_of(value, w), X, index)


def test_a_branch_in_a_loop_and_random_numbers():
    generator = random.SeedGenerator(3)

    def body(i, v):
        return ops.cond(
            ops.sum(v) > 0, lambda: v - random.uniform((4, 3), dtype="float64", seed=generator), lambda: v + 0.3
        )

    check(lambda x: [ops.fori_loop(0, 9, body, x)], X, states=[generator.state])


def raising(i, v):
    raise KeyError("a mistake of the body")


def used_after_the_loop(kept):
    ops.fori_loop(0, 9, lambda i, v: kept.append(v * 2) or kept[-1], ops.ones(2))
    ops.sum(kept[-1])


def choice(other):
    return ops.cond(Variable(True, trainable=False), lambda: ops.zeros(2), other)


LIMIT, PAIR, FORMS = Variable(9), (ops.ones(2), ops.ones(2)), "same structure, shapes and dtypes"
MISTAKES = [
    (lambda: choice(lambda: ops.zeros(3)), ValueError, FORMS),
    (lambda: choice(lambda: [ops.zeros(2)]), ValueError, FORMS),
    (lambda: choice(lambda: ops.zeros(2, "int32")), ValueError, FORMS),
    (lambda: choice(lambda: None), ValueError, FORMS),
    (lambda: ops.switch(Variable(1, trainable=False), [lambda: ops.zeros(2), lambda: ops.zeros(3)]), ValueError, FORMS),
    (
        lambda: ops.while_loop(lambda n, x: n < LIMIT, lambda n, x: (n + 1, ops.concatenate([x, x])), (0, ops.ones(2))),
        ValueError,
        "loop variable 1 must keep its shape and dtype",
    ),
    (
        lambda: ops.while_loop(lambda x: ops.sum(x) < 9, lambda x: x * 1.5, Variable([1, 2], trainable=False) + 0),
        ValueError,
        "int32, but body returned .*float32",
    ),
    (lambda: ops.fori_loop(0, 9, raising, ops.ones(2)), KeyError, "a mistake of the body"),
    (lambda: ops.scan(lambda c, x: c, ops.ones(2), length=9), ValueError, "must return a pair"),
    (lambda: ops.while_loop(lambda a, b: ops.sum(a) < 3, lambda a, b: a, PAIR), ValueError, "must return 2 loop variables"),
    (lambda: used_after_the_loop([]), ValueError, "return it from the body"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", MISTAKES)
def test_mistakes_are_explained_in_recorded_programs(call, error, message):
    with device.record(Recorder()), pytest.raises(error, match=message):
        call()


def test_loops_whose_variables_change_their_forms_are_unrolled():
    check(lambda x: [ops.fori_loop(0, 6, lambda i, v: ops.concatenate([v, x]), x)], X)
    check(lambda x: [ops.scan(lambda c, _: (c * 0.5, c), ops.sum(ops.cast(x, "int32")), length=6)[0]], X)
    check(lambda x: [ops.while_loop(lambda n, v: n < 3, lambda n, v: (n + 1, ops.concatenate([v, x])), (0, x))[1]], X)


def test_bodies_that_need_python_are_unrolled():
    factors = [0.5, 2.0, 1.0, 3.0, 0.1, 4.0]
    check(lambda x: [ops.fori_loop(0, 6, lambda i, v: v * factors[i], x)], X)
    check(lambda x: [ops.fori_loop(0, 6, lambda i, v: v * 2 if i == 3 else v, x)], X)
    check(lambda x: [ops.while_loop(lambda t, v: t < 1.0, lambda t, v: (t + 0.1, v * 2), (0.0, x))[1]], X)
    recorder = Recorder()
    with device.record(recorder):
        ops.fori_loop(0, 6, lambda i, v: v * float(ops.sum(v)), ops.ones(2))
    assert recorder.reason.startswith("a tensor's value was read")


def test_short_loops_are_unrolled():
    for loop in (
        lambda x: ops.fori_loop(0, 4, lambda i, v: ops.sin(v) + x, x),
        lambda x: ops.scan(lambda c, _: (ops.sin(c) + x, None), x, length=8, unroll=True)[0],
        lambda x: ops.scan(lambda c, _: (ops.sin(c) + x, None), x, length=8, unroll=8)[0],
    ):
        program = check(lambda x, loop=loop: [loop(x)], X)
        assert not any("loop" in str(f.__name__) or "scan" in str(f.__name__) for f, _ in program.steps)


def test_second_derivatives_unroll():
    def step(x):
        with GradientTape() as outer:
            outer.watch(x)
            with GradientTape() as inner:
                inner.watch(x)
                y = ops.sum(ops.fori_loop(0, 6, lambda i, v: ops.sin(v) * x, x))
            dy = inner.gradient(y, x)
        return [dy, outer.gradient(dy, x)]

    check(step, X)


def test_gradients_inside_a_body():
    def body(i, v):
        with GradientTape() as tape:
            tape.watch(v)
            loss = ops.sum((v - 1.0) ** 2)
        return v - 0.1 * tape.gradient(loss, v)

    check(lambda x: [ops.fori_loop(0, 20, body, x)], X, launches=1)
    check(gradients_of(lambda x: ops.sum(ops.fori_loop(0, 20, body, x) ** 3)), X)


def test_several_gradients_of_one_loop():
    def step(x):
        with GradientTape(persistent=True) as tape:
            tape.watch(x)
            a, b = ops.fori_loop(0, 6, lambda i, v: (ops.sin(v[0]) * v[1], v[1] + 0.1), (x, x * 2))
            y, z = ops.sum(a), ops.sum(b * a)
        return [tape.gradient(y, x), tape.gradient(z, x)]

    check(step, X)


@pytest.mark.cpu("on a GPU a profile times each launch")
def test_a_profile_shows_the_loop():
    program, _, _, _ = recorded(lambda x: [ops.fori_loop(0, 9, lambda i, v: ops.sin(v), x)], X)
    with device.profile() as profile:
        program.run()
    assert profile.calls == {"fori_loop": 1}


def test_rows_of_zero_elements_and_scalars():
    check(
        lambda rows: [ops.scan(lambda c, r: (c + ops.sum(r), r * 2), ops.array(0.0, "float64"), rows)[1]],
        np.ones((6, 0, 2)),
    )
    check(gradients_of(lambda rows: ops.scan(lambda c, r: (ops.sin(c) + r, None), rows[0], rows)[0]), np.arange(7.0))


def test_a_loop_of_ops_on_the_host():
    matrix = np.eye(3) + 0.1
    with contextlib.suppress(NotImplementedError):
        check(lambda x: [ops.fori_loop(0, 6, lambda i, v: ops.inv(v) * 0.9 + x, x)], matrix)


def test_rows_by_number():
    w = Variable(W)
    check(lambda x, rows: [ops.fori_loop(0, 9, lambda i, v: v + rows[i], x)], X, ROWS, launches=1)
    check(
        gradients_of(lambda x, rows: ops.sum(ops.fori_loop(0, 9, lambda i, v: ops.sin(v) + rows[i] @ w, x)), w), X, ROWS
    )

    def written(i, rows):
        return ops.slice_update(rows, (i, 0), ops.cast(i, "float64") * ops.ones((1, 3), "float64"))

    check(lambda rows: [ops.fori_loop(0, 9, written, rows)], ROWS[:, 0], launches=1)


def test_transforms_of_loops_and_in_loops():
    w = Variable(W)
    once = autodiff.checkpoint(lambda v: ops.tanh(v @ w))
    check(gradients_of(lambda x: ops.sum(ops.fori_loop(0, 9, lambda i, v: once(v), x)), w), X)
    gradient = autodiff.grad(lambda x: ops.sum(ops.fori_loop(0, 9, lambda i, v: ops.tanh(v @ w), x)))
    check(lambda x: [gradient(x)], X, launches=5)
    mapped = autodiff.vmap(lambda row: ops.fori_loop(0, 9, lambda i, v: ops.sin(v), row))
    check(lambda x: [mapped(x)], X)
    inside = autodiff.vmap(lambda row: ops.sin(row) @ w)
    check(lambda x: [ops.fori_loop(0, 9, lambda i, v: inside(v), x)], X, launches=1)
    check(lambda x: [ops.vectorize(lambda a: a * 2 + 1)(x)], X, launches=2)


def test_a_loop_under_a_condition():
    flag, state = device.persistent(np.ones(1, np.int64)), Variable(np.zeros(3), trainable=False)

    def step(x):
        with device.only_if(flag):
            ops.fori_loop(0, 9, lambda i, v: v + state.assign_add(x[0]), x)
        return [state.value]

    program, _, (y,), _ = recorded(step, X)
    before = state.numpy()
    device.write(flag, 0)
    program.run()
    np.testing.assert_array_equal(device.read(y), before)
    device.write(flag, 1)
    program.run()
    np.testing.assert_allclose(device.read(y), before + 9 * X[0])


def test_a_program_keeps_no_memory_of_its_recording():
    x = device.persistent(np.ones((100, 100)))
    freed = []

    def step():
        middle = ops.sin(Tensor(x))
        freed.append(weakref.ref(device.root(middle.data)))
        return ops.fori_loop(0, 9, lambda i, v: v + middle, middle)

    recorder = Recorder()
    with device.record(recorder):
        y = step().data
    gc.collect()
    assert freed[0]() is None
    recorder.sealed([y]).bind()


def test_models_use_loops_in_their_steps():
    class Iterated(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], shape[-1]), initializer="orthogonal")

        def call(self, x):
            x = ops.while_loop(lambda v: ops.sum(ops.abs(v)) > 5, lambda v: v / 2, x, maximum_iterations=9)
            x = ops.fori_loop(0, 8, lambda i, v: ops.tanh(v @ self.w), x)
            return ops.cond(ops.sum(x) > 0, lambda: x, lambda: -x)

    x, y = RNG.standard_normal((8, 4)).astype("float32"), RNG.standard_normal((8, 1)).astype("float32")
    results = []
    for eagerly in (True, False):
        utils.set_random_seed(2)
        model = Sequential([layers.Input((4,)), Iterated(), layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=eagerly)
        losses = [float(model.train_on_batch(x * n, y)) for n in (1, 5, 0.1)]
        results.append([*losses, model.predict(x, verbose=0), model.predict(x * 9, verbose=0), *model.get_weights()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_number_of_an_iteration_is_weak():
    for dtype in ("int32", "int64", "float32", "float64"):
        check(lambda x: [ops.fori_loop(1, 9, lambda i, v: v + i * 2, x)], np.arange(3).astype(dtype), launches=1)
    check(lambda x: [ops.fori_loop(3, 9, lambda i, v: (v[0] * i + v[1], i), (x, ops.array(0)))[0]], X, launches=1)


def test_jit():
    w = Variable(W)

    @jit
    def iterated(x, n, limit):
        y = ops.fori_loop(0, n, lambda i, v: ops.tanh(v @ w) + i, x)
        y = ops.while_loop(lambda v: ops.sum(ops.abs(v)) > limit, lambda v: v / 2, y)
        return ops.cond(ops.sum(y) > 0, lambda: y, lambda: -y)

    @jit
    def sloped(x):
        with GradientTape() as tape:
            y = ops.sum(ops.fori_loop(0, 100, lambda i, v: ops.sin(v @ w) + x, x))
        return tape.gradient(y, w)

    for n, limit in ((5, 1.0), (9, 10.0), (0, 0.1)):
        found = iterated(X, n, limit)
        np.testing.assert_allclose(found, iterated.function(ops.array(X), n, limit), rtol=1e-12)
    np.testing.assert_allclose(sloped(X), sloped.function(ops.array(X)), rtol=1e-10, atol=1e-12)
    assert len(iterated.programs()) == 1 and len(sloped.programs()[0].launches) < 10
