"""The models of test_distribution.py: each is trained by one process or by several, which must end with the same numbers.

`mpiexec -n 3 python ranks_script.py <floatx> <file>` writes the results of rank 0 into a file of NumPy. Each rank checks that its
results are those of the others.
"""

import os
import sys
import warnings

import numpy as np

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.engine import ranks

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def data(rows=22, features=6, outputs=3, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, features)), random.normal(size=(rows, outputs))


def trained(model, x, y, epochs=2, batch_size=8, more=(), **options):
    """The results of a training: weights, states, optimizer, history, evaluation, predictions."""
    compiled = {"optimizer": keras.optimizers.Adam(0.01), "loss": "mse", **options.pop("compile", {})}
    model.compile(**compiled)
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, **options)
    found = {f"weight {i}": w for i, w in enumerate(model.get_weights())}
    found |= {f"state {i}": v.numpy() for i, v in enumerate(model._states_variables)}
    found |= {f"optimizer {i} {v.name}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    found |= {f"history {name}": np.array(values) for name, values in history.history.items()}
    if not keras_stream(x):
        logs = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
        found |= {f"evaluated {name}": np.array(value) for name, value in logs.items()}
        outputs = model.predict(x, batch_size=batch_size, verbose=0)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        found |= {f"predicted {i}": output for i, output in enumerate(outputs)}
    return found


def keras_stream(x):
    return not isinstance(x, np.ndarray | list | dict)


@case
def dense_and_dropout():
    model = keras.Sequential([layers.Dense(16, "relu", input_shape=(6,)), layers.Dropout(0.4), layers.Dense(3)])
    return trained(model, *data(), compile={"metrics": ["mae", "cosine_similarity"]})


@case
def few_rows():
    """The last batch has one row, so that ranks have none."""
    model = keras.Sequential(
        [
            layers.Dense(5, use_bias=False, input_shape=(6,)),
            layers.BatchNormalization(synchronized=True),
            layers.Dense(3),
        ]
    )
    return trained(model, *data(rows=9), compile={"metrics": ["mae"]})


@case
def noises():
    model = keras.Sequential(
        [
            layers.Dense(5, "relu", input_shape=(6,)),
            layers.GaussianNoise(0.1),
            layers.GaussianDropout(0.2),
            layers.AlphaDropout(0.2),
            layers.Reshape((5, 1)),
            layers.TimeDistributed(layers.Dropout(0.3)),
            layers.SpatialDropout1D(0.2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    return trained(model, *data(), validation_split=0.2)


@case
def batch_normalization():
    x, y = data()
    model = keras.Sequential(
        [
            layers.Reshape((3, 2, 1), input_shape=(6,)),
            # Adam makes steps of a gradient that is 0 up to rounding
            layers.Conv2D(4, 2, padding="same", use_bias=False),
            layers.BatchNormalization(synchronized=True, momentum=0.5),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    return trained(model, x, y, validation_data=(x[:5], y[:5]))


@case
def stateful_lstm():
    random = np.random.default_rng(3)
    x, y = random.normal(size=(21, 4, 2)), random.normal(size=(21, 3))
    inputs = keras.Input(batch_shape=(7, 4, 2))
    hidden = layers.LSTM(5, stateful=True, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.GRU(4, stateful=True)(hidden)))
    return trained(model, x, y, batch_size=7, shuffle=False)


@case
def embedding():
    random = np.random.default_rng(4)
    x, y = random.integers(0, 50, (22, 5)), random.normal(size=(22, 3))
    model = keras.Sequential([layers.Embedding(50, 4), layers.Flatten(), layers.Dense(3)])
    model.build((None, 5))
    return trained(model, x, y, compile={"optimizer": keras.optimizers.SGD(0.1)})


@case
def masks():
    random = np.random.default_rng(5)
    x = random.integers(1, 30, (22, 6)) * (np.arange(6) < random.integers(1, 7, (22, 1)))
    y = random.normal(size=(22, 6, 2))
    model = keras.Sequential(
        [layers.Embedding(30, 4, mask_zero=True), layers.LSTM(5, return_sequences=True), layers.Dense(2)]
    )
    model.build((None, 6))
    return trained(
        model, x, y, compile={"metrics": ["mae"], "weighted_metrics": ["mse"]}, sample_weight=np.linspace(0, 1, 22)
    )


@case
def reductions():
    x, y = data()
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "tanh", activity_regularizer="l2", kernel_regularizer="l2")(inputs)
    outputs = [layers.Dense(3, name=name)(hidden) for name in ("a", "b", "c")]
    model = keras.Model(inputs, outputs)
    loss = [
        keras.losses.MeanSquaredError(reduction="sum"),
        keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight"),
        keras.losses.Huber(),
    ]
    weights = [np.linspace(0, 2, 22), np.linspace(1, 0, 22), np.ones(22)]
    options = {"loss": loss, "loss_weights": [0.1, 1.0, 2.0], "metrics": [["mae"], ["mse"], []]}
    return trained(model, x, [y, y, 2 * y], compile=options, sample_weight=weights)


@case
def class_weights():
    x, _ = data()
    y = np.arange(22) % 3
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3, activation="softmax")])
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
    return trained(model, x, y, compile=options, class_weight={0: 1.0, 1: 2.0, 2: 0.5})


@case
def metrics():
    x, y = data()
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3, activation="sigmoid")])
    kinds = [
        keras.metrics.AUC(),
        keras.metrics.Precision(),
        keras.metrics.F1Score(threshold=0.5),
        keras.metrics.R2Score(),
    ]
    kinds += ["root_mean_squared_error", mean_of_batch]
    return trained(model, x, (y > 0).astype(float), compile={"loss": "binary_crossentropy", "metrics": kinds})


