"""Marks of tests that cannot run where NBKERAS_DEVICE names a GPU, or take too long in the simulator of one."""

import os

import pytest

ON_GPU = os.environ.get("NBKERAS_DEVICE", "cpu").lower() != "cpu"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", "")


def pytest_collection_modifyitems(items):
    for item in items:
        on_cpu, big = item.get_closest_marker("cpu"), item.get_closest_marker("big")
        if on_cpu is not None and ON_GPU:
            item.add_marker(pytest.mark.skip(reason=f"on the CPU only: {on_cpu.args[0]}"))
        if big is not None and ON_GPU and SIMULATED:
            item.add_marker(pytest.mark.skip(reason="too big for the simulated GPU"))
