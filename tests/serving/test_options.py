"""Options of the server: command line, environment and models.toml, with a sentence for every mistake."""

import dataclasses
import importlib.util
import pathlib
import re
import signal
import sys

import pytest
from live_server import LiveServer

from nbkeras import Input, Sequential, layers
from nbkeras import __main__ as command_line
from nbkeras.saving import archive
from nbkeras.serving import options, settings
from nbkeras.serving.options import ModelOptions, Options


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Some model files, empty, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.keras", "b c.h5", "many/1/model.keras", "many/2/model.keras", "many/10/model.keras"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "many" / "readme.txt").touch()
    return tmp_path


def parse(*arguments):
    return settings.read(arguments)


def named(found):
    return [(model.name, model.version, model.path) for model in found.models]


def test_defaults_listen_on_this_machine_alone(files):
    found = parse("a.keras")
    assert (found.host, found.port, found.workers, found.control) == ("127.0.0.1", 8000, 1, False)
    assert named(found) == [("a", "1", "a.keras")]


def test_names_of_models(files):
    found = parse("a.keras", "other=a.keras", "b c.h5", "many")
    assert named(found) == [
        ("a", "1", "a.keras"),
        ("other", "1", "a.keras"),
        ("b-c", "1", "b c.h5"),
        ("many", "1", "many"),
    ]
    versions = options.versions_of(found.models[3])
    assert sorted((model.name, model.version) for model in versions) == [("many", "1"), ("many", "10"), ("many", "2")]


def test_options_of_the_command_line(files):
    found = parse("a.keras", "--port", "0", "--max-wait-ms", "2.5", "--batch-sizes", "64,1", "--control", "--allow-nan")
    assert (found.port, found.control) == (0, True)
    model = found.models[0]
    assert (model.max_wait_ms, model.batch_sizes, model.allow_nan) == (2.5, (1, 64), True)


def test_programs_are_recorded_for_the_largest_batch(files):
    def sizes(*arguments):
        return parse("a.keras", *arguments).models[0].batch_sizes

    assert sizes() == (1, 2, 4, 8, 16, 32)
    assert sizes("--max-batch", "64") == (1, 2, 4, 8, 16, 32, 64)
    assert sizes("--max-batch", "4") == (1, 2, 4)
    assert sizes("--max-batch", "24") == (1, 2, 4, 8, 16, 24)
    assert sizes("--max-batch", "1") == (1,)
    assert sizes("--max-batch", "64", "--batch-sizes", "2,16") == (2, 16)
    with pytest.raises(ValueError, match=r"model 'a': max_batch is 8, so that 16 of batch_sizes \(2, 16\) would never"):
        sizes("--max-batch", "8", "--batch-sizes", "2,16")


def write(files, text):
    (files / "conf").mkdir(exist_ok=True)
    path = files / "conf" / "models.toml"
    path.write_text(text)
    return str(path)


def test_a_file_of_models(files):
    path = write(
        files,
        """
        [server]
        port = 9000
        workers = 2
        max_queue = 7

        [[model]]
        path = "../a.keras"
        input_signature = [-1, 20, 8]
        batch_sizes = [1, 16]

        [[model]]
        name = "talk"
        path = "../many"
        stream = true
        window = 32
        max_queue = 9
        """,
    )
    found = parse("--config", path, "--port", "9001", "extra=a.keras")
    assert (found.port, found.workers) == (9001, 2)
    first, second, third = found.models
    assert (first.name, first.input_signature, first.batch_sizes, first.max_queue) == ("a", (None, 20, 8), (1, 16), 7)
    assert (second.name, second.stream, second.window, second.max_queue) == ("talk", True, 32, 9)
    assert (third.name, third.max_queue) == ("extra", 7)
    several = 'path = "../a.keras"\ninput_signature = [[-1, 2], [-1, 3, 4]]'
    [model] = parse("--config", write(files, f"[[model]]\n{several}")).models
    assert model.input_signature == ((None, 2), (None, 3, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[model]", "is not a TOML file"),
        ("[sever]\nport = 1", "has no option 'sever': did you mean server?"),
        ("[server]\nprot = 1", "has no option 'prot': did you mean port?"),
        ("[server]\nxyzzy = 1", "has no option 'xyzzy': known: host, port"),
        ("server = 3", "server must be a table, written [server]"),
        ("[model]\npath = 'a.keras'", "each model is a table, written [[model]]"),
        ("[[model]]\nname = 'a'", "[[model]] a has no path"),
        ("[[model]]\npath = '../a.keras'\nbatchsizes = [1]", "has no option 'batchsizes': did you mean batch_sizes?"),
        ("[server]\nport = '80a'", "port must be a valid integer, received '80a'"),
        ("[server]\nport = 70000", "port must be less than or equal to 65535, received 70000"),
        ("[server]\nport = true", "port must be a valid integer, received True"),
        ("[server]\ncontrol = 1", "control must be a valid boolean, received 1"),
        ("[server]\ncontrol_hosts = ['a:80']", "control_hosts must be names without a port"),
        ("[server]\ncontrol_hosts = 1", "control_hosts must be names without a port"),
        ("[server]\nlog = 'xml'", "log must be 'auto', 'json' or 'text', received 'xml'"),
        ("[server]\nbody_seconds = nan", "body_seconds must be less than or equal to 2000000, received nan"),
        ("[server]\nhost = ''", "host must have at least 1 character, received ''"),
        ("[[model]]\npath = '../a.keras'\nname = '-a'", "name must be letters, digits, _, . and -"),
        ("[[model]]\npath = '../a.keras'\nbatch_sizes = []", "batch_sizes must be positive integers"),
        ("[[model]]\npath = '../a.keras'\nbatch_sizes = [0]", "batch_sizes must be positive integers"),
        ("[[model]]\npath = '../a.keras'\ninput_signature = [1.5]", "input_signature must be a shape such as"),
        ("[[model]]\npath = '../gone.keras'", "there is no model's file"),
        ("[[model]]\npath = '.'", "holds no versions: a model's folder has a folder for each"),
        ("[[model]]\npath = '../a.keras'\n" * 2, "two models are called 'a' with version '1'"),
        ("", "no model to serve: name a model's file"),
    ],
)
def test_mistakes_in_a_file(files, text, message):
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        parse("--config", write(files, text))


