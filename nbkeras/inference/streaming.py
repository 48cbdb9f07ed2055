"""Floor 3: how each layer goes on from step to step: a table of rules by class, and Walk, which goes through a model's graph.

A tensor of the graph is of one of three kinds. STEPS: its axis 1 is the steps of a call. LAST: it has no such axis, and is what
`predict` gives for the sequence up to the last step of the call. GIVEN: it depends on no sequence. A rule makes a Part of a call
of its layer on STEPS, or refuses it: it accepts only what is exact, whatever the numbers are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from nbkeras import activations, ops
from nbkeras.building.graph import Graph, Node, SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.layers import (
    activation,
    attention,
    convolving,
    core,
    einsum_dense,
    embedding,
    merging,
    multi_head_attention,
    normalization,
    numerical,
    recurrent,
    recurrent_cells,
    regularization,
    rnn_wrappers,
    spatial,
    wrapper,
)
from nbkeras.ops.attention import masked_softmax
from nbkeras.training.input_matching import in_dtype
from nbkeras.training.model import Model

STEPS, LAST, GIVEN = "steps", "last", "given"


class Form(NamedTuple):
    """A state of a sequence: its shape, without the batch axis, and its dtype."""

    shape: tuple
    dtype: Any = "float32"


class Now(NamedTuple):
    """Where a call is in its sequences: the number of rows and of steps, and the steps before it by row, (batch,); see `Part`."""

    batch: int
    steps: int
    before: Any


@dataclass
class Part:
    """A call of a layer as a part of a stream.

    run(now, states, args, kwargs) -> (outputs, new states): now: a Now; states: a list of tensors (batch, *shape), one for
    each of `forms`; args and kwargs: those of the layer's call, of which tensors with steps have those of this call. kinds: one
    for each output. start(rows): the states of new sequences, a list of tensors; None for zeros. counts: whether `run` reads
    `now.before`. limit: the number of steps that a sequence may have; None for any.
    """

    run: Callable[[Now, list, tuple, dict], tuple[Any, Sequence]]
    kinds: list[str]
    forms: Sequence[Form] = ()
    start: Callable[[int], list] | None = None
    counts: bool = False
    limit: int | None = None


class Site:
    """A call of a layer in a graph, for which a rule makes a Part.

    kinds: by id of a symbolic tensor. window: how many steps attention may look back, or None. model: its name, for messages.
    """

    def __init__(self, node: Node, kinds: dict[int, str], window: int | None, model: str, layer: Any = None):
        self.node, self.kinds, self.window, self.model = node, kinds, window, model
        self.layer = node.layer if layer is None else layer
        self.named: dict[str, Any] = {**dict(zip(self.layer._call_names, node.args, strict=False)), **node.kwargs}

    def kind(self, symbol: Any) -> str:
        """The kind of an argument: GIVEN for values."""
        return self.kinds[id(symbol)] if isinstance(symbol, SymbolicTensor) else GIVEN

    @property
    def first(self) -> Any:
        """The first argument; of Keras 2's list [sequences, states...] the sequences."""
        value = self.node.call_inputs
        return value[0] if isinstance(value, list | tuple) else value

    def stepwise(self) -> list[SymbolicTensor]:
        """The inputs with steps."""
        return [each for each in self.node.inputs if self.kind(each) == STEPS]

    def outputs(self) -> list[SymbolicTensor]:
        """The outputs."""
        return structures.flatten(self.node.outputs)

    def refuse(self, why: str, instead: str = "") -> NoReturn:
        """ValueError that names the layer, and says why it cannot go step by step and what to do."""
        layer = self.layer
        raise ValueError(
            f"model {self.model!r} cannot go step by step: layer {layer.name!r} ({type(layer).__name__}) {why}"
            + (f". {instead}" if instead else "")
        )

    # -------------------- what rules check --------------------

    def only_first(self) -> SymbolicTensor:
        """The first argument, which is the only one with steps."""
        first = self.first
        others = [each for each in self.stepwise() if each is not first]
        if self.kind(first) != STEPS or any(each is not getattr(first, "mask", None) for each in others):
            self.refuse("has sequences among its further arguments", "Only its first argument may have steps")
        return first

    def check_axes(self, axes: Any, rank: int, does: str) -> None:
        """Refuse axes among which is the step axis (or the batch axis)."""
        listed = axes if isinstance(axes, list | tuple) else [axes]
        if any(axis % rank < 2 for axis in listed):
            self.refuse(f"{does} the step axis (axis 1): it needs all steps at once", "Let it work on later axes")

    def check_activation(self, function: Any, rank: int) -> None:
        """Refuse an activation that may join steps."""
        if function in _ELEMENTWISE or getattr(function, "each_step_alone", False) or isinstance(function, _ANY_AXIS):
            return
        if function in _LAST_AXIS:
            return self.check_axes(-1, rank, f"applies {function.__name__} along")
        name = getattr(function, "__name__", None) or repr(function)
        self.refuse(
            f"has the activation {name}, of which it is not known whether it works on each step alone",
            "If it does, set `each_step_alone = True` on that function",
        )


