"""keras.ops.numpy: another name of nbkeras.ops."""

from typing import TYPE_CHECKING

from nbkeras import later as _later
from nbkeras import ops as _ops

if TYPE_CHECKING:
    from nbkeras.ops import *  # noqa: F403

_later.attach_names_of(globals(), _ops)
