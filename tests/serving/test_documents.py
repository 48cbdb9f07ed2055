"""docs/serving.md has the Dockerfile of the examples and commands that run, serving-options.md the options; the systemd unit."""

import configparser
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import blocks
import pytest

from nbkeras.serving import options

ROOT = Path(__file__).parents[2]


def test_the_tables_of_options_are_up_to_date(monkeypatch):
    spec = importlib.util.spec_from_file_location("make_serving_options", ROOT / "scripts" / "make_serving_options.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["make_serving_options.py", "--check"])
    assert script.main() == 0, "python scripts/make_serving_options.py writes them"


def test_the_dockerfile_is_that_of_the_examples():
    document = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    dockerfile = (ROOT / "examples" / "serving" / "Dockerfile").read_text(encoding="utf-8")
    assert f"```dockerfile\n{dockerfile}```\n" in document


COMMANDS = re.compile(r"^```sh\n(curl .*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.process
@pytest.mark.cpu("servers are for CPUs")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_with_curl_run(tmp_path, monkeypatch):
    pytest.importorskip("starlette")
    from live_server import LiveServer

    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks.run(next(blocks.python_blocks(text, "serving.md")), "serving.md", {"__name__": "document"})
    commands = [shlex.split(line) for found in COMMANDS.findall(text) for line in re.split(r"\n(?=curl )", found)]
    assert len(commands) >= 7
    with LiveServer(tmp_path, [{"path": tmp_path / "model.keras"}]) as server:
        for command in commands:
            asked = [part.replace("localhost:8000", f"127.0.0.1:{server.port}") for part in command]
            found = subprocess.run([*asked, "-sS", "--fail-with-body"], capture_output=True, text=True, timeout=30)
            assert found.returncode == 0, (command, found.stdout, found.stderr)
            assert "error" not in json.loads(found.stdout)


UNIT = ROOT / "examples" / "serving" / "nbkeras.service"


def test_the_unit_starts_a_command_that_there_is_and_waits_until_it_has_ended(tmp_path):
    pytest.importorskip("pydantic_settings")
    from nbkeras.serving import settings

    unit = configparser.ConfigParser(delimiters=["="], interpolation=None)
    unit.optionxform = str
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    service = unit["Service"]
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert (Path(program).name, command) == ("nbkeras", "serve")
    config, model = tmp_path / "models.toml", tmp_path / "m.keras"
    model.touch()
    config.write_text('[[model]]\npath = "m.keras"\n')
    assert arguments.count("/etc/nbkeras/models.toml") == 1
    given = settings.read([str(config) if each == "/etc/nbkeras/models.toml" else each for each in arguments])
    assert [each.path for each in given.models] == [str(model)]
    assert int(service["TimeoutStopSec"]) > given.drain_seconds
    assert service["ExecReload"].split()[1:] == ["-HUP", "$MAINPID"]
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "on-failure")
    assert service["Environment"] == f"NUMBA_CACHE_DIR=%C/{service['CacheDirectory']}"
    assert int(service["LimitNOFILE"]) > options.Options().max_connections


@pytest.mark.process
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_accepts_the_unit(tmp_path):
    text = UNIT.read_text(encoding="utf-8").replace("/opt/nbkeras/bin/nbkeras", sys.executable)
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
