"""Times of nbkeras's training step by size, and their floors: run_scaling.py THREADS all|smallest

Networks: 'dense' has 784 inputs, two hidden layers with relu and ten classes; 'lstm' has 32 inputs per time step, one LSTM and
ten classes; both are trained by `fit` with RMSprop. Sizes that are not varied: batch 128 and 32, width 512 and 64, 32 steps.

The floor of a step is the minimum time of its work on this many threads: work.py counts the work, limits.py measures the
processor.

A cliff is a size with more than 1.5 times the time per multiply-add of the previous size; this time should fall as sizes grow.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

THREADS = sys.argv[1]
os.environ |= {"NUMBA_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}

import numpy as np  # noqa: E402 (BLAS reads the number of its threads when it is loaded)
from chosen_keras import Clock, k  # noqa: E402
from limits import measure  # noqa: E402
from work import Limits, bounds, work_of  # noqa: E402

CLASSES, PIXELS, FEATURES, HIDDEN = 10, 784, 32, 2
EPOCH_SECONDS, EPOCHS = 0.05, 5
CLIFF = 1.5


def classifier(*layers):
    """A compiled network of these layers and a layer of classes."""
    model = k.Sequential([*layers, k.layers.Dense(CLASSES, activation="softmax")])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    return model


def dense(batch: int = 128, width: int = 512):
    """The model, the batch, and the input shape of a sample."""
    hidden = [k.layers.Dense(width, activation="relu") for _ in range(HIDDEN)]
    return classifier(k.Input((PIXELS,)), *hidden), batch, (PIXELS,)


def lstm(batch: int = 32, width: int = 64, length: int = 32):
    """The model, the batch, and the input shape of a sample."""
    return classifier(k.Input((length, FEATURES)), k.layers.LSTM(width)), batch, (length, FEATURES)


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


def step_seconds(model, batch: int, shape: tuple[int, ...]) -> float:
    """The median over epochs of a training step's time, after it is compiled and recorded."""
    random = np.random.default_rng(0)
    clock = Clock()

    def epochs(steps: int, count: int) -> float:
        x = random.standard_normal((batch * steps, *shape), dtype="float32")
        y = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, batch * steps)]
        model.fit(x, y, batch, count, verbose=0, callbacks=[clock])
        return statistics.median(clock.seconds) / steps

    epochs(1, 2)
    time.sleep(0.2)  # NumPy's BLAS, which initialisers use, keeps a thread busy for 0.1 s after its work
    estimate = epochs(2, 2)
    return epochs(min(100, max(2, int(EPOCH_SECONDS / estimate))), EPOCHS)


def mark_cliffs(rows: list[dict]) -> None:
    each = [row["seconds"] / row["multiply-adds"] for row in rows]
    for row, before, seconds in zip(rows, [each[0], *each], each, strict=False):
        row["cliff"] = seconds > CLIFF * before


def sweep(network: Callable, swept: str, sizes: Sequence[int], limits: Limits) -> list[dict]:
    rows = []
    for size in sizes:
        model, batch, shape = network(**{swept: size})
        work = work_of(model, batch, training=True)
        seconds, floor = step_seconds(model, batch, shape), bounds(work, limits).seconds
        rows.append({"size": size, "seconds": seconds, "floor": floor, "multiply-adds": work.multiply_adds})
    mark_cliffs(rows)
    return rows


def main() -> None:
    smallest = sys.argv[2] == "smallest"
    limits = measure(int(THREADS), smallest)
    results = {
        title: sweep(network, swept, sizes[:3] if smallest else sizes, limits)
        for title, (network, swept, sizes) in SWEEPS.items()
    }
    print(json.dumps({"rate": limits.multiply_adds, "sweeps": results}))


if __name__ == "__main__":
    main()
