"""SharedMetrics: the counters of all processes of a server, in shared memory.

Each process has a segment that only it writes; every process reads all segments. Counting is an addition in memory, without a
lock, a file or a system call, and takes a tenth of the time of prometheus-client's multiprocess mode. Nothing is lost when a
worker is killed, because its successor continues with its segment.
"""

from __future__ import annotations

import bisect
import mmap
import struct
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from nbkeras.serving.errors import STATUSES

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
CODES = (200, *STATUSES)  # other codes count as 500
PROTOCOLS = ("http", "grpc")
MODELS = 128  # versions of models that a segment counts separately

_NAMES = struct.Struct("HH128s128s4x")  # a model's entry: lengths of name and version, name, version
_CELL = 8  # bytes of a float64


class Places(NamedTuple):
    """The first cell of each figure in a row of cells, and its number of cells."""

    starts: dict[str, int]
    sizes: dict[str, int]

    @classmethod
    def of(cls, first: int, **sizes: int) -> Places:
        starts = {}
        for name, size in sizes.items():
            starts[name] = first
            first += size
        return cls(starts, sizes)

    @property
    def end(self) -> int:
        return max(self.starts[name] + size for name, size in self.sizes.items())

    def cut(self, cells: np.ndarray) -> dict[str, np.ndarray]:
        """The figures in a row of cells, by name."""
        return {name: cells[start : start + self.sizes[name]] for name, start in self.starts.items()}


def _histogram(bounds: tuple[float, ...]) -> int:
    """The number of a histogram's cells: a count for each bound, one above the last bound, and the sum of all values."""
    return len(bounds) + 2


# reasons that the status 503 does not distinguish
_FULL = ("queue_full", "memory_full", "sequences_full", "connections_full")
REASONS = (*_FULL, *dict.fromkeys(reason for _, reason in STATUSES.values()))

# Figures of a process. The first ones are states, which end with the process; the others are counts, which stay.
_STATES = {
    "process": 1,
    "started": 1,  # the start time, in seconds of time.time
    "in_flight": 1,
    "connections": 1,
    "threads": 1,
    "cpu_seconds": 1,
    "sequences": 1,
    "sequences_bytes": 1,
}
WORKER = Places.of(0, **_STATES, starts=1, dropped_lines=1, rejected=len(REASONS), models=1)
# Figures of a version of a model.
MODEL = Places.of(
    _NAMES.size // _CELL,
    waiting=1,  # states: the requests and bytes in the queue
    waiting_bytes=1,
    requests=len(PROTOCOLS) * len(CODES),
    duration=_histogram(SECONDS),
    queue=_histogram(SECONDS),
    compute=_histogram(SECONDS),
    rows=_histogram(ROWS),
    load_seconds=1,  # states of the supervisor, about the last load
    file_bytes=1,
    loads=1,
    failed_loads=1,
)
_PART = WORKER.end + MODELS * MODEL.end  # cells

_DURATION, _QUEUE, _COMPUTE, _ROWS = (MODEL.starts[name] for name in ("duration", "queue", "compute", "rows"))
_SUM, _SUM_OF_ROWS = len(SECONDS) + 1, len(ROWS) + 1
_REJECTED = {reason: WORKER.starts["rejected"] + place for place, reason in enumerate(REASONS)}
_CODE = {
    (protocol, code): MODEL.starts["requests"] + row * len(CODES) + place
    for row, protocol in enumerate(PROTOCOLS)
    for place, code in enumerate(CODES)
}

Key = tuple[str, str]  # name and version of a model


