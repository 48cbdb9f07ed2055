"""Embedding: lookup, out-of-range indices, gradients, masks, the layer."""

import numpy as np
import pytest
from in_threads import by_threads
from made_models import compiled
from mistakes import mistakes

from nbkeras import initializers, layers, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.data import input_matching
from nbkeras.engine.tensor import Variable
from nbkeras.models import Model, Sequential
from nbkeras.testing import check_op

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((7, 5))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "bool"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_lookup_takes_rows(shape, dtype):
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


NO_INDEX = [np.array([2**32 + 1]), np.array([2**64 - 1, 2**63], np.uint64), np.array([np.nan, np.inf, 1e20, -1e20])]


@pytest.mark.parametrize("numbers", [*NO_INDEX, NO_INDEX[2].astype("float32")], ids=lambda n: str(n.dtype))
def test_numbers_that_a_cast_would_make_indices_of_give_nan(numbers):
    """2**32 + 1 is 1 in int32, 2**64 - 1 is -1 in int64, and NaN is 0 on some machines."""
    assert np.isnan(ops.embedding(numbers, TABLE).numpy()).all()
    for dtype in ("int32", "int64", "float32"):
        inputs = layers.Input((1,), dtype=dtype)
        assert np.isnan(Model(inputs, layers.Embedding(7, 2)(inputs))(numbers.reshape(-1, 1)).numpy()).all()


