"""NUMBA_BOUNDSCHECK=1: an index outside of an array is an exception that names kernel and line; other runs have no checks."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.cpu("loops of the CPU")

# Each kernel uses the number at x[at[0]] or y[at[0]], an array of 4 in the middle of a larger one.
KERNELS = """
from nbkeras.kernels.loops import flat_access, noalias
from nbkeras.kernels.loops.gemm import gemm, gemm_at, gemm_ended, gemm_own
from nbkeras.kernels.loops.integer_gemm import add_product
from nbkeras.kernels.runtime.cache import compiled

@compiled
def element(x, i):
    return x[i]

@compiled
def read(x, at, y):
    y[0] = x[at[0]]

@compiled
def write(x, at, y):
    y[at[0]] = x[0]

@compiled
def read_in_a_helper(x, at, y):
    y[0] = element(x, at[0])

@compiled
def read_a_matrix(x, at, y):
    y[0] = x.reshape(2, 2)[at[0] // 2, 1]

@compiled
def load(x, at, y):
    y[0] = flat_access.load(x, at[0])

@compiled
def store(x, at, y):
    flat_access.store(y, at[0], x[0])

@compiled
def load_apart(x, at, y):
    y[0] = noalias.load(x, at[0])

@compiled
def store_apart(x, at, y):
    noalias.store(y, at[0], x[0])

@compiled
def multiply(x, at, y):
    gemm(0, 0, 1, 1, 1, x, at[0], 1, x, 0, 1, x.dtype.type(0), y, 0, 1)

@compiled
def multiply_into(x, at, y):
    gemm(0, 0, 1, 1, 1, x, 0, 1, x, 0, 1, x.dtype.type(0), y, at[0], 1)

@compiled
def multiply_long_rows(x, at, y):
    gemm(1, 1, 1, 2, 2, x, 0, 2, x, 0, at[0], x.dtype.type(0), y, 0, 2)

@compiled
def multiply_and_add(x, at, y):
    gemm_ended(0, 0, 1, 1, 1, x, 0, 1, x, 0, 1, x.dtype.type(0), y, 0, 1, x, at[0], 1)

@compiled
def multiply_by_a_table(x, at, y):
    gemm_at(0, 1, 1, 1, x, 0, at, 0, 1, x, 0, 1, x.dtype.type(0), y, 0, 1, x, 0, 0)

@compiled
def multiply_by_a_short_table(x, at, y):
    gemm_at(0, 1, 1, 1, x, 0, at, 1, at[0] + 1, x, 0, 1, x.dtype.type(0), y, 0, 1, x, 0, 0)

@compiled
def multiply_columns(x, at, y):
    gemm_own(1, 1, 1, x, 0, at, 0, 1, x, 0, 1, x.dtype.type(0), y, 0, 1, x, 0, 0)

@compiled
def multiply_bytes(x, at, y):
    add_product(1, 1, 1, x, 0, 1, x, at[0], 1, y, 0, 1)

@compiled
def share_of(x, at, y, share, shares):
    y[share] = x[at[0] // 2 + share]
"""

RUN = """
import sys
import numba
if sys.argv[2:] == ["config"]:
    numba.config.BOUNDSCHECK = 1
import numpy as np
import mine
from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import Kernel
from nbkeras.kernels.runtime.threads import launch_shares

def tell(call):
    try:
        call()
    except IndexError as error:
        print(kernel.__name__, error, *error.__notes__, sep="|")
    else:
        print(kernel.__name__)

x, y = (device.persistent(np.ones(64, np.float32)[16:20]) for _ in range(2))
at = device.persistent(np.zeros(64, np.int64)[16:18])
kernels = [kernel for kernel in vars(mine).values() if isinstance(kernel, Kernel) and kernel.__module__ == "mine"]
for kernel in kernels[1:]:
    launch = (lambda: launch_shares(kernel, 2, x, at, y)) if kernel.takes_shares else lambda: device.launch(kernel, x, at, y)
    recorder = Recorder()
    with device.record(recorder):
        launch()
    program = recorder.sealed([]).bind()
    for at[0] in map(int, sys.argv[1].split()):
        tell(launch)
        tell(program.run)
    at[0] = 0
    program.run()
print(sum(kernel.compiled for kernel in kernels))
"""


def run(folder, indices, setting, *arguments):
    """The lines that RUN prints, in a process with this NUMBA_BOUNDSCHECK, and how many kernels it compiled."""
    (folder / "mine.py").write_text(KERNELS)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_BOUNDSCHECK"}
    environment |= {"PYTHONPATH": str(folder)} | setting
    command = [sys.executable, "-c", RUN, indices, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    *lines, count = done.stdout.splitlines()
    assert len(lines) == 2 * COUNT * len(indices.split())
    return [line.split("|") for line in lines], int(count)


COUNT = KERNELS.count("(x, at, y")


def test_an_index_outside_of_an_array_is_an_exception_where_indices_are_checked_and_only_there(tmp_path):
    # what is stored for processes without checks has none: not those of `numba.config`, which no later process knows
    for arguments, compiled in ((["config"], COUNT), ([], 0)):
        lines, count = run(tmp_path, "6", {}, *arguments)
        assert count == compiled and all(len(line) == 1 for line in lines)
    for compiled in (COUNT, 0):
        lines, count = run(tmp_path, "6 -20", {"NUMBA_BOUNDSCHECK": "1"})
        assert count == compiled
        for position, (name, *told) in enumerate(lines):
            source, file = KERNELS.splitlines(), tmp_path / "mine.py"
            # of `@compiled`, from 1
            first = next(i for i, line in enumerate(source) if line.startswith(f"def {name}("))
            line = source.index("    return x[i]") + 1 if name == "read_in_a_helper" else first + 2
            where = " in a recorded step" * (position % 2)
            note = f"raised by the kernel '{name}' ({file}:{first}){where}, at {file}:{line}"
            assert told == ["index is out of bounds", note]
