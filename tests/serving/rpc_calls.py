"""Calls of gRPC against a server in the same process; `test_rpc.py` runs this file in a process of its own.

gRPC starts threads, and other tests fork. Each function `check_...` is one check; the result is a line of JSON.
"""

import asyncio
import json
import logging
import socket
import sys
import threading
import time
import traceback

import grpc
import numpy as np
import uvloop
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from nbkeras import layers, models
from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving import messages, rpc
from nbkeras.serving.errors import ServingError
from nbkeras.serving.options import ModelOptions, Options
from nbkeras.serving.repository import Repository
from nbkeras.serving.service import Service
from nbkeras.serving.tensors import DTYPES, to_bytes

VALUES = {
    "BOOL": [True, False],
    "FP16": [0.5, -2],
    "FP32": [0.25, 2.0**100],
    "FP64": [0.1, -1e300],
    "BYTES": ["é", ""],
    "UINT64": [0, 2**64 - 1],
    "INT64": [-(2**63), 1],
    "UINT8": [0, 255],
    "INT8": [-128, 127],
}
FIELDS = rpc._CONTENTS


class Echo:
    """A model whose outputs are its inputs. A text `wait` is answered when `free` is set."""

    batch_sizes, is_by_rows, is_stream = (1, 4), True, False

    def __init__(self, *datatypes):
        self.inputs = tuple(TensorSpec(f"x{n}", (None, 2), DTYPES[name]) for n, name in enumerate(datatypes))
        self.outputs = tuple(TensorSpec(f"y{n}", (None, 2), DTYPES[name]) for n, name in enumerate(datatypes))
        self.runs = 0
        self.free = threading.Event()

    def parts(self, rows):
        return self.batch_sizes[-1:]

    def run(self, arrays):
        self.runs += 1
        time.sleep(0.002)  # so it runs in a thread
        if arrays[0].dtype == object and arrays[0][0, 0] == "wait":
            self.free.wait(10)
        if arrays[0].dtype == object and arrays[0][0, 0] == "fail":
            raise RuntimeError("secret")
        return [array.copy() for array in arrays]


class Control:
    def __init__(self):
        self.calls = []

    async def change(self, do, name, parameters):
        if name == "none":
            raise ServingError(404, "model 'none' is not one of this server's models")
        self.calls.append((do, name, parameters))


class Place:
    """A server and a client."""

    def __init__(self, **options):
        self.options = Options(max_body_mb=1.0, **options)

    async def __aenter__(self):
        self.models = {name: Echo(name) for name in DTYPES} | {"two": Echo("FP32", "BYTES")}
        repository = Repository()
        for name, model in self.models.items():
            options = ModelOptions(name=name, max_queue=1, allow_nan=True)
            repository.set(name, "1", model, options)
        self.control = Control()
        self.service = Service(repository, control=self.control)
        self.keeper = socket.socket()
        self.keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.keeper.bind(("127.0.0.1", 0))
        port = self.keeper.getsockname()[1]
        self.server = await rpc.start(self.service, self.options, port)
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.address)
        return self

    async def __aexit__(self, *error):
        for model in self.models.values():
            model.free.set()
        await self.channel.close()
        await self.server.stop(1)
        await asyncio.sleep(0.05)
        assert self.service.budget.used == 0, self.service.budget.used
        self.keeper.close()

    def call(self, method, request, service=rpc.SERVICE, **more):
        kind = request.DESCRIPTOR.full_name.replace("Request", "Response")
        stub = self.channel.unary_unary(
            f"/{service}/{method}", type(request).SerializeToString, messages.message(kind).FromString
        )
        return stub(request, **more)

    def watch(self, name):
        """Watch the health of a service."""
        kinds = [messages.message(f"grpc.health.v1.HealthCheck{kind}") for kind in ("Request", "Response")]
        stub = self.channel.unary_stream(f"/{rpc.HEALTH}/Watch", kinds[0].SerializeToString, kinds[1].FromString)
        return stub(kinds[0](service=name))

    async def refusal(self, method, request, **more):
        return await self.failure(self.call(method, request, **more))

    async def failure(self, answer):
        """The code and the message of a call that is refused."""
        error = await self.error(answer)
        return error.code().name, error.details()

    async def error(self, answer):
        try:
            await answer
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("it was answered")

    async def begin(self):
        """A call that the model BYTES computes until it is free."""
        running = asyncio.ensure_future(self.call("ModelInfer", infer("BYTES", ["wait", ""])))
        await self.begun()
        return running

    async def begun(self):
        while not self.models["BYTES"].runs:
            await asyncio.sleep(0.01)

    def stream(self):
        kinds = [messages.message(f"inference.Model{kind}") for kind in ("InferRequest", "StreamInferResponse")]
        method = f"/{rpc.SERVICE}/ModelStreamInfer"
        return self.channel.stream_stream(method, kinds[0].SerializeToString, kinds[1].FromString)()


