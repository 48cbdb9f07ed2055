"""Floor 3: Keras's `applications.xception`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.inception import Xception as Xception

preprocess_input = _preparing.for_tf
