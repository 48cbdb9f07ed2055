"""Modules that are imported when they are used. Numba and llvmlite are imported only when something is compiled.

`ir`, `types`, `cgutils`, `binding` and `arrayobj` are modules that are imported on the first use of an attribute. `intrinsic`
and `overload` are Numba's decorators; their results are registered with Numba when something that uses them is compiled.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from nbkeras.kernels.runtime import fork_safety


class LazyModule:
    """A module that is imported when it is used: `rules = LazyModule("nbkeras.autodiff.rules")`. It keeps what it has found."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self.load(), attribute)
        setattr(self, attribute, value)  # so that later look-ups do not call this method
        return value

    def load(self) -> Any:
        """Import the module."""
        return importlib.import_module(self._name)


ir: Any = LazyModule("llvmlite.ir")
binding: Any = LazyModule("llvmlite.binding")
types: Any = LazyModule("numba.types")
cgutils: Any = LazyModule("numba.core.cgutils")
arrayobj: Any = LazyModule("numba.np.arrayobj")
registry: Any = LazyModule("numba.core.registry")
serialize: Any = LazyModule("numba.core.serialize")
_extending: Any = LazyModule("numba.extending")


class _Registered:
    """A function for kernels. Numba reads `_numba_type_` when it compiles a kernel that calls the function."""

    def __init__(self, register: Callable[[], Any], function: Any):
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self._register = register

    @fork_safety.cached_property
    def _numba_type_(self) -> Any:
        registered, context = self._register(), registry.cpu_target.typing_context
        context.refresh()
        return context.resolve_value_type(registered)


def intrinsic(function: Any = None, **options: Any) -> Any:
    """Returns `numba.extending.intrinsic(function)`, made on first use."""
    if function is None:
        return functools.partial(intrinsic, **options)

    def register() -> Any:
        return _extending.intrinsic(**options)(function) if options else _extending.intrinsic(function)

    return _Registered(register, function)


def overload(**options: Any) -> Callable[[Callable], Any]:
    """A function for kernels whose implementation depends on the types of its arguments; see numba.extending.overload."""

    def decorate(function: Callable) -> Any:
        def register() -> Callable:
            def named_in_messages() -> None: ...

            named_in_messages.__name__ = function.__name__
            _extending.overload(named_in_messages, **options)(function)
            return named_in_messages

        return _Registered(register, function)

    return decorate
