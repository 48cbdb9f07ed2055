"""Programs that predict: what is joined, what is prepared, and when it is prepared again."""

import threading

import numpy as np
import pytest
from in_threads import at_once

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.engine import settings
from nbkeras.engine.program import PREPARED, Bound
from nbkeras.engine.tensor import assign_all
from nbkeras.kernels import compiled, device

pytestmark = pytest.mark.cpu("programs of a GPU are not folded")

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 12, 12, 20)).astype("float32")


def randomized(model):
    random = np.random.default_rng(1)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "variance" in weight.name or "gamma" in weight.name else (-0.5, 0.5)
        weight.assign(random.uniform(low, high, weight.shape))
    return model


def convolutional(**normalization):
    """Convolutions by all four algorithms, each with a batch normalization and relu, one in a residual."""
    inputs = layers.Input((12, 12, 20))
    x = inputs
    for layer in (
        layers.Conv2D(16, 3, padding="same"),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.Conv2D(16, 1),
    ):
        x = layers.ReLU()(layers.BatchNormalization(**normalization)(layer(x)))
    y = layers.BatchNormalization(**normalization)(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))
    x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(layers.Conv2D(1, 1)(x))
    x = layers.BatchNormalization(**normalization)(x)
    x = layers.BatchNormalization(**normalization)(layers.Dense(8)(layers.Flatten()(x)))
    return randomized(keras.Model(inputs, [layers.ReLU()(x), x]))


def program_of(model):
    return model._step_for("predict").programs()[-1]


def kernels_of(model):
    return [getattr(function, "__name__", "") for function, _ in program_of(model).launches]


def eager(model, x):
    return [np.asarray(y) for y in model(x)]


@pytest.mark.parametrize("normalization", [{}, {"scale": False}, {"center": False}], ids=str)
def test_folded_networks_predict_what_their_layers_compute(normalization):
    model = convolutional(**normalization)
    first, expected = model.predict(IMAGES), eager(model, IMAGES)
    for one, other, again in zip(first, expected, model.predict(IMAGES), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * abs(other).max())
        np.testing.assert_array_equal(one, again)
    kernels = kernels_of(model)
    assert kernels.count("scale_rows") == 1, "the one after a relu is no part of a product"
    assert kernels.count("relu.forward") == 2 and "given_moments" not in kernels, "of the sum, and of an output's copy"
    assert "transform_whole_kernel" not in kernels


def test_normalizations_join_products_of_integers():
    """Their scale becomes part of the factors, and the integers stay. A gamma of 0 is allowed."""
    inputs = layers.Input((12, 12, 20))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)))
    model = randomized(keras.Model(inputs, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 1)(x)))))
    gamma = model.layers[2].gamma.numpy()
    gamma[3] = 0
    model.layers[2].gamma.assign(gamma)
    model.quantize("int8", beyond_keras=True)
    for _ in range(2):
        y, expected = model.predict(IMAGES), np.asarray(model(IMAGES))
        # a rounding may make another integer of a number between two: a step of 127
        np.testing.assert_allclose(y, expected, rtol=0, atol=0.01 * abs(expected).max())
    assert kernels_of(model) == ["find_largest", "quantize_images", "multiply_bands"] * 2
    before = model.predict(IMAGES)
    model.layers[1].kernel_scale.assign(model.layers[1].kernel_scale / 2.0)
    assert abs(model.predict(IMAGES) - before).max() > 0.1, "what depends on weights is computed again"


def test_float64_is_folded_too(monkeypatch):
    monkeypatch.setattr(settings.values, "floatx", "float64")
    model = convolutional()
    monkeypatch.undo()
    for one, other in zip(model.predict(IMAGES), eager(model, IMAGES.astype("float64")), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def check(model, x=IMAGES):
    for one, other in zip(model.predict(x), eager(model, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(1, abs(other).max()))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.weights[0].assign(model.weights[0] * 2),
        lambda model: model.weights[3].assign_add(np.ones(16)),
        lambda model: assign_all([(w, w * 1.5) for w in model.weights]),
        lambda model: model.set_weights([w * 1.25 for w in model.get_weights()]),
        lambda model: device.write(model.weights[0].data, model.weights[0].numpy() + 0.1),
        lambda model: device.launch(np.negative, model.weights[0].data, model.weights[0].data),
        lambda model: model.layers[1].kernel.rebind(device.persistent(np.zeros((3, 3, 20, 16), "float32"))),
        lambda model: fit(model),
        lambda model: fit(model, run_eagerly=True),
        lambda model: model(IMAGES, training=True),
        lambda model: model.train_on_batch(IMAGES, targets()),
    ],
    ids="assign assign_add assign_all set_weights write launch rebind fit eager training batch".split(),
)
def test_weights_that_change_are_prepared_again(change):
    model = convolutional()
    model.compile("sgd", "mse")
    model.train_on_batch(IMAGES, targets())  # so that a later change does not record the steps again
    check(model)
    check(model, IMAGES[:1])
    change(model)
    check(model)
    check(model, IMAGES[:1])


