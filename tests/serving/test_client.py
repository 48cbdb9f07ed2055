"""nbkeras.client: with a server in processes of its own, and with scripted ones that break or lie."""

import ast
import contextlib
import json
import os
import pathlib
import pickle
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import nbkeras
from nbkeras import layers
from nbkeras.client import Client, ServerError

METADATA = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
SIZE = "inference-header-content-length"
ROW = np.array([[1, 2]], "float32")


# -------------------- scripted servers --------------------


def answer(body, status=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-length": len(body)} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"HTTP/1.1 {status} Moved a while ago",
        *(f"{name}: {value}" for name, value in given.items() if value is not None),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def outputs(values=ROW, **changes):
    """A right answer with one output; changes: of its description."""
    entry = {"name": "y", "datatype": "FP32", "shape": list(values.shape)}
    entry |= {"parameters": {"binary_data_size": values.nbytes}} | changes
    head = json.dumps({"model_name": "m", "outputs": [entry]}).encode()
    return answer(head + values.tobytes(), inference_header_content_length=len(head))


class Scripted:
    """A server that gives the next of its answers to each request. None: it closes the connection instead."""

    def __init__(self, *answers, closes=()):
        self.answers, self.closes, self.requests, self.connections = list(answers), closes, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.made, self.threads = [], [threading.Thread(target=self.listen, daemon=True)]
        self.threads[0].start()

    def listen(self):
        with contextlib.suppress(OSError):
            while True:
                made, _ = self.listener.accept()
                self.connections += 1
                self.made.append(made)
                self.threads.append(threading.Thread(target=self.serve, args=(made,), daemon=True))
                self.threads[-1].start()

    def serve(self, made):
        with made, made.makefile("rb") as file, contextlib.suppress(OSError, ValueError):
            while line := file.readline():
                headers = {}
                while (header := file.readline().decode().strip()) != "":
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                body = file.read(int(headers.get("content-length", 0)))
                self.requests.append((*line.decode().split()[:2], headers, body))
                number, found = len(self.requests), self.answers.pop(0)
                if found is None:
                    return
                made.sendall(found)
                if number in self.closes:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for made in self.made:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)


def test_one_request_as_the_protocol_has_it():
    with Scripted(answer(METADATA), outputs(), outputs()) as server:
        with Client(server.address, headers={"Authorization": "Bearer 1"}) as client:
            np.testing.assert_array_equal(client.predict("a b/c", [[1, 2]], version=3, timeout=5), ROW)
            found = client.predict("a b/c", ROW.astype("float64"), version=3)
        assert found.dtype == "float32" and found.flags.writeable and found.flags.aligned
        assert server.connections == 1
    get, post, again = server.requests
    assert get[:2] == ("GET", "/v2/models/a%20b%2Fc/versions/3")
    assert post[:2] == again[:2] == ("POST", "/v2/models/a%20b%2Fc/versions/3/infer")
    assert get[2]["authorization"] == post[2]["authorization"] == "Bearer 1"
    length = int(post[2][SIZE])
    assert json.loads(post[3][:length]) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}],
        "parameters": {"timeout": 5, "binary_data_output": True},
    }
    assert post[3][length:] == struct.pack("<2f", 1, 2)
    assert again[3][-8:] == post[3][-8:]


def test_several_outputs_are_a_dict():
    a, b = np.arange(6, dtype="<i8").reshape(2, 3), np.array([True, False])
    entries = [
        {"name": "a", "datatype": "INT64", "shape": [2, 3], "parameters": {"binary_data_size": 48}},
        {"name": "b", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}},
    ]
    head = json.dumps({"outputs": entries}).encode()
    sent = answer(head + a.tobytes() + b.tobytes(), inference_header_content_length=len(head))
    with Scripted(answer(METADATA), sent) as server, Client(server.address) as client:
        found = client.predict("m", ROW)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["b"], b)


BUSY = answer({"error": "the queue is full"}, 503, retry_after=0)


