"""Collect the public names of Keras with their parameters, for make_parity.py:

    python scripts/keras_names.py keras-3 > scripts/keras_3_names.json           in an environment with Keras 3
    python scripts/keras_names.py keras-2 FOLDER > scripts/keras_2_names.json    FOLDER: Keras 2.3.1's source, only read

JSON: {"version": ..., "names": {namespace: {name: parameters}}}; parameters is a list of names, or null if it is not callable.
"""

import ast
import inspect
import json
import sys
import types
from pathlib import Path

KEPT_OUT = {"src", "applications", "legacy"}  # applications: see make_parity.py; legacy: copies of other namespaces


def parameters(thing):
    """The names of a function's or a class's parameters; None for other values."""
    if not callable(thing):
        return None
    found = []
    functions = [thing]
    if isinstance(thing, type):
        functions = [c.__init__ for c in thing.__mro__[:-1] if "__init__" in vars(c)] or [thing.__new__]
    for function in functions:
        try:
            given = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            break
        found += [p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in given):
            break
    return [name for name in dict.fromkeys(found) if name not in ("self", "_cls")]


def of_keras_3():
    import keras

    names, todo = {}, [("keras", keras)]
    while todo:
        path, module = todo.pop()
        names[path] = {}
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or name in KEPT_OUT:
                continue
            if not isinstance(value, types.ModuleType):
                names[path][name] = parameters(value)
            elif value.__name__.startswith("keras.") and ".src" not in value.__name__:
                todo.append((f"{path}.{name}", value))
    return keras.__version__, names


MODULES = """activations backend.tensorflow_backend=backend backend.common=backend callbacks.callbacks=callbacks
    constraints datasets.boston_housing datasets.cifar10 datasets.cifar100 datasets.fashion_mnist datasets.imdb datasets.mnist
    datasets.reuters initializers layers losses metrics models optimizers preprocessing.image preprocessing.sequence
    preprocessing.text regularizers utils wrappers.scikit_learn"""
# Keras 1's
OF_LEGACY = {"MaxoutDense", "Highway", "AtrousConvolution1D", "AtrousConvolution2D", "Recurrent", "ConvRecurrent2D"}


def of_keras_2(folder: Path):
    """Names found by parsing the source, without importing it; parameters as written in a function's or class's definition."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (folder / "keras").rglob("*.py")}
    names: dict[str, dict] = {}
    for entry in MODULES.split():
        source, _, alias_module = entry.partition("=")
        path = _file(folder / "keras" / source.replace(".", "/"))
        imports = path.name == "__init__.py" or source == "models"
        public = names.setdefault(f"keras.{alias_module or source}", {})
        for node in trees[path].body:
            found = []
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found = [node.name]
            elif isinstance(node, ast.ImportFrom) and imports and node.level:
                found = [alias.asname or alias.name for alias in node.names]
            elif isinstance(node, ast.Assign) and source != "utils":
                found = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in found:
                if not name.startswith("_") and name not in OF_LEGACY and not (name.isupper() and len(name) > 4):
                    public[name] = _written(_definition(trees, path, name))
    return "2.3.1", names


def _file(path: Path) -> Path:
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def _definition(trees, path: Path, name: str):
    """The definition of the class or function of a name in a module, through imports and `new = old`; or None."""
    for node in trees.get(path, ast.Module([], [])).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    start = _file(path.parents[node.level - 1] / (node.module or "").replace(".", "/"))
                    return None if start == path else _definition(trees, start, alias.name)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            if any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
                return _definition(trees, path, node.value.id)
    return None


def _written(node):
    if isinstance(node, ast.ClassDef):
        node = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    if node is None:
        return None
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs) if argument.arg != "self"]


def main() -> None:
    version, names = of_keras_3() if sys.argv[1] == "keras-3" else of_keras_2(Path(sys.argv[2]))
    print('{"version": ' + json.dumps(version) + ', "names": {')
    print(",\n".join(f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(names.items())))
    print("}}")


if __name__ == "__main__":
    main()