# -------------------- the walk through a graph --------------------


class Walk:
    """The parts of a graph. inputs: the kinds of its inputs. prefix: the names of the models around it, for messages."""

    def __init__(self, graph: Graph, inputs: Sequence[str], window: int | None, model: str):
        self.graph = graph
        self.kinds = {id(symbol): kind for symbol, kind in zip(graph.input_list, inputs, strict=True)}
        self._parts: list[tuple[Node, Part]] = []
        for node in graph.nodes:
            part = part_of(Site(node, self.kinds, window, model))
            for symbol, kind in zip(structures.flatten(node.outputs), part.kinds, strict=True):
                self.kinds[id(symbol)] = kind
            self._parts.append((node, part))
        self.forms = [form for _, part in self._parts for form in part.forms]
        self.counts = any(part.counts for _, part in self._parts)
        limits = [part.limit for _, part in self._parts if part.limit is not None]
        self.limit = min(limits) if limits else None
        self.output_kinds = [self.kinds[id(symbol)] for symbol in graph.output_list]

    def start(self, rows: int) -> list:
        """The states of new sequences, one for each of `forms`."""
        found: list = []
        for _, part in self._parts:
            found += part.start(rows) if part.start else [ops.zeros((rows, *f.shape), f.dtype) for f in part.forms]
        return found

    def run(self, now: Now, states: list, inputs: list) -> tuple[Any, list]:
        """(the outputs' structure, new states) of the inputs, in the graph's order."""
        kept = iter(states)
        own = {id(node): (part, [next(kept) for _ in part.forms]) for node, part in self._parts}
        new: list = []

        def call(node: Node, args: tuple, kwargs: dict) -> Any:
            part, before = own[id(node)]
            outputs, after = part.run(now, before, args, kwargs)
            new.extend(after)
            return outputs

        return self.graph.run(inputs, call), new


def part_of(site: Site) -> Part:
    """The part of a call, by the first that there is: the layer's own method, its declaration, or the rule of its class."""
    layer, kinds = site.layer, {site.kind(each) for each in site.node.inputs}
    if site.named.get("training") or layer._phase:
        site.refuse(
            "is called with training=True, so its outputs are random or depend on the whole batch", "Leave it out"
        )
    if STEPS not in kinds:
        if getattr(layer, "stateful", False):
            site.refuse("is stateful, and its input is no sequence that the stream goes through", "Make it stateless")
        return plain(site, LAST if LAST in kinds else GIVEN)
    if LAST in kinds:
        late = next(each for each in site.node.inputs if site.kind(each) == LAST)
        site.refuse(
            f"joins steps with {late.node.layer.name!r}'s output, which is known after the last step: for the first steps it "  # type: ignore[union-attr]
            "would come from the future"
        )
    if callable(own := getattr(layer, "streamed", None)):
        return own(site)
    if getattr(layer, "each_step_alone", False):
        return plain(site, STEPS)
    if getattr(layer, "_graph", None) is not None:
        return nested(site)
    for cls in type(layer).__mro__:
        if cls in RULES:
            check_own_methods(site, cls)
            return RULES[cls](site)
    site.refuse("is not known to work on each step alone", _DECLARE)


_DECLARE = (
    "If it does, set `each_step_alone = True` on its class or on the layer; if it keeps something from step to step, give it a "
    "method `streamed` (docs/statefulness.md)"
)
_HARMLESS = {
    "__init__",
    "__module__",
    "__doc__",
    "__qualname__",
    "build",
    "get_config",
    "from_config",
    "compute_output_shape",
}


