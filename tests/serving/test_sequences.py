"""Sequences: states between requests, their order, their bounds, and the worker that keeps them."""

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import sys
import time
import weakref
import zlib

import numpy as np
import pytest
from in_memory import infer
from live_server import LiveServer, asked

pytest.importorskip("uvloop")
pytest.importorskip("starlette")

from nbkeras import Input, Sequential, layers, utils
from nbkeras.serving import sequence_router, sequences
from nbkeras.serving.errors import ServingError
from nbkeras.serving.repository import Repository
from nbkeras.serving.requests import InferRequest, Observer
from nbkeras.serving.sequence_router import SequenceRouter
from nbkeras.serving.sequences import Sequences, key_of
from nbkeras.serving.service import Service

RNG = np.random.default_rng(0)


def make(seed=0):
    utils.set_random_seed(seed)
    return Sequential([Input((None, 3), name="x"), layers.LSTM(4, return_sequences=True), layers.Dense(2, name="y")])


@pytest.fixture(scope="module")
def streams():
    """The same model with other weights."""
    return [make(seed).stream().frozen(batch_sizes=(1, 8), steps=(1, 3)) for seed in range(2)]


def key_of_parameters(parameters):
    return key_of(InferRequest(name="m", parameters=parameters))


class Serving:
    """A Service with the model `m`, whose batches are counted."""

    def __init__(self, frozen, **limits):
        self.batches = []
        observer = Observer()
        observer.batch = lambda name, version, rows, *_: self.batches.append(rows)
        self.repository = Repository(observer)
        self.repository.set("m", "1", frozen)
        self.service = Service(self.repository, sequences=Sequences(**limits))
        self.sequences = self.service.sequences

    async def ask(self, x, identity=None, start=False, end=False, version=None, **more):
        parameters = {} if identity is None else {"sequence_id": identity}
        parameters |= {"sequence_start": start, "sequence_end": end}
        response = await infer(self.service, version=version, inputs={"x": x}, parameters=parameters, **more)
        return response.outputs[0][1]

    async def whole(self, x, identity, sizes=(1, 1, 1, 1, 1, 1)):
        """A whole sequence, in requests of some steps."""
        found, at = [], 0
        for size in sizes:
            end = at + size
            found.append(await self.ask(x[:, at:end], identity, start=at == 0, end=end == x.shape[1]))
            at = end
        return np.concatenate(found, axis=1)


def sequence(rows=1, steps=6):
    return RNG.standard_normal((rows, steps, 3)).astype("float32")


async def refusal(asked):
    try:
        await asked
    except ServingError as error:
        return error.status, error.message
    raise AssertionError("it was answered")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequence_start": True}, "'sequence_start' needs a 'sequence_id'"),
        ({"sequence_id": 0, "sequence_end": True}, "'sequence_end' needs a 'sequence_id'"),
        ({"sequence_id": 1, "sequence_start": 1}, "'sequence_start' must be true or false, received 1"),
        ({"sequence_id": True}, "received True"),
        ({"sequence_id": 1.5}, "must be a string of at most 128 characters or an integer of 64 bits, received 1.5"),
        ({"sequence_id": []}, "an integer of 64 bits, received []"),
        ({"sequence_id": 1 << 64}, "an integer of 64 bits"),
        ({"sequence_id": "a" * 129}, "at most 128 characters or an integer of 64 bits, received 129 characters"),
    ],
    ids=["no-id", "id-0", "flag", "bool", "float", "list", "large", "long"],
)
def test_parameters_that_name_no_sequence_are_refused(parameters, message):
    with pytest.raises(ServingError, match=re.escape(message)) as caught:
        key_of_parameters(parameters)
    assert caught.value.status == 400


def test_numbers_and_texts_name_sequences_and_zero_names_none():
    assert (
        key_of_parameters({}) is key_of_parameters({"sequence_id": 0}) is key_of_parameters({"sequence_id": ""}) is None
    )
    assert key_of_parameters({"sequence_id": 1}) != key_of_parameters({"sequence_id": "1"})
    assert key_of_parameters({"sequence_id": (1 << 64) - 1}).id == (1 << 64) - 1


