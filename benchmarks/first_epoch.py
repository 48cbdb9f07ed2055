"""How long a first program waits: seconds of the import, of the first epoch and of a second one, with an empty kernel cache.

    python -m benchmarks.first_epoch                        # this environment's nbkeras
    python -m benchmarks.first_epoch --python venv/bin/python   # another one's, such as one with a wheel and NumPy alone
    python -m benchmarks.first_epoch --warm                 # with the kernels of an earlier run

Each of five networks trains in a process of its own, on the digits that come with nbkeras or on made-up data. A time of the first
epoch covers making and compiling the model and the data. It is the median of several runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NETWORKS = ("mlp", "cnn", "lstm", "transformer", "unet")
PROGRAM = """
import json, sys, time
start = time.perf_counter()
import nbkeras as keras
imported = time.perf_counter()
import numpy as np
from nbkeras import layers
from nbkeras.datasets import digits

(x, y), _ = digits.load_data()
x = (x / 16).astype("float32")
name, loss = sys.argv[1], "sparse_categorical_crossentropy"
if name == "mlp":
    body = [layers.Input((64,)), layers.Dense(512, "relu"), layers.Dropout(0.2), layers.Dense(512, "relu"), layers.Dropout(0.2)]
    model = keras.Sequential([*body, layers.Dense(10, "softmax")])
    x = x.reshape(-1, 64)
elif name == "cnn":
    body = [layers.Input((8, 8, 1)), layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    body += [layers.MaxPooling2D(), layers.Conv2D(64, 3, padding="same", activation="relu"), layers.Flatten()]
    model = keras.Sequential([*body, layers.Dropout(0.3), layers.Dense(10, "softmax")])
    x = x.reshape(-1, 8, 8, 1)
elif name == "lstm":
    model = keras.Sequential([layers.Input((8, 8)), layers.LSTM(64), layers.Dense(10, "softmax")])
    x = x.reshape(-1, 8, 8)
elif name == "transformer":
    inputs = keras.Input((64,), dtype="int32")
    h = layers.Embedding(17, 32)(inputs)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(4, 8)(h, h))
    h = layers.LayerNormalization()(h + layers.Dense(32)(layers.Dense(64, "gelu")(h)))
    model = keras.Model(inputs, layers.Dense(10, "softmax")(layers.GlobalAveragePooling1D()(h)))
    x = (16 * x.reshape(-1, 64)).astype("int32")[:512]
    y = y[:512]
else:
    inputs = keras.Input((32, 32, 1))
    first = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    low = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    up = layers.Conv2DTranspose(8, 2, strides=2)(low)
    joined = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.concatenate([first, up]))
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(joined))
    x = np.random.default_rng(0).random((256, 32, 32, 1), "float32")
    y, loss = (x > 0.5).astype("float32"), "binary_crossentropy"
model.compile("adam", loss, metrics=["accuracy"])
model.fit(x, y, verbose=0)
first = time.perf_counter()
model.fit(x, y, verbose=0)
second = time.perf_counter()
numba = "numba" in sys.modules
print(json.dumps({"import": imported - start, "first": first - imported, "second": second - first, "numba": numba}))
"""


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python that has nbkeras (default: this one)")
    parser.add_argument("--runs", type=int, default=3, help="processes for each network (default 3)")
    parser.add_argument("--warm", action="store_true", help="keep the cache between the runs")
    chosen = parser.parse_args()
    print("| network | import (s) | first epoch (s) | second epoch (s) | imports Numba |\n|---|---|---|---|---|")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                measured(chosen.python, name, folder if chosen.warm else f"{folder}/{i}") for i in range(chosen.runs)
            ]
        times = [f"{statistics.median(run[key] for run in runs):.2f}" for key in ("import", "first", "second")]
        print(f"| {name} | {' | '.join(times)} | {'yes' if any(run['numba'] for run in runs) else 'no'} |", flush=True)


def measured(python: str, name: str, cache: str) -> dict:
    """Returns what a process told that trains a network, with kernels in the folder `cache`."""
    Path(cache).mkdir(exist_ok=True)
    done = subprocess.run(
        [python, "-P", "-c", PROGRAM, name],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        cwd=cache,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
