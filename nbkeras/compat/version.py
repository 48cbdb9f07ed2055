"""Which version of Keras a file is written for: its imports and calls decide."""

import ast
import dataclasses
import functools
import importlib
import os
from collections.abc import Iterator

from nbkeras.compat.modules import BACKEND_OF_KERAS_3, NEW_PARTS, RENAMED, SHOWN
from nbkeras.engine.outside import ordinary_file

_METHODS = ("fit_generator", "evaluate_generator", "predict_generator", "predict_classes")
_ARGUMENTS: dict[str, tuple[str, ...]] = {  # method of a model -> arguments that only Keras 2 has
    name: ("workers", "max_queue_size", "use_multiprocessing") for name in ("fit", "evaluate", "predict")
}
_RATES = ("lr", "decay")  # arguments of the optimizers
_OPTIMIZERS = set(RENAMED["optimizers"].values())


@dataclasses.dataclass(frozen=True)
class Finding:
    """The version of a file, and why."""

    version: int
    reason: str
    imports_keras: bool = True


def version_of_file(path: str | None) -> Finding:
    """The version of Keras that a Python file is written for: 2 or 3.

    The files beside it that it imports count too. Without a file that can be read, the version is 3.
    """
    found = list(_evidence(os.path.abspath(path), set())) if path and os.path.isfile(path) else []
    # a file with modules of Keras 3 cannot be for Keras 2; Keras 3 may have methods with older names
    for version in (3, 2):
        for each, line, what, file in found:
            if each == version:
                where = "" if os.path.samefile(file, path or file) else f" of {os.path.basename(file)}"
                return Finding(version, f"line {line}{where} uses {what}")
    return Finding(3, "the script uses none of the names that only Keras 2 has", bool(found))


def _evidence(path: str, seen: set[str]) -> Iterator[tuple[int, int, str, str]]:
    """(version, or 0 for an import of keras in either; line; what was used; file) for a file and those that it imports."""
    if path in seen:
        return
    seen.add(path)
    try:
        with open(path, "rb", opener=ordinary_file) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):  # running it will show the error
        return
    names = _Names(tree)
    for node in ast.walk(tree):
        for version, what in names.evidence(node):
            yield version, getattr(node, "lineno", 0), what, path
    for module in names.others:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            for ending in (".py", f"{os.sep}__init__.py"):
                yield from _evidence(os.path.join(os.path.dirname(path), *parts[:depth]) + ending, seen)


class _Names:
    """The names in a file that mean modules and objects of Keras."""

    def __init__(self, tree: ast.AST):
        self.meaning: dict[str, str] = {}  # name in the file -> 'keras.layers', 'tensorflow', 'keras.optimizers.SGD'
        self.of_tensorflow: set[str] = set()  # the names whose meaning was reached through TensorFlow
        self.others: list[str] = []  # modules that are not Keras
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    first = each.name.partition(".")[0]
                    self._add(each.asname or first, each.name if each.asname else first, each.name)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for each in node.names:
                    self._add(each.asname or each.name, f"{node.module}.{each.name}", f"{node.module}.{each.name}")
            elif isinstance(node, ast.ImportFrom) and node.level == 1:
                prefix = f"{node.module}." if node.module else ""
                self.others += [prefix + each.name for each in node.names]

    def _add(self, name: str, path: str, module: str) -> None:
        if path.partition(".")[0] in ("keras", "tensorflow"):
            self.meaning[name] = _keras(path)
            if path.startswith("tensorflow"):
                self.of_tensorflow.add(name)
        else:
            self.others.append(module)

    def _path(self, node: ast.AST) -> tuple[str, bool]:
        """'keras.layers.Dense' for an expression that means it, or ''; and whether it was reached through TensorFlow."""
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        name = node.id if isinstance(node, ast.Name) else ""
        start = self.meaning.get(name, "")
        return _keras(".".join([start, *reversed(parts)])) if start else "", name in self.of_tensorflow

    def evidence(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        """(version, what) for each name or call in a node that only one version has; version 0: `keras` itself."""
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from _of_path(_keras(each.name), each.name.startswith("tensorflow"))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                yield from _of_path(_keras(f"{node.module}.{each.name}"), node.module.startswith("tensorflow"))
        elif isinstance(node, ast.Attribute):
            if node.attr in _METHODS:
                yield 2, node.attr
            yield from _of_path(*self._path(node))
        elif isinstance(node, ast.Call):
            called, _ = self._path(node.func)
            own = called.rpartition(".")[2]
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            old = _RATES if called.startswith("keras.") and own in _OPTIMIZERS else _ARGUMENTS.get(method, ())
            for name in {each.arg for each in node.keywords}.intersection(old):
                yield 2, f"{own or method}({name}=...)"


def _keras(path: str) -> str:
    """The path without the 'tensorflow.' of 'tensorflow.keras'."""
    return path.removeprefix("tensorflow.") if f"{path}.".startswith("tensorflow.keras.") else path


def _of_path(path: str, of_tensorflow: bool) -> Iterator[tuple[int, str]]:
    """The evidence of a path such as 'keras.layers.core.Dense'."""
    if path != "keras" and not path.startswith("keras."):
        return
    version = _version_of(path)
    if path.startswith("keras.backend.") and of_tensorflow:  # TensorFlow's Keras 3 has Keras 2's functions too
        version = 0
    yield version, path


@functools.cache
def _version_of(path: str) -> int:
    """2 or 3 if only that version of Keras has the module or name, else 0."""
    module, name = path.partition(".")[2], ""
    while module and module not in SHOWN[2] and module not in SHOWN[3]:
        module, _, name = module.rpartition(".")
    if module not in SHOWN[3] or name in RENAMED.get(module, ()):
        return 2
    if module not in SHOWN[2] or module.partition(".")[0] in NEW_PARTS:
        return 3
    if not name or name == "*":
        return 0
    if module == "backend":
        return 0 if name in BACKEND_OF_KERAS_3 else 2
    in_3, in_2 = (any(_has(each, name) for each in SHOWN[version][module]) for version in (3, 2))
    return 2 if in_2 and not in_3 else 0


def _has(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)
