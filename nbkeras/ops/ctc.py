"""Connectionist temporal classification: the differentiable loss, and the decoding of a model's outputs."""

from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, apply, as_float, as_index, op
from nbkeras.kernels import ctc
from nbkeras.ops.activations import log_softmax
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
        raise ValueError(f"{name}: mask_index must be one of {classes} classes, received {briefly(mask_index)}")
    return blank % classes


@op
def ctc_loss(target, output, target_length, output_length, mask_index: int = 0) -> Tensor:
    """Connectionist temporal classification: -log of the probability of label sequences over all alignments.

    An alignment names a label or a blank at each step. Source: Graves et al., 2006.

    Args:
        target: Class numbers (batch, labels), integers.
        output: Logits (batch, time, classes), floats.
        target_length: The number of labels of each sequence, integers (batch,).
        output_length: The number of steps of each sequence, integers (batch,).
        mask_index: The class number of the blank.

    Returns:
        A float tensor (batch,). It is infinity, with gradient 0, for a label sequence that is too long for
        its output; NaN for a label or a length out of range. Differentiable in output.

    Raises:
        ValueError: if the shapes do not fit, or the blank is not a class.

    Example:
        >>> logits = np.zeros((1, 2, 3))  # two steps, three classes of the same probability
        >>> loss = ops.ctc_loss([[1]], logits, [1], [2])
        >>> ops.exp(-loss).numpy().round(4)  # three alignments of nine: blank 1, 1 blank, 1 1
        array([0.3333])
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
    """Label sequences from the outputs of a model that was trained with `ctc_loss`.

    Args:
        inputs: Logits (batch, time, classes), floats.
        sequence_lengths: The number of steps of each sequence, integers (batch,).
        strategy: 'greedy': the most likely class of each step; 'beam_search': the most likely sequences,
            over all alignments.
        beam_width: For 'beam_search': the number of sequences that are kept at each step.
        top_paths: For 'beam_search': the number of sequences to return, at most `beam_width`.
        merge_repeated: For 'greedy': whether equal labels in a row count as one.
        mask_index: The class number of the blank; None for the last class.

    Returns:
        Class numbers (paths, batch, time), int32, with -1 after the end of a sequence (one path for
        'greedy'); and scores (batch, paths): log-probabilities, or for 'greedy' minus the sum of the chosen
        logits.

    Raises:
        ValueError: if the shapes do not fit, the blank is not a class, or `top_paths` is above `beam_width`.

    Example:
        >>> logits = ops.one_hot([[0, 2, 2, 0, 1]], 3)  # class 0 is the blank
        >>> sequences, scores = ops.ctc_decode(logits, [5])
        >>> sequences.numpy()
        array([[[ 2,  1, -1, -1, -1]]], dtype=int32)
    """
    inputs = as_float(inputs)
    lengths = _lengths("ctc_decode", sequence_lengths, inputs)
    blank = _blank("ctc_decode", mask_index, inputs.shape[2])
    if one_of("ctc_decode", "strategy", strategy, ("greedy", "beam_search")) == "greedy":
        return _best_of_each_step(inputs, lengths, merge_repeated, blank)
    if not 1 <= top_paths <= beam_width:
        raise ValueError(
            f"ctc_decode: top_paths must be from 1 to beam_width={beam_width}, received {briefly(top_paths)}"
        )
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
