"""The rows of batches that several processes share."""

import numpy as np
import pytest

from nbkeras.data.parts import part_of
from nbkeras.engine import sharding
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.sharding import RankRows
from nbkeras.engine.tensor import as_tensor
from nbkeras.losses import MeanAbsoluteError


def rows_of(batch):
    return batch.leaves[0][batch.rows]


@pytest.mark.parametrize("rows", [ALL, slice(3, 14), np.random.default_rng(0).permutation(20)[:11]])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_each_row_belongs_to_one_rank(rows, size):
    x = np.arange(11 if rows is ALL else 20)
    batch = Batch([x, None], rows, 11)
    parts = [part_of(batch, rank, size) for rank in range(size)]
    found = [rows_of(part) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), x[rows])
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert [part.part.first for part in parts] == [0, *np.cumsum([len(each) for each in found[:-1]])]
    assert all(part.size == len(each) for part, each in zip(parts, found, strict=True))


@pytest.mark.parametrize("rows", [ALL, slice(3, 5), np.array([6, 1])])
def test_a_rank_without_rows_has_one_that_does_not_count(rows):
    batch = Batch([np.arange(2 if rows is ALL else 9)], rows, 2)
    parts = [part_of(batch, rank, 4) for rank in range(4)]
    assert [part.part.own for part in parts] == [0, 1, 0, 1] and all(part.size == 1 for part in parts)
    assert [part.part.fraction for part in parts] == [0.0, 0.5, 0.0, 0.5]
    assert all(rows_of(part)[0] in rows_of(batch) for part in parts)


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
def test_losses_of_parts_add_up(reduction):
    """Without sums over ranks: they are tested in test_distribution.py."""
    y, weights = np.arange(10.0).reshape(5, 2), np.ones(5)
    parts = [RankRows(0, 2, 5), RankRows(2, 3, 5), RankRows(5, 0, 5)]
    loss = MeanAbsoluteError(reduction=reduction)
    whole, total = loss(y, np.zeros_like(y), weights).item(), 0.0
    for part in parts:
        rows = slice(part.start, part.start + part.rows)
        with sharding.within(part):
            # the sum of the weights, from all ranks
            factor = part.own / 5 if reduction == "mean_with_sample_weight" else 1.0
            found = loss(as_tensor(y[rows]), np.zeros_like(y[rows]), weights[rows]).item()
            total += part.fraction * found * factor
    assert total == pytest.approx(whole)
    assert sharding.current() is None and sharding.of_sum() == 1.0


def test_places_of_random_numbers():
    with sharding.within(RankRows(2, 3, 7)):
        assert sharding.place_of((3, 4)) == (8, 28)
        assert sharding.place_of((4, 3)) is sharding.place_of(()) is None
        with sharding.repeated(5):
            assert sharding.place_of((15, 2)) == (20, 70)
        with sharding.within(None):
            assert sharding.place_of((3, 4)) is None
    with sharding.within(RankRows(7, 0, 7)):
        assert sharding.place_of((1, 4)) == (24, 28)
