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
