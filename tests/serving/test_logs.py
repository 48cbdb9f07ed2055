"""Logs of a server: what a line may hold, streams that nobody reads, and the log of a real server."""

import fcntl
import itertools
import json
import logging
import os
import re
import signal
import socket
import threading
import time
import types

import numpy as np
import pytest
from in_memory import ended
from live_server import LiveServer, wait_for

pytest.importorskip("uvloop")

from nbkeras import Input, Sequential, layers
from nbkeras.serving import logs
from nbkeras.serving.requests import RequestLog, safe_id

LOG = logging.getLogger("nbkeras.serving")


class Pipe:
    """A pipe as the stream of a log."""

    def __init__(self):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def read(self):
        found = b""
        try:
            while data := os.read(self.reading, 1 << 16):
                found += data
        except BlockingIOError:
            pass
        return found

    def lines(self):
        data = self.read()
        assert data.endswith(b"\n") or not data
        return data.splitlines()

    def json(self):
        return [json.loads(line) for line in self.lines()]

    def fill(self):
        os.set_blocking(self.writing, False)
        try:
            while os.write(self.writing, b"." * 4096):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(self.writing, True)


def close(handler, descriptor):
    """Close what a handler of a descriptor has opened, as the end of its process would."""
    if handler._descriptor != descriptor:
        os.close(handler._descriptor)


@pytest.fixture
def pipe():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made = Pipe()
    yield made
    found = logs.handler()
    if found is not None:
        if found._thread is not None:
            made.read()
            found._thread.stop()
        close(found, made.writing)
    root.handlers[:], root.level = before, level
    logging.captureWarnings(False)
    os.close(made.reading)
    os.close(made.writing)


def test_a_line_of_json(pipe):
    logs.configure("json", "info", pipe.writing).become(3)
    LOG.info("model %r is served", "m", extra=logs.event("model_loaded", model="m", seconds=1.5))
    logging.getLogger("other.package").warning("something of others")
    LOG.debug("too much")
    logs.handler().flush()
    [mine, other] = pipe.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mine.pop("time"))
    assert mine == {
        "worker": 3,
        "process": os.getpid(),
        "level": "info",
        "event": "model_loaded",
        "message": "model 'm' is served",
        "model": "m",
        "seconds": 1.5,
    }
    assert (other["logger"], other["event"], other["message"]) == ("other.package", "log", "something of others")


def test_a_line_of_text(pipe):
    logs.configure("text", "info", pipe.writing)
    try:
        raise ValueError("first\n2026-01-01T00:00:00.000Z INFO made up")
    except ValueError:
        LOG.error("request %s failed", "7", exc_info=True)
    first, *rest = pipe.lines()
    assert re.fullmatch(rb"\S+Z ERROR request 7 failed", first)
    assert len(rest) > 3 and all(line.startswith(b"    | ") for line in rest)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "\x1b[31mred", "\u202egnp.exe", "a\u2028b", "\x00", "\x7f\x9b0m", "\ud800"],
    ids=["line", "return", "terminal", "direction", "separator", "zero", "control", "surrogate"],
)
def test_text_of_clients_is_escaped(pipe, form, text):
    logs.configure(form, "info", pipe.writing)
    LOG.info("received %s!", text, extra=logs.event("x", detail=text))
    [line] = pipe.lines()
    told = json.loads(line)["message"] if form == "json" else line.decode()
    assert told.isprintable() and told.endswith("!") and "\\" in told
    if form == "json":
        assert json.loads(line)["detail"].isprintable()


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("letter", ["x", "\u20ac", '"'], ids=["plain", "wide", "quote"])
def test_a_line_goes_into_a_pipe_in_one_piece(pipe, form, letter):
    logs.configure(form, "info", pipe.writing)
    try:
        raise ValueError(letter * 10_000 + "the end")
    except ValueError:
        LOG.error("first " + letter * 10_000, exc_info=True, extra=logs.event("x", detail=letter * 10_000))
    data = pipe.read()
    assert 500 < len(data) <= logs.MAX_LINE
    assert b"first" in data and b"the end" in data


def test_a_message_that_cannot_be_made_costs_its_line_alone(pipe):
    logs.configure("json", "info", pipe.writing)
    LOG.info("%d", "no number")
    LOG.info("next")
    [lost, following] = pipe.json()
    assert "is lost" in lost["message"] and following["message"] == "next"


