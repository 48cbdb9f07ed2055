"""Floor 3: Feed, the batches of the data that a user passed to `fit`, `evaluate` or `predict`, and the layout of their arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nbkeras.data import tables
from nbkeras.data.arrays import first_rows, samples_of, split_validation, to_array
from nbkeras.data.batches import (
    ALL,
    ArraySource,
    Batch,
    Source,
    Stream,
    StreamSource,
    is_stream,
    pack_x_y_sample_weight,
    unpack,
    unpack_x_y_sample_weight,
)
from nbkeras.data.input_matching import GraphInputs
from nbkeras.engine import behaviour, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import as_tensor
from nbkeras.training import output_matching
from nbkeras.training.arguments import check_shuffle
from nbkeras.training.output_matching import Output

Array = np.ndarray


class Signature(NamedTuple):
    """The inputs and outputs of a model, against which its data are checked.

    inputs: the inputs of a graph; None accepts arrays in any structure. input_count: their number, 1 if it is not known.
    batch_size: the batch size in the shape of the inputs. complete: for a model without weights, a function that builds it
    for an x and returns its signature. nested: the outputs' structure, if it is a nested one. has_own_step: whether a step or
    a `compute_loss` of the user's own gets the targets, which may be other ones than the outputs.
    """

    inputs: GraphInputs | None = None
    outputs: tuple[Output, ...] = (Output("output"),)
    input_count: int = 1
    batch_size: int | None = None
    complete: Callable[[Any], Signature] | None = None
    nested: Any = None
    has_own_step: bool = False


def arrays_of(
    x: Any, convert: Callable[[Any], Array] = lambda leaf: to_array(leaf, "x")
) -> tuple[Any, list[Array | None]]:
    """(structure, arrays) of inputs in any structure; convert(leaf) makes an array of each."""
    if isinstance(x, list | tuple) and x and not any(hasattr(item, "shape") for item in x):
        x = to_array(x, "x")
    leaves = structures.flatten(x)
    if not leaves:
        raise ValueError(f"x holds no array, received {briefly(x)}")
    return structures.map_leaves(lambda _: 0, x), [convert(leaf) for leaf in leaves]


def first_tensors(x: Any) -> Any:
    """The first rows of inputs in any structure, as tensors."""
    structure, arrays = arrays_of(x, lambda leaf: first_rows(leaf, 32))
    given = [array for array in arrays if array is not None]
    count = min(map(len, given))
    if not count:
        raise ValueError("the data has no samples")
    return structures.pack(structure, [as_tensor(array[:count]) for array in given])


@dataclass(frozen=True)
class Layout:
    """The structures of x and y, which make x, y and sample weights of a batch's flat list of leaves."""

    x: Any  # structures of placeholders
    y: Any
    inputs: int
    targets: int
    key: str = field(init=False, repr=False, compare=False)  # tells layouts apart: structures may not hash

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", repr(self))

    def pack(self, leaves: list) -> Any:
        """x, (x, y) or (x, y, sample_weight), in the structures in which the user passed them."""
        end = self.inputs + self.targets
        x, y, weights = structures.pack(self.x, leaves[: self.inputs]), leaves[self.inputs : end], leaves[end:]
        by_name = isinstance(self.y, dict) and output_matching.nested(self.y) is None  # in the order of the outputs
        packed = dict(zip(self.y, y, strict=True)) if by_name else structures.pack(self.y, y or [None])
        if all(target is None for target in y):
            packed = None
        if all(weight is None for weight in weights):
            return pack_x_y_sample_weight(x, packed)
        return x, packed, weights[0] if len(weights) == 1 else weights


