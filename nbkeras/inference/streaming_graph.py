"""Floor 3: StreamingGraph, a graph that predicts step by step; its Parts are the calls of the layers.

A tensor of the graph has one of three kinds. STEPS: its axis 1 is the steps of a call. LAST: it has no step axis, and equals
the result of `predict` for the sequence up to the last step of the call. GIVEN: it depends on no sequence. A rule turns a call
of its layer on STEPS into a Part, or refuses it. It accepts only calls that are exact for all values. The rules are in
streaming.py, those of ops in streaming_ops.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from nbkeras import ops
from nbkeras.activations import gelu
from nbkeras.building.graph import Node, SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.data.input_matching import in_dtype
from nbkeras.engine import structures
from nbkeras.inference.interface import GIVEN, LAST, STEPS
from nbkeras.ops import activations, creation, elementwise, functions, integers

# ops and activations along the last axis, and those that are elementwise with broadcasting
LAST_AXIS = {ops.softmax, ops.log_softmax, ops.sparsemax, ops.glu}
ELEMENTWISE = {
    function
    for module in (activations, creation, elementwise, functions, integers)
    for function in vars(module).values()
    if getattr(function, "__module__", None) == module.__name__
} - {ops.allclose, ops.full, *LAST_AXIS} | {gelu}


class Form(NamedTuple):
    """The shape and dtype of a state that a layer keeps for each sequence.

    Args:
        shape: Its shape, without the batch axis.
        dtype: Its dtype.

    Example:
        >>> keras.inference.Form((3, 8))  # three vectors
        Form(shape=(3, 8), dtype='float32')
    """

    shape: tuple
    dtype: Any = "float32"


class StepContext(NamedTuple):
    """A call's numbers of rows and steps, and the number of previous steps of each row, (batch,); see `Part`."""

    batch: int
    steps: int
    before: Any


@dataclass
class Part:
    """A call of a layer as a part of a stream. The method `streamed` of a custom layer returns one.

    Args:
        run: A function (now, states, args, kwargs) -> (outputs, new states). `now.batch` and `now.steps` are the numbers of
            rows and steps; states is a list of tensors (batch, *shape); args and kwargs are the arguments of the layer's call
            for these steps.
        forms: The Form of each state.
        kinds: For each output 'steps' if it has a step axis, 'last' if it is the output after the last step.
        start: A function of the number of rows that returns the list of states of new sequences; None for zeros.
        counts: Whether `run` needs `now.before`, the number of previous steps, a tensor (batch,).
        limit: The maximum number of steps of a sequence; None for any.

    Example:
        >>> class RunningSum(layers.Layer):
        ...     def call(self, inputs):
        ...         return ops.cumsum(inputs, axis=1)
        ...     def streamed(self, site):
        ...         def run(now, states, args, kwargs):
        ...             y = self(*args) + states[0]
        ...             return y, [y[:, -1:]]
        ...         return keras.inference.Part(run, [keras.inference.Form((1, 3))])
        >>> stream = keras.Sequential([keras.Input((None, 3)), RunningSum()]).stream()
        >>> y, state = stream(np.ones((1, 4, 3)), stream.initial())
        >>> y, state = stream(np.ones((1, 3)), state)
        >>> y
        array([[5., 5., 5.]], dtype=float32)
    """

    run: Callable[[StepContext, list, tuple, dict], tuple[Any, Sequence]]
    forms: Sequence[Form] = ()
    kinds: Sequence[str] = (STEPS,)
    start: Callable[[int], list] | None = None
    counts: bool = False
    limit: int | None = None


