"""Floor 1: GradientTape with TensorFlow's interface: gradients and Jacobians of computations in a block."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.autodiff import walks
from nbkeras.autodiff.nesting import Tape
from nbkeras.engine import structures, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_tensor, gradient, like
from nbkeras.kernels import shape as shape_kernels


class GradientTape:
    """Record computations in a `with` block, to compute gradients afterwards.

    It watches trainable variables, and other tensors after `watch`. For gradients of gradients, nest two tapes: see
    docs/autodiff.md.

    Args:
        persistent: Whether `gradient` may be called several times.
        watch_accessed_variables: Whether trainable variables are watched without `watch`.

    Example:
        >>> w = keras.Variable([1.0, 2.0])
        >>> with keras.GradientTape() as tape:
        ...     loss = ops.sum(w * w)
        >>> tape.gradient(loss, w).numpy()
        array([2., 4.], dtype=float32)
        >>> with keras.GradientTape() as outer:
        ...     with keras.GradientTape() as inner:
        ...         y = ops.sum(w**3)
        ...     slope = inner.gradient(y, w)
        >>> outer.gradient(slope, w).numpy()
        array([ 6., 12.], dtype=float32)
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self._persistent = persistent
        self._watched: set[tape.Record] | None = None if watch_accessed_variables else set()
        self._tape = self._entered = Tape()

    def __enter__(self) -> GradientTape:
        self._entered = self._tape
        self._entered.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._entered.__exit__(*error)

    def watch(self, tensor: Tensor | Sequence[Tensor]) -> None:
        """Watch float tensors that are not variables, so that `gradient` accepts them.

        Args:
            tensor: A tensor, or a structure of tensors.

        Raises:
            TypeError: for a dtype that is not float.

        Example:
            >>> x = ops.convert_to_tensor(3.0)
            >>> with keras.GradientTape() as tape:
            ...     tape.watch(x)
            ...     y = x * x
            >>> tape.gradient(y, x).item()
            6.0
        """
        for each in structures.flatten(tensor):
            _check_is_tensor("watch", each)
            if each.dtype.kind != "f":
                raise TypeError(f"only float tensors can be watched, received dtype {each.dtype}")
            if each.record is None:
                each.record = tape.leaf("watched tensor")
            if self._watched is not None:
                self._watched.add(each.record)

    @contextlib.contextmanager
    def stop_recording(self):
        """`with tape.stop_recording():` results of the block are constants for this tape.

        Example:
            >>> w = keras.Variable(3.0)
            >>> with keras.GradientTape() as tape:
            ...     with tape.stop_recording():
            ...         factor = w * w
            ...     y = factor * w
            >>> tape.gradient(y, w).item()
            9.0
        """
        # other tapes may need second derivatives
        with tape.thread.now(tapes=self._tape.others(), keeps=tape.keeps_calls()):
            yield

    def reset(self) -> None:
        """Drop all records made so far.

        Example:
            >>> w = keras.Variable(3.0)
            >>> with keras.GradientTape() as tape:
            ...     factor = w * w
            ...     tape.reset()
            ...     y = factor * w
            >>> tape.gradient(y, w).item()
            9.0
        """
        before, self._tape = self._tape, Tape()
        if self._watched is not None:
            self._watched = set()
        tape.thread.tapes = tuple(self._tape if each is before else each for each in tape.thread.tapes)

    def gradient(
        self, target: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none"
    ) -> Any:
        """The gradient of the sum of targets with respect to sources.

        Inside the block of another tape, the gradients are also differentiable.

        Args:
            target: A tensor, or a structure of tensors, computed in the block.
            sources: A variable or a tensor, or a structure of them: watched ones, or results of ops in the block.
            output_gradients: Factors of the elements of each target, of its shape; None for ones.
            unconnected_gradients: "none" or "zero": the gradient for sources that the targets do not depend on.

        Returns:
            Tensors in the structure of sources; None for sources that the targets do not depend on.

        Raises:
            TypeError: if a target or source is not a tensor.
            ValueError: for output_gradients of a wrong shape.
            NotImplementedError: if an op has no derivative of that order.

        Example:
            >>> a, b = keras.Variable(2.0), keras.Variable(3.0)
            >>> with keras.GradientTape() as tape:
            ...     y = a * b
            >>> [float(gradient) for gradient in tape.gradient(y, [a, b])]
            [3.0, 2.0]
        """
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(f"unconnected_gradients is 'none' or 'zero', received {briefly(unconnected_gradients)}")
        targets, wanted = structures.flatten(target), structures.flatten(sources)
        for each in (*targets, *wanted):
            _check_is_tensor("gradient", each)
        seeds = None if output_gradients is None else structures.flatten(output_gradients)
        found = self._gradients(targets, wanted, seeds, self._persistent)
        if unconnected_gradients == "zero":
            found = [_zeros(s) if g is None else g for s, g in zip(wanted, found, strict=True)]
        return structures.pack(sources, found)

    def _gradients(self, targets: list, sources: list, seeds: list | None, retain: bool) -> list[Tensor | None]:
        if self._watched is not None:
            sources = [each if self._watches(each) else Tensor(each.data) for each in sources]
        state, record = tape.thread, None
        if state.tapes or state.keeps or state.levels:
            others = self._tape.others()
            # if no outer recording contains a target or seed, the gradients are constants there
            inside = bool(others) and any(_is_of(each, others) for each in (*targets, *(seeds or ())))
            if inside or state.keeps or state.levels:
                self._tape.is_spent = not retain
                with state.now(tapes=others):
                    return walks.pull_back(targets, seeds, sources, self._tape)
            if self._tape in state.tapes:
                known = [(s.record, s.index) for s in sources if s.record is not None]
                record = tape.gradient_record(known) if known else None
        arrays = gradient(targets, sources, seeds, retain=retain, within=self._tape)
        return [None if g is None else like(s, Tensor(g, record)) for s, g in zip(sources, arrays, strict=True)]

    def _watches(self, source: Tensor) -> bool:
        """Whether this tape, which watches only tensors passed to `watch`, records gradients of a source."""
        record, watched = source.record, self._watched
        return record is None or record.vjp is not None or (watched is not None and record in watched)

    def jacobian(
        self,
        target: Tensor,
        sources: Any,
        unconnected_gradients: str = "none",
        parallel_iterations: Any = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivatives of each element of a target with respect to sources. It runs a backward pass for each element.

        Args:
            target: A tensor computed in the block.
            sources: A variable or a tensor, or a structure of them.
            unconnected_gradients: "none" or "zero": the result for sources that the target does not depend on.
            parallel_iterations: Accepted and ignored.
            experimental_use_pfor: Accepted and ignored.

        Returns:
            Tensors of shape (*target.shape, *source.shape) in the structure of sources.

        Example:
            >>> x = keras.Variable([1.0, 2.0])
            >>> with keras.GradientTape() as tape:
            ...     y = x * x
            >>> tape.jacobian(y, x).numpy()
            array([[2., 0.],
                   [0., 4.]], dtype=float32)
        """
        _check_is_tensor("jacobian", target)
        wanted = structures.flatten(sources)
        rows = [self._row(target, wanted, seed) for seed in np.eye(target.size, dtype=target.dtype)]
        found = [
            _joined(each, (*target.shape, *s.shape), 0) for each, s in zip(zip(*rows, strict=True), wanted, strict=True)
        ]
        if unconnected_gradients == "zero":
            shapes = [(*target.shape, *s.shape) for s in wanted]
            found = [_zeros(s, shape) if j is None else j for s, shape, j in zip(wanted, shapes, found, strict=True)]
        return structures.pack(sources, found)

    def batch_jacobian(
        self,
        target: Tensor,
        source: Tensor,
        unconnected_gradients: str = "none",
        parallel_iterations: Any = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivatives of each element of target[i] with respect to source[i], for each i.

        target[i] must not depend on source[j] for other j: all i share a backward pass.

        Args:
            target: A tensor (n, ...) computed in the block.
            source: A tensor (n, ...).
            unconnected_gradients: "none" or "zero": the result if the target does not depend on the source.
            parallel_iterations: Accepted and ignored.
            experimental_use_pfor: Accepted and ignored.

        Returns:
            A tensor of shape (n, *target.shape[1:], *source.shape[1:]).

        Raises:
            ValueError: if target and source have different numbers of rows.

        Example:
            >>> x = ops.convert_to_tensor([[1.0, 2.0], [3.0, 4.0]])
            >>> with keras.GradientTape() as tape:
            ...     tape.watch(x)
            ...     y = ops.sum(x * x, axis=1, keepdims=True)
            >>> tape.batch_jacobian(y, x).numpy()
            array([[[2., 4.]],
            <BLANKLINE>
                   [[6., 8.]]], dtype=float32)
        """
        for each in (target, source):
            _check_is_tensor("batch_jacobian", each)
        if not (target.ndim and source.ndim and target.shape[0] == source.shape[0]):
            raise ValueError(
                "batch_jacobian: target and source must have the same first axis, received shapes "
                f"{target.shape} and {source.shape}"
            )
        rows, width = target.shape[0], math.prod(target.shape[1:])
        shape = (rows, *target.shape[1:], *source.shape[1:])
        seeds = [np.tile(seed, (rows, 1)) for seed in np.eye(width, dtype=target.dtype)]
        found = _joined([self._row(target, [source], seed)[0] for seed in seeds], shape, 1)
        return _zeros(source, shape) if found is None and unconnected_gradients == "zero" else found

    def _row(self, target: Tensor, sources: list, seed: Any) -> list[Tensor | None]:
        return self._gradients([target], sources, [seed.reshape(target.shape)], True)


def _check_is_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: targets and sources are tensors or variables, received {briefly(value)}")


def _is_of(value: Any, recordings: tuple) -> bool:
    """Whether a value was computed in one of these recordings, or is watched."""
    record = value.record if isinstance(value, Tensor) else None
    return record is not None and (record.vjp is None or any(each in record.tapes for each in recordings))


def _zeros(source: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    return as_tensor(np.zeros(source.shape if shape is None else shape, source.dtype))


def _joined(rows: Sequence[Tensor | None], shape: tuple[int, ...], axis: int) -> Tensor | None:
    """Stack the gradients for several seeds and reshape the result."""
    known = [each for each in rows if each is not None]
    if not known:
        return None
    y = apply(shape_kernels.stack, shape_kernels.stack_vjp, known, axis=axis)
    return apply(shape_kernels.reshape, shape_kernels.reshape_vjp, [y], shape=shape)
