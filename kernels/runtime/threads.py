"""Kernels whose work is cut into shares for several threads.

`launch_shares(kernel, shares, *args)` runs `kernel(*args, share, shares)` for each share; pool.py has the threads. Cuts depend
on the shape, never on the number of threads, so results are the same on every machine.
"""

from typing import Any

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import Kernel, compiled
from nbkeras.kernels.runtime.cache import Shared as Shared
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.pool import get_threads as get_threads
from nbkeras.kernels.runtime.pool import set_threads as set_threads

_MAX_SHARES = 32


def share_count(size: int, minimum: int, *maximum: int) -> int:
    """Returns the number of shares of `size` elements. A share has at least `minimum`; there are at most `maximum` shares."""
    return 1 if size < 2 * minimum else max(1, min(_MAX_SHARES, *maximum, size // minimum))


@compiled
def stretch(size, share, shares):
    """Returns (first, last) of a share of `size` elements, for use in kernels. Cuts are at multiples of 64: whole cache lines."""
    first, last = size * share // shares, size * (share + 1) // shares
    return first // 64 * 64, size if share + 1 == shares else last // 64 * 64


def launch_shares(kernel: Any, shares: int, *args: Any) -> None:
    """Launches `kernel(*args, share, shares)` for each share, on several threads if there are several shares."""
    if device.gpu() is not None:  # because twins on a GPU cut the work themselves
        device.launch(kernel, *args)
    elif not isinstance(kernel, Kernel) or not kernel.takes_shares:
        raise TypeError(
            f"launch_shares needs a compiled kernel whose arguments end in `share, shares`, received the kernel {named(kernel)}: "
            "launch_shares passes `share, shares` to it. Decorate it with @compiled of nbkeras.kernels.runtime.cache"
        )
    elif shares == 1:
        device.launch(kernel, *args, 0, 1)
    else:
        device.launch(kernel.shared, shares, *args)
