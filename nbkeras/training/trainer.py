"""Floor 3: Trainer: `fit`, `evaluate` and `predict` over data sets, and the same for one batch.

Each combines three objects that know no model: a DataAdapter (data/adapters.py) makes batches that fit the model
(data/conversion.py), a Step runs a batch (step.py), and an EpochRunner runs the step on all batches (loop.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from nbkeras.callbacks.callback_list import CallbackList, History
from nbkeras.callbacks.plain import TerminateOnNaN
from nbkeras.data.adapters import ArrayDataAdapter, DataAdapter, is_stream, unpack_x_y_sample_weight
from nbkeras.data.arrays import to_array
from nbkeras.data.conversion import ModelSpec, adapt, batch_of, first_tensors
from nbkeras.data.input_matching import GraphInputs
from nbkeras.data.output_matching import Output
from nbkeras.engine import build_lock, compatibility, ranks, step_lock, switches, tensor, user_errors
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.observed import Observed, notices_all
from nbkeras.engine.tensor import on_own_device, shapes_only
from nbkeras.training.arguments import (
    callback_list,
    check_counts,
    check_shuffle,
    check_validation,
    logged,
    returned,
)
from nbkeras.training.learner import Learner
from nbkeras.training.loop import EpochRunner, joined
from nbkeras.training.loss_watch import LossWatch, explain_loss, is_finite
from nbkeras.training.resuming import TrainingState
from nbkeras.training.step import CachedPredict, KnownBatch

if TYPE_CHECKING:
    from nbkeras.training.distributed import DistributedTrainer

several = LazyModule("nbkeras.training.distributed")
Array = np.ndarray


class Trainer(Learner, registered=False):
    """The part of Model that runs epochs and batches of data sets. It knows no graph."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # callbacks set them
        self.initial_epoch = 0  # where `fit` starts; BackupAndRestore sets it
        self._training: TrainingState | None = None  # within `fit`
        self._graph_inputs: GraphInputs | None = None  # matches arrays to inputs; None if `call` does
        self._ranks: DistributedTrainer | None = None  # the processes that train it together

    # -------------------- fit, evaluate, predict --------------------

    @on_own_device
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Train for a number of passes over the data.

        Args:
            x: The inputs: an array, a list of arrays, or a dict of arrays by input name; or a generator,
                Sequence or other iterable of batches (x, y) or (x, y, sample_weight). A pandas table is a matrix,
                or a dict of columns if there are several inputs. Sparse scipy matrices become dense batch by
                batch.
            y: The targets, in the same forms; None for a generator or Sequence.
            batch_size: The number of samples per batch; None for 32, or, if steps_per_epoch is given, for the
                size that gives as many batches.
            epochs: The number of the last epoch, counted from 1.
            verbose: 0 prints nothing, 1 or 'auto' draws a bar, 2 prints a line for each epoch.
            callbacks: A list of Callbacks, or a CallbackList.
            validation_split: The fraction of samples to validate with, taken from the end of the arrays before
                shuffling.
            validation_data: (x, y), (x, y, sample_weight), or a generator or Sequence, to evaluate after each
                epoch. It replaces validation_split.
            shuffle: Whether to shuffle the samples of arrays, or the batches of a Sequence, in each epoch;
                'batch' shuffles whole batches of arrays.
            class_weight: A dict from class number to the weight of its samples; for several outputs a dict or
                list of these.
            sample_weight: An array with a weight for each sample.
            initial_epoch: The number of epochs done in earlier calls.
            steps_per_epoch: The number of batches per epoch; None for one pass over the data. The next epoch
                continues where the last one stopped.
            validation_steps: The number of batches to validate with; None for all.
            validation_batch_size: The number of samples per batch in validation; None for batch_size.
            validation_freq: The number of epochs between validations, or a list of the epochs to validate after.

        Returns:
            The History callback: `history.history` has a list of values by epoch for each name, 'val_...' for
            validation.

        Raises:
            RuntimeError: if the model is not compiled.
            ValueError: for data that do not match the model or each other.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, input_shape=(1,))])
            >>> model.compile(keras.optimizers.SGD(0.3), loss="mse")
            >>> x = np.linspace(0, 1, 64).reshape(64, 1)
            >>> history = model.fit(x, 2 * x + 1, epochs=100, validation_split=0.25, verbose=0)
            >>> list(history.history), len(history.history["loss"])
            (['loss', 'val_loss'], 100)
            >>> np.round(model.predict(np.array([[0.5]])), 1)
            array([[2.]], dtype=float32)
        """
        compiled = self._check_compiled("fit")
        check_counts(
            epochs=epochs,
            initial_epoch=initial_epoch,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        check_validation(validation_split, validation_freq)
        check_shuffle(shuffle)
        epochs = switches.limited("max_epochs", epochs) or 0
        validating: dict[str, Any] = {"batch_size": validation_batch_size or batch_size, "steps": validation_steps}
        data = adapt(
            self._data_spec,
            x,
            y,
            sample_weight,
            class_weight,
            split=validation_split if validation_data is None else None,
            validating=validating,
            batch_size=batch_size,
            steps=steps_per_epoch,
            shuffle=shuffle,
            training=True,
        )
        to_validate = data.held_back
        if validation_data is not None:
            given = (validation_data,) if is_stream(validation_data) else unpack_x_y_sample_weight(validation_data)
            to_validate = adapt(self._data_spec, *given, **validating)
        callbacks = callback_list(self, callbacks, verbose, epochs, data.steps)
        compatibility.current.show_validation(callbacks.callbacks, validation_data, to_validate)
        watch = LossWatch(self._loss_so_far, x, y)
        validation = None if to_validate is None else self._measuring_loop("test", to_validate, callbacks, watch)
        self.stop_training = False
        compiled.prepare_to_train(self)
        self.initial_epoch = initial_epoch
        name = "guarded" if any(isinstance(each, TerminateOnNaN) for each in callbacks.callbacks) else "train"
        loop, distributed = self._measuring_loop(name, data, callbacks, watch), self._distributed()
        outer = self._training
        try:
            with TrainingState(self, callbacks, loop, validation) as self._training:
                callbacks.on_train_begin()
                if distributed is not None:
                    distributed.agree()
                logs = loop.train(range(self.initial_epoch, epochs), validation, validation_freq)
        finally:  # also when training is interrupted
            self._training = outer
            if self.optimizer is not None and self.optimizer.built and int(self.optimizer.iterations):
                self.optimizer.finalize_variable_values(compiled.variables)
        callbacks.on_train_end(logs)
        if distributed is not None:
            distributed.meet()
        return callbacks.history

    @overload
    def evaluate(
        self,
        x: Any = ...,
        y: Any = ...,
        batch_size: int | None = ...,
        verbose: int | str = ...,
        sample_weight: Any = ...,
        steps: int | None = ...,
        callbacks: Any = ...,
        *,
        return_dict: Literal[True],
    ) -> dict[str, Any]: ...
    @overload
    def evaluate(
        self,
        x: Any = ...,
        y: Any = ...,
        batch_size: int | None = ...,
        verbose: int | str = ...,
        sample_weight: Any = ...,
        steps: int | None = ...,
        callbacks: Any = ...,
        return_dict: bool = ...,
    ) -> Any: ...
    @on_own_device
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Measure the loss and the metrics over data, in inference mode.

        Args:
            x: The inputs, in the forms of `fit`.
            y: The targets.
            batch_size: The number of samples of a batch; None for 32.
            verbose: 0 prints nothing, 1 or 'auto' draws a bar, 2 prints a line.
            sample_weight: An array with a weight for each sample.
            steps: The number of batches; None for all.
            callbacks: A list of Callbacks.
            return_dict: Whether to return a dict by name.

        Returns:
            A list of numbers in the order of `metrics_names`, a number if there is only the loss, or a dict.

        Raises:
            RuntimeError: if the model is not compiled.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0, return_dict=True)
            {'loss': 4.0, 'mae': 2.0}
        """
        self._check_compiled("evaluate")
        check_counts(batch_size=batch_size, steps=steps)
        data = adapt(self._data_spec, x, y, sample_weight, batch_size=batch_size, steps=steps)
        callbacks = callback_list(self, callbacks, verbose, 1, data.steps, history=False)
        watch = LossWatch(self._loss_so_far, x, y)
        return returned(self._measuring_loop("test", data, callbacks, watch).test(), return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The model's outputs in inference mode, computed batch by batch; several threads may call it at once.

        Args:
            x: The inputs, in the forms of `fit`.
            batch_size: The number of samples of a batch; None for 32.
            verbose: 1 draws a bar; 0 and 'auto' do not (in Keras 'auto' does).
            steps: The number of batches; None for all.
            callbacks: A list of Callbacks.

        Returns:
            A NumPy array (samples, ...), or a structure of arrays if there are several outputs.

        Raises:
            ValueError: for data that do not match the model, and if there are no batches.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.predict(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        try:  # inline, because a wrapper would take longer
            draw = verbose not in ("auto", 0) if isinstance(verbose, int | str) else True
            simple = callbacks is batch_size is steps is None and not draw and type(x) is np.ndarray
            known = self._known_inputs.get((x.shape, x.dtype, False)) if simple else None
            if known is not None:  # saves 8 us of checks, more than a small model takes
                return known(x)
            return self._predict(x, batch_size, steps, callbacks, draw, simple)
        except Exception as error:
            user_errors.shorten(error)
            raise

    user_errors.is_entry(predict)

    def _predict(
        self, x: Any, batch_size: int | None, steps: int | None, callbacks: Any, draw: bool, simple: bool
    ) -> Any:
        """Predict batch by batch. simple: x is one array and all other arguments have their defaults."""
        check_counts(batch_size=batch_size, steps=steps)
        x = compatibility.current.inputs_to_predict(x)
        data = adapt(self._data_spec, x, inputs_only=True, batch_size=batch_size, steps=steps)
        listens = callbacks is not None or draw
        callbacks = callback_list(self, callbacks, int(draw), 1, data.steps, history=False) if listens else None
        owner = self if listens else None
        step, distributed = self._step_for("predict"), self._distributed()
        run = step if distributed is None else distributed.prediction(step)
        loop = EpochRunner("predict", data, run, callbacks, lambda outputs: {"outputs": outputs}, owner)
        # All batches of arrays use the same weights. A stream or a callback may wait for a thread that writes the weights.
        alike = callbacks is None and isinstance(data, ArrayDataAdapter) and data.steps != 1
        with step_lock.series() if alike else contextlib.nullcontext():
            parts = loop.predict()
        if distributed is not None:
            simple, parts = False, distributed.gather(parts)
        if not parts:
            raise ValueError(
                "predict got no batches: x yielded some before, but none in this pass. Pass an iterable that starts again at "
                "each iter(), or a generator for a single pass"
            )
        if len(parts) == 1:
            if simple and isinstance(data, ArrayDataAdapter):
                self._remember_inputs(x, data.whole, False)
            return parts[0]
        return joined(parts)

    def _remember_inputs(self, x: Array, whole: Batch, one_batch: bool) -> None:
        """If x needed no conversion, skip the checks of later arrays like it. one_batch: for `predict_on_batch`."""
        taken = whole.leaves[0]
        if taken is not None and taken.shape == x.shape and taken.dtype == x.dtype:
            inputs = self._data_spec().inputs
            check = inputs.check_numbers if inputs is not None and inputs.tables else None
            known = CachedPredict(self._step_for("predict"), whole.layout, x, check)
            self._known_inputs[x.shape, x.dtype, one_batch] = known

    @overload
    def train_on_batch(
        self,
        x: Any,
        y: Any = ...,
        sample_weight: Any = ...,
        class_weight: Any = ...,
        *,
        return_dict: Literal[True],
        reset_metrics: bool = ...,
    ) -> dict[str, Any]: ...
    @overload
    def train_on_batch(
        self,
        x: Any,
        y: Any = ...,
        sample_weight: Any = ...,
        class_weight: Any = ...,
        return_dict: bool = ...,
        reset_metrics: bool = ...,
    ) -> Any: ...
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
        reset_metrics: bool = True,
    ) -> Any:
        """Learn from one batch.

        Args:
            x: The inputs of the batch: an array, or a list or dict of arrays.
            y: The targets.
            sample_weight: An array with a weight for each sample.
            class_weight: A dict from class number to the weight of its samples.
            return_dict: Whether to return a dict by name.
            reset_metrics: Whether to reset the metrics first, so that the values are for this batch only.

        Returns:
            The loss, [loss, *metrics], or a dict.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile("sgd", loss="mse")
            >>> model.train_on_batch(np.ones((4, 2)), np.zeros((4, 1)))
            4.0
        """
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict, reset_metrics)

    @overload
    def test_on_batch(
        self, x: Any, y: Any = ..., sample_weight: Any = ..., *, return_dict: Literal[True], reset_metrics: bool = ...
    ) -> dict[str, Any]: ...
    @overload
    def test_on_batch(
        self, x: Any, y: Any = ..., sample_weight: Any = ..., return_dict: bool = ..., reset_metrics: bool = ...
    ) -> Any: ...
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, reset_metrics: bool = True
    ) -> Any:
        """Measure the loss and the metrics of one batch.

        Args:
            x: The inputs of the batch.
            y: The targets.
            sample_weight: An array with a weight for each sample.
            return_dict: Whether to return a dict by name.
            reset_metrics: Whether to reset the metrics first, so that the values are for this batch only.

        Returns:
            The loss, [loss, *metrics], or a dict.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> model.test_on_batch(np.ones((4, 2)), np.zeros((4, 1)))
            [4.0, 2.0]
        """
        return self._on_batch("test", x, y, sample_weight, None, return_dict, reset_metrics)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, in inference mode.

        Args:
            x: The inputs of the batch: an array, or a list or dict of arrays.

        Returns:
            A NumPy array, or a structure of arrays.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.predict_on_batch(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        simple = type(x) is np.ndarray
        known = self._known_inputs.get((x.shape, x.dtype, True)) if simple else None
        if known is not None:
            return known(x)
        batch = batch_of(self._data_spec, x)
        outputs = self._step_for("predict")(batch)
        if simple:
            self._remember_inputs(x, batch, True)
        return outputs

    @on_own_device
    def _on_batch(self, kind, x, y, sample_weight, class_weight, return_dict, reset_metrics):
        simple = reset_metrics is True and sample_weight is class_weight is None and type(x) is type(y) is np.ndarray
        key = (kind, x.shape, x.dtype, y.shape, y.dtype) if simple else ()
        known, distributed = self._known_batches.get(key), self._distributed()
        if known is not None and distributed is None and known.assignments == Observed.assignments:
            targets = to_array(y, "y")
            known.check(x, targets)
            batch = Batch([x, targets, None], ALL, len(x), known.layout)
            return self._returned(self._logs(self._step_for(f"{kind}_on_batch")(batch)), batch, return_dict)
        compiled = self._check_compiled(f"{kind}_on_batch")
        batch = batch_of(self._data_spec, x, y, sample_weight, class_weight)
        if not batch.size:
            raise ValueError("the data has no samples")
        if kind == "train":
            compiled.prepare_to_train(self)
        if reset_metrics and distributed is None and self._measures_in_steps():
            logs = self._measured_batch(kind, batch)
            if simple and _is_plain(batch, x, y):
                self._remember_batch(key, batch)
            return self._returned(self._logs(logs), batch, return_dict)
        if reset_metrics:
            self.reset_metrics()
        step = self._step_for(kind)
        if distributed is None:
            return self._returned(self._logs(step(batch)), batch, return_dict)
        return returned(distributed.on_batch(step, kind, batch, self._logs), return_dict)

    def _returned(self, read: Callable[[], dict[str, Any]], batch: Batch, return_dict: bool) -> Any:
        """The logs of a batch as a method returns them."""
        logs = read()
        if not is_finite(logs.get("loss")):
            explain_loss(batch)
        return returned(logs, return_dict)

    def _measured_batch(self, kind: str, batch: Batch) -> dict[str, Any]:
        """The logs of a step that resets the metrics, see `_run_on_batch`; it is recorded again for other metrics."""
        before = self._metrics_and_states()
        if not _are_same(before, self._measured):
            self._forget_batches()
        logs = self._step_for(f"{kind}_on_batch")(batch)
        self._measured[:] = self._metrics_and_states()
        if not _are_same(before, self._measured):  # the first batch makes metrics, which its program did not reset
            self._forget_batches()
        return logs

    def _remember_batch(self, key: tuple, batch: Batch) -> None:
        """Skip most of the work for later batches like this one, until a part of the model changes."""
        spec = self._data_spec()
        (output,), inputs = spec.outputs, spec.inputs

        def check(x: Array, y: Array) -> None:
            if inputs is not None and inputs.tables:
                inputs.check_numbers([x])
            output.check_targets(y)

        if notices_all(self.observed_parts()):
            self._known_batches[key] = KnownBatch(batch.layout, check, Observed.assignments)

    # -------------------- data --------------------

    def _data_spec(self, first: Callable[[], Any] | None = None) -> ModelSpec:
        """The inputs and outputs that data must fit, as far as they are known.

        first: returns the first inputs in the data, for which a model that does not know its outputs is built.
        """
        if first is not None and not self._is_described():
            self._build_for_data(first())
        names = self.output_names
        outputs: tuple[Output, ...] = tuple(map(Output, names or ["output"]))
        if names and self._compiled is not None:
            outputs = self._compiled.outputs(names, self._output_shapes(), self._nested_outputs)
        # the user's step gets x and y unchanged
        own_step = self._overrides("train_step") or self._overrides("test_step")
        options: Any = {"nested": self._nested_outputs, "has_own_step": own_step or self._overrides("compute_loss")}
        if self._graph_inputs is None:
            return ModelSpec(None, outputs, **options)
        inputs = self._graph_inputs
        return ModelSpec(
            None if own_step and inputs.host is None else inputs, outputs, inputs.count, inputs.batch_size, **options
        )

    def _output_shapes(self) -> list[tuple]:
        """The shapes of the outputs; () for an unknown shape."""
        return [()] * len(self.output_names)

    def _is_described(self) -> bool:
        """True if inputs and outputs are known, or if a dry run cannot find them."""
        return bool(self.output_names)

    @on_own_device
    def _build_for_data(self, x: Any) -> None:
        """Make weights and output names by a dry run on the first rows of x."""
        rows = first_tensors(x)
        with build_lock.building(self):
            if not self._is_described():
                with training_phase(False):
                    try:
                        with shapes_only():
                            outputs = self(rows)
                    except tensor.ValueReadError:  # `call` reads values, so it must be run
                        outputs = self(rows)
                self.clear_losses()
                self._set_output_names(outputs)

    # -------------------- what loops need --------------------

    def _logs(self, own: dict) -> Callable[[], dict[str, Any]]:
        """A function that returns the logs so far; values are read only if it is called. own: the logs that a step returned."""
        return lambda: {name: logged(value) for name, value in (own or self.get_metrics_result()).items()}

    def _loss_so_far(self, own: dict) -> Any:
        """The sum of the losses in this epoch, or the loss that a user's step returned."""
        compiled = self._check_compiled("fit")
        return own.get("loss") if own else compiled.loss_tracker.total.numpy()

    def _distributed(self) -> DistributedTrainer | None:
        """The processes that train this model together; None if only this process trains it."""
        group = ranks.current()
        if group is None:
            return None
        if self._ranks is None or self._ranks.group is not group:
            self._ranks = several.DistributedTrainer(self, group)
        return self._ranks

    def settle_ranks(self) -> None:
        """Give each process that trains together the states and metrics of all, as at the end of an epoch.

        All processes must call it. A callback must call it before it saves the model in the middle of an epoch.
        """
        distributed = self._distributed()
        if distributed is not None:
            distributed.settle()

    def _measuring_loop(self, name: str, data: DataAdapter, callbacks: CallbackList, watch: LossWatch) -> EpochRunner:
        """A loop of train or test steps. name: the name of the step."""
        step, distributed = self._step_for(name), self._distributed()
        kind, reset = ("test", self._prepare_to_test) if name == "test" else ("train", self.reset_metrics)
        if distributed is None:
            return EpochRunner(kind, data, step, callbacks, self._logs, self, reset, watch=watch)
        run = distributed.step(step, kind == "train")
        read = distributed.reader(self._logs)
        return EpochRunner(kind, data, run, callbacks, read, self, reset, distributed.settle, watch)

    def _prepare_to_test(self) -> None:
        self.reset_metrics()
        distributed = self._distributed()
        if distributed is not None:
            distributed.settle_weights()

    def _training_state(self) -> TrainingState:
        """The state of the running `fit`; the model's state in a user's own loop."""
        return self._training or TrainingState(self)


def _are_same(some: list, others: list) -> bool:
    return list(map(id, some)) == list(map(id, others))


def _is_plain(batch: Batch, x: Array, y: Array) -> bool:
    """Whether a batch is x, which needed no conversion, and one array of targets of y's shape."""
    leaves = batch.leaves
    return len(leaves) == 3 and leaves[0] is x and leaves[1] is not None and leaves[1].shape == y.shape
