"""Floor 1: the public names of a module: those that it has, those that are imported when first asked for, and no others.

A module imports what most programs use; the rest of its public names stand in one table of modules, so that `import nbkeras`
takes no longer for all that it has. What Keras has under a name that is missing here is looked up in absent_names.py.
"""

import importlib
import opcode
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbkeras.engine.registry import Registry


def names(
    module: Mapping[str, Any],
    modules: Mapping[str, str] | None = None,
    shows: Sequence[str] = (),
    registry: Registry | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a module, of which `module` is the `globals()`.

    modules: names by the module that has them, as one string; '' for names that are modules themselves. A module within this
    package goes by its own name, another one by its full name. shows: other packages, whose classes and functions are public
    here too where this module imports them. registry: whose names they are too, so that a configuration finds them.
    """
    own = module["__name__"]
    where = {
        name: _full(own, source or name) for source, several in (modules or {}).items() for name in several.split()
    }
    public = sorted({name for name, thing in module.items() if _is_public(name, thing, (own, *shows))} | set(where))
    if registry is not None:
        registry.later(where)

    def get(name: str) -> Any:
        if name not in where:
            raise missing(own, name, sys._getframe(1))
        found = importlib.import_module(where[name])
        return found if where[name] == f"{own}.{name}" else getattr(found, name)

    return get, lambda: public, public


def _full(package: str, module: str) -> str:
    return module if module.startswith("nbkeras.") else f"{package}.{module}"


def _is_public(name: str, thing: Any, packages: Sequence[str]) -> bool:
    """Whether it is a class or function that one of these packages defines, rather than a module or a tool."""
    home = f"{getattr(thing, '__module__', None)}."
    return not name.startswith("_") and callable(thing) and any(home.startswith(f"{each}.") for each in packages)


def _why_absent(name: str) -> str:
    """'nbkeras.x is not offered: ...' of a name of Keras that is left out on purpose, else ''."""
    reason = importlib.import_module("nbkeras.engine.absent_names").reason("keras." + name.partition(".")[2])
    return f"{name} is not offered: {reason}" if reason else ""


def refuse_absent(name: str) -> None:
    """Raise an ImportError that says why, for a name of Keras that is left out on purpose."""
    why = _why_absent(name)
    if why:
        raise ImportError(why, name=name)


def missing(module: str, name: str, asking: Any) -> Exception:
    """The error for a name that is not there: an ImportError for `from nbkeras import x`, which drops the text of others."""
    code = asking.f_code
    probes = name.startswith("__") or code.co_filename.startswith("<frozen importlib")  # by Python, of every module
    why = "" if probes else _why_absent(f"{module}.{name}")
    if why and code.co_code[asking.f_lasti] == opcode.opmap["IMPORT_FROM"]:
        return ImportError(why, name=module)
    if why:
        return AttributeError(why)
    return AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules.get(module))


class _Absent:
    """Says why, where a module is imported that Keras has and nbkeras has not: the last of Python's finders."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith("nbkeras.") and "nbkeras" in sys.modules:
            refuse_absent(name)


sys.meta_path.append(_Absent)  # type: ignore[arg-type]
