"""A cart that balances a pole, and the loop of deep Q-learning around it: the same Python and NumPy for every framework."""

import math
import time
from collections.abc import Callable

import numpy as np

BATCH, BUFFER, GAMMA, EXPLORATION, RENEWAL, LIMIT = 64, 10_000, 0.98, 0.05, 100, 500
UNITS, RATE = 64, 0.001  # of both hidden layers; of Adam


class CartPole:
    """One cart. The equations are those of Barto, Sutton and Anderson (1983), with the constants of Gymnasium's CartPole-v1."""

    def __init__(self, random: np.random.Generator):
        self.random = random
        self.restart()

    def restart(self) -> None:
        self.state, self.age = self.random.uniform(-0.05, 0.05, 4).tolist(), 0

    def push(self, action: int) -> bool:
        """One step of 0.02 seconds; whether the pole fell or the cart left the track."""
        position, speed, angle, spin = self.state
        sine, cosine = math.sin(angle), math.cos(angle)
        pull = ((10 if action else -10) + 0.05 * spin**2 * sine) / 1.1
        turn = (9.8 * sine - cosine * pull) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        acceleration = pull - 0.05 * turn * cosine / 1.1
        self.state = [
            position + 0.02 * speed,
            speed + 0.02 * acceleration,
            angle + 0.02 * spin,
            spin + 0.02 * turn,
        ]
        self.age += 1
        return abs(self.state[0]) > 2.4 or abs(self.state[2]) > math.radians(12)


class Learning:
    """Deep Q-learning: each step of the cart is followed by a step of learning from a batch of the buffer.

    act(states) gives the best action for one state (1, 4). learn(states, actions, next states, ended) is a step of the
    optimizer. renew() copies the network to the target network.
    """

    def __init__(self, act: Callable, learn: Callable, renew: Callable[[], object]):
        self.act, self.learn, self.renew = act, learn, renew
        self.random = np.random.default_rng(0)
        self.cart, self.count = CartPole(self.random), 0
        self.states, self.following = np.zeros((2, BUFFER, 4), "float32")
        self.actions, self.ended = np.zeros(BUFFER, "int64"), np.zeros(BUFFER, "float32")
        self.ages: list[int] = []

    def steps_per_second(self, steps: int) -> float:
        """Go on for this many steps."""
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return steps / (time.perf_counter() - start)

    def step(self) -> None:
        place = self.count % BUFFER
        self.states[place] = self.cart.state
        if self.count < BATCH or self.random.random() < EXPLORATION:
            action = int(self.random.integers(2))
        else:
            action = int(self.act(self.states[place : place + 1]))
        fell = self.cart.push(action)
        self.actions[place], self.following[place], self.ended[place] = action, self.cart.state, fell
        self.count += 1
        if fell or self.cart.age == LIMIT:
            self.ages.append(self.cart.age)
            self.cart.restart()
        if self.count >= BATCH:
            rows = self.random.integers(min(self.count, BUFFER), size=BATCH)
            self.learn(self.states[rows], self.actions[rows], self.following[rows], self.ended[rows])
        if self.count % RENEWAL == 0:
            self.renew()
