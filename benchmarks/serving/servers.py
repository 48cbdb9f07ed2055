"""The compared servers: how each starts, and the memory of its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.runners import Missing

PEERS = Path(__file__).parent / "peers"
PACKAGES = {  # whose versions are reported
    "nbkeras": ("nbkeras", "httptools", "orjson"),
    "mlserver": ("mlserver", "onnxruntime"),
    "fastapi": ("fastapi", "onnxruntime"),
    "flask": ("flask", "gunicorn", "keras", "jax"),
}
INTERPRETERS = {
    "nbkeras": "nbkeras",
    "mlserver": "mlserver",
    "fastapi": "fastapi",
    "fastapi-pool": "fastapi",
    "flask": "flask",
}
TITLES = {
    "nbkeras": "nbkeras serve",
    "nbkeras-binary": "nbkeras serve, binary tensors",
    "mlserver": "MLServer + onnxruntime",
    "fastapi": "FastAPI + onnxruntime, on the event loop",
    "fastapi-pool": "FastAPI + onnxruntime, in a pool of threads",
    "flask": "Flask + Keras 3",
}
FLASK_THREADS = 8  # of a gunicorn process, which accept requests while one computes


def free_ports(count: int) -> list[int]:
    """Free ports."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def processors(workers: int) -> tuple[list[int], list[int]]:
    """The processors of a server and of the load: different ones, if there are enough."""
    every = sorted(os.sched_getaffinity(0))
    return every[:workers], every[workers:] or every


def versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages in a Python; Missing if one is not installed."""
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {tuple(packages)!r}}}))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tempfile.gettempdir())
    except OSError as error:
        raise Missing(f"{python} cannot be run: {error}") from None
    if done.returncode:
        raise Missing(f"{python}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return json.loads(done.stdout)


class Server:
    """A running server of one model; requests name it `model`.

    kind: a key of INTERPRETERS. file: the model, .keras or .onnx as the server needs it. workers: processes that compute.
    threads: of the kernels of each; all threads of a server together have one processor for each worker. With one worker MLServer
    computes in the process that answers HTTP, which is fastest.
    """

    def __init__(self, kind: str, python: str, file: Path, workers: int, threads: int):
        self.kind, self.workers = kind, workers
        self._folder = tempfile.TemporaryDirectory(prefix="nbkeras-benchmark-")
        self.port, *others = free_ports(4)
        environment = os.environ | {"MODEL": str(file), "THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self.path = "/v2/models/model/infer"
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        if kind == "nbkeras":
            arguments = ["-m", "nbkeras", "serve", f"model={file}", *address]
            arguments += ["--workers", str(workers), "--threads", str(threads)]
        elif kind == "mlserver":
            self._mlserver(file, workers, others)
            arguments = ["-c", "from mlserver.cli import main; main()", "start", self._folder.name]
        elif kind.startswith("fastapi"):
            environment["POOL"] = str(int(kind == "fastapi-pool"))
            arguments = ["-m", "uvicorn", "fastapi_onnxruntime:app", "--app-dir", str(PEERS), *address]
            arguments += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools"]
            arguments += ["--no-access-log", "--log-level", "warning"]
        else:
            environment |= {"KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "jax"), "TF_CPP_MIN_LOG_LEVEL": "3"}
            if threads == 1:
                environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            arguments = ["-m", "gunicorn", "flask_keras:app", "--chdir", str(PEERS), "--bind", f"127.0.0.1:{self.port}"]
            arguments += ["--worker-class", "gthread", "--workers", str(workers), "--threads", str(FLASK_THREADS)]
            arguments += ["--log-level", "warning", "--timeout", "120"]
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, *arguments],
            env=environment,
            cwd=self._folder.name,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: os.sched_setaffinity(0, processors(workers)[0]),
            start_new_session=True,  # so that its workers can be killed with it
        )

    def _mlserver(self, file: Path, workers: int, ports: Sequence[int]) -> None:
        folder = Path(self._folder.name)
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": self.port,
            "grpc_port": ports[0],
            "metrics_endpoint": None,
            "parallel_workers": workers if workers > 1 else 0,
        }
        model = {
            "name": "model",
            "implementation": "mlserver_onnxruntime.Onnx",
            "parameters": {"uri": str(file), "version": "1"},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        (folder / "mlserver_onnxruntime.py").write_text((PEERS / "mlserver_onnxruntime.py").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all its processes."""
        for sent, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
            if self._process.poll() is None:
                os.killpg(self._process.pid, sent)
                try:
                    self._process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # workers that are left
        except ProcessLookupError:
            pass
        self._log.close()
        self._folder.cleanup()

    def failure(self, reason: str) -> RuntimeError:
        self._log.seek(0)
        return RuntimeError(f"{self.kind} {reason}; its output:\n{self._log.read()[-4000:]}")

    def wait(self, ask: Callable[[], Any], seconds: float = 120.0) -> None:
        """Wait until it answers: 8 calls of `ask` succeed, each on a new connection, which any worker may get."""
        end = time.monotonic() + seconds
        answered = 0
        while answered < 8:
            if self._process.poll() is not None:
                raise self.failure(f"ended with {self._process.returncode}")
            try:
                ask()
                answered += 1
            except RuntimeError as error:
                raise self.failure(f"does not answer ({error})") from None
            except OSError as error:
                if time.monotonic() > end:
                    raise self.failure(f"does not answer after {seconds:g} s ({error})") from None
                answered = 0
                time.sleep(0.1)

    def processes(self) -> list[int]:
        """The started process and all its descendants."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    pass  # it has ended
        found = [self._process.pid]
        for each in found:
            found += [process for process, parent in parents.items() if parent == each]
        return found

    def cpu(self) -> float:
        """CPU seconds of all processes."""
        ticks = 0
        for process in self.processes():
            try:
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def wait_idle(self, seconds: float = 10.0) -> None:
        """Wait until it has finished wrk's remaining requests, which would take time from the next server."""
        end, before = time.monotonic() + seconds, -1.0
        while (now := self.cpu()) - before > 0.01 and time.monotonic() < end:
            before = now
            time.sleep(0.1)

    def memory(self) -> dict[str, float]:
        """MB of all processes: `all` counts a shared page once, `private` counts the pages that a worker has written."""
        total, private = 0.0, []
        for process in self.processes():
            fields = {}
            try:
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                name, size, *_ = line.split()
                fields[name] = int(size) / 1024
            total += fields["Pss:"]
            private.append(fields["Private_Dirty:"])
        return {"all": total, "private": max(private)}


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """The Python of each server, from --peer-python NAME=PATH."""
    found = dict.fromkeys(PACKAGES, sys.executable)
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or name not in PACKAGES:
            raise SystemExit(f"--peer-python is NAME=PATH, NAME of {', '.join(PACKAGES)}; received {text}")
        found[name] = path
    return found