def targets():
    return [np.ones((3, 8), "float32")] * 2


def fit(model, **compiled):
    if compiled:
        model.compile("adam", "mse", **compiled)
    model.fit(IMAGES, targets(), verbose=0)


def test_nothing_is_prepared_twice_without_a_change(monkeypatch):
    model = convolutional()
    model.predict(IMAGES)
    runs, prepare = [], Bound.prepare
    monkeypatch.setattr(Bound, "prepare", lambda bound: runs.append(1) or prepare(bound))
    model.predict(IMAGES)
    ops.exp(IMAGES)
    model.predict(IMAGES)
    assert not runs
    model.weights[0].assign(model.weights[0] * 2)
    model.predict(IMAGES)
    model.predict(IMAGES)
    assert len(runs) == 1


def in_panels():
    """Products whose weights are kept in panels: a dense layer, one by the transposed weight, a convolution, an LSTM."""
    inputs = layers.Input((12, 12, 20))
    x = layers.Conv2D(210, 1, activation="relu")(inputs)
    dense = layers.Dense(130, activation="tanh")
    y = dense(layers.GlobalAveragePooling2D()(x))
    y = ops.matmul(y, ops.transpose(dense.kernel))
    z = layers.LSTM(130)(layers.Reshape((12, 240))(inputs))
    return randomized(keras.Model(inputs, [y, z]))


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
def test_predictions_with_weights_in_panels(rows):
    model, x = in_panels(), np.random.default_rng(2).uniform(-1, 1, (rows, 12, 12, 20)).astype("float32")
    check(model, x)
    assert "fill_panels" not in kernels_of(model) and "fill_panels" in {f.__name__ for f, _ in prepared_steps(model)}
    model.set_weights([w / 2 for w in model.get_weights()])
    check(model, x)
    sizes = [20 * 210, 130 * 520, *([210 * 130] * 2 if rows <= 64 else [])]
    profile = keras.profile(model, x, batch_size=rows, steps=1)
    assert 4 * sum(sizes) <= profile.prepared_nbytes <= 1.1 * 4 * sum(sizes), "the weights, and zeros that fill lines"
    assert f"in another form: {profile.prepared_nbytes / 1e6:.2f} MB" in " ".join(str(profile).split())


@pytest.mark.parametrize(("units", "rows", "has_panels"), [(40, 1, False), (40, 2, True), (130, 1, True)])
def test_one_row_is_multiplied_with_small_recurrent_weights_as_they_are(units, rows, has_panels):
    inputs = layers.Input((12, 5))
    model = randomized(keras.Model(inputs, layers.LSTM(units)(inputs)))
    x = np.random.default_rng(2).uniform(-1, 1, (rows, 12, 5)).astype("float32")
    check(model, x)
    assert has_panels == (keras.profile(model, x, batch_size=rows, steps=1).prepared_nbytes > 0)


def prepared_steps(model):
    return [(getattr(function, "kernel", function), args) for function, args in program_of(model).prepares]


