"""Fills the kernel cache in advance: runs a small model of each family once, so that later processes find its kernels."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from nbkeras import config, layers
from nbkeras.data.encoding import to_categorical
from nbkeras.engine.program import get_threads
from nbkeras.engine.progress import compilations_shown, print_message
from nbkeras.optimizers import rules
from nbkeras.training.sequential import Sequential

_CLASSES = 3


def _train(model_layers: list, x: np.ndarray, optimizer="rmsprop") -> None:
    """Train, test and predict a classifier with these layers for one step each."""
    y = to_categorical(np.arange(len(x)) % _CLASSES, _CLASSES, "float32")
    _steps([*model_layers, layers.Dense(_CLASSES, activation="softmax")], x, y, "categorical_crossentropy", optimizer)


def _steps(model_layers: list, x: np.ndarray, y: np.ndarray, loss: str, optimizer="rmsprop") -> None:
    """Train, evaluate and predict once."""
    model = Sequential(model_layers)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=len(x), verbose=0)
    model.evaluate(x, y, batch_size=len(x), verbose=0)
    model.predict(x, batch_size=len(x), verbose=0)


def _dense() -> None:
    # Sizes come in pairs: some kernels compute small work, others divide large work among threads.
    for units, batch in ((8, 4), (512, 128)):
        x = np.ones((batch, 64))
        _train([layers.Dense(units, activation="relu"), layers.Dropout(0.2), layers.Dense(units, activation="tanh")], x)


def _recurrent() -> None:
    for units, batch in ((8, 4), (64, 64)):
        x = np.ones((batch, 8, 16))
        for layer in (layers.LSTM, layers.GRU, layers.SimpleRNN):
            _train([layer(units, return_sequences=True), layer(units)], x)


def _convolution() -> None:
    for filters, size, batch in ((4, 8, 2), (32, 32, 32)):
        image = [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.AveragePooling2D(2),
            layers.GlobalAveragePooling2D(),
        ]
        _train(image, np.ones((batch, size, size, 3)))
        sequence = [layers.Conv1D(filters, 3, activation="relu"), layers.MaxPooling1D(2), layers.Flatten()]
        _train(sequence, np.ones((batch, 4 * size, 8)))


def _text() -> None:
    for words, units, batch in ((8, 8, 4), (100, 256, 64)):
        x = np.arange(batch * words).reshape(batch, words) % 400
        _train([layers.Embedding(400, units, mask_zero=True), layers.LSTM(8)], x)
        _train([layers.Embedding(400, units), layers.Conv1D(8, 3), layers.GlobalMaxPooling1D()], x)


def _normalization() -> None:
    for batch in (4, 128):
        x = np.ones((batch, 64))
        _train([layers.Dense(64), layers.BatchNormalization(), layers.LayerNormalization()], x)


def _outputs() -> None:
    for batch in (4, 512):
        x, numbers = np.ones((batch, 64)), np.arange(batch)
        _steps([layers.Dense(_CLASSES, "softmax")], x, numbers % _CLASSES, "sparse_categorical_crossentropy")
        for labels in (numbers % 2, (numbers % 2).astype(float)):
            _steps([layers.Dense(1, "sigmoid")], x, labels, "binary_crossentropy")
        for loss in ("mse", "mae", "huber", "hinge"):
            _steps([layers.Dense(1)], x, numbers.astype(float), loss)


def _activations() -> None:
    for units, batch in ((8, 4), (512, 128)):
        for name in ("elu", "selu", "gelu", "silu", "softplus", "softsign", "sigmoid", "hard_sigmoid", "leaky_relu"):
            _train([layers.Dense(units, activation=name)], np.ones((batch, 64)))


def _optimizers() -> None:
    for kind in dict.fromkeys(rules.registry.items().values()):
        if getattr(kind, "formula", None) is not None:
            _train([], np.ones((4, 8)), kind())


FAMILIES: dict[str, Callable[[], None]] = {
    "dense": _dense,
    "recurrent": _recurrent,
    "convolution": _convolution,
    "text": _text,
    "normalization": _normalization,
    "outputs": _outputs,
    "activations": _activations,
    "optimizers": _optimizers,
}


def run(jobs: Mapping[str, Callable[[], None]] = FAMILIES, dtype: str = "float32") -> None:
    """Run these jobs in 'float32' or 'float64' to compile their kernels, and print the time of each."""
    before = config.floatx()
    config.set_floatx(dtype)
    try:
        get_threads()  # a process may need the code of the threads even if its model uses one thread
        for name, job in jobs.items():
            start = time.perf_counter()
            with compilations_shown():
                job()
            print_message(f"{name} ({dtype}): {time.perf_counter() - start:.1f} s")
    finally:
        config.set_floatx(before)
