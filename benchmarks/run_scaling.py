"""Times of a training step of nbkeras against size, beside the floor: run_scaling.py THREADS all|smallest

Networks: 'dense' is two hidden layers of relu and ten classes, 784 numbers in; 'lstm' is one LSTM and ten classes, 32
numbers a step in; both are trained by `fit` with RMSprop. Batch 128 and 32, width 512 and 64, 32 steps, where not swept.

The floor of a step is the larger of

  flops / rate    flops of its matrix products: 2 m n k for each product forward, as many again for the weights'
                  gradients and for the inputs' gradients, but none for those of the data; rate: the best that
                  numpy.matmul reaches with large square float32 matrices on as many threads
  a copy          np.copyto that moves as many bytes: 4 (6 weights + 2 outputs of layers + inputs), where RMSprop reads
                  weights, gradients and state and writes them, and a layer's outputs are written and read again;
                  measured at this size on one thread, divided by the number of threads

A cliff is a size whose time for a flop is more than 1.5 times that of the size before: it should fall as sizes grow.
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

import nbkeras as k  # noqa: E402

CLASSES, PIXELS, FEATURES, HIDDEN = 10, 784, 32, 2
EPOCH_SECONDS, EPOCHS = 0.05, 5
CLIFF = 1.5


class Work(NamedTuple):
    """What a training step must do at least."""

    flops: float
    bytes: float


def dense(batch: int = 128, width: int = 512):
    """Model, input shape of a sample, and work."""
    model = k.Sequential([k.Input((PIXELS,)), *(k.layers.Dense(width, activation="relu") for _ in range(HIDDEN))])
    model.add(k.layers.Dense(CLASSES, activation="softmax"))
    data, others = PIXELS * width, width * width * (HIDDEN - 1) + width * CLASSES
    outputs = HIDDEN * width + CLASSES
    flops = 2 * batch * (2 * data + 3 * others)
    return model, batch, (PIXELS,), Work(flops, 4 * (6 * model.count_params() + batch * (2 * outputs + PIXELS)))


def lstm(batch: int = 32, width: int = 64, length: int = 32):
    """Model, batch, input shape of a sample, and work."""
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


def powers(base: int, first: int, last: int) -> list[int]:
    sizes = [first]
    while sizes[-1] * base <= last:
        sizes.append(sizes[-1] * base)
    return sizes


SWEEPS: dict[str, tuple[Callable, str, list[int]]] = {
    "dense against batch": (dense, "batch", powers(2, 1, 1024)),
    "dense against width": (dense, "width", powers(2, 16, 1024)),
    "lstm against batch": (lstm, "batch", powers(2, 1, 1024)),
    "lstm against width": (lstm, "width", powers(2, 16, 1024)),
    "lstm against length": (lstm, "length", powers(2, 8, 4096)),
}


def least_seconds(function: Callable[[], object], seconds: float = 0.1) -> float:
    """The shortest of many runs within about that many seconds, five at least."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def product_rate(sizes: Sequence[int]) -> float:
    """Best float32 flops a second of numpy.matmul."""
    rates = []
    for size in sizes:
        a, b, c = np.ones((size, size), "float32"), np.ones((size, size), "float32"), np.empty((size, size), "float32")
        rates.append(2 * size**3 / least_seconds(lambda a=a, b=b, c=c: np.matmul(a, b, out=c)))
    return max(rates)


def copy_seconds(moved: float) -> float:
    """np.copyto of half the bytes read and half written."""
    source = np.ones(max(1, int(moved / 2)), np.uint8)
    target = np.empty_like(source)
    return least_seconds(lambda: np.copyto(target, source), 0.02)


def step_seconds(model, batch: int, shape: tuple[int, ...]) -> float:
    """Median over epochs of the time of a training step, once it is compiled and recorded."""
    random = np.random.default_rng(0)

    class Clock(k.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            times.append(time.perf_counter() - self.start)

    def epochs(steps: int, count: int) -> float:
        x = random.standard_normal((batch * steps, *shape), dtype="float32")
        y = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, batch * steps)]
        times.clear()
        model.fit(x, y, batch, count, verbose=0, callbacks=[Clock()])
        return statistics.median(times) / steps

    times: list[float] = []
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    epochs(1, 2)
    time.sleep(0.2)  # NumPy's BLAS, which initialisers use, keeps a thread spinning for 0.1 s
    estimate = epochs(2, 2)
    return epochs(min(100, max(2, int(EPOCH_SECONDS / estimate))), EPOCHS)


def mark_cliffs(rows: list[dict]) -> None:
    each = [row["seconds"] / row["flops"] for row in rows]
    for row, before, here in zip(rows, [each[0], *each], each, strict=False):
        row["cliff"] = here > CLIFF * before


def sweep(network: Callable, what: str, sizes: Sequence[int], rate: float) -> list[dict]:
    rows = []
    for size in sizes:
        model, batch, shape, work = network(**{what: size})
        seconds = step_seconds(model, batch, shape)
        floor = max(work.flops / rate, copy_seconds(work.bytes) / int(THREADS))
        rows.append({"size": size, "seconds": seconds, "floor": floor, "flops": work.flops})
    mark_cliffs(rows)
    return rows


def main() -> None:
    smallest = sys.argv[2] == "smallest"
    rate = product_rate([64] if smallest else [512, 1024, 2048])
    results = {
        title: sweep(network, what, sizes[:3] if smallest else sizes, rate)
        for title, (network, what, sizes) in SWEEPS.items()
    }
    print(json.dumps({"rate": rate, "sweeps": results}))


if __name__ == "__main__":
    main()
