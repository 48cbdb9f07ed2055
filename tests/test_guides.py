"""Programs as Keras's guides and examples teach them run with `python -m nbkeras --keras 3` as they are.

Each file in guides/ ran with Keras 3.15.1 as well, on the TensorFlow backend (custom_train_step.py on JAX, because TensorFlow's
optimizers have no `stateless_apply`).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "guides").glob("*.py"))


@pytest.mark.cpu("a GPU computes the same layers in tests of their own; each process would compile for it")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_runs_as_it_is(path):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", "nbkeras", "--keras", "3", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
