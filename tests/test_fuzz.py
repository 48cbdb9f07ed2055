"""A short, seeded part of the fuzzing run (CONTRIBUTING.md): no argument, configuration or file may end in anything but a
value or a sentence; and a search by hypothesis, which shrinks what it finds.
"""

import fuzz_campaign
import fuzz_programs
import fuzz_verdict
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkeras.engine import copy_on_write

CASES = {"objects": 500, "ops": 300, "training": 250, "files": 150, "requests": 1000}


@pytest.mark.cpu("the processes of this run compile for the CPU")
@pytest.mark.parametrize("family", CASES)
def test_cases_compute_or_explain(family):
    if family == "requests":
        pytest.importorskip("uvloop")
        pytest.importorskip("grpc")
    counts, found = fuzz_campaign.campaign(family, seed=0, cases=CASES[family])
    assert not found
    assert counts["computed"] > CASES[family] / 5 and counts["refused"] > CASES[family] / 10  # neither is left out


@pytest.mark.cpu("a GPU's errors are tested in tests/kernels/cuda")
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_objects_compute_or_explain(chance):
    result, note = fuzz_campaign.run_case("fuzz_objects", chance)
    assert result in (None, "refused"), note


PROGRAMS = 30


@pytest.mark.cpu("GPUs compute with other memory; tests/kernels/cuda has their tests")
def test_programs_compute_with_the_values_of_the_moment():
    """Random programs that overwrite what they read, compared with a mode that copies: see fuzz_programs.py."""
    for number in range(PROGRAMS):
        fuzz_programs.case(fuzz_campaign.chance_of("fuzz_programs", 0, number), lambda text: None)


@pytest.mark.cpu("GPUs compute with other memory; tests/kernels/cuda has their tests")
def test_programs_find_memory_that_is_overwritten(monkeypatch):
    """Without copies before writes, which is a fault, some of the programs differ; a program is made smaller."""
    monkeypatch.setattr(copy_on_write, "will_write", lambda *arrays: None)
    monkeypatch.setattr(fuzz_programs, "PATIENCE", 0.3)
    found = 0
    for number in range(6):
        try:
            fuzz_programs.case(fuzz_campaign.chance_of("fuzz_programs", 0, number), lambda text: None)
        except fuzz_verdict.Fault as fault:
            assert "def step(" in str(fault) and "differs" in str(fault)
            found += 1
    assert found > 1


FAULTS = {
    "crash": ("import os; os.abort()", "crashes with SIGABRT"),
    "hang": ("while True: pass", "hangs"),
    "accident": ("from nbkeras import layers; layers.Dense(2)._chain", "is an accident: AttributeError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_run_finds_a_fault(name, tmp_path, monkeypatch):
    """Of three cases the second one has the fault: it is reported with its number, and the third one is run."""
    code, message = FAULTS[name]
    case = f"def case(chance, say):\n    if chance.random() > 0.5:\n        {code}\n"
    (tmp_path / "fuzz_faulty.py").write_text(case)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(fuzz_campaign.FAMILIES, "faulty", "fuzz_faulty")
    monkeypatch.setattr(fuzz_campaign, "SECONDS", 1)
    seed = next(n for n in range(99) if [_draw(n, number) > 0.5 for number in range(3)] == [False, True, False])
    lines = []
    counts, found = fuzz_campaign.campaign("faulty", seed, 3, report=lines.append)
    assert counts == {"computed": 2, "fault": 1} and next(iter(found)).startswith(message)
    assert f"--family faulty --seed {seed} --only 1" in "".join(lines)


def _draw(seed, number):
    return fuzz_campaign.chance_of("fuzz_faulty", seed, number).random()
