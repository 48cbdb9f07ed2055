"""Kernels compiled for lower levels than this processor's give right results: fewer and shorter registers, no multiply-add."""

import os
import pathlib
import subprocess
import sys

import pytest

from nbkeras.kernels.runtime import processor

pytestmark = pytest.mark.cpu("levels of vector instructions")
TESTS = pathlib.Path(__file__).parents[1]
FILES = "kernels/test_gemm.py", "engine/test_rewriting.py", "ops/test_casts.py"


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v2"])
def test_products_and_predictions_at_a_lower_level(level, tmp_path):
    if level not in processor.levels():
        pytest.skip("the processor has no higher level than this one, or this process is for another one")
    if os.environ.get("NUMBA_CPU_NAME"):
        pytest.skip("this process is for a level itself")
    environment = os.environ | processor.variables_of(level) | {"NUMBA_CACHE_DIR": str(tmp_path)}
    # -P: the working folder must not hide an installed package behind its source.
    options = ["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    options += ["-k", "product or panels or folded or interpreter_agree"]
    command = [sys.executable, *options, *(str(TESTS / f) for f in FILES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=TESTS.parent, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]  # 5 if no test was chosen
