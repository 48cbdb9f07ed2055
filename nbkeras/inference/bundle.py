"""Bundle: a model's inference as plain data, and the file that holds it.

A file has a header, a JSON object and the constants, which start at a multiple of 4096 bytes so that processes can map them.
docs/deploy.md describes the format. A file can come from a stranger: everything that it claims is checked before it is used.
Launches name kernels of nbkeras and functions of a fixed list; a kernel of another module is imported only with
safe_mode=False.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pickle
import struct
import types
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

from nbkeras.engine import settings, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.layer_stack import LayerScope
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.program import ARENA, CONST, INPUT, OUTPUT, Memory, Program
from nbkeras.inference.constants import ALIGNMENT, Key, with_constants
from nbkeras.kernels import linalg
from nbkeras.kernels.interpreter.chains import Chain
from nbkeras.kernels.interpreter.launches import Joined
from nbkeras.kernels.runtime import cache, code, device
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.ref import Ref
from nbkeras.saving.archive import FROZEN, JSON_LIMIT, OLD_FROZEN, atomic_file, parse_json

Array = np.ndarray

_FORMAT = 2
_HEADER = struct.Struct("<16sIQ32s")  # magic, format, the number of bytes of the JSON, their SHA-256
_PAGE = 4096
_MAX_AXES = 64  # of NumPy
_KERNELS = "nbkeras.kernels."

# Functions of nbkeras.kernels that run NumPy and that a launch may name, by module
_FUNCTIONS = {
    "convolution.implicit_gemm": "transpose_matrices",
    "convolution.integers": "convolve",
    "elementwise": "clip_between larger print_array round_half_even select",
    "fourier": "analyze synthesize transform transform_real transform_real_back",
    "half": "bfloat16 float16",
    "indexing": "gather gather_along largest_first order",
    "linalg": "diagonalize factor",
    "metrics": "ratio",
    "random": "below",
    "reduce": "accumulate find_largest fold keep_finite products_before",
    "runtime.device": "copy fill",
    "scattering": "combine_rows number_rows search_sorted",
    "shape": "concatenate_into",
    "special": "compute_bessel",
}


class TensorSpec(NamedTuple):
    """An input or an output: its name, its shape (None for the number of rows) and its dtype.

    Args:
        name: The name.
        shape: The sizes of the axes; the first one is None.
        dtype: A NumPy dtype.

    Example:
        >>> keras.Sequential([layers.Dense(2, name="scores", input_shape=(3,))]).frozen().outputs
        (TensorSpec(name='scores', shape=(None, 2), dtype=dtype('float32')),)
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype


class StateSpec(NamedTuple):
    """The state that a model keeps from step to step.

    is_sequence: for each input, whether axis 1 is the steps. has_steps: the same for each output. start: the state of a new
    sequence, among the constants. limit: the maximum number of steps of a sequence, or None.
    """

    is_sequence: tuple[bool, ...]
    has_steps: tuple[bool, ...]
    start: Ref
    limit: int | None


class BundleSpec(NamedTuple):
    """A model as callers see it.

    structures: of the inputs and outputs. tables: (input, rows, layer) of each table that an input's numbers index.
    is_by_rows: whether the rows of a batch are independent. state: None for a model that keeps nothing.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    structures: tuple[Any, ...]
    tables: tuple[tuple[int, int, str], ...]
    is_by_rows: bool
    state: StateSpec | None = None


_STRUCTURES: dict[str, Any] = {"ordered": OrderedDict, "dict": dict, "deque": deque, "tuple": tuple, "list": list}


class Bundle(NamedTuple):
    """A model's inference: its description, its programs by the numbers of rows and steps, and their constants.

    host: the part for strings; see host_part.py.
    """

    spec: BundleSpec
    programs: dict[Key, Program]
    constants: Array
    host: str | None = None

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Pickle the JSON object, and the constants as a buffer that protocol 5 can keep out of the pickle."""
        try:
            text = json.dumps(_Writer().bundle(self)).encode()
        except ValueError as error:
            raise pickle.PicklingError(str(error)) from None
        content: Any = self.constants
        return _unpickled, (text, pickle.PickleBuffer(content) if int(protocol) >= 5 else content.tobytes())


