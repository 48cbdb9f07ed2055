"""Optimizer, the base class: arguments, state and learning rate; and a step: gradients (scaled, summed over ranks, clipped),
weight decay, averages, constraints.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypedDict

import numpy as np

from nbkeras import config, initializers, ops
from nbkeras.engine import compatibility, copy_on_write, naming, option, ranks, sharding, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.observed import Observed, observe_all
from nbkeras.engine.registry import nearest
from nbkeras.engine.tape import GradientRecording
from nbkeras.engine.tensor import (
    Tensor,
    Variable,
    as_tensor,
    assign_all,
    before_replays,
    copied,
    gradient,
    is_step_recorded,
    on_device_of,
    outside_program,
    value_of,
)
from nbkeras.engine.user_errors import warn
from nbkeras.kernels import gradients, optimizers
from nbkeras.kernels import schedules as kernels
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import device
from nbkeras.optimizers import schedules
from nbkeras.optimizers.buffers import Buffers, Run
from nbkeras.optimizers.guard import is_guarded, only_if_finite, square_sums
from nbkeras.optimizers.reduction import Reduction
from nbkeras.optimizers.slots import Slot

Array = np.ndarray


def _count(name: str, what: str, value: Any, minimum: int) -> Any:
    if value is not None and (not isinstance(value, int) or not minimum <= value <= sys.maxsize):
        bound = " and below 2**63" if isinstance(value, int) and value > sys.maxsize else ""
        raise ValueError(f"{name}: {what} must be an integer >= {minimum}{bound} or None, received {briefly(value)}")
    return value


Limit = Annotated[Any, option.optional(option.AtLeast0)]
Steps = Annotated[Any, option.kind(_count, "a positive integer, or None", 1)]
Batches = Annotated[Any, option.kind(_count, "an integer above 1, or None", 2)]


class RuleOptions(TypedDict, total=False):
    """The options that each optimizer takes as **kwargs, for type checkers and editors."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: option.Flag
    ema_momentum: option.Rate
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None
    lr: Any  # Keras 2's learning_rate
    decay: float | None


class OptimizerOptions(RuleOptions, total=False):
    """The options of an optimizer whose signature does not name weight_decay."""

    weight_decay: float | None


