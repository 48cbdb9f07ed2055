"""Random tensors as pure functions of a *key*: a uint32 tensor [seed, step].

`draw_key` makes a key from a generator's state and advances the state by one step each time it runs, also in a replay.
The public functions, which take a seed, are in nbkeras.random.
"""

from typing import Any

import numpy as np

from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, Variable, apply, as_tensor
from nbkeras.kernels import random
from nbkeras.ops.arguments import as_float, axis_of
from nbkeras.ops.shape import sizes_of


def draw_key(state: Variable) -> Tensor:
    """A key from a generator's state, uint32 [seed, step]; the state's step increases by one."""
    return apply(random.draw_key, None, [state])


def float_form(name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    """The checked shape and dtype of random floats; errors name the function."""
    found = known_dtype(dtype)
    if found not in (np.float32, np.float64):
        raise ValueError(f"{name}: dtype must be float32 or float64, received {found.name!r}")
    return {"shape": sizes_of(name, shape), "dtype": found}


def uniform(key: Tensor, shape, minval: float = 0.0, maxval: float = 1.0, dtype=None) -> Tensor:
    """Uniformly distributed numbers, minval <= x < maxval (up to rounding)."""
    arguments = float_form("uniform", shape, dtype)
    return apply(random.uniform, None, [key], low=float(minval), high=float(maxval), **arguments)


def normal(key: Tensor, shape, mean: float = 0.0, stddev: float = 1.0, dtype=None) -> Tensor:
    """Normally distributed numbers."""
    arguments = float_form("normal", shape, dtype)
    return apply(random.normal, None, [key], mean=float(mean), stddev=float(stddev), **arguments)


def truncated_normal(key: Tensor, shape, mean: float = 0.0, stddev: float = 1.0, dtype=None) -> Tensor:
    """Normally distributed numbers within two standard deviations of the mean."""
    arguments = float_form("truncated_normal", shape, dtype)
    return apply(random.truncated_normal, None, [key], mean=float(mean), stddev=float(stddev), **arguments)


def bernoulli(key: Tensor, shape, probability: float = 0.5, dtype=None) -> Tensor:
    """1 with the given probability, else 0."""
    if not 0 <= probability <= 1:
        raise ValueError(f"bernoulli: the probability must be between 0 and 1, received {probability}")
    sizes = sizes_of("bernoulli", shape)
    return apply(random.bernoulli, None, [key], shape=sizes, dtype=known_dtype(dtype), probability=float(probability))


def randint(key: Tensor, shape, minval: int, maxval: int, dtype="int32") -> Tensor:
    """Random integers, minval <= n < maxval."""
    if not minval < maxval:
        raise ValueError(f"randint: minval must be below maxval, received {minval} and {maxval}")
    found = np.dtype(dtype)
    if found.kind not in "iu":
        raise ValueError(f"randint: dtype must be an integer type, received {found.name!r}")
    sizes = sizes_of("randint", shape)
    return as_tensor(apply(random.randint, None, [key], shape=sizes, low=int(minval), high=int(maxval)), found)


def categorical(logits, key: Tensor, num_samples: int, dtype="int32") -> Tensor:
    """Class numbers drawn with probabilities softmax(logits): logits (rows, classes) -> (rows, num_samples)."""
    logits = as_float(logits)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"categorical: logits must have shape (rows, classes), received {logits.shape}")
    return as_tensor(apply(random.categorical, None, [logits, key], samples=int(num_samples)), np.dtype(dtype))


def shuffle(x, key: Tensor, axis: int = 0) -> Tensor:
    """x with its slices along an axis in random order; differentiable."""
    x = as_tensor(x)
    return apply(random.shuffle, random.shuffle_vjp, [x, key], axis=axis_of("shuffle", axis, x.ndim))


def dropout(x, key: Tensor, rate: float, noise_shape=None) -> Tensor:
    """x / (1 - rate) with elements set to 0 with probability `rate`; differentiable.

    noise_shape: x's shape with 1 for axes along which elements are kept or dropped together; None means x's size.
    """
    x = as_float(x)
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must be between 0 and 1, received {rate}")
    shape = None
    if noise_shape is not None:
        given = tuple(noise_shape)
        shape = tuple(n if size is None else size for size, n in zip(given, x.shape, strict=False))
        if len(given) != x.ndim or any(size not in (1, n) for size, n in zip(shape, x.shape, strict=True)):
            raise ValueError(
                f"dropout: noise_shape must be x's shape {x.shape} with 1 (or None, for x's size) in some places, "
                f"received {given}"
            )
    return apply(random.dropout, random.dropout_vjp, [x, key], rate=float(rate), noise_shape=shape)