def message(name, /, **fields):
    return messages.message(f"inference.{name}")(**fields)


def infer(model, values, raw=False, datatype=None, shape=None, name="x0", **fields):
    datatype = datatype or model
    request = message("ModelInferRequest", model_name=model, **fields)
    tensor = request.inputs.add(name=name, datatype=datatype, shape=[1, 2] if shape is None else shape)
    if raw:
        request.raw_input_contents.append(to_bytes(np.array([values], DTYPES[datatype])))
    else:
        values = [each.encode() for each in values] if datatype == "BYTES" else values
        getattr(tensor.contents, FIELDS[datatype]).extend(values)
    return request


async def check_strings_reach_the_layers_of_a_model(place):
    text = layers.Input((1,), dtype="string", name="text")
    number = layers.StringLookup(vocabulary=["é", "b"], output_mode="one_hot")(text)
    model = models.Model(text, layers.Dense(2, kernel_initializer="ones")(number))
    place.service.repository.set("lookup", "1", model.frozen(batch_sizes=2), ModelOptions(name="lookup"))
    for raw in (False, True):
        texts = np.array([["é"], ["z"]], object) if raw else ["é", "z"]
        request = infer("lookup", [] if raw else texts, datatype="BYTES", shape=[2, 1], name="text")
        if raw:
            request.inputs[0].ClearField("contents")
            request.raw_input_contents.append(to_bytes(texts))
        response = await place.call("ModelInfer", request)
        values = response.raw_output_contents or response.outputs[0].contents.fp32_contents
        values = np.frombuffer(values[0], "float32") if raw else values
        assert list(values) == [1, 1, 1, 1], values


async def check_typed_contents_come_back_typed(place):
    for datatype in DTYPES:
        if datatype != "FP16":
            values = VALUES.get(datatype, [0, 100])
            response = await place.call("ModelInfer", infer(datatype, values, id="7"))
            [output] = response.outputs
            assert (response.model_name, response.model_version, response.id) == (datatype, "1", "7")
            assert (output.name, output.datatype, list(output.shape)) == ("y0", datatype, [1, 2])
            wanted = [each.encode() for each in values] if datatype == "BYTES" else values
            assert list(getattr(output.contents, FIELDS[datatype])) == wanted, datatype
            assert not response.raw_output_contents


async def check_raw_contents_come_back_raw(place):
    for datatype in DTYPES:
        values = VALUES.get(datatype, [0, 100])
        request = infer(datatype, values, raw=True)
        request.inputs[0].contents.SetInParent()  # empty, as MLServer's client sends it
        response = await place.call("ModelInfer", request)
        assert list(response.raw_output_contents) == list(request.raw_input_contents), datatype
        assert not response.outputs[0].HasField("contents")


