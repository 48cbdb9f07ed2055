"""Write docs/keras-parity.md: which public names of Keras are supported, which partly, and which not, with the reasons.

    python scripts/make_parity.py            write the document and print the counts
    python scripts/make_parity.py --check    check whether the document is up to date; the exit code is 1 if not

A name of Keras 3 is supported if it exists, has every parameter that it has in Keras, and calls of it gave Keras's results: the
table of calls in tests/parity, which this script runs. It is partly supported if parameters are missing, or if a call of the
table, or of REFUSED for Keras 2, is a limit. A name whose code raises an error that something is "not offered" or "not
supported" must have such a call. The reasons for missing names are in engine/absent_names.py; keras_names.py made
keras_3_names.json and keras_2_names.json, the names of Keras.
"""

import ast
import functools
import inspect
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from keras_names import parameters

import nbkeras
from nbkeras.building import layer
from nbkeras.engine import absent_names

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "keras-parity.md"

sys.path.insert(0, str(HERE.parent / "tests" / "parity"))
import table  # noqa: E402

# Name of Keras 2 -> (the parameter that the call needs, or None, a call that Keras allows and nbkeras refuses, what is refused).
REFUSED: dict[str, tuple[str | None, Callable[[Any], Any], str]] = {
    "Input": ("tensor", lambda thing: thing(tensor=np.ones((1, 2))), "`tensor` must be symbolic"),
    "placeholder": ("sparse", lambda thing: thing((1, 2), sparse=True), "dense tensors only"),
}
SOMEWHERE = {"initialize"}  # refused on Windows
ANY_KEYWORD = {"LambdaCallback"}  # accepts any keyword and checks it itself
# Parameters without a meaning here: those of private base classes, and of other backends' tensors and kernels.
WITHOUT_MEANING = {
    "cls",  # of the metaclass of ExportArchive
    "sparse",
    "ragged",
    "rank",
    "pool_dimensions",
    "pool_mode",
    "input_tensor",
    "use_cudnn",
    "implementation",
}


def accepted(thing) -> set[str]:
    """The parameters of one of our classes or functions."""
    found = set(parameters(thing) or ())
    for called in [thing, *(vars(c).get("__init__") for c in getattr(thing, "__mro__", ()))]:
        found |= set(getattr(called, "older_names", ()))  # by nbkeras/compat
    if isinstance(thing, type) and issubclass(thing, layer.Layer):
        found |= {
            *parameters(layer.Layer),
            *layer.LayerOptions.__annotations__,
            *parameters(getattr(thing, "cell_class", None) or layer.Layer),
        }
    return found


def limits_of(full: str, name: str, thing, theirs, version: int) -> list[str]:
    """What a call that Keras allows raises an error for, or gives other results for."""
    if version == 3:
        calls = table.calls_of(full)
        wrong = [text for text in table.differences(full) if text]
        if wrong:
            sys.exit("\n".join(wrong))
        found = list(dict.fromkeys(call.limit for call in calls if call.limit))
        if any(call.expression.startswith("raises(") for call in calls):  # Keras refuses something too
            return found
        unknown = [] if any(not call.limit for call in calls) else ["no call was compared"]
    else:
        parameter, call, note = REFUSED.get(name, ("", None, ""))
        found, unknown = [], []
        if call is not None and (parameter is None or parameter in theirs):
            try:
                call(thing)
            except (ValueError, TypeError, NotImplementedError):
                found = [note]
            else:
                sys.exit(f"{full} does not refuse the call of REFUSED any more: take it out")
    if not found and name not in SOMEWHERE and (version == 3 or name not in REFUSED) and says_no(thing):
        sys.exit(
            f"{full} refuses something that is not offered or not supported: add a call and the limit to the table"
        )
    return found + unknown


