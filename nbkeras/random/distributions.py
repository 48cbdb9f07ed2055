"""Less common distributions of nbkeras.random, which imports them at first use. They are not differentiable."""

from collections.abc import Callable
from typing import Any

from nbkeras.engine.tensor import Tensor, apply, as_tensor
from nbkeras.kernels import distributions as kernels
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops.shape import broadcast_to
from nbkeras.random import _float_form, key_of


def _drawn(kernel: Callable, shape: Any, dtype: Any, seed: Any, *parameters: Any) -> Tensor:
    """Numbers of a distribution whose parameters are numbers or tensors that broadcast to the shape."""
    name, form = kernel.__name__, _float_form(kernel.__name__, shape, dtype)
    tensors = [as_tensor(value, form["dtype"]) for value in parameters]
    for tensor in tensors:
        if broadcast_shape(form["shape"], tensor.shape) != form["shape"]:
            raise ValueError(f"{name}: a parameter of shape {tensor.shape} does not broadcast to shape {form['shape']}")
    return apply(kernel, None, [key_of(seed), *(broadcast_to(tensor, form["shape"]) for tensor in tensors)])


def gamma(shape, alpha, dtype=None, seed=None) -> Tensor:
    """Gamma-distributed numbers of scale 1; alpha: a number or a tensor that broadcasts to the shape; floatx by default."""
    return _drawn(kernels.gamma, shape, dtype, seed, alpha)


def beta(shape, alpha, beta, dtype=None, seed=None) -> Tensor:
    """Beta-distributed numbers; alpha, beta: numbers or tensors that broadcast to the shape; floatx by default."""
    return _drawn(kernels.beta, shape, dtype, seed, alpha, beta)


def binomial(shape, counts, probabilities, dtype=None, seed=None) -> Tensor:
    """Numbers of successes among `counts` trials, as floats; floatx by default.

    counts, probabilities: numbers or tensors that broadcast to the shape.
    """
    return _drawn(kernels.binomial, shape, dtype, seed, counts, probabilities)
