"""Layered graph drawing: positions of boxes in rows, and routes of arrows that do not run through a box.

The method of Sugiyama, Tagawa and Toda, 1981: an arrow that passes a row gets a bend there, and the bend takes space like a box.
The method orders boxes and bends so that few arrows cross, then moves them towards their neighbours. Positions are (across,
along) the direction of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

Point = tuple[float, float]

# weights of lines between bends, between a bend and a box, between boxes; the heaviest lines become straightest
_PULLS = (1.0, 0.05, 30.0)


class Arrow(NamedTuple):
    """An arrow between boxes given by number; the shifts are the distances of its ends from the boxes' middles."""

    source: int
    target: int
    source_shift: float = 0.0
    target_shift: float = 0.0


class Arranged(NamedTuple):
    """The boxes' corners, the arrows' points, and the total size."""

    corners: list[Point]
    routes: list[list[Point]]
    size: Point


def arrange(
    sizes: Sequence[Point], arrows: Sequence[Arrow], gap: float, first: Collection[int] = (), last: Collection[int] = ()
) -> Arranged:
    """Arrange boxes of these sizes. Arrows go from a box to a later box; `first` and `last` get separate rows."""
    rows = _rows(len(sizes), arrows, first, last)
    widths = [size[0] for size in sizes]
    bends: dict[tuple[int, float, int], int] = {}
    chains, links = [], []
    for arrow in arrows:
        chain = [arrow.source]
        for row in range(rows[arrow.source] + 1, rows[arrow.target]):
            key = (arrow.source, arrow.source_shift, row)  # arrows with the same start share their bends
            if key not in bends:
                bends[key] = len(rows)
                rows.append(row)
                widths.append(0.0)
            chain.append(bends[key])
        chain.append(arrow.target)
        chains.append(chain)
        shifts = [arrow.source_shift, *[0.0] * (len(chain) - 2), arrow.target_shift]
        links += list(zip(chain, chain[1:], shifts, shifts[1:], strict=False))
    links = list(dict.fromkeys(links))
    levels: list[list[int]] = [[] for _ in range(max(rows, default=-1) + 1)]
    for item, row in enumerate(rows):
        levels[row].append(item)
    # (neighbour, the shift of its end of the arrow relative to this end)
    above: list[list[tuple[int, float]]] = [[] for _ in rows]
    below: list[list[tuple[int, float]]] = [[] for _ in rows]
    for source, target, start, end in links:
        above[target].append((source, start - end))
        below[source].append((target, end - start))
    levels = _ordered(levels, above, below)
    middles = _moved(levels, above, below, widths, len(sizes), gap)
    left = min((x - w / 2 for x, w in zip(middles, widths, strict=True)), default=0.0)
    middles = [x - left for x in middles]
    depths = [max([sizes[i][1] for i in level if i < len(sizes)], default=0.0) for level in levels]
    starts = [sum(depths[:row]) + gap * row for row in range(len(levels))]
    corners = [
        (middles[i] - size[0] / 2, starts[rows[i]] + (depths[rows[i]] - size[1]) / 2) for i, size in enumerate(sizes)
    ]
    routes = []
    for arrow, chain in zip(arrows, chains, strict=True):
        start, end = middles[arrow.source] + arrow.source_shift, middles[arrow.target] + arrow.target_shift
        route = [(start, corners[arrow.source][1] + sizes[arrow.source][1])]
        for item in chain:
            across = start if item == arrow.source else end if item == arrow.target else middles[item]
            top, bottom = starts[rows[item]], starts[rows[item]] + depths[rows[item]]
            route += [(across, bottom)] if item == arrow.source else [(across, top)] if item == arrow.target else []
            route += [(across, top), (across, bottom)] if item >= len(sizes) else []
        routes.append([*route, (end, corners[arrow.target][1])])
    right = max((x + w / 2 for x, w in zip(middles, widths, strict=True)), default=0.0)
    return Arranged(corners, routes, (right, starts[-1] + depths[-1] if levels else 0.0))


