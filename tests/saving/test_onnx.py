"""Whole models as ONNX files, computed by ONNX Runtime: open sizes, masks, states, several inputs, errors.

Each layer by itself: tests/layers/test_contract.py.
"""

import sys
from collections import Counter

import numpy as np
import pytest
from onnx_runs import assert_same, onnx, run

from nbkeras import GradientTape, Input, Model, Sequential, layers, ops, random
from nbkeras.export import onnx_graph
from nbkeras.models import clone_model
from nbkeras.tensor import formula

pytestmark = pytest.mark.cpu("ONNX Runtime is compared with the CPU")
RNG = np.random.default_rng(1)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def words(*shape):
    x = RNG.integers(1, 9, shape).astype("int32")
    x[0, 2:] = x[1, :2] = x[-1, 1] = 0
    return x


def test_names_and_open_sizes(tmp_path):
    inputs = Input((None, 4), name="signal")
    hidden = layers.LSTM(5, return_sequences=True)(inputs)
    model = Model(inputs, {"step": layers.TimeDistributed(layers.Dense(3))(hidden), "sum": layers.GRU(2)(hidden)})
    found = run(model, tmp_path, normal(7, 9, 4))
    assert {name: value.shape for name, value in found.items()} == {"step": (7, 9, 3), "sum": (7, 2)}
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    shape = graph.input[0].type.tensor_type.shape.dim
    assert graph.input[0].name == "signal"
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", "signal_axis_1", 4]


@pytest.mark.grid
def test_images_and_volumes_of_any_size(tmp_path):
    volumes = [
        layers.Conv3D(4, (2, 3, 1), padding="same", strides=(1, 2, 1), activation="relu"),
        layers.Conv3DTranspose(3, (1, 2, 3), strides=(2, 1, 3), padding="same"),
        layers.MaxPooling3D(2, padding="same"),
        layers.AveragePooling3D((1, 2, 2), strides=1, padding="same"),
    ]
    images = [
        layers.Conv2DTranspose(3, 3, strides=2),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
        layers.MaxPooling2D(),
    ]
    for several, rank in ((volumes, 3), (images, 2)):
        model = Sequential([Input((*[None] * rank, 2)), *several])
        for sizes in ((2, 5, 6, 4), (1, 4, 3, 7)):
            assert_same(model, tmp_path, normal(*sizes[: rank + 1], 2))


@pytest.mark.parametrize("size", [None, 7, 8])
def test_dilated_windows_with_padding(size, tmp_path):
    """ONNX Runtime refuses auto_pad with dilations. Layers do not take strides with dilation, ops do."""
    inputs, kernel = Input((size, size, 2)), normal(3, 4, 2, 3)
    same = {"padding": "same", "data_format": "channels_last"}
    outputs = [
        layers.Conv2D(3, (3, 4), dilation_rate=(2, 3), **same)(inputs),
        layers.DepthwiseConv2D(2, depth_multiplier=2, dilation_rate=3, **same)(inputs),
        ops.conv(inputs, kernel, strides=3, dilation_rate=2, **same),
        ops.conv(inputs, kernel, strides=(2, 1), dilation_rate=(1, 3), **same),
    ]
    for length in (size,) if size else (7, 8, 9):
        assert_same(Model(inputs, outputs), tmp_path, normal(2, length, length, 2))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True, "go_backwards": True}, {"zero_output_for_mask": True}]
)
def test_masked_steps_anywhere(cell, options, tmp_path):
    model = Sequential([Input((5,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True)])
    options = {"return_sequences": True, **options} if "zero_output_for_mask" in options else options
    model.add(getattr(layers, cell)(3, **options))
    assert_same(model, tmp_path, words(4, 5))


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_mask_through_wrappers_and_pooling(reset_after, tmp_path):
    inputs = Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.GRU(3, reset_after=reset_after, return_sequences=True))(x)
    model = Model(inputs, layers.GlobalAveragePooling1D()(x))
    assert_same(model, tmp_path, words(6, 5))


@pytest.mark.parametrize(
    "activations", [("relu", "hard_sigmoid"), ("linear", "legacy_hard_sigmoid"), ("sigmoid", "tanh")]
)
def test_activations_of_recurrences(activations, tmp_path):
    names = dict(zip(("activation", "recurrent_activation"), activations, strict=True))
    model = Sequential([Input((4, 3)), layers.LSTM(3, return_sequences=True, **names), layers.GRU(2, **names)])
    assert_same(model, tmp_path, normal(3, 4, 3))


