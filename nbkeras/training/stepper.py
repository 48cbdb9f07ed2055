"""Floor 3: Stepper, the part of a model that takes one step: compile, losses, metrics, and what a step computes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras import optimizers
from nbkeras.building.call_history import OverridableProperty
from nbkeras.building.layer import Layer, training_phase
from nbkeras.data.batches import Batch, pack_x_y_sample_weight
from nbkeras.engine import structures, tape, tensor
from nbkeras.engine.observed import Observed, names_in_methods, observe
from nbkeras.engine.program import ProgramCache
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn
from nbkeras.training.compiled import Objectives
from nbkeras.training.feeding import Layout

Array = np.ndarray


class Stepper(Layer, registered=False):
    """What `Trainer` loops over. `train_step`, `test_step`, `predict_step`, `compute_loss` may be overridden."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.optimizer: Any = None
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # set by callbacks, seen after a batch
        self.initial_epoch = 0  # where `fit` starts; BackupAndRestore sets it
        self.run_eagerly = False
        self.jit_compile = True
        self.steps_per_execution = 1
        self._in_own_step = False
        self._objectives: Objectives | None = None
        self.compile_arguments: dict[str, Any] = {}
        self._compiled_weights: tuple[list[tensor.Variable], list[tensor.Variable]] = ([], [])  # all, those to train
        self._reset_steps()

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """Those in methods that the user wrote; our own read what belongs to the loop, or changes with `compile`."""
        return names_in_methods(*(base for base in cls.__mro__[:-1] if not base.__module__.startswith("nbkeras.")))

    # -------------------- what a model tells its steps --------------------

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs; empty while they are not known."""
        raise NotImplementedError

    def _set_output_names(self, outputs: Any) -> None:
        """Name the outputs after their structure."""
        raise NotImplementedError

    # -------------------- compile --------------------

    @tensor.on_own_device
    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        **kwargs,
    ) -> None:
        """Say how to learn.

        optimizer: name, object or config, None for a train_step with others of its own. loss: name, object or
        function(y_true, y_pred), one for all outputs, a list, or a dict by output name; likewise loss_weights (numbers),
        metrics and weighted_metrics (lists of names, functions or objects). run_eagerly: never record, so that Python can
        look at values in every step. steps_per_execution, jit_compile and auto_scale_loss are accepted and without meaning
        here.
        """
        for key in kwargs:
            raise TypeError(f"compile got an unexpected argument {key!r}.{nearest(key, _COMPILE)}")
        if isinstance(metrics, str) or isinstance(weighted_metrics, str):
            raise TypeError(
                f"metrics must be a list, such as metrics=['accuracy'], received {metrics or weighted_metrics!r}"
            )
        self.compile_arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "metrics": metrics,
            "loss_weights": loss_weights,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
        }
        new_optimizer = optimizers.get(optimizer)
        objectives = Objectives(loss, loss_weights, metrics, weighted_metrics)
        names = self.output_names
        if names:
            objectives.resolve(names)
        self.optimizer, self._objectives = new_optimizer, objectives
        self.run_eagerly, self.jit_compile = bool(run_eagerly), bool(jit_compile)
        self.steps_per_execution = steps_per_execution
        self.stop_training = False
        self._compiled_weights = ([], [])
        self._weights_to_train()
        self._reset_steps()

    def _weights_to_train(self) -> list[tensor.Variable]:
        """What was trainable when the model was compiled (or got its weights): freezing takes effect at the next compile."""
        weights = self.weights
        if list(map(id, weights)) != list(map(id, self._compiled_weights[0])):
            self._compiled_weights = (weights, self.trainable_weights)
        return self._compiled_weights[1]

    def _reset_steps(self, trained: tuple = ()) -> None:
        self._steps: dict[str, ProgramCache] = {}
        self._known_inputs: dict[tuple, Layout] = {}  # of predict: see Trainer._remember_inputs
        self._trained = trained

    @OverridableProperty
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._objectives is not None

    @OverridableProperty
    def loss(self) -> Any:
        """The loss as given to `compile`."""
        return None if self._objectives is None else self._objectives.loss_spec

    @property
    def metrics(self) -> list:
        """The metric objects: the loss's mean first, then those of compile, then those set as attributes.

        In a train_step or test_step of your own those of compile are one object, called as `update_state(y, y_pred)`.
        """
        own = super().metrics
        if self._objectives is None:
            return list(dict.fromkeys(own))
        compiled = self._objectives.grouped() if self._in_own_step else [m for _, m in self._objectives.named()]
        return list(dict.fromkeys([*compiled, *own]))

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, 'loss' first; complete after the first batch."""
        if self._overrides("metrics"):
            return [metric.name for metric in self.metrics]
        return [] if self._objectives is None else [name for name, _ in self._objectives.named()]

    @tensor.on_own_device
    def reset_metrics(self) -> None:
        """Set all metrics back to the start."""
        for metric in self.metrics:
            metric.reset_state()

    @tensor.on_own_device
    def get_metrics_result(self) -> dict[str, Any]:
        """Current values of the metrics by name, as tensors; a metric whose result is a dict gives several, by its keys."""
        if self._overrides("metrics") or self._objectives is None:  # the user says which there are
            named = [(metric.name, metric) for metric in self.metrics]
        else:
            named = self._objectives.named()
            known = {id(metric) for _, metric in named}
            named = [*named, *((metric.name, metric) for metric in self.metrics if id(metric) not in known)]
        return _tensors({name: metric.result() for name, metric in named}, "get_metrics_result")

    def _check_compiled(self, what: str) -> Objectives:
        if self._objectives is None:
            raise RuntimeError(
                f"you must compile the model before {what}: call model.compile(optimizer=..., loss=..., metrics=[...])"
            )
        return self._objectives

    # -------------------- one step --------------------

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """The scalar that training minimises; by default the losses of `compile` and what layers added."""
        objectives = self._check_compiled("training")
        if not self.output_names and y_pred is not None:  # without a `call`: a step of one's own makes the outputs
            self._set_output_names(y_pred)
            objectives.resolve(self.output_names)
        outputs = structures.flatten(y_pred)
        targets = self._target_list(y, outputs)
        weights = _weight_list(sample_weight, outputs)
        return objectives.compute_loss(targets, outputs, weights, self.losses)

    def _target_list(self, y: Any, outputs: list) -> list:
        """A target or None for each output."""
        if isinstance(y, dict):
            return [y.get(name) for name in self.output_names]
        return (y if isinstance(y, list) else structures.flatten(y)) or [None] * len(outputs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Add a batch to the metrics of `compile` and return all results by name."""
        self._update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def _track(self, loss: Tensor, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
        """Add a batch to the loss's mean and to the metrics; returns the logs of a compute_metrics that the user wrote."""
        size = float(next(leaf for leaf in structures.flatten(x) if leaf is not None).shape[0])
        self._check_compiled("training").loss_tracker.update_state(loss, sample_weight=size)
        if self._overrides("compute_metrics"):
            return _tensors(self.compute_metrics(x, y, y_pred, sample_weight), "compute_metrics")
        self._update_metrics(y, y_pred, sample_weight)
        return {}

    def _update_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        outputs = structures.flatten(y_pred)
        weights = _weight_list(sample_weight, outputs)
        self._check_compiled("metrics").update_metrics(self._target_list(y, outputs), outputs, weights)

    @contextlib.contextmanager
    def _prepared(self, kind: str) -> Iterator[None]:
        """Optimizers know in a training step that the loop prepares each one."""
        used = self._optimizers_in_use() if kind == "train" else []
        for optimizer in used:
            optimizer.prepared = True
        try:
            yield
        finally:
            for optimizer in used:
                optimizer.prepared = False

    def _optimizers_in_use(self) -> list[Any]:
        """The optimizer of `compile`, and those in attributes or lists there, with which a train_step of the user's own works."""
        others = [each for each in self._held(optimizers.Optimizer) if each is not self.optimizer]
        return [*([] if self.optimizer is None else [self.optimizer]), *others]

    def train_step(self, data: tuple) -> dict[str, Any]:
        """Learn from one batch, (x, y) or (x, y, sample_weight); returns logs by name. Override for a loop of your own."""
        x, y, sample_weight = (*data, None, None)[:3]
        return self._learn(x, y, sample_weight) or self.get_metrics_result()

    def test_step(self, data: tuple) -> dict[str, Any]:
        """Measure one batch; returns logs by name."""
        x, y, sample_weight = (*data, None, None)[:3]
        return self._measure(x, y, sample_weight) or self.get_metrics_result()

    def predict_step(self, data: Any) -> Any:
        """Outputs for one batch of inputs."""
        x = data[0] if isinstance(data, tuple) else data
        return self(x, training=False) if "training" in self._call_takes else self(x)

    def _learn(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        variables = self._trained
        with tape.Recording():
            y_pred = self(x, training=True) if "training" in self._call_takes else self(x)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        logs = self._track(loss, x, y, y_pred, sample_weight)
        del y_pred
        self.clear_losses()
        if not variables:
            return logs
        optimizer = self.optimizer
        reached = self._with_gradients(scaled, variables)
        optimizer.choose(reached)
        gradients = tensor.gradient([scaled], reached, into=optimizer.gradient_views, as_is=optimizer.takes_rows)
        optimizer.update(gradients)
        return logs

    def _with_gradients(self, loss: Tensor, variables: tuple) -> list[tensor.Variable]:
        """The variables that the loss depends on: others stay as they are, with a warning."""
        targets = [] if loss.record is None else [(loss.record, loss.index)]
        missing = set(tape.unreached(targets, [(v.record, v.index) for v in variables]))
        if variables and len(missing) == len(variables):
            raise ValueError(
                f"the loss of model {self.name!r} has no gradient for any of its variables: is there an op without gradient "
                "on the way (argmax, a comparison, a cast to integers), or a value that was computed outside nbkeras.ops?"
            )
        if missing:
            names = [variables[i].path for i in sorted(missing)]
            warn(f"gradients do not exist for variables {names}: they stay as they are")
        return [v for i, v in enumerate(variables) if i not in missing]

    def _measure(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        y_pred = self(x, training=False) if "training" in self._call_takes else self(x)
        loss = self._loss_of(x, y, y_pred, sample_weight, training=False)
        logs = self._track(loss, x, y, y_pred, sample_weight)
        self.clear_losses()
        return logs

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """`compute_loss`, told of the phase if it wants to know: one that a user wrote for Keras 2 does not."""
        takes = inspect.signature(self.compute_loss).parameters.values()
        asks = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in takes)
        return self.compute_loss(x, y, y_pred, sample_weight, **({"training": training} if asks else {}))

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Stepper, name)

    def _step_function(self, kind: str) -> Callable:
        """function(arrays, layout) -> (output arrays, their structure) for `ProgramCache`: what a step of that kind computes."""

        def run(arrays: list[Array | None], layout: Layout) -> tuple[list[Array], Any]:
            x, y, weights = layout.unpack([None if a is None else Tensor(a) for a in arrays])
            with (
                training_phase(kind == "train"),
                _thawed(self._trained if kind == "train" else ()),
                self._prepared(kind),
            ):
                if kind == "predict":
                    outputs = self.predict_step(pack_x_y_sample_weight(x))
                elif not self._overrides(f"{kind}_step"):
                    if self._overrides("compute_loss") or self._overrides("compute_metrics"):
                        y, weights = self._as_passed(y, layout), weights[0] if len(weights) == 1 else weights
                    # without logs, the metrics hold the results; they are computed when somebody looks
                    outputs = (self._learn if kind == "train" else self._measure)(x, y, weights)
                else:
                    outputs = self._own_step(kind, x, y, weights, layout)
            if tensor.is_step_recorded():
                observe(self._observed_parts())
            structure = structures.map_leaves(lambda _: 0, outputs)
            return [leaf.data for leaf in structures.flatten(outputs)], structure

        return run

    def _observed_parts(self) -> Iterator[Any]:
        """The objects whose attributes a step may have read."""
        for layer in self._all_layers():
            yield layer
            yield from layer._held(Observed)
        if self._objectives is not None:
            yield from self._objectives.losses
            yield from (metric for _, metric in self._objectives.named())

    def _own_step(self, kind: str, x: Any, y: list, weights: list, layout: Layout) -> dict[str, Any]:
        """A step the user wrote: it gets what the user passed to fit, and returns logs."""
        self._in_own_step = True
        try:
            return self._packed_step(
                self.train_step if kind == "train" else self.test_step, kind, x, y, weights, layout
            )
        finally:
            self._in_own_step = False

    def _packed_step(self, step: Callable, kind: str, x: Any, y: list, weights: list, layout: Layout) -> dict[str, Any]:
        packed = self._as_passed(y, layout) if any(t is not None for t in y) else None
        if any(w is not None for w in weights):
            batch = (x, packed, weights[0] if len(weights) == 1 else weights)
        else:
            batch = pack_x_y_sample_weight(x, packed)
        return _tensors(step(batch), f"{kind}_step")

    def _as_passed(self, y: list, layout: Layout) -> Any:
        """Targets in the structure in which the user passed them."""
        if isinstance(layout.y, dict):
            return dict(zip(self.output_names, y, strict=True))
        return structures.pack(layout.y, y) if layout.targets else None

    def _run_step(self, kind: str, batch: Batch, layout: Layout) -> Any:
        """Run a step and return copies of its outputs: a prediction, or the logs of a step that the user wrote."""
        if self._gpu is not tensor.gpu():
            with tensor.on_gpu(self._gpu):
                return self._run_step(kind, batch, layout)
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = ProgramCache(kind, self._step_function(kind), _where_read)
        return steps.run(layout.key, batch, layout, _copied, self.run_eagerly)


@contextlib.contextmanager
def _thawed(variables: tuple) -> Iterator[None]:
    """Variables get gradients, though their layer was frozen since the model was compiled."""
    frozen = [variable for variable in variables if not variable.trainable]
    for variable in frozen:
        variable.trainable = True
    try:
        yield
    finally:
        for variable in frozen:
            variable.trainable = False


def _weight_list(sample_weight: Any, outputs: list) -> list:
    """Sample weights or None for each output."""
    if isinstance(sample_weight, list):
        return sample_weight or [None] * len(outputs)
    return [sample_weight] * len(outputs)


def _tensors(logs: Any, what: str) -> dict[str, Tensor]:
    """Logs that the user's code returned, as tensors."""
    if not isinstance(logs, dict):
        raise TypeError(f"{what} must return a dict of logs by name, received {type(logs).__name__}")
    flat: dict[str, Tensor] = {}
    for name, value in logs.items():
        flat.update(_tensors(value, what) if isinstance(value, dict) else {name: tensor.as_tensor(value)})
    return flat


def _copied(arrays: list[Array], structure: Any) -> Any:
    return structures.pack(structure, [array.copy() for array in arrays])


def _where_read() -> str:
    names = tensor.layer_stack.names
    return f"layer {names[-1]!r} read a tensor's value" if names else "a tensor's value was read"


_COMPILE = ("optimizer", "loss", "metrics", "loss_weights", "weighted_metrics", "run_eagerly")
