"""Write the pages of the reference: one for each topic, with a line for each name, and one for each class.

The pages hold no text of their own but the lines about topics: autodoc reads docstrings and signatures.
"""

import importlib
import inspect
import re
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the tests read the list of public names without Sphinx
    from sphinx.application import Sphinx


class Topic(NamedTuple):
    """A page of the reference: public modules, or a part of one."""

    title: str
    about: str
    modules: str
    parts: str = (
        ""  # files without their folder, and patterns of names; a topic without parts has what other topics leave
    )


# An object is described in the first topic that has it, and named in the others.
SECTIONS = {
    "Models and training": {
        "models": Topic("Models", "Networks of layers, with ``fit``, ``evaluate`` and ``predict``.", "nbkeras.models"),
        "callbacks": Topic("Callbacks", "Objects that ``fit`` calls: to stop, to store, to log.", "nbkeras.callbacks"),
        "optimizers": Topic("Optimizers", "Rules that change the weights by their gradients.", "nbkeras.optimizers"),
        "schedules": Topic("Schedules", "Learning rates that depend on the step.", "nbkeras.optimizers.schedules"),
        "losses": Topic("Losses", "What training makes small.", "nbkeras.losses"),
        "distillation": Topic("Distillation", "A small model learns from a large one.", "nbkeras.distillation"),
        "distribution": Topic("Distribution", "Training by several processes.", "nbkeras.distribution"),
        "wrappers": Topic("scikit-learn", "Models as estimators of scikit-learn.", "nbkeras.wrappers"),
    },
    "Layers": {
        "layers-core": Topic(
            "Core layers", "Inputs, dense layers, embeddings, and the base class ``Layer``.", "nbkeras.layers"
        ),
        "layers-activations": Topic(
            "Activation layers", "Activations that have options or weights.", "nbkeras.layers", "activation"
        ),
        "layers-convolution": Topic(
            "Convolution layers",
            "Convolutions: usual, transposed, depthwise, separable, with local weights.",
            "nbkeras.layers",
            "convolutional conv_transpose depthwise locally_connected",
        ),
        "layers-pooling": Topic(
            "Pooling layers", "Maxima and means of windows.", "nbkeras.layers", "pooling adaptive_pooling"
        ),
        "layers-shapes": Topic(
            "Layers that change shapes",
            "Reshaping, cropping, padding, upsampling.",
            "nbkeras.layers",
            "resizing Flatten Permute RepeatVector Reshape",
        ),
        "layers-recurrent": Topic(
            "Recurrent layers",
            "LSTM, GRU, cells, and wrappers for sequences.",
            "nbkeras.layers",
            "recurrent recurrent_cells conv_lstm rnn_wrappers",
        ),
        "layers-attention": Topic(
            "Attention layers",
            "Weighted means, with weights from the inputs.",
            "nbkeras.layers",
            "attention multi_head_attention",
        ),
        "layers-normalization": Topic(
            "Normalization layers",
            "By batch, layer, group, or weights.",
            "nbkeras.layers",
            "normalization SpectralNormalization",
        ),
        "layers-regularization": Topic(
            "Regularization layers", "Dropout, noise, penalties on outputs.", "nbkeras.layers", "regularization"
        ),
        "layers-merging": Topic("Merging layers", "Several inputs become one output.", "nbkeras.layers", "merging"),
        "layers-features": Topic(
            "Layers for columns and text",
            "Numbers, categories and texts become inputs of a network.",
            "nbkeras.layers",
            "categorical hashing lookup numerical string_lookup text_vectorization",
        ),
        "layers-audio": Topic("Audio layers", "Sounds become spectrograms.", "nbkeras.layers", "audio"),
        "layers-images": Topic(
            "Layers that change images",
            "Resizing, cropping, and random changes for training.",
            "nbkeras.layers",
            "choosing colors histograms images mixing moves sizes",
        ),
    },
    "Ops": {
        "ops-math": Topic(
            "Ops: arithmetic and comparisons", "Sums, products, powers, exponentials, conditions.", "nbkeras.ops"
        ),
        "ops-functions": Topic(
            "Ops: more functions",
            "Inverse and hyperbolic functions, roundings, bits, complex numbers.",
            "nbkeras.ops",
            "functions integers complex_numbers",
        ),
        "ops-activations": Topic("Ops: activations", "Functions after a layer.", "nbkeras.ops", "activations"),
        "ops-sums": Topic(
            "Ops: sums and statistics",
            "Sums, means, maxima, quantiles, histograms.",
            "nbkeras.ops",
            "reduce statistics",
        ),
        "ops-shapes": Topic("Ops: shapes", "The same numbers in another order.", "nbkeras.ops", "shape arrangement"),
        "ops-creation": Topic("Ops: new tensors", "Constants, ranges, windows.", "nbkeras.ops", "creation ranges"),
        "ops-indexing": Topic(
            "Ops: indexing and sorting",
            "Select, sort, count and scatter elements.",
            "nbkeras.ops",
            "indexing scattering",
        ),
        "ops-products": Topic(
            "Ops: products and matrices",
            "Matrix products, decompositions, distances.",
            "nbkeras.ops",
            "contractions linalg products",
        ),
        "ops-networks": Topic(
            "Ops: networks",
            "Convolution, pooling, attention, normalization, recurrence, losses.",
            "nbkeras.ops",
            "attention convolution ctc losses metrics normalization patches pool recurrent resize",
        ),
        "ops-signal": Topic("Ops: Fourier transforms", "Signals and their spectra.", "nbkeras.ops", "signal"),
        "ops-control": Topic(
            "Ops: loops and branches", "Functions that take functions.", "nbkeras.ops", "control transforms"
        ),
        "ops-image": Topic("Ops: images", "Resize, crop, transform, compare images.", "nbkeras.ops.image"),
    },
    "Parts of layers": {
        "activations": Topic("Activations", "Functions after a layer, and their names.", "nbkeras.activations"),
        "initializers": Topic("Initializers", "The first values of weights.", "nbkeras.initializers"),
        "regularizers": Topic("Regularizers", "Penalties on weights, added to the loss.", "nbkeras.regularizers"),
        "constraints": Topic("Constraints", "Limits of weights, kept after each step.", "nbkeras.constraints"),
        "quantizers": Topic("Quantizers", "Weights as small integers.", "nbkeras.quantizers"),
        "dtype_policies": Topic(
            "Dtype policies", "The dtypes of computations and of weights.", "nbkeras.dtype_policies"
        ),
    },
    "Metrics": {
        "metrics": Topic("Metrics: base classes", "Means, sums and metrics of your own.", "nbkeras.metrics"),
        "metrics-classes": Topic(
            "Metrics of classes",
            "Accuracy, precision, recall, areas under curves, F scores.",
            "nbkeras.metrics",
            "accuracy auc confusion fscore",
        ),
        "metrics-errors": Topic(
            "Metrics of numbers", "Errors, correlations, and losses as metrics.", "nbkeras.metrics", "errors regression"
        ),
        "metrics-iou": Topic(
            "Metrics of masks", "Intersection over union, for segmentation.", "nbkeras.metrics", "iou"
        ),
    },
    "Tensors and derivatives": {
        "tensor": Topic("Tensors", "Tensors, variables, tapes, and ops of your own.", "nbkeras.tensor"),
        "nbkeras": Topic("The package", "Recorded functions, profiles, devices, scopes.", "nbkeras"),
        "autodiff": Topic("Derivatives", "Gradients, Jacobians, and maps over samples.", "nbkeras.autodiff"),
        "random": Topic("Random numbers", "Random tensors from seeds.", "nbkeras.random"),
        "tree": Topic("Trees", "Nested lists and dicts of tensors.", "nbkeras.tree"),
    },
    "Files, export and servers": {
        "saving": Topic("Saving", "Models and weights as files and bytes.", "nbkeras.saving"),
        "export": Topic("Export", "Models for other programs: ONNX, C libraries.", "nbkeras.export"),
        "inference": Topic("Inference", "Models that only predict.", "nbkeras.inference"),
        "client": Topic("Client", "Requests to ``nbkeras serve``.", "nbkeras.client"),
        "commands": Topic("Commands", "The commands of ``python -m nbkeras``, as functions.", "nbkeras.commands"),
    },
    "Data": {
        "datasets": Topic(
            "Data sets",
            "Known data sets, as arrays.",
            "nbkeras.datasets.boston_housing nbkeras.datasets.california_housing nbkeras.datasets.cifar10 "
            "nbkeras.datasets.cifar100 nbkeras.datasets.digits nbkeras.datasets.fashion_mnist nbkeras.datasets.imdb "
            "nbkeras.datasets.mnist nbkeras.datasets.reuters",
        ),
        "preprocessing": Topic(
            "Data from files and series",
            "Batches from folders of files, and windows of time series.",
            "nbkeras.preprocessing",
        ),
        "preprocessing-image": Topic(
            "Image files", "Image files as arrays, and Keras 2's generators.", "nbkeras.preprocessing.image"
        ),
        "preprocessing-text": Topic(
            "Sequences and words of Keras 2",
            "Padding, skip-grams, and Keras 2's tokenizer.",
            "nbkeras.preprocessing.sequence nbkeras.preprocessing.text",
        ),
        "utils-data": Topic(
            "Data in batches",
            "Your own sources of batches, columns of tables, downloads.",
            "nbkeras.utils",
            "adapters directories downloads encoding enqueuers feature_space pydataset selection",
        ),
        "bounding_boxes": Topic(
            "Bounding boxes", "Formats, overlaps and changes of boxes.", "nbkeras.utils.bounding_boxes"
        ),
        "visualization": Topic("Pictures", "Images with their boxes and masks.", "nbkeras.visualization"),
    },
    "Applications": {
        "applications": Topic(
            "Applications",
            "Known networks for images, and their preprocessing.",
            "nbkeras.applications nbkeras.applications.imagenet_utils nbkeras.applications.mobilenet",
        ),
        "applications-efficientnet": Topic(
            "Applications: EfficientNet", "Its versions 1 and 2, in all sizes.", "nbkeras.applications", "EfficientNet*"
        ),
    },
    "Utilities": {
        "utils": Topic("Utilities", "Seeds, pictures of models, progress bars.", "nbkeras.utils"),
        "config": Topic("Settings", "Devices, dtypes, seeds and limits for all models.", "nbkeras.config"),
        "debug": Topic("Debugging", "Finds where numbers stop being finite.", "nbkeras.debug"),
        "testing": Topic("Testing", "Checks of your own layers and ops.", "nbkeras.testing"),
        "backend": Topic(
            "Keras 2's backend",
            "``keras.backend``, and its names of dtype policies.",
            "nbkeras.backend nbkeras.mixed_precision",
        ),
        "backend-variables": Topic(
            "Keras 2's backend: variables",
            "Variables, conditions, loops and the learning phase.",
            "nbkeras.backend",
            "variables control learning_phase dtypes",
        ),
    },
}
TOPICS = {page: topic for topics in SECTIONS.values() for page, topic in topics.items()}
MODULES = list(dict.fromkeys(module for topic in TOPICS.values() for module in topic.modules.split()))

