"""Initializers: distributions, fans, seeds, names, configurations."""

import json
import math
import random as python_random

import numpy as np
import pytest
import scipy.signal
from made_models import built
from mistakes import mistakes

from nbkeras import initializers, layers, losses, optimizers, quantizers, random, utils
from nbkeras.engine import compatibility, settings
from nbkeras.engine.compatibility import KERAS_2, KERAS_3
from nbkeras.layers.augmenting.images import Images
from nbkeras.layers.merging import Merge

RANDOM = [
    "random_normal", "random_uniform", "truncated_normal", "variance_scaling", "orthogonal", "lecun_uniform",
    "lecun_normal", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
]  # fmt: skip
SHAPE = (300, 200)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", initializers.registry.names())
def test_every_name_gives_an_array_of_the_shape_and_dtype(name, dtype):
    shape = (4, 1, 3) if name.lower().startswith("stft") else (4, 3)
    values = initializers.get(name)(shape, dtype=dtype)
    assert values.shape == shape and values.dtype == dtype
    assert initializers.get(name)(shape).dtype == "float32"


@pytest.mark.parametrize("name", initializers.registry.names())
def test_configuration_makes_the_same_initializer(name):
    made = initializers.get(name)
    config = json.loads(json.dumps(initializers.serialize(made)))
    again = initializers.deserialize(config)
    assert type(again) is type(made) and again.get_config() == made.get_config()


def test_constants():
    assert np.array_equal(initializers.zeros()((2,)), [0, 0])
    assert np.array_equal(initializers.ones()((2,), "int32"), [1, 1])
    assert np.array_equal(initializers.constant(2.5)((2,)), [2.5, 2.5])
    assert np.array_equal(initializers.Constant([1, 2])((3, 2)), [[1, 2]] * 3)
    assert np.array_equal(initializers.get(np.arange(4.0))((4,)), np.arange(4))
    assert np.array_equal(initializers.identity(gain=3)((2, 3)), [[3, 0, 0], [0, 3, 0]])
    with pytest.raises(ValueError, match=r"shape \(4,\), which do not fit a weight of shape \(3,\)"):
        initializers.get(np.arange(4.0))((3,))
    with pytest.raises(ValueError, match="Identity makes matrices only"):
        initializers.identity()((2, 2, 2))


def spread(name, shape, **arguments):
    """Mean, standard deviation and largest absolute value of the numbers of an initializer of this name."""
    values = initializers.registry.find(name)(seed=1, **arguments)(shape, "float64")
    return values.mean(), values.std(), np.abs(values).max()


def near(value, expected, count):
    """Within five standard errors of a mean or standard deviation over `count` numbers of spread 1."""
    return abs(value - expected) < 5 / math.sqrt(count)


@pytest.mark.parametrize(
    ("name", "stddev", "limit"),
    [
        ("random_normal", 0.05, 10),
        ("random_uniform", 0.05 / math.sqrt(3), math.sqrt(3)),
        ("truncated_normal", 0.05 * 0.87962566, 2 / 0.87962566),
        ("lecun_uniform", math.sqrt(1 / 300), math.sqrt(3)),
        ("lecun_normal", math.sqrt(1 / 300), 2 / 0.87962566),
        ("glorot_uniform", math.sqrt(2 / 500), math.sqrt(3)),
        ("glorot_normal", math.sqrt(2 / 500), 2 / 0.87962566),
        ("he_uniform", math.sqrt(2 / 300), math.sqrt(3)),
        ("he_normal", math.sqrt(2 / 300), 2 / 0.87962566),
        ("variance_scaling", math.sqrt(1 / 300), 2 / 0.87962566),
    ],
)
def test_distributions(name, stddev, limit):
    mean, found, largest = spread(name, SHAPE)
    assert near(mean / stddev, 0, 60000) and near(found / stddev, 1, 60000)
    assert largest <= limit * stddev * (1 + 1e-9)
    if limit < 3:
        assert largest > 0.99 * limit * stddev


@pytest.mark.parametrize(("mode", "units"), [("fan_in", 300), ("fan_out", 200), ("fan_avg", 250)])
def test_variance_scaling_modes(mode, units):
    for distribution in ("uniform", "normal", "truncated_normal", "untruncated_normal"):
        _, found, _ = spread("variance_scaling", SHAPE, scale=3.0, mode=mode, distribution=distribution)
        assert near(found / math.sqrt(3 / units), 1, 60000)


