"""Service: all that the server offers, free of HTTP and gRPC, which both call it."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import nbkeras
from nbkeras.serving import tensors
from nbkeras.serving.errors import ServingError
from nbkeras.serving.exchange import Exchange
from nbkeras.serving.repository import Repository
from nbkeras.serving.tensors import InferRequest as InferRequest
from nbkeras.serving.tensors import InferResponse as InferResponse

EXTENSIONS = ["binary_tensor_data", "parameters"]
CONTROL_EXTENSIONS = ["model_repository", "model_repository(unload_dependents)"]


class Control(Protocol):
    """Loads and unloads the models of a Repository; the parent of several workers does so for all of them."""

    async def load(self, name: str, parameters: dict[str, Any]) -> None: ...

    async def unload(self, name: str, parameters: dict[str, Any]) -> None: ...


class Service:
    """All that a worker offers.

    control: loads and unloads; None refuses both. log: is called with each request to infer that was answered.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        control: Control | None = None,
        log: Callable[[Exchange], Any] | None = None,
    ):
        self.repository, self.control, self._log = repository, control, log
        self.is_draining = False
        self.in_flight = 0

    async def infer(
        self, name: str, version: str | None, request: InferRequest, exchange: Exchange | None = None
    ) -> InferResponse:
        """Answer a request; a ServingError says why it cannot be."""
        start = time.monotonic()
        self.in_flight += 1
        try:
            model = self.repository.get(name, version)
            if exchange is not None:
                exchange.name, exchange.version = name, model.version
            arrays = tensors.ordered(name, model.inputs, request.inputs, model.options.allow_nan)
            if exchange is not None:
                exchange.rows = len(arrays[0])
            wanted = request.outputs
            places = None if wanted is None else [_place(model, output) for output in wanted]
            seconds = request.timeout or model.options.timeout
            found = await model.batcher.infer(arrays, None if seconds is None else start + seconds, exchange)
            specs = model.outputs
            if places is None:
                outputs = list(zip(specs, found, strict=True))
            else:
                outputs = [(specs[place], found[place]) for place in places]
            return InferResponse(name, model.version, outputs, request.id)
        finally:
            self.in_flight -= 1

    def answered(self, exchange: Exchange) -> None:
        """Count and log a request to infer, of which the answer, or the error, is there."""
        self.repository.observer.request(exchange)
        if self._log is not None:
            self._log(exchange)

    # -------------------- health and metadata --------------------

    def live(self) -> bool:
        return True

    def ready(self) -> bool:
        """Whether requests are taken: some model is there, none is missing that was asked for, and the server does not end."""
        return not self.is_draining and all(
            each["state"] == "READY" or each["reason"] == "unloaded" for each in self.index()
        )

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether a model answers."""
        try:
            self.repository.get(name, version)
        except ServingError:
            return False
        return not self.is_draining

    def server_metadata(self) -> dict[str, Any]:
        extensions = EXTENSIONS + (CONTROL_EXTENSIONS if self.control is not None else [])
        return {"name": "nbkeras", "version": nbkeras.__version__, "extensions": extensions}

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        model = self.repository.get(name, version)
        return model.metadata(self.repository.versions(name))

    # -------------------- the repository --------------------

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        return self.repository.index(ready_only)

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        """Load a model again, or one that was unloaded, from its file."""
        await self._control().load(name, parameters)

    async def unload(self, name: str, parameters: dict[str, Any]) -> None:
        """Serve a model no more."""
        await self._control().unload(name, parameters)

    def _control(self) -> Control:
        if self.control is None:
            raise ServingError(
                403, "models are not loaded or unloaded by requests here (start the server with --control)"
            )
        if self.is_draining:
            raise ServingError(503, "the server ends", retry_after=1)
        return self.control


def _place(model: Any, output: str) -> int:
    try:
        return model.output_places[output]
    except KeyError:
        names = ", ".join(map(repr, model.output_places))
        raise ServingError(
            400, f"model {model.name!r} has no output {output!r:.200}; its outputs are {names}"
        ) from None
