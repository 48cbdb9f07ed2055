"""Keras 2's backend functions for connectionist temporal classification, of probabilities; the last class is the blank."""

from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.engine.tensor import Tensor, op


def _logits(y_pred: Any) -> Tensor:
    return ops.log(ops.add(y_pred, config.epsilon()))


@op
def ctc_batch_cost(y_true, y_pred, input_length, label_length) -> Tensor:
    """`ops.ctc_loss` of each sequence, (batch, 1).

    y_true: class numbers (batch, labels); y_pred: probabilities (batch, time, classes); lengths (batch, 1).
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
    """([sequences], scores): `ops.ctc_decode` of probabilities (batch, time, classes); one tensor for each path.

    Each is as wide as its longest sequence, and (batch, time) for a symbolic y_pred; -1 after the end of a sequence.
    merge_repeated: whether beam search merges repeated labels of a sequence; greedy search always merges repeated steps.
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