@pytest.mark.parametrize(
    ("shape", "fans"), [((), (1, 1)), ((7,), (7, 7)), ((3, 4), (3, 4)), ((5, 3, 4), (15, 20)), ((2, 5, 3, 4), (30, 40))]
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


def test_fans_of_named_axes():
    assert initializers.compute_fans((2, 3, 4), input_axes=[0], output_axes=[1, 2]) == (2, 12)


@pytest.mark.parametrize("shape", [(6, 6), (3, 7), (7, 3), (2, 3, 4)])
def test_orthogonal(shape):
    matrix = initializers.Orthogonal(gain=2, seed=0)(shape, "float64").reshape(-1, shape[-1]) / 2
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    assert np.allclose(product, np.eye(len(product)), atol=1e-12)


@pytest.mark.parametrize(
    "window", ["boxcar", "hann", "hamming", "blackman", "nuttall", "blackmanharris", "flattop", None]
)
@pytest.mark.parametrize("periodic", [False, True])
def test_stft_is_a_fourier_transform(window, periodic):
    frame = np.random.default_rng(0).standard_normal(8)
    values = np.ones(8) if window is None else scipy.signal.get_window(window, 8, periodic)
    want = np.fft.rfft(frame * values)
    norm = {"density": np.sqrt((values**2).sum()), "spectrum": np.abs(values).sum(), None: 1}
    for scaling, by in norm.items():
        by = 1 if window is None else by
        for side, part in (("real", want.real), ("imag", want.imag)):
            kernel = initializers.STFT(side, window, scaling, periodic)((8, 1, 5), "float64")
            np.testing.assert_allclose(frame @ kernel[:, 0], part / by, atol=1e-8)
    same = initializers.STFT(window=None if window is None else values, periodic=periodic)
    again = initializers.deserialize(json.loads(json.dumps(initializers.serialize(same))))
    np.testing.assert_array_equal(again((8, 1, 3)), initializers.STFT(window=window, periodic=periodic)((8, 1, 3)))


def test_seeds():
    for name in RANDOM:
        make = initializers.registry.find(name)
        one, other = make(seed=3), make(seed=3)
        assert np.array_equal(one((4, 5)), other((4, 5))) and np.array_equal(one((4, 5)), one((4, 5)))
        assert not np.array_equal(make(seed=4)((4, 5)), one((4, 5)))
        assert not np.array_equal(make()((4, 5)), make()((4, 5)))
    utils.set_random_seed(8)
    first = initializers.get("glorot_uniform")((4, 5))
    utils.set_random_seed(8)
    assert np.array_equal(initializers.get("glorot_uniform")((4, 5)), first)


@pytest.mark.parametrize(
    "keras, seed", [(KERAS_3, python_random.seed), (KERAS_2, np.random.seed)], ids=["Keras 3", "Keras 2"]
)
def test_a_seed_of_python_or_numpy_is_enough_as_in_keras(keras, seed, monkeypatch):
    monkeypatch.setattr(settings, "_seeds", None)  # as in a process in which no seed of nbkeras is set
    monkeypatch.setattr(compatibility, "current", keras)
    drawn = []
    for number in (0, 0, 1):
        seed(number)
        dense = built(layers.Dense(3), (None, 4))
        drawn.append([dense.kernel.numpy(), layers.Dropout(0.5)(np.ones((2, 20)), training=True).numpy()])
    for same, other in zip(drawn[0], drawn[1], strict=True):
        assert np.array_equal(same, other)
    assert not np.array_equal(drawn[0][0], drawn[2][0])
    utils.set_random_seed(8)
    first = initializers.get("glorot_uniform")((4, 5))
    seed(0)
    utils.set_random_seed(8)
    assert np.array_equal(initializers.get("glorot_uniform")((4, 5)), first)


def test_a_state_without_a_seed_is_restored(monkeypatch):
    monkeypatch.setattr(settings, "_seeds", None)
    state = settings.random_state()
    first = settings.next_seed()
    utils.set_random_seed(3)
    settings.restore_random_state(state)
    assert settings.next_seed() == first and settings.next_seed() != first


def test_seed_generator_gives_new_numbers_each_time():
    made = initializers.RandomNormal(seed=random.SeedGenerator(5))
    first, second = made((4,)), made((4,))
    assert not np.array_equal(first, second)
    again = initializers.deserialize(json.loads(json.dumps(initializers.serialize(made))))
    assert np.array_equal(again((4,)), first) and np.array_equal(again((4,)), second)


def test_what_get_takes():
    def double_ones(shape, dtype=None):
        return np.full(shape, 2, dtype)

    assert initializers.get(None) is None
    assert initializers.get(double_ones) is double_ones
    assert isinstance(initializers.get(initializers.HeNormal), initializers.HeNormal)
    config = {"class_name": "RandomUniform", "config": {"minval": 1.0, "maxval": 2.0, "seed": 1}}
    assert 1 <= initializers.get(config)((3,)).min() <= 2


test_mistakes_are_explained = mistakes(
    [
        (lambda: initializers.get("glorot_unifrom"), "Did you mean 'glorot_uniform'"),
        (lambda: initializers.get(3), "initializer must be a name"),
        (lambda: initializers.VarianceScaling(scale=0), "scale must be > 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be one of"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution must be one of"),
        (lambda: initializers.RandomNormal(seed="x"), "seed must be an integer"),
        (lambda: initializers.RandomNormal()((2,), "int32"), "RandomNormal draws float32 or float64"),
        (lambda: initializers.STFT(side="left"), "side must be 'real' or 'imag', received 'left'"),
        (lambda: initializers.STFT(scaling="norm"), "scaling must be"),
        (lambda: initializers.STFT(window="han"), "window must be one of"),
        (lambda: initializers.STFT()((2, 2)), "shape .length, 1, frequencies."),
        (lambda: initializers.STFT(window=[1.0])((2, 1, 2)), "the kernel's length"),
        (lambda: initializers.Orthogonal()((3,)), "at least 2 axes"),
    ],
    (ValueError, TypeError),
)


@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda: initializers.Initializer()((2,)), "__call__"),
        (lambda: quantizers.Quantizer().get_config(), "get_config"),
        (lambda: quantizers.QuantizationConfig().mode, "mode"),
        (lambda: optimizers.Optimizer(0.1).update_step(1.0, None, 0.1), "step"),
        (lambda: Merge()([np.ones(2), np.ones(2)]), "merge"),
        (lambda: Images()(np.ones((1, 2, 2, 3))), "change"),
    ],
)
def test_a_subclass_that_lacks_a_method_is_told_so(call, method):
    with pytest.raises(NotImplementedError, match=f"must define {method}"):
        call()


def test_objects_show_what_they_are():
    assert repr(losses.MeanSquaredError()) == "<MeanSquaredError 'mean_squared_error' reduction='sum_over_batch_size'>"
    assert losses.MeanSquaredError(reduction=None).reduction == "none"
