"""Row: a launch as a call of native code, with the arrays whose addresses it holds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.kernels.runtime import code

Array = np.ndarray


class Row(NamedTuple):
    """A launch as a call of an entry.

    what: the kernel and the types of its arguments, or the name of a registered function. frame: its words, after the addresses
    of the programs in `inner`. addresses: (index of a word of the frame, the array whose address it holds). flag: an array; the
    row runs unless its first int64 is 0. code: instructions of the interpreter, whose address is the frame's second word, with
    their own addresses; scratch: the arrays that they use and the launch does not name.
    """

    what: Any
    frame: Sequence[int] | Array
    shares: int = 1
    addresses: Sequence[tuple[int, Array]] = ()
    flag: Array | None = None
    code: Array | None = None
    code_addresses: Sequence[tuple[int, Array]] = ()
    scratch: Sequence[Array] = ()
    inner: Sequence["Sequence[Row]"] = ()

    def entry(self) -> int:
        """Returns the address of the entry."""
        if isinstance(self.what, str):
            return code.address(self.what)
        kernel, signature = self.what
        return kernel.entry(signature)

    def uses_pool(self) -> bool:
        """True if its shares, or those of a row in it, run on several threads."""
        return self.shares > 1 or any(row.uses_pool() for rows in self.inner for row in rows)


def play_row(rows: Sequence[Row], flag: Array) -> Row:
    """Returns a row that runs rows."""
    return Row("nbkeras_play", (), inner=(rows,), flag=flag)


def loop_row(parts: Sequence[Sequence[Row]], numbers: Sequence[Array | None], limit: int, backwards: bool) -> Row:
    """Returns a row that repeats rows. parts, numbers: the words of the frame, see `_BEFORE_LOOP`."""
    addresses = [(at, number) for at, number in enumerate(numbers) if number is not None]
    return Row("nbkeras_play_loop", (*[0] * len(numbers), limit, int(backwards)), addresses=addresses, inner=parts)
