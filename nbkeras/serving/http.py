"""The server over HTTP: an ASGI application for the Open Inference Protocol (version 2) and its extensions.

Inference requests, the most frequent ones, bypass Starlette's routes.
"""

import asyncio
import functools
import gzip
import ipaddress
import re
import types
import zlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nbkeras.serving import instances, tensors
from nbkeras.serving.budget import Share
from nbkeras.serving.errors import ServingError, as_told, refused
from nbkeras.serving.exchange import RequestContext, sane_id
from nbkeras.serving.repository import Version
from nbkeras.serving.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_FORM = b"application/x-www-form-urlencoded"  # what `curl -d` says of JSON
_CONTENT_TYPES = {b"", b"application/json", b"application/octet-stream"}
GONE = "nbkeras.gone"  # scope key, set when the client has gone and the task is cancelled
WHOLE = "nbkeras.whole"  # scope key for `Connection.answer_whole`, if the server has it
_PORT = re.compile(r":\d*$")  # the port of a Host header
_LEAST_PACKED = 1024  # bytes: shorter answers are not compressed
_LONG = 1 << 18  # bytes: more are compressed and decompressed in a thread
_MOST_CONTENT = 1 << 16  # bytes of a body that holds no tensors


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


class Headers:
    """The headers of a request that the protocol reads."""

    accept_encoding = content_encoding = content_type = b""
    is_chunked = False
    length: int | None = None
    json_bytes: int | None = None
    timeout: float | None = None  # seconds
    request_id = ""

    def __init__(self, headers: list[tuple[bytes, bytes]]):
        for name, value in headers:
            if name in _HEADERS:
                attribute, read = _HEADERS[name]
                setattr(self, attribute, read(name, value))


def _bytes_header(name: bytes, value: bytes) -> int:
    return _int_header(name, value, "a number of bytes", 18)


def _timeout_header(name: bytes, value: bytes) -> float | None:
    return _int_header(name, value, "whole milliseconds", 12) / 1000 or None


def _int_header(name: bytes, value: bytes, what: str, digits: int) -> int:
    if not value.isdigit() or len(value) > digits:
        raise refused(f"the header {name.decode().title()} must be {what}, received {value.decode('latin-1'):.80}")
    return int(value)


# header -> attribute of Headers, and the function of the header's name and value that gives it
_HEADERS: dict[bytes, tuple[str, Callable[[bytes, bytes], Any]]] = {
    b"accept-encoding": ("accept_encoding", lambda _, value: value.lower()),
    b"content-encoding": ("content_encoding", lambda _, value: value.strip().lower()),
    b"content-type": ("content_type", lambda _, value: value.partition(b";")[0].strip().lower()),
    b"transfer-encoding": ("is_chunked", lambda *_: True),
    b"content-length": ("length", _bytes_header),
    b"inference-header-content-length": ("json_bytes", _bytes_header),
    b"x-request-timeout-ms": ("timeout", _timeout_header),
    b"x-request-id": ("request_id", lambda _, value: sane_id(value)),
}


