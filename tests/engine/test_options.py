"""A configuration is read from the signature of `__init__`."""

import numpy as np
import pytest

from nbkeras import activations, constraints, initializers, layers, regularizers
from nbkeras.engine.options import config_from


class Base(layers.Layer):
    def __init__(self, size=1, kernel_initializer="ones", activity_regularizer=None, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.size, self.kernel_initializer = size, initializers.get(kernel_initializer)

    get_config = config_from(__init__)


class Derived(Base):
    def __init__(self, axes, rate=0.5, unused=None, size=2, **kwargs):
        super().__init__(size, **kwargs)
        self.axes, self._rate = axes, rate

    get_config = config_from(__init__, rate="_rate", leave_out="unused trainable")


class Users(Derived):
    def __init__(self, extra, **kwargs):
        super().__init__(3, **kwargs)
        self.extra = extra


def test_options_follow_those_of_the_extended_class_in_the_order_of_the_signature():
    assert list(Base(name="b").get_config()) == ["name", "trainable", "dtype", "size", "kernel_initializer"]
    assert list(Derived((1, 2)).get_config()) == ["name", "dtype", "size", "kernel_initializer", "axes", "rate"]


def test_options_come_from_attributes():
    config = Derived((1, (2, np.int64(3))), 0.25).get_config()
    assert config["axes"] == [1, [2, 3]] and config["rate"] == 0.25 and config["size"] == 2
    assert type(Derived(np.arange(2)).get_config()["axes"][0]) is int
    with pytest.raises(AttributeError, match="has no attribute 'size'"):
        layer = Base()
        del layer.size
        layer.get_config()


def test_a_subclass_without_get_config_has_the_options_of_the_class_that_it_extends():
    assert Users(extra=1, name="u").get_config() == Derived(3, name="u").get_config()


def test_objects_are_written_by_the_registry_of_their_kind():
    class Held(layers.Layer):
        def __init__(self, activation, kernel_regularizer, kernel_constraint, layer, parts, **kwargs):
            super().__init__(**kwargs)
            self.activation, self.layer, self.parts = activation, layer, parts
            self.kernel_regularizer, self.kernel_constraint = kernel_regularizer, kernel_constraint

        get_config = config_from(__init__)

    dense = layers.Dense(2, name="d")
    config = Held(activations.relu, regularizers.L1(0.5), constraints.NonNeg(), dense, (dense,)).get_config()
    assert config["activation"] == "relu"
    assert config["kernel_regularizer"] == regularizers.serialize(regularizers.L1(0.5))
    assert config["kernel_constraint"] == constraints.serialize(constraints.NonNeg())
    assert config["layer"] == layers.serialize(dense) and config["parts"] == [layers.serialize(dense)]


def test_the_method_is_a_plain_function_of_its_class():
    assert Derived.get_config.__qualname__ == "Derived.get_config" and Derived.get_config.__module__ == __name__