@pytest.mark.parametrize("has_thread", [False, True], ids=["supervisor", "worker"])
def test_a_pipe_that_nobody_reads_stops_nothing(pipe, has_thread):
    handler = logs.configure("json", "info", pipe.writing)
    pipe.fill()
    if has_thread:
        handler.become(0)
    count = logs.MAX_LINES + 100
    for number in range(count):
        LOG.info("line", extra=logs.event("x", number=number))
        while not number and not handler.queue.empty():  # the thread has not taken the first line yet
            time.sleep(0.001)
    assert handler.dropped == 100
    assert not fcntl.fcntl(pipe.writing, fcntl.F_GETFL) & os.O_NONBLOCK  # other programs may have the pipe too
    data, end = b"", time.monotonic() + 20
    while b"log_dropped" not in data and time.monotonic() < end:
        data += pipe.read()
        handler.write()
        time.sleep(0.001)  # let the thread write
    found = [json.loads(line) for line in (data + pipe.read()).lstrip(b".").splitlines()]
    assert [each["number"] for each in found[:-1]] == list(range(logs.MAX_LINES))
    assert (found[-1]["event"], found[-1]["lines"]) == ("log_dropped", 100)
    LOG.info("next")
    handler.flush()
    assert [each["message"] for each in pipe.json()] == ["next"]


@pytest.mark.parametrize("has_thread", [False, True], ids=["supervisor", "worker"])
def test_the_end_waits_a_second_for_a_reader(pipe, monkeypatch, has_thread):
    monkeypatch.setattr(logs, "_ENDING_SECONDS", 0.05)
    handler = logs.configure("json", "info", pipe.writing)
    pipe.fill()
    if has_thread:
        handler.become(0)
    LOG.info("last")
    start = time.monotonic()
    handler.flush()
    assert 0.04 < time.monotonic() - start < 5
    pipe.read()
    monkeypatch.setattr(logs, "_ENDING_SECONDS", 5)
    handler.flush()
    assert pipe.json()[0]["message"] == "last"


def test_a_socket_that_nobody_reads_and_one_that_is_closed():
    reader, writer = socket.socketpair()
    handler = logs.Handler(logs.JsonFormatter(), writer.fileno())
    while not handler.write_line(b"." * 4096):
        pass
    assert writer.getblocking() and not handler.dropped
    reader.close()
    assert handler.write_line(b".") == b"" and handler.dropped == 1
    close(handler, writer.fileno())
    writer.close()


def test_a_thread_writes_the_lines_of_a_worker(pipe):
    handler = logs.configure("json", "info", pipe.writing)
    pipe.fill()
    LOG.info("of the supervisor")
    handler.become(0)
    LOG.info("one")
    other = threading.Thread(target=LOG.info, args=("two",))
    other.start()
    other.join()
    pipe.read()
    handler.flush()
    assert [each["message"] for each in pipe.json()] == ["one", "two"]


