"""keras.StatelessScope, SymbolicScope, name_scope, RematScope, Operation, Function and Input(tensor=), as in Keras 3.15.1."""

import pickle

import numpy as np
import pytest
from made_models import built
from mistakes import mistakes

import nbkeras as keras
from nbkeras import autodiff, layers, ops


def test_a_stateless_scope_has_its_own_values():
    v, w, u = keras.Variable([1.0, 2.0]), keras.Variable([5.0]), keras.Variable(1.0)
    with keras.StatelessScope([(v, [3.0, 4.0])]) as scope:
        assert ops.add(v, 1.0).numpy().tolist() == [4, 5]
        v.assign([7.0, 8.0])
        w.assign_add([1.0])
        assert (v.numpy().tolist(), w.numpy().tolist()) == ([7, 8], [6])
        assert scope.get_current_value(w).numpy().tolist() == [6] and scope.get_current_value(u) is None
        scope.add_update((w, np.array([9.0], "float32")))
    assert (v.numpy().tolist(), w.numpy().tolist()) == ([1, 2], [5])
    assert scope.get_current_value(v).numpy().tolist() == [7, 8] and scope.get_current_value(w).numpy().tolist() == [9]


def test_a_stateless_scope_keeps_the_states_of_layers_and_generators():
    layer, normal = layers.Dropout(0.5, seed=1), layers.BatchNormalization()
    x = np.arange(8, dtype="float32").reshape(4, 2)
    normal.build((None, 2))
    before = [each.numpy() for each in normal.weights]
    with keras.StatelessScope() as scope:
        first = layer(x, training=True).numpy()
        normal(x, training=True)
    assert np.array_equal(layer(x, training=True), first)
    assert all(map(np.array_equal, before, [each.numpy() for each in normal.weights]))
    assert np.allclose(scope.get_current_value(normal.moving_mean), [0.03, 0.04])


def test_gradients_pass_through_a_stateless_scope():
    dense = built(layers.Dense(1, use_bias=False), (None, 2))

    def loss(kernel):
        with keras.StatelessScope([(dense.kernel, kernel)]):
            return ops.sum(ops.square(dense(np.ones((1, 2)))))

    assert autodiff.grad(loss)(ops.ones((2, 1))).numpy().tolist() == [[4], [4]]


def test_a_stateless_scope_collects_losses():
    layer = layers.Dense(2, activity_regularizer="l2", kernel_initializer="ones")
    with keras.StatelessScope(collect_losses=True) as scope:
        layer(np.ones((2, 3)))
    assert np.allclose(scope.losses, [0.18])
    with keras.StatelessScope() as scope:
        layer(np.ones((2, 3)))
    assert scope.losses == []


def test_the_end_of_a_stateless_scope_after_an_error():
    v = keras.Variable(1.0)
    with pytest.raises(ZeroDivisionError, match="division by zero"), keras.StatelessScope([(v, 5.0)]):
        v.assign(1 / 0)
    v.assign(2.0)
    assert float(v) == 2


test_arguments_that_do_not_fit = mistakes(
    [
        pytest.param(lambda: keras.StatelessScope([(1, 2)]), "must be Variables, received 1", id="no variable"),
        pytest.param(
            lambda: keras.StatelessScope([(keras.Variable([1.0]), [1.0, 2.0])]), r"must have shape \(1,\)", id="shape"
        ),
        pytest.param(lambda: keras.name_scope("a/b"), "a string without '/', received 'a/b'", id="slash"),
        pytest.param(lambda: keras.name_scope(3), "a string without '/', received 3", id="number"),
        pytest.param(lambda: keras.RematScope("some"), "mode must be one of 'full', .* received 'some'", id="mode"),
        pytest.param(lambda: keras.Operation(name="a/b"), "a string without '/', received 'a/b'", id="operation"),
        pytest.param(lambda: keras.Function([], keras.Input((2,))), "a Function needs inputs", id="no inputs"),
        pytest.param(lambda: keras.Function(keras.Input((2,)), {}), "a Function needs outputs", id="no outputs"),
        pytest.param(lambda: keras.Function(keras.Input((2,)), keras.Input((2,))), "graph disconnected", id="apart"),
        pytest.param(lambda: keras.Input(tensor=np.ones(3)), "tensor must be symbolic, received", id="array"),
        pytest.param(
            lambda: keras.Input((5,), tensor=keras.KerasTensor((None, 4))), "Input's shape must agree", id="shape of it"
        ),
        pytest.param(
            lambda: keras.Input(batch_size=2, tensor=keras.KerasTensor((3, 4))), "Input's batch_size", id="batch"
        ),
        pytest.param(
            lambda: keras.Input(dtype="int32", tensor=keras.KerasTensor((3, 4))), "Input's dtype must", id="dtype"
        ),
    ],
    ValueError,
)


def test_names_in_scopes():
    with keras.name_scope("outer"):
        assert keras.Variable(1.0, name="v").path == "outer/v"
        dense = built(layers.Dense(2, name="d"), (None, 3))
        assert (dense.path, dense.kernel.path) == ("outer/d", "outer/d/kernel")
        with keras.name_scope("inner"), keras.name_scope("absolute", override_parent="a/b"):
            assert keras.Variable(1.0, name="v").path == "a/b/absolute/v"
        owner = object()
        with keras.name_scope("once", owner), keras.name_scope("once", owner):
            assert keras.Variable(1.0, name="v").path == "outer/once/v"
    assert keras.Variable(1.0, name="v").path == "v"


def test_a_symbolic_scope_computes():
    with keras.SymbolicScope():
        assert ops.ones(2).numpy().tolist() == [1, 1]


