"""Family: requests to a server. Bytes of HTTP go through the server's own connection and application in this process, over a
transport that is a list; messages of gRPC go through its servicer.

Each request gets an answer of the protocol: an error with a sentence, or outputs that `predict` gives for what was sent.
After each case a good request must be answered, and nothing may be left: no task, no connection, no memory.
"""

import asyncio
import functools
import gc
import json
import logging
import math
import resource
import types
import zlib

import numpy as np
import uvloop
from fuzz_verdict import Fault, Refused

import nbkeras as keras
from nbkeras import layers
from nbkeras.serving import messages, rpc
from nbkeras.serving.connections import ANSWER, BODY, HEAD, Connection, Server
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.repository import Repository
from nbkeras.serving.sequences import Sequences
from nbkeras.serving.service import Service

MAX_BODY = 200_000
SECONDS = 5.0  # for an answer
GROWTH = 96 << 20  # bytes by which the process may grow after its first cases
WARM_UP = 400  # cases
DTYPES = {"FP32": "<f4", "INT32": "<i4", "FP64": "<f8", "INT64": "<i8", "BOOL": "?", "UINT8": "u1", "FP16": "<f2"}
DATATYPES = [*DTYPES, "INT8", "UINT16", "UINT32", "UINT64", "INT16", "BYTES", "FP8", "", "fp32", "STRING"]


# -------------------- models --------------------


def dense():
    x = keras.Input((3,), name="x")
    return keras.Model(x, layers.Dense(2, name="y")(x), name="dense")


def words():
    x, z = keras.Input((4,), dtype="int32", name="words"), keras.Input((2, 2), name="numbers")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(7, 2)(x)), layers.Flatten()(z)])
    return keras.Model([x, z], [layers.Dense(2, name="a")(both), layers.Dense(1, name="b")(both)], name="words")


def steps():
    x = keras.Input((None, 2), name="s")
    return keras.Model(x, layers.GRU(2, return_sequences=True, name="t")(x), name="steps")


@functools.cache
def models():
    keras.utils.set_random_seed(7)
    return {model.name: model for model in (dense(), words(), steps())}


@functools.cache
def programs():
    found = {name: model.frozen(batch_sizes=(1, 4)) for name, model in models().items() if name != "steps"}
    return found | {"steps": models()["steps"].stream().frozen(batch_sizes=(1, 2), steps=(1, 2))}


INPUTS = {"dense": {"x": ("FP32", (3,))}, "words": {"words": ("INT32", (4,)), "numbers": ("FP32", (2, 2))}}
INPUTS["steps"] = {"s": ("FP32", (1, 2))}
OUTPUTS = {"dense": ["y"], "words": ["a", "b"], "steps": ["t"]}


class Control:
    """Takes loads and unloads as the supervisor's do, without any."""

    async def change(self, do, name, parameters):
        if name not in INPUTS:
            raise ServingError(404, f"model {name!r:.200} is not one of this server's models")


@functools.cache
def loop():
    made = uvloop.new_event_loop()
    made.set_exception_handler(lambda _, context: unhandled.append(str(context)))
    return made


unhandled = []  # by the event loop, or written into the log as an error


class Listener(logging.Handler):
    def emit(self, record):
        unhandled.append(record.getMessage()[:200] + (repr(record.exc_info[1]) if record.exc_info else ""))


@functools.cache
def listen():
    for name in ("nbkeras.serving", "asyncio"):
        log = logging.getLogger(name)
        log.addHandler(Listener(logging.ERROR))
        log.propagate = False


def service():
    """A server's service as it is after its start."""
    repository = Repository()
    for name, program in programs().items():
        stream = name == "steps"
        repository.set(name, "1", program, ModelOptions(name=name, stream=stream, batch_sizes=(1, 4)))
    return Service(repository, control=Control(), sequences=Sequences(idle=30.0, max_bytes=1 << 20))


# -------------------- a connection without a socket --------------------


class Transport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 9), "sockname": ("127.0.0.1", 8)})
        self.written, self.is_paused, self.is_closed = bytearray(), False, False

    def write(self, data):
        if not self.is_closed:
            self.written += data

    def writelines(self, parts):
        self.write(b"".join(parts))

    def close(self):
        self.is_closed = True

    abort = close

    def is_closing(self):
        return self.is_closed

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False

    def get_write_buffer_size(self):
        return 0


class Client:
    """A connection to an application, whose answers are read as a client reads them."""

    def __init__(self, made):
        self.server, self.around = Server(made, Options(max_connections=10)), asyncio.all_tasks()
        self.connection = Connection(self.server)
        self.transport = Transport()
        self.connection.connection_made(self.transport)

    async def send(self, *pieces):
        """Send bytes; returns when the server waits for more, or has closed."""
        for piece in pieces:
            end = loop().time() + SECONDS
            while self.transport.is_paused and not self.transport.is_closed:
                await asyncio.sleep(0)
                if loop().time() > end:
                    raise Fault("the connection is never read again")
            if self.transport.is_closed:
                return
            self.connection.data_received(piece)
            await asyncio.sleep(0)
        await self.settle()

    async def settle(self):
        end, turns = loop().time() + SECONDS, 0
        while not self.transport.is_closed:
            await asyncio.sleep(0 if turns < 30 else 0.001)
            turns += 1
            if turns >= 12 and self.connection.state != ANSWER and not self.connection.rest:
                return
            if loop().time() > end:
                raise Fault(f"hangs: no answer within {SECONDS} s in state {self.connection.state}")

    async def end(self):
        """What is left of the client's time passes; then the client goes. Nothing may stay behind."""
        if not self.transport.is_closed and self.connection.state in (HEAD, BODY):
            self.connection.check(loop().time() + 1000)
            if not self.transport.is_closed:
                raise Fault(f"a request that never ends is kept, in state {self.connection.state}")
        self.transport.is_closed = True
        self.connection.connection_lost(None)
        for _ in range(20):
            tasks = asyncio.all_tasks() - self.around
            if not tasks:
                break
            await asyncio.sleep(0)
        if tasks or self.server.connections:
            raise Fault(f"left behind: {len(tasks)} tasks, {len(self.server.connections)} connections")


