"""Floor 1: the public names of a module. They follow from the modules that define them, and are imported when they are used.

A module shows what it defines, and the names of two kinds of lines:

`from nbkeras.layers.wrapper import Wrapper as Wrapper`: one name. At the top of the file it is imported with the module.
`from nbkeras.layers.pooling import *`: each function, class and assigned name of that module that has no leading underscore.

Most of these lines are under `if TYPE_CHECKING:`: editors and type checkers follow them, and Python skips them. `attach` reads
the lines and the modules' sources when a name is missing for the first time. So `import nbkeras` does not become slower with
every name, and a new function needs no line elsewhere. absent_names.py has the reasons for names of Keras that are omitted on
purpose.
"""

import functools
import importlib
import importlib.machinery
import importlib.util
import opcode
import re
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any

from nbkeras.engine.registry import Registry
from nbkeras.kernels.runtime.lazy import LazyModule as LazyModule

_LINE = re.compile(r"^ *from (\S+) import (?:\(\s*)?(?:(\w+) as \2\b|(\*))", re.MULTILINE)
_DEFINED = re.compile(r"\n(?:(?:def|class) (\w+)|(\w+(?:(?:, | = )\w+)*)(?:: .+)? = )")


def attach(module: dict[str, Any], *registries: Registry) -> None:
    """Give a module its `__getattr__`, `__dir__` and `__all__`. It must follow all definitions of the module.

    module: its `globals()`. registries: the registries of its classes and functions, so that configurations find names that are
    not imported yet.
    """
    own, spec, present = module["__name__"], module["__spec__"], frozenset(module)
    defined = {name for name, thing in module.items() if _is_own(name, thing, own, registries)}

    @functools.cache
    def shown() -> dict[str, str]:
        """Name -> the module that has it, of what the lines in the source show."""
        found: dict[str, str] = {}
        for source, name, star in _LINE.findall(_source(spec)):
            found |= dict.fromkeys(_names_of(source) if star else [name], source)
        return found

    def get(name: str) -> Any:
        if name == "__all__":
            return sorted({*shown(), *defined})
        asking = sys._getframe(1)
        asked_by_python = _is_asked_by_python(name, asking.f_code)
        # `from nbkeras.ops import reduce` asks for the attribute before it imports the module
        is_module = asked_by_python and _is_module(f"{own}.{name}", module.get("__path__"))
        source = None if name.startswith("__") or is_module else shown().get(name)
        if source is None:
            raise missing(own, name, asking)
        if source == own:
            return importlib.import_module(f"{own}.{name}")
        module[name] = value = getattr(importlib.import_module(source), name)
        return value

    def later() -> dict[str, str]:
        return {name: source for name, source in shown().items() if name not in present and source != own}

    for registry in registries:
        registry.later(later)
    module.update(__getattr__=get, __dir__=lambda: get("__all__"))


def attach_names_of(module: dict[str, Any], other: ModuleType) -> None:
    """Give a module the public names of another module."""
    module.update(__getattr__=functools.partial(getattr, other), __dir__=other.__dir__)


def _source(spec: Any) -> str:
    return spec.loader.get_data(spec.origin).decode()


def _names_of(module: str) -> list[str]:
    """The public names that a module defines, from its source: the module is not imported."""
    found = (name for pair in _DEFINED.findall(_source(importlib.util.find_spec(module))) for name in pair)
    names = (name for each in found for name in re.split(", | = ", each))
    return [name for name in names if name and not name.startswith("_")]


def _is_asked_by_python(name: str, code: CodeType) -> bool:
    """Whether Python itself looks up the name: it does so with some names in every module, and when it imports modules."""
    return name.startswith("__") or code.co_filename.startswith("<frozen importlib")


def _is_module(name: str, path: Any) -> bool:
    return path is not None and importlib.machinery.PathFinder.find_spec(name, path) is not None


def _is_own(name: str, thing: Any, module: str, registries: Sequence[Registry]) -> bool:
    """Whether an object is a public class or function of the module or package, or a method of one of its registries."""
    if name.startswith("_") or not callable(thing):
        return False
    return (
        f"{getattr(thing, '__module__', None)}.".startswith(f"{module}.")
        or getattr(thing, "__self__", None) in registries
    )


def _absence_message(name: str) -> str:
    """'nbkeras.x is not offered: ...' for a name of Keras that is omitted on purpose, else ''."""
    reason = importlib.import_module("nbkeras.engine.absent_names").reason("keras." + name.partition(".")[2])
    return f"{name} is not offered: {reason}" if reason else ""


def refuse_absent(name: str) -> None:
    """Raise an ImportError with the reason for a name of Keras that is omitted on purpose."""
    why = _absence_message(name)
    if why:
        raise ImportError(why, name=name)


def missing(module: str, name: str, asking: Any) -> Exception:
    """The error for a missing name. For `from nbkeras import x` an ImportError: Python hides the message of other errors."""
    code = asking.f_code
    why = "" if _is_asked_by_python(name, code) else _absence_message(f"{module}.{name}")
    if why and code.co_code[asking.f_lasti] == opcode.opmap["IMPORT_FROM"]:
        return ImportError(why, name=module)
    if why:
        return AttributeError(why)
    return AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules.get(module))


class _Absent:
    """The last of Python's finders. It raises the reason if a module of Keras is imported that nbkeras omits."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith("nbkeras.") and "nbkeras" in sys.modules:
            refuse_absent(name)


sys.meta_path.append(_Absent)  # type: ignore[arg-type]
