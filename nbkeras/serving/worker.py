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
from nbkeras.serving.acceptor import Acceptor
from nbkeras.serving.budget import Budget
from nbkeras.serving.connections import Connection, Server
from nbkeras.serving.control_channel import ControlChannel, WorkerSetup
from nbkeras.serving.http import Application
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.repository import Repository
from nbkeras.serving.requests import RequestLog
from nbkeras.serving.sequence_router import SequenceRouter
from nbkeras.serving.sequences import Sequences
from nbkeras.serving.service import Control, Service

# gRPC is imported only in workers, because it starts threads, which a fork would lose
rpc = LazyModule("nbkeras.serving.rpc")


async def serve(
    setup: WorkerSetup, repository: Repository, metrics: Metrics, *, control: Control | None, end: asyncio.Event
) -> bool:
    """Answer requests until `end` is set, then finish accepted requests. Returns False if some were late.

    metrics: for GET /metrics and the status page; its segment is the repository's observer. control: loads and unloads models for
    requests; None refuses them.
    """
    options = setup.options
    memory = options.max_memory_mb
    budget = Budget(limits.memory_of_requests(setup.workers) if memory is None else memory << 20)
    sequences = Sequences(idle=options.sequence_idle_seconds, max_bytes=options.max_sequences_mb << 20, budget=budget)
    service = Service(
        repository, control=control, sequences=sequences, log=RequestLog(options.access_log, options.slow_seconds)
    )
    if setup.workers > 1:
        service.router = SequenceRouter(setup.index, setup.local_paths, setup.local, service.infer_forwarded)
        await service.router.start()
    calls = None if setup.grpc_port is None else await rpc.start(service, options, setup.grpc_port)
    routes = page.routes(service, metrics)
    hosts = (options.host.lower(), *options.control_hosts)
    application = Application(service, int(options.max_body_mb * 1e6), routes, hosts)
    server = Server(application, options)
    watching = [asyncio.create_task(server.watch()), asyncio.create_task(metrics.watch(service, server.connections))]
    connect = functools.partial(Connection, server)
    acceptor = Acceptor(setup.http, connect, server.connections, setup.counts, setup.index)
    await end.wait()
    service.is_draining = True
    acceptor.close()
    ending = [server.end(options.drain_seconds)]
    if calls is not None:
        ending.append(calls.stop(options.drain_seconds))
    are_done = await asyncio.gather(*ending)
    for watcher in watching:
        watcher.cancel()
    if service.router is not None:
        await service.router.close()
    if not all(are_done):
        return False
    await repository.drain()
    return True


def work(setup: WorkerSetup) -> int:
    """Run a worker in a process that its supervisor has forked; returns the exit code."""
    limits.set_threads(setup.options.threads, setup.workers)
    limits.keep_no_large_pieces()
    is_done = uvloop.run(_work(setup))
    if os.getppid() != setup.supervisor:  # the supervisor was killed and has left its folder
        shutil.rmtree(setup.folder, ignore_errors=True)
    return 0 if is_done else 1


async def _work(setup: WorkerSetup) -> bool:
    end = asyncio.Event()

    def ended() -> None:
        if not end.is_set():
            # The system then kills this process.
            signal.alarm(math.ceil(setup.options.drain_seconds) + 2)
            end.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended)
    metrics = Metrics(setup.metrics, setup.index)
    repository = Repository(metrics.segment)
    channel = ControlChannel(setup, repository, ended)
    beginning = asyncio.create_task(channel.prepare())
    ending = asyncio.create_task(end.wait())
    await asyncio.wait((beginning, ending), return_when=asyncio.FIRST_COMPLETED)
    is_done = True
    if not end.is_set():
        await beginning
        control = channel if setup.options.control else None
        is_done = await serve(setup, repository, metrics, control=control, end=end)
    for task in (beginning, ending):
        task.cancel()
    return is_done
