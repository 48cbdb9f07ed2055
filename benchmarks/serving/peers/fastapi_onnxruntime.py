"""FastAPI with onnxruntime, written for speed: orjson for the JSON, no models of pydantic for hundreds of numbers.

Run by uvicorn. MODEL: the ONNX file; THREADS: of a session. POOL=1: requests are computed in a pool of so many threads, as many
as compute elsewhere; else on the event loop.
"""

import os

import anyio
import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

threads = int(os.environ["THREADS"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
INPUT, OUTPUT = session.get_inputs()[0].name, session.get_outputs()[0].name
pool = anyio.CapacityLimiter(threads) if os.environ["POOL"] == "1" else None
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
    made = answer(name, body) if pool is None else await anyio.to_thread.run_sync(answer, name, body, limiter=pool)
    return Response(made, media_type="application/json")
