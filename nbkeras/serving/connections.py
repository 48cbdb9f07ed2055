"""HTTP connections: bytes become requests of the application, and its answers become bytes.

Limits of time, size and number keep a slow or silent client from costing others anything. A sweep checks all connections a few
times a second; a timer for each request would cost more than parsing its headers.
"""

import asyncio
import email.utils
import http
import math
import re
import urllib.parse
from collections import deque

import httptools

from nbkeras.engine.annotations import briefly
from nbkeras.serving import limits as machine
from nbkeras.serving.budget import HEAD_BYTES
from nbkeras.serving.errors import ServingError, client_error, refused
from nbkeras.serving.http import Answer, Application, RawHeaders, Request
from nbkeras.serving.options import Options

IDLE, HEAD, BODY, ANSWER = range(4)  # what a connection waits for
_ENDING_SECONDS = 0.5  # an idle connection stays open this long at shutdown: a request may be on its way
_ENDING_PAUSE = 0.05  # seconds between two looks at the connections at shutdown
_LARGE = 64 << 10  # bytes; after so many from one client, others have their turn
_FREED = 32 << 20  # bytes; free memory returns to the system after this much was used
_SWEEPS = 4  # sweeps within the shortest limit
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_PIECE = 8 << 10  # bytes parsed at a time: these may be hundreds of requests and take some milliseconds
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server:
    """The state that the connections of a worker share. connections: the open ones."""

    def __init__(self, application: Application, options: Options):
        self.application, self.options = application, options
        self.budget, self.observer = application.service.budget, application.service.repository.observer
        self.connections: set[Connection] = set()
        self.is_ending, self.date = False, b""
        self.seconds = options.keep_alive_seconds, options.header_seconds, options.body_seconds, math.inf  # by state

    async def watch(self) -> None:
        """Check all connections, forever. The budget counts answers that clients do not read.

        Returns free memory to the system after much was used.
        """
        budget, pause = self.budget, min(1.0, min(self.seconds) / _SWEEPS)
        loop, share = asyncio.get_running_loop(), budget.share()
        while True:
            self.date = f"date: {email.utils.formatdate(usegmt=True)}\r\n".encode()
            await asyncio.sleep(pause)
            now = loop.time()
            share.close()
            for connection in list(self.connections):
                connection.check(now)
                unread = connection.transport.get_write_buffer_size()
                if budget.has(unread):
                    share.grow(unread)
                else:
                    connection.transport.abort()  # a client that does not read its answer
            if budget.peak - budget.used > _FREED:
                budget.peak = budget.used
                await asyncio.to_thread(machine.give_back_free_memory)

    async def end(self, seconds: float) -> bool:
        """Let each connection close after its answer. Returns False if some were late; their requests get the status 503."""
        self.is_ending = True
        loop = asyncio.get_running_loop()
        start, until_idle = loop.time(), min(_ENDING_SECONDS, seconds / 2)
        await asyncio.sleep(_ENDING_PAUSE)  # the last accepted connections are made
        while self.connections and (waited := loop.time() - start) < seconds:
            for connection in list(self.connections):
                if connection.state in (IDLE, HEAD) and waited > until_idle:
                    connection.transport.close()
            await asyncio.sleep(_ENDING_PAUSE)
        is_done = not self.connections
        late = [connection.task for connection in self.connections if connection.task is not None]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return is_done


