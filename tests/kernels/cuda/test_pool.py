"""Pooling on the GPU against the CPU, to the bit: windows of all kinds, ties, NaN, channels by one and by four."""

import functools

import arrays
import numpy as np
import pytest
import twins

from nbkeras.kernels import pool
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda
KINDS = {"max": (pool.max_pool, pool.max_pool_vjp), "average": (pool.average_pool, pool.average_pool_vjp)}
normal = functools.partial(arrays.normal, dtype="float32")


def check(kind, x, size, strides, padding):
    constants = {"size": size, "strides": strides, "padding": padding}
    expected, found = (twins.run(where, *KINDS[kind], [x], constants, None) for where in (None, twins.gpu()))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1][0], expected[1][0])
    assert found[0].dtype == found[1][0].dtype == x.dtype


WINDOWS = {
    "side by side": ((2, 6, 4), (2, 2), (2, 2), "valid"),
    "side by side, odd sizes": ((2, 7, 5), (2, 2), (2, 2), "valid"),
    "side by side, padded": ((2, 7, 5), (2, 2), (2, 2), "same"),
    "overlapping": ((2, 7, 6), (3, 3), (2, 2), "valid"),
    "overlapping, padded": ((2, 7, 6), (3, 3), (2, 2), "same"),
    "every place": ((1, 5, 6), (3, 2), (1, 1), "same"),
    "apart": ((1, 9, 8), (2, 1), (3, 4), "valid"),
    "sequence": ((3, 1, 8), (1, 3), (1, 2), "same"),
    "whole image": ((2, 3, 4), (3, 4), (3, 4), "valid"),
    "larger than the image": ((2, 2, 3), (4, 5), (1, 1), "same"),
    "1x1": ((1, 3, 2), (1, 1), (1, 1), "valid"),
}


FORMS = {  # of the numbers
    "normal": lambda x: x,
    "ties": np.round,
    "minus zeros": lambda x: -np.zeros_like(x),
    "minus infinity": lambda x: np.full_like(x, -np.inf),
    "NaN": lambda x: np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.float32(np.nan), x),
}


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8])
@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_windows(kind, case, channels):
    shape, *window = WINDOWS[case]
    for form in FORMS if kind == "max" else ("normal", "NaN"):
        check(kind, FORMS[form](normal(*shape, channels)), *window)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("case", ["side by side, odd sizes", "overlapping, padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_float64(kind, case, channels):
    shape, *window = WINDOWS[case]
    check(kind, normal(*shape, channels, dtype="float64"), *window)


def test_several_blocks():
    check("max", normal(3, 13, 9, 12), (2, 2), (2, 2), "valid")
    check("max", normal(3, 13, 9, 12), (3, 2), (2, 1), "same")
    check("average", normal(3, 13, 9, 12), (2, 3), (1, 2), "same")


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch(kind):
    check(kind, normal(0, 4, 4, 3), (2, 2), (2, 2), "valid")


def test_arrays_that_start_anywhere():
    """Four channels at an odd address are read one by one."""
    x = normal(2, 5, 4, 4)

    def placed(where):
        with device.on(where):
            view = device.persistent(np.zeros(x.size + 1, "float32"))[1:].reshape(x.shape)
            device.write(view, x)
            results = []
            for size in ((2, 2), (3, 3)):
                y, saved = pool.max_pool(view, size, (2, 2), "valid")
                dy = device.persistent(normal(*y.shape, seed=1))
                target = device.persistent(np.zeros(x.size + 1, "float32"))[1:].reshape(x.shape)
                results += [y, *pool.max_pool_vjp(saved, dy, [target])]
            return twins.host(tuple(results))

    for found, expected in zip(placed(twins.gpu()), placed(None), strict=True):
        np.testing.assert_array_equal(found, expected)
