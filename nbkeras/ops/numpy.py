"""keras.ops.numpy: another name of nbkeras.ops."""

from typing import TYPE_CHECKING

from nbkeras import ops as _ops
from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:
    from nbkeras.ops import *  # noqa: F403

_lazy_names.attach_names_of(globals(), _ops)