# bases without a name of their own: their methods are the class's
NAMELESS = {f"nbkeras.training.{name.lower()}.{name}" for name in ("Functional", "Trainer", "Learner")}


def public_names(module_name: str) -> dict[str, object]:
    """The public objects of a module by name: what `dir` shows, without modules."""
    module = importlib.import_module(module_name)
    names = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    found = {name: getattr(module, name) for name in sorted(names)}
    return {name: value for name, value in found.items() if not inspect.ismodule(value) and _own(value)}


def _own(value: object) -> bool:
    return str(getattr(value, "__module__", "")).startswith("nbkeras")


def _with_parts(cls: type) -> Iterator[type]:
    """A class, and its bases that have no name of their own."""
    yield cls
    for base in cls.__bases__:
        if f"{base.__module__}.{base.__name__}" in NAMELESS:
            yield from _with_parts(base)


def topic_of(module: str, name: str, value: object) -> str:
    """The page of the topic that has a name of a public module."""
    pages = {page: topic.parts.split() for page, topic in TOPICS.items() if module in topic.modules.split()}
    file = getattr(value, "__module__", module).rpartition(".")[2]
    for word in (name, file):
        for page, parts in pages.items():
            if any(fnmatchcase(word, part) for part in parts):
                return page
    return next(page for page, parts in pages.items() if not parts)


