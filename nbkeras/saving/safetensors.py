"""Floor 3: weights in safetensors files (an optional dependency), named by Keras 3's paths with dots: 'layers.dense.vars.0'.

The format is a JSON header and plain bytes; its reader checks that the arrays are inside the file.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.tensor import assign_all
from nbkeras.engine.user_errors import optional_import, warn
from nbkeras.saving import archive, state

_DTYPES = {"BOOL", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)), "F16", "F32", "F64"}  # of NumPy
_HEADER_LIMIT = 1 << 24  # bytes: an array takes about 100


def library() -> Any:
    """The package safetensors; the ImportError names it."""
    with optional_import("files in .safetensors need the package safetensors", "files"):
        import safetensors.numpy
    return safetensors


def _named(model: Any, values: Callable[[Any], list]) -> dict[str, Any]:
    """The values of a model's layers by name. values: returns the values of one layer."""
    return {
        f"{path}/vars/{number}".strip("/").replace("/", "."): value
        for path, layer in state.walk(model)
        for number, value in enumerate(values(layer))
    }


def write(model: Any, path: str) -> None:
    """Write a model's weights into a file. It appears when it is complete."""
    data = library().numpy.save(_named(model, methodcaller("_stored_arrays")))
    with archive.atomic_file(path) as file:
        file.write(data)


def read(model: Any, path: str, skip_mismatch: bool = False) -> None:
    """Read a file's arrays into a model's weights, after checking all of them."""
    package, values = library(), []
    with open(path, "rb", opener=ordinary_file) as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _HEADER_LIMIT:
        raise ValueError(
            f"{path!r} declares a header of {size} bytes: files with more than {_HEADER_LIMIT} are rejected"
        )
    try:
        with package.safe_open(path, framework="numpy") as file:
            known = set(file.keys())
            for name, variable in _named(model, methodcaller("_stored_weights")).items():
                part = file.get_slice(name) if name in known else None
                shape = None if part is None else tuple(part.get_shape())
                if part is not None and part.get_dtype() not in _DTYPES:
                    raise ValueError(
                        f"weight {briefly(name)} has the dtype {part.get_dtype()} in the file, expected one of {sorted(_DTYPES)}"
                    )
                if shape == variable.shape:
                    values.append((variable, file.get_tensor(name)))
                    continue
                message = (
                    f"weight {briefly(name)} has shape {variable.shape} in the model, {briefly(shape)} in the file"
                )
                if not skip_mismatch:
                    raise ValueError(message)
                warn(f"not loaded: {message}")
    except package.SafetensorError as error:
        raise ValueError(f"{path!r} is not a safetensors file: {error}") from None
    assign_all([*values, *(pair for _, layer in state.walk(model) for pair in layer._reset_by_files())])
