"""ModelCheckpoint writes in the background, keeps the newest files and loses no error; disks that fail, for all that is saved."""

import contextlib
import copy
import errno
import functools
import os
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from made_models import compiled

from nbkeras import callbacks as cb
from nbkeras import layers, models
from nbkeras.saving import archive
from nbkeras.utils import set_random_seed

pytestmark = pytest.mark.cpu("files are written by the CPU")
X, Y = np.ones((16, 3), np.float32), np.ones((16, 1), np.float32)


def made(units=4):
    set_random_seed(1)
    model = compiled(models.Sequential([layers.Input((3,)), layers.Dense(units), layers.Dense(1)]), "adam")
    return model


def fit(callbacks, epochs=2, model=None):
    model = model or made()
    model.fit(X, Y, 4, epochs, 0, callbacks, shuffle=False)
    return model


def files(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.safetensors"])
def test_files_are_those_of_save(name, tmp_path):
    for package in ("h5py", "safetensors"):
        pytest.importorskip(package)
    weights = "weights" in name or "safe" in name
    model = fit(cb.ModelCheckpoint(tmp_path / name, save_weights_only=weights))
    written = (tmp_path / name).read_bytes()
    (model.save_weights if weights else model.save)(tmp_path / name)
    if name != "m.keras":
        assert (tmp_path / name).read_bytes() == written
    else:  # it holds the time
        (tmp_path / "before.keras").write_bytes(written)
        with zipfile.ZipFile(tmp_path / name) as new, zipfile.ZipFile(tmp_path / "before.keras") as old:
            assert new.namelist() == old.namelist()
            assert all(new.read(each) == old.read(each) for each in new.namelist() if each != "metadata.json")


class Saved(models.Sequential):
    def save(self, filepath, overwrite=True):
        """Writes nothing, and so needs no package."""


@pytest.mark.parametrize(
    ("package", "name", "weights"),
    [("h5py", "m.keras", False), ("h5py", "m.weights.h5", True), ("safetensors.numpy", "m.safetensors", True)],
)
def test_a_missing_package_is_an_error_before_the_first_epoch(package, name, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    epochs = []
    count = cb.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    save = functools.partial(cb.ModelCheckpoint, tmp_path / name, save_weights_only=weights)
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[files\]'"):
        fit([count, save()])
    assert not epochs
    if not weights:
        model = compiled(Saved([layers.Input((3,)), layers.Dense(1)]))
        fit([count, save()], model=model)
        assert epochs == [0, 1]


@pytest.fixture
def slow(monkeypatch):
    """Files that are written when the event is set."""
    may_write, write = threading.Event(), archive.PreparedFiles.write

    def wait_and_write(files):
        assert may_write.wait(20)
        write(files)

    monkeypatch.setattr(archive.PreparedFiles, "write", wait_and_write)
    yield may_write
    may_write.set()


class Does(cb.Callback):
    """Calls a function with the number of each batch."""

    def __init__(self, function):
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function(batch)


def test_training_goes_on_while_a_file_is_written(tmp_path, slow):
    seen = []
    epoch_2 = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: slow.set() if epoch else seen.extend(files(tmp_path)))
    fit([cb.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True, period=2), epoch_2], 4)
    assert seen == [] and files(tmp_path) == ["2.weights.h5", "4.weights.h5"]


def test_the_file_has_the_weights_of_its_moment(tmp_path, slow):
    weights = []
    spy = Does(lambda batch: weights.append(model.get_weights()) or (slow.set() if len(weights) > 2 else None))
    model = made()
    fit(
        [spy, cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=3)],
        1,
        model,
    )
    model.load_weights(tmp_path / "1-3.weights.h5")
    np.testing.assert_equal(model.get_weights(), weights[2])


def test_a_state_says_only_of_files_on_disk_that_they_are_saved(tmp_path, slow):
    """Else `BackupAndRestore` could save a `best` whose file a kill then prevents."""
    save = cb.ModelCheckpoint(tmp_path / "m.weights.h5", "loss", save_best_only=True, save_weights_only=True)
    seen = []

    def look(epoch, logs):
        seen.extend(files(tmp_path))
        threading.Timer(0.05, slow.set).start()
        assert save.state_dict()["best"] == logs["loss"]
        seen.extend(files(tmp_path))

    fit([save, cb.LambdaCallback(on_epoch_end=look)], 1)
    assert seen == ["m.weights.h5"]


