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
from nbkeras.serving.budget import LONG, MAX_CONTENT
from nbkeras.serving.errors import ServingError, client_error, refused
from nbkeras.serving.requests import InferRequest, InferResponse, safe_id
from nbkeras.serving.service import Service

RawHeaders = list[tuple[bytes, bytes]]  # names in lower case, and values
Answer = tuple[int, RawHeaders, bytes]  # status, headers without Content-Length, and body

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_FORM = b"application/x-www-form-urlencoded"  # what `curl -d` says of JSON
_CONTENT_TYPES = {b"", b"application/json", b"application/octet-stream"}
_PORT = re.compile(r":\d*$")  # the port of a Host header
_MIN_PACKED = 1024  # bytes: shorter answers are not compressed


class Request(InferRequest):
    """A request, from its headers to its answer. The class attributes are defaults of what headers set.

    address: the server's address and port. body: what has arrived of the body, if it is read; `limit` is its maximum bytes, and
    `share` counts it. is_ready: whether the request can be answered: its body is whole or not read, or there is an `error`.
    is_gone: whether the client has closed the connection. keep_alive: whether the connection stays open after the answer.
    form: of an inference request, the module that reads it and writes the answer, `tensors` or `instances`. name: its model's;
    None for the server's only model. answer_form: how the answer is written, as `form.read_request` returns it.
    """

    protocol = "http"

    accept_encoding = content_encoding = content_type = b""
    is_chunked = expects_continue = False
    length: int | None = None
    json_bytes: int | None = None
    timeout_ms = 0

    limit = 0
    error: ServingError | None = None
    is_ready = is_gone = False
    keep_alive = True
    form: Any = None
    answer_form: Any = None

    def __init__(
        self, method: str, path: str, query: bytes, headers: RawHeaders, address: tuple[str, int] | None = None
    ):
        super().__init__()
        self.method, self.path, self.query, self.headers, self.address = method, path, query, headers, address
        self.body = bytearray()

    def read_headers(self) -> None:
        """Read those headers that the protocol knows."""
        for name, value in self.headers:
            if name in _HEADERS:
                attribute, read = _HEADERS[name]
                setattr(self, attribute, read(name, value))

    def expect_body(self, limit: int) -> None:
        """Accept a body of up to `limit` bytes. Raises ServingError if the headers rule it out."""
        self.limit = limit
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
        if self.length is not None and self.length > limit:
            raise _too_large(limit, f"{self.length} bytes")

    def begin(self, repository: Any) -> None:
        super().begin(repository)
        if self.name is None:
            self.name = instances.only_model(repository.index())
        self.find(repository)

    def cost(self) -> int:
        return tensors.cost_of_request(self.body, self.json_bytes, self.model.inputs)

    def read(self, repository: Any) -> bool:
        self.answer_form = self.form.read_request(self, self.json_bytes, self.model.name, self.model.inputs)
        if self.timeout_ms:
            self.timeout = min(self.timeout_ms / 1000, self.timeout or math.inf)
        return self.json_bytes is not None

    def extra_bytes(self, response: InferResponse) -> int:
        return instances.extra_bytes(response, self.answer_form) if self.form is instances else 0

    def write(self, response: InferResponse) -> tuple[RawHeaders, bytes]:
        """The headers and the body of the answer."""
        body, json_bytes = self.form.write_response(response, self.answer_form)
        if json_bytes is None:
            return [_JSON], body
        return [_BINARY, (b"inference-header-content-length", b"%d" % json_bytes)], body

    def take(self, part: bytes) -> None:
        """Count a received part of the body and append it."""
        try:
            self.share.grow(_room_for(len(part)))
            self.body += part
            if len(self.body) > self.limit:
                raise _too_large(self.limit, "more")
        except ServingError as error:
            self.refuse(error)

    def refuse(self, error: ServingError) -> None:
        """Answer with an error and drop the body."""
        self.error, self.is_ready, self.body = error, True, bytearray()
        self.share.close()

    async def unpack(self) -> None:
        """Decompress the body. Each piece is counted before it is made."""
        encoding, packed, limit, share = self.content_encoding, self.share.bytes, self.limit, self.share
        if encoding not in (b"gzip", b"deflate"):
            return
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == b"gzip" else zlib.MAX_WBITS)
        found, view = bytearray(), memoryview(self.body)
        try:
            for start in range(0, len(view), LONG):
                piece: Any = view[start : start + LONG]
                while piece and len(found) <= limit:
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
        if len(found) > limit:
            raise _too_large(limit, "more when decompressed")
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
    b"x-request-id": ("log_id", lambda _, value: safe_id(value)),
}


