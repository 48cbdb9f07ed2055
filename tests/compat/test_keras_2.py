"""What only Keras 2 has, in this process: private names of layers, and behaviour of Embedding, add_loss, masks and batches."""

import sys
import types

import numpy as np
import pytest

from nbkeras import layers, models, ops, saving
from nbkeras.compat import alias

pytestmark = pytest.mark.usefixtures("as_keras_2")


def test_an_embedding_starts_a_sequential():
    model = models.Sequential()
    model.add(layers.Embedding(5, 3, mask_zero=True))
    model.add(layers.LSTM(2))
    model.build()
    assert model.input_shape == (None, None) and model.layers[0].get_config()["batch_input_shape"] == (None, None)
    assert model.predict(np.ones((2, 4), "int32")).shape == model.predict(np.ones((2, 7), "int32")).shape == (2, 2)
    assert layers.Embedding(5, 3, input_length=4).get_config()["batch_input_shape"] == (None, 4)
    alias.uninstall()
    with pytest.raises(ValueError, match="has no input shape yet"):
        models.Sequential([layers.Embedding(5, 3)]).build()


def test_variables_that_are_appended_to_private_lists_are_weights():
    from keras import backend as K

    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.scale, self.shift, self.count = K.variable(2.0), K.variable(1.0), K.variable(0.0)
            self._trainable_weights.append(self.scale)
            self._trainable_weights += [self.shift]
            self._non_trainable_weights = [self.count]
            super().build(input_shape)

        def call(self, inputs):
            return inputs * self.scale + self.shift

    model = models.Sequential([Scaled(input_shape=(2,))])
    layer = model.layers[0]
    assert layer.trainable_weights == layer._trainable_weights == [layer.scale, layer.shift]
    assert layer._non_trainable_weights == layer.non_trainable_weights == [layer.count] and len(model.weights) == 3
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((4, 2)), np.zeros((4, 2)))
    assert float(layer.scale) != 2 and float(layer.shift) != 1
    layer.trainable = False
    assert layer.trainable_weights == [] and layer._trainable_weights == [layer.scale, layer.shift]


