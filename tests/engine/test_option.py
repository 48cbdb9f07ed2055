"""Options are declared once, by the annotations of `__init__`."""

from typing import Annotated, Any

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import layers, metrics, regularizers
from nbkeras.engine import option
from nbkeras.engine.option import AtLeast0

Mode = Annotated[str, option.choice("fast", "slow", any_case=True)]


class Base(option.Configured):
    def __init__(self, size: option.Size = 1, mode: "Mode" = "fast", plain=None):
        super().__init__()
        option.keep(self, locals())


class Derived(Base):
    def __init__(self, rate: Annotated[option.Rate, "_rate"] = 0.5, axes: "option.Integers" = (1,), **kwargs):
        super().__init__(**kwargs)
        option.keep(self, locals())


class Narrow(Derived):
    def __init__(self, axes: option.Integers = (2,)):
        super().__init__(axes=axes)


class Users(Derived):
    def __init__(self, extra):
        super().__init__(size=3)
        self.extra = extra


def test_keep_checks_converts_and_sets():
    made = Derived(1, np.arange(2), size=np.int64(4), mode="SLOW", plain=3)
    assert vars(made) == {"size": 4, "mode": "slow", "_rate": 1.0, "axes": (0, 1)}
    assert type(made.size) is int and type(made._rate) is float and type(made.axes[0]) is int


def test_a_configuration_has_the_options_of_the_base_class_first():
    config = Derived(0.25, [1, 2], size=4).get_config()
    assert list(config) == ["size", "mode", "rate", "axes"] and config["rate"] == 0.25 and config["axes"] == [1, 2]
    assert Derived.from_config(config).get_config() == config


def test_without_kwargs_the_options_of_the_base_classes_are_left_out():
    assert list(option.of_class(Derived)) == ["size", "mode", "rate", "axes"]
    assert list(option.of_class(Narrow)) == ["axes"] and Narrow().get_config() == {"axes": [2]}


def test_a_users_class_that_declares_nothing_has_the_options_of_the_class_that_it_extends():
    assert Users(1).get_config() == Derived(size=3).get_config()


def test_a_users_layer_declares_options():
    class Scale(layers.Layer):
        def __init__(self, factor: option.Number = 1.0, weights_regularizer: option.Regularizer = None, **kwargs):
            super().__init__(**kwargs)
            option.keep(self, locals())

    config = Scale(2, "l2", name="s").get_config()
    assert config["factor"] == 2.0 and config["weights_regularizer"] == regularizers.serialize(regularizers.L2())
    assert Scale.from_config(config).get_config() == config


test_errors_name_class_option_expectation_and_value = mistakes(
    [
        (lambda: Base(0), ValueError, "Base: size must be a positive integer, received 0"),
        (lambda: Base(mode="x"), ValueError, "Base: mode must be 'fast' or 'slow', received 'x'"),
        (lambda: Derived(2), ValueError, "Derived: rate must be a number from 0 to 1, received 2"),
        (lambda: Derived(axes=3), TypeError, "Derived: axes must be a tuple of integers, received 3"),
    ]
)


def test_optional_kinds():
    kind: Any = option.optional(option.Size)
    assert kind.check(Base(), "n", None) is None and kind.words == "a positive integer, or None"
    with pytest.raises(ValueError, match="Base: n must be a positive integer"):
        kind.check(Base(), "n", 0)


def test_metrics_and_regularizers_of_users():
    class Mine(regularizers.Regularizer):
        pass

    class Declared(regularizers.Regularizer):
        def __init__(self, factor: option.Number = 1.0):
            super().__init__()
            option.keep(self, locals())

    class Own(metrics.Metric):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define get_config"):
        Mine().get_config()
    assert Declared(2).get_config() == {"factor": 2.0} and list(Own().get_config()) == ["name", "dtype"]


def test_a_check_that_fails_is_an_error_of_the_value():
    """A check that compares need not look at types; its own errors, and those of a user's class, stay as they are."""

    class Number(float):
        def __ge__(self, other):
            raise KeyError("mine")

    class Half(regularizers.Regularizer):
        def __init__(self, n: AtLeast0):
            super().__init__()
            option.keep(self, locals())

    assert Half(4).n == 4
    for value, error, message in (
        ("text", TypeError, "Half: n must be a number, 0 or more, received 'text'"),
        (None, TypeError, "Half: n must be a number, 0 or more, received None"),
        (-1, ValueError, "Half: n must be >= 0, received -1"),
        (Number(), KeyError, "mine"),
    ):
        with pytest.raises(error, match=message):
            Half(value)

    pandas = pytest.importorskip("pandas")
    for table in (pandas.DataFrame([[1, 2]]), pandas.Series([1, 2])):  # pandas raises on purpose, but names no argument
        with pytest.raises(TypeError, match="Half: n must be a number, 0 or more, received"):
            Half(table)