def test_a_step_that_changes_its_weights_sees_the_new_ones():
    class Drifting(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight((), initializer="ones")

        def call(self, x):
            y = x * ops.square(self.factor)
            self.factor.assign_add(1.0)
            return y

    model = keras.Sequential([layers.Input((2,)), Drifting()])
    assert [float(model.predict(np.ones((1, 2), "f"))[0, 0]) for _ in range(4)] == [1, 4, 9, 16]


def test_a_launch_outside_of_ops_stays_where_it_is():
    @compiled
    def twice(x, y):
        for i in range(x.size):
            y[i] = 2 * x[i]

    class Launching(layers.Layer):
        def call(self, x):
            y = device.empty((x.size,), x.dtype)
            device.launch(twice, x.data.reshape(-1), y)
            return ops.relu(ops.reshape(keras.Tensor(y), x.shape) - 1)

    model = keras.Sequential([layers.Input((4,)), layers.Dense(4, activation="relu"), Launching(), layers.Dense(2)])
    x = np.ones((5, 4), "f")
    for _ in range(3):
        np.testing.assert_allclose(model.predict(x), np.asarray(model(x)), rtol=1e-6)


def test_what_is_random_or_in_training_stays_so():
    model = keras.Sequential([layers.Input((50,)), layers.Dense(50), layers.BatchNormalization(), layers.Dropout(0.5)])

    class Always(keras.Model):
        def call(self, x, training=None):
            return model(x, training=True)

    always, x = Always(), np.random.default_rng(0).normal(size=(64, 50)).astype("f")
    moving = model.layers[1].moving_mean
    found = [always.predict(x, batch_size=64) for _ in range(3)]
    assert not np.array_equal(found[0], found[1]) and not np.array_equal(found[1], found[2])
    before = moving.numpy()
    always.predict(x, batch_size=64)
    assert not np.array_equal(before, moving.numpy())


def test_an_output_that_is_used_twice_is_not_joined():
    inputs = layers.Input((4,))
    product = layers.Dense(3)(inputs)
    normal = layers.BatchNormalization()(product)
    model = randomized(keras.Model(inputs, [product, normal, layers.ReLU()(normal), layers.ReLU()(product)]))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("f")
    check(model, x)
    assert kernels_of(model).count("relu.forward") == 2


def sums_of_depthwise(start=0, activation=None, used_again=False, skipped=(), strides=1, dtype="float32"):
    """A convolution of 5 groups as Keras-Applications' ResNeXt computes it: 4 channels and 3 results in each group."""
    inputs = layers.Input((12, 12, 20), dtype=dtype)
    x = layers.ReLU(dtype=dtype)(inputs)
    depthwise = layers.DepthwiseConv2D(
        3, strides, depth_multiplier=3, use_bias=False, activation=activation, dtype=dtype
    )
    x = depthwise(x)
    apart = layers.Reshape((*x.shape[1:3], 5, 4, 3), dtype=dtype)(x)
    parts = [apart[:, :, :, :, i] for i in range(4) if i not in skipped]
    x = layers.Reshape((*x.shape[1:3], 15), dtype=dtype)(sum(parts, start))
    outputs = [layers.ReLU(dtype=dtype)(layers.BatchNormalization(dtype=dtype)(x))]
    return randomized(keras.Model(inputs, [*outputs, parts[0]] if used_again else outputs))


@pytest.mark.parametrize("start, strides, dtype", [(0, 1, "float32"), (2.5, 2, "float32"), (0, 1, "float64")], ids=str)
def test_a_sum_of_depthwise_results_is_one_convolution_of_groups(start, strides, dtype):
    model = sums_of_depthwise(start, strides=strides, dtype=dtype)
    check(model, IMAGES.astype(dtype))
    kernels = [name for name in kernels_of(model) if name != "copy"]  # a float64 model copies its input
    assert kernels == ["relu.forward", "forward_bands"]
    model.layers[2].kernel.assign(model.layers[2].kernel * 2)
    check(model, IMAGES.astype(dtype))


@pytest.mark.parametrize("other", [{"activation": "relu"}, {"used_again": True}, {"skipped": (2,)}], ids=str)
def test_other_sums_of_depthwise_results_stay_as_they_are(other):
    model = sums_of_depthwise(**other)
    check(model, IMAGES)
    assert len(kernels_of(model)) > 5


def test_threads_predict_while_weights_change():
    model = convolutional()
    model.predict(IMAGES)
    old = eager(model, IMAGES)[1]
    doubled = [w * 1.5 for w in model.get_weights()]
    stop = threading.Event()
    results: list = []

    def serve():
        while not stop.is_set():
            results.append(model.predict(IMAGES)[1])

    def write():
        try:
            model.set_weights(doubled)
            new = eager(model, IMAGES)[1]
            for _ in range(20):
                np.testing.assert_allclose(model.predict(IMAGES)[1], new, rtol=1e-4, atol=1e-4 * abs(new).max())
            return new
        finally:
            stop.set()

    new, *_ = at_once(write, serve, serve, serve)
    for result in results:
        assert any(np.allclose(result, one, rtol=1e-4, atol=1e-4 * abs(one).max()) for one in (old, new))


def test_what_needs_more_memory_than_its_weights_is_not_kept():
    model = keras.Sequential([layers.Input((20, 20, 64)), layers.Conv2D(64, 3), layers.BatchNormalization()])
    x = np.random.default_rng(0).normal(size=(1, 20, 20, 64)).astype("f")
    model.predict(x)
    assert program_of(model).prepares
    model.quantize("int8", beyond_keras=True)
    np.testing.assert_allclose(model.predict(x), np.asarray(model(x)), rtol=1e-5, atol=1e-5)
    program = program_of(model)
    assert all(memory.nbytes <= 65536 for memory in program.memories if memory.kind == PREPARED)


def test_threads_that_watch_the_same_weight_are_all_told():
    weight = device.persistent_empty((4,), np.float32)
    owner = id(device.root(weight))

    class Watcher:
        stale = False

    watchers = [Watcher() for _ in range(400)]
    at_once(*[lambda part=watchers[i::4]: [device.watch([owner], each) for each in part] for i in range(4)])
    device.write(weight, 1.0)
    assert all(each.stale for each in watchers)
    del watchers[1:]
    device.watch([owner], Watcher())
    assert len(device._watched[owner]) <= 3, "those that are gone are not kept"
