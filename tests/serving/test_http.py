"""The server over HTTP: through one real process where connections matter, and without connections where they do not."""

import asyncio
import contextlib
import gzip
import json
import signal
import socket
import struct
import threading
import time
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from live_server import LiveServer

pytest.importorskip("uvloop")
pytest.importorskip("starlette")

import in_memory
from in_memory import Fake, answered, begun, exchange, spec, until

from nbkeras import Input, Sequential, layers
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.repository import LOADING, UNAVAILABLE, Repository
from nbkeras.serving.service import Service

BODY_LIMIT = 100_000


class Server(LiveServer):
    def connect(self):
        return Connection(self.port)


class Connection:
    """A socket that speaks HTTP as a test wants it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        self.socket.close()

    def send(self, *parts):
        for part in parts:
            self.socket.sendall(part.encode() if isinstance(part, str) else part)

    def request(self, method, path, body=None, **headers):
        lines = [f"{method} {path} HTTP/1.1", "host: test"]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines) + "\r\n\r\n", body or b"")
        return self.answer(method)

    def answer(self, method="GET"):
        """(status, headers, body) of the next answer."""
        line = self.file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        status, headers = int(line.split()[1]), {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return status, headers, b""
        return status, headers, b"" if method == "HEAD" else self.file.read(int(headers["content-length"]))

    def infer(self, content, path="/v2/models/m/infer", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, _, answer = self.request("POST", path, body, **headers)
        return status, json.loads(answer)

    def is_closed(self):
        """Whether the server closes the connection, without another byte."""
        with contextlib.suppress(ConnectionResetError):
            return self.file.read(1) == b""
        return True


def made(kernel, folder):
    """A model whose outputs are x @ kernel, as a file."""
    model = Sequential([Input((2,), name="x"), layers.Dense(3, use_bias=False, name="y")], name="m")
    model.set_weights([np.full((2, 3), kernel, "float32")])
    model.save(folder / "m.keras")


def wanted(*values, **more):
    data = [value for value in values for _ in range(2)]
    return {"inputs": [{"name": "x", "shape": [len(values), 2], "datatype": "FP32", "data": data}], **more}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made(1.0, folder)
    limits = {"header_seconds": 0.6, "body_seconds": 0.6, "max_body_mb": BODY_LIMIT / 1e6, "max_connections": 40}
    tables, control = [{"path": "m.keras"}], {"control": True, "control_hosts": ("test",)}
    with Server(folder, tables, threads=1, keep_alive_seconds=2, **control, **limits) as server:
        yield server
        assert server.stop() == 0
        assert not server.tracebacks(), "".join(server.lines)


@pytest.fixture
def connection(server):
    with server.connect() as connection:
        yield connection


def test_a_server_answers_what_the_model_predicts(connection):
    status, answer = connection.infer(wanted(1, 2.5, id="a"))
    assert status == 200
    assert answer == {
        "model_name": "m",
        "model_version": "1",
        "id": "a",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [2.0] * 3 + [5.0] * 3}],
    }


def test_bytes_there_and_back(connection):
    inputs = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    for padding in range(4):  # the bytes begin at any address
        body = head + b" " * padding + struct.pack("<2f", 3, 4)
        headers = {"inference_header_content_length": len(head) + padding, "content_type": "application/octet-stream"}
        status, told, answer = connection.request("POST", "/v2/models/m/versions/1/infer", body, **headers)
        assert (status, told["content-type"]) == (200, "application/octet-stream")
        length = int(told["inference-header-content-length"])
        assert json.loads(answer[:length])["outputs"][0]["parameters"] == {"binary_data_size": 12}
        assert struct.unpack("<3f", answer[length:]) == (7, 7, 7)
    raw = connection.request("POST", "/v2/models/m/infer", struct.pack("<2f", 1, 2), inference_header_content_length=0)
    assert struct.unpack("<3f", raw[2][-12:]) == (3, 3, 3)
    for odd in (float("nan"), float("-inf")):
        body = struct.pack("<2f", 1, odd)
        status, _, answer = connection.request("POST", "/v2/models/m/infer", body, inference_header_content_length=0)
        assert status == 400
        assert b"input 'x' of model 'm' holds NaN or Infinity" in answer


def test_many_connections_get_their_own_answers(server):
    def client(number):
        with server.connect() as connection:
            for turn in range(20):
                values = [number * 100 + turn + part / 4 for part in range(1 + (number + turn) % 5)]
                answer = connection.infer(wanted(*values))[1]["outputs"][0]["data"]
                assert answer == [2 * value for value in values for _ in range(3)]

    with ThreadPoolExecutor(12) as pool:
        assert len(list(pool.map(client, range(12)))) == 12


def test_metadata_and_health(connection):
    def get(path):
        status, headers, body = connection.request("GET", path)
        assert headers["content-type"] == "application/json"
        return status, json.loads(body)

    status, answer = get("/v2")
    assert (status, answer["name"]) == (200, "nbkeras")
    assert "model_repository" in answer["extensions"]
    assert get("/v2/health/live") == (200, {"live": True})
    assert get("/v2/health/ready") == (200, {"ready": True})
    assert get("/v2/models/m/ready") == (200, {"name": "m", "ready": True})
    assert get("/v2/models/m/versions/1/ready") == (200, {"name": "m", "ready": True})
    metadata = {
        "name": "m",
        "versions": ["1"],
        "platform": "nbkeras",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    found = get("/v2/models/m")
    assert found == get("/v2/models/m/versions/1")
    assert set(found[1].pop("parameters")) >= {"sha256", "modified", "bytes"} and found == (200, metadata)
    assert get("/v2/models/n") == (404, {"error": "model 'n' is not there; models: m"})
    assert get("/v2/models/m/versions/7/ready")[0] == 404
    assert connection.request("HEAD", "/v2/health/live")[0] == 200
    for path, allow in (("/v2/models/m/infer", "OPTIONS, POST"), ("/v2", "GET, HEAD, OPTIONS")):
        status, headers, body = connection.request("OPTIONS", path)
        assert (status, headers["allow"], body) == (200, allow, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1", 404, None),
        ("GET", "/v2/", 404, None),
        ("GET", "/v2/models/m/infer/more", 404, None),
        ("POST", "/v2/models/m/versions/1/2/infer", 404, None),
        ("GET", "/v2/models/m/infer", 405, "POST"),
        ("DELETE", "/v2/models/m", 405, "GET, HEAD"),
        ("POST", "/v2/health/live", 405, "GET, HEAD"),
        ("GET", "/v2/repository/index", 405, "POST"),
    ],
)
def test_paths_and_methods_that_are_not_there(connection, method, path, status, allow):
    found, headers, body = connection.request(method, path, b"")
    assert (found, headers["content-type"]) == (status, "application/json")
    assert ", ".join(sorted(headers["allow"].split(", "))) == allow if allow else "allow" not in headers
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"content_type": "text/csv"}, 415, "Content-Type must be application/json"),
        ({"content_encoding": "br"}, 415, "Content-Encoding must be gzip or deflate, received br"),
        ({"content_encoding": "gzip"}, 400, "the body is not valid gzip data, as its Content-Encoding says"),
        ({"inference_header_content_length": "-3"}, 400, "Inference-Header-Content-Length must be a number of bytes"),
        ({"x_request_timeout_ms": "soon"}, 400, "X-Request-Timeout-Ms must be whole milliseconds, received soon"),
    ],
)
def test_headers_that_are_refused(connection, headers, status, message):
    found, answer = connection.infer(wanted(1), **headers)
    assert found == status
    assert message in answer["error"]


def test_mistakes_are_answered_and_the_connection_goes_on(connection):
    assert connection.infer(b"no json")[0] == 400
    assert connection.infer(wanted(1), path="/v2/models/none/infer")[0] == 404
    assert connection.infer(wanted(1, outputs=[{"name": "z"}])) == (
        400,
        {"error": "model 'm' has no output 'z'; its outputs are 'y'"},
    )
    assert connection.infer(wanted(1))[0] == 200


def test_packed_bodies_and_answers(connection):
    body = json.dumps(wanted(*range(500))).encode()
    plain = connection.infer(body)[1]
    for name, pack, unpack in (("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)):
        status, headers, answer = connection.request(
            "POST", "/v2/models/m/infer", pack(body), content_encoding=name, accept_encoding=f"br, {name};q=0.5"
        )
        assert (status, headers["content-encoding"]) == (200, name)
        assert json.loads(unpack(answer)) == plain
    _, headers, _ = connection.request("POST", "/v2/models/m/infer", body, accept_encoding="gzip;q=0")
    assert "content-encoding" not in headers


def test_bodies_that_are_too_large(server):
    with server.connect() as connection:
        length = 20 * BODY_LIMIT
        connection.send(f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")
        status, _, body = connection.answer()  # before the body is sent
        assert (status, json.loads(body)) == (
            413,
            {"error": f"the body may have at most {BODY_LIMIT} bytes, received {length} bytes"},
        )
        connection.send(b"x" * length)  # as clients do that read the answer afterwards
        assert connection.infer(wanted(1))[0] == 200
        connection.send(f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")
        assert connection.answer()[0] == 413
        assert connection.is_closed()  # after the time for a body
    with server.connect() as connection:
        connection.send("POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(40):
            connection.send(f"{10_000:x}\r\n", b" " * 10_000, "\r\n")
        connection.send("0\r\n\r\n")
        assert connection.answer()[0] == 413
        assert connection.infer(wanted(1))[0] == 200
    with server.connect() as connection:
        bomb = zlib.compress(b" " * 10 * BODY_LIMIT)
        assert connection.infer(bomb, content_encoding="deflate")[0] == 413


def test_a_body_in_chunks_and_without_a_length(connection):
    body = json.dumps(wanted(4)).encode()
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:50], body[50:])]
    connection.send(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n", *parts, "0\r\n\r\n"
    )
    assert json.loads(connection.answer()[2])["outputs"][0]["data"] == [8.0] * 3
    assert connection.request("POST", "/v2/models/m/infer")[0] == 411


def test_expect_100_continue(server):
    body = json.dumps(wanted(4)).encode()
    head = "POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: "
    with server.connect() as connection:
        connection.send(f"{head}{len(body)}\r\n\r\n")
        assert connection.answer()[0] == 100
        connection.send(body)
        assert connection.answer()[0] == 200
    with server.connect() as connection:
        connection.send(f"{head}{BODY_LIMIT * 2}\r\n\r\n")
        assert connection.answer()[0] == 413
        assert connection.is_closed()


def test_requests_that_follow_each_other_without_waiting(connection):
    for value in (1, 2, 3):
        body = json.dumps(wanted(value)).encode()
        connection.send(f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n", body)
    found = [json.loads(connection.answer()[2])["outputs"][0]["data"][0] for _ in range(3)]
    assert found == [2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("\0\1\2\3 HTTP\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nno colon\r\n\r\n", 400),
        ("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        ("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\n" + "".join(f"x{i}: {'a' * 1000}\r\n" for i in range(400)), 431),
        ("GET /" + "a" * 400_000, 431),
    ],
    ids=["no HTTP", "no header", "negative length", "two lengths", "many headers", "long path"],
)
def test_what_is_no_valid_request(server, sent, status):
    with server.connect() as connection:
        with contextlib.suppress(OSError):
            connection.send(sent)
        found, _, body = connection.answer()
        assert found == status
        assert list(json.loads(body)) == ["error"]
        assert connection.is_closed()


def test_slow_clients_are_told_and_closed_while_others_are_served(server, connection):
    with server.connect() as silent, server.connect() as headers, server.connect() as body:
        headers.send("GET /v2 HTTP/1.1\r\nhost: ")
        body.send("POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{")
        start = time.monotonic()
        while time.monotonic() - start < 0.5:
            assert connection.infer(wanted(1))[0] == 200
            with contextlib.suppress(OSError):
                headers.send("x")
                body.send(" ")
            time.sleep(0.05)
        for each, what in ((headers, "headers"), (body, "body")):
            status, told, answer = each.answer()
            assert (status, told["connection"]) == (408, "close")
            assert json.loads(answer) == {"error": f"the request's {what} did not arrive within 0.6 s"}
            assert each.is_closed()
        assert silent.is_closed()


def test_idle_connections_are_closed_later(server):
    with server.connect() as connection:
        assert connection.request("GET", "/v2")[0] == 200
        time.sleep(0.8)  # more than the headers' time
        assert connection.request("GET", "/v2")[0] == 200
        start = time.monotonic()
        assert connection.is_closed()
        assert 0.8 < time.monotonic() - start < 9


def test_more_connections_than_the_limit_are_refused(server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(server.connect()) for _ in range(60)]
        found = []
        for each in many:
            with contextlib.suppress(OSError):
                each.send("GET /v2 HTTP/1.1\r\nhost: test\r\n\r\n")
            found.append(each.answer())
        refused = [(headers, body) for status, headers, body in found if status == 503]
        assert 18 <= len(refused) <= 30
        headers, body = refused[0]
        assert headers["retry-after"] == "1"
        assert json.loads(body) == {"error": "the server has reached its limit of 40 connections; try again later"}
    time.sleep(0.1)
    with server.connect() as connection:
        assert connection.request("GET", "/v2")[0] == 200


def test_a_client_that_vanishes_harms_nobody(server, connection):
    body = json.dumps(wanted(1)).encode()
    for cut in (5, 60, 400):
        with server.connect() as other:
            other.send(
                (
                    f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                    + body
                )[:cut]
            )
    for _ in range(5):
        with server.connect() as other:
            other.send(f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n", body)
    assert connection.infer(wanted(1))[0] == 200


def test_a_model_is_swapped_under_load(server):
    """Each answer is of the old or of the new weights; after the load has been answered, of the new ones alone."""
    done, kernels = threading.Event(), [1.0]

    def client():
        with server.connect() as connection:
            while not done.is_set():
                first = kernels[-1]
                status, answer = connection.infer(wanted(1))
                assert status == 200
                [found] = set(answer["outputs"][0]["data"])
                assert found in {2 * kernel for kernel in (first, kernels[-1], first + 1)}

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client) for _ in range(3)]
        try:
            with server.connect() as connection:
                for kernel in (2.0, 3.0):
                    made(kernel, server.folder)
                    assert connection.request("POST", "/v2/repository/models/m/load", b"{}")[0] == 200
                    kernels.append(kernel)
                made(1.0, server.folder)
        finally:
            done.set()
        for each in clients:
            each.result()
    with server.connect() as connection:
        assert connection.infer(wanted(1))[1]["outputs"][0]["data"] == [6.0] * 3
        assert connection.request("POST", "/v2/repository/models/m/load")[0] == 200
        assert connection.infer(wanted(1))[1]["outputs"][0]["data"] == [2.0] * 3


def called(server, host, origin):
    """The answer to a page of an origin that calls the server by a name and wants a model unloaded that is not there."""
    with server.connect() as connection:
        head = f"POST /v2/repository/models/n/unload HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\n\r\n"
        connection.send(head)
        status, _, answer = connection.answer()
        return status, json.loads(answer)


def test_the_repository(server, connection):
    def post(path, content=None, **headers):
        body = None if content is None else json.dumps(content).encode()
        status, _, answer = connection.request("POST", f"/v2/repository/{path}", body, **headers)
        return status, json.loads(answer or b"null")

    ready = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    assert post("index") == post("index", {"ready": True}) == (200, ready)
    assert post("index", {"ready": 1})[0] == 400
    assert post("models/n/load")[0] == 404
    assert post("models/n/unload")[0] == 404
    assert post("models/m/load", {"parameters": {"config": "{}"}}) == (
        400,
        {"error": "the parameter 'config' is not offered: models are loaded from the server's own files"},
    )
    assert post("models/m/unload", origin="http://elsewhere.example")[0] == 403
    for host in ("rebound.example", f"rebound.example:{server.port}", "127.0.0.1.rebound.example", "10.9.8.7", ""):
        status, answer = called(server, host, f"http://{host}")
        assert status == 403 and "by a name from --control-hosts" in answer["error"]
    for host in ("localhost", f"LOCALHOST:{server.port}", "127.0.0.1:1", "[::1]:1", "test", "Test:80"):
        assert called(server, host, f"http://{host}") == (404, {"error": "model 'n' is not loaded"})
    try:
        assert post("models/m/unload", {"parameters": {"unload_dependents": False}})[0] == 200
        assert post("index") == (200, [{"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}])
        assert post("index", {"ready": True}) == (200, [])
        status, answer = connection.infer(wanted(1))
        assert (status, answer) == (404, {"error": "model 'm' is not available: unloaded"})
        (server.folder / "m.keras").write_bytes(b"no model")
        status, answer = post("models/m/load")
        assert status == 400
        assert "'m.keras' is not a model or weights file" in answer["error"]
        assert "'m.keras' is not a model" in post("index")[1][0]["reason"]
        assert connection.request("GET", "/v2/health/ready")[0] == 503
    finally:
        made(1.0, server.folder)
        assert post("models/m/load")[0] == 200
    assert post("index") == (200, ready)
    assert connection.request("GET", "/v2/health/ready")[0] == 200


def test_a_server_that_ends_answers_what_it_has_taken(tmp_path):
    made(1.0, tmp_path)
    tables = [{"path": "m.keras", "max_wait_ms": 800}]
    with (
        Server(tmp_path, tables, threads=1, drain_seconds=10) as server,
        server.connect() as waiting,
        server.connect() as idle,
        server.connect() as silent,
    ):
        assert idle.request("GET", "/v2")[0] == 200
        assert idle.request("POST", "/v2/repository/models/m/load")[0] == 403  # without --control
        body = json.dumps(wanted(3)).encode()
        waiting.send(f"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n", body)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        while (status := idle.request("GET", "/v2/health/ready")[0]) == 200:
            time.sleep(0.01)
        assert status == 503  # a request that was on its way is answered
        status, headers, answer = waiting.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(answer)["outputs"][0]["data"] == [6.0] * 3
        assert waiting.is_closed()
        assert idle.is_closed()
        assert silent.is_closed()
        assert server.process.wait(30) == 0
        assert not server.tracebacks(), "".join(server.lines)


# -------------------- without connections --------------------


class Doubles(Fake):
    batch_sizes, inputs, outputs = (1, 4), (spec("x", (2,)),), (spec("y", (2,)), spec("z", (), "int64"))

    def __init__(self, gate=None, error=None, factor=2):
        super().__init__(gate)
        self.error, self.factor = error, factor

    def compute(self, arrays):
        if self.error is not None:
            raise self.error
        return [arrays[0] * self.factor, arrays[0].sum(1).astype("int64")]


async def post(application, content, path="/v2/models/f/infer", **headers):
    return await in_memory.post(application, path, content, **headers)


def applied(*models, **options):
    repository = Repository()
    for version, model in enumerate(models, 1):
        repository.set("f", str(version), model, ModelOptions(name="f", **options))
    return Application(Service(repository)), repository


async def running(application):
    """Wait until the model `f` computes."""
    await until(lambda: application.service.repository.get("f").batcher.running)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.1.2.3:8000", 200),
        ("10.1.2.4", 403),
        ("Mine.example:1", 200),
        ("localhost", 200),
        ("example", 403),
        ("", 403),
    ],
)
async def test_loads_are_for_those_who_call_the_server_by_its_names(host, status):
    class Control:
        async def change(self, do, name, parameters):
            pass

    application = Application(Service(Repository(), control=Control()), control_hosts=["mine.example"])
    sent = "POST", "/v2/repository/models/m/load", {"host": host, "origin": f"http://{host}"}
    assert (await exchange(application, *sent, address=("10.1.2.3", 8000)))[0] == status
    application.service.control = None  # without --control the sentence is about that
    _, _, body = await exchange(application, *sent, address=("10.1.2.3", 8000))
    assert b"start the server with --control" in body


async def test_outputs_are_those_that_are_wanted():
    application, _ = applied(Doubles())
    _, _, answer = await post(application, wanted(1))
    assert [output["name"] for output in answer["outputs"]] == ["y", "z"]
    _, _, answer = await post(application, wanted(1, outputs=[{"name": "z"}]))
    assert answer["outputs"] == [{"name": "z", "datatype": "INT64", "shape": [1], "data": [2]}]


async def test_the_newest_version_answers_unless_another_is_named():
    application, repository = applied(*(Doubles(factor=factor) for factor in range(1, 12)))
    assert (await post(application, wanted(1)))[2]["model_version"] == "11"
    _, _, answer = await post(application, wanted(1), "/v2/models/f/versions/2/infer")
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [2.0, 2.0])
    assert repository.versions("f")[-2:] == ["10", "11"]
    repository.remove("f", "11")
    assert (await post(application, wanted(1)))[2]["model_version"] == "10"
    status, _, answer = await post(application, wanted(1), "/v2/models/f/versions/12/infer")
    assert (status, answer["error"][:37]) == (404, "model 'f' version '12' is not there; ")
    repository.mark("g", "1", LOADING)
    assert (await post(application, wanted(1), "/v2/models/g/infer"))[0] == 503
    repository.mark("g", "1", UNAVAILABLE, "no file")
    status, _, answer = await post(application, wanted(1), "/v2/models/g/infer")
    assert (status, answer) == (404, {"error": "model 'g' is not available: no file"})


async def test_a_request_finds_its_model_once():
    application, repository = applied(Doubles(), Doubles())
    get, found = repository.get, []
    repository.get = lambda *key: found.append(key) or get(*key)
    assert (await post(application, wanted(1), "/v2/models/f/versions/1/infer"))[2]["model_version"] == "1"
    assert (await post(application, {"instances": [[1, 2]]}, "/predict"))[0] == 200
    assert found == [("f", "1"), ("f", None)]


async def test_times_of_requests():
    gate = threading.Event()
    application, _ = applied(Doubles(gate=gate))
    first = asyncio.ensure_future(post(application, wanted(1)))
    await running(application)
    for more in ({"x_request_timeout_ms": "5"}, {}):
        content = wanted(1) if more else wanted(1, parameters={"timeout": 5000})
        status, _, answer = await post(application, content, **more)
        assert status == 504
        assert "the request's deadline passed" in answer["error"]
    gate.set()
    assert (await first)[0] == 200
    gate.clear()
    application, _ = applied(Doubles(gate=gate), timeout=0.5)  # of the model
    first = asyncio.ensure_future(post(application, wanted(1)))
    await running(application)
    assert (await post(application, wanted(1)))[0] == 504
    gate.set()
    assert (await first)[0] == 200


async def test_a_full_queue_says_when_to_come_back():
    gate = threading.Event()
    application, _ = applied(Doubles(gate=gate), max_queue=1)
    first = asyncio.ensure_future(post(application, wanted(1)))
    await running(application)
    second = asyncio.ensure_future(post(application, wanted(1)))
    await asyncio.sleep(0.005)
    status, headers, answer = await post(application, wanted(1))
    assert (status, headers["retry-after"]) == (503, "1")
    assert "the queue is full" in answer["error"]
    gate.set()
    assert {(await each)[0] for each in (first, second)} == {200}


async def test_failures_are_told_without_their_text(caplog):
    application, _ = applied(Doubles(error=RuntimeError("secret")))
    status, _, answer = await post(application, wanted(1))
    assert status == 500
    assert "secret" not in answer["error"]
    assert "secret" in caplog.text
    service = application.service
    service.infer = None  # a fault of the server itself
    status, _, answer = await post(application, wanted(1))
    assert (status, answer["error"][:18]) == (500, "the server failed;")


async def test_an_old_version_is_freed_after_its_last_request():
    gate = threading.Event()
    application, repository = applied(Doubles(gate=gate, factor=1))
    first = asyncio.ensure_future(post(application, wanted(1)))
    await running(application)
    old = weakref.ref(repository.get("f"))
    repository.set("f", "1", Doubles(factor=3), ModelOptions(name="f"))
    assert old() is not None
    assert (await post(application, wanted(1)))[2]["outputs"][0]["data"] == [3.0, 3.0]
    gate.set()
    assert (await first)[2]["outputs"][0]["data"] == [1.0, 1.0]
    del first
    await until(lambda: old() is None)


@pytest.mark.parametrize("rows", [1, 40_000], ids=["short", "long"])
async def test_long_bodies_and_answers_are_packed_too(rows):
    application, _ = applied(Doubles(), max_batch=1 << 20)
    body = json.dumps(wanted(*([0.125] * rows))).encode()
    headers = {"transfer-encoding": "chunked", "content-encoding": "gzip", "accept-encoding": "gzip"}
    _, _, packed = await exchange(application, "POST", "/v2/models/f/infer", headers, gzip.compress(body))
    answer = json.loads(gzip.decompress(packed) if rows > 1 else packed)
    assert answer["outputs"][0]["data"] == [0.25] * 2 * rows


async def test_bodies_that_arrive_at_the_same_time_are_bounded_together():
    application, _ = applied(Doubles())
    budget = application.service.budget
    budget.limit = 2500
    headers = {"transfer-encoding": "chunked"}
    requests = [begun(application, "POST", "/v2/models/f/infer", headers) for _ in range(4)]
    for each in requests[:3]:
        each.take(b" " * 1000)
    assert [each.is_ready for each in requests] == [False, False, True, False]
    assert (await answered(application, requests[2]))[0] == 503
    assert budget.used == 2 * 1125  # a bytearray has an eighth more than it needs
    budget.limit = 1 << 20
    body = json.dumps(wanted(1)).encode()
    requests[3].take(body)  # is whole at once
    requests[0].take(body)
    application.gone(requests[1])
    assert (await answered(application, requests[0]))[0] == (await answered(application, requests[3]))[0] == 200
    assert budget.used == 0


async def test_observers_are_told_of_requests_and_batches():
    class Seen:
        def __init__(self):
            self.requests, self.batches = [], []

        def request(self, request):
            self.requests.append((*request.model_key, request.status))

        def batch(self, name, version, rows, seconds, waits):
            self.batches.append((name, version, rows))

    seen = Seen()
    repository = Repository(seen)
    application = Application(Service(repository))
    repository.set("f", "1", Doubles(), ModelOptions(name="f"))
    await asyncio.gather(*(post(application, wanted(1)) for _ in range(3)))
    await post(application, wanted(1, outputs=[{"name": "q"}]))
    assert seen.requests == [("f", "1", 200)] * 3 + [("f", "1", 400)]
    assert seen.batches == [("f", "1", 3)]


def test_codes_of_grpc_follow_from_the_status():
    assert ServingError(400, "no").code == "INVALID_ARGUMENT"
    assert ServingError(404, "no").code == "NOT_FOUND"
    assert ServingError(418, "no").code == "UNKNOWN"


@pytest.mark.parametrize("change", [lambda packed: packed[:-4], lambda packed: packed + b"more"], ids=["cut", "longer"])
def test_packed_bodies_end_where_they_should(change, connection):
    status, answer = connection.infer(change(gzip.compress(json.dumps(wanted(1)).encode())), content_encoding="gzip")
    assert status == 400 and "not valid gzip data, as its Content-Encoding says: it does not end" in answer["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parameters": 3}, "'parameters' must be an object, received 3"),
        ([1], "the body must be a JSON object, received [1]"),
    ],
)
async def test_loads_take_an_object_of_parameters(content, message):
    application, _ = applied(Doubles())
    status, _, answer = await post(
        application, content, "/v2/repository/models/f/load", content_type="application/json"
    )
    assert (status, answer["error"]) == (400, message)


async def test_the_configuration_of_a_model():
    application, _ = applied(Doubles())
    configuration = application.service.model_configuration("f", None)
    _, _, body = await exchange(application, "GET", "/v2/models/f/config", {})
    assert json.loads(body) == configuration
