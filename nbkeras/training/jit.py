"""Floor 3: `nbkeras.jit`, for functions of arrays; their inference can be frozen and exported as a model's."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

from nbkeras.building.layer import Layer
from nbkeras.engine.observed import reachable
from nbkeras.engine.recorded_function import RecordedFunction
from nbkeras.training.model import Model

if TYPE_CHECKING:
    from nbkeras.inference.session import Frozen


class Jitted(RecordedFunction):
    """A function that `nbkeras.jit` made; see there.

    Args:
        function: The function.
        static_argnames: The names of arguments whose values choose the program.
    """

    def frozen(self, *input_signature: Any, batch_sizes: int | Sequence[int] = (1, 32)) -> Frozen:
        """The function with the present values of its variables, without Python; see `Model.frozen`.

        For a model with its pre- and postprocessing. The first axis of arguments and results is the batch.

        Args:
            *input_signature: The shape of each argument: a tuple, whose floats are float32, an InputSpec, an Input or an
                array; the first size is ignored.
            batch_sizes: The batch sizes to record programs for.

        Returns:
            A `nbkeras.inference.Frozen`, which takes arrays in the order of the arguments.

        Raises:
            ValueError: for a function that needs Python, and for results without a row for each sample.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
            >>> rescaled = keras.jit(lambda pixels: model(pixels / 255.0))
            >>> frozen = rescaled.frozen((None, 2), batch_sizes=4)
            >>> frozen(np.array([[255.0, 0.0]]))
            array([[1.]], dtype=float32)
        """
        return self._as_model(input_signature).frozen(batch_sizes, list(input_signature))

    def export(self, filepath: Any, *input_signature: Any, format: str | None = None, **options: Any) -> None:
        """Write the function with its variables as an ONNX file or a shared library; see `Model.export`.

        Args:
            filepath: The name of the file.
            *input_signature: The shape of each argument, as for `frozen`.
            format: 'onnx' or 'library'; None for a library if the name ends in .so or .wasm, else ONNX.
            **options: `verbose`, and the options of a library.

        Raises:
            ValueError: for a function that cannot be written in this format.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
            >>> keras.jit(lambda x: ops.argmax(model(x / 255.0), axis=-1)).export("classes.onnx", (None, 2))
            Saved the ONNX model at 'classes.onnx'.
        """
        self._as_model(input_signature).export(filepath, format, input_signature=list(input_signature), **options)

    def _as_model(self, input_signature: tuple) -> _FunctionModel:
        names = [] if self.__signature__ is None else list(inspect.signature(self.function).parameters)
        if not input_signature:
            raise ValueError(f"{self.__name__!r} needs the shape of each argument: f.frozen((None, 3), (None, 5))")
        return _FunctionModel(self, input_signature, names)


class _FunctionModel(Model, registered=False):
    """A model that calls a jitted function. names: of the function's arguments."""

    def __init__(self, jitted: Jitted, input_signature: tuple, names: list[str]):
        super().__init__(name=re.sub(r"\W+", "_", jitted.__name__).strip("_") or "function")
        self._function, count = jitted.function, len(input_signature)
        self._parts = [each for each in reachable(jitted.function) if isinstance(each, Layer)]
        self.argument_names = names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]
        shapes = [tuple(getattr(each, "shape", each)) for each in input_signature]
        self.build_shapes, self.built = shapes[0] if len(shapes) == 1 else shapes, True

    def call(self, inputs: Any) -> Any:
        return self._function(*inputs) if isinstance(inputs, list | tuple) else self._function(inputs)


@overload
def jit(function: None = None, *, static_argnames: str | Iterable[str] = ()) -> Callable[[Callable], Jitted]: ...
@overload
def jit(function: Callable, *, static_argnames: str | Iterable[str] = ()) -> Jitted: ...
def jit(function: Callable | None = None, *, static_argnames: str | Iterable[str] = ()) -> Any:
    """Record a function at its first call, and replay it from then on: later calls run no Python and are one native call.

    It is for loops of your own: a training step with a GradientTape and an optimizer, a simulation, a search. The function may
    read and write Variables, models, optimizers, metrics and random seeds, use tapes and `nbkeras.autodiff`, and call other
    jitted functions. It takes and returns arrays, tensors, numbers, and nested lists, tuples and dicts of them. A program is
    recorded for each combination of shapes and dtypes. Booleans, strings, None, Variables and other objects choose the program
    too, as `static_argnames` do. Numbers do not: they are values, as arrays are.

    Python code runs only while a program is recorded: `print` shows tensors without values; attributes of your own objects,
    globals and closures are constants, also arrays, which must not be written; losses of `add_loss` exist only inside. nbkeras's
    layers, losses, metrics and optimizers may change: then the function is recorded again.

    If the function changes a list, a set or a number of the Python code around it, or draws from `random` or `numpy.random`,
    replays do not repeat it: one warning says so.

    A function that reads a tensor's value (`if loss > 1:`, `float(loss)`) cannot be recorded: it runs eagerly, and one warning
    names the line. Inside a recorded step, under a tape or in `vmap`, the function is called as it is, so gradients pass
    through it.

    Args:
        function: A function, a method or another callable; None to use `jit(static_argnames=...)` as a decorator.
        static_argnames: The names of arguments whose values choose the program, such as a number of layers: hashable values.

    Returns:
        A `Jitted`, which is called as the function is. `programs()` lists its programs, `clear()` drops them.

    Raises:
        TypeError: for a function that cannot be called, and for a static argument that is not hashable.
        ValueError: for a name in static_argnames that the function does not have.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        >>> optimizer = keras.optimizers.SGD(0.5)
        >>> @keras.jit
        ... def step(x, y):
        ...     with keras.GradientTape() as tape:
        ...         loss = ops.mean(ops.square(model(x) - y))
        ...     optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        ...     return loss
        >>> x = np.ones((4, 1), "float32")
        >>> [round(float(step(x, 2 * x)), 3) for _ in range(3)]
        [4.0, 0.0, 0.0]
    """
    if function is None:
        return functools.partial(Jitted, static_argnames=static_argnames)
    return Jitted(function, static_argnames)
