"""Times of nbkeras's training step by size, and their floors: run_scaling.py THREADS all|smallest

Networks: 'dense' has 784 inputs, two hidden layers with relu and ten classes; 'lstm' has 32 inputs per time step, one LSTM and
ten classes; both are trained by `fit` with RMSprop. Sizes that are not varied: batch 128 and 32, width 512 and 64, 32 steps.

The floor of a step is the larger of

  flops / rate    flops of its matrix products: 2 m n k for each product forward, the same for the weights' gradients
                  and for the inputs' gradients, except those of the data; rate: the highest rate of numpy.matmul with
                  large square float32 matrices on as many threads
  a copy          np.copyto of as many bytes: 4 (6 weights + 2 outputs of layers + inputs), because RMSprop reads and
                  writes weights, gradients and state, and a layer's outputs are written and read again; measured at
                  this size on one thread, divided by the number of threads

A cliff is a size with a time per flop more than 1.5 times that of the size before: it should fall as sizes grow.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

THREADS = sys.argv[1]
os.environ |= {"NUMBA_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}

import numpy as np  # noqa: E402 (BLAS reads the number of its threads when it is loaded)
from chosen_keras import Clock, k  # noqa: E402

CLASSES, PIXELS, FEATURES, HIDDEN = 10, 784, 32, 2
EPOCH_SECONDS, EPOCHS = 0.05, 5
CLIFF = 1.5


class Work(NamedTuple):
    """The least work of a training step."""

    flops: float
    bytes: float


def dense(batch: int = 128, width: int = 512):
    """The model, the input shape of a sample, and the work."""
    model = k.Sequential([k.Input((PIXELS,)), *(k.layers.Dense(width, activation="relu") for _ in range(HIDDEN))])
    model.add(k.layers.Dense(CLASSES, activation="softmax"))
    data, others = PIXELS * width, width * width * (HIDDEN - 1) + width * CLASSES
    outputs = HIDDEN * width + CLASSES
    flops = 2 * batch * (2 * data + 3 * others)
    return model, batch, (PIXELS,), Work(flops, 4 * (6 * model.count_params() + batch * (2 * outputs + PIXELS)))


def lstm(batch: int = 32, width: int = 64, length: int = 32):
    """The model, the batch, the input shape of a sample, and the work."""
    layers = [k.Input((length, FEATURES)), k.layers.LSTM(width), k.layers.Dense(CLASSES, activation="softmax")]
    model = k.Sequential(layers)
    flops = 2 * batch * (length * 4 * width * (2 * FEATURES + 3 * width) + 3 * width * CLASSES)
    outputs = length * 6 * width  # four gates, two states
    return (
        model,
        batch,
        (length, FEATURES),
        Work(flops, 4 * (6 * model.count_params() + batch * (2 * outputs + length * FEATURES))),
    )


def doubled(first: int, last: int) -> list[int]:
    sizes = [first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return sizes


SWEEPS: dict[str, tuple[Callable, str, list[int]]] = {
    "dense against batch": (dense, "batch", doubled(1, 1024)),
    "dense against width": (dense, "width", doubled(16, 1024)),
    "lstm against batch": (lstm, "batch", doubled(1, 1024)),
    "lstm against width": (lstm, "width", doubled(16, 1024)),
    "lstm against length": (lstm, "length", doubled(8, 4096)),
}


def least_seconds(function: Callable[[], object], seconds: float = 0.1) -> float:
    """The shortest of many runs within about so many seconds, at least five."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def product_rate(sizes: Sequence[int]) -> float:
    """The highest float32 flops per second of numpy.matmul."""
    rates = []
    for size in sizes:
        a, b, c = np.ones((size, size), "float32"), np.ones((size, size), "float32"), np.empty((size, size), "float32")
        rates.append(2 * size**3 / least_seconds(lambda a=a, b=b, c=c: np.matmul(a, b, out=c)))
    return max(rates)


def copy_seconds(moved: float) -> float:
    """Seconds of np.copyto, with half of the bytes read and half written."""
    source = np.ones(max(1, int(moved / 2)), np.uint8)
    target = np.empty_like(source)
    return least_seconds(lambda: np.copyto(target, source), 0.02)


def step_seconds(model, batch: int, shape: tuple[int, ...]) -> float:
    """The median over epochs of a training step's time, after it is compiled and recorded."""
    random = np.random.default_rng(0)
    clock = Clock()

    def epochs(steps: int, count: int) -> float:
        x = random.standard_normal((batch * steps, *shape), dtype="float32")
        y = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, batch * steps)]
        model.fit(x, y, batch, count, verbose=0, callbacks=[clock])
        return statistics.median(clock.seconds) / steps

    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    epochs(1, 2)
    time.sleep(0.2)  # NumPy's BLAS, which initialisers use, keeps a thread busy for 0.1 s after its work
    estimate = epochs(2, 2)
    return epochs(min(100, max(2, int(EPOCH_SECONDS / estimate))), EPOCHS)


def mark_cliffs(rows: list[dict]) -> None:
    per_flop = [row["seconds"] / row["flops"] for row in rows]
    for row, before, seconds in zip(rows, [per_flop[0], *per_flop], per_flop, strict=False):
        row["cliff"] = seconds > CLIFF * before


def sweep(network: Callable, swept: str, sizes: Sequence[int], rate: float) -> list[dict]:
    rows = []
    for size in sizes:
        model, batch, shape, work = network(**{swept: size})
        seconds = step_seconds(model, batch, shape)
        floor = max(work.flops / rate, copy_seconds(work.bytes) / int(THREADS))
        rows.append({"size": size, "seconds": seconds, "floor": floor, "flops": work.flops})
    mark_cliffs(rows)
    return rows


def main() -> None:
    smallest = sys.argv[2] == "smallest"
    rate = product_rate([64] if smallest else [512, 1024, 2048])
    results = {
        title: sweep(network, swept, sizes[:3] if smallest else sizes, rate)
        for title, (network, swept, sizes) in SWEEPS.items()
    }
    print(json.dumps({"rate": rate, "sweeps": results}))


if __name__ == "__main__":
    main()
