"""`model.export("libmodel.so")`: a model's inference as a shared library, with a C header and a Python module."""

from __future__ import annotations

import contextlib
import importlib.util
import operator
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbkeras.building import lora
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.progress import print_message
from nbkeras.engine.tensor import Variable
from nbkeras.export import library_files, linking, native_code, wasm
from nbkeras.export.left_outside import note
from nbkeras.export.library_files import Description, FunctionSpec, TensorSpec
from nbkeras.export.native_code import BufferRef, Code, LibraryFunction
from nbkeras.export.training import HEADER, Trainer
from nbkeras.inference import signature
from nbkeras.inference.constants import FrozenPrograms, frozen
from nbkeras.inference.recording import Recording, record
from nbkeras.saving.archive import PreparedFiles

_PURPOSE = "become a library"
TARGETS = ("host", *(target for target in native_code.TARGETS if target != native_code.WASM))
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def export_library(
    model: Any,
    filepath: Any,
    input_signature: Sequence[Any] | None = None,
    verbose: bool | None = None,
    *,
    batch: int | Sequence[int] = 1,
    target: str = "host",
    weights: str = "inside",
    state: str | None = None,
    training: bool = False,
    example: Sequence[Any] | None = None,
) -> None:
    """Write a model's inference, or its training, as a shared library for Linux, with a C header and a Python module beside it.

    For `libmodel.so` these are `model.h` and `model.py`. The library needs only the C libraries, the module only numpy. On the
    same processor its outputs are bitwise equal to those of `predict`, and its training steps to those of `fit`. For `model.wasm`
    it is a WebAssembly module, and beside it are `model.mjs` for JavaScript and `model.d.ts` for TypeScript. See docs/deploy.md
    and docs/train-anywhere.md.

    Args:
        model: A built model.
        filepath: The name of the library, which ends in .so, or in .wasm.
        input_signature: The shape of each input (a tuple, an InputSpec or an Input), for models without a graph
            and to fix sizes; its first axis is ignored.
        verbose: False prints nothing; None and True print the file's name.
        batch: The number of samples of a call, or a list of numbers. The library has a function for each.
        target: The processors for the code: 'host' for this one, or 'x86-64-v2', 'x86-64-v3', 'x86-64-v4', 'aarch64',
            'riscv64'.
        weights: 'inside' the library, or 'beside' it in a .weights file that programs map into memory.
        state: 'explicit' adds a function for one step of a model that works step by step (see `Model.stream`). Its state is an
            argument, and the second axis of its inputs has size 1. A model with stateful=True has only a function with states.
        training: Whether the library also trains: it has functions for a train step, a test step and a prediction over a state.
        example: For training, (x, y) or (x, y, sample_weight): a batch of the size and types of all batches. It is not used to
            train.

    Raises:
        FileExistsError: if a header or module of that name exists that no export made.
        FileNotFoundError: if there is no linker.
        RuntimeError: if the linker fails.
        ValueError: for a model that needs Python; the message names the layer and the kernel.

    Example:
        >>> from nbkeras.export import export_library
        >>> export_library(keras.Sequential([layers.Dense(2, input_shape=(3,))]), "libmodel.so")
        Saved the library at 'libmodel.so', with model.h and model.py.
    """
    path = os.fspath(filepath)
    batches = _checked(path, batch, target, weights, state)
    if training:
        if example is None or not isinstance(example, list | tuple):
            raise ValueError(
                f"training=True needs example=(x, y) or (x, y, sample_weight): a batch, received {briefly(example)}"
            )
        if batch != 1 or state is not None or input_signature is not None:
            raise ValueError(
                "with training=True the example gives all shapes: leave out batch, state and input_signature"
            )
    elif example is not None:
        raise ValueError("example is only with training=True")
    folder, file_name = os.path.split(path)
    name = library_files.prefix_of(file_name)
    module = library_files.module_name(name, file_name)
    is_wasm = file_name.endswith(".wasm")
    beside = wasm.names(file_name) if is_wasm else (f"{name}.h", f"{module}.py")
    for other in beside:
        _check_replaceable(os.path.join(folder, other))
    chosen = native_code.WASM if is_wasm else "" if target == "host" else target
    machine = native_code.machine_of(chosen)
    linking.wasm_linker() if is_wasm else linking.linker(machine)  # raises before the work if there is none

    if training:
        trainer = Trainer(model, name, example)
        recordings, header = trainer.recordings, HEADER
    else:
        functions = _functions(model, name, batches, input_signature, state)
        recordings, header = {each.symbol: each.recording for each in functions}, 0
        if is_wasm and functions[0].recording.states:
            raise ValueError(f"model {model.name!r} has states, which predictions of a WebAssembly module cannot keep")
    made = frozen(recordings, header=header)
    code = Code(name, model.name, chosen, made.constants, weights == "inside")
    specs, compiled = trainer.made(code, made) if training else _made(model, name, functions, code, made)
    sizes = {"workspace": max(each.workspace for each in compiled)}
    if made.state.nbytes:
        sizes["state"] = made.state.nbytes
    contents, identity = code.objects(compiled, sizes)
    weights_file = f"{name}.weights" if weights == "beside" else None
    about = trainer.about(made.state) if training else None
    described = Description(name, str(model.name), file_name, target, specs, sizes, weights_file, identity, about)
    if is_wasm:
        library, texts = wasm.linked(contents, described), wasm.texts(described)
    else:
        library = linking.linked(contents, machine, file_name)
        texts = [library_files.header(described), library_files.module(described)]
    files = {other: text.encode() for other, text in zip(beside, texts, strict=True)}
    if weights_file is not None:
        files[weights_file] = code.constants.content()
    _write(folder, {**files, file_name: library})
    if verbose is None or verbose:
        written = f"{', '.join(list(files)[:-1])} and {list(files)[-1]}"
        print_message(f"Saved the library at {path!r}, with {written}.{note(model)}")


