"""Training with the user's own steps and losses, several optimizers, metrics added in layers, data of other libraries."""

import re

import numpy as np
import pytest
from arrays import assert_close
from counting import counted
from made_models import compiled
from own_models import Around

from nbkeras import GradientTape, Input, Model, Sequential, backend, layers, losses, metrics, ops, optimizers, random
from nbkeras.callbacks import Callback
from nbkeras.models import clone_model
from nbkeras.utils import PyDataset, set_random_seed

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 4)).astype(np.float32)
Y = RNG.standard_normal((32, 1)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 32)


def net(outputs=1):
    return Sequential([Input((4,)), layers.Dense(8, "relu"), layers.Dense(outputs)])


class Step(Model):
    """As Keras's guide on `train_step` has it."""

    def train_step(self, data):
        x, y, *weights = data
        with GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, *weights)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return self.track(y, y_pred, loss, *weights)

    def test_step(self, data):
        x, y, *weights = data
        y_pred = self(x, training=False)
        return self.track(y, y_pred, self.compute_loss(x, y, y_pred, *weights), *weights)

    def track(self, y, y_pred, loss, *weights):
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, y_pred, *weights)
        return {metric.name: metric.result() for metric in self.metrics}


def two_outputs(cls):
    set_random_seed(3)
    inputs = Input((4,))
    return cls(inputs, [layers.Dense(3, "softmax", name="a")(inputs), layers.Dense(1, name="b")(inputs)])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_train_step_reports_what_compile_asked_for(weighted):
    weights = {"sample_weight": np.linspace(0.5, 1.5, 32)} if weighted else {}
    results = []
    for cls in (Step, Model):
        model = two_outputs(cls)
        if cls is Step:
            model.train_step = counted(model.train_step)
        loss = ["sparse_categorical_crossentropy", "mse"]
        model.compile("adam", loss, [["accuracy"], ["mae"]], weighted_metrics=[[], ["mse"]] if weighted else None)
        history = model.fit(X, [CLASSES, Y], 8, 3, 0, shuffle=False, **weights).history
        results.append((history, model.evaluate(X, [CLASSES, Y], verbose=0, return_dict=True), model.get_weights()))
        if cls is Step:
            assert model.train_step.calls == 1
    (own, own_values, own_weights), (built_in, values, expected) = results
    assert_close(own_weights, expected, rtol=1e-5, atol=1e-6)
    for name in ("loss", "a_accuracy", "b_mae", *(["b_mse"] if weighted else [])):
        np.testing.assert_allclose(own[name], built_in[name], rtol=1e-5)
        np.testing.assert_allclose(own_values[name], values[name], rtol=1e-5)


class GAN(Model):
    """Two networks, two optimizers, no `call`."""

    def __init__(self):
        super().__init__()
        self.d = Sequential([Input((4,)), layers.Dense(8), layers.LeakyReLU(0.2), layers.Dense(1)])
        self.g = Sequential([Input((3,)), layers.Dense(8, "relu"), layers.Dense(4)])
        self.seed = random.SeedGenerator(1)
        self.d_loss, self.g_loss = metrics.Mean("d_loss"), metrics.Mean("g_loss")

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile(optimizer=None)
        self.d_optimizer, self.others, self.loss_fn = d_optimizer, [g_optimizer], loss_fn

    @property
    def metrics(self):
        return [self.d_loss, self.g_loss]

    def train_step(self, real):  # x alone comes as it is
        count = ops.shape(real)[0]
        both = ops.concatenate([self.g(random.normal((count, 3), seed=self.seed)), real], axis=0)
        labels = ops.concatenate([ops.ones((count, 1)), ops.zeros((count, 1))], axis=0)
        with GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.d(both))
        gradients = tape.gradient(d_loss, self.d.trainable_weights)
        self.d_optimizer.apply_gradients(zip(gradients, self.d.trainable_weights, strict=True))
        noise = random.normal((count, 3), seed=self.seed)
        with GradientTape() as tape:
            g_loss = self.loss_fn(ops.zeros((count, 1)), self.d(self.g(noise)))
        gradients = tape.gradient(g_loss, self.g.trainable_weights)
        self.others[0].apply_gradients(zip(gradients, self.g.trainable_weights, strict=True))
        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return {"d_loss": self.d_loss.result(), "g_loss": self.g_loss.result()}


