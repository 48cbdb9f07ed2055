"""Files of models, loaded in a process of their own."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest

import nbkeras
from nbkeras import layers
from nbkeras.serving import loading


def options(path, **changes):
    found = {"batch_sizes": (1, 4), "input_signature": None, "stream": False, "window": None, "steps": (1,)}
    return types.SimpleNamespace(path=str(path), **found | changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = nbkeras.Sequential([nbkeras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    path = tmp_path_factory.mktemp("models") / "small.keras"
    made.save(path)
    return path


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(loading.LoadingError, match=r"is no model file|not a model|damaged"):
        loading.load(options(tmp_path / "bad.keras"), str(tmp_path / "bad.frozen"))
    assert os.listdir(tmp_path) == ["bad.keras"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(loading.LoadingError, match="No such file"):
        loading.load(options(tmp_path / "none.keras"), str(tmp_path / "none.frozen"))


def test_a_file_that_takes_too_long(tmp_path):
    os.mkfifo(tmp_path / "slow.keras")  # nobody writes into it
    start = time.monotonic()
    with pytest.raises(loading.LoadingError, match=r"not loaded within 0\.5 s"):
        loading.load(options(tmp_path / "slow.keras"), str(tmp_path / "slow.frozen"), seconds=0.5)
    assert time.monotonic() - start < 5


def test_a_process_that_is_killed(model, tmp_path):
    os.mkfifo(tmp_path / "slow.keras")
    started = loading.Loading(options(tmp_path / "slow.keras"), str(tmp_path / "slow.frozen"))
    os.kill(started._process.pid, signal.SIGKILL)
    with pytest.raises(loading.LoadingError, match="was killed by SIGKILL; is there enough memory"):
        started.result()


def test_too_little_memory(model, tmp_path):
    with pytest.raises(loading.LoadingError, match=r"memory|limit is 64 MB"):
        loading.load(options(model), str(tmp_path / "m.frozen"), memory=64 << 20)


# -------------------- the folder --------------------


def test_the_folder_is_private_and_goes_away(tmp_path):
    folder = loading.Folder(str(tmp_path))
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    pathlib.Path(folder.file("a")).write_text("x")
    folder.delete()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_a_killed_server_left_is_deleted_by_the_next_one(tmp_path):
    code = f"import os\nfrom nbkeras.serving import loading\nloading.Folder({str(tmp_path)!r})\nos._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONSAFEPATH": "1"})
    [left] = os.listdir(tmp_path)
    (tmp_path / "nbkeras-serve-file").write_text("not ours")
    first = loading.Folder(str(tmp_path))
    second = loading.Folder(str(tmp_path))
    assert left not in os.listdir(tmp_path)
    assert os.path.exists(first.path) and os.path.exists(second.path) and len(os.listdir(tmp_path)) == 3
