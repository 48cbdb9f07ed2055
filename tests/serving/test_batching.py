"""Batches: no answer goes to another request, limits hold, and what cannot be answered harms nobody else."""

import asyncio
import gc
import logging
import threading
import time
import weakref

import numpy as np
import pytest
from in_memory import until

pytest.importorskip("orjson")

from nbkeras.serving.batching import Batcher
from nbkeras.serving.errors import ServingError
from nbkeras.serving.requests import InferRequest

SENTENCE = r"\w+ .*\w+ "


class Doubles:
    """A program whose outputs tell which rows they are of. gate: it waits for that; seconds: it takes so long."""

    def __init__(self, sizes=(1, 4, 16), seconds=0.0, gate=None, is_by_rows=True):
        self.batch_sizes, self.seconds, self.gate, self.is_by_rows = sizes, seconds, gate, is_by_rows
        self.batches = []
        self.threads = set()

    def parts(self, rows):
        return self.batch_sizes[-1:]

    def run(self, arrays):
        self.threads.add(threading.current_thread())
        if self.gate is not None:
            self.gate.wait(10)
        time.sleep(self.seconds)
        self.batches.append(len(arrays[0]))
        if np.isnan(arrays[0]).any():
            raise RuntimeError("no kernel for this")
        if (arrays[0] < 0).any():
            raise ValueError("input 'x' holds -1.0, expected words from 0 to 9")
        return [arrays[0] * 2, arrays[0].sum(1)]


def infer(batcher, arrays, **content):
    return batcher.infer(arrays, InferRequest(**content))


def rows(*values):
    return [np.array([[value, 1.0] for value in values])]


def check(values, outputs):
    np.testing.assert_array_equal(outputs[0], [[2 * value, 2.0] for value in values], strict=True)
    np.testing.assert_array_equal(outputs[1], [value + 1.0 for value in values], strict=True)


async def told(coroutine):
    """The ServingError of a request."""
    with pytest.raises(ServingError, match=SENTENCE) as caught:
        await coroutine
    return caught.value


async def test_requests_of_one_turn_go_together():
    program = Doubles()
    batcher = Batcher(program)
    values = [(1, 2), (3,), (4, 5, 6), (7,)]
    for _ in range(3):
        for given, found in zip(
            values, await asyncio.gather(*(infer(batcher, rows(*each)) for each in values)), strict=True
        ):
            check(given, found)
    assert program.batches == [7, 7, 7]
    await batcher.drain()


async def test_answers_are_never_mixed():
    program = Doubles(seconds=0.001)
    batcher = Batcher(program, max_batch=8)
    rng = np.random.default_rng(0)

    async def client(number):
        for turn in range(15):
            values = [number * 1000 + turn * 10 + i for i in range(rng.integers(1, 12))]
            if rng.random() < 0.2:
                task = asyncio.ensure_future(infer(batcher, rows(*values)))
                await asyncio.sleep(0)
                task.cancel()
                continue
            check(values, await infer(batcher, rows(*values)))

    await asyncio.gather(*(client(number) for number in range(1, 12)))
    assert max(program.batches) <= 8
    assert len(batcher) == batcher.rows == batcher.bytes == 0
    await batcher.drain()


async def test_answers_are_copies():
    batcher = Batcher(Doubles())
    first, second = await asyncio.gather(infer(batcher, rows(1)), infer(batcher, rows(2)))
    assert first[0].base is None
    assert not np.shares_memory(first[0], second[0])


async def test_a_large_request_is_split_and_put_together():
    program = Doubles()
    batcher = Batcher(program, max_batch=4)
    check(range(11), await infer(batcher, rows(*range(11))))
    assert program.batches == [4, 4, 3]
    await batcher.drain()


async def test_a_batch_may_wait_for_more():
    program = Doubles()
    batcher = Batcher(program, max_batch=4, max_wait=0.3)
    first = asyncio.ensure_future(infer(batcher, rows(1)))
    await asyncio.sleep(0.01)
    check([2], await infer(batcher, rows(2)))
    check([1], await first)
    assert program.batches == [2]
    batcher = Batcher(program, max_batch=4, max_wait=60)
    await asyncio.gather(*(infer(batcher, rows(value)) for value in range(4)))  # a full batch waits for nothing
    await batcher.drain()


