"""Train steps for TensorFlow 2.2 to 2.15, with `compiled_loss` and `compiled_metrics`."""

import sys

import numpy as np
import pytest

import nbkeras
from nbkeras import layers
from nbkeras.compat.alias import install_as_keras, uninstall

pytestmark = pytest.mark.skipif("keras" in sys.modules, reason="another Keras is imported")


@pytest.fixture(autouse=True)
def keras_is_uninstalled():
    yield
    uninstall()


def model_of(train_step=None):
    inputs = nbkeras.Input((3,))
    dense = layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2")
    cls = type("Stepping", (nbkeras.Model,), {} if train_step is None else {"train_step": train_step})
    model = cls(inputs, dense(inputs))
    model.compile(nbkeras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def own_step(self, data):
    x, y = data
    with nbkeras.GradientTape() as tape:
        y_pred = self(x, training=True)
        loss = self.compiled_loss(y, y_pred, regularization_losses=self.losses)
    gradients = tape.gradient(loss, self.trainable_variables)
    self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
    self.compiled_metrics.update_state(y, y_pred)
    return {metric.name: metric.result() for metric in self.metrics}


@pytest.mark.parametrize(("version", "tensorflow"), [(2, False), (3, True)])
def test_a_step_equals_the_built_in_one(version, tensorflow):
    x = np.random.default_rng(0).standard_normal((10, 3)).astype("float32")
    y = x.sum(1, keepdims=True) * 2
    install_as_keras(version, tensorflow=tensorflow)
    own, built_in = model_of(own_step), model_of()
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    found, expected = (model.fit(x, y, **options).history for model in (own, built_in))
    assert found.keys() == expected.keys() == {"loss", "mae"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    np.testing.assert_allclose(own.get_weights()[0], built_in.get_weights()[0], rtol=1e-6)
    assert [metric.name for metric in own.compiled_loss.metrics + own.compiled_metrics.metrics] == ["loss", "mae"]
    own.compiled_loss.reset_state()
    own.compiled_metrics.reset_state()
    assert float(own.compiled_loss.metrics[0].result()) == 0


def test_elsewhere_the_names_of_today_are_named():
    install_as_keras(3)
    with pytest.raises(AttributeError, match=r"compiled_loss is Keras 2's: use model.compute_loss\(x, y, y_pred"):
        model_of().compiled_loss  # noqa: B018
    with pytest.raises(AttributeError, match=r"compiled_metrics is Keras 2's: use model.compute_metrics\(x, y"):
        model_of().compiled_metrics  # noqa: B018
    uninstall()
    assert not hasattr(nbkeras.Model, "compiled_loss")
