"""How a runner talks to `python -m benchmarks`: one process for one framework and one workload, JSON lines on its pipes.

run_torch.py FRAMEWORK WORKLOAD STEPS EPOCHS    prepares, runs one epoch (the compile time is in it), says so,
then for each line "round" measures one round, and ends with its standard input.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from workloads import WORKLOADS, Workload, data


@dataclass
class Job:
    """One workload in one framework, ready to run.

    epochs(n) trains n epochs and returns (seconds of each, loss of the last); predict(arrays) returns NumPy arrays.
    """

    parameters: int
    versions: dict[str, str]
    epochs: Callable[[int], tuple[list[float], float]] | None = None
    predict: Callable[[list], object] | None = None
    losses: list[float] = field(default_factory=list)


def measured(job: Job, workload: Workload, xs: list, steps: int, epochs: int) -> list[float]:
    """Seconds per step, per call or per pass over the data, whichever the workload's kind says."""
    clock = time.perf_counter
    if workload.kind in ("train", "start"):
        seconds, loss = job.epochs(epochs)
        job.losses.append(loss)
        return [each / steps for each in seconds]
    if workload.kind == "throughput":
        start = clock()
        job.predict(xs)
        return [clock() - start]
    times = []
    for i in range(steps):
        sample = [x[i : i + 1] for x in xs]
        start = clock()
        job.predict(sample)
        times.append(clock() - start)
    return times


def serve(prepare: Callable[[str, Workload, list, list], Job]) -> None:
    """Run one workload for the parent process; `prepare(framework, workload, xs, ys)` builds and compiles the model."""
    framework, name, steps, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # progress bars cost what they cost, but do not reach the parent

    def say(**message) -> None:
        print(json.dumps(message), file=answers, flush=True)

    workload = WORKLOADS[name]
    xs, ys = data(workload, steps)
    start = time.perf_counter()
    job = prepare(framework, workload, xs, ys)
    measured(job, workload, xs, steps, 1)
    say(parameters=job.parameters, versions=job.versions, first=time.perf_counter() - start)
    for _ in sys.stdin:
        times = measured(job, workload, xs, steps, epochs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say(times=times, peak=peak, losses=job.losses)


def batches(count: int, batch: int, shuffle: bool) -> list[np.ndarray]:
    """The rows of each batch of an epoch, for the frameworks whose users write the loop themselves."""
    order = np.random.permutation(count) if shuffle else np.arange(count)
    return [order[i : i + batch] for i in range(0, count, batch)]
