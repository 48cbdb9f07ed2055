"""TensorFlow Serving's REST form: bodies, answers, descriptions of models; and over HTTP, by ASGI calls."""

import asyncio
import json
import re

import numpy as np
import pytest
from in_memory import post, served, spec

pytest.importorskip("starlette")

import nbkeras
from nbkeras import layers
from nbkeras.serving import instances
from nbkeras.serving.errors import ServingError
from nbkeras.serving.http import Application
from nbkeras.serving.repository import LOADING, READY, UNAVAILABLE, UNLOADED
from nbkeras.serving.requests import InferRequest, InferResponse
from nbkeras.serving.tensors import PIECE_VALUES

ONE = (spec("x", (2,)),)
TWO = (spec("words", (3,), "int32"), spec("numbers", ()))


def read(content, specs=ONE, json_bytes=None):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = InferRequest(body=body)
    return request, instances.read_request(request, json_bytes, "m", specs)


# -------------------- requests --------------------


@pytest.mark.parametrize("content", [[[1, 2.5], [3, 4]], [{"x": [1, 2.5]}, {"x": [3, 4]}]])
def test_rows_of_one_input(content):
    request, in_rows = read({"instances": content})
    assert in_rows and request.is_finite
    assert request.inputs["x"].dtype == "float32"
    np.testing.assert_array_equal(request.inputs["x"], [[1, 2.5], [3, 4]])


@pytest.mark.parametrize("content", [[[1, 2]], {"x": [[1, 2]]}])
def test_columns_of_one_input(content):
    request, in_rows = read({"inputs": content, "signature_name": "serving_default", "more": 1})
    assert not in_rows
    np.testing.assert_array_equal(request.inputs["x"], [[1, 2]])


def test_several_inputs_in_rows_and_columns():
    in_rows = {"instances": [{"numbers": 0.5, "words": [1, 2, 3]}, {"words": [4, 5, 6], "numbers": 1}]}
    in_columns = {"inputs": {"words": [[1, 2, 3], [4, 5, 6]], "numbers": [0.5, 1]}}
    for content in (in_rows, in_columns):
        request, _ = read(content, TWO)
        assert {name: array.dtype.name for name, array in request.inputs.items()} == {
            "words": "int32",
            "numbers": "float32",
        }
        np.testing.assert_array_equal(request.inputs["words"], [[1, 2, 3], [4, 5, 6]])
        np.testing.assert_array_equal(request.inputs["numbers"], [0.5, 1])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_dtypes_are_those_of_the_model(dtype):
    values = [True, False] if dtype == "bool" else [1, 2]
    request, _ = read({"instances": values}, (spec("x", (), dtype),))
    assert request.inputs["x"].dtype == dtype
    np.testing.assert_array_equal(request.inputs["x"], values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body is not valid JSON"),
        (b'{"instances": [[1, NaN]]}', "the body is not valid JSON"),
        (b"[[1, 2]]", "must be a JSON object with 'instances' or 'inputs', received a list of 1"),
        ({"instance": [[1, 2]]}, "either 'instances' (rows) or 'inputs' (columns), received ['instance']"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "either 'instances' (rows) or 'inputs' (columns), received both"),
        ({"instances": [[1, 2]], "signature_name": "train"}, "'signature_name' must be 'serving_default', the only"),
        ({"instances": [[1, 2]], "signature_name": 3}, "or absent, received 3"),
        ({"instances": []}, "'instances' must be a list with an entry for each row, received []"),
        ({"instances": {"x": [[1, 2]]}}, "'instances' must be a list with an entry for each row, received an object"),
        ({"instances": [[1, 2], {"x": [1, 2]}]}, "must be all objects by input or all values, received both"),
        ({"instances": [{"x": [1, 2]}, None]}, "must be all objects by input or all values, received both"),
        ({"instances": [{"x": [1, 2]}, {}]}, "must be an object with the inputs of model 'm', 'x', received []"),
        ({"instances": [{"y": [1, 2]}]}, "must be an object with the inputs of model 'm', 'x', received ['y']"),
        ({"instances": [{"b64": "YQ=="}]}, "must be an object with the inputs of model 'm', 'x', received ['b64']"),
        ({"instances": [[1, {"b64": "YQ=="}]]}, "data of FP32 must be numbers, received {'b64': 'YQ=='}"),
        ({"inputs": {"x": [[1, 2]], "y": 1}}, "'inputs' must be an object with the inputs of model 'm', 'x', received"),
        ({"instances": [1, 2]}, "input 'x' of model 'm': expected shape [-1, 2], received [2]"),
        ({"instances": [[1, 2, 3]]}, "input 'x' of model 'm': expected shape [-1, 2], received [1, 3]"),
        ({"instances": [[[1, 2]]]}, "input 'x' of model 'm': expected shape [-1, 2], received [1, 1, 2]"),
        ({"inputs": 3}, "input 'x' of model 'm': expected shape [-1, 2], received []"),
        ({"inputs": None}, "input 'x' of model 'm': expected shape [-1, 2], received []"),
        ({"inputs": []}, "input 'x' of model 'm' holds an empty list at level 1"),
        ({"instances": [[], [1, 2]]}, "input 'x' of model 'm' holds an empty list at level 2"),
        ({"instances": [[1, 2], []]}, "a list at level 2 has 0 values"),
        ({"instances": [[1, 2], [3]]}, "a list at level 2 has 1 values"),
        ({"instances": [[1, 2], 3]}, "nested data must have 2 levels as the shape [2, 2], received 3 at level 1"),
        ({"instances": [[1, 2], [[3], 4]]}, "data of FP32 must be numbers, received [3]"),
        ({"instances": [[1, "2"]]}, "data of FP32 must be numbers, received '2'"),
        ({"instances": [[1, None]]}, "data of FP32 must be numbers, received none"),
        ({"instances": [[1, True]]}, "data of FP32 must be numbers, received true or false"),
        ({"instances": [[1, 1e300]]}, "data of FP32 holds 1e+300, which does not fit"),
        (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", "holds an empty list at level 900"),
        (b'{"instances": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}", "'shape' may have at most 16 axes, received 900"),
    ],
)
def test_bodies_that_are_refused(content, message):
    with pytest.raises(ServingError, match=re.escape(message)) as error:
        read(content)
    assert error.value.status == 400
    assert len(error.value.message) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"instances": [[1, 2, 3]]}, "each of 'instances' must be an object with the inputs of model 'm', 'words',"),
        ({"instances": [{"words": [1, 2, 3]}]}, "'words', 'numbers', received ['words']"),
        (
            {"inputs": [[1, 2, 3]]},
            "'inputs' must be an object with the inputs of model 'm', 'words', 'numbers', received",
        ),
        ({"inputs": {"words": [[1, 2, 3]]}}, "'words', 'numbers', received ['words']"),
        ({"inputs": {"k" * 10**5: 1, "words": 1}}, "'words', 'numbers', received a list of 2"),
        ({"instances": [{"words": [1, 2, 3.0], "numbers": 1}]}, "data of INT32 must be integers, received 3.0"),
        ({"instances": [{"words": [1, 2, 2**31], "numbers": 1}]}, "data of INT32 holds 2147483648, which does not fit"),
    ],
)
def test_bodies_for_several_inputs_that_are_refused(content, message):
    with pytest.raises(ServingError, match=re.escape(message)) as error:
        read(content, TWO)
    assert error.value.status == 400
    assert len(error.value.message) < 1000


