"""Floor 3: how each layer works step by step: a table of rules by the names of classes; see streaming_graph.py.

A rule gets a Site, a call of a layer on sequences. It returns the Part of the call, or None if the unchanged call works on each
step alone, or refuses the layer by `site.refuse`, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.operation import Operation
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.inference.streaming_graph import (
    DECLARE,
    GIVEN,
    LAST,
    RULES,
    STEPS,
    Form,
    Part,
    Site,
    StepContext,
    part_of,
    rule,
)
from nbkeras.layers import convolving, core, einsum_dense, recurrent_cells
from nbkeras.ops.attention import masked_softmax

# -------------------- layers that work on each step alone --------------------


rule("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Identity", "ActivityRegularization")(lambda site: None)
rule("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout")(lambda site: None)


def _along(does: str, *names: str) -> None:
    """The rule for layers that work along their `axis`, by default the last one, and on each step alone otherwise."""
    rule(*names)(lambda site: site.check_axes(getattr(site.layer, "axis", -1), site.only_first().ndim, does))


_along("looks along", "Masking")
_along("normalizes over", "LayerNormalization", "RMSNormalization", "UnitNormalization")
_along("has statistics for each index of", "BatchNormalization", "Normalization")
_along("sums over", "Softmax")


@rule("Activation")
def activated(site: Site) -> None:
    site.only_first()
    site.check_activation(site.layer.activation)


@rule("Dense")
def dense(site: Site) -> None:
    site.check_axes(-1, site.only_first().ndim, "multiplies along")
    site.check_activation(site.layer.activation)


@rule("Embedding")
def embedded(site: Site) -> None:
    first = site.only_first()
    if site.named.get("reverse"):
        site.check_axes(-1, first.ndim, "multiplies along")


@rule("EinsumDense")
def einsum(site: Site) -> None:
    layer, first = site.layer, site.only_first()
    terms = einsum_dense._parsed(layer.equation)
    extra = first.ndim - len(terms.inputs) if terms.first else 0  # the first axes, denoted by '...'
    if terms.last and len(terms.inputs) != len(terms.outputs):
        site.refuse(f"moves the axes that '...' stands for in {layer.equation!r}", "Keep their positions")
    letter = terms.inputs[1 - extra : 2 - extra] if extra < 2 else ""  # of the steps
    if letter and (letter in terms.kernel or terms.outputs.find(letter) + extra != 1):
        site.refuse(f"multiplies or moves the step axis ({letter!r} in {layer.equation!r})", "Keep its position")
    if letter and letter in (layer.bias_axes or ""):
        site.refuse(
            "has a bias for each step, so it knows a fixed number of steps", "Leave that letter out of bias_axes"
        )
    site.check_activation(layer.activation)


@rule("PReLU")
def prelu(site: Site) -> None:
    site.only_first()
    if 1 not in (site.layer.shared_axes or ()):
        site.refuse("has weights for each step, so it knows a fixed number of steps", "Use shared_axes=[1]")


@rule("Rescaling")
def rescaled(site: Site) -> None:
    numbers = max(np.ndim(site.layer.scale), np.ndim(site.layer.offset))
    if numbers > site.only_first().ndim - 2:
        site.refuse("has numbers for each step", "Give one for each channel")


@rule("TimeDistributed")
def each_step(site: Site) -> None:
    site.only_first()
    # the layer gets all steps as one batch, so its samples must be independent
    for each in site.layer.layer._all_layers():
        if getattr(each, "stateful", False):
            site.refuse("wraps a stateful layer", "Make it stateless")
        own = not type(each).__module__.startswith("nbkeras.") or isinstance(each, core.Lambda | Operation)
        if (own and not getattr(each, "each_step_alone", False)) or 0 in np.ravel(getattr(each, "axis", 1)):
            site.refuse(f"wraps {each.name!r}, which is not known to work on each sample alone", DECLARE)


@rule("SpectralNormalization")
def wrapped(site: Site) -> Part:
    return part_of(Site(site.node, site.kinds, site.window, site.model, site.layer.layer))


@rule("Permute")
def permuted(site: Site) -> None:
    site.only_first()
    if site.layer.dims[0] != 1:
        site.refuse("moves the step axis (axis 1) to another position", "Keep 1 the first of dims")


@rule("Lambda")
def function(site: Site) -> None:
    if not getattr(site.layer.function, "each_step_alone", False):
        site.refuse("is a function that is not known to work on each step alone", DECLARE)


# -------------------- several inputs --------------------


@rule("Merge")
def merged(site: Site) -> None:
    inputs = list(site.node.call_inputs)
    rank = max(each.ndim for each in inputs)
    # an input with fewer axes gets axes of size 1 after its batch axis, so its axis 1 is no longer the step axis
    site.check_broadcast([each for each in inputs if site.kind(each) == STEPS or each.ndim == rank])


@rule("Concatenate")
def concatenated(site: Site) -> None:
    site.check_axes(site.layer.axis, site.first.ndim, "joins its inputs along")
    if any(site.kind(each) != STEPS for each in site.node.call_inputs):
        site.refuse(
            "joins a sequence with another tensor that has steps", "Make this tensor an input of the stream too"
        )


# -------------------- layers that need all steps at once --------------------

_NEEDS_ALL = {
    "Flatten": "puts all steps into one vector. Flatten each step: TimeDistributed(Flatten()), or Reshape((-1, n))",
    "RepeatVector": "repeats all steps, as if they were features. Repeat what has no steps",
    "Dot": "multiplies along axes of sequences. Write it with ops.einsum, whose letters say where the steps are",
    "Bidirectional": "also reads each sequence from its end: its first output needs the last step. Train the model with "
    "the forward layer alone, or pass whole sequences (or windows of them) to predict",
    "GroupNormalization": "normalizes over all steps. Use LayerNormalization, or "
    "TimeDistributed(GroupNormalization(...))",
    "Spatial": "joins several steps, or changes their number. Apply it to each step with TimeDistributed, or leave it out",
}
RULES.update((name, partial(Site.refuse, why=why)) for name, why in _NEEDS_ALL.items())

# -------------------- layers that do not call as usual, or keep something from step to step --------------------


def _part(layer: Any, step: Callable, *args: Any, **options: Any) -> Part:
    """The Part, with these arguments, that calls a layer with `step` in place of its `call`.

    step: (now, states, *the arguments of `call`) -> (outputs, new states).
    """

    def run(now, states, args, kwargs):
        new: list = []

        def call(*args, **kwargs):
            outputs, new[:] = step(now, states, *args, **kwargs)
            return outputs

        return layer.call_by(call, args, kwargs), new

    return Part(run, *args, **options)


def _joined(now: StepContext, states: Sequence[Tensor], new: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """([kept steps with new steps] of each array, [the steps to keep] of each)."""
    known = [ops.concatenate([s, ops.cast(n, s.dtype)], axis=1) for s, n in zip(states, new, strict=True)]
    return known, [each[:, now.steps :] for each in known]


@rule("Reshape")
def reshaped(site: Site) -> Part:
    first, output = site.only_first(), site.outputs()[0]
    before: Any = first.shape[2:]
    after: Any = output.shape[2:]
    if output.ndim < 2 or None in (*before, *after) or math.prod(before) != math.prod(after):
        site.refuse(
            "does not keep each step's numbers together", "Use target_shape=(-1, ...) with as many numbers a step"
        )
    return _part(site.layer, lambda now, states, x: (ops.reshape(x, (*x.shape[:2], *after)), ()))


@rule("RNN")
def recurred(site: Site) -> Part:
    layer, sequences = site.layer, site.first
    if layer.go_backwards:
        site.refuse(
            "goes backwards, so its first output depends on the last step",
            "Train the model without go_backwards, or pass whole sequences to predict",
        )
    allowed = (sequences, site.named.get("mask"))
    if site.kind(sequences) != STEPS or any(each not in allowed for each in site.stepwise()):
        site.refuse("takes its initial state from a sequence", "The initial state must be known before the first step")
    repeats = site.is_masked([sequences], "mask") and not layer.zero_output_for_mask and not _shows_state(layer.cell)
    forms = [Form(tuple(shape[1:]), layer.dtype) for shape in layer._state_shapes(None)]
    output = site.outputs()[0].shape[2 if layer.return_sequences else 1 :]
    if repeats:  # a masked step repeats the previous output, which is not a state
        forms.append(Form(tuple(output), layer.dtype))

    def start(rows: int) -> list:
        states = structures.flatten(layer.get_initial_state(rows))
        if repeats:
            states.append(layer._before(None, states, ops.zeros((rows, *output), layer.dtype)))
        return states

    def step(now, states, sequences, initial_state=None, mask=None, training=None):
        sequences, given = recurrent_cells.sequences_and_states(sequences, initial_state)
        own = states[: layer._state_count]
        if given is not None:
            first = ops.equal(now.before, 0.0)
            pairs = zip(layer._checked(given, "initial_state"), own, strict=True)
            own = [ops.where(_as_rank(first, initial), initial, state) for initial, state in pairs]
        output, own = layer.go_on(sequences, own, mask, training)
        if not repeats:
            return layer.returned(output, own), own
        mask = layer._time_mask(structures.flatten(mask)[0], sequences)
        output, last = _repeated(layer, output, states[-1], mask)
        return layer.returned(output, own), [*own, last]

    kinds = [STEPS if layer.return_sequences else LAST, *[LAST] * (len(site.outputs()) - 1)]
    return _part(layer, step, forms, kinds, start, counts=any(site.kind(each) == GIVEN for each in site.node.inputs))


def _shows_state(cell: Any) -> bool:
    """Whether a cell's output is its first state."""
    last = cell.cells[-1] if isinstance(cell, recurrent_cells.StackedRNNCells) else cell
    return isinstance(last, recurrent_cells._Cell) and type(last).__module__.startswith("nbkeras.")