class Contents:
    """What the page of a topic has: the paths of its objects, and other names of objects of any topic."""

    def __init__(self) -> None:
        self.objects: dict[str, object] = {}
        self.others: dict[str, tuple[str, object]] = {}  # path -> the path under which it is described, and the object


def contents() -> dict[str, Contents]:
    """The contents of each page of a topic."""
    found = {page: Contents() for page in TOPICS}
    described: dict[int, str] = {}
    for module in MODULES:
        names = public_names(module)
        for name, value in sorted(names.items(), key=lambda pair: pair[0] != getattr(pair[1], "__name__", "")):
            page, path = found[topic_of(module, name, value)], f"{module}.{name}"
            if id(value) in described:
                page.others[path] = described[id(value)], value
            else:
                page.objects[path] = value
                described[id(value)] = path
    return found


def first_sentence(value: object) -> str:
    """The first sentence of a docstring, as reST."""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    sentence = re.match(r".*?(?<!\.\.)\.(?=\s|$)", paragraph)
    return as_rest(sentence[0] if sentence else paragraph)


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _shown(path: str, topic: Topic) -> str:
    """A path as the page of its topic shows it: with the module if the topic has several."""
    return path.removeprefix("nbkeras.") if " " in topic.modules else path.rpartition(".")[2]


def _row(shown: str, path: str, value: object) -> tuple[str, str]:
    return f":py:obj:`{shown} <{path}>`", first_sentence(value)


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"   * - {left}\n     - {right}\n" for left, right in rows)
    return f".. list-table::\n   :class: names\n\n{cells}\n"


