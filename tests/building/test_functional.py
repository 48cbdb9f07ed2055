"""The functional graph: shared layers, nested models, nodes and their shapes, Sequential, subclasses."""

import subprocess
import sys

import numpy as np
import pytest
from made_models import compiled

from nbkeras import KerasTensor, layers, ops
from nbkeras.building.inputs import Input
from nbkeras.engine.registry import custom_object_scope
from nbkeras.engine.tensor import Variable
from nbkeras.models import Model, Sequential, clone_model, load_model, model_from_json


def test_model_called_as_layer_shares_weights():
    inner = Sequential([layers.Dense(4, activation="relu", input_shape=(3,)), layers.Dense(2)])
    inputs = layers.Input((3,))
    outer = Model(inputs, layers.Dense(1)(inner(inputs)))
    assert outer.weights[:4] == inner.weights and len(outer.weights) == 6
    x = np.random.default_rng(0).random((5, 3))
    expected = inner.predict(x) @ outer.get_weights()[4] + outer.get_weights()[5]
    np.testing.assert_allclose(outer.predict(x), expected, rtol=1e-5)
    inner.set_weights([w * 0 for w in inner.get_weights()])
    np.testing.assert_allclose(outer.predict(x), np.zeros((5, 1)), atol=1e-7)


def test_shared_layer_gets_gradients_from_both_uses():
    a, b = layers.Input((3,)), layers.Input((3,))
    shared = layers.Dense(2, kernel_initializer="ones")
    model = compiled(Model([a, b], layers.add([shared(a), shared(b)])))
    x = np.ones((4, 3), "float32")
    model.train_on_batch([x, 2 * x], np.zeros((4, 2)))
    # y = 9, dL/dy = 9 (mean over 2 outputs: 2 * 9 / 2), dW = (1 + 2) * 9
    np.testing.assert_allclose(model.get_weights()[0], np.full((3, 2), 1 - 0.01 * 27), rtol=1e-5)


def test_nodes_of_a_layer():
    layer = layers.Dense(2, name="d")
    with pytest.raises(AttributeError, match="never been called"):
        _ = layer.output_shape
    a = layers.Input((3,))
    first = layer(a)
    assert layer.output is first and layer.input is a and layer.output_shape == (None, 2)
    b = layers.Input((3,), batch_size=7)
    second = layer(b)
    for what in ("output", "input"):
        with pytest.raises(AttributeError, match=f'Layer d has multiple inbound nodes.*"layer {what}" is ill-defined'):
            getattr(layer, what)
        with pytest.raises(AttributeError, match=f"get_{what}_shape_at"):
            getattr(layer, f"{what}_shape")
    assert layer.get_output_at(0) is first and layer.get_output_at(1) is second and layer.get_input_at(1) is b
    assert layer.get_input_shape_at(1) == (7, 3) and layer.get_output_shape_at(1) == (7, 2)
    with pytest.raises(ValueError, match="only 2 inbound nodes"):
        layer.get_output_at(2)


def test_masks_at_nodes():
    words = layers.Input((4,), dtype="int32")
    embedded = layers.Embedding(5, 3, mask_zero=True)(words)
    recurrent = layers.LSTM(2)
    recurrent(embedded)
    assert recurrent.get_input_mask_at(0).shape == (None, 4)
    assert recurrent.get_output_mask_at(0) is None


def test_operators_on_symbolic_tensors_become_layers():
    a, b = layers.Input((3,)), layers.Input((3,))
    model = Model([a, b], ops.maximum(a * 2.0 + b, 0.5)[:, 1:] * ops.cast(a != b, "float32")[:, 1:])
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    y[0] = x[0]
    np.testing.assert_allclose(model.predict([x, y]), (np.maximum(x * 2 + y, 0.5) * (x != y))[:, 1:], rtol=1e-6)
    assert a == a and not a == b and a != b and not a != a  # identity, as sets and lists need it
    again = Model.from_config(model.get_config())
    np.testing.assert_array_equal(again.predict([x, y]), model.predict([x, y]))


