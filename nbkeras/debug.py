"""Tools for debugging computations: `check_numerics` names the op and the layer where numbers stop being finite."""

from nbkeras.engine.numerics import NumericsError as NumericsError
from nbkeras.engine.numerics import check_numerics as check_numerics
