"""Family: files and configurations of models: small valid ones, changed in their bytes, JSON, zip directories, HDF5, headers."""

import contextlib
import functools
import io
import json
import os
import struct
import sys
import zipfile
import zlib

import h5py
import numpy as np
from fuzz_objects import changed
from fuzz_values import absurd, any_of, described
from fuzz_verdict import Fault

import nbkeras as keras
from nbkeras import layers, models, saving

watched = False
outside: list = []
FOLDERS = ("/dev/null", os.path.expanduser("~/.cache"), os.environ.get("NUMBA_CACHE_DIR", "/dev/null"))


def audit(event, arguments):
    """Notes what a file may not cause: writing, deleting, connecting, running."""
    if not watched:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes and not os.fspath(path if isinstance(path, str | bytes | os.PathLike) else "").startswith(FOLDERS):
            outside.append(f"opens {path!r} to write")
    elif event in "os.system os.exec os.posix_spawn subprocess.Popen socket.connect os.remove os.rename".split():
        if not str(arguments[0]).startswith(FOLDERS):
            outside.append(f"{event} {arguments!r}"[:200])
    elif event in "os.mkdir os.rmdir shutil.rmtree pickle.find_class marshal.loads os.symlink os.chmod".split():
        if not str(arguments[0]).startswith(FOLDERS) and not (event == "marshal.loads" and imports()):
            outside.append(f"{event} {arguments!r}"[:200])


def imports():
    """Whether Python is just importing a module, for which it reads marshalled code."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


sys.addaudithook(audit)


@contextlib.contextmanager
def guarded():
    """A block that reads a file: nothing is written but in the kernels' cache."""
    global watched
    before, watched = sorted(os.listdir(".")), True
    try:
        yield
    finally:
        watched = False
    if outside:
        text = "; ".join(outside)
        outside.clear()
        raise Fault(f"a file {text}")
    if sorted(os.listdir(".")) != before:
        raise Fault(f"a file left {sorted(os.listdir('.'))}")


def dense():
    model = keras.Sequential(
        [layers.Input((3,)), layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    model.fit(np.ones((2, 3), "float32"), np.ones((2, 2), "float32"), verbose=0)
    return model


def graph():
    first, second = layers.Input((4, 3), name="a"), layers.Input((3,), name="b")
    x = layers.LSTM(3, return_sequences=True)(layers.Masking()(first))
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.Dropout(0.5)(second)])
    model = keras.Model([first, second], [layers.Dense(1, name="o")(x), layers.Rescaling(2.0)(x)])
    model.compile("sgd", ["mse", None])
    return model


def calls():
    x = layers.Input((3,))
    return keras.Model(x, layers.Dense(2)(keras.ops.relu(x) * 2.0))


def images():
    inner = keras.Sequential([layers.Input((6, 6, 2)), layers.Conv2D(2, 3), layers.MaxPooling2D()])
    return keras.Sequential(
        [layers.Input((6, 6, 2)), inner, layers.Flatten(), layers.Dense(2, kernel_regularizer="l2")]
    )


def words():
    model = keras.Sequential([layers.Input((4,), dtype="int32"), layers.Embedding(5, 2, mask_zero=True)])
    model.add(layers.Bidirectional(layers.GRU(2)))
    return model


@functools.cache
def model_of(kind):
    return {"dense": dense, "graph": graph, "calls": calls, "images": images, "words": words}[kind]()


@functools.cache
def files_of(kind):
    """The bytes of a model's files by format, and its configuration."""
    model, found = model_of(kind), {}
    for name in ("m.keras", "m.h5", "m.weights.h5", "m.safetensors"):
        if kind == "calls" and name == "m.h5":  # which cannot hold ops
            continue
        (model.save_weights if "weights" in name or "safe" in name else model.save)(name)
        with open(name, "rb") as file:
            found[name] = file.read()
        os.remove(name)
    with zipfile.ZipFile(io.BytesIO(found["m.keras"])) as archive:
        found["members"] = {name: archive.read(name) for name in archive.namelist()}
    found["json"] = model.to_json()
    return found


NUMBERS = [0, 1, 0xFF, 0x7F, 0x80, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**64 - 1, 10**6]


