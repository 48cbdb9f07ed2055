"""gRPC: the messages against those of other packages, and the calls of `rpc_calls.py`, each of which is a test."""

import importlib.resources
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("grpc")
pytest.importorskip("uvloop")

from google.protobuf import descriptor_pb2, descriptor_pool

from nbkeras import __main__ as command_line
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


def test_our_messages_are_not_in_the_pool_that_packages_share():
    with pytest.raises(KeyError, match="inference.InferParameter"):
        descriptor_pool.Default().FindFileContainingSymbol("inference.InferParameter")


def in_source(text):
    """What a .proto declares, without protoc: (where, statement)."""
    found, where = set(), []
    for line in text.splitlines():
        line = line.partition("//")[0].strip()
        if line.endswith("{"):
            where.append(line.split()[1])
        elif line == "}":
            where.pop()
        elif line:
            found.add((".".join(where), line))
    return found


def in_descriptors(file):
    """The same of a file's descriptors."""

    def of_type(field):
        named = field.message_type or field.enum_type
        return named.name if named else descriptor_pb2.FieldDescriptorProto.Type.Name(field.type)[5:].lower()

    def of_enumeration(where, enumeration):
        found.update((f"{where}{enumeration.name}", f"{value.name} = {value.number};") for value in enumeration.values)

    def of_message(where, message):
        if not message.fields:
            found.add((where, f"message {message.name} {{}}"))
        place = f"{where}.{message.name}".lstrip(".")
        for field in message.fields:
            kind = of_type(field)
            if field.message_type and field.message_type.GetOptions().map_entry:
                key, value = map(of_type, field.message_type.fields)
                kind = f"map<{key}, {value}>"
            elif field.is_repeated:
                kind = f"repeated {kind}"
            inner = f"{place}.{field.containing_oneof.name}" if field.containing_oneof else place
            found.add((inner, f"{kind} {field.name} = {field.number};"))
        for inner in message.nested_types:
            if not inner.GetOptions().map_entry:
                of_message(place, inner)
        for enumeration in message.enum_types:
            of_enumeration(f"{place}.", enumeration)

    found = {("", 'syntax = "proto3";'), ("", f"package {file.package};")}
    for message in file.message_types_by_name.values():
        of_message("", message)
    for enumeration in file.enum_types_by_name.values():
        of_enumeration("", enumeration)
    for service in file.services_by_name.values():
        for method in service.methods:
            asked = "stream " * method.client_streaming + method.input_type.name
            told = "stream " * method.server_streaming + method.output_type.name
            found.add((service.name, f"rpc {method.name}({asked}) returns ({told});"))
    return found


def test_the_descriptor_is_that_of_the_proto_file():
    source = importlib.resources.files("nbkeras.serving").joinpath("open_inference.proto").read_text()
    file = messages.POOL.FindFileByName("nbkeras/serving/open_inference.proto")
    assert in_source(source) == in_descriptors(file), "python scripts/make_grpc_messages.py writes it"


def test_protoc_makes_the_descriptor(monkeypatch):
    pytest.importorskip("grpc_tools")
    path = pathlib.Path(__file__).parents[2] / "scripts" / "make_grpc_messages.py"
    spec = importlib.util.spec_from_file_location("make_grpc_messages", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", [path.name, "--check"])
    assert script.main() == 0, "python scripts/make_grpc_messages.py writes it"


def test_without_a_package_a_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.keras").touch()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grpc_health" else found(name))
    with pytest.raises(SystemExit):
        command_line.main(["serve", str(tmp_path / "a.keras"), "--grpc-port", "0"])
    message = capsys.readouterr().err
    assert (
        "--grpc-port needs grpc_health: pip install 'nbkeras[serve]'" in message and "grpcio-health-checking" in message
    )


def test_a_process_that_forks_imports_no_grpc(tmp_path):
    """gRPC and forks do not go together: workers import it after the fork."""
    names = ("grpc", "google.protobuf", "grpc_health", "grpc_reflection")
    code = f"import sys, nbkeras.serving.worker; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
