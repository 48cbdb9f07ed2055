"""The disk cache of compiled kernels: notices edits in other files, does without a folder or a whole file, survives a race."""

import errno
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc
import warnings

import pytest

import nbkeras.kernels
from nbkeras.kernels.runtime import cache_files, code

KERNELS = pathlib.Path(nbkeras.kernels.__file__).parent

HELPER = """
from nbkeras.kernels.runtime.cache import compiled

@compiled
def twice(x):
    return x * 2.0
"""
MIDDLE = """
from nbkeras.kernels import scratch_helper
from nbkeras.kernels.runtime.cache import compiled

@compiled
def middle(x):
    return scratch_helper.twice(x)
"""
CALLER = """
from nbkeras.kernels import (
    scratch_middle,
)
from nbkeras.kernels.runtime.cache import compiled

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
print(out.tolist(), scratch_caller.fill.found)
"""


def edit_helper(scratch, factor="4.0"):
    """What two files away is called: the results change."""
    path = scratch / "site" / "nbkeras" / "kernels" / "scratch_helper.py"
    path.write_text(HELPER.replace("2.0", factor))
    return path


@pytest.fixture
def scratch(tmp_path):
    """A copy of kernels/ as nbkeras.kernels, with three small files: a loop, what it calls, and what that calls."""
    package = tmp_path / "site" / "nbkeras"
    shutil.copytree(KERNELS, package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    for name, text in (("helper", HELPER), ("middle", MIDDLE), ("caller", CALLER)):
        (package / "kernels" / f"scratch_{name}.py").write_text(text)
    return tmp_path


def start(scratch, program=PROGRAM, cache=None):
    environment = os.environ | {"PYTHONPATH": str(scratch / "site"), "NUMBA_CACHE_DIR": str(cache or scratch / "cache")}
    environment["PYTHONSAFEPATH"] = ""  # else no program could import the files beside it
    # Python itself tells files by time and size, which an edit here may keep: no bytecode on disk.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], cwd=scratch, env=environment, **pipes)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip(), err


def run(scratch, program=PROGRAM, cache=None):
    return finish(start(scratch, program, cache))


def test_an_edit_two_files_away_changes_the_numbers(scratch):
    assert run(scratch) == ("[1.0, 3.0, 5.0] 0", "")
    assert run(scratch) == ("[1.0, 3.0, 5.0] 1", "")
    times = (scratch / "site" / "nbkeras" / "kernels" / "scratch_helper.py").stat()
    helper = edit_helper(scratch)
    os.utime(helper, ns=(times.st_atime_ns, times.st_mtime_ns))  # the content decides, not the time
    assert run(scratch) == ("[1.0, 5.0, 9.0] 0", "")
    helper.write_text(HELPER)
    unrelated = scratch / "site" / "nbkeras" / "kernels" / "loops" / "vmath.py"
    unrelated.write_text(unrelated.read_text() + "\n# an edit that does not concern the loop\n")
    assert run(scratch) == ("[1.0, 3.0, 5.0] 1", "")  # the kernels from before the edit are still there


SHARED_FORMULAS = r"""
import pathlib
import numpy as np
import nbkeras.kernels
from nbkeras.kernels.runtime import code; from nbkeras.kernels import optimizers

for path in sorted(pathlib.Path(nbkeras.kernels.__file__).parent.rglob("*.py")):
    if path.stem == "row_updates" and "kernels import optimizers" in path.read_text():
        print(path.parent.name, code.stamp(str(path)))
w = np.ones(1)
optimizers.sgd(w, np.ones(1), np.full(1, 0.25), 0.0, 0, 1)
print(w[0])
"""


def test_an_edit_of_an_update_rule_is_noticed_by_the_kernels_on_the_cpu_and_on_the_gpu(scratch):
    def look():
        lines = run(scratch, SHARED_FORMULAS)[0].splitlines()
        return {tuple(line.split()) for line in lines[:-1]}, float(lines[-1])

    before, weight = look()
    assert weight == 0.75 and look() == (before, weight)
    (rules,) = (scratch / "site" / "nbkeras" / "kernels").glob("optimizers.py")
    rules.write_text(rules.read_text().replace("return w - w * shrink - g * lr", "return w - w * shrink + g * lr"))
    after, weight = look()
    assert weight == 1.25
    assert len(before) == len(after) == 2 and not before & after  # row_updates and its twin, whose loops use the rules


READ_ONLY = """
import errno, os, sys

def refuse(event, args):
    if event == "open" and str(args[0]).startswith(os.environ["NUMBA_CACHE_DIR"]) and args[2] & (os.O_WRONLY | os.O_RDWR):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

sys.addaudithook(refuse)
"""


def test_a_folder_that_may_only_be_read_is_read(scratch):
    """An image may ship such a folder, on a file system that is read-only or belongs to another user."""
    cache = scratch / "cache"
    run(scratch)
    assert run(scratch, READ_ONLY + PROGRAM) == ("[1.0, 3.0, 5.0] 1", "")
    out, err = run(scratch, READ_ONLY + OTHER_SIGNATURE)
    assert out == "[1.0, 3.0, 5.0] 0"
    assert err.count("RuntimeWarning") == 1
    assert f"could not save a compiled kernel in {cache}" in err and os.strerror(errno.EROFS) in err


def test_without_a_folder_it_works_and_warns_once(scratch):
    """A file stands where the folder would be: root cannot write there either."""
    blocked = scratch / "blocked"
    blocked.touch()
    out, err = run(scratch, cache=blocked / "cache")
    assert out == "[1.0, 3.0, 5.0] 0"
    assert err.count("RuntimeWarning: nbkeras could not save a compiled kernel") == 1
    assert "set NUMBA_CACHE_DIR to a folder where this user can write" in err


def test_processes_that_belong_together_keep_in_a_spare_folder_what_they_can_keep_nowhere_else(scratch, monkeypatch):
    monkeypatch.setenv(cache_files.SPARE, str(scratch / "spare"))
    (scratch / "blocked").touch()
    out, err = run(scratch, cache=scratch / "blocked" / "cache")
    assert out == "[1.0, 3.0, 5.0] 0" and err.count("could not save a compiled kernel") == 1
    assert run(scratch, cache=scratch / "blocked" / "cache") == ("[1.0, 3.0, 5.0] 1", "")
    kept = sorted((scratch / "spare").iterdir())
    assert run(scratch)[0] == "[1.0, 3.0, 5.0] 1"
    assert sorted((scratch / "spare").iterdir()) == kept and not (scratch / "cache").exists()


def test_checkouts_share_a_folder_without_replacing_each_other_s_files(scratch):
    cache = scratch / "cache"
    other = scratch / "other"
    shutil.copytree(scratch / "site", other / "site")
    edit_helper(other)
    assert [run(scratch)[0], run(other, cache=cache)[0]] == ["[1.0, 3.0, 5.0] 0", "[1.0, 5.0, 9.0] 0"]
    assert [run(scratch)[0], run(other, cache=cache)[0]] == ["[1.0, 3.0, 5.0] 1", "[1.0, 5.0, 9.0] 1"]
    edit_helper(other, "2.0")
    assert run(other, cache=cache)[0] == "[1.0, 3.0, 5.0] 1"  # the same files are the same kernels


def test_two_processes_compile_at_once(scratch):
    both = [start(scratch), start(scratch)]
    assert [finish(process)[0].split("]")[0] for process in both] == ["[1.0, 3.0, 5.0"] * 2
    assert run(scratch)[0] == "[1.0, 3.0, 5.0] 1"


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "a part of zeros": lambda content: content[:512] + bytes(512) + content[1024:],
    "a bit": lambda content: content[:700] + bytes([content[700] ^ 1]) + content[701:],
    "garbage": lambda content: content[::-1],
}


