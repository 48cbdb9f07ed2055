"""`python -m benchmarks` runs, at its smallest and without peers, and its tables, files and pictures hold what it measured."""

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def python(*arguments, **environment):
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONSAFEPATH": "1"} | environment  # not nbkeras/ without kernels/
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)


def benchmarks(*arguments, **environment):
    return python("-W", "error", "-m", "benchmarks", *arguments, PYTHONSAFEPATH="", **environment)


def results(tmp_path, *arguments):
    """The file and the output of a run at its smallest."""
    file = tmp_path / "results.json"
    done = benchmarks(*arguments, "--quick", "--peers", "none", "--json", file)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


# -------------------- workloads --------------------


def test_mlp_alone(tmp_path):
    report, printed = results(tmp_path, "mlp", "--steps", "3", "--rounds", "2")
    assert "mlp: 784-512-512-10" in printed
    assert "669,706 parameters" in printed
    result = report["workloads"]["mlp"]["nbkeras"]
    assert result["count"] == 4  # two rounds of two epochs
    assert 0 < result["least"] <= result["median"] <= result["p99"]
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


@pytest.mark.slow  # starts two processes for each network
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_their_parameters_and_learn(name, tmp_path):
    report, _ = results(tmp_path, name, "--rounds", "2")
    result = report["workloads"][name]["nbkeras"]
    assert result["parameters"] == NETWORKS[name]
    assert result["losses"][-1] < result["losses"][0] < result["first_loss"]


SECOND_ORDER = {"wgan_gp": 259_106, "burgers": 7_851, "maml": 1_761, "lstm_slopes": 24_897}


@pytest.mark.slow  # starts two processes for each network
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


@pytest.mark.slow  # starts a dozen processes
@pytest.mark.parametrize("peer, more", [("onnxruntime", "-1"), ("litert", "-2"), ("openvino", "-2")])
def test_frameworks_that_read_a_file_predict_the_same(peer, more, tmp_path):
    """Their answers are compared with nbkeras's in each run; a throughput has a last batch of another size."""
    if missing := [module for module in MODULES[peer] if importlib.util.find_spec(module) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    file = tmp_path / "results.json"
    frameworks = ["nbkeras-1", peer, peer + more]
    names = ("latency_lstm_stack", "batch_autoencoder", "throughput_mlp")
    done = benchmarks(*names, "--quick", "--peers", ",".join(frameworks), "--json", file)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert list(json.loads(file.read_text())["workloads"][name]) == ["nbkeras", *frameworks]


def test_a_framework_that_predicts_something_else_is_an_error():
    program = """
import sys
sys.path.insert(0, ".")
from benchmarks.session import compare
ready = {"parameters": 7, "answer": [0.25, 0.75]}
compare("mlp", {"nbkeras": ready, "torch": ready | {"answer": [1, 0]}, "litert-2": ready | {"parameters": None}})
for other in (ready | {"answer": [0.26, 0.74]}, ready | {"answer": [0.25]}, ready | {"parameters": 8}):
    try:
        compare("mlp", {"nbkeras": ready, "openvino": other})
    except RuntimeError as error:
        print(error)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "mlp: openvino predicts [0.26 0.74], nbkeras [0.25 0.75]",
        "mlp: openvino predicts [0.25], nbkeras [0.25 0.75]",
        "mlp: the frameworks' networks differ in parameters: {'nbkeras': 7, 'openvino': 8}",
    ]


def test_a_peer_that_is_not_installed_is_left_out(tmp_path):
    python = (
        tmp_path / "python"
    )  # an interpreter without site-packages, in which LiteRT is installed and TensorFlow is not
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "interpreter.py").touch()
    done = benchmarks("latency_cnn", "--peers", "litert-2,openvino,nbkeras-1", "--python", python, "--quick")
    assert done.returncode == 0, done.stderr
    assert "litert-2 is left out: its network is written by keras-tensorflow: ModuleNotFoundError" in done.stderr
    assert "openvino is left out: ModuleNotFoundError: No module named 'openvino'" in done.stderr
    assert "nbkeras-1" in done.stdout
    done = benchmarks("import", "subnormal", "--peers", "torch", "--python", python, "--quick")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("torch is left out: ModuleNotFoundError") == 2
    assert "nbkeras" in done.stdout


def test_unknown_names_are_answered_with_the_known_ones():
    done = benchmarks("mpl")
    assert done.returncode == 2
    assert "unknown name 'mpl'" in done.stderr
    assert "lstm_stack" in done.stderr and "neighbour" in done.stderr
    done = benchmarks("mlp", "--peers", "keras")
    assert done.returncode == 2
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


@pytest.mark.slow  # compiles the kernels of all layers and optimizers
def test_layers_are_timed(tmp_path):
    report, printed = results(tmp_path, "layers")
    assert "layers: Predicting, a batch" in printed
    training, predicting = ([row[0] for row in table["rows"]] for table in report["studies"]["layers"])
    assert "Conv3D(16, 3)" in predicting and training[: len(predicting)] == predicting
    assert {"Adam", "Lamb", "Muon"} <= set(training) - set(predicting)


def test_subnormal_slots_are_timed(tmp_path):
    report, _ = results(tmp_path, "subnormal")
    assert {"rmsprop", "adam"} <= {row["optimizer"] for row in rows(report, "subnormal")}
    assert all(row["normal, us"] > 0 and row["decayed, us"] > 0 for row in rows(report, "subnormal"))


@pytest.mark.slow  # starts a process for every setting
def test_a_busy_neighbour_is_compared_with_none(tmp_path):
    report, _ = results(tmp_path, "neighbour")
    busy, twice = rows(report, "neighbour"), rows(report, "neighbour", 1)
    assert len(busy) == len(twice) == 2
    assert all(row["busy / idle"] == row["busy, ms a step"] / row["idle, ms a step"] > 0 for row in busy)
    assert all(0 < row["two at once"] <= row["two at once, p99"] for row in twice)


@pytest.mark.slow  # compiles for another CPU
def test_processor_features_are_compared(tmp_path):
    report, _ = results(tmp_path, "features")
    assert [row["nbkeras"] for row in rows(report, "features")] == ["as it is", "AVX2 only"]


@pytest.mark.slow  # five sweeps for each number of threads
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


def test_a_cliff_is_where_time_for_a_flop_rises():
    program = """
import sys
sys.argv = ["run_scaling.py", "1", "smallest"]
sys.path.insert(0, "benchmarks")
import run_scaling
rows = [{"seconds": s, "flops": f} for s, f in [(3, 1), (3, 2), (10, 4), (20, 8), (29, 8)]]
run_scaling.mark_cliffs(rows)
print([row["cliff"] for row in rows])
model, batch, shape, work = run_scaling.dense(batch=2, width=3)
print(work.flops)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    # 784-3-3-10: forward and weights' gradients of three products, inputs' gradients of two
    flops = 2 * 2 * (2 * 784 * 3 + 3 * 3 * 3 + 3 * 3 * 10)
    assert done.stdout.splitlines() == ["[False, False, True, False, False]", str(flops)]


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
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "load": 0.25,
            "python": "3.11",
            "system": "Linux",
            "date": "2026-01-02",
        },
        "settings": {"rounds": 3},
        "workloads": {
            "mlp": {"nbkeras": ours, "torch": measured(0.008, 400), "jax": measured(0.004, 300)},
            "latency_mlp": {
                "nbkeras": measured(0.0003, 100),
                "nbkeras-1": measured(0.0002, 100),
                "onnxruntime": measured(0.0001, 50),
                "litert-2": measured(0.00008, 40),
            },
            "start": {"nbkeras": measured(1.5, 100), "nbkeras, empty cache": measured(7.0, 100)},
        },
        "studies": {"scaling": [sweep], "threads": [threads]},
    }
    file = tmp_path / "saved.json"
    file.write_text(json.dumps(report))
    return file


