"""The tape: long chains, accumulation, un-broadcasting, dropped memory, no reference cycles, GradientTape's protocol."""

import gc
import sys
import weakref

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine import tape, tensor
from nbkeras.engine.program import Program
from nbkeras.engine.tensor import GradientTape, Tensor, Variable, apply, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.layers import Dense


def test_chain_of_3000_ops():
    x = Variable(np.array([1.0, 2.0]))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        with GradientTape() as t:
            y = x
            for _ in range(3000):
                y = y * 1.001
        gradient = t.gradient(y, x)
        del y, t
    finally:
        sys.setrecursionlimit(limit)
    np.testing.assert_allclose(gradient, 1.001**3000, rtol=1e-10)


def test_a_tensor_used_many_times_adds_up():
    x = Variable(np.array([2.0, 3.0]))
    with GradientTape() as t:
        square = x * x
        y = square * x + square + ops.sum(square) * x
    x0 = np.array([2.0, 3.0])
    np.testing.assert_allclose(t.gradient(y, x), 3 * x0**2 + 2 * x0 + 13 + 2 * x0 * x0.sum())


def test_diamonds_do_not_explode():
    x = Variable(np.array(1.0))
    with GradientTape() as t:
        y = x
        for _ in range(60):  # 2^60 paths
            y = y + y
    assert t.gradient(y, x).item() == 2.0**60


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (2, 1, 1), (2, 3, 4), (1, 1, 1, 4)])
def test_gradients_are_summed_to_the_shape_of_the_operand(shape):
    x, y = Variable(np.ones(shape)), Variable(np.arange(24.0).reshape(2, 3, 4))
    with GradientTape() as t:
        z = x * y
    gx, gy = t.gradient(z, [x, y])
    assert gx.shape == shape and gy.shape == (2, 3, 4)
    assert float(ops.sum(gx)) == y.numpy().sum()


def test_gradient_of_an_intermediate_tensor():
    x = Variable(np.array([1.0, 2.0]))
    with GradientTape() as t:
        y = x * 3
        z = y * y
    gradients = t.gradient(z, {"y": y, "x": (x,)})
    np.testing.assert_allclose(gradients["y"], [6, 12])
    np.testing.assert_allclose(gradients["x"][0], [18, 36])


def test_several_targets_one_behind_the_other():
    x = Variable(np.array(2.0))
    with GradientTape() as t:
        y = x * x
        z = y * y
    assert t.gradient([y, z], x).item() == 4 + 32


def test_output_gradients():
    x = Variable(np.array([1.0, 2.0]))
    with GradientTape() as t:
        y = x * x
    np.testing.assert_allclose(t.gradient(y, x, output_gradients=np.array([10.0, 100.0])), [20, 400])
    with GradientTape() as t:
        y = x * x
    with pytest.raises(ValueError, match="output_gradients must have the target's shape"):
        t.gradient(y, x, output_gradients=np.ones(3))


def test_unused_outputs():
    x = Variable(np.arange(6.0).reshape(3, 2))
    with GradientTape() as t:
        first, _, last = ops.unstack(x)
        y = first * last
    np.testing.assert_allclose(t.gradient(y, x), [[4, 5], [0, 0], [0, 1]])


def test_second_gradient_needs_persistent():
    x = Variable(np.array([1.0, 2.0]))
    with GradientTape() as t:
        y = ops.exp(x)
    t.gradient(y, x)
    with pytest.raises(RuntimeError, match=r"use GradientTape\(persistent=True\) to take several gradients"):
        t.gradient(y, x)

    with GradientTape(persistent=True) as t:
        y = ops.exp(x)
    first, second = t.gradient(y, x).numpy(), t.gradient(y, x).numpy()
    np.testing.assert_array_equal(first, second)


