"""Dense, Activation, shape layers, Lambda, Masking and activation layers: values, shapes, masks, configurations, messages."""

import json

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import Input, KerasTensor, Model, Sequential, layers, ops, regularizers, tree
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine import settings
from nbkeras.engine.tensor import Variable, as_tensor

RNG = np.random.default_rng(4)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def again(layer):
    """The layer made again from its configuration."""
    return type(layer).from_config(layer.get_config())


def masked(x, mask):
    tensor = as_tensor(x)
    tensor.mask = as_tensor(np.array(mask, bool))
    return tensor


# -------------------- Dense --------------------


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 2, 4)])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_dense_is_a_product_a_bias_and_an_activation(shape, activation):
    layer = layers.Dense(5, activation=activation, bias_initializer="ones")
    x = normal(*shape)
    y = layer(x)
    kernel, bias = layer.get_weights()
    expected = x @ kernel + bias
    expected = {None: expected, "relu": np.maximum(expected, 0), "tanh": np.tanh(expected)}[activation]
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *shape[1:-1], 5)
    assert y.dtype == np.float32 and bias.tolist() == [1] * 5


def test_dense_without_bias():
    layer = layers.Dense(2, use_bias=False)
    layer(normal(1, 3))
    assert layer.bias is None and [w.shape for w in layer.weights] == [(3, 2)]


def test_dense_keeps_its_mask():
    y = layers.Dense(5)(masked(normal(2, 3, 4), [[1, 1, 0], [1, 0, 0]]))
    np.testing.assert_array_equal(y.mask.numpy(), [[1, 1, 0], [1, 0, 0]])


def test_dense_computes_in_its_own_dtype():
    assert layers.Dense(2)(np.ones((1, 3))).dtype == np.float32
    assert layers.Dense(2, dtype="float64")(np.ones((1, 3), np.float32)).dtype == np.float64
    assert layers.Dense(2)(np.ones((1, 3), np.int64)).dtype == np.float32


def test_dense_regularizers_and_activity_regularizer():
    layer = layers.Dense(2, kernel_regularizer="l2", activity_regularizer="l2", bias_initializer="ones")
    y = layer(normal(4, 3))
    losses = sorted(float(loss) for loss in layer.losses)
    expected = sorted([0.01 * float((layer.kernel.numpy() ** 2).sum()), 0.01 * float((y.numpy() ** 2).sum()) / 4])
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_dense_with_softmax_gives_the_loss_its_logits():
    y = layers.Dense(3, activation="softmax")(normal(2, 4))
    assert y.logits[0] == "softmax"


def test_dense_configuration():
    layer = layers.Dense(3, activation="swish", kernel_initializer="he_normal", kernel_constraint="non_neg", name="d")
    config = layer.get_config()
    assert config["units"] == 3 and config["activation"] == "silu" and config["name"] == "d"
    assert again(layer).get_config() == config


@pytest.mark.parametrize("units", [0, -1, 2.5, "3", None, True])
def test_dense_units(units):
    with pytest.raises(ValueError, match="Dense: units must be a positive integer"):
        layers.Dense(units)


def test_dense_messages():
    with pytest.raises(ValueError, match="expected min_ndim=2, received shape"):
        layers.Dense(2)(np.ones(3, np.float32))
    layer = layers.Dense(2)
    layer(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="axis -1 of the input to have size 3"):
        layer(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="size of the last axis"):
        layers.Dense(2)(Input((4, None)))


def test_dense_weights_as_argument():
    layer = layers.Dense(2, weights=[np.ones((3, 2)), np.zeros(2)])
    np.testing.assert_allclose(layer(np.ones((1, 3), np.float32)).numpy(), [[3, 3]])


# -------------------- Activation and activation layers --------------------


