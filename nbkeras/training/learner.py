"""Floor 3: Learner, a layer that learns from a batch: `compile`, and the train, test and predict steps."""

from __future__ import annotations

import collections
import functools
import inspect
from collections.abc import Iterator
from typing import Any

from nbkeras import building, optimizers
from nbkeras.building.graph import OverridableProperty
from nbkeras.building.layer import Layer
from nbkeras.data.adapters import unpack_x_y_sample_weight
from nbkeras.data.output_matching import names_by_structure
from nbkeras.engine import option, structures, tape, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.observed import names_in_methods
from nbkeras.engine.registry import nearest
from nbkeras.engine.replays import KnownForms
from nbkeras.engine.tensor import Tensor, on_own_device
from nbkeras.optimizers.guard import Guard
from nbkeras.training.compiled import Compiled
from nbkeras.training.step import CachedPredict, KnownBatch, MetricResults, Step, log_tensors


class Learner(Layer, registered=False):
    """The part of Model that learns from one batch. It knows nothing about data sets."""

    _without_parts = Layer._without_parts | {"_steps", "_known_inputs", "_known_batches", "_measured"}

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.optimizer: Any = None
        self.jit_compile = True
        self.steps_per_execution = 1
        self._run_eagerly = False
        self._compiled: Compiled | None = None
        self._output_names: list[str] = []
        self._nested_outputs: Any = None  # the structure of the outputs, if it is nested
        self._steps: dict[str, Step] = {}
        self._guard: Guard | None = None  # set by TerminateOnNaN
        self._reset_steps()

    # -------------------- compile --------------------

    @on_own_device
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile: Any = "auto",
        auto_scale_loss=True,
        **kwargs,
    ) -> None:
        """Choose the optimizer, the losses and the metrics of `fit` and `evaluate`.

        Args:
            optimizer: A name, an Optimizer or a configuration; None if train_step uses its own optimizers.
            loss: A name, a Loss, or a function(y_true, y_pred) of tensors. For several outputs: one for all, a
                list, or a dict by output name; None in it means that the output has no loss.
            metrics: A list of names, functions and Metrics; for several outputs also a list of lists, or a dict
                by output name. 'accuracy' and 'crossentropy' mean the kind that fits the shapes of targets and
                outputs.
            loss_weights: Factors of the losses in the sum that training minimises: a list, or a dict by output
                name.
            weighted_metrics: Metrics, like `metrics`, that use sample weights and class weights.
            run_eagerly: True runs the Python code of every step and records none, so that it can read values;
                slower.
            steps_per_execution: Accepted and ignored.
            jit_compile: Accepted and ignored: kernels are always compiled.
            auto_scale_loss: Whether to wrap the optimizer in a LossScaleOptimizer if the model's policy is 'mixed_float16'.
            **kwargs: Nothing; any other argument is an error.

        Raises:
            TypeError: for an unknown argument, and for metrics that are a string.
            ValueError: for an unknown name of an optimizer, loss, metric or output.

        Example:
            >>> model = keras.Sequential([layers.Dense(10, activation="softmax", input_shape=(64,))])
            >>> model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            >>> type(model.optimizer).__name__
            'Adam'
        """
        arguments = option.given(locals())
        scales = arguments.pop("auto_scale_loss") and self.dtype_policy.name == "mixed_float16"
        for key in kwargs:
            raise TypeError(f"compile got an unexpected argument {key!r}.{nearest(key, arguments)}")
        if isinstance(metrics, str) or isinstance(weighted_metrics, str):
            raise TypeError(
                f"metrics must be a list, such as metrics=['accuracy'], received {briefly(metrics or weighted_metrics)}"
            )
        new_optimizer = optimizers.get(optimizer)
        if scales and new_optimizer is not None and not isinstance(new_optimizer, optimizers.LossScaleOptimizer):
            new_optimizer = optimizers.LossScaleOptimizer(new_optimizer, name="loss_scale_optimizer")
        own_loss = any(self._overrides(name) for name in ("train_step", "test_step", "compute_loss"))
        compiled = Compiled(arguments, own_loss)
        if self.output_names:
            compiled.resolve(self.output_names, self._nested_outputs)
        self.optimizer, self._compiled = new_optimizer, compiled
        self.run_eagerly, self.jit_compile = run_eagerly, bool(jit_compile)
        self.steps_per_execution = steps_per_execution
        self.stop_training = False
        compiled.choose_variables(self)
        self._reset_steps()

    def _check_compiled(self, purpose: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(
                f"you must compile the model before {purpose}: call model.compile(optimizer=..., loss=..., metrics=[...])"
            )
        return self._compiled

    @OverridableProperty
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def compile_arguments(self) -> dict[str, Any]:
        """The arguments of `compile` by name."""
        return {} if self._compiled is None else self._compiled.arguments

    @property
    def run_eagerly(self) -> bool:
        """True if steps run without recording; may be set at any time."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._run_eagerly = bool(value)
        for step in self._steps.values():
            step.eagerly = self._run_eagerly

    @OverridableProperty
    def loss(self) -> Any:
        """The loss as given to `compile`."""
        return self.compile_arguments.get("loss")

    @property
    def metrics(self) -> list:
        """The metric objects: the mean loss first, then the metrics of `compile`, then those set as attributes.

        In a train_step or test_step, one object with `update_state(y, y_pred)` stands for all metrics of `compile`.
        """
        compiled = [] if self._compiled is None else self._compiled.metric_objects()
        return list(dict.fromkeys([*compiled, *super().metrics]))

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that `evaluate` returns, 'loss' first; complete after the first batch.

        In a train_step or test_step, they are the names of `metrics`.
        """
        if self._compiled is not None and self._compiled.in_step:
            return [metric.name for metric in self.metrics]
        return [name for name, _ in self._named_metrics()]

    def _named_metrics(self) -> list[tuple[str, Any]]:
        """(name in the logs, metric) of all metrics."""
        if self._overrides("metrics") or self._compiled is None:  # the user chooses the metrics
            return [(metric.name, metric) for metric in self.metrics]
        named = self._compiled.named()
        known = {id(metric) for _, metric in named}
        return [*named, *((metric.name, metric) for metric in super().metrics if id(metric) not in known)]

    @on_own_device
    def reset_metrics(self) -> None:
        """Reset all metrics."""
        for metric in self.metrics:
            metric.reset_state()

    @on_own_device
    def get_metrics_result(self) -> dict[str, Any]:
        """The current values of the metrics.

        Returns:
            A dict of tensors by name; a metric whose result is a dict gives several entries, by its keys.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> values = model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
            >>> {name: float(value) for name, value in model.get_metrics_result().items()}
            {'loss': 4.0, 'mae': 2.0}
        """
        return log_tensors({name: metric.result() for name, metric in self._named_metrics()}, "get_metrics_result")

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, as in dicts of targets, losses and metrics."""
        return self._output_names

    def _set_output_names(self, outputs: Any) -> None:
        """Name the outputs after their structure."""
        self._nested_outputs = structures.nested(outputs)
        self._output_names = names_by_structure(outputs)

    # -------------------- what happens to a batch: a user may override it --------------------

    def train_step(self, data: Any) -> dict[str, Any]:
        """Learn from one batch. Override it to write your own step; `fit` records and replays it.

        Args:
            data: (x, y) or (x, y, sample_weight) of tensors; see `utils.unpack_x_y_sample_weight`.

        Returns:
            The logs: a dict of numbers or tensors by name.

        Example:
            >>> class Model(keras.Model):
            ...     def train_step(self, data):
            ...         x, y = data
            ...         with keras.GradientTape() as tape:
            ...             loss = ops.mean(ops.square(self(x, training=True) - y))
            ...         gradients = tape.gradient(loss, self.trainable_weights)
            ...         self.optimizer.apply(gradients, self.trainable_weights)
            ...         return {"loss": loss}
            >>> inputs = layers.Input((3,))
            >>> model = Model(inputs, layers.Dense(1)(inputs))
            >>> model.compile("sgd")
            >>> history = model.fit(np.ones((8, 3)), np.zeros((8, 1)), epochs=3, verbose=0)
            >>> history.history["loss"][0] > history.history["loss"][-1]
            True
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        with tape.GradientRecording():
            y_pred = self._call_in_phase(x, training=True)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
        logs = self._measure_batch(loss, x, y, y_pred, sample_weight)
        del y_pred  # so that the backward pass can reuse its memory
        compiled = self._check_compiled("training")
        variables = compiled.variables or compiled.choose_variables(self)  # none yet before the first `fit`
        if variables:
            self.optimizer.learn(loss, variables)
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure one batch; `evaluate` calls it, and `fit` for validation.

        Args:
            data: (x, y) or (x, y, sample_weight) of tensors.

        Returns:
            The logs: a dict of numbers or tensors by name.

        Example:
            >>> class Errors(keras.Model):
            ...     def test_step(self, data):
            ...         x, y = data
            ...         return {"worst": ops.max(ops.abs(self(x, training=False) - y))}
            >>> inputs = keras.Input((1,))
            >>> model = Errors(inputs, layers.Dense(1, kernel_initializer="ones")(inputs))
            >>> model.compile()
            >>> model.evaluate(np.array([[1.0], [5.0]]), np.zeros((2, 1)), verbose=0, return_dict=True)
            {'worst': 5.0}
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._call_in_phase(x, training=False)
        loss = self._loss_of(x, y, y_pred, sample_weight, training=False)
        return self._measure_batch(loss, x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Compute the outputs for one batch; `predict` calls it.

        Args:
            data: The inputs, as tensors.

        Example:
            >>> class Classes(keras.Model):
            ...     def predict_step(self, data):
            ...         return ops.argmax(super().predict_step(data), axis=-1)
            >>> inputs = keras.Input((3,))
            >>> Classes(inputs, layers.Softmax()(inputs)).predict(np.array([[0.0, 5.0, 1.0]]))
            array([1], dtype=int32)
        """
        return self._call_in_phase(data[0] if isinstance(data, tuple) else data, training=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """The scalar that training minimises: the losses of `compile`, and those that layers added.

        Args:
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.
            training: Whether it is a training step.

        Raises:
            ValueError: if `compile` got no loss and no layer added one.

        Example:
            >>> class Doubled(keras.Model):
            ...     def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            ...         return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)
            >>> inputs = keras.Input((2,))
            >>> model = Doubled(inputs, layers.Dense(1, kernel_initializer="ones")(inputs))
            >>> model.compile(loss="mse")
            >>> model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
            8.0
        """
        return self._compiled_for(y_pred).compute_loss(y, y_pred, sample_weight, self.losses)

    def _compiled_for(self, y_pred: Any) -> Compiled:
        """The losses and metrics of `compile`, matched to these outputs."""
        compiled = self._check_compiled("training")
        if not self.output_names and y_pred is not None:  # no `call`: the user's step makes the outputs
            self._set_output_names(y_pred)
            compiled.resolve(self.output_names, self._nested_outputs)
        return compiled

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Add a batch to the metrics of `compile`.

        Args:
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.

        Returns:
            The results so far: a dict of tensors by name, with 'loss'.
        """
        compiled = self._check_compiled("metrics")
        compiled.update_metrics(y, y_pred, sample_weight)
        return MetricResults(self.get_metrics_result) if compiled.in_step else self.get_metrics_result()

    @on_own_device
    def stateless_compute_loss(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        metrics_variables: Any,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tuple[Tensor, tuple[list[Tensor], list[Tensor], list[Tensor]]]:
        """Call `compute_loss` with given values of the variables, and change no state.

        Args:
            trainable_variables: A tensor or array for each of `trainable_variables`.
            non_trainable_variables: One for each of `non_trainable_variables`.
            metrics_variables: One for each of `metrics_variables`.
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.
            training: Whether it is a training step.

        Returns:
            The loss, and a tuple of three lists: the values of the variables afterwards.

        Raises:
            ValueError: if the number of values or their shapes do not match the variables.
        """
        given = trainable_variables, non_trainable_variables, metrics_variables
        return building.stateless_compute_loss(self, *given, (x, y, y_pred, sample_weight, training))

    def _call_in_phase(self, x: Any, training: bool) -> Any:
        return self(x, training=training) if "training" in self._call_takes else self(x)

    @tensor.layer_stack.part("loss")
    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """The result of `compute_loss`. It gets `training` if it accepts it; an override written for Keras 2 does not."""
        takes = inspect.signature(self.compute_loss).parameters.values()
        asks = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in takes)
        return self.compute_loss(x, y, y_pred, sample_weight, **({"training": training} if asks else {}))

    @tensor.layer_stack.part("metrics")
    def _measure_batch(self, loss: Tensor, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
        """Add a batch to the mean loss and to the metrics; returns logs."""
        size = float(next(leaf for leaf in structures.flatten(x) if leaf is not None).shape[0])
        self._check_compiled("training").loss_tracker.update_state(loss, sample_weight=size)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        self.clear_losses()
        return logs

    # -------------------- steps --------------------

    def _step_for(self, name: str) -> Step:
        """The train, test or predict step.

        'guarded': a train step for TerminateOnNaN. 'train_on_batch', 'test_on_batch': see `_run_on_batch`.
        """
        step = self._steps.get(name)
        if step is None:
            with tensor.on_gpu(self._gpu):
                kind, run = name, functools.partial(self._run_step, name)
                if name.endswith("_on_batch"):
                    kind = name.removesuffix("_on_batch")
                    run = functools.partial(self._run_on_batch, kind)
                elif name == "guarded":
                    self._guard = Guard()
                    kind, run = "train", functools.partial(self._run_guarded, self._guard)
                step = self._steps[name] = Step(kind, run, self._run_eagerly, self.observed_parts)
        return step

    def _run_guarded(self, guard: Guard, data: Any) -> Any:
        """A train step that changes only metrics if the loss or a gradient is not finite."""
        with guard.keeping(v for v in self.variables if not (v.declared_trainable or v.is_quantized)):
            return self._run_step("train", data)

    def _run_on_batch(self, kind: str, data: Any) -> Any:
        """A step that also resets the metrics before, and returns their values."""
        self.reset_metrics()
        return self._run_step(kind, data) or self.get_metrics_result()

    def _logs_of_step(self, kind: str, data: Any) -> dict[str, Tensor]:
        """Call a train or test step. Returns all its logs."""
        return log_tensors(dict(self._run_step(kind, data) or self.get_metrics_result()), f"{kind}_step")

    def _optimizers(self) -> list[Any]:
        """The optimizer of `compile`, and those that the model and its layers hold."""
        held = [each for layer in self._all_layers() for each in layer._held(optimizers.Optimizer)]
        return list(dict.fromkeys([*([] if self.optimizer is None else [self.optimizer]), *held]))

    def _state_variables(self) -> Iterator[tuple[str, Any]]:
        """All variables that training changes, with their names in states. Metric variables have the metric's name."""
        for name, variables in (
            ("model", self.variables),
            *((f"optimizer {number}", each.variables) for number, each in enumerate(self._optimizers())),
        ):
            for number, variable in enumerate(variables):
                yield f"{name}/{number}", variable
        times: collections.Counter[str] = collections.Counter()
        for metric in self.metrics:
            times[metric.name] += 1
            for number, variable in enumerate(metric.variables):
                yield f"metric {metric.name} {times[metric.name]}/{number}", variable

    def _metrics_and_states(self) -> list[Any]:
        return [each for metric in self.metrics for each in (metric, *metric.variables)]

    def _forget_batches(self) -> None:
        """Drop the programs of `_run_on_batch`."""
        self._known_batches.clear()
        for name in ("train_on_batch", "test_on_batch"):
            if name in self._steps:
                self._steps[name].forget()

    def _measures_in_steps(self) -> bool:
        """Whether a recorded step can reset the metrics and compute their values: nbkeras's methods do this."""
        methods = [getattr(type(metric), name) for metric in self.metrics for name in ("reset_state", "result")]
        names = ("metrics", "reset_metrics", "get_metrics_result")
        return not any(map(self._overrides, names)) and all(m.__module__.startswith("nbkeras.") for m in methods)

    def _run_step(self, kind: str, data: Any) -> Any:
        """Call `train_step`, `test_step` or `predict_step`."""
        step = getattr(self, f"{kind}_step")
        if kind == "predict":
            return step(data)
        with self._check_compiled(kind).step(thaw=kind == "train"):
            return step(data)

    def _reset_steps(self) -> None:
        """Drop the programs of the steps, because their computation has changed."""
        for step in self._steps.values():
            step.forget()
        self._known_inputs: KnownForms[CachedPredict] = KnownForms()  # inputs of predict, see _remember_inputs
        self._known_batches: KnownForms[KnownBatch] = KnownForms()  # batches of train_on_batch and test_on_batch
        self._measured: list[Any] = []  # the metrics that their steps reset, with their states

    def observed_parts(self) -> Iterator[Any]:
        yield from super().observed_parts()
        if self._compiled is not None:
            yield from self._compiled.losses
            yield from (metric for _, metric in self._compiled.named())

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The names in methods of the user and of layers, and what makes up a model: its parts in `compile` and its graph.

        All other attributes that nbkeras's methods for models read are set by the loop.
        """
        own = [
            base for base in cls.__mro__ if not (base.__module__.startswith("nbkeras.") and issubclass(base, Learner))
        ]
        return names_in_methods(*own[:-1]) | {"optimizer", "_compiled", "_graph", "_extended"}

    def _overrides(self, name: str) -> bool:
        """Whether a user's class defines this method or property."""
        for cls in type(self).__mro__:
            if name in vars(cls):
                return not cls.__module__.startswith("nbkeras.")
        return False
