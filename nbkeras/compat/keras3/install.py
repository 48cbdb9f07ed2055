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


def install(stack: contextlib.ExitStack) -> None:
    """Read keras.json and add the names to nbkeras's classes, until the stack is closed."""
    settings_file.read(stack)
    additions.add_members(stack, ADDED)