def test_a_damaged_file_is_replaced_with_one_warning(scratch):
    cache = scratch / "cache"
    run(scratch)
    (path,) = cache.rglob("scratch_caller.fill*.nbc")
    whole = path.read_bytes()
    assert len(whole) > 1024
    for name, damage in DAMAGES.items():
        path.write_bytes(damage(whole))
        out, err = run(scratch)
        assert out == "[1.0, 3.0, 5.0] 0", name
        assert (
            err.count("RuntimeWarning") == 1 and f"the compiled kernel {path} in nbkeras's cache is damaged" in err
        ), name
    assert run(scratch) == ("[1.0, 3.0, 5.0] 1", "")


FULL_DISK = """
import resource
from nbkeras.kernels import scratch_caller
resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_full_disk_loses_no_computation_and_leaves_nothing(scratch):
    cache = scratch / "cache"
    run(scratch)
    edit_helper(scratch)
    out, err = run(scratch, FULL_DISK + PROGRAM)
    assert out == "[1.0, 5.0, 9.0] 0"
    assert err.count("RuntimeWarning") == 1 and f"could not save a compiled kernel in {cache}" in err
    assert not list(cache.rglob("*.tmp"))
    assert run(scratch) == ("[1.0, 5.0, 9.0] 0", "")
    assert run(scratch) == ("[1.0, 5.0, 9.0] 1", "")


FOLDER_GONE = """
import os, pathlib, shutil
from nbkeras.kernels import scratch_caller
shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).touch()
"""


def test_a_folder_that_becomes_unwritable_loses_no_computation(scratch):
    run(scratch)
    out, err = run(scratch, FOLDER_GONE + PROGRAM)
    assert out == "[1.0, 3.0, 5.0] 0"
    assert err.count("RuntimeWarning") == 1 and "could not save a compiled kernel" in err


OTHER_SIGNATURE = """
import numpy as np
from nbkeras.kernels import scratch_caller
out = np.empty(3, np.float32)
scratch_caller.fill(np.arange(3, dtype=np.float32), out)
print(out.tolist(), scratch_caller.fill.found)
"""


def test_code_of_another_signature_is_not_taken(scratch):
    cache = scratch / "cache"
    run(scratch)
    (first,) = cache.rglob("scratch_caller.fill*.nbc")
    run(scratch, OTHER_SIGNATURE)
    (other,) = set(cache.rglob("scratch_caller.fill*.nbc")) - {first}
    shutil.copy(other, first)
    out, err = run(scratch)
    assert out == "[1.0, 3.0, 5.0] 0" and f"the compiled kernel {first} in nbkeras's cache is damaged" in err


COUNT_READS = """
import atexit, collections, sys
reads = collections.Counter()
# an `opener` calls os.open, which is an event of its own, without a mode
is_read = lambda event, args: event == "open" and str(args[0]).endswith(".nbc") and args[1] is not None
sys.addaudithook(lambda event, args: is_read(event, args) and reads.update([args[0]]))
atexit.register(lambda: print(sorted(reads.values())))
from nbkeras.kernels import scratch_caller
print(sorted(reads.values()))
"""


def test_a_warm_start_reads_only_what_it_calls_and_once(scratch):
    run(scratch)
    assert run(scratch, COUNT_READS + PROGRAM)[0].splitlines() == ["[]", "[1.0, 3.0, 5.0] 1", "[1, 1]"]


HEARD = """
import numpy as np
from nbkeras.kernels.runtime import cache; from nbkeras.kernels import scratch_caller
heard = []
with cache.compilations(lambda: heard.append(1)):
    scratch_caller.fill(np.arange(3.0), np.empty(3))
