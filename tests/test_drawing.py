"""A model as a picture, and as a graph for Graphviz."""

import sys

import pytest

from nbkeras import layers, models, utils

Image = pytest.importorskip("PIL.Image")


def branched():
    inputs = layers.Input((4,), name="in")
    inner = models.Sequential([layers.Dense(3, activation="relu", input_shape=(4,)), layers.Dense(2)], name="inner")
    other = layers.Dense(2, trainable=False)(inputs)
    return models.Model(inputs, layers.add([inner(inputs), other, inner(inputs)]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"show_shapes": True, "show_dtype": True, "show_layer_activations": True, "show_trainable": True},
        {"rankdir": "LR", "expand_nested": True},
        {"show_layer_names": False, "dpi": 192},
    ],
)
def test_pictures(tmp_path, options):
    path = tmp_path / "model.png"
    utils.plot_model(branched(), path, **options)
    with Image.open(path) as image:
        assert (image.width > image.height) or options.get("rankdir") != "LR"
        assert len(image.getcolors(1 << 20)) > 3  # boxes, lines, text


def test_more_text_and_more_boxes_need_more_room(tmp_path):
    sizes = []
    for options in ({}, {"show_shapes": True}, {"expand_nested": True}):
        utils.plot_model(branched(), tmp_path / "model.png", **options)
        with Image.open(tmp_path / "model.png") as image:
            sizes.append(image.height)
    assert sizes[1] > sizes[0] and sizes[2] > sizes[0]


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="has no graph"):
        utils.plot_model(models.Sequential([layers.Dense(2)]), tmp_path / "model.png")
    with pytest.raises(ValueError, match="rankdir must be"):
        utils.plot_model(branched(), tmp_path / "model.png", rankdir="BT")
    with pytest.raises(ValueError, match=r"model_to_dot\(model\).write_svg"):
        utils.plot_model(branched(), tmp_path / "model.svg")


def test_a_graph_for_graphviz(monkeypatch):
    pytest.importorskip("pydot")
    dot = utils.model_to_dot(branched(), show_shapes=True, rankdir="LR")
    text = dot.to_string()
    assert "rankdir=LR" in text and "(None, " in text
    assert len(dot.get_nodes()) > 2 and len(dot.get_edges()) >= len(dot.get_nodes()) - 1
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="pip install"):
        utils.model_to_dot(branched())
