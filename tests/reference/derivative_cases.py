"""Data of the cases of derivatives, for make_derivatives.py and for autodiff/test_references.py: a function for each case.

Each returns arrays by name; `weights` and `direction` are dicts of the same keys and shapes, in Keras's layouts.
"""

import numpy as np
from arrays import normal

PENALTY = 10.0  # of WGAN-GP
INNER_RATE, INNER_STEPS = 0.1, 2  # of MAML
VISCOSITY = 0.01 / np.pi  # of Burgers' equation
SLOPE = 0.2  # of leaky relu for negative inputs


def drawn(seed: int, **shapes: tuple) -> dict:
    """Weights of these shapes, about as large as initializers draw them."""
    return {
        name: normal(*shape, seed=seed + number) / np.sqrt(np.prod(shape[:-1]) if len(shape) > 1 else 4)
        for number, (name, shape) in enumerate(shapes.items())
    }


def dense(seed: int, *sizes: int) -> dict:
    """Kernels and biases of dense layers: `kernel_0`, `bias_0`, `kernel_1`, ..."""
    shapes: dict[str, tuple] = {}
    for number, (inputs, units) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        shapes |= {f"kernel_{number}": (inputs, units), f"bias_{number}": (units,)}
    return drawn(seed, **shapes)


def wgan_gp_dense() -> dict:
    weights = dense(1, 6, 8, 8, 1)
    return {"real": normal(5, 6, seed=1), "fake": normal(5, 6, seed=2), "share": mixture(5, 1), "weights": weights}


def wgan_gp_conv() -> dict:
    """Two convolutions, "same" with strides of 2 and "valid", and a dense layer."""
    weights = drawn(
        11, filter_0=(3, 3, 2, 4), bias_0=(4,), filter_1=(2, 2, 4, 3), bias_1=(3,), kernel_2=(12, 1), bias_2=(1,)
    )
    images = {"real": normal(4, 6, 6, 2, seed=3), "fake": normal(4, 6, 6, 2, seed=4)}
    return images | {"share": mixture(4, 1, 1, 1), "weights": weights}


def mixture(*shape: int) -> np.ndarray:
    """The share of the real sample in each mixed one."""
    return np.random.default_rng(0).uniform(size=shape)


def maml() -> dict:
    """Three tasks, sinusoids, with five samples to adapt to and five to be right about."""
    random = np.random.default_rng(1)
    x = random.uniform(-5, 5, size=(3, 10, 1))
    y = random.uniform(0.1, 5, size=(3, 1, 1)) * np.sin(x - random.uniform(0, np.pi, size=(3, 1, 1)))
    names = {"support_x": x[:, :5], "support_y": y[:, :5], "query_x": x[:, 5:], "query_y": y[:, 5:]}
    return names | {"weights": dense(21, 1, 8, 8, 1)}


def pinn() -> dict:
    """Points inside, and points where t = 0 or x = -1 or 1."""
    random = np.random.default_rng(2)
    x, t = random.uniform(-1, 1, size=(12, 1)), random.uniform(0, 1, size=(12, 1))
    edge_x, edge_t = random.uniform(-1, 1, size=(6, 1)), np.zeros((6, 1))
    edge_x[3:], edge_t[3:] = np.sign(edge_x[3:]), random.uniform(0, 1, size=(3, 1))
    edge_u = np.where(edge_t == 0, -np.sin(np.pi * edge_x), 0)
    return {"x": x, "t": t, "edge_x": edge_x, "edge_t": edge_t, "edge_u": edge_u, "weights": dense(31, 2, 8, 8, 1)}


def hessian() -> dict:
    return {"x": normal(5, 3, seed=5), "labels": np.array([0, 1, 1, 0, 2]), "weights": dense(41, 3, 4, 3)}


def sequences(seed: int, gates: int, bias: tuple) -> dict:
    """Sequences of 5 steps, and a mask with a sample that starts masked and one that ends so."""
    shapes = {"kernel": (2, gates * 4), "recurrent_kernel": (4, gates * 4), "bias": bias}
    mask = np.array([[True] * 5, [False, False, True, True, True], [True, True, False, True, False]])
    arrays = {"x": normal(3, 5, 2, seed=seed), "y": normal(3, 5, 4, seed=seed), "mask": mask}
    return arrays | {"weights": drawn(seed, **shapes), "direction": drawn(seed + 5, **shapes)}


def lstm() -> dict:
    return sequences(51, 4, (16,))


def gru() -> dict:
    """`reset_after=True`, with two biases."""
    return sequences(61, 3, (2, 12))


def gru_before() -> dict:
    """`reset_after=False`."""
    return sequences(71, 3, (12,))


def attention() -> dict:
    """A Transformer block: attention of two heads with a causal mask, layer normalization, gelu."""
    shapes: dict[str, tuple] = {f"{name}_kernel": (4, 4) for name in ("query", "key", "value", "output")}
    shapes |= {"scale": (4,), "offset": (4,), "wide": (4, 6), "narrow": (6, 4)}
    arrays = {"x": normal(2, 5, 4, seed=6), "y": normal(2, 5, 4, seed=7)}
    return arrays | {"weights": drawn(81, **shapes), "direction": drawn(91, **shapes)}


def per_sample() -> dict:
    return {"x": normal(6, 5, seed=8), "labels": np.array([0, 2, 1, 1, 0, 2]), "weights": dense(101, 5, 4, 3)}


def convnet() -> dict:
    """A convolution "same", max pooling, a convolution "valid", mean of each channel, a dense layer."""
    weights = drawn(
        111, filter_0=(3, 3, 1, 3), bias_0=(3,), filter_1=(2, 2, 3, 2), bias_1=(2,), kernel_2=(2, 3), bias_2=(3,)
    )
    return {"x": normal(2, 6, 6, 1, seed=9), "weights": weights}


def error(expected: np.ndarray, found: np.ndarray) -> float:
    """The greatest difference beside the greatest expected number; where all of them are 0, the greatest difference."""
    if expected.shape != found.shape:
        raise ValueError(f"expected the shape {expected.shape}, received {found.shape}")
    greatest = np.abs(expected).max()
    return float(np.abs(expected - found).max() / (greatest if greatest > 1e-12 else 1))


FUNCTIONS = (wgan_gp_dense, wgan_gp_conv, maml, pinn, hessian, lstm, gru, gru_before, attention, per_sample, convnet)
CASES = {function.__name__: function for function in FUNCTIONS}
