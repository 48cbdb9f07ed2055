"""Keras's layers by their names."""

from nbkeras.layer import Input as Input
from nbkeras.layer import InputLayer as InputLayer
from nbkeras.layer import InputSpec as InputSpec
from nbkeras.layer import Layer as Layer
from nbkeras.layers.embedding import Embedding as Embedding
from nbkeras.layers.normalization import BatchNormalization as BatchNormalization
from nbkeras.layers.normalization import LayerNormalization as LayerNormalization
from nbkeras.layers.normalization import RMSNormalization as RMSNormalization
from nbkeras.layers.regularization import ActivityRegularization as ActivityRegularization
from nbkeras.layers.regularization import AlphaDropout as AlphaDropout
from nbkeras.layers.regularization import Dropout as Dropout
from nbkeras.layers.regularization import GaussianDropout as GaussianDropout
from nbkeras.layers.regularization import GaussianNoise as GaussianNoise
from nbkeras.layers.regularization import SpatialDropout1D as SpatialDropout1D
from nbkeras.layers.regularization import SpatialDropout2D as SpatialDropout2D
from nbkeras.layers.regularization import SpatialDropout3D as SpatialDropout3D
