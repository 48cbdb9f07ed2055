"""Building: a `build` that is called by hand is that of the first call."""

import h5py
import numpy as np
import pytest
from made_models import compiled
from mistakes import mistakes

from nbkeras import Input, KerasTensor, layers, ops
from nbkeras.building.operation import Operation
from nbkeras.models import Model, Sequential, load_model


class Scale(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), "ones")

    def call(self, x):
        return x * self.scale


class Affine(Scale):
    def build(self, input_shape):
        super().build(input_shape)
        self.was_built = self.built
        self.shift = self.add_weight((input_shape[-1],), "zeros")

    def call(self, x):
        return super().call(x) + self.shift


class BuildsBefore:
    def build(self, input_shape):
        super().build(input_shape)
        self.more = self.add_weight((2,), "ones")


class Mixed(BuildsBefore, Scale):
    pass


class Outer(layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = Affine()

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, x):
        return self.inner(x)


class CallsItself(Outer):
    def build(self, input_shape):
        layers.Layer.build(self, input_shape)
        self(np.zeros((2, 3)))


class Plain(Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2, activity_regularizer="l2")

    def call(self, x):
        return self.dense(x)


class Builds(Plain):
    def build(self, input_shape):
        self.dense.build(input_shape)


class BuildsBoth(Plain):
    def build(self, input_shape):
        self.scale = self.add_weight((), "ones")
        super().build(input_shape)


