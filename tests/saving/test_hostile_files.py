"""Files made to harm: each published advisory against Keras's loader of 2024 to 2026, and other attacks, lead to an error;
nothing is executed, nothing is written, no memory is taken.
"""

import base64
import errno
import io
import json
import marshal
import math
import os
import pickle
import re
import resource
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from nbkeras import layers, saving, utils
from nbkeras.data import unpacking
from nbkeras.models import Sequential, load_model, model_from_json
from nbkeras.preprocessing.text import tokenizer_from_json
from nbkeras.saving import archive, hdf5

RAN = []  # code of a file would write here


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The members of a good `.keras` file, and the bytes of a good `.h5` file."""
    folder = tmp_path_factory.mktemp("good")
    model = Sequential(
        [layers.Dense(5, activation="tanh", input_shape=(3,), name="first"), layers.Dense(2, name="second")], name="s"
    )
    model.compile("sgd", "mse")
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    with zipfile.ZipFile(folder / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return {**members, "m.h5": (folder / "m.h5").read_bytes()}


@pytest.fixture(autouse=True)
def harmless(tmp_path, monkeypatch):
    """Every test touches only its own files, runs no code of a file and takes little memory."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 96 << 20 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    own = {"m.keras", "m.h5", "w.weights.h5", "w.safetensors", "w.weights.json", "a.tar", "cache", "other.h5"}
    assert not RAN and set(os.listdir(tmp_path)) <= own


def zipped(good, method=zipfile.ZIP_STORED, **changes):
    """m.keras with some members other than in the good one; None leaves one out."""
    members = {name: good[name] for name in ("metadata.json", "config.json", "model.weights.h5")} | changes
    with zipfile.ZipFile("m.keras", "w", method) as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return "m.keras"


def configured(good, change):
    """m.keras with `change(config)` made to its configuration."""
    config = json.loads(good["config.json"])
    return zipped(good, **{"config.json": json.dumps(change(config) or config)})


