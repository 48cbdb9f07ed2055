"""CheckpointFolder: files written in the background, whole or not at all, and read with every step checked."""

import contextlib
import errno
import gc
import io
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
import zipfile
import zlib

import numpy as np
import pytest

from nbkeras.saving import archive as archives
from nbkeras.saving import background, checkpoints
from nbkeras.saving.checkpoints import CheckpointFolder, read

pytestmark = pytest.mark.cpu("files are written by the CPU")
ARRAYS = {
    "weights/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a:b": np.array(3.5),
    "empty": np.zeros((0, 3), np.int64),
    "bools": np.array([True, False]),
}
NOTES = {"epoch": 3, "best": float("inf"), "names": ["ä", "b"]}


def saved(folder, *numbers, keep=9, arrays=ARRAYS, notes=NOTES):
    made = CheckpointFolder(folder, keep)
    for number in numbers:
        made.save(number, arrays, notes)
    made.wait()
    return made


def found(folder):
    """(number, arrays, notes) of the newest checkpoint, or None."""
    got = []
    number = CheckpointFolder(folder).newest(lambda *state: got.extend(state))
    return None if number is None else (number, *got)


def same(arrays, expected=ARRAYS):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array, strict=True)


# -------------------- files --------------------


def test_the_newest_is_found(tmp_path):
    assert found(tmp_path / "new") is None and not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.npz").write_bytes(b"")
    saved(tmp_path / "new", 8, 9, 10)
    number, arrays, notes = found(tmp_path / "new")
    assert (number, notes) == (10, NOTES)
    same(arrays)
    assert not any(array.flags.writeable for array in arrays.values())


def test_older_files_are_deleted_and_no_others(tmp_path):
    (tmp_path / "7.npz.txt").write_bytes(b"")
    (tmp_path / "latest.npz").write_bytes(b"")
    others = {"7.npz.txt", "latest.npz"}
    saved(tmp_path, 1, 2, 3, keep=2)
    assert set(os.listdir(tmp_path)) == {"2.npz", "3.npz", *others}
    made = saved(tmp_path, 1, keep=1)  # training went on from an earlier state: what came after it is gone
    assert set(os.listdir(tmp_path)) == {"1.npz", *others}
    made.delete()
    assert set(os.listdir(tmp_path)) == others
    for name in others:
        (tmp_path / name).unlink()
    made.delete()
    assert not tmp_path.exists()


def test_files_are_like_ordinary_ones(tmp_path):
    before = os.umask(0o027)
    try:
        saved(tmp_path, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "1.npz").stat().st_mode) == 0o640
    np.testing.assert_array_equal(np.load(tmp_path / "1.npz")["0"], ARRAYS["weights/0"])


def test_lists_in_notes_may_change_at_once(tmp_path):
    notes = {"counts": [1], "best": np.float32(0.5), "row": np.arange(2)}
    made = CheckpointFolder(tmp_path)
    made.save(1, {}, notes)
    notes["counts"].append(2)
    made.wait()
    assert found(tmp_path) == (1, {}, {"counts": [1], "best": 0.5, "row": [0, 1]})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda made: made.save(1, {"a": np.array([None])}, {}), TypeError, "by name, received 'a': ndarray of shape"),
        (lambda made: made.save(1, {}, {"a": object()}), TypeError, "hold what JSON can hold, received <object"),
        (lambda made: made.save(-1, {}, {}), ValueError, "number must be 0 or more, received -1"),
        (
            lambda made: CheckpointFolder(made.folder, 0),
            ValueError,
            "keep must be a positive number of files, received 0",
        ),
    ],
)
def test_what_cannot_be_written(call, error, message, tmp_path):
    made = CheckpointFolder(tmp_path)
    with pytest.raises(error, match=message):
        call(made)
    made.wait()
    assert os.listdir(tmp_path) == []


def test_links_are_replaced(tmp_path):
    (tmp_path / "far").write_bytes(b"mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.npz").symlink_to(tmp_path / "far")
    saved(tmp_path / "in", 1)
    assert (tmp_path / "far").read_bytes() == b"mine" and not (tmp_path / "in" / "1.npz").is_symlink()


