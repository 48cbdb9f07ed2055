"""Floor 3: Keras's `applications.densenet`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import DenseNet121 as DenseNet121
from nbkeras.applications.stages import DenseNet169 as DenseNet169
from nbkeras.applications.stages import DenseNet201 as DenseNet201

preprocess_input = _preparing.for_torch
