"""ExportArchive: several functions of a model as a folder of ONNX files or libraries."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from nbkeras.building.layer import Layer
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import print_message
from nbkeras.export.library import export_library
from nbkeras.export.onnx_model import export_onnx
from nbkeras.saving.archive import PreparedFiles

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Endpoint(Layer, registered=False):
    """A function of tensors in the form of a model that is exported."""

    output_names: tuple[str, ...] = ()
    stateful = False

    def __init__(self, name: str, function: Callable, signature: list, tracked: list):
        super().__init__(name=name)
        self._function, self._signature, self._tracked = function, signature, tracked
        self.specs = _leaves(signature)
        self.build_shapes = [tuple(spec.shape) for spec in self.specs]
        names = [getattr(spec, "name", None) or f"input_{number}" for number, spec in enumerate(self.specs)]
        self.argument_names = names if len(set(names)) == len(names) else [f"input_{i}" for i in range(len(names))]
        self.built = True

    def call(self, inputs: Any) -> Any:
        leaves = iter(inputs if isinstance(inputs, list | tuple) else [inputs])
        return self._function(*(_packed(each, leaves) for each in self._signature))

    predict_step = call


def _leaves(signature: Any) -> list:
    """The specs in a structure of lists and dicts, in order."""
    if isinstance(signature, Mapping):
        return [leaf for key in signature for leaf in _leaves(signature[key])]
    if not hasattr(signature, "shape") and isinstance(signature, list | tuple):
        return [leaf for each in signature for leaf in _leaves(each)]
    if getattr(signature, "shape", None) is None:
        raise ValueError(
            "input_signature must be a list with an InputSpec, or a list or dict of them, for each argument, received "
            f"{briefly(signature)}"
        )
    return [signature]


def _packed(signature: Any, leaves: Any) -> Any:
    """The argument that a part of a signature describes."""
    if isinstance(signature, Mapping):
        return {key: _packed(each, leaves) for key, each in signature.items()}
    if not hasattr(signature, "shape"):
        return [_packed(each, leaves) for each in signature]
    return next(leaves)


def _write_values(variables: list, file: Any) -> None:
    np.savez(file, **{variable.path: variable.numpy() for variable in variables})


class ExportArchive:
    """Writes functions of a model, each with a name, as ONNX files or shared libraries in one folder.

    Args:
        format ('onnx' or 'library'): A file `name.onnx` for each function, or a library `libname.so` with a header and a module.

    Raises:
        ValueError: for another format: nbkeras does not write TensorFlow's SavedModels.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,)), layers.Softmax()])
        >>> archive = keras.export.ExportArchive()
        >>> classes = archive.add_endpoint("classes", model.call, [keras.InputSpec(shape=(None, 3), dtype="float32")])
        >>> scores = archive.add_endpoint("scores", model.layers[0], [keras.InputSpec(shape=(None, 3), dtype="float32")])
        >>> archive.write_out("served")
        Saved the endpoints 'classes' and 'scores' in 'served'.
    """

    def __init__(self, format: str = "onnx"):
        if format not in ("onnx", "library"):
            raise ValueError(
                f"format must be 'onnx' or 'library', received {briefly(format)}: nbkeras writes no TensorFlow SavedModel. ONNX "
                "Runtime and Triton serve ONNX files, and `nbkeras serve` serves a model's own file"
            )
        self._format = format
        self._tracked: list[Layer] = []
        self._endpoints: dict[str, _Endpoint] = {}
        self._collections: dict[str, list] = {}

    def track(self, resource: Any) -> None:
        """Add a layer or model whose variables are those of the archive. Endpoints track layers and models by themselves.

        Args:
            resource: The layer or model.

        Raises:
            ValueError: for anything else.
        """
        if not isinstance(resource, Layer):
            raise ValueError(f"ExportArchive.track takes a layer or a model, received {briefly(resource)}")
        if resource not in self._tracked:
            self._tracked.append(resource)

    def add_endpoint(self, name: str, fn: Callable, input_signature: Any = None, **kwargs: Any) -> Callable:
        """Add a function of tensors.

        Args:
            name: The name of the function, which becomes the file's name.
            fn: A function, a method such as `model.call`, or a layer or model.
            input_signature: A list with an InputSpec, or a list or dict of them, for each argument; None for a model that knows
                its inputs.
            **kwargs: Accepted and ignored: options of Keras for JAX.

        Returns:
            The function.

        Raises:
            ValueError: for a name that is taken or is no identifier, and without a signature.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in self._endpoints:
            raise ValueError(
                f"the name of an endpoint must be an identifier that is not taken, received {briefly(name)}, taken: "
                f"{list(self._endpoints)}"
            )
        if input_signature is None and getattr(fn, "inputs", None):
            input_signature = [fn.inputs if len(fn.inputs) > 1 else fn.inputs[0]]  # type: ignore[attr-defined]
        if input_signature is None:
            raise ValueError(
                f"endpoint {name!r} needs input_signature, as in input_signature=[InputSpec(shape=(None, 3), dtype='float32')]"
            )
        for owner in (fn, getattr(fn, "__self__", None)):
            if isinstance(owner, Layer):
                self.track(owner)
        signature = list(input_signature) if isinstance(input_signature, list | tuple) else [input_signature]
        self._endpoints[name] = _Endpoint(name, fn, signature, self._tracked)
        return fn

    def track_and_add_endpoint(self, name: str, resource: Any, input_signature: Any = None, **kwargs: Any) -> Callable:
        """Track a layer or model and add its call as a function.

        Args:
            name: The name of the function.
            resource: The layer or model.
            input_signature: As in `add_endpoint`.
            **kwargs: Accepted and ignored.

        Returns:
            The layer or model.
        """
        self.track(resource)
        return self.add_endpoint(name, resource, input_signature)

    def add_variable_collection(self, name: str, variables: Iterable[Any]) -> None:
        """Add variables whose values are written into a file `name.npz`, by their paths.

        Args:
            name: The name of the file.
            variables: The variables.

        Raises:
            ValueError: for a name that is no identifier.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"the name of a collection must be an identifier, received {briefly(name)}")
        self._collections[name] = list(variables)

    @property
    def variables(self) -> list:
        """The variables of the tracked layers and models."""
        return self._collected("variables")

    @property
    def trainable_variables(self) -> list:
        """Those that training changes."""
        return self._collected("trainable_variables")

    @property
    def non_trainable_variables(self) -> list:
        """The others."""
        return self._collected("non_trainable_variables")

    def _collected(self, kind: str) -> list:
        return list({id(each): each for layer in self._tracked for each in getattr(layer, kind)}.values())

    def write_out(self, filepath: Any, options: Mapping[str, Any] | None = None, verbose: bool = True) -> None:
        """Write all functions into a folder, which is made if it does not exist.

        Args:
            filepath: The folder.
            options: Options of `export_library` for format 'library', such as {"batch": [1, 32]}.
            verbose: False prints nothing.

        Raises:
            ValueError: without endpoints, for options of ONNX files, and for a function that cannot be written; the message
                names the layer and the op.
        """
        if not self._endpoints:
            raise ValueError(
                "the ExportArchive has no endpoints: call add_endpoint(name, function, input_signature) first"
            )
        if options and self._format == "onnx":
            raise ValueError(f"ONNX files have no options, received {briefly(options)}: these are of format='library'")
        folder = os.fspath(filepath)
        os.makedirs(folder, exist_ok=True)
        for name, endpoint in self._endpoints.items():
            if self._format == "onnx":
                export_onnx(endpoint, os.path.join(folder, f"{name}.onnx"), endpoint.specs, verbose=False)
            else:
                path = os.path.join(folder, f"lib{name}.so")
                export_library(endpoint, path, endpoint.specs, verbose=False, **(options or {}))
        files = PreparedFiles()
        for name, variables in self._collections.items():
            files.add(os.path.join(folder, f"{name}.npz"), functools.partial(_write_values, variables))
        files.write()
        if verbose:
            print_message(f"Saved the endpoints {' and '.join(map(repr, self._endpoints))} in {folder!r}.")
