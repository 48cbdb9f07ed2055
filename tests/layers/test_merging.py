"""Merging layers: values, broadcasting, shapes, masks as real Keras has them, configurations, messages."""

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import Input, Model, layers
from nbkeras.engine.tensor import as_tensor

RNG = np.random.default_rng(6)
A, B, C = (RNG.standard_normal((2, 3)).astype(np.float32) for _ in range(3))

MERGES = {
    "Add": lambda *x: sum(x),
    "Multiply": lambda *x: np.prod(x, axis=0),
    "Average": lambda *x: np.mean(x, axis=0),
    "Maximum": lambda *x: np.max(x, axis=0),
    "Minimum": lambda *x: np.min(x, axis=0),
    "Concatenate": lambda *x: np.concatenate(x, axis=-1),
}
FUNCTIONS = ["add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate", "dot"]


@pytest.mark.parametrize("name", MERGES)
def test_merging_three(name):
    layer = getattr(layers, name)()
    y = layer([A, B, C])
    np.testing.assert_allclose(y.numpy(), MERGES[name](A, B, C), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape([(None, 3)] * 3) == (None, y.shape[1])
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    np.testing.assert_array_equal(getattr(layers, name)()([A]).numpy(), A)


def test_subtract_takes_the_second_from_the_first():
    np.testing.assert_allclose(layers.Subtract()([A, B]).numpy(), A - B)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_on_symbolic_tensors(name):
    x, y = Input((3,)), Input((3,))
    out = getattr(layers, name)([x, y])
    layer = getattr(layers, name.capitalize())
    own = layer(axes=-1) if name == "dot" else layer()
    np.testing.assert_allclose(Model([x, y], out).predict([A, B], verbose=0), own([A, B]).numpy(), rtol=1e-6)


def test_inputs_broadcast_and_get_axes_after_the_batch():
    x = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(layers.Add()([x, A]).numpy(), x + A[:, None])
    np.testing.assert_allclose(layers.Multiply()([x, x[:, :1]]).numpy(), x * x[:, :1])
    assert layers.Add()([Input((4, 3)), Input((1, 3))]).shape == (None, 4, 3)
    assert layers.Add().compute_output_shape([(None, 4, None), (None, 1)]) == (None, 4, None)
    assert layers.Add().compute_output_shape([(5, 3), (None, 3)]) == (5, 3)


def test_concatenate_axes():
    x, y = (RNG.standard_normal((2, n, 3)).astype(np.float32) for n in (1, 4))
    np.testing.assert_array_equal(layers.Concatenate(axis=1)([x, y]).numpy(), np.concatenate([x, y], 1))
    assert layers.Concatenate(axis=1).compute_output_shape([(None, 2, 3), (None, None, 3)]) == (None, None, 3)
    assert layers.Concatenate(axis=1).compute_output_shape([(None, 2, None), (None, 4, 3)]) == (None, 6, 3)
    np.testing.assert_array_equal(layers.concatenate([x, y], axis=1).numpy(), np.concatenate([x, y], 1))


# -------------------- masks --------------------

X = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)
FIRST, SECOND = [[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 1, 1]]
EITHER = [[1, 1, 0], [1, 1, 1]]


def masked(x, mask):
    tensor = as_tensor(x.copy())
    tensor.mask = None if mask is None else as_tensor(np.array(mask, bool))
    return tensor


# Keras 3.15 on JAX: layer, masks of X and 10 X, output of the first sample, output of the second, mask.
KERAS = [
    ("Add", SECOND, [[11, 22], [33, 44], [55, 66]], [[77, 88], [99, 110], [121, 132]], EITHER),
    ("Add", None, [[11, 22], [33, 44], [55, 66]], [[77, 88], [99, 110], [121, 132]], None),
    ("Multiply", SECOND, [[10, 40], [3, 4], [0, 0]], [[490, 640], [90, 100], [110, 120]], EITHER),
    ("Multiply", None, [[10, 40], [90, 160], [50, 60]], [[490, 640], [90, 100], [110, 120]], None),
    ("Maximum", SECOND, [[10, 20], [3, 4], [5, 6]], [[70, 80], [90, 100], [110, 120]], EITHER),
    ("Maximum", None, [[10, 20], [30, 40], [50, 60]], [[70, 80], [90, 100], [110, 120]], None),
]


@pytest.mark.parametrize(("name", "second", "one", "two", "mask"), KERAS)
def test_masks_as_in_keras(name, second, one, two, mask):
    y = getattr(layers, name)()([masked(X, FIRST), masked(10 * X, second)])
    np.testing.assert_array_equal(y.numpy(), [one, two])
    if mask is None:
        assert y.mask is None
    else:
        np.testing.assert_array_equal(y.mask.numpy(), mask)


