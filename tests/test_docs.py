"""Every python block of README.md and docs/*.md runs as shown; docs/_extensions/blocks.py says which are run, and how."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import blocks
import numpy as np
import pytest
import ranking
import weight

from nbkeras import ops
from nbkeras.engine.tensor import op
from nbkeras.layers import Input
from nbkeras.models import Model, load_model
from nbkeras.utils import get_custom_objects, register_keras_serializable

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def written_files(document, folder):
    """Write the blocks that are files; the other blocks."""
    found = list(blocks.python_blocks(document.read_text(encoding="utf-8"), document.name))
    for block in found:
        if block.file:
            (folder / block.file).write_text(block.code, encoding="utf-8")
    return [block for block in found if not block.file]


@pytest.mark.cpu("documents show the CPU")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    to_run = written_files(document, tmp_path)
    own = {path.stem for path in tmp_path.glob("*.py")}
    namespace = {"__name__": "document"}
    try:
        for block in to_run:
            blocks.run(block, document.name, namespace)
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
        for name in own:
            sys.modules.pop(name, None)


SCRIPT = re.compile(r"^```python no-run \(tests run it[^\n]*\n(# (\w+)\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.cpu("documents show the CPU")
@pytest.mark.parametrize(
    ("script", "package", "rows"),
    [
        ("score_all", "dask", "3666 rows"),
        ("score_on_cluster", "distributed", "3666 rows"),
        ("tune_together", "optuna", "8 trials"),
    ],
)
def test_scripts_with_several_processes_run(script, package, rows, tmp_path, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    document = ROOT / "docs" / "search-and-batches.md"
    to_run = written_files(document, tmp_path)
    blocks.run(next(block for block in to_run if "model.save" in block.code), document.name, {"__name__": "document"})
    code = {name: text for text, name in SCRIPT.findall(document.read_text(encoding="utf-8"))}[script]
    (tmp_path / f"{script}.py").write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONSAFEPATH": "", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, f"{script}.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert rows in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        made = target.startswith(("examples/", "reference/"))  # by the build of the site
        if "://" not in target and not target.startswith("#") and not made:
            assert (document.parent / target.partition("#")[0]).exists(), f"{document.name}: {target}"


CACHE_PROGRAM = """
import numpy as np
import snake
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import Variable

x = Variable(np.ones(3, "float32"))
with GradientTape() as tape:
    y = snake.snake(x)
tape.gradient(y, x)
for kernel in (snake.forward, snake.backward):
    print(kernel.found, kernel.compiled)
