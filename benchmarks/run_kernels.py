"""Each nbkeras kernel separately: run_kernels.py nbkeras|nbkeras-cublas all|smallest DEVICE; protocol, cases: kernel_cases.py.

A kernel's time is the time of its recorded launches, replayed over the same arrays as in a training step, on a GPU from a CUDA
graph. 'nbkeras-cublas' uses NVIDIA's matrix products instead of our own.
"""

import sys
import warnings
from collections.abc import Callable, Sequence

import kernel_cases
import numpy as np
from kernel_cases import FORWARD, Case

import nbkeras
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import activations, dense, elementwise, embedding, normalization, random, reduce, softmax
from nbkeras.kernels.convolution import conv
from nbkeras.kernels.recurrent import lstm, recurrence
from nbkeras.kernels.runtime import device
from nbkeras.optimizers import Adam

Array = np.ndarray
FRAMEWORK, QUICK, DEVICE = sys.argv[1], sys.argv[2] == "smallest", sys.argv[3]
CASES = kernel_cases.cases(QUICK)


class Launches:
    """Records launches."""

    reason = "it is replayed over the same values, so they may be read"

    def __init__(self) -> None:
        self.steps: list[tuple] = []

    def allocated(self, array: Array) -> Array:
        return array

    def launched(self, function: Callable, args: tuple) -> None:
        self.steps.append((function, args))


# -------------------- a function for each kind: returns one that launches kernels and returns their results --------------------


def gemm(case: Case, a: Array, b: Array) -> Callable:
    return lambda: [dense.matmul(a, b)[0]]


def one_way(case: Case, forward: Callable, backward: Callable) -> Callable:
    """The results of `forward() -> (y, saved)`; or the gradients of `backward(saved)` after one forward pass."""
    if case.way == FORWARD:
        return lambda: [forward()[0]]
    saved = forward()[1]
    return lambda: [dx for dx in backward(saved) if dx is not None]


def dense_layer(case: Case, x: Array, w: Array, b: Array, dy: Array) -> Callable:
    def backward(saved: tuple) -> Sequence:
        return dense.dense_vjp(saved, dy, (True,) * 3)

    return one_way(case, lambda: dense.dense(x, w, b, True), backward)


def lstm_layer(case: Case, x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, dy: Array) -> Callable:
    how = {
        "activation": recurrence.ACTIVATIONS["tanh"],
        "recurrent_activation": recurrence.ACTIVATIONS["sigmoid"],
        "sequences": True,
        "backwards": False,
        "zero_masked": False,
        "differentiable": case.way != FORWARD,
    }

    def forward() -> list:
        return [lstm.lstm(x, kernel, recurrent_kernel, bias, None, None, None, None, **how)[0][0]]

    def both() -> tuple:
        saved = lstm.lstm(x, kernel, recurrent_kernel, bias, None, None, None, None, **how)[1]
        return lstm.lstm_vjp(saved, (dy, None, None), (True,) * 4 + (False,) * 4)[:4]

    return forward if case.way == FORWARD else both


def convolution(case: Case, x: Array, kernel: Array, dy: Array) -> Callable:
    def forward() -> tuple:
        return conv.conv(x, kernel, None, (1, 1), (1, 1), "valid", 1, False)

    needs = case.way == "dx", case.way == "dw", False
    return one_way(case, forward, lambda saved: conv.conv_vjp(saved, dy, needs))


def both_ways(op: Callable, vjp: Callable, *constants, needs: tuple = (True,)) -> Callable:
    """The function for a kind with the inputs x, dy and weights."""

    def make(case: Case, x: Array, dy: Array, *weights: Array) -> Callable:
        return one_way(case, lambda: op(x, *weights, *constants), lambda saved: vjp(saved, dy, needs))

    return make


def batch_normalization(case: Case, x: Array, dy: Array, gamma: Array, beta: Array) -> Callable:
    moving = device.persistent(np.zeros(x.shape[1], "float32")), device.persistent(np.ones(x.shape[1], "float32"))
    op, vjp = normalization.batch_normalization_training, normalization.batch_normalization_training_vjp
    needs = True, True, True, False, False, False
    return one_way(case, lambda: op(x, gamma, beta, *moving, None, 0.99, 1e-3), lambda saved: vjp(saved, dy, needs)[:3])


