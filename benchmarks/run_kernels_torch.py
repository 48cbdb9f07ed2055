"""The same kernels in PyTorch (cuBLAS and cuDNN): run_kernels_torch.py torch|torch-tf32 all|smallest DEVICE

'torch' computes in full float32, 'torch-tf32' with the matrix units. Kernels are replayed from a CUDA graph ('graph') as in
nbkeras, or launched one by one ('eager') if that is faster or they cannot be captured. cuDNN tries its algorithms. Images are
measured with channels first and last; the faster order counts.
"""

import functools
import sys
from collections.abc import Callable

import kernel_cases
import torch
from kernel_cases import FORWARD, Case
from protocol import NoGpu
from torch.nn import functional

FRAMEWORK, QUICK, DEVICE = sys.argv[1], sys.argv[2] == "smallest", sys.argv[3]
CASES = kernel_cases.cases(QUICK)
MATRIX_KINDS = ("gemm", "dense", "lstm", "conv")
Tensor = torch.Tensor


# -------------------- a function for each kind: returns functions that compute it in different ways --------------------


def slopes(case: Case, forward: Callable[[], Tensor], dy: Tensor, *inputs: Tensor) -> dict[str, Callable]:
    """The forward computation, or the inputs' gradients after one forward pass."""
    if case.way == FORWARD:
        return {"": lambda: [forward()]}
    for each in inputs:
        each.requires_grad_()
    y = forward()
    return {"": lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)}


def gemm(case: Case, a: Tensor, b: Tensor) -> dict[str, Callable]:
    return {"": lambda: [a @ b]}


def dense(case: Case, x: Tensor, w: Tensor, b: Tensor, dy: Tensor) -> dict[str, Callable]:
    return slopes(case, lambda: torch.relu(torch.addmm(b, x, w)), dy, x, w, b)


def lstm(case: Case, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor, dy: Tensor) -> dict[str, Callable]:
    """cuDNN's layer has a second bias and transposed weights; the results are in nbkeras's order."""
    features, units = x.shape[2], dy.shape[2]
    layer = torch.nn.LSTM(features, units, batch_first=True).to(x.device)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(kernel.T)
        layer.weight_hh_l0.copy_(recurrent.T)
        layer.bias_ih_l0.copy_(bias)
        layer.bias_hh_l0.zero_()
    if case.way == FORWARD:
        layer.eval()
        return {"": torch.no_grad()(lambda: [layer(x)[0]])}
    x.requires_grad_()
    weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0

    def both() -> list[Tensor]:
        dx, kernel, recurrent, bias, _ = torch.autograd.grad(layer(x)[0], (x, *weights), dy)
        return [dx, kernel.T, recurrent.T, bias]

    return {"": both}


def conv(case: Case, x: Tensor, kernel: Tensor, dy: Tensor) -> dict[str, Callable]:
    ways = {}
    for name, layout in (("NHWC", torch.channels_last), ("NCHW", torch.contiguous_format)):
        images, slope = (each.permute(0, 3, 1, 2).contiguous(memory_format=layout) for each in (x, dy))
        weights = kernel.permute(3, 2, 0, 1).contiguous(memory_format=layout)
        wanted = {FORWARD: (), "dx": (images,), "dw": (weights,)}[case.way]
        way = slopes(case, functools.partial(functional.conv2d, images, weights), slope, *wanted)[""]
        order = (2, 3, 1, 0) if case.way == "dw" else (0, 2, 3, 1)
        ways[name] = lambda way=way, order=order: [way()[0].permute(order)]
    return ways


def softmax(case: Case, x: Tensor, dy: Tensor) -> dict[str, Callable]:
    return slopes(case, lambda: torch.softmax(x, 1), dy, x)


def layer_normalization(case: Case, x: Tensor, dy: Tensor, gamma: Tensor, beta: Tensor) -> dict[str, Callable]:
    return slopes(case, lambda: functional.layer_norm(x, x.shape[1:], gamma, beta, 1e-3), dy, x, gamma, beta)


