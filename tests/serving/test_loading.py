"""Files of models, loaded in a process of their own."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hostile_frozen import write_old_file_that_makes

import nbkeras
from nbkeras import inference, layers
from nbkeras.kernels.runtime import cache_files
from nbkeras.serving import loading, preparation
from nbkeras.serving.options import ModelOptions


def options(path, **changes):
    return ModelOptions(path=str(path), **{"batch_sizes": (1, 4)} | changes)


def load(options, target, **limits):
    """Load a model's file and wait for it."""
    return loading.Loading(options, target, **limits).result()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = nbkeras.Sequential([nbkeras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    path = tmp_path_factory.mktemp("models") / "small.keras"
    made.save(path)
    return path


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(loading.LoadingError, match=r"is no model file|not a model|damaged"):
        load(options(tmp_path / "bad.keras"), str(tmp_path / "bad.frozen"))
    assert os.listdir(tmp_path) == ["bad.keras"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(loading.LoadingError, match="No such file"):
        load(options(tmp_path / "none.keras"), str(tmp_path / "none.frozen"))


def test_a_file_that_takes_too_long(tmp_path):
    os.mkfifo(tmp_path / "slow.keras")  # nobody writes into it
    start = time.monotonic()
    with pytest.raises(loading.LoadingError, match=r"not loaded within 0\.5 s"):
        load(options(tmp_path / "slow.keras"), str(tmp_path / "slow.frozen"), seconds=0.5)
    assert time.monotonic() - start < 5


def test_a_process_that_is_killed(model, tmp_path):
    os.mkfifo(tmp_path / "slow.keras")
    started = loading.Loading(options(tmp_path / "slow.keras"), str(tmp_path / "slow.frozen"))
    os.kill(started._process.pid, signal.SIGKILL)
    with pytest.raises(loading.LoadingError, match="was killed by SIGKILL; is there enough memory"):
        started.result()


def test_it_ends_with_the_server(tmp_path):
    os.mkfifo(tmp_path / "slow.keras")
    code = (
        "import os, signal, sys, types\n"
        "from nbkeras.serving import loading\n"
        "options = dict.fromkeys(loading.DESCRIBES) | {'path': 'slow.keras'}\n"
        "started = loading.Loading(types.SimpleNamespace(**options), 'slow.frozen')\n"
        "print(started._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=False)
    state, end = pathlib.Path(f"/proc/{int(done.stdout)}/stat"), time.monotonic() + 60
    while state.exists() and ") Z" not in state.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_too_little_memory(model, tmp_path):
    with pytest.raises(loading.LoadingError, match=r"memory|limit is 64 MB"):
        load(options(model), str(tmp_path / "m.frozen"), memory=64 << 20)


def test_a_frozen_file_answers_as_predict_does(model, tmp_path):
    made = load(options(model), str(tmp_path / "m.frozen"))
    frozen = inference.Frozen.load(made.file, safe_mode=False)
    assert frozen.batch_sizes == (1, 4) and made.bytes == os.path.getsize(made.file) and not made.warnings
    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(frozen(x), nbkeras.models.load_model(model).predict(x, verbose=0))


def test_a_frozen_file_is_served_as_it_is(model, tmp_path):
    nbkeras.models.load_model(model).frozen(batch_sizes=(2,)).save(tmp_path / "forecast.nbf")
    found = load(options(tmp_path / "forecast.nbf"), str(tmp_path / "m"))
    assert found.bytes > 0 and inference.Frozen.load(tmp_path / "m", safe_mode=False).batch_sizes == (2,)


@pytest.mark.parametrize(
    "name, message",
    [
        ("own.weights.h5", "holds only weights, no model"),
        ("own.safetensors", "holds only weights, no model"),
        ("saved_model", "is a SavedModel: TensorFlow's folder"),
    ],
)
def test_files_that_hold_no_model_are_told_what_they_are(model, tmp_path, name, message):
    path = tmp_path / name
    if name == "saved_model":
        path.mkdir()
        (path / "saved_model.pb").touch()
    else:
        nbkeras.models.load_model(model).save_weights(path)
    job = vars(options(path)) | {"target": str(tmp_path / "m"), "known": None}
    with pytest.raises(ValueError, match=message):
        preparation.made(job)


def test_a_frozen_file_of_an_earlier_version_is_refused_before_its_pickle_runs(tmp_path):
    path, made = tmp_path / "m.frozen", tmp_path / "made"
    write_old_file_that_makes(path, made)
    with pytest.raises(loading.LoadingError, match=r"is a frozen model of an earlier version.*\.keras file"):
        load(options(path), str(tmp_path / "target"))
    assert os.listdir(tmp_path) == ["m.frozen"]


def test_a_frozen_stream_is_served_as_a_stream(tmp_path):
    model = nbkeras.Sequential([nbkeras.Input((None, 2)), layers.LSTM(3)])
    model.stream().frozen().save(tmp_path / "no-ending")
    with pytest.raises(loading.LoadingError, match=r"holds a stream: set stream = true"):
        load(options(tmp_path / "no-ending"), str(tmp_path / "m"))
    load(options(tmp_path / "no-ending", stream=True), str(tmp_path / "m"))


def test_a_file_that_is_known_is_not_loaded_again(model, tmp_path):
    made = load(options(model), str(tmp_path / "m.frozen"))
    again = load(options(model), str(tmp_path / "again.frozen"), known=made.digest)
    assert again.is_same and again.digest == made.digest and os.listdir(tmp_path) == ["m.frozen"]


def write(path, bias):
    """A model whose answers are a number, as a file or as a folder."""
    y = layers.Dense(1, kernel_initializer="zeros", bias_initializer=nbkeras.initializers.Constant(bias), name="y")
    nbkeras.Sequential([nbkeras.Input((3,)), y]).save(path, zipped=path.suffix == ".keras")
    return path


def made_while(monkeypatch, path, target, change):
    """The result of loading a model's file that is changed as soon as it has been hashed, and the number that it answers."""

    def load(*arguments, **more):
        change()
        return nbkeras.models.load_model(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "read_model", load)
        found = preparation.made(vars(options(path)) | {"target": str(target), "known": None})
    return found, float(inference.Frozen.load(target, safe_mode=False)(np.zeros((1, 3)))[0, 0])


def test_a_file_that_is_replaced_while_it_is_loaded_is_the_one_that_was_hashed(tmp_path, monkeypatch):
    one, two = write(tmp_path / "one.keras", 1.0), write(tmp_path / "two.keras", 2.0)
    found, number = made_while(monkeypatch, one, tmp_path / "a", lambda: os.replace(two, one))
    assert number == 1.0
    later, number = made_while(monkeypatch, one, tmp_path / "b", lambda: None)
    assert number == 2.0 and later["digest"] != found["digest"]


@pytest.mark.parametrize("name", ["one.keras", "folder"])
def test_a_model_that_is_written_into_while_it_is_loaded_is_refused(tmp_path, monkeypatch, name):
    one, two = write(tmp_path / name, 1.0), write(tmp_path / f"two-{name}", 2.0)

    def change():
        if one.is_dir():
            shutil.copytree(two, one, dirs_exist_ok=True)
        else:
            one.write_bytes(two.read_bytes())

    with pytest.raises(loading.LoadingError, match="was changed while it was loaded: write a new file beside it"):
        made_while(monkeypatch, one, tmp_path / "a", change)


def test_models_of_all_kinds_of_inputs_and_outputs(tmp_path):
    a, b = nbkeras.Input((3,), name="a"), nbkeras.Input((5,), dtype="int32", name="b")
    words = layers.GlobalAveragePooling1D()(layers.Embedding(1, 2)(b))
    together = layers.Concatenate()([a, words])
    outputs = {"second": layers.Dense(2)(together), "first": layers.Dense(1)(together)}
    nbkeras.Model({"b": b, "a": a}, outputs).save(tmp_path / "m.keras")
    made = load(options(tmp_path / "m.keras"), str(tmp_path / "m.frozen"))
    assert {spec.name for spec in inference.Frozen.load(made.file, safe_mode=False).inputs} == {"a", "b"}


def test_open_sizes_are_closed_by_the_input_signature(tmp_path):
    nbkeras.Sequential([nbkeras.Input((None, 2)), layers.LSTM(3)]).save(tmp_path / "m.keras")
    with pytest.raises(loading.LoadingError, match="the size of axis 1 .* is open.*input_signature="):
        load(options(tmp_path / "m.keras"), str(tmp_path / "m.frozen"))
    made = load(options(tmp_path / "m.keras", input_signature=(None, 7, 2)), str(tmp_path / "m.frozen"))
    assert inference.Frozen.load(made.file, safe_mode=False).inputs[0].shape == (None, 7, 2)


def test_a_stream(tmp_path):
    nbkeras.Sequential([nbkeras.Input((None, 2)), layers.LSTM(3, return_sequences=True)]).save(tmp_path / "m.keras")
    made = load(options(tmp_path / "m.keras", stream=True, steps=(1, 5)), str(tmp_path / "m.frozen"))
    found = inference.Frozen.load(made.file, safe_mode=False)
    assert (found.batch_sizes, found.steps, found.state_size) == ((1, 4), (1, 5), 6)


def test_a_model_that_cannot_be_a_stream(tmp_path):
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    nbkeras.Sequential([nbkeras.Input((None, 2)), both]).save(tmp_path / "m.keras")
    with pytest.raises(loading.LoadingError, match="cannot go step by step: layer .bidirectional"):
        load(options(tmp_path / "m.keras", stream=True), str(tmp_path / "m.frozen"))


def test_all_kernels_are_on_disk_before_a_worker_maps_the_file(model, tmp_path):
    made = load(options(model), str(tmp_path / "m.frozen"))
    imports = "import sys\nfrom nbkeras.serving.control_channel import opened\n"
    code = imports + "opened(sys.argv[1])\nassert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code, made.file], check=True)


def test_warnings_come_back(model, tmp_path, monkeypatch):
    def load(*arguments, **more):
        cache_files.warn_not_saved("somewhere", "no right to write", "set NUMBA_CACHE_DIR")
        return nbkeras.models.load_model(*arguments, **more)

    monkeypatch.setattr(preparation, "read_model", load)
    job = vars(options(model)) | {"target": str(tmp_path / "m.frozen"), "known": None}
    [text] = preparation.made(job)["warnings"]
    assert "could not save a compiled kernel" in text and "set NUMBA_CACHE_DIR" in text


def test_a_frozen_program_that_answers_otherwise_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(inference.Frozen, "run", lambda self, arrays: [np.full((len(arrays[0]), 2), 9.0, "float32")])
    job = vars(options(model)) | {"target": str(tmp_path / "m.frozen"), "known": None}
    with pytest.raises(loading.LoadingError, match="does not answer as predict does"):
        preparation.made(job)


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


def test_folders_that_cannot_be_used(tmp_path, monkeypatch):
    with pytest.raises(loading.LoadingError, match="cannot be read: .*none .No such file"):
        list(loading._left(str(tmp_path / "none")))
    monkeypatch.setattr(loading.os, "access", lambda *arguments: False)
    with pytest.raises(
        loading.LoadingError, match="no folder for frozen models is writable: mount one at /tmp, or name"
    ):
        loading._writable()
