"""Connectionist temporal classification: the probability of a label sequence over all its alignments, and its gradient.

It computes the forward and backward variables of Graves et al. (2006) in log space. A sequence of n labels has 2n + 1 states:
blank, label 0, blank, label 1, ... blank. A step leads from a state to itself or to the next state, and from a label also to the
next label if it is different.
"""

import math

import numpy as np

from nbkeras.kernels.loops.ctc_states import added, is_valid, loss_of, state_class, total_after, total_before
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 512  # minimum number of states times steps in a share, about 10 us


def ctc(target: Array, logp: Array, target_length: Array, output_length: Array, blank: int):
    """Returns -log of the probability of each sequence; lengths are at least 0.

    int32 target (batch, labels), log-probabilities logp (batch, time, classes), int32 lengths (batch,) -> (batch,). A
    sequence that is too long for its time has probability 0 and loss infinity, with gradient 0. A label outside 0 <= label
    < classes and a length outside its array give NaN as loss and gradient; nothing is read out of bounds.
    """
    (batch, time, _), states = logp.shape, 2 * target.shape[1] + 1
    loss = device.empty(batch, logp.dtype)
    alpha = device.empty((batch, time, states), logp.dtype)
    arrays = (target, logp, target_length, output_length, blank, alpha, loss)
    launch_shares(ctc_forward, share_count(alpha.size, _SHARE, batch), *arrays)
    return loss, (target, logp, target_length, output_length, blank, alpha, loss)


def ctc_vjp(saved, dy, needs):
    target, logp, target_length, output_length, blank, alpha, loss = saved
    dlogp = device.output(needs[1], logp.shape, dy.dtype)
    beta = device.empty((len(loss), 2, alpha.shape[2]), dy.dtype)
    arrays = (target, logp, target_length, output_length, blank, alpha, loss, dy, beta, dlogp)
    launch_shares(ctc_backward, share_count(alpha.size, _SHARE, len(loss)), *arrays)
    return None, dlogp, None, None


