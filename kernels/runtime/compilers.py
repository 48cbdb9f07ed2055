"""Processes that compile kernels beside this one, so that the first run of a model uses all processors.

A Task is one compilation. Tasks that are known before their code is needed are queued by `request`, and processes take them from
the front. The thread that needs the code calls `code_of`: it takes its own task if no process has begun it. Otherwise it compiles
tasks from the end of the queue until its own is done. A process that fails or dies answers None; the caller then compiles here
and gets the error. So does every caller if no process can be started.

In a block of `deferring`, `code_of` requests the task and raises Missing instead: see device.py, where launches wait.

NBKERAS_COMPILERS is the number of processes; 0 turns them off. By default there is one for each processor that kernels may
use, without this process's own. They end after five idle seconds, or with this process.
"""

import atexit
import contextlib
import importlib.util
import os
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from nbkeras.kernels.runtime import cgroups, fork_safety, variables

VARIABLE = "NBKERAS_COMPILERS"
# A model's first step needs about 20 kernels, and a process takes as long to start as three of them to compile.
_MAXIMUM = 8
_BYTES = 256 * 2**20  # of memory for a process; measured 176 MiB
_IDLE_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0  # a caller then compiles itself: a process may be stopped, and only then takes so long
# The paths are read first, so that the process imports the same modules; "-P" keeps the current folder out until then. The
# package nbkeras is an empty one: kernels need nothing of it, and its import takes as long as Numba's.
_PROGRAM = """
import pickle, sys, types
package = sys.modules["nbkeras"] = types.ModuleType("nbkeras")
sys.path[:], package.__path__ = pickle.load(sys.stdin.buffer)
from nbkeras.kernels.runtime import compiler_process
compiler_process.serve()
"""


class Job(NamedTuple):
    """The name of a compilation: a kernel's module, name and signature; the signature of a registered function is None.

    file: the name of the code's file. It depends on everything that the code depends on, so a process with another source file or
    another setting notices it.
    """

    module: str
    name: str
    signature: tuple | None
    file: str


class Task(NamedTuple):
    """A compilation. make: compiles in this process. following: returns the tasks that linking the code will need."""

    job: Job
    make: Callable[[], bytes | None]
    following: Callable[[bytes], Iterable["Task"]]


class Missing(Exception):
    """Raised in a block of `deferring` where code must be compiled first."""


class _Thread(threading.local):
    defers = False


_thread = _Thread()


@contextlib.contextmanager
def deferring() -> Iterator[None]:
    """In the block, this thread requests code that must be compiled and raises Missing."""
    before, _thread.defers = _thread.defers, True
    try:
        yield
    finally:
        _thread.defers = before


def is_missing(action: Callable[[], Any]) -> bool:
    """Does something that needs code. If the code must be compiled, requests it instead and returns True."""
    try:
        with deferring():
            action()
        return False
    except Missing:
        return True


def code_of(task: Task | None, will_compile: Callable[[], None]) -> bytes | None:
    """Returns the code that a process or another caller made; None if the caller must compile.

    task: None if only this process can compile the code. will_compile: called if the code is or was made by a process.
    """
    if _thread.defers:
        if task is not None:
            request(task)
        raise Missing
    return None if task is None else _compilers().code_of(task, will_compile)


def request(task: Task) -> None:
    """Queues a task, if processes can compile it and it is not queued yet."""
    if are_available():
        _compilers().request(task)


def are_available() -> bool:
    """True if processes may compile for this one."""
    return _compilers().works and _compilers().maximum > 0


