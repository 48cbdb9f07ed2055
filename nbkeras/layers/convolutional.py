"""Convolution of sequences and images, and the layers that change their size without weights."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbkeras import activations, constraints, initializers, ops, regularizers
from nbkeras.layer import InputSpec, Layer
from nbkeras.layers.spatial import Spatial, check_lengths
from nbkeras.ops.window import output_length, padding_of, sizes_of


class _Conv(Spatial):
    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(data_format, activity_regularizer=activity_regularizer, **kwargs)
        name = type(self).__name__
        (self.filters,) = sizes_of(name, "filters", filters, 1)
        (self.groups,) = sizes_of(name, "groups", groups, 1)
        if self.filters % self.groups:
            raise ValueError(f"{name}: groups must divide filters, received groups={groups} and filters={filters}")
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, self.rank)
        self.strides = sizes_of(name, "strides", strides, self.rank)
        self.dilation_rate = sizes_of(name, "dilation_rate", dilation_rate, self.rank)
        self.padding = padding_of(name, padding, ("valid", "same", "causal") if self.rank == 1 else ("valid", "same"))
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # for its errors
        channels = input_shape[self.channel_axis()]
        if channels is None:
            raise ValueError(f"layer {self.name!r} needs the number of channels, received shape {tuple(input_shape)}")
        if channels % self.groups:
            raise ValueError(
                f"layer {self.name!r}: groups must divide the channels, received groups={self.groups} and an input of shape "
                f"{tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            (*self.kernel_size, channels // self.groups, self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis(): channels})
        self.built = True

    def call(self, inputs):
        convolution = ops.conv1d if self.rank == 1 else ops.conv2d
        return convolution(
            inputs,
            self.kernel,
            self.bias,
            self.strides,
            self.padding,
            self.dilation_rate,
            self.data_format,
            self.activation,
        )

    def compute_output_shape(self, input_shape):
        windows = zip(self.lengths(input_shape), self.kernel_size, self.strides, self.dilation_rate, strict=True)
        lengths = [output_length(*window, self.padding) for window in windows]
        check_lengths(self, input_shape, lengths, f"kernel_size={self.kernel_size}")
        return self.with_lengths(input_shape, lengths, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
            "padding": self.padding,
            "dilation_rate": list(self.dilation_rate),
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


class Conv1D(_Conv):
    """activation(conv(inputs, kernel) + bias) of sequences: (batch, steps, channels) -> (batch, new steps, filters).

    kernel_size, strides, dilation_rate: integers. padding: 'valid', 'same', or 'causal' (a step sees no later one).
    groups: channels and filters are split into as many parts that do not see each other. Kernel: (size, channels / groups,
    filters). data_format 'channels_first' is slower: it is transposed there and back.
    """

    rank = 1


class Conv2D(_Conv):
    """activation(conv(inputs, kernel) + bias) of images: (batch, rows, columns, channels) -> (..., filters).

    kernel_size, strides, dilation_rate: an integer or two. padding: 'valid' or 'same'. groups: channels and filters are
    split into as many parts that do not see each other. Kernel: (height, width, channels / groups, filters). data_format
    'channels_first' is slower: it is transposed there and back.
    """


# -------------------- padding and cropping --------------------


def _margins(layer: Layer, what: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """((before, after), ...) from an integer, from one integer per axis, or from pairs; one axis takes a pair as such."""
    given = value if isinstance(value, list | tuple) else (value,) * rank
    pairs = (given,) if rank == 1 and len(given) == 2 else given
    found = []
    for pair in pairs:
        sides = tuple(pair) if isinstance(pair, list | tuple) else (pair, pair)
        if len(sides) == 2 and all(isinstance(n, int | np.integer) and n >= 0 for n in sides):
            found.append((int(sides[0]), int(sides[1])))
    if len(found) != rank or len(pairs) != rank:
        forms = (
            "an integer or (before, after)"
            if rank == 1
            else "an integer, (rows, columns), or ((top, bottom), (left, right))"
        )
        raise ValueError(f"{type(layer).__name__}: {what} must be {forms}, none negative, received {value!r}")
    return tuple(found)


class _ZeroPadding(Spatial):
    output_dtype = "input"

    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.padding = _margins(self, "padding", padding, self.rank)

    def call(self, inputs):
        widths = [(0, 0)] * (self.rank + 2)
        for axis, width in zip(self.space(), self.padding, strict=True):
            widths[axis] = width
        return ops.pad(inputs, widths)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.padding, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n + sum(width) for n, width in lengths])

    def get_config(self):
        return {**super().get_config(), "padding": _listed(self.padding)}


def _listed(margins: tuple) -> list:
    pairs = [list(pair) for pair in margins]
    return pairs[0] if len(pairs) == 1 else pairs


class ZeroPadding1D(_ZeroPadding):
    """Zeros before and after sequences. padding: an integer, or (before, after)."""

    rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images. padding: an integer, (rows, columns), or ((top, bottom), (left, right))."""


