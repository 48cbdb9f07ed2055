"""docs/keras-parity.md and the counts in README.md agree with scripts/make_parity.py; names shown and missing."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import nbkeras
from nbkeras.engine import absent_names

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def printed():
    """The output of the script when the document is up to date: the counts by version of Keras."""
    command = [sys.executable, str(ROOT / "scripts" / "make_parity.py"), "--check"]
    environment = os.environ | {"PYTHONSAFEPATH": ""}  # else no script could import the files beside it
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        line.partition(":")[0]: [int(n) for n in line.partition(":")[2].split()] for line in done.stdout.splitlines()
    }


def test_the_table_is_up_to_date(printed):
    assert set(printed) == {"Keras 3.15.1", "Keras 2.3.1"}


def test_the_readme_gives_the_same_counts(printed):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for version, (supported, partly, missing) in printed.items():
        found = re.search(rf"{re.escape(version)}, ([\d,]+) are supported, (\d+) partly, (\d+) not", readme)
        assert found, version
        assert [int(n.replace(",", "")) for n in found.groups()] == [supported, partly, missing]


def test_names_that_refuse_a_call_of_keras_are_supported_partly():
    """The script makes these calls, and finds names that refuse something and are not among them."""
    text = (ROOT / "docs" / "keras-parity.md").read_text(encoding="utf-8")
    lines = text.partition("## Keras 2")[0].splitlines()
    for name in ("bincount", "one_hot", "dot_product_attention", "TensorBoard"):
        assert any(re.match(rf"- `.*\b{name}\b.*`: (dense|no )", line) for line in lines), name
        assert not any(line.startswith("Supported:") and f" {name}," in line for line in lines), name


def test_every_name_that_is_not_there_has_a_reason():
    text = (ROOT / "docs" / "keras-parity.md").read_text(encoding="utf-8")
    assert "not written yet" not in text


NAMES = json.loads((ROOT / "scripts" / "keras_3_names.json").read_text(encoding="utf-8"))["names"]


def ours(module):
    """The module of nbkeras with the name of one of Keras, or None."""
    try:
        return importlib.import_module(module.replace("keras", "nbkeras", 1))
    except ImportError:
        return None


def test_dir_shows_public_names_only():
    internal = {"Any", "Callable", "Registry", "as_tensor", "layer", "np", "op", "registry", "tape"}
    modules = [module for module in map(ours, NAMES) if module is not None]
    assert len(modules) > 30
    for module in modules:
        assert not internal & set(dir(module)), module
    assert {"layers", "saving", "export", "testing", "Dense"} - set(dir(nbkeras)) == {"Dense"}


def test_dir_shows_every_name_of_keras_that_is_there():
    for path, names in NAMES.items():
        module = ours(path)
        there = {name for name in names if module is not None and hasattr(module, name)}
        assert not there - set(dir(module)), path


def test_every_reason_is_of_a_name_that_is_not_there():
    for path, reasons in absent_names.ABSENT.items():
        module = ours(path)
        assert (module is None) == (list(reasons.values()) == ["*"]), path
        for name in " ".join(reasons.values()).split() if module else ():
            assert not hasattr(module, name), (path, name)


MISSED = [
    (
        "import {0}; {0}.callbacks.OrbaxCheckpoint",
        "AttributeError: {0}.callbacks.OrbaxCheckpoint is not offered: it needs orbax",
    ),
    ("from {0}.layers import JaxLayer", "ImportError: {0}.layers.JaxLayer is not offered: .*another framework"),
    ("import {0}; {0}.layers.Desne", "AttributeError: module '{0}.layers' has no attribute 'Desne'"),
    ("from {0}.layers import Desne", "ImportError: cannot import name 'Desne' from '{0}.layers'"),
    ("import {0}.nothing", "ModuleNotFoundError: No module named '{0}.nothing'"),
]


@pytest.mark.parametrize("keras", ["nbkeras", "keras"])
def test_a_name_that_is_left_out_says_why(keras):
    script = f"""if True:
        import sys, traceback, nbkeras
        if {keras!r} == "keras":
            nbkeras.install_as_keras(version=2)
        assert "nbkeras.engine.absent_names" not in sys.modules
        for code, _ in {MISSED!r}:
            try:
                exec(code.format({keras!r}))
            except Exception as error:
                print(*traceback.format_exception_only(error), sep="", end="")
        """
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert len(said) == len(MISSED), done.stderr
    for line, (_, expected) in zip(said, MISSED, strict=True):
        assert re.match(expected.format(keras), line)
