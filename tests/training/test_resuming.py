"""Training that is interrupted at any batch, of training or validation, and goes on, ends as if it had not been."""

import pathlib

import numpy as np
import pytest

from nbkeras import GradientTape, layers, metrics, models, ops, optimizers, random
from nbkeras import callbacks as cb
from nbkeras.engine import settings
from nbkeras.utils import PyDataset, set_random_seed

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 3)).astype(np.float32), RNG.standard_normal((12, 1)).astype(np.float32)
WORDS, LABELS = RNG.integers(0, 9, (12, 4)), RNG.integers(0, 3, 12)


class Kill(cb.Callback):
    """Saves the state at the end of one batch or epoch, and kills training at the end of a later one."""

    _is_last = True

    def __init__(self, backup=None, save=None, later=0):
        self.backup, self.save, self.later, self.count = backup, save, later, 0

    def end(self, *_):
        if self.count == self.save:
            self.backup.save_now()
        self.count += 1
        if self.save is not None and self.count > self.save + self.later:
            raise KeyboardInterrupt

    on_train_batch_end = on_test_batch_end = on_epoch_end = end


def dense(folder):
    model = models.Sequential(
        [
            layers.Dense(4, "tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.GaussianNoise(0.1),
            layers.Dense(1),
        ]
    )
    model.compile(optimizers.Adam(0.1), "mse", metrics=["mae", metrics.R2Score()])
    return model, {"x": X, "y": Y, "validation_split": 0.34, "batch_size": 3}, []


def stateful(folder):
    model = models.Sequential(
        [layers.Input((4, 3), batch_size=3), layers.LSTM(3, stateful=True, return_sequences=True), layers.Dense(1)]
    )
    model.compile("rmsprop", "mse")
    x, y = np.tile(X[:, None], (1, 4, 1)), np.tile(Y[:, None], (1, 4, 1))
    return model, {"x": x, "y": y, "validation_data": (x[:6], y[:6]), "shuffle": False, "batch_size": 3}, []


def lazy_rows(folder):
    model = models.Sequential([layers.Embedding(9, 3), layers.Flatten(), layers.Dense(3, "softmax")])
    model.compile(optimizers.RMSprop(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, {"x": WORDS, "y": LABELS, "shuffle": "batch", "batch_size": 3, "epochs": 3}, []


def averages(folder):
    model = models.Sequential([layers.Dense(2, "tanh"), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=3), "mse")
    data = {"x": X, "y": Y, "validation_data": (X[:5], Y[:5]), "batch_size": 4}
    return model, data, [cb.SwapEMAWeights(swap_on_epoch=True)]


def accumulation(folder):
    model = models.Sequential([layers.Dense(2, "tanh", kernel_regularizer="l2"), layers.Dense(1)])
    rate = optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model.compile(optimizers.Nadam(rate, gradient_accumulation_steps=3, clipnorm=1.0), "mse")
    return model, {"x": X, "y": Y, "batch_size": 3, "steps_per_epoch": 3, "epochs": 3}, []  # passes of 4 steps


def watched(folder):
    model = models.Sequential([layers.Dense(2, "tanh"), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1, momentum=0.5), "mse")
    callbacks = [
        cb.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        cb.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1.0),
        cb.EarlyStopping("val_loss", patience=2, restore_best_weights=True, min_delta=10.0),
        cb.CSVLogger(folder / "log.csv"),
        cb.ModelCheckpoint(folder / "{epoch}.weights.h5", save_best_only=True, save_weights_only=True),
    ]
    return model, {"x": X, "y": Y, "validation_data": (X[:5], Y[:5]), "batch_size": 6, "epochs": 6}, callbacks


class Rows(PyDataset):
    """A Sequence that chooses its rows anew after each epoch, and changes them by NumPy's random numbers."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(5)
        self.asked = []
        self.on_epoch_end()

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.asked.append(index)
        rows = self.order[4 * index : 4 * index + 4]
        return X[rows] + np.random.random((4, 3)).astype(np.float32), Y[rows]

    def on_epoch_end(self):
        self.order = self.random.permutation(12)

    def state_dict(self):
        return {"random": self.random.bit_generator.state, "order": self.order}

    def load_state_dict(self, state):
        self.random.bit_generator.state, self.order = state["random"], state["order"]


def sequence(folder):
    model = models.Sequential([layers.Dense(1)])
    model.compile("adam", "mse")
    return model, {"x": Rows(), "validation_data": Rows(), "epochs": 3}, []


class Iterates:
    """An iterator that knows its position."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        rows = slice(self.at % 7, self.at % 7 + 4)
        return X[rows], Y[rows]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Loader:
    """A data loader with the state of its present pass, as PyTorch's StatefulDataLoader."""

    def __init__(self):
        self.at, self.start = 0, 0

    def __len__(self):
        return 3

    def __iter__(self):
        start, self.start = self.start, 0
        for i in range(start, 3):
            self.at = i + 1
            yield X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.start = state["at"]


def iterator(folder):
    model = models.Sequential([layers.Dense(1)])
    model.compile("adam", "mse")
    data = {"x": Iterates(), "validation_data": Iterates(), "steps_per_epoch": 3, "validation_steps": 2}
    return model, {**data, "epochs": 3}, []


def generator(folder):
    def batches(count):
        while True:
            for i in range(count):
                yield X[i : i + 4], Y[i : i + 4], np.float32([1, 0, 2, 1])

    model = models.Sequential([layers.Dense(1)])
    model.compile("adagrad", "mse", weighted_metrics=["mae"])
    data = {"x": batches(5), "validation_data": batches(3), "steps_per_epoch": 3, "validation_steps": 2}
    return model, {**data, "epochs": 3}, []


class Own(models.Model):
    """Two optimizers, a metric that is made in the step, numbers of the global generators, and logs of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3, "tanh"), layers.Dense(1)
        self.other_optimizer = optimizers.Adagrad(0.1)
        self.seen = metrics.MeanTensor("seen") if hasattr(metrics, "MeanTensor") else metrics.Mean("seen")

    def call(self, inputs):
        return self.second(self.first(inputs))

    def train_step(self, data):
        x, y = data
        with GradientTape() as tape:
            loss = ops.mean((self(x + random.normal(x.shape)) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        half = len(gradients) // 2
        self.optimizer.apply(gradients[:half], self.trainable_variables[:half])
        self.other_optimizer.apply(gradients[half:], self.trainable_variables[half:])
        self.seen.update_state(loss)
        return {"loss": loss, "seen": self.seen.result()}


def own_step(folder):
    model = Own()
    model.compile(optimizers.Adam(0.1), "mse")
    return model, {"x": X, "y": Y, "batch_size": 4}, []


def scaled(folder):
    model = models.Sequential([layers.Dense(1)])
    inner = optimizers.SGD(0.1, momentum=0.5)
    model.compile(optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2), "mse")
    return model, {"x": X, "y": Y, "batch_size": 3}, []


class Two(models.Model):
    """A subclass that is built by its first batch, with several outputs."""

    def __init__(self):
        super().__init__()
        self.shared, self.a, self.b = layers.Dense(3, "tanh"), layers.Dense(1), layers.Dense(3, "softmax")

    def call(self, inputs):
        hidden = self.shared(inputs)
        return {"a": self.a(hidden), "b": self.b(hidden)}


def several_outputs(folder):
    model = Two()
    losses = {"a": "mse", "b": "sparse_categorical_crossentropy"}
    model.compile(
        optimizers.AdamW(0.1),
        losses,
        metrics={"a": ["mae"], "b": ["accuracy", metrics.MeanIoU(3, sparse_y_pred=False)]},
    )
    data = {"x": X, "y": {"a": Y, "b": LABELS}, "batch_size": 4}
    return model, {**data, "validation_data": (X[:5], {"a": Y[:5], "b": LABELS[:5]})}, []


def loader(folder):
    model = models.Sequential([layers.Dense(1)])
    model.compile("adam", "mse")
    return model, {"x": Loader(), "epochs": 3}, []


CASES = [
    dense,
    stateful,
    lazy_rows,
    averages,
    accumulation,
    watched,
    sequence,
    iterator,
    generator,
    own_step,
    scaled,
    several_outputs,
    loader,
]


def run(case, folder, backup=None, kill=None):
    """All that is there when training is over."""
    set_random_seed(1)
    model, data, callbacks = case(folder)
    kill = kill or Kill()
    callbacks = [each for each in (backup, *callbacks, kill) if each is not None]
    history = model.fit(**{"epochs": 2, "verbose": 0, **data}, callbacks=callbacks)
    arrays = [v.numpy() for v in model.variables]
    held = [model.optimizer, *model._held(optimizers.Optimizer)]
    arrays += [v.numpy() for optimizer in held if optimizer is not None for v in optimizer.variables]
    arrays += [v.numpy() for metric in model.metrics for v in metric.variables]
    states = {type(c).__name__: c.state_dict() for c in callbacks if not isinstance(c, cb.BackupAndRestore)}
    files = {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.suffix == ".csv"}
    return arrays, history.history, history.epoch, states, files, settings.random_state(), kill.count


def assert_same(first, second):
    if isinstance(first, dict):
        assert list(first) == list(second)
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert type(first) is type(second) and (first == second or first != first)


@pytest.mark.parametrize("case", CASES)
def test_training_that_was_killed_ends_as_if_it_was_not(case, tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    *whole, boundaries = run(case, folder)
    for boundary in range(boundaries):
        folder = tmp_path / str(boundary)
        folder.mkdir()
        backup = cb.BackupAndRestore(folder / "backup", save_freq=10**6)
        with pytest.raises(KeyboardInterrupt):
            run(case, folder, backup, Kill(backup, boundary, min(2, boundaries - 1 - boundary)))
        *resumed, _ = run(case, folder, cb.BackupAndRestore(folder / "backup"))
        assert_same(whole, resumed)
        assert not (folder / "backup").exists()
