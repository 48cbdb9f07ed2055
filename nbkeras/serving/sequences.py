"""Sequences: the states of models served as streams, kept from request to request.

A request names its sequence with the parameters of Triton's extension: `sequence_id` (a string, or an integer other than 0),
`sequence_start` and `sequence_end`. The state is an array with a row for each row of the request. The batcher takes it as an
additional input, so steps of different sequences are computed together. The requests of one sequence are computed one by one,
in the order of arrival.

- A request that fails here changes nothing, so the client may send it again. See `sequence_router.py` for other workers.
- A sequence keeps the model version with which it began, even if another version has replaced it.
- A new sequence never displaces an old one: if the memory is full, new ones are refused until others end or expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.serving.budget import MAX_SEQUENCE_ID, MAX_WAITING, SEQUENCE_BYTES, Budget
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.repository import Version
from nbkeras.serving.requests import InferRequest

_SWEEPS = 4  # sweeps within the idle time of a sequence


class Key(NamedTuple):
    """The key of a sequence. version: as requested, or "" for none."""

    model: str
    version: str
    id: int | str

    def __str__(self) -> str:
        return f"sequence {self.id!r} of model {self.model!r:.200}"


def key_of(request: InferRequest) -> Key | None:
    """The key of a request's sequence, or None."""
    parameters = request.parameters
    identity = parameters.get("sequence_id")
    for name in ("sequence_start", "sequence_end"):
        flag = parameters.get(name, False)
        if type(flag) is not bool:
            raise refused(f"the parameter {name!r} must be true or false, received {briefly(flag)}")
        if flag and not identity:
            raise refused(f"the parameter {name!r} needs a 'sequence_id', a string or an integer other than 0")
    if identity is None or (not identity and type(identity) in (int, str)):
        return None
    is_number = type(identity) is int and -(1 << 63) <= identity < 1 << 64
    if not is_number and not (type(identity) is str and len(identity) <= MAX_SEQUENCE_ID):
        received = f"{len(identity)} characters" if type(identity) is str else f"{identity!r:.80}"
        raise refused(
            f"the parameter 'sequence_id' must be a string of at most {MAX_SEQUENCE_ID} characters or an integer of 64 bits, "
            f"received {received}"
        )
    return Key(request.name, request.version or "", identity)


class _Kept:
    """A sequence. state: None before its first request is computed and after its end. pending: its number of requests."""

    __slots__ = ("bytes", "model", "pending", "state", "turn", "used")

    def __init__(self) -> None:
        self.model: Version | None = None
        self.state: np.ndarray | None = None
        self.bytes = self.pending = 0
        self.used = 0.0
        self.turn = asyncio.Lock()


