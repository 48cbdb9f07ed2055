"""Floor 3: Keras's `applications.resnet`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import ResNet50 as ResNet50
from nbkeras.applications.stages import ResNet101 as ResNet101
from nbkeras.applications.stages import ResNet152 as ResNet152

preprocess_input = _preparing.for_caffe