async def check_requests_that_are_wrong_are_refused(place):
    both = infer("FP32", [1, 2])
    both.raw_input_contents.append(b"12345678")
    more = infer("FP32", [1, 2], raw=True)
    more.raw_input_contents.append(b"12345678")
    twice = infer("FP32", [1, 2])
    twice.inputs.append(twice.inputs[0])
    shared = infer("FP32", [])
    shared.inputs[0].parameters["shared_memory_region"].string_param = "a"
    shared_output = infer("FP32", [1, 2])
    shared_output.outputs.add(name="y0").parameters["shared_memory_region"].string_param = "a"
    output = infer("FP32", [1, 2])
    output.outputs.add(name="z")
    half = infer("FP32", [1, 2])
    half.model_name, half.inputs[0].datatype = "FP16", "FP16"
    cases = [
        (message("ModelInferRequest", model_name="FP32"), "the request has no inputs"),
        (both, "input 'x0' has contents, but the request has raw_input_contents too"),
        (more, "the request has 1 inputs, but 2 raw_input_contents: it needs one for each"),
        (twice, "input 'x0' is given twice"),
        (shared, "input 'x0': shared memory is not offered"),
        (shared_output, "output 'y0': shared memory is not offered"),
        (output, "model 'FP32' has no output 'z'; its outputs are 'y0'"),
        (half, "input 'x0': FP16 has no typed contents; send it as raw_input_contents"),
        (infer("INT8", [1, 300]), "input 'x0': data of INT8 holds 300, which does not fit"),
        (infer("FP32", [1]), "input 'x0': shape [1, 2] has 2 values, received 1 in fp32_contents"),
        (infer("FP32", [1, 2], shape=[-1, 2]), "'shape' must be a list of positive integers"),
        (infer("FP32", [1, 2], shape=[2**62, 2]), "values, received 2 in fp32_contents"),
        *((infer("FP32", [], shape=shape), "'shape' m") for shape in ([0, 2**62], [2**62, 0], [0, 2], [1] * 17)),
        (infer("FP32", [], shape=[2**62, 0], raw=True), "'shape' must be"),
        (infer("FP32", [1, 2], shape=[2**63 - 1, 2**63 - 1]), "expected shape [-1, 2], received [9223372036854775807"),
        (infer("FP32", [1, 2], shape=[]), "expected shape [-1, 2], received []"),
        (infer("FP32", [1, 2, 3], shape=[1, 3]), "expected shape [-1, 2], received [1, 3]"),
        (infer("FP32", [1, 2], datatype="FP64"), "expected FP32, received FP64"),
        (infer("FP32", [1, 2], name=""), "each input needs a name"),
        (infer("FP32", [1, 2], name="z"), "model 'FP32' has no input 'z'; its inputs are 'x0'"),
        (infer("FP32", [1, 2], raw=True, shape=[2, 2]), "FP32 of shape [2, 2] has 16 bytes, received 8"),
        (infer("FP32", [1, 2], id="a" * 2000), "'id' must be a string of at most 1024 characters"),
    ]
    for request, sentence in cases:
        code, details = await place.refusal("ModelInfer", request)
        assert code == "INVALID_ARGUMENT", details
        assert sentence in details, details
    odd = infer("FP32", [1, 2])
    odd.inputs[0].datatype = "FP8"
    assert "must be one of BOOL" in (await place.refusal("ModelInfer", odd))[1]
    texts = infer("BYTES", ["a", "b"])
    texts.inputs[0].contents.bytes_contents[1] = b"\xff"
    assert "a string is not UTF-8" in (await place.refusal("ModelInfer", texts))[1]
    assert sum(model.runs for model in place.models.values()) == 0


async def check_bytes_that_are_no_message(place):
    stub = place.channel.unary_unary(f"/{rpc.SERVICE}/ModelInfer")
    told = "INVALID_ARGUMENT", "the bytes are not a message inference.ModelInferRequest"
    assert await place.failure(stub(b"\xff\xff\xff")) == told


async def check_models_that_are_not_there(place):
    code, details = await place.refusal("ModelInfer", infer("FP32", [1, 2], model_version="3"))
    assert (code, details) == ("NOT_FOUND", "model 'FP32' version '3' is not there; versions: 1")
    code, details = await place.refusal("ModelMetadata", message("ModelMetadataRequest", name="é"))
    assert code == "NOT_FOUND"
    assert details.startswith("model 'é' is not there; models: ")
    response = await place.call("ModelReady", message("ModelReadyRequest", name="none"))
    assert not response.ready


async def check_a_large_message_is_refused(place):
    request = infer("FP32", [0, 0], raw=True)
    request.raw_input_contents[0] = bytes(2_000_000)
    for compression in (None, grpc.Compression.Gzip):  # 2 kB when compressed
        code, _ = await place.refusal("ModelInfer", request, compression=compression)
        assert code == "RESOURCE_EXHAUSTED"
    await place.call("ModelInfer", infer("FP32", [0, 0]), compression=grpc.Compression.Gzip)


async def check_a_deadline_and_a_client_that_leaves_cost_nothing(place):
    model, running = place.models["BYTES"], await place.begin()
    late = await place.refusal("ModelInfer", infer("BYTES", ["a", ""]), timeout=0.05)
    assert late[0] == "DEADLINE_EXCEEDED"
    call = place.call("ModelInfer", infer("BYTES", ["a", ""]))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.sleep(0.05)
    model.free.set()
    await running
    await place.call("ModelInfer", infer("BYTES", ["b", ""]))
    assert model.runs == 2
    assert place.service.in_flight == 0


