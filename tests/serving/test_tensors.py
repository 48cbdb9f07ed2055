"""Tensors of the protocol: JSON and bytes become arrays, or a sentence that names the tensor."""

import json
import math
import struct

import numpy as np
import pytest

pytest.importorskip("orjson")

from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving import tensors
from nbkeras.serving.errors import ServingError
from nbkeras.serving.requests import InferRequest, InferResponse

SENTENCE = r"\w+ .*\w+ "

SPECS = (TensorSpec("x", (None, 2), np.dtype("float32")),)
TWO = (*SPECS, TensorSpec("words", (None, 3), np.dtype("int32")))


def tensor(data=(1.0, 2.0), name="x", shape=(1, 2), datatype="FP32", **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def read(*inputs, **more):
    """A request of JSON, and what read_request returns."""
    return read_body(json.dumps({"inputs": list(inputs), **more}).encode())


def read_body(body, *arguments):
    request = InferRequest(body=body)
    return request, tensors.read_request(request, *arguments)


def read_bytes(inputs, *parts, length=None, **more):
    """A request whose tensors are bytes after the JSON."""
    head = json.dumps({"inputs": inputs, **more}).encode()
    return read_body(head + b"".join(parts), len(head) if length is None else length)


def binary(size, **more):
    made = tensor(parameters={"binary_data_size": size}, **more)
    del made["data"]
    return made


def message_of(read, *arguments, **more):
    """The sentence of the 400 that a call gives."""
    with pytest.raises(ServingError, match=SENTENCE) as caught:
        read(*arguments, **more)
    assert caught.value.status == 400
    return caught.value.message


def test_data_flat_and_nested_are_the_same():
    flat, _ = read(tensor([1, 2, 3, 4], shape=(2, 2)))
    nested, _ = read(tensor([[1, 2], [3, 4]], shape=(2, 2)))
    deep, _ = read(tensor([[[1], [2]], [[3], [4]]], shape=(2, 2, 1)))
    np.testing.assert_array_equal(flat.inputs["x"], np.array([[1, 2], [3, 4]], "float32"), strict=True)
    np.testing.assert_array_equal(nested.inputs["x"], flat.inputs["x"], strict=True)
    np.testing.assert_array_equal(deep.inputs["x"][..., 0], flat.inputs["x"], strict=True)


@pytest.mark.parametrize("datatype", tensors.DTYPES)
def test_every_datatype_goes_through_json_and_bytes(datatype):
    dtype = tensors.DTYPES[datatype]
    data = [True, False] if datatype == "BOOL" else ["a", "ü, 0"] if datatype == "BYTES" else [1, 7]
    array = read(tensor(data, datatype=datatype))[0].inputs["x"]
    assert array.dtype == dtype
    assert array.tolist() == [data]
    raw = tensors.to_bytes(array)
    again = read_bytes([binary(len(raw), datatype=datatype)], raw)[0].inputs["x"]
    assert again.tolist() == [data]
    assert again.dtype == dtype
    if datatype != "BYTES":
        assert tensors.datatype_of(dtype) == datatype


@pytest.mark.parametrize("datatype", [name for name in tensors.DTYPES if "INT" in name])
def test_limits_of_integers(datatype):
    limits = np.iinfo(tensors.DTYPES[datatype])
    data = [limits.min, limits.max]
    assert read(tensor(data, datatype=datatype))[0].inputs["x"].tolist() == [data]
    found = message_of(read, tensor([0, int(limits.max) + 1], datatype=datatype))
    assert (
        "which does not fit" if limits.max < 2**64 - 1 else "received 1.8446744073709552e+19"
    ) in found  # a float of JSON


@pytest.mark.parametrize(
    ("data", "datatype", "message"),
    [
        ([1, 2, 3], "FP32", "shape [1, 2] has 2 values, received 3"),
        ([], "FP32", "shape [1, 2] has 2 values, received 0"),
        ([[1, 2, 3]], "FP32", "a list at level 2 has 3 values"),
        ([[1], [2]], "FP32", "the first axis has 2 values"),
        ([[1, [2]]], "FP32", "data of FP32 must be numbers, received [2]"),
        ([[[1], [2]]], "FP32", "nested deeper than the shape [1, 2]"),
        ([1, [2]], "FP32", "data of FP32 must be numbers, received [2]"),
        ([[1, 2], 3], "FP32", "the first axis has 2 values"),
        (1.0, "FP32", "'data' must be a list, received 1.0"),
        ([1, "2"], "FP32", "data of FP32 must be numbers, received '2'"),
        ([1, None], "FP32", "data of FP32 must be numbers, received none"),
        ([1, True], "FP32", "data of FP32 must be numbers, received true or false"),
        ([1, 1e300], "FP32", "data of FP32 holds 1e+300, which does not fit"),
        ([1, 70000], "FP16", "data of FP16 holds 70000, which does not fit"),
        ([1, 1.0], "INT32", "data of INT32 must be integers, received 1.0"),
        ([1, -1], "UINT8", "data of UINT8 holds -1, which does not fit"),
        ([1, False], "INT64", "data of INT64 must be numbers, received true or false"),
        ([1, 0], "BOOL", "data of BOOL must be true or false, received 1"),
        (["a", 1], "BYTES", "data of BYTES must be strings, received 1"),
        ([1, {}], "INT8", "data of INT8 must be integers, received {}"),
    ],
)
def test_wrong_data_is_explained(data, datatype, message):
    found = message_of(read, tensor(data, datatype=datatype))
    assert found.startswith("input 'x'")
    assert message in found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[" * 100000, "not valid JSON"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', "not valid JSON"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [Infinity]}]}', "not valid JSON"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1e999]}]}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "'inputs' must be a list of tensors, received none"),
        (b'{"inputs": {}}', "'inputs' must be a list of tensors"),
        (b'{"inputs": []}', "'inputs' must be a list of tensors"),
        (b'{"inputs": [1]}', "each of 'inputs' must be an object"),
    ],
)
def test_bodies_that_are_no_requests(body, message):
    assert message in message_of(read_body, body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "each input needs a 'name'"),
        ({"name": ""}, "each input needs a 'name'"),
        ({"shape": None}, "'shape' must be a list of positive integers, received none"),
        ({"shape": 2}, "'shape' must be a list of positive integers"),
        ({"shape": [1, -1]}, "'shape' must be a list of positive integers, received [1, -1]"),
        ({"shape": [1, 2.0]}, "'shape' must be a list of positive integers"),
        ({"shape": [True, 2]}, "'shape' must be a list of positive integers"),
        ({"shape": [1] * 40}, "'shape' may have at most 16 axes, received 40"),
        ({"shape": [2**63, 2**63]}, "values, received 2"),
        (
            {"shape": [0, 2**62], "data": []},
            "'shape' must be a list of positive integers, received [0, 4611686018427387904]",
        ),
        ({"shape": [30_000_000, 0, 2], "data": []}, "'shape' must be a list of positive integers"),
        ({"shape": [0, 2], "data": []}, "'shape' must be a list of positive integers, received [0, 2]"),
        ({"shape": [2**64 - 1, 2**63]}, "values, received 2"),
        ({"shape": [1, "2"]}, "'shape' must be a list of positive integers"),
        ({"shape": [1, None]}, "'shape' must be a list of positive integers"),
        ({"shape": [[1], 2]}, "'shape' must be a list of positive integers"),
        ({"shape": [2**62] * 16}, "values, received 2"),
        ({"shape": [1e300, 2]}, "'shape' must be a list of positive integers"),
        ({"shape": []}, "shape [] has 1 values, received 2"),
        ({"datatype": None}, "'datatype' must be one of BOOL"),
        ({"datatype": "FLOAT"}, "received 'FLOAT'"),
        ({"parameters": 3}, "'parameters' of input 'x' must be an object"),
        ({"parameters": {"binary_data_size": 8}}, "has both 'data' and the parameter 'binary_data_size'"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not offered"),
    ],
)
def test_wrong_inputs_are_explained(change, message):
    assert message in message_of(read, tensor() | change)


