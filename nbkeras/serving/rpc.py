"""The server over gRPC: the GRPCInferenceService of open_inference.proto, and gRPC's services for health and reflection.

Inputs are raw bytes or typed contents; the answer has the same form. ModelStreamInfer is Triton's: a stream of requests,
answered in order.

Import this module only in a process that forks no more, because gRPC starts threads.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection

from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving import messages, tensors
from nbkeras.serving.budget import MAX_CALLS, MAX_CONTENT, MESSAGE_COPIES
from nbkeras.serving.errors import ServingError, client_error, refused
from nbkeras.serving.frames import Gate
from nbkeras.serving.options import Options
from nbkeras.serving.requests import InferRequest, InferResponse, safe_id
from nbkeras.serving.service import Service

SERVICE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
_AHEAD = 64  # requests of a stream computed at the same time
_MAX_KEPT = 1 << 12  # bytes of one that is kept, uncounted, until its stream ends
_TURN = 0.5  # seconds until watchers of the health hear of a change, and idle streams of the server's end
_MAX_ERROR = 1000  # characters of an error message, which is sent in headers

# the field of InferTensorContents for each datatype; FP16 has none
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIDE = {"int_contents": "int32", "uint_contents": "uint32"}  # fields that hold narrower datatypes too

_Request, _Response, _StreamResponse = (
    messages.message(f"inference.Model{name}") for name in ("InferRequest", "InferResponse", "StreamInferResponse")
)
_Health = messages.message("grpc.health.v1.HealthCheckResponse")


# -------------------- requests and answers --------------------


class Request(InferRequest):
    """An encoded ModelInferRequest. is_raw: whether its tensors are raw bytes, as those of its answer will be."""

    protocol, is_raw = "grpc", False

    def __init__(self, data: bytes, context: Any, service: Service):
        super().__init__()
        self.body, self._context, self.share = data, context, service.budget.share()
        self.log_id = _request_id(context) or service.new_id()

    def cost(self) -> int:
        return messages.cost_of(self.body)

    def read(self, repository: Any) -> bool:
        message = messages.decoded(_Request, self.body)
        self.name, self.version = message.model_name, message.model_version or None
        self.is_raw = bool(message.raw_input_contents)
        read_request(self, message, self.find(repository).inputs)
        left = self._context.time_remaining()
        if left is not None:
            self.timeout = min(left, self.timeout or left)
        return False

    def write(self, response: InferResponse) -> Any:
        return write_response(response, self.is_raw)


def read_request(request: InferRequest, message: Any, specs: Sequence[TensorSpec] = ()) -> None:
    """Read a ModelInferRequest. specs: the model's inputs; data that does not match them is not converted."""
    raw, given = message.raw_input_contents, message.inputs
    inputs: dict[str, np.ndarray] = {}
    for tensor in given:
        tensors.check_memory("input", tensor.name, tensor.parameters)
    if not given:
        raise refused("the request has no inputs")
    if raw and len(raw) != len(given):
        raise refused(f"the request has {len(given)} inputs, but {len(raw)} raw_input_contents: it needs one for each")
    for place, tensor in enumerate(given):
        name, shape = tensor.name, list(tensor.shape)
        if not name:
            raise refused("each input needs a name")
        tensors.check_claim(message.model_name, specs, inputs, name, tensor.datatype, shape)
        if not raw:
            inputs[name] = _typed(name, tensor.datatype, shape, tensor.contents)
        elif tensor.contents.ListFields():  # MLServer's client sends empty ones
            raise refused(f"input {name!r:.200} has contents, but the request has raw_input_contents too")
        else:
            inputs[name] = tensors.from_bytes(name, tensor.datatype, shape, raw[place])
    outputs: list[str] = []
    for output in message.outputs:
        tensors.check_output(output.name, outputs, messages.parameters_of(output.parameters))
        outputs.append(output.name)
    tensors.check_id(message.id)
    parameters = messages.parameters_of(message.parameters)
    request.timeout, request.outputs = tensors.timeout_of(parameters), outputs or None
    request.inputs, request.id, request.parameters = inputs, message.id or None, parameters


