"""`python -m benchmarks` runs, at its smallest and without peers, and its tables, files and pictures hold what it measured."""

import importlib.util
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbkeras import layers
from nbkeras.kernels.runtime import processor
from nbkeras.models import Model

ROOT = Path(__file__).parents[1]


def python(*arguments, code=0, **environment):
    """A run that ends with an exit code."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONSAFEPATH": "1"} | environment  # not nbkeras/ without kernels/
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == code, done.stderr or done.stdout
    return done


def benchmarks(*arguments, module="benchmarks", **options):
    return python("-W", "error", "-m", module, *arguments, PYTHONSAFEPATH="", **options)


def lines_of(program, folder="benchmarks", **environment):
    """What a program prints that imports the files of a folder."""
    program = f"import sys\nsys.path.insert(0, {folder!r})\n{program}"
    return python("-W", "error", "-c", program, **environment).stdout.splitlines()


def results(tmp_path, *arguments):
    """The file and the output of a run at its smallest."""
    file = tmp_path / "results.json"
    done = benchmarks(*arguments, "--quick", "--peers", "none", "--json", file)
    return json.loads(file.read_text()), done.stdout


# -------------------- workloads --------------------


def test_mlp_alone(tmp_path):
    report, printed = results(tmp_path, "mlp", "--steps", "3", "--rounds", "2")
    assert "mlp: 784-512-512-10" in printed
    assert "669,706 parameters" in printed
    result = report["workloads"]["mlp"]["nbkeras"]
    assert result["count"] == 4  # two rounds of two epochs
    assert 0 < result["min"] <= result["median"] <= result["p99"]
    assert result["losses"][-1] < result["losses"][0]
    assert result["first"] > 0
    assert result["data"] == pytest.approx(3 * 128 * (784 + 10) * 4 / 2**20)
    assert result["peak"] > result["imported"] + result["data"] > result["data"]
    assert result["versions"]["nbkeras"] in printed


NETWORKS = {  # parameters; those of MLPerf Tiny are the parameters of its own code
    "resnet8": 78_666,
    "ds_cnn": 24_908,
    "mobilenet": 221_794,
    "autoencoder": 269_992,
    "wake_word": 47_707,
    "transformer": 616_324,
    "unet": 117_041,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_their_parameters_and_learn(name, tmp_path):
    report, _ = results(tmp_path, name, "--rounds", "2")
    result = report["workloads"][name]["nbkeras"]
    assert result["parameters"] == NETWORKS[name]
    assert result["losses"][-1] < result["losses"][0] < result["first_loss"]


SECOND_ORDER = {"wgan_gp": 259_106, "burgers": 7_851, "maml": 1_761, "lstm_slopes": 24_897}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_networks_whose_losses_have_derivatives_learn(name, tmp_path):
    report, printed = results(tmp_path, name, "--rounds", "2", "--steps", "10")
    result = report["workloads"][name]["nbkeras"]
    assert result["parameters"] == SECOND_ORDER[name]
    assert result["losses"][-1] < result["first_loss"]
    assert "derivatives: Steps with derivatives of second order" in printed


def test_latency_is_that_of_single_calls(tmp_path):
    report, _ = results(tmp_path, "latency_lstm_stack", "--steps", "5", "--rounds", "2")
    assert report["workloads"]["latency_lstm_stack"]["nbkeras"]["count"] == 10


MODULES = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "litert": ("ai_edge_litert", "tensorflow", "keras"),
    "openvino": ("onnx", "openvino"),
}


@pytest.mark.parametrize("peer, more", [("onnxruntime", "-1"), ("litert", "-2"), ("openvino", "-2")])
def test_frameworks_that_read_a_file_predict_the_same(peer, more, tmp_path):
    """Their answers are compared with nbkeras's in each run; a throughput has a last batch of another size."""
    if missing := [module for module in MODULES[peer] if importlib.util.find_spec(module) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    file = tmp_path / "results.json"
    frameworks = ["nbkeras-1", peer, peer + more]
    names = ("latency_lstm_stack", "batch_autoencoder", "throughput_mlp")
    benchmarks(*names, "--quick", "--peers", ",".join(frameworks), "--json", file)
    for name in names:
        assert list(json.loads(file.read_text())["workloads"][name]) == ["nbkeras", *frameworks]


def test_a_framework_that_predicts_something_else_is_an_error():
    program = """
from benchmarks.session import compare
ready = {"parameters": 7, "answer": [0.25, 0.75]}
compare("mlp", {"nbkeras": ready, "torch": ready | {"answer": [1, 0]}, "litert-2": ready | {"parameters": None}})
for other in (ready | {"answer": [0.26, 0.74]}, ready | {"answer": [0.25]}, ready | {"parameters": 8}):
    try:
        compare("mlp", {"nbkeras": ready, "openvino": other})
    except RuntimeError as error:
        print(error)
"""
    assert lines_of(program, ".") == [
        "mlp: openvino predicts [0.26 0.74], nbkeras [0.25 0.75]",
        "mlp: openvino predicts [0.25], nbkeras [0.25 0.75]",
        "mlp: the frameworks' networks differ in parameters: {'nbkeras': 7, 'openvino': 8}",
    ]


def test_a_peer_that_is_not_installed_is_left_out(tmp_path):
    # an interpreter without site-packages, in which LiteRT is installed and TensorFlow is not
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "interpreter.py").touch()
    done = benchmarks("latency_cnn", "--peers", "litert-2,openvino,nbkeras-1", "--python", python, "--quick")
    assert "litert-2 is left out: its network is written by keras-tensorflow: ModuleNotFoundError" in done.stderr
    assert "openvino is left out: ModuleNotFoundError: No module named 'openvino'" in done.stderr
    assert "nbkeras-1" in done.stdout
    done = benchmarks("import", "subnormal", "--peers", "torch", "--python", python, "--quick")
    assert done.stderr.count("torch is left out: ModuleNotFoundError") == 2
    assert "nbkeras" in done.stdout


