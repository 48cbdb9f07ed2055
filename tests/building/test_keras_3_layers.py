"""Behaviour of Keras 3's layers and models that packages rely on: policies, paths, frozen parts, shapes, configurations."""

import sys
import types

import numpy as np
import pytest
from made_models import built, compiled, reloaded

import nbkeras as keras
from nbkeras import dtype_policies, layers, ops
from nbkeras.engine import compatibility, settings
from nbkeras.saving import deserialize_keras_object


def small_model(**options):
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(2, name="own")(ops.relu(inputs)), **options)


# -------------------- policies and paths --------------------


def test_a_dtype_policy_is_set_before_the_weights_exist():
    layer = layers.Dense(2)
    layer.dtype_policy = "float64"
    layer.build((None, 3))
    assert (layer.dtype, layer.kernel.dtype.name, layer.dtype_policy.name) == ("float64", "float64", "float64")
    with pytest.raises(ValueError, match="has weights of dtype 'float64' already: make a layer with dtype='float32'"):
        layer.dtype_policy = "float32"
    layer.dtype_policy = "int8_from_float64"
    assert layer.quantization_mode == "int8"


class Block(layers.Layer):
    def build(self, input_shape):
        self.inner = layers.Dense(2, name="inner", dtype=self.dtype_policy)
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs)


def test_a_path_has_the_layers_that_built_a_layer():
    block = Block(name="block")
    assert block.path is None
    block(np.ones((1, 3)))
    assert (block.path, block.inner.path) == ("block", "block/inner")


X = np.ones((2, 4, 3), "float32")


def dense(name):
    return layers.Dense(3, name=name)


class Steps(keras.Model):
    def __init__(self, steps, **options):
        super().__init__(**options)
        self.steps = steps

    def call(self, inputs):
        for step in self.steps:
            inputs = step(inputs)
        return inputs


def sequential(name, *steps, given=True):
    return keras.Sequential([keras.Input((4, 3)), *steps] if given else steps, name=name)


def called(model):
    model(X)
    return model


def functional(*steps):
    outputs = given = keras.Input((4, 3))
    for step in steps:
        outputs = step(outputs)
    return keras.Model(given, outputs, name="f")


def quantized(model):
    model.quantize("int8")
    return model


def bidirectional(cell, name="b", **options):
    return layers.Bidirectional(cell(2, name="r", **options), name=name)


PATHS = {  # a model, and the paths of the kernels in Keras 3.15
    "with an Input": (lambda: sequential("s", dense("a"), dense("b")), "s/a s/b"),
    "built late": (lambda: called(sequential("s", dense("a"), dense("b"), given=False)), "s/a s/b"),
    "nested": (lambda: sequential("s", sequential("in", dense("a")), dense("b")), "in/a s/b"),
    "nested, built late": (
        lambda: sequential("s", sequential("t", sequential("in", dense("a"), given=False), given=False), dense("b")),
        "s/t/in/a s/b",
    ),
    "all built late": (
        lambda: called(sequential("s", Steps([dense("a")], name="own"), dense("b"), given=False)),
        "s/own/a s/b",
    ),
    "functional": (lambda: functional(dense("a"), sequential("s", dense("b"))), "a s/b"),
    "functional in a Sequential": (lambda: sequential("s", functional(dense("a")), dense("b")), "a s/b"),
    "subclassed": (
        lambda: called(Steps([sequential("s", dense("a"), given=False), sequential("t", dense("b"))], name="m")),
        "m/s/a t/b",
    ),
    "a wrapper": (
        lambda: sequential("s", layers.TimeDistributed(sequential("in", dense("a"), given=False), name="t")),
        "s/t/in/a",
    ),
    "quantized": (lambda: quantized(sequential("s", dense("a"))), "s/a"),
    "LSTM": (lambda: functional(bidirectional(layers.LSTM)), "b/forward_r/lstm_cell b/backward_r/lstm_cell"),
    "two GRU": (
        lambda: functional(bidirectional(layers.GRU, return_sequences=True), bidirectional(layers.GRU, "c")),
        "b/forward_r/gru_cell b/backward_r/gru_cell c/forward_r/gru_cell c/backward_r/gru_cell",
    ),
    "SimpleRNN": (
        lambda: functional(layers.SimpleRNN(2, name="a", return_sequences=True), layers.SimpleRNN(2, name="b")),
        "a/simple_rnn_cell b/simple_rnn_cell",
    ),
    "cells": (
        lambda: sequential("s", layers.RNN([layers.LSTMCell(2, name=name) for name in "ab"], name="rnn")),
        "s/rnn/stacked_rnn_cells/a s/rnn/stacked_rnn_cells/b",
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_are_keras_s(name):
    make, expected = PATHS[name]
    keras.utils.clear_session()
    found = [weight.path for weight in make().weights if weight.name == "kernel"]
    assert found == [f"{path}/kernel" for path in expected.split()]


@pytest.mark.parametrize("key", ["s/a/.*", "a/.*"], ids=["path", "path of an older file"])
def test_a_loaded_model_has_the_same_paths_for_its_optimizers(tmp_path, key):
    pytest.importorskip("h5py")
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.5), {key: keras.optimizers.SGD(0.0)})
    model = compiled(sequential("s", dense("a"), dense("b")), keras.optimizers.MultiOptimizer(optimizers))
    loaded = reloaded(model, tmp_path / "m.keras")
    assert [weight.path for weight in loaded.weights] == [weight.path for weight in model.weights]
    before = loaded.get_weights()
    loaded.fit(X, np.ones_like(X), verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, loaded.get_weights(), strict=True)]
    assert changed == [False, False, True, True]


