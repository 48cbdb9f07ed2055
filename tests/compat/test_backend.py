"""Keras 2's backend: each name gives Keras's numbers on arrays, on tensors and in a functional graph."""

import numpy as np
import pytest

from nbkeras import backend as K  # noqa: N812
from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building.inputs import Input
from nbkeras.engine.learning_phase import forget_learning_phase, learning_phase, training_phase
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.testing import check_op

RNG = np.random.default_rng(2)
X = RNG.uniform(0.2, 0.9, (2, 3)).astype(np.float32)
Z = RNG.uniform(-1, 1, (2, 3, 4)).astype(np.float32)
ONES = np.ones((2, 3), np.float32)
Y, KERNEL = np.ones((2, 4, 2, 5), np.float32), np.ones((3, 2, 4, 5), np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


CASES = {
    "abs": (lambda x: K.abs(x - 0.5), lambda x: np.abs(x - 0.5)),
    "all": (lambda x: K.all(x > 0.5, axis=1), lambda x: np.all(x > 0.5, axis=1)),
    "any": (lambda x: K.any(x > 0.5, axis=1), lambda x: np.any(x > 0.5, axis=1)),
    "argmax": (K.argmax, lambda x: np.argmax(x, -1)),
    "argmin": (K.argmin, lambda x: np.argmin(x, -1)),
    "batch_dot": (lambda x: K.batch_dot(x, x, axes=1), lambda x: (x * x).sum(1, keepdims=True)),
    "batch_flatten": (lambda x: K.batch_flatten(K.repeat(x, 2)), lambda x: np.tile(x, 2)),
    "bias_add": (lambda x: K.bias_add(x, np.arange(3.0)), lambda x: x + np.arange(3)),
    "binary_crossentropy": (lambda x: K.binary_crossentropy(K.ones_like(x), x), lambda x: -np.log(x)),
    "cast": (lambda x: K.cast(x * 5, "int32"), lambda x: (x * 5).astype(np.int32)),
    "categorical_crossentropy": (
        lambda x: K.categorical_crossentropy(np.float32([[1, 0, 0]] * 2), K.softmax(x)),
        lambda x: -np.log(softmax(x)[:, 0]),
    ),
    "clip": (lambda x: K.clip(x, min_value=0.4, max_value=0.6), lambda x: np.clip(x, 0.4, 0.6)),
    "concatenate": (lambda x: K.concatenate([x, x]), lambda x: np.concatenate([x, x], -1)),
    "cos": (K.cos, np.cos),
    "cumprod": (lambda x: K.cumprod(x, axis=1), lambda x: np.cumprod(x, 1)),
    "cumsum": (lambda x: K.cumsum(x, axis=1), lambda x: np.cumsum(x, 1)),
    "dot": (lambda x: K.dot(x, np.ones((3, 2), np.float32)), lambda x: x @ np.ones((3, 2))),
    "elu": (lambda x: K.elu(x - 0.5, alpha=2.0), lambda x: np.where(x > 0.5, x - 0.5, 2 * np.expm1(x - 0.5))),
    "equal": (lambda x: K.equal(x, x), lambda x: x == x),  # noqa: PLR0124
    "exp": (K.exp, np.exp),
    "expand_dims": (K.expand_dims, lambda x: x[..., None]),
    "flatten": (K.flatten, lambda x: x.reshape(-1)),
    "gather": (lambda x: K.gather(x, [1, 0, 1]), lambda x: x[[1, 0, 1]]),
    "greater": (lambda x: K.greater(x, 0.5), lambda x: x > 0.5),
    "greater_equal": (lambda x: K.greater_equal(x, 0.5), lambda x: x >= 0.5),
    "hard_sigmoid": (K.hard_sigmoid, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    "identity": (K.identity, lambda x: x),
    "in_top_k": (lambda x: K.in_top_k(x, np.array([0, 2]), 1), lambda x: x.argmax(1) == [0, 2]),
    "l2_normalize": (K.l2_normalize, lambda x: x / np.sqrt((x * x).sum())),
    "l2_normalize_axis": (lambda x: K.l2_normalize(x, axis=1), lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
    "less": (lambda x: K.less(x, 0.5), lambda x: x < 0.5),
    "less_equal": (lambda x: K.less_equal(x, 0.5), lambda x: x <= 0.5),
    "log": (K.log, np.log),
    "logsumexp": (lambda x: K.logsumexp(x, axis=1), lambda x: np.log(np.exp(x).sum(1))),
    "max": (lambda x: K.max(x, axis=1, keepdims=True), lambda x: x.max(1, keepdims=True)),
    "maximum": (lambda x: K.maximum(x, 0.5), lambda x: np.maximum(x, 0.5)),
    "mean": (K.mean, np.mean),
    "mean_of_comparison": (lambda x: K.mean(K.equal(K.round(x), 1.0)), lambda x: np.mean(np.round(x) == 1)),
    "min": (lambda x: K.min(x, axis=-1), lambda x: x.min(-1)),
    "minimum": (lambda x: K.minimum(x, 0.5), lambda x: np.minimum(x, 0.5)),
    "not_equal": (lambda x: K.not_equal(x, 0.5), lambda x: x != 0.5),
    "one_hot": (lambda x: K.one_hot(K.argmax(x), 4), lambda x: np.eye(4)[x.argmax(-1)]),
    "ones_like": (K.ones_like, np.ones_like),
    "permute_dimensions": (lambda x: K.permute_dimensions(x, (1, 0)), np.transpose),
    "pow": (lambda x: K.pow(x, 3), lambda x: x**3),
    "prod": (lambda x: K.prod(x, axis=1), lambda x: x.prod(1)),
    "relu": (lambda x: K.relu(x - 0.5, alpha=0.1, max_value=0.2), lambda x: np.minimum(np.maximum(x - 0.5, 0.1 * x - 0.05), 0.2)),
    "repeat": (lambda x: K.repeat(x, 4), lambda x: np.repeat(x[:, None], 4, axis=1)),
    "repeat_elements": (lambda x: K.repeat_elements(x, 2, axis=1), lambda x: np.repeat(x, 2, axis=1)),
    "reshape": (lambda x: K.reshape(x, (-1, 3, 1)), lambda x: x[..., None]),
    "reverse": (lambda x: K.reverse(x, axes=1), lambda x: x[:, ::-1]),
    "round": (K.round, np.round),
    "sigmoid": (K.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "sign": (lambda x: K.sign(x - 0.5), lambda x: np.sign(x - 0.5)),
    "sin": (K.sin, np.sin),
    "slice": (lambda x: K.slice(x, (0, 1), (-1, 2)), lambda x: x[:, 1:3]),
    "softmax": (K.softmax, softmax),
    "softplus": (K.softplus, lambda x: np.log1p(np.exp(x))),
    "softsign": (K.softsign, lambda x: x / (1 + np.abs(x))),
    "sparse_categorical_crossentropy": (
        lambda x: K.sparse_categorical_crossentropy(np.array([2, 0]), K.softmax(x)),
        lambda x: -np.log(softmax(x)[[0, 1], [2, 0]]),
    ),
    "sqrt": (K.sqrt, np.sqrt),
    "square": (K.square, np.square),
    "squeeze": (lambda x: K.squeeze(K.expand_dims(x, 1), 1), lambda x: x),
    "stack": (lambda x: K.stack([x, x], axis=1), lambda x: np.stack([x, x], 1)),
    "std": (lambda x: K.std(x, axis=1), lambda x: x.std(1)),
    "sum": (lambda x: K.sum(x, axis=-1), lambda x: x.sum(-1)),
    "switch": (lambda x: K.switch(x > 0.5, x, K.zeros_like(x)), lambda x: np.where(x > 0.5, x, 0)),
    "switch_rows": (lambda x: K.switch(x[:, 0] > 0.3, lambda: x, lambda: -x), lambda x: np.where(x[:, :1] > 0.3, x, -x)),
    "tanh": (K.tanh, np.tanh),
    "tile": (lambda x: K.tile(x, (1, 2)), lambda x: np.tile(x, (1, 2))),
    "transpose": (K.transpose, np.transpose),
    "update_free": (lambda x: x - K.mean(x, axis=1, keepdims=True), lambda x: x - x.mean(1, keepdims=True)),
    "var": (lambda x: K.var(x, axis=1), lambda x: x.var(1)),
    "zeros_like": (K.zeros_like, np.zeros_like),
    "floor": (lambda x: K.floor(x * 3), lambda x: np.floor(x * 3)),
    "batch_normalization": (
        lambda x: K.batch_normalization(x, np.zeros(3), np.ones(3), np.ones(3), np.full(3, 2.0), epsilon=0.0),
        lambda x: 2 * x + 1,
    ),
    "normalize_batch_in_training": (
        lambda x: K.normalize_batch_in_training(x, np.full(3, 2.0), np.ones(3), [0], epsilon=0.0)[0],
        lambda x: 2 * (x - x.mean(0)) / x.std(0) + 1,
    ),
    "foldl": (lambda x: K.foldl(lambda a, b: a * b, K.transpose(x)), lambda x: x.prod(1)),
    "foldr": (lambda x: K.foldr(lambda a, b: a - b, K.transpose(x)), lambda x: x[:, 2] - x[:, 1] - x[:, 0]),
    "map_fn": (lambda x: K.map_fn(lambda row: row * 2, K.transpose(x)), lambda x: 2 * x.T),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_eager_and_in_a_graph(name):
    function, reference = CASES[name]
    expected = reference(X)
    result = function(ops.convert_to_tensor(X))
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-6)
    assert result.shape == expected.shape and result.dtype != np.float64
    symbol = Input(batch_shape=(2, 3))
    (replayed,) = K.function([symbol], [function(symbol)])([X])
    np.testing.assert_array_equal(replayed, result.numpy())


def test_at_least_eighty_names():
    public = [name for name, value in vars(K).items() if callable(value) and not name.startswith("_")]
    assert len(public) >= 120


def test_images_and_sequences():
    image = Z[..., None]
    np.testing.assert_array_equal(K.temporal_padding(Z, (1, 2)), np.pad(Z, ((0, 0), (1, 2), (0, 0))))
    padded = K.spatial_2d_padding(image, ((1, 0), (0, 2)))
    np.testing.assert_array_equal(padded, np.pad(image, ((0, 0), (1, 0), (0, 2), (0, 0))))
    padded = K.spatial_2d_padding(Z[:, None], ((1, 0), (0, 2)), data_format="channels_first")
    np.testing.assert_array_equal(padded, np.pad(Z[:, None], ((0, 0), (0, 0), (1, 0), (0, 2))))
    np.testing.assert_array_equal(K.resize_images(image, 2, 3, "channels_last"), image.repeat(2, 1).repeat(3, 2))
    found = K.bias_add(Z, np.arange(3.0), data_format="channels_first")
    np.testing.assert_allclose(found, Z + np.arange(3.0)[:, None], rtol=1e-6)


def test_convolution_and_pooling():
    x, kernel = Z, RNG.standard_normal((2, 4, 5)).astype(np.float32)
    expected = np.stack([x[:, i] @ kernel[0] + x[:, i + 1] @ kernel[1] for i in range(2)], axis=1)
    np.testing.assert_allclose(K.conv1d(x, kernel), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(K.conv2d(x[:, None], kernel[None])[:, 0], expected, rtol=1e-4, atol=1e-5)
    image = Z[..., None]
    windows = np.stack([image[:, i : i + 2, j : j + 2].reshape(2, 4, 1) for i in range(2) for j in range(3)], axis=1)
    np.testing.assert_allclose(K.pool2d(image, (2, 2)), windows.max(2).reshape(2, 2, 3, 1), rtol=1e-6)
    averages = K.pool2d(image, (2, 2), pool_mode="avg")
    np.testing.assert_allclose(averages, windows.mean(2).reshape(2, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_ops_of_volumes_are_those_of_images():
    volume, kernel = Z[..., None, None], RNG.standard_normal((2, 2, 1, 1, 3)).astype(np.float32)
    y = K.conv3d(volume, kernel)
    np.testing.assert_allclose(y[:, :, :, 0], K.conv2d(Z[..., None], kernel[:, :, 0]), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(K.pool3d(volume, (2, 2, 1))[..., 0], K.pool2d(Z[..., None], (2, 2)))
    padded = K.spatial_3d_padding(volume, ((1, 0), (0, 2), (1, 1)))
    np.testing.assert_array_equal(padded, np.pad(volume, ((0, 0), (1, 0), (0, 2), (1, 1), (0, 0))))
    larger = K.resize_volumes(np.moveaxis(volume, -1, 1), 2, 3, 1, "channels_first")
    np.testing.assert_array_equal(larger, np.moveaxis(volume, -1, 1).repeat(2, 2).repeat(3, 3))


def test_transposed_convolution_by_its_output_shape():
    """A convolution's gradient for its input: <y, conv(v)> = <conv_transpose(y), v>."""
    kernel = RNG.standard_normal((3, 2, 4, 5)).astype(np.float32)
    for shape, strides, padding in (
        ((2, 7, 6, 4), (2, 1), "valid"),
        ((2, 8, 6, 4), (2, 1), "valid"),
        ((2, 8, 6, 4), (2, 3), "same"),
    ):
        v = RNG.standard_normal(shape).astype(np.float32)
        y = K.conv2d(v, kernel, strides, padding)
        back = K.conv2d_transpose(y, kernel, shape, strides, padding).numpy()
        np.testing.assert_allclose((back * v).sum(), (y.numpy() ** 2).sum(), rtol=1e-4)
        back = K.conv3d_transpose(y[:, None], kernel[None], (2, 1, *shape[1:]), (1, *strides), padding)
        np.testing.assert_allclose((back.numpy()[:, 0] * v).sum(), (y.numpy() ** 2).sum(), rtol=1e-4)


def test_convolution_by_channel_and_by_place():
    x = RNG.standard_normal((2, 5, 4, 3)).astype(np.float32)
    deep, wide = (RNG.standard_normal(s).astype(np.float32) for s in ((2, 3, 3, 2), (1, 1, 6, 4)))
    hidden = K.depthwise_conv2d(x, deep)
    np.testing.assert_allclose(hidden[..., 3:4], K.conv2d(x[..., 1:2], deep[:, :, 1:2, 1:]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(K.separable_conv2d(x, deep, wide), K.conv2d(hidden, wide), rtol=1e-5, atol=1e-5)
    rows = K.separable_conv1d(x[:, :, 0], deep[:, 0], wide[0])
    hidden = K.depthwise_conv2d(x[:, :, :1], deep[:, :1])[:, :, 0]
    np.testing.assert_allclose(rows, K.conv1d(hidden, wide[0]), atol=1e-5)
    same = np.tile(deep.reshape(1, 18, 2), (8, 1, 1))  # the same kernel at all positions
    np.testing.assert_allclose(K.local_conv2d(x, same, (2, 3), (1, 1)), K.conv2d(x, deep), rtol=1e-4, atol=1e-5)
    same = np.tile(deep[:, 0].reshape(1, 6, 2), (4, 1, 1))
    np.testing.assert_allclose(K.local_conv1d(x[:, :, 0], same, 2, 1), K.conv1d(x[:, :, 0], deep[:, 0]), atol=1e-5)


def test_rnn_with_mask_and_constants():
    mask = np.array([[True, True, False], [True, False, True]])

    def step(x, states):
        state, constant = states
        new = x * constant + state
        return new, [new]

    last, outputs, states = K.rnn(step, Z, [np.zeros((2, 4), np.float32)], mask=mask, constants=[2.0])
    expected = np.cumsum(np.where(mask[..., None], 2 * Z, 0), axis=1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    np.testing.assert_allclose(last, expected[:, -1], rtol=1e-6)
    np.testing.assert_allclose(states[0], expected[:, -1], rtol=1e-6)
    last, _, _ = K.rnn(lambda x, states: (x, states), Z, [], go_backwards=True)
    np.testing.assert_array_equal(last, Z[:, 0])


def test_variables_are_set_and_updated():
    v = K.variable([[1.0, 2.0]], name="v")
    assert isinstance(v, Variable) and K.dtype(v) == "float32" and v.name == "v"
    K.set_value(v, [[3, 4]])
    np.testing.assert_array_equal(K.get_value(v), [[3, 4]])
    K.update_add(v, np.ones((1, 2)))
    K.update_sub(v, 2)
    K.update(v, v * 2)
    np.testing.assert_array_equal(K.eval(v), [[4, 6]])
    K.moving_average_update(v, np.zeros((1, 2)), 0.5)
    np.testing.assert_array_equal(K.eval(v), [[2, 3]])
    K.batch_set_value([(v, np.zeros((1, 2)))])
    np.testing.assert_array_equal(K.batch_get_value([v])[0], [[0, 0]])
    found = K.zeros((2, 3)), K.ones((2,)), K.eye(3), K.eye((2, 3))
    for made, expected in zip(found, (np.zeros((2, 3)), np.ones(2), np.eye(3), np.eye(2, 3)), strict=True):
        assert isinstance(made, Variable)
        np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(K.constant(3, shape=(2, 2)), np.full((2, 2), 3))
    np.testing.assert_array_equal(K.arange(1, 7, 2), [1, 3, 5])
    assert K.random_uniform_variable((2, 3), 0, 1).shape == K.random_normal_variable((2, 3), 0, 1).shape == (2, 3)
    assert K.count_params(v) == K.size(v) == 2


def test_shapes_and_kinds():
    symbol, tensor = K.placeholder((None, 3)), ops.convert_to_tensor(X)
    assert K.int_shape(symbol) == (None, 3) and K.shape(tensor) == (2, 3)
    assert K.ndim(symbol) == 2 and K.ndim(K.placeholder(ndim=3)) == 3
    assert K.is_tensor(tensor) and K.is_tensor(symbol) and not K.is_tensor(X)
    assert K.is_keras_tensor(symbol) and not K.is_keras_tensor(tensor)
    assert K.is_placeholder(symbol) and not K.is_placeholder(symbol + 1)
    assert K.cast_to_floatx(np.ones(2)).dtype == np.float32
    assert K.cast_to_floatx(ops.cast(tensor, "float64")).dtype == np.float32
    assert K.backend() == "nbkeras" and K.image_data_format() == "channels_last" and K.floatx() == "float32"


def test_settings_are_read_and_set():
    before = K.epsilon()
    try:
        K.set_epsilon(1e-3)
        assert K.epsilon() == 1e-3
    finally:
        K.set_epsilon(before)
    K.clear_session()
    assert Input((3,)).name == "input_layer"


def test_random_numbers_lie_where_asked():
    assert K.random_normal((1000,), 5.0, 0.1).numpy().mean() == pytest.approx(5, abs=0.1)
    assert 2 <= K.random_uniform((100,), 2.0, 3.0).numpy().min()
    assert set(np.unique(K.random_binomial((100,), p=0.5))) == {0, 1}
    assert np.abs(K.truncated_normal((1000,))).max() <= 2
    np.testing.assert_array_equal(K.random_normal((3,), seed=1), K.random_normal((3,), seed=1))
    dropped = K.dropout(np.ones((100,), np.float32), 0.5, seed=3).numpy()
    assert set(np.unique(dropped)) == {0, 2}


def test_learning_phase():
    assert not K.learning_phase()
    with training_phase(True):
        assert K.learning_phase() and K.in_train_phase(1, 2) == 1 and K.in_test_phase(1, lambda: 2) == 2
    assert K.in_train_phase(lambda: 1, lambda: 2) == 2 and K.in_train_phase(1, 2, training=True) == 1
    try:
        K.set_learning_phase(1)
        assert learning_phase()
    finally:
        forget_learning_phase()  # set to 0 it would stay in later tests


def test_function_of_several():
    x, y = Input(batch_shape=(None, 3)), Input(batch_shape=(None, 3))
    f = K.function([x, y], [x + y, K.sum(x * y)])
    total, product = f([X, ONES])
    np.testing.assert_allclose(total, X + 1)
    np.testing.assert_allclose(product, X.sum(), rtol=1e-6)
    assert isinstance(total, np.ndarray)
    with pytest.raises(ValueError, match="expected 2 arrays, received 1"):
        f([X])


def test_a_custom_loss_is_differentiable_and_replays():
    def loss(y_true, y_pred):
        error = K.clip(K.abs(y_true - y_pred), K.epsilon(), 10.0)
        return K.mean(K.square(error) + K.log(1.0 + error), axis=-1) - K.logsumexp(
            K.stack([y_pred, y_true * 0], -1), axis=[1, 2]
        )

    check_op(loss, X, RNG.standard_normal((2, 3)))


def test_print_tensor(capsys):
    x = Variable(np.ones(2))
    with GradientTape() as tape:
        y = K.print_tensor(x, "here") * 2
    assert "here [1. 1.]" in capsys.readouterr().out
    assert isinstance(tape.gradient(y, x), Tensor)


def test_function_with_updates():
    x, total, weight = K.placeholder((None, 2)), K.variable(1.0), K.variable([[1.0], [2.0]])
    f = K.function(
        [x], [K.dot(x, weight)], updates=[K.update_add(total, K.sum(x)), (weight, K.constant([[0.0], [1.0]]))]
    )
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(f([values])[0], [[5], [11]])
    assert K.get_value(total) == 11.0
    np.testing.assert_allclose(f([values])[0], [[2], [4]])
    assert K.get_value(total) == 21.0
    with pytest.raises(ValueError, match="expected 1 arrays, received 2"):
        f([values, values])


def test_symbolic_gradients():
    x, weight, other = K.placeholder((3, 2)), K.variable(np.ones((2, 4))), K.variable([1.0])
    inner = x * K.exp(x)
    loss = K.sum(K.square(K.dot(inner, weight)))
    gradients = K.gradients(loss, [inner, x, weight, other])
    assert gradients[3] is None
    values = np.random.default_rng(0).normal(size=(3, 2))
    found = K.function([x], gradients[:3])([values])
    inside = values * np.exp(values)
    slope = 2 * (inside @ np.ones((2, 4))) @ np.ones((4, 2))
    np.testing.assert_allclose(found[0], slope, rtol=1e-4)
    np.testing.assert_allclose(found[1], slope * np.exp(values) * (1 + values), rtol=1e-4)
    np.testing.assert_allclose(found[2], inside.T @ (2 * inside @ np.ones((2, 4))), rtol=1e-4)
    assert K.gradients(loss, x)[0].shape == (3, 2)
    with pytest.raises(TypeError, match="takes a symbolic tensor"):
        K.gradients(K.sum(weight), [weight])


def test_uids_formats_and_kinds():
    K.reset_uids()
    assert [K.get_uid(), K.get_uid("a"), K.get_uid()] == [1, 1, 2]
    K.clear_session()
    assert K.get_uid() == 1
    assert K.normalize_data_format("channels_first") == K.normalize_data_format("Channels_First") == "channels_first"
    assert K.is_variable(K.variable(1.0)) and not K.is_variable(K.constant(1.0))
    np.testing.assert_array_equal(K.get_value(K.sqrt(K.constant([4.0, -1.0]))), [2, 0])
    np.testing.assert_array_equal(K.get_value(K.cumprod(K.constant([[1.0, 2.0], [3.0, 4.0]]))), [[1, 2], [3, 8]])


def test_bias_and_normalization_as_broad_as_the_input():
    x, bias = np.random.default_rng(1).normal(size=(2, 3, 4)), np.arange(12.0)
    found = K.bias_add(K.constant(x), K.constant(bias.reshape(4, 3)), data_format="channels_first")
    np.testing.assert_allclose(K.get_value(found), x + bias.reshape(3, 4), rtol=1e-5)
    mean, spread = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    given = [K.constant(each) for each in (x, mean, spread, np.zeros((1, 3, 1)), np.ones((1, 3, 1)))]
    found = K.batch_normalization(*given, axis=1)
    np.testing.assert_allclose(K.get_value(found), (x - mean) / np.sqrt(spread + 1e-3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", [list, np.array, K.constant])
def test_a_condition_of_fewer_axes_chooses_rows(made):
    found = K.switch(made([True, False]), np.ones((2, 2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(found, [[1, 1], [0, 0]])


def test_relu_with_tensors_as_slope_and_limit():
    x = np.float32([[-2.0, 0.5, 3.0], [-4.0, 1.5, 9.0]])
    slope, limit = K.variable([[0.1, 0.2, 0.3]]), K.variable([[1.0, 1.0, 4.0]])
    expected = np.minimum(np.maximum(x, 0), limit) + slope.numpy() * np.minimum(x, 0)
    np.testing.assert_allclose(K.relu(x, slope, limit), expected, rtol=1e-6)
    np.testing.assert_allclose(K.relu(x, slope, threshold=1.0)[0], [-0.3, -0.1, 3.0], rtol=1e-6)


def test_constants_are_laid_out_in_a_shape():
    np.testing.assert_array_equal(K.get_value(K.constant([1, 2, 3, 4], shape=(2, 2))), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(K.get_value(K.constant([5], shape=(2, 2))), [[5, 5], [5, 5]])
    np.testing.assert_array_equal(K.get_value(K.pow(x=K.constant([2.0]), a=3)), [8])


def test_dtypes_by_name():
    assert K.standardize_dtype(None) == K.standardize_dtype(float) == "float32"
    assert K.is_float_dtype("float64") and not K.is_float_dtype("int32")
    assert K.is_int_dtype("uint8") and not K.is_int_dtype(bool)
    assert K.result_type("int32", "float64", "float32") == "float64"
    assert K.result_type("bool", "int32") == K.result_type("bool", int) == K.result_type(int) == "int32"
    assert K.result_type("uint8", int) == "uint8" and K.result_type("int64", int) == "int64"
    assert K.result_type() == K.result_type(int, float) == "float32"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: K.placeholder(), ValueError, "placeholder needs shape"),
        (lambda: K.placeholder((2,), sparse=np.ones(3)), TypeError, "placeholder: sparse must be True or False"),
        (lambda: K.cast_to_floatx(K), TypeError, "expected a number"),
        (lambda: K.get_uid([1]), TypeError, "get_uid: prefix must be a string"),
        (lambda: K.eye((2,)), ValueError, "eye: size must be one value or a pair"),
        (lambda: K.temporal_padding(X, 1), TypeError, "temporal_padding: padding must be a pair"),
        (lambda: K.batch_dot(X, X, (1,)), ValueError, "batch_dot: axes must be one value or a pair"),
        (lambda: K.moving_average_update(K.zeros(2), [1.0, 1.0], "a"), ValueError, "or lists of numbers of one length"),
        (
            lambda: K.resize_images(Z[..., None], 2, 2, interpolation="cubic"),
            ValueError,
            "one of 'nearest', 'bilinear'",
        ),
        (lambda: K.pool2d(Z[..., None], (2, 2), pool_mode="sum"), ValueError, "pool_mode must be"),
        (lambda: K.spatial_3d_padding(Z, data_format="c"), ValueError, "spatial_3d_padding: data_format must be"),
        (lambda: K.normalize_data_format("channels_middle"), ValueError, "received 'channels_middle'"),
        (lambda: K.bias_add(Z, np.zeros((1, 1, 4))), ValueError, "an input of 3 axes needs a bias of 1 or 2"),
        (lambda: K.conv2d_transpose(Y, KERNEL, (2, 90, 6, 4), (2, 3)), ValueError, "output_padding must be"),
        (lambda: K.conv2d_transpose(Y[0], KERNEL, (2, 8, 6, 4), (2, 3)), ValueError, "the kernel must have 4 axes"),
        (lambda: K.conv2d_transpose(Y, KERNEL, (8, 6), (2, 3)), TypeError, "output_shape must be a tuple of 4 sizes"),
        (
            lambda: K.conv2d_transpose(Y, KERNEL, (2, "a", 6, 4), (2, 3)),
            ValueError,
            "conv2d_transpose: output_shape must be an integer of at least 0, received 'a'",
        ),
        (lambda: K.slice(X, (0, -2), (1, 2)), ValueError, r"a start must not be negative, received \(0, -2\)"),
        (lambda: K.slice(X, [0, 0], [1]), ValueError, r"expected a size for each start, received \(0, 0\) and \(1,\)"),
        (lambda: K.rnn(len, Z, X), TypeError, "K.rnn: initial_states must be a list of tensors, received ndarray"),
        (lambda: K.function(1, []), TypeError, "K.function takes lists of inputs and updates, received 1 and"),
        (lambda: K.function([], [], [1]), TypeError, r"updates must be pairs \(variable, tensor\), received \[1\]"),
        (lambda: K.placeholder((2,), sparse=True), ValueError, "sparse placeholders are not offered"),
        (lambda: K.batch_get_value(1), TypeError, "K.batch_get_value takes a list of tensors, received 1"),
        (lambda: K.batch_set_value([1]), TypeError, r"a list of pairs \(variable, value\), received \[1\]"),
    ],
)
def test_mistakes_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
