"""Optimizers in Keras 2's form: `get_updates(loss, params)` returns the updates of a step, made by backend functions.

Keras 2 called `get_updates` once, and the updates were the graph of all steps. Here each step that Python computes calls it, and
the native program of a recorded step repeats its launches. So that all calls mean the same step, the variables that the first
call makes, and the values that it reads, are kept in a Graph: later calls get them again, in the same order.
"""

import contextlib
import functools
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nbkeras import ops
from nbkeras.backend import control
from nbkeras.building.graph import SymbolicTensor
from nbkeras.engine import compatibility, ranks, sharding, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.tensor import Tensor, Variable, gradient, on_device_of
from nbkeras.optimizers import optimizer
from nbkeras.optimizers.guard import only_if_finite

Gradients = Callable[[Any, Sequence[Variable]], list]


class VariableUpdate(NamedTuple):
    """A step of an optimizer with symbolic gradients, for `K.function`."""

    optimizer: Any
    gradients: list
    variables: list


class Graph:
    """The variables and values that the first call of `get_updates` made and read, in order."""

    def __init__(self) -> None:
        self._first: list[Any] = []
        self._position = 0
        self.gradients: Gradients | None = None

    @contextlib.contextmanager
    def running(self, gradients: Gradients, variables: Sequence[Variable]) -> Iterator[None]:
        """The block calls `get_updates`. gradients: a function of a loss and variables."""
        names = [(each, each.name) for each in variables]
        self._position, self.gradients, _thread.graph = 0, gradients, self
        try:
            with tape.GradientRecording(False):
                for each in variables:
                    each.name = f"{each.path}:0"  # optimizers find variables by names, which are unique in Keras 2
                yield
        finally:
            _thread.graph = None
            for each, name in names:
                each.name = name

    def first(self, make: Callable[[], Any]) -> Any:
        """The result of the first call at this position."""
        if self._position == len(self._first):
            self._first.append(make())
        self._position += 1
        return self._first[self._position - 1]


class _Thread(threading.local):
    graph: Graph | None = None  # while this thread calls `get_updates`


_thread = _Thread()


# -------------------- backend functions --------------------


def once(function: Callable) -> Callable:
    """The function, whose results in `get_updates` are those of the first call."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        make = functools.partial(function, *args, **kwargs)
        return make() if _thread.graph is None else _thread.graph.first(make)

    return call


def postponed(function: Callable, value_of: Callable) -> Callable:
    """A function that writes to a variable. In `get_updates` it returns the pair (variable, new value) instead."""

    @functools.wraps(function)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(x, *args, **kwargs) if _thread.graph is None else (x, value_of(x, *args, **kwargs))

    return call


# -------------------- optimizers --------------------


class Updating(optimizer.Optimizer):
    """The first base of each class that defines `get_updates`. Attributes are plain, since such classes assign to them."""

    weights: Any = ()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        vars(self).update(weights=[], updates=[])

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The arguments of `__init__`, and the learning rate, which may be another variable."""
        return super().names_read_in_steps() | {"_learning_rate"}

    @property
    def iterations(self) -> Any:
        """The number of steps made."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: Any) -> None:
        self._iterations = value

    @property
    def learning_rate(self) -> Any:
        """The learning rate. Assigning a number writes to the variable; any other value replaces it."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(self._learning_rate, Variable) and not isinstance(value, Tensor):
            self._learning_rate.assign(value)
        else:
            self._learning_rate = value  # type: ignore[assignment]

    @property
    def variables(self) -> list[Variable]:
        """The state, as `get_updates` assigned it to `weights`."""
        return list(self.weights)

    def get_weights(self) -> list:
        """Copies of the state; in `get_updates`, those of its first call."""
        return _get_weights(self)

    def get_config(self) -> dict[str, Any]:
        """The limits of gradients, as in Keras 2; with another optimizer as base class, its configuration."""
        config = super().get_config()
        if (
            next(cls for cls in type(self).__mro__ if cls.__module__.startswith("nbkeras.opt"))
            is not optimizer.Optimizer
        ):
            return config
        return {name: config[name] for name in ("clipnorm", "clipvalue") if config[name]}

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state by a call of `get_updates` with gradients of zeros, without writing anything.

        Args:
            variables: The variables to train. For other ones than before, the state starts anew.
        """
        variables = list(dict.fromkeys(variables))
        if self.built and list(map(id, variables)) == list(map(id, self._trainable)):
            return
        if self.built and not compatibility.current.optimizers_start_anew:
            raise ValueError(
                f"this {type(self).__name__} was built for other variables: make a new optimizer for each model or list of "
                "variables"
            )
        self._trainable, self._graph, self.built = variables, Graph(), True
        self._positions = {variable: i for i, variable in enumerate(variables)}
        self._call(None, lambda loss, params: [ops.zeros_like(each) for each in params])

    def _call(self, loss: Any, gradients_of: Gradients) -> Iterable[tuple[Variable, Any]]:
        """The updates of a step, as pairs (variable, new value)."""
        with on_device_of(self._trainable[0]), self._graph.running(gradients_of, self._trainable):
            updates = list(self.get_updates(loss, list(self._trainable)))  # type: ignore[attr-defined]
        for each in updates:
            if not isinstance(each, tuple) or len(each) != 2 or not isinstance(each[0], Variable):
                raise TypeError(
                    f"{type(self).__name__}.get_updates must return a list of the results of K.update, K.update_add or "
                    f"K.update_sub, received {briefly(each)} in it"
                )
        return updates

    def _step_with(self, loss: Any, gradients_of: Gradients) -> None:
        """Make a step: call `get_updates` and write what it returns."""
        found: list[Tensor] = []

        def kept(loss: Any, params: Sequence[Variable]) -> list[Tensor]:
            found[:] = gradients_of(loss, params)
            return list(found)

        updates = self._call(loss, kept)
        with only_if_finite(loss, lambda: [each.data for each in found]), tape.GradientRecording(False):
            for variable, value in updates:
                variable.assign(value)

    @layer_stack.part("optimizer")
    def learn(self, loss: Tensor, variables: Iterable[Variable]) -> None:
        """Make a step that reduces a loss.

        Args:
            loss: A scalar tensor.
            variables: The variables to update.
        """
        self.build(list(variables))
        self._step_with(loss, _of_loss)

    @layer_stack.part("optimizer")
    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Make a step with gradients.

        Args:
            grads: A gradient for each variable.
            trainable_variables: The variables; None for those of the last step.
        """
        given = [ops.convert_to_tensor(each) for each in grads]
        if trainable_variables is not None:
            self.build(list(trainable_variables))
        self._check_built()
        by_variable = dict(zip(self._trainable, given, strict=True))
        self._step_with(None, lambda loss, params: [by_variable[each] for each in params])


