"""The command line: the main job and the warm-up, each in a process of its own."""

import contextlib
import os
import re
import subprocess
import sys

import pytest

from nbkeras import layers, models, version
from nbkeras.__main__ import main
from nbkeras.engine import program
from nbkeras.training import warmup


def run(arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONSAFEPATH": "1", "TERM": "dumb"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_the_main_job(tmp_path):
    """The README's first command: summary, progress, and a test accuracy of 97.5% or more."""
    job = run(["-m", "nbkeras", "digits"], tmp_path)
    assert job.returncode == 0, job.stderr
    lines = job.stdout.splitlines()
    assert lines[0] == "1501 train samples, 296 test samples"
    assert any("Total params: 301,066" in line for line in lines)
    assert "Epoch 20/20" in lines and sum(line.startswith("12/12 ━") for line in lines) == 20
    assert float(re.search(r"^Test accuracy: ([\d.]+)$", job.stdout, re.MULTILINE)[1]) >= 0.975


@pytest.mark.slow
def test_the_main_job_repeats_its_numbers(tmp_path):
    results = [re.findall("Test .*", run(["-m", "nbkeras", "digits", "--epochs=2"], tmp_path).stdout) for _ in range(2)]
    assert len(results[0]) == 2 and results[0] == results[1]


@pytest.mark.slow
def test_warmup_fills_the_cache(tmp_path):
    for float64 in ([], ["--float64"]):
        warm = run(["-m", "nbkeras", "warmup", "dense", *float64], tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert warm.returncode == 0, warm.stderr
        said = (
            rf"(Compiling kernels \(once on this machine\) \.\.\.\n)?dense \(float{64 if float64 else 32}\): [\d.]+ s\n"
        )
        assert re.fullmatch(said, warm.stdout)
    assert len(list((tmp_path / "cache" / "nbkeras").glob("*.nbc"))) > 5


def test_warmup_in_the_package(monkeypatch):
    calls = []
    monkeypatch.setattr(program, "keep_kernels_in_package", lambda: calls.append("in package"))
    monkeypatch.setitem(warmup.FAMILIES, "dense", lambda: calls.append("dense"))
    main(["warmup", "dense"])
    main(["warmup", "dense", "--in-package"])
    assert calls == ["dense", "in package", "dense"]


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
    assert wrong.returncode == 2 and "cannot tell a format from 'b.pb'" in wrong.stderr
    assert "train samples" not in run(["-m", "nbkeras", "digits", "--help"], tmp_path).stderr


def test_wrong_commands(tmp_path):
    wrong = run(["-m", "nbkeras", "warmup", "dens"], tmp_path)
    assert wrong.returncode == 2 and "unknown family 'dens': choose from dense, recurrent" in wrong.stderr
    unknown = run(["-m", "nbkeras", "digit"], tmp_path)
    assert unknown.returncode == 2 and "'digits', 'warmup', 'convert'" in unknown.stderr


def test_help_and_version(capsys):
    for arguments in ([], ["--help"]):
        with contextlib.suppress(SystemExit):
            main(arguments)
        said = capsys.readouterr().out
        assert said.startswith("usage: nbkeras") and all(
            f"{name}  " in said for name in ("digits", "warmup", "convert")
        )
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"nbkeras {version()}\n"
