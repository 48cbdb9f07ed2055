"""FastAPI with onnxruntime, written for speed: orjson for the JSON, no models of pydantic for hundreds of numbers.

Run by uvicorn. MODEL: the ONNX file; THREADS: of a session. POOL=1: requests are computed in Starlette's pool of threads, else on
the event loop.
"""

import os

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
INPUT, OUTPUT = session.get_inputs()[0].name, session.get_outputs()[0].name
in_pool = os.environ["POOL"] == "1"
app = FastAPI()


def answer(name: str, body: bytes) -> bytes:
    tensor = orjson.loads(body)["inputs"][0]
    x = np.array(tensor["data"], "float32").reshape(tensor["shape"])
    y = session.run(None, {INPUT: x})[0]
    output = {"name": OUTPUT, "datatype": "FP32", "shape": y.shape, "data": y.ravel()}
    return orjson.dumps({"model_name": name, "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    body = await request.body()
    made = await run_in_threadpool(answer, name, body) if in_pool else answer(name, body)
    return Response(made, media_type="application/json")
