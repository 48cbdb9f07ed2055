"""The optimizers by name. Formulas, defaults and the order of their state are those of Keras 3.15."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.registry import Registry
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import optimizers as kernels
from nbkeras.kernels import row_updates
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.runtime import device
from nbkeras.optimizers.buffers import Run
from nbkeras.optimizers.optimizer import Optimizer


class _Optimizers(Registry):
    """Optimizers by name, in any case."""

    def find(self, name: str, registered: Any = None, module: Any = None) -> Any:
        known, lower = self.names(), name.lower()
        return super().find(lower if name not in known and lower in known else name, registered, module)

    def get(self, identifier: Any, **kwargs) -> Optimizer | None:
        found = super().get(identifier, **kwargs)
        if not isinstance(found, Optimizer | None):
            raise TypeError(f"optimizer must be a name, a configuration or an Optimizer, received {identifier!r}")
        return found

    def deserialize(self, config: Any, custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
        made = super().deserialize(config, custom_objects)
        if isinstance(config, dict) and self.has(type(made)):
            config["class_name"] = config["class_name"].lower()  # Keras does that to what it is given
        return made


registry = _Optimizers("optimizer", spelling=str.lower)
register = registry.register


def _epsilon(value: float | None) -> float:
    """Keras 2 lets epsilon=None mean the backend's."""
    return config.epsilon() if value is None else float(value)


