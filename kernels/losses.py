"""Cross-entropy of logits: softmax with dense or integer targets, and sigmoid, fused with their vjps.

Rows of (rows, classes) arrays; one loss a row, not averaged. The softmax forms save the probabilities, so that going back
needs no exponential. A label outside 0 <= label < classes gives NaN as its loss and its gradients, and reads nothing out
of bounds.
"""

import numpy as np
from numba import prange

from nbkeras.kernels import blocks, device, vmath
from nbkeras.kernels.cache import compiled
from nbkeras.kernels.softmax import exponentials, largest, total

Array = np.ndarray


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, max(1, x.shape[-1]))


# -------------------- softmax, dense targets --------------------


def softmax_crossentropy(target: Array, logits: Array):
    """-sum(target * log_softmax(logits)) over the last axis."""
    loss, probabilities = device.empty(logits.shape[:-1], logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (_rows(target), _rows(logits), _rows(probabilities), loss.reshape(-1))
    blocks.launch(softmax_crossentropy_forward, softmax_crossentropy_forward_parallel, arrays)
    return loss, (target, logits, probabilities)


def softmax_crossentropy_vjp(saved, dy, needs):
    target, logits, probabilities = saved
    slope = dy.reshape(-1)
    dtarget = dlogits = None
    if needs[0] is not False:
        dtarget = device.output(needs[0], target.shape, dy.dtype)
        arrays = (_rows(logits), slope, _rows(dtarget))
        blocks.launch(softmax_crossentropy_target, softmax_crossentropy_target_parallel, arrays)
    if needs[1] is not False:
        dlogits = device.output(needs[1], logits.shape, dy.dtype)
        arrays = (_rows(target), _rows(probabilities), slope, _rows(dlogits))
        blocks.launch(softmax_crossentropy_backward, softmax_crossentropy_backward_parallel, arrays)
    return dtarget, dlogits


@compiled
def _logsumexp(x, scratch):
    """The two parts max(x) and log(sum(e^(x - max))) of a row's log(sum(e^x)); leaves the softmax in `scratch`."""
    top = largest(x)
    whole = exponentials(x, top, scratch)
    scale = x.dtype.type(1) / whole
    for i in range(x.size):
        scratch[i] *= scale
    return top, np.log(whole)


@compiled
def softmax_crossentropy_forward(target, logits, probabilities, loss):
    """Kernel: loss and probabilities of each row."""
    for r in range(logits.shape[0]):
        x, t = logits[r], target[r]
        top, logarithm = _logsumexp(x, probabilities[r])
        result = x.dtype.type(0)
        for i in range(x.size):
            result += t[i] * (logarithm - (x[i] - top))
        loss[r] = result


@compiled(parallel=True)
def softmax_crossentropy_forward_parallel(target, logits, probabilities, loss):
    """Kernel: softmax_crossentropy_forward of each block of rows."""
    for t in prange(logits.shape[0]):
        softmax_crossentropy_forward(target[t], logits[t], probabilities[t], loss[t])


@compiled
def softmax_crossentropy_backward(target, probabilities, slope, dlogits):
    """Kernel: dlogits = slope (probabilities sum(target) - target) for each row."""
    for r in range(dlogits.shape[0]):
        p, t, out = probabilities[r], target[r], dlogits[r]
        whole = total(t)
        for i in range(out.size):
            out[i] = slope[r] * (p[i] * whole - t[i])


@compiled(parallel=True)
def softmax_crossentropy_backward_parallel(target, probabilities, slope, dlogits):
    """Kernel: softmax_crossentropy_backward of each block of rows."""
    for t in prange(dlogits.shape[0]):
        softmax_crossentropy_backward(target[t], probabilities[t], slope[t], dlogits[t])


@compiled
def softmax_crossentropy_target(logits, slope, dtarget):
    """Kernel: dtarget = -slope log_softmax(logits) for each row."""
    for r in range(logits.shape[0]):
        x, out = logits[r], dtarget[r]
        top, logarithm = _logsumexp(x, out)
        for i in range(x.size):
            out[i] = slope[r] * (logarithm - (x[i] - top))


@compiled(parallel=True)
def softmax_crossentropy_target_parallel(logits, slope, dtarget):
    """Kernel: softmax_crossentropy_target of each block of rows."""
    for t in prange(logits.shape[0]):
        softmax_crossentropy_target(logits[t], slope[t], dtarget[t])


# -------------------- softmax, integer targets --------------------


def sparse_softmax_crossentropy(target: Array, logits: Array):
    """-log_softmax(logits)[target] over the last axis; target: int32 of the logits' shape without that axis."""
    loss, probabilities = device.empty(target.shape, logits.dtype), device.empty(logits.shape, logits.dtype)
    arrays = (target.reshape(-1), _rows(logits), _rows(probabilities), loss.reshape(-1))
    blocks.launch(sparse_crossentropy_forward, sparse_crossentropy_forward_parallel, arrays)
    return loss, (target, probabilities)


def sparse_softmax_crossentropy_vjp(saved, dy, needs):
    target, probabilities = saved
    dlogits = device.output(needs[1], probabilities.shape, dy.dtype)
    arrays = (target.reshape(-1), _rows(probabilities), dy.reshape(-1), _rows(dlogits))
    blocks.launch(sparse_crossentropy_backward, sparse_crossentropy_backward_parallel, arrays)
    return None, dlogits


@compiled
def sparse_crossentropy_forward(target, logits, probabilities, loss):
    """Kernel: loss and probabilities of each row."""
    nan = logits.dtype.type(np.nan)
    for r in range(logits.shape[0]):
        x, label = logits[r], target[r]
        top, logarithm = _logsumexp(x, probabilities[r])
        loss[r] = logarithm - (x[label] - top) if 0 <= label < x.size else nan


@compiled(parallel=True)
def sparse_crossentropy_forward_parallel(target, logits, probabilities, loss):
    """Kernel: sparse_crossentropy_forward of each block of rows."""
    for t in prange(logits.shape[0]):
        sparse_crossentropy_forward(target[t], logits[t], probabilities[t], loss[t])


@compiled
def sparse_crossentropy_backward(target, probabilities, slope, dlogits):
    """Kernel: dlogits = slope (probabilities - 1 at the label) for each row."""
    nan = slope.dtype.type(np.nan)
    for r in range(dlogits.shape[0]):
        p, out, label = probabilities[r], dlogits[r], target[r]
        valid = 0 <= label < out.size
        weight = slope[r] if valid else nan
        for i in range(out.size):
            out[i] = weight * p[i]
        if valid:
            out[label] -= weight


@compiled(parallel=True)
def sparse_crossentropy_backward_parallel(target, probabilities, slope, dlogits):
    """Kernel: sparse_crossentropy_backward of each block of rows."""
    for t in prange(dlogits.shape[0]):
        sparse_crossentropy_backward(target[t], probabilities[t], slope[t], dlogits[t])


# -------------------- sigmoid --------------------


def sigmoid_crossentropy(target: Array, logits: Array):
    """-target log s - (1 - target) log(1 - s), s = sigmoid(logits); elementwise."""
    loss = device.empty(logits.shape, logits.dtype)
    arrays = (target.reshape(-1), logits.reshape(-1), loss.reshape(-1))
    blocks.launch(sigmoid_crossentropy_forward, sigmoid_crossentropy_forward_parallel, arrays)
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
        arrays = tuple(a.reshape(-1) for a in (target, logits, dy, dlogits))
        blocks.launch(sigmoid_crossentropy_backward, sigmoid_crossentropy_backward_parallel, arrays)
    return dtarget, dlogits


@compiled
def sigmoid_crossentropy_forward(target, logits, loss):
    """Kernel: max(x, 0) - x t + log(1 + e^-|x|)."""
    zero = logits.dtype.type(0)
    for i in range(logits.size):
        x = logits[i]
        loss[i] = (zero if x < zero else x) - x * target[i] + vmath.log1p(vmath.exp(-abs(x)))


@compiled(parallel=True)
def sigmoid_crossentropy_forward_parallel(target, logits, loss):
    """Kernel: sigmoid_crossentropy_forward of each row."""
    for t in prange(logits.shape[0]):
        sigmoid_crossentropy_forward(target[t], logits[t], loss[t])


@compiled
def sigmoid_crossentropy_backward(target, logits, slope, dlogits):
    """Kernel: dlogits = slope (sigmoid(x) - t)."""
    for i in range(logits.size):
        dlogits[i] = slope[i] * (vmath.sigmoid(logits[i]) - target[i])


@compiled(parallel=True)
def sigmoid_crossentropy_backward_parallel(target, logits, slope, dlogits):
    """Kernel: sigmoid_crossentropy_backward of each row."""
    for t in prange(logits.shape[0]):
        sigmoid_crossentropy_backward(target[t], logits[t], slope[t], dlogits[t])
