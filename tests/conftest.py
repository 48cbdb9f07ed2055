"""Tiers, seeds, whole tracebacks and names of cases for all tests; marks of tests that a GPU or its simulator does not run.

Each test is in one tier, which is a mark: that of its function, else that of its file or folder in TIERS, else `unit`. `pytest`
runs `unit`, `pytest -m process` another tier; files and folders that are named run whole.
"""

import os

# Read when NumPy is imported. Threads of its products wait in loops, which takes the processors from other workers.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Several workers test at the same time, so each compiles alone. tests/kernels/test_compilers.py tests the processes.
os.environ.setdefault("NBKERAS_COMPILERS", "0")

import functools
import gc
import pathlib
import sys
import time
import zlib

import numpy as np
import pytest
from case_names import case_name
from hypothesis import settings
from numba.core import event

from nbkeras import config, utils

ON_GPU = os.environ.get("NBKERAS_DEVICE", "cpu").lower() != "cpu"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", "")
INSTRUMENTED = (
    ON_GPU or SIMULATED or os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("0", "") or sys.gettrace() is not None
)

# of processor time for one unit test; those of this suite take less than half of it
UNIT_SECONDS = float(os.environ.get("NBKERAS_UNIT_SECONDS", "1"))
BUSY = 4.0  # the same test once took four times as long beside busy neighbours
USUAL_LOOP = 0.05  # seconds of `processor_speed` on the machine for which UNIT_SECONDS is meant
TIERS = {  # the files and folders that are not `unit`
    "process": [
        "compat/test_layers.py",
        "compat/test_recurrent.py",
        "compat/test_scripts.py",
        "compat/test_training.py",
        "engine/test_build_lock.py",
        "kernels/test_bounds.py",
        "kernels/test_cache.py",
        "kernels/test_levels.py",
        "layers/test_without_ml_dtypes.py",
        "serving/test_budget.py",
        "serving/test_clients.py",
        "serving/test_http.py",
        "serving/test_loading.py",
        "serving/test_nginx.py",
        "serving/test_rpc.py",
        "serving/test_supervisor.py",
        "test_main.py",
        "test_parity.py",
        "training/test_distribution.py",
        "training/test_interruptions.py",
    ],
    "documents": ["gallery", "test_benchmarks.py", "test_docs.py", "test_examples.py", "test_guides.py"],
    "grid": ["engine/test_memory.py", "test_fuzz.py"],
    "soak": ["serving/test_hostile.py", "serving/test_soak.py", "training/test_kills.py"],
}
TIER_OF = {name: tier for tier, names in TIERS.items() for name in names}
COLLECTED = pytest.StashKey()  # all tests of the files that were read, before some are deselected

settings.register_profile("repeatable", derandomize="NBKERAS_TEST_SEED" not in os.environ, deadline=None)
settings.load_profile("repeatable")
config.disable_traceback_filtering()  # a test that fails shows where in nbkeras; tests/test_errors.py tests what users see


def pytest_make_parametrize_id(val, argname):
    """Tests without `ids` name their cases by values: test_mistakes_are_explained[L.Dense(0)-positive integer for units]."""
    return case_name(argname, val)


class Compilations(event.Listener):
    count = 0

    def on_start(self, event):
        self.count += 1

    def on_end(self, event):
        pass


compilations = Compilations()  # by nbkeras and by Numba itself
event.register("numba:compiler_lock", compilations)


@functools.cache
def processor_speed():
    """How many times as long as usual this processor takes for Python, at least 1."""
    before = time.process_time()
    sum(i * i for i in range(1_000_000))
    return max(1.0, (time.process_time() - before) / USUAL_LOOP)


def tier_of(path):
    """The tier of a file or folder in tests/."""
    path = path.relative_to(pathlib.Path(__file__).parent)
    return next((TIER_OF[part.as_posix()] for part in (path, *path.parents) if part.as_posix() in TIER_OF), "unit")


def runs_unit_tests_only(config):
    """Whether neither tests nor a tier were named."""
    return config.args_source is not config.ArgsSource.ARGS and config.option.markexpr in ("", "unit")


def pytest_configure(config):
    if runs_unit_tests_only(config):
        config.option.markexpr = "unit"


def pytest_ignore_collect(collection_path, config):
    """Files of other tiers need not be read."""
    return True if runs_unit_tests_only(config) and tier_of(collection_path) != "unit" else None


def set_seed(name):
    """Seeds by the name of a test or file; NBKERAS_TEST_SEED changes all seeds."""
    seed = zlib.crc32(name.encode(), int(os.environ.get("NBKERAS_TEST_SEED", "0")))
    utils.set_random_seed(seed)
    return seed


def pytest_collectstart(collector):
    """Weights that a file makes when it is imported are the same in each run."""
    if isinstance(collector, pytest.Module):
        set_seed(collector.nodeid)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects tests by their marks
def pytest_collection_modifyitems(config, items):
    config.stash[COLLECTED] = list(items)
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker(tier_of(item.path))
        on_cpu, big = item.get_closest_marker("cpu"), item.get_closest_marker("big")
        if on_cpu is not None and ON_GPU:
            item.add_marker(pytest.mark.skip(reason=f"on the CPU only: {on_cpu.args[0]}"))
        if big is not None and ON_GPU and SIMULATED:
            item.add_marker(pytest.mark.skip(reason="too big for the simulated GPU"))


def pytest_collection_finish():
    """A million objects live until the end: `gc.collect()` in a test would take a second if it looked at them."""
    gc.freeze()


@pytest.fixture
def collected(request):
    """All tests of the files that were read."""
    return request.config.stash[COLLECTED]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A unit test that takes long fails; the time of its processes counts, that of a process's first use of things does not."""
    compiled, modules, before = compilations.count, len(sys.modules), sum(os.times()[:4])
    result = yield
    seconds = sum(os.times()[:4]) - before
    # of a kernel, or of a package such as pandas
    is_first = compilations.count > compiled or len(sys.modules) > modules + 50
    if (
        seconds > UNIT_SECONDS * BUSY * processor_speed()
        and item.get_closest_marker("unit")
        and not (is_first or INSTRUMENTED)
    ):
        pytest.fail(
            f"the test took {seconds:.1f} s of processor time, and a unit test takes at most {UNIT_SECONDS:g} s: make it faster, "
            "or mark it with its tier (CONTRIBUTING.md, Tests)",
            pytrace=False,
        )
    return result


def pytest_runtest_setup(item):
    """Each test starts from a seed of its own name, in any order."""
    seed = set_seed(item.nodeid)
    for value in vars(item.module).values():
        if isinstance(value, np.random.Generator):  # its numbers must not depend on the tests before
            value.bit_generator.state = np.random.default_rng(seed).bit_generator.state
