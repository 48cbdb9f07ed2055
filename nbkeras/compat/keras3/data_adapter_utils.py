"""Keras 3's internal module `keras.src.trainers.data_adapters.data_adapter_utils`: parts of the data of `fit`."""

from typing import Any

import numpy as np

from nbkeras import tree
from nbkeras.data.arrays import class_weights
from nbkeras.engine.annotations import briefly
from nbkeras.utils import pack_x_y_sample_weight as pack_x_y_sample_weight
from nbkeras.utils import unpack_x_y_sample_weight as unpack_x_y_sample_weight


def list_to_tuple(maybe_list: Any) -> Any:
    """A list as a tuple; anything else unchanged."""
    return tuple(maybe_list) if isinstance(maybe_list, list) else maybe_list


def check_data_cardinality(data: Any) -> None:
    """Raise ValueError if the arrays have different numbers of samples."""
    counts = {each.shape[0] for each in tree.flatten(data) if each is not None}
    if len(counts) > 1:
        raise ValueError(f"all arrays must have the same number of samples, received {sorted(counts)}")


def class_weight_to_sample_weights(y: Any, class_weight: dict[int, float]) -> np.ndarray:
    """The weight of each sample's class; 1 for a class that class_weight does not name."""
    return class_weights(np.asarray(y), class_weight)


def train_validation_split(arrays: Any, validation_split: float) -> tuple[Any, Any]:
    """The first samples of each array, and the last ones: the share validation_split of all."""
    rows = {each.shape[0] for each in tree.flatten(arrays) if each is not None}
    check_data_cardinality(arrays)
    count = rows.pop() if rows else 0
    at = int(np.floor(count * (1.0 - validation_split)))
    if not 0 < at < count:
        raise ValueError(
            f"validation_split={briefly(validation_split)} leaves no samples to train on or to validate with: there are {count}"
        )
    return tuple(
        tree.map_structure(lambda each, part=part: None if each is None else each[part], arrays)
        for part in (slice(None, at), slice(at, None))
    )  # type: ignore[return-value]
