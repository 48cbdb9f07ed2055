"""`python -m benchmarks --device cuda`, at its smallest: in the simulator its figures mean nothing, but all of it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import twins

ROOT = Path(__file__).parents[3]
pytestmark = twins.needs_cuda


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The file and the output of a run of the GPU's studies and a small workload."""
    file = tmp_path_factory.mktemp("run") / "results.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "kernels", "equality", "toy", "--device", "cuda"]
    command += ["--quick", "--peers", "none", "--json", str(file)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_kernels_beside_their_floors(run):
    report, printed = run
    limits, kernels = report["studies"]["kernels"]
    assert all(value > 0 for name, value in limits["rows"] if name in ("copy kernel", "driver's copy", "rate"))
    for row in kernels["rows"]:
        values = dict(zip(kernels["columns"], row, strict=True))
        assert (
            values["/ floor"] == pytest.approx(values["nbkeras, us"] / values["floor, us"]) and values["floor, us"] > 0
        )
    families = {re.match("[a-z]+", row[0])[0] for row in kernels["rows"]}
    assert families >= {"gemm", "dense", "lstm", "conv", "softmax", "adam"}
    assert "kernels: A kernel's time" in printed


def test_losses_are_those_of_the_cpu(run):
    report, printed = run
    [row] = report["studies"]["equality"][0]["rows"]
    assert row[0] == "toy" and row[1] < 1e-4 and row[2] > 0
    assert "toy: losses on the GPU as on the CPU" in printed and "not measured" in printed


def test_a_workload_on_the_gpu(run):
    report, _ = run
    result = report["workloads"]["toy"]["nbkeras"]
    assert result["count"] == 2 and result["gpu"] > 0 and result["losses"]
