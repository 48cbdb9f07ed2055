"""The text files beside a library: a C header, and a Python module that needs only numpy."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbkeras.export.native_code import FAILED, NO_MEMORY, OTHER_WEIGHTS, Inference

MARK = "Made by nbkeras"
_C_TYPES = {"float32": "float", "float64": "double", "bool": "uint8_t"}
_C_TYPES |= {f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
# Names that arguments may not have: keywords of C and C++, and lower-case macros of their headers
_RESERVED = set(
    "alignas alignof and asm auto bitand bitor bool break case catch char class compl concept const constexpr continue "
    "default delete do double else enum errno explicit export extern false float for friend goto if inline int linux long "
    "mutable namespace new noexcept not nullptr operator or private protected public register requires restrict return short "
    "signed sizeof static struct switch template this throw true try typedef typename union unix unsigned using virtual "
    "void volatile while xor stdin stdout stderr assert workspace weights state state_in state_out".split()
)
# Headers of C and C++: a file of that name would hide one
_HEADERS = set(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math memory new random setjmp signal stdalign "
    "stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar unistd wchar "
    "wctype".split()
)
# Libraries of C, C++ and their compilers on Linux: all programs would load a model of that name in their place
SYSTEM_LIBRARIES = set(
    "ld-linux ld-linux-aarch64 ld-linux-x86-64 libBrokenLocale libanl libatomic libc libc++ libc++abi libcrypt libdl libgcc "
    "libgcc_s libgfortran libgomp libiomp5 libm libmvec libnsl libnss_dns libnss_files libomp libpthread libquadmath libresolv "
    "librt libstdc++ libsupc++ libthread_db libunwind libutil linux-vdso".split()
)
_LONGEST = 60


class Tensor(NamedTuple):
    """An input or an output; the first size of its shape is the number of samples."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class FunctionSpec(NamedTuple):
    """A function of a library, for a number of rows."""

    rows: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    inference: Inference


class Description(NamedTuple):
    """A library: its prefix, the model's name, the file's name, and the weights file if there is one."""

    name: str
    model: str
    file_name: str
    target: str
    functions: list[FunctionSpec]
    weights: str | None
    identity: int


def prefix_of(file_name: str) -> str:
    """A library's name, derived from its file's: the prefix of its functions and of the files beside it."""
    name = _plain(file_name.removesuffix(".so").removeprefix("lib"))
    if name[0].isdigit():
        return f"model_{name}"
    return f"{name}_model" if name in _HEADERS or keyword.iskeyword(name) else name


def module_name(name: str, file_name: str) -> str:
    """The name of the Python module, changed if it would hide a module, or if Python would import the library instead."""
    known = {*sys.stdlib_module_names, "numpy", "nbkeras", "keras"}
    return f"{name}_library" if file_name.split(".")[0] == name or name in known else name


def c_name(text: str, taken: Sequence[str]) -> str:
    """A valid name for a C argument that is not in `taken`."""
    name = _plain(text)
    if name in _RESERVED or name.isupper() or name[0].isdigit():
        name = f"v_{name}"
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _plain(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z_]+", "_", text)[:_LONGEST].strip("_") or "model"


def _names(function: FunctionSpec) -> tuple[list[str], list[str]]:
    found: list[str] = []
    for tensor in (*function.inputs, *function.outputs):
        found.append(c_name(tensor.name, found))
    return found[: len(function.inputs)], found[len(function.inputs) :]