def _typed(name: str, datatype: str, shape: list[int], contents: Any) -> np.ndarray:
    """The array of typed contents. Several fields may be filled; only the datatype's counts."""
    field, dtype, count = _CONTENTS.get(datatype), tensors.DTYPES[datatype], math.prod(shape)
    if field is None:
        raise refused(f"input {name!r:.200}: {datatype} has no typed contents; send it as raw_input_contents")
    values = getattr(contents, field)
    if len(values) != count:
        raise refused(f"input {name!r:.200}: shape {shape} has {count} values, received {len(values)} in {field}")
    if count > tensors.MAX_VALUES:
        raise refused(
            f"input {name!r:.200}: shape {shape} has {count} values in {field} (limit: {tensors.MAX_VALUES}); send it as "
            "raw_input_contents"
        )
    if datatype == "BYTES":
        return tensors.array_of_texts([tensors.text_of(name, value) for value in values], shape)
    wide = np.fromiter(values, _WIDE.get(field, dtype), count)
    made = wide.astype(dtype, copy=False)
    if wide.dtype != dtype and not np.array_equal(made, wide):
        odd = wide[made != wide][0]
        raise refused(f"input {name!r:.200}: data of {datatype} holds {odd}, which does not fit")
    return made.reshape(shape)


def write_response(response: InferResponse, is_raw: bool) -> Any:
    """A ModelInferResponse with raw or typed outputs."""
    message = _Response(model_name=response.model_name, model_version=response.model_version, id=response.id or "")
    messages.set_parameters(message.parameters, response.parameters)
    datatypes = [tensors.datatype_of(values.dtype) for _, values in response.outputs]
    is_raw = is_raw or not all(datatype in _CONTENTS for datatype in datatypes)
    for (spec, values), datatype in zip(response.outputs, datatypes, strict=True):
        output = message.outputs.add(name=spec.name, datatype=datatype, shape=values.shape)
        if is_raw:
            message.raw_output_contents.append(tensors.to_bytes(values))
        else:
            flat, field = values.ravel(), getattr(output.contents, _CONTENTS[datatype])
            for at in range(0, len(flat), tensors.PIECE_VALUES):
                part = flat[at : at + tensors.PIECE_VALUES].tolist()
                if datatype == "BYTES":
                    part = [value if isinstance(value, bytes) else str(value).encode() for value in part]
                field.extend(part)
    return message


# -------------------- the services --------------------