async def test_sequences_that_interleave_are_each_the_whole_sequence(streams):
    serving = Serving(streams[0])
    given = {identity: sequence() for identity in [1, 2, "a", "b", 5, 6, 7, 8]}
    found = await asyncio.gather(*(serving.whole(x, identity) for identity, x in given.items()))
    for y, x in zip(found, given.values(), strict=True):
        np.testing.assert_allclose(y, await serving.ask(x), rtol=1e-5, atol=1e-6)
    assert serving.batches[:6] == [8] * 6  # a step of all of them at a time
    assert (len(serving.sequences), serving.sequences.bytes) == (0, 0)


async def test_requests_of_one_sequence_are_computed_in_their_order(streams):
    serving = Serving(streams[0])
    x = sequence(rows=2)
    at_once = [serving.ask(x[:, k : k + 1], "s", start=k == 0, end=k == 5) for k in range(6)]
    found = np.concatenate(await asyncio.gather(*at_once), axis=1)
    np.testing.assert_allclose(found, await serving.ask(x), rtol=1e-5, atol=1e-6)
    assert serving.batches[:6] == [2] * 6


async def test_sequences_with_other_numbers_of_steps_go_on_side_by_side(streams):
    serving = Serving(streams[0])
    sizes = [(1, 1, 1, 3), (3, 3), (4, 2), (6,), (1, 5)]
    given = [sequence() for _ in sizes]
    found = await asyncio.gather(
        *(serving.whole(x, n + 1, each) for n, (x, each) in enumerate(zip(given, sizes, strict=True)))
    )
    for y, x in zip(found, given, strict=True):
        np.testing.assert_allclose(y, await serving.ask(x), rtol=1e-5, atol=1e-6)
    before = len(serving.batches)
    await asyncio.gather(*(serving.ask(sequence(steps=1 + n % 2), n, start=True) for n in range(1, 9)))
    assert serving.batches[before:] == [4, 4]


async def test_a_request_that_fails_changes_nothing(streams):
    serving = Serving(streams[0])
    x = sequence(steps=3)
    found = [await serving.ask(x[:, :1], 1, start=True)]
    assert (await refusal(serving.ask(x[:, 1:2, :2], 1)))[0] == 400
    assert (await refusal(serving.ask(x[:, 1:2], 1, outputs=["z"])))[0] == 400
    assert await refusal(serving.ask(np.repeat(x[:, 1:2], 2, axis=0), 1, end=True)) == (
        400,
        "sequence 1 of model 'm' has 1 rows since its start, received 2",
    )
    assert (await refusal(serving.ask(x[:, 1:2, :2], 1, start=True)))[0] == 400
    assert (await refusal(serving.ask(x[:, 1:2], 1, timeout=1e-9)))[0] == 504
    found += [await serving.ask(x[:, 1:2], 1), await serving.ask(x[:, 2:], 1, end=True)]
    np.testing.assert_allclose(np.concatenate(found, 1), await serving.ask(x), rtol=1e-5, atol=1e-6)


async def test_a_sequence_begins_again_ends_and_is_unknown_then(streams):
    serving = Serving(streams[0])
    x = sequence(steps=2)
    status, message = await refusal(serving.ask(x, 1))
    assert status == 400
    assert message.startswith("sequence 1 of model 'm' is not running: begin it with sequence_start")
    first = await serving.ask(x, 1, start=True)
    assert not np.allclose(await serving.ask(x, 1), first)
    np.testing.assert_array_equal(await serving.ask(x, 1, start=True), first)
    await serving.ask(x, 1, end=True)
    assert (await refusal(serving.ask(x, 1)))[0] == 400
    ended = await asyncio.gather(
        serving.ask(x, 2, start=True, end=True),
        serving.ask(x, 2),
        serving.ask(x, 2, start=True),
        return_exceptions=True,
    )
    np.testing.assert_array_equal(ended[0], first)
    assert ended[1].status == 400
    np.testing.assert_array_equal(ended[2], first)
    assert len(serving.sequences) == 1