def test_masks_of_concatenate():
    for second, expected in ((SECOND, EITHER), (None, np.ones((2, 3)))):
        y = layers.Concatenate()([masked(X, FIRST), masked(X, second)])
        np.testing.assert_array_equal(y.mask.numpy(), expected)
    y = layers.Concatenate(axis=1)([masked(X, FIRST), masked(X, SECOND)])
    np.testing.assert_array_equal(y.mask.numpy(), np.concatenate([FIRST, SECOND], 1))
    assert layers.Concatenate()([X, X]).mask is None


def test_dot_drops_masks():
    assert layers.Dot(axes=2)([masked(X, FIRST), masked(X, SECOND)]).mask is None


# -------------------- Dot --------------------


def test_dot_sums_over_the_axes_named():
    x, y = RNG.standard_normal((2, 3, 4)).astype(np.float32), RNG.standard_normal((2, 5, 4)).astype(np.float32)
    layer = layers.Dot(axes=2)
    np.testing.assert_allclose(layer([x, y]).numpy(), np.einsum("bij,bkj->bik", x, y), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape([(None, 3, 4), (None, 5, 4)]) == (None, 3, 5)
    np.testing.assert_allclose(layers.Dot(axes=(1, 1))([A, B]).numpy(), (A * B).sum(1, keepdims=True), rtol=1e-5)
    cosine = layers.Dot(axes=-1, normalize=True)([A, A]).numpy()
    np.testing.assert_allclose(cosine, np.ones((2, 1)), rtol=1e-5)
    copy = layers.Dot.from_config(layers.Dot(axes=(2, 1), normalize=True).get_config())
    assert copy.get_config()["normalize"] is True and tuple(copy.get_config()["axes"]) == (2, 1)


# -------------------- messages --------------------


def ones(*shape):
    return np.ones(shape, np.float32)


test_mistakes_are_explained = mistakes(
    [
        (lambda: layers.Add()(ones(2, 3)), r"merges a list of inputs, received a single shape \(2, 3\)"),
        (lambda: layers.Add()(Input((3,))), "merges a list of inputs"),
        (lambda: layers.Concatenate()(ones(2, 3)), "merges a list of inputs"),
        (lambda: layers.Add()([]), "merges a list of inputs"),
        (lambda: layers.Subtract()([ones(2, 3)] * 3), "list of exactly 2 inputs, received 3 inputs"),
        (lambda: layers.Subtract()([Input((3,))]), "list of exactly 2 inputs"),
        (lambda: layers.Dot(1)([ones(2, 3)]), "list of exactly 2 inputs"),
        (lambda: layers.Add()([ones(2, 3), ones(2, 4)]), r"do not broadcast: \(3,\) and \(4,\)"),
        (lambda: layers.Add()([ones(2, 3), ones(5, 3)]), "different batch sizes"),
        (lambda: layers.Concatenate()([ones(2, 3), ones(3, 3)]), "must agree in all axes but axis -1"),
        (lambda: layers.Concatenate(axis=2)([ones(2, 3), ones(2, 3)]), "has axis 2, but its inputs have 2 axes"),
        (lambda: layers.Dot(axes=1)([ones(2, 3), ones(2, 4)]), "must have the same size"),
        (lambda: layers.Dot(axes=0)([ones(2, 3), ones(2, 3)]), "not the batch axis"),
        (lambda: layers.Dot(axes=(1, 2))([ones(2, 3), ones(2, 3)]), "each must be an axis of its input"),
        (lambda: layers.Dot(axes="x"), "an integer or two"),
    ],
    ValueError,
)


@pytest.mark.parametrize("layer", [layers.Add(), layers.Concatenate()])
def test_masks_come_as_a_list_of_as_many(layer):
    x = [np.ones((2, 3, 4), "float32")] * 2
    mask = np.array([[True, False, True]] * 2)
    assert layer.compute_mask(x, None) is None and layer.compute_mask(x, [None, None]) is None
    for inputs, masks in ((x, mask), (x[0], [mask, mask]), (x, [mask])):
        with pytest.raises(ValueError, match="lists of inputs and masks of the same length, received"):
            layer.compute_mask(inputs, masks)


def test_one_sample_that_all_others_share():
    table, rows = layers.Input((2, 3)), layers.Input((2, 3))
    model = Model([table, rows], layers.Add()([table, rows]))
    np.testing.assert_array_equal(model([np.ones((1, 2, 3)), np.ones((5, 2, 3))]), np.full((5, 2, 3), 2.0))
