"""The layers for audio: numbers, gradients and files of Keras, training, unknown lengths, errors."""

import io
import sys
import zipfile
from pathlib import Path

import audio_cases
import numpy as np
import pytest
from made_models import reloaded

from nbkeras import GradientTape, Variable, layers, models, ops

REFERENCE = Path(__file__).parents[1] / "reference"
EXPECTED = np.load(REFERENCE / "tables.npz")


def layer_of(name):
    cls, options, _ = audio_cases.CASES[name]
    return getattr(layers, cls)(**options)


def comparable(name, values):
    """The phase as a point of a circle, and the logarithm of a magnitude as the magnitude: small magnitudes have large errors."""
    mode = audio_cases.CASES[name][1].get("mode", "log") if name.startswith("stft") else None
    return {"angle": lambda: np.exp(1j * values), "log": lambda: np.exp(values)}.get(mode, lambda: values)()


@pytest.mark.parametrize("name", audio_cases.CASES)
def test_numbers_of_keras(name):
    found, expected = layer_of(name)(audio_cases.signal(name)).numpy(), EXPECTED[name]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    found, expected = comparable(name, found), comparable(name, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in audio_cases.CASES if name not in audio_cases.WITHOUT_GRADIENTS])
def test_gradients_of_keras(name):
    layer, x = layer_of(name), Variable(audio_cases.signal(name))
    with GradientTape() as tape:
        outputs = layer(x)
        total = ops.sum(outputs * audio_cases.factors(name, outputs.shape))
    expected = EXPECTED[f"{name} gradient"]
    np.testing.assert_allclose(tape.gradient(total, x).numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_training_changes_the_kernels_as_in_keras():
    model, losses = audio_cases.trained(sys.modules["nbkeras"])
    np.testing.assert_allclose(losses, EXPECTED["losses"], rtol=1e-5)
    assert [weight.name for weight in model.layers[0].trainable_weights] == ["real_kernel", "imag_kernel"]


def test_a_file_of_keras_gives_its_numbers(tmp_path):
    x = audio_cases.signal("mel")
    with zipfile.ZipFile(REFERENCE / "tables.zip") as files:
        model = models.load_model(io.BytesIO(files.read("audio.keras")))
    np.testing.assert_allclose(model.predict(x, verbose=0), EXPECTED["recognizer"], rtol=1e-5, atol=1e-4)
    again = reloaded(model, tmp_path / "again.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    "make, shape, output_shape",
    [
        (lambda: layers.STFTSpectrogram(), (None, 2), (None, None, 258)),
        (lambda: layers.STFTSpectrogram("stft", 32, expand_dims=True), (400, 2), (None, 24, 34, 2)),
        (lambda: layers.STFTSpectrogram("real", 32, data_format="channels_first"), (2, None), (None, 34, None)),
        (lambda: layers.MelSpectrogram(), (None,), (None, 128, None)),
        (lambda: layers.MelSpectrogram(num_mel_bins=4, fft_length=65), (1000,), (None, 4, 2)),
    ],
    ids=["any length", "images", "channels first", "mel of any length", "mel of an odd transform"],
)
def test_shapes_of_symbolic_calls(make, shape, output_shape):
    layer = make()
    assert layer(layers.Input(shape)).shape == output_shape
    sizes = [2, *(900 if size is None else size for size in shape)]
    assert layer.compute_output_shape(tuple(sizes)) == layer(np.ones(sizes, "float32")).shape


def test_weights_of_the_mel_scale_fit_in_memory():
    with pytest.raises((ValueError, MemoryError), match="bands of the mel scale|too large"):
        layers.MelSpectrogram.linear_to_mel_weight_matrix(2**40, 2**20)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.STFTSpectrogram(frame_step=300), "frame_step must be at most frame_length=256, received 300"),
        (lambda: layers.STFTSpectrogram(frame_step=0), "frame_step must be a positive integer, received 0"),
        (lambda: layers.STFTSpectrogram(fft_length=100), "fft_length must be at least frame_length=256, received 100"),
        (lambda: layers.STFTSpectrogram(window="unknowable"), "window must be one of 'boxcar'"),
        (lambda: layers.STFTSpectrogram(mode="spectrogram"), "mode must be one of 'log'"),
        (lambda: layers.STFTSpectrogram(window=[1.0])(np.ones((1, 300, 1))), "window must have the kernel's length"),
        (lambda: layers.STFTSpectrogram()(np.ones((1, 300, 1), int)), "takes floats, received dtype int64"),
        (lambda: layers.STFTSpectrogram()(np.ones((1, 30, 1))), "kernel of size 256 does not fit"),
        (lambda: layers.STFTSpectrogram()(np.ones((1, 300))), "expected ndim=3, received shape .1, 300."),
        (lambda: layers.MelSpectrogram(sequence_length=4000), "sequence_length must be at most fft_length=2048"),
        (lambda: layers.MelSpectrogram(min_freq=9000.0), "min_freq must be below max_freq=8000, received 9000.0"),
        (lambda: layers.MelSpectrogram(num_mel_bins=0), "num_mel_bins must be a positive integer"),
        (
            lambda: layers.MelSpectrogram(window="han")(np.ones(3000)),
            "window must be 'hann', 'hamming', a vector or None",
        ),
        (lambda: layers.MelSpectrogram()(np.ones((1, 300, 1))), "expected max_ndim=2, received shape .1, 300, 1."),
    ],
    ids=(
        "long step,no step,short transform,window,mode,length of a window,integers,short signal,two axes,long window,"
        "frequencies,no bands,mel window,three axes"
    ).split(","),
)
def test_mistakes_are_explained(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
