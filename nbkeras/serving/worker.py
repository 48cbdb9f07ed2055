"""One process that answers: its models, its HTTP server, and how it ends."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from nbkeras.models import load_model
from nbkeras.serving.connections import Connection, watch
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.options import ModelOptions, Options, versions_of
from nbkeras.serving.repository import LOADING, UNAVAILABLE, Repository
from nbkeras.serving.service import Control, Observer, Service

_log = logging.getLogger("nbkeras.serving")


class InProcess:
    """Loads and unloads models in this process, in a thread."""

    def __init__(self, repository: Repository, models: Sequence[ModelOptions]):
        self._repository = repository
        self._models = models

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        refuse_parameters(parameters)
        found = [model for model in self._models if model.name == name]
        if not found:
            raise ServingError(404, f"model {name!r:.200} is none of this server's models")
        try:
            versions = [version for model in found for version in versions_of(model)]
        except (OSError, ValueError) as error:
            raise ServingError(400, f"model {name!r} could not be loaded: {error}") from error
        for version in versions:
            await self.load_one(version)

    async def load_one(self, model: ModelOptions) -> None:
        """Load a version; one that is served goes on until the new one is ready, or if it fails."""
        self._repository.mark(model.name, model.version, LOADING)
        try:
            frozen = await asyncio.to_thread(_frozen, model)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._repository.mark(model.name, model.version, UNAVAILABLE, reason)
            raise ServingError(400, f"model {model.name!r} could not be loaded: {reason}") from error
        self._repository.set(model.name, model.version, frozen, model)

    async def unload(self, name: str, parameters: dict[str, Any]) -> None:
        refuse_parameters(parameters)
        self._repository.get(name)
        self._repository.remove(name)


def refuse_parameters(parameters: dict[str, Any]) -> None:
    """Refuse parameters of a load or unload, but for unload_dependents, which is true of models that have none."""
    for name in parameters:
        if name != "unload_dependents":
            raise ServingError(
                400, f"the parameter {name!r:.80} is not offered: models are loaded from the server's own files"
            )


def _frozen(options: ModelOptions) -> Any:
    model = load_model(options.path, compile=False)
    return model.frozen(options.batch_sizes, options.input_signature)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    made.listen(2048)
    return made


async def serve(
    options: Options,
    sockets: Sequence[socket.socket],
    repository: Repository,
    *,
    control: Control | None = None,
    observer: Observer | None = None,
    when_ready: Callable[[], Any] | None = None,
) -> None:
    """Answer requests on sockets that listen, until SIGTERM or SIGINT; then end what was accepted.

    control: loads and unloads for requests; None refuses them.
    """
    service = Service(repository, control=control, observer=observer)
    application = Application(service, int(options.max_body_mb * 1e6))
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=Connection.of(options, observer),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=options.drain_seconds,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def end() -> None:
        service.is_draining = True
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    task = asyncio.create_task(server._serve(list(sockets)))
    watching = asyncio.create_task(watch(server.server_state, options))
    while not server.started and not task.done():
        await asyncio.sleep(0.001)
    if when_ready is not None:
        when_ready()
    await task
    watching.cancel()
    await repository.drain()


def run(options: Options) -> None:
    """Serve models in this process alone."""
    import uvloop

    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    sock = listen(options.host, options.port)

    async def main() -> None:
        repository = Repository()
        loads = InProcess(repository, options.models)
        for model in options.models:
            for version in versions_of(model):
                await loads.load_one(version)

        def told() -> None:
            host, port = sock.getsockname()[:2]
            _log.info("listening on http://%s:%d", host, port)

        await serve(options, [sock], repository, control=loads if options.control else None, when_ready=told)

    uvloop.run(main())
