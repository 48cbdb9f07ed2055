"""Models as shared libraries: the same bits as `predict`, from Python, C and C++, and errors before anything is written."""

import errno
import importlib
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from inference_models import (
    cnn,
    floats,
    inputs_of,
    lstm_stack,
    mlp,
    quantized_cnn,
    quantized_mlp,
    same_bits,
    transformer,
    two_and_two,
)
from libraries import loaded, needs_linker

import nbkeras
from nbkeras import Input, Model, Sequential, layers, ops
from nbkeras.__main__ import main
from nbkeras.engine import structures
from nbkeras.engine.tensor import apply
from nbkeras.export import library as export_library_module
from nbkeras.export import library_files, linking
from nbkeras.kernels import compiled, device
from nbkeras.kernels.runtime import code, lazy
from nbkeras.saving import archive
from nbkeras.utils import set_random_seed

pytestmark = [needs_linker, pytest.mark.cpu("libraries are for the CPU")]
random = np.random.default_rng(0)
EXAMPLES = Path(__file__).parents[2] / "examples" / "deploy"


def predicted(model, inputs):
    """By batches as the library has them: 32 samples, then one by one."""
    rows = len(inputs[0])
    ends = [*range(0, rows - 31, 32), *range(rows // 32 * 32, rows), rows]
    parts = []
    for start, end in zip(ends, ends[1:], strict=False):
        if start != end:
            batch = [x[start:end] for x in inputs]
            parts.append(structures.flatten(model.predict(batch if len(batch) > 1 else batch[0], verbose=0)))
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


# -------------------- the same bits --------------------


@pytest.mark.parametrize("weights", ["inside", "beside"])
@pytest.mark.parametrize("make", [mlp, cnn, quantized_cnn, lstm_stack, transformer, two_and_two])
def test_a_library_computes_what_predict_does(make, weights, tmp_path):
    model = make()
    for layer in model._all_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + floats(*w.shape) ** 2 for w in layer.get_weights()])
    model.export(tmp_path / "libnet.so", batch=[1, 32], weights=weights, verbose=False)
    assert (tmp_path / "net.weights").exists() == (weights == "beside")
    inputs = inputs_of(model, 34)
    library = loaded(tmp_path / "libnet.so")
    same_bits(library.predict(*inputs), predicted(model, inputs))
    assert list(library.FUNCTIONS.values()) == ["net_predict", "net_predict_32"]


SEEDED = """
from nbkeras import Input, Sequential, layers
from nbkeras.utils import set_random_seed

set_random_seed(7)
model = Sequential([Input((20,), name="x"), layers.Dense(40, activation="relu"), layers.Dense(3, name="y")], name="net")
model.export(path, batch=[1, 32], weights="beside", verbose=False)
"""


@pytest.mark.process
def test_the_files_are_the_same_wherever_nbkeras_is_and_whoever_exports(tmp_path):
    """Another process, with other hashes of strings, exports by a copy of the package, for which it compiles all kernels."""
    copy, package = tmp_path / "copy of a checkout", Path(nbkeras.__file__).parent
    for source, target in ((package, copy / "nbkeras"), (Path(code.FOLDER), copy / "nbkeras" / "kernels")):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    (tmp_path / "here").mkdir()
    exec(SEEDED, {"path": str(tmp_path / "here" / "libnet.so")})
    script = f"import nbkeras; path = 'libnet.so'; assert nbkeras.__file__.startswith({str(copy)!r}){SEEDED}"
    environment = {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(copy), "PYTHONHASHSEED": "1", "PYTHONSAFEPATH": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=copy, env=os.environ | environment, check=True, timeout=120)
    for name in ("libnet.so", "net.h", "net.py", "net.weights"):
        content = (tmp_path / "here" / name).read_bytes()
        assert content == (copy / name).read_bytes(), name
        paths = str(copy), str(package.parent), os.path.dirname(code.FOLDER), os.path.expanduser("~"), "site-packages"
        assert not [path for path in paths if path.encode() in content], name


def test_a_library_of_a_model_with_lora_has_the_sums(tmp_path):
    model, plain = mlp(), mlp()
    for layer in model.layers:
        layer.enable_lora(2, b_initializer="normal")
    plain.set_weights([value.numpy() for layer in model.layers for value in (layer.kernel, layer.bias)])
    for each, name in ((model, "one"), (plain, "two")):
        each.export(tmp_path / f"lib{name}.so", weights="beside", verbose=False)
    x = floats(3, 20)
    outputs = [loaded(tmp_path / f"lib{name}.so").predict(x) for name in ("one", "two")]
    same_bits(*outputs)
    np.testing.assert_allclose(outputs[0], model.predict(x, verbose=0), rtol=1e-5)
    contents = [(tmp_path / f"{name}.weights").read_bytes() for name in ("one", "two")]
    assert contents[0] == contents[1]


