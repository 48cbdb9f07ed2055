"""Training that is interrupted at any batch, of training or validation, and goes on, ends as if it had not been."""

import json
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
from made_models import compiled

from nbkeras import GradientTape, layers, metrics, models, ops, optimizers, random
from nbkeras import callbacks as cb
from nbkeras.engine import settings
from nbkeras.preprocessing.image import ImageDataGenerator
from nbkeras.saving.checkpoints import CheckpointFolder
from nbkeras.training import resuming
from nbkeras.utils import PyDataset, set_random_seed, timeseries_dataset_from_array

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
    model = compiled(models.Sequential([layers.Dense(2, "tanh"), layers.Dense(1)]), optimizers.SGD(0.1, momentum=0.5))
    callbacks = [
        cb.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        cb.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1.0),
        cb.EarlyStopping("val_loss", patience=2, restore_best_weights=True, min_delta=10.0),
        cb.CSVLogger(folder / "log.csv"),
        cb.CSVLogger(folder / "appended.csv", append=True),
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


def linear(optimizer="adam", **data):
    return compiled(models.Sequential([layers.Dense(1)]), optimizer), data, []


def sequence(folder):
    return linear(x=Rows(), validation_data=Rows(), epochs=3)


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
    return linear(x=Iterates(), validation_data=Iterates(), steps_per_epoch=3, validation_steps=2, epochs=3)


def generator(folder):
    def batches(count):
        while True:
            for i in range(count):
                yield X[i : i + 4], Y[i : i + 4], np.float32([1, 0, 2, 1])

    model = compiled(models.Sequential([layers.Dense(1)]), "adagrad", weighted_metrics=["mae"])
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
    model = compiled(Own(), optimizers.Adam(0.1))
    return model, {"x": X, "y": Y, "batch_size": 4}, []


def scaled(folder):
    inner = optimizers.SGD(0.1, momentum=0.5)
    optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2)
    return linear(optimizer, x=X, y=Y, batch_size=3)


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
    return linear(x=Loader(), validation_data=Loader(), validation_steps=2, epochs=3)


class Shuffled:
    """A data loader without a state, as PyTorch's DataLoader: its order is drawn when a pass begins, noise for each batch."""

    def __iter__(self):
        rows = np.random.permutation(12)
        for i in range(0, 12, 4):
            yield X[rows[i : i + 4]] + np.random.random((4, 3)).astype(np.float32), Y[rows[i : i + 4]]


def iterable(folder):
    return linear(x=Shuffled(), validation_data=Shuffled(), epochs=3, steps_per_epoch=2)


CASES = [dense, stateful, lazy_rows, averages, accumulation, watched, sequence, iterator, generator, own_step, scaled]
CASES += [several_outputs, loader, iterable]


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


@pytest.mark.grid
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


def killed(case, folder, boundary=0, **options):
    """Train with a backup in a folder until this boundary, where the state is saved."""
    backup = cb.BackupAndRestore(folder, save_freq=10**6, **options)
    with pytest.raises(KeyboardInterrupt):
        run(case, folder.parent, backup, Kill(backup, boundary))