def test_a_full_server_is_asked_again():
    with Scripted(answer(METADATA), BUSY, BUSY, outputs()) as server, Client(server.address) as client:
        np.testing.assert_array_equal(client.predict("m", ROW), ROW)
        assert server.connections == 1
    with Scripted(answer(METADATA), BUSY, BUSY) as server, Client(server.address, retries=1) as client:
        with pytest.raises(ServerError, match=r"the queue is full \(status 503\)") as error:
            client.predict("m", ROW)
        assert (error.value.status, error.value.retry_after) == (503, 0)
        assert len(server.requests) == 3


@pytest.mark.parametrize("after", [None, "3", "99999999999", "soon", "-1.0", "1e3"])
def test_no_time_or_a_long_one_to_come_back_is_an_error_at_once(after):
    busy = answer({"error": "the queue is full"}, 503, retry_after=after)
    with Scripted(answer(METADATA), busy) as server, Client(server.address, timeout=2) as client:
        with pytest.raises(ServerError, match="the queue is full"):
            client.predict("m", ROW)


def test_an_empty_error_keeps_the_connection():
    with Scripted(answer(b"", 502), answer(METADATA)) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match=r"Moved a while ago \(status 502\)"):
            client.metadata("m")
        assert client.metadata("m") == METADATA
        assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced():
    for sequence in ({}, {"sequence_id": "a", "sequence_start": True}):
        with Scripted(answer(METADATA), outputs(), closes=[1]) as server, Client(server.address) as client:
            with pytest.raises(ValueError, match="the inputs must be a dict of"):
                client.predict("m", {})
            time.sleep(0.1)
            np.testing.assert_array_equal(client.predict("m", ROW, **sequence), ROW)
            assert (server.connections, len(server.requests)) == (2, 2)


def test_a_kept_connection_that_ends_without_an_answer_is_tried_again_once_for_predictions_alone():
    with Scripted(answer(METADATA), None, outputs()) as server, Client(server.address) as client:
        np.testing.assert_array_equal(client.predict("m", ROW), ROW)
        assert len(server.requests) == 3
    with Scripted(answer(METADATA), None, outputs()) as server, Client(server.address) as client:
        with pytest.raises(ConnectionError, match="http://127.0.0.1"):
            client.predict("m", ROW, sequence_id=1)
        assert len(server.requests) == 2
    with Scripted(None, answer(METADATA)) as server, Client(server.address) as client:  # a new connection
        with pytest.raises(ConnectionError, match="Remote end closed connection without response"):
            client.metadata("m")
    busy = [answer(METADATA), BUSY]
    with Scripted(*busy, outputs()) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match="the queue is full"):
            client.predict("m", ROW, sequence_id=1)


def test_an_answer_that_was_begun_is_not_asked_for_again():
    with Scripted(answer(METADATA), outputs()[:-3], outputs(), closes=[2]) as server, Client(server.address) as client:
        with pytest.raises(ConnectionError, match=r"the answer ends after \d+ of \d+ bytes"):
            client.predict("m", ROW)
        assert len(server.requests) == 2


def test_connections_belong_to_the_process_that_has_made_them(monkeypatch):
    with Scripted(answer(METADATA), answer(METADATA)) as server, Client(server.address) as client:
        client.metadata("m")
        monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
        client.metadata("m")
        assert server.connections == 2


def test_the_time_without_an_answer_is_limited():
    with Scripted(b"") as server, Client(server.address, timeout=0.2) as client:
        with pytest.raises(TimeoutError, match="http://127.0.0.1"):
            client.models()


HEAD = json.dumps({"outputs": []}).encode()


