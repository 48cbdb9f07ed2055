"""The options of `nbkeras serve`, declared once for the command line, models.toml and their help texts.

Each field has a default, a help text and a check. On the command line `max_wait_ms` is `--max-wait-ms`. In models.toml the
server's options are in the table [server], and each model has a table [[model]]. The command line overrides the file.
"""

import argparse
import dataclasses
import difflib
import math
import pathlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbkeras.engine.annotations import briefly

MODEL_FILES = (".keras", ".h5", ".hdf5", ".frozen")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
Check = Callable[[Any], Any]  # returns the value to store; its ValueError says what the value must be


def _number(kind: type, least: float, most: float = math.inf) -> Check:
    words = ("an integer" if kind is int else "a number") + (
        f" from {least:g} to {most:g}" if most < math.inf else f" of at least {least:g}"
    )

    def check(value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = kind(value)
            except ValueError:
                raise ValueError(words) from None
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            raise ValueError(words)
        if not least <= value <= most:  # NaN fails too
            raise ValueError(words)
        return kind(value)

    return check


def _non_empty_string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a string")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("letters, digits, _, . and -, at most 128, not beginning with . or -")
    return value


def _version(value: Any) -> str:
    return _name(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return value

    return check


def _hosts(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) and _HOST.fullmatch(part) for part in parts):
        raise ValueError("names without a port, as a.example,b.example on the command line or a list in a file")
    return tuple(part.lower() for part in parts)


def _counts(value: Any) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        found = tuple(sorted({_number(int, 1)(part) for part in parts}))
    except (TypeError, ValueError):
        found = ()
    if not found:
        raise ValueError("positive integers, as 1,32 on the command line or [1, 32] in a file")
    return found


def _shapes(value: Any) -> Any:
    """Shapes of inputs, one or several, with -1 for an open size (TOML has no null)."""

    def shape(part: Any) -> tuple[int | None, ...]:
        if not isinstance(part, list) or not all(type(size) is int and (size > 0 or size == -1) for size in part):
            raise ValueError("a shape such as [-1, 20, 8], or a list of one for each input; -1: any number")
        return tuple(None if size == -1 else size for size in part)

    if isinstance(value, list) and value and isinstance(value[0], list):
        return tuple(map(shape, value))
    return shape(value)


def _option(default: Any, text: str, check: Check, metavar: str | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "check": check, "metavar": metavar})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is served."""

    name: str = _option("", "the name in requests (default: the file's name)", _name)
    path: str | None = _option(None, "the model's file, or a folder with a folder for each version", _non_empty_string)
    version: str = _option("1", "the version in requests, which use the newest one by default", _version)
    batch_sizes: tuple[int, ...] = _option(
        (),
        "rows for which programs are recorded; others are padded (default: 1, 2, 4, 8 and so on, and the largest batch)",
        _counts,
        "N,N",
    )
    input_signature: Any = _option(None, "shapes of the inputs, if the model leaves sizes open", _shapes)
    stream: bool = _option(False, "whether the model keeps a state for each sequence_id", _flag)
    window: int | None = _option(None, "of a stream: steps that attention looks back", _number(int, 1))
    steps: tuple[int, ...] = _option(
        (1,), "of a stream: steps of a request for which programs are recorded", _counts, "N,N"
    )
    max_batch: int | None = _option(
        None, "the maximum rows of a batch (default: the largest of batch_sizes, or 32)", _number(int, 1, 1 << 20)
    )
    max_wait_ms: float = _option(0.0, "milliseconds that a batch waits for more rows", _number(float, 0, 10_000))
    max_queue: int = _option(1024, "requests that may wait for a model; more get 503", _number(int, 1))
    timeout: float | None = _option(
        None, "seconds that a request may wait in the queue; then 504", _number(float, 0.001)
    )
    allow_nan: bool = _option(False, "whether binary tensors may hold NaN and Infinity", _flag)
    allow_pickle: bool = _option(
        False,
        "load a .frozen file, whose pickle can run any code: only for files that you wrote yourself",
        _flag,
    )

    def __post_init__(self) -> None:
        if not self.batch_sizes:
            most = self.max_batch or 32
            object.__setattr__(self, "batch_sizes", (*(2**n for n in range((most - 1).bit_length())), most))
        elif self.max_batch is not None and self.max_batch < max(self.batch_sizes):
            sizes = ", ".join(map(str, self.batch_sizes))
            raise ValueError(
                f"model {self.name!r}: max_batch is {self.max_batch}, so that {max(self.batch_sizes)} of batch_sizes ({sizes}) "
                "would never be used: leave out one of the two"
            )


_SHARED = ("max_batch", "max_wait_ms", "max_queue", "timeout", "allow_nan", "allow_pickle", "batch_sizes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How the server runs, and its models."""

    models: tuple[ModelOptions, ...] = ()
    host: str = _option("127.0.0.1", "the address to listen on; 0.0.0.0 is every one", _non_empty_string)
    port: int = _option(8000, "the port of HTTP; 0 chooses a free one", _number(int, 0, 65535))
    grpc_port: int | None = _option(
        None, "the port of gRPC; 0 chooses a free one (default: no gRPC)", _number(int, 0, 65535)
    )
    workers: int = _option(
        1, "processes that answer; 0: one for each CPU that this process may use", _number(int, 0, 1024)
    )
    threads: int = _option(0, "threads of a worker's kernels; 0: CPUs divided among the workers", _number(int, 0, 1024))
    control: bool = _option(False, "let requests load and unload models", _flag)
    control_hosts: tuple[str, ...] = _option(
        (),
        "names of this server for requests that load and unload models (default: localhost and its address)",
        _hosts,
        "NAME,NAME",
    )
    max_body_mb: float = _option(
        64.0, "MB of a request's body, also decompressed; larger ones get 413", _number(float, 0.001)
    )
    max_memory_mb: int | None = _option(
        None,
        "MB that all requests, sequences and unread answers of a worker may take together; more get 503 (default: half of the "
        "memory divided among the workers, 1024 at most)",
        _number(int, 1),
    )
    max_connections: int = _option(4096, "connections of a worker; more get 503", _number(int, 1))
    header_seconds: float = _option(10.0, "seconds for a request's headers to arrive; then 408", _number(float, 0.05))
    body_seconds: float = _option(
        60.0, "seconds for a request's body or message to arrive; then 408", _number(float, 0.05)
    )
    keep_alive_seconds: float = _option(75.0, "seconds for which an idle connection stays open", _number(float, 0.05))
    drain_seconds: float = _option(30.0, "seconds after SIGTERM for accepted requests to finish", _number(float, 0))
    sequence_idle_seconds: float = _option(
        60.0, "seconds after which an idle sequence is forgotten", _number(float, 0.05)
    )
    max_sequences_mb: int = _option(
        256, "MB of max_memory_mb that states of sequences may take; more sequences get 503", _number(int, 1)
    )
    worker_seconds: float = _option(60.0, "seconds after which a worker that hangs is restarted", _number(float, 0.4))
    load_seconds: float = _option(300.0, "seconds in which a model's file must be loaded", _number(float, 0.05))
    load_memory_mb: int | None = _option(
        None, "memory limit in MB of the process that loads a file (default: 3/4 of the memory)", _number(int, 1)
    )
    folder: str | None = _option(
        None, "where frozen models are kept while the server runs (default: TMPDIR or /tmp)", _non_empty_string
    )
    log: str = _option(
        "auto", "the form of log lines: json or text; auto is text for a terminal", _one_of("auto", "json", "text")
    )
    log_level: str = _option("info", "the lowest level that is logged", _one_of("debug", "info", "warning", "error"))
    access_log: bool = _option(False, "log each request to infer", _flag)
    slow_seconds: float = _option(
        1.0, "seconds after which a request is logged as slow, at most one a second; 0: never", _number(float, 0)
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command `serve` to a parser."""
    parser.add_argument("models", nargs="*", metavar="model", help="a model's file, name=file, or a folder of versions")
    parser.add_argument("--config", metavar="FILE", help="a models.toml with the tables [server] and [[model]]")
    for field in (*_fields(Options).values(), *(_fields(ModelOptions)[name] for name in _SHARED)):
        text = field.metadata["help"]
        if field.default is not None and "default" not in text and field.default is not False:
            shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else f"{field.default}"
            text += f" (default {shown})"
        how: dict[str, Any] = {"dest": field.name, "default": None, "help": text.replace("%", "%%")}
        if field.metadata["check"] is _flag:
            how |= {"action": argparse.BooleanOptionalAction}
        else:
            how |= {"type": _argument(field), "metavar": field.metadata["metavar"] or "X"}
        parser.add_argument(f"--{field.name.replace('_', '-')}", **how)


def _argument(field: dataclasses.Field) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return field.metadata["check"](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {error}, received {text}") from None

    return convert


def from_arguments(arguments: argparse.Namespace) -> Options:
    """The options from a command line and the file that it names."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    server = {name: value for name, value in given.items() if name in _fields(Options)}
    shared = {name: value for name, value in given.items() if name in _SHARED}
    tables: list[dict[str, Any]] = []
    if "config" in given:
        from_file, tables = read_file(given["config"])
        shared = {name: from_file.pop(name) for name in _SHARED if name in from_file} | shared
        server = from_file | server
    tables += [_model_argument(text) for text in given.get("models", ())]
    models = [ModelOptions(**(shared | table)) for table in tables]
    if not models:
        raise ValueError("no model to serve: name a model's file, or a models.toml with --config")
    _refuse_doubles([version for model in models for version in versions_of(model)])
    return Options(models=tuple(models), **server)


def read_file(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tables [server] and [[model]] of a models.toml; paths of models are relative to its folder."""
    with open(path, "rb") as file:
        try:
            content = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from None
    _refuse_unknown(path, content, ("server", "model"))
    server, models = content.get("server", {}), content.get("model", [])
    if not isinstance(server, dict):
        raise ValueError(f"{path}: server must be a table, written [server]")
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise ValueError(f"{path}: each model is a table, written [[model]]")
    fields = _fields(Options) | {name: _fields(ModelOptions)[name] for name in _SHARED}
    found = _checked(f"{path}: [server]", server, fields)
    tables = []
    for number, table in enumerate(models, 1):
        place = f"{path}: [[model]] {table.get('name', number)}"
        one = _checked(place, table, _fields(ModelOptions))
        if "path" not in one:
            raise ValueError(f"{place} has no path")
        one["path"] = str(pathlib.Path(path).parent / one["path"])
        one.setdefault("name", _name_of(one["path"]))
        tables.append(one)
    return found, tables


def versions_of(model: ModelOptions) -> list[ModelOptions]:
    """A model's current versions: the subfolders of its folder, by their names. A model in a single file has one version."""
    path = pathlib.Path(str(model.path))
    if not path.exists():
        raise FileNotFoundError(f"there is no model's file {str(path)!r}")
    if not path.is_dir():
        return [model]
    found: list[ModelOptions] = []
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and NAME.fullmatch(folder.name):
            files = sorted(file for file in folder.iterdir() if file.suffix in MODEL_FILES)
            if len(files) > 1:
                raise ValueError(f"{str(folder)!r} holds {len(files)} models: a version has one file")
            found += [dataclasses.replace(model, path=str(file), version=folder.name) for file in files]
    if not found:
        kinds = ", ".join(MODEL_FILES)
        raise ValueError(
            f"{str(path)!r} holds no versions: a model's folder has a folder for each, with a file in it ({kinds})"
        )
    return found


def _model_argument(text: str) -> dict[str, Any]:
    """A model of the command line: `path`, or `name=path`."""
    name, equals, path = text.partition("=")
    if equals and NAME.fullmatch(name):
        return {"name": name, "path": path}
    return {"name": _name_of(text), "path": text}


def _name_of(path: str) -> str:
    """The default name of a model: its file's, with a dash for each character that names cannot have."""
    resolved = pathlib.Path(path).resolve()
    stem = resolved.stem if resolved.suffix in MODEL_FILES else resolved.name
    return re.sub(r"[^A-Za-z0-9_.-]", "-", stem).lstrip(".-")[:128] or "model"


def _refuse_doubles(models: Sequence[ModelOptions]) -> None:
    seen: dict[tuple[str, str], ModelOptions] = {}
    for model in models:
        other = seen.setdefault((model.name, model.version), model)
        if other is not model:
            raise ValueError(
                f"two models are called {model.name!r} with version {model.version!r}: {other.path} and {model.path}; "
                "give one another name (name=file) or version"
            )


def _fields(kind: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(kind) if "check" in field.metadata}


def _checked(place: str, table: Mapping[str, Any], fields: Mapping[str, dataclasses.Field]) -> dict[str, Any]:
    _refuse_unknown(place, table, fields)
    found = {}
    for key, value in table.items():
        try:
            found[key] = fields[key].metadata["check"](value)
        except ValueError as error:
            raise ValueError(f"{place}: {key} must be {error}, received {briefly(value)}") from None
    return found


def _refuse_unknown(place: str, table: Mapping[str, Any], known: Any) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{place} has no option {key!r}: {hint}")