class Sequences:
    """The sequences of a process.

    idle: seconds after which a sequence without requests is dropped. max_bytes: the limit of all states together, which also
    count in the budget.
    """

    def __init__(self, *, idle: float = 60.0, max_bytes: int = 256 << 20, budget: Budget | None = None):
        self.idle, self.max_bytes, self.budget = idle, max_bytes, budget or Budget()
        self.bytes = 0
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()  # in the order of their last use
        self._waiting = 0  # requests that wait for earlier ones of their sequences
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._kept)

    async def infer(self, key: Key, request: InferRequest) -> tuple[Version, list[np.ndarray]]:
        """The version that computed the request, which is `request.model` for a new sequence, and its outputs."""
        starts, ends = (request.parameters.get(name, False) for name in ("sequence_start", "sequence_end"))
        if key not in self._kept and not starts:
            raise self._unknown(key)
        async with self._turn(key, request.deadline) as kept:
            model = request.model if starts or kept.model is None else kept.model
            if not starts and kept.state is None:
                raise self._unknown(key)
            if not model.is_stream:
                raise no_stream(model)
            arrays = model.arrays(request)
            rows = len(arrays[0])
            if not starts and len(kept.state) != rows:  # type: ignore[arg-type]
                raise refused(f"{key} has {len(kept.state)} rows since its start, received {rows}")  # type: ignore[arg-type]
            own = rows * model.state_bytes + SEQUENCE_BYTES
            with self._room(kept, own, starts), self.budget.share(model.bytes_of(arrays)):
                state: Any = model.frozen.initial(rows) if starts else kept.state
                *found, after = await model.batcher.infer([*arrays, state], request)
            kept.model, kept.state = (None, None) if ends else (model, after)
            return model, found

    @contextlib.asynccontextmanager
    async def _turn(self, key: Key, deadline: float | None) -> AsyncIterator[_Kept]:
        """Wait until the earlier requests of the sequence are done."""
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept()
        kept.pending += 1
        try:
            if kept.turn.locked():
                await self._wait(kept, deadline)
            else:
                await kept.turn.acquire()
            try:
                yield kept
            finally:
                kept.turn.release()
        finally:
            kept.pending -= 1
            kept.used = time.monotonic()
            if kept.state is not None:
                self._kept.move_to_end(key)
                if self._sweep is None:
                    self._sweep = asyncio.get_running_loop().call_later(self.idle / _SWEEPS, self._sweep_idle)
            elif not kept.pending:
                self._forget(key)

    async def _wait(self, kept: _Kept, deadline: float | None) -> None:
        if self._waiting >= MAX_WAITING:
            raise ServingError(
                503,
                f"{self._waiting} requests wait for earlier ones of their sequences; try again later",
                retry_after=1,
                reason="queue_full",
            )
        self._waiting += 1
        try:
            pause = None if deadline is None else max(0.0, deadline - time.monotonic())
            async with asyncio.timeout(pause):
                await kept.turn.acquire()
        except TimeoutError:
            raise ServingError(
                504, "the request's deadline passed before earlier requests of its sequence were computed"
            ) from None
        finally:
            self._waiting -= 1

    @contextlib.contextmanager
    def _room(self, kept: _Kept, size: int, starts: bool) -> Any:
        """Reserve memory for a state before it is computed; give it back if the computation fails."""
        before = kept.bytes
        if starts:
            if size > self.max_bytes:
                raise ServingError(
                    413,
                    f"the state of the sequence has {size} bytes, but the limit for all sequences is {self.max_bytes} "
                    "(max_sequences_mb): begin it with fewer rows",
                )
            if self.bytes - before + size > self.max_bytes:
                self.forget_idle()
            if self.bytes - before + size > self.max_bytes:
                raise self._full()
            self.budget.take(size - before)
            self.bytes += size - before
            kept.bytes = size
        try:
            yield
        except BaseException:
            self.budget.give_back(kept.bytes - before)
            self.bytes += before - kept.bytes
            kept.bytes = before
            raise

    def _full(self) -> ServingError:
        oldest = next((kept.used for kept in self._kept.values() if kept.state is not None), 0.0)
        pause = min(60, max(1, math.ceil(oldest + self.idle - time.monotonic())))
        return ServingError(
            503,
            f"no memory is left for a new sequence: running ones use {self.bytes} bytes (limit: {self.max_bytes}); end "
            "finished ones (sequence_end), or try again later",
            retry_after=pause,
            reason="sequences_full",
        )

    def _unknown(self, key: Key) -> ServingError:
        return refused(
            f"{key} is not running: begin it with sequence_start. A sequence ends with sequence_end, when it is idle for "
            f"{self.idle:g} s, and when its worker ends"
        )

    def _forget(self, key: Key) -> None:
        size = self._kept.pop(key).bytes
        self.bytes -= size
        self.budget.give_back(size)

    def forget_idle(self) -> None:
        """Drop the sequences that were idle for too long."""
        limit = time.monotonic() - self.idle
        late = []
        for key, kept in self._kept.items():
            if kept.pending:
                continue
            if kept.used > limit:
                break
            late.append(key)
        for key in late:
            self._forget(key)

    def _sweep_idle(self) -> None:
        """Drop idle sequences periodically, as long as there are sequences."""
        self.forget_idle()
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self.idle / _SWEEPS, self._sweep_idle) if self._kept else None


def no_stream(model: Version) -> ServingError:
    """The error for a sequence of a model that keeps no state."""
    return refused(
        f"model {model.name!r} keeps no state between requests, so it has no sequences: leave out 'sequence_id', or serve it "
        "as a stream (stream = true in its [[model]] of models.toml)"
    )
