"""The life of a whole server, in real processes: workers that are killed, models that are swapped, and the end."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import pytest

import nbkeras
from nbkeras import layers

pytest.importorskip("httptools")

from nbkeras.serving import orders
from nbkeras.serving.board import SharedMetrics
from nbkeras.serving.changes import Changes
from nbkeras.serving.options import Options
from nbkeras.serving.repository import Repository

ENVIRONMENT = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]})


def save(path, value, width=2):
    """A model whose answer is `value` for zeros; written at once."""
    x = nbkeras.Input((2,), name="x")
    hidden = layers.Dense(width, kernel_initializer="zeros")(x)
    bias = nbkeras.initializers.Constant(value)
    y = layers.Dense(1, kernel_initializer="zeros", bias_initializer=bias)(hidden)
    unfinished = f"{path}.new.keras"
    nbkeras.Model(x, y).save(unfinished)
    os.replace(unfinished, path)


def wait_for(condition, seconds=60.0, why=()):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "".join(why)
        time.sleep(0.02)
    return found


def alive(process):
    """Whether a process of a number lives; one that has ended and was not waited for counts as none."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class Server:
    """`nbkeras serve`, or a script that runs a Supervisor, with its log."""

    def __init__(self, folder, *arguments, script=None):
        self.folder = folder
        command = [
            sys.executable,
            *(["-c", script] if script else ["-m", "nbkeras", "serve", "--port", "0", *arguments]),
        ]
        environment = ENVIRONMENT | {"TMPDIR": str(folder)}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stderr.readline, "")))
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def end(self):
        """The exit code."""
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=60)
        self.process.stderr.close()
        return code

    def log(self, pattern, count=1):
        """The matches of a pattern in the log, when there are enough of them."""

        def found():
            matches = list(re.finditer(pattern, "".join(self.lines)))
            assert len(matches) >= count or self.process.poll() is None, "".join(self.lines)
            return matches if len(matches) >= count else None

        return wait_for(found, why=self.lines)

    @property
    def port(self):
        return int(self.log(r"listening on http://127\.0\.0\.1:(\d+)")[0][1])

    def workers(self):
        return [int(found[1]) for found in self.log(r"worker \d+ started \(process (\d+)\)")]

    def folders(self):
        return [name for name in os.listdir(self.folder) if name.startswith("nbkeras-serve-")]


def request(connection, method, path, body=None):
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


@contextlib.contextmanager
def connected(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def answer_of(connection, name="m"):
    status, found = request(connection, "POST", f"/v2/models/{name}/infer", BODY)
    return found["outputs"][0]["data"][0] if status == 200 else (status, found)


class Load:
    """Clients that ask and ask, each over one connection; a new one if it was closed."""

    def __init__(self, port, clients=4):
        self.port, self.answers, self.lost, self.refused = port, [], [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        while not self._stop.is_set():
            with connected(self.port) as connection:
                try:
                    connection.connect()
                except OSError:
                    self.refused += 1
                    time.sleep(0.05)
                    continue
                try:
                    while not self._stop.is_set():
                        self.answers.append(answer_of(connection))
                        time.sleep(0.002)
                        if connection.sock is None:  # the answer said that the server closes the connection
                            break
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.answers) > 8)
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    save(folder / "m.keras", 1.0)
    with Server(folder, "m.keras", "--workers", "2", "--control") as started:
        yield started
        started.process.send_signal(signal.SIGTERM)
        assert started.end() == 0 and not started.folders(), "".join(started.lines)


def test_a_killed_worker_loses_its_own_requests_alone_and_is_started_again(server):
    save(server.folder / "m.keras", 1.0)
    before = server.workers()
    with Load(server.port) as load:
        os.kill(before[-1], signal.SIGKILL)
        server.log(rf"process {before[-1]}\) was killed by SIGKILL")
        wait_for(lambda: len(server.workers()) > len(before))
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 200)
    assert len(load.lost) <= 4 and not load.refused
    assert all(isinstance(answer, float) for answer in load.answers)
    assert not alive(before[-1]) and alive(server.workers()[-1])


def test_a_swap_under_load_answers_with_the_old_or_the_new_model_alone(server):
    with Load(server.port) as load:
        old = load.answers[-1]
        for new in (20.0, 30.0):
            save(server.folder / "m.keras", new)
            served = len(server.log("model 'm' version '1' is served"))
            server.process.send_signal(signal.SIGHUP)
            server.log("model 'm' version '1' is served", served + 1)
            place = len(load.answers) + 4  # those that were on their way
            wait_for(lambda place=place: len(load.answers) > place + 50)
            assert set(load.answers[place:]) == {new}
    assert set(load.answers) == {old, 20.0, 30.0} and not load.lost and not load.refused
    assert len([name for name in os.listdir(server.folder / server.folders()[0]) if name.endswith(".frozen")]) == 1


