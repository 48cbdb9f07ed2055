"""The protocol between a runner and `python -m benchmarks`: a process for one framework and workload, JSON lines on its pipes.

run_torch.py FRAMEWORK WORKLOAD STEPS SECONDS DEVICE [FILE] prepares, runs and reports one epoch or call (including compile time),
then answers each line of its standard input: "round" measures one round, "threads N S" predicts from N threads for S seconds,
"losses N" trains a new model for N steps (only nbkeras), "write PATH" writes the network to a file (only nbkeras and Keras on
TensorFlow). FILE: the network, for frameworks that read a file; for "write PATH" the weights (default: its own).

A prediction is `predict(arrays)` with the framework's defaults: it takes and returns NumPy arrays, in batches of the workload's
size. Keras by default draws a progress bar, here to the null device. Training data are NumPy arrays too; for a GPU each step
copies its batch there. An epoch and a prediction end when the GPU has finished.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from workloads import WORKLOADS, Workload, data

CALL_SECONDS = 2.0  # a round of single calls ends after this many seconds: Keras on TensorFlow takes 40 ms per call


@dataclass
class Job:
    """One workload in one framework, ready to run.

    epochs(n) trains n epochs and returns (seconds of each, loss of the last); predict(arrays) returns NumPy arrays. gpu_bytes()
    is the peak GPU memory of the framework's arrays. parameters: None if the network is read from a file; then predictions are
    compared.
    """

    parameters: int | None
    versions: dict[str, str]
    epochs: Callable[[int], tuple[list[float], float]] | None = None
    predict: Callable[[list], object] | None = None
    gpu_bytes: Callable[[], int] | None = None
    first_losses: Callable[[int], list[float]] | None = None
    write: Callable[[str], None] | None = None
    losses: list[float] = field(default_factory=list)


class NoGpu(Exception):
    """The framework is installed but cannot use a GPU here."""


def peak() -> float:
    """The peak resident memory of this process until now, in MB.

    Not ru_maxrss: on Linux it is at least the parent process's, which is more than some frameworks need.
    """
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(job: Job, workload: Workload, xs: list, steps: int, seconds: float) -> list[float]:
    """Seconds per step, per call or per pass over the data, depending on the workload's kind; repeated for `seconds`.

    A round of 10 ms would measure how the machine recovers from the previous framework.
    """
    clock, times = time.perf_counter, []
    begin = clock()
    while not times or clock() - begin < seconds:
        if workload.kind in ("train", "start"):
            epochs, loss = job.epochs(2)
            job.losses.append(loss)
            times += [epoch_seconds / steps for epoch_seconds in epochs]
        elif workload.kind == "throughput":
            start = clock()
            job.predict(xs)
            times.append(clock() - start)
        else:
            times += calls(job, xs, workload.batch, steps)
    return times


def calls(job: Job, xs: list, batch: int, count: int) -> list[float]:
    """The seconds of each of `count` predictions of one batch."""
    clock, times = time.perf_counter, []
    begin = clock()
    for i in range(count):
        samples = [x[i * batch : (i + 1) * batch] for x in xs]
        start = clock()
        job.predict(samples)
        times.append(clock() - start)
        if clock() - begin > CALL_SECONDS:
            break
    return times


def calls_per_second(job: Job, xs: list, count: int, seconds: float) -> float | None:
    """Predictions of one sample per second from `count` Python threads at once; None if they fail, as in Keras on JAX."""
    sample = [x[:1] for x in xs]
    made, failures = [0] * count, []
    ready = threading.Barrier(count + 1)
    over = threading.Event()

    def work(number: int) -> None:
        ready.wait()
        try:
            while not over.is_set():
                job.predict(sample)
                made[number] += 1
        except Exception as error:
            print(f"prediction from {count} threads: {error!r}", file=sys.stderr)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    over.wait(seconds)
    over.set()
    for thread in threads:
        thread.join()
    return None if failures else sum(made) / (time.perf_counter() - start)


def network_file() -> str:
    """The FILE of the command line, or ''."""
    return (sys.argv[6:] or [""])[0]


def thread_count(framework: str) -> int | None:
    """The number after a framework's name: 2 for 'litert-2', None for 'litert'."""
    last = framework.rpartition("-")[2]
    return int(last) if last.isdigit() else None


def serve(prepare: Callable[[str, Workload, list, list, str], Job]) -> None:
    """Run one workload for the parent process; `prepare(framework, workload, xs, ys, device)` builds and compiles the model.

    Call it directly after the framework's import, so that the first measured memory is the import's.
    """
    imported = peak()
    framework, name, steps, seconds, device = (
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        float(sys.argv[4]),
        sys.argv[5],
    )
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # progress bars are drawn and timed, but not sent to the parent

    def say(**message) -> None:
        print(json.dumps(message), file=answers, flush=True)

    workload = WORKLOADS[name]
    xs, ys = data(workload, steps)
    arrays = {id(array): array for array in (*xs, *ys)}  # an autoencoder's inputs are its targets
    megabytes = sum(array.nbytes for array in arrays.values()) / 2**20
    start, loss, answer = time.perf_counter(), None, None
    job = prepare(framework, workload, xs, ys, device)
    if workload.kind in ("train", "start"):
        loss = job.epochs(1)[1]
    else:
        answer = job.predict(xs if workload.kind == "throughput" else [x[: workload.batch] for x in xs])
    first = time.perf_counter() - start
    about = {"parameters": job.parameters, "versions": job.versions, "imported": imported, "data": megabytes}
    say(first=first, first_loss=loss, answer=None if answer is None else np.asarray(answer)[-1].tolist(), **about)
    for request in sys.stdin:
        what, *values = request.split()
        if what == "threads":
            say(calls=calls_per_second(job, xs, int(values[0]), float(values[1])))
        elif what == "losses":
            say(losses=job.first_losses(int(values[0])))
        elif what == "write":
            job.write(request.split(maxsplit=1)[1].strip())
            say(written=True)
        else:
            times = measured(job, workload, xs, steps, seconds)
            gpu = job.gpu_bytes() / 2**20 if job.gpu_bytes else None
            say(times=times, peak=peak(), gpu=gpu, losses=job.losses)


def batches(count: int, batch: int, shuffle: bool) -> list[np.ndarray]:
    """The rows of each batch of an epoch, for frameworks whose users write the training loop."""
    order = np.random.permutation(count) if shuffle else np.arange(count)
    return [order[i : i + batch] for i in range(0, count, batch)]