def test_cells_that_users_make_are_numbered():
    keras.utils.clear_session()
    assert layers.LSTM(2).cell.name == layers.Bidirectional(layers.LSTM(2)).backward_layer.cell.name == "lstm_cell"
    assert [layers.LSTMCell(2).name for _ in range(2)] == ["lstm_cell", "lstm_cell_1"]
    assert layers.ConvLSTM2D(2, 3).cell.name == "conv_lstm_cell"


def test_a_map_of_policies_reaches_the_parts_of_users_layers():
    policies = dtype_policies.DTypePolicyMap("float32", {"block/inner": "int8_from_float32"})
    block, other = Block(name="block", dtype=policies), Block(name="other", dtype=policies)
    x = np.ones((1, 3))
    block(x), other(x)
    assert (block.inner.quantization_mode, other.inner.quantization_mode) == ("int8", None)
    assert block.dtype_policy is policies


def test_autocast_is_written_only_if_the_caller_passes_it():
    class Own(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(autocast=False, **kwargs)

        def get_config(self):
            return super().get_config()

    assert not Own.from_config(Own().get_config()).autocast
    assert layers.Dense(2, autocast=False).get_config()["autocast"] is False


# -------------------- parts --------------------


def test_a_part_unfrozen_after_its_model_trains():
    model = built(keras.Sequential([Block(name="block"), layers.Dense(1)]), (None, 3))
    block = model.layers[0]
    for layer in model.layers:
        layer.trainable = False
    block.inner.trainable = True
    assert model.trainable_weights == block.inner.weights and block.trainable_weights == []


def test_in_keras_2_a_frozen_layer_freezes_its_parts(monkeypatch):
    monkeypatch.setattr(compatibility, "current", compatibility.KERAS_2)
    model = built(keras.Sequential([Block(name="block")]), (None, 3))
    model.layers[0].trainable = False
    model.layers[0].inner.trainable = True
    assert model.trainable_weights == []


def test_layers_of_a_functional_model_are_those_of_its_graph():
    model = small_model()
    model.other = layers.Dense(2)
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dense"]


def test_weights_start_with_the_layers_in_attributes_before_the_graph():
    class Own(keras.Model):
        def __init__(self, before):
            inputs, a, b = keras.Input((3,)), layers.Dense(1, name="a"), layers.Dense(1, name="b")
            outputs = b(a(inputs))
            if before:
                self.last = b
            super().__init__(inputs=inputs, outputs=outputs)

    assert [each.path for each in Own(True).weights][::2] == ["b/kernel", "a/kernel"]
    assert [each.path for each in Own(False).weights][::2] == ["a/kernel", "b/kernel"]


# -------------------- shapes --------------------


def test_a_users_compute_output_shape_counts_in_calls_with_several_arguments():
    class Pair(layers.Layer):
        def call(self, first, second=None, scale=1.0):
            return first * scale

        def compute_output_shape(self, first_shape, second_shape=None):
            return (*first_shape, 7 if second_shape is None else second_shape[-1])

    a, b = keras.Input((3,)), keras.Input((4,))
    assert Pair()(a, b).shape == (None, 3, 4)
    assert Pair()(a, second=b, scale=2.0).shape == (None, 3, 4)
    assert Pair()(a, scale=2.0).shape == (None, 3, 7)


def test_a_symbolic_call_builds_the_parts_of_a_layer_without_build():
    class Outer(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = layers.Dense(2)

        def call(self, inputs):
            return self.inner(inputs)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 2)

    layer = Outer()
    layer(keras.Input((3,)))
    assert layer.inner.built


def test_a_model_is_called_with_sizes_that_it_knows_better():
    class Table(layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight(shape=(1, 64, 2), name="table")

        def call(self, inputs):
            return ops.expand_dims(inputs, -1) + self.table

        def compute_output_shape(self, input_shape):
            return (*input_shape, 2)

    inputs = keras.Input((None,))
    inner = keras.Model(inputs, Table()(inputs))
    assert inner(keras.Input((None,))).shape == inner(inputs=keras.Input((None,))).shape == (None, None, 2)
    images = keras.Input((None, 48))
    assert keras.Model(images, layers.Dense(2)(images))(keras.Input((None, None))).shape == (None, None, 2)


def test_a_model_that_needs_two_arguments_is_built_by_its_own_build():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def build(self, input_shape=None):
            self.dense.build((None, 3))
            super().build(input_shape)

        def call(self, inputs, factors):
            return self.dense(inputs) * factors

    model = Two()
    assert model(np.ones((1, 3)), np.ones((1, 2))).shape == (1, 2) and model.built


def test_a_call_may_return_more_than_its_symbolic_call():
    class Uneven(layers.Layer):
        def call(self, inputs):
            return (inputs, inputs) if inputs.shape[1] == 0 else inputs

    inputs = keras.Input((None,))
    model = keras.Model(inputs, Uneven()(inputs))
    assert model(np.ones((2, 0))).shape == (2, 0)


def test_slices_in_a_list_index_as_in_a_tuple():
    x = ops.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(x[[slice(None), None, slice(1, None)]], [[[2.0]], [[4.0]]])
    np.testing.assert_array_equal(x[[1, 0]], [[3.0, 4.0], [1.0, 2.0]])


# -------------------- configurations --------------------


def test_a_subclass_that_makes_its_graph_itself_writes_only_its_arguments():
    class Own(keras.Model):
        def __init__(self, units, **kwargs):
            inputs = keras.Input((3,))
            super().__init__(inputs=inputs, outputs=layers.Dense(units)(inputs), **kwargs)
            self.units = units

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    config = Own(2, name="own").get_config()
    assert config["units"] == 2 and "layers" not in config
    assert Own.from_config({"units": 4}).output_shape == (None, 4)


def test_an_object_is_found_by_name_in_a_packages_objects():
    class Greedy:
        pass

    objects = {"greedy": Greedy, "twice": ops.square}
    assert type(deserialize_keras_object("greedy", module_objects=objects)) is Greedy
    assert deserialize_keras_object("twice", module_objects=objects) is ops.square
    # Keras takes any other string for a value
    assert deserialize_keras_object("greedi", module_objects=objects, printable_module_name="sampler") == "greedi"


def test_a_file_names_a_class_of_an_imported_package_of_keras_authors(monkeypatch):
    class Pool(layers.Layer):
        pass

    module = types.ModuleType("keras_hub.pooling")
    module.Pool, module.other = Pool, int
    monkeypatch.setitem(sys.modules, module.__name__, module)
    config = {"module": module.__name__, "class_name": "Pool", "config": {"name": "own"}, "registered_name": "Pool"}
    assert type(layers.deserialize(config)) is Pool
    for changed in ({"class_name": "other"}, {"module": "keras_hub.missing"}, {"module": "os"}):
        with pytest.raises(ValueError, match="unknown layer: "):
            layers.deserialize({**config, **changed})


def test_resizing_keeps_the_format_of_boxes():
    layer = layers.Resizing(2, 2, bounding_box_format="yxyx")
    assert layers.Resizing.from_config(layer.get_config()).bounding_box_format == "yxyx"
    assert "bounding_box_format" not in layers.Resizing(2, 2).get_config()


def test_save_format_keras_v3_is_the_format_of_keras(tmp_path):
    model = small_model()
    model.save(tmp_path / "model.keras", save_format="keras_v3")
    assert type(keras.models.load_model(tmp_path / "model.keras")) is type(model)


def test_flash_attention_is_never_enabled(monkeypatch):
    monkeypatch.setattr(settings.values, "flash_attention", None)  # as before, after the test
    keras.config.disable_flash_attention()
    assert keras.config.is_flash_attention_enabled() is False
