"""
Deep Q-learning: balance a pole
===============================

A cart must balance a pole by pushes to the left and to the right (CartPole). The network learns the total future reward of each
push from its own attempts. A buffer keeps these attempts. A second network, a copy that follows the first one slowly, predicts
the value of the next state.

The physics is written below, so nothing else needs to be installed. The pole falls after about 23 steps with random
pushes. After training it stands for **500 steps on average** in 20 new episodes, of 500 at most; with other seeds the agent is
often worse. A step of learning takes 0.06 ms, and 1.2 ms without ``nbkeras.jit``; an action takes 0.013 ms, and 0.14 ms without.
The program takes 1.4 s (measured once, on two cores of an AMD EPYC Zen 5 with AVX-512).
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers, ops

STEPS = 5000
CARTS = 8
BATCH = 128
GAMMA = 0.98
RENEWAL = 0.01
LIMIT = 500
TESTS = 20

keras.utils.set_random_seed(0)

# %%
# Carts and poles
# ---------------
# The equations are those of Barto, Sutton and Anderson (1983), with the constants of Gymnasium's ``CartPole-v1``, for several
# carts at once: ``states`` is (carts, 4). An episode ends when the pole leans more than 12 degrees or the cart leaves the
# track.


def push(states, actions):
    position, speed, angle, spin = states.T
    force, gravity, pole, masses, half_length, seconds = np.where(actions, 10, -10), 9.8, 0.1, 1.1, 0.5, 0.02
    sine, cosine = np.sin(angle), np.cos(angle)
    pull = (force + pole * half_length * spin**2 * sine) / masses
    turn = (gravity * sine - cosine * pull) / (half_length * (4 / 3 - pole * cosine**2 / masses))
    acceleration = pull - pole * half_length * turn * cosine / masses
    states = states + seconds * np.column_stack([speed, acceleration, spin, turn])
    return states, (abs(states[:, 0]) > 2.4) | (abs(states[:, 2]) > np.radians(12))


def start(number):
    return np.random.uniform(-0.05, 0.05, size=(number, 4))


# %%
# The agent
# ---------
# ``act`` and ``learn`` are plain functions, which ``nbkeras.jit`` records at their first calls. ``Rescaling`` brings positions,
# speeds and angles to the same scale. The learning rate falls to zero: otherwise the agent sometimes forgets what it has learned.


def make_network():
    hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((4,)), layers.Rescaling([0.5, 0.5, 5.0, 0.5]), *hidden, layers.Dense(2)])


network, target = make_network(), make_network()
target.set_weights(network.get_weights())
optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, STEPS))


@keras.jit
def act(states):
    return ops.argmax(network(states), axis=1)


@keras.jit
def learn(states, actions, next_states, ended):
    # Double Q-learning: the network chooses the next action, the target network predicts its value.
    choice = ops.one_hot(ops.argmax(network(next_states), axis=1), 2)
    future = ops.sum(choice * target(next_states), axis=1)
    wanted = 1 + GAMMA * (1 - ended) * future
    with keras.GradientTape() as tape:
        values = ops.sum(network(states) * ops.one_hot(actions, 2), axis=1)
        loss = ops.mean(ops.square(wanted - values))
    weights = network.trainable_variables
    optimizer.apply(tape.gradient(loss, weights), weights)
    for old, new in zip(target.variables, network.variables, strict=True):
        old.assign((1 - RENEWAL) * old + RENEWAL * new)
    return loss


# %%
# Training
# --------
# At first all pushes are random, so that the agent sees many states; later 2% are. An episode that reaches its limit has not
# failed: its last state has a future. The buffer and the draws from it are NumPy.


def explore(states, exploration):
    is_random = np.random.random(len(states)) < exploration
    return np.where(is_random, np.random.randint(2, size=len(states)), act(states))


seen, following = np.zeros((2, STEPS * CARTS, 4), "float32")
actions, ended = np.zeros(STEPS * CARTS, "int32"), np.zeros(STEPS * CARTS, "float32")
states, ages, finished = start(CARTS), np.zeros(CARTS, int), []
for step in range(STEPS):
    now = slice(step * CARTS, (step + 1) * CARTS)
    seen[now], actions[now] = states, explore(states, max(0.02, 1 - 3 * step / STEPS))
    states, ended[now] = push(states, actions[now])
    following[now] = states
    ages += 1
    over = (ended[now] == 1) | (ages == LIMIT)
    finished += ages[over].tolist()
    states = np.where(over[:, None], start(CARTS), states)
    ages[over] = 0
    if step >= 100:
        batch = np.random.randint(now.stop, size=BATCH)
        learn(seen[batch], actions[batch], following[batch], ended[batch])
    if (step + 1) % 500 == 0:
        print(f"step {step + 1}: {len(finished)} episodes, the last 20 of {np.mean(finished[-20:]):.0f} steps")

# %%
plt.plot(finished, ".", label="episode")
plt.plot(np.arange(19, len(finished)), np.convolve(finished, np.ones(20) / 20, "valid"), label="mean of 20")
plt.xlabel("episode")
plt.ylabel("steps until the pole falls")
plt.legend()
plt.show()

# %%
# Results
# -------


def play(exploration):
    states, alive, steps = start(TESTS), np.ones(TESTS, bool), np.zeros(TESTS)
    while alive.any() and steps.max() < LIMIT:
        states, fallen = push(states, explore(states, exploration))
        steps += alive
        alive &= ~fallen
    return steps.mean()


untrained, trained = play(exploration=1), play(exploration=0)
print(f"random: {untrained:.1f} steps; trained: {trained:.1f} steps")
