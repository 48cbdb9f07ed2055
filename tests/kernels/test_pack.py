"""Compiled kernels that come with the package: the file of objects, and processes that use it without a compiler."""

import base64
import functools
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

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
    of_processor = (
        processor.level,
        processor.levels,
        processor.extras,
        processor.key,
        processor.pack_file,
        processor.has,
    )
    for module, functions in ((pack, (pack.of, pack._warn)), (processor, of_processor)):
        for function in functions:
            monkeypatch.setattr(module, function.__name__, functools.cache(function.__wrapped__))
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NBKERAS_EXTRAS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def on_a_processor(monkeypatch, *flags):
    """Let this processor have these flags of /proc/cpuinfo."""
    monkeypatch.setattr(processor, "_cpu_info", lambda: {"flags": " ".join(flags)})


def test_a_file_gives_each_object_by_its_key():
    made = pack.Pack(pack.packed(OBJECTS, {"target": "x"}))
    assert {key: made.find(key) for key in OBJECTS} == OBJECTS
    assert made.find(b"\x05" * pack.KEY_BYTES) is None and made.find(b"\xff" * pack.KEY_BYTES) is None
    assert made.description == {"target": "x"} and made.count == len(OBJECTS)
    assert pack.Pack(pack.packed({}, None)).find(b"\0" * pack.KEY_BYTES) is None


def test_a_damaged_object_is_not_used(folder):
    content = pack.packed(OBJECTS, {})
    (folder / "a.pack").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    keys = sorted(OBJECTS)
    assert pack.find(str(folder / "a.pack"), keys[0]) == OBJECTS[keys[0]]
    with pytest.warns(RuntimeWarning, match=r"cannot use compiled kernels of .*a\.pack: an object is damaged"):
        assert pack.find(str(folder / "a.pack"), keys[-1]) is None


@pytest.mark.parametrize("content", [b"", b"nbkpack1", b"x" * 500], ids=["empty", "short", "other"])
def test_a_damaged_file_is_not_used(folder, content):
    (folder / "a.pack").write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"cannot use compiled kernels of .*pip install --force-reinstall nbkeras"):
        assert pack.find(str(folder / "a.pack"), b"\0" * pack.KEY_BYTES) is None


def test_a_file_cut_off_in_its_table_is_not_used(folder):
    (folder / "a.pack").write_bytes(pack.packed(OBJECTS, {})[:60])
    with pytest.warns(RuntimeWarning, match="its start is damaged"):
        assert pack.find(str(folder / "a.pack"), b"\0" * pack.KEY_BYTES) is None


def test_the_level_of_a_process_is_the_best_one_in_the_package(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v4"], "avx512_vnni", "avx_vnni")
    assert processor.levels() == ["x86-64-v4", "x86-64-v3", "x86-64-v2"]
    (folder / "x86-64-v3.pack").write_bytes(pack.packed({}, {}))
    assert (processor.level(), processor.pack_file()) == ("x86-64-v3", str(folder / "x86-64-v3.pack"))
    assert not processor.has("avx512f") and processor.has("avx2"), "kernels of the level have no longer vectors"
    assert processor.extras() == ("avxvnni",) and processor.key() == "x86-64-v3+avxvnni"


def test_instructions_above_a_level(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v4"], "avx512_vnni", "avx_vnni")
    (folder / "x86-64-v3.pack").write_bytes(pack.packed({}, {}))
    (folder / "x86-64-v4.pack").write_bytes(pack.packed({}, {}))
    assert processor.extras() == ("avx512vnni",) and processor.key() == "x86-64-v4+avx512vnni"
    assert processor.has("avx512vnni") and not processor.has("avx512bf16") and not processor.has("avxvnni")


def test_a_processor_below_all_levels_uses_no_file(folder, monkeypatch):
    on_a_processor(monkeypatch, *processor.LEVELS["x86-64-v2"])
    (folder / "x86-64-v3.pack").write_bytes(pack.packed({}, {}))
    assert (processor.level(), processor.pack_file()) == ("", "")


def test_a_chosen_processor_uses_only_its_own_file(folder, monkeypatch):
    (folder / "x86-64-v3.pack").write_bytes(pack.packed({}, {}))
    monkeypatch.setenv("NUMBA_CPU_NAME", "znver4")
    assert (processor.level(), processor.pack_file()) == ("", "")


def test_another_kind_of_machine_has_one_file(folder, monkeypatch):
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    on_a_processor(monkeypatch)
    (folder / "aarch64.pack").write_bytes(pack.packed({}, {}))
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
    (folder / "x86-64-v4.pack").write_bytes(pack.packed({key: name.encode() for name, key in keys.items()}, {}))
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
    (packed / "x86-64-v3.pack").write_bytes(pack.packed(objects, {}))
    nowhere = {"NUMBA_CACHE_DIR": "/proc/nowhere"}  # nobody can write there, not even root
    assert run(site, "-c", PROGRAM, "float32", "without", **nowhere) == (b"[1.0, 3.0, 5.0] 1 False\n", "")
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
