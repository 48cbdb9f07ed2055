"""The server over HTTP: the Open Inference Protocol (version 2) and its extensions.

`connections.py` turns bytes into a Request and writes its Answer. Inference requests, the most frequent ones, are answered
directly; Starlette's routes answer all others.
"""

import asyncio
import functools
import gzip
import ipaddress
import math
import re
import types
import zlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as RoutedRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nbkeras.serving import instances, tensors
from nbkeras.serving.budget import LONG, MOST_CONTENT, Share
from nbkeras.serving.errors import ServingError, as_told, refused
from nbkeras.serving.exchange import RequestContext, sane_id
from nbkeras.serving.service import Service

RawHeaders = list[tuple[bytes, bytes]]  # names in lower case, and values
Answer = tuple[int, RawHeaders, bytes]  # status, headers without Content-Length, and body

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_FORM = b"application/x-www-form-urlencoded"  # what `curl -d` says of JSON
_CONTENT_TYPES = {b"", b"application/json", b"application/octet-stream"}
_PORT = re.compile(r":\d*$")  # the port of a Host header
_LEAST_PACKED = 1024  # bytes: shorter answers are not compressed


class Request:
    """A request, from its headers to its answer. What its headers may say has defaults here.

    address: the server's address and port. body: what has arrived of the body, if it is wanted; `most` is its limit, and
    `share` counts it. is_ready: whether the request can be answered: its body is whole or not wanted, or there is an `error`.
    is_gone: whether the client has closed the connection. keep_alive: whether the connection stays open after the answer.
    exchange, form, model, version: of an inference request. form: the module that reads it and writes the answer, `tensors` or
    `instances`. model: its name; None for the server's only model.
    """

    accept_encoding = content_encoding = content_type = b""
    is_chunked = expects_continue = False
    length: int | None = None
    json_bytes: int | None = None
    timeout_ms = 0
    id = ""

    most = 0
    share: Share
    error: ServingError | None = None
    is_ready = is_gone = False
    keep_alive = True
    exchange: RequestContext | None = None
    form: types.ModuleType = tensors
    model: str | None = None
    version: str | None = None

    def __init__(
        self, method: str, path: str, query: bytes, headers: RawHeaders, address: tuple[str, int] | None = None
    ):
        self.method, self.path, self.query, self.headers, self.address = method, path, query, headers, address
        self.body = bytearray()

    def read_headers(self) -> None:
        """Read those headers that the protocol knows."""
        for name, value in self.headers:
            if name in _HEADERS:
                attribute, read = _HEADERS[name]
                setattr(self, attribute, read(name, value))

    def expect_body(self, most: int) -> None:
        """Want the body; raises ServingError if the headers say that it cannot be read. most: its maximum bytes."""
        self.most = most
        if self.content_type not in _CONTENT_TYPES:
            raise ServingError(
                415,
                f"Content-Type must be application/json, or application/octet-stream for binary tensors, received "
                f"{self.content_type.decode('latin-1'):.80} (with curl: --json instead of -d)",
            )
        if self.content_encoding not in (b"", b"identity", b"gzip", b"deflate"):
            raise ServingError(
                415, f"Content-Encoding must be gzip or deflate, received {self.content_encoding.decode('latin-1'):.80}"
            )
        if self.length is None and not self.is_chunked:
            raise ServingError(411, "the request has neither Content-Length nor Transfer-Encoding: chunked")
        if self.length is not None and self.length > most:
            raise _too_large(most, f"{self.length} bytes")

    def take(self, part: bytes) -> None:
        """Keep a part of the body, and count it."""
        try:
            self.share.grow(_room_for(len(part)))
            self.body += part
            if len(self.body) > self.most:
                raise _too_large(self.most, "more")
        except ServingError as error:
            self.refuse(error)

    def refuse(self, error: ServingError) -> None:
        """Answer with an error, and keep no body."""
        self.error, self.is_ready, self.body = error, True, bytearray()
        self.share.close()

    async def unpack(self) -> None:
        """Decompress the body. Each piece is counted before it is made."""
        encoding, packed, most, share = self.content_encoding, self.share.bytes, self.most, self.share
        if encoding not in (b"gzip", b"deflate"):
            return
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == b"gzip" else zlib.MAX_WBITS)
        found, view = bytearray(), memoryview(self.body)
        try:
            for start in range(0, len(view), LONG):
                piece: Any = view[start : start + LONG]
                while piece and len(found) <= most:
                    share.grow(LONG)
                    if len(found) < LONG:
                        part = unpacker.decompress(piece, LONG)
                    else:
                        part = await asyncio.to_thread(unpacker.decompress, piece, LONG)
                    found += part
                    share.shrink(share.bytes - LONG + _room_for(len(part)))
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
        self.body = found
        share.shrink(share.bytes - packed)


