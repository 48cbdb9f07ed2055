"""Floor 3: matches the user's targets, sample weights and class weights to the outputs of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras import config
from nbkeras.building.graph import Graph, name_of
from nbkeras.data import arrays, tables
from nbkeras.data.adapters import Layout
from nbkeras.engine import compatibility, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.gaps import listed_rows
from nbkeras.engine.registry import nearest

Array = np.ndarray


class Output(NamedTuple):
    """One output of a model, and the conditions on its targets.

    classes: the number of classes, if the targets are class numbers. ignored: the class number that means no class.
    """

    name: str
    has_loss: bool = True
    classes: int | None = None
    ignored: int | None = None

    def check_targets(self, targets: Array | None) -> None:
        """Raise ValueError for class numbers out of range; the kernel would return NaN without an error."""
        if targets is None or self.classes is None:
            return
        targets = np.asarray(targets)
        if targets.dtype == np.int32 and targets.size and self.ignored is None:
            if arrays.largest(targets.view(np.uint32), None) < self.classes:
                return  # one pass, 1 us: as uint32 negative numbers are large
        if self.ignored is not None:
            targets = targets[targets != self.ignored]
        if not targets.size:
            return
        low, high = targets.min(), targets.max()
        if not (low >= 0 and high < self.classes):  # this is true for NaN too
            if self.classes == 1:
                fits = "one unit: for yes or no (0 and 1) use sigmoid and binary_crossentropy, or give it a unit for each class"
            else:
                fits = f"{self.classes} units, so they must be 0 to {self.classes - 1}"
            raise ValueError(
                f"targets of output {self.name!r} are class numbers from {low} to {high}, but the output has {fits}"
            )


def per_output(given: Any, names: list[str], what: str) -> list:
    """A list with an entry or None per output, from one entry for all, a list, or a dict by output name."""
    if isinstance(given, Mapping):
        for key in given:
            if key not in names:
                raise ValueError(
                    f"{what} names {briefly(key)}, which is not an output of the model.{nearest(str(key), names)} "
                    f"Outputs: {names}"
                )
        return [given.get(name) for name in names]
    if isinstance(given, list | tuple):
        if len(given) != len(names):
            raise ValueError(
                f"{what} has {len(given)} entries but the model has {len(names)} outputs {names}: give one entry for "
                "each, a dict by output name, or a single one for all"
            )
        return list(given)
    return [given] * len(names)


def names_by_structure(outputs: Any) -> list[str]:
    """The names of outputs that a `call` returned: the keys of a dict, or 'output_1', ..."""
    if isinstance(outputs, dict) and structures.nested(outputs) is None:
        return sorted(outputs)
    count = len(structures.flatten(outputs))
    return ["output"] if count == 1 else [f"output_{i + 1}" for i in range(count)]


def flattened(given: Any, structure: Any) -> Any:
    """Values in the nested structure of the outputs, flattened to a list with one value per output; other values unchanged."""
    return _by_output(given, structure) if structure is not None and _fits(given, structure) else given


def _fits(given: Any, structure: Any) -> bool:
    """Whether values have the structure; None or an absent key stands for a part without values."""
    if isinstance(structure, Mapping):
        if not (isinstance(given, Mapping) and set(given) <= set(structure)):
            return False
    elif not (isinstance(given, list | tuple) and len(given) == len(structure)):
        return False
    pairs = [(_part(given, key), part) for key, part in structures.parts(structure) if structures.is_nested(part)]
    return all(own is None or _fits(own, part) for own, part in pairs)


def _by_output(given: Any, structure: Any) -> list:
    found: list = []
    for key, part in structures.parts(structure):
        own = _part(given, key)
        if not structures.is_nested(part):
            found.append(own)
        else:
            found += [None] * len(structures.flatten(part)) if own is None else _by_output(own, part)
    return found


def _part(given: Any, key: Any) -> Any:
    return given.get(key) if isinstance(given, Mapping) else given[key]


def paths(names: list[str], structure: Any) -> list[str]:
    """Keras's names for the losses of outputs in a nested structure: 'key/name', with an output's own name in a list."""
    own = iter(names)

    def walk(part: Any, before: str) -> Iterator[str]:
        for key, inner in structures.parts(part):
            if structures.is_nested(inner):
                yield from walk(inner, f"{before}{key}/")
            else:
                name = next(own)
                yield f"{before}{key if isinstance(part, Mapping) else name}"

    return names if structure is None else list(walk(structure, ""))


def match_outputs(
    y: Any, sample_weight: Any, outputs: Sequence[Output], nested: Any, is_free: bool, inputs: list[Array | None]
) -> tuple[Any, list[Array | None], list[Array | None]]:
    """(structure of the targets, targets, sample weights) of the user's data: an array or None for each output, checked.

    nested: the outputs' structure, if it is nested. is_free: whether a user's step gets the targets, which then need not match
    the outputs. inputs: the arrays of x.
    """
    names = [output.name for output in outputs]
    flat, flat_weights = flattened(y, nested), flattened(sample_weight, nested)
    filled = _fill_outputs_without_loss(flat, outputs)
    structure: Any = None
    targets: list[Array | None] = []
    if is_free and len(names) == 1 and _is_several(filled, inputs, names):
        if isinstance(filled, dict):
            filled = {key: filled[key] for key in structures.keys(filled)}  # in the order of its leaves
        structure, targets = arrays.arrays_of(filled, lambda leaf: arrays.to_array(leaf, "y"))
    elif filled is not None:
        structure, targets = _match_targets(filled, names)
    if flat is not y:  # a user's train_step gets them in the structure of the outputs
        structure = nested
    targets = compatibility.current.targets(targets)
    weights = _match_sample_weights(_fill_outputs_without_loss(flat_weights, outputs), names, len(targets))
    for output, target in zip(outputs, targets, strict=False):
        output.check_targets(target)
    return structure, targets, weights


def _is_several(y: Any, inputs: list[Array | None], names: list[str]) -> bool:
    """True if targets are a dict whose keys are not outputs, or a list or tuple of arrays with a row for each sample."""
    if isinstance(y, dict):
        return not set(y) <= set(names)
    samples = next((len(array) for array in inputs if array is not None), None)
    is_list = isinstance(y, list | tuple) and len(y) > 1 and len(y) != samples
    return is_list and all(getattr(part, "ndim", 0) >= 1 and len(part) == samples for part in y)


def _fill_outputs_without_loss(values: Any, outputs: Sequence[Output]) -> Any:
    """A list of the values, or the one value, for outputs with a loss and None for the others; unchanged if the count differs."""
    have_loss = [output.has_loss for output in outputs]
    listed = list(values) if isinstance(values, list | tuple) else [values]
    if values is None or isinstance(values, dict) or all(have_loss) or len(listed) != sum(have_loss):
        return values
    return [listed.pop(0) if has else None for has in have_loss]


def _match_targets(y: Any, names: list[str]) -> tuple[Any, list[Array | None]]:
    """(structure, one array or None per output) of targets given as an array, a list, or a dict or table by output name."""
    if len(names) > 1 and tables.is_frame(y):
        y = dict(tables.columns_of(y))
    if isinstance(y, dict) or (len(names) > 1 and isinstance(y, list | tuple)):
        entries = per_output(y, names, "y")
        found = [None if e is None else arrays.to_array(e, f"y[{n!r}]") for n, e in zip(names, entries, strict=True)]
        return (dict.fromkeys(names, 0) if isinstance(y, dict) else [0] * len(names)), found
    if isinstance(y, list | tuple) and len(y) == 1 and getattr(y[0], "ndim", 0) >= 1:
        y = y[0]
    if len(names) > 1:
        raise ValueError(
            f"the model has {len(names)} outputs {names}: y must be a list of as many arrays, or a dict by output name; "
            f"received one {type(y).__name__}"
        )
    return 0, [arrays.to_array(y, "y")]


def _match_sample_weights(sample_weight: Any, names: list[str], targets: int) -> list[Array | None]:
    """One array or None of sample weights per target."""
    if sample_weight is None or not targets:
        return [None] * targets
    several = isinstance(sample_weight, dict) or (
        isinstance(sample_weight, list | tuple) and len(names) > 1 and len(sample_weight) == len(names)
    )
    entries = per_output(sample_weight, names, "sample_weight") if several else [sample_weight] * len(names)
    found = []
    for entry in entries:
        array = None if entry is None else arrays.to_array(entry, "sample_weight", config.floatx())
        if array is not None and not np.isfinite(array).all():
            raise ValueError(
                f"sample_weight holds NaN or infinity in {listed_rows(~np.isfinite(array))}: a weight of 0 leaves a row out"
            )
        found.append(array)
    return found


def with_class_weights(leaves: list, layout: Layout, class_weight: Any, outputs: Sequence[Output]) -> list:
    """The leaves of a batch, with class weights multiplied into the sample weights."""
    if class_weight is None or not layout.targets:
        return leaves
    leaves = list(leaves)
    for position, of_classes in enumerate(_match_class_weights(class_weight, [output.name for output in outputs])):
        target, at = leaves[layout.inputs + position], layout.inputs + layout.targets + position
        if of_classes is not None and target is not None:
            leaves[at] = _weigh_classes(target, of_classes, leaves[at])
    return leaves


def _match_class_weights(class_weight: Any, names: list[str]) -> list[dict | None]:
    """A list with a dict from class number to weight, or None, per output, from one dict, a dict by output name or a list."""
    by_name = (len(names) > 1 and isinstance(class_weight, list | tuple)) or (
        isinstance(class_weight, dict) and class_weight and all(isinstance(key, str) for key in class_weight)
    )
    if not by_name and len(names) > 1:
        raise ValueError(
            f"class_weight of a model with the outputs {names} must be a dict by output name of dicts, or a list of them"
        )
    return per_output(class_weight, names, "class_weight") if by_name else [class_weight]


def _weigh_classes(targets: Array, of_classes: dict, given: Array | None) -> Array:
    """Sample weights made from class weights, multiplied by the given sample weights."""
    weights = arrays.class_weights(targets, of_classes)
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
    return np.ascontiguousarray(weights, known_dtype(None))


def output_names(graph: Graph) -> list[str]:
    """The names of the layers that make the outputs, numbered if a layer makes several."""
    if isinstance(graph.outputs, dict) and structures.nested(graph.outputs) is None:
        return sorted(graph.outputs)
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}  # the next number to try for each name
    for symbol in graph.output_list:
        name = base = name_of(symbol)
        while name in names:
            numbers[base] = numbers.get(base, 0) + 1
            name = f"{base}_{numbers[base]}"
        names[name] = None
    return list(names)
