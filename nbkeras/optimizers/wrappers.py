"""Optimizers around other optimizers: one scales the loss, one uses different optimizers for different variables."""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine import copy_on_write, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels import gradients
from nbkeras.kernels.runtime import device
from nbkeras.optimizers.guard import square_sums
from nbkeras.optimizers.optimizer import Optimizer
from nbkeras.optimizers.rules import register, registry


@register
class LossScaleOptimizer(Optimizer):
    """A wrapper of an optimizer that scales the loss, so that gradients do not vanish.

    After a gradient that is not finite it halves the scale and skips the step. After dynamic_growth_steps finite steps it
    doubles the scale. Pass other arguments of optimizers to the inner optimizer.

    Args:
        inner_optimizer: The optimizer that makes the steps; its loss_scale_factor is set to None.
        initial_scale: The initial scale.
        dynamic_growth_steps: The number of consecutive finite steps after which the scale is doubled.
        dynamic: Must be True; False raises ValueError.

    Raises:
        TypeError: if inner_optimizer is not an Optimizer, and for an argument of the inner optimizer.
        ValueError: for dynamic=False.

    Example:
        >>> optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)
        >>> w = keras.Variable([1.0, 2.0])
        >>> int(optimizer.minimize(lambda: ops.sum(w * w), [w]))
        1
        >>> w.numpy()
        array([0., 0.], dtype=float32)
        >>> optimizer.apply([np.array([np.inf, 0.0])], [w])  # left out
        >>> w.numpy(), float(optimizer.dynamic_scale)
        (array([0., 0.], dtype=float32), 2.0)
    """

    _left_out = tuple(name for name in option.parameters(Optimizer.__init__) if name != "name")

    def __init__(
        self,
        inner_optimizer: option.Anything,
        initial_scale: option.Number = 2.0**15,
        dynamic_growth_steps: option.Size = 2000,
        name: str | None = None,
        dynamic: bool = True,
        **of_inner: Any,
    ):
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(
                f"LossScaleOptimizer wraps an optimizer such as Adam(), received {briefly(inner_optimizer)}"
            )
        if not option.flag_of("LossScaleOptimizer", "dynamic", dynamic):
            raise ValueError(
                "LossScaleOptimizer finds the scale itself, received dynamic=False: for a fixed scale pass "
                "loss_scale_factor to the inner_optimizer"
            )
        for key, value in of_inner.items():
            in_old_files = value is None or value is False or (key, value) == ("ema_momentum", 0.99)
            if not in_old_files:
                raise TypeError(f"LossScaleOptimizer does not take {key}: give it to the inner_optimizer")
        super().__init__(0.0, name=name)
        option.keep(self, locals())
        inner_optimizer.loss_scale_factor = None

    def build(self, variables: Sequence[Variable]) -> None:
        self.inner_optimizer.build(variables)
        if not self.built:
            self.step_counter = self.add_variable((), dtype="int", name="step_counter")
            self.dynamic_scale = self.add_variable((), dtype="float32", name="dynamic_scale")
            self.dynamic_scale.assign(self.initial_scale)
            self._finite = device.persistent(np.ones(1, np.int64))
            self._positions = {variable: i for i, variable in enumerate(variables)}
            self.built = True

    def _choose(self, variables: Sequence[Variable]) -> None:
        self.inner_optimizer._choose(variables)

    @property
    def iterations(self) -> Tensor:
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.inner_optimizer.trainable_variables

    @property
    def gradient_views(self) -> list[np.ndarray]:
        return self.inner_optimizer.gradient_views

    @property
    def parts(self) -> list[Optimizer]:
        return [self.inner_optimizer]

    @property
    def takes_rows(self) -> list[bool]:
        return [False] * len(self.trainable_variables)

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *self.inner_optimizer.variables]

    def scale_loss(self, loss: Tensor) -> Tensor:
        scale = Tensor(self.dynamic_scale.data) if self.built else float(self.initial_scale)
        return ops.multiply(loss, scale)

    def _deliveries(self) -> Callable[[Variable], None] | None:
        return self.inner_optimizer._deliveries()

    def _reduce(self) -> None:
        self.inner_optimizer._reduce()

    def _that_must_be_finite(self) -> list[np.ndarray]:
        return []  # a gradient that is not finite reduces the scale, and training continues

    def update(self, gradients_: Sequence[Any] = ()) -> None:
        inner = self.inner_optimizer
        inner._reduce()  # first, because all ranks must decide the same
        scale, count = self.dynamic_scale.data.reshape(1), self.step_counter.data.reshape(1)
        copy_on_write.will_write(scale, count)
        sums = square_sums([view.reshape(-1) for view in inner.gradient_views])
        device.launch(gradients.all_finite, sums, self._finite)
        with device.only_if(self._finite):
            inner.unscale(scale)
            inner.update()
        device.launch(gradients.adjust_scale, self._finite, scale, count, self.dynamic_growth_steps)

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **option.config_of(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        return cls(**{**config, "inner_optimizer": registry.deserialize(config["inner_optimizer"])})


@registry.register
class OptimizerMap(UserDict):
    """Optimizers by the paths of variables, for `MultiOptimizer`: `map['encoder/.*'] = Adam()`.

    A key is a path, or a regular expression that must match the whole path. `map(variable)` returns the variable's optimizer.

    Args:
        default_optimizer: The optimizer of all variables that match no key.
        optimizer_map: Optimizers by key; None for none.

    Raises:
        TypeError: if default_optimizer is not an Optimizer.
        ValueError: for a duplicate key, a value that is not a plain optimizer, and a path that matches several keys.

    Example:
        >>> optimizers = keras.optimizers.OptimizerMap(keras.optimizers.Adam())
        >>> optimizers["encoder/.*"] = keras.optimizers.SGD(0.1)
        >>> optimizers["encoder/kernel"], optimizers["decoder/kernel"]
        (<SGD learning_rate=0.1 iterations=0>, <Adam learning_rate=0.001 iterations=0>)
    """

    _is_read = False  # whether it comes from a configuration

    def __init__(self, default_optimizer: Optimizer, optimizer_map: dict[str, Optimizer] | None = None):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"default_optimizer must be an Optimizer, received {briefly(default_optimizer)}")
        if not isinstance(optimizer_map, Mapping | None):
            raise TypeError(f"optimizer_map must be a dict of optimizers by path, received {briefly(optimizer_map)}")
        self.default_optimizer = default_optimizer
        super().__init__(optimizer_map)

    def __call__(self, variable: Variable) -> Optimizer:
        return self[variable.path]

    def __getitem__(self, key: str) -> Optimizer:
        # before December 2026 paths lacked the name of a Sequential with an Input; maps in older files have such keys
        for path in (key, key.partition("/")[2]) if self._is_read else (key,):
            if path in self.data:
                return self.data[path]
            fitting = [pattern for pattern in self.data if re.fullmatch(pattern, path)]
            if len(fitting) > 1:
                raise ValueError(f"the path {path!r} fits several keys of the OptimizerMap: {fitting}")
            if fitting:
                return self.data[fitting[0]]
        return self.default_optimizer

    def __setitem__(self, key: str, optimizer: Optimizer) -> None:
        if not isinstance(key, str) or key in self.data:
            raise ValueError(f"an OptimizerMap's keys are paths or patterns, each once, received {briefly(key)}")
        if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LossScaleOptimizer | MultiOptimizer):
            raise ValueError(f"an OptimizerMap holds plain optimizers, received {briefly(optimizer)}")
        self.data[key] = optimizer

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`."""
        optimizers = {key: registry.serialize(optimizer) for key, optimizer in self.items()}
        return {"default_optimizer": registry.serialize(self.default_optimizer), "optimizer_map": optimizers}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """A map from the result of `get_config`.

        Args:
            config: The configurations of the optimizers.
        """
        optimizers = {key: registry.deserialize(value) for key, value in config["optimizer_map"].items()}
        made = cls(registry.deserialize(config["default_optimizer"]), optimizers)
        made._is_read = True
        return made


@register
class MultiOptimizer(Optimizer):
    """Different optimizers for different variables.

    Args:
        optimizer_map: An `OptimizerMap`, or a function that returns the optimizer of a variable (and cannot be saved).
        loss_scale_factor (a number, or None): The loss scale of all optimizers, instead of their own; None for none.

    Raises:
        ValueError: for an optimizer that is not a plain one.

    Example:
        >>> optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.0), {".*/bias": keras.optimizers.SGD(0.5)})
        >>> model = keras.Sequential([keras.Input((1,)), layers.Dense(1, kernel_initializer="ones", name="dense")])
        >>> model.compile(keras.optimizers.MultiOptimizer(optimizers), "mse")
        >>> history = model.fit(np.array([[1.0]]), np.array([[0.0]]), verbose=0)
        >>> [weight.numpy().tolist() for weight in model.weights]
        [[[1.0]], [-1.0]]
    """

    def __init__(
        self,
        optimizer_map: Callable[[Variable], Optimizer],
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ):
        if not callable(optimizer_map):
            raise TypeError(f"optimizer_map must be an OptimizerMap or a function, received {briefly(optimizer_map)}")
        self.optimizers: list[Optimizer] = []
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self.optimizer_map = optimizer_map
        self._of: dict[Variable, Optimizer] = {}
        if isinstance(optimizer_map, OptimizerMap):
            for optimizer in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._take(optimizer)

    def _take(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LossScaleOptimizer | MultiOptimizer):
            raise ValueError(f"MultiOptimizer needs a plain optimizer for each variable, received {briefly(optimizer)}")
        if optimizer not in self.optimizers:
            optimizer.loss_scale_factor = self.loss_scale_factor
            self.optimizers.append(optimizer)

    @property
    def loss_scale_factor(self) -> float | None:
        """The loss scale; setting it sets the loss scale of all `optimizers`."""
        return self._loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        self._loss_scale_factor = value
        for optimizer in self.optimizers:
            optimizer.loss_scale_factor = value

    def build(self, variables: Sequence[Variable]) -> None:
        if not self.built:
            self._of = {variable: self.optimizer_map(variable) for variable in variables}
            for optimizer in self._of.values():
                self._take(optimizer)
            for optimizer in self.optimizers:
                optimizer.build([v for v in variables if self._of[v] is optimizer])
            self._positions = {variable: i for i, variable in enumerate(variables)}
            self.built = True
        self._choose(variables)

    def _choose(self, variables: Sequence[Variable]) -> None:
        unknown = [v.path for v in variables if v not in self._of]
        if unknown:
            raise ValueError(f"this MultiOptimizer was built for other variables and does not know {unknown}")
        for optimizer in self.optimizers:
            optimizer._choose([v for v in variables if self._of[v] is optimizer])
        self._trainable = list(variables)

    @property
    def learning_rate(self) -> Any:
        raise AttributeError("a MultiOptimizer has no learning rate of its own: read the rates of its `optimizers`")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError("a MultiOptimizer has no learning rate of its own: set the rates of its `optimizers`")

    @property
    def parts(self) -> list[Optimizer]:
        return self.optimizers

    def _in_order(self, values_of: Callable[[Optimizer], Sequence[Any]]) -> list[Any]:
        """Collect a value for each trainable variable from its optimizer."""
        found: dict[Variable, Any] = {}
        for optimizer in self.optimizers:
            found.update(zip(optimizer.trainable_variables, values_of(optimizer), strict=True))
        return [found[variable] for variable in self._trainable]

    @property
    def gradient_views(self) -> list[np.ndarray]:
        return self._in_order(lambda optimizer: optimizer.gradient_views)

    @property
    def takes_rows(self) -> list[bool]:
        return self._in_order(lambda optimizer: optimizer.takes_rows)

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *[v for optimizer in self.optimizers for v in optimizer.variables]]

    @property
    def sums_of_rank(self) -> list[Variable]:
        return [each for optimizer in self.optimizers for each in optimizer.sums_of_rank]

    def _deliveries(self) -> Callable[[Variable], None] | None:
        found = {each: each._deliveries() for each in self.optimizers if each.trainable_variables}

        def deliver(variable: Variable) -> None:
            tell = found[self._of[variable]]
            if tell is not None:
                tell(variable)

        return deliver if any(found.values()) else None

    def _reduce(self) -> None:
        for optimizer in self.optimizers:
            if optimizer.trainable_variables and not optimizer.gradient_accumulation_steps:
                optimizer._reduce()

    def update(self, gradients_: Sequence[Any] = ()) -> None:
        given = dict(zip(self._trainable, gradients_, strict=False))
        for optimizer in self.optimizers:
            if optimizer.trainable_variables:
                optimizer.update([given.get(variable) for variable in optimizer.trainable_variables])
        copy_on_write.will_write(self._iterations.data)
        device.launch(np.add, self._iterations.data, 1, self._iterations.data)

    def unscale(self, scale: np.ndarray) -> None:
        for optimizer in self.optimizers:
            optimizer.unscale(scale)

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        chosen = list(self._trainable if var_list is None else var_list)
        for optimizer in self.optimizers:
            optimizer.finalize_variable_values([v for v in chosen if self._of[v] is optimizer])

    def get_config(self) -> dict[str, Any]:
        if not isinstance(self.optimizer_map, OptimizerMap):
            raise NotImplementedError("a MultiOptimizer made with a function cannot be saved: give it an OptimizerMap")
        own = registry.serialize(self.optimizer_map)
        return {"optimizer_map": own, "loss_scale_factor": self.loss_scale_factor, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        return cls(**{**config, "optimizer_map": registry.deserialize(config["optimizer_map"])})
