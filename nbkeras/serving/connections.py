"""HTTP connections: uvicorn's, with limits of time, size and number, so that a slow or silent client costs others nothing.

A sweep checks all connections a few times a second; a timer for each request would cost more than parsing its headers.
"""

import asyncio
import re
from typing import Any

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from nbkeras.engine.annotations import briefly
from nbkeras.serving import limits as machine
from nbkeras.serving.budget import Budget
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.exchange import Observer
from nbkeras.serving.http import GONE, WHOLE
from nbkeras.serving.options import Options

HEAD_BYTES = 64 << 10  # maximum bytes of a request's line and headers
IDLE, HEAD, BODY, ANSWER = range(4)  # what a connection waits for
_ENDING_SECONDS = 0.5  # an idle connection stays open this long at shutdown: a request may be on its way
_FREED = 32 << 20  # bytes; free memory returns to the system after this much was used
_SWEEPS = 4  # sweeps within the shortest limit
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_PIECE = 8 << 10  # bytes parsed at a time: these may be hundreds of requests and take some milliseconds


class Connection(HttpToolsProtocol):
    """A connection.

    state: what it waits for: a request, the rest of its headers, the rest of its body, or the answer. since: the time at which
    this state began.
    head_bytes: bytes received since the last part of a body: headers, trailers, and text between chunks.
    refusal: the answer to an unreadable request, sent after the answers to earlier requests.
    rest: received bytes that are parsed after earlier requests are answered, so that a client that pipelines many requests
    takes neither time nor memory from others.
    """

    limits: Options  # set by `of`
    observer: Observer
    budget: Budget

    @classmethod
    def of(cls, limits: Options, observer: Observer | None, budget: Budget | None = None) -> type["Connection"]:
        """A subclass with these limits. budget: counts `rest`."""
        own = {"limits": limits, "observer": observer or Observer(), "budget": budget or Budget()}
        return type(cls.__name__, (cls,), own)

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None):
        super().__init__(config, server_state, app_state, _loop)
        self.state, self.since, self.head_bytes = HEAD, self.loop.time(), 0
        self.is_ending = False
        self.refusal = self.rest = b""
        self.share = self.budget.share()  # for `rest`
        self.answering: Any = None  # the request to answer next, and its task
        self.task: asyncio.Task

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.refuse(
                503, f"the server has reached its limit of {self.limits.max_connections} connections; try again later"
            )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.rest = b""
        self.share.close()
        cycle = self.answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            scope: Any = cycle.scope
            scope[GONE] = True
            self.task.cancel()  # its pending computation is dropped

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if self.refusal:
            return
        if self.pipeline or self.rest:
            self._keep(data)
            self.flow.pause_reading()
            return
        for start in range(0, len(data), _PIECE):
            self._parse(data if len(data) <= _PIECE else data[start : start + _PIECE])
            if self.refusal:
                return
            if self.pipeline:
                self._keep(data[start + _PIECE :])
                return

    def _keep(self, data: bytes) -> None:
        """Store bytes to parse later, if the budget allows."""
        try:
            self.share.grow(len(data))
        except ServingError as error:
            self.refuse(error.status, error.message)
        else:
            self.rest += data

    def _parse(self, data: bytes) -> None:
        if self.state == IDLE:
            self.state, self.since = HEAD, self.loop.time()
        self.head_bytes += len(data)
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ServingError):
                self.refuse(error.__context__.status, error.__context__.message)
            else:
                self.refuse(400, "this is not a valid HTTP request: its target is not a path")
        except httptools.HttpParserError as error:
            self.refuse(400, f"this is not a valid HTTP request: {error}")
        else:
            if self.head_bytes > HEAD_BYTES:
                self.refuse(431, f"the request's headers exceed {HEAD_BYTES} bytes")

    def _parse_rest(self) -> None:
        """Parse the stored bytes when the earlier requests, or all but the last of them, are answered."""
        if self.pipeline or self.transport.is_closing():
            return
        rest, self.rest = self.rest, b""
        self.share.close()
        self.data_received(rest)
        if not self.pipeline and not self.rest:
            self.flow.resume_reading()

    def _fed(self, data: bytes) -> bytes:
        """Parse data. Returns what is left after an Upgrade header, which is ignored."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
                return data[offer.args[0] :]
            self.cycle.more_body = True  # the parser takes the body for data of the other protocol
            self.refuse(
                400, "a request with a body may not have the header Upgrade: the server speaks no other protocol"
            )
        return b""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.cycle is None or self.cycle.response_complete:
            self.state = HEAD

    def on_headers_complete(self) -> None:
        check_head(self.parser.get_http_version(), self.headers)
        super().on_headers_complete()
        self.head_bytes = 0
        self.scope["headers"] = self.headers.copy()  # trailers come after the body and are not headers
        if self.is_ending:
            self.cycle.keep_alive = False
        self.state, self.since = BODY, self.loop.time()

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.head_bytes = 0
        if self.cycle.response_complete:  # an error was answered before this body arrived; the body was not kept
            self.cycle.more_body = False
            self.state, self.since = IDLE, self.loop.time()
        elif self.state == BODY:
            self.state = ANSWER

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self.rest:
            self.flow.resume_reading()
        if self.cycle.response_complete and self.cycle.more_body:  # an error was answered before the body arrived
            if self.expect_100_continue:
                self.transport.close()  # the client may send the body or not
            return  # the client can read the answer after it has sent its body
        self.state, self.since = IDLE, self.loop.time()
        if self.pipeline:
            self.state = BODY if self.pipeline[-1][0].more_body else ANSWER
            self._start_asgi_task(*self.pipeline.pop())
        if self.rest:
            self.loop.call_soon(self._parse_rest)  # after other tasks had their turn
        elif self.refusal and self.answering.response_complete:
            self._end_with_refusal()

    def answer_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write the next answer in one piece, where uvicorn writes two. Returns False if the client does not read or has gone.

        headers: in lower case and checked, with content-length.
        """
        cycle = self.answering
        if cycle.disconnected or self.flow.write_paused:
            return False
        pieces = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            pieces += (name, b": ", value, b"\r\n")
        pieces += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join(pieces))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.answering = cycle
        cycle.scope[WHOLE] = self.answer_whole
        self.task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def refuse(self, status: int, message: str) -> None:
        """Answer without the application, then close the connection."""
        if self.transport.is_closing() or self.refusal:
            return
        self.observer.refused(status)
        body = orjson.dumps({"error": message})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        again = b"retry-after: 1\r\n" if status == 503 else b""
        self.refusal = b"".join([STATUS_LINE[status], head, again, b"\r\n", body])
        # a request that has begun to arrive
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        answering = self.answering
        if answering is broken and answering is not None and answering.response_started:
            self.transport.close()
        elif answering is None or answering is broken or answering.response_complete:
            self._end_with_refusal()
        else:
            self.flow.pause_reading()

    def _end_with_refusal(self) -> None:
        self.transport.write(self.refusal)
        self.transport.close()

    def shutdown(self) -> None:
        """Close after the pending answer. Without one, close soon: a request may be on its way."""
        self.is_ending = True
        if self.state == IDLE or self.cycle is None:
            self.loop.call_later(_ENDING_SECONDS, self._end_if_idle)
        else:
            self.cycle.keep_alive = False

    def _end_if_idle(self) -> None:
        if self.state in (IDLE, HEAD):
            self.transport.close()

    def check(self, now: float) -> None:
        """Close the connection if it waits too long for the client."""
        waited = now - self.since
        limits = self.limits
        if self.transport.is_closing():
            if waited > limits.body_seconds:  # the client does not read the rest of the answer
                self.transport.abort()
        elif self.state == IDLE:
            if self.transport.get_write_buffer_size():
                if waited > limits.body_seconds:
                    self.transport.abort()
            elif waited > limits.keep_alive_seconds:
                self.transport.close()
        elif self.state == HEAD:
            if waited > limits.header_seconds:
                if self.head_bytes:
                    self.refuse(408, f"the request's headers did not arrive within {limits.header_seconds:g} s")
                else:
                    self.transport.close()
        elif self.state == BODY and not self.pipeline and waited > limits.body_seconds:
            self.refuse(408, f"the request's body did not arrive within {limits.body_seconds:g} s")