def test_watch_and_unconnected():
    x, other = ops.convert_to_tensor(np.array([1.0, 2.0])), Variable(np.ones(2))
    frozen = Variable(np.ones(2), trainable=False)
    with GradientTape() as t:
        t.watch(x)
        y = x * x * frozen
    gx, g_other, g_frozen = t.gradient(y, [x, other, frozen])
    np.testing.assert_allclose(gx, [2, 4])
    assert g_other is None and g_frozen is None
    with GradientTape() as t:
        y = ops.convert_to_tensor(3.0) * 2
    assert t.gradient(y, other) is None
    with pytest.raises(TypeError, match="only float tensors"):
        t.watch(ops.convert_to_tensor([1, 2]))


def test_nothing_is_recorded_without_a_tape():
    x = Variable(np.ones(2))
    assert (x * 2).record is None
    with GradientTape():
        assert (x * 2).record is not None
        with tape.Recording(False):
            assert (x * 2).record is None
    assert (x * 2).record is None


def test_integers_and_booleans_carry_no_gradient():
    x = Variable(np.array([1.5, -2.5]))
    with GradientTape() as t:
        y = ops.cast(x > 0, "float64") * x + ops.cast(ops.cast(x, "int32"), "float64")
    np.testing.assert_allclose(t.gradient(y, x), [1, 0])


def test_cast_carries_the_gradient_back_in_the_source_dtype():
    x = Variable(np.array([1.5, -2.5], np.float32))
    with GradientTape() as t:
        y = ops.cast(x, "float64") * 2
    gradient = t.gradient(y, x)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [2, 2])


def test_gradients_land_in_their_destinations():
    """Each gradient lands in its array, whether it comes from one op, from several or from none."""
    x, y, unused = Variable(np.array([1.0, 2.0])), Variable(np.array([3.0, 4.0])), Variable(np.ones(2))
    into = [device.persistent(np.full(2, np.nan)) for _ in range(3)]
    with GradientTape():
        z = x / y + x / x * y
    received = tensor.gradient([z], [x, y, unused], into=into)
    assert all(a is b for a, b in zip(received, into, strict=True))
    np.testing.assert_allclose(into[0], [1 / 3, 1 / 4], atol=1e-15)
    np.testing.assert_allclose(into[1], [1 - 1 / 9, 1 - 2 / 16])
    np.testing.assert_array_equal(into[2], [0, 0])


@pytest.mark.cpu("its op computes with NumPy")
def test_a_wrong_number_of_gradients_is_named():
    def twice(x, y):
        return x + y, None

    x = Variable(np.ones(2))
    with GradientTape() as t:
        z = apply(twice, lambda saved, dy, needs: (dy,), [x, x])
    with pytest.raises(TypeError, match="of 'twice' must return a tuple with one gradient.* each of the op's 2 inputs"):
        t.gradient(z, x)


class _Intermediates:
    """Weak references to the arrays of some tensors."""

    def __init__(self):
        self.references = []

    def __call__(self, x: Tensor) -> Tensor:
        self.references.append(weakref.ref(x.data))
        return x

    def alive(self) -> int:
        return sum(reference() is not None for reference in self.references)


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _forward(x: Variable, seen: _Intermediates) -> Tensor:
    y = seen(ops.exp(x))
    for _ in range(5):
        y = seen(ops.sin(y) * y)
    return ops.sum(y)


def test_memory_returns_as_the_walk_passes(without_collector):
    x, seen = Variable(np.ones((10, 10))), _Intermediates()
    with GradientTape() as t:
        loss = _forward(x, seen)
    assert seen.alive() == 5, "the last one is summed, and a sum's gradient does not need it"
    gradient = t.gradient(loss, x)
    assert seen.alive() == 0, "what the records saved must go while loss and tape are still held"
    assert gradient.shape == (10, 10)


def test_no_reference_cycles(without_collector):
    x, seen = Variable(np.ones((10, 10))), _Intermediates()
    with GradientTape(persistent=True) as t:
        loss = _forward(x, seen)
    t.gradient(loss, x)
    assert seen.alive() == 5
    del loss, t
    assert seen.alive() == 0


def test_a_forward_that_is_never_differentiated_goes_too(without_collector):
    x, seen = Variable(np.ones((10, 10))), _Intermediates()
    with GradientTape():
        loss = _forward(x, seen)
    del loss
    assert seen.alive() == 0


