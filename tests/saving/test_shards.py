"""Weights in several files: those of Keras, round trips with the optimizer, limits, and hostile indices."""

import json
import sys
import zipfile
from pathlib import Path

import feature_space_cases as cases
import numpy as np
import pytest

from nbkeras import saving
from nbkeras.engine.user_errors import is_meant

REFERENCE = Path(__file__).parents[1] / "reference"
EXPECTED = np.load(REFERENCE / "tables.npz")
GB = 2**30


def network():
    return cases.network(sys.modules["nbkeras"])


@pytest.fixture
def of_keras(tmp_path):
    with zipfile.ZipFile(REFERENCE / "tables.zip") as files:
        files.extractall(tmp_path, [name for name in files.namelist() if name.startswith("net")])
    return tmp_path / "net.weights.json"


def test_files_of_keras(of_keras):
    model = network()
    model.load_weights(of_keras)
    for number, weight in enumerate(model.get_weights()):
        np.testing.assert_array_equal(weight, EXPECTED[f"net {number}"])


def test_the_same_files_are_written(of_keras, tmp_path):
    model = network()
    model.load_weights(of_keras)
    (tmp_path / "own").mkdir()
    saving.save_weights(model, tmp_path / "own" / "net.weights.json", max_shard_size=9000 / GB)
    own, theirs = (json.loads((folder / "net.weights.json").read_text()) for folder in (tmp_path / "own", tmp_path))
    assert own["metadata"] == theirs["metadata"] and set(own["weight_map"]) == set(theirs["weight_map"])
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        "net.weights.json",
        "net_00000.weights.h5",
        "net_00001.weights.h5",
    ]


def test_the_optimizer_is_read_too(tmp_path):
    models = [network() for _ in range(2)]
    for model in models:
        model.compile("adam", "mse")
    x, y = np.ones((8, 30), "float32"), np.ones((8, 2), "float32")
    models[0].fit(x, y, epochs=2, verbose=0)
    models[1].fit(x, y, epochs=1, verbose=0)
    models[0].save_weights(tmp_path / "m.weights.h5", max_shard_size=8000 / GB)  # the index gets Keras's ending
    models[1].load_weights(tmp_path / "m.weights.json")
    for ours, theirs in zip(models[1].optimizer.variables, models[0].optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    histories = [model.fit(x, y, verbose=0).history["loss"] for model in models]
    assert histories[0] == histories[1]


def test_mistakes_are_explained(tmp_path):
    model = network()
    with pytest.raises(ValueError, match="max_shard_size=.* GB is too small: the array .* alone has 8000 bytes"):
        model.save_weights(tmp_path / "m.weights.json", max_shard_size=7000 / GB)
    assert list(tmp_path.iterdir()) == []
    for size in (0, -1, "2"):
        with pytest.raises(ValueError, match="max_shard_size must be a positive number of GB, received"):
            model.save_weights(tmp_path / "m.weights.json", max_shard_size=size)
    with pytest.raises(ValueError, match="a name that ends in .weights.json, received"):
        model.save_weights(str(tmp_path / "m.safetensors"), max_shard_size=1)


HOSTILE = {
    "a path": ({"/layers/dense/vars": "../net_00000.weights.h5"}, "files of weights lie beside it"),
    "another file": ({"/layers/dense/vars": "net.weights.json"}, "files of weights lie beside it"),
    "a number": ({"/layers/dense/vars": 3}, "files of weights lie beside it"),
    "a missing file": ({"/layers/dense/vars": "no.weights.h5"}, "there is no file .*no.weights.h5"),
    "a list": ([1], "it has no dict 'weight_map'"),
    "a missing group": (
        {"/layers/none/vars": "net_00000.weights.h5"},
        "a group '/layers/none/vars', which its file does not",
    ),
    "a missing array": ({"/layers/dense/vars": "net_00000.weights.h5"}, "they belong to different models"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_indices_are_refused(name, of_keras):
    owners, message = HOSTILE[name]
    of_keras.write_text(json.dumps({"weight_map": owners}))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        network().load_weights(of_keras)
    assert is_meant(caught.value)
