"""Gate: a proxy in front of gRPC that counts the memory of incoming messages, which gRPC itself does not.

gRPC buffers a message until all of it has arrived. It has no time limit and no limit for all messages together, and it
decompresses a message before it checks its length. So clients connect to a Gate. It passes all bytes to gRPC and back, over a
socket with an abstract name. On the way it reads the frames of HTTP/2 (RFC 9113). A message's length is in its first 5 bytes,
so it is counted before it arrives. Its bytes are given back when it is answered or its call ends.

If a message exceeds the budget or is late, its connection is closed with an explanation (GOAWAY), and the client tries again.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import zlib
from collections import deque
from typing import Any

from nbkeras.serving.budget import MESSAGE_COPIES, Budget
from nbkeras.serving.errors import ServingError
from nbkeras.serving.options import Options

_DATA, _HEADERS, _RESET, _GOAWAY = 0, 1, 3, 7
_END_STREAM, _PADDED = 1, 8
_HEAD = struct.Struct(">BHBBI")  # of a frame: its length (24 bits), kind, flags and stream
_PREFACE = 24  # bytes that a client sends before its first frame
_ENHANCE_YOUR_CALM = 11
# bytes of a call's first message that pass even if the memory is full, so that the call is refused with a message
_SMALL = 4096
_PIECE = 1 << 18
_STEP = 4 << 10  # bytes of compressed messages read in a turn of the event loop: they may decompress to 4 MB
_SWEEPS = 4  # sweeps within the time limit of a message


class RpcCall:
    """The state of a call. since: when the arriving message began, or None. taken: bytes of its messages."""

    __slots__ = ("left", "prefix", "since", "taken", "unpacker")

    def __init__(self, now: float | None):
        self.since, self.left = now, 0
        self.prefix = b""
        self.taken: deque[int] = deque()
        self.unpacker: Any = None


class Frames:
    """Parses one direction of a connection, in pieces of any size, and calls its methods for each event.

    skipped: bytes before the first frame. calls: by the numbers of their streams.
    """

    def __init__(self, skipped: int = 0):
        self.calls: dict[int, RpcCall] = {}
        self._skipped = skipped
        self._head = b""
        self._left = self._body = self._kind = self._flags = self._stream = 0
        self._has_padding = False  # the length of the padding comes next

    @property
    def is_between(self) -> bool:
        """Whether the position is between two frames."""
        return not (self._skipped or self._left or self._head)

    def is_late(self, limit: float) -> bool:
        """Whether an unfinished message began before the time `limit`."""
        return any(call.since is not None and call.since < limit for call in self.calls.values())

    def feed(self, data: bytes) -> None:
        """Parse received bytes."""
        at, end = min(self._skipped, len(data)), len(data)
        self._skipped -= at
        while at < end:
            if not self._left:
                head, start = data, at
                at += _HEAD.size - len(self._head)
                if self._head or at > end:  # the header comes in parts
                    head, start = self._head + data[start:at], 0
                    if len(head) < _HEAD.size:
                        self._head = head
                        return
                    self._head = b""
                high, low, self._kind, self._flags, stream = _HEAD.unpack_from(head, start)
                self._left = self._body = high << 16 | low
                self._stream = stream & 0x7FFFFFFF
                if self._kind == _HEADERS:
                    self.began(self._stream)
                self._has_padding = bool(self._flags & _PADDED)
            start, at = at, min(at + self._left, end)
            self._left -= at - start
            if self._kind == _DATA:
                self._data(data[start:at])
            if not self._left and (self._kind == _RESET or (self._flags & _END_STREAM and self._kind <= _HEADERS)):
                self.ended(self._stream, self._kind == _RESET)

    def _data(self, part: bytes) -> None:
        if self._has_padding and part:
            self._has_padding = False
            self._body -= 1 + part[0]
            part = part[1:]
        if len(part) > self._body:
            part = part[: max(0, self._body)]
        self._body -= len(part)
        call = self.calls.get(self._stream)
        if call is None:  # gRPC refuses it
            return
        while part:
            if not call.left:
                size = 5 - len(call.prefix)
                call.prefix += part[:size]
                part = part[size:]
                if len(call.prefix) < 5:
                    self.started(call)
                    return
                is_packed, call.left = bool(call.prefix[0]), int.from_bytes(call.prefix[1:])
                call.prefix = b""
                self.message(call, call.left, is_packed)
                if not call.left:
                    self.whole(call)
                continue
            more, part = part[: call.left], part[call.left :]
            call.left -= len(more)
            self.arrived(call, more)
            if not call.left:
                self.whole(call)

    def began(self, stream: int) -> None:
        """Headers or trailers of a call have begun."""

    def started(self, call: RpcCall) -> None:
        """The first bytes of a message have arrived, but not yet its length."""

    def message(self, call: RpcCall, size: int, is_packed: bool) -> None:
        """A message of a known size has begun."""

    def arrived(self, call: RpcCall, part: bytes) -> None:
        """A part of a message has arrived."""

    def whole(self, call: RpcCall) -> None:
        """A message has ended."""

    def ended(self, stream: int, is_reset: bool) -> None:
        """One side has ended its half of a call, or reset the call."""


class RequestFrames(Frames):
    """The direction from the client to gRPC."""

    def __init__(self, budget: Budget, clock: Any):
        super().__init__(_PREFACE)
        self._budget, self._clock = budget, clock
        self.newest = self.packed = 0  # packed: arriving compressed messages
        self.answers: dict[int, RpcCall] = {}  # the `calls` of the other direction

    def began(self, stream: int) -> None:
        if stream not in self.calls:
            self.calls[stream] = RpcCall(self._clock())
            self.newest = max(self.newest, stream)

    def started(self, call: RpcCall) -> None:
        if call.since is None:
            call.since = self._clock()

    def message(self, call: RpcCall, size: int, is_packed: bool) -> None:
        self.started(call)
        call.taken.append(0)
        self._take(call, MESSAGE_COPIES * size)
        if is_packed:
            call.unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
            self.packed += 1

    def _take(self, call: RpcCall, size: int) -> None:
        if len(call.taken) == 1 and call.taken[0] + size <= _SMALL * MESSAGE_COPIES:
            self._budget.used += size
        else:
            self._budget.take(size)
        call.taken[-1] += size

    def arrived(self, call: RpcCall, part: bytes) -> None:
        """Decompress a compressed message, piece by piece, to know its size."""
        piece = part
        while call.unpacker is not None and piece:
            try:
                size = len(call.unpacker.decompress(piece, _PIECE))
            except zlib.error:  # gRPC refuses it
                self._is_unpacked(call)
                return
            self._take(call, MESSAGE_COPIES * size)
            piece = call.unpacker.unconsumed_tail
            if call.unpacker.eof:  # the rest is ignored
                self._is_unpacked(call)

    def _is_unpacked(self, call: RpcCall) -> None:
        if call.unpacker is not None:
            call.unpacker = None
            self.packed -= 1

    def whole(self, call: RpcCall) -> None:
        call.since = None
        self._is_unpacked(call)

    def ended(self, stream: int, is_reset: bool) -> None:
        call = self.calls.get(stream)
        if call is None:
            return
        call.since = None
        if is_reset:
            self.forget(stream)

    def answered(self, call: RpcCall) -> None:
        """A message was answered."""
        if call.taken:
            self._budget.give_back(call.taken.popleft())

    def forget(self, stream: int) -> None:
        """A call has ended."""
        self.answers.pop(stream, None)
        call = self.calls.pop(stream, None)
        if call is not None:
            self._is_unpacked(call)
            self._budget.give_back(sum(call.taken))


class ResponseFrames(Frames):
    """The direction from gRPC to the client: answers to messages, and ends of calls."""

    def __init__(self, requests: RequestFrames, clock: Any):
        super().__init__()
        self._requests, self._clock = requests, clock
        requests.answers = self.calls

    def began(self, stream: int) -> None:
        if stream not in self.calls and stream in self._requests.calls:
            self.calls[stream] = RpcCall(None)

    def message(self, call: RpcCall, size: int, is_packed: bool) -> None:
        call.since = self._clock()
        own = self._requests.calls.get(self._stream)
        if own is not None:
            self._requests.answered(own)

    def whole(self, call: RpcCall) -> None:
        call.since = None

    def ended(self, stream: int, is_reset: bool) -> None:
        self._requests.forget(stream)


class _Inner(asyncio.Protocol):
    """The side of a connection that faces gRPC."""

    def __init__(self, outer: _Outer):
        self._outer = outer

    def connection_made(self, transport: Any) -> None:
        self._outer.inner = transport

    def data_received(self, data: bytes) -> None:
        if not self._outer.transport.is_closing():
            self._outer.responses.feed(data)
            self._outer.transport.write(data)

    def pause_writing(self) -> None:
        self._outer.set_full(True)

    def resume_writing(self) -> None:
        self._outer.set_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._outer.transport.is_closing():
            self._outer.close()


class _Outer(asyncio.Protocol):
    """The side of a connection that faces the client."""

    def __init__(self, gate: Gate):
        self._gate = gate
        self.requests = RequestFrames(gate.budget, gate.loop.time)
        self.responses = ResponseFrames(self.requests, gate.loop.time)
        self.transport: Any = None
        self.inner: Any = None
        self._is_full = False
        # bytes that arrived before the connection to gRPC was open, or while earlier ones were decompressed
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._gate.connections.add(self)
        if len(self._gate.connections) > self._gate.options.max_connections:
            transport.abort()
        else:
            self._task = self._gate.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._gate.connect(self)
        except OSError:
            self.transport.abort()
        else:
            if self.transport.is_closing():
                self.inner.abort()
            else:
                self.go_on()

    def data_received(self, data: bytes) -> None:
        if self.inner is None or self._rest:
            self._rest += data
            self.transport.pause_reading()
        else:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        """Count received bytes and pass them on. Compressed ones take several turns of the event loop."""
        if self.transport.is_closing():
            return
        end = 0
        try:
            while end < len(data):
                self.requests.feed(data[end : end + _STEP])
                end += _STEP
                if self.requests.packed:
                    break
        except ServingError as error:
            self.refuse(error.message)
            return
        self.inner.write(data[:end])
        if end < len(data):
            self._rest = data[end:]
            self.transport.pause_reading()
            self._gate.go_on_later(self)

    def go_on(self) -> None:
        """Pass on the waiting bytes."""
        rest, self._rest = self._rest, b""
        self._pass(rest)
        if not self._rest and not self._is_full and not self.transport.is_closing():
            self.transport.resume_reading()

    def set_full(self, is_full: bool) -> None:
        """Stop reading from the client while gRPC accepts no bytes."""
        self._is_full = is_full
        if self.transport.is_closing():
            return
        if is_full:
            self.transport.pause_reading()
        elif not self._rest:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_reading()

    def resume_writing(self) -> None:
        if self.inner is not None and not self.inner.is_closing():
            self.inner.resume_reading()

    def refuse(self, message: str) -> None:
        """Send the reason, then close."""
        if self.transport.is_closing():
            return
        if self.responses.is_between:
            body = self.requests.newest.to_bytes(4) + _ENHANCE_YOUR_CALM.to_bytes(4) + message.encode()
            self.transport.write(len(body).to_bytes(3) + bytes([_GOAWAY, 0, 0, 0, 0, 0]) + body)
        self.close()
        self.end()

    def close(self) -> None:
        """Close after all written bytes are sent, or the client's time to read them is over."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._gate.loop.call_later(self._gate.options.body_seconds, self.transport.abort)

    def end(self) -> None:
        """Abort the connection to gRPC, which then cancels its calls."""
        if self.inner is not None:
            self.inner.abort()
        for stream in list(self.requests.calls):
            self.requests.forget(stream)

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.connections.discard(self)
        self.end()


