"""Callbacks with Keras 3.15's semantics, on a model that only records their calls, and on a real one."""

import copy
import csv
import types

import numpy as np
import pytest
from made_models import compiled

from nbkeras import callbacks as cb
from nbkeras.layers import Dense
from nbkeras.models import Sequential, load_model
from nbkeras.optimizers import SGD
from nbkeras.utils import set_random_seed


class Model:
    """The part of a model that callbacks use; `weights` is a number that each epoch changes."""

    def __init__(self, rate=0.1, metrics=()):
        self.optimizer = types.SimpleNamespace(learning_rate=rate)
        self.stop_training = False
        self.metrics = list(metrics)
        self.weights = 0
        self.saved = []

    def get_weights(self):
        return [np.array(self.weights)]

    def set_weights(self, weights):
        self.weights = int(weights[0])

    def save(self, path, overwrite):
        self.saved.append(path)

    def save_weights(self, path, overwrite):
        self.saved.append(f"weights:{path}")


def fit(model, callbacks, epochs, batches=0, **params):
    """The hooks of `fit` in its order; epochs: a list of logs, one per epoch. Returns the History."""
    hooks = cb.CallbackList(callbacks, add_history=True, model=model, epochs=len(epochs), steps=batches, **params)
    model.stop_training = False
    hooks.on_train_begin()
    for epoch, logs in enumerate(epochs):
        model.weights = epoch + 1
        hooks.on_epoch_begin(epoch)
        for batch in range(batches):
            hooks.on_train_batch_begin(batch)
            hooks.on_train_batch_end(batch, logs)
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    hooks.on_train_end()
    return hooks.history


def losses(*values, name="val_loss"):
    return [{name: value} for value in values]


class TestCallbackList:
    def test_order_and_arguments_of_the_hooks(self):
        seen = []

        class Spy(cb.Callback):
            pass

        for name in [n for n in vars(cb.Callback) if n.startswith("on_")]:
            setattr(Spy, name, lambda self, *args, _name=name: seen.append((_name, args)))
        fit(Model(), Spy(), [{"loss": 1.0}], batches=1)
        assert seen == [
            ("on_train_begin", ({},)),
            ("on_epoch_begin", (0, {})),
            ("on_train_batch_begin", (0, {})),
            ("on_train_batch_end", (0, {"loss": 1.0})),
            ("on_epoch_end", (0, {"loss": 1.0})),
            ("on_train_end", ({},)),
        ]

    def test_every_hook_reaches_every_callback(self):
        names = [n for n in vars(cb.Callback) if n.startswith("on_")]
        seen = []
        hooks = cb.CallbackList([cb.LambdaCallback(**{n: lambda *args, n=n: seen.append(n) for n in names})] * 2)
        for name in names:
            place = (0,) if "batch" in name or "epoch" in name else ()
            getattr(hooks, name)(*place, {})
        assert seen == [n for n in names for _ in range(2)]

    def test_older_batch_hooks_are_called_in_training(self):
        seen = []

        class Old(cb.Callback):
            def on_batch_begin(self, batch, logs=None):
                seen.append(("begin", batch))

            def on_batch_end(self, batch, logs=None):
                seen.append(("end", batch, logs))

        fit(Model(), [Old()], [{"loss": 2.0}], batches=2)
        assert seen == [("begin", 0), ("end", 0, {"loss": 2.0}), ("begin", 1), ("end", 1, {"loss": 2.0})]

    def test_batch_logs_are_read_only_if_a_callback_wants_them_and_once(self):
        reads = []

        def logs():
            reads.append(1)
            return {"loss": np.float32(0.5)}

        cb.CallbackList([cb.EarlyStopping(), cb.ModelCheckpoint("m.keras")]).on_train_batch_end(0, logs)
        assert not reads
        seen = []
        want = cb.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs))
        cb.CallbackList([want, want]).on_train_batch_end(0, logs)
        assert len(reads) == 1 and seen == [{"loss": 0.5}] * 2
        assert type(seen[0]["loss"]) is float

    def test_logs_come_sorted_flat_and_as_floats(self):
        logs = {"val": {"b": np.float32(2), "a": np.array(1)}, "loss": 3, "outputs": np.zeros(2)}
        seen = []
        cb.CallbackList(cb.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))).on_epoch_end(0, logs)
        assert list(seen[0]) == ["loss", "outputs", "a", "b"] and seen[0]["b"] == 2.0

    def test_what_a_callback_adds_to_epoch_logs_reaches_the_history_not_the_caller(self):
        add = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=epoch))
        logs = {"loss": 1.0}
        history = fit(Model(), add, [logs, logs])
        assert history.history == {"loss": [1.0, 1.0], "extra": [0, 1]} and history.epoch == [0, 1]
        assert logs == {"loss": 1.0}

    def test_model_and_params_reach_all_nested_and_later_ones_too(self):
        first, second, third = cb.Callback(), cb.Callback(), cb.Callback()
        model = Model()
        hooks = cb.CallbackList([first, [second]], add_history=True, add_progbar=True, model=model, verbose=0, epochs=3)
        hooks.append(third)
        assert first.model is second.model is third.model is model
        assert third.params == {"verbose": 0, "epochs": 3}
        assert model.history is hooks.history
        assert [type(c).__name__ for c in hooks.callbacks[2:4]] == ["History", "ProgbarLogger"]

    def test_a_users_own_history_and_progress_bar_are_not_doubled(self):
        hooks = cb.CallbackList([cb.History(), cb.ProgbarLogger()], add_history=True, add_progbar=True)
        assert len(hooks.callbacks) == 2

    @pytest.mark.parametrize(
        "wrong, message", [(cb.History, r"did you mean History\(...\)\?"), (print, "built-in function")]
    )
    def test_what_is_no_callback(self, wrong, message):
        with pytest.raises(TypeError, match=message):
            cb.CallbackList([wrong])


