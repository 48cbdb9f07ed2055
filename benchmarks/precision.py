"""python -m benchmarks.precision [--products] [--quick]: dtype policies of 16 bits beside float32, in time.

It measures the minimum time of a training step and of `predict_on_batch` for three models in each policy, alternating, with one
thread, for two sets of instructions. --products measures the kernels of matrix products instead, for bfloat16 and for float32
numbers. These are the tables of docs/precision.md.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.kernels import dense, half_products

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
SIZES = ((256, 1024, 1024), (128, 512, 512), (32, 1024, 1024))  # rows, terms, columns
ROUNDS = 60


def mlp() -> tuple[Any, tuple]:
    """Dense layers, and the shape of a batch."""
    return [layers.Dense(512, "relu"), layers.Dense(512, "relu"), layers.Dense(10)], (128, 784)


def convolutions() -> tuple[Any, tuple]:
    """Two convolutions."""
    first, second = (layers.Conv2D(filters, 3, activation="relu") for filters in (16, 32))
    return [first, layers.MaxPooling2D(), second, layers.GlobalAveragePooling2D(), layers.Dense(10)], (64, 28, 28, 1)


def lstm() -> tuple[Any, tuple]:
    """A recurrent layer."""
    return [layers.LSTM(64), layers.Dense(10)], (64, 50, 16)


MODELS = {"MLP": mlp, "convolutions": convolutions, "LSTM": lstm}


def minimum(calls: list[Callable], rounds: int) -> list[float]:
    """The minimum milliseconds of each call; the calls alternate."""
    found = [np.inf] * len(calls)
    for _ in range(rounds + 2):
        for i, call in enumerate(calls):
            before = time.perf_counter()
            call()
            found[i] = min(found[i], time.perf_counter() - before)
    return [1e3 * each for each in found]


def step_of(policy: str, make: Callable, trains: bool) -> Callable:
    """A training step, or a prediction, of a new model with a policy."""
    keras.config.set_dtype_policy(policy)
    parts, shape = make()
    model = keras.Sequential([keras.Input(shape[1:]), *parts])
    keras.config.set_dtype_policy(None)
    x, y = np.random.default_rng(0).normal(size=shape).astype("float32"), np.zeros((shape[0], 10), "float32")
    model.compile("sgd", "mse")
    return (lambda: model.train_on_batch(x, y)) if trains else (lambda: model.predict_on_batch(x))


def print_models(instructions: str, rounds: int) -> None:
    """Print the rows of the table of models for the present instructions."""
    for name, make in MODELS.items():
        for what in ("train", "predict"):
            times = minimum([step_of(policy, make, what == "train") for policy in POLICIES], rounds)
            print(f"| {name}, {what} | {instructions} |", " | ".join(f"{each:.2f}" for each in times), "|", flush=True)


def products_of(dtype: str, size: tuple[int, int, int]) -> list[Callable]:
    """A product of two matrices of numbers of a dtype, and those of its gradients."""
    m, k, n = size
    rng, matmul = np.random.default_rng(0), half_products.matmul if dtype == "bfloat16" else dense.matmul
    numbers = (ops.cast(rng.normal(size=shape).astype("float32"), dtype) for shape in ((m, k), (k, n), (m, n)))
    x, w, dy = (np.asarray(each, np.float32) for each in numbers)
    return [lambda: matmul(x, w), lambda: matmul(x, dy, transpose_a=True), lambda: matmul(dy, w, transpose_b=True)]


def print_products(instructions: str, rounds: int) -> None:
    """Print the rows of the table of products for the present instructions: bfloat16, float32 and their ratio."""
    for size in SIZES:
        both = [products_of(dtype, size) for dtype in ("bfloat16", "float32")]
        cells = []
        for pair in zip(*both, strict=True):
            half, whole = minimum(list(pair), 3 * rounds)
            cells.append(f"{half:.2f}, {whole:.2f} ({half / whole:.2f})")
        print(f"| {' x '.join(map(str, size))} | {instructions} |", " | ".join(cells), "|", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table, in a process for each set of instructions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, to see that it works")
    parser.add_argument("--products", action="store_true", help="measure products of matrices")
    parser.add_argument("--only", metavar="NAME", help="measure with the present instructions, under this name")
    arguments = parser.parse_args(argv)
    if arguments.only:
        keras.set_threads(1)
        (print_products if arguments.products else print_models)(arguments.only, 1 if arguments.quick else ROUNDS)
        return
    columns = ("forward", "gradient of w", "gradient of x") if arguments.products else POLICIES
    print(f"| {'size' if arguments.products else 'model'} | instructions |", " | ".join(columns), "|")
    print("|---|---" + "|---:" * len(columns) + "|", flush=True)
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    for name, level in {"all": "", **({"AVX2": "x86-64-v3"} if on_x86 else {})}.items():
        given = ["--products"] * arguments.products + ["--quick"] * arguments.quick
        command = [sys.executable, __file__, "--only", name, *given]
        subprocess.run(command, env={**os.environ, "NUMBA_CPU_NAME": level}, check=True)


if __name__ == "__main__":
    main()
