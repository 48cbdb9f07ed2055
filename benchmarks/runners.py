"""The processes that do the work: one for each framework and workload, started and asked from here."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCRIPTS = {
    "nbkeras": "run_keras.py",
    "keras-jax": "run_keras.py",
    "keras-tensorflow": "run_keras.py",
    "torch": "run_torch.py",
    "jax": "run_jax.py",
    "onnxruntime": "run_onnxruntime.py",
}
IMPORTS = {
    "nbkeras": "import nbkeras",
    "keras-jax": "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras",
    "keras-tensorflow": "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras",
    "torch": "import torch",
    "jax": "import jax",
}


class Missing(Exception):
    """A framework that is not installed there."""


class Runner:
    """A process that has one workload ready in one framework. `ready` is what it said after its first epoch."""

    def __init__(self, framework: str, python: str, workload: str, steps: int, epochs: int, environment: dict):
        command = [python, str(FOLDER / SCRIPTS[framework]), framework, workload, str(steps), str(epochs)]
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
            cwd=tempfile.gettempdir(),  # not the repository, whose folders would hide installed packages
        )
        try:
            self.ready = self._answer() | {"start": time.perf_counter() - start}
        except BaseException:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        report = self._errors.read().strip()
        if "ModuleNotFoundError" in report.splitlines()[-1]:
            raise Missing(report.splitlines()[-1])
        raise RuntimeError(f"{self.framework} stopped with exit code {self._process.returncode}:\n{report[-4000:]}")

    def round(self) -> dict[str, Any]:
        """Measure once more: {'times': seconds per step, 'peak': MB, 'losses': one per round}."""
        self._process.stdin.write("round\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return self._answer()

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


def import_seconds(framework: str, python: str, environment: dict) -> float:
    """Seconds that the import takes in a new process, after Python itself has started."""
    code = f"import time; t = time.perf_counter(); {IMPORTS[framework]}; print('took', time.perf_counter() - t)"
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env=environment, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        raise Missing(last) if "ModuleNotFoundError" in last else RuntimeError(f"{framework}: {done.stderr[-4000:]}")
    return float(done.stdout.split("took")[1])


def main_job_seconds(environment: dict) -> float:
    """Seconds of `nbkeras digits --epochs 1`, from the start of the process to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "nbkeras", "digits", "--epochs", "1"]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tempfile.gettempdir())
    return time.perf_counter() - start
