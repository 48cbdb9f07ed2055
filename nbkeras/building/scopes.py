"""Floor 2: Keras's scopes: StatelessScope, SymbolicScope, name_scope and RematScope."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from nbkeras.autodiff.custom import checkpoint
from nbkeras.building.layer import context
from nbkeras.engine import naming, stateless, structures, tape, tensor
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, Variable


class StatelessScope:
    """In the block, variables have given values, and assignments change only the block's values.

    Gradients pass through to the given values.

    Args:
        state_mapping: Pairs (variable, value) for variables that have other values in the block; None for none.
        collect_losses: Whether `losses` gets the losses that layers add in the block.
        initialize_variables: Accepted and ignored: a variable always has a value.

    Raises:
        ValueError: for a key that is not a Variable, and for a value of another shape.

    Example:
        >>> v = keras.Variable([1.0, 2.0])
        >>> with keras.StatelessScope([(v, np.array([5.0, 6.0]))]) as scope:
        ...     v.assign_add([1.0, 1.0]).numpy()
        array([6., 7.], dtype=float32)
        >>> scope.get_current_value(v).numpy(), v.numpy()
        (array([6., 7.], dtype=float32), array([1., 2.], dtype=float32))
    """

    def __init__(
        self,
        state_mapping: Iterable[tuple[Variable, Any]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ):
        self.collect_losses, self.initialize_variables = collect_losses, initialize_variables
        self.losses: list[Tensor] = []
        self._given = list(state_mapping or [])
        for variable, _ in self._given:
            if not isinstance(variable, Variable):
                raise ValueError(f"the keys of state_mapping must be Variables, received {briefly(variable)}")
        variables = [variable for variable, _ in self._given]
        values = stateless.values_for("state_mapping", "its keys", variables, [value for _, value in self._given])
        self._values = {id(v): (v, value) for v, value in zip(variables, values, strict=True)}

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        for variable, value in self._values.values():
            self._stack.enter_context(stateless.holding([variable], [value]))
        self._outer = tape.thread.now(rerun=self)
        self._outer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._values = {key: (v, stateless.current(v)) for key, (v, _) in self._values.items()}
        self._outer.__exit__(*error)
        self._stack.close()

    @property
    def values(self) -> Self:
        """The object that ops of this thread ask for the values of variables, by `setdefault`."""
        return self

    def setdefault(self, variable: Variable, present: Tensor) -> Tensor:
        """The value of a variable for an op, which may also write into it if it is a state, such as a moving mean.

        Args:
            variable: The variable.
            present: Its value.
        """
        if variable.declared_trainable or variable.is_quantized:
            return present
        self.changing(variable)
        return Tensor(variable.data, variable.record, variable.index)

    def changing(self, variable: Variable) -> None:
        """Give a variable a value of the block's own; called before the first assignment.

        Args:
            variable: The variable.
        """
        if id(variable) not in self._values:
            present = stateless.current(variable)
            self._stack.enter_context(stateless.holding([variable], [tensor.copied(present)]))
            self._values[id(variable)] = variable, present

    def key(self, draw: Callable[[], Tensor]) -> Tensor:
        """Draw random numbers: the generator's state changes in the block only.

        Args:
            draw: The method of a SeedGenerator.
        """
        self.changing(draw.__self__.state)  # type: ignore[attr-defined]
        return draw()

    def get_current_value(self, variable: Variable) -> Tensor | None:
        """The value in the block, also after its end; None for a variable without a value of its own there.

        Args:
            variable: The variable.
        """
        if id(variable) not in self._values:
            return None
        return stateless.current(variable) if tape.thread.rerun is self else self._values[id(variable)][1]

    def add_update(self, update: tuple[Variable, Any]) -> None:
        """Change a variable's value in the block.

        Args:
            update: (variable, new value).
        """
        variable, value = update
        variable.assign(value)

    def add_loss(self, loss: Tensor) -> bool:
        """Add a loss to `losses`, if they are collected. Returns True: the layer does not keep it.

        Args:
            loss: A tensor.
        """
        if self.collect_losses:
            self.losses.append(loss)
        return True


class SymbolicScope:
    """Marks a block whose code only finds shapes. As in Keras, functions compute there as elsewhere.

    Example:
        >>> with keras.SymbolicScope():
        ...     shape = keras.KerasTensor((None, 3)).shape
        >>> shape
        (None, 3)
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None: ...


