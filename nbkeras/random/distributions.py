"""Less common distributions of nbkeras.random, which imports them at first use. They are not differentiable."""

from collections.abc import Callable
from typing import Any

from nbkeras.engine.tensor import Tensor, apply, as_tensor
from nbkeras.kernels import distributions as kernels
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops.shape import broadcast_to
from nbkeras.random import _float_form, key_of


def _drawn(kernel: Callable, shape: Any, dtype: Any, seed: Any, *parameters: Any) -> Tensor:
    """Numbers of a distribution; its parameters are numbers or tensors that broadcast to the shape."""
    name, form = kernel.__name__, _float_form(kernel.__name__, shape, dtype)
    tensors = [as_tensor(value, form["dtype"]) for value in parameters]
    for tensor in tensors:
        if broadcast_shape(form["shape"], tensor.shape) != form["shape"]:
            raise ValueError(f"{name}: a parameter of shape {tensor.shape} does not broadcast to shape {form['shape']}")
    rows = {name: each for name, each in form.items() if name == "rows"}
    return apply(kernel, None, [key_of(seed), *(broadcast_to(tensor, form["shape"]) for tensor in tensors)], **rows)


def gamma(shape, alpha, dtype=None, seed=None) -> Tensor:
    """Gamma-distributed numbers of scale 1. Not differentiable.

    Args:
        shape: The sizes of the tensor.
        alpha: The shape parameter, above 0: a number or a tensor that broadcasts to the shape.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape, with mean alpha and variance alpha.

    Raises:
        ValueError: for an unsupported dtype, or for a parameter that does not broadcast to the shape.

    Example:
        >>> x = keras.random.gamma((10000,), alpha=3.0, seed=1)
        >>> round(float(ops.mean(x))), round(float(ops.var(x)))
        (3, 3)
    """
    return _drawn(kernels.gamma, shape, dtype, seed, alpha)


def beta(shape, alpha, beta, dtype=None, seed=None) -> Tensor:
    """Beta-distributed numbers, from 0 to 1. Not differentiable.

    Args:
        shape: The sizes of the tensor.
        alpha: The first parameter, above 0: a number or a tensor that broadcasts to the shape.
        beta: The second parameter, like alpha.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape, with mean alpha / (alpha + beta).

    Raises:
        ValueError: for an unsupported dtype, or for a parameter that does not broadcast to the shape.

    Example:
        >>> x = keras.random.beta((10000,), alpha=1.0, beta=3.0, seed=1)
        >>> round(float(ops.mean(x)), 2)
        0.25
    """
    return _drawn(kernels.beta, shape, dtype, seed, alpha, beta)


def binomial(shape, counts, probabilities, dtype=None, seed=None) -> Tensor:
    """Numbers of successes among trials, as floats. Not differentiable.

    Args:
        shape: The sizes of the tensor.
        counts: The number of trials: a number or a tensor that broadcasts to the shape.
        probabilities: The probability of a success, like counts.
        dtype: 'float32' or 'float64'; None for `config.floatx()`.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.

    Returns:
        A float tensor of this shape, of whole numbers from 0 to counts.

    Raises:
        ValueError: for an unsupported dtype, or for a parameter that does not broadcast to the shape.

    Example:
        >>> x = keras.random.binomial((10000,), counts=10, probabilities=0.3, seed=1)
        >>> float(ops.min(x)) >= 0, round(float(ops.mean(x)))
        (True, 3)
    """
    return _drawn(kernels.binomial, shape, dtype, seed, counts, probabilities)