@pytest.mark.parametrize("case", [averages, sequence])
def test_a_training_may_be_killed_after_each_batch(case, tmp_path):
    *whole, boundaries = run(case, tmp_path)
    for _ in range(boundaries):
        killed(case, tmp_path / "backup")
    *resumed, left = run(case, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    assert_same(whole, resumed)
    assert left == 0


def test_a_training_that_is_complete_goes_on_with_more_epochs(tmp_path):
    def longer(folder):
        model, data, callbacks = accumulation(folder)
        return model, {**data, "epochs": 5}, callbacks

    *whole, _ = run(longer, tmp_path)
    run(accumulation, tmp_path, cb.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False))
    *resumed, batches = run(longer, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    assert_same(whole, resumed)
    assert batches == 8


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_error_right_after_an_epoch_loses_no_epoch(monkeypatch, tmp_path, epoch):
    """Also while the thread still writes the state of the epoch before."""

    seen: list[int] = []

    def case(folder, last=None):
        model, data, _ = dense(folder)
        noting = cb.LambdaCallback(on_epoch_begin=lambda each, logs: seen.append(each) or 1 / (each != last))
        return model, {**data, "epochs": 3}, [noting]

    *whole, _ = run(case, tmp_path)
    monkeypatch.setattr(CheckpointFolder, "is_busy", True)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run(lambda folder: case(folder, epoch), tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    monkeypatch.undo()
    seen.clear()
    *resumed, _ = run(case, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    assert_same(whole, resumed)
    assert seen[0] == epoch


def test_fewer_epochs_than_were_trained_train_nothing(tmp_path):
    backup = cb.BackupAndRestore(tmp_path / "backup", save_freq=10**6)
    set_random_seed(1)
    model, data, _ = dense(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(**data, epochs=3, verbose=0, callbacks=[backup, Kill(backup, 8)])
    resumed, data, _ = dense(tmp_path)
    seen = Kill()
    callbacks = [cb.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False), seen]
    resumed.fit(**data, epochs=1, verbose=0, callbacks=callbacks)
    assert_same(model.get_weights(), resumed.get_weights())
    assert seen.count == 0


def test_batches_that_were_done_are_not_made(tmp_path):
    data = {}

    def watching(folder):
        model, given, callbacks = sequence(folder)
        data.update(given)
        return model, given, callbacks

    killed(watching, tmp_path / "backup", 8)
    run(watching, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    assert len(data["x"].asked) == 5  # the first one at the beginning, one of the second epoch and three of the third
    assert len(data["validation_data"].asked) == 7


def test_a_sequence_that_may_shuffle_without_a_state_gives_a_warning(tmp_path):
    class Shuffles(PyDataset):
        order = np.arange(3)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(4 * self.order[index], 4 * self.order[index] + 4)
            return X[rows], Y[rows]

        def on_epoch_end(self):
            self.order = np.random.permutation(3)

    def case(folder):
        return *dense(folder)[:1], {"x": Shuffles()}, []

    killed(case, tmp_path / "first", 1)  # in the first epoch, nothing was shuffled yet
    run(case, tmp_path, cb.BackupAndRestore(tmp_path / "first"))
    killed(case, tmp_path / "second", 4)
    with pytest.warns(
        UserWarning, match="Shuffles has on_epoch_end but no state_dict: if it shuffles there, the order differs"
    ):
        run(case, tmp_path, cb.BackupAndRestore(tmp_path / "second"))


def test_other_data_or_callbacks_are_an_error(tmp_path):
    def with_rows(rows, **options):
        def case(folder):
            model, data, callbacks = dense(folder)
            return model, {"x": X[:rows], "y": Y[:rows], "batch_size": 3, **options}, callbacks

        return case

    killed(with_rows(12), tmp_path / "backup", 1)
    backup = cb.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(ValueError, match="the data have changed: they were samples=12, .* they are samples=11, .*"):
        run(with_rows(11), tmp_path, backup)
    with pytest.raises(
        ValueError, match="saved in an epoch of 4 steps, but an epoch now has 6 steps.*: delete the fold"
    ):
        run(with_rows(12, batch_size=2), tmp_path, backup)
    with pytest.raises(ValueError, match="interrupted with the callbacks .*, but resumes with .*SwapEMAWeights"):
        run(lambda folder: (*with_rows(12)(folder)[:2], [cb.SwapEMAWeights()]), tmp_path, backup)
    killed(loader, tmp_path / "loader", 1)

    def batches(folder):
        model, _, callbacks = loader(folder)
        return model, {"x": Shuffled(), "steps_per_epoch": 3}, callbacks

    with pytest.raises(
        ValueError, match="data that have state_dict .*; the present data, of type Shuffled, do not have them"
    ):
        run(batches, tmp_path, cb.BackupAndRestore(tmp_path / "loader"))
    killed(with_rows(12, validation_split=0.5), tmp_path / "other", 3)
    with pytest.raises(ValueError, match="saved in a validation, but this fit has no validation data"):
        run(with_rows(12), tmp_path, cb.BackupAndRestore(tmp_path / "other"))


def test_another_model_is_an_error(tmp_path):
    def wider(folder):
        model, data, callbacks = several_outputs(folder)
        model.shared = layers.Dense(5, "tanh")
        return model, data, callbacks

    killed(several_outputs, tmp_path / "backup", 1)
    with pytest.raises(ValueError, match=r"has shape and dtype \(.*'float32'\), in the file \("):
        run(wider, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))


def test_a_generator_must_yield_as_many_batches_again(tmp_path):
    def of_length(batches):
        def case(folder):
            model, _, _ = iterator(folder)
            return model, {"x": iter([(X, Y)] * batches), "steps_per_epoch": 4}, []

        return case

    killed(of_length(9), tmp_path / "backup", 7)
    with pytest.raises(
        ValueError, match="interrupted after 7 batches of the iterator or generator, but it now ends earlier"
    ):
        run(of_length(6), tmp_path, cb.BackupAndRestore(tmp_path / "backup"))


def test_a_callback_that_has_stopped_training_has_stopped_it(tmp_path):
    class Stops(cb.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training |= batch == 1

    def case(folder):
        model, data, _ = dense(folder)
        return model, {**data, "epochs": 3}, [Stops()]

    *whole, boundaries = run(case, tmp_path)
    assert boundaries == 2 + 2 + 1
    for boundary in range(boundaries):
        killed(case, tmp_path / str(boundary) / "backup", boundary)
        *resumed, _ = run(case, tmp_path, cb.BackupAndRestore(tmp_path / str(boundary) / "backup"))
        assert_same(whole, resumed)


def test_data_sets_that_shuffle_themselves(tmp_path):
    def images(folder):
        model = compiled(models.Sequential([layers.Flatten(), layers.Dense(1)]))
        pictures = ImageDataGenerator(horizontal_flip=True).flow(
            np.tile(X[:, :, None, None], (1, 1, 3, 1)), Y, batch_size=4
        )
        return model, {"x": pictures, "epochs": 3}, []

    def windows(folder):
        model = compiled(models.Sequential([layers.Dense(1)]))
        data = timeseries_dataset_from_array(Y[:, 0], Y[3:, 0], 3, batch_size=3, shuffle=True)
        return model, {"x": data, "epochs": 3, "shuffle": False}, []

    for case in (images, windows):
        *whole, _ = run(case, tmp_path)
        for boundary in (1, 6):
            folder = tmp_path / f"{case.__name__}{boundary}"
            killed(case, folder, boundary)
            *resumed, _ = run(case, tmp_path, cb.BackupAndRestore(folder))
            assert_same(whole, resumed)


def test_a_state_that_cannot_be_saved(tmp_path):
    class Odd(cb.Callback):
        def state_dict(self):
            return {"file": open}

    backup = cb.BackupAndRestore(tmp_path, save_freq=1)
    with pytest.raises(
        TypeError, match="may hold numbers, strings, None, arrays, .* a callback's state_dict.* holds .*open"
    ):
        run(lambda folder: (*dense(folder)[:2], [Odd()]), tmp_path, backup)


def test_values_of_a_state(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(from_numpy=lambda array: ("torch", array)))
    tensor = type("Tensor", (), {"__module__": "torch", "__array__": lambda self, *args, **kwargs: np.arange(3)})()
    value = {1: [None, True, 2**90, 0.1, np.float32(0.1), "a"], (1, "b"): (np.ones((2, 1)), [[]], {}), "t": tensor}
    arrays = {}
    packed = json.loads(json.dumps(resuming._packed(value, "it", arrays)))
    found = resuming._unpacked(packed, arrays)
    value["t"] = ("torch", np.arange(3))
    assert_same(list(value), list(found))
    assert_same(list(value.values()), list(found.values()))


def test_the_step_does_not_wait_for_a_file(tmp_path, monkeypatch):
    saved, busy = [], [True] * 3 + [False] * 9
    monkeypatch.setattr(CheckpointFolder, "is_busy", property(lambda self: busy.pop(0)))
    monkeypatch.setattr(CheckpointFolder, "save", lambda self, number, arrays, notes: saved.append((number, len(busy))))
    model, data, _ = dense(tmp_path)
    backup = cb.BackupAndRestore(tmp_path / "backup", save_freq=2)
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[backup])
    assert saved == [(0, 8), (1, 7), (2, 6), (3, 5)]  # due after batch 2, made after batch 5; then after 7, 9 and 11


def test_a_loop_of_ones_own_goes_on_at_an_epoch(tmp_path):
    def train(epochs):
        set_random_seed(1)
        model = models.Sequential([layers.Input((3,)), layers.Dropout(0.5), layers.Dense(1)])
        model.compile(optimizers.Adam(0.1), "mse")
        backup = cb.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        callbacks = cb.CallbackList([backup], model=model)
        model.optimizer.build(model.trainable_variables)
        callbacks.on_train_begin()
        done = range(model.initial_epoch, epochs)
        for epoch in done:
            callbacks.on_epoch_begin(epoch)
            model.train_on_batch(X, Y)
            callbacks.on_epoch_end(epoch, {})
            backup.save_now()
        callbacks.on_train_end()
        return done, model

    train(2)
    done, resumed = train(4)
    shutil.rmtree(tmp_path / "backup")
    _, whole = train(4)
    assert done == range(2, 4)
    assert_same(whole.get_weights(), resumed.get_weights())
    with pytest.raises(ValueError, match="one of the two is a `fit`, the other is your own loop"):
        resumed.fit(X, Y, verbose=0, callbacks=[cb.BackupAndRestore(tmp_path / "backup")])


def test_rows_of_a_log_that_is_gone(tmp_path):
    killed(watched, tmp_path / "backup", 4)
    (tmp_path / "log.csv").unlink()
    with pytest.warns(
        UserWarning, match="log.csv' has 0 bytes, and had .* when training was interrupted: rows are lost"
    ):
        run(watched, tmp_path, cb.BackupAndRestore(tmp_path / "backup"))
    assert (tmp_path / "log.csv").read_text().startswith("epoch,")


def test_a_list_of_the_users_and_a_second_fit(tmp_path):
    def train(kill=None):
        set_random_seed(1)
        model = compiled(models.Sequential([layers.Dense(1)]), "adam")
        for folder in ("first", "second"):
            backup = cb.BackupAndRestore(tmp_path / folder, save_freq=10**6)
            kills = Kill(backup, 3) if folder == kill else Kill()
            callbacks = cb.CallbackList([backup, kills], add_history=True, model=model, epochs=3)
            model.fit(X, Y, 6, epochs=3, initial_epoch=1, verbose=0, callbacks=callbacks)
        return [*model.get_weights(), *model.optimizer.get_weights()]

    whole = train()
    for folder in ("first", "second"):
        with pytest.raises(KeyboardInterrupt):
            train(folder)
        assert_same(whole, train())
