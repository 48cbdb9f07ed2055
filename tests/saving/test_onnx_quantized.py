"""Models with weights of 8 and 4 bits as ONNX files: the sizes of the files, and what ONNX Runtime computes."""

import numpy as np
import pytest
from onnx_runs import assert_same, onnx, run

from nbkeras import Input, Model, Sequential, layers, ops
from nbkeras.quantizers import (
    AbsMaxQuantizer,
    AWQConfig,
    GPTQConfig,
    Int4QuantizationConfig,
    Int8QuantizationConfig,
)

pytestmark = pytest.mark.cpu("ONNX Runtime is compared with the CPU")
RNG = np.random.default_rng(1)
LAYERS = {
    "dense": (lambda: layers.Dense(64, "relu"), (5, 63)),
    "heads": (lambda: layers.EinsumDense("abc,cde->abde", (None, 4, 15), bias_axes="de"), (5, 64)),
    "heads after": (lambda: layers.EinsumDense("abc,dce->abde", (None, 4, 15)), (5, 64)),
    "a shared axis": (lambda: layers.EinsumDense("abc,bcd->abd", (4, 20)), (4, 63)),
    "table": (lambda: layers.Embedding(70, 63), (5,)),
    "attention": (lambda: Attention(), (4, 32)),
    "Conv1D": (lambda: layers.Conv1D(64, 3, padding="same", dilation_rate=2), (9, 30)),
    "causal": (lambda: layers.Conv1D(64, 3, padding="causal", strides=2, activation="relu"), (9, 30)),
    "Conv2D": (lambda: layers.Conv2D(64, 3, strides=2, padding="same"), (6, 5, 10)),
    "groups": (lambda: layers.Conv2D(64, 3, groups=2), (6, 5, 20)),
    "Conv3D": (lambda: layers.Conv3D(32, 2), (3, 4, 3, 16)),
    "depthwise": (lambda: layers.DepthwiseConv2D(5, depth_multiplier=3), (6, 5, 64)),
    "separable": (lambda: layers.SeparableConv2D(64, 3, depth_multiplier=2), (6, 5, 30)),
    "transposed": (lambda: layers.Conv2DTranspose(30, 3, strides=2), (6, 5, 20)),
    "LSTM": (lambda: layers.LSTM(32), (5, 30)),
    "GRU": (lambda: layers.Bidirectional(layers.GRU(32)), (5, 30)),
    "SimpleRNN": (lambda: layers.SimpleRNN(64), (5, 30)),
    "ConvLSTM": (lambda: layers.ConvLSTM1D(16, 3), (4, 8, 20)),
}
OF_KERAS = list(LAYERS)[:6]
MODES = {
    "int8": Int8QuantizationConfig(),
    "int8, float inputs": Int8QuantizationConfig(activation_quantizer=None),
    "int4": Int4QuantizationConfig(block_size=16),
    "int4, no groups": Int4QuantizationConfig(block_size=None),
    "int4, rounded inputs": Int4QuantizationConfig(block_size=None, activation_quantizer=AbsMaxQuantizer(axis=-1)),
}


class Attention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.MultiHeadAttention(2, 16)

    def call(self, x):
        return self.inner(x, x)


def random(shape, dtype="float32"):
    return RNG.integers(0, 70, shape).astype(dtype) if dtype == "int32" else RNG.normal(size=shape).astype(dtype)


def model_of(name):
    make, shape = LAYERS[name]
    dtype = "int32" if name == "table" else "float32"
    model = Sequential([Input(shape, dtype=dtype), make()])
    model.set_weights([RNG.normal(size=weight.shape) / 4 for weight in model.get_weights()])
    return model, random((3, *shape), dtype)


def bytes_in(path):
    """The bytes of the weights in a file."""
    return sum(onnx.numpy_helper.to_array(each).nbytes for each in onnx.load(path / "model.onnx").graph.initializer)


