"""Floor 3: a rank's side of the watcher (watch.py): it reports every half second what this process does, and receives faults."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn

from nbkeras.distribution import watch
from nbkeras.engine.ranks import RankError

_GRACE = 3.0  # seconds in which a computing thread may notice a fault before the process is ended
_LIBRARY = os.path.dirname(os.__file__) + os.sep  # Python's own modules
_COMPILERS = ("numba.", "llvmlite.")


class Address:
    """The address of a job's watcher, and its token. name: rank 0, which started the watcher."""

    def __init__(self, hosts: Sequence[str], port: int, token: str):
        self.hosts, self.port, self.token = list(hosts), port, token
        self.name = f"rank 0 (host {socket.gethostname()}, process {os.getpid()})"


def start_watcher(size: int, timeout: float | None, is_one_host: bool) -> Address:
    """Start the watcher of a job, a separate process on this host."""
    token = secrets.token_hex(32)
    job = {"token": token, "size": size, "timeout": timeout, "bind": "127.0.0.1" if is_one_host else ""}
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", watch.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # MPI launchers kill the sessions of ranks
        cwd=os.sep,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the watcher of the job has no pipes")
    with process.stdin as own:
        own.write(json.dumps(job).encode() + b"\n")
    with process.stdout as output:
        port = int(output.readline() or 0)
    if not port:
        raise RuntimeError(f"the watcher of the job did not start: {sys.executable} {watch.__file__}")
    process.returncode = 0  # nothing waits for it: it ends by itself after all ranks
    return Address(["127.0.0.1"] if is_one_host else _own_addresses(), port, token)