def test_unknown_names_are_answered_with_the_known_ones():
    done = benchmarks("mpl", code=2)
    assert "unknown name 'mpl'" in done.stderr
    assert "lstm_stack" in done.stderr and "neighbour" in done.stderr
    done = benchmarks("mlp", "--peers", "keras", code=2)
    assert "unknown peer 'keras'" in done.stderr and "keras-jax" in done.stderr


@pytest.mark.parametrize("name", ["mlp", "lstm_stack", "headline", "tweets", "cnn", "lstm_imdb", *NETWORKS])
def test_labels_are_a_function_of_the_inputs_and_no_class_is_rare(name):
    module = runpy.run_path(str(ROOT / "benchmarks" / "workloads.py"))
    xs, ys = module["data"](module["WORKLOADS"][name], 10)
    again = module["data"](module["WORKLOADS"][name], 10)
    for one, other in zip([*xs, *ys], [*again[0], *again[1]], strict=True):
        np.testing.assert_array_equal(one, other)
    if name == "autoencoder":
        return  # its targets are no classes
    for y in ys:
        if y.ndim == 1:
            y = np.eye(y.max() + 1)[y]
        shares = y.mean(axis=0) if y.shape[-1] > 1 else np.array([y.mean(), 1 - y.mean()])
        assert shares.min() > 0.02


# -------------------- studies --------------------


def rows(report, study, number=0):
    """A study's table as dicts by column."""
    table = report["studies"][study][number]
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def test_threads_are_compared(tmp_path):
    report, printed = results(tmp_path, "threads")
    assert "threads: Predictions of one sample a second" in printed
    assert [row["workload"] for row in rows(report, "threads")] == ["latency_mlp", "latency_lstm_stack"]
    assert all(row[f"{count} threads"] > 0 for row in rows(report, "threads") for count in (1, 2, 4))


def test_layers_are_timed(tmp_path):
    report, printed = results(tmp_path, "layers")
    assert "layers: Predicting, a batch" in printed
    training, predicting = ([row[0] for row in table["rows"]] for table in report["studies"]["layers"])
    assert "Conv3D(16, 3)" in predicting and training[: len(predicting)] == predicting
    assert {"Adam", "Lamb", "Muon"} <= set(training) - set(predicting)


def test_loops_are_timed_beside_fit(tmp_path):
    report, printed = results(tmp_path, "loops")
    assert "loops: Loops on one processor" in printed
    alone, beside_fit = rows(report, "loops"), rows(report, "loops", 1)
    assert len(alone) == 3 and all(row["nbkeras, jit"] > 0 and row["nbkeras-eager"] > 0 for row in alone)
    assert [row["workload"].split(":")[0] for row in beside_fit] == ["wgan_gp", "burgers", "maml"]
    for row in beside_fit:
        assert row["loop / fit"] == row["loop, ms a step"] / row["fit, ms a step"] > 0
        assert row["goal 1.05"] == ("pass" if row["loop / fit"] <= 1.05 else "MISS")


def test_a_plain_loop_learns_as_fit_does():
    """Epochs of 'nbkeras-jit' and of `fit` from the same weights, in batches of the same rows in another order."""
    program = """
sys.argv = ["run_keras.py", "nbkeras-jit"]
import run_keras
from workloads import WORKLOADS, data
xs, ys = data(WORKLOADS["burgers"], 3)
job = run_keras.prepare("nbkeras-jit", WORKLOADS["burgers"], xs, ys, "cpu")
fit = run_keras.prepare("nbkeras", WORKLOADS["burgers"], xs, ys, "cpu")
for each in (job, fit):
    seconds, loss = each.epochs(20)
    print(len(seconds), min(seconds) > 0, round(loss, 1))
"""
    loop, fit = lines_of(program)
    assert loop == fit and loop.startswith("20 True 0.")


def test_the_cart_falls_without_learning_and_stands_with_it():
    program = """
from cart_pole import BATCH, Learning
def lean(states):
    position, speed, angle, spin = states[0]
    return angle + 0.2 * spin > 0
learned = []
for act in (lambda states: 0, lean):
    game = Learning(act, lambda *batch: learned.append([len(each) for each in batch]), lambda: None)
    assert game.steps_per_second(2000) > 0
    print(max(game.ages), game.count, len(learned), learned[-1] == [BATCH] * 4)
"""
    fallen, stands = lines_of(program)
    assert int(fallen.split()[0]) < 60 and fallen.endswith(" 2000 1937 True")
    assert int(stands.split()[0]) > 150 and stands.endswith(" 2000 3874 True")


def test_subnormal_slots_are_timed(tmp_path):
    report, _ = results(tmp_path, "subnormal")
    assert {"rmsprop", "adam"} <= {row["optimizer"] for row in rows(report, "subnormal")}
    assert all(row["normal, us"] > 0 and row["decayed, us"] > 0 for row in rows(report, "subnormal"))


def test_a_busy_neighbour_is_compared_with_none(tmp_path):
    report, _ = results(tmp_path, "neighbour")
    busy, twice = rows(report, "neighbour"), rows(report, "neighbour", 1)
    assert len(busy) == len(twice) == 2
    assert all(row["busy / idle"] == row["busy, ms a step"] / row["idle, ms a step"] > 0 for row in busy)
    assert all(0 < row["two at once"] <= row["two at once, p99"] for row in twice)


