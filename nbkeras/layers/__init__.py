"""Keras's layers by name."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # imported at first use
    from nbkeras.building.host_layer import HostLayer as HostLayer
    from nbkeras.layers.activation import ELU as ELU
    from nbkeras.layers.activation import LeakyReLU as LeakyReLU
    from nbkeras.layers.activation import PReLU as PReLU
    from nbkeras.layers.activation import ReLU as ReLU
    from nbkeras.layers.activation import Softmax as Softmax
    from nbkeras.layers.activation import ThresholdedReLU as ThresholdedReLU
    from nbkeras.layers.adaptive_pooling import AdaptiveAveragePooling1D as AdaptiveAveragePooling1D
    from nbkeras.layers.adaptive_pooling import AdaptiveAveragePooling2D as AdaptiveAveragePooling2D
    from nbkeras.layers.adaptive_pooling import AdaptiveAveragePooling3D as AdaptiveAveragePooling3D
    from nbkeras.layers.adaptive_pooling import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
    from nbkeras.layers.adaptive_pooling import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
    from nbkeras.layers.adaptive_pooling import AdaptiveMaxPooling3D as AdaptiveMaxPooling3D
    from nbkeras.layers.attention import AdditiveAttention as AdditiveAttention
    from nbkeras.layers.attention import Attention as Attention
    from nbkeras.layers.audio import MelSpectrogram as MelSpectrogram
    from nbkeras.layers.audio import STFTSpectrogram as STFTSpectrogram
    from nbkeras.layers.augmenting.choosing import AugMix as AugMix
    from nbkeras.layers.augmenting.choosing import RandAugment as RandAugment
    from nbkeras.layers.augmenting.colors import AutoContrast as AutoContrast
    from nbkeras.layers.augmenting.colors import RandomBrightness as RandomBrightness
    from nbkeras.layers.augmenting.colors import RandomColorDegeneration as RandomColorDegeneration
    from nbkeras.layers.augmenting.colors import RandomColorJitter as RandomColorJitter
    from nbkeras.layers.augmenting.colors import RandomContrast as RandomContrast
    from nbkeras.layers.augmenting.colors import RandomGaussianBlur as RandomGaussianBlur
    from nbkeras.layers.augmenting.colors import RandomGrayscale as RandomGrayscale
    from nbkeras.layers.augmenting.colors import RandomHue as RandomHue
    from nbkeras.layers.augmenting.colors import RandomInvert as RandomInvert
    from nbkeras.layers.augmenting.colors import RandomPosterization as RandomPosterization
    from nbkeras.layers.augmenting.colors import RandomSaturation as RandomSaturation
    from nbkeras.layers.augmenting.colors import RandomSharpness as RandomSharpness
    from nbkeras.layers.augmenting.colors import Solarization as Solarization
    from nbkeras.layers.augmenting.histograms import (
        ContrastLimitedAdaptiveHistogramEqualization as ContrastLimitedAdaptiveHistogramEqualization,
    )
    from nbkeras.layers.augmenting.histograms import Equalization as Equalization
    from nbkeras.layers.augmenting.images import BaseImagePreprocessingLayer as BaseImagePreprocessingLayer
    from nbkeras.layers.augmenting.mixing import CutMix as CutMix
    from nbkeras.layers.augmenting.mixing import MixUp as MixUp
    from nbkeras.layers.augmenting.mixing import RandomErasing as RandomErasing
    from nbkeras.layers.augmenting.moves import RandomElasticTransform as RandomElasticTransform
    from nbkeras.layers.augmenting.moves import RandomFlip as RandomFlip
    from nbkeras.layers.augmenting.moves import RandomPerspective as RandomPerspective
    from nbkeras.layers.augmenting.moves import RandomRotation as RandomRotation
    from nbkeras.layers.augmenting.moves import RandomShear as RandomShear
    from nbkeras.layers.augmenting.moves import RandomTranslation as RandomTranslation
    from nbkeras.layers.augmenting.moves import RandomZoom as RandomZoom
    from nbkeras.layers.augmenting.sizes import CenterCrop as CenterCrop
    from nbkeras.layers.augmenting.sizes import MaxNumBoundingBoxes as MaxNumBoundingBoxes
    from nbkeras.layers.augmenting.sizes import Pipeline as Pipeline
    from nbkeras.layers.augmenting.sizes import RandomCrop as RandomCrop
    from nbkeras.layers.augmenting.sizes import Resizing as Resizing
    from nbkeras.layers.categorical import CategoryEncoding as CategoryEncoding
    from nbkeras.layers.conv_lstm import ConvLSTM1D as ConvLSTM1D
    from nbkeras.layers.conv_lstm import ConvLSTM1DCell as ConvLSTM1DCell
    from nbkeras.layers.conv_lstm import ConvLSTM2D as ConvLSTM2D
    from nbkeras.layers.conv_lstm import ConvLSTM2DCell as ConvLSTM2DCell
    from nbkeras.layers.conv_lstm import ConvLSTM3D as ConvLSTM3D
    from nbkeras.layers.conv_lstm import ConvLSTM3DCell as ConvLSTM3DCell
    from nbkeras.layers.conv_transpose import Conv1DTranspose as Conv1DTranspose
    from nbkeras.layers.conv_transpose import Conv2DTranspose as Conv2DTranspose
    from nbkeras.layers.conv_transpose import Conv3DTranspose as Conv3DTranspose
    from nbkeras.layers.conv_transpose import Convolution1DTranspose as Convolution1DTranspose
    from nbkeras.layers.conv_transpose import Convolution2DTranspose as Convolution2DTranspose
    from nbkeras.layers.conv_transpose import Convolution3DTranspose as Convolution3DTranspose
    from nbkeras.layers.conv_transpose import Deconvolution2D as Deconvolution2D
    from nbkeras.layers.conv_transpose import Deconvolution3D as Deconvolution3D
    from nbkeras.layers.depthwise import DepthwiseConv1D as DepthwiseConv1D
    from nbkeras.layers.depthwise import DepthwiseConv2D as DepthwiseConv2D
    from nbkeras.layers.depthwise import SeparableConv1D as SeparableConv1D
    from nbkeras.layers.depthwise import SeparableConv2D as SeparableConv2D
    from nbkeras.layers.depthwise import SeparableConvolution1D as SeparableConvolution1D
    from nbkeras.layers.depthwise import SeparableConvolution2D as SeparableConvolution2D
    from nbkeras.layers.einsum_dense import EinsumDense as EinsumDense
    from nbkeras.layers.hashing import HashedCrossing as HashedCrossing
    from nbkeras.layers.hashing import Hashing as Hashing
    from nbkeras.layers.locally_connected import LocallyConnected1D as LocallyConnected1D
    from nbkeras.layers.locally_connected import LocallyConnected2D as LocallyConnected2D
    from nbkeras.layers.lookup import IntegerLookup as IntegerLookup
    from nbkeras.layers.multi_head_attention import GroupQueryAttention as GroupQueryAttention
    from nbkeras.layers.multi_head_attention import MultiHeadAttention as MultiHeadAttention
    from nbkeras.layers.numerical import Discretization as Discretization
    from nbkeras.layers.numerical import Normalization as Normalization
    from nbkeras.layers.numerical import Rescaling as Rescaling
    from nbkeras.layers.rnn_wrappers import Bidirectional as Bidirectional
    from nbkeras.layers.rnn_wrappers import TimeDistributed as TimeDistributed
    from nbkeras.layers.string_lookup import StringLookup as StringLookup
    from nbkeras.layers.text_vectorization import TextVectorization as TextVectorization
    from nbkeras.layers.wrapper import SpectralNormalization as SpectralNormalization
    from nbkeras.layers.wrapper import Wrapper as Wrapper

_lazy_names.attach(globals(), _registry)
