"""Long use takes no more and more memory: the studies of benchmarks/memory.py, in short."""

import gc
import importlib.util
import json
import weakref
from pathlib import Path

import numpy as np
import pytest

from nbkeras import Model, Sequential, Variable, layers, ops
from nbkeras.kernels.runtime import device

FILE = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def memory():
    spec = importlib.util.spec_from_file_location("benchmarks_memory", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# By study: how often. One object that is kept each time is found: it adds 3/4 of so many blocks. Caches that have a bound, and
# Python's own lists of free objects, add up to 100.
COUNTS = {
    "predict": 8000,
    "predict_on_batch": 8000,
    "call": 2000,
    "mixed": 2000,
    "tape_steps": 600,
    "persistent_tapes": 500,
    "train_on_batch": 600,
    "fit": 600,
}


def added(found, what):
    return found[what]["end"] - found[what]["quarter"]


@pytest.mark.cpu("the resident memory of this process is not a GPU's")
@pytest.mark.parametrize("name", COUNTS)
def test_nothing_is_kept_from_call_to_call(memory, name):
    found = memory.measure(memory.STUDIES[name][0], COUNTS[name])
    assert added(found, "blocks") < 100 + COUNTS[name] / 4, found
    assert added(found, "resident") < memory.LIMIT, found


@pytest.mark.cpu("the resident memory of this process is not a GPU's")
def test_nothing_is_kept_of_dropped_models(memory):
    found = memory.measure(memory.STUDIES["rounds"][0], 12)
    assert added(found, "blocks") < 9 * 40, found  # of 9 rounds of six models
    assert added(found, "resident") < memory.LIMIT, found


@pytest.mark.cpu("the resident memory of a process is not a GPU's")
def test_studies_are_reported(memory, tmp_path, capsys):
    file = tmp_path / "memory.json"
    assert memory.main(["predict", "mixed", "--calls", "4000", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert list(found) == ["predict", "mixed"]
    assert found["predict"]["count"] == 2400
    assert "| predict | 2,400 |" in capsys.readouterr().out
    assert not memory.is_flat({"resident": {"quarter": 0, "end": memory.LIMIT}, "blocks": {"quarter": 0, "end": 0}})


def classes_of_a_trial():
    """Weak references to what the objective of a search may define, after a model of it was trained."""

    class Doubled(layers.Layer):
        factor = 1.0

        def call(self, x):
            return x * self.factor

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.doubled, self.shift = Doubled(), 0.0

        def call(self, x):
            return self.doubled(x) + self.shift

    def distance(true, predicted):
        return ops.mean(ops.abs(true - predicted))

    model, x = Net(), np.ones((2, 3), np.float32)
    model.compile("sgd", "mse", metrics=[distance])
    model.evaluate(x, x, verbose=0)
    model.shift, model.doubled.factor = 1.0, 2.0  # steps that read them are recorded again
    assert model.predict(x, verbose=0).max() == 3
    model.evaluate(x, x, verbose=0)
    return [weakref.ref(each) for each in (Doubled, Net, distance)]


def test_a_program_that_was_dropped_keeps_no_weights():
    model = Sequential([layers.Input((4,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    x, y = np.ones((1, 4), "float32"), np.ones((1, 3), "float32")
    model.predict(x, verbose=0)
    model.predict(x, verbose=0)  # this call uses what the first one kept, and keeps the program in reach
    old = weakref.ref(device.root(model.weights[0].data))
    model.fit(x, y, verbose=0)  # the weights move to the optimizer's buffer
    gc.collect()
    assert old() is None


def test_classes_go_with_their_models():
    """A table by class would keep them, one for each trial."""
    references = classes_of_a_trial()
    gc.collect()
    assert [each() for each in references] == [None, None, None]


@pytest.mark.cpu("guards are of the CPU's kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_all_weights_have_the_same_dtype_object(dtype):
    """A kernel knows an array by the address of its dtype: another object would be another guard, 64 of them at most."""
    value = np.ones(3, dtype)
    assert Variable(value).data.dtype is np.dtype(dtype)
    if value.dtype.itemsize > 1:
        other = Variable(value.astype(value.dtype.newbyteorder("S")), dtype=dtype)
        assert other.data.dtype.isnative
