"""nbkeras as Keras 3, set and unset in one place: internal names that released packages override or call."""

import contextlib

from nbkeras.building import graph, layer, module
from nbkeras.compat import additions, settings_file
from nbkeras.compat.keras3 import attention, methods
from nbkeras.layers import embedding, multi_head_attention
from nbkeras.training import functional, model

# Class -> the class with the additional methods and attributes.
ADDED: dict[type, type] = {
    module.Module: methods.Module,
    graph.SymbolicTensor: methods.SymbolicTensor,
    embedding.Embedding: methods.Embedding,
    functional.Functional: methods.Functional,
    layer.Layer: methods.Layer,
    model.Model: methods.Model,
    multi_head_attention.MultiHeadAttention: attention.MultiHeadAttention,
}

_undo: contextlib.ExitStack | None = None  # undoes `install`


def install() -> None:
    """Read keras.json and add the names to nbkeras's classes. Does nothing if that is done."""
    global _undo
    if _undo is None:
        _undo = contextlib.ExitStack()
        settings_file.read(_undo)
        additions.add_members(_undo, ADDED)


def uninstall() -> None:
    """Undo `install`."""
    global _undo
    if _undo is not None:
        _undo.close()
        _undo = None