@pytest.mark.parametrize(
    "name, mode", [(name, mode) for name in LAYERS for mode in MODES if name in OF_KERAS or "int8" in mode]
)
def test_a_file_has_the_integers_and_computes_the_same(name, mode, tmp_path):
    model, x = model_of(name)
    run(model, tmp_path, x)
    before = bytes_in(tmp_path)
    model.quantize(config=MODES[mode], beyond_keras="int8" in mode)
    assert_same(model, tmp_path, x)
    assert bytes_in(tmp_path) < before * (0.35 if "int8" in mode else 0.3), "with scales and biases"


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_table_that_is_used_in_both_directions_is_once_in_the_file(mode, tmp_path):
    tokens, table = Input((None,), dtype="int32"), layers.ReversibleEmbedding(70, 31)
    model = Model(tokens, table(table(tokens), reverse=True))
    model.quantize(mode)
    assert_same(model, tmp_path, random((3, 5), "int32"))
    assert bytes_in(tmp_path) < 70 * 31 * (1.2 if mode == "int8" else 0.9)


@pytest.mark.parametrize(
    "config, options",
    [*((GPTQConfig, {"weight_bits": bits, "activation_order": bits != 8}) for bits in (2, 3, 4, 8)), (AWQConfig, {})],
)
def test_weights_of_gptq_and_awq(config, options, tmp_path):
    tokens, table = Input((None,), dtype="int32"), layers.Embedding(70, 15)
    heads = layers.EinsumDense("abc,cde->abde", (None, 2, 33))
    block = Sequential([Input((None, 15)), heads, layers.Reshape((-1, 66)), layers.Dense(15)])
    model = Model(tokens, block(table(tokens)))
    parts = {"pre_block_layers": [table], "sequential_blocks": [block]}
    samples = {"dataset": [RNG.integers(0, 70, 200)], "tokenizer": None, "num_samples": 2, "sequence_length": 40}
    model.quantize(config=config(**samples, **options, group_size=8, quantization_layer_structure=parts))
    x = random((3, 5), "int32")
    assert_same(model, tmp_path, x)
    assert bytes_in(tmp_path) < 70 * 15 * 4 + 2 * 15 * 66 * 4 * 0.6, "small groups have many scales"


def test_lora_beside_integers_and_float64(tmp_path):
    model = Sequential(
        [Input((8,), dtype="float64"), layers.Dense(5, dtype="float64"), layers.Dense(3, dtype="float64")]
    )
    model.quantize("int8")
    model.layers[0].enable_lora(2)
    for weight in model.layers[0].trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    assert_same(model, tmp_path, random((3, 8), "float64"))


def test_a_number_between_two_integers_may_be_rounded_to_the_other_one(tmp_path):
    """The first layer's results differ in their last bits, so a few inputs of the second one differ by one of 127 steps."""
    model = Sequential([Input((64,)), layers.Dense(256, "relu"), layers.Dense(10)])
    model.quantize("int8")
    x = random((2000, 64))
    hidden, kernel = model.layers[0](x).numpy(), ops.convert_to_tensor(model.layers[1].kernel).numpy()
    step = np.abs(hidden).max(axis=1) / 127
    ours = model.predict(x, batch_size=len(x), verbose=0)
    away = np.abs(next(iter(run(model, tmp_path, x).values())) - ours).max(axis=1)
    last_bits = 1e-6 * np.abs(ours).max()
    assert np.mean(away > last_bits) < 0.01, "of the rows"
    assert np.all(away < last_bits + step * np.abs(kernel).max())


def test_layers_of_small_floats_are_refused_by_name(tmp_path):
    model = Sequential([Input((8,)), layers.Dense(3, name="wide")])
    model.quantize("float8")
    half = Sequential([Input((8,)), layers.Dense(3, name="half", dtype="mixed_bfloat16")])
    for refused, message in (
        (model, "layer 'wide' has the policy 'float8_from_float32', and .* make the model with the policy"),
        (half, "layer 'half' has the policy 'mixed_bfloat16'"),
    ):
        with pytest.raises(ValueError, match=message):
            refused.export(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
