"""CTC against real Keras (tests/reference/objectives.npz) and against a sum over all alignments; decoding."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import twins
from mistakes import mistakes

import nbkeras
from nbkeras import backend, losses, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import as_tensor
from nbkeras.kernels import ctc
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

with np.load(Path(__file__).parents[1] / "reference" / "objectives.npz") as file:
    REFERENCE = {name.removeprefix("ctc/"): file[name] for name in file.files if name.startswith("ctc/")}
    DECODINGS = json.loads(str(file["cases"]))["ctc"]
LOGITS, LABELS = REFERENCE["logits"], REFERENCE["labels"]
LENGTHS = REFERENCE["label_lengths"], REFERENCE["lengths"]


def test_loss_equals_keras():
    found = ops.ctc_loss(LABELS, LOGITS, *LENGTHS)
    np.testing.assert_allclose(found.numpy(), REFERENCE["loss"], rtol=2e-6)
    last = ops.ctc_loss((LABELS + 3) % 4, LOGITS, *LENGTHS, mask_index=3)
    np.testing.assert_allclose(last.numpy(), REFERENCE["loss_of_last"], rtol=2e-6)
    assert found.dtype == np.float32


def sum_over_alignments(logits, labels, blank):
    """The probability of a label sequence, from its definition."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        merged = [c for c, before in zip(path, (None, *path), strict=False) if c != before]
        if [c for c in merged if c != blank] == list(labels):
            total += np.prod([p[t, c] for t, c in enumerate(path)])
    return total


@pytest.mark.parametrize("labels", [[], [1], [1, 2], [2, 2], [1, 1, 1], [1, 2, 1]])
def test_loss_is_a_sum_over_alignments(labels):
    logits = np.random.default_rng(1).standard_normal((1, 5, 3))
    target = np.array([labels + [0] * (4 - len(labels))])
    found = ops.ctc_loss(target, logits.astype("float64"), [len(labels)], [5])
    assert float(found[0]) == pytest.approx(-np.log(sum_over_alignments(logits[0], labels, 0)), rel=1e-6)


def test_gradients_equal_differences():
    logits = np.random.default_rng(0).standard_normal((4, 7, 5))
    labels = np.array([[1, 2, 0], [1, 1, 1], [3, 0, 0], [4, 4, 3]])
    check_op(lambda x, t: ops.ctc_loss(t, x, [2, 3, 0, 3], [7, 6, 5, 7]), logits, labels)
    check_op(lambda x: ops.ctc_loss(labels - 1, x, [1, 3, 0, 0], [7, 6, 5, 0], mask_index=-1), logits)


def test_what_cannot_be_and_what_is_out_of_range():
    """A sequence that does not fit gives infinity, wrong labels and lengths give NaN, and the other samples do not change."""
    labels = np.array([[1, 1], [1, 2], [2**32 + 1, 1], [-1, 1], [1, 1], [1, 1], [0, 0]])
    x = as_tensor(np.random.default_rng(0).standard_normal((7, 2, 3)).astype("float32"))
    with GradientTape() as tape:
        tape.watch(x)
        loss = ops.ctc_loss(labels, x, [2, 2, 2, 1, 2**32 + 2, 1, 0], [2, 2, 2, 2, 2, 3, 0])
    gradient = tape.gradient(loss, x).numpy()
    assert np.isposinf(loss.numpy()[0]) and (gradient[0] == 0).all()
    assert np.isfinite(loss.numpy()[1]) and np.isfinite(gradient[1]).all()
    assert np.isnan(loss.numpy()[2:6]).all() and np.isnan(gradient[2:6]).all()
    assert loss.numpy()[6] == 0 and (gradient[6] == 0).all()


def test_a_network_learns_a_sequence():
    """It learns in recorded steps, with the loss given by name."""
    nbkeras.utils.set_random_seed(0)
    model = nbkeras.Sequential([nbkeras.layers.Input((6, 3)), nbkeras.layers.Dense(4)])
    model.compile(nbkeras.optimizers.Adam(0.1), "ctc")
    x = np.random.default_rng(0).standard_normal((8, 6, 3)).astype("float32")
    y = np.array([[1, 2]] * 4 + [[3, 0]] * 4)
    first, *_, last = model.fit(x, y, batch_size=8, epochs=30, verbose=0).history["loss"]
    assert last < first / 2
    assert float(losses.CTC()(y, model.predict(x, verbose=0))) < first / 2


