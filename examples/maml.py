"""
Learning to learn from ten points
=================================

Model-agnostic meta-learning (MAML) finds initial weights that learn a new task in one step of gradient descent. Its loss is the
error *after* that step, so training differentiates the step: it needs gradients of gradients.

A task is a sine curve of random height and phase; the network sees ten of its points, as in Finn, Abbeel and Levine (2017). On
new curves the squared error falls from 2.74 to **0.41 in one step** and to 0.16 in ten. A network that learned the same curves in
the usual way needs ten steps from 2.74 to 1.62. Both together take 6 s on two cores.
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
# steps, but computes all tasks together, as one batch.


class Learner(keras.Model):
    """A network; its loss is the error after this many steps on each task: with 0 it learns all tasks at once, as usual."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        hidden = [layers.Dense(40, activation="relu") for _ in range(2)]
        self.network = keras.Sequential([keras.Input((1,)), *hidden, layers.Dense(1)])

    def predictions(self, weights, x):
        return self.network.stateless_call(weights, [], x)[0]

    def error(self, weights, x, y):
        return ops.mean(ops.square(self.predictions(weights, x) - y))

    def adapted(self, steps, known_x, known_y):
        weights = self.network.trainable_weights
        for _ in range(steps):
            gradients = autodiff.grad(self.error)(weights, known_x, known_y)
            weights = [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]
        return weights

    def errors(self, steps, *tasks):
        """The error after this many steps on each task (tasks,)."""

        def of_task(known_x, known_y, x, y):
            return self.error(self.adapted(steps, known_x, known_y), x, y)

        return autodiff.vmap(of_task)(*tasks)

    def train_step(self, data):
        tasks, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with keras.GradientTape() as tape:
            loss = ops.mean(self.errors(self.steps, *tasks))
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


tasks = draw(500 * TASKS)
learners = {"all tasks at once": Learner(steps=0), "MAML": Learner(steps=1)}
for name, learner in learners.items():
    learner.compile(keras.optimizers.Adam(0.001))
    history = learner.fit(tasks, batch_size=TASKS, epochs=max(2, STEPS // 500), verbose=0).history
    print(f"{name}: loss {history['loss'][0]:.2f} after one epoch, {history['loss'][-1]:.2f} at the end")

# %%
# New tasks
# ---------
# Both networks now learn new curves from ten points each, by the same gradient descent.

tasks = draw(TESTS)
counts = (0, 1, 2, 5, 10)
errors = {name: [float(ops.mean(learner.errors(n, *tasks))) for n in counts] for name, learner in learners.items()}
for name, values in errors.items():
    print(f"{name}: error after {counts} steps: {', '.join(f'{value:.2f}' for value in values)}")

grid = np.linspace(-5, 5, 101, dtype="float32")[:, None]
known_x, known_y = tasks[0][0], tasks[1][0]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
for name, values in errors.items():
    axes[0].plot(counts, values, "o-", label=name)
axes[0].set(xlabel="steps", ylabel="error of new tasks")
axes[0].legend()
for axis, (name, learner) in zip(axes[1:], learners.items(), strict=True):
    for steps in (0, 1, 10):
        curve = learner.predictions(learner.adapted(steps, known_x, known_y), grid)
        axis.plot(grid, curve, label=f"{steps} steps")
    axis.plot(known_x, known_y, "k.")
    axis.set_title(name)
    axis.legend()
plt.show()
