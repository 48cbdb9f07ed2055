"""A worker process: its models, its HTTP server, and its shutdown."""

import asyncio
import functools
import math
import os
import shutil
import signal

import uvloop

from nbkeras.engine.lazy_names import LazyModule
from nbkeras.serving import limits, page
from nbkeras.serving.budget import Budget
from nbkeras.serving.connections import Connection, Server
from nbkeras.serving.door import Acceptor
from nbkeras.serving.exchange import Requests
from nbkeras.serving.http import Application
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.orders import ControlChannel, Seat
from nbkeras.serving.peers import SequenceRouter
from nbkeras.serving.repository import Repository
from nbkeras.serving.sequences import Sequences
from nbkeras.serving.service import Control, Service

# gRPC is imported only in workers, because it starts threads, which a fork would lose
rpc = LazyModule("nbkeras.serving.rpc")


async def serve(
    seat: Seat, repository: Repository, metrics: Metrics, *, control: Control | None, end: asyncio.Event
) -> bool:
    """Answer requests until `end` is set, then finish accepted requests. Returns False if some were late.

    metrics: for GET /metrics and the status page; its part is the repository's observer. control: loads and unloads models for
    requests; None refuses them.
    """
    options = seat.options
    most = options.max_memory_mb
    budget = Budget(limits.memory_of_requests(seat.workers) if most is None else most << 20)
    sequences = Sequences(idle=options.sequence_idle_seconds, max_bytes=options.max_sequences_mb << 20, budget=budget)
    service = Service(
        repository, control=control, sequences=sequences, log=Requests(options.access_log, options.slow_seconds)
    )
    if seat.workers > 1:
        service.peers = SequenceRouter(seat.index, seat.local_paths, seat.local, service.answer)
        await service.peers.start()
    calls = None if seat.grpc_port is None else await rpc.start(service, options, seat.grpc_port)
    routes = page.routes(service, metrics)
    hosts = (options.host.lower(), *options.control_hosts)
    application = Application(service, int(options.max_body_mb * 1e6), routes, hosts)
    server = Server(application, options)
    watching = [
        asyncio.create_task(server.watch()),
        asyncio.create_task(metrics.watch(service, server.connections)),
    ]
    connect = functools.partial(Connection, server)
    door = Acceptor(seat.http, connect, server.connections, seat.counts, seat.index)
    await end.wait()
    service.is_draining = True
    door.close()
    ending = [server.end(options.drain_seconds)]
    if calls is not None:
        ending.append(calls.stop(options.drain_seconds))
    are_done = await asyncio.gather(*ending)
    for watcher in watching:
        watcher.cancel()
    if service.peers is not None:
        await service.peers.close()
    if not all(are_done):
        return False
    await repository.drain()
    return True


def work(seat: Seat) -> int:
    """Run a worker in a process that its supervisor has forked; returns the exit code."""
    limits.set_threads(seat.options.threads, seat.workers)
    limits.keep_no_large_pieces()
    is_done = uvloop.run(_work(seat))
    if os.getppid() != seat.supervisor:  # the supervisor was killed and has left its folder
        shutil.rmtree(seat.folder, ignore_errors=True)
    return 0 if is_done else 1


async def _work(seat: Seat) -> bool:
    end = asyncio.Event()

    def ended() -> None:
        if not end.is_set():
            # The system then kills this process.
            signal.alarm(math.ceil(seat.options.drain_seconds) + 2)
            end.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended)
    metrics = Metrics(seat.board, seat.index)
    repository = Repository(metrics.part)
    orders = ControlChannel(seat, repository, ended)
    beginning = asyncio.create_task(orders.prepare())
    ending = asyncio.create_task(end.wait())
    await asyncio.wait((beginning, ending), return_when=asyncio.FIRST_COMPLETED)
    is_done = True
    if not end.is_set():
        await beginning
        control = orders if seat.options.control else None
        is_done = await serve(seat, repository, metrics, control=control, end=end)
    for task in (beginning, ending):
        task.cancel()
    return is_done
