"""The tape: long chains, accumulation, un-broadcasting, dropped memory, no reference cycles, GradientTape's protocol."""

import gc
import sys
import weakref

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine import tape, tensor
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, Variable, apply, as_tensor, gradient
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


def test_a_gradient_is_delivered_when_nothing_is_added_any_more():
    """While the pass goes on: an optimizer starts to sum it over ranks then."""
    early, twice, unused = (Variable(np.array([value, 1.0])) for value in (2.0, 3.0, 4.0))
    with GradientTape():
        y = ops.sum(ops.sin(ops.cos(early * twice)) * twice * twice)
    into, sources, seen = [device.persistent_copy(np.zeros(2)) for _ in range(3)], [unused, twice, early], []
    gradient([y], sources, into=into, delivered=lambda i: seen.append((i, device.read(into[i]).copy())))
    into = [device.read(each) for each in into]
    assert sorted(i for i, _ in seen) == [0, 1, 2] and seen[-1][0] == 0
    assert all((value == into[i]).all() for i, value in seen) and not into[0].any()

    recorder, order = Recorder(), []
    with device.record(recorder):
        with GradientTape():
            y = ops.sum(ops.exp(ops.sin(ops.cos(early)) * twice))
        views = [device.persistent_copy(np.zeros(2)) for _ in range(2)]
        gradient([y], [early, twice], into=views, delivered=lambda i: order.append((i, len(recorder._recorded))))
    assert [i for i, _ in order] == [1, 0] and order[0][1] < order[1][1]  # launches came between


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
        with tape.GradientRecording(False):
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


# -------------------- tapes in tapes --------------------


def penalised(first, persistent):
    """The gradients of a loss of a value and its gradients, whose parts have several shapes."""
    x, w = (as_tensor(np.full(shape, 0.5)) for shape in ((1, 2), (2, 3)))
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
def test_a_gradient_of_a_gradient(first, persistent):
    """y = e^(x w), where all of x and w are 0.5."""
    e = np.exp(0.5)
    of_x, of_w = penalised(first, persistent)
    # the penalty is the sum over rows of (sum of w e)^2, and over all elements of (x e)^2
    np.testing.assert_allclose(of_x, np.full((1, 2), 1.5 * e + 9 * e**2))
    np.testing.assert_allclose(of_w, np.full((2, 3), 0.5 * e + 5 * e**2))


@pytest.mark.parametrize("persistent", [False, True])
def test_four_tapes_in_each_other(persistent):
    x = Variable(np.array(2.0))
    with GradientTape(persistent) as a:
        with GradientTape(persistent) as b:
            with GradientTape(persistent) as c:
                with GradientTape(persistent) as d:
                    y = x**5
                first = d.gradient(y, x)
            second = c.gradient(first, x)
        third = b.gradient(second, x)
    fourth = a.gradient(third, x)
    assert [each.item() for each in (first, second, third, fourth)] == [80, 160, 240, 240]
    if persistent:
        assert [a.gradient(each, x).item() for each in (y, first, second)] == [80, 160, 240]
        assert a.gradient([y, first], x).item() == 240


def test_the_outer_tape_without_the_inner_one():
    """The inner gradient is computed in the outer block, or it is a constant for the outer tape."""
    x = Variable(np.array(3.0))
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x * x
    slope = inner.gradient(y, x)
    assert slope.item() == 6 and outer.gradient(slope, x) is None


def test_a_later_tape_takes_gradients_of_earlier_computations_as_constants():
    x = Variable(np.array(3.0))
    with GradientTape() as early:
        y = x * x
    with GradientTape() as late:
        slope = early.gradient(y, x)
        z = slope * x
    assert slope.item() == 6 and late.gradient(z, x).item() == 6
    with GradientTape(persistent=True) as early:
        y = x * x
    with GradientTape():
        with pytest.raises(NotImplementedError, match="computed outside the inner tape. Compute it in the block"):
            early.gradient(y, x, output_gradients=x * x)


