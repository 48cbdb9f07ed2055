"""Metrics of a server for Prometheus: the figures in SharedMetrics, in the format of a scrape.

prometheus-client writes the format. Its counters are not used: an observation in its multiprocess mode costs more than
parsing a small request (see `shared_metrics.py`). Labels are names of the server's models and words of fixed lists, so
clients cannot create new series.
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
from prometheus_client import core
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from nbkeras.engine import settings
from nbkeras.serving import limits, logs
from nbkeras.serving.repository import READY
from nbkeras.serving.service import Service
from nbkeras.serving.shared_metrics import CODES, HISTOGRAMS, OTHERS, PROTOCOLS, SharedMetrics

_PREFIX = "nbkeras_serving_"
_PAUSE = 0.5  # seconds between two samples of states, such as the length of a queue
_MEMORY_PAUSE = 1.0  # seconds until the memory of processes is read again: the system walks all their pages
_SAMPLES = 64  # samples written in one turn of the event loop
_END = b"# EOF\n"  # the last line of the OpenMetrics format
_MODEL, _WORKER = ("model", "version"), ("worker",)  # labels


class Metrics:
    """Records the states of a worker in its segment of the SharedMetrics, and exports the figures of all workers."""

    def __init__(self, shared: SharedMetrics, index: int = 0):
        self.shared, self.segment = shared, shared.segment(index)
        self.segment.end()  # clear the states of the previous worker
        self.segment.worker["process"], self.segment.worker["started"] = os.getpid(), time.time()
        self._dropped = 0  # dropped log lines counted so far
        self._memory_time = 0.0
        self._reading: asyncio.Task[dict[int, limits.Memory]] | None = None

    def look(self, service: Service, connections: Collection[Any] = ()) -> None:
        """Record the states of this worker."""
        figures, found = self.segment.worker, logs.handler()
        figures["in_flight"] = service.in_flight
        figures["connections"] = len(connections)
        figures["threads"] = limits.threads()
        figures["sequences"], figures["sequences_bytes"] = len(service.sequences), service.sequences.bytes
        figures["cpu_seconds"] = time.process_time()
        if found is not None:
            figures["dropped_lines"] += found.dropped - self._dropped
            self._dropped = found.dropped
        served = {(each.name, each.version): each.batcher for each in service.repository.served()}
        self.segment.served = served.keys()
        for key, batcher in served.items():
            figures = self.segment.of_model(key)
            figures["waiting"], figures["waiting_bytes"] = len(batcher), batcher.bytes

    async def watch(self, service: Service, connections: Collection[Any]) -> None:
        """Record the states periodically, forever."""
        while True:
            self.look(service, connections)
            await asyncio.sleep(_PAUSE)

    async def memory(self) -> dict[int, limits.Memory]:
        """The memory of each live worker, by index. A thread reads it once for all simultaneous callers."""
        is_old = time.monotonic() - self._memory_time >= _MEMORY_PAUSE
        if self._reading is None or (self._reading.done() and is_old):
            self._reading = asyncio.create_task(asyncio.to_thread(self._read_memory))
        return await asyncio.shield(self._reading)

    def _read_memory(self) -> dict[int, limits.Memory]:
        processes = self.shared.of_workers()["process"].astype(int).tolist()
        found = {index: limits.memory_of(process) for index, process in enumerate(processes) if process}
        self._memory_time = time.monotonic()
        return {index: one for index, one in found.items() if one is not None}

    async def text(self, service: Service, accept: str = "") -> tuple[bytes, str]:
        """All metrics in a format that the scrape accepts, and the content type. Requests are answered meanwhile."""
        encode, content_type = choose_encoder(accept)
        parts = []
        for family in families(self.shared, service, await self.memory()):
            for start in range(0, max(1, len(family.samples)), _SAMPLES):
                some = _Some(family.name, family.documentation, family.type)
                some.samples = family.samples[start : start + _SAMPLES]
                text = encode(some).removesuffix(_END)
                parts.append(text if not start else re.sub(rb"(?m)^#.*\n", b"", text))
                await asyncio.sleep(0)
        if content_type.startswith("application/openmetrics-text"):
            parts.append(_END)
        return b"".join(parts), content_type


class _Some(core.Metric, Collector):
    """Some samples of one family, so that the output is written in small pieces."""

    def collect(self) -> list[core.Metric]:
        return [self]


def families(shared: SharedMetrics, service: Service, memory: dict[int, limits.Memory]) -> Iterator[core.Metric]:
    """All exported metric families."""
    versions = {"version": settings.VERSION, "python": platform.python_version(), "numpy": np.__version__}
    yield core.InfoMetricFamily(_PREFIX + "build", "Versions of the server.", value=versions)
    yield from _of_models(shared)
    yield from _of_workers(shared, memory)
    ready = [((each["name"], each["version"]), each["state"] == READY) for each in service.repository.index()]
    yield _gauge("model_ready", "Whether a version of a model is served.", _MODEL, ready)
    served = service.repository.served()
    files = [((each.name, each.version), {"sha256": each.source.get("sha256", "")}) for each in served]
    yield _info("model", "The model's file that is served.", _MODEL, files)


def _of_models(shared: SharedMetrics) -> Iterator[core.Metric]:
    models = shared.of_models()
    text = "Inference requests by model, version, protocol and HTTP status; no model: it was unknown."
    requests = [
        ((*key, PROTOCOLS[row], str(CODES[column])), figures["requests"][row, column])
        for key, figures in models.items()
        for row, column in np.argwhere(figures["requests"])
    ]
    yield _counter("requests", text, (*_MODEL, "protocol", "code"), requests)
    rejected = [((reason,), count) for reason, count in shared.rejected().items()]
    yield _counter("rejected", "Requests that were rejected.", ("reason",), rejected)
    models.pop(OTHERS, None)
    answered = "Seconds from a request's last byte to its answer, for answers with status 200."
    for figure, name, text in (
        ("duration", "request_duration_seconds", answered),
        ("queue", "queue_duration_seconds", "Seconds that a request waited for its batch."),
        ("compute", "compute_duration_seconds", "Seconds that the computation of a batch took."),
        ("rows", "batch_rows", "Rows of a batch."),
    ):
        edges = [*map(floatToGoString, HISTOGRAMS[figure]), "+Inf"]
        counts = {key: (np.cumsum(figures[figure][:-1]), figures[figure][-1]) for key, figures in models.items()}
        samples = [(key, list(zip(edges, each, strict=True)), total) for key, (each, total) in counts.items()]
        yield _histogram(name, text, _MODEL, samples)
    for figure, name, text in (
        ("waiting", "queue_requests", "Requests that wait for a batch."),
        ("waiting_bytes", "queue_bytes", "Bytes of tensors that wait for a batch."),
        ("load_seconds", "model_load_duration_seconds", "Seconds that the last load of a model's file took."),
        ("file_bytes", "model_bytes", "Bytes of a frozen model, which workers share."),
    ):
        yield _gauge(name, text, _MODEL, [(key, figures[figure]) for key, figures in models.items()])
    loads = [
        ((*key, result), figures[figure])
        for key, figures in models.items()
        for result, figure in (("ok", "loads"), ("failed", "failed_loads"))
    ]
    yield _counter("model_loads", "Loads of a model's file.", (*_MODEL, "result"), loads)


def _of_workers(shared: SharedMetrics, memory: dict[int, limits.Memory]) -> Iterator[core.Metric]:
    workers = shared.of_workers()
    alive = {(str(index),): figures for index, figures in enumerate(workers) if figures["process"]}
    yield _gauge("workers", "Live workers.", (), [((), len(alive))])
    for figure, kind, name, text in (
        ("in_flight", _gauge, "requests_in_flight", "Requests that a worker has accepted and not answered."),
        ("connections", _gauge, "connections", "Open HTTP connections."),
        ("threads", _gauge, "threads", "Threads of a worker for kernels."),
        ("sequences", _gauge, "sequences", "Sequences whose state a worker keeps."),
        ("sequences_bytes", _gauge, "sequences_bytes", "Bytes of the states of sequences."),
        ("started", _gauge, "worker_start_time_seconds", "Start time of a worker, in seconds since 1970."),
        ("cpu_seconds", _counter, "worker_cpu_seconds", "CPU seconds that a worker used."),
    ):
        yield kind(name, text, _WORKER, [(key, figures[figure]) for key, figures in alive.items()])
    for field, text in (
        ("resident", "Memory of a worker, with all shared pages (RSS)."),
        ("proportional", "Memory of a worker, with its share of shared pages (PSS)."),
    ):
        sizes = [((str(index),), getattr(one, field)) for index, one in memory.items()]
        yield _gauge(f"worker_{field}_memory_bytes", text, _WORKER, sizes)
    restarts = [((str(index),), max(0.0, starts - 1)) for index, starts in enumerate(workers["starts"])]
    yield _counter("worker_restarts", "Restarts of a worker.", _WORKER, restarts)
    dropped = [((), workers["dropped_lines"].sum())]
    yield _counter("log_lines_dropped", "Log lines dropped because nobody read them in time.", (), dropped)


def _family(kind: Any, name: str, text: str, labels: Sequence[str], samples: Iterable[tuple]) -> Any:
    """A family of metrics. A sample has a tuple of values of the labels, then its figures."""
    made = kind(_PREFIX + name, text, labels=labels)
    for sample in samples:
        made.add_metric(*sample)
    return made


_info = functools.partial(_family, core.InfoMetricFamily)
_gauge = functools.partial(_family, core.GaugeMetricFamily)
_counter = functools.partial(_family, core.CounterMetricFamily)
_histogram = functools.partial(_family, core.HistogramMetricFamily)