class Examples(NamedTuple):
    """Inputs, targets and sample weights as one flat list of arrays, converted and checked."""

    layout: Layout
    leaves: list[Array | None]
    signature: Signature

    @classmethod
    def of(cls, x: Any, y: Any, sample_weight: Any, signature: Signature) -> Examples:
        """Examples for a model with this signature; ValueError for what does not fit it."""
        if x is None:
            raise ValueError("x is missing: pass an array, a list or dict of arrays, a generator or a Sequence")
        x = x.tocsr() if tables.is_sparse(x) else x  # a dok_matrix is a dict
        if signature.complete is not None:
            signature = signature.complete(x)
        outputs, names = signature.outputs, [output.name for output in signature.outputs]
        structure, inputs = arrays_of(x) if signature.inputs is None else signature.inputs.arrays(x)
        given = y
        y, sample_weight = (output_matching.flattened(each, signature.nested) for each in (y, sample_weight))
        is_nested = y is not given
        y = output_matching.fill_outputs_without_loss(y, outputs)
        sample_weight = output_matching.fill_outputs_without_loss(sample_weight, outputs)
        y_structure: Any = None
        targets: list[Array | None] = []
        if signature.has_own_step and len(names) == 1 and _is_several(y, inputs, names):
            y = {key: y[key] for key in structures.keys(y)} if isinstance(y, dict) else y  # in the order of its leaves
            y_structure, targets = arrays_of(y, lambda leaf: to_array(leaf, "y"))
        elif y is not None:
            y_structure, targets = output_matching.match_targets(y, names)
        if is_nested:  # a train_step of the user's own gets them as the outputs are
            y_structure = signature.nested
        targets = behaviour.current.targets(targets)
        weights = output_matching.match_sample_weights(sample_weight, names, len(targets))
        for output, target in zip(outputs, targets, strict=False):
            output.check_targets(target)
        layout = Layout(structure, y_structure, len(inputs), len(targets))
        return cls(layout, [*inputs, *targets, *weights], signature)

    def weighed(self, class_weight: Any) -> Examples:
        """The same examples with class weights multiplied into the sample weights."""
        layout, leaves = self.layout, list(self.leaves)
        if class_weight is None or not layout.targets:
            return self
        of_outputs = output_matching.match_class_weights(
            class_weight, [output.name for output in self.signature.outputs]
        )
        for position, of_classes in enumerate(of_outputs):
            target, at = leaves[layout.inputs + position], layout.inputs + layout.targets + position
            if of_classes is not None and target is not None:
                leaves[at] = output_matching.weigh_classes(target, of_classes, leaves[at])
        return self._replace(leaves=leaves)

    def split(self, fraction: float) -> tuple[Examples, Examples]:
        """The first examples and the last `fraction` of them, as for validation."""
        first, last = split_validation(self.leaves, fraction)
        return self._replace(leaves=first), self._replace(leaves=last)

    def batch(self) -> Batch:
        """All examples in one batch."""
        return Batch(self.leaves, ALL, samples_of(self.leaves))

    def feed(
        self,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool | str = False,
        training: bool = False,
    ) -> Feed:
        """Batches of the examples; see `Feed.of`."""
        size = self.signature.batch_size if batch_size is None else batch_size
        return Feed(ArraySource(self.leaves, size, shuffle, steps, training), self.layout)


def _is_several(y: Any, inputs: list[Array | None], names: list[str]) -> bool:
    """Whether targets are a dict not by output, or a list or tuple of arrays, each of which has a row for each sample."""
    if isinstance(y, dict):
        return not set(y) <= set(names)
    samples = next((len(array) for array in inputs if array is not None), None)
    is_list = isinstance(y, list | tuple) and len(y) > 1 and len(y) != samples
    return is_list and all(getattr(part, "ndim", 0) >= 1 and len(part) == samples for part in y)


class Feed:
    """Batches, epoch by epoch, and the layout that makes x, y and sample weights of their leaves."""

    def __init__(self, source: Source, layout: Layout):
        self.source, self.layout = source, layout

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        *,
        signature: Signature,
        inputs_only: bool = False,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool | str = False,
        training: bool = False,
    ) -> Feed:
        """Batches of arrays, lists, dicts or tables, or of a stream (a generator, a Sequence, a data loader).

        signature: the model's. inputs_only: leave out targets and weights that a stream yields. batch_size: ignored for a
        stream. steps: the number of batches in an epoch. training: an epoch of `steps` batches continues where the last one
        stopped.
        """
        if not is_stream(x):
            examples = Examples.of(x, y, sample_weight, signature).weighed(class_weight)
            return examples.feed(batch_size, steps, shuffle, training)
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                raise ValueError(
                    f"{name} must not be given when x is a generator or a Sequence: it yields (x, y) or (x, y, "
                    "sample_weight) itself"
                )

        def examples_of(item: Any) -> Examples:
            own, targets, weights = unpack(item, signature.input_count)
            return Examples.of(own, None if inputs_only else targets, None if inputs_only else weights, signature)

        def leaves_of(item: Any) -> list[Array | None]:
            examples = examples_of(item)
            if examples.layout != layout:
                raise ValueError("a generator's batches must all have the same structure")
            return examples.weighed(class_weight).leaves

        stream = Stream(x)
        first = examples_of(stream.first).weighed(class_weight)
        layout, signature = first.layout, first.signature
        return cls(StreamSource(stream, leaves_of, steps, bool(shuffle), training), layout)


class Data(NamedTuple):
    """The data of a `fit`, as they were given."""

    x: Any
    y: Any
    sample_weight: Any
    class_weight: Any


class Validation(NamedTuple):
    """The arguments of a `fit` about its validation."""

    split: float
    data: Any
    batch_size: int | None
    steps: int | None


def training_feeds(
    data: Data, signature: Callable[[], Signature], training: dict[str, Any], validation: Validation
) -> tuple[Feed, Feed | None]:
    """The batches to train on, and those to validate with.

    signature(): the model's, which the first batches may complete. training: batch_size, steps and shuffle of `Feed.of`.
    """
    check_shuffle(training["shuffle"])
    x, y, sample_weight, class_weight = data
    validating: dict[str, Any] = {"batch_size": validation.batch_size, "steps": validation.steps}
    if validation.split and validation.data is None:
        if is_stream(x):
            raise ValueError("validation_split needs arrays: a generator or Sequence cannot be split")
        first, last = Examples.of(x, y, sample_weight, signature()).split(validation.split)
        return first.weighed(class_weight).feed(**training, training=True), last.feed(**validating)
    feed = Feed.of(x, y, sample_weight, class_weight, signature=signature(), **training, training=True)
    if validation.data is None:
        return feed, None
    given = (validation.data,) if is_stream(validation.data) else unpack_x_y_sample_weight(validation.data)
    return feed, Feed.of(*given, signature=signature(), **validating)
