"""
Learning to learn from ten points
=================================

Model-agnostic meta-learning (MAML) finds initial weights that learn a new task in one step of gradient descent. Its loss is the
error *after* that step, so training differentiates the step: it needs gradients of gradients.

A task is a sine curve of random height and phase; the network sees ten of its points, as in Finn, Abbeel and Levine (2017). On
new curves the squared error falls from 3.04 to **0.38 in one step** and to 0.14 in ten. A network that learned the same curves in
the usual way needs ten steps from 3.02 to 1.56. A step of training takes 0.14 ms, and 3.5 ms without ``nbkeras.jit``; the program
takes 4 s (measured once, on two cores of an AMD EPYC Zen 5 with AVX-512).
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import autodiff, layers, ops

STEPS = 15000
TASKS = 25
POINTS = 10
RATE = 0.01
TESTS = 500

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def draw(tasks):
    """Points of this many curves: some to learn from, and others to test."""
    x = rng.uniform(-5, 5, size=(tasks, 2 * POINTS, 1))
    y = rng.uniform(0.1, 5, size=(tasks, 1, 1)) * np.sin(x + rng.uniform(0, np.pi, size=(tasks, 1, 1)))
    x, y = x.astype("float32"), y.astype("float32")
    return [x[:, :POINTS], y[:, :POINTS], x[:, POINTS:], y[:, POINTS:]]


# %%
# The learner
# -----------
# ``stateless_call`` computes the network with given weights, which may be the result of steps. ``vmap`` gives each task its own
# steps, but computes all tasks together, as one batch. ``nbkeras.jit`` records ``errors`` for each network and number of steps.


def make_network():
    hidden = [layers.Dense(40, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((1,)), *hidden, layers.Dense(1)])


def predictions(network, weights, x):
    return network.stateless_call(weights, [], x)[0]


def error(weights, network, x, y):
    return ops.mean(ops.square(predictions(network, weights, x) - y))


def adapted(network, steps, known_x, known_y):
    weights = network.trainable_weights
    for _ in range(steps):
        gradients = autodiff.grad(error)(weights, network, known_x, known_y)
        weights = [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    return weights


@keras.jit(static_argnames="steps")
def errors(network, steps, *tasks):
    """The error after this many steps on each task (tasks,)."""

    def of_task(known_x, known_y, x, y):
        return error(adapted(network, steps, known_x, known_y), network, x, y)

    return autodiff.vmap(of_task)(*tasks)


# %%
# Training
# --------
# The loss is the error after ``steps`` steps on each task. With 0 steps the network learns all tasks at once, as usual. In the
# recorded ``step`` the call of ``errors`` is an ordinary call, which the tape differentiates.


def train(steps, tasks):
    network, optimizer, losses = make_network(), keras.optimizers.Adam(0.001), []

    @keras.jit
    def step(*tasks):
        with keras.GradientTape() as tape:
            loss = ops.mean(errors(network, steps, *tasks))
        optimizer.apply(tape.gradient(loss, network.trainable_weights), network.trainable_weights)
        return loss

    for _ in range(STEPS):
        some = rng.integers(len(tasks[0]), size=TASKS)
        losses.append(float(step(*(array[some] for array in tasks))))
    print(f"{steps} steps in the loss: {np.mean(losses[:500]):.2f} at first, {np.mean(losses[-500:]):.2f} at the end")
    return network


tasks = draw(500 * TASKS)
networks = {"all tasks at once": train(0, tasks), "MAML": train(1, tasks)}

# %%
# New tasks
# ---------
# Both networks now learn new curves from ten points each, by the same gradient descent.

tasks = draw(TESTS)
counts = (0, 1, 2, 5, 10)
curves = {name: [float(ops.mean(errors(network, n, *tasks))) for n in counts] for name, network in networks.items()}
for name, values in curves.items():
    print(f"{name}: error after {counts} steps: {', '.join(f'{value:.2f}' for value in values)}")

grid = np.linspace(-5, 5, 101, dtype="float32")[:, None]
known_x, known_y = tasks[0][0], tasks[1][0]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
for name, values in curves.items():
    axes[0].plot(counts, values, "o-", label=name)
axes[0].set(xlabel="steps", ylabel="error of new tasks")
axes[0].legend()
for axis, (name, network) in zip(axes[1:], networks.items(), strict=True):
    for steps in (0, 1, 10):
        weights = adapted(network, steps, known_x, known_y)
        axis.plot(grid, predictions(network, weights, grid), label=f"{steps} steps")
    axis.plot(known_x, known_y, "k.")
    axis.set_title(name)
    axis.legend()
plt.show()
