"""One run of the suite: starts the processes, lets them take turns and summarizes their times."""

import argparse
import contextlib
import functools
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import levels
from benchmarks.runners import (
    FILES,
    FOLDER,
    IMPORTS,
    SCRIPTS,
    VARIANTS,
    WRITERS,
    Failed,
    Missing,
    Process,
    Runner,
    import_seconds,
    main_job_seconds,
    output,
)
from benchmarks.workloads import WORKLOADS, Workload


def percentile(values: list[float], percent: float) -> float:
    """The percentile: this share of the values does not exceed it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def summary(times: list[float], **more: Any) -> dict[str, Any]:
    """The median and the spread of seconds: half the distance between the quartiles, divided by the median."""
    median = statistics.median(times)
    spread = (percentile(times, 75) - percentile(times, 25)) / 2 / median
    extremes = {"min": min(times), "p99": percentile(times, 99)}
    return {"median": median, "spread": spread, **extremes, "count": len(times), **more}


def machine(device: str, level: str | None = None) -> dict[str, Any]:
    """The machine and the date of the run; load: the average of the last minute; gpu: the driver's description.

    level: the run's level of vector instructions; None for the machine's own.
    """
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": cores(),
        "level": level or own_level(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d"),
        "gpu": gpu() if device == "cuda" else None,
    }


def own_level() -> str:
    """The level of vector instructions that nbkeras uses if no level is chosen."""
    return output([sys.executable, "-c", levels.OWN], dict(os.environ)).strip()


def gpu() -> str:
    """The first GPU in words, with its driver and its highest clocks."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", ""):
        return "a simulator instead of a GPU: the figures mean nothing"
    fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "-i", "0"], capture_output=True, text=True
        )
    except OSError as error:
        return f"nvidia-smi cannot be run: {error}"
    if done.returncode:
        return f"nvidia-smi failed: {(done.stdout + done.stderr).strip()}"
    name, driver, memory, clock, memory_clock, power = (each.strip() for each in done.stdout.splitlines()[0].split(","))
    return f"{name}, {memory}, at most {clock}, memory {memory_clock}, {power}, driver {driver}"


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compare(name: str, ready: dict[str, dict[str, Any]]) -> None:
    """RuntimeError if networks differ in parameters or, with the same weights from a file, in their predictions."""
    counts = {framework: first["parameters"] for framework, first in ready.items() if first["parameters"]}
    if len(set(counts.values())) > 1:
        raise RuntimeError(f"{name}: the frameworks' networks differ in parameters: {counts}")
    for framework, first in ready.items():
        if VARIANTS.get(framework, framework) in FILES:
            found, expected = np.array(first["answer"]), np.array(ready["nbkeras"]["answer"])
            if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-5):
                raise RuntimeError(f"{name}: {framework} predicts {found}, nbkeras {expected}")


