"""python -m benchmarks.memory [study ...] [--rounds 500] [--calls 1000000] [--steps 10000] [--json FILE] [--traces]

Measures resident memory over long use, in one process for each study: after a warm-up (an additional eighth of the work), then at
a quarter, a half and the end of the work. Memory is flat if the last three quarters add less than LIMIT bytes of resident memory,
and fewer than BLOCKS allocated blocks of Python. Otherwise the exit status is 1. --traces prints where leaked memory was
allocated; this is slow and makes the figures larger.
"""

import argparse
import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nbkeras as keras
from nbkeras import layers

LIMIT = 2 * 2**20
BLOCKS = 2000
MARKS = ("start", "quarter", "half", "end")
RANDOM = np.random.default_rng(0)


def resident() -> int:
    """The resident memory of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


# -------------------- models, built and fitted and dropped --------------------


def dense() -> tuple[keras.Model, Any, Any]:
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(32, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(use_ema=True), "categorical_crossentropy", metrics=["accuracy", keras.metrics.AUC()]
    )
    return model, floats(32, 16), np.eye(3, dtype=np.float32)[RANDOM.integers(0, 3, 32)]


def convolution() -> tuple[keras.Model, Any, Any]:
    model = keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), loss, metrics=["sparse_categorical_accuracy"])
    return model, floats(32, 12, 12, 2), RANDOM.integers(0, 2, 32)


def stateful() -> tuple[keras.Model, Any, Any]:
    model = keras.Sequential(
        [
            keras.Input((6, 4), batch_size=8),
            layers.LSTM(8, stateful=True, return_sequences=True, dropout=0.2),
            layers.GRU(8),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model, floats(32, 6, 4), floats(32, 1)


def embedding() -> tuple[keras.Model, Any, Any]:
    inputs = keras.Input((7,), dtype="int32")
    mixed = layers.Bidirectional(layers.LSTM(4))(layers.Embedding(1000, 8, mask_zero=True)(inputs))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(mixed))
    model.compile("rmsprop", "binary_crossentropy")
    return model, RANDOM.integers(0, 1000, (32, 7)).astype(np.int32), RANDOM.integers(0, 2, (32, 1)).astype(np.float32)


def two_outputs() -> tuple[keras.Model, Any, Any]:
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    shared = layers.Dense(6, activation="tanh")
    both = layers.Concatenate()([shared(a), shared(b)]) * 2.0
    model = keras.Model({"a": a, "b": b}, [layers.Dense(1, name="one")(both), layers.Dense(2, name="two")(both)])
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model.compile(optimizer, {"one": "mse", "two": "mae"}, metrics={"one": ["mae"], "two": ["mse"]})
    return model, {"a": floats(32, 5), "b": floats(32, 5)}, [floats(32, 1), floats(32, 2)]


class Attention(keras.Model):
    """A subclass whose layers are its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 4)
        self.norm = layers.LayerNormalization()
        self.out = layers.Dense(1)
        self.scale = keras.Variable(1.0)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(keras.ops.mean(self.norm(x + self.attention(x, x)) * self.scale, axis=1))


def subclass() -> tuple[keras.Model, Any, Any]:
    model = Attention()
    model.compile("adamw", "mse")
    return model, floats(32, 5, 8), floats(32, 1)


KINDS: dict[str, Callable[[], tuple[keras.Model, Any, Any]]] = {
    made.__name__: made for made in (dense, convolution, stateful, embedding, two_outputs, subclass)
}


def one_model(kind: str) -> None:
    """Build a model, compile it, fit it with validation data and callbacks, evaluate, predict, and drop it."""
    model, x, y = KINDS[kind]()
    stop = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    slower = keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    calls = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), stop]
    if kind != "convolution":  # whose rate is a schedule
        calls.append(slower)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, validation_data=(x, y), callbacks=calls)
    model.evaluate(x, y, batch_size=8, verbose=0)
    model.predict(x, batch_size=8, verbose=0)