scratch_caller.fill(np.arange(3, dtype=np.float32), np.empty(3))
print(len(heard))
"""


def test_a_listener_hears_of_what_is_compiled_and_not_of_what_is_found(scratch):
    assert run(scratch, HEARD) == ("2", "")  # fill, and what starts kernels
    assert run(scratch, HEARD) == ("0", "")


PROMPT = """
from nbkeras.kernels.runtime.cache import compiled

@compiled
def twice(x):
    return 2 * x

print(twice(1.5))
"""


def test_what_is_typed_at_a_prompt_is_not_cached_and_nobody_is_warned(scratch):
    assert run(scratch, PROMPT) == ("3.0", "")
    assert not list((scratch / "cache").rglob("*twice*"))


def test_a_users_kernel_notices_that_nbkeras_was_updated(scratch):
    (scratch / "mine.py").write_text(CALLER)
    program = PROGRAM.replace("from nbkeras.kernels import scratch_caller", "import mine as scratch_caller")
    assert run(scratch, program) == ("[1.0, 3.0, 5.0] 0", "")
    assert run(scratch, program) == ("[1.0, 3.0, 5.0] 1", "")
    edit_helper(scratch)
    assert run(scratch, program) == ("[1.0, 5.0, 9.0] 0", "")


def test_a_users_files_in_two_folders_do_not_share(scratch):
    """The user's other files that they import have no stamp."""
    caller = CALLER.replace(
        "from nbkeras.kernels import (\n    scratch_middle,\n)", "import mine_middle as scratch_middle"
    )
    for folder, number in (("one", "2.0"), ("two", "4.0")):
        (scratch / folder).mkdir()
        (scratch / folder / "mine_caller.py").write_text(caller)
        (scratch / folder / "mine_middle.py").write_text(HELPER.replace("2.0", number).replace("twice", "middle"))
    program = PROGRAM.replace("from nbkeras.kernels import scratch_caller", "import mine_caller as scratch_caller")
    found = [run(scratch, f"import sys; sys.path.insert(0, {folder!r})\n{program}")[0] for folder in ("one", "two")]
    assert found == ["[1.0, 3.0, 5.0] 0", "[1.0, 5.0, 9.0] 0"]


