"""PyTorch as its users write it: modules, a plain loop over shuffled batches, optimizers with defaults.

Images have the channels first. Strided convolutions pad both sides equally; Keras's "same" pads one more at the end. The L2
penalty of kernels is the optimizer's weight_decay, so it is in the gradients but not in the loss.

On a GPU 'torch' computes in full float32, 'torch-tf32' with the matrix units, and 'torch-compile' is 'torch' with torch.compile,
in CUDA graphs except for LSTMs, which break them. cuDNN tries its algorithms. Steps of networks with derivatives in the loss are
in derivatives_torch.py.
"""

import time

import derivatives_torch
import torch
from protocol import Job, NoGpu, batches, serve
from torch import nn
from torch.nn import functional
from workloads import ADAM, L2, MOBILENET, SECOND_ORDER, WAKE_WORD


class Stack(nn.Module):
    """LSTM 32/32/32 and Dense 10; `stateful` keeps the states from batch to batch."""

    def __init__(self, stateful=False):
        super().__init__()
        self.lstm = nn.LSTM(16, 32, num_layers=3, batch_first=True)
        self.out = nn.Linear(32, 10)
        self.stateful, self.state = stateful, None

    def forward(self, x):
        sequence, state = self.lstm(x, self.state)
        if self.stateful:
            self.state = tuple(part.detach() for part in state)
        return self.out(sequence[:, -1])


