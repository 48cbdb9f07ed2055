"""Floor 3: from what the user passed as x, y and weights to a flat list of arrays, and back inside a step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.data import batches
from nbkeras.data import tables as tabular
from nbkeras.engine import structures
from nbkeras.training.compiled import per_output

Array = np.ndarray


@dataclass(frozen=True)
class Layout:
    """How a flat list of leaves becomes x, y and sample weights again."""

    x: Any  # structures of placeholders
    y: Any
    inputs: int
    targets: int

    @cached_property
    def key(self) -> str:
        """What tells layouts apart: structures may hold dicts and lists, which do not hash."""
        return repr(self)

    def unpack(self, leaves: list) -> tuple[Any, list, list]:
        """(x structure, targets, sample weights per target)."""
        at, end = self.inputs, self.inputs + self.targets
        return structures.pack(self.x, leaves[:at]), leaves[at:end], leaves[end:]


def spread(values: Any, have_loss: list[bool]) -> Any:
    """Values for the outputs that have a loss, or the one value, as a list with None for the others; else as they are."""
    listed = list(values) if isinstance(values, list | tuple) else [values]
    if values is None or isinstance(values, dict) or all(have_loss) or len(listed) != sum(have_loss):
        return values
    return [listed.pop(0) if has else None for has in have_loss]


def prepare_targets(y: Any, names: list[str]) -> tuple[Any, list[Array | None]]:
    """(structure, one array or None per output) of targets given as an array, a list, or a dict or table by output name."""
    if len(names) > 1 and tabular.is_frame(y):
        y = dict(tabular.columns_of(y))
    if isinstance(y, dict) or (len(names) > 1 and isinstance(y, list | tuple)):
        entries = per_output(y, names, "y")
        arrays = [None if e is None else batches.to_array(e, f"y[{n!r}]") for n, e in zip(names, entries, strict=True)]
        return (dict.fromkeys(names, 0) if isinstance(y, dict) else [0] * len(names)), arrays
    if isinstance(y, list | tuple) and len(y) == 1 and getattr(y[0], "ndim", 0) >= 1:
        y = y[0]
    if len(names) > 1:
        raise ValueError(
            f"the model has {len(names)} outputs {names}: y must be a list of as many arrays, or a dict by output name; "
            f"received one {type(y).__name__}"
        )
    return 0, [batches.to_array(y, "y")]


def prepare_weights(sample_weight: Any, names: list[str], targets: int) -> list[Array | None]:
    """One array or None of sample weights per target."""
    if sample_weight is None or not targets:
        return [None] * targets
    several = isinstance(sample_weight, dict) or (
        isinstance(sample_weight, list | tuple) and len(names) > 1 and len(sample_weight) == len(names)
    )
    entries = per_output(sample_weight, names, "sample_weight") if several else [sample_weight] * len(names)
    arrays = []
    for entry in entries:
        array = None if entry is None else batches.to_array(entry, "sample_weight", config.floatx())
        if array is not None and not np.isfinite(array).all():
            raise ValueError("sample_weight holds NaN or infinity")
        arrays.append(array)
    return arrays


def weigh_classes(layout: Layout, leaves: list, class_weight: Any, names: list[str]) -> list:
    """The leaves with class weights multiplied into the sample weights; of several outputs, a dict by name or a list."""
    if class_weight is None or not layout.targets:
        return leaves
    by_name = (layout.targets > 1 and isinstance(class_weight, list | tuple)) or (
        isinstance(class_weight, dict) and class_weight and all(isinstance(key, str) for key in class_weight)
    )
    if not by_name and layout.targets > 1:
        raise ValueError(
            f"class_weight of a model with the outputs {names} must be a dict by output name of dicts, or a list of them"
        )
    tables = per_output(class_weight, names, "class_weight") if by_name else [class_weight]
    leaves = list(leaves)
    for position, table in enumerate(tables):
        target, at = leaves[layout.inputs + position], layout.inputs + layout.targets + position
        if table is None or target is None:
            continue
        weights, given = batches.class_weights(target, table), leaves[at]
        if given is not None:
            axes = max(weights.ndim, given.ndim)
            factors = [each.reshape(each.shape + (1,) * (axes - each.ndim)) for each in (weights, given)]
            try:
                weights = np.multiply(*factors)
            except ValueError:
                raise ValueError(
                    f"sample_weight of shape {given.shape} does not fit class_weight's weights of targets, of shape "
                    f"{weights.shape}: give one weight for each sample, or for each target"
                ) from None
        leaves[at] = np.ascontiguousarray(weights, config.floatx())
    return leaves