def test_binary_tensors_are_refused():
    with pytest.raises(ServingError, match="/v2/models/NAME/infer takes binary tensors"):
        read(b"{}", json_bytes=2)


# -------------------- answers --------------------


def written(outputs, in_rows):
    response = InferResponse("m", "1", outputs)
    body, json_bytes = instances.write_response(response, in_rows)
    assert json_bytes is None
    return json.loads(body)


A = np.array([[0.5, float("nan")], [2, 3]], "float32")
B = np.array([7, -8], "int64")


def test_answers_in_rows_and_columns():
    one = [(spec("a", (2,)), A)]
    assert written(one, True) == {"predictions": [[0.5, None], [2.0, 3.0]]}
    assert written(one, False) == {"outputs": [[0.5, None], [2.0, 3.0]]}
    more = [*one, (spec('b%"', (), "int64"), B)]
    assert written(more, True) == {"predictions": [{"a": [0.5, None], 'b%"': 7}, {"a": [2.0, 3.0], 'b%"': -8}]}
    assert written(more, False) == {"outputs": {"a": [[0.5, None], [2.0, 3.0]], 'b%"': [7, -8]}}


@pytest.mark.parametrize(
    "shape", [(PIECE_VALUES + 3,), (3, PIECE_VALUES // 2 + 1), (2, PIECE_VALUES + 1), (2, 1, 1, 70_000)]
)
@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8"])
def test_long_answers_are_written_in_pieces(shape, dtype):
    values = np.arange(np.prod(shape), dtype="int64").reshape(shape).astype("uint8").astype(dtype)
    assert written([(spec("a", ()), values)], True)["predictions"] == values.tolist()
    short = np.zeros(len(values), "int8")
    if len(values) < 10:
        rows = written([(spec("a", ()), values), (spec("b", ()), short)], True)["predictions"]
        assert [row["a"] for row in rows] == values.tolist()
    assert written([(spec("a", ()), np.asfortranarray(values))], False)["outputs"] == values.tolist()


def test_answers_that_are_too_long_are_refused():
    huge = np.broadcast_to(np.float32(1), (9, 1 << 20))
    with pytest.raises(ServingError, match="an answer in JSON may have at most 8388608 values") as error:
        written([(spec("a", ()), huge)], True)
    assert error.value.status == 413


def test_names_that_rows_repeat_are_counted():
    outputs = [(spec("a" * 100, ()), np.zeros(1000, "int8")), (spec("b", ()), np.zeros(1000, "int8"))]
    response = InferResponse("m", "1", outputs)
    body, _ = instances.write_response(response, True)
    assert 2 * len(body) < instances.extra_bytes(response, True) + 2000 * 10
    assert instances.extra_bytes(response, False) == 0
    assert instances.extra_bytes(InferResponse("m", "1", outputs[:1]), True) == 0


# -------------------- paths and descriptions --------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/predict", (None, None)),
        ("/v1/models/m:predict", ("m", None)),
        ("/v1/models/a:b:predict", ("a:b", None)),
        ("/v1/models/m/versions/2:predict", ("m", "2")),
        ("/v1/models/m/versions/2/3:predict", None),
        ("/v1/models/m/labels/2:predict", None),
        ("/v1/models/m:classify", None),
        ("/v2/models/m:predict", None),
        ("/v1/models/m/predict", None),
        ("x/v1/models:predict", None),
        (":predict", None),
    ],
)
def test_paths(path, found):
    assert instances.target_of(path) == found


