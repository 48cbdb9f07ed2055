"""Loops that users write: run_loops.py FRAMEWORK all|smallest

First it writes the list of cases. Then it answers each line of standard input, a case, with its figure: seconds of a 'step' of an
MLP 64-128-128-4 with Adam on 32 rows, seconds of 'model(x)' for one row, and the steps of a cart in a second of 'cart-pole', deep
Q-learning (cart_pole.py). Calls get NumPy arrays, and their results are read as numbers. FRAMEWORK: nbkeras with `jit`,
nbkeras-eager without, keras-tensorflow in `tf.function`, jax in `jax.jit`, torch, torch-compile. All run on one processor.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np
from cart_pole import GAMMA, RATE, UNITS, Learning

FRAMEWORK, SMALLEST = sys.argv[1], sys.argv[2] == "smallest"
REPEATS, SECONDS, CART_STEPS = (1, 0.0, 80) if SMALLEST else (20, 0.02, 1000)
SIZES, ROWS = (64, 128, 128, 4), 32
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((ROWS, SIZES[0]), "float32"), RNG.standard_normal((ROWS, SIZES[-1]), "float32")

Cases = dict[str, Callable]


def with_keras() -> Cases:
    """nbkeras, and Keras on TensorFlow, by the same code."""
    from chosen_keras import BACKEND, k

    if BACKEND:
        import tensorflow

        jit, tape_of = tensorflow.function, tensorflow.GradientTape
    else:
        jit, tape_of = (lambda function: function) if FRAMEWORK == "nbkeras-eager" else k.jit, k.GradientTape

    def network(*sizes):
        layers = [k.layers.Dense(size, activation="relu") for size in sizes[1:-1]]
        return k.Sequential([k.Input((sizes[0],)), *layers, k.layers.Dense(sizes[-1])])

    def optimizer_of(model):
        optimizer = k.optimizers.Adam(RATE)
        optimizer.build(model.trainable_variables)
        return optimizer

    model = network(*SIZES)
    optimizer = optimizer_of(model)

    @jit
    def step(x, y):
        with tape_of() as tape:
            loss = k.ops.mean(k.ops.square(model(x, training=True) - y))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    @jit
    def call(x):
        return model(x)

    q, target = network(4, UNITS, UNITS, 2), network(4, UNITS, UNITS, 2)
    q_optimizer = optimizer_of(q)

    @jit
    def act(states):
        return k.ops.argmax(q(states)[0])

    @jit
    def learn(states, actions, following, ended):
        wanted = 1 + GAMMA * (1 - ended) * k.ops.max(target(following), axis=1)
        with tape_of() as tape:
            values = k.ops.sum(q(states) * k.ops.one_hot(actions, 2), axis=1)
            loss = k.ops.mean(k.ops.square(wanted - values))
        weights = q.trainable_variables
        q_optimizer.apply(tape.gradient(loss, weights), weights)

    @jit
    def renew():
        for old, new in zip(target.variables, q.variables, strict=True):
            old.assign(new)

    return {
        "step": lambda: float(step(X, Y)),
        "model(x)": lambda: np.asarray(call(X[:1])),
        "cart-pole": Learning(act, learn, renew).steps_per_second,
    }


def with_torch() -> Cases:
    import torch
    from torch import nn

    compiled = torch.compile if FRAMEWORK == "torch-compile" else lambda function: function

    def network(*sizes):
        layers = [each for pair in zip(sizes[:-1], sizes[1:], strict=True) for each in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    def step_of(model, loss_of):
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        loss_of, update = compiled(loss_of), compiled(optimizer.step)

        def step(*arrays):
            loss = loss_of(*map(torch.from_numpy, arrays))
            optimizer.zero_grad()
            loss.backward()
            update()
            return loss.detach()

        return step

    model = network(*SIZES)
    step = step_of(model, lambda x, y: (model(x) - y).square().mean())
    called = compiled(model)

    @torch.no_grad()
    def call(x):
        return called(torch.from_numpy(x)).numpy()

    q, target = network(4, UNITS, UNITS, 2), network(4, UNITS, UNITS, 2)
    best = compiled(lambda states: q(states)[0].argmax())

    @torch.no_grad()
    def act(states):
        return best(torch.from_numpy(states))

    def loss_of(states, actions, following, ended):
        with torch.no_grad():
            wanted = 1 + GAMMA * (1 - ended) * target(following).max(dim=1).values
        values = q(states).gather(1, actions[:, None])[:, 0]
        return (wanted - values).square().mean()

    def renew():
        target.load_state_dict(q.state_dict())

    return {
        "step": lambda: float(step(X, Y)),
        "model(x)": lambda: call(X[:1]),
        "cart-pole": Learning(act, step_of(q, loss_of), renew).steps_per_second,
    }


def with_jax() -> Cases:
    import functools

    import jax
    from jax import numpy as jnp
    from run_jax import adam, apply_dense, dense

    random = np.random.RandomState(0)
    p = [dense(random, *pair) for pair in zip(SIZES[:-1], SIZES[1:], strict=True)]
    p = jax.tree.map(lambda a: jnp.asarray(a, "float32"), p)
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = [jax.tree.map(jnp.copy, (p, (zeros, zeros), jnp.float32(1)))]

    def model(p, x):
        for layer in p[:-1]:
            x = jax.nn.relu(apply_dense(layer, x))
        return apply_dense(p[-1], x)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        p, slots, count = state
        loss, g = jax.value_and_grad(lambda p: jnp.square(model(p, x) - y).mean())(p)
        p, slots = adam(p, g, slots, count, RATE)
        return (p, slots, count + 1), loss

    def update():
        state[0], loss = step(state[0], X, Y)
        return float(loss)

    call = jax.jit(model)
    return {"step": update, "model(x)": lambda: np.asarray(call(p, X[:1]))}


def seconds(function: Callable[[], object]) -> float:
    """The seconds of a call: the least of several repeats."""
    best = float("inf")
    for _ in range(REPEATS):
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < SECONDS:
            function()
            count += 1
        best = min(best, (time.perf_counter() - start) / count)
    return best


def main() -> None:
    """Answer requests."""
    if hasattr(os, "sched_setaffinity"):  # before the import of a framework, which asks for the processors
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is no answer
    cases = {"torch": with_torch, "torch-compile": with_torch, "jax": with_jax}.get(FRAMEWORK, with_keras)()
    for name, function in cases.items():  # compiles or records
        for _ in range(2):
            function(CART_STEPS) if name == "cart-pole" else function()
    packages = ("nbkeras", "keras", "tensorflow", "jax", "torch")
    versions = {name: sys.modules[name].__version__ for name in packages if name in sys.modules}
    print(json.dumps({"cases": list(cases), "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        function = cases[line.strip()]
        figure = function(CART_STEPS) if line.strip() == "cart-pole" else seconds(function)
        print(json.dumps(figure), file=answers, flush=True)


main()