@register
class SGD(Optimizer):
    """w -= rate * g; with momentum m = momentum * m - rate * g: w += m, or (nesterov) w += momentum * m - rate * g."""

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.check_fraction(momentum=momentum)
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.slots = (("momentum",),) if momentum else ()

    def step(self, run: Run) -> None:
        w, g = run.weights, run.gradients
        if self.momentum:
            m, how = self.slot(run, "momentum"), (self.momentum, self.nesterov)
            kernels.launch(kernels.sgd_momentum, w, g, m, self._rate, run.decay, *how)
        else:
            kernels.launch(kernels.sgd, w, g, self._rate, run.decay)

    def rows_suffice(self, variable: Variable) -> bool:
        return not self.momentum

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        row_updates.sgd(gradient, variable.data, self._rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


@register
class RMSprop(Optimizer):
    """v = rho * v + (1 - rho) * g**2; w -= rate * g / sqrt(v + epsilon).

    centered: the square of the mean gradient is taken from v in the root. momentum: times the last change is added.
    Source: Tieleman & Hinton, Coursera lecture 6.5 (2012).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float | None = 1e-7,
        centered: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        self.check_fraction(rho=rho, momentum=momentum)
        self.rho = float(rho)
        self.momentum = float(momentum)
        self.epsilon = _epsilon(epsilon)
        self.centered = bool(centered)
        optional = [("momentum",)] * (self.momentum > 0) + [("average_gradient",)] * self.centered
        self.slots = (("velocity",), *optional)

    def step(self, run: Run) -> None:
        w, g, v = run.weights, run.gradients, self.slot(run, "velocity")
        if self.momentum or self.centered:
            m, mean = self.slot(run, "momentum"), self.slot(run, "average_gradient")
            how = (self.rho, self.epsilon, self.momentum, self.centered)
            kernels.launch(kernels.rmsprop_general, w, g, v, m, mean, self._rate, run.decay, *how)
        else:
            kernels.launch(kernels.rmsprop, w, g, v, self._rate, run.decay, self.rho, self.epsilon)

    def rows_suffice(self, variable: Variable) -> bool:
        plain = not self.momentum and not self.centered and variable.dtype.type(self.epsilon) > 0
        return bool(plain) and self._slots[variable, "velocity"].fading in (None, self.rho)

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        v = self._slots[variable, "velocity"]
        v.let_lag(self.rho)
        row_updates.rmsprop(gradient, variable.data, v.rows, v.seen, v.clock, self._rate, self.rho, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return {**super().get_config(), **own}


@register
class Adagrad(Optimizer):
    """a += g**2; w -= rate * g / sqrt(a + epsilon); a starts at initial_accumulator_value. See Duchi et al., 2011."""

    slots = (("accumulator",),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float | None = 1e-7,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        if initial_accumulator_value < 0:
            raise ValueError(f"Adagrad: initial_accumulator_value must be >= 0, received {initial_accumulator_value}")
        self.initial_accumulator_value = float(initial_accumulator_value)
        self.slot_values = {"accumulator": self.initial_accumulator_value}
        self.epsilon = _epsilon(epsilon)

    def step(self, run: Run) -> None:
        w, g, accumulator = run.weights, run.gradients, self.slot(run, "accumulator")
        kernels.launch(kernels.adagrad, w, g, accumulator, self._rate, run.decay, self.epsilon)

    def rows_suffice(self, variable: Variable) -> bool:
        return bool(variable.dtype.type(self.epsilon) > 0)

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        accumulator = self._slots[variable, "accumulator"]
        row_updates.adagrad(gradient, variable.data, accumulator.rows, self._rate, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


@register
class Adadelta(Optimizer):
    """a = rho * a + (1 - rho) * g**2; c = g * sqrt(d + epsilon) / sqrt(a + epsilon); d = rho * d + (1 - rho) * c**2;
    w -= rate * c. Source: Zeiler, arXiv:1212.5701.
    """

    slots = (("accumulated_grad", "accumulated_delta_var"),)

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float | None = 1e-7, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.check_fraction(rho=rho)
        self.rho = float(rho)
        self.epsilon = _epsilon(epsilon)

    def step(self, run: Run) -> None:
        state = (self.slot(run, "accumulated_grad"), self.slot(run, "accumulated_delta_var"))
        how = (self.rho, self.epsilon)
        kernels.launch(kernels.adadelta, run.weights, run.gradients, *state, self._rate, run.decay, *how)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


class _TwoMoments(Optimizer):
    """What Adam and its kin share: decay rates of a first and a second moment."""

    slots: Sequence[Sequence[str]] = (("momentum", "velocity"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-7,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        self.check_fraction(beta_1=beta_1, beta_2=beta_2)
        self.beta_1 = float(beta_1)
        self.beta_2 = float(beta_2)
        self.epsilon = _epsilon(epsilon)

    def _constants(self, run: Run) -> tuple:
        return self._rate, self._step, run.decay, self.beta_1, self.beta_2, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@register
class Adam(_TwoMoments):
    """m += (1 - beta_1) * (g - m); v += (1 - beta_2) * (g**2 - v);
    w -= rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon).

    amsgrad: the largest v so far in place of v. Sources: arXiv:1412.6980, arXiv:1904.09237.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self.amsgrad = bool(amsgrad)
        self.slots = (("momentum", "velocity"), ("velocity_hat",)) if amsgrad else (("momentum", "velocity"),)

    def step(self, run: Run) -> None:
        m, v = self.slot(run, "momentum"), self.slot(run, "velocity")
        if self.amsgrad:
            peak = self.slot(run, "velocity_hat")
            kernels.launch(kernels.amsgrad, run.weights, run.gradients, m, v, peak, *self._constants(run))
        else:
            kernels.launch(kernels.adam, run.weights, run.gradients, m, v, *self._constants(run))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amsgrad": self.amsgrad}


