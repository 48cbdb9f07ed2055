"""Unpacks archives safely: it writes nothing outside the folder, no links out of it, and no devices."""

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file

_RATIO, _FREE = 200, 1 << 30  # an archive may unpack to _RATIO times its size, and always to _FREE bytes


def extract(
    archive: str, folder: str, archive_format: str | Sequence[str] | None = "auto", replace: bool = False
) -> None:
    """Unpack a tar or zip file into a new folder, completely or not at all.

    archive_format: 'auto', 'tar', 'zip' or a list of these. replace: True replaces an existing folder, False keeps it, because a
    faster process made it. Raises ValueError if the file is not such an archive, and for members outside the folder.
    """
    with unpacked(archive, os.path.dirname(folder), archive_format) as inner:
        if replace:
            with suppress(FileNotFoundError):
                os.rename(folder, inner + ".old")
        try:
            os.rename(inner, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise


@contextmanager
def unpacked(archive: str, beside: str, archive_format: str | Sequence[str] | None = "auto") -> Iterator[str]:
    """Unpack a tar or zip file into a temporary folder within `beside` for the block; raises the same errors as `extract`."""
    formats = ("tar", "zip") if archive_format == "auto" else archive_format
    formats = (formats,) if isinstance(formats, str) else tuple(formats or ())
    if not set(formats) <= {"tar", "zip"}:
        raise ValueError(f"archive_format must be 'auto', 'tar' or 'zip', received {briefly(archive_format)}")
    outer = tempfile.mkdtemp(prefix=f"{os.path.basename(archive)}.", suffix=".part", dir=beside)
    inner = os.path.join(outer, "unpacked")
    try:
        os.mkdir(inner)
        _unpack(archive, inner, formats)
        yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _unpack(archive: str, folder: str, formats: tuple[str, ...]) -> None:
    try:
        with open(archive, "rb", opener=ordinary_file) as file:
            if "tar" in formats and tarfile.is_tarfile(file):
                file.seek(0)
                _extract_tar(archive, file, folder)
            elif "zip" in formats and zipfile.is_zipfile(file):
                _extract_zip(archive, file, folder)
            else:
                raise ValueError(f"{archive} is not a {' or '.join(formats)} archive, so it cannot be unpacked")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is not unpacked: {error}") from error


def _extract_tar(archive: str, source: IO[bytes], folder: str) -> None:
    with tarfile.open(fileobj=source) as tar:
        size = 0
        for member in tar:
            # check the size so far, before the archive is decompressed further to find the next member
            size += _checked(archive, member)
            _check_size(archive, size)
        tar.extractall(folder, filter="data")


def _checked(archive: str, member: tarfile.TarInfo) -> int:
    """The size of a member; raises ValueError for a link that leads upwards.

    tarfile's own filter fails to check links in paths that are too long (CVE-2025-4517, 2025-12060).
    """
    target = member.linkname if member.issym() or member.islnk() else ""
    if target.startswith("/") or ".." in target.split("/"):
        raise ValueError(f"{archive} is not unpacked: its member {member.name!r} is a link to {target[:100]!r}")
    return member.size


def _check_size(archive: str, size: int) -> None:
    """Raise ValueError for a small file that would fill the disk."""
    if size > max(_FREE, _RATIO * os.path.getsize(archive)):
        raise ValueError(f"{archive} is not unpacked: its {os.path.getsize(archive)} bytes would become {size}")


def _extract_zip(archive: str, source: IO[bytes], folder: str) -> None:
    """Unpack a zip file; raises ValueError for leading slashes and '..' in names, which zipfile would silently remove."""
    with zipfile.ZipFile(source) as file:
        try:
            check_methods(file)
        except ValueError as error:
            raise ValueError(f"{archive} is not unpacked: {error}") from None
        _check_size(archive, sum(member.file_size for member in file.infolist()))
        for name in file.namelist():
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
                raise ValueError(f"{archive} is not unpacked: its member {name!r} would be written outside the folder")
        file.extractall(folder)


def check_methods(archive: zipfile.ZipFile) -> None:
    """Raise ValueError for members that are neither stored nor deflated: zipfile does not check the declared size of others."""
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"the archive's member {member.filename[:100]!r} is compressed by method {member.compress_type}, expected 0 "
                "(stored) or 8 (deflated): pack it again by one of these"
            )