# -------------------- damage --------------------


FEW = {"a": np.array([1.5, 2.5], np.float32)}


def test_every_byte_is_checked(tmp_path):
    saved(tmp_path, 1, arrays=FEW)
    path = tmp_path / "1.npz"
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(0, 8, len(whole))
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bits[place])]) + whole[place + 1 :])
        try:
            arrays, notes = read(str(path))
        except ValueError:
            refused += 1
        else:  # a bit that says nothing, such as one of a date
            same(arrays, FEW)
            assert notes == NOTES
    assert refused > 0.6 * len(whole)


def test_every_truncated_file_is_refused(tmp_path):
    saved(tmp_path, 1, arrays=FEW)
    path = tmp_path / "1.npz"
    whole = path.read_bytes()
    for size in range(0, len(whole), 3):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"truncated or from another program|it is not a checkpoint"):
            read(str(path))


def test_a_damaged_one_is_passed_over(tmp_path):
    saved(tmp_path, 1, 2, 3)
    (tmp_path / "3.npz").write_bytes((tmp_path / "3.npz").read_bytes()[:-1])
    (tmp_path / "2.npz").write_bytes(b"")
    made = CheckpointFolder(tmp_path, keep=2)
    with pytest.warns(UserWarning, match=r"checkpoint .*[23]\.npz' is damaged and skipped") as warned:
        assert made.newest(lambda *state: None) == 1
    assert len(warned) == 2
    made.save(2, {}, {})  # the next one takes the place of the damaged ones
    made.wait()
    assert sorted(os.listdir(tmp_path)) == ["1.npz", "2.npz"]


def test_none_is_whole(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "1.npz").write_bytes(b"PK")
    with (
        pytest.warns(UserWarning, match="is damaged and skipped"),
        pytest.raises(OSError, match="can be read .*: delete the folder to start from the beginning"),
    ):
        found(tmp_path)
    assert os.listdir(tmp_path) == ["1.npz"]


def test_of_another_model(tmp_path):
    saved(tmp_path, 1, 2)

    def refuse(arrays, notes):
        raise ValueError("no layer 'b'")

    with pytest.raises(ValueError, match=r"2\.npz' belongs to another model or training \(no layer 'b'\): delete"):
        CheckpointFolder(tmp_path).newest(refuse)


# -------------------- hostile files --------------------


def npy(array, shape=None, descr=None):
    """The bytes of a .npy array; shape and descr: claims in the header."""
    file = io.BytesIO()
    shape = array.shape if shape is None else shape
    claims = {"descr": descr or array.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, claims)
    return file.getvalue() + array.tobytes()