def test_a_worker_that_gets_no_thread_says_so(pipe, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    handler = logs.configure("json", "info", pipe.writing)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        handler.become(0)
    LOG.critical("worker 0 failed")
    assert pipe.json()[0]["message"] == "worker 0 failed"


def test_slow_requests_are_logged_once_in_a_second(pipe):
    logs.configure("json", "info", pipe.writing)
    log = RequestLog(access=False, slow=0.5)
    slow = ended(protocol="grpc", seconds=4.0, inputs={"x": np.zeros((4, 1))})
    for each in (ended(), ended(protocol="grpc", seconds=2.0, inputs=slow.inputs), slow, slow):
        log(each)
    [line] = pipe.json()
    assert (line["event"], line["level"], line["model"], line["rows"]) == ("slow_request", "warning", "m", 4)
    assert (line["total_ms"], line["not_logged"]) == (2000, 0)
    log._next = 0.0
    log(slow)
    assert pipe.json()[0]["not_logged"] == 2
    assert log.new_id() == "" and RequestLog(access=True, slow=0).new_id()


@pytest.mark.parametrize("value", [b"a b", b"", b"x" * 129, b"a\nb", b"<script>", b'"', "\u00e9".encode()], ids=repr)
def test_ids_that_could_do_harm_are_not_taken_over(value):
    assert safe_id(value) == ""
    assert safe_id(b"00-4bf9/2f.a_b:c=d@e+") == "00-4bf9/2f.a_b:c=d@e+"


# -------------------- a server --------------------


@pytest.mark.process
def test_the_log_of_a_server(tmp_path):
    Sequential([Input((2,), name="x"), layers.Dense(1)]).save(tmp_path / "m.keras")
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]})
    with LiveServer(tmp_path, [{"path": "m.keras"}], access_log=True) as server, server.connected() as connection:

        def events(event):
            return [line for line in map(json.loads, list(server.lines)) if line["event"] == event]

        def waited(event, count=1):
            return wait_for(lambda: len(found := events(event)) >= count and found, why=server.lines)

        def ask(body=body, identity="1"):
            headers = {"Content-Type": "application/json", "X-Request-Id": identity}
            connection.request("POST", "/v2/models/m/infer", body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer

        assert ask(identity="mine-1").headers["X-Request-Id"] == "mine-1"
        made = ask(identity="a b").headers["X-Request-Id"]
        ask('{"secret\\n')
        good, other, bad = waited("request", 3)
        assert (good["request_id"], good["model"], good["version"], good["rows"]) == ("mine-1", "m", "1", 1)
        assert good["status"] == 200 and good["total_ms"] >= good["compute_ms"] > 0 <= good["queue_ms"]
        assert good["bytes_in"] == len(body) and good["bytes_out"] > 0
        assert other["request_id"] == made != "a b"
        assert bad["status"] == 400 and not server.find("secret")
        for count in range(3):
            server.process.send_signal(signal.SIGHUP)
            waited("sighup", count + 1)
            for _ in range(20):
                ask()
        assert len(waited("request", 63)) == 63  # no line is lost
        server.may_read.clear()  # nobody reads: the pipe is full after some hundred requests
        for _ in range(700):
            assert ask().status == 200
        server.may_read.set()
        connection.close()
        assert server.stop() == 0
        assert len(events("request")) == 763 and events("drain")
        assert events("worker_started") and events("model_loaded")


def test_a_pipe_that_is_closed_drops_what_is_left(pipe):
    handler = logs.Handler(logs.JsonFormatter(), pipe.writing)
    pipe.fill()
    handler.enqueue(b"one\n")
    handler.enqueue(b"two\n")
    assert not handler.dropped
    os.close(pipe.reading)
    handler.write()
    assert handler.dropped == 2 and not handler.queue.unfinished_tasks
    close(handler, pipe.writing)
    pipe.reading = os.dup(pipe.writing)  # for the fixture


def test_the_rest_of_a_line_follows(pipe, monkeypatch):
    handler = logs.Handler(logs.JsonFormatter(), pipe.writing)
    write, is_free = os.write, itertools.cycle([True, False])
    monkeypatch.setattr(handler, "_poll", types.SimpleNamespace(poll=lambda _: next(is_free)))
    monkeypatch.setattr(
        logs.os, "write", lambda place, data: write(place, data[:3])
    )  # a terminal that takes three bytes
    handler.enqueue(b"seven\n")
    assert pipe.read() == b"sev"
    handler.write()
    assert pipe.read() == b"en\n" and not handler.queue.unfinished_tasks
    close(handler, pipe.writing)


def test_a_stream_that_cannot_be_opened_again_is_polled(pipe, monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(logs.os, "open", refuse)
    handler = logs.Handler(logs.JsonFormatter(), pipe.writing)
    assert handler._descriptor == pipe.writing and handler.write_line(b"one") == b""
    pipe.fill()
    assert handler.write_line(b"two") == b"two"


def test_a_file_is_written_where_it_ends(tmp_path):
    with open(tmp_path / "log", "w+b", buffering=0) as file:
        file.write(b"before\n")
        logs.Handler(logs.JsonFormatter(), file.fileno()).enqueue(b"line\n")
        file.write(b"after\n")
        file.seek(0)
        assert file.read() == b"before\nline\nafter\n"


def test_a_request_is_logged_at_any_level(pipe):
    logs.configure("text", "error", pipe.writing)
    RequestLog(access=True, slow=0.0)(ended())
    [line] = pipe.lines()
    assert b" INFO request request_id= " in line and b" model=m " in line and b" status=200 " in line
