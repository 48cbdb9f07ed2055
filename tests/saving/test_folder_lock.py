"""A folder of states is used by one training at a time."""

import copy
import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from nbkeras import callbacks as cb
from nbkeras import layers, models
from nbkeras.saving import folder_lock
from nbkeras.saving.folder_lock import FolderLock

X = np.ones((4, 2), "float32")
IN_USE = "another training is using the folder .*choose another backup_dir"


def fit(*callbacks, epochs=1):
    model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model.fit(X, X[:, :1], epochs=epochs, verbose=0, callbacks=list(callbacks))


class Then(cb.Callback):
    """Calls a function when an epoch ends."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        self.function()


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    folder, seen = tmp_path / "backup", []

    def second():
        assert seen or not folder.exists()
        with pytest.raises(RuntimeError, match=IN_USE):
            fit(cb.BackupAndRestore(folder))
        fit(cb.BackupAndRestore(tmp_path / "another"))
        seen.append(True)

    fit(cb.BackupAndRestore(folder, delete_checkpoint=False), Then(second), epochs=2)
    assert len(seen) == 2 and [path.name for path in folder.iterdir()] == ["1.npz"]
    fit(cb.BackupAndRestore(folder), epochs=3)
    assert not list(tmp_path.iterdir())


def test_a_training_that_fails_releases_its_folder(tmp_path):
    def fail():
        raise KeyError("a fault of the callback")

    for _ in range(2):
        with pytest.raises(KeyError, match="a fault of the callback"):
            fit(cb.BackupAndRestore(tmp_path / "backup"), Then(fail))
    fit(cb.BackupAndRestore(tmp_path / "backup"))


def test_the_callbacks_of_a_loop_of_your_own_take_and_release_the_folder(tmp_path):
    model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    backup = cb.BackupAndRestore(tmp_path / "backup")
    backup.set_model(model)
    for _ in range(2):  # the first one is not ended
        backup.on_train_begin()
    with pytest.raises(RuntimeError, match=IN_USE):
        fit(cb.BackupAndRestore(tmp_path / "backup"))
    backup.on_train_end()
    fit(cb.BackupAndRestore(tmp_path / "backup"))
    backup.on_train_begin()
    del backup
    fit(cb.BackupAndRestore(tmp_path / "backup"))


HOLD = """
import sys, time
from nbkeras.saving.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
print(lock.take(), flush=True)
sys.stdin.read()
"""


def process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-c", *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.process
def test_a_process_that_is_killed_leaves_no_lock(tmp_path):
    folder = tmp_path / "folder"
    with process(HOLD, folder) as other:
        assert other.stdout.readline() == "True\n"
        assert not FolderLock(folder).take()
        other.kill()
        other.wait()
        assert FolderLock(folder).take()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("inside", [False, True])
def test_one_has_the_folder(tmp_path, inside):
    """Whether the lock is beside the folder or, where that cannot be written, in it."""
    folder = tmp_path / "a" / "b"
    if inside:
        folder.mkdir(parents=True)
        (tmp_path / "a" / "b.lock").mkdir()  # root cannot write it either
    first, second = FolderLock(folder), FolderLock(tmp_path / "a" / ".." / "a" / "b")
    assert first.take() and first.take() and not second.take()
    assert not copy.deepcopy(first).take()
    first.release()
    first.release()
    assert second.take() and not first.take()
    del second
    assert first.take() and FolderLock(tmp_path / "a" / "c").take()
    first.release()
    assert not list(folder.iterdir()) if inside else not list((tmp_path / "a").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="there no file is removed that is open")
def test_a_lock_that_is_removed_while_it_is_taken_is_made_again(tmp_path, monkeypatch):
    lock, times = folder_lock._lock, []

    def removed_first(file):
        lock(file)
        if not times:
            (tmp_path / "folder.lock").unlink()
        times.append(1)

    monkeypatch.setattr(folder_lock, "_lock", removed_first)
    first = FolderLock(tmp_path / "folder")
    assert first.take() and len(times) == 2
    assert not FolderLock(tmp_path / "folder").take()


@pytest.mark.skipif(os.name == "nt", reason="locks as POSIX has them")
def test_a_file_system_without_locks_refuses_nobody(tmp_path, monkeypatch):
    def no_locks(file, flags):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folder_lock.fcntl, "flock", no_locks)
    first = FolderLock(tmp_path / "folder")
    assert first.take() and FolderLock(tmp_path / "folder").take()
    assert not list(tmp_path.iterdir())


FORK = """
import os, sys
from nbkeras.saving.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
assert lock.take()
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_outlives_its_parent_does_not_hold_the_folder(tmp_path):
    """As the workers of a data loader do when the training is killed."""
    with process(FORK, tmp_path / "folder") as parent:
        assert parent.stdout.readline() == "child\n"
        parent.wait()
        assert FolderLock(tmp_path / "folder").take()
        parent.stdin.close()
