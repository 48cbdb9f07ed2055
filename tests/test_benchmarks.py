"""`python -m benchmarks` runs, with tiny settings and without peers, and its table and file hold what it measured."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_mlp_alone(tmp_path):
    file = tmp_path / "results.json"
    tiny = ["--steps", "3", "--rounds", "2", "--epochs", "2", "--json", str(file)]
    done = benchmarks("mlp", "--peers", "none", *tiny)
    assert done.returncode == 0, done.stderr
    assert "mlp: 784-512-512-10" in done.stdout
    assert "669,706 parameters" in done.stdout
    result = json.loads(file.read_text())["workloads"]["mlp"]["nbkeras"]
    assert result["count"] == 4  # rounds times epochs
    assert 0 < result["least"] <= result["median"] <= result["p99"]
    assert result["losses"][-1] < result["losses"][0]
    assert result["first"] > 0 and result["peak"] > 0


def test_a_peer_that_is_not_installed_is_left_out(tmp_path):
    python = tmp_path / "python"  # an interpreter without site-packages
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    done = benchmarks("import", "--peers", "torch", "--python", str(python), "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "torch is left out: ModuleNotFoundError" in done.stderr
    assert "nbkeras" in done.stdout


def test_unknown_names_are_answered_with_the_known_ones():
    done = benchmarks("mpl")
    assert done.returncode == 2
    assert "unknown workload 'mpl'" in done.stderr
    assert "lstm_stack" in done.stderr


@pytest.mark.parametrize("name", ["mlp", "lstm_stack", "headline", "tweets", "cnn", "lstm_imdb"])
def test_labels_are_a_function_of_the_inputs_and_no_class_is_rare(name):
    module = runpy.run_path(str(ROOT / "benchmarks" / "workloads.py"))
    xs, ys = module["data"](module["WORKLOADS"][name], 10)
    again = module["data"](module["WORKLOADS"][name], 10)
    for one, other in zip([*xs, *ys], [*again[0], *again[1]], strict=True):
        np.testing.assert_array_equal(one, other)
    for y in ys:
        shares = y.mean(axis=0) if y.shape[1] > 1 else np.array([y.mean(), 1 - y.mean()])
        assert shares.min() > 0.02
