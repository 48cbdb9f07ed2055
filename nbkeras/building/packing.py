"""Floor 2: quantized weights: their integers and scales, and the variables that hold them.

Of 4 bits: how a layer's weight becomes a matrix, and the matrix bytes with scales.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Variable
from nbkeras.ops.packed import Encoded, Layout, PackedVariable
from nbkeras.ops.quantized import QuantizedVariable
from nbkeras.quantizers.rounding import EPSILON, AbsMaxQuantizer, grouped, integers_of, limits_of, packed_pairs


def layout_of(layer: Any, name: str, shape: tuple[int, ...], config: Any) -> Layout:
    """How a weight becomes a matrix: a row for each index of the summed axes, or of an embedding's table."""
    inputs = limits_of(config.activation_quantizer)
    channels, _ = layer.channels_of_scale(name, shape)
    columns = math.prod(shape[axis] for axis in channels)
    rows = math.prod(size for axis, size in enumerate(shape) if axis not in channels)
    if config.mode != "int4":
        return Layout(shape, columns, rows, axis=0 if config.weight_bits == 4 else 2, by=1, is_turned=True)
    if name == "embeddings":
        return Layout(shape, shape[0], shape[1], axis=1, by=1, inputs=inputs)
    return Layout(shape, rows, columns, axis=0 if name == "reverse_embeddings" else 1, inputs=inputs)


def encode(values: np.ndarray, layout: Layout, config: Any) -> Encoded:
    """The arrays for a weight's values, as Keras computes them."""
    matrix = values.reshape(layout.rows, layout.columns)
    if config.block_size in (None, -1):
        given = config.weight_quantizer
        quantizer = AbsMaxQuantizer((layout.by,), (-8, 7), EPSILON if given is None else given.epsilon)
        integers, scale = integers_of(matrix, quantizer)
        return Encoded(packed_pairs(integers, layout.axis), scale.reshape(-1), None, None)
    turned = matrix.T if layout.by else matrix
    integers, scale, zero = (each.T if layout.by else each for each in grouped(turned, config.block_size))
    packed = packed_pairs(np.ascontiguousarray(integers), layout.axis)
    return Encoded(packed, np.ascontiguousarray(scale), np.ascontiguousarray(zero), _groups(layout, config.block_size))


def encoded_weight(layer: Any, name: str, values: np.ndarray, config: Any) -> tuple:
    """(integers, scale, configuration) of int8 for a weight's values, or (Layout, Encoded) of 4 bits."""
    if config.mode != "int4":
        return (*_integers(layer, name, values, config), config)
    layout = layout_of(layer, name, values.shape, config)
    return layout, encode(values, layout, config)


def _integers(layer: Any, name: str, values: np.ndarray, config: Any) -> tuple:
    """Integers for a weight's values, and their scale, whose axes are in the order of the weight's channels."""
    channels, _ = layer.channels_of_scale(name, values.shape)
    integers, scale = integers_of(values, weight_quantizer(layer, name, values.shape, config))
    scale = scale.reshape([values.shape[axis] for axis in sorted(channels)])
    return integers, scale.transpose([sorted(channels).index(axis) for axis in channels])


def integers_for(layer: Any, name: str, weight: Any, values: np.ndarray) -> dict[int, np.ndarray]:
    """New values for a quantized weight: the arrays of its variables, by their ids, in the shapes that files have."""
    first, second, *_ = encoded_weight(layer, name, values, layer.quantization_config)
    if layer.quantization_mode == "int4":
        arrays = [each for each in second if each is not None]
    else:
        arrays = [first, second.reshape(layer.channels_of_scale(name, values.shape)[1])]
    return {id(each): array for each, array in zip([weight, *weight.companions], arrays, strict=True)}


def weight_quantizer(layer: Any, name: str, shape: tuple[int, ...], config: Any) -> AbsMaxQuantizer:
    """The quantizer of a weight, with axes. Raises ValueError if its axes do not match the axes that share a scale."""
    channels, _ = layer.channels_of_scale(name, shape)
    axes = tuple(axis for axis in range(len(shape)) if axis not in channels)
    given = config.weight_quantizer or AbsMaxQuantizer(axes)
    if given.axis is None or sorted(axis % len(shape) for axis in given.axis) != list(axes):
        raise ValueError(
            f"the weight_quantizer of layer {layer.name!r} ({type(layer).__name__}) must have axis={axes}: its product is "
            f"divided by a scale for each output. Received axis={given.axis}"
        )
    return given


