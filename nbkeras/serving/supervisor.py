"""The parent process of all workers. It holds no model: it opens sockets, starts and restarts workers, and has files loaded.

Workers are forked: this process computes nothing and starts no thread, so a fork is safe, and the memory of all code is
shared. Models are not forked but mapped: `loading.py` makes a frozen file, and all workers map it. Changes run one at a time:
the supervisor loads a file, orders all workers to serve it, waits for their answers, and deletes the old file. A request for a
change is answered when all workers have made it. If it fails, all workers return to the version that they served before.

Signals: after SIGTERM or SIGINT the workers answer the requests that they have accepted; a second signal ends the server
immediately. SIGHUP reads models.toml and the files again. Exit codes: 0 after SIGTERM or SIGINT if all accepted requests were
answered; 1 if workers could not be kept alive or requests were cut off; 2 if the server could not start with its options.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import errno
import gc
import itertools
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbkeras.engine import program
from nbkeras.serving import limits, logs
from nbkeras.serving.board import SharedMetrics
from nbkeras.serving.door import ABSENT, shared_counts
from nbkeras.serving.errors import LoadingError
from nbkeras.serving.loading import DESCRIBES, Folder, Loaded, Loading
from nbkeras.serving.logs import event
from nbkeras.serving.options import ModelOptions, Options, versions_of
from nbkeras.serving.orders import Channel, Seat
from nbkeras.serving.repository import LOADING, STARTING, UNAVAILABLE, UNLOADED

_log = logging.getLogger("nbkeras.serving")
_PINGS = 4  # unanswered pings in a row after which a worker counts as hung
_HEALTHY = 5.0  # seconds of life after which a worker is restarted without a pause
_MOST_FAILURES = 6  # failed starts of a worker in a row after which the server gives up
_BEGIN = -1  # the number of the order `begin`
# seconds before a worker is restarted: 0 at first, then this, doubled each time
_FIRST_PAUSE, _LONGEST_PAUSE = (0.1, 5.0)
_SAME_SIGNAL = (
    0.5  # seconds; the shell's `timeout` signals a process and then its group, so the process gets the signal twice
)
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux
_QUEUED = 2048  # connections waiting to be accepted

Key = tuple[str, str]  # name and version of a model


class Worker:
    """A slot for a worker: its process, if it runs, and how often it died."""

    def __init__(self, index: int, local: socket.socket):
        self.index, self.local = index, local
        self.process: int | None = None
        self.channel: Channel | None = None
        self.started = self.next_start = 0.0
        self.deaths = 0  # consecutive deaths, each soon after the start of the process
        self.failures = 0  # consecutive deaths before the worker could answer requests
        self.has_begun = False
        self.silence = 0  # unanswered pings

    def kill(self) -> None:
        """Kill the process; SIGCHLD reports its end."""
        if self.process is not None:
            os.kill(self.process, signal.SIGKILL)

    def send(self, **message: Any) -> None:
        """Send an order to the worker. Kill it if it does not read its orders."""
        if self.channel is not None and self.process is not None:
            try:
                self.channel.send(**message)
            except BlockingIOError:
                _log.error(
                    "worker %d (process %d) does not read its orders and is killed",
                    self.index,
                    self.process,
                    extra=event("worker_stuck", worker=self.index),
                )
                self.kill()
            except OSError:  # it has ended; SIGCHLD reports it
                pass


@dataclasses.dataclass
class Served:
    """A version that all workers serve. stamp: identifies the state of its file when it was read; see `_stamp`."""

    options: ModelOptions
    loaded: Loaded
    stamp: Any


@dataclasses.dataclass
class Change:
    """A version to load (if options are given) or to unload. tell: called with an HTTP status and a message at the end."""

    key: Key
    options: ModelOptions | None
    tell: Callable[[int, str], Any]
    stamp: Any = None
    loading: Loading | None = None
    made: Served | None = None
    order: int = 0
    waits_for: set[Worker] = dataclasses.field(default_factory=set)
    failure: str = ""


class Supervisor:
    """A running server. read_options: reads the options, at the start and again after SIGHUP."""

    def __init__(self, read_options: Callable[[], Options], work: Callable[[Seat], int]):
        self._read_options, self._work = read_options, work
        self.options = read_options()
        self._count = self.options.workers or limits.processors()
        self._board = SharedMetrics(self._count)
        self._counts = shared_counts(self._count)
        self._figures = self._board.part(-1)
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._served: dict[Key, Served] = {}
        self._marks: dict[Key, tuple[str, str]] = {}  # state and reason of versions that are not served
        self._changes: collections.deque[Change] = collections.deque()
        self._change: Change | None = None
        self._numbers = itertools.count(1)
        self._http: socket.socket | None = None
        self._grpc: socket.socket | None = None
        self._first: set[Key] = set()  # versions that must be loaded before the server counts as started
        self._next_ping = 0.0
        self._ending = 0.0  # when the shutdown began
        self._deadline: float | None = None  # the deadline of the shutdown
        self._code = 0

    # -------------------- the life of the server --------------------

    def run(self) -> int:
        """Serve until a signal ends the server; returns the exit code."""
        with contextlib.ExitStack() as stack:
            gc.collect()
            gc.freeze()  # the collector writes into objects, and each write would copy a page shared with workers
            stack.enter_context(self._signals())
            self._open(stack)
            stack.callback(self._close)
            self._raise_limits()
            versions = [version for model in self.options.models for version in versions_of(model)]
            for version in versions:
                self._marks[version.name, version.version] = LOADING, STARTING
            self._start_workers()
            for version in versions:
                self._changes.append(self._first_change(version))
            while self._deadline is None or any(worker.process is not None for worker in self._workers):
                self._begin_change()
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._start_workers()
                self._check_deadlines()
                self._ping()
        return self._code

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Open all sockets and the folder. Raises an error with a clear message if a port is in use."""
        options = self.options
        self._http = listen(options.host, options.port)
        if options.grpc_port is not None:
            self._grpc = _keep_port(options.host, options.grpc_port)
        self._folder = Folder(options.folder)
        stack.callback(self._folder.delete)
        # On a read-only file system, one process compiles for all.
        os.environ[program.SPARE_KERNELS] = self._folder.file("kernels")
        for index in range(self._count):
            local = socket.socket(socket.AF_UNIX)
            path = self._local_path(index)
            try:
                local.bind(path)
            except OSError as error:
                raise LoadingError(f"cannot create a socket, choose another --folder: {path} ({error})") from None
            local.listen(_QUEUED)
            self._workers.append(Worker(index, local))

    def _local_path(self, index: int) -> str:
        """The path of a worker's socket. It is short, since systems allow only about 100 bytes."""
        return self._folder.file(f"w{index}")

    def _close(self) -> None:
        """Stop all processes and delete all files."""
        self._stop_change()
        for worker in self._workers:
            if worker.process is not None:
                worker.kill()
                os.waitpid(worker.process, 0)
            if worker.channel is not None:
                worker.channel.close()
            worker.local.close()
        self._close_listening()

    def _close_listening(self) -> None:
        for one in (self._http, self._grpc):
            if one is not None:
                one.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Write signals into a pipe that the loop reads, so that they interrupt nothing."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signal_pipe = reading, writing
        self._selector.register(reading, selectors.EVENT_READ, self._read_signals)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(reading)
            os.close(writing)

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._signal_pipe[0], 4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._end(0, f"{signal.Signals(number).name} received")
                elif number == signal.SIGHUP:
                    self._read_again()
        self._reap()

    def _raise_limits(self) -> None:
        """Raise the limit of open files (each connection is one) as far as this user may."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def _pause(self) -> float | None:
        """Seconds until the next task that no event triggers."""
        times = [worker.next_start for worker in self._workers if worker.process is None and self._deadline is None]
        if self._deadline is not None:
            times.append(self._deadline)
        else:
            times.append(self._next_ping)
        if self._change is not None and self._change.loading is not None:
            times.append(self._change.loading.deadline)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self._change is not None and self._change.loading is not None and now > self._change.loading.deadline:
            self._loaded()
        if self._deadline is not None and now > self._deadline:
            late = [worker for worker in self._workers if worker.process is not None]
            if late:
                self._code = self._code or 1
                _log.error(
                    "%d workers did not end in time and are killed, with the requests that they compute",
                    len(late),
                    extra=event("workers_late", workers=len(late)),
                )
            for worker in late:
                worker.kill()
            self._deadline = now + 60

    def _ping(self) -> None:
        """Ping each worker, and kill workers that have not answered for too long.

        The unanswered pings are counted, not the seconds, since the whole machine may be suspended.
        """
        now = time.monotonic()
        if self._deadline is not None or now < self._next_ping:
            return
        self._next_ping = now + self.options.worker_seconds / _PINGS
        for worker in self._workers:
            if worker.process is None:
                continue
            if worker.silence >= _PINGS:
                seconds = self.options.worker_seconds
                _log.error(
                    "worker %d (process %d) has not answered for %g s and is killed",
                    worker.index,
                    worker.process,
                    seconds,
                    extra=event("worker_hangs", worker=worker.index),
                )
                worker.kill()
            worker.silence += 1
            worker.send(ping=worker.silence)

    def _end(self, code: int, reason: str) -> None:
        """Let the workers answer the requests that they have accepted; the second call kills the workers."""
        if self._deadline is not None:
            if time.monotonic() - self._ending > _SAME_SIGNAL:
                _log.warning("%s again: the server ends without waiting for requests", reason, extra=event("end"))
                self._deadline = 0.0
            return
        _log.log(logging.ERROR if code else logging.INFO, "%s: the server ends", reason, extra=event("drain"))
        self._code, self._ending = code, time.monotonic()
        self._deadline = time.monotonic() + self.options.drain_seconds + 1  # workers watch drain_seconds themselves
        if self._http is not None:
            _refuse_connections(self._http)
        self._close_listening()
        self._stop_change()
        for worker in self._workers:
            worker.send(do="drain", order=next(self._numbers))

    # -------------------- workers --------------------

    def _start_workers(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and self._deadline is None and now >= worker.next_start:
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # ignore warnings about threads: NumPy's OpenBLAS has some, and stops them before a fork
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            self._become(worker, theirs, ours)
        theirs.close()
        channel = Channel(ours)
        worker.process, worker.channel, worker.started, worker.silence = process, channel, time.monotonic(), 0
        worker.has_begun = False
        self._board.part(worker.index).worker["starts"] += 1
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._listen_to(worker, channel))
        _log.info(
            "worker %d started (process %d)",
            worker.index,
            process,
            extra=event("worker_started", worker=worker.index, worker_process=process),
        )
        for key, (state, reason) in self._marks.items():
            worker.send(do="mark", order=0, name=key[0], version=key[1], state=state, reason=reason)
        for served in self._served.values():
            worker.send(**self._load_order(0, served))
        if self._change is not None and self._change.order:
            self._order(self._change, worker)
        worker.send(do="begin", order=_BEGIN)

    def _become(self, worker: Worker, channel: socket.socket, other: socket.socket) -> None:
        """In the forked process: close what belongs to the supervisor or other workers, then work. Never returns."""
        code = 1
        try:
            logs.in_worker(worker.index)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # a terminal sends it to all processes; workers wait for the supervisor's order
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._selector.close()
            other.close()
            for end in self._signal_pipe:
                os.close(end)
            for each in self._workers:
                if each.channel is not None:
                    each.channel.close()
                if each is not worker:
                    each.local.close()
            if self._change is not None and self._change.loading is not None:
                self._change.loading.forget()
            paths = [self._local_path(index) for index in range(self._count)]
            port = None if self._grpc is None else self._grpc.getsockname()[1]
            seat = Seat(
                index=worker.index,
                workers=self._count,
                options=self.options,
                http=self._http,  # type: ignore[arg-type]
                grpc_port=port,
                channel=channel,
                local=worker.local,
                local_paths=paths,
                folder=self._folder.path,
                supervisor=os.getppid(),
                board=self._board,
                counts=self._counts,
            )
            code = self._work(seat)
        except BaseException:
            _log.critical("worker %d failed", worker.index, exc_info=True, extra=event("worker_failed"))
        finally:
            with contextlib.suppress(Exception):
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _listen_to(self, worker: Worker, channel: Channel) -> None:
        """Read a worker's messages."""
        if worker.channel is not channel:  # the worker's end was handled in the same turn of the loop
            return
        try:
            messages = channel.receive()
        except EOFError:
            self._close_channel(worker)
            return
        worker.silence = 0
        for message in messages:
            if "ask" in message:
                self._handle_request(worker, message)
            elif message.get("done") == _BEGIN:
                worker.has_begun = True
            elif message.get("done") == 0 and message["error"]:
                _log.error(
                    "worker %d (process %s) could not be prepared: %s",
                    worker.index,
                    worker.process,
                    message["error"],
                    extra=event("worker_unprepared", worker=worker.index),
                )
                worker.kill()
            elif self._change is not None and message.get("done") == self._change.order:
                self._change.failure = self._change.failure or message["error"] or ""
                self._has_answered(worker)

    def _close_channel(self, worker: Worker) -> None:
        if worker.channel is not None:
            self._selector.unregister(worker.channel.connection)
            worker.channel.close()
            worker.channel = None
            self._has_answered(worker)

    def _reap(self) -> None:
        """Wait for the processes that have ended, and schedule the restart of their workers."""
        for worker in self._workers:
            if worker.process is None:
                continue
            process, status = os.waitpid(worker.process, os.WNOHANG)
            if not process:
                continue
            worker.process = None
            self._counts[worker.index] = ABSENT
            self._board.part(worker.index).end()
            self._close_channel(worker)
            code = os.waitstatus_to_exitcode(status)
            if self._deadline is not None:
                if code:
                    self._code = self._code or 1
                continue
            now = time.monotonic()
            worker.deaths = worker.deaths + 1 if now - worker.started < _HEALTHY else 1
            worker.failures = 0 if worker.has_begun else worker.failures + 1
            pause = 0.0 if worker.deaths == 1 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (worker.deaths - 2))
            worker.next_start = now + pause
            ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            _log.error(
                "worker %d (process %d) %s",
                worker.index,
                process,
                ended,
                extra=event("worker_died", worker=worker.index, worker_process=process, exit_code=code),
            )
            if worker.failures < _MOST_FAILURES:
                _log.info(
                    "worker %d is restarted in %.1f s",
                    worker.index,
                    pause,
                    extra=event("worker_restart", worker=worker.index, seconds=pause),
                )
            else:
                self._end(1, f"worker {worker.index} ended {worker.failures} times before it could answer requests")

    # -------------------- changes --------------------

    def _begin_change(self) -> None:
        """Begin the next change, unless one is running."""
        while self._change is None and self._changes and self._deadline is None:
            change = self._change = self._changes.popleft()
            before = self._served.get(change.key)
            if change.options is None:
                if before is None:
                    self._finish(200, "")
                else:
                    self._send_to_workers(change)
                continue
            change.stamp = _stamp(change.options.path)
            is_known = before is not None and _make_same_file(before.options, change.options)
            if before is not None and before.options == change.options and before.stamp == change.stamp:
                self._finish(200, "")
                continue
            if before is None:
                self._mark(change.key, LOADING, STARTING if change.key in self._first else "")
            target = self._folder.file(f"{next(self._numbers)}.frozen")
            known = before.loaded.digest if before is not None and is_known else None
            try:
                seconds, memory = self.options.load_seconds, self.options.load_memory_mb
                limit = limits.memory_of_loading() if memory is None else memory << 20
                change.loading = Loading(change.options, target, seconds=seconds, memory=limit, known=known)
            except OSError as error:
                self._fail(f"no process could be started to load it: {error.strerror}")
                continue
            self._selector.register(change.loading, selectors.EVENT_READ, self._loaded)

    def _loaded(self) -> None:
        """Handle the result of loading the change's file: order all workers to serve it, or fail."""
        change = self._change
        if change is None or change.loading is None or change.options is None:
            return
        loading, change.loading = change.loading, None
        self._selector.unregister(loading)
        try:
            loaded = loading.result()
        except LoadingError as error:
            self._fail(str(error))
            return
        before = self._served.get(change.key)
        if loaded.is_same and before is not None:
            loaded = before.loaded
            if before.options == change.options:
                before.stamp = change.stamp
                self._finish(200, "")
                return
        for text in loaded.warnings:
            _log.warning("model %s: %s", _called(change.key), text, extra=_of_model("model_warning", change.key))
        change.made = Served(change.options, loaded, change.stamp)
        self._send_to_workers(change)

    def _send_to_workers(self, change: Change) -> None:
        change.order = next(self._numbers)
        change.waits_for = set()
        for worker in self._workers:
            self._order(change, worker)
        self._has_answered(None)

    def _order(self, change: Change, worker: Worker) -> None:
        """Send a worker the order of a change, if it runs."""
        if worker.channel is None:
            return
        change.waits_for.add(worker)
        if change.made is not None:
            worker.send(**self._load_order(change.order, change.made))
        elif change.options is None and not change.failure:
            worker.send(do="unload", order=change.order, name=change.key[0], version=change.key[1])
        else:  # undo a change that failed
            self._take_back(change, worker)

    def _take_back(self, change: Change, worker: Worker) -> None:
        before = self._served.get(change.key)
        if before is not None:
            worker.send(**self._load_order(change.order, before))
        else:
            worker.send(do="unload", order=change.order, name=change.key[0], version=change.key[1])

    def _load_order(self, number: int, served: Served) -> dict[str, Any]:
        options = dataclasses.asdict(served.options)
        return {"do": "load", "order": number, "file": served.loaded.file, "options": options}

    def _has_answered(self, worker: Worker | None) -> None:
        """A worker has carried out the change's order, or has ended. The change is complete after the last worker."""
        change = self._change
        if change is None or not change.order:
            return
        change.waits_for.discard(worker)  # type: ignore[arg-type]
        if change.waits_for:
            return
        if change.failure and change.made is not None:
            failed, change.made = change.made, None
            self._delete_file(failed)
            self._send_to_workers(change)
            return
        if change.failure:
            self._fail(change.failure)
            return
        before = self._served.pop(change.key, None)
        self._marks.pop(change.key, None)
        if change.made is not None:
            self._served[change.key] = change.made
            loaded = change.made.loaded
            self._figures.served = self._served.keys()
            self._figures.loaded(change.key, loaded.seconds, loaded.bytes)
            what = f"{loaded.bytes / 1e6:.1f} MB, loaded in {loaded.seconds:.1f} s"
            extra = _of_model(
                "model_swapped" if before else "model_loaded", change.key, seconds=loaded.seconds, bytes=loaded.bytes
            )
            _log.info("model %s is served (%s)", _called(change.key), what, extra=extra)
        else:
            self._marks[change.key] = UNAVAILABLE, UNLOADED
            _log.info(
                "model %s is no longer served", _called(change.key), extra=_of_model("model_unloaded", change.key)
            )
        if before is not None:
            self._delete_file(before)
        self._finish(200, "")

    def _delete_file(self, gone: Served) -> None:
        """Delete the frozen file of a version that is no longer served. Workers that still use it have it mapped."""
        if gone.loaded.file not in [served.loaded.file for served in self._served.values()]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(gone.loaded.file)

    def _fail(self, reason: str) -> None:
        """End a change that failed; what was served before stays."""
        if self._change is None:
            return
        key = self._change.key
        self._figures.failed(key)
        kept = "so the version served before stays" if key in self._served else "so it is not served"
        _log.error(
            "model %s could not be loaded, %s: %s", _called(key), kept, reason, extra=_of_model("model_failed", key)
        )
        if key not in self._served:
            self._mark(key, UNAVAILABLE, reason)
        self._finish(400, reason)

    def _finish(self, status: int, sentence: str) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.tell(status, sentence)

    def _stop_change(self) -> None:
        """Give up all pending changes."""
        if self._change is not None and self._change.loading is not None:
            self._selector.unregister(self._change.loading)
            self._change.loading.stop()
        given_up = [*([] if self._change is None else [self._change]), *self._changes]
        self._change = None
        self._changes.clear()
        for change in given_up:
            change.tell(503, "the server ends")

    def _mark(self, key: Key, state: str, reason: str) -> None:
        """Let all workers report a state for a version that is not served."""
        self._marks[key] = state, reason
        for worker in self._workers:
            worker.send(do="mark", order=0, name=key[0], version=key[1], state=state, reason=reason)

    # -------------------- requests for changes --------------------

    def _first_change(self, version: ModelOptions) -> Change:
        """The change that loads a version at the start of the server. If it fails, the start fails."""
        key = version.name, version.version
        self._first.add(key)

        def tell(status: int, sentence: str) -> None:
            self._first.discard(key)
            if status == 400:
                self._end(2, f"model {_called(key)} could not be loaded")
            elif status == 200 and not self._first:
                _log.info(
                    "listening on http://%s", _address(self._http), extra=event("start", address=_address(self._http))
                )
                if self._grpc is not None:
                    _log.info(
                        "listening for gRPC on %s",
                        _address(self._grpc),
                        extra=event("start", grpc_address=_address(self._grpc)),
                    )

        return Change(key, version, tell)

    def _read_again(self) -> None:
        """After SIGHUP: read the options again and find new, changed and deleted files."""
        if self._deadline is not None:
            return
        try:
            options = self._read_options()
            versions = [version for model in options.models for version in versions_of(model)]
        except (OSError, ValueError) as error:
            _log.error("SIGHUP received, but nothing is changed: %s", error, extra=event("sighup"))
            return
        _log.info("SIGHUP received: checking %d models", len(versions), extra=event("sighup"))
        fixed = dataclasses.replace(options, models=self.options.models)
        if fixed != self.options:
            names = [
                f.name for f in dataclasses.fields(options) if getattr(fixed, f.name) != getattr(self.options, f.name)
            ]
            _log.warning("these options change only with a restart: %s", ", ".join(names), extra=event("sighup"))
        self.options = dataclasses.replace(self.options, models=options.models)
        wanted = {(version.name, version.version) for version in versions}
        for key in [key for key in self._served if key not in wanted]:
            self._changes.append(Change(key, None, lambda *_: None))
        for version in versions:
            self._changes.append(Change((version.name, version.version), version, lambda *_: None))

    def _handle_request(self, worker: Worker, message: dict[str, Any]) -> None:
        """Handle a request, received by a worker, to load or unload a model."""
        name, number, channel = message["name"], message["ask"], worker.channel

        def answer(status: int, sentence: str) -> None:
            if worker.channel is channel:  # the process that asked still runs
                worker.send(answer=number, status=status, error=sentence)

        if self._deadline is not None:
            answer(503, "the server ends")
            return
        if message["do"] == "unload":
            keys = [key for key in self._served if key[0] == name]
            if not keys:
                answer(404, f"model {name!r:.200} is not loaded")
            else:
                self._want([Change(key, None, lambda *_: None) for key in keys], answer)
            return
        try:
            models = [model for model in self._read_options().models if model.name == name]
            versions = [version for model in models for version in versions_of(model)]
        except (OSError, ValueError) as error:
            answer(400, f"model {name!r:.200} could not be loaded: {error}")
            return
        if not versions:
            answer(404, f"model {name!r:.200} is not one of this server's models")
            return
        others = tuple(model for model in self.options.models if model.name != name)
        self.options = dataclasses.replace(self.options, models=(*others, *models))
        wanted = {(version.name, version.version) for version in versions}
        gone = [key for key in self._served if key[0] == name and key not in wanted]
        changes = [Change((v.name, v.version), v, lambda *_: None) for v in versions]
        self._want([*changes, *(Change(key, None, lambda *_: None) for key in gone)], answer)

    def _want(self, changes: Sequence[Change], answer: Callable[[int, str], Any]) -> None:
        """Queue changes, and answer after the last one, with the first failure if there is one."""
        failures: list[tuple[int, str]] = []
        left = [len(changes)]

        def tell(status: int, sentence: str) -> None:
            left[0] -= 1
            if status != 200:
                failures.append((status, sentence))
            if not left[0]:
                answer(*(failures[0] if failures else (200, "")))

        for change in changes:
            change.tell = tell
            self._changes.append(change)