def test_inputs_by_position_in_a_list_and_by_name(tmp_path):
    model = two_and_two()
    model.export(tmp_path / "libnet.so", verbose=False)
    library = loaded(tmp_path / "libnet.so")
    assert [name for name, _, _ in library.INPUTS] == ["left", "words"]
    assert [name for name, _, _ in library.OUTPUTS] == ["score", "both"]
    left, words = inputs_of(model, 1)
    expected = model.predict([left, words], verbose=0)
    for given in ([left, words], [[left, words]], [{"words": words, "left": left}]):
        same_bits(library.predict(*given), expected)


def test_outputs_that_are_no_whole_buffer(tmp_path):
    """An input, the same tensor twice, a part, a transpose, a constant: they are copied."""
    x = Input((4, 6))
    y = layers.Dense(6, use_bias=False)(x)
    outputs = [x, y, y, y[:, 1:3], ops.transpose(y, (0, 2, 1)), layers.Lambda(lambda t: ops.ones((1, 3)))(y)]
    model = Model(x, outputs)
    model.export(tmp_path / "libnet.so", verbose=False)
    value = floats(1, 4, 6)
    same_bits(loaded(tmp_path / "libnet.so").predict(value), model.predict(value, verbose=0))


def test_float64_and_functions_of_the_c_library(tmp_path):
    x = Input((5,), dtype="float64")
    y = layers.Dense(3, dtype="float64", activation="tanh")(x)
    model = Model(x, ops.arctan2(ops.sin(y), ops.exp(y)))
    model.export(tmp_path / "libnet.so", verbose=False)
    value = random.normal(size=(1, 5))
    same_bits(loaded(tmp_path / "libnet.so").predict(value), model.predict(value, verbose=0))


@pytest.mark.parametrize(
    "function, axis, shape",
    [(ops.take, 1, (3,)), (ops.take, -1, (2, 2)), (ops.take_along_axis, 1, (3, 5)), (ops.take, None, (4,))],
)
def test_indices_that_are_out_of_range_are_an_error(function, axis, shape, tmp_path):
    x, index = Input((4, 5)), Input(shape, dtype="int64")
    rows = index[0] if function is ops.take else index
    taken = function(x, rows, axis=axis)
    model = Model([x, index], ops.expand_dims(taken, 0) if axis is None else taken)
    model.export(tmp_path / "libnet.so", verbose=False)
    library, value = loaded(tmp_path / "libnet.so"), floats(1, 4, 5)
    for start, end in ((0, 4), (-4, 0)):
        given = random.integers(start, end, (1, *shape))
        same_bits(library.predict(value, given), model.predict([value, given], verbose=0))
    for wrong in (-21, 20):
        given[...] = wrong
        with pytest.raises(RuntimeError, match="net: a kernel failed"):
            library.predict(value, given)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("function", [ops.argmax, ops.argmin, ops.cumsum, ops.cumprod])
def test_kernels_that_have_another_form_in_libraries(function, axis, dtype, tmp_path):
    x = Input((3, 4, 2), dtype=dtype)
    model = Model(x, function(x, axis=axis))
    model.export(tmp_path / "libnet.so", batch=5, verbose=False)
    value = random.integers(-2, 3, (5, 3, 4, 2)) if dtype == "int32" else floats(5, 3, 4, 2)
    value = value.astype(dtype)
    if dtype.startswith("float"):
        value[0, 1, 2, 1] = value[0, 2, 2, 1] = value[1, 0, 0, 0] = np.nan
        value[2, :, :, 0] = 0.0
    same_bits(loaded(tmp_path / "libnet.so").predict(value), model.predict(value, verbose=0))


def test_weights_that_change_later_are_not_those_of_the_library(tmp_path):
    model, x = mlp(), floats(1, 20)
    expected = model.predict(x, verbose=0)
    model.export(tmp_path / "libnet.so", verbose=False)
    model.set_weights([w * 0 for w in model.get_weights()])
    same_bits(loaded(tmp_path / "libnet.so").predict(x), expected)


def test_subclassed_models(tmp_path):
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)

        def call(self, x):
            return ops.relu(self.inner(x)) * 2

    model, x = Net(), floats(1, 4)
    with pytest.raises(ValueError, match="has no input shapes: call it once, or give input_signature"):
        model.export(tmp_path / "libnet.so")
    expected = model.predict(x, verbose=0)
    model.export(tmp_path / "libnet.so", verbose=False)
    same_bits(loaded(tmp_path / "libnet.so").predict(x), expected)


