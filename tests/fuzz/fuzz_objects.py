"""Family: layers, losses, metrics, optimizers and all other objects with a configuration: made, written, mutated, called."""

import copy
import inspect
import json

import numpy as np
from fuzz_values import DEEP, ENDLESS, absurd, any_of, array, described, named, shape, tensor_like
from fuzz_verdict import Fault

import nbkeras as keras
from nbkeras import callbacks, layers, quantizers
from nbkeras.engine import registry
from nbkeras.engine.tensor import as_tensor

KINDS = ["layer", "loss", "metric", "initializer", "optimizer", "learning rate schedule", "regularizer", "constraint"]
WEIGHTS = [12, 4, 4, 2, 3, 1, 1, 1]  # how often a kind is drawn
OF_KIND = {
    kind: sorted(
        {each for each in registry.of_kind(kind).items().values() if isinstance(each, type)}, key=lambda c: c.__name__
    )
    for kind in KINDS
}
OF_KIND["callback"] = [
    getattr(callbacks, name)
    for name in (
        *("EarlyStopping", "LambdaCallback", "LearningRateScheduler", "ReduceLROnPlateau", "TerminateOnNaN"),
        *("History", "ProgbarLogger", "SwapEMAWeights", "CSVLogger", "ModelCheckpoint"),
    )
]
OF_KIND["other"] = [keras.DTypePolicy, keras.InputSpec, keras.Input, keras.Variable, quantizers.AbsMaxQuantizer]
KINDS += ["callback", "other"]
WEIGHTS += [1, 1]
DRAW = [kind for kind, weight in zip(KINDS, WEIGHTS, strict=True) for _ in range(weight)]
RANKS = {"1D": 3, "2D": 4, "3D": 5}
IMAGES = ("Random", "Resizing", "CenterCrop", "Solarize", "Grayscale", "AutoContrast", "Rescaling", "Equalization")


def arguments(chance, cls, odd):
    """Arguments of a class by name: the required ones mostly, and a few of the others."""
    chosen = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        needed = parameter.default is parameter.empty
        if chance.random() < (0.97 if needed else 0.12):
            chosen[name] = named(chance, name, odd)
    if chance.random() < odd / 3:
        chosen["nonsense"] = absurd(chance)
    return chosen


def changed(chance, config, depth=0):
    """A configuration with one value changed, left out, added or moved, anywhere in it."""
    if isinstance(config, dict) and config and (depth < 1 or chance.random() < 0.8):
        config = dict(config)
        key = sorted(config, key=str)[chance.randrange(len(config))]
        kind = chance.random()
        if kind < 0.6 and isinstance(config[key], dict | list) and config[key]:
            config[key] = changed(chance, config[key], depth + 1)
        elif kind < 0.75:
            config[key] = named(chance, str(key), 0.3)
        elif kind < 0.88:
            config[key] = absurd(chance)
        elif kind < 0.94:
            del config[key]
        else:
            config[any_of(chance, ["nonsense", 3, None, "", key + "_"] if isinstance(key, str) else ["nonsense"])] = 1
        return config
    if isinstance(config, list) and config and chance.random() < 0.8:
        config = list(config)
        at = chance.randrange(len(config))
        config[at] = changed(chance, config[at], depth + 1)
        return config
    return absurd(chance)


def input_for(chance, name):
    """An input of a layer: of the rank that its name says, mostly."""
    rank = next((rank for ending, rank in RANKS.items() if ending in name), None)
    if name.startswith(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "TimeDistributed")):
        rank = 2 if name.endswith("Cell") else 3
    if name.startswith(IMAGES):
        rank = 4
    if name.startswith("ConvLSTM") and rank:
        rank += 1
    base = {None: (2, 3), 2: (2, 3), 3: (2, 4, 3), 4: (2, 4, 4, 3), 5: (1, 3, 4, 4, 2), 6: (1, 2, 3, 3, 3, 1)}[rank]
    if chance.random() < 0.2:
        base = shape(chance)
    return tensor_like(chance, base, integers="Embedding" in name or "Lookup" in name or "Encoding" in name)


def use_layer(chance, layer, say):
    name = type(layer).__name__
    if chance.random() < 0.15:
        sizes = chance.choice(
            [(None, 3), (2, 3), (None, None, 3), (2, 4, 4, 3), (), (0,), (-1, 3), 3, None, ("a",), (2.5,)]
        )
        say(f"layer.compute_output_shape({sizes})")
        layer.compute_output_shape(sizes)
        return
    several = isinstance(layer, layers.Layer) and name in MERGING or chance.random() < 0.03
    inputs = (
        [input_for(chance, name) for _ in range(chance.choice([2, 2, 3, 1, 0]))] if several else input_for(chance, name)
    )
    options = {}
    parameters = inspect.signature(layer.call).parameters if hasattr(layer, "call") else {}
    if "mask" in parameters and chance.random() < 0.25:
        base = chance.choice([(2, 4), (2,), (2, 3), (2, 4, 3)])
        options["mask"] = np.ones(base, bool) if chance.random() < 0.7 else absurd(chance)
    if "training" in parameters and chance.random() < 0.4:
        options["training"] = chance.choice([True, False, None, True, False, 2, "yes"])
    if "initial_state" in parameters and chance.random() < 0.2:
        options["initial_state"] = [array(chance, (2, 3)) for _ in range(chance.choice([1, 2, 3]))]
    more = []
    if name in ("MultiHeadAttention", "GroupQueryAttention") and chance.random() < 0.9:
        inputs, more = array(chance, (2, 4, 3)), [array(chance, (2, 4, 3))]
    elif name.endswith("Cell"):
        more = [[array(chance, (2, 3)) for _ in range(chance.choice([1, 2]))]]
    say(f"layer({', '.join(map(described, [inputs, *more]))}, **{described(options)})")
    before = copy.deepcopy(inputs) if isinstance(inputs, np.ndarray) else None
    layer(inputs, *more, **options)
    if before is not None and before.dtype.kind in "fiub" and not np.array_equal(before, inputs, equal_nan=True):
        raise Fault("changes its input")
    if chance.random() < 0.1:
        say("layer(the same once more)")
        layer(inputs, *more, **options)