def read_answers(data, heads=0):
    """The answers in bytes that a server sent: (status, headers, body). heads: how many were asked for without a body."""
    found, data = [], bytes(data)
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        if not mark or not lines[0].startswith(b"HTTP/1.1 ") or not lines[0][9:12].isdigit():
            raise Fault(f"is no answer of HTTP: {data[:100]!r}")
        status, headers = int(lines[0][9:12]), {}
        for line in lines[1:]:
            name, colon, value = line.partition(b": ")
            if not colon or name != name.lower() or not value.isascii() or name in headers:
                raise Fault(f"has a strange header: {line[:100]!r}")
            headers[name] = value
        if status == 100:
            data = rest
            continue
        size = int(headers.get(b"content-length", -1))
        if size < 0:
            raise Fault(f"has no content-length: {head[:200]!r}")
        if heads and not rest.startswith(b"{") and not rest.startswith(b"["):
            size = 0
        if len(rest) < size:
            raise Fault(f"ends too early: {len(rest)} of {size} bytes")
        found.append((status, headers, rest[:size]))
        data = rest[size:]
    return found


def check_answer(status, headers, body, head=False):
    """Whether an answer is one of the protocol."""
    if status == 500 or status > 599 or status in (502, 505):
        raise Fault(f"is answered with {status}: {body[:200]!r}")
    if b"Traceback" in body or b'File "' in body:
        raise Fault(f"tells a traceback: {body[:300]!r}")
    if status >= 400 and not head:
        if headers.get(b"content-type") != b"application/json":
            raise Fault(f"{status} has the content type {headers.get(b'content-type')!r}")
        try:
            content = json.loads(body)
        except ValueError:
            raise Fault(f"{status} has a body that is no JSON: {body[:200]!r}") from None
        if type(content) is not dict or set(content) != {"error"} or len(content["error"]) < 12:
            raise Fault(f"{status} says {body[:200]!r}")
        if len(body) > 4000:
            raise Fault(f"{status} has {len(body)} bytes")


# -------------------- right answers --------------------


def decoded(tensor, rest):
    """The array that a tensor of a request means; (array, what is left of the bytes)."""
    shape, datatype = tensor["shape"], tensor["datatype"]
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is not None:
        return np.frombuffer(rest[:size], DTYPES[datatype]).reshape(shape), rest[size:]
    return np.array(tensor["data"], DTYPES[datatype]).reshape(shape), rest


def check_outputs(name, request, json_bytes, headers, body):
    """Whether outputs are those that the model predicts for what a request says."""
    size = len(request) if json_bytes is None else json_bytes
    if size == 0:  # the body is the bytes of the one input
        [key] = INPUTS[name]
        arrays = {key: np.frombuffer(request, "<f4").reshape(1, *((-1, 2) if name == "steps" else (3,)))}
        check_predicted(name, arrays, *read_outputs(headers, body, {}))
        return
    try:
        content, rest = json.loads(request[:size]), request[size:]
        arrays = {}
        for tensor in content["inputs"]:
            arrays[tensor["name"]], rest = decoded(tensor, rest)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Fault(f"is answered with 200, but is no good request: {error!r:.200}") from None
    check_predicted(name, arrays, *read_outputs(headers, body, content))


def read_outputs(headers, body, content):
    length = headers.get(b"inference-header-content-length")
    answer = json.loads(body[: None if length is None else int(length)])
    rest = b"" if length is None else body[int(length) :]
    found = {}
    for tensor in answer["outputs"]:
        found[tensor["name"]], rest = decoded(tensor, rest)
    if rest:
        raise Fault(f"has {len(rest)} bytes too many")
    if answer.get("id") != content.get("id"):
        raise Fault(f"has the id {answer.get('id')!r}, not {content.get('id')!r}")
    outputs = [output["name"] for output in content.get("outputs") or []]
    return found, outputs


