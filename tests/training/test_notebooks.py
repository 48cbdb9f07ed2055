"""How notebooks show models and histories, and `history.plot()`."""

import builtins
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers
from nbkeras.callbacks import History


def a_history(**metrics):
    history = History()
    history.history, history.epoch = metrics, list(range(len(next(iter(metrics.values()), []))))
    return history


def test_a_model_is_a_table():
    inputs = keras.Input((4,), name="in")
    hidden = layers.Dense(3, name="<b>bold</b>")(inputs)
    model = keras.Model(inputs, layers.Add(name="sum")([hidden, hidden]), name="a&b")
    html = model._repr_html_()
    ElementTree.fromstring(f"<div>{html}</div>")  # noqa: S314 - a text of our own
    assert "&lt;b&gt;bold&lt;/b&gt;" in html and "<b>" not in html and "a&amp;b" in html
    assert "Total params: 15" in html and "Connected to" in html


def test_models_without_weights_or_shapes_are_tables_too():
    class Own(keras.Model):
        def call(self, x):
            return x

    for model in (Own(), keras.Sequential(), keras.Sequential([layers.Dense(2)])):
        assert "Total params: 0" in model._repr_html_()


def test_a_history_is_a_table_with_curves():
    history = a_history(loss=[2.0, 1.0, 0.5], val_loss=[2.5, np.nan, 0.75], **{"<f1>": [np.ones(2)] * 3})
    html = history._repr_html_()
    ElementTree.fromstring(f"<div>{html}</div>")  # noqa: S314 - a text of our own
    assert html.count("<svg") == 1 and html.count("<polyline") == 2 and "&lt;f1&gt;" in html and "<f1>" not in html
    assert "3 epochs" in html and ">0.5<" in html
    assert "<svg" not in a_history()._repr_html_() and "<svg" not in a_history(loss=[np.inf])._repr_html_()


def test_plot(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    history = a_history(loss=[3.0, 2.0, 1.0, 0.5], val_loss=[2.5, 0.75], f1=[np.ones(2)] * 4)
    loss, f1 = history.plot()
    assert [line.get_label() for line in loss.lines] == ["loss", "val_loss"]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3, 4] and list(loss.lines[1].get_xdata()) == [2, 4]
    assert [line.get_label() for line in f1.lines] == ["f1[0]", "f1[1]"] and loss.get_title() == "loss"
    _, own = pyplot.subplots()
    assert history.plot("loss", axes=own) == [own] and len(own.lines) == 2
    with pytest.raises(ValueError, match=r"no metric 'los'\. Did you mean 'loss'"):
        history.plot(["los"])
    with pytest.raises(ValueError, match="received 1 axes"):
        history.plot(axes=own)
    with pytest.raises(ValueError, match="nothing to draw"):
        a_history().plot()
    pyplot.close("all")


def test_plot_without_matplotlib(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        a_history(loss=[1.0]).plot()