def check_own_methods(site: Site, known: type) -> None:
    """Refuse a subclass that overrides what the known class computes with."""
    methods = {name for cls in known.__mro__ if cls not in Layer.__mro__ for name in vars(cls)} | {"call", "__call__"}
    for cls in type(site.layer).__mro__:
        if cls is known:
            return
        own = {name for name in vars(cls) if name in methods and callable(getattr(cls, name))} - _HARMLESS
        if own and not cls.__module__.startswith("nbkeras."):
            site.refuse(
                f"overrides {sorted(own)[0]!r} of {known.__name__}, so it is not known what it computes", _DECLARE
            )


def plain(site: Site, kind: str) -> Part:
    """The call as it is."""
    layer = site.layer
    return Part(lambda now, states, args, kwargs: (layer(*args, **kwargs), ()), [kind] * len(site.outputs()))


def nested(site: Site) -> Part:
    """A model in the model: the parts of its graph."""
    model = site.layer
    if type(model).call is not Model.call or site.named.get("mask") is not None:
        site.refuse("has a `call` of its own, or is called with a mask", "Use a functional model and masks of layers")
    matching = model._graph_inputs
    symbols = matching.in_order(site.node.call_inputs)
    walk = Walk(model._graph, [site.kind(each) for each in symbols], site.window, site.model)

    def run(now, states, args, kwargs):
        leaves = matching.in_order(args[0] if args else next(iter(kwargs.values())))
        pairs = zip(leaves, model._graph.input_list, strict=True)
        return walk.run(now, states, [in_dtype(leaf, symbol.dtype) for leaf, symbol in pairs])

    return Part(run, walk.output_kinds, walk.forms, walk.start, walk.counts, walk.limit)


RULES: dict[type, Callable[[Site], Part]] = {}


def rule(*classes: type) -> Callable:
    """Decorator of the rule for layers of these classes, and of their subclasses that change nothing of it."""

    def add(function: Callable[[Site], Part]) -> Callable[[Site], Part]:
        RULES.update(dict.fromkeys(classes, function))
        return function

    return add


# -------------------- layers that work on each step alone --------------------

_ELEMENTWISE = {
    getattr(activations, name)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu legacy_hard_sigmoid linear "
        "log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
        "tanh_shrink threshold"
    ).split()
} | {ops.gelu}
_LAST_AXIS = {ops.softmax, ops.log_softmax, ops.sparsemax, ops.glu}
_ANY_AXIS = (activation.ReLU, activation.LeakyReLU, activation.ELU, activation.ThresholdedReLU)


@rule(
    *_ANY_AXIS,
    core.Identity,
    regularization.Dropout,
    regularization.GaussianNoise,
    regularization.GaussianDropout,
    regularization.AlphaDropout,
    regularization.ActivityRegularization,
)
def elementwise(site: Site) -> Part:
    return plain(site, STEPS)


@rule(core.Activation)
def activated(site: Site) -> Part:
    site.check_activation(site.layer.activation, site.only_first().ndim)
    return plain(site, STEPS)


@rule(core.Dense)
def dense(site: Site) -> Part:
    site.check_axes(-1, site.only_first().ndim, "multiplies along")
    return activated(site)


@rule(core.Masking)
def masking(site: Site) -> Part:
    site.check_axes(-1, site.only_first().ndim, "looks along")
    return plain(site, STEPS)


@rule(einsum_dense.EinsumDense)
def einsum(site: Site) -> Part:
    layer, first = site.layer, site.only_first()
    terms = einsum_dense._parsed(layer.equation)
    extra = first.ndim - len(terms.inputs) if terms.first else 0  # the first axes, for which '...' stands
    letter = terms.inputs[1 - extra] if extra < 2 and len(terms.inputs) > 1 - extra else None
    place = None if letter is None else terms.outputs.find(letter) + extra
    if letter is not None and (letter in terms.kernel or place != 1):
        site.refuse(f"multiplies or moves the step axis ({letter!r} in {layer.equation!r})", "Keep it at its place")
    if letter is not None and layer.bias_axes and letter in layer.bias_axes:
        site.refuse(
            "has a bias for each step, so it knows a fixed number of steps", "Leave that letter out of bias_axes"
        )
    site.check_activation(layer.activation, site.outputs()[0].ndim)
    return plain(site, STEPS)