def check_predicted(name, arrays, found, asked):
    model = models()[name]
    wanted = predicted(name, [arrays[each] for each in INPUTS[name]])
    if list(found) != (asked or OUTPUTS[name]):
        raise Fault(f"has the outputs {list(found)}, not {asked or OUTPUTS[name]}")
    for output, values in zip(OUTPUTS[name], wanted, strict=True):
        if output in found and not np.allclose(found[output], values, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise Fault(f"{model.name} answers {found[output]!r:.200}, not {values!r:.200}")


def predicted(name, arrays):
    with np.errstate(all="ignore"):
        found = models()[name].predict(arrays if len(arrays) > 1 else arrays[0], batch_size=64, verbose=0)
    return found if isinstance(found, list) else [found]


# -------------------- good requests --------------------


def numbers(chance, datatype, shape):
    count = math.prod(shape)
    if datatype == "INT32":
        return np.array([chance.randrange(7) for _ in range(count)], "int32").reshape(shape)
    return np.array([round(chance.uniform(-3, 3), 3) for _ in range(count)], "float32").reshape(shape)


def good_arrays(chance, name):
    rows = chance.choice([1, 1, 2, 3, 5, 9])
    return {key: numbers(chance, kind, (rows, *shape)) for key, (kind, shape) in INPUTS[name].items()}


def content_of(chance, name, arrays, binary=None):
    """The JSON of a request as an object, and the bytes that follow it."""
    binary = chance.random() < 0.4 if binary is None else binary
    tensors, parts = [], []
    for key, values in arrays.items():
        tensor = {"name": key, "shape": list(values.shape), "datatype": INPUTS[name][key][0]}
        if binary:
            tensor["parameters"] = {"binary_data_size": values.nbytes}
            parts.append(values.tobytes())
        else:
            tensor["data"] = values.tolist() if chance.random() < 0.5 else values.ravel().tolist()
        tensors.append(tensor)
    content = {"inputs": tensors}
    if chance.random() < 0.5:
        content["id"] = str(chance.randrange(10**6))
    if chance.random() < 0.3:
        content["parameters"] = {"binary_data_output": True}
    if chance.random() < 0.2:
        content["outputs"] = [{"name": each} for each in chance.sample(OUTPUTS[name], 1)]
    return content, b"".join(parts) if binary else None


def bytes_of(path, body=b"", headers=(), method="POST", length=True):
    lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "replace"), b"host: fuzz"]
    if length:
        lines.append(b"content-length: %d" % len(body))
    lines += [line if isinstance(line, bytes) else line.encode("utf-8", "replace") for line in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def inference(chance, name=None):
    """A good request: (name, path, headers, body, length of its JSON)."""
    name = name or chance.choice(list(INPUTS))
    content, rest = content_of(chance, name, good_arrays(chance, name))
    head = json.dumps(content).encode()
    headers = [] if rest is None else [f"inference-header-content-length: {len(head)}"]
    path = f"/v2/models/{name}{chance.choice(['', '/versions/1'])}/infer"
    return name, path, headers, head + (rest or b""), None if rest is None else len(head)


def pieces(chance, data):
    """Bytes as they may arrive."""
    if chance.random() < 0.6:
        return [data]
    if chance.random() < 0.3 and len(data) < 2000:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 6)))
    return [part for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if (part := data[start:end])]


# -------------------- hostile values --------------------

HUGE = "9" * 400
NODES = [
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, 1e308, -1e-320, "", "x"),
    *("y" * 3000, "\0", "\x1b[2J\r\nINFO forged", "é", "\u202e", "\ud800", [], {}, [[]], [None], [1], {"a": 1}),
    *([[1, 2], [3]], {"name": "x"}, [{"name": "x"}] * 50, [0] * 1000, "FP32", "BYTES", "1", float("nan"), float("inf")),
    -float("inf"),
]
SHAPES = [
    *([], [0], [-1], [2**63], [2**62, 4], [2**31, 2**31, 3], [1] * 1000, [1, 3, 1], [3], [1, 2], [1, 4], [0, 3]),
    *([1, -3], [1.0, 3], ["1", 3], [True, 3], [[1], 3], None, "1,3", {"0": 1}, [10**30, 3], [1, 0], [-1, 3], [1, 3, 0]),
    *([2**64], [0, 2**62], [2**62, 0], [30_000_000, 0, 2], [0, 1, 2], [2**63 - 1, 2**63 - 1], [False, 3], [1] * 17),
    *([0] * 16, [4, 3], [65536, 65536], [2, 2, 2], [1, 2, 2], [1, 1, 2], [1, 0, 2], [1, 100, 2]),
]
IDS = [*NODES, "i" * 1024, "i" * 1025, "a\r\nx: y", "\u2028", 7]


def places(tree, path=()):
    """The places of all values in a tree of JSON."""
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*path, key))
    elif isinstance(tree, list):
        for key, value in enumerate(tree[:4]):
            yield from places(value, (*path, key))


def changed(chance, tree):
    """A tree with another value at one place, or without it."""
    path = chance.choice(list(places(tree)))
    if not path:
        return chance.choice(NODES)
    tree = json.loads(json.dumps(tree))
    owner = functools.reduce(lambda node, key: node[key], path[:-1], tree)
    key = path[-1]
    if chance.random() < 0.15:
        del owner[key]
    elif chance.random() < 0.1 and isinstance(owner, list):
        owner.insert(key, owner[key])
    elif key == "shape":
        owner[key] = chance.choice(SHAPES)
    elif key == "datatype":
        owner[key] = chance.choice(DATATYPES)
    elif key == "id":
        owner[key] = chance.choice(IDS)
    elif key == "binary_data_size" and type(owner[key]) is int:
        owner[key] = chance.choice(
            [*NODES, owner[key] + 1, owner[key] - 1, owner[key] // 2, -owner[key], 2 * owner[key]]
        )
    elif isinstance(owner, dict) and chance.random() < 0.15:
        owner[chance.choice(["", "é", "\0", "name", "data", "parameters", "shared_memory_region", "k" * 500])] = (
            owner.pop(key)
        )
    else:
        owner[key] = chance.choice(NODES)
    return tree


def nested(chance):
    """Text of JSON that is deep, long, or not quite JSON."""
    depth = chance.choice([10, 200, 1025, 5000, 60000])
    return chance.choice(
        [
            "[" * depth + "]" * depth,
            '{"inputs":' * depth + "1" + "}" * depth,
            "[" * depth,
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":' + "[" * depth + "1" + "]" * depth + "}]}",
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,' + HUGE + "]}]}",
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,1e999]}]}',
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,NaN]}]}',
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],"inputs":[]}',
            '{"id":"a","id":"b","inputs":[{"name":"x","name":"x","shape":[2,3],"shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
            '{"id":"\\ud800","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
            '{"inputs":[{"name":"\\ud83d\\ude00","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
            '{"inputs":[{"name":"x","shape":[1' + HUGE + ',3],"datatype":"FP32","data":[1,2,3]}]}',
            '{"inputs":[' + ",".join(['{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}'] * 500) + "]}",
            '{"inputs":['
            + ",".join(f'{{"name":"x{n}","shape":[],"datatype":"FP32","data":[]}}' for n in range(900))
            + "]}",
            '"inputs"',
            "",
            " " * 5000,
            "null",
            '{"inputs":[' + "[]," * depth + "[]]}",
            '{"inputs":' + '{"":' * min(depth, 1000) + "[]" + "}" * min(depth, 1000) + "}",
            "[1,]",
            "{'inputs': 1}",
            "//\n{}",
        ]
    ).encode()