@pytest.mark.parametrize(
    ("rows", "width", "count"), [(7, 5, 30), (300, 130, 240), (1, 1, 3), (40, 33, 1000)], ids=lambda size: str(size)
)
def test_gradients_of_repeated_rows_add_up(rows, width, count):
    """Small tables are updated by one thread, large ones in shares."""
    indices = RNG.integers(-rows, rows, (count // 3, 3))
    check_op(lambda table, i: ops.embedding(i, table), RNG.standard_normal((rows, width)), indices)


@pytest.mark.cpu("about threads")
def test_gradient_does_not_depend_on_the_number_of_threads():
    indices = RNG.integers(0, 50, 2000)
    seeds = RNG.standard_normal((2000, 96)).astype("float32")

    def gradient():
        table = Variable(np.ones((50, 96), "float32"))
        with GradientTape() as tape:
            y = ops.embedding(indices, table)
        return tape.gradient(y, table, output_gradients=seeds).numpy()

    in_order = np.zeros((50, 96), "float32")
    np.add.at(in_order, indices, seeds)
    assert all(np.array_equal(in_order, found) for found in by_threads(gradient))


def test_empty_input():
    assert ops.embedding(np.zeros((0, 3), "int32"), TABLE).shape == (0, 3, 5)


# -------------------- the layer --------------------


def test_a_layer_looks_up_its_weights():
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


test_mistakes_are_explained = mistakes(
    [
        (lambda: layers.Embedding(0, 4), "input_dim must be a positive integer, received 0"),
        (lambda: layers.Embedding(4, 2.5), "output_dim must be a positive integer"),
        (lambda: ops.embedding([1], np.ones(3)), r"must be a float matrix \(rows, width\), received shape \(3,\)"),
        (lambda: ops.embedding([1], np.ones((3, 2), int)), "must be a float matrix"),
    ],
    ValueError,
)


# -------------------- numbers outside the table, in a model --------------------


def through(*between, dtype="float32", rows=5):
    """A model with an Embedding behind these layers."""
    inputs = x = layers.Input((4,), dtype=dtype)
    for layer in between:
        x = layer(x)
    model = compiled(Model(inputs, layers.Flatten()(layers.Embedding(rows, 2, name="table")(x))))
    return model


WAYS = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "validation": lambda model, x, y: model.fit(np.zeros_like(x), y, validation_data=(x, y), verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "predict": lambda model, x, y: model.predict(x),
    "predict, replayed": lambda model, x, y: (model.predict(np.zeros_like(x)), model.predict(x)),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "predict_on_batch": lambda model, x, y: model.predict_on_batch(x),
    "a stream's second batch": lambda model, x, y: model.fit(iter([(0 * x, y), (x, y)]), steps_per_epoch=2, verbose=0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["int32", "float32", "int64"])
def test_numbers_outside_the_table_are_refused(way, dtype):
    model, y = through(dtype=dtype), np.ones((2, 8), "float32")
    for numbers, refused in (([0, 4, -1, -5], False), ([0, 5, 1, 2], True), ([0, -6, 1, 2], True)):
        x = np.array([numbers, [0, 1, 2, 3]], dtype)
        if refused:
            with pytest.raises(ValueError, match="layer 'table' looks them up in a table of 5 rows"):
                WAYS[way](model, x, y)
        else:
            WAYS[way](model, x, y)


def test_where_an_input_reaches_a_table():
    class Shifted(layers.Reshape):
        def call(self, inputs):
            return ops.multiply(super().call(inputs), 0)

    inner = Sequential([layers.Reshape((2, 2)), layers.Embedding(5, 2)])
    x = np.full((1, 4), 7)
    for between in ([], [layers.Reshape((2, 2)), layers.Permute((2, 1)), layers.Flatten()], [layers.RepeatVector(3)]):
        with pytest.raises(ValueError, match="from 7.0 to 7.0, .* must be 0 to 4"):
            through(*between).predict(x)
    for between in ([layers.Rescaling(0.5)], [Shifted((2, 2))], [layers.Lambda(lambda x: x / 2)]):
        assert np.isfinite(through(*between).predict(x)).all()
    first, second = layers.Input((4,), name="first"), layers.Input((4,), name="second")
    model = Model({"b": second, "a": first}, layers.add([inner(second), layers.Reshape((2, 2, 1))(first)]))
    model.predict({"a": x, "b": 0 * x})
    with pytest.raises(ValueError, match="input 'second' holds numbers from 7"):
        model.predict({"a": 0 * x, "b": x})


def test_the_smallest_table_of_several_decides():
    inputs = layers.Input((2,))
    model = Model(inputs, [layers.Embedding(9, 1)(inputs), layers.Embedding(3, 1, name="small")(inputs)])
    model.predict([[2, 2]])
    with pytest.raises(ValueError, match="layer 'small' looks them up in a table of 3 rows"):
        model.predict([[2, 3]])


def test_floats_that_do_not_tell_rows_apart_are_refused():
    """2**24 + 1 is 2**24 in float32; such a table has 64 MB, so the check alone is asked."""
    input_matching.check_numbers(np.array([0.0, 2**24 - 1], "float32"), 2**25, "table", "words")
    input_matching.check_numbers(np.array([2**24 + 2], "float64"), 2**25, "table", "words")
    for number in (2**24 + 1, -(2**24) - 1):
        with pytest.raises(ValueError, match=r"integers up to 16777216, .* dtype='int32'"):
            input_matching.check_numbers(np.array([number], "float32"), 2**25, "table", "words")


@pytest.mark.parametrize("tied", [True, False])
def test_a_reversed_table_starts_from_given_weights(tied):
    table, back = np.eye(3, 2, dtype="float32"), np.full((2, 3), 5, "float32")
    weights = [table] if tied else [table, back]
    layer = layers.ReversibleEmbedding(3, 2, tie_weights=tied, weights=weights)
    scores = layer(np.ones((1, 2), "float32"), reverse=True).numpy()
    assert np.array_equal(scores, np.ones((1, 2)) @ (table.T if tied else back))


def test_vectors_are_no_numbers_of_a_reversed_table():
    inputs = layers.Input((4,))
    model = Model(inputs, layers.ReversibleEmbedding(3, 4)(inputs, reverse=True))
    assert model.predict(np.full((1, 4), 99.0)).shape == (1, 3)


def test_scores_in_another_dtype():
    layer = layers.ReversibleEmbedding(4, 2, reverse_dtype="float64")
    scores = layer(np.ones((1, 2), np.float32), reverse=True).numpy()
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores[0], layer.embeddings.numpy().sum(1, dtype=float))