GLOBAL_ARRAY = """
import numpy as np
from nbkeras.kernels.runtime.cache import compiled

TABLE = np.arange(200_000.0)

@compiled
def look_up(x):
    for i in range(x.size):
        x[i] = TABLE[i + 1]
"""


def test_a_kernel_that_another_process_cannot_use_is_not_kept(scratch):
    """Its code has the address of an array."""
    (scratch / "mine.py").write_text(GLOBAL_ARRAY)
    program = "import numpy as np, mine\nmine.look_up(x := np.ones(2))\nprint(x.tolist(), mine.look_up.found)"
    for _ in range(2):
        out, err = run(scratch, program)
        assert out == "[1.0, 2.0] 0"
        assert err.count("RuntimeWarning") == 1
        assert "could not save a compiled kernel mine.look_up" in err and "pass the array as an argument" in err


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """The folder that is the user's for caches, as cache_files finds it."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("_make_folder", "_check_folder", "_prune", "warn_not_saved"):
        monkeypatch.setattr(cache_files, name, functools.cache(getattr(cache_files, name).__wrapped__))
    monkeypatch.setattr(cache_files, "_ignored", set())
    return pathlib.Path(cache_files.folders()[0])


def test_the_users_folder_is_the_users_alone(users_folder, tmp_path):
    assert users_folder.is_relative_to(tmp_path) and users_folder.name == "nbkeras"
    cache_files.write("a.nbc", b"content")
    assert cache_files.read("a.nbc") == b"content"
    assert os.name == "nt" or users_folder.stat().st_mode & 0o777 == 0o700


POSIX = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")


def refused(why):
    """The warning, once, that a folder is ignored."""
    return pytest.warns(RuntimeWarning, match=f"ignores compiled kernels in .*, because .*{why} and kernels run with")


def forget_checks():
    """What another process does not know."""
    cache_files._check_folder.cache_clear()
    cache_files._ignored.clear()


@POSIX
def test_a_users_folder_where_others_can_write_is_not_used(users_folder):
    cache_files.write("a.nbc", b"content")
    users_folder.chmod(0o777)
    forget_checks()
    with refused("others can write there"):
        assert cache_files.read("a.nbc") is None
    cache_files.write("b.nbc", b"content")  # and no second warning
    assert not (users_folder / "b.nbc").exists()


@pytest.fixture
def chosen_folder(users_folder, tmp_path, monkeypatch):
    """The folder in NUMBA_CACHE_DIR, which nobody made yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen" / "cache"))
    return pathlib.Path(cache_files.folders()[0])