def test_threads_with_workspaces_of_their_own(tmp_path):
    model = cnn()
    model.export(tmp_path / "libnet.so", verbose=False)
    library, x = loaded(tmp_path / "libnet.so"), floats(20, 14, 14, 3)
    expected, wrong = predicted(model, [x])[0], []

    def run():
        for _ in range(20):
            found = library.predict(x)
            wrong.extend([1] if found.tobytes() != expected.tobytes() else [])

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -------------------- states --------------------


def test_a_stateful_model_has_a_step(tmp_path):
    set_random_seed(0)
    model = Sequential(
        [
            Input(batch_shape=(2, 3, 4)),
            layers.LSTM(5, stateful=True, return_sequences=True),
            layers.GRU(4, stateful=True),
        ]
    )
    x = floats(6, 2, 3, 4)
    model.predict(x[0], batch_size=2, verbose=0)
    before = [v.numpy() for layer in model.layers for v in structures.flatten(layer.states)]
    model.export(tmp_path / "libnet.so", batch=2, verbose=False)
    after = [v.numpy() for layer in model.layers for v in structures.flatten(layer.states)]
    same_bits(after, before)
    library = loaded(tmp_path / "libnet.so")
    assert not hasattr(library, "predict")
    one, other = library.new_state(), library.new_state()
    same_bits(library.step(other, x[5]), library.step(library.new_state(), x[5]))
    for each in x[1:]:
        same_bits(library.step(one, each), model.predict(each, batch_size=2, verbose=0))
    with pytest.raises(ValueError, match=r"a step computes 2 samples, received 1"):
        library.step(one, x[0][:1])
    with pytest.raises(TypeError, match=r"state must be an array from new_state"):
        library.step(one[:-1], x[0])


def test_the_states_of_a_step_may_be_in_two_places(tmp_path):
    model = Sequential([Input((None, 2)), layers.SimpleRNN(3)])
    model.export(tmp_path / "libnet.so", input_signature=[(None, 4, 2)], state="explicit", verbose=False)
    library, x = loaded(tmp_path / "libnet.so"), floats(1, 4, 2)
    same_bits(library.predict(x), model.predict(x, verbose=0))
    states = [library.new_state() for _ in range(5)]
    y, workspace = np.empty((1, 3), "float32"), np.empty(library._size("workspace") + 1, np.uint8)
    for t in range(4):
        given = (states[t], x[:, t : t + 1].copy(), states[t + 1], y, workspace[1:])
        assert library._step(*(array.ctypes.data for array in given)) == 0
    np.testing.assert_allclose(y, library.predict(x), rtol=1e-5)
    assert not states[0].any()
    again = np.empty_like(y)
    given = (states[3], x[:, 3:].copy(), states[3], again, workspace)
    assert library._step(*(array.ctypes.data for array in given)) == 0
    same_bits(again, y)
    same_bits(states[3], states[4])


@pytest.mark.parametrize("steps", [None, 6])
def test_step_by_step_a_model_computes_what_it_does_at_once(steps, tmp_path):
    words = Input((steps,), dtype="int32")
    model = Model(
        words, layers.Dense(3)(layers.GRU(8)(layers.LSTM(8, return_sequences=True)(layers.Embedding(9, 4)(words))))
    )
    if steps:
        inner = Sequential([Input((6, 4)), layers.LSTM(4, return_sequences=True)])
        x = Input((6, 4))
        model = Model(x, layers.Dense(2)(inner(x)))
    signature = None if steps else [(None, 6)]
    model.export(tmp_path / "libnet.so", input_signature=signature, state="explicit", verbose=False)
    library, state = loaded(tmp_path / "libnet.so"), None
    x = inputs_of(model, 1)[0] if steps else random.integers(0, 9, (1, 6)).astype("int32")
    state = library.new_state()
    parts = [library.step(state, x[:, t : t + 1]) for t in range(6)]
    found = np.concatenate(parts, axis=1) if steps else parts[-1]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


def test_a_step_of_a_model_that_keeps_more_than_recurrent_states(tmp_path):
    made = layers.Conv1D(4, 3, padding="causal"), layers.GRU(4, return_sequences=True), layers.GlobalMaxPooling1D()
    model = Sequential([Input((6, 3)), *made])
    model.export(tmp_path / "libnet.so", state="explicit", verbose=False)
    library, x = loaded(tmp_path / "libnet.so"), inputs_of(model, 1)[0]
    state = library.new_state()
    for t in range(6):
        y = library.step(state, x[:, t : t + 1])
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