def test_activation_by_name_and_by_function():
    x = np.array([[-1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(layers.Activation("relu")(x).numpy(), [[0, 2]])
    np.testing.assert_array_equal(layers.Activation(lambda x: x * 2)(x).numpy(), [[-2, 4]])
    assert again(layers.Activation("hard_sigmoid")).activation is ops.hard_sigmoid
    y = layers.Activation("tanh")(masked(normal(2, 3, 4), np.ones((2, 3))))
    assert y.mask is not None


X = np.array([[-2.0, -1.0, 0.5, 3.0]], np.float32)
ACTIVATION_LAYERS = [
    (lambda: layers.ReLU(), [0, 0, 0.5, 3]),
    (lambda: layers.ReLU(max_value=2.0, negative_slope=0.5, threshold=1.0), [-1.5, -1, -0.25, 2]),
    (lambda: layers.LeakyReLU(), [-0.6, -0.3, 0.5, 3]),
    (lambda: layers.LeakyReLU(alpha=0.1), [-0.2, -0.1, 0.5, 3]),
    (lambda: layers.ELU(alpha=2.0), [2 * np.expm1(-2), 2 * np.expm1(-1), 0.5, 3]),
    (lambda: layers.ThresholdedReLU(theta=1.0), [0, 0, 0, 3]),
    (lambda: layers.PReLU(alpha_initializer="ones"), [-2, -1, 0.5, 3]),
    (lambda: layers.PReLU(), [0, 0, 0.5, 3]),
    (lambda: layers.Softmax(), np.exp(X[0]) / np.exp(X[0]).sum()),
]


@pytest.mark.parametrize("make, expected", ACTIVATION_LAYERS)
def test_activation_layers(make, expected):
    layer = make()
    np.testing.assert_allclose(layer(X).numpy(), [expected], rtol=1e-6, atol=1e-7)
    assert layer.compute_output_shape((None, 4)) == (None, 4)
    copy = again(layer)
    assert copy.get_config() == layer.get_config()
    if copy.weights or not layer.weights:
        np.testing.assert_allclose(copy(X).numpy(), layer(X).numpy())
    sequence = masked(np.stack([X, X], 1), np.ones((1, 2)))
    if not isinstance(layer, layers.Softmax):  # takes the mask itself, as in Keras
        assert make()(sequence).mask is not None


def test_prelu_shares_axes():
    layer = layers.PReLU(shared_axes=[1, 2])
    layer(normal(2, 3, 4, 5))
    assert [w.shape for w in layer.weights] == [(1, 1, 5)]
    with pytest.raises(ValueError, match=r"shares axis 3, but its input has shape \(2, 3\)"):
        layers.PReLU(shared_axes=[3])(normal(2, 3))
    with GradientTape() as tape:
        y = layer(-np.ones((2, 3, 4, 5), np.float32))
    np.testing.assert_allclose(tape.gradient(y, layer.alpha).numpy(), np.full((1, 1, 5), -24))


def test_softmax_layer_with_a_mask():
    x = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]], np.float32)
    y = layers.Softmax()(x, mask=np.array([[True, True, False], [False, False, False]])).numpy()
    np.testing.assert_allclose(y, [[1 / (1 + np.e), np.e / (1 + np.e), 0], [0, 0, 0]], rtol=1e-6)
    both = layers.Softmax(axis=[1, 2])(normal(2, 3, 4)).numpy()
    np.testing.assert_allclose(both.sum((1, 2)), [1, 1], rtol=1e-6)
    for shape in ((2, 2), (3, 3), (1, 2, 3)):
        with pytest.raises(ValueError, match="a mask that broadcasts to its input"):
            layers.Softmax()(x, mask=np.ones(shape, bool))


test_activation_layer_messages = mistakes(
    [
        (lambda: layers.ReLU(max_value=-1.0), "max_value must not be negative"),
        (lambda: layers.ReLU(negative_slope=-1.0), "negative_slope must not be negative"),
        (lambda: layers.LeakyReLU(-0.1), "negative_slope must not be negative"),
        (lambda: layers.ThresholdedReLU(None), "theta must not be negative"),
    ],
    ValueError,
)


# -------------------- shape layers --------------------