class MetricsSegment:
    """The counters of one process. Only one of its threads may write."""

    def __init__(self, memory: memoryview):
        self._bytes, self._cells = memory, memory.cast("d")
        self._offsets: dict[Key, int] = {}
        for number in range(int(self.get("models"))):
            self._offsets[_names_at(self._bytes, WORKER.end + number * MODEL.end)] = WORKER.end + number * MODEL.end
        self.served: Collection[Key] = ()  # models whose figures must not be replaced

    # -------------------- figures of the process --------------------

    def get(self, name: str) -> float:
        return self._cells[WORKER.starts[name]]

    def set(self, name: str, value: float) -> None:
        self._cells[WORKER.starts[name]] = value

    def add(self, name: str, value: float = 1.0) -> None:
        self._cells[WORKER.starts[name]] += value

    def rejected(self, reason: str) -> None:
        """Count a request or connection that was rejected."""
        self._cells[_REJECTED.get(reason, _REJECTED["other"])] += 1.0

    def end(self) -> None:
        """Clear the states of a process that has ended; its counts stay."""
        for name in _STATES:
            self.set(name, 0.0)
        for place in self._offsets.values():
            self._cells[place + MODEL.starts["waiting"]] = self._cells[place + MODEL.starts["waiting_bytes"]] = 0.0

    # -------------------- figures of a model --------------------

    def request(self, key: Key, protocol: str, status: int, seconds: float) -> None:
        """Count an inference request; only answers with status 200 enter the histogram."""
        cells = self._cells
        place = self._offsets.get(key) or self._offset_of(key)
        cells[place + (_CODE.get((protocol, status)) or _CODE[protocol, 500])] += 1.0
        if status == 200:
            at = place + _DURATION
            cells[at + bisect.bisect_left(SECONDS, seconds)] += 1.0
            cells[at + _SUM] += seconds

    def batch(self, key: Key, rows: int, seconds: float, waits: list[float]) -> None:
        """Count a batch: its rows, its seconds, and the seconds that each request waited."""
        cells, find = self._cells, bisect.bisect_left
        place = self._offsets.get(key) or self._offset_of(key)
        at = place + _ROWS
        cells[at + find(ROWS, rows)] += 1.0
        cells[at + _SUM_OF_ROWS] += rows
        at = place + _COMPUTE
        cells[at + find(SECONDS, seconds)] += 1.0
        cells[at + _SUM] += seconds
        at = place + _QUEUE
        for wait in waits:
            cells[at + find(SECONDS, wait)] += 1.0
        cells[at + _SUM] += sum(waits)

    def set_of(self, key: Key, name: str, value: float) -> None:
        self._cells[(self._offsets.get(key) or self._offset_of(key)) + MODEL.starts[name]] = value

    def loaded(self, key: Key, seconds: float, size: int) -> None:
        """Count a load of a model's file, and record its seconds and the bytes of the frozen file."""
        self.set_of(key, "load_seconds", seconds)
        self.set_of(key, "file_bytes", size)
        self._add_of(key, "loads")

    def failed(self, key: Key) -> None:
        """Count a load that failed."""
        self._add_of(key, "failed_loads")

    def _add_of(self, key: Key, name: str) -> None:
        self._cells[(self._offsets.get(key) or self._offset_of(key)) + MODEL.starts[name]] += 1.0

    def _offset_of(self, key: Key) -> int:
        """The index of a model's entry: a new one, one of a model no longer served, or else the shared entry for all others."""
        number = len(self._offsets)
        if number < MODELS:
            place = WORKER.end + number * MODEL.end
        else:
            others = "", ""
            old = next((each for each in self._offsets if each not in self.served and each != others), None)
            if old is None:
                return self._offsets.get(others) or next(iter(self._offsets.values()))
            place = self._offsets.pop(old)
        start = place + MODEL.starts["waiting"]
        self._cells[start : place + MODEL.end] = memoryview(bytes((place + MODEL.end - start) * _CELL)).cast("d")
        name, version = (text.encode("utf-8", "replace")[:128] for text in key)
        _NAMES.pack_into(self._bytes, place * _CELL, len(name), len(version), name, version)
        self._offsets[key] = place
        self.set("models", len(self._offsets))
        return place


def _names_at(memory: memoryview, place: int) -> Key:
    lengths_and_names = _NAMES.unpack_from(memory, place * _CELL)
    name, version = (lengths_and_names[2 + i][: lengths_and_names[i]].decode("utf-8", "ignore") for i in (0, 1))
    return name, version


class SharedMetrics:
    """The segments of the workers, by index, and last the supervisor's. Made before workers are forked."""

    def __init__(self, workers: int):
        self.workers, self.started = workers, time.time()
        self._memory = memoryview(mmap.mmap(-1, (workers + 1) * _PART * _CELL))
        self._cells = np.frombuffer(self._memory, np.float64).reshape(workers + 1, _PART)

    def part(self, index: int) -> MetricsSegment:
        """The segment of the worker with an index, or of the supervisor (-1)."""
        index %= self.workers + 1
        return MetricsSegment(self._memory[index * _PART * _CELL : (index + 1) * _PART * _CELL])

    def of_workers(self) -> list[dict[str, np.ndarray]]:
        """The figures of each worker now."""
        return [WORKER.cut(row[: WORKER.end].copy()) for row in self._cells[:-1]]

    def rejected(self) -> dict[str, float]:
        """The number of rejected requests by reason."""
        start = WORKER.starts["rejected"]
        found = self._cells[:, start : start + len(REASONS)].sum(axis=0)
        return dict(zip(REASONS, found.tolist(), strict=True))

    def of_models(self) -> dict[Key, dict[str, np.ndarray]]:
        """The current figures of each model, over all processes. `("", "")` counts requests for unknown models."""
        totals: dict[Key, np.ndarray] = {}
        for index, start in self._blocks():
            key = _names_at(self._memory[index * _PART * _CELL :], start)
            block = self._cells[index, start : start + MODEL.end].copy()
            block[: MODEL.starts["waiting"]] = 0.0  # the names are not numbers
            totals[key] = totals[key] + block if key in totals else block
        return {key: MODEL.cut(total) for key, total in sorted(totals.items())}

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for index, row in enumerate(self._cells):
            for number in range(int(row[WORKER.starts["models"]])):
                yield index, WORKER.end + number * MODEL.end
