"""Fourier transforms. A complex tensor is a pair (real, imaginary), as in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import fourier
from nbkeras.ops import elementwise, indexing
from nbkeras.ops.arguments import as_float, floats
from nbkeras.ops.patches import extract_sequences, overlap_add


def _pair(name: str, x: Any, axes: int) -> list[Tensor]:
    """The two parts of a complex tensor."""
    if not isinstance(x, list | tuple) or len(x) != 2:
        raise ValueError(f"{name}: expected a pair (real, imaginary) of tensors, received {type(x).__name__}")
    real, imag = floats(*x)
    if real.shape != imag.shape or real.ndim < axes:
        raise ValueError(
            f"{name}: expected two tensors of one shape with at least {axes} axes, received {real.shape} and {imag.shape}"
        )
    return [real, imag]


@op
def fft(x) -> tuple[Tensor, Tensor]:
    """The Fourier transform along the last axis of a pair (real, imaginary)."""
    return apply(fourier.forward, fourier.forward_vjp, _pair("fft", x, 1), axes=1)


@op
def fft2(x) -> tuple[Tensor, Tensor]:
    """The Fourier transform along the last two axes of a pair (real, imaginary)."""
    return apply(fourier.forward, fourier.forward_vjp, _pair("fft2", x, 2), axes=2)


@op
def ifft2(x) -> tuple[Tensor, Tensor]:
    """The inverse of `fft2`."""
    return apply(fourier.back, fourier.back_vjp, _pair("ifft2", x, 2), axes=2)


@op
def rfft(x, fft_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The Fourier transform of real numbers along the last axis: its first fft_length // 2 + 1 numbers, (real, imaginary).

    fft_length: the length to which x is cut or filled with zeros; by default x's own length.
    """
    x = as_float(x)
    if x.ndim == 0 or (fft_length is not None and fft_length < 1) or (x.shape[-1] == 0 and fft_length is None):
        raise ValueError(f"rfft: expected at least one number, received shape {x.shape} and fft_length {fft_length}")
    return apply(fourier.forward_real, fourier.forward_real_vjp, [x], n=fft_length or x.shape[-1])


@op
def irfft(x, fft_length: int | None = None) -> Tensor:
    """The fft_length real numbers whose `rfft` is the pair x; by default 2 (k - 1) numbers for a last axis of size k."""
    real, imag = _pair("irfft", x, 1)
    n = 2 * (real.shape[-1] - 1) if fft_length is None else fft_length
    if n < 1:
        raise ValueError(f"irfft: fft_length must be at least 1, received {n}")
    return apply(fourier.back_real, fourier.back_real_vjp, [real, imag], n=n)


# -------------------- short-time transforms --------------------

_WINDOWS: dict[str, Callable] = {"hann": np.hanning, "hamming": np.hamming}


def _window(name: str, window: Any, length: int, fft_length: int, dtype: np.dtype) -> Tensor:
    """The window, centred in fft_length numbers."""
    if fft_length < length:
        raise ValueError(f"{name}: fft_length must not be below sequence_length, received {fft_length} and {length}")
    load_budget.take_briefly(64 * fft_length, f"{name} with fft_length={fft_length}")
    if window is None:
        return as_tensor(np.ones(fft_length, dtype))  # over all fft_length numbers, as in Keras
    if isinstance(window, str):
        if window not in _WINDOWS:
            raise ValueError(f"{name}: window must be 'hann', 'hamming', a vector or None, received {window!r}")
        window = _WINDOWS[window](length + 1)[:-1]  # a periodic window
    window = as_tensor(window, dtype)
    if window.shape != (length,):
        raise ValueError(f"{name}: the window must have sequence_length={length} numbers, received {window.shape}")
    before = (fft_length - length) // 2
    return indexing.pad(window, [(before, fft_length - length - before)])


@op
def stft(
    x, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True
) -> tuple[Tensor, Tensor]:
    """The `rfft` of windows of a signal: (..., n) -> a pair of (..., windows, fft_length // 2 + 1).

    window: 'hann', 'hamming', sequence_length numbers or None. center: extend the signal by reflection, so that each window
    is centred at its position.
    """
    x = as_float(x)
    shape = _window("stft", window, sequence_length, fft_length, x.dtype)
    if center:
        around = (fft_length // 2, fft_length // 2)
        x = indexing.pad(x, [(0, 0)] * (x.ndim - 1) + [around], mode="reflect")
    return rfft(elementwise.multiply(extract_sequences(x, fft_length, sequence_stride), shape))


@op
def istft(
    x,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Tensor:
    """The signal whose `stft` is nearest to the pair x: the windows are added up, weighted by the window function.

    length: the length of the result. window None: the windows are added up without weights, as in Keras, which gives a
    multiple of the signal where they overlap.
    """
    real, imag = _pair("istft", x, 2)
    if sequence_stride < 1:
        raise ValueError(f"istft: sequence_stride must be at least 1, received {sequence_stride}")
    shape = _window("istft", window, sequence_length, fft_length, real.dtype)
    count = real.shape[-2]
    y = overlap_add(elementwise.multiply(irfft((real, imag), fft_length), shape), sequence_stride)
    if window is not None:
        weight = overlap_add(
            elementwise.multiply(np.ones((count, 1), real.dtype), elementwise.square(shape)), sequence_stride
        )
        y = elementwise.divide(y, elementwise.where(elementwise.greater(weight, 1e-10), weight, 1.0))
    start = fft_length // 2 if center else 0
    end = y.shape[-1] - start if length is None else start + length
    return indexing.getitem(y, (..., slice(start, end)))
