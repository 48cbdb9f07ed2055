"""Metrics of a server: the SharedMetrics that its processes share, the text of a scrape, and a real server with two workers."""

import asyncio
import contextlib
import importlib
import json
import os
import re
import signal
import types

import pytest

pytest.importorskip("uvloop")
pytest.importorskip("prometheus_client")

from in_memory import Fake, ended, post, served
from live_server import LiveServer, wait_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from nbkeras import Input, Sequential, initializers, layers
from nbkeras.serving import logs, shared_metrics
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.repository import Repository
from nbkeras.serving.service import Service
from nbkeras.serving.shared_metrics import SharedMetrics

BODY = json.dumps({"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [0, 0]}]}).encode()


def samples(text, read=read_text):
    """(name, labels without what is the same for all, as a tuple) -> value."""
    return {
        (sample.name.removeprefix("nbkeras_serving_"), *sorted(sample.labels.items())): sample.value
        for family in read(text.decode())
        for sample in family.samples
    }


def scraped(metrics, service, accept=""):
    return asyncio.run(metrics.text(service, accept))


def test_parts_are_counted_apart_and_read_together():
    shared = SharedMetrics(2)
    first, second, parent = shared.segment(0), shared.segment(1), shared.segment(-1)
    first.request(ended(seconds=0.003))
    second.request(ended(seconds=0.3, protocol="grpc"))
    second.request(ended(seconds=0.3, status=418))
    second.batch("other", "2", 5, 0.02, [0.0, 20.0])
    parent.loaded(("m", "1"), 1.5, 1000)
    parent.failed(("m", "1"))
    models = shared.of_models()
    assert list(models) == [("m", "1"), ("other", "2")]
    m, other = models.values()
    assert m["duration"].sum() == pytest.approx(2 + 0.303) and m["requests"].sum() == 3
    assert (m["load_seconds"], m["file_bytes"], m["loads"], m["failed_loads"]) == (1.5, 1000, 1, 1)
    assert other["rows"][-1] == 5 and other["queue"][-2:].tolist() == [1, 20] and other["compute"][-1] == 0.02


def test_a_worker_that_is_started_again_goes_on_with_the_counts_of_the_one_before():
    shared = SharedMetrics(1)
    metrics = Metrics(shared)
    metrics.segment.request(ended())
    metrics.segment.worker["in_flight"] = 3
    metrics.segment.of_model(("m", "1"))["waiting"] = 7
    shared.segment(0).end()  # by the supervisor
    assert shared.of_workers()[0]["process"] == 0
    again = Metrics(shared)
    again.segment.request(ended())
    models = shared.of_models()
    assert models["m", "1"]["requests"].sum() == 2 and models["m", "1"]["waiting"] == 0
    assert shared.of_workers()[0]["in_flight"] == 0 and shared.of_workers()[0]["process"] == os.getpid()


def test_models_beyond_the_last_place_take_those_of_models_that_are_gone(monkeypatch):
    monkeypatch.setattr(shared_metrics, "MODELS", 3)
    shared = SharedMetrics(1)
    part = shared.segment(0)
    for name in ("a", "b", "c"):
        part.request(ended(name))
    part.served = {("a", "1"), ("c", "1"), ("d", "1")}
    part.request(ended("d"))
    models = shared.of_models()
    assert sorted(name for name, _ in models) == ["a", "c", "d"]
    assert all(figures["requests"].sum() == 1 for figures in models.values())
    part.served |= {("e", "1")}
    part.request(ended("e"))  # no place is left: it is counted with another one
    assert sorted(name for name, _ in shared.of_models()) == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("read", "accept"), [(read_text, ""), (read_openmetrics, "application/openmetrics-text; version=1.0.0")]
)
def test_the_text_is_what_prometheus_reads(read, accept):
    metrics = Metrics(SharedMetrics(2))
    service = Service(Repository(metrics.segment))
    for number in range(9):  # several pieces of a family
        options = ModelOptions(name=f"m{number}")
        service.repository.set(f"m{number}", "1", Fake(), options, {"sha256": f"{number:064x}"})
        metrics.segment.request(ended(f"m{number}"))
        metrics.segment.batch(f"m{number}", "1", 3, 0.002, [0.001] * 2)
    metrics.segment.request(ended("m1", status=503, reason="queue_full"))
    metrics.segment.refused(503)
    metrics.segment.refused(408)
    metrics.look(service)
    text, content_type = scraped(metrics, service, accept)
    assert content_type.startswith(accept.partition(";")[0] or "text/plain")
    found = samples(text, read)
    m1 = ("model", "m1"), ("version", "1")
    assert found["requests_total", ("code", "200"), m1[0], ("protocol", "http"), m1[1]] == 1
    assert found["requests_total", ("code", "503"), m1[0], ("protocol", "http"), m1[1]] == 1
    assert found["request_duration_seconds_count", *m1] == 1
    assert found["queue_duration_seconds_bucket", ("le", "0.001"), *m1] == 2
    assert found["compute_duration_seconds_bucket", ("le", "0.001"), *m1] == 0
    assert found["batch_rows_bucket", ("le", "4.0"), *m1] == 1 and found["batch_rows_sum", *m1] == 3
    assert found["rejected_total", ("reason", "queue_full")] == 1
    assert found["rejected_total", ("reason", "connections_full")] == 1
    assert found["rejected_total", ("reason", "slow_client")] == 1
    assert found["model_ready", *m1] == 1 and found["queue_requests", *m1] == 0
    assert found["workers",] == 1 and found["threads", ("worker", "0")] >= 1
    assert found["worker_resident_memory_bytes", ("worker", "0")] > 1e6
    assert 0 < found["worker_proportional_memory_bytes", ("worker", "0")]
    assert [name for name, *_ in found if name == "build_info"]
    assert found["model_info", m1[0], ("sha256", f"{1:064x}"), m1[1]] == 1
    types_of = re.findall(rb"(?m)^# TYPE (\S+)", text)
    assert len(types_of) == len(set(types_of))
    for name, *_ in found:
        assert re.fullmatch(r"[a-z_]+", name)


async def test_names_that_clients_make_up_become_no_labels():
    async def status_of(path, body=BODY):
        return (await post(application, f"/v2/models/{path}/infer", body))[0]

    metrics = Metrics(SharedMetrics(1))
    service = served({"m": Fake()}, observer=metrics.segment)
    application = Application(service)
    for number in range(300):
        assert await status_of(f"made-up-{number}") == await status_of(f"m/versions/{number + 2}") == 404
    assert (await status_of("m"), await status_of("m", b"{")) == (200, 400)
    text, _ = await metrics.text(service)
    found = samples(text)
    assert b"made-up" not in text and len(text) < 20_000
    nobody = ("model", ""), ("protocol", "http"), ("version", "")
    assert found["requests_total", ("code", "404"), *nobody] == 600
    m = ("model", "m"), ("protocol", "http"), ("version", "1")
    assert found["requests_total", ("code", "200"), *m] == found["requests_total", ("code", "400"), *m] == 1
    assert found["rejected_total", ("reason", "not_found")] == 600


async def test_requests_of_grpc_are_counted_like_those_of_http():
    pytest.importorskip("grpc")
    rpc, messages = (importlib.import_module(f"nbkeras.serving.{name}") for name in ("rpc", "messages"))
    metrics, seen = Metrics(SharedMetrics(1)), []
    service, count = served({"m": Fake()}, observer=metrics.segment), metrics.segment.request
    metrics.segment.request = lambda request: (seen.append(request.log_id), count(request))
    metadata = (("x-request-id", "mine"),)
    context = types.SimpleNamespace(
        time_remaining=lambda: None, invocation_metadata=lambda: metadata, add_done_callback=lambda _: None
    )
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "contents": {"fp32_contents": [0]}}
    for name, inputs in (("m", [tensor]), ("m", []), ("other", [tensor])):
        message = messages.message("inference.ModelInferRequest")(model_name=name, inputs=inputs)
        with contextlib.suppress(ServingError):
            await rpc.Servicer(service).ModelInfer(message.SerializeToString(), context)
    found = samples((await metrics.text(service))[0])
    for code, name, version in (("200", "m", "1"), ("400", "m", "1"), ("404", "", "")):
        key = ("code", code), ("model", name), ("protocol", "grpc"), ("version", version)
        assert found["requests_total", *key] == 1
    assert seen == ["mine"] * 3