def _as_rank(flags: Tensor, like: Tensor) -> Tensor:
    """Flags (batch, ...) with axes of size 1 up to the rank of `like`."""
    return ops.reshape(flags, (*flags.shape, *[1] * (like.ndim - flags.ndim)))


def _repeated(layer: Any, output: Tensor, before: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, the last one), with `before` at masked steps before the first unmasked step."""
    if layer.return_sequences:
        begun = ops.greater(ops.cumsum(ops.cast(mask, "int32"), axis=1), 0)
        output = ops.where(_as_rank(begun, output), output, ops.expand_dims(before, 1))
        return output, output[:, -1]
    output = ops.where(_as_rank(ops.any(mask, axis=1), output), output, before)
    return output, output


# -------------------- convolutions and pooling --------------------


def _channels_last(site: Site) -> None:
    if site.layer.data_format != "channels_last":
        site.refuse("has data_format='channels_first', so its axis 1 is not the steps", "Use 'channels_last'")


@rule("Convolving")
def convolved(site: Site) -> Part | None:
    layer, first = site.layer, site.only_first()
    site.check_activation(layer.activation)
    if type(layer).convolved is convolving.Convolving.convolved:
        site.refuse("has separate weights for each position, or makes several steps of each")
    _channels_last(site)
    size, stride, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
    if stride != 1:
        site.refuse(f"has strides={stride} over the steps: not every step has an output", "Use strides=1")
    if size == 1:
        return None
    if layer.padding != "causal":
        site.refuse(
            f"has padding={layer.padding!r}, so its windows reach into the future",
            "Train the model with padding='causal'",
        )

    def step(now, states, inputs):
        (known,), after = _joined(now, states, [inputs])
        return layer.convolved(known, "valid"), after

    return _part(layer, step, [Form(((size - 1) * dilation, first.shape[-1]), layer.dtype)])


@rule("GlobalMaxPooling1D")
def largest(site: Site) -> Part:
    layer, form = site.layer, _pooled(site)

    def step(now, states, inputs):
        maximum = ops.maximum(states[0], ops.max(inputs, axis=1, keepdims=layer.keepdims))
        return maximum, [maximum]

    return _part(layer, step, [form], [LAST], lambda rows: [ops.full((rows, *form.shape), -np.inf, form.dtype)])


@rule("GlobalAveragePooling1D")
def mean(site: Site) -> Part:
    layer, form = site.layer, _pooled(site)

    def step(now, states, inputs, mask=None):
        mean, count = states
        flags = ops.ones(inputs.shape[:2], layer.dtype) if mask is None else ops.cast(mask, layer.dtype)
        flags = ops.expand_dims(flags, 2)
        total = count + ops.sum(flags, axis=1, keepdims=layer.keepdims)
        there = inputs if mask is None else ops.where(flags > 0.0, inputs, 0)
        change = ops.sum(there, axis=1, keepdims=layer.keepdims) - mean * (total - count)
        mean = mean + change / ops.maximum(total, 1.0)
        return mean if mask is None else ops.where(total > 0.0, mean, np.nan), [mean, total]

    return _part(layer, step, [form, Form((1,) * len(form.shape), form.dtype)], [LAST])


def _pooled(site: Site) -> Form:
    """The form of the result of pooling over the steps."""
    site.only_first()
    _channels_last(site)
    return Form(tuple(site.outputs()[0].shape[1:]), site.layer.dtype)


# -------------------- attention --------------------


def _attending(
    site: Site, query: Any, others: Sequence[Any], step: Callable, sizes: Sequence[tuple], is_masked: bool
) -> Part | None:
    """The Part of a causal attention, which keeps the last keys and values; None if they are given.

    step: see `_part`. sizes: of one step's key and value. is_masked: whether it keeps a mask too.
    """
    layer, sliding = site.layer, getattr(site.layer, "sliding_window", None)
    causal, kinds = bool(site.named.get("use_causal_mask")), {site.kind(each) for each in others}
    if any(each.ndim != 3 for each in (query, *others)) or tuple(getattr(layer, "_axes", (1,))) != (1,):
        site.refuse("attends over other axes than the steps of (batch, steps, features)")
    if site.named.get("attention_mask") is not None or site.named.get("return_attention_scores"):
        site.refuse("has an attention_mask or returns its scores, which have an axis of all steps", "Leave them out")
    if site.kind(query) != STEPS or len(kinds) > 1:
        site.refuse(
            "attends from something given to a sequence", "The query must have steps; key and value both, or both not"
        )
    if kinds == {GIVEN}:
        if causal:
            site.refuse("attends causally to something that is not the sequence", "Leave out use_causal_mask")
        return None if sliding is None else site.refuse("has a sliding_window over something given")
    if not causal:
        site.refuse(
            "attends to later steps too",
            f"Train the model with {type(layer).__name__}(...)(..., use_causal_mask=True), or pass whole windows to predict",
        )
    reach = site.window if sliding is None else sliding
    if reach is None:
        site.refuse(
            "attends to all earlier steps",
            "Say how many there may be: stream(window=n) is exact for sequences of up to n steps",
        )
    kept = max(1, reach - 1)
    forms = [Form((kept, *size), layer.dtype) for size in sizes] + [Form((kept,), "bool")] * is_masked
    return _part(layer, step, forms, counts=True, limit=site.window if sliding is None else None)


def _remembered(now: StepContext, states: list, new: list, masks: Sequence[Any], sliding: int | None = None) -> tuple:
    """(keys and values of kept steps and new ones, which of them each step may attend to, the states after).

    The second is bool (batch, 1, steps, kept + steps). new: keys and values of the new steps. masks: of these, or None.
    """
    is_masked, kept = len(states) > len(new), states[0].shape[1]
    if is_masked:
        flags = [ops.cast(mask, "bool") for mask in masks if mask is not None]
        new = [*new, reduce(ops.logical_and, flags, ops.ones((now.batch, now.steps), "bool"))]
    known, after = _joined(now, states, new)
    columns, rows = np.arange(kept + now.steps), np.arange(now.steps)[:, None] + kept
    seen = columns <= rows if sliding is None else (columns <= rows) & (rows - columns < sliding)
    begun = ops.greater_equal(ops.add(columns.astype(now.before.dtype), ops.expand_dims(now.before, 1)), float(kept))
    if is_masked:
        begun = ops.logical_and(begun, known.pop())
    return known, ops.logical_and(ops.expand_dims(begun, (1, 2)), seen[None, None]), after


@rule("_Projected")
def attended_by_heads(site: Site) -> Part | None:
    layer, named = site.layer, site.named
    others = [named[name] for name in ("value", "key") if named.get(name) is not None]

    def step(now, states, query, value, key=None, query_mask=None, value_mask=None, key_mask=None, **options):
        gate = None if layer._gate_dense is None else layer._gate_dense(query)
        new = [layer._key_dense(value if key is None else key), layer._value_dense(value)]
        (key, value), allowed, after = _remembered(now, states, new, (value_mask, key_mask), layer.sliding_window)
        if query_mask is not None:
            allowed = ops.logical_and(allowed, ops.expand_dims(ops.cast(query_mask, "bool"), (1, 3)))
        heads, _ = layer._attend(layer._query_dense(query), key, value, allowed, False, False, layer.dropout == 0)
        return layer._output_dense(heads if gate is None else ops.multiply(heads, gate)), after

    sizes = [dense.kernel.shape[1:] for dense in (layer._key_dense, layer._value_dense)]
    return _attending(site, named["query"], others, step, sizes, site.is_masked(others, "value_mask", "key_mask"))


@rule("Attention")
def attended(site: Site) -> Part | None:
    layer, (query, *others) = site.layer, site.node.call_inputs

    def step(now, states, inputs, mask=None, training=None, **options):
        query_mask, value_mask = (mask or (None, None))[:2]
        known, allowed, after = _remembered(now, states, inputs[1:], [value_mask])
        scores = ops.expand_dims(layer._scores(inputs[0], known[-1]), 1)
        outputs = ops.matmul(ops.squeeze(masked_softmax(scores, allowed, spread=True), 1), known[0])
        return outputs if query_mask is None else ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0), after

    sizes = [each.shape[2:] for each in others]
    return _attending(site, query, others, step, sizes, site.is_masked(others[:1], "mask"))
