"""The program of a process that compiles kernels for its parent, see compilers.py. It reads Jobs and writes object files."""

import os
import pickle
import queue
import signal
import sys
import threading
from typing import Any

from nbkeras.kernels.runtime import cache, code
from nbkeras.kernels.runtime.compilers import Job


def serve() -> None:
    """Compiles the jobs that the standard input names, until it ends. Interrupts are for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())  # nothing else may write among the answers
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    sys.modules["scipy"] = None  # type: ignore[assignment]  # Numba would import it; no kernel of nbkeras needs it
    code.prepare_compiler()
    pickle.dump("ready", answers)
    answers.flush()
    while True:
        pickle.dump(_answer(jobs.get()), answers)
        answers.flush()


def _read(jobs: Any) -> None:
    """Reads jobs; ends the process with its parent, also while LLVM compiles."""
    try:
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)


def _answer(job: Job) -> bytes | None:
    """Returns the code of a job; None if this process cannot make it as the parent would."""
    try:
        task = code.registered_task(job) if job.signature is None else cache.task_named(job)
        return task.make() if task is not None and task.job == job else None
    except Exception:  # the parent compiles it itself, and raises the error
        return None
