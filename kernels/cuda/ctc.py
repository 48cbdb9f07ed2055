"""Twins of ctc.py: a block for each sequence, a thread for each of its states, step by step."""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import BLOCK
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray


@device_function
def _add(a, b):
    top, low = (a, b) if a > b else (b, a)
    return top if low == -math.inf else top + math.log1p(math.exp(low - top))


@device_function
def _state_class(target, b, s, blank):
    return np.int64(target[b, s >> 1]) if s & 1 else np.int64(blank)


@device_function
def _valid(target, b, length, steps, time, classes):
    inside = 0 <= length <= target.shape[1] and 0 <= steps <= time
    if inside:
        for i in range(length):
            if target[b, i] < 0 or target[b, i] >= classes:
                inside = False
    return inside


@kernel
def _forward(target, logp, target_length, output_length, blank, alpha, loss):
    b, thread = cuda.blockIdx.x, cuda.threadIdx.x
    length, steps = np.int64(target_length[b]), np.int64(output_length[b])
    zero, never = logp.dtype.type(0), logp.dtype.type(-math.inf)
    if not _valid(target, b, length, steps, logp.shape[1], logp.shape[2]):
        if thread == 0:
            loss[b] = math.nan
        return
    states = 2 * length + 1
    for t in range(steps):
        s = np.int64(thread)
        while s < states:
            c = _state_class(target, b, s, blank)
            total = zero if s < 2 and t == 0 else never
            if t > 0:
                total = alpha[b, t - 1, s]
                if s > 0:
                    total = _add(total, alpha[b, t - 1, s - 1])
                if s > 2 and s & 1 and c != target[b, (s >> 1) - 1]:
                    total = _add(total, alpha[b, t - 1, s - 2])
            alpha[b, t, s] = total + logp[b, t, c]
            s += cuda.blockDim.x
        cuda.syncthreads()
    if thread == 0:
        if steps == 0:
            loss[b] = zero if length == 0 else -never
        elif length == 0:
            loss[b] = -alpha[b, steps - 1, 0]
        else:
            loss[b] = -_add(alpha[b, steps - 1, states - 1], alpha[b, steps - 1, states - 2])


def ctc_forward(
    target: DeviceArray,
    logp: DeviceArray,
    target_length: DeviceArray,
    output_length: DeviceArray,
    blank: int,
    alpha: DeviceArray,
    loss: DeviceArray,
) -> None:
    """Loss, and the log-probability of the partial alignments for each step and state."""
    start(_forward, loss.size, BLOCK, target, logp, target_length, output_length, blank, alpha, loss)


@kernel
def _occupancy(target, logp, target_length, output_length, blank, alpha, loss, beta, out):
    """out[b, t, s]: the probability of being in state s at step t."""
    b, thread = cuda.blockIdx.x, cuda.threadIdx.x
    if not abs(loss[b]) < math.inf:
        return
    states, steps = 2 * np.int64(target_length[b]) + 1, np.int64(output_length[b])
    zero, never = logp.dtype.type(0), logp.dtype.type(-math.inf)
    for back in range(steps):
        t = steps - 1 - back
        now, later = t & 1, (t + 1) & 1
        s = np.int64(thread)
        while s < states:
            c = _state_class(target, b, s, blank)
            total = zero if s >= states - 2 and back == 0 else never
            if back > 0:
                total = beta[b, later, s] + logp[b, t + 1, c]
                if s + 1 < states:
                    following = _state_class(target, b, s + 1, blank)
                    total = _add(total, beta[b, later, s + 1] + logp[b, t + 1, following])
                if s & 1 and s + 2 < states:
                    following = np.int64(target[b, (s >> 1) + 1])
                    if c != following:
                        total = _add(total, beta[b, later, s + 2] + logp[b, t + 1, following])
            beta[b, now, s] = total
            out[b, t, s] = math.exp(alpha[b, t, s] + total + loss[b])
            s += cuda.blockDim.x
        cuda.syncthreads()


@kernel
def _add_states(target, target_length, output_length, blank, loss, slope, occupancy, dlogp):
    """A thread for each step of each sequence sums its row of dlogp, in the order of the states."""
    i, time = cuda.grid(1), dlogp.shape[1]
    if i < dlogp.shape[0] * time:
        b, t = i // time, i % time
        known = loss[b] == loss[b]
        for c in range(dlogp.shape[2]):
            dlogp[b, t, c] = 0 if known else math.nan
        if abs(loss[b]) < math.inf and t < output_length[b]:
            for s in range(2 * np.int64(target_length[b]) + 1):
                dlogp[b, t, _state_class(target, b, s, blank)] -= slope[b] * occupancy[b, t, s]


def ctc_backward(
    target: DeviceArray,
    logp: DeviceArray,
    target_length: DeviceArray,
    output_length: DeviceArray,
    blank: int,
    alpha: DeviceArray,
    loss: DeviceArray,
    slope: DeviceArray,
    beta: DeviceArray,
    dlogp: DeviceArray,
) -> None:
    """dlogp[t, c] = -slope * the probability of being in a state of class c at step t."""
    occupancy = device.gpu().scratch("ctc", alpha.shape, alpha.dtype)
    labels = (target, logp, target_length, output_length, blank, alpha, loss)
    start(_occupancy, loss.size, BLOCK, *labels, beta, occupancy)
    count = dlogp.shape[0] * dlogp.shape[1]
    arrays = (target, target_length, output_length, blank, loss, slope, occupancy, dlogp)
    start_each(_add_states, count, *arrays)
