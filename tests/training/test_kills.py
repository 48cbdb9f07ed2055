"""Trainings that are killed at random moments end as if they had not been: benchmarks/kills.py, in short."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("benchmarks_kills", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.cpu("it starts processes that train on the CPU")
@pytest.mark.parametrize("name", ["convolution", "generator"])
def test_killed_trainings_end_as_if_they_had_not_been(kills, name, tmp_path):
    count = kills.kill(name, kills=3, signals=1, seed=7, save_freq=7, keep=tmp_path)
    assert count.failures == []
    assert count.kills == 3
    assert count.identical == count.trainings > 0
