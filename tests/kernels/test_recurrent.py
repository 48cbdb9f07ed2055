"""The fused recurrences against a step-by-step NumPy reference, whose gradients come from complex steps."""

import numpy as np
import pytest
from in_threads import by_threads

from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import as_tensor
from nbkeras.kernels.recurrent import lstm as lstm_kernels
from nbkeras.kernels.recurrent import recurrence as recurrent
from nbkeras.ops.recurrent import gru, lstm, simple_rnn
from nbkeras.testing import check_op

# -------------------- the reference: works on complex numbers too --------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def clipped(x):
    return np.where(x.real <= 0, 0, np.where(x.real >= 1, 1, x))


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "linear": lambda x: x,
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "hard_sigmoid": lambda x: clipped(x / 6 + 0.5),
    "legacy_hard_sigmoid": lambda x: clipped(0.2 * x + 0.5),
}


def lstm_step(x, states, operand, w, activation, recurrent):
    h, c = states
    i, f, g, o = np.split(x @ w["kernel"] + operand @ w["recurrent_kernel"] + w.get("bias", 0), 4, axis=1)
    c = recurrent(f) * c + recurrent(i) * activation(g)
    return [recurrent(o) * activation(c), c]


def gru_after_step(x, states, operand, w, activation, recurrent):
    h, bias = states[0], w.get("bias", np.zeros((2, 1)))
    xz, xr, xh = np.split(x @ w["kernel"] + bias[0], 3, axis=1)
    hz, hr, hh = np.split(operand @ w["recurrent_kernel"] + bias[1], 3, axis=1)
    z, r = recurrent(xz + hz), recurrent(xr + hr)
    return [z * h + (1 - z) * activation(xh + r * hh)]


def gru_before_step(x, states, operand, w, activation, recurrent):
    h = states[0]
    uz, ur, uh = np.split(w["recurrent_kernel"], 3, axis=1)
    xz, xr, xh = np.split(x @ w["kernel"] + w.get("bias", 0), 3, axis=1)
    z, r = recurrent(xz + operand @ uz), recurrent(xr + operand @ ur)
    return [z * h + (1 - z) * activation(xh + (r * operand) @ uh)]


def simple_step(x, states, operand, w, activation, recurrent):
    return [activation(x @ w["kernel"] + operand @ w["recurrent_kernel"] + w.get("bias", 0))]


STEPS = {"lstm": lstm_step, "gru": gru_after_step, "gru_before": gru_before_step, "simple_rnn": simple_step}
FAMILIES = list(STEPS)
GATES = {"lstm": 4, "gru": 3, "gru_before": 3, "simple_rnn": 1}
STATES = {"lstm": ("initial_h", "initial_c")}
FUSED = {"lstm": lstm, "gru": gru, "gru_before": gru, "simple_rnn": simple_rnn}


def states_of(family):
    return STATES.get(family, ("initial_h",))


def reference(
    family, inputs, mask=None, recurrent_dropout_mask=None, activation="tanh", recurrent_activation="sigmoid",
    return_sequences=True, go_backwards=False, zero_output_for_mask=False,
):  # fmt: skip
    x = inputs["x"]
    batch, length, _ = x.shape
    units = inputs["recurrent_kernel"].shape[0]
    states = [inputs.get(name, np.zeros((batch, units))) for name in states_of(family)]
    outputs = []
    for t in range(length)[:: -1 if go_backwards else 1]:
        operand = states[0] if recurrent_dropout_mask is None else states[0] * recurrent_dropout_mask
        functions = ACTIVATIONS[activation], ACTIVATIONS[recurrent_activation]
        new = STEPS[family](x[:, t], states, operand, inputs, *functions)
        live = np.ones((batch, 1), bool) if mask is None else mask[:, t, None]
        states = [np.where(live, n, s) for n, s in zip(new, states, strict=True)]
        outputs.append(np.where(live, states[0], 0) if zero_output_for_mask else states[0])
    return [np.stack(outputs, axis=1) if return_sequences else outputs[-1], *states]


def fused(family, inputs, **options):
    if family == "simple_rnn":
        options.pop("recurrent_activation", None)
    if family.startswith("gru"):
        options["reset_after"] = family == "gru"
    return FUSED[family](**inputs, **options)


