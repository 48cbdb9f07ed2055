"""`tf.random`: random tensors. The numbers are nbkeras's, not TensorFlow's."""

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras import random as random_ops
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine import settings
from nbkeras.engine.tensor import Tensor

normal = spelled(random_ops.normal, "shape mean stddev dtype seed")
shuffle = spelled(random_ops.shuffle, "value:x seed")
truncated_normal = spelled(random_ops.truncated_normal, "shape mean stddev dtype seed")


def categorical(logits: Any, num_samples: int, dtype: Any = np.int64, seed: Any = None, name: Any = None) -> Tensor:
    """Indices of classes, drawn by the softmax of logits."""
    return random_ops.categorical(logits, num_samples, dtype, seed)


def gamma(shape: Any, alpha: Any, beta: Any = None, dtype: Any = None, seed: Any = None, name: Any = None) -> Tensor:
    """Numbers of gamma distributions: for each alpha a tensor of the shape, in the last axes."""
    size = (*([shape] if isinstance(shape, int) else shape), *np.shape(alpha))
    numbers = random_ops.gamma(size, ops.broadcast_to(ops.convert_to_tensor(alpha), size), dtype, seed)
    return numbers if beta is None else numbers / beta


def set_seed(seed: int) -> None:
    """Seed the numbers that nbkeras draws."""
    settings.set_seed(seed)


def stateless_normal(
    shape: Any, seed: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, name: Any = None, alg: Any = None
) -> Tensor:
    """Numbers of a normal distribution; the same ones for a seed, which is a pair of integers."""
    return random_ops.normal(shape, mean, stddev, dtype, _number(seed))


def stateless_uniform(
    shape: Any,
    seed: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = None,
    name: Any = None,
    alg: Any = None,
) -> Tensor:
    """Numbers of a uniform distribution; the same ones for a seed, which is a pair of integers."""
    return uniform(shape, minval, maxval, dtype, _number(seed))


def uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = None, seed: Any = None, name: Any = None
) -> Tensor:
    """Numbers from minval to maxval, without it: floats, or integers of a dtype of integers."""
    if dtype is not None and np.dtype(dtype).kind in "iu":
        if maxval is None:
            raise ValueError("tf.random.uniform: integers need a maxval")
        return random_ops.randint(shape, minval, maxval, dtype, seed)
    return random_ops.uniform(shape, minval, 1.0 if maxval is None else maxval, dtype, seed)


def _number(seed: Any) -> int:
    """One seed of a pair."""
    return int(np.random.SeedSequence([int(each) & 0xFFFFFFFF for each in np.asarray(seed)]).generate_state(1)[0])


class Generator:
    """A source of random numbers: each call draws new ones, also in a recorded step. Its numbers are nbkeras's."""

    def __init__(self, seed: Any):
        self._seeds = random_ops.SeedGenerator(seed)

    @classmethod
    def from_seed(cls, seed: Any, alg: Any = None) -> "Generator":
        """A generator with the same numbers in each run, of one integer or several."""
        return cls(_number(np.atleast_1d(seed)))

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> "Generator":
        """A generator with other numbers in each run, unless nbkeras is seeded."""
        return cls(None)

    @property
    def state(self) -> Any:
        """The seed and the number of draws, a Variable."""
        return self._seeds.state

    def reset(self, state: Any) -> None:
        """Set the state."""
        self.state.assign(state)

    def reset_from_seed(self, seed: Any) -> None:
        """Begin again, with a seed."""
        self.state.assign([_number(np.atleast_1d(seed)), 0])

    def skip(self, delta: int) -> None:
        """Leave out some draws."""
        self.state.assign_add([0, delta])

    def make_seeds(self, count: int = 1) -> Tensor:
        """Pairs of integers, int64 of shape (2, count), for the functions named `stateless_`."""
        return random_ops.randint((2, count), 0, 2**31 - 1, "int64", self._seeds)

    def split(self, count: int = 1) -> list["Generator"]:
        """Generators whose numbers do not depend on each other."""
        return [Generator.from_seed(pair) for pair in np.asarray(self.make_seeds(count)).T]

    def normal(self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, name: Any = None) -> Tensor:
        """Numbers of a normal distribution."""
        return random_ops.normal(_sizes(shape), mean, stddev, dtype, self._seeds)

    def truncated_normal(
        self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, name: Any = None
    ) -> Tensor:
        """Numbers of a normal distribution, none farther than two stddev from the mean."""
        return random_ops.truncated_normal(_sizes(shape), mean, stddev, dtype, self._seeds)

    def uniform(self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = None, name: Any = None) -> Tensor:
        """Numbers from minval to maxval, without it: floats, or integers of a dtype of integers."""
        return uniform(_sizes(shape), minval, maxval, dtype, self._seeds)

    def binomial(self, shape: Any, counts: Any, probs: Any, dtype: Any = np.int32, name: Any = None) -> Tensor:
        """The numbers of successes in `counts` trials, each of probability `probs`."""
        return ops.cast(random_ops.binomial(_sizes(shape), counts, probs, seed=self._seeds), dtype)


def _sizes(shape: Any) -> tuple:
    return tuple(int(each) for each in np.atleast_1d(shape))


_global: list[Generator] = []


def get_global_generator() -> Generator:
    """The generator that `set_global_generator` set; otherwise a new one, which stays."""
    if not _global:
        _global.append(Generator.from_non_deterministic_state())
    return _global[0]


def set_global_generator(generator: Generator) -> None:
    """Set the generator that `get_global_generator` returns."""
    _global[:] = [generator]
