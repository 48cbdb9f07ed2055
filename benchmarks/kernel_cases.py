"""The kernels that are measured separately on a GPU, with the minimum work of each. Needs only NumPy.

Imported by run_kernels.py and run_kernels_torch.py, which have a function for each kind and make the same inputs from a seed.
Kernels bound by memory have sizes far beyond the caches of a GPU (256 MB per array), and also the sizes of small networks.
"""

import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
LONG = 1 << 26  # elements
ROUND_SECONDS = 0.01
FORWARD, BACKWARD, BOTH = "forward", "backward", "both"


@dataclass(frozen=True)
class Case:
    """A kernel with its sizes.

    kind: a function of the runners. flops: only of multiply-adds. bytes: each input read once, each output written once.
    """

    name: str
    kind: str
    sizes: tuple
    way: str
    flops: float
    bytes: float


def _gemm(m: int, k: int, n: int) -> Case:
    name = f"gemm {m}" if m == k == n else f"gemm {m} x {k} x {n}"
    return Case(name, "gemm", (m, k, n), FORWARD, 2 * m * k * n, 4 * (m * k + k * n + m * n))


def _dense(m: int, k: int, n: int, way: str) -> Case:
    """relu(x w + b); backward: all three gradients."""
    times = 1 if way == FORWARD else 2
    moved = m * k + k * n + m * n if way == FORWARD else 2 * (m * k + k * n) + 2 * m * n
    return Case(f"dense {m} x {k} x {n}, {way}", "dense", (m, k, n), way, times * 2 * m * k * n, 4 * moved)


def _lstm(batch: int, steps: int, features: int, units: int, way: str) -> Case:
    """A layer that returns its sequence; both: also the gradients of inputs and weights."""
    times = 1 if way == FORWARD else 3
    weights = 4 * units * (features + units)
    moved = batch * steps * (features + units) + weights
    sizes = (batch, steps, features, units)
    return Case(f"lstm {sizes}, {way}", "lstm", sizes, way, times * 2 * batch * steps * weights, 4 * times * moved)


def _conv(images: int, side: int, channels: int, units: int, kernel: int, way: str) -> Case:
    """Stride 1, no padding, no bias; dx and dw: the gradients of images and of weights."""
    out = side - kernel + 1
    arrays = images * side * side * channels, kernel * kernel * channels * units, images * out * out * units
    flops = 2 * arrays[2] * kernel * kernel * channels
    sizes = (images, side, channels, units, kernel)
    name = f"conv {side}x{side}x{channels} to {units}, {kernel}x{kernel}, batch {images}, {way}"
    return Case(name, "conv", sizes, way, flops, 4 * sum(arrays))


def _rows(kind: str, rows: int, columns: int, way: str, arrays: float) -> Case:
    """A function of rows. arrays: how many arrays of the size of x are read and written."""
    name = kind.replace("_", " ")
    return Case(f"{name} ({rows}, {columns}), {way}", kind, (rows, columns), way, 0, 4 * arrays * rows * columns)


def _embedding(rows: int, width: int, words: int, way: str) -> Case:
    """forward: gather rows. backward: the gradient of the whole table from the gradient of the rows."""
    moved = 2 * words * width if way == FORWARD else rows * width + words * width
    sizes = (rows, width, words)
    return Case(f"embedding {rows}x{width} of {words} words, {way}", "embedding", sizes, way, 0, 4 * moved + 8 * words)


def _adam(weights: int) -> Case:
    return Case(f"adam, {weights} weights", "adam", (weights,), FORWARD, 0, 4 * 7 * weights)


def cases(quick: bool) -> list[Case]:
    """All cases; quick: with the smallest sizes."""
    if quick:
        return _all(
            cubes=(8,),
            dense=((5, 6, 7),),
            lstm=((2, 3, 4, 5),),
            conv=((1, 6, 2, 3, 3),),
            long=64,
            rows=((6, 7),),
            words=(9, 4, 5),
            channels=((6, 3),),
            weights=(20,),
        )
    return _all(
        cubes=(256, 512, 1024, 2048, 4096, 8192),
        dense=((128, 784, 512), (128, 512, 512), (32, 784, 512), (128, 9216, 128)),
        lstm=((64, 8, 16, 32), (32, 80, 128, 128), (32, 280, 256, 64), (64, 128, 512, 512)),
        conv=(
            (128, 28, 1, 32, 3),
            (128, 26, 32, 64, 3),
            (32, 58, 64, 64, 3),
            (32, 16, 256, 256, 3),
            (32, 28, 256, 512, 1),
        ),
        long=LONG,
        rows=((65536, 1024), (128, 10)),
        words=(100_000, 512, 65536),
        channels=((1 << 20, 64),),
        weights=(670_000, 50_000_000),
    )


