"""Floor 3: what `compile` asks for: the loss of each output, their weights, and the metrics, resolved by output names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbkeras import losses, metrics, ops
from nbkeras.engine import behaviour, structures
from nbkeras.engine.naming import snake_case
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Tensor


def per_output(spec: Any, names: list[str], what: str, default: Any = None) -> list:
    """One entry per output from None, one entry for all, a list, or a dict by output name."""
    if spec is None:
        return [default] * len(names)
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in names:
                raise ValueError(
                    f"{what} names {key!r}, which is not an output of the model.{nearest(str(key), names)} "
                    f"Outputs: {names}"
                )
        return [spec.get(name, default) for name in names]
    if isinstance(spec, list | tuple):
        if len(spec) != len(names):
            raise ValueError(
                f"{what} has {len(spec)} entries but the model has {len(names)} outputs {names}: give one entry for "
                "each, a dict by output name, or a single one for all"
            )
        return list(spec)
    return [spec] * len(names)


def _loss_object(spec: Any) -> Any:
    if isinstance(spec, list | tuple) and len(spec) == 1:  # of an output in a dict
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
    """Whether a loss or metric is one of several, by the shapes of targets and outputs."""
    return isinstance(spec, str) and spec.lower() in (*_ACCURACY, *_CROSSENTROPY)


def _crossentropy(y_true: Tensor, y_pred: Tensor) -> str:
    return metrics.resolve_accuracy(y_true.shape, y_pred.shape).removesuffix("accuracy") + "crossentropy"


class _Crossentropy(losses.Loss):
    """The crossentropy that the shapes ask for."""

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
    """The name in the logs of a metric that is a function, or another object that can be called."""
    name = getattr(metric, "__name__", type(metric).__name__)
    return snake_case(name) if behaviour.current.metric_names_are_snake_case else name.strip("<>")


class Objectives:
    """The losses and metrics of a compiled model. Metrics that depend on shapes are made at the first batch."""

    def __init__(self, loss: Any, loss_weights: Any, metric_specs: Any, weighted_specs: Any):
        self.loss_spec, self.weights_spec = loss, loss_weights
        self.metric_specs, self.weighted_specs = metric_specs, weighted_specs
        self.loss_tracker = metrics.Mean(name="loss")
        self.names: list[str] | None = None
        self.losses: list = []
        self.loss_weights: list = []
        self.trackers: list[tuple[str, metrics.Mean]] = []
        self.by_output: list[list[tuple[str, Any, bool]]] | None = None
        self._sorts = behaviour.current.sorts_metrics

    def resolve(self, names: list[str]) -> None:
        """Match the specifications to the outputs; raises for names and counts that do not fit."""
        if self.names == names:
            return
        self.losses = [_loss_object(spec) for spec in per_output(self.loss_spec, names, "loss")]
        self.loss_weights = per_output(self.weights_spec, names, "loss_weights")
        if isinstance(self.weights_spec, int | float) and len(names) > 1:
            raise ValueError(
                f"loss_weights must be a list or a dict for outputs {names}, received {self.weights_spec!r}"
            )
        self._lists = (
            _metric_lists(self.metric_specs, names, "metrics"),
            _metric_lists(self.weighted_specs, names, "weighted_metrics"),
        )
        for spec in (s for lists in self._lists for each in lists for s in each):
            if isinstance(spec, str) and not _by_shapes(spec):
                metrics.get(spec)  # an unknown name is an error of compile, not of the first batch
        with_loss = [name for name, loss in zip(names, self.losses, strict=True) if loss is not None]
        least = 2  # of one loss alone, 'loss' says all
        if not behaviour.current.measures_outputs_without_loss:
            least = 1 if len(names) > 1 else 2
            for lists in self._lists:
                lists[:] = [own if loss is not None else [] for own, loss in zip(lists, self.losses, strict=True)]
        self.trackers = [(n, metrics.Mean(name=f"{n}_loss")) for n in with_loss] if len(with_loss) >= least else []
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
                        raise ValueError(f"metric {spec!r} needs targets for output {self.names[position]!r}")  # type: ignore[index]
                    metric = _metric_object(spec, target, output)
                    label = spec if _by_shapes(spec) else metric.name
                    prefix = f"{self.names[position]}_" if several else ""  # type: ignore[index]
                    label = f"{prefix}weighted_{label}" if weighted and prefix + label in taken else prefix + label
                    if weighted and label in taken:
                        label = f"weighted_{label}"
                    base, number = label, 1
                    while label in taken:
                        label, number = f"{base}_{number}", number + 1
                    taken.add(label)
                    entries.append((label, metric, bool(weighted)))
            built.append(entries)
        self.by_output = built

    def compute_loss(self, y_true: list, y_pred: list[Tensor], sample_weight: list, extra: list[Tensor]) -> Tensor:
        """The weighted sum of the outputs' losses and of the layers' own; a scalar tensor."""
        total: Tensor | None = None
        trackers = iter(self.trackers)
        for position, loss in enumerate(self.losses):
            if loss is None:
                continue
            if y_true[position] is None:
                raise ValueError(
                    f"the loss of output {self.names[position]!r} needs targets, received None"  # type: ignore[index]
                )
            value = loss(y_true[position], y_pred[position], sample_weight[position])
            if self.trackers:  # with one loss alone, 'loss' says it
                next(trackers)[1].update_state(value, sample_weight=_batch_size(y_pred[position]))
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

    def update_metrics(self, y_true: list, y_pred: list[Tensor], sample_weight: list) -> None:
        """Add a batch to the metrics' states."""
        self.build(y_true, y_pred)
        for target, output, weight, entries in zip(y_true, y_pred, sample_weight, self.by_output or [], strict=True):
            for _, metric, weighted in entries:
                if weighted:
                    metric.update_state(target, output, sample_weight=weight)
                else:
                    metric.update_state(target, output)

    def named(self) -> list[tuple[str, Any]]:
        """(name in the logs, metric), the loss first, then the outputs' losses, then the metrics."""
        rest = [(label, metric) for entries in self.by_output or [] for label, metric, _ in entries]
        if self._sorts and len(self.by_output or []) > 1:
            rest.sort(key=lambda entry: entry[0])
        return [("loss", self.loss_tracker), *[(f"{n}_loss", t) for n, t in self.trackers], *rest]

    def grouped(self) -> list[Any]:
        """The metrics with those of compile as one."""
        several = self.metric_specs is not None or self.weighted_specs is not None or self.trackers
        return [self.loss_tracker, *([CompiledMetrics(self)] if several else [])]

    def label_checks(self, y_true: list, shapes: list[tuple]) -> list[tuple[str, Any, int | None]]:
        """(output name, targets, number of classes) of the outputs whose targets are class numbers."""
        checks = []
        for name, loss, target, shape in zip(self.names or [], self.losses, y_true, shapes, strict=True):
            if getattr(loss, "fn", None) is losses.sparse_categorical_crossentropy and target is not None and shape:
                axis, ignored = (loss.constants.get(key) for key in ("axis", "ignore_class"))
                classes, target = shape[-1 if axis is None else axis], np.asarray(target)
                checks.append((name, target if ignored is None else target[target != ignored], classes))
        return checks


