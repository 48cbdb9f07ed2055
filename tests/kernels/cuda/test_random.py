"""Random numbers and dropout on the GPU against those of the CPU, most of them bit by bit."""

import numba
import numpy as np
import pytest
import twins

from nbkeras import random
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import random as random_kernels
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

KEY = np.array([0xDEADBEEF, 2**32 - 1], np.uint32)
SIZES = (0, 1, 3, 4, 6, 257, random_kernels.BLOCK, random_kernels.BLOCK + 5, 2 * random_kernels.BLOCK + 1022)


def both(draw, *arrays):
    """The results of `draw` for a key and arrays, on the GPU and on the CPU."""
    found = []
    for where in (twins.gpu(), None):
        with device.on(where):
            found.append(twins.host(draw(*twins.to(where, (KEY, *arrays)))))
    return found


def assert_equal(draw, *arrays):
    got, want = both(draw, *arrays)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", SIZES)
def test_words(size):
    assert_equal(lambda key: random_kernels._words(key, size, 0))
    assert_equal(lambda key: random_kernels._words(key, size, 3))


@pytest.mark.parametrize("size", [1, 257, random_kernels.BLOCK + 5])
@pytest.mark.parametrize("rows", [(0, 2 * random_kernels.BLOCK), (4093, 4096 + 5), (17, 3 * random_kernels.BLOCK + 3)])
def test_words_of_some_rows(size, rows):
    count = min(size, rows[1] - rows[0])
    assert_equal(lambda key: random_kernels._words(key, count, 3, rows))
    ones = np.ones(count, np.float32)
    assert_equal(lambda key, x: random_kernels.dropout(x, key, 0.3, rows=rows)[0], ones)


def test_keys():
    def draw(key):
        drawn = [random_kernels.draw_key(key)[0] for _ in range(2)]
        return *drawn, key

    got, want = both(draw)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (-0.05, 0.05), (3.0, 1e6)])
def test_uniform(dtype, interval):
    for size in (0, 1, 1001):
        assert_equal(lambda key, size=size: random_kernels.uniform(key, (size,), dtype, *interval)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("draw", [random_kernels.normal, random_kernels.truncated_normal])
def test_normal(draw, dtype):
    for shape, mean, stddev in (((0,), 0.0, 1.0), ((1,), 0.0, 1.0), ((37, 81), 0.0, 1.0), ((50,), 3.0, 0.01)):
        got, want = both(lambda key, *curve, shape=shape: draw(key, shape, dtype, *curve)[0], mean, stddev)
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * stddev)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_words_at_the_ends(dtype):
    """The largest and smallest normal numbers, and those next to 0."""
    words = np.array([0, 1, 2, 3, 2**31, 2**32 - 1, 2**32 - 2, 2**31 - 1, 5], np.uint32)
    real = np.dtype(dtype).type

    def draw(key, high, low):
        out = device.empty(words.shape, dtype)
        random_kernels.launch_shares(random_kernels.normal_from_words, 1, high, low, real(0), real(1), real(0), out)
        return out

    got, want = both(draw, words, words[::-1])
    assert np.isfinite(want).all() and np.abs(want).max() > 6
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("interval", [(0, 1), (-3, 4), (-(2**62), 2**62), (5, 2**40)])
def test_integers(interval):
    for size in (0, 1, 301):
        assert_equal(lambda key, size=size: random_kernels.randint(key, (size,), *interval)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_bernoulli(dtype):
    for probability in (0.0, 0.3, 1.0):
        assert_equal(lambda key, p=probability: random_kernels.bernoulli(key, (7, 11), dtype, p)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 8), (2, 9), (3, 70)])
@pytest.mark.parametrize("samples", [0, 1, 20])
def test_categories(shape, samples, dtype):
    logits = 3 * np.random.default_rng(0).standard_normal(shape)
    assert_equal(lambda key, x: random_kernels.categorical(x, key, samples)[0], logits.astype(dtype))