def _all(cubes, dense, lstm, conv, long, rows, words, channels, weights) -> list[Case]:
    found = [_gemm(n, n, n) for n in cubes]
    found += [_dense(*sizes, way) for sizes in dense for way in (FORWARD, BACKWARD)]
    found += [_lstm(*sizes, way) for sizes in lstm for way in (FORWARD, BOTH)]
    found += [_conv(*sizes, way) for sizes in conv for way in (FORWARD, "dx", "dw")]
    for sizes in rows:
        for kind in ("softmax", "layer_normalization"):
            found += [_rows(kind, *sizes, FORWARD, 2), _rows(kind, *sizes, BACKWARD, 3)]
    for sizes in channels:
        # x must be read twice in both passes: once for the statistics, once for the result
        found += [_rows("batch_normalization", *sizes, FORWARD, 3), _rows("batch_normalization", *sizes, BACKWARD, 5)]
    columns = math.isqrt(long)
    square = long // columns, columns
    found += [
        _rows(kind, *square, FORWARD, 1) for kind in ("sum_of_all", "sum_of_rows", "sum_of_columns", "max_of_rows")
    ]
    found += [
        _rows("relu", *square, FORWARD, 2),
        _rows("relu", *square, BACKWARD, 3),
        _rows("add", *square, FORWARD, 3),
    ]
    found += [_rows("dropout", *square, FORWARD, 2), _rows("dropout", *square, BACKWARD, 2)]
    found += [_embedding(*words, way) for way in (FORWARD, BACKWARD)]
    return found + [_adam(count) for count in weights]


def inputs(case: Case) -> list[Array]:
    """The random arrays of a case, the same in every process; weights are scaled so that sums are of order one."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> Array:
        return random.standard_normal(shape, dtype="float32")

    def weights(*shape: int) -> Array:
        return floats(*shape) / np.float32(math.sqrt(math.prod(shape[:-1])))

    sizes = case.sizes
    if case.kind == "gemm":
        m, k, n = sizes
        return [floats(m, k), weights(k, n)]
    if case.kind == "dense":  # x, kernel, bias, dy
        m, k, n = sizes
        return [floats(m, k), weights(k, n), floats(n), floats(m, n)]
    if case.kind == "lstm":  # x, kernel, recurrent kernel, bias, dy
        batch, steps, features, units = sizes
        kernels = [weights(features, 4 * units), weights(units, 4 * units), floats(4 * units)]
        return [floats(batch, steps, features), *kernels, floats(batch, steps, units)]
    if case.kind == "conv":  # x, kernel, dy
        images, side, channels, units, kernel = sizes
        out = side - kernel + 1
        return [
            floats(images, side, side, channels),
            weights(kernel, kernel, channels, units),
            floats(images, out, out, units),
        ]
    if case.kind == "embedding":  # table, words, dy
        rows, width, words = sizes
        return [floats(rows, width), random.integers(0, rows, words), floats(words, width)]
    if case.kind == "adam":  # weights, gradient
        return [floats(*sizes), floats(*sizes)]
    if case.kind.endswith("normalization"):  # x, dy, gamma, beta
        return [floats(*sizes), floats(*sizes), floats(sizes[1]), floats(sizes[1])]
    return [floats(*sizes), floats(*sizes)]  # x, and dy or the second summand


def seconds(play: Callable[[], None], synchronize: Callable[[], None], times: int, quick: bool) -> float:
    """Seconds for one of the `times` repetitions that `play` makes: the median of 9 rounds of 10 ms or more."""
    play()
    synchronize()
    count, rounds = 1, []
    while True:
        start = time.perf_counter()
        for _ in range(count):
            play()
        synchronize()
        taken = time.perf_counter() - start
        if not quick and taken < ROUND_SECONDS and count < 10_000 and not rounds:
            count = max(2 * count, min(10_000, int(count * ROUND_SECONDS / taken) + 1))
            continue
        rounds.append(taken / count / times)
        if len(rounds) == (1 if quick else 9):
            return statistics.median(rounds)


def repeats(once: float) -> int:
    """How many times one CUDA graph repeats work of this many seconds, so that the graph's start costs little."""
    return max(1, min(20, int(1e-3 / once)))


def marks(results: Sequence[Array]) -> list[list[float]]:
    """The numbers of each result to compare between frameworks: the mean of |y|, and some elements."""
    found = []
    for y in results:
        flat = y.reshape(-1)
        found.append([float(np.abs(flat).mean(dtype=np.float64)), *map(float, flat[:: max(1, flat.size // 64)])])
    return found


def serve(framework: str, versions: dict[str, str], answer: Callable[[str], dict]) -> None:
    """Answer each line of standard input, the number of a case or 'card', with the results or the reason of a failure."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"framework": framework, "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            found = answer(line.strip())
        except Exception as error:
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)
