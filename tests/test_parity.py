"""docs/keras-parity.md and the counts in README.md are what scripts/make_parity.py finds."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def printed():
    """What the script prints when the document is up to date: the counts by version of Keras."""
    command = [sys.executable, str(ROOT / "scripts" / "make_parity.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        line.partition(":")[0]: [int(n) for n in line.partition(":")[2].split()] for line in done.stdout.splitlines()
    }


def test_the_table_is_up_to_date(printed):
    assert set(printed) == {"Keras 3.15.1", "Keras 2.3.1"}


def test_the_readme_gives_the_same_counts(printed):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for version, (supported, partly, missing) in printed.items():
        found = re.search(rf"{re.escape(version)}: ([\d,]+) are there, (\d+) partly, (\d+) not", readme)
        assert found, version
        assert [int(n.replace(",", "")) for n in found.groups()] == [supported, partly, missing]


def test_every_name_that_is_not_there_has_a_reason():
    text = (ROOT / "docs" / "keras-parity.md").read_text(encoding="utf-8")
    assert "not written yet" not in text
