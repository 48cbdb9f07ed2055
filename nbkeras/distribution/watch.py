"""The watcher of a job of several processes: a small process that reports to all ranks when one has ended, hangs, or raised an
exception. Each rank is connected to it.

Rank 0 starts this file as a script; it imports nothing of nbkeras. It is not a thread of rank 0, because MPI launchers kill all
ranks at once when one has died: this process, in its own session, remains for a moment and prints the reason.
Both sides send lines of JSON. Rank 0 sends a token to the other ranks through MPI; a client that knows it is a rank of the job.
"""

import contextlib
import hmac
import json
import secrets
import selectors
import socket
import sys
import time
from typing import Any

BEAT = 0.5  # seconds between two messages of a rank
RAISE_SECONDS = 20.0  # seconds after a fault in which the other ranks may raise their exceptions
_SILENT_SECONDS = 4.0  # after a fault, a rank that has sent no message for this many seconds is not waited for
_JOIN = 120.0  # seconds within which all ranks must connect
_LONGEST = 2**16  # the maximum number of bytes of a message


def proof(token: str, nonce: str) -> str:
    """The answer to a nonce; it proves that the sender knows the token."""
    return hmac.digest(token.encode(), nonce.encode(), "sha256").hex()


class Lines:
    """JSON messages over a socket, one per line."""

    def __init__(self, connection: socket.socket):
        self.connection, self._buffer = connection, b""

    def send(self, **message: Any) -> None:
        """Send a message; raises OSError if the other side is gone."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict]:
        """The messages of one read, possibly none; raises OSError at the end of the connection."""
        data = self.connection.recv(_LONGEST)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if not data or len(self._buffer) > _LONGEST:
            raise ConnectionResetError("the connection was closed")
        return [json.loads(line) for line in lines]


class Rank:
    """The watcher's state of a rank."""

    def __init__(self, lines: Lines, hello: dict, now: float):
        self.lines, self.number = lines, hello["rank"]
        self.name = f"rank {hello['rank']} (host {hello['host']}, process {hello['process']})"
        self.entered, self.doing = 0, "at the beginning"
        self.running: list[Any] = [0, ""]  # the number and the description of the operation that MPI runs for it
        self.heard = now  # the time of its last message
        self.behind: float | None = None  # the time since which others wait for it
        self.ended = self.over = self.gone = False

    def beat(self, message: dict) -> None:
        """Store a rank's report about itself."""
        if message["entered"] != self.entered or message["compiles"]:
            self.behind = None
        self.entered, self.running, self.doing = message["entered"], message["running"], message["doing"]


