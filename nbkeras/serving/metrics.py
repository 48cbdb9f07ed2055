"""Metrics of a server for Prometheus: the figures in SharedMetrics, in the format of a scrape.

prometheus-client writes the format. Its counters are not used: an observation in its multiprocess mode costs more than parsing
a small request (see `board.py`). Labels are names of the server's models and words of fixed lists, so clients cannot create
new series.
"""

import asyncio
import functools
import os
import platform
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response

from nbkeras.engine import settings
from nbkeras.serving import limits, logs
from nbkeras.serving.board import CODES, PROTOCOLS, ROWS, SECONDS, SharedMetrics
from nbkeras.serving.errors import reason_of
from nbkeras.serving.exchange import Observer, RequestContext
from nbkeras.serving.repository import READY
from nbkeras.serving.service import Service

_PREFIX = "nbkeras_serving_"
_PAUSE = 0.5  # seconds between two samples of states, such as the length of a queue
_MEMORY_PAUSE = 1.0  # seconds until the memory of processes is read again: the system walks all their pages
_SAMPLES = 64  # samples written in one turn of the event loop
_END = b"# EOF\n"  # the last line of the OpenMetrics format
OTHERS = "", ""  # requests for unknown models
_MODEL, _WORKER = ("model", "version"), ("worker",)  # labels


class Metrics(Observer):
    """Counts a worker's figures, and exports the figures of all workers."""

    def __init__(self, board: SharedMetrics, index: int = 0):
        self.board, self.part = board, board.part(index)
        self.part.end()  # clear the states of the previous worker
        self.part.set("process", os.getpid())
        self.part.set("started", time.time())
        self._dropped = 0  # dropped log lines counted so far
        self._memory: dict[int, limits.Memory] = {}
        self._memory_time = -_MEMORY_PAUSE
        self._reading: asyncio.Task | None = None

    # -------------------- counting --------------------

    def request(self, exchange: RequestContext) -> None:
        part = self.part
        part.request((exchange.name, exchange.version), exchange.protocol, exchange.status, exchange.seconds)
        if exchange.status != 200:
            part.rejected(exchange.reason or reason_of(exchange.status))

    def refused(self, status: int) -> None:
        self.part.rejected("connections_full" if status == 503 else reason_of(status))

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        self.part.batch((name, version), rows, seconds, waits)

    def look(self, service: Service, connections: Collection[Any] = ()) -> None:
        """Record the states of this worker."""
        part = self.part
        part.set("in_flight", service.in_flight)
        part.set("connections", len(connections))
        part.set("threads", limits.threads())
        found = logs.handler()
        if found is not None and found.dropped > self._dropped:
            part.add("dropped_lines", found.dropped - self._dropped)
            self._dropped = found.dropped
        part.set("sequences", len(service.sequences))
        part.set("sequences_bytes", service.sequences.bytes)
        part.set("cpu_seconds", time.process_time())
        served = service.repository.served()
        part.served = {(each.name, each.version) for each in served}
        for each in served:
            part.set_of((each.name, each.version), "waiting", len(each.batcher))
            part.set_of((each.name, each.version), "waiting_bytes", each.batcher.bytes)

    async def watch(self, service: Service, connections: Collection[Any]) -> None:
        """Record the states periodically, forever."""
        while True:
            self.look(service, connections)
            await asyncio.sleep(_PAUSE)

    # -------------------- exporting --------------------

    async def memory(self) -> dict[int, limits.Memory]:
        """The memory of each live worker, by index. A thread reads it once for all simultaneous callers."""
        if self._reading is None and time.monotonic() - self._memory_time >= _MEMORY_PAUSE:
            self._reading = asyncio.create_task(self._read_memory())
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return self._memory

    async def _read_memory(self) -> None:
        processes = [int(figures["process"][0]) for figures in self.board.of_workers()]
        try:
            found = await asyncio.to_thread(lambda: [limits.memory_of(one) if one else None for one in processes])
            self._memory = {index: one for index, one in enumerate(found) if one is not None}
            self._memory_time = time.monotonic()
        finally:
            self._reading = None

    async def text(self, service: Service, accept: str = "") -> tuple[bytes, str]:
        """All metrics in a format that the scrape accepts, and the content type. Requests are answered meanwhile."""
        encode, content_type = choose_encoder(accept)
        parts = []
        for family in families(self.board, service, await self.memory()):
            for start in range(0, max(1, len(family.samples)), _SAMPLES):
                registry = CollectorRegistry()
                registry.register(_Some(family, start))
                text = encode(registry).removesuffix(_END)
                parts.append(text if not start else re.sub(rb"(?m)^#.*\n", b"", text))
                await asyncio.sleep(0)
        if content_type.startswith("application/openmetrics-text"):
            parts.append(_END)
        return b"".join(parts), content_type

    def route(self, service: Service) -> Any:
        """The endpoint of `GET /metrics`."""

        async def scrape(request: Request) -> Response:
            body, content_type = await self.text(service, request.headers.get("accept", ""))
            return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

        return scrape


class _Some(Collector):
    """Collects some samples of one family, so that the output is written in small pieces."""

    def __init__(self, family: Metric, start: int):
        self._part = Metric(family.name, family.documentation, family.type)
        self._part.samples = family.samples[start : start + _SAMPLES]

    def collect(self) -> Iterable[Metric]:
        return [self._part]


