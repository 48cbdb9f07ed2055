"""Seeds, whole tracebacks and names of cases for all tests; marks of tests that a GPU or its simulator does not run."""

import os
import zlib

import numpy as np
import pytest
from case_names import case_name
from hypothesis import settings

from nbkeras import config, utils

ON_GPU = os.environ.get("NBKERAS_DEVICE", "cpu").lower() != "cpu"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", "")

settings.register_profile("repeatable", derandomize="NBKERAS_TEST_SEED" not in os.environ, deadline=None)
settings.load_profile("repeatable")
config.disable_traceback_filtering()  # a test that fails shows where in nbkeras; tests/test_errors.py tests what users see


def pytest_make_parametrize_id(val, argname):
    """Tests without `ids` name their cases by values: test_mistakes_are_explained[L.Dense(0)-positive integer for units]."""
    return case_name(argname, val)


def pytest_collection_modifyitems(items):
    for item in items:
        on_cpu, big = item.get_closest_marker("cpu"), item.get_closest_marker("big")
        if on_cpu is not None and ON_GPU:
            item.add_marker(pytest.mark.skip(reason=f"on the CPU only: {on_cpu.args[0]}"))
        if big is not None and ON_GPU and SIMULATED:
            item.add_marker(pytest.mark.skip(reason="too big for the simulated GPU"))


def pytest_runtest_setup(item):
    """Each test starts from a seed of its own name, in any order; NBKERAS_TEST_SEED changes all of them."""
    seed = zlib.crc32(item.nodeid.encode(), int(os.environ.get("NBKERAS_TEST_SEED", "0")))
    utils.set_random_seed(seed)
    for value in vars(item.module).values():
        if isinstance(value, np.random.Generator):  # its numbers must not depend on the tests before
            value.bit_generator.state = np.random.default_rng(seed).bit_generator.state
