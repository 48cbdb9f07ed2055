"""A model as a WebAssembly module, with a JavaScript module (wasm_module.txt) and TypeScript's types beside it."""

from __future__ import annotations

import importlib.resources
import json
import re
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.export import library_files, linking
from nbkeras.export.library_files import MARK, Description, TensorSpec
from nbkeras.export.native_code import FAILED, WASM

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.wasm")
_RESERVED = set(
    "await arguments debugger eval finally function implements in instanceof interface let package super var with yield".split()
)
_ARRAYS = {"bool": "Uint8Array", "int64": "BigInt64Array", "uint64": "BigUint64Array"}
_NUMBERS = {"bool": "boolean | number", "int64": "bigint", "uint64": "bigint"}


def check(file_name: str, target: Any, weights: Any, state: Any) -> None:
    """Check the arguments of an export. Raises ValueError."""
    if not _NAME.fullmatch(file_name):
        raise ValueError(
            "the name of a WebAssembly module ends in .wasm and consists of the letters A to Z, digits and . _ + -, received "
            f"{briefly(file_name)}"
        )
    for what, value, known in (
        ("target", target, ("host", WASM)),
        ("weights", weights, ("inside",)),
        ("state", state, (None,)),
    ):
        if value not in known:
            raise ValueError(f"{what} of a WebAssembly module must be {known[-1]!r}, received {briefly(value)}")


def names(file_name: str) -> tuple[str, ...]:
    """The names of the files beside a module."""
    stem = file_name.removesuffix(".wasm")
    return f"{stem}.mjs", f"{stem}.d.ts", f"{stem}.d.mts"


def linked(contents: dict[str, bytes], library: Description) -> bytes:
    """The module of object files. Raises FileNotFoundError and RuntimeError, see `linking.wasm_linked`."""
    functions = [each.name for each in library.functions]
    return linking.wasm_linked(contents, [*functions, f"{library.name}_workspace_size", f"{library.name}_identity"])


def texts(library: Description) -> list[str]:
    """The contents of the files beside a module. TypeScript reads .d.mts for an import of .mjs, and .d.ts for one of the stem."""
    types = _types(library)
    return [_module(library), types, types]


def _module(library: Description) -> str:
    text = importlib.resources.files("nbkeras.export").joinpath("wasm_module.txt").read_text("utf-8")
    functions = sorted(((each.rows, each.name) for each in library.functions), reverse=True)
    values = {
        "MARK": MARK,
        "MODEL": json.dumps(library.model),
        "FILE": json.dumps(library.file_name),
        "URL": json.dumps(f"./{library.file_name}"),
        "PREFIX": json.dumps(library.name),
        "IDENTITY": str(library.identity),
        "INPUTS": _tensors(library.functions[0].inputs),
        "OUTPUTS": _tensors(library.functions[0].outputs),
        "FUNCTIONS": json.dumps(functions),
        "FAILED": str(FAILED),
    }
    return re.sub(r"\$([A-Z]+)", lambda match: values[match[1]], text)


def _tensors(tensors: list[TensorSpec]) -> str:
    lines = [json.dumps({"name": t.name, "shape": t.shape[1:], "dtype": t.dtype.name}) for t in tensors]
    return "".join(["[", *(f"\n    {line}," for line in lines), "\n  ]"])


def _types(library: Description) -> str:
    """TypeScript's types."""
    inputs, outputs = library.functions[0].inputs, library.functions[0].outputs
    arguments: list[str] = []
    for tensor in inputs:
        name = library_files.c_name(tensor.name, arguments)
        arguments.append(f"v_{name}" if name in _RESERVED else name)
    kinds = [f"Numbers<{_array(t)}, {_NUMBERS.get(t.dtype.name, 'number')}>" for t in inputs]
    results: list[str] = []
    for tensor in outputs:
        results.append(library_files.c_name(tensor.name, results))
    labelled = [f"{name}: {_array(t)}" for name, t in zip(results, outputs, strict=True)]
    result = _array(outputs[0]) if len(outputs) == 1 else f"[{', '.join(labelled)}]"
    by_name = "; ".join(f"{json.dumps(t.name)}: {kind}" for t, kind in zip(inputs, kinds, strict=True))
    given = ", ".join(f"{name}: {kind}" for name, kind in zip(arguments, kinds, strict=True))
    listed = [f"  predict(inputs: readonly [{', '.join(kinds)}]): {result};"] * (len(inputs) > 1)
    lines = [
        f"// {MARK} from the model {json.dumps(library.model)}.",
        "",
        "/** An input: a typed array, nested arrays, or a typed array with its shape, samples first. */",
        "export type Numbers<A, N> = A | Nested<N> | { data: A; shape: readonly number[] };",
        "export type Nested<N> = readonly (N | Nested<N>)[];",
        "export interface Tensor { readonly name: string; readonly shape: readonly number[]; readonly dtype: string }",
        "",
        "export class Model {",
        "  /** The name, the shape of a sample and the dtype of each input and output. */",
        "  static readonly inputs: readonly Tensor[];",
        "  static readonly outputs: readonly Tensor[];",
        f"  /** Load {library.file_name} from beside this file, or from a URL, a Response, bytes or a compiled module. */",
        "  static load(source?: string | URL | Response | BufferSource | WebAssembly.Module): Promise<Model>;",
        "  constructor(instance: WebAssembly.Instance);",
        "  /**",
        "   * The outputs for samples: a typed array, or a list of them if there are several outputs.",
        *(f"   * {what} {_line(t)}" for what, of in (("input", inputs), ("output", outputs)) for t in of),
        "   */",
        f"  predict({given}): {result};",
        *listed,
        f"  predict(inputs: {{ {by_name} }}): {result};",
        "}",
        "export default Model;",
        "",
    ]
    return "\n".join(lines)


def _array(tensor: TensorSpec) -> str:
    name = tensor.dtype.name
    return _ARRAYS.get(name, f"{name.capitalize()}Array")


def _line(tensor: TensorSpec) -> str:
    shape = ", ".join(["samples", *map(str, tensor.shape[1:])])
    return f"{json.dumps(tensor.name)}: ({shape}) {tensor.dtype.name}".replace("*/", "* /")
