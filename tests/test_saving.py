"""Model files: whole round trips, exact resumption, damaged and hostile files, full disks."""

import json
import os
import zipfile

import numpy as np
import pytest

from nbkeras import layers, saving, utils
from nbkeras.models import Model, Sequential, load_model


@pytest.fixture
def trained():
    utils.set_random_seed(1)
    model = Sequential([layers.Dense(5, activation="tanh", input_shape=(3,)), layers.Dropout(0.3), layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).random((20, 3))
    y = np.random.default_rng(1).random((20, 2))
    model.fit(x, y, epochs=2, verbose=0)
    return model, x, y


def test_training_resumes_exactly(trained, tmp_path):
    model, x, y = trained
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    for _ in range(3):
        assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_compile_false_and_weights_only(trained, tmp_path):
    model, x, _ = trained
    model.save(tmp_path / "m.keras")
    assert not load_model(tmp_path / "m.keras", compile=False).compiled
    model.save_weights(tmp_path / "w.weights.npz")
    other = Sequential([layers.Dense(5, activation="tanh", input_shape=(3,)), layers.Dropout(0.3), layers.Dense(2)])
    for file in ("m.keras", "w.weights.npz"):
        other.set_weights([w * 0 for w in other.get_weights()])
        other.load_weights(tmp_path / file)
        np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_functional_model_with_shared_layers(tmp_path):
    a, b = layers.Input((6, 2), name="a"), layers.Input((6, 2), name="b")
    shared = layers.LSTM(3)
    model = Model([a, b], layers.Dense(1)(layers.concatenate([shared(a), shared(b)])))
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    x = list(np.random.default_rng(0).random((2, 4, 6, 2)))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert len(again.weights) == 5 and not again.compiled


def test_custom_function_without_a_name_is_left_out_with_a_warning(trained, tmp_path):
    model, x, y = trained

    class Odd:
        def __call__(self, y_true, y_pred):
            return y_pred

    model.compile("sgd", Odd())
    with pytest.warns(UserWarning, match="saved without its compilation"):
        model.save(tmp_path / "m.keras")
    assert not load_model(tmp_path / "m.keras").compiled


def test_overwrite_and_missing_folder(trained, tmp_path):
    model, *_ = trained
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "m.keras", overwrite=False)
    with pytest.raises(FileNotFoundError, match="no folder"):
        model.save(tmp_path / "nowhere" / "m.keras")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_model(tmp_path / "none.keras")


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(trained, tmp_path, monkeypatch):
    model, x, _ = trained
    path = tmp_path / "m.keras"
    model.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.keras"]


def test_damaged_files(trained, tmp_path):
    model, *_ = trained
    path = tmp_path / "m.keras"
    model.save(path)
    whole = path.read_bytes()
    for content, message in ((b"", "no zip archive"), (b"hello", "no zip archive"), (whole[: len(whole) // 2], "zip")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_model(path)


def rewrite(path, **members):
    """The archive with some members replaced."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    for name, change in members.items():
        key = name.replace("__", "/").replace("_json", ".json").replace("_npy", ".npy")
        content[key] = change(content[key])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in content.items():
            new.writestr(name, data)


def edited(**changes):
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


def test_hostile_configurations_name_no_code(trained, tmp_path):
    model, *_ = trained
    path = tmp_path / "m.keras"
    for name in ("os.system", "nbkeras.models.Model.save", "__import__", "Evil"):
        model.save(path)
        rewrite(path, config_json=edited(class_name=name, module="os"))
        with pytest.raises(ValueError, match="unknown layer"):
            load_model(path)


def test_hostile_arrays(trained, tmp_path):
    model, *_ = trained
    path = tmp_path / "m.keras"
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }"
    pickled = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3, 5), }"
    for data in (header.ljust(127) + b"\n", pickled.ljust(127) + b"\n" + b"cos\nsystem\n", b"x" * 10):
        model.save(path)
        rewrite(path, weights__00000_npy=lambda _, data=data: data)
        with pytest.raises(ValueError, match=r"dense/kernel|no array|in the file"):
            load_model(path)
    model.save(path)
    rewrite(path, weights__00000_npy=lambda _: b"\0" * 100_000_000)
    with pytest.raises(ValueError, match="too many"):
        load_model(path)


def test_weights_of_another_model(trained, tmp_path):
    model, *_ = trained
    model.save_weights(tmp_path / "w.npz")
    other = Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(2)])
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"dense.*has shape \(3, 4\) in the model, but \(3, 5\)"):
        other.load_weights(tmp_path / "w.npz")
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="no weights yet"):
        Sequential([layers.Dense(4)]).load_weights(tmp_path / "w.npz")
