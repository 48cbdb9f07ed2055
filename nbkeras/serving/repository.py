"""Repository: the served versions of models, by name and version, with their states and the reasons.

A Version has a model's inputs and outputs, the cost of a request, and its queue.
"""

import asyncio
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.serving import tensors
from nbkeras.serving.batching import Batcher
from nbkeras.serving.budget import ANSWER_COST, STATE_COST
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.requests import InferRequest, InferResponse, Observer

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
STARTING, UNLOADED = "the server starts", "unloaded"  # reasons of states


class StreamRuns:
    """A Frozen with a state as a Batcher runs it: the state is the last input and the last output."""

    def __init__(self, frozen: Any):
        self.frozen, self.batch_sizes, self.is_by_rows = frozen, frozen.batch_sizes, frozen.is_by_rows
        self.parts = frozen.parts

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs, state = self.frozen.run(arrays[:-1], arrays[-1])
        return [*outputs, state]


class Version:
    """A served version of a model: its frozen program and its queue. Requests hold it until they are answered.

    source: the model's file: its sha256, the time at which it was modified, and its bytes.
    """

    def __init__(
        self,
        name: str,
        version: str,
        frozen: Any,
        options: ModelOptions,
        observe: Callable | None = None,
        source: dict[str, Any] | None = None,
    ):
        self.name, self.version, self.frozen, self.options, self.source = name, version, frozen, options, source or {}
        self.inputs, self.outputs = tuple(frozen.inputs), tuple(frozen.outputs)
        self.output_places = {spec.name: place for place, spec in enumerate(self.outputs)}
        self.is_stream, self.host = frozen.is_stream, getattr(frozen, "host", None)
        # bytes of one row's state
        self.state_bytes = frozen.state_size * frozen.state_dtype.itemsize if self.is_stream else 0
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
        """An upper bound of the memory for computing a request: copies of its inputs, states, outputs, and the answer.

        Open sizes of outputs are steps; their number is the inputs'.
        """
        rows, size = len(arrays[0]), sum([array.nbytes for array in arrays])
        size += 0 if self.host is None else self.host.memory(arrays)
        if self._row_bytes is not None:
            return size + rows * self._row_bytes
        steps = max(array.shape[1] if array.ndim > 1 else 1 for array in arrays)
        return size + rows * self._bytes_of_row(steps)

    def _bytes_of_row(self, steps: int) -> int:
        sizes = [math.prod([steps if axis is None else axis for axis in spec.shape[1:]]) for spec in self.outputs]
        outputs = sum([size * spec.dtype.itemsize for size, spec in zip(sizes, self.outputs, strict=True)])
        return outputs * ANSWER_COST + self.state_bytes * STATE_COST

    def arrays(self, request: InferRequest) -> list[np.ndarray]:
        """The arrays of a request in the order of the inputs. Unknown inputs and outputs are refused."""
        found = tensors.ordered(self.name, self.inputs, request.inputs, request.is_finite or self.options.allow_nan)
        if self.host is not None:
            tensors.check_texts(self.name, found)
        if request.outputs is not None:
            for output in request.outputs:
                if output not in self.output_places:
                    names = ", ".join(map(repr, self.output_places))
                    raise refused(f"model {self.name!r} has no output {output!r:.200}; its outputs are {names}")
        return found

    def response(self, request: InferRequest, found: list[np.ndarray]) -> InferResponse:
        """The answer with the requested outputs, without a stream's state, which follows the outputs."""
        if request.outputs is None:
            outputs = list(zip(self.outputs, found, strict=False))
        else:
            places = [self.output_places[output] for output in request.outputs]
            outputs = [(self.outputs[place], found[place]) for place in places]
        return InferResponse(self.name, self.version, outputs, request.id)

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """The model's metadata, in the protocol's form."""
        return {
            "name": self.name,
            "versions": versions,
            "platform": "nbkeras",
            "inputs": [tensors.metadata_of(spec) for spec in self.inputs],
            "outputs": [tensors.metadata_of(spec) for spec in self.outputs],
        }

    def configuration(self, sequence_idle: float) -> dict[str, Any]:
        """The model's entry in Triton's configuration extension, which load tools and adapters read."""
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
    """The models of a process. observer: receives their batches.

    A new Version replaces the old one immediately. The old one answers the requests that it has accepted; after the last one
    nothing holds its memory.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer or Observer()
        self._versions: dict[tuple[str, str], Version] = {}  # the oldest first
        self._newest: dict[str, Version] = {}
        # (state, reason, time) of versions that are not ready, and of those whose last load failed
        self._states: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._drains: set[asyncio.Task] = set()

    def set(
        self,
        name: str,
        version: str,
        frozen: Any,
        options: ModelOptions | None = None,
        source: dict[str, Any] | None = None,
    ) -> Version:
        """Serve a frozen model under a name and version, in place of the present one. source: see `Version`."""
        observe = functools.partial(self.observer.batch, name, version)
        made = Version(name, version, frozen, options or ModelOptions(name=name, version=version), observe, source)
        self._replace(name, version, made)
        self._states.pop((name, version), None)
        return made

    def remove(self, name: str, version: str, reason: str = UNLOADED) -> None:
        """Stop serving a version; requests in flight are answered."""
        self._replace(name, version, None)
        self._states[name, version] = (UNAVAILABLE, reason, "")

    def _replace(self, name: str, version: str, made: Version | None) -> None:
        before = self._versions.pop((name, version), None)
        if made is not None:
            self._versions[name, version] = made
        self._versions = dict(sorted(self._versions.items(), key=lambda item: version_order(item[0][1])))
        self._newest = {known: each for (known, _), each in self._versions.items()}
        if before is not None:
            try:
                task = asyncio.get_running_loop().create_task(before.batcher.drain())
            except RuntimeError:  # no event loop, so nothing is in flight
                return
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    def mark(self, name: str, version: str, state: str, reason: str = "", at: str = "") -> None:
        """Record that a version is being loaded or failed to load; a version that is served stays. READY: forget it."""
        self._states[name, version] = (state, reason, at)
        if state == READY:
            del self._states[name, version]

    def failure(self, name: str, version: str) -> tuple[str, str] | None:
        """The reason and time of the last load, if it failed and another file is served."""
        state, reason, at = self._states.get((name, version), ("", "", ""))
        return (reason, at) if state == UNAVAILABLE and (name, version) in self._versions else None

    def get(self, name: str, version: str | None = None) -> Version:
        """The version served under a name; the newest by default."""
        found = self._versions.get((name, version)) if version else self._newest.get(name)
        if found is None:
            raise self._not_found(name, version)
        return found

    def _not_found(self, name: str, version: str | None) -> ServingError:
        called = f"model {name!r:.200}" + (f" version {version!r:.80}" if version else "")
        for (known, number), (state, reason, _) in self._states.items():
            if known == name and version in (None, "", number):
                text = {LOADING: "is being loaded", UNAVAILABLE: "is not available"}.get(state, state)
                return ServingError(
                    404 if state != LOADING else 503, f"{called} {text}" + (f": {reason}" if reason else "")
                )
        if name in self._newest:
            return ServingError(404, f"{called} is not there; versions: {', '.join(self.versions(name))}")
        there = ", ".join(sorted(self._newest)[:20]) or "none"
        return ServingError(404, f"{called} is not there; models: {there}")

    def versions(self, name: str) -> list[str]:
        """The served versions of a name, oldest first."""
        return [version for known, version in self._versions if known == name]

    def served(self) -> list[Version]:
        """All served versions."""
        return list(self._versions.values())

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Names, versions, states and reasons, as the model repository extension defines them."""
        found = {} if ready_only else {key: (state, reason) for key, (state, reason, _) in self._states.items()}
        for key in self._versions:
            failure = self.failure(*key)
            found[key] = (READY, "" if failure is None else f"the last load failed at {failure[1]}: {failure[0]}")
        return [
            {"name": name, "version": version, "state": state, "reason": reason}
            for (name, version), (state, reason) in sorted(found.items())
        ]

    async def drain(self) -> None:
        """Wait for all accepted requests."""
        await asyncio.gather(*self._drains, *(each.batcher.drain() for each in self.served()))


def version_order(version: str) -> tuple[int, int, str]:
    """The sort key of a version: numbers by value, after other names."""
    return (1, int(version), "") if version.isdecimal() and len(version) < 20 else (0, 0, version)
