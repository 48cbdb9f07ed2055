"""Keras's dtype policies: names, defaults, configurations. tests/layers/test_precision.py computes with those of 16 bits."""

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import config, dtype_policies, layers, mixed_precision


@pytest.fixture(autouse=True)
def policy_as_before():
    yield
    config.set_dtype_policy(None)


def test_a_policy_is_a_dtype_s_name():
    policy = keras.DTypePolicy("float64")
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == ("float64",) * 3
    assert policy.quantization_mode is None and repr(policy) == '<DTypePolicy "float64">'
    assert policy == keras.FloatDTypePolicy("float64") != keras.DTypePolicy() == config.dtype_policy()
    assert keras.DTypePolicy.from_config(policy.get_config()) == policy and len({policy, policy}) == 1


def test_layers_take_policies():
    dense = layers.Dense(2, dtype=keras.DTypePolicy("float64"))
    assert dense(np.ones((1, 3), "float32")).dtype == np.float64 and dense.kernel.dtype == np.float64
    assert dense.dtype == "float64" and dense.dtype_policy == keras.DTypePolicy("float64")
    written = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}, "registered_name": None}
    assert dtype_policies.serialize(dense.dtype_policy) == written
    again = layers.Dense.from_config({**dense.get_config(), "dtype": written})
    assert again.dtype == "float64"
    assert dtype_policies.get(written) == dtype_policies.deserialize(written) == dtype_policies.get("float64")


def test_the_policy_of_new_layers():
    choose = mixed_precision.set_global_policy
    assert choose is mixed_precision.set_dtype_policy is config.set_dtype_policy
    for given in ("float64", keras.DTypePolicy("float64"), mixed_precision.Policy("float64")):
        choose("float32")
        assert layers.Dense(1).dtype == "float32"
        choose(given)
        assert layers.Dense(1).dtype == "float64" and mixed_precision.global_policy().name == "float64"


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_policies_of_16_bits(name):
    compute, variable = name.removeprefix("mixed_"), "float32" if name.startswith("mixed_") else name
    for call in (keras.DTypePolicy, dtype_policies.get, mixed_precision.Policy):
        policy = call(name)
        assert (policy.name, policy.compute_dtype, policy.variable_dtype) == (name, compute, variable)
        assert dtype_policies.deserialize(dtype_policies.serialize(policy)) == policy
    config.set_dtype_policy(name)
    assert config.dtype_policy() == policy == keras.DTypePolicy() and config.floatx() == "float32"
    for layer in (layers.Dense(1), layers.Dense(1, dtype=policy), layers.Dense(1, dtype=name)):
        assert (layer.compute_dtype, layer.dtype, layer.variable_dtype) == (compute, variable, variable)
        assert layer.dtype_policy == policy and layers.Dense.from_config(layer.get_config()).dtype_policy == policy
    assert layers.Dense(1, dtype="float32").dtype_policy.name == "float32" and keras.Input((2,)).dtype == np.float32


def test_policies_of_integers():
    policy = dtype_policies.QuantizedDTypePolicy("int8")
    assert policy == dtype_policies.get("int8_from_float32") != keras.DTypePolicy("float32")
    assert (policy.name, policy.compute_dtype, policy.quantization_mode) == ("int8_from_float32", "float32", "int8")
    written = dtype_policies.serialize(policy)
    assert written["module"] == "keras.dtype_policies" and written["class_name"] == "QuantizedDTypePolicy"
    assert dtype_policies.deserialize(written) == policy
    for call in (keras.DTypePolicy, config.set_dtype_policy):
        with pytest.raises(ValueError, match="'int8_from_float32' is not offered"):
            call("int8_from_float32")
    with pytest.raises(ValueError, match="Invalid quantization mode.*'int7'"):
        dtype_policies.QuantizedDTypePolicy("int7")


def test_policies_of_parts():
    policies = dtype_policies.DTypePolicyMap("float64", {"heads/query": "int8_from_float32"})
    policies["a/.*"] = "float32"
    assert policies["heads/query"].quantization_mode == "int8" and policies["heads/key"].name == "float64"
    assert policies["a/b"].name == "float32" and len(policies) == 2
    again = dtype_policies.deserialize(dtype_policies.serialize(policies))
    assert again == policies and again.name == "map_float64" and again.compute_dtype == "float64"
    del policies["a/.*"]
    assert policies["a/b"].name == "float64" and list(policies) == ["heads/query"]


def test_a_layer_of_a_map_without_its_path():
    layer = layers.Dense(2, dtype=dtype_policies.DTypePolicyMap("float64", {"other": "float32"}))
    again = layers.Dense.from_config(layer.get_config())
    assert again.dtype_policy == layer.dtype_policy and again.dtype == "float64"


@pytest.mark.parametrize("make", [keras.metrics.Mean, keras.losses.MeanSquaredError])
def test_metrics_and_losses_take_policies(make):
    for given, dtype in [
        ("mixed_float16", "float16"),
        (keras.DTypePolicy("float64"), "float64"),
        (np.float64, "float64"),
    ]:
        assert make(dtype=given).dtype == dtype


def test_mistakes():
    with pytest.raises(TypeError, match="must be a string"):
        keras.DTypePolicy(32)
    with pytest.raises(ValueError, match="expected the configuration of a dtype policy"):
        dtype_policies.deserialize({"class_name": "Dense", "config": {}})
    with pytest.raises(ValueError, match="a dtype policy is a name"):
        dtype_policies.get(3)
    with pytest.raises(ValueError, match="must compute in floats, received 'int32'"):
        config.set_dtype_policy("int32")
    assert mixed_precision.LossScaleOptimizer is keras.optimizers.LossScaleOptimizer