def weighted(good, change):
    """m.keras with `change(file)` made to its HDF5 file."""
    buffer = io.BytesIO(good["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        change(file)
    return zipped(good, **{"model.weights.h5": buffer.getvalue()})


def changed_hdf5(good, change):
    """A file of Keras 2's format in memory, with `change(file)` made to it."""
    buffer = io.BytesIO(good["m.h5"])
    with h5py.File(buffer, "a") as file:
        change(file)
    return buffer


def overwritten(good, mark, offset, number, form="<I"):
    """m.keras with another number behind a mark of the archive's directory."""
    data = bytearray(Path(zipped(good)).read_bytes())
    struct.pack_into(form, data, data.rindex(mark) + offset, number)
    Path("m.keras").write_bytes(data)
    return "m.keras"


def first_layer(**changes):
    return lambda config: config["config"]["layers"][1].update(changes)


def first_config(**changes):
    return lambda config: config["config"]["layers"][1]["config"].update(changes)


def other_layer(kind, **config):
    return first_layer(class_name=kind, config={"name": "l", **config})


def compiled(**changes):
    return lambda config: config["compile_config"].update(changes)


def refused(path, match, load=load_model, **options):
    with pytest.raises(ValueError, match=match):
        load(path, **options)


# -------------------- configurations that name code --------------------


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def code():
    return base64.b64encode(marshal.dumps((lambda x: RAN.append(x)).__code__)).decode()


LAMBDA = {"class_name": "__lambda__", "config": {"value": [code(), None, None]}}
SYSTEM = {"module": "os", "class_name": "system", "config": {}}
DOWNLOAD = {"origin": "file:///etc/passwd", "cache_dir": ".", "force_download": True}
PICKLE = base64.b64encode(b"cos\nsystem\n").decode()
NAMING = {
    "CVE-2025-1550 a class of any module": first_layer(module="os", class_name="system"),
    "CVE-2025-1550 Keras's own name, another module": first_layer(module="subprocess", class_name="Dense"),
    "CVE-2025-1550 a function of any module": first_config(activation=function("os", "system")),
    "CVE-2025-1550 a function of builtins": first_config(activation=function("builtins", "exec")),
    "CVE-2025-1550 a registered name": first_layer(registered_name="os.system", class_name="system"),
    "CVE-2025-1550 the model itself": lambda config: config.update(module="os", class_name="system"),
    "CVE-2025-1550 an initializer": first_config(kernel_initializer=SYSTEM),
    "CVE-2025-8747 a function that downloads": other_layer(
        "Lambda", function=function("keras.utils", "get_file"), arguments=DOWNLOAD
    ),
    "CVE-2025-9906 a function that ends safe mode": first_config(
        activation=function("keras.config", "enable_unsafe_deserialization")
    ),
    "CVE-2025-9906 as an op": first_layer(module="keras.src.ops.numpy", class_name="enable_unsafe_deserialization"),
    "CVE-2024-3660 a Lambda layer's code": other_layer("Lambda", function=LAMBDA),
    "CVE-2024-3660 a lambda elsewhere": first_config(activation=LAMBDA),
    "CVE-2025-12058 a layer that reads a file": other_layer("StringLookup", vocabulary="/etc/passwd"),
    "CVE-2025-49655 a layer that unpickles": other_layer("TorchModuleWrapper", module=PICKLE),
    "CVE-2026-1462 a layer that loads a program": other_layer("TFSMLayer", filepath="/tmp/saved_model"),
    "an op that Keras does not have": other_layer("Operation", function="__import__"),
    "a private name": first_layer(class_name="_Conv"),
    "bytes": first_config(activation={"class_name": "__bytes__", "config": {"value": "x"}}),
    "a loss": compiled(loss=function("os", "system")),
    "an optimizer": compiled(optimizer=SYSTEM),
}


@pytest.mark.parametrize("name", NAMING)
@pytest.mark.parametrize("safe_mode", [True, False])
def test_a_configuration_names_no_code(good, name, safe_mode):
    path = configured(good, NAMING[name])
    refused(path, "unknown|not an op|code|bytes|holds|names a file", safe_mode=safe_mode)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    if name not in ("a loss", "an optimizer"):
        refused(config, "unknown|not an op|code|bytes|holds|names a file", model_from_json)


@pytest.mark.parametrize("safe_mode", [True, False])
@pytest.mark.parametrize("function", [[code(), None, None], code(), "os.system"])
def test_lambda_in_hdf5(good, safe_mode, function):
    """CVE-2025-9905: safe_mode did not hold for HDF5."""

    def change(file):
        config = json.loads(file.attrs["model_config"])
        layer = {"name": "l", "function": function, "function_type": "lambda", "module": "os", "arguments": {}}
        config["config"]["layers"][1] = {"class_name": "Lambda", "config": layer}
        file.attrs["model_config"] = json.dumps(config)

    refused(changed_hdf5(good, change), "runs no code", safe_mode=safe_mode)


@pytest.mark.parametrize(
    "read, error, message",
    [
        (layers.deserialize, TypeError, "Lambda needs a function of tensors"),
        (lambda config: layers.Lambda.from_config(config["config"]), TypeError, "Lambda needs a function of tensors"),
        (saving.deserialize_keras_object, ValueError, "nbkeras runs no code of files"),
    ],
)
def test_lambda_outside_of_load_model(read, error, message):
    """CVE-2026-12481: Keras's guard held within load_model only."""
    with pytest.raises(error, match=message):
        read({"class_name": "Lambda", "config": {"name": "l", "function": LAMBDA}})


def test_names_that_are_paths(good, tmp_path):
    """CVE-2026-12479: a layer's name became a folder."""
    name = "../../../evil"
    path = configured(good, lambda config: first_layer(name=name)(config) or first_config(name=name)(config))
    model = load_model(path)
    assert model.layers[0].name == name
    model.save("m.keras")
    model.save("m.h5")
    model.save_weights("w.weights.h5")
    assert load_model("m.keras").layers[0].name == load_model("m.h5").layers[0].name == name


def test_what_is_passed_or_registered_is_found(good):
    double = other_layer("Lambda", function=LAMBDA, arguments={})
    path = configured(good, lambda config: double(config) or config["config"]["layers"].__delitem__(2))
    model = load_model(path, custom_objects={"l": lambda x: x * 2}, compile=False)
    assert model.predict(np.ones((1, 3)), verbose=0).tolist() == [[2.0, 2.0, 2.0]]


MISSHAPEN = {
    "a model without layers": {"class_name": "Model", "config": {}},
    "a functional model without layers": {"class_name": "Functional", "config": {"layers": None}},
    "a number for layers": {"class_name": "Sequential", "config": {"layers": 5}},
    "an argument too many": {"class_name": "Dense", "config": {"unit": 5}},
    "a slice of a list": {"class_name": "__slice__", "config": []},
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_configurations_of_another_form(name):
    refused(MISSHAPEN[name], "^the configuration", saving.model_from_config)
    refused(json.dumps(MISSHAPEN[name]), "^the configuration", model_from_json)
    if "without layers" not in name:
        refused(MISSHAPEN[name], "^the configuration", saving.deserialize_keras_object)


@pytest.mark.parametrize("name", ["Stepper", "Trainer", "Spatial", "Convolving", "Merge", "Lookup", "Images"])
def test_what_layers_are_made_of_has_no_name(name):
    """A file can make only objects that a user may make."""
    refused({"class_name": name, "config": {}}, "unknown layer", saving.model_from_config)


def test_nested_too_deeply(good):
    for depth in (300, 1_000, 100_000):
        text = json.dumps({"class_name": "Sequential", "config": 0}).replace("0", "[" * depth + "]" * depth)
        refused(zipped(good, **{"config.json": text}), "nested")
        refused(text, "nested", model_from_json)


@pytest.mark.parametrize(
    "config", [b"", b"[]", b"{", b'"x"', b"{}", b'{"class_name": 3}', b"\xff\xfe", b'{"class_name": "Sequential"}']
)
def test_configurations_that_are_none(good, config):
    refused(zipped(good, **{"config.json": config}), "JSON|dict|configuration")


# -------------------- archives --------------------


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "c:evil", "assets/../../evil"])
def test_members_that_point_out_of_the_archive(good, name):
    refused(zipped(good, **{name: b"x"}), "points outside of it")


def test_links_two_of_a_name_and_encryption(good):
    with zipfile.ZipFile(zipped(good), "a") as archive:
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refused("m.keras", "points outside of it")
    with (
        zipfile.ZipFile(zipped(good), "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name: 'config.json'"),
    ):
        archive.writestr("config.json", b"{}")
    refused("m.keras", "the archive has two members 'config.json'")
    refused(overwritten(good, b"PK\x01\x02", 8, 1, "<H"), "member 'model.weights.h5' is encrypted")


def test_zip_bombs(good):
    refused(zipped(good, zipfile.ZIP_DEFLATED, **{"config.json": b" " * (32 << 20)}), "unpacks to")
    zeros = b"\x89HDF\r\n\x1a\n" + b"\0" * (32 << 20)
    refused(zipped(good, zipfile.ZIP_DEFLATED, **{"model.weights.h5": zeros}), "unpacks to")
    refused(overwritten(good, b"PK\x01\x02", 24, 0xFFFFFFF0), "unpacks to|truncated|damaged")  # states 4 GB


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_zip_bombs_that_lie_about_their_size(good, method, name):
    """zipfile unpacks such members whole, past the size that the archive states."""
    zipped(good, **{name: None})
    with zipfile.ZipFile("m.keras", "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(name, b" " * (1 << 24))
        archive.getinfo(name).compress_type, archive.getinfo(name).file_size = method, 1 << 20  # in the directory
    refused("m.keras", f"{name}' is compressed by method {method}, expected 0")
    refused("m.keras", f"is compressed by method {method}", load_model(io.BytesIO(good["m.h5"])).load_weights)
    refused("m.keras", f"is not unpacked: .* by method {method}", lambda path: unpacking.extract(path, "cache"))


@pytest.mark.parametrize(
    "mark, offset, past_the_end",
    [(b"PK\x01\x02", 42, -1), (b"PK\x01\x02", 42, 2**32 - 2), (b"PK\x05\x06", 16, 0)],
    ids=["a member at the end", "a member beyond", "the directory"],
)
def test_archives_whose_parts_are_elsewhere(good, mark, offset, past_the_end):
    place = past_the_end if past_the_end > 0 else Path(zipped(good)).stat().st_size + past_the_end
    refused(overwritten(good, mark, offset, place), "damaged|not a model file|truncated")


def test_pickles_instead_of_weights(good):
    class Evil:
        def __reduce__(self):
            return RAN.append, ("pickle",)

    buffer = io.BytesIO()
    np.savez(buffer, **{"layers/dense/vars": np.array([Evil()], dtype=object)})
    refused(zipped(good, **{"model.weights.h5": None, "model.weights.npz": buffer.getvalue()}), "no model.weights.h5")
    for data in (pickle.dumps(Evil()), buffer.getvalue()):
        Path("m.keras").write_bytes(data)
        refused("m.keras", "not a model|has no metadata")
    npy = io.BytesIO()
    np.save(npy, np.array([Evil()], dtype=object))
    index = {"path": "first/kernel", "file": "weights/0", "shape": [3, 5]}
    metadata = json.dumps({"format": "nbkeras-1", "weights": [index] * 4})
    refused(
        zipped(good, **{"metadata.json": metadata, "weights/0": npy.getvalue()}),
        "no array|not an array|in the file|truncated|Object|shape",
    )


@pytest.mark.parametrize("header", [b"{'descr': '<f4', (", b"{'descr': 3}", b"(", b"\xff", b"[1]", b"{" * 3000, b"1 1"])
@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
def test_headers_of_arrays(good, header, version):
    size = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    array = b"\x93NUMPY" + version + size + header + bytes(60)
    entries = [{"path": "first/kernel", "file": "weights/0", "shape": [3, 5]}] * 4
    metadata = json.dumps({"format": "nbkeras-1", "weights": entries})
    path = zipped(good, **{"metadata.json": metadata, "weights/0": array})
    refused(path, "is not an array")


@pytest.mark.parametrize("cut", [0, 10, 100, 0.5, 0.99])
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_files_that_are_cut_short_or_of_another_program(good, name, cut):
    data = good["m.h5"] if name == "m.h5" else Path(zipped(good)).read_bytes()
    Path(name).write_bytes(data[: cut if isinstance(cut, int) else int(len(data) * cut)])
    refused(name, "truncated|damaged|not a model")
    Path(name).write_bytes(b"hello, I am a text")
    refused(name, "not a model or weights file")


@pytest.mark.grid
def test_bytes_that_changed(good):
    """Any byte of the weights may be wrong: a ValueError, or other numbers; nothing else."""
    random = np.random.default_rng(0)
    for data, name in ((good["m.h5"], "m.h5"), (Path(zipped(good)).read_bytes(), "m.keras")):
        for _ in range(60):
            changed = bytearray(data)
            for place in random.integers(0, len(data), 4):
                changed[place] = random.integers(256)
            Path(name).write_bytes(changed)
            try:
                load_model(name)
            except ValueError:
                pass


MARKS = [b"GCOL", b"TREE", b"SNOD", b"HEAP", b"model_config", b"layer_names", b"weight_names", b"name\0", b"PK\x01\x02"]


def near_marks(data, random):
    """data with numbers changed near where HDF5's and zip's structures and attributes begin."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        places = [found.start() for found in re.finditer(re.escape(MARKS[random.integers(len(MARKS))]), data)] or [0]
        at = min(places[random.integers(len(places))] + int(random.integers(64)), len(data) - 8)
        numbers = (0, 1, 16, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 16, len(data) - 1, at)
        size = int(random.choice([1, 2, 4, 8]))
        changed[at : at + size] = struct.pack("<Q", numbers[random.integers(len(numbers))])[:size]
    return bytes(changed)


ODD = [
    0,
    -1,
    10**9,
    10**300,
    1.5,
    True,
    None,
    "",
    "relu",
    "Trainer",
    "Functional",
    "float64",
    [],
    {},
    [[]],
    [None, 10**9],
]


def edited(config, random):
    """A configuration with a value changed, taken out or put in another's place."""
    places = []
    todo = [config]
    while todo:
        each = todo.pop()
        for key in each if isinstance(each, dict) else range(len(each)):
            places.append((each, key))
            if isinstance(each[key], dict | list):
                todo.append(each[key])
    (to, key), (other, name) = (places[random.integers(len(places))] for _ in range(2))
    how = random.integers(4)
    if how == 0:
        del to[key]
    else:
        to[key] = json.loads(json.dumps(other[name] if how == 1 else ODD[random.integers(len(ODD))]))
    return config


@pytest.mark.grid
def test_structures_that_changed(good):
    """Seeds from a longer search that found no other error, no slow load and no large allocation."""
    random = np.random.default_rng(1)
    model = load_model(io.BytesIO(good["m.h5"]))
    loads = {
        "m.h5": (lambda: good["m.h5"], near_marks, load_model),
        "w.weights.h5": (lambda: good["model.weights.h5"], near_marks, model.load_weights),
        "m.keras": (lambda: Path(zipped(good)).read_bytes(), near_marks, load_model),
        "config.json": (
            lambda: json.loads(good["config.json"]),
            edited,
            lambda text: load_model(configured(good, text)),
        ),
    }
    start = time.process_time()
    for name, (whole, change, load) in loads.items():
        for _ in range(16):
            changed = change(whole(), random)
            if name != "config.json":
                Path(name).write_bytes(changed)
            try:
                load(name if name != "config.json" else lambda _, changed=changed: changed)
            except ValueError:
                pass
    assert time.process_time() - start < 60


# -------------------- HDF5 --------------------

KERNEL = "layers/dense/vars/0"


def replaced(path=KERNEL, **options):
    def change(file):
        del file[path]
        file.create_dataset(path, **options)

    return change


def virtual(file):
    layout = h5py.VirtualLayout((3, 5), "f4")
    layout[...] = h5py.VirtualSource("secret", "data", (3, 5))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def link(target, path=KERNEL):
    def change(file):
        del file[path]
        file[path] = target

    return change


def itself(file):
    del file["layers/dense/vars"]
    file["layers/dense/vars"] = file["layers"]


def deflated(times):
    """A chunk of 60 bytes that unpacks to a megabyte, since HDF5 unpacks all that it finds."""

    def change(file):
        del file[KERNEL]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3, 5))
        for _ in range(times):
            plist.set_deflate(9)
        space, group = h5py.h5s.create_simple((3, 5)), file[os.path.dirname(KERNEL)]
        data = bytes(1 << 20)
        for _ in range(times):
            data = zlib.compress(data)
        h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, plist).write_direct_chunk((0, 0), data)

    return change


