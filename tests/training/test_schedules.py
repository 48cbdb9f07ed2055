"""Learning-rate schedules against real Keras (tests/reference/optimizer_steps.npz)."""

import json

import numpy as np
import pytest
from mistakes import mistakes
from optimizer_steps import REFERENCE, SPEC

from nbkeras.engine.tensor import Variable
from nbkeras.optimizers import schedules


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