@register
class AdamW(Adam):
    """Adam with decoupled weight decay. Source: arXiv:1711.05101."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs)
        if self.weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, received None")


@register
class Adamax(_TwoMoments):
    """m as in Adam; u = max(beta_2 * u, |g|); w -= rate * m / ((1 - beta_1**t) * (u + epsilon)), arXiv:1412.6980."""

    slots = (("momentum", "norm"),)

    def step(self, run: Run) -> None:
        m, u = self.slot(run, "momentum"), self.slot(run, "norm")
        kernels.launch(kernels.adamax, run.weights, run.gradients, m, u, *self._constants(run))


@register
class Nadam(_TwoMoments):
    """Adam with Nesterov momentum, whose schedule is u_t = beta_1 * (1 - 0.96**t / 2). Source: Dozat, ICLR 2016."""

    _product: Variable | None = None  # of all u up to now

    def build(self, variables: Sequence[Variable]) -> None:
        super().build(variables)
        if self._product is None:
            dtype = variables[0].dtype if variables else np.dtype(config.floatx())
            self._product = Variable(1, dtype=dtype, name="u_product", trainable=False)

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *([] if self._product is None else [self._product])]

    def before_runs(self) -> None:
        device.launch(kernels.nadam_product, self._flat_product, self._step, self.beta_1)

    @property
    def _flat_product(self) -> np.ndarray:
        return self._product.data.reshape(1)  # type: ignore[union-attr]

    def step(self, run: Run) -> None:
        m, v = self.slot(run, "momentum"), self.slot(run, "velocity")
        kernels.launch(kernels.nadam, run.weights, run.gradients, m, v, self._flat_product, *self._constants(run))


@register
class Lion(Optimizer):
    """w -= rate * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g. Source: arXiv:2302.06675."""

    slots = (("momentum",),)

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.check_fraction(beta_1=beta_1, beta_2=beta_2)
        if not beta_1:
            raise ValueError("Lion: beta_1 must be above 0, for with 0 it is nothing but the gradient's sign")
        self.beta_1 = float(beta_1)
        self.beta_2 = float(beta_2)

    def step(self, run: Run) -> None:
        m, how = self.slot(run, "momentum"), (self.beta_1, self.beta_2)
        kernels.launch(kernels.lion, run.weights, run.gradients, m, self._rate, run.decay, *how)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}


@register
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al., 2013), with p = -learning_rate_power, h = 2 * l2_shrinkage:
    n = a + g**2; z += g + h * w - (n**p - a**p) / rate * w; a = n;
    w = (clip(z, -l1, l1) - z) / (n**p / rate + 2 * l2 + beta / rate); a starts at initial_accumulator_value.
    """

    slots = (("accumulator", "linear"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        self._constants = {
            "learning_rate_power": learning_rate_power,
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
            "beta": beta,
        }
        for name, value in self._constants.items():
            if (value > 0) if name == "learning_rate_power" else (value < 0):
                wanted = "<= 0" if name == "learning_rate_power" else ">= 0"
                raise ValueError(f"Ftrl: {name} must be {wanted}, received {value!r}")
            setattr(self, name, float(value))
        self.slot_values = {"accumulator": float(initial_accumulator_value)}

    def step(self, run: Run) -> None:
        power, _, *others = (float(value) for value in self._constants.values())
        state = self.slot(run, "accumulator"), self.slot(run, "linear")
        kernels.launch(kernels.ftrl, run.weights, run.gradients, *state, self._rate, run.decay, power, *others)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._constants}


@register
class ScheduleFreeAdamW(_TwoMoments):
    """v as in Adam; z -= rate * g / (sqrt(v / (1 - beta_2**t)) + epsilon), from z = w; x is the mean of all z;
    w = (1 - beta_1) * z + beta_1 * x. warmup_steps: the rate rises to its value in so many. Source: arXiv:2405.15682.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-8,
        warmup_steps: int = 0,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        if not beta_1:
            raise ValueError(
                "ScheduleFreeAdamW: beta_1 must be above 0, for the mean is worked out from the weights by it"
            )
        self.warmup_steps = warmup_steps

    def build(self, variables: Sequence[Variable]) -> None:
        first = not self.built
        super().build(variables)
        if first:
            for variable in variables:
                self._slots[variable, "momentum"].assign(variable)

    def step(self, run: Run) -> None:
        z, v = self.slot(run, "momentum"), self.slot(run, "velocity")
        kernel, how = kernels.schedule_free_adam, self._constants(run)
        kernels.launch(kernel, run.weights, run.gradients, z, v, *how, float(self.warmup_steps))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "warmup_steps": self.warmup_steps}