def malformed(sent):
    """What the client says of an answer to a prediction."""
    with Scripted(answer(METADATA), sent) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match="^the answer is malformed: ") as error:
            client.predict("m", ROW)
    assert error.value.status == 200
    assert len(error.value.message) < 500
    return error.value.message


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"shape": [2, 2]}, "shape [2, 2], but 2 values"),
        ({"shape": [-1, -2]}, "shape [-1, -2]"),
        ({"shape": [0, 2**62]}, "in an answer of"),
        ({"shape": [1] * 40}, "in an answer of"),
        ({"shape": ["1", 2]}, "in an answer of"),
        ({"shape": 3}, "TypeError"),
        ({"shape": None}, "TypeError"),
        ({"parameters": {"binary_data_size": 2**62}}, "in an answer of"),
        ({"parameters": {"binary_data_size": -8}}, "in an answer of"),
        ({"parameters": {"binary_data_size": 4}}, "shape [1, 2], but 1 values"),
        ({"parameters": {"binary_data_size": 7}}, "ValueError"),
        ({"parameters": {}}, "binary_data_size"),
        ({"datatype": "BYTES"}, "BYTES"),
        ({"datatype": []}, "TypeError"),
        ({"name": []}, "TypeError"),
    ],
)
def test_outputs_that_make_no_sense(changes, cause):
    assert cause in malformed(outputs(**changes))


@pytest.mark.parametrize(
    ("body", "claimed", "cause"),
    [
        (HEAD, None, "0 outputs"),
        (HEAD, 10**9, "Inference-Header-Content-Length is 1000000000"),
        (HEAD, -5, "Inference-Header-Content-Length is -5"),
        (HEAD, "x", "ValueError"),
        (HEAD + b"1234", len(HEAD), "0 outputs, and 4 bytes after them"),
        (b"[1]", None, "TypeError"),
        (b"\xff", None, "Unicode"),
        (b"[" * 10**5, None, "RecursionError"),
        (b" " * (1 << 24) + b"1", None, "16777217 bytes of JSON (limit: 16777216)"),
    ],
)
def test_answers_that_make_no_sense(body, claimed, cause):
    assert cause in malformed(answer(body, inference_header_content_length=claimed))


@pytest.mark.parametrize(
    "content", [[], {}, {"inputs": 3}, {"inputs": [{"name": "x"}]}, {"inputs": [{"name": {}, "datatype": "FP32"}]}]
)
def test_metadata_that_makes_no_sense(content):
    with Scripted(answer(content)) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match="the answer is malformed"):
            client.predict("m", ROW)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"garbage\r\n\r\n", "the answer is no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "the answer is no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10**6, "the answer is no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100, "Content-Length None"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n" + b"x" * 100, "Content-Length None"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n", "Content-Length 1000000000000 (max_bytes: 1000)"),
    ],
)
def test_what_is_not_http_or_too_large(sent, message):
    with Scripted(sent, closes=[1]) as server, Client(server.address, max_bytes=1000) as client:
        with pytest.raises(ServerError, match=re.escape(message)):
            client.models()


def test_a_claimed_size_takes_no_memory():
    with Scripted(answer(b"x" * 10, content_length=10**9), closes=[1]) as server, Client(server.address) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ConnectionError, match="the answer ends after 10 of 1000000000 bytes"):
                client.models()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (answer({"error": "model 'm' is not there"}, 404), 404, "model 'm' is not there"),
        (answer(b"<html>Bad Gateway</html>", 502), 502, "<html>Bad Gateway</html>"),
        (answer(b"", 301), 301, "Moved a while ago"),
        (answer(["the server", "failed"], 500), 500, '["the server", "failed"]'),
        (answer(b"no text: \xff" + b"." * 300, 500), 500, "no text: \ufffd" + "." * 190),
    ],
)
def test_errors_have_the_status_and_message_of_the_server(sent, status, message):
    with Scripted(sent) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match=re.escape(message)) as error:
            client.models()
    assert (error.value.status, error.value.message) == (status, message)
    copy = pickle.loads(pickle.dumps(error.value))
    assert (copy.status, str(copy)) == (status, f"{message} (status {status})")