class Headline(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10000, 512)
        self.lstm = nn.LSTM(512, 32, batch_first=True)
        self.aux = nn.Linear(32, 1)
        hidden = [nn.Linear(37, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
        self.main = nn.Sequential(*hidden, nn.Linear(64, 1))

    def forward(self, words, more):
        encoded = self.lstm(self.embedding(words))[0][:, -1]
        return self.main(torch.cat([encoded, more], dim=1)), self.aux(encoded)


class Tweets(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(256, 64, batch_first=True)
        self.out = nn.Linear(128, 1)

    def forward(self, a, b):
        return self.out(torch.cat([self.lstm(a)[0][:, -1], self.lstm(b)[0][:, -1]], dim=1))


class Imdb(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        self.out = nn.Linear(128, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def normalized(layer, relu=True):
    """The layer, batch normalization with Keras's settings, and relu."""
    norm = nn.BatchNorm2d(layer.out_channels, eps=1e-3, momentum=0.01)
    return nn.Sequential(layer, norm, nn.ReLU()) if relu else nn.Sequential(layer, norm)


class Residual(nn.Module):
    def __init__(self, channels, filters, strides):
        super().__init__()
        first = normalized(nn.Conv2d(channels, filters, 3, strides, padding=1))
        self.block = nn.Sequential(first, normalized(nn.Conv2d(filters, filters, 3, padding=1), relu=False))
        self.identity = nn.Conv2d(channels, filters, 1, strides) if strides > 1 else nn.Identity()

    def forward(self, x):
        return functional.relu(self.block(x) + self.identity(x))


def resnet8():
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    stem = normalized(nn.Conv2d(3, 16, 3, padding=1))
    return nn.Sequential(stem, *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def depthwise_pair(channels, filters, strides=1):
    """A depthwise and a pointwise convolution."""
    depthwise = nn.Conv2d(channels, channels, 3, strides, padding=1, groups=channels)
    return nn.Sequential(normalized(depthwise), normalized(nn.Conv2d(channels, filters, 1)))


def ds_cnn():
    stem = [normalized(nn.Conv2d(1, 64, (10, 4), 2, padding=(5, 1))), nn.Dropout(0.2)]
    pairs = [depthwise_pair(64, 64) for _ in range(4)]
    return nn.Sequential(*stem, *pairs, nn.Dropout(0.4), nn.AvgPool2d((24, 5)), nn.Flatten(), nn.Linear(64, 12))


def mobilenet():
    layers, channels = [normalized(nn.Conv2d(3, 8, 3, 2, padding=1))], 8
    for filters, strides in MOBILENET:
        layers.append(depthwise_pair(channels, filters, strides))
        channels = filters
    return nn.Sequential(*layers, nn.AvgPool2d(3), nn.Flatten(), nn.Linear(channels, 2))


def autoencoder():
    layers, before = [], 640
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        layers += [nn.Linear(before, units), nn.BatchNorm1d(units, eps=1e-3, momentum=0.01), nn.ReLU()]
        before = units
    return nn.Sequential(*layers, nn.Linear(before, 640))


def wake_word():
    layers, channels = [], 40
    for filters, size in WAKE_WORD:
        layers.append(nn.Conv2d(channels, channels, (size, 1), groups=channels, bias=False))
        layers += [normalized(nn.Conv2d(channels, filters, 1, bias=False)), nn.Dropout(0.2)]
        channels = filters
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 3))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(8000, 64), nn.Embedding(64, 64)
        block = nn.TransformerEncoderLayer(64, 4, dim_feedforward=256, dropout=0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2)
        self.out = nn.Linear(64, 4)

    def forward(self, x):
        x = self.words(x) + self.positions.weight
        return self.out(self.blocks(x).mean(dim=1))


def two_convolutions(channels, filters):
    first, second = nn.Conv2d(channels, filters, 3, padding=1), nn.Conv2d(filters, filters, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([two_convolutions(3, 16), two_convolutions(16, 32), two_convolutions(32, 64)])
        self.larger = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
        self.up = nn.ModuleList([two_convolutions(64, 32), two_convolutions(32, 16)])
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        x = self.down[2](functional.max_pool2d(second, 2))
        for larger, block, skipped in zip(self.larger, self.up, (second, first), strict=True):
            x = block(torch.cat([skipped, larger(x)], dim=1))
        return self.out(x)


def mlp():
    layers = [nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def cnn():
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


NETWORKS = {
    "mlp": mlp,
    "lstm_stack": Stack,
    "lstm_stateful": lambda: Stack(stateful=True),
    "headline": Headline,
    "tweets": Tweets,
    "cnn": cnn,
    "lstm_imdb": Imdb,
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet": mobilenet,
    "autoencoder": autoencoder,
    "wake_word": wake_word,
    "transformer": Transformer,
    "unet": UNet,
}


def optimizer_of(network, model):
    """The optimizer with Keras's settings."""
    if network not in ADAM:
        return torch.optim.RMSprop(model.parameters(), lr=0.001, alpha=0.9, eps=1e-7)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups == 1]
    kernels = [module.weight for module in convolutions] if network in L2 else []
    others = [p for p in model.parameters() if not any(p is kernel for kernel in kernels)]
    # the gradient of w * w is 2 * w
    groups = [{"params": others}, {"params": kernels, "weight_decay": 2 * L2.get(network, 0.0)}]
    return torch.optim.Adam([group for group in groups if group["params"]], lr=ADAM[network])


def channels_first(array):
    """Images (n, height, width, channels) in PyTorch's layout; other arrays unchanged."""
    return array.transpose(0, 3, 1, 2).copy() if array.ndim == 4 else array


BINARY = ("tweets", "lstm_imdb", "unet")  # networks with one output of probabilities


def loss_of(network, outputs, targets):
    if network == "headline":
        each = [functional.binary_cross_entropy_with_logits(o, t) for o, t in zip(outputs, targets, strict=True)]
        return each[0] + 0.2 * each[1]
    if network == "autoencoder":
        return functional.mse_loss(outputs, targets[0])
    if network in BINARY:
        return functional.binary_cross_entropy_with_logits(outputs, targets[0])
    return functional.cross_entropy(outputs, targets[0])


def correct(network, outputs, target):
    if network in BINARY:
        return ((outputs > 0) == (target > 0.5)).sum()
    return (outputs.argmax(1) == target).sum()


def target(network, y):
    """Class indices (n,) for one-hot classes; other targets in the layout of the network's outputs."""
    if y.ndim == 4:
        return channels_first(y)
    if y.ndim == 1:
        return y.astype("int64")
    return y.argmax(axis=1) if y.shape[1] > 1 and network != "autoencoder" else y


class Feed:
    """Batches on the device. For a GPU two pinned buffers alternate: one is filled while the other is copied."""

    def __init__(self, arrays, batch, device):
        self.arrays, self.slots = [torch.from_numpy(array) for array in arrays], []
        if device == "cuda":
            for _ in range(2):
                pinned = [torch.empty((batch, *a.shape[1:]), dtype=a.dtype, pin_memory=True) for a in self.arrays]
                self.slots.append((pinned, torch.cuda.Event()))

    def __call__(self, rows):
        if not self.slots:
            return [array[rows] for array in self.arrays]
        pinned, copied = self.slots[0]
        self.slots.reverse()
        copied.synchronize()
        moved = []
        for array, buffer in zip(self.arrays, pinned, strict=True):
            moved.append(torch.index_select(array, 0, rows, out=buffer).to("cuda", non_blocking=True))
        copied.record()
        return moved


def on_gpu(framework):
    """Make PyTorch compute on the GPU, in float32 or TF32; return a function that gives its allocator's GPU memory."""
    if not torch.cuda.is_available():
        raise NoGpu(f"PyTorch {torch.__version__} finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = framework == "torch-tf32"
    torch.backends.cudnn.benchmark = True
    return torch.cuda.max_memory_reserved


def usual_step(network, model, optimizer):
    """A function that updates the weights for a batch, and returns its loss and the number of right predictions."""

    def step(x, y):
        outputs = model(*x)
        loss = loss_of(network, outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = 0 if network in ("headline", "autoencoder") else correct(network, outputs.detach(), y[0])
        return loss.detach(), right

    return step


def prepare(framework, workload, xs, ys, device) -> Job:
    network = workload.network
    gpu_bytes = on_gpu(framework) if device == "cuda" else None
    compiled = framework == "torch-compile"
    xs = [channels_first(x) for x in xs]
    if network in SECOND_ORDER:
        derived = derivatives_torch.STEPS[network](lambda part: optimizer_of(network, part), device, compiled)
        model, targets = derived.model, ys
        step = lambda x, y: (derived(*x, *y).detach(), 0)  # noqa: E731
    else:
        model, targets = NETWORKS[network]().to(device).eval(), [target(network, y) for y in ys]
        optimizer = optimizer_of(network, model)
        recurrent = any(isinstance(module, nn.LSTM) for module in model.modules())
        if compiled:
            model = torch.compile(model, mode="default" if recurrent else "reduce-overhead")
        step = usual_step(network, model, optimizer)
    feed = Feed([*xs, *targets], workload.batch, device)

    def epoch():
        total, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        for rows in batches(len(xs[0]), workload.batch, shuffle=network != "lstm_stateful"):
            arrays = feed(torch.from_numpy(rows))
            loss, found = step(arrays[: len(xs)], arrays[len(xs) :])
            total += loss * len(rows)
            right += found
        return total.item() / len(xs[0])

    def epochs(count):
        model.train()
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            loss = epoch()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        model.eval()
        return seconds, loss

    @torch.inference_mode()
    def predict(arrays):
        pieces = torch.from_numpy(channels_first(arrays[0])).split(workload.batch)
        outputs = torch.cat([model(piece.to(device)) for piece in pieces])
        return (outputs if network == "autoencoder" else functional.softmax(outputs, dim=1)).cpu().numpy()

    # torch's LSTM has a second bias, added to the first, which Keras does not have
    parameters = sum(p.numel() for name, p in model.named_parameters() if "bias_hh" not in name)
    parameters += sum(b.numel() for b in model.buffers() if b.is_floating_point())  # moving means and variances
    return Job(parameters, {"torch": torch.__version__}, epochs, predict, gpu_bytes)


serve(prepare)