def told_by_all(server, name="m"):
    """What each worker says about a model's file; the state and reason in the index; the metric of its file."""
    found = set()
    for _ in range(6):  # connections go to any worker
        with connected(server.port) as one:
            parameters = request(one, "GET", f"/v2/models/{name}")[1]["parameters"]
            [listed] = [each for each in request(one, "POST", "/v2/repository/index")[1] if each["name"] == name]
            one.request("GET", "/metrics")
            metrics = re.findall(
                r'^nbkeras_serving_model_info\{model="m",sha256="(\w+)",version="1"\} 1.0$',
                one.getresponse().read().decode(),
                re.M,
            )
            found.add((json.dumps(parameters), listed["state"], listed["reason"], *metrics))
    return found


def test_a_broken_file_changes_nothing_and_is_told_until_the_next_good_one(server):
    path = server.folder / "m.keras"
    with connected(server.port) as connection:
        assert request(connection, "POST", "/v2/repository/models/m/load", "{}")[0] == 200
        old, good = answer_of(connection), path.read_bytes()
        source = request(connection, "GET", "/v2/models/m/versions/1")[1]["parameters"]
        digest = hashlib.sha256(good).hexdigest()
        assert (source["sha256"], source["bytes"]) == (digest, len(good)) and re.fullmatch(TIME, source["modified"])
        assert told_by_all(server) == {(json.dumps(source), "READY", "", digest)}
        path.write_bytes(b"broken")
        server.process.send_signal(signal.SIGHUP)
        server.log(
            "model 'm' version '1' could not be loaded, so the version served before stays: .*is no model|.*not a"
        )
        assert answer_of(connection) == old
        assert request(connection, "GET", "/v2/health/ready")[0] == 200
        for worker in filter(alive, server.workers()):
            os.kill(worker, signal.SIGKILL)  # their successors tell the same
        [(told, state, reason, metric)] = told_by_all(server)
        told = json.loads(told)
        connection.close()  # to a killed worker
        assert source == {name: told[name] for name in source} and (state, metric) == ("READY", digest)
        assert "not a model" in told["failed_load"] and re.fullmatch(TIME, told["failed_load_time"])
        assert reason == f"the last load failed at {told['failed_load_time']}: {told['failed_load']}"
        place = len(server.lines)
        path.write_bytes(good)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told_by_all(server) == {(json.dumps(source), "READY", "", digest)}, why=server.lines)
        assert not re.search("is served", "".join(server.lines[place:]))  # the same bytes are not loaded again
        path.write_bytes(b"broken")
        status, found = request(connection, "POST", "/v2/repository/models/m/load", "{}")
        assert status == 400 and "model" in found["error"]
        save(path, 9.0)
        assert request(connection, "POST", "/v2/repository/models/m/load", "{}")[0] == 200
        [(told, state, reason, metric)] = told_by_all(server)
        assert "failed_load" not in told and (state, reason) == ("READY", "")
        assert metric == hashlib.sha256(path.read_bytes()).hexdigest()
        server.log(rf"model 'm' version '1' is served \(.*; file of {TIME}, sha256 {metric}\)")


def test_the_api_answers_when_all_workers_have_the_new_model(server):
    save(server.folder / "m.keras", 7.0)
    with connected(server.port) as connection:
        assert request(connection, "POST", "/v2/repository/models/m/load", "{}")[0] == 200
        assert answer_of(connection) == 7.0
        for _ in range(8):  # connections go to any worker
            with connected(server.port) as other:
                assert answer_of(other) == 7.0
        assert request(connection, "POST", "/v2/repository/models/m/unload", "{}")[0] == 200
        for _ in range(8):
            with connected(server.port) as other:
                assert answer_of(other)[0] == 404
        assert request(connection, "POST", "/v2/repository/models/m/load", "{}")[0] == 200
        assert answer_of(connection) == 7.0
        assert request(connection, "POST", "/v2/repository/models/other/load", "{}")[0] == 404


def test_a_port_in_use(server, tmp_path):
    port = str(server.port)
    with Server(tmp_path, str(server.folder / "m.keras"), "--port", port) as second:
        assert second.end() == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use, by another server" in "".join(second.lines)
    assert not second.folders()


