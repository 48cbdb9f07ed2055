"""Connections without a network: what clients do at the wrong moment."""

import asyncio
import datetime
import email.utils
import json
import re
import socket
import threading
import time

import numpy as np
import pytest
from in_memory import Fake, infer, until

pytest.importorskip("uvloop")
pytest.importorskip("httptools")

import uvloop

from nbkeras import Input, Sequential, layers
from nbkeras.serving import page
from nbkeras.serving.budget import Budget
from nbkeras.serving.connections import ANSWER, Connection
from nbkeras.serving.connections import Server as Shared
from nbkeras.serving.http import Application
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.repository import Repository
from nbkeras.serving.requests import Observer, RequestLog
from nbkeras.serving.service import Service
from nbkeras.serving.shared_metrics import SharedMetrics


class Waits(Fake):
    """A model that computes when a test lets it."""

    batch_sizes = (1,)

    def __init__(self):
        super().__init__(threading.Event())
        self.seen = []

    def compute(self, arrays):
        self.seen += arrays[0].ravel().tolist()
        return list(arrays)


class Transport:
    """A socket's end in memory. unread: bytes that the client has not read."""

    def __init__(self):
        self.sent, self.writes, self.unread, self.state, self.is_reading = b"", 0, 0, "open", True

    def get_extra_info(self, *_):
        return None

    def is_closing(self):
        return self.state != "open"

    def write(self, data):
        self.sent += data
        self.writes += 1

    def close(self):
        self.state = "closed"

    def abort(self):
        self.state = "aborted"

    def get_write_buffer_size(self):
        return self.unread

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True


class Seen(Observer):
    """The statuses of requests to infer, and of what was refused before it was a request."""

    def __init__(self):
        self.statuses, self.seconds, self.refusals = [], [], []

    def request(self, request):
        self.statuses.append(request.status)
        self.seconds.append(request.seconds)

    def refused(self, status):
        self.refusals.append(status)


class Server:
    """What connections share, and a model."""

    def __init__(self, **limits):
        self.seen, self.model = Seen(), Waits()
        repository = Repository(self.seen)
        repository.set("m", "1", self.model, ModelOptions(name="m"))
        self.service = Service(repository)
        self.shared = Shared(Application(self.service), Options(**limits))
        self.shared.budget = Budget()  # of what is not a request yet

    async def __aenter__(self):
        self.model.gate.set()

    async def __aexit__(self, *exception):
        await settle()
        assert no_task_is_left() and self.service.in_flight == self.service.budget.used == 0

    def connect(self):
        made = Connection(self.shared)
        made.connection_made(Transport())
        return made


@pytest.fixture
def server():
    """A server whose model computes at once."""
    return Server()


