"""Write the pages of the reference: one for each public module of nbkeras; layers, ops and the like by the file they are in.

The pages hold no text of their own: each names its classes and functions, and autodoc reads their docstrings and signatures.
"""

import importlib
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests read the list of public names without Sphinx
    from sphinx.application import Sphinx

# An object is described in the first module that has it, and named in the others.
MODULES = (
    "nbkeras.models nbkeras.layers nbkeras.ops nbkeras.ops.image nbkeras.activations nbkeras.losses nbkeras.metrics "
    "nbkeras.optimizers nbkeras.optimizers.schedules nbkeras.initializers nbkeras.regularizers nbkeras.constraints "
    "nbkeras.callbacks nbkeras.datasets nbkeras.datasets.boston_housing nbkeras.datasets.california_housing "
    "nbkeras.datasets.cifar10 nbkeras.datasets.cifar100 nbkeras.datasets.digits nbkeras.datasets.fashion_mnist "
    "nbkeras.datasets.imdb nbkeras.datasets.mnist nbkeras.datasets.reuters nbkeras.preprocessing "
    "nbkeras.preprocessing.image nbkeras.preprocessing.sequence nbkeras.preprocessing.text nbkeras.saving nbkeras.export "
    "nbkeras.inference nbkeras.applications nbkeras.applications.imagenet_utils nbkeras.applications.mobilenet "
    "nbkeras.utils.bounding_boxes nbkeras.visualization "
    "nbkeras.random nbkeras.tree nbkeras.utils nbkeras.wrappers nbkeras.tensor nbkeras.config nbkeras "
    "nbkeras.dtype_policies nbkeras.distillation nbkeras.quantizers nbkeras.testing nbkeras.backend nbkeras.client"
).split()
SPLIT = {
    "nbkeras.layers",
    "nbkeras.ops",
    "nbkeras.losses",
    "nbkeras.backend",
    "nbkeras.metrics",
    "nbkeras.optimizers",
}  # a page for each file

# bases without a name of their own: their methods are the class's
PARTS = {f"nbkeras.training.{name.lower()}.{name}" for name in ("Functional", "Trainer", "Learner")}


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
        if f"{base.__module__}.{base.__name__}" in PARTS:
            yield from _with_parts(base)


def _entry(path: str, value: object) -> str:
    if inspect.isclass(value):
        members = [
            name
            for part in _with_parts(value)
            for name, member in vars(part).items()
            if not name.startswith("_")
            and (callable(member) or isinstance(member, property | classmethod | staticmethod))
            and (getattr(member, "__doc__", None) or getattr(getattr(member, "__func__", None), "__doc__", None))
            and name not in ("call", "build", "compute_output_shape", "compute_mask", "get_config", "from_config")
        ]
        shown = f"\n   :members: {', '.join(members)}" if members else ""
        return f".. autoclass:: {path}{shown}\n"
    if callable(value):
        return f".. autofunction:: {path}\n"
    return f".. autodata:: {path}\n   :no-value:\n"


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def _page(title: str, module: str, names: dict[str, object], about: str, others: dict[str, str]) -> str:
    lines = [_title(title), f"{about}\n\n" if about else "", f".. currentmodule:: {module}\n\n"]
    lines += [_entry(f"{module}.{name}", value) + "\n" for name, value in names.items()]
    if others:
        lines.append("Other names\n-----------\n\n")
        lines += [f"- ``{name}``: :py:obj:`{of} <{of}>`\n" for name, of in sorted(others.items())]
    return "".join(lines)


def _first_sentence(module: object) -> str:
    return as_rest((inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " "))


def write(folder: Path) -> None:
    """Write all pages into a folder, and an index of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pages = []
    described: dict[int, str] = {}
    for module in MODULES:
        groups: dict[str, dict[str, object]] = {}
        others: dict[str, dict[str, str]] = {}
        names = public_names(module)
        for name, value in sorted(names.items(), key=lambda pair: pair[0] != getattr(pair[1], "__name__", "")):
            page = getattr(value, "__module__", module) if module in SPLIT else module
            if id(value) in described:
                others.setdefault(page, {})[name] = described[id(value)]
            else:
                groups.setdefault(page, {})[name] = value
                described[id(value)] = f"{module}.{name}"
        for origin in sorted(groups.keys() | others.keys()):
            last = origin.rpartition(".")[2]
            title, page = (
                (f"{module}: {last.replace('_', ' ')}", f"{module}-{last}") if module in SPLIT else (module, module)
            )
            members = dict(sorted(groups.get(origin, {}).items()))
            about = _first_sentence(importlib.import_module(origin))
            text = _page(title, module, members, about, others.get(origin, {}))
            (folder / f"{page}.rst").write_text(text, encoding="utf-8")
            pages.append(page)
    listing = "".join(f"   {page}\n" for page in pages)
    index = _title("By module") + f".. toctree::\n   :maxdepth: 1\n\n{listing}"
    (folder / "index.rst").write_text(index, encoding="utf-8")


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