_get_weights = once(optimizer.Optimizer.get_weights)


def _of_loss(loss: Tensor, params: Sequence[Variable]) -> list[Tensor]:
    """The gradients of a loss, summed over the processes that train together."""
    part = sharding.fraction()
    if part != 1.0:
        with tape.GradientRecording():
            loss = ops.multiply(loss, part)
    with sharding.weighing():
        arrays = gradient([loss], params)
    missing = [each.path for each, array in zip(params, arrays, strict=True) if array is None]
    if missing:
        raise ValueError(
            f"the loss does not depend on the variables {missing}, or an op without gradient is on the way: get_updates needs a "
            "gradient for each variable. Set trainable=False for layers that are not used"
        )
    for array in arrays:
        ranks.launch_sum(array)
    return [Tensor(array) for array in arrays]


def get_gradients(self: optimizer.Optimizer, loss: Any, params: Sequence[Variable]) -> list:
    """The gradients of a loss; with `clipnorm` all together have at most this norm, with `clipvalue` each element."""
    if _thread.graph is None:
        found = control.gradients(loss, params)
    else:
        found = _thread.graph.gradients(loss, params)  # type: ignore[misc]
    if self.clipnorm:
        norm = ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(each)) for each in found])))
        found = [ops.where(norm >= self.clipnorm, each * (self.clipnorm / norm), each) for each in found]
    if self.clipvalue:
        found = [ops.clip(each, -self.clipvalue, self.clipvalue) for each in found]
    return found


def get_updates(self: optimizer.Optimizer, loss: Any = None, params: Any = None, *given: Any) -> list:
    """Only Keras 2 has this method: use `apply_gradients`, or write a `train_step`.

    The result has the updates of one step: for `K.function`, or for the `get_updates` of an optimizer around this one.
    Arguments: loss, params; or params, constraints, loss.
    """
    if given:
        loss, params = given[0], loss
    if _thread.graph is None:
        return [VariableUpdate(self, control.gradients(loss, params), list(params))]
    if not self.built:
        self.build(params)
    own = self.variables
    trained, state = self.stateless_apply(own, _thread.graph.gradients(loss, params), params)  # type: ignore[misc]
    update = importlib.import_module("keras.backend").update  # which optimizers around this one may have replaced
    pairs = zip([*params, *own], [*trained, *state], strict=True)
    return [update(variable, value) for variable, value in pairs if variable is not self._learning_rate]


def _of_class(defined: Callable) -> Callable:
    """The `get_updates` of a class: outside a step its result is for `K.function`, as that of nbkeras's optimizers."""

    @functools.wraps(defined)
    def call(self: Any, loss: Any = None, params: Any = None, *given: Any, **named: Any) -> list:
        if _thread.graph is None and isinstance(given[0] if given else loss, SymbolicTensor):
            return get_updates(self, loss, params, *given)
        return defined(self, loss, params, *given, **named)

    return call


@classmethod  # type: ignore[misc]
def prepare_class(cls: Any, **kwargs: Any) -> None:
    """Make a class that defines `get_updates` an Updating one: the `__init_subclass__` of optimizers in Keras 2."""
    super(optimizer.Optimizer, cls).__init_subclass__(**kwargs)
    if "get_updates" in vars(cls):
        cls.get_updates = _of_class(cls.get_updates)
        if not issubclass(cls, Updating):
            cls.__bases__ = (Updating, *cls.__bases__)