async def test_a_model_whose_rows_depend_on_each_other_computes_requests_alone():
    program = Doubles(sizes=(1, 4), is_by_rows=False)
    batcher = Batcher(program)
    await asyncio.gather(infer(batcher, rows(1)), infer(batcher, rows(2, 3, 4, 5)), infer(batcher, rows(6)))
    assert program.batches == [1, 4, 1]
    error = await told(infer(batcher, rows(1, 2)))
    assert (error.status, error.message) == (400, "this model takes requests of 1 or 4 rows, received 2")
    await batcher.drain()


async def test_a_batch_is_what_one_program_takes():
    program = Doubles((1, 4, 16))
    program.parts = lambda rows: (4,) * (rows // 4) or (1,)  # those of 16 rows take long
    batcher = Batcher(program)
    values = [(1,), (2, 3), (4,), (5,), (6, 7, 8, 9, 10), (11,)]
    for given, found in zip(
        values, await asyncio.gather(*(infer(batcher, rows(*each)) for each in values)), strict=True
    ):
        check(given, found)
    assert program.batches == [4, 1, 5, 1]  # a request is never split
    await batcher.drain()


async def test_a_full_queue_refuses():
    gate = threading.Event()
    program = Doubles(gate=gate)
    batcher = Batcher(program, max_batch=2, max_queue=3)
    batcher.seconds = 2.0  # of a row, as if known
    running = asyncio.ensure_future(infer(batcher, rows(0)))
    await until(lambda: batcher.running)
    waiting = [asyncio.ensure_future(infer(batcher, rows(value))) for value in (1, 2, 3)]
    await asyncio.sleep(0)
    error = await told(infer(batcher, rows(4)))
    assert (error.status, error.code, error.retry_after) == (503, "UNAVAILABLE", 8)
    assert "the queue is full: 3 requests wait (limit: 3)" in error.message
    gate.set()
    for value, each in enumerate([running, *waiting]):
        check([value], await each)
    await batcher.drain()


async def test_a_split_request_that_finds_no_place_leaves_nothing_in_the_queue():
    gate = threading.Event()
    batcher = Batcher(Doubles(gate=gate), max_batch=1, max_queue=3)
    tasks = [asyncio.ensure_future(infer(batcher, rows(0)))]
    await until(lambda: batcher.running)
    tasks.append(asyncio.ensure_future(infer(batcher, rows(1))))
    await asyncio.sleep(0)
    assert (await told(infer(batcher, rows(1, 2, 3, 4)))).status == 503
    assert len(batcher) == 1
    gate.set()
    await asyncio.gather(*tasks)
    await batcher.drain()


async def test_a_request_with_more_parts_than_the_queue_has_places_is_taken_by_an_empty_queue():
    batcher = Batcher(Doubles(), max_batch=1, max_queue=3)
    check(range(10), await infer(batcher, rows(*range(10))))
    await batcher.drain()


async def test_a_deadline_that_passes_in_the_queue():
    gate = threading.Event()
    program = Doubles(gate=gate)
    batcher = Batcher(program)
    running = asyncio.ensure_future(infer(batcher, rows(1), deadline=time.monotonic() + 0.2))
    await until(lambda: batcher.running)
    await asyncio.sleep(0.2)
    error = await told(infer(batcher, rows(2), deadline=time.monotonic() + 0.03))  # told while the batch before it runs
    assert (error.status, error.code) == (504, "DEADLINE_EXCEEDED")
    assert "it was not computed" in error.message
    gate.set()
    check([1], await running)  # being computed when its time was over
    assert (await told(infer(batcher, rows(3), deadline=time.monotonic() - 1))).status == 504
    assert program.batches == [1]
    await batcher.drain()


async def occupied(**options):
    """A batcher, its program, the gate for which its first request waits, and that request."""
    gate = threading.Event()
    program = Doubles(gate=gate)
    batcher = Batcher(program, **options)
    running = asyncio.ensure_future(infer(batcher, rows(1)))
    await until(lambda: batcher.running)
    return batcher, program, gate, running


async def test_a_client_that_leaves_is_not_computed():
    batcher, program, gate, running = await occupied(max_batch=2)
    gone = [asyncio.ensure_future(infer(batcher, rows(*each))) for each in [(2, 3), (4, 5, 6)]]
    stays = asyncio.ensure_future(infer(batcher, rows(7)))
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    await asyncio.sleep(0)
    gate.set()
    check([7], await stays)
    check([1], await running)
    assert program.batches == [1, 1]
    assert len(batcher) == batcher.rows == batcher.bytes == 0
    await batcher.drain()


async def test_requests_that_were_given_up_take_no_place_in_the_queue():
    batcher, program, gate, running = await occupied(max_queue=2)
    gone = asyncio.ensure_future(infer(batcher, rows(2)))
    late = asyncio.ensure_future(told(infer(batcher, rows(3), deadline=time.monotonic() + 0.01)))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await late).status == 504
    stay = [asyncio.ensure_future(infer(batcher, rows(value))) for value in (4, 5)]
    await asyncio.sleep(0)
    assert (len(batcher), batcher.rows, batcher.bytes) == (2, 2, 32)
    gate.set()
    await asyncio.gather(running, *stay)
    assert program.batches == [1, 2]
    await batcher.drain()