# -------------------- sockets and files --------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    made = _bound(host, port, socket.SO_REUSEADDR)
    made.listen(_QUEUED)
    return made


def _keep_port(host: str, port: int) -> socket.socket:
    """A socket that reserves a port for the workers' own sockets (SO_REUSEPORT) and gets no connections itself."""
    free = _bound(host, port, socket.SO_REUSEADDR)  # without SO_REUSEPORT: another server's port is refused
    port = free.getsockname()[1]
    free.close()
    return _bound(host, port, socket.SO_REUSEPORT)


def _bound(host: str, port: int, option: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        hint = ", by another server; choose another port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from None
    return made


def _address(listening: socket.socket | None) -> str:
    host, port = listening.getsockname()[:2]  # type: ignore[union-attr]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse_connections(listening: socket.socket) -> None:
    """Let the system drop new connections, so that workers can accept all waiting ones before the socket is closed.

    The client's system retries a dropped connection after a second, and is then refused.
    """
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # a filter of one instruction: keep 0 bytes
    with contextlib.suppress(OSError):  # without the filter, connections that arrive in the next moment are lost
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))


def _stamp(path: str | None) -> Any:
    """Times and sizes of a model's file, or of all files of its folder."""
    found = []
    for folder, _, names in os.walk(str(path)) if os.path.isdir(str(path)) else [("", (), [str(path)])]:
        for name in sorted(names):
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(folder, name))
                found.append((os.path.join(folder, name), status.st_mtime_ns, status.st_size, status.st_ino))
    return sorted(found)


def _make_same_file(options: ModelOptions, others: ModelOptions) -> bool:
    """Whether two sets of options make the same frozen file from a model's file."""
    return all(getattr(options, name) == getattr(others, name) for name in DESCRIBES if name != "path")


def _of_model(name: str, key: Key, **more: Any) -> dict[str, Any]:
    """The `extra` of a line of the log about a model."""
    return event(name, model=key[0], version=key[1], **more)


def _called(key: Key) -> str:
    return f"{key[0]!r} version {key[1]!r}"
