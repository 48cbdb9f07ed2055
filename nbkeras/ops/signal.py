"""Fourier transforms. A complex tensor is a pair (real, imaginary), as in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op
from nbkeras.kernels import fourier
from nbkeras.ops import elementwise, indexing
from nbkeras.ops.patches import _overlap_add, extract_sequences


def _pair(name: str, x: Any, axes: int) -> list[Tensor]:
    """The two parts of a complex tensor."""
    if not isinstance(x, list | tuple) or len(x) != 2:
        raise ValueError(f"{name}: expected a pair (real, imaginary) of tensors, received {type(x).__name__}")
    real, imag = floats(*x)
    if real.shape != imag.shape or real.ndim < axes:
        raise ValueError(
            f"{name}: expected two tensors of the same shape with at least {axes} axes, received {real.shape} and {imag.shape}"
        )
    if 0 in real.shape[real.ndim - axes :]:
        raise ValueError(f"{name}: the last axis must not be empty, received shape {real.shape}")
    return [real, imag]


@op
def fft(x) -> tuple[Tensor, Tensor]:
    """The Fourier transform along the last axis: y[k] = sum over j of x[j] * e^(-2 pi i j k / n).

    Args:
        x: A complex tensor as a pair (real, imaginary) of floats (..., n).

    Returns:
        A pair (real, imaginary) of float tensors (..., n).

    Raises:
        ValueError: unless x is a pair of the same shape.

    Example:
        >>> real, imaginary = ops.fft(([1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]))  # a cosine, one turn in 4
        >>> real.numpy().round(3)
        array([0., 2., 0., 2.], dtype=float32)
    """
    return apply(fourier.forward, fourier.forward_vjp, _pair("fft", x, 1), axes=1)


@op
def fft2(x) -> tuple[Tensor, Tensor]:
    """The Fourier transform along the last two axes.

    Args:
        x: A complex tensor as a pair (real, imaginary) of floats (..., m, n).

    Returns:
        A pair (real, imaginary) of float tensors (..., m, n).

    Raises:
        ValueError: unless x is a pair of the same shape with two axes or more.

    Example:
        >>> real, imaginary = ops.fft2((np.ones((2, 2)), np.zeros((2, 2))))
        >>> real.numpy()
        array([[4., 0.],
               [0., 0.]])
    """
    return apply(fourier.forward, fourier.forward_vjp, _pair("fft2", x, 2), axes=2)


@op
def ifft2(x) -> tuple[Tensor, Tensor]:
    """The inverse of `fft2`, along the last two axes.

    Args:
        x: A complex tensor as a pair (real, imaginary) of floats (..., m, n).

    Returns:
        A pair (real, imaginary) of float tensors (..., m, n).

    Raises:
        ValueError: unless x is a pair of the same shape with two axes or more.

    Example:
        >>> x = (np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2)))
        >>> real, imaginary = ops.ifft2(ops.fft2(x))
        >>> real.numpy().round(3)
        array([[1., 2.],
               [3., 4.]])
    """
    return apply(fourier.back, fourier.back_vjp, _pair("ifft2", x, 2), axes=2)


@op
def rfft(x, fft_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The Fourier transform of real numbers along the last axis: the first half, since the second half mirrors it.

    Args:
        x: Real numbers (..., n); integers become floatx.
        fft_length: The length to which x is cut or zero-padded; None for n.

    Returns:
        A pair (real, imaginary) of float tensors (..., fft_length // 2 + 1).

    Raises:
        ValueError: if x is empty, or for a length below 1.

    Example:
        >>> real, imaginary = ops.rfft([1.0, 0.0, -1.0, 0.0])
        >>> real.numpy().round(3)
        array([0., 2., 0.], dtype=float32)
    """
    x = as_float(x)
    if x.ndim == 0 or (fft_length is not None and fft_length < 1) or (x.shape[-1] == 0 and fft_length is None):
        raise ValueError(f"rfft: expected at least one number, received shape {x.shape} and fft_length {fft_length}")
    return apply(fourier.forward_real, fourier.forward_real_vjp, [x], n=fft_length or x.shape[-1])