@pytest.mark.parametrize(
    ("datatype", "x", "message"),
    [
        ("INT32", [[1.5]], "input 'x' takes INT32, which cannot hold all values of the array of float64"),
        ("UINT8", [[256]], "input 'x' takes UINT8"),
        ("UINT64", [[-1]], "input 'x' takes UINT64"),
        ("INT64", [[float("nan")]], "input 'x' takes INT64"),
        ("BOOL", [[2]], "input 'x' takes BOOL"),
        ("FP32", [["1"]], "input 'x' takes FP32, which cannot hold all values of the array of <U1"),
        ("FP32", [[None]], "cannot hold all values of the array of object"),
        ("FP32", [[1j]], "cannot hold all values of the array of complex128"),
        ("FP32", {"y": [[1]]}, "the inputs must be a dict of ['x'], received a dict of ['y']"),
        ("BYTES", [[1]], "input 'x' takes BYTES"),
    ],
)
def test_inputs_that_do_not_fit_are_not_sent(datatype, x, message):
    content = {"inputs": [{"name": "x", "datatype": datatype, "shape": [-1, 1]}]}
    with Scripted(answer(content)) as server, Client(server.address) as client:
        with pytest.raises(ValueError, match=re.escape(message)):
            client.predict("m", x)
        assert len(server.requests) == 1


def test_a_model_that_was_swapped_is_described_again():
    other = {"inputs": [{"name": "x", "datatype": "INT32", "shape": [-1, 2]}]}
    refusal = answer({"error": "expected INT32, received FP32"}, 400)
    with Scripted(answer(METADATA), refusal, answer(other), outputs()) as server, Client(server.address) as client:
        with pytest.raises(ServerError, match="expected INT32"):
            client.predict("m", ROW)
        client.predict("m", ROW)
        assert server.requests[-1][3][-8:] == struct.pack("<2i", 1, 2)


def test_a_sequence_whose_step_may_be_lost_does_not_go_on():
    with Scripted(answer(METADATA), outputs(), None, outputs()) as server, Client(server.address) as client:
        with client.sequence("m") as steps:
            steps.predict(ROW)
            with pytest.raises(ConnectionError, match="Remote end closed connection without response"):
                steps.predict(ROW)
            with pytest.raises(ConnectionError, match="begin a new sequence"):
                steps.predict(ROW)
        assert len(server.requests) == 3


def test_steps_of_a_sequence():
    refusal = answer({"error": "expected shape"}, 400)
    script = [answer(METADATA), refusal, answer(METADATA), *[outputs()] * 4]
    with Scripted(*script) as server, Client(server.address) as client:
        with client.sequence("m") as steps:
            with pytest.raises(ServerError, match="expected shape"):
                steps.predict([[1]])
            for _ in range(2):
                steps.predict(ROW)
        with client.sequence("m") as others:
            others.predict(ROW, end=True)
    posts = [(int(headers[SIZE]), body) for method, _, headers, body in server.requests if method == "POST"]
    bodies = [body[:length] for length, body in posts]
    states = [json.loads(body)["parameters"] for body in bodies]
    flags = [(each["sequence_start"], each["sequence_end"]) for each in states]
    assert flags == [(True, False), (True, False), (False, False), (False, True), (True, True)]
    assert len({each["sequence_id"] for each in states}) == 2


def test_whether_a_server_is_ready():
    with Scripted(answer({"ready": True}), answer({"ready": False}, 503), answer({}, 404)) as server:
        with Client(server.address) as client:
            assert [client.ready() for _ in range(3)] == [True, False, False]
    with Client(server.address) as client:
        assert not client.ready()
        with pytest.raises(ConnectionError, match="http://127.0.0.1:"):
            client.models()


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://a:1", "http://", "http://a/v2", "", "http://a:0"])
def test_addresses(address):
    with pytest.raises(ValueError, match="the address must be like http://localhost:8000"):
        Client(address)


def test_the_client_needs_numpy_alone_and_is_imported_at_first_use():
    tree = ast.parse(pathlib.Path(sys.modules["nbkeras.client"].__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"numpy"}


@pytest.mark.process
def test_nbkeras_imports_no_client():
    code = "import sys, nbkeras; a = 'http.client' in sys.modules; nbkeras.client.Client('http://a:1'); print(a)"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# -------------------- a real server --------------------


def two_inputs():
    words, numbers = nbkeras.Input((3,), dtype="int32", name="words"), nbkeras.Input((2,), name="numbers")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 2)(words)), numbers])
    return nbkeras.Model([words, numbers], [layers.Dense(2, name="a")(both), layers.Dense(1, name="b")(both)])