def test_scaling_is_drawn_and_written(tmp_path):
    picture, document = tmp_path / "scaling.svg", tmp_path / "benchmarks.md"
    pytest.importorskip("matplotlib")
    report, _ = results(tmp_path, "scaling", "--plot", picture, "--markdown", document)
    tables = report["studies"]["scaling"]
    assert [table["title"] for table in tables[1:]] == [
        f"{what} against {size}"
        for what, sizes in (("dense", ("batch", "width")), ("lstm", ("batch", "width", "length")))
        for size in sizes
    ]
    for table in tables[1:]:
        assert len(table["columns"]) == 2 + 3 * len(table["threads"])
        assert all(number > 0 for row in table["rows"] for number in row[:-1])
    assert "<svg" in picture.read_text()
    assert "![scaling](scaling.svg)" in document.read_text()


def test_a_cliff_is_where_time_for_a_multiply_add_rises():
    program = """
sys.argv = ["run_scaling.py", "1", "smallest"]
import run_scaling
rows = [{"seconds": s, "multiply-adds": n} for s, n in [(3, 1), (3, 2), (10, 4), (20, 8), (29, 8)]]
run_scaling.mark_cliffs(rows)
print([row["cliff"] for row in rows])
model, batch, shape = run_scaling.dense(batch=2, width=3)
print(round(run_scaling.work_of(model, batch, training=True).multiply_adds))
"""
    # 784-3-3-10: forward and weights' gradients of three products, inputs' gradients of two
    multiply_adds = 2 * (2 * 784 * 3 + 3 * 3 * 3 + 3 * 3 * 10)
    assert lines_of(program) == ["[False, False, True, False, False]", str(multiply_adds)]


# -------------------- levels of vector instructions --------------------

of_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines have no levels")
LEVELS = runpy.run_path(str(ROOT / "benchmarks" / "levels.py"))


def test_levels_are_those_of_nbkeras():
    assert list(LEVELS["VARIABLES"]) == [level for level in processor.LEVELS if level != "x86-64-v2"]
    assert all(
        processor.variables_of(level).items() - {("NBKERAS_MACHINE", ""), ("NBKERAS_EXTRAS", "")} <= told.items()
        for level, told in LEVELS["VARIABLES"].items()
    )
    assert LEVELS["has"]("x86-64-v4", "x86-64-v3") and not LEVELS["has"]("x86-64-v3", "x86-64-v4")
    assert LEVELS["has"]("x86-64-v3", "x86-64-v3") and not LEVELS["has"]("aarch64", "x86-64-v3")


@of_x86
def test_every_process_gets_the_level(tmp_path):
    """A peer's Python that writes its variables down; the file names the level, and the frameworks that ignore it."""
    peer = tmp_path / "python"
    peer.write_text(f"#!/bin/sh\nenv > {tmp_path}/told\necho ModuleNotFoundError: none >&2\nexit 1\n")
    peer.chmod(0o755)
    arguments = ["mlp", "--peers", "jax", "--python", peer, "--quick", "--json", tmp_path / "results.json"]
    done = benchmarks(*arguments, "--level", "x86-64-v3", XLA_FLAGS="--xla_dump_to=here")
    told = dict(line.split("=", 1) for line in (tmp_path / "told").read_text().splitlines() if "=" in line)
    expected = LEVELS["VARIABLES"]["x86-64-v3"] | {"XLA_FLAGS": "--xla_dump_to=here --xla_cpu_max_isa=AVX2"}
    assert expected.items() <= told.items()
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["machine"]["level"] == report["settings"]["level"] == "x86-64-v3"
    assert "; level x86-64-v3; Python" in done.stdout and "but onnxruntime and litert, and jax" in done.stdout
    done = benchmarks(*arguments)
    told = (tmp_path / "told").read_text()
    assert "xla_cpu_max_isa" not in told and "NUMBA_CPU_NAME" not in told, "without --level no variable is set"
    level = json.loads((tmp_path / "results.json").read_text())["machine"]["level"]
    assert f"; level {level}; Python" in done.stdout and level in processor.levels() and "got the" not in done.stdout


@of_x86
def test_a_level_that_this_processor_lacks():
    done = benchmarks("mlp", "--level", "x86-64-v4", NUMBA_CPU_NAME="x86-64-v3", NUMBA_CPU_FEATURES="", code=2)
    assert "--level x86-64-v4: nbkeras compiles for x86-64-v3 here, which does not have it" in done.stderr


# -------------------- roofline --------------------

WORK = runpy.run_path(str(ROOT / "benchmarks" / "work.py"))