async def test_a_request_that_waits_for_its_turn_has_a_time_limit(streams):
    serving = Serving(streams[0])
    x = sequence(steps=1)
    await serving.ask(x, 1, start=True)
    async with serving.sequences._turn(key_of_parameters({"sequence_id": 1}), None):
        status, message = await refusal(serving.ask(x, 1, timeout=0.01))
    assert (status, message.partition(" before")[0]) == (504, "the request's deadline passed")
    await serving.ask(x, 1)


async def test_idle_sequences_are_forgotten(streams):
    serving = Serving(streams[0], idle=0.2)
    x = sequence(steps=1)
    await serving.ask(x, 1, start=True)
    await serving.ask(x, 2, start=True)
    for _ in range(6):
        await asyncio.sleep(0.05)
        await serving.ask(x, 1)
    assert len(serving.sequences) == 1
    message = (await refusal(serving.ask(x, 2)))[1]
    assert "idle for 0.2 s" in message
    await asyncio.sleep(0.4)
    assert (len(serving.sequences), serving.sequences.bytes) == (0, 0)


async def test_new_sequences_are_refused_when_memory_is_full_and_none_is_given_up(streams):
    serving = Serving(streams[0], max_bytes=2500, idle=30.0)
    x = sequence(steps=1)
    await serving.ask(x, 1, start=True)
    await serving.ask(x, 2, start=True)
    full = "no memory is left for a new sequence: running ones use 2112 bytes"
    with pytest.raises(ServingError, match=full) as caught:
        await serving.ask(x, 3, start=True)
    assert (caught.value.status, caught.value.retry_after, caught.value.reason) == (503, 30, "sequences_full")
    assert serving.sequences.bytes == 2112
    await serving.ask(x, 1, start=True)  # has its memory already
    await serving.ask(x, 2, end=True)
    await serving.ask(x, 3, start=True)
    serving.sequences.idle = 0.0
    await serving.ask(x, 4, start=True)
    await serving.ask(x, 5, start=True)
    assert len(serving.sequences) <= 2  # those before were forgotten


async def test_sequences_go_on_with_the_version_with_which_they_began(streams):
    serving = Serving(streams[0])
    x = sequence(steps=2)
    old = await serving.ask(x)
    first = await serving.ask(x[:, :1], 1, start=True)
    replaced = weakref.ref(serving.repository.get("m"))
    serving.repository.set("m", "1", streams[1])
    new = await serving.ask(x)
    assert not np.allclose(old, new)
    other = await serving.ask(x[:, :1], 2, start=True)
    await asyncio.sleep(0)
    gc.collect()
    assert replaced() is not None
    np.testing.assert_allclose(
        np.concatenate([first, await serving.ask(x[:, 1:], 1, end=True)], 1), old, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        np.concatenate([other, await serving.ask(x[:, 1:], 2, end=True)], 1), new, rtol=1e-5, atol=1e-6
    )
    await asyncio.sleep(0)
    gc.collect()
    assert replaced() is None
    await serving.ask(x, 1, start=True, version="1")
    assert (await refusal(serving.ask(x, 1)))[0] == 400  # the newest version and version 1 have sequences of their own


async def test_only_streams_have_sequences():
    x = sequence(steps=6)
    serving = Serving(make().frozen(batch_sizes=(1,), input_signature=(None, 6, 3)))
    status, message = await refusal(serving.ask(x, 1, start=True))
    assert (status, message.partition(", so")[0]) == (400, "model 'm' keeps no state between requests")
    assert "stream = true" in message
    assert len(serving.sequences) == 0


async def test_memory_is_bounded_for_ids_that_come_once(streams):
    """Sequences that fail, that end and that are refused leave nothing."""
    serving = Serving(streams[0], max_bytes=20_000)
    x = sequence(steps=1)
    for n in range(1, 200):
        with contextlib.suppress(ServingError):
            await serving.ask(x[..., : n % 4], n, start=bool(n % 3), end=bool(n % 2))
    assert len(serving.sequences) <= 18
    assert serving.sequences.bytes == len(serving.sequences) * (1024 + 32)


