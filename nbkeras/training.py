"""Floor 3: Trainer, the part of a model that learns: compile, fit, evaluate, predict, over one loop and one kind of step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras import data, nest, optimizers, tape, tensor
from nbkeras.callback_list import CallbackList
from nbkeras.data import ArraySource, Batch, StreamSource
from nbkeras.feeding import Layout, prepare_targets, prepare_weights, weigh_classes
from nbkeras.layer import Layer, training_phase
from nbkeras.objectives import Objectives
from nbkeras.program import Steps
from nbkeras.registry import nearest
from nbkeras.tensor import Tensor

Array = np.ndarray


class Trainer(Layer):
    """What `Model` inherits to learn. `train_step`, `test_step`, `predict_step` and `compute_loss` may be overridden."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.optimizer: Any = None
        self.stop_training = False
        self.run_eagerly = False
        self._objectives: Objectives | None = None
        self.compile_arguments: dict[str, Any] = {}
        self._reset_steps()

    # -------------------- what a model tells its trainer --------------------

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs; empty while they are not known."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        """Whether weights and output names exist."""
        raise NotImplementedError

    def _set_output_names(self, outputs: Any) -> None:
        """Name the outputs after their structure."""
        raise NotImplementedError

    def _output_units(self) -> list[int | None]:
        """Size of the last axis of each output, where it is known."""
        raise NotImplementedError

    def _fixed_batch_size(self) -> int | None:
        """The batch size that the inputs were described with, or None."""
        raise NotImplementedError

    def _prepare_inputs(self, x: Any) -> tuple[Any, list[Array]]:
        """(structure, arrays) of what the user passed as x."""
        raise NotImplementedError

    # -------------------- compile --------------------

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        run_eagerly=False,
        **kwargs,
    ) -> None:
        """Say how to learn.

        optimizer: name, object or config. loss: name, object or function(y_true, y_pred), one for all outputs, a list, or a
        dict by output name; likewise loss_weights (numbers), metrics and weighted_metrics (lists of names, functions or
        objects). run_eagerly: never record, so that Python can look at values in every step.
        """
        _check_compile_arguments(self, kwargs)
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
        }
        new_optimizer = optimizers.get(optimizer)
        objectives = Objectives(loss, loss_weights, metrics, weighted_metrics)
        names = self.output_names
        if names:
            objectives.resolve(names)
        self.optimizer, self._objectives = new_optimizer, objectives
        self.run_eagerly = bool(run_eagerly)
        self.stop_training = False
        self._reset_steps()

    def _reset_steps(self) -> None:
        self._steps: dict[str, Steps] = {}
        self._trained: tuple = ()

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._objectives is not None

    @property
    def loss(self) -> Any:
        """The loss as given to `compile`."""
        return None if self._objectives is None else self._objectives.loss_spec

    @property
    def metrics(self) -> list:
        """The metric objects: the loss's mean first, then those of compile, then those set as attributes."""
        own = [m for layer in self.all_layers() for m in vars(layer).values() if hasattr(m, "update_state")]
        compiled = [] if self._objectives is None else [metric for _, metric in self._objectives.named()]
        return list(dict.fromkeys([*compiled, *own]))

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, 'loss' first; complete after the first batch."""
        if self._overrides("metrics"):
            return [metric.name for metric in self.metrics]
        return [] if self._objectives is None else [name for name, _ in self._objectives.named()]

    def reset_metrics(self) -> None:
        """Set all metrics back to the start."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """Current values of the metrics by name, as tensors."""
        results: dict[str, Any] = {}
        if self._overrides("metrics"):  # the user says which there are
            return {metric.name: metric.result() for metric in self.metrics}
        if self._objectives is not None:
            results = {name: metric.result() for name, metric in self._objectives.named()}
            known = {id(metric) for _, metric in self._objectives.named()}
        else:
            known = set()
        for metric in self.metrics:
            if id(metric) not in known:
                results[metric.name] = metric.result()
        return results

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
        outputs = nest.flatten(y_pred)
        targets = self._target_list(y, outputs)
        weights = _weight_list(sample_weight, outputs)
        return objectives.compute_loss(targets, outputs, weights, self.losses)

    def _target_list(self, y: Any, outputs: list) -> list:
        """A target or None for each output."""
        if isinstance(y, dict):
            return [y.get(name) for name in self.output_names]
        return (y if isinstance(y, list) else nest.flatten(y)) or [None] * len(outputs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Add a batch to the metrics of `compile` and return all results by name."""
        self._update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def _track(self, loss: Tensor, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
        """Add a batch to the loss's mean and to the metrics; returns the logs of a compute_metrics that the user wrote."""
        outputs = nest.flatten(y_pred)
        size = float(outputs[0].shape[0]) if outputs and outputs[0].ndim else 1.0
        self._check_compiled("training").loss_tracker.update_state(loss, sample_weight=size)
        if self._overrides("compute_metrics"):
            return _tensors(self.compute_metrics(x, y, y_pred, sample_weight), "compute_metrics")
        self._update_metrics(y, y_pred, sample_weight)
        return {}

    def _update_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        outputs = nest.flatten(y_pred)
        weights = _weight_list(sample_weight, outputs)
        self._check_compiled("metrics").update_metrics(self._target_list(y, outputs), outputs, weights)

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
            self.clear_losses()
            y_pred = self(x, training=True) if "training" in self._call_takes else self(x)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
        logs = self._track(loss, x, y, y_pred, sample_weight)
        del y_pred
        self.clear_losses()
        tensor.gradient([loss], variables, into=self.optimizer.gradient_views)
        self.optimizer.update()
        return logs

    def _measure(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        self.clear_losses()
        y_pred = self(x, training=False) if "training" in self._call_takes else self(x)
        loss = self.compute_loss(x, y, y_pred, sample_weight)
        logs = self._track(loss, x, y, y_pred, sample_weight)
        self.clear_losses()
        return logs

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Trainer, name)

    def _step_function(self, kind: str) -> Callable:
        """function(arrays, layout) -> (output arrays, their structure) for `Steps`: what a step of that kind computes."""

        def run(arrays: list[Array | None], layout: Layout) -> tuple[list[Array], Any]:
            x, y, weights = layout.unpack([None if a is None else Tensor(a) for a in arrays])
            with training_phase(kind == "train"):
                if kind == "predict":
                    outputs = self.predict_step(x)
                elif not self._overrides(f"{kind}_step"):
                    if self._overrides("compute_loss") or self._overrides("compute_metrics"):
                        y, weights = self._as_passed(y, layout), weights[0] if len(weights) == 1 else weights
                    # without logs, the metrics hold the results; they are computed when somebody looks
                    outputs = (self._learn if kind == "train" else self._measure)(x, y, weights)
                else:
                    outputs = self._own_step(kind, x, y, weights, layout)
            structure = nest.map_leaves(lambda _: 0, outputs)
            return [leaf.data for leaf in nest.flatten(outputs)], structure

        return run

    def _own_step(self, kind: str, x: Any, y: list, weights: list, layout: Layout) -> dict[str, Any]:
        """A step the user wrote: it gets what the user passed to fit, and returns logs."""
        packed = self._as_passed(y, layout)
        step = self.train_step if kind == "train" else self.test_step
        if any(w is not None for w in weights):
            logs = step((x, packed, weights[0] if len(weights) == 1 else weights))
        elif layout.targets and any(t is not None for t in y):
            logs = step((x, packed))
        else:
            logs = step((x,))
        return _tensors(logs, f"{kind}_step")

    def _as_passed(self, y: list, layout: Layout) -> Any:
        """Targets in the structure in which the user passed them."""
        if isinstance(layout.y, dict):
            return dict(zip(self.output_names, y, strict=True))
        return nest.pack(layout.y, y) if layout.targets else None

    def _run_step(self, kind: str, batch: Batch, layout: Layout) -> Any:
        """Run a step and return copies of its outputs: a prediction, or the logs of a step that the user wrote."""
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = Steps(kind, self._step_function(kind), _where_read)
        key = (tensor.program_generation(), repr(layout))
        return steps.run(key, batch, layout, _copied, self.run_eagerly)

    # -------------------- preparing data --------------------

    def _make_layout(self, x: Any, y: Any, sample_weight: Any) -> tuple[Layout, list]:
        """Check and convert what the user passed; builds the model if need be."""
        x_structure, x_leaves = self._prepare_inputs(x)
        self._build_for(x_structure, x_leaves)
        names = self.output_names or ["output"]
        y_leaves: list = []
        y_structure: Any = None
        if y is not None:
            y_structure, y_leaves = prepare_targets(y, names)
        weights = prepare_weights(sample_weight, names, len(y_leaves))
        layout = Layout(x_structure, y_structure, len(x_leaves), len(y_leaves))
        return layout, [*x_leaves, *y_leaves, *weights]

    def _build_for(self, x_structure: Any, x_leaves: list[Array]) -> None:
        """Give a model without a fixed graph its weights and output names, by a dry run on the first rows."""
        if self._is_ready():
            return
        rows = [tensor.as_tensor(leaf[:32]) for leaf in x_leaves]
        try:
            with tensor.shapes_only(), training_phase(False):
                outputs = self(nest.pack(x_structure, rows))
        except tensor.ValueReadError:  # `call` looks at values, so it must have some
            with training_phase(False):
                outputs = self(nest.pack(x_structure, rows))
        self.clear_losses()
        self._set_output_names(outputs)

    def _source(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: Any,
        class_weight=None,
    ) -> tuple[ArraySource | StreamSource, Layout]:
        if data.is_stream(x):
            if y is not None:
                raise ValueError("y must not be given when x is a generator or a Sequence: it yields (x, y) itself")
            if batch_size is not None:
                raise ValueError("batch_size must not be given when x is a generator or a Sequence: it yields batches")
            return self._stream(x, steps, bool(shuffle), class_weight)
        layout, leaves = self._make_layout(x, y, sample_weight)
        self._check_labels(layout, leaves)
        leaves = weigh_classes(layout, leaves, class_weight)
        source = ArraySource(leaves, self._fixed_batch_size() if batch_size is None else batch_size, shuffle)
        if steps is not None:
            source.steps = min(steps, source.steps or steps)
        return source, layout

    def _stream(self, x: Any, steps: int | None, shuffle: bool, class_weight: Any) -> tuple[StreamSource, Layout]:
        """A source over a stream; its first item is looked at now, to learn the layout, and comes first later."""
        layouts: list[Layout] = []

        def prepare(item: Any) -> list:
            layout, leaves = self._make_layout(*data.unpack(item))
            self._check_labels(layout, leaves)
            if layouts and repr(layouts[0]) != repr(layout):
                raise ValueError("a generator's batches must all have the same structure")
            layouts.append(layout)
            del layouts[1:]
            return weigh_classes(layout, leaves, class_weight)

        if data.is_sequence(x):
            if len(x) == 0:
                raise ValueError("the Sequence has no batches")
            prepare(x[0])
        else:
            x = data.Peeked(x) if hasattr(x, "__next__") else x
            prepare(x.first if isinstance(x, data.Peeked) else data.Peeked(iter(x)).first)
        return StreamSource(x, prepare, steps, shuffle), layouts[0]

    def _check_labels(self, layout: Layout, leaves: list) -> None:
        """Class numbers must exist: a kernel cannot say so."""
        if self._objectives is None or not layout.targets:
            return
        self._objectives.resolve(self.output_names)
        targets = leaves[layout.inputs : layout.inputs + layout.targets]
        if len(targets) != len(self.output_names):
            return
        for name, target, classes in self._objectives.label_checks(targets, self._output_units()):
            if target is None or not target.size or classes is None:
                continue
            low, high = target.min(), target.max()
            if low < 0 or high >= classes:
                raise ValueError(
                    f"targets of output {name!r} are class numbers from {low} to {high}, but the output has {classes} "
                    f"units, so they must be 0 to {classes - 1}"
                )

    # -------------------- fit, evaluate, predict --------------------

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Train for `epochs` passes over the data and return the History of losses and metrics by epoch.

        x: array, list or dict (by input name) of arrays, or a generator or Sequence of batches; y: targets alike.
        validation_data: (x, y) or (x, y, sample_weight) or a stream. verbose: 0 silent, 1 bar, 2 a line per epoch, 'auto'.
        shuffle: True, False, or 'batch'.
        """
        self._check_compiled("fit")
        _check_epochs(epochs, initial_epoch)
        validation = None
        if validation_split and validation_data is None:
            if data.is_stream(x):
                raise ValueError("validation_split needs arrays: a generator or Sequence cannot be split")
            layout, leaves = self._make_layout(x, y, sample_weight)
            self._check_labels(layout, leaves)
            train_leaves, validation_leaves = data.split_validation(leaves, validation_split)
            train_leaves = weigh_classes(layout, train_leaves, class_weight)
            source: Any = ArraySource(
                train_leaves, self._fixed_batch_size() if batch_size is None else batch_size, shuffle
            )
            validation = (ArraySource(validation_leaves, validation_batch_size or source.batch_size), layout)
            if steps_per_epoch is not None:
                source.steps = min(steps_per_epoch, source.steps)
        else:
            source, layout = self._source(x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight)
            if validation_data is not None:
                size = validation_batch_size or batch_size
                validation = self._validation_source(validation_data, size, validation_steps)
        verbose = 1 if verbose == "auto" else verbose
        callbacks = self._callbacks(callbacks, bool(verbose), verbose, epochs, source.steps)
        self.stop_training = False
        self._prepare_optimizer()
        callbacks.on_train_begin()
        logs: dict[str, Any] = {}
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            epoch_logs = self._run_epoch("train", source, layout, callbacks)
            if not epoch_logs:
                warnings.warn(
                    f"the data ran out before epoch {epoch + 1} of {epochs}: training stops here. Give fit a Sequence, or "
                    "a generator that yields steps_per_epoch * epochs batches",
                    stacklevel=2,
                )
                break
            logs = epoch_logs
            if validation is not None and _validates(epoch + 1, validation_freq):
                values = self._validate(*validation, callbacks)
                logs.update({f"val_{name}": value for name, value in values.items()})
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        if logs and self.optimizer.built:
            self.optimizer.finalize_variable_values(self._trained)
        callbacks.on_train_end(logs)
        return callbacks.history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
    ):
        """Loss and metrics over the data: a list in the order of `metrics_names` (a number if there is only the loss)."""
        self._check_compiled("evaluate")
        source, layout = self._source(x, y, sample_weight, batch_size, steps, False)
        verbose = 1 if verbose == "auto" else verbose
        callbacks = self._callbacks(callbacks, bool(verbose), verbose, 1, source.steps, history=False)
        self.reset_metrics()
        logs = self._test(source, layout, callbacks)
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """The model's outputs for x as NumPy arrays, in inference mode; from many threads at once if you like.

        verbose='auto' draws no progress bar (Keras draws one): pass 1 for it.
        """
        source, layout = self._source(x, None, None, batch_size, steps, False)
        draw = verbose not in ("auto", 0)
        quiet = callbacks is None and not draw
        listeners = None if quiet else self._callbacks(callbacks, draw, int(draw), 1, source.steps, history=False)
        parts = []
        if listeners is not None:
            listeners.on_predict_begin()
        for step, batch in enumerate(_limited(source)):
            if listeners is not None:
                listeners.on_predict_batch_begin(step)
            parts.append(self._run_step("predict", batch, layout))
            if listeners is not None:
                listeners.on_predict_batch_end(step, {"outputs": parts[-1]})
        if not parts:
            raise ValueError("predict got no batches")
        if listeners is not None:
            listeners.on_predict_end()
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(nest.flatten(part) for part in parts), strict=True)
        return nest.pack(parts[0], [np.concatenate(arrays) for arrays in columns])

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False, reset_metrics=True):
        """Learn from one batch; returns the loss, or [loss, *metrics], or a dict by name, of this batch."""
        self._check_compiled("train_on_batch")
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict, reset_metrics)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False, reset_metrics=True):
        """Loss and metrics of one batch; returned as by `train_on_batch`."""
        self._check_compiled("test_on_batch")
        return self._on_batch("test", x, y, sample_weight, None, return_dict, reset_metrics)

    def predict_on_batch(self, x):
        """Outputs of one batch."""
        layout, leaves = self._make_layout(x, None, None)
        return self._run_step("predict", Batch(leaves, slice(None), len(leaves[0])), layout)

    def _on_batch(self, kind, x, y, sample_weight, class_weight, return_dict, reset_metrics):
        layout, leaves = self._make_layout(x, y, sample_weight)
        self._check_labels(layout, leaves)
        leaves = weigh_classes(layout, leaves, class_weight)
        source = ArraySource(leaves, len(leaves[0]))
        if reset_metrics:
            self.reset_metrics()
        if kind == "train":
            self._prepare_optimizer()
            self.optimizer.prepare()
        batch = next(source.epoch())
        logs = self._logs(self._run_step(kind, batch, layout))
        results = logs()
        if return_dict:
            return results
        values = list(results.values())
        return values[0] if len(values) == 1 else values

    # -------------------- loops --------------------

    def _prepare_optimizer(self) -> None:
        """Build the optimizer for the trainable weights; again if they changed since."""
        variables = self.trainable_weights
        if not variables and not self._overrides("train_step"):
            raise ValueError("the model has no trainable weights, so there is nothing to train")
        self.optimizer.build(variables)  # does nothing if it was built for these
        self._trained = tuple(variables)

    def _logs(self, own: dict) -> Callable[[], dict[str, Any]]:
        """The logs so far as a function, so that only who looks at them pays for them."""
        return lambda: {name: _logged(value) for name, value in (own or self.get_metrics_result()).items()}

    def _run_epoch(self, kind: str, source: Any, layout: Layout, callbacks: CallbackList) -> dict[str, Any]:
        begin = getattr(callbacks, f"on_{kind}_batch_begin")
        end = getattr(callbacks, f"on_{kind}_batch_end")
        prepare = self.optimizer.prepare if kind == "train" else None
        logs: Callable[[], dict[str, Any]] | None = None
        for step, batch in enumerate(_limited(source)):
            begin(step)
            if prepare is not None:
                prepare()
            logs = self._logs(self._run_step(kind, batch, layout))
            end(step, logs)
            if self.stop_training and kind == "train":
                break
        source.on_epoch_end()
        return {} if logs is None else logs()

    def _test(self, source: Any, layout: Layout, callbacks: CallbackList) -> dict[str, Any]:
        callbacks.on_test_begin()
        logs = self._run_epoch("test", source, layout, callbacks)
        callbacks.on_test_end(logs)
        return logs

    def _validate(self, source: Any, layout: Layout, callbacks: CallbackList) -> dict[str, Any]:
        self.reset_metrics()
        return self._test(source, layout, callbacks)

    def _validation_source(self, validation_data: Any, batch_size: int | None, steps: int | None) -> tuple:
        if data.is_stream(validation_data):
            return self._source(validation_data, None, None, None, steps, False)
        if not isinstance(validation_data, list | tuple) or len(validation_data) not in (2, 3):
            raise ValueError(
                "validation_data must be (x, y), (x, y, sample_weight), a generator or a Sequence, received "
                f"{type(validation_data).__name__}"
            )
        x, y, weight = (*validation_data, None)[:3]
        return self._source(x, y, weight, batch_size, steps, False)

    def _callbacks(self, callbacks, progbar, verbose, epochs, steps, history=True) -> CallbackList:
        if isinstance(callbacks, CallbackList):
            return callbacks
        return CallbackList(
            callbacks,
            add_history=history,
            add_progbar=progbar,
            model=self,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
        )


def _weight_list(sample_weight: Any, outputs: list) -> list:
    """Sample weights or None for each output."""
    return (sample_weight if isinstance(sample_weight, list) else [sample_weight]) or [None] * len(outputs)


def _number(value: Any) -> Any:
    """A result as a float, or as an array if it has several values."""
    array = np.asarray(value)
    return float(array.item()) if array.size == 1 else array


def _tensors(logs: Any, what: str) -> dict[str, Tensor]:
    """Logs that the user's code returned, as tensors."""
    if not isinstance(logs, dict):
        raise TypeError(f"{what} must return a dict of logs by name, received {type(logs).__name__}")
    return {name: tensor.as_tensor(value) for name, value in logs.items()}


def _copied(arrays: list[Array], structure: Any) -> Any:
    return nest.pack(structure, [array.copy() for array in arrays])


def _where_read() -> str:
    names = tensor.layer_stack.names
    return f"layer {names[-1]!r} read a tensor's value" if names else "a tensor's value was read"


def _limited(source: Any) -> Iterator[Batch]:
    """One epoch of a source, at most `source.steps` batches."""
    for step, batch in enumerate(source.epoch()):
        if source.steps is not None and step >= source.steps:
            return
        yield batch


def _validates(epoch: int, frequency: Any) -> bool:
    return epoch % frequency == 0 if isinstance(frequency, int) else epoch in frequency


def _check_epochs(epochs: Any, initial_epoch: Any) -> None:
    for name, value in (("epochs", epochs), ("initial_epoch", initial_epoch)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be a non-negative integer, received {value!r}")


_ACCEPTED = {
    "jit_compile",
    "steps_per_execution",
    "auto_scale_loss",
}  # say how Keras's backends compile: no meaning here


def _check_compile_arguments(model: Trainer, kwargs: dict[str, Any]) -> None:
    for key in kwargs:
        if key not in _ACCEPTED:
            known = ["optimizer", "loss", "metrics", "loss_weights", "weighted_metrics", "run_eagerly"]
            raise TypeError(f"compile got an unexpected argument {key!r}.{nearest(key, known)}")


def _logged(value: Tensor) -> float | Array:
    """A metric's value in the logs: a number, or an array where the metric has several (one for each threshold)."""
    return value.item() if value.size == 1 else value.numpy()
