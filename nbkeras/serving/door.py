"""The door of a worker: it takes connections from the queue of the socket that all workers share.

The queue is one, so that no connection waits for a worker that has died, starts or hangs. The worker that is awake first would
take nearly all connections of a burst, and keep them. So a worker that has clearly more of them than another one waits a moment
before it takes the next. The numbers are in memory that all workers share. A worker takes at once what it may: if it took one
connection in each turn of a busy event loop, the last of hundreds would wait for a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
from collections.abc import Callable, Collection

ABSENT = 1 << 62  # the number of a worker that takes no connections
_MORE = 8  # a worker may have an eighth, and one, more connections than the one with the fewest, without waiting
_TOGETHER = 64  # connections that are taken in a turn of the event loop
_PAUSE = 0.001  # seconds to wait; one connection is taken after it in any case
_FULL_PAUSE = 0.5  # seconds, when this process has all the files that it may open


def shared_counts(workers: int) -> memoryview:
    """The numbers of connections of all workers, which processes forked later share."""
    counts = memoryview(mmap.mmap(-1, 8 * workers)).cast("q")
    for index in range(workers):
        counts[index] = ABSENT
    return counts


class Acceptor:
    """Takes connections of a socket that listens.

    make: a new protocol for a connection. connections: those that are open. counts, index: see `shared_counts`.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        connections: Collection,
        counts: memoryview,
        index: int,
    ):
        self._listening, self._make, self._connections = listening, make, connections
        self._counts, self._index = counts, index
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task] = set()  # connections that are not in `connections` yet
        self._timer: asyncio.TimerHandle | None = None
        self._has_waited = False
        listening.setblocking(False)
        self._open()

    def _open(self) -> None:
        self._timer = None
        self._count()
        self._loop.add_reader(self._listening.fileno(), self._take_some)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._timer = self._loop.call_later(seconds, self._open)

    def _count(self) -> int:
        own = self._counts[self._index] = len(self._connections) + len(self._coming)
        return own

    def _take_some(self) -> None:
        """Take connections until none waits, or others should take the next."""
        for _ in range(_TOGETHER):
            fewest = min(self._counts)
            if not self._has_waited and self._count() > fewest + fewest // _MORE + 1:
                self._has_waited = True
                self._wait(_PAUSE)
                return
            self._has_waited = False
            if not self._take():
                return

    def _take(self) -> bool:
        """Take a connection, if one waits."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:  # too many open files
            self._wait(_FULL_PAUSE)
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._welcome(connection))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)
        self._count()
        return True

    async def _welcome(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has been closed already
            await self._loop.connect_accepted_socket(self._make, connection)

    def close(self) -> None:
        """Take all connections that wait, and no more."""
        self._loop.remove_reader(self._listening.fileno())
        while self._take():
            pass
        if self._timer is not None:
            self._timer.cancel()
        self._counts[self._index] = ABSENT
        self._listening.close()
