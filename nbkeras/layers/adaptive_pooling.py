"""Pooling to a given size: maxima and means of windows that cover each axis as evenly as possible."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.layers.spatial import Spatial, WindowSize


class _AdaptivePooling(Spatial):
    """Pooling to a given size. On an axis of length n, window i of m goes from floor(i * n / m) to ceil((i + 1)
    * n / m).

    Args:
        output_size: The number of windows along each axis. It may exceed the input's length.

    Output shape:
        1: The input's shape, with output_size steps.
        2: The input's shape, with output_size rows and columns.
        3: The input's shape, with output_size positions per axis.
    """

    def __init__(self, output_size: WindowSize, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def compute_output_shape(self, input_shape):
        self.lengths(input_shape)  # called for its errors
        return self.with_lengths(input_shape, self.output_size)

    def call(self, inputs):
        return self._pool(inputs, self.output_size, self.data_format)


class _AdaptiveMaxPooling(_AdaptivePooling):
    _pool = staticmethod(ops.adaptive_max_pool)


class _AdaptiveAveragePooling(_AdaptivePooling):
    _pool = staticmethod(ops.adaptive_average_pool)


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """The largest number of each of output_size windows, spread over the steps as evenly as possible.

    Window i of m covers steps floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n steps.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
        >>> layers.AdaptiveMaxPooling1D(2)(x).numpy().ravel()
        array([3., 5.], dtype=float32)
    """

    rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """The largest number of each window; the windows cover rows and columns as evenly as possible.

    Window i of m covers rows floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n rows;
    the same holds for columns.

    Args:
        output_size: The number of windows: (rows, columns), or an integer for both.

    Example:
        >>> layers.AdaptiveMaxPooling2D((3, 2))(np.ones((8, 10, 7, 4))).shape
        (8, 3, 2, 4)
    """


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """The largest number of each window; the windows cover depth, rows and columns as evenly as possible.

    Window i of m covers positions floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n positions of an
    axis.

    Args:
        output_size: The number of windows: (depth, rows, columns), or an integer for all three.

    Example:
        >>> layers.AdaptiveMaxPooling3D(2)(np.ones((8, 5, 6, 7, 4))).shape
        (8, 2, 2, 2, 4)
    """

    rank = 3


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """The mean of each of output_size windows, spread over the steps as evenly as possible.

    Window i of m covers steps floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n steps.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
        >>> layers.AdaptiveAveragePooling1D(2)(x).numpy().ravel()
        array([2., 4.], dtype=float32)
    """

    rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """The mean of each window; the windows cover rows and columns as evenly as possible.

    Window i of m covers rows floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n rows;
    the same holds for columns.

    Args:
        output_size: The number of windows: (rows, columns), or an integer for both.

    Example:
        >>> layers.AdaptiveAveragePooling2D((3, 2))(np.ones((8, 10, 7, 4))).shape
        (8, 3, 2, 4)
    """


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """The mean of each window; the windows cover depth, rows and columns as evenly as possible.

    Window i of m covers positions floor(i * n / m) to ceil((i + 1) * n / m) - 1 of n positions of an
    axis.

    Args:
        output_size: The number of windows: (depth, rows, columns), or an integer for all three.

    Example:
        >>> layers.AdaptiveAveragePooling3D(2)(np.ones((8, 5, 6, 7, 4))).shape
        (8, 2, 2, 2, 4)
    """

    rank = 3