# -------------------- several workers --------------------


@contextlib.asynccontextmanager
async def workers(folder, frozen, count=3):
    """Several services with SequenceRouters, as the processes of a server."""
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket may have 107 characters
    try:
        made = [Serving(frozen) for _ in range(count)]
        paths = [f"worker-{n}" for n in range(count)]
        for n, (serving, path) in enumerate(zip(made, paths, strict=True)):
            local = socket.socket(socket.AF_UNIX)
            local.bind(path)
            local.listen()
            serving.local = local
            serving.service.router = SequenceRouter(n, paths, local, serving.service.infer_forwarded)
            await serving.service.router.start()
        yield made
        await asyncio.gather(*(serving.service.router.close() for serving in made))
    finally:
        os.chdir(here)
        for serving in made:
            serving.local.close()


async def test_every_worker_answers_every_sequence(tmp_path, streams):
    async with workers(tmp_path, streams[0]) as made:
        for identity in [1, 2, 3, "a", "b", "\ud800"]:
            x = sequence(steps=6)
            found = [
                await made[k % 3].ask(x[:, k : k + 1], identity, start=k == 0, end=k == 5, id=f"{k}") for k in range(6)
            ]
            np.testing.assert_allclose(np.concatenate(found, 1), await made[0].ask(x), rtol=1e-5, atol=1e-6)
        statuses = {(await refusal(each.ask(x, 9)))[0] for each in made}
        assert statuses == {400}
        assert sum(len(each.sequences) for each in made) == 0
    assert sum(bool(each.batches) for each in made) >= 2


async def test_a_worker_that_ends_takes_its_sequences_along(tmp_path, streams):
    async with workers(tmp_path, streams[0], 2) as made:
        own = made[0].service.router
        identity = next(n for n in range(1, 100) if own.owner("m", n) == 1)
        x = sequence(steps=1)
        await made[0].ask(x, identity, start=True)
        assert len(made[1].sequences) == 1
        # a request that the owner computes when it ends
        async with made[1].sequences._turn(key_of_parameters({"sequence_id": identity}), None):
            waiting = asyncio.create_task(made[0].ask(x, identity))
            await asyncio.sleep(0.05)
            given_up = asyncio.create_task(made[0].ask(x, identity))
            await asyncio.sleep(0.05)
            given_up.cancel()
            await asyncio.sleep(0.05)
            assert made[1].sequences._waiting == 1  # the owner was told
            made[1].service.router._server.close()
            for task in made[1].service.router._served:
                task.cancel()
            status, message = await refusal(waiting)
        assert (status, message) == (503, "the worker that kept this sequence has ended: begin the sequence again")
        # the worker is started again, with the socket that the supervisor keeps
        made[1].service.sequences = Sequences()
        local = socket.socket(socket.AF_UNIX)
        os.unlink("worker-1")
        local.bind("worker-1")
        local.listen()
        again = asyncio.create_task(made[0].ask(x, identity))
        await asyncio.sleep(0.05)
        made[1].local.close()
        made[1].local = local
        made[1].service.router = SequenceRouter(1, ["worker-0", "worker-1"], local, made[1].service.infer_forwarded)
        await made[1].service.router.start()
        assert (await refusal(again))[0] == 400
        await made[0].ask(x, identity, start=True)
        assert len(made[1].service.sequences) == 1


async def test_a_request_is_refused_when_the_owner_does_not_answer(tmp_path, streams, monkeypatch):
    monkeypatch.setattr("nbkeras.serving.sequence_router._HELLO_SECONDS", 0.05)
    async with workers(tmp_path, streams[0], 2) as made:
        identity = next(n for n in range(1, 100) if made[0].service.router.owner("m", n) == 1)
        made[1].service.router._server.close()
        status, message = await refusal(made[0].ask(sequence(), identity, start=True))
        assert (status, message.partition(";")[0]) == (503, "the worker that keeps this sequence does not answer")


