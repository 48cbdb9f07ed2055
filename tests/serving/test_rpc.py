"""gRPC: the messages against those of other packages, and the calls of `rpc_calls.py`, each of which is a test."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("grpc")
pytest.importorskip("uvloop")

from nbkeras.serving import messages

CALLS = pathlib.Path(__file__).with_name("rpc_calls.py")
CHECKS = [line[10:].partition("(")[0] for line in CALLS.read_text().splitlines() if line.startswith("async def check_")]


@pytest.fixture(scope="module")
def results():
    """The traceback of each check, or nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(CALLS)],
        env=os.environ | {"PYTHONSAFEPATH": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_calls(results, check):
    assert not results[check], results[check]


# Each field: message, name, number, type, label, name of its message, oneof. `clients.py` compares it with other packages.
FIELDS = pathlib.Path(__file__).with_name("grpc_fields.txt")


def kind_of(field):
    kind = field.message_type or field.enum_type
    return kind.full_name if kind else ""


def fields_of(message):
    """The fields of a message, and of those that are declared in it, as lines of text."""
    found = [
        f"{message.full_name} {field.name} {field.number} {field.type} {'repeated' if field.is_repeated else 'one'} "
        f"{kind_of(field)} "
        f"{field.containing_oneof.name if field.containing_oneof else ''}".rstrip()
        for field in message.fields
    ]
    return found + [line for inner in message.nested_types for line in fields_of(inner)]


def test_fields_are_those_of_the_protocol():
    file = messages.POOL.FindFileContainingSymbol("inference.InferParameter")
    found = [line for message in file.message_types_by_name.values() for line in fields_of(message)]
    assert sorted(found) == FIELDS.read_text().splitlines()


def test_a_process_that_forks_imports_no_grpc(tmp_path):
    """gRPC and forks do not go together: workers import it after the fork."""
    code = "import sys, nbkeras.serving.worker; print([name for name in ('grpc', 'google.protobuf') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