class _Cropping(Spatial):
    output_dtype = "input"

    def __init__(self, cropping, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.cropping = _margins(self, "cropping", cropping, self.rank)

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # for its errors
        kept = [slice(None)] * (self.rank + 2)
        for axis, (before, after) in zip(self.space(), self.cropping, strict=True):
            kept[axis] = slice(before, inputs.shape[axis] - after)
        return inputs[tuple(kept)]

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.cropping, strict=True)
        kept = [None if n is None else n - sum(width) for n, width in lengths]
        check_lengths(self, input_shape, kept, f"cropping={self.cropping}")
        return self.with_lengths(input_shape, kept)

    def get_config(self):
        return {**super().get_config(), "cropping": _listed(self.cropping)}


class Cropping1D(_Cropping):
    """Steps cut off before and after sequences. cropping: an integer, or (before, after)."""

    rank = 1

    def __init__(self, cropping=(1, 1), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class Cropping2D(_Cropping):
    """Edges cut off images. cropping: an integer, (rows, columns), or ((top, bottom), (left, right))."""

    def __init__(self, cropping=((0, 0), (0, 0)), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


# -------------------- growing --------------------


class UpSampling1D(Spatial):
    """Each step `size` times in a row."""

    rank = 1
    output_dtype = "input"

    def __init__(self, size=2, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        (self.size,) = sizes_of("UpSampling1D", "size", size, 1)

    def call(self, inputs):
        return ops.repeat(inputs, self.size, axis=self.space()[0])

    def compute_output_shape(self, input_shape):
        return self.with_lengths(input_shape, [None if n is None else n * self.size for n in self.lengths(input_shape)])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class UpSampling2D(Spatial):
    """Images made larger by whole factors, `size`: (rows, columns). interpolation: 'nearest' or 'bilinear'."""

    output_dtype = "input"

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(data_format, **kwargs)
        self.size = sizes_of("UpSampling2D", "size", size, 2)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(
                f"UpSampling2D: interpolation must be 'nearest' or 'bilinear' (Keras's bicubic and lanczos are not "
                f"offered), received {interpolation!r}"
            )
        self.interpolation = interpolation

    def call(self, inputs):
        rows, columns = self.space()
        if self.interpolation == "nearest":
            return ops.repeat(ops.repeat(inputs, self.size[0], axis=rows), self.size[1], axis=columns)
        if self.data_format == "channels_first":
            return _along_rows_and_columns(inputs, self.size)
        channels_first = ops.moveaxis(inputs, -1, 1)
        return ops.moveaxis(_along_rows_and_columns(channels_first, self.size), 1, -1)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.size, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n * factor for n, factor in lengths])

    def get_config(self):
        return {**super().get_config(), "size": list(self.size), "interpolation": self.interpolation}


def _along_rows_and_columns(images, size: tuple[int, ...]):
    """Bilinear interpolation of (batch, channels, rows, columns): a matrix from the left, another from the right."""
    left, right = (_blend(n, factor) for n, factor in zip(images.shape[2:], size, strict=True))
    return ops.matmul(ops.matmul(left, images), right.T)


@functools.lru_cache(maxsize=64)
def _blend(length: int, factor: int) -> np.ndarray:
    """(length * factor, length): weights of the two nearest places, with pixels' centres at halves and edges repeated."""
    at = np.clip((np.arange(length * factor) + 0.5) / factor - 0.5, 0, length - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)))