def test_a_constant_that_build_gives_to_add_loss_is_part_of_each_loss():
    from keras import backend as K

    class Penalized(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.add_loss(K.sum(K.square(self.get_weights()[0] - K.eye(2))))

    model = models.Sequential([Penalized(2, kernel_initializer="zeros", input_shape=(2,))])
    model.compile("sgd", "mse")
    for _ in range(3):
        assert model.test_on_batch(np.ones((4, 2)), np.zeros((4, 2))) == pytest.approx(2.0)
    assert [float(loss) for loss in model.losses] == [2.0]
    assert model.fit(np.ones((4, 2)), np.zeros((4, 2)), verbose=0).history["loss"] == [2.0]


def test_numbers_of_batches_are_numpys():
    model = models.Sequential([layers.Dense(1, input_dim=2)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.ones((4, 2)), np.zeros((4, 1))
    for result in (model.train_on_batch(x, y), model.test_on_batch(x, y)):
        assert [type(each) for each in result] == [np.float32] * 2
    model.compile("sgd", "mse")
    assert isinstance(model.train_on_batch(x, y), np.float32) and isinstance(model.train_on_batch(x, y).tolist(), float)


def test_an_optimizer_has_its_state_when_the_train_function_is_made():
    model = models.Sequential([layers.Dense(1, input_dim=2)])
    model.compile("adam", "mse")
    assert not model.optimizer.built
    model._make_train_function()
    assert [each.shape for each in model.optimizer.weights[2:]] == [(2, 1), (2, 1), (1,), (1,)]


def test_merged_steps_are_valid_where_all_masks_say_so():
    masked, open_input = ops.convert_to_tensor(np.ones((1, 3, 2))), ops.convert_to_tensor(np.ones((1, 3, 2)))
    first, second = (ops.convert_to_tensor(np.array([each])) for each in ([True, True, False], [True, False, False]))
    add = layers.Add()
    assert ops.convert_to_numpy(add.compute_mask([masked, open_input], [first, None])).tolist() == [[True, True, False]]
    assert ops.convert_to_numpy(add.compute_mask([masked, masked], [first, second])).tolist() == [[True, False, False]]
    assert add.compute_mask([masked, open_input], [None, None]) is None
    alias.uninstall()
    assert add.compute_mask([masked, open_input], [first, None]) is None
    assert ops.convert_to_numpy(add.compute_mask([masked, masked], [first, second])).tolist() == [[True, True, False]]


def test_relu_with_its_older_argument_is_the_same_activation(tmp_path):
    import keras
    from keras.activations import relu

    np.testing.assert_allclose(relu(np.float32([-2.0, 3.0]), alpha=0.5), [-1.0, 3.0])
    layer = layers.Dense(1, activation=relu)
    assert layer.activation is ops.relu and layer.get_config()["activation"] == "relu"
    assert keras.activations.serialize(relu) == "relu" and keras.activations.get(relu) is ops.relu


def test_configurations_of_keras_2():
    from keras.utils import deserialize_keras_object, serialize_keras_object
    from keras.utils.generic_utils import deserialize_keras_object as same

    class Mine:
        def __init__(self, rate=1):
            self.rate = rate

        def get_config(self):
            return {"rate": self.rate}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    def named(x):
        return x

    assert same is deserialize_keras_object
    assert serialize_keras_object(Mine(3)) == {"class_name": "Mine", "config": {"rate": 3}}
    assert serialize_keras_object(named) == "named" and serialize_keras_object(None) is None
    own = {"Mine": Mine, "named": named, "maker": lambda units: layers.Dense(units)}
    assert deserialize_keras_object({"class_name": "Mine", "config": {"rate": 4}}, own).rate == 4
    assert deserialize_keras_object({"class_name": "maker", "config": {"units": 2}}, own).units == 2
    assert deserialize_keras_object("named", own) is deserialize_keras_object("named", None, own) is named
    assert deserialize_keras_object("Mine", own) is Mine and deserialize_keras_object(None, own) is None
    with pytest.raises(ValueError, match="unknown colour: 'name'. Did you mean 'named'?"):
        deserialize_keras_object("name", own, printable_module_name="colour")
    with pytest.raises(ValueError, match="a configuration must be a name or a dict with 'class_name', received"):
        deserialize_keras_object({"config": {}}, own)
    with pytest.raises(ValueError, match="has neither get_config nor a name"):
        serialize_keras_object(3)
    alias.uninstall()
    assert saving.serialize_keras_object(Mine(3))["registered_name"] == "Mine"


@pytest.mark.process
def test_applications_are_those_of_the_package_if_it_is_installed(run_keras_2, tmp_path):
    package = tmp_path / "keras_applications"
    package.mkdir()
    (package / "__init__.py").write_text(
        "_KERAS_BACKEND = _KERAS_LAYERS = _KERAS_MODELS = _KERAS_UTILS = None\n"
        "def parts():\n    return _KERAS_BACKEND, _KERAS_LAYERS, _KERAS_MODELS, _KERAS_UTILS\n",
        encoding="utf-8",
    )
    (package / "tiny.py").write_text(
        "from . import parts\n"
        "def Tiny(units):\n    _, layers, models, _ = parts()\n"
        "    return models.Sequential([layers.Dense(units, input_dim=2)])\n"
        "def preprocess_input(x):\n    return x / 2\n",
        encoding="utf-8",
    )
    run_keras_2("""
        import os, sys
        sys.path.insert(0, os.getcwd())
        import nbkeras
        nbkeras.install_as_keras(version=2)
        import keras
        from keras.applications import Tiny
        from keras.applications.tiny import preprocess_input
        assert keras.applications.Tiny(3).count_params() == Tiny(3).count_params() == 9 and preprocess_input(4) == 2
        assert "Tiny" in dir(keras.applications) and keras.applications.tiny.Tiny is Tiny
        assert keras.applications.EfficientNetB0 is nbkeras.applications.EfficientNetB0  # the package does not have it
        from nbkeras.compat.alias import uninstall
        uninstall()
        assert sys.modules["keras_applications"].parts() == (None,) * 4
        nbkeras.install_as_keras(version=2)
        from keras.applications import Tiny
        assert Tiny(3).count_params() == 9
        """)


def test_nothing_of_keras_2_remains():
    alias.uninstall()
    assert not hasattr(layers.Layer, "_trainable_weights") and "keras" not in sys.modules
    assert isinstance(layers.Layer.__init__, types.FunctionType)