def test_categories_of_numbers_out_of_the_ordinary():
    inf, nan = np.inf, np.nan
    rows = [
        [-inf, 0, -inf, 1, -inf, -inf, 2, -inf, -inf, -inf],
        [-inf] * 10,
        [inf, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        [nan, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        [-inf, 1, 2, nan, 3, 4, 5, 6, 7, 8],
        [1e30, -1e30, 1e30, 0, 0, 0, 0, 0, 0, 0],
    ]
    for logits in (np.array(rows), np.array(rows)[:, :5]):
        assert_equal(lambda key, x: random_kernels.categorical(x, key, 20)[0], logits)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 16, 17, 100])
def test_orders(size):
    def draw(key):
        order, inverse = device.empty((size,), np.int64), device.empty((size,), np.int64)
        words = random_kernels._words(key, size, 0), random_kernels._words(key, size, 1)
        device.launch(random_kernels.permute, *words, order, inverse)
        return order, inverse

    (order, inverse), (expected, expected_inverse) = both(draw)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(inverse, expected_inverse)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_, np.uint8])
def test_shuffle(dtype):
    for shape in ((6,), (5, 7), (3, 1, 40), (2, 5, 3, 2), (0, 3), (3, 0)):
        x = (10 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
        for axis in range(x.ndim):

            def forward_and_back(key, x, axis=axis):
                y, saved = random_kernels.shuffle(x, key, axis)
                return y, random_kernels.shuffle_vjp(saved, y, (True, False))[0]

            (y, dx), (expected, _) = both(forward_and_back, x)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_dropout(size, dtype):
    x = np.random.default_rng(0).uniform(1, 2, size).astype(dtype)
    x[1:5:2] = np.nan

    def forward_and_back(key, x, dy):
        y, saved = random_kernels.dropout(x, key, 0.3)
        return y, random_kernels.dropout_vjp(saved, dy, (True, False))[0]

    for got, want in zip(*both(forward_and_back, x, 2 * x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_rates(rate):
    assert_equal(lambda key, x: random_kernels.dropout(x, key, rate)[0], np.ones((31, 3), np.float32))


@pytest.mark.parametrize("noise_shape", [(4, 1, 5), (1, 6, 1), (4, 6, 5)])
def test_dropout_of_whole_axes(noise_shape):
    x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)

    def forward_and_back(key, x, dy):
        y, saved = random_kernels.dropout(x, key, 0.4, noise_shape)
        return y, random_kernels.dropout_vjp(saved, dy, (True, False))[0]

    for got, want in zip(*both(forward_and_back, x, 2 * x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_replayed_program_draws_the_numbers_of_steps_made_one_by_one():
    def run(where, replay):
        with device.on(where):
            generator, x, recorder = random.SeedGenerator(3), Variable(np.ones(70, np.float32)), Recorder()
            with device.record(recorder):
                y = random.dropout(x, 0.5, seed=generator)
            drawn = [y.data.copy()]
            if not replay:
                return drawn + [random.dropout(x, 0.5, seed=generator).data.copy() for _ in range(2)]
            program = recorder.sealed([y.data]).bind()
            (played,) = program.outputs
            for _ in range(2):
                program.run()
                drawn.append(played.copy())
            return drawn

    expected = run(None, False)
    assert len({mask.tobytes() for mask in expected}) == 3
    for where, replay in ((None, True), (twins.gpu(), False), (twins.gpu(), True)):
        np.testing.assert_array_equal(run(where, replay), expected)


@pytest.mark.skipif(not twins.SIMULATED, reason="device functions are Python functions in the simulator only")
def test_integers_are_those_of_compiled_code():
    """The simulator's integers are NumPy's: compiled ones have other sizes."""
    from nbkeras.kernels.cuda import random as random_cuda

    philox, quarter = numba.njit(random_cuda.philox), numba.njit(random_cuda._quarter)
    words = [int(word, 16) for word in "243f6a88 85a308d3 13198a2e 03707344 a4093822".split()]
    for numbers in ([0] * 5, [2**32 - 1] * 5, words):
        numbers = [np.uint32(number) for number in numbers]
        assert philox(*numbers) == random_cuda.philox(*numbers)
    for size in SIZES:
        for n in range(random_cuda._counters(size)):
            assert quarter(np.uint64(n), size) == random_cuda._quarter(np.uint64(n), np.int64(size))
