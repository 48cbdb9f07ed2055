"""`compiled_loss` and `compiled_metrics` of models, which train steps for TensorFlow 2.2 to 2.15 use."""

from __future__ import annotations

from typing import Any

from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.metrics import Metric
from nbkeras.training import compiled


class CompiledLoss:
    """The losses of `compile`: a call returns their sum, and adds it to the mean loss."""

    def __init__(self, model: Any):
        self._model = model

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, regularization_losses: Any = None
    ) -> Tensor:
        """The scalar that training minimises, with the losses of layers that `regularization_losses` has."""
        losses = self._model._compiled_for(y_pred)
        loss = losses.compute_loss(y_true, y_pred, sample_weight, list(regularization_losses or ()))
        losses.loss_tracker.update_state(loss, sample_weight=float(structures.flatten(y_pred)[0].shape[0]))
        return loss

    @property
    def metrics(self) -> list[Metric]:
        """The mean loss, and those of the outputs if there are several."""
        found = self._model._check_compiled("training")
        return [found.loss_tracker, *found.trackers]

    def reset_state(self) -> None:
        """Forget all batches."""
        for metric in self.metrics:
            metric.reset_state()


class CompiledMetrics(compiled.CompiledMetrics):
    """The metrics of `compile`."""

    @property
    def metrics(self) -> list[Metric]:
        """The metric objects; none before the first batch."""
        return [metric for entries in self._compiled.by_output or [] for _, metric, _ in entries]


class Model:
    """Members of Model."""

    compiled_loss = property(CompiledLoss)
    compiled_metrics = property(lambda self: CompiledMetrics(self._check_compiled("metrics")))
