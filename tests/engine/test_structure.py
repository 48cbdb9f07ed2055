"""Speed and memory by structure, never by a time: a step is replayed, and allocates and compiles nothing."""

import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest
from numba import njit
from numba.core import event
from numba.core.runtime import _nrt_python, rtsys

import nbkeras
from nbkeras import layers
from nbkeras.callbacks import Callback
from nbkeras.kernels.runtime import device, native
from nbkeras.kernels.runtime.cache import Kernel

BATCH, STEPS = 32, 3
LARGE = 64 * 1024  # bytes: over all that Python itself needs for an epoch, under every workload's buffers

# Launches of one training step and of one predicted batch, at most. Lower a number when it falls; a rise is a regression:
# a fused kernel was split, or a layer makes a launch that is not needed.
LAUNCHES = {
    "mlp": {"train": 29, "predict": 4},
    "lstm_stack": {"train": 33, "predict": 5},
    "cnn": {"train": 43, "predict": 9},
    "headline": {"train": 58, "predict": 11},
}


def mlp():
    hidden = [layers.Dense(512, activation="relu"), layers.Dropout(0.2)]
    hidden += [layers.Dense(512, activation="relu"), layers.Dropout(0.2)]
    model = nbkeras.Sequential([layers.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def lstm_stack():
    hidden = [layers.LSTM(32, return_sequences=more) for more in (True, True, False)]
    model = nbkeras.Sequential([layers.Input((8, 16)), *hidden, layers.Dense(10, activation="softmax")])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def cnn():
    hidden = [layers.Conv2D(32, 3, activation="relu"), layers.Conv2D(64, 3, activation="relu")]
    hidden += [layers.MaxPooling2D(2), layers.Dropout(0.25), layers.Flatten()]
    hidden += [layers.Dense(128, activation="relu"), layers.Dropout(0.5)]
    model = nbkeras.Sequential([layers.Input((12, 12, 1)), *hidden, layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def headline():
    words, more = layers.Input((20,), dtype="int32"), layers.Input((5,))
    encoded = layers.LSTM(32)(layers.Embedding(100, 64)(words))
    x = layers.concatenate([encoded, more])
    for _ in range(3):
        x = layers.Dense(64, activation="relu")(x)
    outputs = [layers.Dense(1, activation="sigmoid")(x), layers.Dense(1, activation="sigmoid")(encoded)]
    model = nbkeras.Model([words, more], outputs)
    model.compile(optimizer="rmsprop", loss=["binary_crossentropy"] * 2, loss_weights=[1.0, 0.2])
    return model


WORKLOADS = {f.__name__: f for f in (mlp, lstm_stack, cnn, headline)}


def samples(model):
    """(x, y) for a workload, in the form that `fit` uses without a conversion."""
    random, rows = np.random.default_rng(1), np.arange(BATCH * STEPS)[:, None]
    x = [random.integers(0, 100, (len(rows), *i.shape[1:])).astype(i.dtype) for i in model.inputs]
    y = [np.float32(rows % max(o.shape[1], 2) == np.arange(o.shape[1])) for o in model.outputs]
    return (x, y) if len(x) > 1 else (x[0], y[0])


def train(model, batch=BATCH, epochs=1, callbacks=None):
    model.fit(*samples(model), batch_size=batch, epochs=epochs, callbacks=callbacks, verbose=0)


def predict(model, batch=BATCH):
    model.predict(samples(model)[0], batch_size=batch)


def recorded(model, kind):
    """The program that a step of that kind played last; nothing public lists its launches with their arguments."""
    return model._steps[kind].programs()[-1]


def launches(model, kind):
    """(compiled function, arguments) of each launch of that program, shared among threads or not."""
    found = [(getattr(function, "kernel", function), args) for function, args in recorded(model, kind).bind().steps]
    return [(function, args) for function, args in found if isinstance(function, Kernel)]


@pytest.fixture(scope="module", params=WORKLOADS)
def warm(request):
    """A model that has trained and predicted."""
    model = WORKLOADS[request.param]()
    train(model)
    predict(model)
    return model


# -------------------- launches --------------------


@pytest.mark.cpu("a GPU's launches are others, and fused")
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_step_takes_no_more_launches_than_these(name):
    model = WORKLOADS[name]()
    train(model)
    predict(model)
    for kind, maximum in LAUNCHES[name].items():
        names = [getattr(function, "__name__", repr(function)) for function, _ in recorded(model, kind).launches]
        assert len(names) <= maximum, f"{kind}: {names}"


@pytest.mark.cpu("native programs are the CPU's")
@pytest.mark.parametrize("kind", ["train", "predict"])
def test_a_step_is_one_native_call(warm, kind):
    """NumPy's launches too: the interpreter runs them."""
    (segment,) = device.native_segments(recorded(warm, kind).bind().steps)
    assert isinstance(segment, native.NativeProgram)


# -------------------- allocations --------------------


class Growth(Callback):
    """The most memory that NumPy and Python took in the last epoch, beyond what they held at its start."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = here()

    def on_epoch_end(self, epoch, logs=None):
        self.bytes = tracemalloc.get_traced_memory()[1] - self.start


def here():
    """The memory in use; the peak is counted from here again."""
    gc.collect()
    tracemalloc.reset_peak()
    return tracemalloc.get_traced_memory()[0]


@contextlib.contextmanager
def traced():
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def growth_of_training(model):
    growth = Growth()
    with traced():
        train(model, epochs=2, callbacks=[growth])
    return growth.bytes


def growth_of_prediction(model):
    x = samples(model)[0]
    with traced():
        start = here()
        model.predict(x, batch_size=BATCH)
        return tracemalloc.get_traced_memory()[1] - start


@pytest.mark.cpu("tracemalloc does not see a GPU's memory")
@pytest.mark.grid
@pytest.mark.parametrize("measure", [growth_of_training, growth_of_prediction])
def test_a_replayed_step_allocates_no_buffer(warm, measure, monkeypatch):
    recordings = {kind: steps.recordings for kind, steps in warm._steps.items()}
    assert measure(warm) < LARGE
    assert {kind: steps.recordings for kind, steps in warm._steps.items()} == recordings
    monkeypatch.setattr(warm, "run_eagerly", True)
    assert measure(warm) > LARGE, "the control: buffers are large enough to be seen"


@njit
def takes_memory(x):
    return np.zeros(x.size).sum()


def allocations(function, *args):
    """Blocks that compiled code took from Numba's runtime during a second call."""
    function(*args)
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats().alloc
        function(*args)
        return rtsys.get_allocation_stats().alloc - before
    finally:
        _nrt_python.memsys_disable_stats()


@pytest.mark.cpu("Numba's runtime is the CPU's")
@pytest.mark.parametrize("kind", ["train", "predict"])
def test_kernels_allocate_nothing(warm, kind):
    assert allocations(warm._steps[kind]._programs.bounds()[-1].run) == 0
    assert allocations(takes_memory, np.ones(3)) == 2, "the control: an array of its own is seen"


@pytest.mark.big
@pytest.mark.parametrize("name", WORKLOADS)
def test_programs_go_with_their_model(name):
    model = WORKLOADS[name]()
    train(model)
    predict(model)
    model.evaluate(*samples(model), batch_size=BATCH, verbose=0)
    arenas = [weakref.ref(model._steps[kind]._programs.bounds()[-1]._memory) for kind in ("train", "predict", "test")]
    assert all(arena() is not None for arena in arenas)
    del model
    gc.collect()
    assert all(arena() is None for arena in arenas)


# -------------------- compilation --------------------


def signatures():
    """The number of signatures of each kernel of this process, loaded or compiled. An open npz fails isinstance."""
    gc.unfreeze()  # of those that are as old as this run
    found = {each: each.found + each.compiled for each in gc.get_objects() if issubclass(type(each), Kernel)}
    gc.freeze()
    return found


@pytest.mark.big
def test_nothing_is_compiled_after_warm_up(warm):
    before = signatures()
    with event.install_recorder("numba:compile") as compilations:
        train(warm)
        predict(warm)
    assert not compilations.buffer
    assert signatures() == before


@pytest.mark.cpu("about the signatures of the CPU's kernels")
@pytest.mark.parametrize("batch", [1, 7, BATCH + 8, BATCH * STEPS])
def test_another_batch_size_needs_no_new_signature(warm, batch):
    """A kernel for larger work may be added; kernels in use are compiled for dtypes and layouts, not for sizes."""
    used = [function for kind in ("train", "predict") for function, _ in launches(warm, kind)]
    before = {function: function.found + function.compiled for function in used}
    assert before
    train(warm, batch)  # the last batch is smaller
    predict(warm, batch)
    assert {function: function.found + function.compiled for function in before} == before


# -------------------- import --------------------

IMPORT = """
import sys
import numba, numpy
from numba.core import event
before = set(sys.modules)
with event.install_recorder("numba:compile") as compilations:
    import nbkeras
print(*sorted(set(sys.modules) - before))
print(len(compilations.buffer))
"""

OPTIONAL = "h5py safetensors onnx onnxruntime tqdm rich matplotlib pandas PIL tensorflow torch jax keras psutil pytest"
HEAVY = (
    "numba.cuda numba.typed numba.experimental scipy.linalg scipy.special scipy.signal scipy.sparse scipy.stats "
    "scipy.optimize scipy.ndimage unittest asyncio multiprocessing concurrent xml sqlite3 tkinter pydoc doctest pdb"
)
FOREIGN = (
    30  # modules beyond numba's, numpy's and nbkeras's own, at maximum: a few of Numba's, and urllib for the datasets
)


@pytest.fixture(scope="module")
def fresh_import(tmp_path_factory):
    """(modules that `import nbkeras` adds to numba's and numpy's, compilations, files in the kernel cache) of a new process."""
    folder = tmp_path_factory.mktemp("import")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT],
        cwd=folder,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    names, compilations = run.stdout.splitlines()
    return set(names.split()), int(compilations), [p for p in (folder / "cache").rglob("*") if p.is_file()]


@pytest.mark.process
@pytest.mark.cpu("a GPU brings modules of its own")
def test_import_brings_no_optional_and_no_heavy_module(fresh_import):
    assert not fresh_import[0] & {*OPTIONAL.split(), *HEAVY.split()}


@pytest.mark.process
@pytest.mark.cpu("a GPU brings modules of its own")
def test_import_brings_few_modules(fresh_import):
    foreign = sorted(name for name in fresh_import[0] if name.split(".")[0] != "nbkeras")
    assert len(foreign) <= FOREIGN, foreign


READ = """
import importlib.machinery, sys
read, get_data = [], importlib.machinery.SourceFileLoader.get_data
def watched(self, path):
    if sys._getframe(1).f_globals["__name__"] == "nbkeras.engine.lazy_names":
        read.append(path)
    return get_data(self, path)
importlib.machinery.SourceFileLoader.get_data = watched
import nbkeras
print(*read)
nbkeras.layers.Dense
print(*read)
"""


@pytest.mark.process
def test_import_reads_no_sources_for_public_names(tmp_path):
    """The first name that is missing reads them."""
    command = [sys.executable, "-P", "-c", READ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    at_import, later = run.stdout.splitlines()
    assert at_import == ""
    assert "core.py" in later


FIRST = """
import importlib.util, os, pathlib, sys
import nbkeras

without = ["drop_in", "__main__"] + ([] if importlib.util.find_spec("numba_cuda") else ["cuda"])
folder = pathlib.Path(nbkeras.__file__).parent
for path in sorted(folder.rglob("*.py")):
    name = ".".join(("nbkeras", *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
    if name not in sys.modules and not any(part in name for part in without):
        if not os.fork():
            try:
                importlib.import_module(name)
            except BaseException as error:
                print(name, repr(error), flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.mark.process
def test_any_module_may_be_the_first_that_is_imported_on_demand(tmp_path):
    run = subprocess.run([sys.executable, "-P", "-c", FIRST], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert [line for line in run.stdout.splitlines() if "scikit-learn" not in line] == []


@pytest.mark.process
@pytest.mark.cpu("a GPU brings modules of its own")
def test_import_compiles_nothing(fresh_import):
    assert fresh_import[1:] == (0, [])
