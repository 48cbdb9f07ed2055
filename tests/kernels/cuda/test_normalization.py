"""Twins of batch and layer normalization against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import normalization
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)
# Narrow matrices that are widened and that are not, wide ones, rows in fours and not, several blocks of rows.
SHAPES = [(1, 1), (9, 1), (8, 3), (17, 4), (32, 5), (3, 8), (41, 12), (24, 7), (0, 3)]


def numbers(shape, dtype, seed=7):
    return (np.random.default_rng(seed).standard_normal(shape) * 2 + 3).astype(dtype)


def check_training(x, gamma, beta, mask, needs=(True, True, True)):
    """The output, the gradients and the moving statistics, which are inputs that change."""
    rows, channels = x.shape
    moving = [numbers(channels, x.dtype, 3), np.abs(numbers(channels, x.dtype, 4))]

    def op(x, gamma, beta, mean, variance, mask, momentum, epsilon):
        y, saved = normalization.batch_normalization_training(x, gamma, beta, mean, variance, mask, momentum, epsilon)
        return (y, mean, variance), saved

    def vjp(saved, dy, needs):
        return normalization.batch_normalization_training_vjp(saved, dy[0], needs)

    needs = (needs[0] and rows > 1, *needs[1:])  # for one row it is 0 except for rounding
    arrays = [x, gamma, beta, *moving, mask]
    constants = {"momentum": 0.9, "epsilon": 1e-3}
    twins.check(
        op, vjp, arrays, constants, needs=(*needs, False, False, False), rtol=3e-5 if x.itemsize == 4 else 1e-11
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalization_in_training(shape, dtype):
    gamma, beta = numbers(shape[1], dtype, 1), numbers(shape[1], dtype, 2)
    mask = np.random.default_rng(5).uniform(size=shape[0]) > 0.4
    check_training(numbers(shape, dtype), gamma, beta, None)
    check_training(numbers(shape, dtype), gamma, beta, mask)
    check_training(numbers(shape, dtype), None, None, None, (True, False, False))
    check_training(numbers(shape, dtype), gamma, None, mask, (False, True, False))


@pytest.mark.parametrize(
    "mask",
    [np.zeros(20, bool), np.arange(20) >= 15, np.arange(20) == 7, np.ones(20, bool)],
    ids=["no row counts", "the last rows count", "one row counts", "all rows count"],
)
def test_rows_without_a_mask_count_nothing(mask):
    x = numbers((20, 3), np.float32)
    x[~mask] = np.nan
    check_training(x, numbers(3, np.float32, 1), None, mask, (False, True, True))
    with device.on(twins.gpu()):
        arrays = twins.to(twins.gpu(), (x, None, None, np.zeros(3, np.float32), np.ones(3, np.float32), mask))
        y, _ = normalization.batch_normalization_training(*arrays, 0.9, 1e-3)
    np.testing.assert_array_equal(np.isnan(y.copy()), ~np.broadcast_to(mask[:, None], x.shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_normalization_by_given_statistics(shape, dtype):
    channels = shape[1]
    mean, gamma, beta = (numbers(channels, dtype, seed) for seed in (1, 2, 3))
    variance = np.abs(numbers(channels, dtype, 4))
    op, vjp = normalization.batch_normalization, normalization.batch_normalization_vjp
    arrays = [numbers(shape, dtype), mean, variance, gamma, beta]
    for needs in ((True,) * 5, (True, False, False, False, False), (False, True, True, False, True)):
        twins.check(op, vjp, arrays, {"epsilon": 1e-3}, needs)
    twins.check(op, vjp, [*arrays[:3], None, None], {"epsilon": 1e-3}, (True, True, True, False, False))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 16), (2, 61), (5, 64), (1, 131)])
def test_layer_normalization(shape, dtype):
    op, vjp = normalization.layer_normalization, normalization.layer_normalization_vjp
    gamma, beta = numbers(shape[1], dtype, 1), numbers(shape[1], dtype, 2)
    for centered in (True, False):
        constants, x = {"epsilon": 1e-3, "centered": centered}, shape[1] > 1
        twins.check(op, vjp, [numbers(shape, dtype), gamma, beta], constants, (x, True, True))
        twins.check(op, vjp, [numbers(shape, dtype), gamma, None], constants, (x, True, False))
        twins.check(op, vjp, [numbers(shape, dtype), None, None], constants, (x, False, False))


def on_gpu(op, arrays, *constants):
    with device.on(twins.gpu()):
        return twins.host(op(*twins.to(twins.gpu(), arrays), *constants)[0])


def test_float32_statistics_with_a_large_mean():
    """Mean 1000, deviation 1: sums of squares in float32 would lose the variance. As near to exact as on the CPU."""
    rng = np.random.default_rng(0)
    for shape in ((4000, 2), (500, 16)):
        x = (rng.standard_normal(shape) + 1e3).astype(np.float32)
        exact = x.astype(np.float64)
        exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-3)
        errors = []
        for where in (None, twins.gpu()):
            with device.on(where):
                moving = np.zeros(shape[1], np.float32), np.zeros(shape[1], np.float32)
                arrays = twins.to(where, (x, None, None, *moving, None))
                y, _ = normalization.batch_normalization_training(*arrays, 0.0, 1e-3)
                errors.append(np.abs(twins.host(y) - exact).max())
                np.testing.assert_allclose(twins.host(arrays[4]), x.astype(np.float64).var(0), rtol=1e-5)
        assert errors[1] <= errors[0] * 1.5 + 1e-6
    x = (rng.standard_normal((3, 700)) + 1e3).astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-3)
    y = on_gpu(normalization.layer_normalization, (x, None, None), 1e-3)
    np.testing.assert_allclose(y, exact, atol=2e-4)


def test_nan_and_infinity():
    x = numbers((40, 4), np.float32)
    x[3, 1], x[5, 2] = np.nan, np.inf
    check_training(x, numbers(4, np.float32, 1), None, None, (True, True, False))
    op, vjp = normalization.layer_normalization, normalization.layer_normalization_vjp
    twins.check(op, vjp, [x, None, None], {"epsilon": 1e-3}, (True, False, False))


def test_the_same_each_time():
    x = numbers((100, 6), np.float32)
    arrays = x, None, None, np.zeros(6, np.float32), np.ones(6, np.float32), None
    found = {on_gpu(normalization.batch_normalization_training, arrays, 0.9, 1e-3).tobytes() for _ in range(2)}
    assert len(found) == 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_sizes_that_take_every_way_on_a_gpu(dtype):
    """Several blocks of rows and tiles of columns, sets of columns, several rows to a thread."""
    mask = np.random.default_rng(5).uniform(size=701) > 0.4
    for shape in ((701, 60), (1_100, 32), (260, 150), (12_000, 3)):
        gamma, beta = numbers(shape[1], dtype, 1), numbers(shape[1], dtype, 2)
        check_training(numbers(shape, dtype), gamma, beta, mask if len(mask) == shape[0] else None)
    op, vjp = normalization.layer_normalization, normalization.layer_normalization_vjp
    for shape in ((420, 100), (20, 1_024), (5, 4_099)):
        arrays = [numbers(shape, dtype), numbers(shape[1], dtype, 1), numbers(shape[1], dtype, 2)]
        twins.check(op, vjp, arrays, {"epsilon": 1e-3}, rtol=3e-5 if dtype == np.float32 else None)
