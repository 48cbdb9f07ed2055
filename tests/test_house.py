"""The rules of the source code, checked by reading it: who may import whom, names of files, documents, names of tests."""

import ast
import functools
import importlib
import io
import json
import pathlib
import re
import sys
import tokenize
from typing import NamedTuple

import blocks
import pytest

import nbkeras  # noqa: F401 (whose registries are looked at)
from nbkeras.engine import registry

ROOT = pathlib.Path(__file__).parents[1]
RUNTIME = {"numba", "llvmlite", "numpy"}  # llvmlite is a part of numba
BANNED_NAMES = {"helpers", "helper", "misc", "common", "base", "util"}  # `utils` is Keras's own face

# The floor of every module of nbkeras; what is not named is on floor 3. Imports go to the same floor or below.
FLOORS = {
    0: "nbkeras.kernels",
    1: "nbkeras.engine nbkeras.config nbkeras.tensor nbkeras.tree nbkeras.ops nbkeras.autodiff",
    2: "nbkeras.building nbkeras.layers nbkeras.losses nbkeras.metrics nbkeras.random nbkeras.initializers nbkeras.activations "
    "nbkeras.regularizers nbkeras.constraints nbkeras.quantizers",
}
MAY_IMPORT_KERNELS = [
    f"nbkeras.{name}"
    for name in (
        "autodiff commands.diagnosis engine.copy_on_write engine.devices engine.dlpack engine.dtypes "
        "engine.grouping engine.half engine.rewriting engine.tape engine.launch_costs engine.lazy_names "
        "engine.naming engine.nested engine.numerics engine.outside engine.program engine.program_cache "
        "engine.ranks engine.recorder engine.replays engine.sharding engine.settings engine.tensor "
        "export.elf_objects export.library_code export.library_rows "
        "export.native_code export.onnx_elementwise export.training inference.recording inference.bundle inference.freezing "
        "inference.constants inference.session ops optimizers quantizers.packing random serving.limits testing"
    ).split()
]
AT_THE_ROOT = 20  # files: what a Keras user knows by name
LEVELS = 25  # modules in the longest chain of imports


