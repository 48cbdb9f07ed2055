"""The limits of this processor, or the work and times of a workload in nbkeras, in JSON:

run_roofline.py nbkeras limits THREADS,... all|smallest
run_roofline.py nbkeras NAME STEPS SECONDS ROUNDS
"""

import dataclasses
import json
import os
import statistics
import sys

import limits
from protocol import calls, measured
from run_keras import NETWORKS, prepare
from work import work_of
from workloads import WORKLOADS, data


def limits_of(threads: str, how_much: str) -> dict:
    quick, counts = how_much == "smallest", [int(count) for count in threads.split(",")]
    found = [limits.measure(count, quick) for count in counts]
    return {"limits": found, "starts": limits.starts(max(counts), quick)}


def of_workload(name: str, steps: str, seconds: str, rounds: str) -> dict:
    """The work and the median seconds of a training step, and of predictions of one sample and of a batch."""
    workload, count = WORKLOADS[name], int(steps)
    model = NETWORKS[workload.network](workload.batch)
    one = dataclasses.replace(workload, kind="latency", batch=1)
    several = dataclasses.replace(one, batch=workload.batch)
    has_fixed_batch = model.inputs[0].shape[0] is not None
    cases = [workload, several] if has_fixed_batch else [workload, one, several]
    works = [work_of(model, case.batch, case is workload) for case in cases]
    xs, ys = data(workload, count)
    job = prepare("nbkeras", workload, xs, ys, "cpu")
    job.epochs(1)  # compiles
    for case in cases[1:]:
        calls(job, xs, case.batch, 1)
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(int(rounds)):
        for case, found in zip(cases, times, strict=True):
            found += measured(job, case, xs, count, float(seconds))
    kinds = ["training step" if case is workload else "prediction" for case in cases]
    rows = zip(kinds, (case.batch for case in cases), works, map(statistics.median, times), strict=True)
    return {"versions": job.versions, "rows": list(rows)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # of progress bars
    of, *rest = sys.argv[2:]
    print(json.dumps(limits_of(*rest) if of == "limits" else of_workload(of, *rest)), file=answers)


if __name__ == "__main__":
    main()