def reduction(op: Callable, axes: tuple) -> Callable:
    return lambda case, x, dy: lambda: [op(x, axes)[0]]


def lookup(case: Case, table: Array, words: Array, dy: Array) -> Callable:
    def backward(saved: tuple) -> list:
        return [embedding.gather_vjp(saved, dy, (True, False))[0].dense()]

    return one_way(case, lambda: embedding.gather(table, words), backward)


def adam(case: Case, weights: Array, gradient: Array) -> Callable:
    variable, optimizer = Variable(weights), Adam()
    optimizer.build([variable])
    device.write(optimizer.gradient_views[0], gradient)

    def update() -> list:
        optimizer.update()
        return [variable.data]

    return update


def dropout(case: Case, x: Array, dy: Array) -> Callable:
    key = device.persistent(np.array([1, 2], "uint32"))
    needs = True, False
    return one_way(case, lambda: random.dropout(x, key, 0.2), lambda saved: random.dropout_vjp(saved, dy, needs)[:1])


KINDS: dict[str, Callable] = {
    "gemm": gemm,
    "dense": dense_layer,
    "lstm": lstm_layer,
    "conv": convolution,
    "softmax": both_ways(softmax.softmax, softmax.softmax_vjp, 1),
    "layer_normalization": both_ways(
        normalization.layer_normalization, normalization.layer_normalization_vjp, 1e-3, needs=(True,) * 3
    ),
    "batch_normalization": batch_normalization,
    "sum_of_all": reduction(reduce.sum, (0, 1)),
    "sum_of_rows": reduction(reduce.sum, (1,)),
    "sum_of_columns": reduction(reduce.sum, (0,)),
    "max_of_rows": reduction(reduce.max, (1,)),
    "relu": both_ways(activations.relu, activations.relu_vjp),
    "add": lambda case, x, y: lambda: [elementwise.add(x, y)[0]],
    "dropout": dropout,
    "embedding": lookup,
    "adam": adam,
}


def measure(case: Case) -> dict:
    """The seconds, and marks of the first run's results."""
    if FRAMEWORK == "nbkeras-cublas" and case.kind not in ("gemm", "dense"):
        return {}
    arrays = kernel_cases.inputs(case)
    if case.kind != "adam":  # its Variable makes its own copy
        arrays = [device.persistent(array) for array in arrays]
    function = KINDS[case.kind](case, *arrays)
    launches = Launches()
    with device.record(launches):
        results: Sequence = function()
    found = kernel_cases.marks([device.read(each) for each in results])
    with warnings.catch_warnings(record=True) as told:  # a replayer warns if its launches cannot be captured
        warnings.simplefilter("always")
        once = kernel_cases.seconds(device.Replayer(launches.steps), nbkeras.engine.devices.synchronize, 1, QUICK)
        times = kernel_cases.repeats(once)
        if times > 1 and not QUICK:
            play = device.Replayer(launches.steps * times)
            once = kernel_cases.seconds(play, nbkeras.engine.devices.synchronize, times, QUICK)
    for warning in told:
        print(warning.message, file=sys.stderr)
    return {"seconds": once, "marks": found, "how": "eager" if told or DEVICE == "cpu" else "graph"}


def answer(request: str) -> dict:
    if request == "card":
        import card

        return card.measure(QUICK)
    try:
        return measure(CASES[int(request)])
    finally:
        if device.gpu() is not None:
            device.gpu().release()


if __name__ == "__main__":
    if FRAMEWORK == "nbkeras-cublas":
        import nvmath.bindings  # noqa: F401 - if it is missing, the error names it

        nbkeras.config.set_matmul("cublas")
    nbkeras.config.set_device(DEVICE)
    kernel_cases.serve(FRAMEWORK, {"nbkeras": nbkeras.__version__}, answer)
