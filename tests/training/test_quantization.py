"""Model.quantize: which layers it takes, what they compute and keep, and files. Keras's own numbers are in test_files.py."""

import gc
import json
import weakref
import zipfile

import numpy as np
import pytest
from made_models import built, compiled, reloaded

import nbkeras as keras
from nbkeras import layers, ops, quantizers
from nbkeras.engine import settings

WEIGHTS_ONLY = quantizers.Int8QuantizationConfig(activation_quantizer=None)
x_dense = np.random.default_rng(0).standard_normal((5, 7)).astype("float32")


def dense_model():
    return keras.Sequential([keras.Input((7,)), layers.Dense(6, "relu", name="first"), layers.Dense(3, name="last")])


def close(y, expected, tolerance=0.03):
    np.testing.assert_allclose(y, expected, 0, tolerance * np.abs(expected).max())


# -------------------- layers --------------------


def test_a_dense_layer_as_keras_computes_it():
    model = dense_model()
    kernel, bias = (weight.numpy() for weight in model.layers[-1].weights)
    hidden = model.layers[0](x_dense).numpy()
    model.layers[-1].quantize("int8")
    layer = model.layers[-1]
    scale = np.float32(127) / (np.abs(kernel).max(0) + np.float32(1e-7))
    np.testing.assert_array_equal(layer.kernel.numpy(), np.round(kernel * scale).astype("int8"))
    np.testing.assert_array_equal(layer.kernel_scale.numpy(), scale)
    steps = np.float32(127) / (np.abs(hidden).max(1, keepdims=True) + np.float32(1e-7))
    sums = np.round(hidden * steps).astype("int32") @ layer.kernel.numpy().astype("int32")
    np.testing.assert_array_equal(layer(hidden).numpy(), sums.astype("float32") / (scale * steps) + bias)
    assert [weight.name for weight in layer.weights] == ["bias", "kernel", "kernel_scale"]
    assert [weight.name for weight in layer.trainable_weights] == ["bias"]
    assert layer.dtype == "float32" and layer.dtype_policy.name == "int8_from_float32"
    assert layer.quantization_mode == "int8" and layer.count_params() == 18 + 3 + 3


LAYERS = {  # layers with their inputs
    "conv1d": (lambda: layers.Conv1D(4, 3), (6, 3)),
    "conv1d_causal": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"), (6, 3)),
    "conv2d": (lambda: layers.Conv2D(5, (2, 3), 2, padding="same", activation="tanh"), (6, 7, 2)),
    "conv2d_channels_first": (lambda: layers.Conv2D(5, 3, data_format="channels_first"), (2, 6, 7)),
    "conv2d_groups": (lambda: layers.Conv2D(4, 3, groups=2, padding="same"), (5, 5, 4)),
    "conv2d_winograd": (lambda: layers.Conv2D(16, 3, activation="relu"), (12, 12, 16)),
    "conv3d": (lambda: layers.Conv3D(2, 2), (3, 4, 3, 2)),
    "conv2d_transpose": (lambda: layers.Conv2DTranspose(3, 2, strides=2), (4, 4, 5)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 3)),
    "separable": (lambda: layers.SeparableConv1D(4, 3), (6, 3)),
    "local": (lambda: layers.LocallyConnected1D(4, 3), (6, 3)),
    "lstm": (lambda: layers.LSTM(4, return_sequences=True), (5, 3)),
    "gru": (lambda: layers.GRU(4), (5, 3)),
    "simple_rnn": (lambda: layers.Bidirectional(layers.SimpleRNN(4)), (5, 3)),
    "cells": (lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]), (5, 3)),
    "conv_lstm": (lambda: layers.ConvLSTM1D(3, 2), (4, 5, 2)),
    "einsum": (lambda: layers.EinsumDense("...f,fgh->...hg", (2, 4), bias_axes="h"), (3, 5)),
    "attention": (None, (5, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_with_kernels(name, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.values, "floatx", dtype)
    make, shape = LAYERS[name]
    if name == "attention":
        start = keras.Input(shape)
        model = keras.Model(start, layers.MultiHeadAttention(2, 3)(start, start))
    else:
        model = keras.Sequential([keras.Input(shape), make()])
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(dtype)
    expected = model.predict(x, verbose=0)
    size = sum(weight.data.nbytes for weight in model.weights)
    model.quantize("int8", beyond_keras=True)
    y = model.predict(x, verbose=0)
    close(y, expected)
    assert np.abs(y - expected).max() > 0 and y.dtype == dtype
    np.testing.assert_array_equal(np.asarray(model(x)), y)
    assert any(weight.dtype == np.int8 for weight in model.weights)
    assert sum(weight.data.nbytes for weight in model.weights) < size
    again = reloaded(model, tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), y)
    assert [str(weight.dtype) for weight in again.weights] == [str(weight.dtype) for weight in model.weights]
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    np.testing.assert_array_equal(copied.predict(x, verbose=0), y)


def test_embeddings():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 5)])
    words = np.array([[0, 8, 3, 3], [1, 2, 4, 5]])
    expected = model.predict(words, verbose=0)
    model.quantize("int8")
    close(model.predict(words, verbose=0), expected)
    assert model.layers[-1].embeddings_scale.shape == (9,)


