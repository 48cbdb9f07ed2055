"""Several processes that train together end with the numbers of one process: the models are in ranks_script.py."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).with_name("ranks_script.py")
LAUNCHER = shutil.which("mpiexec", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
pytestmark = [
    pytest.mark.skipif(
        LAUNCHER is None or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and mpiexec"
    ),
    pytest.mark.cpu("the processes compute on the CPU"),
]


def run(folder, ranks, *arguments):
    """Run the script in so many processes, 0 for one without MPI; returns what it prints."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, arguments)]
    command = command if ranks == 0 else [str(LAUNCHER), "-n", str(ranks), *command]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def check(found, expected, tolerance):
    found, expected = dict(np.load(found)), dict(np.load(expected))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process, by floatx."""
    folder = tmp_path_factory.mktemp("alone")
    paths = {floatx: folder / f"{floatx}.npz" for floatx in ("float64", "float32")}
    for floatx, path in paths.items():
        run(folder, 0, floatx, path)
    return paths


@pytest.mark.parametrize(
    ("floatx", "ranks", "tolerance"), [("float64", 1, 1e-10), ("float64", 2, 1e-10), ("float32", 4, 1e-5)]
)
def test_several_processes_end_with_the_numbers_of_one(tmp_path, alone, floatx, ranks, tolerance):
    run(tmp_path, ranks, floatx, tmp_path / "found.npz")
    check(tmp_path / "found.npz", alone[floatx], tolerance)


def test_three_processes_and_what_each_does_by_itself(tmp_path, alone):
    printed = run(tmp_path, 3, "float64", tmp_path / "found.npz", tmp_path)
    check(tmp_path / "found.npz", alone["float64"], 1e-10)
    assert printed.count("Epoch 1/2") == printed.count("Epoch 2: finished saving model") == 1
    assert printed.count("ReduceLROnPlateau reducing") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert {path.name for path in tmp_path.glob("*.h5")} == {"1.weights.h5", "2.weights.h5"}


def test_training_resumes_with_another_number_of_processes(tmp_path):
    run(tmp_path, 0, "float64", tmp_path / "alone.npz", tmp_path / "of one", 1000)
    run(tmp_path, 2, "float64", tmp_path / "found.npz", tmp_path / "backup", 6)  # in the middle of the second epoch
    assert not (tmp_path / "found.npz").exists()
    run(tmp_path, 3, "float64", tmp_path / "found.npz", tmp_path / "backup", 1000)
    check(tmp_path / "found.npz", tmp_path / "alone.npz", 1e-10)
