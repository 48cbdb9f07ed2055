"""Modules that are imported when they are used. Numba and llvmlite are imported only when something is compiled.

`ir`, `types`, `cgutils`, `binding` and `arrayobj` are modules that are imported on the first use of an attribute. `intrinsic`
and `overload` are Numba's decorators, and `emitted` is a short form of `intrinsic`; their results are registered with Numba when
something that uses them is compiled.
"""

import functools
import importlib
import inspect
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


def emitted(types_of: Callable[..., Any], prefer_literal: bool = False) -> Callable[[Callable], Any]:
    """A function for kernels, by the function that emits its code: emit(context, builder, signature, *values of the arguments).

    types_of: returns Numba's signature for the types of the arguments, or None if they do not fit. emit returns the result; None
    for a function that returns nothing.
    """

    def decorate(emit: Callable) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            result = emit(context, builder, signature, *values)
            return context.get_dummy_value() if result is None else result

        def define(typing: Any, *given: Any) -> Any:
            signature = types_of(*given)
            return None if signature is None else (signature, generate)

        def register() -> Any:
            own = inspect.signature(emit)
            # Numba drops the first parameter, and takes the others for those of the function
            define.__signature__ = own.replace(parameters=list(own.parameters.values())[2:])  # type: ignore[attr-defined]
            define.__name__ = emit.__name__
            return _extending.intrinsic(prefer_literal=prefer_literal)(define)

        return _Registered(register, emit)

    return decorate


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
