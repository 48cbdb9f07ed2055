"""Switches of config: limits for quick runs, from calls and the environment; flash attention, files, the backend."""

import zipfile

import numpy as np
import pytest
from made_models import compiled

from nbkeras import config, layers, models
from nbkeras.engine import settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in ("max_epochs", "max_steps_per_epoch", "flash_attention", "unsafe_deserialization"):
        monkeypatch.setattr(settings.values, name, getattr(settings.Settings, name))


def model():
    made = compiled(models.Sequential([layers.Dense(1)]))
    return made


X, Y = np.ones((20, 2)), np.ones((20, 1))


def test_max_epochs_limits_fit():
    config.set_max_epochs(3)
    assert config.max_epochs() == 3
    with pytest.warns(UserWarning, match="max_epochs=3 limits this run"):
        assert model().fit(X, Y, epochs=9, verbose=0).epoch == [0, 1, 2]
    assert model().fit(X, Y, epochs=2, verbose=0).epoch == [0, 1]


def test_max_steps_limit_fit_evaluate_and_predict():
    made = model()
    config.set_max_steps_per_epoch(2)
    with pytest.warns(UserWarning, match="max_steps_per_epoch=2 limits this run"):
        made.fit(X, Y, batch_size=4, epochs=3, validation_data=(X, Y), verbose=0)
    assert int(made.optimizer.iterations) == 6
    with pytest.warns(UserWarning, match="max_steps_per_epoch=2 limits"):
        assert made.predict(X, batch_size=4, verbose=0).shape == (8, 1)
    with pytest.warns(UserWarning, match="max_steps_per_epoch=2 limits"):
        assert made.predict((X[:4] for _ in range(5)), verbose=0).shape == (8, 1)
    assert made.predict(X, batch_size=10, verbose=0).shape == (20, 1)
    assert int(made.fit(X, Y, batch_size=20, epochs=2, verbose=0).model.optimizer.iterations) == 8


def test_the_environment_sets_limits_until_a_call_does(monkeypatch):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "7")
    assert (config.max_epochs(), config.max_steps_per_epoch()) == (1, 7)
    config.set_max_epochs(None)
    assert config.max_epochs() is None
    for text in ("many", "0", "1.5", "9" * 5000):
        monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", text)
        message = f"KERAS_MAX_STEPS_PER_EPOCH must be a positive integer or None, received '{text[:9]}"
        with pytest.raises(ValueError, match=message):
            config.max_steps_per_epoch()


def test_flash_attention_is_only_remembered():
    config.disable_flash_attention()
    assert config.is_flash_attention_enabled() is False
    config.enable_flash_attention()  # where it is possible, in Keras
    assert config.is_flash_attention_enabled() is None
    assert not config.is_nnx_enabled()


def test_unsafe_deserialization_loads_as_without_safe_mode(tmp_path):
    small = models.Sequential([layers.Input((1,)), layers.Dense(1)])
    small.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file, zipfile.ZipFile(tmp_path / "large.keras", "w") as large:
        for name in file.namelist():
            text = file.read(name)
            large.writestr(name, text.replace(b'"units": 1', b'"units": 10000000') if name == "config.json" else text)
    with pytest.raises(ValueError, match="too much for a file of this size"):
        models.load_model(tmp_path / "large.keras")
    config.enable_unsafe_deserialization()
    with pytest.raises(ValueError, match="the array has shape|has shape .1, 1."):  # it was built
        models.load_model(tmp_path / "large.keras")


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True], ids=["zero", "negative", "float", "text", "bool"])
def test_limits_are_checked(value):
    for name in ("max_epochs", "max_steps_per_epoch"):
        with pytest.raises(ValueError, match=f"{name} must be a positive integer or None, received"):
            getattr(config, f"set_{name}")(value)


def test_other_backends_are_refused():
    config.set_backend("nbkeras")
    config.set_backend(config.backend())
    with pytest.raises(ValueError, match="cannot switch to another backend, received 'torch'"):
        config.set_backend("torch")
