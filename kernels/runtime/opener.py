"""Opening files that others may have made: `open(path, "rb", opener=ordinary_file)`.

A named pipe would keep `open` waiting for a program that writes, and a device may never end. So only ordinary files are opened.
"""

import errno
import os
import stat
from typing import Any

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # Windows has neither


class NoOrdinaryFileError(OSError, ValueError):
    """Something else than a file has the name of a file."""


def ordinary_file(path: Any, flags: int) -> int:
    """Opens a file, as the argument `opener` of `open`. Raises NoOrdinaryFileError for a pipe, a socket and a device."""
    try:
        descriptor = os.open(path, flags | _AT_ONCE, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody can open a socket
            raise _refused(path, os.stat(path).st_mode) from None
        raise
    mode = os.fstat(descriptor).st_mode  # not os.stat(path): by now, the name may refer to something else
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise _refused(path, mode)


def _refused(path: Any, mode: int) -> NoOrdinaryFileError:
    kind = _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
    return NoOrdinaryFileError(f"{os.fspath(path)!r} is {kind}, not an ordinary file: copy its content into a file")
