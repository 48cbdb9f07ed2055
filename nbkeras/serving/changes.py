"""Changes of the versions that all workers serve. One is made at a time, by all workers or by none.

A file is loaded in a process of its own, then all workers are ordered to serve the frozen file, and the old one is deleted. If a
worker cannot serve it, all return to the version that they served before. A worker that starts meanwhile serves what is in
`Changes.served` at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras.serving import limits
from nbkeras.serving.errors import LoadingError
from nbkeras.serving.loading import DESCRIBES, Folder, Loaded, Loading, utc
from nbkeras.serving.logs import event
from nbkeras.serving.options import ModelOptions, Options, versions_of
from nbkeras.serving.processes import Workers
from nbkeras.serving.repository import LOADING, READY, STARTING, UNAVAILABLE, UNLOADED

_log = logging.getLogger("nbkeras.serving")
Key = tuple[str, str]  # name and version of a model


@dataclasses.dataclass
class Served:
    """A version that all workers serve. stamp: identifies the state of its file when it was read; see `_stamp`."""

    options: ModelOptions
    loaded: Loaded
    stamp: list[tuple]


class Changes:
    """The served versions, and what changes them. read_options: reads the options again.

    marks: state, reason and time of versions that are not served, and of those whose last load failed.
    """

    def __init__(self, options: Options, read_options: Callable[[], Options], workers: Workers, folder: Folder):
        self._options, self._read_options, self._workers, self._folder = options, read_options, workers, folder
        self.served: dict[Key, Served] = {}
        self._first = _versions(options)
        self.marks: dict[Key, tuple[str, str, str]] = dict.fromkeys(self._first, (LOADING, STARTING, ""))
        self._figures = workers.metrics.segment(-1)
        self._figures.served = self.served.keys()
        self._turn = asyncio.Lock()
        self._is_signalled = False  # whether a SIGHUP waits for its turn
        self._numbers = itertools.count(1)

    # -------------------- causes of changes --------------------

    async def start(self) -> str:
        """Load the first versions. Returns the reason if the server cannot start, else ""."""
        async with self._turn:
            for key, options in self._first.items():
                if await self._make({key: options}):
                    return f"model {_called(key)} could not be loaded"
        return ""

    async def read_again(self) -> None:
        """After SIGHUP: read the options again and find new, changed and deleted files. Signals that wait count as one."""
        if self._is_signalled:
            return
        self._is_signalled = True
        async with self._turn:
            self._is_signalled = False
            try:
                options = self._read_options()
                versions = _versions(options)
            except (OSError, ValueError) as error:
                _log.error("SIGHUP received, but nothing is changed: %s", error, extra=event("sighup"))
                return
            _log.info("SIGHUP received: checking %d models", len(versions), extra=event("sighup"))
            names = [field.name for field in dataclasses.fields(options) if field.name != "models"]
            fixed = [name for name in names if getattr(options, name) != getattr(self._options, name)]
            if fixed:
                _log.warning("these options change only with a restart: %s", ", ".join(fixed), extra=event("sighup"))
            gone = dict.fromkeys(key for key in self.served if key not in versions)
            await self._make({**gone, **versions})

    async def request(self, do: str, name: str) -> tuple[int, str]:
        """Carry out a client's request to load or unload a model. Returns an HTTP status, and the error."""
        async with self._turn:
            versions = {}
            if do == "load":
                try:
                    versions = _versions(self._read_options(), name)
                except (OSError, ValueError) as error:
                    return 400, f"model {name!r:.200} could not be loaded: {error}"
                if not versions:
                    return 404, f"model {name!r:.200} is not one of this server's models"
            gone = dict.fromkeys(key for key in self.served if key[0] == name and key not in versions)
            if not versions and not gone:
                return 404, f"model {name!r:.200} is not loaded"
            failures = await self._make({**versions, **gone})
            return (400, failures[0]) if failures else (200, "")

    # -------------------- making changes --------------------

    async def _make(self, changes: Mapping[Key, ModelOptions | None]) -> list[str]:
        """Load versions with their options, or unload them (None). Returns the reasons of those that failed."""
        failures = []
        for key, options in changes.items():
            try:
                await self._change(key, options)
            except (LoadingError, OSError) as error:
                failures.append(str(error))
                self._figures.failed(key)
                kept = "so the version served before stays" if key in self.served else "so it is not served"
                text = "model %s could not be loaded, %s: %s"
                _log.error(text, _called(key), kept, error, extra=_of_model("model_failed", key))
                self._mark(key, UNAVAILABLE, str(error), utc(time.time()))
        return failures

    async def _change(self, key: Key, options: ModelOptions | None) -> None:
        """Make a change. After a LoadingError all workers serve what they served before."""
        before = self.served.get(key)
        made = None if options is None else await self._load(key, options, before)
        if made is before:
            if key in self.marks:  # the last load failed, and the served file is back
                self._mark(key, READY)
            return
        if failure := await self._put(key, made):
            await self._put(key, before)
            self._delete_file(made)
            raise LoadingError(failure)
        self._delete_file(before)
        self.marks.pop(key, None)
        if made is None:
            self.marks[key] = UNAVAILABLE, UNLOADED, ""
            _log.info("model %s is no longer served", _called(key), extra=_of_model("model_unloaded", key))
            return
        loaded = made.loaded
        self._figures.loaded(key, loaded.seconds, loaded.bytes)
        about = {"seconds": loaded.seconds, "bytes": loaded.bytes, "file": loaded.source}
        extra = _of_model("model_swapped" if before else "model_loaded", key, **about)
        text = "model %s is served (%.1f MB, loaded in %.1f s; file of %s, sha256 %s)"
        file = utc(loaded.modified), loaded.digest
        _log.info(text, _called(key), loaded.bytes / 1e6, loaded.seconds, *file, extra=extra)

    async def _load(self, key: Key, options: ModelOptions, before: Served | None) -> Served:
        """Load a version's file; returns `before` if neither the file nor its options have changed."""
        stamp, known = _stamp(str(options.path)), None
        if before is None:
            if self.marks.get(key) != (LOADING, STARTING, ""):
                self._mark(key, LOADING)
        elif before.options == options and before.stamp == stamp:
            return before
        elif all(getattr(before.options, name) == getattr(options, name) for name in DESCRIBES if name != "path"):
            known = before.loaded.digest
        loaded = await self._loaded(options, known)
        if loaded.is_same and before is not None:
            if before.options == options:
                before.stamp = stamp
                return before
            loaded = before.loaded
        for text in loaded.warnings:
            _log.warning("model %s: %s", _called(key), text, extra=_of_model("model_warning", key))
        return Served(options, loaded, stamp)

    async def _loaded(self, options: ModelOptions, known: str | None) -> Loaded:
        """Run the process that loads a file."""
        memory = self._options.load_memory_mb
        limit = limits.memory_of_loading() if memory is None else memory << 20
        target = self._folder.file(f"{next(self._numbers)}.frozen")
        loading = Loading(options, target, seconds=self._options.load_seconds, memory=limit, known=known)
        loop, has_ended = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.closing(loading):
            loop.add_reader(loading, has_ended.set)
            try:
                with contextlib.suppress(TimeoutError):  # `result` reports it
                    await asyncio.wait_for(has_ended.wait(), loading.seconds)
            finally:
                loop.remove_reader(loading)
            return loading.result()

    async def _put(self, key: Key, made: Served | None) -> str:
        """Let all workers serve a version or no version; returns the reason if one could not."""
        about = {"name": key[0], "version": key[1]}
        if made is None:
            self.served.pop(key, None)
            return await self._workers.order("unload", **about)
        self.served[key] = made
        options = dataclasses.asdict(made.options)
        served = {"file": made.loaded.file, "options": options, "source": made.loaded.source}
        return await self._workers.order("load", **about, **served)

    def _delete_file(self, gone: Served | None) -> None:
        """Delete the frozen file of a version that is no longer served. Workers that still use it have it mapped."""
        if gone is not None and gone.loaded.file not in [served.loaded.file for served in self.served.values()]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(gone.loaded.file)

    def _mark(self, key: Key, state: str, reason: str = "", at: str = "") -> None:
        """Let all workers report a state for a version that is not served, or a failed load. READY: let them report neither."""
        self.marks[key] = state, reason, at
        if state == READY:
            del self.marks[key]
        for worker in self._workers.running:
            worker.send("mark", name=key[0], version=key[1], state=state, reason=reason, at=at)


def _versions(options: Options, name: str | None = None) -> dict[Key, ModelOptions]:
    """The versions that there are of all models, or of one."""
    models = [model for model in options.models if name in (None, model.name)]
    return {(version.name, version.version): version for model in models for version in versions_of(model)}


def _stamp(path: str) -> list[tuple]:
    """Times and sizes of a model's file, or of all files of its folder."""
    files = [path, *(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in sorted(names))]
    found = [os.stat(file) for file in files]
    return [(file, each.st_mtime_ns, each.st_size, each.st_ino) for file, each in zip(files, found, strict=True)]


def _of_model(name: str, key: Key, **more: Any) -> dict[str, Any]:
    """The `extra` of a line of the log about a model."""
    return event(name, model=key[0], version=key[1], **more)


def _called(key: Key) -> str:
    return f"{key[0]!r} version {key[1]!r}"
