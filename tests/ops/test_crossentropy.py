"""Cross-entropies: equal to real Keras, fused with their activation, gradients, labels out of range, messages."""

import pathlib

import numpy as np
import pytest
import scipy.special
from mistakes import mistakes

from nbkeras import losses, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import as_index, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

REFERENCE = dict(np.load(pathlib.Path(__file__).parents[1] / "reference" / "crossentropy.npz"))
RNG = np.random.default_rng(2)

CASES = {
    "categorical_logits": ("categorical_crossentropy", "soft", "logits", True),
    "categorical": ("categorical_crossentropy", "soft", "probabilities", False),
    "categorical_unscaled": ("categorical_crossentropy", "soft", "unscaled", False),
    "sparse_logits": ("sparse_categorical_crossentropy", "labels", "logits", True),
    "sparse": ("sparse_categorical_crossentropy", "labels", "probabilities", False),
    "sparse_unscaled": ("sparse_categorical_crossentropy", "labels", "unscaled", False),
    "binary_logits": ("binary_crossentropy", "soft", "logits", True),
    "binary": ("binary_crossentropy", "soft", "probabilities", False),
}


def loss_and_gradient(function, output, weight):
    """The loss and d(sum of weight * loss) / d(output), as arrays."""
    tensor = as_tensor(output)
    with GradientTape() as tape:
        tape.watch(tensor)
        loss = function(tensor)
    return loss.numpy(), tape.gradient(loss, tensor, output_gradients=weight).numpy()


@pytest.mark.parametrize("case", CASES)
def test_equal_to_keras(case):
    name, target, output, from_logits = CASES[case]
    target, output, weight = REFERENCE[target], REFERENCE[output], REFERENCE["weight"]
    expected = REFERENCE[f"{case}_loss"]
    loss, gradient = loss_and_gradient(
        lambda tensor: getattr(ops, name)(target, tensor, from_logits=from_logits),
        output,
        weight if expected.ndim == 3 else np.ascontiguousarray(weight[..., 0]),
    )
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-6)
    # At a probability of exactly 0 or 1 the clipped value does not move: no gradient, as in Keras.
    wanted = REFERENCE[f"{case}_gradient"]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


# -------------------- gradients --------------------


def labels(*shape, classes=5):
    return RNG.integers(0, classes, shape)


