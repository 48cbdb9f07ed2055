"""Keras 2's `keras.utils.conv_utils`: sizes of convolutions, for users' layers."""

from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly, one_of

_BORDERS = ("same", "valid", "full", "causal")


def normalize_tuple(value: Any, n: int, name: str) -> tuple[int, ...]:
    """A tuple of n integers, from one integer or from n. Raises ValueError for anything else."""
    values = (value,) * n if isinstance(value, int) else value
    try:
        if len(values) != n:
            raise ValueError
        return tuple(map(int, values))
    except (TypeError, ValueError):
        raise ValueError(f"The `{name}` argument must be a tuple of {n} integers. Received: {briefly(value)}") from None


def normalize_padding(value: str) -> str:
    """A padding in lower case. Raises ValueError for an unknown one."""
    return one_of("normalize_padding", "padding", value, ("valid", "same", "causal"), any_case=True)


def convert_kernel(kernel: Any) -> np.ndarray:
    """A kernel (spatial axes ..., channels, filters) with its spatial axes reversed: correlation becomes convolution."""
    kernel = np.asarray(kernel)
    if not 3 <= kernel.ndim <= 5:
        raise ValueError(f"a kernel of a convolution has 3 to 5 axes, received shape {kernel.shape}")
    return np.flip(kernel, tuple(range(kernel.ndim - 2))).copy()


def conv_output_length(
    input_length: int | None, filter_size: int, padding: str, stride: int, dilation: int = 1
) -> int | None:
    """The output length of a convolution; None for None."""
    reach = (filter_size - 1) * dilation
    added = {"same": 0, "causal": 0, "valid": -reach, "full": reach}[_known(padding)]
    return None if input_length is None else (input_length + added + stride - 1) // stride


def conv_input_length(output_length: int | None, filter_size: int, padding: str, stride: int) -> int | None:
    """The input length for which a convolution has this output length; None for None."""
    pad = _pad(padding, filter_size)
    return None if output_length is None else (output_length - 1) * stride - 2 * pad + filter_size


def deconv_length(
    dim_size: int | None,
    stride_size: int,
    kernel_size: int,
    padding: str,
    output_padding: int | None,
    dilation: int = 1,
) -> int | None:
    """The output length of a transposed convolution; None for None."""
    pad = _pad(padding, kernel_size)
    kernel = (kernel_size - 1) * dilation + 1
    if dim_size is None:
        return None
    if output_padding is not None:
        return (dim_size - 1) * stride_size + kernel - 2 * pad + output_padding
    more = {"same": 0, "valid": max(kernel - stride_size, 0), "full": -(stride_size + kernel - 2)}[padding]
    return dim_size * stride_size + more


def _pad(padding: str, size: int) -> int:
    return {"same": size // 2, "valid": 0, "full": size - 1, "causal": 0}[_known(padding)]


def _known(padding: str) -> str:
    if padding not in _BORDERS:
        raise ValueError(f"padding must be one of {_BORDERS}, received {briefly(padding)}")
    return padding