def _checked(path: str, batch: Any, target: str, weights: str, state: str | None) -> list[int]:
    """Check all arguments. Returns the batch sizes."""
    file_name = os.path.basename(path)
    if file_name.endswith(".wasm"):
        wasm.check(file_name, target, weights, state)
        return signature.counts("batch", batch)
    if sys.platform != "linux":
        raise ValueError("libraries can be exported only on Linux (or WSL): elsewhere export format='onnx'")
    if file_name.endswith((".dll", ".dylib")):
        raise ValueError(
            f"libraries are for Linux: give a name that ends in .so, received {briefly(path)}. On Windows use WSL; for macOS "
            "export format='onnx'"
        )
    if not (file_name.endswith(".so") and _NAME.fullmatch(file_name) and file_name != ".so"):
        raise ValueError(
            "the name of a library ends in .so and consists of the letters A to Z, digits and . _ + -, "
            f"received {briefly(file_name)}"
        )
    if file_name.removesuffix(".so") in library_files.SYSTEM_LIBRARIES:
        raise ValueError(
            f"{file_name} is the name of a system library, and programs would load the model in its place: choose another "
            "name, such as libmodel.so"
        )
    for what, value, known in (
        ("target", target, TARGETS),
        ("weights", weights, ("inside", "beside")),
        ("state", state, (None, "explicit")),
    ):
        if value not in known:
            raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}, received {briefly(value)}")
    return signature.counts("batch", batch)


