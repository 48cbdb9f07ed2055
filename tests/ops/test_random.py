"""Random numbers: Philox's known answers, distributions, seeds, replay, threads."""

import math

import numpy as np
import pytest
import scipy.stats
from in_threads import by_threads
from mistakes import mistakes
from numba import njit

from nbkeras import ops, random, utils
from nbkeras.engine.recorder import Recorder
from nbkeras.kernels import distributions
from nbkeras.kernels import random as random_kernels
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

N = 100_003  # not a multiple of 4 or of a block


@njit
def philox(c0, c1, c2, c3, k0, k1):
    return random_kernels.philox(c0, c1, c2, c3, k0, k1)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, answer):
    """Random123's kat_vectors for philox4x32-10."""
    words = [np.uint32(int(word, 16)) for word in f"{counter} {key}".split()]
    assert " ".join(f"{word:08x}" for word in philox(*words)) == answer


@pytest.mark.big
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda **k: random.uniform((N,), -1.0, 3.0, **k), scipy.stats.uniform(-1, 4)),
        (lambda **k: random.normal((N,), 2.0, 3.0, **k), scipy.stats.norm(2, 3)),
        (lambda **k: random.truncated_normal((N,), 2.0, 3.0, **k), scipy.stats.truncnorm(-2, 2, 2, 3)),
    ],
    ids=["uniform", "normal", "truncated_normal"],
)
def test_floats_follow_their_distribution(draw, distribution, dtype):
    values = draw(seed=11, dtype=dtype).numpy()
    assert values.dtype == dtype and np.isfinite(values).all()
    assert scipy.stats.kstest(values, distribution.cdf).pvalue > 0.01
    neighbours = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(N)
    low, high = distribution.support()
    assert low <= values.min() and values.max() <= high


def test_float32_and_float64_draw_the_same_numbers():
    for draw in (random.uniform, random.normal, random.truncated_normal):
        single, double = draw((1000,), seed=2).numpy(), draw((1000,), seed=2, dtype="float64").numpy()
        assert np.allclose(single, double, rtol=1e-5, atol=1e-6)


@pytest.mark.big
def test_tails_of_normal_numbers():
    values = random.normal((4_000_000,), seed=3).numpy()
    for bound in (3.0, 4.0, 4.8):
        expected = values.size * 2 * scipy.stats.norm.sf(bound)
        assert abs((np.abs(values) > bound).sum() - expected) < 5 * math.sqrt(expected)


