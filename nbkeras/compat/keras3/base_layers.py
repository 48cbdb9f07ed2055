"""The base classes in Keras 3's internal `keras.src.layers`, by which packages recognize the layers of a kind."""

from nbkeras.layers import conv_transpose, convolutional, depthwise, merging, pooling

BaseConv = convolutional._Conv
BaseConvTranspose = conv_transpose._ConvTranspose
BaseDepthwiseConv = depthwise._DepthwiseConv
BaseGlobalPooling = pooling._GlobalPooling
BasePooling = pooling._Pooling
BaseSeparableConv = depthwise._SeparableConv
Merge = merging.Merge
