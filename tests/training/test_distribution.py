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
pytestmark = pytest.mark.skipif(
    LAUNCHER is None or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and mpiexec"
)


def results(folder, floatx, ranks):
    """What the script found with so many processes; 0 for one process without MPI."""
    path = folder / f"{floatx} {ranks}.npz"
    command = [sys.executable, str(SCRIPT), floatx, str(path)]
    command = command if ranks == 0 else [str(LAUNCHER), "-n", str(ranks), *command]
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(np.load(path))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return {floatx: results(folder, floatx, 0) for floatx in ("float64", "float32")}


@pytest.mark.parametrize(
    ("floatx", "ranks", "tolerance"), [("float64", 3, 1e-10), ("float32", 4, 1e-5), ("float64", 2, 1e-10)]
)
def test_several_processes_end_with_the_numbers_of_one(tmp_path, alone, floatx, ranks, tolerance):
    expected, found = alone[floatx], results(tmp_path, floatx, ranks)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