def forged(path, members, names=None, compression=zipfile.ZIP_STORED, **entry):
    """A checkpoint whose entry is as it should be, but for what is given."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for place, data in enumerate(members):
            archive.writestr(f"{place}.npy", data)
        held = [[f"a{place}", len(data), zlib.crc32(data)] for place, data in enumerate(members)]
        text = json.dumps({"format": "nbkeras checkpoint 1", "arrays": held, "notes": {}, **entry})
        archive.writestr("checkpoint.json", text)


def hold(*members, **entry):
    """Makes checkpoints of these members."""
    return lambda path: forged(path, members, **entry)


PLAIN = npy(np.zeros(4))
HOSTILE = {
    "bomb": hold(npy(np.zeros(1 << 21)), compression=zipfile.ZIP_DEFLATED),
    "shape larger than the data": hold(npy(np.zeros(4), (1 << 40,))),
    "negative shape": hold(npy(np.zeros(4), (-2, -2))),
    "objects": hold(npy(np.zeros(4), descr="|O")),
    "texts": hold(npy(np.zeros(4), descr="<U2")),
    "another size of items": hold(npy(np.zeros(4), descr="<f4")),
    "no array": hold(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{"),
    "code in the header": hold(PLAIN.replace(b"False", b"exit(")),
    "other format": hold(PLAIN, format="other"),
    "no notes": hold(PLAIN, notes=None),
    "a name twice": hold(PLAIN, PLAIN, arrays=[["a", len(PLAIN), zlib.crc32(PLAIN)]] * 2),
    "a name that is none": hold(PLAIN, arrays=[[["a"], len(PLAIN), zlib.crc32(PLAIN)]]),
    "arrays that are missing": hold(PLAIN, arrays=[]),
    "entry of another kind": hold(PLAIN, arrays=7),
    "deep notes": lambda path: forged(path, [], notes={"a": eval("[" * 90 + "]" * 90), "b": {}}) or deepen(path),
    "another program's": lambda path: np.savez(path, a=np.zeros(3)),
    "empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "link to nothing": lambda path: os.symlink("/nowhere/at/all", path),
    "link to a device": lambda path: os.symlink("/dev/zero", path),
}


def deepen(path):
    with zipfile.ZipFile(path, "w") as archive:
        text = '{"format": "nbkeras checkpoint 1", "arrays": [], "notes": {"a": %s}}' % ("[" * 5000 + "]" * 5000)
        archive.writestr("checkpoint.json", text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_passed_over(kind, tmp_path):
    saved(tmp_path, 1)
    HOSTILE[kind](tmp_path / "2.npz")
    tracemalloc.start()
    with pytest.warns(UserWarning, match=r"2\.npz' is damaged and skipped"):
        assert found(tmp_path)[0] == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    assert set(os.listdir(tmp_path)) == {"1.npz", "2.npz"}


def test_overlapping_members_are_refused(tmp_path):
    """Many entries of one member's bytes: a bomb without compression."""
    data = npy(np.zeros(1000))
    forged(tmp_path / "1.npz", [data] * 2)
    with zipfile.ZipFile(tmp_path / "1.npz", "a") as archive:
        first, second, last = archive.infolist()
        second.header_offset = first.header_offset
        second.orig_filename = second.filename
        archive._didModify = True
    with pytest.raises(ValueError, match=r"member '1\.npy' overlaps another one: it is not read"):
        read(str(tmp_path / "1.npz"))


# -------------------- the background --------------------


@pytest.fixture
def slow(monkeypatch):
    """Files whose writing starts when the event is set."""
    may_start, write = threading.Event(), checkpoints.write

    def wait_and_write(*args):
        assert may_start.wait(20)
        write(*args)

    monkeypatch.setattr(checkpoints, "write", wait_and_write)
    yield may_start
    may_start.set()


def test_saving_does_not_wait(tmp_path, slow):
    made = CheckpointFolder(tmp_path)
    made.save(1, ARRAYS, NOTES)
    assert made.is_busy and not (tmp_path / "1.npz").exists()
    made.check()
    slow.set()
    made.wait()
    assert not made.is_busy and found(tmp_path)[0] == 1


def test_arrays_are_dropped_when_they_are_written(tmp_path, monkeypatch):
    class Watched(np.ndarray):
        pass

    def check(made):
        array = np.zeros(3).view(Watched)
        dropped = threading.Event()
        weakref.finalize(array, dropped.set)
        made.save(1, {"a": array}, {})
        del array
        assert dropped.wait(20)

    made = CheckpointFolder(tmp_path)
    check(made)
    made.wait()
    monkeypatch.setattr(archives.os, "fsync", failing(errno.EIO))
    check(made)  # also after an error
    with pytest.raises(OSError, match="Input/output error; the disk has failed"):
        made.wait()


def failing(error):
    """A function that raises an error, or that of a number of the system."""

    def fail(*args, **kwargs):
        raise error if isinstance(error, Exception) else OSError(error, os.strerror(error))

    return fail


def complaint(reason):
    """The message of the second checkpoint, which was not written."""
    return rf"cannot write .*2\.npz': {reason} The last one, .*1\.npz', is complete"