class Servicer:
    """The methods of GRPCInferenceService. Each takes a message (ModelInferRequests: its bytes) and the call's context.

    They return messages or their fields, or write messages.
    """

    def __init__(self, service: Service):
        self.service = service

    async def ServerLive(self, request: Any, context: Any) -> dict[str, Any]:
        return {"live": True}

    async def ServerReady(self, request: Any, context: Any) -> dict[str, Any]:
        return {"ready": self.service.ready()}

    async def ModelReady(self, request: Any, context: Any) -> dict[str, Any]:
        return {"ready": self.service.model_ready(request.name, request.version or None)}

    async def ServerMetadata(self, request: Any, context: Any) -> dict[str, Any]:
        return self.service.server_metadata()

    async def ModelMetadata(self, request: Any, context: Any) -> dict[str, Any]:
        return self.service.model_metadata(request.name, request.version or None)

    async def ModelConfig(self, request: Any, context: Any) -> dict[str, Any]:
        return {"config": self.service.model_configuration(request.name, request.version or None)}

    async def ModelInfer(self, data: bytes, context: Any) -> Any:
        """Answer an encoded ModelInferRequest. The answer counts in the budget until the call has ended."""
        answer = await self._answer(data, context)
        share = self.service.budget.share(MESSAGE_COPIES * answer.ByteSize())
        context.add_done_callback(lambda _: share.close())
        return answer

    async def _answer(self, data: bytes, context: Any) -> Any:
        """The answer to an encoded ModelInferRequest, which is parsed after its memory is counted."""
        request = Request(data, context, self.service)
        status, reason = 500, ""
        try:
            answer = await self.service.answer(request)
            status = 200
            return answer
        except ServingError as error:
            status, reason = error.status, error.reason
            raise
        except asyncio.CancelledError:
            status = 499
            raise
        finally:
            self.service.answered(request, status, reason)

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Answer the requests of a stream in order. Several are computed at the same time; an error does not end the stream."""
        places, before = asyncio.Semaphore(_AHEAD), None
        try:
            async with asyncio.TaskGroup() as group:
                async for data in requests:
                    await places.acquire()
                    before = group.create_task(self._in_stream(data, context, before))
                    before.add_done_callback(lambda _: places.release())
        except* grpc.aio.BaseError:  # the client has left
            pass

    async def _in_stream(self, data: bytes, context: Any, before: asyncio.Task | None) -> None:
        """Answer a request of a stream, after the one before it. The answer counts in the budget until it is sent."""
        try:
            response = await self._answer(data, context)
            messages.set_parameters(response.parameters, {"triton_final_response": True})
            answer = _StreamResponse(infer_response=response)
            share = self.service.budget.share(MESSAGE_COPIES * response.ByteSize())
        except Exception as error:
            failure = _Response(id=messages.id_of(data))
            answer = _StreamResponse(error_message=client_error(error).message, infer_response=failure)
            share = self.service.budget.share()
        with share:
            if before is not None:
                await before
            await context.write(answer)

    async def RepositoryIndex(self, request: Any, context: Any) -> dict[str, Any]:
        return {"models": self.service.repository.index(request.ready)}

    async def RepositoryModelLoad(self, request: Any, context: Any) -> dict[str, Any]:
        return {"model_name": await self._change("load", request), "isLoaded": True}

    async def RepositoryModelUnload(self, request: Any, context: Any) -> dict[str, Any]:
        return {"model_name": await self._change("unload", request), "isUnloaded": True}

    async def _change(self, do: str, request: Any) -> str:
        name = messages.model_of(request)
        await self.service.change(do, name, messages.parameters_of(request.parameters))
        return name


class Health:
    """The methods of gRPC's health service, for Kubernetes' probes and for clients that choose a server.

    The HealthServicer of grpcio-health-checking must be told each status, and a watcher that reads nothing blocks it.
    """

    def __init__(self, service: Service):
        self._service = service

    def _status(self, name: str) -> int:
        if name not in ("", SERVICE):
            return _Health.SERVICE_UNKNOWN
        return _Health.SERVING if self._service.ready() else _Health.NOT_SERVING

    async def Check(self, request: Any, context: Any) -> dict[str, Any]:
        status = self._status(request.service)
        if status == _Health.SERVICE_UNKNOWN:
            raise ServingError(404, f"there is no service {request.service!r:.200}")
        return {"status": status}

    async def Watch(self, request: Any, context: Any) -> None:
        """Tell the status, and then its changes. The call ends when the server does, which waits for its calls."""
        known = None
        while True:
            is_last, status = self._service.is_draining, self._status(request.service)
            if status != known:
                known = status
                await context.write(_Health(status=status))
            if is_last:
                return
            await asyncio.sleep(_TURN)


def _request_id(context: Any) -> str:
    given = (value for key, value in context.invocation_metadata() or () if key == "x-request-id")
    value = next(given, "")
    return safe_id(value.encode() if isinstance(value, str) else value)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a method. Other methods are refused with a message."""

    def __init__(self, service: Service):
        names = (SERVICE, HEALTH, reflection.SERVICE_NAME)
        # this servicer needs the messages of the other pool
        reflected = descriptor_pool.Default().FindServiceByName(reflection.SERVICE_NAME)
        servicers = {
            messages.POOL.FindServiceByName(SERVICE): Servicer(service),
            messages.POOL.FindServiceByName(HEALTH): Health(service),
            reflected: reflection.aio.ReflectionServicer(names, messages.POOL),
        }
        self._calls = {
            f"/{kind.full_name}/{method.name}": _handler(method, getattr(servicer, method.name), service)
            for kind, servicer in servicers.items()
            for method in kind.methods
            if hasattr(servicer, method.name)
        }

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        refusal = functools.partial(_not_offered, method)
        return self._calls.get(method) or grpc.unary_unary_rpc_method_handler(refusal)


