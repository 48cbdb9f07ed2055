"""Floor 3: the arrays of a model under Keras 3's paths: `layers/dense/vars/0`, `layers/lstm/cell/vars/2`, `optimizer/vars/1`.

Children are visited in Keras's order: the `layers` of a functional or sequential model first, then attributes in alphabetical
order (including the `layers` of other models), then attributes with an underscore. Children in lists and dicts are named by
class and number. Layer states that are not weights (counters of random numbers, recurrent states) are beside the weights in
`states`, which Keras ignores.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np

from nbkeras.building.graph import is_input, is_op
from nbkeras.building.layer import layers
from nbkeras.building.module import Module
from nbkeras.engine import step_lock, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import snake_case
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.engine.user_errors import warn
from nbkeras.saving import hdf5

Array = np.ndarray


def _is_listed(layer: Any) -> bool:
    """Whether a model's `layers` is its own list of parts (a functional model or a Sequential)."""
    return getattr(layer, "_graph", None) is not None or hasattr(layer, "_chain")


def _children(layer: Module) -> Iterator[tuple[str, Any]]:
    known = layer._without_parts
    if _is_listed(layer):
        yield "layers", [child for child in layer.layers if not is_op(child)]  # type: ignore[attr-defined]
        known = known | {"_graph", "_chain", "_input"}
    children = {
        _public_name(layer, name, value): value
        for name, value in vars(layer).items()
        if name not in known and structures.find(Module, value)
    }
    if isinstance(getattr(type(layer), "layers", None), property) and not _is_listed(layer):
        children["layers"] = layer.layers  # type: ignore[attr-defined]  # a property of every model, sorted among the attributes
    for name in sorted(children, key=lambda name: (name.startswith("_"), name)):
        yield name, children[name]


def _public_name(layer: Module, name: str, value: Any) -> str:
    """An attribute's name, or the name of the property that returns it. Keras visits both, the property first."""
    public = name.lstrip("_")
    has_property = isinstance(getattr(type(layer), public, None), property) and getattr(layer, public) is value
    return public if has_property else name


def _numbered(items: list[Module]) -> list[str]:
    """Names for modules by their classes: dense, dense_1, ..."""
    counts: dict[str, int] = {}
    found = []
    for item in items:
        name = snake_case(getattr(item, "class_in_files", layers.public_name(type(item))))
        counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}_{counts[name]}" if counts[name] else name)
    return found


def walk(model: Module, file: Any = None) -> Iterator[tuple[str, Module]]:
    """(path, layer) of a model and all layers in it, each once. Paths use a file's names if its layers have the same names."""
    seen: set[int] = set()

    def visit(path: str, value: Any) -> Iterator[tuple[str, Module]]:
        if isinstance(value, Module):
            if id(value) not in seen:
                seen.add(id(value))
                yield path, value
                for name, child in _children(value):
                    yield from visit(f"{path}/{name}" if path else name, child)
            return
        values = list(value.values() if isinstance(value, dict) else value)
        items = [item for item in values if isinstance(item, Module)]
        for name, item in zip(_names_in(file, path, items) or _numbered(items), items, strict=True):
            yield from visit(f"{path}/{name}", item)
        inner = [item for item in values if isinstance(item, list | tuple | dict)]
        for number, nested in enumerate(inner):
            yield from visit(f"{path}/container_{number}" if number else f"{path}/container", nested)

    yield from visit("", model)


def _names_in(file: Any, path: str, items: list[Module]) -> list[str] | None:
    """The file's groups whose stored names are the layers' names; None if one is missing."""
    parent = hdf5.subgroup(file, path) if file is not None else None
    by_name: dict[str | None, str] = {}
    for key in hdf5.names(parent):
        group = hdf5.subgroup(parent, f"{key}/vars")
        by_name[hdf5.read_text(group, "name") if group is not None else None] = key
    found = [by_name.get(item.name) for item in items if not is_input(item)]
    if None in found or len(set(found)) != len(found):
        return None
    return [str(by_name.get(item.name, item.name)) for item in items]


# -------------------- writing --------------------


def write(file: Any, model: Module, optimizer: Any = None, bfloat16: bool = False) -> None:
    """Write the arrays of a model and its optimizer into an HDF5 file. bfloat16: weights in half of their bytes."""
    for path, layer in walk(model):
        group = file.create_group(f"{path}/vars" if path else "vars")
        group.attrs["name"] = layer.name
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        for key, value in store.items():
            hdf5.write_array(group, key, np.asarray(value), bfloat16)
        _write_list(file, f"{path}/states", layer._states)
    if optimizer is not None:
        _write_list(file, "optimizer", optimizer.variables)
        file["optimizer/vars"].attrs["name"] = optimizer.name


def _write_list(file: Any, path: str, variables: list[Variable]) -> None:
    for number, variable in enumerate(variables):
        file[f"{path}/vars/{number}"] = variable.numpy()


# -------------------- reading --------------------


