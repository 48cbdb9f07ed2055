"""Streams: step by step a model gives what predict gives for the whole sequences."""

import itertools

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers

STEPS = 6
random = np.random.default_rng(0)


def cuts_of(steps):
    """All ways to cut a sequence into calls."""
    for count in range(steps):
        yield from itertools.combinations(range(1, steps), count)


def sequences(*shape, dtype="float32"):
    return random.normal(size=shape).astype(dtype)


def model_of(*made, shape=(None, 3), dtype=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *made])


def check(model, x, cuts=None, tolerance=1e-5, **options):
    """Each call of a stream gives what predict gives for the steps up to its last one."""
    stream = model.stream(**options)
    steps = x.shape[1]
    wholes = {}
    for each in cuts_of(steps) if cuts is None else cuts:
        state = stream.initial(len(x))
        for first, last in zip((0, *each), (*each, steps), strict=True):
            y, state = stream(x[:, first:last], state)
            if last not in wholes:
                wholes[last] = model.predict_on_batch(x[:, :last])
            whole = wholes[last]
            np.testing.assert_allclose(y, whole[:, first:] if y.ndim > 2 else whole, rtol=tolerance, atol=tolerance)
            assert state.shape == (len(x), stream.state_size)
    return stream


@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
@pytest.mark.parametrize("is_last", [False, True])
def test_recurrent_layers(layer, is_last):
    model = model_of(layer(4, return_sequences=True), layer(3, return_sequences=not is_last), layers.Dense(2))
    check(model, sequences(2, STEPS, 3))
