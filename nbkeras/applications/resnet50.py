"""Floor 3: Keras's `applications.resnet50`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import ResNet50 as ResNet50

preprocess_input = _preparing.for_caffe
