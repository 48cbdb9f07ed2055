"""What a function changes in Python while it is recorded: replays do not repeat it, and one warning says so."""

import random
import warnings
from collections import deque

import numpy as np
import pytest
from made_models import compiled

import nbkeras as keras
from nbkeras import layers, ops

X = np.ones((2, 3), "float32")
SEEN: list = []
COUNT = 0


def appends_to_a_global(x):
    SEEN.append(1)
    return x * 2.0


def counts_in_a_global(x):
    global COUNT
    COUNT += 1
    return x * 2.0


def in_a_closure(change):
    """A function that changes a variable of the function around it."""
    history, calls, log, rng = [], 0, {"loss": deque()}, np.random.default_rng(0)

    def append(x):
        history.append(x)
        return x * 2.0

    def count(x):
        nonlocal calls
        calls += 1
        return x * 2.0

    def append_in_dict(x):
        log["loss"].append(0.0)
        return x * 2.0

    def draw(x):
        return x * rng.random()

    return {"append": append, "count": count, "append_in_dict": append_in_dict, "draw": draw}[change]


class Loop:
    def __init__(self):
        self.losses = []

    @keras.jit
    def step(self, x):
        self.losses.append(x)
        return x * 2.0


CASES = {
    "append": (in_a_closure("append"), "changed the list 'history'"),
    "global list": (appends_to_a_global, "changed the list 'SEEN'"),
    "count": (in_a_closure("count"), "changed the variable 'calls'"),
    "global count": (counts_in_a_global, "changed the variable 'COUNT'"),
    "list in a dict": (in_a_closure("append_in_dict"), "changed a list in 'log'"),
    "numpy.random": (lambda x: x * np.random.random(), "drew random numbers from NumPy's random generator"),
    "random": (lambda x: x * random.random(), "drew random numbers from Python's random generator"),
    "Generator": (in_a_closure("draw"), "drew random numbers from 'rng', a random generator"),
}


@pytest.mark.parametrize(("function", "message"), CASES.values(), ids=CASES)
def test_a_jitted_function_warns_once(function, message):
    jitted = keras.jit(function)
    with pytest.warns(UserWarning, match=message) as found:
        jitted(X), jitted(X), jitted(X[:1])
    assert len(found) == 1 and "replays run no Python" in str(found[0].message)


def test_a_jitted_method_warns():
    loop = Loop()
    with pytest.warns(UserWarning, match="the function 'step' was recorded, and changed the list self.losses"):
        loop.step(X)


def test_a_layer_that_draws_by_numpy_warns_in_fit():
    class Noise(layers.Layer):
        def call(self, x):
            return x + np.random.standard_normal(3).astype("float32")

    model = compiled(keras.Sequential([keras.Input((3,)), Noise(), layers.Dense(1)]))
    with pytest.warns(UserWarning, match="the model's train step was recorded, and drew random numbers") as found:
        model.fit(X, X[:, :1], epochs=2, verbose=0)
    assert len(found) == 1


def test_what_builds_or_runs_eagerly_or_draws_by_nbkeras_does_not_warn():
    made: list = []
    dense, dropout = layers.Dense(2), layers.Dropout(0.5)

    @keras.jit
    def builds(x):
        if not made:
            made.append(layers.Dense(2))
        return made[0](dense(x)) + keras.random.normal((2,)) + dropout(x[:, :2], training=True)

    calls = []

    @keras.jit
    def reads(x):
        calls.append(float(ops.sum(x)))
        return x

    best = float("nan")

    @keras.jit
    def reads_nan(x):
        return x * 2.0 if best != best else x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        builds(X), builds(X), reads_nan(X)
    with pytest.warns(UserWarning, match="cannot be recorded and runs eagerly") as found:
        reads(X), reads(X)
    assert len(found) == 1 and calls == [6.0, 6.0]