class Application:
    """The ASGI application.

    max_body: the limit of a request's body in bytes. routes: further routes, such as metrics and the status page.
    control_hosts: names by which requests that load and unload models may call this server, besides loopback names and the
    connection's address.
    """

    def __init__(
        self,
        service: Service,
        max_body: int = 64 << 20,
        routes: Sequence[BaseRoute] = (),
        control_hosts: Sequence[str] = (),
    ):
        self.service, self.max_body, self.control_hosts = service, max_body, {"localhost", *control_hosts}
        own = [
            Route("/v2", self._server, methods=["GET"]),
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._ready, methods=["GET"]),
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/v2/repository/models/{name}/load", self._load, methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self._unload, methods=["POST"]),
        ]
        for path in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
            own += [
                Route(f"{path}:predict", self._infer_route, methods=["POST"]),
                Route(path, self._status, methods=["GET"]),
                Route(f"{path}/metadata", self._signature, methods=["GET"]),
            ]
        own.append(Route("/predict", self._infer_route, methods=["POST"]))
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            own += [
                Route(path, self._model, methods=["GET"]),
                Route(f"{path}/config", self._configuration, methods=["GET"]),
                Route(f"{path}/ready", self._model_ready, methods=["GET"]),
                Route(f"{path}/infer", self._infer_route, methods=["POST"]),
            ]
        handlers: dict[Any, Any] = {
            HTTPException: _not_there,
            ServingError: _error_response,
            Exception: _error_response,
        }
        self._rest = Starlette(routes=[*own, *routes], exception_handlers=handlers)
        self._rest.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if GONE not in scope:
                raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            parts = scope["path"].split("/")
            if parts[-1] == "infer" and parts[1:3] == ["v2", "models"]:
                if len(parts) == 5:
                    await self.infer(parts[3], None, scope, receive, send)
                    return
                if len(parts) == 7 and parts[4] == "versions":
                    await self.infer(parts[3], parts[5], scope, receive, send)
                    return
            asked = instances.asked(scope["path"])
            if asked is not None:
                await self.infer(*asked, scope, receive, send, instances)
                return
        await self._rest(scope, receive, send)

    async def infer(
        self,
        name: str | None,
        version: str | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        form: types.ModuleType = tensors,
    ) -> None:
        """Answer an inference request.

        name: None is the only model. form: the module that reads the request and writes the answer, `tensors` or `instances`.
        """
        start: dict[str, Any] = {"type": "http.response.start", "status": 200}
        exchange = self.service.exchange("http")
        share = self.service.budget.share()
        try:
            head = Headers(scope["headers"])
            exchange.id = head.request_id or exchange.id
            if form is instances and head.content_type == _FORM:
                head.content_type = b""
            body = await self.body_of(head, receive, share)
            exchange.begin(len(body))
            if name is None:
                name = instances.only_model(self.service.repository.index())
            model = self.service.repository.get(name, version)
            exchange.name, exchange.version = name, model.version
            request, binary = await self._read(body, head.json_bytes, model, form)
            if head.json_bytes is None:
                del body
                share.shrink(0)
            share.grow(request.nbytes)
            if head.timeout is not None:
                request.timeout = min(head.timeout, request.timeout or head.timeout)
            request.exchange = exchange
            response = await self.service.infer(name, version, request)
            if form is instances:
                share.grow(instances.extra_bytes(response, binary))
            answer, json_bytes = await self.service.write(form.write_response, response, binary)
            if json_bytes is None:
                headers = [_JSON]
            else:
                headers = [_BINARY, (b"inference-header-content-length", b"%d" % json_bytes)]
            if head.accept_encoding and len(answer) >= _LEAST_PACKED:
                answer = await _packed(head.accept_encoding, answer, headers)
            headers.append((b"content-length", b"%d" % len(answer)))
            start["headers"] = headers
            exchange.end(200)
        except ClientGone:
            self._client_gone(exchange)
            return
        except asyncio.CancelledError:
            if GONE in scope:
                self._client_gone(exchange)
                return
            ended = ServingError(503, "the server ended before the request was computed", 1)
            answer = _answer_error(ended, start, exchange)
        except Exception as error:
            answer = _answer_error(as_told(error), start, exchange)
        finally:
            share.close()
        if exchange.id:
            start["headers"].append((b"x-request-id", exchange.id.encode()))
        exchange.bytes_out = len(answer)
        self.service.answered(exchange)
        answer_whole = scope.pop(WHOLE, None)
        if answer_whole is None or not answer_whole(start["status"], start["headers"], answer):
            await send(start)
            await send({"type": "http.response.body", "body": answer})

    def _client_gone(self, exchange: RequestContext) -> None:
        exchange.end(499)
        self.service.answered(exchange)

    def _read(
        self, body: bytes | bytearray, json_bytes: int | None, model: Version, form: types.ModuleType
    ) -> Awaitable[tuple[tensors.InferRequest, Any]]:
        """The request in a body, and what its form says of the answer."""
        return self.service.read(
            len(body),
            functools.partial(tensors.cost_of_request, body, json_bytes, model.inputs),
            functools.partial(form.read_request, body, json_bytes, model.name, model.inputs),
        )

    async def body_of(self, head: Headers, receive: Receive, share: Share, most: int = 0) -> bytes | bytearray:
        """The whole body of a request, decompressed; refused before it is read if its headers claim too large a size.

        share: counts its bytes. most: a lower limit than `max_body`, if not 0.
        """
        most = most or self.max_body
        if head.content_type not in _CONTENT_TYPES:
            raise ServingError(
                415,
                f"Content-Type must be application/json, or application/octet-stream for binary tensors, received "
                f"{head.content_type.decode('latin-1'):.80} (with curl: --json instead of -d)",
            )
        if head.content_encoding not in (b"", b"identity", b"gzip", b"deflate"):
            raise ServingError(
                415, f"Content-Encoding must be gzip or deflate, received {head.content_encoding.decode('latin-1'):.80}"
            )
        if head.length is None and not head.is_chunked:
            raise ServingError(411, "the request has neither Content-Length nor Transfer-Encoding: chunked")
        if head.length is not None and head.length > most:
            raise _too_large(most, f"{head.length} bytes")
        message = await receive()
        body = message.get("body", b"")
        share.grow(_room_for(len(body)))
        if message.get("more_body", False):
            body = bytearray(body)
            while message.get("more_body", False) and len(body) <= most:
                message = await receive()
                part = message.get("body", b"")
                share.grow(_room_for(len(part)))
                body += part
        if message["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > most:
            raise _too_large(most, "more")
        if head.content_encoding in (b"gzip", b"deflate"):
            packed = share.bytes
            body = await self._unpacked(body, head.content_encoding, share, most)
            share.shrink(share.bytes - packed)
        return body

    async def _unpacked(self, body: bytes | bytearray, encoding: bytes, share: Share, most: int) -> bytearray:
        """Decompress a body. Each piece is counted before it is made."""
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == b"gzip" else zlib.MAX_WBITS)
        found, view = bytearray(), memoryview(body)
        try:
            for start in range(0, len(view), _LONG):
                piece: Any = view[start : start + _LONG]
                while piece and len(found) <= most:
                    share.grow(_LONG)
                    if len(found) < _LONG:
                        part = unpacker.decompress(piece, _LONG)
                    else:
                        part = await asyncio.to_thread(unpacker.decompress, piece, _LONG)
                    found += part
                    share.shrink(share.bytes - _LONG + _room_for(len(part)))
                    piece = unpacker.unconsumed_tail
                if unpacker.unused_data:
                    break
        except zlib.error as error:
            raise refused(
                f"the body is not valid {encoding.decode()} data, as its Content-Encoding says: {error}"
            ) from None
        if len(found) > most:
            raise _too_large(most, "more when decompressed")
        if not unpacker.eof or unpacker.unused_data:
            raise refused(
                f"the body is not valid {encoding.decode()} data, as its Content-Encoding says: it does not end where it should"
            )
        return found

    # -------------------- the rest of the protocol --------------------

    async def _infer_route(self, request: Request) -> Response:
        # POST goes to `infer`; this route provides the Allow header for other methods
        raise ServingError(404, f"there is no {request.url.path}")

    async def _server(self, request: Request) -> Response:
        return _json(self.service.server_metadata())

    async def _live(self, request: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        is_ready = self.service.ready()
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def _model(self, request: Request) -> Response:
        return _json(self.service.model_metadata(request.path_params["name"], request.path_params.get("version")))

    async def _configuration(self, request: Request) -> Response:
        return _json(self.service.model_configuration(request.path_params["name"], request.path_params.get("version")))

    async def _status(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        if request.url.path.endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        found = instances.status_of(self.service.repository.index(), name, version)
        if found is None:
            self.service.repository.get(name, version)  # raises the reason
        return _json(found)

    async def _signature(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        return _json(instances.metadata_of(self.service.repository.get(name, version)))

    async def _model_ready(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        is_ready = self.service.model_ready(name, version)
        if not is_ready and not self.service.is_draining:
            self.service.repository.get(name, version)  # raises the reason
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def _index(self, request: Request) -> Response:
        content = await self._content(request)
        ready = content.get("ready", False)
        if not isinstance(ready, bool):
            raise refused(f"'ready' must be true or false, received {tensors.shown(ready)}")
        return _json(self.service.repository.index(ready))

    async def _load(self, request: Request) -> Response:
        parameters = await self._parameters(request)
        await self.service.controlled().load(request.path_params["name"], parameters)
        return Response(status_code=200)

    async def _unload(self, request: Request) -> Response:
        parameters = await self._parameters(request)
        await self.service.controlled().unload(request.path_params["name"], parameters)
        return Response(status_code=200)

    async def _parameters(self, request: Request) -> dict[str, Any]:
        if self.service.control is not None:  # without control, all are refused with another message
            self._check_caller(request)
        parameters = (await self._content(request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise refused(f"'parameters' must be an object, received {tensors.shown(parameters)}")
        return parameters

    def _check_caller(self, request: Request) -> None:
        """Refuse requests from pages of other sites, also of a site whose own name resolves to this server (DNS rebinding)."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        name = _PORT.sub("", host).strip("[]").lower()
        address, _ = request.scope.get("server") or (None, None)
        if not (name in self.control_hosts or name == address or _is_loopback(name)):
            raise ServingError(
                403,
                "requests that load and unload models must address this server as localhost, by its address, or by a name "
                f"from --control-hosts; they used {host!r:.200}",
            )
        if origin is not None and origin.partition("://")[2] != host:
            raise ServingError(403, f"pages of {origin:.200} may not load and unload models here")

    async def _content(self, request: Request) -> dict[str, Any]:
        """The JSON object in a request's body, which may be empty."""
        head = Headers(request.scope["headers"])
        if not head.length and not head.is_chunked:
            return {}
        with self.service.budget.share() as share:
            body = await self.body_of(head, request.receive, share, _MOST_CONTENT)
            share.grow(tensors.cost_of_json(body))
            content = tensors.read_json(body) if body else {}
        if not isinstance(content, dict):
            raise refused(f"the body must be a JSON object, received {tensors.shown(content)}")
        return content


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _room_for(size: int) -> int:
    """The bytes that a bytearray allocates for `size` bytes: an eighth more."""
    return size + (size >> 3)


def _too_large(most: int, received: str) -> ServingError:
    return ServingError(413, f"the body may have at most {most} bytes, received {received}")


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _packed(accepted: bytes, answer: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """An answer, compressed in an encoding that the client accepts."""
    found = {}
    for part in accepted.split(b","):
        name, _, quality = part.partition(b";")
        found[name.strip()] = quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    if found.get(b"gzip"):
        name, pack = b"gzip", functools.partial(gzip.compress, answer, 1, mtime=0)
    elif found.get(b"deflate"):
        name, pack = b"deflate", functools.partial(zlib.compress, answer, 1)
    else:
        return answer
    headers.append((b"content-encoding", name))
    return await asyncio.to_thread(pack) if len(answer) > _LONG else pack()


def _answer_error(error: ServingError, start: dict[str, Any], exchange: RequestContext | None = None) -> bytes:
    """The body of an error response. Writes its status and headers into `start`."""
    body = orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    start["status"], start["headers"] = error.status, headers
    if exchange is not None:
        exchange.end(error.status, error.reason)
    return body


async def _error_response(request: Request, error: Exception) -> Response:
    start: dict[str, Any] = {}
    body = _answer_error(as_told(error), start)
    made = Response(body, start["status"])
    made.raw_headers = start["headers"]
    return made


async def _not_there(request: Request, error: Any) -> Response:
    """The answer for an unknown path or method, and to OPTIONS, which asks for the allowed methods."""
    path = request.url.path
    if error.status_code == 405:
        methods = {*error.headers["Allow"].split(", "), "OPTIONS"}
        if request.method == "OPTIONS":
            return Response(headers={"allow": ", ".join(sorted(methods))})
    hint = ": shared memory is not offered, so tensors are sent in requests" if "sharedmemory" in path else ""
    text = (
        f"there is no {path:.200}{hint}"
        if error.status_code == 404
        else f"{request.method} is not offered for {path:.200}"
    )
    made = await _error_response(request, ServingError(error.status_code, text))
    made.raw_headers += [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return made