@pytest.mark.parametrize("tied", [True, False])
def test_reversible_embeddings(tied):
    layer = built(layers.ReversibleEmbedding(9, 5, tie_weights=tied, logit_soft_cap=2.0))
    vectors = np.random.default_rng(2).standard_normal((3, 5)).astype("float32")
    expected = layer(vectors, reverse=True).numpy()
    layer.quantize("int8")
    close(layer(vectors, reverse=True).numpy(), expected)
    names = ["embeddings", "embeddings_scale", "reverse_embeddings", "reverse_embeddings_scale"]
    assert [weight.name for weight in layer._stored_weights()] == names[: 2 if tied else 4]


def test_other_ops_take_a_quantized_weight_as_floats():
    layer = built(layers.Dense(3), (None, 4))
    kernel = layer.kernel.numpy()
    layer.quantize("int8")
    for op in (ops.transpose, ops.square, lambda x: ops.reshape(x, -1), lambda x: x * 2.0, lambda x: 2 * x, ops.sum):
        close(np.asarray(op(layer.kernel)), np.asarray(op(keras.Variable(kernel))))
    assert ops.convert_to_tensor(layer.kernel).dtype == np.float32 and layer.kernel.numpy().dtype == np.int8
    other = built(layers.Dense(3, dtype="int8_from_float32"), (None, 4))
    other.kernel.assign(layer.kernel)
    np.testing.assert_array_equal(other.kernel.numpy(), layer.kernel.numpy())


# -------------------- models --------------------


def test_weights_alone_keep_the_inputs(tmp_path):
    model = dense_model()
    model.quantize(config=WEIGHTS_ONLY)
    first, last = model.layers
    hidden = np.maximum(x_dense @ (first.kernel.numpy() / first.kernel_scale.numpy()), 0)
    expected = hidden @ (last.kernel.numpy() / last.kernel_scale.numpy())
    np.testing.assert_allclose(model.predict(x_dense, verbose=0), expected, 1e-5, 1e-5)
    again = reloaded(model, tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x_dense, verbose=0), model.predict(x_dense, verbose=0))
    assert again.layers[0].quantization_config.activation_quantizer is None


