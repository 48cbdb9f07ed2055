"""python -m benchmarks [workload ...] [--peers keras-jax,torch,...] [--python PATH] [--json FILE]

Runs each workload in nbkeras and in each peer that is installed, one process each, rounds taking turns, and prints the
median time beside the best peer's. The first epoch, in which kernels are compiled, is reported apart.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from typing import Any

from benchmarks.runners import SCRIPTS, Missing, Runner, import_seconds, main_job_seconds
from benchmarks.workloads import WORKLOADS, Workload

UNITS = {"train": "ms a step", "latency": "us a call", "throughput": "s", "start": "s", "import": "s"}
SCALES = {"train": 1e3, "latency": 1e6}


def percentile(values: list[float], percent: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def summary(times: list[float], **more: Any) -> dict[str, Any]:
    """Median and spread of seconds: half the distance between the quartiles, as a part of the median."""
    median = statistics.median(times)
    spread = (percentile(times, 75) - percentile(times, 25)) / 2 / median
    extremes = {"least": min(times), "p99": percentile(times, 99)}
    return {"median": median, "spread": spread, **extremes, "count": len(times), **more}


def take_turns(names: list[str], rounds: int, measure) -> dict[str, list]:
    """`measure(name)` for each name in every round, beginning with another one each time; without those missing."""
    results: dict[str, list] = {}
    names = list(names)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            try:
                results.setdefault(name, []).append(measure(name))
            except Missing as reason:
                print(f"  {name} is left out: {reason}", file=sys.stderr)
                names.remove(name)
                results.pop(name)
    return results


class Session:
    """The settings of one run of the suite."""

    def __init__(self, options: argparse.Namespace):
        self.options = options

    def python(self, framework: str) -> str:
        return sys.executable if framework == "nbkeras" else self.options.python.get(framework, self.options.python[""])

    def environment(self, framework: str, **more: str) -> dict[str, str]:
        return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | more

    def run(self, name: str) -> dict[str, dict]:
        """Results of one workload by framework."""
        workload = WORKLOADS[name]
        frameworks = ["nbkeras", *(peer for peer in workload.peers if peer in self.options.peers)]
        if workload.kind == "import":
            measure = lambda each: import_seconds(each, self.python(each), self.environment(each))  # noqa: E731
            take_turns(frameworks, 1, measure)  # the files are in the page cache from here on
            found = take_turns(frameworks, self.options.rounds, measure)
            return {framework: summary(times) for framework, times in found.items()}
        if workload.kind == "start":
            return self.starts(name, workload, frameworks)
        return self.steady(name, workload, frameworks)

    def start(self, framework: str, name: str, workload: Workload, **environment: str) -> Runner:
        steps = self.options.steps or workload.steps
        settings = (steps, self.options.epochs, self.environment(framework, **environment))
        return Runner(framework, self.python(framework), name, *settings)

    def steady(self, name: str, workload: Workload, frameworks: list[str]) -> dict[str, dict]:
        """Times of training or prediction after warm-up."""
        runners: dict[str, Runner] = {}
        try:
            for framework in frameworks:
                try:
                    runners[framework] = self.start(framework, name, workload)
                except Missing as reason:
                    print(f"  {framework} is left out: {reason}", file=sys.stderr)
            counts = {framework: runner.ready["parameters"] for framework, runner in runners.items()}
            if len(set(counts.values())) > 1:
                raise RuntimeError(f"{name}: the frameworks' networks differ in parameters: {counts}")
            answers = take_turns(list(runners), self.options.rounds, lambda framework: runners[framework].round())
            results = {}
            for framework, rounds in answers.items():
                times = [t for answer in rounds for t in answer["times"]]
                last = {key: rounds[-1][key] for key in ("peak", "losses")}
                results[framework] = summary(times, **last, **runners[framework].ready)
            return results
        finally:
            for runner in runners.values():
                runner.close()

    def starts(self, name: str, workload: Workload, frameworks: list[str]) -> dict[str, dict]:
        """Seconds from the start of a process to the end of its first epoch; for nbkeras also with an empty cache."""

        def first_epoch(framework: str, **environment: str) -> float:
            runner = self.start(framework, name, workload, **environment)
            runner.close()
            return runner.ready["start"]

        def measure(what: str) -> float:
            if "empty cache" not in what:
                return main_job_seconds(self.environment(what)) if "digits" in what else first_epoch(what)
            folder = tempfile.mkdtemp()
            try:
                if "digits" in what:
                    return main_job_seconds(self.environment(what, NUMBA_CACHE_DIR=folder))
                return first_epoch("nbkeras", NUMBA_CACHE_DIR=folder)
            finally:
                shutil.rmtree(folder)

        warm = [*frameworks, "nbkeras digits"]
        take_turns(warm, 1, measure)
        found = take_turns(warm, self.options.rounds, measure)
        found |= take_turns(["nbkeras, empty cache", "nbkeras digits, empty cache"], self.options.cold, measure)
        return {what: summary(times) for what, times in found.items()}


def table(name: str, results: dict[str, dict]) -> str:
    """The results of one workload as text."""
    workload = WORKLOADS[name]
    scale, unit = SCALES.get(workload.kind, 1), UNITS[workload.kind]
    first = next(iter(results.values()))
    title = f"{name}: {workload.title}"
    if "parameters" in first:
        title += f"; batch {workload.batch}; {first['parameters']:,} parameters"
    peers = {key: value["median"] for key, value in results.items() if not key.startswith("nbkeras")}
    best = min(peers.values(), default=None)
    lines = [
        title,
        f"  {'':28}{unit:>12}{'spread':>8}{'p99':>10}{'best peer':>11}{'first, s':>10}{'peak, MB':>10}{'loss':>8}",
    ]
    for framework, values in results.items():
        ratio = f"{values['median'] / best:.2f} x" if best else ""
        line = f"  {framework:28}{values['median'] * scale:12.3f}{values['spread']:8.1%}{values['p99'] * scale:10.3f}"
        line += f"{ratio:>11}"
        if "first" in values:
            line += f"{values['first']:10.2f}{values['peak']:10.0f}"
        if values.get("losses"):
            line += f"{values['losses'][-1]:8.3f}"
        lines.append(line)
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": model,
        "cores": cores,
        "load": load,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    peers = [framework for framework in SCRIPTS if framework != "nbkeras"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[1])
    parser.add_argument("names", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)} (default all)")
    parser.add_argument("--peers", default=",".join(peers), help="frameworks to compare with, or 'none' (default all)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[PEER=]PATH",
        help="the interpreter that has the peers, or this peer, installed (default: this one)",
    )
    parser.add_argument("--json", help="write all results there")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, in which the frameworks take turns")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of training a round")
    parser.add_argument("--steps", type=int, help="batches an epoch, or calls a round (default: the workload's)")
    parser.add_argument("--cold", type=int, default=2, help="starts with an empty cache of kernels")
    options = parser.parse_args(argv)
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    for kind, chosen, known in (("workload", options.names, WORKLOADS), ("peer", options.peers, peers)):
        for name in chosen:
            if name not in known:
                parser.error(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
    options.names = options.names or list(WORKLOADS)
    named = [each if "=" in each else f"={each}" for each in options.python]
    options.python = {"": sys.executable} | dict(each.split("=", 1) for each in named)
    return options


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    report: dict[str, Any] = {"machine": machine(), "settings": vars(options), "workloads": {}}
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    versions: dict[str, str] = {}
    for name in options.names:
        results = Session(options).run(name)
        report["workloads"][name] = results
        for values in results.values():
            versions |= values.get("versions", {})
        print(f"\n{table(name, results)}", flush=True)
    print("\n" + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