def frame(kind, flags, stream, body):
    """A frame of HTTP/2."""
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


async def check_a_client_that_ends_its_side_of_a_connection_ends_its_calls(place):
    """Its calls cannot be told from those of a client that has ended, whose watchers would stay forever."""
    fields = {":method": "POST", ":scheme": "http", ":path": "/inference.GRPCInferenceService/ModelInfer"}
    fields |= {":authority": "x", "te": "trailers", "content-type": "application/grpc"}
    texts = (bytes([len(text)]) + text.encode() for pair in fields.items() for text in pair)
    head = b"".join(b"\0" + name + value for name, value in zip(texts, texts, strict=True))
    body = infer("BYTES", ["wait", ""]).SerializeToString()
    call = frame(1, 4, 1, head) + frame(0, 1, 1, b"\0" + len(body).to_bytes(4) + body)
    reader, writer = await asyncio.open_connection(*place.address.split(":"))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + call)
    await place.begun()
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    while place.service.in_flight:
        await asyncio.sleep(0.01)


async def check_the_parameter_timeout(place):
    model, running = place.models["BYTES"], await place.begin()
    request = infer("BYTES", ["a", ""])
    request.parameters["timeout"].int64_param = 20_000  # microseconds
    code, details = await place.refusal("ModelInfer", request)
    assert code == "DEADLINE_EXCEEDED"
    assert "it was not computed" in details
    model.free.set()
    await running


async def check_a_timeout_that_is_no_time(place):
    for value in (float("nan"), float("inf"), -float("inf"), -1.0):
        request = infer("FP32", [1.0, 2.0])
        request.parameters["timeout"].double_param = value
        code, details = await place.refusal("ModelInfer", request)
        assert code == "INVALID_ARGUMENT", (value, code)
        assert (
            details == f"the parameter 'timeout' must be microseconds, a finite number of at least 0, received {value}"
        ), details
    assert not place.models["FP32"].runs
    for value in (0.0, 1e300):
        request = infer("FP32", [1.0, 2.0])
        request.parameters["timeout"].double_param = value
        await place.call("ModelInfer", request)


async def check_a_full_queue_says_when_to_come_again(place):
    model, running = place.models["BYTES"], await place.begin()
    waiting = asyncio.ensure_future(place.call("ModelInfer", infer("BYTES", ["a", ""])))
    await asyncio.sleep(0.05)
    error = await place.error(place.call("ModelInfer", infer("BYTES", ["b", ""])))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    model.free.set()
    await asyncio.gather(running, waiting)


async def check_a_failure_of_the_server_is_told_as_a_number(place):
    logging.disable()
    code, details = await place.refusal("ModelInfer", infer("BYTES", ["fail", ""]))
    assert code == "INTERNAL"
    assert "secret" not in details
    place.service.repository.index = lambda ready: 1 / 0
    code, details = await place.refusal("RepositoryIndex", message("RepositoryIndexRequest"))
    assert (code, details.partition(" as ")[0]) == ("INTERNAL", "the server failed; its log has the reason")
    logging.disable(logging.NOTSET)


async def check_several_inputs_and_the_outputs_that_are_wanted(place):
    request = infer("two", [0.5, 2], datatype="FP32")
    tensor = request.inputs.add(name="x1", datatype="BYTES", shape=[1, 2])
    tensor.contents.bytes_contents.extend([b"a", b"b"])
    response = await place.call("ModelInfer", request)
    assert [output.name for output in response.outputs] == ["y0", "y1"]
    request.outputs.add(name="y1")
    response = await place.call("ModelInfer", request)
    assert list(response.outputs[0].contents.bytes_contents) == [b"a", b"b"]


