"""The files of frozen models: plain data of every kind, and what a stranger may write into them."""

import ast
import copy
import json
import random
import sys
import types
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
from hostile_frozen import description, rewrite
from inference_models import floats, kernel_layer, lstm_stack, mlp, same_bits, transformer

import nbkeras as keras
from nbkeras import Input, Model, Sequential, layers, models, ops, saving
from nbkeras.__main__ import main
from nbkeras.engine.tensor import apply
from nbkeras.inference import Frozen, bundle
from nbkeras.kernels import compiled, device
from nbkeras.kernels.runtime import device as runtime

pytestmark = pytest.mark.cpu("frozen models are for the CPU")
HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The content and the description of a file of a small model."""
    path = tmp_path_factory.mktemp("bundle") / "net.frozen"
    mlp().frozen((1, 2)).save(path)
    return path.read_bytes(), description(path)


@pytest.fixture
def file(saved, tmp_path):
    path = tmp_path / "net.frozen"
    path.write_bytes(saved[0])
    path.chmod(0o600)
    return path


def changed(about, *path, to):
    """A copy of a description with another value at a path."""
    about = copy.deepcopy(about)
    place = about
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return about


# -------------------- the format --------------------


@pytest.mark.parametrize("name", ["net.frozen", "forecast.nbf", "net.keras"])
def test_a_frozen_file_is_told_what_it_is_where_a_model_is_wanted(file, capsys, name):
    path = file.rename(file.with_name(name))
    assert Frozen.load(path).batch_sizes == (1, 2)
    message = f"{name}' is a frozen model.*nbkeras.inference.Frozen.load"
    for read in (models.load_model, mlp().load_weights, lambda path: saving.convert(path, path.with_name("other.h5"))):
        with pytest.raises(ValueError, match=message):
            read(path)
    with path.open("rb") as opened, pytest.raises(ValueError, match=message):
        models.load_model(opened)
    for command in ("summary", "profile", "compile", "warmup"):
        with pytest.raises(SystemExit):
            main([command, str(path)])
        assert "Frozen.load" in capsys.readouterr().err


def test_a_file_is_json_and_constants(file):
    about, ready = description(file), Frozen.load(file)
    content = file.read_bytes()
    assert content.startswith(b"nbkeras bundle\n\0") and about["version"] == keras.__version__
    constants = ready._state.bundle.constants
    start = len(content) - constants.nbytes
    assert start % 4096 == 0 and content[start:] == constants.tobytes()
    assert about["model"][0] == ready.name and len(about["programs"]) == 2
    weights = ready._state.bundle.constants
    assert sum(np.prod(w.shape) for w in mlp().weights) * 4 <= weights.nbytes


def test_equal_models_give_equal_files(tmp_path):
    first, second = lstm_stack(), lstm_stack()
    second.set_weights(first.get_weights())
    for name, model in (("a", first), ("b", second)):
        model.stream().frozen((1, 3)).save(tmp_path / name)
    written = [description(tmp_path / name) for name in ("a", "b")]
    for each in written:
        each["model"][:3] = []  # names
    assert written[0] == written[1]


Pair = namedtuple("Pair", ["left", "right"])


def test_launches_of_all_kinds_are_written(tmp_path):
    x = Input((4,))
    square = ops.reshape(x, (-1, 2, 2))
    outputs = {
        "chain": ops.tanh(x * 2.0) + 1.0,
        "linalg": [ops.inv(square), ops.pinv(square)],
        "numpy": (ops.sort(x), ops.argsort(x)),
        "fourier": list(ops.rfft(x)),
        "fold": ops.max(x, axis=-1, keepdims=True),
        "product": layers.Dense(300, activation="softmax")(x),
        "infinity": ops.where(x > 0, x, -np.inf),
        "cast": ops.cast(x, "bool"),
    }
    ready = Model(x, outputs).frozen((1, 3))
    ready.save(tmp_path / "net.frozen")
    again = Frozen.load(tmp_path / "net.frozen")
    for rows in (1, 3, 4):
        x = floats(rows, 4)
        same_bits(again(x), ready(x))
    kinds = {row[0] for row in description(tmp_path / "net.frozen")["functions"]}
    assert {"kernel", "linalg", "numpy", "function", "chain"} <= kinds


def test_structures_keep_their_kinds_and_a_namedtuple_becomes_a_tuple(tmp_path):
    x = Input((3,))
    ready = Model(x, OrderedDict(b=[x, (x, x)], a={"z": x, "y": Pair(x, x)})).frozen(1)
    ready.save(tmp_path / "net.frozen")
    found = Frozen.load(tmp_path / "net.frozen")(floats(1, 3))
    assert type(found) is OrderedDict and list(found) == ["b", "a"]
    assert type(found["b"][1]) is tuple and type(found["a"]["y"]) is tuple and list(found["a"]) == ["z", "y"]


def is_positive(x, flag):
    flag[0] = x[0, 0] > 0


def test_work_under_a_condition_is_written(tmp_path):
    def op(x):
        y, flag = device.empty(x.shape, x.dtype), device.empty((1,), np.int64)
        device.launch(np.add, x, x, y)
        device.launch(is_positive, x, flag)
        with runtime.only_if(flag):
            device.launch(np.negative, x, y)
        return y, None

    class Own(layers.Layer):
        def call(self, inputs):
            return apply(op, None, [inputs])

    ready = Sequential([Input((2,)), Own()]).frozen(1)
    ready.save(tmp_path / "net.frozen")
    assert "if" in {row[0] for row in description(tmp_path / "net.frozen")["functions"]}
    for value in (1.0, -1.0):
        x = np.full((1, 2), value, "float32")
        same_bits(Frozen.load(tmp_path / "net.frozen", safe_mode=False)(x), ready(x))


def test_streams_and_models_are_one_class(tmp_path):
    lstm_stack().stream().frozen((1, 2)).save(tmp_path / "stream.frozen")
    stream, model = Frozen.load(tmp_path / "stream.frozen"), mlp().frozen()
    assert stream.is_stream and not model.is_stream
    with pytest.raises(ValueError, match="is a stream, whose calls take a state: pass initial"):
        stream(floats(1, 5))
    with pytest.raises(ValueError, match="is a stream, whose calls take a state: pass initial"):
        stream.run([floats(1, 1, 5)])
    with pytest.raises(ValueError, match=r"keeps no state from step to step: freeze a stream, model\.stream\(\)"):
        model(floats(1, 20), np.zeros((1, 0), "float32"))
    with pytest.raises(ValueError, match="keeps no state from step to step"):
        model.run([floats(1, 20)], np.zeros((1, 0), "float32"))
    with pytest.raises(ValueError, match="keeps no state from step to step"):
        model.initial()
    with pytest.raises(ValueError, match="input 'input_layer.*' has no rows"):
        stream(floats(0, 5), stream.initial(0))
    assert (model.state_size, model.state_dtype, model.window, model.steps) == (0, None, None, (1,))


# -------------------- functions of a file --------------------


@compiled
def triple(x, y):
    for i in range(x.size):
        y.flat[i] = 3 * x.flat[i]


def negate(x, y):
    np.negative(x, y)


@pytest.mark.parametrize("kernel, factor", [(triple, 3), (negate, -1)], ids=["compiled", "of NumPy"])
def test_kernels_of_other_modules_are_imported_only_without_the_safe_mode(kernel, factor, tmp_path):
    Sequential([Input((4,)), kernel_layer(kernel)]).frozen().save(tmp_path / "net.frozen")
    with pytest.raises(ValueError, match=rf"needs the function '{kernel.__name__}' of the module .*safe_mode=False"):
        Frozen.load(tmp_path / "net.frozen")
    x = floats(2, 4)
    same_bits(Frozen.load(tmp_path / "net.frozen", safe_mode=False)(x), factor * x)


def test_no_module_is_imported_for_a_name_in_a_file(file):
    about = description(file)
    for row in (
        ["kernel", "antigravity", "kernel"],
        ["function", "antigravity", "main"],
        ["function", "nbkeras.kernels.linalg", "np.save"],
        ["function", "nbkeras.kernels.runtime.cache", "named"],
        ["function", "nbkeras.kernels.elementwise", "device.copy"],
        ["kernel", "nbkeras.kernels.dense", "np.save"],
        ["numpy", "save"],
        ["numpy", "linalg"],
        ["linalg", "norm", 1, {}],
        ["eval", "1"],
        [],
        "kernel",
    ):
        rewrite(file, changed(about, "functions", 0, to=row))
        with pytest.raises(ValueError, match="is not nbkeras's own|is damaged|is not the one"):
            Frozen.load(file)
    assert "antigravity" not in sys.modules


def launched():
    """The Python functions that kernels and ops launch, by module and name."""
    found = set()
    for path in [*HERE.glob("kernels/**/*.py"), *HERE.glob("nbkeras/ops/*.py"), *HERE.glob("nbkeras/layers/*.py")]:
        if {"cuda", "loops"} & set(path.parts):
            continue
        package = "nbkeras.kernels" if path.is_relative_to(HERE / "kernels") else "nbkeras"
        own = path.relative_to(HERE / ("kernels" if package == "nbkeras.kernels" else "nbkeras")).with_suffix("")
        module = sys.modules.get(".".join([package, *own.parts]).removesuffix(".__init__"))
        for node in ast.walk(ast.parse(path.read_text())) if module is not None else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("device.launch", "launch") and node.args:
                try:
                    function = eval(ast.unparse(node.args[0]), vars(module))
                except (NameError, AttributeError):  # a local variable
                    continue
                if isinstance(function, types.FunctionType):
                    found.add((function.__module__, function.__qualname__))
    return found


def test_the_list_of_functions_has_all_that_predictions_launch():
    """Gradients, updates of optimizers and the like are not in a prediction, and models on a GPU are not frozen."""
    listed = {
        (f"nbkeras.kernels.{module}", name) for module, names in bundle._FUNCTIONS.items() for name in names.split()
    }
    for module, name in listed:
        function = bundle.cache.named(module, name)
        assert isinstance(function, types.FunctionType) and function.__module__ == module, (module, name)
    others = {
        "nbkeras.kernels.gradients",
        "nbkeras.kernels.half_products.multiply_halves",
        "nbkeras.kernels.normalization.mean_gradient",
        "nbkeras.kernels.normalization.variance_gradient",
        "nbkeras.kernels.reduce.cumprod_slope",
        "nbkeras.kernels.scattering.combine_slopes",
    }
    missing = {
        (module, name)
        for module, name in launched() - listed
        if module not in others and f"{module}.{name}" not in others
    }
    assert not missing


# -------------------- descriptions of a stranger --------------------


@pytest.mark.parametrize(
    "path, value",
    [
        (("programs", 0, 2, "memories", 0, 1), 1 << 60),
        (("programs", 0, 2, "memories", 0, 1), -1),
        (("programs", 0, 2, "memories", 0, 1), 8),
        (("programs", 0, 2, "memories", 0, 0), "const"),
        (("programs", 0, 2, "memories", 1, 0), "live"),
        (("programs", 0, 2, "memories", 2, 1), 1 << 20),
        (("programs", 0, 2, "memories"), []),
        (("programs", 0, 0), 0),
        (("programs", 0, 1), 2),
        (("programs",), []),
        (("refs", 0, 1), -64),
        (("refs", 0, 1), 1 << 40),
        (("refs", 0, 2), [1 << 62, 1 << 62]),
        (("refs", 0, 3), [-(1 << 40)] * 2),
        (("refs", 0, 2), [1] * 65),
        (("refs", 0, 4), "|O"),
        (("refs", 0, 4), "|S0"),
        (("refs", 0, 4), [["x", "|O"]]),
        (("refs", 0, 0), 20),
        (("refs", 0, 0), -1),
        (("model", 1), []),
        (("model", 1, 0, 1), [None, 3]),
        (("model", 1, 0, 2), "<f8"),
        (("model", 5), 1),
        (("model", 4), [[7, 3, "embedding"]]),
        (("structures", 0), [0, 1]),
        (("structures", 0), {"set": [0]}),
        (("structures", 0), {"dict": [[1, 0]]}),
        (("constants", "bytes"), 1 << 40),
        (("constants", "sha256"), "0" * 64),
        (("version",), None),
        (("stamps",), {}),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused_before_memory_is_made(path, value, saved, file):
    rewrite(file, changed(saved[1], *path, to=value))
    with pytest.raises(ValueError, match=r"net\.frozen' is (damaged|from nbkeras)|is not the one that this model"):
        Frozen.load(file)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"[" * 100_000, b"{}", b'{"constants":{"bytes":1e99}}', b"\xff"])
def test_other_json_is_refused(text, file):
    rewrite(file, text)
    with pytest.raises(ValueError, match="is damaged.*(was not copied completely|description is wrong)"):
        Frozen.load(file)


def test_a_description_that_claims_to_be_long_is_not_read(saved, file):
    head = bundle._HEADER.pack(bundle.FROZEN, bundle._FORMAT, 1 << 62, bytes(32))
    file.write_bytes(head + saved[0][len(head) :])
    with pytest.raises(ValueError, match="is damaged.*(was not copied completely|description is wrong)"):
        Frozen.load(file)


def leaves(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from leaves(part, (*path, key))


ODD = [-1, 0, 1, 7, 1 << 40, 1 << 63, "x", "<f8", "|O", None, [], {}, True, 1.5, [[]]]
ODD += [{"array": 0}, {"array": 1 << 20}, {"function": 0}, {"number": ["<f4", "1"]}, {"number": ["x", "y"]}]


@pytest.mark.grid
@pytest.mark.parametrize(
    "make", [mlp, transformer, lambda: lstm_stack().stream()], ids=["mlp", "transformer", "stream"]
)
def test_any_change_is_refused_or_loads(make, tmp_path):
    """No change of a value ends the process or raises anything but ValueError. Nothing is run."""
    path = tmp_path / "net.frozen"
    make().frozen(1).save(path)
    content, about = path.read_bytes(), description(path)
    places, choice = [place for place in leaves(about) if place], random.Random(0)
    refused = 0
    for _ in range(150):
        changes = changed(about, *choice.choice(places), to=copy.deepcopy(choice.choice(ODD)))
        path.write_bytes(content)
        rewrite(path, json.dumps(changes).encode())
        try:
            Frozen.load(path)
        except ValueError:
            refused += 1
    assert refused > 75