def empty(layout: Layout, config: Any, dtype: str) -> Encoded:
    """The arrays of a weight that a file will fill."""
    sizes = [layout.rows, layout.columns]
    length = sizes[layout.by]
    packed = list(sizes)
    if layout.axis < 2:
        packed[layout.axis] = (packed[layout.axis] + 1) // 2
    kind, size = (np.int8, config.block_size) if config.mode == "int4" else (np.uint8, config.group_size)
    values = np.zeros(packed, kind)
    if config.mode == "int4" and size in (None, -1):
        return Encoded(values, np.ones(sizes[1 - layout.by], dtype), None, None)
    size = length if size == -1 else size
    sizes[layout.by] = math.ceil(length / size)
    divisor = np.ones(length, dtype) if config.mode == "awq" else None
    return Encoded(values, np.ones(sizes, dtype), np.zeros(sizes, kind), _groups(layout, size), divisor)


def _groups(layout: Layout, size: int) -> np.ndarray:
    return (np.arange((layout.rows, layout.columns)[layout.by]) // size).astype("float32")


def packed_variable(layer: Any, name: str, layout: Layout, encoded: Encoded) -> tuple[PackedVariable, list[Variable]]:
    """The variable of a weight, and the ones beside it in files. Their attributes have Keras's names."""
    of_reverse = name == "reverse_embeddings"  # it shares the groups of `embeddings`, and has zero points as floats
    arrays = {f"{name}_scale": encoded.scale, f"{name}_zero": encoded.zero}
    arrays |= {} if of_reverse else {"awq_scales": encoded.divisor, "g_idx": encoded.groups}
    made: dict[str, Variable] = {}
    for each, array in arrays.items():
        if array is not None:
            dtype = layer.dtype if of_reverse else array.dtype
            made[each] = Variable(array, dtype=dtype, trainable=False, name=each)
            setattr(layer, each, made[each])
    groups = layer.g_idx if of_reverse and encoded.groups is not None else made.get("g_idx")
    scale, zero = made[f"{name}_scale"], made.get(f"{name}_zero")
    divisor = made.get("awq_scales")
    return PackedVariable(encoded.values, layout, scale, zero, groups, divisor, name), list(made.values())


def add_quantized(layer: Any, name: str, shape: tuple[int, ...]) -> Variable:
    """Add a quantized weight of zeros with a scale of ones, for a layer with a quantized dtype policy."""
    config = layer.quantization_config
    if config.mode != "int8":
        layout = layout_of(layer, name, shape, config)
        return inserted(layer, packed_variable(layer, name, layout, empty(layout, config, layer.dtype)))
    ones = np.ones(layer.channels_of_scale(name, shape)[1], layer.dtype)
    return inserted(layer, int8_variable(layer, name, np.zeros(shape, np.int8), ones, config))


def int8_variable(
    layer: Any, name: str, values: np.ndarray, scale: np.ndarray, config: Any
) -> tuple[Variable, list[Variable]]:
    """A weight of int8, and its scale."""
    channels, stored = layer.channels_of_scale(name, values.shape)
    factor = Variable(scale.reshape(stored), dtype=scale.dtype, trainable=False, name=f"{name}_scale")
    setattr(layer, f"{name}_scale", factor)
    return QuantizedVariable(values, factor, channels, limits_of(config.activation_quantizer), name), [factor]


def inserted(layer: Any, made: tuple[Any, list[Variable]], at: int | None = None) -> Variable:
    """Insert a weight and the variables beside it into the layer's weights."""
    weight, companions = made
    weight.companions = companions
    for each in (weight, *companions):
        each.path = layer._path_of_weight(each.name)
        each.declared_trainable = False
    at = len(layer._weights) if at is None else at
    layer._weights[at:at] = [weight, *companions]
    return weight