def _unpickled(text: bytes, constants: Any) -> Bundle:
    return _Reader("the pickle", True, _aligned(np.frombuffer(constants, np.uint8))).bundle(json.loads(text))


def _aligned(array: Array) -> Array:
    """The array, or an aligned and writable copy, since kernels were compiled for such weights."""
    if array.flags.writeable and device.address(array) % ALIGNMENT == 0:
        return array
    with device.on(None):
        return device.persistent_copy(array)


# -------------------- files --------------------


def save(bundle: Bundle, filepath: Any) -> None:
    """Write a file that `load` reads, atomically. Other users cannot write into it."""
    constants = bundle.constants
    about = _Writer().bundle(bundle)
    about["constants"] = {"bytes": constants.nbytes, "sha256": hashlib.sha256(constants.data).hexdigest()}
    text = json.dumps(about, separators=(",", ":")).encode()
    with atomic_file(filepath) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~0o022)
        file.write(_HEADER.pack(FROZEN, _FORMAT, len(text), hashlib.sha256(text).digest()) + text)
        file.write(bytes(-file.tell() % _PAGE))
        file.write(constants.data)


def load(filepath: Any, safe_mode: bool = True, mapped: bool = False) -> Bundle:
    """Read a file of `save`; see `Frozen.load`."""
    name = os.fspath(filepath)
    with open(name, "rb", opener=ordinary_file) as file:
        return read(file, name, safe_mode, mapped)


