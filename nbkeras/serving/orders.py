"""The messages between the supervisor and its workers: lines of JSON over a socket pair.

The supervisor sends numbered orders: `load` (a frozen file under a name and version), `unload`, `mark` (a state, for the
index), `begin` (to answer requests) and `drain`. A worker carries them out in sequence and answers with the number, and the
reason if it failed. For a client's request to load or unload, a worker asks the supervisor, which answers when all workers
have done it. A worker answers a `ping` immediately, which shows that its event loop runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.inference.session import Frozen
from nbkeras.serving.board import SharedMetrics
from nbkeras.serving.errors import ServingError
from nbkeras.serving.logs import event
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.repository import Repository

_LONGEST = 2**20  # bytes of a message
_log = logging.getLogger("nbkeras.serving")


@dataclasses.dataclass
class Seat:
    """The data that the supervisor passes to a worker.

    http: the socket on which all workers listen. grpc_port: a port that the supervisor reserves, for sockets with
    SO_REUSEPORT. local: this worker's socket for requests forwarded by other workers. local_paths: the paths of all workers'
    sockets, by index. board: the counters of all processes. counts: the workers' numbers of connections, see `door.py`.
    """

    index: int
    workers: int
    options: Options
    http: socket.socket
    grpc_port: int | None
    channel: socket.socket
    local: socket.socket
    local_paths: list[str]
    folder: str
    supervisor: int
    board: SharedMetrics
    counts: memoryview


class Channel:
    """The supervisor's end of the socket pair."""

    def __init__(self, connection: socket.socket):
        self.connection, self._buffer = connection, b""
        connection.setblocking(False)

    def send(self, **message: Any) -> None:
        """Send a message. Raises OSError if the worker has ended, or has not read for a long time."""
        data = json.dumps(message).encode() + b"\n"
        if self.connection.send(data) < len(data):
            raise BlockingIOError("the worker does not read its orders")

    def receive(self) -> list[dict[str, Any]]:
        """The received messages. Raises EOFError when the worker has closed its end."""
        try:
            data = self.connection.recv(_LONGEST)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if not data or len(self._buffer) > _LONGEST:
            raise EOFError
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.connection.close()


class ControlChannel:
    """A worker's end. It carries out orders in the Repository, and is the Control of the Service.

    end: called when the worker must drain, by an order or because the supervisor has ended.
    """

    def __init__(self, connection: socket.socket, repository: Repository, end: Callable[[], Any]):
        self._connection, self._repository, self._end = connection, repository, end
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future] = {}
        self._numbers = itertools.count(1)
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.begun = asyncio.Event()

    async def follow(self) -> None:
        """Listen to the supervisor until it has ended."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._connection, limit=_LONGEST)
        carrying_out = asyncio.create_task(self._carry_out())
        while line := await reader.readline():
            message = json.loads(line)
            if "ping" in message:
                self.say(pong=message["ping"])
            elif "answer" in message:
                self._receive(message)
            else:
                self._received.put_nowait(message)
        carrying_out.cancel()
        self._end()

    def say(self, **message: Any) -> None:
        """Send the supervisor a message."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _carry_out(self) -> None:
        while True:
            order = await self._received.get()
            error = None
            try:
                await getattr(self, f"_do_{order['do']}")(order)
            except Exception as failure:
                _log.exception(
                    "worker: an order of the supervisor failed: %s", order["do"], extra=event("order_failed")
                )
                error = f"{type(failure).__name__}: {failure}"
            self.say(done=order["order"], error=error)

    async def _do_load(self, order: dict[str, Any]) -> None:
        options = ModelOptions(**_tuples(order["options"]))
        program = await asyncio.to_thread(opened, order["file"])
        self._repository.set(options.name, options.version, program, options)

    async def _do_unload(self, order: dict[str, Any]) -> None:
        self._repository.remove(order["name"], order["version"])

    async def _do_mark(self, order: dict[str, Any]) -> None:
        self._repository.mark(order["name"], order["version"], order["state"], order["reason"])

    async def _do_begin(self, order: dict[str, Any]) -> None:
        self.begun.set()

    async def _do_drain(self, order: dict[str, Any]) -> None:
        self._end()

    # -------------------- requests to load and unload --------------------

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        _refuse(parameters)
        await self._ask(do="load", name=name)

    async def unload(self, name: str, parameters: dict[str, Any]) -> None:
        _refuse(parameters)
        await self._ask(do="unload", name=name)

    async def _ask(self, **wish: Any) -> None:
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.say(ask=number, **wish)
            answer = await self._asked[number]
        finally:
            del self._asked[number]
        if answer["status"] != 200:
            raise ServingError(answer["status"], answer["error"], retry_after=1 if answer["status"] == 503 else None)

    def _receive(self, message: dict[str, Any]) -> None:
        asked = self._asked.get(message["answer"])
        if asked is not None and not asked.done():
            asked.set_result(message)


def _refuse(parameters: dict[str, Any]) -> None:
    """Refuse parameters of a load or unload, except unload_dependents: no model depends on another one."""
    for name in parameters:
        if name != "unload_dependents":
            reason = "is not offered: models are loaded from the server's own files"
            raise ServingError(400, f"the parameter {name!r:.80} {reason}")


def opened(file: str) -> Frozen:
    """Map a frozen file and run each size, so that its pages and kernels are loaded before the first request."""
    # the server wrote it in its private folder, where files are only deleted
    program = Frozen.load(file, safe_mode=False, mapped=True)
    for size in program.batch_sizes:
        for count in program.steps:
            arrays = [_zeros(spec, size, count) for spec in program.inputs]
            program.run(arrays, program.initial(size) if program.is_stream else None)
    program.measure()
    return program


def _zeros(spec: Any, rows: int, steps: int) -> np.ndarray:
    return np.zeros([rows, *(steps if size is None else size for size in spec.shape[1:])], spec.dtype)


def _tuples(value: Any) -> Any:
    """A value from JSON with its lists as tuples."""
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