def mean_of_batch(y_true, y_pred):
    return ops.mean(y_pred)


class Largest(keras.metrics.Metric):
    def __init__(self, name="largest"):
        super().__init__(name)
        self.largest = self.add_weight(initializer="zeros", aggregation="max")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))

    def result(self):
        return self.largest


@case
def whole_batches():
    """Losses, metrics and layers that depend on all rows of a batch."""

    class Draws(layers.Layer):
        def build(self, shape):
            self.generator = self.add_seed_generator()

        def call(self, x, training=None):
            mean, variance = ops.moments(x, [0], keepdims=True, synchronized=True)
            noise = keras.random.gamma(x.shape, 2.0, seed=self.generator) + keras.random.truncated_normal(x.shape)
            return (x - mean) * ops.rsqrt(variance + 0.1) + (0.1 * noise if training else 0.0)

    x, y = data()
    model = keras.Sequential(
        [layers.Dense(4, use_bias=False, input_shape=(6,)), Draws(), layers.Dense(3, activation="sigmoid")]
    )
    options = {"loss": keras.losses.Dice(), "metrics": [keras.losses.Tversky(alpha=0.3), Largest()]}
    return trained(model, x, (y > 0).astype(float), compile=options)


@case
def not_finite():
    """A step of which one row has no finite loss is left out by all ranks."""
    x, y = data()
    y[9] = np.nan
    model = keras.Sequential(
        [
            layers.Dense(4, use_bias=False, input_shape=(6,)),
            layers.BatchNormalization(synchronized=True),
            layers.Dense(3),
        ]
    )
    model.compile("adam", "mse")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert ["so are the data: y has 3 NaN" in str(each.message) for each in found] == [True]
    return {f"weight {i}": w for i, w in enumerate(model.get_weights())}


@case
def averages_and_accumulation():
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3)])
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2)
    return trained(model, *data(), compile={"optimizer": optimizer}, epochs=3)


@case
def clipped():
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3)])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5)
    found = trained(model, *data(), compile={"optimizer": optimizer})
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3)])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, clipnorm=0.3, gradient_accumulation_steps=2)
    )
    return found | {
        f"scaled {name}": value for name, value in trained(model, *data(), compile={"optimizer": optimizer}).items()
    }


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        x, y = data(rows=5 + index, seed=index)
        return x, y


@case
def sequence():
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dropout(0.5), layers.Dense(3)])
    return trained(model, Batches(), None)


@case
def generator():
    def batches():
        for index in range(6):
            yield data(rows=2 + index, seed=index)

    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dropout(0.5), layers.Dense(3)])
    return trained(model, batches(), None, steps_per_epoch=3)


class Own(keras.Model):
    """A step of its own, with a loss that is added, and a metric."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, "tanh"), layers.Dense(3)
        self.norm = layers.BatchNormalization(synchronized=True)
        self.mean = keras.metrics.Mean(name="mean")

    def call(self, x, training=None):
        hidden = self.norm(self.hidden(x), training=training)
        self.add_loss(0.1 * ops.mean(ops.square(hidden)))
        return self.out(hidden)

    def train_step(self, batch):
        x, y = batch
        with keras.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.mean.update_state(loss)
        return {"mean": self.mean.result(), "own": loss}


@case
def own_step():
    x, y = data()
    model = Own()
    model.compile("sgd", "mse")
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    return {f"weight {i}": w for i, w in enumerate(model.get_weights())} | {k: np.array(v) for k, v in history.items()}


@case
def one_batch_at_a_time():
    x, y = data()
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dropout(0.5), layers.Dense(3)])
    model.compile("adam", "mse", metrics=["mae"])
    found = {}
    for i in range(3):
        logs = model.train_on_batch(x[: 7 * (i + 1)], y[: 7 * (i + 1)], return_dict=True, reset_metrics=i != 1)
        found |= {f"{name} {i}": np.array(value) for name, value in logs.items()}
    found["tested"] = np.array(model.test_on_batch(x, y))
    return found | {f"weight {i}": w for i, w in enumerate(model.get_weights())}


class Watch(keras.callbacks.Callback):
    """Reads the logs of batches, which are those of all rows."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs["loss"])