def make(family, batch=3, length=4, features=2, units=3, bias=True, states=True, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    gates = GATES[family]
    shapes = {
        "x": (batch, length, features),
        "kernel": (features, gates * units),
        "recurrent_kernel": (units, gates * units),
    }
    if bias:
        shapes["bias"] = (2, gates * units) if family == "gru" else (gates * units,)
    if states:
        shapes |= {name: (batch, units) for name in states_of(family)}
    values = {name: rng.standard_normal(shape) * 0.7 for name, shape in shapes.items()}
    values["recurrent_kernel"] /= np.sqrt(units)  # far from chaos, where float32 would say nothing
    return {name: value.astype(dtype) for name, value in values.items()}


def make_mask(batch, length, seed=1):
    mask = np.random.default_rng(seed).random((batch, length)) < 0.6
    mask[0] = False  # a sample without any step
    if batch > 1:
        mask[1] = True
    return mask


def gradients(family, inputs, weights, **options):
    """Fused outputs, and the gradients of sum(weights * outputs) in every input."""
    tensors = {name: as_tensor(value) for name, value in inputs.items()}
    with GradientTape(persistent=True) as tape:
        tape.watch(list(tensors.values()))
        outputs = fused(family, tensors, **options)
    used = [i for i, weight in enumerate(weights) if weight is not None]
    targets, seeds = [outputs[i] for i in used], [as_tensor(weights[i]) for i in used]
    found = tape.gradient(targets, list(tensors.values()), seeds)
    again = tape.gradient(targets, list(tensors.values()), seeds)
    for a, b in zip(found, again, strict=True):  # the backward pass must not change its inputs
        assert (a is None) == (b is None) and (a is None or np.array_equal(a.numpy(), b.numpy()))
    return [o.numpy() for o in outputs], dict(zip(tensors, found, strict=True))


def check(family, inputs, seed=5, only=None, **options):
    """Outputs and gradients of the fused op against the reference, in float64. only: the outputs to differentiate."""
    rng = np.random.default_rng(seed)
    expected = reference(family, inputs, **options)
    weights = [rng.standard_normal(e.shape) if only is None or i in only else None for i, e in enumerate(expected)]
    outputs, found = gradients(family, inputs, weights, **options)
    for output, right in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, right, rtol=1e-12, atol=1e-13)
    for name, value in inputs.items():
        gradient = np.zeros_like(value) if found[name] is None else found[name].numpy()
        for _ in range(2):
            direction = rng.standard_normal(value.shape)
            moved = reference(family, {**inputs, name: value + 1e-30j * direction}, **options)
            slope = sum((w * m.imag).sum() / 1e-30 for w, m in zip(weights, moved, strict=True) if w is not None)
            np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-10, atol=1e-11, err_msg=name)


# -------------------- tests --------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [None, "repeat", "zero"])
def test_every_option_equals_the_reference(family, sequences, backwards, masked):
    inputs = make(family)
    options = {"return_sequences": sequences, "go_backwards": backwards}
    if masked:
        options |= {"mask": make_mask(3, 4), "zero_output_for_mask": masked == "zero"}
    check(family, inputs, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("states", [True, False])
def test_absent_bias_and_states(family, bias, states):
    check(family, make(family, bias=bias, states=states), return_sequences=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("only", [{0}, {1}])
def test_gradient_through_one_output_alone(family, only):
    check(family, make(family), only=only)
    check(family, make(family), only=only, mask=make_mask(3, 4), return_sequences=False)


def test_lstm_gradient_through_the_cell_state_alone():
    check("lstm", make("lstm"), only={2})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("activation", "recurrent_activation"),
    [
        *(("relu", "hard_sigmoid"), ("linear", "legacy_hard_sigmoid"), ("sigmoid", "tanh")),
        *(("hard_sigmoid", "sigmoid"), ("legacy_hard_sigmoid", "linear"), ("tanh", "relu")),
    ],
)
def test_every_activation_equals_the_reference(family, activation, recurrent_activation):
    inputs = make(family, length=2, seed=3)
    inputs["x"] *= 3  # far enough for the flat parts too
    check(family, inputs, activation=activation, recurrent_activation=recurrent_activation)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_dropout(family, masked):
    drop = np.random.default_rng(2).choice([0.0, 2.0], (3, 3))
    for states in (True, False):
        options = {"mask": make_mask(3, 4)} if masked else {}
        check(family, make(family, states=states), recurrent_dropout_mask=drop, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 3, 33])