def test_what_was_computed_outside_the_inner_tape_is_a_constant_for_it():
    x = Variable(np.array(3.0))
    with GradientTape() as outer:
        y = x * x
        with GradientTape() as inner:
            inner.watch(y)
            z = y * y * x
        of_x, of_y = inner.gradient(z, [x, y])
    assert (of_x.item(), of_y.item()) == (81, 54)
    assert [each.item() for each in outer.gradient(of_y, [x, y])] == [54, 6]


def test_sources_between_the_tapes():
    x = Variable(np.array(3.0))
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x * x
        slope = inner.gradient(y, x)
        z = slope * slope + y
    assert [each.item() for each in outer.gradient(z, [x, slope, y])] == [30, 12, 1]


def test_output_gradients_are_differentiated_too():
    x = Variable(np.array(3.0))
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x * x
        slope = inner.gradient(y, x, output_gradients=x * x)  # 2 x^3
    assert (slope.item(), outer.gradient(slope, x).item()) == (54, 54)


def test_only_what_is_watched():
    x, w = Variable(np.array(3.0)), Variable(np.array(2.0))
    with GradientTape() as outer:
        with GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(w)
            y = x * w * w
        of_x, of_w = inner.gradient(y, [x, w])
    assert of_x is None and of_w.item() == 12
    assert [each.item() for each in outer.gradient(of_w, [x, w])] == [4, 6]
    with GradientTape(watch_accessed_variables=False) as t:
        y = x * x
    assert t.gradient(y, x) is None and t.gradient(y, x, unconnected_gradients="zero").item() == 0


def test_stopped_recordings():
    x = Variable(np.array(3.0))
    with GradientTape(persistent=True) as outer:
        with GradientTape() as inner:
            y = x * x
            with inner.stop_recording():
                factor = y * x
            z = factor * y
        slope = inner.gradient(z, x)  # x^3 as a constant, times 2 x
    assert slope.item() == 162
    assert (outer.gradient(slope, x).item(), outer.gradient(factor, x).item()) == (216, 27)
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x * x
            with outer.stop_recording():
                factor = y * x
            z = factor * y
        slope = inner.gradient(z, x)  # 5 x^4, computed as 2 x factor + y (y + 2 x x) with the factor 27
    assert (slope.item(), outer.gradient(slope, x).item()) == (405, 2 * 27 + 12 * 27)


def test_reset():
    x = Variable(np.array(3.0))
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x * x
            inner.reset()
            z = y * x
        slope = inner.gradient(z, x)  # y, which is x^2 for the outer tape
    assert (slope.item(), outer.gradient(slope, x).item()) == (9, 6)


def test_jacobians():
    x, other = Variable(np.array([[3.0, 1.0], [2.0, 5.0]])), Variable(np.ones(3))
    with GradientTape() as outer:
        with GradientTape(persistent=True) as inner:
            y = x**3
        whole, parts = inner.jacobian(y, x), inner.batch_jacobian(y, x)
        total = ops.sum(whole) + ops.sum(parts)
    diagonal = 3 * x.numpy() ** 2
    np.testing.assert_allclose(whole, np.einsum("ij,ik,jl->ijkl", diagonal, np.eye(2), np.eye(2)))
    np.testing.assert_allclose(parts, np.einsum("ij,jl->ijl", diagonal, np.eye(2)))
    np.testing.assert_allclose(outer.gradient(total, x), 12 * x.numpy())
    assert inner.jacobian(y, other) is None and inner.batch_jacobian(y, Variable(np.ones((2, 1)))) is None
    of = inner.jacobian(y, {"x": x, "other": other}, unconnected_gradients="zero")
    assert of["x"].shape == (2, 2, 2, 2) and of["other"].shape == (2, 2, 3) and not of["other"].numpy().any()
    assert inner.batch_jacobian(y, Variable(np.ones((2, 1))), unconnected_gradients="zero").shape == (2, 2, 1)
    with pytest.raises(ValueError, match=r"the same first axis, received shapes \(2, 2\) and \(3,\)"):
        inner.batch_jacobian(y, other)


