"""The optimizers by name. Formulas, defaults and the order of the state follow Keras 3.15."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Unpack, overload

import numpy as np

from nbkeras import config
from nbkeras.engine import copy_on_write, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registry
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import optimizers, row_updates
from nbkeras.kernels.embedding import RowGradient
from nbkeras.optimizers.buffers import Run
from nbkeras.optimizers.optimizer import Optimizer, OptimizerOptions, RuleOptions


class _Optimizers(Registry):
    """Optimizers by name, in any case."""

    def find(self, name: str, registered: Any = None, module: Any = None) -> Any:
        known, lower = self.names(), name.lower()
        return super().find(lower if name not in known and lower in known else name, registered, module)

    @overload
    def get(self, identifier: None) -> None: ...
    @overload
    def get(self, identifier: str | Mapping[str, Any] | type[Optimizer] | Optimizer, **kwargs) -> Optimizer: ...
    def get(self, identifier: Any, **kwargs) -> Optimizer | None:
        found = super().get(identifier, **kwargs)
        if not isinstance(found, Optimizer | None):
            raise TypeError(
                f"optimizer must be a name, a configuration or an Optimizer, received {briefly(identifier)}"
            )
        return found

    def deserialize(self, config: Any, custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
        made = super().deserialize(config, custom_objects)
        if isinstance(config, dict) and self.has(type(made)):
            config["class_name"] = config["class_name"].lower()  # as Keras does
        return made


registry = _Optimizers("optimizer", spelling=str.lower)
register = registry.register


def _epsilon(item: Any, what: str, value: Any) -> float:
    return config.epsilon() if value is None else float(value)  # None as in Keras 2


Epsilon = Annotated[Any, option.Kind(_epsilon, "a number, or None for the backend's epsilon")]
AtMost0 = Annotated[Any, option.bounded("a number, 0 or less", lambda value: value <= 0, "<= 0")]


@register
class SGD(Optimizer):
    """Gradient descent: w -= rate * g, or with momentum m = momentum * m - rate * g; w += m.

    With nesterov: w += momentum * m - rate * g, with the new m (Sutskever et al., 2013).

    Args:
        momentum: The fraction of the last change that a step keeps; 0 for none.
        nesterov: Whether to use Nesterov momentum.

    Example:
        >>> optimizer, w = keras.optimizers.SGD(learning_rate=0.5, momentum=0.5), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, 2.0])], [w])
        >>> w.numpy()
        array([0.5, 1. ], dtype=float32)
        >>> optimizer.apply([np.array([0.0, 0.0])], [w])  # momentum moves on
        >>> w.numpy()
        array([0.25, 0.5 ], dtype=float32)
    """

    formula = optimizers.sgd

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: option.Rate = 0.0,
        nesterov: option.Flag = False,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if self.momentum:
            self.formula, self.slots = optimizers.sgd_momentum, (("momentum",),)

    def rows_suffice(self, variable: Variable) -> bool:
        return not self.momentum

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        row_updates.sgd(gradient, variable.data, self._rate)


@register
class RMSprop(Optimizer):
    """Steps divided by a running root mean square: v = rho * v + (1 - rho) * g**2; w -= rate * g / sqrt(v + epsilon).

    Source: Tieleman & Hinton, Coursera lecture 6.5 (2012).

    Args:
        rho: The fraction of v that each step keeps.
        momentum: The fraction of the last change that is added; 0 for none.
        epsilon: A small number inside the root, against a division by zero.
        centered: Whether the square of the mean gradient is subtracted from v in the root.

    Example:
        >>> optimizer, w = keras.optimizers.RMSprop(learning_rate=0.1, rho=0.75), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])  # the first step is 2 * rate for each element
        >>> w.numpy().round(3)
        array([0.8, 2.2], dtype=float32)
    """

    formula = optimizers.rmsprop

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: option.Rate = 0.9,
        momentum: option.Rate = 0.0,
        epsilon: Epsilon = 1e-7,
        centered: option.Flag = False,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.formula = optimizers.RMSPROP[self.momentum > 0, self.centered]
        optional = [("momentum",)] * (self.momentum > 0) + [("average_gradient",)] * self.centered
        self.slots = (("velocity",), *optional)

    def rows_suffice(self, variable: Variable) -> bool:
        plain = not self.momentum and not self.centered and variable.dtype.type(self.epsilon) > 0
        return bool(plain) and self._slots[variable, "velocity"].fading in (None, self.rho)

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        v = self._slots[variable, "velocity"]
        v.let_lag(self.rho)
        row_updates.rmsprop(gradient, variable.data, v.rows, v.seen, v.clock, self._rate, self.rho, self.epsilon)


@register
class Adagrad(Optimizer):
    """Steps divided by the root of all squares: a += g**2; w -= rate * g / sqrt(a + epsilon).

    Source: Duchi et al., 2011.

    Args:
        initial_accumulator_value: The initial value of a.
        epsilon: A small number inside the root, against a division by zero.

    Example:
        >>> optimizer = keras.optimizers.Adagrad(learning_rate=0.5, initial_accumulator_value=0.0)
        >>> w = keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])
        >>> w.numpy().round(3)
        array([0.5, 2.5], dtype=float32)
    """

    formula = optimizers.adagrad

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: option.AtLeast0 = 0.1,
        epsilon: Epsilon = 1e-7,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.initial_accumulator_value: float = float(initial_accumulator_value)
        self.slot_values = {"accumulator": self.initial_accumulator_value}

    def rows_suffice(self, variable: Variable) -> bool:
        return bool(variable.dtype.type(self.epsilon) > 0)

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        accumulator = self._slots[variable, "accumulator"]
        row_updates.adagrad(gradient, variable.data, accumulator.rows, self._rate, self.epsilon)


@register
class Adadelta(Optimizer):
    """Steps scaled by their own running size.

    a = rho * a + (1 - rho) * g**2; c = g * sqrt(d + epsilon) / sqrt(a + epsilon); d = rho * d + (1 - rho) * c**2;
    w -= rate * c. Source: Zeiler, arXiv:1212.5701, where the rate is 1.

    Args:
        rho: The fraction of a and d that each step keeps.
        epsilon: A small number inside the roots; it sets the size of the first steps.

    Example:
        >>> optimizer, w = keras.optimizers.Adadelta(learning_rate=1.0, rho=0.75, epsilon=0.01), keras.Variable([1.0])
        >>> optimizer.apply([np.array([2.0])], [w])
        >>> w.numpy().round(3)  # 1 - 2 * sqrt(0.01) / sqrt(1.01)
        array([0.801], dtype=float32)
    """

    formula = optimizers.adadelta
    slots = (("accumulated_grad", "accumulated_delta_var"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: option.Rate = 0.95,
        epsilon: Epsilon = 1e-7,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))


class TwoMoments(Optimizer):
    """Base class of Adam and its variants: decay rates of a first and a second moment.

    Args:
        beta_1: The fraction of the first moment, the mean gradient, that each step keeps.
        beta_2: The fraction of the second moment, the mean square, that each step keeps.
        epsilon: A small number added to the divisor.
    """

    slots: Sequence[Sequence[str]] = (("momentum", "velocity"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: option.Rate = 0.9,
        beta_2: option.Rate = 0.999,
        epsilon: Epsilon = 1e-7,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))


@register
class Adam(TwoMoments):
    """Steps by two running moments, the mean gradient m and the mean square v.

    m += (1 - beta_1) * (g - m); v += (1 - beta_2) * (g**2 - v);
    w -= rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon), with t the number of the step, from 1.
    Sources: arXiv:1412.6980, arXiv:1904.09237 (amsgrad).

    Args:
        amsgrad: Whether to divide by the largest v so far instead of v.

    Example:
        >>> optimizer, w = keras.optimizers.Adam(learning_rate=0.1), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])  # the first step is the rate for each element
        >>> w.numpy().round(3)
        array([0.9, 2.1], dtype=float32)
    """

    formula = optimizers.adam

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: option.Flag = False,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if self.amsgrad:
            self.formula, self.slots = optimizers.amsgrad, (*self.slots, ("velocity_hat",))


@register
class AdamW(Adam):
    """Adam with weight decay that does not enter the moments. Source: arXiv:1711.05101.

    Raises:
        ValueError: for weight_decay=None.

    Example:
        >>> optimizer, w = keras.optimizers.AdamW(learning_rate=0.1, weight_decay=0.5), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])  # w * (1 - 0.5 * 0.1), then Adam's step
        >>> w.numpy().round(3)
        array([0.85, 2.  ], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: bool = False,
        **kwargs: Unpack[RuleOptions],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs)
        if self.weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, received None")


