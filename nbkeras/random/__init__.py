"""Random tensors, as in Keras's `random`. Kernels draw the numbers, so a replayed step draws new ones.

seed: an integer gives the same numbers on every call, a SeedGenerator gives new numbers on every call. None means the shared
global generator (seeded by `utils.set_random_seed`). The numbers do not depend on the number of threads, and differ from real
Keras's for the same seed.
"""

import operator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from nbkeras import config as settings
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.devices import device, get_device
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, op, outside_program
from nbkeras.ops import random as ops


class SeedGenerator(option.Configured):
    """A source of keys for random functions: `random.normal((2, 3), seed=generator)` draws new numbers each time.

    seed: an integer, or None for one from the global seed. `state` is a Variable, uint32 [seed, number of draws].
    """

    def __init__(self, seed: Annotated[option.Anything, "_given_seed"] = None, name: option.Anything = None):
        super().__init__()
        option.keep(self, locals())
        value = settings.next_seed() if seed is None else _integer(seed)
        self.name = name or "seed_generator"
        self.state = Variable(np.array([value, 0], np.uint32), name=f"{self.name}_state", trainable=False)

    def next(self) -> Tensor:
        """A new key; the state advances by one step."""
        return ops.draw_key(self.state)


def _integer(seed: Any) -> int:
    """A seed as a number of 32 bits."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, a SeedGenerator or None, received {seed!r}") from None
    return value % 2**32


_first = settings.next_seed()
_shared: dict[str, SeedGenerator] = {}  # by device


def _restart(seed: int) -> None:
    """Restart the shared generators; in place, because recorded programs read their states."""
    global _first
    _first = seed % 2**32
    for name, generator in _shared.items():
        with device(name), outside_program():
            generator.state.assign(np.array([_first, 0], np.uint32))


settings.on_seed(_restart)


def _generator() -> SeedGenerator:
    """The shared generator of this thread's device."""
    name = get_device()
    if name not in _shared:
        with outside_program():  # concurrent threads all use the generator that is stored first
            _shared.setdefault(name, SeedGenerator(_first, "global_seed_generator"))
    return _shared[name]


def key_of(seed: Any) -> Tensor:
    """The key of a seed: the next key of a generator; always the same key for an integer."""
    if seed is None:
        return _generator().next()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    return as_tensor(np.array([_integer(seed), 0], np.uint32))


def uniform(shape, minval: float = 0.0, maxval: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Uniformly distributed numbers, minval <= x < maxval (up to rounding); floatx by default."""
    return ops.uniform(key_of(seed), shape, minval, maxval, dtype)


def normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Normally distributed numbers; floatx by default."""
    return ops.normal(key_of(seed), shape, mean, stddev, dtype)


def truncated_normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Normally distributed numbers within two standard deviations of the mean; floatx by default."""
    return ops.truncated_normal(key_of(seed), shape, mean, stddev, dtype)


def bernoulli(shape, probability: float = 0.5, dtype=None, seed=None) -> Tensor:
    """1 with the given probability, else 0; floatx by default."""
    return ops.bernoulli(key_of(seed), shape, probability, dtype)


def randint(shape, minval: int, maxval: int, dtype="int32", seed=None) -> Tensor:
    """Random integers, minval <= n < maxval."""
    return ops.randint(key_of(seed), shape, minval, maxval, dtype)


@op
def categorical(logits, num_samples: int, dtype="int32", seed=None) -> Tensor:
    """Class numbers drawn with probabilities softmax(logits): logits (rows, classes) -> (rows, num_samples)."""
    return ops.categorical(logits, key_of(seed), num_samples, dtype)


@op
def shuffle(x, axis: int = 0, seed=None) -> Tensor:
    """x with its slices along an axis in random order; differentiable."""
    return ops.shuffle(x, key_of(seed), axis)


@op
def dropout(inputs, rate: float, noise_shape=None, seed=None) -> Tensor:
    """inputs / (1 - rate) with elements set to 0 with probability `rate`; differentiable.

    noise_shape: the inputs' shape with 1 for axes along which elements are kept or dropped together; None means
    the inputs' size.
    """
    return as_tensor(inputs) if rate == 0 else ops.dropout(inputs, key_of(seed), rate, noise_shape)


if TYPE_CHECKING:  # imported when first asked for
    from nbkeras.random.distributions import beta as beta
    from nbkeras.random.distributions import binomial as binomial
    from nbkeras.random.distributions import gamma as gamma

_lazy_names.attach(globals())