class _Store(MutableMapping):
    """A layer's arrays in a file by name, read on access: the argument of `load_own_variables`."""

    def __init__(self, group: Any):
        self._group = group

    def __getitem__(self, name: str) -> Array:
        if hdf5.array_shape(self._group, name) is None:
            raise KeyError(name)
        return hdf5.read_array(self._group, name)

    def __iter__(self) -> Iterator[str]:
        return iter(hdf5.names(self._group))

    def __len__(self) -> int:
        return len(hdf5.names(self._group))

    def __setitem__(self, name: str, value: Any) -> None:
        raise TypeError("a file that is open for reading cannot be written")

    __delitem__ = __setitem__  # type: ignore[assignment]


def _vars(file: Any, path: str) -> Any:
    """The group of a layer's arrays, or None. Older versions of Keras used other names for some layers."""
    head, _, tail = path.rpartition("/")
    for candidate in (path, f"{head}/_{tail}", path.replace("layers", "_layer_checkpoint_dependencies")):
        found = hdf5.subgroup(file, f"{candidate}/vars")
        if found is not None:
            return found
    return None


def read(file: Any, model: Module, skip_mismatch: bool = False, optimizer: Any = None) -> None:
    """Read a file's arrays into a model's weights (and states, if they fit), after checking all of them.

    optimizer: a built optimizer; its state is read too if the file has it.
    """
    values: list[tuple[Variable, Array]] = []
    hooks = []
    for path, layer in walk(model, file):
        group = _vars(file, path)
        # Keras does not write integers for parts of some layers
        if layer.quantized_channels and _holds_integers(group, layer):
            config = layer.quantization_config or "int8"
            layer.quantize(config=config, type_check=False, beyond_keras=True)  # type: ignore[attr-defined] # of Layer
        own = layer._stored_weights()
        try:
            if type(layer).load_own_variables is not Module.load_own_variables:
                hooks.append((layer, _Store(group)))
            else:
                values += _arrays(group, own, f"layer {briefly(layer.name)} ({briefly(path or 'the model')})")
                values += layer._reset_by_files()
        except ValueError as error:
            if not skip_mismatch:
                raise
            warn(f"not loaded: {error}")
        states = hdf5.subgroup(file, f"{path}/states/vars")
        if states is not None and _fit(states, layer._states):  # a recurrent state may have no batch yet
            values += _arrays(states, layer._states, path)
    stored = hdf5.subgroup(file, "optimizer/vars") if optimizer is not None else None
    if stored is not None and len(stored) == len(optimizer.variables):
        values += _arrays(stored, optimizer.variables, f"optimizer {optimizer.name!r}")
    elif stored is not None:
        _warn_not_loaded(stored, optimizer)
    with step_lock.alone():
        assign_all(values)
        for layer, store in hooks:
            layer.load_own_variables(store)


def _holds_integers(group: Any, layer: Module) -> bool:
    """Whether a group has int8 arrays for weights that are floats in the layer."""
    if layer.quantization_mode is not None or not layer.built or len(hdf5.names(group)) <= len(layer._own_weights()):
        return False
    return hdf5.array_shape(group, "0") is not None and group["0"].dtype == np.int8


def read_optimizer(group: Any, optimizer: Any, variables: list[Variable]) -> None:
    """Read a group's optimizer state into an optimizer for these variables."""
    if len(group) > len(optimizer.variables):  # the saved optimizer was built
        optimizer.build(variables)
    own = optimizer.variables
    product = getattr(optimizer, "_product", None)
    if product is not None and len(group) == len(own) and not _fit(group, own):
        *own, last = own  # Nadam's product of all u; older versions of Keras 3 store it before the slots
        own.insert(len(own) - len(optimizer._slots), last)
    if len(group) != len(own) and len(group):  # as in Keras, the file has only the sums for LoRA in parts of a layer
        return _warn_not_loaded(group, optimizer)
    assign_all(_arrays(group, own, f"optimizer {optimizer.name!r}") if len(group) else [])


def _warn_not_loaded(group: Any, optimizer: Any) -> None:
    counts = f"{len(group)} arrays in the file and {len(optimizer.variables)} in the model's optimizer"
    warn(f"the optimizer's state has {counts}: it is not loaded")


def _fit(group: Any, variables: list[Variable]) -> bool:
    return len(group) == len(variables) and all(
        hdf5.array_shape(group, str(number)) == variable.shape for number, variable in enumerate(variables)
    )


def _arrays(group: Any, variables: list[Variable], what: str) -> list[tuple[Variable, Array]]:
    """Pair variables with the arrays '0', '1', ... of a group."""
    count = len(hdf5.names(group))
    if count != len(variables):
        raise ValueError(
            f"{what} has {len(variables)} arrays {[v.shape for v in variables]} in the model, "
            f"{count} in the file: they belong to different models"
        )
    try:
        return [(variable, hdf5.read_array(group, str(i), variable.shape)) for i, variable in enumerate(variables)]
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
