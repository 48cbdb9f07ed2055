"""Floor 3: converts the user's x, y and weights to batches for a model, and checks them, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.data.adapters import (
    ArrayDataAdapter,
    DataAdapter,
    ItemStream,
    Layout,
    StreamDataAdapter,
    is_stream,
    unpack,
)
from nbkeras.data.arrays import first_rows, is_sparse, samples_of, split_validation, to_array
from nbkeras.data.input_matching import GraphInputs
from nbkeras.engine import behaviour, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import as_tensor
from nbkeras.training import output_matching
from nbkeras.training.output_matching import Output

host_batches = LazyModule("nbkeras.data.host_batches")
Array = np.ndarray


class ModelSpec(NamedTuple):
    """The inputs and outputs of a model; data are checked against them.

    inputs: the inputs of a graph; None accepts arrays in any structure. input_count: their number, 1 if it is not known.
    batch_size: the batch size in the shape of the inputs. nested: the outputs' structure, if it is nested. has_own_step: whether
    a user's step or `compute_loss` gets the targets; then the targets need not match the outputs.
    """

    inputs: GraphInputs | None = None
    outputs: tuple[Output, ...] = (Output("output"),)
    input_count: int = 1
    batch_size: int | None = None
    nested: Any = None
    has_own_step: bool = False


# -------------------- the first rows, for which a model is built --------------------


def opened(x: Any) -> Any:
    """A Stream for an object that yields batches; other data unchanged."""
    return ItemStream(x) if is_stream(x) else x


def first_inputs(x: Any) -> Any:
    """The inputs in opened data; for a stream, the inputs of its first item."""
    return _checked_inputs(unpack(x.first)[0] if isinstance(x, ItemStream) else x)


def _checked_inputs(x: Any) -> Any:
    """The inputs; raises ValueError for None."""
    if x is None:
        raise ValueError("x is missing: pass an array, a list or dict of arrays, a generator or a Sequence")
    return x.tocsr() if is_sparse(x) else x  # a dok_matrix is a dict


def first_tensors(x: Any) -> Any:
    """The first rows of inputs in any structure, as tensors."""
    structure, arrays = _arrays(x, lambda leaf: first_rows(leaf, 32))
    given = [array for array in arrays if array is not None]
    count = min(map(len, given))
    if not count:
        raise ValueError("the data has no samples")
    return structures.pack(structure, [as_tensor(array[:count]) for array in given])


def _arrays(
    x: Any, convert: Callable[[Any], Array] = lambda leaf: to_array(leaf, "x")
) -> tuple[Any, list[Array | None]]:
    """(structure, arrays) of inputs in any structure; convert(leaf) makes an array from each leaf."""
    if isinstance(x, list | tuple) and x and not any(hasattr(item, "shape") or isinstance(item, dict) for item in x):
        x = to_array(x, "x")
    leaves = structures.flatten(x)
    if not leaves:
        raise ValueError(f"x holds no array, received {briefly(x)}")
    return structures.map_leaves(lambda _: 0, x), [convert(leaf) for leaf in leaves]


# -------------------- batches --------------------


def batch_of(*data: Any) -> Batch:
    """All rows as one batch for a step; see `rows_of`."""
    whole = rows_of(*data)
    return whole.layout.prepared(whole)


def rows_of(x: Any, y: Any, sample_weight: Any, class_weight: Any, spec: ModelSpec) -> Batch:
    """All rows, for a model with this spec; raises ValueError for data that do not match it."""
    x, outputs, names = _checked_inputs(x), spec.outputs, [output.name for output in spec.outputs]
    structure, inputs = _arrays(x) if spec.inputs is None else spec.inputs.arrays(x)
    given = y
    y, sample_weight = (output_matching.flattened(each, spec.nested) for each in (y, sample_weight))
    is_nested = y is not given
    y = output_matching.fill_outputs_without_loss(y, outputs)
    sample_weight = output_matching.fill_outputs_without_loss(sample_weight, outputs)
    y_structure: Any = None
    targets: list[Array | None] = []
    if spec.has_own_step and len(names) == 1 and _is_several(y, inputs, names):
        y = {key: y[key] for key in structures.keys(y)} if isinstance(y, dict) else y  # in the order of its leaves
        y_structure, targets = _arrays(y, lambda leaf: to_array(leaf, "y"))
    elif y is not None:
        y_structure, targets = output_matching.match_targets(y, names)
    if is_nested:  # a user's train_step gets them in the structure of the outputs
        y_structure = spec.nested
    targets = behaviour.current.targets(targets)
    weights = output_matching.match_sample_weights(sample_weight, names, len(targets))
    for output, target in zip(outputs, targets, strict=False):
        output.check_targets(target)
    leaves = [*inputs, *targets, *weights]
    layout = Layout(structure, y_structure, len(inputs), len(targets))
    if spec.inputs is not None and spec.inputs.host is not None:
        layout = host_batches.HostLayout(layout, spec.inputs)
    if class_weight is not None:
        leaves = _weighed(leaves, layout, class_weight, spec)
    return Batch(leaves, ALL, samples_of(leaves), layout)


def _is_several(y: Any, inputs: list[Array | None], names: list[str]) -> bool:
    """True if targets are a dict whose keys are not outputs, or a list or tuple of arrays with a row for each sample."""
    if isinstance(y, dict):
        return not set(y) <= set(names)
    samples = next((len(array) for array in inputs if array is not None), None)
    is_list = isinstance(y, list | tuple) and len(y) > 1 and len(y) != samples
    return is_list and all(getattr(part, "ndim", 0) >= 1 and len(part) == samples for part in y)


def _weighed(given: Sequence[Any], layout: Layout, class_weight: Any, spec: ModelSpec) -> list[Any]:
    """The leaves of a batch with class weights multiplied into the sample weights."""
    leaves = list(given)
    if class_weight is None or not layout.targets:
        return leaves
    names = [output.name for output in spec.outputs]
    for position, of_classes in enumerate(output_matching.match_class_weights(class_weight, names)):
        target, at = leaves[layout.inputs + position], layout.inputs + layout.targets + position
        if of_classes is not None and target is not None:
            leaves[at] = output_matching.weigh_classes(target, of_classes, leaves[at])
    return leaves


# -------------------- data sets --------------------


def adapter_of(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    *,
    spec: ModelSpec,
    inputs_only: bool = False,
    batch_size: int | None = None,
    **options: Any,
) -> DataAdapter:
    """An opened data set as batches for a model with this spec.

    inputs_only: leave out targets and weights that a stream yields. batch_size: ignored for a stream. options: `steps`, the
    number of batches in an epoch; `shuffle`; `training`: an epoch of `steps` batches continues where the last one stopped.
    """
    if not isinstance(x, ItemStream):
        whole = rows_of(x, y, sample_weight, class_weight, spec)
        return ArrayDataAdapter(whole, batch_size or spec.batch_size, **options)
    for name, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None:
            raise ValueError(
                f"{name} must not be given when x is a generator or a Sequence: it yields (x, y) or (x, y, "
                "sample_weight) itself"
            )

    def batch_of_item(item: Any) -> Batch:
        own, targets, weights = unpack(item, spec.input_count)
        return batch_of(own, None if inputs_only else targets, None if inputs_only else weights, class_weight, spec)

    return StreamDataAdapter(x, batch_of_item, **options)


def split_adapters(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Any,
    fraction: float,
    spec: ModelSpec,
    training: dict[str, Any],
    validating: dict[str, Any],
) -> tuple[DataAdapter, DataAdapter]:
    """Adapters for training on the first rows of arrays, and for validation, without class weights, on the last `fraction`.

    training, validating: other options of `adapter_of`.
    """
    if isinstance(x, ItemStream):
        raise ValueError("validation_split needs arrays: a generator or Sequence cannot be split")
    whole = rows_of(x, y, sample_weight, None, spec)
    first, last = (
        Batch(leaves, ALL, samples_of(leaves), whole.layout) for leaves in split_validation(whole.leaves, fraction)
    )
    first = Batch(_weighed(first.leaves, first.layout, class_weight, spec), ALL, first.size, first.layout)
    return ArrayDataAdapter(first, training=True, **training), ArrayDataAdapter(last, **validating)
