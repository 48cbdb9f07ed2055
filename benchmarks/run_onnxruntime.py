"""onnxruntime: predictions of the networks that nbkeras exported to ONNX, one `session.run` per batch."""

import numpy as np
import onnxruntime
from protocol import Job, network_file, serve, thread_count


def prepare(framework, workload, xs, ys, device) -> Job:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(framework) or 0  # 0: one for each core
    session = onnxruntime.InferenceSession(network_file(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(arrays):
        x, size = arrays[0], workload.batch
        pieces = [session.run(None, {name: x[i : i + size]})[0] for i in range(0, len(x), size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return Job(None, {"onnxruntime": onnxruntime.__version__}, predict=predict)


serve(prepare)