@rule(embedding.Embedding)
def embedded(site: Site) -> Part:
    site.only_first()
    if site.named.get("reverse"):
        site.check_axes(-1, site.first.ndim, "multiplies along")
    return plain(site, STEPS)


@rule(normalization.LayerNormalization, normalization.RMSNormalization, normalization.UnitNormalization)
def normalized(site: Site) -> Part:
    site.check_axes(site.layer.axis, site.only_first().ndim, "normalizes over")
    return plain(site, STEPS)


@rule(normalization.BatchNormalization, numerical.Normalization)
def normalized_by_statistics(site: Site) -> Part:
    site.check_axes(site.layer.axis, site.only_first().ndim, "has statistics of their own for the indices of")
    return plain(site, STEPS)


@rule(activation.Softmax)
def softmax(site: Site) -> Part:
    site.check_axes(site.layer.axis, site.only_first().ndim, "sums over")
    return plain(site, STEPS)


@rule(activation.PReLU)
def prelu(site: Site) -> Part:
    site.only_first()
    if 1 not in (site.layer.shared_axes or ()):
        site.refuse(
            "has weights of their own for each step, so it knows a fixed number of steps", "Use shared_axes=[1]"
        )
    return plain(site, STEPS)


@rule(numerical.Rescaling)
def rescaled(site: Site) -> Part:
    numbers = max(np.ndim(site.layer.scale), np.ndim(site.layer.offset))
    if numbers > site.only_first().ndim - 2:
        site.refuse("has numbers of their own for the steps", "Give one for each channel")
    return plain(site, STEPS)


@rule(rnn_wrappers.TimeDistributed)
def each_step(site: Site) -> Part:
    site.only_first()
    if any(getattr(each, "stateful", False) for each in site.layer.layer._all_layers()):
        site.refuse("wraps a stateful layer", "Make it stateless")
    return plain(site, STEPS)


@rule(wrapper.SpectralNormalization)
def wrapped(site: Site) -> Part:
    return part_of(Site(site.node, site.kinds, site.window, site.model, site.layer.layer))


@rule(core.Reshape)
def reshaped(site: Site) -> Part:
    layer, first = site.layer, site.only_first()
    before: Any = first.shape[2:]
    after: Any = site.outputs()[0].shape[2:]
    if site.outputs()[0].ndim < 2 or None in (*before, *after) or math.prod(before) != math.prod(after):
        site.refuse(
            "does not keep each step's numbers together", "Use target_shape=(-1, ...) with as many numbers a step"
        )
    target = tuple(after)

    def run(now, states, args, kwargs):
        return layer.call_by(lambda x: ops.reshape(x, (*x.shape[:2], *target)), args, kwargs), ()

    return Part(run, [STEPS])


@rule(core.Permute)
def permuted(site: Site) -> Part:
    site.only_first()
    if site.layer.dims[0] != 1:
        site.refuse("moves the step axis (axis 1) to another place", "Keep 1 the first of dims")
    return plain(site, STEPS)


@rule(core.RepeatVector, core.Flatten)
def joined(site: Site) -> Part:
    site.refuse("puts all steps into one vector", "Flatten each step: TimeDistributed(Flatten()), or Reshape((-1, n))")


@rule(core.Lambda)
def function(site: Site) -> Part:
    if getattr(site.layer.function, "each_step_alone", False):
        return plain(site, STEPS)
    site.refuse("is a function of which it is not known whether it works on each step alone", _DECLARE)


# -------------------- several inputs --------------------


def check_broadcast(site: Site, operands: Sequence[Any]) -> None:
    """Refuse operands that meet the step axis with another axis than their own steps, or with an axis of size 1."""
    shapes = {id(each): tuple(np.shape(each)) if site.kind(each) == GIVEN else each.shape for each in operands}
    shapes.update((id(each), each.shape) for each in operands if isinstance(each, SymbolicTensor))
    rank = max(len(shape) for shape in shapes.values())
    for each in operands:
        shape = shapes[id(each)]
        place = 1 - (rank - len(shape))  # the axis that meets axis 1 of the longest
        if site.kind(each) == STEPS and len(shape) != rank:
            site.refuse("joins sequences of different ranks: the steps of one meet another axis of the other")
        if site.kind(each) != STEPS and place >= 0 and shape[place] != 1:
            site.refuse(
                "joins a sequence with something that has steps of its own",
                "That must have size 1 in the step axis, or be an input of the stream",
            )