def families(board: SharedMetrics, service: Service, memory: dict[int, limits.Memory]) -> Iterator[Metric]:
    """All exported metric families."""
    versions = {"version": settings.VERSION, "python": platform.python_version(), "numpy": np.__version__}
    yield InfoMetricFamily(_PREFIX + "build", "Versions of the server.", value=versions)
    yield from _of_models(board)
    yield from _of_workers(board, memory)
    ready = [((each["name"], each["version"]), each["state"] == READY) for each in service.repository.index()]
    yield _gauge("model_ready", "Whether a version of a model is served.", _MODEL, ready)


def _of_models(board: SharedMetrics) -> Iterator[Metric]:
    models = board.of_models()
    text = "Inference requests by model, version, protocol and HTTP status; no model: it was unknown."
    requests = []
    for key, figures in models.items():
        counts = figures["requests"].reshape(len(PROTOCOLS), len(CODES))
        for row, column in zip(*np.nonzero(counts), strict=True):
            requests.append(((*key, PROTOCOLS[row], str(CODES[column])), counts[row, column]))
    yield _counter("requests", text, (*_MODEL, "protocol", "code"), requests)
    rejected = [((reason,), count) for reason, count in board.rejected().items()]
    yield _counter("rejected", "Requests that were rejected.", ("reason",), rejected)
    models.pop(OTHERS, None)
    answered = "Seconds from a request's last byte to its answer, for answers with status 200."
    for figure, name, bounds, text in (
        ("duration", "request_duration_seconds", SECONDS, answered),
        ("queue", "queue_duration_seconds", SECONDS, "Seconds that a request waited for its batch."),
        ("compute", "compute_duration_seconds", SECONDS, "Seconds that the computation of a batch took."),
        ("rows", "batch_rows", ROWS, "Rows of a batch."),
    ):
        histogram = HistogramMetricFamily(_PREFIX + name, text, labels=_MODEL)
        edges = [*map(floatToGoString, bounds), "+Inf"]
        for key, figures in models.items():
            *counts, total = figures[figure].tolist()
            histogram.add_metric(key, list(zip(edges, np.cumsum(counts).tolist(), strict=True)), total)
        yield histogram
    for figure, name, text in (
        ("waiting", "queue_requests", "Requests that wait for a batch."),
        ("waiting_bytes", "queue_bytes", "Bytes of tensors that wait for a batch."),
        ("load_seconds", "model_load_duration_seconds", "Seconds that the last load of a model's file took."),
        ("file_bytes", "model_bytes", "Bytes of a frozen model, which workers share."),
    ):
        yield _gauge(name, text, _MODEL, [(key, figures[figure][0]) for key, figures in models.items()])
    loads = [
        ((*key, result), figures[figure][0])
        for key, figures in models.items()
        for result, figure in (("ok", "loads"), ("failed", "failed_loads"))
    ]
    yield _counter("model_loads", "Loads of a model's file.", (*_MODEL, "result"), loads)


def _of_workers(board: SharedMetrics, memory: dict[int, limits.Memory]) -> Iterator[Metric]:
    workers = {(str(index),): figures for index, figures in enumerate(board.of_workers())}
    alive = {key: figures for key, figures in workers.items() if figures["process"][0]}
    yield _gauge("workers", "Live workers.", (), [((), len(alive))])
    for figure, name, text in (
        ("in_flight", "requests_in_flight", "Requests that a worker has accepted and not answered."),
        ("connections", "connections", "Open HTTP connections."),
        ("threads", "threads", "Threads of a worker for kernels."),
        ("sequences", "sequences", "Sequences whose state a worker keeps."),
        ("sequences_bytes", "sequences_bytes", "Bytes of the states of sequences."),
        ("started", "worker_start_time_seconds", "Start time of a worker, in seconds since 1970."),
    ):
        yield _gauge(name, text, _WORKER, [(key, figures[figure][0]) for key, figures in alive.items()])
    for field, text in (
        ("resident", "Memory of a worker, with all shared pages (RSS)."),
        ("proportional", "Memory of a worker, with its share of shared pages (PSS)."),
    ):
        sizes = [((str(index),), getattr(one, field)) for index, one in memory.items()]
        yield _gauge(f"worker_{field}_memory_bytes", text, _WORKER, sizes)
    seconds = [(key, figures["cpu_seconds"][0]) for key, figures in alive.items()]
    yield _counter("worker_cpu_seconds", "CPU seconds that a worker used.", _WORKER, seconds)
    restarts = [(key, max(0.0, figures["starts"][0] - 1)) for key, figures in workers.items()]
    yield _counter("worker_restarts", "Restarts of a worker.", _WORKER, restarts)
    dropped = sum(figures["dropped_lines"][0] for figures in workers.values())
    yield _counter("log_lines_dropped", "Log lines dropped because nobody read them in time.", (), [((), dropped)])


def _family(kind: Any, name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[tuple, float]]) -> Any:
    """A family of metrics with a sample for each tuple of values of its labels."""
    made = kind(_PREFIX + name, text, labels=labels)
    for values, figure in samples:
        made.add_metric(values, float(figure))
    return made


_gauge, _counter = (functools.partial(_family, kind) for kind in (GaugeMetricFamily, CounterMetricFamily))