class Connection(asyncio.Protocol):
    """A connection.

    state: what it waits for: a request, the rest of its headers, the rest of its body, or the answer. since: the time at which
    this state began. can_write: whether the client reads its answers; else its next request waits.
    requests: those that have no answer yet; the first one is being answered, if its body has arrived. arriving: the one whose
    body arrives, which may have its answer already. task: answers the first request.
    head_bytes: bytes received since the last part of a body: headers, trailers, and text between chunks.
    rest: received bytes that are parsed after earlier requests are answered, so that a client that pipelines many requests
    takes neither time nor memory from others; `share` counts them.
    ignores_input: whether received bytes are ignored, because the last answer of this connection is sent or waits for its turn.
    """

    transport: asyncio.Transport
    headers: RawHeaders

    def __init__(self, server: Server):
        self.server, self.loop = server, asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # such requests are not answered
        self.state, self.since, self.head_bytes = HEAD, self.loop.time(), 0
        self.requests: deque[Request] = deque()
        self.arriving: Request | None = None
        self.task: asyncio.Task | None = None
        self.rest, self.share = b"", server.budget.share()
        self.can_write, self.ignores_input = True, False

    # -------------------- the transport --------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        name = transport.get_extra_info("sockname")
        self.address = (name[0], name[1]) if isinstance(name, tuple) else None
        connections, limit = self.server.connections, self.server.options.max_connections
        connections.add(self)
        if len(connections) > limit:
            text = f"the server has reached its limit of {limit} connections; try again later"
            self.refuse(ServingError(503, text, 1))

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self._drop_rest()
        del self.parser  # it refers to this connection
        requests, self.requests = self.requests, deque()
        if self.task is not None:
            requests.popleft().is_gone = True
            # its pending computation is dropped; after its first step, because a task that never ran would give nothing back
            self.loop.call_soon(self.task.cancel)
        for request in requests:
            self.server.application.gone(request)

    def pause_writing(self) -> None:
        self.can_write = False

    def resume_writing(self) -> None:
        self.can_write = True
        self._proceed()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or store them if earlier requests wait for their answers."""
        for start in range(0, len(data), _PIECE):
            if self.ignores_input:
                return
            if self.rest or len(self.requests) > 1:
                self._keep(data[start:])
                break
            self._parse(data[start : start + _PIECE])
        if self.rest or len(self.requests) > 1 or len(data) >= _LARGE:
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)  # after other tasks had their turn

    def eof_received(self) -> bool:
        """Answer what the client sent before it ended its side of the connection, then close.

        The transport calls this when it reads, so all received bytes are parsed and at most one request has no answer.
        """
        if self.arriving is not None:
            self.refuse(refused("the client ended its side of the connection before the request's body was complete"))
        elif self.requests:
            self.requests[-1].keep_alive = False
        else:
            self.transport.close()
        return True

    def _wait_for(self, state: int) -> None:
        self.state, self.since = state, self.loop.time()

    def _keep(self, data: bytes) -> None:
        """Store bytes to parse later, if the budget allows."""
        try:
            self.share.grow(len(data))
        except ServingError as error:
            self._drop_rest()
            self.refuse(error)
        else:
            self.rest += data

    def _drop_rest(self) -> bytes:
        rest, self.rest = self.rest, b""
        self.share.close()
        return rest

    def _read_on(self) -> None:
        """Parse the stored bytes, then receive more, when the earlier requests, or all but the last of them, are answered."""
        if len(self.requests) < 2 and not (self.ignores_input or self.transport.is_closing()):
            self.transport.resume_reading()
            self.data_received(self._drop_rest())

    # -------------------- requests --------------------

    def _parse(self, data: bytes) -> None:
        if self.state == IDLE:
            self._wait_for(HEAD)
        self.head_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:  # is ignored
                data = data[offer.args[0] :]
            except httptools.HttpParserCallbackError as error:
                self.refuse(client_error(error.__context__))  # type: ignore[arg-type]
                return
            except httptools.HttpParserError as error:
                self.refuse(refused(f"this is not a valid HTTP request: {error}"))
                return
        if self.head_bytes > HEAD_BYTES:
            self.refuse(ServingError(431, f"the request's headers exceed {HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        self.url, self.headers = b"", []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, headers, version = self.parser, self.headers, self.parser.get_http_version()
        check_head(version, headers)
        if parser.should_upgrade() and any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
            # the parser takes the body for data of the other protocol
            raise refused("a request with a body may not have the header Upgrade: the server speaks no other protocol")
        self.arriving = request = Request(parser.get_method().decode(), *_target(self.url), headers, self.address)
        request.keep_alive = version != "1.0" and parser.should_keep_alive()
        self.headers = []  # trailers come after the body and are not headers
        self.head_bytes = 0
        self.server.application.begin(request)
        self.requests.append(request)
        self._proceed()

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        request = self.arriving
        if request is not None and not request.is_ready:
            request.take(body)
            if request.error is not None:
                self._proceed()

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        request, self.arriving = self.arriving, None
        if request is not None:
            request.is_ready = True
        if self.requests:
            self._proceed()
        else:  # it was answered before its body arrived
            self._wait_for(IDLE)

    def refuse(self, error: ServingError) -> None:
        """Answer with an error what is not, or not yet, a request, after earlier requests are answered. Then close."""
        if self.ignores_input or self.transport.is_closing():
            return
        self.ignores_input = True
        self.transport.pause_reading()
        request, self.arriving = self.arriving, None
        if request is None:  # these bytes are no request
            request = Request("", "", b"", [])
            request.share = self.server.budget.share()
            self.requests.append(request)
        request.keep_alive = False
        if not request.is_ready:  # else it is answered already, or will be
            if request.form is None:
                self.server.observer.refused(error.status)
            request.refuse(error)
        if self.requests:
            self._proceed()
        else:
            self.transport.close()

    # -------------------- answers --------------------

    def _proceed(self) -> None:
        """Answer the requests that are ready, one after another; else wait for the body of the first."""
        while self.requests and self.task is None and self.can_write and not self.transport.is_closing():
            request = self.requests[0]
            if request.error is not None:
                self._write(self.server.application.failed(request, request.error))
            elif request.is_ready:
                self.state = ANSWER
                self.task = self.loop.create_task(self._compute(request))
            else:
                if self.state != BODY:
                    self._wait_for(BODY)
                    if request.expects_continue:
                        self.transport.write(_CONTINUE)
                break

    async def _compute(self, request: Request) -> None:
        try:
            answer = await self.server.application.answer(request)
            if not request.is_gone:
                self.task = None
                self._write(answer)
                self._proceed()
        except BaseException:
            self.transport.abort()  # the client does not wait for an answer that never comes
            raise

    def _write(self, answer: Answer) -> None:
        """Write the answer to the first request, in one piece."""
        request = self.requests.popleft()
        is_arriving = request is self.arriving
        self._wait_for(BODY if is_arriving else HEAD if self.head_bytes else IDLE)
        is_last = (
            not request.keep_alive
            or (is_arriving and request.expects_continue)  # the client may send the body or not
            or (self.server.is_ending and not self.requests and not self.rest)
        )
        status, headers, body = answer
        pieces = [_STATUS_LINES[status], self.server.date, b"content-length: %d\r\n" % len(body)]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"connection: close\r\n\r\n" if is_last else b"\r\n")
        if request.method != "HEAD":
            pieces.append(body)
        self.transport.write(b"".join(pieces))
        if is_last:
            self.transport.close()
        elif self.requests or self.rest:
            self.loop.call_soon(self._read_on)  # after other tasks had their turn

    def check(self, now: float) -> None:
        """Close the connection if it waits too long for the client."""
        seconds, is_idle = self.server.seconds[self.state], self.state == IDLE
        is_unread = (
            self.transport.is_closing()
            or (is_idle and self.transport.get_write_buffer_size() > 0)
            or not (self.can_write or self.task)
        )
        if is_unread:
            seconds = self.server.options.body_seconds
        if now - self.since <= seconds:
            return
        if is_unread:
            self.transport.abort()
        elif is_idle or (self.state == HEAD and not self.head_bytes):
            self.transport.close()
        else:
            what = "headers" if self.state == HEAD else "body"
            self.refuse(ServingError(408, f"the request's {what} did not arrive within {seconds:g} s"))


def _target(url: bytes) -> tuple[str, bytes]:
    """The path and the query of a request's target."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise refused("this is not a valid HTTP request: its target is not a path") from None
    path = (parsed.path or b"/").decode("ascii")
    return (urllib.parse.unquote(path) if "%" in path else path), parsed.query or b""


def check_head(version: str, headers: RawHeaders) -> None:
    """Raise a ServingError for Host and Transfer-Encoding headers that a server must refuse by RFC 9112 (3.2, 6.1, 6.3).

    They say whom a request is for and where it ends. A proxy in front may read them differently.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise refused(f"a request must have exactly one header Host, received {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise refused(
            f"the header Host must be a name and perhaps a port, received {briefly(hosts[0].decode('latin-1'))}"
        )
    codings = b",".join([value for name, value in headers if name == b"transfer-encoding"]).lower()
    if not codings:
        return
    if codings.strip() != b"chunked":
        *others, last = [part.strip() for part in codings.split(b",")]
        raise ServingError(
            501 if last == b"chunked" not in others else 400,
            f"Transfer-Encoding must be only chunked, received {briefly(codings.decode('latin-1'))}: compress a body with "
            "Content-Encoding",
        )
    if version == "1.0":
        raise refused("an HTTP/1.0 request must not have Transfer-Encoding: send Content-Length, or use HTTP/1.1")