def _rows(count: int, arrows: Sequence[Arrow], first: Collection[int], last: Collection[int]) -> list[int]:
    """The row of each box: below all its sources; a box without a source is just above its first target."""
    rows = [0 if item in first or not first else 1 for item in range(count)]
    for arrow in sorted(arrows, key=lambda arrow: arrow.target):
        rows[arrow.target] = max(rows[arrow.target], rows[arrow.source] + 1)
    targets = {arrow.target for arrow in arrows}
    for item in set(range(count)) - targets - set(first):
        rows[item] = min([rows[arrow.target] - 1 for arrow in arrows if arrow.source == item], default=rows[item])
    lowest = max((rows[item] for item in range(count) if item not in last), default=-1)
    return [lowest + 1 if item in last else row for item, row in enumerate(rows)]


def _ordered(levels: list[list[int]], above: list, below: list) -> list[list[int]]:
    """Order each row so that few arrows cross: sort by the neighbours' mean position, down and up, and keep the best order."""
    best, fewest = levels, _crossings(levels, below)
    for sweep in range(12):
        if not fewest:
            break
        down = sweep % 2 == 0
        order = list(range(1, len(levels))) if down else list(range(len(levels) - 2, -1, -1))
        levels = list(levels)
        for row in order:
            places = {item: place for place, item in enumerate(levels[row - 1 if down else row + 1])}
            own = {item: place for place, item in enumerate(levels[row])}
            neighbours = above if down else below

            def middle(item: int, places=places, own=own, neighbours=neighbours) -> float:
                found = [places[other] for other, _ in neighbours[item]]
                return sum(found) / len(found) if found else own[item]

            levels[row] = sorted(levels[row], key=middle)
        crossings = _crossings(levels, below)
        if crossings < fewest:
            best, fewest = levels, crossings
    return best


def _crossings(levels: list[list[int]], below: list) -> int:
    count = 0
    for upper, lower in zip(levels, levels[1:], strict=False):
        places = {item: place for place, item in enumerate(lower)}
        ends = [sorted(places[other] for other, _ in below[item]) for item in upper]
        count += sum(a > b for i, left in enumerate(ends) for right in ends[i + 1 :] for a in left for b in right)
    return count


def _moved(levels: list, above: list, below: list, widths: list[float], boxes: int, gap: float) -> list[float]:
    """The middle of each item: near its neighbours' middles, in the row's order and at the required distances."""
    middles = [0.0] * len(widths)
    offsets: list[list[float]] = []
    for level in levels:
        at, own = 0.0, []
        for place, item in enumerate(level):
            if place:
                before = level[place - 1]
                free = gap if item < boxes and before < boxes else gap / 2
                at += (widths[before] + widths[item]) / 2 + free
            own.append(at)
        offsets.append(own)
        for item, offset in zip(level, own, strict=True):
            middles[item] = offset - at / 2
    for sweep in range(64):
        down = sweep % 2 == 0
        sides = [above, below] if sweep > 7 else [above] if down else [below]
        for row in range(len(levels)) if down else range(len(levels) - 1, -1, -1):
            wanted, weights = [], []
            for item in levels[row]:
                ends = [
                    (_PULLS[(other < boxes) + (item < boxes)], middles[other] + shift)
                    for side in sides
                    for other, shift in side[item]
                ]
                weights.append(sum(pull for pull, _ in ends) or _PULLS[0])
                wanted.append(sum(pull * place for pull, place in ends) / weights[-1] if ends else middles[item])
            found = _apart(wanted, offsets[row], weights)
            for item, middle in zip(levels[row], found, strict=True):
                middles[item] = middle
    return middles


def _apart(wanted: list[float], offsets: list[float], weights: list[float]) -> list[float]:
    """The positions nearest to `wanted` (weighted least squares) with at least the distances of `offsets`.

    Neighbouring items that would overlap are pooled (isotonic regression).
    """
    pools: list[tuple[float, float, int]] = []  # (mean, weight, items)
    for want, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, total, count = want - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, other_weight, other_count = pools.pop()
            mean = (mean * total + other * other_weight) / (total + other_weight)
            total, count = total + other_weight, count + other_count
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