@op
def irfft(x, fft_length: int | None = None) -> Tensor:
    """The inverse of `rfft`, along the last axis.

    Args:
        x: A complex tensor as a pair (real, imaginary) of floats (..., k).
        fft_length: The number of real numbers to return; None for 2 (k - 1), which is correct for an even
            number.

    Returns:
        A float tensor (..., fft_length).

    Raises:
        ValueError: unless x is a pair of the same shape, or for a length below 1.

    Example:
        >>> ops.irfft(ops.rfft([1.0, 2.0, 4.0]), fft_length=3).numpy().round(3)
        array([1., 2., 4.], dtype=float32)
    """
    real, imag = _pair("irfft", x, 1)
    n = 2 * (real.shape[-1] - 1) if fft_length is None else fft_length
    if n < 1:
        raise ValueError(f"irfft: fft_length must be at least 1, received {briefly(n)}")
    return apply(fourier.back_real, fourier.back_real_vjp, [real, imag], n=n)


# -------------------- short-time transforms --------------------

_WINDOWS: dict[str, Callable] = {"hann": np.hanning, "hamming": np.hamming}


def _window(name: str, window: Any, length: int, fft_length: int, dtype: np.dtype) -> Tensor:
    """The window, centred in fft_length numbers."""
    if fft_length < length:
        raise ValueError(
            f"{name}: fft_length must not be below sequence_length, received {briefly(fft_length)} and {length}"
        )
    load_budget.take_briefly(64 * fft_length, f"{name} with fft_length={fft_length}")
    if window is None:
        return as_tensor(np.ones(fft_length, dtype))  # over all fft_length numbers, as in Keras
    if isinstance(window, str):
        if window not in _WINDOWS:
            raise ValueError(f"{name}: window must be 'hann', 'hamming', a vector or None, received {briefly(window)}")
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
    """The short-time Fourier transform: `rfft` of windows of a signal.

    Args:
        x: Real numbers (..., n); integers become floatx.
        sequence_length: The length of the window function, at most fft_length.
        sequence_stride: The distance from one window to the next.
        fft_length: The number of elements of a window; the window function is centred in it, with zeros
            around.
        window: The factor of each window: 'hann', 'hamming', sequence_length numbers, or
            None for 1 at all fft_length elements.
        center: Whether the signal is extended by reflection, so that each window is centred at its position.

    Returns:
        A pair (real, imaginary) of float tensors (..., windows, fft_length // 2 + 1).

    Raises:
        ValueError: for lengths that do not fit, or an unknown window.

    Example:
        >>> signal = np.cos(2 * np.pi * np.arange(64) / 8)  # one turn in 8 steps: number 2 of 16
        >>> real, imaginary = ops.stft(signal, sequence_length=16, sequence_stride=8, fft_length=16)
        >>> real.shape
        (9, 9)
        >>> power = real**2 + imaginary**2
        >>> ops.argmax(power, axis=-1).numpy()[1:-1]
        array([2, 2, 2, 2, 2, 2, 2], dtype=int32)
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
    """The inverse of `stft`: the signal whose transform is nearest to a given one.

    The windows are added up, weighted by the window function. With `window=None` they are added up without
    weights, as in Keras: where they overlap, the result is a multiple of the signal.

    Args:
        x: A complex tensor as a pair (real, imaginary) of floats (..., windows, fft_length // 2 + 1).
        sequence_length: As in `stft`.
        sequence_stride: As in `stft`.
        fft_length: As in `stft`.
        length: The length of the signal; None for the whole range of the windows.
        window: As in `stft`.
        center: As in `stft`.

    Returns:
        A float tensor (..., length).

    Raises:
        ValueError: for lengths that do not fit, or an unknown window.

    Example:
        >>> signal = np.arange(8.0)
        >>> transformed = ops.stft(signal, 4, 2, 4)
        >>> ops.istft(transformed, 4, 2, 4, length=8).numpy().round(3)
        array([0., 1., 2., 3., 4., 5., 6., 7.])
    """
    real, imag = _pair("istft", x, 2)
    if sequence_stride < 1:
        raise ValueError(f"istft: sequence_stride must be at least 1, received {sequence_stride}")
    shape = _window("istft", window, sequence_length, fft_length, real.dtype)
    count = real.shape[-2]
    y = _overlap_add(elementwise.multiply(irfft((real, imag), fft_length), shape), sequence_stride)
    if window is not None:
        weight = _overlap_add(
            elementwise.multiply(np.ones((count, 1), real.dtype), elementwise.square(shape)), sequence_stride
        )
        y = elementwise.divide(y, elementwise.where(elementwise.greater(weight, 1e-10), weight, 1.0))
    start = fft_length // 2 if center else 0
    end = y.shape[-1] - start if length is None else start + length
    return indexing.getitem(y, (..., slice(start, end)))