"""


@pytest.mark.cpu("the example is a kernel of the CPU")
def test_kernels_of_a_users_file_are_cached_on_disk(tmp_path):
    written_files(ROOT / "docs" / "custom-ops.md", tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment["PYTHONSAFEPATH"] = ""  # else no program could import the files beside it

    def counts():
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", CACHE_PROGRAM],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.split()

    assert counts() == ["0", "1", "0", "1"]
    assert counts() == ["1", "0", "1", "0"]
    path = tmp_path / "snake.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert counts() == ["0", "1", "0", "1"]


def test_an_op_of_ones_own_in_a_model_file(tmp_path):
    @op
    def halved(x):
        return ops.multiply(x, 0.5)

    @op
    def relu(x):
        return ops.multiply(x, 0.5)

    inputs = Input((3,))
    Model(inputs, halved(inputs)).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="'halved' is not an op of nbkeras.ops.*custom_objects"):
        load_model(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras", custom_objects={"halved": halved})
    assert again.predict(np.ones((1, 3)), verbose=0).tolist() == [[0.5, 0.5, 0.5]]
    model = Model(inputs, ops.relu(relu(inputs)))

    def check(custom_objects):
        model.save(tmp_path / "m.keras")
        again = load_model(tmp_path / "m.keras", custom_objects=custom_objects)
        assert again.predict(np.array([[1.0, -1, 2]]), verbose=0).tolist() == [[0.5, 0, 1]], "each op is its own"

    check({"relu": relu})
    before = dict(get_custom_objects())
    try:
        register_keras_serializable("mine")(relu)
        check(None)
    finally:
        get_custom_objects().clear()
        get_custom_objects().update(before)


def test_a_page_of_the_site_that_is_too_heavy_is_found(tmp_path):
    """The build of the site fails on these lines."""
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text("c" * 200_000, encoding="utf-8")
    (tmp_path / "_static" / "a.js").write_text("s" * 99_000, encoding="utf-8")
    (tmp_path / "reference").mkdir()
    head = '<link rel="stylesheet" href="../_static/a.css?v=1" />\n<link rel="next" href="none.html" />\n'
    script = '<script src="../_static/a.js"></script>'
    pages = {
        "reference/light": head + script,
        "reference/styles": head + "t" * 99_000,
        "reference/heavy": head + script + "t" * 2000,
        "reference/elsewhere": head + '<script async src="https://example.org/a.js"></script>',
        "search": "t" * 400_000,
    }
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    assert weight.faults(tmp_path) == [
        "reference/elsewhere.html loads https://example.org/a.js",
        "reference/heavy.html weighs 301 KB, more than 300: split it",
    ]


def test_tags_that_do_next_to_nothing_are_left_out_of_pages():
    name = '<span class="n"><span class="pre">units</span></span>'
    assert weight.lighter(name) == "units"
    code = '<span class="n">x</span><span class="o">=</span><span class="kc">None</span> <span class="nf">f</span>'
    assert weight.lighter(code) == 'x=<span class="kc">None</span> <span class="nf">f</span>'
    for breakable in ("--no-warmup", "~/.cache/nbkeras"):
        option = f'<code><span class="pre">{breakable}</span></code>'
        assert weight.lighter(option) == option, "a browser would break the line within it"


# Two guides and a page of the reference, as Sphinx writes them into searchindex.js.
SEARCHED = {
    "docnames": ["callbacks", "reference/callbacks", "saving"],
    "titles": ["Callbacks", "nbkeras.callbacks", "Save and load models"],
    "alltitles": {
        "Callbacks": [[0, None]],
        "Early stopping": [[0, "early-stopping"]],
        "nbkeras.callbacks": [[1, None]],
        "Save and load models": [[2, None]],
        "Save models": [[2, "save-models"]],
    },
    "indexentries": {"checkpoint": [[2, "", True]], "checkpoints": [[1, "names", False]]},
    "objects": {
        "": [[1, 2, 0, "-", "callbacks"]],
        "nbkeras.callbacks": [[1, 0, 1, "", "EarlyStopping"], [1, 0, 1, "", "ModelCheckpoint"]],
        "nbkeras.Model": [[2, 1, 1, "", "save"], [2, 1, 2, "", "save_weights"]],
    },
    "objnames": {
        "0": ["py", "class", "Python class"],
        "1": ["py", "method", "Python method"],
        "2": ["py", "module", "Python module"],
    },
    "terms": {"earli": 0, "stop": [0, 1], "save": [0, 2], "model": [1, 2], "weight": [0, 1, 2], "checkpoint": [0, 2]},
    "titleterms": {"earli": 0, "stop": 0, "callback": [0, 1], "save": 2, "load": 2, "model": 2},
    "filenames": ["callbacks.md", "reference/callbacks.rst", "saving.md"],
}
STEMS = {
    "early": "earli",
    "stopping": "stop",
    "models": "model",
    "callbacks": "callback",
    "weights": "weight",
    "saves": "save",
}
QUERIES = [
    "early stopping",
    "Save models",
    "save model",
    "checkpoint",
    "checkpoints",
    "callbacks",
    "weights",
    "wei",
    "earlystopping",
    "load the weights",
    "model 2",
    "nothing",
    "",
]


EARLY_STOPPING = "nbkeras.callbacks.EarlyStopping"


def found(query):
    return [list(result) for result in ranking.results(SEARCHED, query, lambda word: STEMS.get(word, word), {"the"})]


def test_the_search_is_ranked_by_titles_names_and_words():
    assert found("early stopping") == [
        ["callbacks", "Callbacks", "", None, 15],
        ["callbacks", "Callbacks > Early stopping", "#early-stopping", None, 15],
        ["reference/callbacks", EARLY_STOPPING, f"#{EARLY_STOPPING}", "Python class, in nbkeras.callbacks", 11],
    ]
    assert [line[::4] for line in found("checkpoint")] == [
        ["saving", 100],
        ["reference/callbacks", 11],
        ["callbacks", 5],
        ["reference/callbacks", 91],
    ], "entries of the index come first if they are main ones, else last"
    assert found("nothing") == []


def test_a_search_that_does_not_find_its_page_first_is_found():
    """The build of the site fails on these lines."""
    first = {"checkpoint": "saving", "early stopping": "saving", "weights": "saving"}
    assert ranking.faults(SEARCHED, first, lambda word: STEMS.get(word, word)) == [
        "search for 'early stopping': saving is not found, and the first result is callbacks",
        "search for 'weights': saving is result 3, and the first result is callbacks",
    ]


def test_the_words_of_a_page_find_it_first():
    first = {"weights": "saving#save-models", "stop": "callbacks", "early stopping": "callbacks#no-such-section"}
    index = ranking.named(SEARCHED, first)
    assert ranking.faults(index, first, lambda word: STEMS.get(word, word)) == [
        "search for 'early stopping': callbacks#no-such-section is not found, and the first result is callbacks"
    ]


# The parts of a browser that Sphinx's script needs to rank results.
BROWSER = """
globalThis.window = globalThis;
globalThis.document = {getElementById: () => null};
globalThis.SPHINX_HIGHLIGHT_ENABLED = false;
const _ready = () => {}, _ = (text) => text;
const stems = STEMS, stopwords = new Set(["the"]);
class Stemmer { stemWord(word) { return stems[word] ?? word; } }
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_search_ranks_as_the_script_of_sphinx_in_a_browser(tmp_path):
    sphinx = pytest.importorskip("sphinx")
    script = Path(sphinx.__file__).parent / "themes" / "basic" / "static" / "searchtools.js"
    ranked = "Search._performSearch(...Search._parseQuery(query)).reverse().map((line) => line.slice(0, 5))"
    text = (
        BROWSER.replace("STEMS", json.dumps(STEMS))
        + script.read_text(encoding="utf-8")
        + f"Search.setIndex({json.dumps(SEARCHED)});\n"
        + f"console.log(JSON.stringify({json.dumps(QUERIES)}.map((query) => {ranked})));\n"
    )
    (tmp_path / "search.js").write_text(text, encoding="utf-8")
    done = subprocess.run(["node", "search.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for query, lines in zip(QUERIES, json.loads(done.stdout), strict=True):
        assert found(query) == lines, query
