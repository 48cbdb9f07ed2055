"""Floor 1: names that are imported when first asked for, so that `import nbkeras` takes no longer for all that it has.

A package's `__init__` imports what most programs use; the rest of its public names stand in one table of modules.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbkeras.registry import Registry


def names(
    package: str, known: Iterable[str], modules: Mapping[str, str], registry: Registry | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, for names of its modules that are imported on demand.

    known: the names there already. modules: the names of each module, as one string; '' for a name that is itself a module.
    registry: whose names they are too, so that a configuration finds them.
    """
    where = {name: module for module, several in modules.items() for name in several.split()}
    public = sorted({name for name in known if not name.startswith("_")} | set(where))
    if registry is not None:
        registry.later({name: f"{package}.{module}" for name, module in where.items()})

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not where[name]:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{where[name]}"), name)

    return get, lambda: public, public