@pytest.mark.parametrize(
    "make, count",
    [
        (Scale, 1),
        (Affine, 2),
        (Mixed, 2),
        (Outer, 2),
        (CallsItself, 2),
        (Plain, 2),
        (Builds, 2),
        (BuildsBoth, 3),
        (lambda: layers.Dense(2), 2),
        (lambda: layers.Dropout(0.5), 0),
        (lambda: layers.BatchNormalization(), 4),
        (lambda: layers.SpectralNormalization(layers.Dense(2)), 3),
        (lambda: Sequential([Affine()]), 2),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_layer_that_is_built_by_hand_is_built_once(make, count, by_name):
    layer = make()
    assert not layer.built and layer.get_build_config() is None
    layer.build(input_shape=(None, 3)) if by_name else layer.build((None, 3))
    for _ in range(2):
        assert layer.built and layer.get_build_config() == {"input_shape": (None, 3)} and len(layer.weights) == count
        layer(np.ones((1, 3)))


def test_a_built_layer_is_not_built_again():
    layer = layers.Dense(1)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="is built already"):
        layer.build((None, 4))
    assert [weight.shape for weight in layer.weights] == [(3, 1), (1,)]
    model = Sequential([layer])
    model.build((None, 3))
    model.build((None, 3))
    assert len(model.weights) == 2


def test_a_build_of_a_base_class_is_a_part_of_the_build():
    layer = Affine()
    layer.build((None, 3))
    assert not layer.was_built  # as in Keras 3


def test_a_build_for_several_arguments():
    class Both(layers.Layer):
        def build(self, a_shape, b_shape):
            self.scale = self.add_weight((a_shape[-1] + b_shape[-1],), "ones")

        def call(self, a, b):
            return (a + b) * self.scale[0]

    config = {"shapes_dict": {"a_shape": (None, 3), "b_shape": (None, 1)}}
    by_hand, by_name, called, again = Both(), Both(), Both(), Both()
    by_hand.build((None, 3), (None, 1))
    by_name.build(a_shape=(None, 3), b_shape=(None, 1))
    called(layers.Input((3,)), layers.Input((1,)))
    again.build_from_config(by_hand.get_build_config())
    for layer in (by_hand, by_name, called, again):
        assert layer.built and layer.get_build_config() == config
        layer(np.ones((1, 3)), np.ones((1, 1)))
        assert [weight.shape for weight in layer.weights] == [(4,)]


def test_weights_that_are_given_are_set_by_a_build_by_hand():
    layer = layers.Dense(1, weights=[np.full((2, 1), 7), [5]])
    layer.build((None, 2))
    assert layer.kernel.numpy().tolist() == [[7], [7]] and layer.bias.numpy().tolist() == [5]


def test_a_build_that_fails_leaves_the_layer_unbuilt():
    class Fails(layers.Layer):
        def build(self, shape):
            raise ValueError("there are no weights")

    layer = Fails()
    with pytest.raises(ValueError, match="there are no weights"):
        layer.build((None, 3))
    assert not layer.built and layer.get_build_config() is None


def test_a_build_that_is_set_on_the_object_runs_once():
    layer, shapes = Scale(), []
    layer.build = shapes.append
    layer.scale = 2
    layer(np.ones((1, 3)))
    layer(np.ones((1, 3)))
    assert shapes == [(1, 3)] and layer.built


def test_a_model_without_a_shape_cannot_be_built():
    for model, message in ((Plain(), "give one, such as"), (Sequential([Scale()]), "give one, such as")):
        with pytest.raises(ValueError, match=message):
            model.build()
        assert not model.built


def test_building_a_model_leaves_no_losses():
    model = Plain()
    model.build((None, 3))
    assert model.losses == []  # they were numbers of empty memory


class CallsByPosition(layers.Layer):
    def __call__(self, x, training=None, mask=None):
        return super().__call__(x, training, mask)

    def call(self, x, training=None, mask=None):
        self.received = training, mask
        return x * 1


def test_training_and_the_mask_may_be_given_by_position():
    layer = CallsByPosition()
    layer(np.ones((1, 3)))
    assert layer.received == (False, None)
    layer(np.ones((1, 3)), True)
    assert layer.received == (True, None)
    masked = layers.Embedding(3, 2, mask_zero=True)(np.array([[1, 0]]))
    layer(masked)
    assert layer.received[1].numpy().tolist() == [[True, False]]
    inputs = Input((3,))
    model = compiled(Model(inputs, layers.Dense(1)(layer(inputs))))
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert layer.received == (True, None)
    again = Model.from_config(model.get_config(), {"CallsByPosition": CallsByPosition})
    assert again(np.ones((2, 3))).shape == (2, 1)
    with pytest.raises(TypeError, match="multiple values for argument 'training'"):
        layers.Layer.__call__(layer, np.ones((1, 3)), True, training=False)


class Block(layers.Layer):
    """Parts that get their attribute a second time, in `build`, as in the package keras-tcn."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.norms, self.convs, self.other = None, [], [], layers.Dense(5, use_bias=False)

    def build(self, input_shape):
        self.convs = []
        for units in (1, 2):
            self.convs.append(layers.Dense(units, use_bias=False))
            self.norms.append(layers.BatchNormalization(center=False))
        self.first = layers.Dense(7, use_bias=False)
        self.other = layers.Dense(6, use_bias=False)

    def call(self, x):
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(y))
        return self.other(y) + ops.sum(self.first(x), axis=-1, keepdims=True)


def test_weights_are_in_the_order_in_which_parts_were_last_assigned(tmp_path):
    """The order is tf_keras's, whose .h5 files have the weights in this order."""
    model = Sequential([Input((3,)), Block(name="block")])
    shapes = [weight.shape for weight in model.trainable_weights]
    assert shapes == [(1,), (2,), (3, 1), (1, 2), (3, 7), (2, 6)]
    weights = [np.full(shape, number, "float32") for number, shape in enumerate([*shapes, (1,), (1,), (2,), (2,)], 1)]
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        group = file["model_weights/block"]
        names = [f"block/norm_{number}/weight:0" for number in range(len(weights))]  # tf_keras's names, by its scopes
        group.attrs["weight_names"] = np.array([name.encode() for name in names])
        for name, values in zip(names, weights, strict=True):
            group[name] = values
    again = load_model(tmp_path / "m.h5", custom_objects={"Block": Block})
    block = again.layers[-1]
    assert [float(norm.gamma.numpy()[0]) for norm in block.norms] == [1, 2]
    assert [float(conv.kernel.numpy()[0, 0]) for conv in (*block.convs, block.first, block.other)] == [3, 4, 5, 6]
    assert [float(norm.moving_variance.numpy()[0]) for norm in block.norms] == [8, 10]


class OwnSpec(layers.Layer):
    def compute_output_spec(self, x):
        return x

    def call(self, x):
        return 2 * x


def test_an_output_spec_that_is_the_input_becomes_a_tensor_of_its_own():
    x = Input((3,))
    y = OwnSpec()(x)
    assert y is not x
    np.testing.assert_array_equal(Model(x, y)(np.ones((1, 3))).numpy(), [[2, 2, 2]])


class Returns(layers.Layer):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def call(self, x):
        return self.value


class MaskOfInputs(layers.Layer):
    def compute_mask(self, inputs):
        return None

    def call(self, x):
        return x


def test_a_mask_needs_a_compute_mask_that_takes_it():
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(MaskOfInputs()(x).numpy(), x)
    with pytest.raises(TypeError, match="compute_mask.* takes 2 positional arguments but 3 were given"):
        MaskOfInputs()(layers.Embedding(2, 3, mask_zero=True)(x))


class FaultyMask(layers.Layer):
    def compute_mask(self, inputs, mask=None):
        return len(3)

    def call(self, x):
        return x


class FaultyMaskOfArguments(layers.Layer):
    def compute_mask(self, *arguments):
        return len(3)

    def call(self, x):
        return x


@pytest.mark.parametrize("cls", [FaultyMask, FaultyMaskOfArguments])
def test_errors_in_compute_mask_are_raised(cls):
    with pytest.raises(TypeError, match=r"'int' has no len\(\)"):
        cls()(np.ones((1, 3), np.float32))


class ShapeOfArguments(layers.Layer):
    def compute_output_shape(self, *shapes):
        raise AssertionError("without names it is not known which shapes to pass")

    def call(self, x):
        return x


def test_a_compute_output_shape_of_any_arguments_is_not_called():
    assert ShapeOfArguments()(Input((3,))).shape == (None, 3)


class Empty(Model):
    pass


test_mistakes_are_explained = mistakes(
    [
        (lambda: layers.Layer()(np.ones(2)), NotImplementedError, "Layer must define call"),
        (
            lambda: Empty()(np.ones(2)),
            NotImplementedError,
            r"Empty must define call\(self, inputs\), or be given inputs",
        ),
        (lambda: Empty().inputs, AttributeError, "has no defined inputs: it was not made from symbolic tensors"),
        (lambda: layers.Dense(2).input, AttributeError, "it was never called on a symbolic tensor"),
        (
            lambda: Returns(np.ones(2))(np.ones(2)),
            TypeError,
            "must return tensors, received ndarray: .* not with NumPy",
        ),
        (lambda: Input(tensor=np.ones(2)), ValueError, "Input's tensor must be symbolic, received ndarray"),
        (
            lambda: layers.Dense(2, input_shape=(1.5,)),
            ValueError,
            r"input_shape must be a tuple of integers .*\(1.5,\)",
        ),
        (lambda: layers.Layer().add_weight("kernel", (2,)), TypeError, r"write add_weight\(name='kernel', shape=...\)"),
        (lambda: layers.Layer().add_weight((None, 2)), ValueError, r"needs a full shape, received \(None, 2\)"),
        (lambda: built(layers.Dense(2)).load_own_variables({"0": 1}), ValueError, "has 2 own weights, the file has 1"),
        (lambda: Operation(3), TypeError, "needs an op of nbkeras.ops, or its name, received 3"),
        (lambda: Model(Input((3,)), KerasTensor((None, 3))), ValueError, "graph disconnected: the outputs depend on"),
        (lambda: len(Input((3,))), TypeError, "has no length"),
        (lambda: list(Input((3,))), TypeError, "cannot be iterated over"),
        (lambda: two_of_one_name(), ValueError, r"must be unique, but \['d'\] are used more than once"),
        (lambda: Sequential([layers.Dense(2)]).get_layer(index=5), ValueError, "no layer 5: the model has 1 layers"),
        (lambda: Sequential([layers.Dense(2), Input((3,))]), ValueError, "an Input must be the first thing"),
        (lambda: Sequential().pop(), TypeError, "there are no layers in the model"),
        (lambda: Sequential().build((None, 3)), ValueError, "has no layers: add some before building it"),
    ]
)


def built(layer):
    layer.build((None, 3))
    return layer


def two_of_one_name():
    x = Input((3,))
    return Model(x, layers.Dense(3, name="d")(layers.Dense(3, name="d")(x)))


def test_masks_of_the_only_call():
    embedding = layers.Embedding(5, 3, mask_zero=True)
    recurrent = layers.LSTM(2, return_sequences=True)
    recurrent(embedding(Input((4,))))
    assert embedding.input_mask is None
    assert recurrent.input_mask is embedding.output_mask is recurrent.output_mask
    assert recurrent.input_mask.shape == (None, 4)


def test_a_functional_model_passes_a_mask_to_its_layers():
    x = Input((None, 1))
    model = Model(x, layers.LSTM(1, kernel_initializer="ones")(x))
    values = np.array([[[1.0], [5.0]]], np.float32)
    masked = model(values, mask=np.array([[True, False]])).numpy()
    np.testing.assert_array_equal(masked, model(values[:, :1]).numpy())


def test_a_model_that_is_built_stays_as_it_is():
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    before = model.weights
    model.build((None, 3))
    assert model.weights == before
