"""Floor 1: Behaviour, in which Keras 2 and Keras 3 differ, and the one that nbkeras shows at the moment.

The core asks `behaviour.current` where it builds or records something, never in a step that is replayed. Arguments, methods and
modules that Keras 2 only names in another way are no concern of the core: nbkeras/compat/ adds them from outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class FunctionName(str):
    """The name of a function in a configuration, with the function: known as long as the configuration stays in memory."""

    function: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Where Keras 2.3.1 and Keras 3 do different things and a script cannot say which of them it means."""

    name: str

    # -------------------- written into signatures and registries by whoever sets the behaviour --------------------

    argument_defaults: Mapping[str, Mapping[str, Any]]
    """Class -> argument -> its default, where it differs from the one in nbkeras's source."""
    hard_sigmoid: str
    """The op of nbkeras.ops that the activation's name 'hard_sigmoid' means."""

    # -------------------- layers --------------------

    masks_reach_calls_with_several_tensors: bool
    """Whether the mask of a layer's input reaches its `call` where another argument of the call is a tensor too."""
    writes_input_shape: bool
    """Whether a layer's `get_config` holds the shape of the input that the layer was made with, as `batch_input_shape`."""
    own_layers_keep_shape: bool
    """Whether `Layer.compute_output_shape`, asked by a layer that a user wrote, returns the input's shape."""
    refuses_losses_in_build: bool
    """Whether `add_loss` in `build` is an error: Keras 2 computes that loss in each step, here it would keep its first value."""
    keeps_learning_phase: bool
    """Whether a layer that is connected after `set_learning_phase` stays in that phase, in `fit` and `predict` too."""
    frozen_normalizes_by_batch: bool
    """Whether a frozen BatchNormalization uses the batch's statistics in training; its moving ones stay as they are."""
    initializers_draw_anew: bool
    """Whether an initializer gives other numbers at each call, with a seed too."""
    identity_for_each_gate: bool
    """Whether `recurrent_initializer='identity'` is an identity matrix for each gate, not one and zeros."""
    flat_states: bool
    """Whether stacked recurrent cells have their states in one list, not in a list for each cell."""
    lists_absent_states: bool
    """Whether `states` of a recurrent layer that holds none is a list of None, not None."""
    names_lambdas: bool
    """Whether the configuration of a Lambda layer names a `lambda` by the layer's name; else it cannot be written."""

    # -------------------- models and training --------------------

    unwraps_single_tensors: bool
    """Whether `Model(inputs=[x], outputs=[y])` means x and y: `input` and `output` are then no lists of one."""
    checks_shapes_of_calls: bool
    """Whether a model that is called on tensors refuses those that do not fit its Input; else its layers decide."""
    targets_are_columns: bool
    """Whether targets of shape (samples,) reach losses and metrics as (samples, 1)."""
    cuts_inputs_to_first: bool
    """Whether `predict` takes inputs of different lengths, and as many samples of each as the first has."""
    shows_validation_to_callbacks: bool
    """Whether callbacks have what `fit` validates with as `validation_data`, [x, y, weights]."""
    optimizers_start_anew: bool
    """Whether an optimizer that is given to another model starts anew for its weights; else that is an error."""

    # -------------------- metrics, logs, callbacks --------------------

    sorts_metrics: bool
    """Whether the metrics of a model with several outputs are in the order of their names, not of the outputs."""
    measures_outputs_without_loss: bool
    """Whether outputs without a loss have metrics. Where they have none, the only loss of several outputs is in the logs."""
    metric_names_are_snake_case: bool
    """Whether a metric function `PSNR` is `psnr` in the logs."""
    learning_rate_name: str
    """The name of the learning rate in the logs, and of the optimizers' attribute."""
    baseline_is_best: bool
    """Whether the `baseline` of EarlyStopping counts as the best value before the first."""
    restores_weights_when_stopping: bool
    """Whether EarlyStopping puts back the best weights where it stops training, not at the end of `fit`."""

    # -------------------- what takes more than a yes or no --------------------

    def ends(self, tensors: Any) -> Any:
        """The inputs or outputs of a model as it keeps them: of a list of one tensor, that tensor, if they are unwrapped."""
        single = self.unwraps_single_tensors and isinstance(tensors, list | tuple) and len(tensors) == 1
        return tensors[0] if single else tensors

    def targets(self, arrays: Sequence[Any]) -> list[Any]:
        """Targets as losses and metrics get them."""
        return [a[:, None] if self.targets_are_columns and a is not None and a.ndim == 1 else a for a in arrays]

    def inputs_to_predict(self, x: Any) -> Any:
        """Inputs of `predict`, all as long as the first if they are cut."""
        if not self.cuts_inputs_to_first or not isinstance(x, list):
            return x
        lengths = {each.shape[0] for each in x if hasattr(each, "shape")}
        return [each[: len(x[0])] for each in x] if len(lengths) > 1 else x

    def show_validation(self, callbacks: Sequence[Any], given: Any, source: Any) -> None:
        """Give callbacks `validation_data`: of what the user gave to `fit`, or of what was split off, in a source of arrays."""
        if not self.shows_validation_to_callbacks:
            return
        found = None
        if isinstance(given, list | tuple):
            x, y, weights = (*given, None)[:3]
            samples = x.shape[0] if hasattr(x, "shape") else len(x)
            found = [x, y, np.ones(samples) if weights is None else weights]
        elif given is None and source is not None:
            found = [np.ones(len(source.leaves[0])) if each is None else each for each in source.leaves]
        for each in callbacks:
            each.validation_data = found

    def reference(self, function: Any, otherwise: str) -> str:
        """The name of a function for a configuration, '' where it has none; a lambda has the other name if it is named."""
        name = getattr(function, "__name__", "")
        if not self.names_lambdas:
            return "" if name == "<lambda>" else name
        found = FunctionName(otherwise if name in ("", "<lambda>") else name)
        found.function = function
        return found