@POSIX
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077], ids=oct)
def test_others_can_write_neither_files_nor_folders_whatever_the_umask_is(chosen_folder, umask):
    before = os.umask(umask)
    try:
        cache_files.write("a.nbc", b"content")
        cache_files.put(str(chosen_folder / "a.txt"), b"content")
    finally:
        os.umask(before)
    made = [*chosen_folder.iterdir(), *list(chosen_folder.parents)[:2], chosen_folder]
    assert len(made) == 5 and not [path for path in made if path.stat().st_mode & 0o022]
    forget_checks()
    assert cache_files.read("a.nbc") == b"content"


@POSIX
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646], ids=oct)
def test_files_that_others_can_write_are_ignored_with_one_warning_and_replaced(chosen_folder, mode):
    for name in ("a.nbc", "b.nbc"):
        cache_files.write(name, b"content")
        (chosen_folder / name).chmod(mode)
    with refused("others can write a.nbc"):
        assert cache_files.read("a.nbc") is None
    assert cache_files.read("b.nbc") is None
    cache_files.write("a.nbc", b"content")
    assert cache_files.read("a.nbc") == b"content"


def _sparse(path):
    with open(path, "wb") as file:
        file.truncate(10 << 30)


ODD_FILES = {
    "pipe": os.mkfifo if hasattr(os, "mkfifo") else None,
    "link to a device": lambda path: os.symlink("/dev/zero", path),
    "link to nothing": lambda path: os.symlink("/nowhere/at/all", path),
    "no content": lambda path: open(path, "wb").close(),
    "10 GB without content": _sparse,
    "folder": os.mkdir,
}


@POSIX
@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_file_of_a_kernel_counts_as_absent_and_is_replaced(chosen_folder, kind):
    cache_files.write("b.nbc", b"content")
    ODD_FILES[kind](chosen_folder / "a.nbc")
    tracemalloc.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert cache_files.read("a.nbc") is None
        cache_files.write("a.nbc", b"new content")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    said = {"no content": "is damaged", "10 GB without content": "is damaged", "folder": "could not save"}.get(kind)
    assert [said in str(each.message) for each in caught] == [True] * (said is not None)
    assert cache_files.read("a.nbc") == (None if kind == "folder" else b"new content")


@POSIX
@pytest.mark.parametrize("kind", ["pipe", "link to nothing", "no content"])
def test_what_is_no_folder_for_kernels_holds_none(chosen_folder, kind):
    os.makedirs(chosen_folder.parent)
    ODD_FILES[kind](chosen_folder)
    assert cache_files.read("a.nbc") is None
    with pytest.warns(RuntimeWarning, match="could not save a compiled kernel in"):
        cache_files.write("a.nbc", b"content")


