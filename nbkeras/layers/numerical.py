"""Rescaling, Normalization and Discretization of numbers. `adapt` learns from data, with NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import Layer
from nbkeras.engine.options import config_from
from nbkeras.engine.tensor import Tensor
from nbkeras.layers.categorical import MODES, check_mode, encoded
from nbkeras.layers.same_shape import SameShape


class Rescaling(SameShape):
    """inputs * scale + offset, in the layer's dtype; each of the two is a number, or one number per channel."""

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs):
        scale, offset = (self._by_channel(value) for value in (self.scale, self.offset))
        return ops.add(ops.multiply(ops.cast(inputs, self.dtype), scale), offset)

    def _by_channel(self, value: Any) -> Any:
        array = np.asarray(value, self.dtype)
        if array.ndim and config.image_data_format() == "channels_first":
            array = array.reshape(array.shape + (1,) * (3 - array.ndim))
        return array

    get_config = config_from(__init__)


def batches_of(data: Any, steps: int | None = None) -> Iterator[np.ndarray]:
    """The arrays that `adapt` was given: one array, or batches (x, or x first) of a list, generator or PyDataset."""
    if isinstance(data, np.ndarray | Tensor) or not isinstance(data, Iterable) or hasattr(data, "__array__"):
        yield np.asarray(data)
        return
    for batch in itertools.islice(data, steps):
        yield np.asarray(batch[0] if isinstance(batch, tuple) else batch)


class Normalization(SameShape):
    """(inputs - mean) / sqrt(variance), or its inverse with `invert`; mean and variance are passed, or learned by `adapt`.

    axis: the axes whose indices have separate statistics, the last by default, None for none. Passed values lie along the last
    of these axes, or are numbers.
    """

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                f"Normalization's mean and variance must be given together, in one shape; received {mean!r} and {variance!r}"
            )
        if np.ndim(mean if mean is not None else 0) > len(self.axis):
            raise ValueError(
                f"Normalization's mean has shape {np.shape(mean)}, more axes than there are in axis={self.axis}"
            )
        self.input_mean, self.input_variance, self.invert = mean, variance, bool(invert)
        self.adapt_mean = self.adapt_variance = None

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
            self.count = self.add_weight((), "zeros", "int32", False, name="count")  # in Keras's files, unused
        self.built = True

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
        array, shape = np.asarray(given, self.dtype), [1] * len(self._broadcast)
        for axis, size in zip(reversed(self._kept), reversed(array.shape), strict=False):
            shape[axis] = size
        return ops.broadcast_to(array.reshape(shape), self._broadcast)

    def adapt(self, data) -> None:
        """Learn mean and variance from an array, or from batches: a list, a generator or a PyDataset of arrays."""
        if self.input_mean is not None:
            raise ValueError(f"Normalization {self.name!r} was given a mean and a variance: it learns none")
        count, mean, square = 0, np.float64(0), np.float64(0)  # square: the sum of squared distances from the mean
        for batch in batches_of(data):
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
            more, middle = math.prod(batch.shape[axis] for axis in axes), own.mean(axis=axes)
            total = count + more
            square = square + own.var(axis=axes) * more + (middle - mean) ** 2 * (count * more / total)
            mean, count = mean + (middle - mean) * (more / total), total
        if not count:
            raise ValueError(f"Normalization {self.name!r}: adapt needs data, received none")
        self.adapt_mean.assign(np.asarray(mean, self.dtype))
        self.adapt_variance.assign(np.asarray(square / count, self.dtype))

    def call(self, inputs):
        inputs = ops.cast(inputs, self.dtype)
        spread = ops.maximum(ops.sqrt(self.variance), config.epsilon())
        if self.invert:
            return ops.add(self.mean, ops.multiply(inputs, spread))
        return ops.divide(ops.subtract(inputs, self.mean), spread)

    get_config = config_from(__init__, mean="input_mean", variance="input_variance")


class Discretization(Layer):
    """The index of the bin of each number: the count of boundaries that are not above it.

    bin_boundaries: rising numbers; or num_bins: `adapt` learns the boundaries as quantiles, whose ranks are right to within
    `epsilon` of the data. output_mode: 'int' gives int32; 'one_hot', 'multi_hot', 'count' give indicators of the bins, like
    CategoryEncoding.
    """

    sparse = False

    def __init__(self, bin_boundaries=None, num_bins=None, epsilon=0.01, output_mode="int", sparse=False, **kwargs):
        super().__init__(**kwargs)
        self.output_mode = check_mode(self, output_mode, MODES, sparse)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(
                f"Discretization needs either bin_boundaries or num_bins, received {bin_boundaries!r} and {num_bins!r}"
            )
        if num_bins is not None and num_bins < 1:
            raise ValueError(f"Discretization's num_bins must be positive, received {num_bins!r}")
        self.bin_boundaries = None if bin_boundaries is None else [float(edge) for edge in bin_boundaries]
        self.num_bins, self.epsilon = num_bins, epsilon

    def adapt(self, data, steps=None) -> None:
        """Learn the boundaries from an array, or from batches (`steps` of them at most)."""
        if self.num_bins is None:
            raise ValueError(
                f"Discretization {self.name!r} was given bin_boundaries: make it with num_bins to adapt it"
            )
        summary = np.zeros((2, 0), np.float32)
        for batch in batches_of(data, steps):
            joined = np.concatenate([_summary(batch, self.epsilon), summary], axis=1)
            summary = _compressed(joined[:, np.argsort(joined[0])], self.epsilon)
        if not summary.size:
            raise ValueError(f"Discretization {self.name!r}: adapt needs data, received none")
        self.bin_boundaries = _compressed(summary, 1 / self.num_bins)[0, :-1].tolist()

    def call(self, inputs):
        if self.bin_boundaries is None:
            raise ValueError(f"Discretization {self.name!r} has no bin_boundaries yet: call adapt(data) first")
        edges = np.asarray(self.bin_boundaries, self.dtype)
        passed = ops.greater_equal(ops.expand_dims(ops.cast(inputs, self.dtype), -1), edges)
        numbers = ops.sum(ops.cast(passed, "int32"), axis=-1)
        return encoded(numbers, self.output_mode, len(edges) + 1, self.dtype)

    get_config = config_from(__init__, leave_out="trainable activity_regularizer autocast")

    @classmethod
    def from_config(cls, config):
        """A layer from `get_config`, with the boundaries that it learned."""
        config = dict(config)
        learned = config.pop("bin_boundaries") if config.get("num_bins") is not None else None
        layer = cls(**config)
        layer.bin_boundaries = learned if learned is not None else layer.bin_boundaries
        return layer


def _summary(values: np.ndarray, epsilon: float) -> np.ndarray:
    """(2, n): at most 1 / epsilon of the numbers, evenly spaced in sorted order, and how many numbers each represents."""
    values = np.sort(values.astype(np.float32).reshape(-1))
    step = max(values.size * epsilon, 1)
    chosen = values[int(step - 1) :: int(step)]
    return np.stack([chosen, np.full_like(chosen, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """A sorted summary with 1 / epsilon numbers at most, by interpolation between cumulated weights."""
    if summary.shape[1] * epsilon < 1:
        return summary
    parts = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    places = weights / weights[-1]
    totals = np.interp(parts, places, weights)
    return np.stack([np.interp(parts, places, summary[0]), np.diff(totals, prepend=0)]).astype(np.float32)