KERAS_3 = Behaviour(
    name="Keras 3",
    argument_defaults={},
    hard_sigmoid="hard_sigmoid",  # x / 6 + 0.5 within 0 and 1
    masks_reach_calls_with_several_tensors=False,
    writes_input_shape=False,
    own_layers_keep_shape=False,
    refuses_losses_in_build=False,
    keeps_learning_phase=False,
    frozen_normalizes_by_batch=False,
    initializers_draw_anew=False,
    identity_for_each_gate=False,
    flat_states=False,
    lists_absent_states=False,
    names_lambdas=False,
    unwraps_single_tensors=False,
    checks_shapes_of_calls=True,
    targets_are_columns=False,
    cuts_inputs_to_first=False,
    shows_validation_to_callbacks=False,
    optimizers_start_anew=False,
    sorts_metrics=True,
    measures_outputs_without_loss=True,
    metric_names_are_snake_case=True,
    learning_rate_name="learning_rate",
    baseline_is_best=False,
    restores_weights_when_stopping=False,
)

KERAS_2 = Behaviour(
    name="Keras 2.3.1",
    argument_defaults={
        "Adadelta": {"learning_rate": 1.0},
        "Adagrad": {"learning_rate": 0.01},
        "Adamax": {"learning_rate": 0.002},
        "GRUCell": {"reset_after": False},  # and so GRU's
        "MeanIoU": {"dtype": "float32"},
        "Nadam": {"learning_rate": 0.002},
    },
    hard_sigmoid="legacy_hard_sigmoid",  # 0.2 x + 0.5 within 0 and 1
    masks_reach_calls_with_several_tensors=True,
    writes_input_shape=True,
    own_layers_keep_shape=True,
    refuses_losses_in_build=True,
    keeps_learning_phase=True,
    frozen_normalizes_by_batch=True,
    initializers_draw_anew=True,
    identity_for_each_gate=True,
    flat_states=True,
    lists_absent_states=True,
    names_lambdas=True,
    unwraps_single_tensors=True,
    checks_shapes_of_calls=False,
    targets_are_columns=True,
    cuts_inputs_to_first=True,
    shows_validation_to_callbacks=True,
    optimizers_start_anew=True,
    sorts_metrics=False,
    measures_outputs_without_loss=False,
    metric_names_are_snake_case=False,
    learning_rate_name="lr",
    baseline_is_best=True,
    restores_weights_when_stopping=True,
)

current = KERAS_3


def use(behaviour: Behaviour) -> None:
    """Show a behaviour from now on, in all threads; `nbkeras.compat.keras2` does it, with all else that belongs to Keras 2."""
    global current
    current = behaviour
