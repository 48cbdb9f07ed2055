"""The workers' processes: they are forked, pinged, started again when they end, and ended with the server.

Workers are forked: the supervisor computes nothing and starts no thread, so a fork is safe, and the memory of all code is
shared. A worker's socket pair closes when its process ends, which is how the supervisor learns of it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from nbkeras.serving import logs
from nbkeras.serving.acceptor import ABSENT, shared_counts
from nbkeras.serving.control_channel import MAX_MESSAGE
from nbkeras.serving.errors import end_of
from nbkeras.serving.logs import event
from nbkeras.serving.options import Options
from nbkeras.serving.shared_metrics import SharedMetrics

_log = logging.getLogger("nbkeras.serving")
_PINGS = 4  # unanswered pings in a row after which a worker counts as hung
_HEALTHY = 5.0  # seconds of life after which a worker is restarted without a pause
_MAX_FAILURES = 6  # failed starts of a worker in a row after which the server gives up
# seconds before a worker is restarted: 0 at first, then this, doubled each time
_FIRST_PAUSE, _MAX_PAUSE = (0.1, 5.0)


class Worker:
    """A worker's process. answer: to the order that it carries out, "" or a reason. ended: its exit code."""

    def __init__(self, index: int, process: int, channel: socket.socket, loop: asyncio.AbstractEventLoop):
        self.index, self.process, self.channel = index, process, channel
        self.started = time.monotonic()
        self.has_begun = False  # whether it can answer requests
        self.unanswered = 0  # unanswered pings
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        channel.setblocking(False)

    def __str__(self) -> str:
        return f"worker {self.index} (process {self.process})"

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)

    def send(self, do: str, **message: Any) -> None:
        """Send the worker a message. Kill it if it does not read them."""
        try:
            self.channel.send(json.dumps({"do": do, **message}).encode())
        except BlockingIOError:
            about = event("worker_stuck", worker=self.index)
            _log.error("%s does not read its orders and is killed", self, extra=about)
            self.kill()
        except OSError:  # it has ended; its channel reports it
            pass