async def _not_offered(method: str, request: Any, context: Any) -> None:
    hint = ": tensors are sent in requests" if "SharedMemory" in method else ""
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method:.200} is not offered{hint}")


def _handler(method: Any, answer: Callable[[Any, Any], Any], service: Service) -> grpc.RpcMethodHandler:
    """The handler of a method of a .proto. answer: the servicer's method."""
    given, sent = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    limit = _MAX_KEPT if method.server_streaming else MAX_CONTENT
    is_generator = inspect.isasyncgenfunction(answer)

    def read(data: bytes) -> Any:
        return data if given is _Request else _read(given, data, limit)

    async def call(data: Any, context: Any) -> Any:
        try:
            # no local variable: gRPC keeps the frame of an aborted call until the garbage collector runs
            found = answer(_arriving(data, service, read) if method.client_streaming else read(data), context)
            if is_generator:
                async for each in found:
                    await context.write(each)
                return None
            found = await found
            return sent(**found) if isinstance(found, dict) else found
        except grpc.aio.BaseError:  # the client has left
            raise
        except Exception as error:
            failure = client_error(error)
        del data  # as above
        again = () if failure.retry_after is None else (("grpc-retry-pushback-ms", f"{failure.retry_after * 1000}"),)
        await context.abort(grpc.StatusCode[failure.code], f"{failure.message:.{_MAX_ERROR}}", again)

    if not method.server_streaming:
        return grpc.unary_unary_rpc_method_handler(call, None, sent.SerializeToString)
    made = grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_stream_rpc_method_handler
    return made(call, None, sent.SerializeToString)


async def _arriving(stream: AsyncIterator[bytes], service: Service, read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """The messages of a stream until its client ends it, or until the server ends and none arrives for a moment."""
    while (data := await _next(stream, service)) is not None:
        yield read(data)


async def _next(stream: AsyncIterator[bytes], service: Service) -> bytes | None:
    reading = asyncio.ensure_future(anext(stream, None))
    try:
        while not (await asyncio.wait((reading,), timeout=_TURN))[0]:
            if service.is_draining:
                return None
        return reading.result()
    finally:
        reading.cancel()


def _read(kind: Any, data: bytes, limit: int | None = None) -> Any:
    """Decode a message without tensors, of at most `limit` bytes."""
    limit = limit or MAX_CONTENT
    if len(data) > limit:
        raise ServingError(413, f"a {kind.DESCRIPTOR.full_name} may have at most {limit} bytes, received {len(data)}")
    return messages.decoded(kind, data)


class Server:
    """A gRPC server and the gate in front of it."""

    def __init__(self, server: grpc.aio.Server, gate: Gate):
        self._server, self._gate = server, gate

    async def stop(self, seconds: float) -> bool:
        """Accept no more calls and wait for the running ones. Returns whether they ended in time; late ones are cancelled."""
        end = time.monotonic() + seconds
        self._gate.close()
        await self._server.stop(seconds)
        self._gate.end()
        return time.monotonic() < end


async def start(service: Service, options: Options, port: int) -> Server:
    """Start a server on a port that all workers share; `stop` ends it."""
    gate = Gate(options, service.budget)
    server = grpc.aio.server(
        handlers=[_Handlers(service)],
        maximum_concurrent_rpcs=options.max_connections,
        options=[
            ("grpc.max_receive_message_length", int(options.max_body_mb * 1e6)),
            ("grpc.max_concurrent_streams", MAX_CALLS),
            ("grpc.max_send_message_length", -1),
            ("grpc.server_handshake_timeout_ms", int(options.header_seconds * 1000)),
            ("grpc.max_connection_idle_ms", int(options.keep_alive_seconds * 1000)),
        ],
    )
    if not server.add_insecure_port(gate.target):
        raise OSError("cannot listen on a socket of this machine for gRPC")
    await server.start()
    await gate.open(port)
    return Server(server, gate)
