"""Every layer of the registry, held to the contract of nbkeras.testing.check_layer; a layer without a case fails."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from case_names import source
from inference_models import same_bits
from libraries import loaded, needs_linker

from nbkeras import layers as L
from nbkeras import models, saving, utils
from nbkeras.building import layer as layer_module
from nbkeras.engine import structures
from nbkeras.engine.user_errors import is_meant
from nbkeras.preprocessing.features.missing import FillMissing
from nbkeras.testing import arguments, check_layer
from nbkeras.utils import FeatureSpace

rng = np.random.default_rng(0)
ROWS, STEPS, IMAGE, VOLUME = (5, 4), (3, 6, 4), (2, 7, 6, 3), (2, 3, 4, 5, 2)


def floats(*shape):
    """Numbers away from the kinks of piecewise functions."""
    x = rng.normal(size=shape)
    return (x + np.sign(x) * 0.1).astype("float32")


def case(make, *inputs, **options):
    return make, inputs, options


def merging(make):
    return case(make, floats(3, 4), floats(3, 4))


def random_case(make):
    """A layer that changes images in training."""
    return case(make, floats(*IMAGE), training=True, gradients=False)


WORDS = rng.integers(0, 7, (4, 5)).astype("int32")

CASES = [
    case(lambda: FillMissing(2.0), floats(*ROWS)),
    case(lambda: FillMissing(), floats(*ROWS)),
    case(lambda: L.Dense(3, activation="tanh"), floats(*ROWS)),
    case(lambda: L.Dense(3, use_bias=False, activation="softmax"), floats(*STEPS)),
    case(lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", activation="tanh"), floats(*STEPS)),
    case(lambda: L.EinsumDense("...ab,bc->...ac", (6, 2), bias_axes="a", activation="relu"), floats(*STEPS)),
    case(lambda: L.EinsumDense("ab...,bc->ac...", 2, bias_axes="c"), floats(*STEPS)),
    case(lambda: L.Attention(use_scale=True), floats(2, 3, 4), floats(2, 5, 4)),
    case(lambda: L.Attention(score_mode="concat"), floats(2, 3, 4), floats(2, 5, 2), floats(2, 5, 4)),
    case(lambda: L.Attention(dropout=0.5), floats(2, 3, 4), floats(2, 5, 4), training=True, gradients=False),
    case(lambda: L.AdditiveAttention(), floats(2, 3, 4), floats(2, 5, 4)),
    case(lambda: L.MultiHeadAttention(2, 3, value_dim=2), floats(*STEPS), floats(3, 5, 3)),
    case(lambda: L.MultiHeadAttention(2, 3, output_shape=(2, 3), use_bias=False), *[floats(*STEPS) for _ in range(3)]),
    case(lambda: L.MultiHeadAttention(2, 3, attention_axes=2, use_gate=True), floats(2, 3, 2, 3), floats(2, 3, 4, 3)),
    case(
        lambda: L.MultiHeadAttention(2, 3, dropout=0.5),
        floats(*STEPS),
        floats(*STEPS),
        training=True,
        gradients=False,
    ),
    case(lambda: L.GroupQueryAttention(3, 4, 2, sliding_window=2, use_gate=True), floats(2, 3, 4), floats(2, 5, 4)),
    case(lambda: L.Activation("gelu"), floats(*ROWS)),
    case(lambda: L.Dropout(0.5), floats(*ROWS)),
    case(lambda: L.Dropout(0.5, seed=1), floats(*ROWS), training=True, gradients=False),
    case(lambda: L.SpatialDropout1D(0.5), floats(*STEPS)),
    case(lambda: L.SpatialDropout2D(0.5), floats(*IMAGE)),
    case(lambda: L.SpatialDropout3D(0.5), floats(2, 3, 3, 2, 4)),
    case(lambda: L.AlphaDropout(0.5), floats(*ROWS)),
    case(lambda: L.GaussianNoise(0.5), floats(*ROWS)),
    case(lambda: L.GaussianDropout(0.5), floats(*ROWS)),
    case(lambda: L.ActivityRegularization(l2=0.1), floats(*ROWS)),
    case(lambda: L.Flatten(), floats(*IMAGE)),
    case(lambda: L.Reshape((-1, 2)), floats(*ROWS)),
    case(lambda: L.Permute((2, 1)), floats(*STEPS)),
    case(lambda: L.RepeatVector(3), floats(*ROWS)),
    case(lambda: L.Masking(0.0), floats(*STEPS)),
    case(lambda: L.Embedding(7, 3), WORDS),
    case(lambda: L.Embedding(7, 3, mask_zero=True), WORDS),
    case(lambda: L.ReversibleEmbedding(7, 3, tie_weights=False, mask_zero=True), WORDS),
    case(lambda: L.SimpleRNN(3, return_sequences=True), floats(*STEPS)),
    case(lambda: L.SimpleRNN(3, go_backwards=True), floats(*STEPS)),
    case(lambda: L.GRU(3), floats(*STEPS)),
    case(lambda: L.GRU(3, reset_after=False, return_sequences=True), floats(*STEPS)),
    case(lambda: L.LSTM(3, return_sequences=True, return_state=True), floats(*STEPS)),
    case(lambda: L.LSTM(3, recurrent_activation="hard_sigmoid"), floats(*STEPS)),
    case(lambda: L.RNN(L.LSTMCell(3)), floats(*STEPS)),
    case(lambda: L.RNN([L.GRUCell(3), L.SimpleRNNCell(2)], return_sequences=True), floats(*STEPS)),
    case(lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)), floats(*STEPS)),
    case(lambda: L.Bidirectional(L.GRU(3), merge_mode="sum"), floats(*STEPS)),
    case(lambda: L.TimeDistributed(L.Dense(3)), floats(*STEPS)),
    case(lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2), floats(*STEPS)),
    case(lambda: L.Conv1D(3, 2, strides=2, activation="tanh"), floats(*STEPS)),
    case(lambda: L.Conv2D(4, 3, padding="same"), floats(*IMAGE)),
    case(lambda: L.Conv2D(4, (3, 2), strides=(2, 1)), floats(*IMAGE)),
    case(lambda: L.Conv3D(4, (2, 1, 3), padding="same", strides=(1, 2, 1)), floats(*VOLUME)),
    case(lambda: L.Conv1DTranspose(3, 3, strides=2, padding="same"), floats(*STEPS)),
    case(lambda: L.Conv2DTranspose(4, 3, strides=2, output_padding=1, activation="tanh"), floats(1, 3, 4, 3)),
    case(lambda: L.Conv2DTranspose(2, 2, data_format="channels_first", dilation_rate=2), floats(1, 2, 3, 4)),
    case(lambda: L.Conv3DTranspose(2, 2, strides=(2, 1, 1)), floats(1, 2, 3, 2, 2)),
    case(lambda: L.DepthwiseConv1D(3, depth_multiplier=2), floats(*STEPS)),
    case(lambda: L.DepthwiseConv2D(3, padding="same", activation="relu"), floats(*IMAGE)),
    case(lambda: L.DepthwiseConv2D((2, 3), strides=2, depth_multiplier=2), floats(*IMAGE)),
    case(lambda: L.SeparableConv1D(3, 3, padding="causal"), floats(*STEPS)),
    case(lambda: L.SeparableConv2D(4, 3, depth_multiplier=2), floats(1, 5, 4, 3)),
    case(lambda: L.LocallyConnected1D(3, 3, activation="tanh"), floats(*STEPS)),
    case(lambda: L.LocallyConnected2D(3, (3, 2), strides=(2, 1)), floats(2, 5, 3, 2)),
    case(lambda: L.LocallyConnected2D(3, 2, data_format="channels_first", implementation=2), floats(2, 2, 3, 4)),
    case(lambda: L.ConvLSTM1D(2, 3, return_sequences=True, return_state=True), floats(2, 3, 5, 2)),
    case(lambda: L.ConvLSTM1D(2, 2, data_format="channels_first", go_backwards=True), floats(2, 3, 2, 5)),
    case(lambda: L.ConvLSTM2D(2, (2, 3), padding="same", strides=(1, 2)), floats(2, 2, 2, 4, 1)),
    case(lambda: L.ConvLSTM3D(2, 2, recurrent_activation="hard_sigmoid"), floats(2, 2, 3, 3, 2, 2)),
    case(lambda: L.ZeroPadding3D(((1, 0), (0, 2), (1, 1))), floats(*VOLUME)),
    case(lambda: L.Cropping3D(((1, 0), (1, 1), (0, 2))), floats(*VOLUME)),
    case(lambda: L.UpSampling3D((2, 1, 2)), floats(*VOLUME)),
    case(lambda: L.MaxPooling3D(2, padding="same"), floats(*VOLUME)),
    case(lambda: L.AveragePooling3D((2, 3, 1)), floats(*VOLUME)),
    case(lambda: L.GlobalMaxPooling3D(), floats(*VOLUME)),
    case(lambda: L.GlobalAveragePooling3D(keepdims=True), floats(*VOLUME)),
    case(lambda: L.AdaptiveMaxPooling1D(4), floats(*STEPS)),
    case(lambda: L.AdaptiveMaxPooling2D((3, 2)), floats(*IMAGE)),
    case(lambda: L.AdaptiveMaxPooling3D(2), floats(*VOLUME)),
    case(lambda: L.AdaptiveAveragePooling1D(4), floats(*STEPS)),
    case(lambda: L.AdaptiveAveragePooling2D((3, 2), data_format="channels_first"), floats(*IMAGE)),
    case(lambda: L.AdaptiveAveragePooling3D(2), floats(*VOLUME)),
    case(lambda: L.ZeroPadding1D((1, 2)), floats(*STEPS)),
    case(lambda: L.ZeroPadding2D(((1, 0), (2, 1))), floats(*IMAGE)),
    case(lambda: L.Cropping1D((1, 2)), floats(*STEPS)),
    case(lambda: L.Cropping2D(((1, 0), (2, 1))), floats(*IMAGE)),
    case(lambda: L.UpSampling1D(2), floats(*STEPS)),
    case(lambda: L.UpSampling2D((2, 3)), floats(*IMAGE)),
    case(lambda: L.MaxPooling1D(2), floats(*STEPS)),
    case(lambda: L.MaxPooling2D(2, padding="same"), floats(*IMAGE)),
    case(lambda: L.AveragePooling1D(3, strides=1, padding="same"), floats(*STEPS)),
    case(lambda: L.AveragePooling2D((2, 3)), floats(*IMAGE)),
    case(lambda: L.GlobalMaxPooling1D(), floats(*STEPS)),
    case(lambda: L.GlobalMaxPooling2D(keepdims=True), floats(*IMAGE)),
    case(lambda: L.GlobalAveragePooling1D(), floats(*STEPS)),
    case(lambda: L.GlobalAveragePooling2D(), floats(*IMAGE)),
    case(lambda: L.BatchNormalization(), floats(*IMAGE)),
    case(lambda: L.BatchNormalization(momentum=0.5), floats(6, 4), training=True, gradients=False),
    case(lambda: L.GroupNormalization(2), floats(2, 3, 2, 4)),
    case(lambda: L.GroupNormalization(-1, axis=1, center=False), floats(*STEPS)),
    case(lambda: L.UnitNormalization(), floats(*STEPS)),
    case(lambda: L.UnitNormalization(axis=[1, 2]), floats(*STEPS)),
    case(lambda: L.SpectralNormalization(L.Dense(3)), floats(*ROWS)),
    case(lambda: L.SpectralNormalization(L.Conv1D(3, 2), power_iterations=2), floats(*STEPS)),
    case(lambda: L.Identity(), floats(*ROWS)),
    case(lambda: L.LayerNormalization(), floats(*STEPS)),
    case(lambda: L.RMSNormalization(), floats(*STEPS)),
    case(lambda: L.Rescaling(1 / 255, offset=-1.0), floats(*ROWS)),
    case(lambda: L.Rescaling([1.0, 2.0, 3.0]), rng.integers(0, 255, IMAGE).astype("uint8")),
    case(lambda: L.Normalization(axis=(1, 2)), floats(*STEPS)),
    case(
        lambda: L.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0], invert=True),
        floats(*STEPS),
    ),
    case(lambda: L.Normalization(axis=None, mean=1.0, variance=4.0), floats(*ROWS)),
    case(lambda: L.Discretization([-1.0, 0.0, 1.0]), floats(*ROWS), gradients=False),
    case(lambda: L.Discretization([-1.0, 0.0, 1.0], output_mode="count"), floats(*ROWS), gradients=False),
    case(lambda: L.Discretization([-1.0, 0.0, 1.0], output_mode="one_hot"), floats(*STEPS), gradients=False),
    case(lambda: L.CategoryEncoding(7), WORDS, gradients=False),
    case(lambda: L.CategoryEncoding(7, output_mode="one_hot"), WORDS, gradients=False),
    case(lambda: L.CategoryEncoding(7, output_mode="count"), WORDS, gradients=False),
    case(lambda: L.Hashing(5, mask_value=0), WORDS, gradients=False),
    case(lambda: L.Hashing(5, salt=(3, 4), output_mode="multi_hot"), WORDS, gradients=False),
    case(lambda: L.HashedCrossing(5), WORDS[:, :1], WORDS[:, 1:2], gradients=False),
    case(lambda: L.IntegerLookup(vocabulary=[3, 1, 6], mask_token=0, num_oov_indices=2), WORDS, gradients=False),
    case(lambda: L.IntegerLookup(vocabulary=[3, 1, 6], output_mode="count"), WORDS, gradients=False),
    case(lambda: L.Resizing(4, 9), floats(*IMAGE)),
    case(lambda: L.Resizing(9, 5, pad_to_aspect_ratio=True, data_format="channels_first"), floats(2, 3, 7, 6)),
    case(lambda: L.CenterCrop(4, 3), floats(*IMAGE)),
    case(lambda: L.CenterCrop(9, 3), floats(*IMAGE)),
    case(lambda: L.RandomFlip(), floats(*IMAGE)),
    case(lambda: L.RandomFlip("vertical", seed=1), floats(*IMAGE), training=True, gradients=False),
    case(lambda: L.RandomCrop(4, 3), floats(*IMAGE)),
    random_case(lambda: L.RandomCrop(4, 3)),
    random_case(lambda: L.RandomTranslation(0.3, 0.2)),
    random_case(lambda: L.RandomRotation(0.3, fill_mode="constant", fill_value=2.0)),
    random_case(lambda: L.RandomZoom(0.3)),
    random_case(lambda: L.RandomZoom((-0.3, 0.1), (0.1, 0.2))),
    random_case(lambda: L.RandomBrightness(0.3, (-3, 3))),
    random_case(lambda: L.RandomContrast(0.3, (-3, 3))),
    random_case(lambda: L.RandomColorDegeneration((0.1, 0.9), (-3, 3))),
    random_case(lambda: L.RandomSharpness((0.1, 0.9), (-3, 3))),
    random_case(lambda: L.RandomGaussianBlur(1.0, (3, 5), value_range=(-3, 3))),
    random_case(lambda: L.RandomShear(0.3, 0.2)),
    random_case(lambda: L.RandomPerspective((0.9, 1.0), 0.4)),
    random_case(lambda: L.RandomElasticTransform((0.9, 1.0), value_range=(-3, 3))),
    random_case(lambda: L.CutMix()),
    random_case(lambda: L.MixUp()),
    random_case(lambda: L.RandAugment((-3, 3))),
    random_case(lambda: L.AugMix((-3, 3), num_chains=2, chain_depth=1)),
    random_case(lambda: L.Equalization((-3, 3))),
    case(
        lambda: L.ContrastLimitedAdaptiveHistogramEqualization((-3, 3), tile_grid_size=(2, 2)),
        floats(*IMAGE),
        gradients=False,
    ),
    case(lambda: L.MaxNumBoundingBoxes(2), floats(*IMAGE)),
    random_case(lambda: L.RandomErasing((0.9, 1.0), fill_value=(1.0, 2.0, 3.0))),
    random_case(lambda: L.RandomColorJitter((-3, 3), 0.2, 0.3, hue_factor=0.3)),
    case(lambda: L.AutoContrast((0, 1)), floats(*IMAGE)),
    random_case(lambda: L.RandomGrayscale(1.0)),
    random_case(lambda: L.RandomHue(0.5, (-3, 3))),
    random_case(lambda: L.RandomInvert((1.0, 1.0), (-3, 3))),
    random_case(lambda: L.RandomPosterization(4, (-3, 3))),
    random_case(lambda: L.RandomSaturation(0.5, (0, 1))),
    random_case(lambda: L.Solarization(0.2, 0.5, (-3, 3))),
    case(lambda: L.Pipeline([L.Rescaling(2.0), L.CenterCrop(4, 3)]), floats(*IMAGE)),
    merging(lambda: L.Add()),
    merging(lambda: L.Subtract()),
    merging(lambda: L.Multiply()),
    merging(lambda: L.Average()),
    merging(lambda: L.Maximum()),
    merging(lambda: L.Minimum()),
    merging(lambda: L.Concatenate(axis=1)),
    merging(lambda: L.Dot(axes=1, normalize=True)),
    case(lambda: L.Dot(axes=(2, 1)), floats(2, 3, 4), floats(2, 4, 5)),
    case(lambda: L.ReLU(max_value=1.0, negative_slope=0.2), floats(*ROWS)),
    case(lambda: L.LeakyReLU(0.2), floats(*ROWS)),
    case(lambda: L.ELU(0.5), floats(*ROWS)),
    case(lambda: L.PReLU(shared_axes=[1]), floats(*STEPS)),
    case(lambda: L.Softmax(), floats(*ROWS)),
    case(lambda: L.ThresholdedReLU(0.5), floats(*ROWS)),
    case(lambda: models.Model(x := L.Input((4,)), L.Dense(2, activation="tanh")(x)), floats(*ROWS)),
    case(lambda: models.Sequential([L.Dense(3), L.Activation("tanh")]), floats(*ROWS)),
    case(lambda: L.STFTSpectrogram("stft", 4, 2, 8), floats(2, 12, 2)),
    case(lambda: L.STFTSpectrogram("magnitude", 4, padding="same", expand_dims=True), floats(2, 12, 2)),
    case(lambda: L.MelSpectrogram(16, 4, sampling_rate=100, num_mel_bins=3, power_to_db=False), floats(2, 40)),
]


WITHOUT_A_CASE = {
    "InputLayer",  # has no call of its own; every case starts with one
    *(
        "FeatureSpace",
        "TFDConcat",
        "TFDIdentity",
    ),  # takes tables, and has parts of its own: tests/features/test_feature_space.py
    *(
        "SimpleRNNCell",
        "GRUCell",
        "LSTMCell",
        "StackedRNNCells",
    ),  # no layers of a model: tests/layers/test_recurrent.py
    *("ConvLSTM1DCell", "ConvLSTM2DCell", "ConvLSTM3DCell"),  # tests/layers/test_conv_lstm.py
    "Wrapper",  # wrappers of one's own start from it
    *("StringLookup", "TextVectorization"),  # texts are no inputs of models: tests/layers/test_preprocessing.py
    "Lambda",  # code has no configuration: tests/layers/test_core.py
    "Operation",  # tests/building/test_functional.py
}
KIND = [type(make()).__name__ for make, _, _ in CASES]


def test_every_layer_has_a_case():
    """Those of packages that are imported when used have tests of their own; so has HostLayer, whose `call` a user writes."""
    assert FeatureSpace  # its import registers two layers
    others = ("nbkeras.compat.", "nbkeras.applications.", "nbkeras.distillation.")
    classes = [cls for cls in layer_module.layers.items().values() if isinstance(cls, type)]
    named = {cls.__name__ for cls in classes if not cls.__module__.startswith(others)} - {"HostLayer"}
    assert not named - {*KIND, *WITHOUT_A_CASE}, "add a case to CASES in tests/layers/test_contract.py"
    assert not {*KIND, *WITHOUT_A_CASE} - named, "remove the cases of these layers, which are not registered"


each_case = pytest.mark.parametrize(
    "name, given",
    [
        pytest.param(name, each, id=source(each[0]) + " in training" * each[2].get("training", False))
        for name, each in zip(KIND, CASES, strict=True)
    ],
)


def model_of(layer, inputs):
    symbols = [L.Input(x.shape[1:], dtype=x.dtype, name=f"input_{i}") for i, x in enumerate(inputs)]
    return models.Model(symbols, layer(*arguments(layer, symbols)))


def predicted(model, inputs, **options):
    return model.predict(inputs[0] if len(inputs) == 1 else list(inputs), verbose=0, **options)


@each_case
def test_every_layer_keeps_the_contract(name, given):
    utils.set_random_seed(0)
    make, inputs, options = given
    check_layer(make, *inputs, **options)


@each_case
def test_inputs_in_a_wrong_structure_are_taken_or_refused_in_words(name, given):
    make, inputs, _ = given
    x, built = inputs[0], make()
    proper = arguments(built, list(inputs))
    built(*proper)
    for wrong in ({"a": x}, [[x]], [x, None], None, [], {}, {"a": L.Input(x.shape[1:])}):
        for layer in (make(), built):
            nth = [[*inputs[:place], wrong, *inputs[place + 1 :]] for place in range(len(inputs))]
            for args in ([wrong, *proper[1:]], *[arguments(layer, each) for each in nth]):
                try:
                    layer(*args)
                except (TypeError, ValueError, NotImplementedError) as error:
                    assert is_meant(error), f"{type(error).__name__}: {error}"


@pytest.mark.cpu("frozen models are for the CPU")
@each_case
def test_every_layer_can_be_frozen(name, given):
    """With the bits of `predict`, in this process and in another one."""
    make, inputs, _ = given
    model = model_of(make(), inputs)
    frozen = model.frozen(len(inputs[0]))
    assert frozen.is_by_rows
    for each in (frozen, pickle.loads(pickle.dumps(frozen, 5))):
        same_bits(
            each(list(inputs) if len(inputs) > 1 else inputs[0]), predicted(model, inputs, batch_size=len(inputs[0]))
        )


@each_case
def test_every_layer_goes_step_by_step_or_says_why_not(name, given):
    make, inputs, _ = given
    if any(x.ndim < 2 for x in inputs):
        return
    layer = make()
    model = model_of(layer, inputs)
    expected = structures.flatten(predicted(model, inputs))
    for count in {1, len(inputs)}:  # only the first input is a sequence, or all are
        try:
            stream = model.stream(window=16, sequences=[f"input_{i}" for i in range(count)])
        except ValueError as error:
            named = [each.name for each in layer._all_layers()]  # itself, or a part of it
            assert any(f"cannot go step by step: layer {each!r}" in str(error) for each in named)
            continue
        state, found = stream.initial(len(inputs[0])), []
        for step in range(inputs[0].shape[1]):
            x = [each[:, step : step + 1] if i < count else each for i, each in enumerate(inputs)]
            y, state = stream(x, state)
            found.append(structures.flatten(y))
        for position, whole in enumerate(expected):
            parts = [each[position] for each in found]
            ours = np.concatenate(parts, axis=1) if parts[-1].shape != whole.shape or len(parts) == 1 else parts[-1]
            np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-5)


CONFIGS = json.loads((Path(__file__).parents[1] / "reference" / "keras_3_configs.json").read_text(encoding="utf-8"))
NO_LAYERS_OF_KERAS_3 = {
    "FillMissing",  # of a FeatureSpace with a policy for missing values, which Keras does not know
    "LocallyConnected1D",
    "LocallyConnected2D",
    "ThresholdedReLU",
    "Operation",
    "Model",
    "Sequential",
}


@each_case
def test_keras_3_takes_what_is_written(name, given):
    """Each argument in a file is one that Keras's class takes or writes: it refuses all others."""
    if name in NO_LAYERS_OF_KERAS_3:
        return
    written = saving.serialize_keras_object(given[0]())
    assert set(written["config"]) - set(CONFIGS["arguments"][written["class_name"]]) == set()