@pytest.mark.big
@pytest.mark.parametrize("width", [1, 5, 1000, random_kernels.BLOCK, random_kernels.BLOCK + 1])
def test_some_rows_have_the_numbers_that_they_have_in_the_whole(width):
    total, key = 7, np.array([7, 3], np.uint32)
    x = np.random.default_rng(0).normal(size=(total, width))
    draws = {
        "dropout": lambda part, rows: random_kernels.dropout(part, key, 0.3, rows=rows),
        "uniform": lambda part, rows: random_kernels.uniform(key, part.shape, np.float64, rows=rows),
        "normal": lambda part, rows: random_kernels.normal(key, part.shape, np.float32, rows=rows),
        "bernoulli": lambda part, rows: random_kernels.bernoulli(key, part.shape, np.float32, 0.4, rows=rows),
        "randint": lambda part, rows: random_kernels.randint(key, part.shape, 0, 1000, rows=rows),
        "categorical": lambda part, rows: random_kernels.categorical(
            part, key, 3, rows=rows and tuple(3 * r // width for r in rows)
        ),
        "gamma": lambda part, rows: distributions.gamma(key, np.abs(part) + 0.1, rows=rows),
    }
    for name, draw in draws.items():
        whole = draw(x, None)[0]
        for first, last in ((0, 2), (2, 3), (3, 7)):
            part = draw(np.ascontiguousarray(x[first:last]), (first * width, total * width))[0]
            np.testing.assert_array_equal(part, whole[first:last], err_msg=name)


def test_integers_are_uniform():
    values = random.randint((N,), -3, 4, seed=1).numpy()
    assert values.dtype == "int32"
    counts = np.bincount(values + 3, minlength=7)
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    large = random.randint((1000,), -(2**62), 2**62, dtype="int64", seed=1).numpy()
    assert large.min() < -(2**61) and large.max() > 2**61


@pytest.mark.big
def test_bernoulli_is_1_with_its_probability():
    values = random.bernoulli((N,), 0.3, seed=1).numpy()
    assert set(np.unique(values)) == {0, 1}
    assert abs(values.mean() - 0.3) < 5 * math.sqrt(0.21 / N)
    assert random.bernoulli((9,), 0.0).numpy().sum() == 0 and random.bernoulli((9,), 1.0).numpy().sum() == 9


@pytest.mark.big
def test_categories_follow_their_weights():
    weights = np.array([[0.1, 0.2, 0.0, 0.7], [0.0, 1.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        chosen = random.categorical(np.log(weights), 20000, seed=4).numpy()
    assert chosen.shape == (2, 20000) and chosen.dtype == "int32"
    counts = np.bincount(chosen[0], minlength=4)
    assert counts[2] == 0
    assert scipy.stats.chisquare(counts[[0, 1, 3]], 20000 * weights[0, [0, 1, 3]]).pvalue > 0.01
    assert (chosen[1] == 1).all()


def test_shuffle_reorders_along_an_axis():
    x = np.arange(60.0).reshape(5, 12)
    y = random.shuffle(x, axis=1, seed=1).numpy()
    assert not np.array_equal(x, y)
    assert np.array_equal(np.sort(y, axis=1), x) and np.array_equal(y[0] + 12, y[1])
    orders = [tuple(random.shuffle(np.arange(3)).numpy()) for _ in range(300)]
    assert len(set(orders)) == 6
    check_op(lambda x: random.shuffle(x, axis=1, seed=1), x)


def test_seeds_repeat():
    assert np.array_equal(random.normal((5,), seed=3).numpy(), random.normal((5,), seed=3).numpy())
    assert not np.array_equal(random.normal((5,), seed=3).numpy(), random.normal((5,), seed=4).numpy())
    one, other = random.SeedGenerator(3), random.SeedGenerator(3)
    first = random.normal((5,), seed=one).numpy()
    second = random.normal((5,), seed=one).numpy()
    assert not np.array_equal(first, second)
    assert np.array_equal(random.normal((5,), seed=other).numpy(), first)
    again = random.SeedGenerator.from_config(one.get_config())
    assert np.array_equal(random.normal((5,), seed=again).numpy(), first)
    assert one.state.shape == (2,) and not one.state.trainable


def test_set_random_seed_restarts_the_shared_generator():
    def draw():
        utils.set_random_seed(7)
        return random.uniform((3,)).numpy(), random.uniform((3,)).numpy(), random.SeedGenerator().state.numpy()

    (a, b, state), (c, d, other) = draw(), draw()
    assert np.array_equal(a, c) and np.array_equal(b, d) and not np.array_equal(a, b)
    assert np.array_equal(state, other)


def test_replay_draws_new_numbers_with_a_generator_and_the_same_with_an_integer():
    generator, recorder = random.SeedGenerator(5), Recorder()
    with device.record(recorder):
        arrays = [random.uniform((6,), seed=seed).data for seed in (generator, 5, None)]
    first = [array.copy() for array in arrays]
    program = recorder.sealed(arrays).bind()
    played = program.outputs
    program.run()
    second = [array.copy() for array in played]
    program.run()
    third = [array.copy() for array in played]
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(second[0], third[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[2], second[2])
    generator.state.assign([5, 0])
    program.run()
    assert np.array_equal(played[0].copy(), first[0])
    utils.set_random_seed(9)
    program.run()
    expected = played[2].copy()
    utils.set_random_seed(9)
    program.run()
    assert np.array_equal(played[2].copy(), expected)


@pytest.mark.cpu("about threads")
def test_numbers_do_not_depend_on_the_number_of_threads():
    draws = by_threads(lambda: [draw((N,), seed=1).numpy() for draw in (random.uniform, random.normal)])
    np.testing.assert_array_equal(draws[0], draws[-1])


test_mistakes_are_explained = mistakes(
    [
        (lambda: random.normal((2,), seed="a"), "seed must be an integer, a SeedGenerator or None"),
        (lambda: random.normal((2,), dtype="int32"), "normal: dtype must be a dtype of floats, received 'int32'"),
        (lambda: random.normal(("a",)), "a shape must be made of integers"),
        (lambda: random.randint((2,), 3, 3), "minval must be below maxval"),
        (lambda: random.randint((2,), 0, 3, dtype="float32"), "dtype must be an integer type"),
        (lambda: random.bernoulli((2,), 1.5), "between 0 and 1"),
        (lambda: random.bernoulli((2,), "relu"), "bernoulli: probability must be a number, received 'relu'"),
        (lambda: random.normal((2**62,)), "normal of shape .* any memory has"),
        (lambda: random.randint((2,), 0, 2**64), "randint: the limits must fit into int64"),
        (lambda: random.randint((2,), 0, np.inf), "randint: the limits must be integers"),
        (lambda: random.categorical(np.ones((1, 3)), -1), "categorical: num_samples must be an integer of at least 0"),
        (lambda: random.dropout(np.ones(3), 0.5, 0.0), "dropout: a shape must be made of integers, received 0.0"),
        (lambda: random.categorical(np.ones(3), 2), r"logits must have shape \(rows, classes\)"),
        (lambda: random.shuffle(np.ones(3), axis=1), "axis 1 is out of range"),
        (lambda: random.beta((3,), [1.0, 2.0], 1.0), "does not broadcast"),
        (lambda: random.dropout(np.ones(3), 1.5), "dropout: rate must be between 0 and 1, received 1.5"),
        (lambda: ops.image.elastic_transform(np.ones((2, 2))), "an image of 3 axes or a batch of 4, received shape"),
    ],
    (ValueError, TypeError),
)


# -------------------- found by rejection --------------------


@pytest.mark.big
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parameters", [(0.1,), (0.8,), (1.0,), (7.5,), (400.0,)])
def test_gamma_follows_its_distribution(parameters, dtype):
    values = random.gamma((20_000,), *parameters, dtype=dtype, seed=1).numpy()
    assert values.dtype == dtype
    assert scipy.stats.kstest(values.astype(np.float64), scipy.stats.gamma(*parameters).cdf).pvalue > 0.01


@pytest.mark.big
@pytest.mark.parametrize("parameters", [(0.1, 0.2), (2.0, 0.5), (3.0, 70.0)])
def test_beta_follows_its_distribution(parameters):
    values = random.beta((20_000,), *parameters, seed=5, dtype="float64").numpy()
    assert scipy.stats.kstest(values, scipy.stats.beta(*parameters).cdf).pvalue > 0.01


@pytest.mark.big
@pytest.mark.parametrize("count, probability", [(5, 0.3), (7, 0.9), (50, 0.4), (1000, 0.7), (10**6, 1e-6)])
def test_binomial_follows_its_distribution(count, probability):
    values = random.binomial((20_000,), count, probability, seed=6).numpy()
    wanted = scipy.stats.binom(count, probability)
    low, high = int(wanted.ppf(0.01)), int(wanted.ppf(0.99))
    edges = np.arange(low, high + 1)
    observed = np.diff([0, *((values <= k).sum() for k in edges), values.size])
    expected = np.diff([0, *wanted.cdf(edges), 1]) * values.size
    assert (
        scipy.stats.chisquare(
            observed[expected > 5], expected[expected > 5] * observed[expected > 5].sum() / expected[expected > 5].sum()
        ).pvalue
        > 0.01
    )


def test_parameters_that_are_tensors():
    alpha = np.array([0.5, 50.0], np.float32)
    values = random.gamma((400, 2), alpha, seed=7).numpy()
    np.testing.assert_allclose(values.mean(0), alpha, rtol=0.2)
    counts = np.array([[10.0], [200.0]])
    values = random.binomial((2, 400), counts, [[0.5], [0.25]], seed=7).numpy()
    np.testing.assert_allclose(values.mean(1), [5, 50], rtol=0.1)
    assert (values == np.floor(values)).all()
    assert np.isnan(random.gamma((2,), -1.0)).all() and np.isnan(random.beta((2,), 1.0, 0.0)).all()
    np.testing.assert_array_equal(random.binomial((4,), [0, 5, 5, 5], [0.5, 0, 1, np.nan]), [0, 0, 5, np.nan])
    generator = random.SeedGenerator(3)
    first, second = (random.beta((3,), 2.0, 3.0, seed=generator).numpy() for _ in range(2))
    assert (first != second).all()
    recorder = Recorder()
    generator = random.SeedGenerator(3)
    with device.record(recorder):
        y = random.beta((3,), 2.0, 3.0, seed=generator)
    np.testing.assert_array_equal(y, first)
    program = recorder.sealed([y.data]).bind()
    (played,) = program.outputs
    program.run()
    np.testing.assert_array_equal(played.copy(), second)
