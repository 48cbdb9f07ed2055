"""Stateless calls: values of variables as arguments and results; the layer and the values stay as they are."""

import threading

import numpy as np
import pytest
from arrays import assert_close
from in_threads import at_once
from made_models import built, compiled

import nbkeras as keras
from nbkeras import autodiff, layers, metrics, ops
from nbkeras.models import Model, Sequential

random = np.random.default_rng(0)
X, Y = (random.normal(size=(12, size)).astype("float32") for size in (4, 2))


def network():
    parts = [
        layers.Dense(5, "tanh", kernel_regularizer="l2", activity_regularizer="l1"),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=1),
    ]
    return Sequential([keras.Input((4,)), *parts, layers.Dense(2)])


def numbers(tensors):
    return [np.array(tensor) for tensor in tensors]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(numbers(first), numbers(second), strict=True))


def test_a_call_returns_what_a_call_of_the_layer_does_and_changes_nothing():
    model = network()
    before, losses = numbers(model.variables), model.losses
    assert [variable.name for variable in model.non_trainable_variables][:2] == ["moving_mean", "moving_variance"]
    assert model.non_trainable_variables[2].dtype == "uint32" and len(model.non_trainable_weights) == 2
    given = model.trainable_variables, model.non_trainable_variables
    outputs, states, found = model.stateless_call(*given, X, training=True, return_losses=True)
    assert same(before, model.variables) and len(model.losses) == len(losses)
    again, last = model.stateless_call(given[0], states, X, training=True)
    assert not np.array_equal(again, outputs)  # other random numbers
    assert np.array_equal(model(X, training=True), outputs)
    assert same(model.non_trainable_variables, states) and same(model.losses, found)
    assert np.array_equal(model(X, training=True), again) and same(model.non_trainable_variables, last)


def test_a_call_computes_with_the_values():
    model = network()
    values = [random.normal(size=variable.shape) for variable in model.weights]  # of float64
    values = [np.abs(value) for value in values]
    split = dict(zip(map(id, model.weights), values, strict=True))
    given = (
        [split[id(v)] for v in model.trainable_variables],
        [split.get(id(v), v) for v in model.non_trainable_variables],
    )
    outputs, states = model.stateless_call(*given, X)
    assert same(states[:2], [value.astype("float32") for value in given[1][:2]])
    for variable in model.weights:
        variable.assign(split[id(variable)])
    np.testing.assert_allclose(outputs, model(X), rtol=1e-6)


def test_gradients_with_respect_to_values_are_those_of_the_variables():
    model = network()
    values = [ops.convert_to_tensor(variable.numpy()) for variable in model.trainable_variables]
    with keras.GradientTape() as tape:
        tape.watch(values)
        outputs, _, losses = model.stateless_call(
            [2.0 * value for value in values], model.non_trainable_variables, X, training=True, return_losses=True
        )
        loss = ops.sum(outputs**2) + ops.sum(ops.stack(losses))
    found = tape.gradient(loss, values)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable)
    with keras.GradientTape() as tape:
        loss = ops.sum(model(X, training=True) ** 2) + ops.sum(ops.stack(model.losses))
    for value, expected in zip(found, tape.gradient(loss, model.trainable_variables), strict=True):
        np.testing.assert_allclose(value, 2.0 * expected, rtol=1e-5, atol=1e-6)


def test_gradients_of_gradients_are_those_with_the_values():
    """The inner gradient is computed after the call, when the variable has its own value again."""
    layer = built(layers.Dense(1, use_bias=False), (None, 1))
    layer.set_weights([[[3.0]]])
    x = np.array([[1.0]], "float32")

    def slope(value):  # of (value * x) ** 2 by x
        return autodiff.grad(lambda x: ops.sum(ops.square(layer.stateless_call([value], [], x)[0])))(x)[0, 0]

    value = np.array([[5.0]], "float32")
    assert slope(value) == 50 and autodiff.grad(slope)(value) == 20
    assert autodiff.jvp(slope, (value,), (np.ones_like(value),))[1] == 20


def test_gradients_pass_through_moving_statistics():
    model = network()
    statistics = [ops.convert_to_tensor(np.array(v)) for v in model.non_trainable_variables[:2]]
    with keras.GradientTape() as tape:
        tape.watch(statistics)
        states = [*statistics, model.non_trainable_variables[2]]
        outputs, _ = model.stateless_call(model.trainable_variables, states, X)
        loss = ops.sum(outputs)
    (mean, _), step = tape.gradient(loss, statistics), 0.01
    (moved, _), others = (np.array(each) for each in statistics), model.trainable_variables
    moved[2] += step
    changed, _ = model.stateless_call(others, [moved, *states[1:]], X)
    np.testing.assert_allclose(mean[2], (ops.sum(changed) - loss) / step, rtol=1e-2)


