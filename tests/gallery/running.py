"""Runs an example of the gallery with smaller constants."""

import ast
import os
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples"


def run(name: str, **constants) -> dict:
    """Runs examples/`name` in an empty folder with other values of the constants at its top level; returns its names."""
    os.environ["MPLBACKEND"] = "agg"
    path, here = FOLDER / name, os.getcwd()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = set(constants)
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            constant = node.targets[0].id
            if constant in constants:
                node.value = ast.copy_location(ast.Constant(constants[constant]), node.value)
                missing.discard(constant)
    if missing:
        raise ValueError(f"{name} has no constants {sorted(missing)} at its top level")
    found = {"__name__": "__main__", "__file__": str(path)}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(tree, str(path), "exec"), found)
        finally:
            os.chdir(here)
            plt = found.get("plt")
            if plt is not None:
                plt.close("all")
    return found