def damaged(chance, data):
    """Bytes with a few changes: bits, numbers of 1 to 8 bytes, pieces left out, doubled, moved, or an end too early."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        if not data:
            break
        at = chance.randrange(len(data))
        if chance.random() < 0.4:
            at = min(at, chance.randrange(1024), len(data) - 1)  # headers are more interesting
        kind = chance.randrange(7)
        if kind <= 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind <= 3:
            size = chance.choice([1, 2, 4, 8])
            data[at : at + size] = (any_of(chance, NUMBERS) % 256**size).to_bytes(size, "little")
        elif kind == 4:
            del data[at : at + chance.choice([1, 4, 100])]
        elif kind == 5:
            piece = data[at : at + chance.choice([1, 8, 200])]
            to = chance.randrange(len(data))
            data[to:to] = piece
        elif chance.random() < 0.5:
            del data[at:]
    return bytes(data)


def changed_h5(chance, data):
    """An HDF5 file in which h5py changed an attribute, an array, a group or a link; other bytes if it cannot."""
    try:
        return rewritten(chance, data)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError):
        return damaged(chance, data)


def rewritten(chance, data):
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "a") as file:
        names = ["/"]
        file.visit(names.append)
        for _ in range(chance.choice([1, 1, 2])):
            name = any_of(chance, names)
            if name not in file:
                continue
            item = file[name]
            kind = chance.randrange(6)
            if kind <= 1 and len(item.attrs):
                key = sorted(item.attrs)[chance.randrange(len(item.attrs))]
                if key in ("model_config", "training_config") and chance.random() < 0.8:
                    try:
                        config = changed(chance, json.loads(item.attrs[key]))
                        item.attrs[key] = json.dumps(config)
                    except (TypeError, ValueError, RecursionError):
                        item.attrs[key] = "{"
                else:
                    item.attrs[key] = any_of(
                        chance, ["", "x", b"\xff", 3, 2.5, np.zeros(3), np.array([b"a", b"b"]), "{}", "[]"]
                    )
            elif kind == 2 and name != "/":
                del file[name]
            elif kind == 3 and isinstance(item, h5py.Dataset):
                values = any_of(
                    chance,
                    [
                        *(np.zeros(3), np.zeros((2, 0)), np.full(item.shape, np.nan), b"text", np.array([b"a"])),
                        *(np.zeros(item.shape, dtype) for dtype in ("c8", "f2", ">f8", "i8")),
                        np.array(1),
                    ],
                )
                del file[name]
                file[name] = values
            elif kind == 4 and name != "/":
                del file[name]
                file[name] = any_of(
                    chance, [h5py.SoftLink("/"), h5py.SoftLink(name), h5py.ExternalLink("/etc/passwd", "/")]
                )
            elif isinstance(item, h5py.Group):
                item.require_group(any_of(chance, ["vars", "layers", "more", "0"]))
                if chance.random() < 0.5:
                    item.create_dataset(f"big{chance.randrange(99)}", (2**40,), "f4", chunks=(1024,))
    return buffer.getvalue()


def rezipped(chance, members):
    """The zip file of a model with one member changed, left out, renamed or doubled, or with another directory."""
    members = dict(members)
    kind = chance.random()
    name = any_of(chance, sorted(members))
    if kind < 0.5:
        name = "config.json" if chance.random() < 0.85 else "metadata.json"
        config = json.loads(members[name])
        for _ in range(chance.choice([1, 1, 2])):
            config = changed(chance, config)
        try:
            members[name] = json.dumps(config).encode(errors="surrogatepass")
        except (TypeError, ValueError, RecursionError):
            members[name] = damaged(chance, members[name])
    elif kind < 0.75:
        name = "model.weights.h5"
        members[name] = (changed_h5 if chance.random() < 0.7 else damaged)(chance, members[name])
    elif kind < 0.8:
        del members[name]
    elif kind < 0.85:
        members[any_of(chance, ["../evil", "/tmp/evil", "a\\b", "config.json/x", "assets/x", "é" * 80])] = b"x"
    else:
        members[name] = damaged(chance, members[name])
    buffer = io.BytesIO()
    method = any_of(chance, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
        if chance.random() < 0.03:
            archive.writestr(zipfile.ZipInfo(name), members.get(name, b"x"))
    data = buffer.getvalue()
    return damaged(chance, data) if chance.random() < 0.1 else data


def changed_safetensors(chance, data):
    size = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = chance.random()
    if kind < 0.7:
        try:
            text = json.dumps(changed(chance, header)).encode()
        except (TypeError, ValueError, RecursionError):
            text = b"{}"
        return struct.pack("<Q", len(text) if chance.random() < 0.9 else any_of(chance, NUMBERS)) + text + rest
    return damaged(chance, data)


def use(model):
    """A model that was read computes, or says why not: nothing in it reaches a kernel that it may not reach."""
    if not isinstance(model, keras.Model) or not model.inputs:
        return
    sizes = [tuple(4 if size is None else size for size in each.shape) for each in model.inputs]
    if sum(int(np.prod(size, dtype=object)) for size in sizes) > 10**5 or model.count_params() > 10**5:
        return
    values = [np.ones((2, *size[1:]), each.dtype) for size, each in zip(sizes, model.inputs, strict=True)]
    model(values if len(values) > 1 else values[0])


def of_text(chance, kind, say):
    """A configuration as JSON or as a dict."""
    text = files_of(kind)["json"]
    if chance.random() < 0.3:
        text = damaged(chance, text.encode()).decode("utf-8", "replace")
        say(f"model_from_json({described(text)})")
        with guarded():
            use(models.model_from_json(text))
        return
    config = json.loads(text)
    for _ in range(chance.choice([1, 1, 2])):
        config = changed(chance, config)
    way = chance.randrange(3)
    if way == 0:
        try:
            text = json.dumps(config)
        except (TypeError, ValueError, RecursionError):
            text = described(config) if chance.random() < 0.5 else absurd(chance)
        say(f"model_from_json({described(text)})")
        with guarded():
            use(models.model_from_json(text))
    elif way == 1:
        say(f"saving.deserialize_keras_object({described(config)})")
        with guarded():
            use(saving.deserialize_keras_object(config))
    else:
        inner = config.get("config") if isinstance(config, dict) else config
        say(f"{type(model_of(kind)).__name__}.from_config({described(inner)})")
        with guarded():
            use(type(model_of(kind)).from_config(inner))


def case(chance, say):
    kind = any_of(chance, ["dense", "dense", "graph", "calls", "images", "words"])
    try:
        files = files_of(kind)
    except ValueError as error:  # no case would be tried, and each would count as refused
        raise Fault(f"the model {kind} cannot be saved: {error}") from error
    what = chance.random()
    try:
        if what < 0.3:
            of_text(chance, kind, say)
        elif what < 0.75:
            name = any_of(chance, [each for each in ("m.keras", "m.keras", "m.h5") if each in files])
            if name == "m.keras":
                data = rezipped(chance, files["members"]) if chance.random() < 0.75 else damaged(chance, files[name])
            else:
                data = (changed_h5 if chance.random() < 0.6 else damaged)(chance, files[name])
            say(f"load_model({name} of the model {kind}, changed, {len(data)} bytes, crc {zlib.crc32(data):08x})")
            with guarded():
                use(models.load_model(io.BytesIO(data), compile=chance.random() < 0.7, safe_mode=chance.random() < 0.9))
        else:
            formats = ("m.weights.h5", "m.h5", "m.keras", "m.safetensors")
            name = any_of(chance, [each for each in formats if each in files])
            if name == "m.safetensors":
                data = changed_safetensors(chance, files[name])
            elif name == "m.keras":
                data = rezipped(chance, files["members"])
            else:
                data = (changed_h5 if chance.random() < 0.6 else damaged)(chance, files[name])
            options = {"skip_mismatch": True} if chance.random() < 0.2 else {}
            if chance.random() < 0.1:
                options["by_name"] = True
            say(f"load_weights({name} of the model {kind}, changed, {len(data)} bytes, **{options})")
            with open(name, "wb") as file:
                file.write(data)
            model = model_of(kind)
            before = model.get_weights()
            try:
                with guarded():
                    model.load_weights(name, **options)
            except Exception:
                if not all(
                    np.array_equal(a, b, equal_nan=True) for a, b in zip(before, model.get_weights(), strict=True)
                ):
                    raise Fault("weights changed though the file was refused") from None
                raise
            finally:
                os.remove(name)
                model.set_weights(before)
    except ValueError as error:
        if "MemoryError" in str(error) or "Unable to allocate" in str(error):
            raise Fault(f"tries to allocate what a file says: {error}") from error
        raise