def test_reasons_come_from_the_error_or_its_status():
    metrics = Metrics(SharedMetrics(1))
    for error in (
        ServingError(503, "", 1, "queue_full"),
        ServingError(503, ""),
        ServingError(504, ""),
        ServingError(418, ""),
    ):
        metrics.segment.request(ended(status=error.status, reason=error.reason))
    assert {name: count for name, count in metrics.shared.rejected().items() if count} == {
        "queue_full": 1,
        "unavailable": 1,
        "deadline": 1,
        "other": 1,
    }


async def test_others_go_on_during_a_scrape():
    async def tick():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    metrics, turns = Metrics(SharedMetrics(1)), 0
    for number in range(40):
        metrics.segment.request(ended(f"m{number}"))
    ticking = asyncio.create_task(tick())
    text, _ = await metrics.text(served({}, observer=metrics.segment))
    ticking.cancel()
    assert turns > text.count(b"\n") / 64


async def test_memory_is_read_once_for_many_scrapes(monkeypatch):
    calls = []
    limits = types.SimpleNamespace(memory_of=lambda process: calls.append(process), Memory=None)
    monkeypatch.setattr("nbkeras.serving.metrics.limits", limits)
    metrics = Metrics(SharedMetrics(1))
    await asyncio.gather(*(metrics.memory() for _ in range(5)))
    await metrics.memory()
    assert calls == [os.getpid()]