def batch_normalization(case: Case, x: Tensor, dy: Tensor, gamma: Tensor, beta: Tensor) -> dict[str, Callable]:
    """As a matrix, and as channels-last images, because cuDNN has kernels for these."""
    rows, channels = x.shape
    side = 128 if rows % 128**2 == 0 else 1

    def images(matrix: Tensor) -> Tensor:
        return matrix.view(-1, side, side, channels).permute(0, 3, 1, 2)

    ways = {}
    for name, shaped in (("matrix", lambda matrix: matrix), ("images", images)):
        mean, variance = torch.zeros_like(gamma), torch.ones_like(gamma)
        own, slope = shaped(x).detach(), shaped(dy)

        def forward(own: Tensor = own, mean: Tensor = mean, variance: Tensor = variance) -> Tensor:
            return functional.batch_norm(own, mean, variance, gamma, beta, True, 0.01, 1e-3)

        way = slopes(case, forward, slope, own, gamma, beta)[""]
        back = (lambda y: y.permute(0, 2, 3, 1) if y.ndim == 4 else y) if name == "images" else (lambda y: y)
        ways[name] = lambda way=way, back=back: [back(y) for y in way()]
    return ways


def embedding(case: Case, table: Tensor, words: Tensor, dy: Tensor) -> dict[str, Callable]:
    return slopes(case, lambda: functional.embedding(words, table), dy, table)


def adam(case: Case, weights: Tensor, gradient: Tensor) -> dict[str, Callable]:
    weights.grad = gradient
    on_gpu = DEVICE == "cuda"
    optimizer = torch.optim.Adam([weights], lr=0.001, eps=1e-7, fused=on_gpu, capturable=on_gpu)

    def update() -> list[Tensor]:
        optimizer.step()
        return [weights]

    return {"": update}


KINDS: dict[str, Callable] = {
    "gemm": gemm,
    "dense": dense,
    "lstm": lstm,
    "conv": conv,
    "softmax": softmax,
    "layer_normalization": layer_normalization,
    "batch_normalization": batch_normalization,
    "sum_of_all": lambda case, x, dy: {"": lambda: [x.sum()]},
    "sum_of_rows": lambda case, x, dy: {"": lambda: [x.sum(1)]},
    "sum_of_columns": lambda case, x, dy: {"": lambda: [x.sum(0)]},
    "max_of_rows": lambda case, x, dy: {"": lambda: [x.amax(1)]},
    "relu": lambda case, x, dy: slopes(case, lambda: torch.relu(x), dy, x),
    "add": lambda case, x, y: {"": lambda: [x + y]},
    "dropout": lambda case, x, dy: slopes(case, lambda: functional.dropout(x, 0.2), dy, x),
    "embedding": embedding,
    "adam": adam,
}


# -------------------- measuring --------------------


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def captured(way: Callable, times: int) -> Callable[[], None]:
    """A function that runs `way` this many times as one CUDA graph; RuntimeError if it cannot be captured."""
    for _ in range(3):
        way()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(times):
            way()
    return graph.replay


def time_of(way: Callable) -> tuple[float, str]:
    """The seconds of the faster of 'eager' (launched one by one) and 'graph', and its name."""
    eager = kernel_cases.seconds(way, synchronize, 1, QUICK)
    if DEVICE != "cuda":
        return eager, "eager"
    times = kernel_cases.repeats(eager)
    try:
        graph = kernel_cases.seconds(captured(way, times), synchronize, times, QUICK)
    except RuntimeError as error:
        print(f"not captured: {error}", file=sys.stderr)
        return eager, "eager"
    return min((eager, "eager"), (graph, "graph"))


def measure(case: Case) -> dict:
    """The seconds of the fastest way, and marks of its first run's results."""
    if FRAMEWORK == "torch-tf32" and case.kind not in MATRIX_KINDS:
        return {}
    arrays = [torch.from_numpy(array).to(DEVICE) for array in kernel_cases.inputs(case)]
    best: dict = {}
    for name, way in KINDS[case.kind](case, *arrays).items():
        found = kernel_cases.marks([y.detach().cpu().numpy() for y in way()])
        once, how = time_of(way)
        if not best or once < best["seconds"]:
            best = {"seconds": once, "marks": found, "how": f"{how} {name}".strip()}
    return best


def answer(request: str) -> dict:
    try:
        return measure(CASES[int(request)])
    finally:
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    versions = {"torch": torch.__version__}
    if DEVICE == "cuda":
        if not torch.cuda.is_available():
            raise NoGpu(f"PyTorch {torch.__version__} finds no GPU")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = FRAMEWORK == "torch-tf32"
        torch.backends.cudnn.benchmark = True
        versions["cuDNN"] = str(torch.backends.cudnn.version())
        versions["CUDA of torch"] = str(torch.version.cuda)
        # gradients are computed on the stream of the forward pass: the one captured
        torch.cuda.set_stream(torch.cuda.Stream())
    kernel_cases.serve(FRAMEWORK, versions, answer)
