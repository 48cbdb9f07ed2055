"""onnxruntime: predictions of the same networks from ONNX graphs with random weights, one `session.run` per batch."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from serving import Job, serve


class Graph:
    """An ONNX graph under construction; each method takes and returns names of values."""

    def __init__(self):
        self.random, self.nodes, self.weights = np.random.RandomState(0), [], []

    def weight(self, *shape):
        return self.constant((self.random.standard_normal(shape) * 0.05).astype("float32"))

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind, *inputs, output=0, **settings):
        names = [f"n{len(self.nodes)}_{i}" for i in range(output + 1)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names[output]

    def dense(self, x, inputs, units):
        return self.add("Gemm", x, self.weight(inputs, units), self.weight(units))


def mlp(g, x):
    x = g.add("Relu", g.dense(x, 784, 512))
    x = g.add("Relu", g.dense(x, 512, 512))
    return g.dense(x, 512, 10)


def lstm_stack(g, x):
    x = g.add("Transpose", x, perm=[1, 0, 2])
    for inputs in (16, 32, 32):
        weights = [g.weight(1, 128, inputs), g.weight(1, 128, 32), g.constant(np.zeros((1, 256), "float32"))]
        x = g.add("Squeeze", g.add("LSTM", x, *weights, hidden_size=32), g.constant(np.array([1], "int64")))
    x = g.add("Gather", x, g.constant(np.array(7, "int64")), axis=0)
    return g.dense(x, 32, 10)


def cnn(g, x):
    x = g.add("Transpose", x, perm=[0, 3, 1, 2])
    x = g.add("Relu", g.add("Conv", x, g.weight(32, 1, 3, 3), g.weight(32), kernel_shape=[3, 3]))
    x = g.add("Relu", g.add("Conv", x, g.weight(64, 32, 3, 3), g.weight(64), kernel_shape=[3, 3]))
    x = g.add("Flatten", g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    return g.dense(g.add("Relu", g.dense(x, 9216, 128)), 128, 10)


NETWORKS = {"mlp": mlp, "lstm_stack": lstm_stack, "cnn": cnn}


def prepare(framework, workload, xs, ys, device) -> Job:
    g = Graph()
    last = g.add("Softmax", NETWORKS[workload.network](g, "x"), axis=-1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *xs[0].shape[1:]])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph(g.nodes, "network", inputs, outputs, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def predict(arrays):
        x, size = arrays[0], workload.batch
        pieces = [session.run(None, {"x": x[i : i + size]})[0] for i in range(0, len(x), size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    arrays = [numpy_helper.to_array(weight) for weight in g.weights]
    # an ONNX LSTM has a second bias, added to the first, which Keras does not have
    parameters = sum(a.size // (2 if a.shape == (1, 256) else 1) for a in arrays if a.dtype == "float32")
    return Job(parameters, {"onnxruntime": onnxruntime.__version__}, predict=predict)


serve(prepare)