def says_no(thing) -> bool:
    """Whether the code of a class or function raises an error with the words 'not offered' or 'not supported'."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing))))
    except (OSError, TypeError, SyntaxError):
        return False
    errors = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return any("not offered" in error or "not supported" in error for error in errors)


def judged(path: str, name: str, theirs, version: int) -> tuple[str, str]:
    """('supported' | 'partly' | 'not', a note)."""
    full, thing = f"{path}.{name}", table.find("nbkeras" if version == 3 else "keras", f"{path}.{name}")
    if thing is None:
        return "not", absent_names.reason(full) or "not written yet"
    limits = limits_of(full, name, thing, theirs or (), version)
    known = callable(thing) and name not in ANY_KEYWORD
    missing = [p for p in theirs or () if p not in accepted(thing) | WITHOUT_MEANING] if known else []
    if missing:
        limits.append("without " + ", ".join(f"`{p}`" for p in missing))
    return ("partly", "; ".join(limits)) if limits else ("supported", "")


@functools.cache
def results(version: int) -> tuple[str, dict]:
    """The version of Keras, and {namespace: {name: verdict}}."""
    known = json.loads((HERE / f"keras_{version}_names.json").read_text(encoding="utf-8"))
    if version == 2:
        nbkeras.install_as_keras(version=2)
    return known["version"], {
        path: {name: judged(path, name, theirs, version) for name, theirs in names.items()}
        for path, names in known["names"].items()
        if names
    }


def counts(verdicts) -> tuple[int, int, int]:
    kinds = [kind for kind, _ in verdicts]
    return kinds.count("supported"), kinds.count("partly"), kinds.count("not")


def section(version: int):
    """The lines of the document for one version of Keras."""
    number, namespaces = results(version)
    everything = [verdict for names in namespaces.values() for verdict in names.values()]
    yield f"## Keras {number}"
    yield ""
    yield "{} names supported, {} partly, {} not.".format(*counts(everything))
    if version == 3:
        called = [call for call in table.calls() if table.find("nbkeras", call.name) is not None]
        yield f"{len(called)} calls were compared with Keras {number}, of {len({call.name for call in called})} objects."
    yield ""
    yield "| namespace | supported | partly | not |"
    yield "|---|---|---|---|"
    for path, names in namespaces.items():
        yield "| `{}` | {} | {} | {} |".format(path, *counts(names.values()))
    for path, names in namespaces.items():
        yield ""
        yield f"### `{path}`" + ("" if version == 3 else f" of Keras {number}")
        yield ""
        supported = [name for name, (kind, _) in names.items() if kind == "supported"]
        if supported:
            yield f"Supported: `{', '.join(supported)}`."  # as one piece of code: a tag for each name would make the page heavy
        for kind, title in (("partly", "Partly"), ("not", "Not")):
            by_note: dict[str, list[str]] = {}
            for name, (found, note) in names.items():
                if found == kind:
                    by_note.setdefault(note, []).append(name)
            if by_note:
                yield ""
                yield f"{title}:"
                yield ""
                yield from (f"- `{', '.join(noted)}`: {note}" for note, noted in by_note.items())


def document() -> str:
    lines = [
        "# Keras's names",
        "",
        "Made by `scripts/make_parity.py` from the public names of Keras 3 and Keras 2.3.1 (`scripts/keras_names.py`). A name of",
        "Keras 3 is *supported* if it has every parameter that it has in Keras, and calls of it gave the results of Keras",
        "(dtypes, shapes, and values to 1e-5 of each, or 1e-6 of the largest of an array): the table in `tests/parity/calls`.",
        "Of random numbers, the calls compare shapes, moments and ranges; of functions that need a network, such as `load_data`",
        "of the data sets, only the parameters and their defaults. A name is *partly* supported if it has only some of the",
        "parameters, if a call differs, with the difference, or if no call of it was compared. A name of Keras 2 is *supported*",
        "if it has every parameter. Names of Keras 3 are looked up in `nbkeras` (those of `keras.ops.nn`, `numpy` and so on in",
        "`nbkeras.ops`), names of Keras 2 after `nbkeras.install_as_keras(version=2)`. `keras.applications` (architectures with",
        "weights to download), `keras.legacy` and the names of Keras 1 are left out.",
        "",
        *section(3),
        "",
        *section(2),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    text = document()
    for version in (3, 2):
        number, namespaces = results(version)
        print(f"Keras {number}:", *counts(v for names in namespaces.values() for v in names.values()))
    if "--check" in sys.argv:
        if text != DOCUMENT.read_text(encoding="utf-8"):
            sys.exit(f"{DOCUMENT} is out of date: run python scripts/make_parity.py")
    else:
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
