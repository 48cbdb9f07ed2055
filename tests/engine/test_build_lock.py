"""A layer is built once, whichever of several threads calls it first."""

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from in_threads import LIMIT, at_once
from made_models import built

from nbkeras import layers, ops
from nbkeras.engine import step_lock
from nbkeras.models import Model, Sequential

THREADS = 16
X = np.linspace(-1, 1, 32, dtype="float32").reshape(4, 8)


@pytest.fixture(autouse=True)
def frequent_switches():
    """Threads give way to each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def unbuilt():
    return Sequential([layers.Dense(6, activation="relu"), layers.Dense(3)])


class TwoLayers(Model):
    """Its layers are built when they are called."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(6), layers.Dense(3)

    def call(self, inputs):
        return self.second(self.first(inputs))


class BuildsItsParts(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(6), layers.Dense(3)

    def build(self, input_shape):
        super().build(input_shape)  # from here on `built` is True
        self.first.build(input_shape)
        self.second.build((None, 6))

    def call(self, inputs):
        return self.second(self.first(inputs))


class ModelAroundSequential(Model):
    def __init__(self):
        super().__init__()
        self.inner = unbuilt()

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs)


MAKERS = {
    "sequential": (unbuilt, 4),
    "nested": (lambda: Sequential([Sequential([layers.Dense(6)]), layers.Dense(3)]), 4),
    "subclass": (TwoLayers, 4),
    "layer": (BuildsItsParts, 4),
    "own build": (ModelAroundSequential, 4),
    "wrapper": (lambda: Sequential([layers.Reshape((4, 2)), layers.Bidirectional(layers.SimpleRNN(2))]), 6),
}


@pytest.mark.big
@pytest.mark.parametrize("way", ["call", "predict"])
@pytest.mark.parametrize("name", MAKERS)
def test_threads_that_call_a_new_model_at_once_build_it_once(name, way):
    make, count = MAKERS[name]
    for _ in range(12):
        model = make()
        run = model.predict if way == "predict" and isinstance(model, Model) else model
        results = [np.asarray(result) for result in at_once(*[functools.partial(run, X)] * THREADS)]
        assert len(model.weights) == count
        assert all(np.array_equal(result, results[0]) for result in results)
        assert np.allclose(results[0], np.asarray(model(X)), atol=1e-6)


@pytest.mark.big
def test_threads_make_the_states_of_a_recurrent_layer_once():
    for _ in range(12):
        layer = built(layers.SimpleRNN(2, stateful=True), (None, 4, 2))
        at_once(*[functools.partial(layer, X.reshape(4, 4, 2))] * THREADS)
        assert len(layer._states) == 1


def test_threads_may_set_an_attribute_that_others_read():
    layer = TwoLayers()
    layer.names, layer.parts = ["a"], [layers.Dense(1)]

    def use(number):
        for _ in range(300):
            layer.names = [f"{number}"]
            layer.parts = [*layer.parts]
            assert len(layer.names) == 1 and layer._sublayers()

    at_once(*[functools.partial(use, number) for number in range(THREADS)])


def test_layers_that_build_each_other_in_another_order_do_not_wait_for_each_other():
    for _ in range(12):
        inner = [BuildsItsParts(), BuildsItsParts()]

        class Outer(layers.Layer):
            def __init__(self, parts):
                super().__init__()
                self.parts = parts

            def build(self, input_shape):
                for part in self.parts:
                    part._ensure_built(X)

            def call(self, inputs):
                return ops.add(*(part(inputs) for part in self.parts))

        outer = Outer(inner), Outer(inner[::-1])
        at_once(*(functools.partial(each, X) for each in outer))
        assert all(len(part.weights) == 4 for part in inner)


def test_a_build_that_sets_weights_does_not_wait_for_a_step_that_waits_for_the_build():
    """A writer waits until no step runs; here the step of another thread goes on when the layer is built."""
    given = [np.ones((8, 2), "float32"), np.zeros(2, "float32")]
    in_build, in_step = threading.Event(), threading.Event()

    class Slow(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            in_build.set()
            assert in_step.wait(LIMIT)
            self.set_weights(given)

    layer = Slow(2)

    def step():
        assert in_build.wait(LIMIT)
        turn = step_lock.enter()
        try:
            in_step.set()
            return layer(X)
        finally:
            step_lock.leave(turn)

    first, second = at_once(lambda: layer(X), step)
    assert np.array_equal(first, second) and np.array_equal(layer.kernel, given[0])


def test_a_layer_that_is_built_is_called_while_another_one_is_being_built():
    ready = layers.Dense(2)
    ready(X)
    called = threading.Event()

    class Slow(layers.Dense):
        def build(self, input_shape):
            assert called.wait(LIMIT)
            super().build(input_shape)

    def call():
        ready(X)
        called.set()

    at_once(lambda: Slow(2)(X), call)


def test_a_build_that_fails_lets_others_build():
    class Fails(layers.Layer):
        def build(self, input_shape):
            raise ValueError("not this time")

    with pytest.raises(ValueError, match="not this time"):
        Fails()(X)
    (result,) = at_once(lambda: layers.Dense(2)(X))
    assert result.shape == (4, 2)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_builds_layers_while_a_thread_of_its_parent_builds_one():
    """In a process of its own: forking beside threads is what warnings are for."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


FORKS = """
import os, threading
import numpy as np
from nbkeras import layers

x, inside, go_on = np.ones((1, 2), "float32"), threading.Event(), threading.Event()
layers.Dense(2)(x)

class Slow(layers.Dense):
    def build(self, input_shape):
        inside.set()
        go_on.wait(60)
        super().build(input_shape)

thread = threading.Thread(target=lambda: Slow(2)(x))
thread.start()
inside.wait(60)
child = os.fork()
if child == 0:
    layers.Dense(2)(x)
    os._exit(0)
code = os.waitpid(child, 0)[1]
go_on.set()
thread.join()
raise SystemExit(code)
"""


@pytest.mark.process
@pytest.mark.parametrize("attempt", range(4))
def test_threads_whose_first_predictions_begin_at_the_same_time(attempt):
    """In a process of its own: what is made for the first program is made once."""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", FIRST], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


FIRST = """
import sys, threading
import numpy as np
from nbkeras import Sequential, layers

sys.setswitchinterval(1e-6)
x, errors = np.ones((4, 8), "float32"), []

def use(model):
    try:
        for _ in range(3):
            model.predict(x, verbose=0)
    except BaseException as error:
        errors.append(error)

for _ in range(6):
    model = Sequential([layers.Reshape((4, 2)), layers.Bidirectional(layers.SimpleRNN(2))])
    threads = [threading.Thread(target=use, args=(model,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
if errors:
    raise errors[0]
"""
