"""Service: all that the server offers, free of HTTP and gRPC, which both call it."""

import time
from typing import Any, Protocol

import nbkeras
from nbkeras.serving import tensors
from nbkeras.serving.errors import ServingError
from nbkeras.serving.repository import Repository
from nbkeras.serving.tensors import InferRequest as InferRequest
from nbkeras.serving.tensors import InferResponse as InferResponse

EXTENSIONS = ["binary_tensor_data", "parameters"]
CONTROL_EXTENSIONS = ["model_repository", "model_repository(unload_dependents)"]


class Control(Protocol):
    """Loads and unloads the models of a Repository; the parent of several workers does so for all of them."""

    async def load(self, name: str, parameters: dict[str, Any]) -> None: ...

    async def unload(self, name: str, parameters: dict[str, Any]) -> None: ...


class Observer:
    """Is told what happens; `metrics.py` counts it."""

    def request(self, name: str, version: str, status: int, seconds: float) -> None:
        """A request to infer was answered."""

    def refused(self, status: int) -> None:
        """A connection was refused or closed with a status, before there was a request."""

    def batch(self, name: str, version: str, rows: int, seconds: float, waited: float) -> None:
        """A batch of some rows was computed; its oldest request had waited."""


class Service:
    """All that a worker offers.

    control: loads and unloads; None refuses both.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        control: Control | None = None,
        observer: Observer | None = None,
    ):
        self.repository, self.control, self.observer = repository, control, observer
        self.is_draining = False
        self.in_flight = 0
        if observer is not None:
            told = observer.batch
            repository.observe = lambda name, version: lambda *figures: told(name, version, *figures)

    async def infer(self, name: str, version: str | None, request: InferRequest) -> InferResponse:
        """Answer a request; a ServingError says why it cannot be."""
        start = time.monotonic()
        status, known = 500, ""
        self.in_flight += 1
        try:
            model = self.repository.get(name, version)
            known = model.version
            arrays = tensors.ordered(name, model.inputs, request.inputs, model.options.allow_nan)
            wanted = request.outputs
            places = None if wanted is None else [_place(model, output) for output in wanted]
            seconds = request.timeout or model.options.timeout
            found = await model.batcher.infer(arrays, None if seconds is None else start + seconds)
            specs = model.outputs
            if places is None:
                outputs = list(zip(specs, found, strict=True))
            else:
                outputs = [(specs[place], found[place]) for place in places]
            status = 200
            return InferResponse(name, known, outputs, request.id)
        except ServingError as error:
            status = error.status
            raise
        finally:
            self.in_flight -= 1
            if self.observer is not None:
                self.observer.request(name if known else "", known, status, time.monotonic() - start)

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
