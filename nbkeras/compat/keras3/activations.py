"""Names of Keras 3's internal module `keras.src.activations` in addition to nbkeras.activations's."""

from nbkeras.activations import registry

ALL_OBJECTS_DICT = registry._items
"""The functions that `keras.activations.get` finds, by name. A new entry adds one."""
