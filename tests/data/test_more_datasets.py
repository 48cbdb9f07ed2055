"""The data sets that are downloaded, from small local files in their formats; archives; pickles that name code."""

import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from nbkeras import config, datasets, utils
from nbkeras.compat.keras2 import downloading
from nbkeras.datasets import cifar10, cifar100, fashion_mnist, imdb, plain_pickle, reuters


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


def publish(module, monkeypatch, path, content, origin="ORIGIN", file_hash="SHA256"):
    """Put a small file in the place of the real one."""
    path.write_bytes(content)
    monkeypatch.setattr(module, origin, path.as_uri())
    algorithm = hashlib.md5 if file_hash.endswith("MD5") else hashlib.sha256
    monkeypatch.setattr(module, file_hash, algorithm(content).hexdigest())


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def lists(*sequences):
    array = np.empty(len(sequences), object)
    array[:] = sequences
    return array


class TestImdb:
    @pytest.fixture(autouse=True)
    def publish(self, tmp_path, monkeypatch):
        x = lists([1, 2, 3], [4, 5], [6], [7, 8, 9, 10])
        content = npz(x_train=x, y_train=np.array([0, 1, 0, 1]), x_test=x[:2], y_test=np.array([1, 0]))
        publish(imdb, monkeypatch, tmp_path / "origin.npz", content)
        index = json.dumps({"the": 1}).encode()
        publish(imdb, monkeypatch, tmp_path / "index.json", index, "INDEX_ORIGIN", "INDEX_MD5")

    def test_marks_and_order_are_keras_s(self):
        (x_train, y_train), (x_test, y_test) = imdb.load_data()
        # What keras.datasets.imdb makes of this file: its largest number, 13, is past num_words and so becomes 2.
        assert x_train.tolist() == [[1, 10, 11, 12, 2], [1, 9], [1, 4, 5, 6], [1, 7, 8]]
        assert y_train.tolist() == [1, 0, 0, 1] and x_train.dtype == object
        assert x_test.tolist() == [[1, 7, 8], [1, 4, 5, 6]] and y_test.tolist() == [0, 1]

    def test_arguments(self):
        (x_train, _), (x_test, _) = imdb.load_data(num_words=8, skip_top=5, maxlen=4, oov_char=None, start_char=None)
        assert x_train.tolist() == [[], [5, 6], [7]] and x_test.tolist() == [[7], [5, 6]]
        (x_train, _), _ = imdb.load_data(index_from=None, oov_char=0, num_words=8, start_char=None)
        assert x_train.tolist() == [[7, 0, 0, 0], [6], [1, 2, 3], [4, 5]]
        with pytest.raises(ValueError, match="fewer than maxlen=1"):
            imdb.load_data(maxlen=1)

    def test_word_index(self):
        assert imdb.get_word_index() == {"the": 1}


class TestReuters:
    def test_word_index(self, monkeypatch):
        monkeypatch.setattr(reuters, "fetch_json", lambda name, *source: source)
        assert reuters.get_word_index() == (reuters.INDEX_ORIGIN, reuters.INDEX_MD5)

    def test_split_and_labels(self, tmp_path, monkeypatch):
        content = npz(x=lists(*[[i, i + 1] for i in range(10)]), y=np.arange(10))
        publish(reuters, monkeypatch, tmp_path / "origin.npz", content)
        (x_train, y_train), (x_test, y_test) = reuters.load_data(test_split=0.3, seed=1, num_words=100)
        assert len(x_train) == 7 and len(x_test) == 3 and sorted([*y_train, *y_test]) == list(range(10))
        assert all(x == [1, 3 + y, 4 + y] for x, y in zip(x_train, y_train, strict=True))
        order = np.arange(10)
        np.random.RandomState(1).shuffle(order)
        assert y_train.tolist() == order[:7].tolist()
        assert len(reuters.get_label_names()) == 46 and reuters.get_label_names()[3] == "earn"


@pytest.mark.parametrize("name", ["boston_housing", "california_housing"])
def test_housing(tmp_path, monkeypatch, name):
    module = getattr(datasets, name)
    publish(module, monkeypatch, tmp_path / "o.npz", npz(x=np.arange(20.0).reshape(10, 2), y=np.arange(10.0)))
    (x_train, y_train), (x_test, y_test) = module.load_data(test_split=0.2, seed=3)
    assert x_train.shape == (8, 2) and x_test.shape == (2, 2)
    order = np.arange(10)
    np.random.RandomState(3).shuffle(order)
    assert [*y_train, *y_test] == order.tolist()
    with pytest.raises(ValueError, match="test_split must be"):
        module.load_data(test_split=1)
    if name == "california_housing":
        with pytest.raises(ValueError, match="'large' or 'small', received 'tiny'"):
            module.load_data("tiny")