async def test_a_request_ends_at_its_time_although_the_owner_does_not_answer(tmp_path, streams, monkeypatch):
    """Before the owner has said hello, and after; it has not taken part in a step that it does not begin in time."""
    async with workers(tmp_path, streams[0], 2) as made:
        identity = next(n for n in range(1, 100) if made[0].service.router.owner("m", n) == 1)
        x, owner = sequence(steps=2), made[1].service.router
        receive, answer, awake = sequence_router._receive, owner._infer, asyncio.Event()

        async def receive_late(reader):
            await awake.wait()
            return await receive(reader)

        async def answer_late(*content):
            await awake.wait()
            return await answer(*content)

        monkeypatch.setattr(sequence_router, "_receive", receive_late)
        start = time.monotonic()
        found = await refusal(made[0].ask(x[:, :1], identity, start=True, timeout=0.1))
        assert found[0] == 504 and "did not answer in the request's time" in found[1]
        awake.set()
        first = await made[0].ask(x[:, :1], identity, start=True)
        awake.clear()
        owner._infer = answer_late
        assert (await refusal(made[0].ask(x[:, 1:], identity, timeout=0.1)))[0] == 504
        assert time.monotonic() - start < 5
        awake.set()
        second = await made[0].ask(x[:, 1:], identity, end=True)
        np.testing.assert_allclose(np.concatenate([first, second], 1), await made[0].ask(x), rtol=1e-5, atol=1e-6)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux")
def test_a_request_ends_at_its_time_although_the_owner_is_stopped(tmp_path):
    make().save(tmp_path / "m.keras")
    table = {"path": "m.keras", "stream": True, "batch_sizes": (1,)}
    x = sequence(steps=3)

    def ask(connection, step, milliseconds="20000", **flags):
        parameters = {"sequence_id": identity, **flags}
        data = {"name": "x", "shape": [1, 1, 3], "datatype": "FP32", "data": x[0, step].tolist()}
        content = {"inputs": [data], "parameters": parameters}
        status, content = asked(connection, "/v2/models/m/infer", content, x_request_timeout_ms=milliseconds)
        return status, content["error"] if "error" in content else content["outputs"][0]["data"]

    with LiveServer(tmp_path, [table], workers=2) as server:
        identity = next(n for n in range(1, 100) if zlib.crc32(f"m {n!r}".encode()) % 2 == 1)
        owner, found, late = server.workers()[1], [], []
        for step in range(3):
            os.kill(owner, signal.SIGSTOP)
            connection = server.connection()  # the other one takes it
            try:
                start = time.monotonic()
                late.append(ask(connection, step, "300", sequence_start=step == 0))
                seconds = time.monotonic() - start
            finally:
                os.kill(owner, signal.SIGCONT)
            assert late[-1][0] == 504 and 0.2 < seconds < 3, (late, seconds)
            found.append(ask(connection, step, sequence_start=step == 0, sequence_end=step == 2))
            connection.close()
        assert server.stop() == 0 and not server.tracebacks()
    assert [status for status, _ in found] == [200] * 3
    stream = make().stream()
    np.testing.assert_allclose(
        np.array([y for _, y in found]), stream(x, stream.initial(1))[0][0], rtol=1e-4, atol=1e-5
    )


async def test_no_more_requests_wait_than_have_a_place(streams, monkeypatch):
    monkeypatch.setattr(sequences, "MAX_WAITING", 0)
    serving = Serving(streams[0])
    x = sequence(steps=1)
    await serving.ask(x, 1, start=True)
    async with serving.sequences._turn(key_of_parameters({"sequence_id": 1}), None):
        assert await refusal(serving.ask(x, 1)) == (
            503,
            "0 requests wait for earlier ones of their sequences; try again later",
        )


async def test_a_state_larger_than_all_sequences_may_be(streams):
    status, message = await refusal(Serving(streams[0], max_bytes=100).ask(sequence(steps=1), 1, start=True))
    assert status == 413 and "but the limit for all sequences is 100 (max_sequences_mb)" in message
