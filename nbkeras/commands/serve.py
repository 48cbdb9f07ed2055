"""`nbkeras serve`: models behind HTTP and gRPC."""

import argparse
import functools
import logging

from nbkeras.engine.lazy_names import Later
from nbkeras.engine.user_errors import optional_import
from nbkeras.serving import options

supervisor, worker = Later("nbkeras.serving.supervisor"), Later("nbkeras.serving.worker")


def serve(arguments: argparse.Namespace) -> int:
    """Serve models until the process is told to end; returns the exit code."""
    read = functools.partial(options.from_arguments, arguments)
    level = read().log_level.upper()
    with optional_import("nbkeras serve needs starlette, uvicorn and others: pip install 'nbkeras[serve]'"):
        work = worker.work  # imported before workers are forked, so that they share its memory
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    return supervisor.Supervisor(read, work).run()
