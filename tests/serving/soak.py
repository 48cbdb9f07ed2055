"""The soak: `python tests/serving/soak.py --minutes 60`. A server of two workers under mixed load, while models are swapped and
workers are killed.

Each answer is compared with `predict` of the versions that may answer: the one that was served when the request was sent, and,
while a swap is under way, the one that comes. A request may be lost only if a worker was killed while it was under way. In the
middle third nobody is killed, so that what a worker would lose over time shows in its memory.

Prints what happened every 10 seconds, and writes a summary as JSON. The exit code is 1 if something went wrong.
"""

import argparse
import array
import asyncio
import collections
import gzip
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import numpy as np
from live_server import LiveServer, clients_of, memory_of, old_mappings, open_files

import nbkeras
from nbkeras import layers

VERSIONS = 4  # sets of weights of each model
POOL = 96  # rows, or sequences, that requests take
STEPS = 24  # of a sequence
TOLERANCE = 2e-5
SWAP_SECONDS, KILL_SECONDS, SAMPLE_SECONDS = 10.0, 20.0, 10.0
KILL_WINDOW = 3.0  # seconds after a kill in which a request that was under way may be told that a worker has ended
CLIENTS = 16

ABANDONED, WRONG, LOST = "abandoned", "wrong", "lost"


# -------------------- models and their answers --------------------


def dense():
    x = nbkeras.Input((8,), name="x")
    return nbkeras.Model(x, layers.Dense(4, name="y")(layers.Dense(64, "relu")(x)))


def mixed():
    words, numbers = nbkeras.Input((5,), dtype="int32", name="words"), nbkeras.Input((4,), name="numbers")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(20, 3)(words)), numbers])
    hidden = layers.Dense(16, "tanh")(both)
    outputs = [layers.Dense(3, "softmax", name="kinds")(hidden), layers.Dense(1, name="value")(hidden)]
    return nbkeras.Model([words, numbers], outputs)


def images():
    x = nbkeras.Input((12, 12, 1), name="image")
    hidden = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
    return nbkeras.Model(x, layers.Dense(3, name="classes")(layers.Flatten()(hidden)))


def steps():
    x = nbkeras.Input((None, 3), name="steps")
    return nbkeras.Model(x, layers.Dense(2, name="next")(layers.LSTM(8, return_sequences=True)(x)))


class Served:
    """A model of the server: its weights, what they answer, and which of them may answer now."""

    def __init__(self, name, build, path, folder, *, stream=False):
        self.name, self.path, self.stream = name, path, stream
        self.version = path.parent.name if path.parent.name.isdecimal() else "1"
        nbkeras.utils.set_random_seed(len(name))
        model = build()
        chance = np.random.default_rng(len(name))
        self.inputs = {}
        for spec in model.inputs:
            shape = (POOL, *(STEPS if size is None else size for size in spec.shape[1:]))
            is_integer = "int" in str(spec.dtype)
            values = chance.integers(0, 20, shape) if is_integer else chance.normal(size=shape)
            self.inputs[spec.name] = values.astype(spec.dtype)
        self.outputs, self.files = [], []
        for number in range(VERSIONS):
            model.set_weights(
                [chance.normal(size=weights.shape).astype(weights.dtype) * 0.5 for weights in model.get_weights()]
            )
            found = model.predict(list(self.inputs.values()), verbose=0)
            self.outputs.append(found if isinstance(found, list) else [found])
            self.files.append(folder / f"{name}-{self.version}-{number}.keras")
            model.save(self.files[-1])
        self.names = [output.name for output in model.outputs] if hasattr(model.outputs[0], "name") else []
        self.current = 0
        self.allowed = {0}
        self.swaps = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.files[0], path)

    def put(self, number):
        """Write other weights into the model's file, at once."""
        unfinished = self.path.with_suffix(".new")
        shutil.copy(self.files[number], unfinished)
        os.replace(unfinished, self.path)

    def url(self):
        named = f"/versions/{self.version}" if self.path.parent.name.isdecimal() else ""
        return f"/v2/models/{self.name}{named}/infer"