def test_flatten_keeps_the_batch():
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(layers.Flatten()(x).numpy(), x.reshape(2, 12))
    first = layers.Flatten(data_format="channels_first")(x).numpy()
    np.testing.assert_array_equal(first, x.transpose(0, 2, 1).reshape(2, 12))
    assert layers.Flatten()(np.ones(3, np.float32)).shape == (3, 1)
    assert layers.Flatten().compute_output_shape((None, 3, None)) == (None, None)
    assert layers.Flatten()(np.ones((2, 3), np.int32)).dtype == np.int32


def test_flatten_follows_the_image_data_format(monkeypatch):
    monkeypatch.setattr(settings.values, "image_data_format", "channels_first")
    assert layers.Flatten().data_format == "channels_first"
    with pytest.raises(ValueError, match="data_format must be"):
        layers.Flatten(data_format="last")


def test_reshape_keeps_the_batch():
    x = normal(2, 12)
    np.testing.assert_array_equal(layers.Reshape((3, 4))(x).numpy(), x.reshape(2, 3, 4))
    assert layers.Reshape((-1, 2, 2))(x).shape == (2, 3, 2, 2)
    assert layers.Reshape((3, -1)).compute_output_shape((None, 12)) == (None, 3, 4)
    assert layers.Reshape((3, -1)).compute_output_shape((None, None, 6)) == (None, 3, None)
    assert layers.Reshape((-1,))(Input((3, 4))).shape == (None, 12)
    for target in ((5, 3), (5, -1)):
        with pytest.raises(ValueError, match="12 elements per sample do not fit"):
            layers.Reshape(target)(x)
    for target in ((-1, -1), (-2, 6)):
        with pytest.raises(ValueError, match="at most one size of target_shape may be -1, and none below -1"):
            layers.Reshape(target)
    assert again(layers.Reshape((3, -1))).target_shape == (3, -1)


def test_permute_reorders_axes():
    x = normal(2, 3, 4, 5)
    np.testing.assert_array_equal(layers.Permute((3, 1, 2))(x).numpy(), x.transpose(0, 3, 1, 2))
    assert layers.Permute((2, 1)).compute_output_shape((None, 3, None)) == (None, None, 3)
    with pytest.raises(ValueError, match="1 to n in some order"):
        layers.Permute((0, 1))
    with pytest.raises(ValueError, match="expected ndim=3, received shape"):
        layers.Permute((2, 1))(x)
    assert again(layers.Permute((2, 1))).dims == (2, 1)


def test_repeat_vector():
    x = normal(2, 3)
    np.testing.assert_array_equal(layers.RepeatVector(4)(x).numpy(), np.repeat(x[:, None], 4, 1))
    assert layers.RepeatVector(4).compute_output_shape((None, 3)) == (None, 4, 3)
    with pytest.raises(ValueError, match="expected ndim=2, received shape"):
        layers.RepeatVector(4)(normal(2, 3, 4))
    for n in (0, 2.5, "2"):
        with pytest.raises(ValueError, match="RepeatVector.* a positive integer.* received"):
            layers.RepeatVector(n)
    assert again(layers.RepeatVector(4)).n == 4