class Site:
    """A call of a layer in a graph; a rule makes a Part of it.

    kinds: by the id of a symbolic tensor. window: how many steps attention may look back, or None. model: its name, for messages.
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
        """The first argument; the sequences if it is Keras 2's list [sequences, states...]."""
        value = self.node.call_inputs
        return value[0] if isinstance(value, list | tuple) else value

    def stepwise(self) -> list[SymbolicTensor]:
        """The inputs with steps."""
        return [each for each in self.node.inputs if self.kind(each) == STEPS]

    def is_masked(self, symbols: Sequence[Any], *names: str) -> bool:
        """Whether any of these symbols has a mask, or any of these arguments is one."""
        masks = [each.mask for each in symbols] + [self.named.get(name) for name in names]
        return any(mask is not None for mask in masks)

    def outputs(self) -> list[SymbolicTensor]:
        """The outputs."""
        return structures.flatten(self.node.outputs)

    def refuse(self, why: str, instead: str = "") -> NoReturn:
        """Raise ValueError that names the layer, why it cannot go step by step, and what to do."""
        layer, advice = self.layer, f". {instead}" if instead else ""
        raise ValueError(
            f"model {self.model!r} cannot go step by step: layer {layer.name!r} ({type(layer).__name__}) {why}{advice}"
        )

    # -------------------- checks of rules --------------------

    def only_first(self) -> SymbolicTensor:
        """The first argument, which must be the only one with steps."""
        first = self.first
        allowed = (first, getattr(first, "mask", None))
        if self.kind(first) != STEPS or any(each not in allowed for each in self.stepwise()):
            self.refuse("has sequences among its further arguments", "Only its first argument may have steps")
        return first

    def check_axes(self, axes: Any, rank: int, does: str) -> None:
        """Refuse axes that include the step axis or the batch axis."""
        listed = axes if isinstance(axes, list | tuple) else [axes]
        if any(axis % rank < 2 for axis in listed):
            self.refuse(f"{does} the step axis (axis 1): it needs all steps at once", "Let it work on later axes")

    def check_activation(self, function: Any) -> None:
        """Refuse an activation that may join steps."""
        if function in ELEMENTWISE or getattr(function, "each_step_alone", False):
            return
        if function in LAST_AXIS:
            return self.check_axes(-1, self.outputs()[0].ndim, f"applies {function.__name__} along")
        name = getattr(function, "__name__", None) or repr(function)
        self.refuse(
            f"has the activation {name}, which is not known to work on each step alone",
            "If it does, set `each_step_alone = True` on that function",
        )

    def check_broadcast(self, operands: Sequence[Any]) -> None:
        """Refuse operands whose axis at the step axis is neither their own step axis nor of size 1."""
        shapes = [np.shape(each) for each in operands]
        rank = max(map(len, shapes))
        for each, shape in zip(operands, shapes, strict=True):
            if self.kind(each) == STEPS and len(shape) != rank:
                self.refuse("joins sequences of different ranks: the steps of one meet another axis of the other")
            # the axis that broadcasts with axis 1 of the operand of highest rank
            if self.kind(each) != STEPS and len(shape) >= rank - 1 and shape[1 - rank] != 1:
                self.refuse(
                    "joins a sequence with another tensor that has steps",
                    "That must have size 1 in the step axis, or be an input of the stream",
                )


# -------------------- the calls of a graph --------------------


class StreamingGraph:
    """The parts of a model's graph. inputs: the kinds of its inputs. window: see Site. name: the outermost model's."""

    def __init__(self, model: Any, inputs: Sequence[str], window: int | None, name: str):
        self.model, self.graph = model, model._graph
        kinds = {id(symbol): kind for symbol, kind in zip(self.graph.input_list, inputs, strict=True)}
        self._parts: list[Part] = []  # one for each node, in their order
        for node in self.graph.nodes:
            part = part_of(Site(node, kinds, window, name))
            kinds.update(zip(map(id, structures.flatten(node.outputs)), part.kinds, strict=True))
            self._parts.append(part)
        self.kinds = [kinds[id(symbol)] for symbol in self.graph.output_list]
        self.forms = [form for part in self._parts for form in part.forms]
        self.limit = min((part.limit for part in self._parts if part.limit is not None), default=None)
        self.counts = self.limit is not None or any(part.counts for part in self._parts)

    def start(self, rows: int) -> list:
        """The states of new sequences, one for each of `forms`."""
        found: list = []
        for part in self._parts:
            found += part.start(rows) if part.start else [ops.zeros((rows, *f.shape), f.dtype) for f in part.forms]
        return found

    def run(self, now: StepContext, states: list, inputs: list) -> tuple[Any, list]:
        """(the outputs' structure, new states) of the inputs, in the graph's order."""
        parts, kept = iter(self._parts), iter(states)
        new: list = []

        def call(node: Node, args: tuple, kwargs: dict) -> Any:
            part = next(parts)
            outputs, after = part.run(now, [next(kept) for _ in part.forms], args, kwargs)
            wanted, found = [tuple(form.shape) for form in part.forms], [tuple(np.shape(each)[1:]) for each in after]
            if list(map(math.prod, wanted)) != list(map(math.prod, found)):
                raise ValueError(
                    f"layer {node.layer.name!r} must return a state (batch, *shape) for each Form of its Part, expected shapes "
                    f"{wanted}, received {found}"
                )
            new.extend(after)
            return outputs

        # the form that a call of the model has
        pairs = zip(inputs, self.graph.input_list, strict=True)
        inputs = [in_dtype(self.model._convert(each), symbol.dtype) for each, symbol in pairs]
        return self.graph.run(inputs, call), new