def _check_replaceable(path: str) -> None:
    """Raise FileExistsError for a file that an export did not make."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb", opener=ordinary_file) as file:
        if library_files.MARK.encode() not in file.read(400):
            raise FileExistsError(f"{path!r} is not from an export, and would be overwritten: choose another name")


def _write(folder: str, files: dict[str, bytes]) -> None:
    """Write files, each completely or not at all. The library is the last one."""
    prepared = PreparedFiles()
    for name, content in files.items():
        prepared.add(os.path.join(folder, name), operator.methodcaller("write", content))
    prepared.write()
    for name in files:
        if name.endswith(".py"):  # Python reuses compiled code if the file's size and modification second are unchanged
            with contextlib.suppress(OSError):
                os.unlink(importlib.util.cache_from_source(os.path.join(folder, name)))


# -------------------- functions --------------------


class _Function(NamedTuple):
    """A recorded function of a library, for a number of rows."""

    symbol: str
    rows: int
    inputs: list[TensorSpec]
    recording: Recording

    def spec(self, model: Any) -> FunctionSpec:
        """The function, for the header."""
        arrays = self.recording.program.outputs
        names = signature.output_names(model, len(arrays), [tensor.name for tensor in self.inputs])
        outputs = [TensorSpec(name, array.shape, array.dtype) for name, array in zip(names, arrays, strict=True)]
        for tensor in outputs:
            signature.check_rows(model, tensor.name, tensor.shape, self.rows, _PURPOSE)
        return FunctionSpec(self.symbol, self.rows, self.inputs, outputs, "stepped" if self.recording.states else "")


def _functions(model: Any, name: str, batches: Sequence[int], given: Any, state: str | None) -> list[_Function]:
    """The functions for inference. given: the input signature."""
    functions: list[_Function] = []
    for rows in batches:
        functions.append(_prediction(model, name, f"_{rows}" if functions else "", rows, given))
        if len(batches) > 1 and (functions[0].recording.states or state == "explicit"):
            raise ValueError(f"a library with states has one batch size, received batch={list(batches)}")
    if state == "explicit" and not functions[0].recording.states:
        functions.append(_step(model, name, batches[0], given))
    return functions


def _made(
    model: Any, prefix: str, functions: Sequence[_Function], code: Code, made: FrozenPrograms
) -> tuple[list[FunctionSpec], list[LibraryFunction]]:
    """The functions for inference, for the header and as code."""
    specs, compiled = [each.spec(model) for each in functions], []
    size = made.state.nbytes
    for spec in specs:
        rows = code.rows(made.programs[spec.name])
        arguments = library_files.arguments_of(spec, size, rows.workspace, code.is_inside)
        copies = [(BufferRef("state in", 0), BufferRef("state", 0), size)] if spec.state else []
        compiled.append(LibraryFunction(spec.name, arguments, rows.groups[0], copies))
    if size:
        spec = FunctionSpec(f"{prefix}_reset_state", 0, [], [], "written", has_workspace=False)
        arguments = library_files.arguments_of(spec, size, 0, code.is_inside)
        compiled.append(LibraryFunction(spec.name, arguments, copies=code.first_values(made.state)))
        specs.append(spec)
    return specs, compiled


def _prediction(model: Any, prefix: str, ending: str, rows: int, given: Any) -> _Function:
    """The function for a prediction of `rows` rows; for a model with states a step, with the states as arguments."""
    names, specs, pack = signature.inputs_of(model, given)
    inputs = _inputs(model, names, specs, rows)
    with lora.merged(model):
        recording = record(
            model.name,
            lambda tensors: model.predict_step(pack(tensors)),
            [tensor[1:] for tensor in inputs],
            _PURPOSE,
            lambda: _states(model),
        )
    return _Function(f"{prefix}_{'step' if recording.states else 'predict'}{ending}", rows, inputs, recording)


def _step(model: Any, prefix: str, rows: int, given: Any) -> _Function:
    """The function for one step of a model as a stream, with the state as an argument."""
    stream = model.stream()
    if not stream.state_size:
        raise ValueError(f"model {model.name!r} keeps nothing from step to step: leave out state='explicit'")
    names, specs, _ = signature.inputs_of(model, given)
    of_step = [
        ((shape[0], 1, *shape[2:]) if is_sequence else shape, dtype)
        for (shape, dtype), is_sequence in zip(specs, stream._interface.is_sequence, strict=True)
    ]
    inputs = _inputs(model, names, of_step, rows)
    state = Variable(stream.initial(rows), trainable=False)

    def step(tensors: list) -> Any:
        outputs, after = stream.compute([*tensors, state], 1)
        state.assign(after)
        return outputs

    with lora.merged(model):
        recording = record(model.name, step, [tensor[1:] for tensor in inputs], _PURPOSE, lambda: [state.data])
    return _Function(f"{prefix}_step", rows, inputs, recording)


def _inputs(model: Any, names: Sequence[str], specs: Sequence[signature.Spec], rows: int) -> list[TensorSpec]:
    closed = [signature.closed(model, name, spec, rows, _PURPOSE) for name, spec in zip(names, specs, strict=True)]
    return [TensorSpec(name, shape, dtype) for name, (shape, dtype) in zip(names, closed, strict=True)]


def _states(model: Any) -> list:
    """The arrays of the states of stateful layers."""
    layers = [layer for layer in model._all_layers() if getattr(layer, "stateful", False)]
    leaves = [leaf for layer in layers for leaf in structures.flatten(getattr(layer, "states", None))]
    return [leaf.data for leaf in leaves if leaf is not None]
