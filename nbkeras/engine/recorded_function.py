"""Floor 1: RecordedFunction, a function of arrays that is recorded at its first call and replayed from then on."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

import numpy as np

from nbkeras.engine import dlpack, learning_phase, settings, sharding, stateless, structures, tape, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.observed import Observed, observe_all, reachable
from nbkeras.engine.program import Program
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.recorder import current_recorder
from nbkeras.engine.replays import Replays
from nbkeras.engine.rewriting import improved
from nbkeras.engine.side_effects import SideEffects
from nbkeras.engine.tensor import Number, Tensor, Variable, as_tensor
from nbkeras.engine.user_errors import entry, warn

Array = np.ndarray
_DTYPES = frozenset("?bhilqBHILQfd")  # of arrays that tensors hold as they are
_BY_VALUE = (bool, str, bytes, type(None), complex, slice, range, type(Ellipsis))
_OUTPUTS = (Tensor, *_BY_VALUE, int, float, np.generic, np.dtype, type, Observed)  # other leaves may hold tensors
_INT32 = np.iinfo(np.int32)
_OFTEN = 50  # after this number of recordings, a warning says why


class _Fixed:
    """An argument that chooses the program: by its value, or by its identity."""

    __slots__ = ("value", "key")

    def __init__(self, value: Any, by_value: bool):
        self.value, self.key = value, structures.exact(value) if by_value else id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class _Call(NamedTuple):
    """The arguments of a call: the arrays, what chooses the program, and a function that makes the arguments from tensors."""

    arrays: list[Array | None]
    key: tuple
    arguments: Callable[[list[Tensor]], tuple[tuple, dict]]


class RecordedFunction:
    """A function that is recorded for each kind of arguments and replayed from then on; see `nbkeras.jit`.

    Args:
        function: The function.
        static_argnames: The names of arguments whose values choose the program.
    """

    def __init__(self, function: Callable, static_argnames: str | Iterable[str] = ()):
        names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
        if not callable(function):
            raise TypeError(f"jit takes a function, received {briefly(function)}")
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise TypeError(
                f"jit takes a function that returns its results, but {briefly(function)} is a generator or a coroutine: jit "
                "the function that it calls in each step"
            )
        functools.update_wrapper(self, function, updated=())
        # files may name functions that have this attribute, which must be nbkeras's ops
        self.__dict__.pop("__wrapped__", None)
        self.__name__: str = getattr(function, "__name__", type(function).__name__)
        self.__qualname__: str = getattr(function, "__qualname__", self.__name__)
        try:
            self.__signature__ = inspect.signature(function)
        except (TypeError, ValueError):  # some functions in C have none
            self.__signature__ = None  # type: ignore[assignment]
        self.function, self.static_argnames = function, names
        self._static_positions = self._positions(names)
        self._cache = self._new_cache()
        self._has_warned = False  # of side effects
        self._builders: set[tuple] = set()  # the keys whose last call made variables
        # id of an object -> the object, the programs of the method for it, and their builders
        self._of_objects: dict[int, tuple[weakref.ref, ProgramCache, set[tuple]]] = {}

    def _new_cache(self) -> ProgramCache:
        advice = (
            "name the arguments that choose the computation in static_argnames, or leave nbkeras.jit out (a function that reads "
            "values gains nothing by it)"
        )
        return ProgramCache(f"the function {self.__name__!r}", advice, 16, improved, on_device=True)

    def _positions(self, names: tuple[str, ...]) -> dict[int, str]:
        """The positions of static arguments. Raises ValueError for a name that the function does not have."""
        if not names:
            return {}
        parameters = {} if self.__signature__ is None else self.__signature__.parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        for name in names:
            if name not in parameters and not takes_any:
                raise ValueError(
                    f"static_argnames: {self.__name__!r} has no argument {briefly(name)}; it has {list(parameters)}"
                )
        return {position: name for position, name in enumerate(parameters) if name in names}

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        """The method of an object. Its programs live as long as the object."""
        if instance is None:
            return self
        key = id(instance)
        known = self._of_objects.get(key)
        if known is None or known[0]() is not instance:
            forget = functools.partial(_forget, weakref.ref(self), key)
            known = self._of_objects[key] = weakref.ref(instance, forget), self._new_cache(), set()
        bound = copy.copy(self)
        bound.function, bound._of_objects = types.MethodType(self.function, instance), {}
        _, bound._cache, bound._builders = known
        bound._static_positions = {position - 1: name for position, name in self._static_positions.items()}
        return bound

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict) -> Self:
        return type(self)(copy.deepcopy(self.function, memo), self.static_argnames)

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (type(self), (self.function, self.static_argnames))

    def __repr__(self) -> str:
        return f"<nbkeras.jit of {self.__qualname__}>"

    @entry
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state, is_part = tape.thread, tensor.is_step_recorded() or tensor.is_shapes_only() or stateless.is_holding()
        call = None if is_part or state.tapes or state.leaves_fast_path else self._call_of(args, kwargs)
        if call is None:  # a part of what is recorded, of what a tape watches, or of a symbolic graph
            args, kwargs = structures.map_leaves(_converted, (args, kwargs))
            return self.function(*args, **kwargs)
        batch = Batch(call.arrays, ALL, 0)
        arrays, pack = self._cache.run(functools.partial(self._compute, call), batch, call.key)
        result = pack([Tensor(array) for array in arrays])
        return result if type(result) is not _WithMasks else result.unpacked()

    def _compute(self, call: _Call, tensors: list[Tensor]) -> Any:
        """The function on tensors, once for each program."""
        args, kwargs = call.arguments(tensors)
        if self._cache.recordings == _OFTEN:
            warn(
                f"the function {self.__name__!r} was recorded {_OFTEN} times, and a recording takes much longer than a replay. "
                "It is recorded for each combination of shapes, dtypes and arguments that are not arrays or numbers: give it "
                "arrays of few shapes, and the same objects at each call"
            )
        made, is_recorded = Variable.made, tensor.is_step_recorded()
        effects = SideEffects(self.function) if is_recorded and not self._has_warned else None
        result = self.function(*args, **kwargs)
        if effects is not None:
            self._has_warned = effects.warn(f"the function {self.__name__!r}")
        if is_recorded:
            parts = reachable(self.function, *args, *kwargs.values())
            observe_all(parts)
            for part in parts:
                if isinstance(part, Observed):
                    part.forget_recorded()
            self._note_new_variables(call.key, Variable.made != made)
        result = structures.map_leaves(_as_output, result)
        strange = next((leaf for leaf in structures.flatten(result) if not isinstance(leaf, _OUTPUTS)), None)
        if strange is not None and (program := current_recorder()) is not None:
            program.value_read(f"a {type(strange).__name__}, which may hold tensors, was returned")
        return _with_masks(result)

    def _note_new_variables(self, key: tuple, are_made: bool) -> None:
        """A first call may build layers; replays would repeat it, so it is recorded again. Later calls may make no variables."""
        program, has_built = current_recorder(), key in self._builders
        self._builders.discard(key)  # a key may hold objects
        if program is not None and are_made:
            if has_built:
                program.value_read("Variables were made at each call")
                return
            self._builders.add(key)
            program.outdated = True

    def _call_of(self, args: tuple, kwargs: dict) -> _Call | None:
        """The call; None for symbolic arguments."""
        if self.static_argnames:
            args, kwargs = self._fixed(args, kwargs)
        given: Any = args if not kwargs else (args, kwargs)
        is_flat = not kwargs and not any(map(structures.is_nested, args))
        leaves = args if is_flat else structures.flatten(given)
        arrays: list[Array | None] = []
        marks: list[Any] = []
        for leaf in leaves:
            if type(leaf) is np.ndarray and leaf.dtype.char in _DTYPES:  # the usual argument, without a call
                arrays.append(leaf)
                marks.append(_ARRAY)
                continue
            mark = _taken(leaf, arrays)
            if mark is _SYMBOLIC:
                return None
            marks.append(mark)
        form = len(args) if is_flat else structures.form(given)
        state = tensor.gpu(), learning_phase.thread.training, sharding.current()
        key = form, tuple(marks), state

        def arguments(tensors: list[Tensor]) -> tuple[tuple, dict]:
            source = iter(tensors)
            made = structures.pack(given, [_given(mark, source) for mark in marks])
            return (made, {}) if given is args else made

        return _Call(arrays, key, arguments)

    def _fixed(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments with the static ones wrapped."""
        fixed = [
            self._by_value(self._static_positions[i], each) if i in self._static_positions else each
            for i, each in enumerate(args)
        ]
        named = {k: self._by_value(k, each) if k in self.static_argnames else each for k, each in kwargs.items()}
        return tuple(fixed), named

    def _by_value(self, name: str, value: Any) -> _Fixed:
        made = _Fixed(value, by_value=True)
        try:
            hash(made)
        except TypeError:
            raise TypeError(
                f"{self.__name__}: the static argument {name!r} must be hashable, because its value chooses the program; "
                f"received {briefly(value)}: pass a tuple instead of a list"
            ) from None
        return made

    def programs(self) -> list[Program]:
        """The recorded programs, the most recently used last. For a method: of this object.

        Example:
            >>> @keras.jit
            ... def doubled(x):
            ...     return 2 * x
            >>> y = doubled(np.ones(3)), doubled(np.ones(4)), doubled(np.zeros(3))
            >>> len(doubled.programs())
            2
        """
        return self._cache.programs()

    def replays_of(self, *args: Any, **kwargs: Any) -> Replays | None:
        """The program of calls with such arguments, with its instances; None before the first one, and if it runs eagerly.

        Args:
            *args: The arguments of a call.
            **kwargs: Its keyword arguments.
        """
        call = self._call_of(args, kwargs)
        return None if call is None else self._cache.replays(call.key, Batch(call.arrays, ALL, 0).signature)

    def clear(self) -> None:
        """Drop the programs, with their memory. The next call records again.

        Example:
            >>> doubled = keras.jit(lambda x: 2 * x)
            >>> y = doubled(np.ones(3))
            >>> doubled.clear()
            >>> doubled.programs()
            []
        """
        self._cache.drop()


