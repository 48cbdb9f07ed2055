"""Keras 2's backend functions for connectionist temporal classification of probabilities; the blank is the last class."""

from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.engine.tensor import Tensor, op


def _logits(y_pred: Any) -> Tensor:
    return ops.log(ops.add(y_pred, config.epsilon()))


@op
def ctc_batch_cost(y_true, y_pred, input_length, label_length) -> Tensor:
    """The CTC loss of each sequence, from probabilities. Today: `ops.ctc_loss`, from logits and with the blank as class 0.

    Args:
        y_true: Class numbers (batch, labels).
        y_pred: Probabilities (batch, time, classes); the last class is the blank.
        input_length: The number of steps of each sequence, (batch, 1).
        label_length: The number of labels of each sequence, (batch, 1).

    Returns:
        A float tensor (batch, 1).

    Example:
        >>> steps = np.float32([[[0.9, 0.1], [0.2, 0.8]]])  # classes: one label, the blank
        >>> probability = K.exp(-K.ctc_batch_cost([[0]], steps, [[2]], [[1]]))  # 1 - (both steps are blank)
        >>> probability.numpy().round(2)
        array([[0.92]], dtype=float32)
    """
    return ops.expand_dims(ops.ctc_loss(y_true, _logits(y_pred), label_length, input_length, mask_index=-1), 1)


def ctc_decode(
    y_pred,
    input_length,
    greedy: bool = True,
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = False,
) -> tuple[list[Any], Any]:
    """Label sequences from probabilities. Today: `ops.ctc_decode`, from logits and with the blank as class 0.

    Args:
        y_pred: Probabilities (batch, time, classes); the last class is the blank.
        input_length: The number of steps of each sequence, (batch,).
        greedy: Whether to take the most likely class of each step; otherwise beam search finds the most likely sequences.
        beam_width: For beam search: the number of sequences that are kept at each step.
        top_paths: For beam search: the number of sequences to return, at most beam_width.
        merge_repeated: For beam search: whether repeated labels of a sequence become one. Greedy search always merges
            repeated steps.

    Returns:
        A list with one tensor of class numbers for each path, and the scores (batch, paths). The width of each path is its
        longest sequence, or time for a symbolic y_pred; -1 follows the end of a sequence.

    Example:
        >>> steps = [[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]]]
        >>> paths, scores = K.ctc_decode(np.float32(steps), [4])
        >>> paths[0].numpy()
        array([[1, 0]], dtype=int32)
    """
    strategy = "greedy" if greedy else "beam_search"
    logits = _logits(y_pred)
    found, scores = ops.ctc_decode(logits, input_length, strategy, beam_width, top_paths, mask_index=None)
    paths, classes = ops.unstack(found), logits.shape[2]
    if merge_repeated and not greedy:
        whole = np.full(len(logits), logits.shape[1])
        steps = [ops.one_hot(ops.where(ops.less(path, 0), classes - 1, path), classes) for path in paths]
        paths = [ops.ctc_decode(each, whole, mask_index=None)[0][0] for each in steps]
    if not isinstance(found, SymbolicTensor):
        paths = [path[:, : max(1, int((path.numpy() >= 0).sum(axis=1).max(initial=0)))] for path in paths]
    return paths, scores
