"""Models as scikit-learn estimators; scikit-learn is an optional dependency."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.wrappers.sklearn import *

_lazy_names.attach(globals())
