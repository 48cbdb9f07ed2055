"""The scripts in examples/document/ run, and learn; each example of the gallery is in a table of tests/gallery/."""

import runpy
import sys
from pathlib import Path

import pytest
from gallery import GROUPS
from running import falls, write_mnist

from nbkeras.utils import set_random_seed

FOLDER = Path(__file__).parents[1] / "examples" / "document"


def run(name, epochs, monkeypatch):
    set_random_seed(0)
    monkeypatch.setattr(sys, "argv", [name, str(epochs)])
    return runpy.run_path(str(FOLDER / name), run_name="__main__")


@pytest.mark.big
def test_mnist_mlp(tmp_path, monkeypatch, capsys):
    write_mnist(tmp_path, monkeypatch)
    found = run("mnist_mlp.py", 2, monkeypatch)
    assert falls(found["history"].history["loss"])
    out = capsys.readouterr().out
    assert "400 train samples" in out
    assert f"Test accuracy: {found['score'][1]}" in out


@pytest.mark.big
def test_stacked_lstm(monkeypatch):
    assert falls(run("stacked_lstm.py", 3, monkeypatch)["history"].history["loss"])


@pytest.mark.big
def test_stateful_lstm(monkeypatch, capsys):
    assert falls(run("stateful_lstm.py", 4, monkeypatch)["history"])
    assert "epoch 4: loss" in capsys.readouterr().out


@pytest.mark.big
def test_headline(monkeypatch, capsys):
    assert falls(run("headline.py", 5, monkeypatch)["history"].history["loss"])
    assert "predictions:" in capsys.readouterr().out


@pytest.mark.big
def test_tweets(monkeypatch):
    assert falls(run("tweets.py", 2, monkeypatch)["history"].history["loss"])


def test_every_example_is_tested():
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in FOLDER.glob("*.py")} <= tested
    tables = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("gallery/test_*.py")]
    gallery = {path.name for path in FOLDER.parent.glob("*.py")}
    assert not [name for name in gallery if not any(f'"{name}": (' in table for table in tables)]


def test_every_example_is_in_a_group():
    grouped = [name for group in GROUPS for name in group.names.split()]
    assert sorted(grouped) == sorted(path.stem for path in FOLDER.parent.glob("*.py"))
