"""KerasFileEditor: reading, changing, comparing and saving weights, of files of Keras too."""

import io
import sys
import zipfile
from pathlib import Path

import audio_cases
import numpy as np
import pytest

from nbkeras import layers, models, saving

REFERENCE = Path(__file__).parents[1] / "reference"


def network(units=4):
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(units), layers.Dense(2, name="x"), layers.Reshape((1, 2)), layers.LSTM(2)]
    )
    return model


@pytest.fixture
def editor(tmp_path):
    network().save_weights(tmp_path / "net.weights.h5")
    return saving.KerasFileEditor(tmp_path / "net.weights.h5")


def test_the_arrays_are_there(editor, capsys):
    found = editor.weights_dict["layers"]
    assert {name: list(found[name]) for name in found} == {"dense": ["0", "1"], "dense_1": ["0", "1"], "lstm": ["cell"]}
    assert found["lstm"]["cell"]["1"].shape == (2, 8)
    editor.summary()
    assert "  dense\n    0: shape=(3, 4), dtype=float32\n" in capsys.readouterr().out


def test_saved_again_it_is_the_same(editor, tmp_path):
    editor.save(tmp_path / "again.weights.h5")
    first, second = network(), network()
    first.load_weights(tmp_path / "net.weights.h5")
    second.load_weights(tmp_path / "again.weights.h5")
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_layer_is_replaced(editor, tmp_path):
    editor.delete_object("layers/dense")
    editor.add_object("layers/dense", weights={"0": np.ones((3, 4), "float32")})
    editor.add_weights("dense", {"1": np.full(4, 2, "float32"), "2": np.ones(1)})
    editor.delete_weight("dense", "2")
    editor.resave_weights(tmp_path / "new.weights.h5")
    model = network()
    model.load_weights(tmp_path / "new.weights.h5")
    np.testing.assert_array_equal(model(np.ones((1, 3))).shape, (1, 2))
    np.testing.assert_array_equal(model.layers[0].get_weights()[1], [2, 2, 2, 2])


def test_renamed_layers_fit_another_model(editor, tmp_path):
    editor.rename_object("dense_1", "other")
    assert list(editor.weights_dict["layers"]) == ["dense", "lstm", "other"]
    assert editor.compare(network())["error_count"] == 2


def test_models_are_compared(editor, capsys):
    assert editor.compare(network()) == {"status": "success", "error_count": 0, "match_count": 7}
    assert editor.compare(network(5)) == {"status": "error", "error_count": 3, "match_count": 4}
    assert "layers/dense/0 has shape (3, 4) in the file, (3, 5) in the model" in capsys.readouterr().out
    small = models.Sequential([layers.Input((3,)), layers.Dense(4)])
    assert editor.compare(small) == {"status": "error", "error_count": 2, "match_count": 2}


def test_a_file_of_keras(tmp_path):
    with zipfile.ZipFile(REFERENCE / "tables.zip") as files:
        (tmp_path / "audio.keras").write_bytes(files.read("audio.keras"))
    editor = saving.KerasFileEditor(tmp_path / "audio.keras")
    assert editor.metadata["keras_version"] == "3.15.1" and editor.config["class_name"] == "Functional"
    assert editor.compare(audio_cases.recognizer(sys.modules["nbkeras"]))["status"] == "success"


MISTAKES = {
    "unknown name": (lambda e: e.delete_object("nothing"), "the file has no object with the name 'nothing'"),
    "unknown path": (
        lambda e: e.delete_object("layers/nothing"),
        "the file has no object with the path 'layers/nothing'",
    ),
    "path into an array": (lambda e: e.delete_object("layers/dense/0/1"), "the file has no object with the path"),
    "unknown array": (lambda e: e.delete_weight("dense", "7"), r"'dense' has the arrays \['0', '1'\], received '7'"),
    "unknown parent": (lambda e: e.add_object("a/b", {"0": 1.0}), "the file has no object with the name 'a'"),
    "no dict": (lambda e: e.add_object("a", 3), "weights must be a dict from names such as '0' to arrays"),
    "no numbers": (
        lambda e: e.add_object("a", {"0": "text"}),
        "weights must be a dict from names such as '0' to arrays",
    ),
    "an object that exists": (
        lambda e: e.add_object("layers/dense", {}),
        "an array or object at 'layers/dense' already",
    ),
    "a name that exists": (
        lambda e: e.rename_object("dense", "lstm"),
        "there is an object 'lstm' beside 'dense' already",
    ),
    "a path as a name": (lambda e: e.rename_object("dense", "a/b"), "new_name must be a name without a path"),
    "another ending": (lambda e: e.save("x.h5"), "the file's name must end in .weights.h5, received 'x.h5'"),
    "a number as a model": (lambda e: e.compare(3), "compare takes a model or a layer, received 3"),
    "another file": (lambda e: saving.KerasFileEditor("x.h5"), "reads names that end in .keras or .weights.h5"),
    "a missing file": (lambda e: saving.KerasFileEditor("no.weights.h5"), "there is no file 'no.weights.h5'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name, editor):
    call, message = MISTAKES[name]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        call(editor)


def test_two_layers_of_one_name_need_a_path(tmp_path):
    inner = models.Sequential([layers.Input((3,)), layers.Dense(3)])
    models.Sequential([inner, layers.Dense(3)]).save_weights(tmp_path / "m.weights.h5")
    editor = saving.KerasFileEditor(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="the file has several objects with the name 'dense'"):
        editor.delete_object("dense")


def test_hostile_files_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(tmp_path / "link.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ValueError, match="is a ExternalLink to another location"):
        saving.KerasFileEditor(tmp_path / "link.weights.h5")
    with h5py.File(tmp_path / "loop.weights.h5", "w") as file:
        group = file.create_group("layers")
        group["again"] = group
    with pytest.raises(ValueError, match="loop.weights.h5.* is damaged: maximum recursion depth"):
        saving.KerasFileEditor(tmp_path / "loop.weights.h5")
    (tmp_path / "text.keras").write_bytes(io.BytesIO(b"PK none").getvalue())
    with pytest.raises(ValueError, match="is not a model file .not a zip archive."):
        saving.KerasFileEditor(tmp_path / "text.keras")
