"""Floor 3: the ops on symbolic tensors that work on each step alone, and how a stream runs them; see walk.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from nbkeras import ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.operation import Operation
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.inference.walk import DECLARE, ELEMENTWISE, GIVEN, LAST, STEPS, Part, Site, plain, rule

# modules whose ops are elementwise with broadcasting, with a few exceptions
_ELEMENTWISE_IN = {"nbkeras.ops.elementwise", "nbkeras.ops.functions", "nbkeras.ops.integers", "nbkeras.ops.creation"}
_NOT_ELEMENTWISE = {"allclose", "full"}
# ops that work along the axes of an argument
_ALONG = {
    getattr(ops, name): "axis"
    for name in (
        "all any argmax argmin count_nonzero cumprod cumsum logsumexp max mean min prod std sum var amax amin median nanmax "
        "nanmin nanmean nansum nanprod nanstd nanvar ptp normalize norm sort argsort flip repeat take l2_normalize split "
        "squeeze unstack diff layer_normalization rms_normalization softmax log_softmax sparsemax glu"
    ).split()
} | {ops.moments: "axes"}

_RULES: dict[Any, Callable[[Site, dict[str, Any]], Part]] = {}


def _of(*names: str) -> Callable:
    def add(function: Callable) -> Callable:
        _RULES.update((getattr(ops, name), function) for name in names)
        return function

    return add


@rule(Operation)
def operated(site: Site) -> Part:
    function = site.layer.function
    bound = inspect.signature(function).bind(*site.node.args, **site.node.kwargs)
    bound.apply_defaults()
    values = bound.arguments
    if getattr(function, "each_step_alone", False):
        return plain(site, STEPS)
    if function in ELEMENTWISE or (
        function.__module__ in _ELEMENTWISE_IN and function.__name__ not in _NOT_ELEMENTWISE
    ):
        site.check_broadcast([_operand(each) for each in values.values() if not isinstance(each, str | None)])
        return plain(site, STEPS)
    if function in _ALONG:
        return _along(site, values, values[_ALONG[function]])
    if function in _RULES:
        return _RULES[function](site, values)
    _refuse(site, "which is not known to work on each step alone", DECLARE)


def _operand(value: Any) -> Any:
    """A symbolic tensor unchanged, any other value as an object with a shape."""
    return value if isinstance(value, SymbolicTensor | Tensor) or hasattr(value, "__array__") else np.asarray(value)


def _refuse(site: Site, why: str, instead: str = "") -> NoReturn:
    site.refuse(f"is ops.{site.layer.function.__name__}, {why}", instead)


def _first(site: Site, values: dict[str, Any]) -> Any:
    """The first argument, which must be the only one with steps."""
    first = next(iter(values.values()))
    if site.stepwise() != [first]:
        _refuse(site, "which joins several sequences, or is applied to something given")
    return first


def _along(site: Site, values: dict[str, Any], axes: Any, rank: int | None = None) -> Part:
    """An op along axes of its first argument, or of a result with this rank."""
    first = _first(site, values)
    if axes is None:
        _refuse(site, "over all axes, including the steps", "Name later axes by axis=")
    site.check_axes(
        axes, first.ndim if rank is None else rank, f"is ops.{site.layer.function.__name__}, which goes along"
    )
    return plain(site, STEPS)


@_of("expand_dims")
def _expanded(site: Site, values: dict[str, Any]) -> Part:
    axes, first = values["axis"], _first(site, values)
    return _along(site, values, axes, first.ndim + (len(axes) if isinstance(axes, list | tuple) else 1))


@_of("one_hot")
def _one_hot(site: Site, values: dict[str, Any]) -> Part:
    return _along(site, values, values["axis"], _first(site, values).ndim + 1)


@_of("top_k")
def _top(site: Site, values: dict[str, Any]) -> Part:
    return _along(site, values, -1)


@_of("swapaxes")
def _swapped(site: Site, values: dict[str, Any]) -> Part:
    return _along(site, values, [values["axis1"], values["axis2"]])


@_of("moveaxis")
def _moved(site: Site, values: dict[str, Any]) -> Part:
    return _along(site, values, structures.flatten([values["source"], values["destination"]]))


@_of("transpose")
def _transposed(site: Site, values: dict[str, Any]) -> Part:
    first = _first(site, values)
    axes = [axis % first.ndim for axis in values["axes"] or range(first.ndim)[::-1]]
    if axes[:2] != [0, 1]:
        _refuse(site, "which moves the step axis (axis 1) to another position", "Keep 0 and 1 the first of axes")
    return plain(site, STEPS)


@_of("concatenate", "stack")
def _joined(site: Site, values: dict[str, Any]) -> Part:
    parts = next(iter(values.values()))
    if any(site.kind(each) != STEPS for each in parts) or len({each.ndim for each in parts}) > 1:
        _refuse(site, "which joins a sequence with another tensor that has steps")
    rank = parts[0].ndim + (site.layer.function is ops.stack)
    site.check_axes(values["axis"], rank, f"is ops.{site.layer.function.__name__}, which joins its inputs along")
    return plain(site, STEPS)


@_of("embedding")
def _looked_up(site: Site, values: dict[str, Any]) -> Part:
    _first(site, values)
    return plain(site, STEPS)


@_of("dense")
def _dense(site: Site, values: dict[str, Any]) -> Part:
    first = _first(site, values)
    if values["activation"] is not None:
        site.check_activation(values["activation"], first.ndim)
    return _along(site, values, -1)


@_of("matmul")
def _multiplied(site: Site, values: dict[str, Any]) -> Part:
    left, right = values["x1"], values["x2"]
    ranks = [len(_operand(each).shape) for each in (left, right)]
    kinds = [site.kind(left), site.kind(right)]
    # each step is a row, or a matrix
    rows = kinds == [STEPS, GIVEN] and ranks[0] > 2 and (ranks[1] < 3 or ranks == [3, 3])
    matrices = (kinds == [STEPS, STEPS] and ranks[0] == ranks[1] > 3) or (
        kinds[0] == GIVEN and ranks[0] < 3 and ranks[1] > 3
    )
    if not (rows or matrices):
        _refuse(site, "which multiplies along the step axis, or joins steps of two sequences")
    return plain(site, STEPS)


@_of("einsum")
def _einsum(site: Site, values: dict[str, Any]) -> Part:
    equation = values["subscripts"].replace(" ", "")
    terms, _, output = equation.partition("->")
    pairs = list(zip(terms.split(","), values["operands"], strict=True))
    letters = {term[1:2] for term, operand in pairs if site.kind(operand) == STEPS}
    letter = letters.pop()
    counts = [term.count(letter) == (site.kind(operand) == STEPS) for term, operand in pairs]
    if "." in equation or letters or not all(counts) or output[1:2] != letter or output.count(letter) != 1:
        _refuse(
            site,
            f"whose equation {values['subscripts']!r} does not keep the step axis",
            "The second letter of each sequence must be the second one of the output, and in no other term; without '...'",
        )
    return plain(site, STEPS)


@_of("getitem")
def _part(site: Site, values: dict[str, Any]) -> Part:
    first, key = _first(site, values), values["key"]
    parts = list(key) if isinstance(key, tuple) else [key]
    if ... in parts:
        place = parts.index(...)
        free = first.ndim - sum(part is not None and part is not ... for part in parts)
        parts[place : place + 1] = [slice(None)] * free
    parts += [slice(None)] * (2 - len(parts))
    batch, steps, *rest = parts
    basic = all(part is None or isinstance(part, int | slice) for part in rest)
    is_last = (isinstance(steps, int) and steps == -1) or steps == slice(-1, None)
    if batch != slice(None) or not basic or not (is_last or steps == slice(None)):
        _refuse(
            site,
            "which takes some of the rows or steps",
            "Take parts of later axes by slices, or the last step: x[:, -1]",
        )
    return plain(site, LAST if is_last else STEPS)