def _int_header(what: str, digits: int, name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > digits:
        raise refused(f"the header {name.decode().title()} must be {what}, received {value.decode('latin-1'):.80}")
    return int(value)


_bytes_header = functools.partial(_int_header, "a number of bytes", 18)
# header -> attribute of Request, and the function of the header's name and value that gives it
_HEADERS: dict[bytes, tuple[str, Callable[[bytes, bytes], Any]]] = {
    b"accept-encoding": ("accept_encoding", lambda _, value: value.lower()),
    b"content-encoding": ("content_encoding", lambda _, value: value.strip().lower()),
    b"content-type": ("content_type", lambda _, value: value.partition(b";")[0].strip().lower()),
    b"transfer-encoding": ("is_chunked", lambda *_: True),
    b"expect": ("expects_continue", lambda _, value: value.lower() == b"100-continue"),
    b"content-length": ("length", _bytes_header),
    b"inference-header-content-length": ("json_bytes", _bytes_header),
    b"x-request-timeout-ms": ("timeout_ms", functools.partial(_int_header, "whole milliseconds", 12)),
    b"x-request-id": ("id", lambda _, value: sane_id(value)),
}


def inference(path: str) -> tuple[types.ModuleType, str | None, str | None] | None:
    """The form, model and version that a POST to a path asks for an inference; None if it is for Starlette's routes."""
    parts = path.split("/")
    if parts[-1] == "infer" and parts[1:3] == ["v2", "models"]:
        if len(parts) == 5:
            return tensors, parts[3], None
        if len(parts) == 7 and parts[4] == "versions":
            return tensors, parts[3], parts[5]
    asked = instances.asked(path)
    return None if asked is None else (instances, *asked)


class Application:
    """Answers requests.

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
        self._rest = Starlette(routes=[*own, *routes], exception_handlers={HTTPException: _not_there})
        self._rest.router.redirect_slashes = False

    def begin(self, request: Request) -> None:
        """Judge a request by its headers, before its body arrives: what it is for, and whether its body is wanted."""
        request.share = self.service.budget.share()
        try:
            target = inference(request.path) if request.method == "POST" else None
            if target is not None:
                request.form, request.model, request.version = target
                request.exchange = self.service.exchange("http")
                request.read_headers()
                request.exchange.id = request.id or request.exchange.id
                if request.form is instances and request.content_type == _FORM:
                    request.content_type = b""
                request.expect_body(self.max_body)
                return
            request.read_headers()
            if (request.length or request.is_chunked) and request.path.startswith("/v2/repository/"):
                request.expect_body(MOST_CONTENT)
            else:
                request.is_ready = True
        except Exception as error:
            request.refuse(as_told(error))

    async def answer(self, request: Request) -> Answer:
        """The answer to a request whose body has arrived, or is not wanted."""
        try:
            if request.is_gone:
                raise asyncio.CancelledError
            if request.content_encoding:
                await request.unpack()
            if request.exchange is None:
                answer = await self._route(request)
            else:
                answer = await self._infer(request, request.exchange)
        except asyncio.CancelledError:
            if request.is_gone:
                self.gone(request)
                raise
            return self.failed(request, ServingError(503, "the server ended before the request was computed", 1))
        except Exception as error:
            return self.failed(request, as_told(error))
        return self._answered(request, answer)

    def failed(self, request: Request, error: ServingError) -> Answer:
        """The answer to a request that is refused or fails."""
        headers = [_JSON]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        body = orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})
        return self._answered(request, (error.status, headers, body), error.reason)

    def gone(self, request: Request) -> None:
        """Forget a request whose client has gone."""
        self._answered(request, (499, [], b""))

    def _answered(self, request: Request, answer: Answer, reason: str = "") -> Answer:
        """Count and log the answer to an inference request, and give the memory of the body back."""
        request.share.close()
        if request.exchange is not None:
            exchange, (status, headers, body) = request.exchange, answer
            if exchange.id:
                headers.append((b"x-request-id", exchange.id.encode()))
            exchange.end(status, reason)
            exchange.bytes_out = len(body)
            self.service.answered(exchange)
        return answer

    async def _infer(self, request: Request, exchange: RequestContext) -> Answer:
        """Answer an inference request."""
        exchange.begin(len(request.body))
        form, name = request.form, request.model
        if name is None:
            name = instances.only_model(self.service.repository.index())
        model = self.service.repository.get(name, request.version)
        exchange.name, exchange.version = model.name, model.version
        read, shape = await self.service.read(
            len(request.body),
            functools.partial(tensors.cost_of_request, request.body, request.json_bytes, model.inputs),
            functools.partial(form.read_request, request.body, request.json_bytes, model.name, model.inputs),
        )
        if request.json_bytes is None:
            request.body = bytearray()
            request.share.shrink(0)
        request.share.grow(read.nbytes)
        if request.timeout_ms:
            read.timeout = min(request.timeout_ms / 1000, read.timeout or math.inf)
        read.exchange = exchange
        response = await self.service.infer(name, request.version, read)
        if form is instances:
            request.share.grow(instances.extra_bytes(response, shape))
        body, json_bytes = await self.service.write(form.write_response, response, shape)
        if json_bytes is None:
            headers = [_JSON]
        else:
            headers = [_BINARY, (b"inference-header-content-length", b"%d" % json_bytes)]
        if request.accept_encoding and len(body) >= _LEAST_PACKED:
            body = await _packed(request.accept_encoding, body, headers)
        return 200, headers, body

    async def _route(self, request: Request) -> Answer:
        """Answer a request by Starlette's routes, which speak ASGI."""
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(request.body), "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.query,
            "headers": request.headers,
            "server": request.address,
        }
        await self._rest(scope, receive, send)
        start, *parts = sent
        headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        return start["status"], headers, b"".join([part["body"] for part in parts])

    # -------------------- the rest of the protocol --------------------

    async def _infer_route(self, request: RoutedRequest) -> Response:
        # POST goes to `infer`; this route provides the Allow header for other methods
        raise ServingError(404, f"there is no {request.scope['path']}")

    async def _server(self, request: RoutedRequest) -> Response:
        return _json(self.service.server_metadata())

    async def _live(self, request: RoutedRequest) -> Response:
        return _json({"live": True})

    async def _ready(self, request: RoutedRequest) -> Response:
        is_ready = self.service.ready()
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def _model(self, request: RoutedRequest) -> Response:
        asked = request.path_params["name"], request.path_params.get("version")
        parameters = self.service.model_file(*asked)
        return _json(self.service.model_metadata(*asked) | ({"parameters": parameters} if parameters else {}))

    async def _configuration(self, request: RoutedRequest) -> Response:
        return _json(self.service.model_configuration(request.path_params["name"], request.path_params.get("version")))

    async def _status(self, request: RoutedRequest) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        if request.url.path.endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        found = instances.status_of(self.service.repository.index(), name, version)
        if found is None:
            self.service.repository.get(name, version)  # raises the reason
        return _json(found)

    async def _signature(self, request: RoutedRequest) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        return _json(instances.metadata_of(self.service.repository.get(name, version)))

    async def _model_ready(self, request: RoutedRequest) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        is_ready = self.service.model_ready(name, version)
        if not is_ready and not self.service.is_draining:
            self.service.repository.get(name, version)  # raises the reason
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def _index(self, request: RoutedRequest) -> Response:
        content = await self._content(request)
        ready = content.get("ready", False)
        if not isinstance(ready, bool):
            raise refused(f"'ready' must be true or false, received {tensors.shown(ready)}")
        return _json(self.service.repository.index(ready))

    async def _load(self, request: RoutedRequest) -> Response:
        parameters = await self._parameters(request)
        await self.service.controlled().load(request.path_params["name"], parameters)
        return Response(status_code=200)

    async def _unload(self, request: RoutedRequest) -> Response:
        parameters = await self._parameters(request)
        await self.service.controlled().unload(request.path_params["name"], parameters)
        return Response(status_code=200)

    async def _parameters(self, request: RoutedRequest) -> dict[str, Any]:
        if self.service.control is not None:  # without control, all are refused with another message
            self._check_caller(request)
        parameters = (await self._content(request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise refused(f"'parameters' must be an object, received {tensors.shown(parameters)}")
        return parameters

    def _check_caller(self, request: RoutedRequest) -> None:
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

    async def _content(self, request: RoutedRequest) -> dict[str, Any]:
        """The JSON object in a request's body, which may be empty."""
        body = await request.body()
        if not body:
            return {}
        with self.service.budget.share(tensors.cost_of_json(body)):
            content = tensors.read_json(body)
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


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _packed(accepted: bytes, answer: bytes, headers: RawHeaders) -> bytes:
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
    return await asyncio.to_thread(pack) if len(answer) > LONG else pack()


async def _not_there(request: RoutedRequest, error: Any) -> Response:
    """The answer for an unknown path or method, and to OPTIONS, which asks for the allowed methods."""
    path = request.scope["path"]
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
    return _json({"error": text}, error.status_code, error.headers)
