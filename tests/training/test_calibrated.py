"""Model.quantize("gptq") and ("awq") against Keras 3.15.1 (scripts/make_names_references.py)."""

import pathlib

import numpy as np
import pytest
from made_models import built, reloaded

import nbkeras as keras
from nbkeras import layers, quantizers
from nbkeras.quantizers import calibration

FOLDER = pathlib.Path(__file__).parents[1] / "reference" / "names"
STORED = np.load(FOLDER / "calibrated.npz")
WORDS = np.random.default_rng(5).integers(0, 11, 48)
SAMPLES = {"dataset": [WORDS], "tokenizer": None, "num_samples": 1, "sequence_length": 48}
CONFIGS = {
    "gptq": quantizers.GPTQConfig(None, None, group_size=4),
    "gptq in order": quantizers.GPTQConfig(None, None, group_size=4, activation_order=True),
    "gptq of 3 bits": quantizers.GPTQConfig(None, None, weight_bits=3, group_size=-1, hessian_damping=0.1),
    "gptq, many inputs": quantizers.GPTQConfig(None, None),
    "awq": quantizers.AWQConfig(None, None, group_size=4),
    "awq without groups": quantizers.AWQConfig(None, None, group_size=-1, num_grid_points=7),
}


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def two_blocks():
    tokens, table = keras.Input((None,), dtype="int32"), layers.Embedding(11, 8, name="table")
    heads = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", name="heads")
    first = keras.Sequential(
        [keras.Input((None, 8)), heads, layers.EinsumDense("abde,def->abf", (None, 8))], name="first"
    )
    second = keras.Sequential([keras.Input((None, 8)), layers.Dense(11, "relu"), layers.Dense(8)], name="second")
    model = keras.Model(tokens, second(first(table(tokens))))
    model.set_weights([random(number, *weight.shape) for number, weight in enumerate(model.weights)])
    return model, {"pre_block_layers": [table], "sequential_blocks": [first, second]}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_kernels_are_those_of_keras(name):
    config, inputs = CONFIGS[name], 150 if "many" in name else 10
    statistics = calibration._Statistics(inputs, config)
    for seed in (0, 1):
        statistics.add(random(seed, 48, inputs) @ random(3, inputs, inputs))
    layer = built(layers.Dense(7, use_bias=False, dtype=f"{config.dtype_policy_string()}_from_float32"), (None, inputs))
    encoded = statistics.encode(random(2, inputs, 7).T)
    differ = encoded.values != STORED[f"{name}: quantized_kernel"]
    assert differ.mean() < (
        0.05 if "many" in name else 1e-9
    )  # a rounding of the inverse moves a few of 1050 integers by one
    variables = [layer.kernel, layer.kernel_scale, layer.kernel_zero, layer.g_idx]
    for variable, part, array in zip(
        variables[1:], ("kernel_scale", "kernel_zero", "g_idx"), encoded[1:4], strict=True
    ):
        stored = STORED[f"{name}: {part}"]
        assert np.allclose(array, np.floor(stored) if part == "g_idx" else stored, rtol=1e-3), part
        variable.assign(stored)
    layer.kernel.assign(STORED[f"{name}: quantized_kernel"])
    if config.mode == "awq":
        assert np.allclose(encoded.divisor, STORED[f"{name}: awq_scales"], rtol=1e-5)
        layer.awq_scales.assign(STORED[f"{name}: awq_scales"])
    assert np.allclose(layer(random(4, 2, inputs)), STORED[f"{name}: output"], rtol=1e-4, atol=1e-4)


def test_inputs_that_depend_on_others_need_damping():
    config = quantizers.GPTQConfig(None, None, hessian_damping=0)
    statistics = calibration._Statistics(2, config)
    statistics.add(np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match="GPTQ: the Hessian .* is singular.*choose a hessian_damping above 0"):
        statistics.encode(random(2, 3, 2))


@pytest.mark.parametrize("name", ["gptq in order", "gptq of 3 bits", "awq", "awq without groups"])
def test_models_and_their_files(name, tmp_path):
    model, structure = two_blocks()
    options = {**CONFIGS[name].get_config(), **SAMPLES, "quantization_layer_structure": structure}
    before = model.predict(WORDS[None, :6], verbose=0)
    model.quantize(config=type(CONFIGS[name])(**options))
    found, heads = model.predict(WORDS[None, :6], verbose=0), model.get_layer("first").layers[0]
    assert np.abs(found - before).mean() < 0.5 * np.abs(before).mean()
    again = reloaded(model, tmp_path / "own.keras")
    assert np.array_equal(again.predict(WORDS[None, :6], verbose=0), found)
    assert again.get_layer("first").layers[0].dtype_policy.name == f"{CONFIGS[name].dtype_policy_string()}_from_float32"
    assert model.get_layer("table").quantization_mode is None and heads.quantization_config.dataset is None
    assert [each.dtype.name for each in heads.weights].count("uint8") == 2


def test_strings_and_the_method_of_a_model():
    class Words(keras.Model):
        def get_quantization_layer_structure(self, mode):
            return self.structure

    class Letters:
        def tokenize(self, text):
            return np.array([ord(letter) - ord("a") for letter in text])

    model, structure = two_blocks()
    model = Words(model.inputs, model.outputs)
    model.structure = structure
    config = quantizers.GPTQConfig(
        ["abcdefghijk", "kjihgfedcba"], Letters(), num_samples=3, sequence_length=9, group_size=-1
    )
    before = model.predict(WORDS[None, :6], verbose=0)
    model.quantize("gptq", config=config, filters="dense")
    after = model.predict(WORDS[None, :6], verbose=0)
    assert model.get_layer("second").layers[0].quantization_mode == "gptq"
    assert model.get_layer("first").layers[0].quantization_mode is None
    assert 0 < np.abs(after - before).mean() < 0.5 * np.abs(before).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"dataset": None}, "the config's dataset must be an array or a list .* received None", id="no data"
        ),
        pytest.param(
            {"dataset": "text"}, "must be an array or a list of arrays or strings, received 'text'", id="string"
        ),
        pytest.param({"dataset": []}, "dataset has no tokens", id="empty"),
        pytest.param({"dataset": ["text"]}, "strings in the config's dataset need a tokenizer", id="tokenizer"),
        pytest.param({"quantization_layer_structure": None}, "needs to know the model's blocks", id="structure"),
        pytest.param(
            {"quantization_layer_structure": {"sequential_blocks": []}}, "needs to know the model", id="blocks"
        ),
    ],
)
def test_mistakes_are_explained(change, message):
    model, structure = two_blocks()
    with pytest.raises(ValueError, match=message):
        model.quantize(config=quantizers.AWQConfig(**{**SAMPLES, "quantization_layer_structure": structure, **change}))
    assert all(layer.quantization_mode is None for layer in model.get_layer("second").layers)


def test_a_single_layer_has_no_samples():
    layer = built(layers.Dense(2), (None, 3))
    with pytest.raises(ValueError, match="mode 'awq' needs the inputs of a layer in its model"):
        layer.quantize(config=quantizers.AWQConfig(**SAMPLES))
