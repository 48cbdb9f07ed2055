"""`tf.signal`: frames of a signal, and windows. Tensors are not complex, so Fourier transforms are in `keras.ops`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine.tensor import Tensor, as_tensor


def frame(
    signal: Any,
    frame_length: int,
    frame_step: int,
    pad_end: bool = False,
    pad_value: float = 0,
    axis: int = -1,
    name: Any = None,
) -> Tensor:
    """The frames of a signal, one beginning every frame_step elements; pad_end: also those that reach over its end."""
    x = ops.moveaxis(signal, axis, -1)
    length = ops.shape(x)[-1]
    if pad_end:
        more = max(0, (-(-length // frame_step) - 1) * frame_step + frame_length - length)
        widths = [(0, 0)] * (len(ops.shape(x)) - 1) + [(0, more)]
        x = ops.pad(x, widths, constant_values=pad_value)
    frames = ops.extract_sequences(x, frame_length, frame_step)
    place = axis % len(ops.shape(signal))
    return ops.moveaxis(frames, (-2, -1), (place, place + 1))


def _window(form: Callable[[int], Any]) -> Callable[..., Tensor]:
    def window(window_length: int, periodic: bool = True, dtype: Any = np.float32, name: Any = None) -> Tensor:
        """A window for the frames of a signal; periodic: for Fourier transforms."""
        values = np.asarray(form(window_length + 1 if periodic and window_length > 1 else window_length))
        return as_tensor(values[:window_length], dtype)

    return window


hann_window = _window(np.hanning)
hamming_window = _window(np.hamming)