@rule(merging.Merge)
def merged(site: Site) -> Part:
    inputs = list(site.node.call_inputs)
    rank = max(each.ndim for each in inputs)
    # one with fewer axes gets axes of size 1 after its batch axis: its own axis 1 is not the step axis any more
    check_broadcast(site, [each for each in inputs if site.kind(each) == STEPS or each.ndim == rank])
    return plain(site, STEPS)


@rule(merging.Dot)
def dotted(site: Site) -> Part:
    site.refuse("multiplies along axes of sequences", "Write it with ops.einsum, whose letters say where the steps are")


@rule(merging.Concatenate)
def concatenated(site: Site) -> Part:
    site.check_axes(site.layer.axis, site.first.ndim, "joins its inputs along")
    if any(site.kind(each) != STEPS for each in site.node.call_inputs):
        site.refuse("joins a sequence with something that has steps of its own", "Make that an input of the stream too")
    return plain(site, STEPS)


# -------------------- recurrent layers --------------------


@rule(recurrent.RNN)
def recurred(site: Site) -> Part:
    layer, sequences = site.layer, site.first
    if layer.go_backwards:
        site.refuse(
            "goes backwards, so its first output depends on the last step",
            "Train the model without go_backwards, or pass whole sequences to predict",
        )
    if site.kind(sequences) != STEPS or any(
        each not in (sequences, site.named.get("mask")) for each in site.stepwise()
    ):
        site.refuse("takes its initial state from a sequence", "The initial state must be known before the first step")
    given = any(site.kind(each) == GIVEN for each in site.node.inputs)
    masked = sequences.mask is not None or site.named.get("mask") is not None
    repeats = masked and not layer.zero_output_for_mask and not _shows_state(layer.cell)
    forms = [Form(tuple(shape[1:]), layer.dtype) for shape in layer._state_shapes(None)]
    output = site.outputs()[0].shape[2 if layer.return_sequences else 1 :]
    if repeats:  # a masked step repeats the output before it, which is no state
        forms.append(Form(tuple(output), layer.dtype))

    def start(rows: int) -> list:
        states = structures.flatten(layer.get_initial_state(rows))
        if repeats:
            states.append(layer._before([], states, ops.zeros((rows, *output), layer.dtype)))
        return states

    def run(now, states, args, kwargs):
        new: list = []
        count = layer._state_count

        def call(sequences, initial_state=None, mask=None, training=None):
            sequences, initial = recurrent_cells.sequences_and_states(sequences, initial_state)
            own = states[:count]
            if initial is not None:
                first = ops.equal(now.before, 0.0)
                own = [
                    ops.where(_as_rank(first, i), i, s)
                    for i, s in zip(layer._checked(initial, "initial_state"), own, strict=True)
                ]
            output, last = layer.go_on(sequences, own, mask, training)
            if repeats:
                output, after = _repeated(layer, output, states[count], layer._time_mask(_one(mask), sequences))
                last = [*last, after]
            new.extend(last)
            return layer.returned(output, last[:count])

        return layer.call_by(call, args, kwargs), new

    kinds = [STEPS if layer.return_sequences else LAST, *[LAST] * (len(site.outputs()) - 1)]
    return Part(run, kinds, forms, start, counts=given)


def _shows_state(cell: Any) -> bool:
    """Whether a cell's output is its first state."""
    last = cell.cells[-1] if isinstance(cell, recurrent_cells.StackedRNNCells) else cell
    return isinstance(last, recurrent_cells._Cell) and type(last).__module__.startswith("nbkeras.")


def _one(mask: Any) -> Any:
    return (structures.flatten(mask) or [None])[0]


def _as_rank(flags: Tensor, like: Tensor) -> Tensor:
    """Flags (batch, ...) with axes of size 1 up to the rank of `like`."""
    return ops.reshape(flags, (*flags.shape, *[1] * (like.ndim - flags.ndim)))