# -------------------- a server --------------------


@pytest.mark.process
def test_any_worker_tells_the_figures_of_all(tmp_path):
    model = Sequential([Input((1,), name="x"), layers.Dense(1, kernel_initializer=initializers.Ones())])
    model.save(tmp_path / "m.keras")
    with LiveServer(tmp_path, [{"path": "m.keras"}], workers=2, log="text") as server:
        key = ("requests_total", ("code", "200"), ("model", "m"), ("protocol", "http"), ("version", "1"))
        total = 40
        for _ in range(total):
            assert "outputs" in server.ask("/v2/models/m/infer", BODY)[1]
        for _ in range(6):  # some of both workers
            found = samples(server.ask("/metrics")[1])
            assert found[key] == found["queue_duration_seconds_count", *key[2:3], *key[4:]] == total
        assert found["workers",] == 2 and found["model_loads_total", *key[2:3], ("result", "ok"), *key[4:]] == 1
        assert found["model_bytes", *key[2:3], *key[4:]] > 0
        memory = [found["worker_proportional_memory_bytes", ("worker", index)] for index in "01"]
        assert all(0 < each < found["worker_resident_memory_bytes", ("worker", "0")] * 2 for each in memory)
        status = server.ask("/status.json")[1]
        assert [worker["index"] for worker in status["workers"]] == [0, 1] and status["models"][0]["requests"] == total
        place = len(server.lines)
        os.kill(status["workers"][0]["process"], signal.SIGKILL)
        server.log("worker 0 started", first=place)
        found = wait_for(lambda: (got := samples(server.ask("/metrics")[1])).get(("workers",)) == 2 and got)
        assert found[key] == total
        assert (
            found["worker_restarts_total", ("worker", "0")] == 1
            and found["worker_restarts_total", ("worker", "1")] == 0
        )
        assert b"<!doctype html>" in server.ask("/")[1]


def test_dropped_lines_are_counted_once(monkeypatch):
    monkeypatch.setattr(logs, "handler", lambda: types.SimpleNamespace(dropped=3))
    metrics = Metrics(SharedMetrics(1))
    service = Service(Repository(metrics.segment))
    for _ in range(2):
        metrics.look(service)
    assert metrics.shared.of_workers()[0]["dropped_lines"] == 3
