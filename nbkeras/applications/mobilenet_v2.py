"""Floor 3: Keras's `applications.mobilenet_v2`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.mobile import MobileNetV2 as MobileNetV2

preprocess_input = _preparing.for_tf
