"""Twins of attention's softmax, and its products on a GPU, against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins
from arrays import normal

from nbkeras.kernels import attention

pytestmark = twins.needs_cuda
FLOATS = (np.float32, np.float64)
SHAPES = [(2, 3, 5, 4, 4, 3), (2, 3, 5, 4, 2, 3), (1, 9, 2, 2, 1, 1), (0, 2, 2, 2, 1, 3)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_on_a_gpu(shape, dtype):
    b, t, s, n, k, h = shape
    x, y, w = normal(b, t, n, h, dtype=dtype), normal(b, s, k, h, seed=1, dtype=dtype), normal(b, n, t, s, dtype=dtype)
    twins.check(attention.inner, attention.inner_vjp, [x, y])
    twins.check(attention.weighted, attention.weighted_vjp, [w, y])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keys", [1, 5, 70])
def test_masked_softmax_on_a_gpu(keys, dtype):
    x = normal(2, 2, 3, keys, dtype=dtype)
    for sizes in (None, (2, 1, 3, keys), (2, 1, 3, 1), (keys,)):
        mask = None if sizes is None else np.random.default_rng(2).uniform(size=sizes) > 0.6
        for causal, spread in ((False, True), (True, False)):
            constants = {"scale": 0.7, "causal": causal, "spread": spread}
            twins.check(attention.masked_softmax, attention.masked_softmax_vjp, [x, mask], constants)
