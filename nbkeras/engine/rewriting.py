"""Floor 1: optimizing the programs of predict steps, so that each replay does less work.

A recorded step is a list of the ops that it called. `improved` rewrites the list and calls the ops again, without running their
kernels, to record a second program:

* ops whose inputs are only weights, and launches in `device.prepared`, become the program's Preparation: they run after a weight
  was written, and not at each replay;
* a batch normalization after a product with weights is folded into the product's kernel and bias;
* sums of depthwise convolutions become convolutions of groups, see grouping.py;
* a relu after a product becomes part of it; after a sum it joins the sum's chain.

Folded batch normalizations, convolutions of groups and prepared weights change results by rounding only. Everything else keeps
the same bits.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.grouping import grouped
from nbkeras.engine.recorder import OpCall, PreparationRecorder, Recorder, compute
from nbkeras.kernels import activations, dense, normalization
from nbkeras.kernels.convolution import conv, integers, volumes
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.ref import Ref, is_contiguous

Array = np.ndarray
_FREE = 65536  # outputs of up to this many bytes are always kept
# Product -> its constant that turns on relu. The last inputs of a product are the kernel (or a factor for each unit) and the
# bias.
_RECTIFIED = {conv.conv: "relu", integers.conv: "relu", volumes.conv: "relu", dense.dense: "rectify"}


class Improved(NamedTuple):
    """A recording of an optimized program, and its outputs. is_exact: whether the outputs have the same bits as before."""

    recorder: Recorder
    outputs: list[Array]
    is_exact: bool


def improved(recorder: Recorder, inputs: list[Array], outputs: list[Array]) -> Improved | None:
    """A recording of an optimized program that computes the same; None if nothing can be optimized.

    inputs: the arrays that replays fill. outputs: the step's outputs.
    """
    if device.gpu() is not None or recorder.has_conditions() or recorder.has_gradients:
        return None
    kept = recorder.describe(outputs)
    changing = recorder.written | {id(device.root(array)) for array in inputs}
    rewriting = _Rewriting(recorder.calls, kept, changing)
    preparation = PreparationRecorder()
    better = Recorder(changing, preparation)
    better.written = recorder.written
    better.depend_like(recorder)
    try:
        with device.record(better), device.run_by(_Nothing()):
            results = _again(better, preparation, rewriting.calls, kept)
    except Exception:  # some ops cannot be called again: their closure holds arrays of the first run, for example
        return None
    if better.reason is not None or not (rewriting.count or preparation.launches):
        return None
    return Improved(better, results, not rewriting.folded and not preparation.launches)


class _Nothing:
    """A runner that skips all launches."""

    def run(self, function: Callable, args: tuple) -> None:
        pass


def _again(recorder: Recorder, preparation: PreparationRecorder, calls: list[OpCall], kept: list) -> list[Array]:
    """Call the ops again while `recorder` records. Returns the kept arrays."""
    # buffer of the first program -> the array that owns the new memory, and the offset in it
    owners: dict[Any, tuple[Array, int]] = {}

    def array_of(described: Any) -> Any:
        if not isinstance(described, Ref):
            return described
        if described.memory not in owners:  # the buffer of a launch outside of ops
            owners[described.memory] = device.empty((described.bounds()[1],), np.uint8), 0
        owner, start = owners[described.memory]
        return device.view_at(owner, start + described.offset, described.shape, described.dtype, described.strides)

    for call in calls:
        recorder.place = call.place
        arrays = tuple(map(array_of, call.inputs))
        if call.outputs is None:
            device.launch(call.function, *arrays)
            continue
        given = [array for array in arrays if array is not None]
        if given and recorder.preparation_of(given) is not None and not (_changes(call) or _grows(call)):
            with device.preparing(preparation):
                y, _ = compute(call.function, arrays, call.constants)
        else:
            y, _ = compute(call.function, arrays, call.constants)
        for described, array in zip(call.outputs, y if isinstance(y, tuple) else (y,), strict=True):
            if isinstance(described, Ref):
                owner = device.root(array)
                start = device.address(array) - device.address(owner) - described.offset
                owners.setdefault(described.memory, (owner, start))
    return [array_of(each) for each in kept]


def _changes(call: OpCall) -> bool:
    return hasattr(call.function, "changes_inputs")


def _grows(call: OpCall) -> bool:
    """Whether an op's outputs need much more memory than its inputs, as floats from int8 do. Such outputs are not kept."""
    sizes = [sum(map(_nbytes, arrays or ())) for arrays in (call.inputs, call.outputs)]
    return sizes[1] > max(_FREE, 2 * sizes[0])


