"""Learning-rate schedules against real Keras (tests/reference/optimizer_steps.npz)."""

import json
import types

import numpy as np
import pytest
from made_models import compiled
from mistakes import mistakes
from optimizer_steps import REFERENCE, SPEC, runs_python

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.engine.tensor import Variable
from nbkeras.kernels.runtime import device
from nbkeras.optimizers import SGD, schedules


def make(case):
    name, config = SPEC["schedules"][case]
    return getattr(schedules, name)(**config)


@pytest.mark.parametrize("case", SPEC["schedules"])
def test_values_equal_keras(case):
    schedule = make(case)
    values = [schedule(step) for step in SPEC["at"]]
    np.testing.assert_allclose(values, REFERENCE[f"schedule.{case}"], rtol=1e-6, atol=1e-12)
    assert schedule(Variable(np.int64(5))) == schedule(5)


@pytest.mark.parametrize("case", SPEC["schedules"])
def test_configuration_round_trip(case):
    again = schedules.deserialize(json.loads(json.dumps(schedules.serialize(make(case)))))
    assert again.get_config() == make(case).get_config()


def test_restarts_begin_at_the_full_rate():
    schedule = schedules.CosineDecayRestarts(1.0, 3, t_mul=2.0)
    assert [schedule(step) for step in (0, 3, 9, 21)] == [1.0] * 4
    assert schedule(2) > 0 and schedule(8) < 0.1


test_mistakes_are_explained = mistakes(
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps must be > 0"),
        (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), "one value more than boundaries"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5), "t_mul must be >= 1"),
        (lambda: schedules.CosineDecay(0.1, 5, warmup_steps=-1), "warmup_steps must be >= 0"),
        (lambda: schedules.CosineDecay(0.1, 5)(-1), "the number of steps made, 0 or more"),
        (lambda: schedules.get("ExponentialDecai"), "Did you mean 'ExponentialDecay'"),
    ],
    ValueError,
)


test_numbers_are_numbers = mistakes(
    [
        (lambda: schedules.ExponentialDecay("a", 5, 0.5), "initial_learning_rate must be a number, received 'a'"),
        (lambda: schedules.CosineDecay(0.1, [5]), r"decay_steps must be a number above 0, received \[5\]"),
        (lambda: schedules.PiecewiseConstantDecay([0, {}], [1, 2, 3]), "boundaries must be a number, received {}"),
        (lambda: schedules.CosineDecay(0.1, 5)(np.ones(2)), "the number of steps made, received ndarray of shape"),
    ],
    TypeError,
)


def test_powers_beyond_floats_are_those_of_arrays():
    assert schedules.ExponentialDecay(1.0, 2, 1.5)(2**40) == np.inf
    assert schedules.PolynomialDecay(1.0, 2, 0.0, power=-1.0)(2) == np.inf
    assert np.isnan(schedules.ExponentialDecay(1.0, 2, -0.5)(1))


def test_a_schedule_of_ones_own_defines_its_methods():
    for call in (lambda: schedules.LearningRateSchedule()(1), lambda: schedules.LearningRateSchedule().get_config()):
        with pytest.raises(NotImplementedError, match="LearningRateSchedule must define (__call__|get_config)"):
            call()


ROUGH = {  # whose values need all bits of a product, a power or a cosine
    "exponential": schedules.ExponentialDecay(0.003, 7, 0.97),
    "exponential of a negative rate": schedules.ExponentialDecay(0.003, 7, -0.97),
    "staircase": schedules.ExponentialDecay(0.003, 7, -1.01, staircase=True),
    "inverse time": schedules.InverseTimeDecay(0.003, 7, 0.3),
    "inverse time with a pole": schedules.InverseTimeDecay(0.003, 7, -0.125),
    "staircase of inverse time": schedules.InverseTimeDecay(0.003, 7, 0.3, staircase=True),
    "piecewise": schedules.PiecewiseConstantDecay([3, 3.5, 200], [0.1, 1, 0.3, 0.7]),
    "constant": schedules.PiecewiseConstantDecay([], [0.1]),
    "polynomial": schedules.PolynomialDecay(0.003, 900, 1e-5, power=1.7),
    "polynomial with a pole": schedules.PolynomialDecay(0.003, 900, power=-0.3),
    "polynomial cycle": schedules.PolynomialDecay(0.003, 90.5, 1e-5, power=0.3, cycle=True),
    "cosine": schedules.CosineDecay(0.003, 900, alpha=0.01),
    "cosine after a warmup": schedules.CosineDecay(1e-5, 900, 0.01, warmup_target=0.003, warmup_steps=70),
    "restarts": schedules.CosineDecayRestarts(0.003, 11, t_mul=1.3, m_mul=0.9, alpha=0.01),
    "restarts of one length": schedules.CosineDecayRestarts(0.003, 11.5, t_mul=1.0, m_mul=0.9),
}


@pytest.mark.cpu("about native code")
@pytest.mark.parametrize("case", ROUGH)
def test_kernels_give_the_bits_of_calls(case):
    schedule, step, rate = ROUGH[case], *(device.persistent(np.zeros(1, dtype)) for dtype in (np.int64, np.float64))
    for now in (*range(1000), 10**6, 10**12):
        step[0] = now
        schedule.launch(step, rate)
        assert rate.tobytes() == np.float64(schedule(now)).tobytes(), now