@pytest.mark.parametrize("way", ["wait", "check", "save", "newest", "delete"])
def test_an_error_is_raised_once_by_the_next_call(way, tmp_path, monkeypatch):
    made = saved(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(archives.os, "fsync", failing(errno.ENOSPC))
        made.save(2, ARRAYS, NOTES)
        while made.is_busy:
            time.sleep(0.001)
    calls = {"save": lambda: made.save(3, {}, {}), "newest": lambda: made.newest(lambda *state: None)}
    with pytest.raises(OSError, match=complaint("No space left .*")) as info:
        calls.get(way, getattr(made, way))()
    assert info.value.errno == errno.ENOSPC and os.listdir(tmp_path) == ["1.npz"]
    made.wait()
    made.check()
    made.save(2, ARRAYS, NOTES)
    made.wait()
    assert found(tmp_path)[0] == 2


def test_an_error_that_nobody_heard_is_printed_at_the_end(tmp_path, capsys):
    made = CheckpointFolder(tmp_path)
    made._writer.start(lambda: 1 / 0)
    while made.is_busy:
        time.sleep(0.001)
    background._print_unreported()
    assert "a file was not written" in (text := capsys.readouterr().err) and "ZeroDivisionError" in text
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        made.wait()
    background._print_unreported()
    assert capsys.readouterr().err == ""


def test_without_a_thread(tmp_path, monkeypatch):
    """As when the interpreter ends, or the system allows no more threads."""

    monkeypatch.setattr(threading.Thread, "start", failing(RuntimeError("can't start new thread")))
    saved(tmp_path, 1)
    assert found(tmp_path)[0] == 1


# -------------------- disks --------------------


@contextlib.contextmanager
def small_disk(folder, options="size=64k"):
    """A file system of its own in a folder; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode
    ):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


LARGE = {"a": np.random.default_rng(0).random(30_000)}


@pytest.mark.parametrize(
    ("read_only", "reason"),
    [
        (False, "No space left on device; free space .*"),
        (True, r"Read-only file system; choose a folder elsewhere\."),
    ],
)
def test_a_disk_that_is_full_or_read_only(read_only, reason, tmp_path):
    folder = tmp_path / "disk"
    with small_disk(folder):
        made = saved(folder, 1)
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        made.save(2, ARRAYS if read_only else LARGE, {})
        with pytest.raises(OSError, match=complaint(reason)):
            made.wait()
        assert os.listdir(folder) == ["1.npz"]
        same(found(folder)[1])


def test_a_limit_of_sizes(tmp_path, limit_files):
    made = saved(tmp_path, 1)
    with limit_files(100_000):
        made.save(2, LARGE, {})
        with pytest.raises(OSError, match=complaint("File too large; .* limits the size .*")):
            made.wait()
    assert os.listdir(tmp_path) == ["1.npz"]
    gc.collect()


@pytest.mark.parametrize("where", ["open", "fsync", "replace"])
@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO", "ESTALE"])
def test_errors_of_the_system(code, where, tmp_path, monkeypatch):
    made, number = saved(tmp_path, 1), getattr(errno, code)
    with monkeypatch.context() as patch:
        patch.setattr(archives if where == "open" else archives.os, where, failing(number), raising=False)
        made.save(2, ARRAYS, NOTES)
        with pytest.raises(OSError, match=complaint(r"[A-Z].*; .*\.")) as info:
            made.wait()
    assert info.value.errno == number and info.value.__suppress_context__
    assert os.strerror(number) in str(info.value) and os.listdir(tmp_path) == ["1.npz"]
    same(found(tmp_path)[1])


def test_a_folder_that_vanished(tmp_path):
    made = saved(tmp_path / "backup", 1)
    (tmp_path / "backup" / "1.npz").unlink()
    (tmp_path / "backup").rmdir()
    made.save(2, ARRAYS, NOTES)
    with pytest.raises(FileNotFoundError, match=r"cannot write .*2\.npz': there is no folder"):
        made.wait()
    (tmp_path / "backup").write_bytes(b"mine")
    made.save(3, ARRAYS, NOTES)
    with pytest.raises(
        NotADirectoryError, match=r"3\.npz': Not a directory; a file is where a folder should be: remove"
    ):
        made.wait()
    with pytest.raises(FileExistsError, match="backup': File exists; a file is where a folder should be: remove it"):
        CheckpointFolder(tmp_path / "backup").save(1, {}, {})
    assert found(tmp_path / "backup") is None
    assert os.listdir(tmp_path) == ["backup"] and (tmp_path / "backup").read_bytes() == b"mine"


def test_names_that_are_too_long(tmp_path):
    with pytest.raises(OSError, match="File name too long; choose a shorter name"):
        CheckpointFolder(tmp_path / ("n" * 300)).save(1, {}, {})
    with (
        pytest.raises(OSError, match="File name too long; choose a shorter name"),
        archives.atomic_file(tmp_path / ("n" * 300)),
    ):
        raise RuntimeError("not reached: it is known before anything is computed")
    assert os.listdir(tmp_path) == []


def test_the_folder_is_synced_after_the_new_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        archives.os, "fsync", lambda file: (order.append(stat.S_ISDIR(os.fstat(file).st_mode)), fsync(file))
    )
    monkeypatch.setattr(archives.os, "replace", lambda *paths: (order.append("name"), replace(*paths)))
    with archives.atomic_file(tmp_path / "a") as file:
        file.write(b"1")
    assert order == [False, "name", True]


def test_systems_that_cannot_open_or_sync_folders(tmp_path, monkeypatch):
    def sync(number):
        def fail(file):
            if stat.S_ISDIR(os.fstat(file).st_mode):
                raise OSError(number, os.strerror(number))

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(archives.os, "open", failing(errno.EACCES))  # as Windows does
        saved(tmp_path, 1)
    monkeypatch.setattr(archives.os, "fsync", sync(errno.EINVAL))
    saved(tmp_path, 2)
    monkeypatch.setattr(archives.os, "fsync", sync(errno.EIO))
    with pytest.raises(OSError, match="may be lost in a power cut: Input/output error"):
        saved(tmp_path, 3)


# -------------------- processes --------------------

START = """
import os, sys, threading
import numpy as np
from nbkeras.saving import archive, checkpoints
folder = checkpoints.CheckpointFolder("backup", keep=2)
folder.save(1, {"a": np.zeros(3)}, {})
folder.wait()
write = checkpoints.write
def slow(file, arrays, notes):  # a temporary file exists, and has a part of its bytes
    file.write(b"PK" * 5000)
    file.flush()
    begun.set()
    may_go_on.wait(WAIT)
    file.seek(0)
    file.truncate()
    write(file, arrays, notes)
begun, may_go_on = threading.Event(), threading.Event()
checkpoints.write = slow
folder.save(2, {"a": np.ones(3)}, {"end": True})
begun.wait()
"""


def process(code, tmp_path, wait=20, **options):
    text = START.replace("WAIT", str(wait)) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", text],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def ended(running, code=0):
    out, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    return out, err


@pytest.mark.process
def test_an_interpreter_that_ends_finishes_the_file(tmp_path):
    assert ended(process("", tmp_path, wait=0.2)) == ("", "")
    number, _, notes = found(tmp_path / "backup")
    assert (number, notes) == (2, {"end": True}) and sorted(os.listdir(tmp_path / "backup")) == ["1.npz", "2.npz"]


@pytest.mark.process
def test_an_interpreter_that_ends_prints_the_error(tmp_path):
    out, err = ended(process("archive.os.replace = lambda *paths: 1 / 0; may_go_on.set()", tmp_path))
    assert "a file was not written" in err and "ZeroDivisionError" in err
    assert os.listdir(tmp_path / "backup") == ["1.npz"]


@pytest.mark.process
@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_killed_process_leaves_a_temporary_file_at_most(how, tmp_path):
    ended(process(how, tmp_path), 0 if "exit" in how else -9)
    assert len(os.listdir(tmp_path / "backup")) == 2
    (tmp_path / "backup" / "1.npz.mine.part").write_bytes(b"")
    (tmp_path / "backup" / "mine.7.01234567.part").write_bytes(b"")
    assert found(tmp_path / "backup")[0] == 1
    assert set(os.listdir(tmp_path / "backup")) == {"1.npz", "1.npz.mine.part", "mine.7.01234567.part"}


@pytest.mark.process
@pytest.mark.parametrize("locks", [True, False])
def test_temporary_files_of_a_live_process_stay(locks, tmp_path, monkeypatch):
    running = process("print('begun', flush=True); may_go_on.wait()", tmp_path)
    assert running.stdout.readline() == "begun\n"
    if not locks:  # a file system without them: the process is looked for
        monkeypatch.setattr(archives.fcntl, "flock", failing(errno.ENOLCK))
    assert found(tmp_path / "backup")[0] == 1
    assert len(os.listdir(tmp_path / "backup")) == 2
    running.kill()
    running.communicate()
    assert found(tmp_path / "backup")[0] == 1
    assert os.listdir(tmp_path / "backup") == ["1.npz"]


@pytest.mark.process
def test_a_fork_has_no_part_in_what_its_parent_writes(tmp_path):
    code = """
        process = os.fork()
        if process == 0:
            assert not folder.is_busy
            folder.wait()
            checkpoints.write = write
            folder.folder = "of_child"
            folder._is_made = False
            folder.save(5, {"a": np.zeros(3)}, {})  # a thread of its own
            sys.exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
        may_go_on.set()
        folder.wait()
        """
    text = "import warnings; warnings.filterwarnings('ignore', '.*fork', DeprecationWarning)\n" + textwrap.dedent(code)
    assert ended(process(text, tmp_path)) == ("", "")
    assert found(tmp_path / "backup")[0] == 2 and found(tmp_path / "of_child")[0] == 5
    assert sorted(os.listdir(tmp_path / "backup")) == ["1.npz", "2.npz"]


@pytest.mark.process
def test_ctrl_c_while_waiting_for_the_file(tmp_path):
    code = """
        import signal
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            folder.wait()
        except KeyboardInterrupt:
            may_go_on.set()
        folder.wait()
        print(os.path.exists("backup/2.npz"))
        """
    assert ended(process(code, tmp_path)) == ("True\n", "")


# -------------------- faults at random places --------------------

CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EFBIG]


class Faulty:
    """Functions of the system, one of whose calls fails."""

    def __init__(self, monkeypatch):
        self.left, self.code = None, None
        for name in ("fsync", "replace", "open", "lstat"):
            monkeypatch.setattr(archives.os, name, self.watched(getattr(os, name)))
        monkeypatch.setattr(archives, "open", self.opened, raising=False)

    def watched(self, function):
        def call(*args, **kwargs):
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    raise OSError(self.code, os.strerror(self.code))
            return function(*args, **kwargs)

        return call

    def opened(self, *args, **options):
        if options:  # to read
            return open(*args, **options)
        file = self.watched(open)(*args)
        faulty = self

        class File(io.BufferedRandom):
            def write(self, data):
                return faulty.watched(super().write)(data)

            def flush(self):
                return faulty.watched(super().flush)()

        return File(file.detach()) if args[1] == "x+b" else file


def test_faults_at_random_places(tmp_path, monkeypatch):
    faulty, rng = Faulty(monkeypatch), np.random.default_rng(0)
    made, good, failed = CheckpointFolder(tmp_path, keep=2), -1, 0
    for number in range(120):
        faulty.code = int(rng.choice(CODES))
        faulty.left = int(rng.integers(1, 30)) if number else None
        try:
            made.save(number, {"a": np.full(9, number), "b": np.zeros(3)}, {"number": number})
            made.wait()
        except OSError as error:
            failed += 1
            assert error.errno == faulty.code and os.strerror(faulty.code) in str(error)
        else:
            good = number
        faulty.left = None
        newest, arrays, notes = found(tmp_path)
        assert newest in (good, number) and notes == {"number": newest} and (arrays["a"] == newest).all()
        good = newest  # a fault after the rename
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
    assert failed > 50


TOO_LARGE = ValueError("the file is too large")
TOO_LARGE.__cause__ = MemoryError()


@pytest.mark.parametrize("error", [PermissionError("no permission"), TOO_LARGE])
def test_what_is_not_damage_is_not_passed_over(error, tmp_path, monkeypatch):
    saved(tmp_path, 1, 2)
    monkeypatch.setattr(checkpoints, "read", failing(error))
    with pytest.raises(type(error), match=str(error)):
        found(tmp_path)
