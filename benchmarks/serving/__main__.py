"""python -m benchmarks.serving [--quick] [--models mlp,lstm,cnn] [--connections 1,8,64,300] [--write docs/serving-figures.md]

Compares `nbkeras serve` with MLServer, FastAPI with onnxruntime and Flask with Keras, all with the same weights and the same
numbers of processes and threads. All servers of a model run at the same time; each round loads one after the other while the
others sleep. wrk posts the same body of the Open Inference Protocol to each (one row, JSON), and a binary tensor to nbkeras, the
only server that takes it. First, each server's answers are compared with `predict`. A figure is the median of the rounds. A
server has one processor for each of its worker processes, like a container with a limit, whatever the number of its threads; wrk
has the other processors, or all if there are none.

The Python of each peer: --peer-python fastapi=PATH (also mlserver, flask, nbkeras); benchmarks/serving/peers/ lists its packages.
"""

import argparse
import contextlib
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import nbkeras
from benchmarks.report import as_text, circumstances, write_markdown
from benchmarks.serving import load
from benchmarks.serving.load import Body, wrk
from benchmarks.serving.servers import (
    INTERPRETERS,
    PACKAGES,
    TITLES,
    Missing,
    Server,
    interpreters,
    processors,
    versions,
)
from benchmarks.session import machine
from nbkeras import layers

MODELS = {
    "mlp": "784-512-512-10",
    "lstm": "LSTM 32/32/32, Dense 10 on (8, 16)",
    "cnn": "conv 32, conv 64, pool, dense 128 on (28, 28, 1)",
}
LARGE = "784-4096-4096-10"  # for the table of memory
PUBLISHED = 1300  # requests a second over REST, of MLServer's own benchmark (300 clients, scikit-learn; an earlier version: 1849)
MAXIMUM = 64  # connections for the goal, for the load with several workers, and for the warm-up
LONGEST = 4  # seconds of a round


def model_of(name: str) -> Any:
    """An untrained model: the time of a prediction does not depend on the weights."""
    nbkeras.utils.set_random_seed(1)
    if name == "lstm":
        parts = [nbkeras.Input((8, 16)), *(layers.LSTM(32, return_sequences=more) for more in (True, True, False))]
    elif name == "cnn":
        convolutions = [layers.Conv2D(size, 3, activation="relu") for size in (32, 64)]
        parts = [nbkeras.Input((28, 28, 1)), *convolutions, layers.MaxPooling2D(2), layers.Flatten()]
        parts.append(layers.Dense(128, "relu"))
    else:
        width = 4096 if name == LARGE else 512
        parts = [nbkeras.Input((784,)), layers.Dense(width, "relu"), layers.Dense(width, "relu")]
    return nbkeras.Sequential([*parts, layers.Dense(10, "softmax")])


class Case:
    """A model in files, a request for it, and requests with their answers by `predict`."""

    def __init__(self, name: str, folder: str):
        self.name = name
        model = model_of(name)
        self.keras, self.onnx = (Path(folder) / f"{name}.{kind}" for kind in ("keras", "onnx"))
        model.save(self.keras)
        model.export(str(self.onnx), format="onnx", verbose=False)
        x = np.random.default_rng(1).random((3, *model.input_shape[1:]), "float32")
        self.answers = model.predict(x, verbose=0)
        self.bodies = {}
        for is_binary in (False, True):
            self.bodies[is_binary] = [Body(folder, model.input_names[0], row[None], is_binary) for row in x]

    def wait(self, server: Server) -> None:
        """Wait until a server answers."""
        server.wait(lambda: self.bodies[False][0].answer(server.port, server.path))

    def check(self, server: Server, is_binary: bool) -> None:
        """RuntimeError if a server's answer differs from `predict`."""
        for body, expected in zip(self.bodies[is_binary], self.answers, strict=True):
            found = body.answer(server.port, server.path)
            if found.shape != (1, 10) or not np.allclose(found[0], expected, rtol=1e-5, atol=1e-5):
                raise RuntimeError(f"{server.kind} answers {found} for {self.name}, predict {expected}")


class Load:
    """A server and the format of its requests, with the figures of all rounds by connections."""

    def __init__(self, name: str, server: Server, case: Case, seconds: int):
        self.name, self.server, self.seconds = name, server, seconds
        self.body = case.bodies[name.endswith("binary")][0]
        self.rate = 0.0  # requests a second of the last round
        self.rounds: dict[int, list[dict[str, float]]] = {}

    def run(self, connections: int, seconds: int | None = None, delay: float = 0.0) -> dict[str, float]:
        before = self.server.cpu()
        server, seconds = self.server, seconds or self.seconds
        found = wrk(server.port, server.path, self.body, connections, seconds, processors(server.workers)[1], delay)
        found["cpu"] = (self.server.cpu() - before) / max(found["requests"], 1)
        found["rate"] = (found["requests"] - found["refused"]) / found["seconds"]
        self.rate = found["rate"]
        self.server.wait_idle()
        return found

    def round(self, connections: int) -> None:
        """A slow server gets enough time to answer each connection three times."""
        seconds = math.ceil(3 * connections / max(self.rate, 1))
        self.rounds.setdefault(connections, []).append(
            self.run(connections, min(max(seconds, self.seconds), max(LONGEST, self.seconds)))
        )

    def median(self, connections: int, key: str) -> float:
        return statistics.median(each[key] for each in self.rounds[connections])

    def errors(self, connections: int) -> int:
        return int(sum(each[key] for each in self.rounds[connections] for key in ("broken", "refused", "late")))


