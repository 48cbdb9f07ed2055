"""The ops, Keras's `ops`: functions of Tensors, arrays and symbolic tensors.

Each family of ops has a module. Its public names are imported when they are asked for, except those of `shape`: the name of a
module that is imported hides a function of that name.
"""

from typing import TYPE_CHECKING

from nbkeras.engine import dtypes as _dtypes
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.ops.shape import shape as shape

if TYPE_CHECKING:  # imported at first use
    from nbkeras.autodiff.transforms import jvp as jvp
    from nbkeras.ops import image as image
    from nbkeras.ops import linalg as linalg
    from nbkeras.ops import nn as nn
    from nbkeras.ops import numpy as numpy
    from nbkeras.ops.activations import *
    from nbkeras.ops.arrangement import *
    from nbkeras.ops.attention import dot_product_attention as dot_product_attention
    from nbkeras.ops.complex_numbers import *
    from nbkeras.ops.contractions import *
    from nbkeras.ops.control import *
    from nbkeras.ops.convolution import *
    from nbkeras.ops.creation import *
    from nbkeras.ops.ctc import *
    from nbkeras.ops.elementwise import *
    from nbkeras.ops.functions import *
    from nbkeras.ops.indexing import *
    from nbkeras.ops.integers import *
    from nbkeras.ops.linalg import *
    from nbkeras.ops.losses import *
    from nbkeras.ops.metrics import in_top_k as in_top_k
    from nbkeras.ops.normalization import *
    from nbkeras.ops.patches import *
    from nbkeras.ops.pool import *
    from nbkeras.ops.products import *
    from nbkeras.ops.ranges import *
    from nbkeras.ops.recurrent import gru as gru
    from nbkeras.ops.recurrent import lstm as lstm
    from nbkeras.ops.recurrent import simple_rnn as simple_rnn
    from nbkeras.ops.reduce import *
    from nbkeras.ops.resize import enlarge as enlarge
    from nbkeras.ops.scattering import *
    from nbkeras.ops.shape import *
    from nbkeras.ops.signal import *
    from nbkeras.ops.statistics import *

_dtypes.half = _lazy_names.LazyModule("nbkeras.engine.half")
_lazy_names.attach(globals())