def inference(path: str) -> tuple[types.ModuleType, str | None, str | None] | None:
    """The form, model and version that a POST to a path asks for an inference; None if it is for Starlette's routes."""
    parts = path.split("/")
    if parts[-1] == "infer" and parts[1:3] == ["v2", "models"]:
        if len(parts) == 5:
            return tensors, parts[3], None
        if len(parts) == 7 and parts[4] == "versions":
            return tensors, parts[3], parts[5]
    target = instances.target_of(path)
    return None if target is None else (instances, *target)


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
        post = functools.partial(Route, methods=["POST"])
        own = [
            _get("/v2", lambda: service.server_metadata()),
            _get("/v2/health/live", lambda: {"live": True}),
            _get("/v2/health/ready", self._ready),
            post("/v2/repository/index", self._index),
            *(
                post(f"/v2/repository/models/{{name}}/{do}", functools.partial(self._change, do))
                for do in ("load", "unload")
            ),
            post("/predict", _infer_route),
        ]
        for version in ("", "/versions/{version}"):
            model, served = f"/v2/models/{{name}}{version}", f"/v1/models/{{name}}{version}"
            own += [
                _get(model, self._model),
                _get(f"{model}/config", service.model_configuration),
                _get(f"{model}/ready", self._model_ready),
                post(f"{model}/infer", _infer_route),
                post(f"{served}:predict", _infer_route),
                _get(served, self._status),
                _get(f"{served}/metadata", lambda **key: instances.metadata_of(service.repository.get(**key))),
            ]
        self._rest = Starlette(routes=[*own, *routes], exception_handlers={HTTPException: _not_there})
        self._rest.router.redirect_slashes = False

    def begin(self, request: Request) -> None:
        """Route a request from its headers alone, and decide whether to read its body."""
        request.share = self.service.budget.share()
        try:
            target = inference(request.path) if request.method == "POST" else None
            if target is not None:
                request.form, request.name, request.version = target
                request.log_id = new_id = self.service.new_id()
                request.read_headers()
                request.log_id = request.log_id or new_id
                if request.form is instances and request.content_type == _FORM:
                    request.content_type = b""
                request.expect_body(self.max_body)
                return
            request.read_headers()
            if (request.length or request.is_chunked) and request.path.startswith("/v2/repository/"):
                request.expect_body(MAX_CONTENT)
            else:
                request.is_ready = True
        except Exception as error:
            request.refuse(client_error(error))

    async def answer(self, request: Request) -> Answer:
        """The answer to a request whose body has arrived, or is not read."""
        try:
            if request.is_gone:
                raise asyncio.CancelledError
            if request.content_encoding:
                await request.unpack()
            if request.form is None:
                answer = await self._route(request)
            else:
                headers, body = await self.service.answer(request)
                if request.accept_encoding and len(body) >= _MIN_PACKED:
                    body = await _packed(request.accept_encoding, body, headers)
                answer = 200, headers, body
        except asyncio.CancelledError:
            if request.is_gone:
                self.gone(request)
                raise
            return self.failed(request, ServingError(503, "the server ended before the request was computed", 1))
        except Exception as error:
            return self.failed(request, client_error(error))
        return self._answered(request, answer)

    def failed(self, request: Request, error: ServingError) -> Answer:
        """The answer to a request that is refused or fails."""
        headers = [_JSON]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        body = orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})
        return self._answered(request, (error.status, headers, body), error.reason)

    def gone(self, request: Request) -> None:
        """Count a request whose client has disconnected, and give its memory back."""
        self._answered(request, (499, [], b""))

    def _answered(self, request: Request, answer: Answer, reason: str = "") -> Answer:
        """Count and log the answer to an inference request, and give the memory of the body back."""
        status, headers, body = answer
        if request.form is None:
            request.share.close()
            return answer
        if request.log_id:
            headers.append((b"x-request-id", request.log_id.encode()))
        request.bytes_out = len(body)
        self.service.answered(request, status, reason)
        return answer

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

    def _ready(self) -> Response:
        is_ready = self.service.ready()
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    def _model(self, **key: str) -> dict[str, Any]:
        parameters = self.service.model_file(**key)
        return self.service.model_metadata(**key) | ({"parameters": parameters} if parameters else {})

    def _status(self, name: str, version: str | None = None) -> dict[str, Any]:
        if (version or name).endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        found = instances.status_of(self.service.repository.index(), name, version)
        if found is None:
            self.service.repository.get(name, version)  # raises the reason
        return found  # type: ignore[return-value]

    def _model_ready(self, **key: str) -> Response:
        is_ready = self.service.model_ready(**key)
        if not is_ready and not self.service.is_draining:
            self.service.repository.get(**key)  # raises the reason
        return _json({"name": key["name"], "ready": is_ready}, 200 if is_ready else 503)

    async def _index(self, request: RoutedRequest) -> Response:
        content = await self._content(request)
        ready = content.get("ready", False)
        if not isinstance(ready, bool):
            raise refused(f"'ready' must be true or false, received {tensors.shown(ready)}")
        return _json(self.service.repository.index(ready))

    async def _change(self, do: str, request: RoutedRequest) -> Response:
        """Load or unload a model."""
        if self.service.control is not None:  # without control, all are refused with another message
            self._check_caller(request)
        parameters = (await self._content(request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise refused(f"'parameters' must be an object, received {tensors.shown(parameters)}")
        await self.service.change(do, request.path_params["name"], parameters)
        return Response(status_code=200)

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


def _too_large(limit: int, received: str) -> ServingError:
    return ServingError(413, f"the body may have at most {limit} bytes, received {received}")


def _get(path: str, content: Callable[..., Any]) -> Route:
    """A route of the content, or the Response, that a function returns for the parts of the path."""

    async def answer(request: RoutedRequest) -> Response:
        found = content(**request.path_params)
        return found if isinstance(found, Response) else _json(found)

    return Route(path, answer, methods=["GET"])


async def _infer_route(request: RoutedRequest) -> Response:
    # POST goes to `Application.answer`; this route provides the Allow header for other methods
    raise ServingError(404, f"there is no {request.scope['path']}")


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