def test_states_as_inputs_and_outputs(tmp_path):
    inputs, h, c = Input((None, 3)), Input((4,), name="h"), Input((4,), name="c")
    model = Model([inputs, h, c], layers.LSTM(4, return_state=True)(inputs, initial_state=[h, c]))
    assert_same(model, tmp_path, normal(2, 6, 3), normal(2, 4), normal(2, 4))


def test_a_convolutional_network_with_batch_normalization(tmp_path):
    model = Sequential([Input((12, 10, 2))])
    model.add(layers.Conv2D(4, 3, padding="same", strides=2, activation="relu"))
    for layer in (layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Flatten(), layers.Dropout(0.5)):
        model.add(layer)
    model.add(layers.Dense(3, activation="softmax"))
    x = normal(5, 12, 10, 2)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((5, 3)), epochs=2, verbose=0)
    assert_same(model, tmp_path, x)


def randomized(model):
    """The model with weights, moving means and variances that are all different."""
    weights = model.get_weights()
    model.set_weights([RNG.uniform(0.5, 1.5, w.shape) * RNG.choice([-1, 1]) ** (w.ndim > 1) for w in weights])
    return model


def nodes(path):
    return Counter(node.op_type for node in onnx.load(str(path / "model.onnx")).graph.node)


def test_batch_normalization_becomes_part_of_the_weights_before_it(tmp_path):
    model = Sequential([Input((8, 7, 2))])
    convolutions = layers.Conv2D(4, 3, strides=2), layers.DepthwiseConv2D(2, use_bias=False)
    for layer in (*convolutions, layers.Dense(5), layers.Dense(3, use_bias=False)):
        for each in (layer, layers.BatchNormalization(), layers.Activation("relu")):
            model.add(each)
    randomized(model)
    assert_same(model, tmp_path, normal(4, 8, 7, 2))
    kinds = nodes(tmp_path)
    assert kinds["Conv"] == kinds["MatMul"] == kinds["Add"] == 2, "the sums are those of the products with their biases"
    assert not {"Sub", "Mul", "Div", "Sqrt", "Reciprocal"} & set(kinds)
    assert len(onnx.load(str(tmp_path / "model.onnx")).graph.initializer) == 8, "four kernels and biases"


def test_a_result_with_two_uses_is_not_folded(tmp_path):
    inputs = Input((6, 6, 2))
    x, y = layers.Conv2D(3, 3)(inputs), layers.Dense(4)(inputs)
    both = [layers.BatchNormalization()(each) for each in (x, y)]
    behind_an_activation = layers.BatchNormalization()(layers.Conv2D(3, 3, activation="relu")(x))
    model = randomized(Model(inputs, [x, y, *both, behind_an_activation]))
    assert_same(model, tmp_path, normal(2, 6, 6, 2))
    assert nodes(tmp_path)["Sub"] == 3


