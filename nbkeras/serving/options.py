"""The options of `nbkeras serve`, declared once for the command line, environment variables, models.toml and their help texts.

On the command line `max_wait_ms` is `--max-wait-ms`, and NBKERAS_SERVE_MAX_WAIT_MS is its environment variable. In models.toml
the server's options are in the table [server], and each model has a table [[model]]. The command line overrides the environment,
which overrides the file. `settings.py` reads and checks them with pydantic, which the server's processes do not import.
"""

import contextlib
import dataclasses
import pathlib
import re
from typing import Any, Literal

from nbkeras.engine.outside import ordinary_file
from nbkeras.saving.archive import START, kind_of

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
Shape = tuple[int | None, ...]
# the largest values: of numbers of things, of seconds (23 days; gRPC counts milliseconds in 31 bits), of MB (16 TB)
MAX_COUNT, _MAX_SECONDS, _MAX_MB = 1 << 20, 2_000_000, 1 << 24


def _option(default: Any, text: str, **limits: Any) -> Any:
    """A field with a help text; pydantic takes its metadata for the arguments of `pydantic.Field`."""
    return dataclasses.field(default=default, metadata={"description": text, **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is served."""

    name: str = _option("", "the name in requests (default: the file's name)")
    path: str | None = _option(None, "the model's file, or a folder with a folder for each version", min_length=1)
    version: str = _option("1", "the version in requests, which use the newest one by default")
    batch_sizes: tuple[int, ...] = _option(
        (),
        "rows for which programs are recorded; others are padded (default: 1, 2, 4, 8 and so on, and the largest batch)",
    )
    input_signature: Shape | tuple[Shape, ...] | None = _option(
        None, "shapes of the inputs, if the model leaves sizes open"
    )
    stream: bool = _option(False, "whether the model keeps a state for each sequence_id")
    window: int | None = _option(None, "of a stream: steps that attention looks back", ge=1, le=MAX_COUNT)
    steps: tuple[int, ...] = _option((1,), "of a stream: steps of a request for which programs are recorded")
    max_batch: int | None = _option(
        None, "the maximum rows of a batch (default: the largest of batch_sizes, or 32)", ge=1, le=MAX_COUNT
    )
    max_wait_ms: float = _option(0.0, "milliseconds that a batch waits for more rows", ge=0, le=10_000)
    max_queue: int = _option(1024, "requests that may wait for a model; more get 503", ge=1, le=MAX_COUNT)
    timeout: float | None = _option(
        None, "seconds that a request may wait in the queue; then 504", ge=0.001, le=_MAX_SECONDS
    )
    allow_nan: bool = _option(False, "whether binary tensors may hold NaN and Infinity")
    safe_mode: bool = _option(
        True, "refuse a frozen model that needs kernels of other modules than nbkeras's, whose code would run"
    )

    def __post_init__(self) -> None:
        if not self.batch_sizes:
            largest = self.max_batch or 32
            object.__setattr__(self, "batch_sizes", (*(2**n for n in range((largest - 1).bit_length())), largest))
        elif self.max_batch is not None and self.max_batch < max(self.batch_sizes):
            sizes = ", ".join(map(str, self.batch_sizes))
            raise ValueError(
                f"model {self.name!r}: max_batch is {self.max_batch}, so that {max(self.batch_sizes)} of batch_sizes ({sizes}) "
                "would never be used: leave out one of the two"
            )


SHARED = ("max_batch", "max_wait_ms", "max_queue", "timeout", "allow_nan", "safe_mode", "batch_sizes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How the server runs, and its models."""

    models: tuple[ModelOptions, ...] = ()
    host: str = _option("127.0.0.1", "the address to listen on; 0.0.0.0 is every one", min_length=1)
    port: int = _option(8000, "the port of HTTP; 0 chooses a free one", ge=0, le=65535)
    grpc_port: int | None = _option(None, "the port of gRPC; 0 chooses a free one (default: no gRPC)", ge=0, le=65535)
    workers: int = _option(1, "processes that answer; 0: one for each CPU that this process may use", ge=0, le=1024)
    threads: int = _option(0, "threads of a worker's kernels; 0: CPUs divided among the workers", ge=0, le=1024)
    control: bool = _option(False, "let requests load and unload models")
    control_hosts: tuple[str, ...] = _option(
        (), "names of this server for requests that load and unload models (default: localhost and its address)"
    )
    max_body_mb: float = _option(
        64.0, "MB of a request's body, also decompressed; larger ones get 413", ge=0.001, le=_MAX_MB
    )
    max_memory_mb: int | None = _option(
        None,
        "MB that all requests, sequences and unread answers of a worker may take together; more get 503 (default: half of the "
        "memory divided among the workers, 1024 at most)",
        ge=1,
        le=_MAX_MB,
    )
    max_connections: int = _option(4096, "connections of a worker; more get 503", ge=1, le=MAX_COUNT)
    header_seconds: float = _option(
        10.0, "seconds for a request's headers to arrive; then 408", ge=0.05, le=_MAX_SECONDS
    )
    body_seconds: float = _option(
        60.0, "seconds for a request's body or message to arrive; then 408", ge=0.05, le=_MAX_SECONDS
    )
    keep_alive_seconds: float = _option(
        75.0, "seconds for which an idle connection stays open", ge=0.05, le=_MAX_SECONDS
    )
    drain_seconds: float = _option(30.0, "seconds after SIGTERM for accepted requests to finish", ge=0, le=_MAX_SECONDS)
    sequence_idle_seconds: float = _option(
        60.0, "seconds after which an idle sequence is forgotten", ge=0.05, le=_MAX_SECONDS
    )
    max_sequences_mb: int = _option(
        256, "MB of max_memory_mb that states of sequences may take; more sequences get 503", ge=1, le=_MAX_MB
    )
    worker_seconds: float = _option(
        60.0, "seconds after which a worker that hangs is restarted", ge=0.4, le=_MAX_SECONDS
    )
    load_seconds: float = _option(300.0, "seconds in which a model's file must be loaded", ge=0.05, le=_MAX_SECONDS)
    load_memory_mb: int | None = _option(
        None, "memory limit in MB of the process that loads a file (default: 3/4 of the memory)", ge=1, le=_MAX_MB
    )
    folder: str | None = _option(
        None, "where frozen models are kept while the server runs (default: TMPDIR, /tmp or /dev/shm)", min_length=1
    )
    log: Literal["auto", "json", "text"] = _option(
        "auto", "the form of log lines: json or text; auto is text for a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _option("info", "the lowest level that is logged")
    access_log: bool = _option(False, "log each request to infer")
    slow_seconds: float = _option(
        1.0, "seconds after which a request is logged as slow, at most one a second; 0: never", ge=0, le=_MAX_SECONDS
    )


def versions_of(model: ModelOptions) -> list[ModelOptions]:
    """A model's current versions: the subfolders of its folder, by their names. Any other model has one version.

    Files are recognised by their first bytes; a file with a model's ending counts too, so that its load says what is wrong.
    """
    path = pathlib.Path(str(model.path))
    if not path.exists():
        raise FileNotFoundError(f"there is no model's file {str(path)!r}")
    if not path.is_dir() or _is_model(path):
        return [model]
    found: list[ModelOptions] = []
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and NAME.fullmatch(folder.name):
            models = [folder] if _is_model(folder) else sorted(filter(_is_model, folder.iterdir()))
            if len(models) > 1:
                names = ", ".join(each.name for each in models[:5])
                raise ValueError(
                    f"{str(folder)!r} holds {len(models)} models: a version has one file, received {names}"
                )
            found += [dataclasses.replace(model, path=str(each), version=folder.name) for each in models]
    if not found:
        raise ValueError(
            f"{str(path)!r} holds no versions: a model's folder has a folder for each, with a file of a model in it "
            "(model.keras, of Keras 3; model.h5, of Keras 2; or a file of Frozen.save)"
        )
    return found


def _is_model(path: pathlib.Path) -> bool:
    """Whether a path in a folder is a model's: a file, or a folder of save(zipped=False) or, for its error, of TensorFlow.

    Files that are being written are not: those of `atomic_file`, and hidden ones, as other programs write them.
    """
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        return {"config.json", "metadata.json"} <= names or bool(names & {"saved_model.pb", "saved_model.pbtxt"})
    if path.suffix == ".part" or path.name.startswith("."):
        return False
    with contextlib.suppress(OSError), open(path, "rb", opener=ordinary_file) as file:
        if kind_of(file.read(START)) in ("zip", "hdf5", "frozen"):
            return True
    return path.suffix.lower() in (".keras", ".h5", ".hdf5", ".frozen")
