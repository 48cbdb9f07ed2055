"""Models as WebAssembly modules in Node.js: the same numbers as `predict`, nothing imported, and errors that explain."""

import importlib
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from inference_models import floats, inputs_of, lstm_stack, mlp, quantized_cnn, transformer, two_and_two
from javascript import LOADED, TYPES, in_node, needs_node, needs_wasm_linker

from nbkeras import Input, Model, Sequential, layers, ops
from nbkeras.__main__ import main
from nbkeras.export import linking

pytestmark = [
    pytest.mark.process,
    pytest.mark.cpu("WebAssembly is for the CPU"),
    needs_node,
    needs_wasm_linker,
]
needs_ziglang = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs ziglang, which has a C library")
BENCHMARKS, DOCUMENT = (Path(__file__).parents[2] / path for path in ("benchmarks", "docs/deploy.md"))


def predicted(folder, *arrays):
    """The outputs of a module for typed arrays: types and numbers."""
    found = in_node(folder, f"{LOADED}print(model.predict(...given));", *arrays)
    return [found] if isinstance(found[0], str) else found


def is_close(found, expected, tolerance=1e-5):
    expected = expected if isinstance(expected, list) else [expected]
    for (kind, numbers), array in zip(found, expected, strict=True):
        assert kind == TYPES.get(array.dtype.name, f"{array.dtype.name.capitalize()}Array")
        np.testing.assert_allclose(np.array(numbers).reshape(array.shape), array, rtol=tolerance, atol=tolerance)


# -------------------- the same numbers --------------------


