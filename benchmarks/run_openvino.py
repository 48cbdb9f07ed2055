"""OpenVINO: predictions of the networks that nbkeras exported to ONNX, one request per batch, in float32."""

import threading

import numpy as np
import openvino
from protocol import Job, network_file, serve, thread_count


class Requests(threading.local):
    """By the shape of a batch; for each thread that predicts, because a request belongs to one thread at a time."""

    def __init__(self):
        self.made = {}


def prepare(framework, workload, xs, ys, device) -> Job:
    core, models, requests, size = openvino.Core(), {}, Requests(), workload.batch
    settings = {
        "INFERENCE_NUM_THREADS": thread_count(framework) or 1,
        "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 on some CPUs
        "PERFORMANCE_HINT": "LATENCY",
    }

    def request(shape):
        """A request for batches of this shape, and its arrays."""
        if shape not in models:
            model = core.read_model(network_file())
            model.reshape(list(shape))
            models[shape] = core.compile_model(model, "CPU", settings)
        made = models[shape].create_infer_request()
        return made, made.get_input_tensor().data, made.get_output_tensor().data

    def network(x):
        if x.shape not in requests.made:
            requests.made[x.shape] = request(x.shape)
        chosen, inputs, outputs = requests.made[x.shape]
        inputs[:] = x
        chosen.infer()
        return outputs.copy()

    def predict(arrays):
        x = arrays[0]
        pieces = [network(x[i : i + size]) for i in range(0, len(x), size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return Job(None, {"openvino": openvino.__version__.partition("-")[0]}, predict=predict)


serve(prepare)
