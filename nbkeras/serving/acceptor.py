"""Acceptor: a worker's accept loop on the socket that all workers share.

There is one queue, so no connection waits for a worker that has died, is starting or hangs. But the first worker awake would
accept nearly all connections of a burst, and keep them. So a worker that has clearly more connections than another one waits a
moment before it accepts the next. The numbers of connections are in shared memory. A worker accepts as many connections as it
may in one turn: with one for each turn of a busy event loop, the last of hundreds would wait for a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
from collections.abc import Callable, Collection

ABSENT = 1 << 62  # the number of connections of a worker that accepts none
_MORE = 8  # a worker waits if it has over 1/8 + 1 more connections than the worker with the fewest
_TOGETHER = 64  # connections accepted in a turn of the event loop
_PAUSE = 0.001  # seconds to wait; one connection is accepted after it in any case
_FULL_PAUSE = 0.5  # seconds to wait when this process has reached its limit of open files


def shared_counts(workers: int) -> memoryview:
    """The numbers of connections of all workers, shared with processes forked later."""
    counts = memoryview(mmap.mmap(-1, 8 * workers)).cast("q")
    for index in range(workers):
        counts[index] = ABSENT
    return counts


class Acceptor:
    """Accepts connections of a listening socket.

    make: makes a new protocol for a connection. connections: the open ones. counts, index: see `shared_counts`.
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
        self._pending: set[asyncio.Task] = set()  # accepted connections that are not in `connections` yet
        self._timer: asyncio.TimerHandle | None = None
        self._has_waited = False
        listening.setblocking(False)
        self._open()

    def _open(self) -> None:
        self._timer = None
        self._count()
        self._loop.add_reader(self._listening.fileno(), self._accept_some)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._timer = self._loop.call_later(seconds, self._open)

    def _count(self) -> int:
        own = self._counts[self._index] = len(self._connections) + len(self._pending)
        return own

    def _accept_some(self) -> None:
        """Accept connections until none waits, or other workers should accept the next."""
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
        """Accept a connection, if one waits."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:  # too many open files
            self._wait(_FULL_PAUSE)
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(connection))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        self._count()
        return True

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has been closed already
            await self._loop.connect_accepted_socket(self._make, connection)

    def close(self) -> None:
        """Accept all waiting connections, then stop."""
        self._loop.remove_reader(self._listening.fileno())
        while self._take():
            pass
        if self._timer is not None:
            self._timer.cancel()
        self._counts[self._index] = ABSENT
        self._listening.close()