def rounds() -> Iterator[None]:
    """In each round six models are built, compiled, fitted with validation and callbacks, and dropped"""
    while True:
        for kind in KINDS:
            one_model(kind)
        yield


# -------------------- predictions --------------------


def predictor() -> keras.Model:
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(2, activation="softmax")]
    )


def predict() -> Iterator[None]:
    """`model.predict(x, verbose=0)`, one sample"""
    model, x = predictor(), floats(1, 8)
    while True:
        model.predict(x, verbose=0)
        yield


def predict_on_batch() -> Iterator[None]:
    """`model.predict_on_batch(x)`, one sample"""
    model, x = predictor(), floats(1, 8)
    while True:
        model.predict_on_batch(x)
        yield


def call() -> Iterator[None]:
    """`model(x)`, one sample"""
    model, x = predictor(), floats(1, 8)
    while True:
        model(x)
        yield


def mixed() -> Iterator[None]:
    """`model.predict` and `model(x)` on changing lengths and numbers of samples, more of them than kept programs"""
    inputs = keras.Input((None, 4))
    model = keras.Model(
        inputs, layers.Dense(1)(layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3, padding="same")(inputs)))
    )
    arrays = [floats(n, length, 4) for n in (1, 2, 3) for length in range(4, 24)]
    for number in itertools.count():
        # mostly a few shapes, so that programs are used again; every 50th is another shape
        x = arrays[number % 4 if number % 50 else number // 50 % len(arrays)]
        if number % 2:
            model.predict(x, verbose=0)
        else:
            model(x)
        yield


# -------------------- steps --------------------


def tape_steps() -> Iterator[None]:
    """GradientTape and optimizer.apply, eager"""
    model, x, y = dense()
    loss_of, optimizer = keras.losses.CategoricalCrossentropy(), keras.optimizers.Adam(1e-3)
    metric = keras.metrics.Mean()
    while True:
        with keras.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        metric.update_state(loss)
        yield


def persistent_tapes() -> Iterator[None]:
    """Nested tapes, and a gradient of a gradient"""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="tanh"), layers.Dense(1)])
    x, optimizer = keras.ops.convert_to_tensor(floats(8, 4)), keras.optimizers.SGD(1e-3)
    while True:
        with keras.GradientTape(persistent=True) as outer:
            with keras.GradientTape() as inner:
                inner.watch(x)
                y = keras.ops.sum(model(x))
            loss = keras.ops.mean(keras.ops.square(inner.gradient(y, x)))
        weights = model.trainable_weights
        found = [(g, w) for g, w in zip(outer.gradient(loss, weights), weights, strict=True) if g is not None]
        optimizer.apply_gradients(found)
        yield


def train_on_batch() -> Iterator[None]:
    """`model.train_on_batch(x, y)`, a recorded step"""
    model, x, y = dense()
    while True:
        model.train_on_batch(x, y)
        yield


def fit() -> Iterator[None]:
    """`fit` of a generator, 25 steps each time; an attribute that the step reads is changed now and then"""
    model, x, y = dense()

    def batches() -> Iterator[tuple]:
        while True:
            yield x, y

    for number in itertools.count():
        if number % 16 == 0:
            model.layers[2].rate = 0.25 + 0.25 * (number % 32 > 0)  # the step is recorded again
        model.fit(batches(), steps_per_epoch=25, verbose=0)
        yield from [None] * 25


# -------------------- measuring --------------------

# By name: the study, the option with the amount of its work, and the study's share of that amount.
STUDIES: dict[str, tuple[Callable[[], Iterator[None]], str, float]] = {
    "rounds": (rounds, "rounds", 1),
    "predict": (predict, "calls", 0.6),
    "predict_on_batch": (predict_on_batch, "calls", 0.2),
    "call": (call, "calls", 0.15),
    "mixed": (mixed, "calls", 0.05),
    "tape_steps": (tape_steps, "steps", 1),
    "persistent_tapes": (persistent_tapes, "steps", 0.2),
    "train_on_batch": (train_on_batch, "steps", 1),
    "fit": (fit, "steps", 1),
}


