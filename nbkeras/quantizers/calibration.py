"""Weights rounded by samples of inputs, as Keras 3.15.1 does: GPTQ and AWQ.

GPTQ rounds the weights of one input after the other, and the next ones correct its errors. AWQ multiplies the weights of inputs
that are large by a factor before the rounding. Both run a model's blocks on samples, one block after the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor
from nbkeras.quantizers.packing import Encoded, Layout, packed_pairs

_BLOCK = 128  # inputs whose errors are corrected together
_TINY = np.float32(1e-8)


# -------------------- samples --------------------


def samples_of(config: Any) -> np.ndarray:
    """Windows of tokens at even distances, int32 (num_samples, 1, sequence_length); a short data set is repeated."""
    if config.dataset is None or isinstance(config.dataset, str | bytes) or not hasattr(config.dataset, "__iter__"):
        raise ValueError(
            f"mode {config.mode!r} needs samples: the config's dataset must be an array or a list of arrays or strings, received "
            f"{briefly(config.dataset)}"
        )
    pieces = [_tokens(each, config.tokenizer) for each in config.dataset]
    tokens = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
    if not tokens.size:
        raise ValueError("the config's dataset has no tokens")
    length = config.sequence_length
    tokens = np.tile(tokens, math.ceil(max(config.num_samples * length / tokens.size, 1)))
    last = tokens.size - length
    starts = np.arange(config.num_samples) * max(1, (last + 1) // config.num_samples) % (last + 1)
    return np.lib.stride_tricks.sliding_window_view(tokens, length)[starts][:, None, :]


def _tokens(piece: Any, tokenizer: Any) -> np.ndarray:
    if isinstance(piece, str):
        if tokenizer is None:
            raise ValueError("strings in the config's dataset need a tokenizer with a method `tokenize`")
        piece = tokenizer.tokenize(piece)
    return ops.convert_to_numpy(piece).reshape(-1).astype(np.int32)


def encoded_layers(
    model: Any, config: Any, layout_of: Callable[[Any], Layout], takes: Callable[[Any], bool]
) -> Iterator[tuple[Any, Encoded]]:
    """(layer, arrays of its kernel) for each layer of the blocks; a later block gets inputs from the rounded earlier ones.

    layout_of: how a layer's kernel becomes a matrix. takes: whether a layer becomes integers.
    """
    structure = config.quantization_layer_structure
    if structure is None:
        structure = getattr(model, "get_quantization_layer_structure", lambda mode: None)(config.mode)
    if not isinstance(structure, dict) or not structure.get("sequential_blocks"):
        raise ValueError(
            f"mode {config.mode!r} needs to know the model's blocks: a dict with the lists 'pre_block_layers' and "
            "'sequential_blocks', as the config's quantization_layer_structure or from the model's method "
            f"get_quantization_layer_structure(mode); received {briefly(structure)}"
        )
    inputs = [ops.convert_to_tensor(sample) for sample in samples_of(config)]
    for layer in structure.get("pre_block_layers", []):
        inputs = [layer(each) for each in inputs]
    for block in structure["sequential_blocks"]:
        layers = [each for each in block._all_layers() if takes(each)]
        found = {id(layer): _Statistics(layout_of(layer).summed, config) for layer in layers}
        for layer in layers:
            vars(layer)["call"] = functools.partial(found[id(layer)].watch, type(layer).call, layer)
        try:
            for each in inputs:
                block(each)
        finally:
            for layer in layers:
                del vars(layer)["call"]
        for layer in layers:
            kernel = ops.convert_to_numpy(layer.kernel)
            yield layer, found[id(layer)].encode(kernel.reshape(layout_of(layer).summed, -1).T.astype(np.float32))
        inputs = [ops.expand_dims(block(each)[0], 0) for each in inputs]


class _Statistics:
    """The mean of x.T @ x over inputs x, times 2 (the Hessian of the error), and the largest absolute values."""

    def __init__(self, rows: int, config: Any):
        self._config, self._count = config, 0
        self._hessian, self._largest = np.zeros((rows, rows), np.float32), np.zeros(rows, np.float32)

    def watch(self, call: Callable, layer: Any, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Add the inputs of a layer, and call it."""
        self.add(ops.convert_to_numpy(inputs))
        return call(layer, inputs, *args, **kwargs)

    def add(self, inputs: np.ndarray) -> None:
        x = inputs.reshape(-1, len(self._hessian)).astype(np.float32)
        total = self._count + len(x)
        product = x.T @ x
        self._hessian *= np.float32(self._count / total)
        self._hessian += np.float32(2 / total) * ((product + product.T) / 2)
        self._count, self._largest = total, np.maximum(self._largest, np.abs(x).max(0))

    def encode(self, weights: np.ndarray) -> Encoded:
        """The arrays of a matrix (outputs, inputs)."""
        if self._config.mode == "awq":
            return _awq(weights, self._largest, self._config)
        return _gptq(weights, self._hessian, self._config)


