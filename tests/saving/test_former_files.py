"""Files in each format that were written on 2026-11-27 open, and their models compute what they computed then."""

import io
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

import nbkeras
from nbkeras.models import load_model, model_from_json

FORMER = zipfile.ZipFile(pathlib.Path(__file__).parents[1] / "reference" / "former.zip")
NAMES = FORMER.namelist()
MODELS = [name for name in NAMES if name.endswith((".keras", ".h5", ".nbkeras", ".pickle")) and "weights" not in name]
WEIGHTS = [name for name in NAMES if name.endswith((".weights.h5", ".safetensors"))]


def stored(name):
    """(input, outputs) of a model."""
    with np.load(io.BytesIO(FORMER.read(name.partition(".")[0] + ".npz"))) as file:
        return file["x"], [file[f"y{number}"] for number in range(len(file.files) - 1)]


def check(model, name):
    x, expected = stored(name)
    outputs = model.predict(x, verbose=0)
    for output, wanted in zip(outputs if isinstance(outputs, list) else [outputs], expected, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_opens_and_predicts_as_before(name, tmp_path):
    data = FORMER.read(name)
    if name.endswith(".pickle"):
        model = pickle.loads(data)
    elif name.endswith(".nbkeras"):
        model = nbkeras.saving.from_bytes(data)
    else:
        (tmp_path / name).write_bytes(data)
        model = load_model(tmp_path / name)
    check(model, name)
    assert int(model.optimizer.iterations) == 1  # the training's state is there as well
    x, expected = stored(name)
    model.train_on_batch(x, [np.zeros_like(each) for each in expected])


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_architecture_and_its_weights_open(name, tmp_path):
    model = model_from_json(FORMER.read(name.partition(".")[0] + ".json").decode())
    (tmp_path / name).write_bytes(FORMER.read(name))
    model.load_weights(tmp_path / name)
    check(model, name)
