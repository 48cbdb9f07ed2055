"""`nbkeras serve`: models behind HTTP and gRPC."""

import argparse
import functools
import importlib.util

from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.user_errors import install, optional_import
from nbkeras.serving import options

logs, supervisor, worker = map(
    LazyModule, ("nbkeras.serving.logs", "nbkeras.serving.supervisor", "nbkeras.serving.worker")
)


def serve_models(arguments: argparse.Namespace) -> int:
    """Serve models until the process receives a signal to end; returns the exit code."""
    read = functools.partial(options.from_arguments, arguments)
    first = read()
    with optional_import("nbkeras serve needs starlette, uvicorn and others", "serve"):
        work = worker.work  # imported before workers are forked, so that they share its memory
    if first.grpc_port is not None and importlib.util.find_spec("grpc") is None:  # workers import it, after the fork
        raise ImportError(f"--grpc-port needs grpcio and protobuf: {install('serve')}")
    logs.configure(first.log, first.log_level)
    return supervisor.Supervisor(read, work).run()
