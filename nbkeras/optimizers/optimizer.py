"""Optimizer, the base of all: gradients computed, scaled, added up and clipped; weight decay, averages, constraints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nbkeras import ops, tape
from nbkeras.kernels import device, gradients
from nbkeras.kernels import optimizers as kernels
from nbkeras.kernels.embedding import RowGradient
from nbkeras.mistakes import warn
from nbkeras.optimizers.buffers import Run
from nbkeras.optimizers.state import State
from nbkeras.tensor import GradientTape, Tensor, Variable, as_tensor, assign_all, at_home, gradient

Array = np.ndarray


class Optimizer(State):
    """Base of optimizers: writes better values into variables, in place, given their gradients.

    learning_rate: a number, a schedule (called with the count of steps made), or a function without
    arguments. weight_decay: w -= w * weight_decay * learning_rate before each step. One of clipnorm (limit of each
    variable's gradient norm), global_clipnorm (of the norm over all), clipvalue (of each element). use_ema: keep moving
    averages of the weights with momentum ema_momentum, and overwrite the weights with them every
    ema_overwrite_frequency steps. loss_scale_factor: `scale_loss` multiplies by it, and gradients are divided by it.
    gradient_accumulation_steps: only every so many batches the weights are updated, by the mean of the gradients since.
    decay (Keras 2): divide the learning rate by 1 + decay * steps made.

    A training step calls `learn(loss, variables)`, which a Program records. With gradients of your own:
    `apply_gradients(zip(gradients, variables))`.

    A subclass names its `slots` (state arrays of each variable) and writes `step(run)`, one kernel over flat arrays; or
    it writes Keras's `update_step(gradient, variable, learning_rate)`, and makes its own variables in `build`. With
    `rows_suffice` and `step_rows` it may update a table only where its gradient is not 0.
    """

    @property
    def takes_rows(self) -> list[bool]:
        """Whether `update` takes a RowGradient for each variable: it does where that is exact.

        A subclass may do more with gradients than its base, so it must have a `step_rows` of its own.
        """
        touched = self.clipvalue or self.clipnorm or self.global_clipnorm or self.use_ema
        touched = touched or self.gradient_accumulation_steps or self.loss_scale_factor is not None
        whole = touched or "step_rows" not in vars(type(self))
        return [
            not (whole or v.constraint is not None or self.decay_of(v)) and self.rows_suffice(v)
            for v in self._trainable
        ]

    def rows_suffice(self, variable: Variable) -> bool:
        """Whether `step_rows`, as the optimizer is set up, does exactly what `step` does."""
        return False

    def step_rows(self, variable: Variable, gradient: RowGradient) -> None:
        """Update a variable whose gradient is 0 in most rows."""
        raise NotImplementedError(f"{type(self).__name__} updates whole variables only")

    # -------------------- a step --------------------

    def learn(self, loss: Tensor, variables: Iterable[Variable]) -> None:
        """Make a step that lessens a loss, which was computed while `tape.Recording` (or a GradientTape) was on.

        Variables that the loss does not depend on stay as they are, with a warning; ValueError if it depends on none.
        """
        variables = list(variables)
        if not self.built:
            self.build(variables)
        with tape.Recording():
            scaled = self.scale_loss(loss)
        reached = _reached(scaled, variables)
        with at_home(reached[0]):
            self._choose(reached)
            self.update(gradient([scaled], reached, into=self.gradient_views, as_is=self.takes_rows))

    def update(self, gradients_: Sequence[Any] = ()) -> None:
        """Make a step with the gradients in `gradient_views`; every computation is a launch.

        gradients_: those that were delivered for each variable, if one can be a RowGradient in place of its view (`takes_rows`).
        """
        self._check_built()
        self._set_rate()
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
                kernels.launch(gradients.accumulate, run.gradients, total, self._due, every)
            with device.only_if(self._due):
                self._update_weights(by_rows)
        else:
            self._update_weights(by_rows)
        if self.use_ema:
            how = (self._step, self.ema_momentum, self.ema_overwrite_frequency or 0)
            for run in self._runs:
                kernels.launch(kernels.moving_average, run.weights, self.slot(run, "average"), *how)
        with tape.Recording(False):
            for variable in self._trainable:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        device.launch(device.add, self._iterations.data, 1, self._iterations.data)

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

    @property
    def _batches(self) -> Array:
        return self._iterations.data.reshape(1)

    @property
    def _step(self) -> Array:
        """int64 (1,): how many steps were made before."""
        return self._updates if self.gradient_accumulation_steps else self._batches

    def unscale(self, scale: Array) -> None:
        """Divide the gradients by scale[0]."""
        for run in self._runs:
            kernels.launch(gradients.unscale, run.gradients, scale)

    def _clip(self) -> None:
        if self.clipvalue:
            for run in self._runs:
                device.launch(gradients.clip, run.gradients, self.clipvalue)
        elif self.clipnorm:
            for view in self._gradients:
                self._limit_norm([view.reshape(-1)], self.clipnorm)
        elif self.global_clipnorm:
            self._limit_norm([run.gradients for run in self._runs], self.global_clipnorm)

    @staticmethod
    def _square_sums(parts: list[Array]) -> Array:
        counts = [gradients.chunks(part.size) for part in parts]
        sums, start = device.empty((sum(counts),), np.float64), 0
        for part, count in zip(parts, counts, strict=True):
            kernels.launch(gradients.square_sums, part, sums[start : start + count])
            start += count
        return sums

    @classmethod
    def _limit_norm(cls, parts: list[Array], limit: float) -> None:
        sums = cls._square_sums(parts)
        for part in parts:
            kernels.launch(gradients.limit_norm, part, sums, limit)

    def before_runs(self) -> None:
        """What a subclass does once per step, before its runs."""

    def step(self, run: Run) -> None:
        """Update one run; here by `update_step` for each of its variables, after weight decay."""
        rate = Tensor(self._rate.reshape(()))
        with tape.Recording(False):
            for variable in run.variables:
                if run.decay:
                    device.launch(kernels.shrink, variable.data, self._rate, run.decay)
                self.update_step(Tensor(self._buffers.gradient(variable)), variable, rate)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Keras's way to write an optimizer: `variable.assign(...)` something computed by ops."""
        raise NotImplementedError(
            f"{type(self).__name__} must define step(run) or update_step(gradient, variable, rate)"
        )

    def assign(self, variable: Variable, value: Any) -> None:
        """`variable.assign(value)`, as an `update_step` of Keras writes it."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """`variable.assign_add(value)`."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """`variable.assign_sub(value)`."""
        variable.assign_sub(value)

    # -------------------- by hand --------------------

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss to compute gradients of, given the loss: multiplied by loss_scale_factor if there is one."""
        return loss if self.loss_scale_factor is None else ops.multiply(loss, float(self.loss_scale_factor))

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Make a step with these gradients (tensors or arrays; None: leave that variable alone, with a warning)."""
        given = list(grads)
        if trainable_variables is None:
            self._check_built()
            variables = list(self._positions)
        else:
            variables = list(trainable_variables)
        if len(given) != len(variables):
            raise ValueError(f"received {len(given)} gradients for {len(variables)} variables")
        if not given:
            return
        for each, variable in zip(given, variables, strict=True):
            if each is not None and np.shape(each) != variable.shape:
                raise ValueError(
                    f"the gradient of {variable.path!r} must have its shape {variable.shape}, received {np.shape(each)}"
                )
        if not self.built:
            self.build(variables)
        missing = [v.path for v, g in zip(variables, given, strict=True) if g is None]
        if len(missing) == len(variables):
            raise ValueError(f"no gradients were given for any variable: {missing}")
        if missing:
            warn(f"gradients are missing for variables {missing}: they stay as they are")
        with at_home(variables[0]):
            self._choose([v for v, g in zip(variables, given, strict=True) if g is not None])
            for view, each in zip(self.gradient_views, (g for g in given if g is not None), strict=True):
                source = device.here(as_tensor(each, view.dtype).data)
                if device.address(source) != device.address(view):
                    device.launch(device.copy, source, view)
            self.update()

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Tensor:
        """Make a step with pairs of gradient and variable; returns the step count."""
        pairs = list(grads_and_vars)
        self.apply([each for each, _ in pairs], [variable for _, variable in pairs])
        return self.iterations

    def minimize(self, loss: Any, var_list: Any, tape: GradientTape | None = None) -> Tensor:
        """Make a step that lessens `loss`: a function without arguments, or a tensor that was computed under `tape`."""
        if tape is None and not callable(loss):
            raise ValueError(
                "minimize needs a function that computes the loss, or the tape under which it was computed"
            )
        if tape is None:
            with GradientTape() as tape:
                loss = self.scale_loss(loss())
        elif self.loss_scale_factor is not None:
            raise ValueError("minimize(tape=...) cannot scale the loss: pass a function in place of the loss")
        variables = list(var_list() if callable(var_list) else var_list)
        return self.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Iterable[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """(trainable variables, optimizer variables) as a step leaves them, given values in place of their own."""
        self._check_built()
        trained = list(self._positions)
        own, given = [*trained, *self.variables], [*trainable_variables, *optimizer_variables]
        if len(trainable_variables) != len(trained) or len(given) != len(own):
            raise ValueError(
                f"stateless_apply needs values of {len(trained)} trainable and {len(own) - len(trained)} optimizer "
                f"variables, received {len(trainable_variables)} and {len(optimizer_variables)}"
            )
        before = [variable.numpy() for variable in own]
        try:
            for variable, value in zip(own, given, strict=True):
                variable.assign(value)
            self.apply(grads)
            after = [as_tensor(variable.numpy()) for variable in own]
        finally:
            for variable, value in zip(own, before, strict=True):
                variable.assign(value)
        return after[: len(trained)], after[len(trained) :]

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        """With use_ema: overwrite the weights with their moving averages; Keras does so when `fit` ends."""
        if not self.use_ema:
            return
        self._check_built()
        assign_all(
            (variable, self.average(variable)) for variable in (self._trainable if var_list is None else var_list)
        )


def _reached(loss: Tensor, variables: list[Variable]) -> list[Variable]:
    """The variables that a loss depends on; a warning names the others."""
    targets = [] if loss.record is None else [(loss.record, loss.index)]
    missing = set(tape.unreached(targets, [(v.record, v.index) for v in variables]))  # type: ignore[misc]
    if len(missing) == len(variables):
        raise ValueError(
            f"the loss has no gradient for any of the variables {[v.path for v in variables]}: is there an op without gradient "
            "on the way (argmax, a comparison, a cast to integers), or a value that was computed outside nbkeras.ops?"
        )
    if missing:
        names = [variables[i].path for i in sorted(missing)]
        warn(f"gradients do not exist for variables {names}: they stay as they are")
    return [v for i, v in enumerate(variables) if i not in missing]