def test_unconnected_gradients():
    x, other = Variable(np.array([3.0, 1.0])), Variable(np.array(2.0))
    with GradientTape() as outer:
        with GradientTape(persistent=True) as inner:
            y = 3 * x
        slope = inner.gradient(y, x)
        assert inner.gradient(y, other) is None
        zero = inner.gradient(y, other, unconnected_gradients="zero")
        loss = ops.sum(slope) + zero
    assert outer.gradient(loss, x) is None and zero.item() == 0
    assert outer.gradient(loss, [x], unconnected_gradients="zero")[0].numpy().tolist() == [0, 0]
    with pytest.raises(ValueError, match="unconnected_gradients is 'none' or 'zero', received 'ZERO'"):
        inner.gradient(y, x, unconnected_gradients="ZERO")


def test_structures_of_targets_and_sources():
    x = Variable(np.array(3.0))
    with GradientTape() as t:
        y, z = x * x, x * 3
    assert t.gradient({"a": y, "b": [z]}, {"x": (x,)})["x"][0].item() == 9
    with pytest.raises(TypeError, match="gradient: targets and sources are tensors or variables, received 3.0"):
        t.gradient(3.0, x)
    with pytest.raises(TypeError, match="jacobian: targets and sources"):
        t.jacobian(np.ones(2), x)


def test_a_gradient_computed_in_the_tapes_own_block():
    """It can be used, but the tape does not go back through it."""
    x = Variable(np.array(3.0))
    with GradientTape(persistent=True) as t:
        y = x**3
        slope = t.gradient(y, x)
        z = y + ops.stop_gradient(slope) * x
    assert slope.item() == 27 and t.gradient(z, x).item() == 54
    with pytest.raises(
        NotImplementedError, match="compute the first one by a second tape inside the block of the outer"
    ):
        t.gradient(slope, x)


def test_nested_tapes_keep_no_cycles(without_collector):
    x, seen = Variable(np.ones((10, 10))), _Intermediates()
    with GradientTape() as outer:
        with GradientTape() as inner:
            loss = _forward(x, seen)
        slope = inner.gradient(loss, x)
    assert outer.gradient(slope, x).shape == (10, 10)
    del loss, slope, outer, inner
    assert seen.alive() == 0


def test_a_layer_with_its_weights_inside_two_tapes():
    """A gradient penalty: the weights' gradient of the norm of the inputs' gradient, against differences."""
    layer = Dense(3, activation="tanh", dtype="float64")
    x = as_tensor(np.array([[0.3, -0.7]]))
    layer.build(x.shape)

    def penalty():
        with GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(x)
            y = layer(x)
        return ops.sum(inner.gradient(y, x) ** 2)

    with GradientTape() as outer:
        value = penalty()
    found, kernel = outer.gradient(value, layer.kernel).numpy(), layer.kernel.numpy()
    step = np.zeros(kernel.shape)
    step[1, 2] = 1e-6
    layer.kernel.assign(kernel + step)
    above = penalty().item()
    layer.kernel.assign(kernel - step)
    assert found[1, 2] == pytest.approx((above - penalty().item()) / 2e-6, rel=1e-6)


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
        recorder = Recorder()
        with device.record(recorder):
            with GradientTape() as t:
                loss = ops.sum(second(first(x)) ** 2)
            gradients = t.gradient(loss, sources)
        program = recorder.sealed([gradient.data for gradient in gradients]).bind()
        shapes.append([tuple(arg.shape for arg in args if isinstance(arg, np.ndarray)) for _, args in program.steps])
    assert len(shapes[0]) == len(shapes[1]) - 2  # of the second kernel and its bias


def test_a_reset_forgets_what_was_watched():
    w = Variable(np.array(2.0))
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(w)
        tape.reset()
        y = w * w
    assert tape.gradient(y, w) is None
