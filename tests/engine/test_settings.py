"""Each global setting is in Settings, and a program notices a new value of any."""

import re

import numpy as np
import pytest
from made_models import compiled

import nbkeras as keras
from nbkeras import backend as K
from nbkeras import config, layers, ops
from nbkeras.engine import compatibility, learning_phase, settings

OTHERS = {
    "floatx": "float64",
    "epsilon": 1e-3,
    "image_data_format": "channels_first",
    "dtype_policy": keras.DTypePolicy("mixed_bfloat16"),
    "policy": compatibility.KERAS_2,
    "kept_learning_phase": True,
    "backend": "other",
    "matmul": "cublas",
    "flash_attention": False,
    "interactive_logging": False,
    "traceback_filtering": True,  # conftest.py switches it off
    "max_epochs": 2,
    "max_steps_per_epoch": 2,
    "unsafe_deserialization": True,
}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    for name in settings.Settings.__annotations__:
        monkeypatch.setattr(settings.values, name, getattr(settings.values, name))
    phase = learning_phase.thread.training
    yield
    learning_phase.thread.training = phase


def recorded():
    """Calls of a function and of a model's steps, and a function that says how many of them were recorded."""
    jitted = keras.jit(lambda x: 2 * x)
    model = compiled(keras.Sequential([layers.Input((2,)), layers.Dense(1)]))
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    calls = (
        lambda: jitted(x),
        lambda: model.predict_on_batch(x),
        lambda: model.train_on_batch(x, y),
        lambda: model.test_on_batch(x, y),
    )

    def run():
        for call in calls:
            call(), call()
        steps = model._steps
        return [
            jitted._cache.recordings,
            *(steps[n].recordings for n in ("predict", "train_on_batch", "test_on_batch")),
        ]

    return run


@pytest.mark.parametrize("name", settings.Settings.__annotations__)
def test_every_program_is_recorded_again_after_a_new_value(name):
    run = recorded()
    run()  # training moves the weights
    before = run()
    setattr(settings.values, name, getattr(settings.values, name))
    assert run() == before, "the value that it has"
    setattr(settings.values, name, OTHERS[name])
    assert run() == [count + 1 for count in before]


SETTERS = {
    "set_floatx": lambda f: f("float64"),
    "set_epsilon": lambda f: f(1e-3),
    "set_image_data_format": lambda f: f("channels_first"),
    "set_dtype_policy": lambda f: f("float64"),
    "set_max_epochs": lambda f: f(3),
    "set_max_steps_per_epoch": lambda f: f(3),
    "disable_interactive_logging": lambda f: f(),
    "disable_flash_attention": lambda f: f(),
    "enable_traceback_filtering": lambda f: f(),
    "enable_unsafe_deserialization": lambda f: f(),
    "set_image_dim_ordering": lambda f: f("th"),
}
UNDOING = {"enable_interactive_logging", "enable_flash_attention", "disable_traceback_filtering"}
# they set nothing that a function can read: device and learning phase of the thread choose the program, seeds are in arrays
NO_SETTINGS = {
    "set_device",
    "set_backend",
    "set_seed",
    "set_random_seed",
    "set_learning_phase",
    "set_value",
    "set_session",
}
NO_SETTINGS |= {"set_matmul"}  # its other value needs a package; see test_cublas.py


def setters():
    for module in (config, K):
        for name in dir(module):
            if re.match("(set|enable|disable)_", name):
                yield pytest.param(getattr(module, name), name, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("function, name", list(setters()))
def test_every_public_setter_sets_a_setting(function, name):
    if name in NO_SETTINGS | UNDOING:
        return
    jitted = keras.jit(lambda x: 2 * x)
    jitted(1.0)
    SETTERS[name](function)
    assert not jitted.programs()


def test_what_a_function_reads_of_the_settings():
    read = keras.jit(lambda x: x + keras.config.epsilon())
    pooled = keras.jit(lambda x: ops.max_pool(x, 2, 2))
    images = np.zeros((1, 4, 6, 8), "float32")
    assert read(0.0) == np.float32(1e-7) and pooled(images).shape == (1, 2, 3, 8)
    config.set_epsilon(0.5)
    config.set_image_data_format("channels_first")
    assert read(0.0) == 0.5 and pooled(images).shape == (1, 4, 3, 4)


def test_a_step_that_sets_and_restores_a_setting_is_recorded_once():
    @keras.jit
    def wide(x):
        before = config.floatx()
        config.set_floatx("float64")
        made = ops.ones(2)
        config.set_floatx(before)
        return made * x

    for _ in range(3):
        assert wide(2.0).dtype == "float64"
    assert wide._cache.recordings == 1


def test_a_setting_that_is_not_declared():
    with pytest.raises(AttributeError, match="declare it there"):
        settings.values.another = 1