def test_models_come_and_go_with_the_file_of_models(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        save(tmp_path / f"{name}.keras", value)
    (tmp_path / "models.toml").write_text('[[model]]\npath = "a.keras"\n')
    with Server(tmp_path, "--config", "models.toml") as server, connected(server.port) as connection:
        assert answer_of(connection, "a") == 1.0 and answer_of(connection, "b")[0] == 404
        changed = '[server]\nmax_body_mb = 9\n[[model]]\npath = "b.keras"\nbatch_sizes = [2]\n'
        (tmp_path / "models.toml").write_text(changed)
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'b' version '1' is served")
        server.log("these options change only with a restart: max_body_mb")
        assert answer_of(connection, "b") == 2.0 and answer_of(connection, "a")[0] == 404
        (tmp_path / "models.toml").write_text("[[model]")
        server.process.send_signal(signal.SIGHUP)
        server.log("SIGHUP received, but nothing is changed: models.toml is not a TOML file")
        assert answer_of(connection, "b") == 2.0


def test_signals_that_wait_for_a_change_count_as_one():
    read = []

    def read_options():
        read.append(Options())
        return read[-1]

    async def run():
        changes = Changes(Options(), read_options, types.SimpleNamespace(board=SharedMetrics(1)), None)
        async with changes._turn:
            signals = [asyncio.create_task(changes.read_again()) for _ in range(100)]
            await asyncio.sleep(0)
            assert sum(task.done() for task in signals) == 99 and not read
        await asyncio.gather(*signals)
        assert len(read) == 1
        await changes.read_again()
        assert len(read) == 2

    asyncio.run(run())


def test_a_broken_new_version_or_model_leaves_the_server_ready_and_is_told(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    save(tmp_path / "m" / "1" / "model.keras", 1.0)
    (tmp_path / "models.toml").write_text('[[model]]\npath = "m"\n')
    with Server(tmp_path, "--config", "models.toml") as server, connected(server.port) as connection:
        assert request(connection, "GET", "/v2/health/ready") == (200, {"ready": True})
        (tmp_path / "m" / "2").mkdir()
        (tmp_path / "m" / "2" / "model.keras").write_bytes(b"broken")
        os.mkfifo(tmp_path / "new.keras")  # a new model is loaded until something is written
        (tmp_path / "models.toml").write_text('[[model]]\npath = "m"\n[[model]]\npath = "new.keras"\n')
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '2' could not be loaded, so it is not served: .*model.keras' is not a model")

        def states():
            found = request(connection, "POST", "/v2/repository/index")[1]
            return {(each["name"], each["version"]): (each["state"], each["reason"]) for each in found}

        wait_for(lambda: states().get(("new", "1")) == ("LOADING", ""))
        assert request(connection, "GET", "/v2/health/ready") == (200, {"ready": True})
        with contextlib.suppress(BrokenPipeError):  # the reader may be done with it before
            (tmp_path / "new.keras").write_bytes(b"broken too")
        server.log("model 'new' version '1' could not be loaded, so it is not served")
        assert request(connection, "GET", "/v2/health/ready") == (200, {"ready": True})
        found = states()
        assert found["m", "1"] == ("READY", "")
        for key in (("m", "2"), ("new", "1")):
            assert found[key][0] == "UNAVAILABLE" and found[key][1]
        assert request(connection, "GET", "/v2/models/m/ready") == (200, {"name": "m", "ready": True})
        status, told = request(connection, "GET", "/v2/models/m/versions/2/ready")
        assert status == 404 and "version '2' is not available: " in told["error"] and "is not a model" in told["error"]
        connection.request("GET", "/metrics")
        assert 'model_ready{model="m",version="2"} 0.0' in connection.getresponse().read().decode()
        assert answer_of(connection) == 1.0
        os.kill(server.workers()[0], signal.SIGKILL)  # the next one knows it too
        with connected(server.port) as other:
            assert request(other, "GET", "/v2/health/ready") == (200, {"ready": True})
            found = request(other, "POST", "/v2/repository/index")[1]
            assert [each["state"] for each in found] == ["READY", "UNAVAILABLE", "UNAVAILABLE"]
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_server_is_not_ready_before_all_models_of_the_start_are_loaded(tmp_path):
    save(tmp_path / "a.keras", 1.0)
    os.mkfifo(tmp_path / "b.keras")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Server(tmp_path, "a.keras", "b.keras", "--port", str(port)) as server:
        server.log("model 'a' version '1' is served")
        with connected(port) as connection:
            assert request(connection, "GET", "/v2/health/live")[0] == 200
            assert request(connection, "GET", "/v2/health/ready")[0] == 503
            assert answer_of(connection, "a") == 1.0
            assert answer_of(connection, "b") == (503, {"error": "model 'b' is being loaded: the server starts"})
        os.kill(server.workers()[0], signal.SIGKILL)
        with connected(port) as connection:
            assert request(connection, "GET", "/v2/health/ready")[0] == 503


def test_sigterm_under_load_loses_no_request(tmp_path):
    save(tmp_path / "m.keras", 1.0, width=1500)
    with Server(tmp_path, "m.keras", "--workers", "2", "--drain-seconds", "10") as server:
        with Load(server.port, clients=6) as load:
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 0, "".join(server.lines)
            assert time.monotonic() - start < 8
            wait_for(lambda: load.refused > 6)
    assert not load.lost and set(load.answers) == {1.0}
    assert os.listdir(tmp_path) == ["m.keras"] and not any(map(alive, server.workers()))


def test_requests_that_take_longer_than_the_end_may_are_answered_with_503(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with Server(tmp_path, "m.keras", "--max-wait-ms", "10000", "--drain-seconds", "0.3") as server:
        with connected(server.port) as connection:
            connection.request("POST", "/v2/models/m/infer", BODY, {"Content-Type": "application/json"})
            time.sleep(0.3)
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 1 and time.monotonic() - start < 5
            answer = connection.getresponse()
            assert (answer.status, b"the server ended before" in answer.read()) == (503, True)
    assert not server.folders()


def test_a_file_that_is_broken_at_the_start(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"broken")
    with Server(tmp_path, "m.keras") as server:
        assert server.end() == 2
    assert "model 'm' version '1' could not be loaded" in "".join(server.lines)
    assert os.listdir(tmp_path) == ["m.keras"] and not any(map(alive, server.workers()))


def test_workers_of_a_killed_supervisor_end_and_leave_nothing(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with Server(tmp_path, "m.keras", "--workers", "2") as server:
        workers = server.workers() if server.port else []
        server.process.kill()
        server.end()
        wait_for(lambda: not any(map(alive, workers)))
    assert len(workers) == 2 and os.listdir(tmp_path) == ["m.keras"]


# -------------------- workers that do not work --------------------

SCRIPT = """
import logging, os, sys, time
from nbkeras.serving import orders, worker
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.supervisor import Supervisor
logging.basicConfig(level="INFO")
options = Options(port=0, workers=2, worker_seconds=1, drain_seconds={seconds})
{more}
sys.exit(Supervisor(lambda: options, {work}).run())
"""


def test_workers_that_end_again_and_again(tmp_path):
    with Server(tmp_path, script=SCRIPT.format(seconds=1, more="", work="lambda seat: 3")) as server:
        assert server.end() == 1
    assert len(server.log("ended with exit code 3")) >= 6
    server.log("ended 6 times before it could answer requests: the server ends")
    assert not server.folders()


@pytest.mark.parametrize("signals", [1, 2], ids=["late", "told twice"])
def test_a_worker_that_does_not_end_is_killed(tmp_path, signals):
    seconds = 0.2 if signals == 1 else 60
    with Server(
        tmp_path, script=SCRIPT.format(seconds=seconds, more="", work="lambda seat: time.sleep(100)")
    ) as server:
        workers = server.log(r"worker \d started \(process (\d+)\)", 2)
        server.process.send_signal(signal.SIGINT)
        if signals == 2:
            server.log("SIGINT received: the server ends")
            time.sleep(0.6)
            server.process.send_signal(signal.SIGINT)
        assert server.end() == 1
    assert not any(alive(int(found[1])) for found in workers) and not server.folders()


def test_a_worker_that_hangs_is_started_again(tmp_path):
    with Server(tmp_path, script=SCRIPT.format(seconds=1, more="", work="worker.work")) as server:
        hanging = server.workers()[0]
        server.log("worker 1 started")
        os.kill(hanging, signal.SIGSTOP)
        server.log(rf"worker 0 \(process {hanging}\) has not answered for 1 s and is killed")
        server.log("worker 0 started", 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_server_that_was_suspended_as_a_whole_keeps_its_workers(tmp_path):
    with Server(tmp_path, script=SCRIPT.format(seconds=1, more="", work="worker.work")) as server:
        server.log(r"worker \d started", 2)
        processes = [*server.workers(), server.process.pid]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in processes:
                os.kill(process, number)
            time.sleep(2.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    assert len(server.workers()) == 2 and "has not answered" not in "".join(server.lines)


def test_a_worker_whose_channel_is_closed_is_started_again(tmp_path):
    script = SCRIPT.format(seconds=1, more="", work="lambda seat: (seat.channel.close(), time.sleep(100))")
    with Server(tmp_path, script=script) as server:
        assert server.end() == 1
    server.log("was killed by SIGKILL", 6)
    assert not any(map(alive, server.workers()))


BROKEN = """
from nbkeras.serving import changes

async def fail(self):
    raise RuntimeError("a defect")

changes.Changes.read_again = fail
"""


def test_a_defect_of_the_supervisor_ends_the_server_in_order(tmp_path):
    with Server(tmp_path, script=SCRIPT.format(seconds=1, more=BROKEN, work="worker.work")) as server:
        server.log(r"worker \d started", 2)
        server.process.send_signal(signal.SIGHUP)
        assert server.end() == 1
    server.log("the supervisor failed(.|\n)*RuntimeError: a defect")
    assert not any(map(alive, server.workers())) and not server.folders()


def test_a_load_that_waits_is_told_that_the_server_ends(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with Server(tmp_path, "m.keras", "--control") as server, connected(server.port) as connection:
        os.unlink(tmp_path / "m.keras")
        os.mkfifo(tmp_path / "m.keras")  # nobody writes into it
        connection.request("POST", "/v2/repository/models/m/load", "{}", {"Content-Type": "application/json"})
        loads = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
        wait_for(lambda: len(pathlib.Path(loads).read_text().split()) == 2)
        server.process.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (503, {"error": "the server ends"})
        assert server.end() == 0


def test_a_server_with_hundreds_of_models_starts(tmp_path):
    """A worker that starts once got a message for each, and counted as one that does not read them."""
    os.mkfifo(tmp_path / "m.keras")  # nobody writes into it, so that all wait for the first
    tables = [f'[[model]]\npath = "m.keras"\nname = "m{number}"\n' for number in range(600)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "models.toml").write_text(f"[server]\nport = {port}\n" + "".join(tables))
    with Server(tmp_path, "--config", "models.toml", "--port", str(port)) as server:

        def states():
            with contextlib.suppress(OSError), connected(port) as connection:
                return request(connection, "POST", "/v2/repository/index")[1]

        found = wait_for(states)
        assert len(found) == 600 and {each["state"] for each in found} == {"LOADING"}
        assert len(server.workers()) == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


def test_too_many_requests_to_load_are_refused():
    async def run():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        seat = types.SimpleNamespace(channel=theirs, marks={}, served=[])
        control = orders.ControlChannel(seat, Repository(), lambda: None)
        await control.prepare()
        asking = [asyncio.create_task(control.load("m", {})) for _ in range(40)]
        found, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in found]
        assert {(error.status, error.retry_after) for error in errors} == {(503, 1)} and len(errors) == 8
        assert json.loads(ours.recv(9999)) == {"begun": True}
        for _ in range(32):
            asked = json.loads(ours.recv(9999))
            answer = {"do": "answer", "number": asked["number"], "status": 200, "error": ""}
            ours.send(json.dumps(answer).encode())
        await asyncio.gather(*(task for task in asking if task not in found))
        asyncio.get_running_loop().remove_reader(theirs)
        ours.close()
        theirs.close()

    asyncio.run(run())


FAILING = """
options = Options(port=0, workers=2, models=(ModelOptions(name="m", path="m.keras"),))
opened, worker_1 = orders.opened, []

def open_or_fail(file):
    if worker_1 and os.path.exists("fail"):
        raise OSError("no memory")
    return opened(file)

def work(seat):
    worker_1.extend([1] * seat.index)
    return worker.work(seat)

orders.opened = open_or_fail
"""


def test_a_change_that_a_worker_cannot_make_is_taken_back_by_all(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with Server(tmp_path, script=SCRIPT.format(seconds=1, more=FAILING, work="work")) as server:
        port = server.port
        (tmp_path / "fail").touch()
        save(tmp_path / "m.keras", 2.0)
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '1' could not be loaded, so the version served before stays: OSError: no memory")
        for _ in range(8):
            with connected(port) as connection:
                assert answer_of(connection) == 1.0
        (tmp_path / "fail").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '1' is served", 2)
        with connected(port) as connection:
            assert answer_of(connection) == 2.0
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