def test_the_environment_is_between_the_command_line_and_the_file(files, monkeypatch):
    path = write(files, "[server]\nport = 1\nworkers = 1\nthreads = 1\nmax_queue = 1\n[[model]]\npath = '../a.keras'")
    monkeypatch.setenv("NBKERAS_SERVE_CONFIG", path)
    monkeypatch.setenv("NBKERAS_SERVE_PORT", "2")
    monkeypatch.setenv("NBKERAS_SERVE_WORKERS", "2")
    monkeypatch.setenv("NBKERAS_SERVE_MAX_QUEUE", "2")
    monkeypatch.setenv("NBKERAS_SERVE_CONTROL", "true")
    monkeypatch.setenv("NBKERAS_SERVE_CONTROL_HOSTS", "A.example,b.example")
    monkeypatch.setenv("NBKERAS_SERVE_BATCH_SIZES", "8,1")
    monkeypatch.setenv("NBKERAS_SERVE_FOLDER", "")  # as if it were not set
    found = parse("--port", "3")
    assert (found.port, found.workers, found.threads) == (3, 2, 1)
    assert (found.control, found.control_hosts, found.folder) == (True, ("a.example", "b.example"), None)
    [model] = found.models
    assert (model.path, model.max_queue, model.batch_sizes) == (str(files / "conf" / "../a.keras"), 2, (1, 8))
    assert parse("--no-control", "--max-queue", "3").models[0].max_queue == 3
    assert not parse("--no-control").control


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "PORT",
            "80a",
            "NBKERAS_SERVE_PORT must be a valid integer, unable to parse string as an integer, received '80a'",
        ),
        ("TIMEOUT", "0", "NBKERAS_SERVE_TIMEOUT must be greater than or equal to 0.001, received '0'"),
        (
            "CONTROL",
            "maybe",
            "NBKERAS_SERVE_CONTROL must be a valid boolean, unable to interpret input, received 'maybe'",
        ),
        ("BATCH_SIZES", "[1]", "NBKERAS_SERVE_BATCH_SIZES must be positive integers, as 1,32 on the command line"),
        ("PROT", "80", "the environment has no option 'NBKERAS_SERVE_PROT': did you mean NBKERAS_SERVE_PORT?"),
        ("STREAM", "1", "the environment has no option 'NBKERAS_SERVE_STREAM': "),
    ],
)
def test_mistakes_in_the_environment(files, monkeypatch, name, value, message):
    monkeypatch.setenv(f"NBKERAS_SERVE_{name}", value)
    with pytest.raises(ValueError, match=re.escape(message)):
        parse("a.keras")


@pytest.mark.parametrize(
    "value", ["9" * 30, "-1", "1e400", "nan", "inf", "abc", "9" * 5000], ids=lambda value: repr(value[:31])
)
def test_an_absurd_number_for_any_option_is_named(files, monkeypatch, value):
    kinds = {name: str(field.annotation) for name, field in settings._Outside.model_fields.items()}
    numbers = [name for name, kind in kinds.items() if "int" in kind or "float" in kind]
    assert len(numbers) == 22 and {"timeout", "batch_sizes", "max_body_mb", "drain_seconds"} <= set(numbers)
    for name in numbers:
        with monkeypatch.context() as variables:
            variables.setenv(f"NBKERAS_SERVE_{name.upper()}", value)
            with pytest.raises(ValueError, match=f"the environment: NBKERAS_SERVE_{name.upper()} .*, received"):
                parse("a.keras")


FROZEN = archive.FROZEN + bytes(9)


