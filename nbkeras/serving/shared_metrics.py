"""SharedMetrics: the counters of all processes of a server, in shared memory.

Each process has a segment that only it writes; every process reads all segments. Counting is an addition in memory, without a
lock, a file or a system call, and takes a tenth of the time of prometheus-client's multiprocess mode. Nothing is lost when a
worker is killed, because its successor continues with its segment.
"""

from __future__ import annotations

import bisect
import mmap
import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from nbkeras.serving.errors import STATUSES, reason_of
from nbkeras.serving.requests import InferRequest, Observer

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
CODES = (200, *STATUSES)  # other codes count as 500
PROTOCOLS = ("http", "grpc")
MODELS = 128  # versions of models that a segment counts separately
# reasons that the status 503 does not distinguish
_FULL = ("queue_full", "memory_full", "sequences_full", "connections_full")
REASONS = (*_FULL, *dict.fromkeys(reason for _, reason in STATUSES.values()))
# Figures of a process. The states end with the process; `started` is in seconds of time.time. The counts stay.
STATES = ("process", "started", "in_flight", "connections", "threads", "cpu_seconds", "sequences", "sequences_bytes")
WORKER = np.dtype(
    [(name, float) for name in (*STATES, "starts", "dropped_lines", "models")] + [("rejected", float, len(REASONS))]
)
# Figures of a version of a model. A histogram has a count for each bound, one above the last bound, and the sum of all values.
HISTOGRAMS = {"duration": SECONDS, "queue": SECONDS, "compute": SECONDS, "rows": ROWS}
# The supervisor writes those of the file; `waiting` and `waiting_bytes` are states of a worker.
MODEL = np.dtype(
    [(name, float) for name in ("waiting", "waiting_bytes", "load_seconds", "file_bytes", "loads", "failed_loads")]
    + [("requests", float, (len(PROTOCOLS), len(CODES)))]
    + [(name, float, len(bounds) + 2) for name, bounds in HISTOGRAMS.items()]
)
_ENTRY = np.dtype([("name", "S128"), ("version", "S128"), ("figures", float, MODEL.itemsize // 8)])
_SEGMENT = np.dtype([("worker", WORKER), ("entries", _ENTRY, MODELS)])


def _cell(kind: np.dtype, name: str) -> int:
    """The number of the first float64 of a field."""
    return kind.fields[name][1] // 8  # type: ignore[index]


# A request is counted in single cells, because access to NumPy's fields takes longer.
_FIRST, _SIZE = _cell(_SEGMENT, "entries"), _ENTRY.itemsize // 8
_CELLS = {name: _cell(_ENTRY, "figures") + _cell(MODEL, name) for name in MODEL.names or ()}

Key = tuple[str, str]  # name and version of a model
OTHERS = "", ""  # requests for unknown models


class MetricsSegment(Observer):
    """The counters of one process. Only one of its threads may write. worker: the figures of the process, by name."""

    def __init__(self, cells: np.ndarray):
        self._cells: Any = cells.data  # a memoryview
        segment = cells.view(_SEGMENT)[0]
        self.worker, self._entries = segment["worker"], segment["entries"]
        entries = self._entries[: int(self.worker["models"])]
        self._numbers = {_key(entry): number for number, entry in enumerate(entries)}
        self.served: Collection[Key] = ()  # models whose figures must not be replaced

    def end(self) -> None:
        """Clear the states of a process that has ended; its counts stay."""
        for name in STATES:
            self.worker[name] = 0.0
        for figures in map(self.of_model, self._numbers):
            figures["waiting"] = figures["waiting_bytes"] = 0.0

    # -------------------- requests --------------------

    def request(self, request: InferRequest) -> None:
        """Count an inference request; only answers with status 200 enter the histogram."""
        first, status = self._first_cell(request.model_key), request.status
        row, column = PROTOCOLS.index(request.protocol), CODES.index(status if status in CODES else 500)
        self._cells[first + _CELLS["requests"] + row * len(CODES) + column] += 1.0
        if status == 200:
            self._observe(first, "duration", (request.seconds,))
        else:
            self._reject(request.reason or reason_of(status))

    def refused(self, status: int) -> None:
        self._reject("connections_full" if status == 503 else reason_of(status))

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        first = self._first_cell((name, version))
        self._observe(first, "rows", (rows,))
        self._observe(first, "compute", (seconds,))
        self._observe(first, "queue", waits)

    def _observe(self, first: int, name: str, values: Sequence[float]) -> None:
        cells, start, bounds = self._cells, first + _CELLS[name], HISTOGRAMS[name]
        for value in values:
            cells[start + bisect.bisect_left(bounds, value)] += 1.0
        cells[start + len(bounds) + 1] += sum(values)

    def _reject(self, reason: str) -> None:
        self.worker["rejected"][REASONS.index(reason if reason in REASONS else "other")] += 1.0

    # -------------------- models --------------------

    def of_model(self, key: Key) -> np.void:
        """The figures of a version of a model, by name."""
        return self._entries["figures"][self._number(key)].view(MODEL)[0]

    def loaded(self, key: Key, seconds: float, size: int) -> None:
        """Count a load of a model's file, and record its seconds and the bytes of the frozen file."""
        figures = self.of_model(key)
        figures["load_seconds"], figures["file_bytes"] = seconds, size
        figures["loads"] += 1.0

    def failed(self, key: Key) -> None:
        """Count a load that failed."""
        self.of_model(key)["failed_loads"] += 1.0

    def _first_cell(self, key: Key) -> int:
        return _FIRST + self._number(key) * _SIZE

    def _number(self, key: Key) -> int:
        """The number of a model's entry: a new one, one of a model no longer served, or else the shared entry for all others."""
        number = self._numbers.get(key)
        if number is not None:
            return number
        number = len(self._numbers)
        if number >= MODELS:
            old = next((each for each in self._numbers if each not in self.served and each != OTHERS), None)
            if old is None:
                return self._numbers.get(OTHERS, 0)
            number = self._numbers.pop(old)
        name, version = (text.encode("utf-8", "replace") for text in key)
        self._entries[number] = name, version, 0.0
        self._numbers[key] = number
        self.worker["models"] = len(self._numbers)
        return number


def _key(entry: np.void) -> Key:
    return entry["name"].decode("utf-8", "ignore"), entry["version"].decode("utf-8", "ignore")


class SharedMetrics:
    """The segments of the workers, by index, and last the supervisor's. Made before workers are forked."""

    def __init__(self, workers: int):
        self.started, self._begun = time.time(), time.monotonic()
        self._segments = np.frombuffer(mmap.mmap(-1, (workers + 1) * _SEGMENT.itemsize), _SEGMENT)

    def now(self) -> float:
        """The time of the start plus the seconds since then, so that differences stay right if the system's clock is set."""
        return self.started + time.monotonic() - self._begun

    def segment(self, index: int) -> MetricsSegment:
        """The segment of the worker with an index, or of the supervisor (-1)."""
        return MetricsSegment(self._segments.view(float).reshape(len(self._segments), -1)[index])

    def of_workers(self) -> np.ndarray:
        """The figures of each worker now."""
        return self._segments["worker"][:-1].copy()

    def rejected(self) -> dict[str, float]:
        """The number of rejected requests by reason."""
        return dict(zip(REASONS, self._segments["worker"]["rejected"].sum(axis=0).tolist(), strict=True))

    def of_models(self) -> dict[Key, np.void]:
        """The current figures of each model, over all processes. `OTHERS` counts requests for unknown models."""
        totals: dict[Key, np.ndarray] = {}
        for segment in self._segments:
            for entry in segment["entries"][: int(segment["worker"]["models"])]:
                key = _key(entry)
                totals[key] = totals.get(key, 0.0) + entry["figures"]
        return {key: total.view(MODEL)[0] for key, total in sorted(totals.items())}
