"""python -m benchmarks.quantization [--times|--row] [--quick]: the costs of int8 and int4 in accuracy, bytes and time.

The digits are `nbkeras.datasets.digits`; the text is Python's help (`pydoc_data.topics`), and models predict its next character.
Each model is trained once in float32 and then quantized in four ways. --times measures the minimum time of `predict_on_batch`
for networks of run_keras.py, alternating between floats and integers. --row measures products of one row with weights that are
not in the cache, for two sets of instructions. These are the tables of docs/quantization.md.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import nbkeras as keras
from nbkeras import layers, ops, quantizers
from nbkeras.datasets import digits

WEIGHTS_ONLY = {"config": quantizers.Int8QuantizationConfig(activation_quantizer=None)}
WAYS: dict[str, dict[str, Any] | None] = {
    "float32": None,
    'quantize("int8")': {"mode": "int8"},
    "and beyond_keras=True": {"mode": "int8", "beyond_keras": True},
    "weights alone, beyond_keras=True": {**WEIGHTS_ONLY, "beyond_keras": True},
    'quantize("int4")': {"mode": "int4"},
}
LENGTH = 40  # characters before the next one


def mlp() -> Any:
    """Digits by dense layers."""
    dense = [layers.Dense(256, "relu"), layers.Dense(256, "relu"), layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((8, 8)), layers.Rescaling(1 / 16), layers.Flatten(), *dense])


def cnn() -> Any:
    """Digits by convolutions."""
    convolutions = [layers.Conv2D(32, 3, activation="relu"), layers.Conv2D(64, 3, activation="relu")]
    last = [layers.Flatten(), layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 16), *convolutions, *last])


def gru(characters: int) -> Any:
    """The next character by a recurrent layer."""
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(characters, 32),
            layers.GRU(128),
            layers.Dense(characters, "softmax"),
        ]
    )


class Placed(layers.Layer):
    """Adds a learned vector for each position of a sequence."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = layers.Embedding(LENGTH, 64)

    def build(self, input_shape):
        self.table.build()

    def call(self, inputs):
        return inputs + self.table(ops.arange(LENGTH))


def transformer(characters: int) -> Any:
    """The next character by attention."""
    words = keras.Input((LENGTH,), dtype="int32")
    x = Placed()(layers.Embedding(characters, 64)(words))
    for _ in range(2):
        normal = layers.LayerNormalization()(x)
        x = layers.add([x, layers.MultiHeadAttention(4, 16)(normal, normal, use_causal_mask=True)])
        x = layers.add([x, layers.Dense(64)(layers.Dense(256, "relu")(layers.LayerNormalization()(x)))])
    last = layers.LayerNormalization()(x[:, -1])
    return keras.Model(words, layers.Dense(characters, "softmax")(last))


def text() -> tuple[tuple, tuple, int]:
    """(examples to train with, examples to test with, number of characters)."""
    from pydoc_data.topics import topics

    whole = "\n".join(topics[name] for name in sorted(topics))
    known = {letter: number for number, letter in enumerate(sorted(set(whole)))}
    numbers = np.array([known[letter] for letter in whole], np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, LENGTH + 1)
    parts = windows[: int(0.9 * len(windows)) : 13], windows[int(0.92 * len(windows)) :: 5]
    train, test = ((part[:, :-1], part[:, -1]) for part in parts)
    return train, test, len(known)


def measure(name: str, make: Callable[[], Any], train: tuple, test: tuple, epochs: int) -> list[tuple]:
    """(model, way, accuracy, bytes of the weights, bytes of the file) for each way."""
    keras.utils.set_random_seed(1)
    model = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*train, epochs=epochs, batch_size=64, verbose=0)
    found, weights = [], model.get_weights()
    for way, arguments in WAYS.items():
        if arguments is not None:
            model = make()
            model.set_weights(weights)
            model.quantize(**arguments, **({} if arguments.get("beyond_keras") else {"filters": _is_of_keras}))
        correct = model.predict(test[0], batch_size=256, verbose=0).argmax(-1) == test[1]
        with tempfile.TemporaryDirectory() as folder:
            model.save(os.path.join(folder, "model.keras"), include_optimizer=False)
            size = os.path.getsize(os.path.join(folder, "model.keras"))
        found.append((name, way, float(correct.mean()), sum(weight.data.nbytes for weight in model.weights), size))
    return found


TIMED = ("mlp", "resnet8", "ds_cnn", "mobilenet", "autoencoder", "wake_word")
ROUNDS, SECONDS = 30, 0.02  # of a measurement; of a round


