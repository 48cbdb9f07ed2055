"""Floor 3: converts the user's x, y and weights to batches for a model, and checks them, once."""

from __future__ import annotations

from collections.abc import Callable
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
from nbkeras.data.arrays import arrays_of, first_rows, is_sparse, samples_of, split_validation
from nbkeras.data.input_matching import GraphInputs
from nbkeras.data.output_matching import Output, match_outputs, with_class_weights
from nbkeras.engine import structures
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import as_tensor

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


# A model's spec. The argument returns the first inputs in the data, for which a model that does not know its outputs is built.
Describe = Callable[[Callable[[], Any]], ModelSpec]


def adapt(
    describe: Describe,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    *,
    inputs_only: bool = False,
    batch_size: int | None = None,
    split: float | None = None,
    validating: Any = None,
    **options: Any,
) -> DataAdapter:
    """A data set as batches for a model; raises ValueError for data that do not match it.

    inputs_only: leave out targets and weights that a stream yields. batch_size: ignored for a stream. split: the fraction of the
    rows of arrays, from their end, that `held_back` of the result has, without class weights. validating: their batch_size and
    steps. options: `steps`, the number of batches in an epoch; `shuffle`; `training`: an epoch of `steps` batches continues where
    the last one stopped.
    """
    stream = ItemStream(x) if is_stream(x) else None
    spec = describe(lambda: _checked_inputs(x if stream is None else unpack(stream.first)[0]))
    if stream is not None:
        if split:
            raise ValueError("validation_split needs arrays: a generator or Sequence cannot be split")
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                raise ValueError(
                    f"{name} must not be given when x is a generator or a Sequence: it yields (x, y) or (x, y, "
                    "sample_weight) itself"
                )

        def batch_of_item(item: Any) -> Batch:
            own, *others = unpack(item, spec.input_count)
            return batch_of(lambda first: spec, own, *([None, None] if inputs_only else others), class_weight)

        return StreamDataAdapter(stream, batch_of_item, **options)
    whole = _rows(spec, x, y, sample_weight, None if split else class_weight)
    held_back = None
    if split:
        layout = whole.layout
        first, last = split_validation(whole.leaves, split)
        first = with_class_weights(first, layout, class_weight, spec.outputs)
        whole, rest = (Batch(leaves, ALL, samples_of(leaves), layout) for leaves in (first, last))
        held_back = ArrayDataAdapter(rest, validating["batch_size"] or spec.batch_size, validating["steps"])
    return ArrayDataAdapter(whole, batch_size or spec.batch_size, held_back=held_back, **options)


def batch_of(describe: Describe, x: Any, *others: Any) -> Batch:
    """All rows of x and, if they are given, of y, sample_weight and class_weight as one batch for a step."""
    whole = _rows(describe(lambda: _checked_inputs(x)), x, *others)
    return whole.layout.prepared(whole)


def first_tensors(x: Any) -> Any:
    """The first rows of inputs in any structure, as tensors."""
    structure, arrays = arrays_of(x, lambda leaf: first_rows(leaf, 32))
    given = [array for array in arrays if array is not None]
    count = min(map(len, given))
    if not count:
        raise ValueError("the data has no samples")
    return structures.pack(structure, [as_tensor(array[:count]) for array in given])


def _checked_inputs(x: Any) -> Any:
    """The inputs; raises ValueError for None."""
    if x is None:
        raise ValueError("x is missing: pass an array, a list or dict of arrays, a generator or a Sequence")
    return x.tocsr() if is_sparse(x) else x  # a dok_matrix is a dict


def _rows(spec: ModelSpec, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None) -> Batch:
    """All rows, for a model with this spec."""
    x = _checked_inputs(x)
    structure, inputs = arrays_of(x) if spec.inputs is None else spec.inputs.arrays(x)
    y_structure, targets, weights = match_outputs(
        y, sample_weight, spec.outputs, spec.nested, spec.has_own_step, inputs
    )
    layout = Layout(structure, y_structure, len(inputs), len(targets))
    if spec.inputs is not None and spec.inputs.host is not None:
        layout = host_batches.HostLayout(layout, spec.inputs)
    leaves = with_class_weights([*inputs, *targets, *weights], layout, class_weight, spec.outputs)
    return Batch(leaves, ALL, samples_of(leaves), layout)
