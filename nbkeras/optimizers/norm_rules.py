"""Optimizers whose step depends on the norm or the rows of a whole variable; ops compute the step for each variable.

Formulas, defaults and the order of the state follow Keras 3.15.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.optimizers.optimizer import Optimizer, OptimizerOptions, RuleOptions
from nbkeras.optimizers.rules import TwoMoments, register


def _patterns(name: str, what: str, value: Any) -> list[str]:
    found = [] if value is None else [value] if isinstance(value, str) else list(value)
    for each in found:
        try:
            re.compile(each)
        except (TypeError, re.error) as error:
            raise ValueError(f"{name}: {what} must be patterns of paths, received {briefly(each)} ({error})") from None
    return found


_Patterns = Annotated[Any, option.kind(_patterns, "patterns of paths, or None")]


def _root_mean_square(x):
    return ops.sqrt(ops.mean(ops.square(x)))


class _ByVariable(Optimizer):
    """Base of optimizers that define `update_step`."""

    def _time(self, like):
        """The number of this step, from 1, in the dtype of `like`."""
        return ops.cast(Tensor(self._step.reshape(())), like.dtype.name) + 1.0


@register
class Lamb(_ByVariable, TwoMoments):
    """Adam's step scaled by the norm of the weights: w -= rate * |w| / |u| * u, for large batches. Source: arXiv:1904.00962.

    u is Adam's step with both moments corrected, without the rate. The factor |w| / |u| is 1 if a norm is 0.

    Example:
        >>> optimizer, w = keras.optimizers.Lamb(learning_rate=0.1), keras.Variable([3.0, 4.0])  # of norm 5
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])  # a step of norm 0.1 * 5
        >>> w.numpy().round(3)
        array([2.646, 4.354], dtype=float32)
    """

    def update_step(self, gradient, variable, learning_rate):
        t, rate = self._time(variable), ops.cast(learning_rate, variable.dtype.name)
        m, v = self._slots[variable, "momentum"], self._slots[variable, "velocity"]
        m.assign_add((gradient - m) * (1 - self.beta_1))
        v.assign_add((ops.square(gradient) - v) * (1 - self.beta_2))
        mean, square = (x / (1.0 - ops.power(beta, t)) for x, beta in ((m, self.beta_1), (v, self.beta_2)))
        change = mean / (ops.sqrt(square) + self.epsilon)
        length, of_change = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, change))
        ratio = ops.where(ops.logical_and(length > 0, of_change > 0), length / of_change, 1.0)
        variable.assign_sub(ratio * rate * change)


@register
class Adafactor(_ByVariable):
    """RMSprop that stores only row and column means of a matrix's mean squares, to save memory.

    The rate is at most 1 / sqrt(t) times the root mean square of the weights, with t the number of the step.
    Source: arXiv:1804.04235.

    Args:
        beta_2_decay: The exponent of t: the mean squares keep 1 - t**beta_2_decay of their value.
        epsilon_1: A small number added to the squares.
        epsilon_2: The least root mean square of the weights in the rate.
        clip_threshold: The greatest root mean square of a step without the rate; larger steps are scaled down.
        relative_step: Accepted and ignored, as in Keras.

    Example:
        >>> optimizer, w = keras.optimizers.Adafactor(learning_rate=0.1), keras.Variable([[2.0, 2.0], [2.0, 2.0]])
        >>> optimizer.apply([np.array([[1.0, 1.0], [-1.0, -1.0]])], [w])  # steps of 0.1 * 2
        >>> w.numpy().round(3)
        array([[1.8, 1.8],
               [2.2, 2.2]], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: option.Number = -0.8,
        epsilon_1: option.Number = 1e-30,
        epsilon_2: option.Number = 1e-3,
        clip_threshold: option.Number = 1.0,
        relative_step: option.Flag = True,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._factors: dict[Variable, tuple[Variable, Variable, Variable]] = {}

    def _make_own_state(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            shapes: tuple = (variable.shape[:-1], (*variable.shape[:-2], *variable.shape[-1:]))
            dtype: Any = variable.dtype
            if variable.ndim < 2:  # Keras keeps two unused numbers instead
                shapes, dtype = ((), ()), "int"
            r, c = (self.add_variable(shape, dtype=dtype, name=variable.name) for shape in shapes)
            self._factors[variable] = r, c, self.add_variable_from_reference(variable, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        t, rate = self._time(variable), ops.cast(learning_rate, variable.dtype.name)
        r, c, v = self._factors[variable]
        rate = ops.minimum(rate, 1.0 / ops.sqrt(t)) * ops.maximum(_root_mean_square(variable), self.epsilon_2)
        square, keep = ops.square(gradient) + self.epsilon_1, 1.0 - ops.power(t, self.beta_2_decay)
        if variable.ndim >= 2:
            r.assign(keep * r + (1.0 - keep) * ops.mean(square, axis=-1))
            c.assign(keep * c + (1.0 - keep) * ops.mean(square, axis=-2))
            v.assign(ops.expand_dims(r / ops.mean(r, axis=-1, keepdims=True), -1) * ops.expand_dims(c, -2))
        else:
            v.assign(keep * v + (1.0 - keep) * square)
        change = gradient / ops.sqrt(v)
        change = change / ops.maximum(_root_mean_square(change) / self.clip_threshold, 1.0)
        variable.assign_sub(rate * change)


@register
class Muon(_ByVariable):
    """Momentum with Newton-Schulz steps that make matrices nearly orthogonal; AdamW for variables that are not matrices.

    Source: kellerjordan.github.io/posts/muon.

    Args:
        adam_beta_1: The decay of AdamW's first moment.
        adam_beta_2: The decay of AdamW's second moment.
        adam_weight_decay: The weight decay of AdamW, instead of weight_decay; None for none.
        epsilon: A small number added to AdamW's divisor.
        exclude_layers: Regular expressions for paths of variables that AdamW updates.
        exclude_embeddings: Whether AdamW updates variables with 'embedding' in their path.
        muon_a: The factor a in a Newton-Schulz step x = a x + (b s + c s^2) x, with s = x x^T.
        muon_b: The factor b in it.
        muon_c: The factor c in it.
        adam_lr_ratio: The factor of the learning rate in AdamW.
        momentum: The fraction of the old momentum that each step keeps.
        ns_steps: The number of Newton-Schulz steps.
        nesterov: Whether to add the gradient to the momentum a second time before a step.
        rms_rate: A matrix's step is scaled by rms_rate * sqrt(its larger side) (arXiv:2502.16982); None for no
            scaling.

    Example:
        >>> optimizer = keras.optimizers.Muon(learning_rate=0.1, weight_decay=0.0, rms_rate=None, ns_steps=10)
        >>> w = keras.Variable(np.zeros((2, 2), "float32"))
        >>> optimizer.apply([np.array([[8.0, 0.0], [0.0, 2.0]])], [w])
        >>> w.numpy().round(1)  # both singular values of the step are near 0.1
        array([[-0.1,  0. ],
               [ 0. , -0.1]], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: option.Rate = 0.9,
        adam_beta_2: option.Rate = 0.999,
        adam_weight_decay: option.MaybeNumber = 0.004,
        epsilon: option.Number = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: _Patterns = None,
        exclude_embeddings: option.Flag = True,
        muon_a: option.Number = 3.4445,
        muon_b: option.Number = -4.7750,
        muon_c: option.Number = 2.0315,
        adam_lr_ratio: option.Number = 1,
        momentum: option.Number = 0.95,
        ns_steps: option.Integer = 5,
        nesterov: option.Flag = True,
        rms_rate: option.MaybeNumber = 0.2,
        **kwargs: Unpack[RuleOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._moments: dict[Variable, tuple[Variable, ...]] = {}

    def _takes_adam(self, variable: Variable) -> bool:
        path = variable.path
        embedding = self.exclude_embeddings and "embedding" in path.lower()
        return variable.ndim != 2 or embedding or any(re.search(pattern, path) for pattern in self.exclude_layers)

    def decay_of(self, variable: Variable) -> float:
        """A variable's weight decay; adam_weight_decay if AdamW updates it.

        Args:
            variable: A trainable variable.
        """
        decay = super().decay_of(variable)
        return float(self.adam_weight_decay or 0.0) if decay and self._takes_adam(variable) else decay

    def _make_own_state(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            names = ("momentum", "velocity") if self._takes_adam(variable) else ("momentum",)
            self._moments[variable] = tuple(self.add_variable_from_reference(variable, name) for name in names)

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype.name)
        m, *velocity = self._moments[variable]
        if velocity:
            return self._step_of_adam(gradient, variable, rate * self.adam_lr_ratio, m, velocity[0])
        m.assign_add(gradient + m * (self.momentum - 1))
        change = rate * self._orthogonalized(gradient + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else max(variable.shape) ** 0.5 * self.rms_rate
        variable.assign_sub(change * scale)

    def _step_of_adam(self, gradient, variable, rate, m, v):
        t = self._time(variable)
        alpha = rate * ops.sqrt(1.0 - ops.power(self.adam_beta_2, t)) / (1.0 - ops.power(self.adam_beta_1, t))
        m.assign_add((gradient - m) * (1 - self.adam_beta_1))
        v.assign_add((ops.square(gradient) - v) * (1 - self.adam_beta_2))
        variable.assign_sub(m * alpha / (ops.sqrt(v) + self.epsilon))

    def _orthogonalized(self, x):
        """The matrix with its singular values moved towards 1."""
        upright = x.shape[0] > x.shape[1]
        x = ops.transpose(x) if upright else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
        for _ in range(self.ns_steps):
            squared = ops.matmul(x, ops.transpose(x))
            mixed = self.muon_b * squared + self.muon_c * ops.matmul(squared, squared)
            x = self.muon_a * x + ops.matmul(mixed, x)
        return ops.transpose(x) if upright else x