def test_a_level_of_nested_data_that_is_missing():
    message = message_of(read, tensor([[1, 2], [3, 4]], shape=(2, 2, 1)))
    assert "nested data must have 3 levels as the shape [2, 2, 1], received 1 at level 2" in message


def test_a_number_becomes_infinite_in_its_datatype():
    assert "holds 1e+39, which does not fit" in message_of(read, tensor([1, 1e39]))


@pytest.mark.parametrize("end", ["]", ""])
def test_the_search_for_cycles_waits_only_for_a_long_json(end, monkeypatch):
    monkeypatch.setattr(tensors, "_PIECE", 100)
    states = []
    monkeypatch.setattr(tensors.gc, "disable", lambda: states.append(False))
    monkeypatch.setattr(tensors.gc, "enable", lambda: states.append(True))
    text = b"[" + b" " * 200 + end.encode()
    if end:
        assert tensors.read_json(text) == []
    else:
        assert "the body is not valid JSON" in message_of(tensors.read_json, text)
    assert states == [False, True]


def test_an_input_without_data_or_given_twice_is_refused():
    without = tensor()
    del without["data"]
    assert "has neither 'data'" in message_of(read, without)
    assert "input 'x' is given twice" in message_of(read, tensor(), tensor())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": 7}, "'id' must be a string of at most 1024 characters, received 7"),
        ({"id": "a" * 2000}, "received 2000 characters"),
        ({"parameters": []}, "'parameters' of the request must be an object"),
        ({"parameters": {"timeout": -1}}, "'timeout' must be microseconds"),
        ({"parameters": {"timeout": "soon"}}, "'timeout' must be microseconds"),
        ({"outputs": {}}, "'outputs' must be a list of objects"),
        ({"outputs": ["y"]}, "each of 'outputs' must be an object"),
        ({"outputs": [{}]}, "each output needs a 'name'"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is given twice"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "'classification' is not offered"),
        (
            {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
            "output 'y': shared memory is not offered",
        ),
    ],
)
def test_the_rest_of_a_request_is_checked(more, message):
    assert message in message_of(read, tensor(), **more)


