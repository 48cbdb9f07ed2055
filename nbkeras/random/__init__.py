"""Random tensors, as in Keras's `random`. Kernels draw the numbers, so a replayed step draws new ones.

A kernel's numbers are a function of a key, a uint32 tensor [seed, step]. A generator's state is a key too: `next` copies it
and advances the state by one step each time it runs, also in a replay.

seed: an integer gives the same numbers on every call, a SeedGenerator gives new numbers on every call. None means the shared
global generator (seeded by `utils.set_random_seed`). The numbers do not depend on the number of threads, and differ from real
Keras's for the same seed. Several processes that train together draw for their rows of a batch the numbers that one process
would draw for these rows. An array belongs to the rows if its first axis is as long.
"""

import operator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from nbkeras import config as settings
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option, sharding, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.devices import device, get_device
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.registry import others
from nbkeras.engine.tensor import Tensor, Variable, apply, as_float, as_tensor, op, outside_program
from nbkeras.engine.user_errors import checked
from nbkeras.kernels import random as kernels
from nbkeras.ops.arguments import axis_of, count_of, new_sizes, sizes_of


@others.register
class SeedGenerator(option.Configured):
    """A source of random numbers: a random function with this `seed` draws new numbers on every call.

    A layer that draws numbers makes one with `add_seed_generator`. A recorded training step draws new numbers too.

    Args:
        seed (an integer, or None): An integer for the same numbers in each run; None for one from the global seed.
        name (str, or None): The name, also of its Variable `state`, which is uint32 [seed, number of draws].

    Raises:
        ValueError: for a seed that is not an integer.

    Example:
        >>> generator = keras.random.SeedGenerator(1)
        >>> first, second = (keras.random.randint((4,), 0, 100, seed=generator) for _ in range(2))
        >>> bool(np.all(first == second))
        False
        >>> generator.state.numpy()
        array([1, 2], dtype=uint32)
    """

    def __init__(self, seed: Annotated[option.Anything, "_given_seed"] = None, name: option.Anything = None):
        super().__init__(**option.keep(self, locals()))
        value = settings.next_seed() if seed is None else _integer(seed)
        self.name = name or "seed_generator"
        self.state = Variable(np.array([value, 0], np.uint32), name=f"{self.name}_state", trainable=False)

    def next(self, ordered: bool = True) -> Tensor:
        """A new key, uint32 of shape (2,); the state advances by one step.

        Args:
            ordered: Accepted and ignored: keys are always in the order of the calls.

        Example:
            >>> seed = keras.random.SeedGenerator(1)
            >>> bool(ops.all(seed.next() == seed.next()))
            False
        """
        if tape.thread.rerun is not None:
            return tape.thread.rerun.key(self._drawn)
        return self._drawn()

    def _drawn(self) -> Tensor:
        return apply(kernels.draw_key, None, [self.state])


def _integer(seed: Any) -> int:
    """A seed as a 32-bit number."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, a SeedGenerator or None, received {briefly(seed)}") from None
    return value % 2**32


_first: int | None = None  # the seed of the shared generators; None: drawn when the first of them is made
_shared: dict[str, SeedGenerator] = {}  # the shared generator of each device


def _restart(seed: int) -> None:
    """Restart the shared generators; in place, because recorded programs read their states."""
    global _first
    _first = seed % 2**32
    for name, generator in _shared.items():
        with device(name), outside_program():
            generator.state.assign(np.array([_first, 0], np.uint32))


settings.on_seed(_restart)


def _global_state() -> dict[str, Any]:
    """Returns the state of the shared generators: the seed of future ones (None if not drawn yet), and the states by device."""
    return {"first": _first, "generators": {name: each.state.numpy() for name, each in _shared.items()}}


def _restore_global_state(state: dict[str, Any]) -> None:
    """Restore the result of `_global_state`."""
    if state["first"] is not None:
        _restart(state["first"])
    for name, value in state["generators"].items():
        with device(name), outside_program():
            _generator().state.assign(value)


def _generator() -> SeedGenerator:
    """The shared generator of this thread's device."""
    global _first
    name = get_device()
    if name not in _shared:
        with outside_program():  # concurrent threads all use the generator that is stored first
            _first = settings.next_seed() if _first is None else _first
            _shared.setdefault(name, SeedGenerator(_first, "global_seed_generator"))
    return _shared[name]


def _shared_states() -> list[Variable]:
    """The state of the generator that all random functions without a seed share on this thread's device."""
    return [_generator().state]


