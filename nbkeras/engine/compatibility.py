"""Floor 1: CompatibilityPolicy, the differences between Keras 2 and Keras 3, and the behaviour that is currently active.

The core reads `compatibility.current` while it builds or records, never in a replayed step. The core does not know arguments,
methods and modules that only have different names in Keras 2: nbkeras/compat/ adds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class FunctionName(str):
    """The name of a function in a configuration. While the configuration stays in memory, it also holds the function."""

    function: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompatibilityPolicy:
    """The differences in behaviour between Keras 2.3.1 and Keras 3 that a script cannot select by an argument.

    The defaults are Keras 3's.
    """

    name: str = "Keras 3"

    # -------------------- written into signatures and registries by compat/keras2/ --------------------

    argument_defaults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Class or function -> argument -> its default, if it differs from the default in nbkeras's source."""
    hard_sigmoid: str = "hard_sigmoid"  # x / 6 + 0.5 within 0 and 1
    """The op of nbkeras.ops for the activation name 'hard_sigmoid'."""

    # -------------------- layers --------------------

    masks_reach_calls_with_several_tensors: bool = False
    """Whether a layer's `call` gets the mask of its input even if another argument of the call is a tensor too."""
    writes_input_shape: bool = False
    """Whether `get_config` includes the input shape that a layer was made with, as `batch_input_shape`."""
    own_layers_keep_shape: bool = False
    """Whether `Layer.compute_output_shape` returns the input's shape for layers that users wrote."""
    keeps_losses_of_build: bool = False
    """Whether a constant that `build` gives to `add_loss` is part of each loss. A loss of weights is an error then: Keras 2
    computes it in each step; nbkeras would keep its first value."""
    keeps_learning_phase: bool = False
    """Whether a layer that is connected after `set_learning_phase` keeps that phase, also in `fit` and `predict`."""
    frozen_normalizes_by_batch: bool = False
    """Whether a frozen BatchNormalization normalizes by the batch in training, without changing its moving statistics."""
    frozen_layers_freeze_parts: bool = False
    """Whether a frozen layer's parts do not train, even those that were unfrozen after it."""
    initializers_draw_anew: bool = False
    """Whether each call of an initializer returns new numbers, even with a seed."""
    seeds_from_numpy: bool = False
    """Whether default seeds come from NumPy's generator instead of Python's, while no seed of nbkeras is set."""
    identity_for_each_gate: bool = False
    """Whether `recurrent_initializer='identity'` makes an identity matrix for each gate, instead of one for the first."""
    flat_states: bool = False
    """Whether the states of stacked recurrent cells are in one list, instead of a list for each cell."""
    lists_absent_states: bool = False
    """Whether `states` of a recurrent layer without states is a list of None, instead of None."""
    embeddings_take_sequences: bool = False
    """Whether an Embedding without an input shape takes sequences of any length, so that it can start a Sequential."""
    merged_steps_need_all_masks: bool = False
    """Whether a step of merged sequences is valid where all masks say so. If not: where one says so, if each input has a mask."""
    lookups_have_own_dtype: bool = False
    """Whether indicators of terms have the dtype of their layer, instead of int64."""
    paths_name_one_layer: bool = False
    """Whether the path of a weight names only the layer that made it, not the layers and models around it."""
    names_lambdas: bool = False
    """Whether a Lambda layer's configuration names a `lambda` by the layer's name, instead of refusing it."""

    # -------------------- models and training --------------------

    unwraps_single_tensors: bool = False
    """Whether `Model(inputs=[x], outputs=[y])` is `Model(x, y)`, so that `input` and `output` are not lists."""
    checks_shapes_of_calls: bool = True
    """Whether a model checks the shapes of its inputs; if not, only its layers do."""
    targets_are_columns: bool = False
    """Whether targets of shape (samples,) reach losses and metrics as (samples, 1)."""
    cuts_inputs_to_first: bool = False
    """Whether `predict` accepts inputs of different lengths and cuts them to the length of the first."""
    shows_validation_to_callbacks: bool = False
    """Whether `fit` sets the attribute `validation_data` of its callbacks, [x, y, weights]."""
    optimizers_start_anew: bool = False
    """Whether an optimizer that is passed to a second model restarts, instead of raising an error."""

    saves_under_any_name: bool = False
    """Whether `save` writes HDF5 into a file whose name does not end in .keras, .h5 or .hdf5, instead of raising an error."""

    # -------------------- metrics, logs, callbacks --------------------

    sorts_metrics: bool = True
    """Whether the metrics of several outputs are sorted by name, instead of by output."""
    measures_outputs_without_loss: bool = True
    """Whether outputs without a loss have metrics. If not, the logs contain the only loss of several outputs by its name."""
    metric_names_are_snake_case: bool = True
    """Whether a metric function `PSNR` is called `psnr` in the logs."""
    learning_rate_name: str = "learning_rate"
    """The name of the learning rate in the logs, and of the optimizers' attribute."""
    names_functions: bool = False
    """Whether `serialize` writes the name of a function of `losses` or `metrics`, instead of a configuration."""
    baseline_is_best: bool = False
    """Whether the `baseline` of EarlyStopping counts as the best value before the first."""
    restores_weights_when_stopping: bool = False
    """Whether EarlyStopping restores the best weights when it stops training, instead of at the end of `fit`."""

    # -------------------- differences with logic --------------------

    def ends(self, tensors: Any) -> Any:
        """The inputs or outputs of a model. The policy decides whether a list of one tensor means the tensor."""
        single = self.unwraps_single_tensors and isinstance(tensors, list | tuple) and len(tensors) == 1
        return tensors[0] if single else tensors

    def targets(self, arrays: Sequence[Any]) -> list[Any]:
        """The targets as losses and metrics get them."""
        return [a[:, None] if self.targets_are_columns and a is not None and a.ndim == 1 else a for a in arrays]

    def inputs_to_predict(self, x: Any) -> Any:
        """The inputs of `predict`, which may be cut to the length of the first."""
        if not self.cuts_inputs_to_first or not isinstance(x, list):
            return x
        lengths = {each.shape[0] for each in x if hasattr(each, "shape")}
        return [each[: len(x[0])] for each in x] if len(lengths) > 1 else x

    def show_validation(self, callbacks: Sequence[Any], given: Any, data: Any) -> None:
        """Set `validation_data` of callbacks. given: the argument of `fit`. data: the adapter of the rows that were split off."""
        if not self.shows_validation_to_callbacks:
            return
        found = None
        if isinstance(given, list | tuple):
            x, y, weights = (*given, None)[:3]
            samples = x.shape[0] if hasattr(x, "shape") else len(x)
            found = [x, y, np.ones(samples) if weights is None else weights]
        elif given is None and data is not None:
            found = [np.ones(data.whole.size) if each is None else each for each in data.whole.leaves]
        for each in callbacks:
            each.validation_data = found

    def reference(self, function: Any, otherwise: str) -> str:
        """The name of a function in a configuration, or ''. A lambda may get the name `otherwise`."""
        name = getattr(function, "__name__", "")
        if not self.names_lambdas:
            return "" if name == "<lambda>" else name
        found = FunctionName(otherwise if name in ("", "<lambda>") else name)
        found.function = function
        return found


KERAS_3 = CompatibilityPolicy()

# Each switch is a difference between the two, so Keras 2 has the opposite of each default.
_SWITCHES: dict[str, Any] = {
    each.name: each.default for each in dataclasses.fields(CompatibilityPolicy) if isinstance(each.default, bool)
}
KERAS_2 = CompatibilityPolicy(
    name="Keras 2.3.1",
    argument_defaults={
        "Adadelta": {"learning_rate": 1.0},
        "Adagrad": {"learning_rate": 0.01},
        "Adamax": {"learning_rate": 0.002},
        "GRU": {"reset_after": False},
        "GRUCell": {"reset_after": False},
        "MeanIoU": {"dtype": "float32"},
        "Nadam": {"learning_rate": 0.002},
        "l1_l2": {"l1": 0.01, "l2": 0.01},
        "plot_model": {"show_layer_names": True, "dpi": 96},
        "to_categorical": {"dtype": "float32"},
    },
    hard_sigmoid="legacy_hard_sigmoid",  # 0.2 x + 0.5 within 0 and 1
    learning_rate_name="lr",
    **{name: not value for name, value in _SWITCHES.items()},
)

current = KERAS_3
