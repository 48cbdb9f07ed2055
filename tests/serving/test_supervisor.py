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
import threading
import time
import types

import pytest
from live_server import LiveServer, asked, wait_for

import nbkeras
from nbkeras import layers

pytest.importorskip("httptools")

from nbkeras.serving import control_channel
from nbkeras.serving.changes import Changes
from nbkeras.serving.options import Options
from nbkeras.serving.repository import Repository
from nbkeras.serving.shared_metrics import SharedMetrics

MODEL = [{"path": "m.keras"}]
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


def alive(process):
    """Whether a process of a number lives; one that has ended and was not waited for counts as none."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def answer_of(server, name="m"):
    return number_of(*server.ask(f"/v2/models/{name}/infer", BODY))


def number_of(status, found):
    return found["outputs"][0]["data"][0] if status == 200 else (status, found)


class Load:
    """Clients that ask and ask, each over one connection; a new one if it was closed."""

    def __init__(self, server, clients=4):
        self.server, self.answers, self.lost, self.refused = server, [], [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        while not self._stop.is_set():
            with self.server.connected() as connection:
                try:
                    connection.connect()
                except OSError:
                    self.refused += 1
                    time.sleep(0.05)
                    continue
                try:
                    while not self._stop.is_set():
                        self.answers.append(number_of(*asked(connection, "/v2/models/m/infer", BODY)))
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
    with LiveServer(folder, MODEL, workers=2, control=True) as started:
        yield started
        assert started.stop() == 0 and not started.left_files(), "".join(started.lines)


def test_a_killed_worker_loses_its_own_requests_alone_and_is_started_again(server):
    save(server.folder / "m.keras", 1.0)
    before = server.started()
    killed = before[-1][1]
    with Load(server) as load:
        os.kill(killed, signal.SIGKILL)
        server.log(rf"process {killed}\) was killed by SIGKILL")
        wait_for(lambda: len(server.started()) > len(before))
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 200)
    assert len(load.lost) <= 4 and not load.refused
    assert all(isinstance(answer, float) for answer in load.answers)
    assert not alive(killed) and alive(server.started()[-1][1])


def test_a_swap_under_load_answers_with_the_old_or_the_new_model_alone(server):
    with Load(server) as load:
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
    assert len([name for name in server.left_files() if name.endswith(".frozen")]) == 1


def told_by_all(server, name="m"):
    """What each worker says about a model's file; the state and reason in the index; the metric of its file."""
    found = set()
    for _ in range(6):  # connections go to any worker
        with server.connected() as one:
            parameters = asked(one, f"/v2/models/{name}")[1]["parameters"]
            [listed] = [each for each in asked(one, "/v2/repository/index", b"")[1] if each["name"] == name]
            metric = r'^nbkeras_serving_model_info\{model="m",sha256="(\w+)",version="1"\} 1.0$'
            metrics = re.findall(metric, asked(one, "/metrics")[1].decode(), re.M)
            found.add((json.dumps(parameters), listed["state"], listed["reason"], *metrics))
    return found


def load(server, name="m", do="load"):
    return server.ask(f"/v2/repository/models/{name}/{do}", "{}")


def test_a_broken_file_changes_nothing_and_is_told_until_the_next_good_one(server):
    path = server.folder / "m.keras"
    assert load(server)[0] == 200
    old, good = answer_of(server), path.read_bytes()
    source = server.ask("/v2/models/m/versions/1")[1]["parameters"]
    digest = hashlib.sha256(good).hexdigest()
    assert (source["sha256"], source["bytes"]) == (digest, len(good)) and re.fullmatch(TIME, source["modified"])
    assert told_by_all(server) == {(json.dumps(source), "READY", "", digest)}
    path.write_bytes(b"broken")
    server.process.send_signal(signal.SIGHUP)
    server.log("model 'm' version '1' could not be loaded, so the version served before stays: .*is no model|.*not a")
    assert answer_of(server) == old
    assert server.ask("/v2/health/ready")[0] == 200
    for worker in filter(alive, server.workers().values()):
        os.kill(worker, signal.SIGKILL)  # their successors tell the same
    [(told, state, reason, metric)] = told_by_all(server)
    told = json.loads(told)
    assert source == {name: told[name] for name in source} and (state, metric) == ("READY", digest)
    assert "not a model" in told["failed_load"] and re.fullmatch(TIME, told["failed_load_time"])
    assert reason == f"the last load failed at {told['failed_load_time']}: {told['failed_load']}"
    place = len(server.lines)
    path.write_bytes(good)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: told_by_all(server) == {(json.dumps(source), "READY", "", digest)}, why=server.lines)
    assert not server.find("is served", place)  # the same bytes are not loaded again
    path.write_bytes(b"broken")
    status, found = load(server)
    assert status == 400 and "model" in found["error"]
    save(path, 9.0)
    assert load(server)[0] == 200
    [(told, state, reason, metric)] = told_by_all(server)
    assert "failed_load" not in told and (state, reason) == ("READY", "")
    assert metric == hashlib.sha256(path.read_bytes()).hexdigest()
    server.log(rf"model 'm' version '1' is served \(.*; file of {TIME}, sha256 {metric}\)")


