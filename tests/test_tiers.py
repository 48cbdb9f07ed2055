"""The tiers of tests, as tests/conftest.py has them: which tests a command runs, and that unit tests are fast."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

TESTS = pathlib.Path(__file__).parent
TIERS = {
    "test_one.py": """
import pytest

def test_a_unit():
    pass

@pytest.mark.soak
def test_a_soak():
    pass
""",
    "serving/test_http.py": "def test_a_server(): pass",
    "gallery/test_three.py": "def test_an_example(): pass",
}
TIMES = {
    "test_times.py": """
import importlib
import subprocess
import sys
import time

import numba
import numpy
import pytest
from nbkeras import kernels

LOOP = "import time; end = time.process_time() + 1.1\\nwhile time.process_time() < end: pass"

def test_long():
    exec(LOOP)

def test_long_in_a_process():
    subprocess.run([sys.executable, "-c", LOOP])

def test_failing():
    exec(LOOP)
    raise ValueError("the reason of the test itself")

def test_compiling():
    numba.njit(lambda: 1)()
    exec(LOOP)

def test_compiling_a_kernel():
    @kernels.compiled
    def kernel(x):
        x[0] = %d

    kernels.device.launch(kernel, numpy.ones(1))
    exec(LOOP)

def test_importing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(60):
        (tmp_path / f"module_of_a_package_{number}.py").touch()
        importlib.import_module(f"module_of_a_package_{number}")
    exec(LOOP)

@pytest.mark.process
def test_of_another_tier():
    exec(LOOP)

def test_waiting():
    time.sleep(1.1)
"""
}


def run(folder, files, arguments):
    """Of a folder with the settings of this suite and other tests: names that passed, names that failed, and the output."""
    for name, text in files.items():
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(TESTS / "conftest.py", folder / "tests")
    settings = ["-c", TESTS.parent / "pyproject.toml", "--rootdir", folder, "-p", "no:cacheprovider", "-rA"]
    command = [sys.executable, "-m", "pytest", *settings, *arguments]
    environment = {**os.environ, "NBKERAS_UNIT_SECONDS": "0.1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    passed, failed = (set(re.findall(rf"^{word} \S*::(\w+)", done.stdout, re.M)) for word in ("PASSED", "FAILED"))
    assert passed or failed, done.stdout + done.stderr
    return passed, failed, done.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], "unit"),
        (["-n", "2"], "unit"),
        (["-m", "soak"], "soak"),
        (["-m", "documents or soak", "-n", "1"], "example soak"),
        (["tests/serving/test_http.py"], "server"),
        (["tests/serving/test_http.py", "tests/test_one.py", "-n", "1"], "server unit soak"),
        (["tests/test_one.py::test_a_soak"], "soak"),
        (["tests"], "unit soak server example"),
        (["tests", "-m", "not unit"], "soak server example"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_a_command_runs_what_it_names_or_the_unit_tests(arguments, names, tmp_path):
    passed, failed, _ = run(tmp_path, TIERS, arguments)
    assert not failed
    assert {re.sub("test_an?_", "", name) for name in passed} == set(names.split())


@pytest.mark.process
def test_a_unit_test_of_more_than_a_second_fails(tmp_path):
    files = {name: text % time.time_ns() for name, text in TIMES.items()}  # a kernel that no cache has
    passed, failed, output = run(tmp_path, files, ["tests"])
    assert failed == {"test_long", "test_long_in_a_process", "test_failing"}
    assert passed == set(re.findall(r"def (test_\w+)", files["test_times.py"])) - failed
    said = re.findall(r"^the test took 1\.\d s of processor time, .*: make it faster, or mark it", output, re.M)
    assert len(said) == 2
    assert "ValueError: the reason of the test itself" in output


@pytest.mark.process
def test_numbers_that_a_file_draws_when_it_is_imported_are_the_same_in_each_run(tmp_path):
    text = "import nbkeras as keras\nDRAWN = keras.random.normal((2,)).numpy()\ndef test_one(): print('drawn', DRAWN.tolist())"
    drawn = set()
    for number, arguments in enumerate((["tests"], ["tests/test_two.py", "-n", "1"], ["tests"])):
        _, _, output = run(tmp_path / str(number), {"test_one.py": text, "test_two.py": text}, arguments)
        drawn.update(re.findall(r"^drawn .*", output, re.M))
    assert len(drawn) == 2


def test_the_table_of_tiers_names_files_and_folders(request):
    tiers = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py")).TIER_OF
    assert not [name for name in tiers if not (TESTS / name).exists()]
