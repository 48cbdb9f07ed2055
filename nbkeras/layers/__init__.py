"""Keras's layers by their names."""

from nbkeras.layer import Input as Input
from nbkeras.layer import InputLayer as InputLayer
from nbkeras.layer import InputSpec as InputSpec
from nbkeras.layer import Layer as Layer
