"""A served version of a model: its inputs and outputs, the cost of a request, and its queue."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.serving import tensors
from nbkeras.serving.batching import Batcher
from nbkeras.serving.errors import refused
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.tensors import InferRequest, InferResponse

ANSWER = 10  # memory of an output and its JSON, for each byte of the output
_STATES = 3  # a state, its copy in a batch, and the new state


class StreamRuns:
    """A FrozenStream as a Batcher runs it: the state is the last input and the last output."""

    def __init__(self, frozen: Any):
        self.frozen, self.batch_sizes, self.is_by_rows = frozen, frozen.batch_sizes, frozen.is_by_rows
        self.parts = frozen.parts

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs, state = self.frozen.run(arrays[:-1], arrays[-1])
        return [*outputs, state]


class Version:
    """A served version of a model: its frozen program and its queue. Requests hold it until they are answered."""

    def __init__(self, name: str, version: str, frozen: Any, options: ModelOptions, observe: Callable | None = None):
        self.name, self.version, self.frozen, self.options = name, version, frozen, options
        self.inputs, self.outputs = tuple(frozen.inputs), tuple(frozen.outputs)
        self.output_places = {spec.name: place for place, spec in enumerate(self.outputs)}
        self.is_stream = frozen.is_stream
        # bytes of one row's state
        self.state_bytes = frozen.state_size * frozen.state_dtype.itemsize if self.is_stream else 0
        is_open = any(None in spec.shape[1:] for spec in self.outputs)
        self._row_bytes = None if is_open else self._bytes_of_row(1)
        runs: Any = StreamRuns(frozen) if self.is_stream else frozen
        self.batcher = Batcher(
            runs,
            max_batch=options.max_batch,
            max_wait=options.max_wait_ms / 1000,
            max_queue=options.max_queue,
            observe=observe,
        )

    def bytes_of(self, arrays: list[np.ndarray]) -> int:
        """An upper bound of the memory for computing a request: copies of its inputs, states, outputs, and the answer.

        Open sizes of outputs are steps; their number is the inputs'.
        """
        rows, size = len(arrays[0]), sum([array.nbytes for array in arrays])
        if self._row_bytes is not None:
            return size + rows * self._row_bytes
        steps = max(array.shape[1] if array.ndim > 1 else 1 for array in arrays)
        return size + rows * self._bytes_of_row(steps)

    def _bytes_of_row(self, steps: int) -> int:
        sizes = [math.prod([steps if axis is None else axis for axis in spec.shape[1:]]) for spec in self.outputs]
        outputs = sum([size * spec.dtype.itemsize for size, spec in zip(sizes, self.outputs, strict=True)])
        return outputs * ANSWER + self.state_bytes * _STATES

    def arrays(self, request: InferRequest) -> list[np.ndarray]:
        """The arrays of a request in the order of the inputs. Unknown inputs and outputs are refused."""
        found = tensors.ordered(self.name, self.inputs, request.inputs, request.is_finite or self.options.allow_nan)
        if request.outputs is not None:
            for output in request.outputs:
                if output not in self.output_places:
                    names = ", ".join(map(repr, self.output_places))
                    raise refused(f"model {self.name!r} has no output {output!r:.200}; its outputs are {names}")
        return found

    def response(self, request: InferRequest, found: list[np.ndarray]) -> InferResponse:
        """The answer with the requested outputs, without a stream's state, which follows the outputs."""
        if request.outputs is None:
            outputs = list(zip(self.outputs, found, strict=False))
        else:
            places = [self.output_places[output] for output in request.outputs]
            outputs = [(self.outputs[place], found[place]) for place in places]
        return InferResponse(self.name, self.version, outputs, request.id)

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """The model's metadata, in the protocol's form."""
        return {
            "name": self.name,
            "versions": versions,
            "platform": "nbkeras",
            "inputs": [tensors.metadata_of(spec) for spec in self.inputs],
            "outputs": [tensors.metadata_of(spec) for spec in self.outputs],
        }

    def configuration(self, sequence_idle: float) -> dict[str, Any]:
        """The model's entry in Triton's configuration extension, which load tools and adapters read."""
        batching: dict[str, Any] = {
            "dynamic_batching": {
                "preferred_batch_size": list(self.frozen.batch_sizes),
                "max_queue_delay_microseconds": int(self.options.max_wait_ms * 1000),
            }
        }
        if self.is_stream:
            batching = {"sequence_batching": {"max_sequence_idle_microseconds": int(sequence_idle * 1e6)}}
        return {
            "name": self.name,
            "platform": "nbkeras",
            "backend": "nbkeras",
            "max_batch_size": self.batcher.max_batch,
            "input": [tensors.configuration_of(spec) for spec in self.inputs],
            "output": [tensors.configuration_of(spec) for spec in self.outputs],
            **batching,
        }