GIANT = replaced(shape=(50_000_000, 50_000_000), dtype="f4", chunks=(10, 10), compression="gzip")
DATA = {
    "CVE-2026-1669 data in another file": (
        replaced(shape=(3, 5), dtype="f4", external=[("/etc/passwd", 0, 60)]),
        "outside of the file",
    ),
    "CVE-2026-1669 a link to another file": (link(h5py.ExternalLink("other.h5", "/data")), "ExternalLink"),
    "CVE-2026-1669 a group in another file": (link(h5py.ExternalLink("other.h5", "/"), "layers/dense"), "ExternalLink"),
    "a link to another place": (link(h5py.SoftLink("/layers/dense_1/vars/0")), "SoftLink"),
    "a virtual dataset": (virtual, "outside of the file"),
    "CVE-2026-0897 a giant shape": (GIANT, "shape"),
    "CVE-2026-0897 a giant shape without data": (replaced(shape=(2**40,), dtype="f8", chunks=(1024,)), "shape"),
    "another rank": (replaced(shape=(15,), dtype="f4"), "shape"),
    "objects": (replaced(data=np.array([["x"] * 5] * 3, dtype=object), dtype=h5py.string_dtype()), "no plain numbers"),
    "arrays of any length": (replaced(shape=(3, 5), dtype=h5py.vlen_dtype("f4")), "no plain numbers"),
    "records": (replaced(shape=(3, 5), dtype=[("a", "f4"), ("b", "f4")]), "no plain numbers"),
    "texts": (replaced(data=np.zeros((3, 5), "S4")), "no plain numbers"),
    "opaque bytes": (replaced(data=np.zeros((3, 5), "V1000")), "no plain numbers"),
    "no data": (replaced(data=h5py.Empty("f4")), "no plain numbers"),
    "references": (replaced(shape=(3, 5), dtype=h5py.ref_dtype), "no plain numbers"),
    "a group that contains itself": (itself, "belong to different models|no array"),
    "a group for an array": (link(h5py.SoftLink("/layers")), "SoftLink"),
    "an unknown filter": (replaced(shape=(3, 5), dtype="f4", chunks=(3, 5), compression="lzf"), "filters"),
    "a chunk larger than the array": (
        replaced(data=np.ones((3, 5), "f4"), maxshape=(None, None), chunks=(2200, 2200), compression="gzip"),
        "chunks",
    ),
    "a chunk that unpacks to more than it holds": (deflated(1), "a chunk that unpacks to more bytes"),
    "a chunk that is compressed twice": (deflated(2), r"filters \[1, 1\]"),
    "a link on the way": (link(h5py.SoftLink("/layers/dense_1"), "layers/dense"), "SoftLink"),
    "too few": (lambda file: file.__delitem__(KERNEL), "belong to different models"),
    "a giant optimizer state": (replaced("optimizer/vars/1", shape=(2**40,), dtype="f4", chunks=(1024,)), "shape"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_is_not_in_the_file_or_not_of_the_model(good, name):
    with h5py.File("other.h5", "w") as other:
        other["data"] = np.ones((3, 5), "f4")
    change, message = DATA[name]
    path = weighted(good, change)
    refused(path, message)
    with zipfile.ZipFile(path) as archive:
        Path("w.weights.h5").write_bytes(archive.read("model.weights.h5"))
    if "optimizer" not in name:
        model = load_model(zipped(good))
        before = model.get_weights()
        refused("w.weights.h5", message, model.load_weights)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


class Reads(layers.Dense):
    """A user's layer that reads arrays by name: their shapes are not known before."""

    def load_own_variables(self, store):
        self.kernel.assign(store["0"][:3, :5])


def test_a_giant_array_that_a_users_layer_asks_for(good):
    weights = io.BytesIO(good["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        GIANT(file)
        file.move("layers/dense", "layers/reads")
        file.move("layers/dense_1", "layers/dense")
    config = json.loads(good["config.json"])
    first_layer(class_name="Reads", module=None)(config)
    path = zipped(good, **{"config.json": json.dumps(config), "model.weights.h5": weights.getvalue()})
    refused(path, "but 0 are stored", custom_objects={"Reads": Reads})


@pytest.mark.parametrize(
    "chunk, again, message",
    [
        ((1 << 20,), 40, "all arrays read may take .* bytes more"),
        ((1 << 20,), 0, "all arrays read may take .* bytes more"),
        ((64,), 0, "more names, groups, arrays and chunks"),
    ],
)
def test_arrays_of_unknown_shapes_take_no_more_than_their_file_allows(good, chunk, again, message):
    """Each alone is allowed; they are many, or one of many names, or of many chunks."""
    Path("w.weights.h5").write_bytes(good["model.weights.h5"])
    with h5py.File("w.weights.h5", "a") as file:
        group = file[os.path.dirname(KERNEL)]
        for number in range(1 if again else 40):
            group.create_dataset(f"x{number}", (1 << 20,), "f4", chunks=chunk)
        for number in range(again):
            group[f"y{number}"] = group["x0"]
    refused("w.weights.h5", message, saving.KerasFileEditor)
    index = {"weight_map": {"/" + os.path.dirname(KERNEL): "w.weights.h5"}}
    Path("w.weights.json").write_text(json.dumps(index))
    refused("w.weights.json", message, load_model(zipped(good)).load_weights)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}])
def test_arrays_in_chunks_are_read(good, options):
    """Among them one of which a chunk is not stored, and one without items."""
    Path("w.weights.h5").write_bytes(good["model.weights.h5"])
    kernel = np.random.default_rng(0).normal(size=(3, 5)).astype("f4")
    with h5py.File("w.weights.h5", "a") as file:
        replaced(data=kernel, chunks=(2, 2), **options)(file)
        group = file[os.path.dirname(KERNEL)]
        group.create_dataset("part", (4, 4), "f4", chunks=(2, 2), fillvalue=3, **options)[:2] = 1
        group.create_dataset("none", (0, 4), "f4", chunks=(2, 2), maxshape=(None, 4), **options)
    found = saving.KerasFileEditor("w.weights.h5").weights_dict["layers"]["dense"]
    assert np.array_equal(found["0"], kernel) and found["none"].shape == (0, 4)
    assert found["part"].tolist() == [[1] * 4] * 2 + [[3] * 4] * 2


def attributes(path="/", **changes):
    return lambda file: file[path].attrs.update(changes)


def giant_layer(file):
    file.attrs["model_config"] = file.attrs["model_config"].replace('"units": 5', '"units": 500000000000')


NAMES = "model_weights"
HDF5 = {
    "no configuration": (lambda file: file.attrs.__delitem__("model_config"), "only weights"),
    "a number for a configuration": (attributes(model_config=3.5), "no string"),
    "bytes that are no text": (attributes(model_config=np.void(b"\xff\x00")), "is not read|no string|not JSON"),
    "a list for a configuration": (attributes(model_config=["a", "b"]), "no string"),
    "a layer of another name": (attributes(NAMES, layer_names=[b"first", b"../../first"]), "weights|no array"),
    "a weight that is elsewhere": (
        attributes(f"{NAMES}/first", weight_names=[b"../second/kernel:0", b"first/bias:0"]),
        "no array",
    ),
    "data in another file": (
        link(h5py.ExternalLink("other.h5", "/data"), f"{NAMES}/first/s/first/kernel:0"),
        "ExternalLink",
    ),
    "a giant layer": (giant_layer, "too much for a file of this size"),
    # each takes a byte, and each is a layer's that is looked for
    "thousands of empty names": (
        attributes(NAMES, layer_names=np.zeros(60_000, "S1")),
        "links to more names, groups, arrays and chunks",
    ),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_of_keras_2(good, name):
    change, message = HDF5[name]
    refused(changed_hdf5(good, change), message)


def heap_objects(data):
    """The positions at which the objects of the first heap of texts begin."""
    at = data.index(b"GCOL") + 16
    while struct.unpack_from("<H", data, at)[0]:
        yield at
        at += 16 + -(-struct.unpack_from("<Q", data, at + 8)[0] // 8) * 8


def heap_places(data):
    """The positions at which attributes name the heap of their text."""
    heap, at = struct.pack("<Q", data.index(b"GCOL")), -1
    while (at := data.find(heap, at + 1)) >= 0:
        if 0 < struct.unpack_from("<I", data, at + 8)[0] < 100:
            yield at


HEAPS = {  # each hangs HDF5 2.0, or makes it take gigabytes, if it reads the text
    "an object without an end": ("object", lambda data, at: data.__setitem__(slice(at, at + 16), bytes(16))),
    "an object around the address space": ("object", lambda data, at: struct.pack_into("<Q", data, at + 8, 2**64 - 16)),
    "an object beyond the heap": ("object", lambda data, at: struct.pack_into("<Q", data, at + 8, 2**40)),
    "a heap without an end": ("object", lambda data, at: struct.pack_into("<Q", data, data.index(b"GCOL") + 8, 2**63)),
    "a heap of nothing": ("object", lambda data, at: struct.pack_into("<Q", data, data.index(b"GCOL") + 8, 0)),
    "a text of 4 GB": ("place", lambda data, at: struct.pack_into("<I", data, at - 4, 2**32 - 1)),
    "a text in no heap": ("place", lambda data, at: struct.pack_into("<Q", data, at, 2**64 - 8)),
    "a text in another heap": ("place", lambda data, at: struct.pack_into("<Q", data, at, 512)),
    "a text that is not there": ("place", lambda data, at: struct.pack_into("<I", data, at + 8, 77)),
}


@pytest.mark.parametrize("name", HEAPS)
def test_texts_that_are_not_where_they_should_be(good, name):
    kind, change = HEAPS[name]
    model = load_model(io.BytesIO(good["m.h5"]))
    for file, load in (("model.weights.h5", model.load_weights), ("m.h5", load_model)):
        found = []
        for at in (heap_objects if kind == "object" else heap_places)(good[file]):
            data = bytearray(good[file])
            change(data, at)
            Path("w.weights.h5").write_bytes(data)
            found += [message(load, "w.weights.h5"), message(load, io.BytesIO(data))]
            with h5py.File(io.BytesIO(data)) as opened:
                found.append(message(load, opened))
            if file == "model.weights.h5":
                found.append(message(load_model, zipped(good, **{file: bytes(data)})))
        assert all(
            "string is not where it should be" in each or "strings take more than" in each for each in found if each
        )
        assert any(found)  # not each of the texts is asked for


def message(load, path):
    try:
        load(path)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("userblock_size", [0, 512])
@pytest.mark.parametrize("place", ["memory", "disk", "removed"])
def test_texts_in_all_versions_of_hdf5(libver, userblock_size, place):
    target = io.BytesIO() if place == "memory" else "m.h5"
    with h5py.File(target, "w", libver=libver, userblock_size=userblock_size) as file:
        file.attrs.update(long="ä" * 70_000, list=["a", "", "bc"], n0=["d"], n1=["e"])
        file.create_group("g").attrs["name"] = np.bytes_("fixed")
        if place == "removed":
            os.remove(target)
        _check_texts(file)
    if place != "removed":
        _check_texts(target)


def _check_texts(target):
    with hdf5.opened(target) as file:
        assert hdf5.read_text(file, "long") == "ä" * 70_000 and hdf5.read_text(file["g"], "name") == "fixed"
        assert hdf5.read_texts(file, "list") == ["a", "", "bc"] and hdf5.read_texts(file, "n") == ["d", "e"]
        assert hdf5.read_text(file, "none") is None and hdf5.read_texts(file, "none") == []


def test_many_names_of_one_long_text(good):
    names = ["x" * 1_000_000, *("y" for _ in range(999))]
    data = bytearray(changed_hdf5(good, attributes(NAMES, layer_names=names)).getvalue())
    heap = data.index(b"x" * 100) - 32
    first = struct.pack("<IQI", 1_000_000, heap, 1)
    at = data.index(first)
    data[at : at + 16_000] = first * 1000
    refused(io.BytesIO(data), "strings take more than")


def test_a_group_with_long_names_under_many_names(good):
    """Names of fixed length: the file holds them once, and each of its layers would hold them again."""

    def change(file):
        group = file[NAMES]
        group["first"].attrs["weight_names"] = np.array([b"x" * 60_000])
        for number in range(1_000):
            group[f"n{number}"] = group["first"]
        group.attrs["layer_names"] = np.array([f"n{number}".encode() for number in range(1_000)])

    refused(changed_hdf5(good, change), "strings take more than")


LONG = "n" * 1_000_000
CUT = r"'n+\.\.\.n+'"
LONG_NAMES = {
    "a class": (first_layer(class_name=LONG), rf"m\.keras.*unknown layer: {CUT}\."),
    "a module": (first_layer(module=LONG), f"unknown layer: 'Dense' of module {CUT}"),
    "a Lambda": (other_layer("Lambda", name=LONG, function=LONG), "the Lambda layer 'nnn"),
    "an argument": (first_config(**{LONG: 1}), "got an unexpected argument 'nnn"),
    "an activation": (first_config(activation=LONG), rf"m\.keras.*unknown activation: {CUT}\."),
    "a dtype": (first_config(dtype=LONG), "dtype must be a dtype of number"),
    "a number": (first_config(units=LONG), r"units must be a positive integer, received 'n+\.\.\."),
    "an initializer": (
        first_config(kernel_initializer={"class_name": LONG, "config": {}}),
        "unknown initializer: 'nnn",
    ),
    "an argument of an initializer": (
        first_config(kernel_initializer={"class_name": "Zeros", "config": {LONG: 1}}),
        "Zeros.from_config takes the dict",
    ),
    "a giant layer": (first_config(name=LONG, units=10**12), "is described with an array of shape"),
    "a layer of another shape": (
        first_config(name=LONG, units=7),
        r"has shape \(3, 5\) in the file, expected \(3, 7\)",
    ),
    "two layers": (
        lambda config: [layer["config"].update(name=LONG) for layer in config["config"]["layers"]] and None,
        "the names of a Sequential's layers must be unique: 'nnn",
    ),
    "a loss": (compiled(loss=LONG), "unknown loss: 'nnn"),
    "an argument of an optimizer": (
        compiled(optimizer={"class_name": "SGD", "config": {LONG: 1}}),
        "got an unexpected argument 'nnn",
    ),
}


@pytest.mark.parametrize("name", LONG_NAMES)
def test_messages_show_long_names_in_part(good, name):
    change, message = LONG_NAMES[name]
    with pytest.raises(ValueError, match=message) as caught:
        load_model(configured(good, change))
    assert len(str(caught.value)) < 600 and caught.value.__suppress_context__
    if name == "a class":
        refused(json.dumps({"class_name": LONG, "config": {}}), f"unknown layer: {CUT}", model_from_json)


@pytest.mark.grid
def test_groups_of_thousands_of_names_within_each_other(good, monkeypatch):
    """A name takes a few bytes, and each leads to all others again."""
    visited = []
    monkeypatch.setattr(hdf5, "_visit", lambda count, visit=hdf5._visit: visited.append(count) or visit(count))

    def change(file):
        del file["layers"]
        outer = file.create_group("layers")
        inner = outer.create_group("sequential")
        inner["layers"] = outer
        outer.create_group("dense/vars")
        for number in range(3_000):
            outer[f"n{number}"] = inner

    def nest(config):
        dense = {"class_name": "Dense", "config": {"name": "d", "units": 1}}
        for number in range(8):
            start = {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 1]}}
            dense = {"class_name": "Sequential", "config": {"name": f"s{number}", "layers": [start, dense]}}
        return dense

    weighted(good, change)
    with zipfile.ZipFile("m.keras") as archive:
        weights = archive.read("model.weights.h5")
    configured({**good, "model.weights.h5": weights}, nest)
    refused("m.keras", "more names, groups, arrays and chunks than its bytes can hold")
    assert sum(visited) < 20_000 and len(weights) < 400_000


def test_long_attributes(good, monkeypatch):
    monkeypatch.setattr(hdf5, "_ATTRIBUTE_LIMIT", 20)
    refused(io.BytesIO(good["m.h5"]), "is not read|no string")


# -------------------- safetensors, archives of get_file --------------------


@pytest.mark.parametrize("size", [0, 2, 2**20, 2**62])
def test_safetensors(good, size):
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    header = json.dumps({"layers.dense.vars.0": entry}).encode()
    Path("w.safetensors").write_bytes(struct.pack("<Q", size or len(header)) + header + b"\0" * 100)
    message = "declares a header of" if size == 2**62 else "not a safetensors file"
    refused("w.safetensors", message, load_model(zipped(good)).load_weights)
    refused("w.safetensors", "only weights")


@pytest.mark.parametrize("dtype, size", [("C64", 8), ("BF16", 2), ("F8_E4M3", 1)])
def test_safetensors_of_other_dtypes_than_the_weights_can_have(good, dtype, size):
    """NumPy would discard the imaginary parts, and does not know the others."""
    model = load_model(zipped(good))
    model.save_weights("w.safetensors")
    data = Path("w.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = 0
    for entry in header.values():
        start, at = at, at + size * math.prod(entry["shape"])
        entry.update(dtype=dtype, data_offsets=[start, at])
    text = json.dumps(header).encode()
    Path("w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    refused("w.safetensors", f"has the dtype {dtype} in the file, expected one of", model.load_weights)


def tar_of(*members):
    """a.tar of members (name, type, link or size)."""
    with tarfile.open("a.tar", "w:gz") as tar:
        for name, kind, more in members:
            member, is_file = tarfile.TarInfo(name), kind == tarfile.REGTYPE
            member.type = kind
            setattr(member, "size" if is_file else "linkname", int(more) if is_file else more)
            tar.addfile(member, io.BytesIO(b"0" * member.size) if is_file else None)


def unpacked():
    return utils.get_file(origin=Path("a.tar").absolute().as_uri(), extract=True, cache_dir=Path("cache").absolute())


def test_archives_of_get_file(tmp_path):
    """CVE-2025-12060: a link whose path is too long to be resolved led out of the folder."""
    long, path, members = "d" * 240, "", []
    for letter in "abcdefghijklmnop":
        members += [
            (os.path.join(path, long), tarfile.DIRTYPE, ""),
            (os.path.join(path, letter), tarfile.SYMTYPE, long),
        ]
        path = os.path.join(path, long)
    out = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [(out, tarfile.SYMTYPE, "../" * 16), ("escape", tarfile.SYMTYPE, out + "/../../..")]
    tar_of(*members, ("escape/evil", tarfile.REGTYPE, 0))
    with pytest.raises(ValueError, match="is not unpacked"):
        unpacked()
    assert not list(tmp_path.rglob("evil"))


TARS = {
    "CVE-2024-55459 a name that leads out": [("../../evil", tarfile.REGTYPE, 1)],
    "CVE-2024-55459 an absolute name": [("{}/evil", tarfile.REGTYPE, 1)],
    "CVE-2025-12638 a link and a file through it": [("a", tarfile.SYMTYPE, "../.."), ("a/evil", tarfile.REGTYPE, 1)],
    "an absolute link": [("a", tarfile.SYMTYPE, "{}"), ("a/evil", tarfile.REGTYPE, 1)],
    "a hard link that leads out": [("a", tarfile.LNKTYPE, "../../secret")],
    "an absolute hard link": [("a", tarfile.LNKTYPE, "/etc/passwd")],
    "GHSA-hqp4-2352-xf5r a folder whose name begins alike": [("../a.tar.evil/evil", tarfile.REGTYPE, 1)],
    "a device": [("evil", tarfile.CHRTYPE, "")],
    "a bomb": [("large", tarfile.REGTYPE, 3_000_000)],
}


@pytest.mark.parametrize("name", TARS)
def test_tar_archives_of_get_file(name, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_FREE", 1_000_000)
    tar_of(*((path.format(tmp_path), kind, str(more).format(tmp_path)) for path, kind, more in TARS[name]))
    Path("cache").mkdir()
    Path("cache/secret").write_text("x")
    try:
        unpacked()
    except ValueError as error:
        assert "is not unpacked" in str(error)
    else:
        assert "absolute name" in name  # taken as a name below the folder
    found = [path for path in tmp_path.rglob("*") if path.name == "evil" or path.is_symlink()]
    assert all(path.is_relative_to(tmp_path / "cache/datasets/a.tar") for path in found)
    assert not list(tmp_path.rglob("large"))


def test_a_zip_of_get_file_that_would_fill_the_disk(monkeypatch):
    monkeypatch.setattr(unpacking, "_FREE", 1_000_000)
    with zipfile.ZipFile("a.tar", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large", b"0" * 3_000_000)
    with pytest.raises(ValueError, match="is not unpacked: its .* bytes would become 3000000"):
        unpacked()


def test_yaml_that_repeats_itself():
    pytest.importorskip("yaml")
    from nbkeras.compat.keras2.model_yaml import model_from_yaml

    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    refused("\n".join(lines), "parts: configurations with more than", model_from_yaml)
    refused("a: &a [1, *a]", "contains the alias|not valid YAML", model_from_yaml)
    refused("a: !!python/object/apply:os.system ['true']", "not valid YAML", model_from_yaml)


def test_a_tokenizer_that_is_none():
    for text in ("", "[]", "{}", '{"config": {"word_counts": "["}}', "[" * 100_000, '{"config": {"evil": 1}}'):
        refused(text, "not a result of Tokenizer", tokenizer_from_json)


@pytest.mark.parametrize("read", [load_model, saving.KerasFileEditor, lambda path: load_model(path, compile=False)])
def test_weights_in_which_one_bit_is_wrong(good, read):
    """HDF5 reads the wrong number without an error; the archive's checksum tells it."""
    path = zipped(good)
    kernel = load_model(path).weights[0].numpy().tobytes()
    data = bytearray(Path(path).read_bytes())
    data[data.index(kernel) + 3] ^= 0x40
    Path(path).write_bytes(data)
    refused(path, "model.weights.h5 is damaged .Bad CRC-32", read)


def test_a_full_model_still_loads(good):
    assert load_model(zipped(good)).compiled and load_model(zipped(good, zipfile.ZIP_DEFLATED)).compiled
    assert saving.load_model(io.BytesIO(good["m.h5"])).compiled


def test_a_json_of_any_length(good, monkeypatch):
    monkeypatch.setattr(archive, "JSON_LIMIT", 20)
    with pytest.raises(ValueError, match="has 30 bytes: configurations with more than"):
        archive.parse_json(" " * 30, "this")


@pytest.mark.parametrize("limit, value", [("JSON_LIMIT", 700), ("ITEM_LIMIT", 200)])
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_vocabulary_that_could_not_be_read_again_is_not_written(limit, value, name, tmp_path, monkeypatch):
    model = Sequential(
        [layers.Input((1,), dtype="string"), layers.StringLookup(vocabulary=[f"word{i}" for i in range(300)])]
    )
    (tmp_path / name).write_bytes(b"before")
    with monkeypatch.context() as patch:
        patch.setattr(archive, limit, value)
        with pytest.raises(ValueError, match=r"has \d+ bytes and \d+ parts, but a file may have .* a very long list"):
            model.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"before"
    model.save(tmp_path / name)
    np.testing.assert_array_equal(load_model(tmp_path / name).predict(np.array([["word7"]]), verbose=0), [[8]])


@pytest.mark.parametrize("undamaged", [archive._undamaged, hdf5._undamaged], ids=["archive", "hdf5"])
def test_errors_of_a_disk_are_not_taken_for_damage(undamaged):
    with pytest.raises(OSError, match="the disk does not answer"), undamaged("the file"):
        raise OSError(errno.EIO, "the disk does not answer")


class Failing(io.BytesIO):
    """A file on a disk that fails after some bytes."""

    limit = 0

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() + (len(self.getvalue()) if count in (-1, None) else count) > self.limit:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(count)

    def readinto(self, buffer) -> int:
        buffer[:] = data = self.read(len(buffer))
        return len(data)


@pytest.mark.parametrize("kind", ["keras", "h5", "weights"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(good, kind, share):
    """zipfile and HDF5 report it as a file of another form."""
    content = (
        Path(zipped(good)).read_bytes() if kind == "keras" else good["m.h5" if kind == "h5" else "model.weights.h5"]
    )
    file = Failing(content)
    file.limit = max(8, int(share * len(content)))
    with pytest.raises(OSError, match="Input/output error") as found:
        saving.load_model(file) if kind != "weights" else load_model(zipped(good)).load_weights(file)
    assert found.value.errno == errno.EIO


def test_an_error_of_the_system_names_the_file():
    with pytest.raises(OSError, match=r"cannot read '/proc/self/mem': Input/output error"):
        load_model("/proc/self/mem")


def test_a_position_before_the_start_of_a_file_is_damage():
    with pytest.raises(ValueError, match="the file .*Invalid argument"), archive._undamaged("the file"):
        raise OSError(errno.EINVAL, "Invalid argument")


def test_more_attributes_than_a_header_holds(good):
    """HDF5 then keeps them elsewhere, where their strings are not looked for."""
    target = io.BytesIO()
    with h5py.File(target, "w", libver="latest") as file:
        file.attrs["model_config"] = "{}"
        for number in range(20):
            file.attrs[f"a{number}"] = "text"
    refused(target, "is stored in a form that model files do not use: it is not read")


def test_names_of_groups_that_are_no_paths(good):
    with hdf5.opened(io.BytesIO(good["model.weights.h5"])) as file:
        assert hdf5.child(file, "layers/./dense") is None and hdf5.child(file, f"{KERNEL}/more") is None
