"""nbkeras: Keras's API on a Numba-compiled tape that replays."""

try:
    import nbkeras.kernels  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "nbkeras.kernels":
        raise
    raise ImportError(
        f"nbkeras was imported from its source folder {__path__[0]}, where its compiled part, kernels/, is missing. "
        "To use the installed nbkeras, run Python from another folder or with -P (PYTHONSAFEPATH=1); to work on this "
        "source, install it with `pip install -e .`"
    ) from None

from typing import TYPE_CHECKING

from nbkeras import activations as activations
from nbkeras import callbacks as callbacks
from nbkeras import config as config
from nbkeras import constraints as constraints
from nbkeras import initializers as initializers
from nbkeras import layers as layers
from nbkeras import losses as losses
from nbkeras import metrics as metrics
from nbkeras import models as models
from nbkeras import ops as ops
from nbkeras import optimizers as optimizers
from nbkeras import random as random
from nbkeras import regularizers as regularizers
from nbkeras import utils as utils
from nbkeras.building.graph import SymbolicTensor as _SymbolicTensor
from nbkeras.building.layer import layers as _layer_registry
from nbkeras.compat import spellings as _spellings  # noqa: F401 (accepts older names)
from nbkeras.engine import documentation as _documentation  # noqa: F401 (completes docstrings when they are read)
from nbkeras.engine import dtype_policy as _dtype_policy
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.devices import DeviceError as DeviceError
from nbkeras.engine.devices import device as device
from nbkeras.engine.dtype_policy import DTypePolicy as DTypePolicy
from nbkeras.engine.dtype_policy import FloatDTypePolicy as FloatDTypePolicy
from nbkeras.engine.program import set_threads as set_threads
from nbkeras.engine.settings import VERSION as _VERSION
from nbkeras.engine.tensor import Tensor as Tensor
from nbkeras.engine.tensor import Variable as Variable
from nbkeras.initializers import Initializer as Initializer
from nbkeras.layers import Input as Input
from nbkeras.layers import InputSpec as InputSpec
from nbkeras.layers import Layer as Layer
from nbkeras.losses import Loss as Loss
from nbkeras.metrics import Metric as Metric
from nbkeras.optimizers import Optimizer as Optimizer
from nbkeras.regularizers import Regularizer as Regularizer
from nbkeras.training.model import Model as Model
from nbkeras.training.sequential import Sequential as Sequential

_dtype_policy.quantized = _lazy_names.LazyModule("nbkeras.quantizers.quantization")
__version__ = _VERSION
KerasTensor = _SymbolicTensor
_layer_registry.later(
    lambda: dict.fromkeys(("CustomScaleLayer", "LayerScale", "StochasticDepth"), "nbkeras.applications.scaling")
)


def version() -> str:
    """The version of nbkeras.

    Returns:
        A string, the same as `nbkeras.__version__`.

    Example:
        >>> keras.version() == keras.__version__
        True
    """
    return __version__


if TYPE_CHECKING:  # imported at first use
    from nbkeras import applications as applications
    from nbkeras import autodiff as autodiff
    from nbkeras import backend as backend
    from nbkeras import client as client
    from nbkeras import datasets as datasets
    from nbkeras import debug as debug
    from nbkeras import distillation as distillation
    from nbkeras import distribution as distribution
    from nbkeras import dtype_policies as dtype_policies
    from nbkeras import export as export
    from nbkeras import inference as inference
    from nbkeras import kernels as kernels
    from nbkeras import mixed_precision as mixed_precision
    from nbkeras import preprocessing as preprocessing
    from nbkeras import quantizers as quantizers
    from nbkeras import saving as saving
    from nbkeras import testing as testing
    from nbkeras import tree as tree
    from nbkeras import visualization as visualization
    from nbkeras import wrappers as wrappers
    from nbkeras.autodiff.custom import remat as remat
    from nbkeras.autodiff.gradient_tape import GradientTape as GradientTape
    from nbkeras.building.functions import *
    from nbkeras.building.scopes import *
    from nbkeras.compat.alias import install_as_keras as install_as_keras
    from nbkeras.quantizers import Quantizer as Quantizer
    from nbkeras.training.jit import jit as jit
    from nbkeras.training.profile import profile as profile

_layer_registry.later(lambda: {"Distiller": "nbkeras.distillation.distiller"})  # model files name it
_lazy_names.attach(globals())
