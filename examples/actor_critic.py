"""
Actor and critic: balance a pole
================================

One network with two outputs learns to balance a pole on a cart (CartPole): the actor gives the probability of each push, the
critic predicts the future reward. Pushes that gave more reward than the critic expected become more probable. Sixteen carts run
at the same time, and each update uses 32 steps of all of them.

The physics is written below, so nothing else needs to be installed. Random pushes balance the pole for about 23
steps; after training it stands for **500 steps on average** in 20 new episodes, of 500 at most. An update takes 0.14 ms, and 1.0
ms without ``nbkeras.jit``; actions for all carts take 0.010 ms, and 0.17 ms without. The program takes 1.6 s (measured once, on
two cores of an AMD EPYC Zen 5 with AVX-512). ``dqn.py`` solves the same problem with a buffer of attempts.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers, ops

UPDATES = 500
CARTS = 16
STEPS = 32
GAMMA = 0.99
LIMIT = 500

keras.utils.set_random_seed(0)

# %%
# Carts and poles
# ---------------
# As in ``dqn.py``, for many carts at once: ``states`` is (carts, 4).


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
# The networks
# ------------

inputs = keras.Input((4,))
hidden = layers.Dense(64, activation="tanh")(inputs)
actor = layers.Dense(2, name="actor")(layers.Dense(64, activation="tanh")(hidden))
critic = layers.Dense(1, name="critic")(layers.Dense(64, activation="tanh")(hidden))
model = keras.Model(inputs, [actor, critic])
model.summary()

# %%
# What is recorded
# ----------------
# ``nbkeras.jit`` records each function at its first call. ``drive`` draws the actions; the seed goes on from call to call.

optimizer = keras.optimizers.Adam(0.003, clipnorm=0.5)
seed = keras.random.SeedGenerator(0)


@keras.jit
def drive(states):
    logits, values = model(states)
    return keras.random.categorical(logits, 1, seed=seed)[:, 0], values[:, 0]


@keras.jit
def learn(states, actions, returns):
    with keras.GradientTape() as tape:
        logits, values = model(states)
        advantages = returns - values[:, 0]
        log_probabilities = ops.log_softmax(logits)
        chosen = ops.sum(log_probabilities * ops.one_hot(actions, 2), axis=1)
        entropy = -ops.mean(ops.sum(ops.exp(log_probabilities) * log_probabilities, axis=1))
        actor_loss = -ops.mean(chosen * ops.stop_gradient(advantages))
        critic_loss = ops.mean(ops.square(advantages))
        loss = actor_loss + 0.5 * critic_loss - 0.01 * entropy
    weights = model.trainable_variables
    optimizer.apply(tape.gradient(loss, weights), weights)
    return loss


# %%
# Training
# --------
# A return is the reward of the following steps, plus the critic's prediction after the last one. Rewards are divided by 10, so
# that the critic's numbers stay small.

states, ages, finished, curve = start(CARTS), np.zeros(CARTS, int), [], []
for update in range(UPDATES):
    rollout = []
    for _ in range(STEPS):
        actions = np.asarray(drive(states)[0])
        next_states, fallen = push(states, actions)
        ages += 1
        ended = fallen | (ages == LIMIT)
        future = drive(next_states)[1]
        rollout.append((states, actions, ended, np.where(fallen, 0, future)))
        finished += ages[ended].tolist()
        states = np.where(ended[:, None], start(CARTS), next_states)
        ages[ended] = 0
    following, returns = rollout[-1][3], []
    for _, _, ended, future in reversed(rollout):
        following = 0.1 + GAMMA * np.where(ended, future, following)
        returns.insert(0, following)
    learn(
        np.concatenate([step[0] for step in rollout]).astype("float32"),
        np.concatenate([step[1] for step in rollout]),
        np.concatenate(returns).astype("float32"),
    )
    curve.append(np.mean(finished[-50:]) if finished else np.nan)
    if (update + 1) % 50 == 0:
        print(f"update {update + 1}: {len(finished)} episodes, the last 50 of {curve[-1]:.0f} steps")

# %%
plt.plot(np.arange(1, UPDATES + 1) * CARTS * STEPS, curve)
plt.xlabel("steps of all carts")
plt.ylabel("steps of the last 50 episodes")
plt.show()

# %%
# Results
# -------


def lengths(policy, number=20):
    states, alive, steps = start(number), np.ones(number, bool), np.zeros(number)
    while alive.any() and steps.max() < LIMIT:
        states, fallen = push(states, policy(states))
        steps += alive
        alive &= ~fallen
    return steps


@keras.jit
def best(states):
    return ops.argmax(model(states)[0], axis=1)


untrained = lengths(lambda states: np.random.randint(2, size=len(states))).mean()
trained = lengths(best).mean()
print(f"random: {untrained:.1f} steps; trained: {trained:.1f} steps")
