"""Floor 3: the ops on symbolic tensors that work on each step alone, and how a stream runs them; see streaming_graph.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from nbkeras import ops
from nbkeras.engine import structures
from nbkeras.inference.streaming_graph import DECLARE, ELEMENTWISE, GIVEN, LAST, RULES, STEPS, Part, Site, plain, rule

# ops that work along axes of their first argument: the names of the arguments that say which; () for the last one
_ALONG: dict[Callable, tuple[str, ...]] = {
    getattr(ops, name): ("axis",)
    for name in (
        "all any argmax argmin count_nonzero cumprod cumsum logsumexp max mean min prod std sum var amax amin median nanmax "
        "nanmin nanmean nansum nanprod nanstd nanvar ptp normalize norm sort argsort flip repeat take l2_normalize split "
        "squeeze unstack diff layer_normalization rms_normalization softmax log_softmax sparsemax glu expand_dims one_hot"
    ).split()
}
_ALONG |= {ops.moments: ("axes",), ops.swapaxes: ("axis1", "axis2"), ops.moveaxis: ("source", "destination")}
_ALONG |= {ops.top_k: (), ops.dense: (), ops.embedding: ()}
_OF_RESULTS = {ops.expand_dims, ops.one_hot, ops.embedding}  # their axes are those of the result


@rule("Operation")
def operated(site: Site) -> Part | None:
    function = site.layer.function
    if getattr(function, "each_step_alone", False):
        return None
    bound = inspect.signature(function).bind(*site.node.args, **site.node.kwargs)
    bound.apply_defaults()
    site.named = bound.arguments
    if function in ELEMENTWISE:
        site.check_broadcast([each for each in site.named.values() if not isinstance(each, str | type | None)])
        return None
    if function in RULES:
        return RULES[function](site)
    if function not in _ALONG:
        _refuse(site, "which is not known to work on each step alone", DECLARE)
    first = _first(site)
    if site.named.get("activation") is not None:
        site.check_activation(site.named["activation"])
    axes = [axis for name in _ALONG[function] for axis in structures.flatten(site.named[name])]
    if None in axes:
        _refuse(site, "over all axes, including the steps", "Name later axes by axis=")
    rank = site.outputs()[0].ndim if function in _OF_RESULTS else first.ndim
    site.check_axes(axes if _ALONG[function] else -1, rank, f"is ops.{function.__name__}, which goes along")
    return None


def _refuse(site: Site, why: str, instead: str = "") -> NoReturn:
    site.refuse(f"is ops.{site.layer.function.__name__}, {why}", instead)


def _first(site: Site) -> Any:
    """The first argument, which must be the only one with steps."""
    first = next(iter(site.named.values()))
    if site.stepwise() != [first]:
        _refuse(site, "which joins several sequences, or is applied to something given")
    return first


@rule(ops.transpose)
def _transposed(site: Site) -> None:
    rank = _first(site).ndim
    if [axis % rank for axis in site.named["axes"] or range(rank)[::-1]][:2] != [0, 1]:
        _refuse(site, "which moves the step axis (axis 1) to another position", "Keep 0 and 1 the first of axes")


@rule(ops.concatenate, ops.stack)
def _joined(site: Site) -> None:
    parts = next(iter(site.named.values()))
    if any(site.kind(each) != STEPS for each in parts) or len({each.ndim for each in parts}) > 1:
        _refuse(site, "which joins a sequence with another tensor that has steps")
    does = f"is ops.{site.layer.function.__name__}, which joins its inputs along"
    site.check_axes(site.named["axis"], site.outputs()[0].ndim, does)


@rule(ops.matmul)
def _multiplied(site: Site) -> None:
    left, right = site.named["x1"], site.named["x2"]
    ranks = [np.ndim(each) for each in (left, right)]
    kinds = [site.kind(left), site.kind(right)]
    # each step is a row, or a matrix
    rows = kinds == [STEPS, GIVEN] and ranks[0] > 2 and (ranks[1] < 3 or ranks == [3, 3])
    matrices = (kinds == [STEPS, STEPS] and ranks[0] == ranks[1] > 3) or (
        kinds[0] == GIVEN and ranks[0] < 3 and ranks[1] > 3
    )
    if not (rows or matrices):
        _refuse(site, "which multiplies along the step axis, or joins steps of two sequences")


@rule(ops.einsum)
def _einsum(site: Site) -> None:
    subscripts = site.named["subscripts"]
    terms, _, output = subscripts.replace(" ", "").partition("->")
    pairs = list(zip(terms.split(","), site.named["operands"], strict=True))
    letters = {term[1:2] for term, operand in pairs if site.kind(operand) == STEPS}
    letter = letters.pop()
    counts = [term.count(letter) == (site.kind(operand) == STEPS) for term, operand in pairs]
    if "." in subscripts or letters or not all(counts) or output[1:2] != letter or output.count(letter) != 1:
        _refuse(
            site,
            f"whose equation {subscripts!r} does not keep the step axis",
            "The second letter of each sequence must be the second one of the output, and in no other term; without '...'",
        )


@rule(ops.getitem)
def _part(site: Site) -> Part | None:
    first, key = _first(site), site.named["key"]
    parts = list(key) if isinstance(key, tuple) else [key]
    is_basic = all(part is None or part is ... or isinstance(part, int | np.integer | slice) for part in parts)
    if is_basic and ... in parts:
        place = parts.index(...)
        free = first.ndim - sum(part is not None and part is not ... for part in parts)
        parts[place : place + 1] = [slice(None)] * free
    parts += [slice(None)] * (2 - len(parts))
    batch, steps, *_ = parts
    if not is_basic or batch != slice(None) or steps not in (slice(None), slice(-1, None), -1):
        _refuse(
            site,
            "which takes some of the rows or steps",
            "Take parts of later axes by slices, or the last step: x[:, -1]",
        )
    return None if steps == slice(None) else plain(site, LAST)
