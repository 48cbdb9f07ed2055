"""The larger commands of the command line; `nbkeras/__main__.py` imports each when it runs."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.commands.benchmark import bench as bench
    from nbkeras.commands.diagnosis import *
    from nbkeras.commands.model_file import *

_lazy_names.attach(globals())
