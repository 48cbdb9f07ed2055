"""Rescaling, Normalization and Discretization of numbers. `adapt` learns from data, with NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import Layer, LayerOptions, SameShape
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.gaps import counted
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn
from nbkeras.layers.categorical import MODES, NotSparse, OutputMode, encoded


class Rescaling(SameShape):
    """inputs * scale + offset, in the layer's dtype.

    Args:
        scale (a number, or one for each channel): The factor.
        offset (a number, or one for each channel): The number that is added.

    Call arguments:
        inputs: Numbers of any shape, the channels last, or as `config.image_data_format()` says.

    Output shape:
        The inputs' shape.

    Example:
        >>> layers.Rescaling(1 / 127.5, offset=-1)(np.array([0, 127.5, 255])).numpy()
        array([-1.,  0.,  1.], dtype=float32)
    """

    def __init__(self, scale: option.Anything, offset: option.Anything = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        for numbers in (scale, offset):
            array_of(numbers)  # called for its errors

    def call(self, inputs):
        scale, offset = (self._by_channel(value) for value in (self.scale, self.offset))
        return ops.add(ops.multiply(ops.cast(inputs, self.compute_dtype), scale), offset)

    def _by_channel(self, value: Any) -> Any:
        array = array_of(value, self.compute_dtype)
        if array.ndim and config.image_data_format() == "channels_first":
            array = array.reshape(array.shape + (1,) * (3 - array.ndim))
        return array


def _batches_of(data: Any, steps: int | None = None) -> Iterator[np.ndarray]:
    """The arrays that `adapt` was given: one array, or batches (x, or x first) of a list, generator or PyDataset."""
    if isinstance(data, np.ndarray | Tensor) or not isinstance(data, Iterable) or hasattr(data, "__array__"):
        yield _numbers(data)
        return
    for batch in itertools.islice(data, steps):
        yield _numbers(batch[0] if isinstance(batch, tuple) else batch)


def _numbers(data: Any) -> np.ndarray:
    array = np.asarray(data)
    try:
        return array if array.dtype.kind in "fiub" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"adapt of this layer takes numbers, received dtype {array.dtype} ({error}): drop columns of strings, or look "
            "them up by StringLookup"
        ) from None


_Axes = Annotated[Any, option.optional(option.Several)]
_Mean = Annotated[option.Anything, "input_mean"]
_Variance = Annotated[option.Anything, "input_variance"]


class Normalization(SameShape):
    """(inputs - mean) / sqrt(variance), with a given mean and variance, or ones that `adapt` learns.

    Args:
        axis: The axes with separate statistics for each index, such as the features; None for one mean over all numbers.
        mean (a number, an array, or None): The mean, a number or values along the last of these axes; None to learn it.
        variance (a number, an array, or None): The variance, like the mean. Give both or neither.
        invert: Whether to compute inputs * sqrt(variance) + mean instead.

    Call arguments:
        inputs: Numbers of any shape; sizes along `axis` must be known.

    Output shape:
        The inputs' shape, in the layer's dtype.

    Raises:
        ValueError: for a mean without a variance, for axes that the inputs lack, and for inputs of other sizes.

    Example:
        >>> layer = layers.Normalization()
        >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
        >>> layer(np.array([[3.0, 20.0]])).numpy()
        array([[1., 0.]], dtype=float32)
        >>> layers.Normalization(mean=2.0, variance=4.0)(np.array([[2.0, 4.0]])).numpy()
        array([[0., 1.]], dtype=float32)
    """

    axis: tuple
    adapt_mean: Any = None
    adapt_variance: Any = None

    def __init__(
        self,
        axis: _Axes = -1,
        mean: _Mean = None,
        variance: _Variance = None,
        invert: option.Flag = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.axis = self.axis or ()
        if None in self.axis:
            raise ValueError(f"Normalization's axis must consist of integers, received {self.axis}")
        mean, variance = (None if each is None else array_of(each) for each in (mean, variance))
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                "Normalization's mean and variance must be given together, with the same shape; received "
                f"{briefly(mean)} and {briefly(variance)}"
            )
        if np.ndim(mean if mean is not None else 0) > len(self.axis):
            raise ValueError(f"Normalization's mean has shape {np.shape(mean)}, more axes than axis={self.axis}")

    def build(self, input_shape):
        ndim = len(input_shape)
        if any(not -ndim <= axis < ndim for axis in self.axis):
            raise ValueError(f"Normalization {self.name!r} has axis={self.axis}, but its input has shape {input_shape}")
        self._kept = sorted(axis % ndim for axis in self.axis)
        sizes = tuple(input_shape[axis] for axis in self._kept)
        if None in sizes:
            raise ValueError(
                f"Normalization {self.name!r} needs the sizes of axes {self._kept}, received shape {tuple(input_shape)}"
            )
        self._broadcast = tuple(input_shape[axis] if axis in self._kept else 1 for axis in range(ndim))
        if self.input_mean is None:
            self.adapt_mean = self.add_weight(sizes, "zeros", trainable=False, name="mean")
            self.adapt_variance = self.add_weight(sizes, "ones", trainable=False, name="variance")
            # unused, but Keras's files contain it
            self.count = self.add_weight((), "zeros", "int32", False, name="count")

    @property
    def mean(self):
        """The mean, in a shape that broadcasts to the input; None before it is known."""
        return self._statistic(self.input_mean, self.adapt_mean)

    @property
    def variance(self):
        """The variance, in a shape that broadcasts to the input; None before it is known."""
        return self._statistic(self.input_variance, self.adapt_variance)

    def _statistic(self, given: Any, learned: Any) -> Any:
        if not self.built:
            return None
        if given is None:
            return ops.reshape(learned, self._broadcast)
        numbers, shape = ops.convert_to_tensor(given, self.dtype), [1] * len(self._broadcast)
        for axis, size in zip(reversed(self._kept), reversed(numbers.shape), strict=False):
            shape[axis] = size
        return ops.broadcast_to(ops.reshape(numbers, shape), self._broadcast)

    def adapt(self, data) -> None:
        """Learn mean and variance from data, replacing earlier ones.

        Args:
            data: An array, or batches of arrays: a list, a generator or a PyDataset. If a batch is a tuple, its first element
                is used.

        Raises:
            ValueError: if the layer was created with a mean, or for data of other sizes.

        Example:
            >>> layer = layers.Normalization()
            >>> layer.adapt(np.array([[1.0], [3.0]]))
            >>> layer(np.array([[2.0], [5.0]])).numpy()
            array([[0.],
                   [3.]], dtype=float32)
        """
        if self.input_mean is not None:
            raise ValueError(f"Normalization {self.name!r} was created with a mean and a variance and cannot adapt")
        count, mean, square = 0, np.float64(0), np.float64(0)  # square: the sum of squared distances from the mean
        for batch in _watched(self, _batches_of(data)):
            if not self.built:
                self._ensure_built(batch)
            if len(batch.shape) != len(self._broadcast) or any(
                batch.shape[axis] != self._broadcast[axis] for axis in self._kept
            ):
                raise ValueError(
                    f"Normalization {self.name!r} was built for sizes {self._broadcast} (1: any), received data of shape "
                    f"{batch.shape}"
                )
            axes = tuple(axis for axis in range(batch.ndim) if axis not in self._kept)
            own = batch.astype(np.float64)
            with np.errstate(invalid="ignore"):  # infinite numbers have no variance
                more, middle = math.prod(batch.shape[axis] for axis in axes), own.mean(axis=axes)
                total = count + more
                square = square + own.var(axis=axes) * more + (middle - mean) ** 2 * (count * more / total)
                mean, count = mean + (middle - mean) * (more / total), total
        if not count:
            raise ValueError(f"Normalization {self.name!r}: adapt needs data, received none")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(square / count)

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        spread = ops.maximum(ops.sqrt(self.variance), config.epsilon())
        if self.invert:
            return ops.add(self.mean, ops.multiply(inputs, spread))
        return ops.divide(ops.subtract(inputs, self.mean), spread)


def _boundaries(name: str, what: str, edges: Any) -> list[float] | None:
    return None if edges is None else [float(edge) for edge in edges]


_Boundaries = Annotated[Any, option.kind(_boundaries, "rising numbers, or None")]
_BinCount = Annotated[Any, option.optional(option.Size)]


class Discretization(option.Declared, Layer):
    """The index of the bin of each number: the number of boundaries that are not above it.

    Args:
        bin_boundaries: The boundaries, for len(bin_boundaries) + 1 bins; None to learn them with `adapt`.
        num_bins: The number of bins if `adapt` learns boundaries; None if boundaries are given.
        epsilon: The error of the ranks of learned boundaries, as a fraction of the data.
        output_mode ('int', 'one_hot', 'multi_hot' or 'count'): 'int' for the index, int32; the others give indicators of the
            bins, as in CategoryEncoding.
        sparse: Accepted for Keras scripts.

    Call arguments:
        inputs: Numbers of any shape.

    Output shape:
        The inputs' shape; for other modes see CategoryEncoding.

    Raises:
        ValueError: for both or neither of `bin_boundaries` and `num_bins`, and for a call before `adapt`.

    Example:
        >>> layers.Discretization([0.0, 1.0])(np.array([-1.0, 0.0, 0.5, 3.0])).numpy()
        array([0, 1, 1, 2], dtype=int32)
        >>> layer = layers.Discretization(num_bins=2)
        >>> layer.adapt(np.array([1.0, 2.0, 3.0, 4.0]))
        >>> layer.bin_boundaries
        [2.0]
    """

    modes = MODES
    _unwritten = ("trainable", "activity_regularizer", "autocast")

    def __init__(
        self,
        bin_boundaries: _Boundaries = None,
        num_bins: _BinCount = None,
        epsilon: option.Number = 0.01,
        output_mode: OutputMode = "int",
        sparse: NotSparse = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(
                "Discretization needs either bin_boundaries or num_bins, received "
                f"{briefly(bin_boundaries)} and {briefly(num_bins)}"
            )

    def adapt(self, data, steps: int | None = None) -> None:
        """Learn the boundaries from data: quantiles, so that each bin holds about the same number of values.

        Args:
            data: An array, or batches of arrays: a list, a generator or a PyDataset.
            steps: The number of batches that are read; None for all.

        Raises:
            ValueError: if the layer was created with boundaries.
        """
        if self.num_bins is None:
            raise ValueError(
                f"Discretization {self.name!r} was created with bin_boundaries: create it with num_bins to adapt it"
            )
        summary = np.zeros((2, 0), np.float32)
        for batch in _watched(self, _batches_of(data, steps)):
            joined = np.concatenate([_summary(batch, self.epsilon), summary], axis=1)
            summary = _compressed(joined[:, np.argsort(joined[0])], self.epsilon)
        if not summary.size:
            raise ValueError(f"Discretization {self.name!r}: adapt needs data, received none")
        self.bin_boundaries = _compressed(summary, 1 / self.num_bins)[0, :-1].tolist()

    def load_own_variables(self, store) -> None:
        """Compute the boundaries from the summary of the data that a file of Keras 2 has; other files have none.

        Args:
            store: A dict-like object with arrays by name.
        """
        if "0" in store and self.num_bins is not None:
            self.bin_boundaries = _compressed(np.asarray(store["0"]), 1 / self.num_bins)[0, :-1].tolist()

    def call(self, inputs):
        if self.bin_boundaries is None:
            raise ValueError(f"Discretization {self.name!r} has no bin_boundaries yet: call adapt(data) first")
        # a layer of Keras 2 for whole numbers has an integer dtype, and boundaries between integers
        dtype = self.compute_dtype if "float" in self.compute_dtype else config.floatx()
        edges = ops.convert_to_tensor(np.asarray(self.bin_boundaries, "float64"), dtype)
        bins, is_index = len(self.bin_boundaries) + 1, self.output_mode == "int"
        # NaN is below no edge, so it gets the last bin
        below = ops.less(ops.expand_dims(ops.cast(inputs, dtype), -1), edges)
        numbers = bins - 1 - ops.sum(ops.cast(below, "int32"), axis=-1)
        return encoded(numbers, self.output_mode, bins, "int32" if is_index else self.compute_dtype)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A layer from `get_config`, with its learned boundaries.

        Args:
            config: The configuration.
            custom_objects: Custom classes and functions, by name.
        """
        config = dict(config)
        learned = config.pop("bin_boundaries") if config.get("num_bins") is not None else None
        layer = super().from_config(config, custom_objects)
        layer.bin_boundaries = learned if learned is not None else layer.bin_boundaries
        return layer


