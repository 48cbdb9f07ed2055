"""Floor 2: stateless calls. They take values for a layer's variables and change neither the layer nor the values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from nbkeras.engine import stateless
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.metrics.metric import Metric


@contextlib.contextmanager
def with_values(layer: Any, trainable: Any, non_trainable: Any, others: Sequence[Variable] = ()) -> Iterator[None]:
    """In the block, a layer's variables have the given values. Afterwards variables, losses and metrics are restored.

    others: variables that already have given values.
    """
    if not layer.built:
        raise ValueError(
            f"stateless calls need variables, and layer {layer.name!r} ({type(layer).__name__}) is not built yet: call it on "
            "some data, or give the model an input shape"
        )
    variables, values = [], []
    for what, given in (("trainable_variables", trainable), ("non_trainable_variables", non_trainable)):
        own = getattr(layer, what)
        values += stateless.values_for(what, f"{layer.name}.{what}", own, given)
        variables += own
    known = {id(v) for v in (*variables, *others)}
    parts = layer._all_layers()
    of_metrics = {id(v): v for part in parts for metric in part._held(Metric) for v in metric.variables}
    rest = [v for key, v in of_metrics.items() if key not in known]
    with stateless.holding([*variables, *rest], [*values, *rest]):
        losses = [(part, list(part._losses)) for part in parts]
        try:
            for part in parts:
                part._losses.clear()
            yield
        finally:
            for part, before in losses:
                part._losses[:] = before


def stateless_call(
    layer: Any, trainable: Any, non_trainable: Any, args: tuple, kwargs: dict[str, Any], return_losses: bool
) -> tuple[Any, ...]:
    """Returns (outputs, values of the non-trainable variables), and the losses if `return_losses` is true."""
    with with_values(layer, trainable, non_trainable):
        results: list[Any] = [layer(*args, **kwargs), layer.non_trainable_variables]
        if return_losses:
            results.append(layer.losses)
        return tuple(map(stateless.current, results))


def stateless_compute_loss(
    model: Any, trainable: Any, non_trainable: Any, of_metrics: Any, arguments: tuple
) -> tuple[Tensor, tuple[list, list, list]]:
    """Returns the loss, and the values of all variables after it is computed."""
    own = model.metrics_variables
    values = stateless.values_for("metrics_variables", f"{model.name}.metrics_variables", own, of_metrics)
    with with_values(model, trainable, non_trainable, own), stateless.holding(own, values):
        loss = model._loss_of(*arguments)
        return stateless.current((loss, (model.trainable_variables, model.non_trainable_variables, own)))
