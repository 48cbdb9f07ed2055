"""The twin of `convolve` in integers.py. One kernel quantizes each image. In the other, a thread computes one number.

Neighbouring threads have neighbouring units, and read the same numbers of an image.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import divided, in_32_bits, ints
from nbkeras.kernels.cuda.machine.kernel import kernel, start_each
from nbkeras.kernels.cuda.quantized import quantize_rows
from nbkeras.kernels.runtime import device

_i = np.int32


@kernel
def _convolve(q, w, scale, factors, bias, y, sizes, window, rectify):
    in_height, in_width, depth, out_height, out_width, units = sizes
    kernel_rows, kernel_columns, sh, sw, dh, dw, top, left = window
    i = cuda.grid(1)
    if i >= y.size:
        return
    rest, unit = divided(i, units)
    rest, out_column = divided(rest, out_width)
    image, out_row = divided(rest, out_height)
    total = _i(0)
    for ky in range(kernel_rows):
        row = _i(out_row * sh + ky * dh - top)
        if row >= 0 and row < in_height:
            for kx in range(kernel_columns):
                column = _i(out_column * sw + kx * dw - left)
                if column >= 0 and column < in_width:
                    at = _i(((image * in_height + row) * in_width + column) * depth)
                    kernel_at = _i((ky * kernel_columns + kx) * depth * units + unit)
                    for c in range(depth):
                        total = _i(total + _i(q[at + c]) * _i(w[kernel_at + c * units]))
    kind = y.dtype.type
    number = kind(total) * (factors[unit] * (kind(1) / scale[image])) + bias[unit]
    y[i] = kind(0) if rectify != 0 and number < kind(0) else number  # NaN stays NaN


def convolve(x, w, factors, bias, y, window, inputs, relu):
    """Computes y = conv(x, w * factors) + bias, then optional relu; x is quantized."""
    (images, height, width, depth), scratch = x.shape, device.gpu().scratch
    q = scratch("integers of images", (images, height * width * depth), np.int8)
    scale = scratch("scales of images", (images,), x.dtype)
    quantize_rows(x.reshape(q.shape), q, scale, *inputs)
    flat = in_32_bits("a convolution", q, w, scale, factors, bias, y)
    start_each(_convolve, y.size, *flat, ints(height, width, depth, *y.shape[1:]), ints(*window), int(relu))
