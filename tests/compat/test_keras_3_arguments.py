"""Arguments that functions of Keras 3 have by name."""

import numpy as np
import pytest

from nbkeras import callbacks, layers, losses, models, saving, utils


def twofold(x):
    return 2 * x


def test_scopes_of_custom_objects():
    for scope in (saving.custom_object_scope, utils.CustomObjectScope):
        with scope(custom_objects={"twofold": twofold}):
            assert saving.get_registered_object("twofold") is twofold
            np.testing.assert_array_equal(layers.Activation("twofold")(np.ones(2)), [2, 2])


def test_names_of_registered_objects():
    assert saving.get_registered_name(obj=twofold) == "twofold"
    assert saving.get_registered_object("twofold", module_objects=globals()) is twofold
    assert saving.get_registered_object("twofold", {"twofold": abs}, module_objects=globals()) is abs
    assert saving.get_registered_object("twofold") is None


def test_configurations_by_keyword():
    assert layers.serialize(layer=layers.Flatten())["class_name"] == "Flatten"
    assert isinstance(losses.deserialize(name="mean_squared_error"), type(losses.mean_squared_error))
    assert losses.deserialize(name={"class_name": "Huber", "config": {"delta": 0.5}}).delta == 0.5
    with pytest.raises(TypeError, match="'layer' is the older spelling of 'item'"):
        layers.serialize(item=layers.Flatten(), layer=layers.Flatten())


def test_a_baseline_does_not_change_when_the_rate_falls():
    rates = []
    for options in ({}, {"baseline": 1e-9}):
        model = models.Sequential([layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        reduce = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.0, **options)
        model.fit(np.ones((4, 1)), np.zeros((4, 1)), epochs=3, verbose=0, callbacks=[reduce])
        rates.append(float(model.optimizer.learning_rate))
    assert rates == [pytest.approx(0.01)] * 2


def test_graphs_of_graphviz():
    pydot = pytest.importorskip("pydot", reason="needs pydot")
    model = models.Sequential([layers.Dense(2, name="out", input_shape=(3,))], name="own")
    dot = utils.model_to_dot(model, splines="curved")
    assert isinstance(dot, pydot.Dot) and dot.get_splines() == "curved"
    part = utils.model_to_dot(model, subgraph=True)
    assert isinstance(part, pydot.Cluster) and "out: Dense" in part.to_string() and part.get_label() == '"own"'
