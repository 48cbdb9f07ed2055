"""Training steps with tapes in tapes are recorded: they replay, and give what they give eagerly."""

import contextlib

import numpy as np
import pytest

from nbkeras import GradientTape, Input, Model, Sequential, autodiff, layers, losses, metrics, ops, optimizers, random
from nbkeras.utils import set_random_seed

RNG = np.random.default_rng(3)
IMAGES = RNG.standard_normal((20, 6, 6, 1)).astype("float32")
STEPS = RNG.standard_normal((20, 4, 3)).astype("float32")
ROWS = RNG.standard_normal((20, 3)).astype("float32")


def convolutions():
    return [
        *(Input((6, 6, 1)), layers.Conv2D(3, 3, strides=2, padding="same"), layers.LeakyReLU(0.2)),
        *(layers.BatchNormalization(), layers.Dropout(0.2), layers.MaxPooling2D(), layers.Flatten()),
        layers.Dense(1),
    ]


NETWORKS = {  # data, layers
    "convolutions": (IMAGES, convolutions),
    "lstm": (STEPS, lambda: [Input((4, 3)), layers.LSTM(3), layers.Dense(1)]),
    "gru": (STEPS, lambda: [Input((4, 3)), layers.GRU(2, return_sequences=True), layers.LayerNormalization()]),
    "dense": (ROWS, lambda: [Input((3,)), layers.Dense(4, "gelu"), layers.Dense(4, "tanh"), layers.Dense(1)]),
}


class Penalized(Model):
    """A critic whose loss has WGAN-GP's penalty: the gradient of its output by its inputs shall have the norm 1."""

    def __init__(self, critic):
        super().__init__()
        self.critic, self.runs = critic, 0
        self.seed, self.penalty = random.SeedGenerator(1), metrics.Mean("penalty")

    @property
    def metrics(self):
        return [self.penalty]

    def call(self, x):
        return self.critic(x)

    def train_step(self, real):
        self.runs += 1
        fake = random.normal(real.shape, seed=self.seed)
        weights = self.critic.trainable_weights
        with GradientTape() as outer:
            share = random.uniform((real.shape[0], *[1] * (real.ndim - 1)), seed=self.seed)
            mixed = real + share * (fake - real)
            with GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(mixed)
                value = self.critic(mixed, training=True)
            slope = inner.gradient(value, mixed)
            norm = ops.sqrt(ops.sum(slope * slope, axis=tuple(range(1, real.ndim))) + 1e-12)
            penalty = ops.mean((norm - 1) ** 2)
            loss = (
                ops.mean(self.critic(fake, training=True)) - ops.mean(self.critic(real, training=True)) + 10 * penalty
            )
        self.optimizer.apply(outer.gradient(loss, weights), weights)
        self.penalty.update_state(penalty)
        return {"loss": loss, "penalty": self.penalty.result()}


def trained(name, eagerly, frozen=False):
    data, parts = NETWORKS[name]
    set_random_seed(4)
    model = Penalized(Sequential(parts()))
    if frozen:
        model.critic.layers[0].trainable = False
    model.compile(optimizers.Adam(0.01), run_eagerly=eagerly)
    before = [weight.numpy() for weight in model.critic.weights]
    history = model.fit(data, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    return model, history, before


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_penalty_is_replayed(name):
    """20 rows: two batches of 8 and one of 4 in each epoch."""
    model, history, before = trained(name, eagerly=False)
    eager, expected, _ = trained(name, eagerly=True)
    assert eager.runs == 9 and model.runs <= 3  # a first run makes the slots
    assert history == expected and history["penalty"][-1] < history["penalty"][0]
    for received, wanted in zip(model.critic.weights, eager.critic.weights, strict=True):
        np.testing.assert_array_equal(received, wanted)
    assert not np.array_equal(before[0], model.critic.weights[0])


def test_frozen_weights_stay():
    model, history, before = trained("dense", eagerly=False, frozen=True)
    _, expected, _ = trained("dense", eagerly=True, frozen=True)
    assert history == expected
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.critic.weights, strict=True)]
    assert changed == [False, False, True, True, True, False]  # the last bias has no gradient