def test_parts_keep_their_configuration(tmp_path):
    start = keras.Input((5, 4))
    model = keras.Model(start, layers.MultiHeadAttention(2, 3, name="heads")(start, start))
    model.quantize(config=WEIGHTS_ONLY)
    x = np.random.default_rng(3).standard_normal((2, 5, 4)).astype("float32")
    again = reloaded(model, tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_file_has_keras_s_policies(tmp_path):
    start = keras.Input((5, 4))
    heads = layers.MultiHeadAttention(2, 3, name="heads")(start, start)
    model = keras.Model(start, layers.Dense(2, name="dense")(heads))
    model.quantize("int8")
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        config = json.loads(archive.read("config.json"))
    found = {each["config"]["name"]: each["config"]["dtype"] for each in config["config"]["layers"]}
    policy = {"mode": "int8", "source_name": "float32"}
    assert found["dense"]["class_name"] == "QuantizedDTypePolicy" and found["dense"]["config"] == policy
    parts = found["heads"]["config"]["policy_map"]
    assert found["heads"]["class_name"] == "DTypePolicyMap" and parts["heads/query"]["config"] == policy
    assert parts.keys() == {f"heads/{part}" for part in ("query", "key", "value", "attention_output")}


@pytest.mark.parametrize("ending", [".weights.h5", ".h5", ".safetensors"])
def test_other_files(ending, tmp_path):
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    model, other = dense_model(), dense_model()
    for each in (model, other):
        each.quantize("int8")
    if ending == ".h5":
        other = reloaded(model, tmp_path / "m.h5")
    else:
        model.save_weights(tmp_path / f"m{ending}")
        other.load_weights(tmp_path / f"m{ending}")
    np.testing.assert_array_equal(other.predict(x_dense, verbose=0), model.predict(x_dense, verbose=0))


def test_files_and_memory_are_about_a_quarter(tmp_path):
    model = keras.Sequential([keras.Input((256,)), layers.Dense(512), layers.Dense(256)])
    model.save(tmp_path / "floats.keras")
    model.quantize("int8")
    model.save(tmp_path / "integers.keras")
    assert (tmp_path / "integers.keras").stat().st_size < 0.28 * (tmp_path / "floats.keras").stat().st_size
    assert sum(weight.data.nbytes for weight in model.weights) < 0.27 * 4 * model.count_params()


def test_recorded_steps_follow():
    model = dense_model()
    floats = model.predict(x_dense, verbose=0)
    model.quantize("int8")
    integers = model.predict(x_dense, verbose=0)
    assert np.abs(integers - floats).max() > 0
    model.layers[0].kernel_scale.assign(model.layers[0].kernel_scale / 2.0)
    assert np.abs(model.predict(x_dense, verbose=0) - integers).max() > 0.1


@pytest.mark.parametrize("arguments", [{"mode": "int8"}, {"config": WEIGHTS_ONLY}], ids=["integers", "weights"])
def test_profiles_count_products(arguments):
    model = dense_model()
    model.quantize(**arguments)
    rows = {row.layer: row for row in keras.profile(model, x_dense, steps=1).layers}
    assert rows["first"].flops == 2 * 5 * 7 * 6 and rows["last"].flops == 2 * 5 * 6 * 3


def test_convolutions_without_groups_multiply_integers():
    images = np.random.default_rng(6).standard_normal((2, 6, 6, 4)).astype("float32")
    for layer, arguments, is_integer in (
        (layers.Conv2D(3, 3), {"mode": "int8"}, True),
        (layers.Conv2D(3, 3), {"config": WEIGHTS_ONLY}, False),
        (layers.Conv2D(4, 3, groups=2), {"mode": "int8"}, False),
        (layers.DepthwiseConv2D(3), {"mode": "int8"}, False),
    ):
        model = keras.Sequential([keras.Input((6, 6, 4)), layer])
        model.quantize(**arguments, beyond_keras=True)
        profile = keras.profile(model, images, steps=1)
        kernels = {row.kernel for row in profile.kernels}
        assert bool(kernels & {"multiply_bands", "convolve"}) == is_integer
        assert profile.layers[0].flops == 2 * 2 * 4 * 4 * model.layers[0].kernel.numpy().size


def test_a_prediction_does_not_depend_on_its_batch():
    images = np.random.default_rng(6).standard_normal((4, 9, 9, 3)).astype("float32")
    model = keras.Sequential([keras.Input((9, 9, 3)), layers.Conv2D(18, 3, 2, padding="same"), layers.Conv2D(5, 3)])
    model.quantize("int8", beyond_keras=True)
    images[1] *= 100
    alone = [model.predict(image[None], verbose=0) for image in images]
    np.testing.assert_array_equal(model.predict(images, verbose=0), np.concatenate(alone))


def test_kernels_are_not_trained_and_the_rest_is():
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    model.quantize("int8", filters="dense")
    kernel, before = model.layers[0].kernel.numpy(), [weight.numpy() for weight in model.trainable_weights]
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), kernel)
    assert all((old != new.numpy()).any() for old, new in zip(before, model.trainable_weights, strict=True))
    model.trainable = False
    model.trainable = True
    assert [weight.name for weight in model.layers[0].trainable_weights] == ["bias"]


def test_gradients_are_those_of_the_floats():
    layer = built(layers.Dense(3), (None, 7))
    layer.quantize("int8")
    x = keras.Variable(x_dense)
    with keras.GradientTape() as tape:
        y = ops.sum(layer(x) ** 2)
    kernel = layer.kernel.numpy() / layer.kernel_scale.numpy()
    np.testing.assert_allclose(tape.gradient(y, x), 2 * layer(x).numpy() @ kernel.T, 1e-5, 1e-5)


def test_gradients_of_a_convolution_are_those_of_the_floats():
    layer = built(layers.Conv2D(3, 3, padding="same", activation="relu"), (None, 5, 6, 2))
    layer.quantize("int8", beyond_keras=True)
    x = keras.Variable(np.random.default_rng(7).standard_normal((2, 5, 6, 2)).astype("float32"))
    kernel, bias = ops.convert_to_tensor(layer.kernel), layer.bias
    with keras.GradientTape() as tape:
        y = layer(x)
    with keras.GradientTape() as other:
        z = ops.conv2d(x, kernel, bias, padding="same")
        z = z * ops.cast(y > 0, "float32")
    for one, expected in zip(tape.gradient(y, [x, bias]), other.gradient(z, [x, bias]), strict=True):
        np.testing.assert_allclose(one, expected, 1e-5, 1e-5)