def test_a_program_that_fails_fails_its_batch_and_no_other(caplog):
    async def main():
        batcher = Batcher(Doubles())
        first, second = await asyncio.gather(
            infer(batcher, rows(1)), infer(batcher, rows(np.nan)), return_exceptions=True
        )
        assert first.status == second.status == 500
        assert "no kernel for this" not in first.message
        number = first.message.split()[-1]
        assert number in caplog.text
        assert "no kernel for this" in caplog.text
        check([3], await infer(batcher, rows(3)))
        await batcher.drain()

    with caplog.at_level(logging.ERROR, "nbkeras.serving"):
        asyncio.run(main())


async def test_data_that_do_not_fit_fail_their_request_and_no_other():
    batcher = Batcher(Doubles())
    first, second, third = await asyncio.gather(
        infer(batcher, rows(1)), infer(batcher, rows(-1)), infer(batcher, rows(2)), return_exceptions=True
    )
    check([1], first)
    check([2], third)
    assert (second.status, second.message) == (400, "input 'x' holds -1.0, expected words from 0 to 9")
    await batcher.drain()


def test_long_programs_run_in_a_thread_and_short_ones_on_the_loop():
    async def main():
        slow = Doubles(seconds=0.01)
        batcher = Batcher(slow)
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.ensure_future(tick())
        for _ in range(5):
            await infer(batcher, rows(1))
        assert threading.main_thread() not in slow.threads
        assert ticks > 10
        ticking.cancel()
        await batcher.drain()
        fast = Doubles()
        batcher = Batcher(fast)
        for _ in range(5):
            await infer(batcher, rows(1))
        assert threading.main_thread() in fast.threads
        await batcher.drain()

    asyncio.run(main())


async def test_drain_waits_for_all_and_gives_the_thread_and_the_program_back():
    threads = []
    program = Doubles(seconds=0.005)
    gone = weakref.ref(program)
    batcher = Batcher(program, max_batch=1)
    tasks = [asyncio.ensure_future(infer(batcher, rows(value))) for value in range(5)]
    await asyncio.sleep(0)
    await batcher.drain()
    assert all(task.done() for task in tasks)
    threads.extend(program.threads - {threading.main_thread()})
    del program, batcher, tasks
    await asyncio.sleep(0.01)
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


async def test_observers_are_told_of_each_batch():
    seen = []
    batcher = Batcher(Doubles(), observe=lambda *figures: seen.append(figures))
    await asyncio.gather(infer(batcher, rows(1)), infer(batcher, rows(2, 3)))
    [(count, seconds, waits)] = seen
    assert count == 3
    assert seconds >= 0 and len(waits) == 2 and all(wait >= 0 for wait in waits)
    await batcher.drain()