def entry(name, version="1", state=READY, reason=""):
    return {"name": name, "version": version, "state": state, "reason": reason}


def test_the_only_model():
    assert instances.only_model([entry("a"), entry("a", "2")]) == "a"
    assert instances.only_model([entry("a"), entry("b", state=UNAVAILABLE, reason=UNLOADED)]) == "a"
    assert instances.only_model([entry("a", state=UNAVAILABLE, reason="no file")]) == "a"
    with pytest.raises(ServingError, match="with one of these names: a, b") as error:
        instances.only_model([entry("b", state=LOADING), entry("a")])
    assert error.value.status == 400
    with pytest.raises(ServingError, match="this server has no model") as error:
        instances.only_model([])
    assert error.value.status == 404


def test_states_of_versions():
    index = [
        entry("a", "1", UNAVAILABLE, UNLOADED),
        entry("a", "10"),
        entry("a", "9", UNAVAILABLE, "no such file"),
        entry("a", "11", LOADING),
        entry("b", "1"),
    ]
    found = instances.status_of(index, "a")["model_version_status"]
    assert found == [
        {"version": "11", "state": "LOADING", "status": {"error_code": "OK", "error_message": ""}},
        {"version": "10", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        {"version": "9", "state": "END", "status": {"error_code": "UNKNOWN", "error_message": "no such file"}},
        {"version": "1", "state": "END", "status": {"error_code": "OK", "error_message": "unloaded"}},
    ]
    assert instances.status_of(index, "a", "10")["model_version_status"] == [found[1]]
    assert instances.status_of(index, "a", "7") is None


# -------------------- over HTTP --------------------


def two_inputs():
    words, numbers = nbkeras.Input((3,), dtype="int32", name="words"), nbkeras.Input((2,), name="numbers")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 2)(words)), numbers])
    return nbkeras.Model([words, numbers], [layers.Dense(2, name="a")(both), layers.Dense(1, name="b")(both)])


def application(**models):
    return Application(served({name: model.frozen(batch_sizes=(1, 4)) for name, model in models.items()}))


def ask(made, path, content=None, method=None, **headers):
    """(status, headers, content) of an answer."""
    method, content = method or ("GET" if content is None else "POST"), b"" if content is None else content
    return asyncio.run(post(made, path, content, method=method, address=("test", 80), **headers))


@pytest.fixture(scope="module")
def dense():
    return nbkeras.Sequential([nbkeras.Input((2,), name="x"), layers.Dense(3, name="y")])


def test_predictions_of_the_only_model(dense):
    made, rows = application(m=dense), [[1, 2], [3, 4.5], [5, 6]]
    wanted = dense.predict(np.array(rows, "float32"), verbose=0)
    for path in ("/predict", "/v1/models/m:predict", "/v1/models/m/versions/1:predict"):
        status, headers, answer = ask(made, path, {"instances": rows}, x_request_id="7")
        assert (status, headers["content-type"], headers["x-request-id"]) == (200, "application/json", "7")
        np.testing.assert_allclose(answer["predictions"], wanted, rtol=1e-5)
        status, _, answer = ask(made, path, {"inputs": rows}, content_type="application/x-www-form-urlencoded")
        assert status == 200
        np.testing.assert_allclose(answer["outputs"], wanted, rtol=1e-5)


