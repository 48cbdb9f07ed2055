"""Functions, configurations and policies of keras.quantizers against Keras 3.15.1 (scripts/make_names_references.py)."""

import pathlib

import numpy as np
import pytest
import rounding_cases

import nbkeras as keras
from nbkeras import dtype_policies, ops, quantizers
from nbkeras.dtype_policies import AWQDTypePolicy, GPTQDTypePolicy, Int4DTypePolicy
from nbkeras.quantizers import AbsMaxQuantizer, AWQConfig, GPTQConfig, Int4QuantizationConfig

STORED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "names" / "rounding.npz")


@pytest.mark.parametrize("name", list(rounding_cases.CASES))
def test_functions_are_those_of_keras(name):
    for number, found in enumerate(rounding_cases.CASES[name](keras)):
        stored = STORED[f"{name} {number}"]
        assert found.dtype == stored.dtype and found.shape == stored.shape
        assert np.allclose(found, stored, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_packed_integers_come_back(axis):
    packed, shape, size = quantizers.pack_int4(rounding_cases.INTEGERS, axis)
    assert packed.shape == shape
    assert np.array_equal(quantizers.unpack_int4(packed, size, axis), rounding_cases.INTEGERS)
    unsigned = (rounding_cases.INTEGERS + 8).astype("uint8")
    packed, _, size = quantizers.pack_int4(unsigned, axis, "uint8")
    assert np.array_equal(quantizers.unpack_int4(packed, size, axis, "uint8"), unsigned)


def test_gradients_of_fake_quantization():
    x = keras.Variable(np.array([-2.0, 0.1, 3.0], "float32"))
    low, high = keras.Variable(-1.0), keras.Variable(1.0)
    with keras.GradientTape() as tape:
        loss = ops.sum(quantizers.fake_quant_with_min_max_vars(x, low, high) * np.array([1.0, 2.0, 4.0]))
    assert [each.numpy().tolist() for each in tape.gradient(loss, [x, low, high])] == [[0, 2, 0], 1, 4]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_numbers_of_8_bits_are_those_of_ml_dtypes(name):
    """All numbers of the format, their midpoints, and the neighbours of both; and numbers beyond its range."""
    kind = getattr(pytest.importorskip("ml_dtypes"), name)
    exact = np.arange(256, dtype="uint8").view(kind).astype("float32")
    exact = np.sort(exact[np.isfinite(exact)])
    x = np.concatenate([exact, (exact[1:] + exact[:-1]) / 2, np.logspace(-12, 4, 2000, dtype="float32")])
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    found = quantizers.quantize_and_dequantize(x, 1.0, name, "float32").numpy()
    assert np.array_equal(found, np.clip(x, exact[0], exact[-1]).astype(kind).astype("float32"))
    far = quantizers.quantize_and_dequantize(np.array([1e9, -np.inf, np.nan], "float32"), 1.0, name, "float32").numpy()
    assert np.array_equal(far, [exact[-1], exact[0], np.nan], equal_nan=True)


def test_the_gradient_passes_through_8_bit_floats():
    x = keras.Variable(np.array([1.06, 3.0], "float32"))
    with keras.GradientTape() as tape:
        loss = ops.sum(quantizers.quantize_and_dequantize(x, 2.0, "float8_e5m2", "float32"))
    assert tape.gradient(loss, x).numpy().tolist() == [1, 1]


@pytest.mark.parametrize(
    "config",
    [
        Int4QuantizationConfig(),
        Int4QuantizationConfig(AbsMaxQuantizer(0, (-8, 7)), None, -1),
        quantizers.Float8QuantizationConfig(),
        GPTQConfig(None, None, weight_bits=3, symmetric=True),
        AWQConfig(None, None, num_grid_points=7),
    ],
    ids=["int4", "int4 by columns", "float8", "gptq", "awq"],
)
def test_configurations_come_back(config):
    again = quantizers.deserialize(quantizers.serialize(config))
    assert type(again) is type(config) and again.get_config() == config.get_config()


def test_a_configuration_of_an_older_keras_has_no_groups():
    assert Int4QuantizationConfig.from_config({}).block_size is None


POLICIES = [
    "int4_from_float32", "int4/128_from_float32", "gptq/4/-1_from_float32", "awq/4/64_from_float64", "float8_from_float32"
]  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_policies_by_name(name):
    policy = dtype_policies.get(name)
    assert policy.name == name and policy.quantization_mode == name.split("_")[0].split("/")[0]
    again = dtype_policies.deserialize(dtype_policies.serialize(policy))
    assert again == policy and type(again) is type(policy) and policy != dtype_policies.get("int8_from_float32")


def test_histories_of_policies_may_have_other_lengths():
    policy = dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32", 16)
    again = dtype_policies.deserialize(dtype_policies.serialize(policy))
    assert again == policy and again != dtype_policies.get("float8_from_float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Int4DTypePolicy("int4"), "mode must be 'int4/<block_size>'"),
        (lambda: Int4DTypePolicy("int4/0"), "positive integers or -1"),
        (lambda: Int4DTypePolicy("int4/" + "9" * 5000), "positive integers or -1"),
        (lambda: GPTQDTypePolicy("gptq/5/1"), "for 'gptq' 2, 3, 4 or 8"),
        (lambda: AWQDTypePolicy("awq/8/1"), "weight_bits must be 4"),
        (lambda: AWQDTypePolicy("gptq/4/1"), "mode must be 'awq/"),
        (lambda: dtype_policies.QuantizedDTypePolicy("x"), "Invalid quantization mode. Expected 'int8'"),
        (lambda: Int4QuantizationConfig(block_size=0), "block_size must be"),
        (lambda: Int4QuantizationConfig(AbsMaxQuantizer(0, (-8, 7))), "use block_size=None with them, received 128"),
        (
            lambda: Int4QuantizationConfig(AbsMaxQuantizer(0), block_size=None),
            r"must have value_range=\(-8, 7\), received \(-127, 127\)",
        ),
        (lambda: quantizers.pack_int4(rounding_cases.INTEGERS, 0, "int16"), "'int8' or 'uint8'"),
        (lambda: quantizers.pack_int4(rounding_cases.INTEGERS, 3), "axis must be an"),
        (lambda: quantizers.unpack_int4(np.zeros((2, 2), "int8"), 5), "2 bytes do not hold 5 integers"),
        (lambda: quantizers.abs_max_quantize_grouped_with_zero_point(np.ones(3), 2), "must be a matrix"),
        (lambda: quantizers.quantize_and_dequantize(1.0, 1.0, "float8", "float32"), "one of .'float8_e4"),
        (lambda: AWQConfig(None, None, weight_bits=8), "weight_bits must be"),
        (lambda: GPTQConfig(None, None, num_samples=0), "num_samples must be"),
        (lambda: GPTQConfig(None, None, hessian_damping=2), "hessian_damping must be from"),
        (lambda: GPTQConfig(None, None, group_size=0), "group_size must be"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dtype_policies.QuantizedFloat8DTypePolicy("float8", None, "a"), "positive integer"),
        (lambda: quantizers.pack_int4(rounding_cases.W), "expected integers of int8"),
        (lambda: quantizers.unpack_int4(np.zeros((2, 2), "int32"), 4), "packed must be int8 or uint8"),
    ],
)
def test_other_kinds_of_values_are_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()