def part_of(site: Site) -> Part:
    """The part of a call, by the layer's own method, else its declaration, else the rule of its class."""
    layer, kinds = site.layer, {site.kind(each) for each in site.node.inputs}
    if site.named.get("training") or layer._phase:
        site.refuse(
            "is called with training=True, so its outputs are random or depend on the whole batch", "Leave it out"
        )
    if STEPS not in kinds:
        if getattr(layer, "stateful", False):
            site.refuse("is stateful, and its input is not a sequence of the stream", "Make it stateless")
        return plain(site, LAST if LAST in kinds else GIVEN)
    if LAST in kinds:
        late = next(each for each in site.node.inputs if site.kind(each) == LAST)
        site.refuse(
            f"joins steps with the output of {late.node.layer.name!r}, which is known after the last step: for the "  # type: ignore[union-attr]
            "first steps it would come from the future"
        )
    if isinstance(mask := site.named.get("mask"), SymbolicTensor) and site.kind(mask) != STEPS:
        site.refuse(
            "gets a mask that is given, while its input goes step by step", "Make the mask an input of the stream too"
        )
    if callable(own := getattr(layer, "streamed", None)):
        return own(site)
    if getattr(layer, "each_step_alone", False):
        return plain(site, STEPS)
    if getattr(layer, "_graph", None) is not None:
        return nested(site)
    for cls in type(layer).__mro__:
        if cls.__name__ in RULES and cls.__module__.startswith("nbkeras."):
            check_own_methods(site, cls)
            return RULES[cls.__name__](site) or plain(site, STEPS)
    site.refuse("is not known to work on each step alone", DECLARE)


DECLARE = (
    "If it works on each step alone, set `each_step_alone = True` on its class or on the layer; if it keeps something from step "
    "to step, give it a method `streamed` (docs/statefulness.md)"
)
_HARMLESS = {"__init__", "build", "get_config", "from_config", "compute_output_shape"}


def check_own_methods(site: Site, known: type) -> None:
    """Refuse a subclass that overrides methods with which the known class computes."""
    if "call" in vars(site.layer):
        site.refuse("has another `call`, so its computation is unknown", DECLARE)
    methods = {name for cls in known.__mro__ if cls not in Layer.__mro__ for name in vars(cls)} | {"call", "__call__"}
    classes = type(site.layer).__mro__
    for cls in classes[: classes.index(known)]:
        own = {name for name in vars(cls) if name in methods and callable(getattr(cls, name))} - _HARMLESS
        if own and not cls.__module__.startswith("nbkeras."):
            site.refuse(f"overrides {sorted(own)[0]!r} of {known.__name__}, so its computation is unknown", DECLARE)


def is_own(model: Any, method: str) -> bool:
    """Whether a user's class overrides a model's method."""
    return not getattr(type(model), method).__module__.startswith("nbkeras.")


def plain(site: Site, kind: str) -> Part:
    """The unchanged call."""
    layer = site.layer
    return Part(lambda now, states, args, kwargs: (layer(*args, **kwargs), ()), (), [kind] * len(site.outputs()))


def nested(site: Site) -> Part:
    """A nested model: the parts of its graph."""
    model = site.layer
    if is_own(model, "call") or site.named.get("mask") is not None:
        site.refuse("overrides `call`, or is called with a mask", "Use a functional model and masks of layers")
    in_order = model._graph_inputs.in_order
    kinds = [site.kind(each) for each in in_order(site.node.call_inputs)]
    graph = StreamingGraph(model, kinds, site.window, site.model)

    def run(now, states, args, kwargs):
        return graph.run(now, states, in_order(args[0] if args else next(iter(kwargs.values()))))

    return Part(run, graph.forms, graph.kinds, graph.start, graph.counts, graph.limit)


RULES: dict[Any, Callable[[Site], Part | None]] = {}  # by the name of a class of nbkeras, or by an op


def rule(*keys: Any) -> Callable:
    """Decorator of the rule for these ops, or for layers of classes with these names and of subclasses that compute the same.

    The rule returns a Part, or None if the unchanged call works on each step alone.
    """

    def add(function: Callable[[Site], Part | None]) -> Callable[[Site], Part | None]:
        RULES.update(dict.fromkeys(keys, function))
        return function

    return add
