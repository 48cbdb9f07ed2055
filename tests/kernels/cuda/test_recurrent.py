"""The recurrences on the GPU against those on the CPU: all options, and sizes that fit no tile."""

import numpy as np
import pytest
import twins

from nbkeras.kernels.recurrent import gru as gru_kernels
from nbkeras.kernels.recurrent import lstm as lstm_kernels
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent import simple_rnn as simple_rnn_kernels

pytestmark = twins.needs_cuda
FAMILIES = ["lstm", "gru", "gru_before", "simple_rnn"]
GATES = {"lstm": 4, "gru": 3, "gru_before": 3, "simple_rnn": 1}
OPS = {
    "lstm": (lstm_kernels.lstm, lstm_kernels.lstm_vjp),
    "gru": (gru_kernels.gru, gru_kernels.gru_vjp),
    "gru_before": (gru_kernels.gru, gru_kernels.gru_vjp),
    "simple_rnn": (simple_rnn_kernels.simple_rnn, simple_rnn_kernels.simple_rnn_vjp),
}


def check(
    family, batch=3, length=4, features=2, units=5, dtype="float32", bias=True, states=True, mask=False, drop=False,
    activation="tanh", recurrent_activation="sigmoid", sequences=True, backwards=False, zero_masked=False, needs=None,
    differentiable=True,
):  # fmt: skip
    rng = np.random.default_rng(batch + 10 * length + 100 * units)
    gates = GATES[family]

    def floats(*shape, scale=0.7):
        return (rng.standard_normal(shape) * scale).astype(dtype)

    arrays = [
        floats(batch, length, features),
        floats(features, gates * units),
        floats(units, gates * units, scale=0.7 / np.sqrt(units)),
        floats(*((2,) if family == "gru" else ()), gates * units) if bias else None,
        floats(batch, units) if states else None,
    ]
    if family == "lstm":
        arrays.append(floats(batch, units) if states else None)
    masks = rng.random((batch, length)) < 0.6
    masks[0] = False
    arrays += [masks if mask else None, rng.choice([0.0, 2.0], (batch, units)).astype(dtype) if drop else None]
    constants = {
        "activation": recurrence.ACTIVATIONS[activation],
        "recurrent_activation": recurrence.ACTIVATIONS[recurrent_activation],
        "sequences": sequences,
        "backwards": backwards,
        "zero_masked": zero_masked,
        "differentiable": differentiable,
    }
    if family.startswith("gru"):
        constants["reset_after"] = family == "gru"
    if family == "simple_rnn":
        del constants["recurrent_activation"], constants["differentiable"]
    op, vjp = OPS[family]
    twins.check(
        op, vjp if differentiable else None, arrays, constants, needs, rtol=3e-5 if dtype == "float32" else None
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_float64(family):
    check(family, dtype="float64", mask=True, drop=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [None, "repeat", "zero"])
def test_options(family, sequences, backwards, masked):
    check(family, sequences=sequences, backwards=backwards, mask=bool(masked), zero_masked=masked == "zero")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("states", [False, True])
def test_recurrent_dropout(family, masked, states):
    check(family, drop=True, mask=masked, states=states)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("bias", "states"), [(True, False), (False, True), (False, False)])
def test_absent_bias_and_states(family, bias, states):
    check(family, bias=bias, states=states, sequences=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("activation", "recurrent_activation"),
    [
        *(("relu", "hard_sigmoid"), ("linear", "legacy_hard_sigmoid"), ("sigmoid", "tanh")),
        *(("hard_sigmoid", "sigmoid"), ("legacy_hard_sigmoid", "linear"), ("tanh", "relu")),
    ],
)
def test_activations(family, activation, recurrent_activation):
    check(family, length=2, activation=activation, recurrent_activation=recurrent_activation)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 1, 4), (5, 2, 3, 16), (9, 3, 2, 7), (35, 2, 2, 4), (2, 3, 2, 20)]
)
def test_sizes(family, shape):
    check(family, *shape)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("needed", [0, 1, 2, 3, 4])
def test_only_the_gradient_that_is_needed(family, needed):
    check(family, needs=tuple(i == needed for i in range(8)), mask=needed == 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_gradients(family):
    check(family, length=5, differentiable=False, mask=True, drop=True)
    check(family, length=1, differentiable=False, sequences=False)