def test_outputs_and_parameters_of_a_request():
    request, wanted = read(tensor(), id="7", parameters={"timeout": 1_500_000, "binary_data_output": True})
    assert (request.id, request.timeout, request.outputs, wanted) == ("7", 1.5, None, True)
    outputs = [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}]
    request, wanted = read(tensor(), outputs=outputs, parameters={"binary_data_output": True})
    assert (request.outputs, wanted) == (["y", "z"], {"y": True, "z": False})
    assert read(tensor(), outputs=[])[0].outputs is None


@pytest.mark.parametrize(
    ("inputs", "parts", "length", "message"),
    [
        ([binary(8)], [b"1234567"], None, "'binary_data_size' is 8, but 7 bytes are left"),
        ([binary(8)], [b"123456789"], None, "the body has 1 bytes more than its inputs"),
        ([binary(7)], [b"1234567"], None, "FP32 of shape [1, 2] has 8 bytes, received 7"),
        ([binary(-1)], [b""], None, "'binary_data_size' is -1"),
        ([binary(1.5)], [b"12"], None, "'binary_data_size' is 1.5"),
        ([binary(2**70)], [b"12"], None, "bytes are left in the body"),
        ([binary(2, datatype="BOOL")], [b"\1\2"], None, "bytes of BOOL must be 0 or 1, received 2"),
        (
            [binary(4, datatype="BYTES")],
            [b"\xff\xff\xff\xff"],
            None,
            "string 0 claims 4294967295 bytes, but 0 are left",
        ),
        ([binary(3, datatype="BYTES")], [b"\0\0\0"], None, "string 0 has no length in 4 bytes before it"),
        ([binary(4, datatype="BYTES")], [b"\0\0\0\0"], None, "shape [1, 2] has 2 strings, received 1"),
        ([binary(5, datatype="BYTES", shape=(1,))], [b"\1\0\0\0\xff"], None, "a string is not UTF-8"),
        ([binary(0, shape=(0, 2**62))], [b""], None, "'shape' must be a list of positive integers"),
        ([binary(0, shape=(2**62, 0))], [b""], None, "'shape' must be a list of positive integers"),
        ([binary(8, shape=(2**63, 2**63))], [b"12345678"], None, "bytes, received 8"),
        ([binary(8, shape=(True, 2))], [b"12345678"], None, "'shape' must be a list of positive integers"),
        ([binary(8, shape=(1.0, 2))], [b"12345678"], None, "'shape' must be a list of positive integers"),
        ([binary(8, shape=(-1, -2))], [b"12345678"], None, "'shape' must be a list of positive integers"),
        ([binary(8, shape=(1,) * 17)], [b"12345678"], None, "'shape' may have at most 16 axes, received 17"),
        ([binary(8, shape=(2**31, 2), datatype="BYTES")], [b"12345678"], None, "4294967296 strings (limit: "),
        ([binary(8)], [b"12345678"], 10**9, "Inference-Header-Content-Length is 1000000000, but the body has"),
        ([binary(8)], [b"12345678"], 5, "not valid JSON"),
    ],
)
def test_wrong_bytes_are_explained(inputs, parts, length, message):
    assert message in message_of(read_bytes, inputs, *parts, length=length)