def stepping(optimizer):
    """A function that makes a recorded step, and returns the learning rate of the step; and the recorded function."""
    weight = Variable(np.zeros(1), dtype="float64")
    step = keras.jit(lambda: optimizer.apply([ops.ones(1, "float64")], [weight]))

    def rate():
        weight.assign([0.0])
        step()
        return -weight.numpy().item()

    return rate, step


@pytest.mark.parametrize("case", [case for case in ROUGH if "pole" not in case and "negative" not in case])
def test_a_recorded_step_follows_a_schedule(case):
    optimizer = SGD(ROUGH[case])
    rate, step = stepping(optimizer)
    for number in range(8):
        assert float(optimizer.learning_rate) == ROUGH[case](number) == rate()
    (program,) = step.programs()
    assert not runs_python(program)


def test_a_recorded_step_follows_the_decay_of_keras_2():
    optimizer = SGD(0.3, decay=0.7)
    rate, step = stepping(optimizer)
    for number in range(8):
        optimizer.learning_rate = 0.3 + number
        assert rate() == (0.3 + number) / (1.0 + 0.7 * number)
    (program,) = step.programs()
    assert not runs_python(program)


def test_a_recorded_step_follows_the_batches_that_are_accumulated():
    schedule = ROUGH["exponential"]
    optimizer = SGD(schedule, gradient_accumulation_steps=3)
    rate, _ = stepping(optimizer)
    assert [rate() for _ in range(6)] == [0, 0, schedule(2), 0, 0, schedule(5)]


@pytest.mark.parametrize("rate", [ROUGH["cosine after a warmup"], ROUGH["piecewise"]])
def test_fit_replays_what_eager_steps_compute(rate):
    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), SGD(rate), run_eagerly=eagerly)
        x = np.random.default_rng(0).standard_normal((20, 3))
        model.fit(x, x[:, :2], 4, epochs=2, verbose=0)
        assert float(model.optimizer.learning_rate) == rate(10)
        assert not any(map(runs_python, model._steps["train"].programs()))
        found.append(model.get_weights())
    np.testing.assert_equal(*found)


def test_a_changed_schedule_is_followed():
    schedule = schedules.PiecewiseConstantDecay([1, 100], [0.1, 0.2, 0.3])
    optimizer = SGD(0.5)
    rate, step = stepping(optimizer)
    assert rate() == 0.5
    optimizer.learning_rate = schedule
    assert [rate(), rate()] == [0.1, 0.2]
    schedule.boundaries[1] = 2
    assert rate() == 0.3
    schedule.values = (0.1, 0.2, 0.4)
    assert rate() == 0.4
    optimizer.learning_rate = schedules.ExponentialDecay(1.0, 1, 0.5)
    assert [rate(), rate()] == [0.5**5, 0.5**6]
    assert step.programs()


def test_a_changed_schedule_of_an_optimizer_that_no_search_finds_is_followed():
    optimizer, weight = SGD(schedules.ExponentialDecay(1.0, 1, 0.5)), Variable(np.zeros(1), dtype="float64")
    hidden = types.SimpleNamespace(inside=types.SimpleNamespace(inside=types.SimpleNamespace(optimizer=optimizer)))
    step = keras.jit(lambda: hidden.inside.inside.optimizer.apply([ops.ones(1, "float64")], [weight]))
    step(), step()
    optimizer.learning_rate.assign(0)  # it is computed anew
    optimizer._schedule.decay_rate = 2.0
    step()
    assert weight.numpy() == [-1.5 - 4.0]
    optimizer.learning_rate = schedules.ExponentialDecay(16.0, 1, 1.0)
    step()
    assert weight.numpy() == [-1.5 - 4.0 - 16.0]


def test_a_schedule_in_python_is_followed():
    """Its attributes are the user's: lists are not copied, and changes in a call record no step again."""

    class Own(schedules.ExponentialDecay):
        def __init__(self, seen):
            super().__init__(1.0, 1, 0.5)
            self.seen, self.calls = seen, 0

        def __call__(self, step):
            self.calls += 1
            self.initial_learning_rate = 2.0 ** (self.calls // 2)
            return super().__call__(step)

    schedule = Own([])
    rate, step = stepping(SGD(schedule))
    rates = [rate() for _ in range(6)]
    assert rates == [2.0 ** ((call + 1) // 2) * 0.5**call for call in range(6)]
    assert len(step.programs()) == 1 and schedule.calls == 6


@pytest.mark.cpu("on a GPU, Python computes the rate once for each step")
def test_two_updates_in_a_recorded_step():
    optimizer, weight = SGD(schedules.InverseTimeDecay(1.0, 1, 1.0)), Variable(np.zeros(1), dtype="float64")
    optimizer.build([weight])

    @keras.jit
    def step():
        for _ in range(2):
            optimizer.apply([ops.ones(1, "float64")], [weight])

    for _ in range(3):
        step()
    np.testing.assert_allclose(weight.numpy(), [-sum(1 / n for n in range(1, 7))], rtol=1e-15)
    assert len(step.programs()) == 1
