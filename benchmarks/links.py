"""Hosts with links of a given bandwidth and latency, on one machine: network namespaces of Linux, and a process that forwards.

`with Links(2, 1e9, 1e-3) as links: subprocess.run([*links.command(4), "python", ...])`. It needs root, /dev/net/tun, and the
commands ip and unshare. Frames of a host are sent one after the other, each in its bits / bandwidth, and arrive half a round trip
later. The forwarder has the highest priority and uses the same processors: frames of 64 KB keep its time small, but 10 Gbit/s
need nearly a whole processor.
"""

import collections
import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_MTU = 64000
_AHEAD = 0.005  # seconds of frames that a link queues; further frames wait in the kernel, as in a network card
_LAUNCHER = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
number=${1##*.}; shift
exec ip netns exec nbkeras$number unshare --uts sh -c "hostname node$number; exec $*"
"""


def is_possible() -> bool:
    """Whether this process may make namespaces and devices."""
    return os.geteuid() == 0 and os.path.exists("/dev/net/tun") and all(map(shutil.which, ("ip", "unshare")))


def _ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True)


class Links:
    """Hosts 10.77.0.1 to 10.77.0.count, each with a link of `bandwidth` bits/s; a round trip takes `latency` seconds."""

    def __init__(self, count: int, bandwidth: float, latency: float):
        self.count, self.bandwidth, self.latency = count, bandwidth, latency
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> "Links":
        with contextlib.ExitStack() as undo:
            ports = [self._port(undo, number) for number in [*range(1, self.count + 1), 254]]
            arguments = [str(self.bandwidth), str(self.latency), *(f"{fd}:{number}" for fd, number in ports)]
            command = [sys.executable, "-I", __file__, *arguments]
            forwarder = subprocess.Popen(command, pass_fds=[fd for fd, _ in ports])
            undo.callback(forwarder.wait)
            undo.callback(forwarder.kill)
            folder = undo.enter_context(tempfile.TemporaryDirectory())
            self._launcher = Path(folder) / "launch.sh"
            self._launcher.write_text(_LAUNCHER)
            self._launcher.chmod(0o755)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    @staticmethod
    def _port(undo: contextlib.ExitStack, number: int) -> tuple[int, int]:
        """The device of a host; number 254 is this machine itself, where MPI starts the others."""
        device, here = f"nbtun{number}", number == 254
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        undo.callback(os.close, fd)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH", device.encode(), 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        inside: list[object] = []
        if not here:
            namespace = f"nbkeras{number}"
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "del", namespace)
            _ip("link", "set", device, "netns", namespace)
            inside = ["-n", namespace]
            _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "addr", "add", f"10.77.0.{number}/24", "dev", device)
        _ip(*inside, "link", "set", device, "mtu", _MTU, "up")
        return fd, number

    def command(self, ranks: int) -> list[str]:
        """The beginning of a command that starts this many ranks, alternating over the hosts."""
        hosts = ",".join(f"10.77.0.{number}" for number in range(1, self.count + 1))
        launcher = ["-launcher", "ssh", "-launcher-exec", str(self._launcher)]
        return ["mpiexec", *launcher, "-localhost", "10.77.0.254", "-hosts", hosts, "-n", str(ranks)]

    environment = {"MPIR_CVAR_CH4_NETMOD": "ucx", "UCX_TLS": "tcp,self"}


def forward(bandwidth: float, latency: float, ports: dict[int, int]) -> None:
    """Forward frames between hosts forever, each after its delay. ports: file descriptors by the last byte of an address."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: sleep to the microsecond
    free = dict.fromkeys(ports.values(), 0.0)
    on_the_way: collections.deque[tuple[float, int, bytes]] = collections.deque()
    while True:
        now = time.perf_counter()
        ready = [fd for fd in ports.values() if free[fd] - now < _AHEAD]
        wait = max(0.0, on_the_way[0][0] - now) if on_the_way else 0.001 if len(ready) < len(ports) else None
        readable, _, _ = select.select(ready, [], [], wait)
        now = time.perf_counter()
        for fd in readable:
            for frame in _frames(fd):
                if frame[0] >> 4 == 4 and frame[19] in ports:  # IPv4; its address of destination ends there
                    free[fd] = max(now, free[fd]) + len(frame) * 8 / bandwidth
                    arrival = free[fd] + latency / 2
                    at = len(on_the_way)
                    while at and on_the_way[at - 1][0] > arrival:
                        at -= 1
                    on_the_way.insert(at, (arrival, ports[frame[19]], frame))
        now = time.perf_counter()
        while on_the_way and on_the_way[0][0] <= now:
            _, target, frame = on_the_way.popleft()
            with contextlib.suppress(OSError):  # a full queue, or an unreachable host, loses the frame
                os.write(target, frame)


def _frames(fd: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # there is no further frame
        for _ in range(4):
            yield os.read(fd, 65536)


if __name__ == "__main__":
    forward(float(sys.argv[1]), float(sys.argv[2]), {int(n): int(fd) for fd, n in (a.split(":") for a in sys.argv[3:])})
