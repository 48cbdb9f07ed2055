"""Random functional models as programs with a line for each tensor, which can be printed and made smaller.

`program(seed, wanted)` draws a model that has the layers and ops of the recipes `wanted`. Sizes are small.
"""

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nbkeras import Input, Model, Sequential, ops, utils
from nbkeras import layers as L

BATCH = 3


class Draw:
    """Random choices."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def whole(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def pick(self, *values):
        return values[self.rng.integers(len(values))]

    def flag(self, chance=0.5):
        return bool(self.rng.random() < chance)

    def number(self):
        return round(float(self.rng.uniform(-1.5, 1.5)), 2)

    def activation(self):
        names = "relu tanh sigmoid gelu elu selu softmax softplus softsign silu mish hard_sigmoid leaky_relu relu6 exponential"
        return self.pick(None, None, *names.split())


class Known(NamedTuple):
    """A tensor of a program: its size in this run, the axes of unknown size, and a mark that tensors of the same shape share."""

    name: str
    shape: tuple
    opened: tuple
    kind: str  # f, i or b
    form: int
    masked: bool

    @property
    def rank(self):
        return len(self.shape)

    def known(self, *axes):
        return not any(self.opened[axis] for axis in axes)

    @property
    def all_known(self):
        return not any(self.opened[1:])


class Line(NamedTuple):
    name: str
    code: str
    uses: tuple


@dataclass
class Program:
    """A model as code. inputs: (name, shape with None, dtype, sizes of the run)."""

    seed: list
    inputs: list
    lines: list = field(default_factory=list)

    def text(self):
        """The code that builds the model."""
        made = [
            f"{name} = Input(batch_shape={shape}, dtype={dtype!r}, name={name!r})"
            for name, shape, dtype, _ in self.inputs
        ]
        made += [f"{line.name} = {line.code}" for line in self.lines]
        names = ", ".join(name for name, *_ in self.used_inputs())
        return "\n".join([*made, f"model = Model([{names}], [{', '.join(self.outputs())}])  # seed {self.seed}"])

    def used_inputs(self):
        used = {name for line in self.lines for name in line.uses}
        return [each for each in self.inputs if each[0] in used]

    def outputs(self):
        used = {name for line in self.lines for name in line.uses}
        return [line.name for line in self.lines if line.name not in used]

    def without(self, name):
        """The program without a line and all that uses it."""
        gone, lines = {name}, []
        for line in self.lines:
            if line.name in gone or gone.intersection(line.uses):
                gone.add(line.name)
            else:
                lines.append(line)
        return Program(self.seed, self.inputs, lines)

    def tensors(self):
        """The symbolic tensors by name."""
        space = dict(NAMES)
        for name, shape, dtype, _ in self.inputs:
            space[name] = Input(batch_shape=shape, dtype=dtype, name=name)
        for line in self.lines:
            space[line.name] = eval(line.code, space)
        return space

    def model(self):
        """The model, with weights that are neither zeros nor ones."""
        utils.set_random_seed(self.seed[0])
        space = self.tensors()
        model = Model([space[name] for name, *_ in self.used_inputs()], [space[name] for name in self.outputs()])
        rng = np.random.default_rng(self.seed)
        for weight in model.weights:
            if weight.dtype.kind == "f":
                weight.assign(weight.numpy() + rng.uniform(0.05, 0.2, weight.shape))
        return model

    def arrays(self, batch, seed):
        """Values of the inputs."""
        rng = np.random.default_rng(seed)
        return [values(rng, (batch, *sizes[1:]), dtype) for _, _, dtype, sizes in self.used_inputs()]


def values(rng, shape, dtype):
    if dtype == "float32":
        return rng.normal(size=shape).astype(dtype)
    tokens = rng.integers(1, 7, shape)
    if len(shape) > 1 and shape[1] > 1:  # zeros at the ends and in between, which are masked
        tokens[:, -1], tokens[-1, 0] = 0, 0
    return tokens.astype(dtype)


def nested(make, shape, dtype="float32"):
    """A model in the model."""
    inputs = Input(shape, dtype=dtype)
    return Model(inputs, make(inputs))


NAMES = {"L": L, "ops": ops, "Sequential": Sequential, "Input": Input, "nested": nested, "np": np}
RECIPES = {}  # name -> (ranks, kinds, recipe(draw, x, other) -> code, or None if it does not apply to x)


def recipe(name, ranks, kinds="f"):
    """Register a function that draws code. `other(...)` finds a second tensor of the same shape, or returns x's name."""

    def register(function):
        RECIPES[name] = ([ranks] if isinstance(ranks, int) else list(ranks), kinds, function)
        return function

    return register


def simple(name, ranks, arguments="", kinds="f"):
    """A layer whose arguments a function of the draw and x writes, or that has none."""
    write = arguments if callable(arguments) else lambda d, x: arguments

    @recipe(name, ranks, kinds)
    def code(d, x, other):
        given = write(d, x)
        return None if given is None else f"L.{name}({given})({x.name})"


def said(**options):
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


ANY = range(2, 6)

# -------------------- layers of any rank --------------------


def needs_last(write):
    return lambda d, x: write(d, x) if x.known(-1) else None


