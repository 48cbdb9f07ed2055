"""Embedding: lookup, out-of-range indices, gradients, masks, the layer."""

import numba
import numpy as np
import pytest

from nbkeras import initializers, layers, ops
from nbkeras.kernels.threads import get_threads, set_threads
from nbkeras.tensor import GradientTape, Variable
from nbkeras.testing import check_op

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((7, 5))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "bool"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_lookup(shape, dtype):
    indices = RNG.integers(0, 2 if dtype == "bool" else 7, shape)
    y = ops.embedding(indices.astype(dtype), TABLE)
    assert y.shape == (*shape, 5) and np.array_equal(y.numpy(), TABLE[indices])


def test_indices_outside_the_table_give_nan_and_no_gradient():
    """As Keras on JAX: 5 and -6 lie outside a table of 5 rows, -1 is its last row."""
    table = Variable(np.arange(10.0).reshape(5, 2))
    with GradientTape() as tape:
        y = ops.embedding([[0, 4, 5, -1, -5, -6, 2**40]], table)
    expected = [[0, 1], [8, 9], [np.nan] * 2, [8, 9], [0, 1], [np.nan] * 2, [np.nan] * 2]
    assert np.array_equal(y.numpy()[0], expected, equal_nan=True)
    gradient = tape.gradient(y, table, output_gradients=np.ones((1, 7, 2))).numpy()
    assert np.array_equal(gradient, [[2, 2], [0, 0], [0, 0], [0, 0], [2, 2]])


@pytest.mark.parametrize(
    ("rows", "width", "count"), [(7, 5, 30), (300, 130, 240), (1, 1, 3), (40, 33, 1000)], ids=lambda size: str(size)
)
def test_gradients(rows, width, count):
    """Small ones by one thread, large ones in shares; repeated indices add up."""
    indices = RNG.integers(-rows, rows, (count // 3, 3))
    check_op(lambda table, i: ops.embedding(i, table), RNG.standard_normal((rows, width)), indices)


@pytest.mark.cpu("about threads")
def test_gradient_does_not_depend_on_the_number_of_threads():
    before, found = get_threads(), []
    indices = RNG.integers(0, 50, 2000)
    seeds = RNG.standard_normal((2000, 96)).astype("float32")
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            set_threads(threads)
            table = Variable(np.ones((50, 96), "float32"))
            with GradientTape() as tape:
                y = ops.embedding(indices, table)
            found.append(tape.gradient(y, table, output_gradients=seeds).numpy())
    finally:
        set_threads(before)
    in_order = np.zeros((50, 96), "float32")
    np.add.at(in_order, indices, seeds)
    assert all(np.array_equal(in_order, other) for other in found)


def test_empty_input():
    assert ops.embedding(np.zeros((0, 3), "int32"), TABLE).shape == (0, 3, 5)


# -------------------- the layer --------------------


def test_layer():
    layer = layers.Embedding(9, 4, embeddings_initializer="ones")
    indices = np.array([[1, 8, 0], [2, 2, 3]])
    assert layer(indices).shape == (2, 3, 4)
    assert [w.name for w in layer.weights] == ["embeddings"] and layer.weights[0].shape == (9, 4)
    assert layer.compute_output_shape((None, 3)) == (None, 3, 4)
    assert layer(indices).mask is None
    assert type(layers.Embedding(9, 4).embeddings_initializer) is initializers.RandomUniform


def test_layer_mask():
    y = layers.Embedding(9, 4, mask_zero=True)(np.array([[1, 8, 0], [2, 0, 0]], "float32"))
    assert np.array_equal(y.mask.numpy(), [[True, True, False], [True, False, False]])
    assert y._keras_mask is y.mask  # as Keras's guide on masking reads it
    symbolic = layers.Embedding(9, 4, mask_zero=True)(layers.Input((3,)))
    assert symbolic._keras_mask is symbolic.mask is not None
    y._keras_mask = None
    assert y.mask is None


def test_layer_weights_and_configuration():
    table = RNG.standard_normal((9, 4)).astype("float32")
    for weights in (table, [table]):
        layer = layers.Embedding(9, 4, weights=weights, mask_zero=True, embeddings_regularizer="l2", input_length=3)
        assert layer.built and np.array_equal(layer.embeddings.numpy(), table)
        assert np.array_equal(layer(np.arange(9)).numpy(), table)
    config = layer.get_config()
    assert layer.input_length == 3 and "input_length" not in config  # as in Keras 3
    assert layers.Embedding.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Embedding(0, 4), "input_dim must be a positive integer, received 0"),
        (lambda: layers.Embedding(4, 2.5), "output_dim must be a positive integer"),
        (lambda: ops.embedding([1], np.ones(3)), r"must be a float matrix \(rows, width\), received shape \(3,\)"),
        (lambda: ops.embedding([1], np.ones((3, 2), int)), "must be a float matrix"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