@pytest.mark.parametrize("length", [1, 7])
def test_chunk_boundaries(family, batch, length, monkeypatch):
    monkeypatch.setattr(recurrent, "_SERIAL_WORK", 0)  # as many chunks as there may be
    monkeypatch.setattr(recurrent, "_MIN_ROWS", 1)
    monkeypatch.setattr(recurrent, "_BLOCK_ROWS", 8)  # and several blocks of steps, the last one shorter
    inputs = make(family, batch, length, features=3, units=5)
    check(family, inputs)
    check(family, inputs, mask=make_mask(batch, length), go_backwards=True, return_sequences=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_large_enough_for_transposed_weights(family):
    check(family, make(family, batch=17, length=64, features=3, units=4, dtype="float64"))


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_the_weight_gradients_are_added(family, monkeypatch):
    inputs = make(family, batch=8, length=5, features=40, units=30)
    weights = [np.ones_like(e) for e in reference(family, inputs)]
    _, whole = gradients(family, inputs, weights)
    monkeypatch.setattr(recurrent, "_SERIAL_WORK", 0)
    monkeypatch.setattr(recurrent, "_MIN_ROWS", 2)
    _, parted = gradients(family, inputs, weights)
    for name in inputs:
        np.testing.assert_allclose(parted[name].numpy(), whole[name].numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_close_to_float64(family):
    inputs = make(family, batch=9, length=12, features=8, units=20)
    single = {name: value.astype("float32") for name, value in inputs.items()}
    weights = [np.random.default_rng(1).standard_normal(e.shape) for e in reference(family, inputs)]
    outputs, found = gradients(family, single, [w.astype("float32") for w in weights])
    exact, right = gradients(family, {name: value.astype("float64") for name, value in single.items()}, weights)
    for a, b in zip(outputs, exact, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=2e-6)
    for name in inputs:
        scale = np.abs(right[name].numpy()).max()
        np.testing.assert_allclose(found[name].numpy(), right[name].numpy(), atol=1e-5 * scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_tape_the_outputs_are_the_same(family):
    inputs = make(family, batch=20, length=30, dtype="float32")
    outputs, _ = gradients(family, inputs, [np.ones_like(e, "float32") for e in reference(family, inputs)])
    for a, b in zip(fused(family, inputs), outputs, strict=True):
        assert np.array_equal(a.numpy(), b)


@pytest.mark.cpu("about threads")
@pytest.mark.parametrize("family", FAMILIES)
def test_results_do_not_depend_on_the_number_of_threads(family):
    inputs = make(family, batch=40, length=50, features=16, units=24, dtype="float32")
    weights = [np.ones_like(e, "float32") for e in reference(family, inputs)]
    results = by_threads(lambda: gradients(family, inputs, weights))
    (first, slopes), (outputs, found) = results[0], results[-1]
    assert all(np.array_equal(a, b) for a, b in zip(outputs, first, strict=True))
    assert all(np.array_equal(found[name].numpy(), slopes[name].numpy()) for name in inputs)


@pytest.mark.cpu("the CPU's chunks")
def test_chunks_are_cut_by_shape():
    assert recurrent.chunk_count(64, 8, 16, 32, 4) == 8
    assert recurrent.chunk_count(2, 1000, 64, 64, 4) == 1
    assert recurrent.chunk_count(64, 1, 2, 4, 4) == 1
    assert recurrent.chunk_count(4096, 100, 64, 64, 4) == 16


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_differences(family):
    inputs = make(family, batch=2, length=3)
    names = list(inputs)

    def function(mask, *values):
        return fused(family, dict(zip(names, values, strict=True)), mask=mask)

    check_op(function, np.array([[True, False, True], [True, True, True]]), *inputs.values())
    check_op(
        lambda *values: fused(family, dict(zip(names, values, strict=True)), return_sequences=False), *inputs.values()
    )


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_recurrent.py has the GPU's")
def test_gradients_are_written_to_their_destinations():
    inputs = make("lstm")
    options = {"activation": recurrent.TANH, "recurrent_activation": recurrent.SIGMOID, "sequences": True}
    (y, h, c), saved = lstm_kernels.lstm(*inputs.values(), None, None, **options, backwards=False, zero_masked=False)
    targets = [np.empty_like(value) for value in inputs.values()]
    results = lstm_kernels.lstm_vjp(saved, (np.ones_like(y), None, None), (*targets, False, False))
    assert all(result is target for result, target in zip(results, targets, strict=False))
    assert results[6:] == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((3, 4))}, "x must have shape .batch, steps, features.*received .3, 4."),
        ({"x": np.zeros((3, 0, 2))}, "none of them 0"),
        ({"kernel": np.zeros((5, 12))}, "kernel must have shape .2, 12.*received .5, 12."),
        ({"recurrent_kernel": np.zeros((3, 9))}, "recurrent_kernel must have shape .3, 12."),
        ({"bias": np.zeros(11)}, "bias must have shape .12,."),
        ({"initial_h": np.zeros((2, 3))}, "initial_h must have shape .3, 3."),
        ({"mask": np.ones((3, 5), bool)}, "mask must have shape .3, 4."),
        ({"activation": "tahn"}, "unknown activation 'tahn'. Did you mean 'tanh'"),
    ],
)
def test_mistakes_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        lstm(**{**make("lstm"), **change})


def test_an_integer_kernel_is_refused():
    with pytest.raises(TypeError, match="the kernel must be of a float dtype, received int64"):
        lstm(**{**make("lstm"), "kernel": np.zeros((2, 12), int)})