class TestProgbarLogger:
    def lines(self, capsys):
        return capsys.readouterr().out.splitlines()

    def test_fit_in_a_log(self, capsys):
        fit(Model(), cb.ProgbarLogger(), [{"loss": 0.5}, {"loss": 0.25, "val_loss": 1.0}], batches=3, verbose="auto")
        lines = self.lines(capsys)
        assert lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2" and len(lines) == 4
        assert lines[1].startswith("3/3 ━") and lines[1].endswith("- loss: 0.5000")
        assert lines[3].endswith("- loss: 0.2500 - val_loss: 1.0000")

    @pytest.mark.parametrize("verbose, count", [(0, 0), (2, 4)])
    def test_verbosity(self, capsys, verbose, count):
        fit(Model(), cb.ProgbarLogger(), [{"loss": 0.5}] * 2, batches=3, verbose=verbose)
        lines = self.lines(capsys)
        assert len(lines) == count and not any("━" in line for line in lines)

    def test_validation_in_fit_is_silent_and_evaluate_is_not(self, capsys):
        bar = cb.ProgbarLogger()
        hooks = cb.CallbackList([bar], verbose=1, epochs=1, steps=2)

        def evaluate():
            hooks.on_test_begin()
            hooks.on_test_batch_end(0, {"loss": 1.0})
            hooks.on_test_end({"loss": 1.0})

        hooks.on_train_begin()
        evaluate()
        hooks.on_train_end()
        assert self.lines(capsys) == []
        evaluate()
        assert self.lines(capsys)[0].endswith("loss: 1.0000")

    def test_an_unknown_number_of_steps_is_learnt_in_the_first_epoch(self, capsys):
        hooks = cb.CallbackList([cb.ProgbarLogger()], verbose=1, epochs=1, steps=None)
        hooks.on_predict_begin()
        for batch in range(5):
            hooks.on_predict_batch_end(batch, {"outputs": np.zeros(3)})
        hooks.on_predict_end()
        assert self.lines(capsys)[0].startswith("5/5 ━")

    def test_logs_are_not_read_for_batches_that_are_not_drawn(self, capsys):
        def never():
            raise AssertionError("read")

        hooks = cb.CallbackList([cb.ProgbarLogger()], verbose=1, epochs=1, steps=2)
        hooks.on_epoch_begin(0)
        hooks.on_train_batch_end(0, never)


