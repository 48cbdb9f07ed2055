"""Floor 3: Trainer, the part of a model that loops: fit, evaluate, predict, over one loop and one kind of step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.building.layer import training_phase
from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.data import batches, tables
from nbkeras.data.batches import ArraySource, Batch, Source, StreamSource
from nbkeras.engine import behaviour, step_lock, structures, tensor, user_errors
from nbkeras.engine.progress import compilations_shown
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn
from nbkeras.training.feeding import Layout, prepare_targets, prepare_weights, spread, weigh_classes
from nbkeras.training.stepper import Stepper

Array = np.ndarray


class Trainer(Stepper, registered=False):
    """What `Model` inherits to learn from data."""

    # -------------------- what a model tells its trainer --------------------

    def _is_ready(self) -> bool:
        """Whether weights and output names exist."""
        raise NotImplementedError

    def _output_shapes(self) -> list[tuple]:
        """Shape of each output, () where it is not known."""
        raise NotImplementedError

    def _fixed_batch_size(self) -> int | None:
        """The batch size that the inputs were described with, or None."""
        raise NotImplementedError

    def _input_count(self) -> int:
        """How many inputs there are, 1 where it is not known."""
        raise NotImplementedError

    def _prepare_inputs(self, x: Any) -> tuple[Any, list[Array]]:
        """(structure, arrays) of what the user passed as x."""
        raise NotImplementedError

    _tables: dict[int, tuple[int, str]] | None = None  # in which inputs' numbers are looked up: see matching.tables

    def _check_numbers(self, arrays: list[Array | None]) -> None:
        """ValueError for numbers in the arrays, one for each input, that a table has no row for."""
        raise NotImplementedError

    # -------------------- preparing data --------------------

    def _make_layout(self, x: Any, y: Any, sample_weight: Any) -> tuple[Layout, list]:
        """Check and convert what the user passed; builds the model if need be."""
        x = x.tocsr() if tables.is_sparse(x) else x  # a dok_matrix is a dict
        x_structure, x_leaves = self._prepare_inputs(x)
        self._build_for(x_structure, x_leaves)
        names = self._names()
        have_loss = [loss is not None for loss in getattr(self._objectives, "losses", [])]
        y, sample_weight = spread(y, have_loss), spread(sample_weight, have_loss)
        y_leaves: list = []
        y_structure: Any = None
        if y is not None:
            y_structure, y_leaves = prepare_targets(y, names)
            y_leaves = behaviour.current.targets(y_leaves)
        weights = prepare_weights(sample_weight, names, len(y_leaves))
        layout = Layout(x_structure, y_structure, len(x_leaves), len(y_leaves))
        return layout, [*x_leaves, *y_leaves, *weights]

    def _names(self) -> list[str]:
        return self.output_names or ["output"]

    @tensor.on_own_device
    def _build_for(self, x_structure: Any, x_leaves: list[Array]) -> None:
        """Give a model without a fixed graph its weights and output names, by a dry run on the first rows."""
        if self._is_ready():
            return
        if not batches.samples_of(x_leaves):
            raise ValueError("the data has no samples")
        rows = [tensor.as_tensor(leaf[:32]) for leaf in x_leaves]
        try:
            with tensor.shapes_only(), training_phase(False):
                outputs = self(structures.pack(x_structure, rows))
        except tensor.ValueReadError:  # `call` looks at values, so it must have some
            with training_phase(False):
                outputs = self(structures.pack(x_structure, rows))
        self.clear_losses()
        self._set_output_names(outputs)

    def _source(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: Any = False,
        class_weight=None,
        inputs_only: bool = False,
        training: bool = False,
    ) -> tuple[Source, Layout]:
        """Batches of what the user passed; batch_size does not matter to what yields batches itself."""
        if batches.is_stream(x):
            for name, given in (("y", y), ("sample_weight", sample_weight)):
                if given is not None:
                    raise ValueError(
                        f"{name} must not be given when x is a generator or a Sequence: it yields (x, y) or (x, y, "
                        "sample_weight) itself"
                    )
            return self._stream(x, steps, bool(shuffle), class_weight, inputs_only, training)
        layout, leaves = self._make_layout(x, y, sample_weight)
        self._check_labels(layout, leaves)
        leaves = weigh_classes(layout, leaves, class_weight, self._names())
        return self._array_source(leaves, batch_size, steps, shuffle, training), layout

    def _array_source(
        self, leaves: list, batch_size: int | None, steps: int | None, shuffle: Any, training: bool
    ) -> ArraySource:
        return ArraySource(
            leaves, self._fixed_batch_size() if batch_size is None else batch_size, shuffle, steps, training
        )

    def _stream(
        self, x: Any, steps: int | None, shuffle: bool, class_weight: Any, inputs_only: bool, training: bool
    ) -> tuple[StreamSource, Layout]:
        """A source over a stream; its first item is looked at now, to learn the layout, and comes first later."""
        layouts: list[Layout] = []

        def prepare(item: Any) -> list:
            given = batches.unpack(item, self._input_count())
            layout, leaves = self._make_layout(*((given[0], None, None) if inputs_only else given))
            self._check_labels(layout, leaves)
            if layouts and layouts[0] != layout:
                raise ValueError("a generator's batches must all have the same structure")
            layouts.append(layout)
            del layouts[1:]
            return weigh_classes(layout, leaves, class_weight, self._names())

        seen = {}
        if batches.is_sequence(x):
            if len(x) == 0:
                raise ValueError("the Sequence has no batches")
            seen[0] = x[0]
            prepare(seen[0])
        else:
            x = batches.Peeked(x) if hasattr(x, "__next__") else x
            prepare(x.first if isinstance(x, batches.Peeked) else batches.Peeked(iter(x)).first)
        return StreamSource(x, prepare, steps, shuffle, seen, training), layouts[0]

    def _check_labels(self, layout: Layout, leaves: list) -> None:
        """Losses and metrics are those of the outputs; class numbers must exist: a kernel cannot say so."""
        if self._objectives is None:
            return
        self._objectives.resolve(self.output_names)
        targets = leaves[layout.inputs : layout.inputs + layout.targets]
        if len(targets) != len(self.output_names):
            return
        for name, target, classes in self._objectives.label_checks(targets, self._output_shapes()):
            if not target.size or classes is None:
                continue
            low, high = target.min(), target.max()
            if not (low >= 0 and high < classes):  # NaN is not either
                raise ValueError(
                    f"targets of output {name!r} are class numbers from {low} to {high}, but the output has {classes} "
                    f"units, so they must be 0 to {classes - 1}"
                )

    # -------------------- fit, evaluate, predict --------------------

    @tensor.on_own_device
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

        x: array, list or dict (by input name) of arrays, or a generator or Sequence of batches; y: targets alike. Tables of
        pandas are matrices, or dicts of columns where there are several inputs; sparse matrices of scipy are made dense batch
        by batch.
        validation_data: (x, y) or (x, y, sample_weight) or a stream. verbose: 0 silent, 1 bar, 2 a line per epoch, 'auto'.
        shuffle: True, False, or 'batch'.
        """
        self._check_compiled("fit")
        _check_counts(
            epochs=epochs, initial_epoch=initial_epoch, batch_size=batch_size, steps_per_epoch=steps_per_epoch
        )
        _check_counts(validation_steps=validation_steps, validation_batch_size=validation_batch_size)
        _check_validation(validation_split, validation_freq)
        validation = None
        if validation_split and validation_data is None:
            if batches.is_stream(x):
                raise ValueError("validation_split needs arrays: a generator or Sequence cannot be split")
            layout, leaves = self._make_layout(x, y, sample_weight)
            self._check_labels(layout, leaves)
            train_leaves, validation_leaves = batches.split_validation(leaves, validation_split)
            train_leaves = weigh_classes(layout, train_leaves, class_weight, self._names())
            source: Any = self._array_source(train_leaves, batch_size, steps_per_epoch, shuffle, True)
            size = validation_batch_size or batch_size
            validation = (self._array_source(validation_leaves, size, validation_steps, False, False), layout)
        else:
            source, layout = self._source(
                x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight, training=True
            )
            if validation_data is not None:
                size = validation_batch_size or batch_size
                validation = self._validation_source(validation_data, size, validation_steps)
        verbose = 1 if verbose == "auto" else verbose
        callbacks = self._callbacks(callbacks, bool(verbose), verbose, epochs, source.steps)
        behaviour.current.show_validation(callbacks.callbacks, validation_data, validation and validation[0])
        self.stop_training = False
        self._prepare_optimizer()
        self.initial_epoch = initial_epoch
        callbacks.on_train_begin()
        logs: dict[str, Any] = {}
        try:
            for epoch in range(self.initial_epoch, epochs):
                self.reset_metrics()
                if epoch > self.initial_epoch and source.may_resize:
                    callbacks.set_params({**(callbacks.params or {}), "steps": source.steps})
                callbacks.on_epoch_begin(epoch)
                epoch_logs = self._run_epoch("train", source, layout, callbacks)
                if not epoch_logs:
                    warn(
                        f"the data ran out before epoch {epoch + 1} of {epochs}: training stops here. Give fit a Sequence, "
                        "or a generator that yields steps_per_epoch * epochs batches"
                    )
                    break
                logs = epoch_logs
                if validation is not None and _validates(epoch + 1, validation_freq):
                    values = self._test(*validation, callbacks)
                    logs.update({f"val_{name}": value for name, value in values.items()})
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
        finally:  # also when training is interrupted
            if self.optimizer is not None and self.optimizer.built and int(self.optimizer.iterations):
                self.optimizer.finalize_variable_values(self._trained)
        callbacks.on_train_end(logs)
        return callbacks.history

    @tensor.on_own_device
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
        _check_counts(batch_size=batch_size, steps=steps)
        source, layout = self._source(x, y, sample_weight, batch_size, steps)
        verbose = 1 if verbose == "auto" else verbose
        callbacks = self._callbacks(callbacks, bool(verbose), verbose, 1, source.steps, history=False)
        logs = self._test(source, layout, callbacks)
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """The model's outputs for x as NumPy arrays, in inference mode; from many threads at once if you like.

        verbose='auto' draws no progress bar (Keras draws one): pass 1 for it.
        """
        try:  # here, not in a wrapper around: that would take longer
            draw = verbose not in ("auto", 0)
            simple = callbacks is batch_size is steps is None and not draw and type(x) is np.ndarray
            known = self._known_inputs.get((x.shape, x.dtype, False)) if simple else None
            if known is not None:  # saves 8 us of checks, more than a small model takes
                return self._predict_known(x, known)
            return self._predict(x, batch_size, steps, callbacks, draw, simple)
        except Exception as error:
            user_errors.shorten(error)
            raise

    user_errors.is_entry(predict)

    def _predict(
        self, x: Any, batch_size: int | None, steps: int | None, callbacks: Any, draw: bool, simple: bool
    ) -> Any:
        """Predict batch by batch; simple: x is one array, and nothing else was asked for."""
        x = behaviour.current.inputs_to_predict(x)
        _check_counts(batch_size=batch_size, steps=steps)
        source: Any
        source, layout = self._source(x, None, None, batch_size, steps, inputs_only=True)
        listeners = None
        if callbacks is not None or draw:
            listeners = self._callbacks(callbacks, draw, int(draw), 1, source.steps, history=False)
        parts = []
        if listeners is not None:
            self.stop_predicting = False
            listeners.on_predict_begin()
        # All batches of arrays use the same weights; a stream and callbacks may wait for who writes them.
        alike = listeners is None and isinstance(source, ArraySource) and source.steps != 1
        with compilations_shown(draw), step_lock.series() if alike else contextlib.nullcontext():
            for step, batch in enumerate(source.epoch()):
                if listeners is not None:
                    listeners.on_predict_batch_begin(step)
                parts.append(self._run_step("predict", batch, layout))
                if listeners is not None:
                    listeners.on_predict_batch_end(step, {"outputs": parts[-1]})
                    if self.stop_predicting:
                        break
        if not parts:
            raise ValueError("predict got no batches")
        if listeners is not None:
            listeners.on_predict_end()
        if len(parts) == 1:
            if simple:
                self._remember_inputs(x, source.leaves, layout, False)
            return parts[0]
        columns = zip(*(structures.flatten(part) for part in parts), strict=True)
        return structures.pack(parts[0], [np.concatenate(arrays) for arrays in columns])

    def _predict_known(self, x: Array, layout: Layout) -> Any:
        if self._tables:
            self._check_numbers([x])
        return self._run_step("predict", Batch([x], slice(None), len(x)), layout)

    def _remember_inputs(self, x: Array, leaves: list, layout: Layout, asked: bool) -> None:
        """If x was taken as it is, arrays of its shape and dtype need no look again; asked: whether to be one batch."""
        if leaves[0].shape == x.shape and leaves[0].dtype == x.dtype:
            if len(self._known_inputs) >= 64:
                self._known_inputs.clear()
            self._known_inputs[x.shape, x.dtype, asked] = layout

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
        simple = type(x) is np.ndarray
        known = self._known_inputs.get((x.shape, x.dtype, True)) if simple else None
        if known is not None:
            return self._predict_known(x, known)
        layout, leaves = self._make_layout(x, None, None)
        outputs = self._run_step("predict", Batch(leaves, slice(None), batches.samples_of(leaves)), layout)
        if simple:
            self._remember_inputs(x, leaves, layout, True)
        return outputs

    @tensor.on_own_device
    def _on_batch(self, kind, x, y, sample_weight, class_weight, return_dict, reset_metrics):
        layout, leaves = self._make_layout(x, y, sample_weight)
        self._check_labels(layout, leaves)
        leaves = weigh_classes(layout, leaves, class_weight, self._names())
        source = ArraySource(leaves, batches.samples_of(leaves))
        if reset_metrics:
            self.reset_metrics()
        if kind == "train":
            self._prepare_optimizer()
            for optimizer in self._optimizers_in_use():
                optimizer.prepare()
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
        variables = self._weights_to_train()
        if not variables and not self._overrides("train_step"):
            warn(f"model {self.name!r} has no trainable weights: losses and metrics are all there is")
        if variables and self.optimizer is not None:
            if not self.optimizer.built:
                self.optimizer.build(variables)
            self.optimizer.choose(variables)
        elif variables and not self._overrides("train_step"):
            raise ValueError(f"model {self.name!r} was compiled with optimizer=None: give one to train it")
        self._trained = tuple(variables)

    def _logs(self, own: dict) -> Callable[[], dict[str, Any]]:
        """The logs so far as a function, so that only who looks at them pays for them."""
        return lambda: {name: _logged(value) for name, value in (own or self.get_metrics_result()).items()}

    def _run_epoch(self, kind: str, source: Any, layout: Layout, callbacks: CallbackList) -> dict[str, Any]:
        begin = getattr(callbacks, f"on_{kind}_batch_begin")
        end = getattr(callbacks, f"on_{kind}_batch_end")
        prepares = [optimizer.prepare for optimizer in self._optimizers_in_use()] if kind == "train" else []
        stop = "stop_training" if kind == "train" else "stop_evaluating"
        logs: Callable[[], dict[str, Any]] | None = None
        source.on_epoch_begin()
        with compilations_shown((callbacks.params or {}).get("verbose")):
            for step, batch in enumerate(source.epoch()):
                begin(step)
                for prepare in prepares:
                    prepare()
                logs = self._logs(self._run_step(kind, batch, layout))
                end(step, logs)
                if getattr(self, stop):
                    break
        source.on_epoch_end()
        return {} if logs is None else logs()

    def _test(self, source: Any, layout: Layout, callbacks: CallbackList) -> dict[str, Any]:
        self.stop_evaluating = False
        callbacks.on_test_begin()
        self.reset_metrics()
        logs = self._run_epoch("test", source, layout, callbacks)
        callbacks.on_test_end(logs)
        return logs

    def _validation_source(self, validation_data: Any, batch_size: int | None, steps: int | None) -> tuple:
        if batches.is_stream(validation_data):
            return self._source(validation_data, None, None, None, steps)
        return self._source(*batches.unpack_x_y_sample_weight(validation_data), batch_size, steps)

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