simple("Dense", ANY, needs_last(lambda d, x: f"{d.whole(1, 5)}, " + said(activation=d.activation(), use_bias=d.flag())))
simple("Activation", ANY, lambda d, x: repr(d.activation() or "tanh"))
simple(
    "ReLU",
    ANY,
    lambda d, x: said(max_value=d.pick(None, 1.0), negative_slope=d.pick(0.0, 0.2), threshold=d.pick(0.0, 0.5)),
)
simple("LeakyReLU", ANY, "0.2")
simple("ELU", ANY, "0.5")
simple("PReLU", ANY, lambda d, x: f"shared_axes={[a for a in range(1, x.rank) if x.opened[a] or d.flag(0.3)]}")
simple("ThresholdedReLU", ANY, "0.5")
simple("Softmax", ANY, lambda d, x: f"axis={d.pick(-1, 1, (1, x.rank - 1) if x.rank > 2 else -1)}")
simple("Identity", ANY)
simple("Dropout", ANY, "0.5")
simple("AlphaDropout", ANY, "0.5")
simple("GaussianNoise", ANY, "0.5")
simple("GaussianDropout", ANY, "0.5")
simple("ActivityRegularization", ANY, "l2=0.1")
simple("SpatialDropout1D", 3, "0.5")
simple("SpatialDropout2D", 4, "0.5")
simple("SpatialDropout3D", 5, "0.5")
simple("Rescaling", ANY, lambda d, x: f"{d.number()}, offset={d.number()}", "fi")


def some_axis(d, x, several=False):
    """A known axis besides the batch, or a few; None if there is none."""
    axes = [axis for axis in range(1, x.rank) if x.known(axis)]
    if not axes:
        return None
    if several and len(axes) > 1 and d.flag():
        return sorted({d.pick(*axes), d.pick(*axes)})
    return d.pick(*axes, -1) if axes[-1] == x.rank - 1 else d.pick(*axes)


def by_axis(write, several=False):
    def arguments(d, x):
        axis = some_axis(d, x, several)
        return None if axis is None else write(d, x, axis)

    return arguments


simple("BatchNormalization", ANY, by_axis(lambda d, x, axis: said(axis=axis, center=d.flag(), scale=d.flag())))
simple("LayerNormalization", ANY, by_axis(lambda d, x, axis: said(axis=axis, center=d.flag(), scale=d.flag()), True))
simple("RMSNormalization", ANY, by_axis(lambda d, x, axis: said(axis=axis), True))
simple("UnitNormalization", ANY, by_axis(lambda d, x, axis: said(axis=axis), True))
simple(
    "GroupNormalization",
    ANY,
    by_axis(
        lambda d, x, axis: said(
            groups=d.pick(*[g for g in range(1, x.shape[axis] + 1) if x.shape[axis] % g == 0], -1),
            axis=axis,
            center=d.flag(),
            scale=d.flag(),
        )
    ),
)
simple(
    "Normalization",
    ANY,
    needs_last(
        lambda d, x: said(
            mean=[d.number() for _ in range(x.shape[-1])],
            variance=[0.5 + abs(d.number()) for _ in range(x.shape[-1])],
            invert=d.flag(),
        )
    ),
)
simple(
    "Discretization",
    ANY,
    lambda d, x: "[-1.0, 0.0, 0.7]" + (", output_mode='one_hot'" if x.all_known and d.flag() else ""),
)
simple(
    "Flatten",
    range(2, 7),
    lambda d, x: said(data_format=d.pick("channels_last", "channels_first")) if x.all_known else None,
)


@recipe("Reshape", ANY)
def _(d, x, other):
    if not x.all_known:
        return None
    count = math.prod(x.shape[1:])
    first = d.pick(*[n for n in range(1, count + 1) if count % n == 0])
    return f"L.Reshape({d.pick((first, -1), (-1, first), (count,), (first, count // first, 1))})({x.name})"


@recipe("Permute", ANY)
def _(d, x, other):
    return f"L.Permute({tuple(int(a) for a in d.rng.permutation(range(1, x.rank)))})({x.name})"


simple("RepeatVector", 2, lambda d, x: f"{d.whole(1, 4)}")
simple("Masking", 3, "0.0")


@recipe("EinsumDense", [2, 3, 4])
def _(d, x, other):
    if not x.all_known:
        return None
    k, n = d.whole(1, 3), d.whole(1, 3)
    sizes = x.shape[1:3]
    equation, shape, bias = d.pick(
        *{
            2: [("ab,bc->ac", (k,), "c"), ("ab,bcd->acd", (k, n), "cd")],
            3: [
                ("abc,cd->abd", (None, k), "d"),
                ("abc,cde->abde", (None, k, n), "de"),
                ("abc,dce->abde", (None, k, n), "e"),
                ("abc,bcd->abd", (sizes[0], k), "bd"),
                ("...bc,cd->...bd", (sizes[0], k), "d"),
            ],
            4: [("abcd,cde->abe", (None, k), "e"), ("abcd,bde->abce", (*sizes, k), "e")],
        }[x.rank]
    )
    return f"L.EinsumDense({equation!r}, {shape}, {said(bias_axes=d.pick(None, bias), activation=d.activation())})({x.name})"


@recipe("Lambda", ANY)
def _(d, x, other):
    return f"L.Lambda(lambda t: ops.tanh(t) * {d.number()} + t)({x.name})"


@recipe("SpectralNormalization", [2, 3])
def _(d, x, other):
    if not x.known(-1):
        return None
    inner = "L.Conv1D(3, 2, padding='same')" if x.rank == 3 and d.flag() else "L.Dense(3)"
    return f"L.SpectralNormalization({inner})({x.name})"


@recipe("Sequential", [2, 3, 4])
def _(d, x, other):
    if not x.known(-1):
        return None
    shape = tuple(None if opened else size for size, opened in zip(x.shape[1:], x.opened[1:], strict=True))
    inner = f"L.Dense({d.whole(1, 4)}), L.Activation({d.activation() or 'tanh'!r}), L.LayerNormalization()"
    return f"Sequential([Input({shape}), {inner}])({x.name})"


