"""The disk cache of compiled kernels: notices edits in other files, does without a folder, survives a race."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import nbkeras.kernels

KERNELS = pathlib.Path(nbkeras.kernels.__file__).parent

HELPER = """
from nbkeras.kernels.cache import compiled

@compiled
def twice(x):
    return x * 2.0
"""
MIDDLE = """
from nbkeras.kernels import scratch_helper
from nbkeras.kernels.cache import compiled

@compiled
def middle(x):
    return scratch_helper.twice(x)
"""
CALLER = """
from nbkeras.kernels import (
    scratch_middle,
)
from nbkeras.kernels.cache import compiled

@compiled
def fill(x, out):
    for i in range(x.size):
        out[i] = scratch_middle.middle(x[i]) + 1.0
"""
PROGRAM = """
import numpy as np
from nbkeras.kernels import scratch_caller
out = np.empty(3)
scratch_caller.fill(np.arange(3.0), out)
print(out.tolist(), sum(scratch_caller.fill.stats.cache_hits.values()))
"""


@pytest.fixture
def scratch(tmp_path):
    """A copy of kernels/ as nbkeras.kernels, with three small files: a loop, what it calls, and what that calls."""
    package = tmp_path / "site" / "nbkeras"
    shutil.copytree(KERNELS, package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    for name, text in (("helper", HELPER), ("middle", MIDDLE), ("caller", CALLER)):
        (package / "kernels" / f"scratch_{name}.py").write_text(text)
    return tmp_path


def start(scratch, cache):
    environment = os.environ | {"PYTHONPATH": str(scratch / "site"), "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=scratch,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip(), err


def run(scratch, cache):
    return finish(start(scratch, cache))


def test_an_edit_two_files_away_changes_the_numbers(scratch):
    cache = scratch / "cache"
    assert run(scratch, cache)[0] == "[1.0, 3.0, 5.0] 0"
    assert run(scratch, cache)[0] == "[1.0, 3.0, 5.0] 1"
    helper = scratch / "site" / "nbkeras" / "kernels" / "scratch_helper.py"
    times = helper.stat()
    helper.write_text(HELPER.replace("2.0", "4.0"))
    os.utime(helper, ns=(times.st_atime_ns, times.st_mtime_ns))  # the content tells, not the time
    assert run(scratch, cache)[0] == "[1.0, 5.0, 9.0] 0"
    helper.write_text(HELPER)
    unrelated = scratch / "site" / "nbkeras" / "kernels" / "vmath.py"
    unrelated.write_text(unrelated.read_text() + "\n# an edit that does not concern the loop\n")
    assert run(scratch, cache)[0] == "[1.0, 3.0, 5.0] 0"
    assert run(scratch, cache)[0] == "[1.0, 3.0, 5.0] 1"


def test_without_a_writable_folder_it_works_and_warns_once(scratch, monkeypatch):
    """Files where the cache's folders would be: unwritable for root too."""
    blocked = scratch / "blocked"
    blocked.touch()
    (scratch / "site" / "nbkeras" / "kernels" / "__pycache__").touch()
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(blocked))
    out, err = run(scratch, blocked / "cache")
    assert out == "[1.0, 3.0, 5.0] 0"
    assert err.count("RuntimeWarning: nbkeras found no writable folder for its compiled kernels") == 1
    assert "Set NUMBA_CACHE_DIR to a writable folder" in err


def test_two_processes_compile_at_once(scratch):
    cache = scratch / "cache"
    both = [start(scratch, cache), start(scratch, cache)]
    assert [finish(process)[0].split("]")[0] for process in both] == ["[1.0, 3.0, 5.0"] * 2
    assert run(scratch, cache)[0] == "[1.0, 3.0, 5.0] 1"