@register
class Adamax(TwoMoments):
    """Adam with the largest gradient: u = max(beta_2 * u, |g|); w -= rate * m / ((1 - beta_1**t) * (u + epsilon)).

    m is as in Adam, t the number of the step, from 1. Source: arXiv:1412.6980, section 7.

    Example:
        >>> optimizer, w = keras.optimizers.Adamax(learning_rate=0.1), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])
        >>> w.numpy().round(3)
        array([0.9, 2.1], dtype=float32)
    """

    formula = optimizers.adamax
    slots = (("momentum", "norm"),)


@register
class Nadam(TwoMoments):
    """Adam with Nesterov momentum u_t = beta_1 * (1 - 0.96**t / 2). Source: Dozat, ICLR 2016.

    Example:
        >>> optimizer, w = keras.optimizers.Nadam(learning_rate=0.1), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])
        >>> w.numpy().round(3)
        array([0.894, 2.106], dtype=float32)
    """

    formula = optimizers.nadam
    _product: Variable | None = None  # the product of all momenta so far

    def _make_own_state(self, variables: Sequence[Variable]) -> None:
        if self._product is None:
            dtype = variables[0].dtype if variables else np.dtype(config.floatx())
            self._product = Variable(1, dtype=dtype, name="u_product", trainable=False)

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *([] if self._product is None else [self._product])]

    def before_runs(self) -> None:
        copy_on_write.will_write(self._flat_product)
        optimizers.launch(optimizers.nadam_product, self._flat_product, self._step, self.beta_1)

    @property
    def _flat_product(self) -> np.ndarray:
        return self._product.data.reshape(1)  # type: ignore[union-attr]

    def _argument(self, name: str, run: Run) -> Any:
        return self._flat_product if name == "product" else super()._argument(name, run)


