"""Hostile clients of a real server of two workers: `python tests/serving/hostile.py --connections 10000 --slow 200 --cases 3000`.

- slow ones, which send a byte of a header or of a body each second;
- vanishing ones, which close or reset their connection at every moment, or never read their answer;
- requests of tests/fuzz/fuzz_requests.py over sockets, and bytes that are no gRPC;
- greedy ones, for whose requests there is not enough memory (greedy.py, with a server of its own).

Meanwhile another client sends good requests: each is answered rightly, and in time. At the end no descriptor, no memory and no
worker is lost, and the log has no traceback. The exit code is 1 if something is.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import random
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(FOLDER.parent / "fuzz"), str(FOLDER.parent / "reference")]

import fuzz_requests  # noqa: E402
import greedy  # noqa: E402
import grpc  # noqa: E402
from fuzz_verdict import Fault  # noqa: E402
from live_server import LiveServer, memory_of, open_files  # noqa: E402

import nbkeras  # noqa: E402
from nbkeras import layers  # noqa: E402

LIMIT = 1.0  # seconds for headers, for bodies, and for connections without requests
SLOWEST = 1.0  # seconds that the 99th of 100 good requests may take on a busy machine
GROWTH = 24 << 20  # bytes by which a worker may grow
WIDE = 20_000  # outputs of a model whose answers fill the buffers of sockets
ROWS = 8


class Prober:
    """Sends good requests, one after another, over one connection and over new ones; in a process of its own."""

    def __init__(self, port):
        command = [sys.executable, __file__, "--probe", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.take()

    def take(self):
        """What has happened since the last call: (percentiles of milliseconds, faults)."""
        print("tell", file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def probe(port):
    """The process of a Prober."""
    chance, connection, seconds, faults = random.Random(1), None, [], []
    reading = selectors.DefaultSelector()
    reading.register(sys.stdin, selectors.EVENT_READ)
    while True:
        if reading.select(0.02):
            if not sys.stdin.readline():
                return
            print(json.dumps([percentiles(seconds), faults]), flush=True)
            seconds, faults = [], []
        name, path, headers, body, said = fuzz_requests.inference(chance, "dense")
        start = time.monotonic()
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), 30)
            connection.sendall(fuzz_requests.bytes_of(path, body, headers))
            [(status, found, answer)] = one_answer(connection)
            seconds.append(time.monotonic() - start)
            if status != 200:
                faults.append(f"a good request is answered with {status}: {answer[:200]!r}")
            else:
                fuzz_requests.check_outputs(name, body, said, found, answer)
            if chance.random() < 0.3:
                connection.close()
                connection = None
        except (OSError, Fault) as error:
            faults.append(f"a good request fails after {time.monotonic() - start:.2f} s: {error!r:.300}")
            connection = None


def one_answer(connection):
    data = b""
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError(f"closed after {data[:100]!r}")
        data += piece
        with contextlib.suppress(Fault):
            return fuzz_requests.read_answers(data)


def percentiles(seconds):
    values = np.array(seconds) * 1000
    if not len(values):
        return {"count": 0}
    found = {f"p{mark}": round(float(np.percentile(values, mark)), 1) for mark in (50, 99)}
    return {"count": len(values), **found, "most": round(float(values.max()), 1)}


class Hostile:
    def __init__(self, folder, arguments):
        self.arguments, self.chance = arguments, random.Random(arguments.seed)
        self.faults, self.counts, self.files = [], {}, 0
        tables = []
        for name, model in fuzz_requests.models().items():
            model.save(folder / f"{name}.keras")
            tables.append({"path": folder / f"{name}.keras", "batch_sizes": (1, 4), "stream": name == "steps"})
        x = nbkeras.Input((1,), name="x")
        nbkeras.Model(x, layers.Dense(WIDE, name="y")(x)).save(folder / "wide.keras")
        tables.append({"path": folder / "wide.keras", "batch_sizes": (ROWS,)})
        limits = {"header_seconds": LIMIT, "body_seconds": LIMIT, "keep_alive_seconds": LIMIT, "max_body_mb": 0.2}
        self.server = LiveServer(
            folder, tables, workers=2, grpc_port=0, control=True, control_hosts=("fuzz",), **limits
        )
        self.workers = self.server.workers()
        data = {"name": "x", "shape": [ROWS, 1], "datatype": "FP32", "data": [1.0] * ROWS}
        content = {"inputs": [data], "parameters": {"binary_data_output": True}}
        self.large = fuzz_requests.bytes_of("/v2/models/wide/infer", json.dumps(content).encode())
        self.good = fuzz_requests.bytes_of(*fuzz_requests.inference(random.Random(2), "dense")[1:4:2])

    # -------------------- slow clients --------------------

    async def slow(self, count):
        """Connections that send a byte each second: half of them of a header, half of a body."""
        cut = self.good.index(b"\r\n\r\n") + 4

        async def one(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            start = time.monotonic()
            first = cut + 1 if number % 2 else 5
            writer.write(self.good[:first])
            answer = asyncio.ensure_future(reader.read())
            for byte in self.good[first:]:
                if (await asyncio.wait([answer], timeout=1))[0]:
                    break
                writer.write(bytes([byte]))
            answer.exception() if answer.done() else answer.cancel()
            answered = answer.done() and not answer.cancelled() and answer.exception() is None and answer.result()
            if answered and b" 408 " not in answer.result()[:20]:
                self.faults.append(f"a slow client is answered with {answer.result()[:100]!r}")
            seconds = time.monotonic() - start
            writer.transport.abort()
            if seconds > LIMIT * 3 + 5:
                self.faults.append(f"a slow client keeps its connection for {seconds:.1f} s")

        for _ in range(3):
            await asyncio.gather(*(one(number) for number in range(count)))

    # -------------------- vanishing clients --------------------

    async def vanishing(self, count):
        """Connections that end at every moment, a hundred at a time."""
        places = asyncio.Semaphore(100)
        kinds = [
            self.nothing,
            self.in_head,
            self.in_body,
            self.before_answer,
            self.unread,
            self.half_closed,
            self.pipelined,
        ]

        async def one(number):
            async with places:
                kind = kinds[number % len(kinds)]
                chance = random.Random(f"{self.arguments.seed} {number}")
                with socket.socket() as made:
                    made.setblocking(False)
                    if kind in (self.unread, self.pipelined):
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    loop = asyncio.get_running_loop()
                    with contextlib.suppress(ConnectionError):
                        await loop.sock_connect(made, ("127.0.0.1", self.server.port))
                        await asyncio.wait_for(kind(chance, loop, made), 20)
                    if chance.random() < 0.5:  # a reset instead of an orderly end
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1

        await asyncio.gather(*(one(number) for number in range(count)))

    async def nothing(self, chance, loop, made):
        await asyncio.sleep(chance.choice([0, 0, 0.01]))

    async def in_head(self, chance, loop, made):
        await loop.sock_sendall(made, self.good[: chance.randrange(1, self.good.index(b"\r\n\r\n"))])
        await asyncio.sleep(chance.choice([0, 0.01]))

    async def in_body(self, chance, loop, made):
        data = chance.choice([self.good, self.large])
        await loop.sock_sendall(made, data[: chance.randrange(data.index(b"\r\n\r\n") + 4, len(data))])
        await asyncio.sleep(chance.choice([0, 0.01]))

    async def before_answer(self, chance, loop, made):
        await loop.sock_sendall(made, chance.choice([self.good, self.large]))
        await asyncio.sleep(chance.choice([0, 0.001]))

    async def unread(self, chance, loop, made):
        """The answer fills the buffers of the socket, and nobody reads it."""
        await loop.sock_sendall(made, self.large)
        await asyncio.sleep(chance.choice([0.05, 0.3]))

    async def half_closed(self, chance, loop, made):
        await loop.sock_sendall(made, chance.choice([self.good, self.large, self.good[:50]]))
        made.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(made, 1 << 16):
            pass

    async def pipelined(self, chance, loop, made):
        """Many requests at once whose answers nobody reads: the server does not read on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(made, self.large * 400), 0.3)

    async def never_reading(self, count):
        """Connections whose answers are never read: the server ends them when their time is over."""
        loop, made = asyncio.get_running_loop(), []
        for _ in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", self.server.port))
            await loop.sock_sendall(one, self.large)
            made.append(one)
        await asyncio.sleep(LIMIT * 3 + 2)
        left = sum(open_files(process) for process in self.workers.values()) - self.files
        if left > 10:
            self.faults.append(f"{left} descriptors are kept for {count} clients that do not read")
        for one in made:
            one.close()

    # -------------------- hostile requests --------------------

    async def requests(self, first, count):
        places = asyncio.Semaphore(50)

        async def one(number):
            chance = random.Random(f"requests {self.arguments.seed} {number}")
            kind, asked = fuzz_requests.drawn(chance)
            if kind is fuzz_requests.case_repository and any(
                f"/{name}/" in str(asked.data) for name in fuzz_requests.INPUTS
            ):
                return
            async with places:
                try:
                    cut = fuzz_requests.pieces(chance, asked.data)
                    answers, was_slow = await asyncio.wait_for(self.exchange(cut, asked), 30)
                    asked.strict = asked.strict and not was_slow
                    fuzz_requests.judge(kind, asked, answers, True)
                except TimeoutError:
                    self.faults.append(f"case {number}, {kind.__name__}: hangs: {asked.data[:500]!r}")
                except Fault as fault:
                    self.faults.append(f"case {number}, {kind.__name__}: {fault}: {asked.data[:500]!r}")
            self.counts["requests"] = self.counts.get("requests", 0) + 1

        await asyncio.gather(*(one(number) for number in range(first, first + count)))

    async def exchange(self, pieces, asked):
        """The answers, and whether this client was so slow that the server may have given it up."""
        start = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, limit=1 << 22)
        data = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if len(pieces) < 20:
                    await asyncio.sleep(0.001)
            was_slow = time.monotonic() - start > LIMIT / 2
            while piece := await reader.read(1 << 20):
                data += piece
                with contextlib.suppress(Fault):
                    if 0 < len(asked.expects) <= len(fuzz_requests.read_answers(data, asked.heads)):
                        break
        except ConnectionError:  # closed before all was sent
            was_slow = True
        writer.close()
        try:
            return fuzz_requests.read_answers(data, asked.heads), was_slow
        except Fault:
            if len(data) and b"\r\n\r\n" in data:
                raise
            return [], was_slow  # a reset took the answer

    def grpc_garbage(self, count):
        """Bytes that are no gRPC, and frames of HTTP/2 that make no sense."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        settings = b"\0\0\0\x04\0\0\0\0\0"
        for number in range(count):
            chance = random.Random(f"garbage {self.arguments.seed} {number}")
            frame = chance.randrange(2000).to_bytes(3) + chance.randbytes(6) + chance.randbytes(chance.randrange(400))
            data = chance.choice(
                [chance.randbytes(300), preface + settings + frame * chance.randint(1, 20), preface, self.good, b""]
            )
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.server.grpc_port), 10) as made,
            ):
                made.sendall(data)
                if chance.random() < 0.5:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if chance.random() < 0.2:
                    made.settimeout(0.05)
                    made.recv(1000)
            self.counts["gRPC bytes"] = self.counts.get("gRPC bytes", 0) + 1

    def grpc_messages(self, count):
        """Messages with mistakes, in good calls."""
        kinds = [fuzz_requests.messages.message(f"inference.ModelInfer{name}") for name in ("Request", "Response")]
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}") as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for number in range(count):
                data = fuzz_requests.grpc_bytes(random.Random(f"grpc {self.arguments.seed} {number}"))
                self.counts["gRPC messages"] = self.counts.get("gRPC messages", 0) + 1
                try:
                    answer = kinds[1].FromString(call(data, timeout=20))
                except grpc.RpcError as error:
                    code, text = error.code().name, error.details()
                    good = code in ("INVALID_ARGUMENT", "NOT_FOUND") or (code == "INTERNAL" and "deserializ" in text)
                    if not good or "Traceback" in text:
                        self.faults.append(f"gRPC message {number}: {code}: {text[:300]}")
                    continue
                try:
                    fuzz_requests.check_grpc(kinds[0].FromString(data), answer)
                except Fault as fault:
                    self.faults.append(f"gRPC message {number}: {fault}")

    async def repository(self, outside):
        """The API loads what the server was started with, and reads no other file."""
        parameters = [
            {"path": str(outside)},
            {"config": json.dumps({"path": str(outside)})},
            {"file:1/model.keras": "UEsDBA=="},
        ]
        names = ["dense", "outside", "..%2foutside", "%2e%2e/outside", str(outside).replace("/", "%2f"), "dense%00"]
        before = await self.index()
        for given in [*parameters, {}]:
            for name in names if not given else ["dense", "outside"]:
                if name == "dense" and not given:
                    continue
                body = json.dumps({"parameters": given}).encode()
                data = fuzz_requests.bytes_of(f"/v2/repository/models/{name}/load", body, ["connection: close"])
                [(status, _, answer)], _ = await self.exchange([data], fuzz_requests.Asked(data))
                if status not in (400, 404) or b"Traceback" in answer:
                    self.faults.append(f"a load of {name} with {given} is answered with {status}: {answer[:300]!r}")
        if await self.index() != before:
            self.faults.append("the API has changed what is served")

    async def index(self):
        data = fuzz_requests.bytes_of("/v2/repository/index", b"", ["connection: close"])
        [(_, _, answer)], _ = await self.exchange([data], fuzz_requests.Asked(data))
        return json.loads(answer)

    # -------------------- the whole --------------------

    def settle(self):
        """Wait until connections that were left are closed; (descriptors, bytes) of all workers."""
        end, files = time.monotonic() + (15 if self.files else 3 * LIMIT), 1 << 20
        while time.monotonic() < end and not (self.files and files <= self.files + 2):
            files = min(files, sum(open_files(process) for process in self.workers.values()))
            time.sleep(0.1)
        return files, [memory_of(process) for process in self.workers.values()]

    def run(self, report=print):
        arguments = self.arguments
        prober = Prober(self.server.port)
        with tempfile.NamedTemporaryFile(suffix=".keras") as outside:
            outside.write(b"not yours")
            outside.flush()
            phases = {
                "warm-up": lambda: asyncio.run(self.warm_up()),
                "nothing": lambda: time.sleep(2),
                "slow clients": lambda: asyncio.run(self.slow(arguments.slow)),
                "vanishing clients": lambda: asyncio.run(self.vanishing(arguments.connections)),
                "clients that never read": lambda: asyncio.run(self.never_reading(arguments.slow)),
                "hostile requests": lambda: asyncio.run(self.requests(0, arguments.cases)),
                "hostile bytes for gRPC": lambda: self.grpc_garbage(arguments.cases // 2),
                "hostile messages of gRPC": lambda: self.grpc_messages(arguments.cases),
                "repository": lambda: asyncio.run(self.repository(pathlib.Path(outside.name))),
            }
            found = {}
            for name, phase in phases.items():
                start = time.monotonic()
                phase()
                files, memory = self.settle()
                if name == "warm-up":
                    self.files, self.memory = files, memory
                good, faults = prober.take()
                self.faults += [f"{name}: {fault}" for fault in faults]
                found[name] = {
                    "seconds": round(time.monotonic() - start, 1),
                    "good_requests_ms": good,
                    "descriptors": files,
                    "memory_mb": [round(value / 1e6, 1) for value in memory],
                }
                report(f"{name}: {found[name]}", flush=True)
                if name != "warm-up":
                    self.check(name, files, memory, good)
        prober.end()
        if self.server.workers() != self.workers:
            self.faults.append("a worker has ended")
        if self.server.tracebacks():
            self.faults.append("the log has a traceback: " + "".join(self.server.lines)[-3000:])
        code = self.server.stop()
        if code or self.server.left_files():
            self.faults.append(f"the exit code is {code}, and these are left: {self.server.left_files()}")
        return {"phases": found, "counts": self.counts, "faults": self.faults[:50]}

    async def warm_up(self):
        await self.vanishing(min(300, self.arguments.connections))
        await self.requests(10**6, min(300, self.arguments.cases))
        self.counts.clear()

    def check(self, name, files, memory, good):
        if files > self.files + 4:
            self.faults.append(f"{name}: {files} descriptors, {self.files} before")
        for before, after in zip(self.memory, memory, strict=True):
            if after > before + GROWTH:
                self.faults.append(f"{name}: a worker has grown from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
        if good["count"] and good["p99"] > SLOWEST * 1000:
            self.faults.append(f"{name}: good requests take {good}")


def main(arguments=None, report=print):
    parser = argparse.ArgumentParser(description="Hostile clients of a real server.")
    parser.add_argument("--connections", type=int, default=10_000, help="that are opened and dropped")
    parser.add_argument("--slow", type=int, default=200, help="connections at a time that are slow, or never read")
    parser.add_argument("--cases", type=int, default=3000, help="hostile requests of HTTP and of gRPC, each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", help="write what happened into this file, as JSON")
    options = parser.parse_args(arguments)
    if options.probe:
        return probe(options.probe)
    with tempfile.TemporaryDirectory() as folder:
        hostile = Hostile(pathlib.Path(folder), options)
        with hostile.server:
            found = hostile.run(report)
    found["faults"] += greedy.main(report)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    found = main()
    if found is None:
        sys.exit()
    print(json.dumps({name: found[name] for name in ("counts", "faults")}, indent=1))
    sys.exit(bool(found["faults"]))
