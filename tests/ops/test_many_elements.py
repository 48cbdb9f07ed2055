"""Positions and counts that int32 cannot hold are refused before anything is computed."""

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine.tensor import Tensor

LIMIT = 2**31 - 1
REFUSED = (
    "positions and counts are int32, at most 2,147,483,647, and here they could be {}: process parts of the tensor"
)


def large(*shape, dtype="bool"):
    """A tensor of one element in memory."""
    return Tensor(np.broadcast_to(np.zeros(1, dtype), shape))


POSITIONS = {  # the greatest position along n elements is n - 1
    **{name: getattr(ops, name) for name in ("argmax", "argmin", "argsort", "sort", "nanargmax")},
    "argmin of all": lambda x: ops.argmin(ops.expand_dims(x, 0)),
    "argpartition": lambda x: ops.argpartition(x, 3),
    "top_k": lambda x: ops.top_k(x, 3),
    "nanargmin": lambda x: ops.nanargmin(x, 0),
}
COUNTS = {
    **{name: getattr(ops, name) for name in ("count_nonzero", "sum", "nonzero", "unique", "bincount", "size")},
    "count_nonzero of an axis": lambda x: ops.count_nonzero(ops.expand_dims(x, 0), 1),
    "cumsum": lambda x: ops.cumsum(x, 0),
    "searchsorted": lambda x: ops.searchsorted(x, large(1)),
    "digitize": lambda x: ops.digitize(large(1), x),
}


@pytest.mark.parametrize("name", [*POSITIONS, *COUNTS])
def test_numbers_that_int32_cannot_hold(name):
    size = LIMIT + 2 if name in POSITIONS else LIMIT + 1
    with pytest.raises(ValueError, match=REFUSED.format("2,147,483,648")):
        (POSITIONS | COUNTS)[name](large(size))


def test_only_what_is_counted_matters():
    assert int(ops.size(large(LIMIT))) == LIMIT
    rows = large(0, LIMIT + 1)
    assert ops.argmax(rows, 1).shape == ops.argmin(large(0, LIMIT + 1), 1).shape == (0,)
    assert ops.count_nonzero(large(LIMIT + 1, 2, 0), 1).shape == (LIMIT + 1, 0)
