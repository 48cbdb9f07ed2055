"""The text files beside a library: a C header, and a Python module that needs only numpy (library_module.txt)."""

from __future__ import annotations

import importlib.resources
import keyword
import math
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbkeras.export.native_code import ERRORS, OTHER_WEIGHTS, Argument

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


class TensorSpec(NamedTuple):
    """An input or an output."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class FunctionSpec(NamedTuple):
    """A function of a library, for a number of rows.

    state: 'stepped' for two pointers, to the state before and after; 'written' or 'read' for one; '' for none. number: the name
    and the dtype of an argument that is a number.
    """

    name: str
    rows: int
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    state: str = ""
    number: tuple[str, str] | None = None
    has_workspace: bool = True


class TrainingSpec(NamedTuple):
    """The logs of a library that trains, and the arrays of its state: (name, path, shape, dtype, offset)."""

    logs: list[str]
    arrays: Sequence[tuple]


class Description(NamedTuple):
    """A library: its prefix, the model's name, the file's name, and the weights file if there is one."""

    name: str
    model: str
    file_name: str
    target: str
    functions: list[FunctionSpec]
    sizes: dict[str, int]
    weights: str | None
    identity: int
    training: TrainingSpec | None = None


def prefix_of(file_name: str) -> str:
    """A library's name, derived from its file's: the prefix of its functions and of the files beside it."""
    name = _plain(file_name.removesuffix(".so").removesuffix(".wasm").removeprefix("lib"))
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


def arguments_of(function: FunctionSpec, state: int, workspace: int, is_inside: bool) -> list[Argument]:
    """The arguments of a function as code, in the order of its prototype. state, workspace: their sizes."""
    ins = [Argument(f"in {i}", t.nbytes, t.dtype.itemsize) for i, t in enumerate(function.inputs)]
    outs = [Argument(f"out {i}", t.nbytes, t.dtype.itemsize, True) for i, t in enumerate(function.outputs)]
    if function.number is not None:
        ins.append(Argument(f"in {len(ins)}", number=function.number[1]))
    if function.state == "stepped":  # both may be the same
        ins.insert(0, Argument("state in", 0, 8))
        outs.insert(0, Argument("state", state, 8, True))
    elif function.state:
        ins.insert(0, Argument("state", state, 8, function.state == "written"))
    outs += [Argument("workspace", workspace, is_written=True)] * function.has_workspace
    return [*ins, *outs, *[Argument("weights")] * (not is_inside)]


def _prototype(function: FunctionSpec, last: list[str]) -> str:
    """A function in C."""
    inputs, outputs = _names(function)
    ins = [f"const {_C_TYPES[t.dtype.name]} *{n}" for n, t in zip(inputs, function.inputs, strict=True)]
    outs = [f"{_C_TYPES[t.dtype.name]} *{n}" for n, t in zip(outputs, function.outputs, strict=True)]
    if function.number is not None:
        name, dtype = function.number
        ins.append(f"{_C_TYPES[dtype]} {name}")
    if function.state == "stepped":
        ins, outs = ["const void *state_in", *ins], ["void *state_out", *outs]
    elif function.state:
        ins.insert(0, "void *state" if function.state == "written" else "const void *state")
    return f"int {function.name}({', '.join([*ins, *outs, *['void *workspace'] * function.has_workspace, *last])});"


def _comment(text: str) -> str:
    """A string changed so that it cannot end a C comment."""
    return ascii(text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


# -------------------- C --------------------


def header(library: Description) -> str:
    """The C header."""
    name, upper = library.name, library.name.upper()
    what = "inference" if library.training is None else "training and inference"
    lines = [
        f"/* {MARK}: {what} of the model {_comment(library.model)}, for {library.target}.",
        "",
        f"   A function returns 0, or one of the error codes {upper}_... below. What it then has written is not defined, except",
        f"   that after an error other than {upper}_FAILED it has written nothing"
        + ("." if library.training is None else f", and that {upper}_NOT_FINITE leaves the state as it was."),
        "   Arrays are in C order and aligned for their type. Memory that is written must not overlap other memory.",
        f"   The workspace has {name}_workspace_size() bytes and serves one call at a time: each thread needs its own.",
    ]
    if library.weights is not None:
        lines += [
            f"   weights: the content of the file {library.weights}, mapped into memory, or read to a multiple of 64 bytes.",
            f"   It has {name}_weights_size() bytes and is read-only, so all threads and processes may share it.",
        ]
    if library.training is not None:
        lines += [
            f"   A state has {name}_state_size() bytes and is aligned for double. It holds all that training changes: a copy of",
            f"   the bytes, such as a file, is a copy of the training. {name}_init makes the state of the exported model; a seed",
            "   other than 0 gives other random numbers. One call at a time may write a state.",
        ]
    elif "state" in library.sizes:
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
        *(f"#define {upper}_{error} {number} /* {text} */" for number, (error, text) in ERRORS.items()),
        "",
        f"int64_t {name}_identity(void); /* {library.identity}: different for each export */",
        *(f"size_t {name}_{what}_size(void);" for what in library.sizes),
    ]
    last = ["const void *weights"] * (library.weights is not None)
    for each in library.functions:
        inputs, outputs = _names(each)
        pairs = zip((*inputs, *outputs), (*each.inputs, *each.outputs), strict=True)
        texts = [f"   {n}{''.join(f'[{size}]' for size in t.shape)}: {_comment(t.name)}" for n, t in pairs]
        if texts and each.rows:
            texts.insert(0, f"/* {each.rows} sample{'s' * (each.rows > 1)}")
            texts[-1] += " */"
            lines += ["", *texts]
        if library.training is not None and each.name.endswith(("_train_step", "_test_step")):
            lines.append(f"/* logs: {_comment(', '.join(library.training.logs))} */")
        lines.append(_prototype(each, last))
    lines += ["", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
    return "\n".join(lines)


# -------------------- Python --------------------


def module(library: Description) -> str:
    """The Python module: the sections of library_module.txt that the library needs, with its names and numbers."""
    text = importlib.resources.files("nbkeras.export").joinpath("library_module.txt").read_text("utf-8")
    head, prediction, step, training = text.split("%%\n")
    functions, trains = library.functions, library.training
    first = next(each for each in functions if each.outputs)
    predictions = [each for each in functions if "_predict" in each.name]
    steps = [each for each in functions if each.state == "stepped"]
    parts = [
        head,
        *[prediction] * (trains is None and bool(predictions)),
        *[step] * bool(steps),
        *[training] * bool(trains),
    ]
    values = {
        "MARK": MARK,
        "MODEL": ascii(library.model),
        "FILE": ascii(library.file_name),
        "WEIGHTS": ascii(library.weights),
        "PREFIX": ascii(library.name),
        "IDENTITY": str(library.identity),
        "INPUTS": _specs((predictions or [first])[0].inputs),
        "OUTPUTS": _specs((predictions or [first])[0].outputs),
        "FUNCTIONS": ascii({each.rows: each.name for each in predictions}),
        "STEP": ascii(steps[0].name) if steps else "",
        "STEP_INPUTS": _specs(steps[0].inputs) if steps else "",
        "STEP_OUTPUTS": _specs(steps[0].outputs) if steps else "",
        "ROWS": str(first.rows),
        "OTHER_WEIGHTS": str(OTHER_WEIGHTS),
        "ERRORS": ascii({number: text for number, (_, text) in ERRORS.items()}),
    }
    if trains is not None:
        train = next(each for each in functions if each.name.endswith("_train_step"))
        values |= {
            "LOGS": ascii(trains.logs),
            "LOGS_DTYPE": ascii(train.outputs[0].dtype.name),
            "ARRAYS": "".join(["[\n", *(f"    {each!a},\n" for each in trains.arrays), "]"]),
            "TRAIN_INPUTS": _specs(train.inputs),
            "OTHERS": ascii([each.name.removeprefix(library.name + "_") for each in functions]),
        }
    return re.sub(r"\$([A-Z_]+)", lambda match: values[match[1]], "\n\n".join(parts))


def _specs(tensors: Sequence[TensorSpec]) -> str:
    """A list of (name, shape without the samples, dtype), as Python writes it."""
    lines = [f"    ({ascii(t.name)}, {t.shape[1:]!r}, {ascii(t.dtype.name)}),\n" for t in tensors]
    return f"[\n{''.join(lines)}]"
