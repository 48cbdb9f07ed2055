"""Floor 3: `nbkeras.jit`: a function of arrays that is recorded at its first call and replayed from then on."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from nbkeras.building.layer import Layer
from nbkeras.engine import dlpack, learning_phase, settings, sharding, stateless, structures, tape, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.observed import Observed, observe_all, reachable
from nbkeras.engine.program import Program, current_program
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.rewriting import improved
from nbkeras.engine.side_effects import SideEffects
from nbkeras.engine.tensor import Number, Tensor, Variable, as_tensor
from nbkeras.engine.user_errors import entry, warn
from nbkeras.training.model import Model

if TYPE_CHECKING:
    from nbkeras.inference.session import Frozen

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


class Jitted:
    """A function that `nbkeras.jit` made; see there.

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

    def __get__(self, instance: Any, owner: type | None = None) -> Jitted:
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

    def __copy__(self) -> Jitted:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict) -> Jitted:
        return Jitted(copy.deepcopy(self.function, memo), self.static_argnames)

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (Jitted, (self.function, self.static_argnames))

    def __repr__(self) -> str:
        return f"<nbkeras.jit of {self.__qualname__}>"

    @entry
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state, is_part = tape.thread, tensor.is_step_recorded() or tensor.is_shapes_only() or stateless.is_holding()
        call = None if is_part or state.tapes or state.is_special else self._call_of(args, kwargs)
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
                if isinstance(part, Layer):
                    part.clear_losses()  # replays do not make them again
            self._note_new_variables(call.key, Variable.made != made)
        result = structures.map_leaves(_as_output, result)
        strange = next((leaf for leaf in structures.flatten(result) if not isinstance(leaf, _OUTPUTS)), None)
        if strange is not None and (program := current_program()) is not None:
            program.value_read(f"a {type(strange).__name__}, which may hold tensors, was returned")
        return _with_masks(result)

    def _note_new_variables(self, key: tuple, are_made: bool) -> None:
        """A first call may build layers; replays would repeat it, so it is recorded again. Later calls may make no variables."""
        program, has_built = current_program(), key in self._builders
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

    def program_of(self, *args: Any, **kwargs: Any) -> Program | None:
        """The program of calls with such arguments; None before the first one, and for a function that runs eagerly.

        Args:
            *args: The arguments of a call.
            **kwargs: Its keyword arguments.
        """
        call = self._call_of(args, kwargs)
        free = [] if call is None else self._cache.replays(call.key, Batch(call.arrays, ALL, 0).signature).free
        return free[-1].program if free else None

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

    # -------------------- inference for other programs and servers --------------------

    def frozen(self, *input_signature: Any, batch_sizes: int | Sequence[int] = (1, 32)) -> Frozen:
        """The function with the present values of its variables, without Python; see `Model.frozen`.

        For a model with its pre- and postprocessing. The first axis of arguments and results is the batch.

        Args:
            *input_signature: The shape of each argument: a tuple, whose floats are float32, an InputSpec, an Input or an
                array; the first size is ignored.
            batch_sizes: The batch sizes to record programs for.

        Returns:
            A `nbkeras.inference.Frozen`, which takes arrays in the order of the arguments.

        Raises:
            ValueError: for a function that needs Python, and for results without a row for each sample.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
            >>> rescaled = keras.jit(lambda pixels: model(pixels / 255.0))
            >>> frozen = rescaled.frozen((None, 2), batch_sizes=4)
            >>> frozen(np.array([[255.0, 0.0]]))
            array([[1.]], dtype=float32)
        """
        return self._as_model(input_signature).frozen(batch_sizes, list(input_signature))

    def export(self, filepath: Any, *input_signature: Any, format: str | None = None, **options: Any) -> None:
        """Write the function with its variables as an ONNX file or a shared library; see `Model.export`.

        Args:
            filepath: The name of the file.
            *input_signature: The shape of each argument, as for `frozen`.
            format: 'onnx' or 'library'; None for a library if the name ends in .so, else ONNX.
            **options: `verbose`, and the options of a library.

        Raises:
            ValueError: for a function that cannot be written in this format.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
            >>> keras.jit(lambda x: ops.argmax(model(x / 255.0), axis=-1)).export("classes.onnx", (None, 2))
            Saved the ONNX model at 'classes.onnx'.
        """
        self._as_model(input_signature).export(filepath, format, input_signature=list(input_signature), **options)

    def _as_model(self, input_signature: tuple) -> _FunctionModel:
        names = [] if self.__signature__ is None else list(inspect.signature(self.function).parameters)
        if not input_signature:
            raise ValueError(f"{self.__name__!r} needs the shape of each argument: f.frozen((None, 3), (None, 5))")
        return _FunctionModel(self, input_signature, names)


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