def test_predictions_of_several_inputs_and_outputs():
    model = two_inputs()
    made = application(m=model)
    words, numbers = np.array([[1, 2, 3], [4, 5, 6]], "int32"), np.array([[0.5, 1], [2, 3]], "float32")
    a, b = model.predict([words, numbers], verbose=0)
    rows = [{"words": w, "numbers": n} for w, n in zip(words.tolist(), numbers.tolist(), strict=True)]
    status, _, answer = ask(made, "/predict", {"instances": rows})
    assert status == 200
    np.testing.assert_allclose([row["a"] for row in answer["predictions"]], a, rtol=1e-5)
    np.testing.assert_allclose([row["b"] for row in answer["predictions"]], b, rtol=1e-5)
    columns = {"words": words.tolist(), "numbers": numbers.tolist()}
    _, _, answer = ask(made, "/predict", {"inputs": columns})
    np.testing.assert_allclose(answer["outputs"]["a"], a, rtol=1e-5)
    np.testing.assert_allclose(answer["outputs"]["b"], b, rtol=1e-5)
    columns["words"].pop()
    status, _, answer = ask(made, "/predict", {"inputs": columns})
    assert (status, answer["error"]) == (
        400,
        "input 'numbers' has 2 rows, but input 'words' has 1: they must be the same number",
    )


def test_a_stream_computes_a_sequence_of_one_request():
    model = nbkeras.Sequential([nbkeras.Input((None, 2), name="s"), layers.GRU(2, return_sequences=True, name="t")])
    made = Application(served({"m": model.stream().frozen(batch_sizes=(1,))}, stream=True))
    x = np.ones((1, 1, 2), "float32")
    status, _, answer = ask(made, "/predict", {"instances": x.tolist()})
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], model.predict(x, verbose=0), rtol=1e-5)


def test_mistakes(dense):
    made = application(m=dense, n=dense)
    status, _, answer = ask(made, "/predict", {"instances": [[1, 2]]})
    assert (status, answer["error"].rpartition(": ")[2]) == (400, "m, n")
    assert ask(made, "/v1/models/o:predict", {})[::2] == (404, {"error": "model 'o' is not there; models: m, n"})
    assert ask(made, "/v1/models/m/versions/3:predict", {})[0] == 404
    assert ask(made, "/v1/models/m:predict", {"instances": [["1", 2]]})[0] == 400
    assert ask(made, "/v1/models/m:predict", {}, content_type="text/csv")[0] == 415
    assert ask(made, "/v1/models/m:classify", {})[0] == 405
    assert ask(made, "/v2/models/m/infer", {}, content_type="application/x-www-form-urlencoded")[0] == 415
    for path in ("/predict", "/v1/models/m:predict", "/v1/models/m/versions/1:predict"):
        for method in ("GET", "PUT"):
            status, headers, _ = ask(made, path, method=method)
            assert (status, headers["allow"]) == (405, "POST")


def test_states_and_signatures(dense):
    made = application(m=dense)
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/m", "/v1/models/m/versions/1"):
        assert ask(made, path)[::2] == (200, {"model_version_status": [state]})

    def tensor(name, size):
        dims = [{"size": "-1", "name": ""}, {"size": size, "name": ""}]
        return {name: {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": name}}

    signature = {"inputs": tensor("x", "2"), "outputs": tensor("y", "3"), "method_name": "tensorflow/serving/predict"}
    wanted = {
        "model_spec": {"name": "m", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    for path in ("/v1/models/m/metadata", "/v1/models/m/versions/1/metadata"):
        assert ask(made, path)[::2] == (200, wanted)
    for path in ("/v1/models/o", "/v1/models/m/versions/2", "/v1/models/o/metadata"):
        assert ask(made, path)[0] == 404
    assert ask(made, "/v1/models")[0] == 404
    made.service.repository.mark("o", "3", LOADING, "the server starts")
    found = ask(made, "/v1/models/o")[2]["model_version_status"]
    assert [(each["state"], each["status"]["error_message"]) for each in found] == [("LOADING", "the server starts")]


def test_names_in_rows_that_find_no_memory_are_refused():
    x = nbkeras.Input((1,), name="x")
    model = nbkeras.Model(x, [layers.Dense(1, name=name * 2000)(x) for name in "ab"])
    made = application(m=model)
    made.service.budget.limit = 10_000_000
    rows = {"instances": [[1]] * 500}
    assert ask(made, "/predict", {"instances": [[1]]})[0] == 200
    status, _, answer = ask(made, "/predict", rows)
    assert (status, "of memory, but the limit for all requests" in answer["error"]) == (413, True)
    assert ask(made, "/predict", {"inputs": rows["instances"]})[0] == 200