def test_what_training_needed_is_freed(tmp_path):
    model = compiled(dense_model(), "adam")
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    kernel = weakref.ref(model.layers[0].kernel)
    model.quantize("int8")
    assert not model.optimizer.built
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").optimizer.built
    gc.collect()
    assert kernel() is None


def test_models_that_share_layers():
    """The other model's optimizer knows nothing of it, as in Keras."""
    model = dense_model()
    other = keras.Sequential([keras.Input((7,)), layers.Dense(7), model])
    for each in (model, other):
        each.compile("sgd", "mse")
        each.fit(x_dense, np.ones((5, 3)), verbose=0)
    model.quantize("int8")
    before = [weight.numpy() for weight in other.trainable_weights]
    for each in (other, model):
        each.fit(x_dense, np.ones((5, 3)), verbose=0)
    assert all((new.numpy() != old).any() for new, old in zip(other.trainable_weights, before, strict=True))


def test_an_optimizer_follows_weights_that_move():
    model = compiled(dense_model())
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    for weight in model.weights:
        weight.move_out()
    before = model.get_weights()
    model.fit(x_dense, np.ones((5, 3)), verbose=0)
    assert all((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))


class Own(layers.Dense):
    pass


class Block(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.own, self.last = layers.Dense(4), Own(4), keras.Sequential([layers.Dense(2)])

    def call(self, inputs):
        return self.last(self.own(self.inner(inputs)))


def test_subclasses():
    model = Block()
    with pytest.raises(ValueError, match="Cannot quantize a layer that isn't yet built"):
        model.quantize("int8")
    expected = model(x_dense).numpy()
    with pytest.warns(UserWarning, match=r"not quantized: own.* \(Own\).*type_check=False"):
        model.quantize("int8")
    assert model.inner.quantization_mode == model.last.layers[0].quantization_mode == "int8"
    assert model.own.quantization_mode is None
    close(model(x_dense).numpy(), expected)
    model.own.quantize("int8", type_check=False)
    assert model.own.kernel.dtype == np.int8


def test_filters():
    for filters in ("^fi", ["nothing", "irst"], lambda layer: layer.name == "first"):
        model = dense_model()
        model.quantize("int8", filters=filters)
        assert [layer.quantization_mode for layer in model.layers] == ["int8", None]
    model.quantize("int8", filters="last")
    with pytest.raises(ValueError, match="`filters` argument must be a regex string"):
        dense_model().quantize("int8", filters=3)


def test_layers_that_keras_leaves_are_named():
    model = keras.Sequential([keras.Input((6, 3)), layers.Conv1D(4, 3, name="conv"), layers.LSTM(3), layers.Dense(2)])
    with pytest.warns(UserWarning, match=r"not quantized: conv \(Conv1D\), lstm_cell.*beyond_keras=True"):
        model.quantize("int8")
    assert model.layers[0].kernel.dtype == np.float32 and model.layers[-1].kernel.dtype == np.int8
    with pytest.raises(NotImplementedError, match="Layer Conv1D does not have a `quantize` method implemented"):
        model.layers[0].quantize("int8")
    with pytest.raises(NotImplementedError, match="Layer LSTM does not have a `quantize` method"):
        model.layers[1].quantize("int8")


WRONG = [
    (("int7",), {}, "Invalid quantization mode. Expected 'int8'.*'int7'"),
    (("gptq",), {}, r"mode 'gptq' needs samples: pass config=GPTQConfig\(dataset, tokenizer"),
    ((), {}, "You must provide either `mode` or `config` to `quantize`"),
    ((), {"config": 3}, "must be an instance of `QuantizationConfig`"),
    (("float8",), {"config": WEIGHTS_ONLY}, "Contradictory arguments: mode='float8' but config.mode='int8'"),
    ((), {"config": "awq"}, r"mode 'awq' needs samples: pass config=AWQConfig\(dataset, tokenizer"),
    ((), {"config": quantizers.Int8QuantizationConfig(quantizers.AbsMaxQuantizer(axis=1))}, r"must have axis=\(0,\)"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG)
def test_mistakes_change_nothing(arguments, options, message):
    model = dense_model()
    with pytest.raises(ValueError, match=message):
        model.quantize(*arguments, **options)
    assert all(layer.quantization_mode is None for layer in model.layers)


def test_a_quantizer_that_fits_some_layers_only_changes_nothing():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 5), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"layer 'dense.*must have axis=\(0,\)"):
        model.quantize(config=quantizers.Int8QuantizationConfig(quantizers.AbsMaxQuantizer(axis=-1)))
    assert all(layer.quantization_mode is None for layer in model.layers)