def test_masking_marks_steps_of_one_value():
    x = np.array([[[1, 0], [0, 0], [0, 2]], [[0, 0], [3, 3], [0, 0]]], np.float32)
    y = layers.Masking()(x)
    np.testing.assert_array_equal(y.mask.numpy(), [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(y.numpy(), x)
    y = layers.Masking(mask_value=3.0)(x)
    np.testing.assert_array_equal(y.mask.numpy(), [[1, 1, 1], [1, 0, 1]])
    np.testing.assert_array_equal(y.numpy()[1, 1], [0, 0])
    assert again(layers.Masking(mask_value=3.0)).mask_value == 3.0
    with pytest.raises(ValueError, match="expected min_ndim=2, received shape"):
        layers.Masking()(np.ones(2, np.float32))


# -------------------- Lambda --------------------


def halved(x, by=2.0):
    return x / by


def test_lambda_computes_what_its_function_does():
    x = normal(2, 3)
    np.testing.assert_allclose(layers.Lambda(lambda x: x**2)(x).numpy(), x**2)
    np.testing.assert_allclose(layers.Lambda(halved, arguments={"by": 4.0})(x).numpy(), x / 4, rtol=1e-6)
    two = layers.Lambda(lambda inputs: inputs[0] + inputs[1])
    np.testing.assert_allclose(two([x, x]).numpy(), 2 * x)


def test_lambda_shapes():
    assert layers.Lambda(lambda x: ops.concatenate([x, x], -1))(Input((3,))).shape == (None, 6)
    assert layers.Lambda(lambda x: x, output_shape=(3,)).compute_output_shape((None, 3)) == (None, 3)
    doubled = layers.Lambda(lambda x: ops.concatenate([x, x], -1), output_shape=lambda shape: (shape[0], 2 * shape[1]))
    assert doubled.compute_output_shape((None, 3)) == (None, 6)
    pair = layers.Lambda(lambda inputs: inputs[0] + inputs[1], output_shape=(3,))
    assert pair([Input((3,)), Input((3,))]).shape == (None, 3)
    for two in ([(3,), ()], lambda shapes: [shapes[0], shapes[0][:1]]):
        split = layers.Lambda(lambda inputs: [inputs[0], ops.sum(inputs[1], -1)], output_shape=two)
        assert split.compute_output_shape([(None, 3), (None, 3)]) == [(None, 3), (None,)]
        assert [y.shape for y in split([Input((3,)), Input((3,))])] == [(None, 3), (None,)]
    with pytest.raises(TypeError, match="output_shape must be a tuple, a list or a function, received 3"):
        layers.Lambda(lambda x: x, output_shape=3)


def test_a_lambda_that_reaches_for_another_symbolic_tensor():
    x, other = Input((3,)), Input((3,))
    with pytest.raises(ValueError, match=r"not among its inputs.*Lambda\(function\)\(\[x, other\]\)"):
        layers.Lambda(lambda x: x * other)(x)
    late = Model([x, other], layers.Lambda(lambda x: x * other, output_shape=(3,))(x))
    with pytest.raises(ValueError, match="not among its inputs"):
        late.predict([np.ones((2, 3))] * 2)


def test_lambda_mask_and_training():
    seen = {}

    def look(x, mask=None, training=None):
        seen.update(mask=mask, training=training)
        return x

    x = masked(normal(1, 2, 3), [[1, 0]])
    y = layers.Lambda(look, mask=lambda inputs, mask: ops.logical_not(mask))(x, training=True)
    assert seen["training"] is True
    np.testing.assert_array_equal(seen["mask"].numpy(), [[1, 0]])
    np.testing.assert_array_equal(y.mask.numpy(), [[0, 1]])


def test_lambda_configuration_holds_a_name_and_no_code():
    layer = layers.Lambda(halved, arguments={"by": 4.0}, output_shape=(3,))
    config = layer.get_config()
    assert config["function"] == "halved" and config["arguments"] == {"by": 4.0}
    with pytest.raises(ValueError, match="function 'halved' is not known"):
        layers.Lambda.from_config(config)
    copy = layers.Lambda.from_config(config, custom_objects={"halved": halved})
    np.testing.assert_array_equal(copy(np.ones((1, 3), np.float32)).numpy(), np.full((1, 3), 0.25))
    assert copy.compute_output_shape((None, 3)) == (None, 3)
    with pytest.raises(NotImplementedError, match="its function has no name"):
        layers.Lambda(lambda x: x).get_config()
    with pytest.raises(TypeError, match="needs a function"):
        layers.Lambda(3)


def test_a_lambda_layers_mask_is_in_its_configuration():
    def same(inputs, mask):
        return mask

    def half(x):
        return x / 2

    config = layers.Lambda(half, mask=same).get_config()
    with pytest.raises(ValueError, match="mask 'same' is not known"):
        layers.Lambda.from_config(config, {"half": half})
    y = layers.Lambda.from_config(config, {"half": half, "same": same})(masked(normal(1, 2, 3), [[1, 0]]))
    np.testing.assert_array_equal(y.mask.numpy(), [[1, 0]])
    with pytest.raises(NotImplementedError, match="its mask has no name"):
        layers.Lambda(half, mask=lambda inputs, mask: mask).get_config()


# -------------------- in a model --------------------


def test_layers_in_a_model_train_on_recorded_steps():
    model = Sequential(
        [
            Input((4, 3)),
            layers.Dense(6, activation="relu"),
            layers.PReLU(shared_axes=[1]),
            layers.Permute((2, 1)),
            layers.Flatten(),
            layers.Dense(8, activation="gelu"),
            layers.Reshape((2, -1)),
            layers.Lambda(lambda x: ops.mean(x, axis=1)),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = normal(32, 4, 3), RNG.integers(0, 3, 32)
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_every_layer_takes_an_activity_regularizer():
    x = np.ones((4, 3), "float32")
    layer = layers.Flatten(activity_regularizer=regularizers.L1L2(l2=0.5))
    layer(x)
    assert float(layer.losses[0]) == 0.5 * 12 / 4
    copy = again(layer)
    assert copy.activity_regularizer.get_config() == layer.activity_regularizer.get_config()


def test_a_layer_without_autocast_keeps_the_dtype_of_floats():
    x = np.ones((2, 3), "float64")
    assert layers.Flatten()(x).dtype == np.float32
    layer = layers.Flatten(autocast=False)
    assert layer(x).dtype == np.float64
    assert again(layer).autocast is False


# -------------------- what a layer expects of its inputs --------------------


@pytest.mark.parametrize(
    ("spec", "good", "bad", "problem"),
    [
        ({"ndim": 2}, (2, 3), (2, 3, 1), "ndim=2, received shape"),
        ({"max_ndim": 2}, (2,), (2, 3, 1), "max_ndim=2"),
        ({"min_ndim": 2}, (2, 3), (2,), "expected min_ndim=2, received shape"),
        ({"axes": {-1: 3}}, (2, 3), (2, 4), "axis -1 of the input to have size 3"),
        ({"shape": (None, 3)}, (2, 3), (2, 3, 1), r"shape \(None, 3\)"),
        ({"shape": (None, 3), "allow_last_axis_squeeze": True}, (2, 3, 1), (2, 4, 1), r"shape \(None, 3\)"),
        ({"dtype": "int32"}, None, (2, 3), "dtype int32, received .* dtype float32"),
    ],
)
def test_input_specs_say_what_fits(spec, good, bad, problem):
    class Same(layers.Layer):
        def call(self, inputs):
            return inputs

    layer = Same()
    layer.input_spec = layers.InputSpec(**spec)
    layer(np.zeros(good or (1,), "float32" if good else "int32"))
    with pytest.raises(ValueError, match=problem):
        layer(np.zeros(bad, "float32"))


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": x}])
def test_a_layer_of_ones_own_may_take_its_input_in_any_structure(wrap):
    class First(layers.Layer):
        input_spec = layers.InputSpec(ndim=2)

        def call(self, inputs):
            return tree.flatten(inputs)[0]

    class Mixed(layers.Dense):
        def build(self, input_shape):
            super().build((None, 3))

        def call(self, inputs):
            return super().call(tree.flatten(inputs)[0])

    x = np.ones((2, 3), "float32")
    assert First()(wrap(x)).shape == (2, 3)
    assert Mixed(4)(wrap(x)).shape == (2, 4)
    with pytest.raises(ValueError, match="expected ndim=2"):
        First()(wrap(x[0]))


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": x}])
@pytest.mark.parametrize("make", [lambda: layers.Dropout(0.5), lambda: layers.ActivityRegularization(0.1)])
def test_layers_that_return_their_input_take_structures_as_in_keras(make, wrap):
    x = np.ones((2, 3), "float32")
    outputs = make()(wrap(x))
    assert tree.map_structure(lambda each: each.shape, outputs) == wrap((2, 3))
    made = make()(wrap(layers.Input((3,))))
    assert tree.map_structure(lambda each: each.shape, made) == wrap((None, 3))


def test_input_specs_by_name_and_optional():
    class Second(layers.Layer):
        def call(self, inputs):
            return inputs["b"]

    layer = Second()
    layer.input_spec = [layers.InputSpec(ndim=2, name="b"), layers.InputSpec(ndim=1, name="a", optional=True)]
    layer({"b": np.zeros((2, 3), "float32"), "a": None})
    with pytest.raises(ValueError, match="input b of layer .*expected ndim=2"):
        layer({"b": np.zeros(3, "float32"), "a": None})


def test_masking_within_time_distributed():
    inputs = layers.Input((3, 4))
    wrapped = layers.TimeDistributed(layers.Masking())
    model = Model(inputs, wrapped.compute_mask(inputs))
    x = np.ones((2, 3, 4))
    x[0, 1:] = 0
    np.testing.assert_array_equal(model.predict(x), [[True, False, False], [True, True, True]])


# -------------------- what all layers have --------------------


def test_sizes_from_numpy():
    size = np.prod((2, 3))
    assert Input((size,)).shape == Input(batch_shape=(None, size)).shape == (None, 6)
    model = Sequential(
        [layers.Dense(size, input_shape=(size,)), layers.Dropout(np.float32(0.5)), layers.Reshape((size, 1))]
    )
    assert model.output_shape == (None, 6, 1)
    assert Sequential.from_config(json.loads(json.dumps(model.get_config()))).output_shape == (None, 6, 1)


def test_input_takes_one_batch_and_dense_tensors():
    assert Input((3,), sparse=False, ragged=False).shape == (None, 3)
    with pytest.raises(ValueError, match="batch_size or batch_shape"):
        Input(batch_size=2, batch_shape=(2, 3))
    for option in ("sparse", "ragged"):
        with pytest.raises(ValueError, match="tensors are dense"):
            Input((3,), **{option: True})


def test_trainable_is_a_boolean():
    for value in (None, "yes"):
        with pytest.raises(ValueError, match="trainable must be True or False"):
            layers.Dense(2, trainable=value)
    with pytest.raises(TypeError, match="Variable: trainable must be True or False, received ndarray"):
        Variable(1.0, trainable=np.ones(2))


def test_a_layer_says_what_symbols_it_gives():
    class Named(layers.Layer):
        def call(self, x):
            raise RuntimeError("not to be run")

        def compute_output_shape(self, input_shape):
            return {"whole": input_shape, "parts": (input_shape, (input_shape[0], 1))}

    found = Named().compute_output_spec(Input((3,)))
    assert found["whole"].shape == (None, 3) and [each.shape for each in found["parts"]] == [(None, 3), (None, 1)]
    assert layers.Activation("relu", dtype="float64").compute_dtype == "float64"


def test_an_own_output_spec_is_used():
    class Counted(layers.Layer):
        def call(self, x):
            return ops.cast(ops.convert_to_tensor(np.bincount(x.numpy(), minlength=4)), "int32")

        def compute_output_spec(self, x):
            return KerasTensor((4,), "int32")

    inputs = Input((), dtype="int32")
    outputs = Counted()(inputs)
    assert outputs.shape == (4,) and outputs.dtype == np.int32
    np.testing.assert_array_equal(Model(inputs, outputs)(np.array([0, 2, 2], np.int32)).numpy(), [1, 0, 2, 0])


def test_an_empty_batch_has_no_activity():
    layer = layers.Dense(2, activity_regularizer="l2")
    layer(np.ones((0, 3)))
    assert [float(loss) for loss in layer.losses] == [0.0]


def test_what_has_an_array_is_a_tensor_to_a_layer():
    class Table:
        def __array__(self, dtype=None, copy=None):
            return np.array([[1.0, 2.0], [3.0, 4.0]])

    inputs = Input((2,))
    layer = layers.Dense(3)
    model = Model(inputs, layer(inputs))
    assert model(Table()).dtype == np.float32
    np.testing.assert_array_equal(model(Table()).numpy(), layer(np.asarray(Table())).numpy())


def test_arguments_of_a_lambda_are_a_dict():
    with pytest.raises(TypeError, match=r"arguments must be a dict of the function's keywords, received \[1\]"):
        layers.Lambda(abs, arguments=[1])
