"""FeatureSpace: the columns of a table as numbers for a model; imported at first use."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.features.feature_space import FeatureSpace as FeatureSpace

_lazy_names.attach(globals())