def read(file: Any, name: str, safe_mode: bool = True, mapped: bool = False) -> Bundle:
    """As `load`, from an open file. name: for error messages."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if header.startswith(OLD_FROZEN):
        raise ValueError(
            f"{name!r} is a frozen model of an earlier version of nbkeras, which holds a pickle: freeze the model again, from "
            "its .keras file"
        )
    if not header.startswith(FROZEN[: len(header)]) or not header:
        raise ValueError(f"{name!r} is {'not a frozen model, as Frozen.save writes it' if header else 'empty'}")
    damaged = ValueError(f"{name!r} is damaged, or was not copied completely: save the frozen model again")
    if len(header) < _HEADER.size:
        raise damaged
    _, number, length, digest = _HEADER.unpack(header)
    if number != _FORMAT:
        raise ValueError(
            f"{name!r} has format {number}, and this version of nbkeras reads format {_FORMAT}: freeze again"
        )
    _check_owner(file.fileno(), name)
    if length > min(JSON_LIMIT, os.fstat(file.fileno()).st_size):
        raise damaged
    text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise damaged
    try:
        about = parse_json(text, "its description")
        claimed, sha256 = about["constants"]["bytes"], about["constants"]["sha256"]
    except (ValueError, KeyError, TypeError):
        raise damaged from None
    start = _HEADER.size + length
    constants = _content(file, start + -start % _PAGE, claimed, mapped)
    if constants is None or hashlib.sha256(constants.data).hexdigest() != sha256:
        raise damaged
    return _Reader(name, not safe_mode, constants).bundle(about)


def _content(file: Any, start: int, nbytes: Any, mapped: bool) -> Array | None:
    """The bytes from `start` to the end of a file, in private memory or mapped; None if these are not `nbytes` bytes."""
    if nbytes != os.fstat(file.fileno()).st_size - start or nbytes < 1:
        return None
    if mapped:  # private: writes do not reach the file
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8, nbytes, start)
    with device.on(None):
        found = device.persistent_empty((nbytes,), np.uint8)
    file.seek(start)
    return found if file.readinto(found.data) == nbytes else None


def _check_owner(file: int, name: str) -> None:
    """Raise PermissionError for a file that another user could have written: its numbers choose what kernels do."""
    if not hasattr(os, "geteuid"):  # on Windows
        return
    found = os.fstat(file)
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(
            f"{name!r} belongs to another user (number {found.st_uid}), and kernels do not check what a frozen model tells "
            "them: freeze the model again"
        )
    if found.st_mode & 0o022:
        raise PermissionError(
            f"other users can write {name!r} (mode {found.st_mode & 0o777:o}), and kernels do not check what a frozen model "
            "tells them: chmod go-w"
        )


# -------------------- the description --------------------


class _Wrong(Exception):
    """The description contradicts itself or the file."""


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise _Wrong(what)


def _written(value: Any) -> Any:
    """Tuples of numbers, strings, dtypes and tuples as lists."""
    if isinstance(value, np.dtype):
        return np.lib.format.dtype_to_descr(value)
    return list(map(_written, value)) if isinstance(value, tuple) else value


def _read(kind: Any, value: Any) -> Any:
    """The value of a type that `_written` wrote: a number, a string, a dtype, a tuple, a NamedTuple, or one of these or None."""
    inner = get_args(kind)
    if isinstance(kind, types.UnionType):
        return None if value is None else _read(inner[0], value)
    if get_origin(kind) is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(_read(*pair) for pair in zip(kinds, value, strict=True))
    if hasattr(kind, "_fields"):
        return kind(*(_read(*pair) for pair in zip(get_type_hints(kind).values(), value, strict=True)))
    if kind is np.dtype:
        dtype = np.lib.format.descr_to_dtype([tuple(field) for field in value] if isinstance(value, list) else value)
        _require(dtype.kind in "biufcV" and not dtype.hasobject and dtype.itemsize > 0, f"the dtype {briefly(value)}")
        return dtype
    _require(kind is Any or type(value) is kind, f"expected {kind}, received {briefly(value)}")
    return value


def _structure_written(structure: Any) -> Any:
    """A structure of numbers: a list as a list, others with their kind. A namedtuple becomes a tuple."""
    if type(structure) is list or not structures.is_nested(structure):
        return list(map(_structure_written, structure)) if isinstance(structure, list) else structure
    kind = next(name for name, each in _STRUCTURES.items() if isinstance(structure, each))
    if not isinstance(structure, dict):
        return {kind: list(map(_structure_written, structure))}
    if not all(isinstance(key, str) for key in structure):
        raise ValueError(f"the keys of a frozen model's inputs and outputs must be strings, received {list(structure)}")
    return {kind: [[key, _structure_written(value)] for key, value in structure.items()]}


def _structure_read(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_structure_read, value))
    if not isinstance(value, dict):
        return _read(int, value)
    ((kind, items),) = value.items()
    if issubclass(_STRUCTURES[kind], dict):
        return _STRUCTURES[kind]((_read(str, key), _structure_read(item)) for key, item in items)
    return _STRUCTURES[kind](map(_structure_read, items))


class _Writer:
    """Describes a bundle by objects that JSON has. Refs and functions are in tables, since launches share them."""

    def __init__(self) -> None:
        self._refs: dict[Ref, int] = {}
        self._functions: dict[str, int] = {}
        self._stamps: dict[str, str] = {}

    def bundle(self, bundle: Bundle) -> dict[str, Any]:
        written = list(map(_structure_written, bundle.spec.structures))
        about = {
            "version": settings.VERSION,
            "model": _written(bundle.spec._replace(structures=())),
            "structures": written,
            "host": bundle.host,
            "programs": [[*key, self._program(program)] for key, program in bundle.programs.items()],
        }
        functions = [json.loads(text) for text in self._functions]
        return about | {"refs": _written(tuple(self._refs)), "functions": functions, "stamps": self._stamps}

    def _program(self, program: Program) -> dict[str, Any]:
        return {
            "memories": _written(tuple(program.memories)),
            "inputs": list(map(self._ref, program.inputs)),
            "outputs": list(map(self._ref, program.outputs)),
            "launches": [[self._function(function), *map(self._argument, args)] for function, args in program.launches],
        }

    def _ref(self, ref: Ref) -> int:
        return self._refs.setdefault(ref, len(self._refs))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return {"array": self._ref(value)}
        if isinstance(value, np.generic):
            return {"number": [value.dtype.str, repr(value.item())]}
        if isinstance(value, float):
            return {"number": ["float", repr(value)]}  # JSON has no infinity
        if isinstance(value, tuple):
            return list(map(self._argument, value))
        if isinstance(value, np.ufunc):
            return {"function": self._function(value)}
        if value is None or isinstance(value, bool | int | str):
            return value
        raise ValueError(
            f"a kernel's argument cannot be saved, since it is no array, number or string: {briefly(value)}"
        )

    def _function(self, function: Any) -> int:
        return self._functions.setdefault(json.dumps(self._described(function)), len(self._functions))

    def _described(self, function: Any) -> list:
        if isinstance(function, device.Conditional):
            return ["if", function.flags, self._function(function.function)]
        if isinstance(function, Joined):
            return ["chain", str(function.chain)]
        if isinstance(function, linalg.LinalgKernel):
            return ["linalg", function.__name__, function.inputs, function.constants]
        if isinstance(function, np.ufunc):
            return ["numpy", function.__name__]
        kernel = getattr(function, "kernel", function)
        module, name = getattr(kernel, "__module__", ""), getattr(kernel, "__qualname__", "")
        if cache.named(module, name) is not kernel:
            raise ValueError(
                f"the kernel {named(kernel)} cannot be pickled or saved, as another process would not find it: define it at the "
                "top level of a module, under its own name"
            )
        if not isinstance(kernel, cache.Kernel):
            return ["function", module, name]
        self._stamps[module] = _stamp(kernel)
        return ["kernel" if function is kernel else "shared", module, name]


class _Reader:
    """Reads and checks a description.

    is_trusted: whether kernels of any module may be imported. constants: their bytes.
    """

    def __init__(self, name: str, is_trusted: bool, constants: Array):
        self._name, self._is_trusted, self._constants = name, is_trusted, constants
        self._refs: tuple[Ref, ...] = ()
        self._functions: list[Any] = []

    def bundle(self, about: Any) -> Bundle:
        """The bundle. Raises ValueError for a description that is not from this version, or is wrong."""
        if isinstance(about, dict) and about.get("version") != settings.VERSION:
            raise ValueError(
                f"{self._name!r} is from nbkeras {briefly(about.get('version'))}, and this is {settings.VERSION}: freeze the "
                "model again, from its .keras file"
            )
        try:
            return self._bundle(about)
        except _Refused as error:
            raise ValueError(str(error)) from None
        # no other code reads the description, so whatever it raises is about the description
        except Exception as error:
            raise ValueError(
                f"{self._name!r} is damaged: its description is wrong ({type(error).__name__}: {briefly(str(error))}). Freeze "
                "the model again"
            ) from None

    def _bundle(self, about: dict[str, Any]) -> Bundle:
        self._refs = _read(tuple[Ref, ...], about["refs"])
        for row in about["functions"]:
            self._functions.append(self._function(row, about["stamps"]))
        spec = _read(BundleSpec, about["model"])._replace(structures=tuple(map(_structure_read, about["structures"])))
        programs = {}
        for rows, steps, program in about["programs"]:
            _require(_read(int, rows) > 0 and _read(int, steps) > 0, "the size of a program")
            programs[rows, steps] = self._program(program)
        _check(spec, programs, self._constants.nbytes)
        for program in programs.values():
            with_constants(program, self._constants)
        return Bundle(spec, programs, self._constants, _read(str | None, about.get("host")))

    def _program(self, about: dict[str, Any]) -> Program:
        inputs, outputs = ([self._refs[_read(int, number)] for number in about[name]] for name in ("inputs", "outputs"))
        launches = []
        for number, *args in about["launches"]:
            function, given = self._functions[_read(int, number)], tuple(map(self._argument, args))
            if isinstance(function, np.ufunc):  # NumPy crashes for a number in place of an output
                results = given[function.nin :]
                _require(len(results) == function.nout and all(isinstance(each, Ref) for each in results), "a launch")
            launches.append((function, given))
        memories = _read(tuple[Memory, ...], about["memories"])
        return Program(launches, [LayerScope("", False)] * len(launches), inputs, outputs, list(memories), {})

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(map(self._argument, value))
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "number":
            name, text = content
            if name == "float":
                return float(text)
            dtype = _read(np.dtype, name)
            return dtype.type(text == "True" if dtype.kind == "b" else text)
        _require(kind in ("array", "function"), "an argument")
        return (self._refs if kind == "array" else self._functions)[_read(int, content)]

    def _function(self, row: list, stamps: dict[str, str]) -> Any:
        match row:
            case ["if", int(flags), int(number)]:
                return device.Conditional(self._functions[number], flags)
            case ["chain", str(text)]:
                return Joined(Chain.parsed(text))
            case ["linalg", str(name), int(inputs), dict(constants)] if name in linalg.FUNCTIONS:
                return linalg.kernel(name, inputs, **constants)
            case ["numpy", str(name)] if isinstance(getattr(np, name, None), np.ufunc):
                return getattr(np, name)
            case ["kernel" | "shared" as kind, str(module), str(name)]:
                self._check_trust(module, name, module.startswith(_KERNELS))
                kernel = cache.named(module, name)
                if not isinstance(kernel, cache.Kernel) or _stamp(kernel) != stamps.get(module):
                    raise _Refused(
                        f"the kernel {name!r:.80} of {module!r:.80} is not the one that this model was frozen with: freeze the "
                        "model again, from its .keras file"
                    )
                return kernel.shared if kind == "shared" else kernel
            case ["function", str(module), str(name)]:
                known = _FUNCTIONS.get(module.removeprefix(_KERNELS), "").split()
                self._check_trust(module, name, module.startswith(_KERNELS) and name in known)
                function = cache.named(module, name)
                _require(callable(function), f"the function {name!r:.80} of {module!r:.80}")
                return function
        raise _Wrong(f"the function {briefly(row)}")

    def _check_trust(self, module: str, name: str, is_own: bool) -> None:
        if not (is_own or self._is_trusted):
            raise _Refused(
                f"{self._name!r} needs the function {name!r:.80} of the module {module!r:.80}, which is not nbkeras's own, and "
                "importing a module runs its code: pass safe_mode=False if you know where the file is from"
            )


class _Refused(Exception):
    """The message of this exception is for the caller as it is."""


def _stamp(kernel: Any) -> str:
    """A hash of a kernel's source."""
    path = code.source_of(kernel.py_func)
    return code.stamp(path) if path else ""