def _watched(layer: Layer, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The batches that a layer adapts to; a warning after them if they hold NaN or infinite numbers."""
    nans = infinite = size = 0
    for batch in batches:
        if batch.dtype.kind == "f":
            nans, infinite = nans + int(np.isnan(batch).sum()), infinite + int(np.isinf(batch).sum())
        size += batch.size
        yield batch
    if nans or infinite:
        warn(
            f"{type(layer).__name__} {layer.name!r}: adapt received {counted(nans, infinite, size)}, and learns from them: a "
            "mean is then NaN, and a boundary of bins is wrong. Drop these rows (frame.dropna()), or fill their values, as "
            "keras.utils.FeatureSpace with missing='mean' does"
        )


def _summary(values: np.ndarray, epsilon: float) -> np.ndarray:
    """(2, n): at most 1 / epsilon of the numbers, evenly spaced in sorted order, and the count that each represents."""
    values = np.sort(values.astype(np.float32).reshape(-1))
    step = max(values.size * epsilon, 1)
    chosen = values[int(step - 1) :: int(step)]
    return np.stack([chosen, np.full_like(chosen, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """A sorted summary with at most 1 / epsilon numbers, by interpolation between cumulative weights."""
    if summary.shape[1] * epsilon < 1:
        return summary
    parts = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    places = weights / weights[-1]
    totals = np.interp(parts, places, weights)
    return np.stack([np.interp(parts, places, summary[0]), np.diff(totals, prepend=0)]).astype(np.float32)
