"""Floor 1: convolutions of groups that a predict step computes as sums of depthwise convolutions.

Layers had no `groups` at first, so models such as Keras-Applications' ResNeXt compute them in four steps. The sum adds slices:

    copy each channel of x m times -> depthwise convolution -> reshape to (..., groups, channels, m) -> sum over channels

This is a convolution of x with groups, and with the same weights in another order. The four steps write and read `channels` times
as many numbers as it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from nbkeras.engine.recorder import OpCall
from nbkeras.kernels import elementwise, shape
from nbkeras.kernels.convolution import conv
from nbkeras.kernels.runtime.ref import Ref, is_contiguous


def grouped(calls: list[OpCall], kept: list, numbers: Iterator[int]) -> tuple[list[OpCall], int]:
    """The calls with a convolution of groups in place of each such sum, and the number of sums.

    kept: the arrays that the step returns. numbers: of new buffers.
    """
    uses = _Uses(calls, {}, {})
    for place, call in enumerate(calls):
        for view in _views(call.inputs):
            uses.users.setdefault(view.memory, []).append(place)
        for view in _views(call.outputs or ()):
            uses.makers.setdefault(view.memory, place)
    for view in _views(kept):  # no call may replace these
        uses.users.setdefault(view.memory, []).append(len(calls))
    replaced: dict[int, list[OpCall]] = {}
    count = 0
    for place, call in enumerate(calls):
        if call.function is conv.conv:
            found = _replacement(uses, place, numbers)
            replaced.update(found)
            count += bool(found)
    return [new for place, call in enumerate(calls) for new in replaced.get(place, [call])], count


class _Uses(NamedTuple):
    """Calls, and by buffer the places of the calls that read it, and the place of the call that made it."""

    calls: list[OpCall]
    users: dict[Any, list[int]]
    makers: dict[Any, int]

    def only(self, buffer: Any) -> int | None:
        """The place of the only call that reads a buffer; None if there are several, or none."""
        places = self.users.get(buffer, ())
        return places[0] if len(places) == 1 and places[0] < len(self.calls) else None


def _views(described: Any) -> Iterator[Ref]:
    return (each for each in described if isinstance(each, Ref))


def _replacement(uses: _Uses, place: int, numbers: Iterator[int]) -> dict[int, list[OpCall]]:
    """Places of the calls of a sum of depthwise results -> new calls; empty if the convolution at `place` is not part of one."""
    call = uses.calls[place]
    x, kernel, bias = call.inputs
    maker = uses.makers.get(x.memory) if isinstance(x, Ref) else None
    if maker is None or uses.calls[maker].function is not shape.spread or uses.only(x.memory) != place:
        return {}
    spread = uses.calls[maker]
    (source,), (y,), (*pixels, depth, copies) = spread.inputs, call.outputs, spread.constants["over"]  # type: ignore[misc]
    is_own = call.constants["groups"] == kernel.shape[-1] == depth * copies and not call.constants["relu"]
    if len(pixels) != 3 or spread.constants["seen_as"] != (*pixels, depth, 1) or not is_own or bias is not None:
        return {}
    axes = _summed_axes(uses, y)
    if axes is None or math.prod(axes) != depth * copies or axes[2] != copies:
        return {}
    summed = _sum_of(uses, [p for p in uses.users[y.memory] if uses.calls[p].function is shape.getitem])
    weights, image = _seen_as(kernel, (*kernel.shape[:2], *axes)), _seen_as(source, (*pixels, depth))
    if summed is None or weights is None or image is None or len(summed.numbers) > 1:
        return {}
    (groups, channels, units), size, new = axes, kernel.shape[:2], []
    turned = Ref.contiguous(next(numbers), 0, (*size, channels, groups, units), kernel.dtype)
    new.append(OpCall(shape.transpose, (weights,), {"axes": (0, 1, 3, 2, 4)}, (turned,), call.place))
    for number in summed.numbers:
        bias = Ref.contiguous(next(numbers), 0, (groups * units,), kernel.dtype)
        forms = {"seen_as": (1,), "over": bias.shape, "shape": bias.shape}
        new.append(OpCall(shape.spread, (number,), forms, (bias,), call.place))
    inputs = image, _seen_as(turned, (*size, channels, groups * units)), bias
    outputs = (_seen_as(uses.calls[summed.last].outputs[0], (*y.shape[:3], groups * units)),)  # type: ignore[index]
    new.append(call._replace(inputs=inputs, constants={**call.constants, "groups": groups}, outputs=outputs))
    removed = {maker, place, *uses.users[y.memory], *summed.places}
    return {**{each: [] for each in removed}, summed.last: new}


def _summed_axes(uses: _Uses, y: Ref) -> tuple[int, int, int] | None:
    """(groups, channels, copies) if a depthwise result is only reshaped and cut into one slice for each channel; else None."""
    numbers, shapes = [], set()
    for place in uses.users.get(y.memory, ()):
        if place == len(uses.calls) or uses.calls[place].outputs is None:
            return None
        call = uses.calls[place]
        is_view = any(view.memory == y.memory for view in _views(call.outputs))  # type: ignore[arg-type]
        if call.function is shape.getitem and not is_view:
            *before, number = call.constants["key"][:5]
            if before != [slice(None)] * 4 or any(key != slice(None) for key in call.constants["key"][5:]):
                return None
            numbers.append(number)
            shapes.add(call.inputs[0].shape)
        elif not is_view or call.function is not shape.reshape:
            return None
    if len(shapes) != 1 or len(found := shapes.pop()) != 6 or found[:3] != y.shape[:3]:
        return None
    return found[3:] if numbers == list(range(found[4])) else None


class _Sum(NamedTuple):
    """The place of the addition that completes a sum, the places of all calls of the sum, and the numbers that it also adds."""

    last: int
    places: list[int]
    numbers: list


def _sum_of(uses: _Uses, places: list[int]) -> _Sum | None:
    """The sum of the results at `places`; None if anything but additions uses these or a part of the sum."""
    counts = {uses.calls[place].outputs[0].memory: 1 for place in places}  # type: ignore[index]
    found, numbers = list(places), []
    while True:
        place = uses.only(next(iter(counts)))
        if place is None or uses.calls[place].function is not elementwise.add:
            return None
        call, total = uses.calls[place], 0
        (result,) = call.outputs  # type: ignore[misc]
        for term in call.inputs:
            if isinstance(term, Ref) and term.memory in counts and uses.only(term.memory) == place:
                total += counts.pop(term.memory)
            elif term.shape == () and term.dtype == result.dtype:  # Python's `sum` begins with 0
                numbers.append(term)
            else:
                return None
        counts = {result.memory: total, **counts}
        found.append(place)
        if total == len(places):
            return _Sum(place, found, numbers)


def _seen_as(described: Any, form: tuple) -> Any:
    """A description of an array with another shape; None if that needs a copy."""
    if isinstance(described, Ref):
        whole = is_contiguous(described)
        return Ref.contiguous(described.memory, described.offset, form, described.dtype) if whole else None
    return described.reshape(form) if described.flags.c_contiguous else None
