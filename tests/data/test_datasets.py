"""Data sets and `get_file`: against local files and a local server, with everything that can go wrong on the way."""

import contextlib
import errno
import functools
import hashlib
import http.server
import os
import pathlib
import resource
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from nbkeras import datasets, utils
from nbkeras.data import unpacking
from nbkeras.datasets import digits, mnist

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class TestDigits:
    def test_shapes_values_and_split(self):
        (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()
        assert x_train.shape == (1501, 8, 8) and x_test.shape == (296, 8, 8)
        assert all(a.dtype == np.uint8 for a in (x_train, y_train, x_test, y_test))
        assert x_train.min() == 0 and x_train.max() == 16
        assert np.bincount(y_test).tolist() == [29, 30, 29, 30, 30, 30, 30, 29, 29, 30]
        assert np.bincount(y_train).min() >= 145 and len(y_train) == 1501

    def test_no_image_is_in_both_parts(self):
        (x_train, _), (x_test, _) = digits.load_data()
        assert not {x.tobytes() for x in x_train} & {x.tobytes() for x in x_test}

    def test_a_person_would_recognise_them(self):
        """The nearest of the ten mean images is the right one for most test images."""
        (x_train, y_train), (x_test, y_test) = digits.load_data()
        means = np.stack([x_train[y_train == d].mean(0) for d in range(10)])
        distances = ((x_test[:, None].astype(float) - means) ** 2).sum((2, 3))
        assert (distances.argmin(1) == y_test).mean() > 0.85

    def test_the_file_is_small_and_plain(self):
        path = pathlib.Path(digits.__file__).with_name("digits.npz")
        assert path.stat().st_size < 60_000
        assert sorted(zipfile.ZipFile(path).namelist()) == ["images.npy", "labels.npy"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


@pytest.fixture
def source(tmp_path):
    """A local file to download."""
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


@contextlib.contextmanager
def serve(respond):
    """A server on this machine for the block; respond(handler) answers a GET. Yields its URL and the list of requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            respond(self)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def whole(handler, has_length=True, size=None):
    handler.send_response(200)
    if has_length:
        handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:size])


without_length = functools.partial(whole, has_length=False)


def only(folder, *names):
    """Whether a folder holds these files and no remains of a failed download."""
    return sorted(p.name for p in folder.iterdir()) == sorted(names) if folder.exists() else not names


class TestGetFile:
    def test_downloads_once(self, cache, capsys):
        with serve(whole) as (url, requests):
            for _ in range(2):
                path = utils.get_file("data.bin", f"{url}/x.bin", file_hash=SHA256)
            assert requests == ["/x.bin"]
        assert pathlib.Path(path) == cache / "data.bin"
        assert pathlib.Path(path).read_bytes() == CONTENT and only(cache, "data.bin")
        said = capsys.readouterr().out
        assert f"Downloading data from {url}/x.bin" in said and "256000/256000 ━" in said

    def test_without_a_length(self, cache, capsys):
        with serve(without_length) as (url, _):
            path = utils.get_file(None, f"{url}/folder/x.bin?key=1", file_hash=SHA256)
        assert pathlib.Path(path) == cache / "x.bin"
        assert "256000/Unknown" in capsys.readouterr().out

    def test_file_urls_and_md5(self, cache, source):
        md5 = hashlib.md5(CONTENT).hexdigest()
        for arguments in ({"file_hash": md5}, {"md5_hash": md5}, {"file_hash": SHA256.upper()}, {}):
            path = utils.get_file("data.bin", source.as_uri(), force_download=True, **arguments)
            assert pathlib.Path(path).read_bytes() == CONTENT

    def test_cache_dir_and_permissions(self, tmp_path, source):
        path = utils.get_file("data.bin", source.as_uri(), cache_dir=tmp_path / "here", cache_subdir="there")
        assert pathlib.Path(path) == tmp_path / "here" / "there" / "data.bin"
        assert pathlib.Path(path).stat().st_mode == source.stat().st_mode

    def test_home_is_the_default(self, tmp_path, monkeypatch, source):
        monkeypatch.delenv("KERAS_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        path = utils.get_file("data.bin", source.as_uri())
        assert pathlib.Path(path) == tmp_path / ".keras" / "datasets" / "data.bin"

    def test_a_wrong_file_in_the_cache_is_downloaded_again(self, cache, source, capsys):
        cache.mkdir(parents=True)
        (cache / "data.bin").write_bytes(b"old")
        path = utils.get_file("data.bin", source.as_uri(), file_hash=SHA256)
        assert pathlib.Path(path).read_bytes() == CONTENT
        assert "is not the expected file: its sha256 differs" in capsys.readouterr().out

    def test_offline_says_where_to_put_the_file(self, cache):
        with serve(whole) as (url, _):
            pass
        with pytest.raises(ConnectionError, match=f"refused.*; without a network, .* put it at {cache}/data.bin"):
            utils.get_file("data.bin", url + "/x", file_hash=SHA256)
        assert only(cache)

    @pytest.mark.parametrize(
        "respond, message",
        [
            (functools.partial(whole, size=100_000), "it ended after 100000 of 256000 bytes"),
            (lambda handler: handler.send_error(404), "the server says 404 Not Found"),
        ],
    )
    def test_a_failed_download_leaves_what_was_there(self, cache, respond, message):
        cache.mkdir(parents=True)
        (cache / "data.bin").write_bytes(b"old")
        with serve(respond) as (url, _), pytest.raises(ConnectionError, match=message):
            utils.get_file("data.bin", url + "/x", file_hash=SHA256)
        assert (cache / "data.bin").read_bytes() == b"old" and only(cache, "data.bin")

    def test_wrong_content(self, cache, source):
        with pytest.raises(ValueError, match=f"not the expected file: its sha256 is {SHA256}, expected {'0' * 64}"):
            utils.get_file("data.bin", source.as_uri(), file_hash="0" * 64)
        assert only(cache)

    def test_missing_file_url(self, cache, tmp_path):
        with pytest.raises(ConnectionError, match="No such file or directory"):
            utils.get_file("data.bin", (tmp_path / "none").as_uri())

    def test_a_folder_that_cannot_be_written(self, tmp_path, source):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError, match="cannot write .*Not a directory.*set KERAS_HOME to a writable folder"):
            utils.get_file("data.bin", source.as_uri(), cache_dir=tmp_path / "file")

    @pytest.mark.process
    def test_a_full_disk(self, cache, source):
        """A limit on the size of files stands for a full disk: the system refuses to write more, as on a full disk."""
        program = "import sys; from nbkeras.utils import get_file; get_file('data.bin', sys.argv[1])"
        run = subprocess.run(
            [sys.executable, "-c", program, source.as_uri()],
            cwd=source.parent,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
            env=os.environ | {"NUMBA_CACHE_DIR": str(source.parent)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 1
        assert f"cannot write {cache}/data.bin (File too large): free disk space" in run.stderr
        assert only(cache)

    @pytest.mark.parametrize(
        "name, origin, message",
        [
            ("x", None, "needs an origin"),
            ("x", "ftp://host/x", "must be an http, https or file URL"),
            ("../x", "http://127.0.0.1/x", "fname must be a file's name without folders"),
            ("..", "http://127.0.0.1/x", "fname must be a file's name without folders"),
            (None, "http://127.0.0.1/", "fname must be a file's name without folders"),
        ],
    )
    def test_wrong_arguments(self, cache, name, origin, message):
        with pytest.raises(ValueError, match=message):
            utils.get_file(name, origin)

    def test_unknown_hash_algorithm(self, cache, source):
        with pytest.raises(ValueError, match="hash_algorithm must be"):
            utils.get_file("x", source.as_uri(), hash_algorithm="crc")


class TestMnist:
    @pytest.fixture
    def arrays(self):
        random = np.random.default_rng(0)
        sizes = {"train": 6, "test": 2}
        images = {f"x_{part}": random.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in sizes.items()}
        return images | {f"y_{part}": np.arange(n, dtype=np.uint8) for part, n in sizes.items()}

    def publish(self, path, arrays, monkeypatch):
        """Put a small file in the place of the real one."""
        np.savez(path, **arrays)
        monkeypatch.setattr(mnist, "ORIGIN", path.as_uri())
        monkeypatch.setattr(mnist, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())

    @pytest.mark.parametrize("name", ["mnist.npz", "mine/m.npz"])
    def test_downloads_and_loads(self, cache, tmp_path, arrays, monkeypatch, name):
        self.publish(tmp_path / "origin.npz", arrays, monkeypatch)
        (x_train, y_train), (x_test, y_test) = mnist.load_data(name)
        for key, got in {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}.items():
            np.testing.assert_array_equal(got, arrays[key])
        assert (cache / name).exists()

    def test_a_file_that_is_there_is_used(self, cache, tmp_path, arrays, monkeypatch):
        self.publish(tmp_path / "there.npz", arrays, monkeypatch)
        monkeypatch.setattr(mnist, "ORIGIN", "http://127.0.0.1:9/nobody/listens/here")
        (x_train, _), _ = mnist.load_data(tmp_path / "there.npz")
        np.testing.assert_array_equal(x_train, arrays["x_train"])

    def test_pickles_are_refused(self, cache, tmp_path, arrays, monkeypatch):
        self.publish(tmp_path / "origin.npz", arrays | {"x_train": np.array([{}], object)}, monkeypatch)
        with pytest.raises(ValueError, match="Object arrays cannot be loaded when allow_pickle=False"):
            mnist.load_data()

    def test_the_real_address(self):
        assert mnist.ORIGIN == "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
        assert mnist.SHA256 == "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("member", "text")

    def refuse(*names):
        raise PermissionError(errno.EACCES, "not this folder")

    monkeypatch.setattr(unpacking.os, "rename", refuse)
    with pytest.raises(PermissionError, match="not this folder"):
        unpacking.extract(str(tmp_path / "a.zip"), str(tmp_path / "a"))
    assert os.listdir(tmp_path) == ["a.zip"]
