"""RNN with the user's own cell in recorded steps: a scan that is recorded once gives what the steps one by one give."""

import numpy as np
import pytest
from arrays import assert_close
from made_models import compiled

from nbkeras import layers, ops, random, tree, utils
from nbkeras.engine import replays
from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.runtime import device
from nbkeras.models import Model
from nbkeras.optimizers import SGD

RNG = np.random.default_rng(8)
X = RNG.standard_normal((4, 12, 3)).astype("float32")
Y = RNG.standard_normal((4, 5)).astype("float32")
MASK = RNG.random((4, 12)) < 0.6


class Cell(layers.Layer):
    """A cell with nested states, random numbers and a state of its own."""

    state_size = [5, [5, 2]]
    output_size = 5

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), initializer="glorot_uniform", name="kernel")
        self.recurrent = self.add_weight(shape=(5, 5), initializer="orthogonal", name="recurrent")
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")
        self.seeds = random.SeedGenerator(4)

    def call(self, step, states, training=False):
        h, (old, count) = states
        self.seen.assign_add(1.0)
        noise = random.normal(h.shape, stddev=0.1, seed=self.seeds) if training else 0.0
        new = ops.tanh(step @ self.kernel + h @ self.recurrent + noise)
        return new * old, [new, [ops.sigmoid(new + old), count + 1.0]]


class WithLoss(Cell):
    """A cell that adds a loss in each step, so that its steps are recorded one by one."""

    def call(self, step, states, training=False):
        output, states = super().call(step, states, training)
        self.add_loss(0.01 * ops.sum(output**2))
        return output, states


def run(eagerly, make, masked):
    """(Losses, predictions and weights after some training, and the number of launches of the longest program)."""
    utils.set_random_seed(1)
    inputs = layers.Input((12, 3), batch_size=4)
    mask = layers.Input((12,), dtype="bool", batch_size=4)
    layer = make()
    results = layer(inputs, mask=mask) if masked else layer(inputs)
    output, *states = tree.flatten(results)
    output = layers.Dense(5)(ops.reshape(output, (4, -1)))
    for state in states:
        output = output + ops.mean(state, axis=-1, keepdims=True)
    model = compiled(Model([inputs, mask], output), SGD(0.05), run_eagerly=eagerly)
    lengths = []
    original = replays.Replays.__init__

    def note(self, program, *args):
        original(self, program, *args)
        lengths.append(len(program.launches))

    replays.Replays.__init__ = note
    try:
        losses = [float(model.train_on_batch([X, MASK], Y)) for _ in range(3)]
        predicted = model.predict([X, MASK], batch_size=4, verbose=0)
        predicted = model.predict([X[::-1].copy(), MASK], batch_size=4, verbose=0)
    finally:
        replays.Replays.__init__ = original
    return losses, [predicted, *model.get_weights()], max(lengths, default=0)


CASES = {
    "plain": lambda: layers.RNN(Cell()),
    "sequences": lambda: layers.RNN(Cell(), return_sequences=True),
    "states": lambda: layers.RNN(Cell(), return_state=True, zero_output_for_mask=True),
    "backwards": lambda: layers.RNN(Cell(), return_sequences=True, return_state=True, go_backwards=True),
    "stateful": lambda: layers.RNN(Cell(), stateful=True, return_sequences=True),
    "stacked": lambda: layers.RNN([layers.GRUCell(4, dropout=0.3, recurrent_dropout=0.2, seed=3), layers.LSTMCell(3)]),
    "unfused": lambda: layers.LSTM(5, activation="gelu", dropout=0.2, seed=2, return_sequences=True),
    "bidirectional": lambda: layers.Bidirectional(layers.RNN(layers.GRUCell(4), return_sequences=True)),
    "images": lambda: layers.RNN(layers.SimpleRNNCell(5, activation="swish"), return_sequences=True),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_cell_is_recorded_once(name, masked):
    expected, found = (run(eagerly, CASES[name], masked) for eagerly in (True, False))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)
    assert 0 < found[2] < (200 if name == "bidirectional" else 130)


def test_unroll_and_losses_record_each_step():
    for make in (lambda: layers.RNN(Cell(), unroll=True), lambda: layers.RNN(WithLoss())):
        expected, found = (run(eagerly, make, False) for eagerly in (True, False))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        assert found[2] > 130


def test_a_program_does_not_grow_with_the_sequence():
    lengths = []
    for steps in (10, 40):
        layer, recorder = layers.RNN(Cell()), Recorder()
        x = ops.convert_to_tensor(RNG.standard_normal((2, steps, 3)))
        layer.build((2, steps, 3))
        with device.record(recorder):
            output = layer(x)
        lengths.append(len(recorder.sealed([output.data]).launches))
    assert lengths[0] == lengths[1] < 40
