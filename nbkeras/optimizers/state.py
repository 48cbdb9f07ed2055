"""State: an optimizer's variables, those that it trains and those that it keeps for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras import config, initializers
from nbkeras.kernels import device
from nbkeras.optimizers.buffers import Buffers, Run
from nbkeras.optimizers.settings import Settings
from nbkeras.optimizers.slots import Slot
from nbkeras.tensor import Variable, assign_all, at_home

Array = np.ndarray


class State(Settings):
    """Where gradients, slots and counters are, in Keras's order and under its names."""

    slots: Sequence[Sequence[str]] = ()  # names in groups; a group's variables are listed interleaved, as Keras does
    slot_values: Mapping[str, float] = {}  # what a slot starts with, unless it is 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.built = False
        self._trainable: list[Variable] = []
        self._runs: list[Run] = []  # of those, and their gradients
        self._gradients: list[Array] = []
        self._positions: dict[Variable, int] = {}
        self._slots: dict[tuple[Variable, str], Slot] = {}
        self._own: list[Variable] = []
        self._added: dict[tuple[Variable, str], Variable] = {}
        self._excluded: tuple[set[Variable], re.Pattern | None] = (set(), None)

    def exclude_from_weight_decay(self, var_list: Iterable[Variable] | None = None, var_names=None) -> None:
        """Leave these variables out of weight decay, and those in whose name one of the patterns is found; before `build`."""
        if self.built:
            raise ValueError("exclude_from_weight_decay must be called before the optimizer is built")
        pattern = re.compile("|".join(var_names)) if var_names else None
        self._excluded = (set(var_list or ()), pattern)

    def decay_of(self, variable: Variable) -> float:
        """A variable's weight decay."""
        variables, pattern = self._excluded
        excluded = variable in variables or (pattern is not None and pattern.search(variable.name) is not None)
        return 0.0 if excluded else float(self.weight_decay or 0.0)

    # -------------------- variables and their places --------------------

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
        if device.elsewhere(self._iterations.data):
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
        self._choose(variables)

    def _choose(self, variables: Sequence[Variable]) -> None:
        """Update these variables alone from now on; all must be among those that `build` was called for."""
        if [id(v) for v in variables] == [id(v) for v in self._trainable]:
            return
        unknown = [v.path for v in variables if v not in self._positions]
        if unknown:
            raise ValueError(
                f"this {type(self).__name__} was built for other variables and does not know {unknown}: make a new "
                "optimizer for each model or list of variables, "
                f"e.g. {type(self).__name__}.from_config(optimizer.get_config())"
            )
        self._trainable = list(variables)
        self._runs = self._buffers.runs(self._trainable, self.decay_of)
        self._gradients = [self._buffers.gradient(v) for v in self._trainable]

    def _make_slots(self, variables: list[Variable], groups: Sequence[Sequence[str]]) -> dict:
        made = {}
        for group in groups:
            for variable in variables:
                for name in group:
                    view = self._buffers.slot(variable, self._slot_names.index(name))
                    made[variable, name] = Slot(view, self._name_of(variable, name))
        return made

    @staticmethod
    def _name_of(variable: Variable, name: str) -> str:
        return f"{variable.path.replace('/', '_')}_{name}"

    def slot(self, run: Run, name: str) -> Array:
        """A run's array of the slot of that name; an empty one where this optimizer does without it."""
        return run.slots[self._slot_names.index(name)] if name in self._slot_names else run.gradients[:0]

    def average(self, variable: Variable) -> Variable:
        """With use_ema: the moving average of a variable's values."""
        return self._slots[variable, "average"]

    def add_variable(
        self, shape, initializer: Any = "zeros", dtype=None, aggregation="none", layout=None, name: str | None = None
    ) -> Variable:
        """A state variable of its own, saved after the slots; aggregation and layout have no meaning here."""
        dtype = np.dtype(np.int64 if dtype == "int" else dtype or config.floatx())
        value = np.asarray(initializers.get(initializer)(tuple(shape), dtype=dtype.name))  # type: ignore[misc]
        self._own.append(Variable(value, name=name or f"variable_{len(self._own)}", trainable=False, dtype=dtype))
        return self._own[-1]

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """A state variable shaped like a trainable one, for an `update_step`; the same again if called again."""
        key = (reference_variable, name or "var")
        if key not in self._added:
            full_name = self._name_of(*key)
            like = reference_variable
            self._added[key] = self.add_variable(like.shape, initializer, like.dtype, name=full_name)
        return self._added[key]

    def add_optimizer_variables(self, trainable_variables, name: Any, initializer: Any = "zeros") -> Any:
        """A list of state variables, one for each trainable one; of several names, a tuple of such lists."""
        names = [name] if isinstance(name, str) else list(name)
        initial = list(initializer) if isinstance(initializer, list | tuple) else [initializer] * len(names)
        if len(initial) != len(names):
            raise ValueError(f"there must be an initializer for each name, received {initializer!r} for {names}")
        made = [
            [self.add_variable_from_reference(v, *pair) for pair in zip(names, initial, strict=True)]
            for v in trainable_variables
        ]
        lists = tuple([row[i] for row in made] for i in range(len(names)))
        return lists[0] if isinstance(name, str) else lists

    def _get_variable_index(self, variable: Variable) -> int:
        """A trainable variable's place in what `build` was called for; under this name in Keras's guides."""
        return self._positions[variable]

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
        """All state, in Keras's order: step count, learning rate (unless it follows a schedule), slots, others."""
        rate = [self._learning_rate] if self._schedule is None else []
        return [self._iterations, *rate, *self._slots.values(), *self._own]

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
        assign_all(zip(own, arrays, strict=True))

    def save_own_variables(self, store: Any) -> None:
        """Put all state into a mapping, under the numbers of `variables`."""
        for number, variable in enumerate(self.variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Write all state from what `save_own_variables` put into a mapping."""
        self.set_weights([store[str(number)] for number in range(len(store))])

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(f"{type(self).__name__} is not built yet: call build(variables) first")