def check_head(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Raise a ServingError for Host and Transfer-Encoding headers that a server must refuse by RFC 9112 (3.2, 6.1, 6.3).

    They say whom a request is for and where it ends. A proxy in front may read them differently.
    """
    hosts, given = [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            given.append(value)
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise refused(f"a request must have exactly one header Host, received {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise refused(
            f"the header Host must be a name and perhaps a port, received {briefly(hosts[0].decode('latin-1'))}"
        )
    codings = b",".join(given).lower()
    if not codings:
        return
    if codings.strip() != b"chunked":
        names = [part.strip() for part in codings.split(b",")]
        is_unknown = names[-1] == b"chunked" not in names[:-1]
        raise ServingError(
            501 if is_unknown else 400,
            f"Transfer-Encoding must be only chunked, received {briefly(codings.decode('latin-1'))}: compress a body with "
            "Content-Encoding",
        )
    if version == "1.0":
        raise refused("an HTTP/1.0 request must not have Transfer-Encoding: send Content-Length, or use HTTP/1.1")


async def watch(server_state: ServerState, limits: Options, budget: Budget) -> None:
    """Check all connections, forever. budget: counts answers that clients do not read.

    Returns free memory to the system after much was used.
    """
    pause = min(limits.header_seconds, limits.body_seconds, limits.keep_alive_seconds) / _SWEEPS
    loop, share = asyncio.get_running_loop(), budget.share()
    while True:
        await asyncio.sleep(min(pause, 1.0))
        now = loop.time()
        share.close()
        for connection in list(server_state.connections):
            connection.check(now)  # type: ignore[union-attr]
            unread = connection.transport.get_write_buffer_size()
            if budget.has(unread):
                share.grow(unread)
            else:
                connection.transport.abort()  # a client that does not read its answer
        if budget.peak - budget.used > _FREED:
            budget.peak = budget.used
            await asyncio.to_thread(machine.give_back_free_memory)