def key_of(seed: Any) -> Tensor:
    """The key that determines a random function's numbers, uint32 [seed, step]. Most code passes `seed` instead.

    Args:
        seed: An integer for the same key each time; a SeedGenerator for its next key; None for the global generator's.

    Returns:
        A uint32 tensor of shape (2,).

    Raises:
        ValueError: for a seed of another type.

    Example:
        >>> keras.random.key_of(7).numpy()
        array([7, 0], dtype=uint32)
    """
    if seed is None:
        return _generator().next()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    return as_tensor(np.array([_integer(seed), 0], np.uint32))


def _float_form(name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    """The checked shape and dtype of random floats; errors name the function."""
    found = known_dtype(dtype)
    if found.kind != "f":
        raise ValueError(f"{name}: dtype must be a dtype of floats, received {briefly(found.name)}")
    sizes = new_sizes(name, shape)
    return {"shape": sizes, "dtype": found, **_rows(sizes)}


def _rows(shape: tuple[int, ...]) -> dict[str, Any]:
    """{'rows': (first, total)}, the position of an array's rows among all ranks' rows, if its first axis is this rank's rows."""
    rows = None if tape.thread.levels else sharding.place_of(shape)  # in autodiff.vmap the shape belongs to one member
    return {} if rows is None else {"rows": rows}


@checked
def uniform(shape, minval: float = 0.0, maxval: float = 1.0, dtype=None, seed: Any = None) -> Tensor:
    """Uniformly distributed numbers x with minval <= x < maxval, up to rounding.

    Args:
        shape: The sizes of the tensor.
        minval: The smallest number.
        maxval: The upper limit, excluded.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape.

    Raises:
        ValueError: for an unsupported dtype.

    Example:
        >>> x = keras.random.uniform((1000,), minval=2.0, maxval=3.0, seed=1)
        >>> bool(ops.all((x >= 2.0) & (x < 3.0))), round(float(ops.mean(x)), 1)
        (True, 2.5)
    """
    form = _float_form("uniform", shape, dtype)
    return apply(kernels.uniform, None, [key_of(seed)], low=float(minval), high=float(maxval), **form)


@checked
def normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed: Any = None) -> Tensor:
    """Normally distributed numbers.

    Args:
        shape: The sizes of the tensor.
        mean: The mean.
        stddev: The standard deviation.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape.

    Raises:
        ValueError: for an unsupported dtype.

    Example:
        >>> x = keras.random.normal((10000,), mean=2.0, stddev=3.0, seed=1)
        >>> round(float(ops.mean(x))), round(float(ops.std(x)))
        (2, 3)
    """
    form = _float_form("normal", shape, dtype)
    return apply(kernels.normal, None, [key_of(seed)], mean=float(mean), stddev=float(stddev), **form)


@checked
def truncated_normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed: Any = None) -> Tensor:
    """Numbers of a normal distribution truncated at two standard deviations from the mean.

    Args:
        shape: The sizes of the tensor.
        mean: The mean.
        stddev: The standard deviation before truncation; the result's is 0.88 times as large.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape.

    Raises:
        ValueError: for an unsupported dtype.

    Example:
        >>> x = keras.random.truncated_normal((10000,), seed=1)
        >>> bool(ops.all(ops.abs(x) <= 2.0)), round(float(ops.std(x)), 2)
        (True, 0.88)
    """
    form = _float_form("truncated_normal", shape, dtype)
    return apply(kernels.truncated_normal, None, [key_of(seed)], mean=float(mean), stddev=float(stddev), **form)


@checked
def bernoulli(shape, probability: float = 0.5, dtype=None, seed: Any = None) -> Tensor:
    """1 with a given probability, else 0.

    Args:
        shape: The sizes of the tensor.
        probability: A number from 0 to 1.
        dtype: The dtype; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A tensor of this shape, of zeros and ones.

    Raises:
        ValueError: for a probability outside [0, 1].

    Example:
        >>> x = keras.random.bernoulli((10000,), probability=0.2, seed=1)
        >>> round(float(ops.mean(x)), 1)
        0.2
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"bernoulli: the probability must be between 0 and 1, received {briefly(probability)}")
    sizes = new_sizes("bernoulli", shape)
    form = {"shape": sizes, "dtype": known_dtype(dtype), **_rows(sizes)}
    return apply(kernels.bernoulli, None, [key_of(seed)], probability=float(probability), **form)


def randint(shape, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Random integers n with minval <= n < maxval, all equally probable.

    Args:
        shape: The sizes of the tensor.
        minval: The smallest integer.
        maxval: The upper limit, excluded.
        dtype: An integer dtype.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        An integer tensor of this shape.

    Raises:
        ValueError: if `minval` is not below `maxval`, or for a float dtype.

    Example:
        >>> x = keras.random.randint((100,), 0, 3, seed=1)
        >>> np.unique(x).tolist()
        [0, 1, 2]
    """
    try:
        minval, maxval = int(minval), int(maxval)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"randint: the limits must be integers, received {briefly(minval)}, {briefly(maxval)}"
        ) from None
    if not minval < maxval:
        raise ValueError(f"randint: minval must be below maxval, received {briefly(minval)} and {briefly(maxval)}")
    if not -(2**63) <= minval < maxval < 2**63:
        raise ValueError(f"randint: the limits must fit into int64, received {briefly(minval)} and {briefly(maxval)}")
    found = known_dtype(dtype)
    if found.kind not in "iu":
        raise ValueError(f"randint: dtype must be an integer type, received {briefly(found.name)}")
    sizes = new_sizes("randint", shape)
    limits = {"low": minval, "high": maxval, **_rows(sizes)}
    numbers = apply(kernels.randint, None, [key_of(seed)], shape=sizes, **limits)
    return as_tensor(numbers, found)