def test_images_are_transposed_only_at_the_ends(tmp_path):
    inputs = Input((None, None, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    y = layers.BatchNormalization()(layers.Conv2D(4, 1)(layers.BatchNormalization()(x)))
    x = layers.Activation("tanh")(layers.add([x, y]))
    x = layers.Concatenate()([x, layers.MaxPooling2D(3, 1, padding="same")(x), y * 2.0])
    model = randomized(Model(inputs, [layers.Conv2D(3, 1)(x), layers.Conv2D(3, 1)(layers.Concatenate(axis=1)([x, x]))]))
    assert_same(model, tmp_path, normal(2, 6, 5, 2))
    assert nodes(tmp_path)["Transpose"] == 3, "of the input and of the two outputs"


def test_shared_layers_nested_models_and_ops(tmp_path):
    inner = Sequential([Input((4,)), layers.Dense(3, activation="gelu"), layers.LayerNormalization()])
    a, b = Input((4,), name="a"), Input((4,), name="b")
    joined = ops.concatenate([inner(a), inner(b) * 2.0 - 1.0], axis=-1)
    model = Model([a, b], [joined[:, ::-2], ops.mean(joined, axis=-1, keepdims=True)])
    assert_same(model, tmp_path, *(normal(3, 4) for _ in range(2)))


ONE = """abs arccos arccosh arcsin arcsinh arctan arctanh ceil celu cos cosh deg2rad elu erf erfc exp exp2 expm1 floor gelu
    hard_sigmoid hard_silu hard_tanh leaky_relu log log10 log1p log2 log_sigmoid log_softmax logical_not mish negative rad2deg
    reciprocal relu relu6 round rsqrt selu sigmoid sign silu sin sinc sinh softmax softplus softsign sqrt square tan tanh trunc
    isfinite isinf isnan sum mean max min prod var std logsumexp argmax argmin any all cumsum sort argsort flip"""
TWO = """add subtract multiply divide power maximum minimum mod floor_divide fmod hypot logaddexp equal not_equal greater
    greater_equal less less_equal logical_and logical_or logical_xor"""


def assert_same_outputs(model, tmp_path, *arrays):
    """As assert_same, for a dict of outputs of any dtypes, and more exactly."""
    found = run(model, tmp_path, *arrays)
    for name, expected in model.predict(list(arrays) if len(arrays) > 1 else arrays[0], verbose=0).items():
        assert found[name].dtype == expected.dtype, name
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("names", [ONE, TWO], ids=["one operand", "two operands"])
def test_ops(names, tmp_path):
    """All at once, as outputs of one model: making a session costs more than computing."""
    count = 1 if names is ONE else 2
    inputs = [Input((3, 4), name=f"x{i}") for i in range(count)]
    model = Model(inputs, {name: getattr(ops, name)(*inputs) for name in names.split()})
    x = RNG.uniform(0.1, 0.9, (2, 3, 4)).astype("float32")
    if names is ONE:  # where arccosh is defined; elsewhere both give NaN
        x[0, 0] += 1
    arrays = [x, RNG.uniform(-0.9, 0.9, (2, 3, 4)).astype("float32")][:count]
    assert_same_outputs(model, tmp_path, *arrays)


def test_relu_at_its_threshold(tmp_path):
    model = Sequential([Input((4,)), layers.ReLU(max_value=3.0, negative_slope=0.5, threshold=2.0)])
    assert_same(model, tmp_path, np.array([[1, 2, 2.5, 4]], "float32"))


def test_a_subclass_and_float64(tmp_path):
    class Net(Model):
        def __init__(self):
            super().__init__(dtype="float64")
            self.dense = layers.Dense(3, activation="tanh", dtype="float64")

        def call(self, inputs):
            return self.dense(inputs) + 1.0

    model, x = Net(), RNG.normal(size=(4, 5))
    with pytest.raises(ValueError, match="has no input shapes: call it once"):
        model.export(str(tmp_path / "model.onnx"))
    expected = model(x).numpy()
    found = run(model, tmp_path, x)
    np.testing.assert_allclose(next(iter(found.values())), expected, rtol=1e-12)


def test_sizes_can_be_fixed(tmp_path):
    model = Sequential([Input((None, 3)), layers.Lambda(lambda x: ops.stack(ops.unstack(x, axis=1), axis=1))])
    with pytest.raises(ValueError, match="different ops for inputs of other sizes .* in input_signature"):
        model.export(str(tmp_path / "model.onnx"))
    assert_same(model, tmp_path, normal(2, 4, 3), input_signature=[(None, 4, 3)])


def test_what_cannot_be_exported_says_why(tmp_path):
    path = str(tmp_path / "model.onnx")
    inputs = Input(batch_shape=(2, 3, 4))
    stateful = Model(inputs, layers.LSTM(2, stateful=True)(inputs))
    with pytest.raises(ValueError, match="is stateful: an ONNX file has no memory"):
        stateful.export(path)
    noise = Sequential([Input((3,)), layers.Lambda(lambda x: random.normal((1, 3)) + x)])
    with pytest.raises(ValueError, match=r"exported: op random\.\w+ of layer .*/lambda.*: ONNX has no counterpart"):
        noise.export(path)
    with pytest.raises(ValueError, match="format must be 'onnx' or 'library', received 'tf_saved_model'"):
        noise.export(path, format="tf_saved_model")
    with pytest.raises(ValueError, match="has 1 inputs, received 2 shapes"):
        clone_model(Sequential([Input((3,)), layers.Dense(2)])).export(path, input_signature=[(None, 3), (None, 3)])
    assert not list(tmp_path.iterdir())


def test_it_says_where_the_file_is_whatever_its_name_ends_in(tmp_path, capsys):
    model = Sequential([Input((3,)), layers.Dense(2)])
    model.export(tmp_path / "net")
    assert capsys.readouterr().out == f"Saved the ONNX model at {str(tmp_path / 'net')!r}.\n"
    model.export(tmp_path / "net.onnx", verbose=False)
    assert capsys.readouterr().out == ""
    assert [onnx.load(tmp_path / name).graph.name for name in ("net", "net.onnx")] == [model.name] * 2


def test_without_the_package_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "onnx"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[onnx\]'"):
        Sequential([Input((3,)), layers.Dense(2)]).export(str(tmp_path / "model.onnx"))


def test_sizes_that_windows_need_and_halve(tmp_path):
    """Open axes longer than the windows over them, halved and doubled again: at other sizes than the traced ones."""
    long = Sequential([Input((None, 3)), layers.Conv1D(4, 9), layers.MaxPooling1D(4), layers.GlobalMaxPooling1D()])
    for steps in (40, 101):
        assert_same(long, tmp_path, normal(2, steps, 3))
    inputs = Input((None, None, 3))
    low = layers.Conv2D(4, 3, padding="same")(layers.MaxPooling2D(2)(inputs))
    network = Model(inputs, layers.Concatenate()([inputs, layers.UpSampling2D(2)(low)]))
    for sizes in ((1, 8, 6), (3, 16, 20)):
        assert_same(network, tmp_path, normal(*sizes, 3))


@pytest.mark.parametrize(
    "function, message",
    [
        # it enlarges smaller images
        (lambda x: layers.CenterCrop(8, 8)(x), "computes different ops for inputs of other sizes"),
        (
            lambda x: ops.clip(x, -1.0, float(x.shape[1])),
            "op elementwise.clip of .*: an argument depends on the sizes of",
        ),
        (
            lambda x: ops.leaky_relu(x, 1.0 / x.shape[1]),
            "op activations.piecewise of .*: an argument depends on the size",
        ),
        (
            lambda x: ops.sum(x, axis=1) / x.shape[1],
            "op elementwise.divide of .*: a tensor was computed from the inputs",
        ),
        (
            lambda x: ops.one_hot(ops.cast(x, "int32"), x.shape[1]),
            "op indexing.one_hot of layer .*: unsupported operand",
        ),
    ],
)
def test_what_python_makes_of_an_open_size_is_not_written_as_it_was(function, message, tmp_path):
    model = Sequential([Input((None, None, 3)), layers.Lambda(function)])
    with pytest.raises(ValueError, match=message):
        model.export(str(tmp_path / "model.onnx"))
    assert_same(model, tmp_path, normal(2, 9, 12, 3), input_signature=[(None, 9, 12, 3)])


def test_values_read_with_numpy_are_no_constants(tmp_path):
    class Net(Model):
        def call(self, inputs):
            return ops.add(np.asarray(inputs) * 2, 0 * inputs)

    signature = [layers.InputSpec(dtype="int32", shape=(2, 3))]
    with pytest.raises(ValueError, match="with Python or NumPy instead of nbkeras.ops"):
        Net().export(str(tmp_path / "model.onnx"), input_signature=signature)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_layers_in_float64(cell, tmp_path):
    """ONNX Runtime has no nodes for these."""
    inner = getattr(layers, cell)(3, dtype="float64")
    model = Sequential([Input((None, 2), dtype="float64"), layers.Bidirectional(inner, dtype="float64")])
    for sizes in ((1, 4, 2), (3, 7, 2)):
        assert_same(model, tmp_path, RNG.normal(size=sizes))


class Slope(layers.Layer):
    """The gradient of the sum of a network's outputs by its inputs."""

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def call(self, x):
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = self.network(x)
        return tape.gradient(y, x)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_gradient_that_a_layer_computes(activation, tmp_path):
    inputs, first = Input((3,)), layers.Dense(8, activation)
    last = [layers.Dense(1)] if activation == "tanh" else [layers.LayerNormalization(), layers.Dense(2, "softplus")]
    model = Model(inputs, Slope(Sequential([Input((3,)), first, *last]))(inputs))
    assert_same(model, tmp_path, normal(5, 3))


@formula
def every_operation(x, y, *, a=1.0):
    small = ops.clip(x, -0.5, ops.abs(y)) / (ops.sqrt(ops.square(y) + 1) + ops.rsqrt(ops.abs(x) + 1))
    curves = ops.sin(a * x) + ops.cos(y) * ops.tan(small) - ops.arctan(x) ** 3 + ops.sinh(small) * ops.cosh(small)
    powers = ops.exp(-x * x) + ops.expm1(small) + ops.log(ops.abs(y) + 1) + ops.log1p(ops.abs(x)) + ops.log2(y * y + 1)
    both = ops.where((x < y) & (x != 0) | (y >= 1), ops.maximum(x, y), ops.minimum(x, 0.2))
    return curves + powers + both + ops.sign(x) + ops.erf(y) * ops.erfc(x) + ops.reciprocal(2 + x * x) + 2.0**small


def test_a_formula(tmp_path):
    """Of all operations, its gradient, and activations in it."""
    x, y = Input((5,)), Input((1,))
    a, b = normal(2, 4, 5)
    assert_same(Model([x, y], every_operation(x, y, a=0.7)), tmp_path, a, b[:, :1])
    gated = formula(lambda x: ops.gelu(x) * ops.sigmoid(x) + ops.mish(x) + ops.softplus(x))
    assert_same(Model(x, Slope(gated)(x)), tmp_path, a)


def test_names_of_inputs_and_outputs_are_unique(tmp_path):
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(4, name="a_output")
    model = Model([a, b], [a, layers.Activation("relu", name="x")(shared(a)), shared(b)])
    found = run(model, tmp_path, *(normal(3, 4) for _ in range(2)))
    assert len(found) == 3 and not {"a", "b"} & set(found)


def test_more_weights_than_a_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "LIMIT", 1000)
    model = Sequential([Input((30,)), layers.Dense(30, name="wide")])
    with pytest.raises(ValueError, match="op dense.dense of layer '.*/wide': an ONNX file holds at most 2 GB"):
        model.export(str(tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())


def test_signatures_in_keras_form_and_inputs_by_name(tmp_path):
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.table = layers.Embedding(9, 4)

        def call(self, inputs):
            return ops.sum(self.table(inputs["words"]), axis=1) + inputs["more"]

    model, words_, more = Net(), words(3, 5), normal(3, 4)
    expected = model({"words": words_, "more": more}).numpy()
    signature = [layers.InputSpec(dtype="float32", shape=(None, 4)), Input((None,), dtype="int32")]  # more, words
    found = run(model, tmp_path, more, words_, input_signature=signature)
    np.testing.assert_allclose(next(iter(found.values())), expected, rtol=1e-5)


def test_ops_of_shapes_booleans_and_statistics(tmp_path):
    x = Input((4, 5))
    mean, variance = ops.mean(x, axis=(0, 1)), ops.var(x, axis=(0, 1))
    outputs = {
        "rolled": ops.roll(x, 2, axis=1),
        "largest": ops.top_k(x, 2)[1],
        "padded": ops.pad(x > 0, ((0, 0), (1, 0), (0, 2))),
        "indexed": x[:, None, 1, ..., None],
        "counted": ops.sum(x > 0, axis=1),
        "same": ops.sum(x, axis=()),
        "rounded": ops.round(ops.cast(x * 10, "int32")),
        "normalized": ops.batch_normalization(x, mean, variance, -1, scale=mean),
        "causal": layers.Attention()([x, x], use_causal_mask=True),
    }
    values = normal(3, 4, 5)
    assert_same_outputs(Model(x, outputs), tmp_path, values)


class Positions(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return x + self.function(np.arange(x.shape[1], dtype="float32"))


def test_positions_of_an_open_axis(tmp_path):
    """Numbers that rise evenly become a Range; any others would be those of the traced size."""
    x = Input((None,))
    assert_same(Model(x, Positions(lambda n: 2 * n + 1)(x)), tmp_path, normal(2, 7))
    for layer, message in (
        (Positions(np.sin), "a constant depends on the size of an open axis"),
        (layers.Lambda(lambda x: ops.roll(x, 1, axis=1)), "roll along an axis whose size is open"),
        (layers.Lambda(lambda x: ops.arctan2(x, x)), "op functions.arctan2 of layer .* ONNX has no counterpart"),
    ):
        with pytest.raises(ValueError, match=message):
            Model(x, layer(x)).export(str(tmp_path / "other.onnx"))


def test_ops_that_onnx_defines_differently(tmp_path):
    """Remainders of floats, reductions of booleans, over no axes and of small integers, tens of integers, infinite numbers."""
    x, small = Input((4,)), Input((4,), dtype="int8")
    outputs = [
        *(function(x, step) for function in (ops.mod, ops.floor_divide) for step in (0.1, -0.7)),
        *(function(x > 0, axis=-1) for function in (ops.max, ops.min, ops.sum, ops.mean)),
        *(function(x, axis=()) for function in (ops.any, ops.all, ops.var, ops.max, ops.mean)),
        *(function(small, axis=-1) for function in (ops.sum, ops.prod, ops.max)),
        ops.round(small, -1),
        ops.logaddexp(ops.log(ops.relu(x)), ops.log(ops.relu(x))),
        ops.relu6(ops.log(ops.relu(x))),
        ops.print_tensor(x),
    ]
    values = np.array([[1.0, 0.3, 5.5, -0.3], [0.0, -5.5, 1e10, 0.7]], "float32")
    model = Model([x, small], outputs)
    arrays = [values, np.array([[15, -25, 100, 7], [5, -5, 0, 127]], "int8")]
    found = run(model, tmp_path, *arrays).values()
    for ours, theirs in zip(model.predict(arrays, verbose=0), found, strict=True):
        assert (theirs.dtype, theirs.shape) == (ours.dtype, ours.shape)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5)
