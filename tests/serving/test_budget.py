"""The budget: bytes that clients cause are counted before they exist, and given back."""

import asyncio
import contextlib
import gzip
import importlib
import json
import pathlib
import subprocess
import sys
import threading
import types
import zlib

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("orjson")

import in_memory
from in_memory import Fake, infer, spec

from nbkeras import Input, Sequential, layers
from nbkeras.serving import service as service_module
from nbkeras.serving import tensors
from nbkeras.serving.budget import Budget
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.sequences import Sequences

MB = 1 << 20


class Doubles(Fake):
    """A model of one input with `width` numbers."""

    def __init__(self, width=2, outputs=2):
        super().__init__(threading.Event())
        self.inputs, self.outputs, self.width = (spec("x", (width,)),), (spec("y", (outputs,)),), outputs
        self.gate.set()

    def compute(self, arrays):
        return [np.zeros((len(arrays[0]), self.width), "float32")]


def served(model, maximum=1 << 30, **limits):
    sequences = Sequences(budget=Budget(maximum), **limits)
    return in_memory.served({"m": model}, sequences=sequences, max_batch=1 << 20)


async def post(service, body, path="/v2/models/m/infer", **options):
    """(status, content) of an answer."""
    return (await in_memory.post(Application(service, 64 * MB), path, body, **options))[::2]


def refusal(message, call, *arguments):
    with pytest.raises(ServingError, match=message) as caught:
        call(*arguments)
    return caught.value


def test_what_has_no_place_is_refused_and_what_never_has_one_is_told_so():
    budget = Budget(100)
    with budget.share(60) as share:
        share.grow(10)
        full = refusal("the memory for requests is full", budget.take, 31)
        assert (full.status, full.retry_after, full.reason) == (503, 1, "memory_full")
        assert "70 of 100 bytes are in use, and 31 more are needed (max_memory_mb)" in full.message
        never = refusal("the request needs 101 bytes", budget.take, 101)
        assert (never.status, never.retry_after) == (413, None)
        assert "needs 101 bytes of memory, but the limit for all requests is 100" in never.message
        share.shrink(20)
        assert budget.used == 20
        budget.take(80)
    assert budget.used == 80


# -------------------- JSON --------------------

