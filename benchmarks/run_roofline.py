"""The limits of this processor, or the work and times of a workload in nbkeras, in JSON:

run_roofline.py nbkeras limits THREADS,... all|smallest
run_roofline.py nbkeras NAME STEPS SECONDS ROUNDS THREADS BEST SHORTEST

A round counts if the processors were undisturbed before and after it. BEST and SHORTEST: see limits.Probe.
"""

import dataclasses
import itertools
import json
import os
import statistics
import sys

import limits
from protocol import calls, measured
from run_keras import NETWORKS, prepare
from work import work_of
from workloads import WORKLOADS, data

_TRIES, _WAIT = 3, 20.0  # at most this many times the rounds; seconds to wait for undisturbed processors before each


def limits_of(threads: str, how_much: str) -> dict:
    quick, counts = how_much == "smallest", [int(count) for count in threads.split(",")]
    found = [limits.measure(count, quick) for count in counts]
    return {"limits": found, "starts": limits.starts(max(counts), quick)}


def of_workload(name: str, steps: str, seconds: str, rounds: str, threads: str, *best: str) -> dict:
    """The work and the median seconds of a training step, and of predictions of one sample and of a batch.

    Also the number of undisturbed rounds; if there are none, all rounds count.
    """
    workload, count = WORKLOADS[name], int(steps)
    model = NETWORKS[workload.network](workload.batch)
    one = dataclasses.replace(workload, kind="latency", batch=1)
    several = dataclasses.replace(one, batch=workload.batch)
    has_fixed_batch = model.inputs[0].shape[0] is not None
    cases = [workload, several] if has_fixed_batch else [workload, one, several]
    xs, ys = data(workload, count)
    job = prepare("nbkeras", workload, xs, ys, "cpu")
    job.epochs(1)  # compiles
    for case in cases[1:]:
        calls(job, xs, case.batch, 1)

    probe, wait = limits.Probe(int(threads), *map(float, best)), _WAIT if float(seconds) > 0 else 0.0  # none if --quick
    rows = []
    for case in cases:
        times, disturbed = [], []
        while len(times) < int(rounds) and len(times) + len(disturbed) < _TRIES * int(rounds):
            was_good = probe.settles(wait)
            found = measured(job, case, xs, count, float(seconds))
            (times if was_good and probe.settles(0) else disturbed).append(found)
        median = statistics.median(itertools.chain(*(times or disturbed)))
        kind = "training step" if case is workload else "prediction"
        rows.append((kind, case.batch, work_of(model, case.batch, case is workload), median, len(times)))
    return {"versions": job.versions, "rows": rows, "best": (probe.best, probe.shortest)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # of progress bars
    of, *rest = sys.argv[2:]
    print(json.dumps(limits_of(*rest) if of == "limits" else of_workload(of, *rest)), file=answers)


if __name__ == "__main__":
    main()