@recipe("Model", [2, 3, 4])
def _(d, x, other):
    if not x.known(-1):
        return None
    shape = tuple(None if opened else size for size, opened in zip(x.shape[1:], x.opened[1:], strict=True))
    return f"nested(lambda t: L.Add()([L.Dense({x.shape[-1]})(t), t * {d.number()}]), {shape})({x.name})"


# -------------------- merging --------------------

for each in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):

    @recipe(each, ANY)
    def _(d, x, other, each=each):
        more = f", {other()}" if each not in ("Subtract",) and d.flag(0.3) else ""
        return f"L.{each}()([{x.name}, {other()}{more}])"


@recipe("Concatenate", ANY, "fi")
def _(d, x, other):
    return f"L.Concatenate(axis={d.pick(-1, *range(1, x.rank))})([{x.name}, {other()}])"


@recipe("Dot", [2, 3])
def _(d, x, other):
    axes = 1 if x.rank == 2 else d.pick(1, 2, (1, 1), (2, 2))
    return f"L.Dot(axes={axes}, normalize={d.flag()})([{x.name}, {other()}])"


# -------------------- windows --------------------


def places(d, x, rank):
    """(data format, sizes, whether they are known, channels), or None if the number of channels is unknown."""
    form = d.pick("channels_last", "channels_last", "channels_first")
    if form == "channels_last":
        return (form, x.shape[1:-1], x.opened[1:-1], x.shape[-1]) if x.known(-1) else None
    return (form, x.shape[2:], x.opened[2:], x.shape[1]) if x.known(1) else None


def window(d, sizes, paddings=("valid", "same"), dilated=True):
    size = [d.whole(1, min(3, n)) for n in sizes]
    padding, strides, dilation = d.pick(*paddings), [1] * len(sizes), [1] * len(sizes)
    if dilated and d.flag():
        dilation = [d.whole(1, 3) for _ in sizes]
        if padding == "valid":
            dilation = [1 if (k - 1) * step + 1 > n else step for k, step, n in zip(size, dilation, sizes, strict=True)]
    elif d.flag():
        strides = [d.whole(1, 3) for _ in sizes]
    return {
        "kernel_size": tuple(size),
        "strides": tuple(strides),
        "padding": padding,
        **({"dilation_rate": tuple(dilation)} if dilated else {}),
    }


def convolution(name, rank, depthwise=False, separable=False, transposed=False):
    @recipe(name, rank + 2)
    def code(d, x, other):
        found = places(d, x, rank)
        if found is None:
            return None
        form, sizes, _, channels = found
        paddings = ("valid", "same", "causal") if rank == 1 and not transposed and not depthwise else ("valid", "same")
        if name == "Conv1D" or name == "SeparableConv1D":
            form = "channels_last" if paddings[-1] == "causal" and form == "channels_first" else form
            if not x.known(-1):
                return None
            sizes, channels = (x.shape[1:-1], x.shape[-1])
        options = window(d, sizes, paddings)
        options |= {"data_format": form, "activation": d.activation(), "use_bias": d.flag()}
        filters = d.whole(1, 4)
        if not depthwise and not separable and not transposed:
            groups = d.pick(*[g for g in (1, 1, 2, channels) if channels % g == 0])
            filters, options["groups"] = groups * d.whole(1, 2), groups
        if transposed and max(options["strides"]) > 1 and d.flag():
            options["output_padding"] = tuple(d.whole(0, s - 1) for s in options["strides"])
        if depthwise or separable:
            options["depth_multiplier"] = d.whole(1, 2)
            if max(options["strides"]) > 1 and rank == 2:  # Keras takes equal strides only
                options["strides"] = (max(options["strides"]),) * rank
        first = "" if depthwise else f"{filters}, "
        return f"L.{name}({first}{said(**options)})({x.name})"


for number in (1, 2, 3):
    convolution(f"Conv{number}D", number)
    convolution(f"Conv{number}DTranspose", number, transposed=True)
for number in (1, 2):
    convolution(f"DepthwiseConv{number}D", number, depthwise=True)
    convolution(f"SeparableConv{number}D", number, separable=True)


def pooling(name, rank):
    @recipe(name, rank + 2)
    def code(d, x, other):
        found = places(d, x, rank)
        if found is None:
            return None
        options = window(d, found[1], dilated=False)
        options["pool_size"] = options.pop("kernel_size")
        if d.flag(0.3):
            options["strides"] = None
        return f"L.{name}({said(**options, data_format=found[0])})({x.name})"


def of_places(name, rank, write, known=False):
    @recipe(name, rank + 2)
    def code(d, x, other):
        found = places(d, x, rank)
        if found is None or known and any(found[2]):
            return None
        given = write(d, found[1])
        return None if given is None else f"L.{name}({given}{', ' * bool(given)}data_format={found[0]!r})({x.name})"