@register
class Lion(Optimizer):
    """Steps of one size: w -= rate * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g.

    Each element changes by the rate, so the rate is usually a third to a tenth of Adam's. Source: arXiv:2302.06675.

    Args:
        beta_1: The weight of m, relative to the gradient, in the sign.
        beta_2: The fraction of m that each step keeps.

    Raises:
        ValueError: for beta_1=0.

    Example:
        >>> optimizer, w = keras.optimizers.Lion(learning_rate=0.1), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])
        >>> w.numpy().round(3)
        array([0.9, 2.1], dtype=float32)
    """

    formula = optimizers.lion

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: option.Rate = 0.9,
        beta_2: option.Rate = 0.99,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if not self.beta_1:
            raise ValueError("Lion: beta_1 must be above 0: with 0 a step is only the gradient's sign")


@register
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al., 2013), for sparse linear models.

    With p = -learning_rate_power, h = 2 * l2_shrinkage_regularization_strength, l1 and l2 the strengths:
    n = a + g**2; z += g + h * w - (n**p - a**p) / rate * w; a = n;
    w = (clip(z, -l1, l1) - z) / (n**p / rate + 2 * l2 + beta / rate).

    Args:
        learning_rate_power: The exponent p of the formula, negated: 0 or less; 0 for a fixed rate.
        initial_accumulator_value: The initial value of a, the sum of the squares.
        l1_regularization_strength: l1; it makes weights 0.
        l2_regularization_strength: l2; it makes weights small.
        l2_shrinkage_regularization_strength: An L2 penalty, added only to the gradient.
        beta: A number that makes the first steps smaller.

    Example:
        >>> strengths = {"initial_accumulator_value": 0.0, "l1_regularization_strength": 2.0}
        >>> optimizer, w = keras.optimizers.Ftrl(learning_rate=1.0, **strengths), keras.Variable([0.0, 0.0])
        >>> optimizer.apply([np.array([1.0, -4.0])], [w])
        >>> w.numpy()  # an element whose gradient stays within l1 stays 0
        array([0. , 0.5], dtype=float32)
    """

    formula = optimizers.ftrl

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: AtMost0 = -0.5,
        initial_accumulator_value: option.AtLeast0 = 0.1,
        l1_regularization_strength: option.AtLeast0 = 0.0,
        l2_regularization_strength: option.AtLeast0 = 0.0,
        l2_shrinkage_regularization_strength: option.AtLeast0 = 0.0,
        beta: option.AtLeast0 = 0.0,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.slot_values = {"accumulator": float(self.initial_accumulator_value)}

    def before_runs(self) -> None:
        self.formula = optimizers.ftrl if self.learning_rate_power == -0.5 else optimizers.ftrl_power

    def _argument(self, name: str, run: Run) -> Any:
        strength = f"{name}_regularization_strength"
        return super()._argument(strength if hasattr(self, strength) else name, run)


@register
class ScheduleFreeAdamW(TwoMoments):
    """Adam without a schedule. Adam moves z; x is the mean of all z; gradients are computed at w, between z and x.

    z -= rate * g / (sqrt(v / (1 - beta_2**t)) + epsilon); w = (1 - beta_1) * z + beta_1 * x, with v as in Adam, and z
    starting at w. Source: arXiv:2405.15682.

    Args:
        beta_1: The weight of x in w.
        warmup_steps (int): The number of first steps, in which the rate rises to its value.

    Raises:
        ValueError: for beta_1=0.

    Example:
        >>> optimizer, w = keras.optimizers.ScheduleFreeAdamW(learning_rate=0.1), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([1.0, -50.0])], [w])
        >>> w.numpy().round(3)
        array([0.9, 2.1], dtype=float32)
    """

    formula = optimizers.schedule_free_adam

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-8,
        warmup_steps: option.AtLeast0 = 0,
        **kwargs: Unpack[OptimizerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if not self.beta_1:
            raise ValueError(
                "ScheduleFreeAdamW: beta_1 must be above 0: the mean is computed from the weights by dividing by it"
            )

    def _make_own_state(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            self._slots[variable, "momentum"].assign(variable)
