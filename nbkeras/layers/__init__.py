"""Keras's layers by their names."""
# ruff: noqa: F401

from nbkeras.building.inputs import Input as Input
from nbkeras.building.inputs import InputLayer as InputLayer
from nbkeras.building.layer import InputSpec as InputSpec
from nbkeras.building.layer import Layer as Layer
from nbkeras.building.layer import layers as _registry
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.layers.convolutional import Conv1D as Conv1D
from nbkeras.layers.convolutional import Conv2D as Conv2D
from nbkeras.layers.convolutional import Conv3D as Conv3D
from nbkeras.layers.core import Activation as Activation
from nbkeras.layers.core import Dense as Dense
from nbkeras.layers.core import Flatten as Flatten
from nbkeras.layers.core import Identity as Identity
from nbkeras.layers.core import Lambda as Lambda
from nbkeras.layers.core import Masking as Masking
from nbkeras.layers.core import Permute as Permute
from nbkeras.layers.core import RepeatVector as RepeatVector
from nbkeras.layers.core import Reshape as Reshape
from nbkeras.layers.embedding import Embedding as Embedding
from nbkeras.layers.embedding import ReversibleEmbedding as ReversibleEmbedding
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
from nbkeras.layers.normalization import BatchNormalization as BatchNormalization
from nbkeras.layers.normalization import GroupNormalization as GroupNormalization
from nbkeras.layers.normalization import LayerNormalization as LayerNormalization
from nbkeras.layers.normalization import RMSNormalization as RMSNormalization
from nbkeras.layers.normalization import UnitNormalization as UnitNormalization
from nbkeras.layers.pooling import AveragePooling1D as AveragePooling1D
from nbkeras.layers.pooling import AveragePooling2D as AveragePooling2D
from nbkeras.layers.pooling import AveragePooling3D as AveragePooling3D
from nbkeras.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from nbkeras.layers.pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from nbkeras.layers.pooling import GlobalAveragePooling3D as GlobalAveragePooling3D
from nbkeras.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from nbkeras.layers.pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from nbkeras.layers.pooling import GlobalMaxPooling3D as GlobalMaxPooling3D
from nbkeras.layers.pooling import MaxPooling1D as MaxPooling1D
from nbkeras.layers.pooling import MaxPooling2D as MaxPooling2D
from nbkeras.layers.pooling import MaxPooling3D as MaxPooling3D
from nbkeras.layers.recurrent import GRU as GRU
from nbkeras.layers.recurrent import LSTM as LSTM
from nbkeras.layers.recurrent import RNN as RNN
from nbkeras.layers.recurrent import SimpleRNN as SimpleRNN
from nbkeras.layers.recurrent_cells import GRUCell as GRUCell
from nbkeras.layers.recurrent_cells import LSTMCell as LSTMCell
from nbkeras.layers.recurrent_cells import SimpleRNNCell as SimpleRNNCell
from nbkeras.layers.recurrent_cells import StackedRNNCells as StackedRNNCells
from nbkeras.layers.regularization import ActivityRegularization as ActivityRegularization
from nbkeras.layers.regularization import AlphaDropout as AlphaDropout
from nbkeras.layers.regularization import Dropout as Dropout
from nbkeras.layers.regularization import GaussianDropout as GaussianDropout
from nbkeras.layers.regularization import GaussianNoise as GaussianNoise
from nbkeras.layers.regularization import SpatialDropout1D as SpatialDropout1D
from nbkeras.layers.regularization import SpatialDropout2D as SpatialDropout2D
from nbkeras.layers.regularization import SpatialDropout3D as SpatialDropout3D
from nbkeras.layers.resizing import Cropping1D as Cropping1D
from nbkeras.layers.resizing import Cropping2D as Cropping2D
from nbkeras.layers.resizing import Cropping3D as Cropping3D
from nbkeras.layers.resizing import UpSampling1D as UpSampling1D
from nbkeras.layers.resizing import UpSampling2D as UpSampling2D
from nbkeras.layers.resizing import UpSampling3D as UpSampling3D
from nbkeras.layers.resizing import ZeroPadding1D as ZeroPadding1D
from nbkeras.layers.resizing import ZeroPadding2D as ZeroPadding2D
from nbkeras.layers.resizing import ZeroPadding3D as ZeroPadding3D

Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D

serialize, deserialize = _registry.serialize, _registry.deserialize

_LATER = {
    "adaptive_pooling": "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D",
    "activation": "ELU LeakyReLU PReLU ReLU Softmax ThresholdedReLU",
    "conv_lstm": "ConvLSTM1D ConvLSTM1DCell ConvLSTM2D ConvLSTM2DCell ConvLSTM3D ConvLSTM3DCell",
    "conv_transpose": "Conv1DTranspose Conv2DTranspose Conv3DTranspose Convolution1DTranspose Convolution2DTranspose "
    "Convolution3DTranspose Deconvolution2D Deconvolution3D",
    "depthwise": "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D SeparableConvolution1D "
    "SeparableConvolution2D",
    "locally_connected": "LocallyConnected1D LocallyConnected2D",
    "attention": "AdditiveAttention Attention",
    "augmentation": "RandomCrop RandomErasing RandomFlip RandomRotation RandomShear RandomTranslation RandomZoom",
    "categorical": "CategoryEncoding",
    "colors": "AutoContrast RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomGaussianBlur "
    "RandomGrayscale RandomHue RandomInvert RandomPosterization RandomSaturation RandomSharpness Solarization",
    "einsum_dense": "EinsumDense",
    "hashing": "HashedCrossing Hashing",
    "images": "CenterCrop Pipeline Resizing",
    "lookup": "IntegerLookup StringLookup",
    "multi_head_attention": "GroupQueryAttention MultiHeadAttention",
    "numerical": "Discretization Normalization Rescaling",
    "rnn_wrappers": "Bidirectional TimeDistributed",
    "text_vectorization": "TextVectorization",
    "wrapper": "SpectralNormalization Wrapper",
}
_SHOWS = ["nbkeras.building.input_spec", "nbkeras.building.inputs", "nbkeras.building.layer", "nbkeras.engine.registry"]
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER, _SHOWS, _registry)
