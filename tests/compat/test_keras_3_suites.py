"""Suites of packages for Keras 3 that use `keras.src.testing`."""

import pathlib
import subprocess
import sys
import types
import unittest

import pytest

from nbkeras.compat.keras3 import testing

SUITE = pathlib.Path(__file__).parent / "layer_suite.py"


@pytest.mark.process
@pytest.mark.cpu("a GPU computes the same layers in tests of their own")
def test_a_suite_of_layers_passes_and_finds_faults():
    command = [sys.executable, "-P", "-m", "nbkeras", "--keras", "3", "-m", "pytest", "--noconftest", str(SUITE)]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "10 passed" in done.stdout


def test_decorators_of_absl_have_their_class(monkeypatch):
    class TestCase(unittest.TestCase):
        """In place of absl's."""

    monkeypatch.setitem(sys.modules, "absl", types.ModuleType("absl"))
    monkeypatch.setitem(sys.modules, "absl.testing", types.ModuleType("absl.testing"))
    assert testing._base() is unittest.TestCase
    sys.modules["absl.testing"].parameterized = types.SimpleNamespace(TestCase=TestCase)
    assert testing._base() is TestCase