def test_a_disk_that_is_slower_than_training_gets_every_file(tmp_path, monkeypatch):
    write = archive.PreparedFiles.write
    monkeypatch.setattr(archive.PreparedFiles, "write", lambda files: time.sleep(0.02) or write(files))
    scores = [3, 1, 4, 1, 5, 9, 2, 6]
    score = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(score=scores[epoch]))
    every = cb.ModelCheckpoint(tmp_path / "{epoch:02d}.weights.h5", save_weights_only=True)
    best = [
        cb.ModelCheckpoint(tmp_path / f"{mode}.weights.h5", "score", 0, True, True, mode) for mode in ("min", "max")
    ]
    fit([score, every, *best], len(scores))
    names = [f"{epoch:02d}.weights.h5" for epoch in range(1, 1 + len(scores))]
    assert files(tmp_path) == [*names, "max.weights.h5", "min.weights.h5"]
    assert (tmp_path / "min.weights.h5").read_bytes() == (tmp_path / names[1]).read_bytes()
    assert (tmp_path / "max.weights.h5").read_bytes() == (tmp_path / names[5]).read_bytes()


def test_never_two_contents(tmp_path, monkeypatch):
    alive, maximum, write, begin = [0], [0], archive.PreparedFiles.write, archive.PreparedFiles.__init__

    def count(files):
        alive[0] += 1
        maximum[0] = max(maximum[0], alive[0])
        begin(files)

    def write_slowly(files):
        time.sleep(0.02)
        write(files)
        alive[0] -= 1

    monkeypatch.setattr(archive.PreparedFiles, "__init__", count)
    monkeypatch.setattr(archive.PreparedFiles, "write", write_slowly)
    fit(cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=1))
    assert maximum == [1] and len(files(tmp_path)) == 8


def test_only_the_newest_files_of_its_own_stay(tmp_path):
    (tmp_path / "1-2.keras").write_bytes(b"mine")
    (tmp_path / "0-0.keras").write_bytes(b"mine")
    save = cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3, keep=2)
    fit(save, 3)  # after 1-3, 2-2, 3-1, 3-4
    assert files(tmp_path) == ["0-0.keras", "1-2.keras", "3-1.keras", "3-4.keras"]
    assert models.load_model(tmp_path / "3-4.keras").optimizer is not None
    again = cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3, keep=1)
    again.load_state_dict({**save.state_dict(), "_batches_since_save": 0})
    fit(again, 1)
    assert files(tmp_path) == ["0-0.keras", "1-2.keras", "1-3.keras"]


def test_one_name_for_all_files(tmp_path):
    fit(cb.ModelCheckpoint(tmp_path / "m.keras", save_freq=1, keep=1))
    assert files(tmp_path) == ["m.keras"]
    with pytest.raises(ValueError, match="keep must be a positive number of files or None, received 0"):
        cb.ModelCheckpoint("m", keep=0)


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("2.keras.999999999.01234567.part", "3.keras.999999999.01234567.part"):
        (tmp_path / name).write_bytes(b"")
    fit(cb.ModelCheckpoint(tmp_path / "{epoch}.keras"))
    assert files(tmp_path) == ["1.keras", "2.keras", "3.keras.999999999.01234567.part"]


def test_copies_have_a_writer_of_their_own(tmp_path):
    first = cb.ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(first)
    fit(copy.deepcopy(first))
    fit(copy.deepcopy(cb.BackupAndRestore(tmp_path / "backup")))


# -------------------- errors --------------------


def failing(code):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    return fail


def test_an_error_ends_training_at_the_next_batch(tmp_path, monkeypatch):
    batches = []

    def act(batch):
        batches.append(batch)
        if len(batches) == 5:
            monkeypatch.setattr(archive.os, "fsync", failing(errno.ENOSPC))
        while save._writer.is_busy:
            time.sleep(0.001)

    save = cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=2)
    with pytest.raises(
        OSError, match=r"1-4\.keras': No space left .*; free space .* The last one, .*1-2\.keras', is complete"
    ):
        fit([Does(act), save, Does(act)], 9)
    assert files(tmp_path) == ["1-2.keras"] and len(batches) == 8
    monkeypatch.undo()
    fit(save, 1)  # the error was raised once


def test_an_error_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.os, "replace", failing(errno.EDQUOT))
    with pytest.raises(
        OSError, match=r"1\.keras': Disk quota exceeded; delete other files, or choose a folder elsewhere\."
    ):
        fit(cb.ModelCheckpoint(tmp_path / "{epoch}.keras"), 1)
    assert files(tmp_path) == []