def test_a_step_needs_a_recurrent_layer_that_goes_forward(tmp_path):
    for make, message in (
        (mlp, "has no input with steps"),
        (lambda: Sequential([Input((3, 2)), layers.Dense(2)]), "keeps nothing from step to step"),
        (lambda: Sequential([Input((3, 2)), layers.Bidirectional(layers.LSTM(2))]), "reads each sequence from its end"),
        (lambda: Sequential([Input((3, 2)), layers.Conv1D(2, 2), layers.LSTM(2)]), "windows reach into the future"),
    ):
        with pytest.raises(ValueError, match=message):
            make().export(tmp_path / "libnet.so", state="explicit")
    with pytest.raises(ValueError, match="a library with states has one batch size"):
        lstm_stack().export(tmp_path / "libnet.so", state="explicit", batch=[1, 2])
    assert not list(tmp_path.iterdir())


# -------------------- names and files --------------------

HOSTILE = [
    "*/ int x; /*",
    "class",
    "for",
    "2nd",
    "größe",
    "workspace",
    "state_in",
    "",
    "NULL",
    '"; import os',
    "a b\nc\\",
    "a b c",
]


def test_names_of_any_kind(tmp_path):
    names = [name for name in HOSTILE if name]
    symbols = [Input((2,), name=name) for name in names]
    model = Model(
        symbols,
        [layers.Dense(1, name=f"{name} out")(x) for name, x in zip(names, symbols, strict=True)],
        name="*/ evil \\",
    )
    model.export(tmp_path / "libnet.so", verbose=False)
    inputs = inputs_of(model, 1)
    library = loaded(tmp_path / "libnet.so")
    same_bits(library.predict(*inputs), model.predict(inputs, verbose=0))
    assert [name for name, _, _ in library.INPUTS] == names
    if compiler := shutil.which("cc"):
        for name, language in (("main.c", "c"), ("main.cpp", "c++")):
            (tmp_path / name).write_text('#include "net.h"\nint main(void) { return net_workspace_size() == 0; }\n')
            strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
            subprocess.run([compiler, "-x", language, *strict, str(tmp_path / name)], check=True)


def test_identifiers():
    taken = []
    for text in HOSTILE:
        taken.append(library_files.c_name(text, taken))
    expected = "int_x v_class v_for v_2nd gr_e v_workspace v_state_in model v_NULL import_os a_b_c a_b_c_2"
    assert taken == expected.split()
    prefixes = {
        name: library_files.prefix_of(name) for name in ("libnet.so", "net.v2.so", "lib.so", "math.so", "libclass.so")
    }
    assert list(prefixes.values()) == ["net", "net_v2", "model", "math_model", "class_model"]
    assert library_files.prefix_of("lib9.so") == "model_9"


@pytest.mark.process
@pytest.mark.parametrize(
    "name, module", [("net.so", "net_library"), ("libjson.so", "json_library"), ("libnet.so", "net")]
)
def test_the_module_hides_no_other_one(name, module, tmp_path):
    """Beside `net.so`, `import net` would find the library itself."""
    model, x = mlp(), floats(1, 20)
    model.export(tmp_path / name, verbose=False)
    code = f"import {module}, numpy; print({module}.predict(numpy.zeros((1, 20), 'f4')).tobytes().hex())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == model.predict(x * 0, verbose=0).tobytes().hex()


@pytest.mark.parametrize("name", ["net; rm -rf .so", "-net.so", "$(id).so", "n\net.so", ".so", "net", "é.so"])
def test_names_of_files_are_checked(name, tmp_path):
    with pytest.raises(ValueError, match=r"the name of a library ends in .so and consists of"):
        mlp().export(os.path.join(tmp_path, name), "library")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["libm", "libc", "libpthread", "libdl", "librt", "libgcc_s", "libstdc++", "ld-linux"])
def test_names_of_system_libraries_are_refused(name, tmp_path):
    """A program that needs the mathematics library and finds `libm.so.6`'s namesake first does not start."""
    with pytest.raises(ValueError, match="is the name of a system library.* choose another name"):
        mlp().export(tmp_path / f"{name}.so")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"target": "arm"},
            r"target must be one of 'host', 'x86-64-v4', 'x86-64-v3', 'x86-64-v2', 'aarch64', 'riscv64', received 'arm'",
        ),
        ({"weights": "outside"}, r"weights must be one of 'inside', 'beside', received 'outside'"),
        ({"state": True}, r"state must be one of None, 'explicit', received True"),
        ({"batch": 0}, r"batch must be a positive integer or a list of them, received 0"),
        ({"batch": [1, True]}, r"batch must be a positive integer or a list of them, received \[1, True\]"),
        ({"batch": []}, r"batch must be a positive integer or a list of them, received \[\]"),
    ],
)
def test_options_are_checked(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        mlp().export(tmp_path / "net.so", **options)
    assert not list(tmp_path.iterdir())


def test_formats(tmp_path, monkeypatch):
    for name in ("net.dll", "net.dylib"):
        with pytest.raises(ValueError, match=r"libraries are for Linux: give a name that ends in \.so"):
            mlp().export(tmp_path / name)
    monkeypatch.setattr(export_library_module.sys, "platform", "darwin")
    with pytest.raises(
        ValueError, match=r"libraries can be exported only on Linux \(or WSL\): elsewhere export format='onnx'"
    ):
        mlp().export(tmp_path / "net.so")
    with pytest.raises(ValueError, match=r"format must be 'onnx' or 'library', received 'tflite'"):
        mlp().export(tmp_path / "net.so", "tflite")
    with pytest.raises(TypeError, match=r"an ONNX file has no options batch: these are of format='library'"):
        mlp().export(tmp_path / "net.onnx", batch=3)
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "net.py").write_text("my own script\n")
    with pytest.raises(
        FileExistsError, match=r"net.py' is not from an export, and would be overwritten: choose another"
    ):
        mlp().export(tmp_path / "libnet.so")
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]
    mlp().export(tmp_path / "libother.so", verbose=False)
    mlp().export(tmp_path / "libother.so", verbose=False)  # its own it may replace


