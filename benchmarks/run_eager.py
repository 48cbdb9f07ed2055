"""run_eager.py FRAMEWORK: answers each line of its standard input with the seconds of eager calls by case, in JSON.

FRAMEWORK: nbkeras, torch or jax, on one processor. An op has arrays of 4 x 4. The model is an MLP 64-128-128-4.
`model(x)` has one row and records no gradients; `tape step` has 32 rows: a forward and a backward pass and Adam.
`fit` and `evaluate`: their batches.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

ROWS, BATCHES, REPEATS = 32, 64, 5
RNG = np.random.default_rng(0)
X, Y = RNG.random((ROWS * BATCHES, 64), "float32"), RNG.integers(0, 4, ROWS * BATCHES)
Calls = dict[str, tuple[Callable[[], object], int]]  # case -> (function, calls that it makes)


def nbkeras() -> Calls:
    """The cases in nbkeras."""
    import nbkeras as keras
    from nbkeras import layers, ops

    a, x, y = ops.ones((4, 4)), ops.convert_to_tensor(X[:ROWS]), ops.convert_to_tensor(Y[:ROWS])
    row = x[:1] + 0.0
    parts = [layers.Dense(128, activation="relu"), layers.Dense(128, activation="relu"), layers.Dense(4)]
    model = keras.Sequential([keras.Input((64,)), *parts])
    loss, optimizer = keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.optimizers.Adam()
    compiled = keras.models.clone_model(model)
    compiled.compile("adam", loss)

    def step() -> None:
        with keras.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    return {
        "add": (lambda: ops.add(a, a), 1),
        "matmul": (lambda: ops.matmul(a, a), 1),
        "exp": (lambda: ops.exp(a), 1),
        "sum": (lambda: ops.sum(a), 1),
        "reshape": (lambda: ops.reshape(a, (2, 8)), 1),
        "model(x)": (lambda: model(row), 1),
        "tape step": (step, 1),
        "train_on_batch": (lambda: compiled.train_on_batch(X[:ROWS], Y[:ROWS]), 1),
        "fit": (lambda: compiled.fit(X, Y, batch_size=ROWS, verbose=0), BATCHES),
        "test_on_batch": (lambda: compiled.test_on_batch(X[:ROWS], Y[:ROWS]), 1),
        "evaluate": (lambda: compiled.evaluate(X, Y, batch_size=ROWS, verbose=0), BATCHES),
    }


def torch() -> Calls:
    """The cases in PyTorch."""
    import torch
    from torch import nn

    a, x, y = torch.ones(4, 4), torch.tensor(X[:ROWS]), torch.tensor(Y[:ROWS])
    row = x[:1].clone()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return {
        "add": (lambda: torch.add(a, a), 1),
        "matmul": (lambda: torch.matmul(a, a), 1),
        "exp": (lambda: torch.exp(a), 1),
        "sum": (lambda: torch.sum(a), 1),
        "reshape": (lambda: torch.reshape(a, (2, 8)), 1),
        "model(x)": (torch.no_grad()(lambda: model(row)), 1),
        "tape step": (step, 1),
    }


def jax() -> Calls:
    """The ops in JAX without `jit`. Its results are not awaited, since it computes these at once."""
    import jax.numpy as jnp

    a = jnp.ones((4, 4))
    return {
        "add": (lambda: jnp.add(a, a), 1),
        "matmul": (lambda: jnp.matmul(a, a), 1),
        "exp": (lambda: jnp.exp(a), 1),
        "sum": (lambda: jnp.sum(a), 1),
        "reshape": (lambda: jnp.reshape(a, (2, 8)), 1),
    }


def seconds(function: Callable[[], object], calls: int, count: int) -> float:
    """The seconds of a call, the least of several repeats of `count` runs of the function.

    These are seconds of the processor: the process has one, and other processes may use it too.
    """
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(count):
            function()
        best = min(best, time.process_time() - start)
    return best / count / calls


def main() -> None:
    """Answer requests."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cases = {"nbkeras": nbkeras, "torch": torch, "jax": jax}[sys.argv[1]]()
    counts = {}
    for name, (function, calls) in cases.items():
        function()  # compiles or records
        counts[name] = max(1, round(0.01 / (seconds(function, calls, 1) * calls)))  # a repeat takes 10 ms
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        answer = {name: seconds(*case, counts[name]) for name, case in cases.items()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