SCOPES = {
    "full": keras.RematScope("full"),
    "activations": keras.RematScope("activations"),
    "larger": keras.RematScope("larger_than", output_size_threshold=40),
    "list": keras.RematScope("list_of_layers", layer_names=["first", "drop"]),
    "none": keras.RematScope(None),
}


def trained(scope):
    """The weights of a model after two steps; its layers were made in a scope."""
    keras.utils.set_random_seed(3)
    with scope:
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(16, activation="gelu", name="first"),
                layers.Dropout(0.5, name="drop"),
                layers.BatchNormalization(),
                layers.Dense(1, activity_regularizer="l2"),
            ]
        )
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    history = model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0)
    return model, [*history.history["loss"], *(each for weight in model.get_weights() for each in weight.ravel())]


@pytest.mark.parametrize("name", list(SCOPES))
def test_layers_of_a_remat_scope_learn_the_same(name):
    expected = trained(keras.RematScope(None))[1]
    model, values = trained(SCOPES[name])
    assert np.allclose(values, expected, rtol=1e-5, atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(np.ones((2, 4)), verbose=0), model.predict(np.ones((2, 4)), verbose=0))


def test_a_remat_scope_keeps_less():
    x = keras.Variable(np.ones((64, 64), "float32"))

    def kept(scope):
        with scope:
            layer = keras.Sequential([layers.Activation("gelu") for _ in range(4)])
        with keras.GradientTape():
            record = ops.sum(layer(x)).record
        depth = 0
        while record is not None and record.parents:
            record, depth = record.parents[0][0], depth + 1
        return depth

    assert kept(keras.RematScope("full")) < kept(keras.RematScope(None))


class Scale(keras.Operation):
    def __init__(self, factor, name=None):
        super().__init__(name=name)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_an_operation():
    scale, x = Scale(2.0, name="twice"), keras.Input((3,))
    assert scale(np.ones(2)).dtype == "float64" and scale.get_config() == {"name": "twice", "factor": 2.0}
    model = keras.Model(x, layers.Dense(1, kernel_initializer="ones")(scale(x)))
    assert model(np.ones((1, 3))).numpy().tolist() == [[6]]
    assert [type(each).__name__ for each in model.layers] == ["InputLayer", "Dense"]
    again = keras.Model.from_config(model.get_config(), custom_objects={"Scale": Scale})
    again.set_weights(model.get_weights())
    assert again(np.ones((1, 3))).numpy().tolist() == [[6]]
    assert isinstance(layers.Dense(1), keras.Operation) and isinstance(model, keras.Operation)
    assert isinstance(scale, keras.Operation) and issubclass(Scale, keras.Operation) and not isinstance(model, Scale)
    with pytest.raises(NotImplementedError, match=r"Operation must define call"):
        keras.Operation()(np.ones(2))


def test_an_operation_without_a_name_or_with_its_own_config():
    class Plain(keras.Operation):
        def __init__(self, n=1):
            super().__init__()

        def call(self, x):
            return ops.sum(x, -1)

    class Own(Scale):
        def get_config(self):
            return {**super(Scale, self).get_config(), "factor": self.factor}

    assert Plain(2).get_config() == {"n": 2} and Plain()(keras.Input((2,))).shape == (None,)
    assert Own(3.0, name="o").get_config() == {"name": "o", "factor": 3.0}


def test_a_function():
    a, b = keras.KerasTensor((None, 2, 3), name="a"), keras.KerasTensor((None, 2, 3), name="b")
    function = keras.Function([a, b], ops.sigmoid(a + b))
    assert function.name.startswith("function") and [each.name for each in function.inputs] == ["a", "b"]
    assert [each.name.split("_")[0] for each in function.operations] == ["add", "sigmoid"]
    one = np.ones((4, 2, 3), "float32")
    assert np.allclose(function([one, one]), 1 / (1 + np.exp(-2)))
    assert function.compute_output_shape([(5, 2, 3), (5, 2, 3)]) == (5, 2, 3)
    assert function([keras.Input((2, 3)), keras.Input((2, 3))]).shape == (None, 2, 3)
    named = keras.Function({"x": a}, {"y": [a * 2]})
    assert np.array_equal(named({"x": one})["y"][0], 2 * one)
    with pytest.raises(ValueError, match=r"takes the structure .* received"):
        function([one])
    with pytest.raises(ValueError, match=r"input 'b' must have shape \(None, 2, 3\), received \(4, 2, 4\)"):
        function([one, np.ones((4, 2, 4))])
    with pytest.raises(NotImplementedError, match="files do not hold"):
        function.get_config()


def test_a_function_of_layers_trains_their_weights():
    x = keras.Input((2,))
    dense = layers.Dense(1, kernel_initializer="ones", use_bias=False)
    function = keras.Function(x, dense(x))
    with keras.GradientTape() as tape:
        loss = ops.sum(function(np.ones((1, 2))))
    assert tape.gradient(loss, dense.kernel).numpy().tolist() == [[1], [1]]


def test_an_input_of_a_tensor():
    made = keras.Input(tensor=keras.KerasTensor((None, 4), name="t"), name="first")
    model = keras.Model(made, ops.sum(made, -1))
    assert model.input_names == ["first"] and model(np.ones((1, 4))).numpy().tolist() == [4]
    inner = layers.Dense(3, kernel_initializer="ones")(keras.Input((4,)))
    assert keras.Input(tensor=inner, name="q", shape=(3,), dtype="float32") is inner
    assert keras.Model(inner, inner * 2)(np.ones((1, 3))).numpy().tolist() == [[2, 2, 2]]
    assert keras.KerasTensor((None, 3), record_history=False).record_history is False


def test_devices_by_the_names_of_keras():
    with keras.device(device_name="cpu:0"):
        assert keras.config.get_device() == "cpu"