# -------------------- the clients --------------------


class Gone(Exception):
    """The connection ended before the answer was complete."""


class Http:
    """A connection that speaks HTTP."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None
        self.own_port = 0  # of this end

    async def open(self):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.own_port = self.writer.get_extra_info("sockname")[1]

    def close(self):
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None

    async def request(self, method, path, body=b"", headers=()):
        """(status, headers, body) of the answer; Gone if there is none."""
        try:
            await self.open()
            lines = [f"{method} {path} HTTP/1.1", "host: soak", f"content-length: {len(body)}", *headers, "", ""]
            self.writer.write("\r\n".join(lines).encode() + body)
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            found = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            content = await self.reader.readexactly(int(found.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Gone(type(error).__name__) from None
        if found.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), found, content


def binary_body(tensors, more):
    """The body of a request with the binary extension, and the length of its JSON."""
    entries, parts = [], []
    for name, values in tensors.items():
        data = values.tobytes()
        entry = {"name": name, "shape": list(values.shape), "datatype": datatype(values)}
        entries.append(entry | {"parameters": {"binary_data_size": len(data)}})
        parts.append(data)
    more = dict(more)
    more["parameters"] = {**more.get("parameters", {}), "binary_data_output": True}
    head = json.dumps({"inputs": entries, **more}).encode()
    return head + b"".join(parts), len(head)


def datatype(values):
    return {"float32": "FP32", "int32": "INT32"}[str(values.dtype)]


def read_outputs(headers, body):
    """The outputs of an answer of HTTP, by name."""
    size = int(headers.get("inference-header-content-length", len(body)))
    content, rest = json.loads(body[:size]), body[size:]
    found = {}
    for output in content["outputs"]:
        if "data" in output:
            values = np.array(output["data"], "float32")
        else:
            length = output["parameters"]["binary_data_size"]
            values, rest = np.frombuffer(rest[:length], "<f4"), rest[length:]
        found[output["name"]] = values.reshape(output["shape"])
    return found, content.get("id")


class Soak:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.chance = random.Random(arguments.seed)
        weights = folder / "weights"
        weights.mkdir()
        models = folder / "models"
        self.models = [
            Served("dense", dense, models / "dense.keras", weights),
            Served("mixed", mixed, models / "mixed.keras", weights),
            Served("images", images, models / "images" / "1" / "model.keras", weights),
            Served("images", images, models / "images" / "2" / "model.keras", weights),
            Served("steps", steps, models / "steps.keras", weights, stream=True),
        ]
        tables = [{"path": models / name} for name in ("dense.keras", "mixed.keras")]
        tables += [{"path": models / "images", "name": "images"}]
        tables += [{"path": models / "steps.keras", "stream": True, "steps": (1, 4)}]
        options = {"workers": 2, "control": True, "control_hosts": ("soak",), "keep_alive_seconds": 5.0}
        self.server = LiveServer(folder, tables, grpc_port=0, **options)
        self.start = time.monotonic()
        self.seconds = arguments.minutes * 60
        self.is_over = False
        self.kills = []  # their times
        self.cut_off = set()  # ports of clients whose connections were those of a killed worker
        self.counts = collections.Counter()
        self.faults = []  # in words
        self.errors = collections.Counter()  # answers 5xx and gRPC's codes, by kind
        self.latencies = collections.defaultdict(lambda: array.array("f"))
        self.samples = []
        self.zombies, self.lasting_zombies = set(), 0

    # -------------------- verdicts --------------------

    def fault(self, kind, text):
        self.counts[kind] += 1
        if len(self.faults) < 100:
            self.faults.append(f"{time.monotonic() - self.start:.1f} s: {kind}: {text}")
        print(f"FAULT {kind}: {text}", flush=True)

    def was_killed(self, since):
        """Whether a worker was killed while a request that began then was under way, or just before."""
        return any(moment > since - KILL_WINDOW for moment in self.kills)

    def check(self, model, candidates, rows, found, names, kind, step=None):
        """The versions that can have answered so; a fault if there is none."""
        fitting = set()
        for number in candidates:
            wanted = self.wanted(model, number, rows, step)
            if all(
                found[name].shape == values.shape and np.allclose(found[name], values, rtol=TOLERANCE, atol=TOLERANCE)
                for name, values in zip(names, wanted, strict=True)
            ):
                fitting.add(number)
        if not fitting:
            others = [
                number
                for number in range(VERSIONS)
                if all(
                    found[name].shape == values.shape and np.allclose(found[name], values, rtol=1e-3, atol=1e-3)
                    for name, values in zip(names, self.wanted(model, number, rows, step), strict=True)
                )
            ]
            self.fault(WRONG, f"{kind} {model.name}: none of {sorted(candidates)} answers so, but {others}")
        return fitting

    @staticmethod
    def wanted(model, number, rows, step):
        outputs = model.outputs[number]
        if step is None:
            return [values[rows] for values in outputs]
        first, count = step
        return [values[rows, first : first + count] for values in outputs]

    # -------------------- requests --------------------

    async def client(self, number):
        """Requests over one connection after another, of all kinds."""
        chance = random.Random(f"{self.arguments.seed} {number}")
        http = Http(self.server.port)
        kinds = {
            self.infer_json: 30,
            self.infer_binary: 30,
            self.infer_packed: 4,
            self.infer_many: 3,
            self.refused: 8,
            self.asked: 5,
            self.abandoned: 3,
            self.sequence: 2,
            self.grpc_infer: 15,
        }
        while not self.is_over:
            [method] = chance.choices(list(kinds), kinds.values())
            try:
                await method(chance, http)
            except Gone as gone:
                self.gone(method.__name__, http, str(gone))
                http.close()
            if chance.random() < 0.03:
                http.close()
            await asyncio.sleep(chance.expovariate(self.arguments.rate / CLIENTS))
        http.close()

    def gone(self, kind, http, how):
        if http.own_port in self.cut_off:
            self.cut_off.discard(http.own_port)
            self.counts["lost with a killed worker"] += 1
        elif not self.is_over:
            self.fault(LOST, f"{kind}: {how}")

    async def timed(self, kind, http, *request):
        start = time.monotonic()
        self.counts["requests"] += 1
        status, headers, body = await http.request(*request)
        self.latencies[kind].append(time.monotonic() - start)
        if status >= 500:
            text = json.loads(body).get("error", "") if body else ""
            self.error(status, text, start)
        return status, headers, body

    def error(self, status, text, start):
        short = "".join("#" if letter.isdigit() else letter for letter in text)[:90]
        self.errors[f"{status} {short}"] += 1
        if not self.was_killed(start) and not self.is_over:
            self.fault("5xx", f"{status}: {text}")

    def pick(self, chance, maximum=12):
        model = chance.choice([model for model in self.models if not model.stream])
        rows = [chance.randrange(POOL) for _ in range(chance.choice([1, 1, 1, 2, 3, chance.randint(1, maximum)]))]
        return model, rows, {name: values[rows] for name, values in model.inputs.items()}

    async def infer_json(self, chance, http, pack=False, maximum=12):
        model, rows, tensors = self.pick(chance, maximum)
        content = {"id": str(chance.random()), "inputs": []}
        for name, values in tensors.items():
            data = values.tolist() if chance.random() < 0.5 else values.ravel().tolist()
            entry = {"name": name, "shape": list(values.shape), "datatype": datatype(values), "data": data}
            content["inputs"].append(entry)
        body, headers = json.dumps(content).encode(), ["content-type: application/json"]
        if pack:
            body = gzip.compress(body, 1)
            headers += ["content-encoding: gzip", "accept-encoding: gzip"]
        candidates = set(model.allowed)
        status, answered, body = await self.timed("json", http, "POST", model.url(), body, headers)
        candidates |= model.allowed
        if answered.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.judge(model, candidates, rows, status, answered, body, content["id"], "json")

    async def infer_packed(self, chance, http):
        await self.infer_json(chance, http, pack=True)

    async def infer_many(self, chance, http):
        await self.infer_json(chance, http, maximum=POOL)

    async def infer_binary(self, chance, http):
        model, rows, tensors = self.pick(chance)
        identity = str(chance.random())
        body, size = binary_body(tensors, {"id": identity})
        headers = ["content-type: application/octet-stream", f"inference-header-content-length: {size}"]
        candidates = set(model.allowed)
        status, answered, body = await self.timed("binary", http, "POST", model.url(), body, headers)
        candidates |= model.allowed
        self.judge(model, candidates, rows, status, answered, body, identity, "binary")

    def judge(self, model, candidates, rows, status, headers, body, identity, kind, step=None):
        if status >= 500:
            return None
        if status != 200:
            self.fault(WRONG, f"{kind} {model.name}: status {status}: {body[:200]!r}")
            return None
        found, told = read_outputs(headers, body)
        if told != identity:
            self.fault(WRONG, f"{kind} {model.name}: the answer has the id {told!r}, not {identity!r}")
        self.counts["answers compared"] += 1
        return self.check(model, candidates, rows, found, list(found), kind, step)

    async def refused(self, chance, http):
        """Requests with mistakes are told so, and the connection goes on."""
        status, path, body = chance.choice(
            [
                (400, "/v2/models/dense/infer", b'{"inputs": []}'),
                (400, "/v2/models/dense/infer", b"{"),
                (
                    400,
                    "/v2/models/dense/infer",
                    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
                ),
                (404, "/v2/models/none/infer", b'{"inputs": []}'),
                (404, "/v2/nothing", b""),
            ]
        )
        headers = ["content-type: application/json"]
        found, _, answer = await self.timed("refused", http, "POST", path, body, headers)
        if found < 500 and (found != status or "error" not in json.loads(answer)):
            self.fault(WRONG, f"a request with a mistake is answered with {found}: {answer[:200]!r}")

    async def asked(self, chance, http):
        path = chance.choice(
            ["/v2/health/ready", "/v2/health/live", "/v2/models/dense", "/v2", "/v2/models/mixed/ready"]
        )
        found, _, answer = await self.timed("asked", http, "GET", path)
        if found < 500 and found != 200:
            self.fault(WRONG, f"{path} is answered with {found}: {answer[:200]!r}")

    async def abandoned(self, chance, http):
        """A request that is not sent to its end, or whose answer nobody waits for."""
        await http.open()
        model, _, tensors = self.pick(chance, POOL)
        body, size = binary_body(tensors, {})
        head = f"POST {model.url()} HTTP/1.1\r\nhost: soak\r\ncontent-length: {len(body)}\r\n"
        data = f"{head}inference-header-content-length: {size}\r\n\r\n".encode() + body
        http.writer.write(data[: chance.randrange(1, len(data) + 1)])
        await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
        http.close()
        self.counts[ABANDONED] += 1

    async def sequence(self, chance, http):
        """A whole sequence, step by step; each step over the connection of this client, which may be a new one."""
        model = next(model for model in self.models if model.stream)
        row, identity = chance.randrange(POOL), chance.choice([chance.randrange(1, 2**63), f"s{chance.random()}"])
        begun = time.monotonic()
        candidates, at = set(model.allowed), 0
        pause = chance.choice([0.0, 0.01, 0.3])
        while at < STEPS and not self.is_over:
            count = min(chance.choice([1, 1, 4]), STEPS - at)
            parameters = {"sequence_id": identity, "sequence_start": at == 0, "sequence_end": at + count == STEPS}
            tensors = {"steps": model.inputs["steps"][[row], at : at + count]}
            body, size = binary_body(tensors, {"id": str(at), "parameters": parameters})
            headers = [f"inference-header-content-length: {size}"]
            status, answered, body = await self.timed("sequence", http, "POST", model.url(), body, headers)
            if status in (400, 503) and at and self.was_killed(begun) and b"sequence" in body:
                self.counts["sequences lost with a killed worker"] += 1
                return
            if at == 0:
                candidates |= model.allowed
            fitting = self.judge(model, candidates, [row], status, answered, body, str(at), "sequence", (at, count))
            if not fitting:
                return
            candidates = fitting
            at += count
            if chance.random() < 0.1:
                http.close()
            await asyncio.sleep(pause)
        self.counts["sequences"] += 1

    async def grpc_infer(self, chance, http):
        call = self.grpc()
        model, rows, tensors = self.pick(chance)
        identity = str(chance.random())
        request = self.request_type(model_name=model.name, id=identity)
        if model.path.parent.name.isdecimal():
            request.model_version = model.version
        for name, values in tensors.items():
            request.inputs.add(name=name, datatype=datatype(values), shape=values.shape)
            request.raw_input_contents.append(values.tobytes())
        candidates = set(model.allowed)
        start = time.monotonic()
        self.counts["requests"] += 1
        try:
            answer = await call(request, timeout=30)
        except self.grpc_module.RpcError as error:
            code = error.code().name
            if code == "UNAVAILABLE" and self.was_killed(start):
                self.counts["lost with a killed worker"] += 1
            elif not self.is_over:
                self.errors[f"gRPC {code} {error.details()[:60]}"] += 1
                self.fault(LOST if code == "UNAVAILABLE" else "5xx", f"gRPC {code}: {error.details()}")
            return
        self.latencies["gRPC"].append(time.monotonic() - start)
        candidates |= model.allowed
        raw = answer.raw_output_contents
        found = {
            output.name: np.frombuffer(data, "<f4").reshape(output.shape)
            for output, data in zip(answer.outputs, raw, strict=True)
        }
        if answer.id != identity:
            self.fault(WRONG, f"gRPC: the answer has the id {answer.id!r}, not {identity!r}")
        self.counts["answers compared"] += 1
        self.check(model, candidates, rows, found, list(found), "gRPC")

    def grpc(self):
        """A call over one of a few channels, each of which lives for some hundred requests."""
        place = self.chance.randrange(len(self.channels))
        channel, left = self.channels[place]
        if not left:
            if channel is not None:
                asyncio.get_running_loop().create_task(channel.close(5))
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
            channel = self.grpc_module.aio.insecure_channel(f"127.0.0.1:{self.server.grpc_port}", options=options)
            left = 300
        self.channels[place] = channel, left - 1
        return channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", self.request_type.SerializeToString, self.response_type
        )

    # -------------------- what happens to the server --------------------

    async def swap(self):
        """Other weights for models, by the API and by SIGHUP."""
        while not self.is_over:
            await asyncio.sleep(SWAP_SECONDS)
            if self.is_over:
                return
            by_signal = self.chance.random() < 0.5
            swapped = self.chance.sample(self.models, self.chance.choice([1, 2, len(self.models)]))
            if not by_signal:  # the API takes all versions of a name
                swapped = [model for model in self.models if model.name == swapped[0].name]
            first = len(self.server.lines)
            others = {}
            for model in swapped:
                other = self.chance.choice([number for number in range(VERSIONS) if number != model.current])
                model.allowed = {model.current, other}
                others[model] = other
                model.put(other)
            if by_signal:
                self.server.process.send_signal(signal.SIGHUP)
            else:
                asking = asyncio.create_task(self.load(swapped[0].name))
            waits_for = dict(others)
            end = time.monotonic() + 60
            while waits_for and time.monotonic() < end and not self.is_over:
                for model in list(waits_for):
                    if self.server.find(f"model '{model.name}' version '{model.version}' is served", first):
                        model.current = waits_for.pop(model)
                        model.allowed = {model.current}
                        model.swaps += 1
                        self.counts[f"swaps by {'SIGHUP' if by_signal else 'API'}"] += 1
                await asyncio.sleep(0.02)
            if waits_for and not self.is_over:
                log = "".join(self.server.lines[first:])[-2000:]
                self.fault("swap", f"{[model.name for model in waits_for]} not swapped in a minute: {log}")
            if not by_signal:
                await asking

    async def load(self, name):
        http = Http(self.server.port)
        try:
            status, _, body = await http.request("POST", f"/v2/repository/models/{name}/load")
        except Gone as gone:
            self.gone("load", http, str(gone))
            return
        finally:
            http.close()
        if status != 200 and not self.is_over:
            self.fault("swap", f"load of {name} is answered with {status}: {body[:300]!r}")

    async def kill(self):
        """Kill workers at random; not in the middle third, and not at the end: `drain` waits for an answer."""
        while not self.is_over:
            await asyncio.sleep(self.chance.uniform(0.6, 1.4) * KILL_SECONDS)
            passed = (time.monotonic() - self.start) / self.seconds
            if self.is_over or passed >= 1 or 1 / 3 < passed < 2 / 3:
                continue
            process = self.chance.choice(list(self.server.workers().values()))
            try:
                os.kill(process, signal.SIGSTOP)  # so that it accepts no connection while its connections are read
                self.cut_off |= clients_of(process, self.server.port)
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills.append(time.monotonic())
            self.counts["kills"] += 1

    async def sample(self):
        while not self.is_over:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.look()

    def look(self):
        processes = self.server.processes()
        zombies = {process for process, state in processes.items() if state == "Z"}
        self.lasting_zombies += len(zombies & self.zombies)
        self.zombies = zombies
        workers = self.server.workers()
        found = {
            "second": round(time.monotonic() - self.start, 1),
            "memory": sum(map(memory_of, [self.server.process.pid, *workers.values()])),
            "supervisor_memory": memory_of(self.server.process.pid),
            "workers": {str(process): memory_of(process) for process in workers.values()},
            "open_files": {str(process): open_files(process) for process in workers.values()},
            "supervisor_open_files": open_files(self.server.process.pid),
            "old_mappings": max(map(old_mappings, workers.values())),
            "processes": len(processes),
            "left_files": len(self.server.left_files()),
        }
        self.samples.append(found)
        print(
            f"{found['second']:7.0f} s: {self.counts['requests']} requests, {self.counts[WRONG]} wrong, "
            f"{self.counts[LOST]} lost, {self.counts['kills']} kills, "
            f"{found['memory'] / 1e6:.0f} MB, {sum(found['open_files'].values())} descriptors, "
            f"{found['left_files']} files, {found['old_mappings']} old mappings",
            flush=True,
        )

    # -------------------- the whole --------------------

    async def run(self):
        import grpc
        import grpc.aio

        from nbkeras.serving import messages

        self.grpc_module = grpc
        self.request_type = messages.message("inference.ModelInferRequest")
        self.response_type = messages.message("inference.ModelInferResponse").FromString
        self.channels = [(None, 0)] * 4
        clients = [asyncio.create_task(self.client(number)) for number in range(CLIENTS)]
        others = [asyncio.create_task(task()) for task in (self.swap, self.kill, self.sample)]
        end = self.start + self.seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.2)
            for task in [*clients, *others]:
                if task.done():
                    task.result()
            if self.server.process.poll() is not None:
                self.fault("end", f"the server has ended with {self.server.process.returncode}")
                break
        self.look()
        await self.drain()
        self.is_over = True
        for task in others:
            task.cancel()
        await asyncio.gather(*clients, *others, return_exceptions=True)
        for channel, _ in self.channels:
            if channel is not None:
                await channel.close()

    async def drain(self):
        """SIGTERM under load: what was accepted is answered."""
        http = Http(self.server.port)
        model, rows, tensors = self.pick(self.chance)
        body, size = binary_body(tensors, {"id": "last"})
        await http.open()
        head = f"POST {model.url()} HTTP/1.1\r\nhost: soak\r\ncontent-length: {len(body)}\r\n"
        http.writer.write(f"{head}inference-header-content-length: {size}\r\n\r\n".encode() + body[:-1])
        await asyncio.sleep(0.3)
        self.is_over = True  # connections that end from here on are no faults
        self.server.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        http.writer.write(body[-1:])
        try:
            answer = await asyncio.wait_for(http.reader.readuntil(b"\r\n\r\n"), 30)
            if b" 200 " not in answer.split(b"\r\n")[0]:
                self.fault(LOST, f"the last request is answered with {answer[:200]!r}")
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.fault(LOST, f"a request whose body ended after SIGTERM is lost: {error!r}")
        http.close()
        code = await asyncio.to_thread(self.server.process.wait, 60)
        if code:
            self.fault("end", f"the exit code is {code}")

    def summary(self):
        """What happened, and whether all is well."""
        seconds = [sample["second"] for sample in self.samples]
        growth = _growth([(s["second"], s["memory"]) for s in self.samples if s["second"] > seconds[-1] / 2])
        calm = [s for s in self.samples if self.seconds * 0.4 < s["second"] < self.seconds * 2 / 3]
        long_lived = set.intersection(*(set(s["workers"]) for s in calm)) if calm else set()
        grown = {process: _growth([(s["second"], s["workers"][process]) for s in calm]) for process in long_lived}
        files = [sum(sample["open_files"].values()) + sample["supervisor_open_files"] for sample in self.samples]
        half = len(files) // 2
        latencies = {kind: _percentiles(values) for kind, values in sorted(self.latencies.items())}
        latencies["all"] = _percentiles([value for values in self.latencies.values() for value in values])
        left = self.server.left_files()
        for text, is_wrong in {
            f"memory grows by {growth / 1e6:.1f} MB in the second half": growth > _allowed(self.samples),
            f"memory of workers grows by {[round(value / 1e6, 1) for value in grown.values()]} MB while none is killed": any(
                value > _allowed(calm) for value in grown.values()
            ),
            f"descriptors: {files}": half and max(files[half:]) > max(files[:half]) + 3 * CLIENTS,
            f"{self.lasting_zombies} processes were not waited for": self.lasting_zombies,
            f"files are left: {left}": left,
            f"tracebacks in the log: {self.server.tracebacks()[:3]}": self.server.tracebacks(),
            "nothing was compared": not self.counts["answers compared"],
            "no model was swapped": not any(model.swaps for model in self.models),
        }.items():
            if is_wrong:
                self.fault("state", text)
        return {
            "seconds": round(time.monotonic() - self.start),
            "faults": self.faults,
            "counts": {WRONG: 0, LOST: 0, **dict(sorted(self.counts.items()))},
            "answers_5xx": dict(self.errors),
            "latency_ms": latencies,
            "memory_mb": {
                "first": round(self.samples[0]["memory"] / 1e6, 1),
                "last": round(self.samples[-1]["memory"] / 1e6, 1),
                "most": round(max(sample["memory"] for sample in self.samples) / 1e6, 1),
                "growth_of_second_half": round(growth / 1e6, 2),
                "growth_of_workers_without_kills": {key: round(value / 1e6, 2) for key, value in grown.items()},
            },
            "descriptors": {"first": files[0], "last": files[-1], "most": max(files)},
            "old_mappings_most": max(sample["old_mappings"] for sample in self.samples),
            "samples": self.samples,
        }


def _growth(points):
    """Bytes by which a line through points (second, bytes) grows over them."""
    if len(points) < 3:
        return 0.0
    times, values = np.array(points, float).T
    return float(np.polyfit(times, values, 1)[0] * (times[-1] - times[0]))


def _allowed(samples):
    return max(16e6, 0.05 * np.mean([sample["memory"] for sample in samples])) if samples else 0.0


def _percentiles(seconds):
    if not len(seconds):
        return {}
    values = np.asarray(seconds) * 1000
    marks = {f"p{mark}": round(float(np.percentile(values, mark)), 2) for mark in (50, 99)}
    return {"count": len(values), **marks, "most": round(float(values.max()), 1)}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="A server under mixed load, while models are swapped and workers killed."
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300, help="requests a second, if the server answers at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="write the summary into this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options, pathlib.Path(folder))
        with soak.server:
            asyncio.run(soak.run())
            soak.server._reader.join(10)
            summary = soak.summary()
    text = json.dumps(summary, indent=1)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    print(json.dumps({name: value for name, value in summary.items() if name != "samples"}, indent=1))
    return bool(summary["faults"])


if __name__ == "__main__":
    sys.exit(main())
