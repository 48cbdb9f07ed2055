"""A model as a graph for Graphviz, whose own picture needs Graphviz: a stand-in takes its place."""

import sys
import types

import pytest

from nbkeras import layers, models, utils
from nbkeras.visualization import diagrams

pydot = pytest.importorskip("pydot")


def branched():
    inputs = layers.Input((4,), name="in")
    inner = models.Sequential([layers.Dense(3, activation="relu", input_shape=(4,)), layers.Dense(2)], name="inner")
    other = layers.Dense(2, trainable=False)(inputs)
    return models.Model(inputs, layers.add([inner(inputs), other, inner(inputs)]))


def labels_of(graph):
    """The lines of each box by its name."""
    return {node.get_name(): node.get_label().strip('"').split("\\n") for node in graph.get_nodes()}


def arrows_of(dot):
    return [(edge.get_source(), edge.get_destination()) for edge in dot.get_edges()]


@pytest.fixture
def graphviz(monkeypatch):
    """A stand-in for Graphviz that lists the pictures asked for."""
    asked = []

    def create(dot, prog=None, format="ps", encoding=None):
        asked.append(format)
        return dot.to_string().encode(encoding)

    monkeypatch.setattr(diagrams.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(pydot.Dot, "create", create)
    return asked


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setattr(diagrams.shutil, "which", lambda name: None)


@pytest.mark.parametrize(
    "options, lines",
    [
        ({}, ["Dense"]),
        ({"show_layer_names": True}, ["shown: Dense"]),
        ({"show_shapes": True}, ["Dense", "input: (None, 4)", "output: (None, 2)"]),
        ({"show_dtype": True}, ["Dense", "float32"]),
        ({"show_layer_activations": True}, ["Dense", "activation: tanh"]),
        ({"show_trainable": True}, ["Dense", "frozen"]),
    ],
)
def test_boxes_show_what_is_asked_for(options, lines):
    layer = layers.Dense(2, "tanh", name="shown", trainable=False)
    dot = utils.model_to_dot(models.Sequential([layers.Input((4,)), layer]), **{"show_layer_names": False, **options})
    boxes = labels_of(dot)
    ((source, target),) = arrows_of(dot)
    assert boxes[target] == lines and boxes[source][0].endswith("InputLayer")


@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
def test_options_of_graphviz(rankdir):
    dot = utils.model_to_dot(branched(), rankdir=rankdir, dpi=96, splines="curved")
    assert (dot.get_rankdir(), dot.get_dpi(), dot.get_splines()) == (rankdir, "96", "curved")


def test_a_nested_model_is_one_box_for_each_call():
    dot = utils.model_to_dot(branched())
    boxes, arrows = labels_of(dot), arrows_of(dot)
    assert [lines[0] for lines in boxes.values()][1:] == [
        "inner: Sequential",
        next(lines[0] for lines in boxes.values() if "Dense" in lines[0]),
        "inner: Sequential (call 2)",
        next(lines[0] for lines in boxes.values() if "Add" in lines[0]),
    ]
    first, *between, last = boxes
    assert sorted(arrows) == sorted([*((first, name) for name in between), *((name, last) for name in between)])


def test_frames_of_models_within():
    dot = utils.model_to_dot(branched(), expand_nested=True)
    frames = dot.get_subgraphs()
    assert [frame.get_label() for frame in frames] == ['"inner: Sequential"', '"inner: Sequential (call 2)"']
    assert [len(frame.get_nodes()) for frame in frames] == [2, 2]
    names = {name: lines[0] for each in (dot, *frames) for name, lines in labels_of(each).items()}
    arrows = arrows_of(dot)
    into_add = {source for source, target in arrows if "Add" in names[target]}
    assert len(arrows) == len(set(arrows)) == 8 and len(into_add) == 3
    for frame in frames:
        first, last = (node.get_name() for node in frame.get_nodes())
        assert (first, last) in arrows and last in into_add


def test_arrows_enter_and_leave_frames_at_their_own_layers():
    """Of a model with two inputs and two outputs, in a model in a model."""
    inputs = [layers.Input((1,), name=name) for name in "ab"]
    pair = models.Model(inputs, [layers.Dense(1, name="of_a")(inputs[0]), layers.Dense(1, name="of_b")(inputs[1])])
    given = [layers.Input((1,), name=name) for name in "cd"]
    around = models.Model(given, pair(given[::-1]), name="around")
    found = [layers.Input((1,), name=name) for name in "ef"]
    first, second = around(found)
    model = models.Model(found, [layers.ReLU(name="x")(first), layers.ReLU(name="y")(second)])
    dot = utils.model_to_dot(model, expand_nested=True)
    (frame,) = dot.get_subgraphs()
    (inner,) = frame.get_subgraphs()
    names = {name: lines[0].split(":")[0] for each in (dot, inner) for name, lines in labels_of(each).items()}
    assert {(names[source], names[target]) for source, target in arrows_of(dot)} == {
        ("f", "of_a"),
        ("e", "of_b"),
        ("of_a", "x"),
        ("of_b", "y"),
    }


def test_a_layer_that_is_called_again_says_so():
    inputs = layers.Input((4,))
    shared = layers.Dense(4, name="shared")
    boxes = list(labels_of(utils.model_to_dot(models.Model(inputs, shared(shared(inputs))))).values())
    assert boxes[1:] == [["shared: Dense"], ["shared: Dense (call 2)"]]


@pytest.mark.parametrize("name, format", [("a.png", "png"), ("a.svg", "svg"), ("a", "png")])
def test_graphviz_draws_the_picture(tmp_path, graphviz, name, format):
    assert utils.plot_model(branched(), tmp_path / name, show_shapes=True) is None
    assert graphviz == [format] and "(None, 4)" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a.dot", "a.gv"])
def test_the_description_of_the_graph_needs_no_graphviz(tmp_path, no_graphviz, name):
    utils.plot_model(branched(), tmp_path / name, rankdir="LR")
    assert "rankdir=LR" in (tmp_path / name).read_text(encoding="utf-8")


def test_without_graphviz_its_input_is_written(tmp_path, no_graphviz):
    with pytest.warns(UserWarning, match=r"Graphviz is not installed, so .* cannot draw '.*a.png': .* to '.*a.dot'"):
        utils.plot_model(branched(), tmp_path / "a.png", expand_nested=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dot"]
    assert "subgraph" in (tmp_path / "a.dot").read_text(encoding="utf-8")


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"needs a model made of symbolic tensors.* has no graph"):
        utils.plot_model(models.Sequential([layers.Dense(2)]), tmp_path / "model.png")
    with pytest.raises(ValueError, match="rankdir must be one of 'TB'"):
        utils.plot_model(branched(), tmp_path / "model.png", rankdir="down")
    monkeypatch.setitem(sys.modules, "pydot", None)
    for function in (utils.plot_model, utils.model_to_dot):
        with pytest.raises(ImportError, match=r"need pydot: pip install 'nbkeras\[dot\]'"):
            function(branched())
    assert not list(tmp_path.iterdir())


def test_notebooks_show_the_picture(tmp_path, monkeypatch, graphviz):
    shell = types.SimpleNamespace(display=types.SimpleNamespace(Image=lambda filename: ("picture of", filename)))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for running, returned in ((object(), ("picture of", str(tmp_path / "a.png"))), (None, None)):
        shell.get_ipython = lambda running=running: running
        assert utils.plot_model(branched(), tmp_path / "a.png") == returned
