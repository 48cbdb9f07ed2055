"""Programs as Keras's guides and examples teach them run with `python -m nbkeras --keras 3` as they are.

Each file in guides/ ran with Keras 3.15.1 as well, on the TensorFlow backend (custom_train_step.py on JAX, because TensorFlow's
optimizers have no `stateless_apply`). Here they run with a fixed seed: some assert that a loss fell after a few steps, which one
of 15 seeds does not give, here and in Keras.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted((HERE / "guides").glob("*.py"))


@pytest.mark.cpu("a GPU computes the same layers in tests of their own; each process would compile for it")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_runs_as_it_is(path):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # an installed TensorFlow would be imported in place of nbkeras's names of it
    options = ["--tensorflow"] if "import tensorflow" in path.read_text(encoding="utf-8") else []
    command = [sys.executable, "-P", "-m", "nbkeras", "--keras", "3", *options, str(HERE / "seeded.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
