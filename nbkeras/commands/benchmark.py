"""`nbkeras bench`: the speed of some small models on this machine."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from nbkeras import layers
from nbkeras.engine.progress import compilations_shown, print_message
from nbkeras.layers import Input
from nbkeras.models import Model, Sequential
from nbkeras.utils import set_random_seed

_CLASSES, _MIN_RUNS = 10, 5


def _dense() -> Model:
    hidden = [layers.Dense(512, activation="relu"), layers.Dense(512, activation="relu")]
    return Sequential([Input((784,)), *hidden, layers.Dense(_CLASSES, activation="softmax")])


def _convolution() -> Model:
    blocks = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(64, 3, activation="relu")]
    return Sequential([Input((28, 28, 1)), *blocks, layers.Flatten(), layers.Dense(_CLASSES, activation="softmax")])


def _lstm() -> Model:
    return Sequential([Input((50, 32)), layers.LSTM(64), layers.Dense(_CLASSES, activation="softmax")])


def _attention() -> Model:
    inputs = Input((64, 64))
    attended = layers.LayerNormalization()(layers.Add()([inputs, layers.MultiHeadAttention(4, 16)(inputs, inputs)]))
    mixed = layers.Add()([attended, layers.Dense(64)(layers.Dense(128, activation="gelu")(attended))])
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(mixed))
    return Model(inputs, layers.Dense(_CLASSES, activation="softmax")(pooled))


MODELS: dict[str, Callable[[], Model]] = {
    "dense": _dense,
    "convolution": _convolution,
    "lstm": _lstm,
    "attention": _attention,
}


def bench(names: Sequence[str] = (), batch_size: int = 32, seconds: float = 0.5) -> None:
    """Train and predict with some small models, and print the median times.

    Args:
        names: Names in MODELS; all if empty.
        batch_size: The number of rows of a training step.
        seconds: The approximate time of each measurement.

    Raises:
        ValueError: There is no model with this name.

    Example:
        >>> from nbkeras import commands
        >>> commands.bench(["dense"], seconds=0.01)  # doctest: +ELLIPSIS
        model ...
        dense ...
    """
    for name in names:
        if name not in MODELS:
            raise ValueError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    print_message(f"{'model':<14}{'parameters':>12}{f'ms a step of {batch_size}':>20}{'us a predict of 1':>20}")
    for name in names or MODELS:
        set_random_seed(0)
        model = MODELS[name]()
        model.compile("adam", "sparse_categorical_crossentropy")
        x = np.random.default_rng(0).random((batch_size, *model.inputs[0].shape[1:]), "float32")
        y = np.arange(batch_size) % _CLASSES
        with compilations_shown():
            step = _median(lambda: model.train_on_batch(x, y), seconds)  # noqa: B023 - called in this pass
            predict = _median(lambda: model.predict_on_batch(x[:1]), seconds)  # noqa: B023
        print_message(f"{name:<14}{model.count_params():>12,}{step * 1e3:>20.3f}{predict * 1e6:>20.1f}")


def _median(run: Callable[[], object], seconds: float) -> float:
    run()  # the first run compiles and records
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