def recurrent():
    x = nbkeras.Input((None, 2), name="s")
    return nbkeras.Model(x, layers.GRU(2, return_sequences=True, name="t")(x))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    pytest.importorskip("starlette")
    from live_server import LiveServer

    folder = tmp_path_factory.mktemp("client")
    models = {"two": two_inputs(), "steps": recurrent()}
    models["dense"] = nbkeras.Sequential([nbkeras.Input((2,), name="x"), layers.Dense(3, name="y")])
    tables = []
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
        tables.append({"path": folder / f"{name}.keras", "stream": name == "steps"})
    with LiveServer(folder, tables, workers=2, keep_alive_seconds=0.5) as server:
        server.models = models
        with Client(f"http://127.0.0.1:{server.port}") as server.client:
            yield server


@pytest.mark.process
@pytest.mark.cpu("servers are for CPUs")
def test_predictions_are_those_of_the_model(live):
    x = np.random.default_rng(0).normal(size=(50, 2))
    for given in (x, x.tolist(), {"x": x}):
        found = live.client.predict("dense", given)
        np.testing.assert_allclose(found, live.models["dense"].predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    words, numbers = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[0.5, 1], [2, 3]])
    wanted = live.models["two"].predict([words, numbers], verbose=0)
    found = live.client.predict("two", {"numbers": numbers, "words": words}, version=1)
    for name, array in zip("ab", wanted, strict=True):
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-6)


@pytest.mark.process
@pytest.mark.cpu("servers are for CPUs")
def test_descriptions_and_errors_of_the_server(live):
    assert live.client.ready()
    assert {each["name"]: each["state"] for each in live.client.models()} == dict.fromkeys(live.models, "READY")
    assert live.client.metadata("dense", 1)["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    with pytest.raises(ServerError, match="model 'none' is not there; models: dense, steps, two") as error:
        live.client.predict("none", [[1, 2]])
    assert error.value.status == 404
    with pytest.raises(ServerError, match=r"expected shape \[-1, 2\], received \[1, 3\]") as error:
        live.client.predict("dense", [[1, 2, 3]])
    assert error.value.status == 400


@pytest.mark.process
@pytest.mark.cpu("servers are for CPUs")
def test_sequences_keep_their_states_and_end(live):
    x = np.random.default_rng(1).normal(size=(3, 4, 2))
    wanted = live.models["steps"].predict(x, verbose=0)
    with contextlib.ExitStack() as stack:
        all_steps = [stack.enter_context(live.client.sequence("steps")) for _ in x]
        for t in range(4):
            if t == 2:
                time.sleep(1)  # the server closes the kept connection
            for row, steps in enumerate(all_steps):
                found = steps.predict(x[row : row + 1, t : t + 1])
                np.testing.assert_allclose(found[:, 0], wanted[row : row + 1, t], rtol=1e-4, atol=1e-6)
        ids = [steps._id for steps in all_steps]
    for identity in ids:
        with pytest.raises(ServerError, match="is not running"):
            live.client.predict("steps", x[:1, :1], sequence_id=identity)


@pytest.mark.process
@pytest.mark.cpu("servers are for CPUs")
def test_threads_share_a_client(live):
    wrong = []

    def work(number):
        for turn in range(30):
            x = np.full((1 + turn % 3, 2), number + turn / 8)
            found = live.client.predict("dense", x)
            if not np.allclose(found, wanted(x), rtol=1e-4, atol=1e-5):
                wrong.append((number, turn))

    kernel, bias = live.models["dense"].get_weights()
    wanted = lambda x: x @ kernel + bias  # noqa: E731
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_strings_are_sent_with_their_lengths():
    content = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 1]}]}
    with Scripted(answer(content), outputs()) as server, Client(server.address) as client:
        client.predict("m", [["é"], [""]])
        body = server.requests[-1][3]
    assert body.endswith(b"\x02\0\0\0\xc3\xa9" + b"\0\0\0\0") and b'"shape": [2, 1]' in body
