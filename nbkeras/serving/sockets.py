"""The sockets on which a server listens."""

import contextlib
import ctypes
import errno
import socket
import struct

QUEUED = 2048  # connections waiting to be accepted
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    made = _bound(host, port, socket.SO_REUSEADDR)
    made.listen(QUEUED)
    return made


def keep_port(host: str, port: int) -> socket.socket:
    """A socket that reserves a port for the workers' own sockets (SO_REUSEPORT) and gets no connections itself."""
    free = _bound(host, port, socket.SO_REUSEADDR)  # without SO_REUSEPORT: another server's port is refused
    port = free.getsockname()[1]
    free.close()
    return _bound(host, port, socket.SO_REUSEPORT)


def _bound(host: str, port: int, option: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        hint = ", by another server; choose another port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}{hint}") from None
    return made


def address(listening: socket.socket) -> str:
    """The host and port of a socket."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refuse_connections(listening: socket.socket) -> None:
    """Let the system drop new connections, so that workers can accept all waiting ones before the socket is closed.

    The client's system retries a dropped connection after a second, and is then refused.
    """
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # a filter of one instruction: keep 0 bytes
    with contextlib.suppress(OSError):  # without the filter, connections that arrive in the next moment are lost
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))
