"""Service: the operations of the server, independent of HTTP and gRPC, which call it."""

import asyncio
import time
from typing import Any, Protocol

from nbkeras.engine import settings
from nbkeras.serving.budget import ANSWER_COST, LONG, READING_COST
from nbkeras.serving.errors import ServingError
from nbkeras.serving.repository import READY, STARTING, UNLOADED, Repository, Version
from nbkeras.serving.requests import InferRequest, InferResponse, RequestLog
from nbkeras.serving.sequence_router import SequenceRouter
from nbkeras.serving.sequences import Key, Sequences, key_of

EXTENSIONS = ["binary_tensor_data", "parameters", "sequence", "model_configuration"]
CONTROL_EXTENSIONS = ["model_repository", "model_repository(unload_dependents)"]


class Control(Protocol):
    """Loads and unloads the models of a Repository; the supervisor does so for all workers."""

    async def change(self, do: str, name: str, parameters: dict[str, Any]) -> None: ...  # do: "load" or "unload"


class Service:
    """The operations of a worker.

    control: loads and unloads models; None refuses both. log: receives each inference request.
    router: to the workers that own sequences, if there are several. budget: for the bytes of all requests and sequences.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        control: Control | None = None,
        sequences: Sequences | None = None,
        log: RequestLog | None = None,
    ):
        self.repository, self.control, self.log = repository, control, log
        self.sequences = Sequences() if sequences is None else sequences  # an empty Sequences is false
        self.budget = self.sequences.budget
        self.router: SequenceRouter | None = None
        self._reading = asyncio.Lock()
        self.is_draining = False
        self.in_flight = 0

    async def answer(self, request: InferRequest) -> Any:
        """The encoded answer to a request; raises ServingError if that is impossible."""
        self.in_flight += 1
        try:
            request.begin(self.repository)
            if not await self._read(request):
                request.body = b""
                request.share.shrink(0)
            request.share.grow(request.nbytes)
            return await self._write(request, await self.infer(request))
        finally:
            self.in_flight -= 1

    async def infer(self, request: InferRequest) -> InferResponse:
        """Compute a request whose model is found, here or, for a sequence, in the worker that owns it."""
        seconds = request.timeout or request.model.options.timeout
        if seconds is not None:
            request.deadline = time.monotonic() + seconds
        key = key_of(request) if request.parameters else None
        if key is None or self.router is None or (owner := self.router.owner(key.model, key.id)) == self.router.index:
            return await self._compute(request, key)
        with self.budget.share(request.nbytes):  # for the message to the owner
            return await self.router.infer(owner, request)

    async def infer_forwarded(self, request: InferRequest) -> InferResponse:
        """Compute a sequence's request that another worker received; that worker counts it."""
        request.find(self.repository)
        with self.budget.share(request.nbytes):
            return await self._compute(request, key_of(request))

    async def _read(self, request: InferRequest) -> bool:
        """Read a request; returns what its `read` does.

        Short requests are assumed to have the maximum cost; `cost` is called only if that exceeds the budget. Long requests
        are read in a thread, one at a time, so that other requests and health checks are answered meanwhile.
        """
        size = len(request.body)
        if size <= LONG:
            if not self.budget.has(READING_COST * size):
                self.budget.check(request.cost())
            return request.read(self.repository)  # nothing else is counted at the same time

        async def read() -> bool:
            async with self._reading:
                with self.budget.share(size) as share:
                    share.grow(await asyncio.to_thread(request.cost))
                    return await asyncio.to_thread(request.read, self.repository)

        # the thread continues if the client disconnects, and needs its memory until it ends
        return await asyncio.shield(read())

    async def _compute(self, request: InferRequest, key: Key | None) -> InferResponse:
        model: Version = request.model
        if key is not None:
            model, found = await self.sequences.infer(key, request)
            return model.response(request, found)
        arrays = model.arrays(request)
        with self.budget.share(model.bytes_of(arrays)):
            if model.is_stream:  # a sequence of one request
                arrays.append(model.frozen.initial(len(arrays[0])))
            return model.response(request, await model.batcher.infer(arrays, request))

    async def _write(self, request: InferRequest, response: InferResponse) -> Any:
        """The encoded answer, written in a thread if it is long, so that health checks are answered meanwhile."""
        size = sum([values.nbytes for _, values in response.outputs])
        cost = size * ANSWER_COST + request.extra_bytes(response)
        if size <= LONG:
            self.budget.check(cost)
            return request.write(response)
        with self.budget.share(cost):
            return await asyncio.to_thread(request.write, response)

    def new_id(self) -> str:
        """An id for a request without one; "" if nothing will log it."""
        return "" if self.log is None else self.log.new_id()

    def answered(self, request: InferRequest, status: int, reason: str = "") -> None:
        """Count and log an inference request that has its answer or error, and give its memory back."""
        request.share.close()
        request.status, request.reason = status, reason
        request.seconds = time.monotonic() - request.since
        self.repository.observer.request(request)
        if self.log is not None:
            self.log(request)

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

    async def change(self, do: str, name: str, parameters: dict[str, Any]) -> None:
        """Load or unload a model; raises ServingError if requests may not, or if it fails."""
        if self.control is None:
            raise ServingError(
                403, "models are not loaded or unloaded by requests here (start the server with --control)"
            )
        if self.is_draining:
            raise ServingError(503, "the server ends", retry_after=1)
        await self.control.change(do, name, parameters)
