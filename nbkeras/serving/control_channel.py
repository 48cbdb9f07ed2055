"""The messages between the supervisor and its workers: each is JSON in one packet of a socket pair.

The supervisor sends `load` (a frozen file under a name and version) and `unload`, one at a time, and a worker answers each with
the reason if it failed. `mark` (a state, for the index, in its turn), `drain` and `ping` need no such answer; a worker answers a
ping immediately, which shows that its event loop runs. For a client's request to load or unload, a worker asks the supervisor,
which answers when all workers have done it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras.inference.session import Frozen
from nbkeras.serving.errors import ServingError
from nbkeras.serving.logs import event
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.repository import Repository
from nbkeras.serving.shared_metrics import SharedMetrics

MAX_MESSAGE = 2**20  # bytes of a message
_MAX_REASON = 2000  # characters of the reason of a failure
# The system holds about 200 messages that the supervisor has not read; more would be lost.
_MAX_PENDING, _MAX_NAME = 32, 200
_log = logging.getLogger("nbkeras.serving")


@dataclasses.dataclass
class WorkerSetup:
    """The data that the supervisor passes to a worker.

    http: the socket on which all workers listen. grpc_port: a port that the supervisor reserves, for sockets with
    SO_REUSEPORT. local: this worker's socket for requests forwarded by other workers. local_paths: the paths of all workers'
    sockets, by index. metrics: the counters of all processes. counts: the workers' numbers of connections, see `acceptor.py`.
    served: the frozen files to serve, with their options and the models' files. marks: see `Changes`.
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
    metrics: SharedMetrics
    counts: memoryview
    served: Sequence[tuple[str, ModelOptions, dict[str, Any]]]
    marks: Mapping[tuple[str, str], tuple[str, str, str]]


class ControlChannel:
    """A worker's end. It carries out orders in the Repository, and is the Control of the Service.

    end: called when the worker must drain, by an order or because the supervisor has ended.
    """

    def __init__(self, setup: WorkerSetup, repository: Repository, end: Callable[[], Any]):
        self._setup, self._channel, self._repository, self._end = setup, setup.channel, repository, end
        self._loop = asyncio.get_running_loop()
        self._asked: dict[int, asyncio.Future] = {}
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()  # orders are carried out one by one, after `prepare`
        self._orders: set[asyncio.Task] = set()
        self._channel.setblocking(False)

    async def prepare(self) -> None:
        """Serve the models of the setup. From now on, listen to the supervisor until it has ended."""
        async with self._turn:
            self._loop.add_reader(self._channel, self._receive)
            for served in self._setup.served:
                await self._load(*served)
            for key, mark in self._setup.marks.items():
                self._repository.mark(*key, *mark)
        self._say(begun=True)

    def _receive(self) -> None:
        try:
            data = self._channel.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the supervisor has ended
            self._loop.remove_reader(self._channel)
            self._end()
            return
        message = json.loads(data)
        match message.pop("do"):
            case "ping":
                self._say(pong=True)
            case "answer":
                answer = self._asked.pop(message["number"])
                if not answer.done():
                    answer.set_result(message)
            case "mark":
                self._begin(self._mark(**message))
            case "drain":
                self._end()
            case order:
                self._begin(self._carry_out(order, **message))

    def _begin(self, order: Coroutine) -> None:
        task = self._loop.create_task(order)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _mark(self, **message: Any) -> None:
        async with self._turn:  # after the orders that came before it: a load removes marks
            self._repository.mark(**message)

    def _say(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the supervisor has ended
            self._channel.send(json.dumps(message).encode())

    async def _carry_out(self, order: str, name: str, version: str, **served: Any) -> None:
        error = ""
        try:
            async with self._turn:
                if order == "load":
                    # lists instead of tuples only in options that describe the file
                    await self._load(served["file"], ModelOptions(**served["options"]), served["source"])
                else:
                    self._repository.remove(name, version)
        except Exception as failure:
            _log.exception("worker: an order of the supervisor failed: %s", order, extra=event("order_failed"))
            error = f"{type(failure).__name__}: {failure}"[:_MAX_REASON]
        self._say(done=error)

    async def _load(self, file: str, options: ModelOptions, source: dict[str, Any]) -> None:
        program = await asyncio.to_thread(opened, file)
        self._repository.set(options.name, options.version, program, options, source)

    # -------------------- requests to load and unload --------------------

    async def change(self, do: str, name: str, parameters: dict[str, Any]) -> None:
        for parameter in parameters:
            if parameter != "unload_dependents":  # no model depends on another one
                reason = "is not offered: models are loaded from the server's own files"
                raise ServingError(400, f"the parameter {parameter!r:.80} {reason}")
        if len(self._asked) >= _MAX_PENDING:
            reason = f"{_MAX_PENDING} requests to load or unload models wait for this worker; try again later"
            raise ServingError(503, reason, retry_after=1, reason="queue_full")
        number = next(self._numbers)
        answer = self._asked[number] = self._loop.create_future()
        self._say(ask=do, number=number, name=name[:_MAX_NAME])  # models have shorter names
        found = await answer
        if found["status"] != 200:
            raise ServingError(found["status"], found["error"], retry_after=1 if found["status"] == 503 else None)


def opened(file: str) -> Frozen:
    """Map a frozen file and run each size, so that its pages and kernels are loaded before the first request."""
    # the server wrote it in its private folder, where files are only deleted
    program = Frozen.load(file, safe_mode=False, mapped=True)
    for size, count in itertools.product(program.batch_sizes, program.steps):
        arrays = [_zeros(spec, size, count) for spec in program.inputs]
        program.run(arrays, program.initial(size) if program.is_stream else None)
    program.measure()
    return program


def _zeros(spec: Any, rows: int, steps: int) -> np.ndarray:
    shape = [rows, *(steps if size is None else size for size in spec.shape[1:])]
    return np.full(shape, "a", object) if spec.dtype == object else np.zeros(shape, spec.dtype)
