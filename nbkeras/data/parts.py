"""Floor 3: the rows of each batch that this rank computes, if several processes train one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nbkeras.engine import ranks
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.sharding import RankRows


def parts(batches: Iterable[Batch]) -> Iterable[Batch]:
    """This rank's rows of each batch; without other ranks, the batches unchanged.

    With `DataParallel(auto_shard_dataset=False)` each rank already has its own batches; together they form one batch.
    """
    group = ranks.current()
    if group is None:
        return batches
    if ranks.takes_parts():
        return (part_of(batch, group.rank, group.size) for batch in batches)
    return _joined(batches, group)


def part_of(batch: Batch, rank: int, size: int) -> Batch:
    """The rows of one rank. They follow the rows of lower ranks. The numbers of rows differ by one at most."""
    first, last = batch.size * rank // size, batch.size * (rank + 1) // size
    return _rows(batch, RankRows(first, last - first, batch.size), first)


def _rows(batch: Batch, part: RankRows, start: int) -> Batch:
    """A part's rows, from row `start` of a batch on; for an empty part, one row with weight 0."""
    start = min(start, batch.size - 1)
    rows: Any = slice(start, start + part.rows)
    if batch.rows is not ALL:
        given = batch.rows
        rows = slice(given.start + rows.start, given.start + rows.stop) if isinstance(given, slice) else given[rows]
    return Batch(batch.leaves, rows, part.rows, batch.layout, part)


def _joined(batches: Iterable[Batch], group: ranks.Group) -> Iterator[Batch]:
    """The batches of the ranks as parts of one batch. A rank whose data end early continues without rows until all ranks end."""
    last: Batch | None = None
    found = iter(batches)
    while True:
        batch = next(found, None)
        counts = group.exchange(0 if batch is None else batch.size)
        if not any(counts):
            return
        last = batch or last
        if last is None:
            raise ValueError(
                f"rank {group.rank} has no data, while other ranks have: with auto_shard_dataset=False give each rank some"
            )
        here = counts[group.rank]
        yield _rows(last, RankRows(sum(counts[: group.rank]), here, sum(counts)), 0)