def test_a_gan_is_recorded_and_both_learning_rates_follow_their_schedules():
    def trained(eagerly):
        set_random_seed(2)
        gan = GAN()
        rates = [optimizers.schedules.ExponentialDecay(rate, 1, 0.5) for rate in (0.1, 0.2)]
        gan.compile(optimizers.Adam(rates[0]), optimizers.SGD(rates[1]), losses.BinaryCrossentropy(from_logits=True))
        gan.run_eagerly = eagerly
        gan.train_step = counted(gan.train_step)
        history = gan.fit(X, epochs=2, batch_size=8, shuffle=False, verbose=0).history
        return gan, history

    gan, history = trained(False)
    eager, expected = trained(True)
    assert gan.train_step.calls == 2 and int(gan.d_optimizer.iterations) == 8  # the first run makes the slots
    np.testing.assert_allclose(float(gan.d_optimizer.learning_rate), 0.1 * 0.5**8)
    assert history == expected and list(history) == ["d_loss", "g_loss"]
    np.testing.assert_equal(gan.get_weights(), eager.get_weights())


class InPython(optimizers.schedules.PiecewiseConstantDecay):
    """A schedule that recorded steps cannot compute."""

    def __call__(self, step):
        return super().__call__(step)


def model_of_updates(count, rates, kind=optimizers.schedules.PiecewiseConstantDecay):
    """A model with a step that subtracts the rate from the weights `count` times, by an optimizer that is not its attribute."""
    hidden = optimizers.SGD(kind([0], rates))

    class Own(Model):
        def train_step(self, data):
            weight = self.trainable_variables[0]
            for _ in range(count):
                hidden.apply([ops.ones(weight.shape)], [weight])
            return {"sum": ops.sum(weight)}

    inputs = Input((4,))
    model = compiled(Own(inputs, layers.Dense(1, kernel_initializer="zeros")(inputs)), "sgd", None)
    return model


@pytest.mark.parametrize("kind", [optimizers.schedules.PiecewiseConstantDecay, InPython])
def test_a_recorded_step_follows_the_schedule_of_an_optimizer_that_is_no_attribute_of_the_model(kind):
    model = model_of_updates(1, [1.0, 0.0], kind)
    model.fit(X, Y, 8, verbose=0)
    assert model._steps["train"].recordings == 1
    np.testing.assert_array_equal(model.get_weights()[0], np.full((4, 1), -1))


def test_a_step_with_two_updates_by_one_schedule_in_python_runs_eagerly():
    """The second rate depends on the count of steps after the first update."""
    model = model_of_updates(2, [1.0, 0.25], InPython)
    with pytest.warns(UserWarning, match="runs eagerly"):
        model.fit(X, Y, 16, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], np.full((4, 1), -1.75))


