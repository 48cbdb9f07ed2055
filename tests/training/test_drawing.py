"""A model as a picture, and as a graph for Graphviz."""

import math
import random
import sys
import types

import pytest

from nbkeras import layers, models, utils
from nbkeras.training import diagram_layout, drawing

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
def test_pictures_are_drawn_with_each_option(tmp_path, options):
    path = tmp_path / "model.png"
    utils.plot_model(branched(), path, **options)
    with Image.open(path) as image:
        assert (image.width > image.height) or options.get("rankdir") != "LR"
        assert len(image.getcolors(1 << 20)) > 3  # boxes, lines, text


def test_a_file_without_a_suffix_is_a_png(tmp_path):
    utils.plot_model(branched(), tmp_path / "model")
    with Image.open(tmp_path / "model") as image:
        assert image.format == "PNG"


def test_more_text_and_more_boxes_need_more_room(tmp_path):
    sizes = []
    for options in ({}, {"show_shapes": True}, {"expand_nested": True}):
        utils.plot_model(branched(), tmp_path / "model.png", **options)
        with Image.open(tmp_path / "model.png") as image:
            sizes.append(image.height)
    assert sizes[1] > sizes[0] and sizes[2] > sizes[0]


@pytest.mark.parametrize("end", [(0, 9), (9, 0), (6, 8), (-6, 8)])
def test_the_head_of_an_arrow_lies_along_it(end):
    """Its corners are 7 back from the end, and 4 to each side."""
    length = math.hypot(*end)
    x, y = end[0] / length, end[1] / length
    tip, *corners = drawing._head([(5.0, -5.0), (0.0, 0.0), end, end], 1.0)  # a route may end with a point twice
    assert tip == end
    for corner, side in zip(corners, (-4, 4), strict=True):
        back, across = corner[0] - end[0], corner[1] - end[1]
        assert (back * x + across * y, across * x - back * y) == pytest.approx((-7, side))


def test_a_tall_model_has_a_picture_that_viewers_show(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "_MAX_PIXELS", 600)
    model = models.Sequential([layers.Input((2,)), *(layers.Dense(2) for _ in range(12))])
    with pytest.warns(UserWarning, match=r"a picture of \d+ x \d+ pixels is too large.* with dpi=\d+.*write_svg"):
        utils.plot_model(model, tmp_path / "model.jpg")
    with Image.open(tmp_path / "model.jpg") as image:
        assert 540 < image.height <= 600


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="needs a model made of symbolic tensors.* has no graph"):
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
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[dot\]'"):
        utils.model_to_dot(branched())


def test_frames_of_models_within_for_graphviz():
    pytest.importorskip("pydot")
    dot = utils.model_to_dot(branched(), expand_nested=True)
    frames = dot.get_subgraphs()
    assert [frame.get_label() for frame in frames] == ['"inner: Sequential"', '"inner: Sequential (call 2)"']
    assert [len(frame.get_nodes()) for frame in frames] == [2, 2]
    names = {node.get_label(): node.get_name() for each in (dot, *frames) for node in each.get_nodes()}
    edges = {(edge.get_source(), edge.get_destination()) for edge in dot.get_edges()}
    into_add = {source for source, target in edges if target == names[next(name for name in names if "Add" in name)]}
    assert len(edges) == 8 and len(into_add) == 3


def test_a_model_within_has_a_frame(tmp_path):
    colors = {}
    for nested in (False, True):
        utils.plot_model(branched(), tmp_path / "model.png", expand_nested=nested)
        with Image.open(tmp_path / "model.png") as image:
            colors[nested] = {color for _, color in image.getcolors(1 << 20)}
    frame = tuple(bytes.fromhex(drawing._FRAME[1:]))
    assert frame in colors[True] and frame not in colors[False]


def test_a_layer_that_is_called_again_says_so():
    inputs = layers.Input((4,))
    shared = layers.Dense(4, name="shared")
    boxes = drawing._level_of(models.Model(inputs, shared(shared(inputs))), "TB", drawing._Content(*[True] * 6)).boxes
    assert [box.lines[0] for box in boxes[1:]] == ["shared: Dense", "shared: Dense (call 2)"]


def test_notebooks_show_the_picture(tmp_path, monkeypatch):
    shell = types.SimpleNamespace(display=types.SimpleNamespace(Image=lambda filename: ("picture of", filename)))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for running, returned in ((object(), ("picture of", str(tmp_path / "a.png"))), (None, None)):
        shell.get_ipython = lambda running=running: running
        assert utils.plot_model(branched(), tmp_path / "a.png") == returned


def crosses(a, b, box):
    """Whether the line from a to b runs through the inside of a box."""
    start, end = 0.0, 1.0
    for axis in (0, 1):
        low, high, step = box[axis] + 1e-6, box[axis + 2] - 1e-6, b[axis] - a[axis]
        if step == 0 and not low < a[axis] < high:
            return False
        if step:
            first, last = sorted(((low - a[axis]) / step, (high - a[axis]) / step))
            start, end = max(start, first), min(end, last)
    return start < end


@pytest.mark.parametrize("seed", range(6))
def test_no_arrow_runs_through_a_box(seed):
    chance = random.Random(seed)
    sizes = [(chance.uniform(20, 200), chance.uniform(10, 80)) for _ in range(24)]
    pairs = [(i, j) for j in range(1, 24) for i in range(j) if chance.random() < 2.2 / (1 + (j - i) ** 0.8) / 3]
    found = diagram_layout.arrange(sizes, [diagram_layout.Arrow(*pair) for pair in pairs], 20.0, first={0}, last={23})
    boxes = [(*corner, corner[0] + w, corner[1] + h) for corner, (w, h) in zip(found.corners, sizes, strict=True)]
    for number, box in enumerate(boxes):
        assert min(box) >= -1e-6 and box[2] <= found.size[0] + 1e-6 and box[3] <= found.size[1] + 1e-6
        for other in boxes[:number]:
            apart = other[2] < box[0] or box[2] < other[0] or other[3] < box[1] or box[3] < other[1]
            assert apart
    for (source, target), route in zip(pairs, found.routes, strict=True):
        assert (
            route[0][1] == boxes[source][3]
            and route[-1][1] == boxes[target][1]
            and route == sorted(route, key=lambda point: point[1])
        )
        assert not any(crosses(a, b, box) for a, b in zip(route, route[1:], strict=False) for box in boxes)


def test_a_chain_is_straight_beside_the_arrow_that_skips_it():
    arrows = [diagram_layout.Arrow(i, i + 1) for i in range(5)] + [diagram_layout.Arrow(0, 5)]
    found = diagram_layout.arrange([(40 + 20 * (i % 2), 10) for i in range(6)], arrows, 10.0)
    middles = [corner[0] + 20 + 10 * (i % 2) for i, corner in enumerate(found.corners)]
    assert max(middles) - min(middles) < 2