def _toctree(pages: Iterable[str]) -> str:
    return ".. toctree::\n   :hidden:\n\n" + "".join(f"   {page}\n" for page in pages) + "\n"


def _topic_page(topic: Topic, found: Contents) -> str:
    """A line for each class, a line and the description of each function, and the other names."""
    lines = [_title(topic.title), f"{topic.about} In {', '.join(f'``{each}``' for each in topic.modules.split())}.\n\n"]
    paths = sorted(found.objects, key=str.lower)
    classes = [path for path in paths if inspect.isclass(found.objects[path])]
    functions = [path for path in paths if path not in classes]
    for title, members in (("Classes", classes), ("Functions", functions)):
        if members:
            rows = [_row(_shown(path, topic), path, found.objects[path]) for path in members]
            lines += [_title(title, "-"), _table(rows)]
    for path in functions:
        if " " in topic.modules:  # signatures have no modules
            lines.append(f".. rubric:: {_shown(path, topic)}\n\n")
        lines.append(f".. autofunction:: {path}\n\n")
    if found.others:
        others = sorted(found.others.items(), key=lambda pair: pair[0].lower())
        rows = [_row(_shown(path, topic), of, value) for path, (of, value) in others]
        about = "They are described under their first names.\n\n"
        lines += [_title("Other names", "-"), about, _table(rows)]
    if classes:
        lines.append(_toctree(classes))
    return "".join(lines)


def _class_page(path: str, cls: type, page: str) -> str:
    module, _, name = path.rpartition(".")
    members = [
        name
        for part in _with_parts(cls)
        for name, member in vars(part).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, property | classmethod | staticmethod))
        and (getattr(member, "__doc__", None) or getattr(getattr(member, "__func__", None), "__doc__", None))
        and name not in ("call", "build", "compute_output_shape", "compute_mask", "get_config", "from_config")
    ]
    shown = f"   :members: {', '.join(members)}\n" if members else ""
    place = f":doc:`Reference <index>` / :doc:`{TOPICS[page].title} <{page}>` / ``{path}``\n\n"
    return f"{_title(name)}{place}.. currentmodule:: {module}\n\n.. autoclass:: {path}\n{shown}"


def write(folder: Path) -> None:
    """Write all pages into a folder, and an index of the topics."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pages: dict[str, str] = {}
    for page, found in contents().items():
        pages[page] = _topic_page(TOPICS[page], found)
        classes = {path: value for path, value in found.objects.items() if inspect.isclass(value)}
        pages |= {path: _class_page(path, value, page) for path, value in classes.items()}
    tables = [
        _title(section, "-")
        + _table([(f":doc:`{topic.title} <{page}>`", topic.about) for page, topic in topics.items()])
        for section, topics in SECTIONS.items()
    ]
    about = (
        "All public names, by topic. A page of a topic has a line for each name; each class has a page of its own.\n\n"
    )
    pages["index"] = _title("Classes and functions") + about + "".join(tables) + _toctree(TOPICS)
    for page, text in pages.items():
        (folder / f"{page}.rst").write_text(text, encoding="utf-8")


def as_rest(text: str) -> str:
    """A line of plain text, with code between backticks, as reST: what reST would take for markup is escaped."""
    parts = text.split("`")
    plain = [re.sub(r"([*|\\]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(part if i % 2 == 0 else f"``{part}``" for i, part in enumerate(_joined(plain, parts[1::2])))


def _joined(first: list[str], second: list[str]) -> list[str]:
    return [part for pair in zip(first, [*second, None], strict=False) for part in pair if part is not None]


def _docstring(app: "Sphinx", what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    in_example = in_formula = False
    written: list[str] = []
    for number, line in enumerate(lines):
        entry = re.fullmatch(r"( {4}\*{0,2}\w+) \((.+?)\):(.*)", line)
        if entry:  # Sphinx would take the words of the type for names of classes
            line = lines[number] = f"{entry[1]}: ({entry[2]}){entry[3]}"
        in_example = line.lstrip().startswith((">>>", "...")) or (in_example and bool(line.strip()))
        indented = line.startswith("    ")
        if indented and number > 1 and not lines[number - 1].strip() and lines[number - 2][:1].strip():
            in_formula = True  # an indented paragraph after one that is not: a formula, whose lines stay as they are
            written += ["::", ""]
        in_formula = in_formula and (indented or not line.strip())
        written.append(line if in_example or in_formula else as_rest(line))
    lines[:] = written


def setup(app: "Sphinx") -> dict:
    """Connect to Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference"))
    app.connect("autodoc-process-docstring", _docstring, priority=100)  # before napoleon reads the sections
    return {"version": "1", "parallel_read_safe": True}