@pytest.mark.parametrize("form", ["probabilities", "logits", "softmax"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_gradients_equal_differences(form, shape):
    def of(function):
        if form == "softmax":
            return lambda target, x: function(target, ops.softmax(x))
        return lambda target, x: function(target, x, from_logits=form == "logits")

    x = RNG.random(shape) + 0.2
    check_op(of(ops.categorical_crossentropy), RNG.random(shape), x)
    check_op(of(ops.sparse_categorical_crossentropy), labels(*shape[:-1]), x)


@pytest.mark.parametrize("form", ["probabilities", "logits", "sigmoid"])
def test_binary_gradients(form):
    def function(target, x):
        if form == "sigmoid":
            return ops.binary_crossentropy(target, ops.sigmoid(x))
        return ops.binary_crossentropy(target, x, from_logits=form == "logits")

    check_op(function, RNG.random((3, 4)), RNG.random((3, 4)) * 0.8 + 0.1)


def test_another_class_axis():
    x = RNG.random((2, 5, 3)) + 0.2
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    target, classes = RNG.random((2, 5, 3)), labels(2, 3)
    moved_target = np.ascontiguousarray(np.moveaxis(target, 1, -1))
    for from_logits in (False, True):
        dense = ops.categorical_crossentropy(target, x, from_logits, axis=1).numpy()
        np.testing.assert_allclose(dense, ops.categorical_crossentropy(moved_target, moved, from_logits).numpy())
        sparse = ops.sparse_categorical_crossentropy(classes, x, from_logits, axis=1).numpy()
        np.testing.assert_allclose(sparse, ops.sparse_categorical_crossentropy(classes, moved, from_logits).numpy())
    # softmax along another axis is not fused with a loss along the last
    with_softmax = ops.categorical_crossentropy(target, ops.softmax(x, axis=1), axis=1).numpy()
    np.testing.assert_allclose(with_softmax, ops.categorical_crossentropy(target, x, True, axis=1).numpy(), rtol=1e-6)
    check_op(lambda t, x: ops.sparse_categorical_crossentropy(t, x, axis=1), classes, x)


# -------------------- fusion --------------------


def test_a_loss_of_softmax_is_computed_from_its_logits():
    x = np.array([[200.0, 0.0, -200.0]], np.float32)
    target = np.array([[0.0, 0.0, 1.0]], np.float32)
    loss, gradient = loss_and_gradient(
        lambda x: ops.categorical_crossentropy(target, ops.softmax(x)), x, np.ones(1, np.float32)
    )
    np.testing.assert_allclose(loss, [400])  # clipped probabilities would give 16.1, and no gradient
    np.testing.assert_allclose(gradient, [[1, 0, -1]])
    sparse = ops.sparse_categorical_crossentropy(np.array([2]), ops.softmax(x))
    np.testing.assert_allclose(sparse.numpy(), [400])


def test_a_loss_of_sigmoid_is_computed_from_its_logits():
    x = np.array([[200.0, -200.0, 0.5]], np.float32)
    target = np.array([[0.0, 1.0, 1.0]], np.float32)
    loss, gradient = loss_and_gradient(
        lambda x: ops.binary_crossentropy(target, ops.sigmoid(x)), x, np.ones((1, 3), np.float32)
    )
    np.testing.assert_allclose(loss, [[200, 200, 0.474077]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1, -1, -0.3775407]], rtol=1e-6)


def test_logits_of_another_activation_are_not_taken():
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    target = np.eye(4, dtype=np.float32)[:3]
    plain = as_tensor(ops.softmax(x).numpy())
    np.testing.assert_array_equal(
        ops.binary_crossentropy(target, ops.softmax(x)).numpy(), ops.binary_crossentropy(target, plain).numpy()
    )
    plain = as_tensor(ops.sigmoid(x).numpy())
    np.testing.assert_array_equal(
        ops.categorical_crossentropy(target, ops.sigmoid(x)).numpy(),
        ops.categorical_crossentropy(target, plain).numpy(),
    )


def test_probabilities_that_were_changed_are_not_taken_for_their_logits():
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    half = ops.softmax(x) * 0.5
    assert half.logits is None
    target = np.eye(4, dtype=np.float32)[:3]
    np.testing.assert_allclose(
        ops.categorical_crossentropy(target, half).numpy(),
        ops.categorical_crossentropy(target, x, from_logits=True).numpy(),
        rtol=1e-5,
    )


# -------------------- labels and sizes --------------------


@pytest.mark.parametrize("from_logits", [True, False])
def test_a_label_out_of_range_gives_nan_in_its_row_alone(from_logits):
    x = (RNG.random((4, 3)) + 0.1).astype(np.float32)
    loss, gradient = loss_and_gradient(
        lambda x: ops.sparse_categorical_crossentropy(np.array([0, 3, -1, 2]), x, from_logits),
        x,
        np.ones(4, np.float32),
    )
    np.testing.assert_array_equal(np.isnan(loss), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), [False, True, True, False])
    assert np.isfinite(gradient[[0, 3]]).all()