def penalised(first, persistent):
    """A loss of a value and its gradients, whose parts have several shapes."""
    x, w = (as_tensor(np.ones(shape)) for shape in ((1, 2), (2, 3)))
    with GradientTape() as outer:
        outer.watch([x, w])
        with GradientTape(persistent=persistent) as inner:
            y = ops.exp(ops.matmul(x, w))
        gradients = inner.gradient(y, [x, w])
        penalty = sum(ops.sum(ops.square(gradient)) for gradient in gradients)
        loss = ops.sum(y) + penalty if first else penalty + ops.sum(y)
    return outer.gradient(loss, [x, w])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_gradient_of_a_gradient_is_refused_in_one_sentence(first, persistent):
    with pytest.raises(NotImplementedError, match="gradients of gradients are not offered"):
        penalised(first, persistent)


def test_a_gradient_as_a_constant_and_two_tapes_over_one_computation():
    x = as_tensor(np.array([1.0, 2.0]))
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            y = x * x * x
        constant = ops.stop_gradient(inner.gradient(y, x))
        loss = ops.sum(y) + ops.sum(constant * x)
    np.testing.assert_allclose(outer.gradient(loss, x), [6, 24])


def test_a_variable_shows_its_path_and_its_value():
    kernel = Variable(np.array([1.0, 2.0], "float32"), name="kernel")
    assert repr(kernel) == str(kernel) == "<Variable path=kernel, shape=(2,), dtype=float32, value=[1. 2.]>"
    assert "..." in repr(Variable(np.ones(5000)))
    with tensor.shapes_only():  # where there are no values
        assert repr(kernel) == "<Variable path=kernel, shape=(2,), dtype=float32>"
    dense = [Dense(1, name=name) for name in ("first", "second")]
    for layer in dense:
        layer.build((None, 1))
    shown = [repr(weight).split(",")[0] for layer in dense for weight in layer.weights]
    assert shown == [f"<Variable path={name}/{own}" for name in ("first", "second") for own in ("kernel", "bias")]


def test_gradients_that_nobody_asks_for_are_not_computed():
    """Of the other weights, and of what lies before them, even if an op's vjp does not look at `needs`."""
    called = []

    def twice(name, x):
        def op(x):
            y = device.empty(x.shape, x.dtype)
            device.launch(np.add, x, x, y)
            return y, None

        def vjp(saved, dy, needs):
            called.append((name, needs[0] is not False))
            return op(dy)[:1]

        return apply(op, vjp, [x])

    a, b = Variable(np.array([2.0])), Variable(np.array([3.0]))
    for wanted, expected, calls in (
        ([a], [12.0], [("of both", True), ("of a", True)]),
        ([b], [8.0], [("of both", True), ("of b", True)]),
        ([a, b], [12.0, 8.0], [("of both", True), ("of a", True), ("of b", True)]),
    ):
        called.clear()
        with GradientTape() as t:
            product = twice("of both", twice("of a", a) * twice("of b", b)) * 0.5
        gradients = t.gradient(product, wanted)
        assert [gradient.item() for gradient in gradients] == expected and sorted(called) == sorted(calls)
    with GradientTape() as t:
        between = twice("of a", a)
        product = twice("of both", between * b)
    called.clear()
    assert t.gradient(product, between).item() == 6.0 and called == [("of both", True)]


def test_a_step_through_a_frozen_network_computes_no_gradients_of_its_kernels():
    """A generator that learns through a discriminator: one launch less for each of its kernels."""
    first, second = Dense(3), Dense(2)
    x = as_tensor(np.ones((4, 5)))
    second(first(x))
    shapes = []
    for sources in (first.trainable_weights, [*first.trainable_weights, *second.trainable_weights]):
        program = Program()
        with device.record(program):
            with GradientTape() as t:
                loss = ops.sum(second(first(x)) ** 2)
            gradients = t.gradient(loss, sources)
        program.seal([gradient.data for gradient in gradients])
        shapes.append([tuple(arg.shape for arg in args if isinstance(arg, np.ndarray)) for _, args in program.steps])
    assert len(shapes[0]) == len(shapes[1]) - 2  # of the second kernel and its bias
