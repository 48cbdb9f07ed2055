"""Compiled kernels that come with the package: the file of objects, and processes that use it without a compiler."""

import base64
import functools
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import warnings

import pytest

from nbkeras.kernels import elementwise, quantized
from nbkeras.kernels.runtime import code, pack, processor
from nbkeras.kernels.runtime.cache import Kernel

pytestmark = pytest.mark.cpu("objects for a level of processors")
ROOT = pathlib.Path(__file__).parents[2]
MAKE = ROOT / "scripts" / "make_wheels.py"
OBJECTS = {bytes([i]) * pack.KEY_BYTES: bytes([i]) * (10 + i) for i in (7, 1, 200, 3)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder as the package's, and functions that remember nothing of another one."""
    monkeypatch.setattr(processor, "_PACKS", str(tmp_path))
    for module, names in ((pack, "of _warn"), (processor, "level levels extras key pack_file has")):
        for name in names.split():
            monkeypatch.setattr(module, name, functools.cache(getattr(module, name).__wrapped__))
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NBKERAS_EXTRAS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def on_a_processor(monkeypatch, *flags):
    """Let this processor have these flags of /proc/cpuinfo."""
    monkeypatch.setattr(processor, "_cpu_info", lambda: {"flags": " ".join(flags)})


def written(folder, target, objects=None, description=None):
    """The path of a file of objects."""
    path = folder / f"{target}.pack"
    path.write_bytes(pack.packed(objects or {}, {"target": target} if description is None else description))
    return str(path)


def test_a_file_gives_each_object_by_its_key(folder):
    path = written(folder, "a", OBJECTS)
    assert {key: pack.find(path, key) for key in OBJECTS} == OBJECTS
    assert pack.find(path, b"\x05" * pack.KEY_BYTES) is None and pack.find(path, b"\xff" * pack.KEY_BYTES) is None
    assert pack.of(path).description == {"target": "a"} and pack.of(path).count == len(OBJECTS)
    assert pack.find(written(folder, "b"), b"\0" * pack.KEY_BYTES) is None


def test_a_damaged_object_is_not_used_and_others_are(folder):
    content = pathlib.Path(written(folder, "a", OBJECTS)).read_bytes()
    (folder / "a.pack").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    keys = sorted(OBJECTS)
    assert pack.find(str(folder / "a.pack"), keys[0]) == OBJECTS[keys[0]]
    with pytest.warns(RuntimeWarning, match=r"cannot use compiled kernels of .*a\.pack: an object is damaged"):
        assert pack.find(str(folder / "a.pack"), keys[-1]) is None


def damaged(content):
    """The content with a bit changed and cut, at places in all regions, and what is no pack."""
    for place in range(0, len(content), 3):
        yield content[:place]
        yield content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
    yield from (b"x" * 500, content * 2, b"\0" * len(content))


def test_whatever_is_damaged_there_is_one_warning_and_no_wrong_object(folder):
    path, keys = pathlib.Path(written(folder, "a", OBJECTS)), sorted(OBJECTS)
    content = path.read_bytes()
    for other in damaged(content):
        path.write_bytes(other)
        pack.of.cache_clear()
        pack._warn.cache_clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = [pack.find(str(path), key) for key in keys]
        lost = [key for key, each in zip(keys, found, strict=True) if each is None]
        assert all(each in (None, OBJECTS[key]) for key, each in zip(keys, found, strict=True))
        assert [str(each.message).endswith("pip install --force-reinstall nbkeras") for each in caught] == [
            True
        ] * bool(lost)
        assert lost or other.startswith(content)


@pytest.mark.parametrize("description", [{"target": "x86-64-v4"}, {"target": "aarch64"}, {}], ids=str)
def test_a_file_for_other_processors_is_not_used_whatever_its_name(folder, description):
    path = written(folder, "x86-64-v3", OBJECTS, description)
    with pytest.warns(RuntimeWarning, match="it holds kernels for (x86-64-v4|aarch64|None), whose instructions may be"):
        assert [pack.find(path, key) for key in OBJECTS] == [None] * len(OBJECTS)


def test_a_file_that_an_update_replaces_while_a_process_uses_it(folder):
    path, keys = written(folder, "a", OBJECTS), sorted(OBJECTS)
    assert pack.find(path, keys[0]) == OBJECTS[keys[0]]
    (folder / "new").mkdir()
    os.replace(written(folder / "new", "a", {keys[1]: b"new"}), path)
    assert [pack.find(path, key) for key in keys] == [None, b"new", None, None]
    os.unlink(path)
    with pytest.warns(RuntimeWarning, match="cannot use compiled kernels of .*No such file"):
        assert pack.find(path, keys[1]) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file(folder):
    os.mkfifo(folder / "a.pack")
    with pytest.warns(RuntimeWarning, match=r"a\.pack' is a named pipe, not an ordinary file"):
        assert pack.find(str(folder / "a.pack"), b"\0" * pack.KEY_BYTES) is None


def test_the_level_of_a_process_is_the_best_one_in_the_package(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v4"], "avx512_vnni", "avx_vnni")
    assert processor.levels() == ["x86-64-v4", "x86-64-v3", "x86-64-v2"]
    written(folder, "x86-64-v3")
    assert (processor.level(), processor.pack_file()) == ("x86-64-v3", str(folder / "x86-64-v3.pack"))
    assert not processor.has("avx512f") and processor.has("avx2"), "kernels of the level have no longer vectors"
    assert processor.extras() == ("avxvnni",) and processor.key() == "x86-64-v3+avxvnni"


def test_instructions_above_a_level(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v4"], "avx512_vnni", "avx_vnni")
    written(folder, "x86-64-v3")
    written(folder, "x86-64-v4")
    assert processor.extras() == ("avx512vnni",) and processor.key() == "x86-64-v4+avx512vnni"
    assert processor.has("avx512vnni") and not processor.has("avx512bf16") and not processor.has("avxvnni")


def test_a_processor_below_all_levels_uses_no_file(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v2"])
    written(folder, "x86-64-v3")
    assert (processor.level(), processor.pack_file()) == ("", "")


def test_a_chosen_processor_uses_only_its_own_file(folder, monkeypatch):
    written(folder, "x86-64-v3")
    monkeypatch.setenv("NUMBA_CPU_NAME", "znver4")
    assert (processor.level(), processor.pack_file()) == ("", "")


def test_another_kind_of_machine_has_one_file(folder, monkeypatch):
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    on_a_processor(monkeypatch)
    written(folder, "aarch64")
    assert (processor.level(), processor.pack_file()) == ("", str(folder / "aarch64.pack"))


def test_code_is_found_in_the_package_by_the_instructions_that_its_file_asks_for(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v4"], "avx512_vnni")
    (folder / "x86-64-v4.pack").write_bytes(b"")
    asks, plain = (
        next(
            each.py_func
            for each in vars(module).values()
            if type(each) is Kernel and each.__module__ == module.__name__
        )
        for module in (quantized, elementwise)
    )
    assert code.asked_extras(asks) == ["avx512vnni"] and code.asked_extras(plain) == []
    keys = {name: code.pack_key(function, "types") for name, function in (("asks", asks), ("plain", plain))}
    written(folder, "x86-64-v4", {key: name.encode() for name, key in keys.items()})
    assert code.find(asks, "types") == b"asks" and code.find(plain, "types") == b"plain"
    monkeypatch.setattr(processor, "extras", lambda: ())
    assert code.pack_key(asks, "types") != keys["asks"] and code.pack_key(plain, "types") == keys["plain"]


# -------------------- processes --------------------

KERNEL = """
from nbkeras.kernels.runtime.cache import compiled

@compiled
def fill(x, out):
    for i in range(x.size):
        out[i] = x[i] * 2.0 + 1.0
"""
PROGRAM = """
import sys
if "without" in sys.argv:
    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] in ("numba", "llvmlite"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Absent)
import numpy as np
from nbkeras.kernels import scratch_kernel
x = np.arange(3, dtype=sys.argv[1])
out = np.empty_like(x)
scratch_kernel.fill(x, out)
print(out.tolist(), scratch_kernel.fill.found, "numba" in sys.modules)
"""


@pytest.fixture
def site(tmp_path):
    """A copy of kernels/ as nbkeras.kernels, with one more kernel."""
    package = tmp_path / "site" / "nbkeras"
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__", "packed"))
    (package / "__init__.py").touch()
    (package / "kernels" / "scratch_kernel.py").write_text(KERNEL)
    return tmp_path


def run(site, *args, stdin=None, **variables):
    """Runs Python with the copy; returns its output and its errors."""
    names = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NBKERAS_EXTRAS", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {
        "PYTHONPATH": str(site / "site"),
        "PYTHONSAFEPATH": "",
        "NUMBA_CACHE_DIR": str(site / "cache"),
        **variables,
    }
    done = subprocess.run([sys.executable, *args], cwd=site, env=environment, input=stdin, capture_output=True)
    return done.stdout, done.stderr.decode()


@pytest.mark.process
@pytest.mark.skipif("x86-64-v3" not in processor.levels(), reason="the processor has no AVX2")
def test_a_kernel_of_the_package_runs_without_a_compiler_and_without_a_cache(site):
    used = site / "used.txt"
    output, error = run(site, "-c", PROGRAM, "float32", NBKERAS_USED_KERNELS=str(used), NUMBA_CPU_NAME="x86-64-v3")
    assert output == b"[1.0, 3.0, 5.0] 0 True\n", error
    with used.open("ab") as notes:  # of programs' own kernels; one that `exec` defined has no module
        notes.writelines(base64.b64encode(pickle.dumps((module, "own", None))) + b"\n" for module in (None, "__main__"))
    read = f"import sys; sys.path.insert(0, {str(MAKE.parent)!r}); import pathlib, pickle, make_wheels; "
    read += f"sys.stdout.buffer.write(pickle.dumps(make_wheels.wanted(pathlib.Path({str(used)!r}))))"
    jobs, error = run(site, "-c", read)
    names = {name for _, name, _ in pickle.loads(jobs)}
    assert "own" not in names and {"fill", "nbkeras_start"} <= names, error
    made, error = run(site, str(MAKE), "--part", stdin=jobs, **processor.variables_of("x86-64-v3"))
    objects, failures = pickle.loads(made)
    assert len(objects) == len(names) and not failures, error
    packed = site / "site" / "nbkeras" / "kernels" / "packed"
    packed.mkdir()
    listed, error = run(
        site, "-c", "import json; from nbkeras.kernels.runtime import code; print(json.dumps(code.sources()))"
    )
    written(packed, "x86-64-v3", objects, {"target": "x86-64-v3", "sources": json.loads(listed)})
    nowhere = {"NUMBA_CACHE_DIR": "/proc/nowhere"}  # nobody can write there, not even root
    assert run(site, "-c", PROGRAM, "float32", "without", **nowhere) == (b"[1.0, 3.0, 5.0] 1 False\n", "")
    # Neither does an application of compiled Python files alone, with whatever folder they name.
    shutil.copytree(site / "site", site / "application" / "site")
    compile_all = (
        "import compileall; compileall.compile_dir('site', quiet=1, legacy=True, stripdir='site', prependdir='gone')"
    )
    _, error = run(site / "application", "-c", compile_all)
    for path in (site / "application" / "site").rglob("*.py"):
        path.unlink()
    assert run(site / "application", "-c", PROGRAM, "float32", "without", **nowhere) == (
        b"[1.0, 3.0, 5.0] 1 False\n",
        "",
    )
    # With Numba, a kernel for other types is compiled for the package's level.
    output, error = run(site, "-c", PROGRAM, "float64")
    assert output == b"[1.0, 3.0, 5.0] 0 True\n", error
    # Without it, the error says what is missing.
    output, error = run(site, "-c", PROGRAM, "int16", "without", **nowhere)
    assert (
        not output
        and "the kernel 'fill' for int16 of rank 1, int16 of rank 1 is not among the compiled kernels" in error
    )
    assert "pip install 'nbkeras[compiler]'" in error
    # An edited source has other code than the package's.
    source = site / "site" / "nbkeras" / "kernels" / "scratch_kernel.py"
    source.write_text(re.sub(r"2\.0", "4.0", KERNEL))
    output, error = run(site, "-c", PROGRAM, "float32")
    assert output == b"[1.0, 5.0, 9.0] 0 True\n", error
