"""python -m benchmarks.scaling_out [--links] [--quick] [--write docs/scaling-out.md]: training by several processes over MPI.

Each rank records and replays a step on its own batch, with one thread. `alone` is the same step of all ranks at the same time,
without sums over ranks; they compete for the same processors and memory. `sums` are the sums of all gradients without the step,
in the same buckets. `waits` is the time that a step only waits for sums, from a profile.

With --links the ranks are on hosts with links of a given bandwidth and latency (links.py; as root). The times of sums over two
hosts give a model of more hosts. --write puts the tables between two marks of a document.
"""

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import links

BATCH = 64  # of each rank
SIZES = [2**power for power in range(2, 25, 2)]  # bytes of sums
NETWORKS = ("mlp", "cnn")
BUCKETS = [2**16, 2**18, 2**20, 2**22, 2**40]
LINKS = [(1e9, 1e-4), (1e9, 1e-3), (1e10, 1e-4), (1e10, 1e-3)]
RANKS = (8, 64, 1024)
OVERLAP = 0.5  # the share of a step from the first complete bucket to the end of the backward pass; sums are free there
MARKS = "<!-- scaling-out: begin -->", "<!-- scaling-out: end -->"


# -------------------- in a rank --------------------


def rank_job(job: dict) -> None:
    """The measurements of one rank; rank 0 prints them."""
    import nbkeras as keras
    from nbkeras import layers, ops
    from nbkeras.engine import ranks
    from nbkeras.kernels.runtime import device
    from nbkeras.optimizers import reduction
    from nbkeras.testing import Recorder

    keras.distribution.initialize(timeout=None)
    keras.set_threads(1)
    parallel = keras.distribution.DataParallel()
    keras.distribution.set_distribution(parallel)
    group = ranks.current()

    def together(run: Callable[[], Any], count: int) -> list[float]:
        """Seconds of one run of the slowest rank, from several rounds that all ranks start together."""
        run()
        seconds = []
        for _ in range(job["rounds"]):
            group.exchange(None)
            begin = time.perf_counter()
            for _ in range(count):
                run()
            seconds.append((time.perf_counter() - begin) / count)
        return [max(each) for each in zip(*group.exchange(seconds), strict=True)]

    def network(name: str) -> Any:
        keras.utils.set_random_seed(1)
        if name == "mlp":
            hidden = [layers.Dense(512, "relu"), layers.Dense(512, "relu"), layers.Dense(10, "softmax")]
            return keras.Sequential([keras.Input((784,)), *hidden])
        hidden = [layers.Conv2D(size, 3, activation="relu") for size in (32, 64)]
        last = [layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10, "softmax")]
        return keras.Sequential([keras.Input((28, 28, 1)), *hidden, *last])

    def recorded(name: str) -> tuple[Any, Any]:
        model, random = network(name), np.random.default_rng(group.rank)
        x = keras.Variable(random.random((BATCH, *model.input_shape[1:])), dtype="float32", trainable=False)
        y = keras.Variable(np.eye(10)[random.integers(0, 10, BATCH)], dtype="float32", trainable=False)
        optimizer, recorder = keras.optimizers.SGD(0.01, momentum=0.9), Recorder()
        optimizer.build(model.trainable_weights)
        with device.record(recorder):
            with keras.GradientTape():
                loss = ops.mean(keras.losses.categorical_crossentropy(y, model(x, training=True)))
            optimizer.learn(loss, model.trainable_weights)
        program = recorder.sealed([]).bind()
        return program, optimizer

    def of_network(name: str, nbytes: int) -> dict:
        reduction.BUCKET = nbytes
        with parallel.scope():
            program, optimizer = recorded(name)
            step = together(program.run, job["steps"])
            with keras.profile() as profile:
                group.exchange(None)
                for _ in range(job["steps"]):
                    program.run()
        waits = max(group.exchange(profile.seconds.get("wait", 0.0) / job["steps"]))
        keras.distribution.set_distribution(None)
        alone = together(recorded(name)[0].run, job["steps"])
        keras.distribution.set_distribution(parallel)
        total = sum(view.nbytes for view in optimizer.gradient_views)
        flat = np.zeros(total // 4, np.float32)
        parts = np.array_split(flat, max(1, round(total / nbytes)))

        def sums() -> None:
            for part in parts:
                group.start_sum(part)
            group.wait()

        times = {"step": step, "alone": alone, "sums": together(sums, job["steps"])}
        return {"bytes": total, "waits": waits} | {key: statistics.median(value) for key, value in times.items()}

    def of_sums() -> list[float]:
        found = []
        for size in SIZES:
            array = np.zeros(size // 4, np.float32)
            found.append(min(together(lambda array=array: group.sum(array), 5)))
        return found

    result: dict[str, Any] = {"ranks": group.size}
    result["networks"] = {name: of_network(name, reduction.BUCKET) for name in NETWORKS}
    if job["buckets"] and group.size > 1:
        result["buckets"] = {nbytes: of_network("mlp", nbytes)["step"] for nbytes in BUCKETS}
    if group.size > 1:
        result["sums"] = of_sums()
    if group.rank == 0:
        print("RESULT " + json.dumps(result), flush=True)


# -------------------- runs --------------------


def run(command: list[str], job: dict, environment: dict[str, str] | None = None) -> dict:
    """Start a job; returns the measurements of its rank 0."""
    command = [*command, sys.executable, "-m", "benchmarks.scaling_out", "--job", json.dumps(job)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=os.environ | (environment or {}), capture_output=True, text=True)
    found = re.search("^RESULT (.*)$", done.stdout, re.M)
    if done.returncode or not found:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(found[1])


def launcher() -> str:
    """mpiexec: the one beside this Python, or else the first on the PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise RuntimeError("there is no mpiexec: pip install 'nbkeras[mpi]'")
    return found


# -------------------- the model --------------------


def constants(times: list[float]) -> tuple[float, float]:
    """(latency of a message, seconds per byte) from sums over two ranks, whose time is 2 * latency + bytes * seconds per byte."""
    small = statistics.median(t for size, t in zip(SIZES, times, strict=True) if size <= 64)
    large = [(size, t) for size, t in zip(SIZES, times, strict=True) if size >= 2**20]
    per_byte = statistics.median((t - small) / size for size, t in large)
    return small / 2, per_byte


def time_of_sum(ranks: int, nbytes: float, latency: float, per_byte: float) -> float:
    """Seconds of one sum, by recursive halving and doubling: 2 log2(N) messages, which carry 2 (N - 1) / N of the bytes."""
    return 2 * math.ceil(math.log2(ranks)) * latency + 2 * (ranks - 1) / ranks * nbytes * per_byte


def modelled(ranks: int, of: dict, alone: float, latency: float, per_byte: float, bucket: int) -> float:
    """The efficiency of a step: computation / (computation + the time of sums that the step cannot hide)."""
    count = max(1, round(of["bytes"] / bucket))
    one = time_of_sum(ranks, of["bytes"] / count, latency, per_byte)
    shown = max(one, count * one - OVERLAP * alone)
    return alone / (alone + shown)


# -------------------- tables --------------------


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def row_of(result: dict, name: str, one: dict, cores: int) -> list[str]:
    """A network's times with this many ranks; one: the times of one rank."""
    of, ranks = result["networks"][name], result["ranks"]
    cells = [name, str(ranks), *(milliseconds(of[key]) for key in ("alone", "step", "sums", "waits"))]
    hidden = 1 - min(1.0, of["waits"] / of["sums"]) if ranks > 1 else None
    against = ranks * one["networks"][name]["step"] / (of["step"] * min(ranks, cores))
    return [*cells, "" if hidden is None else f"{hidden:.0%}", f"{of['alone'] / of['step']:.0%}", f"{against:.0%}"]


HEAD = [
    "network",
    "ranks",
    "alone, ms",
    "step, ms",
    "sums, ms",
    "waits, ms",
    "hidden",
    "step / alone",
    "against 1 rank",
]


def measured(quick: bool, with_links: bool) -> str:
    """All measurements, as Markdown."""
    from nbkeras.optimizers import reduction

    cores = len(os.sched_getaffinity(0))
    job = {"rounds": 2 if quick else 7, "steps": 2 if quick else 20, "buckets": not quick}
    results = {n: run([launcher(), "-n", str(n)], job) for n in ((1, 2) if quick else (1, 2, 4))}
    one = results[1]
    text = f"Measured on {time.strftime('%Y-%m-%d')}, {cores} cores, {BATCH} samples for each rank, one thread for each.\n\n"
    text += table(HEAD, [row_of(result, name, one, cores) for name in NETWORKS for result in results.values()])
    text += "\nSums of one array over ranks in one machine's memory:\n\n"
    several = [n for n in results if n > 1]
    rows = [[f"{size:,}", *(f"{results[n]['sums'][i] * 1e6:,.0f}" for n in several)] for i, size in enumerate(SIZES)]
    text += table(["bytes", *(f"{n} ranks, us" for n in several)], rows)
    if "buckets" in results[2]:
        text += "\nSizes of buckets, the step of `mlp` with 2 ranks:\n\n"
        names = [f"{b // 1024} KiB" if b < 2**40 else "one" for b in BUCKETS]
        text += table(names, [[milliseconds(each) + " ms" for each in results[2]["buckets"].values()]])
    if with_links:
        text += "\nTwo hosts with one rank each:\n\n"
        rows, models = [], []
        for bandwidth, latency in LINKS[:1] if quick else LINKS:
            name = f"{bandwidth / 1e9:g} Gbit/s, {latency * 1e3:g} ms"
            with links.Links(2, bandwidth, latency) as hosts:
                _, *words = hosts.command(2)
                result = run([launcher(), *words], job | {"buckets": False}, hosts.environment)
            per_message, per_byte = constants(result["sums"])
            rows += [
                [name, *row_of(result, each, one, cores)[:1], *row_of(result, each, one, cores)[2:]]
                for each in NETWORKS
            ]
            for each in NETWORKS:
                alone = one["networks"][each]["alone"]
                of = result["networks"][each]
                shares = [modelled(n, of, alone, per_message, per_byte, reduction.BUCKET) for n in (2, *RANKS)]
                found = [f"{per_message * 1e6:.0f}", f"{8e-9 / per_byte:.2f}"]
                real = alone / of["step"]
                models.append([name, each, *found, f"{real:.0%}", *(f"{share:.0%}" for share in shares)])
        text += table(["link", *HEAD[:1], *HEAD[2:]], rows)
        text += "\nThe model, with the constants that were found:\n\n"
        head = ["link", "network", "latency, us", "Gbit/s", "measured, 2 hosts", *(f"{n} hosts" for n in (2, *RANKS))]
        text += table(head, models)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_out", description=__doc__)
    parser.add_argument(
        "--links", action="store_true", help="also over links of given bandwidths and latencies; as root"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps only, to try the script")
    parser.add_argument("--write", metavar="FILE", help="put the tables into this document, between its marks")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        rank_job(json.loads(arguments.job))
        return
    if arguments.links and not links.is_possible():
        parser.error("--links needs root, /dev/net/tun, ip and unshare")
    text = measured(arguments.quick, arguments.links)
    print(text)
    if arguments.write:
        file = Path(arguments.write)
        before, _, rest = file.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        file.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
