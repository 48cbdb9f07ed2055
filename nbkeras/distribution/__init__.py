"""Training by several processes. Each has a copy of the model and computes its part of every batch: see docs/scaling-out.md."""

from typing import TYPE_CHECKING

from nbkeras.distribution.data_parallel import DataParallel as DataParallel
from nbkeras.distribution.data_parallel import distribution as distribution
from nbkeras.distribution.data_parallel import initialize as initialize
from nbkeras.distribution.data_parallel import set_distribution as set_distribution
from nbkeras.distribution.meshes import DeviceMesh as DeviceMesh
from nbkeras.distribution.meshes import TensorLayout as TensorLayout
from nbkeras.distribution.meshes import get_device_count as get_device_count
from nbkeras.distribution.meshes import list_devices as list_devices
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.ranks import RankError as RankError

if TYPE_CHECKING:  # imported at first use
    from nbkeras.distribution.model_parallel import *

_lazy_names.attach(globals())
