"""The workloads and their data. Imported by every runner, so it needs only NumPy.

Labels are a function of the inputs, so that networks learn: with random labels ReLUs die and the optimizers' state becomes
subnormal, which makes some frameworks six times slower and a comparison worthless. The data are made in float32 without large
temporaries, so that the peak memory of a run is the framework's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Workload:
    """A measurement.

    kind: 'train' (epochs of fit), 'latency' (predict of one batch), 'throughput' (predict of many samples),
    'start' (process start to the end of the first epoch), 'import'. network: a name in NETWORKS and in each runner.
    peers: the frameworks besides nbkeras.
    """

    title: str
    kind: str = "train"
    network: str = ""
    batch: int = 32
    steps: int = 20  # batches per epoch, or calls per round
    peers: tuple[str, ...] = ("keras-jax", "keras-tensorflow", "torch", "jax")


EVERY_KERAS = ("keras-jax", "keras-tensorflow", "keras-torch", "torch", "jax")  # on PyTorch it has slow LSTMs
INFERENCE = ("nbkeras-1", "keras-jax", "keras-tensorflow", "torch", "jax", "onnxruntime", "litert", "openvino")
EAGER_AND_COMPILED = ("torch", "torch-compile", "jax")
TINY = ("resnet8", "ds_cnn", "mobilenet", "autoencoder", "wake_word")  # MLPerf Tiny's networks

WORKLOADS = {
    "mlp": Workload("784-512-512-10, relu, dropout 0.2, RMSprop", network="mlp", batch=128, steps=100),
    "mlp_32": Workload("784-512-512-10, relu, dropout 0.2, RMSprop", network="mlp", batch=32, steps=200),
    "lstm_stack": Workload("LSTM 32/32/32, Dense 10 on (8, 16), RMSprop", network="lstm_stack", batch=64, steps=100),
    "lstm_stateful": Workload("lstm_stack, stateful", network="lstm_stateful", batch=32, steps=100),
    "headline": Workload(
        "Embedding 10000x512 on 100 words, LSTM 32, two inputs, two losses, RMSprop", network="headline"
    ),
    "tweets": Workload("LSTM 64 shared by two inputs (280, 256), RMSprop", network="tweets", steps=6),
    "cnn": Workload("conv 32, conv 64, pool, dense 128 on (28, 28, 1), Adam", network="cnn", batch=128, steps=10),
    "lstm_imdb": Workload("LSTM 128 on (80, 128), Adam", network="lstm_imdb", steps=20),
    "resnet8": Workload("MLPerf Tiny's ResNet8 on (32, 32, 3), Adam", network="resnet8", steps=10, peers=EVERY_KERAS),
    "ds_cnn": Workload(
        "MLPerf Tiny's DS-CNN on (49, 10, 1), Adam", network="ds_cnn", batch=100, steps=10, peers=EVERY_KERAS
    ),
    "mobilenet": Workload(
        "MLPerf Tiny's MobileNetV1 0.25 on (96, 96, 3), Adam", network="mobilenet", steps=5, peers=EVERY_KERAS
    ),
    "autoencoder": Workload(
        "MLPerf Tiny's autoencoder, 640-128-128-128-128-8-128-128-128-128-640, Adam",
        network="autoencoder",
        batch=512,
        peers=EVERY_KERAS,
    ),
    "wake_word": Workload(
        "MLPerf Tiny's streaming wake word network on (30, 1, 40), Adam",
        network="wake_word",
        batch=100,
        peers=EVERY_KERAS,
    ),
    "transformer": Workload(
        "8000 words, length 64, 2 Transformer blocks of width 64 with 4 heads, 4 classes, Adam",
        network="transformer",
        peers=EVERY_KERAS,
    ),
    "unet": Workload(
        "U-Net of 16, 32 and 64 filters on (64, 64, 3), Adam", network="unet", batch=8, steps=10, peers=EVERY_KERAS
    ),
    "wgan_gp": Workload(
        "WGAN-GP, critic and generator of 2 convolutions on (28, 28, 1), a step of each, Adam",
        network="wgan_gp",
        batch=64,
        steps=5,
        peers=EAGER_AND_COMPILED,
    ),
    "burgers": Workload(
        "a network of 2-50-50-50-50-1 that solves Burgers' equation, Adam",
        network="burgers",
        batch=1000,
        peers=EAGER_AND_COMPILED,
    ),
    "maml": Workload(
        "MAML, 25 sinusoids of 10 + 10 points, one inner step, 1-40-40-1, Adam",
        network="maml",
        batch=25,
        steps=100,
        peers=EAGER_AND_COMPILED,
    ),
    "lstm_slopes": Workload(
        "LSTM 64 on (50, 32), its loss has the square of its own slope by inputs, Adam",
        network="lstm_slopes",
        peers=EAGER_AND_COMPILED,
    ),
    "latency_mlp": Workload("predict of one sample, mlp", "latency", "mlp", 1, 300, INFERENCE),
    "latency_lstm_stack": Workload("predict of one sample, lstm_stack", "latency", "lstm_stack", 1, 300, INFERENCE),
    "latency_cnn": Workload("predict of one sample, cnn", "latency", "cnn", 1, 300, INFERENCE),
    **{
        f"latency_{name}": Workload(f"predict of one sample, {name}", "latency", name, 1, 300, INFERENCE)
        for name in TINY
    },
    **{
        f"batch_{name}": Workload(f"predict of 32 samples, {name}", "latency", name, 32, 20, INFERENCE) for name in TINY
    },
    "throughput_mlp": Workload("predict of 10,000 samples, mlp", "throughput", "mlp", 32, 313, INFERENCE),
    "throughput_cnn": Workload("predict of 10,000 samples, cnn", "throughput", "cnn", 32, 313, INFERENCE),
    "start": Workload("process start to the end of the first epoch of mlp", "start", "mlp", 128, 100),
    "import": Workload("import of the package in a new process", "import"),
    "toy": Workload("LSTM 2, Dense 2 on (2, 3), for the simulator", "train", "toy", 2, 2, ()),
}

# Networks that Adam trains, with its rate (ds_cnn: the rate of the reference's first twelve epochs); RMSprop trains the others.
ADAM = {
    "cnn": 0.001,
    "lstm_imdb": 0.001,
    "resnet8": 0.001,
    "ds_cnn": 0.0005,
    "mobilenet": 0.001,
    "autoencoder": 0.001,
    "wake_word": 0.001,
    "transformer": 0.001,
    "unet": 0.001,
    "wgan_gp": 0.0002,
    "burgers": 0.001,
    "maml": 0.001,
    "lstm_slopes": 0.001,
}
# Networks with derivatives in the loss; see derivatives_keras.py, derivatives_torch.py and derivatives_jax.py.
SECOND_ORDER = ("wgan_gp", "burgers", "maml", "lstm_slopes")
LATENT = 64  # of wgan_gp
PENALTY = 10.0  # of wgan_gp and lstm_slopes
VISCOSITY = 0.01 / np.pi  # of burgers
INNER_RATE = 0.01  # of maml
# The loss of these networks has the sum of squares of all convolution kernels times this factor, except of depthwise ones.
L2 = {"resnet8": 1e-4, "ds_cnn": 1e-4, "mobilenet": 1e-4}

# Batch normalization amplifies rounding differences: mobilenet's first gradients in Keras on TensorFlow and on
# PyTorch differ by 2%.
BATCH_NORMALIZED = ("resnet8", "ds_cnn", "mobilenet", "autoencoder", "wake_word")

# The filters of each pointwise convolution of mobilenet, and the strides of the depthwise one before it.
MOBILENET = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]

# The filters of each pointwise convolution of wake_word, and the length of the depthwise one before it.
WAKE_WORD = [(128, 3), (128, 5), (128, 10), (32, 15)]


def _classes(x: Array, centre: float, random: np.random.Generator) -> Array:
    """One-hot classes (n, 10) from a random linear function of x - centre, for x (n, features)."""
    teacher = random.standard_normal((x.shape[1], 10), "float32")
    return np.eye(10, dtype="float32")[(x @ teacher - centre * teacher.sum(axis=0)).argmax(axis=1)]


def _mlp(random, n):
    x = random.random((n, 784), "float32")
    return [x], [_classes(x, 0.5, random)]


def _sequences(random, n):
    x = random.random((n, 8, 16), "float32")
    return [x], [_classes(x.mean(axis=1), 0.5, random)]


def _headline(random, n):
    words = random.integers(1, 10000, (n, 100), "int32")
    more = random.standard_normal((n, 5), "float32")
    mood = (words > 5000).mean(axis=1, keepdims=True) - 0.5
    main = (mood * 10 + more[:, :1] > 0).astype("float32")
    return [words, more], [main, (mood > 0).astype("float32")]


def _tweets(random, n):
    """Pairs of tweets: each author uses either the lower or the upper half of the characters."""
    authors = random.integers(0, 2, (2, n, 1))
    characters = random.integers(0, 128, (2, n, 280)) + 128 * authors
    a, b = np.eye(256, dtype="float32")[characters]
    return [a, b], [(authors[0] == authors[1]).astype("float32")]


def _images(random, n):
    x = random.random((n, 28, 28, 1), "float32")
    return [x], [_classes(x.reshape(n, 784), 0.5, random)]


def _imdb(random, n):
    x = random.standard_normal((n, 80, 128), "float32")
    return [x], [(x.mean(axis=(1, 2)) > 0).astype("float32")[:, None]]


def _patterns(random, n, shape, classes):
    """Rows of noise with the pattern of a class, and the class indices."""
    patterns = random.random((classes, *shape[1:]), "float32")
    x, numbers = random.random((n, *shape), "float32"), random.integers(0, classes, n)
    for number, pattern in enumerate(patterns):
        x[numbers == number] += pattern
    return x, numbers


def _resnet8(random, n):
    x, numbers = _patterns(random, n, (32, 32, 3), 10)
    return [x], [np.eye(10, dtype="float32")[numbers]]


def _ds_cnn(random, n):
    x, numbers = _patterns(random, n, (49, 10, 1), 12)
    return [x], [numbers]


def _mobilenet(random, n):
    x, numbers = _patterns(random, n, (96, 96, 3), 2)
    return [x], [np.eye(2, dtype="float32")[numbers]]


def _autoencoder(random, n):
    """Points of a surface of four dimensions, which are their own targets."""
    x = np.tanh(random.standard_normal((n, 4), "float32") @ random.standard_normal((4, 640), "float32"))
    return [x], [x]


def _wake_word(random, n):
    x, numbers = _patterns(random, n, (30, 1, 40), 3)
    return [x], [np.eye(3, dtype="float32")[numbers]]


def _transformer(random, n):
    """Texts; a word's topic is its number modulo 4, and a text's class is the topic of most of its words."""
    words = random.integers(0, 8000, (n, 64), "int32")
    topics = np.where(random.random((n, 64)) < 0.3, random.integers(0, 4, (n, 1)), words % 4)
    words += (topics - words % 4).astype("int32")
    return [words], [np.eye(4)[topics].sum(axis=1).argmax(axis=1)]


def _unet(random, n):
    """Noise, and the mask of the 4 x 4 squares whose mean is positive."""
    x = random.standard_normal((n, 64, 64, 3), "float32")
    squares = x.reshape(n, 16, 4, 16, 4, 3).mean(axis=(2, 4, 5)) > 0
    return [x], [squares.repeat(4, axis=1).repeat(4, axis=2)[..., None].astype("float32")]


def _wgan_gp(random, n):
    """Images with the pattern of their class; there is no target."""
    return [_patterns(random, n, (28, 28, 1), 10)[0] / 2], []


def _burgers(random, n):
    """Points (x, t) inside and on the edge, and the solution there: at t = 0 a sine, at x = -1 and 1 zero."""
    inside, edge = (random.random((n, 2), "float32") * np.float32([2, 1]) - np.float32([1, 0]) for _ in range(2))
    edge[::2, 1] = 0
    edge[1::2, 0] = np.sign(edge[1::2, 0])
    return [inside, edge], [np.where(edge[:, 1:] == 0, -np.sin(np.pi * edge[:, :1]), 0).astype("float32")]


def _maml(random, n):
    """Tasks: x and y of points of a sinusoid to learn from, and x and y of others."""
    x = random.random((n, 20, 1), "float32") * 10 - 5
    height, phase = 0.1 + 4.9 * random.random((n, 1, 1), "float32"), np.pi * random.random((n, 1, 1), "float32")
    y = (height * np.sin(x + phase)).astype("float32")
    return [x[:, :10].copy(), y[:, :10].copy(), x[:, 10:].copy(), y[:, 10:].copy()], []


def _lstm_slopes(random, n):
    x = random.standard_normal((n, 50, 32), "float32")
    return [x], [(x.mean(axis=(1, 2)) > 0).astype("float32")[:, None]]


def _toy(random, n):
    x = random.standard_normal((n, 2, 3), "float32")
    return [x], [np.eye(2, dtype="float32")[(x.mean(axis=(1, 2)) > 0).astype(int)]]


NETWORKS: dict[str, Callable] = {
    "mlp": _mlp,
    "lstm_stack": _sequences,
    "lstm_stateful": _sequences,
    "headline": _headline,
    "tweets": _tweets,
    "cnn": _images,
    "lstm_imdb": _imdb,
    "resnet8": _resnet8,
    "ds_cnn": _ds_cnn,
    "mobilenet": _mobilenet,
    "autoencoder": _autoencoder,
    "wake_word": _wake_word,
    "transformer": _transformer,
    "unet": _unet,
    "wgan_gp": _wgan_gp,
    "burgers": _burgers,
    "maml": _maml,
    "lstm_slopes": _lstm_slopes,
    "toy": _toy,
}


def data(workload: Workload, steps: int) -> tuple[list[Array], list[Array]]:
    """Inputs and targets for that many batches."""
    count = 10_000 if workload.kind == "throughput" else workload.batch * steps
    return NETWORKS[workload.network](np.random.default_rng(0), count)