class Stateless(Sequential):
    """A step of stateless calls, as in the guides of Keras on JAX."""

    def train_step(self, data):
        x, y = data
        weights = self.trainable_variables
        with keras.GradientTape() as tape:
            outputs, states = self.stateless_call(weights, self.non_trainable_variables, x, training=True)
            loss = ops.mean((outputs - y) ** 2)
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for variable, value in zip(self.non_trainable_variables, states, strict=True):
            variable.assign(value)
        return {"loss": loss}


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_recorded_step_of_stateless_calls_trains_as_fit_does(eagerly):
    plain = Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.BatchNormalization(), layers.Dense(2)])
    model = Stateless([keras.Input((4,)), layers.Dense(5, "tanh"), layers.BatchNormalization(), layers.Dense(2)])
    model.set_weights(plain.get_weights())
    histories = []
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly)
        histories.append(each.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0).history["loss"])
    assert_close(plain.get_weights(), model.get_weights(), rtol=1e-4, atol=1e-6)
    if not eagerly:
        assert len(model._steps["train"]._programs.programs()) == 1


class Failing(layers.Layer):
    def build(self, input_shape):
        self.count = self.add_weight((), "zeros", trainable=False)
        self.factor = self.add_weight((), "ones")
        self.noise = keras.random.SeedGenerator(3)
        self.seen = metrics.Sum()

    def call(self, inputs, fail=False):
        self.count.assign_add(1.0)
        # of a weight: its value is not returned, and the given one is not changed
        self.factor.assign(self.factor * 3.0)
        self.factor.assign_add(1.0)
        self.seen.update_state(inputs)
        self.add_loss(ops.sum(inputs))
        if fail:
            raise RuntimeError("in the middle")
        return inputs * self.factor + 0.0 * keras.random.normal(inputs.shape, seed=self.noise)


def test_what_a_call_writes_is_not_written_to_the_layer_and_not_after_an_error():
    layer = Failing()
    assert layer(X[:1]).shape == (1, 4)
    factor, states = ops.convert_to_tensor(2.0), layer.non_trainable_variables
    assert [v.name for v in states] == ["variable_0", "seed_generator_state"]
    before = numbers([*layer.variables, *layer.metrics_variables, *layer.losses])
    with pytest.raises(RuntimeError, match="in the middle"):
        layer.stateless_call([factor], states, X, fail=True)
    assert same(before, [*layer.variables, *layer.metrics_variables, *layer.losses])
    outputs, (count, seed), (loss,) = layer.stateless_call([factor], [5.0, states[1]], X, return_losses=True)
    assert same(before, [*layer.variables, *layer.metrics_variables, *layer.losses])
    assert factor.item() == 2.0 and count.item() == 6.0 and np.array(seed)[1] == 2
    np.testing.assert_allclose(outputs, 7.0 * X, rtol=1e-6)
    np.testing.assert_allclose(loss, X.sum(), rtol=1e-5)
    layer.stateless_call(layer.trainable_variables, states, X)  # the variables themselves
    assert same(before, [*layer.variables, *layer.metrics_variables, *layer.losses])
    assert layer.factor.trainable and layer.factor.record is not None


