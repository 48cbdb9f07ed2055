"""Twins of the counts of metrics against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import metrics
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)


def numbers(shape, dtype, seed=0):
    return np.random.default_rng(seed).uniform(-0.2, 1.2, shape).astype(dtype)


def awkward(dtype):
    """Rows with equal, infinite and undefined numbers."""
    x = np.round(numbers((9, 37), dtype), 1)
    x[1, 0], x[2, 5], x[3] = np.nan, np.nan, np.nan
    x[4], x[5, 30], x[6, 3:] = -np.inf, np.inf, -np.inf
    x[7, 0], x[8, :36] = -np.inf, np.nan
    return x


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (9, 8), (3, 5, 17), (2, 61), (1, 131), (0, 3)])
def test_matches(shape, dtype):
    y_pred, rng = np.round(numbers(shape, dtype), 1), np.random.default_rng(1)
    for classes in (np.int32, np.int64, np.uint8, np.float32, np.float64):
        wanted = rng.integers(0, shape[-1], shape[:-1]).astype(classes)
        twins.check(metrics.class_matches, None, [wanted, y_pred])
    twins.check(metrics.one_hot_matches, None, [np.round(numbers(shape, dtype, 2), 1), y_pred])
    for wanted in (np.bool_, np.int32, dtype):
        labels = rng.integers(0, 2, shape).astype(wanted)
        twins.check(metrics.threshold_matches, None, [labels, y_pred], {"threshold": 0.3})


@pytest.mark.parametrize("dtype", FLOATS)
def test_matches_of_awkward_numbers(dtype):
    x = awkward(dtype)
    for index in (0, 5, 36):
        twins.check(metrics.class_matches, None, [np.full(len(x), index, np.int32), x])
    twins.check(metrics.one_hot_matches, None, [x[::-1].copy(), x])
    twins.check(metrics.threshold_matches, None, [np.zeros(x.shape, np.int32), x], {"threshold": 0.5})


def in_place(kernel, arrays, states, **constants):
    """states after a kernel(*arrays, *constants, *states) changed them."""

    def op(*args):
        device.launch(kernel, *args[: len(arrays)], *constants.values(), *args[len(arrays) :])
        return args[len(arrays) :], None

    twins.check(op, None, [*arrays, *states], rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size, each", [(1, 1), (7, 7), (60, 4), (300, 1), (1200, 3), (5000, 100)])
def test_running_sums(size, each, dtype):
    values, total, count = numbers(size, dtype), np.array([2.5]), np.array([3.0])
    for weights in (np.zeros(0, dtype), numbers(size // each, dtype, 1)):
        in_place(metrics.accumulate, [values, weights], [total, count], scale=0.25)
        in_place(metrics.accumulate, [values, weights], [total, np.zeros(0)], scale=1.0)


def test_ratios():
    x, y = numbers((3, 4), np.float64), numbers((3, 4), np.float64, 1)
    y[0, 1] = y[2, 2] = x[2, 2] = 0
    x[1, 1] = y[1, 2] = np.nan
    for shape in (y, y[1], y[:, :1], y[0, 1], y[0, 0]):
        for dtype in FLOATS:

            def op(x, y, dtype=dtype):
                out = device.empty(x.shape, dtype)
                device.launch(metrics.ratio, x, y, out)
                return out, None

            twins.check(op, None, [x, np.array(shape)])


def tables(thresholds, columns, wanted="1111"):
    """tp, fp, tn and fn with counts in them; of size 0 where not wanted."""
    shapes = [(thresholds, columns) if each == "1" else (0, 1) for each in wanted]
    return [np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape) for shape in shapes]


CASES = [((1, 1), 1), ((50, 1), 1), ((13, 3), 3), ((13, 3), 1), ((300, 1), 1), ((170, 2), 2), ((0, 2), 2)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, columns", CASES)
def test_counts_at_thresholds(shape, columns, dtype):
    thresholds, y_pred = np.array([0.5, 0.1, 0.9]), numbers(shape, dtype)
    y_pred[3:4] = np.nan
    for labels in (np.bool_, np.int32, dtype):
        y_true = np.random.default_rng(2).integers(0, 2, shape).astype(labels)
        for weights in (np.zeros((0, 1), dtype), numbers(shape, dtype, 3)):
            for wanted in ("1111", "1001", "0100"):
                arrays = [y_true, y_pred, weights, thresholds]
                in_place(metrics.count_at_thresholds, arrays, tables(3, columns, wanted))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, columns", CASES)
def test_counts_at_even_thresholds(shape, columns, dtype):
    y_pred = np.round(numbers(shape, dtype), 2)  # some lie on thresholds
    y_pred[3:4] = np.nan
    y_true = np.random.default_rng(2).integers(0, 2, shape).astype(dtype)
    for count, wanted in ((2, "1111"), (5, "1111"), (11, "0110")):
        for weights in (np.zeros((0, 1), dtype), numbers(shape, dtype, 3)):
            for zero_counts in (True, False):

                def op(y_true, y_pred, weights, *states, zero_counts=zero_counts, count=count):
                    buckets = device.empty((2, count + 1, columns), np.float64)
                    kernel = metrics.count_at_even_thresholds
                    device.launch(kernel, y_true, y_pred, weights, zero_counts, buckets, *states)
                    return states, None

                twins.check(op, None, [y_true, y_pred, weights, *tables(count, columns, wanted)], rtol=1e-12)


def test_sizes_that_take_every_way_on_a_gpu():
    """Several parts, and more buckets than a block has threads."""
    values, weights = numbers(8_200, np.float32), numbers(8_200, np.float32, 1)
    in_place(metrics.accumulate, [values, weights], [np.array([2.5]), np.array([3.0])], scale=0.25)
    y_pred, y_true = values[:, None], (weights[:, None] > 0.5).astype(np.float32)
    arrays = [y_true, y_pred, weights[:, None], np.array([0.5, 0.1])]
    in_place(metrics.count_at_thresholds, arrays, tables(2, 1))

    def op(y_true, y_pred, weights, *states):
        buckets = device.empty((2, 131, 1), np.float64)
        device.launch(metrics.count_at_even_thresholds, y_true, y_pred, weights, False, buckets, *states)
        return states, None

    twins.check(op, None, [*arrays[:3], *tables(130, 1)], rtol=1e-12)
