"""What tests of several files need: a process that runs a script, `keras` as nbkeras, `tensorflow` as nbkeras."""

import functools
import importlib
import sys

import pytest
from compat_scripts import KERAS_2, run_script

from nbkeras.compat import alias


@pytest.fixture
def run(tmp_path):
    """Runs a script by `python -m nbkeras`; it fails unless the script ends well."""
    return functools.partial(run_script, tmp_path)


@pytest.fixture
def run_keras_2(run):
    """Runs a script that names nothing of Keras 2 as one for Keras 2."""
    return functools.partial(run, options=KERAS_2)


@pytest.fixture
def as_keras_2():
    alias.install_as_keras(version=2)
    yield
    alias.uninstall()


@pytest.fixture
def as_keras_3():
    alias.install_as_keras(version=3)
    yield
    alias.uninstall()


@pytest.fixture(scope="module")
def tf():
    if "keras" in sys.modules:
        pytest.skip("another Keras is imported")
    alias.install_as_keras(3, tensorflow=True)
    yield importlib.import_module("tensorflow")
    alias.uninstall()
