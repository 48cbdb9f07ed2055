"""Flask with Keras 3. Run by gunicorn. MODEL: the .keras file; KERAS_BACKEND: Keras's backend.

`predict_on_batch` is compiled, as `predict`, but prepares no data set and draws no progress bar for each request. With JAX, the
fastest backend for this, two threads cannot predict at once: Keras gives its buffers away.
"""

import os
import threading

import keras
import numpy as np
import orjson
from flask import Flask, Response, request

model = keras.models.load_model(os.environ["MODEL"], compile=False)
model.predict_on_batch(np.zeros((1, *model.input_shape[1:]), "float32"))
alone = threading.Lock()
app = Flask(__name__)


@app.post("/v2/models/<name>/infer")
def infer(name: str) -> Response:
    tensor = orjson.loads(request.get_data())["inputs"][0]
    x = np.array(tensor["data"], "float32").reshape(tensor["shape"])
    with alone:
        y = np.asarray(model.predict_on_batch(x))
    output = {"name": "output", "datatype": "FP32", "shape": y.shape, "data": y.ravel()}
    made = orjson.dumps({"model_name": name, "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(made, mimetype="application/json")
