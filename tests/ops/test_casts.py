"""Floats cast to integers: truncated, NaN is 0, and numbers out of range are the nearest integer, in all ways of execution."""

import itertools
import math

import numpy as np
import pytest
from libraries import loaded, needs_linker

import nbkeras as keras
from nbkeras import Input, Model, ops
from nbkeras.kernels import device
from nbkeras.kernels.interpreter import launches

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
EDGES = [2.0**bits + step for bits in (7, 8, 15, 16, 31, 32) for step in (-1, -0.5, 0, 1)]
EDGES += [2.0**63, 2.0**64, np.nextafter(2.0**63, 0), np.nextafter(2.0**64, 0), 1e20, 255.5, 300.5, np.inf]
SPECIAL = np.array([0.0, -0.5, 0.5, -1.0, np.nan, *EDGES, *(-x for x in EDGES)])


def expected(x, dtype):
    """The definition, with Python's exact integers. x: floats, as a tensor or an array."""

    def one(value):
        if dtype == "bool":
            return value != 0
        limits = np.iinfo(dtype)
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return limits.max if value > 0 else limits.min
        return max(int(limits.min), min(int(limits.max), math.trunc(value)))

    values = np.asarray(ops.cast(x, "float64"))
    return np.array([one(value) for value in values.ravel().tolist()], dtype).reshape(values.shape)


@pytest.fixture(params=FLOATS)
def numbers(request):
    """Special values as a tensor of a float dtype."""
    return ops.cast(SPECIAL, request.param)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_out_of_range_is_the_nearest_integer(numbers, dtype):
    want = expected(numbers, dtype)
    np.testing.assert_array_equal(ops.cast(numbers, dtype), want, strict=True)
    for number, each in zip(ops.unstack(numbers)[:12], want, strict=False):
        assert ops.cast(number, dtype).numpy() == each
    matrix = ops.stack([numbers] * 3, axis=1)
    np.testing.assert_array_equal(ops.cast(matrix[::-2, 1:], dtype), expected(matrix[::-2, 1:], dtype))
    jitted = keras.jit(lambda x: ops.cast(-x, dtype))
    for x in (ops.zeros_like(numbers), numbers, numbers[::-1]):  # recorded, then replayed
        np.testing.assert_array_equal(jitted(x), expected(-x, dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("source", ["f4", "f8"])
def test_numpy_and_the_interpreter_agree_out_of_range(source, dtype):
    x = SPECIAL.astype(source)
    by_numpy, by_interpreter, large = np.empty(x.shape, dtype), np.empty(x.shape, dtype), np.empty((40, x.size), dtype)
    device.copy(x, by_numpy)
    np.testing.assert_array_equal(by_numpy, expected(x, dtype))
    assert launches.run(device.copy, (x, by_interpreter))
    np.testing.assert_array_equal(by_interpreter, by_numpy)
    assert launches.run(device.copy, (np.broadcast_to(x, large.shape), large), shares=3)
    np.testing.assert_array_equal(large, np.broadcast_to(by_numpy, large.shape))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arrays_variables_and_weak_numbers_out_of_range(dtype):
    x = SPECIAL.astype("float32")
    want = expected(x, dtype)
    for given in (x, SPECIAL, ops.convert_to_tensor(x)):
        np.testing.assert_array_equal(ops.convert_to_tensor(given, dtype), expected(given, dtype))
        np.testing.assert_array_equal(keras.backend.cast(given, dtype), expected(given, dtype))
        np.testing.assert_array_equal(ops.saturate_cast(given, dtype), expected(given, dtype))
        variable = keras.Variable(given, dtype=dtype, trainable=False)
        np.testing.assert_array_equal(variable, expected(given, dtype))
        variable.assign(ops.zeros_like(variable))
        variable.assign(given)
        np.testing.assert_array_equal(variable, expected(given, dtype))
    np.testing.assert_array_equal(ops.convert_to_tensor([x, x], dtype), [want, want])
    for half in FLOATS[2:]:
        given = ops.cast(x, half)
        variable = keras.Variable(np.asarray(given), dtype=dtype, trainable=False)
        np.testing.assert_array_equal(variable, expected(given, dtype))
    assert ops.convert_to_tensor(np.float32(1e20), dtype).numpy() == np.iinfo(dtype).max
    for number in (np.nan, np.inf, 1e20, [0.0, -1e20]):
        with pytest.raises(ValueError, match=f"does not fit into {dtype}"):
            keras.Variable(number, dtype=dtype, trainable=False)


class Casts(keras.Layer):
    """Casts each input to each integer dtype."""

    def __init__(self):
        super().__init__(autocast=False)

    def call(self, inputs):
        return [ops.cast(x, dtype) for x in inputs for dtype in INTEGERS]


class HalfCasts(Casts):
    """Casts each input by way of float16 and bfloat16."""

    def call(self, inputs):
        return super().call([ops.cast(x, dtype) for x in inputs for dtype in FLOATS[2:]])


def made(layer):
    """A model of a layer, and special values for its inputs."""
    inputs = [Input((), dtype=dtype) for dtype in FLOATS[:2]]
    model = Model(inputs, layer(inputs))
    model.autocast = False
    return model, [SPECIAL.astype(x.dtype) for x in inputs]


def assert_right(results, layer, inputs):
    sources = inputs if type(layer) is Casts else [ops.cast(x, dtype) for x in inputs for dtype in FLOATS[2:]]
    for got, (source, dtype) in zip(results, itertools.product(sources, INTEGERS), strict=True):
        np.testing.assert_array_equal(got, expected(source, dtype), strict=True)


@pytest.mark.parametrize("layer", [Casts(), HalfCasts()], ids=["whole", "half"])
def test_models_cast_out_of_range(layer):
    model, inputs = made(layer)
    assert_right(model.predict(inputs, verbose=0), layer, inputs)


@pytest.mark.cpu("frozen models are for the CPU")
@pytest.mark.parametrize("layer", [Casts(), HalfCasts()], ids=["whole", "half"])
def test_frozen_models_cast_out_of_range(layer):
    model, inputs = made(layer)
    assert_right(model.frozen(len(SPECIAL)).run(inputs), layer, inputs)


@needs_linker
@pytest.mark.cpu("libraries are for the CPU")
@pytest.mark.parametrize("layer", [Casts(), HalfCasts()], ids=["whole", "half"])
def test_libraries_cast_out_of_range(layer, tmp_path):
    model, inputs = made(layer)
    model.export(tmp_path / "libcasts.so", batch=len(SPECIAL), verbose=False)
    assert_right(loaded(tmp_path / "libcasts.so").predict(*inputs), layer, inputs)


@pytest.mark.cpu("ONNX files are for the CPU")
def test_onnx_files_cast_out_of_range(tmp_path):
    import onnx_runs

    model, inputs = made(Casts())
    results = onnx_runs.run(model, tmp_path, *inputs).values()
    for got, (source, dtype) in zip(results, itertools.product(inputs, INTEGERS), strict=True):
        want = expected(source, dtype)
        if dtype == "uint64":  # at most the largest float below 2**64: see docs/export.md
            want[source >= 2.0**64] = int(np.nextafter(source.dtype.type(2.0**64), source.dtype.type(0)))
        np.testing.assert_array_equal(got, want, strict=True)
