"""python -m benchmarks.derivatives [--quick] [--json FILE]: the cost of second derivatives compared with first ones, by family.

First: an op and its gradient. Second: the gradient of a weighted sum of that gradient, by nested tapes, as for a gradient penalty
or a product with a Hessian. Both are recorded; a time is the minimum of many alternating replays on one thread. Memory is the
recorded program's and its inputs'. scripts/make_orders.py shows the file in docs/derivatives.md.
"""

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.session import machine
from nbkeras import GradientTape, Variable, ops
from nbkeras.engine import structures
from nbkeras.engine.program import Bound
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.threads import set_threads

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Small random numbers."""
    return (RNG.standard_normal(shape) / math.sqrt(shape[-1])).astype("float32")


def batch_normalization(x: Any, gamma: Any, beta: Any) -> Any:
    """Of a batch, with unused moving statistics."""
    moving = [Variable(np.zeros(x.shape[-1], "float32"), trainable=False) for _ in range(2)]
    return ops.batch_normalization_training(x, *moving, -1, beta, gamma)


def crossentropy(logits: Any) -> Any:
    """Of the first class."""
    return ops.sparse_categorical_crossentropy(np.zeros(logits.shape[0], "int32"), logits, from_logits=True)


LENGTH, UNITS = 32, 64
CASES: dict[str, tuple[Callable, tuple[np.ndarray, ...]]] = {
    "elementwise, `gelu(x * y)`": (lambda x, y: ops.gelu(x * y), (normal(256, 1024), normal(256, 1024))),
    "dense 256 x 512 x 512, relu": (
        functools.partial(ops.dense, activation=ops.relu),
        (normal(256, 512), normal(512, 512), normal(512)),
    ),
    "matmul 512 x 512 x 512": (ops.matmul, (normal(512, 512), normal(512, 512))),
    "conv2d 16 x 32 x 32 x 16 by 3 x 3 x 32, relu": (
        functools.partial(ops.conv2d, padding="same", activation=ops.relu),
        (normal(16, 32, 32, 16), normal(3, 3, 16, 32), normal(32)),
    ),
    "conv_transpose 16 x 16 x 16 x 32 by 3 x 3 x 16": (
        functools.partial(ops.conv_transpose, strides=2, padding="same"),
        (normal(16, 16, 16, 32), normal(3, 3, 16, 32)),
    ),
    "max_pool 16 x 32 x 32 x 32 by 2 x 2": (functools.partial(ops.max_pool, pool_size=2), (normal(16, 32, 32, 32),)),
    "average_pool 16 x 32 x 32 x 32 by 2 x 2": (
        functools.partial(ops.average_pool, pool_size=2),
        (normal(16, 32, 32, 32),),
    ),
    "batch_normalization 16 x 32 x 32 x 32": (
        batch_normalization,
        (normal(16, 32, 32, 32), normal(32), normal(32)),
    ),
    "layer_normalization 1024 x 256": (ops.layer_normalization, (normal(1024, 256), normal(256), normal(256))),
    "group_normalization 16 x 32 x 32 x 32": (
        lambda x, gamma, beta: ops.group_normalization(x, 8, gamma, beta),
        (normal(16, 32, 32, 32), normal(32), normal(32)),
    ),
    "attention 8 x 64 x 4 x 16": (ops.dot_product_attention, tuple(normal(8, 64, 4, 16) for _ in range(3))),
    "embedding 2000 x 64, 1024 rows": (
        lambda table: ops.tanh(ops.embedding(np.arange(1024, dtype="int32") % 700, table)),
        (normal(2000, 64),),
    ),
    "softmax cross-entropy 1024 x 100": (crossentropy, (normal(1024, 100),)),
    f"lstm 32 x {LENGTH} x 32, {UNITS} units": (
        lambda *weights: ops.lstm(*weights)[0],
        (normal(32, LENGTH, 32), normal(32, 4 * UNITS), normal(UNITS, 4 * UNITS), normal(4 * UNITS)),
    ),
    f"gru 32 x {LENGTH} x 32, {UNITS} units": (
        lambda *weights: ops.gru(*weights)[0],
        (normal(32, LENGTH, 32), normal(32, 3 * UNITS), normal(UNITS, 3 * UNITS), normal(2, 3 * UNITS)),
    ),
    f"simple_rnn 32 x {LENGTH} x 32, {UNITS} units": (
        lambda *weights: ops.simple_rnn(*weights)[0],
        (normal(32, LENGTH, 32), normal(32, UNITS), normal(UNITS, UNITS), normal(UNITS)),
    ),
    "ctc_loss 16 x 50 x 20, 10 labels": (
        lambda x: ops.ctc_loss(np.full((16, 10), 3, "int32"), x, np.full(16, 10), np.full(16, 50)),
        (normal(16, 50, 20),),
    ),
    "segment_sum 4096 x 64": (
        lambda x: ops.tanh(ops.segment_sum(x, np.arange(4096) % 100, 100)),
        (normal(4096, 64),),
    ),
    "fft 64 x 1024": (
        lambda x, y: [ops.square(part) for part in ops.fft((x, y))],
        (normal(64, 1024), normal(64, 1024)),
    ),
    "solve 16 x 32 x 32": (ops.solve, (normal(16, 32, 32) + 2 * np.eye(32, dtype="float32"), normal(16, 32, 8))),
}


def first(function: Callable, sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients of the sum of squares of an op's results."""
    with GradientTape() as tape:
        tape.watch(sources)
        outputs = structures.flatten(function(*sources))
        loss = sum(ops.sum(ops.square(y)) for y in outputs)
    return tape.gradient(loss, sources)


def second(function: Callable, sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients of the sum of squares of `first`."""
    with GradientTape() as tape:
        tape.watch(sources)
        penalty = sum(ops.sum(ops.square(g)) for g in first(function, sources) if g is not None)
    return tape.gradient(penalty, sources)


def recorded(step: Callable, function: Callable, arrays: tuple) -> Bound:
    """A program that computes the gradients; it is not run."""
    recorder = Recorder()
    held = [device.persistent(array.copy()) for array in arrays]
    with device.record(recorder):
        found = step(function, [Tensor(array) for array in held])
    if recorder.reason is not None:
        raise RuntimeError(recorder.reason)
    program = recorder.sealed([each.data for each in found if each is not None]).bind()
    return program


def minimum(programs: list[Bound], count: int) -> list[float]:
    """The minimum time of a replay of each program, in seconds on one thread; the programs alternate."""
    best = [math.inf] * len(programs)
    for _ in range(count):
        for i, program in enumerate(programs):
            start = time.thread_time()
            program.run()
            best[i] = min(best[i], time.thread_time() - start)
    return best


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derivatives", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one replay of each, only to check that it runs")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    options = parser.parse_args(argv)
    set_threads(1)
    rows = {}
    print(f"{'case':48} {'first':>10} {'second':>10} {'time':>6} {'memory':>7}")
    for name, (function, arrays) in CASES.items():
        programs = [recorded(step, function, arrays) for step in (first, second)]
        times = minimum(programs, 1 if options.quick else 50)
        own = sum(array.nbytes for array in arrays)
        memory = [program.program.nbytes + own for program in programs]
        rows[name] = {"seconds": times, "bytes": memory}
        shown = [f"{1e6 * each:8.0f}us" for each in times]
        print(
            f"{name:48} {shown[0]:>10} {shown[1]:>10} {times[1] / times[0]:6.1f} {memory[1] / memory[0]:7.1f}",
            flush=True,
        )
    if options.json:
        report = {"machine": machine("cpu"), "cases": rows}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