class Session:
    """The settings of one run, and the methods that start frameworks with them, for workloads and studies.

    folder: for networks in files, for frameworks that read files. Call `close` at the end.
    """

    ATTEMPTS, WAIT = 3, 20.0  # to measure a round undisturbed; seconds to wait before each attempt

    def __init__(self, options: argparse.Namespace, folder: str):
        self.options, self.folder = options, folder
        self.frameworks = ["nbkeras", *options.peers]
        self.left_out: list[str] = []  # peers that are left out, with the reasons
        self.failures: dict[str, str] = {}  # errors by workload or study
        self.rounds = self.disturbed = 0  # of `steady`
        self.so_far: Callable[[str, list], None] = lambda study, tables: None  # saves the first tables of a long study

    @functools.cached_property
    def probe(self) -> Process:
        """The process that checks whether the processors are undisturbed."""
        command = [sys.executable, str(FOLDER / "run_probe.py"), "nbkeras", str(cores())]
        return Process("nbkeras", command, self.environment())

    def close(self) -> None:
        """End the process that checks the processors."""
        if "probe" in vars(self):
            self.probe.close()

    def settles(self, seconds: float) -> bool:
        """True if the processors are as fast as at their best in this run (limits.Probe), now or within this many seconds."""
        self.probe.ask(str(seconds))
        return self.probe.answer()["undisturbed"]

    def undisturbed(self, measure: Callable[[], Any]) -> Any:
        """The result of `measure()` on undisturbed processors; else the last result, which is counted as disturbed."""
        self.rounds += 1
        can_look = hasattr(os, "sched_setaffinity")  # Linux
        if self.options.quick or self.options.device != "cpu" or not can_look:
            return measure()
        for _ in range(self.ATTEMPTS):
            self.settles(self.WAIT)
            result = measure()
            if self.settles(0):
                return result
        self.disturbed += 1
        return result

    def python(self, framework: str) -> str:
        """The Python of a framework; a variant has its framework's."""
        if framework.startswith("nbkeras"):
            return sys.executable
        chosen = self.options.python
        return chosen.get(framework) or chosen.get(VARIANTS.get(framework, ""), chosen[""])

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for a process: frameworks use the chosen device and level, and leave GPU memory to other processes."""
        device = self.options.device
        settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "NBKERAS_DEVICE": device, "JAX_PLATFORMS": device}
        if device == "cpu":
            settings["CUDA_VISIBLE_DEVICES"] = ""
        settings |= levels.variables(self.options.level, os.environ)
        return os.environ | settings | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | more

    def able(self, name: str) -> list[str]:
        """The frameworks that run a workload."""
        able = ("nbkeras", *WORKLOADS[name].peers)

        def is_able(framework: str) -> bool:
            if framework == "torch-compile" and self.options.device == "cpu":
                return framework in able  # only where a workload names it: it compiles for half a minute
            return VARIANTS.get(framework, framework) in able

        return [framework for framework in self.frameworks if is_able(framework)]

    def with_usual_threads(self, name: str) -> list[str]:
        """The frameworks that run a workload, without variants by the number of threads."""
        return [framework for framework in self.able(name) if not framework[-1].isdigit()]

    def leave_out(self, what: str, reason: Exception) -> None:
        """Continue without a peer; an error of nbkeras itself is raised."""
        if what.startswith("nbkeras") and what != "nbkeras-cublas":
            raise reason
        self.left_out.append(f"{what}: {' '.join(str(reason).split())[-500:]}")
        print(f"  {what} is left out: {reason}", file=sys.stderr)

    def attempt(self, what: str, begin: Callable[[], Any]) -> Any:
        """The result of `begin()`, or None if a peer cannot start and is left out."""
        try:
            return begin()
        except (Missing, Failed) as reason:
            self.leave_out(what, reason)
            return None

    def take_turns(self, names: Sequence[str], rounds: int, measure: Callable[[str], Any]) -> dict[str, list]:
        """Results of `measure(name)` for each name in every round, starting with a different name in each round.

        A name that fails is left out.
        """
        results: dict[str, list] = {}
        names = list(names)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                try:
                    results.setdefault(name, []).append(measure(name))
                except (Missing, Failed) as reason:
                    self.leave_out(name, reason)
                    names.remove(name)
                    results.pop(name)
        return results

    def start(
        self, framework: str, name: str, steps: int | None = None, device: str | None = None, **environment: str
    ) -> Runner:
        """Start a process for a workload; `environment`: variables only for this process."""
        steps, device = steps or self.options.steps or WORKLOADS[name].steps, device or self.options.device
        command = [self.python(framework), str(FOLDER / SCRIPTS[framework]), framework, name]
        command += [str(steps), str(self.options.seconds), device]
        ending = FILES.get(VARIANTS.get(framework, framework))
        if ending:
            output([self.python(framework), "-c", IMPORTS[VARIANTS.get(framework, framework)]], self.environment())
            command.append(self.file(name, ending))
        return Runner(framework, command, self.environment(**{"NBKERAS_DEVICE": device} | environment))

    def file(self, name: str, ending: str) -> str:
        """A file with the network of a workload and nbkeras's weights, written at the first call."""
        path = os.path.join(self.folder, name + ending)
        if not os.path.exists(path):
            writer = WRITERS[ending]
            command = [self.python(writer), str(FOLDER / SCRIPTS[writer]), writer, name, "1", "0", "cpu"]
            if ending == ".tflite":
                command.append(self.file(name, ".npz"))
            try:
                with Runner(writer, command, self.environment()) as runner:
                    runner.write(path)
            except (Missing, Failed) as reason:
                raise type(reason)(f"its network is written by {writer}: {reason}") from reason
        return path

    @contextlib.contextmanager
    def started(self, name: str, settings: dict[str, tuple[str, dict]]) -> Iterator[dict[str, Runner]]:
        """A process for each setting {title: (framework, environment)} with an installed framework."""
        with contextlib.ExitStack() as processes:
            runners = {}
            for title, (framework, environment) in settings.items():
                begin = functools.partial(self.start, framework, name, **environment)
                runner = self.attempt(framework, begin)
                if runner is not None:
                    runners[title] = processes.enter_context(runner)
            yield runners

    def run(self, name: str) -> dict[str, dict]:
        """The results of one workload by framework."""
        workload = WORKLOADS[name]
        frameworks = self.able(name)
        if workload.kind == "import":
            measure = lambda each: import_seconds(each, self.python(each), self.environment())  # noqa: E731
            present = list(self.take_turns(frameworks, 1, measure))  # reads their files into the page cache
            found = self.take_turns(present, self.options.rounds, measure)
            return {framework: summary(times) for framework, times in found.items()}
        if workload.kind == "start":
            return self.starts(name, frameworks)
        return self.steady(name, workload, frameworks)

    def steady(self, name: str, workload: Workload, frameworks: list[str]) -> dict[str, dict]:
        """The times of training or prediction after warm-up."""
        # fill the kernel cache, because compiling would raise the memory peak
        self.start("nbkeras", name, steps=2).close()
        with self.started(name, {framework: (framework, {}) for framework in frameworks}) as runners:
            compare(name, {framework: runner.ready for framework, runner in runners.items()})
            measure = lambda framework: self.undisturbed(runners[framework].round)  # noqa: E731
            answers = self.take_turns(list(runners), self.options.rounds, measure)
            results = {}
            for framework, rounds in answers.items():
                times = [t for answer in rounds for t in answer["times"]]
                last = {key: rounds[-1][key] for key in ("peak", "gpu", "losses")}
                ready = {key: value for key, value in runners[framework].ready.items() if key != "answer"}
                results[framework] = summary(times, **last, **ready)
            return results

    def starts(self, name: str, frameworks: list[str]) -> dict[str, dict]:
        """Seconds from the start of a process to the end of its first epoch; nbkeras also with an empty cache."""

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

        warm = list(self.take_turns([*frameworks, "nbkeras digits"], 1, measure))
        found = self.take_turns(warm, self.options.rounds, measure)
        found |= self.take_turns(["nbkeras, empty cache", "nbkeras digits, empty cache"], self.options.cold, measure)
        return {what: summary(times) for what, times in found.items()}
