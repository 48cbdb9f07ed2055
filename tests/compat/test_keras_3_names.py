"""Names of Keras 3 that only packages use, while nbkeras is Keras 3."""

import importlib

import numpy as np
import pytest

import nbkeras
from nbkeras import layers, metrics
from nbkeras.compat.alias import uninstall


@pytest.fixture
def keras():
    nbkeras.install_as_keras(version=3)
    import keras

    yield keras
    uninstall()


class Pair:
    """An object of a user, which may contain another one."""

    def __init__(self, size=1, other=None):
        self.size, self.other = size, other

    def get_config(self):
        return {"size": self.size, "other": self.other}


def test_objects_in_the_older_form_of_configurations(keras):
    """The dicts are those of Keras 3.15.1."""
    legacy = keras.utils.legacy
    assert legacy is not keras.saving and keras.legacy.saving.serialize_keras_object is legacy.serialize_keras_object
    assert legacy.serialize_keras_object(None) is None
    assert legacy.serialize_keras_object(keras.regularizers.L2(0.5)) == {"class_name": "L2", "config": {"l2": 0.5}}
    assert legacy.serialize_keras_object(keras.losses.mean_squared_error) == "mean_squared_error"
    written = legacy.serialize_keras_object(Pair(3, Pair(4)))
    inner = {"class_name": "Pair", "config": {"size": 4, "other": None}, "__passive_serialization__": True}
    assert written == {"class_name": "Pair", "config": {"size": 3, "other": inner}}
    for given in ({"module_objects": {"Pair": Pair}}, {"custom_objects": {"Pair": Pair}}):
        made = legacy.deserialize_keras_object(written, **given)
        assert (made.size, made.other.size, made.other.other) == (3, 4, None)
        assert legacy.deserialize_keras_object("Pair", **given).size == 1
    assert legacy.deserialize_keras_object("square", {"square": np.square}) is np.square
    assert legacy.deserialize_keras_object(test_objects_in_the_older_form_of_configurations).__doc__
    with pytest.raises(ValueError, match="unknown tuner: 'Pear'. Did you mean 'Pair'"):
        legacy.deserialize_keras_object("Pear", {"Pair": Pair}, printable_module_name="tuner")
    with pytest.raises(ValueError, match="must be a name or a dict with 'class_name' and 'config', received 3"):
        legacy.deserialize_keras_object(3)
    with pytest.raises(ValueError, match="it has no get_config method and no name"):
        legacy.serialize_keras_object(object())


def test_networks_of_applications(keras):
    from keras.applications import VGG16, efficientnet
    from keras.applications.resnet50 import ResNet50, decode_predictions, preprocess_input

    assert keras.applications.VGG16 is VGG16 and efficientnet.EfficientNetB0.__name__ == "EfficientNetB0"
    assert keras.applications.ResNet50 is ResNet50 and callable(preprocess_input) and callable(decode_predictions)


def test_the_module_that_an_installed_tensorflow_imports_as_its_keras(keras):
    import keras._tf_keras.keras as of_tensorflow

    assert of_tensorflow.layers.Dense is keras.layers.Dense and of_tensorflow.__version__ == keras.__version__
    assert of_tensorflow.callbacks.Callback is keras.callbacks.Callback


def test_an_entry_in_the_dict_of_activations_adds_one(keras):
    from keras.src.activations import ALL_OBJECTS_DICT

    assert ALL_OBJECTS_DICT["relu"] is keras.activations.relu
    ALL_OBJECTS_DICT["of_a_package"] = own = lambda x: 2 * x
    try:
        assert keras.activations.get("of_a_package") is own
    finally:
        del ALL_OBJECTS_DICT["of_a_package"]
    with pytest.raises(ValueError, match="unknown activation: 'of_a_package'"):
        keras.activations.get("of_a_package")


def test_the_layers_in_a_layer_as_lists(keras):
    inner = nbkeras.Sequential([layers.Dense(2), layers.Dense(3)])
    outer = nbkeras.Sequential([inner, layers.Dense(1)])
    assert outer._flatten_layers() == [outer, inner, *inner.layers[::-1], outer.layers[1]]  # Keras's order
    assert outer._flatten_layers(include_self=False, recursive=False) == outer.layers


