"""Clients that others wrote against a running server. `test_clients.py` runs this file with a Python that has their packages.

    python clients.py triton|mlserver|kserve HTTP_PORT GRPC_PORT EXPECTED

EXPECTED: an .npz with inputs and the outputs of `predict`. The server has two workers and takes orders to load and unload; its
models are `mlp` (x -> a, b), `numbers` (t -> e) and the stream `lstm` (x -> y). It imports nothing of nbkeras.
"""

import asyncio
import pathlib
import queue
import sys

import numpy as np

FIELDS = pathlib.Path(__file__).with_name("grpc_fields.txt")
SHARED = "shared memory is not offered"


def equal(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def kind_of(field):
    kind = field.message_type or field.enum_type
    return kind.full_name if kind else ""


def compare_fields(file, left_out=(), is_part=False):
    """Compare the fields of the generated messages of a package with ours. is_part: ours are a part of them."""
    messages = file.message_types_by_name

    def fields_of(message):
        for field in message.fields:
            yield (
                f"{message.full_name} {field.name} {field.number} {field.type} "
                f"{'repeated' if field.is_repeated else 'one'} "
                f"{kind_of(field)} "
                f"{field.containing_oneof.name if field.containing_oneof else ''}".rstrip()
            )
        for inner in message.nested_types:
            yield from fields_of(inner)

    own = set(FIELDS.read_text().splitlines())
    names = {line: line.split(" ")[0].split(".")[1] for line in own}
    kept = [name for name in set(names.values()) & set(messages) if name not in left_out]
    theirs = {line for name in kept for line in fields_of(messages[name])}
    other = {line for line in own if names[line] in kept} - theirs if is_part else theirs - own
    assert len(theirs) > 50
    assert not other, sorted(other)


class Expected:
    def __init__(self, path):
        with np.load(path) as file:
            self.x, self.a, self.b, self.t, self.e = (file[name] for name in ("x", "a", "b", "t", "e"))
            self.s, self.y = file["s"], file["y"]


# -------------------- tritonclient --------------------


def triton(http, grpc, expected):
    import tritonclient.grpc as over_grpc
    import tritonclient.http as over_http
    from tritonclient.grpc import model_config_pb2, service_pb2

    compare_fields(service_pb2.DESCRIPTOR)
    compare_fields(model_config_pb2.DESCRIPTOR, is_part=True)
    for module, port in ((over_http, http), (over_grpc, grpc)):
        client = module.InferenceServerClient(f"127.0.0.1:{port}")
        _triton_both(module, client, expected)
        {over_http: _triton_http, over_grpc: _triton_grpc}[module](module, client, expected)
        client.close()
    asyncio.run(_triton_async(http, grpc, expected))


def _input(module, name, array, datatype, **how):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def _refusal(call):
    from tritonclient.utils import InferenceServerException

    try:
        call()
    except InferenceServerException as error:
        return error.status().removeprefix("StatusCode."), error.message()
    raise AssertionError("it was answered")


def _triton_both(module, client, expected):
    from tritonclient.utils import triton_to_np_dtype

    is_http = module.__name__.endswith("http")
    as_json = {} if is_http else {"as_json": True}
    refused, missing, not_offered = (
        ("400", "404", "404") if is_http else ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")
    )
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.is_model_ready("mlp", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata(**as_json)["name"] == "nbkeras"
    metadata = client.get_model_metadata("mlp", **as_json)
    assert metadata["versions"] == ["1"]
    assert [(each["name"], each["datatype"], list(map(int, each["shape"]))) for each in metadata["outputs"]] == [
        ("a", "FP32", [-1, 3]),
        ("b", "FP32", [-1, 2]),
    ]
    configuration = client.get_model_config("mlp", **as_json)
    configuration = configuration if is_http else configuration["config"]
    assert (configuration["name"], configuration["max_batch_size"]) == ("mlp", 8)
    [tensor] = configuration["input"]
    assert (tensor["data_type"], list(map(int, tensor["dims"]))) == ("TYPE_FP32", [4])
    # as programs make arrays from metadata
    inputs = client.get_model_metadata("lstm", **as_json)["inputs"]
    [zeros] = [
        np.zeros([1 if int(size) < 0 else int(size) for size in each["shape"]], triton_to_np_dtype(each["datatype"]))
        for each in inputs
    ]
    assert client.infer("lstm", [_input(module, "x", zeros, "FP32")]).as_numpy("y").shape == (1, 1, 2)

    asked = [_input(module, "x", expected.x, "FP32")]
    result = client.infer("mlp", asked, request_id="7", model_version="1")
    equal(result.as_numpy("a"), expected.a)
    equal(result.as_numpy("b"), expected.b)
    result = client.infer("mlp", asked, outputs=[module.InferRequestedOutput("b")], priority=1, timeout=10_000_000)
    equal(result.as_numpy("b"), expected.b)
    assert result.as_numpy("a") is None
    equal(client.infer("numbers", [_input(module, "t", expected.t, "INT32")]).as_numpy("e"), expected.e)
    assert client.infer("mlp", asked, parameters={"a": 1, "b": "c", "d": True}).as_numpy("a") is not None

    status, message = _refusal(lambda: client.infer("mlp", [_input(module, "x", expected.x[:, :2], "FP32")]))
    assert (status, message) == (refused, "input 'x' of model 'mlp': expected shape [-1, 4], received [6, 2]")
    status, message = _refusal(lambda: client.infer("mlp", [_input(module, "x", expected.x.astype("float64"), "FP64")]))
    assert (status, message) == (refused, "input 'x' of model 'mlp': expected FP32, received FP64")
    status, message = _refusal(lambda: client.infer("nobody", asked))
    assert (status, message.partition(";")[0]) == (missing, "model 'nobody' is not there")
    status, message = _refusal(lambda: client.infer("mlp", asked, outputs=[module.InferRequestedOutput("c")]))
    assert (status, message) == (refused, "model 'mlp' has no output 'c'; its outputs are 'a', 'b'")
    classes = module.InferRequestedOutput("a", class_count=2)
    assert "'classification' is not offered" in _refusal(lambda: client.infer("mlp", asked, outputs=[classes]))[1]

    shared = module.InferInput("x", [6, 4], "FP32")
    shared.set_shared_memory("region", 96)
    assert _refusal(lambda: client.infer("mlp", [shared])) == (refused, f"input 'x': {SHARED}")
    output = module.InferRequestedOutput("a")
    output.set_shared_memory("region", 72)
    assert _refusal(lambda: client.infer("mlp", asked, outputs=[output])) == (refused, f"output 'a': {SHARED}")
    status, message = _refusal(lambda: client.register_system_shared_memory("region", "/region", 96))
    assert (status, "tensors are sent in requests" in message) == (not_offered, True)

    _triton_sequences(module, client, expected, refused)
    _triton_repository(module, client, expected, refused, missing)


def _triton_sequences(module, client, expected, refused):
    steps = expected.s.shape[1]

    def step(k, identity):
        asked = [_input(module, "x", expected.s[:1, k : k + 1], "FP32")]
        flags = {"sequence_start": k == 0, "sequence_end": k == steps - 1}
        return client.infer("lstm", asked, sequence_id=identity, **flags).as_numpy("y")

    given = [1, 2, 3, 4, "a", "b", 2**62]  # of both workers
    found = {identity: [] for identity in given}
    for k in range(steps):
        for identity in given:
            found[identity].append(step(k, identity))
    for parts in found.values():
        equal(np.concatenate(parts, axis=1), expected.y[:1])
    status, message = _refusal(lambda: step(1, 1))
    assert (status, message.partition(":")[0]) == (refused, "sequence 1 of model 'lstm' is not running")
    asked = [_input(module, "x", expected.x, "FP32")]
    status, message = _refusal(lambda: client.infer("mlp", asked, sequence_id=1, sequence_start=True))
    assert (status, "stream = true" in message) == (refused, True)


def _triton_repository(module, client, expected, refused, missing):
    def states():
        index = client.get_model_repository_index()
        index = index if isinstance(index, list) else index.models
        read = (lambda each, name: each[name]) if isinstance(index, list) else getattr
        return {read(each, "name"): (read(each, "state"), read(each, "reason")) for each in index}

    assert states() == {name: ("READY", "") for name in ("lstm", "mlp", "numbers")}
    client.unload_model("numbers")
    assert states()["numbers"] == ("UNAVAILABLE", "unloaded")
    assert not client.is_model_ready("numbers")
    asked = [_input(module, "t", expected.t, "INT32")]
    assert _refusal(lambda: client.infer("numbers", asked))[0] == missing
    client.load_model("numbers")
    equal(client.infer("numbers", asked).as_numpy("e"), expected.e)
    assert _refusal(lambda: client.load_model("nobody")) == (
        missing,
        "model 'nobody' is not one of this server's models",
    )
    status, message = _refusal(lambda: client.load_model("mlp", config="{}"))
    assert (status, message.partition(":")[0]) == (refused, "the parameter 'config' is not offered")


def _triton_http(module, client, expected):
    large = np.tile(expected.x, (100, 1))
    for algorithm in ("gzip", "deflate"):
        asked = [_input(module, "x", large, "FP32")]
        how = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        equal(client.infer("mlp", asked, **how).as_numpy("a"), np.tile(expected.a, (100, 1)))
    for binary in (False, True):
        asked = [_input(module, "x", expected.x, "FP32", binary_data=binary)]
        outputs = [module.InferRequestedOutput("a", binary_data=not binary)]
        equal(client.infer("mlp", asked, outputs=outputs).as_numpy("a"), expected.a)
    waiting = [client.async_infer("mlp", [_input(module, "x", expected.x, "FP32")]) for _ in range(10)]
    for each in waiting:
        equal(each.get_result().as_numpy("a"), expected.a)


def _triton_grpc(module, client, expected):
    large = np.tile(expected.x, (100, 1))
    for algorithm in ("gzip", "deflate"):
        asked = [_input(module, "x", large, "FP32")]
        equal(client.infer("mlp", asked, compression_algorithm=algorithm).as_numpy("a"), np.tile(expected.a, (100, 1)))
    asked = [_input(module, "x", expected.x, "FP32")]
    answers = queue.Queue()
    waiting = [client.async_infer("mlp", asked, lambda result, error: answers.put((result, error))) for _ in range(10)]
    for _ in waiting:
        result, error = answers.get(timeout=20)
        assert error is None, error
        equal(result.as_numpy("a"), expected.a)
    client.start_stream(lambda result, error: answers.put((result, error)))
    steps = expected.s.shape[1]
    for k in range(steps):
        asked = [_input(module, "x", expected.s[:1, k : k + 1], "FP32")]
        flags = {"sequence_start": k == 0, "sequence_end": k == steps - 1}
        client.async_stream_infer(
            "lstm", asked, request_id=f"{k}", sequence_id=5, enable_empty_final_response=True, **flags
        )
    client.async_stream_infer("nobody", asked, request_id="z")
    found = [answers.get(timeout=20) for _ in range(steps + 1)]
    client.stop_stream()
    assert [result.get_response().id for result, _ in found[:-1]] == [f"{k}" for k in range(steps)]
    assert all(result.get_response().parameters["triton_final_response"].bool_param for result, _ in found[:-1])
    equal(np.concatenate([result.as_numpy("y") for result, _ in found[:-1]], axis=1), expected.y[:1])
    assert found[-1][0] is None
    assert found[-1][1].message().startswith("model 'nobody' is not there")


async def _triton_async(http, grpc, expected):
    import tritonclient.grpc.aio as over_grpc
    import tritonclient.http.aio as over_http

    for module, port in ((over_http, http), (over_grpc, grpc)):
        client = module.InferenceServerClient(f"127.0.0.1:{port}")
        assert await client.is_server_ready()
        assert await client.is_model_ready("mlp")
        asked = [_input(module, "x", expected.x, "FP32")]
        for result in await asyncio.gather(*(client.infer("mlp", asked) for _ in range(20))):
            equal(result.as_numpy("a"), expected.a)
        await client.close()


# -------------------- mlserver --------------------


def mlserver(http, grpc, expected):
    import urllib.request

    import grpc as rpc
    from mlserver.codecs import NumpyCodec
    from mlserver.grpc import converters, dataplane_pb2, dataplane_pb2_grpc
    from mlserver.types import (
        InferenceRequest,
        InferenceResponse,
        MetadataModelResponse,
        MetadataServerResponse,
        RepositoryIndexResponse,
        RequestOutput,
    )

    compare_fields(dataplane_pb2.DESCRIPTOR, left_out=["ModelMetadataResponse"])

    def asked(path, body=None):
        data = None if body is None else body.encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{http}/v2{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    assert MetadataServerResponse.model_validate_json(asked("")).name == "nbkeras"
    metadata = MetadataModelResponse.model_validate_json(asked("/models/mlp"))
    assert [each.name for each in metadata.outputs] == ["a", "b"]
    index = RepositoryIndexResponse.model_validate_json(asked("/repository/index", "{}"))
    assert {each.name: each.state for each in index.root} == dict.fromkeys(("lstm", "mlp", "numbers"), "READY")

    request = InferenceRequest(
        id="7", inputs=[NumpyCodec.encode_input("x", expected.x)], outputs=[RequestOutput(name="b")]
    )
    response = InferenceResponse.model_validate_json(asked("/models/mlp/infer", request.model_dump_json()))
    assert (response.model_name, response.model_version, response.id) == ("mlp", "1", "7")
    equal(NumpyCodec.decode_output(response.outputs[0]), expected.b)

    with rpc.insecure_channel(f"127.0.0.1:{grpc}") as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        for is_raw in (False, True):
            message = converters.ModelInferRequestConverter.from_types(
                request, model_name="mlp", model_version=None, use_raw=is_raw
            )
            response = converters.ModelInferResponseConverter.to_types(stub.ModelInfer(message))
            equal(NumpyCodec.decode_output(response.outputs[0]), expected.b)
        metadata = stub.ModelMetadata(dataplane_pb2.ModelMetadataRequest(name="mlp"))
        assert [list(each.shape) for each in metadata.outputs] == [[-1, 3], [-1, 2]]
        stub.RepositoryModelUnload(dataplane_pb2.RepositoryModelUnloadRequest(model_name="numbers"))
        stub.RepositoryModelLoad(dataplane_pb2.RepositoryModelLoadRequest(model_name="numbers"))
        index = stub.RepositoryIndex(dataplane_pb2.RepositoryIndexRequest())
        assert {each.name: each.state for each in index.models} == dict.fromkeys(("lstm", "mlp", "numbers"), "READY")


# -------------------- KServe's SDK --------------------


def kserve(http, grpc, expected):
    asyncio.run(_kserve(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", expected))


async def _kserve(rest, rpc, expected):
    import httpx
    from grpc.aio import AioRpcError
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.grpc import grpc_predict_v2_pb2
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
    from kserve.protocol.infer_type import RequestedOutput

    compare_fields(
        grpc_predict_v2_pb2.DESCRIPTOR, left_out=["RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"]
    )

    def request(binary, model="mlp"):
        asked = InferInput("x", list(expected.x.shape), "FP32")
        asked.set_data_from_numpy(expected.x, binary_data=binary)
        return InferRequest(model, [asked], request_id="7", request_outputs=[RequestedOutput("b")])

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(rest)
    assert await client.is_server_ready(rest)
    assert await client.is_model_ready(rest, "mlp")
    for binary in (False, True):
        response = await client.infer(rest, request(binary), model_name="mlp")
        assert (response.model_name, response.id) == ("mlp", "7")
        equal(response.outputs[0].as_numpy(), expected.b)
    try:
        await client.infer(rest, request(True, "nobody"), model_name="nobody")
        raise AssertionError
    except httpx.HTTPStatusError as error:
        assert "model 'nobody' is not there" in str(error), error
    await client.close()

    async with InferenceGRPCClient(rpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("mlp")
        for binary in (False, True):
            response = await client.infer(request(binary))
            equal(response.outputs[0].as_numpy(), expected.b)
        try:
            await client.infer(request(True, "nobody"))
            raise AssertionError
        except AioRpcError as error:
            assert error.details().startswith("model 'nobody' is not there"), error
        stub = GRPCInferenceServiceStub(client._channel)
        unload = grpc_predict_v2_pb2.RepositoryModelUnloadRequest(model_name="numbers")
        response = await stub.RepositoryModelUnload(unload)
        assert (response.model_name, response.isUnloaded) == ("numbers", True)
        load = grpc_predict_v2_pb2.RepositoryModelLoadRequest(model_name="numbers")
        assert (await stub.RepositoryModelLoad(load)).isLoaded


if __name__ == "__main__":
    which, http_port, grpc_port, path = sys.argv[1:]
    {"triton": triton, "mlserver": mlserver, "kserve": kserve}[which](int(http_port), int(grpc_port), Expected(path))
