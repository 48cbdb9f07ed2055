"""EpochRunner without a model: the order of callbacks and steps, validation, and the ways to stop it."""

from types import SimpleNamespace

import numpy as np
import pytest

from nbkeras.callbacks import Callback
from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.data.conversion import ModelSpec, adapt
from nbkeras.training.loop import EpochRunner

X = np.arange(5.0)


class Recorder(Callback):
    """Notes the hooks that are called, with the place in the data that they name."""

    def __init__(self):
        self.seen = []

    def __getattribute__(self, name):
        if name.startswith("on_") and not name.endswith("batch"):
            return lambda *args: self.seen.append((name.removeprefix("on_"), *args[:-1]))
        return super().__getattribute__(name)


class Last(Callback):
    """Sets a flag after a batch or an epoch."""

    def __init__(self, flags, name, batch=None):
        self.flags, self.name, self.at = flags, name, batch

    def on_test_batch_end(self, batch, logs=None):
        setattr(self.flags, self.name, batch == self.at)

    def on_epoch_end(self, epoch, logs=None):
        setattr(self.flags, self.name, True)


def data(batch_size=2):
    return adapt(lambda first: ModelSpec(), X, batch_size=batch_size)


def sizes(batch):
    return batch.size


def logs_of(size):
    return lambda: {"size": size}


def test_a_prediction_needs_no_callbacks():
    assert EpochRunner("predict", data(), sizes).predict() == [2, 2, 1]


def test_epochs_with_validation_after_every_second():
    recorder, resets = Recorder(), []
    callbacks = CallbackList([recorder])
    validation = EpochRunner("test", data(5), sizes, callbacks, logs_of)
    loop = EpochRunner("train", data(3), sizes, callbacks, logs_of, reset=lambda: resets.append(len(recorder.seen)))
    assert loop.train(range(1, 3), validation, 2) == {"size": 2}  # the second of these is the third of all
    batches = [("train_batch_begin", 0), ("train_batch_end", 0), ("train_batch_begin", 1), ("train_batch_end", 1)]
    tested = [("test_begin",), ("test_batch_begin", 0), ("test_batch_end", 0), ("test_end",)]
    first, second = ("epoch_begin", 1), ("epoch_begin", 2)
    expected = [first, *batches, *tested, ("epoch_end", 1), second, *batches, ("epoch_end", 2)]
    assert recorder.seen == expected
    assert resets == [0, expected.index(second)]


@pytest.mark.parametrize("frequency, validated", [(1, True), (2, True), (3, False), ([2], True), ([1], False)])
def test_epochs_after_which_to_validate(frequency, validated):
    validation = EpochRunner("test", data(), sizes, read=logs_of)
    assert (
        "val_size" in EpochRunner("train", data(), sizes, read=logs_of).train(range(1, 2), validation, frequency)
    ) is validated


def test_a_flag_ends_an_epoch_or_all_epochs():
    flags = SimpleNamespace(stop_evaluating=True, stop_training=False)
    callbacks = CallbackList([Last(flags, "stop_evaluating", 1)])
    assert EpochRunner("test", data(), sizes, callbacks, logs_of, flags).test() == {"size": 2}
    epochs = []
    callbacks = CallbackList([Last(flags, "stop_training")])
    EpochRunner("train", data(), sizes, callbacks, logs_of, flags, lambda: epochs.append(1)).train(range(9))
    assert len(epochs) == 1


def test_data_that_run_out_end_the_epochs_with_a_warning():
    ends = adapt(lambda first: ModelSpec(), iter([X, X]), steps=2, training=True)
    with pytest.warns(UserWarning, match="the data ran out before epoch 2 of 3: training stops here"):
        assert EpochRunner("train", ends, sizes, read=logs_of).train(range(3)) == {"size": 5}


def test_logs_are_read_only_if_somebody_looks():
    read = []

    def reading(size):
        return lambda: read.append(size) or {"size": size}

    EpochRunner("train", data(), sizes, CallbackList([Last(SimpleNamespace(), "any")]), reading).train(range(1))
    assert read == [1]