@pytest.mark.parametrize("case", DECODINGS)
def test_decoding_equals_keras(case):
    paths, scores = ops.ctc_decode(LOGITS, LENGTHS[1], **DECODINGS[case])
    np.testing.assert_array_equal(paths.numpy(), REFERENCE[f"{case}/paths"])
    np.testing.assert_allclose(scores.numpy(), REFERENCE[f"{case}/scores"], rtol=1e-5)
    assert paths.dtype == np.int32


def test_beam_search_finds_the_likeliest_sequences():
    logits = np.random.default_rng(2).standard_normal((1, 4, 3))
    sequences = [s for n in range(5) for s in itertools.product((1, 2), repeat=n)]
    ranked = sorted(((sum_over_alignments(logits[0], s, 0), s) for s in sequences), reverse=True)
    paths, scores = ops.ctc_decode(logits, [4], "beam_search", beam_width=40, top_paths=40)
    possible = [each for each in ranked if each[0] > 0]
    np.testing.assert_allclose(scores.numpy()[0, : len(possible)], np.log([p for p, _ in possible]), rtol=1e-6)
    assert (scores.numpy()[0, len(possible) :] == -np.inf).all()
    for path, (_, expected) in zip(paths.numpy()[:, 0], possible, strict=False):
        assert [c for c in path if c >= 0] == list(expected)


def test_keras_2_functions():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    labels = (LABELS + 3) % 4
    cost = backend.ctc_batch_cost(labels, p, LENGTHS[1][:, None], LENGTHS[0][:, None])
    np.testing.assert_allclose(cost.numpy()[:, 0], REFERENCE["loss_of_last"], rtol=1e-5)
    (greedy,), _ = backend.ctc_decode(p, LENGTHS[1])
    np.testing.assert_array_equal(greedy.numpy(), REFERENCE["greedy_last/paths"][0][:, : greedy.shape[1]])
    paths, scores = backend.ctc_decode(p, LENGTHS[1], greedy=False, beam_width=20, top_paths=2)
    np.testing.assert_allclose(scores.numpy(), REFERENCE["beam_last/scores"], rtol=1e-5)
    for found, expected in zip(paths, REFERENCE["beam_last/paths"], strict=True):
        np.testing.assert_array_equal(found.numpy(), expected[:, : found.shape[1]])
    clear = np.eye(3)[[[0, 2, 0, 1, 2, 1]]]
    assert backend.ctc_decode(clear, [6], greedy=False)[0][0].numpy().tolist() == [[0, 0, 1, 1]]
    assert backend.ctc_decode(clear, [6], greedy=False, merge_repeated=True)[0][0].numpy().tolist() == [[0, 1]]


@twins.needs_cuda
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_twin_gives_the_same(dtype):
    rng = np.random.default_rng(0)
    logp = np.log(rng.dirichlet(np.ones(4), (5, 6))).astype(dtype)
    labels = np.array([[1, 2, 2], [3, 1, 9], [1, 1, 1], [-1, 0, 0], [1, 1, 1]], np.int32)
    lengths = np.array([3, 2, 0, 1, 3], np.int32), np.array([6, 5, 3, 6, 4], np.int32)
    twins.check(ctc.ctc, ctc.ctc_vjp, [labels, logp, *lengths], {"blank": 0}, needs=(False, True, False, False))


@twins.needs_cuda
def test_decoding_on_a_gpu():
    with device.on(twins.gpu()):
        for constants in ({}, {"strategy": "beam_search", "beam_width": 20, "top_paths": 3}):
            paths, _ = ops.ctc_decode(LOGITS, LENGTHS[1], **constants)
            np.testing.assert_array_equal(paths.numpy(), REFERENCE["beam/paths" if constants else "greedy/paths"])


MISTAKES = [
    (lambda: ops.ctc_loss(LABELS, LOGITS[0], *LENGTHS), "ctc_loss expects outputs .batch, time, classes."),
    (lambda: ops.ctc_loss(LABELS[0], LOGITS, *LENGTHS), "target must be .3, labels."),
    (lambda: ops.ctc_loss(LABELS, LOGITS, [1, 2], [3, 3, 3]), "a length for each sequence"),
    (lambda: ops.ctc_loss(LABELS, LOGITS, *LENGTHS, mask_index=4), "one of 4 classes"),
    (lambda: ops.ctc_decode(LOGITS, LENGTHS[1], "best"), "'greedy' or 'beam_search'"),
    (lambda: ops.ctc_decode(LOGITS, LENGTHS[1], "beam_search", 2, 3), "top_paths must be from 1"),
]


test_mistakes_are_explained = mistakes(MISTAKES, ValueError)
