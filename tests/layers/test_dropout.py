"""Dropout and noise: rates, masks, gradients, replay, and the layers."""

import math

import numpy as np
import pytest
from in_threads import by_threads
from mistakes import mistakes

from nbkeras import layers, random, utils
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine import documentation
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

X = np.random.default_rng(0).standard_normal((7, 9, 5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [3, 1001, 50_003])
def test_kept_elements_are_scaled_and_others_zero(size, dtype):
    x = np.random.default_rng(1).uniform(1, 2, size).astype(dtype)
    y = random.dropout(x, 0.3, seed=1).numpy()
    assert y.dtype == dtype
    kept = y != 0
    assert np.allclose(y[kept], x[kept] / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) <= 5 * math.sqrt(0.21 / size)


def test_extreme_rates():
    x = np.ones((50,), "float32")
    assert np.array_equal(random.dropout(x, 0.0).numpy(), x)
    assert not random.dropout(x, 1.0).numpy().any()
    x[:] = np.nan
    assert np.isin(random.dropout(x, 0.5, seed=1).numpy(), [0.0]).any()


def test_gradients_equal_differences():
    check_op(lambda x: random.dropout(x, 0.4, seed=7), X)
    check_op(lambda x: random.dropout(x, 0.4, (None, 1, 5), seed=7), X)
    check_op(lambda x: random.dropout(x, 0.4, (7, 1, 1), seed=7), X)


@pytest.mark.big
def test_gradients_of_many_elements():
    check_op(lambda x: random.dropout(x, 0.4, seed=7), np.random.default_rng(0).standard_normal((33_001,)))


def test_gradient_uses_the_mask_of_its_own_forward_pass():
    generator, x = random.SeedGenerator(1), Variable(np.ones(1000))
    with GradientTape() as tape:
        first = random.dropout(x, 0.5, seed=generator)
        second = random.dropout(x, 0.5, seed=generator)
        loss = first * 1.0 + second * 10.0
    random.dropout(x, 0.5, seed=generator)
    assert np.array_equal(tape.gradient(loss, x).numpy(), first.numpy() + 10 * second.numpy())


def test_noise_shape():
    y = random.dropout(np.ones((20, 6, 8), "float32"), 0.5, (None, 1, None), seed=1).numpy()
    assert np.array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert len(np.unique(y[:, 0], axis=0)) > 1
    for wrong in ((20, 6), (20, 2, 8)):
        with pytest.raises(ValueError, match="noise_shape must be x's shape"):
            random.dropout(np.ones((20, 6, 8)), 0.5, wrong)


def test_replay_drops_other_elements_each_time_and_the_gradient_follows():
    layer = layers.Dropout(0.5, seed=3)
    x, recorder = Variable(np.ones((40, 30), "float32")), Recorder()
    with device.record(recorder), GradientTape() as tape:
        y = layer(x, training=True)
        gradient = tape.gradient(y, x)
    first = y.numpy() if recorder.reason is None else None
    program = recorder.sealed([y.data, gradient.data]).bind()
    outputs = program.outputs
    masks = []
    for _ in range(3):
        program.run()
        np.testing.assert_array_equal(outputs[0], outputs[1])
        masks.append(outputs[0].copy())
    assert len({mask.tobytes() for mask in masks}) == 3
    layer.seed_generator.state.assign([3, 0])
    program.run()
    np.testing.assert_array_equal(outputs[0], first)


@pytest.mark.cpu("about threads")
def test_mask_does_not_depend_on_the_number_of_threads():
    x = np.ones(50_003, "float32")
    found = by_threads(lambda: random.dropout(x, 0.5, seed=1).numpy())
    assert all(np.array_equal(found[0], other) for other in found)


# -------------------- layers --------------------

KINDS = (layers.Dropout, layers.SpatialDropout1D, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout)
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_layers_act_in_training_only_and_never_the_same_way_twice(kind):
    layer = kind(0.5)
    assert np.array_equal(layer(X).numpy(), layer(X, training=False).numpy())
    assert np.allclose(layer(X).numpy(), X, rtol=1e-6)
    first, second = layer(X, training=True).numpy(), layer(X, training=True).numpy()
    assert not np.array_equal(first, layer(X).numpy()) and not np.array_equal(first, second)
    assert layer.compute_output_shape((None, 9, 5)) == (None, 9, 5)
    assert layer.weights == [] and len(layer._states_variables) == 1  # its seed: not among the weights


@each_kind
def test_layers_repeat_from_a_seed_and_from_the_global_seed(kind):
    one, other = kind(0.5, seed=3), kind(0.5, seed=3)
    assert np.array_equal(one(X, training=True).numpy(), other(X, training=True).numpy())
    results = []
    for _ in range(2):
        utils.set_random_seed(4)
        results.append(kind(0.5)(X, training=True).numpy())
    assert np.array_equal(*results)
    assert kind.from_config(one.get_config()).get_config() == one.get_config()


def test_spatial_dropout_drops_whole_channels():
    images = np.ones((9, 3, 4, 6), "float32")
    last = layers.SpatialDropout2D(0.5, seed=1)(images, training=True).numpy()
    assert np.array_equal(last, np.broadcast_to(last[:, :1, :1], images.shape)) and 0 < (last == 0).mean() < 1
    first = layers.SpatialDropout2D(0.5, "channels_first", seed=1)(images, training=True).numpy()
    assert np.array_equal(first, np.broadcast_to(first[:, :, :1, :1], images.shape))
    volumes = np.ones((9, 2, 3, 4, 6), "float32")
    whole = layers.SpatialDropout3D(0.5, seed=1)(volumes, training=True).numpy()
    assert np.array_equal(whole, np.broadcast_to(whole[:, :1, :1, :1], volumes.shape))
    with pytest.raises(ValueError, match="expected ndim=3"):
        layers.SpatialDropout1D(0.5)(images, training=True)


@pytest.mark.big
def test_moments_of_noise():
    x = np.full((300, 200), 2.0, "float32")
    noisy = layers.GaussianNoise(0.5, seed=1)(x, training=True).numpy()
    assert abs(noisy.mean() - 2) < 0.02 and abs(noisy.std() - 0.5) < 0.02
    scaled = layers.GaussianDropout(0.2, seed=1)(x, training=True).numpy()
    assert abs(scaled.mean() - 2) < 0.02 and abs(scaled.std() - 2 * 0.5) < 0.02
    normal = np.random.default_rng(0).standard_normal((300, 200)).astype("float32")
    alpha = layers.AlphaDropout(0.3, seed=1)(normal, training=True).numpy()
    assert abs(alpha.mean()) < 0.03 and abs(alpha.std() - 1) < 0.03


def test_activity_regularization():
    x = np.random.default_rng(0).standard_normal((4, 3))
    layer = layers.ActivityRegularization(l1=0.1, l2=0.2, dtype="float64")
    assert np.array_equal(layer(x).numpy(), x)
    expected = (0.1 * np.abs(x).sum() + 0.2 * (x**2).sum()) / 4
    assert np.isclose(layer.losses[0].item(), expected)


test_mistakes_are_explained = mistakes(
    [
        (lambda: layers.Dropout(1.5), "Dropout: rate must be a number from 0 to 1"),
        (lambda: layers.Dropout("half"), "Dropout: rate must be a number from 0 to 1"),
        (lambda: layers.Dropout(0.5, noise_shape=(0, 3)), "noise_shape must be a list of positive integers"),
        (lambda: layers.Dropout(0.5, seed="x"), "seed must be an integer"),
        (lambda: layers.GaussianDropout(1.0), "at least 0 and below 1"),
        (lambda: layers.GaussianNoise(-1), "stddev must be a number, 0 or more"),
        (lambda: layers.SpatialDropout2D(0.5, "last"), "data_format must be"),
    ],
    ValueError,
)


@pytest.mark.parametrize("make", [layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout])
def test_noise_on_integers_gives_floats(make):
    outputs = make(0.5, seed=0)(np.array([[1, 2, 3]]), training=True)
    assert outputs.dtype == np.float32 and outputs.shape == (1, 3)


def test_options_that_a_layer_sets_itself_are_not_documented():
    names = {name for name, _, _ in documentation.arguments(layers.SpatialDropout1D)}
    assert {"rate", "seed", "name"} <= names and not names & {"noise_shape", "data_format"}