def test_numbers_of_json_are_known_to_be_finite():
    assert read(tensor())[0].is_finite
    assert not read_bytes([binary(8)], struct.pack("<2f", 1, math.nan))[0].is_finite


def test_bytes_without_the_header_are_refused():
    assert "the header Inference-Header-Content-Length is missing" in message_of(read, binary(8))


def test_json_and_bytes_in_one_request():
    words = {"name": "words", "shape": [1, 3], "datatype": "INT32", "data": [1, 2, 3]}
    request, _ = read_bytes([binary(8), words], struct.pack("<2f", 1.5, -2))
    assert request.inputs["x"].tolist() == [[1.5, -2.0]]
    assert request.inputs["words"].tolist() == [[1, 2, 3]]


def test_a_body_that_is_the_one_tensor():
    assert tensors.raw_input(SPECS, struct.pack("<2f", 3, 4))["x"].tolist() == [[3.0, 4.0]]
    open_size = (TensorSpec("x", (None, None, 2), np.dtype("float32")),)
    assert tensors.raw_input(open_size, struct.pack("<6f", *range(6)))["x"].shape == (1, 3, 2)
    assert "has 8 bytes, received 9" in message_of(tensors.raw_input, SPECS, b"123456789")
    assert "'shape' must be a list of positive integers, received [1, 0, 2]" in message_of(
        tensors.raw_input, open_size, b""
    )
    text = (TensorSpec("x", (None, 1), np.dtype(object)),)
    assert tensors.raw_input(text, "ä".encode())["x"].tolist() == [["ä"]]
    open_sizes = (TensorSpec("x", (None, None, None), np.dtype("float32")),)
    assert "leaves several sizes open, so a body of bytes alone" in message_of(tensors.raw_input, open_sizes, b"1234")
    assert "for models with one input; this one has 'x', 'words'" in message_of(tensors.raw_input, TWO, b"")


def ordered(inputs, specs=TWO, nan=False):
    return tensors.ordered("m", specs, inputs, nan)


def test_inputs_are_put_in_order():
    x, words = np.ones((2, 2), "float32"), np.ones((2, 3), "int32")
    found = ordered({"words": words, "x": x})
    assert found[0] is x
    assert found[1] is words


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x', 'words' of model 'm' is missing"),
        ({"x": np.ones((1, 2), "float32")}, "input 'words' of model 'm' is missing; its inputs are 'x', 'words'"),
        ({"y": np.ones((1, 2), "float32")}, "model 'm' has no input 'y'; its inputs are 'x', 'words'"),
        ({"x": np.ones((1, 2))}, "input 'x' of model 'm': expected FP32, received FP64"),
        ({"x": np.ones((1, 3), "float32")}, "input 'x' of model 'm': expected shape [-1, 2], received [1, 3]"),
        ({"x": np.ones(2, "float32")}, "expected shape [-1, 2], received [2]"),
        ({"x": np.float32(2).reshape(())}, "expected shape [-1, 2], received []"),
        ({"x": np.full((1, 2), np.nan, "float32")}, "holds NaN or Infinity, which this server refuses"),
        ({"x": np.full((1, 2), -np.inf, "float32")}, "holds NaN or Infinity, which this server refuses"),
        (
            {"x": np.ones((1, 2), "float32"), "words": np.ones((2, 3), "int32")},
            "input 'words' has 2 rows, but input 'x' has 1",
        ),
        ({"x": np.ones((0, 2), "float32"), "words": np.ones((0, 3), "int32")}, "input 'x' of model 'm' has no rows"),
        (
            {"x": np.ones((1, 2), "float32"), "words": np.ones((1, 3), "int32"), "z": np.ones(1)},
            "model 'm' has no input 'z'",
        ),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_the_model(inputs, message):
    assert message in message_of(ordered, inputs)