class TestEarlyStopping:
    def stopped_after(self, *args, model=None, name="val_loss", **kwargs):
        model = model or Model()
        history = fit(model, cb.EarlyStopping(**kwargs), losses(*args, name=name))
        return len(history.epoch)

    @pytest.mark.parametrize(
        "values, arguments, epochs",
        [
            ((3, 2, 1, 2, 3), {}, 4),
            ((3, 2, 1, 2, 3, 4), {"patience": 2}, 5),
            ((3, 2, 1, 2, 0.5, 1, 2), {"patience": 2}, 7),
            ((3, 3.5, 3), {}, 2),
            ((1, 0.95, 0.93), {"min_delta": 0.1}, 2),
            ((1, 0.95, 0.85, 0.9), {"min_delta": 0.1, "patience": 2}, 4),
            ((5, 4, 3, 2), {"baseline": 1, "patience": 2}, 4),
            ((5, 4, 4, 2), {"baseline": 1, "patience": 2}, 3),
            ((1, 2, 3, 4, 5), {"start_from_epoch": 3}, 5),
            ((3, 2, 1, 2, 3), {"mode": "max"}, 2),
            ((1, float("nan"), 0.5), {"patience": 1}, 2),
        ],
    )
    def test_stops(self, values, arguments, epochs):
        assert self.stopped_after(*values, **arguments) == epochs

    def test_direction_by_name_and_by_metric(self):
        assert self.stopped_after(0.5, 0.6, 0.5, name="val_accuracy", monitor="val_accuracy") == 3
        assert self.stopped_after(0.5, 0.6, 0.5, name="val_out_acc", monitor="val_out_acc") == 3
        assert self.stopped_after(0.5, 0.6, 0.5, name="out_loss", monitor="out_loss") == 2
        metric = types.SimpleNamespace(name="quality", _direction="up")
        assert (
            self.stopped_after(1, 2, 1, model=Model(metrics=[metric]), name="val_quality", monitor="val_quality") == 3
        )
        with pytest.raises(ValueError, match="cannot tell whether monitor='wealth' .* pass mode='max' or mode='min'"):
            self.stopped_after(1, 2, name="wealth", monitor="wealth")

    def test_restores_the_best_weights_and_says_so(self, capsys):
        model = Model()
        fit(model, cb.EarlyStopping(patience=2, restore_best_weights=True, verbose=1), losses(3, 1, 2, 2, 9))
        assert model.weights == 2
        assert capsys.readouterr().out.splitlines() == [
            "Epoch 4: early stopping",
            "Restoring model weights from the end of the best epoch: 2.",
        ]

    def test_restores_also_when_training_ends_by_itself(self):
        model = Model()
        fit(model, cb.EarlyStopping(patience=9, restore_best_weights=True), losses(3, 1, 2))
        assert model.weights == 2

    def test_keeps_the_last_weights_without_restore(self):
        model = Model()
        fit(model, cb.EarlyStopping(), losses(3, 1, 2, 2))
        assert model.weights == 3

    def test_may_be_used_again(self):
        model, stop = Model(), cb.EarlyStopping(patience=1, min_delta=0.5)
        assert [len(fit(model, stop, losses(3, 2.8, 1, 0)).epoch) for _ in range(2)] == [2, 2]

    def test_missing_metric_warns(self):
        with pytest.warns(UserWarning, match="`val_loss` which is not available. Available metrics are: loss"):
            fit(Model(), cb.EarlyStopping(), [{"loss": 1.0}])

    def test_unknown_mode_warns(self):
        with pytest.warns(UserWarning, match="mode 'best' is unknown") as caught:
            assert cb.EarlyStopping(mode="best").mode == "auto"
        assert caught[0].filename == __file__


