"""TerminateOnNaN leaves out the step that would spoil weights, in recorded steps; optimizers know a Guard."""

import contextlib

import numpy as np
import pytest
from made_models import compiled
from own_models import OwnStep

from nbkeras import Sequential, layers, ops, optimizers
from nbkeras import callbacks as cb
from nbkeras.layers import Dense
from nbkeras.utils import set_random_seed


def values(model):
    """Copies of all that training changes, but for metrics."""
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


class Spy(cb.Callback):
    """Notes all values after each batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(values(self.model))


def dense():
    return [Dense(4), layers.BatchNormalization(), layers.Dropout(0.5, seed=1), Dense(1)]


def stateful():
    return [layers.Reshape((3, 1)), layers.LSTM(4, stateful=True), Dense(1)]


def embedding():
    return [layers.Embedding(50, 4), layers.Flatten(), Dense(1)]


def accumulating():
    return optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)


WAYS = {
    "Adam": (dense, lambda: optimizers.Adam(0.1)),
    "accumulation": (dense, accumulating),
    "averages and norms": (dense, lambda: optimizers.Adam(0.1, use_ema=True, global_clipnorm=1.0, weight_decay=0.1)),
    "scaled loss": (dense, lambda: optimizers.LossScaleOptimizer(accumulating(), initial_scale=4.0)),
    "several optimizers": (dense, lambda: optimizers.MultiOptimizer(lambda v: optimizers.RMSprop(0.01))),
    "states": (stateful, lambda: optimizers.Adam(0.1)),
    "rows": (embedding, lambda: optimizers.RMSprop(0.01)),
    "rows without a slot": (embedding, lambda: optimizers.SGD(0.1)),
}


def fit(model, callbacks, bad=None, x_bad=False, **options):
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 50, (16, 3)).astype(np.float32), rng.random((16, 1)).astype(np.float32)
    if bad is not None:
        (x if x_bad else y)[4 * bad] = np.nan
    warned = contextlib.nullcontext() if bad is None else pytest.warns(UserWarning, match="so are the data")
    with warned:
        return model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks, **options)


def made(way, loss="mse"):
    make, optimizer = WAYS[way]
    set_random_seed(1)
    model = compiled(Sequential([layers.Input((3,), batch_size=4), *make()]), optimizer(), loss)
    return model


@pytest.mark.parametrize("way", WAYS)
def test_all_is_as_before_that_batch(way, capsys):
    model, spy = made(way), Spy()
    history = fit(model, [cb.TerminateOnNaN(), spy], bad=2, x_bad=way == "Adam")
    assert capsys.readouterr().out == "Batch 2: Invalid loss, terminating training\n"
    assert history.epoch == [0] and len(spy.seen) == 3
    assert any(np.any(a != b) for a, b in zip(spy.seen[0], spy.seen[1], strict=True))
    np.testing.assert_equal(spy.seen[1], spy.seen[2])
    (program,) = model._steps["guarded"].programs()  # one recorded, used for all batches
    assert program is not None and "train" not in model._steps


@pytest.mark.parametrize("way", ["Adam", "accumulation", "rows"])
def test_good_steps_are_those_of_a_fit_without_it(way):
    one, other = made(way), made(way)
    fit(one, None)
    fit(other, cb.TerminateOnNaN())
    np.testing.assert_equal(values(one), values(other))


@pytest.mark.parametrize("way", ["Adam", "accumulation", "rows"])
def test_a_gradient_that_is_not_finite(way, capsys):
    def root(y_true, y_pred):  # its derivative at 0 is infinite
        return 0.01 * ops.square(y_pred) + ops.sqrt(y_true + 0.0 * y_pred)

    model, spy = made(way, root), Spy()
    x, y = np.arange(1, 49, dtype=np.float32).reshape(16, 3), np.ones((16, 1), np.float32)
    y[12] = 0
    history = model.fit(x, y, 4, 2, 0, [cb.TerminateOnNaN(), spy], shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    assert capsys.readouterr().out == "Batch 3: Invalid gradient, terminating training\n"
    np.testing.assert_equal(spy.seen[2], spy.seen[3])
    with pytest.raises(RuntimeError, match="NaN or Inf gradient encountered at batch 3. Terminating training."):
        model.fit(x, y, 4, 2, 0, cb.TerminateOnNaN(raise_error=True), shuffle=False)


def test_a_scale_that_is_too_large_does_not_end_training():
    model = compiled(made("Adam"), optimizers.LossScaleOptimizer(optimizers.SGD(0.01), initial_scale=1e38))
    assert fit(model, cb.TerminateOnNaN()).epoch == [0, 1]
    assert float(model.optimizer.dynamic_scale) < 1e38


def test_an_eager_step_and_one_of_the_user():
    inputs = layers.Input((3,))
    for eagerly in False, True:
        model, spy = OwnStep(inputs, Dense(1)(inputs)), Spy()
        model.compile("adam", "mse", run_eagerly=eagerly)
        fit(model, [cb.TerminateOnNaN(), spy], bad=1)
        assert len(spy.seen) == 2 and len(model._steps["guarded"].programs()) == (not eagerly)
        np.testing.assert_equal(*spy.seen)


def test_without_it_steps_are_plain_again():
    model = made("Adam")
    fit(model, cb.TerminateOnNaN(), bad=0)
    fit(model, None, bad=3)
    assert len(model._steps["train"].programs()) == 1 and np.isnan(model.get_weights()[0]).all()