def model_of(inputs, outputs):
    model = Model(inputs, outputs)
    model.compile("rmsprop", "mse")
    return model


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "training"),
    [  # of two samples; training: forward, the weights' gradients, and those of values that the layer itself computed
        (layers.Dense(5), (3,), 2 * 3 * 5, 2 * 30),
        (layers.Dense(5), (4, 3), 2 * 4 * 3 * 5, 2 * 120),
        (layers.EinsumDense("abc,cd->abd", (None, 5)), (4, 3), 2 * 4 * 3 * 5, 2 * 120),
        (layers.EinsumDense("abcd,cde->abe", (None, 6)), (4, 3, 2), 2 * 4 * (3 * 2) * 6, 2 * 288),
        (layers.Conv1D(5, 3), (6, 4), 2 * 4 * (3 * 4) * 5, 2 * 480),
        (layers.Conv2D(5, 3, strides=2, padding="same"), (6, 6, 4), 2 * 9 * (9 * 4) * 5, 2 * 3240),
        (layers.Conv2D(6, 2, groups=2), (5, 5, 4), 2 * 16 * (4 * 2) * 6, 2 * 1536),
        (layers.Conv3D(2, 2), (3, 3, 3, 1), 2 * 8 * 8 * 2, 2 * 256),
        (layers.DepthwiseConv1D(3), (5, 4), 2 * 3 * 3 * 4, 2 * 72),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 2 * 9 * 9 * 8, 2 * 1296),
        (layers.SeparableConv1D(5, 3), (6, 4), 2 * 4 * (3 * 4 + 4 * 5), 2 * 256 + 2 * 4 * 4 * 5),
        (layers.SeparableConv2D(5, 3), (5, 5, 4), 2 * 9 * (9 * 4 + 4 * 5), 2 * 1008 + 2 * 9 * 4 * 5),
        (layers.Conv1DTranspose(5, 3, strides=2), (4, 2), 2 * 4 * 3 * 2 * 5, 2 * 240),
        (layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 2), 2 * 16 * 9 * 2 * 5, 2 * 2880),
        (layers.Conv3DTranspose(3, 2), (2, 2, 2, 1), 2 * 8 * 8 * 3, 2 * 384),
        (layers.SimpleRNN(5), (4, 3), 2 * 4 * 5 * (3 + 5), 2 * 320 + 2 * 4 * 5 * 5),
        (layers.GRU(5), (4, 3), 2 * 4 * 15 * (3 + 5), 2 * 960 + 2 * 4 * 15 * 5),
        (layers.LSTM(5), (4, 3), 2 * 4 * 20 * (3 + 5), 2 * 1280 + 2 * 4 * 20 * 5),
        (layers.Bidirectional(layers.LSTM(5)), (4, 3), 2 * 1280, 2 * (2 * 1280 + 800)),
        (layers.Embedding(10, 4), (3,), 0, 0),
        # three projections of 5 to 2 x 3, scores and sums of 2 heads, a projection of 6 to 5
        (layers.MultiHeadAttention(2, 3), (4, 5), 720 + 2 * 2 * 16 * 6 + 240, 1344 + 960 + 240 + 2 * 384),
        (layers.Attention(), (4, 5), 2 * 16 * 10, 320),
        (layers.BatchNormalization(), (4, 5), 0, 0),
    ],
)
def test_multiply_adds_of_a_layer(layer, shape, forward, training):
    inputs = layers.Input(shape)
    if isinstance(layer, layers.Attention):
        outputs = layer([inputs, inputs])
    else:
        outputs = layer(inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else layer(inputs)
    model = model_of(inputs, outputs)
    assert WORK["work_of"](model, 2, training=False).multiply_adds == forward
    if model.trainable_weights:
        assert WORK["work_of"](model, 2, training=True).multiply_adds == training


def test_gradients_of_inputs_are_counted_except_the_datas():
    one, other = layers.Input((3,)), layers.Input((3,))
    shared, last = layers.Dense(5), layers.Dense(2)
    model = model_of([one, other], last(shared(one) + shared(other)))
    work = WORK["work_of"](model, 4, training=True)
    assert work.multiply_adds == 4 * (2 * 2 * 15 + 3 * 10)
    shared.trainable = False
    assert WORK["work_of"](model, 4, training=True).multiply_adds == 4 * (2 * 15 + 2 * 10)


def test_attention_to_what_was_computed_has_two_gradients():
    inputs = layers.Input((4, 5))
    x = layers.Dense(5)(inputs)
    work = WORK["work_of"](model_of(inputs, layers.Attention()([x, x])), 2, training=True)
    assert work.multiply_adds == 2 * (2 * 4 * 25) + 3 * 320


def test_bytes_are_those_of_used_weights_and_of_inputs_and_outputs():
    inputs = layers.Input((3,))
    dense = model_of(inputs, layers.Dropout(0.5)(layers.Dense(5)(inputs)))
    assert WORK["work_of"](dense, 2, training=False).bytes == 4 * (20 + 6 + 10)
    assert WORK["work_of"](dense, 2, training=True).bytes == 4 * (3 * 20 + 6 + 10)
    dense.compile("adam", "mse")
    assert WORK["work_of"](dense, 2, training=True).bytes == 4 * (4 * 20 + 6 + 10)
    words = layers.Input((3,), dtype="int32")
    table = model_of(words, layers.Embedding(10, 4)(words))
    assert WORK["work_of"](table, 2, training=False).bytes == 4 * (6 * 4 + 6 + 24), "rows that are looked up"
    assert WORK["work_of"](table, 5, training=False).bytes == 4 * (10 * 4 + 15 + 60), "no more than there are"


def test_work_that_is_not_known_is_an_error():
    class Unheard(layers.Layer):
        def call(self, x):
            return x * 2

    inputs = layers.Input((3,))
    with pytest.raises(ValueError, match="is of a kind whose work is not known: add Unheard to a table"):
        WORK["work_of"](model_of(inputs, Unheard()(inputs)), 2, training=False)
    with pytest.raises(ValueError, match="received \\[\\(2, None, 3\\)\\]: give the Input all sizes"):
        WORK["work_of"](model_of(x := layers.Input((None, 3)), layers.Dense(2)(x)), 2, training=False)
    with pytest.raises(ValueError, match="Model is not a functional model"):
        WORK["work_of"](Model(), 2, training=True)


def test_the_least_time_is_that_of_the_store_that_holds_the_bytes():
    work, limits, store = WORK["Work"], WORK["Limits"], WORK["Store"]
    machine = limits(1, 10.0, [store("L1", 40, 5.0), store("memory", float("inf"), 2.0)])
    assert WORK["bounds"](work(100, 40), machine) == (10, 8, "L1")
    assert WORK["bounds"](work(100, 50), machine) == (10, 25, "memory")
    assert WORK["bounds"](work(100, 50), machine).seconds == 25


of_linux = pytest.mark.skipif(
    not Path("/sys/devices/system/cpu/cpu0/cache/index0").exists(), reason="the system does not tell the caches"
)


@of_linux
def test_roofline_at_its_smallest(tmp_path):
    file, document = tmp_path / "results.json", tmp_path / "benchmarks.md"
    arguments = ["lstm_stack", "lstm_stateful", "--quick", "--json", file, "--markdown", document]
    done = benchmarks(*arguments, module="benchmarks.roofline")
    report = json.loads(file.read_text())
    limits, starts = rows(report, "roofline", 0), rows(report, "roofline", 1)
    assert limits[0]["threads"] == 1 and all(
        value > 0 for row in [*limits, *starts] for value in list(row.values())[1:]
    )
    found = {row["workload"]: row for row in rows(report, "roofline", 2)}
    assert list(found) == [
        "lstm_stack: training step, batch 64",
        "lstm_stack: prediction, batch 1",
        "lstm_stack: prediction, batch 64",
        "lstm_stateful: training step, batch 32",
        "lstm_stateful: prediction, batch 32",
    ]
    one = found["lstm_stack: prediction, batch 1"]
    multiply_adds = 8 * 128 * (16 + 32) + 2 * 8 * 128 * (32 + 32) + 32 * 10
    assert one["M multiply-adds"] == multiply_adds / 1e6
    assert all(row["time, ms"] > 0 and row["near"] in ("arithmetic", "bytes") for row in found.values())
    assert all(row["rounds"] in (0, 1) for row in found.values()), "one round is asked for by --quick"
    assert "roofline: The least times of the work" in done.stdout
    lines = document.read_text().splitlines()
    assert lines[0] == "<!-- begin roofline -->" and f"level {report['machine']['level']}; Python" in lines[1]


def test_a_process_that_does_not_answer_is_ended():
    program = """
import os
from benchmarks import runners
runners._PATIENCE = 0.2
try:
    runners.Process("openvino", [sys.executable, "-c", "while True: pass"], dict(os.environ))
except runners.Failed as error:
    print(error)
"""
    assert lines_of(program, ".")[0].startswith("openvino stopped with exit code -")


def test_roofline_knows_only_workloads_whose_work_it_can_count():
    done = benchmarks("maml", module="benchmarks.roofline", code=2)
    assert "unknown name 'maml': choose from mlp, " in done.stderr


PROBE = """
import limits
rates, ways = iter([100, 95, 50, 100]), iter([3e-8, 4e-8, 3e-8, 2e-7])
limits.rate, limits.between = lambda *_: next(rates), lambda *_: next(ways)
probe = limits.Probe(2)
print([probe.is_undisturbed() for _ in range(4)])
rates, ways = iter([50, 100]), iter([3e-8, 3e-8])
print(probe.settles(60))
rates, ways = iter([50]), iter([3e-8])
print(probe.settles(0))
"""

ROUNDS = """
import argparse
from benchmarks.session import Session
session = Session(argparse.Namespace(peers=[], quick=False, device="cpu"), "")
for found in ([True, False, True, True], 3 * [True, False]):
    answers = iter(found)
    session.settles = lambda seconds: next(answers)
    print(session.undisturbed(iter("abc").__next__), session.disturbed, session.rounds)
"""


def test_processors_are_compared_with_their_best():
    assert lines_of(PROBE) == ["[True, True, False, False]", "True", "False"]


def test_a_disturbed_round_is_measured_again():
    assert lines_of(ROUNDS, ".") == ["b 0 1", "c 1 2"]


def test_a_process_looks_at_the_processors(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/run_probe.py"), "nbkeras", "1"]
    environment = os.environ | {"PYTHONSAFEPATH": ""}
    done = subprocess.run(
        command, input="0.1\n", capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    answers = [json.loads(line)["undisturbed"] for line in done.stdout.splitlines()]
    assert answers[0] is True and len(answers) == 2, "ready, and the answer to one line"


LOOPS = "import limits; print(*limits.calculate.inspect_asm().values(), *limits.read.inspect_asm().values())"


@of_x86
@pytest.mark.parametrize(("level", "register"), [("x86-64-v3", "ymm"), ("x86-64-v4", "zmm")])
def test_the_loops_that_measure_the_processor(level, register):
    """The innermost loops have vectors of the level, and nothing else than multiply-adds, or loads: no store and no call."""
    if level not in processor.levels():
        pytest.skip("the processor lacks this level")
    printed = "\n".join(lines_of(LOOPS, **processor.variables_of(level)))
    loops = re.findall(r"^(\.LBB\w+):\n((?:\t[^.\n].*\n)+?)\tj\w+\t\1\n", printed, re.MULTILINE)
    found = [{line.split()[0] for line in body.splitlines() if register in line} for _, body in loops]
    assert {"vfmadd213ps"} in found and any(kind <= {"vpor", "vporq"} for kind in found if kind)
    for _, body in loops:
        if register in body:
            others = [line.split() for line in body.splitlines() if register not in line]
            assert {words[0] for words in others} <= {"addq", "decq", "incq", "cmpq", "subq"}, body
            assert not re.search(rf"%{register}\d+, [^%]", body), "a store"


# -------------------- from a file --------------------


def measured(seconds, megabytes):
    return {"median": seconds, "p99": 2 * seconds, "spread": 0.01, "peak": megabytes, "losses": [2.5, 1.25]}


@pytest.fixture
def saved(tmp_path):
    """The file of an earlier run: two workloads with peers, one with nbkeras alone, two studies."""
    ours = measured(0.002, 200) | {"parameters": 12345, "imported": 100, "data": 1.5, "versions": {"nbkeras": "0.1.0"}}
    sweep = {
        "title": "dense against batch",
        "columns": ["batch", "1 thread, ms a step", "floor, ms", "/ floor", "cliff"],
        "rows": [[1, 0.5, 0.25, 2.0, None], [2, 0.6, 0.3, 2.0, None], [4, 6.0, 0.6, 10.0, "on 1"]],
        "threads": [1],
    }
    threads = {"title": "Predictions", "columns": ["workload", "2 threads"], "rows": [["mlp", 1500], ["cnn", "fails"]]}
    report = {
        "machine": {"cpu": "A CPU", "cores": 2, "load": 0.25, "python": "3.11", "system": "Linux"}
        | {"date": "2026-01-02"},
        "settings": {"rounds": 3},
        "workloads": {
            "mlp": {"nbkeras": ours, "torch": measured(0.008, 400), "jax": measured(0.004, 300)},
            "latency_mlp": {"nbkeras": measured(0.0003, 100), "nbkeras-1": measured(0.0002, 100)}
            | {"onnxruntime": measured(0.0001, 50), "litert-2": measured(0.00008, 40)},
            "start": {"nbkeras": measured(1.5, 100), "nbkeras, empty cache": measured(7.0, 100)},
        },
        "studies": {"scaling": [sweep], "threads": [threads]},
    }
    file = tmp_path / "saved.json"
    file.write_text(json.dumps(report))
    return file


def test_tables_of_a_saved_run(saved):
    done = benchmarks("--from", saved)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["nbkeras", "2.00", "1.0%", "4.00", "0.500", "200", "100", "1.50", "1.25"] in lines
    assert ["torch", "8.00", "1.0%", "16.0", "2.00", "400", "1.25"] in lines
    assert ["4", "6.00", "0.600", "10.0", "on", "1"] in lines
    assert "Measured on 2026-01-02: A CPU, 2 cores, load 0.25 before the run; level not recorded;" in done.stdout


def test_levels_of_saved_runs_are_beside_each_other(saved, tmp_path):
    """Files of one level are one report; those of another one are not mixed with it."""
    report = json.loads(saved.read_text())
    files = [tmp_path / f"{number}.json" for number in range(3)]
    slower = {"mlp": {"nbkeras": measured(0.004, 200), "torch": measured(0.005, 400)}}
    machines = [report["machine"] | {"level": level} for level in ("x86-64-v4", "x86-64-v3", "x86-64-v4")]
    machines[1] |= {"date": "2026-03-04", "cpu": "Another CPU"}
    only = {"workloads": {"latency_mlp": report["workloads"]["latency_mlp"]}, "studies": {}}
    changes = [{"workloads": {"mlp": report["workloads"]["mlp"]}}, {"workloads": slower}, only]
    for file, machine, change, disturbed in zip(files, machines, changes, (1, 0, 2), strict=True):
        rounds = {"rounds": 9, "disturbed": disturbed}
        file.write_text(json.dumps(report | {"machine": machine} | change | rounds))
    arguments = [argument for file in files for argument in ("--from", file)]
    document = tmp_path / "benchmarks.md"
    done = benchmarks(*arguments, "--markdown", document)
    lines = document.read_text().splitlines()
    assert "level x86-64-v4: A CPU, 2026-01-02; level x86-64-v3: Another CPU, 2026-03-04:" in lines
    told = re.findall("disturbed during (\\d+ of \\d+) rounds", document.read_text())
    assert set(told) == {"3 of 18"}, "the sum of the files of a level, and nothing if it is 0"
    assert (
        "| workload | unit | nbkeras, level x86-64-v4 | / best peer | nbkeras, level x86-64-v3 | / best peer |" in lines
    )
    assert "| mlp | ms a step | 2.00 | 0.500 | 4.00 | 0.800 |" in lines
    assert "| latency_mlp | us a call | 200 | 2.50 |  |  |" in lines
    mlp = "mlp: 784-512-512-10, relu, dropout 0.2, RMSprop, batch 128"
    assert f"| {mlp} | ms a step | 2.00 | 8.00 | 4.00 | 0.500 |" in lines
    assert f"| {mlp} | ms a step | 4.00 | 5.00 | 0.800 |" in lines
    assert lines.count("| mlp | 1,500 |") == 2, "a study's tables of both levels"
    assert sum(line.startswith("Measured on 2026-03-04: Another CPU, 2 cores, ") for line in lines) == 3
    pytest.importorskip("matplotlib")
    done = benchmarks(*arguments, "--plot", tmp_path / "all.svg", code=1)
    assert "--plot draws one level, and the files have level x86-64-v4 and level x86-64-v3" in done.stderr


def test_document_of_a_saved_run(saved, tmp_path):
    document = tmp_path / "benchmarks.md"
    document.write_text("# Title\n\n<!-- begin workloads -->\nold\n<!-- end workloads -->\n\nMore words.\n")
    for _ in range(2):
        benchmarks("--from", saved, "--markdown", document)
        text = document.read_text()
        lines = text.splitlines()
        assert text.startswith("# Title\n\n<!-- begin workloads -->\nMeasured on 2026-01-02: A CPU")
        assert "old" not in text
        assert lines.count("More words.") == lines.count("<!-- begin threads -->") == 1
        assert (
            lines.index("<!-- end workloads -->") < lines.index("More words.") < lines.index("<!-- begin scaling -->")
        )
    assert "| workload | unit | nbkeras | torch | jax | nbkeras / best peer |" in lines
    assert "| workload | unit | nbkeras | nbkeras-1 | onnxruntime | litert-2 | nbkeras / best peer |" in lines
    mlp = "mlp: 784-512-512-10, relu, dropout 0.2, RMSprop, batch 128"
    assert f"| {mlp} | ms a step | 2.00 | 8.00 | 4.00 | 0.500 |" in lines
    latency = "latency_mlp: predict of one sample, mlp"
    assert f"| {latency}, p50 | us a call | 300 | 200 | 100 | 80.0 | 2.50 |" in lines
    assert f"| {latency}, p99 | us a call | 600 | 400 | 200 | 160 | 2.50 |" in lines
    assert "| start: nbkeras, empty cache | s | 7.00 |  |  |  |" in lines
    assert "| mlp | 1.50 | 200 | 400 | 300 | 0.667 |" in lines  # memory
    assert "| after the import alone |  | 100 |  |  |  |" in lines
    assert "| mlp | 1,500 |" in lines and "| cnn | fails |" in lines


def test_pictures_of_a_saved_run(saved, tmp_path):
    pytest.importorskip("matplotlib")
    document = tmp_path / "docs.md"
    benchmarks("--from", saved, "--plot", tmp_path / "all.png", "--markdown", document)
    for name in ("all-workloads.png", "all-scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "all.png").exists()  # of several pictures, each has its own name
    assert "![workloads](all-workloads.png)" in document.read_text()
    report = json.loads(saved.read_text()) | {"studies": {}}
    saved.write_text(json.dumps(report))
    benchmarks("--from", saved, "--plot", tmp_path / "one.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_pictures_without_matplotlib(saved, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    done = benchmarks("--from", saved, "--plot", tmp_path / "all.png", PYTHONPATH=str(tmp_path), code=1)
    assert (
        done.stderr.strip() == "--plot needs matplotlib: pip install matplotlib, or '.[bench]' in the clone of nbkeras"
    )


def test_steps_with_derivatives_of_second_order_are_judged(saved, tmp_path):
    report = json.loads(saved.read_text())
    peers = {"torch": measured(0.008, 400), "torch-compile": measured(0.001, 400), "jax": measured(0.0005, 300)}
    ours = report["workloads"]["mlp"]["nbkeras"]
    report["workloads"] = {"maml": {"nbkeras": ours, **peers}, "burgers": {"nbkeras": ours, "torch": peers["jax"]}}
    saved.write_text(json.dumps(report | {"studies": {}}))
    benchmarks("--from", saved, "--markdown", tmp_path / "d.md")
    lines = (tmp_path / "d.md").read_text().splitlines()
    assert "<!-- begin derivatives -->" in lines
    assert "| burgers | 2.00 | 4.00 | MISS |  |  |" in lines
    assert "| maml | 2.00 | 0.250 | pass | 2.00 | 4.00 |" in lines


def kernel_table(name, equal):
    columns = ["kernel", "nbkeras, us", "equal to torch"]
    seconds = {name: {"nbkeras": 0.004, "torch": 0.003, "torch-tf32": 0.001, "nbkeras-cublas": 0.002}}
    return [{"title": "limits", "columns": ["limit"], "rows": [["a card"]]}] + [
        {"title": "A kernel's time", "columns": columns, "rows": [[name, 4000.0, equal]], "seconds": seconds}
    ]


def test_goals_on_a_gpu_of_saved_runs(saved, tmp_path):
    """Two files of one machine become one report, and its goals are judged."""
    first = json.loads(saved.read_text())
    learns = {"losses": [1.0, 0.5], "first_loss": 2.0, "gpu": 70}
    mlp = {"nbkeras": measured(0.002, 200) | learns, "torch": measured(0.001, 400) | learns | {"losses": [3.0]}}
    cnn = {"nbkeras": measured(0.0014, 200) | learns, "torch": measured(0.001, 400) | learns}
    mlp["torch-tf32"] = measured(0.0005, 400) | learns
    first |= {"settings": {"rounds": 3, "device": "cuda"}, "workloads": {"mlp": mlp, "cnn": cnn}, "studies": {}}
    first |= {"left out": ["jax: NoGpu"], "failures": {"tweets": "out of memory"}}
    first["machine"]["gpu"] = "A GPU, 80 GB"
    losses = {"title": "Losses", "columns": ["workload", "worst"], "rows": [["mlp", 2e-5], ["cnn", 3e-4]]}
    second = first | {"workloads": {}, "studies": {"kernels": kernel_table("gemm 4096", "NO"), "equality": [losses]}}
    one, other, document = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "report.md"
    one.write_text(json.dumps(first))
    other.write_text(json.dumps(second))
    done = benchmarks("--from", one, "--from", other, "--markdown", document, code=1)
    assert done.stderr.strip() == "failed: tweets"
    text = document.read_text()
    assert "begin gpu-workloads" in text and "begin workloads" not in text, "the CPU's tables are not overwritten"
    lines = text.splitlines()
    assert "| product of 4096 x 4096, cuBLAS's float32 time / ours | >= 0.6 | 0.500 | MISS |" in lines
    assert "| mlp: a training step, ours / PyTorch's | <= 1 | 2.00 | MISS |" in lines
    assert "| cnn: a training step, ours / PyTorch's | <= 1.5 | 1.40 | pass |" in lines
    assert "| tweets: a training step, ours / PyTorch's | <= 1 |  | not measured |" in lines
    assert "| mlp: losses on the GPU as on the CPU | <= 0.0001 | 0.0000200 | pass |" in lines
    assert "| cnn: losses on the GPU as on the CPU | <= 0.0001 | 0.000300 | MISS |" in lines
    assert "| every network learns in every framework | loss falls |  | MISS: mlp in torch |" in lines
    assert "| kernels compute what PyTorch's do | 1e-3 |  | MISS: gemm 4096 |" in lines
    what = "mlp: 784-512-512-10, relu, dropout 0.2, RMSprop, batch 128"
    assert f"| {what} | ms a step | 2.00 | 1.00 | 0.500 | 2.00 |" in lines  # TF32 is shown, and no peer
    assert "| mlp | 70 | 70 | 70 | 1.00 |" in lines  # memory of the GPU
    assert "A GPU, 80 GB" in lines[1] and "Left out: jax: NoGpu. Failed: tweets." in lines[1]


def test_studies_are_of_one_device():
    done = benchmarks("kernels", code=2)
    assert "'kernels' is one of GPUs: add --device cuda" in done.stderr
    done = benchmarks("scaling", "--device", "cuda", code=2)
    assert "'scaling' is one of the CPU" in done.stderr


def test_a_machine_without_a_gpu_is_told_what_could_not_be_done(tmp_path):
    arguments = ["--installed", "--steps", "machine,report", "--out", tmp_path]
    done = benchmarks(*arguments, module="benchmarks.gpu", PATH=str(tmp_path), code=1)
    assert "NOT DONE: there is no nvidia-smi" in done.stdout
    assert f"NOT DONE: there is no result in {tmp_path}" in (tmp_path / "summary.md").read_text()
    assert "Python" in (tmp_path / "machine.log").read_text()


def test_a_saved_run_is_not_measured_again(saved):
    done = benchmarks("mlp", "--from", saved, code=2)
    assert "--from shows the results of an earlier run: it takes no names and no --json" in done.stderr


# -------------------- kernels --------------------


def test_micro_benchmarks_run_at_their_smallest():
    python("-m", "pytest", "benchmarks", "--benchmark-disable", "-q", NBKERAS_BENCH="smallest")


def quick_rows(module, *options):
    run = f"runpy.run_module('benchmarks.{module}', run_name='__main__')"
    script = f"import runpy, sys; sys.path.append(sys.argv.pop(1)); {run}"
    done = python("-W", "error", "-c", script, str(ROOT), "--quick", *options, PYTHONSAFEPATH="1")
    return [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]


def test_the_times_of_quantization():
    rows = quick_rows("quantization", "--times")
    times = [float(each) for row in rows for pair in row[2:] for each in pair.replace(",", " ").split()]
    assert len(rows) == 12 and len(times) >= 48 and min(times) >= 0


def test_the_times_of_one_row():
    times = [[float(each.replace(",", "")) for each in row[1:]] for row in quick_rows("quantization", "--row")]
    assert len(times) in (2, 4) and all(len(row) == 6 and min(row) >= 0 for row in times)


def test_the_table_of_quantization():
    rows = quick_rows("quantization")
    assert len(rows) == 20 and all(0 <= float(accuracy.strip(" %")) <= 100 for _, _, accuracy, *_ in rows)
    # floats, Keras's integers, beyond, weights alone, 4 bits
    weights = np.array([float(each[3]) for each in rows]).reshape(4, 5)
    assert (weights[:, 0] > 2 * weights[:, 2]).all() and (weights[:, 1] >= weights[:, 2]).all()


@pytest.mark.parametrize("products", [False, True])
def test_the_tables_of_precision(products):
    rows = quick_rows("precision", *["--products"] * products)
    numbers = [float(each) for row in rows for cell in row[2:] for each in re.findall(r"[\d.]+", cell)]
    assert len(rows) in ((3, 6) if products else (6, 12)) and len(numbers) == len(rows) * (9 if products else 3)
    assert min(numbers) >= 0


# -------------------- several ranks --------------------

OF_RANKS = """
from benchmarks.scaling_out import SIZES, constants, modelled, row_of, time_of_sum

latency, per_byte = constants([time_of_sum(2, size, 50e-6, 8e-9) for size in SIZES])
print(round(latency * 1e6), round(per_byte * 1e9))
shares = [modelled(ranks, {"bytes": 2.7e6}, 0.05, latency, per_byte, 2**20) for ranks in (2, 8, 64, 1024)]
print(1 > shares[0] > shares[1] > shares[2] > shares[3] > 0.3, modelled(1024, {"bytes": 2.7e6}, 0.05, 0.0, 0.0, 2**20))
one = {"ranks": 1, "networks": {"mlp": {"alone": 0.01, "step": 0.01, "sums": 0.0, "waits": 0.0}}}
two = {"ranks": 2, "networks": {"mlp": {"alone": 0.011, "step": 0.0125, "sums": 0.004, "waits": 0.001}}}
print(*row_of(two, "mlp", one, 2), *row_of(one, "mlp", one, 2)[-2:])
"""


def test_the_model_and_the_table_of_several_ranks():
    constants, shares, rows = lines_of(OF_RANKS, ".")
    assert (constants, shares) == ("50 8", "True 1.0")
    assert rows == "mlp 2 11.00 12.50 4.00 1.00 75% 88% 80% 100% 100%"


# -------------------- servers --------------------


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt-get install wrk")
def test_serving_alone(tmp_path):
    """nbkeras serve without peers: its answers are compared, the tables are written between the comments of a document."""
    document = tmp_path / "serving.md"
    document.write_text("# Title\n\n<!-- begin serving -->\n<!-- end serving -->\n\nThe end\n")
    options = ["--quick", "--servers", "nbkeras", "--models", "lstm", "--workers", "1", "--memory="]
    # the folder last: if nbkeras is not installed as the checkout itself, the installed one is meant
    run = "import runpy, sys; sys.path.append('.'); runpy.run_module('benchmarks.serving', run_name='__main__')"
    python("-c", run, *options, "--write", document)
    text = document.read_text()
    rows = re.findall(
        r"^\| nbkeras serve(?:, binary tensors)? \| (\d+) \| ([\d,]+) \|.* (\d+) \| \d+ \|$", text, re.MULTILINE
    )
    assert [(connections, errors) for connections, _, errors in rows] == [("1", "0")] * 2 + [("64", "0")] * 2
    assert all(int(rate.replace(",", "")) > 10 for _, rate, _ in rows)
    assert "\nThe end\n" in text