def measure_times(name: str, rows: int, quick: bool) -> list[float]:
    """The minimum microseconds of `predict_on_batch`: floats with one thread and two, then integers."""
    networks, workloads = importlib.import_module("run_keras"), importlib.import_module("workloads")
    inputs, _ = workloads.NETWORKS[name](np.random.default_rng(0), rows)
    models = [networks.NETWORKS[name](rows) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    models[1].quantize("int8", beyond_keras=True)
    minimum = np.full((2, 2), np.inf)
    for threads in (1, 2):
        keras.set_threads(threads)
        for _ in range(1 if quick else ROUNDS):
            for i, model in enumerate(models):
                start = end = time.perf_counter()
                while end <= start + (0 if quick else SECONDS):
                    before = time.perf_counter()
                    model.predict_on_batch(inputs[0])
                    end = time.perf_counter()
                    minimum[i, threads - 1] = min(minimum[i, threads - 1], end - before)
    return [*(1e6 * minimum.ravel())]


def print_times(quick: bool) -> None:
    """Measure all networks and print a table."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    print("| network | rows | float32 | int8 |\n|---|---:|---:|---:|")
    for name in TIMED:
        for rows in (1, 32):
            times = measure_times(name, rows, quick)
            print("| {} | {} | {:,.1f}, {:,.1f} | {:,.1f}, {:,.1f} |".format(name, rows, *times), flush=True)


INT4 = quantizers.Int4QuantizationConfig
ROW_WAYS: dict[str, dict[str, Any] | None] = {
    "float32": None,
    "bfloat16": None,
    "int8": {"mode": "int8"},
    "int8, float inputs": WEIGHTS_ONLY,
    "int4, block_size=128": {"config": INT4(block_size=128)},
    "int4, block_size=None": {"config": INT4(block_size=None)},
}


def print_row_times(instructions: str, quick: bool) -> None:
    """Print two rows of the table: the minimum microseconds of a product of one row in each way, with one thread and with two."""
    size, copies = (128, 1) if quick else (4096, 6)  # copies: more bytes than a cache has
    x = np.random.default_rng(0).normal(size=(1, size)).astype("float32")
    models: list[tuple[int, Any]] = []
    for number, (way, arguments) in enumerate(ROW_WAYS.items()):
        for _ in range(copies):
            model = keras.Sequential([keras.Input((size,)), layers.Dense(size, use_bias=False)])
            if arguments is not None:
                model.quantize(**arguments)
            models.append((number, model.frozen(weights=way if way == "bfloat16" else None)))
    for threads in (1, 2):
        keras.set_threads(threads)
        minimum = np.full(len(ROW_WAYS), np.inf)
        for _ in range(2 if quick else 20):
            for number, model in models:
                before = time.perf_counter()
                model(x)
                minimum[number] = min(minimum[number], time.perf_counter() - before)
        print(f"| {threads}, {instructions} |", " | ".join(f"{each:,.0f}" for each in 1e6 * minimum), "|", flush=True)


def print_row_table(quick: bool) -> None:
    """Run `print_row_times` in a process for each set of instructions."""
    print("| threads, instructions |", " | ".join(ROW_WAYS), "|\n|---" + "|---:" * len(ROW_WAYS) + "|", flush=True)
    levels = {"all": "", "AVX2": "x86-64-v3"} if platform.machine() in ("x86_64", "AMD64") else {"all": ""}
    for name, level in levels.items():
        command = [sys.executable, __file__, "--row", name, *["--quick"] * quick]
        subprocess.run(command, env={**os.environ, "NUMBA_CPU_NAME": level}, check=True)


def _is_of_keras(layer: Any) -> bool:
    return layer.is_quantized_by_keras


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch on a few examples, to see that it works")
    parser.add_argument("--times", action="store_true", help="measure times, with one thread and with two")
    what = "measure products of one row; with a name for the present instructions, only with these"
    parser.add_argument("--row", nargs="?", const="", metavar="NAME", help=what)
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    if arguments.row is not None:
        if arguments.row:
            print_row_times(arguments.row, quick)
        else:
            print_row_table(quick)
        return
    if arguments.times:
        print_times(quick)
        return
    (x, y), (x_test, y_test) = digits.load_data()
    train, test, characters = text()
    cases = [
        ("digits, dense layers", mlp, (x, y), (x_test, y_test), 30),
        ("digits, convolutions", cnn, (x[..., None], y), (x_test[..., None], y_test), 30),
        ("next character, GRU", lambda: gru(characters), train, test, 12),
        ("next character, attention", lambda: transformer(characters), train, test, 8),
    ]
    print("| model | weights | accuracy | weights, KB | file, KB |\n|---|---|---|---|---|")
    for name, make, *data, own in cases:
        parts = [tuple(each[:64] for each in part) for part in data] if quick else data
        for row in measure(name, make, *parts, 1 if quick else own):
            print("| {} | {} | {:.2%} | {:.0f} | {:.0f} |".format(*row[:3], row[3] / 1e3, row[4] / 1e3), flush=True)
    print(f"\n{len(y_test)} digits, {len(test[1])} characters of {characters} kinds to test with")


if __name__ == "__main__":
    main()