def _repeated(layer: Any, output: Tensor, before: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, the last one), with `before` at masked steps before the first step that counts."""
    if layer.return_sequences:
        begun = ops.greater(ops.cumsum(ops.cast(mask, "int32"), axis=1), 0)
        output = ops.where(_as_rank(begun, output), output, ops.expand_dims(before, 1))
        return output, output[:, -1]
    output = ops.where(_as_rank(ops.any(mask, axis=1), output), output, before)
    return output, output


@rule(rnn_wrappers.Bidirectional)
def both_ways(site: Site) -> Part:
    site.refuse(
        "also reads each sequence from its end: its first output needs the last step",
        "Train the model with the forward layer alone, or pass whole sequences (or windows of them) to predict",
    )


# -------------------- convolutions --------------------


@rule(convolving.Convolving)
def convolved(site: Site) -> Part:
    layer, first = site.layer, site.only_first()
    site.check_activation(layer.activation, first.ndim)
    if type(layer).convolved is convolving.Convolving.convolved:
        site.refuse("has weights of their own for each place, or makes more steps of each step")
    if layer.data_format != "channels_last":
        site.refuse("has data_format='channels_first', so its axis 1 is not the steps", "Use 'channels_last'")
    size, stride, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
    if stride != 1:
        site.refuse(f"has strides={stride} over the steps: not every step has an output", "Use strides=1")
    if size == 1:
        return plain(site, STEPS)
    if layer.padding != "causal":
        site.refuse(
            f"has padding={layer.padding!r}, so its windows reach into the future",
            "Train the model with padding='causal'",
        )
    kept = (size - 1) * dilation

    def run(now, states, args, kwargs):
        new: list = []

        def call(inputs):
            known = ops.concatenate([states[0], ops.cast(inputs, layer.dtype)], axis=1)
            new.append(known[:, now.steps :])
            return layer.convolved(known, "valid")

        return layer.call_by(call, args, kwargs), new

    return Part(run, [STEPS], [Form((kept, first.shape[-1]), layer.dtype)])


@rule(spatial.Spatial)
def spatially(site: Site) -> Part:
    site.refuse(
        "joins several steps, or changes their number", "Apply it to each step with TimeDistributed, or leave it out"
    )


@rule(normalization.GroupNormalization)
def normalized_by_groups(site: Site) -> Part:
    site.refuse("normalizes over all steps", "Use LayerNormalization, or TimeDistributed(GroupNormalization(...))")


# -------------------- attention --------------------


def _kept_steps(site: Site, sliding: int | None) -> tuple[int, int | None]:
    """(number of steps to keep, limit of a sequence's steps) of a causal attention."""
    if sliding is not None:
        return max(1, sliding - 1), None
    if site.window is None:
        site.refuse(
            "attends to all earlier steps",
            "Say how many there may be: stream(window=n) is exact for sequences of up to n steps",
        )
    return max(1, site.window - 1), site.window


def _attended(site: Site, query: Any, others: Sequence[Any]) -> bool:
    """Whether keys and values are a sequence; False if they are given. Refuses what is not causal."""
    name = type(site.layer).__name__
    causal, kinds = bool(site.named.get("use_causal_mask")), {site.kind(each) for each in others}
    if site.named.get("attention_mask") is not None or site.named.get("return_attention_scores"):
        site.refuse("has an attention_mask, or returns its scores, whose axes are all steps", "Leave them out")
    if site.kind(query) != STEPS or len(kinds) > 1:
        site.refuse(
            "attends from something given to a sequence", "The query must have steps; key and value both, or both not"
        )
    if kinds == {GIVEN}:
        if causal:
            site.refuse("attends causally to something that is not the sequence", "Leave out use_causal_mask")
        return False
    if not causal:
        site.refuse(
            "attends to later steps too",
            f"Train the model with {name}(...)(..., use_causal_mask=True), or pass whole windows to predict",
        )
    return True


def _allowed(now: Now, kept: int, sliding: int | None, masks: Any) -> Tensor:
    """Bool (batch, 1, steps, kept + steps): the keys to which each step may attend; kept ones first."""
    columns, rows = np.arange(kept + now.steps), np.arange(now.steps)[:, None] + kept
    seen = columns <= rows if sliding is None else (columns <= rows) & (rows - columns < sliding)
    begun = ops.greater_equal(ops.add(columns.astype(now.before.dtype), ops.expand_dims(now.before, 1)), float(kept))
    if masks is not None:
        begun = ops.logical_and(begun, masks)
    return ops.logical_and(ops.expand_dims(begun, (1, 2)), seen[None, None])


def _joined(now: Now, states: list, new: Sequence[Tensor]) -> tuple[list, list]:
    """(all known of each, what is kept of it)."""
    known = [ops.concatenate([s, ops.cast(n, s.dtype)], axis=1) for s, n in zip(states, new, strict=True)]
    return known, [each[:, now.steps :] for each in known]


@rule(multi_head_attention._Projected)
def attended_by_heads(site: Site) -> Part:
    layer, named = site.layer, site.named
    query, value, key = named["query"], named["value"], named.get("key")
    others = [each for each in (value, key) if each is not None]
    if query.ndim != 3 or any(each.ndim != 3 for each in others) or tuple(layer._axes) != (1,):
        site.refuse("attends over other axes than the steps of (batch, steps, features)")
    sliding = layer.sliding_window
    if not _attended(site, query, others):
        return plain(site, STEPS) if sliding is None else site.refuse("has a sliding_window over something given")
    kept, limit = _kept_steps(site, sliding)
    masked = any(each.mask is not None for each in others) or any(
        named.get(f"{name}_mask") is not None for name in ("value", "key")
    )
    sizes = [dense.kernel.shape[1:] for dense in (layer._key_dense, layer._value_dense)]
    forms = [Form((kept, *size), layer.dtype) for size in sizes] + [Form((kept,), "bool")] * masked

    def run(now, states, args, kwargs):
        new: list = []

        def call(query, value, key=None, query_mask=None, value_mask=None, key_mask=None, **options):
            key = value if key is None else key
            gate = None if layer._gate_dense is None else layer._gate_dense(query)
            made = [layer._key_dense(key), layer._value_dense(value)]
            if masked:
                made.append(_all_of(now, value_mask, key_mask))
            known, after = _joined(now, states, made)
            new.extend(after)
            allowed = _allowed(now, kept, sliding, known[2] if masked else None)
            if query_mask is not None:
                allowed = ops.logical_and(allowed, ops.expand_dims(ops.cast(query_mask, "bool"), (1, 3)))
            heads, _ = layer._attend(layer._query_dense(query), *known[:2], allowed, False, False, layer.dropout == 0)
            return layer._output_dense(heads if gate is None else ops.multiply(heads, gate))

        return layer.call_by(call, args, kwargs), new

    return Part(run, [STEPS], forms, counts=True, limit=limit)


def _all_of(now: Now, *masks: Any) -> Tensor:
    found = ops.ones((now.batch, now.steps), "bool")
    for mask in masks:
        if mask is not None:
            found = ops.logical_and(found, ops.cast(mask, "bool"))
    return found


@rule(attention.Attention)
def attended(site: Site) -> Part:
    layer, inputs = site.layer, list(site.node.call_inputs)
    if any(each.ndim != 3 for each in inputs):
        site.refuse("attends over other axes than the steps of (batch, steps, features)")
    if not _attended(site, inputs[0], inputs[1:]):
        return plain(site, STEPS)
    kept, limit = _kept_steps(site, None)
    masked = inputs[1].mask is not None or site.named.get("mask") is not None
    forms = [Form((kept, each.shape[-1]), layer.dtype) for each in inputs[1:]] + [Form((kept,), "bool")] * masked

    def run(now, states, args, kwargs):
        new: list = []

        def call(inputs, mask=None, training=None, **options):
            query_mask, value_mask = (mask or (None, None))[:2]
            made = [*inputs[1:], *([_all_of(now, value_mask)] if masked else [])]
            known, after = _joined(now, states, made)
            new.extend(after)
            value, key = known[0], known[len(inputs) - 2]
            allowed = _allowed(now, kept, None, known[-1] if masked else None)
            scores = ops.expand_dims(layer._scores(inputs[0], key), 1)
            outputs = ops.matmul(ops.squeeze(masked_softmax(scores, allowed, spread=True), 1), value)
            return outputs if query_mask is None else ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0)

        return layer.call_by(call, args, kwargs), new

    return Part(run, [STEPS], forms, counts=True, limit=limit)
