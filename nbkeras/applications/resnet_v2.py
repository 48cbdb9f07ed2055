"""Floor 3: Keras's `applications.resnet_v2`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import ResNet50V2 as ResNet50V2
from nbkeras.applications.stages import ResNet101V2 as ResNet101V2
from nbkeras.applications.stages import ResNet152V2 as ResNet152V2

preprocess_input = _preparing.for_tf