def around(d, sizes, maximum):
    pairs = tuple((d.whole(0, min(maximum, (n - 1) // 2)), d.whole(0, min(maximum, (n - 1) // 2))) for n in sizes)
    return repr(pairs[0] if len(sizes) == 1 else pairs)


for number in (1, 2, 3):
    for kind in ("Max", "Average"):
        pooling(f"{kind}Pooling{number}D", number)
        of_places(f"Global{kind}Pooling{number}D", number, lambda d, sizes: f"keepdims={d.flag()}")
        of_places(
            f"Adaptive{kind}Pooling{number}D",
            number,
            lambda d, sizes: f"{tuple(d.whole(1, 4) for _ in sizes)}",
            known=True,
        )
    of_places(f"ZeroPadding{number}D", number, lambda d, sizes: around(d, sizes, 2))
    of_places(f"Cropping{number}D", number, lambda d, sizes: around(d, sizes, 2))
of_places(
    "UpSampling2D",
    2,
    lambda d, sizes: f"{(d.whole(1, 3), d.whole(1, 3))}, interpolation={d.pick('nearest', 'bilinear')!r}",
)
of_places("UpSampling3D", 3, lambda d, sizes: f"{tuple(d.whole(1, 2) for _ in sizes)}")
simple("UpSampling1D", 3, lambda d, x: f"{d.whole(1, 3)}")


@recipe("LocallyConnected1D", 3)
def _(d, x, other):
    return (
        f"L.LocallyConnected1D(2, {d.whole(1, min(3, x.shape[1]))}, activation={d.activation()!r})({x.name})"
        if x.all_known
        else None
    )


@recipe("LocallyConnected2D", 4)
def _(d, x, other):
    size = tuple(d.whole(1, min(3, n)) for n in x.shape[1:3])
    return f"L.LocallyConnected2D(2, {size}, strides={d.whole(1, 2)})({x.name})" if x.all_known else None


# -------------------- sequences --------------------


def recurrent(d, name, **more):
    options = {"go_backwards": d.flag(0.3), **more}
    if name != "RNN":
        options |= {"activation": d.pick("tanh", "relu", "sigmoid"), "use_bias": d.flag(0.8)}
        if name in ("LSTM", "GRU"):
            options["recurrent_activation"] = d.pick("sigmoid", "hard_sigmoid")
        if name == "GRU":
            options["reset_after"] = d.flag()
    return f"L.{name}({d.whole(1, 4)}, {said(**options)})"


for each in ("LSTM", "GRU", "SimpleRNN"):

    @recipe(each, 3)
    def _(d, x, other, each=each):
        if not x.known(-1):
            return None
        sequences = d.flag()
        more = {"zero_output_for_mask": d.flag()} if sequences and x.masked else {}
        state = d.flag(0.2)
        layer = recurrent(d, each, return_sequences=sequences, return_state=state, **more)
        return f"{layer}({x.name})" + (f"[{d.whole(0, 1)}]" if state else "")


@recipe("RNN", 3)
def _(d, x, other):
    if not x.known(-1, 1):
        return None
    cells = [f"L.{d.pick('LSTM', 'GRU', 'SimpleRNN')}Cell({d.whole(1, 3)})" for _ in range(d.whole(1, 2))]
    text = cells[0] if len(cells) == 1 else f"[{', '.join(cells)}]"
    return f"L.RNN({text}, {said(return_sequences=d.flag(), go_backwards=d.flag(0.3))})({x.name})"


@recipe("Bidirectional", 3)
def _(d, x, other):
    if not x.known(-1):
        return None
    layer = recurrent(d, d.pick("LSTM", "GRU", "SimpleRNN"), return_sequences=d.flag())
    return f"L.Bidirectional({layer}, merge_mode={d.pick('concat', 'sum', 'mul', 'ave')!r})({x.name})"


@recipe("TimeDistributed", [3, 4, 5])
def _(d, x, other):
    if not x.known(-1):
        return None
    inner = {
        3: ["L.Dense(3, activation='relu')", "L.LayerNormalization()"],
        4: ["L.Dense(2)", "L.Conv1D(2, 2, padding='same')", "L.LSTM(2)", "L.GlobalMaxPooling1D()"],
        5: ["L.Conv2D(2, 2, padding='same')", "L.GlobalAveragePooling2D()", "L.MaxPooling2D(2, padding='same')"],
    }
    return f"L.TimeDistributed({d.pick(*inner[x.rank])})({x.name})"


@recipe("Attention", 3)
def _(d, x, other):
    if not x.known(-1):
        return None
    mode = d.pick("dot", "concat")
    y = other()
    inputs = d.pick(f"[{x.name}, {y}]", f"[{x.name}, {y}, {y}]")
    return f"L.Attention(use_scale={d.flag()}, score_mode={mode!r})({inputs}, use_causal_mask={d.flag()})"


@recipe("AdditiveAttention", 3)
def _(d, x, other):
    return (
        f"L.AdditiveAttention(use_scale={d.flag()})([{x.name}, {other()}], use_causal_mask={d.flag()})"
        if x.known(-1)
        else None
    )


@recipe("MultiHeadAttention", 3)
def _(d, x, other):
    if not x.known(-1):
        return None
    options = said(use_bias=d.flag(), value_dim=d.pick(None, 2))
    return f"L.MultiHeadAttention({d.whole(1, 3)}, 2, {options})({x.name}, {other()}, use_causal_mask={d.flag()})"


@recipe("GroupQueryAttention", 3)
def _(d, x, other):
    heads = d.pick(1, 2)
    code = f"L.GroupQueryAttention(2, {2 * heads}, {heads}, use_bias={d.flag()})({x.name}, {other()})"
    return code if x.known(-1) else None


for each in (1, 2, 3):

    @recipe(f"ConvLSTM{each}D", each + 3)
    def _(d, x, other, each=each):
        if not x.all_known:
            return None
        options = window(d, x.shape[2:-1], dilated=each == 1)
        options |= {"return_sequences": d.flag(), "go_backwards": d.flag(0.3), "use_bias": d.flag()}
        return f"L.ConvLSTM{each}D(2, {said(**options)})({x.name})"


@recipe("STFTSpectrogram", 3)
def _(d, x, other):
    if not x.all_known or x.shape[1] < 6:
        return None
    mode = d.pick("log", "magnitude", "psd", "real", "imag", "stft")
    return f"L.STFTSpectrogram({mode!r}, 4, {d.whole(1, 3)}, {d.pick(4, 8)}, padding={d.pick('valid', 'same')!r})({x.name})"


# -------------------- tokens --------------------

simple("Embedding", [2, 3], lambda d, x: f"7, {d.whole(1, 4)}, mask_zero={d.flag()}", "i")


@recipe("ReversibleEmbedding", 2, "i")
def _(d, x, other):
    layer = f"L.ReversibleEmbedding(7, {d.whole(1, 4)}, tie_weights={d.flag()}, mask_zero={d.flag()})"
    return f"(lambda table: table(table({x.name}), reverse=True))({layer})" if d.flag() else f"{layer}({x.name})"


simple(
    "CategoryEncoding",
    2,
    lambda d, x: f"7, output_mode={d.pick('multi_hot', 'count', 'one_hot')!r}" if x.all_known else None,
    "i",
)

# -------------------- images --------------------

IMAGES = {
    "Resizing": lambda d: (
        f"{d.whole(2, 6)}, {d.whole(2, 6)}, interpolation={d.pick('bilinear', 'nearest', 'bicubic', 'lanczos3')!r}, "
        + said(**d.pick({}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}, {"antialias": True}))
    ),
    "CenterCrop": lambda d: f"{d.whole(2, 8)}, {d.whole(2, 8)}",
    "RandomCrop": lambda d: f"{d.whole(2, 8)}, {d.whole(2, 8)}",
    "AutoContrast": lambda d: "(-3, 3)",
    "Solarization": lambda d: "0.2, 0.5, (-3, 3)",
    "Pipeline": lambda d: "[L.Rescaling(2.0), L.CenterCrop(3, 3)]",
    "MaxNumBoundingBoxes": lambda d: "2",
    "Equalization": lambda d: "(-3, 3)",
    "AugMix": lambda d: "(-3, 3), num_chains=2, chain_depth=1",
    "CutMix": lambda d: "",
    "MixUp": lambda d: "",
    "RandAugment": lambda d: "(-3, 3)",
    "RandomBrightness": lambda d: "0.3, (-3, 3)",
    "RandomColorDegeneration": lambda d: "(0.1, 0.9), (-3, 3)",
    "RandomColorJitter": lambda d: "(-3, 3), 0.2, 0.3, hue_factor=0.3",
    "RandomContrast": lambda d: "0.3, (-3, 3)",
    "RandomElasticTransform": lambda d: "(0.9, 1.0), value_range=(-3, 3)",
    "RandomErasing": lambda d: "(0.9, 1.0)",
    "RandomFlip": lambda d: "",
    "RandomGaussianBlur": lambda d: "1.0, 3, value_range=(-3, 3)",
    "RandomGrayscale": lambda d: "1.0",
    "RandomHue": lambda d: "0.5, (-3, 3)",
    "RandomInvert": lambda d: "(1.0, 1.0), (-3, 3)",
    "RandomPerspective": lambda d: "(0.9, 1.0), 0.4",
    "RandomPosterization": lambda d: "4, (-3, 3)",
    "RandomRotation": lambda d: "0.3",
    "RandomSaturation": lambda d: "0.5, (-3, 3)",
    "RandomSharpness": lambda d: "(0.1, 0.9), (-3, 3)",
    "RandomShear": lambda d: "0.3, 0.2",
    "RandomTranslation": lambda d: "0.3, 0.2",
    "RandomZoom": lambda d: "0.3",
}


def of_images(name, arguments):
    @recipe(name, 4)
    def code(d, x, other):
        return f"L.{name}({arguments(d)})({x.name})" if x.all_known and x.shape[-1] == 3 else None


for each, arguments in IMAGES.items():
    of_images(each, arguments)


# -------------------- ops --------------------

# {x}: a tensor; {y}: another one of the same shape; {a}, {b}: axes besides the batch; {c}: a number
FLOAT_OPS = """
ops.abs({x}) | ops.arccos(0.9 * ops.tanh({x})) | ops.arccosh(ops.abs({x}) + 1.5) | ops.arcsin(0.9 * ops.tanh({x}))
ops.arcsinh({x}) | ops.arctan({x}) | ops.arctanh(0.9 * ops.tanh({x})) | ops.ceil({x}) | ops.floor({x}) | ops.trunc({x})
ops.round({x}) | ops.round({x}, 1) | ops.sign({x}) | ops.celu({x}, 0.7) | ops.cos({x}) | ops.cosh(ops.tanh({x}))
ops.deg2rad({x}) | ops.rad2deg({x}) | ops.elu({x}) | ops.erf({x}) | ops.erfc({x}) | ops.exp(ops.tanh({x}))
ops.exp2(ops.tanh({x})) | ops.expm1(ops.tanh({x})) | ops.gelu({x}, True) | ops.gelu({x}, False) | ops.hard_sigmoid({x})
ops.hard_silu({x}) | ops.hard_tanh({x}) | ops.leaky_relu({x}, 0.1) | ops.log(ops.abs({x}) + 0.5)
ops.log10(ops.abs({x}) + 0.5) | ops.log1p(ops.abs({x})) | ops.log2(ops.abs({x}) + 0.5) | ops.log_sigmoid({x}) | ops.mish({x})
ops.negative({x}) | ops.log_softmax({x}, axis={a}) | ops.softmax({x}, axis={a}) | ops.softmax({x}, axis=({a}, {b}))
ops.log_softmax({x}, axis=({a}, {b})) | ops.reciprocal(ops.abs({x}) + 0.5) | ops.relu({x}) | ops.relu6({x})
ops.rsqrt(ops.abs({x}) + 0.5) | ops.selu({x}) | ops.sigmoid({x}) | ops.silu({x}) | ops.sin({x}) | ops.sinc({x})
ops.sinh(ops.tanh({x})) | ops.softplus({x}) | ops.softsign({x}) | ops.sqrt(ops.abs({x})) | ops.square({x})
ops.tan(ops.tanh({x})) | ops.tanh({x}) | ops.clip({x}, -0.5, 0.7) | ops.hard_shrink({x}) | ops.soft_shrink({x})
ops.tanh_shrink({x}) | ops.threshold({x}, 0.3, -1.0) | ops.squareplus({x}) | ops.sparse_plus({x}) | ops.sparse_sigmoid({x})
ops.nan_to_num({x}) | ops.fabs({x}) | ops.isfinite({x}) | ops.isnan({x}) | ops.isinf({x}) | ops.logical_not({x})
ops.stop_gradient({x}) | ops.cast({x}, "int32") | ops.cast({x} > 0, "float32") | ops.cast({x}, "float64")
ops.sum({x}, axis={a}) | ops.sum({x}, axis=({a}, {b}), keepdims=True) | ops.sum({x}, axis=()) | ops.sum({x} > 0, axis={a})
ops.mean({x}, axis={a}) | ops.mean({x}, axis=({a}, {b})) | ops.mean({x}, axis=()) | ops.mean({x} > 0, axis={a})
ops.max({x}, axis={a}) | ops.max({x}, axis=({a}, {b}), keepdims=True) | ops.min({x}, axis={a}, keepdims=True)
ops.max({x} > 0, axis={a}) | ops.prod({x}, axis={a}) | ops.var({x}, axis={a}, keepdims=True) | ops.std({x}, axis=({a}, {b}))
ops.logsumexp({x}, axis={a}) | ops.any({x} > 1, axis={a}) | ops.all({x} > -1, axis=({a}, {b}), keepdims=True)
ops.all({x}, axis={a}) | ops.any({x}, axis=()) | ops.argmax({x}, axis={a}) | ops.argmin({x}, axis={a})
ops.argmax(ops.round({x}), axis={a}) | ops.argmin(ops.relu({x}), axis={a}) | ops.argmax({x}, axis={a}, keepdims=True)
ops.cumsum({x}, axis={a}) | ops.flip({x}, axis={a}) | ops.norm({x}, axis={a}) | ops.sort({x}, axis={a})
ops.argsort({x}, axis={a}) | ops.argsort(ops.round({x}), axis={a}) | ops.top_k({x}, 1)[0] | ops.top_k({x}, 1)[1]
ops.top_k(ops.round({x}), 1)[1] | ops.count_nonzero(ops.relu({x}), axis={a}) | ops.average({x}, axis={a})
ops.expand_dims({x}, {a}) | ops.swapaxes({x}, {a}, {b}) | ops.moveaxis({x}, {a}, {b}) | ops.stack([{x}, {y}], axis={a})
ops.repeat({x}, 2, axis={a}) | ops.squeeze(ops.expand_dims({x}, {a}), {a}) | ops.take({x}, np.array([0, -1, 0]), axis={a})
ops.take_along_axis({x}, ops.argsort({x}, axis={a}), axis={a}) | ops.one_hot(ops.argmax({x}, axis={a}), 3)
ops.one_hot(ops.cast({x}, "int32"), 3, axis=1) | ops.one_hot(ops.cast({x}, "int32"), 2, dtype="bool") | {x}[:, ::2]
{x}[:, ::-1] | {x}[:, -1] | {x}[..., -1:] | {x}[:, None] | {x}[:, 0:1] | {x}[..., ::-2] | {x}[:, -3:-1] | {x}[..., None, :]
{x} * {c} + {c} | {c} - {x} | {c} / (ops.abs({x}) + 1) | ops.abs({x}) ** {c} | {c} ** {x} | {x} ** 2 | {x} ** 3
ops.concatenate([{x}, {y}, {x}], axis={a}) | ops.add({x}, {y}) | ops.subtract({x}, {y}) | ops.multiply({x}, {y})
ops.divide({x}, ops.abs({y}) + 0.5) | ops.divide_no_nan({x}, ops.relu({y})) | ops.power(ops.abs({x}) + 0.1, {y})
ops.maximum({x}, {y}) | ops.minimum({x}, {y}) | ops.mod({x}, ops.abs({y}) + 0.5) | ops.mod({x}, -ops.abs({y}) - 0.5)
ops.mod({x}, {c}) | ops.fmod({x}, {c}) | ops.floor_divide({x}, ops.abs({y}) + 0.5) | ops.floor_divide({x}, {c})
ops.fmod({x}, ops.abs({y}) + 0.5) | ops.hypot({x}, {y}) | ops.logaddexp({x}, {y}) | ops.equal({x}, {y})
ops.not_equal({x}, {y}) | ops.greater({x}, {y}) | ops.greater_equal({x}, {y}) | ops.less({x}, {c}) | ops.less_equal({x}, {y})
ops.logical_and({x}, {y} > 0) | ops.logical_or({x} > 0, {y}) | ops.logical_xor({x} > 0, {y} > 0)
ops.where({x} > {y}, {x}, {y}) | ops.where({x} > 0, {c}, {y}) | ops.where({x}, {x}, -1.0) | ops.isclose({x}, {y})
ops.matmul({x}, ops.swapaxes({y}, -1, -2)) | ops.print_tensor({x}) | ops.l2_normalize({x}, axis={a}) | ops.ptp({x}, axis={a})
ops.rms_normalization({x}, axis={a}) | ops.layer_normalization({x}, axis={a}) | ops.zeros_like({x})
ops.ones_like({x}) + {x} | ops.full_like({x}, 2.0) * {x} | ops.logical_and({x} > 0, True) | ops.sum({x}, axis={a}) / 3
ops.max({x}, axis={a}, initial=0.5) | ops.saturate_cast({x} * 100, "int8") | ops.saturate_cast({x} * 100, "uint8")
ops.isposinf({x})
"""
SHAPED_OPS = """
ops.roll({x}, 1, axis={a}) | ops.roll({x}, -2, axis={a}) | ops.tile({x}, [1] * ({r} - 1) + [2]) | ops.reshape({x}, (-1, {n}))
ops.pad({x}, [[0, 0]] * ({r} - 1) + [[1, 2]]) | ops.pad({x}, [[0, 0]] * ({r} - 1) + [[0, 1]], "symmetric")
ops.triu({x}[:, None], 1) | ops.pad({x}, [[0, 0]] * ({r} - 1) + [[1, 0]], constant_values=2.0) | ops.tril({x}[:, None])
ops.split({x}, [1], axis={a})[0] | ops.ravel({x}[:, :1])[:1] | ops.unstack({x}, axis={a})[0]
ops.diagonal({x}[..., None, :] * {x}[..., None], axis1=-2, axis2=-1) | ops.pad({x} > 0, [[0, 0]] * ({r} - 1) + [[1, 2]])
ops.einsum("...a,ba->...b", {x}, np.linspace(-1, 1, 2 * {m}, dtype="float32").reshape(2, {m}))
ops.tensordot({x}, np.ones(({m}, 2), "float32"), 1) | ops.einsum("a...b,a...b->a...", {x}, {y})
ops.einsum("a...b,a...c->a...bc", {x}, {y}) | ops.dot({x}, np.ones(({m}, 2), "float32")) | ops.vstack([{x}])[..., :1]
ops.hstack([{x}, {y}]) | ops.median({x}, axis={a})
"""
INT_OPS = """
{x} // 2 | {x} // -3 | {x} % 3 | {x} % -3 | -{x} // 2 | -{x} % 3 | -{x} % -4 | ops.floor_divide(-{x}, 2) | ops.abs(-{x})
ops.sign({x} - 3) | ops.clip({x}, 2, 4) | ops.clip(-{x}, -4, -2) | ops.square({x}) | {x} / 2 | {x} + {y} | {x} - {y}
{x} * {y} | ops.maximum({x}, 3) | ops.minimum({x}, {y}) | ops.cast({x}, "float32") | ops.cast({x}, "bool")
ops.cast({x} * 100, "uint8") | ops.cast({x}, "int64") | ops.cast({x} - 3, "int8") | ops.sum({x}, axis=1)
ops.mean({x}, axis=-1) | ops.max({x}, axis=1) | ops.min({x}, axis=-1) | ops.prod({x}, axis=-1) | ops.argmax({x}, axis=-1)
ops.argmin({x}, axis=1) | ops.sort({x}, axis=-1) | ops.argsort({x}, axis=1) | ops.cumsum({x}, axis=-1) | ops.top_k({x}, 1)[1]
ops.equal({x}, {y}) | ops.not_equal({x}, 0) | ops.greater({x}, 2.5) | ops.less({x}, {y}) | ops.where({x} > 3, {x}, -{x})
ops.where({x} > 3, {x}, 0.5) | ops.one_hot({x}, 7) | ops.one_hot({x} - 2, 3, axis=1)
ops.take(np.arange(14.0, dtype="float32").reshape(7, 2), {x}, axis=0) | ops.take(np.arange(7), -{x}, axis=0)
ops.take(np.arange(7.0), {x} - 7) | ops.bitwise_and({x}, 3) | ops.bitwise_or({x}, {y}) | ops.bitwise_xor({x}, 5)
ops.mod({x}, ops.maximum({y}, 1)) | ops.floor_divide({x}, ops.maximum({y}, 1)) | ops.power({x}, 2) | ops.mod({x}, 2.5)
ops.any({x}, axis=-1) | ops.all({x}, axis=1) | ops.logical_and({x}, {y}) | ops.logical_not({x}) | ops.flip({x}, axis=1)
{x}[:, -1] | {x}[:, None] | ops.repeat({x}, 2, axis=1) | ops.concatenate([{x}, {y}], axis=-1)
ops.stack([{x}, {y}], axis=-1) | ops.expand_dims({x}, -1) | ops.round({x}) | ops.round({x}, -1) | ops.var({x}, axis=-1)
ops.exp(-{x}) | ops.sqrt({x}) | ops.tanh({x}) | ops.negative({x}) | ops.true_divide({x}, 4)
ops.logical_xor({x} > 2, {y} > 3) | ops.floor({x}) | ops.cast({x}, "float64") / 3 | ops.multi_hot({x}, 7)
ops.count_nonzero({x}, axis=-1) | ops.embedding({x}, np.ones((7, 2), "float32")) | ops.fmod(-{x}, 3) | ops.isfinite({x})
"""


def of_op(name, template, kinds, ranks, known):
    @recipe(name, ranks, kinds)
    def code(d, x, other):
        if known and not x.all_known:
            return None
        axes = [*range(1, x.rank), -1]
        a, b = d.pick(*axes), d.pick(*axes)
        if a % x.rank == b % x.rank:
            b = 1 if x.rank == 2 or a % x.rank != 1 else 2
            if x.rank == 2 and "({a}, {b})" in template:
                return None
        numbers = {"r": x.rank, "n": math.prod(x.shape[1:]), "m": x.shape[-1], "c": d.number() or 0.5}
        return template.format(x=x.name, y=other(), a=a, b=b, **numbers)


for text, kinds, ranks, known in (
    (FLOAT_OPS, "f", ANY, False),
    (SHAPED_OPS, "f", ANY, True),
    (INT_OPS, "i", [2, 3], False),
):
    for template in (part.strip() for line in text.strip().splitlines() for part in line.split(" | ")):
        of_op(template.replace("{x}", "x" if kinds == "f" else "i"), template, kinds, ranks, known)

# -------------------- programs --------------------

SIZES = {  # the shapes of inputs by rank, without the batch
    2: [(4,), (5,), (6,)],
    3: [(7, 4), (8, 3), (6, 2)],
    4: [(6, 7, 3), (5, 8, 3), (3, 6, 2), (6, 5, 4)],
    5: [(4, 5, 6, 2), (3, 4, 5, 3)],
    6: [(2, 3, 4, 3, 2)],
}


BOOL_OPS = """
ops.cast({x}, "float32") | ops.logical_not({x}) | ops.where({x}, 1.5, -0.5) | ops.any({x}, axis={a})
ops.logical_and({x}, {y}) | {x}[:, ::-1]
"""


class Writer:
    """Writes a program line by line, and makes its tensors at the same time."""

    def __init__(self, seed, chance_of_unknown):
        self.draw, self.known, self.chance = Draw(seed), [], chance_of_unknown
        self.batch = BATCH if self.draw.flag(0.2) else None
        self.program, self.spaces = Program(seed, []), (dict(NAMES), dict(NAMES))

    def add_input(self, rank, kind):
        name, sizes = f"in{len(self.program.inputs)}", (BATCH, *self.draw.pick(*SIZES[rank]))
        dtype = "float32" if kind == "f" else self.draw.pick("int32", "int32", "int64")
        opened = [self.draw.flag(self.chance) for _ in sizes[1:]]
        if kind == "f" and self.draw.flag(0.8):
            opened[-1] = False
        shape = (self.batch, *(None if o else size for o, size in zip(opened, sizes[1:], strict=True)))
        self.program.inputs.append((name, shape, dtype, sizes))
        for space, given in zip(self.spaces, (shape, sizes), strict=True):
            space[name] = Input(batch_shape=given, dtype=dtype, name=name)
        return self._note(name)

    def add_line(self, code, parent):
        name = f"t{len(self.program.lines)}"
        for space in self.spaces:
            space[name] = eval(code, space)
        self.program.lines.append(Line(name, code, tuple(re.findall(r"\b(?:in|t)\d+\b", code))))
        return self._note(name, parent)

    def _note(self, name, parent=None):
        symbol, exact = (space[name] for space in self.spaces)
        opened, shape = tuple(axis > 0 and size is None for axis, size in enumerate(symbol.shape)), tuple(exact.shape)
        same = parent is not None and (shape, opened) == (parent.shape, parent.opened)
        kind = {"float32": "f", "int32": "i", "int64": "i", "bool": "b"}.get(str(np.dtype(exact.dtype)), "other")
        masked = exact.mask is not None
        known = Known(name, shape, opened, kind, parent.form if same else len(self.known), masked)
        self.known.append(known)
        return known

    def other(self, x):
        """The name of a tensor of x's shape."""
        names = [
            each.name
            for each in self.known
            if (each.shape, each.opened, each.kind) == (x.shape, x.opened, x.kind)
            and (x.all_known or each.form == x.form)
        ]
        if len(names) == 1 and self.draw.flag(0.8):
            code = {"f": "ops.sin({}) * 0.7", "i": "ops.maximum({}, 2)", "b": "ops.logical_not({})"}[x.kind]
            return self.add_line(code.format(x.name), x).name
        return self.draw.pick(*names)

    def apply(self, name):
        """Apply a recipe to a tensor; returns whether it applies to any."""
        ranks, kinds, write = RECIPES[name]
        fitting = [each for each in self.known if each.rank in ranks and each.kind in kinds]
        for place in reversed(self.draw.rng.permutation(len(fitting))):
            x = fitting[place]
            if x.kind == "i" and not x.name.startswith("in"):  # indices must be within tables
                continue
            code = write(self.draw, x, lambda x=x: self.other(x))
            if code is not None:
                self.add_line(code, x)
                return True
        return False


def plan(count):
    """The recipes of each of `count` models: all recipes, then the first ones again."""
    names = list(RECIPES)
    return [[names[place % len(names)], names[(place + count) % len(names)]] for place in range(count)]


def program(seed, wanted):
    """A program with a line of each wanted recipe and up to three others."""
    for attempt in range(40):
        writer = Writer([seed, attempt], 0.0 if attempt > 20 else 0.2)
        draw = writer.draw
        for name in wanted:
            ranks, kinds, _ = RECIPES[name]
            writer.add_input(draw.pick(*ranks), draw.pick(*kinds) if kinds != "b" else "f")
            if kinds == "b":
                writer.add_line(f"{writer.known[-1].name} > 0.1", writer.known[-1])
        if all([writer.apply(name) for name in wanted]):
            break
    else:
        raise AssertionError(f"no inputs fit {wanted}")
    names = list(RECIPES)
    length = len(writer.program.lines) + draw.whole(0, 3)
    while len(writer.program.lines) < length:
        writer.apply(draw.pick(*names))
    return writer.program


for template in (part.strip() for line in BOOL_OPS.strip().splitlines() for part in line.split(" | ")):
    of_op(template.replace("{x}", "b"), template, "b", ANY, False)
