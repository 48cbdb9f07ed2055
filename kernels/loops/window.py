"""Arithmetic of windows that slide over the rows and columns of an image, for convolution and pooling."""

from typing import NamedTuple


class Window(NamedTuple):
    """The size, stride, dilation and padding before, of rows and of columns.

    A launch takes `tuple(window)`, and the kernel makes a Window from it: at each launch, Numba needs 2 us to find the type of a
    NamedTuple, and 0.1 us for a tuple. Compiled functions pass a Window on unchanged.
    """

    height: int
    width: int
    row_stride: int
    column_stride: int
    row_dilation: int
    column_dilation: int
    top: int
    left: int


def extent(size: int, dilation: int) -> int:
    """Returns the length that a window of `size` taps covers along an axis."""
    return (size - 1) * dilation + 1


def output_length(length: int | None, size: int, stride: int, dilation: int, padding: str) -> int | None:
    """Returns the number of windows along an axis; None stays None. For 'same' and 'causal' it is ceil(length / stride)."""
    if length is None:
        return None
    if padding == "valid":
        return (length - extent(size, dilation)) // stride + 1
    return -(-length // stride)


def padding_before(length: int, size: int, stride: int, dilation: int, padding: str) -> int:
    """Returns the padding before an axis: all of it for 'causal', the smaller half for 'same', as in TensorFlow."""
    if padding == "valid":
        return 0
    if padding == "causal":
        return extent(size, dilation) - 1
    return max((-(-length // stride) - 1) * stride + extent(size, dilation) - length, 0) // 2


def transposed_length(
    length: int | None, size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> int | None:
    """Returns an axis's length after a transposed convolution, as in Keras, even if windows do not fit; None stays None.

    'valid': the length that the windows cover, at least `stride` for each. 'same': length * stride; output_padding changes it.
    """
    if length is None:
        return None
    reach = extent(size, dilation)
    if padding == "valid":
        return (length - 1) * stride + reach + (max(stride - reach, 0) if output_padding is None else output_padding)
    return length * stride if output_padding is None else (length - 1) * stride + reach % 2 + output_padding


def transposed_before(size: int, stride: int, dilation: int, padding: str, output_padding: int | None) -> int:
    """Returns the number of elements that a transposed convolution removes at the start of an axis; 'same': the smaller half."""
    if padding == "valid":
        return 0
    reach = extent(size, dilation)
    kept = reach + stride if output_padding is None else reach + reach % 2 + output_padding
    return reach - 1 - min((kept - 1) // 2, reach - 1)


def slide(
    shape: tuple[int, ...], size: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int], padding: str
) -> tuple[Window, int, int]:
    """Returns the window for an NHWC shape, and the output's height and width. 'causal' pads only columns; rows are 'valid'."""
    row_padding = "valid" if padding == "causal" else padding
    rows = (shape[1], size[0], strides[0], dilation[0], row_padding)
    columns = (shape[2], size[1], strides[1], dilation[1], padding)
    window = Window(*size, *strides, *dilation, padding_before(*rows), padding_before(*columns))
    return window, output_length(*rows), output_length(*columns)  # type: ignore[return-value]
