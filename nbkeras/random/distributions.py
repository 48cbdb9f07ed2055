"""Less common distributions of nbkeras.random, which imports them at first use."""

from nbkeras.engine.tensor import Tensor
from nbkeras.ops import distributions as ops
from nbkeras.random import key_of


def gamma(shape, alpha, dtype=None, seed=None) -> Tensor:
    """Gamma-distributed numbers of scale 1; alpha: a number or a tensor that broadcasts to the shape; floatx by default."""
    return ops.gamma(key_of(seed), shape, alpha, dtype)


def beta(shape, alpha, beta, dtype=None, seed=None) -> Tensor:
    """Beta-distributed numbers; alpha, beta: numbers or tensors that broadcast to the shape; floatx by default."""
    return ops.beta(key_of(seed), shape, alpha, beta, dtype)


def binomial(shape, counts, probabilities, dtype=None, seed=None) -> Tensor:
    """Numbers of successes among `counts` trials, as floats; floatx by default.

    counts, probabilities: numbers or tensors that broadcast to the shape.
    """
    return ops.binomial(key_of(seed), shape, counts, probabilities, dtype)
