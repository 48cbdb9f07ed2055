"""Functions with gradients of their own, and functions that run again on the way back."""

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import autodiff, layers, ops
from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def block():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(16, activation="gelu"),
            layers.Dropout(0.5, seed=3),
            layers.BatchNormalization(),
            layers.Dense(4),
        ]
    )


def step(function, model, scale):
    with keras.GradientTape() as tape:
        hidden = ops.multiply(X, scale)
        loss = ops.sum(ops.square(function(hidden, training=True)))
    return [loss, *tape.gradient(loss, [scale, *model.trainable_weights])]


def test_a_checkpoint_computes_the_same():
    results = []
    for wrap in (lambda f: f, autodiff.checkpoint):
        keras.utils.set_random_seed(0)
        model, scale = block(), keras.Variable(2.0)
        found = [step(wrap(model), model, scale) for _ in range(3)][-1]  # moving statistics and random keys go on
        results.append([*(each.numpy() for each in found), *model.get_weights()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_recorded_step_with_checkpoints_needs_less_memory():
    sizes = []
    for wrap in (lambda f: f, autodiff.checkpoint):
        parts = [
            keras.Sequential([keras.Input((4,)), layers.Dense(64, activation="gelu"), layers.Dense(4)])
            for _ in range(6)
        ]
        weights = [weight for part in parts for weight in part.trainable_weights]
        recorder = Recorder()
        with device.record(recorder):
            x = ops.convert_to_tensor(np.ones((64, 4), "float32"))
            with keras.GradientTape() as tape:
                for part in parts:
                    x = wrap(part)(x)
                loss = ops.sum(x)
            gradients = tape.gradient(loss, weights)
        program = recorder.sealed([each.data for each in gradients]).bind()
        sizes.append(program.arena.nbytes)
    assert sizes[1] < 0.6 * sizes[0]


def test_what_a_checkpointed_function_uses_has_gradients_too():
    w, a = keras.Variable([1.0, 2.0]), keras.Variable(3.0)
    with keras.GradientTape() as tape:
        outside = w * 2.0
        y = ops.sum(autodiff.checkpoint(lambda x: {"y": ops.exp(x * a) * outside})(ops.ones(2))["y"])
    da, dw = tape.gradient(y, [a, w])
    np.testing.assert_allclose(da, np.exp(3.0) * 6.0, rtol=1e-6)
    np.testing.assert_allclose(dw, np.exp([3.0, 3.0]) * 2.0, rtol=1e-6)


def test_a_checkpoint_has_derivatives_of_any_order():
    check_op(autodiff.checkpoint(lambda x, y: ops.tanh(x) * y), X[:2], X[2:4], order=3)


def test_a_checkpoint_without_a_tape_is_the_function():
    np.testing.assert_array_equal(keras.remat(ops.sin)(X), ops.sin(X))


def test_assigning_in_a_checkpoint_is_refused():
    counter, w = keras.Variable(0.0, name="counter", trainable=False), keras.Variable(1.0)

    def counts(x):
        counter.assign_add(1.0)
        return x * w

    with (
        keras.GradientTape(),
        pytest.raises(ValueError, match="'counter' is assigned in a function of autodiff.checkpoint"),
    ):
        autodiff.checkpoint(counts)(ops.ones(2))


@autodiff.custom_vjp
def product(pair):
    return pair["a"] * pair["b"]


product.defvjp(
    lambda pair: (pair["a"] * pair["b"], pair),
    lambda pair, dy: ({"a": 10 * dy * pair["b"], "b": dy * pair["a"]},),
)


def test_custom_vjp_takes_and_gives_structures():
    found = autodiff.grad(product)({"a": 2.0, "b": 3.0})
    assert (found["a"].item(), found["b"].item()) == (30.0, 2.0)


def test_custom_vjp_is_differentiated_as_it_is_written():
    slope = autodiff.grad(lambda a, b: product({"a": a, "b": b}))
    assert autodiff.grad(slope, argnums=1)(2.0, 3.0).item() == 10.0


def test_custom_vjp_with_an_argument_that_is_no_tensor():
    power = autodiff.custom_vjp(lambda x, n: x**n, nondiff_argnums=(1,))
    power.defvjp(lambda x, n: (x**n, x), lambda n, x, dy: (dy * n * x ** (n - 1),))
    assert autodiff.grad(power)(3.0, 2).item() == 6.0


def test_custom_vjp_without_a_gradient_says_what_to_call():
    with pytest.raises(AttributeError, match=r"no gradient was defined for 'sin': call its defvjp\(fwd, bwd\)"):
        autodiff.custom_vjp(ops.sin)(X)


def test_custom_vjp_with_another_number_of_gradients_names_the_function():
    wrong = autodiff.custom_vjp(lambda x, y: x * y)
    wrong.defvjp(lambda x, y: (x * y, None), lambda residuals, dy: (dy,))
    with pytest.raises(TypeError, match="bwd must return a tuple with the gradient of each of 2 arguments"):
        autodiff.grad(wrong)(1.0, 2.0)


def test_custom_gradients_hold_in_every_order():
    clipped = ops.custom_gradient(lambda x: (x * x, lambda dy: ops.clip(dy * 2 * x, -1.0, 1.0)))
    second = autodiff.grad(autodiff.grad(clipped))
    assert second(0.25).item() == 2.0
    assert second(3.0).item() == 0.0
