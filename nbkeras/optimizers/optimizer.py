"""What all optimizers share: arguments, learning rate, flat buffers, clipping, weight decay, averages, constraints."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nbkeras import initializers, tape
from nbkeras.kernels import device
from nbkeras.kernels import optimizers as kernels
from nbkeras.kernels.embedding import RowGradient
from nbkeras.optimizers import schedules
from nbkeras.optimizers.buffers import Buffers, Run
from nbkeras.optimizers.slots import Slot
from nbkeras.registry import nearest
from nbkeras.tensor import Tensor, Variable, as_tensor, at_home, outside_program

Array = np.ndarray


class Optimizer:
    """Base of optimizers: writes better values into variables, in place, given their gradients.

    learning_rate (Keras 2: lr): a number, a schedule (called with the count of steps made), or a function without
    arguments. weight_decay: w -= w * weight_decay * learning_rate before each step. One of clipnorm (limit of each
    variable's gradient norm), global_clipnorm (of the norm over all), clipvalue (of each element). use_ema: keep moving
    averages of the weights with momentum ema_momentum, and overwrite the weights with them every
    ema_overwrite_frequency steps. decay (Keras 2): divide the learning rate by 1 + decay * steps made.

    A training loop calls `build` once, then for each step `prepare`, gradients into `gradient_views`, `update`. All
    that `update` does is recorded by a Program; what `prepare` does is not, so it is called before each replay too.
    By hand: `apply_gradients(zip(gradients, variables))`.

    A subclass names its `slots` (state arrays of each variable) and writes `step(run)`, one kernel over flat arrays; or
    it writes Keras's `update_step(gradient, variable, learning_rate)`, and makes its own variables in `build`. With
    `rows_suffice` and `step_rows` it may update a table only where its gradient is not 0.
    """

    slots: Sequence[Sequence[str]] = ()  # names in groups; a group's variables are listed interleaved, as Keras does
    slot_value: float = 0.0

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
        lr: Any = None,
        decay: float | None = None,
        **unknown,
    ):
        kind = type(self).__name__
        for key in unknown:
            known = {*inspect.signature(type(self)).parameters, *inspect.signature(Optimizer).parameters} - {"unknown"}
            raise TypeError(f"{kind} got an unexpected argument {key!r}.{nearest(key, known)} Known: {sorted(known)}")
        if sum(limit is not None for limit in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                f"{kind}: give at most one of clipnorm, clipvalue and global_clipnorm, received clipnorm={clipnorm}, "
                f"clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            )
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        for key, value in {**limits, "weight_decay": weight_decay, "decay": decay}.items():
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"{kind}: {key} must be a number >= 0 or None, received {value!r}")
        self.check_fraction(ema_momentum=ema_momentum)
        if ema_overwrite_frequency is not None and (
            not isinstance(ema_overwrite_frequency, int) or ema_overwrite_frequency < 1
        ):
            raise ValueError(
                f"{kind}: ema_overwrite_frequency must be an integer >= 1 or None, received {ema_overwrite_frequency!r}"
            )
        self.name = name or kind.lower()
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.decay = decay or 0.0
        self.built = False
        self._trainable: list[Variable] = []
        self._slots: dict[tuple[Variable, str], Slot] = {}
        self._added: dict[tuple[Variable, str], Variable] = {}
        self.iterations = Variable(np.int64(0), "iteration", trainable=False)
        self._excluded: tuple[set[Variable], re.Pattern | None] = (set(), None)
        self._learning_rate = Variable(np.float64(0), "learning_rate", trainable=False)
        self._schedule: Callable | None = None
        # what kernels read: the learning rate itself, or what prepare() makes of it
        self._rate = device.persistent(np.zeros(1)) if decay else self._learning_rate.data.reshape(1)
        self.learning_rate = learning_rate if lr is None else lr

    def check_fraction(self, **values: float) -> None:
        """Raise unless each value is a number from 0 to 1."""
        for key, value in values.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{type(self).__name__}: {key} must be a number from 0 to 1, received {value!r}")

    # The learning rate

    @property
    def learning_rate(self) -> Variable:
        """The learning rate as a Variable (`float(...)` reads it); with a schedule, its value for the next step."""
        if self._schedule is not None:
            self.prepare()
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        kind = type(self).__name__
        if isinstance(value, schedules.LearningRateSchedule) or (callable(value) and not isinstance(value, Tensor)):
            if self.decay:
                raise ValueError(f"{kind}: decay={self.decay} cannot be combined with a schedule: use one of them")
            self._schedule = value
            return
        if self._schedule is not None:
            raise TypeError(
                f"the learning rate of this {kind} follows {self._schedule!r} and cannot be set to a number; set it to "
                "another schedule, or make the optimizer with a number"
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"{kind}: learning_rate must be a number, a schedule or a function without arguments, "
                f"received {value!r}"
            ) from None
        if not number >= 0:
            raise ValueError(f"{kind}: learning_rate must be >= 0, received {value!r}")
        device.write(self._learning_rate.data, number)

    lr = learning_rate

    def prepare(self) -> None:
        """Work out the next step's learning rate where it follows the step count; for each step, replayed or not."""
        if self._schedule is not None:
            steps = (int(self.iterations),) if isinstance(self._schedule, schedules.LearningRateSchedule) else ()
            with outside_program():
                device.write(self._rate, float(self._schedule(*steps)))
        elif self.decay:
            device.write(self._rate, float(self._learning_rate) / (1.0 + self.decay * float(self.iterations)))

    # Variables and their places

    def exclude_from_weight_decay(self, var_list: Iterable[Variable] | None = None, var_names=None) -> None:
        """Leave some variables out of weight decay, and those with one of `var_names` in their name; before `build`."""
        if self.built:
            raise ValueError("exclude_from_weight_decay must be called before the optimizer is built")
        pattern = re.compile("|".join(map(re.escape, var_names))) if var_names else None
        self._excluded = (set(var_list or ()), pattern)

    def _decays(self, variable: Variable) -> bool:
        variables, pattern = self._excluded
        if not self.weight_decay or variable in variables:
            return False
        return pattern is None or pattern.search(variable.name) is None

    def build(self, variables: Sequence[Variable]) -> None:
        """Lay out gradients and slots for trainable variables and move their values into a flat buffer.

        A later call may choose some of the same variables: only those are updated from then on, and `gradient_views`
        has one view for each. ValueError for a variable that the first call did not have.
        """
        for variable in variables:
            if not isinstance(variable, Variable) or variable.dtype.kind != "f":
                raise TypeError(f"an optimizer is built for Variables of a float dtype, received {variable!r}")
        variables = list(dict.fromkeys(variables))
        if variables and device.elsewhere(variables[0].data):
            with at_home(variables[0]):
                return self.build(variables)
        if device.elsewhere(self.iterations.data):
            self._move_here()
        if not self.built:
            self._slot_names = [name for group in self.slots for name in group]
            values = [self.slot_value] * len(self._slot_names) + [0.0] * self.use_ema
            self._buffers = Buffers(variables, values)
            self._slots = self._make_slots(variables)
            self.built = True
        elif [id(v) for v in variables] == [id(v) for v in self._trainable]:
            return
        unknown = [v.path for v in variables if v not in self._buffers]
        if unknown:
            raise ValueError(
                f"this {type(self).__name__} was built for other variables and does not know {unknown}: make a new "
                "optimizer for each model or list of variables, "
                f"e.g. {type(self).__name__}.from_config(optimizer.get_config())"
            )
        self._trainable = variables
        self._runs = self._buffers.runs(variables, self._decays)
        self._gradients = [self._buffers.gradient(v) for v in variables]

    def _move_here(self) -> None:
        """Take the step count and the learning rate to the device that the variables are on."""
        for variable in (self.iterations, self._learning_rate):
            variable.data = device.here(variable.data)
        self._rate = device.persistent(np.zeros(1)) if self.decay else self._learning_rate.data.reshape(1)

    def _make_slots(self, variables: list[Variable]) -> dict[tuple[Variable, str], Slot]:
        indices = iter(range(len(self._slot_names)))
        groups = [[(name, next(indices)) for name in group] for group in self.slots]
        if self.use_ema:
            groups.insert(0, [("average", len(self._slot_names))])
        made = {}
        for group in groups:
            for variable in variables:
                for name, index in group:
                    full_name = f"{variable.path.replace('/', '_')}_{name}"
                    made[variable, name] = Slot(self._buffers.slot(variable, index), full_name)
        return made

    def slot(self, run: Run, name: str) -> Array:
        """A run's array of the slot of that name; an empty one where this optimizer does without it."""
        return run.slots[self._slot_names.index(name)] if name in self._slot_names else run.gradients[:0]

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str = "var", initializer="zeros"
    ) -> Variable:
        """A state variable shaped like a trainable one, for an `update_step`; the same again if called again."""
        key = (reference_variable, name)
        if key not in self._added:
            make: Any = initializers.get(initializer)
            value = make(reference_variable.shape, dtype=reference_variable.dtype.name)
            full_name = f"{reference_variable.path.replace('/', '_')}_{name}"
            self._added[key] = Variable(value, full_name, trainable=False, dtype=reference_variable.dtype)
        return self._added[key]

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that `update` updates."""
        self._check_built()
        return list(self._trainable)

    @property
    def gradient_views(self) -> list[Array]:
        """An array for each variable's gradient, to be written before `update`."""
        self._check_built()
        return list(self._gradients)

    @property
    def variables(self) -> list[Variable]:
        """All state, in Keras's order: step count, learning rate (unless it follows a schedule), slots."""
        rate = [self._learning_rate] if self._schedule is None else []
        return [self.iterations, *rate, *self._slots.values(), *self._added.values()]

    weights = variables

    def get_weights(self) -> list[Array]:
        """Copies of all state, in the order of `variables`."""
        return [variable.numpy() for variable in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Write all state in place, in the order of `variables`; all are checked before any is written."""
        own, arrays = self.variables, [np.asarray(weight) for weight in weights]
        expected, received = [v.shape for v in own], [a.shape for a in arrays]
        if expected != received:
            hint = "" if self.built else " It is not built yet: call build(model.trainable_weights) first."
            raise ValueError(f"{self.name} has state of shapes {expected}, received arrays of shapes {received}.{hint}")
        for variable, array in zip(own, arrays, strict=True):
            variable.assign(array)

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(f"{type(self).__name__} is not built yet: call build(variables) first")

    # A step

    @property
    def takes_rows(self) -> list[bool]:
        """Whether `update` takes a RowGradient for each variable: it does where that is exact.

        A subclass may do more with gradients than its base, so it must have a `step_rows` of its own.
        """
        touched = self.clipvalue or self.clipnorm or self.global_clipnorm or self.use_ema
        whole = touched or "step_rows" not in vars(type(self))
        return [
            not (whole or v.constraint is not None or self._decays(v)) and self.rows_suffice(v) for v in self._trainable
        ]

    def rows_suffice(self, variable: Variable) -> bool:
        """Whether `step_rows`, as the optimizer is set up, does exactly what `step` does."""
        return False

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        """Update a variable whose gradient is 0 in most rows."""
        raise NotImplementedError(f"{type(self).__name__} updates whole variables only")

    def update(self, gradients: Sequence[Any] = ()) -> None:
        """Make a step with the gradients in `gradient_views`; every computation is a launch.

        gradients: what was delivered for each variable, if that can be a RowGradient in place of its view (`takes_rows`).
        """
        self._check_built()
        by_rows = {
            variable: gradient
            for variable, gradient in zip(self._trainable, gradients, strict=False)
            if isinstance(gradient, RowGradient)
        }
        runs = self._runs
        if by_rows:
            runs = self._buffers.runs([v for v in self._trainable if v not in by_rows], self._decays)
        for (variable, _), slot in self._slots.items():
            if variable not in by_rows:
                slot.settle()
        self._clip()
        self.before_runs()
        for run in runs:
            self.step(run)
        for variable, gradient in by_rows.items():
            self.step_rows(variable, gradient)
        if self.use_ema:
            how = (self._step, self.ema_momentum, self.ema_overwrite_frequency or 0)
            for run in self._runs:
                kernels.launch(kernels.moving_average, run.weights, run.slots[-1], *how)
        with tape.Recording(False):
            for variable in self._trainable:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        device.launch(device.add, self.iterations.data, 1, self.iterations.data)

    @property
    def _step(self) -> Array:
        return self.iterations.data.reshape(1)

    def _decay(self, run: Run) -> float:
        return float(self.weight_decay or 0.0) if run.decay else 0.0

    def _clip(self) -> None:
        if self.clipvalue:
            for run in self._runs:
                device.launch(kernels.clip, run.gradients, self.clipvalue)
        elif self.clipnorm:
            for gradient in self._gradients:
                self._limit_norm([gradient.reshape(-1)], self.clipnorm)
        elif self.global_clipnorm:
            self._limit_norm([run.gradients for run in self._runs], self.global_clipnorm)

    @staticmethod
    def _limit_norm(gradients: list[Array], limit: float) -> None:
        counts = [kernels.chunks(gradient.size) for gradient in gradients]
        sums, start = device.empty((sum(counts),), np.float64), 0
        for gradient, count in zip(gradients, counts, strict=True):
            kernels.launch(kernels.square_sums, gradient, sums[start : start + count])
            start += count
        for gradient in gradients:
            kernels.launch(kernels.limit_norm, gradient, sums, limit)

    def before_runs(self) -> None:
        """What a subclass does once per step, before its runs."""

    def step(self, run: Run) -> None:
        """Update one run; here by `update_step` for each of its variables, after weight decay."""
        rate = Tensor(self._rate.reshape(()))
        with tape.Recording(False):
            for variable in run.variables:
                if run.decay:
                    device.launch(kernels.shrink, variable.data, self._rate, self._decay(run))
                self.update_step(Tensor(self._buffers.gradient(variable)), variable, rate)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Keras's way to write an optimizer: `variable.assign(...)` something computed by ops."""
        raise NotImplementedError(
            f"{type(self).__name__} must define step(run) or update_step(gradient, variable, rate)"
        )

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Make a step with these gradients (tensors or arrays; None: leave that variable alone, with a warning)."""
        gradients = list(grads)
        if trainable_variables is None:
            self._check_built()
            variables = list(self._trainable)
        else:
            variables = list(trainable_variables)
        if len(gradients) != len(variables):
            raise ValueError(f"received {len(gradients)} gradients for {len(variables)} variables")
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None and np.shape(gradient) != variable.shape:
                raise ValueError(
                    f"the gradient of {variable.path!r} must have its shape {variable.shape}, "
                    f"received {np.shape(gradient)}"
                )
        if not self.built:
            self.build(variables)
        missing = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
        if len(missing) == len(variables):
            raise ValueError(f"no gradients were given for any variable: {missing}")
        if missing:
            warnings.warn(f"gradients are missing for variables {missing}: they stay as they are", stacklevel=2)
        with at_home(variables[0]):
            self.build([v for v, g in zip(variables, gradients, strict=True) if g is not None])
            given = (g for g in gradients if g is not None)
            for view, gradient in zip(self._gradients, given, strict=True):
                source = device.here(as_tensor(gradient, view.dtype).data)
                if device.address(source) != device.address(view):
                    device.launch(device.copy, source, view)
            self.prepare()
            self.update()

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Make a step with pairs of gradient and variable; returns the step count."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self.iterations

    def finalize_variable_values(self, variables: Iterable[Variable] | None = None) -> None:
        """With use_ema: overwrite the weights with their moving averages; Keras does so when `fit` ends."""
        if not self.use_ema:
            return
        self._check_built()
        for variable in self._trainable if variables is None else variables:
            average = self._buffers.slot(variable, len(self._slot_names))
            device.launch(device.copy, average, variable.data)

    # Saving

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make this optimizer again, without its state."""
        rate = schedules.serialize(self._schedule) if self._schedule is not None else float(self._learning_rate)
        values = {
            "name": self.name,
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
        }
        return {**values, "decay": self.decay} if self.decay else values

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """An optimizer from what `get_config` returned."""
        values = dict(config)
        if isinstance(values.get("learning_rate"), dict | str):
            values["learning_rate"] = schedules.get(values["learning_rate"])
        return cls(**values)

    def __repr__(self) -> str:
        rate = float(self._learning_rate) if self._schedule is None else self._schedule
        return f"<{type(self).__name__} learning_rate={rate} iterations={int(self.iterations)}>"