def test_twice():
    model = dense_model()
    model.layers[1].quantize("int8")
    with pytest.raises(ValueError, match="'last' is already quantized with dtype_policy='int8_from_float32'"):
        model.quantize("int8")
    assert model.layers[0].quantization_mode is None


def test_layers_made_with_a_policy_have_zeros():
    layer = layers.Dense(2, dtype="int8_from_float32")
    assert layer(x_dense).shape == (5, 2) and not layer.kernel.numpy().any() and (layer.kernel_scale.numpy() == 1).all()
    with pytest.raises(ValueError, match="Dropout has no weights that can be integers"):
        layers.Dropout(0.5, dtype="int8_from_float32")


# -------------------- bfloat16 in files --------------------


def test_files_of_bfloat16(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256), layers.BatchNormalization(), layers.Dense(64)])
    special = np.zeros((64, 256), "float32")
    special[0, :6] = [1 + 2**-8, 1 + 3 * 2**-8, np.nan, np.inf, -1e-45, 3.3e38]  # ties go to even
    model.layers[0].kernel.assign(special)
    model.save(tmp_path / "whole.keras")
    model.save(tmp_path / "half.keras", weights_dtype="bfloat16")
    assert (tmp_path / "half.keras").stat().st_size < 0.65 * (tmp_path / "whole.keras").stat().st_size
    again = keras.models.load_model(tmp_path / "half.keras")
    found = again.layers[0].kernel.numpy()[0, :6]
    np.testing.assert_array_equal(found, np.float32([1, 1 + 2**-6, np.nan, np.inf, 0, 248 * 2.0**120]))
    for new, old in zip(again.get_weights()[1:], model.get_weights()[1:], strict=True):
        np.testing.assert_allclose(new, old, 2**-8)
        assert new.dtype == np.float32
    again.save_weights(tmp_path / "half.weights.h5", weights_dtype="bfloat16")
    model.load_weights(tmp_path / "half.weights.h5")
    np.testing.assert_equal(again.get_weights(), model.get_weights())


def test_bfloat16_is_for_files_of_keras_3(tmp_path):
    model = dense_model()
    for call, name in (("save", "m.h5"), ("save_weights", "m.h5"), ("save_weights", "m.safetensors")):
        with pytest.raises(ValueError, match="weights_dtype='bfloat16' needs Keras 3's format"):
            getattr(model, call)(tmp_path / name, weights_dtype="bfloat16")
    with pytest.raises(ValueError, match="must be None or 'bfloat16', received 'float16'"):
        model.save(tmp_path / "m.keras", weights_dtype="float16")
    model.quantize("int8")
    model.save(tmp_path / "m.keras", weights_dtype="bfloat16")
    assert keras.models.load_model(tmp_path / "m.keras").layers[0].kernel.dtype == np.int8
    assert not list(tmp_path.glob("m.h5*"))


# -------------------- quantizers --------------------


def test_quantizers():
    x = np.array([[0.5, -2.0], [1.0, 4.0], [0.0, 0.0]], "float32")
    values, scale = quantizers.abs_max_quantize(x, axis=-1)
    np.testing.assert_array_equal(values.numpy(), [[32, -127], [32, 127], [0, 0]])
    np.testing.assert_allclose(scale.numpy(), np.float32(127) / (np.array([[2], [4], [0]]) + np.float32(1e-7)))
    quantizer = quantizers.AbsMaxQuantizer(axis=0, value_range=(-7, 7))
    again = quantizers.get(quantizers.serialize(quantizer))
    assert again.axis == (0,) and again.value_range == (-7, 7)
    np.testing.assert_array_equal(again(x)[0].numpy(), [[3, -4], [7, 7], [0, 0]])
    config = quantizers.deserialize(quantizers.serialize(quantizers.Int8QuantizationConfig(quantizer)))
    assert config.weight_quantizer.axis == (0,) and config.activation_quantizer.value_range == (-127, 127)
    with pytest.raises(ValueError, match="lie between -128 and 127"):
        quantizers.AbsMaxQuantizer(value_range=(-200, 200))
    with pytest.raises(ValueError, match="weight_quantizer must be an AbsMaxQuantizer"):
        quantizers.Int8QuantizationConfig(quantizers.Quantizer())


def test_ranges_of_a_quantizer_are_integers():
    with pytest.raises(TypeError, match=r"value_range must be two integers, received \(0.5, 1\)"):
        quantizers.AbsMaxQuantizer(axis=0, value_range=(0.5, 1))
