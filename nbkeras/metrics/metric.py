"""Metric, and means and sums over batches. The state is in Variables that recorded and replayed steps write in place.

Source: keras/src/metrics (Keras 3.15). Totals are float64; results have the metric's dtype.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkeras import config, initializers, losses, ops
from nbkeras.engine import load_budget, option, structures
from nbkeras.engine.naming import snake_case
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registry
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, outside_program
from nbkeras.engine.user_errors import set_by_init
from nbkeras.losses.loss import mask_weights, prediction
from nbkeras.ops.metrics import accumulate, divide_no_nan

registry = Registry("metric", spelling=snake_case)


class Metric(Observed, option.Configured):
    """Base of metrics: `update_state` adds a batch, `result` computes the value, `reset_state` starts again.

    Subclasses make state with `add_weight` (in `__init__`, or at the first update) and write it with `assign` and
    `assign_add`. name: by default the class's, in snake_case. dtype: of results, floatx by default.
    """

    def __init__(self, name: str | None = None, dtype: Any = None):
        self.name = name or snake_case(type(self).__name__)
        self.dtype = config.standardize_dtype(dtype)
        self._state: list[Variable] = []

    def add_weight(self, shape=(), initializer=None, dtype=None, name: str | None = None) -> Variable:
        """A state Variable, zeros by default; `reset_state` sets it to 0."""
        if isinstance(shape, str):  # Keras 2's order: name, shape, initializer
            name, shape, initializer = shape, initializer, dtype
            shape, dtype = (() if isinstance(shape, str) or shape is None else shape), None
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * np.dtype(dtype or self.dtype).itemsize
        load_budget.take(size, f"metric {self.name!r} is described with an array of shape {shape}, which")
        make: Any = initializers.get("zeros" if initializer is None else initializer)
        with outside_program():  # made once, even where a recorded first update makes it
            value = make(shape, dtype=np.dtype(dtype or self.dtype).name)
            variable = Variable(value, name=name or f"state_{len(self._state)}", trainable=False)
        self._state.append(variable)
        return variable

    def add_variable(self, shape, initializer=None, dtype=None, aggregation="sum", name: str | None = None) -> Variable:
        """`add_weight` with Keras 2's arguments; aggregation has no effect."""
        return self.add_weight(shape, initializer, dtype, name)

    def _total(self, name: str, shape: tuple[int, ...] = ()) -> Variable:
        return self.add_variable(shape, dtype="float64", name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state: of `add_weight`, in attributes or in lists and dicts there, and the state of metrics there."""
        own = [*self._state, *structures.find(Variable, list(vars(self).values()))]
        inner = [v for metric in structures.find(Metric, list(vars(self).values())) for v in metric.variables]
        return list(dict.fromkeys([*own, *inner]))

    weights = variables

    def update_state(self, *args, **kwargs) -> None:
        """Add a batch: for most metrics (y_true, y_pred, sample_weight=None)."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state")

    def result(self) -> Any:
        """The value over all batches since the last reset, a tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define result")

    def reset_state(self) -> None:
        """Set all state to 0."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def __call__(self, *args, **kwargs) -> Any:
        symbol = next((arg for arg in (*args, *kwargs.values()) if hasattr(arg, "symbolic_op")), None)
        if symbol is not None:

            def measure(*args, **kwargs):
                return self(*args, **kwargs)

            measure.__name__, measure.metric = self.name, self  # type: ignore[attr-defined]
            return symbol.symbolic_op(measure, args, kwargs)
        self.update_state(*args, **kwargs)
        return self.result()

    @contextlib.contextmanager
    def _holding(self, values: Sequence[Any]) -> Iterator[None]:
        """Compute with these values of the variables, and restore their own values."""
        variables = self.variables
        if len(values) != len(variables):
            raise ValueError(
                f"{self.name} has {len(variables)} variables, received {len(values)} values: give one for each of `variables`"
            )
        before = _copies(variables)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        try:
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)

    def stateless_update_state(self, metric_variables: Sequence[Any], *args, **kwargs) -> list[Tensor]:
        """The state after a batch, from a given state; the metric's own state is not changed."""
        with self._holding(metric_variables):
            self.update_state(*args, **kwargs)
            return _copies(self.variables)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The value for a given state."""
        with self._holding(metric_variables):
            return structures.map_leaves(lambda value: ops.multiply(value, 1), self.result())

    def stateless_reset_state(self) -> list[Tensor]:
        """The state at the start; the metric's own state is not changed."""
        with self._holding(self.variables):
            self.reset_state()
            return _copies(self.variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this metric again, without its state."""
        return {"name": self.name, "dtype": self.dtype, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


set_by_init(Metric, "name dtype _state")


def check_columns(name: str, y_true: Tensor, y_pred: Tensor, columns: str) -> None:
    """ValueError unless targets and predictions are matrices of one shape."""
    if y_pred.ndim != 2 or y_true.shape != y_pred.shape:
        raise ValueError(
            f"{name} expects targets and predictions of shape (batch, {columns}), received {y_true.shape} and {y_pred.shape}"
        )


def _copies(variables: list[Variable]) -> list[Tensor]:
    return [ops.multiply(variable, 1) for variable in variables]


@registry.register
class Sum(Metric):
    """The sum of values times their weights."""

    def __init__(self, name: str = "sum", dtype: Any = None):
        super().__init__(name, dtype)
        self.total = self._total("total")

    def update_state(self, values, sample_weight=None) -> None:
        values = as_tensor(values)
        accumulate(values, _value_weights(values, sample_weight), self.total)

    def result(self) -> Tensor:
        return ops.cast(self.total, self.dtype)


@registry.register
class Mean(Metric):
    """The mean of values by their weights; of values with several axes, the mean of each sample counts."""

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(name, dtype)
        self.total = self._total("total")
        self.count = self._total("count")

    def update_state(self, values, sample_weight=None) -> None:
        values = as_tensor(values)
        accumulate(values, _value_weights(values, sample_weight), self.total, self.count)

    def result(self) -> Tensor:
        return divide_no_nan(self.total, self.count, self.dtype)


def _value_weights(values: Tensor, sample_weight: Any) -> Any:
    """Weights times the mask of the values; None without weights, as in Keras."""
    if sample_weight is None or values.mask is None:
        return sample_weight
    return mask_weights(as_tensor(sample_weight, config.floatx()), values.mask, config.floatx(), rescale=False)


@registry.register
class MeanMetricWrapper(Mean):
    """The mean over samples of a function(y_true, y_pred, **constants), without masked timesteps of y_pred."""

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **constants):
        if not callable(fn):
            raise TypeError(f"a metric function must be callable as fn(y_true, y_pred), received {fn!r}")
        super().__init__(str(name or getattr(fn, "__name__", snake_case(type(fn).__name__))), dtype)
        self.fn = fn
        self.constants = constants
        if fn in losses.registry.items().values() or isinstance(fn, losses.Loss):
            self._direction = "down"

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:  # type: ignore[override]
        y_pred = prediction(y_pred)
        y_true = as_tensor(y_true)
        weights = None if sample_weight is None else as_tensor(sample_weight, y_pred.dtype)
        weights = mask_weights(weights, y_pred.mask, y_pred.dtype, rescale=False)
        values = as_tensor(self.fn(y_true, y_pred, **self.constants))
        if values.ndim == 0 and sample_weight is None:
            weights = None  # the function has reduced the batch itself, masked steps included
        super().update_state(values, weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": registry.serialize(self.fn), **self.constants}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        named = isinstance(config.get("fn"), str | dict)
        return super().from_config({**config, "fn": functions.get(config["fn"])} if named else config)


functions = Registry("metric function", "keras.metrics")
for _name, _function in losses.registry.items().items():
    if not isinstance(_function, type):
        functions.register(_function, _name)


class FunctionMetric(MeanMetricWrapper):
    """A wrapper with a class for each function, so that the configuration does not name the function."""

    def get_config(self) -> dict[str, Any]:
        return {option: value for option, value in super().get_config().items() if option != "fn"}


class PlainFunctionMetric(FunctionMetric):
    """A wrapper of a function without further arguments: `class Hinge(PlainFunctionMetric, fn=losses.hinge)`."""

    if TYPE_CHECKING:

        def __init__(self, name: str = "", dtype: Any = None): ...

    def __init_subclass__(cls, fn: Callable | None = None, name: str | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if fn is None:  # extends a class that has its function
            return

        def __init__(self, name: str = name or fn.__name__, dtype: Any = None):
            super().__init__(fn, name, dtype)

        __init__.__qualname__ = f"{cls.__name__}.__init__"  # as errors and `help` name it
        cls.__init__ = __init__  # type: ignore[method-assign]
