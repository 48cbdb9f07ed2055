"""The parent process of all workers. It holds no model: it opens sockets, and keeps workers (`processes`) that serve the same
versions of models (`changes`).

Signals: after SIGTERM or SIGINT the workers answer the requests that they have accepted; a second signal ends the server
immediately. SIGHUP reads models.toml and the files again. Exit codes: 0 after SIGTERM or SIGINT if all accepted requests were
answered; 1 if workers could not be kept alive or requests were cut off; 2 if the server could not start with its options.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from nbkeras.engine import program
from nbkeras.serving import limits, sockets
from nbkeras.serving.changes import Changes
from nbkeras.serving.control_channel import WorkerSetup
from nbkeras.serving.errors import LoadingError
from nbkeras.serving.loading import Folder
from nbkeras.serving.logs import event
from nbkeras.serving.options import Options
from nbkeras.serving.processes import Worker, Workers

_log = logging.getLogger("nbkeras.serving")
# seconds; the shell's `timeout` signals a process and then its group, so the process gets the signal twice
_SAME_SIGNAL = 0.5


class Supervisor:
    """A running server. read_options: reads the options, at the start and again after SIGHUP."""

    def __init__(self, read_options: Callable[[], Options], work: Callable[[WorkerSetup], int]):
        self._read_options, self._work = read_options, work
        self.options = read_options()
        count = self.options.workers or limits.processors()
        self._workers = Workers(count, self.options, self._become_worker, self._handle, lambda why: self._end(1, why))
        self._grpc: socket.socket | None = None
        self._locals: list[socket.socket] = []  # a socket of each worker, for requests forwarded by other workers
        self._tasks: set[asyncio.Task] = set()
        self._ending = asyncio.Event()
        self._ended_at, self._code = 0.0, 0

    def run(self) -> int:
        """Serve until a signal ends the server; returns the exit code."""
        loop = self._workers.loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0, f"{number.name} received")
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._changes.read_again()))
        with contextlib.ExitStack() as stack:
            stack.callback(loop.close)
            self._open(stack)
            return self._workers.run(self._serve())

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Open all sockets and the folder. Raises an error with a clear message if a port is in use."""
        options = self.options
        self._http = stack.enter_context(sockets.listen(options.host, options.port))
        if options.grpc_port is not None:
            self._grpc = stack.enter_context(sockets.keep_port(options.host, options.grpc_port))
        self._folder = Folder(options.folder)
        stack.callback(self._folder.delete)
        # On a read-only file system, one process compiles for all.
        os.environ[program.SPARE_KERNELS] = self._folder.file("kernels")
        for path in self._local_paths():
            local = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                local.bind(path)
            except OSError as error:
                raise LoadingError(f"cannot create a socket, choose another --folder: {path} ({error})") from None
            local.listen(sockets.QUEUED)
            self._locals.append(local)
        self._changes = Changes(options, self._read_options, self._workers, self._folder)
        # Raise the limit of open files (each connection is one) as far as this user may.
        with contextlib.suppress(OSError, ValueError):
            _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    def _local_paths(self) -> list[str]:
        """The paths of the workers' sockets. They are short, since systems allow only about 100 bytes."""
        return [self._folder.file(f"w{index}") for index in range(self._workers.count)]

    async def _serve(self) -> int:
        for index in range(self._workers.count):
            self._begin(self._workers.keep(index))
        self._begin(self._workers.ping())
        self._begin(self._start())
        await self._ending.wait()
        sockets.refuse_connections(self._http)
        self._http.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        is_done = await self._workers.drain()
        return self._code or (0 if is_done else 1)

    async def _start(self) -> None:
        if failure := await self._changes.start():
            self._end(2, failure)
            return
        address = sockets.address(self._http)
        _log.info("listening on http://%s", address, extra=event("start", address=address))
        if self._grpc is not None:
            address = sockets.address(self._grpc)
            _log.info("listening for gRPC on %s", address, extra=event("start", grpc_address=address))

    def _begin(self, coroutine: Coroutine) -> asyncio.Task:
        """Run a coroutine until the server ends."""
        task = self._workers.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        if self._ending.is_set():
            task.cancel()
        return task

    def _finish(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            about = event("supervisor_failed")
            _log.critical("the supervisor failed", exc_info=task.exception(), extra=about)
            self._end(1, "the supervisor failed")

    def _end(self, code: int, reason: str) -> None:
        """Let the workers answer the requests that they have accepted; the second call kills the workers."""
        if not self._ending.is_set():
            _log.log(logging.ERROR if code else logging.INFO, "%s: the server ends", reason, extra=event("drain"))
            self._code, self._ended_at = code, time.monotonic()
            self._ending.set()
        elif time.monotonic() - self._ended_at > _SAME_SIGNAL:
            _log.warning("%s again: the server ends without waiting for requests", reason, extra=event("end"))
            self._workers.kill()

    def _handle(self, worker: Worker, message: dict[str, Any]) -> None:
        """Handle a request, received by a worker, to load or unload a model."""

        def answer(task: asyncio.Task) -> None:
            status, error = (503, "the server ends") if task.cancelled() else task.result()
            worker.send("answer", number=message["number"], status=status, error=error)

        self._begin(self._changes.request(message["ask"], message["name"])).add_done_callback(answer)

    def _become_worker(self, index: int, channel: socket.socket) -> int:
        """In a worker's process: work, and return the exit code."""
        setup = WorkerSetup(
            index=index,
            workers=self._workers.count,
            options=self.options,
            http=self._http,
            grpc_port=None if self._grpc is None else self._grpc.getsockname()[1],
            channel=channel,
            local=self._locals[index],
            local_paths=self._local_paths(),
            folder=self._folder.path,
            supervisor=os.getppid(),
            metrics=self._workers.metrics,
            counts=self._workers.counts,
            served=[(each.loaded.file, each.options, each.loaded.source) for each in self._changes.served.values()],
            marks=self._changes.marks,
        )
        return self._work(setup)
