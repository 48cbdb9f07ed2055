"""Requests to a Service without a protocol, and to an Application without a connection."""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("orjson")

from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving.http import Request
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.repository import Repository
from nbkeras.serving.requests import InferRequest
from nbkeras.serving.service import Service


def spec(name, shape, dtype="float32"):
    return TensorSpec(name, (None, *shape), np.dtype(dtype))


class Fake:
    """A frozen model in Python. gate: it computes when a test opens that."""

    batch_sizes, is_by_rows, is_stream = (1, 8), True, False
    inputs = outputs = (spec("x", (1,)),)

    def __init__(self, gate=None):
        self.gate = gate

    def parts(self, rows):
        return self.batch_sizes[-1:]

    def run(self, arrays):
        if self.gate is not None:
            self.gate.wait(10)
        return self.compute(arrays)

    def compute(self, arrays):
        return list(arrays)


async def until(condition, why=lambda: ""):
    """Wait until a condition is true; why: what an error says."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(why())


async def infer(service, **content):
    """The response to a request with this content."""
    request = InferRequest(**{"name": "m"} | content)
    request.find(service.repository)
    return await service.infer(request)


def ended(name="m", version="1", status=200, reason="", protocol="http", seconds=0.1, **content):
    """A request to a model of a name and version, "" if it is unknown, that has its answer."""
    request = InferRequest(protocol=protocol, status=status, reason=reason, seconds=seconds, **content)
    if name:
        request.model = SimpleNamespace(name=name, version=version)
    return request


def begun(application, method, path, headers, address=None):
    """A request whose headers have arrived. headers: a dict of strings; `_` means `-`."""
    pairs = [(name.replace("_", "-").encode(), f"{value}".encode()) for name, value in headers.items()]
    request = Request(method, path, b"", pairs, address)
    application.begin(request)
    return request


async def exchange(application, method, path, headers, *parts, address=None):
    """(status, headers, body) of the answer to a request whose body arrives in parts."""
    request = begun(application, method, path, headers, address)
    for part in parts:
        if not request.is_ready:
            request.take(part)
    request.is_ready = True
    return await answered(application, request)


async def post(application, path, content=b"", pieces=1, method="POST", address=None, **headers):
    """(status, headers, content) of the answer to bytes, or to what JSON holds. JSON is read."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    size = -(-len(body) // pieces) or 1
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    given = {"content_length": len(body)} | headers
    status, headers, answer = await exchange(application, method, path, given, *parts, address=address)
    is_json = headers.get("content-type") == "application/json" and "content-encoding" not in headers
    return status, headers, json.loads(answer or b"null") if is_json else answer


def served(models, *, observer=None, sequences=None, **options):
    """A Service with a model of each name, of version 1."""
    repository = Repository(observer)
    for name, model in models.items():
        repository.set(name, "1", model, ModelOptions(name=name, **options))
    return Service(repository, sequences=sequences)


async def answered(application, request):
    """(status, headers, body) of the answer to a request whose body has arrived."""
    if request.error is not None:
        status, headers, body = application.failed(request, request.error)
    else:
        status, headers, body = await application.answer(request)
    return status, {name.decode(): value.decode() for name, value in headers}, body
