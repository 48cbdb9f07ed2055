"""Floor 3: Feature, one column of a FeatureSpace, and what becomes of its missing values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.building.layer import layers as registry
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.layers import IntegerLookup, StringLookup

Array = np.ndarray
ERROR, MEAN, OOV = "error", "mean", "oov"


class Feature:
    """One feature: its dtype, the layer that preprocesses it, the form of its values afterwards, and its missing values.

    missing: 'error'; 'mean' or a number for floats; 'oov' or an integer for integers; 'oov' for strings.
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str, missing: Any = ERROR):
        self.dtype = dtype
        self.preprocessor = registry.deserialize(preprocessor) if isinstance(preprocessor, Mapping) else preprocessor
        self.output_mode = one_of("FeatureSpace.feature", "output_mode", output_mode, ("int", "one_hot", "float"))
        if not isinstance(self.preprocessor, Layer):
            raise TypeError(f"FeatureSpace.feature: preprocessor must be a layer, received {briefly(preprocessor)}")
        self.missing = self._policy(missing)

    def _policy(self, missing: Any) -> Any:
        is_float = self.dtype.startswith("float")
        known, policy, is_known = (ERROR, MEAN if is_float else OOV), missing, False
        if isinstance(missing, str):
            is_known = missing in known
        elif self.dtype != "string":
            number = option.number_of("FeatureSpace", "missing", missing)
            is_known = math.isfinite(number) and (is_float or number.is_integer())
            policy = number if is_float or not is_known else int(number)
        if not is_known:
            more = {True: ", or a finite number", False: ", or an integer"}[is_float]
            words = "; for a value of your own fill the column, by .fillna" if self.dtype == "string" else more
            raise ValueError(
                f"FeatureSpace: missing of a feature of dtype {self.dtype} must be {' or '.join(map(repr, known))}{words}; "
                f"received {briefly(missing)}"
            )
        if policy == OOV and getattr(self.preprocessor, "num_oov_indices", 1) == 0:
            raise ValueError(
                "FeatureSpace: missing='oov' needs an index for unknown values: pass num_oov_indices=1, received 0"
            )
        return policy

    @property
    def takes(self) -> str:
        """'numbers', 'strings', or 'both'."""
        if self.dtype.startswith("float") or isinstance(self.preprocessor, IntegerLookup):
            return "numbers"
        return "strings" if isinstance(self.preprocessor, StringLookup) else "both"

    @property
    def token(self) -> Any:
        """The value in place of a missing integer or string: an unknown one, or the given integer."""
        if self.missing != OOV:
            return self.missing
        return getattr(self.preprocessor, "oov_token", "" if self.dtype == "string" else -1)

    def filler(self, name: str) -> FillMissing | None:
        """A layer that replaces NaN; None if the feature needs none."""
        if self.missing == ERROR or not self.dtype.startswith("float"):
            return None
        return FillMissing(None if self.missing == MEAN else self.missing, name=f"{name}_missing", dtype=self.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments; the layer as a configuration. Keras knows no `missing`, so the default is left out."""
        written = registry.serialize(self.preprocessor)
        config = {"dtype": self.dtype, "preprocessor": written, "output_mode": self.output_mode}
        return config if self.missing == ERROR else {**config, "missing": self.missing}


class FillMissing(Layer):
    """Numbers with a value in place of NaN. value: a number; None for the mean that `adapt` learns.

    With the mean, it returns a pair: the numbers, and 1 where they were missing, 0 elsewhere.
    """

    value: float | None

    def __init__(self, value: option.MaybeNumber = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape: Any) -> None:
        self.mean = None if self.value is not None else self.add_weight((), "zeros", trainable=False, name="mean")

    def adapt(self, parts: Iterable[Array]) -> list[Array]:
        """Learn the mean of arrays (rows, n); returns what further layers learn from: rows without NaN, or filled ones."""
        if self.mean is None:
            return [np.where(np.isnan(part), np.asarray(self.value, part.dtype), part) for part in parts]
        kept = [part[~np.isnan(part).any(axis=1)] for part in parts]
        kept = [part for part in kept if len(part)]
        count = sum(part.size for part in kept)
        if not count:
            raise ValueError(f"{self.name!r} cannot learn a mean, because all values are missing: give missing=0.0")
        self.mean.assign(sum(part.sum(dtype=np.float64) for part in kept) / count)
        return kept

    def call(self, inputs: Any) -> Any:
        is_missing = ops.isnan(inputs)
        if self.mean is None:
            return ops.where(is_missing, self.value, inputs)
        return ops.where(is_missing, self.mean, inputs), ops.cast(is_missing, self.compute_dtype)