def _own_addresses() -> list[str]:
    """The addresses of this host for other hosts."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found += [str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(asking.fileno(), 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
                found.append(socket.inet_ntoa(answer[20:24]))
    return sorted(set(found), key=lambda each: each.startswith("127."))


class Monitor:
    """The connection of this rank to the watcher. abort() ends the process, and with it the job.

    entered: the number of collective operations that this process has begun. running: the number and the description of the
    operation that MPI runs. The group writes both.
    """

    def __init__(self, rank: int, address: Address, timeout: float | None, abort: Callable[[], None]):
        self.entered, self.running = 0, (0, "")
        self._rank, self._timeout, self._abort = rank, timeout, abort
        self._main, self._process = threading.get_ident(), os.getpid()
        self._fault: tuple[str, int | None] | None = None
        self._is_over = threading.Event()
        self._leaving = False
        self._sending = threading.Lock()
        self._lines, self._first = _connect(address, rank), address.name
        threading.Thread(target=self._listen, name="nbkeras ranks' faults", daemon=True).start()
        threading.Thread(target=self._beat, name="nbkeras rank's beat", daemon=True).start()
        self._hook = sys.excepthook
        sys.excepthook = self._on_error
        self._exit = os._exit
        os._exit = self._on_exit
        atexit.register(self._leave)
        os.register_at_fork(after_in_child=self._after_fork)

    def check(self) -> None:
        """Raise the RankError of the fault, if there is one."""
        if self._fault is not None:
            raise RankError(*self._fault)

    def wait_for_fault(self, seconds: float) -> None:
        """Wait up to `seconds` for a fault, and raise its RankError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            time.sleep(0.05)

    # -------------------- messages to the watcher --------------------

    def _send(self, **message: Any) -> None:
        with contextlib.suppress(OSError), self._sending:
            self._lines.send(**message)

    def _report(self, doing: str, compiles: bool = False) -> None:
        self._send(entered=self.entered, running=self.running, compiles=compiles, doing=doing)

    def _beat(self) -> None:
        while not self._is_over.is_set():
            if self._leaving:
                self._send(beat=True)
            else:
                frame = sys._current_frames().get(self._main)
                self._report(_location_of(frame), _compiles(frame))
            self._is_over.wait(watch.BEAT)

    def _on_error(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if self._fault is None:
            lines = str(error).strip().splitlines() or [""]
            frames = [frame for frame, _ in traceback.walk_tb(trace)]
            self._report(_location_of(frames[-1] if frames else None))
            self._send(error=f"{kind.__name__}: {lines[0]:.500}")
            self._fault = ("this process raised an exception itself", self._rank)
        self._hook(kind, error, trace)

    def _on_exit(self, status: int) -> NoReturn:
        """Replaces `os._exit`: if a rank exits with status 0, a launcher may report success for the job."""
        if os.getpid() != self._process or self._leaving:
            self._exit(status)
        if self._fault is None:
            self._fault = "this process ended itself by os._exit", self._rank
            self._report(_location_of(sys._getframe(1)))
            self._send(exits=status)
        self._end()

    def _leave(self) -> None:
        """At the end of the script, wait for the other ranks. After a fault, end the job."""
        if os.getpid() != self._process:
            return
        _print_line("")
        self._leaving = True
        if self._fault is None:
            self._report("at the end of its script")
            self._send(ends=True)
            while self._fault is None and not self._is_over.wait(0.2):
                pass
            if self._fault is None:
                return
            _print_line(f"nbkeras: RankError: {self._fault[0]}\n")
        self._end()

    def _end(self) -> NoReturn:
        """End the job, after the other ranks have raised their errors."""
        self._leaving = True
        self._send(over=True)
        self._is_over.wait(watch.RAISE_SECONDS + 5)
        # MPI may wait for an unreachable launcher and hold the GIL meanwhile; faulthandler ends the process without the GIL
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            faulthandler.dump_traceback_later(3, exit=True, file=nowhere)
            self._abort()
            self._exit(1)  # MPI's abort returns if the launcher is gone

    def _after_fork(self) -> None:
        """Close the connection in a forked child, because it must end with this process: a child is not a rank."""
        with contextlib.suppress(OSError):
            os.close(self._lines.connection.detach())

    # -------------------- messages from the watcher --------------------

    def _listen(self) -> None:
        if self._timeout is not None:
            self._lines.connection.settimeout(self._timeout / 2)
        try:
            while not self._is_over.is_set():
                for message in self._lines.receive():
                    if "over" in message:
                        self._is_over.set()
                    if "fault" in message and self._fault is None:
                        self._set_fault(message["fault"], message["rank"])
        except TimeoutError:
            self._set_fault(f"the host of {self._first} cannot be reached: the job's watcher sends no messages", 0)
        except OSError:
            if not self._is_over.is_set():
                self._set_fault("the host of rank 0 has lost the job's watcher: it was killed, or the host is down", 0)
                self._is_over.set()

    def _set_fault(self, message: str, rank: int | None) -> None:
        if self._fault is None:
            self._fault = message, rank
            threading.Thread(target=self._end_if_stuck, name="nbkeras rank's end", daemon=True).start()

    def _end_if_stuck(self) -> None:
        """End the process if no thread raises the error: a thread in an endless loop never checks for it."""
        time.sleep(_GRACE)
        if not self._leaving:
            _print_line(f"nbkeras: RankError in rank {self._rank}: {(self._fault or [''])[0]}\n")
            self._end()


def _connect(address: Address, rank: int) -> watch.Lines:
    """A connection to the watcher, at the first of its addresses that answers."""
    for host in address.hosts:
        with contextlib.suppress(OSError, ValueError, KeyError):
            connection = socket.create_connection((host, address.port), timeout=10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines, nonce = watch.Lines(connection), secrets.token_hex(16)
            (greeting,) = lines.receive()
            answer = watch.proof(address.token, greeting["nonce"])
            lines.send(rank=rank, host=socket.gethostname(), process=os.getpid(), nonce=nonce, proof=answer)
            (greeting,) = lines.receive()
            if greeting["proof"] == watch.proof(address.token, nonce):
                connection.settimeout(None)
                return lines
            connection.close()
    raise ConnectionError(
        f"rank {rank} cannot connect to rank 0 by TCP, at any of {address.hosts}, port {address.port}: the job's watcher there "
        "reports faults to the ranks. Is there a firewall between the hosts?"
    )


def _print_line(text: str) -> None:
    """Write to the standard error, after all earlier output; the launcher that reads it may be gone."""
    for stream, own in ((sys.stdout, ""), (sys.stderr, text)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.write(own)
            stream.flush()


def _compiles(frame: FrameType | None) -> bool:
    """Whether a thread is in Numba or LLVM."""
    frames = () if frame is None else traceback.walk_stack(frame)
    return any(f"{each.f_globals.get('__name__')}.".startswith(_COMPILERS) for each, _ in frames)


def _location_of(frame: FrameType | None) -> str:
    """The current line of a thread in the user's code; in a library, if there is no user's code."""
    if frame is None:
        return "nowhere"
    frame = next((each for each, _ in traceback.walk_stack(frame) if not _is_library_frame(each)), frame)
    return f"in {os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}, {frame.f_code.co_name}"


def _is_library_frame(frame: FrameType) -> bool:
    own, file = f"{frame.f_globals.get('__name__')}.".startswith("nbkeras."), frame.f_code.co_filename
    return own or file.startswith((_LIBRARY, "<")) or "site-packages" in file
