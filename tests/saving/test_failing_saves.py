"""Saves that are cut short: the file that was there before stays whole."""

import contextlib
import functools
import gc
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from nbkeras import Input, Sequential, layers
from nbkeras.models import load_model

FORMATS = ["m.keras", "m.h5", "w.weights.h5", "w.h5", "w.safetensors"]
pytestmark = pytest.mark.cpu("files are written by the CPU")


def made(value=0.0, units=300):
    model = Sequential([Input((200,)), layers.Dense(units)])
    model.set_weights([np.full(w.shape, value, w.dtype) for w in model.get_weights()])
    return model


def save(model, path):
    name = os.path.basename(path)
    (model.save_weights if name.startswith("w") else model.save)(path)


def value_in(path):
    """The number that all weights in a file are equal to."""
    if os.path.basename(path).startswith("w"):
        model = made()
        model.load_weights(path)
    else:
        model = load_model(path)
    (value,) = {float(number) for weight in model.get_weights() for number in np.unique(weight)}
    return value


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*FORMATS, "folder"])
def test_a_full_disk(name, tmp_path, limit_files):
    path = tmp_path / name
    write = (
        functools.partial(Sequential.save, filepath=path, zipped=False) if name == "folder" else lambda m: save(m, path)
    )
    write(made(1.0, 30))
    before = contents(tmp_path)
    with limit_files(100_000), pytest.raises(OSError, match="File too large"):
        write(made(2.0))
    assert contents(tmp_path) == before
    gc.collect()  # the frames of the error: a file in memory that cannot be closed would be reported here (Python 3.13)


KEEPS_SAVING = """
import itertools, sys
sys.path.insert(0, {tests!r})
from test_failing_saves import made, save
models = made(1.0), made(2.0)
for number in itertools.count():
    save(models[number % 2], {path!r})
    if number == 1:
        print("saving", flush=True)
"""


@contextlib.contextmanager
def saving(path):
    """A process that has saved to `path` and continues; it is killed at the end."""
    code = KEEPS_SAVING.format(tests=os.path.dirname(__file__), path=str(path))
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "saving\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.process
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_kill_while_saving(name, tmp_path):
    with saving(tmp_path / name):
        time.sleep(0.03)
    assert value_in(tmp_path / name) in (1.0, 2.0)
    save(made(3.0), tmp_path / name)
    assert value_in(tmp_path / name) == 3.0


@pytest.mark.process
def test_two_processes_that_save_to_one_path(tmp_path):
    with saving(tmp_path / "m.keras"), saving(tmp_path / "m.keras"):
        assert all(value_in(tmp_path / "m.keras") in (1.0, 2.0) for _ in range(6))


def test_folders_that_are_not_there_or_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        made().save(tmp_path / "missing" / "m.keras")
    (tmp_path / "m.keras").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        made().save(tmp_path / "m.keras")
    assert os.listdir(tmp_path) == ["m.keras"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path):
    save(made(1.0), tmp_path / "m.keras")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="Permission denied"):
        save(made(2.0), tmp_path / "m.keras")
    tmp_path.chmod(0o700)
    assert value_in(tmp_path / "m.keras") == 1.0


def test_links_are_followed_and_permissions_stay(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "m.keras", tmp_path / "m.keras"
    save(made(1.0), target)
    target.chmod(0o600)
    link.symlink_to(target)
    save(made(2.0), link)
    assert link.is_symlink() and value_in(target) == 2.0 and stat.S_IMODE(target.stat().st_mode) == 0o600


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "m.keras")
    with pytest.raises(OSError, match="not an ordinary file"):
        save(made(), tmp_path / "m.keras")
    assert stat.S_ISFIFO((tmp_path / "m.keras").stat().st_mode) and os.listdir(tmp_path) == ["m.keras"]


def test_long_names(tmp_path):
    path = tmp_path / ("n" * 240 + ".keras")
    save(made(1.0), path)
    assert value_in(path) == 1.0
