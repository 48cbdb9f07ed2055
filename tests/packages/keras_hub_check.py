"""KerasHub on nbkeras: backbones and training give the numbers of real Keras; a part of its own tests, with int8 for float8."""

import glob
import importlib
import os
import pathlib
import sys

import keras
import numpy as np
import pytest

sys.path[:0] = [os.getcwd(), str(pathlib.Path(__file__).parent)]  # the folder of its tests
import keras_hub  # noqa: E402
import keras_hub_backbones as small  # noqa: E402
from keras_hub.src.tests.test_case import TestCase  # noqa: E402

DATA = pathlib.Path(__file__).parent / "data"
EXPECTED = np.load(DATA / "keras_hub.npz")
QUANTIZED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding, keras.layers.ReversibleEmbedding)

# -------------------- beside real Keras --------------------


@pytest.mark.parametrize("name", small.BACKBONES)
def test_a_backbone_gives_the_same_numbers(name):
    expected = EXPECTED[name]
    np.testing.assert_allclose(
        small.outputs(name, keras_hub.models), expected, rtol=1e-5, atol=1e-5 * abs(expected).max()
    )


def test_a_classifier_of_bert_trains_as_with_keras():
    losses = small.classifier_losses(keras_hub.models, keras)
    np.testing.assert_allclose(losses, EXPECTED["classifier_losses"], rtol=1e-5)
    assert losses[-1] < losses[0] / 2


def test_gemma_with_lora_trains_as_with_keras(tmp_path):
    model = small.lora_model(keras_hub.models, keras)
    np.testing.assert_allclose(small.lora_losses(model), EXPECTED["lora_losses"], rtol=1e-5)
    path = str(tmp_path / "gemma.lora.h5")
    model.backbone.save_lora_weights(path)
    other = small.lora_model(keras_hub.models, keras)
    other.backbone.load_lora_weights(path)
    x = small.inputs("GemmaBackbone")
    np.testing.assert_array_equal(other(x), model(x))


def test_lora_weights_in_a_file_of_keras():
    model = small.lora_model(keras_hub.models, keras)
    model.backbone.load_lora_weights(str(DATA / "keras_hub.lora.h5"))
    np.testing.assert_allclose(model(small.inputs("GemmaBackbone")), EXPECTED["lora_logits"], rtol=1e-4, atol=1e-4)


def test_a_model_is_saved_and_loaded(tmp_path):
    model = keras_hub.models.BertBackbone(**small.BACKBONES["BertBackbone"][0])
    model.save(tmp_path / "bert.keras")
    loaded, x = keras.models.load_model(tmp_path / "bert.keras"), small.inputs("BertBackbone")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded(x)["pooled_output"], model(x)["pooled_output"])


# -------------------- its own tests that also ask for 16-bit floats and for float8 --------------------


def _no_precision(self, *arguments) -> None:
    """Nothing: nbkeras has no 16-bit floats."""


def _quantization(self, instance, cls, init_kwargs, input_data) -> None:
    """TestCase.run_quantization_test without the mode float8."""
    policies = keras.dtype_policies.DTypePolicyMap("float32")
    for layer in instance._flatten_layers():
        if type(layer) in QUANTIZED:
            policies[layer.path] = keras.dtype_policies.get("int8_from_float32")
    given = {}
    for key, value in init_kwargs.items():
        if isinstance(value, keras.Layer):
            value = type(value).from_config({**value.get_config(), "dtype": policies})
        given[key] = value
    model = cls(**{**given, "dtype": policies})
    model(input_data)
    for layer in model._flatten_layers():
        if type(layer) in QUANTIZED:
            self.assertEqual("int8", layer.quantization_mode)
    config = model.get_config()
    revived = cls.from_config(config)
    self.assertEqual(config, revived.get_config())
    revived.set_weights(model.get_weights())


TestCase.run_precision_test = _no_precision
TestCase.run_quantization_test = _quantization
NAMES = ("test_layer_behaviors", "test_backbone_basics")


def _selected(cls: type) -> type | None:
    """A class of tests with those of NAMES only."""
    names = [name for name in dir(cls) if name.startswith("test")]
    others = {name: None for name in names if not name.startswith(NAMES)}
    return (
        type(cls)(cls.__name__, (cls,), {**others, "__module__": cls.__module__}) if len(others) < len(names) else None
    )


for path in sorted(glob.glob("keras_hub/src/**/*_test.py", recursive=True)):
    if any(name in pathlib.Path(path).read_text() for name in NAMES):
        module = importlib.import_module(path.removesuffix(".py").replace(os.sep, "."))
        for cls in [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, TestCase)]:
            if cls.__module__ == module.__name__ and (chosen := _selected(cls)) is not None:
                globals()[cls.__name__] = chosen