def test_fashion_mnist(tmp_path, monkeypatch, cache):
    folder = tmp_path / "fashion"
    folder.mkdir()
    for part, count in (("train", 3), ("t10k", 2)):
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + bytes(range(count))))
        images = np.full(count * 784, 7, np.uint8).tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images))
    monkeypatch.setattr(fashion_mnist, "ORIGIN", folder.as_uri() + "/")
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load_data()
    assert x_train.shape == (3, 28, 28) and x_train.max() == 7 and y_train.tolist() == [0, 1, 2]
    assert x_test.shape == (2, 28, 28) and y_test.tolist() == [0, 1]
    path = cache / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{path} is damaged .*: delete it"):
        fashion_mnist.load_data()


def tar_of(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def batch(count, **labels):
    """A batch as the real ones are: pickled by Python 2, texts are bytes."""
    data = np.arange(count * 3072, dtype=np.uint8).reshape(count, 3072)
    content = {b"data": data} | {name.encode(): values for name, values in labels.items()}
    return pickle.dumps(content, protocol=2)


class TestCifar:
    def test_ten(self, tmp_path, monkeypatch, cache):
        names = [f"data_batch_{i}" for i in range(1, 6)]
        files = {f"cifar-10-batches-py/{name}": batch(2, labels=[3, 4]) for name in names}
        files["cifar-10-batches-py/test_batch"] = batch(1, labels=[9])
        publish(cifar10, monkeypatch, tmp_path / "o.tar.gz", tar_of(files))
        (x_train, y_train), (x_test, y_test) = cifar10.load_data()
        assert x_train.shape == (10, 32, 32, 3) and y_train.shape == (10, 1) and y_test.tolist() == [[9]]
        assert x_train.dtype == y_train.dtype == np.uint8
        assert x_test[0, 0, 1, 0] == 1 and x_test[0, 0, 0, 1] == 1024 % 256
        before = config.image_data_format()
        config.set_image_data_format("channels_first")
        try:
            assert cifar10.load_data()[0][0].shape == (10, 3, 32, 32)
        finally:
            config.set_image_data_format(before)

    def test_hundred(self, tmp_path, monkeypatch):
        content = batch(2, fine_labels=[5, 99], coarse_labels=[1, 19])
        files = {f"cifar-100-python/{name}": content for name in ("train", "test")}
        publish(cifar100, monkeypatch, tmp_path / "o.tar.gz", tar_of(files))
        assert cifar100.load_data()[0][1].tolist() == [[5], [99]]
        assert cifar100.load_data("coarse")[1][1].tolist() == [[1], [19]]
        with pytest.raises(ValueError, match="label_mode must be"):
            cifar100.load_data("medium")


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


class TestPickles:
    @pytest.mark.parametrize("protocol", [0, 2, 4])
    def test_code_in_a_file_is_not_run(self, tmp_path, monkeypatch, protocol):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "bad").write_bytes(pickle.dumps({b"data": Harm()}, protocol=protocol))
        with pytest.raises(pickle.UnpicklingError, match="refused: the file asks for posix.mkdir"):
            plain_pickle.load(tmp_path / "bad")
        np.savez(tmp_path / "bad.npz", x=np.array([Harm()], object))
        with pytest.raises(pickle.UnpicklingError, match="the file asks for posix.mkdir"):
            plain_pickle.load_npz(tmp_path / "bad.npz")
        assert not (tmp_path / "harm").exists()

    def test_arrays_and_lists_of_any_numpy(self, tmp_path):
        content = {"a": np.arange(3), "b": [1, "x", b"y"], "c": np.float64(2.0) + np.zeros(1)}
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            data = pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", module.encode())
            found = plain_pickle.load(io.BytesIO(data))
            assert found["a"].tolist() == [0, 1, 2] and found["b"] == [1, "x", b"y"]

    def test_a_header_that_lies(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([[1], [2, 3]], object), allow_pickle=True)
        content = (tmp_path / "x.npy").read_bytes().replace(b"(2,)", b"(9,)")
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
            file.writestr("x.npy", content)
        with pytest.raises(pickle.UnpicklingError, match=r"not the array of shape \(9,\)"):
            plain_pickle.load_npz(tmp_path / "x.npz")


