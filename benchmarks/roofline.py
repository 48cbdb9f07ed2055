"""python -m benchmarks.roofline [workload ...] [--level x86-64-v3] [--json FILE] [--markdown FILE] [--quick]

Compares nbkeras with the limits of the processor. Measures these limits at the level: multiply-adds a second,
bytes read a second from each cache and from memory, and the time to start threads. Then it measures a training step of each
workload, and predictions of one sample and of a batch, and compares them with two bounds: the multiply-adds of the products
(work.py counts them from the model's layers) at the processor's rate, and the bytes of weights, gradients, optimizer state and
activations, each moved once, at the bandwidth of the smallest cache that holds them. The share is the larger bound / the time.
The time is the median of the rounds with an undisturbed processor (run_roofline.py); the last column has their number.
"""

import argparse
import functools
import math
import sys
import tempfile
from typing import Any

from benchmarks.__main__ import arguments, run, save, show
from benchmarks.runners import script_results
from benchmarks.session import Session, cores, machine
from benchmarks.studies import how_much
from benchmarks.work import Bounds, Limits, Store, Work, bounds
from benchmarks.workloads import SECOND_ORDER, WORKLOADS

NAMES = [name for name, each in WORKLOADS.items() if each.kind == "train" and name not in (*SECOND_ORDER, "toy")]
COLUMNS = [
    "workload",
    "M multiply-adds",
    "MB",
    "time, ms",
    "arithmetic, ms",
    "bytes, ms",
    "held by",
    "near",
    "share",
    "rounds",
]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The limits of the processor, and each workload with its bounds."""
    report: dict[str, Any] = {
        "machine": machine("cpu", options.level),
        "settings": vars(options),
        "workloads": {},
        "studies": {},
        "versions": {},
        "failures": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        session = Session(options, folder)
        environment = session.environment()
        ask = functools.partial(script_results, sys.executable, "run_roofline.py", "nbkeras", environment=environment)
        counts = sorted({1, cores()})
        found = ask("limits", ",".join(map(str, counts)), how_much(session))
        limits = [Limits(threads, rate, [Store(*each) for each in stores]) for threads, rate, stores in found["limits"]]
        rows: list[list] = []
        table = {"title": "The least times of the work, and the times measured", "columns": COLUMNS, "rows": rows}
        report["studies"]["roofline"] = [*tables_of_limits(limits, found["starts"]), table]
        best = 0.0, math.inf
        for name in options.names:
            steps = options.steps or WORKLOADS[name].steps
            try:
                measured = ask(name, *map(str, (steps, options.seconds, options.rounds, limits[-1].threads, *best)))
            except RuntimeError as error:  # the results of the others are still useful
                print(f"\n{name} failed: {error}", file=sys.stderr, flush=True)
                report["failures"][name] = str(error)[-4000:]
                continue
            best = measured["best"]
            report["versions"] |= measured["versions"]
            for what, samples, work, seconds, count in measured["rows"]:
                minimum = bounds(Work(*work), limits[-1])
                rows.append([f"{name}: {what}, batch {samples}", *cells(Work(*work), seconds, minimum), count])
            save(report, options.json)
    show(report, "roofline")
    return report


def cells(work: Work, seconds: float, minimum: Bounds) -> list:
    """The cells of a row."""
    near = "arithmetic" if minimum.by_arithmetic > minimum.by_bytes else "bytes"
    times = [1e3 * each for each in (seconds, minimum.by_arithmetic, minimum.by_bytes)]
    return [work.multiply_adds / 1e6, work.bytes / 1e6, *times, minimum.store, near, f"{minimum.seconds / seconds:.0%}"]


def tables_of_limits(limits: list[Limits], starts: dict[str, float]) -> list[dict[str, Any]]:
    """The tables of the arithmetic and the bandwidths, and of the starts of threads."""
    rows = [
        [each.threads, each.multiply_adds / 1e9, each.multiply_adds / 1e9 / each.threads]
        + [store.bandwidth / 1e9 for store in each.stores]
        for each in limits
    ]
    columns = ["threads", "G multiply-adds a second", "a thread"]
    columns += [f"{store.name}, GB/s" for store in limits[0].stores]
    return [
        {"title": "The limits of the processor", "columns": columns, "rows": rows},
        {
            "title": "Times between threads",
            "columns": ["", "us"],
            "rows": [[name, seconds * 1e6] for name, seconds in starts.items()],
        },
    ]


def main(argv: list[str] | None = None) -> None:
    run(arguments(argv, __doc__, NAMES), measure)


if __name__ == "__main__":
    main()
