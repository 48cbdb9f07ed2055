"""Cross-entropy of logits: softmax with dense or integer targets, and sigmoid, fused with their vjps.

Arrays are (rows, classes) with one loss per row, not averaged. The softmax forms save the probabilities, so that the gradient
needs no exponentials. A label outside 0 <= label < classes gives NaN as its loss and its gradients; nothing is read out of
bounds.
"""

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.softmax import exponentials, largest, launch_rows, total

Array = np.ndarray


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, max(1, x.shape[-1]))


# -------------------- softmax, dense targets --------------------


def softmax_crossentropy(target: Array, logits: Array):
    """-sum(target * log_softmax(logits)) over the last axis."""
    loss, probabilities = device.empty(logits.shape[:-1], logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (_rows(target), _rows(logits), _rows(probabilities), loss.reshape(-1))
    launch_rows(softmax_crossentropy_forward, *arrays)
    return loss, (target, logits, probabilities)


def softmax_crossentropy_vjp(saved, dy, needs):
    target, logits, probabilities = saved
    slope = dy.reshape(-1)
    dtarget = dlogits = None
    if needs[0] is not False:
        dtarget = device.output(needs[0], target.shape, dy.dtype)
        arrays = (_rows(logits), slope, _rows(dtarget))
        launch_rows(softmax_crossentropy_target, *arrays)
    if needs[1] is not False:
        dlogits = device.output(needs[1], logits.shape, dy.dtype)
        arrays = (_rows(target), _rows(probabilities), slope, _rows(dlogits))
        launch_rows(softmax_crossentropy_backward, *arrays)
    return dtarget, dlogits


@compiled
def _logsumexp(x, scratch):
    """The two parts max(x) and log(sum(e^(x - max))) of a row's log(sum(e^x)); writes the softmax to `scratch`."""
    top = largest(x)
    whole = exponentials(x, top, scratch)
    scale = x.dtype.type(1) / whole
    for i in range(x.size):
        scratch[i] *= scale
    return top, np.log(whole)


@compiled
def softmax_crossentropy_forward(target, logits, probabilities, loss, share, shares):
    """Kernel: loss and probabilities of each row."""
    for r in range(len(logits) * share // shares, len(logits) * (share + 1) // shares):
        x, t = logits[r], target[r]
        top, logarithm = _logsumexp(x, probabilities[r])
        result = x.dtype.type(0)
        for i in range(x.size):
            result += t[i] * (logarithm - (x[i] - top))
        loss[r] = result


@compiled
def softmax_crossentropy_backward(target, probabilities, slope, dlogits, share, shares):
    """Kernel: dlogits = slope (probabilities sum(target) - target) for each row."""
    for r in range(len(dlogits) * share // shares, len(dlogits) * (share + 1) // shares):
        p, t, out = probabilities[r], target[r], dlogits[r]
        whole = total(t)
        for i in range(out.size):
            out[i] = slope[r] * (p[i] * whole - t[i])


@compiled
def softmax_crossentropy_target(logits, slope, dtarget, share, shares):
    """Kernel: dtarget = -slope log_softmax(logits) for each row."""
    for r in range(len(logits) * share // shares, len(logits) * (share + 1) // shares):
        x, out = logits[r], dtarget[r]
        top, logarithm = _logsumexp(x, out)
        for i in range(x.size):
            out[i] = slope[r] * (logarithm - (x[i] - top))


# -------------------- softmax, integer targets --------------------


def sparse_softmax_crossentropy(target: Array, logits: Array):
    """-log_softmax(logits)[target] over the last axis; target: int32 of the logits' shape without that axis."""
    loss, probabilities = device.empty(target.shape, logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (target.reshape(-1), _rows(logits), _rows(probabilities), loss.reshape(-1))
    launch_rows(sparse_crossentropy_forward, *arrays)
    return loss, (target, probabilities)


def sparse_softmax_crossentropy_vjp(saved, dy, needs):
    target, probabilities = saved
    dlogits = device.output(needs[1], probabilities.shape, dy.dtype)
    arrays = (target.reshape(-1), _rows(probabilities), dy.reshape(-1), _rows(dlogits))
    launch_rows(sparse_crossentropy_backward, *arrays)
    return None, dlogits


@compiled
def sparse_crossentropy_forward(target, logits, probabilities, loss, share, shares):
    """Kernel: loss and probabilities of each row."""
    nan = logits.dtype.type(np.nan)
    for r in range(len(logits) * share // shares, len(logits) * (share + 1) // shares):
        x, label = logits[r], target[r]
        top, logarithm = _logsumexp(x, probabilities[r])
        loss[r] = logarithm - (x[label] - top) if 0 <= label < x.size else nan


@compiled
def sparse_crossentropy_backward(target, probabilities, slope, dlogits, share, shares):
    """Kernel: dlogits = slope (probabilities - 1 at the label) for each row."""
    nan = slope.dtype.type(np.nan)
    for r in range(len(dlogits) * share // shares, len(dlogits) * (share + 1) // shares):
        p, out, label = probabilities[r], dlogits[r], target[r]
        valid = 0 <= label < out.size
        weight = slope[r] if valid else nan
        for i in range(out.size):
            out[i] = weight * p[i]
        if valid:
            out[label] -= weight


# -------------------- sigmoid --------------------


sigmoid_crossentropy_forward = Map("sigmoid_crossentropy_forward", __name__, formulas.sigmoid_crossentropy, "loss")
sigmoid_crossentropy_backward = Map(
    "sigmoid_crossentropy_backward", __name__, formulas.sigmoid_crossentropy_slope, "dlogits", times="slope"
)


def sigmoid_crossentropy(target: Array, logits: Array):
    """-target log s - (1 - target) log(1 - s), s = sigmoid(logits); elementwise."""
    loss = device.empty(logits.shape, logits.dtype)
    sigmoid_crossentropy_forward.launch(target.reshape(-1), logits.reshape(-1), loss.reshape(-1))
    return loss, (target, logits)


def sigmoid_crossentropy_vjp(saved, dy, needs):
    target, logits = saved
    dtarget = dlogits = None
    if needs[0] is not False:
        dtarget = device.output(needs[0], dy.shape, dy.dtype)
        device.launch(np.multiply, logits, dy, dtarget)
        device.launch(np.negative, dtarget, dtarget)
    if needs[1] is not False:
        dlogits = device.output(needs[1], dy.shape, dy.dtype)
        sigmoid_crossentropy_backward.launch(*(a.reshape(-1) for a in (target, logits, dy, dlogits)))
    return dtarget, dlogits
