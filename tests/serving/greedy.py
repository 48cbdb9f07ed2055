"""Clients of a real server whose requests would take much more memory than they have bytes: `python tests/serving/greedy.py`, or
`python tests/serving/greedy.py packed_messages` for one kind of them.

Each is refused before it is made: the worker never has more memory than its budget (max_memory_mb) and what it had before, and
health is answered at once all the while. Large requests that are honest are answered rightly. The exit code is 1 if something is
wrong.
"""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from live_server import LiveServer, memory_of

import nbkeras
from nbkeras import layers
from nbkeras.serving import messages

BUDGET = 512  # MB
SLACK = 128 << 20  # bytes beside the budget: buffers of sockets, of gRPC and of the allocator
KEPT = 32 << 20  # bytes that a worker has more when all is answered
LATENCY = 1.0  # seconds for an answer of health on a busy machine
LIMIT = 2.0  # seconds for bodies and messages
MEGA = 1_000_000
WIDE = 20_000  # outputs of a model with one input


HEALTH = """
import http.client, select, sys, time
print(flush=True)
most = 0.0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    connection.request("GET", "/v2/health/live")
    assert connection.getresponse().status == 200
    connection.close()
    most = max(most, time.monotonic() - start)
print(most)
"""


class Health:
    """Asks for health again and again, in a process of its own; `end` returns the longest time of an answer."""

    def __init__(self, port):
        command = [sys.executable, "-c", HEALTH, str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process.stdout.readline()

    def end(self):
        return float(self._process.communicate()[0])


def peak_of(process):
    """The most memory that a process has had since `forget_peak`."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{process}/status").read_text())[1]) << 10


def forget_peak(process):
    pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


def zipped(unit, count, head=b""):
    """A head and many times a piece of bytes, packed, without having them here."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts, piece = [packer.compress(head)], unit * max(1, (1 << 20) // len(unit))
    left = count * len(unit)
    while left > 0:
        parts.append(packer.compress(piece[:left]))
        left -= len(piece)
    return b"".join([*parts, packer.flush()])


def together(count, function):
    """The results of a function that is called so many times at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: function(), range(count)))


class Greedy:
    def __init__(self, folder):
        self.faults = []
        s = nbkeras.Input((None, 2), name="s")
        nbkeras.Model(s, layers.GRU(64, return_sequences=True, name="t")(s)).save(folder / "steps.keras")
        x = nbkeras.Input((1,), name="x")
        nbkeras.Model(x, layers.Dense(WIDE, name="y")(x)).save(folder / "wide.keras")
        x = nbkeras.Input((1000,), name="x")
        self.sums = nbkeras.Model(x, layers.Dense(1, kernel_initializer="ones", name="y")(x))
        self.sums.save(folder / "sums.keras")
        tables = [{"path": folder / f"{name}.keras", "batch_sizes": (1, 32)} for name in ("steps", "wide", "sums")]
        tables[0]["stream"] = True
        self.server = LiveServer(folder, tables, grpc_port=0, max_memory_mb=BUDGET, body_seconds=LIMIT)
        [self.worker] = self.server.workers().values()

    # -------------------- ways to ask --------------------

    def post(self, model, body, path=None, **headers):
        """(status, content) of the answer; (0, b"") if the connection is closed."""
        try:
            return self.server.ask(path or f"/v2/models/{model}/infer", body, **headers)
        except ConnectionError:
            return 0, b""

    def tensor(self, model, shape, data=b"", name="s", packed=False, **parameters):
        """A request whose tensor is bytes; data: they, or their number if they are zeros."""
        size = data if type(data) is int else len(data)
        tensor = {"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True, **parameters}}).encode()
        length = {"inference_header_content_length": len(head)}
        if packed:  # two members would be refused, so the head and the zeros are packed together
            return self.post(model, zipped(b"\0", size, head), content_encoding="gzip", **length)
        return self.post(model, head + (bytes(size) if type(data) is int else data), **length)

    def call(self, data, compression=None, seconds=60):
        """The code of an answer of gRPC."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        options += [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}", options) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            try:
                call(data, timeout=seconds, compression=compression)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    def unfinished_call(self, size):
        """Send a message of gRPC but for its last byte; returns the bytes that were taken, and the seconds until the end."""
        start, sent, taken = time.monotonic(), 0, b""

        def frame(kind, flags, stream, body):
            return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body

        fields = {":method": "POST", ":scheme": "http", ":path": "/inference.GRPCInferenceService/ModelInfer"}
        fields |= {":authority": "x", "te": "trailers", "content-type": "application/grpc"}
        coded = b"".join(
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in fields.items()
        )
        with socket.create_connection(("127.0.0.1", self.server.grpc_port), 30) as made:
            made.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, coded))
            windows, data = {0: 65535, 1: 65535}, b""
            with contextlib.suppress(ConnectionError):
                made.sendall(frame(0, 0, 1, b"\0" + size.to_bytes(4)))
                windows = {stream: left - 5 for stream, left in windows.items()}
                while time.monotonic() - start < 30:
                    room = min(*windows.values(), size - 1 - sent, 16384)
                    if room > 0:
                        made.sendall(frame(0, 0, 1, bytes(room)))
                        sent += room
                        windows = {stream: left - room for stream, left in windows.items()}
                        made.settimeout(0.0001 if min(*windows.values(), size - 1 - sent) > 0 else 30)
                    try:
                        piece = made.recv(1 << 16)
                    except TimeoutError:
                        continue
                    if not piece:
                        break
                    data += piece
                    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
                        length, kind, stream = int.from_bytes(data[:3]), data[3:5], int.from_bytes(data[5:9])
                        body, data = data[9 : 9 + length], data[9 + length :]
                        if kind == b"\x08\0":
                            windows[stream] = windows.get(stream, 0) + int.from_bytes(body)
                        elif kind == b"\x04\0" and not made.sendall(frame(4, 1, 0, b"")):
                            for at in range(0, length, 6):
                                if int.from_bytes(body[at : at + 2]) == 4:
                                    windows[1] += int.from_bytes(body[at + 2 : at + 6]) - 65535
                        elif kind == b"\x07\0":
                            taken = body
        return sent, time.monotonic() - start, taken

    # -------------------- what is asked --------------------

    def a_shape_of_zeros(self):
        for shape in ([30_000_000, 0, 2], [0, 2**62], [0, 1, 2], [2**62, 0, 2]):
            data = {"name": "s", "shape": shape, "datatype": "FP32", "data": []}
            yield self.post("steps", json.dumps({"inputs": [data]}))[0], 400
            for more in ({}, {"sequence_id": 1, "sequence_start": True}):
                yield self.tensor("steps", shape, **more)[0], 400

    def states(self):
        """Each row of 8 bytes, which are nearly nothing when they are packed, would have a state of 256 bytes."""
        for more in ({}, {"sequence_id": 1, "sequence_start": True}):
            yield self.tensor("steps", [6_000_000, 1, 2], 48 * MEGA, packed=True, **more)[0], 413

    def outputs(self):
        yield self.tensor("wide", [10 * MEGA, 1], 40 * MEGA, name="x", packed=True)[0], 413

    def long_answers(self):
        """As many numbers in JSON, and in typed contents of gRPC, as there is memory for."""
        rows = (BUDGET - 80) * MEGA // 40 // WIDE
        for count, status in ((rows, 413), ((1 << 23) // WIDE, 200)):
            data = {"name": "x", "shape": [count, 1], "datatype": "FP32", "data": [1] * count}
            yield self.post("wide", json.dumps({"inputs": [data]}))[0], status
        request = messages.message("inference.ModelInferRequest")(model_name="wide")
        request.inputs.add(name="x", datatype="FP32", shape=[rows, 1]).contents.fp32_contents.extend([1] * rows)
        yield self.call(request.SerializeToString()), "OK"

    def packed_lists(self):
        yield self.post("steps", zipped(b"[],", 21 * MEGA), content_encoding="gzip")[0], 413
        body = zipped(b"[],", 21 * MEGA)
        yield self.post("", body, "/v2/repository/index", content_encoding="gzip")[0], 413

    def lists(self):
        for unit in (b"[],", b'{"":', b"[" * 1000 + b"]" * 1000 + b",", b'"a",', b"0,"):
            yield self.post("steps", b'{"inputs":[' + unit * (50 * MEGA // len(unit)) + b"0]}")[0], 413
        for unit in (b"[],", b'{"":0},', b"0,"):  # as many as there is memory for
            cost = {b"[],": 217, b'{"":0},': 430, b"0,": 70}[unit]
            yield self.post("steps", b'{"inputs":[' + unit * (430 * MEGA // cost) + b"0]}")[0], 400

    def packed_bodies_at_once(self):
        """More than there is memory for."""
        for status in together(12, lambda: self.tensor("sums", [15_000, 1000], 60 * MEGA, "x", packed=True)[0]):
            yield status, {200, 503}

    def bodies_that_do_not_end(self):
        def unfinished():
            with socket.create_connection(("127.0.0.1", self.server.port), 30) as made:
                made.sendall(b"POST /v2/models/sums/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 60000000\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    made.sendall(bytes(59 * MEGA))
                    return int(made.recv(1000)[9:12])
            return 503

        for status in together(12, unfinished):
            yield status, {408, 503}

    def messages_that_do_not_end(self):
        for sent, seconds, told in together(12, lambda: self.unfinished_call(60 * MEGA)):
            yield (sent, told) if seconds > 3 * LIMIT + 3 else 200, 200
        sent, seconds, told = self.unfinished_call(1000)
        yield 200 if seconds < 2 * LIMIT + 2 and b"did not arrive" in told else (sent, seconds, told), 200

    def packed_messages(self):
        request = messages.message("inference.ModelInferRequest")(model_name="sums")
        request.inputs.add(name="x", datatype="FP32", shape=[15_000, 1000])
        request.raw_input_contents.append(bytes(60 * MEGA))
        data = request.SerializeToString()
        for code in together(8, lambda: self.call(data, grpc.Compression.Gzip)):
            yield code, {"OK", "UNAVAILABLE"}
        yield self.call(bytes(600 * MEGA), grpc.Compression.Gzip), {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}

    def messages_of_many_fields(self):
        kind = messages.message("inference.ModelInferRequest")
        name = kind(model_name="sums").SerializeToString()
        for part in (b"\x2a\0", b"\x3a\0", b"\x22\0", b"\x32\0"):  # inputs, contents, parameters, outputs
            yield self.call(name + part * (25 * MEGA)), "RESOURCE_EXHAUSTED"
        many = kind(model_name="sums")
        tensor = many.inputs.add(name="x", datatype="INT64", shape=[1] * (2 * MEGA))
        tensor.contents.int64_contents.extend([1] * (2 * MEGA))
        yield self.call(many.SerializeToString()), "INVALID_ARGUMENT"

    def honest_requests(self):
        """50 MB of bytes over HTTP and gRPC, and 10 MB of JSON."""
        x = np.ones((12_500, 1000), "float32")
        status, body = self.tensor("sums", list(x.shape), x.tobytes(), "x")
        yield status, 200
        yield bool((np.frombuffer(body[-4 * len(x) :], "<f4") == 1000).all()), True
        request = messages.message("inference.ModelInferRequest")(model_name="sums")
        request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        request.raw_input_contents.append(x.tobytes())
        yield self.call(request.SerializeToString()), "OK"
        for value, rows in ((1.5, 2500), (0.1234567, 1000), (7, 5000)):
            data = {"name": "x", "shape": [rows, 1000], "datatype": "FP32", "data": [value] * (rows * 1000)}
            status, body = self.post("sums", json.dumps({"inputs": [data]}, separators=(",", ":")))
            yield status, 200
            yield np.allclose(body["outputs"][0]["data"], value * 1000), True

    # -------------------- the whole --------------------

    def tried(self, kind, before, report):
        """What is wrong with the answers of one kind, with memory, and with health."""
        begun, start = memory_of(self.worker), time.monotonic()
        forget_peak(self.worker)
        health = Health(self.server.port)
        try:
            found = list(kind())
        finally:
            latency = health.end()
        grown, name = peak_of(self.worker) - before, kind.__name__.replace("_", " ")
        report(
            f"{name}: {time.monotonic() - start:.1f} s, {begun >> 20} MB before, grown by {grown >> 20} MB, "
            f"health within {latency:.2f} s; {[answer for answer, _ in found]}",
            flush=True,
        )
        faults = [
            f"{name}: is answered with {answer}, not {wanted}"
            for answer, wanted in found
            if answer not in (wanted if isinstance(wanted, set) else {wanted})
        ]
        if grown > (BUDGET << 20) + SLACK:
            faults.append(f"{name}: the worker grows by {grown >> 20} MB")
        end = time.monotonic() + 5
        while (kept := memory_of(self.worker) - before) > KEPT and time.monotonic() < end:
            time.sleep(0.1)
        if kept > KEPT:
            faults.append(f"{name}: {kept >> 20} MB are not given back")
        if latency > LATENCY:
            faults.append(f"{name}: health is answered after {latency:.2f} s")
        return faults

    def run(self, report, only):
        kinds = [
            self.honest_requests,
            self.a_shape_of_zeros,
            self.states,
            self.outputs,
            self.long_answers,
            self.packed_lists,
            self.lists,
            self.packed_bodies_at_once,
            self.bodies_that_do_not_end,
            self.messages_that_do_not_end,
            self.packed_messages,
            self.messages_of_many_fields,
            self.honest_requests,
        ]
        before = memory_of(self.worker)
        for kind in [kind for kind in kinds if kind.__name__ in only or not only]:
            if faults := self.tried(kind, before, report):
                faults = self.tried(kind, before, report)  # others may have used the machine
            self.faults += faults
        if self.server.workers() != {0: self.worker}:
            self.faults.append("the worker has ended")
        if self.server.tracebacks():
            self.faults.append("the log has a traceback: " + "".join(self.server.lines)[-3000:])
        return self.faults


def main(report=print, only=()):
    with tempfile.TemporaryDirectory() as folder:
        greedy = Greedy(pathlib.Path(folder))
        with greedy.server:
            return greedy.run(report, only)


if __name__ == "__main__":
    faults = main(only=sys.argv[1:])
    print("\n".join(faults) or "nothing is wrong")
    sys.exit(bool(faults))
