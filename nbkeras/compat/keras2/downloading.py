"""Keras 2's `get_file`, which unpacks an archive into the folder that holds it."""

import os
from collections.abc import Sequence

from nbkeras.data import downloads, unpacking


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
    """Keras 2's `get_file`: it unpacks an archive into the folder that holds it.

    Args:
        fname: A name, or an absolute path. Without it the call has the effect of Keras 3's `get_file`.
        origin: The URL to download from: http, https or file.
        untar: Whether the file is the archive `fname`.tar.gz, which holds a folder `fname`.
        md5_hash: As file_hash, an md5.
        file_hash: The file's sha256 or md5; a cached file with another hash is downloaded again.
        cache_subdir: The folder within the cache.
        hash_algorithm: 'sha256', 'md5', or 'auto', by the length of the hash.
        extract: Whether to unpack it; existing files in the folder are kept.
        archive_format: 'tar', 'zip', 'auto' for both, or a list of these.
        cache_dir: The folder of the cache; None for the environment's KERAS_HOME, else ~/.keras.
        force_download: Whether to download it again.

    Returns:
        The path of the file; with untar, the path of the folder.

    Raises:
        ConnectionError: if the download fails. Other errors are those of `utils.get_file` in Keras 3.
    """
    if fname is None:
        hashes = untar, md5_hash, file_hash, cache_subdir, hash_algorithm
        return downloads.get_file(None, origin, *hashes, extract, archive_format, cache_dir, force_download)
    folder, name = os.path.split(os.fspath(fname))
    path = downloads.get_file(
        f"{name}.tar.gz" if untar else name,
        origin,
        md5_hash=md5_hash,
        file_hash=file_hash,
        cache_subdir=os.path.join(cache_subdir, folder),
        hash_algorithm=hash_algorithm,
        cache_dir=cache_dir,
        force_download=force_download,
    )
    beside = os.path.dirname(path)
    wanted = os.path.join(beside, name)
    if extract and not untar or untar and not os.path.exists(wanted):
        with unpacking.unpacked(path, beside, "tar" if untar else archive_format) as made:
            for each in os.listdir(made):
                if not os.path.lexists(os.path.join(beside, each)):
                    os.rename(os.path.join(made, each), os.path.join(beside, each))
    return wanted