@pytest.mark.parametrize(
    "name, content, called",
    [
        ("forecast.nbf", FROZEN, "forecast"),
        ("no-ending", b"PK\3\4", "no-ending"),
        ("net-1.2", b"\x89HDF\r\n\x1a\n", "net-1.2"),
        ("M.KERAS", b"PK\3\4", "M"),
        ("broken.keras", b"", "broken"),
    ],
)
def test_models_are_known_by_their_content(files, name, content, called):
    """Alone, and as a version beside files that are no models."""
    (files / name).write_bytes(content)
    assert named(parse(name)) == [(called, "1", name)]
    folder = files / "new" / "1"
    folder.mkdir(parents=True)
    for other, text in {
        "labels.txt": b"cat\ndog\n",
        f"{name}.7.0123abcd.part": content,  # another process writes it
        f".{name}.x": content,  # rsync writes it
        "notes.json": b'{"a": 1}',
    }.items():
        (folder / other).write_bytes(text)
    with pytest.raises(ValueError, match=r"holds no versions: .*Frozen\.save"):
        parse("new")
    (folder / name).write_bytes(content)
    assert [version.path for version in options.versions_of(parse("new").models[0])] == [f"new/1/{name}"]


@pytest.mark.parametrize("inside", [("config.json", "metadata.json", "model.weights.h5"), ("saved_model.pb",)])
def test_a_folder_may_be_a_model(files, inside):
    """One of save(zipped=False), or a SavedModel, whose load says what it is."""
    for folder in ("alone.v2", "below/3", "inside/4/net"):
        (files / folder).mkdir(parents=True)
        for name in inside:
            (files / folder / name).touch()
    found = parse("alone.v2", "below", "inside")
    versions = [version for model in found.models for version in options.versions_of(model)]
    assert [(each.name, each.version, each.path) for each in versions] == [
        ("alone.v2", "1", "alone.v2"),
        ("below", "3", "below/3"),
        ("inside", "4", "inside/4/net"),
    ]


def test_a_version_has_one_file(files):
    (files / "many" / "2" / "second.h5").touch()
    with pytest.raises(ValueError, match=r"holds 2 models: a version has one file, received model\.keras, second\.h5"):
        parse("many")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "--port must be a valid integer, unable to parse string as an integer, received 'x'"),
        (["--max-wait-ms", "-1"], "--max-wait-ms must be greater than or equal to 0, received '-1'"),
        (["--batch-sizes", "1,b"], "--batch-sizes must be positive integers"),
        (["--log", "xml"], "--log must be 'auto', 'json' or 'text', received 'xml'"),
    ],
)
def test_mistakes_on_the_command_line(files, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse("a.keras", *arguments)


def test_flags_that_do_not_exist(files, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("a.keras", "--worker-count", "1")
    assert caught.value.code == 2
    assert "unrecognized arguments: --worker-count" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.keras"], "there is no model's file 'gone.keras'"),
        (["a.keras", "--port", "-1"], "the command line: --port must be greater than or equal to 0, received '-1'"),
        (["--config", "gone.toml"], "[Errno 2] No such file or directory: 'gone.toml'"),
    ],
)
def test_mistakes_of_nbkeras_serve_are_one_line(files, arguments, message, capsys):
    for _ in range(2):  # the second time the command's module has been imported
        with pytest.raises(SystemExit) as caught:
            command_line.main(["serve", *arguments])
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"nbkeras serve: error: {message}\n"


def test_every_option_has_a_help_text_and_a_default_that_its_check_accepts(capsys):
    for kind, declared in ((Options, settings._Server), (ModelOptions, settings._Model)):
        for field in dataclasses.fields(kind):
            if field.name != "models":
                assert len(field.metadata["description"]) > 20
                if field.default not in (None, "", ()):
                    default = list(field.default) if isinstance(field.default, tuple) else field.default
                    assert getattr(declared.model_validate({field.name: default}), field.name) == field.default
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--max-body-mb float MB of a request's body, also decompressed; larger ones get 413 (default: 64.0)" in shown
    assert "--batch-sizes int,int rows for which programs are recorded" in shown
    assert not any(nothing in shown for nothing in ("null", "None", "()", "False"))


def test_a_missing_package_is_explained(files, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        command_line.main(["serve", "a.keras"])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(
        "nbkeras serve: error: nbkeras serve needs starlette, httptools and others: pip install 'nbkeras[serve]'"
    )
    assert "pydantic-settings" in shown


@pytest.mark.process
def test_the_process_that_reads_prints_the_help(files, capfd):
    with pytest.raises(SystemExit) as caught:
        command_line.main(["serve", "--help"])
    assert caught.value.code == 0
    assert "--max-body-mb" in capfd.readouterr().out


@pytest.mark.process
def test_the_process_that_reads_fails(files, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the process that reads the options ended with exit code 1"):
        command_line._read_options(["a.keras"])


@pytest.mark.process
def test_the_processes_of_a_server_do_not_import_pydantic(tmp_path):
    Sequential([Input((2,)), layers.Dense(1)]).save(tmp_path / "m.keras")
    with LiveServer(tmp_path, [{"path": "m.keras"}], workers=2) as server:
        server.process.send_signal(signal.SIGHUP)  # reads the options again
        server.log("SIGHUP received: checking 1 models")
        maps = [pathlib.Path(f"/proc/{process}/maps").read_text() for process in server.processes()]
        assert len(maps) >= 3
        assert not any("pydantic" in each for each in maps)
        assert all("orjson" in each for each in maps)  # a package that they do import