class TestModelCheckpoint:
    def test_each_epoch_with_fields(self, tmp_path):
        model = Model()
        path = tmp_path / "new" / "{epoch:02d}-{val_loss:.2f}.keras"
        fit(model, cb.ModelCheckpoint(path), losses(1, 0.5))
        assert model.saved == [str(tmp_path / "new" / name) for name in ("01-1.00.keras", "02-0.50.keras")]
        assert (tmp_path / "new").is_dir()

    def test_best_only(self, tmp_path, capsys):
        model, path = Model(), str(tmp_path / "{epoch}.keras")
        fit(model, cb.ModelCheckpoint(path, save_best_only=True, verbose=1), losses(1, 2, 0.5))
        assert model.saved == [path.format(epoch=1), path.format(epoch=3)]
        said = [line for line in capsys.readouterr().out.splitlines() if line]
        assert said[0] == f"Epoch 1: val_loss improved from None to 1.00000, saving model to {path.format(epoch=1)}"
        said.remove(f"Epoch 1: finished saving model to {path.format(epoch=1)}")  # at the first hook after it
        assert said[1] == "Epoch 2: val_loss did not improve from 1.00000"
        assert said[-1] == f"Epoch 3: finished saving model to {path.format(epoch=3)}"

    def test_threshold_and_mode(self, tmp_path):
        model = Model()
        save = cb.ModelCheckpoint(
            tmp_path / "{epoch}", monitor="score", mode="max", save_best_only=True, initial_value_threshold=2
        )
        fit(model, save, losses(1, 3, 2, name="score"))
        assert model.saved == [str(tmp_path / "2")]

    def test_weights_only(self, tmp_path):
        model = Model()
        fit(model, cb.ModelCheckpoint(tmp_path / "w.npz", save_weights_only=True), losses(1))
        assert model.saved == [f"weights:{tmp_path / 'w.npz'}"]

    def test_every_n_batches_over_epochs(self, tmp_path):
        model = Model()
        save = cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=4)
        fit(model, save, losses(1, 1, 1), batches=3)
        assert model.saved == [str(tmp_path / name) for name in ("2-1", "3-2")]

    def test_every_n_batches_best_only(self, tmp_path):
        model = Model()
        fit(model, cb.ModelCheckpoint(tmp_path / "m", save_freq=2, save_best_only=True), losses(2, 1), batches=4)
        assert len(model.saved) == 2

    def test_period_of_keras_2(self, tmp_path):
        model = Model()
        fit(model, cb.ModelCheckpoint(tmp_path / "{epoch}", period=2), losses(1, 1, 1, 1, 1))
        assert model.saved == [str(tmp_path / "2"), str(tmp_path / "4")]

    def test_missing_metric_saves_and_warns(self, tmp_path):
        model = Model()
        with pytest.warns(UserWarning, match="Can save best model only with val_loss available"):
            fit(model, cb.ModelCheckpoint(tmp_path / "m", save_best_only=True), [{"loss": 1}])
        assert model.saved

    def test_a_metric_of_several_numbers_saves_and_warns(self, tmp_path):
        model = Model()
        save = cb.ModelCheckpoint(tmp_path / "m", "ious", mode="max", save_best_only=True)
        with pytest.warns(UserWarning, match=r"ious is \[1. 2.\], which is not a single number .* saving always"):
            fit(model, save, [{"ious": np.array([1.0, 2.0])}])
        assert model.saved

    def test_mistakes_are_explained(self, tmp_path):
        with pytest.raises(
            ValueError, match="save_freq must be 'epoch' or a positive number of batches, received 'batch'"
        ):
            cb.ModelCheckpoint("m", save_freq="batch")
        with pytest.raises(ValueError, match="period must be"):
            cb.ModelCheckpoint("m", period=0)
        with pytest.raises(KeyError, match="'acc'.*there are: epoch, val_loss"):
            fit(Model(), cb.ModelCheckpoint(tmp_path / "{acc}"), losses(1))
        with pytest.raises(IsADirectoryError, match="needs the path of a file, but .* is a folder"):
            fit(Model(), cb.ModelCheckpoint(tmp_path), losses(1))


class TestCSVLogger:
    def rows(self, path):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def test_columns_and_missing_values(self, tmp_path):
        path = tmp_path / "log.csv"
        fit(Model(), cb.CSVLogger(path), [{"loss": 0.5, "acc": 1.0}, {"loss": 0.25, "val_loss": 2.0}])
        assert self.rows(path) == [
            ["epoch", "acc", "loss", "val_acc", "val_loss"],
            ["0", "1.0", "0.5", "NA", "NA"],
            ["1", "NA", "0.25", "NA", "2.0"],
        ]

    def test_starts_anew_or_appends(self, tmp_path):
        path = tmp_path / "log.csv"
        for append in (False, True, True, False):
            fit(Model(), cb.CSVLogger(str(path), separator=";", append=append), losses(1, 2))
            rows = path.read_text().split()
            assert rows[0] == "epoch;val_loss" and rows.count("epoch;val_loss") == 1
        assert len(rows) == 3

    def test_arrays(self, tmp_path):
        log = cb.CSVLogger(tmp_path / "log.csv")
        fit(Model(), log, [{"val_a": np.array([1.0, 2.0]), "val_b": np.array(3.0)}])
        assert self.rows(tmp_path / "log.csv")[1] == ["0", '"[1.0, 2.0]"', "3.0"]