@compiled
def ctc_forward(target, logp, target_length, output_length, blank, alpha, loss, share, shares):
    """Kernel: computes the loss, and alpha[t, s], the log-probability of all partial alignments that are in state s at step t."""
    real = logp.dtype.type
    never = real(-math.inf)
    batch, time, classes = logp.shape
    for b in range(batch * share // shares, batch * (share + 1) // shares):
        labels, length, steps = target[b], target_length[b], output_length[b]
        if not is_valid(labels, length, steps, time, classes):
            loss[b] = real(math.nan)
            continue
        states = 2 * length + 1
        if steps == 0:
            loss[b] = real(0) if length == 0 else -never
            continue
        for t in range(steps):
            now, p = alpha[b, t], logp[b, t]
            for s in range(states):
                if t == 0:
                    total = real(0) if s < 2 else never
                else:
                    total = total_before(labels, alpha[b, t - 1], s)
                now[s] = total + p[state_class(labels, s, blank)]
        loss[b] = loss_of(alpha[b, steps - 1], length)


@compiled
def ctc_backward(target, logp, target_length, output_length, blank, alpha, loss, slope, beta, dlogp, share, shares):
    """Kernel: dlogp[t, c] = -slope * the probability of being in a state of class c at step t.

    The probability of state s is e^(alpha + beta + loss), where beta is the log-probability of the steps after t; beta is stored
    for two steps.
    """
    real = logp.dtype.type
    never = real(-math.inf)
    batch, time, classes = logp.shape
    for b in range(batch * share // shares, batch * (share + 1) // shares):
        labels, length, steps = target[b], target_length[b], output_length[b]
        dlogp[b].fill(math.nan if loss[b] != loss[b] else 0)
        if not abs(loss[b]) < math.inf:
            continue
        states = 2 * length + 1
        for t in range(steps - 1, -1, -1):
            now, later, out = beta[b, t & 1], beta[b, (t + 1) & 1], dlogp[b, t]
            for s in range(states):
                if t == steps - 1:
                    total = real(0) if s >= states - 2 else never
                else:
                    total = total_after(labels, later, logp[b, t + 1], s, states, blank)
                now[s] = total
                out[state_class(labels, s, blank)] -= slope[b] * np.exp(alpha[b, t, s] + total + loss[b])


def beam_search(logp: Array, lengths: Array, width: int, paths: int, blank: int):
    """Returns the most likely label sequences of logp (batch, time, classes): int32 (paths, batch, time), -1 after their ends.

    Also returns their log-probabilities (batch, paths), -infinity if there are fewer sequences. `width` prefixes are kept at each
    step.
    """
    batch, time, classes = logp.shape
    found, scores = device.empty((paths, batch, time), np.int32), device.empty((batch, paths), logp.dtype)
    tree = device.empty((4, 1 + time * width), np.int32)
    beams, nodes = device.empty((2, 2, width), logp.dtype), device.empty((2, width), np.int32)
    candidates = device.empty((2, width, classes), logp.dtype)
    device.launch(search_beams, logp, lengths, blank, tree, beams, nodes, candidates, found, scores)
    return (found, scores), None


@device.host
@compiled
def search_beams(logp, lengths, blank, tree, beams, nodes, candidates, found, scores):
    """Kernel: runs a prefix beam search. A prefix is a node of a tree, and is kept while it is among the most likely.

    tree: parent, label, first child and next sibling of each node. beams[now], (2, width): the log-probabilities of the
    alignments that end in a blank and of those that end in the label. candidates have the same layout: (i, blank) is prefix i,
    (i, c) is prefix i with one more label c.
    """
    never = logp.dtype.type(-math.inf)
    batch, time, classes = logp.shape
    width = nodes.shape[1]
    parent, label, child, sibling = tree[0], tree[1], tree[2], tree[3]
    for b in range(batch):
        parent[0], label[0], child[0], sibling[0] = -1, -1, -1, -1
        count, kept, now = 1, 1, 0
        nodes[0, 0], beams[0, 0, 0], beams[0, 1, 0] = 0, 0, never
        for t in range(min(lengths[b], time)):
            p, before, after = logp[b, t], beams[now], beams[1 - now]
            for i in range(kept):
                whole = added(before[0, i], before[1, i])
                last = label[nodes[now, i]]
                for c in range(classes):
                    candidates[0, i, c] = never
                    candidates[1, i, c] = (before[0, i] if c == last else whole) + p[c]
                candidates[0, i, blank] = whole + p[blank]
                candidates[1, i, blank] = never if last < 0 else before[1, i] + p[last]
            for j in range(kept):  # a prefix may also extend a shorter kept prefix
                node = nodes[now, j]
                for i in range(kept):
                    if parent[node] == nodes[now, i]:
                        longer = candidates[1, i, label[node]]
                        candidates[1, j, blank] = added(candidates[1, j, blank], longer)
                        candidates[1, i, label[node]] = never
            chosen = 0
            while chosen < width:
                best, best_i, best_c = never, 0, 0
                for i in range(kept):
                    for c in range(classes):
                        value = candidates[1, i, c]
                        if c == blank:
                            value = added(candidates[0, i, c], value)
                        if value > best:
                            best, best_i, best_c = value, i, c
                if best == never:
                    break
                node = nodes[now, best_i]
                if best_c != blank:
                    at = child[node]
                    while at >= 0 and label[at] != best_c:
                        at = sibling[at]
                    if at < 0:
                        at, count = count, count + 1
                        parent[at], label[at], child[at], sibling[at] = node, best_c, -1, child[node]
                        child[node] = at
                    node = at
                nodes[1 - now, chosen] = node
                after[0, chosen], after[1, chosen] = candidates[0, best_i, best_c], candidates[1, best_i, best_c]
                candidates[0, best_i, best_c], candidates[1, best_i, best_c] = never, never
                chosen += 1
            kept, now = chosen, 1 - now
        for path in range(found.shape[0]):
            out = found[path, b]
            out.fill(-1)
            scores[b, path] = added(beams[now, 0, path], beams[now, 1, path]) if path < kept else never
            node, size = nodes[now, path] if path < kept else 0, 0
            at = node
            while at > 0:
                at, size = parent[at], size + 1
            while node > 0:
                size -= 1
                out[size] = label[node]
                node = parent[node]
