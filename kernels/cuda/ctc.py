"""Twins of ctc.py. A block computes a sequence, a thread a state, step by step."""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import BLOCK
from nbkeras.kernels.cuda.machine.kernel import device_module, kernel, start, start_each
from nbkeras.kernels.loops import ctc_states
from nbkeras.kernels.runtime import device

formulas = device_module(ctc_states)


@kernel
def _forward(target, logp, target_length, output_length, blank, alpha, loss):
    b, thread = cuda.blockIdx.x, cuda.threadIdx.x
    labels, length, steps = target[b], np.int64(target_length[b]), np.int64(output_length[b])
    zero, never = logp.dtype.type(0), logp.dtype.type(-math.inf)
    if not formulas.is_valid(labels, length, steps, logp.shape[1], logp.shape[2]):
        if thread == 0:
            loss[b] = math.nan
        return
    states = 2 * length + 1
    for t in range(steps):
        s = np.int64(thread)
        while s < states:
            if t == 0:
                total = zero if s < 2 else never
            else:
                total = formulas.total_before(labels, alpha[b, t - 1], s)
            alpha[b, t, s] = total + logp[b, t, formulas.state_class(labels, s, blank)]
            s += cuda.blockDim.x
        cuda.syncthreads()
    if thread == 0:
        if steps == 0:
            loss[b] = zero if length == 0 else -never
        else:
            loss[b] = formulas.loss_of(alpha[b, steps - 1], length)


def ctc_forward(target, logp, target_length, output_length, blank, alpha, loss):
    """Computes the loss, and the log-probability of the partial alignments for each step and state."""
    start(_forward, loss.size, BLOCK, target, logp, target_length, output_length, blank, alpha, loss)


@kernel
def _occupancy(target, logp, target_length, output_length, blank, alpha, loss, beta, out):
    """out[b, t, s] = the probability of being in state s at step t."""
    b, thread = cuda.blockIdx.x, cuda.threadIdx.x
    if not abs(loss[b]) < math.inf:
        return
    labels, states, steps = target[b], 2 * np.int64(target_length[b]) + 1, np.int64(output_length[b])
    zero, never = logp.dtype.type(0), logp.dtype.type(-math.inf)
    for back in range(steps):
        t = steps - 1 - back
        now, later = t & 1, (t + 1) & 1
        s = np.int64(thread)
        while s < states:
            if back == 0:
                total = zero if s >= states - 2 else never
            else:
                total = formulas.total_after(labels, beta[b, later], logp[b, t + 1], s, states, blank)
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
                dlogp[b, t, formulas.state_class(target[b], s, blank)] -= slope[b] * occupancy[b, t, s]


def ctc_backward(target, logp, target_length, output_length, blank, alpha, loss, slope, beta, dlogp):
    """dlogp[t, c] = -slope * the probability of being in a state of class c at step t."""
    occupancy = device.gpu().scratch("ctc", alpha.shape, alpha.dtype)
    labels = (target, logp, target_length, output_length, blank, alpha, loss)
    start(_occupancy, loss.size, BLOCK, *labels, beta, occupancy)
    count = dlogp.shape[0] * dlogp.shape[1]
    arrays = (target, target_length, output_length, blank, loss, slope, occupancy, dlogp)
    start_each(_add_states, count, *arrays)