class TestLearningRateScheduler:
    @pytest.mark.parametrize(
        "schedule, rates",
        [(lambda epoch, lr: lr * 0.5, [0.05, 0.025]), (lambda epoch: 0.1 / (epoch + 1), [0.1, 0.05])],
        ids=["two arguments", "one argument"],
    )
    def test_sets_and_logs_the_rate(self, schedule, rates):
        model = Model(0.1)
        history = fit(model, cb.LearningRateScheduler(schedule), losses(1, 1))
        assert history.history["learning_rate"] == rates
        assert model.optimizer.learning_rate == rates[-1]

    def test_says_so(self, capsys):
        fit(Model(), cb.LearningRateScheduler(lambda epoch: np.float32(0.25), verbose=1), losses(1))
        assert capsys.readouterr().out == "\nEpoch 1: LearningRateScheduler setting learning rate to 0.25.\n"

    @pytest.mark.parametrize("value", [1, None, "0.1", True])
    def test_only_floats(self, value):
        with pytest.raises(ValueError, match="the schedule must return a float"):
            fit(Model(), cb.LearningRateScheduler(lambda epoch: value), losses(1))

    def test_an_error_inside_the_schedule_is_not_hidden(self):
        def schedule(epoch, lr):
            return len(epoch)

        with pytest.raises(TypeError, match="object of type 'int' has no len"):
            fit(Model(), cb.LearningRateScheduler(schedule), losses(1))

    def test_optimizer_without_a_rate(self):
        model = Model()
        model.optimizer = types.SimpleNamespace()
        with pytest.raises(ValueError, match="has no learning_rate to read or set"):
            fit(model, cb.LearningRateScheduler(lambda epoch: 0.1), losses(1))


class TestReduceLROnPlateau:
    def rates(self, *values, **arguments):
        model = Model(1.0)
        fit(model, cb.ReduceLROnPlateau(**{"factor": 0.5, "patience": 1} | arguments), losses(*values))
        return model.optimizer.learning_rate

    @pytest.mark.parametrize(
        "values, arguments, rate",
        [
            ((3, 2, 1), {}, 1.0),
            ((1, 1, 1), {}, 0.25),
            ((1, 1, 1, 1), {"patience": 2}, 0.5),
            ((1, 1, 1, 1, 1), {"cooldown": 2}, 0.25),
            ((1, 1, 1, 1), {"min_lr": 0.4}, 0.4),
            ((1, 0.99995, 0.9999), {}, 0.25),
            ((1, 0.99995, 0.9999), {"min_delta": 0}, 1.0),
            ((1, 2, 3), {"mode": "max"}, 1.0),
        ],
    )
    def test_reduces(self, values, arguments, rate):
        assert self.rates(*values, **arguments) == pytest.approx(rate)

    def test_logs_the_rate_and_says_so(self, capsys):
        model = Model(1.0)
        history = fit(model, cb.ReduceLROnPlateau(factor=0.5, patience=1, verbose=1), losses(1, 1, 1))
        assert history.history["learning_rate"] == [1.0, 1.0, 0.5]
        assert "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.5." in capsys.readouterr().out

    def test_mistakes_are_explained(self):
        with pytest.raises(ValueError, match="factor below 1.0, received 1.5"):
            cb.ReduceLROnPlateau(factor=1.5)
        with pytest.warns(UserWarning, match="`val_loss` which is not available"):
            fit(Model(), cb.ReduceLROnPlateau(), [{"loss": 1.0}])


class TestLambdaCallback:
    def test_older_hook(self):
        seen = []
        fit(Model(), cb.LambdaCallback(on_batch_end=lambda batch, logs: seen.append(batch)), losses(1), batches=2)
        assert seen == [0, 1]


class TestTerminateOnNaN:
    @pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
    def test_stops(self, loss, capsys):
        history = fit(Model(), cb.TerminateOnNaN(), [{"loss": 1.0}, {"loss": loss}, {"loss": 1.0}], batches=1)
        assert history.epoch == [0, 1]
        assert capsys.readouterr().out == "Batch 0: Invalid loss, terminating training\n"

    def test_raises_if_asked(self):
        with pytest.raises(RuntimeError, match="NaN or Inf loss encountered at batch 0. Loss value: nan"):
            fit(Model(), cb.TerminateOnNaN(raise_error=True), losses(float("nan"), name="loss"), batches=1)

    def test_logs_without_a_loss(self):
        assert fit(Model(), cb.TerminateOnNaN(), [{"acc": 1.0}], batches=1).epoch == [0]


