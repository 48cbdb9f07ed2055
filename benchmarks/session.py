"""One run of the suite: starts the processes, lets them take turns, sums up their times."""

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.runners import Missing, Runner, import_seconds, main_job_seconds
from benchmarks.workloads import WORKLOADS, Workload


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


def leave_out(framework: str, reason: Missing) -> None:
    print(f"  {framework} is left out: {reason}", file=sys.stderr)


def take_turns(names: Sequence[str], rounds: int, measure: Callable[[str], Any]) -> dict[str, list]:
    """`measure(name)` for each name in every round, beginning with another one each time; without those missing."""
    results: dict[str, list] = {}
    names = list(names)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            try:
                results.setdefault(name, []).append(measure(name))
            except Missing as reason:
                leave_out(name, reason)
                names.remove(name)
                results.pop(name)
    return results


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when; load: the average of the minute before."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d"),
    }


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Session:
    """The settings of one run, and what the workloads and the studies share: how a framework is started with them."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.frameworks = ["nbkeras", *options.peers]

    def python(self, framework: str) -> str:
        return sys.executable if framework == "nbkeras" else self.options.python.get(framework, self.options.python[""])

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | more

    def start(self, framework: str, name: str, steps: int | None = None, **environment: str) -> Runner:
        """A process that has a workload ready; `environment`: variables set for it alone."""
        steps = steps or self.options.steps or WORKLOADS[name].steps
        settings = (steps, self.options.seconds, self.environment(**environment))
        return Runner(framework, self.python(framework), name, *settings)

    def run(self, name: str) -> dict[str, dict]:
        """Results of one workload by framework."""
        workload = WORKLOADS[name]
        frameworks = [each for each in self.frameworks if each == "nbkeras" or each in workload.peers]
        if workload.kind == "import":
            measure = lambda each: import_seconds(each, self.python(each), self.environment())  # noqa: E731
            present = list(take_turns(frameworks, 1, measure))  # their files are in the page cache from here on
            found = take_turns(present, self.options.rounds, measure)
            return {framework: summary(times) for framework, times in found.items()}
        if workload.kind == "start":
            return self.starts(name, frameworks)
        return self.steady(name, workload, frameworks)

    def steady(self, name: str, workload: Workload, frameworks: list[str]) -> dict[str, dict]:
        """Times of training or prediction after warm-up."""
        self.start(
            "nbkeras", name, steps=2
        ).close()  # fills the kernel cache: compiling would add to the peak of memory
        with contextlib.ExitStack() as processes:
            runners: dict[str, Runner] = {}
            for framework in frameworks:
                try:
                    runners[framework] = processes.enter_context(self.start(framework, name))
                except Missing as reason:
                    leave_out(framework, reason)
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

    def starts(self, name: str, frameworks: list[str]) -> dict[str, dict]:
        """Seconds from the start of a process to the end of its first epoch; for nbkeras also with an empty cache."""

        def first_epoch(framework: str, **environment: str) -> float:
            with self.start(framework, name, **environment) as runner:
                return runner.ready["start"]

        def measure(what: str) -> float:
            if "empty cache" not in what:
                return main_job_seconds(self.environment()) if "digits" in what else first_epoch(what)
            folder = tempfile.mkdtemp()
            try:
                if "digits" in what:
                    return main_job_seconds(self.environment(NUMBA_CACHE_DIR=folder))
                return first_epoch("nbkeras", NUMBA_CACHE_DIR=folder)
            finally:
                shutil.rmtree(folder)

        warm = list(take_turns([*frameworks, "nbkeras digits"], 1, measure))
        found = take_turns(warm, self.options.rounds, measure)
        found |= take_turns(["nbkeras, empty cache", "nbkeras digits, empty cache"], self.options.cold, measure)
        return {what: summary(times) for what, times in found.items()}
