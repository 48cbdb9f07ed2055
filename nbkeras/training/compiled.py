"""Floor 3: Compiled, the losses and metrics of `compile` for each output, and the weights that training updates."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from nbkeras import losses, metrics, ops
from nbkeras.data.output_matching import Output, flattened, paths, per_output
from nbkeras.engine import compatibility, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import numbered, snake_case
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.engine.user_errors import warn


def _loss_object(spec: Any) -> Any:
    if isinstance(spec, list | tuple) and len(spec) == 1:  # a dict may hold an output's loss in a list
        spec = spec[0]
    if isinstance(spec, str) and spec.lower() in _CROSSENTROPY:
        return _Crossentropy(name=spec)
    found = losses.get(spec)
    if found is None or isinstance(found, losses.Loss):
        return found
    return losses.LossFunctionWrapper(found, name=getattr(found, "__name__", "loss"))


def _metric_lists(spec: Any, names: list[str], what: str) -> list[list]:
    """A list of metric specifications per output."""
    if spec is None:
        return [[] for _ in names]
    if isinstance(spec, Mapping):
        entries = per_output(spec, names, what)
    elif not isinstance(spec, list | tuple):
        entries = [[spec]] * len(names)
    elif len(names) == 1:
        nested = len(spec) == 1 and isinstance(spec[0], list | tuple)
        entries = [spec[0] if nested else spec]
    elif any(isinstance(item, list | tuple | None) for item in spec) or len(spec) == len(names):
        entries = per_output(spec, names, what)
    else:  # Keras 2: a flat list is for every output
        entries = [spec] * len(names)
    return [[] if e is None else list(e) if isinstance(e, list | tuple) else [e] for e in entries]


_ACCURACY = ("accuracy", "acc")
_CROSSENTROPY = ("crossentropy", "ce")


def _by_shapes(spec: Any) -> bool:
    """Whether the shapes of targets and outputs decide which loss or metric a name means."""
    return isinstance(spec, str) and spec.lower() in (*_ACCURACY, *_CROSSENTROPY)


def _crossentropy(y_true: Tensor, y_pred: Tensor) -> str:
    return metrics.resolve_accuracy(y_true.shape, y_pred.shape).removesuffix("accuracy") + "crossentropy"


class _Crossentropy(losses.Loss):
    """The crossentropy that fits the shapes of targets and outputs."""

    float_targets = False

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return losses.get(_crossentropy(y_true, y_pred))(y_true, y_pred)


def _metric_object(spec: Any, y_true: Tensor, y_pred: Tensor) -> metrics.Metric:
    if _by_shapes(spec):
        accuracy = spec.lower() in _ACCURACY
        kind = metrics.resolve_accuracy(y_true.shape, y_pred.shape) if accuracy else _crossentropy(y_true, y_pred)
        return metrics.get(kind, name=spec)
    found = metrics.get(spec)
    if isinstance(found, metrics.Metric):
        if isinstance(spec, str):
            found.name = spec  # 'mse' is logged as 'mse', as in Keras
        return found
    name = spec.rpartition(">")[2] if isinstance(spec, str) else getattr(found, "name", None) or function_name(found)
    return metrics.MeanMetricWrapper(found, name=name)


def function_name(metric: Any) -> str:
    """The name in the logs of a metric that is a function or another callable."""
    name = getattr(metric, "__name__", type(metric).__name__)
    return snake_case(name) if compatibility.current.metric_names_are_snake_case else name.strip("<>")


class Compiled:
    """The losses and metrics of a compiled model. Metrics that depend on shapes are made at the first batch.

    arguments: the arguments of `compile` by name. own_loss: whether the model computes its loss itself.
    """

    def __init__(self, arguments: dict[str, Any], own_loss: bool):
        self.arguments, self._own_loss = arguments, own_loss
        self.loss_tracker = metrics.Mean(name="loss")
        self.names: list[str] = []
        self.losses: list = []
        self.loss_weights: list = []
        self.trackers: list[metrics.Mean] = []  # the means of the outputs' losses
        self.by_output: list[list[tuple[str, Any, bool]]] | None = None
        self._sorts = compatibility.current.sorts_metrics
        self.variables: list[Variable] = []  # training updates these
        self._weights: list[Variable] = []  # all weights when `variables` was set
        self.in_step = False

    def resolve(self, names: list[str], nested: Any = None) -> None:
        """Match the specifications to the outputs; raises for names and counts that do not match.

        nested: the outputs' structure, if it is nested.
        """
        if self.names == names:
            return
        given = {key: flattened(value, nested) for key, value in self.arguments.items()}
        self.losses = [_loss_object(spec) for spec in per_output(given["loss"], names, "loss")]
        loss_weights = given["loss_weights"]
        self.loss_weights = per_output(loss_weights, names, "loss_weights")
        if isinstance(loss_weights, int | float) and len(names) > 1:
            raise ValueError(
                f"loss_weights must be a list or a dict for outputs {names}, received {briefly(loss_weights)}"
            )
        kinds = ("metrics", "weighted_metrics")
        self._lists = [_metric_lists(given[kind], names, kind) for kind in kinds]
        for spec in (s for lists in self._lists for each in lists for s in each):
            if isinstance(spec, str) and not _by_shapes(spec):
                metrics.get(spec)  # an unknown name is an error of compile, not of the first batch
        paired = zip(paths(names, nested), self.losses, strict=True)
        with_loss = [name for name, loss in paired if loss is not None]
        minimum = 2  # a single loss has no separate entry in the logs: 'loss' shows it
        # Keras 2.3.1 does not know user-defined losses
        if not (compatibility.current.measures_outputs_without_loss or self._own_loss):
            minimum = 1 if len(names) > 1 else 2
            for lists in self._lists:
                lists[:] = [own if loss is not None else [] for own, loss in zip(lists, self.losses, strict=True)]
        self.trackers = [metrics.Mean(name=f"{n}_loss") for n in with_loss] if len(with_loss) >= minimum else []
        self.names = list(names)

    def build(self, y_true: list[Tensor | None], y_pred: list[Tensor]) -> None:
        """Make the metric objects for targets and outputs of these shapes."""
        if self.by_output is not None:
            return
        several = len(y_pred) > 1
        built: list[list[tuple[str, Any, bool]]] = []
        taken: set[str] = set()
        for position, (target, output) in enumerate(zip(y_true, y_pred, strict=True)):
            entries = []
            for weighted, lists in enumerate(self._lists):
                for spec in lists[position]:
                    if target is None:
                        raise ValueError(f"metric {briefly(spec)} needs targets for output {self.names[position]!r}")
                    metric = _metric_object(spec, target, output)
                    label = spec if _by_shapes(spec) else metric.name
                    prefix = f"{self.names[position]}_" if several else ""
                    label = f"{prefix}weighted_{label}" if weighted and prefix + label in taken else prefix + label
                    if weighted and label in taken:
                        label = f"weighted_{label}"
                    label = numbered(label, taken)
                    taken.add(label)
                    entries.append((label, metric, bool(weighted)))
            built.append(entries)
        self.by_output = built

    def lists(self, y: Any, y_pred: Any, sample_weight: Any) -> tuple[list, list[Tensor], list]:
        """The targets, outputs and sample weights of a step as lists with an entry for each output."""
        outputs = structures.flatten(y_pred)
        given, nothing = [self._in_order(values) for values in (y, sample_weight)], [None] * len(outputs)
        targets, weights = (given[0] or nothing), (given[1] or nothing)
        return targets, outputs, weights * len(outputs) if len(weights) == 1 else weights

    def _in_order(self, values: Any) -> list:
        """Values by output name, or in a structure, as a list; None gives an empty list."""
        if isinstance(values, dict) and structures.nested(values) is None:
            return [values.get(name) for name in self.names]
        return [] if values is None else structures.flatten(values)

    def compute_loss(self, y: Any, y_pred: Any, sample_weight: Any, extra: list[Tensor]) -> Tensor:
        """The weighted sum of the outputs' losses and of the losses that layers added; a scalar tensor."""
        targets, outputs, weights = self.lists(y, y_pred, sample_weight)
        total: Tensor | None = None
        trackers = iter(self.trackers)
        for position, loss in enumerate(self.losses):
            if loss is None:
                continue
            if targets[position] is None:
                raise ValueError(f"the loss of output {self.names[position]!r} needs targets, received None")
            value = loss(targets[position], outputs[position], weights[position])
            if self.trackers:  # a single loss is in 'loss'
                size = float(outputs[position].shape[0]) if outputs[position].ndim else 1.0
                next(trackers).update_state(value, sample_weight=size)
            weight = self.loss_weights[position]
            if weight is not None:
                value = ops.multiply(value, float(weight))
            total = value if total is None else ops.add(total, value)
        for each in extra:
            each = ops.sum(each)
            total = each if total is None else ops.add(total, each)
        if total is None:
            raise ValueError(
                "there is nothing to minimise: compile with loss=..., or call add_loss in a layer or the model"
            )
        return total

    def update_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Add a batch to the metrics' states."""
        targets, outputs, weights = self.lists(y, y_pred, sample_weight)
        self.build(targets, outputs)
        for target, output, weight, entries in zip(targets, outputs, weights, self.by_output or [], strict=True):
            for _, metric, weighted in entries:
                if weighted:
                    metric.update_state(target, output, sample_weight=weight)
                else:
                    metric.update_state(target, output)

    def named(self) -> list[tuple[str, Any]]:
        """(name in the logs, metric), the loss first, then the outputs' losses, then the metrics."""
        return [("loss", self.loss_tracker), *self.parts(self._sorts)]

    def parts(self, are_sorted: bool = False) -> list[tuple[str, Any]]:
        """(name in the logs, metric) of the outputs' losses, then of the metrics, by output or sorted by name."""
        found = [(label, metric) for entries in self.by_output or [] for label, metric, _ in entries]
        if are_sorted and len(self.by_output or []) > 1:
            found.sort(key=lambda entry: entry[0])
        return [(tracker.name, tracker) for tracker in self.trackers] + found

    def metric_objects(self) -> list[Any]:
        """The metric objects. Within a step: the mean loss, then one object for all metrics of `compile`."""
        if not self.in_step:
            return [metric for _, metric in self.named()]
        has_others = self.trackers or any(self.arguments[kind] is not None for kind in ("metrics", "weighted_metrics"))
        return [self.loss_tracker, *([CompiledMetrics(self)] if has_others else [])]

    def outputs(self, names: list[str], shapes: list[tuple], nested: Any = None) -> tuple[Output, ...]:
        """The outputs with these names, and the conditions on their targets. shapes: () for an unknown shape."""
        self.resolve(names, nested)
        found = []
        for name, loss, shape in zip(names, self.losses, shapes, strict=True):
            classes = ignored = None
            if getattr(loss, "fn", None) is losses.sparse_categorical_crossentropy and shape:
                axis, ignored = (loss.constants.get(key) for key in ("axis", "ignore_class"))
                classes = shape[-1 if axis is None else axis]
            found.append(Output(name, loss is not None, classes, ignored))
        return tuple(found)

    # -------------------- in a step --------------------

    def choose_variables(self, model: Any) -> list[Variable]:
        """The variables that training updates: the weights that were trainable when `compile` ran or the weights were made."""
        weights = model.weights
        if list(map(id, weights)) != list(map(id, self._weights)):
            self._weights, self.variables = weights, model.trainable_weights
        return self.variables

    def prepare_to_train(self, model: Any) -> None:
        """Build the model's optimizer for the trainable weights; build it again if they have changed."""
        variables = self.choose_variables(model)
        if variables and model.optimizer is not None:
            model.optimizer.build(variables)
        elif not model._overrides("train_step"):
            if variables:
                raise ValueError(f"model {model.name!r} was compiled with optimizer=None: give one to train it")
            warn(f"model {model.name!r} has no trainable weights: training computes only losses and metrics")

    @contextlib.contextmanager
    def step(self, thaw: bool) -> Iterator[None]:
        """The context of a train or test step. In it, one object stands for all metrics of `compile`.

        thaw: variables get gradients even if their layer was frozen after the model was compiled.
        """
        frozen = [variable for variable in self.variables if thaw and not variable.trainable]
        before, self.in_step = self.in_step, True
        for variable in frozen:
            variable.trainable = True
        try:
            yield
        finally:
            self.in_step = before
            for variable in frozen:
                variable.trainable = False


@dataclasses.dataclass(frozen=True)
class CompiledMetrics:
    """One object for all metrics of `compile`, for a train_step that updates them itself."""

    _compiled: Compiled
    name = "compile_metrics"

    @property
    def variables(self) -> list:
        """Their state."""
        return [variable for _, metric in self._compiled.parts() for variable in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of targets and outputs."""
        self._compiled.update_metrics(y_true, y_pred, sample_weight)

    def result(self) -> dict[str, Any]:
        """Their values by name."""
        return {label: metric.result() for label, metric in self._compiled.parts()}

    def reset_state(self) -> None:
        """Reset all metrics."""
        for _, metric in self._compiled.parts():
            metric.reset_state()