class Optimizer(Observed, option.Configured):
    """Base class of optimizers: it updates variables in place, given their gradients.

    `fit` calls it for each batch. In your own training step, call `learn(loss, variables)`, which a recorded step replays,
    or `apply_gradients(zip(gradients, variables))` with your own gradients.

    A subclass has a `formula` (see `nbkeras.tensor.step_formula`), which is one kernel over flat arrays; `slots` names the state
    arrays of each variable, if they do not have the formula's names. Or it defines Keras's `update_step(gradient, variable,
    learning_rate)`, and makes its own variables in `build`. With `rows_suffice` and `step_rows` it may update only the rows
    of a table with a nonzero gradient.

    Args:
        learning_rate (a number, a schedule or a function): The size of a step: a number, a schedule (called with
            the number of steps made), or a function without arguments.
        weight_decay: The factor of weight decay, applied before each step: w -= w * weight_decay * learning_rate.
            None for no decay.
        clipnorm: The greatest norm of each variable's gradient; longer gradients are scaled down. None for no limit.
        clipvalue: The greatest magnitude of an element of a gradient; None for no limit.
        global_clipnorm: The greatest norm of all gradients together; None for no limit.
        use_ema: Whether to keep a moving average of the weights; it replaces the weights when `fit` ends.
        ema_momentum: The fraction of the moving average that each step keeps.
        ema_overwrite_frequency: The number of steps after which the average replaces the weights; None replaces
            them only at the end.
        loss_scale_factor: `scale_loss` multiplies by this number and gradients are divided by it, so that gradients
            are not too small for their dtype; None for no scaling.
        gradient_accumulation_steps: The number of batches whose mean gradient makes one update; None for one.
        name: The name in configurations and logs; None for the class name in snake_case.
        decay: An argument of Keras 2: the learning rate is divided by 1 + decay * steps made. None for no decay.

    Raises:
        TypeError: for an unknown argument; the message names the nearest known one.
        ValueError: for an argument out of range, and for more than one of clipnorm, clipvalue and global_clipnorm.

    Example:
        >>> class SignDescent(keras.optimizers.Optimizer):
        ...     def update_step(self, gradient, variable, learning_rate):
        ...         self.assign_sub(variable, learning_rate * ops.sign(gradient))
        >>> optimizer, w = SignDescent(learning_rate=0.5), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([3.0, -4.0])], [w])
        >>> w.numpy()
        array([0.5, 2.5], dtype=float32)
    """

    formula: Map | None = None  # the kernel of a step
    slots: Sequence[Sequence[str]] = ()  # names in groups; a group's variables are listed interleaved, as Keras does
    slot_values: Mapping[str, float] = {}  # initial values of slots that do not start with 0

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if cls.formula is not None and not cls.slots:
            cls.slots = (cls.formula.inputs[2:],)

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The arguments of `__init__`, and the schedule; everything else that changes is in arrays, or belongs to the loop."""
        return frozenset(name for base in cls.__mro__ for name in inspect.signature(base).parameters) | {"_schedule"}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: Limit = None,
        clipnorm: Limit = None,
        clipvalue: Limit = None,
        global_clipnorm: Limit = None,
        use_ema: option.Flag = False,
        ema_momentum: option.Rate = 0.99,
        ema_overwrite_frequency: Steps = None,
        loss_scale_factor: option.MaybeNumber = None,
        gradient_accumulation_steps: Batches = None,
        name: str | None = None,
        decay: Limit = None,
        **unknown,
    ):
        kind = type(self).__name__
        for key in unknown:
            known = {*inspect.signature(type(self)).parameters, *inspect.signature(Optimizer).parameters}
            known -= {"unknown", "kwargs"}
            raise TypeError(
                f"{kind} got an unexpected argument {briefly(key)}.{nearest(key, known)} Known: {sorted(known)}"
            )
        super().__init__()
        option.keep(self, locals())
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        if sum(limit is not None for limit in limits.values()) > 1:
            raise ValueError(
                f"{kind}: give at most one of clipnorm, clipvalue and global_clipnorm, received "
                + ", ".join(f"{key}={value}" for key, value in limits.items())
            )
        self.name = naming.checked("optimizer", name) or naming.snake_case(kind)
        self._iterations = Variable(0, dtype="int64", name="iteration", trainable=False)
        self._learning_rate = Variable(0, dtype="float64", name="learning_rate", trainable=False)
        self._schedule: Callable | None = None
        # the array that kernels read: the learning rate itself, or its value after _follow_steps
        self._rate = device.persistent(np.zeros(1)) if decay else self._learning_rate.data.reshape(1)
        self._set_learning_rate(learning_rate)
        self.built = False
        self._trainable: list[Variable] = []
        self._arrays: list[Array] = []  # the arrays of the variables, which may move
        self._runs: list[Run] = []  # runs over these arrays and their gradients
        self._gradients: list[Array] = []
        self._sums: Reduction | None = None  # sums the gradients over ranks
        self._positions: dict[Variable, int] = {}
        self._slots: dict[tuple[Variable, str], Slot] = {}
        self._own: list[Variable] = []
        self._added: dict[tuple[Variable, str], Variable] = {}
        self._excluded: tuple[set[Variable], re.Pattern | None] = (set(), None)

    # -------------------- the learning rate --------------------

    @property
    def iterations(self) -> Tensor:
        """The number of steps made; with gradient accumulation, the number of batches that changed the weights."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations, self.gradient_accumulation_steps)
        return self._iterations

    @property
    def learning_rate(self) -> Variable:
        """The learning rate as a Variable; `float(...)` reads it. With a schedule, the value for the next step.

        Assign a number or a schedule to change it.

        Raises:
            TypeError: if a number is assigned while the learning rate follows a schedule.
        """
        if self._schedule is not None:
            self._follow_steps()
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set_learning_rate(value)

    def _set_learning_rate(self, value: Any) -> None:
        kind = type(self).__name__
        if isinstance(value, schedules.LearningRateSchedule) or (callable(value) and not isinstance(value, Tensor)):
            if self.decay:
                raise ValueError(f"{kind}: decay={self.decay} cannot be combined with a schedule: use one of them")
            self._schedule = value
            return
        if self._schedule is not None:
            raise TypeError(
                f"the learning rate of this {kind} follows {briefly(self._schedule)} and cannot be set to a number; set it to "
                "another schedule, or create the optimizer with a number"
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"{kind}: learning_rate must be a number, a schedule or a function without arguments, "
                f"received {briefly(value)}"
            ) from None
        if not number >= 0:
            raise ValueError(f"{kind}: learning_rate must be >= 0, received {briefly(value)}")
        copy_on_write.write(self._learning_rate.data, number)

    @property
    def follows_schedule(self) -> bool:
        """Whether the learning rate is a function of the step count or of nothing, and cannot be set to a number."""
        return self._schedule is not None

    def _python_follows_steps(self) -> bool:
        """Whether Python computes the learning rate before each replay: by a function of the user's, and on a GPU."""
        if self._schedule is not None and not getattr(self._schedule, "has_kernel", False):
            return True
        return device.gpu_of(self._rate) is not None and (self._schedule is not None or bool(self.decay))

    def _launch_rate(self) -> None:
        """Compute the learning rate from the step count, in replays too. A schedule that changes records the step again."""
        if is_step_recorded():
            observe_all([self])
        if self._python_follows_steps():
            before_replays(self._follow_steps)
        elif isinstance(self._schedule, schedules.LearningRateSchedule):
            copy_on_write.will_write(self._rate)
            self._schedule.launch(self._batches, self._rate)
        elif self.decay:
            copy_on_write.will_write(self._rate)
            rate = self._learning_rate.data.reshape(1)
            device.launch(kernels.time_decay, self._batches, self._rate, rate, float(self.decay))

    def _follow_steps(self) -> None:
        """Compute the next step's learning rate from the step count."""
        if self._schedule is not None:
            steps = (int(self._iterations),) if isinstance(self._schedule, schedules.LearningRateSchedule) else ()
            with outside_program():
                rate = self._schedule(*steps)
                try:
                    copy_on_write.write(self._rate, float(rate))
                except (TypeError, ValueError):
                    raise TypeError(
                        f"{type(self).__name__}: {briefly(self._schedule)} must return a learning rate, a number, received "
                        f"{briefly(rate)}"
                    ) from None
        elif self.decay:
            copy_on_write.write(self._rate, float(self._learning_rate) / (1.0 + self.decay * float(self._iterations)))

    def _move_here(self) -> None:
        """Move the step count and the learning rate to the device of the variables."""
        for variable in (self._iterations, self._learning_rate):
            variable.data = copy_on_write.share(device.to_this_device(variable.data))
        self._rate = device.persistent(np.zeros(1)) if self.decay else self._learning_rate.data.reshape(1)

    def exclude_from_weight_decay(self, var_list: Iterable[Variable] | None = None, var_names=None) -> None:
        """Exclude variables from weight decay; call it before `build`.

        Args:
            var_list: The variables.
            var_names: Regular expressions; variables with a match in their name are excluded too.

        Raises:
            ValueError: if the optimizer is built.

        Example:
            >>> optimizer = keras.optimizers.AdamW()
            >>> optimizer.exclude_from_weight_decay(var_names=["bias"])
        """
        if self.built:
            raise ValueError("exclude_from_weight_decay must be called before the optimizer is built")
        pattern = re.compile("|".join(var_names)) if var_names else None
        self._excluded = (set(var_list or ()), pattern)

    def decay_of(self, variable: Variable) -> float:
        """The weight decay of a variable; 0 if it is excluded.

        Args:
            variable: A trainable variable.
        """
        variables, pattern = self._excluded
        excluded = variable in variables or (pattern is not None and pattern.search(variable.name) is not None)
        return 0.0 if excluded else float(self.weight_decay or 0.0)

    # -------------------- variables and state --------------------

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state for trainable variables, and move their values into a flat buffer.

        A later call may choose some of the same variables. From then on the optimizer updates only these, and
        `gradient_views` has one view for each.

        Args:
            variables: Variables of a float dtype; each counts once.

        Raises:
            TypeError: for anything but Variables of a float dtype.
            ValueError: for a variable that was not in the first call.

        Example:
            >>> optimizer, w = keras.optimizers.Adam(), keras.Variable([1.0, 2.0])
            >>> optimizer.build([w])
            >>> [variable.name for variable in optimizer.variables]
            ['iteration', 'learning_rate', 'variable_momentum', 'variable_velocity']
        """
        variables = list(dict.fromkeys(self._checked(variables)))
        if variables and device.is_on_other_device(variables[0].data):
            with on_device_of(variables[0]):
                return self.build(variables)
        if device.is_on_other_device(self._iterations.data):
            self._move_here()
        if not self.built:
            groups: list[Sequence[str]] = [("average",)] * bool(self.use_ema)
            groups += [("gradient_accumulator",)] * bool(self.gradient_accumulation_steps)
            groups += self.slots
            self._slot_names = [name for group in groups for name in group]
            self._buffers = Buffers(variables, [self.slot_values.get(name, 0.0) for name in self._slot_names])
            self._slots = self._make_slots(variables, groups)
            self._positions = {variable: i for i, variable in enumerate(variables)}
            self._due, self._updates = (device.persistent(np.zeros(1, np.int64)) for _ in range(2))
            self.built = True
            self._make_own_state(variables)
        self._choose(variables)

    def _checked(self, variables: Iterable[Any]) -> list[Variable]:
        """The variables as a list. Raises TypeError for anything but Variables of a float dtype."""
        variables = list(variables)
        for each in variables:
            if not isinstance(each, Variable) or each.dtype.kind != "f":
                raise TypeError(
                    f"{type(self).__name__} updates Variables of a float dtype, received {briefly(each)}: make a Variable "
                    "of it by nbkeras.Variable(value)"
                )
        return variables

    def _make_own_state(self, variables: Sequence[Variable]) -> None:
        """Make state other than slots; the first `build` calls it, subclasses override it."""

    def _choose(self, variables: Sequence[Variable]) -> None:
        """Update only these variables from now on; the first `build` must have got all of them."""
        arrays = [v.data for v in variables]
        if list(map(id, (*variables, *arrays))) == list(map(id, (*self._trainable, *self._arrays))):
            return
        unknown = [v.path for v in variables if v not in self._positions]
        if unknown and compatibility.current.optimizers_start_anew:
            self.built, self._own, self._added = False, [], {}
            return self.build(variables)
        if unknown:
            raise ValueError(
                f"this {type(self).__name__} was built for other variables and does not know {unknown}: make a new "
                "optimizer for each model or list of variables, "
                f"e.g. {type(self).__name__}.from_config(optimizer.get_config())"
            )
        self._trainable, self._arrays = list(variables), arrays
        self._runs = self._buffers.runs(self._trainable, self.decay_of)
        self._gradients = [self._buffers.gradient(v) for v in self._trainable]
        self._sums = None

    def _make_slots(self, variables: list[Variable], groups: Sequence[Sequence[str]]) -> dict:
        places = {name: place for place, name in enumerate(self._slot_names)}
        return {
            (variable, name): Slot(self._buffers.slot(variable, places[name]), self._name_of(variable, name))
            for group in groups
            for variable in variables
            for name in group
        }

    @staticmethod
    def _name_of(variable: Variable, name: str) -> str:
        return f"{variable.path.replace('/', '_')}_{name}"

    def slot(self, run: Run, name: str) -> Array:
        """A run's array of a slot; an empty array if this optimizer does not use the slot.

        Args:
            run: The argument of `step`.
            name: The name of the slot, as in `slots`.
        """
        return run.slots[self._slot_names.index(name)] if name in self._slot_names else run.gradients[:0]

    def average(self, variable: Variable) -> Variable:
        """The moving average of a variable's values, with use_ema.

        Args:
            variable: A trainable variable.

        Example:
            >>> optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
            >>> w = keras.Variable([4.0])
            >>> for _ in range(2):
            ...     optimizer.apply([np.array([2.0])], [w])
            >>> w.numpy(), optimizer.average(w).numpy()  # 0, and the mean of 2 and 0
            (array([0.], dtype=float32), array([1.], dtype=float32))
        """
        return self._slots[variable, "average"]

    def add_variable(
        self, shape, initializer: Any = "zeros", dtype=None, aggregation="none", layout=None, name: str | None = None
    ) -> Variable:
        """Make a state variable of the optimizer; it is saved after the slots.

        Args:
            shape: Its shape.
            initializer: Its initial values: a name, an Initializer or a function.
            dtype: Its dtype, 'int' for int64; None for `config.floatx()`.
            aggregation: Accepted and ignored.
            layout: Accepted and ignored.
            name: Its name; by default a numbered one.
        """
        dtype = np.dtype(np.int64 if dtype == "int" else dtype or config.floatx())
        name = name or f"variable_{len(self._own)}"
        self._own.append(Variable(initializers.get(initializer), tuple(shape), dtype, trainable=False, name=name))
        return self._own[-1]

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Make a state variable with the shape of a trainable one, for an `update_step`; a repeated call returns the same one.

        Args:
            reference_variable: The trainable variable; the state has its shape and dtype.
            name: The name of the state; the state variable's name is the trainable variable's path and this.
            initializer: Its initial values: a name, an Initializer or a function.

        Example:
            >>> class Momentum(keras.optimizers.Optimizer):
            ...     def update_step(self, gradient, variable, learning_rate):
            ...         speed = self.add_variable_from_reference(variable, "speed")
            ...         self.assign(speed, 0.5 * speed + gradient)
            ...         self.assign_sub(variable, learning_rate * speed)
            >>> optimizer, w = Momentum(1.0), keras.Variable([10.0])
            >>> for _ in range(2):
            ...     optimizer.apply([np.array([1.0])], [w])
            >>> w.numpy()  # 10 - 1 - 1.5
            array([7.5], dtype=float32)
        """
        key = (reference_variable, name or "var")
        if key not in self._added:
            full_name = self._name_of(*key)
            like = reference_variable
            self._added[key] = self.add_variable(like.shape, initializer, like.dtype, name=full_name)
        return self._added[key]

    def add_optimizer_variables(self, trainable_variables, name: Any, initializer: Any = "zeros") -> Any:
        """Make state variables, one for each trainable one.

        Args:
            trainable_variables: The trainable variables.
            name: The name of the state, or several names.
            initializer: Its initial values, or a list with one for each name.

        Returns:
            A list of variables; for several names, a tuple of lists.

        Raises:
            ValueError: if the numbers of initializers and names differ.
        """
        names = [name] if isinstance(name, str) else list(name)
        initial = list(initializer) if isinstance(initializer, list | tuple) else [initializer] * len(names)
        if len(initial) != len(names):
            raise ValueError(f"there must be an initializer for each name, received {briefly(initializer)} for {names}")
        made = [
            [self.add_variable_from_reference(v, *pair) for pair in zip(names, initial, strict=True)]
            for v in trainable_variables
        ]
        lists = tuple([row[i] for row in made] for i in range(len(names)))
        return lists[0] if isinstance(name, str) else lists

    def _get_variable_index(self, variable: Variable) -> int:
        """The index of a variable in the argument of `build`; Keras's guides use this name."""
        return self._positions[variable]

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that `update` updates."""
        self._check_built()
        return list(self._trainable)

    @property
    def gradient_views(self) -> list[Array]:
        """An array for each variable's gradient; write it before `update`."""
        self._check_built()
        return list(self._gradients)

    @property
    def parts(self) -> list[Optimizer]:
        """The optimizers with the learning rates, gradients and slots: this one, or those that it wraps."""
        return [self]

    @property
    def buffers(self) -> Buffers:
        """The flat arrays of gradients and slots."""
        self._check_built()
        return self._buffers

    @property
    def variables(self) -> list[Variable]:
        """All state, in Keras's order: step count, learning rate (unless it follows a schedule), slots, others."""
        rate = [self._learning_rate] if self._schedule is None else []
        return [self._iterations, *rate, *self._slots.values(), *self._own]

    weights = variables

    def get_weights(self) -> list[Array]:
        """Copies of all state, in the order of `variables`."""
        return [variable.numpy() for variable in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Write all state in place, in the order of `variables`. All arrays are checked before any is written.

        Args:
            weights: An array for each of `variables`, with its shape.

        Raises:
            ValueError: if the shapes do not match.

        Example:
            >>> first, second = keras.optimizers.SGD(), keras.optimizers.SGD()
            >>> first.apply([np.ones(2)], [keras.Variable([1.0, 2.0])])
            >>> second.build([keras.Variable([1.0, 2.0])])
            >>> second.set_weights(first.get_weights())
            >>> int(second.iterations)
            1
        """
        own, arrays = self.variables, [np.asarray(weight) for weight in weights]
        expected, received = [v.shape for v in own], [a.shape for a in arrays]
        if expected != received:
            hint = "" if self.built else " It is not built yet: call build(model.trainable_weights) first."
            raise ValueError(f"{self.name} has state of shapes {expected}, received arrays of shapes {received}.{hint}")
        assign_all(zip(own, arrays, strict=True))

    def save_own_variables(self, store: Any) -> None:
        """Put all state into a mapping, under the indices of `variables`: '0', '1', ...

        Args:
            store: A dict, or a mapping that represents a file.
        """
        for number, variable in enumerate(self.variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Write all state from a mapping that `save_own_variables` filled.

        Args:
            store: The mapping.

        Raises:
            ValueError: if the shapes do not match.
        """
        self.set_weights([store[str(number)] for number in range(len(store))])

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(f"{type(self).__name__} is not built yet: call build(variables) first")

    # -------------------- gradients of a few rows --------------------

    @property
    def takes_rows(self) -> list[bool]:
        """Whether `update` accepts a RowGradient, for each variable: only where the result is exact.

        A subclass may do more with gradients than its base class, so it must define its own `step_rows`.
        """
        touched = self.clipvalue or self.clipnorm or self.global_clipnorm or self.use_ema
        touched = touched or self.gradient_accumulation_steps or self.loss_scale_factor is not None
        touched = touched or self._reduction() is not None  # other ranks have other rows
        needs_all = touched or "step_rows" not in vars(type(self))
        return [
            not (needs_all or v.constraint is not None or self.decay_of(v)) and self.rows_suffice(v)
            for v in self._trainable
        ]

    def rows_suffice(self, variable: Variable) -> bool:
        """Whether `step_rows` gives exactly the results of `step` with the present options.

        Args:
            variable: A table; only some of its rows have a gradient.
        """
        return False

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        """Update a variable whose gradient is 0 in most rows.

        Args:
            variable: The variable.
            gradient: The rows with a gradient, and their indices.
        """
        raise NotImplementedError(f"{type(self).__name__} updates whole variables only")

    # -------------------- sums over ranks --------------------

    def _reduction(self) -> Reduction | None:
        """The sums of the gradients over the processes that train together; None for one process."""
        group = ranks.current()
        if group is None or group.size == 1:
            return None
        if self._sums is None or self._sums.group is not group:
            self._sums = Reduction(group, self._buffers, self._trainable)
        return self._sums

    @property
    def sums_of_rank(self) -> list[Variable]:
        """State whose sum over ranks is the true value: accumulated gradients that wait for an update."""
        return [slot for (_, name), slot in self._slots.items() if name == "gradient_accumulator"]

    def _deliveries(self) -> Callable[[Variable], None] | None:
        """A function that the backward pass must call with each variable whose gradient is complete, or None."""
        sums = self._reduction()
        if sums is None or self.gradient_accumulation_steps:
            return None
        sums.restart()
        return sums.delivered

    def _reduce(self) -> None:
        """Sum the gradients over ranks, unless this step has done so already."""
        sums = self._reduction()
        if sums is not None and not sums.is_done:
            sums.finish()

    # -------------------- a step --------------------

    @layer_stack.part("optimizer")
    def learn(self, loss: Tensor, variables: Iterable[Variable]) -> None:
        """Make a step that reduces a loss. Compute the loss inside a GradientTape.

        Variables that the loss does not depend on do not change; a warning names them.

        Args:
            loss: A scalar tensor; `learn` scales it by loss_scale_factor.
            variables: The variables to update.

        Raises:
            TypeError: for a loss that is not a tensor, and for anything but Variables of a float dtype.
            ValueError: if the loss depends on none of the variables.

        Example:
            >>> optimizer, w = keras.optimizers.SGD(learning_rate=0.5), keras.Variable([1.0, 2.0])
            >>> with keras.GradientTape():
            ...     loss = ops.sum(w * w)
            >>> optimizer.learn(loss, [w])
            >>> w.numpy()
            array([0., 0.], dtype=float32)
        """
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"{type(self).__name__}: the loss is a tensor that nbkeras.ops computed from the variables, received "
                f"{briefly(loss)}"
            )
        variables = self._checked(variables)
        if not self.built:
            self.build(variables)
        with tape.GradientRecording():
            scaled = self.scale_loss(loss)
            if (part := sharding.fraction()) != 1.0:  # several ranks: their gradients are summed
                scaled = ops.multiply(scaled, part)
        reached = _reached(scaled, variables)
        with on_device_of(reached[0]):
            self._choose(reached)
            deliver = self._deliveries()
            tell = None if deliver is None else lambda i: deliver(reached[i])
            views, rows = self.gradient_views, self.takes_rows
            with sharding.weighing():
                found = gradient([scaled], reached, into=views, as_is=rows, delivered=tell)
            with self._if_finite(loss, found):
                self.update(found)

    @layer_stack.part("optimizer")
    def update(self, gradients_: Sequence[Any] = ()) -> None:
        """Make a step with the gradients in `gradient_views`; every computation is a launch.

        Args:
            gradients_: The gradient of each variable, if any may be a RowGradient instead of its view (see `takes_rows`).

        Raises:
            ValueError: if the optimizer is not built.
        """
        self._check_built()
        arrays = [array for run in self._runs for array in (run.weights, *run.slots)]
        copy_on_write.will_write(self._iterations.data, *arrays)
        if not self.gradient_accumulation_steps:
            self._reduce()
        self._launch_rate()
        by_rows = {
            variable: each
            for variable, each in zip(self._trainable, gradients_, strict=False)
            if isinstance(each, RowGradient)
        }
        if self.loss_scale_factor is not None:
            self.unscale(device.persistent(np.array([self.loss_scale_factor], np.float64)))
        if self.gradient_accumulation_steps:
            every = self.gradient_accumulation_steps
            device.launch(gradients.count_batches, self._batches, every, self._due, self._updates)
            for run in self._runs:
                total = self.slot(run, "gradient_accumulator")
                optimizers.launch(gradients.accumulate, run.gradients, total, self._due, every)
            with device.only_if(self._due):
                self._reduce()
                self._update_weights(by_rows)
        else:
            self._update_weights(by_rows)
        if self.use_ema:
            how = (self._step, self.ema_momentum, self.ema_overwrite_frequency or 0)
            for run in self._runs:
                optimizers.launch(optimizers.moving_average, run.weights, self.slot(run, "average"), *how)
        with tape.GradientRecording(False):
            for variable in self._trainable:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        device.launch(np.add, self._iterations.data, 1, self._iterations.data)
        if self._sums is not None:
            self._sums.restart()

    def _if_finite(self, loss: Tensor | None, found: Sequence[Any] = ()) -> contextlib.AbstractContextManager[None]:
        """A context for the update: with a Guard its launches run only if loss and gradients are finite."""
        if is_guarded() and not self.gradient_accumulation_steps:
            self._reduce()  # first, because all ranks must decide the same
        return only_if_finite(loss, self._that_must_be_finite, found)

    def _that_must_be_finite(self) -> list[Array]:
        """The views of the gradients that a Guard checks."""
        return self.gradient_views

    def _update_weights(self, by_rows: dict[Variable, RowGradient]) -> None:
        runs = self._runs
        if by_rows:
            runs = self._buffers.runs([v for v in self._trainable if v not in by_rows], self.decay_of)
        for (variable, _), slot in self._slots.items():
            if variable not in by_rows:
                slot.settle()
        self._clip()
        self.before_runs()
        for run in runs:
            self.step(run)
        for variable, rows in by_rows.items():
            self.step_rows(variable, rows)
        for variable in [each for each in self._trainable if each.is_half]:
            variable.round()  # type: ignore[attr-defined]

    @property
    def _batches(self) -> Array:
        return self._iterations.data.reshape(1)

    @property
    def _step(self) -> Array:
        """The number of steps made before, as int64 (1,)."""
        return self._updates if self.gradient_accumulation_steps else self._batches

    def unscale(self, scale: Array) -> None:
        """Divide the gradients by scale[0].

        Args:
            scale: float64 (1,).
        """
        for run in self._runs:
            optimizers.launch(gradients.unscale, run.gradients, scale)

    def _clip(self) -> None:
        if self.clipvalue:
            for run in self._runs:
                optimizers.launch(gradients.clip, run.gradients, self.clipvalue)
        elif self.clipnorm:
            for view in self._gradients:
                self._limit_norm([view.reshape(-1)], self.clipnorm)
        elif self.global_clipnorm:
            self._limit_norm([run.gradients for run in self._runs], self.global_clipnorm)

    @staticmethod
    def _limit_norm(parts: list[Array], limit: float) -> None:
        sums = square_sums(parts)
        for part in parts:
            optimizers.launch(gradients.limit_norm, part, sums, limit)

    def before_runs(self) -> None:
        """Called once per step before its runs, for subclasses."""

    def step(self, run: Run) -> None:
        """Update one run: by the formula, or else by weight decay and then `update_step` for each variable.

        Args:
            run: 1-D arrays of neighbouring weights, their gradients and each slot, and their weight decay.
        """
        if self.formula is not None:
            state = (self.slot(run, name) for group in self.slots for name in group)
            numbers = (self._argument(name, run) for name in (*self.formula.others, *self.formula.numbers))
            return optimizers.launch(self.formula, run.weights, run.gradients, *state, *numbers)
        rate = Tensor(self._rate.reshape(()))
        with tape.GradientRecording(False):
            for variable in run.variables:
                if run.decay:
                    optimizers.launch(optimizers.shrink, variable.data.reshape(-1), self._rate, run.decay)
                self.update_step(Tensor(self._buffers.gradient(variable)), variable, rate)

    def _argument(self, name: str, run: Run) -> Any:
        """The argument for a parameter of the formula that is no array of the run; most have the names of attributes."""
        if name == "rate":
            return self._rate
        if name == "step":
            return self._step
        if name == "decay":
            return run.decay
        try:
            return float(getattr(self, name))
        except (AttributeError, TypeError, ValueError) as error:
            kind = type(self).__name__
            raise TypeError(
                f"{kind}: its formula has the parameter {name}, so self.{name} must be a number ({error}): set it in __init__"
            ) from None

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Update one variable, as in Keras: compute the new value by ops and call `self.assign(variable, ...)`.

        Args:
            gradient: The gradient, with the variable's shape.
            variable: The variable, after weight decay.
            learning_rate: A float64 scalar.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define step(run) or update_step(gradient, variable, rate), or have a formula"
        )

    def assign(self, variable: Variable, value: Any) -> None:
        """Call `variable.assign(value)`; Keras's `update_step` uses it.

        Args:
            variable: A trainable or a state variable.
            value: The new value.
        """
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Call `variable.assign_add(value)`.

        Args:
            variable: A trainable or a state variable.
            value: The value to add.
        """
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Call `variable.assign_sub(value)`.

        Args:
            variable: A trainable or a state variable.
            value: The value to subtract.
        """
        variable.assign_sub(value)

    # -------------------- with gradients of your own --------------------

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss multiplied by loss_scale_factor, if there is one; compute gradients of it.

        Args:
            loss: The loss, a scalar tensor.
        """
        return loss if self.loss_scale_factor is None else ops.multiply(loss, float(self.loss_scale_factor))

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Make a step with gradients.

        Args:
            grads: A gradient for each variable: tensors or arrays with its shape. With None the variable does not change,
                and a warning names it.
            trainable_variables: The variables; None for the variables that `build` got.

        Raises:
            TypeError: for anything but Variables of a float dtype.
            ValueError: if numbers or shapes do not match, no gradient is given, a variable is unknown, or the optimizer
                is not built and trainable_variables is None.

        Example:
            >>> optimizer, w = keras.optimizers.SGD(learning_rate=0.5), keras.Variable([1.0, 2.0])
            >>> optimizer.apply([np.array([2.0, 4.0])], [w])
            >>> w.numpy()
            array([0., 0.], dtype=float32)
        """
        given = list(grads)
        if trainable_variables is None:
            self._check_built()
        variables = self._checked(self._positions if trainable_variables is None else trainable_variables)
        if len(given) != len(variables):
            raise ValueError(f"received {len(given)} gradients for {len(variables)} variables")
        if not given:
            return
        for each, variable in zip(given, variables, strict=True):
            if each is None or (isinstance(each, Tensor) and each.shape == variable.shape):
                continue
            if np.shape(each) != variable.shape:
                raise ValueError(
                    f"the gradient of {variable.path!r} must have its shape {variable.shape}, received {np.shape(each)}"
                )
        if not self.built:
            self.build(variables)
        pairs = [(v, g) for v, g in zip(variables, given, strict=True) if g is not None]
        missing = [v.path for v, g in zip(variables, given, strict=True) if g is None]
        if not pairs:
            raise ValueError(f"no gradients were given for any variable: {missing}")
        if missing:
            warn(f"gradients are missing for variables {missing}: they do not change")
        with on_device_of(variables[0]):
            self._choose([variable for variable, _ in pairs])
            for view, (_, each) in zip(self.gradient_views, pairs, strict=True):
                source = device.to_this_device(as_tensor(each, view.dtype).data)
                if source.base is None or device.address(source) != device.address(view):
                    device.launch(device.copy, source, view)
            if (part := sharding.fraction()) != 1.0:  # several ranks: their gradients are summed
                for view in self.gradient_views:
                    device.launch(np.multiply, view, view.dtype.type(part), view)
            with self._if_finite(None):
                self.update()

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Tensor:
        """Make a step with pairs of gradient and variable.

        Args:
            grads_and_vars: Pairs (gradient, variable). With None as gradient the variable does not change, with a warning.

        Returns:
            The number of steps made.

        Raises:
            ValueError: as `apply` does.

        Example:
            >>> optimizer, w = keras.optimizers.SGD(learning_rate=0.5), keras.Variable([1.0, 2.0])
            >>> with keras.GradientTape() as tape:
            ...     loss = ops.sum(w * w)
            >>> int(optimizer.apply_gradients(zip(tape.gradient(loss, [w]), [w])))
            1
            >>> w.numpy()
            array([0., 0.], dtype=float32)
        """
        pairs = list(grads_and_vars)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise TypeError(
                f"apply_gradients takes pairs (gradient, variable), received {briefly(pairs)}: zip(gradients, variables)"
            )
        self.apply([each for each, _ in pairs], [variable for _, variable in pairs])
        return value_of(self.iterations)

    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Tensor:
        """Make a step that reduces a loss.

        Args:
            loss: A function without arguments that computes the loss, or a tensor computed under `tape`.
            var_list: The variables to update, or a function without arguments that returns them.
            tape: The GradientTape that recorded the loss, if the loss is a tensor.

        Returns:
            The number of steps made.

        Raises:
            ValueError: for a tensor without a tape, and for a tape if there is a loss_scale_factor.

        Example:
            >>> optimizer, w = keras.optimizers.SGD(learning_rate=0.25), keras.Variable(3.0)
            >>> int(optimizer.minimize(lambda: (w - 1.0) ** 2, [w]))
            1
            >>> float(w)
            2.0
        """
        if tape is None and not callable(loss):
            raise ValueError("minimize needs a function that computes the loss, or the tape that recorded the loss")
        if tape is None:
            with GradientRecording():
                loss = loss()
            self.learn(loss, var_list() if callable(var_list) else var_list)
            return value_of(self.iterations)
        if self.loss_scale_factor is not None:
            raise ValueError("minimize(tape=...) cannot scale the loss: pass a function instead of the loss")
        variables = list(var_list() if callable(var_list) else var_list)
        return self.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Iterable[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The values after a step from given values; no variable changes.

        Args:
            optimizer_variables: A value for each of `variables`.
            grads: A gradient for each trainable variable.
            trainable_variables: A value for each variable that `build` got.

        Returns:
            Two lists of tensors: the trainable variables, the optimizer's variables.

        Raises:
            ValueError: if the optimizer is not built, or the numbers of values do not match.
        """
        self._check_built()
        trained = list(self._positions)
        own, given = [*trained, *self.variables], [*trainable_variables, *optimizer_variables]
        if len(trainable_variables) != len(trained) or len(given) != len(own):
            raise ValueError(
                f"stateless_apply needs values of {len(trained)} trainable and {len(own) - len(trained)} optimizer "
                f"variables, received {len(trainable_variables)} and {len(optimizer_variables)}"
            )
        if self._python_follows_steps():
            int(self._iterations)  # forbids recording: a replay would use its own step count for the learning rate
        with tape.GradientRecording(False):
            before = [copied(variable) for variable in own]
            try:
                for variable, value in zip(own, given, strict=True):
                    variable.assign(value)
                self.apply(grads)
                after = [copied(variable) for variable in own]
            finally:
                for variable, value in zip(own, before, strict=True):
                    variable.assign(value)
        return after[: len(trained)], after[len(trained) :]

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        """Overwrite the weights with their moving averages, with use_ema; `fit` calls it at its end.

        Args:
            var_list: The variables; None for all variables that the optimizer updates.
        """
        if not self.use_ema:
            return
        self._check_built()
        assign_all(
            (variable, self.average(variable)) for variable in (self._trainable if var_list is None else var_list)
        )

    # -------------------- configuration --------------------

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`, without the state."""
        rate = schedules.serialize(self._schedule) if self._schedule is not None else float(self._learning_rate)
        values = {"name": self.name, "learning_rate": rate, **super().get_config()}
        return values if self.decay else {key: value for key, value in values.items() if key != "decay"}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """An optimizer from the result of `get_config`.

        Args:
            config: The arguments; a schedule by its configuration.

        Example:
            >>> optimizer = keras.optimizers.Adam(beta_1=0.8)
            >>> keras.optimizers.Adam.from_config(optimizer.get_config()).beta_1
            0.8
        """
        values = dict(config)
        if isinstance(values.get("learning_rate"), dict | str):
            values["learning_rate"] = schedules.get(values["learning_rate"])
        return super().from_config(values)

    def __repr__(self) -> str:
        rate = float(self._learning_rate) if self._schedule is None else self._schedule
        return f"<{type(self).__name__} learning_rate={rate} iterations={int(self.iterations)}>"


def _reached(loss: Tensor, variables: list[Variable]) -> list[Variable]:
    """The variables that a loss depends on; a warning names the others."""
    targets = [] if loss.record is None else [(loss.record, loss.index)]
    missing = set(tape.unreached(targets, [(v.record, v.index) for v in variables]))  # type: ignore[misc]
    if len(missing) == len(variables):
        raise ValueError(
            f"the loss has no gradient for any of the variables {[v.path for v in variables]}: was it computed in the block "
            "of a GradientTape, by nbkeras.ops alone, without an op that has no gradient (argmax, a comparison, a cast to "
            "integers)?"
        )
    if missing:
        names = [variables[i].path for i in sorted(missing)]
        warn(f"gradients do not exist for variables {names}: they do not change")
    return [v for i, v in enumerate(variables) if i not in missing]
