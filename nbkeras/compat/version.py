"""Which version of Keras a file is written for: its imports and calls decide."""

import ast
import dataclasses
import functools
import importlib
import os
from collections.abc import Iterator

from nbkeras.compat.modules import BACKEND_OF_KERAS_3, RENAMED, SHOWN

_METHODS = ("fit_generator", "evaluate_generator", "predict_generator", "predict_classes")
_ARGUMENTS: dict[str, tuple[str, ...]] = {  # method of a model -> arguments that only Keras 2 has
    name: ("workers", "max_queue_size", "use_multiprocessing") for name in ("fit", "evaluate", "predict")
}
_OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop", "SGD")


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
    for version in (
        3,
        2,
    ):  # a file with modules of Keras 3 cannot be for Keras 2; Keras 3 may have methods with older names
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
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):  # running it will show the error
        return
    names = _Names(tree)
    for node in ast.walk(tree):
        for version, what in names.evidence(node):
            yield version, getattr(node, "lineno", 0), what, path
    for module in names.others:
        for name in (f"{module}.py", f"{module}/__init__.py"):
            yield from _evidence(os.path.join(os.path.dirname(path), *name.split("/")), seen)


class _Names:
    """The names in a file that mean modules and objects of Keras."""

    def __init__(self, tree: ast.AST):
        self.meaning: dict[str, str] = {}  # name in the file -> 'keras.layers', 'keras.optimizers.SGD'
        self.old_spelling_only: set[str] = (
            set()
        )  # names that come from tensorflow.keras, which kept Keras 2's backend functions
        self.others: list[str] = []  # top-level modules that are not Keras
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    self._add(
                        each.asname or each.name.partition(".")[0],
                        each.name if each.asname else each.name.partition(".")[0],
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for each in node.names:
                    self._add(each.asname or each.name, f"{node.module}.{each.name}")
            elif isinstance(node, ast.ImportFrom) and node.level == 1:
                self.others += [node.module] if node.module else [each.name for each in node.names]

    def _add(self, name: str, path: str) -> None:
        if path.partition(".")[0] in ("keras", "tensorflow"):
            self.meaning[name] = path.removeprefix("tensorflow.") if path.startswith("tensorflow.keras") else path
            if path.startswith("tensorflow"):
                self.old_spelling_only.add(name)
        else:
            self.others.append(path.partition(".")[0])

    def path(self, node: ast.AST) -> str:
        """'keras.layers.Dense' for an expression that means it, or ''."""
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        start = self.meaning.get(node.id, "") if isinstance(node, ast.Name) else ""
        path = ".".join([start, *reversed(parts)]) if start else ""
        return path.removeprefix("tensorflow.") if path.startswith("tensorflow.keras") else path

    def evidence(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        """(version, what) for each name or call in a node that only one version has; version 0: `keras` itself."""
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from _of_path(each.name.removeprefix("tensorflow."), each.name.startswith("tensorflow."))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = (node.module or "").removeprefix("tensorflow.")
            for each in node.names:
                yield from _of_path(f"{module}.{each.name}", node.module != module)
        elif isinstance(node, ast.Attribute):
            if node.attr in _METHODS:
                yield 2, node.attr
            first = node
            while isinstance(first, ast.Attribute):
                first = first.value  # type: ignore[assignment]
            yield from _of_path(self.path(node), getattr(first, "id", "") in self.old_spelling_only)
        elif isinstance(node, ast.Call):
            called = self.path(node.func)
            own = called.rpartition(".")[2]
            given = {each.arg for each in node.keywords}
            for name in ("lr", "decay") if called.startswith("keras.") and own in _OPTIMIZERS else ():
                if name in given:
                    yield 2, f"{own}({name}=...)"
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            for name in _ARGUMENTS.get(method, ()):
                if name in given:
                    yield 2, f"{method}({name}=...)"


def _of_path(path: str, of_tensorflow: bool) -> Iterator[tuple[int, str]]:
    """The evidence of a path such as 'keras.layers.core.Dense'."""
    if path != "keras" and not path.startswith("keras."):
        return
    found = _version_of(path)
    if found == 2 and path.startswith("keras.backend.") and of_tensorflow:
        found = 0
    yield found, path


@functools.cache
def _version_of(path: str) -> int:
    """2 or 3 if only that version of Keras has the module or name, else 0."""
    module, rest = path.partition(".")[2], ""
    while module and module not in SHOWN[2] and module not in SHOWN[3]:
        module, _, rest = module.rpartition(".")
    known = [version for version in (2, 3) if module in SHOWN[version]]
    if known == [2] or (module in RENAMED and rest in RENAMED[module]):
        return 2
    if known == [3] or module.partition(".")[0] in _ONLY_KERAS_3:
        return 3
    if module == "backend" and rest and rest != "*":
        return 0 if rest in BACKEND_OF_KERAS_3 else 2
    if not rest or rest == "*" or any(_has(each, rest) for each in SHOWN[3][module]):
        return 0
    return 2 if any(_has(each, rest) for each in SHOWN[2][module]) else 0


_ONLY_KERAS_3 = ("ops", "random", "saving", "tree", "quantizers", "dtype_policies", "distribution")


def _has(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)
