"""Two minutes of the soak, which `python tests/serving/soak.py --minutes 60` is the whole of."""

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("httptools")
pytest.importorskip("grpc")


@pytest.mark.cpu("servers are for CPUs")
def test_a_server_under_load_answers_rightly_while_models_are_swapped_and_workers_killed(tmp_path):
    script = pathlib.Path(__file__).with_name("soak.py")
    command = [sys.executable, str(script), "--minutes", "2", "--rate", "150", "--out", str(tmp_path / "summary.json")]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=400, env=os.environ)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-5000:]
