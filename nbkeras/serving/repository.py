"""Models by name and version: what is served, in which state, and why not."""

import asyncio
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.inference.frozen_stream import FrozenStream
from nbkeras.serving import tensors
from nbkeras.serving.batching import Batcher
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.exchange import Observer
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.sequences import StreamRuns
from nbkeras.serving.tensors import InferRequest, InferResponse

ANSWER = 10  # bytes of an output and its text in JSON, for each byte of the output
_STATES = 3  # a state, its copy in a batch, and the state after it
READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
STARTING, UNLOADED = "the server starts", "unloaded"  # reasons, of the versions of the start while they are loaded


class Version:
    """A version of a model that is served: its frozen program and its queue. Requests hold it until they are answered."""

    def __init__(self, name: str, version: str, frozen: Any, options: ModelOptions, observe: Callable | None = None):
        self.name, self.version, self.frozen, self.options = name, version, frozen, options
        self.inputs, self.outputs = tuple(frozen.inputs), tuple(frozen.outputs)
        self.output_places = {spec.name: place for place, spec in enumerate(self.outputs)}
        self.is_stream = isinstance(frozen, FrozenStream)
        self.state_bytes = frozen.state_size * frozen.state_dtype.itemsize if self.is_stream else 0  # of a row
        is_open = any(None in spec.shape[1:] for spec in self.outputs)
        self._row_bytes = None if is_open else self._bytes_of_row(1)
        runs: Any = StreamRuns(frozen) if self.is_stream else frozen
        self.batcher = Batcher(
            runs,
            max_batch=options.max_batch,
            max_wait=options.max_wait_ms / 1000,
            max_queue=options.max_queue,
            observe=observe,
        )

    def bytes_of(self, arrays: list[np.ndarray]) -> int:
        """A bound of the bytes that computing a request makes: copies of its inputs, states, outputs, and the answer.

        Sizes that outputs leave open are steps, of which they have as many as the inputs.
        """
        rows, size = len(arrays[0]), sum([array.nbytes for array in arrays])
        if self._row_bytes is not None:
            return size + rows * self._row_bytes
        steps = max(array.shape[1] if array.ndim > 1 else 1 for array in arrays)
        return size + rows * self._bytes_of_row(steps)

    def _bytes_of_row(self, steps: int) -> int:
        sizes = [math.prod([steps if axis is None else axis for axis in spec.shape[1:]]) for spec in self.outputs]
        outputs = sum([size * spec.dtype.itemsize for size, spec in zip(sizes, self.outputs, strict=True)])
        return outputs * ANSWER + self.state_bytes * _STATES

    def arrays(self, request: InferRequest) -> list[np.ndarray]:
        """The arrays of a request in the order of the inputs. An input or output that the model does not have is refused."""
        found = tensors.ordered(self.name, self.inputs, request.inputs, request.is_finite or self.options.allow_nan)
        if request.outputs is not None:
            for output in request.outputs:
                if output not in self.output_places:
                    names = ", ".join(map(repr, self.output_places))
                    raise refused(f"model {self.name!r} has no output {output!r:.200}; its outputs are {names}")
        return found

    def response(self, request: InferRequest, found: list[np.ndarray]) -> InferResponse:
        """The answer with the outputs that are wanted. The state of a stream, which comes after the outputs, is not told."""
        if request.outputs is None:
            outputs = list(zip(self.outputs, found, strict=False))
        else:
            places = [self.output_places[output] for output in request.outputs]
            outputs = [(self.outputs[place], found[place]) for place in places]
        return InferResponse(self.name, self.version, outputs, request.id)

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """The protocol's metadata of a model."""
        return {
            "name": self.name,
            "versions": versions,
            "platform": "nbkeras",
            "inputs": [tensors.metadata_of(spec) for spec in self.inputs],
            "outputs": [tensors.metadata_of(spec) for spec in self.outputs],
        }

    def configuration(self, sequence_idle: float) -> dict[str, Any]:
        """The model's part of Triton's extension for configurations, from which load tools and adapters learn how to ask."""
        batching: dict[str, Any] = {
            "dynamic_batching": {
                "preferred_batch_size": list(self.frozen.batch_sizes),
                "max_queue_delay_microseconds": int(self.options.max_wait_ms * 1000),
            }
        }
        if self.is_stream:
            batching = {"sequence_batching": {"max_sequence_idle_microseconds": int(sequence_idle * 1e6)}}
        return {
            "name": self.name,
            "platform": "nbkeras",
            "backend": "nbkeras",
            "max_batch_size": self.batcher.max_batch,
            "input": [tensors.configuration_of(spec) for spec in self.inputs],
            "output": [tensors.configuration_of(spec) for spec in self.outputs],
            **batching,
        }


class Repository:
    """The models of a process. observer: is told of their batches.

    A new Version takes the place of an old one at once; the requests that the old one has taken are answered by it, and when the
    last one is, nothing holds its memory.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer or Observer()
        self._versions: dict[str, dict[str, Version]] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] = {}  # of versions that are not ready: state, reason
        self._newest: dict[str, Version] = {}
        self._drains: set[asyncio.Task] = set()

    def set(self, name: str, version: str, frozen: Any, options: ModelOptions | None = None) -> Version:
        """Serve a frozen model under a name and version, in place of the one that is there."""
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
        """Serve a version, or all of a name, no more; what is in flight is answered."""
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
        """Note that a version is loaded, or could not be; a version that is served goes on meanwhile."""
        self._states[name, version] = (state, reason)

    def get(self, name: str, version: str | None = None) -> Version:
        """The version that is served under a name; the newest by default."""
        if not version:
            found = self._newest.get(name)
        else:
            found = self._versions.get(name, {}).get(version)
        if found is None:
            raise self._absent(name, version)
        return found

    def _absent(self, name: str, version: str | None) -> ServingError:
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
        """The versions of a name that are served, oldest first."""
        return sorted(self._versions.get(name, ()), key=version_order)

    def served(self) -> list[Version]:
        """All versions that are served."""
        return [version for versions in self._versions.values() for version in versions.values()]

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Names, versions, states and reasons, as the extension for model repositories has them."""
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
        except RuntimeError:  # no loop, so nothing is in flight
            return
        task = loop.create_task(version.batcher.drain())
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def drain(self) -> None:
        """Wait for all that was taken."""
        await asyncio.gather(*self._drains, *(each.batcher.drain() for each in self.served()))


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions: numbers by value, after other names."""
    return (1, int(version), "") if version.isdecimal() and len(version) < 20 else (0, 0, version)
