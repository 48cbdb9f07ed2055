"""Keras's layers by name."""

from typing import TYPE_CHECKING

from nbkeras.building.inputs import Input as Input
from nbkeras.building.inputs import InputLayer as InputLayer
from nbkeras.building.layer import InputSpec as InputSpec
from nbkeras.building.layer import Layer as Layer
from nbkeras.building.layer import layers as _registry
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.layers.merging import Add as Add
from nbkeras.layers.merging import Average as Average
from nbkeras.layers.merging import Concatenate as Concatenate
from nbkeras.layers.merging import Dot as Dot
from nbkeras.layers.merging import Maximum as Maximum
from nbkeras.layers.merging import Minimum as Minimum
from nbkeras.layers.merging import Multiply as Multiply
from nbkeras.layers.merging import Subtract as Subtract
from nbkeras.layers.merging import add as add
from nbkeras.layers.merging import average as average
from nbkeras.layers.merging import concatenate as concatenate
from nbkeras.layers.merging import dot as dot
from nbkeras.layers.merging import maximum as maximum
from nbkeras.layers.merging import minimum as minimum
from nbkeras.layers.merging import multiply as multiply
from nbkeras.layers.merging import subtract as subtract
from nbkeras.layers.recurrent_cells import GRUCell as GRUCell
from nbkeras.layers.recurrent_cells import LSTMCell as LSTMCell
from nbkeras.layers.recurrent_cells import SimpleRNNCell as SimpleRNNCell
from nbkeras.layers.recurrent_cells import StackedRNNCells as StackedRNNCells

serialize, deserialize = _registry.serialize, _registry.deserialize

if TYPE_CHECKING:  # imported at first use
    from nbkeras.building.host_layer import HostLayer as HostLayer
    from nbkeras.layers.activation import *
    from nbkeras.layers.adaptive_pooling import *
    from nbkeras.layers.attention import *
    from nbkeras.layers.audio import *
    from nbkeras.layers.augmenting.choosing import *
    from nbkeras.layers.augmenting.colors import *
    from nbkeras.layers.augmenting.histograms import *
    from nbkeras.layers.augmenting.images import BaseImagePreprocessingLayer as BaseImagePreprocessingLayer
    from nbkeras.layers.augmenting.mixing import *
    from nbkeras.layers.augmenting.moves import *
    from nbkeras.layers.augmenting.sizes import *
    from nbkeras.layers.categorical import CategoryEncoding as CategoryEncoding
    from nbkeras.layers.conv_lstm import *
    from nbkeras.layers.conv_transpose import *
    from nbkeras.layers.convolutional import *
    from nbkeras.layers.core import *
    from nbkeras.layers.depthwise import *
    from nbkeras.layers.einsum_dense import *
    from nbkeras.layers.embedding import *
    from nbkeras.layers.hashing import *
    from nbkeras.layers.locally_connected import *
    from nbkeras.layers.lookup import IntegerLookup as IntegerLookup
    from nbkeras.layers.multi_head_attention import *
    from nbkeras.layers.normalization import *
    from nbkeras.layers.numerical import *
    from nbkeras.layers.pooling import *
    from nbkeras.layers.recurrent import *
    from nbkeras.layers.regularization import *
    from nbkeras.layers.resizing import *
    from nbkeras.layers.rnn_wrappers import *
    from nbkeras.layers.string_lookup import *
    from nbkeras.layers.text_vectorization import *
    from nbkeras.layers.wrapper import *

_lazy_names.attach(globals(), _registry)