class CompiledMetrics:
    """The metrics of `compile` as one, for a train_step that updates them itself."""

    name = "compile_metrics"

    def __init__(self, objectives: Objectives):
        self._objectives = objectives

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledMetrics) and other._objectives is self._objectives

    def __hash__(self) -> int:
        return id(self._objectives)

    def _parts(self) -> list[tuple[str, Any]]:
        losses = [
            (f"{name}_loss", tracker) for name, tracker in self._objectives.trackers
        ]  # which compute_loss updates
        return losses + [
            (label, metric) for entries in self._objectives.by_output or [] for label, metric, _ in entries
        ]

    @property
    def variables(self) -> list:
        """Their state."""
        return [variable for _, metric in self._parts() for variable in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: targets and outputs as the model's step got them."""
        names, outputs = self._objectives.names or [], structures.flatten(y_pred)
        targets = [y_true.get(name) for name in names] if isinstance(y_true, dict) else structures.flatten(y_true)
        weights = (
            structures.flatten(sample_weight) if isinstance(sample_weight, list | tuple | dict) else [sample_weight]
        )
        weights = weights * len(outputs) if len(weights) == 1 else weights
        self._objectives.update_metrics(targets, outputs, weights)

    def result(self) -> dict[str, Any]:
        """Their values by name."""
        return {label: metric.result() for label, metric in self._parts()}

    def reset_state(self) -> None:
        """Set all back to the start."""
        for _, metric in self._parts():
            metric.reset_state()


def _batch_size(y_pred: Tensor) -> float:
    return float(y_pred.shape[0]) if y_pred.ndim else 1.0
