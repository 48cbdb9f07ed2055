"""Settings: an optimizer's arguments, and its learning rate from step to step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import naming
from nbkeras.kernels import device
from nbkeras.observed import Observed
from nbkeras.optimizers import schedules
from nbkeras.registry import nearest
from nbkeras.tensor import Tensor, Variable, before_replays, outside_program


class Settings(Observed):
    """The arguments that all optimizers share, checked; `Optimizer` says what they mean."""

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The arguments of `__init__`; all else that changes is state in arrays, or belongs to the loop."""
        return frozenset(name for base in cls.__mro__ for name in inspect.signature(base).parameters)

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
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        decay: float | None = None,
        **unknown,
    ):
        kind = type(self).__name__
        for key in unknown:
            known = {*inspect.signature(type(self)).parameters, *inspect.signature(Settings).parameters}
            known -= {"unknown", "kwargs"}
            raise TypeError(f"{kind} got an unexpected argument {key!r}.{nearest(key, known)} Known: {sorted(known)}")
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        if sum(limit is not None for limit in limits.values()) > 1:
            raise ValueError(
                f"{kind}: give at most one of clipnorm, clipvalue and global_clipnorm, received "
                + ", ".join(f"{key}={value}" for key, value in limits.items())
            )
        for key, value in {**limits, "weight_decay": weight_decay, "decay": decay}.items():
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"{kind}: {key} must be a number >= 0 or None, received {value!r}")
        self.check_fraction(ema_momentum=ema_momentum)
        self._check_count("ema_overwrite_frequency", ema_overwrite_frequency, 1)
        self._check_count("gradient_accumulation_steps", gradient_accumulation_steps, 2)
        self.name = name or naming.snake_case(kind)
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.decay = decay or 0.0
        self._iterations = Variable(0, dtype="int64", name="iteration", trainable=False)
        self._learning_rate = Variable(0, dtype="float64", name="learning_rate", trainable=False)
        self._schedule: Callable | None = None
        # what kernels read: the learning rate itself, or what _follow_steps makes of it
        self._rate = device.persistent(np.zeros(1)) if decay else self._learning_rate.data.reshape(1)
        self._set_learning_rate(learning_rate)

    def check_fraction(self, **values: float) -> None:
        """Raise unless each value is a number from 0 to 1."""
        for key, value in values.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{type(self).__name__}: {key} must be a number from 0 to 1, received {value!r}")

    def _check_count(self, key: str, value: Any, least: int) -> None:
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{type(self).__name__}: {key} must be an integer >= {least} or None, received {value!r}")

    # -------------------- the learning rate --------------------

    @property
    def iterations(self) -> Tensor:
        """How many steps were made; of batches whose gradients are added up, those that changed the weights."""
        if self.gradient_accumulation_steps:
            return Tensor(device.persistent(np.array(int(self._iterations) // self.gradient_accumulation_steps)))
        return self._iterations

    @property
    def learning_rate(self) -> Variable:
        """The learning rate as a Variable (`float(...)` reads it); with a schedule, its value for the next step."""
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

    def _set_rate(self) -> None:
        """Set the learning rate for a step, and again before each replay of that step, where it follows the step count."""
        if self._schedule is not None or self.decay:
            before_replays(self._follow_steps)

    def _follow_steps(self) -> None:
        """Work out the next step's learning rate from the step count."""
        if self._schedule is not None:
            steps = (int(self._iterations),) if isinstance(self._schedule, schedules.LearningRateSchedule) else ()
            with outside_program():
                device.write(self._rate, float(self._schedule(*steps)))
        elif self.decay:
            device.write(self._rate, float(self._learning_rate) / (1.0 + self.decay * float(self._iterations)))

    def _move_here(self) -> None:
        """Take the step count and the learning rate to the device that the variables are on."""
        for variable in (self._iterations, self._learning_rate):
            variable.data = device.here(variable.data)
        self._rate = device.persistent(np.zeros(1)) if self.decay else self._learning_rate.data.reshape(1)

    # -------------------- saving --------------------

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
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
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