MERGING = "Add Subtract Multiply Average Maximum Minimum Concatenate Dot Attention AdditiveAttention".split()


def use(chance, kind, made, say):
    """Call an object as its kind is called."""
    if kind == "layer" and isinstance(made, layers.Layer):
        use_layer(chance, made, say)
    elif kind in ("loss", "metric"):
        base = shape(chance)
        sparse = "Sparse" in type(made).__name__ or "IoU" in type(made).__name__
        target = tensor_like(chance, base[:-1] if sparse and base else base, integers=sparse)
        prediction = tensor_like(chance, base)
        weight = None if chance.random() < 0.7 else tensor_like(chance, base[:1])
        say(f"call({described(target)}, {described(prediction)}, sample_weight={described(weight)})")
        if kind == "loss":
            made(target, prediction, sample_weight=weight)
        else:
            made.update_state(
                *((target,) if type(made).__name__ in ("Mean", "Sum") else (target, prediction)), sample_weight=weight
            )
            made.result()
            made.reset_state()
    elif kind == "initializer":
        sizes = chance.choice(
            [(3,), (2, 3), (3, 3), (2, 2, 3, 4), (), (0, 2), (-1, 3), 3, None, (2.5, 3), ("a",), (10**9, 10**9)]
        )
        dtype = chance.choice([None, "float32", "float64", "int32", "bool", "float16", "nothing", np.float32, 3])
        say(f"call({sizes}, {dtype!r})")
        made(sizes, dtype=dtype)
    elif isinstance(made, keras.Optimizer):
        variables = [
            keras.Variable(array(chance, (2, 3), odd=0).astype("float32")),
            keras.Variable(np.ones(3, "float32")),
        ]
        gradients = [tensor_like(chance, (2, 3)), tensor_like(chance, (3,))]
        if chance.random() < 0.2:
            gradients[chance.randrange(2)] = chance.choice([None, 1.0, "a", np.ones((9, 9))])
        say(f"apply({described(gradients)}, variables of (2, 3) and (3,))")
        made.apply(gradients, variables)
        if chance.random() < 0.3:
            made.apply_gradients(zip(gradients, variables, strict=True))
    elif kind == "learning rate schedule":
        step = chance.choice([0, 1, 5, 2.5, -1, 10**9, 2**40, np.int64(3), "a", None, np.ones(2)])
        say(f"call({step!r})")
        made(step)
    elif kind in ("regularizer", "constraint"):
        values = tensor_like(chance, (2, 3))
        say(f"call({described(values)})")
        made(as_tensor(values))
    elif kind == "other" and isinstance(made, quantizers.Quantizer):
        made(tensor_like(chance, (2, 3)))


def plain(config):
    return not any(each is DEEP or each is ENDLESS for each in config.values())


def as_json(config):
    try:
        return json.loads(json.dumps(config))
    except (TypeError, ValueError, RecursionError):
        return config


def case(chance, say):
    kind = DRAW[chance.randrange(len(DRAW))]
    cls = OF_KIND[kind][chance.randrange(len(OF_KIND[kind]))]
    odd = 0.25 if chance.random() < 0.3 else 0.04
    options = arguments(chance, cls, odd)
    say(f"object = {cls.__module__}.{cls.__name__}(**{described(options)})")
    if kind == "callback":
        for name in ("filename", "filepath"):
            if isinstance(options.get(name), str | bytes):
                options[name] = "file.keras"
    made = cls(**options)
    if kind == "other" and not hasattr(made, "get_config"):
        return
    written = None
    if kind != "callback" and chance.random() < 0.4 and hasattr(made, "get_config"):
        say("get_config()")
        written = made.get_config()
        again = cls.from_config(as_json(written))
        if type(again) is not type(made):
            raise Fault(f"from_config makes a {type(again).__name__}")
        rewritten = again.get_config()
        if plain(written) and json.dumps(written, default=repr, sort_keys=True) != json.dumps(
            rewritten, default=repr, sort_keys=True
        ):
            if not any(isinstance(each, np.ndarray) for each in options.values()):
                raise Fault(f"another configuration after from_config: {written} and {rewritten}"[:600])
        if chance.random() < 0.6:
            config = changed(chance, as_json(written))
            say(f"from_config({described(config)})")
            made = cls.from_config(config)
    elif written is None and kind in KINDS[:8] and chance.random() < 0.1:
        config = changed(chance, as_json(registry.of_kind(kind).serialize(made)))
        say(f"deserialize({described(config)})")
        made = registry.of_kind(kind).deserialize(config)
        if not isinstance(made, registry_base(kind)):
            return
    if made is not None and made is not ENDLESS and made is not DEEP:
        use(chance, kind, made, say)


def registry_base(kind):
    return {"layer": layers.Layer, "loss": keras.Loss, "metric": keras.Metric, "optimizer": keras.Optimizer}.get(
        kind, object
    )