def _nbytes(array: Any) -> int:
    has_memory = isinstance(array, Ref) or isinstance(array, device.ARRAYS)
    return array.nbytes if has_memory else 0


class _Rewriting:
    """Rewrites `calls` to fewer calls that compute the same."""

    def __init__(self, calls: list[OpCall], kept: list, changing: set[int]):
        self.calls: list[OpCall] = []
        self._changing, self._numbers = changing, itertools.count(-1, -1)  # numbers of new buffers
        calls, self.folded = grouped(calls, kept, self._numbers)
        self.count = self.folded  # the number of fused calls; `folded` counts those that change results by rounding
        self._uses = Counter(v.memory for call in calls for v in call.inputs if isinstance(v, Ref))
        self._uses.update(v.memory for v in kept if isinstance(v, Ref))
        self._makers: dict[Any, int] = {}  # buffer -> the index of the call that makes it
        self._of_weights: set[Any] = set()  # buffers that depend only on weights
        for call in calls:
            self._add(call)

    def _add(self, call: OpCall) -> None:
        if call.outputs is not None and not _changes(call):
            if all(isinstance(v, Ref) and v.memory in self._makers for v in call.outputs) and call.outputs:
                # views of earlier arrays: their users refer to the buffers of those arrays
                self._uses.subtract(v.memory for v in call.inputs if isinstance(v, Ref))
                return
            if call.function is normalization.batch_normalization and self._fold(call):
                return
            if call.function is activations.relu and self._rectify(call):
                return
            if call.inputs and all(map(self._is_weight, call.inputs)) and not _grows(call):
                self._of_weights.update(v.memory for v in call.outputs if isinstance(v, Ref))
        for v in call.outputs or call.inputs:
            if isinstance(v, Ref):
                self._makers[v.memory] = len(self.calls)
        self.calls.append(call)

    def _is_weight(self, described: Any) -> bool:
        if isinstance(described, Ref):
            return described.memory in self._of_weights
        return not isinstance(described, device.ARRAYS) or id(device.root(described)) not in self._changing

    def _maker(self, call: OpCall) -> int | None:
        """The index of the call that makes the first input of `call`, if `call` is its only user; else None."""
        view = call.inputs[0]
        if not isinstance(view, Ref) or self._uses[view.memory] != 1 or view.memory not in self._makers:
            return None
        place = self._makers[view.memory]
        made = self.calls[place].outputs
        whole = made is not None and len(made) == 1 and made[0].offset == view.offset and _same_memory(made[0], view)
        return place if whole else None

    def _replace(self, place: int, call: OpCall) -> None:
        self.calls[place] = call
        self.count += 1
        for v in call.outputs or ():
            self._makers[v.memory] = place

    def _rectify(self, call: OpCall) -> bool:
        """Fuse a relu into the call that makes its input, if possible. Returns whether it did."""
        place = self._maker(call)
        if place is None:
            return False
        maker = self.calls[place]
        rectified = _RECTIFIED.get(maker.function)
        if rectified is None or maker.constants[rectified]:
            return False
        self._replace(place, maker._replace(constants={**maker.constants, rectified: True}, outputs=call.outputs))
        return True

    def _fold(self, call: OpCall) -> bool:
        """Fold a batch normalization into the product that makes its input, if possible. Returns whether it did."""
        place = self._maker(call)
        if place is None or not all(map(self._is_weight, call.inputs[1:])):
            return False
        maker = self.calls[place]
        if maker.function not in _RECTIFIED or maker.constants[_RECTIFIED[maker.function]]:
            return False
        *others, kernel, bias = maker.inputs
        if not (self._is_weight(kernel) and self._is_weight(bias)) or kernel.shape[-1] != call.inputs[1].shape[0]:
            return False
        shapes = kernel.shape, kernel.shape[-1:]
        new = tuple(Ref.contiguous(next(self._numbers), 0, shape, kernel.dtype) for shape in shapes)
        folded = OpCall(normalization.folded, (kernel, bias, *call.inputs[1:]), call.constants, new, call.place)
        self._replace(place, maker._replace(inputs=(*others, *new), outputs=call.outputs))
        self.calls.insert(place, folded)
        self.folded += 1
        self._makers = {buffer: at + (at >= place) for buffer, at in self._makers.items()}
        self._of_weights.update(v.memory for v in new)
        return True


def _same_memory(a: Ref, b: Ref) -> bool:
    return math.prod(a.shape) == math.prod(b.shape) and a.dtype == b.dtype and is_contiguous(a) and is_contiguous(b)
