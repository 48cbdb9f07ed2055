"""Floor 3: Keras's `applications.mobilenet`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.mobile import MobileNet as MobileNet

preprocess_input = _preparing.for_tf