class TestArchives:
    def get(self, path, **arguments):
        return utils.get_file(origin=path.as_uri(), extract=True, **arguments)

    def test_tar_and_zip(self, tmp_path, cache):
        (tmp_path / "a.tar.gz").write_bytes(tar_of({"in/x.txt": b"hello"}))
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
            file.writestr("in/x.txt", "hello")
        for name, arguments, place in (
            ("a.tar.gz", {}, "a.tar.gz"),
            ("a.tar.gz", {"fname": "mine.tgz"}, "mine_extracted"),
            ("b.zip", {"fname": "plain"}, "plain"),
            ("b.zip", {"fname": "again", "archive_format": ["zip", "tar"]}, "again"),
        ):
            folder = self.get(tmp_path / name, **arguments)
            assert folder == str(cache / place)
            with open(os.path.join(folder, "in", "x.txt")) as file:
                assert file.read() == "hello"
        assert utils.get_file("c.tgz", (tmp_path / "a.tar.gz").as_uri(), True) == str(cache / "c_extracted")

    @pytest.mark.parametrize("name", ["../evil", "/tmp/nbkeras-evil", "a/../../evil"])
    def test_members_outside_the_folder_are_refused(self, tmp_path, cache, name):
        """Of zip archives; tests/saving/test_hostile_files.py has those of tar archives."""
        with zipfile.ZipFile(tmp_path / "bad", "w") as file:
            file.writestr(name, "x")
        with pytest.raises(ValueError, match="is not unpacked"):
            self.get(tmp_path / "bad")
        assert not (tmp_path / "evil").exists() and not (cache / "evil").exists()
        assert not os.path.exists("/tmp/nbkeras-evil")

    def test_unpacked_once_for_each_download(self, tmp_path, cache):
        (tmp_path / "a.tgz").write_bytes(tar_of({"x.txt": b"one"}))
        folder = pathlib.Path(self.get(tmp_path / "a.tgz"))
        (folder / "mine.txt").write_text("kept")
        assert self.get(tmp_path / "a.tgz") == str(folder) and (folder / "mine.txt").exists()
        (tmp_path / "a.tgz").write_bytes(tar_of({"x.txt": b"two"}))
        self.get(tmp_path / "a.tgz", force_download=True)
        assert (folder / "x.txt").read_bytes() == b"two" and not (folder / "mine.txt").exists()
        assert sorted(each.name for each in cache.iterdir()) == ["a.tgz", "a.tgz_archive"]

    def test_many_at_once(self, tmp_path, cache):
        (tmp_path / "a.tgz").write_bytes(tar_of({f"{i}.txt": b"x" * i for i in range(50)}))
        together = threading.Barrier(4)

        def work(_):
            together.wait()
            folder = pathlib.Path(self.get(tmp_path / "a.tgz"))
            return len(list(folder.iterdir()))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [50] * 4
        assert sorted(each.name for each in cache.iterdir()) == ["a.tgz", "a.tgz_archive"]

    def test_keras_2_unpacks_beside_the_archive(self, tmp_path, cache):
        (tmp_path / "a.tgz").write_bytes(tar_of({"flowers/x.txt": b"one"}))
        origin = (tmp_path / "a.tgz").as_uri()
        downloading.get_file("flowers", origin, untar=True)  # tests/compat/test_utils.py looks at the result
        assert (cache / "flowers.tar.gz").exists()
        found = downloading.get_file("b.tgz", origin, extract=True, cache_subdir="other")
        assert found == str(cache.parent / "other/b.tgz") and (cache.parent / "other" / "flowers" / "x.txt").exists()
        assert downloading.get_file(tmp_path / "here" / "c.tgz", origin) == str(tmp_path / "here" / "c.tgz")

    def test_other_files(self, tmp_path):
        (tmp_path / "x").write_bytes(b"no archive")
        with pytest.raises(ValueError, match="is not a tar or zip archive"):
            self.get(tmp_path / "x")
        with pytest.raises(ValueError, match="archive_format must be"):
            self.get(tmp_path / "x", archive_format="rar")
