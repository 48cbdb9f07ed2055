"""The differences of Keras 2 are one object that the core reads: it decides while it is set, and nothing remains afterwards."""

import contextlib
import dataclasses
import inspect
import subprocess
import sys
import types

import numpy as np
import pytest

from nbkeras import activations, callbacks, initializers, layers, models, optimizers, utils
from nbkeras.compat import alias
from nbkeras.compat.keras2 import install as keras2
from nbkeras.engine import compatibility

X, Y = np.ones((8, 3), "float32"), np.arange(8.0)


def contents():
    """Every attribute of nbkeras's modules and classes, and the defaults of every function."""
    found = {}
    for path, module in list(sys.modules.items()):
        if f"{path}.".startswith("nbkeras.") and not path.startswith(("nbkeras.compat", "nbkeras.kernels")):
            for name, value in list(vars(module).items()):
                found[path, name] = value
                if isinstance(value, type) and value.__module__ == path:
                    for own, member in list(vars(value).items()):
                        found[path, name, own] = member
                        function = inspect.unwrap(member) if callable(member) else member
                        if isinstance(function, types.FunctionType):
                            found[path, name, own, "defaults"] = (function.__defaults__, function.__kwdefaults__)
    return found


def changes(before, after):
    """The names with another object in `after` than in `before`, and the attributes that classes have in addition."""
    changed = [key for key in before if key not in after or before[key] is not after[key] != before[key]]
    added = [key for key in after.keys() - before.keys() if len(key) > 2 and key[:2] in before]
    return sorted(key for key in changed + added if key[-1] not in ("_abc_impl", "__weakref__", "__annotations__"))


@pytest.mark.process
def test_importing_compat_changes_nothing_and_uninstalling_puts_everything_back():
    source = f"""
import contextlib, inspect, sys, types
import nbkeras
from nbkeras import activations, backend, callbacks, layers, metrics, models, optimizers, saving, utils
from nbkeras.data import downloads
utils.get_file, layers.Activation  # imported, with their base classes
{inspect.getsource(contents)}
{inspect.getsource(changes)}
before = contents()
from nbkeras.compat import alias
from nbkeras.compat.keras2 import install as keras2
print(changes(before, contents()))
stack = contextlib.ExitStack()
keras2.install(stack)
during = changes(before, contents())
assert ("Model", "fit_generator") in [key[1:] for key in during] and len(during) > 40
stack.close()
print(changes(before, contents()))
nbkeras.install_as_keras(tensorflow=True)
import keras, tensorflow.keras.layers
alias.uninstall()
print(changes(before, contents()), [name for name in sys.modules if name.partition(".")[0] in ("keras", "tensorflow")])
"""
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", source], capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "[]", "[]", "[]"], done.stdout + done.stderr


def network(**options):
    given = layers.Input((3,))
    first = layers.Dense(2, name="b", kernel_initializer="ones")(given)
    model = models.Model([given], [first, layers.Dense(1, name="a")(first)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", "metrics": [["mae"], ["mse"]], **options})
    return model


def observations():
    """The results of a few calls that differ between Keras 2 and Keras 3."""
    model, one = network(), initializers.RandomNormal(seed=3)
    history = model.fit(
        X, [np.ones((8, 2)), Y], verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.5)]
    )
    return {
        "metrics": model.metrics_names,
        "rate": [name for name in history.history if name.startswith("l") and name != "loss"],
        "input": isinstance(model.input, list),
        "defaults": [float(optimizers.Adagrad().learning_rate), layers.GRU(2).reset_after],
        "signature": str(inspect.signature(optimizers.Adagrad)),
        "draws": (np.asarray(one((3,))) == np.asarray(one((3,)))).all(),
        "hard_sigmoid": float(activations.get("hard_sigmoid")(np.float32(1))),
        "shape": layers.Dense(2, input_shape=(3,)).get_config().get("batch_input_shape"),
        "states": layers.LSTM(2).states,
        "spellings": [hasattr(models.Model, "fit_generator"), hasattr(layers.Layer, "updates")],
        "get_file": utils.get_file.__module__,
    }


def test_installing_sets_keras_2_and_keras_3_is_the_same_afterwards():
    before = observations()
    with contextlib.ExitStack() as stack:
        keras2.install(stack)
        assert compatibility.current is compatibility.KERAS_2
        inside = observations()
    assert compatibility.current is compatibility.KERAS_3
    after = observations()
    assert str(after) == str(before)
    assert all(str(inside[name]) != str(before[name]) for name in before), inside


def test_an_error_while_it_is_set_leaves_keras_3(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="keras.json is not valid JSON"), contextlib.ExitStack() as stack:
        keras2.install(stack)
    assert compatibility.current is compatibility.KERAS_3 and not hasattr(models.Model, "fit_generator")


def test_the_two_behaviours_differ_in_everything_that_they_name():
    for field in dataclasses.fields(compatibility.CompatibilityPolicy):
        assert getattr(compatibility.KERAS_2, field.name) != getattr(compatibility.KERAS_3, field.name), field.name


def test_a_replayed_step_does_not_ask(monkeypatch):
    model = network()
    targets = [np.ones((8, 2)), Y]
    model.train_on_batch(X, targets)
    asked = []

    class Listening:
        def __getattr__(self, name):
            asked.append(name)
            return getattr(compatibility.KERAS_3, name)

    monkeypatch.setattr(compatibility, "current", Listening())
    model.fit(X, targets, batch_size=8, epochs=1, verbose=0)
    once = len(asked)
    asked.clear()
    model.fit(X, targets, batch_size=2, epochs=1, verbose=0)  # other shapes: recorded first, then replayed
    model.fit(X, targets, batch_size=2, epochs=1, verbose=0)
    asked.clear()
    model.fit(X, targets, batch_size=2, epochs=5, verbose=0)
    assert len(asked) <= once  # none for each step


def test_uninstalling_what_is_not_installed_does_nothing():
    alias.uninstall()
    assert compatibility.current is compatibility.KERAS_3


@pytest.mark.process
def test_a_class_that_is_imported_meanwhile_is_put_back_too():
    source = """
import contextlib, nbkeras, sys
from nbkeras.compat import alias
from nbkeras.compat.keras2 import install as keras2
assert "nbkeras.layers.depthwise" not in sys.modules
import warnings
stack = contextlib.ExitStack()
keras2.install(stack)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    nbkeras.layers.DepthwiseConv2D(3, kernel_initializer="zeros")
print(len(seen), nbkeras.layers.GRU(2).reset_after, float(nbkeras.optimizers.Nadam(schedule_decay=0.004).learning_rate))
stack.close()
print(nbkeras.layers.GRU(2).reset_after, round(float(nbkeras.optimizers.Nadam().learning_rate), 6))
for make in (lambda: nbkeras.layers.DepthwiseConv2D(3, kernel_initializer="zeros"),
             lambda: nbkeras.optimizers.Nadam(schedule_decay=0.004)):
    try:
        make()
    except TypeError as error:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", source], capture_output=True, text=True)
    assert done.stdout.split("\n")[:4] == ["1 False 0.002", "True 0.001", "refused", "refused"], (
        done.stdout + done.stderr
    )
