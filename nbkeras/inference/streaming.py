"""Floor 3: how each layer works step by step: a table of rules by class; see walk.py.

A rule gets a Site, a call of a layer on sequences. It returns its Part, or refuses the layer by `site.refuse`, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.operation import Operation
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.inference.walk import (
    DECLARE,
    GIVEN,
    LAST,
    STEPS,
    Form,
    Part,
    Site,
    StepContext,
    part_of,
    plain,
    rule,
)
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
    pooling,
    recurrent,
    recurrent_cells,
    regularization,
    rnn_wrappers,
    spatial,
    wrapper,
)
from nbkeras.ops.attention import masked_softmax

# -------------------- layers that work on each step alone --------------------


@rule(
    activation.ReLU,
    activation.LeakyReLU,
    activation.ELU,
    activation.ThresholdedReLU,
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


@rule(einsum_dense.EinsumDense)
def einsum(site: Site) -> Part:
    layer, first = site.layer, site.only_first()
    terms = einsum_dense._parsed(layer.equation)
    extra = first.ndim - len(terms.inputs) if terms.first else 0  # the first axes, denoted by '...'
    if terms.last and len(terms.inputs) != len(terms.outputs):
        site.refuse(f"moves the axes that '...' stands for in {layer.equation!r}", "Keep their positions")
    letter = terms.inputs[1 - extra] if extra < 2 and len(terms.inputs) > 1 - extra else None
    place = None if letter is None else terms.outputs.find(letter) + extra
    if letter is not None and (letter in terms.kernel or place != 1):
        site.refuse(f"multiplies or moves the step axis ({letter!r} in {layer.equation!r})", "Keep its position")
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


def _along(does: str, *classes: type) -> None:
    """The rule for layers that work along their `axis`, by default the last one, and on each step alone otherwise."""

    @rule(*classes)
    def along(site: Site) -> Part:
        site.check_axes(getattr(site.layer, "axis", -1), site.only_first().ndim, does)
        return plain(site, STEPS)


_along("looks along", core.Masking)
_along("normalizes over", normalization.LayerNormalization, normalization.RMSNormalization)
_along("normalizes over", normalization.UnitNormalization)
_along("has statistics for each index of", normalization.BatchNormalization, numerical.Normalization)
_along("sums over", activation.Softmax)


@rule(activation.PReLU)
def prelu(site: Site) -> Part:
    site.only_first()
    if 1 not in (site.layer.shared_axes or ()):
        site.refuse("has weights for each step, so it knows a fixed number of steps", "Use shared_axes=[1]")
    return plain(site, STEPS)


@rule(numerical.Rescaling)
def rescaled(site: Site) -> Part:
    numbers = max(np.ndim(site.layer.scale), np.ndim(site.layer.offset))
    if numbers > site.only_first().ndim - 2:
        site.refuse("has numbers for each step", "Give one for each channel")
    return plain(site, STEPS)


@rule(rnn_wrappers.TimeDistributed)
def each_step(site: Site) -> Part:
    site.only_first()
    # the layer gets all steps as one batch, so its samples must be independent
    for each in site.layer.layer._all_layers():
        if getattr(each, "stateful", False):
            site.refuse("wraps a stateful layer", "Make it stateless")
        axis = getattr(each, "axis", 1)
        own = not type(each).__module__.startswith("nbkeras.") or isinstance(each, core.Lambda | Operation)
        if (own and not getattr(each, "each_step_alone", False)) or 0 in np.ravel(1 if axis is None else axis):
            site.refuse(f"wraps {each.name!r}, which is not known to work on each sample alone", DECLARE)
    return plain(site, STEPS)


@rule(wrapper.SpectralNormalization)
def wrapped(site: Site) -> Part:
    return part_of(Site(site.node, site.kinds, site.window, site.model, site.layer.layer))


def _run_with(layer: Any, step: Callable) -> Callable:
    """The `run` of a Part that calls a layer with `step` in place of its `call`.

    step: (now, states, *the arguments of `call`) -> (outputs, new states).
    """

    def run(now, states, args, kwargs):
        new: list = []

        def call(*args, **kwargs):
            outputs, after = step(now, states, *args, **kwargs)
            new.extend(after)
            return outputs

        return layer.call_by(call, args, kwargs), new

    return run


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
    return Part(_run_with(layer, lambda now, states, x: (ops.reshape(x, (*x.shape[:2], *target)), ())))


@rule(core.Permute)
def permuted(site: Site) -> Part:
    site.only_first()
    if site.layer.dims[0] != 1:
        site.refuse("moves the step axis (axis 1) to another position", "Keep 1 the first of dims")
    return plain(site, STEPS)


@rule(core.Flatten)
def flattened(site: Site) -> Part:
    site.refuse("puts all steps into one vector", "Flatten each step: TimeDistributed(Flatten()), or Reshape((-1, n))")


@rule(core.RepeatVector)
def repeated(site: Site) -> Part:
    site.refuse("repeats all steps, as if they were features", "Repeat what has no steps")


@rule(core.Lambda)
def function(site: Site) -> Part:
    if getattr(site.layer.function, "each_step_alone", False):
        return plain(site, STEPS)
    site.refuse("is a function that is not known to work on each step alone", DECLARE)


# -------------------- several inputs --------------------


@rule(merging.Merge)
def merged(site: Site) -> Part:
    inputs = list(site.node.call_inputs)
    rank = max(each.ndim for each in inputs)
    # an input with fewer axes gets axes of size 1 after its batch axis, so its axis 1 is no longer the step axis
    site.check_broadcast([each for each in inputs if site.kind(each) == STEPS or each.ndim == rank])
    return plain(site, STEPS)


@rule(merging.Dot)
def dotted(site: Site) -> Part:
    site.refuse("multiplies along axes of sequences", "Write it with ops.einsum, whose letters say where the steps are")


@rule(merging.Concatenate)
def concatenated(site: Site) -> Part:
    site.check_axes(site.layer.axis, site.first.ndim, "joins its inputs along")
    if any(site.kind(each) != STEPS for each in site.node.call_inputs):
        site.refuse(
            "joins a sequence with another tensor that has steps", "Make this tensor an input of the stream too"
        )
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
    if repeats:  # a masked step repeats the previous output, which is not a state
        forms.append(Form(tuple(output), layer.dtype))

    def start(rows: int) -> list:
        states = structures.flatten(layer.get_initial_state(rows))
        if repeats:
            states.append(layer._before([], states, ops.zeros((rows, *output), layer.dtype)))
        return states

    def step(now, states, sequences, initial_state=None, mask=None, training=None):
        count = layer._state_count
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
        return layer.returned(output, last[:count]), last

    kinds = [STEPS if layer.return_sequences else LAST, *[LAST] * (len(site.outputs()) - 1)]
    return Part(_run_with(layer, step), forms, kinds, start, counts=given)


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
    """(outputs, the last one), with `before` at masked steps before the first unmasked step."""
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
        site.refuse("has separate weights for each position, or makes several steps of each")
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

    def step(now, states, inputs):
        known = ops.concatenate([states[0], ops.cast(inputs, layer.dtype)], axis=1)
        return layer.convolved(known, "valid"), [known[:, now.steps :]]

    return Part(_run_with(layer, step), [Form((kept, first.shape[-1]), layer.dtype)])


@rule(spatial.Spatial)
def spatially(site: Site) -> Part:
    site.refuse(
        "joins several steps, or changes their number", "Apply it to each step with TimeDistributed, or leave it out"
    )


@rule(pooling.GlobalMaxPooling1D)
def largest(site: Site) -> Part:
    layer, shape = site.layer, _pooled(site)

    def start(rows: int) -> list:
        return [ops.full((rows, *shape), -np.inf, layer.dtype)]

    def step(now, states, inputs):
        before = ops.reshape(states[0], (now.batch, 1, shape[-1]))
        most = ops.max(ops.concatenate([before, inputs], axis=1), axis=1, keepdims=layer.keepdims)
        return most, [most]

    return Part(_run_with(layer, step), [Form(shape, layer.dtype)], [LAST], start)


@rule(pooling.GlobalAveragePooling1D)
def mean(site: Site) -> Part:
    layer, shape = site.layer, _pooled(site)
    counts = (*[1] * (len(shape) - 1), 1)

    def step(now, states, inputs, mask=None):
        mean, count = states
        flags = ops.ones(inputs.shape[:2], layer.dtype) if mask is None else ops.cast(mask, layer.dtype)
        flags = ops.expand_dims(flags, 2)
        total = ops.add(count, ops.sum(flags, axis=1, keepdims=layer.keepdims))
        there = inputs if mask is None else ops.where(ops.greater(flags, 0.0), inputs, 0)
        change = ops.subtract(
            ops.sum(there, axis=1, keepdims=layer.keepdims), ops.multiply(mean, ops.subtract(total, count))
        )
        mean = ops.add(mean, ops.divide(change, ops.maximum(total, 1.0)))
        return mean if mask is None else ops.where(ops.greater(total, 0.0), mean, np.nan), [mean, total]

    return Part(_run_with(layer, step), [Form(shape, layer.dtype), Form(counts, layer.dtype)], [LAST])


def _pooled(site: Site) -> tuple:
    """The output shape of pooling over the steps, for one row."""
    site.only_first()
    if site.layer.data_format != "channels_last":
        site.refuse("has data_format='channels_first', so its axis 1 is not the steps", "Use 'channels_last'")
    return tuple(site.outputs()[0].shape[1:])


@rule(normalization.GroupNormalization)
def normalized_by_groups(site: Site) -> Part:
    site.refuse("normalizes over all steps", "Use LayerNormalization, or TimeDistributed(GroupNormalization(...))")


# -------------------- attention --------------------


def _kept_steps(site: Site, sliding: int | None) -> tuple[int, int | None]:
    """(number of steps to keep, limit of a sequence's steps) for a causal attention."""
    if sliding is not None:
        return max(1, sliding - 1), None
    if site.window is None:
        site.refuse(
            "attends to all earlier steps",
            "Say how many there may be: stream(window=n) is exact for sequences of up to n steps",
        )
    return max(1, site.window - 1), site.window


def _attended(site: Site, query: Any, others: Sequence[Any]) -> bool:
    """Whether keys and values are a sequence; False if they are given. Refuses noncausal attention."""
    name = type(site.layer).__name__
    causal, kinds = bool(site.named.get("use_causal_mask")), {site.kind(each) for each in others}
    if site.named.get("attention_mask") is not None or site.named.get("return_attention_scores"):
        site.refuse("has an attention_mask or returns its scores, which have an axis of all steps", "Leave them out")
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


def _allowed(now: StepContext, kept: int, sliding: int | None, masks: Any) -> Tensor:
    """Booleans (batch, 1, steps, kept + steps): the keys to which each step may attend, kept ones first."""
    columns, rows = np.arange(kept + now.steps), np.arange(now.steps)[:, None] + kept
    seen = columns <= rows if sliding is None else (columns <= rows) & (rows - columns < sliding)
    begun = ops.greater_equal(ops.add(columns.astype(now.before.dtype), ops.expand_dims(now.before, 1)), float(kept))
    if masks is not None:
        begun = ops.logical_and(begun, masks)
    return ops.logical_and(ops.expand_dims(begun, (1, 2)), seen[None, None])


def _joined(now: StepContext, states: list, new: Sequence[Tensor]) -> tuple[list, list]:
    """([kept steps with new steps] of each array, [the steps to keep] of each)."""
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

    def step(now, states, query, value, key=None, query_mask=None, value_mask=None, key_mask=None, **options):
        key = value if key is None else key
        gate = None if layer._gate_dense is None else layer._gate_dense(query)
        made = [layer._key_dense(key), layer._value_dense(value)]
        if masked:
            made.append(_all_of(now, value_mask, key_mask))
        known, after = _joined(now, states, made)
        allowed = _allowed(now, kept, sliding, known[2] if masked else None)
        if query_mask is not None:
            allowed = ops.logical_and(allowed, ops.expand_dims(ops.cast(query_mask, "bool"), (1, 3)))
        heads, _ = layer._attend(layer._query_dense(query), *known[:2], allowed, False, False, layer.dropout == 0)
        return layer._output_dense(heads if gate is None else ops.multiply(heads, gate)), after

    return Part(_run_with(layer, step), forms, counts=True, limit=limit)


def _all_of(now: StepContext, *masks: Any) -> Tensor:
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

    def step(now, states, inputs, mask=None, training=None, **options):
        query_mask, value_mask = (mask or (None, None))[:2]
        made = [*inputs[1:], *([_all_of(now, value_mask)] if masked else [])]
        known, after = _joined(now, states, made)
        value, key = known[0], known[len(inputs) - 2]
        allowed = _allowed(now, kept, None, known[-1] if masked else None)
        scores = ops.expand_dims(layer._scores(inputs[0], key), 1)
        outputs = ops.matmul(ops.squeeze(masked_softmax(scores, allowed, spread=True), 1), value)
        return outputs if query_mask is None else ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0), after

    return Part(_run_with(layer, step), forms, counts=True, limit=limit)
