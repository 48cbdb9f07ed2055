"""The status page for people, and the figures that it shows.

The page is one file without external resources. Its Content-Security-Policy allows only the page's own script and style, by
their hashes, so a model whose name is a script would do nothing even if the page did not escape the name.
"""

import base64
import hashlib
import importlib.resources
import re
import time
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nbkeras.engine import settings
from nbkeras.serving.board import MODEL, ROWS, SECONDS, WORKER
from nbkeras.serving.metrics import OTHERS, Metrics
from nbkeras.serving.repository import READY, Version
from nbkeras.serving.service import Service

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
    rules = {
        "default-src": "'none'",
        "script-src": script,
        "style-src": style,
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(page: bytes, tag: bytes) -> str:
    [content] = re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def routes(service: Service, metrics: Metrics) -> list[Route]:
    """The page under `/` and `/status`, and its figures under `/status.json`."""
    page = html()
    headers = {**_SAFE, "content-security-policy": policy(page), "cache-control": "no-cache"}

    async def show(request: Request) -> Response:
        return Response(page, headers=headers, media_type="text/html")

    async def tell(request: Request) -> Response:
        content = orjson.dumps(await status(service, metrics))
        return Response(content, headers=_SAFE | {"cache-control": "no-store"}, media_type="application/json")

    return [Route("/", show), Route("/status", show), Route("/status.json", tell)]


async def status(service: Service, metrics: Metrics) -> dict[str, Any]:
    """All data of the page: what is served, and figures of all workers; times in seconds since 1970."""
    memory = await metrics.memory()
    figures = metrics.board.of_models()
    workers = []
    for index, each in enumerate(metrics.board.of_workers()):
        one = {name: float(value[0]) for name, value in each.items() if name in _OF_WORKER}
        found = memory.get(index)
        workers.append(
            one
            | {
                "index": index,
                "process": int(one["process"]),
                "restarts": max(0, int(each["starts"][0]) - 1),
                "resident_bytes": None if found is None else found.resident,
                "proportional_bytes": None if found is None else found.proportional,
            }
        )
    unknown = figures.get(OTHERS)
    return {
        "name": "nbkeras",
        "version": settings.VERSION,
        "time": time.time(),
        "started": metrics.board.started,
        "is_ready": service.ready(),
        "is_draining": service.is_draining,
        "seconds": SECONDS,
        "rows": ROWS,
        "models": [
            _of_model(service, each, figures.get((each["name"], each["version"])))
            for each in service.repository.index()
        ],
        "unknown_requests": 0 if unknown is None else int(unknown["requests"].sum()),
        "rejected": metrics.board.rejected(),
        "workers": workers,
    }


_OF_WORKER = {name for name, size in WORKER.sizes.items() if size == 1} - {"starts", "models"}


def _of_model(service: Service, state: dict[str, str], figures: Any) -> dict[str, Any]:
    """A version of a model: its state, its tensors if it is served, and its counts."""
    if figures is None:
        figures = {name: [0.0] * size for name, size in MODEL.sizes.items()}
    else:
        figures = {name: value.tolist() for name, value in figures.items()}
    found: dict[str, Any] = {
        **state,
        "is_default": False,
        "is_stream": False,
        "inputs": [],
        "outputs": [],
        "batch_sizes": [],
        "requests": int(sum(figures["requests"])),
        "rows_sum": figures["rows"][-1],
        "waiting": int(figures["waiting"][0]),
        "load_seconds": figures["load_seconds"][0],
        "file_bytes": int(figures["file_bytes"][0]),
    }
    found |= {name: figures[name][:-1] for name in ("duration", "queue", "compute", "rows")}
    if state["state"] == READY:
        model = service.repository.get(state["name"], state["version"])
        metadata = model.metadata([])
        inputs = [tensor | {"example": _example(model, tensor["shape"])} for tensor in metadata["inputs"]]
        found |= {
            "is_default": service.repository.get(state["name"]) is model,
            "is_stream": model.is_stream,
            "inputs": inputs,
            "outputs": metadata["outputs"],
            "batch_sizes": list(model.frozen.batch_sizes),
        }
    return found


def _example(model: Version, shape: list[int]) -> list[int]:
    """An example shape for a request: one row, or as many as the model needs."""
    rows = 1 if getattr(model.frozen, "is_by_rows", True) else min(model.frozen.batch_sizes)
    steps = min(getattr(model.frozen, "steps", (1,)))
    return [rows, *(steps if size < 0 else size for size in shape[1:])]
