"""Random tensors, as in Keras's `random`. Kernels draw the numbers, so a replayed step draws new ones.

A kernel's numbers are a function of a key, a uint32 tensor [seed, step]. A generator's state is a key too: `next` copies it
and advances the state by one step each time it runs, also in a replay.

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
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, Variable, apply, as_tensor, op, outside_program
from nbkeras.kernels import random as kernels
from nbkeras.ops.arguments import as_float, axis_of
from nbkeras.ops.shape import sizes_of


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
        return apply(kernels.draw_key, None, [self.state])


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


def _float_form(name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    """The checked shape and dtype of random floats; errors name the function."""
    found = known_dtype(dtype)
    if found not in (np.float32, np.float64):
        raise ValueError(f"{name}: dtype must be float32 or float64, received {found.name!r}")
    return {"shape": sizes_of(name, shape), "dtype": found}


def uniform(shape, minval: float = 0.0, maxval: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Uniformly distributed numbers, minval <= x < maxval (up to rounding); floatx by default."""
    form = _float_form("uniform", shape, dtype)
    return apply(kernels.uniform, None, [key_of(seed)], low=float(minval), high=float(maxval), **form)


def normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Normally distributed numbers; floatx by default."""
    form = _float_form("normal", shape, dtype)
    return apply(kernels.normal, None, [key_of(seed)], mean=float(mean), stddev=float(stddev), **form)


def truncated_normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None) -> Tensor:
    """Normally distributed numbers within two standard deviations of the mean; floatx by default."""
    form = _float_form("truncated_normal", shape, dtype)
    return apply(kernels.truncated_normal, None, [key_of(seed)], mean=float(mean), stddev=float(stddev), **form)


def bernoulli(shape, probability: float = 0.5, dtype=None, seed=None) -> Tensor:
    """1 with the given probability, else 0; floatx by default."""
    if not 0 <= probability <= 1:
        raise ValueError(f"bernoulli: the probability must be between 0 and 1, received {probability}")
    form = {"shape": sizes_of("bernoulli", shape), "dtype": known_dtype(dtype)}
    return apply(kernels.bernoulli, None, [key_of(seed)], probability=float(probability), **form)


def randint(shape, minval: int, maxval: int, dtype="int32", seed=None) -> Tensor:
    """Random integers, minval <= n < maxval."""
    if not minval < maxval:
        raise ValueError(f"randint: minval must be below maxval, received {minval} and {maxval}")
    found = np.dtype(dtype)
    if found.kind not in "iu":
        raise ValueError(f"randint: dtype must be an integer type, received {found.name!r}")
    sizes = sizes_of("randint", shape)
    numbers = apply(kernels.randint, None, [key_of(seed)], shape=sizes, low=int(minval), high=int(maxval))
    return as_tensor(numbers, found)


@op
def categorical(logits, num_samples: int, dtype="int32", seed=None) -> Tensor:
    """Class numbers drawn with probabilities softmax(logits): logits (rows, classes) -> (rows, num_samples)."""
    logits = as_float(logits)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"categorical: logits must have shape (rows, classes), received {logits.shape}")
    classes = apply(kernels.categorical, None, [logits, key_of(seed)], samples=int(num_samples))
    return as_tensor(classes, np.dtype(dtype))


@op
def shuffle(x, axis: int = 0, seed=None) -> Tensor:
    """x with its slices along an axis in random order; differentiable."""
    x = as_tensor(x)
    axis = axis_of("shuffle", axis, x.ndim)
    return apply(kernels.shuffle, kernels.shuffle_vjp, [x, key_of(seed)], axis=axis)


@op
def dropout(inputs, rate: float, noise_shape=None, seed=None) -> Tensor:
    """inputs / (1 - rate) with elements set to 0 with probability `rate`; differentiable.

    noise_shape: the inputs' shape with 1 for axes along which elements are kept or dropped together; None means
    the inputs' size.
    """
    if rate == 0:
        return as_tensor(inputs)
    x = as_float(inputs)
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
    return apply(kernels.dropout, kernels.dropout_vjp, [x, key_of(seed)], rate=float(rate), noise_shape=shape)


if TYPE_CHECKING:  # imported when first asked for
    from nbkeras.random.distributions import beta as beta
    from nbkeras.random.distributions import binomial as binomial
    from nbkeras.random.distributions import gamma as gamma

_lazy_names.attach(globals())