def test_metrics_added_in_calls():
    class Means(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = metrics.Mean("own")

        def call(self, x):
            self.add_metric(ops.sum(x), name="sum")
            self.add_metric(self.mean(x), name="own")  # which reports itself
            return x

    model = compiled(Sequential([Input((4,)), Means(), layers.Dense(1)]))
    history = model.fit(np.ones((8, 4)), np.ones((8, 1)), 4, 2, 0, validation_data=(np.ones((4, 4)), Y[:4])).history
    assert history["sum"] == history["val_sum"] == [16.0, 16.0] and history["own"] == [1.0, 1.0]
    with pytest.raises(ValueError, match="needs a name to report the value under"):
        model.add_metric(ops.ones(()))
    model.layers[0].other = metrics.Mean("own")
    with pytest.raises(ValueError, match="several metrics named 'own'"):
        model.layers[0](np.ones((1, 4)))


def test_metrics_added_to_a_functional_model():
    inputs = Input((1,))
    outputs = layers.Dense(1, kernel_initializer="ones", trainable=False)(inputs)
    model = Model(inputs, layers.Dense(1, kernel_initializer="zeros")(outputs))
    model.add_metric(backend.sum(outputs), name="sum")
    model.add_metric(metrics.Mean("mean")(outputs))
    model.compile("sgd", "mse", ["mae"])
    assert [metric.name for metric in model.metrics] == ["loss", "sum", "mean"]
    history = model.fit(np.ones((10, 1)), np.zeros((10, 1)), 5, 2, 0).history
    assert history == {"loss": [0, 0], "mae": [0, 0], "mean": [1, 1], "sum": [5, 5]}
    assert model.evaluate(np.ones((10, 1)), np.zeros((10, 1)), 5, verbose=0) == [0, 0, 5, 1]
    assert model.metrics_names == ["loss", "mae", "sum", "mean"]


def test_class_weights_of_several_outputs():
    table = {0: 2.0, 2: 0.5}
    factors = np.array([2.0, 1.0, 0.5])[CLASSES]
    values = []
    for options in (
        {"class_weight": {"a": table}},
        {"class_weight": [table, None]},
        {"sample_weight": {"a": factors}},
    ):
        model = compiled(two_outputs(Model), "sgd", ["sparse_categorical_crossentropy", "mse"])
        values.append(model.fit(X, [CLASSES, Y], 8, 2, 0, shuffle=False, **options).history["loss"])
    np.testing.assert_allclose(values[0], values[2], rtol=1e-6)
    np.testing.assert_allclose(values[1], values[2], rtol=1e-6)
    with pytest.raises(ValueError, match="must be a dict by output name"):
        model.fit(X, [CLASSES, Y], class_weight=table, verbose=0)
    with pytest.raises(ValueError, match="'c', which is not an output"):
        model.fit(X, [CLASSES, Y], class_weight={"c": table}, verbose=0)


class Loader:
    """Batches as lists, as PyTorch's DataLoader gives them; without a length, as of some of tf.data's data sets."""

    def __init__(self, *arrays, length=4):
        self.arrays, self.length = arrays, length

    def __len__(self):
        if self.length is None:
            raise TypeError("The dataset length is unknown.")
        return self.length

    def __iter__(self):
        for start in range(0, 32, 8):
            yield [array[start : start + 8] for array in self.arrays]


@pytest.mark.parametrize("length", [4, None])
def test_loaders_of_other_libraries(length):
    model, same = net(), net()
    same.set_weights(model.get_weights())
    for each in (model, same):
        each.compile("sgd", "mse")
    history = model.fit(Loader(X, Y, length=length), epochs=2, verbose=0, validation_data=Loader(X, Y)).history
    expected = same.fit(X, Y, 8, 2, 0, validation_data=(X, Y), validation_batch_size=8, shuffle=False).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(model.predict(Loader(X, Y)), same.predict(X), rtol=1e-5, atol=1e-6)


def test_lists_for_several_inputs():
    a, b = Input((2,)), Input((2,))
    model = Model([a, b], layers.Dense(1)(layers.concatenate([a, b])))
    halves = X[:, :2].copy(), X[:, 2:].copy()
    np.testing.assert_allclose(model.predict(Loader(*halves)), model.predict(halves), rtol=1e-5)
    model.compile("sgd", "mse")
    model.fit(([[x[:8] for x in halves], Y[:8]] for _ in range(2)), verbose=0)


def test_compile_configuration():
    model = net()
    assert model.get_compile_config() is None
    model.compile(optimizers.Adam(0.25), losses.Huber(), ["mae"], jit_compile=False, steps_per_execution=4)
    assert (model.jit_compile, model.steps_per_execution, model.run_eagerly) == (False, 4, False)
    other = net()
    other.compile_from_config(model.get_compile_config())
    assert float(other.optimizer.learning_rate) == 0.25 and isinstance(other.loss, losses.Huber)
    assert other.get_compile_config() == model.get_compile_config() and other.optimizer.built
    other.fit(X, Y, verbose=0)
    assert len(other.metrics_variables) == 4
    with pytest.raises(TypeError, match="Did you mean 'metrics'"):
        model.compile("sgd", "mse", metric=["mae"])


def printed(model, **options):
    lines = []
    model.summary(print_fn=lines.append, **options)
    return lines


def test_summary_options():
    model = Sequential([Input((4,)), layers.Dense(4, name="one"), net(), layers.Dense(2, name="two")])
    assert [w for w in ("one", "two") if any(line.startswith(w) for line in printed(model))] == ["one", "two"]
    inner = [line for line in printed(model, expand_nested=True) if line.startswith("  dense")]
    assert len(inner) == 2
    shown = printed(model, layer_range=["two", "t.*"], show_trainable=True)
    assert not any(line.startswith("one") for line in shown) and any(re.match("two.*Y$", line) for line in shown)
    lines = printed(model, line_length=60, positions=[0.5, 0.8, 1.0])
    assert lines[2].index("Output Shape") == 30 and lines[2].index("Param #") == 48
    for wrong, message in ((["one"], "first and the last"), (["one", "three"], "no layer's name fits")):
        with pytest.raises(ValueError, match=message):
            model.summary(layer_range=wrong)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_summary_fits_the_terminal_and_loses_nothing(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    images = Input((32, 32, 3), name="images")
    first = layers.Conv2D(8, 3, padding="same", name="first_convolution_of_the_network")(images)
    model = Model(images, layers.add([first, layers.Conv2D(8, 3, padding="same")(first)]))
    for lines, width in ((printed(model, show_trainable=True), columns), (printed(model, line_length=100), 100)):
        table = lines[: next(i for i, line in enumerate(lines) if line.startswith("Total"))]
        assert max(map(len, table)) == len(table[1]) == width
        starts = [table[2].index(name) for name in ("Layer", "Output", "Param", "Connect")]
        cells = ["".join(line[a:b].strip() for line in table) for a, b in zip(starts, starts[1:], strict=False)]
        assert cells[1].replace(" ", "").count("(None,32,32,8)") == 3
        assert "first_convolution_of_the_network" in cells[0].replace(" ", "")


def test_a_summary_counts_the_optimizer():
    model = net()
    weights = sum(weight.size for weight in model.weights)
    model.compile("adam", "mse")
    assert not any("Optimizer" in line for line in printed(model))
    model.fit(X, Y, verbose=0)
    text = "\n".join(printed(model))
    assert f"Optimizer params: {2 * weights + 2} (" in text and f"Total params: {3 * weights + 2} (" in text


def test_a_summary_of_a_subclass_shows_shapes():
    model = Around(layers.Dense(3))
    assert any(line.split()[-3:] == ["?", "0", "(unbuilt)"] for line in printed(model))
    model(np.ones((5, 4), "float32"))
    assert any("(5, 3)" in line for line in printed(model))


def test_clones_with_other_layers_and_calls():
    inputs = Input((4,), name="x")
    shared = layers.Dense(4, name="shared")
    inner = Sequential([Input((4,)), layers.Dense(4, name="deep")], name="inner")
    model = Model(inputs, inner(shared(shared(inputs))) + inputs)
    called = []

    def call(layer, *args, **kwargs):
        called.append(layer.name)
        outputs = layer(*args, **kwargs)
        return layers.Dropout(0.5)(outputs) if isinstance(layer, layers.Dense) else outputs

    def copy(layer):
        return type(layer).from_config(
            {**layer.get_config(), **({"units": 4, "use_bias": False} if "units" in vars(layer) else {})}
        )

    clone = clone_model(model, clone_function=copy, call_function=call, recursive=True)
    assert called[:3] == ["shared", "shared", "inner"] and len(clone.layers) == len(model.layers) + 2
    assert [w.shape for w in clone.weights] == [(4, 4), (4, 4)]
    same = clone_model(model, clone_function=lambda layer: layer)
    assert same.weights == model.weights
    np.testing.assert_array_equal(same.predict(X), model.predict(X))
    other = clone_model(model, input_tensors=Input((4,), name="z"))
    assert other.input_names == ["z"] and other.layers[1].name == "shared"
    assert clone_model(net(), input_tensors=Input((4,))).predict(X).shape == (32, 1)
    with pytest.raises(ValueError, match="for functional models"):
        clone_model(net(), call_function=call)
    with pytest.raises(ValueError, match="1 symbolic tensors"):
        clone_model(model, input_tensors=X)
    with pytest.raises(ValueError, match="not a functional model"):
        clone_model(GAN(), clone_function=copy)


class Line(Model):
    """A functional model of a class whose constructor takes no tensors."""

    def __init__(self, units, **kwargs):
        x = Input((4,))
        super().__init__(x, layers.Dense(units)(x), **kwargs)


class Named(Model):
    """A functional model of a class of its own, made from tensors."""


def test_clones_of_models_of_your_own():
    x = Input((4,))
    model = Named(x, layers.Dense(1)(x), name="n")
    model.trainable = False
    clone = clone_model(model)
    assert type(clone) is Named and clone.name == "n" and not clone.trainable_weights
    assert type(clone_model(Line(2))) is Model and clone_model(Line(2)).output_shape == (None, 2)


def test_weights_without_gradients():
    inputs = Input((4,))
    used, unused = layers.Dense(1, name="used"), layers.Dense(1, name="unused")
    whole_numbers = ops.cast(ops.cast(unused(inputs), "int32"), "float32")
    model = compiled(Model(inputs, used(inputs) + whole_numbers), optimizers.SGD(0.1, weight_decay=0.5))
    before = model.get_weights()
    with pytest.warns(UserWarning, match="do not exist for variables .*unused/kernel"):
        model.fit(X, Y, 8, 2, 0)
    after = model.get_weights()
    changed = {w.path for w, a, b in zip(model.weights, before, after, strict=True) if not np.array_equal(a, b)}
    assert changed == {"used/kernel", "used/bias"}
    model = compiled(Model(inputs, whole_numbers))
    with pytest.raises(ValueError, match="no gradient for any of the variables .*unused/kernel"):
        model.fit(X, Y, verbose=0)


class Shrinking(PyDataset):
    """Batches that grow and become fewer from epoch to epoch."""

    size = 4

    def __init__(self):
        super().__init__()
        self.made = []

    def __len__(self):
        return -(-32 // self.size)

    def __getitem__(self, index):
        self.made.append(index)
        rows = slice(index * self.size, (index + 1) * self.size)
        return X[rows], Y[rows]

    def on_epoch_end(self):
        self.size *= 2


def test_a_sequence_that_changes_its_length():
    class Steps(Callback):
        def __init__(self):
            self.steps, self.batches = [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.steps.append(self.params["steps"])

        def on_train_batch_begin(self, batch, logs=None):
            self.batches.append(batch)

    model, data, seen = net(), Shrinking(), Steps()
    model.compile("sgd", "mse")
    model.fit(data, epochs=3, verbose=0, callbacks=[seen], shuffle=False)
    assert model.predict((x, ["no", "targets"]) for x in (X[:8], X[8:])).shape == (32, 1)
    assert seen.steps == [8, 4, 2]
    assert seen.batches == data.made == [*range(8), *range(4), *range(2)]  # each batch is made once


@pytest.mark.parametrize("x, kind", [(X, "array"), ([X, X], "tuple of a list"), ({"a": X, "b": X}, "dict")])
def test_a_step_gets_inputs_without_targets_as_keras_packs_them(x, kind):
    seen = []

    class Alone(Model):
        def call(self, inputs):
            return inputs if kind == "array" else inputs[0] if kind == "tuple of a list" else inputs["a"]

        def _note(self, data):
            inside = f"tuple of a {type(data[0]).__name__}" if isinstance(data, tuple) else type(data).__name__
            seen.append({"Tensor": "array"}.get(inside, inside))
            return {"loss": ops.sum(X)}

        train_step = test_step = _note

    model = Alone()
    model.compile()
    model.fit(x, verbose=0)
    model.evaluate(x, verbose=0)
    assert seen == [kind, kind]


def test_a_model_with_a_build_of_its_own_that_goes_on_with_the_inherited_one():
    class Scaled(Around):
        def build(self, shape):
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones")
            super().build(shape)

        def call(self, x):
            return super().call(x * self.scale)

    model = compiled(Scaled(layers.Dense(1)))
    model.fit(X, Y, verbose=0)
    built = Scaled(layers.Dense(1))
    built.build((None, 4))
    assert [len(each.weights) for each in (model, built)] == [3, 3] and built.built

    class Wrong(Scaled):
        def call(self, x):
            return super().call(ops.reshape(x, (-1, 7)))

    wrong = Wrong(layers.Dense(1))
    with pytest.raises(ValueError, match=r"reshape: cannot put 8 elements of shape \(2, 4\) into shape \(-1, 7\)"):
        wrong.build((None, 4))
    assert not wrong.built


class Images(Model):
    """Its first layers need larger images than a few pixels."""

    def __init__(self, flat=False):
        super().__init__()
        self.convolutions = [layers.Conv2D(2, 3, strides=2) for _ in range(4)]
        self.pool, self.normal, self.dense = layers.MaxPooling2D(3), layers.BatchNormalization(), layers.Dense(3)
        self.last = layers.Flatten() if flat else layers.GlobalAveragePooling2D()

    def call(self, x, training=None):
        for each in self.convolutions:
            x = each(x)
        return {"scores": self.dense(self.last(self.normal(self.pool(x), training=training)))}


def test_build_with_unknown_sizes():
    model = Images()
    model.build((None, None, None, 3))
    assert model.output_names == ["scores"] and model.dense.kernel.shape == (2, 3)
    for size in (63, 80):
        assert model.predict(np.ones((1, size, size, 3)), verbose=0)["scores"].shape == (1, 3)
    with pytest.raises(
        ValueError, match="cannot be built for the shape .*its call fails with all sizes that were tried for"
    ):
        Images(flat=True).build((None, None, None, 3))
    known = Images(flat=True)
    known.build((None, 63, 80, 3))
    assert known.dense.kernel.shape == (2, 3)


def test_a_step_of_ones_own_gets_batches_that_are_no_inputs_of_the_graph():
    """For example pairs of samples, which the step takes apart before it calls the model on each."""

    class Pairs(Model):
        def train_step(self, data):
            first, second = data[0], data[1]
            with GradientTape() as tape:
                loss = ops.mean((self(first) - self(second)) ** 2)
            self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            return {"loss": loss}

    inputs = Input((4,))
    model = compiled(Pairs(inputs, layers.Dense(2)(inputs)), "sgd", None)
    batches = (np.stack([X[:8], X[8:16]]) for _ in range(2))
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"][0])
    assert model.predict(X).shape == (32, 2)


@pytest.mark.parametrize("y", [Y, [Y], [Y, None], {"a": Y}])
def test_targets_of_the_outputs_that_have_a_loss(y):
    inputs = Input((4,))
    model = Model(
        inputs, [layers.Dense(1, name="a", kernel_initializer="ones")(inputs), layers.Dense(2, name="b")(inputs)]
    )
    model.compile("sgd", ["mse", None])
    with pytest.warns(UserWarning, match=r"gradients do not exist for variables \['b/kernel', 'b/bias'\]"):
        history = model.fit(X, y, epochs=1, batch_size=32, verbose=0).history
    np.testing.assert_allclose(history["loss"], np.mean((X.sum(1, keepdims=True) - Y) ** 2), rtol=1e-5)


def test_a_model_without_a_call_has_the_losses_and_metrics_of_compile_too():
    class Parts(Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def train_step(self, data):
            x, y = data
            with GradientTape() as tape:
                logits = self.dense(x)
                loss = self.compute_loss(x, y, logits)
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            for metric in self.metrics:
                metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, logits)
            return {metric.name: metric.result() for metric in self.metrics}

    model = compiled(Parts(), "adam", losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(X, CLASSES, epochs=3, verbose=0).history
    assert history["loss"][2] < history["loss"][0] and set(history) >= {"loss", "accuracy"}


class Targets(Around):
    """A step that gets other targets than there are outputs."""

    def train_step(self, data):
        x, y = data
        self.seen = type(y), [each.shape for each in y]
        return {"loss": ops.sum(self(x)) + sum(ops.sum(each) for each in y)}


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_step_of_its_own_gets_a_list_of_targets_as_it_is(kind):
    model = Targets(layers.Dense(1))
    model.compile()
    history = model.fit(X, kind([Y, np.zeros((32, 2, 3), "float32")]), batch_size=16, shuffle=False, verbose=0)
    assert model.seen == (kind, [(16, 1), (16, 2, 3)])
    expected = float(np.sum(model.predict(X[16:], verbose=0)) + np.sum(Y[16:]))
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-4)


def test_a_loss_of_its_own_gets_a_dict_of_targets():
    class Weighed(Around):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y["of"] - y_pred) * y["by"])

    model = compiled(Weighed(layers.Dense(1, kernel_initializer="ones")), "sgd", None)
    y = {"of": np.full((4, 1), 2.0), "by": np.full((4, 1), 3.0)}
    assert model.fit(np.ones((4, 1)), y, verbose=0).history["loss"] == [3.0]
    assert model.evaluate(np.ones((4, 1)), y, verbose=0) < 3


def test_a_step_of_its_own_gets_rows_as_one_array():
    model = Targets(layers.Dense(1))
    model.compile()
    model.fit(X[:2], [np.ones(3), np.ones(3)], shuffle=False, verbose=0)
    assert model.seen[1] == [(3,), (3,)]