def test_data_that_cannot_fit_is_refused_before_it_is_converted():
    def read_for(tensor):
        body = json.dumps({"inputs": [tensor]}).encode()
        return read_body(body, None, "m", SPECS)

    assert read_for(tensor())[0].inputs["x"].tolist() == [[1.0, 2.0]]
    assert "expected FP32, received BYTES" in message_of(read_for, tensor("no list", datatype="BYTES"))
    assert "expected shape [-1, 2], received [1, 9]" in message_of(read_for, tensor("no list", shape=(1, 9)))
    assert "model 'm' has no input 'y'" in message_of(read_for, tensor("no list", name="y"))


def test_nan_may_be_allowed():
    assert math.isnan(ordered({"x": np.full((1, 2), np.nan, "float32")}, SPECS, nan=True)[0][0, 0])


def response(*arrays, id=None):
    outputs = [(TensorSpec(f"y{place}", (None, 2), a.dtype), a) for place, a in enumerate(arrays)]
    return InferResponse("m", "3", outputs, id)


def test_answers_of_json():
    body, length = tensors.write_response(response(np.array([[0.1, 2]], "float32"), id="a"), False)
    assert length is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "3",
        "id": "a",
        "outputs": [{"name": "y0", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 2.0]}],
    }


def test_an_answer_of_too_many_numbers_in_json_is_refused(monkeypatch):
    monkeypatch.setattr(tensors, "MAX_VALUES", 99)
    values = np.zeros((10, 5), "float32")
    tensors.write_response(response(values, values), {"y0": False, "y1": True})
    with pytest.raises(ServingError, match="an answer in JSON may have at most 99 values: ask for bytes") as caught:
        tensors.write_response(response(values, values), False)
    assert caught.value.status == 413


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "float64"])
def test_long_answers_are_those_of_short_ones(dtype, monkeypatch):
    values = np.linspace(-3, 3, 1000).reshape(10, 100).astype(dtype)
    short, _ = tensors.write_response(response(values, values), {"y0": False, "y1": True})
    monkeypatch.setattr(tensors, "PIECE_VALUES", 7)
    long, _ = tensors.write_response(response(values, values), {"y0": False, "y1": True})
    assert long == short


@pytest.mark.parametrize("datatype", tensors.DTYPES)
def test_answers_hold_every_datatype(datatype):
    array = np.array([["a", "b"]], object) if datatype == "BYTES" else np.array([[1, 0]], tensors.DTYPES[datatype])
    body, _ = tensors.write_response(response(array), False)
    output = json.loads(body)["outputs"][0]
    assert output == {"name": "y0", "datatype": datatype, "shape": [1, 2], "data": array.ravel().tolist()}


def test_answers_of_bytes_and_of_views():
    first, second = np.arange(8, dtype="float32").reshape(2, 4)[:, ::2], np.arange(4, dtype="int64").reshape(2, 2).T
    body, length = tensors.write_response(response(first, second), {"y0": True})
    head = json.loads(body[:length])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert "data" not in head["outputs"][0]
    assert head["outputs"][1]["data"] == [0, 2, 1, 3]
    assert np.frombuffer(body[length:], "<f4").tolist() == [0, 2, 4, 6]


def test_metadata_of_tensors():
    assert tensors.metadata_of(SPECS[0]) == {"name": "x", "datatype": "FP32", "shape": [-1, 2]}


def test_parameters_of_an_answer():
    answer = response(np.ones((1, 2)))
    answer.parameters = {"sequence_id": 7}
    body, _ = tensors.write_response(answer, False)
    assert json.loads(body)["parameters"] == {"sequence_id": 7}
