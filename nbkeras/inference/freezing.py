"""Freezing: records the inference of a model or of a stream with its current weights, as a Frozen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import step_lock, structures
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import Tensor, on_gpu
from nbkeras.inference import half_weights, signature
from nbkeras.inference.bundle import Bundle, BundleSpec, StateSpec, TensorSpec
from nbkeras.inference.constants import Key, frozen
from nbkeras.inference.interface import STEPS, Interface
from nbkeras.inference.recording import Recording, check_device, record
from nbkeras.inference.session import Frozen
from nbkeras.kernels.runtime import device

host_batches = LazyModule("nbkeras.data.host_batches")
host_part = LazyModule("nbkeras.inference.host_part")
Array = np.ndarray
_PURPOSE = "be frozen"


def freeze(model: Any, batch_sizes: Any, input_signature: Any, weights: Any = None) -> Frozen:
    """A frozen model; see `Model.frozen`."""
    sizes = sorted(signature.counts("batch_sizes", batch_sizes))
    if weights is not None:
        return half_weights.freeze(model, weights, lambda: freeze(model, batch_sizes, input_signature))
    check_device(model.name, model._gpu, _PURPOSE)
    stateful = [layer.name for layer in model._all_layers()[1:] if getattr(layer, "stateful", False)]
    if stateful:
        raise ValueError(
            f"model {model.name!r} cannot be frozen: layer {stateful[-1]!r} is stateful: use model.stream(), which takes its "
            "state as an argument"
        )
    with on_gpu(None):
        names, specs, pack = signature.inputs_of(model, input_signature)

        def closed(size: int) -> list[tuple]:
            return [
                signature.closed(model, name, spec, size, _PURPOSE) for name, spec in zip(names, specs, strict=True)
            ]

        def step(tensors: list) -> Any:
            data = pack(tensors)
            return model.predict_step(list(data) if isinstance(data, tuple) else data)

        def recorded(key: Key) -> Recording:
            return _recorded(
                model,
                step,
                closed(key[0]),
                "a prediction",
                ", such as counters of random numbers and weights that a layer writes",
            )

        if not model.built:  # it creates its weights
            model.predict_on_batch(pack([np.zeros(shape, dtype) for shape, dtype in closed(sizes[0])]))
        inputs = [
            TensorSpec(name, (None, *shape[1:]), dtype) for name, (shape, dtype) in zip(names, closed(1), strict=True)
        ]
        graph_inputs = getattr(model, "_graph_inputs", None)
        tables = {} if graph_inputs is None else graph_inputs.tables
        if getattr(model, "_host_part", None) is not None:
            tables = host_batches.tables_of_rest(model._host_part)
        return _frozen(model, [(size, 1) for size in sizes], recorded, inputs, pack(list(range(len(names)))), tables)


def freeze_stream(
    model: Any,
    interface: Interface,
    output_kinds: Sequence[str],
    initial: Callable[[int], Array],
    compute: Callable[[list[Tensor], int], tuple[Any, Tensor]],
    batch_sizes: Any,
    steps: Any,
) -> Frozen:
    """A frozen stream; see `Stream.frozen`, which passes the function that computes steps from a state."""
    sizes, counts = sorted(signature.counts("batch_sizes", batch_sizes)), sorted(signature.counts("steps", steps))
    keys = list(itertools.product(sizes, counts))
    check_device(model.name, model._gpu, _PURPOSE)
    inputs = [
        TensorSpec(name, (None, None, *shape[2:]) if each else (None, *shape[1:]), np.dtype(dtype))
        for (name, shape, dtype), each in zip(interface.inputs, interface.is_sequence, strict=True)
    ]
    for (name, shape, _), is_sequence in zip(inputs, interface.is_sequence, strict=True):
        if None in shape[2 if is_sequence else 1 :]:
            raise ValueError(f"model {model.name!r} cannot be frozen: input {name!r} has open sizes, {shape}")

    def recorded(key: Key) -> Recording:
        rows, count = key
        closed: list[tuple] = [
            ((rows, count, *spec.shape[2:]) if each else (rows, *spec.shape[1:]), spec.dtype)
            for spec, each in zip(inputs, interface.is_sequence, strict=True)
        ]
        closed.append(((rows, interface.state_size), interface.dtype))
        return _recorded(model, lambda tensors: list(compute(tensors, count)), closed, "a call")

    with on_gpu(None):
        structure = structures.map_leaves(lambda _: 0, model._graph.inputs)
        tables = model._graph_inputs.tables
        has_steps = [each == STEPS for each in output_kinds]
        return _frozen(model, keys, recorded, inputs, structure, tables, interface, has_steps, initial)


def _frozen(
    model: Any,
    keys: Sequence[Key],
    recorded: Callable[[Key], Recording],
    inputs: list[TensorSpec],
    structure: Any,
    tables: dict[int, tuple[int, str]],
    interface: Interface | None = None,
    has_steps: Sequence[bool] = (),
    initial: Callable[[int], Array] | None = None,
) -> Frozen:
    """The recordings as a Frozen. structure: of the inputs. The last three arguments describe a stream."""
    with step_lock.alone():  # all programs get the weights of the end of the same step
        recordings = {key: recorded(key) for key in keys}
        start = [] if initial is None else [device.persistent_copy(initial(1)[0])]
        programs, constants, starts, _ = frozen(recordings, start)
        rows, steps = keys[-1][0], keys[0][1]
        last = recordings[rows, steps]
        count = len(last.program.outputs) - len(start)
        names = signature.output_names(model, count, [spec.name for spec in inputs])
        for name, array in zip([*names, "state"], last.program.outputs, strict=False):
            signature.check_rows(model, name, array.shape, rows, _PURPOSE)
        is_by_rows = _are_rows_apart(last, lambda: recorded((2, steps)))
    outputs = [
        TensorSpec(name, (None, None, *array.shape[2:]) if each else (None, *array.shape[1:]), array.dtype)
        for name, array, each in zip(names, last.program.outputs, has_steps or [False] * count, strict=False)
    ]
    state, returned = None, last.structure
    if interface is not None:
        state = StateSpec(tuple(interface.is_sequence), tuple(has_steps), starts[0], interface.limit)
        returned = structures.map_leaves(lambda _: 0, model._graph.outputs)
    numbers = tuple((position, *table) for position, table in tables.items())
    spec = BundleSpec(str(model.name), tuple(inputs), tuple(outputs), (structure, returned), numbers, is_by_rows, state)
    host = host_part.text_of(model) if getattr(model, "_host_part", None) is not None else None
    return Frozen(Bundle(spec, programs, constants, host))


def _recorded(model: Any, function: Callable, specs: Sequence[tuple], what: str, why: str = "") -> Recording:
    recording = record(model.name, function, specs, _PURPOSE)
    if recording.states:
        raise ValueError(f"model {model.name!r} cannot be frozen: {what} changes the model's state{why}")
    return recording


def _are_rows_apart(recording: Recording, recorded_two: Callable[[], Recording]) -> bool:
    """Whether a model's rows are independent, tested on a recording, or on one of two rows if it has one row."""
    if recording.program.inputs[0].shape[0] > 1:
        return _keeps_rows_apart(recording)
    try:
        return _keeps_rows_apart(recorded_two())
    except Exception:  # the model takes only one row
        return False


def _keeps_rows_apart(recording: Recording) -> bool:
    """Whether changing the other rows leaves the first row's outputs unchanged in an example."""
    bound = recording.bound
    if any(array.shape[:1] != bound.inputs[0].shape[:1] for array in bound.outputs):
        return False
    bound.run()
    first = [array[:1].tobytes() for array in bound.outputs]
    for array in bound.inputs:
        array[1:] = array[:0:-1] * 2 + 1 if array.dtype.kind == "f" else 1 - array[1:]
    bound.run()
    return first == [array[:1].tobytes() for array in bound.outputs]
