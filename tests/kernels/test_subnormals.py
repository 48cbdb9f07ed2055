"""Fading gradients end at zero, not in subnormal numbers, which most processors compute with a hundred times more slowly."""

import platform

import numpy as np
import pytest

import nbkeras
from nbkeras import layers, ops
from nbkeras.kernels.loops.subnormals import flush, restore
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

pytestmark = [
    pytest.mark.skipif(
        platform.machine().lower() not in ("x86_64", "amd64", "i686"), reason="the mode is set on x86 only"
    ),
    pytest.mark.cpu("a GPU is not slower with subnormals"),
]
TINY = np.finfo(np.float32).tiny


@compiled
def halve(x, y, flushing):
    if flushing:
        mode = flush()
        for i in range(x.size):
            y[i] = x[i] * x.dtype.type(0.5)
        restore(mode)
    else:
        for i in range(x.size):
            y[i] = x[i] * x.dtype.type(0.5)


def test_a_kernel_takes_subnormals_as_zero_and_leaves_the_mode_as_it_was():
    x = np.full(5, TINY, np.float32)
    flushed, kept = np.empty_like(x), np.empty_like(x)
    device.launch(halve, x, flushed, True)
    device.launch(halve, x, kept, False)
    assert (flushed == 0).all() and (kept == TINY / 2).all() and (x * np.float32(0.5) == TINY / 2).all()


@pytest.mark.parametrize("batch", [2, 64])  # one share, and several
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_gradients_over_many_steps_hold_no_subnormals(layer, batch):
    nbkeras.utils.set_random_seed(0)
    x = nbkeras.Variable(np.random.default_rng(0).standard_normal((batch, 300, 3)).astype(np.float32))
    recurrent = layer(8, kernel_initializer="ones", recurrent_initializer=nbkeras.initializers.RandomUniform(-0.2, 0.2))
    with nbkeras.GradientTape() as tape:
        loss = ops.sum(recurrent(x))
    gradient = np.abs(tape.gradient(loss, x).numpy())
    assert gradient[:, -1].max() > 1e-6 and (gradient == 0).any()  # it fades, all the way
    assert not ((gradient > 0) & (gradient < TINY)).any()
