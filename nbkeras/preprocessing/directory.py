"""The files of a folder, in an order that is always the same."""

import os


def list_files(folder: str | os.PathLike[str], endings: tuple[str, ...], follow_links: bool = False) -> list[str]:
    """Paths, relative to a folder, of the files below it with one of the endings, sorted."""
    found: list[str] = []
    for root, _, names in sorted(os.walk(os.fspath(folder), followlinks=follow_links)):
        found += [
            os.path.relpath(os.path.join(root, name), folder)
            for name in sorted(names)
            if name.lower().endswith(endings)
        ]
    return found
