"""The disk cache of compiled kernels: notices edits in other files, does without a folder or a whole file, survives a race."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import nbkeras.kernels
from nbkeras.kernels import cache as cache_module

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


def start(scratch, cache, program=PROGRAM):
    environment = os.environ | {"PYTHONPATH": str(scratch / "site"), "NUMBA_CACHE_DIR": str(cache)}
    # Python itself tells files by time and size, which an edit here may keep: no bytecode on disk.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.Popen(
        [sys.executable, "-c", program],
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


def run(scratch, cache, program=PROGRAM):
    return finish(start(scratch, cache, program))


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


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: content[::-1],
}


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_file_is_replaced_with_one_warning(scratch, kind):
    cache = scratch / "cache"
    run(scratch, cache)
    (path,) = cache.rglob(f"scratch_caller.fill*.{kind}")
    for name, damage in DAMAGES.items():
        path.write_bytes(damage(path.read_bytes()))
        out, err = run(scratch, cache)
        assert out == "[1.0, 3.0, 5.0] 0", name
        assert err.count("RuntimeWarning") == 1 and f"nbkeras could not read {path} of its cache" in err, name
    assert run(scratch, cache) == ("[1.0, 3.0, 5.0] 1", "")


FULL_DISK = """
import resource
from nbkeras.kernels import scratch_caller
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # room for an index, none for data
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_full_disk_loses_no_computation_and_leaves_nothing_stale(scratch):
    """The index is written and its data are not: the data before the edit still lie there under the same name."""
    cache = scratch / "cache"
    run(scratch, cache)
    (scratch / "site" / "nbkeras" / "kernels" / "scratch_helper.py").write_text(HELPER.replace("2.0", "4.0"))
    out, err = run(scratch, cache, FULL_DISK + PROGRAM)
    assert out == "[1.0, 5.0, 9.0] 0"
    assert err.count("RuntimeWarning") == 1 and f"could not save a compiled kernel in {cache}" in err
    assert run(scratch, cache) == ("[1.0, 5.0, 9.0] 0", "")
    assert run(scratch, cache) == ("[1.0, 5.0, 9.0] 1", "")


FOLDER_GONE = """
import os, pathlib, shutil
from nbkeras.kernels import scratch_caller
shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).touch()
"""


def test_a_folder_that_becomes_unwritable_loses_no_computation(scratch):
    out, err = run(scratch, scratch / "cache", FOLDER_GONE + PROGRAM)
    assert out == "[1.0, 3.0, 5.0] 0"
    assert err.count("RuntimeWarning") == 1 and "could not save a compiled kernel" in err


OTHER_SIGNATURE = """
import numpy as np
from nbkeras.kernels import scratch_caller
out = np.empty(3, np.float32)
scratch_caller.fill(np.arange(3, dtype=np.float32), out)
print(out.tolist(), sum(scratch_caller.fill.stats.cache_hits.values()))
"""


def test_data_of_another_signature_are_not_taken(scratch):
    """What two processes leave that compile two signatures at once: both call their data number 1."""
    cache, other = scratch / "cache", scratch / "other"
    run(scratch, cache)
    run(scratch, other, OTHER_SIGNATURE)
    for path in other.rglob("scratch_caller.fill*.nbc"):
        shutil.copy(path, cache / path.relative_to(other))
    assert run(scratch, cache) == ("[1.0, 3.0, 5.0] 0", "")
    assert run(scratch, cache, OTHER_SIGNATURE) == ("[1.0, 3.0, 5.0] 0", "")
    assert run(scratch, cache) == ("[1.0, 3.0, 5.0] 1", "")


COUNT_READS = """
import atexit, collections, sys
reads = collections.Counter()
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith((".nbi", ".nbc")) and reads.update([args[0]]))
atexit.register(lambda: print(sorted(reads.values())))
from nbkeras.kernels import scratch_caller
print(sorted(reads.values()))
"""


def test_a_warm_start_reads_index_and_data_once_and_only_what_it_calls(scratch):
    cache = scratch / "cache"
    run(scratch, cache)
    assert run(scratch, cache, COUNT_READS + PROGRAM)[0].splitlines() == ["[]", "[1.0, 3.0, 5.0] 1", "[1, 1]"]


PROMPT = """
from nbkeras.kernels.cache import compiled

@compiled
def twice(x):
    return 2 * x

print(twice(1.5), twice.stats.cache_path)
"""


def test_what_is_typed_at_a_prompt_is_not_cached_and_nobody_is_warned(scratch):
    assert run(scratch, scratch / "cache", PROMPT) == ("3.0 None", "")


def test_a_users_kernel_notices_that_nbkeras_was_updated(scratch):
    (scratch / "mine.py").write_text(CALLER)
    program = PROGRAM.replace("from nbkeras.kernels import scratch_caller", "import mine as scratch_caller")
    cache = scratch / "cache"
    assert run(scratch, cache, program) == ("[1.0, 3.0, 5.0] 0", "")
    assert run(scratch, cache, program) == ("[1.0, 3.0, 5.0] 1", "")
    (scratch / "site" / "nbkeras" / "kernels" / "scratch_helper.py").write_text(HELPER.replace("2.0", "4.0"))
    assert run(scratch, cache, program) == ("[1.0, 5.0, 9.0] 0", "")


@pytest.mark.parametrize(
    "text",
    [
        "from nbkeras.kernels import dense, vmath",
        "from nbkeras.kernels import (\n    dense,\n    vmath as v,\n)",
        "from nbkeras.kernels.vmath import exp",
        "import math, nbkeras.kernels.vmath as v",
        "def f():\n    import nbkeras.kernels.vmath",
        "from nbkeras import kernels\nkernels.vmath.exp",
    ],
)
def test_every_spelling_of_an_import_counts(text):
    assert "vmath" in cache_module._imported(text)


TRAIN = """
import numpy as np
from numba.core import event
import nbkeras
from nbkeras import layers

with event.install_recorder("numba:compile") as compilations:
    nbkeras.utils.set_random_seed(1)
    model = nbkeras.Sequential(
        [layers.Input((20,)), layers.Dense(16, activation="relu"), layers.Dropout(0.2), layers.Dense(4, activation="softmax")]
    )
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(2).random((96, 20), dtype=np.float32), np.eye(4, dtype=np.float32)[np.arange(96) % 4]
    history = model.fit(x, y, epochs=3, verbose=0).history
print(history["loss"], float(model.predict(x).sum()))
print(len(compilations.buffer) > 0)
"""


@pytest.mark.slow
def test_four_processes_start_at_once_with_an_empty_cache(tmp_path):
    def begin():
        return start(tmp_path, tmp_path / "cache", TRAIN)

    results = [finish(process) for process in [begin() for _ in range(4)]]
    assert len(set(results)) == 1
    values, compiled = results[0][0].splitlines()
    assert (compiled, results[0][1]) == ("True", "")
    assert finish(begin()) == (f"{values}\nFalse", "")
    assert not list(tmp_path.rglob("*.tmp.*"))