RNG = np.random.default_rng(0)
SHAPES = {  # of a model's result, where sizes are not known: x (None, None, 6), y (None, 6)
    "a batch axis that was moved": (lambda x, y: ops.matmul(ops.transpose(y), y), (6, 6)),
    "and back": (lambda x, y: y @ ops.transpose(y) @ y, (None, 6)),
    "beside one that was not": (lambda x, y: ops.transpose(y) + ops.sum(y * y, -1), (6, None)),
    "a window": (lambda x, y: ops.max_pool(x, 7, 1, data_format="channels_last"), (None, None, 6)),
    "a convolution": (
        lambda x, y: ops.conv(x, np.ones((5, 6, 2), "float32"), 2, data_format="channels_last"),
        (None, None, 2),
    ),
    "halves": (lambda x, y: ops.split(x, 2, axis=1)[1], (None, None, 6)),
    "rows of four": (lambda x, y: ops.reshape(x, (-1, 4, 6)), (None, 4, 6)),
    "pairs": (lambda x, y: ops.reshape(y, (-1, 12)), (None, 12)),
    "slices side by side": (lambda x, y: x[:, 1:] * x[:, :-1], (None, None, 6)),
    "a list of tensors": (lambda x, y: ops.mean([y, y * 2], axis=0), (None, 6)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_sizes_that_are_not_known(case):
    function, shape = SHAPES[case]
    x, y = Input((None, 6)), Input((6,))
    model = Model([x, y], [function(x, y), ops.mean(x), ops.mean(y)])
    assert model.outputs[0].shape == shape
    arrays = RNG.standard_normal((4, 8, 6)).astype("float32"), RNG.standard_normal((4, 6)).astype("float32")
    np.testing.assert_allclose(model(arrays)[0], function(*map(ops.convert_to_tensor, arrays)), rtol=1e-6)


def test_a_network_that_halves_unknown_sizes_several_times_is_called_as_a_layer():
    x = y = Input((None, None, None, 1))
    for _ in range(4):
        y = layers.MaxPooling3D((1, 2, 2))(layers.Conv3D(2, 3, padding="same")(y))
    for _ in range(4):
        y = layers.Conv3D(1, 3, padding="same")(layers.UpSampling3D((1, 2, 2))(y))
    network = Model(x, layers.Multiply()([x, y]))
    assert network(x).shape == (None, None, None, None, 1)


@pytest.mark.parametrize(
    "function, shapes, expected",
    [
        (ops.add, [(None, 3), (2, None)], (2, 3)),
        (lambda x: ops.maximum(x, np.zeros((16, 8))), [(None, None, 8)], (None, 16, 8)),
        (lambda *xs: ops.concatenate(xs, axis=1), [(None, None, 3), (2, 5, 3)], (2, None, 3)),
        (ops.matmul, [(None, 3, 4), (3, None, 4, 5)], (3, None, 3, 5)),
        (ops.matmul, [(None, None, None), (None, 10, 8)], (None, None, 8)),
        (lambda *xs: ops.einsum("bij,bjk->bik", *xs), [(None, None, None), (None, 5, 3)], (None, None, 3)),
        (lambda x: ops.unstack(x, num=3, axis=1)[2], [(2, None, 4)], (2, 4)),
        (lambda x: ops.broadcast_to(x, (2, 3, 3)), [(None, 3)], (2, 3, 3)),
        (lambda x: x.reshape((-1, 6)).squeeze(), [(None, 2, 3)], (None, 6)),
        (lambda x: x.squeeze(axis=1), [(None, 1, 3)], (None, 3)),
        (lambda x: x[5], [(None, 3)], (3,)),
        (lambda x: x[:, 100], [(None, None, 3)], (None, 3)),
    ],
)
def test_sizes_that_fit_what_is_known(function, shapes, expected):
    """The expected shapes are real Keras's."""
    assert function(*(KerasTensor(shape) for shape in shapes)).shape == expected


def test_as_many_tensors_as_an_axis_is_long():
    with pytest.raises(ValueError, match="'unstack' gives as many tensors as an axis is long"):
        ops.unstack(Input((None, 6)), axis=1)


def test_the_input_of_an_input_layer_is_its_own_tensor_as_in_keras_2():
    inputs = layers.Input((3,))
    model = Model(inputs, layers.Dense(2)(inputs))
    first = model.layers[0]
    assert first.input is first.get_input_at(0) is first.output is inputs
    assert first.input_shape == first.get_input_shape_at(0) == (None, 3)
    part = Model(first.input, model.layers[1].output)
    x = np.ones((1, 3), np.float32)
    assert np.array_equal(part.predict(x, verbose=0), model.predict(x, verbose=0))


def test_disconnected_graph_names_the_input():
    a, b = layers.Input((3,), name="left"), layers.Input((3,), name="right")
    with pytest.raises(ValueError, match="depend on .*name=right.* not among the model's inputs"):
        Model(a, layers.add([a, b]))


def test_deep_graph_does_not_recurse():
    x = inputs = layers.Input((2,))
    for _ in range(1500):
        x = layers.Activation("linear")(x)
    model = Model(inputs, x)
    np.testing.assert_array_equal(model(np.ones((1, 2))).numpy(), np.ones((1, 2)))


def test_model_between_inner_tensors():
    inputs = layers.Input((3,))
    hidden = layers.Dense(4)(inputs)
    outputs = layers.Dense(2)(hidden)
    whole, head, tail = Model(inputs, outputs), Model(inputs, hidden), Model(hidden, outputs)
    x = np.random.default_rng(0).random((5, 3))
    np.testing.assert_allclose(tail.predict(head.predict(x)), whole.predict(x), rtol=1e-5)


def test_sequential_without_input_shape_is_built_by_its_data():
    model = Sequential([layers.Dense(4), layers.Dense(2)])
    assert model.weights == [] and not model.built
    model.compile("sgd", "mse")
    model.fit(np.ones((6, 3)), np.ones((6, 2)), verbose=0)
    assert model.input_shape == (None, 3) and model.output_shape == (None, 2)
    with pytest.raises(ValueError, match=r"expects shape \(None, 3\)"):
        model.predict(np.ones((6, 4)))


class Inner(layers.Layer):
    """A layer with a Sequential inside, as in blocks of transformers."""

    def __init__(self):
        super().__init__()
        self.chain = Sequential([layers.Dense(4), layers.Dense(3)])

    def call(self, x):
        return self.chain(x)


def test_a_sequential_takes_other_lengths_than_it_was_built_for():
    chain = Sequential([layers.Conv1D(2, 3), layers.GlobalMaxPooling1D()])
    assert [chain(np.ones((2, length, 3))).shape for length in (5, 9)] == [(2, 2)] * 2
    given = compiled(Sequential([Input((5, 3)), layers.Dense(2)]))
    given.fit(np.ones((4, 7, 3)), np.ones((4, 7, 2)), verbose=0)
    assert given.predict(np.ones((4, 6, 3))).shape == (4, 6, 2) and given.input_shape == (None, 5, 3)
    inputs = Input((None, 3))
    model = Model(inputs, Inner()(inputs))
    assert model.output_shape == (None, None, 3) and model.predict(np.ones((2, 8, 3))).shape == (2, 8, 3)
    with pytest.raises(ValueError, match=r"expects shape \(None, 5, 3\), received \(2, 3\)"):
        given(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"to have size 3, received shape \(2, 5, 4\)"):
        given(np.ones((2, 5, 4)))


def test_a_last_axis_of_one_is_added_or_taken_away_in_calls():
    inputs = Input((6, 1))
    model = Model(inputs, layers.Conv1D(2, 3)(inputs))
    x = np.arange(12.0).reshape(2, 6)
    expected = model(x[..., None]).numpy()
    np.testing.assert_array_equal(model(x), expected)
    flat = Input((6,))
    assert Model(flat, model(flat)).output_shape == (None, 4, 2)
    np.testing.assert_array_equal(Model(flat, flat * 2)(x[..., None]), x * 2)


def test_a_list_of_one_array_builds_a_sequential_too():
    model = Sequential([layers.Dense(2)])
    assert model.predict([np.ones((3, 4))]).shape == (3, 2) and model.input_shape == (None, 4)


def test_sequential_add_and_pop():
    model = Sequential()
    model.add(layers.Input((3,)))
    model.add(layers.Dense(4))
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2) and len(model.layers) == 2
    model.pop()
    assert model.output_shape == (None, 4)
    model.add(layers.Dense(5))
    assert model.predict(np.ones((1, 3))).shape == (1, 5)


@pytest.mark.parametrize("arguments", [{"input_shape": (8,)}, {"input_dim": 8}, {"batch_input_shape": (None, 8)}])
def test_ways_to_give_an_input_shape(arguments):
    assert Sequential([layers.Dense(2, **arguments)]).input_shape == (None, 8)


def test_batch_size_with_input_shape():
    assert Sequential([layers.Dense(2, batch_size=32, input_shape=(6, 8))]).input_shape == (32, 6, 8)


class Residual(layers.Layer):
    """A layer of layers, with a weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = [layers.Dense(units, activation="relu"), layers.Dense(units)]

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs):
        outputs = inputs
        for layer in self.inner:
            outputs = layer(outputs)
        return inputs + outputs * self.scale


def test_custom_layer_in_every_kind_of_model(tmp_path):
    inputs = layers.Input((4,))
    model = Model(inputs, Residual(4)(inputs))
    assert model.output_shape == (None, 4) and len(model.weights) == 5
    x = np.random.default_rng(0).random((6, 4))
    with custom_object_scope({"Residual": Residual}):
        again = model_from_json(model.to_json())
    listed = Sequential([layers.Input((4,)), Residual(4)])
    for other in (again, clone_model(model), clone_model(listed)):
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(other.predict(x), model.predict(x))
        assert other.weights[0] is not model.weights[0]
    with pytest.raises(ValueError, match="unknown layer: 'Residual'"):
        model_from_json(model.to_json())


class Twice(Model):
    """A subclass with two outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(1)

    def call(self, inputs, training=None):
        hidden = self.first(inputs)
        return hidden, self.second(hidden)


def test_subclassed_model_with_two_outputs():
    model = compiled(Twice(), "sgd", ["mse", "mae"])
    x = np.ones((6, 2), "float32")
    history = model.fit(x, [np.zeros((6, 3)), np.zeros((6, 1))], verbose=0, epochs=2).history
    assert set(history) == {"loss", "output_1_loss", "output_2_loss"}
    first, second = model.predict(x)
    assert first.shape == (6, 3) and second.shape == (6, 1) and len(model.weights) == 4


def test_dict_inputs_and_outputs():
    inputs = {"b": layers.Input((2,), name="b"), "a": layers.Input((3,), name="a")}
    total = layers.Concatenate()([inputs["a"], inputs["b"]])
    model = Model(inputs, {"sum": layers.Dense(1)(total), "same": total})
    result = model.predict({"a": np.ones((4, 3)), "b": np.zeros((4, 2))})
    np.testing.assert_array_equal(result["same"], [[1, 1, 1, 0, 0]] * 4)
    assert set(result) == {"sum", "same"}
    more = {"a": np.ones((4, 3)), "b": np.zeros((4, 2)), "unused": np.ones(4)}  # for example a whole table
    np.testing.assert_array_equal(model.predict(more)["sum"], result["sum"])


class Causal(layers.Layer):
    """A mask laid out by sizes that are computed from a shape and numbers, as Keras's examples of transformers do."""

    def call(self, x):
        batch, length, _ = ops.shape(x)
        mask = ops.cast(ops.arange(length)[:, None] >= ops.arange(length), "int32")
        times = ops.concatenate([ops.expand_dims(batch, -1), ops.convert_to_tensor([1, 1])], 0)
        assert int(times[0]) == batch  # known while shapes are worked out and while a step is recorded, too
        return ops.matmul(ops.cast(ops.tile(mask[None], times), x.dtype), x)


def test_sizes_made_of_numbers_are_known_everywhere():
    x = np.arange(30.0, dtype="float32").reshape(2, 5, 3)
    inputs = Input((5, 3))
    model = Model(inputs, Causal()(inputs))
    assert model.output_shape == (None, 5, 3)
    model.compile("sgd", "mse")
    for rows in (x, x, x[:1], x):  # recorded and replayed, for two sizes; a step that ran eagerly would warn
        np.testing.assert_array_equal(model.predict(rows), rows.cumsum(axis=1))


def test_summary_lists_layers_and_counts(capsys):
    inputs = layers.Input((3,))
    model = Model(inputs, layers.add([layers.Dense(3, name="left")(inputs), layers.Dense(3, name="right")(inputs)]))
    model.summary()
    text = capsys.readouterr().out
    assert "left (Dense)" in text and "Connected to" in text and "Total params: 24" in text


def test_variables_in_lists_are_weights():
    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.inner = layers.Dense(2)
            self.scales = [Variable([1.0, 2.0], name="a"), {"b": Variable([3.0, 4.0], name="b")}]

        def call(self, x):
            self.below = self.inner(x) * self.scales[0] + self.scales[1]["b"]
            self.theirs = self.inner.weights
            return self.below

    model = Sequential([Input((3,)), Scaled()])
    assert [w.name for w in model.layers[0].weights] == ["a", "b", "kernel", "bias"]
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(np.ones((4, 3), "float32"), np.zeros((4, 2), "float32"), verbose=0)
    assert [w.name for w in model.weights] == ["a", "b", "kernel", "bias"]  # each once
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_model_that_begins_in_the_middle_of_another_is_written_and_cloned(name, tmp_path):
    """As in Keras, its first layer is then an InputLayer."""
    middle = layers.Dense(2)(Input((3,)))
    model = Model([middle, extra := Input((2,))], layers.Dense(1)(layers.add([middle, extra])))
    x = [np.ones((2, 2)), np.ones((2, 2))]
    model.save(tmp_path / name)
    again, clone = load_model(tmp_path / name), clone_model(model)
    assert type(again.layers[0]) is layers.InputLayer and again.input_shape == [(None, 2), (None, 2)]
    clone.set_weights(model.get_weights())
    for each in (again, clone):
        np.testing.assert_array_equal(each.predict(x), model.predict(x))


@pytest.mark.process
def test_ops_on_symbolic_tensors_need_no_import_but_nbkeras():
    program = "import nbkeras; x = nbkeras.Input((3,)); print((x @ nbkeras.ops.transpose(x)).shape)"
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout == "(None, None)\n", run.stderr


def test_inputs_that_no_output_needs_come_first_at_their_depth_as_in_keras():
    a, b, c = (layers.Input((4,), name=name) for name in "abc")
    outputs = [layers.Dense(2, name="f")(layers.Dense(4, name="e")(b)), layers.Dense(3, name="g")(b)]
    assert [each.name for each in Model([a, b, c], outputs).layers] == ["b", "e", "a", "c", "f", "g"]


def test_a_layer_that_returns_fewer_tensors_than_in_its_symbolic_call():
    class Fewer(layers.Layer):
        def compute_output_spec(self, x):
            return [KerasTensor(x.shape), KerasTensor(x.shape)]

        def call(self, x):
            return [x]

    inputs = Input((2,))
    model = Model(inputs, Fewer(name="fewer")(inputs)[1])
    with pytest.raises(
        ValueError, match="fewer: call returned 1 tensors, and 2 on symbolic tensors: return as many in each"
    ):
        model(np.ones((1, 2), "float32"))