class Workers:
    """The workers of a server.

    work: called in a worker's process with its index and its end of the socket pair; returns the exit code. handle: called with a
    worker and its request to load or unload a model. fail: called with a reason if a worker cannot be kept alive.
    """

    def __init__(
        self,
        count: int,
        options: Options,
        work: Callable[[int, socket.socket], int],
        handle: Callable[[Worker, dict[str, Any]], Any],
        fail: Callable[[str], Any],
    ):
        self.count, self._options, self._work, self._handle, self._fail = count, options, work, handle, fail
        self.metrics, self.counts = SharedMetrics(count), shared_counts(count)
        self.running: list[Worker] = []
        # poll, unlike epoll, has no state in the system that a forked process would share
        self.loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._starts: collections.deque[tuple[int, asyncio.Future[Worker]]] = collections.deque()

    def run(self, serving: Coroutine[Any, Any, int]) -> int:
        """Run the supervisor's coroutine; returns its result. Workers are forked while the event loop stands still."""
        gc.collect()
        gc.freeze()  # the collector writes into objects, and each write would copy a page shared with workers
        task = self.loop.create_task(serving)
        task.add_done_callback(lambda _: self.loop.stop())
        try:
            while not task.done():
                self.loop.run_forever()
                while self._starts:
                    index, started = self._starts.popleft()
                    if not started.cancelled():
                        started.set_result(self._fork(index))
            return task.result()
        finally:
            for worker in self.running:
                worker.kill()
                os.waitpid(worker.process, 0)

    async def keep(self, index: int) -> None:
        """Start a worker, and start it again whenever it has ended."""
        deaths = 0  # consecutive deaths, each soon after the start of the process
        failures = 0  # consecutive deaths before the worker could answer requests
        while True:
            started = self.loop.create_future()
            self._starts.append((index, started))
            self.loop.stop()
            worker = await started
            code = await asyncio.shield(worker.ended)
            about = {"worker": index, "worker_process": worker.process, "exit_code": code}
            _log.error("%s %s", worker, end_of(code), extra=event("worker_died", **about))
            deaths = deaths + 1 if time.monotonic() - worker.started < _HEALTHY else 1
            failures = 0 if worker.has_begun else failures + 1
            if failures == _MAX_FAILURES:
                self._fail(f"worker {index} ended {failures} times before it could answer requests")
                return
            pause = 0.0 if deaths == 1 else min(_MAX_PAUSE, _FIRST_PAUSE * 2 ** (deaths - 2))
            about = {"worker": index, "seconds": pause}
            _log.info("worker %d is restarted in %.1f s", index, pause, extra=event("worker_restart", **about))
            await asyncio.sleep(pause)

    def _fork(self, index: int) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        # ignore warnings about threads: NumPy's OpenBLAS has some, and stops them before a fork
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            self._become(index, theirs, ours)
        theirs.close()
        worker = Worker(index, process, ours, self.loop)
        self.running.append(worker)
        self.metrics.segment(index).worker["starts"] += 1
        self.loop.add_reader(ours, self._receive, worker)
        about = event("worker_started", worker=index, worker_process=process)
        _log.info("worker %d started (process %d)", index, process, extra=about)
        return worker

    def _become(self, index: int, channel: socket.socket, other: socket.socket) -> None:
        """In the forked process: close what belongs to the supervisor, then work. Never returns."""
        code = 1
        try:
            logs.in_worker(index)
            self.loop.close()  # it handles no signals any more
            # a terminal sends it to all processes; workers wait for the supervisor's order
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for end in (other, *(worker.channel for worker in self.running)):
                end.close()
            code = self._work(index, channel)
        except BaseException:
            _log.critical("worker %d failed", index, exc_info=True, extra=event("worker_failed"))
        finally:
            with contextlib.suppress(Exception):
                logging.shutdown()
                sys.stdout.flush()
            os._exit(code)

    def _receive(self, worker: Worker) -> None:
        """Read a message of a worker, or notice its end."""
        try:
            data = worker.channel.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(worker)
            return
        worker.unanswered = 0
        message = json.loads(data)
        if "ask" in message:
            self._handle(worker, message)
        elif "begun" in message:
            worker.has_begun = True
        elif "done" in message and not worker.answer.done():
            worker.answer.set_result(message["done"])

    def _end(self, worker: Worker) -> None:
        self.loop.remove_reader(worker.channel)
        worker.channel.close()
        worker.kill()  # without its channel it would be of no use
        _, status = os.waitpid(worker.process, 0)
        self.running.remove(worker)
        self.counts[worker.index] = ABSENT
        self.metrics.segment(worker.index).end()
        if not worker.answer.done():
            worker.answer.set_result("")
        worker.ended.set_result(os.waitstatus_to_exitcode(status))

    async def order(self, do: str, **message: Any) -> str:
        """Let all workers carry out an order, and wait for them. Returns the reason if one could not, else ""."""
        for worker in self.running:
            worker.answer = self.loop.create_future()
            worker.send(do, **message)
        answers = await asyncio.gather(*(worker.answer for worker in self.running))
        return next(filter(None, answers), "")

    async def ping(self) -> None:
        """Ping the workers, and kill those that have not answered for too long.

        The unanswered pings are counted, not the seconds, since the whole machine may be suspended.
        """
        seconds = self._options.worker_seconds
        while True:
            for worker in self.running:
                if worker.unanswered >= _PINGS:
                    about = event("worker_hangs", worker=worker.index)
                    _log.error("%s has not answered for %g s and is killed", worker, seconds, extra=about)
                    worker.kill()
                worker.unanswered += 1
                worker.send("ping")
            await asyncio.sleep(seconds / _PINGS)

    async def drain(self) -> bool:
        """Let the workers answer the requests that they have accepted, and end. Returns whether all did so in time."""
        ends = [worker.ended for worker in self.running]
        for worker in self.running:
            worker.send("drain")
        if ends:  # workers watch drain_seconds themselves
            await asyncio.wait(ends, timeout=self._options.drain_seconds + 1)
        if late := len(self.running):
            text = "%d workers did not end in time and are killed, with the requests that they compute"
            _log.error(text, late, extra=event("workers_late", workers=late))
            self.kill()
        return not any(await asyncio.gather(*ends))

    def kill(self) -> None:
        for worker in self.running:
            worker.kill()