def test_an_error_while_training_fails(tmp_path, monkeypatch):
    def stop(batch):
        if batch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([cb.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3), Does(stop)])
    assert files(tmp_path) == ["1-3.keras"]  # `fit` waits for it
    monkeypatch.setattr(archive.os, "replace", failing(errno.EIO))
    with (
        pytest.warns(UserWarning, match="a file was not written: .*the disk has failed"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit([Does(lambda batch: stop(3)), cb.ModelCheckpoint(tmp_path / "m.keras", save_freq=1)][::-1])


def test_a_name_without_an_ending_is_refused_before_the_first_epoch(tmp_path):
    batches: list = []
    with pytest.raises(ValueError, match=r"save as '.*best': .* ends in \.keras"):
        fit([Does(batches.append), cb.ModelCheckpoint(tmp_path / "best")], 1)
    assert batches == []


def test_folders_that_vanish_or_are_files(tmp_path):
    folder = tmp_path / "models"

    def vanish(batch):
        if batch == 2:
            for name in os.listdir(folder):
                (folder / name).unlink()
            folder.rmdir()

    save = cb.ModelCheckpoint(folder / "{epoch}-{batch}.keras", save_freq=2)
    with pytest.raises(FileNotFoundError, match="cannot write .*1-4.keras': there is no folder"):
        fit([save, Does(lambda batch: save._writer.wait()), Does(vanish)])
    folder.write_bytes(b"mine")
    with pytest.raises(
        FileExistsError, match="cannot write .*1-2.keras': File exists; a file is where a folder should be"
    ):
        fit(save)
    with pytest.raises(OSError, match="File name too long; choose a shorter name"):
        fit(cb.ModelCheckpoint(tmp_path / ("n" * 300 + ".keras")))
    assert folder.read_bytes() == b"mine"


# -------------------- disks, for all that is saved --------------------


@pytest.mark.parametrize("fault", ["full", "vanished", "file"])
def test_a_state_that_cannot_be_written(fault, tmp_path, monkeypatch):
    folder, whole = tmp_path / "backup", made()
    fit(None, 3, whole)
    backup = cb.BackupAndRestore(folder, save_freq=1)

    def act(batch):
        backup._folder.wait()
        if batch == 2 and fault == "full":
            monkeypatch.setattr(archive.os, "fsync", failing(errno.ENOSPC))
        elif batch == 2:
            folder.rename(tmp_path / "elsewhere")
            if fault == "file":
                folder.write_bytes(b"mine")

    message = {
        "full": "No space left on device; free",
        "vanished": "there is no folder",
        "file": "a file is where a folder",
    }
    with pytest.raises(OSError, match=rf"cannot write .*\.npz.*{message[fault]}"):
        fit([Does(act), backup], 3)
    monkeypatch.undo()
    if fault == "file":
        assert folder.read_bytes() == b"mine"
        folder.unlink()
    if fault != "full":
        (tmp_path / "elsewhere").rename(folder)
    assert len(files(folder)) == 1 and files(tmp_path) == ["backup"]
    resumed = fit(cb.BackupAndRestore(folder), 3)
    np.testing.assert_equal(whole.get_weights(), resumed.get_weights())


@contextlib.contextmanager
def small_disk(folder, kilobytes=40):
    folder.mkdir()
    options = f"size={kilobytes}k"
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode
    ):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield functools.partial(subprocess.run, ["mount", "-o", "remount,ro", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def log(path, model):
    fit(cb.CSVLogger(path, append=True), 3, model)


WAYS = {
    "m.keras": lambda path, model: model.save(path),
    "m.h5": lambda path, model: model.save(path),
    "m.weights.h5": lambda path, model: model.save_weights(path),
    "m.safetensors": lambda path, model: model.save_weights(path),
    "m.onnx": lambda path, model: model.export(path, verbose=0),
    "m": lambda path, model: model.save(path, zipped=False),
    "libnet.so": lambda path, model: model.export(path, "library", verbose=0),
    "c.keras": lambda path, model: fit(cb.ModelCheckpoint(path), 1, model),
    "log.csv": log,
}


@pytest.mark.parametrize("name", WAYS)
def test_full_and_read_only_disks(name, tmp_path):
    if name.endswith(".so") and sys.platform != "linux":
        pytest.skip("libraries can be exported only on Linux")
    save, folder, small, large = WAYS[name], tmp_path / "disk", made(), made(30_000)
    with small_disk(folder, 4 if name == "log.csv" else 300) as make_read_only:
        path = str(folder / name)
        save(path, small)
        if name == "log.csv":  # fill the page of the disk
            (folder / "other").write_bytes(b"")
            with open(path, "ab") as file:
                file.write(b"x" * (4096 - file.tell()))
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        with pytest.raises(
            OSError, match=f"cannot write .*{name}.*': No space left on device; free space on that"
        ) as info:
            save(path, large)
        assert info.value.errno == errno.ENOSPC and "is unchanged." in str(info.value)
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
        make_read_only()
        with pytest.raises(
            OSError, match="cannot write .*m.*': Read-only file system; choose a folder elsewhere"
        ) as info:
            save(path, small)
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