class TestOnARealModel:
    """The same callbacks on a model that learns, most of its steps replayed."""

    @pytest.fixture
    def model(self):
        set_random_seed(3)
        model = compiled(Sequential([Dense(1, input_shape=(2,), kernel_initializer="ones")]), SGD(0.1))
        return model

    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    y = np.array([[3.0], [-1.0], [2.0], [5.0]])

    def fit(self, model, callbacks, epochs=4, **arguments):
        return model.fit(self.x, self.y, batch_size=2, epochs=epochs, verbose=0, callbacks=callbacks, **arguments)

    def test_early_stopping_restores_the_weights_of_the_best_epoch(self, model):
        weights = []
        spy = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()[0].copy()))
        stop = cb.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
        history = self.fit(model, [spy, stop], epochs=9)
        assert len(history.epoch) == 3 and model.stop_training
        np.testing.assert_array_equal(model.get_weights()[0], weights[0])
        assert not np.array_equal(weights[0], weights[2])

    def test_checkpoints_can_be_loaded(self, model, tmp_path):
        best = cb.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True)
        each = cb.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
        self.fit(model, [best, each], epochs=2)
        np.testing.assert_array_equal(load_model(tmp_path / "best.keras").get_weights()[0], model.get_weights()[0])
        before = model.get_weights()[0].copy()
        model.load_weights(tmp_path / "1.weights.h5")
        assert not np.array_equal(model.get_weights()[0], before)

    def test_a_scheduled_rate_reaches_replayed_steps(self, model):
        rates = [0.1, 0.0, 0.0, 0.05]
        weights = [model.get_weights()[0].copy()]
        spy = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()[0].copy()))
        history = self.fit(model, [cb.LearningRateScheduler(lambda epoch: rates[epoch]), spy])
        moved = [not np.array_equal(a, b) for a, b in zip(weights, weights[1:], strict=False)]
        assert moved == [True, False, False, True]
        np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-6)

    def test_nan_ends_training(self, model, capsys):
        model.set_weights([np.full((2, 1), np.nan), np.zeros(1)])
        history = self.fit(model, cb.TerminateOnNaN())
        assert len(history.epoch) == 1 and "Batch 0: Invalid loss" in capsys.readouterr().out

    def test_csv_holds_what_the_history_holds(self, model, tmp_path):
        history = self.fit(model, cb.CSVLogger(tmp_path / "log.csv"), validation_data=(self.x, self.y))
        with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for name in ("loss", "val_loss"):
            assert [float(row[name]) for row in rows] == history.history[name]

    def test_progress_bar(self, model, capsys):
        model.fit(self.x, self.y, batch_size=2, epochs=2, validation_data=(self.x, self.y))
        model.evaluate(self.x, self.y)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["Epoch", "2/2", "Epoch", "2/2", "1/1"]
        assert " - loss: " in lines[1] and " - val_loss: " in lines[1]

    def test_hooks_of_evaluate_and_predict(self, model):
        seen = []
        names = [n for n in vars(cb.Callback) if n.startswith(("on_test", "on_predict"))]
        spy = cb.LambdaCallback(**{n: lambda *args, n=n: seen.append(n) for n in names})
        model.evaluate(self.x, self.y, verbose=0, callbacks=[spy])
        model.predict(self.x, verbose=0, callbacks=[spy])
        assert seen == [
            f"on_{k}_{h}" for k in ("test", "predict") for h in ("begin", "batch_begin", "batch_end", "end")
        ]

    def test_batch_logs_are_those_of_the_epoch_so_far(self, model):
        seen = []
        history = self.fit(model, cb.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])))
        assert seen[1::2] == history.history["loss"]


def test_a_history_shows_its_metrics():
    history = cb.History()
    assert repr(history) == "<History epochs=0>"
    history.set_model(Model())
    for epoch, loss in enumerate((2.0, 0.123456)):
        history.on_epoch_end(epoch, {"loss": loss, "val_f1": np.ones(2)})
    assert repr(history) == "<History epochs=2 loss=0.1235 val_f1=[1. 1.]>"


def test_callbacks_can_be_copied_before_they_are_used(tmp_path):
    """Tuners copy the callbacks for each trial."""
    given = [
        cb.EarlyStopping(),
        cb.ReduceLROnPlateau(),
        cb.ModelCheckpoint(tmp_path / "m.keras"),
        cb.TensorBoard(tmp_path),
    ]
    copies = copy.deepcopy(given)
    assert [type(each) for each in copies] == [type(each) for each in given]
    assert copies[-1].log_dir == given[-1].log_dir and copies[-1] is not given[-1]