# -------------------- rounding --------------------


def _parameters(
    x: np.ndarray, bits: int, symmetric: bool = False, by_rows: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(scale, zero point) of each row, as columns."""
    minimum, maximum = (f(1, keepdims=True) if by_rows else np.full((len(x), 1), f()) for f in (x.min, x.max))
    if symmetric:
        maximum = np.maximum(np.abs(minimum), maximum)
        minimum = np.where(minimum < 0, -maximum, minimum)
    equal, levels = minimum == maximum, np.float32(2**bits - 1)
    minimum, maximum = np.where(equal, minimum - 1, minimum), np.where(equal, maximum + 1, maximum)
    scale = ((maximum - minimum) / levels).astype(np.float32)
    scale = np.where(scale <= 0, _TINY, scale)
    zero = np.full_like(scale, (levels + 1) / 2) if symmetric else np.round(-minimum / scale)
    return scale, np.clip(zero, 0, 255).astype(np.uint8)  # as XLA converts a negative number


def _integers(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.round(x / scale + zero), 0, 2**bits - 1)


def _gptq(weights: np.ndarray, hessian: np.ndarray, config: Any) -> Encoded:
    bits, count = config.weight_bits, weights.shape[1]
    size = count if config.group_size == -1 else config.group_size
    diagonal = hessian.diagonal().copy()
    diagonal[diagonal == 0] = 1
    hessian = hessian.copy()
    np.fill_diagonal(hessian, diagonal + np.float32(config.hessian_damping) * diagonal.mean())
    try:
        inverse = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"GPTQ: the Hessian {hessian.shape} of the samples is singular, because some inputs of the layer depend on others: "
            f"choose a hessian_damping above {config.hessian_damping}, such as 0.01"
        ) from None
    order = np.arange(count)
    if config.activation_order:
        order = np.argsort(-(hessian.diagonal() + order.astype(np.float32) / count * np.float32(1e-12)), kind="stable")
    back = np.argsort(order)
    rest, inverse = weights[:, order], inverse[order][:, order]
    found, factors, points = np.zeros(rest.shape, np.uint8), [], []
    start = -1
    for first in range(0, count, _BLOCK):
        end = min(first + _BLOCK, count)
        block, errors = rest[:, first:end].copy(), np.zeros((len(rest), end - first), np.float32)
        for j in range(first, end):
            if j // size != start:  # as in Keras, from the weights before this block's corrections
                start = j // size
                group = rest[:, start * size : (start + 1) * size]
                scale, zero = _parameters(group, bits, config.symmetric, config.per_channel)
                factors.append(scale)
                points.append(zero)
            at = j - first
            column = block[:, at : at + 1]
            q = _integers(column, scale, zero, bits)
            found[:, j : j + 1] = q
            error = (column - scale * (q - zero)) / inverse[j, j]
            errors[:, at : at + 1] = error
            block[:, at + 1 :] -= error * inverse[j, j + 1 : end]
        rest[:, end:] -= errors @ inverse[first:end, end:]
    groups = (np.arange(count) // size).astype(np.float32)[back]
    values = found[:, back]
    values = packed_pairs(values, 0) if bits == 4 else values
    return Encoded(values, np.concatenate(factors, 1), np.concatenate(points, 1), groups)


def _awq(weights: np.ndarray, largest: np.ndarray, config: Any) -> Encoded:
    largest = np.where(largest < _TINY, np.float32(1), largest)
    best: tuple = (math.inf,)
    for step in range(config.num_grid_points + 1):
        factors = np.maximum(largest ** np.float32(step / config.num_grid_points), np.float32(1e-4))
        factors /= np.maximum(np.sqrt(factors.max() * factors.min()), _TINY)
        q, scale, zero, groups = _by_groups(weights * factors, config.group_size)
        at = groups.astype(int)
        near = scale[:, at] * (q - zero[:, at]) / factors
        loss = np.mean(np.square(weights - near) * np.square(largest))
        if loss < best[0]:
            best = loss, factors, q, scale, zero, groups
    if len(best) == 1:
        raise ValueError("AWQ found no finite error: the weights or the inputs of a layer are not finite")
    _, factors, q, scale, zero, groups = best
    return Encoded(packed_pairs(q.astype(np.uint8), 0), scale, zero, groups, factors)


def _by_groups(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(integers, scales, zero points, group of each column) of 4 bits; a last group that is not full counts zeros too."""
    count = x.shape[1]
    size = count if size == -1 else size
    padded = np.pad(x, [(0, 0), (0, -count % size)]) if size < count else x
    parts = [_parameters(padded[:, first : first + size], 4) for first in range(0, count, size)]
    scale, zero = (np.concatenate(each, 1) for each in zip(*parts, strict=True))
    at = np.arange(count) // size
    return _integers(x, scale[:, at], zero[:, at], 4), scale, zero, at.astype(np.float32)
