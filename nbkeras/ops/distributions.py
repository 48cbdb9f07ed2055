"""Random tensors of less common distributions, as pure functions of a key: see random.py. They are not differentiable."""

from typing import Any

from nbkeras.engine.tensor import Tensor, apply, as_tensor
from nbkeras.kernels import distributions
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops.random import float_form
from nbkeras.ops.shape import broadcast_to


def _parameters(name: str, shape: Any, dtype: Any, *values: Any) -> list[Tensor]:
    """A distribution's parameters, numbers or tensors, broadcast to a shape."""
    arguments = float_form(name, shape, dtype)
    tensors = [as_tensor(value, arguments["dtype"]) for value in values]
    for tensor in tensors:
        if broadcast_shape(arguments["shape"], tensor.shape) != arguments["shape"]:
            raise ValueError(
                f"{name}: a parameter of shape {tensor.shape} does not broadcast to shape {arguments['shape']}"
            )
    return [broadcast_to(tensor, arguments["shape"]) for tensor in tensors]


def gamma(key: Tensor, shape, alpha, dtype=None) -> Tensor:
    """Gamma-distributed numbers of scale 1; alpha: a number or a tensor that broadcasts to the shape."""
    return apply(distributions.gamma, None, [key, *_parameters("gamma", shape, dtype, alpha)])


def beta(key: Tensor, shape, alpha, beta, dtype=None) -> Tensor:
    """Beta-distributed numbers; alpha, beta: numbers or tensors that broadcast to the shape."""
    return apply(distributions.beta, None, [key, *_parameters("beta", shape, dtype, alpha, beta)])


def binomial(key: Tensor, shape, counts, probabilities, dtype=None) -> Tensor:
    """Numbers of successes among `counts` trials, as floats.

    counts, probabilities: numbers or tensors that broadcast to the shape.
    """
    return apply(distributions.binomial, None, [key, *_parameters("binomial", shape, dtype, counts, probabilities)])
