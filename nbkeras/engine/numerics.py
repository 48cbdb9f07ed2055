"""Floor 1: checks that results are finite, op by op. The error names the first op whose result is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import tape
from nbkeras.engine.gaps import counted
from nbkeras.engine.layer_stack import LayerScope, layer_stack
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels.runtime import device

Array = np.ndarray


class NumericsError(FloatingPointError):
    """A result of an op, or a gradient, has NaN or infinite numbers.

    Args:
        text: The message.
        op: The name of the op.
        layer: The path of the layer that called it, names joined by '/'; '' outside of layers.
        is_backward: Whether it is a gradient.

    Example:
        >>> from nbkeras import debug
        >>> with debug.check_numerics():
        ...     try:
        ...         ops.log(ops.array([1.0, -1.0]))
        ...     except debug.NumericsError as error:
        ...         print(error.op, error.is_backward, error.batch)
        log False None
    """

    batch: int | None = None  # the index of the batch in its epoch

    def __init__(self, text: str, op: str = "", layer: str = "", is_backward: bool = False):
        super().__init__(text)
        self.op, self.layer, self.is_backward = op, layer, is_backward

    def in_batch(self, number: int) -> None:
        """Add the index of the batch to the message. The loop of `fit`, `evaluate` or `predict` calls this.

        Args:
            number: The index of the batch, counted from 0.
        """
        if self.batch is None:
            self.batch = number
            self.args = (f"{self.args[0]} In batch {number}, counted from 0.",)


class Checker:
    """Checks results and gradients. `apply` and the tape call it while checks are on."""

    def __init__(self, infinities: bool):
        self._infinities = infinities

    def outputs(self, op: Callable, tensors: Sequence[Tensor | None], result: Any) -> None:
        """Check the results of an op."""
        for i, each in enumerate(result if isinstance(result, tuple) else (result,)):
            fault = self._fault(each.data)
            if fault is not None:
                what = f"the result of op {op.__name__!r}" if i == 0 else f"result {i} of op {op.__name__!r}"
                raise self._error(what, fault, op.__name__, layer_stack.place(), self._input_summary(tensors))

    def gradients(self, record: tape.Record, incoming: Sequence[Array | None], gradients: Sequence[Any]) -> None:
        """Check the gradients that a vjp returned."""
        for i, gradient in enumerate(gradients):
            array = gradient if isinstance(gradient, device.ARRAYS) else None
            fault = None if array is None else self._fault(array)
            if fault is not None:
                came = [self._fault(dy) for dy in incoming if dy is not None]
                about = (
                    "The gradient of its result is finite." if not any(came) else "So has the gradient of its result."
                )
                what = f"the gradient of input {i} of op {record.name!r}"
                raise self._error(what, fault, record.name, LayerScope(record.layer, True), about)

    def _fault(self, array: Array) -> str | None:
        """A description of the non-finite numbers of an array; None if there are none, or if values cannot be read now."""
        if array.dtype.kind != "f" or device.is_dry() or device.recorder() is not None:
            return None
        if not isinstance(array, device.ARRAYS):  # in autodiff.vmap, its ops on all members are checked instead
            return None
        numbers = device.read(array)
        wrong = ~np.isfinite(numbers) if self._infinities else np.isnan(numbers)
        if not wrong.any():
            return None
        nans = int(np.isnan(numbers).sum())
        first = [int(i) for i in np.argwhere(wrong)[0]]
        return f"{counted(nans, int(wrong.sum()) - nans, numbers.size)}, the first one at {first}"

    def _input_summary(self, tensors: Sequence[Tensor | None]) -> str:
        """A sentence about the inputs of an op: which are not finite, or the range of each."""
        parts, bad = [], []
        for i, each in enumerate(tensors):
            if each is None or each.dtype.kind != "f" or not isinstance(each.data, device.ARRAYS) or not each.size:
                continue
            name = f"input {i}" + (f" (variable {each.path!r})" if isinstance(each, Variable) else "")
            if self._fault(each.data) is not None:
                bad.append(name)
            else:
                numbers = device.read(each.data)
                parts.append(f"{name} from {numbers.min():.3g} to {numbers.max():.3g}")
        if bad:
            return f"Its {', '.join(bad)} had such numbers before."
        return f"Its inputs are finite: {', '.join(parts)}." if parts else "It has no inputs of floats."

    @staticmethod
    def _error(what: str, fault: str, op: str, place: LayerScope, about: str) -> NumericsError:
        where = f" in layer {place.layer!r}" if place.layer else ""
        return NumericsError(f"{what}{where} has {fault}. {about}", op, *place)


def check_numerics(infinities: bool = True) -> Any:
    """`with check_numerics():` raise an error at the first op or gradient that has NaN or infinite numbers; it names the op.

    In the block all steps run op by op, also recorded steps, so they are slower. The error is raised before an optimizer changes
    the weights. It applies to this thread.

    Args:
        infinities: Whether infinite numbers are errors too.

    Returns:
        A context manager.

    Raises:
        NumericsError: in the block.

    Example:
        >>> from nbkeras import debug
        >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="first"), layers.Lambda(ops.log, name="log")])
        >>> model.compile("sgd", "mse")
        >>> with debug.check_numerics():
        ...     try:
        ...         model.fit(-np.ones((4, 2)), np.ones((4, 1)), verbose=0)
        ...     except debug.NumericsError as error:
        ...         print(error.layer in ("log", "sequential/log"), error.batch)
        True 0
    """
    return tape.thread.now(checker=Checker(infinities))
