"""Models with string inputs behind the server: JSON, BYTES tensors and TensorFlow Serving's API; gRPC is in rpc_calls.py."""

import asyncio
import json
import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("uvloop")
pytest.importorskip("starlette")

import in_memory
from in_memory import served

import nbkeras as keras
from nbkeras import layers as L
from nbkeras.serving import budget
from nbkeras.serving.control_channel import opened
from nbkeras.serving.http import Application
from nbkeras.serving.preparation import made

pytestmark = pytest.mark.cpu("a server computes on the CPU")


def model_of_texts():
    text, number = keras.Input((1,), dtype="string", name="text"), keras.Input((2,), name="number")
    words = L.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=3, name="words")(text)
    # no negative weights: where terms cancel, `predict` and a frozen model may differ by more than 1e-5 of the small rest
    positive = keras.initializers.RandomUniform(0.1, 1.0)
    both = L.Concatenate()([L.Flatten()(L.Embedding(4, 2, positive)(words)), number])
    scores = L.Dense(2, kernel_initializer=positive, name="scores")(both)
    return keras.Model([text, number], scores, name="review")


MODEL = model_of_texts()
TEXTS = np.array([["good é"], ["bad, bad"], [""]], object)
NUMBERS = np.array([[1, 2], [3, 4], [5, 6]], "float32")
WANTED = MODEL.predict([TEXTS, NUMBERS])


@pytest.fixture
def service():
    made = served({"review": MODEL.frozen()})
    yield made
    assert made.budget.used == 0


def post(service, path, content, **headers):
    return asyncio.run(in_memory.post(Application(service), path, content, **headers))[::2]


def request(data=TEXTS, **more):
    texts = {"name": "text", "datatype": "BYTES", "shape": [3, 1], "data": np.ravel(data).tolist(), **more}
    return {
        "inputs": [texts, {"name": "number", "datatype": "FP32", "shape": [3, 2], "data": NUMBERS.ravel().tolist()}]
    }


def close(found):
    np.testing.assert_allclose(np.reshape(found, (3, 2)), WANTED, rtol=1e-5)


class TestHttp:
    def test_json(self, service):
        status, answer = post(service, "/v2/models/review/infer", request())
        assert status == 200
        close(answer["outputs"][0]["data"])

    def test_bytes(self, service):
        raw = b"".join(struct.pack("<I", len(text)) + text for text in (each.encode() for each in TEXTS.ravel()))
        texts = {"name": "text", "datatype": "BYTES", "shape": [3, 1], "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [texts, request()["inputs"][1]]}).encode()
        status, answer = post(service, "/v2/models/review/infer", head + raw, inference_header_content_length=len(head))
        assert status == 200
        close(answer["outputs"][0]["data"])

    @pytest.mark.parametrize("form", ["rows", "columns"])
    def test_tensorflow_servings_api(self, service, form):
        if form == "rows":
            rows = [
                {"text": text.tolist(), "number": number.tolist()} for text, number in zip(TEXTS, NUMBERS, strict=True)
            ]
            content, key = {"instances": rows}, "predictions"
        else:
            content, key = {"inputs": {"text": TEXTS.tolist(), "number": NUMBERS.tolist()}}, "outputs"
        status, answer = post(service, "/v1/models/review:predict", content)
        assert status == 200, answer
        close(answer[key])

    def test_metadata(self, service):
        metadata = service.model_metadata("review")
        assert metadata["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
        assert service.model_configuration("review")["input"][0]["data_type"] == "TYPE_STRING"


class TestRefusals:
    @pytest.mark.parametrize(
        "change, message",
        [
            pytest.param({"data": [1, 2, 3]}, "data of BYTES must be strings, received 1", id="numbers"),
            pytest.param({"data": ["a", "b"]}, "has 3 values, received 2", id="too few"),
            pytest.param({"datatype": "FP32", "data": [1, 2, 3]}, "expected BYTES, received FP32", id="datatype"),
            pytest.param({"data": ["a", None, "b"]}, "data of BYTES must be strings", id="null"),
        ],
    )
    def test_wrong_requests(self, service, change, message):
        status, answer = post(service, "/v2/models/review/infer", request(**change))
        assert status == 400 and message in answer["error"]

    def test_very_long_strings(self, service):
        long = "a " * (budget.MAX_TEXT // 2)
        status, answer = post(service, "/v2/models/review/infer", request([long, "a", ""]))
        assert status == 413 and "characters together (limit: 1048576): send fewer rows" in answer["error"]

    def test_memory_is_counted_before_it_is_taken(self, service):
        service.budget.limit = 4 << 20
        status, answer = post(service, "/v2/models/review/infer", request(["a " * 40_000, "a", ""]))
        assert status == 413 and "bytes of memory, but the limit for all requests" in answer["error"]

    @pytest.mark.parametrize("ngrams", [None, 3], ids=["words", "runs of words"])
    def test_the_counted_memory_is_an_upper_bound(self, ngrams):
        text = keras.Input((1,), dtype="string")
        words = L.TextVectorization(vocabulary=["a"], output_sequence_length=4, ngrams=ngrams, split="character")(text)
        frozen = keras.Model(text, L.Dense(1)(words)).frozen(batch_sizes=1)
        array = np.array([["\U0001f600" * 20_000]], object)
        frozen.run([array])
        tracemalloc.start()
        frozen.host.numbers([array])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < frozen.host.memory([array]) < 10 * peak


class TestLoading:
    def test_a_worker_runs_each_size_first(self, tmp_path):
        MODEL.frozen(batch_sizes=(1, 2)).save(tmp_path / "review.frozen")
        close(opened(str(tmp_path / "review.frozen"))([TEXTS, NUMBERS]))

    def test_a_file_is_frozen_and_compared(self, tmp_path):
        MODEL.save(tmp_path / "review.keras")
        job = {"path": str(tmp_path / "review.keras"), "target": str(tmp_path / "review.frozen"), "known": None}
        job |= {"stream": False, "window": None, "steps": 1, "batch_sizes": (1, 8), "input_signature": None}
        assert made(job | {"safe_mode": True})["bytes"] > 0
        frozen = keras.inference.Frozen.load(tmp_path / "review.frozen", mapped=True)
        close(frozen([TEXTS, NUMBERS]))