async def check_health_and_metadata(place):
    assert (await place.call("ServerLive", message("ServerLiveRequest"))).live
    assert (await place.call("ServerReady", message("ServerReadyRequest"))).ready
    assert (await place.call("ModelReady", message("ModelReadyRequest", name="FP32", version="1"))).ready
    server = await place.call("ServerMetadata", message("ServerMetadataRequest"))
    assert (server.name, "sequence" in server.extensions) == ("nbkeras", True)
    model = await place.call("ModelMetadata", message("ModelMetadataRequest", name="two"))
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [
        ("x0", "FP32", [-1, 2]),
        ("x1", "BYTES", [-1, 2]),
    ]
    config = (await place.call("ModelConfig", message("ModelConfigRequest", name="two"))).config
    assert (config.max_batch_size, config.WhichOneof("scheduling_choice")) == (4, "dynamic_batching")
    assert [(each.name, each.data_type, list(each.dims)) for each in config.output] == [
        ("y0", 11, [2]),
        ("y1", 13, [2]),
    ]
    asked = messages.message("grpc.health.v1.HealthCheckRequest")
    for service in ("", rpc.SERVICE):
        assert (await place.call("Check", asked(service=service), rpc.HEALTH)).status == 1
    assert (await place.refusal("Check", asked(service="z"), service=rpc.HEALTH))[0] == "NOT_FOUND"
    place.service.is_draining = True
    assert (await place.call("Check", asked(), rpc.HEALTH)).status == 2
    assert not (await place.call("ServerReady", message("ServerReadyRequest"))).ready


async def check_watchers_hear_of_changes_until_the_end(place):
    watchers = [place.watch(name) for name in ("", rpc.SERVICE, "z")]
    assert [(await watcher.read()).status for watcher in watchers] == [1, 1, 3]
    for is_ready, status in ((False, 2), (True, 1)):
        place.service.ready = lambda is_ready=is_ready: is_ready
        assert [(await watcher.read()).status for watcher in watchers[:2]] == [status, status]
    del place.service.ready
    place.service.is_draining = True
    stopping = asyncio.create_task(place.server.stop(5))
    assert [(await watcher.read()).status for watcher in watchers[:2]] == [2, 2]
    for watcher in watchers:
        assert await watcher.read() is grpc.aio.EOF
        assert await watcher.code() == grpc.StatusCode.OK
    assert await stopping  # it did not wait until they were late


async def check_watchers_are_as_few_as_calls(place):
    async with Place(max_connections=3) as narrow:
        watchers = [narrow.watch("") for _ in range(3)]
        assert [(await watcher.read()).status for watcher in watchers] == [1, 1, 1]
        code, _ = await narrow.refusal("ServerLive", message("ServerLiveRequest"))
        assert code == "RESOURCE_EXHAUSTED"
        watchers[0].cancel()
        await asyncio.sleep(0.1)
        assert (await narrow.call("ServerLive", message("ServerLiveRequest"))).live