def test_tables_of_a_saved_run(saved):
    done = benchmarks("--from", saved)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["nbkeras", "2.00", "1.0%", "4.00", "0.500", "200", "100", "1.50", "1.25"] in lines
    assert ["torch", "8.00", "1.0%", "16.0", "2.00", "400", "1.25"] in lines
    assert ["4", "6.00", "0.600", "10.0", "on", "1"] in lines
    assert "Measured on 2026-01-02: A CPU, 2 cores, load 0.25 before the run" in done.stdout


def test_document_of_a_saved_run(saved, tmp_path):
    document = tmp_path / "benchmarks.md"
    document.write_text("# Title\n\n<!-- begin workloads -->\nold\n<!-- end workloads -->\n\nMore words.\n")
    for _ in range(2):
        done = benchmarks("--from", saved, "--markdown", document)
        assert done.returncode == 0, done.stderr
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
    done = benchmarks("--from", saved, "--plot", tmp_path / "all.png", "--markdown", document)
    assert done.returncode == 0, done.stderr
    for name in ("all-workloads.png", "all-scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "all.png").exists()  # of several pictures, each has its own name
    assert "![workloads](all-workloads.png)" in document.read_text()
    report = json.loads(saved.read_text()) | {"studies": {}}
    saved.write_text(json.dumps(report))
    done = benchmarks("--from", saved, "--plot", tmp_path / "one.svg")
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_pictures_without_matplotlib(saved, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    done = benchmarks("--from", saved, "--plot", tmp_path / "all.png", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "--plot needs matplotlib: pip install matplotlib, or '.[bench]' in the clone of nbkeras"
    )


def test_steps_with_derivatives_of_second_order_are_judged(saved, tmp_path):
    report = json.loads(saved.read_text())
    peers = {"torch": measured(0.008, 400), "torch-compile": measured(0.001, 400), "jax": measured(0.0005, 300)}
    ours = report["workloads"]["mlp"]["nbkeras"]
    report["workloads"] = {"maml": {"nbkeras": ours, **peers}, "burgers": {"nbkeras": ours, "torch": peers["jax"]}}
    saved.write_text(json.dumps(report | {"studies": {}}))
    done = benchmarks("--from", saved, "--markdown", tmp_path / "d.md")
    assert done.returncode == 0, done.stderr
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
    done = benchmarks("--from", one, "--from", other, "--markdown", document)
    assert done.returncode == 1 and done.stderr.strip() == "failed: tweets"
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
    done = benchmarks("kernels")
    assert done.returncode == 2 and "'kernels' is one of GPUs: add --device cuda" in done.stderr
    done = benchmarks("scaling", "--device", "cuda")
    assert done.returncode == 2 and "'scaling' is one of the CPU" in done.stderr


def test_a_machine_without_a_gpu_is_told_what_could_not_be_done(tmp_path):
    arguments = ["--installed", "--steps", "machine,report", "--out", tmp_path]
    done = python("-m", "benchmarks.gpu", *arguments, PYTHONSAFEPATH="", PATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "NOT DONE: there is no nvidia-smi" in done.stdout
    assert f"NOT DONE: there is no result in {tmp_path}" in (tmp_path / "summary.md").read_text()
    assert "Python" in (tmp_path / "machine.log").read_text()


def test_a_saved_run_is_not_measured_again(saved):
    done = benchmarks("mlp", "--from", saved)
    assert done.returncode == 2
    assert "--from shows the results of an earlier run: it takes no names and no --json" in done.stderr


# -------------------- kernels --------------------


def test_micro_benchmarks_run_at_their_smallest():
    done = python("-m", "pytest", "benchmarks", "--benchmark-disable", "-q", NBKERAS_BENCH="smallest")
    assert done.returncode == 0, done.stdout


def rows_of_quantization(*options):
    run = "runpy.run_module('benchmarks.quantization', run_name='__main__')"
    script = f"import runpy, sys; sys.path.append(sys.argv.pop(1)); {run}"
    done = python("-W", "error", "-c", script, str(ROOT), "--quick", *options, PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stderr
    return [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]


@pytest.mark.slow
def test_the_times_of_quantization():
    rows = rows_of_quantization("--times")
    times = [float(each) for row in rows for pair in row[2:] for each in pair.replace(",", " ").split()]
    assert len(rows) == 12 and len(times) >= 48 and min(times) >= 0


@pytest.mark.slow
def test_the_table_of_quantization():
    rows = rows_of_quantization()
    assert len(rows) == 16 and all(0 <= float(accuracy.strip(" %")) <= 100 for _, _, accuracy, *_ in rows)
    weights = np.array([float(each[3]) for each in rows]).reshape(
        4, 4
    )  # floats, Keras's integers, beyond, weights alone
    assert (weights[:, 0] > 2 * weights[:, 2]).all() and (weights[:, 1] >= weights[:, 2]).all()


# -------------------- several ranks --------------------

OF_RANKS = """
import sys
sys.path.insert(0, ".")
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
    done = python("-W", "error", "-c", OF_RANKS, PYTHONSAFEPATH="")
    constants, shares, rows = done.stdout.splitlines()
    assert (constants, shares) == ("50 8", "True 1.0"), done.stderr
    assert rows == "mlp 2 11.00 12.50 4.00 1.00 75% 88% 80% 100% 100%"


# -------------------- servers --------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt-get install wrk")
def test_serving_alone(tmp_path):
    """nbkeras serve without peers: its answers are compared, the tables are written between the comments of a document."""
    document = tmp_path / "serving.md"
    document.write_text("# Title\n\n<!-- begin serving -->\n<!-- end serving -->\n\nThe end\n")
    options = ["--quick", "--servers", "nbkeras", "--models", "lstm", "--workers", "1", "--memory="]
    # the folder last: if nbkeras is not installed as the checkout itself, the installed one is meant
    run = "import runpy, sys; sys.path.append('.'); runpy.run_module('benchmarks.serving', run_name='__main__')"
    done = python("-c", run, *options, "--write", document)
    assert done.returncode == 0, done.stderr
    text = document.read_text()
    rows = re.findall(
        r"^\| nbkeras serve(?:, binary tensors)? \| (\d+) \| ([\d,]+) \|.* (\d+) \| \d+ \|$", text, re.MULTILINE
    )
    assert [(connections, errors) for connections, _, errors in rows] == [
        ("1", "0"),
        ("1", "0"),
        ("64", "0"),
        ("64", "0"),
    ]
    assert all(int(rate.replace(",", "")) > 10 for _, rate, _ in rows)
    assert "\nThe end\n" in text
