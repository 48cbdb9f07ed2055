"""Named pipes, sockets and devices in the place of files: they are refused at once, by whatever reads a file by its name."""

import os
import signal
import socket

import pytest

from nbkeras import Sequential, layers, models, utils
from nbkeras.compat import settings_file, version
from nbkeras.compat.tensorflow import files as tensorflow_files
from nbkeras.data import downloads, unpacking
from nbkeras.datasets import plain_pickle
from nbkeras.export import library
from nbkeras.inference import bundle
from nbkeras.kernels.runtime.opener import ordinary_file
from nbkeras.saving import checkpoints, convert, hdf5, shards

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture(autouse=True)
def seconds():
    """An open that waits for ever ends as an error."""

    def end(*_):
        raise TimeoutError("it waits for a program that writes")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.basename(path))  # a socket's whole path must be short


def link_to_pipe(path):
    os.mkfifo(f"{path}.pipe")
    os.symlink(f"{path}.pipe", path)


KINDS = {
    "pipe": (os.mkfifo, "is a named pipe, not an ordinary file"),
    "link to a pipe": (link_to_pipe, "is a named pipe, not an ordinary file"),
    "socket": (bind, "is a socket, not an ordinary file"),
    "device": (lambda path: os.symlink("/dev/zero", path), "is a device, not an ordinary file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, message = KINDS[kind]
    make(str(tmp_path / "x"))
    with pytest.raises(ValueError, match=message) as found:
        open(tmp_path / "x", "rb", opener=ordinary_file)
    assert isinstance(found.value, OSError)


def test_ordinary_files_and_folders_are_as_ever(tmp_path):
    with open(tmp_path / "x", "w", encoding="utf-8", opener=ordinary_file) as file:
        file.write("text")
    with open(tmp_path / "x", encoding="utf-8", opener=ordinary_file) as file:
        assert file.read() == "text"
    (tmp_path / "nothing").symlink_to("nowhere")
    for name, message in (("", "Is a directory"), ("y", "No such file or directory"), ("nothing", "No such file")):
        with pytest.raises(OSError, match=message):
            open(tmp_path / name, "rb", opener=ordinary_file)


def settings(path):
    os.rename(path, os.path.join(os.path.dirname(path), "keras.json"))
    settings_file.read(None)


def folder_of(make):
    """Reads a folder whose only file, of class a, is the pipe."""

    def read(path):
        os.mkdir("data")
        os.mkdir("data/a")
        os.rename(path, f"data/a/{os.path.basename(path)}")
        return make("data", verbose=False)[0]

    return read


READERS = {
    "m.keras": models.load_model,
    "m.h5": models.load_model,
    "m.weights.h5": lambda path: model().load_weights(path),
    "m.safetensors": lambda path: model().load_weights(path),
    "m.weights.json": lambda path: shards.opened(path).__enter__(),
    "hdf5.h5": lambda path: hdf5.opened(path).__enter__(),
    "convert.keras": lambda path: convert(path, "m.h5"),
    "m.npz": checkpoints.read,
    "m.nbf": bundle.load,
    "m.so.h": library._check_replaceable,
    "keras.json.pipe": settings,
    "image.png": utils.load_img,
    "words.txt": lambda path: layers.StringLookup(vocabulary=path),
    "read.txt": tensorflow_files.read_file,
    "hash.bin": lambda path: downloads._hash(path, "sha256"),
    "archive.zip": lambda path: unpacking.extract(path, "unpacked"),
    "pickle.pkl": plain_pickle.load,
    "text.txt": folder_of(utils.text_dataset_from_directory),
    "sound.wav": folder_of(utils.audio_dataset_from_directory),
}


def model():
    return Sequential([layers.Dense(1, input_shape=(1,))])


@pytest.mark.parametrize("name", READERS)
def test_nobody_waits_for_a_pipe(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    os.mkfifo(tmp_path / name)
    with pytest.raises((ValueError, OSError), match="is a named pipe, not an ordinary file"):
        READERS[name](str(tmp_path / name))


def test_a_pipe_among_the_modules_of_a_script_is_passed_over(tmp_path):
    (tmp_path / "script.py").write_text("import other\nfrom keras import ops\n", encoding="utf-8")
    os.mkfifo(tmp_path / "other.py")
    assert version.version_of_file(str(tmp_path / "script.py")).version == 3


def test_a_pipe_in_the_place_of_a_models_toml(tmp_path):
    pytest.importorskip("pydantic_settings")
    from nbkeras.serving import settings as server

    os.mkfifo(tmp_path / "models.toml")
    with pytest.raises(ValueError, match=r"models\.toml' is a named pipe"):
        server.read(["--config", str(tmp_path / "models.toml")])
