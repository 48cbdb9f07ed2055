"""The processes that measure: one for each framework and workload, started and controlled from here."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent
SCRIPTS = {
    "nbkeras": "run_keras.py",
    "nbkeras-1": "run_keras.py",
    "nbkeras-jit": "run_keras.py",
    "keras-jax": "run_keras.py",
    "keras-tensorflow": "run_keras.py",
    "keras-torch": "run_keras.py",
    "torch": "run_torch.py",
    "torch-tf32": "run_torch.py",
    "torch-compile": "run_torch.py",
    "jax": "run_jax.py",
    "onnxruntime": "run_files.py",
    "onnxruntime-1": "run_files.py",
    "litert": "run_files.py",
    "litert-2": "run_files.py",
    "openvino": "run_files.py",
    "openvino-2": "run_files.py",
}
VARIANTS = {
    "torch-tf32": "torch",
    "torch-compile": "torch",
    "onnxruntime-1": "onnxruntime",
    "litert-2": "litert",
    "openvino-2": "openvino",
}
# The suffixes of files with networks that frameworks read, and the frameworks that write these files
FILES = {"onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite"}
WRITERS = {".npz": "nbkeras", ".onnx": "nbkeras", ".tflite": "keras-tensorflow"}
PEERS = {  # by device
    "cpu": tuple(name for name in SCRIPTS if name not in ("nbkeras", "nbkeras-jit", "torch-tf32")),
    "cuda": ("torch", "torch-tf32", "torch-compile", "jax"),
}
IMPORTS = {
    "nbkeras": "import nbkeras",
    "keras-jax": "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras",
    "keras-tensorflow": "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras",
    "keras-torch": "import os; os.environ['KERAS_BACKEND'] = 'torch'; import keras",
    "torch": "import torch",
    "jax": "import jax",
    "onnxruntime": "import onnxruntime",
    "litert": "import ai_edge_litert.interpreter",
    "openvino": "import openvino",
}


class Missing(RuntimeError):
    """A framework is not installed in the chosen Python, or finds no GPU."""


_PATIENCE = 300.0  # seconds; the slowest answer on two cores took 16: the first epoch of mobilenet in Keras on JAX


class Failed(RuntimeError):
    """A process stopped with an error."""


class Process:
    """A process that answers requests, which are lines on its standard input. `ready` is its first message."""

    def __init__(self, framework: str, command: list[str], environment: dict):
        self.framework = framework
        self._errors = tempfile.TemporaryFile("w+")
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),  # not the repository, because its folders would hide installed packages
        )
        try:
            self.ready = self.answer() | {"start": time.perf_counter() - start}
        except BaseException:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to a request. A process that does not answer is ended: a peer may hang."""
        patience = threading.Timer(_PATIENCE, self._process.kill)
        patience.start()
        try:
            line = self._process.stdout.readline()  # type: ignore[union-attr]
        finally:
            patience.cancel()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        raise failure(self.framework, self._process.returncode, self._errors.read())

    def ask(self, request: str) -> None:
        """Send a request without waiting for the answer."""
        self._process.stdin.write(request + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()


class Runner(Process):
    """A process with one workload in one framework (protocol.py); it is ready after its first epoch."""

    def round(self) -> dict[str, Any]:
        """Measure one round: {'times': seconds per step, 'peak' and 'gpu': MB, 'losses': one per round}."""
        self.ask("round")
        return self.answer()

    def write(self, path: str) -> None:
        """Write the network, or its weights for '.npz', to a file."""
        self.ask(f"write {path}")
        self.answer()

    def first_losses(self, count: int) -> list[float]:
        """The losses of the first training steps of a model that starts with the same weights in every process."""
        self.ask(f"losses {count}")
        return self.answer()["losses"]

    def calls_per_second(self, threads: int, seconds: float) -> float | None:
        """Predictions of one sample per second from several Python threads at once; None if the framework fails."""
        self.ask(f"threads {threads} {seconds}")
        return self.answer()["calls"]


def output(command: list[str], environment: dict) -> str:
    """The output of a command; Missing if a module is not installed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tempfile.gettempdir())
    if done.returncode:
        raise failure(" ".join(command[:3]), done.returncode, done.stderr)
    return done.stdout


def failure(what: str, code: int, report: str) -> Exception:
    """The exception for a process that stopped, depending on its error output."""
    last = (report.strip().splitlines() or [""])[-1]
    if "ModuleNotFoundError" in last or "NoGpu" in last:
        return Missing(last)
    return Failed(f"{what} stopped with exit code {code}:\n{report[-4000:]}")


def import_seconds(framework: str, python: str, environment: dict) -> float:
    """Seconds of the import in a new process, without the start of Python."""
    code = f"import time; t = time.perf_counter(); {IMPORTS[framework]}; print('took', time.perf_counter() - t)"
    return float(output([python, "-c", code], environment).split("took")[1])


def script_results(python: str, script: str, *arguments: str, environment: dict) -> Any:
    """The results of a study's script, which writes them in JSON as its last line."""
    return json.loads(output([python, str(FOLDER / script), *arguments], environment).splitlines()[-1])


def main_job_seconds(environment: dict) -> float:
    """Seconds of `nbkeras digits --epochs 1`, from the start of the process to its end."""
    start = time.perf_counter()
    output([sys.executable, "-m", "nbkeras", "digits", "--epochs", "1"], environment)
    return time.perf_counter() - start
