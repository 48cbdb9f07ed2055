"""Every tensor is a value: what was read before a write stays as it was, for gradients too, eagerly and in recorded steps.

The cases of reference/value_cases.py give what Keras gives with TensorFlow: its results were stored by reference/make_values.py.
"""

import functools
import types
from pathlib import Path

import numpy as np
import pytest
from arrays import assert_close
from value_cases import CASES, INPUTS, STATE_WRITES, scaled

import nbkeras as keras
from nbkeras import autodiff, config
from nbkeras.data.adapters import Layout
from nbkeras.engine import structures
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.tensor import Variable
from nbkeras.training.step import Step

K = types.SimpleNamespace(
    **{name: getattr(keras, name) for name in "Variable Model Sequential Input layers losses metrics random".split()},
    ops=keras.ops,
    optimizers=keras.optimizers,
    Tape=keras.GradientTape,
    now=lambda value: value,
    vjp=autodiff.vjp,
    checkpoint=autodiff.checkpoint,
    overwrite=lambda array: array.fill(-5.0),
    clone_model=keras.models.clone_model,
    flatten=structures.flatten,
)
STEPS = [name for name, case in CASES.items() if case.is_step]
RECORDED = [name for name in STEPS if CASES[name].is_recorded]
WHOLE = [name for name, case in CASES.items() if not case.is_step]


@functools.cache
def stored():
    """The results of TensorFlow by case: a row for each run of a step."""
    with np.load(Path(__file__).parents[1] / "reference" / "values.npz", allow_pickle=False) as file:
        index, values = str(file["index"]), file["values"]
    found, start = {}, 0
    for line in index.splitlines():
        name, rows, size = line.split()
        found[name] = values[start : start + int(size)].reshape((int(rows), -1) if int(rows) else -1)
        start += int(size)
    return found


@pytest.fixture(autouse=True)
def doubles():
    before = config.floatx()
    config.set_floatx("float64")
    yield
    config.set_floatx(before)


def named(results):
    """The results that are not None, by name."""
    pairs = results.items() if isinstance(results, dict) else enumerate(results)
    return {f"{number}": each for number, each in pairs if each is not None}


def check(results, expected, where):
    """The results are as expected, and each of them is a tensor or an array of its own: no Variable."""
    start = 0
    for name, result in named(results).items():
        got = np.asarray(result, "float64")
        want = expected[start : start + got.size].reshape(got.shape)
        start += got.size
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10, err_msg=f"{name} of {where}")
    assert start == expected.size


def test_the_stored_results_are_of_these_cases():
    assert list(stored()) == list(CASES)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_computes_with_the_values_of_the_moment(name):
    """Also the results of earlier runs stay as they were."""
    case, held = CASES[name], []
    run = case.make(K)
    for x, expected in zip(INPUTS, stored()[name], strict=True):
        held.append(run(keras.ops.convert_to_tensor(x.copy()) if case.is_recorded else x.copy()))
        check(held[-1], expected, f"run {len(held)}")
    for number, (results, expected) in enumerate(zip(held, stored()[name], strict=True), 1):
        check(results, expected, f"run {number}, after all runs")


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_step_computes_with_the_values_of_the_moment(name):
    run = CASES[name].make(K)
    step = Step("train", lambda x: named(run(x)))
    for number, (x, expected) in enumerate(zip(INPUTS, stored()[name], strict=True), 1):
        results = step(Batch([x.copy()], ALL, len(x), Layout(0, None, 1, 0)))
        check(results, expected, f"run {number}")
    assert step.programs() and step.recordings < len(INPUTS)  # the last run was a replay


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_training_computes_with_the_values_of_the_moment(name, eagerly):
    check(CASES[name].make(K, eagerly), stored()[name], "all results")


def test_a_value_is_no_variable():
    """`value` is a tensor with the gradient of the variable."""
    v = Variable(np.array([1.0, 2.0]))
    for read in (lambda: v.value, lambda: keras.ops.convert_to_tensor(v), lambda: keras.ops.array(v)):
        with keras.GradientTape() as tape:
            y = read() * 3.0
        assert not isinstance(read(), Variable)
        np.testing.assert_array_equal(tape.gradient(y, v), [3.0, 3.0])


def test_a_call_with_given_values_uses_the_state_of_before():
    """In a stateless call a state is used, and then assigned: the gradient is that of the layer's own call."""
    layer, found = scaled(K, STATE_WRITES["assign"]), []
    layer.build((None, 3))
    given = [[np.copy(v.numpy()) for v in own] for own in (layer.trainable_variables, layer.non_trainable_variables)]
    for is_stateless in (False, True):
        x = keras.ops.convert_to_tensor(INPUTS[0].copy())
        weights, states = ([keras.ops.convert_to_tensor(each) for each in group] for group in given)
        with keras.GradientTape() as outer:
            with keras.GradientTape() as tape:
                tape.watch([x, *weights])
                y = layer.stateless_call(weights, states, x)[0] if is_stateless else layer(x)
                y = y * y
            sources = [x, *(weights if is_stateless else layer.trainable_variables)]
            gradients = tape.gradient(y, sources)
            total = sum(keras.ops.sum(each * each) for each in gradients)
        found.append([each.numpy() for each in (y, *gradients, *outer.gradient(total, sources))])
    assert_close(found[1], found[0], rtol=1e-12)


def test_a_step_that_builds_the_optimizer_returns_a_value_that_it_only_read():
    """The weight moves into the optimizer's memory in the run that is recorded; no kernel used it before."""
    v, optimizer = Variable(np.ones((2, 3))), keras.optimizers.SGD(0.125)

    def run(x):
        before = v.value
        optimizer.apply_gradients([(x, v)])
        return {"before": before}

    step = Step("train", run)
    for _ in range(3):
        expected = v.numpy()
        results = step(Batch([INPUTS[0].copy()], ALL, 2, Layout(0, None, 1, 0)))
        np.testing.assert_array_equal(results["before"], expected)