async def check_long_calls_keep_only_short_requests(place):
    kind = "grpc.health.v1.HealthCheckRequest"
    code, details = await place.failure(place.watch("z" * 5000).read())
    assert (code, details) == ("RESOURCE_EXHAUSTED", f"a {kind} may have at most 4096 bytes, received 5003")
    stub = place.channel.unary_stream(f"/{rpc.HEALTH}/Watch")
    assert await place.failure(stub(b"\xff").read()) == ("INVALID_ARGUMENT", f"the bytes are not a message {kind}")
    for data, code in ((b"\xff", "INVALID_ARGUMENT"), (b"\x22\x88\x27" + bytes(5000), "RESOURCE_EXHAUSTED")):
        call = place.channel.stream_stream(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo")()
        await call.write(data)
        assert (await place.failure(call.read()))[0] == code


async def check_reflection(place):
    def ask():
        with grpc.insecure_channel(place.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            services = {name: pool.FindServiceByName(name) for name in database.get_services()}
            request = pool.FindMessageTypeByName("inference.ModelInferRequest")
            try:
                database.FindFileContainingSymbol("inference.Nothing")
            except KeyError:
                return services, request
            raise AssertionError

    services, request = await asyncio.to_thread(ask)
    assert list(services) == [rpc.HEALTH, reflection.SERVICE_NAME, rpc.SERVICE]
    methods = {method.name: method for method in services[rpc.SERVICE].methods}
    assert len(methods) == 11 and "Watch" in [method.name for method in services[rpc.HEALTH].methods]
    assert methods["ModelInfer"].input_type.full_name == request.full_name
    assert [(field.name, field.number) for field in request.fields] == [
        (field.name, field.number) for field in messages.message(request.full_name).DESCRIPTOR.fields
    ]


async def check_the_model_repository(place):
    index = await place.call("RepositoryIndex", message("RepositoryIndexRequest", ready=True))
    assert ("two", "1", "READY", "") in [(each.name, each.version, each.state, each.reason) for each in index.models]
    request = message("RepositoryModelUnloadRequest", model_name="two")
    request.parameters["unload_dependents"].bool_param = False
    assert (await place.call("RepositoryModelUnload", request)).isUnloaded
    # KServe's request has the model's name in field 1
    response = await place.call("RepositoryModelLoad", message("RepositoryModelLoadRequest", repository_name="two"))
    assert (response.model_name, response.isLoaded) == ("two", True)
    assert place.control.calls == [("unload", "two", {"unload_dependents": False}), ("load", "two", {})]
    code, details = await place.refusal("RepositoryModelLoad", message("RepositoryModelLoadRequest", model_name="none"))
    assert (code, details) == ("NOT_FOUND", "model 'none' is not one of this server's models")
    place.service.control = None
    code, _ = await place.refusal("RepositoryModelLoad", message("RepositoryModelLoadRequest", model_name="two"))
    assert code == "PERMISSION_DENIED"


async def check_methods_that_are_not_offered(place):
    for method, hint in (("SystemSharedMemoryStatus", ": tensors are sent in requests"), ("TraceSetting", "")):
        code, details = await place.refusal(method, message("ServerLiveRequest"))
        assert (code, details) == ("UNIMPLEMENTED", f"/{rpc.SERVICE}/{method} is not offered{hint}")


async def check_a_stream_is_answered_in_its_order(place):
    call = place.stream()
    await call.write(infer("BYTES", ["wait", ""], id="0"))
    for number in range(1, 100):
        model = ("FP32", "FP64", "none")[number % 3]
        await call.write(infer(model, [number, 0], datatype="FP64" if model == "FP64" else "FP32", id=f"{number}"))
    await asyncio.sleep(0.05)
    place.models["BYTES"].free.set()
    await call.done_writing()
    found = [each async for each in call]
    assert [each.infer_response.id for each in found] == [f"{n}" for n in range(100)]
    await asyncio.sleep(0.05)
    assert place.service.budget.used == 0
    call = place.stream()
    for number in range(300):  # one after another: each answer is given back before the stream ends
        await call.write(infer("FP32", [number, 0]))
        await call.read()
        assert place.service.budget.used < 2000
    await call.done_writing()
    assert found[0].infer_response.parameters["triton_final_response"].bool_param
    for number, each in enumerate(found[1:], 1):
        assert each.error_message.startswith("model 'none' is not there") == (number % 3 == 2)
    call = place.stream()
    await call.write(infer("BYTES", ["wait", ""], id="0"))
    call.cancel()
    await asyncio.sleep(0.1)
    assert place.service.in_flight == 0


async def check_the_end_waits_for_what_was_taken(place):
    model, running = place.models["BYTES"], await place.begin()
    stopping = asyncio.create_task(place.server.stop(5))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    model.free.set()
    assert (await running).outputs
    assert await stopping


async def check_the_end_closes_streams_that_are_idle(place):
    idle, busy, unused = (place.stream() for _ in range(3))
    await idle.write(infer("FP32", [1, 0], id="1"))
    assert (await idle.read()).infer_response.id == "1"
    await busy.write(infer("BYTES", ["wait", ""], id="2"))
    await unused.wait_for_connection()
    await place.begun()
    place.service.is_draining = True
    stopping = asyncio.create_task(place.server.stop(10))
    for each in (idle, unused):
        assert await each.read() is grpc.aio.EOF
        assert await each.code() == grpc.StatusCode.OK
    assert not stopping.done()
    place.models["BYTES"].free.set()
    assert (await busy.read()).infer_response.id == "2"
    assert await busy.read() is grpc.aio.EOF
    assert await stopping  # it did not wait until they were late


async def check_the_end_gives_up_what_takes_too_long(place):
    running = await place.begin()
    assert not await place.server.stop(0.1)
    assert (await place.failure(running))[0] in ("UNAVAILABLE", "CANCELLED")


async def run():
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                async with Place() as place:
                    await asyncio.wait_for(check(place), 20)
                results[name] = ""
            except Exception:
                results[name] = traceback.format_exc()
    return results


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run())))
    sys.stdout.flush()