UNITS = [
    *("[],", "{},", "0,", "1.5,", "999,", "-0.1234567,", '"",', '"a",', '"ab",', "[0],", "[[]],", '{"":0},', "null,"),
    *('{"a":0,"b":1},', '"あ",', "[0,0],", "[0,0,0,0,0],", '{"":[]},', '"\\n",', '{"a":{"b":{"c":{"d":0}}}},'),
    *("[" * 1000 + "]" * 1000 + ",", '{"":' * 1000 + "0" + "}" * 1000 + ",", '"' + "a" * 1000 + "😀" + '",'),
    *('{"a":0,"b":1,"c":2,"d":3,"e":4,"f":5},', " ", '"' + "é" * 99 + '",', "18446744073709551615,"),
]
MEASURE = """
import json, pathlib, re, sys
from nbkeras.serving import tensors
for unit in json.loads(sys.argv[1]):
    text = ("[" + unit * (4_000_000 // len(unit.encode())) + "0]").encode()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) << 10
    before = peak()
    content = tensors.read_json(text)
    print(json.dumps([unit[:40], peak() - before, tensors.cost_of_json(text)]))
    del content
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="no peaks of memory")
def test_reading_json_takes_no_more_than_was_counted():
    command = [sys.executable, "-P", "-c", MEASURE, json.dumps(UNITS)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == len(UNITS)
    wrong = [(unit, taken, counted) for unit, taken, counted in found if taken > counted + 2 * MB]
    assert not wrong
    assert next(counted / taken for unit, taken, counted in found if unit == "-0.1234567,") < 3  # no more than needed


@pytest.mark.parametrize("unit", UNITS, ids=[ascii(unit[:20]) for unit in UNITS])
def test_no_short_text_costs_more_than_what_it_is_taken_for(unit):
    text = ("[" + unit * (10_000 // len(unit.encode()) + 1) + "0]").encode()
    assert tensors.cost_of_json(text) <= service_module.READING_COST * len(text)


async def test_a_short_request_is_looked_at_if_the_memory_is_short():
    service = served(Doubles(), 1 << 20)
    tensor = {"name": "x", "shape": [1000, 2], "datatype": "FP32", "data": [0.123456789] * 2000}
    body = json.dumps({"inputs": [tensor]})
    assert service_module.READING_COST * len(body) > service.budget.limit  # so its numbers are counted
    status, content = await post(service, body.encode())
    assert status == 200, content
    body = b'{"inputs":[' + b"{}," * 8000 + b"0]}"
    status, content = await post(service, body)
    assert status == 413 and "max_memory_mb" in content["error"], content
    assert service.budget.used == 0


async def test_json_that_would_take_too_much_is_refused_before_it_is_read(monkeypatch):
    def read(text):
        raise AssertionError("it is read")

    monkeypatch.setattr(tensors, "read_json", read)
    service = served(Doubles(), 64 * MB)
    for unit, count in ((b"[],", 500_000), (b'{"":', 300_000), (b"0,", 1_500_000)):
        body = b'{"inputs":[' + unit * count + b"0]}"
        for encoding, data in (("identity", body), ("gzip", gzip.compress(body, 1))):
            status, content = await post(service, data, content_encoding=encoding)
            assert status == 413 and "max_memory_mb" in content["error"], content
    body = b'{"inputs":[' + b"[]," * 6_000_000 + b"0]}"
    service.budget.limit = 1 << 40
    status, content = await post(service, body)
    assert status == 413 and "reading the JSON would take up to" in content["error"]
    for path in ("/v2/repository/index", "/v2/repository/models/m/load"):
        status, content = await post(service, gzip.compress(body, 1), path, content_encoding="gzip")
        assert status == 413 or (status, path[-4:]) == (403, "load"), content
    assert service.budget.used == 0


# -------------------- bodies --------------------


def request_of(count, data=True):
    tensor = {"name": "x", "shape": [count, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8 * count}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(8 * count), len(head)


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_bodies_are_counted_until_they_are_answered(encoding):
    model = Doubles()
    model.gate.clear()
    service = served(model, 100 * MB)
    body, size = request_of(200_000)
    pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    headers = {"inference_header_content_length": size, "content_encoding": encoding}
    tasks = [asyncio.ensure_future(post(service, pack(body), pieces=5, **headers)) for _ in range(10)]
    while service.in_flight < 2 or not any(task.done() for task in tasks):
        await asyncio.sleep(0.01)
        assert service.budget.used <= 100 * MB
    assert service.budget.used >= service.in_flight * len(body)
    model.gate.set()
    statuses = sorted([(await task)[0] for task in tasks if task.done()])
    assert 503 in statuses
    await asyncio.wait(tasks)
    assert service.budget.used == 0


async def test_a_packed_body_is_counted_piece_by_piece():
    service = served(Doubles(), 5 * MB)
    taken = []
    take = service.budget.take
    service.budget.take = lambda size: (taken.append(size), take(size))
    status, content = await post(service, gzip.compress(bytes(60 * MB)), content_encoding="gzip")
    assert status == 503 and "memory for requests is full" in content["error"]
    assert max(taken) <= MB and service.budget.used == 0


async def test_answers_are_counted_before_they_are_computed():
    """A row of 8 bytes has an output of 4 MB."""
    model = Doubles(outputs=1_000_000)
    service = served(model, 100 * MB)
    x = np.zeros((20, 2), "float32")
    with pytest.raises(ServingError, match="bytes of memory, but the limit for all requests") as caught:
        await infer(service, inputs={"x": x})
    assert caught.value.status == 413
    await infer(service, inputs={"x": x[:2]})
    assert service.budget.used == 0


async def test_requests_that_wait_are_counted():
    model = Doubles()
    model.gate.clear()
    service = served(model, 4 * MB)
    x = np.zeros((10_000, 2), "float32")
    tasks = [asyncio.ensure_future(infer(service, inputs={"x": x})) for _ in range(10)]
    await asyncio.sleep(0.05)
    refused = [task for task in tasks if task.done()]
    assert refused and {task.exception().reason for task in refused} == {"memory_full"}
    assert len(refused) < 9 and service.budget.used <= 4 * MB
    model.gate.set()
    await asyncio.wait(tasks)
    assert service.budget.used == 0


# -------------------- states --------------------


@pytest.fixture(scope="module")
def stream():
    model = Sequential([Input((None, 2), name="x"), layers.GRU(64, return_sequences=True, name="y")])
    return model.stream().frozen(batch_sizes=(1, 8))


@pytest.mark.parametrize("identity", [None, 7])
async def test_states_are_refused_before_they_are_made(stream, identity, monkeypatch):
    def initial(self, rows=1):
        raise AssertionError("a state is made")

    service = served(stream, 64 * MB)
    parameters = {} if identity is None else {"sequence_id": identity, "sequence_start": True}
    x = np.zeros((500_000, 1, 2), "float32")  # 4 MB, and states of 128 MB
    with monkeypatch.context() as patch:
        patch.setattr(type(stream), "initial", initial)
        with pytest.raises(ServingError, match="take more than|bytes of memory|sequences have") as caught:
            await infer(service, inputs={"x": x}, parameters=parameters)
    assert caught.value.status == 413
    assert (len(service.sequences), service.budget.used) == (0, 0)
    await infer(service, inputs={"x": x[:8]}, parameters=parameters)
    assert service.budget.used == service.sequences.bytes == (0 if identity is None else 8 * 64 * 4 + 1024)


async def test_sequences_are_part_of_the_budget(stream):
    service = served(stream, 40_000, max_bytes=30_000, idle=30.0)
    x = np.zeros((1, 1, 2), "float32")
    kept, reasons = 0, set()
    for identity in range(1, 60):
        try:
            given = {"sequence_id": identity, "sequence_start": True}
            await infer(service, inputs={"x": x}, parameters=given)
            kept += 1
        except ServingError as error:
            reasons.add(error.reason)
    assert reasons == {"sequences_full"} and kept == 30_000 // (1024 + 256)
    assert service.budget.used == kept * (1024 + 256)
    await infer(service, inputs={"x": x})
    for identity in range(1, kept + 1):
        ends = {"sequence_id": identity, "sequence_end": True}
        await infer(service, inputs={"x": x}, parameters=ends)
    assert (len(service.sequences), service.budget.used) == (0, 0)


# -------------------- gRPC --------------------


def frames():
    pytest.importorskip("grpc")
    return importlib.import_module("nbkeras.serving.frames")


def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def message(body, packed=0):
    return bytes([packed]) + len(body).to_bytes(4) + body


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_messages_of_grpc_are_counted_from_their_first_bytes_to_their_answer(step):
    module, budget = frames(), Budget(MB)
    asked = module.RequestFrames(budget, lambda: 10.0)
    answered = module.ResponseFrames(asked, lambda: 10.0)

    def feed(side, data):
        for at in range(0, len(data), step):
            side.feed(data[at : at + step])

    first = message(bytes(1000))
    feed(asked, bytes(24) + frame(4, 0, 0, bytes(6)) + frame(1, 4, 1, b"head"))
    assert asked.is_late(11.0) and not asked.is_late(9.0)
    feed(asked, frame(0, 0, 1, first[:2]) + frame(0, 8, 1, b"\3" + first[2:50] + bytes(3)))
    assert budget.used == 2000 and asked.is_late(11.0)
    feed(asked, frame(0, 0, 1, first[50:] + message(bytes(500)) + message(b"") + message(bytes(100))[:20]))
    assert budget.used == 2000 + 1000 + 200 and asked.is_late(11.0)
    feed(asked, frame(0, 1, 1, bytes(85)))
    assert not asked.is_late(11.0)
    feed(
        answered, frame(4, 0, 0) + frame(1, 4, 1, b"head") + frame(0, 0, 1, message(bytes(9)) + message(bytes(10))[:6])
    )
    assert budget.used == 200 and answered.is_late(11.0) and answered.is_between
    feed(answered, frame(0, 0, 1, bytes(9)) + frame(1, 5, 1, b"tail"))
    assert budget.used == 0 and not asked.calls and not answered.calls


def test_calls_that_are_reset_are_given_back():
    module, budget = frames(), Budget(MB)
    asked = module.RequestFrames(budget, lambda: 0.0)
    answered = module.ResponseFrames(asked, lambda: 0.0)
    asked.feed(bytes(24))
    for stream in (1, 3):
        asked.feed(frame(1, 4, stream) + frame(0, 0, stream, message(bytes(90_000))[:9]))
        answered.feed(frame(1, 4, stream) + frame(0, 0, stream, message(bytes(9))[:6]))
    assert budget.used == 0  # each has an answer already
    asked.feed(frame(1, 4, 5) + frame(0, 0, 5, message(bytes(90_000))[:9]))
    assert budget.used == 180_000
    asked.feed(frame(3, 0, 5, bytes(4)) + frame(3, 0, 3, bytes(4)))
    answered.feed(frame(3, 0, 1, bytes(4)))
    assert budget.used == 0 and not asked.calls and not answered.calls


def test_a_message_without_a_place_is_refused_and_a_packed_one_counts_unpacked():
    module, budget = frames(), Budget(MB)
    asked = module.RequestFrames(budget, lambda: 0.0)
    asked.feed(bytes(24) + frame(1, 4, 1))
    packed = message(gzip.compress(bytes(300_000)), packed=1)
    asked.feed(frame(0, 1, 1, packed))
    assert 600_000 < budget.used < 610_000 and not asked.packed
    asked.feed(frame(1, 4, 3))
    bomb = message(gzip.compress(bytes(10 * MB)), packed=1)
    assert refusal("the memory for requests is full", asked.feed, frame(0, 1, 3, bomb)).status == 503
    assert budget.used <= MB
    asked.forget(3)
    asked.feed(frame(1, 4, 5))
    huge = frame(0, 0, 5, b"\0" + (60 * MB).to_bytes(4))
    assert refusal("bytes of memory, but the limit for all requests", asked.feed, huge).status == 413
    for stream in (1, 5):
        asked.forget(stream)
    assert (budget.used, asked.packed) == (0, 0)


def test_small_messages_do_not_evade_the_budget():
    module, budget = frames(), Budget(100_000)
    asked = module.RequestFrames(budget, lambda: 0.0)
    asked.feed(bytes(24) + frame(1, 4, 1))
    with pytest.raises(ServingError, match="the memory for requests is full"):
        for _ in range(50):  # that nobody answers
            asked.feed(frame(0, 0, 1, message(bytes(2000))))
    assert budget.used <= 100_000
    asked.forget(1)
    packed = message(gzip.compress(bytes(300_000)), packed=1)
    asked.feed(frame(1, 4, 3))
    with pytest.raises(ServingError, match="the memory for requests is full"):
        for at in range(0, len(packed), 2):
            asked.feed(frame(0, 0, 3, packed[at : at + 2]))
    assert budget.used <= 100_000
    asked.forget(3)
    asked.feed(frame(1, 4, 5))
    budget.used = budget.limit
    asked.feed(frame(0, 0, 5, message(bytes(4000))))  # one small message, whose call is refused
    asked.forget(5)
    assert budget.used == budget.limit


def test_nothing_is_kept_of_what_follows_a_packed_message():
    module, budget = frames(), Budget(MB)
    asked = module.RequestFrames(budget, lambda: 0.0)
    data = gzip.compress(bytes(1000)) + bytes(50_000)
    asked.feed(bytes(24) + frame(1, 4, 1) + frame(0, 0, 1, message(data, packed=1)[:-1]))
    assert asked.packed == 0 and asked.calls[1].unpacker is None


async def test_a_message_of_many_fields_is_refused_before_it_is_read():
    frames()
    rpc, messages = (importlib.import_module(f"nbkeras.serving.{name}") for name in ("rpc", "messages"))
    context = types.SimpleNamespace(
        time_remaining=lambda: None, invocation_metadata=lambda: (), add_done_callback=lambda _: None
    )
    kind = messages.message("inference.ModelInferRequest")
    name = kind(model_name="m").SerializeToString()
    service = served(Doubles(), 64 * MB)
    servicer = rpc.Servicer(service)

    async def status(data, message):
        with pytest.raises(ServingError, match=message) as caught:
            await servicer.ModelInfer(data, context)
        return caught.value.status

    for part in (b"\x2a\0", b"\x22\0", b"\x32\0", b"\x3a\0"):
        no_place = "the request needs|the memory for requests is full"
        assert await status(name + part * 500_000, no_place) == 413  # 100 MB
        assert await status(name + part * 2_000_000, "the message has more than .* fields") == 413  # too many
    too_short = name + b"\x2a\x84\x80\x80\x01\x1a\x80\x80\x80\x01" + b"\1" * (2 * MB)
    assert await status(too_short, "message") == 400
    assert await status(b"\x2b" * 5000, "message") == 400
    good = kind(model_name="m")
    good.inputs.add(name="x", datatype="FP32", shape=[1_000_000, 2])
    good.raw_input_contents.append(bytes(8_000_000))
    service.budget.limit = 400 * MB
    await servicer.ModelInfer(good.SerializeToString(), context)
    assert messages.id_of(kind(id="é", model_name="m").SerializeToString()) == "é"
    assert messages.id_of(b"\xff" * 20) == ""


@pytest.mark.parametrize(
    "number, inside", [(4, b""), (5, b""), (5, b"\x1a\0"), (5, b"\x22\0"), (5, b"\x2a\2\x12\0"), (7, b"")]
)
def test_no_short_message_costs_more_than_what_it_is_taken_for(number, inside):
    pytest.importorskip("google.protobuf")
    messages = importlib.import_module("nbkeras.serving.messages")
    field = bytes([number << 3 | 2, len(inside)]) + inside
    data = field * (100_000 // len(field))
    assert 50 * len(data) < messages.cost_of(data) <= service_module.READING_COST * len(data)


@pytest.mark.cpu("servers are for CPUs")
def test_a_server_never_has_more_memory_than_its_budget():
    frames()
    pytest.importorskip("uvloop")
    lines = []
    faults = importlib.import_module("greedy").main(report=lambda line, **_: lines.append(line))
    assert not faults, "\n".join([*faults, *lines])


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"\x08\x96\x01", [(1, None)]),
        (b"\x09" + bytes(8) + b"\x15" + bytes(4), [(1, None), (2, None)]),
        (b"\x1a\x02ab", [(3, b"ab")]),
    ],
)
def test_fields_of_a_message(data, fields):
    frames()
    messages = importlib.import_module("nbkeras.serving.messages")
    found = messages.fields_of(memoryview(data))
    assert [(number, part and bytes(part)) for number, part in found] == fields


@pytest.mark.parametrize("data", [b"\x0b", b"\x09" + bytes(7), b"\x1a\x03ab", b"\x08\xff", b"\xff" * 11])
def test_bytes_that_are_no_fields(data):
    frames()
    messages = importlib.import_module("nbkeras.serving.messages")
    found = []
    with contextlib.suppress(messages.Unreadable):
        found.extend(messages.fields_of(memoryview(data)))
        found.append("the end")
    assert "the end" not in found


def test_messages_of_grpc_that_are_too_long_or_none(monkeypatch):
    frames()
    rpc, messages = (importlib.import_module(f"nbkeras.serving.{name}") for name in ("rpc", "messages"))
    kind = messages.message("inference.ModelReadyRequest")
    with pytest.raises(ServingError, match="the bytes are not a message inference.ModelReadyRequest") as caught:
        rpc._read(kind, b"\xff")
    assert caught.value.status == 400
    monkeypatch.setattr(rpc, "MAX_CONTENT", 3)
    with pytest.raises(
        ServingError, match="inference.ModelReadyRequest may have at most 3 bytes, received 4"
    ) as caught:
        rpc._read(kind, bytes(4))
    assert caught.value.status == 413
    monkeypatch.setattr(rpc.tensors, "MAX_VALUES", 1)
    contents = messages.message("inference.InferTensorContents")(fp32_contents=[1, 2])
    with pytest.raises(ServingError, match="has 2 values in fp32_contents .limit: 1.; send it as raw_input_contents"):
        rpc._typed("x", "FP32", [2], contents)