def test_after_another_export_the_new_library_is_loaded(tmp_path):
    """The loader of the system would give the old one, as it has the same path."""
    models, x = [mlp() for _ in range(3)], floats(1, 20)
    for model in models:
        model.export(tmp_path / "libnet.so", verbose=False)
        same_bits(loaded(tmp_path / "libnet.so").predict(x), model.predict(x, verbose=0))
    mlp().export(tmp_path / "libother.so", verbose=False)
    (tmp_path / "libnet.so").replace(tmp_path / "libother.so")
    with pytest.raises(
        ImportError, match="libother.so is not the library that was exported with this module: export both"
    ):
        loaded(tmp_path / "libother.so")


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, content):
            self._file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *reason):
            self._file.close()

    model = mlp()
    model.export(tmp_path / "libnet.so", verbose=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.set_weights([w + 1 for w in model.get_weights()])
    monkeypatch.setattr(archive, "open", lambda *args: Full(open(*args)), raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        model.export(tmp_path / "libnet.so", verbose=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.process
def test_a_killed_export_leaves_no_half_file(tmp_path):
    code = (
        "import os, signal, sys\nfrom nbkeras.export import library\nfrom nbkeras import Input, Sequential, layers\n"
        "write = os.fsync\n"
        "def fsync(file):\n    write(file)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = fsync\n"
        "Sequential([Input((2,)), layers.Dense(1)]).export(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "libnet.so")], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not [path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")]


# -------------------- what cannot be --------------------


def test_a_layer_that_needs_python_is_named(tmp_path):
    x = Input((4,))
    reads = Model(x, layers.Lambda(lambda t: t * float(ops.max(t)), output_shape=(4,), name="scaled")(x))
    sorts = Model(x, layers.Lambda(lambda t: ops.searchsorted(ops.convert_to_tensor([0.0, 1.0]), t), name="bins")(x))
    for model, message in (
        (
            reads,
            r"cannot become a library: a tensor's value was read in layer 'scaled' at test_library.py:\d+, which needs Python",
        ),
        (sorts, r"cannot become a library: layer '.*bins': 'search_sorted' .* runs in Python, with NumPy"),
        (
            Sequential([Input((None, 3)), layers.LSTM(2)]),
            r"axis 1 of input '.*' is open, .*input_signature=\[\(None, 16, 3\)\]",
        ),
        (Model(x, ops.sum(layers.Dense(2)(x), axis=0)), r"output '.*' has no row for each of 1 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            model.export(tmp_path / "libnet.so")
    assert not list(tmp_path.iterdir())


@compiled
def _double(x, y):
    if x[0] > 100:
        raise ValueError("too large")
    for i in range(x.size):
        y[i] = x[i] + x[i]


@compiled
def _double_in_new_memory(x, y):
    more = np.empty_like(x)
    more[:] = x
    for i in range(x.size):
        y[i] = more[i] + x[i]


_LARGE = np.ones(300_000, "float32")


@compiled
def _with_a_large_table(x, y):
    for i in range(x.size):
        y[i] = x[i] * _LARGE[i]


def launched(kernel):
    """A model with a kernel of a user."""

    def double(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(kernel, x.reshape(-1), y.reshape(-1))
        return y, None

    x = Input((3,))
    own = layers.Lambda(lambda t: apply(double, None, [t]), output_shape=(3,), name="own")
    return Model(x, own(layers.Activation("relu")(x)))


@pytest.mark.filterwarnings("ignore:nbkeras could not save")
def test_a_kernel_that_is_bound_to_its_process(tmp_path):
    with pytest.raises(
        ValueError, match=r"'_with_a_large_table' .* uses a pointer, or a global array of more than a megabyte"
    ):
        launched(_with_a_large_table).export(tmp_path / "libnet.so")


def test_without_llvmlite_the_error_says_so(tmp_path, monkeypatch):
    model, real = mlp(), importlib.import_module
    model.export(tmp_path / "libnet.so", verbose=False)  # compiles the kernels

    def missing(name, *package):
        if name.startswith("llvmlite"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="llvmlite")
        return real(name, *package)

    monkeypatch.setattr(lazy.importlib, "import_module", missing)
    with pytest.raises(ImportError, match="writing a library needs Numba, which is not installed: pip install"):
        model.export(tmp_path / "libnet.so")


def test_kernels_of_a_user(tmp_path):
    model = launched(_double)
    model.export(tmp_path / "libnet.so", verbose=False)
    library, x = loaded(tmp_path / "libnet.so"), floats(1, 3)
    same_bits(library.predict(x), model.predict(x, verbose=0))
    with pytest.raises(RuntimeError, match="net: a kernel failed"):
        library.predict(x * 0 + 101)
    with pytest.raises(
        ValueError,
        match=r"cannot become a library: '_double_in_new_memory' .* needs 'NRT.*: a kernel must not allocate",
    ):
        launched(_double_in_new_memory).export(tmp_path / "libother.so")


def test_without_a_linker_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(linking.shutil, "which", lambda name: None)
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        FileNotFoundError, match=r"there is none: install gcc or clang, or lld .*or ziglang \(pip install ziglang\)"
    ):
        mlp().export(tmp_path / "libnet.so")
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: name)
    command, is_compiler = linking.linker("aarch64")
    assert is_compiler and command[1:] == ["-m", "ziglang", "cc", "-target", "aarch64-linux-gnu"]
    assert not list(tmp_path.iterdir())


def test_a_linker_that_fails_is_quoted(tmp_path, monkeypatch):
    script = tmp_path / "broken cc"
    script.write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", f"'{script}' -m64")
    with pytest.raises(RuntimeError, match=r"broken cc -m64 could not link the library:\nno such option"):
        mlp().export(tmp_path / "libnet.so")
    assert [path.name for path in tmp_path.iterdir()] == ["broken cc"]


@pytest.mark.skipif(not any(map(shutil.which, ("ld.lld", "ld"))), reason="needs ld or ld.lld")
def test_a_linker_without_a_compiler(tmp_path, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(linking.shutil, "which", lambda name: which(name) if name in ("ld.lld", "ld") else None)
    model, x = mlp(), floats(1, 20)
    model.export(tmp_path / "libnet.so", verbose=False)
    same_bits(loaded(tmp_path / "libnet.so").predict(x), model.predict(x, verbose=0))


def test_inputs_of_the_module_are_checked(tmp_path):
    model = two_and_two()
    model.export(tmp_path / "libnet.so", batch=2, verbose=False)
    library, (left, words) = loaded(tmp_path / "libnet.so"), inputs_of(model, 2)
    expected = model.predict([left, words], verbose=0)
    same_bits(library.predict(left.astype("f8"), words.astype("i8")), expected)
    same_bits(library.predict(left[::-1][::-1], np.asfortranarray(words)), expected)
    same_bits(library.predict(left.tolist(), words.tolist()), expected)
    left.flags.writeable = False
    same_bits(library.predict(left, words), expected)
    assert [y.shape for y in library.predict(left[:0], words[:0])] == [(0, 2), (0, 2, 5)]
    for given, error, message in (
        ([left], ValueError, r"the inputs are \['left', 'words'\], received 1 arrays"),
        (
            [left, words, words],
            ValueError,
            r"the inputs are \['left', 'words'\], received 3 arrays",
        ),
        (
            [{"left": left, "right": words}],
            ValueError,
            r"the inputs are \['left', 'words'\], received \['left', 'right'\]",
        ),
        (
            [left, words * 0.5],
            TypeError,
            r"input 'words' needs numbers that fit into int32, received an array of float64",
        ),
        ([np.array(["a"] * 8).reshape(2, 4), words], TypeError, r"input 'left' needs numbers that fit into float32"),
        ([left[:, :3], words], ValueError, r"input 'left' needs shape \(samples, 4\), received \(2, 3\)"),
        ([left[0], words], ValueError, r"input 'left' needs shape \(samples, 4\), received \(4,\)"),
        ([left, words[:1]], ValueError, r"input 'words' has 1 samples, and 'left' has 2"),
        ([left[:1], words[:1]], ValueError, r"the library computes \[2\] samples at a time, received 1"),
    ):
        with pytest.raises(error, match=message):
            library.predict(*given)


def test_errors_of_the_functions(tmp_path):
    mlp().export(tmp_path / "libnet.so", weights="beside", verbose=False)
    assert "#define NET_NULL_POINTER 2 /* a pointer is NULL */" in (tmp_path / "net.h").read_text()
    library = loaded(tmp_path / "libnet.so")
    x, y, workspace, weights = floats(1, 20), np.empty((1, 10), "f4"), np.empty(10**5, np.uint8), np.zeros(10**5)
    predict = library._functions[1]
    pointers = [array.ctypes.data for array in (x, y, workspace)]
    assert predict(*pointers, library._mapped.ctypes.data) == 0
    assert predict(*pointers, weights.ctypes.data) == 3
    for position in range(4):
        given = [*pointers, library._mapped.ctypes.data]
        given[position] = None
        assert predict(*given) == 2
    mlp().export(tmp_path / "libother.so", weights="beside", verbose=False)
    (tmp_path / "other.weights").replace(tmp_path / "net.weights")
    with pytest.raises(RuntimeError, match="net: the file net.weights belongs to another library"):
        loaded(tmp_path / "libnet.so").predict(x)
    (tmp_path / "net.weights").write_bytes((tmp_path / "net.weights").read_bytes()[:-64])
    with pytest.raises(RuntimeError, match="net: the file net.weights belongs to another library"):
        loaded(tmp_path / "libnet.so")


# -------------------- size, dependencies, targets --------------------


def resnet8():
    def block(x, filters, stride):
        y = layers.Conv2D(filters, 3, stride, padding="same")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        x = x if stride == 1 else layers.Conv2D(filters, 1, stride, padding="same")(x)
        return layers.ReLU()(layers.Add()([x, y]))

    x = Input((32, 32, 3))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    y = block(block(block(y, 16, 1), 32, 2), 64, 2)
    return Model(x, layers.Dense(10, "softmax")(layers.Flatten()(layers.AveragePooling2D(8)(y))))


def test_resnet8_is_smaller_than_a_megabyte(tmp_path):
    model = resnet8()
    assert model.count_params() > 78_000
    model.export(tmp_path / "libnet.so", verbose=False)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000
    x = floats(1, 32, 32, 3)
    same_bits(loaded(tmp_path / "libnet.so").predict(x), model.predict(x, verbose=0))


def test_a_library_needs_nothing_but_the_c_library_and_shows_its_functions_alone(tmp_path):
    readelf = shutil.which("readelf") or pytest.skip("needs readelf")
    cnn().export(tmp_path / "libnet.so", batch=[1, 2], verbose=False)
    told = subprocess.run(
        [readelf, "-dW", "--dyn-syms", str(tmp_path / "libnet.so")], capture_output=True, text=True, check=True
    ).stdout
    needed = {line.split("[")[1].split("]")[0] for line in told.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc.so.6", "libm.so.6"}
    rows = [line.split() for line in told.splitlines() if " GLOBAL " in line]
    assert {row[7] for row in rows if row[6] != "UND"} == {
        *("net_identity", "net_predict", "net_predict_2", "net_workspace_size")
    }
    assert "TEXTREL" not in told


@pytest.mark.process
@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are those of x86-64")
@pytest.mark.parametrize("make", [lstm_stack, quantized_mlp, quantized_cnn])
def test_a_library_for_all_processors_of_a_level(make, tmp_path):
    model = make()
    model.export(tmp_path / "libnet.so", target="x86-64-v3", verbose=False)
    (x,) = inputs_of(model, 3)
    expected = np.concatenate([model.predict(each[None], verbose=0) for each in x])
    np.testing.assert_allclose(loaded(tmp_path / "libnet.so").predict(x), expected, rtol=1e-5, atol=1e-6)


# -------------------- the command and the examples --------------------


def test_the_command(tmp_path, capsys, monkeypatch):
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    model = Sequential([Input((None, 3)), layers.LSTM(4)])
    model.save("my model.keras")
    options = ["--batch", "1,2", "--weights", "beside", "--shape", "5,3"]
    assert main(["compile", "my model.keras", "-o", "new/folder", *options]) == 0
    told = capsys.readouterr().out
    assert (
        "Saved the library at 'new/folder/libmy_model.so', with my_model.h, my_model.py and my_model.weights." in told
    )
    x = floats(3, 5, 3)
    same_bits(loaded(tmp_path / "new/folder/libmy_model.so").predict(x)[:2], model.predict(x[:2], verbose=0))
    with pytest.raises(SystemExit, match="2"):
        main(["compile", "my model.keras"])
    assert "is open" in capsys.readouterr().err


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A folder with the libraries of examples/deploy/."""
    folder = tmp_path_factory.mktemp("deployed")
    arguments, sys.argv = sys.argv, ["make_libraries.py", str(folder), "1"]
    try:
        found = runpy.run_path(str(EXAMPLES / "make_libraries.py"))
    finally:
        sys.argv = arguments
    return folder, found["recognizer"], found["forecaster"], found["x_test"][:40].astype("float32")


def built(source, library, folder):
    compiler = shutil.which("c++" if source.endswith("cpp") else "cc")
    if compiler is None:
        pytest.skip("needs a C and a C++ compiler")
    program = folder / source.partition(".")[0]
    strict = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{folder}", f"-Wl,-rpath,{folder}"]
    subprocess.run([compiler, *strict, str(EXAMPLES / source), str(folder / library), "-o", str(program)], check=True)
    return program


def texts(rows):
    return [f"{row.argmax()}: {' '.join(f'{value:.9g}' for value in row)}" for row in rows]


@pytest.mark.process
def test_a_program_in_c(deployed):
    folder, recognizer, _, images = deployed
    program = built("classify.c", "libdigits.so", folder)
    done = subprocess.run([program], input=images.tobytes(), capture_output=True, check=True)
    expected = np.concatenate([recognizer.predict(images[i : i + 1], verbose=0) for i in range(len(images))])
    assert done.stdout.decode().splitlines() == texts(expected)


@pytest.mark.process
def test_a_program_in_python_with_numpy_alone(deployed):
    folder, recognizer, _, images = deployed
    code = (
        "import runpy, sys\nfor name in ('numba', 'llvmlite', 'nbkeras'): sys.modules[name] = None\n"
        "sys.path.insert(0, '.'); runpy.run_path(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(EXAMPLES / "classify.py")]
    done = subprocess.run(command, input=images.tobytes(), cwd=folder, capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == texts(predicted(recognizer, [images])[0])


@pytest.mark.process
def test_a_program_in_cpp_with_two_threads(deployed):
    folder, _, forecaster, _ = deployed
    program = built("stream.cpp", "libforecast.so", folder)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], "float32")
    steps = np.arange(30, dtype="float32")
    series = np.stack([np.sin(np.float32(speed) * steps) for speed in (0.3, 0.5)])[..., None]
    expected = np.concatenate([forecaster.predict(each[None], verbose=0) for each in series])
    np.testing.assert_allclose(found[:30].T, expected[..., 0], rtol=1e-3, atol=1e-5)


# -------------------- another kind of machine --------------------

START = """
    .globl _start, memcpy, memset
_start:
    ldr x0, =input
    ldr x1, =output
    ldr x2, =workspace
    bl net_predict
    mov x19, x0
    mov x0, #1
    ldr x1, =output
    ldr x2, ={size}
    mov x8, #64
    svc #0
    mov x0, x19
    mov x8, #93
    svc #0
memcpy:
    cbz x2, 2f
    mov x3, x0
1:  ldrb w4, [x1], #1
    strb w4, [x3], #1
    subs x2, x2, #1
    b.ne 1b
2:  ret
memset:
    cbz x2, 2f
    mov x3, x0
1:  strb w1, [x3], #1
    subs x2, x2, #1
    b.ne 1b
2:  ret
    .data
    .balign 64
input:
    .incbin "input.bin"
    .bss
    .balign 64
output: .skip {size}
workspace: .skip 1000000
"""


@pytest.mark.process
@pytest.mark.skipif(
    not all(map(shutil.which, ("qemu-aarch64", "aarch64-linux-gnu-as", "aarch64-linux-gnu-ld"))),
    reason="needs qemu-aarch64 (qemu-user) and the aarch64 assembler and linker (binutils-aarch64-linux-gnu)",
)
@pytest.mark.parametrize("make", [mlp, cnn, quantized_mlp, quantized_cnn, lstm_stack, transformer])
def test_a_library_for_aarch64(make, tmp_path, monkeypatch):
    """Its objects in a program that needs no system but the kernel, in an emulator."""
    monkeypatch.chdir(tmp_path)
    model, taken, link = make(), [], linking.linked
    monkeypatch.setattr(linking, "linked", lambda contents, *rest: taken.append(contents) or link(contents, *rest))
    model.export("libnet.so", target="aarch64", verbose=False)
    assert Path("libnet.so").read_bytes()[18:20] == b"\xb7\0"  # EM_AARCH64
    (x,) = inputs_of(model, 1)
    expected = model.predict(x, verbose=0)
    Path("input.bin").write_bytes(x.tobytes())
    Path("start.s").write_text(START.format(size=expected.nbytes))
    subprocess.run(["aarch64-linux-gnu-as", "start.s", "-o", "start.o"], check=True)
    for number, content in enumerate(taken[0].values()):
        Path(f"{number}.o").write_bytes(content)
    objects = [f"{number}.o" for number in range(len(taken[0]))]
    subprocess.run(["aarch64-linux-gnu-ld", "-o", "program", "start.o", *objects], check=True)
    done = subprocess.run(["qemu-aarch64", "./program"], capture_output=True, check=True)
    np.testing.assert_allclose(np.frombuffer(done.stdout, "f4").reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