def test_metrics_that_are_appended_to_the_list_of_a_layer(keras):
    layer = layers.Dense(2)
    layer.first = metrics.Mean("first")
    layer._metrics.append(metrics.Mean("second"))
    assert [metric.name for metric in layer.metrics] == ["first", "second"]
    layer._metrics = [metrics.Mean("third")]
    assert [metric.name for metric in layer.metrics] == ["first", "third"]
    uninstall()
    assert not hasattr(layers.Dense(2), "_metrics")


def test_a_step_that_makes_its_metrics_when_it_finds_new_values(keras):
    class Measured(nbkeras.Model):
        def train_step(self, data):
            x, _ = data
            for name, value in {"loss": 2.0, "sum": nbkeras.ops.sum(x)}.items():
                if name not in self.metrics_names:
                    self._metrics.append(metrics.Mean(name))
                self.metrics[self.metrics_names.index(name)].update_state(value)
            return {name: metric.result() for name, metric in zip(self.metrics_names, self.metrics, strict=True)}

    model = Measured(*2 * [layers.Input((2,))])
    model.compile("sgd")
    history = model.fit(np.arange(8.0).reshape(4, 2), np.ones(4), 2, 2, 0, shuffle=False).history
    assert history == {"loss": [2.0, 2.0], "sum": [14.0, 14.0]}
    assert len(model._metrics) == 1


@pytest.mark.parametrize(
    ("module", "base", "is_one", "is_none"),
    [
        ("convolutional.base_conv", "BaseConv", layers.Conv2D(1, 1), layers.DepthwiseConv2D(1)),
        ("convolutional.base_conv_transpose", "BaseConvTranspose", layers.Conv1DTranspose(1, 1), layers.Conv1D(1, 1)),
        ("convolutional.base_depthwise_conv", "BaseDepthwiseConv", layers.DepthwiseConv1D(1), layers.Conv1D(1, 1)),
        ("convolutional.base_separable_conv", "BaseSeparableConv", layers.SeparableConv1D(1, 1), layers.Conv1D(1, 1)),
        ("merging.base_merge", "Merge", layers.Add(), layers.Dense(1)),
        ("pooling.base_global_pooling", "BaseGlobalPooling", layers.GlobalMaxPooling1D(), layers.MaxPooling1D()),
        ("pooling.base_pooling", "BasePooling", layers.AveragePooling3D(), layers.GlobalMaxPooling1D()),
    ],
)
def test_the_base_class_of_a_kind_of_layers(keras, module, base, is_one, is_none):
    cls = getattr(importlib.import_module(f"keras.src.layers.{module}"), base)
    assert isinstance(is_one, cls) and not isinstance(is_none, cls)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("callbacks.model_checkpoint", "callbacks.ModelCheckpoint"),
        ("initializers.random_initializers", "initializers.HeNormal"),
        ("layers.layer", "layers.Layer"),
        ("layers.core", "layers.Dense"),
        ("layers.merging.add", "layers.add"),
        ("metrics.accuracy_metrics", "metrics.Accuracy"),
        ("models.functional", "Model"),
        ("optimizers.schedules.learning_rate_schedule", "optimizers.schedules.CosineDecay"),
        ("regularizers.regularizers", "regularizers.L2"),
    ],
)
def test_an_internal_module_has_the_public_names_of_its_family(keras, module, name):
    where, _, own = name.rpartition(".")
    public = importlib.import_module(f"keras.{where}".rstrip("."))
    assert getattr(importlib.import_module(f"keras.src.{module}"), own) is getattr(public, own)


def test_functions_of_graphs_in_the_backend(keras):
    with keras.backend.name_scope("part"):
        x = keras.backend.ones((2,))
    assert not keras.backend.is_sparse(x) and keras.backend.to_dense(x) is x
    with pytest.raises(AttributeError, match=r"keras.backend.get_session is not offered: nbkeras has no sessions"):
        keras.backend.get_session()
