"""Metric, and means and sums over batches. The state is in Variables that recorded and replayed steps write in place.

Source: keras/src/metrics (Keras 3.15). Totals are float64; results have the metric's dtype.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nbkeras import config, initializers, ops
from nbkeras.engine import dtype_policy, load_budget, naming, option, sharding, stateless, structures
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.naming import snake_case
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registered, Registry
from nbkeras.engine.tensor import AGGREGATIONS, Tensor, Variable, as_tensor, op, outside_program
from nbkeras.engine.user_errors import set_by_init
from nbkeras.losses import loss as losses
from nbkeras.losses.loss import mask_weights, prediction
from nbkeras.ops.metrics import accumulate, divide_no_nan

F = TypeVar("F", bound=Callable)
registry = Registry("metric", spelling=snake_case)


class Metric(Observed, option.Configured, Registered, registry=registry):
    """Base of metrics: `update_state` adds a batch, `result` computes the value, `reset_state` starts over.

    Calling a metric adds a batch and returns the value over all batches so far. A subclass creates state with `add_weight` (in
    `__init__`, or at the first update), updates it with ops, `assign` and `assign_add` in `update_state`, and defines
    `result`.

    Args:
        name: The name in logs and histories; by default the class name in snake_case.
        dtype: The dtype of results, or a policy that computes in it; None for `config.floatx()`.

    Example:
        >>> class Largest(metrics.Metric):
        ...     def __init__(self, name="largest"):
        ...         super().__init__(name)
        ...         self.largest = self.add_weight(initializer="zeros", aggregation="max")
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))
        ...     def result(self):
        ...         return self.largest
        >>> metric = Largest()
        >>> metric.update_state([0, 1], [0.3, 0.8])
        >>> metric.update_state([0, 1], [0.4, 0.5])
        >>> round(float(metric.result()), 3)
        0.8
    """

    def __init__(self, name: str | None = None, dtype: Any = None):
        self.name = naming.checked("metric", name) or snake_case(type(self).__name__)
        self.dtype = dtype_policy.of(config.floatx() if dtype is None else dtype).compute_dtype
        self._state: list[Variable] = []

    def add_weight(
        self, shape: Any = (), initializer=None, dtype=None, name: str | None = None, aggregation: str | None = "sum"
    ) -> Variable:
        """Make a state Variable; `reset_state` sets it to 0.

        Args:
            shape: The shape, a tuple or an integer.
            initializer: The initial values: a name, an Initializer or a function; None for zeros.
            dtype: The dtype; None for the metric's.
            name: Its name.
            aggregation: How the values of several processes that train together are combined: 'sum', 'mean', 'max', 'min', or
                'only_first_replica'.

        Raises:
            ValueError: for an unknown aggregation.
        """
        one_of(type(self).__name__, "aggregation", aggregation, AGGREGATIONS)
        if isinstance(shape, str):  # Keras 2's order: name, shape, initializer
            name, shape, initializer = shape, initializer, dtype
            shape, dtype = (() if isinstance(shape, str) or shape is None else shape), None
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * known_dtype(dtype or self.dtype).itemsize
        load_budget.take(size, f"metric {briefly(self.name)} is described with an array of shape {shape}, which")
        make = initializers.get("zeros" if initializer is None else initializer)
        name, aggregation = name or f"state_{len(self._state)}", aggregation or "sum"
        with outside_program(makes_new=True):  # created once, even if a recorded first update creates it
            variable = Variable(make, shape, dtype or self.dtype, False, aggregation=aggregation, name=name)
        self._state.append(variable)
        return variable

    def add_variable(self, shape, initializer=None, dtype=None, aggregation="sum", name: str | None = None) -> Variable:
        """Make a state Variable: `add_weight` with Keras 2's arguments.

        Args:
            shape: Its shape, a tuple or an integer.
            initializer: The initial values: a name, an Initializer or a function; None for zeros.
            dtype: Its dtype; None for the metric's.
            aggregation: As in `add_weight`.
            name: Its name.
        """
        return self.add_weight(shape, initializer, dtype, name, aggregation)

    def _total(self, name: str, shape: tuple[int, ...] = ()) -> Variable:
        return self.add_variable(shape, dtype="float64", name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state: Variables from `add_weight` and in attributes, lists and dicts, and the state of metrics there."""
        own = [*self._state, *structures.find(Variable, list(vars(self).values()))]
        inner = [v for metric in structures.find(Metric, list(vars(self).values())) for v in metric.variables]
        return list(dict.fromkeys([*own, *inner]))

    weights = variables

    def update_state(self, *args, **kwargs) -> None:
        """Add a batch; most metrics take (y_true, y_pred, sample_weight=None).

        Args:
            *args: The targets, the predictions, and a weight for each sample (or for each timestep); None for 1.
            **kwargs: The same by name.

        Example:
            >>> metric = metrics.MeanSquaredError()
            >>> metric.update_state([[0.0]], [[2.0]])
            >>> metric.update_state([[0.0]], [[4.0]])
            >>> float(metric.result())  # (4 + 16) / 2
            10.0
        """
        raise NotImplementedError(f"{type(self).__name__} must define update_state")

    def result(self) -> Any:
        """The value over all batches since the last reset: a tensor of the metric's dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define result")

    def reset_state(self) -> None:
        """Set all state to 0; `fit` and `evaluate` do this at the start of an epoch.

        Example:
            >>> metric = metrics.Sum()
            >>> metric.update_state([3.0, 4.0])
            >>> metric.reset_state()
            >>> float(metric.result())
            0.0
        """
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

    def _holding(self, values: Sequence[Any]) -> contextlib.AbstractContextManager:
        """Compute with these values; the variables keep their own values."""
        variables = self.variables
        return stateless.holding(variables, stateless.values_for("metric_variables", self.name, variables, values))

    def stateless_update_state(self, metric_variables: Sequence[Any], *args, **kwargs) -> list[Tensor]:
        """The state after a batch, from a given state; the metric's state does not change.

        Args:
            metric_variables: A value for each of `variables`.
            *args: As for `update_state`.
            **kwargs: As for `update_state`.

        Returns:
            A list of tensors, one for each of `variables`.

        Raises:
            ValueError: unless there is one value for each variable.

        Example:
            >>> metric = metrics.Sum()
            >>> state = metric.stateless_update_state(metric.stateless_reset_state(), [3.0, 4.0])
            >>> float(metric.stateless_result(state)), float(metric.result())
            (7.0, 0.0)
        """
        with self._holding(metric_variables):
            self.update_state(*args, **kwargs)
            return stateless.current(self.variables)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The value for a given state; the metric's state does not change.

        Args:
            metric_variables: A value for each of `variables`.

        Raises:
            ValueError: unless there is one value for each variable.
        """
        with self._holding(metric_variables):
            return stateless.current(self.result())

    def stateless_reset_state(self) -> list[Tensor]:
        """The initial state, a list of tensors; the metric's state does not change."""
        with self._holding(self.variables):
            self.reset_state()
            return stateless.current(self.variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this metric, without its state."""
        return {"name": self.name, "dtype": self.dtype, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


set_by_init(Metric, "name dtype _state")


def check_columns(name: str, y_true: Tensor, y_pred: Tensor, columns: str) -> None:
    """ValueError unless targets and predictions are matrices of the same shape."""
    if y_pred.ndim != 2 or y_true.shape != y_pred.shape:
        raise ValueError(
            f"{name} expects targets and predictions of shape (batch, {columns}), received {y_true.shape} and {y_pred.shape}"
        )


class Sum(Metric):
    """The sum of values times their weights.

    Example:
        >>> metric = metrics.Sum()
        >>> float(metric([1.0, 2.0, 3.0]))
        6.0
        >>> float(metric([10.0, 20.0], sample_weight=[1, 0]))
        16.0
    """

    def __init__(self, name: str = "sum", dtype: Any = None):
        super().__init__(name, dtype)
        self.total = self._total("total")

    def update_state(self, values, sample_weight=None) -> None:
        """Add values to the sum.

        Args:
            values: Numbers of any shape.
            sample_weight: A weight for each value or sample, or one for all; None for 1.
        """
        values = as_tensor(values)
        accumulate(values, _value_weights(values, sample_weight), self.total)

    def result(self) -> Tensor:
        return ops.cast(self.total, self.dtype)


class Mean(Metric):
    """The weighted mean of values; if values have several axes, each sample contributes its mean.

    Example:
        >>> metric = metrics.Mean()
        >>> float(metric([1.0, 2.0, 3.0]))
        2.0
        >>> float(metric([5.0, 9.0], sample_weight=[1, 0]))  # (1 + 2 + 3 + 5) / 4
        2.75
    """

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(name, dtype)
        self.total = self._total("total")
        self.count = self._total("count")

    def update_state(self, values, sample_weight=None) -> None:
        """Add values to the mean.

        Args:
            values: Numbers of any shape, the samples first.
            sample_weight: A weight for each value or sample, or one for the mean of all; None for 1.
        """
        values = as_tensor(values)
        if sample_weight is None and values.ndim == 0 and sharding.current() is not None:
            sample_weight = sharding.fraction()  # the values of several ranks together count as one
        accumulate(values, _value_weights(values, sample_weight), self.total, self.count)

    def result(self) -> Tensor:
        return divide_no_nan(self.total, self.count, self.dtype)


def _value_weights(values: Tensor, sample_weight: Any) -> Any:
    """Weights times the mask of the values; None without weights, as in Keras."""
    if sample_weight is None or values.mask is None:
        return sample_weight
    return mask_weights(as_tensor(sample_weight, config.floatx()), values.mask, config.floatx(), rescale=False)


class MeanMetricWrapper(Mean):
    """The mean over samples of a function(y_true, y_pred), without masked timesteps of y_pred.

    Pass other arguments of the function by name.

    Args:
        fn: A function of (y_true, y_pred) that returns a number for each sample, or one for the batch.
        name: The name in logs and histories; by default the function's.

    Raises:
        TypeError: if fn is not callable.

    Example:
        >>> def error(y_true, y_pred, power):
        ...     return ops.mean(ops.abs(y_true - y_pred) ** power, axis=-1)
        >>> metric = metrics.MeanMetricWrapper(error, power=3.0)
        >>> float(metric([[0.0], [0.0]], [[1.0], [2.0]]))
        4.5
    """

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **constants):
        if not callable(fn):
            raise TypeError(f"a metric function must be callable as fn(y_true, y_pred), received {briefly(fn)}")
        super().__init__(
            naming.checked("metric", name) or str(getattr(fn, "__name__", snake_case(type(fn).__name__))), dtype
        )
        self.fn = fn
        self.constants = constants
        if fn in losses.registry.items().values() or isinstance(fn, losses.Loss):
            self._direction = "down"

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:  # type: ignore[override]
        """Add the function's values for a batch to the mean.

        Args:
            y_true: Targets.
            y_pred: Predictions; integers become floats.
            sample_weight: A weight for each sample (or for each timestep); None for 1.
        """
        y_pred = prediction(y_pred)
        y_true = as_tensor(y_true)
        weights = None if sample_weight is None else as_tensor(sample_weight, y_pred.dtype)
        weights = mask_weights(weights, y_pred.mask, y_pred.dtype, rescale=False)
        values = as_tensor(self.fn(y_true, y_pred, **self.constants))
        if values.ndim == 0 and sample_weight is None:
            weights = None  # the function has reduced the batch, including masked steps
        super().update_state(values, weights)

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this metric; with fn by its name."""
        return {**super().get_config(), "fn": registry.serialize(self.fn), **self.constants}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """A metric from a configuration.

        Args:
            config: The result of `get_config`; 'fn' is a function, its name or its configuration.
        """
        named = isinstance(config.get("fn"), str | dict)
        return super().from_config({**config, "fn": functions.get(config["fn"])} if named else config)


functions = Registry("metric function", "keras.metrics")


def metric_function(function: F) -> F:
    """Decorator that makes a function of (y_true, y_pred) an op that can be named as a metric."""
    return functions.register(op(function))


class FunctionMetric(MeanMetricWrapper, registered=False):
    """A wrapper with a class for each function, so that the configuration does not name the function.

    The class statement names the function: `class Hinge(FunctionMetric, fn=losses.hinge)`.
    """

    _measured: Callable  # the function

    if TYPE_CHECKING:

        def __init__(self, name: str = "", dtype: Any = None): ...

    else:

        def __init__(self, **options):
            super().__init__(type(self)._measured, **options)

    def __init_subclass__(cls, fn: Callable | None = None, name: str | None = None, **kwargs):
        if fn is not None:  # otherwise a base class has the function
            cls._measured = fn  # type: ignore[assignment]
        if fn is not None and "__init__" not in vars(cls):  # the function has no further arguments

            def __init__(self, name: str = name or fn.__name__, dtype: Any = None):
                super().__init__(fn, name, dtype)

            __init__.__qualname__ = f"{cls.__name__}.__init__"  # as errors and `help` name it
            cls.__init__ = __init__  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        return {option: value for option, value in super().get_config().items() if option != "fn"}