class _FunctionModel(Model, registered=False):
    """A model that calls a jitted function. names: of the function's arguments."""

    def __init__(self, jitted: Jitted, input_signature: tuple, names: list[str]):
        super().__init__(name=re.sub(r"\W+", "_", jitted.__name__).strip("_") or "function")
        self._function, count = jitted.function, len(input_signature)
        self._parts = [each for each in reachable(jitted.function) if isinstance(each, Layer)]
        self.argument_names = names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]
        shapes = [tuple(getattr(each, "shape", each)) for each in input_signature]
        self.build_shapes, self.built = shapes[0] if len(shapes) == 1 else shapes, True

    def call(self, inputs: Any) -> Any:
        return self._function(*inputs) if isinstance(inputs, list | tuple) else self._function(inputs)


_SYMBOLIC, _ARRAY = object(), "array"


def _taken(leaf: Any, arrays: list[Array | None]) -> Any:
    """Append the array of an argument. Returns what chooses the program: the kind of an array or number, or a fixed value."""
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


@overload
def jit(function: None = None, *, static_argnames: str | Iterable[str] = ()) -> Callable[[Callable], Jitted]: ...
@overload
def jit(function: Callable, *, static_argnames: str | Iterable[str] = ()) -> Jitted: ...
def jit(function: Callable | None = None, *, static_argnames: str | Iterable[str] = ()) -> Any:
    """Record a function at its first call, and replay it from then on: later calls run no Python and are one native call.

    It is for loops of your own: a training step with a GradientTape and an optimizer, a simulation, a search. The function may
    read and write Variables, models, optimizers, metrics and random seeds, use tapes and `nbkeras.autodiff`, and call other
    jitted functions. It takes and returns arrays, tensors, numbers, and nested lists, tuples and dicts of them. A program is
    recorded for each combination of shapes and dtypes. Booleans, strings, None, Variables and other objects choose the program
    too, as `static_argnames` do. Numbers do not: they are values, as arrays are.

    Python code runs only while a program is recorded: `print` shows tensors without values; attributes of your own objects,
    globals and closures are constants, also arrays, which must not be written; losses of `add_loss` exist only inside. nbkeras's
    layers, losses, metrics and optimizers may change: then the function is recorded again.

    If the function changes a list, a set or a number of the Python code around it, or draws from `random` or `numpy.random`,
    replays do not repeat it: one warning says so.

    A function that reads a tensor's value (`if loss > 1:`, `float(loss)`) cannot be recorded: it runs eagerly, and one warning
    names the line. Inside a recorded step, under a tape or in `vmap`, the function is called as it is, so gradients pass
    through it.

    Args:
        function: A function, a method or another callable; None to use `jit(static_argnames=...)` as a decorator.
        static_argnames: The names of arguments whose values choose the program, such as a number of layers: hashable values.

    Returns:
        A `Jitted`, which is called as the function is. `programs()` lists its programs, `clear()` drops them.

    Raises:
        TypeError: for a function that cannot be called, and for a static argument that is not hashable.
        ValueError: for a name in static_argnames that the function does not have.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        >>> optimizer = keras.optimizers.SGD(0.5)
        >>> @keras.jit
        ... def step(x, y):
        ...     with keras.GradientTape() as tape:
        ...         loss = ops.mean(ops.square(model(x) - y))
        ...     optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        ...     return loss
        >>> x = np.ones((4, 1), "float32")
        >>> [round(float(step(x, 2 * x)), 3) for _ in range(3)]
        [4.0, 0.0, 0.0]
    """
    if function is None:
        return functools.partial(Jitted, static_argnames=static_argnames)
    return Jitted(function, static_argnames)
