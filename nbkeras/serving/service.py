"""Service: the operations of the server, independent of HTTP and gRPC, which call it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from nbkeras.engine import settings
from nbkeras.serving.budget import ANSWER_COST, LONG, READING_COST
from nbkeras.serving.errors import ServingError
from nbkeras.serving.exchange import RequestContext, Requests
from nbkeras.serving.peers import SequenceRouter
from nbkeras.serving.repository import READY, STARTING, UNLOADED, Repository, Version
from nbkeras.serving.sequences import Key, Sequences, key_of
from nbkeras.serving.tensors import InferRequest as InferRequest
from nbkeras.serving.tensors import InferResponse as InferResponse

EXTENSIONS = ["binary_tensor_data", "parameters", "sequence", "model_configuration"]
CONTROL_EXTENSIONS = ["model_repository", "model_repository(unload_dependents)"]


class Control(Protocol):
    """Loads and unloads the models of a Repository; the supervisor does so for all workers."""

    async def load(self, name: str, parameters: dict[str, Any]) -> None: ...

    async def unload(self, name: str, parameters: dict[str, Any]) -> None: ...


class Service:
    """The operations of a worker.

    control: loads and unloads models; None refuses both. log: receives each inference request.
    peers: the workers of the server, if there are several. budget: for the bytes of all requests and sequences.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        control: Control | None = None,
        sequences: Sequences | None = None,
        log: Requests | None = None,
    ):
        self.repository, self.control, self.log = repository, control, log
        self.sequences = Sequences() if sequences is None else sequences  # an empty Sequences is false
        self.budget = self.sequences.budget
        self.peers: SequenceRouter | None = None
        self._reading = asyncio.Lock()
        self.is_draining = False
        self.in_flight = 0

    async def infer(self, name: str, version: str | None, request: InferRequest) -> InferResponse:
        """Answer a request; raises ServingError if that is impossible."""
        start = time.monotonic()
        self.in_flight += 1
        try:
            model = self.repository.get(name, version)
            if request.exchange is not None:
                request.exchange.meant(model, request)
            seconds = request.timeout or model.options.timeout
            deadline = None if seconds is None else start + seconds
            key = key_of(name, version, request.parameters) if request.parameters else None
            owner = None if key is None or self.peers is None else self.peers.owner(key.model, key.id)
            if owner is None or owner == self.peers.index:  # type: ignore[union-attr]
                return await self._respond(model, key, request, deadline)
            with self.budget.share(request.nbytes):  # for the message to the owner
                return await self.peers.infer(owner, name, version, request, deadline)  # type: ignore[union-attr]
        finally:
            self.in_flight -= 1

    async def read(self, size: int, cost: Callable[[], int], function: Callable[[], Any]) -> Any:
        """The result of a function that parses a request. size: the request's bytes. cost: returns the memory for parsing it.

        Short requests are assumed to have the maximum cost; `cost` is called only if that exceeds the budget. Long requests
        are parsed in a thread, one at a time, so that other requests and health checks are answered meanwhile.
        """
        if size <= LONG:
            if not self.budget.has(READING_COST * size):
                self.budget.check(cost())
            return function()  # nothing else is counted at the same time

        async def read() -> Any:
            async with self._reading:
                with self.budget.share(size) as share:
                    share.grow(await asyncio.to_thread(cost))
                    return await asyncio.to_thread(function)

        # the thread continues if the client disconnects, and needs its memory until it ends
        return await asyncio.shield(read())

    async def write(self, function: Callable[[InferResponse, Any], Any], response: InferResponse, form: Any) -> Any:
        """The encoded answer. A function writes it, in a thread if it is long, so that health checks are answered meanwhile."""
        size = sum([values.nbytes for _, values in response.outputs])
        if size <= LONG:
            self.budget.check(size * ANSWER_COST)
            return function(response, form)
        with self.budget.share(size * ANSWER_COST):
            return await asyncio.to_thread(function, response, form)

    def exchange(self, protocol: str, request_id: str = "") -> RequestContext:
        """The context of an inference request that begins to arrive. request_id: the client's, if it is sane."""
        return RequestContext(protocol, request_id or ("" if self.log is None else self.log.new_id()))

    def answered(self, exchange: RequestContext) -> None:
        """Count and log an inference request that has its answer or error."""
        self.repository.observer.request(exchange)
        if self.log is not None:
            self.log(exchange)

    async def answer(
        self, name: str, version: str | None, request: InferRequest, deadline: float | None
    ) -> InferResponse:
        """Answer a sequence's request that another worker received; that worker counts it."""
        model = self.repository.get(name, version)
        with self.budget.share(request.nbytes):
            return await self._respond(model, key_of(name, version, request.parameters), request, deadline)

    async def _respond(
        self, model: Version, key: Key | None, request: InferRequest, deadline: float | None
    ) -> InferResponse:
        if key is not None:
            model, found = await self.sequences.infer(key, model, request, deadline)
        else:
            arrays = model.arrays(request)
            with self.budget.share(model.bytes_of(arrays)):
                if model.is_stream:  # a sequence of one request
                    arrays.append(model.frozen.initial(len(arrays[0])))
                found = await model.batcher.infer(arrays, deadline, request.exchange)
        return model.response(request, found)

    # -------------------- health and metadata --------------------

    def ready(self) -> bool:
        """Whether requests are accepted: the initial models are loaded, and the server is not ending.

        A version that is loaded later, or fails to load, does not change this; `index` reports what is broken.
        """
        index = self.repository.index()
        reasons = [each["reason"] for each in index if each["state"] != READY]
        is_served = len(reasons) < len(index) or all(reason == UNLOADED for reason in reasons)
        return is_served and STARTING not in reasons and not self.is_draining

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether a model is served."""
        try:
            self.repository.get(name, version)
        except ServingError:
            return False
        return not self.is_draining

    def server_metadata(self) -> dict[str, Any]:
        extensions = EXTENSIONS + (CONTROL_EXTENSIONS if self.control is not None else [])
        return {"name": "nbkeras", "version": settings.VERSION, "extensions": extensions}

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        model = self.repository.get(name, version)
        return model.metadata(self.repository.versions(name))

    def model_file(self, name: str, version: str | None = None) -> dict[str, Any]:
        """The file of a served version, and the reason and time of the last load if it failed."""
        model = self.repository.get(name, version)
        failure = self.repository.failure(name, model.version)
        failed = {} if failure is None else dict(zip(("failed_load", "failed_load_time"), failure, strict=True))
        return model.source | failed

    def model_configuration(self, name: str, version: str | None = None) -> dict[str, Any]:
        return self.repository.get(name, version).configuration(self.sequences.idle)

    # -------------------- the repository --------------------

    def controlled(self) -> Control:
        """The Control, if requests may load and unload models; else raises ServingError."""
        if self.control is None:
            raise ServingError(
                403, "models are not loaded or unloaded by requests here (start the server with --control)"
            )
        if self.is_draining:
            raise ServingError(503, "the server ends", retry_after=1)
        return self.control
