"""Runtimes that predict with a network from a file: onnxruntime and OpenVINO read nbkeras's ONNX export, LiteRT with its XNNPACK
delegate reads TensorFlow's conversion. Each call computes one batch.
"""

import importlib
import importlib.metadata
import sys
import threading

import numpy as np
from protocol import Job, network_file, serve, thread_count

RUNTIME = sys.argv[1].partition("-")[0]
MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert.interpreter"}
PACKAGES = {"litert": "ai-edge-litert"}  # whose name is another one
module = importlib.import_module(MODULES[RUNTIME])


def onnxruntime(threads, size):
    options = module.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one for each core
    session = module.InferenceSession(network_file(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


class Requests(threading.local):
    """By the shape of a batch; for each thread that predicts, because a request belongs to one thread at a time."""

    def __init__(self):
        self.made = {}


def openvino(threads, size):
    core, models, requests = module.Core(), {}, Requests()
    settings = {
        "INFERENCE_NUM_THREADS": threads or 1,
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

    return network


class Interpreters(threading.local):
    """LiteRT's interpreter for each thread that predicts, because it belongs to one thread at a time."""

    def __init__(self, threads):
        self.interpreter = module.Interpreter(network_file(), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]

    def __call__(self, x):
        self.interpreter.set_tensor(self.input, x)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)


def litert(threads, size):
    network = Interpreters(threads or 1)

    def filled(x):
        """A converted network has one batch size, so the last batch is padded with zeros."""
        if len(x) == size:
            return network(x)
        padded = np.zeros((size, *x.shape[1:]), x.dtype)
        padded[: len(x)] = x
        return network(padded)[: len(x)]

    return filled


def prepare(framework, workload, xs, ys, device) -> Job:
    size = workload.batch
    network = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert}[RUNTIME](
        thread_count(framework), size
    )

    def predict(arrays):
        x = arrays[0]
        pieces = [network(x[i : i + size]) for i in range(0, len(x), size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    package = PACKAGES.get(RUNTIME, RUNTIME)
    return Job(None, {package: importlib.metadata.version(package)}, predict=predict)


serve(prepare)