class Watch:
    """The ranks of a job, and the first fault."""

    def __init__(self, server: socket.socket, token: str, size: int, timeout: float | None):
        self._server, self._token, self._size, self._timeout = server, token, size, timeout
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._ranks: dict[int, Rank] = {}
        self._by_lines: dict[Lines, Rank | None] = {}
        self._nonces: dict[Lines, str] = {}
        self._lost: list[Rank] = []  # ranks whose connections ended, in this order
        self._start = self._last_beat = time.monotonic()
        self.fault: tuple[int | None, str] | None = None

    def run(self) -> None:
        """Watch until the job has ended."""
        tick = time.monotonic()
        deadline = None
        while True:
            for key, _ in self._selector.select(0.2):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            now = time.monotonic()
            if now - tick > 2:  # this process was stopped, or its machine is busy
                for rank in self._ranks.values():
                    rank.heard, rank.behind = rank.heard + now - tick, None
            tick = now
            if deadline is None:
                self.fault = self.fault or self._find_fault(now)
                if self.fault is not None:
                    deadline = now + RAISE_SECONDS
                    self._broadcast(fault=self.fault[1], rank=self.fault[0])
                    with contextlib.suppress(OSError):
                        print(f"\nnbkeras: the job ends, because {self.fault[1]}", file=sys.stderr, flush=True)
            if now - self._last_beat > BEAT:
                self._broadcast(beat=True)
            here = [rank for rank in self._ranks.values() if not rank.gone]
            complete = len(self._ranks) == self._size and all(rank.ended for rank in here)
            if deadline is None and complete:
                break
            if deadline is not None:
                waits_for = [rank for rank in here if not rank.over and now - rank.heard <= _SILENT_SECONDS]
                if now > deadline or not waits_for:
                    break
        self._broadcast(over=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            connection.settimeout(5)
            lines = Lines(connection)
            self._nonces[lines] = secrets.token_hex(16)
            lines.send(nonce=self._nonces[lines])
            self._by_lines[lines] = None
            self._selector.register(connection, selectors.EVENT_READ, lines)

    def _read(self, lines: Lines) -> None:
        try:
            messages = lines.receive()
            for message in messages:
                self._take(lines, message)
        except (OSError, ValueError, KeyError, TypeError):  # the connection ended, or it is not from a rank
            self._selector.unregister(lines.connection)
            lines.connection.close()
            rank = self._by_lines.pop(lines)
            if rank is not None:
                rank.gone = True
                self._lost += [] if rank.ended else [rank]

    def _take(self, lines: Lines, message: dict) -> None:
        rank, now = self._by_lines[lines], time.monotonic()
        if rank is None:
            if not hmac.compare_digest(message["proof"], proof(self._token, self._nonces.pop(lines))):
                raise ValueError("a stranger")
            lines.send(proof=proof(self._token, message["nonce"]))
            rank = self._by_lines[lines] = self._ranks[message["rank"]] = Rank(lines, message, now)
        rank.heard = now
        if "entered" in message:
            rank.beat(message)
        rank.ended, rank.over = rank.ended or "ends" in message, rank.over or "over" in message
        if "exits" in message and self.fault is None:
            place = f"os._exit({message['exits']}) {rank.doing}, after {rank.entered} collective operations"
            self.fault = (
                rank.number,
                f"{rank.name} left the job early, by {place}: let the script of each rank end, or call sys.exit",
            )
        if "error" in message and self.fault is None:
            self.fault = rank.number, f"{rank.name} raised {message['error']}"

    def _broadcast(self, **message: Any) -> None:
        self._last_beat = time.monotonic()
        for rank in self._ranks.values():
            if not rank.gone:
                with contextlib.suppress(OSError):
                    rank.lines.send(**message)

    def _find_fault(self, now: float) -> tuple[int | None, str] | None:
        """The rank at fault, and a message about it; None if there is no fault."""
        if len(self._ranks) < self._size:
            missing = sorted(set(range(self._size)) - set(self._ranks))
            if now - self._start < _JOIN:
                return None
            return missing[0], f"the ranks {missing} did not connect to the watcher of the job on the host of rank 0"
        if self._lost:  # only the first lost rank is at fault: MPI ends ranks that were about to read its memory
            rank, *others = self._lost
            then = f" Then {', '.join(other.name for other in others)} ended." if others else ""
            return rank.number, (
                f"{rank.name} has ended without a Python exception, like a killed process. Last seen: {rank.doing}, after "
                f"{rank.entered} collective operations.{then}"
            )
        first: dict[int, Rank] = {}
        for number, rank in sorted(self._ranks.items()):
            position, what = rank.running
            other = first.setdefault(position, rank)
            if other.running[1] != what:
                return number, (
                    f"{rank.name} runs another operation than {other.name}: collective operation {position} is {what} in the "
                    f"first, and {other.running[1]} in the second. All ranks must run the same steps in order. Last seen: "
                    f"{rank.doing}; {other.doing}"
                )
        furthest = max(rank.entered for rank in self._ranks.values())
        for number, rank in sorted(self._ranks.items()):
            last = f"Last seen: {rank.doing}, after {rank.entered} collective operations"
            behind = rank.entered < furthest and not rank.gone
            rank.behind = (rank.behind or now) if behind else None
            if rank.ended and rank.entered < furthest:
                return number, f"{rank.name} has reached the end of its script, but others wait for it. {last}"
            if self._timeout is None or rank.gone or rank.ended:
                continue
            if now - rank.heard > self._timeout / 2:
                return number, (
                    f"{rank.name} has sent no message for {now - rank.heard:.0f} s: it is stopped, or its host cannot be "
                    f"reached. {last}"
                )
            if rank.behind is not None and now - rank.behind > self._timeout:
                return number, (
                    f"{rank.name} has kept others waiting for {now - rank.behind:.0f} s. {last}. If it is only slow, call "
                    "distribution.initialize(timeout=...) with more seconds"
                )
        return None


def main() -> None:
    """Read the job from standard input, print the port, and watch."""
    job = json.loads(sys.stdin.readline())
    with socket.create_server((job["bind"], 0), backlog=job["size"] + 8) as server:
        print(server.getsockname()[1], flush=True)
        sys.stdout.close()
        Watch(server, job["token"], job["size"], job["timeout"]).run()


if __name__ == "__main__":
    main()