def test_the_api_answers_when_all_workers_have_the_new_model(server):
    save(server.folder / "m.keras", 7.0)
    assert load(server)[0] == 200
    assert {answer_of(server) for _ in range(9)} == {7.0}  # connections go to any worker
    assert load(server, do="unload")[0] == 200
    assert {answer_of(server)[0] for _ in range(8)} == {404}
    assert load(server)[0] == 200
    assert answer_of(server) == 7.0
    assert load(server, "other")[0] == 404


def test_a_port_in_use(server, tmp_path):
    with LiveServer(tmp_path, [{"path": server.folder / "m.keras"}], port=server.port, waits=False) as second:
        assert second.end() == 2
    assert second.find(f"cannot listen on 127.0.0.1 port {server.port}: Address already in use, by another server")
    assert not second.left_files()


def test_models_come_and_go_with_the_file_of_models(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        save(tmp_path / f"{name}.keras", value)
    with LiveServer(tmp_path, [{"path": "a.keras"}]) as server:
        assert answer_of(server, "a") == 1.0 and answer_of(server, "b")[0] == 404
        server.write([{"path": "b.keras", "batch_sizes": (2,)}], max_body_mb=9)
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'b' version '1' is served")
        server.log("these options change only with a restart: max_body_mb")
        assert answer_of(server, "b") == 2.0 and answer_of(server, "a")[0] == 404
        (tmp_path / "models.toml").write_text("[[model]")
        server.process.send_signal(signal.SIGHUP)
        server.log("SIGHUP received, but nothing is changed: models.toml is not a TOML file")
        assert answer_of(server, "b") == 2.0


async def test_signals_that_wait_for_a_change_count_as_one():
    read = []

    def read_options():
        read.append(Options())
        return read[-1]

    changes = Changes(Options(), read_options, types.SimpleNamespace(metrics=SharedMetrics(1)), None)
    async with changes._turn:
        signals = [asyncio.create_task(changes.read_again()) for _ in range(100)]
        await asyncio.sleep(0)
        assert sum(task.done() for task in signals) == 99 and not read
    await asyncio.gather(*signals)
    assert len(read) == 1
    await changes.read_again()
    assert len(read) == 2


def test_a_broken_new_version_or_model_leaves_the_server_ready_and_is_told(tmp_path):
    def states():
        found = server.ask("/v2/repository/index", b"")[1]
        return {(each["name"], each["version"]): (each["state"], each["reason"]) for each in found}

    (tmp_path / "m" / "1").mkdir(parents=True)
    save(tmp_path / "m" / "1" / "model.keras", 1.0)
    with LiveServer(tmp_path, [{"path": "m"}]) as server:
        assert server.ask("/v2/health/ready") == (200, {"ready": True})
        (tmp_path / "m" / "2").mkdir()
        (tmp_path / "m" / "2" / "model.keras").write_bytes(b"broken")
        os.mkfifo(tmp_path / "new.keras")  # a new model is loaded until something is written
        server.write([{"path": "m"}, {"path": "new.keras"}])
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '2' could not be loaded, so it is not served: .*model.keras' is not a model")
        wait_for(lambda: states().get(("new", "1")) == ("LOADING", ""))
        assert server.ask("/v2/health/ready") == (200, {"ready": True})
        with contextlib.suppress(BrokenPipeError):  # the reader may be done with it before
            (tmp_path / "new.keras").write_bytes(b"broken too")
        server.log("model 'new' version '1' could not be loaded, so it is not served")
        assert server.ask("/v2/health/ready") == (200, {"ready": True})
        found = states()
        assert found["m", "1"] == ("READY", "")
        for key in (("m", "2"), ("new", "1")):
            assert found[key][0] == "UNAVAILABLE" and found[key][1]
        assert server.ask("/v2/models/m/ready") == (200, {"name": "m", "ready": True})
        status, told = server.ask("/v2/models/m/versions/2/ready")
        assert status == 404 and "version '2' is not available: " in told["error"] and "is not a model" in told["error"]
        assert b'model_ready{model="m",version="2"} 0.0' in server.ask("/metrics")[1]
        assert answer_of(server) == 1.0
        os.kill(server.workers()[0], signal.SIGKILL)  # the next one knows it too
        with server.connected() as other:
            assert asked(other, "/v2/health/ready") == (200, {"ready": True})
            found = asked(other, "/v2/repository/index", b"")[1]
            assert [each["state"] for each in found] == ["READY", "UNAVAILABLE", "UNAVAILABLE"]
        assert server.stop() == 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_a_server_is_not_ready_before_all_models_of_the_start_are_loaded(tmp_path):
    save(tmp_path / "a.keras", 1.0)
    os.mkfifo(tmp_path / "b.keras")
    with LiveServer(tmp_path, [{"path": "a.keras"}, {"path": "b.keras"}], port=free_port(), waits=False) as server:
        server.log("model 'a' version '1' is served")
        assert server.ask("/v2/health/live")[0] == 200
        assert server.ask("/v2/health/ready")[0] == 503
        assert answer_of(server, "a") == 1.0
        assert answer_of(server, "b") == (503, {"error": "model 'b' is being loaded: the server starts"})
        os.kill(server.workers()[0], signal.SIGKILL)
        assert server.ask("/v2/health/ready")[0] == 503


def test_sigterm_under_load_loses_no_request(tmp_path):
    save(tmp_path / "m.keras", 1.0, width=1500)
    with LiveServer(tmp_path, MODEL, workers=2, drain_seconds=10) as server:
        with Load(server, clients=6) as load:
            start = time.monotonic()
            assert server.stop() == 0, "".join(server.lines)
            assert time.monotonic() - start < 8
            wait_for(lambda: load.refused > 6)
    assert not load.lost and set(load.answers) == {1.0}
    assert not server.left_files() and not any(map(alive, server.workers().values()))


def test_requests_that_take_longer_than_the_end_may_are_answered_with_503(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with LiveServer(tmp_path, MODEL, max_wait_ms=10000, drain_seconds=0.3) as server:
        with server.connected() as connection:
            connection.request("POST", "/v2/models/m/infer", BODY, {"Content-Type": "application/json"})
            time.sleep(0.3)
            start = time.monotonic()
            assert server.stop() == 1 and time.monotonic() - start < 5
            answer = connection.getresponse()
            assert (answer.status, b"the server ended before" in answer.read()) == (503, True)
    assert not server.left_files()


def test_a_file_that_is_broken_at_the_start(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"broken")
    with LiveServer(tmp_path, MODEL, waits=False) as server:
        assert server.end() == 2
    assert server.find("model 'm' version '1' could not be loaded")
    assert not server.left_files() and not any(map(alive, server.workers().values()))


def test_workers_of_a_killed_supervisor_end_and_leave_nothing(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with LiveServer(tmp_path, MODEL, workers=2) as server:
        workers = server.workers().values()
        server.process.kill()
        server.end()
        wait_for(lambda: not any(map(alive, workers)))
    assert len(workers) == 2 and not server.left_files()


# -------------------- workers that do not work --------------------

SCRIPT = """
import logging, os, sys, time
from nbkeras.serving import control_channel, worker
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.supervisor import Supervisor
logging.basicConfig(level="INFO")
options = Options(port=0, workers=2, worker_seconds=1, drain_seconds={seconds})
{more}
sys.exit(Supervisor(lambda: options, {work}).run())
"""


def scripted(folder, work="worker.work", seconds=1, more=""):
    return LiveServer(folder, script=SCRIPT.format(seconds=seconds, more=more, work=work))


def test_workers_that_end_again_and_again(tmp_path):
    with scripted(tmp_path, "lambda setup: 3") as server:
        assert server.end() == 1
    assert len(server.log("ended with exit code 3")) >= 6
    server.log("ended 6 times before it could answer requests: the server ends")
    assert not server.left_files()


@pytest.mark.parametrize("signals", [1, 2], ids=["late", "told twice"])
def test_a_worker_that_does_not_end_is_killed(tmp_path, signals):
    with scripted(tmp_path, "lambda setup: time.sleep(100)", 0.2 if signals == 1 else 60) as server:
        workers = server.log(r"worker \d started \(process (\d+)\)", 2)
        server.process.send_signal(signal.SIGINT)
        if signals == 2:
            server.log("SIGINT received: the server ends")
            time.sleep(0.6)
            server.process.send_signal(signal.SIGINT)
        assert server.end() == 1
    assert not any(alive(int(found[1])) for found in workers) and not server.left_files()


def test_a_worker_that_hangs_is_started_again(tmp_path):
    with scripted(tmp_path) as server:
        server.log("worker 1 started")
        hanging = server.workers()[0]
        os.kill(hanging, signal.SIGSTOP)
        server.log(rf"worker 0 \(process {hanging}\) has not answered for 1 s and is killed")
        server.log("worker 0 started", 2)
        assert server.stop() == 0


def test_a_server_that_was_suspended_as_a_whole_keeps_its_workers(tmp_path):
    with scripted(tmp_path) as server:
        server.log(r"worker \d started", 2)
        processes = [*server.workers().values(), server.process.pid]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in processes:
                os.kill(process, number)
            time.sleep(2.5)
        assert server.stop() == 0
    assert len(server.started()) == 2 and not server.find("has not answered")


def test_a_worker_whose_channel_is_closed_is_started_again(tmp_path):
    with scripted(tmp_path, "lambda setup: (setup.channel.close(), time.sleep(100))") as server:
        assert server.end() == 1
    server.log("was killed by SIGKILL", 6)
    assert not any(map(alive, server.workers().values()))


BROKEN = """
from nbkeras.serving import changes

async def fail(self):
    raise RuntimeError("a defect")

changes.Changes.read_again = fail
"""


def test_a_defect_of_the_supervisor_ends_the_server_in_order(tmp_path):
    with scripted(tmp_path, more=BROKEN) as server:
        server.log(r"worker \d started", 2)
        server.process.send_signal(signal.SIGHUP)
        assert server.end() == 1
    server.log("the supervisor failed(.|\n)*RuntimeError: a defect")
    assert not any(map(alive, server.workers().values())) and not server.left_files()


def test_a_load_that_waits_is_told_that_the_server_ends(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with LiveServer(tmp_path, MODEL, control=True) as server, server.connected() as connection:
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

    def states():
        with contextlib.suppress(OSError):
            return server.ask("/v2/repository/index", b"")[1]

    os.mkfifo(tmp_path / "m.keras")  # nobody writes into it, so that all wait for the first
    tables = [{"path": "m.keras", "name": f"m{number}"} for number in range(600)]
    with LiveServer(tmp_path, tables, port=free_port(), waits=False) as server:
        found = wait_for(states)
        assert len(found) == 600 and {each["state"] for each in found} == {"LOADING"}
        assert len(server.started()) == 1
        assert server.stop() == 0


async def test_too_many_requests_to_load_are_refused():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    setup = types.SimpleNamespace(channel=theirs, marks={}, served=[])
    control = control_channel.ControlChannel(setup, Repository(), lambda: None)
    await control.prepare()
    asking = [asyncio.create_task(control.change("load", "m", {})) for _ in range(40)]
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


FAILING = """
options = Options(port=0, workers=2, models=(ModelOptions(name="m", path="m.keras"),))
opened, worker_1 = control_channel.opened, []

def open_or_fail(file):
    if worker_1 and os.path.exists("fail"):
        raise OSError("no memory")
    return opened(file)

def work(setup):
    worker_1.extend([1] * setup.index)
    return worker.work(setup)

control_channel.opened = open_or_fail
"""


def test_a_change_that_a_worker_cannot_make_is_taken_back_by_all(tmp_path):
    save(tmp_path / "m.keras", 1.0)
    with scripted(tmp_path, "work", more=FAILING) as server:
        server.log("listening on http")
        (tmp_path / "fail").touch()
        save(tmp_path / "m.keras", 2.0)
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '1' could not be loaded, so the version served before stays: OSError: no memory")
        assert {answer_of(server) for _ in range(8)} == {1.0}
        (tmp_path / "fail").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.log("model 'm' version '1' is served", 2)
        assert answer_of(server) == 2.0
        assert server.stop() == 0