@pytest.fixture(scope="module")
def networks():
    """The networks of the benchmarks, and their data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setattr(sys, "argv", ["test", "nbkeras"])
        # tests/reference has a module of this name, which is put back at the end
        patch.setitem(sys.modules, "protocol", None)
        del sys.modules["protocol"]
        patch.setattr(importlib.import_module("protocol"), "serve", lambda prepare: None)
        yield importlib.import_module("run_keras").NETWORKS, importlib.import_module("workloads").NETWORKS


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm_stack", "resnet8", "ds_cnn", "autoencoder"])
def test_a_module_computes_what_predict_does(name, networks, tmp_path):
    makers, data = networks
    model = makers[name](1)
    model.set_weights([w + 0.02 * floats(*w.shape) for w in model.get_weights()])
    (x,), _ = data[name](np.random.default_rng(0), 1)
    model.export(tmp_path / "net.wasm", verbose=False)
    is_close(predicted(tmp_path, x), model.predict(x, verbose=0))
    content = (tmp_path / "net.wasm").read_bytes()
    assert len(content) - sum(w.nbytes for w in model.get_weights()) < 500_000
    assert content.count(b"\xfd\xe6\x01") > 3  # f32x4.mul
    code = "const file = await WebAssembly.compile(readFileSync('net.wasm'));\n"
    code += "print([WebAssembly.Module.imports(file), WebAssembly.Module.exports(file).map(({ name }) => name)]);"
    imports, exports = in_node(tmp_path, code)
    assert imports == []
    assert set(exports) == {"memory", "__heap_base", "net_predict", "net_workspace_size", "net_identity"}


@pytest.mark.parametrize("make", [quantized_cnn, transformer])
def test_other_kernels(make, tmp_path):
    model = make()
    (x,) = inputs_of(model, 1)
    model.export(tmp_path / "net.wasm", verbose=False)
    is_close(predicted(tmp_path, x), model.predict(x, verbose=0))


def test_several_inputs_outputs_and_samples(tmp_path):
    model = two_and_two()
    model.export(tmp_path / "net.wasm", batch=[1, 4], verbose=False)
    inputs = inputs_of(model, 6)
    expected = model.predict(inputs, verbose=0)
    code = (
        LOADED
        + """
    const [left, words] = given;
    print([
      Model.inputs, Model.outputs, model.predict(left, words), model.predict([left, words]), model.predict({ words, left }),
      model.predict({ data: left, shape: [6, 4] }, words), model.predict(left.slice(0, 0), words.slice(0, 0)),
      model.predict([0, 4, 8, 12, 16, 20].map((at) => Array.from(left.slice(at, at + 4))), words),
    ]);"""
    )
    told_inputs, told_outputs, *found, none, last = in_node(tmp_path, code, *inputs)
    for each in (*found, last):
        is_close(each, expected)
    assert none == [["Float32Array", []], ["Float32Array", []]]
    assert told_inputs == [
        {"name": "left", "shape": [4], "dtype": "float32"},
        {"name": "words", "shape": [3], "dtype": "int32"},
    ]
    assert [each["shape"] for each in told_outputs] == [[2], [2, 5]]


def test_dtypes(tmp_path):
    x, n = Input((5,), dtype="float64"), Input((5,), dtype="int64")
    model = Model([x, n], [x * 2, n * 3, x > 0, ops.argmax(x, axis=-1)])
    model.export(tmp_path / "net.wasm", verbose=False)
    inputs = [np.linspace(-1, 1, 5)[None], np.arange(5)[None] - 2**40]
    is_close(predicted(tmp_path, *inputs), model.predict(inputs, verbose=0), 1e-12)


@needs_ziglang
def test_functions_of_the_c_library(tmp_path):
    x = Input((5,))
    model = Model(x, [ops.sin(x), ops.arctan2(x, x * x), ops.erf(x), ops.power(ops.abs(x), 1.5), ops.arcsinh(x)])
    model.export(tmp_path / "net.wasm", verbose=False)
    value = floats(1, 5)
    is_close(predicted(tmp_path, value), model.predict(value, verbose=0), 1e-6)
    assert (
        in_node(tmp_path, "print(WebAssembly.Module.imports(await WebAssembly.compile(readFileSync('net.wasm'))));")
        == []
    )


# -------------------- loading --------------------


def test_where_a_module_comes_from(tmp_path):
    model, x = mlp(), floats(1, 20)
    model.export(tmp_path / "net.wasm", verbose=False)
    expected = model.predict(x, verbose=0)
    code = """
    import { Worker } from "node:worker_threads";
    import Default from "./net.mjs";
    const bytes = readFileSync("net.wasm"), file = await WebAssembly.compile(bytes);
    const sources = ["net.wasm", new URL("net.wasm", import.meta.url), bytes, new Response(bytes), file];
    const found = [];
    for (const source of sources) found.push((await Model.load(source)).predict(given[0]));
    found.push(new Default(await WebAssembly.instantiate(file)).predict(given[0]));
    const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData: [file, given[0]] });
    found.push(await new Promise((resolve) => worker.on("message", resolve)));
    print(found);"""
    (tmp_path / "worker.mjs").write_text("""
    import { parentPort, workerData } from "node:worker_threads";
    import { Model } from "./net.mjs";
    const [file, x] = workerData;
    parentPort.postMessage((await Model.load(file)).predict(x));""")
    found = in_node(tmp_path, code, x)
    assert len(found) == 7
    for each in found:
        is_close([each], expected)


def test_another_export_is_refused(tmp_path):
    for name in ("net", "other"):
        mlp().export(tmp_path / f"{name}.wasm", verbose=False)
    code = 'print(await Model.load("other.wasm").catch((error) => error.message));'
    assert in_node(tmp_path, code) == (
        "the WebAssembly is not the net.wasm that was exported with this file: export both again"
    )
    code = (
        'print(await Model.load(new Response("", { status: 404, statusText: "Not Found" })).catch((e) => e.message));'
    )
    assert "could not be loaded: 404 Not Found" in in_node(tmp_path, code)


# -------------------- errors --------------------


def test_wrong_inputs_are_explained(tmp_path):
    model = two_and_two()
    model.export(tmp_path / "net.wasm", batch=2, verbose=False)
    cases = {
        "left": "Error: the inputs are left, words, received 1 values",
        "left, words, words": "Error: the inputs are left, words, received 3 values",
        "{ left, right: words }": "Error: the inputs are left, words, received left, right",
        "words, words": "TypeError: input left needs a Float32Array (float32), received Int32Array",
        "null, words": "TypeError: input left needs a Float32Array (float32), received null",
        "left.slice(1), words": "Error: input left needs shape (samples, 4), which is 4 numbers for each sample, received "
        "7 numbers",
        "{ data: left, shape: [4, 2] }, words": "Error: input left needs shape (samples, 4), received (4, 2)",
        "{ data: left, shape: [3, 4] }, words": "Error: input left needs shape (samples, 4), which is 4 numbers for each sample, "
        "received 8 numbers",
        "[[1, 2, 3]], words": "Error: input left needs shape (samples, 4), received (1, 3)",
        "[[1, 2, 3, 4], [1]], words": "Error: input left needs shape (samples, 4), received lists of unequal lengths",
        "[['a', 2, 3, 4]], words": "TypeError: input left needs elements of type number, received string",
        "[[undefined, 2, 3, 4]], words": "TypeError: input left needs elements of type number, received undefined",
        "left, words.slice(3)": "Error: input words has 1 samples, and left has 2",
        "left.slice(4), words.slice(3)": "Error: the module computes 2 samples at a time, received 1",
        "left, words": None,
    }
    calls = ", ".join(f"caught(() => model.predict({given}))" for given in cases)
    found = in_node(tmp_path, f"{LOADED}const [left, words] = given;\nprint([{calls}]);", *inputs_of(model, 2))
    assert found == list(cases.values())


def test_a_kernel_that_fails(tmp_path):
    x, index = Input((4,)), Input((3,), dtype="int64")
    model = Model([x, index], ops.take_along_axis(x, index, axis=1))
    model.export(tmp_path / "net.wasm", verbose=False)
    code = f"{LOADED}print([caught(() => model.predict(given[0], [[0n, 9n, 1n]])), model.predict(given[0], [[0n, 3n, 1n]])]);"
    value = floats(1, 4)
    error, found = in_node(tmp_path, code, value)
    assert error == "Error: net: a kernel failed"
    is_close([found], value[:, [0, 3, 1]])


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("net.wasm", {"target": "aarch64"}, "target of a WebAssembly module must be 'wasm32', received 'aarch64'"),
        ("net.wasm", {"weights": "beside"}, "weights of a WebAssembly module must be 'inside', received 'beside'"),
        ("net.wasm", {"state": "explicit"}, "state of a WebAssembly module must be None, received 'explicit'"),
        ("net.wasm", {"batch": 0}, "batch must be a positive integer or a list of them, received 0"),
        (".wasm", {}, "the name of a WebAssembly module ends in .wasm and consists of the letters"),
        ("a b.wasm", {}, "the name of a WebAssembly module ends in .wasm and consists of the letters"),
        ("net.so", {"target": "wasm32"}, "target must be one of 'host', .*'riscv64', received 'wasm32'"),
    ],
)
def test_options_are_checked(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        mlp().export(tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_in_a_module(tmp_path):
    x = Input((4,))
    sorts = Model(x, layers.Lambda(lambda t: ops.searchsorted(ops.convert_to_tensor([0.0, 1.0]), t), name="bins")(x))
    states = Sequential([Input(batch_shape=(1, 3, 4)), layers.LSTM(2, stateful=True)])
    for model, message in (
        (sorts, "cannot become a library: layer '.*bins': 'search_sorted' .* runs in Python, with NumPy"),
        (states, "has states, which predictions of a WebAssembly module cannot keep"),
    ):
        with pytest.raises(ValueError, match=message):
            model.export(tmp_path / "net.wasm")
    assert not list(tmp_path.iterdir())


def test_without_a_linker_the_error_says_what_to_install(tmp_path, monkeypatch):
    find, which = linking.importlib.util.find_spec, shutil.which
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name))
    monkeypatch.setattr(linking.shutil, "which", lambda name: None if name == "wasm-ld" else which(name))
    message = (
        r"linking a WebAssembly module needs a linker, and there is none: install wasm-ld .*\(pip install ziglang\)"
    )
    with pytest.raises(FileNotFoundError, match=message):
        mlp().export(tmp_path / "net.wasm")
    assert not list(tmp_path.iterdir())


def test_without_a_c_library_the_error_names_its_functions(tmp_path, monkeypatch):
    find, linker = linking.importlib.util.find_spec, linking.wasm_linker()
    monkeypatch.setattr(linking, "wasm_linker", lambda: linker)
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name))
    x = Input((5,))
    with pytest.raises(FileNotFoundError, match="the model uses sinf of the C library, .*: install ziglang"):
        Model(x, ops.sin(x)).export(tmp_path / "net.wasm")
    assert not list(tmp_path.iterdir())


def test_a_linker_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(linking, "wasm_linker", lambda: ["sh", "-c", "echo no such option >&2; exit 1"])
    with pytest.raises(RuntimeError, match="could not link the library:\nno such option"):
        mlp().export(tmp_path / "net.wasm")
    assert not list(tmp_path.iterdir())


# -------------------- files --------------------


def test_types(tmp_path, capsys):
    names = ["left image", "class", "*/ x", "yield"]
    inputs = [Input((2,), name=names[0]), *(Input((2,), dtype="int64", name=name) for name in names[1:])]
    joined = layers.Concatenate()([inputs[0], *(ops.cast(each, "float32") for each in inputs[1:])])
    outputs = [layers.Dense(3, name="scores")(joined), joined > 0]
    Model(inputs, outputs, name="*/ evil").export(tmp_path / "my-net.wasm")
    assert "Saved the library at" in (told := capsys.readouterr().out)
    assert "with my-net.mjs, my-net.d.ts and my-net.d.mts." in told
    text = (tmp_path / "my-net.d.ts").read_text()
    assert text == (tmp_path / "my-net.d.mts").read_text()
    wanted = "left_image: Numbers<Float32Array, number>, v_class: Numbers<BigInt64Array, bigint>, x: Numbers<.*>, v_yield: Numb"
    assert re.search(rf"  predict\({wanted}.*\): \[scores: Float32Array, .*: Uint8Array\];\n", text)
    assert '"left image": Numbers<Float32Array, number>; "class": ' in text
    assert "static load(source?: string | URL | Response | BufferSource | WebAssembly.Module): Promise<Model>;" in text
    assert '   * input "left image": (samples, 2) float32\n' in text
    assert "my-net.wasm" in (tmp_path / "my-net.mjs").read_text()
    shutil.copy(tmp_path / "my-net.mjs", tmp_path / "net.mjs")
    given = "{ 'left image': [[1, 2]], class: [[3n, 4n]], '*/ x': [[5n, 6n]], yield: [[7n, 8n]] }"
    assert in_node(tmp_path, f"{LOADED}print(model.predict({given}));")[1] == ["Uint8Array", [1] * 8]


def test_the_documented_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = DOCUMENT.read_text().partition("## In a browser")[2]
    (python,) = re.findall(r"^```python no-run.*?\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    (javascript,) = re.findall(r"^```js\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    exec(python, {})
    (tmp_path / "main.mjs").write_text(javascript)
    done = subprocess.run(["node", "main.mjs"], capture_output=True, text=True, check=True)
    assert done.stdout == "3 [ 3 ]\n"


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "net.d.ts").write_text("my own types\n")
    with pytest.raises(FileExistsError, match=r"net.d.ts' is not from an export, and would be overwritten"):
        mlp().export(tmp_path / "net.wasm")
    assert [path.name for path in tmp_path.iterdir()] == ["net.d.ts"]


def test_the_command(tmp_path, capsys, monkeypatch):
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    model = lstm_stack()
    model.save("net.keras")
    assert main(["compile", "net.keras", "-o", "web", "--target", "wasm32"]) == 0
    assert "Saved the library at 'web/net.wasm', with net.mjs, net.d.ts and net.d.mts." in capsys.readouterr().out
    (x,) = inputs_of(model, 1)
    is_close(predicted(tmp_path / "web", x), model.predict(x, verbose=0))
