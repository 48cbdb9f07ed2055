"""A model as a WebAssembly module, with a JavaScript module (wasm_module.txt) and TypeScript's types beside it."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Sequence
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.export import library_files, linking
from nbkeras.export.library_files import MARK, Description, FunctionSpec, TensorSpec
from nbkeras.export.native_code import ERRORS, FAILED, WASM

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
    numbers = [f"{library.name}_{each}_size" for each in library.sizes]
    return linking.wasm_linked(contents, [*functions, *numbers, f"{library.name}_identity"])


def texts(library: Description) -> list[str]:
    """The contents of the files beside a module. TypeScript reads .d.mts for an import of .mjs, and .d.ts for one of the stem."""
    types = _types(library)
    return [_module(library), types, types]


def _read(name: str) -> str:
    return importlib.resources.files("nbkeras.export").joinpath(name).read_text("utf-8")


def _module(library: Description) -> str:
    """The JavaScript module: a class for predictions or for training, and what both need."""
    inputs, targets, outputs = _tensors(library)
    errors = {FAILED: ERRORS[FAILED]} if library.training is None else ERRORS
    values = {
        "MARK": MARK,
        "MODEL": json.dumps(library.model),
        "FILE": json.dumps(library.file_name),
        "URL": json.dumps(f"./{library.file_name}"),
        "PREFIX": json.dumps(library.name),
        "IDENTITY": str(library.identity),
        "ERRORS": _listed([(str(number), about) for number, (_, about) in errors.items()]),
        "INPUTS": _described(inputs),
        "OUTPUTS": _described(outputs),
    }
    if library.training is None:
        own = "wasm_predictions.txt"
        values["FUNCTIONS"] = json.dumps(sorted(((each.rows, each.name) for each in library.functions), reverse=True))
    else:
        own = "wasm_training.txt"
        functions = [
            (
                each.name.removeprefix(f"{library.name}_"),
                {"inputs": _shapes(each.inputs), "outputs": _shapes(each.outputs), "workspace": each.has_workspace},
            )
            for each in library.functions
        ]
        values["FUNCTIONS"] = _listed(functions)
        values["BATCH"] = str(_function(library, "train_step").rows)
        values["TARGETS"], values["LOGS"] = _described(targets), json.dumps(library.training.logs)
    text = _read("wasm_module.txt").replace("$CLASS", _read(own))
    return re.sub(r"\$([A-Z]+)", lambda match: values[match[1]], text)


def _shapes(tensors: list[TensorSpec]) -> list[dict[str, Any]]:
    return [{"shape": t.shape, "dtype": t.dtype.name} for t in tensors]


def _listed(pairs: Sequence[tuple[str, Any]]) -> str:
    """An object of JavaScript."""
    return "".join(["{", *(f"\n  {json.dumps(key)}: {json.dumps(value)}," for key, value in pairs), "\n}"])


def _function(library: Description, name: str) -> FunctionSpec:
    return next(each for each in library.functions if each.name == f"{library.name}_{name}")


def _tensors(library: Description) -> tuple[list[TensorSpec], list[TensorSpec], list[TensorSpec]]:
    """The inputs, the arrays that a step takes besides, and the outputs."""
    if library.training is None:
        return library.functions[0].inputs, [], library.functions[0].outputs
    prediction, step = _function(library, "predict"), _function(library, "train_step")
    return prediction.inputs, step.inputs[len(prediction.inputs) :], prediction.outputs


def _described(tensors: list[TensorSpec]) -> str:
    lines = [json.dumps({"name": t.name, "shape": t.shape[1:], "dtype": t.dtype.name}) for t in tensors]
    return "".join(["[", *(f"\n    {line}," for line in lines), "\n  ]"])


def _types(library: Description) -> str:
    """TypeScript's types."""
    inputs, targets, outputs = _tensors(library)
    results: list[str] = []
    for tensor in outputs:
        results.append(library_files.c_name(tensor.name, results))
    labelled = [f"{name}: {_array(t)}" for name, t in zip(results, outputs, strict=True)]
    result = _array(outputs[0]) if len(outputs) == 1 else f"[{', '.join(labelled)}]"
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
        *(f"  {line}" for line in [*_calls("predict", inputs, result), *_of_training(library, [*inputs, *targets])]),
        "}",
        "export default Model;",
        "",
    ]
    return "\n".join(lines)


def _of_training(library: Description, data: list[TensorSpec]) -> list[str]:
    """The declarations that only modules that train have. data: the arrays of a step."""
    if library.training is None:
        return []
    names = {each.name.removeprefix(f"{library.name}_") for each in library.functions}
    about = {
        "reset_metrics": ["/** Begin with new means of the logs, as each epoch does. */", "resetMetrics(): void;"],
        "reset_states": ["/** Set the states of stateful layers to zero. */", "resetStates(): void;"],
        "learning_rate": ["learningRate: number;"],
    }
    logs = "; ".join(f"{json.dumps(name)}: number" for name in library.training.logs)
    return [
        "/** The number of samples of a step, the arrays that a step takes besides the inputs, and the names of the logs. */",
        "static readonly batch: number;",
        "static readonly targets: readonly Tensor[];",
        "static readonly logs: readonly string[];",
        "/** Train with a batch: the inputs, the targets and, if it was exported with them, sample weights. */",
        *_calls("trainStep", data, f"{{ {logs} }}"),
        "/** Measure a batch as `trainStep` does, without training. */",
        *_calls("testStep", data, f"{{ {logs} }}"),
        *(line for name, each in about.items() if name in names for line in each),
        "/** Begin with the exported model. A seed other than 0 gives dropout and the like other random numbers. */",
        "initialize(seed?: number | bigint): void;",
        "/** The state as bytes. */",
        "save(): Uint8Array;",
        "/** Continue with a state. */",
        "load(state: Uint8Array): void;",
    ]


def _calls(method: str, inputs: list[TensorSpec], result: str) -> list[str]:
    """The declarations of a method: with arguments, with a list if there are several, and by name."""
    arguments: list[str] = []
    for tensor in inputs:
        name = library_files.c_name(tensor.name, arguments)
        arguments.append(f"v_{name}" if name in _RESERVED else name)
    kinds = [f"Numbers<{_array(t)}, {_NUMBERS.get(t.dtype.name, 'number')}>" for t in inputs]
    by_name = "; ".join(f"{json.dumps(t.name)}: {kind}" for t, kind in zip(inputs, kinds, strict=True))
    given = ", ".join(f"{name}: {kind}" for name, kind in zip(arguments, kinds, strict=True))
    listed = [f"{method}(inputs: readonly [{', '.join(kinds)}]): {result};"] * (len(inputs) > 1)
    return [f"{method}({given}): {result};", *listed, f"{method}(inputs: {{ {by_name} }}): {result};"]


def _array(tensor: TensorSpec) -> str:
    name = tensor.dtype.name
    return _ARRAYS.get(name, f"{name.capitalize()}Array")


def _line(tensor: TensorSpec) -> str:
    shape = ", ".join(["samples", *map(str, tensor.shape[1:])])
    return f"{json.dumps(tensor.name)}: ({shape}) {tensor.dtype.name}".replace("*/", "* /")
