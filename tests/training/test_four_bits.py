"""Model.quantize("int4") against Keras 3.15.1: outputs, files in both directions, LoRA (scripts/make_names_references.py)."""

import pathlib

import numpy as np
import pytest
from four_bit_cases import language_model, random
from made_models import built, reloaded

import nbkeras as keras
from nbkeras import layers, ops, quantizers

FOLDER = pathlib.Path(__file__).parents[1] / "reference" / "names"
STORED = np.load(FOLDER / "int4.npz")
TOKENS = np.random.default_rng(3).integers(0, 11, (2, 6))
CONFIGS = {
    "columns": quantizers.Int4QuantizationConfig(block_size=None),
    "groups": quantizers.Int4QuantizationConfig(block_size=4),
    "usual": quantizers.Int4QuantizationConfig(),
    "inputs": quantizers.Int4QuantizationConfig(activation_quantizer=quantizers.AbsMaxQuantizer(), block_size=-1),
}


def quantized(name):
    model = language_model(keras, tied=name in ("groups", "inputs"))
    model.quantize("int4", config=CONFIGS[name])
    return model


def close(found, stored):
    return np.abs(np.asarray(found) - stored).max() < 2e-6 * np.abs(stored).max()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_outputs_are_those_of_keras(name, tmp_path):
    model = quantized(name)
    assert close(model.predict(TOKENS, verbose=0), STORED[name])
    assert close(model(TOKENS[:1]), STORED[name][:1])
    again = reloaded(model, tmp_path / "own.keras")
    assert np.array_equal(again.predict(TOKENS, verbose=0), model.predict(TOKENS, verbose=0))
    assert [each.dtype_policy.name for each in again.layers] == [each.dtype_policy.name for each in model.layers]


@pytest.mark.parametrize("name", ["columns", "groups"])
def test_files_of_keras(name):
    model = keras.models.load_model(FOLDER / f"int4_{name}.keras")
    assert close(model.predict(TOKENS, verbose=0), STORED[name])
    own = quantized(name)
    assert [each.shape for each in own.weights] == [each.shape for each in model.weights]
    for one, two in zip(own.weights, model.weights, strict=True):
        assert np.allclose(one, two, rtol=1e-6), one.path
    own.load_weights(FOLDER / f"int4_{name}.keras")
    policy = model.get_layer("dense").dtype_policy
    assert policy.name == {"columns": "int4/-1_from_float32", "groups": "int4/4_from_float32"}[name]


def with_lora():
    model = quantized("inputs")
    for layer, part, size in (("dense", "kernel", 9), ("embedding", "embeddings", 7)):
        model.get_layer(layer).enable_lora(2)
        getattr(model.get_layer(layer), f"lora_{part}_b").assign(np.full((2, size), 0.05))
    return model


def test_lora_of_four_bits(tmp_path):
    model = quantized("inputs")
    model.load_weights(FOLDER / "int4_lora.keras")
    assert close(model.predict(TOKENS, verbose=0), STORED["lora in a file"])
    adapted = with_lora()
    adapted.get_layer("dense").lora_kernel_a.assign(random(1, 10, 2))
    adapted.save(tmp_path / "own.keras")
    model.load_weights(tmp_path / "own.keras")
    sums = [ops.convert_to_tensor(each.get_layer("dense").kernel).numpy() for each in (adapted, model)]
    step = np.abs(sums[0]).max(0) / 7
    assert (np.abs(sums[0] - sums[1]) <= 0.6 * step).all()
    adapted.compile("sgd", "mse")
    before = adapted.get_layer("dense").kernel.numpy()
    adapted.fit(TOKENS, STORED["inputs"], epochs=2, verbose=0)
    assert not np.array_equal(adapted.get_layer("dense").kernel.numpy(), before)


def test_a_dense_layer():
    layer = built(layers.Dense(5), (None, 6))
    kernel, x = layer.kernel.numpy(), random(5, 3, 6)
    layer.quantize("int4", config=quantizers.Int4QuantizationConfig(block_size=3))
    assert layer.kernel.shape == (6, 3) and layer.kernel_scale.shape == layer.kernel_zero.shape == (2, 5)
    assert layer.g_idx.numpy().tolist() == [0, 0, 0, 1, 1, 1] and layer.quantization_mode == "int4"
    near = ops.convert_to_tensor(layer.kernel).numpy()
    assert np.abs(near - kernel).max() < np.abs(kernel).max() / 7
    assert np.allclose(layer(x), x @ near, atol=1e-6)
    with keras.GradientTape() as tape:
        given = keras.Variable(x)
        loss = ops.sum(layer(given))
    assert np.allclose(tape.gradient(loss, given), np.broadcast_to(near.sum(1), x.shape), atol=1e-6)
    with pytest.raises(ValueError, match="is already quantized with dtype_policy='int4/3_from_float32'"):
        layer.quantize("int8")


def test_training_keeps_the_integers():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(1)])
    model.quantize("int4")
    integers = [layer.kernel.numpy() for layer in model.layers]
    model.compile("sgd", "mse")
    losses = model.fit(random(0, 16, 6), random(1, 16, 1), epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0] and all(
        map(np.array_equal, integers, [layer.kernel.numpy() for layer in model.layers])
    )
    assert [each.path.split("/")[-1] for each in model.trainable_weights] == ["bias", "bias"]


def test_attention_and_filters(tmp_path):
    x = keras.Input((4, 8))
    attention = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(x, layers.Dense(3, name="head")(attention))
    model.quantize("int4", filters=lambda layer: layer.name != "head")
    assert model.get_layer("head").quantization_mode is None
    model.save(tmp_path / "m.keras")
    data = random(2, 2, 4, 8)
    again = keras.models.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))


@pytest.mark.cpu("frozen models are for the CPU")
def test_a_frozen_model_reads_the_bytes():
    model = keras.Sequential([keras.Input((300,)), layers.Dense(1030, activation="relu"), layers.Dense(3)])
    model.quantize("int4")
    x = random(3, 2, 300)
    assert np.allclose(model.frozen()(x[:1]), model(x[:1]), rtol=1e-4, atol=1e-4)


def test_a_file_says_that_inputs_stay_floats():
    """Keras's ReversibleEmbedding rounds its inputs unless the file says this."""
    layer = built(layers.ReversibleEmbedding(5, 4), (None,))
    layer.quantize("int4")
    assert layer.get_config()["quantization_config"]["config"]["activation_quantizer"] is None


def test_damaged_files_and_policies():
    with pytest.raises(
        ValueError, match="quantization_config has mode 'int8', its dtype policy 'int4/4_from_float32' has another"
    ):
        config = quantizers.serialize(quantizers.Int8QuantizationConfig())
        layers.Dense(2, dtype="int4/4_from_float32", quantization_config=config).build((None, 3))
    layer = built(layers.Dense(3, dtype="int4_from_float32"), (None, 4))
    assert layer.kernel_scale.shape == (3,) and layer.dtype_policy.name == "int4/-1_from_float32"


def test_bytes_from_a_file_may_name_groups_that_are_not_there():
    layer = built(layers.Dense(3, dtype="int4/2_from_float32"), (None, 4))
    layer.g_idx.assign([0.0, 1e9, float("nan"), -5.0])
    assert layer(np.ones((1, 4))).shape == (1, 3) and layer(np.ones((2, 4))).shape == (2, 3)
    assert ops.convert_to_tensor(layer.kernel).shape == (4, 3)
