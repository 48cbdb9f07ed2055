"""SequenceRouter: forwards requests of a sequence to the worker that owns the sequence.

The owner follows from the model's name and the id, so workers need not negotiate it. Workers talk over sockets in the server's
private folder, which no other user can open, so messages may be pickles. Each message has its length in 8 bytes before it.

A connection counts only after the owner's hello: a restarted worker's socket accepts connections before the worker runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pickle
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nbkeras.serving.errors import ServingError, client_error
from nbkeras.serving.requests import InferRequest, InferResponse

_HELLO_SECONDS = 10.0  # time for the restart of a worker that has ended
_ENDING_SECONDS = 2.0  # at shutdown, time for other workers to forward their accepted requests
_ANSWER_SECONDS = 0.05  # time after a deadline for a live owner to report what became of a request
_HELLO = 0  # the message number of a hello, which answers no request
Infer = Callable[[InferRequest], Awaitable[InferResponse]]


async def _receive(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The number and the content of a message."""
    size = int.from_bytes(await reader.readexactly(8), "little")
    return pickle.loads(await reader.readexactly(size))


def _send(writer: asyncio.StreamWriter, number: int, content: Any) -> None:
    data = pickle.dumps((number, content), pickle.HIGHEST_PROTOCOL)
    writer.writelines((len(data).to_bytes(8, "little"), data))


class _Link:
    """A connection to the owner of sequences, and its pending requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.writer = writer
        self.is_open = True
        self._asked: dict[int, asyncio.Future] = {}
        self._numbers = itertools.count(_HELLO + 1)
        self.task = asyncio.create_task(self._listen(reader))

    async def ask(self, content: Any) -> InferResponse:
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            _send(self.writer, number, content)
            answer = await future
        except asyncio.CancelledError:
            if self.is_open:
                _send(self.writer, number, None)  # nobody waits for it any more
            raise
        finally:
            del self._asked[number]
        if isinstance(answer, ServingError):
            raise answer
        return answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, answer = await _receive(reader)
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.is_open = False
            self.writer.close()
            for future in self._asked.values():
                if not future.done():
                    future.set_result(
                        ServingError(503, "the worker that kept this sequence has ended: begin the sequence again")
                    )


def _made(task: asyncio.Task[_Link]) -> _Link | None:
    """The connection that a task has made, if it succeeded."""
    return task.result() if task.done() and not task.cancelled() and not task.exception() else None


class SequenceRouter:
    """Forwards requests between the workers of a server.

    paths: the socket paths of all workers. local: this worker's listening socket. infer: computes forwarded requests.
    """

    def __init__(self, index: int, paths: Sequence[str], local: socket.socket, infer: Infer):
        self.index, self._paths, self._local, self._infer = index, list(paths), local, infer
        self._links: dict[int, asyncio.Task[_Link]] = {}
        self._served: set[asyncio.Task] = set()  # connections from other workers
        self._server: asyncio.Server | None = None

    def owner(self, model: str, identity: int | str) -> int:
        """The index of the worker that owns a sequence."""
        return zlib.crc32(f"{model} {identity!r}".encode("utf-8", "surrogatepass")) % len(self._paths)

    async def infer(self, owner: int, request: InferRequest) -> InferResponse:
        """Let the owner compute a request. All processes share the clock of its deadline; 504 if it has not answered by then."""
        deadline = request.deadline
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) + _ANSWER_SECONDS
        try:
            async with asyncio.timeout(left):
                link = await self._link(owner)
                return await link.ask(request)
        except TimeoutError:
            raise ServingError(
                504,
                "the worker that keeps this sequence did not answer in the request's time; the step may count or not: begin the "
                "sequence again",
            ) from None

    async def _link(self, owner: int) -> _Link:
        """The connection to a worker; simultaneous callers share it."""
        task = self._links.get(owner)
        link = None if task is None else _made(task)
        if task is None or (task.done() and (link is None or not link.is_open)):
            task = self._links[owner] = asyncio.create_task(self._connect(owner))
        return await asyncio.shield(task)

    async def _connect(self, owner: int) -> _Link:
        writer = None
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._paths[owner])
                await _receive(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            if writer is not None:
                writer.close()
            raise ServingError(
                503, "the worker that keeps this sequence does not answer; try again later", retry_after=5
            ) from None
        return _Link(reader, writer)

    # -------------------- requests from other workers --------------------

    async def start(self) -> None:
        """Answer requests that other workers forward."""
        self._server = await asyncio.start_unix_server(self._serve, sock=self._local)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        self._served.add(own)  # type: ignore[arg-type]
        running: dict[int, asyncio.Task] = {}
        try:
            _send(writer, _HELLO, None)
            while True:
                number, content = await _receive(reader)
                if content is not None:
                    running[number] = asyncio.create_task(self._respond(number, content, running, writer))
                elif number in running:
                    running[number].cancel()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other worker has ended, or this one
        finally:
            for task in running.values():
                task.cancel()
            writer.close()
            self._served.discard(own)  # type: ignore[arg-type]

    async def _respond(self, number: int, request: InferRequest, running: dict, writer: asyncio.StreamWriter) -> None:
        answer: Any
        try:
            answer = await self._infer(request)
        except Exception as error:
            answer = client_error(error)
        finally:
            del running[number]
        with contextlib.suppress(OSError):
            _send(writer, number, answer)

    async def close(self) -> None:
        """Stop after all requests of this worker are answered. Other workers may still forward some."""
        for link in filter(None, map(_made, self._links.values())):
            link.writer.close()
            link.task.cancel()
        if self._served:
            await asyncio.wait(self._served, timeout=_ENDING_SECONDS)
        for task in self._served:
            task.cancel()
        if self._server is not None:
            self._server.close()
