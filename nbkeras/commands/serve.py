"""`nbkeras serve`: models behind HTTP and gRPC."""

import argparse

from nbkeras.engine.lazy_names import Later
from nbkeras.engine.user_errors import optional_import
from nbkeras.serving import options

worker = Later("nbkeras.serving.worker")


def serve(arguments: argparse.Namespace) -> None:
    """Serve models until the process is told to end."""
    chosen = options.from_arguments(arguments)
    with optional_import("nbkeras serve needs starlette, uvicorn and others: pip install 'nbkeras[serve]'"):
        run = worker.run
    run(chosen)
