"""Launches of a recorded step that wait for their code.

The first step of a model needs about 20 kernels. If none of them is on disk, each launch would stop until its kernel is compiled,
and only then would the next kernel be known. But while a step is recorded its values may not be read. So the first launch whose
code is missing waits, and all later ones wait behind it, while compilers.py compiles their kernels side by side. They run in
order when a value is needed, and at the latest at the end of the recording (device.run_waiting).
"""

from collections import deque
from collections.abc import Callable, Iterator

from nbkeras.kernels.runtime import compilers

_Run = Callable[[Callable, tuple], None]


class Waiting:
    """The waiting launches of a thread, in order.

    expect: requests the code of a launch if it must be compiled, and returns whether it must.
    """

    def __init__(self, expect: Callable[[Callable, tuple], bool]):
        self._launches: deque[tuple[Callable, tuple]] = deque()
        self._expect = expect

    def __len__(self) -> int:
        return len(self._launches)

    def add_or_run(self, function: Callable, args: tuple, run: _Run) -> bool:
        """Returns True if the launch waits: others wait, or its code is missing. Otherwise runs it.

        Raises:
            TypeError: if a kernel does not take the arguments.
        """
        if self._launches:
            self._expect(function, args)
        elif hasattr(function, "row"):
            # A compiled kernel needs its code first, so it has done nothing if that is missing.
            if not compilers.is_missing(lambda: run(function, args)):
                return False
            self._expect(function, args)
        elif not self._expect(function, args):
            run(function, args)
            return False
        self._launches.append((function, args))
        return True

    def taken(self) -> Iterator[tuple[Callable, tuple]]:
        """Removes the launches and yields them, so that each array is freed after its last launch."""
        while self._launches:
            yield self._launches.popleft()