class name_scope:  # noqa: N801 (Keras's name)
    """In the block, the paths of new variables and layers begin with a name.

    Args:
        name: A string without '/'.
        caller: An object: a second scope of the same name and caller directly inside the first one does nothing.
        deduplicate: Whether `caller` has this effect.
        override_parent: A path that replaces those of the scopes around this one; None to keep them.

    Raises:
        ValueError: for a name that is not a string, or has a '/'.

    Example:
        >>> with keras.name_scope("encoder"):
        ...     v = keras.Variable(1.0, name="v")
        >>> v.path
        'encoder/v'
    """

    def __init__(self, name: str, caller: Any = None, deduplicate: bool = True, override_parent: str | None = None):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"the name of a name_scope must be a string without '/', received {briefly(name)}")
        self.name, self.caller, self.deduplicate, self.override_parent = name, caller, deduplicate, override_parent

    def __enter__(self) -> Self:
        scopes = naming.scopes
        self._before = scopes.names, scopes.caller
        again = self.deduplicate and self.caller is not None and scopes.caller is self.caller
        if not (again and scopes.names[-1:] == (self.name,)):
            parents = scopes.names if self.override_parent is None else filter(None, self.override_parent.split("/"))
            scopes.names, scopes.caller = (*parents, self.name), self.caller
        return self

    def __exit__(self, *error: Any) -> None:
        naming.scopes.names, naming.scopes.caller = self._before


class RematScope:
    """Layers made in the block compute again in the backward pass what they did not keep: less memory, more time.

    Args:
        mode: 'full': all these layers. 'activations': only the activations of layers that have one. 'larger_than': calls with
            more output numbers than `output_size_threshold`. 'list_of_layers': those that `layer_names` names. None: none, inside
            another scope.
        output_size_threshold: For 'larger_than': a number of elements.
        layer_names: For 'list_of_layers': the layers' names.

    Raises:
        ValueError: for another mode.

    Example:
        >>> with keras.RematScope("larger_than", output_size_threshold=100):
        ...     layer = layers.Dense(64, activation="gelu")
        >>> layer(np.ones((4, 8))).shape
        (4, 64)
    """

    def __init__(
        self, mode: str | None = "full", output_size_threshold: int = 1024, layer_names: Sequence[str] | None = None
    ):
        self.mode = one_of("RematScope", "mode", mode, (*_MODES, None))
        self.output_size_threshold, self.layer_names = output_size_threshold, list(layer_names or [])

    def __enter__(self) -> Self:
        self._before = context.made
        context.made = self._made
        return self

    def __exit__(self, *error: Any) -> None:
        context.made = self._before

    def _made(self, layer: Any) -> None:
        vars(layer)["call"] = _Recomputed(layer, self)

    def call(self, layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a layer that was made in this scope.

        Args:
            layer: The layer.
            call: Its method `call`.
            args: The positional arguments.
            kwargs: The keyword arguments.
        """
        if self.mode == "activations" and getattr(layer, "activation", None) is not None:
            own, activation = vars(layer), layer.activation
            own["activation"] = checkpoint(activation)
            try:
                return call(*args, **kwargs)
            finally:
                own["activation"] = activation
        recomputes = self.mode == "full" or (self.mode == "list_of_layers" and layer.name in self.layer_names)
        if self.mode == "larger_than" and tape.is_recording():
            losses = [(part._losses, list(part._losses)) for part in layer._all_layers()]
            with tensor.shapes_only(), tape.thread.now(tapes=()):
                outputs = structures.flatten(call(*args, **kwargs))
            for kept, before in losses:
                kept[:] = before
            recomputes = sum(math.prod(each.shape) for each in outputs) > self.output_size_threshold
        return (checkpoint(call) if recomputes else call)(*args, **kwargs)


_MODES = ("full", "activations", "larger_than", "list_of_layers")


class _Recomputed:
    """The `call` of a layer that was made in a RematScope."""

    def __init__(self, layer: Any, scope: RematScope):
        self._layer, self._scope = layer, scope
        self.__wrapped__ = type(layer).call.__get__(layer)  # inspect.signature reads it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._scope.call(self._layer, self.__wrapped__, args, kwargs)
