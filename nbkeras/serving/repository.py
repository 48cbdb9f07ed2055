"""Repository: the models by name and version, with their states and the reasons."""

import asyncio
import functools
from typing import Any

from nbkeras.serving.errors import ServingError
from nbkeras.serving.exchange import Observer
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.version import Version

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
STARTING, UNLOADED = "the server starts", "unloaded"  # reasons of states


class Repository:
    """The models of a process. observer: receives their batches.

    A new Version replaces the old one immediately. The old one answers the requests that it has accepted; after the last one
    nothing holds its memory.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer or Observer()
        self._versions: dict[str, dict[str, Version]] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] = {}  # (state, reason) of versions that are not ready
        self._newest: dict[str, Version] = {}
        self._drains: set[asyncio.Task] = set()

    def set(self, name: str, version: str, frozen: Any, options: ModelOptions | None = None) -> Version:
        """Serve a frozen model under a name and version, in place of the present one."""
        observe = functools.partial(self.observer.batch, name, version)
        made = Version(name, version, frozen, options or ModelOptions(name=name, version=version), observe)
        before = self._versions.get(name, {}).get(version)
        self._versions.setdefault(name, {})[version] = made
        self._states.pop((name, version), None)
        self._newest[name] = self._versions[name][self.versions(name)[-1]]
        if before is not None:
            self._retire(before)
        return made

    def remove(self, name: str, version: str | None = None, reason: str = UNLOADED) -> None:
        """Stop serving a version, or all versions of a name; requests in flight are answered."""
        for each in [version] if version is not None else list(self._versions.get(name, ())):
            before = self._versions.get(name, {}).pop(each, None)
            self._states[name, each] = (UNAVAILABLE, reason)
            if before is not None:
                self._retire(before)
        versions = self._versions.get(name)
        if versions:
            self._newest[name] = versions[self.versions(name)[-1]]
        else:
            self._versions.pop(name, None)
            self._newest.pop(name, None)

    def mark(self, name: str, version: str, state: str, reason: str = "") -> None:
        """Record that a version is being loaded or failed to load; a version that is served stays."""
        self._states[name, version] = (state, reason)

    def get(self, name: str, version: str | None = None) -> Version:
        """The version served under a name; the newest by default."""
        if not version:
            found = self._newest.get(name)
        else:
            found = self._versions.get(name, {}).get(version)
        if found is None:
            raise self._not_found(name, version)
        return found

    def _not_found(self, name: str, version: str | None) -> ServingError:
        called = f"model {name!r:.200}" + (f" version {version!r:.80}" if version else "")
        for (known, number), (state, reason) in self._states.items():
            if known == name and version in (None, "", number):
                text = {LOADING: "is being loaded", UNAVAILABLE: "is not available"}.get(state, state)
                return ServingError(
                    404 if state != LOADING else 503, f"{called} {text}" + (f": {reason}" if reason else "")
                )
        if name in self._versions:
            return ServingError(404, f"{called} is not there; versions: {', '.join(self.versions(name))}")
        there = ", ".join(sorted(self._versions)[:20]) or "none"
        return ServingError(404, f"{called} is not there; models: {there}")

    def versions(self, name: str) -> list[str]:
        """The served versions of a name, oldest first."""
        return sorted(self._versions.get(name, ()), key=version_order)

    def served(self) -> list[Version]:
        """All served versions."""
        return [version for versions in self._versions.values() for version in versions.values()]

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Names, versions, states and reasons, as the model repository extension defines them."""
        found = {}
        for each in self.served():
            state, reason = self._states.get((each.name, each.version), ("", ""))
            found[each.name, each.version] = (READY, f"the last load failed: {reason}" if state == UNAVAILABLE else "")
        if not ready_only:
            found = {**self._states, **found}
        return [
            {"name": name, "version": version, "state": state, "reason": reason}
            for (name, version), (state, reason) in sorted(found.items())
        ]

    def _retire(self, version: Version) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop, so nothing is in flight
            return
        task = loop.create_task(version.batcher.drain())
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def drain(self) -> None:
        """Wait for all accepted requests."""
        await asyncio.gather(*self._drains, *(each.batcher.drain() for each in self.served()))


def version_order(version: str) -> tuple[int, int, str]:
    """The sort key of a version: numbers by value, after other names."""
    return (1, int(version), "") if version.isdecimal() and len(version) < 20 else (0, 0, version)