def _check(spec: BundleSpec, programs: dict[Key, Program], nbytes: int) -> None:
    """Require that a description agrees with its programs, and that all arrays are inside their memories.

    nbytes: of the constants.
    """
    state = spec.state
    counts = [len(structures.flatten(structure)) for structure in spec.structures]
    _require(counts == [len(spec.inputs), len(spec.outputs)] and bool(programs) and bool(spec.inputs), "the structures")
    _require(all(0 <= position < len(spec.inputs) and rows > 0 for position, rows, _ in spec.tables), "a table")
    for program in programs.values():
        _check_memories(program, nbytes)
    sizes = sum(program.offsets()[1] for program in programs.values())
    _require(sizes <= _memory(), f"its programs take {sizes} bytes of memory, and this machine has {_memory()}")
    end: list[tuple] = []
    if state is not None:
        start = state.start
        _check_ref(start, [nbytes])
        _require([len(state.is_sequence), len(state.has_steps)] == counts and len(start.shape) == 1, "the state")
        end = [(start.shape, start.dtype)]
    for (rows, steps), program in programs.items():
        _require(state is not None or steps == 1, "the steps of a program")
        ends = [memory.nbytes for memory in program.memories]
        for ref in set(program.refs()):
            _check_ref(ref, ends)
        kinds = [program.memories[ref.memory].kind for ref in (*program.inputs, *program.outputs)]
        _require(CONST not in kinds, "an input or an output")
        for specs, refs in ((spec.inputs, program.inputs), (spec.outputs, program.outputs)):
            expected = [(tuple(steps if n is None else n for n in each.shape[1:]), each.dtype) for each in specs] + end
            found = [(ref.shape, ref.dtype) for ref in refs]
            _require(found == [((rows, *shape), dtype) for shape, dtype in expected], "an input or an output")


def _check_memories(program: Program, nbytes: int) -> None:
    """Require that the memories of a program are of known kinds. nbytes: of the constants."""
    first, *others = program.memories or [Memory("", 0)]
    _require(first.kind == ARENA and all(each.kind in (INPUT, OUTPUT, CONST) for each in others), "a memory")
    for kind, size in program.memories:
        _require(size == nbytes if kind == CONST else size >= 0, "the size of a memory")


def _check_ref(ref: Ref, sizes: Sequence[int]) -> None:
    """Require that an array is inside its memory. sizes: the bytes of each memory."""
    _require(0 <= ref.memory < len(sizes) and len(ref.shape) == len(ref.strides) <= _MAX_AXES, "an array")
    _require(all(size >= 0 for size in ref.shape), "the shape of an array")
    low, high = ref.bounds()
    _require(0 <= low and high <= sizes[ref.memory], "the place of an array")


def _memory() -> int:
    """The bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
