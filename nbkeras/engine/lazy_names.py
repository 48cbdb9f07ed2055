"""Floor 1: the public names of a module. Some are imported only when they are first used.

A module imports the names that most programs use. It imports the others under `if TYPE_CHECKING:`, for editors and type
checkers; Python skips that block, and `attach` reads its lines from the source. So `import nbkeras` does not become slower with
every name. Each name has a line, `from nbkeras.layers.wrapper import Wrapper as Wrapper`: `as` with the same name makes an
imported name public, for type checkers too. absent_names.py has the reasons for names of Keras that are omitted on purpose.
"""

import functools
import importlib
import opcode
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from nbkeras.engine.registry import Registry
from nbkeras.kernels.runtime.lazy import LazyModule as LazyModule

_REEXPORT = re.compile(r"^ *from (\S+) import (?:\(\s*)?(\w+) as \2\b", re.MULTILINE)


def attach(module: dict[str, Any], *registries: Registry) -> None:
    """Give a module its `__getattr__`, `__dir__` and `__all__`. It must be the module's last statement.

    module: its `globals()`. registries: the registries of its classes and functions, so that configurations find names that are
    not imported yet.
    """
    own, spec = module["__name__"], module["__spec__"]
    shown = {name: source for source, name in _REEXPORT.findall(spec.loader.get_data(spec.origin).decode())}
    lazy = {name: source for name, source in shown.items() if name not in module}
    defined = [name for name, thing in module.items() if name not in shown and _is_own(name, thing, own, registries)]
    public = sorted([*shown, *defined])
    for registry in registries:
        registry.later({name: source for name, source in lazy.items() if source != own})

    def get(name: str) -> Any:
        if name not in lazy:
            raise missing(own, name, sys._getframe(1))
        if lazy[name] == own:
            return importlib.import_module(f"{own}.{name}")
        module[name] = value = getattr(importlib.import_module(lazy[name]), name)
        return value

    module.update(__getattr__=get, __dir__=lambda: public, __all__=public)


def attach_names_of(module: dict[str, Any], other: ModuleType) -> None:
    """Give a module the public names of another module."""
    module.update(__getattr__=functools.partial(getattr, other), __dir__=other.__dir__, __all__=dir(other))


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
    # Python itself looks up some names in every module
    probes = name.startswith("__") or code.co_filename.startswith("<frozen importlib")
    why = "" if probes else _absence_message(f"{module}.{name}")
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
