"""The text files beside a library: a C header, and a Python module that needs only numpy (library_module.txt)."""

from __future__ import annotations

import importlib.resources
import keyword
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbkeras.export.native_code import FAILED, NULL_POINTER, OTHER_WEIGHTS, Inference

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
        f"#define {upper}_NULL_POINTER {NULL_POINTER} /* a pointer is NULL */",
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
    """The Python module: the sections of library_module.txt that the library needs, with its names and numbers."""
    text = importlib.resources.files("nbkeras.export").joinpath("library_module.txt").read_text("utf-8")
    head, prediction, step = text.split("%%\n")
    first = library.functions[0]
    predictions = [each for each in library.functions if not each.inference.state]
    steps = [each for each in library.functions if each.inference.state]
    parts = [head, *[prediction] * bool(predictions), *[step] * bool(steps)]
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
