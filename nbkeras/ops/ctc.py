"""Connectionist temporal classification: the differentiable loss, and the decoding of a model's outputs."""

from typing import Any

import numpy as np

from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor, apply, op
from nbkeras.kernels import ctc
from nbkeras.ops.activations import log_softmax
from nbkeras.ops.arguments import as_float, as_index
from nbkeras.ops.creation import arange, zeros
from nbkeras.ops.elementwise import equal, greater_equal, logical_or, negative, where
from nbkeras.ops.indexing import argsort, take_along_axis
from nbkeras.ops.reduce import argmax, max, sum
from nbkeras.ops.shape import concatenate, expand_dims, reshape


def _lengths(name: str, value: Any, output: Tensor) -> Tensor:
    lengths = as_index(value, np.int32)
    if output.ndim != 3 or lengths.size != len(output):
        raise ValueError(
            f"{name} expects outputs (batch, time, classes) and a length for each sequence, (batch,), received shapes "
            f"{output.shape} and {lengths.shape}"
        )
    return reshape(lengths, (len(output),))


def _blank(name: str, mask_index: int | None, classes: int) -> int:
    """The blank's class; the last class for None."""
    blank = -1 if mask_index is None else int(mask_index)
    if not -classes <= blank < classes:
        raise ValueError(f"{name}: mask_index must be one of {classes} classes, received {mask_index!r}")
    return blank % classes


@op
def ctc_loss(target, output, target_length, output_length, mask_index: int = 0) -> Tensor:
    """-log of the probability of label sequences over all alignments with blanks (Graves et al., 2006).

    Shapes: target (batch, labels) integers, output (batch, time, classes) logits, lengths (batch,) integers -> (batch,).
    mask_index: the blank's class. A label sequence too long for its output has loss infinity and gradient 0; a label or a
    length out of range gives NaN. Differentiable in output.
    """
    output, target = as_float(output), as_index(target, np.int32)
    lengths = [_lengths("ctc_loss", each, output) for each in (target_length, output_length)]
    if target.ndim != 2 or len(target) != len(output):
        raise ValueError(f"ctc_loss: target must be ({len(output)}, labels), received shape {target.shape}")
    blank = _blank("ctc_loss", mask_index, output.shape[2])
    return apply(ctc.ctc, ctc.ctc_vjp, [target, log_softmax(output), *lengths], blank=blank)


@op
def ctc_decode(
    inputs,
    sequence_lengths,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> tuple[Tensor, Tensor]:
    """Label sequences from logits (batch, time, classes): int32 (paths, batch, time), -1 after their ends, and scores.

    'greedy': the most likely class of each step, without blanks; repeats are merged unless merge_repeated=False. The score
    (batch, 1) is minus the sum of their logits. 'beam_search': the `top_paths` most likely sequences among the `beam_width`
    kept at each step, with their log-probabilities (batch, top_paths). mask_index: the blank's class, the last for None.
    """
    inputs = as_float(inputs)
    lengths = _lengths("ctc_decode", sequence_lengths, inputs)
    blank = _blank("ctc_decode", mask_index, inputs.shape[2])
    if one_of("ctc_decode", "strategy", strategy, ("greedy", "beam_search")) == "greedy":
        return _best_of_each_step(inputs, lengths, merge_repeated, blank)
    if not 1 <= top_paths <= beam_width:
        raise ValueError(f"ctc_decode: top_paths must be from 1 to beam_width={beam_width}, received {top_paths!r}")
    return apply(ctc.beam_search, None, [log_softmax(inputs), lengths], width=beam_width, paths=top_paths, blank=blank)


def _best_of_each_step(inputs: Tensor, lengths: Tensor, merge_repeated: bool, blank: int) -> tuple[Tensor, Tensor]:
    time = inputs.shape[1]
    steps = expand_dims(arange(time, dtype="int32"), 0)
    past = greater_equal(steps, expand_dims(lengths, 1))
    classes = where(past, blank, argmax(inputs, axis=-1))
    score = negative(sum(where(past, 0.0, max(inputs, axis=-1)), axis=1, keepdims=True))
    absent = equal(classes, blank)
    if merge_repeated and time > 1:
        again = concatenate([zeros((len(inputs), 1), "bool"), equal(classes[:, 1:], classes[:, :-1])], axis=1)
        absent = logical_or(absent, again)
    order = argsort(where(absent, time, steps), axis=-1)
    return expand_dims(take_along_axis(where(absent, -1, classes), order, axis=-1), 0), score