def test_frozen_layers_and_outputs_that_are_variables():
    layer = Failing()
    layer(X[:1])
    layer.trainable = False
    assert not layer.trainable_variables and len(layer.non_trainable_variables) == 3
    outputs, states = layer.stateless_call([], [np.array(2.0), np.array(0.0), layer.noise.state], X)
    assert len(states) == 3 and states[1].item() == 1.0
    np.testing.assert_allclose(outputs, 7.0 * X, rtol=1e-6)

    class Table(layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight((2,), "ones")

        def call(self, inputs):
            return self.table

    table = Table()
    table(X)
    outputs, _ = table.stateless_call([np.array([5.0, 6.0])], [], X)
    assert np.array_equal(outputs, [5.0, 6.0]) and np.array_equal(table.table, [1.0, 1.0])


def test_calls_in_a_call_of_another_layer():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(4, activity_regularizer="l2")

        def call(self, inputs):
            outputs, _ = self.inner.stateless_call(
                [2.0 * v for v in self.inner.trainable_variables], self.inner.non_trainable_variables, inputs
            )
            return self.inner(inputs) + outputs

    outer = Outer()
    outer.inner.build((None, 4))
    np.testing.assert_allclose(outer(X), 3.0 * outer.inner(X), rtol=1e-5)
    assert len(outer.losses) == 1
    model = Sequential([outer])
    np.testing.assert_allclose(model.predict(X, verbose=0), 3.0 * outer.inner(X), rtol=1e-5)


def test_a_quantized_layer_and_one_with_lora():
    layer = layers.Dense(3)
    layer(X)
    layer.enable_lora(2, b_initializer="ones")
    layer.quantize("int8")
    given = layer.trainable_variables, layer.non_trainable_variables
    assert [variable.dtype.name for variable in given[1]] == ["int8", "float32"]
    outputs, states = layer.stateless_call(*given, X)
    assert np.array_equal(outputs, layer(X)) and same(states, given[1])
    small = [layer.bias, 0.0 * layer.lora_kernel_a, layer.lora_kernel_b]
    outputs, _ = layer.stateless_call(small, given[1], X)
    np.testing.assert_allclose(outputs, ops.dense(X, layer._kernel, layer.bias), rtol=1e-6)


def test_threads_see_the_own_values_of_the_model():
    model = network()
    zeros = [0.0 * variable for variable in model.trainable_variables]
    expected, ended = model.predict(X, verbose=0), threading.Event()

    def predicts():
        while not ended.is_set():
            for rows in (3, 7, 12):
                np.testing.assert_array_equal(model.predict(X[:rows], verbose=0), expected[:rows])

    def calls():
        try:
            for _ in range(30):
                outputs, _ = model.stateless_call(zeros, model.non_trainable_variables, X)
                assert not np.array(outputs).any()
        finally:
            ended.set()

    at_once(predicts, calls)


def test_two_threads_make_stateless_calls_of_one_model():
    model = network()
    before, trained = numbers(model.variables), numbers(model.trainable_variables)

    def calls(factor):
        given = [factor * value for value in trained], model.non_trainable_variables
        expected, _ = model.stateless_call(*given, X)
        for _ in range(30):
            np.testing.assert_array_equal(model.stateless_call(*given, X)[0], expected)

    at_once(lambda: calls(2.0), lambda: calls(3.0))
    assert same(before, model.variables)


def test_values_must_fit():
    model = network()
    given = model.trainable_variables, model.non_trainable_variables
    with pytest.raises(
        ValueError, match="trainable_variables must have one value for each of .*: expected 6, received 1"
    ):
        model.stateless_call(given[0][:1], given[1], X)
    with pytest.raises(
        ValueError, match="non_trainable_variables must have one value for each of .*: expected 3, received 0"
    ):
        model.stateless_call(given[0], [], X)
    with pytest.raises(ValueError, match=r"kernel' must have shape \(4, 5\), received \(1,\)"):
        model.stateless_call([np.zeros(1), *given[0][1:]], given[1], X)
    with pytest.raises(ValueError, match="is not built yet"):
        layers.Dense(2).stateless_call([], [], X)
    with pytest.raises(
        ValueError, match="metric_variables must have one value for each of sum: expected 1, received 0"
    ):
        metrics.Sum().stateless_result([])


def test_a_loss_of_given_values():
    model = compiled(network(), metrics=["mae"])
    model.fit(X, Y, verbose=0)
    own = model.trainable_variables, model.non_trainable_variables, model.metrics_variables
    before = numbers([v for group in own for v in group])
    values = [ops.convert_to_tensor(2.0 * v) for v in own[0]]
    y_pred, states = model.stateless_call(values, own[1], X)
    with keras.GradientTape() as tape:
        tape.watch(values)
        loss, after = model.stateless_compute_loss(values, own[1], own[2], X, Y, y_pred)
    penalty = 0.01 * np.sum(np.square(np.array(values[0])))
    np.testing.assert_allclose(loss, np.mean(np.square(np.array(y_pred) - Y)) + penalty, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, values)[0], 0.02 * values[0], rtol=1e-5)
    assert [len(group) for group in after] == [len(group) for group in own]
    assert same(before, [v for group in own for v in group])
    with pytest.raises(ValueError, match="metrics_variables must have one value"):
        model.stateless_compute_loss(values, own[1], [], X, Y, y_pred)


def test_a_metric_in_a_recorded_step_keeps_its_state():
    class Measuring(Model):
        def __init__(self):
            super().__init__()
            self.error = metrics.MeanSquaredError()

        def call(self, inputs):
            return inputs

        def test_step(self, data):
            state = self.error.stateless_update_state(self.error.stateless_reset_state(), data[1], data[0] * 2.0)
            return {"error": self.error.stateless_result(state)}

    model = Measuring()
    model.compile()
    for _ in range(2):
        assert model.evaluate(X, X, verbose=0, batch_size=12) == pytest.approx(np.mean(X**2), rel=1e-5)
    assert model.error.result().item() == 0.0