def measure(study: Callable[[], Iterator[None]], count: int, traces: bool = False) -> dict[str, Any]:
    """Do the work; returns resident memory and allocated blocks at each of MARKS, and the seconds.

    The warm-up fills caches that have a bound: kernels, programs, plans of launches.
    """
    warm = max(count // 8, 1)
    at = {warm: "start", warm + count // 4: "quarter", warm + count // 2: "half", warm + count: "end"}
    found: dict[str, Any] = {"count": count, "resident": {}, "blocks": {}}
    begin, before = time.perf_counter(), None
    for done, _ in zip(range(1, warm + count + 1), study(), strict=False):
        if mark := at.get(done):
            gc.collect()
            if traces and mark == "start":
                tracemalloc.start(12)
                before = tracemalloc.take_snapshot()
            found["resident"][mark], found["blocks"][mark] = resident(), sys.getallocatedblocks()
    found["seconds"] = time.perf_counter() - begin
    if before is not None:
        kept = [each for each in tracemalloc.take_snapshot().compare_to(before, "traceback") if each.size_diff > 0]
        for each in kept[:8]:
            print(each, *each.traceback.format(), sep="\n", file=sys.stderr)
        tracemalloc.stop()
    found["flat"] = is_flat(found)
    return found


def is_flat(found: dict[str, Any]) -> bool:
    """True if the last three quarters of the work added less than the limits."""
    added, blocks = (found[what]["end"] - found[what]["quarter"] for what in ("resident", "blocks"))
    return added < LIMIT and blocks < BLOCKS


def in_a_process(name: str, count: int, traces: bool) -> dict[str, Any]:
    """Run the study in a separate process, so that its memory includes nothing else."""
    command = [sys.executable, __file__, "--child", name, str(count), *(["--traces"] if traces else [])]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}  # modules in this file's folder have the names of other modules
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the study {name} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def as_text(results: dict[str, dict[str, Any]]) -> str:
    """The results as a table."""
    lines = [
        "| study | count | MiB at the start | a quarter | half | end | added after the quarter | blocks added | seconds | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        sizes = [f"{found['resident'][mark] / 2**20:.1f}" for mark in MARKS]
        added = (found["resident"]["end"] - found["resident"]["quarter"]) / 2**10
        blocks = found["blocks"]["end"] - found["blocks"]["quarter"]
        verdict = "flat" if found["flat"] else "GROWS"
        cells = [
            name,
            f"{found['count']:,}",
            *sizes,
            f"{added:.0f} KiB",
            f"{blocks}",
            f"{found['seconds']:.0f}",
            verdict,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    about = "; ".join(f"{name}: {study.__doc__}" for name, (study, _, _) in STUDIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__.split("\n\n")[1], epilog=about
    )
    parser.add_argument("names", nargs="*", metavar="study", help=f"of {', '.join(STUDIES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=500, help="models (default 500)")
    parser.add_argument(
        "--calls", type=int, default=1_000_000, help="predictions, of all ways together (default 1,000,000)"
    )
    parser.add_argument("--steps", type=int, default=10_000, help="training steps of each kind (default 10,000)")
    parser.add_argument("--json", metavar="FILE", help="write the results to this file")
    parser.add_argument("--traces", action="store_true", help="print where leaked memory was allocated")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        name, count = options.child
        with contextlib.redirect_stdout(sys.stderr):
            found = measure(STUDIES[name][0], int(count), options.traces)
        print(json.dumps(found))
        return 0
    if unknown := set(options.names) - set(STUDIES):
        parser.error(f"no such study: {', '.join(sorted(unknown))}")
    results = {}
    for name, (_, what, share) in STUDIES.items():
        if not options.names or name in options.names:
            results[name] = in_a_process(name, max(int(getattr(options, what) * share), 4), options.traces)
            print(as_text({name: results[name]}).splitlines()[-1], flush=True)
    print("\n" + as_text(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    return 0 if all(found["flat"] for found in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