@pytest.mark.parametrize("label", [2**32, 2**32 + 1, np.uint64(2**64 - 1), np.nan, np.inf, 1e20, np.float32(-1e20)])
def test_a_label_that_a_cast_would_make_a_class_of_gives_nan(label):
    """2**32 becomes 0 in int32, and NaN becomes 0 on some machines."""
    labels, p = np.array([label]), np.array([[0.5, 0.5]])
    for loss in (losses.SparseCategoricalCrossentropy(), losses.SparseCategoricalCrossentropy(ignore_class=1)):
        assert np.isnan(float(loss(labels, p)))
    assert not ops.one_hot(labels, 2).numpy().any()
    assert float(ops.cast(ops.in_top_k(as_index(labels), p, 2), "float32")) == 0


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_labels_of_any_dtype_with_or_without_an_axis_of_one(dtype, shape):
    x = RNG.random((3, 4)).astype(np.float32)
    loss = ops.sparse_categorical_crossentropy(np.array([0, 1, 3], dtype).reshape(shape), x, from_logits=True)
    np.testing.assert_allclose(loss.numpy(), -scipy.special.log_softmax(x, -1)[[0, 1, 2], [0, 1, 3]], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, pytest.param(5000, marks=pytest.mark.big)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_rows(rows, dtype):
    x = RNG.standard_normal((rows, 40)).astype(dtype)
    target, classes = RNG.random((rows, 40)).astype(dtype), labels(rows, classes=40)
    slope = RNG.standard_normal(rows).astype(dtype)
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    logs = scipy.special.log_softmax(x.astype(np.float64), -1)
    p = np.exp(logs)

    loss, gradient = loss_and_gradient(lambda x: ops.categorical_crossentropy(target, x, True), x, slope)
    np.testing.assert_allclose(loss, -(target * logs).sum(-1), rtol=tolerance)
    wanted = slope[:, None] * (p * target.sum(-1, keepdims=True) - target)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
    _, gradient = loss_and_gradient(lambda target: ops.categorical_crossentropy(target, x, True), target, slope)
    np.testing.assert_allclose(gradient, -slope[:, None] * logs, rtol=tolerance)

    loss, gradient = loss_and_gradient(lambda x: ops.sparse_categorical_crossentropy(classes, x, True), x, slope)
    np.testing.assert_allclose(loss, -np.take_along_axis(logs, classes[:, None], -1)[:, 0], rtol=tolerance)
    wanted = slope[:, None] * (p - np.eye(40)[classes])
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())

    weight = RNG.standard_normal((rows, 40)).astype(dtype)
    loss, gradient = loss_and_gradient(lambda x: ops.binary_crossentropy(target, x, True), x, weight)
    wanted = np.logaddexp(0, x.astype(np.float64)) - x * target
    np.testing.assert_allclose(loss, wanted, rtol=0, atol=tolerance * wanted.max())
    wanted = weight * (scipy.special.expit(x.astype(np.float64)) - target)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_no_rows():
    x = np.zeros((0, 3), np.float32)
    assert ops.categorical_crossentropy(x, x).shape == (0,)
    assert ops.sparse_categorical_crossentropy(np.zeros(0, np.int32), x, from_logits=True).shape == (0,)
    assert ops.binary_crossentropy(x, x, from_logits=True).shape == (0, 3)


def test_nan_shows():
    x = np.array([[np.nan, 1.0], [0.0, 1.0]], np.float32)
    target = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    for loss in (
        ops.categorical_crossentropy(target, x, from_logits=True),
        ops.categorical_crossentropy(target, x),
        ops.sparse_categorical_crossentropy(np.zeros(2, np.int32), x, from_logits=True),
    ):
        np.testing.assert_array_equal(np.isnan(loss.numpy()), [True, False])
    assert np.isnan(ops.binary_crossentropy(target, x).numpy()[0, 0])


def test_shapes_are_worked_out_without_running_a_kernel():
    with device.dry():
        x = as_tensor(np.ones((2, 3, 4), np.float32))
        assert ops.categorical_crossentropy(x, ops.softmax(x)).shape == (2, 3)
        assert ops.sparse_categorical_crossentropy(np.ones((2, 3, 1), np.int32), x).shape == (2, 3)
        assert ops.binary_crossentropy(x, x).shape == (2, 3, 4)


test_mistakes_are_explained = mistakes(
    [
        (lambda: ops.categorical_crossentropy(np.ones((2, 3)), np.ones((2, 4))), r"same shape, received \(2, 3\)"),
        (lambda: ops.categorical_crossentropy(np.ones(()), np.ones(())), "one class or more"),
        (lambda: ops.categorical_crossentropy(np.ones((2, 0)), np.ones((2, 0))), "one class or more"),
        (lambda: ops.sparse_categorical_crossentropy(np.ones((2, 3), int), np.ones((2, 3))), r"of shape \(2,\)"),
        (
            lambda: ops.sparse_categorical_crossentropy(np.ones(3, int), np.ones((2, 3))),
            r"one class number for each prediction, .* received \(3,\)",
        ),
        (
            lambda: ops.binary_crossentropy(np.ones(3), np.ones((3, 1))),
            r"must have the same shape, received \(3,\) and \(3, 1\)",
        ),
        (lambda: ops.categorical_crossentropy(np.ones((2, 3)), np.ones((2, 3)), axis=2), "axis 2 is out of range"),
    ],
    ValueError,
)
