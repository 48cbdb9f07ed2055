"""Frozen models with weights of bfloat16: values, memory, files, and that the model itself stays as it was."""

import pickle

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.inference import half_weights

pytestmark = pytest.mark.cpu("frozen models run on the CPU")


def rounded(array):
    return np.asarray(ops.cast(array, "bfloat16"), np.float32)


def network():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(300, 64, name="table")(inputs)
    x = layers.MultiHeadAttention(4, 32, name="attention")(x, x)
    x = layers.Dense(256, activation="relu", name="wide")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(3, name="small")(x))


def numbers(*shape):
    return np.random.default_rng(0).integers(0, 300, shape).astype("int32")


def test_large_matrices_are_rounded_and_the_others_are_not():
    keras.utils.set_random_seed(1)
    model, x = network(), numbers(5, 6)
    before = model.predict(x, verbose=0)
    frozen = model.frozen(batch_sizes=(1, 4), weights="bfloat16")
    kept = model.get_weights()
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert all(variable.dtype == np.float32 for variable in model.weights)
    model.set_weights([rounded(w) if w.ndim > 1 and w.size >= half_weights.MINIMUM else w for w in kept])
    np.testing.assert_allclose(frozen(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert np.abs(frozen(x) - before).max() > 1e-5


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("units", [64, 257, 300])
def test_products_are_those_of_the_rounded_weights(rows, units):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((259,)), layers.Dense(units, activation="relu", bias_initializer="ones")])
    x, kernel = np.random.default_rng(1).standard_normal((rows, 259)).astype("float32"), model.layers[0].kernel.numpy()
    y = model.frozen(batch_sizes=rows, weights="bfloat16")(x)
    np.testing.assert_allclose(y, np.maximum(x @ rounded(kernel) + 1, 0), rtol=1e-5, atol=1e-5)


def test_they_take_half_of_the_memory_in_files_too(tmp_path):
    model = keras.Sequential([keras.Input((512,)), layers.Dense(512)])
    x = np.random.default_rng(1).standard_normal((3, 512)).astype("float32")
    sizes = []
    for weights in (None, "bfloat16"):
        frozen = model.frozen(batch_sizes=1, weights=weights)
        frozen.save(tmp_path / "model.nbk")
        sizes.append((tmp_path / "model.nbk").stat().st_size)
        assert (pickle.loads(pickle.dumps(frozen))(x) == frozen(x)).all()
    assert sizes[1] < 0.55 * sizes[0]


def test_infinity_and_nan_stay():
    model = keras.Sequential([keras.Input((128,)), layers.Dense(128, use_bias=False)])
    kernel = np.ones((128, 128), np.float32)
    kernel[0, :3] = np.inf, -np.inf, np.nan
    model.set_weights([kernel])
    y = model.frozen(batch_sizes=1, weights="bfloat16")(np.ones((1, 128), np.float32))[0]
    assert y[0] == np.inf and y[1] == -np.inf and np.isnan(y[2]) and y[3] == 128


def test_other_weights_are_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="weights must be 'bfloat16', or None for float32, received 'float16'"):
        model.frozen(weights="float16")