class Gate:
    """Accepts connections of gRPC clients, and forwards them to `target`, the address of gRPC itself."""

    def __init__(self, options: Options, budget: Budget):
        self.options, self.budget = options, budget
        self.loop = asyncio.get_running_loop()
        self.connections: set[_Outer] = set()
        self._name = f"nbkeras-{secrets.token_hex(16)}"
        self.target = f"unix-abstract:{self._name}"
        self._unpacking: deque[_Outer] = deque()
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task | None = None

    async def open(self, port: int) -> None:
        """Listen on a port that all workers share."""
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        self._server = await self.loop.create_server(
            lambda: _Outer(self), self.options.host, port, family=family, reuse_port=True, reuse_address=True
        )
        self._watching = self.loop.create_task(self._watch())

    async def connect(self, outer: _Outer) -> None:
        """Open the connection to gRPC for a client's connection."""
        made = socket.socket(socket.AF_UNIX)
        try:
            made.setblocking(False)
            await self.loop.sock_connect(made, f"\0{self._name}")
            await self.loop.create_unix_connection(lambda: _Inner(outer), sock=made)
        except BaseException:
            made.close()
            raise

    def go_on_later(self, outer: _Outer) -> None:
        """Schedule more decompression for a connection: one connection per turn of the event loop, so that it stays free."""
        self._unpacking.append(outer)
        if len(self._unpacking) == 1:
            self.loop.call_soon(self._unpack)

    def _unpack(self) -> None:
        outer = self._unpacking[0]
        outer.go_on()
        self._unpacking.popleft()
        if self._unpacking:
            self.loop.call_soon(self._unpack)

    async def _watch(self) -> None:
        seconds = self.options.body_seconds
        while True:
            await asyncio.sleep(min(seconds / _SWEEPS, 1.0))
            limit = self.loop.time() - seconds
            for connection in list(self.connections):
                if connection.requests.is_late(limit):
                    connection.refuse(f"a message did not arrive within {seconds:g} s")
                elif connection.responses.is_late(limit):
                    connection.refuse(f"an answer was not read within {seconds:g} s")

    def close(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()

    def end(self) -> None:
        """Close the remaining connections."""
        if self._watching is not None:
            self._watching.cancel()
        for connection in list(self.connections):
            connection.close()
