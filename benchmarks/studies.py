"""Studies: questions about nbkeras that a single workload does not answer. Each makes tables with a Session's processes."""

import contextlib
import functools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.runners import FOLDER, Process, Runner, script_results
from benchmarks.session import Session, cores, percentile

Table = dict[str, Any]

# One process with as many threads as cores; hashing releases the GIL.
SPIN = """
import hashlib, os, sys, threading
data = bytes(1 << 22)
def spin():
    while True:
        hashlib.sha256(data)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=spin, daemon=True).start()
print(flush=True)
sys.stdin.read()
os._exit(0)
"""


def how_much(session: Session) -> str:
    return "smallest" if session.options.quick else "all"


def results(session: Session, framework: str, script: str, argument: str) -> Any:
    """The results of a study's script in a framework's Python."""
    python, environment = session.python(framework), session.environment()
    return script_results(python, script, argument, how_much(session), environment=environment)


def median_round(runner: Runner) -> float:
    return statistics.median(runner.round()["times"])


@contextlib.contextmanager
def spinning() -> Iterator[None]:
    """Keep every core busy with another process."""
    command = [sys.executable, "-c", SPIN, str(cores())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        try:
            yield
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def neighbour(session: Session) -> list[Table]:
    """Training while another process keeps every core busy, and predicting in two processes at once."""
    settings: dict[str, tuple[str, dict]] = {framework: (framework, {}) for framework in session.frameworks}
    rounds = range(session.options.rounds)
    busy_rows, twice_rows = [], []
    for name in ("mlp", "lstm_stack"):
        with session.started(name, {title: settings[title] for title in session.able(name)}) as runners:
            for title, runner in runners.items():
                times: tuple[list[float], list[float]] = ([], [])
                for _ in rounds:
                    times[0].append(median_round(runner))
                    with spinning():
                        times[1].append(median_round(runner))
                idle, busy = (statistics.median(each) * 1e3 for each in times)
                busy_rows.append([name, title, idle, busy, busy / idle])
        name = f"latency_{name}"
        for title in session.with_usual_threads(name):
            how = settings[title]
            with session.started(name, {"a": how, "b": how}) as pair:
                if not pair:
                    continue
                alone, both = [], []
                for _ in rounds:
                    alone += pair["a"].round()["times"]
                    for runner in pair.values():
                        runner.ask("round")
                    both += [each for runner in pair.values() for each in runner.answer()["times"]]
                cells = [percentile(times, p) * 1e6 for p in (50, 99) for times in (alone, both)]
                twice_rows.append([name, title, *cells[:2], cells[1] / cells[0], *cells[2:]])
    columns = ["workload", "setting", "idle, ms a step", "busy, ms a step", "busy / idle"]
    twice = ["workload", "setting", "alone, us a call", "two at once", "ratio", "alone, p99", "two at once, p99"]
    return [
        {"title": f"Beside a process of {cores()} spinning threads", "columns": columns, "rows": busy_rows},
        {"title": "predict from two processes at once", "columns": twice, "rows": twice_rows},
    ]


def threads(session: Session) -> list[Table]:
    """predict of one model from several Python threads."""
    counts, seconds = (1, 2, 4), 0.05 if session.options.quick else 1.0
    rows = []
    for name in ("latency_mlp", "latency_lstm_stack"):
        frameworks = session.with_usual_threads(name)
        with session.started(name, {framework: (framework, {}) for framework in frameworks}) as runners:
            for framework, runner in runners.items():
                rates = []
                for count in counts:
                    found = [runner.calls_per_second(count, seconds) for _ in range(session.options.rounds)]
                    rates.append(None if None in found else round(statistics.median(found)))
                best = max(filter(None, rates))
                rows.append([name, framework, *(rate or "fails" for rate in rates), best / rates[0]])
    columns = ["workload", "framework", *(f"{count} threads" for count in counts), "best / 1 thread"]
    return [{"title": "Predictions of one sample a second", "columns": columns, "rows": rows}]


def subnormal(session: Session) -> list[Table]:
    """Optimizer steps on moments that would be subnormal numbers."""
    rows = []
    for framework in ("nbkeras", "torch"):
        if framework not in session.frameworks:
            continue
        begin = functools.partial(results, session, framework, "run_updates.py", framework)
        found = session.attempt(framework, begin)
        for optimizer, seconds in (found or {}).items():
            normal, decayed = seconds["normal"], seconds["decayed"]
            rows.append([optimizer, framework, normal * 1e6, decayed * 1e6, decayed / normal])
    columns = ["optimizer", "framework", "normal, us", "decayed, us", "decayed / normal"]
    return [{"title": "A step of 670,000 weights whose moments have decayed", "columns": columns, "rows": rows}]


def scaling(session: Session) -> list[Table]:
    """Training time by size, on one thread and on all, and its floor: the minimum time of the work (work.py)."""
    counts = sorted({1, min(2, cores()), cores()})
    found = [results(session, "nbkeras", "run_scaling.py", str(count)) for count in counts]
    rates = [[count, each["rate"] / 1e9] for count, each in zip(counts, found, strict=True)]
    columns = ["threads", "G multiply-adds a second"]
    tables: list[Table] = [{"title": "The rate of the floor", "columns": columns, "rows": rates}]
    for title in found[0]["sweeps"]:
        columns, rows = [title.split()[-1]], []
        for count in counts:
            columns += [f"{count} thread{'s' * (count > 1)}, ms a step", "floor, ms", "/ floor"]
        for points in zip(*(each["sweeps"][title] for each in found), strict=True):
            row: list = [points[0]["size"]]
            for point in points:
                row += [point["seconds"] * 1e3, point["floor"] * 1e3, point["seconds"] / point["floor"]]
            cliffs = [str(count) for count, point in zip(counts, points, strict=True) if point["cliff"]]
            rows.append([*row, "on " + " ".join(cliffs) if cliffs else None])
        tables.append({"title": title, "columns": [*columns, "cliff"], "rows": rows, "threads": counts})
    return tables


def layers(session: Session) -> list[Table]:
    """Layers and optimizers separately, in nbkeras and Keras; run_layers.py describes the measurement."""
    with contextlib.ExitStack() as processes:
        runners: dict[str, Process] = {}
        for framework in session.frameworks:
            if not (framework == "nbkeras" or framework.startswith("keras-")):
                continue
            command = [session.python(framework), str(FOLDER / "run_layers.py"), framework, how_much(session)]
            process = session.attempt(framework, functools.partial(Process, framework, command, session.environment()))
            if process is not None:
                runners[framework] = processes.enter_context(process)
        peers = [framework for framework in runners if framework != "nbkeras"]
        rows: dict[str, list[list]] = {"train": [], "predict": []}
        for number, case in enumerate(runners["nbkeras"].ready["cases"]):

            def measure(framework: str, number: int = number) -> dict[str, float]:
                runners[framework].ask(str(number))
                return runners[framework].answer()

            found = session.take_turns(list(runners), session.options.rounds, measure)
            for what in found["nbkeras"][0]:
                seconds = {
                    framework: statistics.median(answer[what] for answer in rounds)
                    for framework, rounds in found.items()
                }
                best = min((seconds[peer] for peer in peers if peer in seconds), default=None)
                cells: list = [seconds[runner] * 1e3 if runner in seconds else None for runner in runners]
                rows[what].append([case, *cells, *([seconds["nbkeras"] / best] if best else [])])
    columns = [
        "two layers, or optimizer",
        *(f"{framework}, ms" for framework in runners),
        *(["/ best peer"] if peers else []),
    ]
    titles = {"train": "Training, a step", "predict": "Predicting, a batch"}
    return [{"title": titles[what], "columns": columns, "rows": found} for what, found in rows.items()]


STUDIES: dict[str, Callable[[Session], list[Table]]] = {
    study.__name__: study for study in (scaling, neighbour, threads, subnormal, layers)
}