def _comment(text: str) -> str:
    """A string changed so that it cannot end a C comment."""
    return ascii(text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


# -------------------- C --------------------


def header(library: Description) -> str:
    """The C header."""
    name, upper = library.name, library.name.upper()
    weights = library.weights is not None
    lines = [
        f"/* {MARK}: inference of the model {_comment(library.model)}, for {library.target}.",
        "",
        f"   A function returns 0, or one of the error codes {upper}_... below.",
        "   Arrays are in C order and aligned for their type. Inputs and outputs must not overlap.",
        f"   The workspace has {name}_workspace_size() bytes and serves one call at a time: each thread needs its own.",
    ]
    if weights:
        lines += [
            f"   weights: the content of the file {library.weights}, mapped into memory, or read to a multiple of 64 bytes.",
            f"   It has {name}_weights_size() bytes and is read-only, so all threads and processes may share it.",
        ]
    if any(each.inference.state for each in library.functions):
        lines += [
            f"   A state has {name}_state_size() bytes and is aligned for double; {name}_reset_state initializes it.",
            "   state_in and state_out may be the same pointer.",
        ]
    lines += [
        "*/",
        f"#ifndef NBKERAS_{upper}_H",
        f"#define NBKERAS_{upper}_H",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"#define {upper}_FAILED {FAILED} /* a kernel failed */",
        f"#define {upper}_NO_MEMORY {NO_MEMORY} /* a pointer is NULL */",
    ]
    last = []
    if weights:
        lines.append(f"#define {upper}_OTHER_WEIGHTS {OTHER_WEIGHTS} /* the weights belong to another library */")
        last = ["const void *weights"]
    lines += ["", f"int64_t {name}_identity(void); /* {library.identity}: different for each export */"]
    lines.append(f"size_t {name}_workspace_size(void);")
    if weights:
        lines.append(f"size_t {name}_weights_size(void);")
    if any(each.inference.state for each in library.functions):
        state = ", ".join(["void *state", *last])
        lines += [f"size_t {name}_state_size(void);", f"int {name}_reset_state({state});"]
    for each in library.functions:
        inputs, outputs = _names(each)
        arguments = [f"const {_C_TYPES[t.dtype.name]} *{n}" for n, t in zip(inputs, each.inputs, strict=True)]
        results = [f"{_C_TYPES[t.dtype.name]} *{n}" for n, t in zip(outputs, each.outputs, strict=True)]
        if each.inference.state:
            arguments, results = ["const void *state_in", *arguments], ["void *state_out", *results]
        lines += ["", f"/* {each.rows} sample{'s' * (each.rows > 1)}"]
        for n, t in zip((*inputs, *outputs), (*each.inputs, *each.outputs), strict=True):
            sizes = "".join(f"[{size}]" for size in t.shape)
            lines.append(f"   {n}{sizes}: {_comment(t.name)}")
        lines[-1] += " */"
        lines.append(f"int {each.inference.name}({', '.join([*arguments, *results, 'void *workspace', *last])});")
    lines += ["", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
    return "\n".join(lines)


# -------------------- Python --------------------


def module(library: Description) -> str:
    """The Python module."""
    first = library.functions[0]
    parts = [_HEAD, _PREDICT] if not first.inference.state else [_HEAD]
    if any(each.inference.state for each in library.functions):
        parts.append(_STEP)
    predictions = [each for each in library.functions if not each.inference.state]
    steps = [each for each in library.functions if each.inference.state]
    values = {
        "MARK": MARK,
        "MODEL": ascii(library.model),
        "FILE": ascii(library.file_name),
        "WEIGHTS": ascii(library.weights),
        "PREFIX": ascii(library.name),
        "IDENTITY": str(library.identity),
        "INPUTS": _specs(first.inputs),
        "OUTPUTS": _specs(first.outputs),
        "FUNCTIONS": ascii({each.rows: each.inference.name for each in predictions}),
        "STEP": ascii(steps[0].inference.name) if steps else "",
        "STEP_INPUTS": _specs(steps[0].inputs) if steps else "",
        "STEP_OUTPUTS": _specs(steps[0].outputs) if steps else "",
        "ROWS": str(steps[0].rows) if steps else "",
        "FAILED": str(FAILED),
        "OTHER_WEIGHTS": str(OTHER_WEIGHTS),
    }
    return re.sub(r"\$([A-Z_]+)", lambda match: values[match[1]], "\n\n".join(parts))


def _specs(tensors: Sequence[Tensor]) -> str:
    """A list of (name, shape without the samples, dtype), as Python writes it."""
    lines = [f"    ({ascii(t.name)}, {t.shape[1:]!r}, {ascii(t.dtype.name)}),\n" for t in tensors]
    return f"[\n{''.join(lines)}]"


_HEAD = '''# $MARK from the model $MODEL. It needs numpy and the library beside this file.
"""Predictions of a trained model."""

import ctypes
import os
import threading

import numpy as np

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PREFIX, _WEIGHTS = $PREFIX, $WEIGHTS
_thread = threading.local()
_ERRORS = {
    $FAILED: "a kernel failed",
    $OTHER_WEIGHTS: f"the file {_WEIGHTS} belongs to another library",
}


def _load():
    """Load the library. A process caches loaded libraries by path, so after another export it needs another path."""
    for times in range(100):
        library = ctypes.CDLL(os.path.join(_FOLDER, *["."] * times, $FILE))
        identity = getattr(library, f"{_PREFIX}_identity", None)
        if identity is not None:
            identity.restype = ctypes.c_int64
            if identity() == $IDENTITY:
                return library
    raise ImportError(f"{$FILE} is not the library that was exported with this module: export both again")


_library = _load()


def _function(name, count):
    function = getattr(_library, name)
    function.argtypes, function.restype = [ctypes.c_void_p] * count, ctypes.c_int
    return function


def _size(what):
    function = getattr(_library, f"{_PREFIX}_{what}_size")
    function.restype = ctypes.c_size_t
    return function()


def _workspace():
    """The address of this thread's workspace."""
    try:
        return _thread.address
    except AttributeError:
        _thread.workspace = np.empty(_size("workspace"), np.uint8)
        _thread.address = _address(_thread.workspace)
        return _thread.address


def _address(array):
    try:  # the fastest way, for writable memory
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):
        return array.__array_interface__["data"][0]


_last = []  # the weights, if they are in a file: all processes that map it share the memory
if _WEIGHTS is not None:
    _mapped = np.memmap(os.path.join(_FOLDER, _WEIGHTS), np.uint8, "r")
    if _mapped.size != _size("weights"):
        raise RuntimeError(f"{_PREFIX}: {_ERRORS[$OTHER_WEIGHTS]}")
    _last = [_address(_mapped)]


def _specs(tensors):
    return [(name, shape, np.dtype(dtype)) for name, shape, dtype in tensors]


def _checked(given, specs):
    """The inputs as arrays in the form that the library needs."""
    wanted = [name for name, _, _ in specs]
    if len(given) == 1 and isinstance(given[0], dict):
        (given,) = given
        if set(given) != set(wanted):
            raise ValueError(f"the inputs are {wanted}, received {list(given)}")
        given = [given[name] for name in wanted]
    elif len(given) == 1 < len(specs) and isinstance(given[0], (list, tuple)):
        (given,) = given
    if len(given) != len(specs):
        raise ValueError(f"the inputs are {wanted}, received {len(given)} arrays")
    arrays = []
    for array, (name, shape, dtype) in zip(given, specs):
        known = type(array) is np.ndarray and array.dtype == dtype and array.shape[1:] == shape and array.ndim
        if not (known and array.flags.c_contiguous and array.flags.aligned):
            array = _converted(array, name, shape, dtype)
        if arrays and len(array) != len(arrays[0]):
            raise ValueError(f"input {name!r} has {len(array)} samples, and {wanted[0]!r} has {len(arrays[0])}")
        arrays.append(array)
    return arrays


def _converted(value, name, shape, dtype):
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"input {name!r} needs numbers that fit into {dtype}, received an array of {array.dtype}")
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        expected = ", ".join(["samples", *map(str, shape)])
        raise ValueError(f"input {name!r} needs shape ({expected}), received {array.shape}")
    return np.require(array, dtype, ["C", "A"])


def _run(function, arguments):
    error = function(*arguments)
    if error:
        raise RuntimeError(f"{_PREFIX}: {_ERRORS.get(error, error)}")
'''

_PREDICT = '''INPUTS = $INPUTS  # name, shape of a sample, dtype
OUTPUTS = $OUTPUTS
FUNCTIONS = $FUNCTIONS  # by the number of samples of a call
_inputs, _outputs = _specs(INPUTS), _specs(OUTPUTS)
_functions = {
    rows: _function(name, len(INPUTS) + len(OUTPUTS) + 1 + len(_last)) for rows, name in sorted(FUNCTIONS.items())
}


def predict(*inputs):
    """The outputs for arrays of samples: an array, or a list of arrays if there are several outputs.

    Inputs are arguments, or one list or one dict by name. Several threads may call this at the same time.
    """
    arrays = _checked(inputs, _inputs)
    samples = len(arrays[0])
    outputs = [np.empty((samples, *shape), dtype) for _, shape, dtype in _outputs]
    if samples in _functions:
        calls = [(samples, _functions[samples])]
    else:
        calls, rest = [], samples
        for rows, function in reversed(_functions.items()):
            calls += [(rows, function)] * (rest // rows)
            rest %= rows
        if rest:
            raise ValueError(f"the library computes {list(_functions)} samples at a time, received {samples}")
    places, at = [_address(array) for array in arrays + outputs], 0
    for rows, function in calls:
        _run(function, [*places, _workspace(), *_last])
        at += rows
        if at < samples:
            places = [_address(array[at:]) for array in arrays + outputs]
    return outputs[0] if len(outputs) == 1 else outputs
'''

_STEP = '''STEP_INPUTS = $STEP_INPUTS  # name, shape of a sample, dtype
STEP_OUTPUTS = $STEP_OUTPUTS
STEP_ROWS = $ROWS  # samples of a step
_step_inputs, _step_outputs = _specs(STEP_INPUTS), _specs(STEP_OUTPUTS)
_step = _function($STEP, len(STEP_INPUTS) + len(STEP_OUTPUTS) + 3 + len(_last))
_STATE_BYTES = _size("state")
_reset = _function(f"{_PREFIX}_reset_state", 1 + len(_last))


def new_state():
    """The state at the start of sequences."""
    state = np.empty(_STATE_BYTES // 8, np.float64)
    _run(_reset, [_address(state), *_last])
    return state


def step(state, *inputs):
    """The outputs of the next step. Changes `state`, which `new_state` made; use it for one sequence and one thread at a time."""
    if not (isinstance(state, np.ndarray) and state.dtype == np.float64 and state.nbytes == _STATE_BYTES):
        raise TypeError("state must be an array from new_state()")
    arrays = _checked(inputs, _step_inputs)
    if len(arrays[0]) != STEP_ROWS:
        raise ValueError(f"a step computes {STEP_ROWS} samples, received {len(arrays[0])}")
    outputs = [np.empty((STEP_ROWS, *shape), dtype) for _, shape, dtype in _step_outputs]
    here = _address(state)
    places = [here, *map(_address, arrays), here, *map(_address, outputs)]
    _run(_step, [*places, _workspace(), *_last])
    return outputs[0] if len(outputs) == 1 else outputs
'''