@op
def categorical(logits, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Class numbers, drawn with probabilities softmax(logits).

    Args:
        logits: Scores of the classes, (rows, classes).
        num_samples: The number of draws for each row.
        dtype: The dtype of the result.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A tensor (rows, num_samples) of integers from 0 to classes - 1.

    Raises:
        ValueError: for logits that do not have two axes.

    Example:
        >>> logits = np.log([[0.2, 0.8, 1e-30]])
        >>> x = keras.random.categorical(logits, 1000, seed=1)
        >>> round(float(ops.mean(x == 1)), 1)
        0.8
    """
    logits = as_float(logits)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"categorical: logits must have shape (rows, classes), received {logits.shape}")
    samples = count_of("categorical", "num_samples", num_samples)
    rows = _rows((logits.shape[0], samples))
    classes = apply(kernels.categorical, None, [logits, key_of(seed)], samples=samples, **rows)
    return as_tensor(classes, known_dtype(dtype))


@op
def shuffle(x, axis: int = 0, seed: Any = None) -> Tensor:
    """x with its slices along an axis in random order. Differentiable in x.

    Args:
        x: A tensor.
        axis: The axis to shuffle.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> x = keras.random.shuffle(np.arange(5), seed=1)
        >>> sorted(x.numpy().tolist())
        [0, 1, 2, 3, 4]
    """
    x = as_tensor(x)
    axis = axis_of("shuffle", axis, x.ndim)
    return apply(kernels.shuffle, kernels.shuffle_vjp, [x, key_of(seed)], axis=axis)


@op
def dropout(inputs, rate: float, noise_shape=None, seed: Any = None) -> Tensor:
    """inputs / (1 - rate), with each element set to 0 with a given probability. Differentiable in inputs.

    The output has the same mean as the input (Srivastava et al., 2014).

    Args:
        inputs: Floats of any shape.
        rate: The probability, from 0 to 1. 1 gives zeros.
        noise_shape: The shape of the inputs with 1 for axes along which elements are kept or dropped together, None for the
            size of the input; None for single elements.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A tensor of the shape of the inputs.

    Raises:
        ValueError: for a rate outside [0, 1], or a `noise_shape` that does not fit.

    Example:
        >>> x = keras.random.dropout(np.ones((100, 2)), rate=0.5, noise_shape=(None, 1), seed=1)
        >>> np.unique(x, axis=0)  # rows are kept or dropped
        array([[0., 0.],
               [2., 2.]])
    """
    if rate == 0:
        return as_tensor(inputs)
    x = as_float(inputs)
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must be between 0 and 1, received {briefly(rate)}")
    shape = None
    if noise_shape is not None:
        given = noise_shape if isinstance(noise_shape, list | tuple) else sizes_of("dropout", noise_shape)
        shape = sizes_of("dropout", [n if size is None else size for size, n in zip(given, x.shape, strict=False)])
        if len(given) != x.ndim or any(size not in (1, n) for size, n in zip(shape, x.shape, strict=True)):
            raise ValueError(
                f"dropout: noise_shape must be x's shape {x.shape} with 1 (or None, for x's size) on some axes, "
                f"received {briefly(given)}"
            )
    alike = noise_shape is not None and tuple(given[:1]) == (1,)  # all rows of the batch
    rows = {} if alike else _rows(x.shape if shape is None else shape)
    return apply(kernels.dropout, kernels.dropout_vjp, [x, key_of(seed)], rate=float(rate), noise_shape=shape, **rows)


if TYPE_CHECKING:  # imported at first use
    from nbkeras.random.distributions import *

_lazy_names.attach(globals())