def post(values, *headers):
    data = np.ravel(values).tolist()
    body = {"inputs": [{"name": "x", "shape": [len(data), 1], "datatype": "FP32", "data": data}]}
    text = json.dumps(body)
    lines = ["POST /v2/models/m/infer HTTP/1.1", "host: test", f"content-length: {len(text)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


def statuses(connection):
    return [int(part[:3]) for part in connection.transport.sent.decode().split("HTTP/1.1 ")[1:]]


async def answered(connection, count=1):
    """Wait for so many answers."""
    await until(lambda: len(statuses(connection)) >= count, lambda: connection.transport.sent)


async def settle():
    """Let the event loop do what it can."""
    for _ in range(10):
        await asyncio.sleep(0.002)


def no_task_is_left():
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_answer_is_written_in_one_piece(server):
    stays, closes = server.connect(), server.connect()
    for value in (1, 2):
        stays.data_received(post(value))
        await answered(stays, value)
    assert stays.transport.writes == 2 and stays.transport.state == "open"
    head, body = stays.transport.sent.split(b"HTTP/1.1 ")[-1].split(b"\r\n\r\n")
    assert json.loads(body)["outputs"][0]["data"] == [2.0]
    assert b"content-length: %d" % len(body) in head and b"connection" not in head
    closes.data_received(post(3, "connection: close"))
    await answered(closes)
    assert closes.transport.writes == 1 and closes.transport.state == "closed"
    assert b"\r\nconnection: close\r\n\r\n" in closes.transport.sent


async def test_an_answer_waits_for_a_client_that_does_not_read(server):
    connection = server.connect()
    connection.pause_writing()
    connection.data_received(post(1))
    await settle()
    assert not connection.transport.sent
    connection.resume_writing()
    await answered(connection)
    assert statuses(connection) == [200]


async def test_a_request_whose_client_has_gone_is_not_computed():
    server = Server()
    first, second, third = (server.connect() for _ in range(3))
    first.data_received(post(1))
    await settle()  # is being computed
    second.data_received(post(2) + post(3))  # one after the other
    third.data_received(post(4))
    await settle()
    second.connection_lost(None)
    first.connection_lost(ConnectionResetError())
    await settle()
    server.model.gate.set()
    await answered(third)
    assert server.model.seen == [1.0, 4.0]
    assert not first.transport.sent + second.transport.sent
    assert server.service.in_flight == 0
    await settle()
    assert no_task_is_left()


async def test_answers_of_one_connection_come_in_order():
    server = Server()
    connection = server.connect()
    connection.data_received(
        post(1)
        + b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n"
        + post(2)
        + b"GET /v2/nothing HTTP/1.1\r\nhost: test\r\n\r\n"
    )
    await settle()
    assert not connection.transport.sent
    server.model.gate.set()
    await answered(connection, 4)
    assert statuses(connection) == [200, 200, 200, 404]


async def test_a_request_that_comes_in_single_bytes(server):
    connection = server.connect()
    for byte in post(1) * 2:
        connection.data_received(bytes([byte]))
    await answered(connection, 2)
    assert statuses(connection) == [200, 200]


async def test_an_offer_to_speak_another_protocol_is_ignored(server):
    for upgrade in ("h2c", "websocket"):
        offer = ["connection: upgrade", f"upgrade: {upgrade}"]
        connection = server.connect()
        head = "\r\n".join(["GET /v2 HTTP/1.1", "host: test", *offer])
        connection.data_received(f"{head}\r\n\r\n".encode() + post(1))
        await answered(connection, 2)
        connection.data_received(post(1, *offer))  # its body would be of the other protocol
        await answered(connection, 3)
        assert statuses(connection) == [200, 200, 400]
        assert b"may not have the header Upgrade" in connection.transport.sent


async def test_limits_of_time(server):
    now = asyncio.get_running_loop().time()

    def check(connection, later):
        connection.check(now + later)
        return connection.transport.state

    silent = server.connect()
    assert check(silent, 9) == "open"
    assert check(silent, 11) == "closed"
    assert not silent.transport.sent
    idle = server.connect()
    idle.data_received(post(1))
    await answered(idle)
    assert check(idle, 70) == "open"
    assert check(idle, 80) == "closed"
    assert statuses(idle) == [200]
    deaf = server.connect()
    deaf.data_received(post(1))
    await answered(deaf)
    deaf.transport.unread = 100
    assert check(deaf, 50) == "open"
    assert check(deaf, 65) == "aborted"
    slow = server.connect()
    slow.data_received(post(1)[:-5])
    await settle()
    assert check(slow, 50) == "open"
    assert check(slow, 65) == "closed"
    assert statuses(slow) == [408]
    slow.transport.unread = 100  # and does not even read that
    assert check(slow, 200) == "aborted"
    server = Server()
    waits = server.connect()
    waits.data_received(post(1))
    await settle()
    assert check(waits, 10_000) == "open"  # it is the server that takes its time
    server.model.gate.set()
    await answered(waits)


async def test_requests_that_are_not_parsed_yet_are_counted():
    server = Server()
    many = [server.connect() for _ in range(3)]
    budget = server.shared.budget
    budget.limit = 250_000
    for each in many:
        each.data_received(post(1) + post(2))
        each.data_received(b" " * 100_000)
    assert budget.used == 200_000
    server.model.gate.set()
    await answered(many[2], 3)
    assert statuses(many[2]) == [200, 200, 503]
    for each in many:
        each.connection_lost(None)
    await settle()
    assert budget.used == 0


async def test_free_memory_is_given_back_after_much_was_used(monkeypatch):
    given = []
    monkeypatch.setattr("nbkeras.serving.limits.give_back_free_memory", lambda: given.append(1))
    server = Server(header_seconds=0.05)
    budget = server.shared.budget
    watching = asyncio.ensure_future(server.shared.watch())
    for size in (1 << 20, 100 << 20):
        with budget.share(size):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        assert len(given) == size >> 26
    watching.cancel()


async def test_answers_that_clients_do_not_read_are_bounded_together():
    server = Server(header_seconds=0.05)
    many = [server.connect() for _ in range(3)]
    for each in many:
        each.state = ANSWER
        each.transport.unread = 450_000
    budget = server.shared.budget = Budget(1 << 20)
    watching = asyncio.ensure_future(server.shared.watch())
    await asyncio.sleep(0.1)
    watching.cancel()
    assert budget.used == 900_000
    assert sorted(each.transport.state for each in many) == ["aborted", "open", "open"]


async def test_the_time_of_headers_starts_with_their_first_byte(server):
    connection = server.connect()
    connection.data_received(post(1))
    await answered(connection)
    connection.since -= 50  # so long idle
    connection.data_received(b"GET /v2 HT")
    connection.check(asyncio.get_running_loop().time())
    assert connection.transport.state == "open"
    connection.check(asyncio.get_running_loop().time() + 11)
    assert statuses(connection) == [200, 408]


async def test_connections_of_a_server_that_ends():
    server = Server()
    busy, idle, late = (server.connect() for _ in range(3))
    busy.data_received(post(1))
    await settle()
    ending = asyncio.ensure_future(server.shared.end(10))
    await settle()
    late.data_received(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n")  # was on its way
    await answered(late)
    assert late.transport.state == "closed"
    assert b"connection: close" in late.transport.sent
    server.model.gate.set()
    await answered(busy)
    assert busy.transport.state == "closed"
    assert b"connection: close" in busy.transport.sent
    assert idle.transport.state == "open"
    await asyncio.sleep(0.6)
    assert idle.transport.state == "closed" and not ending.done()
    for each in (busy, idle, late):
        each.connection_lost(None)
    assert await ending


async def test_a_request_that_is_not_computed_in_time_before_the_end_is_told(caplog):
    server = Server()
    running, connection = server.connect(), server.connect()
    running.data_received(post(1))
    await settle()
    connection.data_received(post(2))
    await settle()
    assert not await server.shared.end(0)
    await answered(connection)
    assert statuses(connection) == [503]
    assert b"the server ended before the request was computed" in connection.transport.sent
    server.model.gate.set()
    await until(lambda: server.model.seen)
    await settle()
    assert server.model.seen == [1.0]
    assert "Traceback" not in caplog.text


async def test_a_request_that_cannot_be_read_is_refused_after_those_before_it_are_answered():
    server = Server()
    broken, slow = server.connect(), server.connect()
    broken.data_received(post(1) + post(2) + b"nonsense\r\n\r\n")
    slow.data_received(post(3) + post(4)[:-1])
    await settle()
    slow.check(asyncio.get_running_loop().time() + 1000)  # its time has not begun
    assert not broken.transport.sent and not slow.transport.sent
    server.model.gate.set()
    await answered(broken, 3)
    await answered(slow)
    await settle()
    slow.check(asyncio.get_running_loop().time() + 1000)
    assert statuses(broken) == [200, 200, 400] and statuses(slow) == [200, 408]
    assert {broken.transport.state, slow.transport.state} == {"closed"}
    slow.connection_lost(None)
    await settle()
    assert no_task_is_left()


def chunked(*lines):
    body = post(1).partition(b"\r\n\r\n")[2]
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n" % (len(body), body) + b"".join(line + b"\r\n" for line in lines)


async def test_trailers_are_no_headers(server):
    connection = server.connect()
    connection.data_received(chunked(b"inference-header-content-length: 3", b"content-encoding: gzip", b""))
    await answered(connection)
    assert statuses(connection) == [200]


@pytest.mark.parametrize("what", ["trailers", "a trailer", "an extension"])
async def test_what_comes_after_a_body_is_limited_as_headers_are(what):
    """Else a client could fill the memory within the time for a body."""
    server = Server()
    connection = server.connect()
    connection.data_received(chunked()[:-2] if what == "an extension" else chunked())
    piece = {"trailers": b"x: y\r\n" * 1700, "a trailer": b"x" * 10_000, "an extension": b";" + b"x" * 10_000}[what]
    for _ in range(6):
        connection.data_received(piece)
    assert not connection.transport.is_closing()
    connection.data_received(piece)
    assert statuses(connection) == [431] and connection.transport.is_closing()
    connection.connection_lost(None)
    await settle()
    assert no_task_is_left()


async def test_a_target_that_is_no_path_is_told_so():
    server = Server()
    for line in (b"GET http://[::1/", b"CONNECT a:80"):
        connection = server.connect()
        connection.data_received(line + b" HTTP/1.1\r\nhost: test\r\n\r\n")
        await settle()
        assert statuses(connection) == [400]
    assert b"its target is not a path" in connection.transport.sent


BODY = post(1).partition(b"\r\n\r\n")[2]
SIZED = f"content-length: {len(BODY)}"


@pytest.mark.parametrize(
    ("version", "lines", "status", "sent"),
    [
        ("1.1", [SIZED], 400, "must have exactly one header Host, received 0"),
        ("1.1", ["host: a", SIZED, "host: a"], 400, "must have exactly one header Host, received 2"),
        ("1.0", ["host: a", SIZED, "host: b"], 400, "must have exactly one header Host, received 2"),
        ("1.1", ["host: a b", SIZED], 400, "must be a name and perhaps a port, received 'a b'"),
        ("1.1", ["host: a/b", SIZED], 400, "must be a name and perhaps a port"),
        ("1.1", ["host: a:80x", SIZED], 400, "must be a name and perhaps a port"),
        ("1.1", ["host: a", "transfer-encoding: gzip, chunked"], 501, "must be only chunked, received 'gzip, chunked'"),
        ("1.1", ["host: a", "transfer-encoding: gzip", "transfer-encoding: chunked"], 501, "must be only chunked"),
        ("1.1", ["host: a", "transfer-encoding: gzip"], 400, "must be only chunked, received 'gzip'"),
        ("1.1", ["host: a", "transfer-encoding: chunked, chunked"], 400, "Transfer-Encoding"),
        ("1.1", ["host: a", "transfer-encoding: identity"], 400, "must be only chunked"),
        ("1.0", ["host: a", "transfer-encoding: chunked"], 400, "HTTP/1.0 request must not have Transfer-Encoding"),
        ("1.1", ["host: a", SIZED, SIZED], 400, "not a valid HTTP request"),
        ("1.1", ["host: a", SIZED, "content-length: 3"], 400, "not a valid HTTP request"),
        ("1.1", ["host: a", SIZED, "transfer-encoding: chunked"], 400, "not a valid HTTP request"),
        ("1.1", ["host: my_server:8000", SIZED], 200, '{"model_name":"m"'),
        ("1.1", ["Host: [::1]:8000", SIZED], 200, '{"model_name":"m"'),
        ("1.1", ["host:", SIZED], 200, '{"model_name":"m"'),
        ("1.0", [SIZED], 200, '{"model_name":"m"'),
        ("1.0", ["host: 127.0.0.1", SIZED], 200, '{"model_name":"m"'),
        ("1.1", ["host: a", "Transfer-Encoding: Chunked"], 200, '{"model_name":"m"'),
    ],
)
async def test_heads_that_the_rules_of_http_refuse_and_allow(server, version, lines, status, sent):
    connection = server.connect()
    head = "\r\n".join([f"POST /v2/models/m/infer HTTP/{version}", *lines, "", ""]).encode()
    body = BODY if SIZED in lines else b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    connection.data_received(post(2) + head + body)
    await answered(connection, 2)
    assert statuses(connection) == [200, status] and sent in connection.transport.sent.decode()
    assert connection.transport.is_closing() == (status != 200 or version == "1.0")
    assert server.model.seen == [2.0, 1.0][: 1 + (status == 200)]


async def test_many_requests_at_once_are_read_as_they_are_answered():
    """Each costs memory and time when it is parsed: a client may not have others wait for all of its own."""
    server = Server()
    many, other = server.connect(), server.connect()
    count = 2000
    small = b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n"
    many.data_received(small * count + post(1))
    assert len(many.requests) < 500
    many.data_received(small)
    other.data_received(small)
    await answered(other)
    assert len(statuses(many)) < count
    server.model.gate.set()
    await answered(many, count + 2)
    assert statuses(many) == [200] * (count + 2)
    assert not many.rest and not many.requests


GET = b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n"


async def test_answers_have_the_date_of_their_second(server):
    watching = asyncio.ensure_future(server.shared.watch())
    await settle()
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    connection = server.connect()
    connection.data_received(post(1) + b"nonsense\r\n\r\n")
    await answered(connection, 2)
    dates = re.findall(r"\r\ndate: (.*? GMT)\r\n", connection.transport.sent.decode())
    assert len(dates) == 2
    for date in dates:
        assert abs(email.utils.parsedate_to_datetime(date) - before) <= datetime.timedelta(seconds=1)
    watching.cancel()


async def test_a_head_request_has_the_headers_of_a_get_and_no_body(server):
    connection = server.connect()
    connection.data_received(GET.replace(b"GET", b"HEAD") + GET)
    await answered(connection, 2)
    empty, whole = (part.partition(b"\r\n\r\n") for part in connection.transport.sent.split(b"HTTP/1.1 ")[1:])
    assert empty[0] == whole[0] and (empty[2], whole[2]) == (b"", b'{"live":true}')


async def test_the_connection_of_a_client_of_http_1_0_is_closed(server):
    connection = server.connect()
    connection.data_received(b"GET /v2/health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    await answered(connection)
    assert b"\r\nconnection: close\r\n" in connection.transport.sent and connection.transport.state == "closed"


async def test_what_follows_a_request_to_close_is_not_answered(server):
    connection = server.connect()
    connection.data_received(post(1, "connection: close") + post(2) + GET)
    await settle()
    assert statuses(connection) == [200] and connection.transport.state == "closed"
    connection.connection_lost(None)
    assert server.model.seen == [1.0]


@pytest.mark.parametrize("where", ["nothing", "models/m/infers", "models/m"])
async def test_a_body_that_nobody_wants_is_not_waited_for(server, where):
    head = f"POST /v2/{where} HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n"
    connection, careful = server.connect(), server.connect()
    connection.data_received(f"{head}\r\n".encode())
    await answered(connection)
    for _ in range(10):
        connection.data_received(bytes(100_000))
    connection.data_received(GET)
    await answered(connection, 2)
    assert statuses(connection) == [405 if where == "models/m" else 404, 200]
    assert connection.transport.state == "open"
    careful.data_received(f"{head}expect: 100-continue\r\n\r\n".encode())
    await answered(careful)
    assert statuses(careful) == statuses(connection)[:1]
    assert careful.transport.state == "closed" and b"\r\nconnection: close\r\n" in careful.transport.sent


async def test_a_body_is_asked_for_after_earlier_answers():
    server = Server()
    connection = server.connect()
    head = post(2, "expect: 100-continue")[: -len(BODY)]
    connection.data_received(post(1) + head)
    await settle()
    assert not connection.transport.sent
    server.model.gate.set()
    await answered(connection, 2)
    assert statuses(connection) == [200, 100]
    connection.data_received(BODY)
    await answered(connection, 3)
    assert statuses(connection) == [200, 100, 200]


async def test_an_early_error_comes_after_earlier_answers():
    server = Server()
    connection = server.connect()
    connection.data_received(post(1) + post(2, "content-type: text/csv") + post(3))
    await settle()
    assert not connection.transport.sent
    server.model.gate.set()
    await answered(connection, 3)
    assert statuses(connection) == server.seen.statuses == [200, 415, 200]


async def test_a_mistake_of_the_server_is_told_once_and_the_connection_goes_on(server, caplog):
    server.service.server_metadata = None
    connection = server.connect()
    connection.data_received(GET.replace(b"/health/live", b"") + GET)
    await answered(connection, 2)
    assert statuses(connection) == [500, 200] and b"the server failed; its log has" in connection.transport.sent
    assert caplog.text.count("Traceback") == 1


async def test_stored_requests_for_which_there_is_no_memory_are_refused_after_the_answers_to_others():
    server = Server()
    connection, budget = server.connect(), server.shared.budget
    budget.limit = 150_000
    connection.data_received(post(1) + post(2))
    for _ in range(2):
        connection.data_received(GET * 2000)  # 90,000 bytes
    server.model.gate.set()
    await answered(connection, 3)
    assert statuses(connection) == [200, 200, 503] and connection.transport.state == "closed"
    assert server.seen.refusals == [503] and budget.used == 0


@pytest.mark.parametrize("moment", ["in its body", "at once", "later"])
async def test_a_client_that_leaves_is_counted_and_its_memory_comes_back(moment):
    server = Server()
    connection = server.connect()
    connection.data_received(post(1)[:-5] if moment == "in its body" else post(1) + post(2)[:-5])
    assert server.service.budget.used > 0
    if moment == "later":
        await settle()
    connection.connection_lost(None)
    await settle()
    assert server.seen.statuses == [499] * (1 if moment == "in its body" else 2)
    server.model.gate.set()
    await until(lambda: not server.service.budget.used and (server.model.seen or moment != "later"))
    assert no_task_is_left() and server.service.budget.used == server.service.in_flight == 0
    assert server.model.seen == ([1.0] if moment == "later" else [])


async def test_a_client_that_does_not_read_has_its_next_request_wait_and_is_cut(server):
    deaf, slow = server.connect(), server.connect()
    for connection in (deaf, slow):
        connection.data_received(post(1))
        await answered(connection)
        connection.pause_writing()  # there is more than the socket takes
        connection.data_received(post(2) + post(3))
    await settle()
    assert server.model.seen == [1.0, 1.0]
    now = asyncio.get_running_loop().time()
    for connection in (deaf, slow):
        connection.check(now + 50)
        assert connection.transport.state == "open"
    slow.resume_writing()
    await answered(slow, 3)
    deaf.check(now + 65)
    slow.check(now + 65)
    assert (deaf.transport.state, slow.transport.state) == ("aborted", "open")
    deaf.connection_lost(None)


async def test_a_client_that_sends_much_gives_others_their_turn(server):
    connection = server.connect()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: 10000000\r\n\r\n"
    connection.data_received(head + bytes(1000))
    assert connection.transport.is_reading
    for _ in range(3):
        connection.data_received(bytes(200_000))
        assert not connection.transport.is_reading
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connection.transport.is_reading
    connection.connection_lost(None)


async def test_a_load_that_is_not_done_in_time_before_the_end_is_told(server):
    class Control:
        async def change(self, do, name, parameters):
            await asyncio.sleep(60)

    server.service.control = Control()
    connection = server.connect()
    connection.data_received(b"POST /v2/repository/models/m/load HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await settle()
    assert not await server.shared.end(0)
    assert statuses(connection) == [503] and b"the server ended before" in connection.transport.sent


async def test_a_server_without_connections_ends_at_once(server):
    start = time.monotonic()
    assert await server.shared.end(10)
    assert time.monotonic() - start < 0.4


async def test_a_client_does_not_wait_if_the_server_fails_to_answer(server):
    def request(request):
        raise RuntimeError("a mistake in the metrics")

    server.seen.request = request
    connection = server.connect()
    connection.data_received(post(1))
    task = connection.task
    await settle()
    assert connection.transport.state == "aborted" and not connection.transport.sent
    with pytest.raises(RuntimeError, match="a mistake in the metrics"):
        task.result()


async def test_a_connection_whose_body_ends_after_its_answer_ends_with_the_server(server):
    connection = server.connect()
    connection.data_received(b"POST /v2/none HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n")
    await answered(connection)
    ending = asyncio.ensure_future(server.shared.end(10))
    await asyncio.sleep(0.6)
    assert connection.transport.state == "open"
    connection.data_received(b"123456789")
    await asyncio.sleep(0.1)
    assert connection.transport.state == "closed"
    connection.connection_lost(None)
    assert await ending


async def half_closed(server, sent):
    """All bytes that a client receives which sends, ends its side and reads until the server ends the other."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await loop.connect_accepted_socket(lambda: Connection(server.shared), theirs)
        sending = asyncio.ensure_future(loop.sock_sendall(ours, sent))
        sending.add_done_callback(lambda _: ours.shutdown(socket.SHUT_WR))
        found = b""
        while part := await asyncio.wait_for(loop.sock_recv(ours, 1 << 16), 5):
            found += part
            await asyncio.sleep(0)
        await sending
    return found


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "sent, expected",
    [
        (b"", []),
        (GET, [200]),
        (b"GET /v2/health/live HTTP/1.0\r\n\r\n", [200]),
        (post(1), [200]),
        (post(1, "connection: close"), [200]),
        (b"".join(map(post, range(50))), [200] * 50),
        (GET + post(1)[:40], [200]),  # within the headers
        (post(1)[:40], []),
        (post(1)[:-5], [400]),
        (GET + post(1)[:-5], [200, 400]),
        (chunked(), [400]),
        (b"POST /v2/none HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n123", [404]),
        (post([0.5] * 8_000), [200]),  # more than sockets hold, in both directions
    ],
    ids="nothing GET HTTP/1.0 POST close pipelined second-head head body second-body chunks unwanted-body large".split(),
)
async def test_a_client_that_ends_its_side_gets_its_answers(server, loop, sent, expected):
    found = await half_closed(server, sent)
    assert [int(part[:3]) for part in found.split(b"HTTP/1.1 ")[1:]] == expected
    if expected == [400]:
        assert b"ended its side of the connection" in found
    assert not server.shared.connections


async def test_a_client_that_ends_its_side_waits_for_a_slow_model_and_is_cut_if_it_does_not_read(server):
    server.model.gate.clear()
    connection = server.connect()
    connection.data_received(post(1))
    await settle()
    assert connection.eof_received() and connection.transport.state == "open"
    server.model.gate.set()
    await answered(connection)
    assert connection.transport.state == "closed" and b"connection: close" in connection.transport.sent
    now = asyncio.get_running_loop().time()
    connection.check(now + 50)
    assert connection.transport.state == "closed"
    connection.check(now + 65)
    assert connection.transport.state == "aborted"
    connection.connection_lost(None)


@pytest.mark.parametrize("jump", [366 * 86400.0, -366 * 86400.0], ids=["forward", "back"])
async def test_a_clock_that_jumps_changes_no_limit_deadline_rate_or_sequence(server, monkeypatch, jump):
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    stream = Sequential([Input((None, 1), name="x"), layers.SimpleRNN(1)]).stream().frozen(batch_sizes=(1,))

    async def step(server, **flags):
        inputs, parameters = {"x": np.ones((1, 1, 1), "float32")}, {"sequence_id": 7, **flags}
        return (await infer(server.service, name="s", inputs=inputs, parameters=parameters, timeout=5.0)).outputs[0][1]

    service = server.service
    metrics = Metrics(SharedMetrics(1))
    service.log = RequestLog(access=False, slow=1.0)
    service.sequences.idle = 60.0
    service.repository.set("s", "1", stream)
    watching = asyncio.ensure_future(server.shared.watch())
    connection, late = server.connect(), server.connect()
    first = await step(server, sequence_start=True)
    server.model.gate.clear()
    connection.data_received(post(1, "x-request-timeout-ms: 5000"))
    late.data_received(post(2)[:-5])
    before = await page.status(service, metrics)
    await settle()
    offset[0] = jump  # while one request is computed and the body of another one arrives
    server.model.gate.set()
    await answered(connection)
    connection.data_received(post(3, "x-request-timeout-ms: 5000"))
    late.data_received(post(2)[-5:])
    await answered(connection, 2)
    await answered(late)
    assert statuses(connection) == [200] * 2 and statuses(late) == [200]
    assert max(server.seen.seconds) < 5
    service.sequences.forget_idle()
    assert (await step(server)).item() != first.item()  # the state went on
    await step(server, sequence_end=True)
    after = await page.status(service, metrics)
    assert 0 < after["time"] - before["time"] < 5 and 0 <= after["time"] - after["started"] < 60
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert connection.transport.state == late.transport.state == "open"
