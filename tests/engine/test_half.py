"""Tensors of 16 bits: rounding bit by bit, dtypes of results, gradients of any order, vmap, programs, arrays in and out."""

import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

import nbkeras as keras
from nbkeras import autodiff, ops
from nbkeras.engine.half import Half
from nbkeras.kernels import half
from nbkeras.kernels.runtime import device

NAMES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
X = np.array([[0.1, -1.7, 3.3], [2.9, 0.01, -0.4]], np.float32)


@pytest.fixture(autouse=True)
def floatx_as_before():
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(None)


def float32_numbers():
    """Random bits, and the neighbours of ties, for normal and subnormal numbers of both dtypes."""
    bits = [np.random.default_rng(0).integers(0, 2**32, 3000).astype(np.uint32)]
    for places in (13, 16):
        steps = np.arange(0, 2**32, 2**22 + 2**places, dtype=np.uint64).astype(np.uint32) >> places << places
        bits += [steps + np.uint32(2 ** (places - 1) + near) for near in (-1, 0, 1)]
    bits.append(np.random.default_rng(1).integers(0x32800000, 0x38900000, 2000).astype(np.uint32))
    special = [2.0**-24, 2.0**-25, 3 * 2.0**-26, 65504, 65519.9, 65520, -65520, np.inf, -np.inf, np.nan, 0.0, -0.0]
    return np.concatenate([*bits, np.array(special, np.float32).view(np.uint32)]).view(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_that_of_ml_dtypes_and_numpy(name):
    x = float32_numbers()
    with np.errstate(all="ignore"):
        expected = x.astype(NAMES[name]).astype(np.float32)
    results = [device.read(half.rounded(device.persistent_copy(x), name)[0])]
    if device.gpu() is None:  # the function itself, for what the interpreter cannot run
        results.append(np.empty_like(x))
        getattr(half, name)(x, results[1])
    for got in results:
        same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
        assert same.all(), (x[~same][:5], got[~same][:5], expected[~same][:5])


@pytest.mark.parametrize("name", NAMES)
def test_every_op_rounds_its_result(name):
    x, kind = ops.cast(X, name), NAMES[name]
    rounded = X.astype(kind).astype(np.float32)
    for function, expected in (
        (ops.exp, np.exp),
        (ops.square, np.square),
        (lambda v: v / 3, lambda v: v / np.float32(3)),
    ):
        y = function(x)
        third = expected(rounded) if function is not ops.exp else np.exp(rounded.astype(np.float64)).astype(np.float32)
        assert isinstance(y, Half) and y.dtype == name
        np.testing.assert_array_equal(np.asarray(y.numpy(), np.float32), third.astype(kind).astype(np.float32))


def test_dtypes_of_results():
    x, y = ops.cast(X, "bfloat16"), ops.cast(X, "float16")
    assert {str((x * other).dtype) for other in (2, 2.5, x, np.int32(1), ops.ones((2, 3), "int64"), True)} == {
        "bfloat16"
    }
    assert (x + y).dtype == (x + ops.ones(3)).dtype == np.float32
    assert (x + ops.ones(3, "float64")).dtype == np.float64
    for moved in (
        x[0],
        x.T,
        ops.reshape(x, (6,)),
        ops.concatenate([x, x]),
        ops.stack([x, x]),
        ops.where(x > 0, x, 0.0),
    ):
        assert moved.dtype == "bfloat16"
    assert (x > y).dtype == ops.isnan(x).dtype == bool and ops.argmax(x).dtype == "int32"
    for made in (
        ops.zeros(2, "bfloat16"),
        ops.full((2,), 0.1, "bfloat16"),
        ops.eye(2, dtype="bfloat16"),
        ops.ones_like(x),
    ):
        assert made.dtype == "bfloat16"
    assert (
        keras.random.normal((3,), dtype="float16", seed=1).dtype
        == ops.one_hot([1], 3, dtype="float16").dtype
        == "float16"
    )
    assert ops.cast(x, "int32").dtype == "int32" and ops.cast(y, "bool").dtype == bool


def test_float16_overflows_to_infinity():
    x = ops.cast([60000.0, -60000.0], "float16")
    np.testing.assert_array_equal((x * 2).numpy(), [np.inf, -np.inf])
    np.testing.assert_array_equal(ops.cast([1e-7, 1e-9], "float16").numpy(), np.array([1e-7, 1e-9], np.float16))


def test_arrays_in_and_out():
    for kind in NAMES.values():
        array = X.astype(kind)
        x = ops.convert_to_tensor(array)
        assert x.dtype.name == array.dtype.name == x.numpy().dtype.name == np.asarray(x).dtype.name
        np.testing.assert_array_equal(np.asarray(x), array)
        assert np.asarray(x, "float64").dtype == np.float64 and float(x[0, 0]) == float(array[0, 0])
        again = pickle.loads(pickle.dumps(x))
        assert again.dtype == x.dtype and again.dtype is x.dtype
    with pytest.raises(BufferError, match="cast the tensor first"):
        np.from_dlpack(ops.cast(X, "bfloat16"))
    assert np.from_dlpack(ops.cast(X, "float16")).dtype == np.float16


def test_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.warns(UserWarning, match="pip install ml_dtypes"):
        values = ops.cast([1.0, 0.1], "bfloat16").numpy()
    np.testing.assert_array_equal(values, np.array([1.0, 0.10009765625], np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_variables(name):
    v = keras.Variable([1.0, 0.1], dtype=name)
    assert v.dtype == v.value.dtype == (v * 2).dtype == name and v.numpy().dtype == np.dtype(NAMES[name])
    before = v.value
    v.assign_add([0.0, 1 / 3])
    assert float(v[1]) == float(np.float32(NAMES[name](np.float32(NAMES[name](0.1)) + np.float32(NAMES[name](1 / 3)))))
    v.assign([1e-3, 7.7])
    assert float(v[1]) == float(NAMES[name](7.7)) and float(before[0]) == 1.0
    with pytest.raises(ValueError, match="expected shape"):
        v.assign([1.0])


def test_gradients_have_the_dtype_of_their_source():
    v, w = keras.Variable(X, dtype="bfloat16"), keras.Variable(X)
    with keras.GradientTape() as tape:
        loss = ops.sum(ops.exp(v) * ops.cast(w, "bfloat16"))
    dv, dw = tape.gradient(loss, [v, w])
    assert dv.dtype == "bfloat16" and dw.dtype == np.float32
    kind = ml_dtypes.bfloat16
    rounded = X.astype(kind).astype(np.float32)
    power = np.exp(rounded.astype(np.float64)).astype(kind).astype(np.float32)
    np.testing.assert_array_equal(dw.numpy(), power)
    np.testing.assert_allclose(np.asarray(dv, np.float32), rounded * power, rtol=2**-7)


def test_derivatives_of_any_order():
    x = ops.cast(X, "bfloat16")
    first = autodiff.grad(lambda v: ops.sum(v * v * v))(x)
    second = autodiff.grad(lambda v: ops.sum(autodiff.grad(lambda u: ops.sum(u * u * u))(v)))(x)
    assert first.dtype == second.dtype == "bfloat16"
    rounded = np.asarray(x, np.float32)
    np.testing.assert_allclose(np.asarray(first, np.float32), 3 * rounded**2, rtol=2**-6)
    np.testing.assert_allclose(np.asarray(second, np.float32), 6 * rounded, rtol=2**-6)
    value, tangent = autodiff.jvp(ops.square, (x,), (ops.ones_like(x),))
    np.testing.assert_allclose(np.asarray(tangent, np.float32), 2 * rounded, rtol=2**-7)
    assert value.dtype == "bfloat16"


def test_vmap():
    x = ops.cast(X, "bfloat16")
    y = autodiff.vmap(lambda row: ops.exp(row) / ops.sum(ops.exp(row)))(x)
    assert y.dtype == "bfloat16"
    expected = [ops.exp(row) / ops.sum(ops.exp(row)) for row in (x[0], x[1])]
    np.testing.assert_array_equal(np.asarray(y, np.float32), [np.asarray(e, np.float32) for e in expected])


def test_functions_of_jit():
    @keras.jit
    def function(x, y):
        return ops.exp(x) * y, x, ops.cast(y, "float16")

    for _ in range(2):
        found = function(ops.cast(X, "bfloat16"), X)
        assert [each.dtype.name for each in found] == ["float32", "bfloat16", "float16"]
        np.testing.assert_array_equal(np.asarray(found[1], np.float32), X.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert function(ops.cast(X, "float16"), X)[1].dtype == "float16" and len(function.programs()) == 2


@pytest.mark.parametrize("name", NAMES)
def test_floatx_of_16_bits(name):
    keras.config.set_floatx(name)
    assert keras.config.floatx() == name and keras.backend.is_float_dtype(name)
    assert ops.convert_to_tensor([1.5]).dtype == ops.zeros(2).dtype == ops.mean([1, 2]).dtype == name
    assert keras.layers.Dense(2).dtype == name and keras.Input((2,)).dtype == name


def test_layers_cast_variables_where_ops_use_them(caplog):
    class Own(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((3,), "ones")
            self.exact = self.add_weight((3,), "ones", autocast=False)

        def call(self, x):
            self.seen = (
                x.dtype.name,
                (self.w * 2).dtype.name,
                (self.exact * 2).dtype.name,
                ops.square(self.w).dtype.name,
            )
            return x * self.w

    layer = Own(dtype="mixed_bfloat16")
    assert layer(X).dtype == "bfloat16"
    assert layer.seen == ("bfloat16", "bfloat16", "float32", "bfloat16")
    assert (layer.w * 2).dtype == np.float32  # outside of the layer it is what it is
    keras.engine.half._log_once.cache_clear()
    caplog.clear()  # of the line about bfloat16, if no other test caused it before
    for _ in range(2):  # once, and not as a warning, which may be an error
        Own(dtype="mixed_float16")(X)
    assert [each.name for each in caplog.records if "float32 is faster" in each.message] == ["nbkeras"]


def test_loops_in_layers_of_16_bits():
    x = ops.cast(X, "bfloat16")
    carried, kept = ops.scan(lambda total, row: (total + row, total * 2), x[0], x)
    assert carried.dtype == kept.dtype == "bfloat16"
    total = ops.while_loop(lambda i, v: i < 6, lambda i, v: (i + 1, v * 1.5), (0, x))[1]
    assert total.dtype == "bfloat16"
    chosen = ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x)
    assert chosen.dtype == "bfloat16"


@pytest.mark.cpu("frozen models run on the CPU")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_frozen_models_of_16_bits_are_loaded_from_files(policy, tmp_path):
    model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(130, dtype=policy)])
    x = np.random.default_rng(1).standard_normal((64, 256)).astype("float32")
    frozen = model.frozen(batch_sizes=64)
    frozen.save(tmp_path / "model.nbk")
    loaded = type(frozen).load(tmp_path / "model.nbk")
    np.testing.assert_array_equal(loaded(x), frozen(x))