def _validates(epoch: int, frequency: Any) -> bool:
    return epoch % frequency == 0 if isinstance(frequency, int | np.integer) else epoch in frequency


_LEAST = {"epochs": 0, "initial_epoch": 0, "validation_freq": 1}  # of counts that may not be None; of others 1


def _check_counts(**counts: Any) -> None:
    """ValueError for what no number of samples, batches or epochs can be."""
    for name, value in counts.items():
        least = _LEAST.get(name, 1)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if (value is None and name not in _LEAST) or (whole and value >= least):
            continue
        raise ValueError(f"{name} must be a {'positive' if least else 'non-negative'} integer, received {value!r}")


def _check_validation(split: Any, frequency: Any) -> None:
    """ValueError for what is no part of the data, and for what says of no epoch whether to validate after it."""
    number = isinstance(split, int | float | np.number) and not isinstance(split, bool)
    if split is not None and not (number and 0 <= split < 1):
        raise ValueError(f"validation_split must be between 0 and 1, received {split!r}")
    if isinstance(frequency, str) or not hasattr(frequency, "__contains__"):  # else the epochs after which
        _check_counts(validation_freq=frequency)


def _logged(value: Tensor) -> float | Array:
    """A metric's value in the logs: a number, or an array where the metric has several (one for each threshold)."""
    return value.item() if value.size == 1 else value.numpy()