NOT_IN_ONNX = {  # layers that cannot be exported, with a part of the error
    "Hashing": "hash_integers",
    "HashedCrossing": "cross",
    "IntegerLookup": "search",
    "MelSpectrogram": "fourier.forward_real",
    "ContrastLimitedAdaptiveHistogramEqualization": "scattering.combine of layer",
}


@pytest.mark.cpu("ONNX Runtime is compared with the CPU")
@each_case
def test_exported_to_onnx_it_computes_the_same(name, given, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    utils.set_random_seed(0)
    make, inputs, _ = given
    model = model_of(make(), inputs)
    path = str(tmp_path / "layer.onnx")
    if name in NOT_IN_ONNX:
        with pytest.raises(ValueError, match=NOT_IN_ONNX[name]):
            model.export(path)
        return
    for weight in model.weights:  # zeros and ones would hide a bias or a scale left out
        if weight.dtype.kind == "f":
            weight.assign(weight.numpy() + rng.uniform(0.05, 0.2, weight.shape))
    model.export(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {entry.name: x for entry, x in zip(session.get_inputs(), inputs, strict=True)})
    expected = structures.flatten(predicted(model, inputs))
    for ours, theirs in zip(expected, found, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5 * max(1e-6, np.abs(ours).max()))


# what the error says: its kernel computes by NumPy
NOT_IN_LIBRARIES = {
    "IntegerLookup": "layer '.*integer_lookup.*': 'search_sorted'",
    "MelSpectrogram": "layer '.*mel_spectrogram.*': 'transform_real'",
    "ContrastLimitedAdaptiveHistogramEqualization": "layer '.*histogram_equalization.*': 'combine_rows'",
}


@needs_linker
@pytest.mark.cpu("libraries are for the CPU")
@each_case
def test_in_a_library_it_computes_the_same_bits(name, given, tmp_path):
    make, inputs, _ = given
    model = model_of(make(), inputs)
    path, rows = str(tmp_path / "liblayer.so"), len(inputs[0])
    if name in NOT_IN_LIBRARIES:
        with pytest.raises(ValueError, match=NOT_IN_LIBRARIES[name]):
            model.export(path, batch=rows)
        return
    model.export(path, batch=rows, verbose=False)
    library = loaded(path)
    found = library.predict(*inputs) if hasattr(library, "predict") else library.step(library.new_state(), *inputs)
    same_bits(found, predicted(model, inputs, batch_size=rows))
