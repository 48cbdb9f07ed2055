"""KerasTuner on nbkeras: the searches of its README, with less data."""

import keras
import keras_tuner
import numpy as np
import pytest

RANDOM = np.random.default_rng(0)
X = RANDOM.random((96, 4), "float32")
Y = X @ np.array([[1.0], [2.0], [0.0], [1.0]], "float32")


def build_model(hp):
    model = keras.Sequential()
    model.add(keras.layers.Dense(hp.Choice("units", [8, 16, 32]), activation="relu"))
    model.add(keras.layers.Dense(1, activation="relu"))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), loss="mse")
    return model


@pytest.mark.parametrize(
    "tuner, options",
    [
        (keras_tuner.RandomSearch, {"max_trials": 4}),
        (keras_tuner.Hyperband, {"max_epochs": 4, "factor": 2}),
        (keras_tuner.BayesianOptimization, {"max_trials": 4, "num_initial_points": 2}),
        (keras_tuner.GridSearch, {"max_trials": 4}),
    ],
)
def test_a_search(tuner, options, tmp_path):
    keras.utils.set_random_seed(0)
    found = tuner(build_model, objective="val_loss", directory=tmp_path, project_name="search", seed=0, **options)
    found.search(X[:64], Y[:64], epochs=5, validation_data=(X[64:], Y[64:]), verbose=0)
    trials = found.oracle.get_best_trials(3)
    assert trials[0].score <= trials[1].score
    best = found.get_best_models()[0]
    assert np.isclose(best.evaluate(X[64:], Y[64:], verbose=0), trials[0].score, rtol=1e-4)
    assert found.get_best_hyperparameters()[0].get("units") == best.layers[0].units
    again = tuner(build_model, objective="val_loss", directory=tmp_path, project_name="search", seed=0, **options)
    assert again.oracle.get_best_trials()[0].score == trials[0].score  # read from the folder


def test_a_hypermodel_that_tunes_its_training(tmp_path):
    class Net(keras_tuner.HyperModel):
        def build(self, hp):
            return build_model(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)

    found = keras_tuner.RandomSearch(Net(), objective="val_loss", max_trials=3, directory=tmp_path, seed=0)
    found.search(X[:64], Y[:64], epochs=2, validation_data=(X[64:], Y[64:]), verbose=0)
    assert found.get_best_hyperparameters()[0].get("batch_size") in (16, 32)
