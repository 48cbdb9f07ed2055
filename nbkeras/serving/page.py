"""Pages for browsers and Prometheus: the status page for people, the figures that it shows, and the metrics.

The page is one file without external resources. Its Content-Security-Policy allows only the page's own script and style, by
their hashes, so a model whose name is a script would do nothing even if the page did not escape the name.
"""

import base64
import hashlib
import importlib.resources
import re
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nbkeras.engine import settings
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.repository import READY, Version
from nbkeras.serving.service import Service
from nbkeras.serving.shared_metrics import HISTOGRAMS, MODEL, OTHERS, ROWS, SECONDS, STATES

_SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def html() -> bytes:
    """The content of the page's file."""
    return importlib.resources.files("nbkeras.serving").joinpath("page.html").read_bytes()


def policy(page: bytes) -> str:
    """The page's Content-Security-Policy: only its own script and style, and requests to its own server."""
    script, style = (_hash(page, tag) for tag in (b"script", b"style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: bytes, tag: bytes) -> str:
    [content] = re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def routes(service: Service, metrics: Metrics) -> list[Route]:
    """The page under `/` and `/status`, its figures under `/status.json`, and all metrics under `/metrics`."""
    page = html()
    headers = {**_SAFE, "content-security-policy": policy(page), "cache-control": "no-cache"}

    async def show(request: Request) -> Response:
        return Response(page, headers=headers, media_type="text/html")

    async def send_status(request: Request) -> Response:
        content = orjson.dumps(await status(service, metrics), option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, headers=_SAFE | {"cache-control": "no-store"}, media_type="application/json")

    async def scrape(request: Request) -> Response:
        body, content_type = await metrics.text(service, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    return [Route("/", show), Route("/status", show), Route("/status.json", send_status), Route("/metrics", scrape)]


async def status(service: Service, metrics: Metrics) -> dict[str, Any]:
    """All data of the page: what is served, and figures of all workers; times in seconds since 1970."""
    memory = await metrics.memory()
    figures, none = metrics.shared.of_models(), np.zeros(1, MODEL)[0]
    workers = []
    for index, each in enumerate(metrics.shared.of_workers()):
        resident, proportional, *_ = memory.get(index, (None, None))
        own = {name: each[name] for name in (*STATES, "dropped_lines")}
        own |= {"index": index, "process": int(each["process"]), "restarts": max(0, int(each["starts"]) - 1)}
        workers.append(own | {"resident_bytes": resident, "proportional_bytes": proportional})
    return {
        "name": "nbkeras",
        "version": settings.VERSION,
        "time": metrics.shared.now(),
        "started": metrics.shared.started,
        "is_ready": service.ready(),
        "is_draining": service.is_draining,
        "seconds": SECONDS,
        "rows": ROWS,
        "models": [
            _of_model(service, each, figures.get((each["name"], each["version"]), none))
            for each in service.repository.index()
        ],
        "unknown_requests": int(figures.get(OTHERS, none)["requests"].sum()),
        "rejected": metrics.shared.rejected(),
        "workers": workers,
    }


def _of_model(service: Service, state: dict[str, str], figures: Any) -> dict[str, Any]:
    """A version of a model: its state, its tensors if it is served, and its counts."""
    repository, name = service.repository, state["name"]
    model: Any = repository.get(name, state["version"]) if state["state"] == READY else None
    metadata = {"inputs": [], "outputs": []} if model is None else model.metadata([])
    return {
        **state,
        "is_default": model is not None and model is repository.get(name),
        "is_stream": model is not None and model.is_stream,
        "inputs": [tensor | {"example": _example(model, tensor["shape"])} for tensor in metadata["inputs"]],
        "outputs": metadata["outputs"],
        "source": {} if model is None else model.source,
        "batch_sizes": [] if model is None else list(model.frozen.batch_sizes),
        "requests": int(figures["requests"].sum()),
        "rows_sum": figures["rows"][-1],
        "waiting": int(figures["waiting"]),
        "load_seconds": figures["load_seconds"],
        "file_bytes": int(figures["file_bytes"]),
        **{histogram: figures[histogram][:-1] for histogram in HISTOGRAMS},
    }


def _example(model: Version, shape: list[int]) -> list[int]:
    """An example shape for a request: one row, or as many as the model needs."""
    rows = 1 if getattr(model.frozen, "is_by_rows", True) else min(model.frozen.batch_sizes)
    steps = min(getattr(model.frozen, "steps", (1,)))
    return [rows, *(steps if size < 0 else size for size in shape[1:])]