class _WithMasks(list):
    """[result, the masks of its tensors]: the outputs of a function if any of them has a mask."""

    def unpacked(self) -> Any:
        """The result, its tensors with their masks."""
        result, masks = self
        for leaf, mask in zip(structures.flatten(result), masks, strict=True):
            if mask is not None:
                leaf.mask = mask
        return result


def _with_masks(result: Any) -> Any:
    masks = [getattr(leaf, "mask", None) for leaf in structures.flatten(result)]
    return result if all(mask is None for mask in masks) else _WithMasks([result, masks])


def _converted(leaf: Any) -> Any:
    return as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf


def _as_output(leaf: Any) -> Any:
    """An output of a function: arrays become tensors, and Numbers get a dtype."""
    return as_tensor(leaf) if isinstance(leaf, Number | np.ndarray) else leaf


_SYMBOLIC, _ARRAY = object(), "array"


def _taken(leaf: Any, arrays: list[Array | None]) -> Any:
    """Append the argument's array. Returns its part of the program's key: the kind of an array or number, or a fixed value."""
    kind = type(leaf)
    if kind is Tensor:
        found = [tensor.brought(each).data for each in (leaf, leaf.mask) if each is not None]
        arrays += found
        return _ARRAY if len(found) == 1 else "masked"
    if isinstance(leaf, Tensor) and leaf.is_half and not isinstance(leaf, Variable):
        arrays.append(leaf.data)
        return leaf.dtype
    if kind is float or isinstance(leaf, np.floating):  # NumPy's scalars are weak too
        arrays.append(np.array(leaf, np.float64))
        return float
    if kind is int:
        arrays.append(array_of(leaf, "int64"))
        return "int32" if _INT32.min <= leaf <= _INT32.max else "int64"
    if isinstance(leaf, _Fixed):
        return leaf
    if hasattr(leaf, "symbolic_op"):
        return _SYMBOLIC
    if isinstance(leaf, Number):
        return _taken(Tensor(leaf.data), arrays)
    if isinstance(leaf, _BY_VALUE):
        return _Fixed(leaf, by_value=True)
    if getattr(getattr(leaf, "dtype", None), "name", None) in settings.HALVES and not isinstance(leaf, Variable):
        return _taken(as_tensor(leaf), arrays)
    if isinstance(leaf, np.ndarray | np.generic) or hasattr(leaf, "__array__") and not isinstance(leaf, Variable):
        arrays.append(array_of(np.asarray(dlpack.on_host(leaf))))
        return _ARRAY
    return _Fixed(leaf, by_value=False)


def _given(mark: Any, source: Any) -> Any:
    """The argument for a mark of `_taken`."""
    if isinstance(mark, _Fixed):
        return mark.value
    found = next(source)
    if mark is float or mark in ("int32", "int64"):
        return Number(found.data, wide=mark == "int64")
    if not isinstance(mark, str):
        return tensor.halves.marked(found, mark)
    if mark == "masked":
        found.mask = next(source)
    return found


def _forget(owner: weakref.ref, key: int, gone: weakref.ref) -> None:
    jitted = owner()
    if jitted is not None and jitted._of_objects.get(key, (None,))[0] is gone:
        del jitted._of_objects[key]
