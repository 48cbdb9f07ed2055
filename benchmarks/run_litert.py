"""LiteRT with its XNNPACK delegate: predictions of the networks that TensorFlow converted, one `invoke` per batch.

A converted network has one size of batches: the last batch is filled up with zeros.
"""

import importlib.metadata
import threading

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from protocol import Job, network_file, serve, thread_count


class Network(threading.local):
    """An interpreter for each thread that predicts, because it belongs to one thread at a time."""

    def __init__(self, threads):
        self.interpreter = Interpreter(network_file(), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]

    def __call__(self, x):
        self.interpreter.set_tensor(self.input, x)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)


def prepare(framework, workload, xs, ys, device) -> Job:
    network, size = Network(thread_count(framework) or 1), workload.batch

    def predict(arrays):
        x = arrays[0]
        pieces = [network(x[i : i + size]) for i in range(0, len(x) - size + 1, size)]
        if rest := len(x) % size:
            padded = np.zeros((size, *x.shape[1:]), x.dtype)
            padded[:rest] = x[-rest:]
            pieces.append(network(padded)[:rest])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return Job(None, {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}, predict=predict)


serve(prepare)