def _maximum() -> int:
    """Returns the most processes."""
    chosen = variables.number(VARIABLE, 0, 64)
    if not _can_start():
        return 0
    if chosen is not None:
        return chosen
    # A process that shares the machine with others, such as a rank, has few threads for its kernels.
    threads = _threads[0] if _threads else variables.threads()
    processors = cgroups.usable_processors() if threads is None else threads
    memory = cgroups.memory()
    maximum = min(processors, cgroups.usable_processors()) - 1
    return max(0, min(maximum, _MAXIMUM, _MAXIMUM if memory is None else memory // (4 * _BYTES)))


_threads: list[int] = []  # the last argument of `use_processors`


def use_processors(count: int) -> None:
    """From now on, compiles in `count` processes at most, with this one."""
    _threads[:] = [count]
    for each in _made:
        each.maximum = _maximum()


def _can_start() -> bool:
    """True if there is Numba, and `sys.executable` is a Python: not a frozen application, not a server that embeds Python."""
    name = os.path.basename(sys.executable or "").lower()
    is_python = name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    with contextlib.suppress(ImportError):  # of a finder that refuses
        return is_python and importlib.util.find_spec("numba") is not None
    return False


_WAITING, _BEGUN = "waiting", "begun"


class _Compilers:
    """The queue of this process, and the processes that take tasks from it."""

    def __init__(self) -> None:
        self.maximum = _maximum()
        self.works = True  # False after a process died or could not be started
        self._changed = threading.Condition()
        self._waiting: deque[Task] = deque()
        self._states: dict[
            Job, Any
        ] = {}  # of each task: one of the two words, or its code (None if it could not be compiled)
        self._made_here: set[Job] = set()  # tasks that callers compiled for others
        self._threads: list[threading.Thread] = []
        self._processes: list[Any] = []
        self._is_stopped = False

    def request(self, task: Task, is_first: bool = False) -> None:
        with self._changed:
            if task.job in self._states:
                return
            self._states[task.job] = _WAITING
            (self._waiting.appendleft if is_first else self._waiting.append)(task)
            if len(self._threads) < min(self.maximum, len(self._waiting) // 2):
                thread = threading.Thread(target=self._serve, name="nbkeras-compiler", daemon=True)
                with contextlib.suppress(RuntimeError):  # the system gives no more threads, or Python ends
                    thread.start()
                    self._threads.append(thread)
            self._changed.notify_all()

    def code_of(self, task: Task, will_compile: Callable[[], None]) -> bytes | None:
        state = self._states.get(task.job)
        if state is None or self._taken(task):
            return None
        if task.job not in self._made_here:  # otherwise that compilation has called it
            will_compile()
        while True:
            with self._changed:
                state = self._states.get(task.job)
                if state is not _BEGUN:
                    self._states.pop(task.job, None)
                    self._made_here.discard(task.job)
                    return state
                if not self._waiting:
                    if not self._changed.wait(_PATIENCE_SECONDS):
                        return None
                    continue
                other = self._waiting.pop()
                self._states[other.job] = _BEGUN
                self._made_here.add(other.job)
            content = None
            try:
                with contextlib.suppress(Exception):  # the caller that needs the code gets the error
                    content = other.make()
            finally:
                self._finish(other, content)

    def _taken(self, task: Task) -> bool:
        """Takes a task from the queue, if no process has begun it."""
        with self._changed:
            if self._states.get(task.job) is not _WAITING:
                return False
            del self._states[task.job]
            self._waiting = deque(each for each in self._waiting if each.job != task.job)
            return True

    def _finish(self, task: Task, content: bytes | None) -> None:
        for each in task.following(content) if content is not None else ():
            self.request(each, is_first=True)
        with self._changed:
            self._states[task.job] = content
            self._changed.notify_all()

    # -------------------- the threads that speak to processes --------------------

    def _serve(self) -> None:
        """Starts a process and gives it tasks until there are none for a while."""
        process = None
        try:
            process = self._start()
            _send(process, (sys.path, list(sys.modules[__name__.partition(".")[0]].__path__)))
            pickle.load(process.stdout)  # it is ready; until then, other callers may take all tasks
            while (task := self._next()) is not None:
                content = None
                try:
                    _send(process, task.job)
                    content = pickle.load(process.stdout)
                finally:
                    self._finish(task, content)
        except (OSError, EOFError, pickle.PickleError):
            self.works = False  # others would probably fail too
        finally:
            with self._changed:
                self._threads.remove(threading.current_thread())
            if process is not None:
                _end(process)
                self._processes.remove(process)

    def _start(self) -> Any:
        subprocess = importlib.import_module("subprocess")  # most processes start none
        environment = {**os.environ, VARIABLE: "0"}
        environment.pop("NBKERAS_DEVICE", None)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._processes.append(process)
        if self._is_stopped:  # meanwhile
            process.kill()
        return process

    def _next(self) -> Task | None:
        """Waits for a task and marks it as begun; None if there is none for a while, or if Python ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_stopped, _IDLE_SECONDS)
            if self._is_stopped or not self._waiting:
                return None
            task = self._waiting.popleft()
            self._states[task.job] = _BEGUN
            return task

    def stop(self) -> None:
        """Ends the processes."""
        with self._changed:
            self._is_stopped, self.works = True, False
            threads = list(self._threads)
            self._changed.notify_all()
        for process in list(self._processes):
            process.kill()
        for thread in threads:
            thread.join()

    def forget(self) -> None:
        """In a forked child: closes the pipes to the processes, so that they end with the parent."""
        for process in self._processes:
            process.returncode = 0  # not a child of this process: nothing to wait for
            for pipe in (process.stdin, process.stdout):
                pipe.raw.close()  # what the parent has buffered is not sent


def _send(process: Any, what: Any) -> None:
    pickle.dump(what, process.stdin)
    process.stdin.flush()


def _end(process: Any) -> None:
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.kill()
    process.wait()
    process.stdout.close()


_lock = fork_safety.lock()
_made: list[_Compilers] = []  # one at most


def _compilers() -> _Compilers:
    """Returns the queue and the processes of this process."""
    with _lock:
        if not _made:
            _made.append(_Compilers())
        return _made[0]


def _stop() -> None:
    for each in _made:
        each.stop()


def _renew() -> None:
    _thread.defers = False
    for each in _made:
        each.forget()
    _made.clear()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_renew)