def damaged(chance, data):
    """Bytes with changes: bits, pieces left out, doubled, another encoding."""
    kind = chance.randrange(10)
    if kind == 0:
        return b"\xef\xbb\xbf" + data
    if kind == 1:
        return data.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-7"]))
    if kind == 2:
        return data[: chance.randrange(len(data) + 1)]
    if kind == 3:
        return data + chance.choice([b"\0", b"}", data[:50], b" " * 100, b"\n", b"\xff\xfe"])
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 3, 10])):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:at] = chance.choice([b"\0", b"\xff", b"\r\n", b"\r\n\r\n", b"-", b"9" * 30, b'"', b"\\u0000", b"["])
        elif kind == 2:
            del data[at : at + chance.randint(1, 9)]
        else:
            data[at:at] = data[at : at + chance.randint(1, 40)]
    return bytes(data)


# -------------------- the kinds of cases: each gives the bytes of a connection --------------------


class Asked:
    """Bytes for a connection, and what is known about the answers.

    expects: of each answer, what it must be: None, or (model, body, length of the JSON) of a request to infer.
    heads: answers without a body.
    """

    def __init__(self, data, expects=None, heads=0, strict=False):
        self.data, self.expects, self.heads, self.strict = data, expects or [], heads, strict


def case_json(chance):
    name = chance.choice(list(INPUTS))
    content, rest = content_of(chance, name, good_arrays(chance, name))
    for _ in range(chance.choice([0, 0, 0, 1, 1, 1, 2, 4])):
        content = changed(chance, content) if isinstance(content, dict | list) else content
    try:
        head = json.dumps(content, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    except ValueError:
        head = b"{}"
    body = head if rest is None else head + rest
    said = None if rest is None else len(head)
    return one_inference(chance, name, body, said)


def case_text(chance):
    return one_inference(chance, "dense", nested(chance), None)


def case_damaged(chance):
    name, _, _, body, said = inference(chance)
    body = damaged(chance, body)
    return one_inference(chance, name, body, said)


def case_binary(chance):
    """Lengths of the binary extension that lie."""
    name, _, _, body, said = inference(chance)
    size = said if said is not None else len(body)
    lies = [
        *(0, 1, size - 1, size + 1, len(body), len(body) + 1, 2**31, 2**63, 10**17, 10**18, 10**30, -1, "", "x"),
        *("0x10", "+5"),
    ]
    return one_inference(chance, name, body, chance.choice([*lies, "１", " 7", "7 ", "7,7", "1e3", size, size]))


def one_inference(chance, name, body, said):
    headers = [] if said is None else [f"inference-header-content-length: {said}"]
    path = f"/v2/models/{name}/infer"
    known = said if isinstance(said, int) or said is None else -1
    return Asked(bytes_of(path, body, headers), [(name, body, known)])


def case_instances(chance):
    """TensorFlow Serving's form, in rows or columns."""
    name = chance.choice(list(INPUTS))
    columns = {key: values.tolist() for key, values in good_arrays(chance, name).items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if len(columns) == 1 and chance.random() < 0.6:
        [columns], rows = columns.values(), [value for row in rows for value in row.values()]
    content = {"instances": rows} if chance.random() < 0.5 else {"inputs": columns}
    if chance.random() < 0.2:
        content["signature_name"] = "serving_default"
    for _ in range(chance.choice([0, 0, 1, 1, 2, 4])):
        content = changed(chance, content) if isinstance(content, dict | list) else content
    body = json.dumps(content).encode()
    if chance.random() < 0.2:
        body = chance.choice([damaged(chance, body), nested(chance).replace(b"inputs", b"instances"), nested(chance)])
    path = f"/v1/models/{name}{chance.choice(['', '/versions/1'])}:predict"
    return Asked(bytes_of(path, body), [(name, body, None)])


def check_instances(name, request, _, headers, body):
    """Whether predictions are those of the model for a request in TensorFlow Serving's form."""
    content, answer, kinds = json.loads(request), json.loads(body), INPUTS[name]
    in_rows = "instances" in content
    values = content["instances" if in_rows else "inputs"]
    if in_rows and type(values[0]) is dict:
        values = {key: [row[key] for row in values] for key in kinds}
    values = values if type(values) is dict else dict.fromkeys(kinds, values)
    arrays = {key: np.array(values[key], DTYPES[kind]) for key, (kind, _) in kinds.items()}
    if list(answer) != ["predictions" if in_rows else "outputs"]:
        raise Fault(f"answers {list(answer)}")
    [found] = answer.values()
    if len(OUTPUTS[name]) == 1:
        found = {OUTPUTS[name][0]: found}
    elif in_rows:
        found = {output: [row[output] for row in found] for output in OUTPUTS[name]}
    check_predicted(name, arrays, {output: np.array(numbers, "float32") for output, numbers in found.items()}, None)


def packed(chance, body):
    """A body in an encoding, right or wrong."""
    bomb = b"0" * chance.choice([10**3, 10**6, 3 * 10**7])
    gzip = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = gzip.compress(bomb) + gzip.flush()
    right = zlib.compress(body)
    gzip = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zipped = gzip.compress(body) + gzip.flush()
    return chance.choice(
        [
            *(("gzip", bomb), ("deflate", right), ("gzip", zipped), ("gzip", zipped[:-5]), ("gzip", zipped + b"more")),
            *(("gzip", zipped + zipped), ("gzip", damaged(chance, zipped)), ("deflate", zipped), ("gzip", body)),
            *(("gzip, gzip", zipped), ("br", body), ("", body), ("identity", body), ("é" * 50, body)),
        ]
    )


def case_packed(chance):
    name, path, headers, body, said = inference(chance)
    encoding, data = packed(chance, body)
    headers = [*headers, f"content-encoding: {encoding}"]
    if chance.random() < 0.3:
        headers.append(
            f"accept-encoding: {chance.choice(['gzip', 'deflate', '*', 'gzip;q=0', 'x' * 900, ',,,;', 'gzip;q=é'])}"
        )
    return Asked(bytes_of(path, data, headers), [(name, body, said)])


def chunked(chance, body, odd):
    """A body in chunks."""
    found = []
    while body:
        size = chance.randint(1, max(1, len(body)))
        length = b"%x" % size
        if odd and chance.random() < 0.4:
            length = chance.choice(
                [
                    b"0" * 20 + length,
                    length + b";name=value",
                    length + b' ;"' + b"x" * 300,
                    b"-" + length,
                    b"0x" + length,
                ]
                + [b"ffffffffffffffff", b"fffffffffffffffff", b"", b" " + length, length + b" ", b"g", b"%d" % size]
            )
        found += [length, b"\r\n" if not odd or chance.random() < 0.95 else b"\n", body[:size], b"\r\n"]
        body = body[size:]
    trailers = b""
    if odd and chance.random() < 0.5:
        trailers = chance.choice(
            [b"x: y\r\n", b"content-length: 5\r\n", b"inference-header-content-length: 1\r\n", b"x: " + b"z" * 9000]
        )
    return b"".join(found) + b"0\r\n" + trailers + b"\r\n"


def case_chunked(chance):
    name, path, headers, body, said = inference(chance)
    odd = chance.random() < 0.7
    headers = [*headers, "transfer-encoding: chunked"]
    return Asked(
        bytes_of(path, b"", headers, length=False) + chunked(chance, body, odd), [(name, body, said)], strict=not odd
    )


LINES = [
    *("content-length: 5", "content-length: -1", "content-length: 99999999999999999999", "content-length: abc"),
    *("content-length:", "content-length: 1e3", "content-length: +7", "content-length: 3, 3"),
    *("transfer-encoding: chunked", "transfer-encoding: gzip", "transfer-encoding: chunked, chunked"),
    *("transfer-encoding: identity", "Transfer-Encoding : chunked", "transfer-encoding:\tchunked"),
    *("inference-header-content-length: 3", "inference-header-content-length: 0", "expect: 100-continue"),
    *("expect: 200-ok", "expect: " + "x" * 2000, "connection: close", "connection: upgrade", "upgrade: h2c"),
    *("upgrade: websocket", "connection: x, y, z", "content-type: text/plain"),
    *("content-type: application/json; charset=utf-16", "content-type: ;;;", "content-type: é"),
    *("x-request-timeout-ms: 0", "x-request-timeout-ms: 1", "x-request-timeout-ms: -5", "x-request-timeout-ms: 1e9"),
    *("host: other", "x-request-timeout-ms: 99999999999999999999", " folded: line", "\tfolded", "no colon"),
    *(": no name", "x\0y: z", "x: \0", "x: \r y", "n" * 70000 + ": x", "x: " + "v" * 70000, "x: " + "v" * 30000),
    *("x: \x7f\x01", "é: ü", "origin: http://evil", "accept: */*", "x-request-id: a\r\nset-cookie: b"),
    *("traceparent: 00-x", "sec-websocket-key: x", "range: bytes=0-", "if-none-match: *"),
    *("x-request-id: " + "i" * 5000, "x-request-id: \x1b[31m", "te: trailers", "x-forwarded-for: 1.2.3.4"),
    "content-encoding: gzip",
]
BREAKS = (
    *"content-length transfer Transfer folded upgrade content-encoding expect host".split(),
    *("no colon", ": no name"),
)


def case_headers(chance):
    name, path, headers, body, said = inference(chance)
    added = [chance.choice(LINES) for _ in range(chance.choice([1, 1, 2, 4]))]
    if chance.random() < 0.05:
        added += [f"x-{number}: {chance.randrange(1000)}" for number in range(chance.choice([100, 1000, 6000]))]
    headers = [*headers, *added]
    chance.shuffle(headers)
    length = chance.random() < 0.8
    data = bytes_of(path, body, headers, length=length)
    if chance.random() < 0.2:
        data = data.replace(b"\r\n", chance.choice([b"\n", b"\r", b"\r\n ", b"\n\r"]), chance.randint(1, 3))
    if any(line.startswith(BREAKS) or "inference" in line or "\n" in line for line in added) or not length:
        return Asked(data)
    return Asked(data, [(name, body, said)])


PATHS = [
    *("/", "//", "*", "/v2", "/v2/", "/v2/models", "/v2/models/", "/v2/models//infer", "/v2/models/dense"),
    *("/v2/models/dense/", "/v2/models/none/infer", "/v2/models/dense/versions//infer"),
    *("/v2/models/dense/versions/9/infer", "/v2/models/dense/infer/"),
    *("/v2/models/dense/versions/" + "9" * 400 + "/infer", "/v2/models/" + "m" * 3000 + "/infer", "/" + "p" * 60000),
    *("/v2/models/..%2f..%2fetc%2fpasswd/infer", "/v2/models/../../etc/passwd", "/v2/models/%00/infer"),
    *("/v2/models/%ff/infer", "/v2/models/%0d%0aset-cookie:x/infer", "/v2/models/d%65nse/infer"),
    *("/v2/models/dense%2finfer", "/v2/models/%/infer", "/%zz", "/v2/models/dense/infer?x=1&y=%00"),
    *("/v2/models/dense/infer#f", "/v2;x", "/é", "/v2/health/ready", "/v2/health/live", "/v2/health", "/metrics"),
    *("/favicon.ico", "/v2/repository/index", "/v2/repository/models/dense/load", "http://[::1/", "x"),
    *("/v2/repository/models/..%2fx/load", "/v2/repository/models/none/unload", "/v2/models/dense/ready"),
    *("/v2/models/none/ready", "http://other/v2/models/dense/infer", "https://user:pass@host:99999/v2", "//host/v2"),
    *("/v2/models/dense/infer HTTP/1.1", "\\v2", "/v2/systemsharedmemory/region/x/register", "/v2/models/dense/stats"),
    *("/v2/logging", "/v2/trace/setting", "/v2/models/%F0%9F%98%80", "/predict", "/v1/models/dense"),
    *("/v1/models/none/metadata", "/v1/models/:predict", "/v1/models/dense/versions/:predict"),
    "/v1/models/%00%2f:predict",
]
METHODS = "GET POST PUT DELETE PATCH HEAD OPTIONS TRACE CONNECT PRI BREW get GET\0 M-SEARCH SOURCE".split()


def case_paths(chance):
    body = chance.choice(
        [b"", b"{}", b'{"ready": 1}', b"[]", b'{"parameters": []}', b"x" * 500, inference(chance, "dense")[3]]
    )
    method = chance.choice([*METHODS, "POST", "GET"])
    path = chance.choice(PATHS)
    if chance.random() < 0.2:
        path = damaged(chance, path.encode()).decode("latin-1").replace("\n", "")
    return Asked(bytes_of(path, body, method=method), heads=method == "HEAD")


PARAMETERS = [
    *({"config": '{"backend": "x"}'}, {"file:1/model.keras": "AAAA"}, {"path": "/etc/passwd"}),
    *({"unload_dependents": True}, {"unload_dependents": "x"}, {"": {}}, {"x" * 500: 1}, {}),
]


def case_repository(chance):
    name = chance.choice(["dense", "none", "..", "%2e%2e%2f", "dense/../words", "d" * 500, "\x1b[2J", "é"])
    what = chance.choice(["load", "unload"])
    content = {"parameters": chance.choice(PARAMETERS)}
    if chance.random() < 0.3:
        content = changed(chance, content)
    body = json.dumps(content).encode("utf-8", "replace")
    origin = chance.choice(
        [[], [], ["origin: http://evil.example"], ["origin: null"], ["origin: http://fuzz"], ["origin: \xff"]]
    )
    if chance.random() < 0.2:
        return Asked(
            bytes_of(
                "/v2/repository/index", chance.choice([b"", b"{}", b'{"ready":true}', b'{"ready":"x"}', body]), origin
            )
        )
    return Asked(bytes_of(f"/v2/repository/models/{name}/{what}", body, origin))


def case_pipelined(chance):
    """Several requests at once: the answers are in their order."""
    data, expects = b"", []
    for _ in range(chance.randint(2, 8)):
        name, path, headers, body, said = inference(chance)
        if chance.random() < 0.25:
            data += bytes_of(path, b"{", [])
            expects.append((name, b"{", None))
        else:
            data += bytes_of(path, body, headers)
            expects.append((name, body, said))
    return Asked(data, expects, strict=True)


def case_cut(chance):
    """A good request that does not come to its end, or is followed by nonsense."""
    name, path, headers, body, said = inference(chance)
    data = bytes_of(path, body, headers)
    if chance.random() < 0.7:
        return Asked(data[: chance.randrange(len(data))], [(name, body, said)])
    return Asked(data + damaged(chance, data), [(name, body, said)])


def case_garbage(chance):
    kind = chance.randrange(4)
    if kind == 0:
        return Asked(chance.randbytes(chance.choice([1, 10, 500, 70000])))
    if kind == 1:
        return Asked(
            chance.choice(
                [
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"\x16\x03\x01\x02\0\x01\0",
                    b"SSH-2.0-x\r\n",
                    b"GET /\r\n",
                    b"\r\n" * 50,
                ]
            )
        )
    if kind == 2:
        return Asked(
            b"GET /v2 "
            + chance.choice([b"HTTP/9.9", b"HTTP/1.0", b"HTTP/0.9", b"HTP/1.1", b"", b"HTTP/1.1 x"])
            + b"\r\nhost: x\r\n\r\n"
        )
    return Asked(damaged(chance, damaged(chance, bytes_of(*inference(chance)[1:4:2]))))


KINDS = {
    case_json: 30,
    case_text: 6,
    case_instances: 10,
    case_damaged: 10,
    case_binary: 8,
    case_packed: 6,
    case_chunked: 8,
    case_headers: 10,
    case_paths: 8,
    case_repository: 4,
    case_pipelined: 5,
    case_cut: 4,
    case_garbage: 5,
}


def drawn(chance):
    [kind] = chance.choices(list(KINDS), KINDS.values())
    return kind, kind(chance)


def judge(kind, asked, answers, closed):
    """Whether the answers to a case are right; returns how many were computed."""
    computed = 0
    if asked.strict and len(answers) != len(asked.expects):
        raise Fault(f"{len(asked.expects)} requests get {len(answers)} answers")
    if not answers and not closed and kind not in (case_cut, case_garbage, case_headers, case_chunked, case_paths):
        raise Fault("gets no answer")
    for place, (status, headers, body) in enumerate(answers):
        check_answer(status, headers, body, head=bool(asked.heads))
        if status == 200 and place < len(asked.expects):
            check = check_instances if kind is case_instances else check_outputs
            check(*asked.expects[place], headers, unpacked(headers, body))
            computed += 1
    return computed


def unpacked(headers, body):
    encoding = headers.get(b"content-encoding")
    return body if encoding is None else zlib.decompress(body, zlib.MAX_WBITS | (16 if encoding == b"gzip" else 0))


# -------------------- sequences and gRPC, without bytes of HTTP --------------------

SEQUENCE_IDS = [1, 2, "a", "b", -5, 2**63, 2**64 - 1]
ODD_IDS = [0, "", None, True, 1.5, 2**64, -(2**63) - 1, "s" * 129, "\x1b[0m\r\n", "\ud800", [], {}, [1]]


async def sequences(chance, made):
    """Steps of some sequences, interleaved, with starts and ends in any order; each answer is that of the whole sequence."""
    application, known, computed = Application(made, MAX_BODY), {}, 0
    client = Client(application)
    for _ in range(chance.randint(2, 14)):
        identity = chance.choice(SEQUENCE_IDS[:3] if chance.random() < 0.9 else [*SEQUENCE_IDS, *ODD_IDS])
        parameters = {"sequence_id": identity}
        for flag in ("sequence_start", "sequence_end"):
            if chance.random() < 0.4:
                parameters[flag] = chance.choice([True, True, True, False, 1, "x", None])
        rows = 1 if chance.random() < 0.9 else 2
        values = numbers(chance, "FP32", (rows, chance.choice([1, 1, 2, 3]), 2))
        content = content_of(chance, "steps", {"s": values}, binary=False)[0] | {"parameters": parameters}
        content.pop("outputs", None)
        content["inputs"][0]["data"] = values.ravel().tolist()
        body = json.dumps(content).encode()
        client.transport.written.clear()
        await client.send(bytes_of("/v2/models/steps/infer", body))
        [(status, headers, answer)] = read_answers(client.transport.written)
        check_answer(status, headers, answer)
        starts, ends = (parameters.get(flag) is True for flag in ("sequence_start", "sequence_end"))
        key = (type(identity), identity) if isinstance(identity, int | str) else None
        before = None if starts else known.get(key)
        if status != 200:
            if key is not None and before is not None and rows == len(before) and not odd(parameters):
                raise Fault(f"a sequence that runs is refused: {answer[:200]!r}")
            continue
        computed += 1
        whole = values if before is None else np.concatenate([before, values], 1)
        if before is None and not starts and identity not in (0, "", None):
            raise Fault(f"a sequence {identity!r} goes on that was not begun")
        found, _ = read_outputs(headers, answer, content)
        wanted = predicted("steps", [whole])[0][:, -values.shape[1] :]
        if not np.allclose(found["t"], wanted, rtol=1e-4, atol=1e-5):
            raise Fault(f"a sequence of {whole.shape[1]} steps answers {found['t']!r:.100}, not {wanted!r:.100}")
        if key is not None:
            known[key] = whole
            if ends:
                del known[key]
    await client.end()
    return computed


def odd(parameters):
    identity = parameters["sequence_id"]
    flags = (parameters.get("sequence_start", False), parameters.get("sequence_end", False))
    return any(type(flag) is not bool for flag in flags) or identity not in SEQUENCE_IDS or type(identity) is bool


def grpc_bytes(chance, name=None):
    """A message of gRPC, most of them with mistakes: (bytes, model)."""
    name = name or chance.choice(list(INPUTS))
    request = messages.message("inference.ModelInferRequest")()
    request.model_name, request.model_version = name, chance.choice(["", "1", "1", "9", "x" * 300])
    request.id = chance.choice(["", "a", "i" * 2000, "\x1b[2J\n"])
    arrays, raw = good_arrays(chance, name), chance.random() < 0.6
    for key, values in arrays.items():
        tensor = request.inputs.add(name=key, datatype=INPUTS[name][key][0], shape=values.shape)
        if raw:
            request.raw_input_contents.append(values.tobytes())
        else:
            field = "int_contents" if values.dtype == np.int32 else "fp32_contents"
            getattr(tensor.contents, field).extend(values.ravel().tolist())
    for _ in range(chance.choice([0, 1, 1, 2])):
        tensor = chance.choice(request.inputs)
        change = chance.randrange(9)
        if change == 0:
            del tensor.shape[:]
            sizes = chance.choice(SHAPES)
            if type(sizes) is list:
                tensor.shape.extend([size for size in sizes if type(size) is int and -(2**63) <= size < 2**63])
        elif change == 1:
            tensor.datatype = chance.choice(DATATYPES)
        elif change == 2:
            tensor.name = chance.choice(["", "x", "y", "\0", "é" * 300])
        elif change == 3:
            request.raw_input_contents.append(chance.randbytes(chance.choice([0, 1, 12, 1000])))
        elif change == 4:
            tensor.contents.bytes_contents.append(chance.choice([b"", b"\xff", b"x" * 100]))
        elif change == 5:
            request.outputs.add(name=chance.choice(["", "y", "a", "\0"])).parameters["binary_data"].bool_param = True
        elif change == 6:
            key = chance.choice(["sequence_id", "sequence_start", "timeout", "priority", "", "k" * 500])
            parameter = request.parameters[key]
            setattr(
                parameter,
                *chance.choice(
                    [("int64_param", -5), ("string_param", "x"), ("bool_param", True), ("double_param", math.nan)]
                ),
            )
        elif change == 7:
            tensor.contents.int64_contents.extend([2**62] * chance.choice([1, 3, 500]))
        else:
            tensor.parameters["shared_memory_region"].string_param = "x"
    data = request.SerializeToString()
    return damaged(chance, data) if chance.random() < 0.3 else data


async def grpc_message(chance, made):
    data = grpc_bytes(chance)
    kind = messages.message("inference.ModelInferRequest")
    try:
        message = kind.FromString(data)
    except Exception as error:
        if "DecodeError" not in type(error).__name__:
            raise
        raise Refused("no message") from None
    context = types.SimpleNamespace(
        time_remaining=lambda: None, invocation_metadata=lambda: (), add_done_callback=lambda _: None
    )
    try:
        answer = await asyncio.wait_for(rpc.Servicer(made).ModelInfer(data, context), SECONDS)
    except ServingError as error:
        if error.status == 500:
            raise Fault(f"is answered with 500: {error.message}") from None
        raise Refused("an error of the protocol") from None
    check_grpc(message, answer)
    return 1


def check_grpc(message, answer):
    """Whether an answer of gRPC is what the model predicts for a message."""
    name, arrays = message.model_name, {}
    for place, tensor in enumerate(message.inputs):
        if message.raw_input_contents:
            values = np.frombuffer(message.raw_input_contents[place], DTYPES[tensor.datatype])
        else:
            contents = tensor.contents.int_contents if tensor.datatype == "INT32" else tensor.contents.fp32_contents
            values = np.array(contents, DTYPES[tensor.datatype])
        arrays[tensor.name] = values.reshape(tensor.shape)
    found = {}
    for place, output in enumerate(answer.outputs):
        raw = answer.raw_output_contents
        values = np.frombuffer(raw[place], "<f4") if raw else np.array(output.contents.fp32_contents, "float32")
        found[output.name] = values.reshape(output.shape)
    if answer.id != message.id or answer.model_name != name:
        raise Fault(f"has the id {answer.id!r:.80} of {answer.model_name!r:.80}")
    if "sequence_id" not in message.parameters:
        check_predicted(name, arrays, found, [output.name for output in message.outputs])


# -------------------- a case --------------------

seen = [0, 0]  # cases; memory after the first ones


def case(chance, note):
    listen()
    asyncio.set_event_loop(loop())
    unhandled.clear()
    try:
        computed = loop().run_until_complete(asyncio.wait_for(_case(chance, note), 4 * SECONDS))
    except TimeoutError:
        raise Fault("hangs") from None
    if unhandled:
        raise Fault(f"the log has an error: {unhandled[0]:.300}")
    _check_memory()
    if not computed:
        raise Refused("errors of the protocol")


async def _case(chance, note):
    around = asyncio.all_tasks()
    made = service()
    lot, computed, refused = chance.random(), 0, None
    try:
        if lot < 0.06:
            note("sequences")
            computed = await sequences(chance, made)
        elif lot < 0.16:
            note("gRPC")
            computed = await grpc_message(chance, made)
        else:
            kind, asked = drawn(chance)
            note(f"{kind.__name__}: {asked.data[:1500]!r}")
            client = Client(Application(made, MAX_BODY))
            await client.send(*pieces(chance, asked.data))
            closed = client.transport.is_closed
            await client.end()
            computed = judge(kind, asked, read_answers(client.transport.written, asked.heads), closed)
    except Refused as error:
        refused = error
    await _good(chance, made)
    others = [task for task in asyncio.all_tasks() if task not in around]
    if others:
        raise Fault(f"tasks are left: {others!r:.300}")
    if refused is not None:
        raise refused
    return computed


async def _good(chance, made):
    """A good request, answered rightly and in time by the same service."""
    name, path, headers, body, said = inference(chance)
    client = Client(Application(made, MAX_BODY))
    await client.send(bytes_of(path, body, headers))
    answers = read_answers(client.transport.written)
    if [status for status, *_ in answers] != [200]:
        raise Fault(f"afterwards a good request is answered with {answers!r:.300}")
    check_outputs(name, body, said, *answers[0][1:])
    await client.end()


def _check_memory():
    seen[0] += 1
    if seen[0] % 200 == 0 or seen[0] == WARM_UP:
        gc.collect()
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[1]) * resource.getpagesize()
        if seen[0] <= WARM_UP:
            seen[1] = now
        elif now > seen[1] + GROWTH:
            before, seen[1] = seen[1], now
            raise Fault(f"{seen[0]} cases have grown the process from {before >> 20} to {now >> 20} MB")