@case
def callbacks():
    watch = Watch()
    model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dense(3)])
    stop = keras.callbacks.EarlyStopping("loss", min_delta=0.2, patience=0, restore_best_weights=True)
    found = trained(model, *data(), epochs=6, callbacks=[watch, stop])
    return found | {"batches": np.array(watch.seen)}


def own_data(group):
    """Ranks that are given their own data train as one process does on batches of their rows together."""
    parts = [data(rows=9 + 4 * rank, seed=rank) for rank in range(group.size)]
    joined = []
    for start in range(0, 9 + 4 * group.size, 4):
        batch = [(x[start : start + 4], y[start : start + 4]) for x, y in parts if start < len(x)]
        if batch:
            joined.append([np.concatenate(arrays) for arrays in zip(*batch, strict=True)])
    found = []
    for shards in (False, True):
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=shards))
        keras.utils.set_random_seed(3)
        model = keras.Sequential([layers.Dense(8, "relu", input_shape=(6,)), layers.Dropout(0.5), layers.Dense(3)])
        model.compile("adam", "mse", metrics=["mae"])
        given = (map(tuple, joined),) if shards else parts[group.rank]
        options = {} if shards else {"batch_size": 4, "shuffle": False}
        history = model.fit(*given, verbose=0, **options).history
        found.append([*model.get_weights(), *map(np.array, history.values())])
        if not shards:
            own = parts[group.rank][0]
            np.testing.assert_allclose(model.predict(own, batch_size=4), model(own, training=False).numpy(), rtol=1e-5)
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-10)


def alone_again(group):
    """Without a distribution each process trains by itself."""
    keras.distribution.set_distribution(None)
    x, y = data(seed=group.rank)
    model = keras.Sequential([layers.Dense(3, use_bias=False, input_shape=(6,))])
    model.compile("sgd", "mse")
    model.fit(x, y, epochs=2, batch_size=22, verbose=0)
    weights = group.exchange(model.get_weights()[0])
    assert group.size == 1 or not np.array_equal(weights[0], weights[1])


def files(group, folder):
    """Rank 0 alone writes files and prints."""
    x, y = data()
    model = keras.Sequential([layers.Dense(3, input_shape=(6,))])
    model.compile("sgd", "mse", metrics=["mae"])
    calls = [
        keras.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
        keras.callbacks.ModelCheckpoint(os.path.join(folder, "{epoch}.weights.h5"), save_weights_only=True, verbose=1),
        keras.callbacks.ReduceLROnPlateau("loss", min_delta=10.0, patience=1, verbose=1),
    ]
    model.fit(x, y, epochs=2, batch_size=8, verbose=2, callbacks=calls)
    model.load_weights(os.path.join(folder, "2.weights.h5"))


def resumed(group, folder, last):
    """Training that is interrupted after `last` batches, if it comes there."""

    class Interruption(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.seen += 1
            if self.seen == last:
                raise SystemExit

    random = np.random.default_rng(3)
    x, y = random.normal(size=(28, 4, 2)), random.normal(size=(28, 3))
    inputs = keras.Input(batch_shape=(7, 4, 2))
    hidden = layers.LSTM(5, stateful=True, return_sequences=True, dropout=0.2)(inputs)
    hidden = layers.Dropout(0.3)(layers.BatchNormalization(synchronized=True)(hidden))
    model = keras.Model(inputs, layers.Dense(3)(layers.GRU(4, stateful=True)(hidden)))
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, gradient_accumulation_steps=3)
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=1, delete_checkpoint=False)
    calls = [Interruption(), backup, keras.callbacks.EarlyStopping("loss", patience=1)]
    validation = {"validation_data": (x[:14], y[:14]), "validation_batch_size": 7}
    return trained(model, x, y, epochs=3, batch_size=7, callbacks=calls, compile={"optimizer": optimizer}, **validation)


def main(floatx, path, folder="", last=""):
    keras.config.set_floatx(floatx)
    keras.set_threads(1)
    if "PMI_RANK" in os.environ:  # started by mpiexec
        keras.distribution.initialize()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    group = ranks.current() or ranks.Group()
    drawn = np.random.random(), keras.config.next_seed()
    assert group.exchange(drawn) == [drawn] * group.size
    found = {}
    cases = {"resumed": lambda: resumed(group, folder, int(last))} if last else CASES
    for name, run in cases.items():
        keras.utils.set_random_seed(7 + group.rank)  # weights and orders are rank 0's
        for key, value in run().items():
            found[f"{name}: {key}"] = value
    for others in group.exchange(found):
        for key, value in found.items():
            if "accumulator" not in key:  # rank 0 has the sum
                assert np.array_equal(value, others[key], equal_nan=True), key
    if group.rank == 0:
        np.savez(path, **found)
    if folder and not last:
        files(group, folder)
        own_data(group)
        alone_again(group)


if __name__ == "__main__":
    main(*sys.argv[1:])