class Curved(Model):
    """A loss with the second derivative of the output by the input, by functional transforms."""

    runs = 0

    def train_step(self, data):
        x, y = data
        self.runs += 1
        weights = self.trainable_weights

        def at(x):
            return ops.sum(self(x))

        with GradientTape() as tape:
            value, bent = autodiff.hvp(at, (x,), (ops.ones_like(x),))
            loss = ops.mean(ops.square(bent[0] - y)) + 0 * value
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_second_derivatives_by_the_input_in_a_loss_are_replayed():
    """The third derivatives of a network by its weights and inputs."""

    def fitted(eagerly):
        set_random_seed(5)
        inputs = Input((3,))
        model = Curved(inputs, layers.Dense(1)(layers.Dense(8, "tanh")(inputs)))
        model.compile(optimizers.Adam(0.02), run_eagerly=eagerly)
        return model, model.fit(ROWS, 0.1 * ROWS, batch_size=8, epochs=10, shuffle=False, verbose=0).history["loss"]

    (model, history), (eager, expected) = fitted(False), fitted(True)
    assert model.runs <= 3 and eager.runs == 30
    np.testing.assert_array_equal(history, expected)
    assert history[-1] < 0.7 * history[0]


class Forces(layers.Layer):
    """Minus the gradient of an energy by the positions; the energy is a network of its own."""

    def __init__(self, by_tape, **kwargs):
        super().__init__(**kwargs)
        self.by_tape, self.runs = by_tape, 0
        self.energy = Sequential([layers.Dense(8, "tanh"), layers.Dense(1, use_bias=False)])

    def build(self, shape):
        self.energy.build(shape)

    def call(self, x):
        self.runs += 1
        if not self.by_tape:
            return -autodiff.grad(lambda x: ops.sum(self.energy(x)))(x)
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = self.energy(x)
        return -tape.gradient(y, x)


@pytest.mark.parametrize("by_tape", [True, False])
def test_a_layer_that_computes_a_gradient_is_trained(by_tape):
    """The usual `fit`: in the symbolic call, in recorded steps, and in predictions."""

    def fitted(eagerly):
        set_random_seed(7)
        inputs, layer = Input((3,)), Forces(by_tape)
        model = Model(inputs, layer(inputs))
        model.compile(optimizers.Adam(0.02), "mse", run_eagerly=eagerly)
        layer.runs = 0
        history = model.fit(ROWS, -2 * ROWS, batch_size=8, epochs=20, shuffle=False, verbose=0).history["loss"]
        return model, layer.runs, history

    (model, runs, history), (eager, _, expected) = fitted(False), fitted(True)
    assert runs <= 3 and history == expected and history[-1] < 0.5 * history[0]
    np.testing.assert_array_equal(model.predict(ROWS, verbose=0), eager.predict(ROWS, verbose=0))
    assert model.output_shape == (None, 3)


def test_statistics_and_dropped_elements_are_those_of_one_tape():
    """A composition does once what its op does beside its result: moving statistics, and keys of random numbers."""
    results = []
    for count in (1, 2):
        layer, seed = layers.BatchNormalization(momentum=0.5), random.SeedGenerator(3)
        x = ops.convert_to_tensor(ROWS)
        with contextlib.ExitStack() as tapes:
            for _ in range(count):
                tapes.enter_context(GradientTape()).watch(x)
            y = [random.dropout(layer(x, training=True), 0.5, seed=seed) for _ in range(2)]
        results.append([each.numpy() for each in (*y, *layer.weights, seed.state)])
    for received, expected in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.big
def test_memory_of_a_recorded_penalty():
    """A second derivative needs about as much memory as the first for each of its passes, not for each op of it."""
    set_random_seed(6)
    critic = Sequential([Input((64,)), *[layers.Dense(64, "tanh") for _ in range(4)], layers.Dense(1)])
    x = RNG.standard_normal((256, 64)).astype("float32")
    nbytes = {}
    for kind in (Model, Penalized):
        model = kind(critic.inputs, critic.outputs) if kind is Model else kind(critic)
        model.compile("sgd", losses.MeanSquaredError() if kind is Model else None)
        model.fit(x, np.zeros((256, 1)) if kind is Model else None, batch_size=256, epochs=3, verbose=0)
        (program,) = programs(model)
        nbytes[kind] = program.nbytes
    assert nbytes[Penalized] < 8 * nbytes[Model]


def programs(model):
    """The recorded programs of a model's training step."""
    return model._steps["train"].programs()
