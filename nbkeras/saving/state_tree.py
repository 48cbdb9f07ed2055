"""Floor 3: all values of a model as nested dicts, by the paths of Keras 3's variables: `get_state_tree` and `set_state_tree`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nbkeras.building.module import Module
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable, as_tensor, assign_all
from nbkeras.engine.user_errors import warn

_FORMATS = {"backend_tensor": lambda variable: as_tensor(variable.numpy()), "numpy_array": Variable.numpy}


def tree_of(model: Any, value_format: str) -> dict[str, dict]:
    """The values of a model's variables as nested dicts: `Model.get_state_tree`.

    Args:
        model: The model.
        value_format: 'backend_tensor' or 'numpy_array'.

    Raises:
        ValueError: for another value_format, and for two variables with one path.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="last")], name="small")
        >>> keras.saving.tree_of(model, "numpy_array")["trainable_variables"]["small"]["last"]["bias"]
        array([0.], dtype=float32)
    """
    if value_format not in _FORMATS:
        raise ValueError(
            f"Invalid `value_format` argument. Expected one of {', '.join(map(repr, _FORMATS))}, received {briefly(value_format)}"
        )
    found: dict[str, dict] = {}
    for group, variables in _groups(model):
        found[group] = {}
        for path, variable in variables.items():
            *names, last = path.split("/")
            place = found[group]
            for name in names:
                place = place.setdefault(name, {})
            place[last] = _FORMATS[value_format](variable)
    return found


def write_tree(model: Any, tree: dict[str, Any]) -> None:
    """Write the values of a model's variables, after checking all of them: `Model.set_state_tree`.

    Args:
        model: The model.
        tree: The result of `tree_of`, or a part of it.

    Raises:
        ValueError: for an unknown group of variables, and for a value of another shape.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
        >>> keras.saving.write_tree(model, keras.saving.tree_of(model, "numpy_array"))
    """
    groups, pairs, unknown = dict(_groups(model)), [], []
    for group, values in tree.items():
        if group not in groups:
            raise ValueError(
                f"unknown group of variables {briefly(group)}: expected some of {', '.join(map(repr, groups))}"
            )
        for path, value in _flat(values):
            variable = groups[group].get(path)
            if variable is None:
                unknown.append(f"{group}/{path}")
                continue
            tensor = as_tensor(value, variable.dtype)
            if tensor.shape != variable.shape:
                raise ValueError(
                    f"variable {path!r} has shape {variable.shape}, received a value of shape {tensor.shape}"
                )
            pairs.append((variable, tensor))
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        warn(
            f"the model has no variables {', '.join(unknown[:3])}{more}, so their values are ignored; an optimizer has its "
            "variables after optimizer.build(model.trainable_variables)"
        )
    assign_all(pairs)


def _groups(model: Any) -> Iterator[tuple[str, dict[str, Variable]]]:
    """The variables of each group by path."""
    paths = dict(_paths(model, "", set()))
    for group in ("trainable_variables", "non_trainable_variables"):
        yield group, _by_path((paths.get(variable, variable.path), variable) for variable in getattr(model, group))
    optimizer = getattr(model, "optimizer", None)
    slots = {
        slot: f"{paths.get(variable, variable.path).replace('/', '_')}_{name}"
        for (variable, name), slot in getattr(optimizer, "_slots", {}).items()
    }
    own = [] if optimizer is None else [(f"{optimizer.name}/{slots.get(v, v.name)}", v) for v in optimizer.variables]
    yield "optimizer_variables", _by_path(own)
    metrics = [(f"{metric.name}/{each.name}", each) for metric in model.metrics for each in metric.variables]
    yield "metrics_variables", _by_path(metrics)


def _paths(layer: Module, outer: str, seen: set[Module]) -> Iterator[tuple[Variable, str]]:
    """(variable, path). A path has the names of the layers from the innermost functional model on, as in Keras."""
    if layer in seen:
        return
    seen.add(layer)
    is_functional = getattr(layer, "_graph", None) is not None and not hasattr(layer, "_chain")
    place = "" if is_functional else f"{outer}{layer.name}/"
    for variable in (*layer._own_weights(), *layer._own_states()):
        yield variable, f"{place}{variable.name}"
    for child in layer._sublayers():
        yield from _paths(child, place, seen)


def _by_path(pairs: Iterable[tuple[str, Variable]]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for path, variable in pairs:
        if path in found:
            raise ValueError(
                f"The following variable path is found twice in the model: {path!r}. A state tree needs unique paths: give "
                "layers and metrics different names"
            )
        found[path] = variable
    return found


def _flat(values: dict[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{outer}{name}/")
        else:
            yield f"{outer}{name}", value
