"""nginx in front of a server, as examples/serving/nginx.conf has it."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import time

import pytest

pytest.importorskip("httptools")
pytest.importorskip("grpc_reflection")

import grpc
from grpc_reflection.v1alpha import reflection
from live_server import LiveServer, clients_of

import nbkeras
from nbkeras import layers
from nbkeras.serving import messages

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
pytestmark = [
    pytest.mark.skipif(NGINX is None or shutil.which("openssl") is None, reason="needs nginx and openssl"),
    pytest.mark.cpu("servers are for CPUs"),
]
FILE = pathlib.Path(__file__).parents[2] / "examples" / "serving" / "nginx.conf"
TOKEN, PASSWORD = "Bearer 3f9c", "secret"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


class Proxy:
    """nginx with the example's file, with other ports, and a server behind it."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        x = nbkeras.Input((2,), name="x")
        kernel = nbkeras.initializers.Constant(1.0)
        model = nbkeras.Model(x, layers.Dense(3, kernel_initializer=kernel, name="y")(x))
        model.save(folder / "m.keras")
        self.server = LiveServer(folder, [{"path": folder / "m.keras"}], workers=1, grpc_port=0, control=True)
        text = FILE.read_text()
        changes = {
            "listen 8443": f"listen 127.0.0.1:{self.port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.server.port}",
            "127.0.0.1:8001": f"127.0.0.1:{self.server.grpc_port}",
            "rate=200r/s": "rate=1r/s",
            "burst=400": "burst=60",
            "client_max_body_size 64m": "client_max_body_size 10k",
        }
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        (folder / "nginx.conf").write_text(text)
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key", "-out", "server.crt"]
        subprocess.run(made, cwd=folder, check=True, capture_output=True)
        word = subprocess.run(
            ["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (folder / "passwords").write_text(f"ann:{word}")
        (folder / "tokens").write_text(f'"{TOKEN}" off;\n')
        user = "user root; " if os.geteuid() == 0 else ""
        self.command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-g", f"{user}daemon off;"]
        self.certificate = (folder / "server.crt").read_bytes()

    def start(self):
        self.process = subprocess.Popen(self.command, cwd=self.folder, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError("nginx does not listen")

    def close(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
        self.server.kill()

    def ask(self, method, path, body=None, **headers):
        context = ssl.create_default_context(cadata=self.certificate.decode())
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        with contextlib.closing(connection):
            named = {"content-type": "application/json", **headers}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")

    def call(self, method, request, answer, **metadata):
        trusted = grpc.ssl_channel_credentials(self.certificate)
        with grpc.secure_channel(f"localhost:{self.port}", trusted) as channel:
            call = channel.unary_unary(method, lambda message: message.SerializeToString(), answer.FromString)
            return call(request, metadata=tuple(metadata.items()), timeout=30)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("nginx"))
    try:
        found = subprocess.run([*proxy.command, "-t"], cwd=proxy.folder, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        proxy.start()
        yield proxy
    finally:
        proxy.close()


def test_clients_with_a_password_or_a_token_are_answered(proxy):
    path, word = "/v2/models/m/infer", base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    for authorization in (TOKEN, f"Basic {word}"):
        status, answer = proxy.ask("POST", path, BODY, authorization=authorization)
        assert status == 200 and answer["outputs"][0]["data"] == [3.0, 3.0, 3.0]
    for wrong in ("Bearer 3f9d", "Basic YW5uOng=", "", TOKEN + "0"):
        assert proxy.ask("POST", path, BODY, authorization=wrong) == (401, {"error": "a password or a token is needed"})
    plain = json.dumps({"instances": [[1, 2]]})
    for other in ("/predict", "/v1/models/m:predict"):
        found = proxy.ask("POST", other, plain, authorization=TOKEN)
        assert found == (200, {"predictions": [[3.0, 3.0, 3.0]]})
        assert proxy.ask("POST", other, plain)[0] == 401
    assert proxy.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    assert proxy.ask("POST", path, b"x" * 20_000, authorization=TOKEN) == (413, {"error": "the body is too large"})
    status, answer = proxy.ask("POST", path, "{", authorization=TOKEN)
    assert status == 400 and "JSON" in answer["error"]
    [worker] = proxy.server.workers().values()
    assert 1 <= len(clients_of(worker, proxy.server.port)) <= 4  # connections to the server are kept


def test_what_is_for_the_inside_is_closed(proxy):
    for path in (
        "/metrics",
        "/v2/repository/index",
        "/v2/repository/models/m/load",
        "//v2/repository/index",
        "/v2/./repository/x",
    ):
        assert proxy.ask("POST", path, "{}", authorization=TOKEN) == (403, {"error": "this is not open to the outside"})
    assert proxy.ask("GET", "/", authorization=TOKEN)[0] == 404


def test_grpc_goes_through(proxy):
    def named(name):
        return messages.message(f"inference.{name}")

    service = "/inference.GRPCInferenceService"
    request = named("ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1, 2])
    answer = proxy.call(f"{service}/ModelInfer", request, named("ModelInferResponse"), authorization=TOKEN)
    assert list(answer.outputs[0].contents.fp32_contents) == [3.0, 3.0, 3.0]
    for method, code, metadata in (
        ("ModelInfer", grpc.StatusCode.UNAUTHENTICATED, {}),
        ("RepositoryIndex", grpc.StatusCode.PERMISSION_DENIED, {"authorization": TOKEN}),
        ("RepositoryModelUnload", grpc.StatusCode.PERMISSION_DENIED, {"authorization": TOKEN}),
    ):
        with pytest.raises(grpc.RpcError, match="with status: 40[13]") as error:
            proxy.call(f"{service}/{method}", request, named("ModelInferResponse"), **metadata)
        assert error.value.code() == code


def test_reflection_goes_through_with_a_password(proxy):
    trusted = grpc.ssl_channel_credentials(proxy.certificate)
    with grpc.secure_channel(f"localhost:{proxy.port}", trusted) as channel:
        call = channel.stream_stream(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo")
        [answer] = call(iter([b"\x3a\x00"]), metadata=(("authorization", TOKEN),), timeout=30)  # list_services: ""
        assert b"inference.GRPCInferenceService" in answer
        # gRPC reports the status, or, if it reads nginx's page first, that a page is not a stream
        refused = {"with status: 401": grpc.StatusCode.UNAUTHENTICATED, "END_STREAM flag": grpc.StatusCode.INTERNAL}
        with pytest.raises(grpc.RpcError, match="|".join(refused)) as error:
            list(call(iter([b"\x3a\x00"]), timeout=30))
        assert error.value.code() in refused.values()


def test_a_client_that_asks_too_often_is_told_so(proxy):
    """The last test of this file: it uses up the client's share."""
    found = [proxy.ask("GET", "/v2/health/live") for _ in range(70)]
    assert (429, {"error": "too many requests; try again later"}) in found
