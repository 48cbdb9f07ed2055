"""NumPy's Fourier transforms of the last one or two axes. A complex array is a pair of real ones. They run on the CPU.

A transform is linear, so its gradient is the adjoint transform: the inverse transform with the other scaling.
"""

import numpy as np

from nbkeras.kernels.runtime import device

Array = np.ndarray


@device.host
def transform(name: str, axes: int, norm: str, real: Array, imag: Array, out_real: Array, out_imag: Array) -> None:
    """Kernel: applies the numpy.fft function with this name over the last axes."""
    y = getattr(np.fft, name)(real + 1j * imag, axes=tuple(range(-axes, 0)), norm=norm)
    out_real[...], out_imag[...] = y.real, y.imag


def _transformed(name: str, axes: int, norm: str, real: Array, imag: Array) -> tuple[Array, Array]:
    outputs = device.empty(real.shape, real.dtype), device.empty(real.shape, real.dtype)
    device.launch(transform, name, axes, norm, real, imag, *outputs)
    return outputs


def forward(real: Array, imag: Array, axes: int):
    """Computes the sum of x exp(-i w t) over the last `axes` axes."""
    return _transformed("fftn", axes, "backward", real, imag), axes


def forward_vjp(axes, dy, needs):
    return _transformed("ifftn", axes, "forward", *_both(dy))


def back(real: Array, imag: Array, axes: int):
    """Computes the inverse of `forward`."""
    return _transformed("ifftn", axes, "backward", real, imag), axes


def back_vjp(axes, dy, needs):
    return _transformed("fftn", axes, "forward", *_both(dy))


def _both(dy: tuple[Array | None, Array | None]) -> list[Array]:
    """Returns the gradients of the real and the imaginary part; zeros for an unused part."""
    shape, dtype = next((part.shape, part.dtype) for part in dy if part is not None)
    parts = []
    for part in dy:
        if part is None:
            part = device.empty(shape, dtype)
            device.launch(device.fill, part, 0)
        parts.append(part)
    return parts


# -------------------- real signals --------------------


def forward_real(x: Array, n: int):
    """Computes the first n // 2 + 1 numbers of `forward`, for x cut or zero-padded to length n."""
    outputs = tuple(device.empty((*x.shape[:-1], n // 2 + 1), x.dtype) for _ in range(2))
    device.launch(transform_real, x, n, *outputs)
    return outputs, (x.shape, n)


@device.host
def transform_real(x: Array, n: int, real: Array, imag: Array) -> None:
    """Kernel: see `forward_real`."""
    y = np.fft.rfft(x, n)
    real[...], imag[...] = y.real, y.imag


def forward_real_vjp(saved, dy, needs):
    shape, n = saved
    dx = device.output(needs[0], shape, next(part.dtype for part in dy if part is not None))
    device.launch(transform_real_back, *_both(dy), n, dx)
    return (dx,)


@device.host
def transform_real_back(real: Array, imag: Array, n: int, dx: Array) -> None:
    """Kernel: computes the real part of the sum of dy exp(i w t) over the frequencies in dy."""
    found = np.fft.ifft(real + 1j * imag, n, norm="forward").real
    size = min(n, dx.shape[-1])
    dx[..., :size], dx[..., size:] = found[..., :size], 0


def back_real(real: Array, imag: Array, n: int):
    """Computes the n real numbers from their `forward_real`."""
    y = device.empty((*real.shape[:-1], n), real.dtype)
    device.launch(synthesize, real, imag, n, y)
    return y, real.shape


@device.host
def synthesize(real: Array, imag: Array, n: int, y: Array) -> None:
    """Kernel: see `back_real`."""
    y[...] = np.fft.irfft(real + 1j * imag, n)


def back_real_vjp(shape, dy, needs):
    grads = tuple(device.empty(shape, dy.dtype) for _ in range(2))
    device.launch(analyze, dy, *grads)
    return grads


@device.host
def analyze(dy: Array, dreal: Array, dimag: Array) -> None:
    """Kernel: computes the adjoint of `synthesize`. Each frequency between 0 and the highest also represents its negative."""
    n = dy.shape[-1]
    found = np.fft.rfft(dy, norm="forward")
    found[..., 1 : (n + 1) // 2] *= 2
    size = min(found.shape[-1], dreal.shape[-1])
    for out, part in ((dreal, found.real), (dimag, found.imag)):
        out[..., :size], out[..., size:] = part[..., :size], 0
