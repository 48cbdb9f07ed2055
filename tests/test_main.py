"""The command line: the main job and the warm-up, each in a process of its own."""

import contextlib
import os
import re
import subprocess
import sys

import pytest

from nbkeras import __main__ as main_module
from nbkeras import commands, layers, models, version
from nbkeras.__main__ import main
from nbkeras.commands import benchmark, diagnosis
from nbkeras.engine import program, registry
from nbkeras.kernels.runtime import machine


def run(arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONSAFEPATH": "1", "TERM": "dumb"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_main_job(tmp_path):
    """The README's first command: summary, progress, and a test accuracy of 97.5% or more."""
    job = run(["-m", "nbkeras", "digits"], tmp_path)
    assert job.returncode == 0, job.stderr
    lines = job.stdout.splitlines()
    assert lines[0] == "1501 train samples, 296 test samples"
    assert any("Total params: 301,066" in line for line in lines)
    assert "Epoch 20/20" in lines and sum(line.startswith("12/12 ━") for line in lines) == 20
    assert float(re.search(r"^Test accuracy: ([\d.]+)$", job.stdout, re.MULTILINE)[1]) >= 0.975


def test_the_main_job_repeats_its_numbers(tmp_path):
    results = [re.findall("Test .*", run(["-m", "nbkeras", "digits", "--epochs=2"], tmp_path).stdout) for _ in range(2)]
    assert len(results[0]) == 2 and results[0] == results[1]


def test_warmup_fills_the_cache(tmp_path):
    for float64 in ([], ["--float64"]):
        warm = run(["-m", "nbkeras", "warmup", "dense", *float64], tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert warm.returncode == 0, warm.stderr
        said = (
            rf"(Compiling kernels \(once on this machine\) \.\.\.\n)?dense \(float{64 if float64 else 32}\): [\d.]+ s\n"
        )
        assert re.fullmatch(said, warm.stdout)
    assert len(list((tmp_path / "cache" / "nbkeras").glob("*.nbc"))) > 5


def test_warmup_compiles_what_threads_run(tmp_path):
    """A small model has no work for several threads, but a process that sets their number needs their code."""
    code = "from nbkeras.commands import warmup; warmup.run({'nothing': dict})"
    done = run(["-c", code], tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache" / "nbkeras").glob("runtime.pool._serve-*.nbc"))) == 1


def test_warmup_for_a_level_that_the_processor_lacks(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: pytest.fail("a process was started"))
    for levels, told in (([], "with no level:"), (["x86-64-v3"], "with x86-64-v3:")):
        monkeypatch.setattr(program, "processor_levels", lambda levels=levels: levels)
        with pytest.raises(SystemExit, match="^2$"):
            main(["warmup", "dense", "--cpu", "x86-64-v4"])
        said = capsys.readouterr().err
        assert (
            said.startswith("nbkeras warmup: error: --cpu x86-64-v4 must be a level of this processor") and told in said
        )


def test_convert_goes_between_formats(tmp_path):
    pytest.importorskip("h5py")
    models.Sequential([layers.Input((2,)), layers.Dense(1)]).save(tmp_path / "a.h5")
    (tmp_path / "convert").mkdir()
    (tmp_path / "digits").write_text("no script")  # a command comes before a file of its name
    for target in ("b.keras", "b.weights.h5", "b.safetensors", "b.onnx"):
        main(["convert", str(tmp_path / "a.h5"), str(tmp_path / target)])
        assert (tmp_path / target).stat().st_size > 100
    main(["convert", str(tmp_path / "b.safetensors"), str(tmp_path / "c.h5"), "--model", str(tmp_path / "a.h5")])
    again, first = (models.load_model(tmp_path / name) for name in ("c.h5", "a.h5"))
    assert (again.get_weights()[0] == first.get_weights()[0]).all()
    wrong = run(["-m", "nbkeras", "convert", "a.h5", "b.pb"], tmp_path)
    assert wrong.returncode == 2 and "no format belongs to the name 'b.pb'" in wrong.stderr
    assert "train samples" not in run(["-m", "nbkeras", "digits", "--help"], tmp_path).stderr


def test_wrong_commands(tmp_path):
    wrong = run(["-m", "nbkeras", "warmup", "dens"], tmp_path)
    assert (
        wrong.returncode == 2
        and "'dens' is neither a model file nor a family: choose from dense, recurrent" in wrong.stderr
    )
    unknown = run(["-m", "nbkeras", "digit"], tmp_path)
    assert unknown.returncode == 2 and "digits, summary, convert" in unknown.stderr.replace("'", "")


def test_help_and_version(capsys):
    for arguments in ([], ["--help"]):
        with contextlib.suppress(SystemExit):
            main(arguments)
        said = capsys.readouterr().out
        assert said.startswith("usage: nbkeras") and all(
            f"\n    {name} " in said
            for name in ("run", "digits", "summary", "convert", "compile", "profile", "bench", "warmup", "doctor")
        )
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"nbkeras {version()}\n"


@pytest.fixture
def model_file(tmp_path):
    pytest.importorskip("h5py")
    inner = models.Sequential([layers.Input((None, 3)), layers.Dense(2, name="deep")], name="inner")
    model = models.Sequential([layers.Input((None, 3)), inner, layers.GlobalMaxPooling1D(), layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(tmp_path / "m.keras")
    return str(tmp_path / "m.keras")


def test_summary_of_a_file(model_file, capsys):
    assert main(["summary", model_file]) == 0
    said = capsys.readouterr().out
    assert "Total params: 17" in said and "deep" not in said
    main(["summary", model_file, "--nested", "--trainable"])
    said = capsys.readouterr().out
    assert "deep" in said and "Trainable" in said


def test_profile_of_a_file(model_file, tmp_path, capsys):
    svg, trace, memory = (str(tmp_path / name) for name in ("p.svg", "p.json", "m.svg"))
    assert main(["profile", model_file, "--batch-size=4", "--steps=1", "--save", svg, "--memory", memory]) == 0
    said = capsys.readouterr().out
    assert "one training step of 4 rows" in said and "inner/deep" in said and "backward" in said
    assert all("<svg" in (tmp_path / name).read_text() for name in ("p.svg", "m.svg"))
    assert main(["profile", model_file, "--predict", "--steps=1", "--save", trace]) == 0
    said = capsys.readouterr().out
    assert "one prediction of 32 rows" in said and "backward" not in said
    assert "traceEvents" in (tmp_path / "p.json").read_text()


def test_bench(capsys):
    assert main(["bench", "dense", "--batch-size", "4"]) == 0
    said = capsys.readouterr().out.splitlines()
    header, row = said[0], said[-1]  # between them perhaps a note about compilations
    assert header.split()[0] == "model" and re.fullmatch(r"dense +669,706 +[\d.]+ +[\d.]+", row)


def test_doctor(tmp_path, capsys, monkeypatch):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in (
        "nbkeras",
        "Python",
        "numba",
        "numpy",
        "llvmlite",
        "processor",
        "vectors",
        "processors",
        "kernel cache",
        "GPU",
    ):
        assert re.search(rf"^{name} +\S", said, re.MULTILINE), name
    assert "compile and run" in said and said.endswith("No problems were found.\n")
    monkeypatch.setattr(machine, "why_not_cached", lambda: "Read-only file system")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "not writable: Read-only file system" in said and "Problem: compiled kernels cannot be kept" in said


def test_doctor_of_a_wheel(capsys, monkeypatch):
    monkeypatch.setattr(machine, "packed_kernels", lambda: ("x86-64-v3", 400))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^package +400 compiled kernels for x86-64-v3$", said, re.MULTILINE)
    assert re.search(r"^kernels +run$", said, re.MULTILINE)  # they need no compiler


def test_doctor_says_what_needs_numba(capsys, monkeypatch):
    monkeypatch.setattr(machine, "versions", lambda: {"numba": "not installed", "llvmlite": "not installed"})
    monkeypatch.setattr(machine, "packed_kernels", lambda: ("x86-64-v4", 417))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "not installed: kernels of your own need it, pip install 'nbkeras[compiler]'\n" in said
    assert re.search("^package +417 compiled kernels for x86-64-v4$", said, re.MULTILINE)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(machine, "cache_folder", lambda: str(tmp_path / "file" / "nbkeras"))
    assert machine.why_not_cached()
    monkeypatch.setattr(machine, "cache_folder", lambda: str(tmp_path / "fresh"))
    assert machine.why_not_cached() == "" and list((tmp_path / "fresh").iterdir()) == []


def test_run_is_the_long_form(tmp_path):
    (tmp_path / "job.py").write_text("import sys, keras; print(keras.__name__, sys.argv[1:])")
    long, short = (run(["-m", "nbkeras", *words, "job.py", "--epochs", "3"], tmp_path) for words in (["run"], []))
    assert long.returncode == short.returncode == 0 and long.stdout == short.stdout
    assert "['--epochs', '3']" in long.stdout
    absent = run(["-m", "nbkeras", "run", "absent.py"], tmp_path)
    assert absent.returncode == 1 and absent.stderr == "nbkeras: there is no file 'absent.py'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["summary", "absent.keras"],
        ["profile", "absent.keras"],
        ["convert", "absent.keras", "b.h5"],
        ["bench", "huge"],
        ["bench", "--batch-size", "0"],
        ["run"],
        ["digits", "--epochs", "0"],
    ],
)
def test_errors_have_no_traceback(arguments, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        main(arguments)
    said = capsys.readouterr().err
    assert f"nbkeras {arguments[0]}: error: " in said and "Traceback" not in said


def test_a_file_that_is_no_model(tmp_path, capsys):
    (tmp_path / "m.keras").write_text("no model")
    with pytest.raises(SystemExit, match="^2$"):
        main(["summary", str(tmp_path / "m.keras")])
    assert "m.keras" in capsys.readouterr().err


def test_ctrl_c_has_no_traceback(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_run", interrupted)
    assert main(["doctor"]) == 1 and capsys.readouterr().err == "\nnbkeras: interrupted\n"


def test_doctor_finds_old_versions_and_wrong_results(monkeypatch):
    monkeypatch.setattr(diagnosis, "_MINIMUM", {"numpy": (99, 1)})
    monkeypatch.setattr(diagnosis.ops, "matmul", lambda a, b: a @ b + 1)
    problems = []
    diagnosis._versions("0", problems)
    diagnosis._kernels(problems)
    old, wrong = problems
    assert "is too old: 99.1 or newer is needed. pip install 'numpy>=99.1'" in old
    assert wrong.startswith("a kernel computes wrong results: [[9.0, 9.0]")


class WithoutInputs(models.Model):
    def call(self, x):
        return x


def test_a_model_without_inputs_has_no_made_up_data(tmp_path):
    WithoutInputs().save(tmp_path / "m.keras")
    with registry.custom_object_scope({"WithoutInputs": WithoutInputs}):
        for command, instead in (
            (commands.profile_file, "nbkeras.profile"),
            (commands.warm_file, "it once, in a process"),
        ):
            with pytest.raises(ValueError, match=f"has no defined inputs, so no data can be made up: use {instead}"):
                command(str(tmp_path / "m.keras"))


def test_kernels_of_a_file_with_an_output_without_a_loss(tmp_path):
    x = layers.Input((3,))
    model = models.Model(x, [layers.Dense(2, name="a")(x), layers.Dense(2, name="b")(x)])
    model.compile("sgd", {"a": "mse"})
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="gradients do not exist for variables .*'b/kernel'"):
        commands.warm_file(str(tmp_path / "m.keras"), batch_size=2)


@pytest.mark.parametrize("name", benchmark.MODELS)
def test_models_of_the_benchmark(name):
    assert benchmark.MODELS[name]().output_shape == (None, 10)
