"""Fourier transforms and overlapping pieces: NumPy's values, round trips, gradients, replay, messages."""

import numpy as np
import pytest
import scipy.signal
from mistakes import mistakes

from nbkeras import ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model
from nbkeras.testing import check_op

RNG = np.random.default_rng(29)
X, Y = RNG.standard_normal((2, 2, 3, 5))
EVEN = RNG.standard_normal((2, 3, 6))
SIGNAL = RNG.standard_normal((2, 40))
IMAGE = RNG.standard_normal((2, 3, 7, 8))


def parts(z):
    return [z.real, z.imag]


def frames(x, length, stride, window):
    """The stft of x by definition, without centering."""
    starts = range(0, x.shape[-1] - length + 1, stride)
    return np.stack([np.fft.rfft(x[:, at : at + length] * window) for at in starts], 1)


CASES = {  # name: (nbkeras's, NumPy's, arrays)
    "fft_real_part": (lambda x, y: ops.fft((x, y))[:1], lambda x, y: parts(np.fft.fft(x + 1j * y))[:1], X, Y),
    "stft": (
        lambda x: ops.stft(x, 8, 3, 8, "hamming", center=False),
        lambda x: parts(frames(x, 8, 3, scipy.signal.get_window("hamming", 8))),
        SIGNAL,
    ),
    "stft_padded": (
        lambda x: ops.stft(x, 6, 4, 9),
        lambda x: parts(
            frames(
                np.pad(x, [(0, 0), (4, 4)], mode="reflect"), 9, 4, np.pad(scipy.signal.get_window("hann", 6), (1, 2))
            )
        ),
        SIGNAL,
    ),
    "istft": (lambda x: [ops.istft(ops.stft(x, 8, 4, 8), 8, 4, 8)], lambda x: [x], SIGNAL),
    "istft_length": (
        lambda x: [ops.istft(ops.stft(x, 8, 4, 10, "hamming"), 8, 4, 10, length=30, window="hamming")],
        lambda x: [x[:, :30]],
        SIGNAL,
    ),
    "istft_none": (lambda x: [ops.istft(ops.stft(x, 8, 8, 8, None, False), 8, 8, 8, None, None, False)], lambda x: [x], SIGNAL),
    "extract_sequences": (
        lambda x: [ops.extract_sequences(x, 5, 3)],
        lambda x: [np.lib.stride_tricks.sliding_window_view(x, 5, axis=-1)[:, ::3]],
        SIGNAL,
    ),
    "unfold": (
        lambda x: [ops.unfold(x, (2, 3), dilation=(1, 2), padding=(1, 0), stride=(3, 1))],
        lambda x: [
            np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), (2, 5), axis=(2, 3))[
                :, :, ::3, :, :, ::2
            ]
            .transpose(0, 1, 4, 5, 2, 3)
            .reshape(2, 18, 12)
        ],
        IMAGE,
    ),
    "fold": (  # of ones: how many windows hold each pixel; two windows of 2 with a stride of 2 hold each once
        lambda x: [ops.fold(ops.unfold(x[..., 1:, :], 2, stride=2), (6, 8), 2, stride=2)],
        lambda x: [x[:, :, 1:]],
        IMAGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_replay(name):
    function, reference, *arrays = CASES[name]
    received, expected = function(*map(ops.convert_to_tensor, arrays)), reference(*arrays)
    for got, want in zip(received, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    check_op(function, *arrays)


def test_fold_is_the_adjoint_of_unfold():
    arguments = {"kernel_size": (3, 2), "dilation": (1, 3), "padding": (2, 1), "stride": (2, 1)}
    columns = ops.unfold(IMAGE, **arguments)
    other = RNG.standard_normal(columns.shape)
    image = ops.fold(other, IMAGE.shape[2:], **arguments)
    np.testing.assert_allclose(np.vdot(columns, other), np.vdot(IMAGE, image), rtol=1e-12)
    check_op(lambda x: ops.fold(x, IMAGE.shape[2:], **arguments), other)


def test_in_a_model():
    inputs = Input((40,))
    model = Model(inputs, list(ops.stft(inputs, 8, 4, 8)))
    assert model.outputs[0].shape == (None, 11, 5)
    np.testing.assert_allclose(model.predict(np.float32(SIGNAL), verbose=0)[1], ops.stft(SIGNAL, 8, 4, 8)[1], atol=1e-5)


def test_windows_of_ones_are_added_up_as_they_are():
    """As Keras does on TensorFlow and PyTorch: places that two pieces cover count twice."""
    pieces = ops.stft(np.arange(24.0), 8, 4, 8, None, center=False)
    found = ops.istft(pieces, 8, 4, 8, window=None, center=False)
    times = np.array([1] * 4 + [2] * 16 + [1] * 4)
    np.testing.assert_allclose(found, np.arange(24) * times, atol=1e-12)


ERRORS = [
    (lambda: ops.fft(X), "fft: expected a pair"),
    (lambda: ops.fft((X[..., :0], X[..., :0])), "fft: the last axis must not be empty"),
    (lambda: ops.irfft((X, EVEN)), "expected two tensors of the same shape"),
    (lambda: ops.rfft(X, 0), "at least one number"),
    (lambda: ops.stft(SIGNAL, 8, 4, 4), "must not be below"),
    (lambda: ops.stft(SIGNAL, 8, 4, 8, "flat"), "window must be"),
    (lambda: ops.stft(SIGNAL, 8, 4, 8, np.ones(4)), "must have sequence_length=8"),
    (lambda: ops.istft((EVEN, EVEN), 4, 0, 6), "istft: sequence_stride must be at least 1"),
    (lambda: ops.extract_sequences(X, 0, 1), "expected at least one axis, and a length and a stride of at least 1"),
    (lambda: ops.unfold(X, 2), "expected .n, channels"),
    (lambda: ops.unfold(IMAGE, 9), "larger than an image"),
    (lambda: ops.unfold(IMAGE, 2, stride=0), "stride must be"),
    (lambda: ops.fold(X, (4, 4), 2), r"fold: expected \(n, channels \* 4, 9\) for an image of \(4, 4\)"),
    (lambda: ops.irfft((EVEN, EVEN), fft_length=0), "irfft: fft_length must be at least 1, received 0"),
]


test_mistakes_are_explained = mistakes(ERRORS, ValueError)
