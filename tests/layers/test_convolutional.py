"""Convolution, pooling, padding, cropping and upsampling layers: equal to Keras in float64, shapes, arguments, errors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nbkeras import GradientTape, Input, config, models, ops
from nbkeras import layers as L
from nbkeras.saving.keras_2_config import legacy, translated

REFERENCE = Path(__file__).parents[1] / "reference"
STORED = {file: np.load(REFERENCE / f"{file}.npz") for file in ("conv", "conv_kinds")}
CASES = [
    (*case, shape, stored[str(number)])
    for stored in STORED.values()
    for number, (case, shape) in enumerate(
        zip(json.loads(stored["cases"].item()), json.loads(stored["shapes"].item()), strict=True)
    )
]


def wave(shape, number):
    """As in reference/make_conv.py."""
    return np.round(np.sin(np.arange(np.prod(shape)) * 1.7 + number) * 8).reshape(shape) / 4


@pytest.mark.parametrize(
    "name, arguments, shape, output_shape, expected",
    CASES,
    ids=[
        f"{name}({', '.join(f'{key}={entry}' for key, entry in arguments.items() if entry is not None)}) of {shape}"
        for name, arguments, shape, *_ in CASES
    ],
)
def test_equals_keras(name, arguments, shape, output_shape, expected):
    layer = getattr(L, name)(**arguments, dtype="float64")
    x = ops.convert_to_tensor(wave(shape, 0))
    layer(x)
    for i, weight in enumerate(layer.weights):
        weight.assign(wave(weight.shape, i + 1))
    with GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    gradients = tape.gradient(y, [x, *layer.weights], output_gradients=wave(y.shape, 3))
    found = np.concatenate([np.ravel(a) for a in (y, *gradients)])
    exact = 1e-6 if name.startswith("GlobalAverage") else 1e-9  # Keras's mean divides by a float32 here
    np.testing.assert_allclose(found, expected, rtol=exact, atol=exact)

    channels = 1 if arguments.get("data_format") == "channels_first" else len(shape) - 1
    unknown = (None, *[n if i + 1 == channels else None for i, n in enumerate(shape[1:])])
    assert list(layer.compute_output_shape(unknown)) == output_shape
    assert layer.compute_output_shape(tuple(shape)) == y.shape


def test_mask_of_global_average():
    x = np.arange(12.0).reshape(2, 3, 2)
    masked = L.Masking(0.0)(np.where(x < 2, 0, x))
    np.testing.assert_allclose(L.GlobalAveragePooling1D()(masked), [[3, 4], [8, 9]])
    mask = np.array([[True, False, True], [False, False, False]])
    y = L.GlobalAveragePooling1D(keepdims=True)(x, mask=mask).numpy()
    np.testing.assert_allclose(y[0], [[2, 3]])
    assert np.isnan(y[1]).all() and y.shape == (2, 1, 2)  # as in Keras
    assert L.GlobalAveragePooling1D().compute_mask(x, mask) is None


def test_fused_relu_equals_activation_layer():
    x = wave((2, 6, 5, 3), 0)
    fused = L.Conv2D(4, 3, activation="relu", dtype="float64")
    y = fused(x)
    plain = L.Conv2D(4, 3, dtype="float64", weights=fused.get_weights())
    np.testing.assert_array_equal(y, np.maximum(plain(x), 0))


def test_data_format_follows_the_setting():
    config.set_image_data_format("Channels_First")
    try:
        layer = L.Conv2D(4, 3)
    finally:
        config.set_image_data_format("channels_last")
    assert layer.compute_output_shape((None, 3, 8, 8)) == (None, 4, 6, 6)


def test_integers_stay_integers_where_elements_only_move():
    images = np.arange(12, dtype="int32").reshape(1, 2, 2, 3)
    for layer in (L.ZeroPadding2D(1), L.Cropping2D(0), L.UpSampling2D(2)):
        assert layer(images).dtype == np.int32
    smooth = L.UpSampling2D(2, interpolation="bilinear")
    assert smooth(images).dtype == smooth(L.Input((2, 2, 3), dtype="int32")).dtype == np.float32


def test_weights_options():
    layer = L.Conv2D(
        2, 3, kernel_initializer="ones", bias_initializer="ones", kernel_regularizer="l2", bias_constraint="non_neg"
    )
    y = layer(np.ones((1, 3, 3, 2), "float32"))
    np.testing.assert_allclose(y.numpy().ravel(), [19, 19])
    np.testing.assert_allclose(layer.losses[0], 0.01 * 36, rtol=1e-6)
    assert layer.bias.constraint is not None and layer.count_params() == 38
    assert L.Conv1D(2, 3, use_bias=False, input_shape=(5, 1)).use_bias is False


def test_old_and_short_names():
    assert L.Convolution2D is L.Conv2D and L.MaxPool2D is L.MaxPooling2D and L.AvgPool1D is L.AveragePooling1D
    assert L.GlobalAvgPool2D is L.GlobalAveragePooling2D and L.GlobalMaxPool1D is L.GlobalMaxPooling1D


def test_classic_network_trains():
    rng = np.random.default_rng(0)
    x = rng.random((40, 8, 8, 1)).astype("float32")
    y = (x[:, :4].mean((1, 2, 3)) > x[:, 4:].mean((1, 2, 3))).astype("int32")
    model = models.Sequential(
        [
            L.Conv2D(8, (3, 3), activation="relu", padding="same", input_shape=(8, 8, 1)),
            L.MaxPooling2D((2, 2)),
            L.Conv2D(8, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    history = model.fit(x, y, epochs=3, batch_size=20, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.output_shape == (None, 2)


def image(*shape):
    return np.zeros(shape, "float32")


MISTAKES = {
    "filters": (lambda: L.Conv2D(0, 3), "Conv2D: filters must be a positive integer, received 0"),
    "kernel rank": (lambda: L.Conv2D(2, (3, 3, 3)), "kernel_size must be a positive integer or 2 of them"),
    "stride of a float": (lambda: L.Conv1D(2, 3, strides=1.5), "strides must be a positive integer, received 1.5"),
    "bool": (lambda: L.Conv1D(2, True), "kernel_size must be a positive integer, received True"),
    "padding": (lambda: L.Conv2D(2, 3, padding="causal"), "padding must be 'valid' or 'same', received 'causal'"),
    "data format": (lambda: L.Conv2D(2, 3, data_format="nchw"), "'channels_last' or 'channels_first', received 'nchw'"),
    "groups and filters": (lambda: L.Conv2D(3, 3, groups=2), "groups must divide filters"),
    "groups and channels": (lambda: L.Conv2D(4, 3, groups=2)(image(1, 5, 5, 3)), "groups must divide the channels"),
    "axes": (lambda: L.Conv2D(4, 3)(image(5, 5, 3)), "expected ndim=4, received shape (5, 5, 3)"),
    "kernel too large": (lambda: L.Conv2D(4, 5)(image(1, 4, 9, 3)), "leaves nothing of an input of shape (1, 4, 9, 3)"),
    "dilated too large": (lambda: L.Conv1D(4, 3, dilation_rate=4)(image(1, 8, 3)), "leaves nothing of an input"),
    "unknown channels": (lambda: L.Conv1D(4, 3)(L.Input((5, None))), "needs the number of channels"),
    "window too large": (lambda: L.MaxPooling2D(5)(image(1, 4, 9, 3)), "leaves nothing of an input"),
    "pool padding": (lambda: L.MaxPooling1D(2, padding="causal"), "padding must be 'valid' or 'same'"),
    "pool size": (lambda: L.AveragePooling1D((2, 2)), "pool_size must be a positive integer, received (2, 2)"),
    "cropping": (lambda: L.Cropping1D(3)(image(1, 6, 2)), "cropping=((3, 3),) leaves nothing"),
    "negative padding": (lambda: L.ZeroPadding2D(-1), "padding must be an integer, (rows, columns), or"),
    "padding of one": (lambda: L.ZeroPadding1D((1,)), "padding must be an integer or (before, after)"),
    "padding of three": (lambda: L.ZeroPadding1D((1, 2, 3)), "padding must be an integer or (before, after)"),
    "interpolation": (lambda: L.UpSampling2D(2, interpolation="area"), "'nearest', 'bilinear', 'bicubic'"),
    "unknown size": (
        lambda: L.LocallyConnected1D(2, 2)(Input((None, 3))),
        "needs inputs of a known size, received shape (None, None, 3)",
    ),
    "channels changed": (lambda: used_with_three_channels()(image(1, 5, 5, 4)), "to have size 3"),
    "op: channels": (
        lambda: ops.conv2d(image(1, 5, 5, 3), image(3, 3, 2, 4)),
        "x has 3 channels, but a kernel of shape",
    ),
    "op: bias": (lambda: ops.conv2d(image(1, 5, 5, 3), image(3, 3, 3, 4), image(3)), "bias must have shape (4,)"),
    "op: axes": (lambda: ops.conv1d(image(1, 5, 5, 3), image(3, 3, 4)), "must have 3 axes"),
    "op: kernel too large": (
        lambda: ops.conv2d(image(1, 4, 9, 3), image(3, 3, 3, 4), dilation_rate=2),
        "a kernel of size 3x3 (dilated, it covers 5x5) does not fit into an input of size 4x9",
    ),
    "op: pool axes": (lambda: ops.max_pool(image(5, 3), 2), "must have 3 axes (sequences), 4 (images) or 5 (volumes)"),
    "op: pool too large": (lambda: ops.average_pool(image(1, 3, 3), 4), "a window of size 4 does not fit"),
}


def used_with_three_channels():
    layer = L.Conv2D(4, 3)
    layer(image(1, 5, 5, 3))
    return layer


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_configurations_of_keras_2():
    """tf_keras writes arguments of the class that its layers extend; Keras 2 knows no seed of ConvLSTM and fewer formats."""
    config = {"filters": 2, "kernel_size": [3, 3], "groups": 1, "depth_multiplier": 2}
    spare = {"kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}
    read = translated({"class_name": "SeparableConv2D", "config": {**config, **spare}})
    assert L.SeparableConv2D.from_config(read["config"]).depth_multiplier == 2
    read = translated({"class_name": "Conv2DTranspose", "config": {"filters": 2, "kernel_size": 3, "groups": 1}})
    assert L.Conv2DTranspose.from_config(read["config"]).filters == 2
    for layer in (L.ConvLSTM2D(2, 3), L.ZeroPadding1D(), L.Cropping1D(), L.UpSampling1D(), L.Conv1DTranspose(2, 3)):
        written = legacy({"class_name": type(layer).__name__, "config": layer.get_config()})["config"]
        assert not {"seed", "zero_output_for_mask", "groups"} & set(written)
        assert ("data_format" in written) == isinstance(layer, L.ConvLSTM2D | L.Conv1DTranspose)
        assert type(layer).from_config(translated({"class_name": type(layer).__name__, "config": written})["config"])
    assert L.UpSampling1D(data_format="channels_first").get_config()["data_format"] == "channels_first"


def test_a_convolution_of_ones_own_in_the_place_of_the_layer_s():
    class Standardized(L.Conv2D):
        def convolution_op(self, inputs, kernel):
            mean, variance = ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
            return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-10))

    x = wave((2, 5, 5, 3), 1)
    layer, plain = Standardized(4, 3, activation="relu"), L.Conv2D(4, 3, activation="relu")
    y = layer(x)
    plain.build(x.shape)
    kernel = layer.kernel.numpy()
    kernel = (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-10)
    plain.set_weights([kernel, layer.bias.numpy()])
    np.testing.assert_allclose(y, plain(x), rtol=1e-5, atol=1e-6)
    bare = L.Conv1D(2, 2, padding="causal", activation="relu")
    z = bare(x[0])
    np.testing.assert_array_equal(ops.relu(bare.convolution_op(ops.convert_to_tensor(x[0], "float32"), bare.kernel)), z)


def test_sizes_of_windows_may_be_arrays():
    two, x = np.array([2, 2]), np.ones((1, 8, 8, 3), "float32")
    assert L.MaxPooling2D(two)(x).shape == L.Conv2D(3, two, strides=two)(x).shape == (1, 4, 4, 3)
    assert L.UpSampling2D(two)(x).shape == (1, 16, 16, 3) and L.MaxPooling2D(two).get_config()["pool_size"] == [2, 2]