def module_files():
    """Every module of the two source folders by its installed name."""
    files = {}
    for folder, package in (("kernels", "nbkeras.kernels"), ("nbkeras", "nbkeras")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            files[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return files


FILES = module_files()


@functools.cache
def tree_of(path):
    """The syntax tree of a file, which callers must not change."""
    return ast.parse(path.read_text(encoding="utf-8"))


def is_for_type_checkers(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


# -------------------- what a module imports --------------------
#
# Every import counts, whenever it runs: at the top of a file, in functions, under `if TYPE_CHECKING:`, and by the name of a
# module in a string: `LazyModule("nbkeras.x")`, importlib's, `-m` of a process that is started. Where a module uses a name
# through a package that imports it when it is asked for (`ops.jvp`), it imports the module that defines the name.
#
# One thing does not count: the public names that a module only shows, by lines `from x import y as y` or `from x import *` under
# `if TYPE_CHECKING:` and `attach(globals())`. Such a module is a face for these names and cannot use them itself, since Python
# does not find them in it: whoever asks it for one imports the module that defines it, and is checked for that. Names of modules
# that are values (see BY_NAME below) come from users, from files, and from faces above.

# Strings that name modules, and import none: modules whose frames a checker skips.
NAMES_ONLY = ["nbkeras.kernels.cuda.machine.checker"]


class Import(NamedTuple):
    name: str  # a module of nbkeras, or the top-level name of another one
    line: int
    how: str  # "top", "function", "types" (under TYPE_CHECKING), "asked" (by a string, or through a face)


def lines_shown(module):
    """(name, full name) of what the lines of a module show when it is asked for it."""
    source = FILES[module].read_text(encoding="utf-8")
    if re.search(r"^\w+\.attach(_names_of)?\(globals\(\)", source, re.MULTILINE):
        for block in filter(is_for_type_checkers, tree_of(FILES[module]).body):
            for node in (node for node in block.body if isinstance(node, ast.ImportFrom)):
                for alias in node.names:
                    names = starred(node.module) if alias.name == "*" else {alias.asname} & {alias.name}
                    yield from ((name, f"{node.module}.{name}") for name in names)


def bindings(module):
    """Name -> module it is imported from, or None, of what a file binds at its top level, for type checkers too."""
    found = {}
    nodes = tree_of(FILES[module]).body
    nodes = [*nodes, *(inner for node in nodes if is_for_type_checkers(node) for inner in node.body)]
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(
                (name.id, None) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
        elif isinstance(node, ast.ImportFrom):
            found.update((alias.asname, node.module) for alias in node.names if alias.asname == alias.name)
            if node.names[0].name == "*":
                found.update((name, node.module) for name in bindings(node.module) if name not in found)
    return {name: source for name, source in found.items() if not name.startswith("_")}


def starred(module):
    """The names that `from module import *` shows: all of a package, of another module those that it defines."""
    found = bindings(module)
    return [name for name in found if found[name] is None or FILES[module].name == "__init__.py"]


FACES = {module: dict(lines_shown(module)) for module in FILES}


def home(name):
    """The module that defines what a full name means."""
    while name not in FILES:
        package, _, own = name.rpartition(".")
        name = FACES[package][own] if own in FACES.get(package, ()) else package
    return name


def imports(module):
    """The Imports of a module."""
    tree, inside, for_types, strings, packages = tree_of(FILES[module]), set(), set(), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside.update(map(id, ast.walk(node)))
        elif is_for_type_checkers(node):
            for_types.update(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            how = "types" if id(node) in for_types else "function" if id(node) in inside else "top"
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}:{node.lineno}: relative import"
            for alias in node.names:
                name = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
                shown = FACES[module].get(alias.name) == name and alias.asname or alias.name == "*" and FACES[module]
                if how == "types" and shown:
                    continue
                if name.split(".")[0] != "nbkeras":
                    yield Import(name.split(".")[0], node.lineno, how)
                    continue
                yield Import(home(name), node.lineno, how)
                if isinstance(node, ast.Import) and not alias.asname:
                    packages["nbkeras"] = "nbkeras"
                else:
                    packages[alias.asname or alias.name] = name
        elif isinstance(node, ast.Constant) and node.value in FILES and "." in node.value and module not in NAMES_ONLY:
            strings.append(Import(node.value, node.lineno, "asked"))
    yield from strings
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"[\w.]+", path := ast.unparse(node)):
            first, _, rest = path.partition(".")
            name = packages.get(first, "")
            for part in rest.split("."):
                package, name = name, f"{name}.{part}"
                if part in FACES.get(package, ()):
                    name = FACES[package][part]
                    yield Import(home(name), node.lineno, "asked")
                elif name not in FILES:
                    break


GRAPH = {module: sorted(set(imports(module))) for module in FILES}


def is_under(module, packages):
    return any(module == package or module.startswith(package + ".") for package in packages)


def floor(module):
    return next((number for number, names in FLOORS.items() if is_under(module, names.split())), 3)


def breaches(rule):
    return [
        f"{m}:{line} imports {name}" for m, found in GRAPH.items() for name, line, how in found if rule(m, name, how)
    ]


def test_only_kernels_import_numba():
    assert not breaches(lambda module, name, _: name in ("numba", "llvmlite") and floor(module) != 0)


def test_kernels_know_nothing_of_the_rest():
    assert not breaches(lambda module, name, _: floor(module) == 0 and name.startswith("nbkeras") and floor(name) != 0)


def test_only_a_few_modules_import_kernels():
    assert not breaches(
        lambda module, name, _: (
            is_under(name, ["nbkeras.kernels"])
            and floor(module) != 0
            and module != "nbkeras"  # its guard explains a missing kernels/
            and not is_under(module, MAY_IMPORT_KERNELS)
        )
    )


def test_imports_go_down_only():
    assert not breaches(lambda module, name, _: name.startswith("nbkeras.") and floor(name) > floor(module))


def test_layers_know_nothing_of_quantizers():
    assert not breaches(
        lambda module, name, _: (
            is_under(module, ["nbkeras.building", "nbkeras.layers"]) and is_under(name, ["nbkeras.quantizers"])
        )
    )


def test_loops_are_above_the_runtime():
    """Kernels' loops import what compiles and launches; the runtime knows of loops only through the interpreter."""
    assert not breaches(
        lambda module, name, _: (
            is_under(module, ["nbkeras.kernels.runtime"]) and is_under(name, ["nbkeras.kernels.loops"])
        )
    )


def below(node_of):
    """Node -> the nodes whose modules its modules import; node_of: the node of a module."""
    graph = {node_of(module): set() for module in FILES}
    for module, found in GRAPH.items():
        graph[node_of(module)] |= {node_of(name) for name, _, _ in found if name in FILES} - {node_of(module)}
    return graph


def levels_of(graph):
    """Node -> the number of nodes in the longest chain of imports that starts there; without circles and what imports them."""
    levels = {}
    while ready := [node for node, found in graph.items() if node not in levels and found <= levels.keys()]:
        levels |= {node: 1 + max((levels[name] for name in graph[node]), default=0) for node in ready}
    return levels


def circles(graph):
    """The nodes of each circle, with their imports of each other."""
    reached = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        reached[start] = seen
    found = {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}
    return [{node: sorted(graph[node] & circle) for node in sorted(circle)} for circle in found]


def test_no_circles():
    """Of modules: a package's __init__ is a module like others."""
    assert circles(below(lambda module: module)) == []


def test_no_circles_between_folders():
    """Folders and modules at the root of nbkeras, kernels/ among them, each as one node: what a newcomer sees first."""
    assert circles(below(lambda module: ".".join(module.split(".")[:2]))) == []


@pytest.mark.parametrize(
    "source",
    [
        "from nbkeras.ops.shape import reshape",
        "import nbkeras.ops.shape",
        "def f():\n    from nbkeras.ops import shape",
        "if TYPE_CHECKING:\n    from nbkeras.ops.shape import reshape",
        "shape = LazyModule('nbkeras.ops.shape')",
        "importlib.import_module('nbkeras.ops.shape')",
        "subprocess.run([python, '-m', 'nbkeras.ops.shape'])",
    ],
    ids=["name", "module", "in a function", "for type checkers", "later", "importlib", "process"],
)
def test_no_import_is_overlooked(source, tmp_path, monkeypatch):
    (tmp_path / "new.py").write_text(source)
    monkeypatch.setitem(FILES, "nbkeras.engine.new", tmp_path / "new.py")
    monkeypatch.setitem(FACES, "nbkeras.engine.new", {})
    assert "nbkeras.ops.shape" in [each.name for each in imports("nbkeras.engine.new")]


def test_a_name_of_a_face_counts_where_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "new.py").write_text("from nbkeras import ops\nops.linalg.jvp(ops.image.elastic_transform)")
    monkeypatch.setitem(FILES, "nbkeras.engine.new", tmp_path / "new.py")
    monkeypatch.setitem(FACES, "nbkeras.engine.new", {})
    found = {each.name for each in imports("nbkeras.engine.new")}
    assert {"nbkeras.autodiff.transforms", "nbkeras.random.elastic_transform"} <= found
    assert "nbkeras.autodiff.transforms" not in {each.name for each in GRAPH["nbkeras.ops.linalg"]}


def test_chains_of_imports_are_not_longer():
    """In modules, whenever an import runs. A longer chain needs a reason; a shorter one is the new limit."""
    assert max(levels_of(below(lambda module: module)).values()) <= LEVELS


def test_imports_inside_functions_are_of_optional_dependencies_only():
    known = RUNTIME | {"nbkeras"} | set(sys.stdlib_module_names)
    assert not breaches(lambda module, name, how: how == "function" and name.split(".")[0] in known)


# Imported when asked for by name, and nothing without an optional dependency: their classes are its classes.
ON_DEMAND = {"nbkeras.wrappers.sklearn"}


def for_gpus(module):
    """Whether a module is imported only when a GPU is asked for."""
    return is_under(module, ["nbkeras.kernels.cuda"])


def for_servers(module):
    """Whether a module is imported only by `nbkeras serve`; its options are also those of the command line."""
    return is_under(module, ["nbkeras.serving"]) and module not in ("nbkeras.serving", "nbkeras.serving.options")


def test_optional_dependencies_are_imported_inside_functions_only():
    known = RUNTIME | {"nbkeras"} | set(sys.stdlib_module_names)
    assert not breaches(
        lambda module, name, how: (
            how != "function"
            and name.split(".")[0] not in known
            and not (for_gpus(module) or for_servers(module) or module in ON_DEMAND)
        )
    )


@pytest.mark.parametrize("kind", [for_gpus, for_servers])
def test_only_modules_for_gpus_and_servers_import_those(kind):
    assert not breaches(lambda module, name, how: name in FILES and kind(name) and not kind(module) and how != "asked")


def test_no_module_imports_those_on_demand():
    assert not breaches(lambda module, name, _: name in ON_DEMAND)


def test_file_names():
    names = {path.stem for path in FILES.values()}
    assert not names & BANNED_NAMES
    assert not [path for path in FILES.values() if path.stem == "utils"]  # `nbkeras/utils` is a package
    assert not (ROOT / "tests" / "__init__.py").exists(), (
        "tests is no package: it would put the source folder on the path"
    )


def test_the_root_holds_what_a_user_knows_by_name():
    assert len(list((ROOT / "nbkeras").glob("*.py"))) <= AT_THE_ROOT


@pytest.mark.parametrize("name", ["config", "models", "tensor", "utils", "utils.bounding_boxes"])
def test_a_face_defines_nothing(name):
    assert not [
        node for node in ast.walk(tree_of(FILES[f"nbkeras.{name}"])) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]


def test_no_asserts_in_the_library():
    """`python -O` drops asserts; ruff's S101 says so too, but only where it runs."""
    found = [
        f"{module}:{node.lineno}"
        for module, path in FILES.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assert)
    ]
    assert not found


# Modules that import by a name that is a value: tables of public names, names in files, GPUs, `import keras`.
BY_NAME = [
    "nbkeras.engine.lazy_names",
    "nbkeras.engine.registry",
    "nbkeras.building.operation",
    "nbkeras.engine.devices",
    "nbkeras.compat",
    "nbkeras.inference.bundle",
]


def test_modules_are_named_by_values_in_a_few_places_only():
    found = []
    for module, path in FILES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
                optional = isinstance(node.args[0], ast.Constant | ast.JoinedStr) and "nbkeras" not in ast.unparse(node)
                if floor(module) != 0 and not optional and not is_under(module, BY_NAME):
                    found.append(f"{module}:{node.lineno} {ast.unparse(node)}")
    assert not found


# -------------------- public names --------------------

SHOWING = [
    module for module, path in FILES.items() if re.search(r"^\w+\.attach\(globals\(\)", path.read_text("utf-8"), re.M)
]


def is_found(module, name):
    """Whether go-to-definition ends somewhere: at a file, or at a statement that binds the name."""
    if f"{module}.{name}" in FILES:
        return True
    found = bindings(module) if module in FILES else {}
    return name in found and (found[name] is None or is_found(found[name], name))


@pytest.mark.parametrize("module", SHOWING)
def test_editors_and_type_checkers_see_the_names_that_a_module_shows(module):
    shown, seen = set(importlib.import_module(module).__all__), bindings(module)
    assert shown <= set(seen)
    assert {name for name, source in seen.items() if source} <= shown
    assert [name for name, source in seen.items() if source and not is_found(source, name)] == []


@pytest.mark.parametrize("module", SHOWING)
def test_a_name_is_shown_from_one_module(module):
    names = [name for name, _ in set(lines_shown(module))]
    assert sorted(names) == sorted(set(names))


def meaning(name):
    """The full name under which a file defines what a full name means."""
    module, _, own = name.rpartition(".")
    source = bindings(module).get(own) if module in FILES and name not in FILES else None
    return meaning(f"{source}.{own}") if source else name


@pytest.mark.parametrize("module", SHOWING)
def test_an_import_of_a_family_is_not_taken_for_a_public_name(module):
    """Some type checkers and editors also take what a module imports from `import *`."""
    families = {
        node.module
        for node in ast.walk(tree_of(FILES[module]))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    }
    imported = [
        (
            family,
            alias.asname or alias.name,
            f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name,
        )
        for family in sorted(families)
        for node in tree_of(FILES[family]).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    shown = {name: meaning(f"{source or module}.{name}") for name, source in bindings(module).items()}
    assert [each for each in imported if shown.get(each[1], meaning(each[2])) != meaning(each[2])] == []


def test_no_module_hides_a_function_of_its_name():
    """Python puts an imported module into its package: a function of that name is imported with the package, at the top."""
    hidden = [
        name
        for package in SHOWING
        for name, full in FACES[package].items()
        if f"{package}.{name}" in FILES and full != f"{package}.{name}"
        if not re.search(rf"^from \S+ import {name} as {name}\b", FILES[package].read_text("utf-8"), re.MULTILINE)
    ]
    assert hidden == []


@pytest.mark.parametrize("module", SHOWING)
def test_every_name_that_a_module_shows_is_there(module):
    if module not in ON_DEMAND and module != "nbkeras.wrappers":
        found = importlib.import_module(module)
        assert [name for name in found.__all__ if not hasattr(found, name)] == []


@pytest.mark.parametrize("kind", ["layer", "loss", "metric", "optimizer", "initializer", "regularizer", "constraint"])
def test_every_class_that_a_configuration_may_name_is_shown(kind):
    items = registry.of_kind(kind).items().values()
    home = importlib.import_module(f"nb{registry.of_kind(kind).module}")
    shown = [getattr(home, name) for name in home.__all__]
    assert [item for item in items if item.__module__.startswith(home.__name__) and item not in shown] == []


# -------------------- the size of the code --------------------

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source):
    """The number of lines of code, without docstrings, comments and blank lines."""
    documented = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def place(module):
    """The folder or file of nbkeras that a module is in, as docs/architecture.md names it."""
    parts = module.split(".")[1:] or ["__init__"]
    name = "kernels/cuda" if parts[:2] == ["kernels", "cuda"] else parts[0]
    return f"{name}.py" if (ROOT / "nbkeras" / f"{name}.py").exists() else f"{name}/"


def rings():
    """Ring -> its places and its lines of code, as the table of docs/architecture.md says."""
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## ")[1]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([\d,]+) \|$", section, re.MULTILINE)
    return {
        ring.strip("*"): (re.findall(r"`([^`]+)`", places), int(lines.replace(",", ""))) for ring, places, lines in rows
    }


RINGS = rings()
EDGES = RINGS["edges"][0]
# Edge -> the modules of the core that name it.
CORE_TO_EDGE = {
    "applications/": "nbkeras",  # names of layers that files hold
    "autodiff/": "nbkeras.building.scopes nbkeras.tensor",
    "compat/": "nbkeras",
    "distillation/": "nbkeras",
    "export/": "nbkeras.training.model",
    "inference/": "nbkeras.training.jit nbkeras.training.model",
    "preprocessing/": "nbkeras.training.loading",
    "quantizers/": "nbkeras nbkeras.training.model",
    "saving/": "nbkeras.callbacks.backup nbkeras.callbacks.checkpoints nbkeras.callbacks.loggers "
    "nbkeras.training.functional nbkeras.training.loading nbkeras.training.model",
    "utils/": "nbkeras",
    "visualization/": "nbkeras.callbacks.callback_list nbkeras.training.model nbkeras.training.profile",
}


def test_few_entries_of_the_package_are_not_named_as_in_keras():
    """A newcomer who looks for the inside of nbkeras finds it among these."""
    listed = json.loads((ROOT / "scripts" / "keras_3_names.json").read_text(encoding="utf-8"))["names"]
    known = {module.split(".")[1] for module in listed if "." in module} | {"applications"}
    own = {path.name for path in (ROOT / "nbkeras").iterdir() if path.stem not in known and path.name != "__pycache__"}
    assert len(own) <= 16, sorted(own)


def test_each_module_is_in_one_ring():
    named = [each for ring, (places, _) in RINGS.items() if ring != "core" for each in places]
    assert sorted(named) == sorted({place(module) for module in FILES})


@pytest.mark.grid
def test_the_core_is_not_larger():
    """A larger limit needs a reason; a smaller core is the new limit, rounded up to the next hundred."""
    lines = dict.fromkeys(RINGS, 0)
    for module, path in FILES.items():
        ring = next(ring for ring, (places, _) in RINGS.items() if ring != "core" and place(module) in places)
        lines[ring] += code_lines(path.read_text(encoding="utf-8"))
    lines["core"] = sum(lines.values()) - lines["edges"]
    assert lines["core"] <= RINGS["core"][1], f"the core has {lines['core']:,} lines"
    rounded = {ring: f"{-(-count // 100) * 100:,}" for ring, count in lines.items()}
    wrong = [ring for ring, (_, said) in RINGS.items() if abs(said - lines[ring]) > said / 20]
    assert not wrong, f"docs/architecture.md: write {rounded}"


def test_the_core_names_few_edges():
    found = {}
    for module, named in GRAPH.items():
        for edge in {place(name) for name, _, _ in named if name in FILES}.intersection(EDGES):
            if place(module) not in EDGES:
                found.setdefault(edge, set()).add(module)
    assert found == {edge: set(names.split()) for edge, names in CORE_TO_EDGE.items()}


def test_the_core_of_an_afternoon_is_short_and_stands_alone():
    """docs/afternoon.md promises this, up to the section that compares its code with nbkeras."""
    text = (ROOT / "docs" / "afternoon.md").read_text(encoding="utf-8")
    built, _, compared = text.partition("## Beside nbkeras")
    code = "\n".join(block.code for block in blocks.python_blocks(built, "afternoon.md"))
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert "import nbkeras" in compared and imported - set(sys.stdlib_module_names) == RUNTIME
    assert code_lines(code) <= int(re.search(r"at most (\d+) lines", built)[1])


# -------------------- comments and documents --------------------

FOLDERS = ("nbkeras", "kernels", "tests", "benchmarks", "scripts", "examples")
ANYWHERE = {path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}
ANYWHERE |= {path.relative_to(ROOT) for path in (ROOT / "docs" / "_extensions").glob("*.py")}
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tox.ini"]
# Files that a comment, a docstring or a document names and that are not in this repository: those of Keras, of an
# example, or of a user.
ELSEWHERE = re.compile(
    r"keras/src/.*|correlation_metrics\.py|(script|old_script|newer_script|_keras|train|name|server|client|app|mine|beside|gate|sensor|handler|networks)\.py"
    r"|(learned_)?snake(_cuda)?\.py|report\.md|scor(ing|e_all|e_on_cluster)\.py|tune(_together)?\.py"
)


def docstrings_of(tree):
    """(line, name, text) of each docstring in a file."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, getattr(node, "name", "module"), text


def texts_of(path):
    """(line, text) of each docstring and comment of a Python file, or of each line of another file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    yield from ((line, text) for line, _, text in docstrings_of(ast.parse(source)))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_no_docstring_begins_with_what():
    """`What it does` makes the reader guess the verb: a docstring begins with the result, or with an imperative."""
    assert not [
        f"{module}:{line} {name}"
        for module, path in FILES.items()
        for line, name, text in docstrings_of(tree_of(path))
        if text.startswith("What ")
    ]


@pytest.mark.grid
def test_files_that_comments_and_documents_name_exist():
    """A name may leave out the first folders: `cuda/loops/gemm.py`, `test_loop.py`."""
    ends = {"/".join(path.parts[at:]) for path in ANYWHERE for at in range(len(path.parts))}
    ends |= {path.name for path in [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]} | {
        f"docs/{path.name}" for path in DOCUMENTS
    }
    ends |= {"setup.py"}

    def missing(text):
        names = re.findall(r"(?<![\w/.<>*{}~-])[\w/-]+\.(?:py|md|ini)\b(?![\w/*])", text)
        return [name for name in names if name.strip("/") not in ends and not ELSEWHERE.fullmatch(name)]

    files = [ROOT / name for name in sorted(ANYWHERE) if name.suffix == ".py"] + DOCUMENTS
    suspects = [path for path in files if missing(path.read_text(encoding="utf-8"))]  # or a string of a test
    assert not [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in suspects
        for line, text in texts_of(path)
        for name in missing(text)
    ]


# -------------------- tests that read as a specification --------------------

# raised by Python, with no message of nbkeras's
WITHOUT_A_MESSAGE = {"KeyboardInterrupt", "SystemExit", "UnicodeDecodeError"}


def says_enough(pattern):
    """Whether a pattern of a message holds a part of a sentence: it must not fit any other error."""
    return len(pattern) >= 12 and len(re.findall(r"[^\W_]\w+", pattern)) >= 2


def checks_of_errors():
    """(place, class, pattern) of each `pytest.raises` and `pytest.warns` in tests/; the pattern is None without `match`."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in ("raises", "warns") and ast.unparse(node.func.value) == "pytest":
                patterns = [keyword.value for keyword in node.keywords if keyword.arg == "match"]
                yield f"{path.name}:{node.lineno}", ast.unparse(node.args[0]), patterns[0] if patterns else None


def test_messages_show_values_briefly():
    """A value that a message received may be anything: its own repr can be long, and fails for lists within lists."""
    found = []
    for module, path in FILES.items():
        for message in (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Raise)):
            for text in (node for node in ast.walk(message) if isinstance(node, ast.JoinedStr)):
                before = ""
                for part in text.values:
                    before += part.value if isinstance(part, ast.Constant) else ""
                    is_shown = isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
                    if is_shown and re.search("received", before, re.IGNORECASE) and floor(module):
                        found.append(f"{module}:{message.lineno} {ast.unparse(part.value)}")
    assert not found, "write {briefly(value)} of engine/annotations.py"


@pytest.mark.grid
def test_tests_of_errors_look_for_a_sentence():
    assert not [
        f"{place}: {error}"
        for place, error, pattern in checks_of_errors()
        if (pattern is None and error not in WITHOUT_A_MESSAGE)
        or (isinstance(pattern, ast.Constant) and error != "SystemExit" and not says_enough(pattern.value))
    ]


@pytest.mark.documents  # a run of the unit tests would not read the files of other tiers
def test_cases_are_named_by_what_they_are(collected):
    """Of the tests of this run. Two cases of one name are refused by pytest: `strict_parametrization_ids`."""
    cases = [item for item in collected if hasattr(item, "callspec")]
    assert not [
        item.nodeid
        for item in cases
        if re.fullmatch(r"-?\d+", item.callspec.id)
        or "<lambda>" in item.callspec.id
        or any(f"{name}{index}" in item.callspec.id.split("-") for name, index in item.callspec.indices.items())
    ]
    messages = {item.nodeid: item.callspec.params.get("message") for item in cases}
    assert not [case for case, message in messages.items() if isinstance(message, str) and not says_enough(message)]