def as_another_user(monkeypatch, path):
    """From now on this process is not the owner of a file or folder; nor is root."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


@POSIX
@pytest.mark.parametrize("where", ["folder", "file", "link"])
def test_what_another_user_owns_is_ignored(chosen_folder, monkeypatch, where):
    cache_files.write("a.nbc", b"content")
    if where == "link":
        chosen_folder.rename(chosen_folder.parent / "other")
        chosen_folder.symlink_to("other")
    forget_checks()
    assert cache_files.read("a.nbc") == b"content"
    forget_checks()
    as_another_user(monkeypatch, chosen_folder / "a.nbc" if where == "file" else chosen_folder)
    with refused("another user made this link|user number [0-9]+ can write (there|a.nbc)"):
        assert cache_files.read("a.nbc") is None


@POSIX
def test_a_folder_in_one_like_tmp_is_used_and_not_one_that_others_can_replace(chosen_folder):
    cache_files.write("a.nbc", b"content")
    chosen_folder.parent.chmod(0o1777)
    forget_checks()
    assert cache_files.read("a.nbc") == b"content"
    chosen_folder.parent.chmod(0o777)
    forget_checks()
    with refused("others can put another folder in its place"):
        assert cache_files.read("a.nbc") is None


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG's rule")
def test_without_a_home_nothing_is_written_anywhere(users_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="there is no home directory"):
        cache_files.write("a.nbc", b"content")
    assert cache_files.read("a.nbc") is None and not list(tmp_path.iterdir())


def test_files_used_longest_ago_make_room(users_folder, monkeypatch):
    monkeypatch.setattr(cache_files, "_MAX_BYTES", 300)
    for day, name in enumerate(["old.nbc", "read.nbc", "new.nbc", "newest.nbc"]):
        cache_files.write(name, bytes(100))
        os.utime(users_folder / name, (day * 86400 + 1e9,) * 2)
    assert cache_files.read("read.nbc") == bytes(100)  # reading marks it as used
    cache_files._prune.cache_clear()
    cache_files.write("last.nbc", bytes(100))
    assert sorted(path.name for path in users_folder.iterdir()) == ["last.nbc", "newest.nbc", "read.nbc"]


@pytest.mark.parametrize(
    "text",
    [
        "from nbkeras.kernels.loops import gemm, vmath",
        "from nbkeras.kernels.loops import (\n    gemm,\n    vmath as v,\n)",
        "from nbkeras.kernels.loops.vmath import exp",
        "import math, nbkeras.kernels.loops.vmath as v",
        "def f():\n    import nbkeras.kernels.loops.vmath",
        "from nbkeras import kernels\nkernels.loops.vmath.exp",
    ],
)
def test_every_spelling_of_an_import_counts(text):
    assert os.path.join("loops", "vmath.py") in code.imported(text)


def test_a_name_that_a_package_gives_counts_as_the_package():
    assert code.imported("from nbkeras.kernels import compiled, device") == ["__init__.py"]
    assert code.imported("from nbkeras.kernels.cuda import kernel") == [os.path.join("cuda", "__init__.py")]
    assert code.imported("kernels are loops") == []


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


def test_four_processes_start_at_once_with_an_empty_cache(tmp_path):
    def begin():
        return start(tmp_path, TRAIN)

    results = [finish(process) for process in [begin() for _ in range(4)]]
    assert len(set(results)) == 1
    values, compiled = results[0][0].splitlines()
    assert (compiled, results[0][1]) == ("True", "")
    assert finish(begin()) == (f"{values}\nFalse", "")
    assert not list(tmp_path.rglob("*.tmp.*"))


ONE_PRODUCT = """
import numpy as np
from nbkeras import ops
from nbkeras.kernels.runtime import code
from numba.core import event

def products():
    return sorted(name for name in code._addresses if "gemm" in name)

ops.relu(np.ones(10, np.float32))
print(products())
with event.install_recorder("numba:compile") as compilations:
    print(ops.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)).numpy().sum())
print(products(), len(compilations.buffer) > 0)
"""


def test_what_kernels_call_by_a_symbol_is_made_when_the_first_of_them_is(tmp_path):
    """It is compiled or loaded then. The product in the other dtype, which takes seconds to compile, is not."""
    for compiles in (True, False):
        out, err = run(tmp_path, ONE_PRODUCT)
        assert out.splitlines() == ["[]", "24.0", f"['nbkeras_sgemm'] {compiles}"]


DISABLED = """
import numpy as np
from nbkeras import layers, ops
from nbkeras.kernels import elementwise, optimizers
from mine import double

double.py_func(x := np.ones(3))
print(x.tolist())
for use in (lambda: layers.Dense(3)(np.ones((2, 4))), lambda: ops.relu(np.ones(100_000)), lambda: double(x)):
    try:
        use()
    except RuntimeError as error:
        print(error)
"""
MINE = """
from nbkeras.kernels.runtime.cache import compiled

@compiled
def double(x):
    for i in range(x.size):
        x[i] *= 2
"""


def test_without_numba_s_compiler_kernels_say_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    lines = run(tmp_path, DISABLED)[0].splitlines()
    assert lines[0] == "[2.0, 2.0, 2.0]" and len(lines) == 4
    for line in lines[1:]:
        assert "must be compiled, and NUMBA_DISABLE_JIT is set: unset it." in line and "py_func" in line
