"""Cross-entropies of logits and their vjps, fused with softmax (for dense or integer targets) or sigmoid.

Arrays are (rows, classes) with one loss per row, not averaged. The softmax forms save the probabilities, so that the gradient
needs no exponentials. A label outside 0 <= label < classes gives a loss and gradients of NaN; nothing is read out of bounds.
"""

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.formula_ops import op_of
from nbkeras.kernels.loops.row_passes import Rows
from nbkeras.kernels.runtime import device

Array = np.ndarray


softmax_crossentropy_forward = Rows(
    "softmax_crossentropy_forward", __name__, formulas.softmax_crossentropy, "probabilities loss"
)
softmax_crossentropy_backward = Rows(
    "softmax_crossentropy_backward", __name__, formulas.softmax_crossentropy_backward, "dlogits"
)
softmax_crossentropy_target = Rows(
    "softmax_crossentropy_target", __name__, formulas.softmax_crossentropy_target, "dtarget"
)
sparse_crossentropy_forward = Rows(
    "sparse_crossentropy_forward", __name__, formulas.sparse_crossentropy, "probabilities loss"
)
sparse_crossentropy_backward = Rows(
    "sparse_crossentropy_backward", __name__, formulas.sparse_crossentropy_backward, "dlogits"
)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, max(1, x.shape[-1]))


# -------------------- softmax, dense targets --------------------


def softmax_crossentropy(target: Array, logits: Array):
    """Computes -sum(target * log_softmax(logits)) over the last axis."""
    loss, probabilities = device.empty(logits.shape[:-1], logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (_rows(target), _rows(logits), _rows(probabilities), loss.reshape(-1))
    softmax_crossentropy_forward.launch(*arrays)
    return loss, (target, logits, probabilities)


def softmax_crossentropy_vjp(saved, dy, needs):
    target, logits, probabilities = saved
    slope = dy.reshape(-1)
    dtarget = dlogits = None
    if needs[0] is not False:
        dtarget = device.output(needs[0], target.shape, dy.dtype)
        softmax_crossentropy_target.launch(_rows(logits), _rows(dtarget), slope)
    if needs[1] is not False:
        dlogits = device.output(needs[1], logits.shape, dy.dtype)
        arrays = (_rows(target), _rows(probabilities), _rows(dlogits), slope)
        softmax_crossentropy_backward.launch(*arrays)
    return dtarget, dlogits


# -------------------- softmax, integer targets --------------------


def sparse_softmax_crossentropy(target: Array, logits: Array):
    """Computes -log_softmax(logits)[target] along the last axis; target: int32, in the logits' shape without that axis."""
    loss, probabilities = device.empty(target.shape, logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (_rows(logits), _rows(probabilities), loss.reshape(-1), target.reshape(-1))
    sparse_crossentropy_forward.launch(*arrays)
    return loss, (target, probabilities)


def sparse_softmax_crossentropy_vjp(saved, dy, needs):
    target, probabilities = saved
    dlogits = device.output(needs[1], probabilities.shape, dy.dtype)
    arrays = (_rows(probabilities), _rows(dlogits), target.reshape(-1), dy.reshape(-1))
    sparse_crossentropy_backward.launch(*arrays)
    return None, dlogits


# -------------------- sigmoid --------------------


sigmoid_crossentropy, sigmoid_crossentropy_vjp = op_of(
    "sigmoid_crossentropy",
    __name__,
    formulas.sigmoid_crossentropy,
    [lambda target, logits: -logits, formulas.sigmoid_crossentropy_slope],
    apart=True,
)