class Benchmark:
    """All measurements, and their tables."""

    def __init__(self, options: argparse.Namespace, folder: str):
        self.options, self.folder = options, folder
        self.pythons = interpreters(options.peer_python)
        self.versions = {"wrk": load.version()}
        self.left_out: list[str] = []
        self.kinds = []
        self.rates: dict[tuple, dict[str, float]] = {}  # requests/s of each server, by (model, processes, connections)
        for kind in options.servers:
            try:
                self.versions |= versions(self.pythons[INTERPRETERS[kind]], PACKAGES[INTERPRETERS[kind]])
                self.kinds.append(kind)
            except Missing as error:
                self.left_out.append(f"{kind} ({error})")
        self.half: dict[str, Any] | None = None

    @contextlib.contextmanager
    def running(self, case: Case, workers: int) -> Any:
        """All servers with one model, compared and warm: a Load for each."""
        with contextlib.ExitStack() as stack:
            servers = {}
            for kind in self.kinds:
                file = case.onnx if kind.startswith(("fastapi", "mlserver")) else case.keras
                python = self.pythons[INTERPRETERS[kind]]
                servers[kind] = stack.enter_context(Server(kind, python, file, workers, self.options.threads))
            loads = []
            for kind, server in servers.items():
                case.wait(server)
                for name in (kind, f"{kind}-binary") if kind == "nbkeras" else (kind,):
                    case.check(server, name.endswith("binary"))
                    loads.append(Load(name, server, case, self.options.seconds))
            for each in loads:
                each.run(MAXIMUM, 1)
            yield loads

    def measure(self, case: Case, workers: int, connections: list[int]) -> dict[str, Any]:
        """The table of a model and a number of processes."""
        with self.running(case, workers) as loads:
            for _ in range(self.options.rounds):
                for count in connections:
                    for each in loads:
                        each.round(count)
            memory = {each.name: each.server.memory()["all"] for each in loads}
            if case.name == "mlp" and workers == 1 and self.options.half:
                self.half = self.half_load(loads)
        rows = []
        for count in connections:
            for each in loads:
                # a connection that waited longer than a round has no figure in it
                waits = count / each.median(count, "rate") if each.median(count, "rate") else math.inf
                told = waits < 0.5 * self.options.seconds or waits < 0.5 * LONGEST
                times = [each.median(count, key) / 1e3 if told else None for key in ("p50", "p99")]
                row = [
                    TITLES[each.name],
                    count,
                    round(each.median(count, "rate")),
                    *times,
                    each.median(count, "cpu") * 1e6,
                ]
                rows.append([*row, each.errors(count), round(memory[each.name])])
            self.rates[case.name, workers, count] = {each.name: each.median(count, "rate") for each in loads}
        processes = f"{workers} process{'es' if workers > 1 else ''} with {self.options.threads} thread each"
        columns = [
            "server",
            "connections",
            "requests/s",
            "p50, ms",
            "p99, ms",
            "us of CPU a request",
            "errors",
            "memory, MB",
        ]
        return {"title": f"{case.name}: {MODELS[case.name]}; {processes}", "columns": columns, "rows": rows}

    def half_load(self, loads: list[Load]) -> dict[str, Any]:
        """Latencies at half of a server's highest rate, on many connections that wait at random."""
        rows = []
        for each in loads:
            wanted = 0.5 * max(each.median(count, "rate") for count in each.rounds)
            delay = 1e3 * MAXIMUM / wanted
            for _ in range(2):  # the wait between two requests includes the time of an answer
                reached = each.run(MAXIMUM, 1, delay)["rate"]
                delay = max(delay + 1e3 * MAXIMUM * (1 / wanted - 1 / max(reached, 1)), 0.1)
            rounds = [each.run(MAXIMUM, max(2, self.options.seconds), delay) for _ in range(self.options.rounds)]
            rate, p50, p99 = (statistics.median(found[key] for found in rounds) for key in ("rate", "p50", "p99"))
            verdict = ("yes" if p99 < 5000 else "no") if each.name == "nbkeras" else ""
            rows.append([TITLES[each.name], round(wanted), round(rate), p50 / 1e3, p99 / 1e3, verdict])
        columns = ["server", "half of the highest, requests/s", "reached", "p50, ms", "p99, ms", "goal: p99 under 5 ms"]
        title = f"mlp at half load: {MAXIMUM} connections that wait at random between requests"
        return {"title": title, "columns": columns, "rows": rows}

    def goals(self) -> dict[str, Any]:
        """nbkeras with JSON compared with the best peer. Goals: ahead of all, and 1.5 times FastAPI at MOST connections."""
        rows = []
        for case, rates in self.rates.items():
            peers = {peer: rate for peer, rate in rates.items() if not peer.startswith("nbkeras")}
            fastapi = max((rate for peer, rate in peers.items() if peer.startswith("fastapi")), default=None)
            if "nbkeras" in rates and peers:
                own, best = rates["nbkeras"], max(peers, key=peers.__getitem__)
                is_met = own > peers[best] and (case[2] != MAXIMUM or fastapi is None or own >= 1.5 * fastapi)
                ratios = [own / peers[best] if peers[best] else None, own / fastapi if fastapi else None]
                rows.append([*case, round(own), TITLES[best], *ratios, "yes" if is_met else "no"])
        columns = [
            "model",
            "processes",
            "connections",
            "requests/s",
            "best peer",
            "times the best",
            "times FastAPI",
            "met",
        ]
        title = f"nbkeras serve with JSON. Goals: ahead of all, and 1.5 times FastAPI at {MAXIMUM} connections"
        return {"title": title, "columns": columns, "rows": rows}

    def memory(self) -> dict[str, Any]:
        """The memory for several numbers of workers, with a small and a large model."""
        rows = []
        for case in (Case("mlp", self.folder), Case(LARGE, self.folder)):
            for workers in self.options.memory:
                with Server("nbkeras", self.pythons["nbkeras"], case.keras, workers, 1) as server:
                    case.wait(server)
                    case.check(server, False)
                    wrk(server.port, server.path, case.bodies[False][0], MAXIMUM, 1, processors(0)[1])
                    found = server.memory()
                weights = sum(weight.nbytes for weight in model_of(case.name).get_weights()) / 2**20
                rows.append([MODELS.get(case.name, case.name), weights, workers, found["all"], found["private"]])
        columns = ["model", "weights, MB", "workers", "all processes, MB", "written by one worker, MB"]
        title = "Memory of `nbkeras serve` after some requests; pages that processes share are counted once"
        return {"title": title, "columns": columns, "rows": rows}


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.split("\n\n")[1])
    add = parser.add_argument
    add("--models", default=",".join(MODELS), help="of mlp, lstm, cnn")
    add("--servers", default=",".join(INTERPRETERS), help=f"of {', '.join(INTERPRETERS)}")
    add(
        "--connections",
        type=numbers,
        default=[1, 8, 64, 300],
        help="with one process; several get 64 (default 1,8,64,300)",
    )
    add("--workers", type=numbers, default=[1, 2], help="numbers of processes (default 1,2)")
    add("--threads", type=int, default=1, help="threads of the kernels of a process (default 1)")
    add("--rounds", type=int, default=3, help="rounds; all servers take turns in each (default 3)")
    add("--seconds", type=int, default=1, help="the least seconds of load in a round (default 1)")
    add(
        "--memory",
        type=numbers,
        default=[1, 2, 4, 8],
        help="numbers of workers whose memory is measured (default 1,2,4,8)",
    )
    add("--no-half", dest="half", action="store_false", help="do not measure latencies at half load")
    add("--quick", action="store_true", help="one round, few connections: only to check that everything runs")
    add("--peer-python", action="append", default=[], metavar="NAME=PATH", help="the Python of a server")
    add("--json", metavar="FILE", help="write all results to this file")
    add("--write", metavar="FILE", help="put the tables into this document, between its comments")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.connections, options.memory = 1, [1, MAXIMUM], options.memory[:1]
    options.models, options.servers = options.models.split(","), options.servers.split(",")
    for kind, chosen, known in (("model", options.models, MODELS), ("server", options.servers, INTERPRETERS)):
        for name in chosen:
            if name not in known:
                parser.error(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
    return options


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    start = time.monotonic()
    report: dict[str, Any] = {"machine": machine("cpu"), "settings": vars(options), "workloads": {}}
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(options, folder)
        report |= {"versions": benchmark.versions, "left out": benchmark.left_out}
        tables = []
        for name in options.models:
            case = Case(name, folder)
            for workers in options.workers:
                tables.append(benchmark.measure(case, workers, options.connections if workers == 1 else [MAXIMUM]))
                print(f"\n{as_text(tables[-1])}", flush=True)
        for table in (benchmark.half, benchmark.goals()):
            if table is not None and table["rows"]:
                tables.append(table)
                print(f"\n{as_text(table)}", flush=True)
        report["studies"] = {"serving": tables}
        if options.memory:
            report["studies"]["serving memory"] = [benchmark.memory()]
            print(f"\n{as_text(report['studies']['serving memory'][0])}")
    print(f"\n{circumstances(report)}")
    print(f"MLServer's own figure for REST: {PUBLISHED} requests/s. Took {time.monotonic() - start:.0f} s.")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1), encoding="utf-8")
    if options.write:
        write_markdown(options.write, [report], {})


if __name__ == "__main__":
    main()
