"""`get_file` downloads a file once, checks it, and stores it in Keras's cache."""

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import IO

from nbkeras.data import unpacking
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.progress import Progbar, print_message

_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds to wait for the next byte


def cache_folder() -> str:
    """The folder for downloads: the environment's KERAS_HOME, else ~/.keras."""
    return os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")


def get_file(
    fname: str | os.PathLike | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | Sequence[str] | None = "auto",
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
) -> str:
    """The path of a file in the cache, downloaded if it is not there yet.

    The file gets its name only when it is complete and checked.

    Args:
        fname: The name of the file in the cache; None for the last part of origin.
        origin: The URL to download from: http, https or file.
        untar: Whether to unpack it as a tar file.
        md5_hash: An md5, an argument of Keras 1: use file_hash.
        file_hash: Its sha256 or md5. A file in the cache with another hash is downloaded again.
        cache_subdir: The folder within the cache.
        hash_algorithm: 'sha256', 'md5', or 'auto', by the length of the hash.
        extract: Whether to unpack it, with the format archive_format.
        archive_format: 'tar', 'zip', 'auto' for both, or a list of these.
        cache_dir: The folder of the cache; None for the environment's KERAS_HOME, else ~/.keras.
        force_download: Whether to download it again.

    Returns:
        The path of the file. If it is unpacked, the path of the folder `fname_extracted` beside it; only a
        download replaces this folder. If fname has no dot, the folder is `fname` and the archive
        `fname_archive`.

    Raises:
        ConnectionError: if the download fails.
        OSError: if the file cannot be written.
        ValueError: for wrong arguments, a wrong hash, and a file that is not an archive.

    Example:
        >>> import os, pathlib
        >>> _ = pathlib.Path("data.txt").write_text("1 2 3")
        >>> origin = pathlib.Path("data.txt").absolute().as_uri()
        >>> path = keras.utils.get_file("copy.txt", origin, cache_dir="cache")
        Downloading data from file:...
        >>> os.path.basename(path), pathlib.Path(path).read_text()
        ('copy.txt', '1 2 3')
    """
    if origin is None:
        raise ValueError("get_file needs an origin, the URL of the file")
    name = _file_name(fname, origin)
    if file_hash is None and md5_hash is not None:
        file_hash, hash_algorithm = md5_hash, "md5"
    folder = os.path.join(os.path.expanduser(os.fspath(cache_dir or cache_folder())), cache_subdir)
    unpack = extract or untar
    target = os.path.join(folder, name)
    if unpack and (fname is None or "." not in name):
        target += "_archive"
    algorithm = _algorithm(hash_algorithm, file_hash)
    present = os.path.exists(target) and not force_download
    if present and file_hash is not None and _hash(target, algorithm) != file_hash.lower():
        print_message(f"{target} is not the expected file: its {algorithm} differs. Downloading it again.")
        present = False
    extracted = os.path.join(folder, name if target.endswith("_archive") else name.partition(".")[0] + "_extracted")
    unpacked = os.path.isdir(extracted)
    if not present:
        _download(origin, target, algorithm, file_hash)
    if not unpack:
        return target
    if not present or not unpacked:
        unpacking.extract(target, extracted, "tar" if untar else archive_format, replace=unpacked)
    return extracted


def _file_name(fname: str | os.PathLike | None, origin: str) -> str:
    """The name of the file: fname, else the last part of the URL; raises ValueError for an unsafe name or an unsupported URL."""
    url = urllib.parse.urlsplit(origin)
    if url.scheme not in ("http", "https", "file"):
        raise ValueError(f"origin must be an http, https or file URL, received {briefly(origin)}")
    name = os.fspath(fname) if fname else os.path.basename(url.path)
    if not name or name != os.path.basename(name) or name in (".", ".."):
        raise ValueError(
            f"fname must be a file's name without folders (use cache_dir for the folder), received {briefly(name)}"
        )
    return name


def _algorithm(name: str, file_hash: str | None) -> str:
    if name == "auto":
        return "md5" if file_hash is not None and len(file_hash) == 32 else "sha256"
    if name not in ("sha256", "md5"):
        raise ValueError(f"hash_algorithm must be 'auto', 'sha256' or 'md5', received {briefly(name)}")
    return name


def _hash(path: str, algorithm: str) -> str:
    with open(path, "rb", opener=ordinary_file) as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _download(origin: str, target: str, algorithm: str, file_hash: str | None) -> None:
    """Download into a temporary file beside the target, check it, and rename it to the target."""
    part = f"{target}.{os.getpid()}.{secrets.token_hex(4)}.part"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(part, "xb") as file:
            received = _fetch(origin, target, file, hashlib.new(algorithm, usedforsecurity=False))
        if file_hash is not None and received != file_hash.lower():
            raise ValueError(
                f"the download from {origin} is not the expected file: its {algorithm} is {received}, expected {file_hash}"
            )
        os.replace(part, target)
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {target} ({error.strerror}): free disk space, make the folder writable, or set KERAS_HOME to "
            "a writable folder",
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def _fetch(origin: str, target: str, file: IO[bytes], digest) -> str:
    """Copy the download into the file, with a progress bar, and return its hash."""
    print_message(f"Downloading data from {origin}")
    total, done = None, 0
    progbar: Progbar | None = None
    for total, chunk in _chunks(origin, target):
        progbar = progbar or Progbar(total, unit_name="byte")
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        progbar.update(done, finalize=False)
    if total is not None and done < total:
        raise _no_download(origin, target, f"it ended after {done} of {total} bytes")
    if progbar is not None:
        progbar.update(done, finalize=True)
    return digest.hexdigest()


def _chunks(origin: str, target: str) -> Iterator[tuple[int | None, bytes]]:
    """Yield (total size or None, next bytes) until the end; raises ConnectionError for any failure of the connection."""
    try:
        with urllib.request.urlopen(origin, timeout=_TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            while chunk := response.read(_CHUNK):
                yield total, chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _no_download(origin, target, f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _no_download(origin, target, str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _no_download(origin, target, str(error) or type(error).__name__) from error


def _no_download(origin: str, target: str, reason: str) -> ConnectionError:
    return ConnectionError(
        f"cannot download {origin} ({reason}); without a network, get the file elsewhere and put it at {target}"
    )
