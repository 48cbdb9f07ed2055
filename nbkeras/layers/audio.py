"""STFTSpectrogram and MelSpectrogram: signals as pictures of their frequencies over time."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import load_budget, option
from nbkeras.engine.annotations import briefly
from nbkeras.initializers import STFT, Scaling, Window
from nbkeras.ops.window import output_length

_Mode = Annotated[str, option.choice("log", "magnitude", "psd", "real", "imag", "angle", "stft")]
_Padding = Annotated[str, option.choice("valid", "same")]
_DataFormat = Annotated[Any, option.choice("channels_last", "channels_first", None)]
_MaybeSize = Annotated[Any, option.optional(option.Size)]
_MaybeAbove0 = Annotated[Any, option.optional(option.Above0)]


class STFTSpectrogram(option.Declared, Layer):
    """The short-time Fourier transform of signals, by two convolutions whose kernels training may change.

    The kernels are waves within a window function, as `initializers.STFT` makes them. All channels share them.

    Args:
        mode: 'log' for the logarithm of the magnitude; 'magnitude'; 'psd' for the power of each frequency, and of its negative;
            'real' and 'imag' for a part of the transform, 'stft' for both parts, one after the other; 'angle' for the phase.
        frame_length: The number of samples of a window.
        frame_step: The distance from one window to the next, at most frame_length; None for half of it.
        fft_length: The length of the transform, at least frame_length; None for the next power of two.
        window (a name, an array, or None): The window function, as in `initializers.STFT`.
        periodic: Whether the window function repeats after frame_length samples, instead of frame_length - 1.
        scaling ('density', 'spectrum' or None): The window function is divided by its 2-norm, by its 1-norm or not at all.
        padding: 'valid': only whole windows; 'same': zeros at the ends, for ceil(samples / frame_step) windows.
        expand_dims: Whether the frequencies get an axis of their own, as in an image.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Call arguments:
        inputs: Floats (batch, samples, channels); (batch, channels, samples) with channels_first.

    Output shape:
        (batch, windows, channels * frequencies), with expand_dims (batch, windows, frequencies, channels); with channels_first
        (batch, channels * frequencies, windows), with expand_dims (batch, channels, windows, frequencies). There are
        fft_length // 2 + 1 frequencies, twice as many in mode 'stft'.

    Raises:
        ValueError: for lengths that do not fit together.
        TypeError: for inputs that are not floats.

    Example:
        >>> signal = np.sin(np.arange(400) * 2 * np.pi / 8).reshape(1, 400, 1)  # one turn in 8 samples: number 4 of 32
        >>> powers = layers.STFTSpectrogram("psd", frame_length=32)(signal)
        >>> powers.shape
        (1, 24, 17)
        >>> ops.argmax(powers, axis=-1).numpy()[0, :5]
        array([4, 4, 4, 4, 4], dtype=int32)
    """

    def __init__(
        self,
        mode: _Mode = "log",
        frame_length: option.Size = 256,
        frame_step: _MaybeSize = None,
        fft_length: _MaybeSize = None,
        window: Window = "hann",
        periodic: option.Flag = False,
        scaling: Scaling = "density",
        padding: _Padding = "valid",
        expand_dims: option.Flag = False,
        data_format: _DataFormat = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.data_format = data_format or config.image_data_format()
        self.input_spec = InputSpec(ndim=3)
        self._step = self.frame_step or max(self.frame_length // 2, 1)
        self._fft_length = self.fft_length or 1 << (self.frame_length - 1).bit_length()
        if self._step > self.frame_length:
            raise ValueError(
                f"STFTSpectrogram: frame_step must be at most frame_length={self.frame_length}, received {briefly(frame_step)}"
            )
        if self._fft_length < self.frame_length:
            raise ValueError(
                f"STFTSpectrogram: fft_length must be at least frame_length={self.frame_length}, received {briefly(fft_length)}"
            )

    def build(self, input_shape):
        for part in ("real", "imag"):
            if self.mode not in {"real", "imag"} - {part}:
                initializer = STFT(part, self.window, self.scaling, self.periodic)
                shape = (self.frame_length, 1, self._fft_length // 2 + 1)
                setattr(self, f"{part}_kernel", self.add_weight(shape, initializer, name=f"{part}_kernel"))

    def compute_output_shape(self, input_shape):
        """The output shape for an input shape; the number of samples may be unknown.

        Args:
            input_shape: (batch, samples, channels); (batch, channels, samples) with channels_first.

        Returns:
            A tuple with None for unknown sizes.

        Example:
            >>> layers.STFTSpectrogram(frame_length=32).compute_output_shape((None, 400, 2))
            (None, 24, 34)
        """
        first = self.data_format == "channels_first"
        batch, samples, channels = (input_shape[axis] for axis in ((0, 2, 1) if first else (0, 1, 2)))
        windows = output_length(samples, self.frame_length, self._step, 1, self.padding)
        frequencies = (self._fft_length // 2 + 1) * (2 if self.mode == "stft" else 1)
        if self.expand_dims:
            return (batch, channels, windows, frequencies) if first else (batch, windows, frequencies, channels)
        both = None if channels is None else channels * frequencies
        return (batch, both, windows) if first else (batch, windows, both)

    def call(self, inputs):
        if inputs.dtype.kind != "f":
            raise TypeError(f"STFTSpectrogram {self.name!r} takes floats, received dtype {inputs.dtype}")
        first = self.data_format == "channels_first"
        signals = inputs if first else ops.transpose(inputs, (0, 2, 1))
        batch, channels, samples = signals.shape
        rows = ops.reshape(signals, (batch * channels, samples, 1))
        kernels = [getattr(self, f"{part}_kernel", None) for part in ("real", "imag")]
        parts = [
            ops.conv1d(rows, kernel, None, self._step, self.padding, data_format="channels_last")
            for kernel in kernels
            if kernel is not None
        ]
        found = self._combined(*parts)
        _, windows, frequencies = found.shape
        found = ops.reshape(found, (batch, channels, windows, frequencies))
        if self.expand_dims:
            return found if first else ops.transpose(found, (0, 2, 3, 1))
        found = ops.transpose(found, (0, 1, 3, 2) if first else (0, 2, 1, 3))
        both = channels * frequencies
        return ops.reshape(found, (batch, both, windows) if first else (batch, windows, both))

    def _combined(self, first, imag=None):
        """The values of the mode from the parts of the transform; the modes 'real' and 'imag' have only one."""
        if imag is None:
            return first
        if self.mode == "stft":
            return ops.concatenate([first, imag], axis=-1)
        if self.mode == "angle":
            return ops.arctan2(imag, first)
        power = ops.add(ops.square(first), ops.square(imag))
        if self.mode == "psd":
            twice = np.full(self._fft_length // 2 + 1, 2.0)  # the frequency and its negative
            twice[[0, -1]] = 1
            return ops.multiply(power, ops.convert_to_tensor(twice, self.compute_dtype))
        magnitude = ops.sqrt(ops.maximum(power, config.epsilon()))
        return magnitude if self.mode == "magnitude" else ops.log(ops.maximum(magnitude, config.epsilon()))


class MelSpectrogram(option.Declared, Layer):
    """The power of signals in bands of the mel scale over time, by default in decibels.

    The bands are as wide as people hear differences. The layer is differentiable and has no weights.

    Args:
        fft_length: The length of the transform of a window.
        sequence_stride: The distance from one window to the next.
        sequence_length: The length of the window function, at most fft_length; None for fft_length.
        window ('hann', 'hamming', an array of sequence_length numbers, or None): The window function.
        sampling_rate: The number of samples of a second.
        num_mel_bins: The number of bands.
        min_freq: The lowest frequency of a band in hertz.
        max_freq: The highest; None for half of sampling_rate.
        power_to_db: Whether the powers become decibels.
        top_db: Powers that are so many decibels below the largest power of the batch are raised to that limit.
        mag_exp: The exponent of the magnitudes: 1 for magnitudes, 2 for powers.
        min_power: Smaller powers, and a smaller `ref_power`, are raised to this one before the logarithm.
        ref_power: The power of 0 decibels.

    Call arguments:
        inputs: Numbers (batch, samples) or (samples,).

    Output shape:
        (batch, num_mel_bins, windows) or (num_mel_bins, windows), with samples // sequence_stride + 1 windows.

    Raises:
        ValueError: for lengths or frequencies that do not fit together, and for inputs of another rank.

    Example:
        >>> layer = layers.MelSpectrogram(num_mel_bins=64, sampling_rate=8000, sequence_stride=256)
        >>> layer(np.sin(np.arange(16000.0))).shape
        (64, 63)
    """

    sequence_length: Any
    max_freq: Any

    def __init__(
        self,
        fft_length: option.Size = 2048,
        sequence_stride: option.Size = 512,
        sequence_length: _MaybeSize = None,
        window: option.Anything = "hann",
        sampling_rate: option.Above0 = 16000,
        num_mel_bins: option.Size = 128,
        min_freq: option.AtLeast0 = 20.0,
        max_freq: _MaybeAbove0 = None,
        power_to_db: option.Flag = True,
        top_db: option.AnyNumber = 80.0,
        mag_exp: option.AnyNumber = 2.0,
        min_power: option.Above0 = 1e-10,
        ref_power: option.AnyNumber = 1.0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(min_ndim=1, max_ndim=2)
        self.sequence_length = self.sequence_length or self.fft_length
        self.max_freq = self.max_freq or int(self.sampling_rate / 2)
        if self.sequence_length > self.fft_length:
            raise ValueError(
                f"MelSpectrogram: sequence_length must be at most fft_length={self.fft_length}, "
                f"received {briefly(sequence_length)}"
            )
        if self.min_freq >= self.max_freq:
            raise ValueError(
                f"MelSpectrogram: min_freq must be below max_freq={self.max_freq}, received {briefly(min_freq)}"
            )

    def compute_output_shape(self, input_shape):
        """The output shape for an input shape; the number of samples may be unknown.

        Args:
            input_shape: (batch, samples) or (samples,).

        Returns:
            A tuple with None for unknown sizes.

        Example:
            >>> layers.MelSpectrogram().compute_output_shape((None, 16000))
            (None, 128, 32)
        """
        *batch, samples = input_shape
        around = None if samples is None else samples + self.fft_length // 2 * 2
        return (*batch, self.num_mel_bins, output_length(around, self.fft_length, self.sequence_stride, 1, "valid"))

    def call(self, inputs):
        # the transform computes in these two dtypes
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        real, imag = ops.stft(
            ops.cast(inputs, dtype), self.sequence_length, self.sequence_stride, self.fft_length, self.window
        )
        magnitudes = ops.sqrt(ops.add(ops.square(real), ops.square(imag)))
        bands = self.linear_to_mel_weight_matrix(
            self.num_mel_bins, self.fft_length // 2 + 1, self.sampling_rate, self.min_freq, self.max_freq
        )
        found = ops.matmul(ops.power(magnitudes, self.mag_exp), bands.astype(dtype))
        if self.power_to_db:
            reference = 10 * np.log10(max(abs(self.ref_power), self.min_power))
            found = ops.subtract(ops.multiply(ops.log10(ops.maximum(found, self.min_power)), 10.0), reference)
            found = ops.maximum(found, ops.subtract(ops.max(found), self.top_db))
        return ops.cast(ops.swapaxes(found, -1, -2), self.compute_dtype)

    @staticmethod
    def linear_to_mel_weight_matrix(
        num_mel_bins: int = 20,
        num_spectrogram_bins: int = 129,
        sampling_rate: float = 8000,
        lower_edge_hertz: float = 125.0,
        upper_edge_hertz: float = 3800.0,
        dtype: str = "float32",
    ) -> np.ndarray:
        """The weight of each frequency in each band: triangles on the mel scale, 1 at the middle of a band.

        Args:
            num_mel_bins: The number of bands.
            num_spectrogram_bins: The number of frequencies, from 0 to half of sampling_rate.
            sampling_rate: The number of samples of a second.
            lower_edge_hertz: The lowest frequency of a band.
            upper_edge_hertz: The highest frequency of a band.
            dtype: The dtype of the weights; as in Keras, they are computed with its rounding.

        Returns:
            An array (num_spectrogram_bins, num_mel_bins).

        Example:
            >>> layers.MelSpectrogram.linear_to_mel_weight_matrix(2, 5, 8000).round(2)
            array([[0.  , 0.  ],
                   [0.72, 0.28],
                   [0.  , 0.9 ],
                   [0.  , 0.35],
                   [0.  , 0.  ]], dtype=float32)
        """
        load_budget.take_briefly(32 * num_mel_bins * num_spectrogram_bins, f"{num_mel_bins} bands of the mel scale")
        lowest, highest = _mel(np.asarray([lower_edge_hertz, upper_edge_hertz], dtype))
        edges = np.linspace(lowest, highest, num_mel_bins + 2, dtype=dtype)
        points = _mel(np.linspace(0, sampling_rate / 2, num_spectrogram_bins, dtype=dtype))[:, None]
        rising, falling = (points - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - points) / np.diff(edges)[1:]
        weights = np.maximum(np.minimum(rising, falling), 0)
        weights[0] = 0  # frequency 0 belongs to no band, as in HTK
        return weights


def _mel(hertz: Any) -> Any:
    """Frequencies on the mel scale, by HTK's formula."""
    return 1127.0 * np.log(1.0 + hertz / 700.0)
