"""Training by several processes. Each has a copy of the model and computes its part of every batch: see docs/scaling-out.md."""

from nbkeras.distribution.data_parallel import DataParallel as DataParallel
from nbkeras.distribution.data_parallel import distribution as distribution
from nbkeras.distribution.data_parallel import get_device_count as get_device_count
from nbkeras.distribution.data_parallel import initialize as initialize
from nbkeras.distribution.data_parallel import list_devices as list_devices
from nbkeras.distribution.data_parallel import set_distribution as set_distribution
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.ranks import RankError as RankError

_lazy_names.attach(globals())
